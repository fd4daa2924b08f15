//! URLs of resources, full and partial, and their numbers.

use sha2::{Digest, Sha256};

/// The path below `/compute/v1/` of a full URL, or a partial URL as it is.
/// <https://docs.cloud.google.com/compute/docs/naming-resources>
pub(super) fn path(text: &str) -> Option<&str> {
    let path = match text.split_once("://") {
        Some(_) => {
            let (_, path) = text.split_once("/compute/v1/")?;
            path
        }
        None => text.strip_prefix("compute/v1/").unwrap_or(text),
    };
    (!path.is_empty()).then_some(path)
}

/// The words of a URL below its project, if that is `project`.
pub(super) fn words<'a>(text: &'a str, project: &str) -> Option<Vec<&'a str>> {
    let path = path(text)?;
    let words: Vec<&str> = path.split('/').collect();
    match words.as_slice() {
        ["projects", named, rest @ ..] => (*named == project).then(|| rest.to_vec()),
        _ => Some(words),
    }
}

/// A number that always belongs to this name.
pub(super) fn id(text: &str) -> String {
    let hash = Sha256::digest(text.as_bytes());
    let number = hash
        .iter()
        .take(8)
        .fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    // As long as Google's are.
    (number % 9_000_000_000_000_000_000 + 1_000_000_000_000_000_000).to_string()
}
