//! The GitHub Action as a user's workflow runs it: `action.yml` from a folder where the runner has
//! unpacked it, with the released binaries.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use runner_launch::cli::options::OPTIONS;
use runner_launch::launch::report::OUTPUTS;
use serde::Deserialize;
use tokio::process::Command;

use crate::world::{Done, Running, SOON, World};

/// What is read of `action.yml`.
/// <https://docs.github.com/en/actions/reference/workflows-and-actions/metadata-syntax>
#[derive(Deserialize)]
struct Metadata {
    inputs: BTreeMap<String, Input>,
    outputs: BTreeMap<String, Output>,
    runs: Runs,
}

#[derive(Deserialize)]
struct Input {
    default: Option<String>,
}

#[derive(Deserialize)]
struct Output {
    value: String,
}

#[derive(Deserialize)]
struct Runs {
    using: String,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    id: Option<String>,
    shell: String,
    run: String,
    #[serde(default)]
    env: BTreeMap<String, String>,
}

/// The repository from which workflows use the Action.
const REPOSITORY: &str = "org/runner-launch";

/// The released binary for this machine.
fn released() -> PathBuf {
    let name = format!("dist/runner-launch-linux-{}", std::env::consts::ARCH);
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

async fn world() -> World {
    World::with(|config| config.agent_binary = released()).await
}

/// A runner's copy of the Action, and what it knows while a step runs.
struct Unpacked {
    metadata: Metadata,
    path: PathBuf,
    output: PathBuf,
    summary: PathBuf,
}

impl Unpacked {
    /// Unpacks the Action where a runner does, and makes the world a step of a workflow.
    fn new(world: &mut World) -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR"));
        let path = world.folder().join("_actions").join(REPOSITORY).join("v1");
        std::fs::create_dir_all(path.join("dist")).unwrap();
        std::fs::copy(source.join("action.yml"), path.join("action.yml")).unwrap();
        for entry in std::fs::read_dir(source.join("dist")).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), path.join("dist").join(entry.file_name())).unwrap();
        }
        let (output, summary) = world.in_github_actions();
        world.set("GITHUB_ACTION_PATH", path.to_str());
        // So it is in the steps of a composite Action.
        world.set("GITHUB_ACTION_REPOSITORY", Some(""));
        let text = std::fs::read_to_string(path.join("action.yml")).unwrap();
        let metadata: Metadata = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(metadata.runs.using, "composite");
        Self {
            metadata,
            path,
            output,
            summary,
        }
    }

    /// Starts the Action's one step with these inputs, each of which must be declared.
    fn start(&self, world: &mut World, with: &[(&str, &str)]) -> Running {
        let mut inputs: BTreeMap<&str, &str> = BTreeMap::new();
        for (name, input) in &self.metadata.inputs {
            inputs.insert(name, input.default.as_deref().unwrap_or_default());
        }
        for (name, value) in with {
            assert!(inputs.insert(name, value).is_some(), "no input {name}");
        }
        let [step] = self.metadata.runs.steps.as_slice() else {
            panic!("one step");
        };
        assert!(!step.run.contains("${{"), "an expression in a script");
        for (name, value) in &step.env {
            let value = evaluate(value, |expression| {
                match expression.split_once('.').expect("a context") {
                    ("inputs", name) => inputs.get(name).expect("declared").to_string(),
                    ("github", "action_repository") => REPOSITORY.to_owned(),
                    _ => panic!("{expression}"),
                }
            });
            world.set(name, Some(&value));
        }
        let script = world.folder().join("step.sh");
        std::fs::write(&script, &step.run).unwrap();
        assert_eq!(step.shell, "sh");
        let mut command = Command::new("sh");
        command.arg("-e").arg(script);
        world.spawn_command(command)
    }

    async fn run(&self, world: &mut World, with: &[(&str, &str)]) -> Done {
        let running = self.start(world, with);
        world.done(running).await
    }

    /// The Action's outputs, by way of its step's.
    fn outputs(&self) -> BTreeMap<String, String> {
        let text = std::fs::read_to_string(&self.output).unwrap_or_default();
        let of_step: BTreeMap<&str, &str> = text
            .lines()
            .map(|line| line.split_once('=').expect("name=value"))
            .collect();
        let id = self.metadata.runs.steps[0].id.as_deref().expect("an id");
        let mut outputs = BTreeMap::new();
        for (name, output) in &self.metadata.outputs {
            let value = evaluate(&output.value, |expression| {
                let prefix = format!("steps.{id}.outputs.");
                let name = expression.strip_prefix(&prefix).expect("the step's output");
                of_step.get(name).copied().unwrap_or_default().to_owned()
            });
            outputs.insert(name.clone(), value);
        }
        outputs
    }
}

