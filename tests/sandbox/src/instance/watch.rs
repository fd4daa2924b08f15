//! Who belongs to which sandbox and instance. One thread looks at the process table all the time,
//! for all sandboxes of this program: a process that was once seen in a tree stays a member, even
//! when it leaves its parent, its group and its environment behind.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use memchr::memmem;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use super::procfs::{self, Stat};
use crate::calls::lock;

/// How often the process table is looked at.
const INTERVAL: Duration = Duration::from_millis(20);
/// How long a new process is looked at every time: it may still become another one (by `exec`).
const YOUTH: Duration = Duration::from_millis(500);
/// How often an older member is looked at.
const AGED_INTERVAL: Duration = Duration::from_millis(200);
/// The folder in a sandbox's folder that holds a folder per instance.
pub(crate) const INSTANCES: &str = "instances";

static WATCH: Mutex<Option<Watch>> = Mutex::new(None);

/// Where a process belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    sandbox: Arc<Path>,
    /// `None`: it was started for the sandbox (its `HOME` is there, say), but on no instance.
    instance: Option<Arc<str>>,
}

#[derive(Debug)]
struct Known {
    started: u64,
    first_parent: i32,
    /// When it was looked at for the first time, and for the last.
    first_look: Instant,
    last_look: Instant,
    place: Option<Place>,
    /// The process that the sandbox itself started and this one descends from: what a control
    /// group is on a real machine.
    leader: Option<i32>,
}

/// A sandbox under watch.
#[derive(Debug)]
struct Tree {
    path: Arc<Path>,
    watchdog: Option<Child>,
    /// No process may be started any more.
    closed: bool,
    /// The same for these instances.
    closed_instances: BTreeSet<String>,
    arguments: BTreeSet<String>,
    /// The user ids that jobs run under, by instance.
    users: HashMap<u32, Arc<str>>,
}

#[derive(Debug, Default)]
struct Watch {
    trees: BTreeMap<PathBuf, Tree>,
    known: HashMap<i32, Known>,
    running: bool,
}

/// A live process of a tree.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) stat: Stat,
    pub(super) instance: Option<Arc<str>>,
    /// See [`Known::leader`].
    pub(super) leader: Option<i32>,
}

fn watch() -> MutexGuard<'static, Option<Watch>> {
    lock(&WATCH)
}

/// Begins to watch over a sandbox's folder.
pub(super) fn begin(sandbox: &Path, watchdog: Option<Child>) {
    let mut guard = watch();
    let watch = guard.get_or_insert_default();
    watch.trees.insert(
        sandbox.to_owned(),
        Tree {
            path: sandbox.into(),
            watchdog,
            closed: false,
            closed_instances: BTreeSet::new(),
            arguments: BTreeSet::new(),
            users: HashMap::new(),
        },
    );
    if !watch.running {
        watch.running = true;
        std::thread::spawn(run);
    }
}

/// Lets no process of the sandbox start any more.
pub(super) fn close(sandbox: &Path) {
    if let Some(tree) = watch().as_mut().and_then(|w| w.trees.get_mut(sandbox)) {
        tree.closed = true;
    }
}

/// Lets no process of an instance start any more.
pub(crate) fn close_instance(sandbox: &Path, instance: &str) {
    if let Some(tree) = watch().as_mut().and_then(|w| w.trees.get_mut(sandbox)) {
        tree.closed_instances.insert(instance.into());
    }
}

/// Ends the watch over a sandbox; the answer is its watchdog.
pub(super) fn end(sandbox: &Path) -> Option<Child> {
    let mut guard = watch();
    let watch = guard.as_mut()?;
    let tree = watch.trees.remove(sandbox)?;
    for known in watch.known.values_mut() {
        if known
            .place
            .as_ref()
            .is_some_and(|place| *place.sandbox == *sandbox)
        {
            known.place = None;
        }
    }
    tree.watchdog
}

/// Starts a process on an instance, unless that or its sandbox is closed.
pub(crate) fn spawn(
    sandbox: &Path,
    instance: &str,
    command: &mut tokio::process::Command,
) -> io::Result<(tokio::process::Child, i32)> {
    let mut guard = watch();
    let watch = guard.get_or_insert_default();
    let open = |tree: &&Tree| !tree.closed && !tree.closed_instances.contains(instance);
    let Some(tree) = watch.trees.get(sandbox).filter(open) else {
        return Err(io::Error::other("the instance is off"));
    };
    let place = Place {
        sandbox: tree.path.clone(),
        instance: Some(instance.into()),
    };
    // Under the lock: what starts before the instance closes is seen when it is searched.
    let child = command.spawn()?;
    let pid = child
        .id()
        .and_then(|pid| i32::try_from(pid).ok())
        .ok_or_else(|| io::Error::other("a process without an id"))?;
    // It may be gone before the next look, and the kernel may not show its arguments yet.
    if let Some(tree) = watch.trees.get_mut(sandbox) {
        tree.arguments.insert(words_of(command.as_std()));
    }
    if let Some(stat) = procfs::stat(pid) {
        watch.known.insert(
            pid,
            Known {
                started: stat.started,
                first_parent: stat.parent,
                first_look: Instant::now(),
                last_look: Instant::now(),
                place: Some(place),
                leader: Some(pid),
            },
        );
    }
    Ok((child, pid))
}

