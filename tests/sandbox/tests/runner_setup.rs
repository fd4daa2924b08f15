//! The stand-in runner program before its first job: where it comes from, what it takes and refuses.

mod support;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use support::{Runner, admin, end, jit, sandbox, send};

#[tokio::test(flavor = "multi_thread")]
async fn wrong_options_are_refused() {
    let sandbox = sandbox().await;
    let github = sandbox.github();
    let runner = Runner::download(&github).await;
    let output = runner.configure(&github, "r1", &["--ephemral"]).await;
    assert!(!output.success);
    assert!(
        output.output.contains(
            "Unrecognized command-line input arguments for command configure: 'ephemral'"
        ),
        "{}",
        output.output
    );
    let url = format!("{}/octo/repo", github.url());
    let no_token = runner.command("config.sh", &["--unattended", "--url", &url]);
    assert!(
        end(no_token)
            .await
            .output
            .contains("Invalid configuration provided for token")
    );
    let wrong_token = ["--unattended", "--url", &url, "--token", "AAAA"];
    let output = end(runner.command("config.sh", &wrong_token)).await;
    assert!(
        output.output.contains("Http response code: NotFound"),
        "{}",
        output.output
    );
    let output = end(runner.command("run.sh", &[])).await;
    assert!(
        output.output.contains("Not configured."),
        "{}",
        output.output
    );
    let broken = ["--jitconfig", "!!!"];
    assert!(
        end(runner.command("run.sh", &broken))
            .await
            .output
            .contains("not Base64")
    );
    assert_eq!(github.runners(), []);

    assert!(runner.configure(&github, "r1", &[]).await.success);
    let twice = runner.configure(&github, "r1", &[]).await;
    assert!(
        twice.output.contains("already configured"),
        "{}",
        twice.output
    );
    let other = Runner::download(&github).await;
    let taken = other.configure(&github, "r1", &[]).await;
    assert!(!taken.success);
    assert!(
        taken
            .output
            .contains("A runner exists with the same name r1"),
        "{}",
        taken.output
    );
    let before = github.runners()[0].id;
    assert!(
        other
            .configure(&github, "r1", &["--replace", "--no-default-labels"])
            .await
            .success
    );
    let after = github.runners().remove(0);
    assert_ne!(after.id, before);
    assert_eq!(after.labels, ["gpu", "fast"]);
    let mut replaced = runner.run(&[]);
    replaced.says("registration has been deleted").await;
    replaced.ended().await;

    let path = "/repos/octo/repo/actions/runners/remove-token";
    let token = admin(&github, "POST", path, "").await.json();
    let remove = ["remove", "--token", token["token"].as_str().unwrap()];
    assert!(end(other.command("config.sh", &remove)).await.success);
    assert_eq!(github.runners(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn root_is_refused() {
    let sandbox = sandbox().await;
    let runner = Runner::download(&sandbox.github()).await;
    let is_root = std::process::Command::new("id")
        .arg("-u")
        .output()
        .unwrap()
        .stdout
        == b"0\n";
    for (program, words) in [
        ("config.sh", "Must not run with sudo"),
        ("run.sh", "Must not run interactively with sudo"),
    ] {
        let mut command = runner.command(program, &[]);
        command.env_remove("RUNNER_ALLOW_RUNASROOT");
        assert_eq!(end(command).await.output.contains(words), is_root);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_downloads_are_as_announced() {
    let sandbox = sandbox().await;
    let github = sandbox.github();
    let release = admin(
        &github,
        "GET",
        "/repos/actions/runner/releases/tags/v2.329.0",
        "",
    )
    .await;
    let assets = release.json()["assets"].clone();
    let asset = assets
        .as_array()
        .unwrap()
        .iter()
        .find(|asset| asset["name"] == "actions-runner-linux-arm64-2.329.0.tar.gz");
    assert!(
        asset.unwrap()["digest"]
            .as_str()
            .unwrap()
            .starts_with("sha256:")
    );
    let missing = admin(
        &github,
        "GET",
        "/repos/actions/runner/releases/tags/v1.0.0",
        "",
    )
    .await;
    assert_eq!(missing.status, 404);

    let env = sandbox.env();
    let url = env
        .iter()
        .find(|(name, _)| name == "RUNNER_LAUNCH_AGENT_URL")
        .unwrap()
        .1
        .clone();
    let url = url.replace("{arch}", "aarch64");
    let (base, path) = url.split_at(url.find("/agent/").unwrap());
    let agent = send(base, "GET", path, &[], "").await;
    assert_eq!(agent.body, std::fs::read("/bin/sh").unwrap());
    let sums = send(base, "GET", "/agent/SHA256SUMS", &[], "").await;
    let sum = ring::digest::digest(&ring::digest::SHA256, &agent.body);
    let sum: String = sum
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let sums = String::from_utf8(sums.body).unwrap();
    assert_eq!(
        sums,
        format!("{sum}  runner-launch-linux-x86_64\n{sum}  runner-launch-linux-aarch64\n")
    );
    assert_eq!(
        send(base, "GET", "/agent/runner-launch-linux-mips", &[], "")
            .await
            .status,
        404
    );
    let names: Vec<String> = sandbox.calls().into_iter().map(|call| call.name).collect();
    for name in ["download:agent", "download:checksums"] {
        assert!(names.contains(&name.to_owned()), "{names:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jit_configuration_is_base64_of_the_runner_s_files() {
    let sandbox = sandbox().await;
    let config = jit(&sandbox.github(), "j1").await;
    let files = BASE64_STANDARD.decode(&config).unwrap();
    let files: serde_json::Value = serde_json::from_slice(&files).unwrap();
    assert!(files[".runner"].is_string() && files[".credentials"].is_string());
    assert!(sandbox.secrets().contains(&config));
}
