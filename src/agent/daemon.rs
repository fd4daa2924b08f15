//! A Docker daemon for a pod's jobs: a sidecar, or one whose socket was mounted.

use std::path::PathBuf;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::time::{sleep, timeout};

use super::machine::docker_answers;
use super::user::User;
use crate::host::Host;

/// Where a daemon is that nobody has named.
const SOCKET: &str = "/var/run/docker.sock";
/// How long one that was named may take to start: its image may have to come first.
const PATIENCE: Duration = Duration::from_secs(90);
const PAUSE: Duration = Duration::from_millis(500);

/// Where a daemon is.
/// <https://docs.docker.com/reference/cli/dockerd/#daemon-socket-option>
#[derive(Debug, Clone, PartialEq, Eq)]
enum Daemon {
    Socket(PathBuf),
    Address(String),
    /// Where only Docker's own client finds it, as over SSH.
    Other,
}

impl Daemon {
    /// The one that `DOCKER_HOST` names, or the one at the usual place, if something is there by now:
    /// most pods have none, and must not wait for it. So a sidecar that makes its socket there later
    /// than we look is to be named, and is waited for then.
    fn find(host: &Host) -> Option<Self> {
        match host.env("DOCKER_HOST").map(|text| text.split_once("://")) {
            None => Some(host.path(SOCKET))
                .filter(|path| path.exists())
                .map(Daemon::Socket),
            Some(Some(("unix", path))) => Some(Daemon::Socket(host.path(path))),
            Some(Some(("tcp" | "http" | "https", address))) => {
                let address = address.split('/').next().unwrap_or_default();
                Some(Daemon::Address(address.to_owned()))
            }
            Some(_) => Some(Daemon::Other),
        }
    }

    /// Whether the daemon is there: by Docker's client, where the image has that; else by whether it
    /// listens.
    async fn answers(&self, host: &Host) -> bool {
        if let Some(answer) = docker_answers(host).await {
            return answer;
        }
        let connected = async {
            match self {
                Daemon::Socket(path) => UnixStream::connect(path).await.is_ok(),
                Daemon::Address(address) => TcpStream::connect(address.as_str()).await.is_ok(),
                Daemon::Other => false,
            }
        };
        timeout(Duration::from_secs(5), connected)
            .await
            .unwrap_or_default()
    }
}

/// Whether there is a daemon that jobs can use. The group that its socket belongs to is given to the
/// jobs' user, as the group `docker` is on a machine.
pub(super) async fn serves(host: &Host, user: &mut User) -> bool {
    let Some(daemon) = Daemon::find(host) else {
        return false;
    };
    // A sidecar starts beside us.
    let started = async {
        while !daemon.answers(host).await {
            sleep(PAUSE).await;
        }
    };
    if timeout(PATIENCE, started).await.is_err() {
        tracing::warn!("no Docker daemon answers at {daemon:?}: jobs have no containers");
        return false;
    }
    let Daemon::Socket(path) = daemon else {
        return true;
    };
    user.join_group_of(&path);
    let may = user.may_write(&path);
    if !may {
        tracing::warn!(
            "jobs may not use the Docker daemon at {}: it is closed to their user {}",
            path.display(),
            user.name
        );
    }
    may
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::names;

    #[test]
    fn a_daemon_is_where_docker_host_says_or_at_the_usual_place() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().display().to_string();
        let find = |docker_host: &str| {
            Daemon::find(&Host::fixed([
                (names::ROOT, path.as_str()),
                ("DOCKER_HOST", docker_host),
            ]))
        };
        assert_eq!(find(""), None);
        assert_eq!(
            find("tcp://localhost:2376/"),
            Some(Daemon::Address("localhost:2376".into()))
        );
        assert_eq!(find("ssh://host"), Some(Daemon::Other));
        std::fs::create_dir_all(root.path().join("var/run")).unwrap();
        let socket = root.path().join("var/run/docker.sock");
        std::fs::write(&socket, "").unwrap();
        assert_eq!(find(""), Some(Daemon::Socket(socket.clone())));
        assert_eq!(
            find("unix:///var/run/docker.sock"),
            Some(Daemon::Socket(socket))
        );
    }

    #[tokio::test]
    async fn a_socket_that_listens_serves_jobs_without_docker_s_client() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("var/run")).unwrap();
        let host = Host::fixed([
            (names::ROOT, root.path().to_str().unwrap()),
            ("PATH", "/nowhere"),
        ]);
        let mut user = User::in_container("runner", "/spare".into(), &host);
        assert!(!serves(&host, &mut user).await);
        let socket = root.path().join("var/run/docker.sock");
        let _daemon = tokio::net::UnixListener::bind(&socket).unwrap();
        let open = |mode| {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(&socket, mode).unwrap();
        };
        open(0o666);
        assert!(serves(&host, &mut user).await);
        if nix::unistd::Uid::effective().is_root() {
            open(0o600);
            assert!(!serves(&host, &mut user).await);
            // As Docker leaves it for a group of the image's.
            open(0o660);
            std::os::unix::fs::chown(&socket, None, Some(123)).unwrap();
            assert!(serves(&host, &mut user).await);
            assert!(user.groups.contains(&nix::unistd::Gid::from_raw(123)));
        }
    }
}
