//! A launch on AWS, from the command to the power-off.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sandbox::JobScript;

use crate::world::World;

/// The values of the outputs file.
fn outputs(text: &str) -> std::collections::BTreeMap<&str, &str> {
    text.lines()
        .filter_map(|line| line.split_once('='))
        .collect()
}

#[tokio::test]
async fn a_single_runner_takes_its_job_and_is_gone() {
    let mut world = World::new().await;
    let (output, summary) = world.in_github_actions();
    let done = world
        .launch(&["--labels=gpu,fast", "--single", "--name=one"])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    let instance = world.instance();
    let runner = world.sandbox.github().runners().remove(0);
    assert_eq!(
        (runner.name.as_str(), runner.online, runner.ephemeral),
        ("one", true, true)
    );

    let text = std::fs::read_to_string(output).unwrap();
    let outputs = outputs(&text);
    assert_eq!(outputs["instance-id"], instance.id);
    assert_eq!(
        outputs["instance-ip"],
        instance.public_ip.as_deref().unwrap()
    );
    assert_eq!(outputs["instance-type"], "m5.2xlarge");
    assert_eq!(
        (outputs["cloud"], outputs["region"], outputs["spot"]),
        ("aws", "us-west-1", "false")
    );
    assert_eq!((outputs["name"], outputs["labels"]), ("one", "gpu,fast"));
    assert_eq!(outputs["runner-id"], runner.id.to_string());
    assert_eq!(outputs["runs-on"], r#"["self-hosted","gpu","fast"]"#);
    assert!(outputs["launch-time"].starts_with("20"));
    let summary = std::fs::read_to_string(summary).unwrap();
    assert!(
        summary.contains(&format!("| instance-id | `{}` |", instance.id)),
        "{summary}"
    );

    let line = done
        .stdout
        .lines()
        .find(|line| line.contains("instanceIp"))
        .unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    for key in [
        "awsSecurityGroup",
        "awsSubnetId",
        "cloud",
        "driver",
        "id",
        "idleTimeout",
        "image",
        "instanceGpu",
        "instanceHddSize",
        "instanceIp",
        "instanceLaunchTime",
        "instanceType",
        "instancePermissionSet",
        "labels",
        "metadata",
        "name",
        "region",
        "repo",
        "single",
        "spot",
        "spotPrice",
    ] {
        assert!(line.get(key).is_some(), "{key} in {line}");
    }
    assert_eq!(line["instanceIp"], instance.public_ip.clone().unwrap());
    assert_eq!(line["instanceHddSize"], 35);

    let run = world.sandbox.github().queue_run(
        "octo/repo",
        "train",
        &["self-hosted", "linux", "x64", "gpu"],
        JobScript::Shell("echo hello from the job".into()),
    );
    world.until_clean().await;
    let run = world.succeeded(run);
    assert_eq!(run.jobs[0].output, ["hello from the job"]);
    let console = world.sandbox.ec2().console(&instance.id);
    for status in ["ready", "job_started", "job_ended", "terminated"] {
        assert!(
            console.contains(&format!("\"status\":\"{status}\"")),
            "{status} in {console}"
        );
    }
    world.finish().await;
}

#[tokio::test]
async fn the_instance_is_made_as_promised() {
    let world = World::new().await;
    let done = world
        .launch(&[
            "--name=made",
            "--cloud-region=eu-north",
            "--cloud-spot",
            "--cloud-spot-price=0.25",
            "--cloud-hdd-size=77",
            "--cloud-permission-set=arn:aws:iam::123456789012:instance-profile/dvc-s3-access",
            "--cloud-metadata=team=ml",
            "--cloud-metadata=note=a=b",
            "--single",
            "--idle-timeout=2",
        ])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    let instance = world.sandbox.ec2().instances().remove(0);
    assert_eq!(instance.region, "eu-north-1");
    assert!(
        instance.spot && instance.spot_price.as_deref() == Some("0.25"),
        "{instance:?}"
    );
    assert_eq!(
        (
            instance.volume_gb,
            instance.volume_type.as_str(),
            instance.encrypted
        ),
        (77, "gp3", true)
    );
    assert!(instance.imds_v2_required);
    assert_eq!(instance.hop_limit, 2);
    assert_eq!(instance.shutdown_behavior, "terminate");
    assert!(
        instance
            .profile
            .as_deref()
            .is_some_and(|profile| profile.ends_with("dvc-s3-access"))
    );
    assert!(instance.client_token.is_some());
    for tags in [
        &instance.tags,
        &instance.volume_tags,
        &instance.interface_tags,
    ] {
        assert_eq!(tags["Name"], "made");
        assert_eq!(tags["team"], "ml");
        assert_eq!(tags["note"], "a=b");
        assert!(
            tags.contains_key("runner-launch") && tags.contains_key("runner-launch-id"),
            "{tags:?}"
        );
    }
    world.finish().await;
}

#[tokio::test]
async fn an_idle_runner_ends_in_time_and_unregisters() {
    let world = World::new().await;
    let done = world.launch(&["--idle-timeout=1", "--labels=idle"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let id = world.sandbox.ec2().instances()[0].id.clone();
    world.until_clean().await;
    let console = world.sandbox.ec2().console(&id);
    assert!(console.contains("no job came in time"), "{console}");
    world.finish().await;
}

#[tokio::test]
async fn a_runner_of_many_jobs_counts_its_idle_time_anew_after_each() {
    let world = World::new().await;
    let done = world.launch(&["--idle-timeout=3", "--labels=many"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let github = world.sandbox.github();
    for _ in 0..2 {
        let job = JobScript::Sleep(Duration::from_secs(2));
        let run = github.queue_run("octo/repo", "nap", &["many"], job);
        world.until_completed(run).await;
        world.succeeded(run);
    }
    assert_eq!(world.sandbox.ec2().live().len(), 1, "{}", world.report());
    world.until_clean().await;
    world.finish().await;
}

#[tokio::test]
async fn a_startup_script_runs_before_the_runner_and_its_failure_fails_the_launch() {
    let world = World::new().await;
    let script = |text: &str| BASE64_STANDARD.encode(text);
    let good = script("#!/bin/bash\n\necho \"hello world\"\n");
    let done = world
        .launch(&["--idle-timeout=1", "--cloud-startup-script", &good])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    let id = world.sandbox.ec2().instances()[0].id.clone();
    let ready = "\"status\":\"ready\"";
    world
        .until("the agent says so", || {
            world.sandbox.ec2().console(&id).contains(ready)
        })
        .await;
    let console = world.sandbox.ec2().console(&id);
    let hello = console.find("hello world").expect("it ran");
    assert!(hello < console.find(ready).unwrap(), "{console}");

    let bad = script("echo something is wrong here; exit 7");
    let done = world
        .launch(&["--idle-timeout=1", "--cloud-startup-script", &bad])
        .await;
    assert_eq!(done.code, 5, "{}", world.report());
    assert!(
        done.stderr.contains("something is wrong here"),
        "{}",
        done.stderr
    );
    assert!(done.stderr.contains("exit code 7"), "{}", done.stderr);
    world.finish().await;
}

#[tokio::test]
async fn not_ready_in_time_is_exit_code_5_with_the_console() {
    let world = World::new().await;
    world
        .sandbox
        .fault("download:runner", None, sandbox::FaultKind::TimeoutBefore);
    let done = world.launch(&["--timeout=4"]).await;
    assert_eq!(done.code, 5, "{}", world.report());
    assert!(
        done.stderr.contains("the instance's last output"),
        "{}",
        done.stderr
    );
    assert!(
        done.stderr.contains("agent downloaded and checked"),
        "{}",
        done.stderr
    );
    world.finish().await;
}

#[tokio::test]
async fn user_data_over_the_limit_is_an_error_that_names_the_size() {
    let world = World::new().await;
    // Too much for 16 KB plain, but it packs well.
    let long = BASE64_STANDARD.encode(format!("true {}", "x".repeat(20_000)));
    let done = world
        .launch(&["--idle-timeout=1", "--cloud-startup-script", &long])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    assert_eq!(
        world.sandbox.ec2().instances()[0].user_data[..2],
        [0x1f, 0x8b]
    );
    world.until_clean().await;

    // Too much even when packed: nothing repeats.
    let mut state = 1u64;
    let noise: String = (0..24_000)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            char::from(33 + u8::try_from(state >> 58).unwrap())
        })
        .collect();
    let noise = BASE64_STANDARD.encode(noise);
    let done = world
        .launch(&["--single", "--cloud-startup-script", &noise])
        .await;
    assert_eq!(done.code, 2, "{}", world.report());
    assert!(
        done.stderr.contains("16384") && done.stderr.contains("24000"),
        "{}",
        done.stderr
    );
    assert!(world.is_clean(), "{}", world.report());
    world.finish().await;
}

#[tokio::test]
async fn a_single_runner_that_never_gets_ready_is_no_success() {
    let world = World::new().await;
    world
        .sandbox
        .fault("runner:session", None, sandbox::FaultKind::Denied);
    let done = world.launch(&["--single", "--timeout=20"]).await;
    assert_eq!(done.code, 5, "{}", world.report());
    world.finish().await;
}

#[tokio::test]
async fn a_short_job_that_is_over_before_anyone_looks_is_a_success() {
    let world = World::new().await;
    // The launcher's eyes are slow.
    let find = "host:github:GET /repos/{owner}/{repo}/actions/runners/{runner_id}";
    world.sandbox.fault(
        find,
        Some(2),
        sandbox::FaultKind::Slow(Duration::from_millis(1800)),
    );
    world.sandbox.fault(
        find,
        Some(3),
        sandbox::FaultKind::Slow(Duration::from_millis(1800)),
    );
    let run = world.sandbox.github().queue_run(
        "octo/repo",
        "j",
        &["short"],
        JobScript::Sleep(Duration::ZERO),
    );
    let done = world.launch(&["--single", "--labels=short"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    world.succeeded(run);
    world.finish().await;
}

#[tokio::test]
async fn an_outage_of_the_forge_is_outlasted() {
    let world = World::new().await;
    let find = "github:GET /repos/{owner}/{repo}/actions/runners/{runner_id}";
    let running = world.spawn(&["launch", "--cloud=aws", "--single", "--labels=late"]);
    world.until_running().await;
    let bad_gateway = sandbox::FaultKind::Status(502);
    world
        .sandbox
        .fault(&format!("host:{find}"), None, bad_gateway);
    world
        .until("it has asked again and again", || {
            let calls = world.sandbox.calls().into_iter();
            let failed = calls.filter(|call| call.name == find && call.status == Some(502));
            failed.count() > 30
        })
        .await;
    world.sandbox.clear_faults();
    let done = world.done(running).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let job = JobScript::Sleep(Duration::ZERO);
    let run = world
        .sandbox
        .github()
        .queue_run("octo/repo", "j", &["late"], job);
    world.until_clean().await;
    world.succeeded(run);
    world.finish().await;
}

#[tokio::test]
async fn a_pipeline_sees_groups_and_annotations() {
    let mut world = World::new().await;
    world.in_github_actions();
    world
        .sandbox
        .fault("download:agent", None, sandbox::FaultKind::Status(404));
    let done = world.launch(&["--single", "--name=shown"]).await;
    assert_eq!(done.code, 5, "{}", done.stderr);
    let lines: Vec<&str> = done
        .stdout
        .lines()
        .filter(|line| !line.starts_with("::add-mask::"))
        .collect();
    assert_eq!(lines[0], "::group::Launching shown on aws");
    assert_eq!(lines[1], "::endgroup::");
    assert!(
        lines[2].starts_with("::error title=runner-launch::waiting for the runner shown"),
        "{lines:?}"
    );
    assert!(
        lines[2].contains("%0Athe instance's last output:%0A"),
        "{lines:?}"
    );
    world.finish().await;
}
