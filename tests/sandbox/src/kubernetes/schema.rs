//! Checks bodies against the published schema.
//!
//! The real server drops unknown fields with a warning unless it is asked to be strict; this one is
//! always strict, for whoever sends them expects something that won't happen.
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#field-validation>

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::description::{Schema, definition};
use super::error::{ApiError, Result};
use super::kind::Kind;

/// The definition of `DeleteOptions`.
pub(super) const DELETE_OPTIONS: &str = "apimachinery.pkg.apis.meta.v1.DeleteOptions";
/// The definition of `Eviction`.
pub(super) const EVICTION: &str = "api.policy.v1.Eviction";
/// How many unknown fields are told of.
const MOST_TOLD: usize = 8;

/// Reads an object of a kind and checks it.
pub(super) fn object(kind: Kind, bytes: &[u8]) -> Result<Value> {
    let value: Value = serde_json::from_slice(bytes)
        .map_err(|error| ApiError::bad(format!("the object provided is unrecognized: {error}")))?;
    let version = &value["apiVersion"];
    if value["kind"] != kind.name() || version.as_str() != Some(&kind.api_version()) {
        return Err(ApiError::bad(format!(
            "the API version in the data ({}, {}) does not match the expected API version ({}, {})",
            version.as_str().unwrap_or_default(),
            value["kind"].as_str().unwrap_or_default(),
            kind.api_version(),
            kind.name(),
        )));
    }
    check(&kind.definition(), kind.name(), &value)?;
    Ok(without_nulls(value))
}

/// Checks a value against a definition.
pub(super) fn check(name: &str, kind: &str, value: &Value) -> Result<()> {
    let schema = definition(name).ok_or_else(|| ApiError::by_status(500))?;
    let mut report = Report::default();
    report.walk(schema, value, "", kind);
    if let Some(wrong) = report.wrong {
        return Err(ApiError::undecodable(kind, "v1", &wrong));
    }
    if !report.unknown.is_empty() {
        report.unknown.truncate(MOST_TOLD);
        let words = report.unknown.join(", ");
        let why = format!("strict decoding error: {words}");
        return Err(ApiError::undecodable(kind, "v1", &why));
    }
    Ok(())
}

#[derive(Debug, Default)]
struct Report {
    unknown: Vec<String>,
    wrong: Option<String>,
}

impl Report {
    /// `owner` is the name of the type that has the field.
    fn walk(&mut self, field: &'static Schema, value: &Value, path: &str, owner: &str) {
        if value.is_null() || self.wrong.is_some() {
            return;
        }
        let schema = field.resolve();
        let owner = field.short_name().unwrap_or(owner);
        match value {
            Value::Object(_) if schema.is("object") => {}
            Value::Array(_) if schema.is("array") => {}
            Value::String(text) if schema.is("string") => {
                if schema.format.as_deref() == Some("date-time")
                    && text.parse::<jiff::Timestamp>().is_err()
                {
                    self.wrong = Some(format!(
                        "parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse"
                    ));
                }
                if schema.format.as_deref() == Some("byte") && STANDARD.decode(text).is_err() {
                    self.wrong = Some("illegal base64 data at input byte 0".into());
                }
                return;
            }
            Value::Bool(_) if schema.is("boolean") => return,
            Value::Number(number) if schema.is("integer") || schema.is("number") => {
                let fits = match (schema.format.as_deref(), number.as_i64()) {
                    (Some("int32"), Some(number)) => i32::try_from(number).is_ok(),
                    (Some("int32" | "int64"), None) => false,
                    _ => true,
                };
                if !fits {
                    self.mismatch(&format!("number {number}"), schema, path, owner);
                }
                return;
            }
            other => {
                let word = match other {
                    Value::Object(_) => "object",
                    Value::Array(_) => "array",
                    Value::String(_) => "string",
                    Value::Bool(_) => "bool",
                    _ => "number",
                };
                return self.mismatch(word, schema, path, owner);
            }
        }
        if let Some(items) = value.as_array()
            && let Some(inner) = &schema.items
        {
            for (index, item) in items.iter().enumerate() {
                self.walk(inner, item, &format!("{path}[{index}]"), owner);
            }
        }
        if let Some(object) = value.as_object() {
            self.fields(schema, object, path, owner);
        }
    }

    fn fields(
        &mut self,
        schema: &'static Schema,
        object: &serde_json::Map<String, Value>,
        path: &str,
        owner: &str,
    ) {
        // One that says nothing of its fields takes any.
        if schema.properties.is_empty() && schema.additional_properties.is_none() {
            return;
        }
        for (name, inner) in object {
            let at = match path {
                "" => name.clone(),
                path => format!("{path}.{name}"),
            };
            let known = schema
                .properties
                .get(name)
                .or(schema.additional_properties.as_deref());
            match known {
                Some(property) => self.walk(property, inner, &at, owner),
                None => self.unknown.push(format!("unknown field {at:?}")),
            }
        }
    }

    fn mismatch(&mut self, found: &str, schema: &Schema, path: &str, owner: &str) {
        let wanted = match (
            schema.types.first().map(String::as_str),
            schema.format.as_deref(),
        ) {
            (Some("integer"), Some(format)) => format,
            (Some("boolean"), _) => "bool",
            (Some(kind), _) => kind,
            (None, _) => "object",
        };
        self.wrong = Some(format!(
            "json: cannot unmarshal {found} into Go struct field {owner}.{path} of type {wanted}"
        ));
    }
}

/// Null is as good as nothing.
pub(super) fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(object) => object
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name, without_nulls(value)))
            .collect(),
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}
