//! Labels: Google's rules, and the ones of ours.

use std::collections::BTreeMap;

use crate::cloud::{TAG_LAUNCH, TAG_OWNER};

/// The most labels that a resource takes.
/// <https://docs.cloud.google.com/compute/docs/labeling-resources#requirements>
const MOST: usize = 64;
const LONGEST: usize = 63;
const LONGEST_BYTES: usize = 128;

/// The user's labels, checked; complaints start with the option's name.
pub(super) fn read(
    metadata: &[(String, String)],
    mistakes: &mut Vec<String>,
) -> BTreeMap<String, String> {
    let option = "--cloud-metadata";
    let ours = [TAG_OWNER, TAG_LAUNCH];
    let mut labels = BTreeMap::new();
    for (key, value) in metadata {
        let letter = |c: char| c.is_alphabetic() && !c.is_uppercase();
        if key.is_empty() || !key.starts_with(letter) {
            mistakes.push(format!(
                "{option}: Google's labels begin with a lower-case letter: `{key}`"
            ));
        } else if !is_plain(key) {
            mistakes.push(format!(
                "{option}: Google's labels are lower-case letters, digits, `_` and `-`: `{key}`"
            ));
        }
        if !is_plain(value) {
            mistakes.push(format!(
                "{option}: the values of Google's labels are lower-case letters, digits, `_` and \
                 `-`, and that of `{key}` isn't: `{value}`"
            ));
        }
        for (what, text) in [("key", key), ("value", value)] {
            if text.chars().count() > LONGEST || text.len() > LONGEST_BYTES {
                mistakes.push(format!(
                    "{option}: the {what} of `{key}` is longer than {LONGEST} characters or \
                     {LONGEST_BYTES} bytes"
                ));
            }
        }
        if ours.contains(&key.as_str()) {
            mistakes.push(format!("{option}: the key `{key}` is this program's own"));
        }
        labels.insert(key.clone(), value.clone());
    }
    if labels.len() > MOST - ours.len() {
        mistakes.push(format!(
            "{option}: Google takes at most {} labels of yours, not {}",
            MOST - ours.len(),
            labels.len()
        ));
    }
    labels
}

/// Lower-case letters of any language, digits, underscores and hyphens.
fn is_plain(text: &str) -> bool {
    text.chars()
        .all(|c| (c.is_alphanumeric() && !c.is_uppercase()) || c == '_' || c == '-')
}

/// The user's labels, with ours for one launch.
pub(super) fn with_ours(
    users: &BTreeMap<String, String>,
    launch_id: &str,
) -> BTreeMap<String, String> {
    let version = env!("CARGO_PKG_VERSION").replace(['.', '+'], "-");
    let mut labels = users.clone();
    labels.insert(TAG_OWNER.to_owned(), version.to_ascii_lowercase());
    labels.insert(TAG_LAUNCH.to_owned(), launch_id.to_owned());
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(labels: &[(&str, &str)]) -> Vec<String> {
        let owned: Vec<(String, String)> = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let mut mistakes = Vec::new();
        read(&owned, &mut mistakes);
        mistakes
    }

    #[test]
    fn googles_rules_are_checked() {
        let long = "x".repeat(63);
        let good = [
            ("team", "ml-1_2"),
            ("a", ""),
            ("größe", "größer"),
            (&long, &long),
        ];
        assert_eq!(mistakes(&good), [""; 0]);
        let too_long = "x".repeat(64);
        let bad = [
            ("Team", "x", "begin with a lower-case letter: `Team`"),
            ("1a", "x", "begin with a lower-case letter: `1a`"),
            ("", "x", "begin with a lower-case letter: ``"),
            ("a.b", "x", "lower-case letters, digits, `_` and `-`: `a.b`"),
            ("a", "X y", "that of `a` isn't: `X y`"),
            (&too_long, "", "the key of `xxx"),
            ("a", &too_long, "the value of `a` is longer"),
            (TAG_OWNER, "1", "is this program's own"),
            (TAG_LAUNCH, "1", "is this program's own"),
        ];
        for (key, value, expected) in bad {
            let mistakes = mistakes(&[(key, value)]);
            assert_eq!(mistakes.len(), 1, "{mistakes:?}");
            assert!(mistakes[0].starts_with("--cloud-metadata: "));
            assert!(mistakes[0].contains(expected), "{}", mistakes[0]);
        }
    }

    #[test]
    fn there_are_only_so_many_labels() {
        let labels = |count: usize| -> Vec<(String, String)> {
            (0..count)
                .map(|n| (format!("k{n}"), String::new()))
                .collect()
        };
        for (count, expected) in [(62, 0), (63, 1)] {
            let mut mistakes = Vec::new();
            read(&labels(count), &mut mistakes);
            assert_eq!(mistakes.len(), expected, "{mistakes:?}");
        }
    }

    #[test]
    fn our_own_labels_keep_the_rules() {
        let labels = with_ours(&BTreeMap::from([("team".into(), "ml".into())]), "abc123");
        assert_eq!(labels.len(), 3);
        assert_eq!(labels[TAG_LAUNCH], "abc123");
        assert!(
            labels
                .iter()
                .all(|(key, value)| is_plain(key) && is_plain(value))
        );
    }
}
