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

/// A `.tar.gz` of the program, laid out as the real one's: everything at the top.
pub(crate) fn archive(version: &str) -> io::Result<Vec<u8>> {
    let mut archive = Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    for (path, text) in FILES {
        let text = text.replace("@VERSION@", version);
        let mut header = Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o755);
        header.set_mtime(1_767_225_600);
        header.set_cksum();
        archive.append_data(&mut header, format!("./{path}"), text.as_bytes())?;
    }
    archive.into_inner()?.finish()
}
