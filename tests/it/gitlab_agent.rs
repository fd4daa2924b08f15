//! GitLab: the agent with its runner program, and retries.

use std::time::Duration;

use sandbox::JobScript;

use crate::world::World;

/// A runner at work on a job that would take an hour; the answer is the pipeline and the instance.
async fn at_work(world: &World, args: &[&str]) -> (u64, String) {
    let done = world
        .launch(&[&["--labels=work", "--idle-timeout=30"], args].concat())
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    let gitlab = world.sandbox.gitlab();
    let job = JobScript::Sleep(Duration::from_secs(3600));
    let pipeline = gitlab.queue_pipeline("octo/repo", "train", &["work"], job);
    let id = world.instance().id;
    world
        .until("the agent knows of the job", || {
            world.sandbox.ec2().console(&id).contains("job_started")
        })
        .await;
    (pipeline, id)
}

/// How often the pipeline's job was tried.
fn attempts(world: &World, pipeline: u64) -> u64 {
    let pipeline = world.sandbox.gitlab().pipeline(pipeline).unwrap();
    pipeline.jobs.last().unwrap().attempt
}

async fn is_run_again(world: &World, pipeline: u64) {
    world
        .until("the pipeline is run again", || {
            attempts(world, pipeline) == 2
        })
        .await;
    world.until_clean().await;
    let job = &world.sandbox.gitlab().pipeline(pipeline).unwrap().jobs[1];
    assert_eq!(job.status, "pending", "{}", world.report());
}

#[tokio::test]
async fn a_spot_interruption_runs_the_pipeline_again() {
    let world = World::gitlab_with(|config| config.spot_notice = Duration::from_secs(40)).await;
    let (pipeline, id) = at_work(&world, &["--cloud-spot"]).await;
    world.sandbox.ec2().interrupt(&id);
    is_run_again(&world, pipeline).await;
    world.finish().await;
}

