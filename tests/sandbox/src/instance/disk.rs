//! What an instance's disk holds when it boots.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use nix::sys::stat::Mode;

use super::Parts;

/// Where the host's programs are.
const HOST_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The folder in a sandbox's folder with links to the host's programs, made where an image brings
/// no Docker: it leaves out what the image would have to bring.
const HOST_PROGRAMS: &str = "host-programs";
/// The folder in a sandbox's folder with the scripts in place of programs.
const SHIMS: &str = "shims";
/// The folder in a sandbox's folder that stands before the host's programs and shadows some.
const WITHHELD: &str = "withheld";

/// Each script and the names under which every machine has it.
const MACHINE: &[(&str, &[&str])] = &[
    (
        include_str!("shims/init.sh"),
        &["systemctl", "systemd-run", "shutdown", "poweroff", "halt"],
    ),
    (
        include_str!("shims/iptables.sh"),
        &["iptables", "ip6tables"],
    ),
];
/// The same for machines and containers alike.
const SCRIPTS: &[(&str, &[&str])] = &[
    (include_str!("shims/nothing.sh"), &["sync"]),
    (include_str!("shims/useradd.sh"), &["useradd"]),
    (include_str!("shims/usermod.sh"), &["usermod"]),
    (include_str!("shims/getent.sh"), &["getent"]),
    (include_str!("shims/id.sh"), &["id"]),
    (include_str!("shims/chown.sh"), &["chown", "chgrp"]),
    (include_str!("shims/clear_console.sh"), &["clear_console"]),
];
/// What an image may bring, and its package manager may install.
const PACKAGES: &[(&str, &[&str])] = &[
    (include_str!("shims/docker.sh"), &["docker"]),
    (include_str!("shims/git.sh"), &["git"]),
];
const PACKAGE_MANAGER: &str = include_str!("shims/packages.sh");
/// What a container's image may bring.
const CONTAINER: &[(&str, &[&str])] = &[
    (include_str!("shims/docker_client.sh"), &["docker-client"]),
    (include_str!("shims/sudo.sh"), &["sudo"]),
    (include_str!("shims/wget.sh"), &["wget"]),
];

const REFUSAL: &str = include_str!("shims/withheld.sh");

/// Programs that would act on the host.
const HARMFUL: &[&str] = &[
    "apt",
    "chpasswd",
    "chroot",
    "crontab",
    "dpkg",
    "groupadd",
    "groupdel",
    "groupmod",
    "hostnamectl",
    "hwclock",
    "insmod",
    "journalctl",
    "killall",
    "loginctl",
    "losetup",
    "mkfs",
    "modprobe",
    "mount",
    "nft",
    "passwd",
    "pkill",
    "reboot",
    "rmmod",
    "rpm",
    "service",
    "snap",
    "swapoff",
    "swapon",
    "sysctl",
    "telinit",
    "timedatectl",
    "umount",
    "userdel",
    "visudo",
];
/// What an image without Docker doesn't have.
const NOT_INSTALLED: &[&str] = &[
    "apt-get",
    "containerd",
    "dnf",
    "docker",
    "dockerd",
    "git",
    "podman",
    "runc",
    "yum",
];

/// The families of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Distribution {
    /// Ubuntu, with its version.
    Ubuntu(&'static str),
    /// Debian 12.
    Debian,
    /// Amazon Linux 2023.
    Amazon,
}

impl Distribution {
    /// The text of `/etc/os-release`.
    pub(crate) fn os_release(self) -> String {
        format!("ID={}\nPRETTY_NAME=\"{}\"\n", self.id(), self.pretty_name())
    }

    pub(super) fn pretty_name(self) -> String {
        match self {
            Distribution::Ubuntu(version) => format!("Ubuntu {version} LTS"),
            Distribution::Debian => "Debian GNU/Linux 12 (bookworm)".into(),
            Distribution::Amazon => "Amazon Linux 2023".into(),
        }
    }

