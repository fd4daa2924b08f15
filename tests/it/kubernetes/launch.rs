//! A launch on Kubernetes, from the command to the Job's end.

use std::time::Duration;

use sandbox::{Call, Caller, JobScript};
use serde_json::json;

use crate::round_trips::waves;
use crate::world::World;

#[tokio::test]
async fn a_single_runner_takes_its_job_and_its_job_goes_with_it() {
    let mut world = World::new().await;
    let (output, _) = world.in_github_actions();
    let done = world
        .launch_kubernetes(&["--labels=gpu", "--single", "--name=one"])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    let pod = world.pod();
    let text = std::fs::read_to_string(output).unwrap();
    for line in [
        "instance-id=one".to_owned(),
        format!("instance-ip={}", pod.status["podIP"].as_str().unwrap()),
        "instance-type=m".into(),
        "cloud=kubernetes".into(),
        "region=runners".into(),
        "name=one".into(),
        "spot=false".into(),
    ] {
        assert!(text.lines().any(|known| known == line), "{line} in {text}");
    }
    assert!(done.stdout.contains("\"instanceIp\":\""), "{}", done.stdout);
    // Nothing ends it any more but its runner; then it goes at once.
    let kubernetes = world.sandbox.kubernetes();
    let job = kubernetes.jobs().remove(0);
    assert_eq!(job.spec.get("activeDeadlineSeconds"), None);
    assert_eq!(job.spec["ttlSecondsAfterFinished"], 0);

    let github = world.sandbox.github();
    let script = JobScript::Shell("echo hello from the job".into());
    let run = github.queue_run("octo/repo", "train", &["gpu"], script);
    world.until_clean().await;
    world.succeeded(run);
    // Nobody has deleted it, and no pod took its pod's place.
    assert!(!world.host_calls().contains(&"delete jobs".to_owned()));
    assert_eq!(kubernetes.pods().len(), 1, "{}", world.report());
    assert_eq!(
        kubernetes.pods()[0].exit_code,
        Some(0),
        "{}",
        world.report()
    );
    // The image has GitHub's program: it isn't downloaded once more.
    let downloads: Vec<Call> = world
        .sandbox
        .calls()
        .into_iter()
        .filter(|call| matches!(call.peer, Caller::Instance(_)) && call.service == "download")
        .collect();
    assert_eq!(downloads.len(), 1, "the agent alone: {downloads:?}");
    world.finish().await;
}

#[tokio::test]
async fn the_job_is_made_as_promised() {
    let world = World::new().await;
    let kubernetes = world.sandbox.kubernetes();
    kubernetes.add_node(
        "gpus",
        &[
            ("pool", "gpus"),
            ("accelerator", "t4"),
            ("kubernetes.io/arch", "amd64"),
            ("kubernetes.io/os", "linux"),
        ],
    );
    kubernetes.set_capacity("gpus", "nvidia.com/gpu", "2");
    let done = world
        .launch_kubernetes(&[
            "--name=Made_Here",
            "--cloud-type=4-16000+t4*2",
            "--cloud-hdd-size=120",
            "--cloud-metadata=team=ml",
            "--cloud-kubernetes-node-selector=pool=gpus",
            "--cloud-kubernetes-node-selector=accelerator=infer",
            "--timeout=90",
            "--idle-timeout=1",
        ])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    let job = kubernetes.jobs().remove(0);
    assert!(job.name.starts_with("made-here-"), "{}", job.name);
    for map in [&job.labels, &job.annotations] {
        assert_eq!(map["team"], "ml");
    }
    assert_eq!(job.annotations["runner-launch-runner"], "Made_Here");
    assert!(job.annotations["runner-launch-serves"].ends_with("octo/repo"));
    assert_eq!(job.labels["app.kubernetes.io/managed-by"], "runner-launch");
    assert_eq!(
        (
            &job.spec["completions"],
            &job.spec["parallelism"],
            &job.spec["backoffLimit"]
        ),
        (&json!(1), &json!(1), &json!(0))
    );
    let pod = kubernetes.pods().remove(0);
    let spec = &pod.spec;
    assert_eq!(pod.labels["team"], "ml");
    assert_eq!(
        pod.annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"],
        "false"
    );
    assert_eq!(
        spec["nodeSelector"],
        json!({
            "accelerator": "t4",
            "kubernetes.io/arch": "amd64",
            "kubernetes.io/os": "linux",
            "pool": "gpus",
        })
    );
    assert_eq!(spec["restartPolicy"], "Never");
    assert_eq!(spec["terminationGracePeriodSeconds"], 30);
    assert_eq!(spec["automountServiceAccountToken"], false);
    let container = &spec["containers"][0];
    assert_eq!(container["image"], "ghcr.io/actions/actions-runner:latest");
    assert_eq!(
        container["resources"],
        json!({
            "limits": { "cpu": "4", "memory": "16000M", "ephemeral-storage": "120G", "nvidia.com/gpu": "2" },
            "requests": { "cpu": "0", "memory": "0", "ephemeral-storage": "0", "nvidia.com/gpu": "2" },
        })
    );
    let rights = &container["securityContext"];
    assert_eq!(rights["allowPrivilegeEscalation"], false);
    assert_eq!(rights["capabilities"]["drop"], json!(["ALL"]));
    assert_eq!(rights.get("privileged"), None);
    assert_eq!(pod.node.as_deref(), Some("gpus"));
    world.finish().await;
}

