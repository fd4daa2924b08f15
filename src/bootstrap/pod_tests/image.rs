//! An image and its container: a root of its own, and none but the programs that a test gives it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::agent::{AgentConfig, Place, hex};
use crate::bootstrap::tests::config;
use crate::bootstrap::{AgentFile, Bootstrap};
use crate::cloud::{Arch, ClosedMetadata};
use crate::host::Host;

/// What even the smallest image has.
const TOOLS: [&str; 19] = [
    "base64",
    "cat",
    "chmod",
    "cp",
    "cut",
    "env",
    "grep",
    "head",
    "ls",
    "mkdir",
    "mv",
    "rm",
    "sh",
    "sha256sum",
    "sleep",
    "tail",
    "touch",
    "uname",
    "git",
];

/// The agent: notes what it is asked for, and is ready at once.
pub(super) const AGENT: &str = r#"#!/bin/sh
echo "$2" >>"$RUNNER_LAUNCH_ROOT/calls"
[ "$2" != run ] || touch "$RUNNER_LAUNCH_ROOT/var/lib/runner-launch/ready"
"#;

pub(super) const CURL: &str = r#"#!/bin/sh
echo "curl $*" >>"$RUNNER_LAUNCH_ROOT/calls"
while [ "$1" != -o ]; do shift; done
cp "$RUNNER_LAUNCH_ROOT/served" "$2"
"#;

/// BusyBox's as Alpine builds it, with a timeout.
pub(super) const WGET: &str = r#"#!/bin/sh
if [ "$1" = --help ]; then echo "Usage: wget [-cqS] [-O FILE] [-T SEC] URL" >&2; exit 1; fi
echo wget >>"$RUNNER_LAUNCH_ROOT/calls"
[ "$1 $2 $3 $4" = "-q -T 60 -O" ] || exit 1
cp "$RUNNER_LAUNCH_ROOT/served" "$5"
"#;

/// As Debian builds it, without: it crashes when it is given one all the same.
pub(super) const BARE_WGET: &str = r#"#!/bin/sh
if [ "$1" = --help ]; then echo "Usage: wget [-cqS] [-O FILE] URL" >&2; exit 1; fi
echo wget >>"$RUNNER_LAUNCH_ROOT/calls"
[ "$1 $2" = "-q -O" ] || kill -SEGV $$
cp "$RUNNER_LAUNCH_ROOT/served" "$3"
"#;

pub(super) struct Pod {
    root: tempfile::TempDir,
    shell: Vec<&'static str>,
    /// The script's own.
    pub(super) mode: u32,
}

/// What a script has come to.
pub(super) struct Outcome {
    pub(super) code: Option<i32>,
    pub(super) log: String,
    pub(super) calls: String,
}

