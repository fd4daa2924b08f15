//! How a runner in a pod ends.

use std::time::Duration;

use sandbox::{FaultKind, JobScript};

use crate::world::World;

/// A runner at work on a job that would take an hour; the answer is the run and the pod.
async fn at_work(world: &World, args: &[&str]) -> (u64, String) {
    let done = world
        .launch_kubernetes(&[&["--labels=work", "--idle-timeout=30"], args].concat())
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    let pod = world.pod().name;
    let kubernetes = world.sandbox.kubernetes();
    let disk = world.sandbox.folder().join("instances").join(&pod);
    let run = world
        .an_hour_of_work(&disk.join("root"), || kubernetes.log(&pod))
        .await;
    (run, pod)
}

#[tokio::test]
async fn an_eviction_and_a_drained_node_are_interruptions() {
    for drained in [false, true] {
        let world = World::new().await;
        let (run, pod) = at_work(&world, &[]).await;
        let kubernetes = world.sandbox.kubernetes();
        match drained {
            true => kubernetes.drain(&world.pod().node.unwrap()),
            false => assert!(kubernetes.evict(&pod)),
        }
        world.until_run_again(run).await;
        let gone = kubernetes.pods().remove(0);
        assert!(
            gone.log.contains("ending: the cluster ends the pod"),
            "{}",
            gone.log
        );
        // The grace was enough, and no second pod was made.
        assert_eq!(gone.exit_code, Some(0), "{}", world.report());
        assert_eq!(kubernetes.pods().len(), 1, "{}", world.report());
        world.finish().await;
    }
}

#[tokio::test]
async fn an_image_s_own_signal_is_an_eviction_too() {
    // GitLab's image is stopped by SIGQUIT.
    let world = World::gitlab().await;
    let done = world
        .launch_kubernetes(&["--driver=gitlab", "--labels=work", "--idle-timeout=never"])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    let gitlab = world.sandbox.gitlab();
    let job = JobScript::Sleep(Duration::from_secs(3600));
    let pipeline = gitlab.queue_pipeline("octo/repo", "train", &["work"], job);
    let pod = world.pod().name;
    let kubernetes = world.sandbox.kubernetes();
    world
        .until("the agent knows of the job", || {
            kubernetes.log(&pod).contains("job_started")
        })
        .await;
    assert!(kubernetes.evict(&pod));
    world.until_clean().await;
    let log = kubernetes.pods().remove(0).log;
    assert!(log.contains("ending: the cluster ends the pod"), "{log}");
    let pipeline = gitlab.pipeline(pipeline).unwrap();
    assert!(log.contains("is run again"), "{log}\n{pipeline:?}");
    world.finish().await;
}

#[tokio::test]
async fn an_idle_runner_ends_by_itself() {
    let world = World::new().await;
    let done = world.launch_kubernetes(&["--idle-timeout=1"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    world.until_clean().await;
    let pod = world.sandbox.kubernetes().pods().remove(0);
    assert_eq!(pod.exit_code, Some(0), "{}", world.report());
    assert!(pod.log.contains("no job came in time"), "{}", pod.log);
    world.finish().await;
}

#[tokio::test]
async fn an_agent_that_is_killed_is_cleaned_up_after() {
    let world = World::new().await;
    let (run, pod) = at_work(&world, &[]).await;
    let processes = world.sandbox.kubernetes().processes(&pod);
    let is_agent = |argv: &[String]| {
        argv.iter().any(|word| word == "run") && argv[0].ends_with("runner-launch")
    };
    let agent = processes
        .iter()
        .find(|process| is_agent(&process.argv))
        .unwrap();
    crate::kubernetes::kill(agent.pid);
    world.until_run_again(run).await;
    world.finish().await;
}

#[tokio::test]
async fn a_launcher_that_is_killed_leaves_a_job_that_ends_by_itself() {
    for call in ["create jobs", "create secrets"] {
        let world = World::new().await;
        let mut hold = world.sandbox.hold(&format!("host:{call}"), 1);
        let running = world.spawn(&[
            "launch",
            "--cloud=kubernetes",
            "--timeout=3",
            "--idle-timeout=never",
        ]);
        assert!(hold.arrived(crate::world::SOON).await, "{}", world.report());
        running.signal(9);
        hold.release();
        world.done(running).await;
        let job = world.sandbox.kubernetes().jobs().remove(0);
        assert_eq!(job.spec["activeDeadlineSeconds"], 63, "{call}");
        // Its own deadline comes first, where it has got its script.
        let kubernetes = world.sandbox.kubernetes();
        kubernetes.age(&job.name, Duration::from_secs(64));
        world
            .until("the Job has ended", || {
                let jobs = kubernetes.jobs();
                !jobs[0].exists || !jobs[0].conditions.is_empty()
            })
            .await;
        world
            .until("its pod is gone", || kubernetes.live().is_empty())
            .await;
        let done = world.run(&["stop", "--cloud=kubernetes", &job.name]).await;
        assert_eq!(done.code, 0, "{}", world.report());
        world.until_clean().await;
        world.finish().await;
    }
}

#[tokio::test]
async fn a_job_that_can_t_be_told_to_last_is_taken_back() {
    let world = World::new().await;
    world
        .sandbox
        .fault("host:patch jobs", None, FaultKind::Denied);
    let done = world.launch_kubernetes(&["--idle-timeout=never"]).await;
    assert_eq!(done.code, 3, "{}", world.report());
    assert!(done.stderr.contains("live on"), "{}", done.stderr);
    assert!(world.is_clean(), "{}", world.report());
    world.finish().await;
}

#[tokio::test]
async fn a_runner_whose_container_runs_out_of_memory_is_told() {
    let world = World::new().await;
    let done = world
        .launch_kubernetes(&["--name=one", "--idle-timeout=never"])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    let kubernetes = world.sandbox.kubernetes();
    assert!(kubernetes.out_of_memory(&world.pod().name).await);
    world
        .until("the Job is gone", || !kubernetes.jobs()[0].exists)
        .await;
    let github = world.sandbox.github();
    world
        .until("GitHub sees that it is gone", || {
            !github.runners()[0].online
        })
        .await;
    // Nobody is left to remove its record; `stop` does it.
    let done = world.run(&["stop", "--cloud=kubernetes", "one"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    world.finish().await;
}
