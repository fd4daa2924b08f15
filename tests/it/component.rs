//! The CI/CD component: its templates are made from the program's options, and do as they say.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use runner_launch::cli::options::{Form, Mode, OPTIONS, Opt};
use sandbox::FederatedToken;

use crate::documents::{described, hold, yaml};
use crate::world::{World, program};

/// What runs pipelines on this machine.
const LOCAL: &str = "gitlab-ci-local";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("gitlab-component")
}

/// The values that an input can have, where they are few.
fn choices(opt: &Opt) -> Option<&'static str> {
    match opt.name {
        "cloud" => Some("[\"\", aws, azure, gcp, kubernetes]"),
        "driver" => Some("[\"\", github, gitlab]"),
        "log" => Some("[\"\", error, warn, info, debug]"),
        "output" => Some("[\"\", text, json]"),
        _ => None,
    }
}

/// The options that a template passes on. A GitHub App is nobody that a GitLab pipeline knows.
fn options(mode: Mode) -> impl Iterator<Item = &'static Opt> {
    OPTIONS.iter().filter(move |opt| {
        // What to stop is an input of its own.
        let other = ["name", "instance-id"].contains(&opt.name) && mode == Mode::Stop;
        opt.is_of(mode) && !opt.name.starts_with("github-app-") && !other
    })
}

/// The variable with the sums of this version's binaries, by their addresses; empty until they are
/// released.
fn released() -> String {
    const URL: &str = "https://github.com/runner-launch/runner-launch/releases/download";
    let version = env!("CARGO_PKG_VERSION");
    let of_dist = include_str!("../../dist/BUILD").lines().next();
    if of_dist != Some(&format!("version: {version}")) {
        return "    RUNNER_LAUNCH_RELEASED: \"\"\n".to_owned();
    }
    let mut text = "    RUNNER_LAUNCH_RELEASED: |\n".to_owned();
    for line in include_str!("../../dist/SHA256SUMS").lines() {
        let (sum, name) = line.split_once("  ").expect("a sum and a name");
        let _ = writeln!(text, "      {sum}  {URL}/v{version}/{name}");
    }
    text
}

#[test]
fn the_templates_inputs_are_the_program_s_options() {
    for mode in [Mode::Launch, Mode::Stop] {
        let file = format!("gitlab-component/templates/{}.yml", mode.name());
        let (mut inputs, mut environment) = (String::new(), String::new());
        for opt in options(mode) {
            let name = opt.name;
            let (kind, default) = match opt.form {
                Form::Flag => ("boolean", "false"),
                Form::Value(_) | Form::Many(_) => ("string", "\"\""),
            };
            let help = match opt.later.filter(|_| mode != Mode::Launch) {
                Some(later) => later.to_owned(),
                None => described(opt).replace(": true or false", ""),
            };
            // GitLab takes no number for a string.
            let help = match opt.form {
                Form::Value("GB" | "TIME" | "USD") => format!("{help} (in quotes)"),
                _ => help,
            };
            let _ = writeln!(
                inputs,
                "    {name}:\n      description: {}\n      type: {kind}\n      default: {default}",
                yaml(&help)
            );
            if let Some(choices) = choices(opt) {
                let _ = writeln!(inputs, "      options: {choices}");
            }
            let _ = writeln!(
                environment,
                "    {}: \"$[[ inputs.{name} ]]\"",
                opt.input_name()
            );
        }
        let version = format!("      default: \"{}\"\n", env!("CARGO_PKG_VERSION"));
        hold(&file, "# <version>", "# </version>", &version);
        hold(&file, "# <released>", "# </released>", &released());
        hold(&file, "# <inputs>", "# </inputs>", &inputs);
        hold(&file, "# <environment>", "# </environment>", &environment);
        for part in ["fetch", "sign-in"] {
            let script = folder().join(format!("scripts/{part}.sh"));
            let mut step = "    - |\n".to_owned();
            for line in std::fs::read_to_string(script).unwrap().lines() {
                let _ = writeln!(step, "      {line}");
            }
            hold(
                &file,
                &format!("# <{part}>"),
                &format!("# </{part}>"),
                &step,
            );
        }
    }
}

/// A project that includes the templates, on a machine that runs its pipeline.
struct Project {
    folder: PathBuf,
}

impl Project {
    fn new(world: &World, pipeline: &str) -> Self {
        let folder = world.folder().join("project");
        let templates = folder.join("templates");
        std::fs::create_dir_all(&templates).unwrap();
        for name in ["launch.yml", "stop.yml"] {
            std::fs::copy(folder_of_templates().join(name), templates.join(name)).unwrap();
        }
        std::fs::write(folder.join(".gitlab-ci.yml"), pipeline).unwrap();
        for args in [
            &["init", "--quiet"][..],
            &[
                "remote",
                "add",
                "origin",
                "git@gitlab.example:octo/repo.git",
            ],
            &["add", "."],
            &[
                "-c",
                "user.name=a",
                "-c",
                "user.email=a@example.com",
                "commit",
                "--quiet",
                "--message=a",
            ],
        ] {
            let mut git = std::process::Command::new("git");
            let done = git.args(args).current_dir(&folder).status().unwrap();
            assert!(done.success());
        }
        Self { folder }
    }

