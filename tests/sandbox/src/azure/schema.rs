//! Checks bodies against what Microsoft publishes of them: the description that
//! `tests/sandbox/descriptions/resource_manager.py` reduces.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::error::ApiError;

/// A property.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Field {
    /// `string`, `integer`, `number`, `boolean`, `array`, `map`, `object` or `any`.
    #[serde(rename = "type")]
    kind: String,
    /// An object's type, unless its fields are here.
    model: Option<String>,
    fields: BTreeMap<String, Field>,
    /// Of an array or a map.
    items: Option<Box<Field>>,
    #[serde(rename = "enum")]
    words: Vec<String>,
    required: bool,
    /// Only the service sets it.
    read_only: bool,
}

type Fields = BTreeMap<String, Field>;

/// By name: `compute.VirtualMachine`.
static TYPES: LazyLock<BTreeMap<String, Fields>> = LazyLock::new(|| {
    // A test reads it, so it can be read.
    serde_json::from_str(include_str!("../../descriptions/resource_manager.json"))
        .unwrap_or_default()
});

/// What says nothing of its kind may be anything.
static ANY: LazyLock<Field> = LazyLock::new(Field::default);

/// Whose value it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The caller's, who may not say what only the service can. The service would ignore that; this
    /// sandbox refuses it, for whoever sends it expects something that won't happen.
    Request,
    /// The service's own.
    #[cfg(test)]
    Answer,
}

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Flaw {
    Unknown {
        path: String,
        name: String,
        owner: String,
    },
    Wrong {
        path: String,
        value: String,
        wanted: String,
    },
    Missing {
        path: String,
        name: String,
    },
}

impl Flaw {
    /// In the words of the library that all providers read JSON with.
    fn words(&self) -> String {
        match self {
            Flaw::Unknown { path, name, owner } => format!(
                "Could not find member '{name}' on object of type '{owner}'. Path '{path}', line 1, \
                 position 1."
            ),
            Flaw::Wrong {
                path,
                value,
                wanted,
            } => format!(
                "Error converting value {value} to type '{wanted}'. Path '{path}', line 1, position \
                 1."
            ),
            Flaw::Missing { path, name } => format!(
                "Required property '{name}' not found in JSON. Path '{path}', line 1, position 1."
            ),
        }
    }

    fn path(&self) -> &str {
        match self {
            Flaw::Unknown { path, .. } | Flaw::Wrong { path, .. } | Flaw::Missing { path, .. } => {
                path
            }
        }
    }

    /// As the provider says it.
    fn error(&self, provider: &str) -> ApiError {
        let words = self.words();
        match (provider, self) {
            // <https://github.com/kubernetes-sigs/azuredisk-csi-driver/issues/3045>
            ("compute", Flaw::Unknown { path, .. } | Flaw::Wrong { path, .. }) => {
                ApiError::bad("BadRequest", words).target(format!("vm.{path}"))
            }
            // <https://github.com/JeffBow/AzurePowerShell/issues/10>
            ("compute", Flaw::Missing { path, name }) => ApiError::parameter(
                &joined(path, name),
                format!("Required parameter '{name}' is missing (null)."),
            ),
            ("network", _) => ApiError::bad("InvalidRequestFormat", "Cannot parse the request.")
                .detail("InvalidJson", words),
            // <https://github.com/Azure/azure-sdk-for-net/issues/3487>
            _ => ApiError::bad(
                "InvalidRequestContent",
                format!(
                    "The request content was invalid and could not be deserialized: '{words}'."
                ),
            )
            .target(self.path()),
        }
    }
}

/// Reads a body and checks it as `compute.VirtualMachine`, say.
///
/// # Errors
/// The provider's words about what is wrong.
pub(super) fn body(name: &str, bytes: &[u8]) -> Result<Value, ApiError> {
    let provider = name.split('.').next().unwrap_or_default();
    let value: Value = serde_json::from_slice(bytes).map_err(|error| {
        ApiError::bad(
            "InvalidRequestContent",
            format!("The request content was invalid and could not be deserialized: '{error}'."),
        )
    })?;
    match check(name, &value, Side::Request) {
        Ok(()) => Ok(value),
        Err(flaw) => Err(flaw.error(provider)),
    }
}

/// Checks a value.
///
/// # Errors
/// The first flaw.
pub(super) fn check(name: &str, value: &Value, side: Side) -> Result<(), Flaw> {
    let owner = name.split('.').next_back().unwrap_or_default();
    match (TYPES.get(name), value.as_object()) {
        (Some(fields), Some(object)) => check_object(fields, object, "", owner, side),
        _ => Err(wrong("", value, owner)),
    }
}

