//! The one place that writes to the terminal or the job's log. Secrets never get past it.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

use crate::secret::{Redactor, Secret};

/// Writes data to standard output and logs to standard error, both with secrets blanked.
#[derive(Debug, Clone, Default)]
pub struct Printer {
    redactor: Arc<Mutex<Redactor>>,
}

impl Printer {
    /// From here on, this value is blanked in everything printed.
    pub fn hide(&self, secret: &Secret) {
        self.lock().add(secret);
    }

    /// A text with all known secrets blanked.
    pub fn redact(&self, text: &str) -> String {
        self.lock().redact(text)
    }

    /// One line of data, to standard output.
    pub fn data(&self, line: &str) {
        let line = self.redact(line);
        // A closed pipe is no reason to leave an instance behind.
        let _ = writeln!(io::stdout().lock(), "{line}");
    }

    /// One line for the pipeline's own ears, to standard output, as it is: the `add-mask` command
    /// must hold the secret, and the pipeline swallows the line.
    pub(super) fn command(&self, line: &str) {
        let _ = writeln!(io::stdout().lock(), "{line}");
    }

    /// A text for people, to standard error. It may hold words of others, which must not be taken
    /// for commands to the pipeline.
    pub fn note(&self, text: &str) {
        let text = harmless(&self.redact(text));
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    /// Sends everything logged through this printer.
    pub fn install(&self, level: LevelFilter) {
        use tracing_subscriber::filter::Targets;
        use tracing_subscriber::layer::SubscriberExt;
        use tracing_subscriber::util::SubscriberInitExt;
        let format = tracing_subscriber::fmt::layer()
            .with_writer(self.clone())
            .event_format(Plain);
        // Libraries have their say only where they have something to complain of.
        let targets = Targets::new()
            .with_default(LevelFilter::WARN.min(level))
            .with_target("runner_launch", level)
            // Its own words show whole answers, secrets among them; what matters is in our errors.
            .with_target("kube_client", LevelFilter::OFF)
            .with_target("kube_runtime", LevelFilter::OFF);
        // A second installation (in tests) leaves the first in place.
        let _ = tracing_subscriber::registry()
            .with(targets)
            .with(format)
            .try_init();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Redactor> {
        self.redactor.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A text of which no line can be taken for a workflow command of GitHub's or a section of GitLab's.
fn harmless(text: &str) -> String {
    let line = |line: &str| {
        let line = line
            .replace("section_start:", "section_start :")
            .replace("section_end:", "section_end :");
        match line.trim_start().starts_with("::") || line.contains("##[") {
            true => format!(" {}", line.replace("::", ": :").replace("##[", "## [")),
            false => line,
        }
    };
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

/// Collects one log line and prints it blanked.
pub struct Line {
    printer: Printer,
    bytes: Vec<u8>,
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let text = String::from_utf8_lossy(&self.bytes).into_owned();
        self.bytes.clear();
        if !text.is_empty() {
            self.printer.note(text.trim_end_matches('\n'));
        }
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let _ = self.flush();
    }
}

impl<'a> MakeWriter<'a> for Printer {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line {
            printer: self.clone(),
            bytes: Vec::new(),
        }
    }
}

/// `warn: text`; ordinary lines without their level.
struct Plain;

impl<S, N> FormatEvent<S, N> for Plain
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &tracing::Event<'_>,
    ) -> std::fmt::Result {
        match *event.metadata().level() {
            tracing::Level::ERROR => write!(writer, "error: ")?,
            tracing::Level::WARN => write!(writer, "warning: ")?,
            tracing::Level::INFO => {}
            tracing::Level::DEBUG | tracing::Level::TRACE => write!(writer, "debug: ")?,
        }
        context
            .field_format()
            .format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_lines_are_no_commands() {
        let text = harmless("first\n::set-output name=x::y\n ##[add-path]/tmp");
        assert!(!text.contains("::") && !text.contains("##["), "{text}");
        let text = harmless("\x1b[0Ksection_end:1:runner_launch\r\x1b[0K");
        assert!(!text.contains("section_end:"), "{text}");
        let text = harmless("::group::\x1b[0Ksection_start:1:a\r\x1b[0K");
        assert!(
            !text.contains("::") && !text.contains("section_start:"),
            "{text}"
        );
        assert_eq!(harmless("plain :: text\n"), "plain :: text\n");
    }
}
