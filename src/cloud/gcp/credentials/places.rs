//! Where credentials are looked for.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::file::File;
use super::{Context, Source, denied, trimmed};
use crate::cloud::gcp::metadata::Server;
use crate::error::Result;
use crate::secret::Secret;

/// The JSON itself; what a pipeline's secret variable holds.
const DATA: &str = "GOOGLE_APPLICATION_CREDENTIALS_DATA";
/// A ready access token, as for gcloud.
const TOKEN: &str = "CLOUDSDK_AUTH_ACCESS_TOKEN";
/// Paths of files, the first one wins.
const FILES: [&str; 2] = [
    "GOOGLE_APPLICATION_CREDENTIALS",
    "CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE",
];
/// gcloud's folder.
const GCLOUD: &str = "CLOUDSDK_CONFIG";
/// What `gcloud auth application-default login` leaves in it.
const WELL_KNOWN: &str = "application_default_credentials.json";

/// Whom a token that a key signs itself is meant for.
pub(super) const COMPUTE_AUDIENCE: &str = "https://compute.googleapis.com/";

/// The first place where something is.
pub(super) async fn find(context: Context<'_>) -> Result<Source> {
    let host = context.host;
    if let Some(text) = trimmed(host, DATA) {
        return found(DATA, Source::File(File::read(&decoded(text), DATA)?));
    }
    if let Some(token) = trimmed(host, TOKEN) {
        return found(TOKEN, Source::Ready(Secret::new(token)));
    }
    for name in FILES {
        if let Some(path) = host.env(name) {
            return found(name, Source::File(open(Path::new(path), name).await?));
        }
    }
    if let Some(path) = well_known(context)
        && tokio::fs::try_exists(&path).await.unwrap_or(false)
    {
        let name = path.display().to_string();
        return found(&name, Source::File(open(&path, &name).await?));
    }
    let server = Server::new(host.clone(), context.http.clone())?;
    if server.is_there().await {
        return found("this machine's service account", Source::Machine(server));
    }
    Err(denied("no Google Cloud credentials were found").hint(
        "set GOOGLE_APPLICATION_CREDENTIALS_DATA to the JSON of a service account's key or of \
         workload identity federation, or GOOGLE_APPLICATION_CREDENTIALS to its file's path; or \
         CLOUDSDK_AUTH_ACCESS_TOKEN; or sign in: gcloud auth application-default login; or run on \
         a Google Cloud machine that has a service account",
    ))
}

fn found(place: &str, source: Source) -> Result<Source> {
    tracing::debug!("Google Cloud credentials come from {place}");
    Ok(source)
}

/// Some keep the JSON in Base64, because it has several lines.
fn decoded(text: &str) -> Secret {
    let plain = (!text.starts_with('{'))
        .then(|| text.split_whitespace().collect::<String>())
        .and_then(|text| BASE64_STANDARD.decode(text).ok())
        .and_then(|bytes| String::from_utf8(bytes).ok());
    Secret::new(plain.unwrap_or_else(|| text.to_owned()))
}

async fn open(path: &Path, name: &str) -> Result<File> {
    let text = tokio::fs::read_to_string(path).await.map_err(|error| {
        denied(format!("reading the credentials in {}", path.display())).caused_by(error)
    })?;
    File::read(&Secret::new(text), name)
}

/// <https://cloud.google.com/docs/authentication/application-default-credentials#personal>
fn well_known(context: Context<'_>) -> Option<PathBuf> {
    let folder = match context.host.env(GCLOUD) {
        Some(folder) => PathBuf::from(folder),
        None => context.host.home()?.join(".config/gcloud"),
    };
    Some(folder.join(WELL_KNOWN))
}
