//! The shapes that all of EC2's answers share.

use serde::Deserialize;

/// A list: `<xSet><item>…</item><item>…</item></xSet>`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Set<T> {
    #[serde(default = "Vec::new", rename = "item")]
    pub(super) items: Vec<T>,
}

impl<T> Default for Set<T> {
    fn default() -> Self {
        Self { items: Vec::new() }
    }
}

/// An answer of which nothing is needed.
#[derive(Debug, Deserialize)]
pub(super) struct Nothing {}

/// An empty element means that there is no value.
pub(super) fn filled(value: Option<String>) -> Option<String> {
    value.filter(|value| !value.is_empty())
}
