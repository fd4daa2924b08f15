//! A certificate authority of the cluster's own, as clusters have it.
//! <https://kubernetes.io/docs/setup/best-practices/certificates/>

use std::io;
use std::sync::{Arc, Mutex};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use super::access::User;
use crate::calls::lock;

/// The authority.
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// Whom it has certified: it is the only one to do so, and needn't read its own certificates.
    known: Mutex<Vec<(CertificateDer<'static>, User)>>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// A certificate with its key, in PEM.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) certificate: String,
    pub(super) key: String,
}

impl Authority {
    pub(super) fn new() -> io::Result<Self> {
        let mut params = CertificateParams::new(Vec::new()).map_err(io::Error::other)?;
        params.distinguished_name = name("kubernetes", &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let issuer = CertifiedIssuer::self_signed(params, key).map_err(io::Error::other)?;
        Ok(Authority {
            issuer,
            known: Mutex::default(),
        })
    }

    /// The authority's certificate, in PEM.
    pub(super) fn pem(&self) -> String {
        self.issuer.pem()
    }

    #[cfg(test)]
    pub(super) fn der(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    /// How the API server listens: with a certificate for its names, and asking callers for theirs.
    pub(super) fn server(&self) -> io::Result<ServerConfig> {
        let names = [
            "127.0.0.1",
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
        ];
        let mut params =
            CertificateParams::new(names.map(String::from)).map_err(io::Error::other)?;
        params.distinguished_name = name("kube-apiserver", &[]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let certificate = params
            .signed_by(&key, &self.issuer)
            .map_err(io::Error::other)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots
            .add(self.issuer.der().clone())
            .map_err(io::Error::other)?;
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .allow_unauthenticated()
                .build()
                .map_err(io::Error::other)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate.into()], key)
            .map_err(io::Error::other)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }

    /// Certifies a user: the common name is its name, the organizations are its groups.
    /// <https://kubernetes.io/docs/reference/access-authn-authz/authentication/#x509-client-certificates>
    pub(super) fn certify(&self, user: &User) -> io::Result<Identity> {
        let mut params = CertificateParams::new(Vec::new()).map_err(io::Error::other)?;
        params.distinguished_name = name(&user.name, &user.groups);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let certificate = params
            .signed_by(&key, &self.issuer)
            .map_err(io::Error::other)?;
        lock(&self.known).push((certificate.der().clone(), user.clone()));
        Ok(Identity {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }

    /// Who has shown a certificate that was verified.
    pub(super) fn user(&self, certificate: &CertificateDer<'_>) -> Option<User> {
        lock(&self.known)
            .iter()
            .find(|(known, _)| known == certificate)
            .map(|(_, user)| user.clone())
    }
}

fn name(common: &str, organizations: &[String]) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    // rcgen keeps one value of a type.
    if let Some(organization) = organizations.first() {
        name.push(DnType::OrganizationName, organization.as_str());
    }
    name.push(DnType::CommonName, common);
    name
}
