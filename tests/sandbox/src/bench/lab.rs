//! A sandbox in which the real binary is run again and again, and what its calls tell of a run.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sandbox::{Call, Caller, Config, Event, Sandbox};
use tokio::net::TcpListener;
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::sleep;

use super::cloud::Cloud;
use super::spans::{self, Span};
use super::{first, memory};
use crate::program;

/// How long a run may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks. The times that are measured come from the calls, not from here.
const PAUSE: Duration = Duration::from_millis(10);
/// Longer than anyone waits: such an instance never comes up.
const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

/// The launch that is measured.
fn launch(cloud: Cloud) -> Vec<String> {
    let cloud = format!("--cloud={}", cloud.name());
    let rest = ["--labels=bench", "--single", "--idle-timeout=1"];
    [&["launch", &cloud], rest.as_slice()]
        .concat()
        .into_iter()
        .map(str::to_owned)
        .collect()
}

/// A sandbox, and the program that is measured in it.
#[derive(Debug)]
pub(crate) struct Lab {
    pub(crate) sandbox: Sandbox,
    cloud: Cloud,
    binary: PathBuf,
    events: Arc<Mutex<Vec<(Instant, Event)>>>,
}

/// A launch up to its instance's existence.
#[derive(Debug)]
pub(crate) struct Creation {
    /// From the launcher's start to the cloud's answer.
    pub(crate) time: Duration,
    /// The launcher's calls, in waves.
    pub(crate) waves: Vec<Vec<Call>>,
    calls: Vec<Call>,
}

/// A whole life, from the launch to the instance's end.
#[derive(Debug)]
pub(crate) struct Life {
    /// The most memory that the launcher and the agent had, in MB; the agent's until the runner
    /// was ready.
    pub(crate) launcher_memory: Option<f64>,
    pub(crate) agent_memory: Option<f64>,
    /// What the sandbox took to answer at once while the instance lived.
    pub(crate) answer: Duration,
    /// When the instance was up, and when its runner was online.
    pub(crate) up: Instant,
    pub(crate) online: Instant,
    /// The instance's calls.
    calls: Vec<Call>,
}

impl Lab {
    /// A sandbox without latency.
    pub(crate) async fn open(cloud: Cloud, binary: &Path) -> io::Result<Self> {
        Self::with(cloud, binary, |_| {}).await
    }

    /// A sandbox in which instances are made, and made visible, at once but never come up.
    pub(crate) async fn without_boots(
        cloud: Cloud,
        binary: &Path,
        latency: Duration,
    ) -> io::Result<Self> {
        Self::with(cloud, binary, |config| {
            config.latency = latency;
            config.boot_delay = NEVER;
            config.network_delay = Duration::ZERO;
            config.visibility_delay = Duration::ZERO;
        })
        .await
    }

    async fn with(
        cloud: Cloud,
        binary: &Path,
        change: impl FnOnce(&mut Config),
    ) -> io::Result<Self> {
        let (sink, mut source) = unbounded_channel();
        let mut config = Config::new(binary);
        config.verbose_sink = Some(sink);
        change(&mut config);
        let sandbox = Sandbox::start(config).await?;
        let events: Arc<Mutex<Vec<(Instant, Event)>>> = Arc::default();
        let seen = events.clone();
        tokio::spawn(async move {
            while let Some(event) = source.recv().await {
                let now = Instant::now();
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                seen.push((now, event));
            }
        });
        Ok(Lab {
            sandbox,
            cloud,
            binary: binary.into(),
            events,
        })
    }

