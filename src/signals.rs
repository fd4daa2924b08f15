//! The signals that end a launch or a runner, as one stream.

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
        })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.terminate.recv() => Signal::Terminate,
            _ = self.quit.recv() => Signal::Quit,
            () = received(&mut self.hangup) => Signal::Hangup,
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

/// In a pipeline, the shell around us gets the signals that are meant for us, and says nothing
/// when it dies of them: have the kernel tell us.
/// <https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html>
pub fn follow_parent() {
    // Without it, a cancelled job is left to the instance's own dead-man timer.
    if let Err(error) = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGTERM) {
        tracing::debug!("asking to be told of the parent's end: {error}");
    }
}
