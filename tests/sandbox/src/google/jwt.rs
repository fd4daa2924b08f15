//! JSON web tokens signed with RSA.

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{
    KeyPair, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey,
};
use serde_json::{Value, json};

/// A token taken apart, its signature not yet checked.
#[derive(Debug, Clone)]
pub(super) struct Jwt {
    pub(super) header: Value,
    pub(super) claims: Value,
    signed: String,
    signature: Vec<u8>,
}

impl Jwt {
    /// `None`: it isn't one.
    pub(super) fn read(token: &str) -> Option<Self> {
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

    pub(super) fn claim(&self, name: &str) -> Option<&str> {
        self.claims[name].as_str()
    }

    pub(super) fn time(&self, name: &str) -> Option<i64> {
        self.claims[name].as_i64()
    }

    /// Whether this key signed it.
    pub(super) fn is_signed_by(&self, key: &SigningKey) -> bool {
        let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &key.public);
        self.header["alg"] == "RS256"
            && public
                .verify(self.signed.as_bytes(), &self.signature)
                .is_ok()
    }
}

/// A private key with its public half.
#[derive(Debug)]
pub(super) struct SigningKey {
    pub(super) id: String,
    pub(super) pem: &'static str,
    public: Vec<u8>,
}

impl SigningKey {
    /// Takes a private key in PKCS #8. The keys here are this program's own: one that can't be read
    /// signs nothing and checks nothing.
    pub(super) fn new(id: &str, pem: &'static str) -> Self {
        let public = pair(pem).map(|pair| pair.public_key().as_ref().to_vec());
        SigningKey {
            id: id.into(),
            pem,
            public: public.unwrap_or_default(),
        }
    }

    /// A token with these claims.
    pub(super) fn sign(&self, claims: &Value) -> String {
        let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let header = json!({"alg": "RS256", "kid": self.id, "typ": "JWT"});
        let signed = format!("{}.{}", encode(&header), encode(claims));
        let mut signature = Vec::new();
        if let Some(pair) = pair(self.pem) {
            signature.resize(pair.public().modulus_len(), 0);
            let random = SystemRandom::new();
            // It fails without randomness alone; then the token is refused.
            let _ = pair.sign(
                &RSA_PKCS1_SHA256,
                &random,
                signed.as_bytes(),
                &mut signature,
            );
        }
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }
}

fn pair(pem: &str) -> Option<RsaKeyPair> {
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    RsaKeyPair::from_pkcs8(&BASE64_STANDARD.decode(body).ok()?).ok()
}
