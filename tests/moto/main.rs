//! The program against moto's EC2, with a user who has the specification's permissions alone.
//! `tests/moto/run` starts it. GitHub is the sandbox's; moto's instances run nothing, so the test
//! itself says that the runner is there.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that can't go on has failed"
)]

use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use sandbox::{Config, Sandbox};
use serde_json::{Value, json};
use tokio::process::Command;

const PROGRAM: &str = env!("CARGO_BIN_EXE_runner-launch");

struct World {
    sandbox: Sandbox,
    endpoint: String,
    id: String,
    secret: String,
}

#[expect(
    clippy::disallowed_methods,
    reason = "the script that starts moto says where it is"
)]
fn variable(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is missing: start this by tests/moto/run"))
}

impl World {
    async fn new() -> Self {
        let user: Value = serde_json::from_str(&variable("MOTO_USER")).unwrap();
        Self {
            sandbox: Sandbox::start(Config::new(PROGRAM)).await.unwrap(),
            endpoint: variable("MOTO_ENDPOINT"),
            id: user["id"].as_str().unwrap().to_owned(),
            secret: user["secret"].as_str().unwrap().to_owned(),
        }
    }

    fn launch(&self, secret: &str, args: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        let sandbox = self.sandbox.env();
        command
            .args(["launch", "--cloud=aws"])
            .args(args)
            .env_clear()
            .envs(
                sandbox
                    .into_iter()
                    .filter(|(name, _)| !name.starts_with("AWS_")),
            )
            .env("AWS_ENDPOINT_URL", &self.endpoint)
            .env("AWS_ACCESS_KEY_ID", &self.id)
            .env("AWS_SECRET_ACCESS_KEY", secret)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs a launch; once there is an instance, a runner of the name is there, too.
    async fn launched(&self, name: &str, args: &[&str]) -> Output {
        let before = instances().await.len();
        let all = [&["--name", name][..], args].concat();
        let child = self.launch(&self.secret, &all).spawn().unwrap();
        let output = tokio::spawn(child.wait_with_output());
        let started = Instant::now();
        while instances().await.len() == before && !output.is_finished() {
            assert!(started.elapsed() < Duration::from_secs(60), "no instance");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        self.sandbox
            .github()
            .add_runner("octo/repo", name, &["cml"], true, false);
        output.await.unwrap().unwrap()
    }
}

/// All instances, as another client sees them.
async fn instances() -> Vec<Value> {
    let output = Command::new("python3")
        .args(["tests/moto/peer.py", "instances"])
        .output()
        .await
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn named(name: &str) -> Value {
    let all = instances().await;
    all.into_iter()
        .find(|instance| instance["tags"]["Name"] == name)
        .expect("it is there")
}

/// The instance's group whose name begins so. moto lists groups of other interfaces, too.
fn group<'i>(instance: &'i Value, name: &str) -> &'i Value {
    let groups = instance["groups"].as_array().unwrap();
    groups
        .iter()
        .find(|group| group["name"].as_str().unwrap().starts_with(name))
        .unwrap_or_else(|| panic!("no group {name}: {instance}"))
}

#[tokio::test]
async fn an_instance_is_there_as_promised_with_the_listed_permissions_alone() {
    let world = World::new().await;
    let output = world.launched("plain", &["--cloud-metadata=team=ml"]).await;
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let instance = named("plain").await;
    assert_eq!(instance["type"], "m5.2xlarge");
    assert_eq!(instance["image"], "ami-0aaaaaaaaaaaaaaa1");
    assert_eq!(instance["shutdown"], "terminate");
    assert_eq!(instance["metadata"]["HttpTokens"], "required");
    assert_eq!(instance["metadata"]["HttpPutResponseHopLimit"], 2);
    assert!(
        instance["token"]
            .as_str()
            .is_some_and(|token| !token.is_empty())
    );
    let volume = &instance["volumes"][0];
    assert_eq!(
        (&volume["gb"], &volume["type"], &volume["encrypted"]),
        (&35.into(), &"gp3".into(), &true.into())
    );
    for tags in [&instance["tags"], &volume["tags"]] {
        assert_eq!(tags["team"], "ml");
        assert!(
            tags["runner-launch"].is_string() && tags["runner-launch-id"].is_string(),
            "{tags}"
        );
    }
    assert_eq!(group(&instance, "runner-launch")["ingress"], json!([]));
    let script = instance["user_data"].as_str().unwrap();
    assert!(
        script.starts_with("#!/bin/sh\n") && script.contains("runner-launch.service"),
        "{script}"
    );
    assert!(!script.contains(&world.secret));
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        stdout.contains(instance["id"].as_str().unwrap()),
        "{stdout}"
    );
}

#[tokio::test]
async fn spot_ssh_and_another_architecture() {
    let world = World::new().await;
    let args = [
        "--cloud-type=m6g.2xlarge",
        "--cloud-spot",
        "--cloud-ssh-cidr=203.0.113.0/24",
    ];
    let output = world.launched("spot", &args).await;
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let instance = named("spot").await;
    assert_eq!(instance["spot"], true);
    assert_eq!(instance["image"], "ami-0aaaaaaaaaaaaaaa2");
    let rule = &group(&instance, "runner-launch-ssh-")["ingress"][0];
    assert_eq!(
        (&rule["FromPort"], &rule["ToPort"]),
        (&22.into(), &22.into()),
        "{instance}"
    );
    assert_eq!(rule["IpRanges"][0]["CidrIp"], "203.0.113.0/24");
}

#[tokio::test]
async fn a_launch_that_fails_leaves_no_live_instance() {
    let world = World::new().await;
    let output = world
        .launch(&world.secret, &["--name=late", "--timeout=2"])
        .output()
        .await
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(5), "{stderr}");
    let state = named("late").await["state"].clone();
    assert!(state == "terminated" || state == "shutting-down", "{state}");
}

#[tokio::test]
async fn a_wrong_secret_is_exit_code_3() {
    let world = World::new().await;
    let before = instances().await.len();
    let output = world
        .launch("wrongwrongwrongwrongwrongwrongwrongwrong", &[])
        .output()
        .await
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("AWS_SECRET_ACCESS_KEY"), "{stderr}");
    assert_eq!(instances().await.len(), before);
}
