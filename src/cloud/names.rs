//! What the names of clouds' resources have in common: small letters, digits and hyphens, made of a
//! runner's name and a launch's id.

/// How much of a launch's id is in a name.
const ID_LENGTH: usize = 12;

/// As much of a text as a DNS label takes, in at most so many characters; maybe nothing.
/// <https://www.rfc-editor.org/rfc/rfc1123#page-13>
pub(super) fn label(text: &str, length: usize) -> String {
    let plain: String = text
        .to_ascii_lowercase()
        .chars()
        .map(|c| match c {
            'a'..='z' | '0'..='9' => c,
            _ => '-',
        })
        .collect();
    let cut: String = plain.trim_matches('-').chars().take(length).collect();
    cut.trim_end_matches('-').to_owned()
}

/// The same where a letter must come first; never nothing.
/// <https://www.rfc-editor.org/rfc/rfc1035#section-2.3.1>
pub(super) fn label_from_letter(text: &str, length: usize) -> String {
    let plain = label(text, length);
    match plain.chars().next() {
        Some('a'..='z') => plain,
        Some(_) => label(&format!("r-{plain}"), length),
        None => "runner".into(),
    }
}

/// What the names of a launch's resources end with.
pub(super) fn suffix(launch_id: &str) -> String {
    launch_id.chars().take(ID_LENGTH).collect()
}

/// Whether a text begins with a letter, has at most so many characters, and ends as our names do.
pub(super) fn has_suffix(text: &str, longest: usize) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.len() <= longest
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| plain(c) || c == '-')
        && text.rsplit_once('-').is_some_and(|(before, id)| {
            !before.is_empty() && id.len() == ID_LENGTH && id.chars().all(plain)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_what_can_be_kept_of_a_text() {
        let long = "x".repeat(100);
        for (text, expected, from_letter) in [
            ("cml-abc", "cml-abc", "cml-abc"),
            ("CML_abc.1", "cml-abc-1", "cml-abc-1"),
            ("1st", "1st", "r-1st"),
            ("1234567890", "1234567890", "r-12345678"),
            ("--", "", "runner"),
            ("größe", "gr--e", "gr--e"),
            ("abcdefghi-j", "abcdefghi", "abcdefghi"),
            (&long, "xxxxxxxxxx", "xxxxxxxxxx"),
        ] {
            assert_eq!(label(text, 10), expected);
            assert_eq!(label_from_letter(text, 10), from_letter);
        }
    }

    #[test]
    fn ours_are_told_by_their_end() {
        assert!(has_suffix("x-0a1b2c3d4e5f", 14));
        for text in [
            "",
            "my-group",
            "x-0a1b2c3d4e5",
            "-0a1b2c3d4e5f",
            "X-0a1b2c3d4e5f",
            "1-0a1b2c3d4e5f",
            "xy-0a1b2c3d4e5f",
        ] {
            assert!(!has_suffix(text, 14), "{text}");
        }
    }
}
