//! A runner program that a container's image brings along: no byte of it is downloaded again.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::timeout;

use super::layout::Layout;
use super::process::Process;
use crate::error::{Error, Result};
use crate::forge::{Command, Forge, Provided};
use crate::host::Host;

/// How long a program may take to tell its version; .NET's needs a second on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Links the image's own copy to where the program belongs, if there is one that will do.
pub(super) async fn take(
    forge: &dyn Forge,
    version: Option<&str>,
    layout: &Layout,
    host: &Host,
) -> Result<bool> {
    let provided = forge.provided();
    for folder in folders(&provided, layout, host) {
        if !is_whole(&provided, &folder) {
            continue;
        }
        let show = folder.join(provided.program);
        if let Err(why) = usable(forge, version, layout, &folder, host).await {
            tracing::info!("the image's {} is not used: {why}", show.display());
            continue;
        }
        link(&provided, &folder, layout).map_err(|error| {
            Error::other(format!(
                "linking the image's runner program {}",
                show.display()
            ))
            .caused_by(error)
        })?;
        tracing::info!("runner program ready: the image's {}", show.display());
        return Ok(true);
    }
    Ok(false)
}

/// Where to look, in this order.
fn folders(provided: &Provided, layout: &Layout, host: &Host) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    if !provided.keeps_files {
        let path = host.env("PATH").unwrap_or_default();
        found.extend(std::env::split_paths(path).filter(|folder| folder.is_absolute()));
    }
    let home = layout.user.as_ref().map(|user| user.home.as_path());
    for folder in provided.folders {
        found.extend(match folder.strip_prefix('~') {
            Some("") => home.map(Path::to_owned),
            Some(rest) => home.map(|home| home.join(rest.trim_start_matches('/'))),
            None => Some(host.path(folder)),
        });
    }
    found
}

/// Whether all its files are there, to be executed.
fn is_whole(provided: &Provided, folder: &Path) -> bool {
    let is_program = |name: &&str| {
        fs::metadata(folder.join(name))
            .is_ok_and(|metadata| metadata.is_file() && metadata.mode() & 0o111 != 0)
    };
    std::iter::once(&provided.program)
        .chain(provided.beside)
        .all(is_program)
}

/// Says why a whole one is of no use.
async fn usable(
    forge: &dyn Forge,
    version: Option<&str>,
    layout: &Layout,
    folder: &Path,
    host: &Host,
) -> Result<(), String> {
    let provided = forge.provided();
    if provided.keeps_files {
        // It writes beside its scripts, and beside its program when it brings itself up to date.
        let program = folder.join(provided.program);
        let written = [Some(folder), program.parent()];
        for written in written.into_iter().flatten() {
            if !layout
                .user
                .as_ref()
                .is_some_and(|user| user.may_write(written))
            {
                return Err(format!("{} is closed to the jobs' user", written.display()));
            }
        }
        if forge.registered_id(folder).is_some() {
            return Err("it is registered already".to_owned());
        }
    }
    if provided.any_version && version.is_none() {
        return Ok(());
    }
    let said = said_version(&provided, layout, folder, host).await;
    let said = said.map_err(|error| error.chain())?;
    if forge.accepts(&said, version) {
        return Ok(());
    }
    Err(match version {
        Some(version) => format!("it is not version {version}"),
        None => "its version is too old, or not to be told".to_owned(),
    })
}

/// What the program says to `--version`, as the jobs' user.
async fn said_version(
    provided: &Provided,
    layout: &Layout,
    folder: &Path,
    host: &Host,
) -> Result<String> {
    let there = Layout {
        program: folder.to_owned(),
        ..layout.clone()
    };
    let command = Command {
        program: provided.program.to_owned(),
        args: vec!["--version".to_owned()],
        env: Vec::new(),
    };
    let mut process = Process::start(&command, &there, None, host)?;
    let mut said = String::new();
    let read = async {
        while let Some(line) = process.lines.recv().await {
            said.push_str(&line);
            said.push('\n');
        }
    };
    if timeout(PATIENCE, read).await.is_err() {
        process.end(Duration::ZERO).await;
        return Err(Error::other(format!(
            "it told no version within {PATIENCE:?}"
        )));
    }
    process.ended().await?;
    Ok(said)
}

