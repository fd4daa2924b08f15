//! The stand-ins for the runner programs; GitHub's is in here: shell scripts that take the real one's options, print its
//! lines, and really run their jobs.

pub(crate) mod gitlab;

use std::io;

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, Header};

/// The versions on offer, oldest first.
pub(crate) const VERSIONS: [&str; 2] = ["2.329.0", "2.330.0"];

/// The archive's files.
const FILES: [(&str, &str); 6] = [
    ("config.sh", include_str!("runner_program/config.sh")),
    ("run.sh", include_str!("runner_program/run.sh")),
    (
        "bin/Runner.Listener",
        include_str!("runner_program/bin/listener.sh"),
    ),
    (
        "bin/Runner.Worker",
        include_str!("runner_program/bin/worker.sh"),
    ),
    (
        "bin/common.sh",
        include_str!("runner_program/bin/common.sh"),
    ),
    (
        "bin/configure.sh",
        include_str!("runner_program/bin/configure.sh"),
    ),
];

/// The program's files, all of which are executable.
fn files(version: &str) -> impl Iterator<Item = (&'static str, String)> + use<'_> {
    FILES
        .into_iter()
        .map(move |(path, text)| (path, text.replace("@VERSION@", version)))
}

/// The files that an image with this tag holds: of the newest, where the tag names no version.
pub(crate) fn of_image(tag: &str) -> impl Iterator<Item = (&'static str, String)> + use<> {
    let [.., newest] = VERSIONS;
    let named = VERSIONS.into_iter().find(|version| *version == tag);
    files(named.unwrap_or(newest))
}

/// A `.tar.gz` of the program, laid out as the real one's: everything at the top.
pub(crate) fn archive(version: &str) -> io::Result<Vec<u8>> {
    let mut archive = Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    for (path, text) in files(version) {
        let mut header = Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o755);
        header.set_mtime(1_767_225_600);
        header.set_cksum();
        archive.append_data(&mut header, format!("./{path}"), text.as_bytes())?;
    }
    archive.into_inner()?.finish()
}
