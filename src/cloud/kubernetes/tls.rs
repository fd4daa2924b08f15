//! The kubeconfig's authorities and client certificate.
//!
//! `kube` could do this, but not without the web's authorities where the kubeconfig names none, and
//! with all that its authentication plugins bring along.

use std::fmt::Display;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use kube::config::{AuthInfo, Config};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use secrecy::ExposeSecret as _;

use crate::error::{Error, Result};
use crate::http;

/// The TLS of a cluster. Where the kubeconfig names no authority, the web's and the system's are
/// trusted, as for everything else.
pub(super) fn config(config: &Config) -> Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong("setting up TLS", &error))?;
    let builder = match &config.root_cert {
        _ if config.accept_invalid_certs => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(provider))),
        Some(authorities) => builder.with_root_certificates(roots(authorities)?),
        None => builder.with_root_certificates(http::roots()),
    };
    let mut tls = match identity(&config.auth_info)? {
        Some((certificates, key)) => builder
            .with_client_auth_cert(certificates, key)
            .map_err(|error| wrong("reading the client's key", &error))?,
        None => builder.with_no_client_auth(),
    };
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(tls)
}

fn roots(authorities: &[Vec<u8>]) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots
            .add(CertificateDer::from(authority.clone()))
            .map_err(|error| wrong("reading the cluster's authority", &error))?;
    }
    Ok(roots)
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// The certificate and key by which a user is known.
fn identity(user: &AuthInfo) -> Result<Option<Identity>> {
    let data = user.client_certificate_data.as_deref();
    let certificate = content(data, user.client_certificate.as_deref(), "certificate")?;
    let data = user
        .client_key_data
        .as_ref()
        .map(|data| data.expose_secret());
    let key = content(data, user.client_key.as_deref(), "key")?;
    let (Some(certificate), Some(key)) = (certificate, key) else {
        return Ok(None);
    };
    let certificates = CertificateDer::pem_slice_iter(&certificate)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong("reading the client's certificate", &error))?;
    let key = PrivateKeyDer::from_pem_slice(&key)
        .map_err(|error| wrong("reading the client's key", &error))?;
    Ok(Some((certificates, key)))
}

/// What is given itself, in Base64, or by its path.
fn content(data: Option<&str>, path: Option<&str>, what: &str) -> Result<Option<Vec<u8>>> {
    let doing = format!("reading the client's {what}");
    match (data.filter(|data| !data.is_empty()), path) {
        (Some(data), _) => {
            let packed: String = data.split_ascii_whitespace().collect();
            let bytes = BASE64_STANDARD.decode(packed);
            bytes.map(Some).map_err(|error| wrong(&doing, &error))
        }
        (None, Some(path)) => {
            let bytes = std::fs::read(path);
            let failed = |error| wrong(&doing, &format!("{path}: {error}"));
            bytes.map(Some).map_err(failed)
        }
        (None, None) => Ok(None),
    }
}

fn wrong(doing: &str, problem: &dyn Display) -> Error {
    Error::other(doing).caused_by(problem.to_string())
}

/// Takes any certificate: what `insecure-skip-tls-verify` asks for.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
