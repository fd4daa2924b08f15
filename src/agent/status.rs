//! What a runner tells of itself: one JSON line each time for programs, one plain line for people.

use serde::Serialize;

use crate::host::Host;
use crate::pipeline::Printer;

/// A status in the life of a runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    Ready,
    JobStarted,
    JobEnded,
    Terminated,
}

/// What a log holds once its runner was ready.
pub(crate) const READY: &str = r#""status":"ready""#;

#[derive(Serialize)]
struct Line<'a> {
    level: &'static str,
    date: String,
    repo: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<&'a str>,
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    success: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

/// Prints statuses.
pub(super) struct Reporter {
    printer: Printer,
    host: Host,
    repo: String,
    name: String,
}

impl Reporter {
    pub(super) fn new(printer: Printer, host: Host, repo: &str, name: &str) -> Self {
        Self {
            printer,
            host,
            repo: repo.to_owned(),
            name: name.to_owned(),
        }
    }

    pub(super) fn ready(&self) {
        self.print(Status::Ready, None, None, None);
        tracing::info!("runner {} is ready for jobs", self.name);
    }

    pub(super) fn job_started(&self, job: &str) {
        self.print(Status::JobStarted, Some(job), None, None);
        tracing::info!("job {job} started");
    }

    pub(super) fn job_ended(&self, job: &str, success: bool) {
        self.print(Status::JobEnded, Some(job), Some(success), None);
        let how = if success { "succeeded" } else { "failed" };
        tracing::info!("job {job} {how}");
    }

    pub(super) fn terminated(&self, reason: &str) {
        self.print(Status::Terminated, None, None, Some(reason));
        tracing::info!("runner {} ended: {reason}", self.name);
    }

    fn print(
        &self,
        status: Status,
        job: Option<&str>,
        success: Option<bool>,
        reason: Option<&str>,
    ) {
        let line = Line {
            level: if success == Some(false) {
                "error"
            } else {
                "info"
            },
            date: self.host.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            repo: &self.repo,
            name: &self.name,
            job,
            status,
            success,
            reason,
        };
        // Strings and flags alone: this can't fail.
        if let Ok(json) = serde_json::to_string(&line) {
            self.printer.data(&json);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ready_line_is_known_again() {
        let line = Line {
            level: "info",
            date: String::new(),
            repo: "r",
            name: "n",
            job: None,
            status: Status::Ready,
            success: None,
            reason: None,
        };
        assert!(serde_json::to_string(&line).unwrap().contains(READY));
    }
}
