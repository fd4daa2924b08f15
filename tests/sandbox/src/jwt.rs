//! JSON web tokens signed with RSA.

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{
    KeyPair, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_SHA256, RsaEncoding, RsaKeyPair, UnparsedPublicKey, VerificationAlgorithm,
};
use serde_json::{Value, json};

/// A token taken apart, its signature not yet checked.
#[derive(Debug, Clone)]
pub(crate) struct Jwt {
    pub(crate) header: Value,
    pub(crate) claims: Value,
    signed: String,
    signature: Vec<u8>,
}

impl Jwt {
    /// `None`: it isn't one.
    pub(crate) fn read(token: &str) -> Option<Self> {
        let decode = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).ok();
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        Some(Jwt {
            header: serde_json::from_slice(&decode(header)?).ok()?,
            claims: serde_json::from_slice(&decode(claims)?).ok()?,
            signed: signed.into(),
            signature: decode(signature)?,
        })
    }

    pub(crate) fn claim(&self, name: &str) -> Option<&str> {
        self.claims[name].as_str()
    }

    pub(crate) fn time(&self, name: &str) -> Option<i64> {
        self.claims[name].as_i64()
    }

    /// Whether this key signed it, with RS256.
    pub(crate) fn is_signed_by(&self, key: &SigningKey) -> bool {
        self.header["alg"] == "RS256" && self.is_signed_by_either(key)
    }

    /// Whether this key signed it, with RS256 or PS256.
    pub(crate) fn is_signed_by_either(&self, key: &SigningKey) -> bool {
        let algorithm: &'static dyn VerificationAlgorithm = match self.header["alg"].as_str() {
            Some("RS256") => &RSA_PKCS1_2048_8192_SHA256,
            Some("PS256") => &RSA_PSS_2048_8192_SHA256,
            _ => return false,
        };
        UnparsedPublicKey::new(algorithm, &key.public)
            .verify(self.signed.as_bytes(), &self.signature)
            .is_ok()
    }
}

/// A private key with its public half.
#[derive(Debug)]
pub(crate) struct SigningKey {
    pub(crate) id: String,
    pub(crate) pem: &'static str,
    public: Vec<u8>,
}

impl SigningKey {
    /// Takes a private key in PKCS #8. The keys here are this program's own: one that can't be read
    /// signs nothing and checks nothing.
    pub(crate) fn new(id: &str, pem: &'static str) -> Self {
        let public = pair(pem).map(|pair| pair.public_key().as_ref().to_vec());
        SigningKey {
            id: id.into(),
            pem,
            public: public.unwrap_or_default(),
        }
    }

    /// A token with these claims.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        let header = json!({"alg": "RS256", "kid": self.id, "typ": "JWT"});
        self.sign_with(&header, claims)
    }

    /// A token with this header, which names RS256 or PS256.
    pub(crate) fn sign_with(&self, header: &Value, claims: &Value) -> String {
        let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let padding: &'static dyn RsaEncoding = match header["alg"] == "PS256" {
            true => &RSA_PSS_SHA256,
            false => &RSA_PKCS1_SHA256,
        };
        let signed = format!("{}.{}", encode(header), encode(claims));
        let mut signature = Vec::new();
        if let Some(pair) = pair(self.pem) {
            signature.resize(pair.public().modulus_len(), 0);
            let random = SystemRandom::new();
            // It fails without randomness alone; then the token is refused.
            let _ = pair.sign(padding, &random, signed.as_bytes(), &mut signature);
        }
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }
}

fn pair(pem: &str) -> Option<RsaKeyPair> {
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    RsaKeyPair::from_pkcs8(&BASE64_STANDARD.decode(body).ok()?).ok()
}
