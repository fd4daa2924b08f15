//! A sandbox, clients for its forges, and their stand-in runner programs unpacked.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "it is for tests alone"
)]

pub(crate) mod gitlab;

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sandbox::{Config, GitHub, Sandbox};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// A sandbox without latency whose agent is any file.
pub(crate) async fn sandbox() -> Sandbox {
    Sandbox::start(Config::new("/bin/sh")).await.unwrap()
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn message(&self) -> String {
        self.json()["message"].as_str().unwrap_or_default().into()
    }
}

/// Sends one request, byte for byte.
pub(crate) async fn send(
    base: &str,
    method: &str,
    path: &str,
    headers: &[&str],
    body: &str,
) -> Answer {
    let address = base.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    for header in headers {
        head.push_str(&format!("{header}\r\n"));
    }
    head.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    let end = all.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(all[..end].to_vec()).unwrap();
    let mut lines = head.lines();
    let status = lines
        .next()
        .unwrap()
        .split(' ')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    let headers = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    Answer {
        status,
        headers,
        body: all[end + 4..].to_vec(),
    }
}

/// Asks the API with a token, as a well-behaved client does.
pub(crate) async fn ask(
    github: &GitHub,
    token: &str,
    method: &str,
    path: &str,
    body: &str,
) -> Answer {
    let authorization = format!("authorization: Bearer {token}");
    let headers = [
        authorization.as_str(),
        "user-agent: sandbox-tests",
        "accept: application/vnd.github+json",
        "x-github-api-version: 2022-11-28",
    ];
    send(&github.url(), method, path, &headers, body).await
}

/// Asks with the administrator's token.
pub(crate) async fn admin(github: &GitHub, method: &str, path: &str, body: &str) -> Answer {
    ask(github, &github.token(), method, path, body).await
}

/// A just-in-time configuration of the repository.
pub(crate) async fn jit(github: &GitHub, name: &str) -> String {
    let path = "/repos/octo/repo/actions/runners/generate-jitconfig";
    let body = format!(
        r#"{{"name":"{name}","runner_group_id":1,"labels":["self-hosted","gpu"],"work_folder":"_work"}}"#
    );
    let answer = admin(github, "POST", path, &body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let config = answer.json()["encoded_jit_config"].clone();
    config.as_str().unwrap_or_default().into()
}

/// Waits until something is so; fails when it takes too long.
pub(crate) async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The stand-in runner program in a folder.
#[derive(Debug)]
pub(crate) struct Runner {
    pub(crate) folder: PathBuf,
    _temporary: tempfile::TempDir,
}

impl Runner {
    /// Downloads it as the API says, checks it, and unpacks it.
    pub(crate) async fn download(github: &GitHub) -> Runner {
        let list = admin(
            github,
            "GET",
            "/repos/octo/repo/actions/runners/downloads",
            "",
        )
        .await;
        let list = list.json();
        let linux = list
            .as_array()
            .unwrap()
            .iter()
            .find(|entry| entry["os"] == "linux" && entry["architecture"] == "x64");
        let url = linux.unwrap()["download_url"].as_str().unwrap();
        assert!(url.ends_with(
            "/actions/runner/releases/download/v2.330.0/actions-runner-linux-x64-2.330.0.tar.gz"
        ));
        let (base, path) = url.split_at(url.find("/actions/").unwrap());
        let archive = send(base, "GET", path, &[], "").await.body;
        let sum = ring::digest::digest(&ring::digest::SHA256, &archive);
        let sum: String = sum
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(linux.unwrap()["sha256_checksum"], sum);
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path().to_owned();
        tar::Archive::new(flate2::read::GzDecoder::new(archive.as_slice()))
            .unpack(&folder)
            .unwrap();
        Runner {
            folder,
            _temporary: temporary,
        }
    }

    pub(crate) fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(self.folder.join(program));
        command
            .args(args)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("RUNNER_ALLOW_RUNASROOT", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true);
        command.as_std_mut().process_group(0);
        command
    }

    /// Registers with the repository.
    pub(crate) async fn configure(&self, github: &GitHub, name: &str, more: &[&str]) -> Ended {
        let path = "/repos/octo/repo/actions/runners/registration-token";
        let answer = admin(github, "POST", path, "").await.json();
        let url = format!("{}/octo/repo", github.url());
        let mut args = vec!["--unattended", "--url", &url, "--name", name];
        args.extend(["--labels", "gpu,fast", "--work", "_work"]);
        args.extend(more);
        let mut command = self.command("config.sh", &args);
        command.env(
            "ACTIONS_RUNNER_INPUT_TOKEN",
            answer["token"].as_str().unwrap(),
        );
        end(command).await
    }

    /// Starts it.
    pub(crate) fn run(&self, environment: &[(&str, &str)]) -> Running {
        let mut command = self.command("run.sh", &[]);
        command.envs(environment.iter().copied());
        Running::from_command(command)
    }
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) success: bool,
    pub(crate) output: String,
}

/// Runs a program to its end.
pub(crate) async fn end(mut command: Command) -> Ended {
    let output = command.spawn().unwrap().wait_with_output().await.unwrap();
    Ended {
        success: output.status.success(),
        output: String::from_utf8(output.stdout).unwrap(),
    }
}

/// A running program and what it has printed.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Running {
    pub(crate) fn from_command(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        let sink = lines.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = output.next_line().await {
                sink.lock().unwrap().push(line);
            }
        });
        Running { child, lines }
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// Waits for a line with this text.
    pub(crate) async fn says(&self, text: &str) -> String {
        until(text, || {
            self.lines().into_iter().find(|line| line.contains(text))
        })
        .await
    }

    /// Signals the whole process group.
    pub(crate) fn signal(&self, signal: &str) {
        kill(signal, &format!("-{}", self.child.id().unwrap()));
    }

    /// Signals the first process alone.
    pub(crate) fn signal_leader(&self, signal: &str) {
        kill(signal, &self.child.id().unwrap().to_string());
    }

    pub(crate) async fn ended(&mut self) -> Option<i32> {
        let ended = tokio::time::timeout(Duration::from_secs(15), self.child.wait());
        ended.await.expect("the program ends").unwrap().code()
    }
}

fn kill(signal: &str, target: &str) {
    let mut kill = std::process::Command::new("kill");
    let status = kill.args(["-s", signal, "--", target]).status();
    assert!(status.unwrap().success());
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.child.id().is_some() {
            self.signal("KILL");
        }
    }
}

/// The path of a file in the test's own folder, with this content.
pub(crate) fn script(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}
