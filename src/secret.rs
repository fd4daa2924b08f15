//! Values that must never be seen: masked when printed, wiped when dropped.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What stands in a secret's place wherever it is printed.
pub const MASK: &str = "***";

/// A token, key or password. `Debug` and `Display` print [`MASK`].
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Wraps a secret value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(SecretString::from(value.into()))
    }

    /// The value itself. Every call of this is a place to review.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// The secrets in Google's credentials: those inside the JSON, whose other lines are in every
    /// such file, and its Base64, where it is given so; else the value itself.
    pub fn of_google(value: &str) -> Vec<Self> {
        let packed: String = value.split_ascii_whitespace().collect();
        let decoded = BASE64_STANDARD.decode(&packed).ok();
        let mut found: Vec<Self> = decoded.iter().map(|_| Self::new(value)).collect();
        let text = decoded.unwrap_or_else(|| value.as_bytes().to_vec());
        match serde_json::from_slice(&text) {
            Ok(serde_json::Value::Object(fields)) => {
                collect(&fields, &mut found);
                found
            }
            _ => vec![Self::new(value)],
        }
    }

    /// The secrets in a kubeconfig, whose other lines are in every such file; all of it where it
    /// can't be read.
    pub fn of_kubeconfig(text: &str) -> Vec<Self> {
        let mut found = Vec::new();
        match serde_saphyr::from_str::<serde_json::Value>(text) {
            Ok(kubeconfig) if kubeconfig.is_object() => collect_users(&kubeconfig, &mut found),
            _ => found.push(Self::new(text)),
        }
        found
    }

    /// Its lines that give something away: the one that it has, or those of a key between the lines
    /// that begin and end every key.
    pub fn telling_lines(&self) -> impl Iterator<Item = &str> {
        let several = self.expose().trim_end().contains('\n');
        self.expose().lines().filter(move |line| match several {
            true => line.len() >= Redactor::SHORTEST && !line.starts_with("-----"),
            false => !line.trim().is_empty(),
        })
    }
}

/// The secret fields of Google's credential files, at any depth.
/// <https://cloud.google.com/docs/authentication/application-default-credentials>
fn collect(fields: &serde_json::Map<String, serde_json::Value>, found: &mut Vec<Secret>) {
    const SECRET: [&str; 4] = [
        "private_key",
        "client_secret",
        "refresh_token",
        "authorization",
    ];
    for (name, value) in fields {
        match value {
            serde_json::Value::Object(fields) => collect(fields, found),
            serde_json::Value::String(text) if SECRET.contains(&&*name.to_ascii_lowercase()) => {
                found.push(Secret::new(text.trim_start_matches("Bearer ")));
            }
            _ => {}
        }
    }
}

/// The secret fields of a kubeconfig's users, at any depth; of a plugin's variables, those that are
/// called so.
/// <https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/>
fn collect_users(value: &serde_json::Value, found: &mut Vec<Secret>) {
    const SECRET: [&str; 7] = [
        "token",
        "password",
        "client-key-data",
        "id-token",
        "refresh-token",
        "access-token",
        "client-secret",
    ];
    const CALLED: [&str; 4] = ["SECRET", "TOKEN", "PASSWORD", "KEY"];
    match value {
        serde_json::Value::Object(fields) => {
            let called = fields.get("name").and_then(serde_json::Value::as_str);
            let called = called.unwrap_or_default().to_ascii_uppercase();
            let is_called_so = CALLED.iter().any(|word| called.contains(word));
            for (name, value) in fields {
                let is_secret =
                    SECRET.contains(&name.as_str()) || (name == "value" && is_called_so);
                match value {
                    serde_json::Value::String(text) if is_secret => {
                        found.push(Secret::new(text));
                    }
                    value => collect_users(value, found),
                }
            }
        }
        serde_json::Value::Array(items) => {
            items.iter().for_each(|item| collect_users(item, found));
        }
        _ => {}
    }
}

/// No answer to a request depends on it: the time that it takes tells nobody anything.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Secret::new)
    }
}

impl Serialize for Secret {
    /// Writes the mask: whoever must hand the value on does so with [`exposed`].
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

/// For `#[serde(with = "…")]` on the few fields that carry a secret to the instance.
pub mod exposed {
    use super::Secret;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes the value itself.
    pub fn serialize<S: Serializer>(
        secret: &Option<Secret>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match secret {
            Some(secret) => serializer.serialize_some(secret.expose()),
            None => serializer.serialize_none(),
        }
    }

