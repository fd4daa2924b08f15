//! GitHub: who may, which runners there are, and what is made of them.

use std::time::Duration;

use sandbox::{FaultKind, JobScript};

use crate::world::World;

#[tokio::test]
async fn a_bad_token_is_heard_of_first_and_wants_a_personal_access_token() {
    let mut world = World::new().await;
    let weak = world.sandbox.github().weak_token();
    for token in ["ghp_wrongwrongwrongwrongwrongwrongwrong", &weak] {
        world.set("REPO_TOKEN", Some(token));
        let done = world.launch(&["--single"]).await;
        assert_eq!(done.code, 3, "{}", done.stderr);
        assert!(
            done.stderr.contains("personal access token"),
            "{}",
            done.stderr
        );
    }
    assert!(world.sandbox.ec2().instances().is_empty());
    world.finish().await;
}

#[tokio::test]
async fn a_name_that_is_taken_is_an_error_unless_reuse() {
    let world = World::new().await;
    let github = world.sandbox.github();
    let id = github.add_runner("octo/repo", "taken", &["other"], false, false);
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
    let mut world = World::new().await;
    let (output, _) = world.in_github_actions();
    let github = world.sandbox.github();
    // The right one is on the third page.
    for index in 0..230 {
        github.add_runner(
            "octo/repo",
            &format!("other-{index}"),
            &["cpu"],
            true,
            false,
        );
    }
    github.add_runner("octo/repo", "asleep", &["gpu", "big"], false, false);
    github.add_runner("octo/repo", "half", &["gpu"], true, false);
    let busy = github.add_runner("octo/repo", "busy", &["GPU", "big", "x"], true, true);
    let done = world.launch(&["--labels=gpu,big", "--reuse"]).await;
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(world.sandbox.ec2().instances().is_empty());
    let text = std::fs::read_to_string(&output).unwrap();
    assert!(
        text.contains(&format!("runner-id={busy}\n")) && text.contains("name=busy\n"),
        "{text}"
    );

    let done = world
        .launch(&[
            "--labels=gpu,big",
            "--reuse-idle",
            "--idle-timeout=1",
            "--name=new",
        ])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    world
        .until("the instance is gone", || {
            world.sandbox.ec2().live().is_empty()
        })
        .await;
    assert_eq!(world.sandbox.ec2().instances().len(), 1);

    let idle = github.add_runner("octo/repo", "idle", &["gpu", "big"], true, false);
    let done = world.launch(&["--labels=gpu,big", "--reuse-idle"]).await;
    assert_eq!(done.code, 0, "{}", done.stderr);
    let text = std::fs::read_to_string(&output).unwrap();
    assert!(text.contains(&format!("runner-id={idle}\n")), "{text}");
    assert_eq!(world.sandbox.ec2().instances().len(), 1);
    assert!(world.sandbox.shutdown().await.is_empty());
}

#[tokio::test]
async fn an_organisation_s_runner_serves_its_repositories() {
    let world = World::new().await;
    let server = world
        .sandbox
        .env()
        .into_iter()
        .find(|(name, _)| name == "GITHUB_SERVER_URL")
        .unwrap()
        .1;
    let repo = format!("{server}/octo");
    let done = world
        .launch(&[
            "--repo",
            &repo,
            "--driver=github",
            "--labels=org",
            "--single",
            "--name=org",
        ])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    assert_eq!(world.sandbox.github().runners()[0].scope, "octo");
    let run = world.sandbox.github().queue_run(
        "octo/repo",
        "j",
        &["org"],
        JobScript::Sleep(Duration::ZERO),
    );
    world.until_clean().await;
    world.succeeded(run);
    world.finish().await;
}

#[tokio::test]
async fn an_enterprise_server_is_found_by_the_repository_s_address() {
    let mut world = World::new().await;
    let server = world
        .sandbox
        .env()
        .into_iter()
        .find(|(name, _)| name == "GITHUB_SERVER_URL")
        .unwrap()
        .1;
    for name in ["GITHUB_API_URL", "GITHUB_SERVER_URL", "GITHUB_REPOSITORY"] {
        world.set(name, None);
    }
    let repo = format!("{server}/octo/repo.git");
    let done = world
        .launch(&["--repo", &repo, "--driver=github", "--idle-timeout=1"])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    world.finish().await;
}

#[tokio::test]
async fn an_older_server_without_just_in_time_gets_an_ephemeral_registration() {
    let world = World::new().await;
    world.sandbox.github().without_jit();
    let done = world.launch(&["--single", "--labels=old"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    assert!(world.sandbox.github().runners()[0].ephemeral);
    world
        .sandbox
        .github()
        .queue_run("octo/repo", "j", &["old"], JobScript::Sleep(Duration::ZERO));
    world.finish().await;
}

#[tokio::test]
async fn a_github_app_signs_in_by_itself() {
    let mut world = World::new().await;
    let (id, key) = world.sandbox.github().app();
    world.set("REPO_TOKEN", None);
    world.set("RUNNER_LAUNCH_GITHUB_APP_PRIVATE_KEY", Some(&key));
    let done = world
        .launch(&["--github-app-id", &id, "--idle-timeout=1"])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    world.until_clean().await;
    let done = world.launch(&["--github-app-id=424242", "--single"]).await;
    assert_eq!(done.code, 3, "{}", done.stderr);
    assert!(done.stderr.contains("--github-app-id"), "{}", done.stderr);
    world.finish().await;
}

#[tokio::test]
async fn rate_limits_are_waited_for() {
    let mut world = World::new().await;
    world.set("RUNNER_LAUNCH_HTTP_TIMEOUT", Some("10"));
    world.sandbox.github().exhaust_rate_limit(2);
    world.sandbox.fault(
        "host:github:POST /repos/{owner}/{repo}/actions/runners/registration-token",
        Some(1),
        FaultKind::Throttled,
    );
    let done = world.launch(&["--idle-timeout=1"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let refused = world
        .sandbox
        .calls()
        .iter()
        .filter(|call| matches!(call.status, Some(403 | 429)))
        .count();
    assert!(refused >= 2, "{}", world.report());
    world.finish().await;
}

#[tokio::test]
async fn a_pinned_version_of_the_runner_program_is_used_or_refused() {
    let world = World::new().await;
    let done = world
        .launch(&["--idle-timeout=1", "--runner-version=v2.330.0"])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    world.until_clean().await;
    let done = world
        .launch(&["--idle-timeout=1", "--runner-version=1.0.0"])
        .await;
    assert_eq!(done.code, 6, "{}", done.stderr);
    assert!(done.stderr.contains("1.0.0"), "{}", done.stderr);
    assert_eq!(world.sandbox.ec2().instances().len(), 1);
    world.finish().await;
}
