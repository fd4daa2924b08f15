//! What root may do in a container.
//! <https://kubernetes.io/docs/tasks/configure-pod-container/security-context/#set-capabilities-for-a-container>

use std::io;

use nix::libc;

/// All that Linux has, by number.
/// <https://man7.org/linux/man-pages/man7/capabilities.7.html>
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What containerd gives where nothing is said.
/// <https://github.com/containerd/containerd/blob/main/pkg/oci/spec.go>
const USUAL: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// A set of capabilities, each a bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Capabilities(u64);

impl Default for Capabilities {
    fn default() -> Self {
        let bits = USUAL.iter().filter_map(|name| bit(name));
        Capabilities(bits.fold(0, |all, bit| all | bit))
    }
}

impl Capabilities {
    /// Those of a privileged container.
    pub(crate) fn all() -> Self {
        Capabilities((1 << NAMES.len()) - 1)
    }

    /// The usual ones with what a container adds and drops, in containerd's order: `ALL` comes
    /// first on both sides, so that what is named besides still counts.
    /// <https://github.com/containerd/containerd/blob/main/internal/cri/opts/spec_linux_opts.go>
    pub(crate) fn of<'a>(
        add: impl Iterator<Item = &'a str> + Clone,
        drop: impl Iterator<Item = &'a str> + Clone,
    ) -> Result<Self, String> {
        let is_all = |name: &&str| name.eq_ignore_ascii_case("ALL");
        let Capabilities(mut bits) = Capabilities::default();
        if add.clone().any(|name| is_all(&name)) {
            bits = Capabilities::all().0;
        }
        if drop.clone().any(|name| is_all(&name)) {
            bits = 0;
        }
        for name in add.filter(|name| !is_all(name)) {
            bits |= bit(name).ok_or_else(|| unknown(name))?;
        }
        for name in drop.filter(|name| !is_all(name)) {
            bits &= !bit(name).ok_or_else(|| unknown(name))?;
        }
        Ok(Capabilities(bits))
    }

    /// Takes all others from this process, whatever it executes. Only system calls are made.
    pub(super) fn bound(self) -> io::Result<()> {
        for number in 0..64 {
            let number: libc::c_ulong = number;
            // Those beyond the kernel's last one are an error.
            match prctl(libc::PR_CAPBSET_READ, number) {
                Ok(0) => continue,
                Ok(_) if self.0 & (1 << number) != 0 => continue,
                Ok(_) => prctl(libc::PR_CAPBSET_DROP, number)?,
                Err(_) => break,
            };
        }
        Ok(())
    }
}

/// Leaves this process no capability that its next program would inherit: what root gets there, the
/// bounding set alone says.
pub(super) fn inherit_none() -> io::Result<()> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as _)?;
    let mut header = Header {
        version: VERSION,
        pid: 0,
    };
    let mut sets = [Sets::default(); 2];
    #[expect(unsafe_code, reason = "no safe wrapper is at hand for these calls")]
    // SAFETY: both structures are the kernel's, of the third version, which has two sets.
    let result = unsafe {
        match libc::syscall(libc::SYS_capget, &raw mut header, sets.as_mut_ptr()) {
            0 => {
                for set in &mut sets {
                    set.inheritable = 0;
                }
                libc::syscall(libc::SYS_capset, &raw mut header, sets.as_ptr())
            }
            failed => failed,
        }
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// `_LINUX_CAPABILITY_VERSION_3`
const VERSION: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

fn prctl(operation: libc::c_int, argument: libc::c_ulong) -> io::Result<libc::c_int> {
    let none: libc::c_ulong = 0;
    #[expect(
        unsafe_code,
        reason = "no safe wrapper is at hand for these operations"
    )]
    // SAFETY: these operations take numbers alone.
    let result = unsafe { libc::prctl(operation, argument, none, none, none) };
    match result {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}

fn bit(name: &str) -> Option<u64> {
    let is_it = |known: &&str| known.eq_ignore_ascii_case(name);
    NAMES.iter().position(is_it).map(|number| 1 << number)
}

/// The prefix is the runtime's to add.
fn unknown(name: &str) -> String {
    format!("unknown capability \"CAP_{}\"", name.to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(add: &[&str], drop: &[&str]) -> Result<u64, String> {
        Capabilities::of(add.iter().copied(), drop.iter().copied()).map(|set| set.0)
    }

    #[test]
    fn what_is_dropped_goes_and_what_is_added_comes() {
        // As `docker run` shows it.
        assert_eq!(of(&[], &[]), Ok(0xa804_25fb));
        assert_eq!(of(&[], &["ALL"]), Ok(0));
        assert_eq!(of(&["KILL"], &["all"]), Ok(1 << 5));
        assert_eq!(of(&["ALL"], &["CHOWN"]), Ok(0x1ff_ffff_fffe));
        assert_eq!(of(&["sys_admin"], &[]), Ok(0xa824_25fb));
        assert_eq!(of(&["KILL"], &["KILL"]), Ok(0xa804_25db));
        let told = of(&["CAP_KILL"], &[]).unwrap_err();
        assert_eq!(told, "unknown capability \"CAP_CAP_KILL\"");
    }
}
