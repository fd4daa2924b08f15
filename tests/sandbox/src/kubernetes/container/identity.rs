//! Who a container's processes are.

use std::collections::BTreeSet;
use std::io;

use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};
use tokio::process::Command;

use super::images::Image;
use super::{Parts, capabilities};
use crate::instance;

/// The user of a container.
#[derive(Debug, Clone, Copy)]
pub(super) struct Identity {
    /// Its number in the container.
    uid: Option<u32>,
    /// Whether it is root there.
    pub(super) is_root: bool,
    /// What stands for every other user, where the sandbox has a choice.
    pub(super) job_user: Option<(u32, u32)>,
}

impl Identity {
    /// Checked as the kubelet does:
    /// <https://github.com/kubernetes/kubernetes/blob/master/pkg/kubelet/kuberuntime/security_context.go>
    pub(super) fn of(parts: &Parts, image: &Image) -> io::Result<Self> {
        let (pod, container) = (&parts.id, "runner");
        let about = format!("(pod: {pod:?}, container: {container})");
        let refusal = match (parts.user, image.user) {
            _ if !parts.non_root => None,
            (Some(0), _) => Some("container's runAsUser breaks non-root policy".into()),
            (Some(_), _) => None,
            (None, None) => Some("container has runAsNonRoot and image will run as root".into()),
            (None, Some(name)) => Some(format!(
                "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify \
                 user is non-root"
            )),
        };
        if let Some(refusal) = refusal {
            let text = format!("{refusal} {about}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Ok(Identity {
            uid: parts.user,
            is_root: parts.user.map_or(image.user.is_none(), |uid| uid == 0),
            job_user: instance::job_user(),
        })
    }

    /// The user and group that its processes run under on the host, if not the sandbox's own.
    pub(super) fn ids(&self) -> Option<(u32, u32)> {
        self.job_user.filter(|_| !self.is_root)
    }

    /// The user's home in the container.
    pub(super) fn home(&self, image: &Image) -> String {
        match image.account {
            _ if self.is_root => "/root".into(),
            // Its number in the image's list is the one that all users but root have here.
            Some(name) if self.uid.is_none_or(|uid| uid == super::images::ACCOUNT) => {
                format!("/home/{name}")
            }
            _ => "/".into(),
        }
    }

    /// Has a command run under this user.
    pub(super) fn put_on(&self, command: &mut Command, parts: &Parts) {
        let ids = self.ids();
        // The kubelet makes `fsGroup` a supplementary group of all processes.
        let groups: BTreeSet<u32> = parts.files.iter().filter_map(|file| file.group).collect();
        let groups: Vec<Gid> = groups.into_iter().map(Gid::from_raw).collect();
        let no_new_privileges = parts.no_new_privileges && !parts.privileged;
        // Where the sandbox isn't root, nobody has any.
        let capabilities = self.job_user.map(|_| parts.capabilities);
        let change = move || {
            if let Some(capabilities) = capabilities {
                capabilities.bound()?;
                capabilities::inherit_none()?;
            }
            if let Some((uid, gid)) = ids {
                setgroups(&groups)?;
                setgid(Gid::from_raw(gid))?;
                setuid(Uid::from_raw(uid))?;
            }
            if no_new_privileges {
                nix::sys::prctl::set_no_new_privs()?;
            }
            Ok(())
        };
        #[expect(
            unsafe_code,
            reason = "the standard library sets neither supplementary groups nor no_new_privs"
        )]
        // SAFETY: between fork and exec only system calls are made; nothing is allocated or locked.
        unsafe {
            command.pre_exec(change);
            // A shell can't take what was ignored before it, as in the background of another one.
            command.pre_exec(|| {
                for heard in [
                    Signal::SIGINT,
                    Signal::SIGQUIT,
                    Signal::SIGHUP,
                    Signal::SIGTERM,
                ] {
                    signal(heard, SigHandler::SigDfl)?;
                }
                Ok(())
            });
        }
    }
}
