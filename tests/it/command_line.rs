//! The command line: everything wrong is said at once, and nothing is touched.

use crate::world::World;

async fn world() -> World {
    let mut world = World::new().await;
    world.set("GITHUB_REPOSITORY", Some("octo/repo"));
    world
}

#[tokio::test]
async fn all_mistakes_are_reported_at_once_and_nothing_is_touched() {
    let world = world().await;
    let done = world
        .run(&[
            "launch",
            "--cloud=aws",
            "--cloud-type=enormous",
            "--cloud-hdd-size=much",
            "--cloud-spot",
            "--cloud-spot-price=free",
            "--cloud-aws-subnet=here",
            "--cloud-metadata=novalue",
            "--cloud-startup-script=***",
            "--cloud-ssh-private=key",
            "--cloud-ssh-cidr=10.0.0.0/99",
            "--idle-timeout=soon",
            "--name=a b",
            "--single",
            "--reuse",
            "--log=loud",
            "--driver=svn",
            "--colour=red",
        ])
        .await;
    assert_eq!(done.code, 2, "{}", done.stderr);
    for option in [
        "--cloud-type",
        "--cloud-hdd-size",
        "--cloud-spot-price",
        "--cloud-aws-subnet",
        "--cloud-metadata",
        "--cloud-startup-script",
        "--cloud-ssh-private",
        "--cloud-ssh-cidr",
        "--idle-timeout",
        "--name",
        "--single and --reuse",
        "--log",
        "--driver",
        "--colour",
    ] {
        assert!(done.stderr.contains(option), "{option} in {}", done.stderr);
    }
    assert!(world.sandbox.calls().is_empty());
    world.finish().await;
}

