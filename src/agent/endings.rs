//! Everything from outside that ends a runner, as one stream: signals, the machine's power button,
//! the cloud's announcements.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::cloud::{self, Notice, NoticeSource};
use crate::error::Signal;
use crate::host::Host;
use crate::http::Http;
use crate::signals::Signals;

/// Where acpid tells of the power button; without acpid, the service manager turns the button into
/// a SIGTERM. <https://manpages.debian.org/bookworm/acpid/acpid.8.en.html>
const ACPI_SOCKET: &str = "/run/acpid.socket";

/// A reason to end from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ending {
    /// Somebody wants the runner to end.
    Signal(Signal),
    /// Somebody pressed the machine's button.
    PowerButton,
    /// The cloud takes the machine away.
    Interruption(String),
    /// The cluster ends the pod.
    PodEnd,
    /// The cloud may soon take the machine away.
    Rebalance(String),
}

impl Ending {
    /// What a signal means. A pod's main process gets a SIGTERM, which it passes on, when the pod is
    /// evicted, its node drained, or its Job deleted.
    fn of(signal: Signal, pod: bool) -> Self {
        match signal {
            Signal::Terminate if pod => Ending::PodEnd,
            signal => Ending::Signal(signal),
        }
    }
}

/// The stream.
pub(super) struct Endings {
    signals: Signals,
    /// Whether this is a pod, whose end is told by a SIGTERM.
    pod: bool,
    others: mpsc::Receiver<Ending>,
}

impl Endings {
    /// Starts to listen to everything.
    pub(super) fn watch(
        signals: Signals,
        source: Option<NoticeSource>,
        host: &Host,
        http: &Http,
    ) -> Self {
        let (sender, others) = mpsc::channel(4);
        let pod = source == Some(NoticeSource::Pod);
        if !pod {
            tokio::spawn(power_button(host.clone(), sender.clone()));
            if let Some(source) = source {
                tokio::spawn(notices(source, host.clone(), http.clone(), sender));
            }
        }
        Self {
            signals,
            pod,
            others,
        }
    }

    /// Waits for the next one.
    pub(super) async fn next(&mut self) -> Ending {
        tokio::select! {
            signal = self.signals.next() => Ending::of(signal, self.pod),
            Some(ending) = self.others.recv() => ending,
        }
    }
}

/// Most machines have no acpid; one that starts after us is found, too.
async fn power_button(host: Host, sender: mpsc::Sender<Ending>) {
    let socket = host.path(ACPI_SOCKET);
    let mut pause = Duration::from_secs(5);
    while !sender.is_closed() {
        if let Ok(stream) = UnixStream::connect(&socket).await {
            let mut lines = BufReader::new(stream).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                if line.starts_with("button/power")
                    && sender.send(Ending::PowerButton).await.is_err()
                {
                    return;
                }
            }
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(3600));
    }
}

async fn notices(source: NoticeSource, host: Host, http: Http, sender: mpsc::Sender<Ending>) {
    let mut rebalance_seen = false;
    loop {
        let ending = match cloud::next_notice(source, &host, &http, rebalance_seen).await {
            Notice::Interruption { detail } => Ending::Interruption(detail),
            Notice::Rebalance { detail } => Ending::Rebalance(detail),
        };
        rebalance_seen = true;
        let last = matches!(ending, Ending::Interruption(_));
        if sender.send(ending).await.is_err() || last {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_s_sigterm_is_its_end_and_no_user_s() {
        let ending = |signal, pod| Ending::of(signal, pod);
        assert_eq!(ending(Signal::Terminate, true), Ending::PodEnd);
        for (signal, pod) in [(Signal::Interrupt, true), (Signal::Terminate, false)] {
            assert_eq!(ending(signal, pod), Ending::Signal(signal));
        }
    }
}