    fn id(self) -> &'static str {
        match self {
            Distribution::Ubuntu(_) => "ubuntu",
            Distribution::Debian => "debian",
            Distribution::Amazon => "amzn",
        }
    }

    /// The user that people log in as.
    fn login(self) -> &'static str {
        match self {
            Distribution::Ubuntu(_) => "ubuntu",
            Distribution::Debian => "admin",
            Distribution::Amazon => "ec2-user",
        }
    }

    /// Where the ICU library is, which comes with Docker and git here.
    pub(crate) fn icu(self) -> &'static str {
        match self {
            Distribution::Ubuntu(_) | Distribution::Debian => {
                "usr/lib/x86_64-linux-gnu/libicuuc.so.74"
            }
            Distribution::Amazon => "usr/lib64/libicuuc.so.67",
        }
    }

    pub(crate) fn package_manager(self) -> &'static str {
        match self {
            Distribution::Ubuntu(_) | Distribution::Debian => "apt-get",
            Distribution::Amazon => "dnf",
        }
    }
}

/// Writes what all instances of a sandbox share. It is done before any instance exists: a script
/// that was just written can't be executed while some other thread's half-started child still holds
/// it open.
pub(crate) fn install_shims(sandbox: &Path, docker_installed: bool) -> io::Result<()> {
    let shims = sandbox.join(SHIMS);
    fs::create_dir_all(&shims)?;
    let managers: (&str, &[&str]) = (PACKAGE_MANAGER, &["apt-get", "dnf"]);
    let refusal: (&str, &[&str]) = (REFUSAL, &["withheld"]);
    let scripts = MACHINE.iter().chain(SCRIPTS).chain(PACKAGES);
    for (script, names) in scripts.chain(CONTAINER).chain([&managers, &refusal]) {
        for name in *names {
            let file = shims.join(name);
            fs::write(&file, script.replace("@HOST_PATH@", HOST_PATH))?;
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
        }
    }
    let withheld = sandbox.join(WITHHELD);
    fs::create_dir_all(&withheld)?;
    for name in HARMFUL {
        symlink(shims.join("withheld"), withheld.join(name))?;
    }
    if docker_installed {
        return Ok(());
    }
    let programs = sandbox.join(HOST_PROGRAMS);
    fs::create_dir_all(&programs)?;
    let mut seen = Vec::new();
    for folder in HOST_PATH.split(':') {
        // /bin is often the same as /usr/bin.
        let Ok(folder) = Path::new(folder).canonicalize() else {
            continue;
        };
        if seen.contains(&folder) {
            continue;
        }
        for entry in fs::read_dir(&folder)?.flatten() {
            let name = entry.file_name();
            if !NOT_INSTALLED.iter().any(|missing| name == *missing) {
                // There already: a folder further ahead has it, too.
                let _ = symlink(entry.path(), programs.join(&name));
            }
        }
        seen.push(folder);
    }
    Ok(())
}

/// The folder that stands before the host's programs and shadows those that would act on the host.
pub(crate) fn withheld(sandbox: &Path) -> PathBuf {
    sandbox.join(WITHHELD)
}

/// Where a host's program is.
pub(crate) fn host_program(name: &str) -> Option<PathBuf> {
    let folders = HOST_PATH.split(':').map(Path::new);
    folders
        .map(|folder| folder.join(name))
        .find(|file| file.exists())
}

/// Puts one of the scripts in place of programs into an instance's `bin`, as `name`.
pub(crate) fn link_shim(bin: &Path, script: &str, name: &str) -> io::Result<()> {
    symlink(
        Path::new("../../..").join(SHIMS).join(script),
        bin.join(name),
    )
}

/// Puts those scripts into an instance's `bin` that machines and containers have alike.
pub(crate) fn link_common_shims(bin: &Path) -> io::Result<()> {
    for name in SCRIPTS.iter().flat_map(|(_, names)| *names) {
        link_shim(bin, name, name)?;
    }
    Ok(())
}

/// Fills `/etc/skel`, from which `useradd` fills a new user's home: as Debian does, which tidies the
/// console when the outermost login shell of a user exits.
pub(crate) fn make_skeleton(folder: &Path) -> io::Result<()> {
    let skeleton = folder.join("root/etc/skel");
    make_folder(&skeleton, 0o755)?;
    let program = folder.join("bin/clear_console").display().to_string();
    fs::write(
        skeleton.join(".bash_logout"),
        format!(
            "# For the next user's privacy.\n\
             if [ \"$SHLVL\" = 1 ]; then\n    \
                 [ -x '{program}' ] && '{program}' -q\n\
             fi\n"
        ),
    )
}

