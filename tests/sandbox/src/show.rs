//! The timeline and the summary, for people.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use sandbox::{Call, Caller, Event};

use crate::forge::Attempt;
use crate::story::Story;

/// How often the same call with the same outcome is shown; a wait asks again and again.
const REPEATS_SHOWN: usize = 3;

/// The width of the first column behind the time.
const WHO: usize = 10;
/// The widths of a call's service and of what was asked of it.
const SERVICE: usize = 12;
const CALL: usize = 64;

/// How much of a line for programs is shown to a person.
const DATA: usize = 120;

/// The colours that carry no meaning of their own: each has its word beside it.
#[derive(Debug, Clone, Copy)]
enum Paint {
    Faint,
    Bold,
    Good,
    Bad,
    Launcher,
    Instance,
    Forge,
    Job,
}

/// Prints a text as it is.
pub(crate) fn plain(text: &str) {
    let mut out = io::stdout().lock();
    // Nobody reads any more: nothing to do about it.
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}

/// Prints what went wrong with the sandbox itself.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "sandbox: {text}");
}

/// Shows what happens as it happens.
#[derive(Debug)]
pub(crate) struct Timeline {
    start: Instant,
    terminal: bool,
    colour: bool,
    /// By caller, name and status.
    seen: BTreeMap<String, usize>,
    hidden: usize,
}

