//! The runner program of the sandbox, started without an agent: the floor for what an agent adds.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use sandbox::Event;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::lab::Lab;
use crate::program;

/// How long it may take to be online.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(5);

/// The unpacked program.
#[derive(Debug)]
pub(crate) struct StandIn<'a> {
    lab: &'a Lab,
    folder: PathBuf,
}

impl<'a> StandIn<'a> {
    /// Downloads and unpacks it.
    pub(crate) async fn install(lab: &'a Lab) -> io::Result<Self> {
        let folder = lab.sandbox.folder().join("stand-in");
        std::fs::create_dir_all(&folder)?;
        let stand_in = StandIn { lab, folder };
        let downloads = stand_in.ask("downloads", None).await?;
        let url = downloads
            .as_array()
            .into_iter()
            .flatten()
            .find(|download| download["os"] == "linux")
            .and_then(|download| download["download_url"].as_str())
            .ok_or_else(|| io::Error::other("GitHub offers no runner program for Linux"))?;
        let archive = stand_in.folder.join("archive");
        let mut command = program::command(Path::new("curl"), Vec::new());
        command.args(["--silent", "--fail", "--output"]);
        program::end({
            command.arg(&archive).arg(url);
            command
        })
        .await?;
        let archive = GzDecoder::new(std::fs::File::open(archive)?);
        tar::Archive::new(archive).unpack(&stand_in.folder)?;
        Ok(stand_in)
    }

    /// From its start to the moment in which GitHub sees it online.
    pub(crate) async fn start(&self, name: &str) -> io::Result<Duration> {
        let body = json!({
            "name": name,
            "runner_group_id": 1,
            "labels": ["self-hosted", "bench"],
            "work_folder": "_work",
        });
        let answer = self.ask("generate-jitconfig", Some(body)).await?;
        let config = answer["encoded_jit_config"].as_str();
        let config = config.ok_or_else(|| io::Error::other("GitHub gave no configuration"))?;
        let env = [
            ("ACTIONS_RUNNER_INPUT_JITCONFIG", config),
            ("RUNNER_ALLOW_RUNASROOT", "1"),
        ];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut command = program::command(&self.folder.join("run.sh"), env.into());
        let start = Instant::now();
        let mut child = command.spawn()?;
        let online = loop {
            let is_it = |event: &Event| {
                matches!(event, Event::Runner { name: known, state }
                    if known == name && state == "online")
            };
            let events = self.lab.events();
            if let Some((time, _)) = events.iter().find(|(_, event)| is_it(event)) {
                break *time;
            }
            if child.try_wait()?.is_some() || start.elapsed() > PATIENCE {
                child.start_kill()?;
                return Err(io::Error::other("the runner program doesn't start"));
            }
            sleep(PAUSE).await;
        };
        // All its processes.
        if let Some(pid) = child.id() {
            killpg(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL)?;
        }
        child.wait().await?;
        Ok(online.duration_since(start))
    }

    /// Asks GitHub about the repository's runners.
    async fn ask(&self, what: &str, body: Option<Value>) -> io::Result<Value> {
        let github = self.lab.sandbox.github();
        let mut command = program::command(Path::new("curl"), Vec::new());
        command
            .args(["--silent", "--fail", "--header"])
            .arg(format!("authorization: Bearer {}", github.token()))
            .arg(format!(
                "{}/repos/octo/repo/actions/runners/{what}",
                github.url()
            ));
        if let Some(body) = body {
            command.args(["--data", &body.to_string()]);
        }
        let answer = program::end(command).await?;
        serde_json::from_str(&answer).map_err(io::Error::other)
    }
}
