//! Credentials by a program that the kubeconfig names.
//! <https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins>

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use jiff::Timestamp;
use kube::config::{AuthInfo, ExecAuthCluster, ExecConfig};
use serde::{Deserialize, Serialize};
use tokio::process::Command;
use tokio::time::timeout;

use super::packed;
use crate::error::{Error, Kind, Result};
use crate::host::Host;
use crate::secret::Secret;

/// How long a plugin may take: some sign in over the network.
const LIMIT: Duration = Duration::from_secs(60);
/// How many characters of a plugin's complaint are worth showing.
const SHOWN: usize = 500;

/// A plugin, ready to be run.
pub(super) struct Plugin {
    command: String,
    args: Vec<String>,
    environment: BTreeMap<String, String>,
    api_version: Option<String>,
    cluster: Option<ExecAuthCluster>,
    install_hint: Option<String>,
}

/// What a plugin gives.
#[derive(Debug, Clone, Default)]
pub(in crate::cloud::kubernetes) struct Credentials {
    token: Option<Secret>,
    /// A certificate and its key, PEM.
    identity: Option<(String, Secret)>,
    /// When they end; `None`: not while we live.
    pub(in crate::cloud::kubernetes) expires: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExecCredential {
    api_version: Option<String>,
    kind: String,
    // Ours alone: what a plugin repeats of it says nothing.
    #[serde(skip_serializing_if = "Option::is_none", skip_deserializing)]
    spec: Option<Spec>,
    #[serde(skip_serializing)]
    status: Option<Status>,
}

#[derive(Serialize)]
struct Spec {
    interactive: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<ExecAuthCluster>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    expiration_timestamp: Option<Timestamp>,
    token: Option<Secret>,
    client_certificate_data: Option<String>,
    client_key_data: Option<Secret>,
}

impl Plugin {
    /// The plugin that a kubeconfig describes. It gets our environment without what is secret in it
    /// and none of its business, and whatever the kubeconfig adds.
    pub(super) fn new(asked: ExecConfig, host: &Host) -> Self {
        let mut environment: BTreeMap<String, String> = host
            .vars()
            .filter(|(name, _)| is_for_plugins(name))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        for pair in asked.env.into_iter().flatten() {
            if let (Some(name), Some(value)) = (pair.get("name"), pair.get("value")) {
                environment.insert(name.clone(), value.clone());
            }
        }
        Self {
            command: asked.command.unwrap_or_default(),
            args: asked.args.unwrap_or_default(),
            environment,
            api_version: asked.api_version,
            cluster: asked.cluster.filter(|_| asked.provide_cluster_info),
            install_hint: asked.install_hint,
        }
    }

    /// Runs it. Nobody is there to answer its questions.
    pub(super) async fn run(&self) -> Result<Credentials> {
        let doing = || format!("asking {} for credentials", self.command);
        let denied = |said: String| Error::new(Kind::Denied, doing()).caused_by(said);
        let question = ExecCredential {
            api_version: self.api_version.clone(),
            kind: "ExecCredential".to_owned(),
            spec: Some(Spec {
                interactive: false,
                cluster: self.cluster.clone(),
            }),
            status: None,
        };
        let question = serde_json::to_string(&question)
            .map_err(|error| Error::other(doing()).caused_by(error))?;
        let child = Command::new(&self.command)
            .args(&self.args)
            .env_clear()
            .envs(&self.environment)
            .env("KUBERNETES_EXEC_INFO", question)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| {
                let error = denied(error.to_string());
                match &self.install_hint {
                    Some(hint) => error.hint(hint.clone()),
                    None => error.hint("the kubeconfig names this program: is it installed here?"),
                }
            })?;
        let output = timeout(LIMIT, child.wait_with_output())
            .await
            .map_err(|_| denied(format!("not done within {LIMIT:?}")))?
            .map_err(|error| denied(error.to_string()))?;
        if !output.status.success() {
            // Its standard output is where credentials are.
            let said = String::from_utf8_lossy(&output.stderr);
            let said: String = said.trim().chars().take(SHOWN).collect();
            return Err(denied(format!("it ended with {}: {said}", output.status)));
        }
        // The parser's message may show a piece of the text.
        let answer: ExecCredential = serde_json::from_slice(&output.stdout)
            .map_err(|_| denied("its answer is no ExecCredential".to_owned()))?;
        if answer.kind != "ExecCredential" || answer.api_version != self.api_version {
            return Err(denied(format!(
                "its answer is of another version than the kubeconfig's {}",
                self.api_version.as_deref().unwrap_or("(none)")
            )));
        }
        let status = answer
            .status
            .ok_or_else(|| denied("its answer has no credentials".to_owned()))?;
        let identity = status.client_certificate_data.zip(status.client_key_data);
        if status.token.is_none() && identity.is_none() {
            return Err(denied("its answer has no credentials".to_owned()));
        }
        Ok(Credentials {
            token: status.token,
            identity,
            expires: status.expiration_timestamp,
        })
    }
}

impl Credentials {
    /// Makes them those of a kubeconfig's user.
    pub(super) fn put_into(self, user: &mut AuthInfo) {
        if let Some(token) = self.token {
            user.token = Some(token.expose().to_owned().into());
        }
        if let Some((certificate, key)) = self.identity {
            user.client_certificate_data = Some(packed(&certificate));
            user.client_key_data = Some(packed(key.expose()).into());
        }
    }
}

/// Whether a variable of ours is for plugins to see: those of clouds sign in with their clouds'
/// variables, secrets among them; those of the forges are none of their business.
fn is_for_plugins(name: &str) -> bool {
    const FORGES: [&str; 11] = [
        "REPO_TOKEN",
        "GITHUB_TOKEN",
        "GH_TOKEN",
        "GITLAB_TOKEN",
        "ACTIONS_RUNTIME_TOKEN",
        "CI_JOB_TOKEN",
        "CI_REPOSITORY_URL",
        "CI_REGISTRY_PASSWORD",
        "CI_DEPLOY_PASSWORD",
        "CI_DEPENDENCY_PROXY_PASSWORD",
        super::TEXT,
    ];
    let ours = ["RUNNER_LAUNCH_", "CML_", "CI_JOB_JWT"];
    !FORGES.contains(&name) && !ours.iter().any(|prefix| name.starts_with(prefix))
}