/// A whole folder is linked as such; a single file gets a folder to be linked in, where the files of
/// its run are written.
fn link(provided: &Provided, folder: &Path, layout: &Layout) -> io::Result<()> {
    if provided.keeps_files {
        return symlink(folder, &layout.program);
    }
    let partial = layout.program.with_extension("part");
    match fs::remove_dir_all(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => fs::create_dir(&partial)?,
    }
    symlink(
        folder.join(provided.program),
        partial.join(provided.program),
    )?;
    if let Some(user) = &layout.user {
        user.own(&partial)?;
    }
    fs::rename(partial, &layout.program)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::agent::{CHILDREN, Place};
    use crate::forge;
    use crate::host::names;
    use crate::http::Http;
    use crate::spec::{Driver, ForgeSpec};

    /// A container with this user's own number in its list, so that the test needs no root.
    struct Image {
        root: tempfile::TempDir,
        driver: Driver,
        /// A program that is being written while another test forks can't be started.
        _alone: tokio::sync::RwLockWriteGuard<'static, ()>,
    }

    impl Image {
        async fn new(driver: Driver) -> Self {
            let root = tempfile::tempdir().unwrap();
            let (uid, gid) = (nix::unistd::Uid::effective(), nix::unistd::Gid::effective());
            let image = Self {
                root,
                driver,
                _alone: CHILDREN.write().await,
            };
            for folder in ["etc", "home/runner", "var/lib/runner-launch/jobs", "path"] {
                fs::create_dir_all(image.path(folder)).unwrap();
            }
            let line = format!("runner:x:{uid}:{gid}::/home/runner:/bin/sh\n");
            fs::write(image.path("etc/passwd"), line).unwrap();
            image
        }

        fn path(&self, below: &str) -> PathBuf {
            self.root.path().join(below)
        }

        fn program(&self, below: &str, text: &str) {
            let path = self.path(below);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }

        fn listener(&self, folder: &str, version: &str) {
            self.program(
                &format!("{folder}/bin/Runner.Listener"),
                &format!("[ \"$1\" = --version ] && echo {version}"),
            );
            self.program(&format!("{folder}/run.sh"), "");
            self.program(&format!("{folder}/config.sh"), "");
        }

        /// Where the program's folder leads to, if the image's is taken.
        async fn taken(&self, version: Option<&str>) -> Option<(Layout, PathBuf)> {
            let path = format!("{}:/usr/bin:/bin", self.path("path").display());
            let host = Host::fixed([
                (names::ROOT, self.root.path().to_str().unwrap()),
                ("PATH", path.as_str()),
            ]);
            let place = Place::Pod {
                user: "runner".into(),
            };
            let layout = Layout::new(&place, self.driver, &host).unwrap();
            let spec = ForgeSpec {
                driver: self.driver,
                ..ForgeSpec::example()
            };
            let forge = forge::open(&spec, &host, &Http::new(&host).unwrap()).unwrap();
            let took = take(forge.as_ref(), version, &layout, &host).await.unwrap();
            assert_eq!(took, layout.program.exists());
            let target = fs::canonicalize(&layout.program).ok()?;
            Some((layout, target))
        }
    }

    #[tokio::test]
    async fn github_s_image_is_its_user_s_home() {
        let image = Image::new(Driver::Github).await;
        assert!(image.taken(None).await.is_none());
        // Without its scripts it isn't whole.
        image.program("home/runner/bin/Runner.Listener", "");
        assert!(image.taken(None).await.is_none());
        image.listener("home/runner", "2.330.0");
        let (layout, target) = image.taken(None).await.unwrap();
        assert_eq!(target, fs::canonicalize(image.path("home/runner")).unwrap());
        assert!(layout.program.join("run.sh").exists());
    }

    #[tokio::test]
    async fn the_version_that_was_asked_for_is_searched_everywhere() {
        let image = Image::new(Driver::Github).await;
        image.listener("home/runner", "2.330.0");
        assert!(image.taken(Some("2.329.0")).await.is_none());
        image.listener("actions-runner", "2.329.0");
        let (_, target) = image.taken(Some("2.329.0")).await.unwrap();
        let wanted = fs::canonicalize(image.path("actions-runner")).unwrap();
        assert_eq!(target, wanted);
    }

    #[tokio::test]
    async fn a_registered_listener_is_somebody_else_s() {
        let image = Image::new(Driver::Github).await;
        image.listener("home/runner", "2.330.0");
        fs::write(image.path("home/runner/.runner"), r#"{"agentId":7}"#).unwrap();
        assert!(image.taken(None).await.is_none());
    }

    #[tokio::test]
    async fn a_listener_that_can_t_bring_itself_up_to_date_is_left_alone() {
        let image = Image::new(Driver::Github).await;
        image.listener("home/runner", "2.330.0");
        let bin = image.path("home/runner/bin");
        if nix::unistd::Uid::effective().is_root() {
            // Root may write everywhere, so the jobs' user is another one.
            let line = "runner:x:1001:1001::/home/runner:/bin/sh\n";
            fs::write(image.path("etc/passwd"), line).unwrap();
            let home = image.path("home/runner");
            std::os::unix::fs::chown(home, Some(1001), Some(1001)).unwrap();
        }
        fs::set_permissions(&bin, fs::Permissions::from_mode(0o555)).unwrap();
        assert!(image.taken(None).await.is_none());
        fs::set_permissions(&bin, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(image.taken(None).await.is_some());
    }

    #[tokio::test]
    async fn gitlab_s_program_is_linked_into_a_folder_of_its_run() {
        let image = Image::new(Driver::Gitlab).await;
        image.program("usr/bin/gitlab-runner", "echo 'Version:      16.1.0'");
        assert!(image.taken(None).await.is_none(), "it is too old");
        image.program("path/gitlab-runner", "echo 'Version:      18.5.0'");
        let (layout, target) = image.taken(None).await.unwrap();
        let folder =
            fs::canonicalize(image.path("var/lib/runner-launch/jobs/gitlab-runner")).unwrap();
        assert_eq!(target, folder);
        let program = fs::canonicalize(layout.program.join("gitlab-runner")).unwrap();
        let wanted = fs::canonicalize(image.path("path/gitlab-runner")).unwrap();
        assert_eq!(program, wanted);
    }

    #[tokio::test]
    async fn a_program_that_is_broken_is_left_alone() {
        let image = Image::new(Driver::Gitlab).await;
        image.program("path/gitlab-runner", "exit 1");
        image.program("usr/bin/gitlab-runner", "echo 'Version:      18.5.0'");
        let (layout, _) = image.taken(None).await.unwrap();
        let program = fs::canonicalize(layout.program.join("gitlab-runner")).unwrap();
        let wanted = fs::canonicalize(image.path("usr/bin/gitlab-runner")).unwrap();
        assert_eq!(program, wanted);
    }
}
