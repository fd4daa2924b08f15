//! What names, labels and annotations may look like.
//! <https://kubernetes.io/docs/concepts/overview/working-with-objects/names/>
//! <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set>

/// All annotations together, in bytes.
pub(super) const ANNOTATIONS_LIMIT: usize = 256 << 10;

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
    characters, '-' or '.', and must start and end with an alphanumeric character (e.g. \
    'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters \
    or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', \
    regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const KEY: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must \
    start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex \
    used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, \
    '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or \
    'my_value',  or '12345', regex used for validation is \
    '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

fn is_label(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.chars().all(|c| inner(c) || c == '-') && text.starts_with(inner) && text.ends_with(inner)
}

fn is_word(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric();
    text.chars().all(|c| inner(c) || "-_.".contains(c))
        && text.starts_with(inner)
        && text.ends_with(inner)
}

/// What is wrong with a name of up to 63 characters without dots.
pub(super) fn label(text: &str) -> Option<String> {
    if text.len() > 63 {
        return Some("must be no more than 63 bytes".into());
    }
    (!is_label(text)).then(|| LABEL.into())
}

/// What is wrong with a name of most objects.
pub(super) fn subdomain(text: &str) -> Option<String> {
    if text.len() > 253 {
        return Some("must be no more than 253 bytes".into());
    }
    (!text.split('.').all(is_label)).then(|| SUBDOMAIN.into())
}

/// What is wrong with the key of a label or annotation.
pub(super) fn label_key(key: &str) -> Option<String> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if let Some(prefix) = prefix {
        if prefix.is_empty() {
            return Some("prefix part must be non-empty".into());
        }
        if let Some(complaint) = subdomain(prefix) {
            return Some(format!("prefix part {complaint}"));
        }
    }
    if name.is_empty() {
        return Some("name part must be non-empty".into());
    }
    if name.len() > 63 {
        return Some("name part must be no more than 63 bytes".into());
    }
    (!is_word(name)).then(|| KEY.into())
}

/// What is wrong with the value of a label.
pub(super) fn label_value(value: &str) -> Option<String> {
    if value.len() > 63 {
        return Some("must be no more than 63 bytes".into());
    }
    (!value.is_empty() && !is_word(value)).then(|| VALUE.into())
}

/// What is wrong with a key of a Secret, which is a file's name when it is mounted.
/// <https://kubernetes.io/docs/concepts/configuration/secret/#restriction-names-data>
pub(super) fn data_key(key: &str) -> Option<String> {
    if key.len() > 253 {
        return Some("must be no more than 253 bytes".into());
    }
    if key == "." || key == ".." || key.starts_with("..") {
        return Some("must not start with '..'".into());
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    (key.is_empty() || !key.chars().all(fits)).then(|| {
        "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. \
         'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is \
         '[-._a-zA-Z0-9]+')"
            .into()
    })
}
