//! The machine's processes, as the kernel lists them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use nix::unistd::Pid;

/// A session's living members, with what is below them.
pub(super) fn members(proc: &Path, session: i32) -> BTreeSet<i32> {
    let is_member = |pid: &i32| {
        let pid = Pid::from_raw(*pid);
        let stat = fs::read_to_string(proc.join(format!("{pid}/stat"))).unwrap_or_default();
        let (_, rest) = stat.rsplit_once(')').unwrap_or_default();
        rest.split_whitespace().nth(3) == Some(session.to_string().as_str())
    };
    let living = processes(proc).into_iter();
    let living = living.filter(|(_, _, state)| state != "Z");
    let mut found: BTreeSet<i32> = living.map(|(pid, ..)| pid).filter(is_member).collect();
    for pid in found.clone() {
        found.extend(
            descendants(proc, Pid::from_raw(pid))
                .iter()
                .map(|pid| pid.as_raw()),
        );
    }
    found
}

/// Every process: its id, its parent's, and its state's letter.
/// <https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>
pub(super) fn processes(proc: &Path) -> Vec<(i32, i32, String)> {
    let read = |entry: fs::DirEntry| -> Option<(i32, i32, String)> {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        // The name, in parentheses, may hold anything; the state and the parent follow it.
        let (_, rest) = stat.rsplit_once(')')?;
        let mut fields = rest.split_whitespace();
        let state = fields.next()?.to_owned();
        Some((pid, fields.next()?.parse().ok()?, state))
    };
    fs::read_dir(proc)
        .map(|entries| entries.flatten().filter_map(read).collect())
        .unwrap_or_default()
}

/// All that is below a process.
pub(super) fn descendants(proc: &Path, root: Pid) -> Vec<Pid> {
    let all = processes(proc);
    let mut found = BTreeSet::from([root.as_raw()]);
    loop {
        let before = found.len();
        for (pid, parent, _) in &all {
            if found.contains(parent) {
                found.insert(*pid);
            }
        }
        if found.len() == before {
            break;
        }
    }
    found.remove(&root.as_raw());
    found.into_iter().map(Pid::from_raw).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grandchildren_are_found() {
        let folder = tempfile::tempdir().unwrap();
        for (pid, parent) in [(1, 0), (10, 1), (11, 10), (12, 11), (20, 1)] {
            let process = folder.path().join(pid.to_string());
            fs::create_dir(&process).unwrap();
            fs::write(
                process.join("stat"),
                format!("{pid} (a ) b) S {parent} 1 1"),
            )
            .unwrap();
        }
        let found = descendants(folder.path(), Pid::from_raw(10));
        assert_eq!(found, [11, 12].map(Pid::from_raw));
    }

    #[test]
    fn a_session_is_all_that_its_leader_has_left() {
        let folder = tempfile::tempdir().unwrap();
        let all = [
            (1, 0, "S", 1),
            // The leader is gone: its children are another's now, and one has left the session.
            (11, 1, "S", 10),
            (12, 11, "S", 12),
            (13, 1, "Z", 10),
            (20, 1, "S", 20),
        ];
        for (pid, parent, state, session) in all {
            let process = folder.path().join(pid.to_string());
            fs::create_dir(&process).unwrap();
            fs::write(
                process.join("stat"),
                format!("{pid} (a ) b) {state} {parent} {session} {session} 0"),
            )
            .unwrap();
        }
        assert_eq!(members(folder.path(), 10), BTreeSet::from([11, 12]));
    }
}
