//! Where the cluster is and how we prove who we are there: a kubeconfig, or what a pod is given.
//! The first source that has something is taken.
//!
//! The kubeconfig itself is read by `kube`; exec plugins are run here, once, with a deadline and
//! without our own secrets.

mod exec;
mod in_cluster;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::{SignedDuration, Timestamp};
use kube::config::{AuthInfo, Config, KubeConfigOptions, Kubeconfig};
use url::Url;

use crate::error::{Error, Kind, Result};
use crate::host::Host;
use crate::host::names::KUBECONFIG_TEXT as TEXT;

/// Paths of kubeconfigs, separated by colons.
/// <https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/>
const PATHS: &str = "KUBECONFIG";

/// How to reach a cluster.
pub(super) struct Access {
    /// Addresses, authorities, and the user without plugins.
    pub(super) config: Config,
    /// The proxy that the kubeconfig names; the environment's is used else.
    pub(super) proxy: Option<Url>,
    /// When a plugin's credentials end; `None`: they don't, or are renewed by themselves.
    pub(super) expires: Option<Timestamp>,
    /// Where all that was found.
    pub(super) source: String,
}

impl Access {
    /// Whether it ends within a time from now.
    pub(super) fn ends_before(&self, now: Timestamp, within: Duration) -> bool {
        let within = SignedDuration::try_from(within).unwrap_or_default();
        self.expires.is_some_and(|end| now + within >= end)
    }
}

/// Finds the cluster. Only an exec plugin takes time.
pub(super) async fn find(host: &Host) -> Result<Access> {
    if let Some(text) = host.env(TEXT) {
        let kubeconfig = parse(text).map_err(|error| {
            error.hint(format!(
                "{TEXT} holds the kubeconfig's text itself, not its path; a path goes into {PATHS}"
            ))
        })?;
        return from(kubeconfig, TEXT.to_owned(), host).await;
    }
    let paths = paths(host);
    if !paths.is_empty() {
        let kubeconfig = read(&paths)?;
        let source = paths.iter().map(|path| path.display().to_string());
        return from(kubeconfig, source.collect::<Vec<_>>().join(":"), host).await;
    }
    if let Some(config) = in_cluster::config(host)? {
        return Ok(Access {
            config,
            proxy: None,
            expires: None,
            source: "this pod's service account".to_owned(),
        });
    }
    Err(Error::new(
        Kind::Denied,
        "looking for a Kubernetes cluster: there is no kubeconfig",
    )
    .hint(format!(
        "put its text into {TEXT}, or its path into {PATHS}"
    )))
}

/// The files that `KUBECONFIG` names, or the usual one, where it is there.
fn paths(host: &Host) -> Vec<PathBuf> {
    match host.env(PATHS) {
        Some(paths) => {
            let named = std::env::split_paths(paths).filter(|path| path != Path::new(""));
            named.collect()
        }
        None => {
            let usual = host.home().map(|home| home.join(".kube/config"));
            usual.into_iter().filter(|path| path.exists()).collect()
        }
    }
}

/// Reads and merges files as kubectl does: of several, those that aren't there are passed over.
fn read(paths: &[PathBuf]) -> Result<Kubeconfig> {
    let mut merged: Option<Kubeconfig> = None;
    for path in paths {
        if paths.len() > 1 && !path.exists() {
            continue;
        }
        let wrong = |error: kube::config::KubeconfigError| {
            denied(format!("reading the kubeconfig {}", path.display()), &error)
        };
        let next = Kubeconfig::read_from(path).map_err(wrong)?;
        merged = Some(match merged {
            Some(first) => first.merge(next).map_err(wrong)?,
            None => next,
        });
    }
    merged.ok_or_else(|| {
        Error::new(Kind::Denied, "reading the kubeconfig")
            .caused_by(format!("no file that {PATHS} names is there"))
    })
}

fn parse(text: &str) -> Result<Kubeconfig> {
    Kubeconfig::from_yaml(text).map_err(|error| denied(format!("reading {TEXT}"), &error))
}

async fn from(kubeconfig: Kubeconfig, source: String, host: &Host) -> Result<Access> {
    let doing = || format!("reading the kubeconfig ({source})");
    let proxy = proxy(&kubeconfig)
        .map_err(|problem| Error::new(Kind::Denied, doing()).caused_by(problem))?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(|error| denied(doing(), &error))?;
    check_user(&config.auth_info)
        .map_err(|problem| Error::new(Kind::Denied, doing()).caused_by(problem))?;
    let mut expires = None;
    if let Some(asked) = config.auth_info.exec.take() {
        let credentials = exec::Plugin::new(asked, host).run().await?;
        expires = credentials.expires;
        credentials.put_into(&mut config.auth_info);
    }
    Ok(Access {
        config,
        proxy,
        expires,
        source,
    })
}

/// Refuses what would run a program behind our back.
fn check_user(user: &AuthInfo) -> Result<(), &'static str> {
    match &user.auth_provider {
        Some(provider) if provider.name != "oidc" => {
            Err("its auth-provider is one that Kubernetes itself has given up: use an exec plugin")
        }
        _ => Ok(()),
    }
}

/// The present context's cluster's proxy.
fn proxy(kubeconfig: &Kubeconfig) -> Result<Option<Url>, String> {
    let context = kubeconfig.current_context.as_deref();
    let context = kubeconfig
        .contexts
        .iter()
        .find(|one| Some(one.name.as_str()) == context);
    let cluster = context
        .and_then(|one| one.context.as_ref())
        .map(|one| &one.cluster);
    let cluster = kubeconfig
        .clusters
        .iter()
        .find(|one| Some(&one.name) == cluster);
    let text = cluster.and_then(|one| one.cluster.as_ref()?.proxy_url.as_deref());
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(Some(url)),
        Ok(url) => Err(format!(
            "its proxy-url has the scheme {}, and only http and https are understood",
            url.scheme()
        )),
        Err(error) => Err(format!("its proxy-url is no address: {error}")),
    }
}

/// A kubeconfig's mistake. The parser's message shows the text around it, where secrets may be: its
/// place alone is told.
fn denied(doing: String, error: &kube::config::KubeconfigError) -> Error {
    use kube::config::KubeconfigError;
    let said = match error {
        KubeconfigError::Parse(error) => match error.location() {
            Some(place) => format!(
                "it is no kubeconfig: line {}, column {}",
                place.line(),
                place.column()
            ),
            None => "it is no kubeconfig".to_owned(),
        },
        other => other.to_string(),
    };
    Error::new(Kind::Denied, doing).caused_by(said)
}

/// Base64, as kubeconfigs hold files.
fn packed(text: &str) -> String {
    BASE64_STANDARD.encode(text)
}