/// A command's words, joined by spaces.
fn words_of(command: &std::process::Command) -> String {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect();
    words.join(" ")
}

/// Says that this user id is the one of an instance's jobs.
pub(crate) fn user(sandbox: &Path, instance: &str, uid: u32) {
    if let Some(tree) = watch().as_mut().and_then(|w| w.trees.get_mut(sandbox)) {
        tree.users.insert(uid, instance.into());
    }
}

/// The live processes of a sandbox, or of one of its instances.
pub(super) fn members(sandbox: &Path, instance: Option<&str>) -> Vec<Member> {
    find_members(sandbox, instance, false)
}

/// All live processes of a sandbox, after a look at every process there is.
pub(super) fn all_members(sandbox: &Path) -> Vec<Member> {
    find_members(sandbox, None, true)
}

fn find_members(sandbox: &Path, instance: Option<&str>, thoroughly: bool) -> Vec<Member> {
    let mut guard = watch();
    let Some(watch) = guard.as_mut() else {
        return Vec::new();
    };
    watch.look(thoroughly);
    let mut members: Vec<Member> = watch
        .known
        .iter()
        .filter_map(|(pid, known)| {
            let place = known.place.as_ref()?;
            if *place.sandbox != *sandbox
                || instance.is_some_and(|wanted| place.instance.as_deref() != Some(wanted))
            {
                return None;
            }
            let stat = procfs::stat(*pid)
                .filter(|stat| stat.started == known.started && !stat.is_zombie())?;
            Some(Member {
                stat,
                instance: place.instance.clone(),
                leader: known.leader,
            })
        })
        .collect();
    members.sort_by_key(|member| member.stat.pid);
    members
}

/// Every argument list seen so far in a sandbox's trees, its words joined by spaces.
pub(crate) fn argument_lists(sandbox: &Path) -> Vec<String> {
    let mut guard = watch();
    let Some(watch) = guard.as_mut() else {
        return Vec::new();
    };
    watch.look(false);
    watch
        .trees
        .get(sandbox)
        .map(|tree| tree.arguments.iter().cloned().collect())
        .unwrap_or_default()
}

/// The instance whose process is at the other end of a connection from `peer`.
pub(super) fn instance_behind(peer: std::net::SocketAddr) -> Option<Arc<str>> {
    // To look for the socket's owner takes long: not where no instance runs anything.
    let watched = |watch: &Watch| {
        let mut known = watch
            .known
            .values()
            .filter_map(|known| known.place.as_ref());
        known.any(|place| place.instance.is_some())
    };
    if !watch().as_ref().is_some_and(watched) {
        return None;
    }
    let socket = procfs::socket(peer)?;
    let mut candidates = Vec::new();
    let user = {
        let mut guard = watch();
        let watch = guard.as_mut()?;
        watch.look(false);
        for (pid, known) in &watch.known {
            if let Some(place) = &known.place {
                candidates.push((known.started, *pid, place.instance.clone()));
            }
        }
        let mut trees = watch.trees.values();
        trees.find_map(|tree| tree.users.get(&socket.uid).cloned())
    };
    // Callers are mostly young.
    candidates.sort_by_key(|(started, _, _)| std::cmp::Reverse(*started));
    candidates
        .into_iter()
        .find(|(_, pid, _)| procfs::holds_socket(*pid, socket.inode))
        // A process of another user hides its files from a root without CAP_SYS_PTRACE.
        .map_or(user, |(_, _, instance)| instance)
}

fn run() {
    loop {
        std::thread::sleep(INTERVAL);
        let mut guard = watch();
        let Some(watch) = guard.as_mut() else { return };
        if watch.trees.is_empty() {
            watch.running = false;
            watch.known.clear();
            return;
        }
        watch.look(false);
    }
}

impl Watch {
    /// Looks at new and young processes and now and then at older members, or, `thoroughly`, at
    /// all.
    fn look(&mut self, thoroughly: bool) {
        let own = std::process::id() as i32;
        let now = Instant::now();
        let mut pids = procfs::pids();
        // A parent comes before its children, except where the numbers begin anew.
        pids.sort_unstable();
        for pid in pids.iter().copied().filter(|pid| *pid != own) {
            let is_due = self.known.get(&pid).is_none_or(|known| {
                now - known.first_look < YOUTH
                    || (known.place.is_some() && now - known.last_look > AGED_INTERVAL)
            });
            if (is_due || thoroughly)
                && let Some(stat) = procfs::stat(pid)
            {
                self.place(stat, own, now);
            }
        }
        let is_new_stranger = |known: &Known| known.first_look == now && known.place.is_none();
        let strangers: Vec<i32> = self
            .known
            .iter()
            .filter(|(_, known)| is_new_stranger(known))
            .map(|(pid, _)| *pid)
            .collect();
        for stat in strangers.into_iter().filter_map(procfs::stat) {
            self.place(stat, own, now);
        }
        self.known.retain(|pid, _| pids.binary_search(pid).is_ok());
        for (pid, known) in &self.known {
            let Some(place) = &known.place else { continue };
            if known.last_look == now
                && let Some(tree) = self.trees.get_mut(&*place.sandbox)
            {
                let arguments = procfs::argv(*pid).join(" ");
                if !arguments.is_empty() {
                    tree.arguments.insert(arguments);
                }
            }
        }
    }

