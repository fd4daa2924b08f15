//! The startup script of a Compute Engine instance, run as Google's guest agent runs it: from a file
//! that goes with its end, by a shell, at every boot.
//! <https://cloud.google.com/compute/docs/instances/startup-scripts/linux>,
//! <https://github.com/GoogleCloudPlatform/guest-agent/tree/main/google_metadata_script_runner>

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::unix::pipe;

use super::{Cloud, Machine};
use crate::calls::lock;
use crate::clock;

/// What the guest agent is configured to run scripts with.
const SHELL: &str = "/bin/bash";
const KEY: &str = "startup-script";

impl Machine {
    /// Starts to run the startup script, if this is a machine that has one. It lives as long as the
    /// machine is up: a crash or a shutdown ends the one who listens to the script.
    pub(super) fn begin_startup_script(&self) {
        if !matches!(self.cloud, Cloud::Google { .. }) {
            return;
        }
        let machine = self.clone();
        let runner = tokio::spawn(async move { machine.run_startup_script().await });
        lock(&self.units).startup_script(runner.abort_handle());
    }

    async fn run_startup_script(&self) {
        let Cloud::Google { facts, .. } = &self.cloud else {
            return;
        };
        let script = facts.borrow().attributes.get(KEY).cloned();
        self.tell("Starting startup scripts (version 20250901.00).");
        let Some(script) = script.filter(|script| !script.is_empty()) else {
            self.tell("No startup scripts to run.");
            return;
        };
        self.tell(&format!("Found {KEY} in metadata."));
        match self.run_script(&script).await {
            Ok(status) if status.success() => self.tell(&format!("{KEY} exit status 0")),
            Ok(status) => self.tell(&format!(
                "Script \"{KEY}\" failed with error: {}",
                words(status)
            )),
            Err(error) => self.tell(&format!("Script \"{KEY}\" failed with error: {error}")),
        }
        self.tell("Finished running startup scripts.");
    }

    fn tell(&self, line: &str) {
        self.console
            .say(&format!("google_metadata_script_runner[612]: {line}"));
    }

    async fn run_script(&self, script: &str) -> io::Result<ExitStatus> {
        let name = format!("metadata-scripts{}", clock::random_hex(8));
        let folder = Folder(self.root().join("tmp").join(name));
        std::fs::create_dir(&folder.0)?;
        std::fs::set_permissions(&folder.0, std::fs::Permissions::from_mode(0o700))?;
        let file = folder.0.join(KEY);
        write_apart(&file, script.trim_start()).await?;
        let (reader, writer) = io::pipe()?;
        let words = [SHELL, "-c", &file.display().to_string()].map(str::to_owned);
        let output = [Stdio::from(writer.try_clone()?), Stdio::from(writer)];
        // A system service: nobody has logged in.
        let (mut child, _) = self.spawn_with(&words, &[], output, &["HOME"])?;
        let output = pipe::Receiver::from_owned_fd(OwnedFd::from(reader))?;
        let mut lines = BufReader::new(output).split(b'\n');
        // Up to its end, which is that of the last process that holds it.
        while let Some(line) = lines.next_segment().await? {
            let line = String::from_utf8_lossy(&line);
            self.tell(&format!("{KEY}: {}", line.trim_end_matches('\r')));
        }
        child.wait().await
    }
}

/// Goes with its owner.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // Gone already is fine.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Writes a script without ever holding it open in this program: a child that is just being started
/// by another thread would keep it open, too, and what is open for writing can't be executed.
async fn write_apart(file: &Path, script: &str) -> io::Result<()> {
    use tokio::io::AsyncWriteExt;
    let mut copier = tokio::process::Command::new("/bin/sh")
        .args(["-c", "umask 022; cat >\"$0\" && chmod 755 \"$0\""])
        .arg(file)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut input) = copier.stdin.take() {
        input.write_all(script.as_bytes()).await?;
    }
    match copier.wait().await?.success() {
        true => Ok(()),
        false => Err(io::Error::other("the script can't be written")),
    }
}

/// As the language that the guest agent is written in puts it.
fn words(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => {
            let name = nix::sys::signal::Signal::try_from(signal);
            let name = name.map_or("unknown", |signal| signal.as_str());
            format!("signal: {}", name.trim_start_matches("SIG").to_lowercase())
        }
        (None, None) => "unknown".into(),
    }
}