fn check_object(
    fields: &Fields,
    object: &Map<String, Value>,
    path: &str,
    owner: &str,
    side: Side,
) -> Result<(), Flaw> {
    for (name, value) in object {
        let at = joined(path, name);
        let Some(field) = fields.get(name) else {
            return Err(Flaw::Unknown {
                path: at,
                name: name.clone(),
                owner: owner.into(),
            });
        };
        if field.read_only && side == Side::Request {
            return Err(wrong(&at, value, "ReadOnly"));
        }
        check_field(field, value, &at, name, side)?;
    }
    let absent = |name: &String| object.get(name).is_none_or(Value::is_null);
    match fields
        .iter()
        .find(|(name, field)| field.required && !field.read_only && absent(name))
    {
        Some((name, _)) => Err(Flaw::Missing {
            path: path.into(),
            name: name.clone(),
        }),
        None => Ok(()),
    }
}

fn check_field(
    field: &Field,
    value: &Value,
    path: &str,
    name: &str,
    side: Side,
) -> Result<(), Flaw> {
    if value.is_null() {
        return Ok(());
    }
    match (field.kind.as_str(), value) {
        ("" | "any", _) | ("boolean", Value::Bool(_)) | ("number", Value::Number(_)) => Ok(()),
        ("integer", Value::Number(number)) if number.is_i64() || number.is_u64() => Ok(()),
        ("string", Value::String(text)) => {
            match field.words.is_empty() || field.words.contains(text) {
                true => Ok(()),
                false => Err(wrong(path, value, &field.words.join("|"))),
            }
        }
        ("array", Value::Array(items)) => items.iter().enumerate().try_for_each(|(index, item)| {
            let inner = field.items.as_deref().unwrap_or(&ANY);
            check_field(inner, item, &format!("{path}[{index}]"), name, side)
        }),
        ("map", Value::Object(items)) => items.iter().try_for_each(|(key, item)| {
            let inner = field.items.as_deref().unwrap_or(&ANY);
            check_field(inner, item, &format!("{path}['{key}']"), name, side)
        }),
        ("object", Value::Object(object)) => {
            let model = field.model.as_deref();
            let fields = model.and_then(|model| TYPES.get(model));
            let owner = model.and_then(|model| model.split('.').next_back());
            check_object(
                fields.unwrap_or(&field.fields),
                object,
                path,
                owner.unwrap_or(name),
                side,
            )
        }
        (kind, _) => Err(wrong(path, value, kind)),
    }
}

fn wrong(path: &str, value: &Value, wanted: &str) -> Flaw {
    Flaw::Wrong {
        path: path.into(),
        value: value.to_string(),
        wanted: wanted.into(),
    }
}

fn joined(path: &str, name: &str) -> String {
    match path {
        "" => name.into(),
        _ => format!("{path}.{name}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(name: &str, value: &Value) -> (String, String, Option<Box<str>>) {
        let error = body(name, value.to_string().as_bytes()).unwrap_err();
        (error.code, error.message, error.target)
    }

    #[test]
    fn flaws_are_named_as_each_provider_does() {
        let (code, message, target) = said(
            "compute.VirtualMachine",
            &json!({"location": "westus2", "properties": {"storageProfile": {"osDisk": {
                "createOption": "FromImage", "toBeDetached": true,
            }}}}),
        );
        assert_eq!(code, "BadRequest");
        assert!(
            message.starts_with(
                "Could not find member 'toBeDetached' on object of type 'OSDisk'. Path \
                 'properties.storageProfile.osDisk.toBeDetached'"
            ),
            "{message}"
        );
        assert_eq!(
            target.as_deref(),
            Some("vm.properties.storageProfile.osDisk.toBeDetached")
        );
        let (code, message, _) = said("compute.VirtualMachine", &json!({}));
        assert_eq!(code, "InvalidParameter");
        assert_eq!(message, "Required parameter 'location' is missing (null).");
        let (code, ..) = said("network.VirtualNetwork", &json!({"subnets": []}));
        assert_eq!(code, "InvalidRequestFormat");
        let (code, ..) = said("resource.ResourceGroup", &json!({"location": 4}));
        assert_eq!(code, "InvalidRequestContent");
        let (_, message, _) = said(
            "authorization.RoleAssignmentCreateParameters",
            &json!({"properties": {"roleDefinitionId": "x"}}),
        );
        assert!(message.contains("'principalId'"), "{message}");
    }

    #[test]
    fn words_kinds_and_read_only_fields_are_checked() {
        let vm = |properties: Value| json!({"location": "westus2", "properties": properties});
        for (body, good) in [
            (vm(json!({"priority": "Spot"})), true),
            (vm(json!({"priority": "spott"})), false),
            (vm(json!({"vmId": "x"})), false),
            (vm(json!({"billingProfile": {"maxPrice": -1}})), true),
            (vm(json!({"billingProfile": {"maxPrice": "-1"}})), false),
            (json!({"location": "westus2", "tags": {"a": "b"}}), true),
            (json!({"location": "westus2", "tags": {"a": 1}}), false),
            (
                vm(json!({"networkProfile": {"networkApiVersion": "2020-11-01"}})),
                true,
            ),
            (
                vm(json!({"networkProfile": {"networkApiVersion": "2024-05-01"}})),
                false,
            ),
        ] {
            let checked = check("compute.VirtualMachine", &body, Side::Request);
            assert_eq!(checked.is_ok(), good, "{body}: {checked:?}");
        }
    }
}
