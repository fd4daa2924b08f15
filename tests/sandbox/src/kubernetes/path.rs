//! What a request is about.
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-uris>

use std::collections::BTreeMap;

use super::kind::Kind;
use super::select::Fields;
use crate::server::Request;

/// A verb with an object, or with all objects of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) verb: &'static str,
    pub(super) kind: Kind,
    /// Empty: every namespace, or none.
    pub(super) namespace: String,
    /// Empty: all.
    pub(super) name: String,
    /// `log`, `status`, or nothing.
    pub(super) sub: String,
    pub(super) query: BTreeMap<String, String>,
}

impl Target {
    /// `None`: the request is about no such thing.
    pub(super) fn of(request: &Request) -> Option<Target> {
        let words: Vec<String> = request
            .path()
            .split('/')
            .skip(1)
            .map(percent_decoded)
            .collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (group, rest) = match words.as_slice() {
            ["api", "v1", rest @ ..] => ("", rest),
            ["apis", group, "v1", rest @ ..] => (*group, rest),
            _ => return None,
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
            rest => ("", rest),
        };
        let (plural, name, sub) = match rest {
            [plural] => (*plural, "", ""),
            [plural, name] => (*plural, *name, ""),
            [plural, name, sub] => (*plural, *name, *sub),
            _ => return None,
        };
        let kind = Kind::by_plural(group, plural)?;
        if !sub.is_empty() && !kind.subresources().iter().any(|known| known.0 == sub) {
            return None;
        }
        if kind.is_namespaced() {
            // Without a namespace all of them can be listed, but nothing has a name.
            if namespace.is_empty() && !name.is_empty() {
                return None;
            }
        } else if !namespace.is_empty() {
            return None;
        }
        let query: BTreeMap<String, String> =
            url::form_urlencoded::parse(request.query().as_bytes())
                .into_owned()
                .collect();
        let watches = query.get("watch").is_some_and(|value| is_true(value));
        let verb = match (request.parts.method.as_str(), name) {
            ("GET" | "HEAD", "") if watches => "watch",
            ("GET" | "HEAD", "") => "list",
            ("GET" | "HEAD", _) => "get",
            ("POST", _) => "create",
            ("PUT", _) => "update",
            ("PATCH", _) => "patch",
            ("DELETE", "") => "deletecollection",
            ("DELETE", _) => "delete",
            _ => return None,
        };
        Some(Target {
            verb,
            kind,
            namespace: namespace.into(),
            name: name.into(),
            sub: sub.into(),
            query,
        })
    }

    /// `pods/log`.
    pub(super) fn resource(&self) -> String {
        match self.sub.as_str() {
            "" => self.kind.plural().into(),
            sub => format!("{}/{sub}", self.kind.plural()),
        }
    }

    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.query.get(name).is_some_and(|value| is_true(value))
    }

    /// The one object that the rules of access see: also that of a list selected by its name.
    pub(super) fn object_name(&self) -> String {
        if self.name.is_empty()
            && matches!(self.verb, "list" | "watch" | "deletecollection")
            && let Some(text) = self.parameter("fieldSelector")
            && let Ok(fields) = Fields::read(self.kind, text)
            && let Some(name) = fields.name()
        {
            return name.into();
        }
        self.name.clone()
    }
}

/// As the server reads booleans in queries: anything but `0` and `false`.
fn is_true(value: &str) -> bool {
    !matches!(value.to_ascii_lowercase().as_str(), "0" | "false")
}

fn percent_decoded(word: &str) -> String {
    // `+` is itself in a path.
    let word = word.replace('+', "%2B");
    url::form_urlencoded::parse(format!("x={word}").as_bytes())
        .next()
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
}
