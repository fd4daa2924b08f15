//! A container's root file system.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use super::identity::Identity;
use super::images::{Content, Image};
use super::{Parts, base, below, mounts};
use crate::calls::lock;
use crate::instance::{Distribution, disk};
use crate::runner_program::{self, gitlab};

/// The folder in a sandbox's folder with links to the host's programs that every image has.
const PROGRAMS: &str = "container-programs";
/// The same for images without bash.
const PROGRAMS_WITHOUT_BASH: &str = "container-programs-without-bash";

/// Held while what containers share is made.
static SHARED: Mutex<()> = Mutex::new(());

/// Makes a container's folder.
pub(super) fn make(
    folder: &Path,
    parts: &Parts,
    image: &Image,
    identity: &Identity,
) -> io::Result<()> {
    share(&parts.sandbox)?;
    let root = folder.join("root");
    for path in [
        "dev",
        "etc",
        "home",
        "opt",
        "run",
        "usr/bin",
        "usr/lib/x86_64-linux-gnu",
        "usr/local/bin",
        "var/lib",
        "var/log",
    ] {
        disk::make_folder(&root.join(path), 0o755)?;
    }
    disk::make_folder(&root.join("root"), 0o700)?;
    disk::make_folder(&root.join("tmp"), 0o1777)?;
    link_programs(&folder.join("bin"), image)?;
    fill(folder, parts, image)?;
    write_lists(folder, parts, image, identity)?;
    write_profile(folder, parts, image)?;
    if let (Some(name), Some((uid, gid))) = (image.account, identity.job_user) {
        give(&root.join("home").join(name), uid, gid)?;
    }
    if parts.privileged {
        // One of the host's devices, for all of them.
        fs::write(root.join("dev/fuse"), "")?;
    }
    mounts::make(&root, parts, identity)
}

/// Makes what all containers of a sandbox share, once.
fn share(sandbox: &Path) -> io::Result<()> {
    let _guard = lock(&SHARED);
    for (folder, lacks_bash) in [(PROGRAMS, false), (PROGRAMS_WITHOUT_BASH, true)] {
        let programs = sandbox.join(folder);
        if programs.exists() {
            continue;
        }
        let unfinished = programs.with_extension("new");
        fs::create_dir_all(&unfinished)?;
        for name in base::programs().filter(|name| !lacks_bash || *name != "bash") {
            if let Some(program) = disk::host_program(name) {
                symlink(program, unfinished.join(name))?;
            }
        }
        fs::rename(unfinished, programs)?;
    }
    Ok(())
}

/// The scripts in place of programs, and what the image brings of the optional ones.
fn link_programs(bin: &Path, image: &Image) -> io::Result<()> {
    disk::make_folder(bin, 0o755)?;
    disk::link_common_shims(bin)?;
    let manager = image.distribution.package_manager();
    disk::link_shim(bin, manager, manager)?;
    for name in image.programs {
        match *name {
            "docker" => disk::link_shim(bin, "docker-client", name)?,
            "git" | "sudo" | "wget" => disk::link_shim(bin, name, name)?,
            name => {
                if let Some(program) = disk::host_program(name) {
                    symlink(program, bin.join(name))?;
                }
            }
        }
    }
    Ok(())
}

/// Puts the program there that the image is made for.
fn fill(folder: &Path, parts: &Parts, image: &Image) -> io::Result<()> {
    let root = folder.join("root");
    if let Some(name) = image.account {
        disk::make_folder(&root.join("home").join(name), 0o755)?;
    }
    if image.icu {
        fs::write(root.join(image.distribution.icu()), "")?;
    }
    match &image.content {
        Content::Nothing => Ok(()),
        Content::Agent => symlink(&parts.agent, root.join("usr/local/bin/runner-launch")),
        Content::GithubRunner(tag) => {
            let files = runner_program::of_image(tag);
            let home = "home/runner";
            unpack(
                folder,
                files.map(|(path, text)| (format!("{home}/{path}"), text)),
            )
        }
        Content::GitlabRunner(tag) => {
            let program = ("usr/bin/gitlab-runner".into(), gitlab::of_image(tag));
            unpack(folder, [program].into_iter())
        }
    }
}

