//! The sandbox as a program: runs the real binary against the fakes and shows everything.
//!
//! `cargo run -p sandbox -- launch --cloud=aws --labels=gpu --single`; or measures it:
//! `cargo run --release -p sandbox -- bench`

mod arguments;
mod bench;
mod forge;
mod program;
mod show;
mod story;

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sandbox::{Config, Event, Sandbox};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep_until};

use arguments::{Arguments, Asked, HELP};
use forge::Forge;
use program::Profile;
use show::Timeline;
use story::Story;

/// How long the last events may take to come in once everything has ended.
const AFTERMATH: Duration = Duration::from_millis(300);
/// How long the launcher may take to roll back.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let outcome = match Asked::read(std::env::args().skip(1)) {
        Ok(Asked::Help) => {
            show::plain(HELP);
            Ok(0)
        }
        Ok(Asked::Launch(arguments)) => in_runtime(run(&arguments)),
        Ok(Asked::Bench(options)) => in_runtime(bench::run(&options)),
        Err(complaint) => {
            show::complain(&complaint);
            Ok(2)
        }
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            show::complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn in_runtime(work: impl Future<Output = io::Result<u8>>) -> io::Result<u8> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(work);
    // A thread that still waits for a process needn't be waited for.
    runtime.shutdown_background();
    outcome
}

/// The whole show of a launch; the answer is the exit code.
async fn run(arguments: &Arguments) -> io::Result<u8> {
    let binary = program::build(Profile::Own).await?;
    let (sink, events) = unbounded_channel();
    let mut config = Config::new(&binary);
    config.latency = arguments.latency;
    config.boot_delay = Duration::from_millis(500);
    config.network_delay = Duration::from_millis(500);
    config.keep |= arguments.keep;
    config.verbose_sink = Some(sink);
    let sandbox = Sandbox::start(config).await?;
    for (call, nth, kind) in &arguments.faults {
        sandbox.fault(call, *nth, kind.clone());
    }

    let mut timeline = Timeline::new();
    let forge = Forge::of(&arguments.program, &sandbox);
    let env = forge.env(&sandbox);
    timeline.title(&arguments.program, &env);
    let mut story = Story::new(arguments.job);
    let launcher = start(&binary, arguments, env)?;
    watch(
        arguments,
        launcher,
        &forge,
        events,
        &mut timeline,
        &mut story,
    )
    .await?;

    let folder = sandbox.folder().to_owned();
    let attempts = forge.attempts();
    let leaks = sandbox.shutdown().await;
    let code = timeline.summary(&story, &attempts, &leaks);
    if arguments.keep {
        show::plain(&format!("  everything is still in {}\n", folder.display()));
    }
    Ok(code)
}

/// Follows what happens until it is over.
async fn watch(
    arguments: &Arguments,
    mut launcher: Child,
    forge: &Forge,
    mut events: UnboundedReceiver<Event>,
    timeline: &mut Timeline,
    story: &mut Story,
) -> io::Result<()> {
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut terminations = signal(SignalKind::terminate())?;
    let (lines_in, mut lines) = unbounded_channel();
    if let Some(output) = launcher.stdout.take() {
        read_lines(output, lines_in.clone());
    }
    if let Some(output) = launcher.stderr.take() {
        read_lines(output, lines_in);
    }
    let mut deadline = None;
    loop {
        if story.is_over() && deadline.is_none() {
            deadline = Some(Instant::now() + AFTERMATH);
        }
        tokio::select! {
            biased;
            Some(event) = events.recv() => {
                timeline.event(&event);
                if story.hear(&event) {
                    queue(forge, timeline);
                }
            }
            Some(line) = lines.recv() => timeline.launcher(&line),
            ended = launcher.wait(), if story.exit.is_none() => {
                story.launcher_ended(ended?);
                if story.waits_for_idle_timeout(&arguments.program) {
                    timeline.hint(
                        "the runner waits for more jobs until its idle timeout; Ctrl-C ends it, \
                         --single would end it after its job",
                    );
                }
            }
            _ = interrupts.recv() => {
                let again = interrupt(&launcher, story, Signal::SIGINT, timeline);
                deadline = Some(Instant::now() + if again { Duration::ZERO } else { PATIENCE });
            }
            _ = terminations.recv() => {
                let again = interrupt(&launcher, story, Signal::SIGTERM, timeline);
                deadline = Some(Instant::now() + if again { Duration::ZERO } else { PATIENCE });
            }
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => break,
        }
        // Rolled back sooner than feared.
        if story.interrupted && story.exit.is_some() {
            let soon = Instant::now() + AFTERMATH;
            deadline = Some(deadline.map_or(soon, |deadline| deadline.min(soon)));
        }
    }
    Ok(())
}

/// Passes a signal on to the launcher; says whether there is nothing (more) to wait for.
fn interrupt(launcher: &Child, story: &mut Story, signal: Signal, timeline: &mut Timeline) -> bool {
    let again = std::mem::replace(&mut story.interrupted, true);
    match launcher.id() {
        Some(pid) if !again => {
            timeline.hint(&format!(
                "{signal} goes to the launcher; once more ends everything at once"
            ));
            kill(Pid::from_raw(pid.cast_signed()), signal).is_err()
        }
        _ => true,
    }
}

/// Queues a job for the new runner.
fn queue(forge: &Forge, timeline: &mut Timeline) {
    if let Some(labels) = forge.queue() {
        let labels = labels.join(", ");
        timeline.hint(&format!("queueing a job with the labels {labels}"));
    }
}

/// Starts the real binary with the fakes' environment.
fn start(binary: &Path, arguments: &Arguments, env: Vec<(String, String)>) -> io::Result<Child> {
    let mut command = program::command(binary, env);
    command.args(&arguments.program);
    command.spawn()
}

fn read_lines(output: impl AsyncRead + Unpin + Send + 'static, lines: UnboundedSender<String>) {
    tokio::spawn(async move {
        let mut output = BufReader::new(output).lines();
        while let Ok(Some(line)) = output.next_line().await {
            if lines.send(line).is_err() {
                break;
            }
        }
    });
}
