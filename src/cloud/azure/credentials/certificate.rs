//! A certificate of the application's, with its private key.
//! <https://learn.microsoft.com/en-us/entra/identity-platform/certificate-credentials>

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use jiff::SignedDuration;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{KeyPair, RSA_PSS_SHA256, RsaKeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::Serialize;

use super::{Application, denied};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::secret::Secret;

/// The file. <https://learn.microsoft.com/en-us/dotnet/api/azure.identity.environmentcredential>
const FILE: &str = "AZURE_CLIENT_CERTIFICATE_PATH";
const PASSWORD: &str = "AZURE_CLIENT_CERTIFICATE_PASSWORD";

/// Whether the certificates travel along, for applications that trust an issuer and a name.
const SEND_CHAIN: &str = "AZURE_CLIENT_SEND_CERTIFICATE_CHAIN";

/// Entra recommends five to ten minutes.
const LIFE: SignedDuration = SignedDuration::from_mins(10);

/// A key and its certificates, the key's own first.
pub(super) struct Certificate {
    key: RsaKeyPair,
    chain: Vec<CertificateDer<'static>>,
    sends_chain: bool,
}

#[derive(Serialize)]
struct Header {
    alg: &'static str,
    typ: &'static str,
    #[serde(rename = "x5t#S256")]
    thumbprint: String,
    #[serde(rename = "x5c", skip_serializing_if = "Vec::is_empty")]
    chain: Vec<String>,
}

#[derive(Serialize)]
struct Claims<'a> {
    aud: &'a str,
    iss: &'a str,
    sub: &'a str,
    jti: String,
    nbf: i64,
    iat: i64,
    exp: i64,
}

impl Certificate {
    pub(super) fn given(host: &Host) -> Result<Option<(Application, Self)>> {
        let Some(file) = host.env(FILE) else {
            return Ok(None);
        };
        let application = Application::named(host, FILE)?;
        let doing = || denied(format!("reading the certificate {file}"));
        let bytes = std::fs::read(file).map_err(|error| doing().caused_by(error))?;
        let sends_chain = host
            .env(SEND_CHAIN)
            .is_some_and(|value| value == "1" || value.eq_ignore_ascii_case("true"));
        let certificate = Self::read(&bytes, sends_chain).map_err(|(problem, hint)| {
            let error = doing().caused_by(problem);
            match hint {
                Some(hint) if host.env(PASSWORD).is_some() => {
                    error.hint(format!("{hint} (no use is made of {PASSWORD})"))
                }
                Some(hint) => error.hint(hint),
                None => error,
            }
        })?;
        Ok(Some((application, certificate)))
    }

    /// Reads PEM. No error of it holds anything of the text.
    fn read(bytes: &[u8], sends_chain: bool) -> Result<Self, (&'static str, Option<&'static str>)> {
        let has = |words: &str| {
            bytes
                .windows(words.len())
                .any(|window| window == words.as_bytes())
        };
        if !has("-----BEGIN ") {
            return Err((
                "it isn't PEM",
                Some("make PEM of PKCS#12 (.pfx): openssl pkcs12 -in x.pfx -out x.pem -nodes"),
            ));
        }
        if has("BEGIN ENCRYPTED PRIVATE KEY") || has("Proc-Type: 4,ENCRYPTED") {
            return Err((
                "its private key is encrypted",
                Some("take the password off it: openssl pkey -in x.pem -out key.pem"),
            ));
        }
        let key = PrivateKeyDer::from_pem_slice(bytes)
            .map_err(|_| ("it holds no private key that can be read", None))?;
        let key = match &key {
            PrivateKeyDer::Pkcs1(key) => RsaKeyPair::from_der(key.secret_pkcs1_der()),
            PrivateKeyDer::Pkcs8(key) => RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()),
            _ => return Err(("its private key isn't an RSA key", None)),
        }
        .map_err(|_| {
            (
                "its private key isn't an RSA key of 2048 bits or more",
                None,
            )
        })?;
        let mut chain: Vec<_> = CertificateDer::pem_slice_iter(bytes)
            .collect::<Result<_, _>>()
            .map_err(|_| ("it holds a certificate that can't be read", None))?;
        if chain.is_empty() {
            return Err((
                "it holds no certificate",
                Some("the file must hold the certificate and its private key"),
            ));
        }
        // A certificate holds its public key just as the key pair writes it.
        let public = key.public_key().as_ref();
        let is_own = |certificate: &CertificateDer<'_>| {
            certificate
                .windows(public.len())
                .any(|window| window == public)
        };
        match chain.iter().position(is_own) {
            Some(at) => chain.swap(0, at),
            None => return Err(("its certificate isn't the private key's", None)),
        }
        Ok(Self {
            key,
            chain,
            sends_chain,
        })
    }

    /// A token that says who we are, signed by the key.
    pub(super) fn assertion(&self, application: &Application, host: &Host) -> Result<Secret> {
        let audience = application.endpoint()?;
        let now = host.now();
        let header = Header {
            alg: "PS256",
            typ: "JWT",
            thumbprint: BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, &self.chain[0])),
            chain: match self.sends_chain {
                true => self
                    .chain
                    .iter()
                    .map(|der| BASE64_STANDARD.encode(der))
                    .collect(),
                false => Vec::new(),
            },
        };
        let claims = Claims {
            aud: audience.as_str(),
            iss: &application.client,
            sub: &application.client,
            jti: crate::uuid::of(&[&host.random_id(32)?]),
            nbf: now.as_second(),
            iat: now.as_second(),
            exp: (now + LIFE).as_second(),
        };
        let signed = format!("{}.{}", part(&header)?, part(&claims)?);
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key
            .sign(
                &RSA_PSS_SHA256,
                &SystemRandom::new(),
                signed.as_bytes(),
                &mut signature,
            )
            .map_err(|_| denied("signing with the certificate's private key"))?;
        let signature = BASE64_URL_SAFE_NO_PAD.encode(signature);
        Ok(Secret::new(format!("{signed}.{signature}")))
    }
}

fn part(value: &impl Serialize) -> Result<String> {
    let json = serde_json::to_vec(value)
        .map_err(|error| Error::other("writing a client assertion").caused_by(error))?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(json))
}