/// Writes programs beside the root and has another process copy them into it: what this one has
/// just written can't be executed while another thread's half-started child still holds it open.
fn unpack(folder: &Path, files: impl Iterator<Item = (String, String)>) -> io::Result<()> {
    let layer = folder.join("layer");
    for (path, text) in files {
        let file = layer.join(path);
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&file, text)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
    }
    let copied = Command::new("/bin/cp")
        .arg("-R")
        .arg(layer.join("."))
        .arg(folder.join("root"))
        .stdin(Stdio::null())
        .output()?;
    match copied.status.success() {
        true => fs::remove_dir_all(layer),
        false => Err(io::Error::other(
            String::from_utf8_lossy(&copied.stderr).into_owned(),
        )),
    }
}

/// Users, groups and names.
fn write_lists(folder: &Path, parts: &Parts, image: &Image, identity: &Identity) -> io::Result<()> {
    let etc = folder.join("root/etc");
    let (uid, gid) = identity.job_user.unwrap_or((
        nix::unistd::getuid().as_raw(),
        nix::unistd::getgid().as_raw(),
    ));
    fs::write(folder.join("job-user"), format!("{uid} {gid}\n"))?;
    let mut passwd = String::from("root:x:0:0:root:/root:/bin/bash\n");
    let mut group = String::from("root:x:0:\n");
    let user = image.account.unwrap_or_default();
    for (name, number) in [("sudo", 27), ("docker", 123)] {
        if image.programs.contains(&name) {
            group.push_str(&format!("{name}:x:{number}:{user}\n"));
        }
    }
    if let Some(name) = image.account {
        passwd.push_str(&format!("{name}:x:{uid}:{gid}::/home/{name}:/bin/bash\n"));
        group.push_str(&format!("{name}:x:{gid}:\n"));
    }
    passwd.push_str("nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n");
    group.push_str("nogroup:x:65534:\n");
    for (name, text) in [("passwd", passwd), ("group", group)] {
        fs::write(etc.join(name), text)?;
        // Where the container's user owns them, it could write them else.
        let mode = if identity.is_root { 0o644 } else { 0o444 };
        fs::set_permissions(etc.join(name), fs::Permissions::from_mode(mode))?;
    }
    fs::write(etc.join("os-release"), image.distribution.os_release())?;
    fs::write(etc.join("hostname"), format!("{}\n", parts.id))
}

/// What a login shell begins with: Debian's resets the search path to the system's folders, Ubuntu's
/// leaves it alone.
fn write_profile(folder: &Path, parts: &Parts, image: &Image) -> io::Result<()> {
    let text = match image.distribution {
        Distribution::Debian => {
            let path = search_path(&parts.sandbox, folder, image);
            format!("PATH='{path}'\nexport PATH\n")
        }
        _ => String::new(),
    };
    fs::write(folder.join("root/etc/profile"), text)?;
    disk::make_skeleton(folder)
}

/// Gives a folder and all in it to a user.
fn give(folder: &Path, uid: u32, gid: u32) -> io::Result<()> {
    chown(folder, Some(uid), Some(gid))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => give(&entry.path(), uid, gid)?,
            false => chown(entry.path(), Some(uid), Some(gid))?,
        }
    }
    Ok(())
}

/// The search path of a container's processes.
pub(super) fn search_path(sandbox: &Path, folder: &Path, image: &Image) -> String {
    let programs = match image.has_bash {
        true => PROGRAMS,
        false => PROGRAMS_WITHOUT_BASH,
    };
    let folders = [
        folder.join("bin"),
        folder.join("root/usr/local/bin"),
        folder.join("root/usr/bin"),
        disk::withheld(sandbox),
        sandbox.join(programs),
    ];
    folders.map(|folder| folder.display().to_string()).join(":")
}

/// The file that a program's name means in a container. One of the system's folders holds what the
/// search path leads to.
pub(super) fn find(program: &str, image: &Image, root: &Path, path: &str) -> Option<PathBuf> {
    let given = Path::new(program);
    if given.starts_with(root) {
        return given.exists().then(|| given.to_owned());
    }
    let inside = below(root, Path::new(image.folder).join(given));
    if program.contains('/') && inside.exists() {
        return Some(inside);
    }
    let folder = given.parent()?.to_str()?;
    let system = ["", "/bin", "/usr/bin", "/sbin", "/usr/sbin"];
    let name = given.file_name().filter(|_| system.contains(&folder))?;
    path.split(':')
        .map(|folder| Path::new(folder).join(name))
        .find(|file| file.exists())
}
