//! Keys that a program of the user's prints.
//! <https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html>

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::{Context, Keys, Written, denied};
use crate::cache::Expiring;
use crate::error::Result;

/// Programs may ask an identity provider, but nobody is there to type.
const LIMIT: Duration = Duration::from_secs(60);

pub(super) async fn keys(
    context: Context<'_>,
    command: &str,
    profile: &str,
) -> Result<Expiring<Keys>> {
    let doing = || {
        denied(format!(
            "running the credential_process of the profile {profile}"
        ))
    };
    let words = shlex::split(command)
        .filter(|words| !words.is_empty())
        .ok_or_else(|| doing().caused_by("its quotes don't match"))?;
    let output = Command::new(&words[0])
        .args(&words[1..])
        .env_clear()
        .envs(context.host.vars())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(LIMIT, output)
        .await
        .map_err(|_| doing().caused_by("it took longer than a minute"))?
        .map_err(|error| doing().caused_by(error))?;
    if !output.status.success() {
        // Not its words: they may hold what it knows.
        return Err(doing().caused_by(format!("it ended with {}", output.status)));
    }
    let written: Written =
        serde_json::from_slice(&output.stdout).map_err(|error| doing().caused_by(error))?;
    Ok(written.into())
}
