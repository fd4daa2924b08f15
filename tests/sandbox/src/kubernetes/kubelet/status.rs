//! What the kubelet tells of a pod.
//! <https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#PodStatus>

use std::time::Duration;

use serde_json::{Value, json};

use super::{Life, Waiting};
use crate::calls::lock;
use crate::clock;
use crate::kubernetes::container::Container;
use crate::kubernetes::deletion::is_over;
use crate::kubernetes::scheduler::condition;
use crate::kubernetes::state::State;
use crate::kubernetes::store::text;

/// How a container has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) code: i32,
    pub(super) after: Duration,
}

fn now() -> Value {
    json!(clock::seconds(clock::now()))
}

impl Life {
    fn update(&self, state: &mut State, change: impl FnOnce(&mut Value)) {
        let is_it = state
            .store
            .get(&self.key)
            .is_some_and(|pod| pod["metadata"]["uid"] == *self.uid);
        if is_it {
            state.store.update(&self.key, change);
        }
    }

    /// Whether there are containers besides the first, which alone is made of processes here.
    pub(super) fn has_others(&self) -> bool {
        self.pod["spec"]["containers"][1].is_object()
    }

    /// The pod has come to the node.
    pub(super) fn accept(&self) {
        let spec = &self.pod["spec"];
        let containers = spec["containers"].as_array().into_iter().flatten();
        let names: Vec<&str> = containers.map(|one| text(&one["name"])).collect();
        let why = format!("containers with unready status: [{}]", names.join(" "));
        let is_initialized = spec["initContainers"].is_null();
        let lists = LISTS.map(|(list, statuses)| (statuses, waiting(&spec[list])));
        let mut state = lock(&self.world.state);
        self.update(&mut state, |pod| {
            pod["status"]["startTime"] = now();
            pod["status"]["hostIP"] = json!("127.0.0.1");
            pod["status"]["hostIPs"] = json!([{"ip": "127.0.0.1"}]);
            for (statuses, entries) in lists {
                if let Some(entries) = entries {
                    pod["status"][statuses] = entries;
                }
            }
            if is_initialized {
                condition(pod, "Initialized", true, ("", ""));
            } else {
                let what = "containers with incomplete status";
                condition(
                    pod,
                    "Initialized",
                    false,
                    ("ContainersNotInitialized", what),
                );
            }
            condition(pod, "Ready", false, ("ContainersNotReady", &why));
            condition(pod, "ContainersReady", false, ("ContainersNotReady", &why));
        });
    }

    /// The pod has its volumes and its network.
    pub(super) fn ready_to_start(&self) {
        let mut state = lock(&self.world.state);
        let address = state.address();
        self.update(&mut state, |pod| {
            pod["status"]["podIP"] = json!(address);
            pod["status"]["podIPs"] = json!([{"ip": address}]);
            condition(pod, "PodReadyToStartContainers", true, ("", ""));
        });
    }

    /// The container isn't there yet.
    pub(super) fn wait_for(&self, (reason, message): Waiting) {
        let mut state = lock(&self.world.state);
        self.update(&mut state, |pod| {
            pod["status"]["containerStatuses"][0]["state"] =
                json!({"waiting": {"reason": reason, "message": message}});
        });
    }

    /// The container is there, and runs.
    pub(super) fn started(&self, container: &Container) {
        let mut state = lock(&self.world.state);
        if let Some(record) = state.pod(&self.uid) {
            record.container = Some(container.clone());
        }
        self.update(&mut state, |pod| {
            let status = &mut pod["status"];
            status["phase"] = json!("Running");
            for entry in entries(status) {
                entry["state"] = json!({"running": {"startedAt": now()}});
                entry["ready"] = json!(true);
                entry["started"] = json!(true);
                let id = format!("containerd://{}", clock::random_hex(64));
                entry["containerID"] = json!(id);
                entry["imageID"] = json!(format!("sha256:{}", clock::random_hex(64)));
            }
            condition(pod, "Initialized", true, ("", ""));
            condition(pod, "Ready", true, ("", ""));
            condition(pod, "ContainersReady", true, ("", ""));
        });
    }

    /// The container has ended, and with it the pod: nothing is restarted here.
    pub(super) fn end(&self, ended: &Ended) {
        let mut state = lock(&self.world.state);
        let (reason, started) = self.note(&mut state, ended);
        self.update(&mut state, |pod| {
            finish(pod, ended.code, reason, "", &started);
        });
    }

