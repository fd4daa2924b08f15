//! Jobs, pods and events as far as they are read here. The whole types, of which we need a tenth,
//! would make up a third of the program.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Deserialize;

impl kube::api::Log for Pod {}

/// Makes a type one of the API's.
macro_rules! resource {
    ($type:ident, $group:literal, $plural:literal) => {
        impl Resource for $type {
            type DynamicType = ();
            type Scope = NamespaceResourceScope;

            fn kind((): &()) -> Cow<'_, str> {
                stringify!($type).into()
            }

            fn group((): &()) -> Cow<'_, str> {
                $group.into()
            }

            fn version((): &()) -> Cow<'_, str> {
                "v1".into()
            }

            fn plural((): &()) -> Cow<'_, str> {
                $plural.into()
            }

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

resource!(Job, "batch", "jobs");
resource!(Pod, "", "pods");
resource!(Event, "", "events");
resource!(Secret, "", "secrets");
resource!(ServiceAccount, "", "serviceaccounts");

/// <https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/job-v1/>
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Job {
    #[serde(default)]
    pub(super) metadata: ObjectMeta,
    #[serde(default)]
    pub(super) spec: JobSpec,
    #[serde(default)]
    pub(super) status: JobStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct JobSpec {
    pub(super) ttl_seconds_after_finished: Option<i32>,
    #[serde(default)]
    pub(super) template: Template,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Template {
    #[serde(default)]
    pub(super) spec: PodSpec,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct JobStatus {
    #[serde(default)]
    pub(super) conditions: Vec<Condition>,
}

/// Of a Job or a pod.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Condition {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) status: String,
    pub(super) reason: Option<String>,
    pub(super) message: Option<String>,
}

impl Condition {
    /// Whether it holds.
    pub(super) fn is(&self, kind: &str) -> bool {
        self.kind == kind && self.status == "True"
    }
}

/// <https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/>
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Pod {
    #[serde(default)]
    pub(super) metadata: ObjectMeta,
    #[serde(default)]
    pub(super) spec: PodSpec,
    #[serde(default)]
    pub(super) status: PodStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PodSpec {
    #[serde(default)]
    pub(super) containers: Vec<Container>,
    pub(super) node_name: Option<String>,
    pub(super) termination_grace_period_seconds: Option<i64>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Container {
    pub(super) name: String,
    pub(super) image: Option<String>,
    #[serde(default)]
    pub(super) resources: Resources,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Resources {
    #[serde(default)]
    pub(super) limits: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PodStatus {
    pub(super) phase: Option<String>,
    #[serde(rename = "podIP")]
    pub(super) pod_ip: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) message: Option<String>,
    #[serde(default)]
    pub(super) conditions: Vec<Condition>,
    #[serde(default)]
    pub(super) init_container_statuses: Vec<ContainerStatus>,
    #[serde(default)]
    pub(super) container_statuses: Vec<ContainerStatus>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct ContainerStatus {
    pub(super) name: String,
    #[serde(default)]
    pub(super) state: State,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct State {
    pub(super) running: Option<Running>,
    pub(super) waiting: Option<Waiting>,
    pub(super) terminated: Option<Terminated>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Running {}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Waiting {
    pub(super) reason: Option<String>,
    pub(super) message: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Terminated {
    pub(super) exit_code: i32,
    pub(super) reason: Option<String>,
    pub(super) message: Option<String>,
}

/// <https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/>
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Event {
    #[serde(default)]
    pub(super) metadata: ObjectMeta,
    pub(super) reason: Option<String>,
    pub(super) message: Option<String>,
    #[serde(rename = "type")]
    pub(super) level: Option<String>,
    pub(super) last_timestamp: Option<Timestamp>,
    pub(super) event_time: Option<Timestamp>,
    pub(super) series: Option<Series>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Series {
    pub(super) last_observed_time: Option<Timestamp>,
}

/// Made, and never read.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Secret {
    #[serde(default)]
    pub(super) metadata: ObjectMeta,
}

/// Only looked for.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct ServiceAccount {
    #[serde(default)]
    pub(super) metadata: ObjectMeta,
}
