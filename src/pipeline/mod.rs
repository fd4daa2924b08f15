//! What the CI shows and takes back: masks, groups, annotations, outputs, the job summary.
//!
//! GitHub: <https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands>

mod printer;

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;

pub use printer::Printer;

use crate::error::{Error, Result};
use crate::host::Host;
use crate::secret::Secret;

/// Where the launcher runs.
#[derive(Debug, Clone)]
pub struct Pipeline {
    kind: PipelineKind,
    printer: Printer,
}

#[derive(Debug, Clone)]
enum PipelineKind {
    /// A shell, or a CI that we don't know.
    None,
    /// GitHub Actions, with the files it takes back.
    GitHub {
        output: Option<PathBuf>,
        summary: Option<PathBuf>,
    },
}

impl Pipeline {
    /// The pipeline around us, by its variables.
    pub fn new(host: &Host, printer: Printer) -> Self {
        let kind = if host.env("GITHUB_ACTIONS") == Some("true") {
            PipelineKind::GitHub {
                output: host.env("GITHUB_OUTPUT").map(PathBuf::from),
                summary: host.env("GITHUB_STEP_SUMMARY").map(PathBuf::from),
            }
        } else {
            PipelineKind::None
        };
        Self { kind, printer }
    }

    /// Whether we are in a pipeline at all.
    pub fn is_some(&self) -> bool {
        !matches!(self.kind, PipelineKind::None)
    }

    /// The printer behind it.
    pub fn printer(&self) -> &Printer {
        &self.printer
    }

    /// Hides a secret from everything printed from here on, by us and by the CI.
    pub fn mask(&self, secret: &Secret) {
        self.printer.hide(secret);
        if let PipelineKind::GitHub { .. } = self.kind {
            for line in secret
                .expose()
                .lines()
                .filter(|line| !line.trim().is_empty())
            {
                self.printer
                    .command(&format!("::add-mask::{}", escaped(line)));
            }
        }
    }

    /// Opens a group of log lines that the CI can fold, until the answer is dropped.
    #[must_use = "the group ends when this is dropped"]
    pub fn group(&self, title: &str) -> Group<'_> {
        if let PipelineKind::GitHub { .. } = self.kind {
            self.printer.data(&format!("::group::{}", escaped(title)));
        }
        Group { pipeline: self }
    }

    /// Shows an error: the message, its causes and its hints, and where the CI has annotations,
    /// one of those.
    pub fn error(&self, error: &Error) {
        let text = self.printer.redact(&error.chain());
        if let PipelineKind::GitHub { .. } = self.kind {
            let mut annotation = text.clone();
            for hint in error.hints() {
                annotation.push_str("\nhint: ");
                annotation.push_str(hint);
            }
            self.printer.data(&format!(
                "::error title=runner-launch::{}",
                escaped(&annotation)
            ));
        } else {
            self.printer.note(&format!("error: {text}"));
            for hint in error.hints() {
                self.printer.note(&format!("hint: {hint}"));
            }
        }
    }

    /// Hands values to later steps.
    pub fn outputs(&self, outputs: &[(&str, String)]) -> Result<()> {
        let PipelineKind::GitHub {
            output: Some(file), ..
        } = &self.kind
        else {
            return Ok(());
        };
        let mut text = String::new();
        for (name, value) in outputs {
            // One line each: a line break would let a value pose as another output.
            text.push_str(&format!("{name}={}\n", value.replace(['\r', '\n'], " ")));
        }
        append(file, &text, "writing the outputs")
    }

    /// Adds a table to the job's summary page.
    pub fn summary(&self, title: &str, rows: &[(&str, String)]) -> Result<()> {
        let PipelineKind::GitHub {
            summary: Some(file),
            ..
        } = &self.kind
        else {
            return Ok(());
        };
        let mut text = format!("### {title}\n\n| | |\n|---|---|\n");
        for (name, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
            text.push_str(&format!("| {name} | {} |\n", cell(value)));
        }
        append(file, &text, "writing the job summary")
    }
}

/// An open group of log lines.
#[derive(Debug)]
pub struct Group<'a> {
    pipeline: &'a Pipeline,
}

impl Drop for Group<'_> {
    fn drop(&mut self) {
        if let PipelineKind::GitHub { .. } = self.pipeline.kind {
            self.pipeline.printer.data("::endgroup::");
        }
    }
}

fn append(file: &PathBuf, text: &str, doing: &str) -> Result<()> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(file)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| Error::other(format!("{doing} to {}", file.display())).caused_by(error))
}

/// A value inside a workflow command.
fn escaped(text: &str) -> String {
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

fn cell(value: &str) -> String {
    format!("`{}`", value.replace('`', "'").replace('|', "\\|"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn github(folder: &std::path::Path) -> Pipeline {
        let file = |name: &str| folder.join(name).display().to_string();
        let host = Host::fixed([
            ("GITHUB_ACTIONS", "true".to_owned()),
            ("GITHUB_OUTPUT", file("output")),
            ("GITHUB_STEP_SUMMARY", file("summary")),
        ]);
        Pipeline::new(&host, Printer::default())
    }

    #[test]
    fn a_value_can_t_pose_as_another_output() {
        let folder = tempfile::tempdir().unwrap();
        let pipeline = github(folder.path());
        pipeline
            .outputs(&[("name", "a\nregion=b".into()), ("spot", "true".into())])
            .unwrap();
        let text = std::fs::read_to_string(folder.path().join("output")).unwrap();
        assert_eq!(text, "name=a region=b\nspot=true\n");
    }

    #[test]
    fn the_summary_is_a_table_without_empty_rows() {
        let folder = tempfile::tempdir().unwrap();
        let pipeline = github(folder.path());
        pipeline
            .summary("T", &[("a", "x|y".into()), ("b", String::new())])
            .unwrap();
        let text = std::fs::read_to_string(folder.path().join("summary")).unwrap();
        assert_eq!(text, "### T\n\n| | |\n|---|---|\n| a | `x\\|y` |\n");
    }
}
