//! The variables of a container.
//! <https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/>

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::kubernetes::kind::Kind;
use crate::kubernetes::store::{Key, Store, text};

pub(super) type Environment = Vec<(String, String)>;

/// The variables, after those that every container has; an error says what is missing.
pub(super) fn resolve(
    store: &Store,
    key: &Key,
    services: Environment,
) -> Result<Environment, String> {
    let Some(pod) = store.get(key) else {
        return Ok(services);
    };
    let container = &pod["spec"]["containers"][0];
    let mut environment = services;
    for source in container["envFrom"].as_array().into_iter().flatten() {
        let reference = &source["secretRef"];
        let secret = secret(store, key, reference)?;
        for (name, value) in secret["data"].as_object().into_iter().flatten() {
            let name = format!("{}{name}", text(&source["prefix"]));
            environment.push((name, decoded(value)));
        }
    }
    for variable in container["env"].as_array().into_iter().flatten() {
        let name = text(&variable["name"]).to_owned();
        let from = &variable["valueFrom"];
        let value = if !from["secretKeyRef"].is_null() {
            let reference = &from["secretKeyRef"];
            let secret = secret(store, key, reference)?;
            let entry = text(&reference["key"]);
            match &secret["data"][entry] {
                Value::Null if reference["optional"] == true => continue,
                Value::Null => {
                    return Err(format!(
                        "couldn't find key {entry} in Secret {}/{}",
                        key.namespace,
                        text(&reference["name"])
                    ));
                }
                value => decoded(value),
            }
        } else if !from["configMapKeyRef"].is_null() {
            let name = text(&from["configMapKeyRef"]["name"]);
            return Err(format!("configmap \"{name}\" not found"));
        } else if !from["fieldRef"].is_null() {
            field(pod, text(&from["fieldRef"]["fieldPath"]))
        } else {
            expanded(text(&variable["value"]), &environment)
        };
        environment.retain(|(known, _)| *known != name);
        environment.push((name, value));
    }
    Ok(environment)
}

/// A Secret that is referred to; nothing where an optional one is missing.
fn secret(store: &Store, key: &Key, reference: &Value) -> Result<Value, String> {
    let name = text(&reference["name"]);
    match store.get(&Key::new(Kind::Secret, &key.namespace, name)) {
        Some(secret) => Ok(Value::clone(secret)),
        None if reference["optional"] == true => Ok(Value::Null),
        None => Err(format!("secret \"{name}\" not found")),
    }
}

pub(super) fn decoded(value: &Value) -> String {
    let bytes = STANDARD.decode(text(value)).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// <https://kubernetes.io/docs/concepts/workloads/pods/downward-api/#available-fields>
fn field(pod: &Value, path: &str) -> String {
    if let Some((map, rest)) = path.split_once("['") {
        let key = rest.strip_suffix("']").unwrap_or(rest);
        let map = map.split('.').fold(pod, |object, part| &object[part]);
        return text(&map[key]).into();
    }
    let value = path.split('.').fold(pod, |object, part| &object[part]);
    text(value).into()
}

/// Text with `$(NAME)` replaced, where there is such a variable; `$$` stands for `$`.
pub(super) fn expanded(word: &str, environment: &Environment) -> String {
    let mut done = String::new();
    let mut rest = word;
    while let Some(at) = rest.find('$') {
        done.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            done.push('$');
            rest = after;
        } else if let Some((name, after)) =
            rest.strip_prefix('(').and_then(|open| open.split_once(')'))
        {
            match environment.iter().find(|(known, _)| known == name) {
                Some((_, value)) => done.push_str(value),
                None => done.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            done.push('$');
        }
    }
    done.push_str(rest);
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_expanded() {
        let environment = vec![("A".to_owned(), "1".to_owned())];
        for (word, expected) in [
            ("$(A)-$(B)", "1-$(B)"),
            ("$$(A)", "$(A)"),
            ("$A ${A}", "$A ${A}"),
            ("a$", "a$"),
            ("$(A", "$(A"),
        ] {
            assert_eq!(expanded(word, &environment), expected, "{word}");
        }
    }
}