    /// Runs the whole pipeline; the answer is whether it succeeded, and its log.
    async fn run(&self, world: &World) -> (bool, String) {
        self.run_in(world, world.sandbox.gitlab_env()).await
    }

    /// The same with other variables.
    async fn run_in(&self, world: &World, env: Vec<(String, String)>) -> (bool, String) {
        let mut variables = String::new();
        for (name, value) in env {
            if !["HOME", "PATH"].contains(&name.as_str()) {
                let _ = writeln!(variables, "{name}: {}", yaml(&value));
            }
        }
        let file = self.folder.join(".gitlab-ci-local-variables.yml");
        std::fs::write(&file, variables).unwrap();
        let run = tokio::process::Command::new(LOCAL)
            .args(["--force-shell-executor", "--no-color", "--variable"])
            // Without containers, jobs run right here.
            .arg(format!("CI_PROJECT_DIR={}", self.folder.display()))
            .env("HOME", world.folder())
            .env("GITLAB_CI", "false")
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let done = tokio::time::timeout(Duration::from_secs(180), run);
        let done = done.await.expect("the pipeline ends").unwrap();
        let log = [done.stdout, done.stderr].concat();
        let log = String::from_utf8_lossy(&log).into_owned();
        for secret in world.sandbox.secrets() {
            assert!(!log.contains(&secret), "a secret is in the log:\n{log}");
        }
        (done.status.success(), log)
    }
}

fn folder_of_templates() -> PathBuf {
    folder().join("templates")
}

/// Whether pipelines can be run here. In CI they must be.
fn has_runner() -> bool {
    // The templates are being written.
    if std::env::var("UPDATE").as_deref() == Ok("1") {
        return false;
    }
    let found = std::process::Command::new(LOCAL)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let found = found.is_ok_and(|status| status.success());
    assert!(
        found || std::env::var_os("CI").is_none(),
        "{LOCAL} is wanted: npm install --global gitlab-ci-local@4.64.1"
    );
    found
}

fn sha256(file: &Path) -> String {
    let done = std::process::Command::new("sha256sum").arg(file).output();
    let text = String::from_utf8(done.unwrap().stdout).unwrap();
    text.split_whitespace().next().unwrap().to_owned()
}

/// The inputs with which the templates use the program under test.
fn inputs(world: &World) -> String {
    let env = world.sandbox.gitlab_env();
    let url = env.iter().find(|(n, _)| n == "RUNNER_LAUNCH_AGENT_URL");
    format!(
        "binary-url: {}, binary-sha256: \"{}\"",
        yaml(&url.unwrap().1),
        sha256(program())
    )
}

#[tokio::test]
async fn a_pipeline_launches_uses_and_stops_a_runner() {
    if !has_runner() {
        return;
    }
    let world = World::gitlab().await;
    let binary = inputs(&world);
    let project = Project::new(
        &world,
        &format!(
            r#"
include:
  - local: templates/launch.yml
    inputs: {{ {binary}, cloud: aws, labels: gpu, name: piped, idle-timeout: never }}
  - local: templates/stop.yml
    inputs: {{ {binary} }}
use:
  stage: test
  script:
    - 'echo "using=$RUNNER_INSTANCE_ID at $RUNNER_INSTANCE_IP by $RUNNER_NAME"'
"#
        ),
    );
    let (done, log) = project.run(&world).await;
    assert!(done, "{log}\n{}", world.report());
    let instance = world.sandbox.ec2().instances().remove(0);
    let used = format!(
        "using={} at {} by piped",
        instance.id,
        instance.public_ip.as_deref().unwrap()
    );
    assert!(log.contains(&used), "{log}");
    // The last job has stopped it.
    assert!(log.contains("destroyed"), "{log}");
    world.finish().await;
}

#[tokio::test]
async fn on_azure_the_job_s_own_token_takes_the_place_of_a_secret() {
    if !has_runner() {
        return;
    }
    let world = World::gitlab().await;
    let azure = world.sandbox.azure();
    let binary = inputs(&world);
    let signed_in = format!(
        "azure-client-id: {}, azure-tenant-id: {}, azure-subscription-id: {}",
        azure.client_id(),
        azure.tenant(),
        azure.subscription()
    );
    let project = Project::new(
        &world,
        &format!(
            r#"
include:
  - local: templates/launch.yml
    inputs: {{ {binary}, cloud: azure, labels: gpu, name: piped, idle-timeout: never, {signed_in} }}
  - local: templates/stop.yml
    inputs: {{ {binary}, {signed_in} }}
"#
        ),
    );
    let mut env = world.sandbox.gitlab_env();
    env.retain(|(name, _)| {
        !["CLIENT_ID", "CLIENT_SECRET", "TENANT_ID", "SUBSCRIPTION_ID"]
            .iter()
            .any(|end| *name == format!("AZURE_{end}"))
    });
    let token = azure.federated_token(FederatedToken::OfGitLab);
    env.push(("RUNNER_LAUNCH_ID_TOKEN".into(), token));
    let (done, log) = project.run_in(&world, env).await;
    assert!(
        done && log.contains("destroyed"),
        "{log}\n{}",
        world.report()
    );
    assert_eq!(azure.instances().len(), 1, "{}", world.report());
    world.finish().await;
}

