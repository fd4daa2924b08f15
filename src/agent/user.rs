//! Who jobs run as.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, Gid, Uid, access};

use crate::error::{Error, Result};
use crate::host::Host;

/// The user's number where the list of users can't be changed, unless it is somebody's there, or a
/// later one; GitHub's own image has it, too.
const NAMELESS: u32 = 1001;

/// A user of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) uid: Uid,
    pub(super) gid: Gid,
    pub(super) groups: Vec<Gid>,
    pub(super) home: PathBuf,
}

impl User {
    /// Looks a user up in the machine's own files.
    pub(super) fn find(name: &str, host: &Host) -> Result<Self> {
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

    /// The user of a container's jobs: the named one, if we are it or can become it; without root, we
    /// ourselves. A home in which it may write nothing, as on a read-only disk, is replaced by
    /// `spare`.
    pub(super) fn in_container(name: &str, spare: PathBuf, host: &Host) -> Self {
        let own = Uid::effective();
        let read = |file: &str| fs::read_to_string(host.path(file)).unwrap_or_default();
        let (passwd, group) = (read("/etc/passwd"), read("/etc/group"));
        let named = Self::parse(name, &passwd, &group);
        let mut user = match named.filter(|user| own.is_root() || user.uid == own) {
            Some(user) => user,
            None if own.is_root() => Self::nameless(name, free_number(&passwd, &group)),
            None => {
                let entry =
                    name_of(own, &passwd).and_then(|name| Self::parse(name, &passwd, &group));
                entry.unwrap_or_else(|| Self {
                    uid: own,
                    gid: Gid::effective(),
                    ..Self::nameless(host.env("USER").unwrap_or(name), NAMELESS)
                })
            }
        };
        user.home = host.path(&user.home);
        // Without a line in the list, the container's runtime may have told us.
        let told = host.home().filter(|_| user.uid == own);
        let homes = [Some(user.home.clone()), told].into_iter().flatten();
        user.home = homes
            .filter(|home| home.is_dir() && *home != host.path("/"))
            .find(|home| user.may_write(home))
            .unwrap_or(spare);
        user
    }

    fn nameless(name: &str, number: u32) -> Self {
        let gid = Gid::from_raw(number);
        Self {
            name: name.to_owned(),
            uid: Uid::from_raw(number),
            gid,
            groups: vec![gid],
            home: PathBuf::from("/"),
        }
    }

    /// Whether the user may write into a folder, or use a socket.
    pub(super) fn may_write(&self, path: &Path) -> bool {
        // For ourselves that is all; for root it still says whether the disk is read-only.
        if access(path, AccessFlags::W_OK).is_err() {
            return false;
        }
        if !Uid::effective().is_root() || self.uid.is_root() {
            return true;
        }
        let Ok(metadata) = fs::metadata(path) else {
            return false;
        };
        let class = if metadata.uid() == self.uid.as_raw() {
            6
        } else if self.groups.contains(&Gid::from_raw(metadata.gid())) {
            3
        } else {
            0
        };
        metadata.mode() >> class & 0o2 != 0
    }

    /// Gives the user the group of something that the group may use; never root's.
    pub(super) fn join_group_of(&mut self, path: &Path) {
        if let Ok(metadata) = fs::metadata(path)
            && metadata.gid() != 0
            && metadata.mode() & 0o060 == 0o060
        {
            self.groups.push(Gid::from_raw(metadata.gid()));
        }
    }

    /// Makes something the user's own.
    pub(super) fn own(&self, path: &Path) -> io::Result<()> {
        chown(path, Some(self.uid.as_raw()), Some(self.gid.as_raw()))
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

/// The first number that neither a user nor a group has.
fn free_number(passwd: &str, group: &str) -> u32 {
    let taken: BTreeSet<u32> = passwd
        .lines()
        .chain(group.lines())
        .filter_map(|line| line.split(':').nth(2)?.parse().ok())
        .collect();
    (NAMELESS..)
        .find(|number| !taken.contains(number))
        .unwrap_or(NAMELESS)
}

fn name_of(uid: Uid, passwd: &str) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid.as_raw())).then_some(name)
    })
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

    fn container(passwd: &str) -> (tempfile::TempDir, Host) {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("etc")).unwrap();
        fs::create_dir_all(root.path().join("home/runner")).unwrap();
        fs::write(root.path().join("etc/passwd"), passwd).unwrap();
        let host = Host::fixed([(crate::host::names::ROOT, root.path().to_str().unwrap())]);
        (root, host)
    }

    #[test]
    fn a_container_s_user_is_the_named_one_where_it_may_be() {
        let own = Uid::effective();
        let passwd = format!(
            "runner:x:{own}:{}::/home/runner:/bin/sh\n",
            Gid::effective()
        );
        let (root, host) = container(&passwd);
        let user = User::in_container("runner", "/spare".into(), &host);
        assert_eq!((user.name.as_str(), user.uid), ("runner", own));
        assert_eq!(user.home, root.path().join("home/runner"));
        // A home that isn't there, or that is the root itself, is replaced.
        for home in ["/home/other", "/"] {
            let passwd = passwd.replace("/home/runner", home);
            let (_root, host) = container(&passwd);
            let user = User::in_container("runner", "/spare".into(), &host);
            assert_eq!(user.home, Path::new("/spare"), "{home}");
        }
    }

    #[test]
    fn without_a_line_in_the_list_root_s_jobs_have_a_number_and_others_their_own() {
        let (_root, host) = container("root:x:0:0::/root:/bin/sh\n");
        let user = User::in_container("runner", "/spare".into(), &host);
        let own = Uid::effective();
        let uid = if own.is_root() {
            Uid::from_raw(NAMELESS)
        } else {
            own
        };
        assert_eq!((user.name.as_str(), user.uid), ("runner", uid));
        assert_eq!(user.home, Path::new("/spare"));
    }

    #[test]
    fn a_number_without_a_name_is_nobody_else_s() {
        let passwd = "root:x:0:0::/root:/bin/sh\nbuild:x:1001:50::/:/bin/sh\n";
        assert_eq!(free_number("", ""), NAMELESS);
        assert_eq!(free_number(passwd, "build:x:1002:\nx:x:1004:\n"), 1003);
        if Uid::effective().is_root() {
            let (_root, host) = container(passwd);
            let user = User::in_container("runner", "/spare".into(), &host);
            assert_eq!((user.uid.as_raw(), user.gid.as_raw()), (1002, 1002));
        }
    }

    #[test]
    fn who_may_write_is_told_by_the_mode() {
        let folder = tempfile::tempdir().unwrap();
        let own = fs::metadata(folder.path()).unwrap();
        let with = |uid: u32, groups: &[u32]| User {
            uid: Uid::from_raw(uid),
            groups: groups.iter().copied().map(Gid::from_raw).collect(),
            ..User::nameless("n", NAMELESS)
        };
        let mode = |mode| {
            let mode = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(mode);
            fs::set_permissions(folder.path(), mode).unwrap();
        };
        mode(0o775);
        assert!(with(own.uid(), &[]).may_write(folder.path()));
        if Uid::effective().is_root() {
            assert!(with(7, &[own.gid()]).may_write(folder.path()));
            assert!(!with(7, &[8]).may_write(folder.path()));
            mode(0o777);
            assert!(with(7, &[8]).may_write(folder.path()));
        }
        assert!(!with(own.uid(), &[]).may_write(&folder.path().join("missing")));
        mode(0o755);
        let mut user = with(7, &[8]);
        user.join_group_of(folder.path());
        assert_eq!(user.groups, [Gid::from_raw(8)]);
    }
}
