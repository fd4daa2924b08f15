//! Names in the form of a UUID, for services that take nothing else.

use ring::digest::{Context, SHA256};

/// A UUID that depends on the parts alone: random bits of version 4 in form, a hash in truth, so
/// that whoever has the same parts comes to the same name.
/// <https://datatracker.ietf.org/doc/html/rfc9562#section-5.8>
pub fn of(parts: &[&str]) -> String {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part.as_bytes());
        // So that "a" and "bc" are not "ab" and "c".
        context.update(&[0]);
    }
    let digest = context.finish();
    let mut hex: String = digest
        .as_ref()
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    hex.replace_range(12..13, "4");
    hex.replace_range(16..17, "8");
    let groups = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    groups.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_depend_on_their_parts_and_have_the_form() {
        let id = of(&["launch", "3", "insert"]);
        assert_eq!(id, of(&["launch", "3", "insert"]));
        assert_ne!(id, of(&["launch", "3i", "nsert"]));
        let groups: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!(groups, [8, 4, 4, 4, 12], "{id}");
        assert!(id.chars().all(|c| c == '-' || c.is_ascii_hexdigit()));
        assert_eq!((&id[14..15], &id[19..20]), ("4", "8"));
    }
}
