//! What an agent needs to know: written by the launcher, carried by the bootstrap script, read on
//! the instance. It holds secrets; the file is root's alone.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cloud::{GiveBack, NoticeSource};
use crate::error::{Error, Result};
use crate::forge::{Programs, Registration};
use crate::spec::{Docker, ForgeSpec};

/// An agent's configuration.
#[derive(Clone, Serialize, Deserialize)]
pub struct AgentConfig {
    /// The runner's name.
    pub name: String,
    /// Its labels.
    pub labels: Vec<String>,
    /// Seconds to wait for a job; `None`: for ever.
    pub idle_seconds: Option<u64>,
    /// Whether the runner ends after one job.
    pub single: bool,
    /// The version that the runner program is and must stay, where one was asked for.
    #[serde(default)]
    pub version: Option<String>,
    /// Whether an interrupted job's run is run again.
    pub retry: bool,
    /// The forge, and the access to it where the agent may need that.
    pub forge: ForgeSpec,
    /// What the runner program starts with.
    pub registration: Registration,
    /// Where the runner program comes from.
    pub programs: Programs,
    /// How jobs run in containers, where the forge's runner program runs them so.
    #[serde(default)]
    pub docker: Docker,
    /// How the cloud announces the machine's end.
    pub notices: Option<NoticeSource>,
    /// What ends the machine's bill.
    #[serde(default)]
    pub give_back: GiveBack,
    /// Where the runner lives.
    pub place: Place,
}

/// Where a runner lives and as whom.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// On an instance made for it, as this user, with a machine to give back at the end.
    Instance {
        /// The jobs' user.
        user: String,
    },
    /// In a container whose image is somebody's own, with nothing to give back.
    Pod {
        /// The jobs' user, where the agent is root; else jobs run as the agent does.
        user: String,
    },
    /// On somebody's own machine, as whoever started it, in a folder that goes at the end.
    Local {
        /// The folder, made by us.
        folder: PathBuf,
    },
}

impl AgentConfig {
    /// Reads a configuration file.
    pub fn read(file: &Path) -> Result<Self> {
        let doing = || format!("reading the agent's configuration {}", file.display());
        let text = std::fs::read(file).map_err(|error| Error::other(doing()).caused_by(error))?;
        // The parser's message may show a piece of the text, so only its place is told.
        serde_json::from_slice(&text).map_err(|error| {
            Error::other(format!(
                "{}: it is damaged at line {}, column {}",
                doing(),
                error.line(),
                error.column()
            ))
        })
    }

    /// How long to wait for a job; `None`: for ever.
    pub fn idle_timeout(&self) -> Option<Duration> {
        self.idle_seconds.map(Duration::from_secs)
    }
}
