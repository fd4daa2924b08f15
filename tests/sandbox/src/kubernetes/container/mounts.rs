//! What is mounted into a container.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use super::identity::Identity;
use super::{Parts, below};
use crate::instance::disk::make_folder;

/// Fills the mounts.
pub(super) fn make(root: &Path, parts: &Parts, identity: &Identity) -> io::Result<()> {
    for folder in &parts.folders {
        make_folder(&below(root, folder), 0o777)?;
    }
    let sandbox_is_root = identity.job_user.is_some();
    for file in &parts.files {
        let path = below(root, &file.path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, &file.content)?;
        let mut mode = group_mode(file.mode, file.group);
        if sandbox_is_root {
            chown(&path, None, file.group)?;
        } else if !identity.is_root {
            mode = others_mode(mode, file.group);
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }
    // A folder that nobody may write into could not be removed by a sandbox that isn't root.
    if sandbox_is_root {
        for folder in parts.files.iter().filter_map(|file| file.path.parent()) {
            fs::set_permissions(below(root, folder), fs::Permissions::from_mode(0o555))?;
        }
    }
    Ok(())
}

/// The kubelet lets `fsGroup` read the files of a read-only volume, whatever their mode:
/// <https://github.com/kubernetes/kubernetes/blob/master/pkg/volume/volume_linux.go>
fn group_mode(mode: u32, group: Option<u32>) -> u32 {
    match group {
        Some(_) => mode | 0o440,
        None => mode,
    }
}

/// Where the container's user is the files' owner, because the sandbox has no right to any other:
/// what that user is allowed as none of root's.
fn others_mode(mode: u32, group: Option<u32>) -> u32 {
    let class = if group.is_some() { mode >> 3 } else { mode };
    (class & 0o7) << 6
}

/// Makes arguments that lead to a mount lead below the root: the processes see the host's files.
pub(super) fn rewrite(words: Vec<String>, root: &Path, parts: &Parts) -> Vec<String> {
    let files = parts.files.iter().filter_map(|file| file.path.parent());
    let mounts: Vec<&Path> = files
        .chain(parts.folders.iter().map(PathBuf::as_path))
        .collect();
    let rewrite = |word: String| match mounts
        .iter()
        .any(|mount| Path::new(&word).starts_with(mount))
    {
        true => format!("{}{word}", root.display()),
        false => word,
    };
    words.into_iter().map(rewrite).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_may_read_and_others_may_what_others_may() {
        assert_eq!(group_mode(0o400, None), 0o400);
        assert_eq!(group_mode(0o400, Some(5)), 0o440);
        assert_eq!(others_mode(0o400, None), 0);
        assert_eq!(others_mode(0o644, None), 0o400);
        assert_eq!(others_mode(0o440, Some(5)), 0o400);
    }
}
