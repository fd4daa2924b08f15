//! What Google publishes of Compute Engine's API: the discovery document, reduced by
//! `tests/sandbox/descriptions/compute.py`.
//! <https://compute.googleapis.com/$discovery/rest?version=v1>

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::Value;

/// The methods and schemas that the sandbox has.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Description {
    /// Query parameters that every method takes.
    parameters: BTreeMap<String, Schema>,
    methods: BTreeMap<String, Method>,
    schemas: BTreeMap<String, Schema>,
}

/// A method.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Method {
    http_method: String,
    path: String,
    parameters: BTreeMap<String, Schema>,
    /// The name of the body's schema.
    pub(super) request: Option<String>,
    /// The name of the answer's schema.
    pub(super) response: Option<String>,
    /// A token needs one of these.
    pub(super) scopes: Vec<String>,
}

/// A type: of a body, of a property, or of a parameter.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Schema {
    /// `string`, `integer`, `number`, `boolean`, `array`, `object` or `any`; none with a reference.
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) format: Option<String>,
    #[serde(rename = "$ref")]
    pub(super) reference: Option<String>,
    #[serde(rename = "enum", default)]
    pub(super) words: Vec<String>,
    pub(super) items: Option<Box<Schema>>,
    pub(super) additional_properties: Option<Box<Schema>>,
    #[serde(default)]
    pub(super) properties: BTreeMap<String, Schema>,
    pub(super) default: Option<String>,
    /// Only the service sets it.
    #[serde(default)]
    pub(super) read_only: bool,
    /// The methods that can't do without it.
    #[serde(default)]
    pub(super) required_by: Vec<String>,
    location: Option<String>,
    #[serde(default)]
    repeated: bool,
    pub(super) minimum: Option<String>,
    pub(super) maximum: Option<String>,
}

/// A request's method with the values in its path.
#[derive(Debug)]
pub(super) struct Route {
    /// `instances.insert`.
    pub(super) name: &'static str,
    pub(super) method: &'static Method,
    pub(super) path: BTreeMap<&'static str, String>,
}

static DESCRIPTION: LazyLock<Description> = LazyLock::new(|| {
    // A test reads it, so it can be read.
    serde_json::from_str(include_str!("../../descriptions/compute.v1.json")).unwrap_or_default()
});

/// The one description.
pub(super) fn description() -> &'static Description {
    &DESCRIPTION
}

impl Description {
    pub(super) fn schema(&self, name: &str) -> Option<&Schema> {
        self.schemas.get(name)
    }

    /// The schema itself, or the one that it refers to.
    pub(super) fn resolve<'a>(&'a self, schema: &'a Schema) -> &'a Schema {
        match &schema.reference {
            Some(name) => self.schemas.get(name).unwrap_or(schema),
            None => schema,
        }
    }

    /// The method that a request asks for; the path comes without `/compute/v1/`.
    pub(super) fn route(&'static self, http_method: &str, path: &str) -> Option<Route> {
        let words: Vec<&str> = path.split('/').collect();
        self.methods.iter().find_map(|(name, method)| {
            if method.http_method != http_method {
                return None;
            }
            let template: Vec<&str> = method.path.split('/').collect();
            if template.len() != words.len() {
                return None;
            }
            let mut values = BTreeMap::new();
            for (part, word) in template.into_iter().zip(&words) {
                match part.strip_prefix('{').and_then(|p| p.strip_suffix('}')) {
                    Some(_) if word.is_empty() => return None,
                    Some(parameter) => {
                        values.insert(parameter, percent_decoded(word));
                    }
                    None if part == *word => {}
                    None => return None,
                }
            }
            Some(Route {
                name,
                method,
                path: values,
            })
        })
    }

    #[cfg(test)]
    pub(super) fn method(&self, name: &str) -> Option<&Method> {
        self.methods.get(name)
    }
}

impl Method {
    /// A query parameter of this method.
    pub(super) fn parameter<'a>(&'a self, all: &'a Description, name: &str) -> Option<&'a Schema> {
        let own = self
            .parameters
            .get(name)
            .filter(|schema| schema.location.as_deref() == Some("query"));
        own.or_else(|| all.parameters.get(name))
    }
}

impl Schema {
    pub(super) fn is_repeated(&self) -> bool {
        self.repeated
    }

    /// Whether a value is what the service itself would put here.
    pub(super) fn is_default(&self, value: &Value) -> bool {
        self.default.is_some() && self.default.as_deref() == value.as_str()
    }
}

fn percent_decoded(word: &str) -> String {
    // `+` is itself in a path.
    let word = word.replace('+', "%2B");
    url::form_urlencoded::parse(format!("x={word}").as_bytes())
        .next()
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
}