#[tokio::test]
async fn the_job_that_launched_is_run_again_with_the_rest_of_its_pipeline() {
    let mut world = World::gitlab().await;
    let gitlab = world.sandbox.gitlab();
    // A runner here does what a launching job does: it succeeds.
    let running = world.spawn(&["launch", "--labels=small", "--single", "--name=small"]);
    let nothing = JobScript::Sleep(Duration::ZERO);
    let pipeline = gitlab.queue_pipeline("octo/repo", "launch", &["small"], nothing);
    assert_eq!(world.done(running).await.code, 0, "{}", world.report());
    let launching = gitlab.pipeline(pipeline).unwrap().jobs[0].id;
    world.set("CI_JOB_ID", Some(&launching.to_string()));
    let done = world.launch(&["--labels=work"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let long = JobScript::Sleep(Duration::from_secs(3600));
    gitlab.add_job(pipeline, "train", &["work"], long);
    let id = world.instance().id;
    world
        .until("the agent knows of the job", || {
            world.sandbox.ec2().console(&id).contains("job_started")
        })
        .await;
    world.sandbox.ec2().press_power_button(&id);
    world.until_clean().await;
    let jobs = gitlab.pipeline(pipeline).unwrap().jobs;
    for name in ["launch", "train"] {
        let last = jobs.iter().rfind(|job| job.name == name).unwrap();
        assert_eq!(
            (last.attempt, last.status.as_str()),
            (2, "pending"),
            "{name}: {}",
            world.report()
        );
    }
    // The launching job may want the name again.
    let calls = world.sandbox.calls();
    // The last one's, for the first runner has gone before.
    let last = |name: &str| calls.iter().rposition(|call| call.name == name);
    let (gone, again) = (
        last("gitlab:DELETE /runners"),
        last("gitlab:POST /projects/:id/pipelines/:pipeline_id/retry"),
    );
    assert!(gone.is_some() && gone < again, "{}", world.report());
    world.finish().await;
}

#[tokio::test]
async fn a_killed_agent_s_job_is_run_again_and_the_machine_given_back() {
    let world = World::gitlab().await;
    let (pipeline, id) = at_work(&world, &[]).await;
    world.sandbox.ec2().kill_agent(&id);
    is_run_again(&world, pipeline).await;
    world.finish().await;
}

#[tokio::test]
async fn a_pipeline_that_somebody_cancelled_stays_cancelled() {
    let world = World::gitlab().await;
    let (pipeline, id) = at_work(&world, &[]).await;
    world.sandbox.gitlab().cancel_pipeline(pipeline);
    world.sandbox.ec2().kill_agent(&id);
    world.until_clean().await;
    assert_eq!(attempts(&world, pipeline), 1, "{}", world.report());
    world.finish().await;
}

#[tokio::test]
async fn a_group_s_runner_finds_the_project_of_its_job() {
    let world = World::gitlab().await;
    let repo = format!("{}/octo", world.sandbox.gitlab().url());
    let (pipeline, id) = at_work(&world, &["--repo", &repo]).await;
    world.sandbox.ec2().press_power_button(&id);
    is_run_again(&world, pipeline).await;
    world.finish().await;
}

#[tokio::test]
async fn without_retries_the_token_stays_at_home() {
    let world = World::gitlab().await;
    let (pipeline, id) = at_work(&world, &["--no-retry"]).await;
    let root = world.sandbox.folder().join("instances").join(&id);
    let config = root.join("root/etc/runner-launch/agent.json");
    let config = std::fs::read_to_string(config).unwrap();
    let token = world.sandbox.gitlab().token();
    assert!(!config.contains(&token));
    // Once it has begun, the program needs its file no more.
    let home = root.join("root/home/runner/gitlab-runner");
    assert!(home.join("gitlab-runner").exists());
    assert!(!home.join("config.toml").exists());
    world.sandbox.ec2().press_power_button(&id);
    // The record goes by the runner's own token.
    world.until_clean().await;
    assert_eq!(attempts(&world, pipeline), 1, "{}", world.report());
    world.finish().await;
}

#[tokio::test]
async fn a_token_that_can_t_run_jobs_again_stays_at_home() {
    let mut world = World::gitlab().await;
    let scopes = ["create_runner", "manage_runner", "read_api"];
    let token = world.sandbox.gitlab().token_with(&scopes);
    world.set("REPO_TOKEN", Some(&token));
    let (pipeline, id) = at_work(&world, &[]).await;
    let root = world.sandbox.folder().join("instances").join(&id);
    let config = root.join("root/etc/runner-launch/agent.json");
    let config = std::fs::read_to_string(config).unwrap();
    assert!(!config.contains(&token));
    world.sandbox.ec2().press_power_button(&id);
    world.until_clean().await;
    assert_eq!(attempts(&world, pipeline), 1, "{}", world.report());
    world.finish().await;
}

#[tokio::test]
async fn jobs_get_their_containers_and_no_credentials() {
    let world = World::gitlab().await;
    let done = world
        .launch(&[
            "--labels=docker",
            "--single",
            "--docker-image=python:3.14",
            "--docker-volumes=/data:/data",
            "--docker-volumes=/models:/models:ro",
        ])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    let gitlab = world.sandbox.gitlab();
    let runner = gitlab.runners().remove(0);
    assert_eq!(runner.executor.as_deref(), Some("docker"));
    let job = JobScript::Shell("env".into());
    let pipeline = gitlab.queue_pipeline("octo/repo", "j", &["docker"], job);
    world.until_clean().await;
    let job = gitlab.pipeline(pipeline).unwrap().jobs.remove(0);
    assert_eq!(job.status, "success", "{}", world.report());
    let container = job.container.unwrap();
    assert_eq!(container.image, "python:3.14");
    for volume in ["/data:/data", "/models:/models:ro", "/cache"] {
        assert!(container.volumes.iter().any(|v| v == volume), "{volume}");
    }
    assert_eq!(container.gpus, None);
    assert!(!container.privileged);
    for name in ["REPO_TOKEN", "AWS_SECRET_ACCESS_KEY", "CI_SERVER_TOKEN"] {
        let assigned = format!("{name}=");
        assert!(!job.environment.iter().any(|e| e.starts_with(&assigned)));
    }
    world.finish().await;
}

#[tokio::test]
async fn a_local_runner_takes_jobs_idles_out_and_leaves_nothing() {
    let mut world = World::gitlab().await;
    let output = world.in_gitlab_ci();
    let running = world.spawn(&["launch", "--labels=here", "--idle-timeout=2", "--name=here"]);
    let gitlab = world.sandbox.gitlab();
    world
        .until("it is online", || gitlab.runners().iter().any(|r| r.online))
        .await;
    let job = JobScript::Shell("env".into());
    let pipeline = gitlab.queue_pipeline("octo/repo", "j", &["here"], job);
    let done = world.done(running).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let pipeline = gitlab.pipeline(pipeline).unwrap();
    assert_eq!(pipeline.status, "success", "{}", world.report());
    for status in ["ready", "job_started", "job_ended", "terminated"] {
        assert!(
            done.stdout.contains(&format!("\"status\":\"{status}\"")),
            "{status}: {}",
            done.stdout
        );
    }
    let text = std::fs::read_to_string(output).unwrap();
    assert!(
        text.contains("RUNNER_NAME=here\n") && text.contains("RUNNER_CLOUD=\n"),
        "{text}"
    );
    assert!(!world.sandbox.home().join(".runner-launch").exists());
    assert!(gitlab.runners().is_empty());
    world.finish().await;
}

#[tokio::test]
async fn ending_signals_unregister_and_run_the_job_again() {
    for number in [15, 2] {
        let world = World::gitlab().await;
        let running = world.spawn(&["launch", "--labels=here"]);
        let gitlab = world.sandbox.gitlab();
        world
            .until("it is online", || gitlab.runners().iter().any(|r| r.online))
            .await;
        let job = JobScript::Shell("sleep 3600 & sleep 3600".into());
        let pipeline = gitlab.queue_pipeline("octo/repo", "j", &["here"], job);
        world
            .until("the job runs", || {
                gitlab.pipeline(pipeline).unwrap().jobs[0].status == "running"
            })
            .await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        running.signal(number);
        let done = world.done(running).await;
        assert_eq!(done.code, 128 + number, "{}", world.report());
        assert_eq!(attempts(&world, pipeline), 2, "{}", world.report());
        assert!(gitlab.runners().is_empty());
        world.finish().await;
    }
}
