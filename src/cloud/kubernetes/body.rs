//! What is sent: the Job, and the Secret that it owns.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, EmptyDirVolumeSource, PodSpec, PodTemplateSpec, ResourceRequirements,
    SeccompProfile, Secret, SecretVolumeSource, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde::Serialize;
use serde_json::{Value, json};

use super::asked::Asked;
use super::sizes::Size;
use super::{labels, names};
use crate::cloud::Order;
use crate::error::{Error, Result};

/// The container in which the runner lives.
pub(super) const CONTAINER: &str = "runner";
/// The volumes of ours, and where they are.
pub(super) const SECRET_VOLUME: &str = "runner-launch";
pub(super) const MOUNT: &str = "/etc/runner-launch";
pub(super) const WORK_VOLUME: &str = "runner-launch-work";
pub(super) const WORK: &str = "/var/lib/runner-launch";
/// The Secret's only key: a shell script.
const SCRIPT: &str = "bootstrap";

/// What the kubelet gives to a pod that is to end.
const GRACE_SECONDS: i64 = 30;
/// How long a Job that has ended may stay while its launcher still wants to read its log. Once the
/// runner is ready it goes at once.
const LINGER_SECONDS: i32 = 30;
/// The Job lives this much longer than a launch waits for it, which reads the log at last.
const DEADLINE_MARGIN_SECONDS: u64 = 60;

/// What root in the container may do: be another user, and see to that user's files and processes.
const CAPABILITIES: [&str; 6] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "KILL",
    "SETGID",
    "SETUID",
];

/// The resource that NVIDIA's device plugin offers.
/// <https://kubernetes.io/docs/tasks/manage-gpus/scheduling-gpus/>
const GPU: &str = "nvidia.com/gpu";

/// The Job of a launch: one pod, never a second one.
/// <https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/job-v1/>
pub(super) fn job(asked: &Asked, size: &Size, order: &Order, secret: &str) -> Result<Value> {
    let mut annotations = labels::annotations(&asked.metadata, order);
    annotations.insert(labels::SIZE.to_owned(), size.name.clone());
    let job = Job {
        metadata: ObjectMeta {
            name: Some(names::job_name(order)),
            labels: Some(labels::labels(&asked.metadata, order)),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            completions: Some(1),
            parallelism: Some(1),
            backoff_limit: Some(0),
            active_deadline_seconds: Some(deadline(order)),
            ttl_seconds_after_finished: Some(LINGER_SECONDS),
            template: pod(asked, size, order, secret),
            ..JobSpec::default()
        }),
        ..Job::default()
    };
    let mut job = written(&job)?;
    if let Some(pod) = job.pointer_mut("/spec/template") {
        asked.template.add_to(pod);
    }
    Ok(job)
}

fn written(object: &impl Serialize) -> Result<Value> {
    serde_json::to_value(object).map_err(|error| Error::other("writing it down").caused_by(error))
}

fn deadline(order: &Order) -> i64 {
    i64::try_from(order.timeout.as_secs() + DEADLINE_MARGIN_SECONDS).unwrap_or(i64::MAX)
}

/// What makes a Job last for as long as its runner does, and not a moment longer: sent once the
/// runner is ready.
pub(super) fn lasting(uid: Option<String>) -> Value {
    json!({
        // Another one's isn't changed: to the server it is an attempt to change the uid.
        "metadata": uid.map_or(json!({}), |uid| json!({ "uid": uid })),
        "spec": { "activeDeadlineSeconds": null, "ttlSecondsAfterFinished": 0 }
    })
}

