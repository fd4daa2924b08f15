//! The `fields` parameter: a partial answer.
//! <https://docs.cloud.google.com/compute/docs/api/how-tos/performance#partial-response>

use std::collections::BTreeMap;

use serde_json::Value;

use super::description::{Schema, description};
use super::error::{ApiError, Result};

/// What of an answer is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Mask {
    /// By name, `*` for every one. Nothing: all of it.
    fields: BTreeMap<String, Mask>,
}

impl Mask {
    /// Reads `items/*/instances(name,zone),nextPageToken` for an answer of this schema.
    pub(super) fn read(text: &str, schema: &str) -> Result<Mask> {
        let mut reader = Reader { text, at: 0 };
        let wrong = |why: String| {
            let message = format!("Error processing the 'fields' param value '{text}': {why}");
            ApiError {
                message: why,
                ..ApiError::parameter(text, message)
            }
        };
        let mask = reader.list(0).map_err(wrong)?;
        if reader.at < text.len() {
            return Err(wrong(format!("Unexpected text at {}", reader.at)));
        }
        if let Some(schema) = description().schema(schema) {
            mask.check(schema).map_err(wrong)?;
        }
        Ok(mask)
    }

    fn check(&self, schema: &Schema) -> std::result::Result<(), String> {
        let all = description();
        let mut schema = all.resolve(schema);
        while let Some(items) = &schema.items {
            schema = all.resolve(items);
        }
        for (name, inner) in &self.fields {
            let candidates: Vec<&Schema> = match name.as_str() {
                "*" => schema
                    .properties
                    .values()
                    .chain(schema.additional_properties.as_deref())
                    .collect(),
                name => schema
                    .properties
                    .get(name)
                    .or(schema.additional_properties.as_deref())
                    .into_iter()
                    .collect(),
            };
            if candidates.is_empty() {
                return Err(format!("Invalid field selection {name}"));
            }
            let results: Vec<_> = candidates.into_iter().map(|c| inner.check(c)).collect();
            if !results.iter().any(std::result::Result::is_ok) {
                return results.into_iter().collect();
            }
        }
        Ok(())
    }

    fn add(&mut self, path: &[String], inner: Mask) {
        match path {
            [] => {
                for (name, mask) in inner.fields {
                    self.add(&[name], mask);
                }
            }
            [first, rest @ ..] => {
                let known = self.fields.contains_key(first);
                let field = self.fields.entry(first.clone()).or_default();
                if rest.is_empty() && inner.fields.is_empty() {
                    *field = Mask::default();
                } else if !known || !field.fields.is_empty() {
                    // All of it would stay all of it.
                    field.add(rest, inner);
                }
            }
        }
    }

    /// Leaves of a value what is wanted.
    pub(super) fn apply(&self, value: Value) -> Value {
        if self.fields.is_empty() {
            return value;
        }
        match value {
            Value::Array(items) => items.into_iter().map(|item| self.apply(item)).collect(),
            Value::Object(object) => object
                .into_iter()
                .filter_map(|(name, inner)| {
                    let mask = self.fields.get(&name).or_else(|| self.fields.get("*"))?;
                    Some((name, mask.apply(inner)))
                })
                .collect(),
            other => other,
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn list(&mut self, depth: usize) -> std::result::Result<Mask, String> {
        if depth > 20 {
            return Err("Too many parentheses".into());
        }
        let mut mask = Mask::default();
        loop {
            let mut path = vec![self.name()?];
            while self.peek() == Some(b'/') {
                self.at += 1;
                path.push(self.name()?);
            }
            let mut inner = Mask::default();
            if self.peek() == Some(b'(') {
                self.at += 1;
                inner = self.list(depth + 1)?;
                if self.peek() != Some(b')') {
                    return Err("A parenthesis is not closed".into());
                }
                self.at += 1;
            }
            mask.add(&path, inner);
            if self.peek() != Some(b',') {
                return Ok(mask);
            }
            self.at += 1;
        }
    }

    fn name(&mut self) -> std::result::Result<String, String> {
        let rest = &self.text[self.at..];
        let length = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || "*_-.".contains(c)))
            .unwrap_or(rest.len());
        if length == 0 {
            return Err(format!("A field's name is missing at {}", self.at));
        }
        self.at += length;
        Ok(rest[..length].to_owned())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_wanted_stays() {
        let answer = json!({
            "kind": "compute#instanceAggregatedList",
            "items": {"zones/us-west1-b": {"instances": [
                {"name": "a", "zone": "z", "metadata": {"items": [{"key": "startup-script"}]}},
            ]}},
            "nextPageToken": "t",
        });
        let apply = |mask: &str| {
            Mask::read(mask, "InstanceAggregatedList")
                .unwrap()
                .apply(answer.clone())
        };
        assert_eq!(
            apply("items/*/instances(name,zone),nextPageToken"),
            json!({
                "items": {"zones/us-west1-b": {"instances": [{"name": "a", "zone": "z"}]}},
                "nextPageToken": "t",
            })
        );
        assert_eq!(apply("*"), answer);
        assert_eq!(
            apply("items/*/instances/metadata/items/key"),
            json!({"items": {"zones/us-west1-b": {"instances": [
                {"metadata": {"items": [{"key": "startup-script"}]}},
            ]}}})
        );
        assert_eq!(apply("items"), apply("items(*),items/*/instances"));
    }

    #[test]
    fn what_is_not_there_is_refused() {
        for (mask, expected) in [
            ("items/*/MachineType", "Invalid field selection MachineType"),
            ("nothing", "Invalid field selection nothing"),
            ("items(", "A field's name is missing at 6"),
            ("items(*", "A parenthesis is not closed"),
            ("kind)", "Unexpected text at 4"),
        ] {
            let error = Mask::read(mask, "InstanceAggregatedList").unwrap_err();
            assert_eq!(
                (error.status, error.reason.as_str()),
                (400, "invalidParameter")
            );
            assert_eq!(error.message, expected, "{mask}");
        }
    }
}
