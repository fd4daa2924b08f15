//! The fake is spoken to over HTTPS, as Kubernetes' pages show it.

mod access;
mod jobs;
mod kubectl;
mod launch;
mod pods;
mod rest;
mod watches;

use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::*;
use crate::Sandbox;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A sandbox that is quick, and a launcher's certificate.
struct Lab {
    sandbox: Sandbox,
    cluster: Kubernetes,
    config: Arc<ClientConfig>,
}

async fn lab() -> Lab {
    let mut config = Config::new("/bin/true");
    config.boot_delay = Duration::from_millis(20);
    config.shutdown_delay = Duration::from_millis(10);
    let sandbox = Sandbox::start(config).await.unwrap();
    let cluster = sandbox.kubernetes();
    let config = Arc::new(client(&cluster, true));
    Lab {
        sandbox,
        cluster,
        config,
    }
}

fn client(cluster: &Kubernetes, with_certificate: bool) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(cluster.world.authority.der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    if !with_certificate {
        return builder.with_no_client_auth();
    }
    let folder = cluster.kubeconfig().parent().unwrap().to_owned();
    let certificate = CertificateDer::from_pem_file(folder.join("client.crt")).unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("client.key")).unwrap();
    builder
        .with_client_auth_cert(vec![certificate], key)
        .unwrap()
}

/// An answer that may still be coming.
struct Reply {
    status: u16,
    headers: http::HeaderMap,
    body: Incoming,
    rest: Vec<u8>,
}

impl Reply {
    /// All of it.
    async fn text(self) -> String {
        let bytes = self.body.collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    async fn json(self) -> Value {
        let text = self.text().await;
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"))
    }

    /// The next event of a watch; `None`: it is over. An error: it broke off.
    async fn event(&mut self) -> std::result::Result<Option<Value>, hyper::Error> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Ok(Some(serde_json::from_slice(&line).unwrap()));
            }
            let next = tokio::time::timeout(PATIENCE, self.body.frame()).await;
            match next.expect("no event in time") {
                Some(Ok(frame)) => self.rest.extend(frame.into_data().unwrap_or_default()),
                Some(Err(error)) => return Err(error),
                None => return Ok(None),
            }
        }
    }

    /// The kind and the name of the next event.
    async fn told(&mut self) -> (String, String) {
        let event = self.event().await.unwrap().unwrap();
        let name = &event["object"]["metadata"]["name"];
        (text(&event["type"]).into(), text(name).into())
    }
}

impl Lab {
    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        send(
            &self.cluster,
            self.config.clone(),
            method,
            path,
            headers,
            body,
        )
        .await
        .unwrap()
    }

    async fn call(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let body = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        let kind = match method {
            "PATCH" => "application/merge-patch+json",
            _ => "application/json",
        };
        let headers = [("content-type", kind)];
        let reply = self.send(method, path, &headers, &body).await;
        (reply.status, reply.json().await)
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.call("GET", path, &Value::Null).await
    }

    /// A path in the launcher's namespace.
    async fn create(&self, resource: &str, body: &Value) -> (u16, Value) {
        self.call("POST", &at(resource), body).await
    }

    /// A call that has to succeed.
    async fn made(&self, resource: &str, body: &Value) -> Value {
        let (status, answer) = self.create(resource, body).await;
        assert_eq!(status, 201, "{answer}");
        answer
    }

    /// Waits until something holds.
    async fn until<T>(&self, what: &str, mut check: impl FnMut(&Kubernetes) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = check(&self.cluster) {
                return found;
            }
            assert!(
                Instant::now() < end,
                "{what}: {:#?} {:#?}",
                self.cluster.pods(),
                self.cluster.events()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits for a pod in a phase.
    async fn pod(&self, phase: &str) -> PodView {
        self.until(phase, |cluster| {
            cluster.pods().into_iter().find(|pod| pod.phase == phase)
        })
        .await
    }

    /// Waits for an event.
    async fn told(&self, reason: &str) -> KubernetesEventView {
        self.until(reason, |cluster| {
            cluster
                .events()
                .into_iter()
                .find(|event| event.reason == reason)
        })
        .await
    }

    async fn end(self) {
        let leaks = self.sandbox.shutdown().await;
        assert_eq!(leaks, Vec::<String>::new());
    }
}

async fn send(
    cluster: &Kubernetes,
    config: Arc<ClientConfig>,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> std::io::Result<Reply> {
    let address = cluster.running.server.address;
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let stream = TlsConnector::from(config).connect(name, stream).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(std::io::Error::other)?;
    tokio::spawn(connection);
    let mut request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("host", address.to_string());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request
        .body(Full::<Bytes>::from(body.to_owned()))
        .map_err(std::io::Error::other)?;
    let response = sender
        .send_request(request)
        .await
        .map_err(std::io::Error::other)?;
    let (parts, body) = response.into_parts();
    Ok(Reply {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body,
        rest: Vec::new(),
    })
}

/// A path in the launcher's namespace: `jobs/x`.
fn at(resource: &str) -> String {
    let group = match resource.split(['/', '?']).next() {
        Some("jobs") => "/apis/batch/v1",
        _ => "/api/v1",
    };
    format!("{group}/namespaces/runners/{resource}")
}

/// A Job whose pod runs a script.
fn job(name: &str, script: &str) -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/managed-by": "test"}},
        "spec": {
            "completions": 1, "parallelism": 1, "backoffLimit": 0,
            "template": {
                "metadata": {"labels": {"app.kubernetes.io/managed-by": "test"}},
                "spec": pod_spec(script),
            },
        },
    })
}

fn pod_spec(script: &str) -> Value {
    json!({
        "restartPolicy": "Never",
        "automountServiceAccountToken": false,
        "containers": [{
            "name": "runner",
            "image": "registry.example/tools:1",
            "command": ["/bin/sh", "-c", script],
        }],
    })
}

/// What a container does that waits to be ended.
const PATIENT: &str = "trap 'echo asked; exit 0' TERM; echo begun; while :; do sleep 0.05; done";
