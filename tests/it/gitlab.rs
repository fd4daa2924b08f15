//! GitLab: a launch, who may, which runners there are, and what is made of them.

use std::collections::BTreeMap;
use std::time::Duration;

use sandbox::{Caller, FaultKind, JobScript};

use crate::world::World;

#[tokio::test]
async fn a_single_runner_takes_its_job_and_is_gone() {
    let mut world = World::gitlab().await;
    let output = world.in_gitlab_ci();
    std::fs::write(&output, "RUNNER_NAME=an earlier one\n").unwrap();
    let done = world
        .launch(&["--labels=gpu,fast", "--single", "--name=one"])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    let instance = world.instance();
    let gitlab = world.sandbox.gitlab();
    let runner = gitlab.runners().remove(0);
    assert_eq!((runner.name.as_str(), runner.online), ("one", true));
    assert_eq!(runner.tags, ["gpu", "fast"]);
    assert!(runner.locked && runner.run_untagged && !runner.is_group);
    assert_eq!(runner.access_level, "not_protected");
    assert_eq!(runner.scope, "octo/repo");

    let text = std::fs::read_to_string(output).unwrap();
    let outputs: BTreeMap<&str, &str> = text
        .lines()
        .map(|line| line.split_once('=').unwrap())
        .collect();
    assert_eq!(outputs["RUNNER_INSTANCE_ID"], instance.id);
    assert_eq!(
        outputs["RUNNER_INSTANCE_IP"],
        instance.public_ip.as_deref().unwrap()
    );
    assert_eq!(outputs["RUNNER_NAME"], "one");
    assert_eq!(outputs["RUNNER_LABELS"], "gpu,fast");
    assert_eq!(outputs["RUNNER_ID"], runner.id.to_string());
    assert_eq!(outputs["RUNNER_SPOT"], "false");
    assert!(outputs["RUNNER_INSTANCE_LAUNCH_TIME"].starts_with("20"));
    assert!(outputs.keys().all(|name| name.starts_with("RUNNER_")));

    // A section that is folded, and no colour.
    let lines: Vec<&str> = done.stdout.lines().collect();
    assert!(
        lines[0].starts_with("\u{1b}[0Ksection_start:")
            && lines[0].contains(":runner_launch[collapsed=true]\r\u{1b}[0KLaunching one"),
        "{:?}",
        done.stdout
    );
    assert!(done.stdout.contains("\u{1b}[0Ksection_end:"));
    assert!(!done.stdout.contains("\u{1b}[3") && !done.stderr.contains('\u{1b}'));
    let line = lines
        .iter()
        .find(|line| line.contains("instanceIp"))
        .unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["driver"], "gitlab");

    let pipeline = gitlab.queue_pipeline(
        "octo/repo",
        "train",
        &["gpu"],
        JobScript::Shell("echo hello from the job".into()),
    );
    world.until_clean().await;
    let pipeline = gitlab.pipeline(pipeline).unwrap();
    assert_eq!(pipeline.status, "success", "{}", world.report());
    assert!(
        pipeline.jobs[0]
            .output
            .iter()
            .any(|line| line == "hello from the job"),
        "{:?}",
        pipeline.jobs[0].output
    );
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
async fn a_runner_without_a_job_ends() {
    let world = World::gitlab().await;
    let done = world.launch(&["--idle-timeout=1"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let id = world.sandbox.ec2().instances()[0].id.clone();
    world.until_clean().await;
    let console = world.sandbox.ec2().console(&id);
    assert!(console.contains("no job came in time"), "{console}");
    world.finish().await;
}

#[tokio::test]
async fn tokens_that_can_t_do_are_told_what_they_need() {
    let mut world = World::gitlab().await;
    let gitlab = world.sandbox.gitlab();
    let expired = gitlab.token_with(&["api"]);
    gitlab.expire(&expired);
    let cases = [
        ("glpat-wrongwrongwrongwrong".to_owned(), "access token"),
        (expired, "expired"),
        (gitlab.weak_token(), "Maintainer"),
        (gitlab.job_token(), "CI_JOB_TOKEN"),
        (gitlab.token_with(&["read_api"]), "create_runner"),
        (
            gitlab.token_with(&["create_runner", "read_api"]),
            "lacks manage_runner",
        ),
        (
            gitlab.token_with(&["create_runner", "manage_runner"]),
            "read_api",
        ),
    ];
    for (token, words) in cases {
        world.set("REPO_TOKEN", Some(&token));
        let done = world.launch(&["--single"]).await;
        assert_eq!(done.code, 3, "{words}: {}", done.stderr);
        assert!(done.stderr.contains(words), "{words}: {}", done.stderr);
    }
    assert!(world.sandbox.ec2().instances().is_empty());

    // What the documents say is enough, is.
    let least = gitlab.token_with(&["create_runner", "manage_runner", "read_api"]);
    world.set("REPO_TOKEN", Some(&least));
    let done = world.launch(&["--idle-timeout=1"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    assert!(done.stderr.contains("lacks the scope `api`"));
    world.until_clean().await;
    let done = world.launch(&["--idle-timeout=1", "--no-retry"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    assert!(!done.stderr.contains("lacks the scope"), "{}", done.stderr);
    world.finish().await;
}

#[tokio::test]
async fn the_pipeline_s_own_token_is_the_last_resort_and_told_not_to_do() {
    let mut world = World::gitlab().await;
    world.in_gitlab_ci();
    world.set("REPO_TOKEN", None);
    let done = world.launch(&["--single"]).await;
    assert_eq!(done.code, 3, "{}", done.stderr);
    for scope in ["`api`", "`create_runner`", "`manage_runner`"] {
        assert!(done.stderr.contains(scope), "{}", done.stderr);
    }
    world.finish().await;
}

#[tokio::test]
async fn a_name_that_is_taken_is_an_error_unless_reuse() {
    let world = World::gitlab().await;
    let gitlab = world.sandbox.gitlab();
    let id = gitlab.add_runner("octo/repo", "taken", &["other"], false, false);
    let done = world.launch(&["--name=taken"]).await;
    assert_eq!(done.code, 6, "{}", done.stderr);
    assert!(
        done.stderr.contains("taken") && done.stderr.contains("--reuse"),
        "{}",
        done.stderr
    );
    let done = world.launch(&["--name=taken", "--reuse"]).await;
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stderr.contains(&format!("id {id}")), "{}", done.stderr);
    assert!(world.sandbox.ec2().instances().is_empty());
    assert!(world.sandbox.shutdown().await.is_empty());
}

#[tokio::test]
async fn reuse_takes_any_online_runner_and_reuse_idle_an_idle_one() {
    let mut world = World::gitlab().await;
    let output = world.in_gitlab_ci();
    let gitlab = world.sandbox.gitlab();
    for index in 0..230 {
        gitlab.add_runner("octo/repo", &format!("o-{index}"), &["cpu"], true, false);
    }
    gitlab.add_runner("octo/repo", "asleep", &["gpu", "big"], false, false);
    gitlab.add_runner("octo/repo", "half", &["gpu"], true, false);
    let busy = gitlab.add_runner("octo/repo", "busy", &["gpu", "big", "x"], true, true);
    let done = world.launch(&["--labels=gpu,big", "--reuse"]).await;
    assert_eq!(done.code, 0, "{}", done.stderr);
    let text = std::fs::read_to_string(&output).unwrap();
    assert!(
        text.contains(&format!("RUNNER_ID={busy}\n")) && text.contains("RUNNER_NAME=busy\n"),
        "{text}"
    );
    let dry = ["--labels=gpu,big", "--reuse-idle", "--dry-run"];
    let done = world.launch(&dry).await;
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stdout.contains("Would launch"), "{}", done.stdout);
    // A group's runner is there for its projects.
    let idle = gitlab.add_runner("octo", "idle", &["gpu", "big"], true, false);
    let done = world.launch(&["--labels=gpu,big", "--reuse-idle"]).await;
    assert_eq!(done.code, 0, "{}", done.stderr);
    let text = std::fs::read_to_string(&output).unwrap();
    assert!(text.contains(&format!("RUNNER_ID={idle}\n")), "{text}");
    // Not one question more for each of so many runners.
    let questions = world.host_calls().len();
    assert!(questions < 50, "{:?}", world.host_calls());
    assert!(world.sandbox.ec2().instances().is_empty());
    assert!(world.sandbox.shutdown().await.is_empty());
}

#[tokio::test]
async fn an_older_server_s_running_jobs_tell_who_is_idle() {
    let world = World::gitlab().await;
    let gitlab = world.sandbox.gitlab();
    gitlab.before_user_runners();
    gitlab.add_runner("octo/repo", "idle", &["gpu"], true, false);
    let done = world.launch(&["--labels=gpu", "--reuse-idle"]).await;
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stderr.contains("reusing"), "{}", done.stderr);
    let asked = "gitlab:GET /projects/:id/jobs";
    assert!(world.host_calls().iter().any(|call| call == asked));
    let repo = format!("{}/octo", gitlab.url());
    gitlab.add_runner("octo", "group's", &["gpu", "big"], true, false);
    // It may be at work for another project of the group.
    let done = world
        .launch(&["--labels=gpu,big", "--reuse-idle", "--dry-run"])
        .await;
    assert!(done.stdout.contains("Would launch"), "{}", done.stdout);
    let done = world
        .launch(&["--labels=gpu", "--reuse-idle", "--repo", &repo])
        .await;
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stderr.contains("group's"), "{}", done.stderr);
    assert!(world.sandbox.ec2().instances().is_empty());
    assert!(world.sandbox.shutdown().await.is_empty());
}

#[tokio::test]
async fn groups_and_their_groups_are_served() {
    for path in ["octo", "octo/team"] {
        let world = World::gitlab().await;
        let gitlab = world.sandbox.gitlab();
        let repo = format!("{}/{path}", gitlab.url());
        let labels = ["--labels=org", "--single", "--name=org"];
        let done = world
            .launch(&[&labels[..], &["--repo", &repo]].concat())
            .await;
        assert_eq!(done.code, 0, "{}", world.report());
        let runner = gitlab.runners().remove(0);
        assert_eq!((runner.scope.as_str(), runner.is_group), (path, true));
        let job = JobScript::Sleep(Duration::ZERO);
        let pipeline = gitlab.queue_pipeline("octo/team/repo", "j", &["org"], job);
        world.until_clean().await;
        let pipeline = gitlab.pipeline(pipeline).unwrap();
        assert_eq!(pipeline.status, "success", "{}", world.report());
        world.finish().await;
    }
}

#[tokio::test]
async fn what_is_neither_project_nor_group_is_told() {
    let world = World::gitlab().await;
    let repo = format!("{}/octo/none", world.sandbox.gitlab().url());
    let done = world.launch(&["--repo", &repo]).await;
    assert_eq!(done.code, 3, "{}", done.stderr);
    assert!(done.stderr.contains("octo/none"), "{}", done.stderr);
    world.finish().await;
}

#[tokio::test]
async fn a_server_below_a_relative_root_is_served() {
    let mut world = World::gitlab().await;
    let gitlab = world.sandbox.gitlab();
    gitlab.below("/gitlab");
    for (name, value) in gitlab.env() {
        world.set(&name, Some(&value));
    }
    let url = gitlab.url();
    let repos = [
        format!("{url}/octo/team/repo"),
        "octo/team/repo".to_owned(),
        "git@127.0.0.1:octo/team/repo.git".to_owned(),
    ];
    for repo in &repos {
        let done = world
            .launch(&["--repo", repo, "--single", "--labels=deep"])
            .await;
        assert_eq!(done.code, 0, "{}", world.report());
        assert_eq!(gitlab.runners()[0].scope, "octo/team/repo");
        let job = JobScript::Sleep(Duration::ZERO);
        gitlab.queue_pipeline("octo/team/repo", "j", &["deep"], job);
        world.until_clean().await;
    }
    world.finish().await;
}

#[tokio::test]
async fn an_older_server_registers_with_its_own_token() {
    let world = World::gitlab().await;
    let gitlab = world.sandbox.gitlab();
    gitlab.before_user_runners();
    let done = world
        .launch(&["--single", "--labels=old", "--no-retry"])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    assert_eq!(gitlab.runners()[0].tags, ["old"]);
    let job = JobScript::Sleep(Duration::ZERO);
    gitlab.queue_pipeline("octo/repo", "j", &["old"], job);
    world.finish().await;
}

#[tokio::test]
async fn the_runner_program_is_the_server_s_or_the_pinned_version() {
    let mut world = World::gitlab().await;
    let downloads = world.sandbox.gitlab_runner_downloads();
    let template = format!("{downloads}/{{version}}/binaries/gitlab-runner-linux-{{arch}}");
    world.set("RUNNER_LAUNCH_RUNNER_URL", Some(&template));
    let cases = [
        (&[][..], "18.5.0"),
        (&["--runner-version=v17.11.0"][..], "17.11.0"),
    ];
    for (args, version) in cases {
        let args = [&["--labels=v", "--single"], args].concat();
        let done = world.launch(&args).await;
        assert_eq!(done.code, 0, "{}", world.report());
        let gitlab = world.sandbox.gitlab();
        assert_eq!(gitlab.runners()[0].version.as_deref(), Some(version));
        gitlab.queue_pipeline("octo/repo", "j", &["v"], JobScript::Sleep(Duration::ZERO));
        world.until_clean().await;
    }
    let done = world.launch(&["--runner-version=18.99.0"]).await;
    assert_eq!(done.code, 6, "{}", done.stderr);
    assert!(done.stderr.contains("18.99.0"), "{}", done.stderr);
    let done = world.launch(&["--runner-version=16.0.0"]).await;
    assert_eq!(done.code, 2, "{}", done.stderr);
    assert!(done.stderr.contains("too old"), "{}", done.stderr);
    world.finish().await;
}

#[tokio::test]
async fn rate_limits_are_waited_for() {
    let mut world = World::gitlab().await;
    world.set("RUNNER_LAUNCH_HTTP_TIMEOUT", Some("10"));
    world.sandbox.gitlab().exhaust_rate_limit(2);
    world.sandbox.fault(
        "host:gitlab:POST /user/runners",
        Some(1),
        FaultKind::Throttled,
    );
    let done = world.launch(&["--idle-timeout=1"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let refused = world
        .sandbox
        .calls()
        .iter()
        .filter(|call| call.peer == Caller::Host && call.status == Some(429))
        .count();
    assert!(refused >= 2, "{}", world.report());
    world.finish().await;
}

#[tokio::test]
async fn an_unanswered_registration_leaves_one_record() {
    let world = World::gitlab().await;
    let call = "host:gitlab:POST /user/runners";
    world.sandbox.fault(call, Some(1), FaultKind::CutAfter);
    let done = world.launch(&["--idle-timeout=1"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let listed = "gitlab:GET /projects/:id/runners";
    let calls = world.host_calls();
    // At the start, after the unanswered try, and after the answer, for what came in between.
    let looks = calls.iter().filter(|call| *call == listed).count();
    assert_eq!(looks, 3, "{calls:?}");
    world.until_clean().await;
    world.finish().await;
}

#[tokio::test]
async fn a_reuse_needs_no_runner_program() {
    let world = World::gitlab().await;
    let gitlab = world.sandbox.gitlab();
    gitlab.add_runner("octo/repo", "o", &["gpu"], true, false);
    let unknown = "--runner-version=18.99.0";
    let done = world.launch(&["--labels=gpu", "--reuse", unknown]).await;
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stderr.contains("reusing"), "{}", done.stderr);
    assert!(world.sandbox.shutdown().await.is_empty());
}

#[tokio::test]
async fn the_look_is_one_wave_and_nothing_is_asked_twice() {
    let world = World::gitlab().await;
    let done = world.launch(&["--idle-timeout=1"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let calls = world.host_calls();
    for name in [
        "gitlab:GET /personal_access_tokens/self",
        "gitlab:GET /projects/:id",
        "gitlab:GET /projects/:id/runners",
        "gitlab:POST /user/runners",
    ] {
        let count = calls.iter().filter(|call| *call == name).count();
        assert_eq!(count, 1, "{name}: {calls:?}");
    }
    world.finish().await;
}
