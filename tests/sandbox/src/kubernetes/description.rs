//! What Kubernetes publishes of its API's types: the OpenAPI schema, reduced by
//! `tests/sandbox/descriptions/kubernetes.py`.
//! <https://kubernetes.io/docs/concepts/overview/kubernetes-api/#openapi-interface-definition>

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

/// A type: of an object or of a field.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Schema {
    /// `string`, `integer`, `number`, `boolean`, `array`, `object`; none with a reference.
    pub(super) types: Vec<String>,
    pub(super) format: Option<String>,
    #[serde(rename = "ref")]
    pub(super) reference: Option<String>,
    pub(super) items: Option<Box<Schema>>,
    pub(super) additional_properties: Option<Box<Schema>>,
    pub(super) properties: BTreeMap<String, Schema>,
    pub(super) required: Vec<String>,
    /// By which field the entries of a list are told apart in a strategic merge patch.
    pub(super) merge_key: Option<String>,
    /// `merge`, `retainKeys`, `replace`.
    pub(super) strategy: Vec<String>,
}

static DESCRIPTION: LazyLock<BTreeMap<String, Schema>> = LazyLock::new(|| {
    // A test reads it, so it can be read.
    serde_json::from_str(include_str!("../../descriptions/kubernetes.v1.37.json"))
        .unwrap_or_default()
});

/// A definition by its name.
pub(super) fn definition(name: &str) -> Option<&'static Schema> {
    DESCRIPTION.get(name)
}

impl Schema {
    /// The schema itself, or the one that it refers to.
    pub(super) fn resolve(&'static self) -> &'static Schema {
        match &self.reference {
            Some(name) => definition(name).unwrap_or(self),
            None => self,
        }
    }

    /// The type's name in messages: `JobSpec`.
    pub(super) fn short_name(&self) -> Option<&str> {
        self.reference.as_ref()?.rsplit('.').next()
    }

    pub(super) fn is(&self, kind: &str) -> bool {
        self.types.iter().any(|known| known == kind)
    }
}
