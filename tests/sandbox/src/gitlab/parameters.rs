//! What a request asks with: the query, and a body that is JSON or a form. As with the real one,
//! what isn't known is ignored, and what is known must have the right form.

use std::collections::BTreeMap;

use serde_json::Value;

use super::answer::error;
use crate::server::{Request, Response};

/// A request's parameters by name. What comes more than once, as `scope[]` may, is a list.
#[derive(Debug, Default, Clone)]
pub(super) struct Parameters(BTreeMap<String, Value>);

type Read<T> = Result<T, Box<Response>>;

fn refused<T>(name: &str, what: &str) -> Read<T> {
    Err(Box::new(error(400, &format!("{name} {what}"))))
}

impl Parameters {
    /// Reads all of a request's parameters.
    ///
    /// # Errors
    /// GitLab's refusal of a body that can't be read.
    pub(super) fn read(request: &Request) -> Read<Self> {
        let mut read = Parameters::default();
        read.form(request.query().as_bytes());
        if request.body.is_empty() {
            return Ok(read);
        }
        let kind = request.header("content-type").unwrap_or_default();
        match kind.split(';').next().unwrap_or_default().trim() {
            "application/json" => {
                let value = serde_json::from_slice(&request.body).map_err(|_| {
                    Box::new(error(
                        400,
                        "The provided content-type \"application/json\" is not valid JSON",
                    ))
                })?;
                if let Value::Object(fields) = value {
                    read.0.extend(fields);
                }
            }
            "application/x-www-form-urlencoded" => read.form(&request.body),
            // A part of a job's log.
            "text/plain" | "application/octet-stream" => {}
            other => {
                return Err(Box::new(error(
                    415,
                    &format!("The provided content-type '{other}' is not supported."),
                )));
            }
        }
        Ok(read)
    }

    fn form(&mut self, text: &[u8]) {
        for (name, value) in url::form_urlencoded::parse(text) {
            let value = Value::String(value.into_owned());
            match name.strip_suffix("[]") {
                Some(name) => {
                    let list = self.0.entry(name.into()).or_insert(Value::Array(vec![]));
                    if let Value::Array(list) = list {
                        list.push(value);
                    }
                }
                None => {
                    self.0.insert(name.into_owned(), value);
                }
            }
        }
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// A text.
    pub(super) fn text(&self, name: &str) -> Read<Option<String>> {
        Ok(match self.get(name) {
            None => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(Value::Array(_) | Value::Object(_)) => return refused(name, "is invalid"),
            Some(other) => Some(other.to_string()),
        })
    }

    /// A text that must be there.
    pub(super) fn required_text(&self, name: &str) -> Read<String> {
        match self.text(name)? {
            Some(text) => Ok(text),
            None => refused(name, "is missing"),
        }
    }

    /// One of a few words.
    pub(super) fn choice(
        &self,
        name: &str,
        choices: &[&'static str],
    ) -> Read<Option<&'static str>> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        match choices.iter().find(|choice| **choice == text) {
            Some(choice) => Ok(Some(*choice)),
            None => refused(name, "does not have a valid value"),
        }
    }

    /// A number.
    pub(super) fn number(&self, name: &str) -> Read<Option<u64>> {
        let number = match self.get(name) {
            None => return Ok(None),
            Some(Value::Number(number)) => number.as_u64(),
            Some(Value::String(text)) => text.parse().ok(),
            Some(_) => None,
        };
        match number {
            Some(number) => Ok(Some(number)),
            None => refused(name, "is invalid"),
        }
    }

    /// Yes or no.
    pub(super) fn flag(&self, name: &str) -> Read<Option<bool>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(Value::String(text)) => match text.as_str() {
                "true" | "1" | "t" | "on" => Ok(Some(true)),
                "false" | "0" | "f" | "off" => Ok(Some(false)),
                _ => refused(name, "is invalid"),
            },
            Some(Value::Number(number)) if number.as_u64() == Some(1) => Ok(Some(true)),
            Some(Value::Number(number)) if number.as_u64() == Some(0) => Ok(Some(false)),
            Some(_) => refused(name, "is invalid"),
        }
    }

    /// A list, or texts with commas between them.
    pub(super) fn list(&self, name: &str) -> Read<Option<Vec<String>>> {
        let split = |text: &str| -> Vec<String> {
            let parts = text.split(',').map(str::trim);
            parts
                .filter(|part| !part.is_empty())
                .map(str::to_owned)
                .collect()
        };
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(split(text))),
            Some(Value::Array(items)) => {
                let texts: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
                match texts {
                    Some(texts) => Ok(Some(texts.into_iter().flat_map(split).collect())),
                    None => refused(name, "is invalid"),
                }
            }
            Some(_) => refused(name, "is invalid"),
        }
    }

    /// A field of an object.
    pub(super) fn field(&self, object: &str, name: &str) -> Option<String> {
        let value = self.get(object)?.pointer(&format!("/{name}"))?;
        Some(
            value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(query: &str) -> Parameters {
        let mut read = Parameters::default();
        read.form(query.as_bytes());
        read
    }

    #[test]
    fn values_have_their_forms() {
        let read = parameters("tags=a,%20b&scope[]=running&scope[]=pending&on=true&id=7&bad=x");
        assert_eq!(read.list("tags").unwrap().unwrap(), ["a", "b"]);
        assert_eq!(read.list("scope").unwrap().unwrap(), ["running", "pending"]);
        assert_eq!(read.flag("on").unwrap(), Some(true));
        assert_eq!(read.number("id").unwrap(), Some(7));
        assert_eq!(read.choice("bad", &["x", "y"]).unwrap(), Some("x"));
        assert_eq!(read.text("none").unwrap(), None);
        assert!(read.number("bad").is_err() && read.flag("bad").is_err());
        assert!(read.choice("bad", &["y"]).is_err() && read.required_text("none").is_err());
    }
}
