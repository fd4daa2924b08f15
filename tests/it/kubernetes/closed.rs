//! Secrets: where they are, and where not.

use std::path::{Path, PathBuf};

use sandbox::JobScript;

use crate::world::World;

#[tokio::test]
async fn what_the_pod_is_given_lies_in_a_secret_that_goes_with_the_job() {
    let world = World::new().await;
    let kubernetes = world.sandbox.kubernetes();
    let done = world
        .launch_kubernetes(&["--name=one", "--labels=gpu", "--idle-timeout=3"])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    let secrets = kubernetes.secrets();
    assert_eq!(secrets.len(), 1, "{secrets:?}");
    assert_eq!(secrets[0].owner.as_deref(), Some("one"));
    let pod = world.pod();
    let container = &pod.spec["containers"][0];
    assert_eq!(
        container["command"],
        serde_json::json!(["/bin/sh", "/etc/runner-launch/bootstrap"])
    );
    assert!(container.get("env").is_none() && container.get("envFrom").is_none());
    let pod = world.sandbox.folder().join("instances").join(&pod.name);
    let peeks = peeks(&pod.join("root"));
    let github = world.sandbox.github();
    let mut script = String::from("cd /; env\n");
    for path in &peeks {
        // Seen it has to be: else nothing at all would be proved by not reading it.
        let path = path.display();
        script.push_str(&format!("[ -e '{path}' ] && echo seen\n"));
        script.push_str(&format!("cat '{path}' 2>&1 || :\n"));
    }
    let run = github.queue_run("octo/repo", "peek", &["gpu"], JobScript::Shell(script));
    world.until_clean().await;
    let run = github.run(run).unwrap();
    assert!(!run.jobs[0].environment.is_empty(), "{}", world.report());
    // A sandbox that isn't root has one user for all.
    if nix::unistd::geteuid().is_root() {
        let output = run.jobs[0].output.join("\n");
        for (what, expected) in [("seen", peeks.len()), ("Permission denied", peeks.len())] {
            let count = output.lines().filter(|line| line.ends_with(what)).count();
            assert_eq!(count, expected, "{what} in {output}\n{}", world.report());
        }
    }
    world.finish().await;
}

/// What no job is to read in a pod: the script with what it says, and the agent's configuration.
fn peeks(root: &Path) -> Vec<PathBuf> {
    let mut peeks = vec![root.join("etc/runner-launch/bootstrap")];
    let mut folders = vec![root.join("var/lib")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else if entry.file_name() == "agent.json" {
                peeks.push(entry.path());
            }
        }
    }
    assert_eq!(peeks.len(), 2, "{peeks:?}");
    peeks
}

#[tokio::test]
async fn a_job_gets_no_token_of_the_cluster_unless_it_is_asked_for() {
    let world = World::new().await;
    let kubernetes = world.sandbox.kubernetes();
    kubernetes.service_account("jobs");
    let done = world.launch_kubernetes(&["--idle-timeout=1"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let done = world
        .launch_kubernetes(&["--idle-timeout=1", "--cloud-permission-set=jobs"])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    let pods = kubernetes.pods();
    let account = |pod: usize| {
        let spec = &pods[pod].spec;
        (
            spec["automountServiceAccountToken"].as_bool(),
            spec["serviceAccountName"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        )
    };
    assert_eq!(account(0), (Some(false), "default".to_owned()));
    assert_eq!(account(1), (Some(true), "jobs".to_owned()));
    world.finish().await;
}

#[tokio::test]
async fn a_kubeconfig_s_secrets_are_masked_in_a_workflow() {
    let mut world = World::new().await;
    let kubernetes = world.sandbox.kubernetes();
    let path = kubernetes.kubeconfig_token().unwrap();
    world.in_github_actions();
    world.set("KUBECONFIG", None);
    world.set(
        "KUBERNETES_CONFIGURATION",
        Some(&std::fs::read_to_string(path).unwrap()),
    );
    let done = world.launch_kubernetes(&["--dry-run"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let masks: Vec<&str> = done
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix("::add-mask::"))
        .collect();
    assert!(masks.iter().any(|mask| mask.len() > 20), "{masks:?}");
    // The words of every kubeconfig stay readable.
    assert!(
        !masks.iter().any(|mask| mask.contains("apiVersion")),
        "{masks:?}"
    );
    world.finish().await;
}

#[tokio::test]
async fn a_single_runner_that_needs_no_token_gets_none() {
    let world = World::new().await;
    let token = world.sandbox.github().token();
    let args = [
        "--single",
        "--no-retry",
        "--idle-timeout=never",
        "--labels=gpu",
        "--name=one",
    ];
    let done = world.launch_kubernetes(&args).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let secrets = world.sandbox.kubernetes().secrets();
    let object = world
        .sandbox
        .kubernetes()
        .object("secrets", &secrets[0].name)
        .unwrap();
    let script = object["data"]["bootstrap"].as_str().unwrap();
    let script = crate::kubernetes::decoded(script);
    let line = script
        .lines()
        .find(|line| line.starts_with("agent_config="))
        .unwrap();
    let config = line.trim_start_matches("agent_config=").trim_matches('\'');
    let config = crate::kubernetes::decoded(config);
    assert!(config.contains("\"labels\""), "it is the configuration");
    assert!(!config.contains(&token), "the token travels for nothing");
    let job = JobScript::Shell("true".into());
    world
        .sandbox
        .github()
        .queue_run("octo/repo", "j", &["gpu"], job);
    world.until_clean().await;
    world.finish().await;
}
