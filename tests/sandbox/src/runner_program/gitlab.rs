//! GitLab's: one file, put together from parts that follow each other.

use crate::downloads::sha256;

/// Below this it lies, by version.
pub(crate) const FOLDER: &str = "/gitlab-runner";
/// The name of the list of checksums.
pub(crate) const CHECKSUMS: &str = "release.sha256";

/// The versions on offer, newest first.
const VERSIONS: [&str; 4] = ["18.6.0", "18.5.0", "17.11.0", "15.11.0"];
const ARCHITECTURES: [&str; 2] = ["amd64", "arm64"];

/// Its parts in their order.
const PARTS: [&str; 6] = [
    include_str!("gitlab/start.sh"),
    include_str!("gitlab/options.sh"),
    include_str!("gitlab/config.sh"),
    include_str!("gitlab/calls.sh"),
    include_str!("gitlab/jobs.sh"),
    include_str!("gitlab/life.sh"),
];

/// The program.
fn program(version: &str) -> String {
    PARTS.concat().replace("@VERSION@", version)
}

/// The program that an image with this tag holds: the newest, where the tag names no version.
pub(crate) fn of_image(tag: &str) -> String {
    let version = tag.strip_prefix('v').unwrap_or_default();
    let known = VERSIONS.into_iter().find(|known| *known == version);
    program(known.unwrap_or(VERSIONS[0]))
}

/// What lies at an address such as `/latest/binaries/gitlab-runner-linux-amd64`.
pub(crate) fn file(path: &str) -> Option<String> {
    let (version, name) = path.strip_prefix('/')?.split_once('/')?;
    let version = match version {
        "latest" => VERSIONS[0],
        version => {
            let version = version.strip_prefix('v')?;
            VERSIONS.into_iter().find(|known| *known == version)?
        }
    };
    if name == CHECKSUMS {
        let sum = sha256(program(version).as_bytes());
        let lines = ARCHITECTURES
            .map(|architecture| format!("{sum} *binaries/gitlab-runner-linux-{architecture}\n"));
        return Some(lines.concat());
    }
    let architecture = name.strip_prefix("binaries/gitlab-runner-linux-")?;
    ARCHITECTURES
        .contains(&architecture)
        .then(|| program(version))
}