impl Timeline {
    pub(crate) fn new() -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "the person's wish: https://no-color.org"
        )]
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let terminal = io::stdout().is_terminal();
        Timeline {
            start: Instant::now(),
            terminal,
            colour: wanted && terminal,
            seen: BTreeMap::new(),
            hidden: 0,
        }
    }

    fn paint(&self, paint: Paint, text: &str) -> String {
        let code = match paint {
            Paint::Faint => "2",
            Paint::Bold => "1",
            Paint::Good => "32",
            Paint::Bad => "1;31",
            Paint::Launcher => "36",
            Paint::Instance => "33",
            Paint::Forge => "35",
            Paint::Job => "34",
        };
        match self.colour && !text.is_empty() {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.into(),
        }
    }

    fn line(&self, at: Duration, who: &str, paint: Paint, what: &str) {
        let time = self.paint(Paint::Faint, &format!("{:8.3} s", at.as_secs_f64()));
        let who = self.paint(paint, &format!("{who:<WHO$}"));
        plain(&format!("{time}  {who}  {}\n", what.trim_end()));
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    pub(crate) fn title(&self, program: &[String], env: &[(String, String)]) {
        let command = format!("runner-launch {}", program.join(" "));
        plain(&format!("\n{}\n", self.paint(Paint::Bold, &command)));
        let width = env.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        // With the latter a person can look at the cluster with kubectl.
        let is_shown = |name: &str, value: &str| value.starts_with("http") || name == "KUBECONFIG";
        for (name, value) in env.iter().filter(|(name, value)| is_shown(name, value)) {
            plain(&format!(
                "  {}\n",
                self.paint(Paint::Faint, &format!("{name:<width$}  {value}"))
            ));
        }
        plain("\n");
    }

    /// A line of the launcher's own.
    pub(crate) fn launcher(&self, line: &str) {
        let cut = line.char_indices().nth(DATA).map(|(at, _)| at);
        let line = match cut {
            // Whoever stores the output wants it whole.
            Some(at) if self.terminal && line.starts_with('{') => format!("{}…", &line[..at]),
            _ => line.to_owned(),
        };
        self.line(
            self.now(),
            "launcher",
            Paint::Launcher,
            &format!("│ {line}"),
        );
    }

    /// What the sandbox itself has to say.
    pub(crate) fn hint(&self, text: &str) {
        self.line(
            self.now(),
            "sandbox",
            Paint::Faint,
            &self.paint(Paint::Faint, text),
        );
    }

    pub(crate) fn event(&mut self, event: &Event) {
        let now = self.now();
        match event {
            Event::Call(call) => self.call(call),
            Event::Instance { id, state, note } => {
                let note = self.paint(Paint::Faint, note);
                self.line(
                    now,
                    "instance",
                    Paint::Instance,
                    &format!("{id} {state}  {note}"),
                );
            }
            Event::Console { id, line } => {
                self.line(now, short(id), Paint::Instance, &format!("│ {line}"));
            }
            Event::Runner { name, state } => {
                self.line(now, "runner", Paint::Forge, &format!("{name} {state}"));
            }
            Event::Job {
                name,
                run_id,
                state,
            } => {
                let state = match state.strip_prefix("completed: ") {
                    Some("success") => self.paint(Paint::Good, state),
                    Some(_) => self.paint(Paint::Bad, state),
                    None => state.clone(),
                };
                self.line(
                    now,
                    "job",
                    Paint::Job,
                    &format!("{name} of run {run_id} {state}"),
                );
            }
            Event::JobOutput { line, .. } => {
                self.line(now, "job", Paint::Job, &format!("│ {line}"));
            }
        }
    }

    fn call(&mut self, call: &Call) {
        // The runner program asks for messages or jobs all the time.
        let asks = ["runner:message", "runner:POST /jobs/request"];
        if asks.contains(&call.name.as_str()) && call.status == Some(204) {
            self.hidden += 1;
            return;
        }
        let who = match &call.peer {
            Caller::Host if call.service == "runner" => "runner",
            Caller::Host => "launcher",
            Caller::Instance(id) => short(id),
        };
        let status = call
            .status
            .map_or("no answer".into(), |status| status.to_string());
        let seen = self
            .seen
            .entry(format!("{who} {} {status}", call.name))
            .or_default();
        *seen += 1;
        if *seen > REPEATS_SHOWN {
            self.hidden += 1;
            return;
        }
        let more = if *seen == REPEATS_SHOWN {
            "  (repeats are not shown)"
        } else {
            ""
        };
        let good = call.status.is_some_and(|status| status < 400);
        let took = call.finished.map_or(Duration::ZERO, |finished| {
            finished.duration_since(call.started)
        });
        let fault = call.fault.as_ref().map(|fault| format!("  fault: {fault}"));
        let code = call
            .code
            .as_ref()
            .filter(|_| !good)
            .map(|code| format!("  {code}"));
        // Kubernetes' calls go by verb and resource alone.
        let what = call
            .name
            .split_once(':')
            .map_or(call.name.as_str(), |(_, what)| what);
        let text = format!(
            "→ {:<SERVICE$} {:<CALL$} {:>5} ms  {}{}{}{}",
            call.service,
            what,
            took.as_millis(),
            self.paint(if good { Paint::Good } else { Paint::Bad }, &status),
            code.unwrap_or_default(),
            fault.unwrap_or_default(),
            self.paint(Paint::Faint, more),
        );
        let paint = match call.peer {
            Caller::Host => Paint::Launcher,
            Caller::Instance(_) => Paint::Instance,
        };
        self.line(self.now(), who, paint, &text);
    }

    /// Shows how it ended; the answer is the exit code.
    pub(crate) fn summary(&self, story: &Story, attempts: &[Attempt], leaks: &[String]) -> u8 {
        plain("\n");
        let exit = story.exit.map_or(1, |(status, _)| exit_code(status));
        self.outcome(story);
        let jobs_ok = self.jobs(story, attempts);
        for (id, life) in &story.instances {
            let text = match life.ended {
                Some(ended) => {
                    let age = ended.duration_since(life.born).as_secs_f64();
                    format!("{id} {} after {age:.1} s", life.state)
                }
                None => format!("{id} still {}", life.state),
            };
            let note = self.paint(Paint::Faint, &life.note);
            self.verdict(life.is_gone(), "instance", &format!("{text}  {note}"));
        }
        let calls = format!(
            "{} by the launcher, {} by the instance and its runner; {} repeats not shown",
            story.calls_of_launcher, story.calls_of_instances, self.hidden
        );
        self.verdict(true, "calls", &calls);
        match leaks {
            [] => self.verdict(true, "left over", "nothing"),
            leaks => leaks
                .iter()
                .for_each(|leak| self.verdict(false, "left over", leak)),
        }
        plain("\n");
        match exit {
            _ if story.interrupted => exit.max(130),
            0 if jobs_ok && leaks.is_empty() => 0,
            0 => 1,
            code => code,
        }
    }

    fn outcome(&self, story: &Story) {
        if let Some(ready) = story.ready {
            let text = format!("runner ready after {:.1} s", ready.as_secs_f64());
            self.verdict(true, "launched", &text);
        }
        let (good, text) = match story.exit {
            Some((status, after)) => {
                let how = match status.signal() {
                    Some(signal) => format!("signal {signal}"),
                    None => format!("exit code {}", exit_code(status)),
                };
                (
                    status.success(),
                    format!("{how} after {:.1} s", after.as_secs_f64()),
                )
            }
            None => (false, "had to be killed".into()),
        };
        self.verdict(good, "launcher", &text);
    }

    fn jobs(&self, story: &Story, attempts: &[Attempt]) -> bool {
        let mut all_good = true;
        for job in attempts {
            let by = job.runner.as_deref().map(|name| format!(" on {name}"));
            let why = job.why.as_deref().map(|why| format!(": {why}"));
            let text = format!(
                "{}, attempt {}: {}{}{}",
                job.name,
                job.number,
                job.how,
                by.unwrap_or_default(),
                why.unwrap_or_default()
            );
            self.verdict(job.succeeded, "job", &text);
            // What was run again doesn't count.
            all_good &= job.succeeded || !job.is_latest;
        }
        all_good && (attempts.is_empty() || story.jobs_done())
    }

    fn verdict(&self, good: bool, what: &str, text: &str) {
        let mark = match good {
            true => self.paint(Paint::Good, "✓"),
            false => self.paint(Paint::Bad, "✗"),
        };
        plain(&format!(
            "  {mark} {}  {text}\n",
            self.paint(Paint::Bold, &format!("{what:<9}"))
        ));
    }
}

/// As a shell tells it.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// An instance id's beginning: enough to tell a few apart.
fn short(id: &str) -> &str {
    id.get(..WHO).unwrap_or(id)
}
