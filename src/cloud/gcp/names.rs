//! What an instance is called, and how one of ours is told from others.
//!
//! Labels would be the natural mark, but setting them takes a permission that isn't in the
//! specification's list: so the name and the description are the mark.

use crate::cloud::Order;

/// What the description of everything ours begins with.
pub(super) const MARK: &str = "runner-launch ";

/// How much of the launch's id is in a name.
const ID_LENGTH: usize = 12;
/// How much of the runner's name is: 40, a hyphen and the id's part stay under the limit of 63.
/// <https://docs.cloud.google.com/compute/docs/naming-resources#resource-name-format>
const NAME_LENGTH: usize = 40;

/// An instance's name: the runner's as far as Google allows it, and what no other launch has.
pub(super) fn instance_name(order: &Order) -> String {
    let plain: String = order
        .name
        .to_ascii_lowercase()
        .chars()
        .map(|c| match c {
            'a'..='z' | '0'..='9' => c,
            _ => '-',
        })
        .collect();
    let plain = plain.trim_matches('-');
    let first = match plain.chars().next() {
        Some('a'..='z') => "",
        Some(_) => "r-",
        None => "runner",
    };
    let cut: String = format!("{first}{plain}")
        .chars()
        .take(NAME_LENGTH)
        .collect();
    format!("{}-{}", cut.trim_end_matches('-'), suffix(&order.launch_id))
}

/// What the names of a launch's instances end with.
pub(super) fn suffix(launch_id: &str) -> String {
    launch_id.chars().take(ID_LENGTH).collect()
}

/// Whether a text has the form of our instances' names.
pub(super) fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.len() <= 63
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| plain(c) || c == '-')
        && text.rsplit_once('-').is_some_and(|(before, id)| {
            !before.is_empty() && id.len() == ID_LENGTH && id.chars().all(plain)
        })
}

/// An instance's description.
pub(super) fn description(order: &Order) -> String {
    let Order {
        launch_id,
        name,
        serves,
        ..
    } = order;
    format!("{MARK}{launch_id}: {name} for {serves}")
}

/// What a description of ours says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Described<'a> {
    pub(super) launch_id: &'a str,
    /// The runner's name.
    pub(super) name: &'a str,
    pub(super) serves: &'a str,
}

/// Reads the description of an instance of this name; `None`: it isn't ours.
pub(super) fn described<'a>(instance_name: &str, description: &'a str) -> Option<Described<'a>> {
    let (launch_id, rest) = description.strip_prefix(MARK)?.split_once(": ")?;
    // Addresses have no spaces, names may have.
    let (name, serves) = rest.rsplit_once(" for ")?;
    let ours =
        is_name(instance_name) && instance_name.ends_with(&format!("-{}", suffix(launch_id)));
    ours.then_some(Described {
        launch_id,
        name,
        serves,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::StopFlag;

    fn order(name: &str) -> Order {
        Order {
            name: name.into(),
            serves: "https://github.com/org/repo".into(),
            launch_id: "0a1b2c3d4e5f6g7h8i9j".into(),
            user_data: Vec::new(),
            timeout: std::time::Duration::from_secs(600),
            stop: StopFlag::default(),
        }
    }

    #[test]
    fn names_keep_googles_rules() {
        let long = "x".repeat(100);
        let cut = format!("{}-0a1b2c3d4e5f", "x".repeat(40));
        let cases = [
            ("cml-abc", "cml-abc-0a1b2c3d4e5f"),
            ("CML_abc.1", "cml-abc-1-0a1b2c3d4e5f"),
            ("1st", "r-1st-0a1b2c3d4e5f"),
            ("--", "runner-0a1b2c3d4e5f"),
            ("größe", "gr--e-0a1b2c3d4e5f"),
            (&long, &cut),
        ];
        for (name, expected) in cases {
            let named = instance_name(&order(name));
            assert_eq!(named, expected);
            assert!(is_name(&named), "{named}");
        }
        for text in [
            "",
            "i-0123456789abcdef0",
            "x-0a1b2c3d4e5",
            "-0a1b2c3d4e5f",
            "X-0a1b2c3d4e5f",
        ] {
            assert!(!is_name(text), "{text}");
        }
    }

    #[test]
    fn name_and_description_together_are_the_mark() {
        let order = order("my runner for two");
        let text = description(&order);
        let name = instance_name(&order);
        assert_eq!(
            described(&name, &text),
            Some(Described {
                launch_id: &order.launch_id,
                name: "my runner for two",
                serves: "https://github.com/org/repo",
            })
        );
        for (name, text) in [
            ("other-aaaaaaaaaaaa", text.as_str()),
            (name.as_str(), ""),
            (name.as_str(), "runner-launch is good"),
            (name.as_str(), "my own 0a1b2c3d4e5f: x for y"),
        ] {
            assert_eq!(described(name, text), None, "{name} {text}");
        }
    }
}
