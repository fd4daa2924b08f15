//! The images that there are, and what each holds.

use crate::downloads::sha256;
use crate::instance::Distribution;
use nix::sys::signal::Signal;

/// The number that the images' own user has in them. (In a container's own list it is another one.)
pub(super) const ACCOUNT: u32 = 1001;

/// What an image holds besides a small Debian or Ubuntu.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) distribution: Distribution,
    /// Who its processes are; `None`: root.
    pub(super) user: Option<&'static str>,
    /// The user that its list has besides root.
    pub(super) account: Option<&'static str>,
    /// The working folder.
    pub(super) folder: &'static str,
    /// ENTRYPOINT and CMD.
    pub(super) command: &'static [&'static str],
    /// STOPSIGNAL.
    pub(super) stop: Signal,
    pub(super) env: &'static [(&'static str, &'static str)],
    /// What it brings besides the programs that every image has.
    pub(super) programs: &'static [&'static str],
    /// Whether it brings bash.
    pub(super) has_bash: bool,
    /// Whether it brings ICU.
    pub(super) icu: bool,
    pub(super) content: Content,
}

/// The program that an image is made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    Nothing,
    /// The real program, on the search path.
    Agent,
    /// GitHub's runner program in its user's home, by the image's tag.
    GithubRunner(String),
    /// GitLab's on the search path.
    GitlabRunner(String),
}

/// A small Debian with curl, which every image is that isn't known.
const DEBIAN: Image = Image {
    distribution: Distribution::Debian,
    user: None,
    account: None,
    folder: "/",
    command: &["bash"],
    stop: Signal::SIGTERM,
    env: &[],
    programs: &["curl"],
    has_bash: true,
    icu: false,
    content: Content::Nothing,
};

impl Image {
    /// The one that a reference names.
    pub(super) fn of(reference: &str) -> Image {
        let (repository, tag) = split(reference);
        match short(repository) {
            // <https://github.com/actions/runner/blob/main/images/Dockerfile>
            "ghcr.io/actions/actions-runner" => Image {
                distribution: Distribution::Ubuntu("24.04"),
                user: Some("runner"),
                account: Some("runner"),
                folder: "/home/runner",
                command: &["/bin/bash"],
                env: &[
                    ("DEBIAN_FRONTEND", "noninteractive"),
                    ("RUNNER_MANUALLY_TRAP_SIG", "1"),
                    ("ACTIONS_RUNNER_PRINT_LOG_TO_STDOUT", "1"),
                    ("ImageOS", "ubuntu24"),
                ],
                programs: &["curl", "docker", "git", "jq", "sudo", "unzip"],
                has_bash: true,
                icu: true,
                stop: Signal::SIGTERM,
                content: Content::GithubRunner(tag.into()),
            },
            // <https://gitlab.com/gitlab-org/gitlab-runner/-/tree/main/dockerfiles/runner>
            "registry.gitlab.com/gitlab-org/gitlab-runner" | "gitlab/gitlab-runner" => Image {
                distribution: Distribution::Ubuntu("24.04"),
                account: Some("gitlab-runner"),
                stop: Signal::SIGQUIT,
                command: &["/usr/bin/gitlab-runner", "run", "--user=gitlab-runner"],
                programs: &["git", "wget"],
                content: Content::GitlabRunner(tag.into()),
                ..DEBIAN
            },
            // Neither brings any means to download.
            "debian" => Image {
                programs: &[],
                ..DEBIAN
            },
            "ubuntu" => Image {
                distribution: Distribution::Ubuntu("24.04"),
                programs: &[],
                ..DEBIAN
            },
            "registry.example/tools" => Image {
                programs: &["wget"],
                ..DEBIAN
            },
            "registry.example/agent" => Image {
                content: Content::Agent,
                ..DEBIAN
            },
            "registry.example/no-bash" => Image {
                has_bash: false,
                ..DEBIAN
            },
            "registry.example/bare" => Image {
                programs: &[],
                ..DEBIAN
            },
            _ => DEBIAN,
        }
    }
}

/// Docker Hub's images without what may be left out: `ubuntu` is `docker.io/library/ubuntu`.
fn short(repository: &str) -> &str {
    let name = repository
        .strip_prefix("docker.io/")
        .or_else(|| repository.strip_prefix("index.docker.io/"))
        .unwrap_or(repository);
    name.strip_prefix("library/").unwrap_or(name)
}

/// Repository and tag; a digest is no tag.
fn split(reference: &str) -> (&str, &str) {
    let (name, _) = reference.split_once('@').unwrap_or((reference, ""));
    match name.rsplit_once(':') {
        // Else it is a registry's port.
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (name, "latest"),
    }
}

/// An image on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pulled {
    /// As in a container's `imageID`.
    pub(crate) id: String,
    /// In bytes, as the event tells it.
    pub(crate) size: u64,
}

/// Asks the registry. The texts are containerd's.
pub(super) fn pull(reference: &str) -> Result<Pulled, String> {
    let (repository, _) = split(reference);
    let (code, cause) = match repository {
        "registry.example/missing" => ("NotFound", format!("{reference}: not found")),
        "registry.example/private" => (
            "Unknown",
            "failed to authorize: failed to fetch anonymous token: unexpected status from GET \
             request to https://registry.example/token?scope=repository%3Aprivate%3Apull\
             &service=registry.example: 401 Unauthorized"
                .into(),
        ),
        _ => {
            let digest = sha256(reference.as_bytes());
            return Ok(Pulled {
                id: format!("{repository}@sha256:{digest}"),
                size: 48_000_000,
            });
        }
    };
    Err(format!(
        "Failed to pull image \"{reference}\": rpc error: code = {code} desc = failed to pull and \
         unpack image \"{reference}\": failed to resolve reference \"{reference}\": {cause}"
    ))
}
