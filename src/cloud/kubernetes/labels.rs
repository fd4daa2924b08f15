//! Labels and annotations: Kubernetes' rules, and the ones of ours.

use std::collections::BTreeMap;

use crate::cloud::{Order, TAG_LAUNCH, TAG_OWNER, TAG_SERVES};

/// The label that says who made an object, whose value is [`TAG_OWNER`].
/// <https://kubernetes.io/docs/concepts/overview/working-with-objects/common-labels/>
pub(super) const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The annotation that holds the runner's name, which no label may have to hold.
pub(super) const RUNNER: &str = "runner-launch-runner";

/// The annotation that holds the size, as the user named it.
pub(super) const SIZE: &str = "runner-launch-type";

/// What is set on a pod so that its node isn't taken away for being little used: of the cluster
/// autoscaler, and of Karpenter.
/// <https://github.com/kubernetes/autoscaler/blob/master/cluster-autoscaler/FAQ.md#what-types-of-pods-can-prevent-ca-from-removing-a-node>
/// <https://karpenter.sh/docs/concepts/disruption/#pod-level-controls>
const UNDISTURBED: [(&str, &str); 2] = [
    ("cluster-autoscaler.kubernetes.io/safe-to-evict", "false"),
    ("karpenter.sh/do-not-disrupt", "true"),
];

/// The most characters of a name or a value, and of a prefix.
/// <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set>
const LONGEST: usize = 63;
const LONGEST_PREFIX: usize = 253;

/// The user's pairs, which become labels as well as annotations; complaints start with the option's
/// name.
pub(super) fn read(
    metadata: &[(String, String)],
    mistakes: &mut Vec<String>,
) -> BTreeMap<String, String> {
    let option = "--cloud-metadata";
    for (key, value) in metadata {
        check(option, key, value, mistakes);
        if is_ours(key) {
            mistakes.push(format!("{option}: the key `{key}` is this program's own"));
        }
    }
    metadata.iter().cloned().collect()
}

pub(super) fn is_ours(key: &str) -> bool {
    let names = [TAG_OWNER, TAG_LAUNCH, TAG_SERVES, RUNNER, SIZE, MANAGED_BY];
    names.contains(&key)
        || key.starts_with("batch.kubernetes.io/")
        || ["job-name", "controller-uid"].contains(&key)
}

/// Checks a label's key and value.
pub(super) fn check(option: &str, key: &str, value: &str, mistakes: &mut Vec<String>) {
    if !is_key(key) {
        mistakes.push(format!(
            "{option}: the key `{key}` is no label's in Kubernetes: up to {LONGEST} letters, digits, `-`, `_` \
             and `.`, with a letter or digit at both ends, after a domain and a `/` or without them"
        ));
    }
    if !is_value(value) {
        mistakes.push(format!(
            "{option}: the value of `{key}` is no label's in Kubernetes, which has up to {LONGEST} letters, \
             digits, `-`, `_` and `.`, with a letter or digit at both ends: `{value}`"
        ));
    }
}

fn is_key(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => {
            prefix.len() <= LONGEST_PREFIX && is_domain(prefix) && is_name(name)
        }
        None => is_name(key),
    }
}

fn is_value(value: &str) -> bool {
    value.is_empty() || is_name(value)
}

fn is_name(text: &str) -> bool {
    let ends = |c: char| c.is_ascii_alphanumeric();
    (1..=LONGEST).contains(&text.len())
        && text.starts_with(ends)
        && text.ends_with(ends)
        && text.chars().all(|c| ends(c) || "-_.".contains(c))
}

/// A DNS subdomain. <https://kubernetes.io/docs/concepts/overview/working-with-objects/names/>
pub(super) fn is_domain(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.split('.').all(|part| {
        part.starts_with(plain)
            && part.ends_with(plain)
            && part.chars().all(|c| plain(c) || c == '-')
    })
}

/// The labels of a launch's objects, ours and the user's.
pub(super) fn labels(users: &BTreeMap<String, String>, order: &Order) -> BTreeMap<String, String> {
    let mut labels = users.clone();
    labels.insert(MANAGED_BY.to_owned(), TAG_OWNER.to_owned());
    labels.insert(TAG_LAUNCH.to_owned(), order.launch_id.clone());
    labels
}

/// The annotations of a launch's objects.
pub(super) fn annotations(
    users: &BTreeMap<String, String>,
    order: &Order,
) -> BTreeMap<String, String> {
    let mut annotations = users.clone();
    annotations.insert(TAG_SERVES.to_owned(), order.serves.clone());
    annotations.insert(RUNNER.to_owned(), order.name.clone());
    annotations
}

/// Those of its pod.
pub(super) fn pod_annotations(
    users: &BTreeMap<String, String>,
    order: &Order,
) -> BTreeMap<String, String> {
    let undisturbed = UNDISTURBED.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let mut annotations = BTreeMap::from(undisturbed);
    annotations.extend(self::annotations(users, order));
    annotations
}

/// What selects everything of ours, or what one launch has made.
pub(super) fn selector(launch_id: Option<&str>) -> String {
    let ours = format!("{MANAGED_BY}={TAG_OWNER}");
    match launch_id {
        Some(id) => format!("{ours},{TAG_LAUNCH}={id}"),
        None => ours,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(key: &str, value: &str) -> Vec<String> {
        let mut mistakes = Vec::new();
        read(&[(key.to_owned(), value.to_owned())], &mut mistakes);
        mistakes
    }

    #[test]
    fn what_kubernetes_takes_is_taken() {
        let long = "a".repeat(63);
        for (key, value) in [
            ("team", "ml"),
            ("Team", "ML_2.0-x"),
            ("example.com/cost-centre", ""),
            (long.as_str(), long.as_str()),
        ] {
            assert_eq!(mistakes(key, value), [""; 0], "{key}={value}");
        }
    }

    #[test]
    fn what_kubernetes_refuses_is_told_before() {
        let long = "a".repeat(64);
        for key in [
            "",
            "-a",
            "a-",
            "a b",
            "ü",
            "a/b/c",
            "/a",
            "a/",
            "Ex.com/a",
            long.as_str(),
        ] {
            assert_eq!(mistakes(key, "v").len(), 1, "{key}");
        }
        for value in ["a b", "-a", "a.", "a/b", long.as_str()] {
            assert_eq!(mistakes("k", value).len(), 1, "{value}");
        }
        assert_eq!(mistakes("runner-launch-id", "x").len(), 1);
        assert_eq!(mistakes("a b", "c d").len(), 2);
    }
}
