//! What a group and the machine in it are called.

use crate::cloud::Order;
use crate::cloud::names::{has_suffix, label_from_letter, suffix};

/// How much of the runner's name is in a group's: with the rest it stays under the limit.
const NAME_LENGTH: usize = 40;
/// A machine's; a group's may be longer.
/// <https://learn.microsoft.com/en-us/azure/azure-resource-manager/management/resource-name-rules>
const LONGEST: usize = 64;

/// The name of a launch's group, of its machine, and what that calls itself: the runner's as far as
/// all of them allow it, which of the launch's groups it is, and what no other launch has.
pub(super) fn group_name(order: &Order, number: usize) -> String {
    let name = label_from_letter(&order.name, NAME_LENGTH);
    let number = match number {
        0 | 1 => String::new(),
        number => format!("-{number}"),
    };
    format!("{name}{number}-{}", suffix(&order.launch_id))
}

/// Whether a text has the form of our groups' names.
pub(super) fn is_name(text: &str) -> bool {
    has_suffix(text, LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_azures_rules() {
        let long = "x".repeat(100);
        let cut = format!("{}-0a1b2c3d4e5f", "x".repeat(40));
        let second = format!("{}-2-0a1b2c3d4e5f", "x".repeat(40));
        let cases = [
            ("cml-abc", 1, "cml-abc-0a1b2c3d4e5f"),
            ("CML_abc.1", 1, "cml-abc-1-0a1b2c3d4e5f"),
            ("1st", 3, "r-1st-3-0a1b2c3d4e5f"),
            ("--", 1, "runner-0a1b2c3d4e5f"),
            ("größe", 1, "gr--e-0a1b2c3d4e5f"),
            (&long, 1, &cut),
            (&long, 2, &second),
        ];
        for (name, number, expected) in cases {
            let order = Order {
                name: name.into(),
                ..Order::example()
            };
            let named = group_name(&order, number);
            assert_eq!(named, expected);
            assert!(is_name(&named), "{named}");
        }
        assert!(!is_name("my-group"));
    }
}
