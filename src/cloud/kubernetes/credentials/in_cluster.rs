//! What every pod with a service account is given.
//! <https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/#directly-accessing-the-rest-api>

use kube::config::Config;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::error::{Error, Kind, Result};
use crate::host::Host;

const FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The cluster that we are in; `None`: this is no pod, or one without a service account.
pub(super) fn config(host: &Host) -> Result<Option<Config>> {
    let address = host
        .env("KUBERNETES_SERVICE_HOST")
        .zip(host.env("KUBERNETES_SERVICE_PORT"));
    let folder = host.path(FOLDER);
    let token = folder.join("token");
    let Some((name, port)) = address.filter(|_| token.exists()) else {
        return Ok(None);
    };
    // IPv6 addresses are written in brackets.
    let name = match name.contains(':') {
        true => format!("[{name}]"),
        false => name.to_owned(),
    };
    let doing = "reading this pod's service account";
    let wrong = |error: &dyn std::fmt::Display| {
        Error::new(Kind::Denied, doing).caused_by(error.to_string())
    };
    let url = format!("https://{name}:{port}");
    let mut config = Config::new(url.parse().map_err(|error| wrong(&error))?);
    let authority = folder.join("ca.crt");
    let authority = std::fs::read(&authority)
        .map_err(|error| wrong(&format!("{}: {error}", authority.display())))?;
    let certificates: Vec<Vec<u8>> = CertificateDer::pem_slice_iter(&authority)
        .map(|certificate| certificate.map(|certificate| certificate.to_vec()))
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(&error))?;
    config.root_cert = Some(certificates);
    if let Ok(namespace) = std::fs::read_to_string(folder.join("namespace")) {
        config.default_namespace = namespace.trim().to_owned();
    }
    // Read anew every minute: the kubelet renews it.
    config.auth_info.token_file = Some(token.display().to_string());
    Ok(Some(config))
}
