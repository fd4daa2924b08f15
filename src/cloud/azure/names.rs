//! What a group and the machine in it are called.

use crate::cloud::Order;

/// How much of the launch's id is in a name.
const ID_LENGTH: usize = 12;
/// How much of the runner's name is: all together stays under a machine's 64 characters.
/// <https://learn.microsoft.com/en-us/azure/azure-resource-manager/management/resource-name-rules>
const NAME_LENGTH: usize = 40;

/// The name of a launch's group, of its machine, and what that calls itself: the runner's as far as
/// all of them allow it, which of the launch's groups it is, and what no other launch has.
pub(super) fn group_name(order: &Order, number: usize) -> String {
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
    let number = match number {
        0 | 1 => String::new(),
        number => format!("-{number}"),
    };
    let id: String = order.launch_id.chars().take(ID_LENGTH).collect();
    format!("{}{number}-{id}", cut.trim_end_matches('-'))
}

/// Whether a text has the form of our groups' names.
pub(super) fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| plain(c) || c == '-')
        && text.rsplit_once('-').is_some_and(|(before, id)| {
            !before.is_empty() && id.len() == ID_LENGTH && id.chars().all(plain)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::StopFlag;

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
                serves: String::new(),
                launch_id: "0a1b2c3d4e5f6g7h8i9j".into(),
                user_data: Vec::new(),
                timeout: std::time::Duration::from_secs(600),
                stop: StopFlag::default(),
            };
            let named = group_name(&order, number);
            assert_eq!(named, expected);
            assert!(is_name(&named), "{named}");
        }
        for text in [
            "",
            "my-group",
            "x-0a1b2c3d4e5",
            "-0a1b2c3d4e5f",
            "X-0a1b2c3d4e5f",
        ] {
            assert!(!is_name(text), "{text}");
        }
    }
}