fn pod(asked: &Asked, size: &Size, order: &Order, secret: &str) -> PodTemplateSpec {
    let account = asked.account.clone();
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels::labels(&asked.metadata, order)),
            annotations: Some(labels::pod_annotations(&asked.metadata, order)),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            // A token of the cluster's is nothing for a job, unless it is asked for.
            automount_service_account_token: Some(asked.service_account().is_some()),
            service_account_name: account,
            containers: vec![container(asked, size)],
            // The addresses of the namespace's services are nothing that a job needs to know.
            enable_service_links: Some(false),
            node_selector: Some(asked.node_selector(size)),
            restart_policy: Some("Never".to_owned()),
            // Whatever jobs leave behind has somebody to bury it.
            share_process_namespace: Some(true),
            termination_grace_period_seconds: Some(GRACE_SECONDS),
            volumes: Some(vec![
                Volume {
                    name: SECRET_VOLUME.to_owned(),
                    secret: Some(SecretVolumeSource {
                        secret_name: Some(secret.to_owned()),
                        default_mode: Some(0o400),
                        ..SecretVolumeSource::default()
                    }),
                    ..Volume::default()
                },
                Volume {
                    name: WORK_VOLUME.to_owned(),
                    empty_dir: Some(EmptyDirVolumeSource::default()),
                    ..Volume::default()
                },
            ]),
            ..PodSpec::default()
        }),
    }
}

fn container(asked: &Asked, size: &Size) -> Container {
    let mount = |name: &str, path: &str, read_only: bool| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    };
    Container {
        name: CONTAINER.to_owned(),
        image: Some(asked.image.clone()),
        command: Some(vec!["/bin/sh".to_owned(), format!("{MOUNT}/{SCRIPT}")]),
        resources: Some(resources(asked, size)),
        security_context: Some(match asked.privileged {
            true => SecurityContext {
                privileged: Some(true),
                run_as_user: Some(0),
                ..SecurityContext::default()
            },
            false => unprivileged(),
        }),
        volume_mounts: Some(vec![
            mount(SECRET_VOLUME, MOUNT, true),
            mount(WORK_VOLUME, WORK, false),
        ]),
        ..Container::default()
    }
}

/// Limits alone: the scheduler is to find room by them, not to keep it free.
fn resources(asked: &Asked, size: &Size) -> ResourceRequirements {
    let quantity = |name: &str, text: String| (name.to_owned(), Quantity(text));
    let mut limits = BTreeMap::from([
        quantity("cpu", size.cpus.to_string()),
        quantity("memory", size.memory.clone()),
        quantity("ephemeral-storage", format!("{}G", asked.disk_gb)),
    ]);
    let requests = limits
        .keys()
        .map(|name| quantity(name, "0".to_owned()))
        .collect();
    if let Some(gpus) = &size.gpus {
        // Of such a resource a request is as much as the limit, and needn't be made.
        limits.extend([quantity(GPU, gpus.count.to_string())]);
    }
    ResourceRequirements {
        limits: Some(limits),
        requests: Some(requests),
        ..ResourceRequirements::default()
    }
}

/// Root of the container alone, so that what is root's in it is no job's to read.
fn unprivileged() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities {
            add: Some(CAPABILITIES.map(str::to_owned).to_vec()),
            drop: Some(vec!["ALL".to_owned()]),
        }),
        run_as_user: Some(0),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            ..SeccompProfile::default()
        }),
        ..SecurityContext::default()
    }
}

/// The Secret with the script that the pod runs. It goes with its Job.
pub(super) fn secret(
    asked: &Asked,
    order: &Order,
    owner: &ObjectMeta,
    name: &str,
) -> Result<Value> {
    written(&Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(labels::labels(&asked.metadata, order)),
            annotations: Some(labels::annotations(&asked.metadata, order)),
            // Blocking the owner's deletion would take one more permission where owners are watched
            // over, and change nothing: what has no owner any more is removed.
            owner_references: Some(vec![OwnerReference {
                api_version: "batch/v1".to_owned(),
                kind: "Job".to_owned(),
                name: owner.name.clone().unwrap_or_default(),
                uid: owner.uid.clone().unwrap_or_default(),
                controller: Some(true),
                block_owner_deletion: None,
            }]),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        immutable: Some(true),
        data: Some(BTreeMap::from([(
            SCRIPT.to_owned(),
            ByteString(order.user_data.clone()),
        )])),
        ..Secret::default()
    })
}
