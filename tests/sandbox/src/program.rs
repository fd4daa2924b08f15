//! The real binary: building it, and starting it with the fakes' environment.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

/// How a binary is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// As this program itself.
    Own,
    /// For work on the program.
    Debug,
    /// As people get it.
    Release,
}

/// Makes sure that the real binary is there and current.
pub(crate) async fn build(profile: Profile) -> io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let own = own.parent().unwrap_or(Path::new("."));
    let folder = match profile {
        Profile::Own => own.to_owned(),
        Profile::Debug => own.with_file_name("debug"),
        Profile::Release => own.with_file_name("release"),
    };
    let binary = folder.join("runner-launch");
    let cargo = environment().find(|(name, _)| name == "CARGO");
    if cargo.is_none() && binary.exists() {
        return Ok(binary);
    }
    let cargo = cargo.map_or_else(|| "cargo".into(), |(_, path)| path);
    let mut command = Command::new(cargo);
    command.args([
        "build",
        "--quiet",
        "--package",
        "runner-launch",
        "--bin",
        "runner-launch",
    ]);
    let profile = folder.file_name().and_then(|name| name.to_str());
    if let Some(profile) = profile.filter(|profile| *profile != "debug") {
        command.args(["--profile", profile]);
    }
    match command.status().await?.success() && binary.exists() {
        true => Ok(binary),
        false => Err(io::Error::other("building runner-launch failed")),
    }
}

/// A command with this environment, and no variable of ours that might be a real credential.
pub(crate) fn command(program: &Path, env: Vec<(String, String)>) -> Command {
    let harmless = |name: &str| {
        ["PATH", "TERM", "LANG", "TMPDIR", "RUST_BACKTRACE"].contains(&name)
            || name.starts_with("LC_")
    };
    let mut command = Command::new(program);
    command
        .env_clear()
        .envs(environment().filter(|(name, _)| harmless(name)))
        .envs(env)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // The terminal's Ctrl-C comes to us; we pass it on.
        .process_group(0)
        .kill_on_drop(true);
    command
}

/// The variables that are text.
#[expect(
    clippy::disallowed_methods,
    reason = "a program that stands between a person and the real one"
)]
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// Runs a command to its end; the answer is its standard output.
pub(crate) async fn end(mut command: Command) -> io::Result<String> {
    let output = command.spawn()?.wait_with_output().await?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(io::Error::other(format!(
            "{:?} ended with {}: {}",
            command.as_std().get_program(),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        ))),
    }
}