/// A text with its expressions replaced.
fn evaluate(text: &str, value: impl Fn(&str) -> String) -> String {
    let mut all = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${{") {
        let (expression, after) = after.split_once("}}").expect("the expression's end");
        all.push_str(before);
        all.push_str(&value(expression.trim()));
        rest = after;
    }
    all + rest
}

#[tokio::test]
async fn a_workflow_launches_uses_and_stops_a_runner() {
    let mut world = world().await;
    let action = Unpacked::new(&mut world);
    let with = [
        ("cloud", "aws"),
        ("cloud-type", "m"),
        ("cloud-metadata", "team=ml\nnote=a=b"),
        ("labels", "gpu,action"),
        ("idle-timeout", "never"),
        ("single", "true"),
    ];
    let done = action.run(&mut world, &with).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let instance = world.instance();
    assert_eq!(instance.tags["team"], "ml");
    assert_eq!(instance.tags["note"], "a=b");
    let outputs = action.outputs();
    assert_eq!(outputs["instance-id"], instance.id);
    assert_eq!(outputs["region"], "us-west-1");
    assert_eq!(outputs["runs-on"], r#"["self-hosted","gpu","action"]"#);
    let empty = outputs.values().filter(|value| value.is_empty()).count();
    assert_eq!(empty, 0, "{outputs:?}");
    let summary = std::fs::read_to_string(&action.summary).unwrap();
    assert!(summary.contains(&instance.id), "{summary}");

    let (id, name) = (&outputs["instance-id"], &outputs["name"]);
    let stop = [
        ("mode", "stop"),
        ("cloud", "aws"),
        ("instance-id", id),
        ("name", name),
    ];
    for _ in 0..2 {
        let done = action.run(&mut world, &stop).await;
        assert_eq!(done.code, 0, "{}", world.report());
        assert!(world.sandbox.github().runners().is_empty());
    }
    world.finish().await;
}

#[tokio::test]
async fn an_input_that_is_not_given_leaves_the_user_s_variable_alone() {
    let mut world = world().await;
    let action = Unpacked::new(&mut world);
    world.set("RUNNER_LAUNCH_LABELS", Some("mine"));
    world.set("RUNNER_LAUNCH_CLOUD_TYPE", Some("s"));
    let with = [
        ("cloud", "aws"),
        ("cloud-type", "l"),
        ("dry-run", "true"),
        ("output", "json"),
    ];
    let done = action.run(&mut world, &with).await;
    assert_eq!(done.code, 0, "{}", world.report());
    assert!(
        done.stdout.contains(r#""labels":["mine"]"#),
        "{}",
        done.stdout
    );
    assert!(done.stdout.contains("m5.8xlarge"), "{}", done.stdout);
    world.finish().await;
}

#[tokio::test]
async fn no_input_becomes_script_or_another_command() {
    let mut world = world().await;
    let action = Unpacked::new(&mut world);
    let pwned = world.folder().join("pwned");
    let attack = format!(
        "x\"; touch {0}; $(touch {0}) `touch {0}` '",
        pwned.display()
    );
    let names: Vec<String> = action.metadata.inputs.keys().cloned().collect();
    for name in names {
        let mut with = vec![("cloud", "aws"), ("dry-run", "true")];
        with.retain(|(known, _)| *known != name);
        with.push((&name, &attack));
        let done = action.run(&mut world, &with).await;
        assert!(!pwned.exists(), "{name}: {}", done.stdout);
        if ["mode", "labels", "name", "cloud-region", "repo"].contains(&name.as_str()) {
            assert_eq!(done.code, 2, "{name}: {}", done.stdout);
            assert!(
                done.stdout.contains("::error title=runner-launch::"),
                "{}",
                done.stdout
            );
        }
    }
    assert!(world.is_clean());
    world.finish().await;
}

#[tokio::test]
async fn other_systems_get_a_clear_error() {
    let mut world = world().await;
    let action = Unpacked::new(&mut world);
    let tools = world.folder().join("tools");
    std::fs::create_dir(&tools).unwrap();
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
    world.set("PATH", Some(&path));
    for (system, machine, part) in [
        ("Darwin", "arm64", "Linux only, not on Darwin"),
        ("MINGW64_NT-10.0", "x86_64", "runs-on: ubuntu-latest"),
        ("Linux", "riscv64", "none for riscv64"),
    ] {
        let uname = tools.join("uname");
        let text =
            format!("#!/bin/sh\ncase $1 in -s) echo {system} ;; *) echo {machine} ;; esac\n");
        std::fs::write(&uname, text).unwrap();
        make_executable(&uname);
        let done = action.run(&mut world, &[("cloud", "aws")]).await;
        assert_eq!(done.code, 2);
        assert!(done.stdout.contains(part), "{}", done.stdout);
    }
    world.finish().await;
}

fn make_executable(file: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn instances_download_the_release_of_the_action_s_own_repository() {
    let mut world = world().await;
    let action = Unpacked::new(&mut world);
    world.set("RUNNER_LAUNCH_AGENT_URL", None);
    let running = action.start(&mut world, &[("cloud", "aws"), ("single", "true")]);
    world
        .until("an instance is made", || {
            !world.sandbox.ec2().live().is_empty()
        })
        .await;
    let user_data = String::from_utf8_lossy(&world.instance().user_data).into_owned();
    running.signal(2);
    let done = world.done(running).await;
    assert_eq!(done.code, 130, "{}", world.report());
    let version = env!("CARGO_PKG_VERSION");
    let release = format!(
        "https://github.com/{REPOSITORY}/releases/download/v{version}/runner-launch-linux-"
    );
    assert!(user_data.contains(&release), "{user_data}");
    assert!(action.path.join("dist/SHA256SUMS").exists());
    world.finish().await;
}

#[tokio::test]
async fn a_release_that_is_not_there_is_told_before_anything_is_made() {
    let mut world = world().await;
    let action = Unpacked::new(&mut world);
    let env = world.sandbox.env();
    let known = env
        .iter()
        .find(|(name, _)| name == "RUNNER_LAUNCH_AGENT_URL");
    let missing = known.unwrap().1.replace("{arch}", "none");
    world.set("RUNNER_LAUNCH_AGENT_URL", Some(&missing));
    world
        .sandbox
        .set_latency(std::time::Duration::from_millis(50));
    let done = action
        .run(&mut world, &[("cloud", "aws"), ("single", "true")])
        .await;
    assert_eq!(done.code, 2, "{}", world.report());
    assert!(done.stdout.contains("404"), "{}", done.stdout);
    assert!(world.sandbox.ec2().instances().is_empty());
    world.finish().await;
}

#[tokio::test]
async fn a_cancelled_step_rolls_back() {
    let mut world = world().await;
    let action = Unpacked::new(&mut world);
    let mut hold = world.sandbox.hold("host:ec2:RunInstances", 1);
    let running = action.start(&mut world, &[("cloud", "aws"), ("single", "true")]);
    assert!(hold.arrived(SOON).await, "{}", world.report());
    running.signal(2);
    hold.release();
    let done = world.done(running).await;
    assert_eq!(done.code, 130, "{}", world.report());
    world.finish().await;
}

/// A runner's threads come and go as they like, and a step lives on without the one that started it.
#[tokio::test]
async fn a_launch_outlives_the_thread_that_started_it() {
    let mut world = world().await;
    let action = Unpacked::new(&mut world);
    let mut hold = world.sandbox.hold("host:ec2:RunInstances", 1);
    let with = [("cloud", "aws"), ("idle-timeout", "1"), ("labels", "calm")];
    let runtime = tokio::runtime::Handle::current();
    let running = std::thread::scope(|scope| {
        let start = || {
            let _inside = runtime.enter();
            action.start(&mut world, &with)
        };
        scope.spawn(start).join().unwrap()
    });
    assert!(hold.arrived(SOON).await, "{}", world.report());
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    hold.release();
    let done = world.done(running).await;
    assert_eq!(done.code, 0, "{}", world.report());
    world.finish().await;
}

#[test]
fn every_input_is_an_option_or_the_mode() {
    let text = include_str!("../../action.yml");
    let metadata: Metadata = serde_saphyr::from_str(text).unwrap();
    let options = OPTIONS.iter().map(|opt| opt.name);
    let expected: BTreeSet<&str> = options.chain(["mode"]).collect();
    let found: BTreeSet<&str> = metadata.inputs.keys().map(String::as_str).collect();
    assert_eq!(found, expected);
    let expected: BTreeSet<&str> = OUTPUTS.iter().map(|(name, _)| *name).collect();
    let found: BTreeSet<&str> = metadata.outputs.keys().map(String::as_str).collect();
    assert_eq!(found, expected);
}

/// The released binaries are of the version that the sources say, and have the sums beside them.
#[test]
fn what_is_released_is_this_version() {
    let version = env!("CARGO_PKG_VERSION");
    let advice = "build a release: dist/build";
    let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/BUILD");
    let build = std::fs::read_to_string(build).expect(advice);
    let line = format!("version: {version}");
    assert!(
        build.lines().any(|known| known == line),
        "{advice}\n{build}"
    );
    let mut program = std::process::Command::new(released());
    let told = program.arg("--version").output().expect(advice).stdout;
    let told = String::from_utf8_lossy(&told).into_owned();
    assert_eq!(told.trim(), format!("runner-launch {version}"), "{advice}");
    let checked = std::process::Command::new("sha256sum")
        .args(["--check", "--strict", "SHA256SUMS"])
        .current_dir(released().parent().unwrap())
        .output()
        .unwrap();
    assert!(checked.status.success(), "{checked:?}");
}
