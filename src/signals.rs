//! The signals that end a launch or a runner, as one stream.

use std::time::Duration;

use nix::unistd::Pid;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

use crate::error::{Error, Result, Signal};

/// Listens from its making on, so that no signal is lost in between.
#[derive(Debug)]
pub struct Signals {
    interrupt: Stream,
    terminate: Stream,
    quit: Stream,
    /// `None` where it is ignored, as below `nohup`: then it stays so.
    hangup: Option<Stream>,
    /// The process that started us, while its end means ours.
    parent: Option<Pid>,
}

impl Signals {
    /// Takes the signals over from the system, which would end the process.
    pub fn listen() -> Result<Self> {
        let listen = |kind| {
            signal(kind).map_err(|error| Error::other("listening for signals").caused_by(error))
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            quit: listen(SignalKind::quit())?,
            hangup: match is_ignored(Signal::Hangup) {
                true => None,
                false => Some(listen(SignalKind::hangup())?),
            },
            parent: None,
        })
    }

    /// Takes the end of the process that started us for a SIGTERM, once. In a pipeline, the shell
    /// around us gets the signals that are meant for us, and says nothing when it dies of them.
    pub fn follow_parent(&mut self) {
        self.parent = Some(nix::unistd::getppid());
    }

    /// Waits for the next one.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.terminate.recv() => Signal::Terminate,
            _ = self.quit.recv() => Signal::Quit,
            () = received(&mut self.hangup) => Signal::Hangup,
            () = orphaned(self.parent) => {
                self.parent = None;
                Signal::Terminate
            }
        }
    }
}

async fn received(stream: &mut Option<Stream>) {
    match stream {
        Some(stream) => {
            stream.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Whether the process was started with this signal ignored.
/// <https://man7.org/linux/man-pages/man5/proc_pid_status.5.html>
fn is_ignored(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.unwrap_or_default() >> (signal.number() - 1) & 1 == 1
}

/// Waits for the end of the process that started us, which shows in our being handed to another.
///
/// The kernel would tell at once (`PR_SET_PDEATHSIG`), but it means the thread that started us, not
/// the process, and programs like GitHub's runner end their threads as they like.
async fn orphaned(parent: Option<Pid>) {
    /// Ten seconds is what a cancelled GitHub job has in all.
    const LOOK: Duration = Duration::from_millis(100);
    let Some(parent) = parent else {
        return std::future::pending().await;
    };
    while nix::unistd::getppid() == parent {
        tokio::time::sleep(LOOK).await;
    }
}
