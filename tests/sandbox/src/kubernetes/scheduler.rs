//! The scheduler.
//! <https://kubernetes.io/docs/concepts/scheduling-eviction/kube-scheduler/>

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::deletion::is_over;
use super::events::Source;
use super::kind::Kind;
use super::quantity;
use super::state::State;
use super::store::{Key, Store};
use crate::clock;

/// Sets a condition of a pod; says whether it is news.
pub(super) fn condition(
    pod: &mut Value,
    kind: &str,
    status: bool,
    (reason, message): (&str, &str),
) {
    let word = if status { "True" } else { "False" };
    let mut condition = json!({
        "type": kind, "status": word,
        "lastProbeTime": null,
        "lastTransitionTime": clock::seconds(clock::now()),
    });
    if !reason.is_empty() {
        condition["reason"] = json!(reason);
    }
    if !message.is_empty() {
        condition["message"] = json!(message);
    }
    let conditions = &mut pod["status"]["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Some(conditions) = conditions.as_array_mut() else {
        return;
    };
    match conditions.iter_mut().find(|known| known["type"] == kind) {
        Some(known) => {
            if known["status"] == word {
                condition["lastTransitionTime"] = known["lastTransitionTime"].clone();
            }
            *known = condition;
        }
        None => conditions.push(condition),
    }
}

/// Finds nodes for the pods that have none.
pub(super) fn sync(state: &mut State) {
    let waiting: Vec<(Key, Arc<Value>)> = state
        .store
        .list(Kind::Pod, "")
        .filter(|(_, pod)| {
            pod["spec"]["nodeName"].is_null()
                && !pod["metadata"]["deletionTimestamp"].is_string()
                && !is_over(pod)
        })
        .map(|(key, pod)| (key.clone(), pod.clone()))
        .collect();
    for (key, pod) in waiting {
        let found = match state.settings.shortages.first() {
            Some(shortage) => Err(shortage.clone()),
            None => place(&state.store, &pod),
        };
        match found {
            Ok(node) => bind(state, &key, &pod, &node),
            Err(message) => {
                let known = pod["status"]["conditions"].as_array();
                let is_known = known
                    .into_iter()
                    .flatten()
                    .any(|condition| condition["message"] == *message);
                if is_known {
                    continue;
                }
                state.store.update(&key, |pod| {
                    condition(pod, "PodScheduled", false, ("Unschedulable", &message));
                });
                let what = ("Warning", "FailedScheduling");
                state.event(Kind::Pod, &pod, Source::Scheduler, what, &message);
            }
        }
    }
}

fn bind(state: &mut State, key: &Key, pod: &Value, node: &str) {
    state.store.update(key, |pod| {
        pod["spec"]["nodeName"] = json!(node);
        condition(pod, "PodScheduled", true, ("", ""));
    });
    let message = format!(
        "Successfully assigned {}/{} to {node}",
        key.namespace, key.name
    );
    let what = ("Normal", "Scheduled");
    state.event(Kind::Pod, pod, Source::Scheduler, what, &message);
}

/// A node that fits, or why there is none.
fn place(store: &Store, pod: &Value) -> Result<String, String> {
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut count = 0;
    let mut can_preempt = true;
    for (key, node) in store.list(Kind::Node, "") {
        count += 1;
        let complaints = complaints(store, pod, &key.name, node);
        if complaints.is_empty() {
            return Ok(key.name.clone());
        }
        for (complaint, is_room) in complaints {
            can_preempt &= is_room;
            let times = reasons.entry(complaint).or_default();
            *times += 1;
        }
    }
    let list: Vec<String> = reasons
        .iter()
        .map(|(reason, times)| format!("{times} {reason}"))
        .collect();
    let preemption = match can_preempt {
        true => "No preemption victims found for incoming pod.",
        false => "Preemption is not helpful for scheduling.",
    };
    Err(match count {
        0 => "no nodes available to schedule pods".into(),
        count => format!(
            "0/{count} nodes are available: {}. preemption: 0/{count} nodes are available: {count} \
             {preemption}",
            list.join(", ")
        ),
    })
}

/// What speaks against a node, and whether it is for want of room.
fn complaints(store: &Store, pod: &Value, name: &str, node: &Value) -> Vec<(String, bool)> {
    if node["spec"]["unschedulable"] == true {
        return vec![("node(s) were unschedulable".into(), false)];
    }
    if let Some(taint) = node["spec"]["taints"][0]["key"].as_str() {
        let why = format!("node(s) had untolerated taint {{{taint}: }}");
        return vec![(why, false)];
    }
    let selector = pod["spec"]["nodeSelector"].as_object();
    let fits = selector
        .into_iter()
        .flatten()
        .all(|(label, value)| node["metadata"]["labels"][label] == *value);
    if !fits {
        let why = "node(s) didn't match Pod's node affinity/selector";
        return vec![(why.into(), false)];
    }
    let mut complaints = Vec::new();
    let others: Vec<&Arc<Value>> = store
        .list(Kind::Pod, "")
        .map(|(_, other)| other)
        .filter(|other| other["spec"]["nodeName"] == name && !is_over(other))
        .collect();
    let wanted = &pod["spec"]["containers"][0]["resources"]["requests"];
    for (resource, amount) in wanted.as_object().into_iter().flatten() {
        let amount = quantity::read(amount).unwrap_or(0.0);
        let used: f64 = others
            .iter()
            .filter_map(|other| {
                quantity::read(&other["spec"]["containers"][0]["resources"]["requests"][resource])
            })
            .sum();
        let all = quantity::read(&node["status"]["allocatable"][resource]).unwrap_or(0.0);
        if amount > 0.0 && used + amount > all {
            complaints.push((format!("Insufficient {resource}"), true));
        }
    }
    complaints
}
