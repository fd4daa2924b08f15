//! The one door to the machine: environment, clock, randomness and the root of its files.
//!
//! Everything below `main` gets a [`Host`], so that a test decides what the machine looks like.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use crate::error::{Error, Result};

/// Environment names that several places read, each declared once.
pub mod names {
    /// Put before every absolute path that the agent and the bootstrap script touch.
    pub const ROOT: &str = "RUNNER_LAUNCH_ROOT";
    /// Where instances download this program from; `{arch}` is replaced.
    pub const AGENT_URL: &str = "RUNNER_LAUNCH_AGENT_URL";
    /// The repository of the GitHub Action that runs us, as `owner/name`.
    pub const ACTION_REPOSITORY: &str = "RUNNER_LAUNCH_ACTION_REPOSITORY";
    /// Where the CI's runner program is downloaded from; `{arch}` is replaced.
    pub const RUNNER_URL: &str = "RUNNER_LAUNCH_RUNNER_URL";
    /// The image from which GitLab's runner program prepares its jobs' containers.
    pub const HELPER_IMAGE: &str = "RUNNER_LAUNCH_HELPER_IMAGE";
    /// Seconds one HTTP request may take.
    pub const HTTP_TIMEOUT: &str = "RUNNER_LAUNCH_HTTP_TIMEOUT";
    /// The folder for temporary files.
    pub const TMPDIR: &str = "TMPDIR";
    /// Variables whose values are secrets, whoever reads them.
    pub const SECRETS: [&str; 12] = [
        "REPO_TOKEN",
        "GITHUB_TOKEN",
        "CI_JOB_TOKEN",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN",
        "AZURE_CLIENT_SECRET",
        "AZURE_CLIENT_CERTIFICATE_PASSWORD",
        "AZURE_FEDERATED_TOKEN",
        "IDENTITY_HEADER",
        "CLOUDSDK_AUTH_ACCESS_TOKEN",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
    ];
    /// Google's credentials as JSON, with secrets inside.
    pub const GOOGLE_CREDENTIALS: &str = "GOOGLE_APPLICATION_CREDENTIALS_DATA";
    /// A kubeconfig's text, with secrets inside.
    pub const KUBECONFIG_TEXT: &str = "KUBERNETES_CONFIGURATION";
    /// Whether a variable's value is a secret, or has some in it.
    pub fn is_secret(name: &str) -> bool {
        SECRETS.contains(&name) || [GOOGLE_CREDENTIALS, KUBECONFIG_TEXT].contains(&name)
    }
    /// The user's folder.
    pub const HOME: &str = "HOME";
}

#[derive(Debug, Clone)]
enum Source {
    System,
    /// A clock that stands still and numbers that count up.
    Fixed(Arc<Mutex<u64>>, Timestamp),
}

/// The machine as the program sees it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Host {
    env: Arc<BTreeMap<String, String>>,
    source: Source,
}

impl Host {
    /// The real machine. The environment is read here, once.
    pub fn system() -> Self {
        #[expect(clippy::disallowed_methods, reason = "this is the door")]
        let env = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self {
            env: Arc::new(env),
            source: Source::System,
        }
    }

    /// A machine for tests: this environment, a clock that stands at 2026-01-01T00:00:00Z, and
    /// random bytes that repeat with every run.
    pub fn fixed<N: Into<String>, V: Into<String>>(env: impl IntoIterator<Item = (N, V)>) -> Self {
        Self {
            env: Arc::new(
                env.into_iter()
                    .map(|(name, value)| (name.into(), value.into()))
                    .collect(),
            ),
            source: Source::Fixed(Arc::default(), Timestamp::constant(1_767_225_600, 0)),
        }
    }

    /// A variable's value; an empty one counts as absent.
    pub fn env(&self, name: &str) -> Option<&str> {
        self.env
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// The whole environment.
    pub fn vars(&self) -> impl Iterator<Item = (&str, &str)> {
        self.env.iter().map(|(n, v)| (n.as_str(), v.as_str()))
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        match &self.source {
            #[expect(clippy::disallowed_methods, reason = "this is the door")]
            Source::System => Timestamp::now(),
            Source::Fixed(_, now) => *now,
        }
    }

    /// `length` random lower-case letters and digits.
    pub fn random_id(&self, length: usize) -> Result<String> {
        const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
        let mut bytes = vec![0u8; length];
        match &self.source {
            Source::System => getrandom::fill(&mut bytes)
                .map_err(|error| Error::other("reading random bytes").caused_by(error))?,
            Source::Fixed(counter, _) => {
                let mut counter = counter.lock().unwrap_or_else(PoisonError::into_inner);
                for byte in &mut bytes {
                    *byte = (*counter % 251) as u8;
                    *counter += 7;
                }
            }
        }
        // 256 isn't a multiple of 36: the bias is under 2 %, and these are names, not keys.
        Ok(bytes
            .iter()
            .map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]))
            .collect())
    }

    /// An absolute path below [`names::ROOT`], where that is set.
    pub fn path(&self, absolute: impl AsRef<Path>) -> PathBuf {
        let absolute = absolute.as_ref();
        match self.env(names::ROOT) {
            Some(root) => Path::new(root).join(absolute.strip_prefix("/").unwrap_or(absolute)),
            None => absolute.to_owned(),
        }
    }

    /// The user's home folder.
    pub fn home(&self) -> Option<PathBuf> {
        self.env(names::HOME).map(PathBuf::from)
    }

    /// How long one HTTP request may take.
    pub fn http_timeout(&self) -> Duration {
        /// Long enough for RunInstances on a slow day, short enough to try again within a launch.
        const DEFAULT: Duration = Duration::from_secs(20);
        self.env(names::HTTP_TIMEOUT)
            .and_then(|text| text.parse::<f64>().ok())
            .filter(|seconds| (0.05..=600.0).contains(seconds))
            .map_or(DEFAULT, Duration::from_secs_f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_variables_count_as_absent() {
        let host = Host::fixed([("A", ""), ("B", "b")]);
        assert_eq!(host.env("A"), None);
        assert_eq!(host.env("B"), Some("b"));
        assert_eq!(host.env("C"), None);
    }

    #[test]
    fn the_root_stands_before_absolute_paths() {
        let host = Host::fixed([(names::ROOT, "/r")]);
        assert_eq!(host.path("/etc/x"), PathBuf::from("/r/etc/x"));
        assert_eq!(
            Host::fixed::<&str, &str>([]).path("/etc/x"),
            PathBuf::from("/etc/x")
        );
    }

    #[test]
    fn random_ids_are_lower_case_letters_and_digits() {
        let id = Host::system().random_id(64).unwrap();
        assert_eq!(id.len(), 64);
        assert!(
            id.chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
        );
    }
}
