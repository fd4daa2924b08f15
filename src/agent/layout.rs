//! Where a runner's files are, and who its jobs run as.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid};

use super::config::Place;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::secret::Secret;
use crate::spec::Driver;

/// The agent's own folder on an instance.
const WORK: &str = "/var/lib/runner-launch";

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
}

/// A user of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) uid: Uid,
    pub(super) gid: Gid,
    pub(super) groups: Vec<Gid>,
    pub(super) home: PathBuf,
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
                })
            }
            Place::Local { folder } => Ok(Self {
                program: folder.join("runner"),
                state: folder.join("state.json"),
                ready: folder.join("ready"),
                hook: folder.join("job-started.sh"),
                note: folder.join("job/note"),
                user: None,
            }),
        }
    }

    /// The state file of a place, for when the user can't be found any more.
    pub(super) fn state_file(place: &Place, host: &Host) -> PathBuf {
        match place {
            Place::Instance { .. } => host.path(WORK).join("state.json"),
            Place::Local { folder } => folder.join("state.json"),
        }
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
                    std::os::unix::fs::chown(
                        folder,
                        Some(user.uid.as_raw()),
                        Some(user.gid.as_raw()),
                    )?;
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

impl User {
    /// Looks a user up in the machine's own files.
    fn find(name: &str, host: &Host) -> Result<Self> {
        let read = |file: &str| {
            let file = host.path(file);
            fs::read_to_string(&file).map_err(|error| {
                Error::other(format!("reading {}", file.display())).caused_by(error)
            })
        };
        let (passwd, group) = (read("/etc/passwd")?, read("/etc/group").unwrap_or_default());
        let mut user = Self::parse(name, &passwd, &group)
            .ok_or_else(|| Error::other(format!("there is no user {name} on this machine")))?;
        user.home = host.path(&user.home);
        Ok(user)
    }

    /// <https://man7.org/linux/man-pages/man5/passwd.5.html>
    fn parse(name: &str, passwd: &str, group: &str) -> Option<Self> {
        let fields = |line: &str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
        let entry = passwd
            .lines()
            .map(fields)
            .find(|f| f.first().is_some_and(|n| n == name))?;
        let gid = Gid::from_raw(entry.get(3)?.parse().ok()?);
        let mut groups = vec![gid];
        for line in group.lines().map(fields) {
            let member = line
                .get(3)
                .is_some_and(|members| members.split(',').any(|m| m == name));
            if let Some(gid) = line
                .get(2)
                .filter(|_| member)
                .and_then(|gid| gid.parse().ok())
            {
                groups.push(Gid::from_raw(gid));
            }
        }
        Some(Self {
            name: name.to_owned(),
            uid: Uid::from_raw(entry.get(2)?.parse().ok()?),
            gid,
            groups,
            home: Path::new(entry.get(5)?).to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_brings_all_groups() {
        let passwd =
            "root:x:0:0:root:/root:/bin/bash\nrunner:x:1001:1002::/home/runner:/bin/bash\n";
        let group = "root:x:0:\ndocker:x:115:ubuntu,runner\nsudo:x:27:runner\nadm:x:4:ubuntu\n";
        let user = User::parse("runner", passwd, group).unwrap();
        assert_eq!(user.uid, Uid::from_raw(1001));
        assert_eq!(user.groups, [1002, 115, 27].map(Gid::from_raw));
        assert_eq!(user.home, Path::new("/home/runner"));
        assert_eq!(User::parse("nobody", passwd, group), None);
        assert_eq!(
            User::parse("runner", "runner:x:many:1::/:/bin/sh", group),
            None
        );
    }
}
