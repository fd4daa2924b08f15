//! Lists: filters and pages; and small readers of JSON.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::Context;
use super::error::{ApiError, Result};
use super::filter::Filter;

/// What of a list is wanted.
#[derive(Debug)]
pub(super) struct List {
    filter: Option<Filter>,
    first: usize,
    most: usize,
}

impl List {
    /// Reads the parameters of a list of things with this schema.
    pub(super) fn read(context: &Context<'_>, schema: &str) -> Result<Self> {
        let filter = context
            .parameter("filter")
            .map(|text| Filter::read(text, schema))
            .transpose()?;
        let most = match context.parameter("maxResults") {
            None => 500,
            Some(text) => match text.parse() {
                Ok(0) => 500,
                Ok(number) if number <= 500 => number,
                _ => {
                    let why = "Must be between 0 and 500.";
                    return Err(ApiError::invalid("maxResults", text, why));
                }
            },
        };
        let first = match context.parameter("pageToken").filter(|t| !t.is_empty()) {
            None => 0,
            Some(token) => BASE64_URL_SAFE_NO_PAD
                .decode(token)
                .ok()
                .and_then(|bytes| {
                    String::from_utf8(bytes)
                        .ok()?
                        .strip_prefix("after:")?
                        .parse()
                        .ok()
                })
                .ok_or_else(|| ApiError::invalid("pageToken", token, "Invalid page token."))?,
        };
        if let Some(order) = context.parameter("orderBy")
            && order != "name"
        {
            let why = "That order is not part of this sandbox.";
            return Err(ApiError::invalid("orderBy", order, why));
        }
        Ok(List {
            filter,
            first,
            most,
        })
    }

    /// The page's things, and the next page's token.
    pub(super) fn cut<T>(
        &self,
        items: Vec<T>,
        json: impl Fn(&T) -> &Value,
    ) -> (Vec<T>, Option<String>) {
        let mut items: Vec<T> = items
            .into_iter()
            .filter(|item| self.filter.as_ref().is_none_or(|f| f.passes(json(item))))
            .collect();
        // In the order of their names, as the parameter orderBy is described.
        items.sort_by(|a, b| json(a)["name"].as_str().cmp(&json(b)["name"].as_str()));
        let end = self.first.saturating_add(self.most);
        let token =
            (items.len() > end).then(|| BASE64_URL_SAFE_NO_PAD.encode(format!("after:{end}")));
        let page = items.into_iter().skip(self.first).take(self.most).collect();
        (page, token)
    }

    /// The answer of a plain list.
    pub(super) fn answer(
        &self,
        context: &Context<'_>,
        kind: &str,
        path: &str,
        items: Vec<Value>,
    ) -> Value {
        let (items, token) = self.cut(items, |item| item);
        let mut answer = json!({
            "kind": kind,
            "id": path,
            "selfLink": context.world.link(path),
        });
        // An empty list is not there.
        if !items.is_empty() {
            answer["items"] = items.into();
        }
        if let Some(token) = token {
            answer["nextPageToken"] = token.into();
        }
        answer
    }
}

/// A text, or none.
pub(super) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

/// A boolean, which may be written as a text.
pub(super) fn flag(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// A number, which may be written as a text.
pub(super) fn number(value: &Value) -> Option<u32> {
    match value {
        Value::Number(number) => number.as_u64()?.try_into().ok(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}
