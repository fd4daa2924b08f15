//! The files that lead a program to the cluster.
//! <https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/>
//! <https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/>

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::access::User;
use super::tls::Identity;
use super::{GROUP, Kubernetes, NAMESPACE, USER, World};
use crate::calls::lock;

/// The files in the sandbox's home.
#[derive(Debug)]
pub(super) struct Files {
    folder: PathBuf,
    url: String,
    authority: String,
    launcher: Identity,
}

/// What a program finds that runs in a pod of the cluster.
/// <https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/>
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InCluster {
    /// The folder that is at `/var/run/secrets/kubernetes.io/serviceaccount` in a pod: `token`,
    /// `ca.crt`, `namespace`.
    pub folder: PathBuf,
    /// `KUBERNETES_SERVICE_HOST` and `KUBERNETES_SERVICE_PORT`.
    pub env: Vec<(String, String)>,
}

impl Files {
    pub(super) fn write(world: &World, folder: &Path, url: &str) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let launcher = world.authority.certify(&User::new(USER, GROUP))?;
        world.wire.secret(launcher.key.trim());
        world.wire.secret(STANDARD.encode(&launcher.key));
        let files = Files {
            folder: folder.to_owned(),
            url: url.to_owned(),
            authority: world.authority.pem(),
            launcher,
        };
        files.put("ca.crt", files.authority.as_bytes())?;
        files.put("client.crt", files.launcher.certificate.as_bytes())?;
        files.put("client.key", files.launcher.key.as_bytes())?;
        files.put_config("config", &files.with_files())?;
        Ok(files)
    }

    /// Writes a file for its owner alone.
    fn put(&self, name: &str, content: &[u8]) -> io::Result<PathBuf> {
        let path = self.folder.join(name);
        std::fs::write(&path, content)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(path)
    }

    fn put_config(&self, name: &str, config: &Value) -> io::Result<PathBuf> {
        self.put(name, config.to_string().as_bytes())
    }

    /// A kubeconfig, which is YAML, and so may be JSON.
    fn config(&self, cluster: Value, user: Value) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "sandbox",
            "preferences": {},
            "clusters": [{"name": "sandbox", "cluster": cluster}],
            "users": [{"name": USER, "user": user}],
            "contexts": [{
                "name": "sandbox",
                "context": {"cluster": "sandbox", "user": USER, "namespace": NAMESPACE},
            }],
        })
    }

    fn cluster(&self) -> Value {
        json!({
            "server": self.url,
            "certificate-authority-data": STANDARD.encode(&self.authority),
        })
    }

    fn with_files(&self) -> Value {
        let at = |name: &str| self.folder.join(name).display().to_string();
        self.config(
            json!({"server": self.url, "certificate-authority": at("ca.crt")}),
            json!({"client-certificate": at("client.crt"), "client-key": at("client.key")}),
        )
    }
}

impl Kubernetes {
    pub(crate) fn env(&self) -> Vec<(String, String)> {
        let path = self.kubeconfig().display().to_string();
        vec![("KUBECONFIG".into(), path)]
    }

    /// The kubeconfig of the launcher's user, with a client certificate in files.
    pub fn kubeconfig(&self) -> PathBuf {
        self.files.folder.join("config")
    }

    /// One with a bearer token.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn kubeconfig_token(&self) -> io::Result<PathBuf> {
        let config = self
            .files
            .config(self.files.cluster(), json!({"token": self.token()}));
        self.files.put_config("config-token", &config)
    }

    /// One with a program that is asked for credentials, as clouds' clusters have it.
    /// <https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins>
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn kubeconfig_exec(&self, plugin: &Path) -> io::Result<PathBuf> {
        let user = json!({"exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": plugin.display().to_string(),
            "args": [],
            "env": [],
            "interactiveMode": "Never",
            "provideClusterInfo": false,
        }});
        let config = self.files.config(self.files.cluster(), user);
        self.files.put_config("config-exec", &config)
    }

    /// Such a program: it answers with a token of the launcher's user that is good for an hour.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn exec_plugin(&self) -> io::Result<PathBuf> {
        let expires = crate::clock::now() + jiff::SignedDuration::from_hours(1);
        let answer = json!({
            "apiVersion": "client.authentication.k8s.io/v1",
            "kind": "ExecCredential",
            "status": {
                "token": self.token(),
                "expirationTimestamp": crate::clock::seconds(expires),
            },
        });
        self.files
            .put("credential.json", answer.to_string().as_bytes())?;
        let script = format!(
            "#!/bin/sh\nexec cat '{}'\n",
            self.files.folder.join("credential.json").display()
        );
        let path = self.files.put("credential-plugin", script.as_bytes())?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700))?;
        Ok(path)
    }

    /// One with everything in it, as a variable of a pipeline has it.
    pub fn kubeconfig_inline(&self) -> String {
        let user = json!({
            "client-certificate-data": STANDARD.encode(&self.files.launcher.certificate),
            "client-key-data": STANDARD.encode(&self.files.launcher.key),
        });
        let config = self.files.config(self.files.cluster(), user).to_string();
        self.world.wire.secret(&config);
        config
    }

    /// What a pod finds whose service account is this one, of the launcher's namespace.
    ///
    /// # Errors
    /// When the files can't be written.
    pub fn in_cluster(&self, service_account: &str) -> io::Result<InCluster> {
        let user = User::service_account(NAMESPACE, service_account);
        let token = self.world.token(user);
        let folder = self
            .files
            .folder
            .join(format!("in-cluster-{service_account}"));
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("token"), token)?;
        std::fs::write(folder.join("ca.crt"), &self.files.authority)?;
        std::fs::write(folder.join("namespace"), NAMESPACE)?;
        let env = self.world.service_variables();
        Ok(InCluster { folder, env })
    }

    /// A new bearer token of the launcher's user.
    pub fn token(&self) -> String {
        self.world.token(User::new(USER, GROUP))
    }

    /// Makes a token worthless.
    pub fn revoke(&self, token: &str) {
        lock(&self.world.access).revoke(token);
    }

    /// The authority's certificate, in PEM.
    pub fn authority(&self) -> String {
        self.files.authority.clone()
    }
}
