//! The three ways to patch an object.
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#patch-and-apply>

use serde_json::{Map, Value};

use super::description::Schema;
use super::error::{ApiError, Result};

/// RFC 7386.
pub(super) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    for (name, value) in fields {
        if value.is_null() {
            if let Some(object) = target.as_object_mut() {
                object.remove(name);
            }
        } else {
            merge(&mut target[name], value);
        }
    }
}

/// Kubernetes' own: lists whose entries have names are merged by them.
/// <https://github.com/kubernetes/community/blob/main/contributors/devel/sig-api-machinery/strategic-merge-patch.md>
pub(super) fn strategic(target: &mut Value, patch: &Value, schema: Option<&'static Schema>) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if fields
        .get("$patch")
        .is_some_and(|directive| directive == "replace")
        || !target.is_object()
    {
        *target = Value::Object(Map::new());
    }
    let schema = schema.map(Schema::resolve);
    for (name, value) in fields {
        if name == "$patch" || name == "$retainKeys" || name.starts_with("$setElementOrder/") {
            continue;
        }
        if let Some(list) = name.strip_prefix("$deleteFromPrimitiveList/") {
            if let (Some(gone), Some(items)) = (value.as_array(), target[list].as_array_mut()) {
                items.retain(|item| !gone.contains(item));
            }
            continue;
        }
        if value.is_null() || value["$patch"] == "delete" {
            if let Some(object) = target.as_object_mut() {
                object.remove(name);
            }
            continue;
        }
        let field = schema.and_then(|schema| {
            schema
                .properties
                .get(name)
                .or(schema.additional_properties.as_deref())
        });
        match (field, value.as_array()) {
            (Some(field), Some(items)) if field.strategy.iter().any(|s| s == "merge") => {
                merge_list(&mut target[name], items, field);
            }
            _ => strategic(&mut target[name], value, field),
        }
    }
}

fn merge_list(target: &mut Value, patch: &[Value], field: &'static Schema) {
    if !target.is_array() {
        *target = Value::Array(Vec::new());
    }
    let Some(items) = target.as_array_mut() else {
        return;
    };
    let inner = field.items.as_deref();
    for entry in patch {
        let Some(key) = &field.merge_key else {
            if !items.contains(entry) {
                items.push(entry.clone());
            }
            continue;
        };
        if entry["$patch"] == "replace" {
            items.clear();
            continue;
        }
        let found = items.iter().position(|item| item[key] == entry[key]);
        match (found, entry["$patch"] == "delete") {
            (Some(at), true) => {
                items.remove(at);
            }
            (None, true) => {}
            (Some(at), false) => strategic(&mut items[at], entry, inner),
            (None, false) => {
                let mut item = Value::Object(Map::new());
                strategic(&mut item, entry, inner);
                items.push(item);
            }
        }
    }
}

/// RFC 6902.
pub(super) fn json(target: &mut Value, patch: &Value) -> Result<()> {
    let steps = patch
        .as_array()
        .ok_or_else(|| ApiError::bad("error decoding patch: json: cannot unmarshal into a list"))?;
    for step in steps {
        let path = step["path"].as_str().unwrap_or_default();
        let value = step["value"].clone();
        let done = match step["op"].as_str().unwrap_or_default() {
            "add" => put(target, path, value, true),
            "replace" => put(target, path, value, false),
            "remove" => take(target, path).is_some(),
            "test" => target.pointer(path).unwrap_or(&Value::Null) == &value,
            "move" => take(target, step["from"].as_str().unwrap_or_default())
                .is_some_and(|value| put(target, path, value, true)),
            "copy" => target
                .pointer(step["from"].as_str().unwrap_or_default())
                .cloned()
                .is_some_and(|value| put(target, path, value, true)),
            _ => false,
        };
        if !done {
            let mut error = ApiError::by_status(422);
            error.message = "the server rejected our request due to an error in our request".into();
            return Err(error);
        }
    }
    Ok(())
}

fn split(path: &str) -> Option<(&str, String)> {
    let (parent, last) = path.rsplit_once('/')?;
    Some((parent, last.replace("~1", "/").replace("~0", "~")))
}

fn put(target: &mut Value, path: &str, value: Value, adds: bool) -> bool {
    let Some((parent, last)) = split(path) else {
        *target = value;
        return true;
    };
    match target.pointer_mut(parent) {
        Some(Value::Object(object)) => {
            let allowed = adds || object.contains_key(&last);
            if allowed {
                object.insert(last, value);
            }
            allowed
        }
        Some(Value::Array(items)) if last == "-" && adds => {
            items.push(value);
            true
        }
        Some(Value::Array(items)) => match last.parse::<usize>() {
            Ok(at) if adds && at <= items.len() => {
                items.insert(at, value);
                true
            }
            Ok(at) if !adds && at < items.len() => {
                items[at] = value;
                true
            }
            _ => false,
        },
        _ => false,
    }
}

fn take(target: &mut Value, path: &str) -> Option<Value> {
    let (parent, last) = split(path)?;
    match target.pointer_mut(parent)? {
        Value::Object(object) => object.remove(&last),
        Value::Array(items) => {
            let at = last.parse::<usize>().ok().filter(|at| *at < items.len())?;
            Some(items.remove(at))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::description::definition;
    use super::*;

    #[test]
    fn null_takes_a_field_away() {
        let mut target = json!({"a": {"b": 1, "c": 2}, "d": [1]});
        merge(
            &mut target,
            &json!({"a": {"b": null}, "d": [2], "e": {"f": null}}),
        );
        assert_eq!(target, json!({"a": {"c": 2}, "d": [2], "e": {}}));
    }

    #[test]
    fn lists_are_merged_by_their_keys() {
        let mut target = json!({"spec": {"containers": [{"name": "a", "image": "x"}]}});
        let patch = json!({"spec": {"containers": [
            {"name": "a", "image": "y"}, {"name": "b", "image": "z"},
        ]}});
        strategic(&mut target, &patch, definition("api.core.v1.Pod"));
        let expected = json!([{"name": "a", "image": "y"}, {"name": "b", "image": "z"}]);
        assert_eq!(target["spec"]["containers"], expected);
    }

    #[test]
    fn steps_of_a_json_patch() {
        let mut target = json!({"a": {"x/y": 1}, "l": [1, 2]});
        let steps = json!([
            {"op": "remove", "path": "/a/x~1y"},
            {"op": "add", "path": "/l/-", "value": 3},
            {"op": "test", "path": "/l/0", "value": 1},
        ]);
        json(&mut target, &steps).unwrap();
        assert_eq!(target, json!({"a": {}, "l": [1, 2, 3]}));
        assert!(json(&mut target, &json!([{"op": "remove", "path": "/b"}])).is_err());
    }
}
