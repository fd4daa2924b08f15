//! What a pod's status means.
//! <https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/>

use super::body::CONTAINER;
use super::views::{Pod, State, Terminated};

/// Reasons to wait that no waiting changes.
const HOPELESS: [&str; 2] = ["InvalidImageName", "ErrImageNeverPull"];
/// The kubelet's word for a pod that contradicts itself, and for what it can't read just now.
const CONTRADICTION: &str = "CreateContainerConfigError";
/// Reasons to wait that belong to every start.
const ORDINARY: [&str; 2] = ["ContainerCreating", "PodInitializing"];

/// What keeps a pod's containers from starting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) reason: String,
    pub(super) message: String,
    /// Whether it stays, however long one waits.
    pub(super) hopeless: bool,
}

/// Whether it is that the container must not be root's, and is.
fn is_about_root(message: Option<&str>) -> bool {
    let message = message.unwrap_or_default();
    message.contains("runAsNonRoot") || message.contains("non-root")
}

fn states(pod: &Pod) -> impl Iterator<Item = (&str, &State)> {
    let first = pod.status.init_container_statuses.iter();
    let all = first.chain(&pod.status.container_statuses);
    all.map(|one| (one.name.as_str(), &one.state))
}

/// What keeps it from starting, if something does: a missing image, a loop of crashes, a
/// contradiction.
pub(super) fn trouble(pod: &Pod) -> Option<Trouble> {
    // The runner doesn't depend on what a sidecar is up to.
    if states(pod).any(|(name, state)| name == CONTAINER && state.running.is_some()) {
        return None;
    }
    let waiting = states(pod).filter_map(|(_, state)| state.waiting.as_ref());
    let mut troubles = waiting.filter_map(|waiting| {
        let reason = waiting.reason.as_deref()?;
        (!ORDINARY.contains(&reason)).then(|| Trouble {
            reason: reason.to_owned(),
            message: waiting.message.clone().unwrap_or_default(),
            hopeless: HOPELESS.contains(&reason)
                || (reason == CONTRADICTION && is_about_root(waiting.message.as_deref())),
        })
    });
    troubles.next()
}

/// How the runner's container ended, if it has.
pub(super) fn end(pod: &Pod) -> Option<&Terminated> {
    let mut states = states(pod).filter(|(name, _)| *name == CONTAINER);
    states.find_map(|(_, state)| state.terminated.as_ref())
}

/// Pending, Running, Succeeded, Failed, Unknown.
pub(super) fn phase(pod: &Pod) -> &str {
    pod.status.phase.as_deref().unwrap_or("Pending")
}

/// Why the pod ended, or is being ended.
pub(super) fn reason(pod: &Pod) -> String {
    let status = &pod.status;
    let mut conditions = status.conditions.iter();
    let disruption = conditions.find(|condition| condition.is("DisruptionTarget"));
    let said = |reason: Option<&String>, message: Option<&String>| {
        let parts = [reason, message].into_iter().flatten();
        let parts: Vec<&str> = parts
            .map(|part| part.trim())
            .filter(|part| !part.is_empty())
            .collect();
        parts.join(": ")
    };
    let mut reasons = Vec::new();
    if let Some(disruption) = disruption {
        reasons.push(said(
            disruption.reason.as_ref(),
            disruption.message.as_ref(),
        ));
    }
    reasons.push(said(status.reason.as_ref(), status.message.as_ref()));
    if let Some(end) = end(pod) {
        let why = said(end.reason.as_ref(), end.message.as_ref());
        reasons.push(format!("exit code {} ({why})", end.exit_code));
    }
    reasons.retain(|reason| !reason.is_empty());
    reasons.join("; ")
}

/// Whether the scheduler has found a node.
pub(super) fn is_scheduled(pod: &Pod) -> bool {
    pod.spec.node_name.is_some()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(status: Value) -> Pod {
        serde_json::from_value(json!({ "metadata": {}, "status": status })).unwrap()
    }

    fn waiting(reason: &str) -> Pod {
        let state = json!({ "waiting": { "reason": reason, "message": "m" } });
        pod(json!({ "containerStatuses": [
            { "name": CONTAINER, "state": state, "image": "", "imageID": "", "ready": false, "restartCount": 0 },
        ]}))
    }

    #[test]
    fn an_ordinary_start_is_no_trouble() {
        assert_eq!(trouble(&pod(json!({ "phase": "Pending" }))), None);
        assert_eq!(trouble(&waiting("ContainerCreating")), None);
        let found = trouble(&waiting("ErrImagePull")).unwrap();
        assert!(!found.hopeless);
        assert!(trouble(&waiting("InvalidImageName")).unwrap().hopeless);
        assert!(!trouble(&waiting(CONTRADICTION)).unwrap().hopeless);
        assert!(is_about_root(Some(
            "container has runAsNonRoot and image will run as root"
        )));
    }

    #[test]
    fn an_end_tells_all_that_is_known_of_it() {
        let state = json!({ "terminated": { "exitCode": 137, "reason": "OOMKilled" } });
        let ended = pod(json!({
            "phase": "Failed",
            "conditions": [{ "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
                             "message": "Eviction API: evicting" }],
            "containerStatuses": [
                { "name": CONTAINER, "state": state, "image": "", "imageID": "", "ready": false, "restartCount": 0 },
            ],
        }));
        assert_eq!(phase(&ended), "Failed");
        assert_eq!(
            reason(&ended),
            "EvictionByEvictionAPI: Eviction API: evicting; exit code 137 (OOMKilled)"
        );
        assert_eq!(end(&ended).unwrap().exit_code, 137);
    }
}
