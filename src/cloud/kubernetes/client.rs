//! The way to the cluster: found and opened at the first call, and anew when its credentials end.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use kube::client::{ClientBuilder, ConfigExt as _};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Mutex;
use tower::Layer as _;
use url::Url;

use super::credentials::{self, Access};
use super::transport::Transport;
use super::user::User;
use super::views::{Event, Job, Pod};
use super::{refusal, tls};
use crate::error::{Error, Kind, Result};
use crate::host::Host;
use crate::http::Http;

/// Credentials that end sooner than this are renewed before they are used.
const MARGIN: Duration = Duration::from_secs(60);

/// A client for the cluster that the host's kubeconfig leads to.
pub(super) struct Client {
    host: Host,
    http: Http,
    open: Mutex<Option<Open>>,
}

struct Open {
    cluster: Cluster,
    access: Access,
}

/// An open way to one namespace of a cluster. Cheap to clone.
#[derive(Clone)]
pub(super) struct Cluster {
    kube: kube::Client,
    /// The namespace of the kubeconfig's context.
    pub(super) namespace: Arc<str>,
}

/// Whether a call that makes something does so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Real,
    /// The cluster says what it would say, and does nothing.
    None,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

impl Client {
    pub(super) fn new(host: Host, http: Http) -> Self {
        Self {
            host,
            http,
            open: Mutex::new(None),
        }
    }

    /// The way to the cluster, opened now where it isn't yet, or where its credentials end soon.
    pub(super) async fn cluster(&self) -> Result<Cluster> {
        let mut open = self.open.lock().await;
        if let Some(open) = open.as_ref()
            && !open.access.ends_before(self.host.now(), MARGIN)
        {
            return Ok(open.cluster.clone());
        }
        let access = credentials::find(&self.host).await?;
        let cluster = self.connect(&access).await?;
        tracing::debug!(
            "the cluster is {} ({}), the namespace {}",
            access.config.cluster_url.host().unwrap_or_default(),
            access.source,
            cluster.namespace
        );
        *open = Some(Open {
            cluster: cluster.clone(),
            access,
        });
        Ok(cluster)
    }

    /// Does something with the cluster; where that refuses our credentials, once more with others.
    pub(super) async fn with<T, F>(
        &self,
        doing: impl Into<String>,
        what: impl Fn(Cluster) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T, kube::Error>>,
    {
        let cluster = self.cluster().await?;
        let outcome = match what(cluster.clone()).await {
            Err(kube::Error::Api(status)) if refusal::is_unauthorized(&status) => {
                self.forget(&cluster).await;
                what(self.cluster().await?).await
            }
            outcome => outcome,
        };
        outcome.map_err(|error| refusal::told(doing, error))
    }

    /// Forgets credentials that the cluster refuses: the next call gets others.
    /// Others may have got some already.
    pub(super) async fn forget(&self, refused: &Cluster) {
        let is_it = |open: &mut Open| Arc::ptr_eq(&open.cluster.namespace, &refused.namespace);
        self.open.lock().await.take_if(is_it);
    }

    async fn connect(&self, access: &Access) -> Result<Cluster> {
        let doing = || format!("opening the way to the cluster ({})", access.source);
        let denied = |error: &dyn fmt::Display| {
            Error::new(Kind::Denied, doing()).caused_by(error.to_string())
        };
        let config = &access.config;
        let mut url =
            Url::parse(&config.cluster_url.to_string()).map_err(|error| denied(&error))?;
        let mut address = None;
        if let Some(name) = &config.tls_server_name {
            if access.proxy.is_some() {
                return Err(denied(
                    &"a tls-server-name and a proxy-url don't go together here",
                ));
            }
            // The name that the certificate is for; the address stays the server's.
            address = Some((
                name.clone(),
                resolve(&url).await.map_err(|error| denied(&error))?,
            ));
            url.set_host(Some(name)).map_err(|error| denied(&error))?;
        }
        let tls = tls::config(config).map_err(|error| denied(&error.chain()))?;
        let http = self.http.to(tls, access.proxy.clone(), address)?;
        let transport = Transport::new(http, url, User::new(&config.auth_info));
        let headers = config
            .extra_headers_layer()
            .map_err(|error| denied(&error))?;
        let service = headers.layer(transport);
        let kube = ClientBuilder::new(service, &config.default_namespace).build();
        Ok(Cluster {
            kube,
            namespace: config.default_namespace.as_str().into(),
        })
    }
}

impl Cluster {
    /// A kind of object in the namespace.
    pub(super) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.kube.clone(), &self.namespace)
    }

    pub(super) fn jobs(&self) -> Api<Job> {
        self.api()
    }

    pub(super) fn pods(&self) -> Api<Pod> {
        self.api()
    }

    /// Makes an object, in which a field that the cluster doesn't know is a mistake; or only says whether it could.
    /// The answer is what is read of it.
    /// <https://kubernetes.io/docs/reference/using-api/api-concepts/#field-validation>
    pub(super) async fn create<K>(&self, object: &Value, effect: Effect) -> Result<K, kube::Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned,
    {
        let path = K::url_path(&(), Some(&self.namespace));
        let query = match effect {
            Effect::Real => "fieldValidation=Strict",
            Effect::None => "fieldValidation=Strict&dryRun=All",
        };
        let request = http::Request::post(format!("{path}?{query}"))
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(object.to_string().into_bytes())
            .map_err(kube::Error::HttpError)?;
        self.kube.request(request).await
    }

    pub(super) fn events(&self) -> Api<Event> {
        self.api()
    }

    /// For what belongs to no namespace.
    pub(super) fn kube(&self) -> kube::Client {
        self.kube.clone()
    }
}

async fn resolve(url: &Url) -> std::io::Result<SocketAddr> {
    let name = url.host_str().unwrap_or_default();
    let name = name.trim_start_matches('[').trim_end_matches(']');
    let port = url.port_or_known_default().unwrap_or(443);
    let mut found = tokio::net::lookup_host((name, port)).await?;
    found
        .next()
        .ok_or_else(|| std::io::Error::other(format!("{name} has no address")))
}
