//! Label and field selectors.
//! <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors>
//! <https://kubernetes.io/docs/concepts/overview/working-with-objects/field-selectors/>

use serde_json::Value;

use super::error::{ApiError, Result};
use super::kind::Kind;
use super::names;

/// What labels must be like.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Labels(Vec<Term>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Term {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

impl Labels {
    pub(super) fn read(text: &str) -> Result<Labels> {
        let mut terms = Vec::new();
        for part in split_outside_parentheses(text) {
            let part = part.trim();
            if part.is_empty() {
                continue;
            }
            let term = term(part).ok_or_else(|| {
                ApiError::bad(format!(
                    "unable to parse requirement: found '{part}', expected: identifier"
                ))
            })?;
            let (Term::In(key, values) | Term::NotIn(key, values)) = &term else {
                terms.push(term);
                continue;
            };
            let complaint = names::label_key(key)
                .or_else(|| values.iter().find_map(|value| names::label_value(value)));
            if let Some(complaint) = complaint {
                let message = format!("unable to parse requirement: {complaint}");
                return Err(ApiError::bad(message));
            }
            terms.push(term);
        }
        Ok(Labels(terms))
    }

    pub(super) fn fits(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.0.iter().all(|term| match term {
            Term::In(key, values) => labels[key]
                .as_str()
                .is_some_and(|value| values.iter().any(|v| v == value)),
            Term::NotIn(key, values) => labels[key]
                .as_str()
                .is_none_or(|value| !values.iter().any(|v| v == value)),
            Term::Exists(key) => labels[key].is_string(),
            Term::Absent(key) => !labels[key].is_string(),
        })
    }
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let (mut parts, mut from, mut depth) = (Vec::new(), 0, 0);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts
}

fn term(part: &str) -> Option<Term> {
    if let Some((key, value)) = part.split_once("!=") {
        return Some(Term::NotIn(key.trim().into(), vec![value.trim().into()]));
    }
    if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return Some(Term::In(key.trim().into(), vec![value.trim().into()]));
    }
    if let Some((head, list)) = part.split_once('(') {
        let values = list.strip_suffix(')')?;
        let values = values.split(',').map(|value| value.trim().into()).collect();
        let mut words = head.split_whitespace();
        return match (words.next()?, words.next()?, words.next()) {
            (key, "in", None) => Some(Term::In(key.into(), values)),
            (key, "notin", None) => Some(Term::NotIn(key.into(), values)),
            _ => None,
        };
    }
    match part.strip_prefix('!') {
        Some(key) => Some(Term::Absent(key.trim().into())),
        None if part.contains(char::is_whitespace) => None,
        None => Some(Term::Exists(part.into())),
    }
}

/// What fields must be like.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fields(Vec<(String, String, bool)>);

impl Fields {
    /// Every kind has fields of its own that can be selected by.
    pub(super) fn read(kind: Kind, text: &str) -> Result<Fields> {
        let mut fields = Vec::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (field, value, equals) = if let Some((field, value)) = part.split_once("!=") {
                (field, value, false)
            } else if let Some((field, value)) =
                part.split_once("==").or_else(|| part.split_once('='))
            {
                (field, value, true)
            } else {
                return Err(ApiError::bad(format!(
                    "invalid selector: '{text}'; can't understand '{part}'"
                )));
            };
            let own: &[&str] = match kind {
                Kind::Pod => &[
                    "spec.nodeName",
                    "spec.restartPolicy",
                    "spec.schedulerName",
                    "spec.serviceAccountName",
                    "spec.hostNetwork",
                    "status.phase",
                    "status.podIP",
                    "status.nominatedNodeName",
                ],
                Kind::Event => &[
                    "involvedObject.kind",
                    "involvedObject.namespace",
                    "involvedObject.name",
                    "involvedObject.uid",
                    "involvedObject.apiVersion",
                    "involvedObject.resourceVersion",
                    "involvedObject.fieldPath",
                    "reason",
                    "reportingComponent",
                    "source",
                    "type",
                ],
                Kind::Job => &["status.successful"],
                Kind::Secret => &["type"],
                Kind::Namespace => &["status.phase"],
                Kind::Node => &["spec.unschedulable"],
                _ => &[],
            };
            let known = own.contains(&field)
                || field == "metadata.name"
                || (field == "metadata.namespace" && kind.is_namespaced());
            if !known {
                return Err(ApiError::bad(format!("field label not supported: {field}")));
            }
            fields.push((field.into(), value.into(), equals));
        }
        Ok(Fields(fields))
    }

    /// The name that is selected.
    pub(super) fn name(&self) -> Option<&str> {
        self.0
            .iter()
            .find(|(field, _, equals)| field == "metadata.name" && *equals)
            .map(|(_, value, _)| value.as_str())
    }

    pub(super) fn fits(&self, object: &Value) -> bool {
        self.0.iter().all(|(field, value, equals)| {
            let found = match field.as_str() {
                "source" => &object["source"]["component"],
                "status.successful" => &object["status"]["succeeded"],
                field => field.split('.').fold(object, |object, part| &object[part]),
            };
            let found = match found {
                Value::String(text) => text.clone(),
                Value::Null if field == "status.successful" => "0".into(),
                Value::Null if field == "spec.hostNetwork" => "false".into(),
                Value::Null => String::new(),
                other => other.to_string(),
            };
            (found == *value) == *equals
        })
    }
}
