//! Checks bodies and query parameters against the description.
//!
//! Names and types are checked as the mapping from JSON to protocol buffers has it:
//! <https://protobuf.dev/programming-guides/json/>.

use std::collections::BTreeMap;

use serde_json::Value;

use super::description::{Description, Method, Schema, description};
use super::error::{ApiError, Result};

/// Whose value it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The caller's, who may not say what only the service can. The service would ignore that;
    /// this sandbox refuses it, for whoever sends it expects something that won't happen.
    Request,
    /// The service's own.
    #[cfg(test)]
    Answer,
}

/// Reads a request's body and checks it.
pub(super) fn body(method_name: &str, method: &Method, bytes: &[u8]) -> Result<Value> {
    let Some(name) = &method.request else {
        return match bytes.iter().all(u8::is_ascii_whitespace) || bytes == b"{}" {
            true => Ok(Value::Null),
            false => Err(ApiError::unreadable(
                "",
                "Request bodies are not allowed for this method.",
            )),
        };
    };
    let value: Value = serde_json::from_slice(bytes).map_err(|error| {
        ApiError::unreadable("", format!("Invalid JSON payload received. {error}"))
    })?;
    let all = description();
    let schema = all.schema(name).ok_or_else(|| ApiError::by_status(500))?;
    if value.as_object().is_none_or(|object| object.is_empty()) {
        return Err(ApiError::missing("resource"));
    }
    check(all, schema, &value, "resource", Side::Request)?;
    for (name, property) in &schema.properties {
        if property.required_by.iter().any(|by| by == method_name)
            && value.get(name).is_none_or(Value::is_null)
        {
            return Err(ApiError::missing(&format!("resource.{name}")));
        }
    }
    Ok(value)
}

/// Checks a value, which lies at `path`.
pub(super) fn check(
    all: &Description,
    schema: &Schema,
    value: &Value,
    path: &str,
    side: Side,
) -> Result<()> {
    if value.is_null() {
        return Ok(());
    }
    if schema.read_only && side == Side::Request && !schema.is_default(value) {
        let shown = value.as_str().map_or_else(|| value.to_string(), Into::into);
        return Err(ApiError::invalid(path, &shown, "The field is output only."));
    }
    let schema = all.resolve(schema);
    match schema.kind.as_deref() {
        Some("object") => object(all, schema, value, path, side),
        Some("array") => {
            let Some(items) = value.as_array() else {
                return Err(wrong(path, "TYPE_MESSAGE", value));
            };
            let Some(inner) = &schema.items else {
                return Ok(());
            };
            for (index, item) in items.iter().enumerate() {
                if item.is_null() {
                    return Err(wrong(&format!("{path}[{index}]"), "TYPE_MESSAGE", item));
                }
                check(all, inner, item, &format!("{path}[{index}]"), side)?;
            }
            Ok(())
        }
        Some("boolean") => match value {
            Value::Bool(_) => Ok(()),
            // Google's own examples put it between quotes.
            Value::String(text) if text == "true" || text == "false" => Ok(()),
            _ => Err(wrong(path, "TYPE_BOOL", value)),
        },
        Some("integer") => number(schema, value, path),
        Some("number") => match value {
            Value::Number(_) => Ok(()),
            Value::String(text) if text.parse::<f64>().is_ok() => Ok(()),
            _ => Err(wrong(path, "TYPE_DOUBLE", value)),
        },
        Some("string") => string(schema, value, path),
        _ => Ok(()),
    }
}

fn object(all: &Description, schema: &Schema, value: &Value, path: &str, side: Side) -> Result<()> {
    let Some(object) = value.as_object() else {
        return Err(wrong(path, "TYPE_MESSAGE", value));
    };
    for (name, inner) in object {
        let at = format!("{path}.{name}");
        match (
            schema.properties.get(name),
            schema.additional_properties.as_deref(),
        ) {
            (Some(property), _) | (None, Some(property)) => {
                check(all, property, inner, &at, side)?;
            }
            (None, None) => {
                let message = format!(
                    "Invalid JSON payload received. Unknown name \"{name}\" at '{path}': Cannot \
                     find field."
                );
                return Err(ApiError::unreadable(path, message));
            }
        }
    }
    Ok(())
}

/// Numbers of 64 bits are strings in JSON, and any number may be one.
fn number(schema: &Schema, value: &Value, path: &str) -> Result<()> {
    let name = match schema.format.as_deref() {
        Some("uint32") => "TYPE_UINT32",
        _ => "TYPE_INT32",
    };
    let number = match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    let bound = |text: &Option<String>| text.as_ref().and_then(|text| text.parse::<i64>().ok());
    let (least, most) = match schema.format.as_deref() {
        Some("uint32") => (0, i64::from(u32::MAX)),
        _ => (i64::from(i32::MIN), i64::from(i32::MAX)),
    };
    let range = bound(&schema.minimum).unwrap_or(least)..=bound(&schema.maximum).unwrap_or(most);
    match number {
        Some(number) if range.contains(&number) => Ok(()),
        Some(number) => Err(ApiError::invalid(
            path,
            &number.to_string(),
            &format!("Must be between {} and {}.", range.start(), range.end()),
        )),
        None => Err(wrong(path, name, value)),
    }
}

fn string(schema: &Schema, value: &Value, path: &str) -> Result<()> {
    let wide = match schema.format.as_deref() {
        Some("int64") => Some(("TYPE_INT64", i128::from(i64::MIN), i128::from(i64::MAX))),
        Some("uint64") => Some(("TYPE_UINT64", 0, i128::from(u64::MAX))),
        _ => None,
    };
    if let Some((name, least, most)) = wide {
        let number = match value {
            Value::Number(number) => number.to_string().parse::<i128>().ok(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        return match number {
            Some(number) if (least..=most).contains(&number) => Ok(()),
            _ => Err(wrong(path, name, value)),
        };
    }
    let Some(text) = value.as_str() else {
        return Err(wrong(path, "TYPE_STRING", value));
    };
    if !schema.words.is_empty() && !schema.words.iter().any(|word| word == text) {
        return Err(ApiError::invalid(
            path,
            text,
            &format!("Must be one of {}.", schema.words.join(", ")),
        ));
    }
    Ok(())
}

fn wrong(path: &str, kind: &str, value: &Value) -> ApiError {
    let message = format!("Invalid value at '{path}' ({kind}), {value}");
    ApiError::unreadable(path, message)
}

/// The query of a request, checked; a parameter that may be repeated has its values in order.
pub(super) fn query(method: &Method, query: &str) -> Result<BTreeMap<String, Vec<String>>> {
    let all = description();
    let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let Some(schema) = method.parameter(all, &name) else {
            let message = format!(
                "Invalid JSON payload received. Unknown name \"{name}\": Cannot bind query \
                 parameter. Field '{name}' could not be found in request message."
            );
            return Err(ApiError::unreadable("", message));
        };
        let json = Value::String(value.clone().into_owned());
        // A parameter is text, so booleans and numbers are, too.
        check(all, schema, &json, &name, Side::Request)?;
        let given = values.entry(name.clone().into_owned()).or_default();
        if !given.is_empty() && !schema.is_repeated() {
            return Err(ApiError::unreadable(
                &name,
                format!("Invalid JSON payload received. Duplicate query parameter '{name}'."),
            ));
        }
        given.push(value.into_owned());
    }
    Ok(values)
}
