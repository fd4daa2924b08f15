//! The CI's runner program: an image's own, or downloaded, checked and unpacked in one pass, so that
//! the machine's first minute isn't spent on reading the same bytes three times.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::Method;
use ring::digest;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use url::Url;

use super::config::AgentConfig;
use super::layout::Layout;
use super::provided;
use super::user::User;
use crate::cloud::Arch;
use crate::error::{Error, Result};
use crate::forge::{Forge, Program};
use crate::host::Host;
use crate::http::{Http, Request, redacted};

/// A download that brings nothing for this long is begun anew.
const STALL: Duration = Duration::from_secs(30);
/// All tries together; a launch gives its runner ten minutes.
const TOTAL: Duration = Duration::from_secs(480);
const TRIES: u32 = 5;

/// Makes sure that the runner program is in its folder, whole and genuine. Done already is done.
pub(super) async fn prepare(
    config: &AgentConfig,
    forge: &dyn Forge,
    layout: &Layout,
    host: &Host,
    http: &Http,
) -> Result<()> {
    if layout.program.exists() {
        return Ok(());
    }
    if layout.inherits {
        layout.make_folders()?;
        if provided::take(forge, config.version.as_deref(), layout, host).await? {
            return Ok(());
        }
    }
    let arch = Arch::own();
    let program = config.programs.get(&arch).ok_or_else(|| {
        Error::other(format!(
            "the forge offers no runner program for {}",
            arch.uname()
        ))
    })?;
    let url = Url::parse(&program.url)
        .map_err(|error| Error::other("the runner program's address is broken").caused_by(error))?;
    let doing = format!("fetching the runner program from {}", redacted(&url));
    let started = host.now();
    let tries = async {
        let mut pause = Duration::from_secs(1);
        for left in (0..TRIES).rev() {
            match fetch(&url, program, layout, http).await {
                Ok(size) => return Ok(size),
                Err(error) if left == 0 => return Err(error),
                Err(error) => tracing::warn!("{}; trying again", error.chain()),
            }
            sleep(pause).await;
            pause *= 2;
        }
        Err(Error::other("no try was made"))
    };
    let size = timeout(TOTAL, tries)
        .await
        .unwrap_or_else(|_| Err(Error::other(format!("not done within {TOTAL:?}"))))
        .map_err(|error| Error::other(doing).caused_by(error))?;
    tracing::info!(
        "runner program ready: {} MB in {:.1} s",
        size / 1_000_000,
        (host.now() - started)
            .total(jiff::Unit::Second)
            .unwrap_or_default()
    );
    Ok(())
}

/// One try. What was unpacked gets its final name only when the checksum is right.
async fn fetch(url: &Url, program: &Program, layout: &Layout, http: &Http) -> Result<u64> {
    let request = Request::new(Method::GET, url.clone());
    let response = timeout(STALL, http.download(&request))
        .await
        .map_err(|_| Error::other(format!("no answer within {STALL:?}")))?;
    let mut response = response?;
    let mut partial = layout.program.clone().into_os_string();
    partial.push(".part");
    let partial = PathBuf::from(partial);
    let (sender, receiver) = mpsc::channel(64);
    let unpacking = {
        let (folder, user, file) = (partial.clone(), layout.user.clone(), program.file.clone());
        tokio::task::spawn_blocking(move || unpack(receiver, &folder, file, user.as_ref()))
    };
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut size = 0;
    loop {
        let chunk = timeout(STALL, response.chunk())
            .await
            .map_err(|_| Error::other(format!("the transfer stalled for {STALL:?}")))?
            .map_err(|error| {
                Error::other("the transfer broke off").caused_by(error.without_url())
            })?;
        let Some(chunk) = chunk else { break };
        hash.update(&chunk);
        size += chunk.len() as u64;
        if sender.send(chunk).await.is_err() {
            // The unpacking failed, and says below why.
            break;
        }
    }
    drop(sender);
    let unpacked = unpacking
        .await
        .map_err(|error| Error::other("unpacking").caused_by(error))?;
    unpacked.map_err(|error| Error::other("unpacking").caused_by(error))?;
    let found = hex(hash.finish().as_ref());
    if !found.eq_ignore_ascii_case(&program.sha256) {
        // Nothing of it may ever run.
        let _ = fs::remove_dir_all(&partial);
        return Err(Error::other(format!(
            "its SHA-256 is {found}, and the forge says {}",
            program.sha256
        )));
    }
    fs::rename(&partial, &layout.program)
        .map_err(|error| Error::other("moving it to its place").caused_by(error))?;
    Ok(size)
}

/// Reads an archive from a channel of chunks.
struct Chunks {
    receiver: mpsc::Receiver<Bytes>,
    current: Bytes,
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.receiver.blocking_recv() {
                Some(chunk) => self.current = chunk,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.current.len());
        buffer[..count].copy_from_slice(&self.current.split_to(count));
        Ok(count)
    }
}

/// Writes an archive's files, or the one `file` that the download is.
fn unpack(
    receiver: mpsc::Receiver<Bytes>,
    folder: &Path,
    file: Option<String>,
    user: Option<&User>,
) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => fs::create_dir_all(folder)?,
    }
    let mut chunks = Chunks {
        receiver,
        current: Bytes::new(),
    };
    match file {
        Some(name) => {
            let path = folder.join(name);
            io::copy(&mut chunks, &mut fs::File::create(&path)?)?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
        }
        None => {
            let mut archive = tar::Archive::new(GzDecoder::new(&mut chunks));
            archive.set_preserve_permissions(true);
            archive.set_overwrite(true);
            archive.unpack(folder)?;
            // What follows the archive's end belongs to the checksum, too.
            io::copy(&mut chunks, &mut io::sink())?;
        }
    }
    if let Some(user) = user {
        hand_over(folder, user)?;
    }
    Ok(())
}

/// Gives a folder and all in it to a user; links are not followed.
fn hand_over(path: &Path, user: &User) -> io::Result<()> {
    std::os::unix::fs::lchown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
    if path.symlink_metadata()?.is_dir() {
        for entry in fs::read_dir(path)? {
            hand_over(&entry?.path(), user)?;
        }
    }
    Ok(())
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