/// The search path of a machine's processes.
pub(super) fn search_path(sandbox: &Path, folder: &Path, docker_installed: bool) -> String {
    let host = if docker_installed {
        HOST_PATH.to_owned()
    } else {
        sandbox.join(HOST_PROGRAMS).display().to_string()
    };
    let (bin, withheld) = (folder.join("bin"), withheld(sandbox));
    format!("{}:{}:{host}", bin.display(), withheld.display())
}

/// Makes an instance's folder; the answer is the command line that runs its user data, if that is a
/// script.
pub(super) fn make(
    folder: &Path,
    parts: &Parts,
    user: Option<(u32, u32)>,
) -> io::Result<Option<Vec<String>>> {
    let root = folder.join("root");
    for path in [
        "dev",
        "etc/systemd/system",
        "home",
        "opt",
        "run",
        "usr/bin",
        "usr/lib/x86_64-linux-gnu",
        "usr/lib64",
        "usr/local/bin",
        "var/lib/cloud/instance/scripts",
        "var/log",
    ] {
        make_folder(&root.join(path), 0o755)?;
    }
    make_folder(&root.join("root"), 0o700)?;
    make_folder(&root.join("tmp"), 0o1777)?;
    make_folder(&folder.join("init"), 0o700)?;
    nix::unistd::mkfifo(&folder.join("init/doorbell"), Mode::S_IRUSR | Mode::S_IWUSR)?;

    let bin = folder.join("bin");
    make_folder(&bin, 0o755)?;
    let packages: &[(&str, &[&str])] = if parts.docker_installed {
        PACKAGES
    } else {
        &[]
    };
    let manager: (&str, &[&str]) = (PACKAGE_MANAGER, &[parts.distribution.package_manager()]);
    let scripts = MACHINE.iter().chain(SCRIPTS).chain(packages);
    for (_, names) in scripts.chain([&manager]) {
        for name in *names {
            link_shim(&bin, name, name)?;
        }
    }
    if parts.docker_installed {
        fs::write(root.join(parts.distribution.icu()), "")?;
    }

    let (uid, gid) = user.unwrap_or((
        nix::unistd::getuid().as_raw(),
        nix::unistd::getgid().as_raw(),
    ));
    fs::write(folder.join("job-user"), format!("{uid} {gid}\n"))?;
    let login = parts.distribution.login();
    make_folder(&root.join("home").join(login), 0o750)?;
    let (owner, group) = (nix::unistd::getuid(), nix::unistd::getgid());
    fs::write(
        root.join("etc/passwd"),
        format!(
            "root:x:0:0:root:/root:/bin/bash\n\
             {login}:x:{owner}:{group}::/home/{login}:/bin/bash\n"
        ),
    )?;
    let docker = if parts.docker_installed {
        "docker:x:998:\n"
    } else {
        ""
    };
    fs::write(
        root.join("etc/group"),
        format!("root:x:0:\nsudo:x:27:{login}\n{docker}{login}:x:{group}:\n"),
    )?;
    fs::write(root.join("etc/os-release"), parts.distribution.os_release())?;
    fs::write(root.join("etc/hostname"), format!("{}\n", parts.id))?;
    match parts.cloud.user_data() {
        Some(sent) => user_data(&root, sent),
        None => Ok(None),
    }
}

/// Puts the user data where cloud-init puts it.
fn user_data(root: &Path, sent: &[u8]) -> io::Result<Option<Vec<String>>> {
    let mut text = Vec::new();
    if sent.starts_with(&[0x1f, 0x8b]) {
        GzDecoder::new(sent).read_to_end(&mut text)?;
    } else {
        text.extend_from_slice(sent);
    }
    let Some(rest) = text.strip_prefix(b"#!") else {
        return Ok(None);
    };
    let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line).trim().to_owned();
    // The kernel's rule: the interpreter and at most one argument.
    let mut words: Vec<String> = line
        .splitn(2, char::is_whitespace)
        .map(|word| word.trim().to_owned())
        .filter(|word| !word.is_empty())
        .collect();
    if words.is_empty() {
        return Ok(None);
    }
    let file: PathBuf = root.join("var/lib/cloud/instance/scripts/part-001");
    fs::write(&file, &text)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o700))?;
    words.push(file.display().to_string());
    Ok(Some(words))
}

pub(crate) fn make_folder(path: &Path, mode: u32) -> io::Result<()> {
    fs::create_dir_all(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}