#[tokio::test]
async fn a_binary_that_is_another_is_never_run() {
    if !has_runner() {
        return;
    }
    let world = World::gitlab().await;
    let binary = inputs(&world).replace(&sha256(program()), &"0".repeat(64));
    let project = Project::new(
        &world,
        &format!(
            "include:\n  - local: templates/launch.yml\n    inputs: {{ {binary}, cloud: aws }}\n"
        ),
    );
    let (done, log) = project.run(&world).await;
    assert!(!done && log.contains("another SHA-256"), "{log}");
    assert!(
        world
            .host_calls()
            .iter()
            .all(|call| !call.starts_with("ec2"))
    );
    world.finish().await;
}

#[tokio::test]
async fn a_pipeline_without_a_launch_stops_nothing() {
    if !has_runner() {
        return;
    }
    let world = World::gitlab().await;
    let binary = inputs(&world);
    let project = Project::new(
        &world,
        &format!("include:\n  - local: templates/stop.yml\n    inputs: {{ {binary} }}\n"),
    );
    let (done, log) = project.run(&world).await;
    assert!(done && log.contains("nothing to stop"), "{log}");
    world.finish().await;
}

/// What pipelines write as inputs reaches the program as it is meant, and a dry run makes nothing:
/// no outputs either, be there some of an earlier job.
#[tokio::test]
async fn inputs_reach_the_program_as_they_are_meant() {
    if !has_runner() {
        return;
    }
    let world = World::gitlab().await;
    let binary = inputs(&world);
    let project = Project::new(
        &world,
        &format!(
            r#"
variables:
  SIZE: l
  RUNNER_LAUNCH_SINGLE: "true"
include:
  - local: templates/launch.yml
    inputs:
      {binary_lines}
      cloud: aws
      cloud-type: "$SIZE"
      cloud-hdd-size: "77"
      cloud-spot: true
      name: "of-$CI_PIPELINE_IID"
      cloud-metadata: |
        team=one two
        cost=$SIZE
      dry-run: true
      output: json
use:
  stage: test
  script:
    - 'echo "using=<$RUNNER_NAME>"'
"#,
            binary_lines = binary.replace(", binary", "\n      binary"),
        ),
    );
    let outputs = project.folder.join("runner-launch.env");
    std::fs::write(&outputs, "RUNNER_NAME=an earlier one\n").unwrap();
    let (done, log) = project.run(&world).await;
    assert!(done, "{log}\n{}", world.report());
    for part in [
        r#""diskGb":77"#,
        r#""spot":true"#,
        r#""single":true"#,
        r#""name":"of-"#,
        r#""team":"one two""#,
        r#""cost":"l""#,
        r#"using=<>"#,
    ] {
        assert!(log.contains(part), "{part} in\n{log}");
    }
    assert!(!outputs.exists());
    world.finish().await;
}

/// Without a pin, a released file is held to the sum that came with the template.
#[tokio::test]
async fn a_released_binary_has_the_sum_of_the_template() {
    if !has_runner() {
        return;
    }
    let world = World::gitlab().await;
    let env = world.sandbox.gitlab_env();
    let url = env.iter().find(|(n, _)| n == "RUNNER_LAUNCH_AGENT_URL");
    let url = &url.unwrap().1;
    let file = url.replace("{arch}", std::env::consts::ARCH);
    for (sum, good) in [(sha256(program()), true), ("0".repeat(64), false)] {
        let project = Project::new(
            &world,
            &format!(
                r#"
include:
  - local: templates/launch.yml
    inputs: {{ binary-url: {}, cloud: aws, dry-run: true }}
launch-runner:
  variables:
    RUNNER_LAUNCH_RELEASED: "{sum}  {file}"
"#,
                yaml(url)
            ),
        );
        let (done, log) = project.run(&world).await;
        assert_eq!(done, good, "{log}");
        assert_eq!(log.contains("another SHA-256"), !good, "{log}");
        std::fs::remove_dir_all(&project.folder).unwrap();
    }
    world.finish().await;
}

/// Where an unrelated launch of the same pipeline was, says nothing of a target that is named.
#[tokio::test]
async fn a_named_target_is_not_looked_for_where_another_was_launched() {
    if !has_runner() {
        return;
    }
    let world = World::gitlab().await;
    let binary = inputs(&world);
    let project = Project::new(
        &world,
        &format!(
            r#"
variables:
  RUNNER_INSTANCE_ID: i-0123456789abcdef0
  RUNNER_CLOUD: aws
  RUNNER_REGION: us-west-2
include:
  - local: templates/stop.yml
    inputs: {{ {binary}, target: elsewhere }}
"#
        ),
    );
    let (done, log) = project.run(&world).await;
    assert!(!done && log.contains("say which cloud"), "{log}");
    let ec2 = |call: &String| call.starts_with("ec2");
    assert!(!world.host_calls().iter().any(ec2), "{log}");
    world.finish().await;
}
