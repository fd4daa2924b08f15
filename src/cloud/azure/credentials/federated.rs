//! A token of somebody whom the application trusts: a pipeline's, or a Kubernetes cluster's.
//! <https://learn.microsoft.com/en-us/entra/workload-id/workload-identity-federation>

use super::{Application, denied};
use crate::error::Result;
use crate::host::Host;
use crate::secret::Secret;

/// The file that holds the token. <https://azure.github.io/azure-workload-identity/docs/installation/mutating-admission-webhook.html>
const FILE: &str = "AZURE_FEDERATED_TOKEN_FILE";

/// The token itself, as GitLab's `id_tokens` give it. <https://docs.gitlab.com/ci/secrets/id_token_authentication/>
const TOKEN: &str = "AZURE_FEDERATED_TOKEN";

/// The application and the token; read anew each time, for files are replaced.
pub(super) fn assertion(host: &Host) -> Result<Option<(Application, Secret)>> {
    let (variable, token) = match (host.env(TOKEN), host.env(FILE)) {
        (Some(token), _) => (TOKEN, token.trim().to_owned()),
        (None, Some(file)) => {
            let doing = || denied(format!("reading {FILE}, which is {file}"));
            let text = std::fs::read_to_string(file).map_err(|error| doing().caused_by(error))?;
            let token = text.trim().to_owned();
            if token.is_empty() {
                return Err(doing().caused_by("it is empty"));
            }
            (FILE, token)
        }
        (None, None) => return Ok(None),
    };
    let application = Application::named(host, variable)?;
    Ok(Some((application, Secret::new(token))))
}
