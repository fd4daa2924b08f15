//! What was asked, as the ways to try, in order.

use std::sync::Arc;

use tokio::sync::Mutex;

use super::Followed;
use super::asked::{ARCH_LABEL, Asked, OS_LABEL};
use super::client::Client;
use crate::cloud::{Candidate, Instance};

/// See [`crate::cloud::Plan`].
#[derive(Debug)]
pub(super) struct KubernetesPlan {
    pub(super) client: Arc<Client>,
    pub(super) followed: Arc<Followed>,
    pub(super) asked: Asked,
    /// As many as there are sizes.
    pub(super) candidates: Vec<Candidate>,
    pub(super) warnings: Vec<String>,
    /// What an order, by its id, has made.
    pub(super) made: Mutex<Option<(String, Instance)>>,
}

impl KubernetesPlan {
    pub(super) fn new(
        client: Arc<Client>,
        followed: Arc<Followed>,
        namespace: &str,
        asked: Asked,
        found: Vec<String>,
    ) -> Self {
        let candidates = asked.sizes.iter().map(|size| {
            let selector = asked.node_selector(size).into_iter();
            let nodes: Vec<String> = selector
                .filter(|(key, _)| ![ARCH_LABEL, OS_LABEL].contains(&key.as_str()))
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            Candidate {
                region: namespace.to_owned(),
                zone: (!nodes.is_empty()).then(|| nodes.join(",")),
                instance_type: size.name.clone(),
                arch: asked.arch,
                image: asked.image.clone(),
                image_name: None,
                disk_gb: asked.disk_gb,
                spot: false,
                network: None,
                security_group: None,
            }
        });
        Self {
            candidates: candidates.collect(),
            client,
            followed,
            warnings: [asked.warnings.clone(), found].concat(),
            asked,
            made: Mutex::new(None),
        }
    }
}
