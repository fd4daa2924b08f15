//! A client for the sandbox's GitLab, and its runner program.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;

use sandbox::{GitLab, PipelineView, Sandbox};
use serde_json::Value;
use tokio::process::Command;

use super::{Answer, Running, send, until};

/// Asks the API with a token; a body is JSON.
pub(crate) async fn ask(
    gitlab: &GitLab,
    token: &str,
    method: &str,
    path: &str,
    body: &str,
) -> Answer {
    let header = format!("private-token: {token}");
    let mut headers = vec![header.as_str()];
    if !body.is_empty() {
        headers.push("content-type: application/json");
    }
    plain(gitlab, method, path, &headers, body).await
}

/// Asks with the owner's token.
pub(crate) async fn owner(gitlab: &GitLab, method: &str, path: &str, body: &str) -> Answer {
    ask(gitlab, &gitlab.token(), method, path, body).await
}

/// Asks with these headers.
pub(crate) async fn plain(
    gitlab: &GitLab,
    method: &str,
    path: &str,
    headers: &[&str],
    body: &str,
) -> Answer {
    let url = gitlab.url();
    let (scheme, rest) = url.split_at("http://".len());
    let (host, root) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let path = format!("{root}/api/v4{path}");
    send(&format!("{scheme}{host}"), method, &path, headers, body).await
}

/// The numeric id of `octo/repo`, say, or of a group.
pub(crate) async fn id_of(gitlab: &GitLab, what: &str, path: &str) -> u64 {
    let path = format!("/{what}/{}", path.replace('/', "%2F"));
    let answer = owner(gitlab, "GET", &path, "").await;
    answer.json()["id"].as_u64().unwrap()
}

/// A new runner of `octo/repo`: its id and its token.
pub(crate) async fn new_runner(gitlab: &GitLab, name: &str, tags: &str) -> (u64, String) {
    let project = id_of(gitlab, "projects", "octo/repo").await;
    let body = format!(
        r#"{{"runner_type":"project_type","project_id":{project},"description":"{name}",
            "tag_list":"{tags}","locked":true,"run_untagged":true}}"#
    );
    let answer = owner(gitlab, "POST", "/user/runners", &body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let runner = answer.json();
    let token = runner["token"].as_str().unwrap();
    (runner["id"].as_u64().unwrap(), token.into())
}

/// Waits for a pipeline's end.
pub(crate) async fn completed(gitlab: &GitLab, pipeline: u64) -> PipelineView {
    until("the pipeline ends", || {
        gitlab
            .pipeline(pipeline)
            .filter(|pipeline| ["success", "failed", "canceled"].contains(&&*pipeline.status))
    })
    .await
}

/// Waits until a pipeline's job has a runner.
pub(crate) async fn running(gitlab: &GitLab, pipeline: u64) {
    until("the job starts", || {
        gitlab
            .pipeline(pipeline)
            .filter(|pipeline| pipeline.status == "running")
    })
    .await;
}

/// The stand-in runner program in a folder.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) folder: tempfile::TempDir,
    /// By it the sandbox knows what belongs to it, and ends it.
    home: PathBuf,
}

impl Program {
    /// Downloads a version and checks it.
    pub(crate) async fn download(sandbox: &Sandbox, version: &str) -> Program {
        let url = sandbox.gitlab_runner_downloads();
        let (base, path) = url.split_at(url.rfind("/gitlab-runner").unwrap());
        let name = "binaries/gitlab-runner-linux-amd64";
        let file = send(base, "GET", &format!("{path}/{version}/{name}"), &[], "").await;
        let list = format!("{path}/{version}/release.sha256");
        let list = send(base, "GET", &list, &[], "").await;
        let sum = ring::digest::digest(&ring::digest::SHA256, &file.body);
        let sum: String = sum.as_ref().iter().map(|b| format!("{b:02x}")).collect();
        let list = String::from_utf8(list.body).unwrap();
        assert!(list.contains(&format!("{sum} *{name}\n")), "{list}");
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("gitlab-runner");
        std::fs::write(&program, file.body).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        Program {
            folder,
            home: sandbox.home(),
        }
    }

    /// Writes a configuration with one runner, `r`.
    pub(crate) fn configure(&self, gitlab: &GitLab, token: &str, more: &str) -> PathBuf {
        let path = self.folder.path().join("config.toml");
        let text = format!(
            "concurrent = 1\n\n[[runners]]\n  name = \"r\"\n  url = \"{}\"\n  token = \"{token}\"\n\
             {more}",
            gitlab.url()
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Any command, with its standard error where [`Running`] reads it.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "exec \"$@\" 2>&1", "sh"])
            .arg(self.folder.path().join("gitlab-runner"))
            .args(args)
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", &self.home)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        std::os::unix::process::CommandExt::process_group(command.as_std_mut(), 0);
        command
    }

    /// Starts the configured runner with JSON logs.
    pub(crate) fn run(&self, args: &[&str]) -> Running {
        let fixed = [
            "--log-format",
            "json",
            "run-single",
            "--config",
            "config.toml",
            "--runner",
            "r",
        ];
        Running::from_command(self.command(&[&fixed, args].concat()))
    }
}

/// The lines of a log as JSON.
pub(crate) fn parsed(running: &Running) -> Vec<Value> {
    let lines = running.lines();
    lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
        .collect()
}

/// The first such line of a log.
pub(crate) fn line(running: &Running, message: &str) -> Value {
    let all = parsed(running);
    let mut found = all.iter().filter(|line| {
        line["msg"]
            .as_str()
            .is_some_and(|msg| msg.contains(message))
    });
    found
        .next()
        .unwrap_or_else(|| panic!("{message}: {all:?}"))
        .clone()
}
