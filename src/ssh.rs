//! From a private key to the line that lets its owner in.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::rand::SystemRandom;
use ring::rsa::{KeyPair, PublicKeyComponents};
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use crate::error::{Error, Result};
use crate::secret::Secret;

/// The OpenSSH public key line of an RSA private key in PEM form (PKCS #1 or PKCS #8).
/// The error never holds any of the key.
pub fn authorized_key(private: &Secret) -> Result<String, String> {
    let advice = "make one with `ssh-keygen -t rsa -m pem -b 4096 -f key.pem`";
    let key = private.expose().trim();
    let label = key
        .strip_prefix("-----BEGIN ")
        .and_then(|rest| rest.split_once("-----"));
    let Some((label, rest)) = label else {
        return Err(format!("not a private key in PEM form; {advice}"));
    };
    let body = rest.split("-----").next().unwrap_or_default();
    if body.contains("ENCRYPTED") || label.contains("ENCRYPTED") {
        return Err(format!(
            "the key is protected by a passphrase; {advice}, without one"
        ));
    }
    let body: String = body.split_ascii_whitespace().collect();
    let der = BASE64_STANDARD
        .decode(body)
        .map_err(|_| format!("the key's PEM form is damaged; {advice}"))?;
    let pair = match label {
        "RSA PRIVATE KEY" => KeyPair::from_der(&der),
        "PRIVATE KEY" => KeyPair::from_pkcs8(&der),
        _ => return Err(format!("a {label} is no RSA key in PEM form; {advice}")),
    };
    let pair = pair.map_err(|error| format!("the key can't be used ({error}); {advice}"))?;
    let public: PublicKeyComponents<Vec<u8>> = pair.public().into();
    let mut blob = Vec::new();
    field(&mut blob, b"ssh-rsa");
    number(&mut blob, &public.e);
    number(&mut blob, &public.n);
    Ok(format!("ssh-rsa {}", BASE64_STANDARD.encode(blob)))
}

/// The OpenSSH public key line of a new key whose private half nobody keeps, for clouds that make no
/// machine without one. <https://www.rfc-editor.org/rfc/rfc8709#section-4>
pub fn throwaway() -> Result<String> {
    let doing = "making a throwaway SSH key";
    let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
        .map_err(|error| Error::other(doing).caused_by(error))?;
    let pair = Ed25519KeyPair::from_pkcs8(document.as_ref())
        .map_err(|error| Error::other(doing).caused_by(error))?;
    let mut blob = Vec::new();
    field(&mut blob, b"ssh-ed25519");
    field(&mut blob, pair.public_key().as_ref());
    Ok(format!("ssh-ed25519 {}", BASE64_STANDARD.encode(blob)))
}

/// A length and that many bytes. <https://www.rfc-editor.org/rfc/rfc4251#section-5>
fn field(blob: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    blob.extend(length.to_be_bytes());
    blob.extend(bytes);
}

/// A number: without leading zeros, but with one where it would read as negative.
fn number(blob: &mut Vec<u8>, bytes: &[u8]) {
    let start = bytes
        .iter()
        .position(|byte| *byte != 0)
        .unwrap_or(bytes.len());
    let mut positive = Vec::new();
    if bytes.get(start).is_some_and(|byte| byte & 0x80 != 0) {
        positive.push(0);
    }
    positive.extend(&bytes[start..]);
    field(blob, &positive);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throwaway_keys_have_their_form_and_differ() {
        let line = throwaway().unwrap();
        let blob = line.strip_prefix("ssh-ed25519 ").unwrap();
        let blob = BASE64_STANDARD.decode(blob).unwrap();
        assert_eq!(blob.len(), 4 + 11 + 4 + 32);
        assert_eq!(&blob[..19], b"\0\0\0\x0bssh-ed25519\0\0\0\x20");
        assert_ne!(line, throwaway().unwrap());
    }
}
