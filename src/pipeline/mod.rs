//! What the CI shows and takes back: masks, groups, annotations, outputs, the job summary.
//!
//! GitHub: <https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands>;
//! GitLab: <https://docs.gitlab.com/ci/jobs/job_logs/#custom-collapsible-sections>,
//! <https://docs.gitlab.com/ci/yaml/artifacts_reports/#artifactsreportsdotenv>

mod printer;

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

pub use printer::Printer;

use crate::error::{Error, Result};
use crate::host::Host;
use crate::secret::Secret;

/// Where the launcher runs.
#[derive(Debug, Clone)]
pub struct Pipeline {
    kind: PipelineKind,
    printer: Printer,
    host: Host,
}

/// The file that GitLab takes a job's outputs from, in the project's folder.
pub const DOTENV: &str = "runner-launch.env";

/// What an output is called in GitLab, where it is a variable of later jobs; `None` for those that
/// mean nothing there.
pub fn dotenv_name(output: &str) -> Option<String> {
    match output {
        // Lists of tags in a pipeline's file aren't made from variables.
        "runs-on" => None,
        // Not `RUNNER_LAUNCH_…`, which is where options come from.
        "launch-time" => Some("RUNNER_INSTANCE_LAUNCH_TIME".to_owned()),
        "runner-id" => Some("RUNNER_ID".to_owned()),
        output => Some(format!(
            "RUNNER_{}",
            output.to_uppercase().replace('-', "_")
        )),
    }
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
    /// GitLab CI, with the file that it takes back.
    GitLab { output: Option<PathBuf> },
}

impl Pipeline {
    /// The pipeline around us, by its variables.
    pub fn new(host: &Host, printer: Printer) -> Self {
        let kind = if host.env("GITHUB_ACTIONS") == Some("true") {
            PipelineKind::GitHub {
                output: host.env("GITHUB_OUTPUT").map(PathBuf::from),
                summary: host.env("GITHUB_STEP_SUMMARY").map(PathBuf::from),
            }
        } else if host.env("GITLAB_CI").is_some() {
            let folder = host.env("CI_PROJECT_DIR").map(Path::new);
            PipelineKind::GitLab {
                output: folder.map(|folder| folder.join(DOTENV)),
            }
        } else {
            PipelineKind::None
        };
        Self {
            kind,
            printer,
            host: host.clone(),
        }
    }

    /// Whether we are in a pipeline at all.
    pub fn is_some(&self) -> bool {
        !matches!(self.kind, PipelineKind::None)
    }

    /// The printer behind it.
    pub fn printer(&self) -> &Printer {
        &self.printer
    }

    /// Hides a secret from everything printed from here on, by us and by the CI. GitLab can't be
    /// told of further secrets; nothing but this printer prints ours.
    pub fn mask(&self, secret: &Secret) {
        self.printer.hide(secret);
        if let PipelineKind::GitHub { .. } = self.kind {
            for line in secret.telling_lines() {
                self.printer
                    .command(&format!("::add-mask::{}", escaped(line)));
            }
        }
    }

    /// Opens a group of log lines that the CI can fold, until the answer is dropped.
    #[must_use = "the group ends when this is dropped"]
    pub fn group(&self, title: &str) -> Group<'_> {
        match self.kind {
            PipelineKind::GitHub { .. } => {
                self.printer.data(&format!("::group::{}", escaped(title)));
            }
            PipelineKind::GitLab { .. } => {
                let start = section("start", &self.host, "[collapsed=true]");
                self.printer.data(&format!("{start}{title}"));
            }
            PipelineKind::None => {}
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

    /// Removes the outputs that an earlier job may have left in a kept folder: GitLab would take them
    /// for this job's own, if it fails or makes nothing.
    pub fn forget_outputs(&self) -> Result<()> {
        let PipelineKind::GitLab { output: Some(file) } = &self.kind else {
            return Ok(());
        };
        match fs::remove_file(file) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                let doing = format!("removing the outputs of an earlier job, {}", file.display());
                Err(Error::other(doing).caused_by(error))
            }
            _ => Ok(()),
        }
    }

    /// Hands values to later steps.
    pub fn outputs(&self, outputs: &[(&str, String)]) -> Result<()> {
        // One line each: a line break would let a value pose as another output.
        let line =
            |name: &str, value: &str| format!("{name}={}\n", value.replace(['\r', '\n'], " "));
        match &self.kind {
            PipelineKind::GitHub {
                output: Some(file), ..
            } => {
                let text: String = outputs.iter().map(|(n, value)| line(n, value)).collect();
                append(file, &text, "writing the outputs")
            }
            PipelineKind::GitLab { output: Some(file) } => {
                let text: String = outputs
                    .iter()
                    .filter_map(|(name, value)| Some(line(&dotenv_name(name)?, value)))
                    .collect();
                fs::write(file, text).map_err(|error| {
                    Error::other(format!("writing the outputs to {}", file.display()))
                        .caused_by(error)
                })
            }
            _ => Ok(()),
        }
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
        let printer = &self.pipeline.printer;
        match self.pipeline.kind {
            PipelineKind::GitHub { .. } => printer.data("::endgroup::"),
            PipelineKind::GitLab { .. } => printer.data(&section("end", &self.pipeline.host, "")),
            PipelineKind::None => {}
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

/// The mark of a section's start or end; GitLab swallows it.
fn section(what: &str, host: &Host, options: &str) -> String {
    let now = host.now().as_second();
    format!("\x1b[0Ksection_{what}:{now}:runner_launch{options}\r\x1b[0K")
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
    fn gitlab_gets_a_file_of_its_variables() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(DOTENV);
        let host = Host::fixed([
            ("GITLAB_CI", "true".to_owned()),
            ("CI_PROJECT_DIR", folder.path().display().to_string()),
        ]);
        let pipeline = Pipeline::new(&host, Printer::default());
        pipeline.forget_outputs().unwrap();
        fs::write(&file, "RUNNER_NAME=an earlier one\n").unwrap();
        pipeline.forget_outputs().unwrap();
        assert!(!file.exists());
        pipeline
            .outputs(&[
                ("name", "a\nCI_X=b".into()),
                ("launch-time", "t".into()),
                ("runs-on", "[]".into()),
            ])
            .unwrap();
        let text = fs::read_to_string(file).unwrap();
        assert_eq!(
            text,
            "RUNNER_NAME=a CI_X=b\nRUNNER_INSTANCE_LAUNCH_TIME=t\n"
        );
        assert_eq!(
            section("start", &host, "[collapsed=true]"),
            "\x1b[0Ksection_start:1767225600:runner_launch[collapsed=true]\r\x1b[0K"
        );
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