fn write_program(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn find(tool: &str) -> Option<PathBuf> {
    ["/usr/bin", "/bin", "/usr/sbin"]
        .map(|folder| Path::new(folder).join(tool))
        .into_iter()
        .find(|path| path.exists())
}

impl Pod {
    /// An image with curl, the user and root.
    pub(super) fn new(shell: &[&'static str]) -> Self {
        let root = tempfile::tempdir().unwrap();
        for folder in ["bin", "etc", "home/runner", "root", "var/lib/runner-launch"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        let open = fs::Permissions::from_mode(0o777);
        fs::set_permissions(root.path().join("var/lib/runner-launch"), open).unwrap();
        let pod = Self {
            root,
            shell: shell.to_vec(),
            mode: 0o400,
        };
        for tool in TOOLS {
            if let Some(path) = find(tool) {
                symlink(path, pod.path("bin").join(tool)).unwrap();
            }
        }
        pod.program("id", "#!/bin/sh\necho 0\n");
        pod.program(
            "chown",
            "#!/bin/sh\necho \"chown $1\" >>\"$RUNNER_LAUNCH_ROOT/calls\"\n",
        );
        pod.program("curl", CURL);
        pod.write("served", AGENT);
        pod.write(
            "etc/passwd",
            "root:x:0:0::/root:/bin/sh\nrunner:x:1001:1001::/home/runner:/bin/sh\n",
        );
        pod.write("etc/group", "root:x:0:\nrunner:x:1001:\n");
        pod
    }

    pub(super) fn path(&self, below: &str) -> PathBuf {
        self.root.path().join(below)
    }

    pub(super) fn write(&self, file: &str, text: &str) {
        fs::write(self.path(file), text).unwrap();
    }

    pub(super) fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).unwrap_or_default()
    }

    pub(super) fn program(&self, name: &str, text: &str) {
        let path = self.path("bin").join(name);
        let _ = fs::remove_file(&path);
        write_program(&path, text);
    }

    pub(super) fn without(&self, name: &str) {
        fs::remove_file(self.path("bin").join(name)).unwrap();
    }

    /// The right agent is this one.
    pub(super) fn start(&self, agent: &str, startup: Option<&str>, deadline: u64) -> Child {
        let sum = ring::digest::digest(&ring::digest::SHA256, agent.as_bytes());
        let file = AgentFile {
            url: "https://example.com/agent".into(),
            sha256: hex(sum.as_ref()),
        };
        let script = Bootstrap {
            name: "n",
            deadline: Duration::from_secs(deadline),
            agents: &Arch::ALL.map(|arch| (arch, file.clone())).into(),
            config: &AgentConfig {
                place: Place::Pod {
                    user: "runner".into(),
                },
                ..config()
            },
            startup_script: startup.map(str::as_bytes),
            ssh_key: None,
            farewell: "",
            closed: ClosedMetadata::Paths(&[]),
        }
        .script()
        .unwrap();
        self.write("bootstrap", &script);
        let mode = fs::Permissions::from_mode(self.mode);
        fs::set_permissions(self.path("bootstrap"), mode).unwrap();
        // A file: what outlives the script would hold a pipe open.
        let log = fs::File::create(self.path("log")).unwrap();
        Command::new(find(self.shell[0]).unwrap())
            .args(&self.shell[1..])
            .arg(self.path("bootstrap"))
            .env_clear()
            .env("PATH", self.path("bin"))
            .env("HOME", self.path("root"))
            .env("RUNNER_LAUNCH_ROOT", self.root.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    pub(super) fn end(&self, mut child: Child) -> Outcome {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if started.elapsed() > Duration::from_secs(20) {
                child.kill().unwrap();
                panic!("{:?} goes on: {}", self.shell, self.read("log"));
            }
            sleep(Duration::from_millis(10));
        };
        Outcome {
            code: status.code(),
            log: self.read("log"),
            calls: self.read("calls"),
        }
    }

    /// The script's own processes, its subshells among them.
    pub(super) fn processes(&self) -> Vec<Pid> {
        let script = self.path("bootstrap").display().to_string();
        let is_its = |pid: &Pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&script)
        };
        let all = fs::read_dir("/proc").unwrap().flatten();
        all.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .map(Pid::from_raw)
            .filter(is_its)
            .collect()
    }

    pub(super) fn run(&self, startup: Option<&str>) -> Outcome {
        self.end(self.start(AGENT, startup, 60))
    }

    /// Waits for a file that the script's children make.
    pub(super) fn until(&self, file: &str) {
        let started = Instant::now();
        while !self.path(file).exists() {
            assert!(
                started.elapsed() < Duration::from_secs(20),
                "{:?}: {}",
                self.shell,
                self.read("log")
            );
            sleep(Duration::from_millis(10));
        }
    }
}

/// A container's other processes end with its main one.
impl Drop for Pod {
    fn drop(&mut self) {
        for pid in self.processes() {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
}

/// Under each shell: Debian's, the one of most images of other kinds, and BusyBox's. The machine's own
/// stands in for the first, and the last may be missing where nobody checks for a release.
pub(super) fn under_every_shell(mut test: impl FnMut(&mut Pod, &str)) {
    let _held = crate::agent::CHILDREN.blocking_read();
    let posix = if find("dash").is_some() { "dash" } else { "sh" };
    let is_ci = Host::system().env("CI") == Some("true");
    for (shell, needed) in [
        (&[posix][..], true),
        (&["bash"], false),
        (&["busybox", "sh"], is_ci),
    ] {
        if find(shell[0]).is_some() {
            test(&mut Pod::new(shell), &format!("{shell:?}"));
        } else {
            assert!(!needed, "{shell:?} isn't here to be tested with");
        }
    }
}