    /// Reads an optional value.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Secret>, D::Error> {
        Option::<Secret>::deserialize(deserializer)
    }

    /// The same for a value that is always there.
    pub mod always {
        use super::Secret;
        use serde::{Deserialize, Deserializer, Serializer};

        /// Writes the value itself.
        pub fn serialize<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_str(secret.expose())
        }

        /// Reads a value.
        pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
            Secret::deserialize(deserializer)
        }
    }
}

/// Replaces every known secret in a text, for text that came from elsewhere (consoles, error
/// bodies, the runner program's log).
#[derive(Debug, Clone, Default)]
pub struct Redactor {
    secrets: Vec<Secret>,
}

impl Redactor {
    /// Values shorter than this are not searched for: they would blank out ordinary words.
    const SHORTEST: usize = 8;

    /// Adds a secret, and each line of it where it has several (keys in PEM).
    pub fn add(&mut self, secret: &Secret) {
        for line in std::iter::once(secret.expose()).chain(secret.telling_lines()) {
            let known = self.secrets.iter().any(|s| s.expose() == line);
            if line.len() >= Self::SHORTEST && !known {
                self.secrets.push(Secret::new(line));
            }
        }
        // The longest first, so that no part of a longer secret is left standing.
        self.secrets
            .sort_by_key(|secret| std::cmp::Reverse(secret.expose().len()));
    }

    /// The text with every known secret replaced by [`MASK`].
    pub fn redact(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.secrets {
            if text.contains(secret.expose()) {
                text = text.replace(secret.expose(), MASK);
            }
        }
        text
    }

    /// Whether the text holds a known secret.
    pub fn finds(&self, text: &str) -> bool {
        self.secrets.iter().any(|s| text.contains(s.expose()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_printed() {
        let secret = Secret::new("hunter2hunter2");
        let json = serde_json::to_string(&secret).unwrap();
        for text in [format!("{secret}"), format!("{secret:?}"), json] {
            assert!(!text.contains("hunter2"), "{text}");
            assert!(text.contains(MASK));
        }
    }

    #[test]
    fn a_redactor_blanks_every_line_of_a_key() {
        let mut redactor = Redactor::default();
        redactor.add(&Secret::new(
            "-----BEGIN KEY-----\nabcdefghij\nklmnopqrst\n",
        ));
        redactor.add(&Secret::new("abcdefgh"));
        let text = redactor.redact("x abcdefghij y klmnopqrst z -----BEGIN KEY-----");
        assert_eq!(text, "x *** y *** z -----BEGIN KEY-----");
        assert!(redactor.finds("..abcdefgh.."));
    }

    #[test]
    fn of_credentials_in_json_only_the_secrets_count() {
        let key = r#"{
  "type": "service_account",
  "private_key": "-----BEGIN KEY-----\nabcdefghij\n-----END KEY-----\n",
  "credential_source": {"headers": {"Authorization": "Bearer oidc-request"}}
}"#;
        let found = Secret::of_google(key);
        let lines: Vec<&str> = found.iter().flat_map(Secret::telling_lines).collect();
        assert_eq!(lines, ["oidc-request", "abcdefghij"]);
        let packed = BASE64_STANDARD.encode(key);
        let found = Secret::of_google(&packed);
        let exposed: Vec<&str> = found.iter().flat_map(Secret::telling_lines).collect();
        assert_eq!(exposed, [packed.as_str(), "oidc-request", "abcdefghij"]);
        let plain = Secret::of_google("plain text");
        assert_eq!(plain[0].expose(), "plain text");
    }

    #[test]
    fn of_a_kubeconfig_only_the_secrets_count() {
        let text = "kind: Config\nusers:\n- name: u\n  user:\n    token: a-token\n    exec:\n      \
                    env: [{name: A_KEY, value: a-value}, {name: REGION, value: mars}]\n- name: v\n  user: {client-key-data: a-key}\n";
        let found = Secret::of_kubeconfig(text);
        let exposed: Vec<&str> = found.iter().map(Secret::expose).collect();
        assert_eq!(exposed, ["a-value", "a-token", "a-key"]);
        assert_eq!(
            Secret::of_kubeconfig("plain text")[0].expose(),
            "plain text"
        );
    }
}