#[tokio::test]
async fn a_flag_beats_our_variable_beats_theirs() {
    let mut world = world().await;
    world.set("CML_RUNNER_NAME", Some("theirs"));
    world.set("CML_RUNNER_LABELS", Some("a,b"));
    world.set("RUNNER_NAME", Some("GitHub Actions 7"));
    let dry = ["--dry-run", "--output=json"];
    let done = world.launch(&dry).await;
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(
        done.stdout
            .contains(r#""name":"theirs","labels":["a","b"]"#),
        "{}",
        done.stdout
    );
    world.set("RUNNER_LAUNCH_NAME", Some("ours"));
    let done = world.launch(&dry).await;
    assert!(done.stdout.contains(r#""name":"ours""#), "{}", done.stdout);
    let done = world
        .launch(&[&dry[..], &["--name", "flag"]].concat())
        .await;
    assert!(done.stdout.contains(r#""name":"flag""#), "{}", done.stdout);
    world.finish().await;
}

#[tokio::test]
async fn the_token_is_found_by_all_its_names() {
    let mut world = world().await;
    let token = world.sandbox.github().token();
    world.set("REPO_TOKEN", None);
    let done = world.launch(&["--dry-run"]).await;
    assert_eq!(done.code, 2, "{}", done.stderr);
    assert!(done.stderr.contains("REPO_TOKEN"), "{}", done.stderr);
    for name in [
        "RUNNER_LAUNCH_TOKEN",
        "CML_RUNNER_DRIVER_TOKEN",
        "CML_TOKEN",
        "REPO_TOKEN",
        "GITHUB_TOKEN",
    ] {
        world.set(name, Some(&token));
        let done = world.launch(&["--dry-run"]).await;
        assert_eq!(done.code, 0, "{name}: {}", done.stderr);
        world.set(name, None);
    }
    world.finish().await;
}

#[tokio::test]
async fn a_dry_run_tells_what_would_be_made_and_makes_nothing() {
    let world = world().await;
    let script = "IyEvYmluL2Jhc2gKCmVjaG8gImhlbGxvIHdvcmxkIgo=";
    let args = [
        "--dry-run",
        "--cloud-type=m7g.2xlarge,m",
        "--cloud-region=eu-west,us-east",
        "--cloud-spot",
        "--cloud-spot-fallback",
        "--cloud-metadata=team=ml=x",
        "--cloud-startup-script",
        script,
        "--name=dry",
    ];
    let done = world.launch(&args).await;
    assert_eq!(done.code, 0, "{}", done.stderr);
    for part in [
        "m7g.2xlarge spot (aarch64) in eu-west-1",
        "m5.2xlarge",
        "us-east-1",
        "team=ml=x",
        "35 GB",
    ] {
        assert!(done.stdout.contains(part), "{part} in {}", done.stdout);
    }
    assert!(!done.stdout.contains(script));
    let done = world
        .launch(&[&args[..], &["--output=json"]].concat())
        .await;
    let report: serde_json::Value = serde_json::from_str(done.stdout.trim()).unwrap();
    let candidates = report["candidates"].as_array().unwrap();
    assert_eq!(candidates[0]["instanceType"], "m7g.2xlarge");
    assert_eq!(candidates[0]["spot"], true);
    let last = candidates.last().unwrap();
    assert_eq!(
        (&last["spot"], &last["instanceType"]),
        (&false.into(), &"m5.2xlarge".into())
    );
    assert_eq!(report["token"], "***");
    assert!(world.sandbox.ec2().instances().is_empty());
    assert!(
        world
            .sandbox
            .ec2()
            .groups()
            .iter()
            .all(|group| group.name == "default")
    );
    world.finish().await;
}

#[tokio::test]
async fn help_version_and_completions_need_nothing() {
    let mut world = world().await;
    world.set("REPO_TOKEN", None);
    let help = world.run(&["launch", "--help"]).await;
    assert_eq!(help.code, 0);
    for heading in [
        "General:",
        "Cloud:",
        "AWS:",
        "Kubernetes:",
        "Debugging:",
        "Global:",
    ] {
        assert!(help.stdout.contains(heading), "{heading}");
    }
    assert!(help.stdout.contains("[default: 300]"));
    let version = world.run(&["--version"]).await;
    assert_eq!(
        version.stdout.trim(),
        format!("runner-launch {}", env!("CARGO_PKG_VERSION"))
    );
    for (shell, part) in [
        ("bash", "complete -F"),
        ("zsh", "#compdef runner-launch"),
        ("fish", "complete -c"),
    ] {
        let done = world.run(&["completions", shell]).await;
        assert!(done.stdout.contains(part), "{shell}");
    }
    assert_eq!(world.run(&["completions", "cobol"]).await.code, 2);
    assert_eq!(world.run(&[]).await.code, 2);
    assert!(world.sandbox.calls().is_empty());
    world.finish().await;
}

#[tokio::test]
async fn options_without_effect_are_warned_of() {
    let world = world().await;
    let done = world
        .launch(&[
            "--dry-run",
            "--docker-volumes=/a:/b",
            "--workdir=/x",
            "--cloud-gpu=tesla",
            "--cloud-region=us-east",
            "--cloud-spot-price=1",
        ])
        .await;
    assert_eq!(done.code, 0, "{}", done.stderr);
    for part in [
        "--docker-volumes",
        "--workdir",
        "tesla",
        "--cloud-spot-price has no effect",
    ] {
        assert!(done.stderr.contains(part), "{part} in {}", done.stderr);
    }
    world.finish().await;
}

/// GitLab's component passes every input, and of a flag that nobody named a `false`.
#[tokio::test]
async fn an_input_that_is_false_hides_no_variable() {
    let mut world = world().await;
    world.set("RUNNER_LAUNCH_SINGLE", Some("true"));
    world.set("RUNNER_LAUNCH_INPUT_SINGLE", Some("false"));
    // As good as absent, where it isn't for this mode at all.
    world.set("RUNNER_LAUNCH_INPUT_ALL", Some("false"));
    let done = world.launch(&["--dry-run", "--output=json"]).await;
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stdout.contains(r#""single":true"#), "{}", done.stdout);
    world.set("RUNNER_LAUNCH_SINGLE", None);
    world.set("RUNNER_LAUNCH_INPUT_SINGLE", Some("true"));
    let done = world.launch(&["--dry-run", "--output=json"]).await;
    assert!(done.stdout.contains(r#""single":true"#), "{}", done.stdout);
    world.finish().await;
}

/// GitLab would take an earlier job's outputs for those of one that makes nothing.
#[tokio::test]
async fn a_launch_removes_the_outputs_of_an_earlier_job() {
    let mut world = World::gitlab().await;
    let outputs = world.in_gitlab_ci();
    std::fs::write(&outputs, "RUNNER_NAME=an earlier one\n").unwrap();
    let done = world.launch(&["--dry-run"]).await;
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(!outputs.exists());
    world.finish().await;
}
