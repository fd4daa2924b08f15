//! What an instance is called, and how one of ours is told from others.
//!
//! Labels would be the natural mark, but setting them takes a permission that isn't in the
//! specification's list: so the name and the description are the mark.

use crate::cloud::Order;
use crate::cloud::names::{has_suffix, label_from_letter, suffix};

/// What the description of everything ours begins with.
pub(super) const MARK: &str = "runner-launch ";

/// How much of the runner's name is in an instance's: with a hyphen and the launch's part it stays
/// under the limit.
const NAME_LENGTH: usize = 40;
/// <https://docs.cloud.google.com/compute/docs/naming-resources#resource-name-format>
const LONGEST: usize = 63;

/// An instance's name: the runner's as far as Google allows it, and what no other launch has.
pub(super) fn instance_name(order: &Order) -> String {
    let name = label_from_letter(&order.name, NAME_LENGTH);
    format!("{name}-{}", suffix(&order.launch_id))
}

/// Whether a text has the form of our instances' names.
pub(super) fn is_name(text: &str) -> bool {
    has_suffix(text, LONGEST)
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

    fn order(name: &str) -> Order {
        Order {
            name: name.into(),
            ..Order::example()
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
        assert!(!is_name("i-0123456789abcdef0"));
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
