//! Tags: Azure's rules, and the ones of ours.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::cloud::{Order, TAG_LAUNCH, TAG_OWNER, TAG_SERVES};

/// The tag that holds the runner's name.
pub(super) const TAG_RUNNER: &str = "runner-launch-name";
/// The tag that holds when the group was made: groups don't tell it.
pub(super) const TAG_MADE: &str = "runner-launch-time";

const OURS: [&str; 5] = [TAG_OWNER, TAG_LAUNCH, TAG_SERVES, TAG_RUNNER, TAG_MADE];

/// The most tags that a resource takes, and how long they may be.
/// <https://learn.microsoft.com/en-us/azure/azure-resource-manager/management/tag-resources#limitations>
const MOST: usize = 50;
const LONGEST_NAME: usize = 512;
const LONGEST_VALUE: usize = 256;
const FORBIDDEN: [char; 7] = ['<', '>', '%', '&', '\\', '?', '/'];

/// What only Azure's own tags begin with.
/// <https://learn.microsoft.com/en-us/rest/api/resources/tags/create-or-update>
const RESERVED: [&str; 3] = ["microsoft", "azure", "windows"];

/// The user's tags, checked; complaints start with the option's name.
pub(super) fn read(
    metadata: &[(String, String)],
    mistakes: &mut Vec<String>,
) -> BTreeMap<String, String> {
    let option = "--cloud-metadata";
    let mut tags: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in metadata {
        let same = |known: &str| known.eq_ignore_ascii_case(name);
        let lower = name.to_ascii_lowercase();
        if name.is_empty() || name.chars().count() > LONGEST_NAME {
            mistakes.push(format!(
                "{option}: the names of Azure's tags have 1 to {LONGEST_NAME} characters: `{name}`"
            ));
        } else if name.contains(FORBIDDEN) || name.contains(char::is_control) {
            mistakes.push(format!(
                "{option}: the names of Azure's tags hold none of {}: `{name}`",
                FORBIDDEN.map(String::from).join(" ")
            ));
        } else if let Some(reserved) = RESERVED.iter().find(|start| lower.starts_with(**start)) {
            mistakes.push(format!(
                "{option}: Azure keeps tags that begin with `{reserved}` to itself: `{name}`"
            ));
        } else if OURS.iter().any(|ours| same(ours)) {
            mistakes.push(format!("{option}: the tag `{name}` is this program's own"));
        } else if tags.keys().any(|known| same(known)) {
            mistakes.push(format!(
                "{option}: to Azure, names of tags that differ by case are the same: `{name}`"
            ));
        }
        if value.chars().count() > LONGEST_VALUE {
            mistakes.push(format!(
                "{option}: the value of `{name}` is longer than {LONGEST_VALUE} characters"
            ));
        }
        tags.insert(name.clone(), value.clone());
    }
    if tags.len() > MOST - OURS.len() {
        mistakes.push(format!(
            "{option}: Azure takes at most {} tags of yours, not {}",
            MOST - OURS.len(),
            tags.len()
        ));
    }
    tags
}

/// The user's tags, with ours for one launch.
pub(super) fn with_ours(
    users: &BTreeMap<String, String>,
    order: &Order,
    now: Timestamp,
) -> BTreeMap<String, String> {
    let short = |text: &str| text.chars().take(LONGEST_VALUE).collect::<String>();
    // To the second: that is all that is asked of it, and easier to read.
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let mut tags = users.clone();
    tags.extend([
        (TAG_OWNER.to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        (TAG_LAUNCH.to_owned(), order.launch_id.clone()),
        (TAG_SERVES.to_owned(), short(&order.serves)),
        (TAG_RUNNER.to_owned(), short(&order.name)),
        (TAG_MADE.to_owned(), now.to_string()),
    ]);
    tags
}

/// The value of a tag, whose name Azure takes in any case and may give back in another.
pub(super) fn get<'a>(tags: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    let mut all = tags.iter();
    let found = all.find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.as_str())
}

/// Whether something carries this program's tags.
pub(super) fn are_ours(tags: &BTreeMap<String, String>) -> bool {
    get(tags, TAG_OWNER).is_some() && get(tags, TAG_LAUNCH).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(tags: &[(&str, &str)]) -> Vec<String> {
        let owned: Vec<(String, String)> = tags
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let mut mistakes = Vec::new();
        read(&owned, &mut mistakes);
        mistakes
    }

    #[test]
    fn azures_rules_are_checked() {
        let (name, value) = ("n".repeat(512), "v".repeat(256));
        let good = [
            ("team", "ml"),
            ("cost centre", "1/2 & more"),
            (&name, &value),
        ];
        assert_eq!(mistakes(&good), [""; 0]);
        let (long_name, long_value) = ("n".repeat(513), "v".repeat(257));
        let bad = [
            ("", "x", "1 to 512 characters"),
            (&long_name, "x", "1 to 512 characters"),
            ("a/b", "x", "hold none of < > % & \\ ? /: `a/b`"),
            ("Azure-thing", "x", "begin with `azure` to itself"),
            ("microsoft", "x", "begin with `microsoft` to itself"),
            ("Runner-Launch", "x", "this program's own"),
            (TAG_MADE, "x", "this program's own"),
            ("a", &long_value, "the value of `a` is longer than 256"),
        ];
        for (name, value, expected) in bad {
            let mistakes = mistakes(&[(name, value)]);
            assert_eq!(mistakes.len(), 1, "{mistakes:?}");
            assert!(mistakes[0].starts_with("--cloud-metadata: "));
            assert!(mistakes[0].contains(expected), "{}", mistakes[0]);
        }
        let twice = mistakes(&[("Team", "a"), ("team", "b")]);
        assert!(twice[0].contains("differ by case"), "{twice:?}");
    }

    #[test]
    fn there_are_only_so_many_tags() {
        let tags = |count: usize| -> Vec<(String, String)> {
            (0..count)
                .map(|n| (format!("k{n}"), String::new()))
                .collect()
        };
        for (count, expected) in [(45, 0), (46, 1)] {
            let mut mistakes = Vec::new();
            read(&tags(count), &mut mistakes);
            assert_eq!(mistakes.len(), expected, "{mistakes:?}");
        }
    }

    #[test]
    fn our_own_tags_are_known_again() {
        let order = Order {
            name: "n".repeat(300),
            launch_id: "abc".into(),
            ..Order::example()
        };
        let now: Timestamp = "2026-01-01T00:00:00.5Z".parse().unwrap();
        let users = BTreeMap::from([("team".to_owned(), "ml".to_owned())]);
        let tags = with_ours(&users, &order, now);
        assert_eq!(tags.len(), 6);
        assert!(are_ours(&tags));
        assert!(!are_ours(&users));
        assert_eq!(get(&tags, "RUNNER-LAUNCH-ID"), Some("abc"));
        assert_eq!(get(&tags, TAG_MADE), Some("2026-01-01T00:00:00Z"));
        assert_eq!(get(&tags, TAG_RUNNER).map(str::len), Some(256));
    }
}
