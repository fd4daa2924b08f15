//! The forms of names, labels and metadata.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;

use super::error::{ApiError, Result};
use super::state::Labels;

/// The form of a name: RFC 1035's, in 63 characters.
/// <https://docs.cloud.google.com/compute/docs/naming-resources#resource-name-format>
pub(super) fn is_name(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    text.len() <= 63
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(inner)
        && !text.ends_with('-')
}

/// Refuses what is no name.
pub(super) fn check(field: &str, text: &str) -> Result<()> {
    if is_name(text) {
        return Ok(());
    }
    Err(ApiError::invalid(
        field,
        text,
        "Must be a match of regex '(?:[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?)'",
    ))
}

/// Reads labels and checks them.
/// <https://docs.cloud.google.com/compute/docs/labeling-resources#requirements>
pub(super) fn labels(field: &str, value: &Value) -> Result<Labels> {
    let mut labels = Labels::new();
    for (key, value) in value.as_object().into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        // Letters of scripts without cases are lower case as far as labels go.
        let fits = |text: &str| {
            text.chars().count() <= 63
                && text.chars().all(|c| {
                    "_-".contains(c) || c.is_numeric() || (c.is_alphabetic() && !c.is_uppercase())
                })
        };
        let begins = key
            .chars()
            .next()
            .is_some_and(|c| c.is_alphabetic() && !c.is_uppercase());
        if !begins || !fits(key) {
            let why = format!(
                "Label key '{key}' violates format constraints. The key must start with a \
                 lowercase character, can only contain lowercase letters, numeric characters, \
                 underscores and dashes. The key can be at most 63 characters long. International \
                 characters are allowed."
            );
            return Err(ApiError::invalid(field, key, &why));
        }
        if !fits(value) {
            let why = format!(
                "Label value '{value}' violates format constraints. The value can only contain \
                 lowercase letters, numeric characters, underscores and dashes. The value can be \
                 at most 63 characters long. International characters are allowed."
            );
            return Err(ApiError::invalid(field, value, &why));
        }
        labels.insert(key.clone(), value.into());
    }
    if labels.len() > 64 {
        return Err(ApiError::invalid(
            field,
            &labels.len().to_string(),
            "A resource can have at most 64 labels.",
        ));
    }
    Ok(labels)
}

/// Reads an instance's metadata and checks it.
/// <https://docs.cloud.google.com/compute/docs/metadata/setting-custom-metadata#limitations>
pub(super) fn metadata(value: &Value) -> Result<BTreeMap<String, String>> {
    const VALUE_LIMIT: usize = 256 * 1024;
    const LIMIT: usize = 512 * 1024;
    let mut metadata = BTreeMap::new();
    for (index, item) in value["items"].as_array().into_iter().flatten().enumerate() {
        let field = format!("resource.metadata.items[{index}]");
        let key = item["key"].as_str().unwrap_or_default();
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if key.is_empty() || key.len() > 128 || !key.bytes().all(fits) {
            let why = "Must be a match of regex '[a-zA-Z0-9-_]{1,128}'";
            return Err(ApiError::invalid(&format!("{field}.key"), key, why));
        }
        let text = item["value"].as_str().unwrap_or_default();
        if text.len() > VALUE_LIMIT {
            return Err(too_large(
                &format!("{field}.value"),
                VALUE_LIMIT,
                text.len(),
            ));
        }
        if metadata.insert(key.to_owned(), text.to_owned()).is_some() {
            let why = format!("Metadata has duplicate key: {key}");
            return Err(ApiError::invalid("resource.metadata", "", &why));
        }
    }
    let size: usize = metadata
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum();
    if size > LIMIT {
        return Err(too_large("resource.metadata", LIMIT, size));
    }
    Ok(metadata)
}

/// FIELD_SIZE_TOO_LARGE of the catalogue of errors.
pub(super) fn too_large(field: &str, most: usize, size: usize) -> ApiError {
    ApiError::bad(format!(
        "Value for field '{field}' is too large: maximum size {most} character(s); actual size \
         {size}."
    ))
}

/// The address of a range like `10.0.0.0/8`.
pub(super) fn range(text: &str) -> Option<IpAddr> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address.parse().ok()?, Some(bits.parse::<u8>().ok()?)),
        None => (text.parse().ok()?, None),
    };
    let most = match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    };
    bits.is_none_or(|bits| bits <= most).then_some(address)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_have_a_form() {
        for (name, expected) in [
            ("cml-1", true),
            ("a", true),
            ("", false),
            ("1a", false),
            ("a-", false),
            ("Aa", false),
            ("a_b", false),
        ] {
            assert_eq!(is_name(name), expected, "{name}");
        }
        assert!(is_name(&"a".repeat(63)) && !is_name(&"a".repeat(64)));
    }

    #[test]
    fn labels_have_a_form() {
        for (labels_, expected) in [
            (json!({"runner-launch": "0-2-0", "empty": ""}), true),
            (json!({"größe": "日本"}), true),
            (json!({"Upper": "x"}), false),
            (json!({"1st": "x"}), false),
            (json!({"": "x"}), false),
            (json!({"k": "0.2.0"}), false),
            (json!({"k": "Upper"}), false),
            (json!({"k": "x".repeat(64)}), false),
        ] {
            assert_eq!(
                labels("resource.labels", &labels_).is_ok(),
                expected,
                "{labels_}"
            );
        }
    }

    #[test]
    fn ranges_are_read() {
        for (text, expected) in [
            ("0.0.0.0/0", true),
            ("10.0.0.1", true),
            ("::/0", true),
            ("10.0.0.0/33", false),
            ("ten", false),
        ] {
            assert_eq!(range(text).is_some(), expected, "{text}");
        }
    }
}
