//! An identity provider's token, exchanged for a role: a pipeline needs no key.
//! <https://docs.aws.amazon.com/sdkref/latest/guide/feature-assume-role-credentials.html>

use super::{Context, Found, assume, denied};
use crate::error::Result;
use crate::secret::Secret;

const FILE: &str = "AWS_WEB_IDENTITY_TOKEN_FILE";
const ROLE: &str = "AWS_ROLE_ARN";
const SESSION: &str = "AWS_ROLE_SESSION_NAME";

pub(super) async fn keys(context: Context<'_>) -> Found {
    let host = context.host;
    let Some(file) = host.env(FILE) else {
        return Ok(None);
    };
    let role = host
        .env(ROLE)
        .ok_or_else(|| denied(format!("{FILE} is set, but {ROLE} is not")))?;
    let token = token(file).await?;
    assume::with_web_identity(context, &token, role, host.env(SESSION))
        .await
        .map(Some)
}

/// Reads a token's file, anew each time: providers replace it.
pub(super) async fn token(file: &str) -> Result<Secret> {
    let text = tokio::fs::read_to_string(file).await.map_err(|error| {
        denied(format!("reading the web identity token in {file}")).caused_by(error)
    })?;
    match text.trim() {
        "" => Err(denied(format!(
            "the web identity token file {file} is empty"
        ))),
        token => Ok(Secret::new(token)),
    }
}