    /// The container has ended, but others of the pod go on, and so does the pod.
    /// <https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-phase>
    pub(super) fn end_alone(&self, ended: &Ended) {
        let mut state = lock(&self.world.state);
        let (reason, started) = self.note(&mut state, ended);
        let name = text(&self.pod["spec"]["containers"][0]["name"]);
        let why = format!("containers with unready status: [{name}]");
        self.update(&mut state, |pod| {
            let entry = &mut pod["status"]["containerStatuses"][0];
            terminate(entry, ended.code, reason, "", &started);
            condition(pod, "Ready", false, ("ContainersNotReady", &why));
            condition(pod, "ContainersReady", false, ("ContainersNotReady", &why));
        });
    }

    /// Keeps how the container has ended; the answer is the reason, and when it had begun.
    fn note(&self, state: &mut State, ended: &Ended) -> (&'static str, Value) {
        let mut reason = match ended.code {
            0 => "Completed",
            _ => "Error",
        };
        if let Some(record) = state.pod(&self.uid) {
            record.exit_code = Some(ended.code);
            if record.is_out_of_memory {
                reason = "OOMKilled";
            }
        }
        let started = jiff::SignedDuration::try_from(ended.after).unwrap_or_default();
        (reason, json!(clock::seconds(clock::now() - started)))
    }

    /// The container's program can't be started at all.
    pub(super) fn cannot_start(&self, why: &str) {
        let mut state = lock(&self.world.state);
        if let Some(record) = state.pod(&self.uid) {
            record.exit_code = Some(128);
        }
        self.update(&mut state, |pod| {
            finish(pod, 128, "StartError", why, &json!("1970-01-01T00:00:00Z"));
        });
    }

    /// A pod that is taken down before its container has run.
    pub(super) fn fail_unstarted(&self, state: &mut State) {
        self.update(state, |pod| {
            if !is_over(pod) {
                finish(pod, 137, "ContainerStatusUnknown", "", &Value::Null);
            }
        });
    }
}

/// Where a pod's containers are, and where their statuses.
const LISTS: [(&str, &str); 2] = [
    ("containers", "containerStatuses"),
    ("initContainers", "initContainerStatuses"),
];

/// The statuses of containers that aren't there yet; nothing where there are no containers.
fn waiting(containers: &Value) -> Option<Value> {
    let entry = |container: &Value| {
        json!({
            "name": container["name"],
            "image": container["image"],
            "imageID": "",
            "ready": false,
            "started": false,
            "restartCount": 0,
            "lastState": {},
            "state": {"waiting": {"reason": "ContainerCreating"}},
        })
    };
    Some(containers.as_array()?.iter().map(entry).collect())
}

/// The statuses of all containers.
fn entries(status: &mut Value) -> impl Iterator<Item = &mut Value> {
    let status = status.as_object_mut().into_iter().flatten();
    let of_containers = |name: &str| LISTS.iter().any(|(_, statuses)| *statuses == name);
    status
        .filter(move |(name, _)| of_containers(name))
        .flat_map(|(_, list)| list.as_array_mut().into_iter().flatten())
}

/// The whole pod has ended. Whatever ran besides the container was asked to end, and did.
fn finish(pod: &mut Value, code: i32, reason: &str, message: &str, started: &Value) {
    let status = &mut pod["status"];
    let entry = &mut status["containerStatuses"][0];
    // Else it has ended before the others.
    if entry["state"]["terminated"].is_null() {
        terminate(entry, code, reason, message, started);
    }
    for entry in entries(status) {
        let began = entry["state"]["running"]["startedAt"].clone();
        if !began.is_null() {
            terminate(entry, 0, "Completed", "", &began);
        }
    }
    let (phase, why) = match code {
        0 => ("Succeeded", "PodCompleted"),
        _ => ("Failed", "PodFailed"),
    };
    status["phase"] = json!(phase);
    condition(pod, "Ready", false, (why, ""));
    condition(pod, "ContainersReady", false, (why, ""));
}

fn terminate(entry: &mut Value, code: i32, reason: &str, message: &str, started: &Value) {
    let mut terminated = json!({"exitCode": code, "reason": reason, "finishedAt": now()});
    if !started.is_null() {
        terminated["startedAt"] = started.clone();
    }
    if !message.is_empty() {
        terminated["message"] = json!(message);
    }
    if !entry["containerID"].is_null() {
        terminated["containerID"] = entry["containerID"].clone();
    }
    entry["state"] = json!({"terminated": terminated});
    entry["ready"] = json!(false);
    entry["started"] = json!(false);
}