#[tokio::test]
async fn a_launch_makes_three_serial_trips_to_the_cluster() {
    let world = World::with(|config| config.latency = Duration::from_millis(100)).await;
    let done = world.launch_kubernetes(&["--idle-timeout=1"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let calls = world.sandbox.calls();
    let made = calls.iter().position(|call| call.name == "create secrets");
    let started = calls[made.unwrap()].started;
    // What is allowed; the Job; its Secret. What is watched meanwhile, nobody waits for.
    let of_host: Vec<Call> = calls
        .iter()
        .filter(|call| call.peer == Caller::Host && call.started <= started)
        .filter(|call| call.service == "kubernetes")
        .filter(|call| {
            !["list ", "watch "]
                .iter()
                .any(|verb| call.name.starts_with(verb))
        })
        .cloned()
        .collect();
    assert_eq!(waves(&of_host), 3, "{}", world.report());
    world.finish().await;
}

#[tokio::test]
async fn gitlabs_runner_runs_its_jobs_in_a_shell_of_its_own_image() {
    let world = World::gitlab().await;
    let done = world
        .launch_kubernetes(&["--driver=gitlab", "--labels=gpu", "--single", "--name=one"])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    assert_eq!(world.pod().image, "gitlab/gitlab-runner:latest");
    let gitlab = world.sandbox.gitlab();
    let job = JobScript::Shell("echo hello from the job".into());
    let pipeline = gitlab.queue_pipeline("octo/repo", "train", &["gpu"], job);
    world.until_clean().await;
    let pipeline = gitlab.pipeline(pipeline).unwrap();
    assert_eq!(pipeline.status, "success", "{}", world.report());
    assert!(
        pipeline.jobs[0].output.join("\n").contains("hello from"),
        "{}",
        world.report()
    );
    world.finish().await;
}

#[tokio::test]
async fn the_startup_script_runs_before_the_runner_is_ready() {
    let world = World::new().await;
    let script = "IyEvYmluL3NoCmVjaG8gc3RhcnRpbmcgdXAK"; // echo starting up
    let done = world
        .launch_kubernetes(&["--idle-timeout=1", "--cloud-startup-script", script])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    world.until_clean().await;
    let log = world.sandbox.kubernetes().pods().remove(0).log;
    let (up, ready) = (log.find("starting up"), log.find("\"status\":\"ready\""));
    assert!(up.is_some() && up < ready, "{log}");
    world.finish().await;

    // exit 3
    let world = World::new().await;
    let done = world
        .launch_kubernetes(&["--cloud-startup-script=ZXhpdCAzCg=="])
        .await;
    assert_eq!(done.code, 5, "{}", world.report());
    assert!(
        done.stderr
            .contains("the startup script failed with exit code 3"),
        "{}",
        done.stderr
    );
    world.finish().await;
}
