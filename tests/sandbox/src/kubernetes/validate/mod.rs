//! What an object must be like besides its types: the rules that the API's reference tells field by
//! field, and the words of the server that refuses what breaks them.

mod container;
mod job;
mod meta;
mod pod;
mod secret;

use std::collections::BTreeSet;

use serde_json::Value;

use super::error::{ApiError, Cause, Result};
use super::kind::Kind;
use super::store::text;

/// What is wrong so far, and where in the object the check is.
#[derive(Debug, Default)]
struct Report(Vec<Cause>);

impl Report {
    fn add(&mut self, cause: Cause) {
        self.0.push(cause);
    }

    /// One of the words, or nothing.
    fn one_of(&mut self, path: &str, value: &Value, words: &[&str]) {
        if let Some(word) = value.as_str()
            && !words.contains(&word)
        {
            self.add(Cause::unsupported(path, value, words));
        }
    }

    fn not_negative(&mut self, path: &str, value: &Value) {
        if value.as_i64().is_some_and(|number| number < 0) {
            let detail = "must be greater than or equal to 0";
            self.add(Cause::invalid(path, value, detail));
        }
    }

    fn complain(&mut self, path: &str, value: &str, complaint: Option<String>) {
        if let Some(complaint) = complaint {
            self.add(Cause::invalid(path, &value.into(), &complaint));
        }
    }
}

/// Refuses an object that isn't as it should be.
pub(super) fn object(kind: Kind, object: &Value) -> Result<()> {
    let mut report = Report::default();
    meta::check(&mut report, kind, object);
    match kind {
        Kind::Job => job::check(&mut report, object),
        Kind::Pod => pod::check(&mut report, &object["spec"], "spec"),
        Kind::Secret => secret::check(&mut report, object),
        _ => {}
    }
    finish(report, kind, object)
}

/// Refuses changes of what can't be changed.
pub(super) fn update(kind: Kind, before: &Value, after: &Value) -> Result<()> {
    let mut report = Report::default();
    meta::check_update(&mut report, before, after);
    match kind {
        Kind::Job => job::check_update(&mut report, before, after),
        Kind::Pod => pod::check_update(&mut report, before, after),
        Kind::Secret => secret::check_update(&mut report, before, after),
        _ => {}
    }
    finish(report, kind, after)
}

fn finish(report: Report, kind: Kind, object: &Value) -> Result<()> {
    if report.0.is_empty() {
        return Ok(());
    }
    let name = text(&object["metadata"]["name"]);
    // The real server tells of everything, but of nothing twice.
    let mut seen = BTreeSet::new();
    let mut causes = report.0;
    causes.retain(|cause| seen.insert((cause.field.clone(), cause.message.clone())));
    Err(ApiError::invalid(kind, name, &causes))
}

/// The entries of a list with their paths.
fn entries<'a>(list: &'a Value, path: &str) -> impl Iterator<Item = (String, &'a Value)> {
    let path = path.to_owned();
    list.as_array()
        .into_iter()
        .flatten()
        .enumerate()
        .map(move |(index, entry)| (format!("{path}[{index}]"), entry))
}
