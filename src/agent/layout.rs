//! Where a runner's files are.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;

use nix::unistd::Uid;

use super::config::Place;
use super::user::User;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::secret::Secret;
use crate::spec::Driver;

/// The agent's own folder on an instance, or in a pod.
const WORK: &str = "/var/lib/runner-launch";

/// What of it jobs write in a pod, and nothing else: a sidecar that works on the same files, as a
/// Docker daemon does, may share it, while the agent's own program and its secrets stay outside.
const SHARED: &str = "jobs";

/// The files and the user of one runner.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    /// The folder of the runner program.
    pub(super) program: PathBuf,
    /// What is remembered across the agent's death.
    pub(super) state: PathBuf,
    /// Stands for "a ready agent is here": the dead-man timer looks for it.
    pub(super) ready: PathBuf,
    /// The script that the runner program runs when a job starts; it takes known endings only.
    pub(super) hook: PathBuf,
    /// What that script writes.
    pub(super) note: PathBuf,
    /// Who the jobs run as; `None`: whoever runs the agent.
    pub(super) user: Option<User>,
    /// Whether the jobs find the agent's own environment, as in a container: its image has set it up
    /// for them. And the image may bring the runner program along.
    pub(super) inherits: bool,
}

impl Layout {
    /// The layout of a place.
    pub(super) fn new(place: &Place, driver: Driver, host: &Host) -> Result<Self> {
        let program = match driver {
            Driver::Github => "actions-runner",
            Driver::Gitlab => "gitlab-runner",
        };
        match place {
            Place::Instance { user } => {
                let user = User::find(user, host)?;
                let work = host.path(WORK);
                Ok(Self {
                    program: user.home.join(program),
                    state: work.join("state.json"),
                    ready: work.join("ready"),
                    hook: work.join("job-started.sh"),
                    note: work.join("job/note"),
                    user: Some(user),
                    inherits: false,
                })
            }
            Place::Pod { user } => {
                let work = host.path(WORK);
                let shared = work.join(SHARED);
                Ok(Self {
                    program: shared.join(program),
                    state: work.join("state.json"),
                    ready: work.join("ready"),
                    hook: work.join("job-started.sh"),
                    note: work.join("job/note"),
                    user: Some(User::in_container(user, shared.join("home"), host)),
                    inherits: true,
                })
            }
            Place::Local { folder } => Ok(Self {
                program: folder.join("runner"),
                state: folder.join("state.json"),
                ready: folder.join("ready"),
                hook: folder.join("job-started.sh"),
                note: folder.join("job/note"),
                user: None,
                inherits: false,
            }),
        }
    }

    /// The state file of a place, for when the user can't be found any more.
    pub(super) fn state_file(place: &Place, host: &Host) -> PathBuf {
        match place {
            Place::Instance { .. } | Place::Pod { .. } => host.path(WORK).join("state.json"),
            Place::Local { folder } => folder.join("state.json"),
        }
    }

    /// Makes the folder of the program's, and the home of a user who has none.
    pub(super) fn make_folders(&self) -> Result<()> {
        if let Some(folder) = self.program.parent() {
            let make = || -> std::io::Result<()> {
                fs::create_dir_all(folder)?;
                // A kubelet that made it for a sidecar has left it for all to write.
                if Uid::effective().is_root() {
                    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
                }
                Ok(())
            };
            make().map_err(|error| {
                Error::other(format!("making the folder {}", folder.display())).caused_by(error)
            })?;
        }
        let Some(user) = self.user.as_ref().filter(|user| !user.home.exists()) else {
            return Ok(());
        };
        fs::create_dir_all(&user.home)
            .and_then(|()| user.own(&user.home))
            .map_err(|error| {
                Error::other(format!("making the home {}", user.home.display())).caused_by(error)
            })
    }

    /// Writes the hook, and makes the folder in which only the jobs' user may write its note.
    pub(super) fn install_hook(&self, script: &str) -> Result<()> {
        let write = || -> std::io::Result<()> {
            fs::write(&self.hook, script)?;
            fs::set_permissions(&self.hook, fs::Permissions::from_mode(0o755))?;
            if let Some(folder) = self.note.parent() {
                fs::create_dir_all(folder)?;
                fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
                if let Some(user) = &self.user {
                    user.own(folder)?;
                }
            }
            Ok(())
        };
        write().map_err(|error| {
            Error::other(format!("writing the job hook {}", self.hook.display())).caused_by(error)
        })
    }

    /// Writes a file into the program's folder that only the program's user can read.
    pub(super) fn write_private(&self, name: &str, content: &Secret) -> Result<()> {
        let file = self.program.join(name);
        let write = || -> std::io::Result<()> {
            let mut open = fs::OpenOptions::new();
            let mut open = open.write(true).create_new(true).mode(0o600).open(&file)?;
            if let Some(user) = &self.user {
                std::os::unix::fs::fchown(&open, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
            }
            open.write_all(content.expose().as_bytes())
        };
        // What an earlier life left is in the way.
        let _ = fs::remove_file(&file);
        write()
            .map_err(|error| Error::other(format!("writing {}", file.display())).caused_by(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::names;

    #[test]
    fn what_a_sidecar_may_share_holds_nothing_of_the_agent_s() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::fixed([(names::ROOT, root.path().to_str().unwrap())]);
        let place = Place::Pod {
            user: "runner".into(),
        };
        let layout = Layout::new(&place, Driver::Github, &host).unwrap();
        let shared = root.path().join("var/lib/runner-launch/jobs");
        let outside = root.path().join("var/lib/runner-launch");
        assert!(layout.program.starts_with(&shared));
        for own in [&layout.state, &layout.ready, &layout.hook, &layout.note] {
            assert!(own.starts_with(&outside) && !own.starts_with(&shared));
        }
        fs::create_dir_all(&shared).unwrap();
        fs::set_permissions(&shared, fs::Permissions::from_mode(0o777)).unwrap();
        layout.make_folders().unwrap();
        if Uid::effective().is_root() {
            let mode = fs::metadata(&shared).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o755);
        }
    }
}