    /// From a launcher's start to its first request.
    pub(crate) async fn first_request(&self) -> io::Result<Duration> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let env = first::redirected(self.sandbox.env(), &url);
        let mut command = program::command(&self.binary, env);
        command.args(launch(self.cloud)).arg("--dry-run");
        first::request(&listener, command).await
    }

    /// What the sandbox takes to answer at once, which is no part of the program's own time.
    pub(crate) async fn answer(&self) -> io::Result<Duration> {
        first::answer(&self.sandbox.github().url()).await
    }

    /// Launches until the instance exists.
    pub(crate) async fn create(&self) -> io::Result<Creation> {
        let before = self.sandbox.calls().len();
        let mut command = program::command(&self.binary, self.sandbox.env());
        command.args(launch(self.cloud));
        let start = Instant::now();
        let mut launcher = command.spawn()?;
        let end = loop {
            let calls = self.sandbox.calls().split_off(before);
            let made = |call: &&Call| {
                call.name == self.cloud.creation() && matches!(call.status, Some(200 | 201))
            };
            if let Some(end) = calls.iter().find(made).and_then(|call| call.finished) {
                break end;
            }
            if launcher.try_wait()?.is_some() || start.elapsed() > PATIENCE {
                launcher.start_kill()?;
                let output = launcher.wait_with_output().await?;
                return Err(io::Error::other(format!(
                    "the launcher made no instance: {}",
                    String::from_utf8_lossy(&output.stderr).trim_end()
                )));
            }
            sleep(PAUSE).await;
        };
        launcher.kill().await?;
        let calls: Vec<Call> = self
            .sandbox
            .calls()
            .split_off(before)
            .into_iter()
            .filter(|call| call.peer == Caller::Host && call.started < end)
            .collect();
        let waves = spans::waves(
            calls
                .iter()
                .map(|call| (span(call, end), call.clone()))
                .collect(),
        );
        Ok(Creation {
            time: end.duration_since(start),
            waves,
            calls,
        })
    }

    /// Launches, and waits until everything is over.
    pub(crate) async fn live(&self) -> io::Result<Life> {
        let calls = self.sandbox.calls().len();
        let events = self.events().len();
        let env = self.sandbox.env();
        let launcher_memory = memory::peak(&self.binary, &launch(self.cloud), env).await?;
        // The launcher ends well when the runner is ready; now it waits for a job, in vain.
        let agent_memory = self.agent().and_then(memory::peak_so_far);
        let answer = self.answer().await?;
        let start = Instant::now();
        while !(self.cloud.live(&self.sandbox).is_empty()
            && self.sandbox.github().runners().is_empty())
        {
            if start.elapsed() > PATIENCE {
                return Err(io::Error::other("an instance doesn't end"));
            }
            sleep(PAUSE).await;
        }
        let events = self.events().split_off(events);
        let at = |what: &str, is_it: &dyn Fn(&Event) -> bool| {
            let event = events.iter().find(|(_, event)| is_it(event));
            event
                .map(|(time, _)| *time)
                .ok_or_else(|| io::Error::other(format!("the {what} was not seen")))
        };
        Ok(Life {
            launcher_memory,
            agent_memory,
            answer,
            up: at(
                "instance's start",
                &|event| matches!(event, Event::Instance { state, .. } if state == self.cloud.running()),
            )?,
            online: at(
                "runner",
                &|event| matches!(event, Event::Runner { state, .. } if state == "online"),
            )?,
            calls: self
                .sandbox
                .calls()
                .split_off(calls)
                .into_iter()
                .filter(|call| matches!(call.peer, Caller::Instance(_)))
                .collect(),
        })
    }

    /// The process of the one live instance's agent.
    fn agent(&self) -> Option<i32> {
        let instance = self.cloud.live(&self.sandbox).into_iter().next()?;
        let is_agent = |argv: &[String]| argv.windows(2).any(|words| words == ["agent", "run"]);
        let processes = self.cloud.processes(&self.sandbox, &instance);
        let agent = processes
            .into_iter()
            .find(|process| is_agent(&process.argv));
        agent.map(|process| process.pid)
    }

    pub(crate) fn events(&self) -> Vec<(Instant, Event)> {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.clone()
    }

    /// Ends everything that is left.
    pub(crate) async fn close(self) {
        // Launchers were killed on purpose here: what they left is no news.
        let _ = self.sandbox.shutdown().await;
    }
}

impl Creation {
    /// How many calls went to this service, or to all.
    pub(crate) fn calls(&self, service: Option<&str>) -> usize {
        self.of(service).count()
    }

    /// How many round trips to this service were serial, or to all.
    pub(crate) fn serial(&self, service: Option<&str>) -> usize {
        let end = Instant::now();
        spans::waves(self.of(service).map(|call| (span(call, end), ())).collect()).len()
    }

    fn of(&self, service: Option<&str>) -> impl Iterator<Item = &Call> {
        self.calls
            .iter()
            .filter(move |call| service.is_none_or(|service| call.service == service))
    }
}

impl Life {
    /// From the instance's start to the runner's readiness, without the downloads.
    pub(crate) fn cost(&self) -> Duration {
        let downloads = self.calls.iter().filter(|call| call.service == "download");
        let downloads: Vec<Span> = downloads
            .map(|call| span(call, self.online))
            .filter(|(start, end)| *start >= self.up && *end <= self.online)
            .collect();
        self.online
            .saturating_duration_since(self.up)
            .saturating_sub(spans::covered(downloads))
    }

    /// The parts of that cost: until the agent's download, from there to the runner program's, and
    /// from there to the runner's readiness.
    pub(crate) fn parts(&self) -> Option<[Duration; 3]> {
        let download = |name: &str| {
            let call = self.calls.iter().find(|call| call.name == name)?;
            Some(span(call, self.online))
        };
        let (agent, runner) = (download("download:agent")?, download("download:runner")?);
        Some([
            agent.0.saturating_duration_since(self.up),
            runner.0.saturating_duration_since(agent.1),
            self.online.saturating_duration_since(runner.1),
        ])
    }
}

/// From when to when a call was under way; one that isn't answered, up to `end`.
fn span(call: &Call, end: Instant) -> Span {
    (call.started, call.finished.unwrap_or(end).max(call.started))
}
