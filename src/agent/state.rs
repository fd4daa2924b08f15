//! What outlives the agent's own death, for whoever cleans up after it.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::forge::JobRef;

/// What an agent has come to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// The runner's id at the forge.
    pub(super) runner_id: Option<u64>,
    /// The job under way.
    pub(super) job: Option<JobRef>,
    /// Whether we have begun to have that job run again, so that its run may be cancelled by us.
    #[serde(default)]
    pub(super) rerunning: bool,
    /// The runner program, which leads a session of its own.
    #[serde(default)]
    pub(super) program: Option<i32>,
    /// Whether the record is gone and nothing is left to do but to give the machine back.
    pub(super) finished: bool,
}

/// The state with its file.
pub(super) struct Kept {
    file: PathBuf,
    state: State,
}

impl Kept {
    /// Reads the file; nothing there, or nothing sensible, is the first state.
    pub(super) fn open(file: &Path) -> Self {
        let state = fs::read(file)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        Self {
            file: file.to_owned(),
            state,
        }
    }

    pub(super) fn get(&self) -> &State {
        &self.state
    }

    /// Changes the state and writes it, whole or not at all.
    pub(super) fn change(&mut self, change: impl FnOnce(&mut State)) {
        change(&mut self.state);
        let write = || -> std::io::Result<()> {
            let new = self.file.with_extension("new");
            fs::write(&new, serde_json::to_vec(&self.state)?)?;
            fs::rename(new, &self.file)
        };
        if let Err(error) = write() {
            tracing::warn!("writing {}: {error}", self.file.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state.json");
        let job = JobRef {
            name: Some("train".into()),
            ..JobRef::default()
        };
        Kept::open(&file).change(|state| {
            state.runner_id = Some(7);
            state.job = Some(job.clone());
        });
        let state = Kept::open(&file).get().clone();
        assert_eq!(
            (state.runner_id, state.job, state.finished),
            (Some(7), Some(job), false)
        );
        fs::write(&file, "{").unwrap();
        assert_eq!(*Kept::open(&file).get(), State::default());
    }
}
