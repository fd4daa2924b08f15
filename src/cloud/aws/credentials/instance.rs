//! The role of the instance that this program runs on.
//! <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-metadata-security-credentials.html>

use super::{Context, Found, Written, denied};
use crate::cloud::aws::metadata::Imds;

const ROLES: &str = "/latest/meta-data/iam/security-credentials/";

pub(super) async fn keys(context: Context<'_>) -> Found {
    let disabled = context
        .host
        .env("AWS_EC2_METADATA_DISABLED")
        .is_some_and(|value| value.eq_ignore_ascii_case("true"));
    if disabled {
        return Ok(None);
    }
    let imds = Imds::new(context.host.clone(), context.http.clone())?;
    let listed = match imds.get(ROLES).await {
        Ok(listed) => listed,
        Err(error) => {
            // Not an instance: nobody answers at that address.
            tracing::debug!("no instance metadata: {}", error.chain());
            return Ok(None);
        }
    };
    let Some(role) = listed.as_deref().and_then(|text| text.lines().next()) else {
        return Ok(None);
    };
    let doing = || denied(format!("reading the keys of this instance's role {role}"));
    let text = imds
        .get(&format!("{ROLES}{role}"))
        .await
        .map_err(|error| doing().caused_by(error))?
        .ok_or_else(|| doing().caused_by("they aren't there"))?;
    let written: Written = serde_json::from_str(&text).map_err(|error| doing().caused_by(error))?;
    Ok(Some(written.into()))
}