    /// Finds out where a process belongs, and buries it when it is a dead orphan.
    fn place(&mut self, stat: Stat, own: i32, now: Instant) {
        let known = self
            .known
            .get(&stat.pid)
            .filter(|known| known.started == stat.started);
        let first_parent = known.map_or(stat.parent, |known| known.first_parent);
        let first_look = known.map_or(now, |known| known.first_look);
        let before = known.and_then(|known| known.place.clone());
        let leader = known
            .and_then(|known| known.leader)
            .or_else(|| self.relative(stat, own)?.leader);
        if stat.is_zombie() {
            // Its parent died and left it to this program (the subreaper); nobody else waits.
            if stat.parent == own && first_parent != own {
                let _ = waitpid(Pid::from_raw(stat.pid), Some(WaitPidFlag::WNOHANG));
            }
            return;
        }
        let place = match before {
            Some(place) if place.instance.is_some() => Some(place),
            before => {
                let marked = self.by_marks(stat.pid);
                let inherited = || self.relative(stat, own)?.place.clone();
                match marked {
                    Some(place) if place.instance.is_some() => Some(place),
                    // Its relatives may know better.
                    marked => inherited().or(marked).or(before),
                }
            }
        };
        self.known.insert(
            stat.pid,
            Known {
                started: stat.started,
                first_parent,
                first_look,
                last_look: now,
                place,
                leader,
            },
        );
    }

    /// By its environment and its working folder.
    fn by_marks(&self, pid: i32) -> Option<Place> {
        let environ = procfs::environ(pid);
        let folder = procfs::folder(pid);
        self.trees.values().find_map(|tree| {
            let instance = instance_in(&environ, &tree.path)
                .or_else(|| instance_of(folder.as_ref()?, &tree.path));
            let is_meant = instance.is_some() || mentions(&environ, &tree.path);
            is_meant.then(|| Place {
                sandbox: tree.path.clone(),
                instance,
            })
        })
    }

    /// Its parent or its process group's leader, whichever belongs to a tree.
    fn relative(&self, stat: Stat, own: i32) -> Option<&Known> {
        [stat.parent, stat.group]
            .into_iter()
            .filter(|relative| *relative != own && *relative != stat.pid)
            .filter_map(|relative| self.known.get(&relative))
            .find(|known| known.place.is_some())
    }
}

/// Whether some variable's value begins with a path in the sandbox.
fn mentions(environ: &[u8], sandbox: &Path) -> bool {
    memmem::find(environ, format!("={}/", sandbox.display()).as_bytes()).is_some()
}

/// The instance whose folder some variable mentions.
fn instance_in(environ: &[u8], sandbox: &Path) -> Option<Arc<str>> {
    let mark = format!("{}/{INSTANCES}/", sandbox.display());
    let start = memmem::find(environ, mark.as_bytes())? + mark.len();
    let id = environ[start..]
        .split(|byte| b"/:\0".contains(byte))
        .next()?;
    Some(std::str::from_utf8(id).ok()?.into())
}

/// The instance that a path below a sandbox's folder belongs to.
fn instance_of(path: &Path, sandbox: &Path) -> Option<Arc<str>> {
    let mut parts = path.strip_prefix(sandbox).ok()?.components();
    if parts.next()?.as_os_str() != INSTANCES {
        return None;
    }
    Some(parts.next()?.as_os_str().to_str()?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environments_lead_to_instances() {
        let sandbox = Path::new("/tmp/sandbox-1");
        let of = |environ: &[u8]| instance_in(environ, sandbox);
        assert_eq!(
            of(b"A=b\0PATH=/tmp/sandbox-1/instances/i-1/bin:/bin\0").as_deref(),
            Some("i-1")
        );
        assert_eq!(of(b"HOME=/tmp/sandbox-1/home\0"), None);
        assert!(mentions(b"HOME=/tmp/sandbox-1/home\0", sandbox));
        assert!(!mentions(b"HOME=/tmp/sandbox-10/home\0", sandbox));
    }

    #[test]
    fn paths_lead_to_instances() {
        let sandbox = Path::new("/tmp/sandbox-1");
        let of = |path: &str| instance_of(Path::new(path), sandbox);
        assert_eq!(
            of("/tmp/sandbox-1/instances/i-1/root").as_deref(),
            Some("i-1")
        );
        assert_eq!(of("/tmp/sandbox-1/home"), None);
        assert_eq!(of("/tmp/sandbox-2/instances/i-1/root"), None);
    }
}
