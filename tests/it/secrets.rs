//! Promise 2, secrets stay. Every test scans for them at its end; these look where only some go.

use std::time::Duration;

use sandbox::JobScript;

use crate::world::World;

#[tokio::test]
async fn in_a_pipeline_every_secret_is_masked_before_its_first_use() {
    let mut world = World::new().await;
    world.in_github_actions();
    let script = "IyEvYmluL3NoCmVjaG8gc2VjcmV0LWlzaAo=";
    let done = world
        .launch(&["--idle-timeout=1", "--cloud-startup-script", script])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    let masked: Vec<&str> = done
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix("::add-mask::"))
        .collect();
    let token = world.sandbox.github().token();
    assert_eq!(
        masked.first(),
        Some(&script),
        "the first thing of all: {}",
        done.stdout
    );
    assert!(done.stdout.starts_with("::add-mask::"), "{}", done.stdout);
    let env = world.sandbox.env();
    let secret = env
        .iter()
        .find(|(name, _)| name == "AWS_SECRET_ACCESS_KEY")
        .unwrap();
    assert!(masked.contains(&token.as_str()) && masked.contains(&secret.1.as_str()));
    // The registration token was masked, too: it is the one nobody gave us.
    let known = [script, &token, &secret.1];
    assert!(
        masked.iter().any(|value| !known.contains(value)),
        "{masked:?}"
    );
    world.finish().await;
}

/// A bootstrap script with the configuration inside it made readable.
pub(crate) fn unpacked(script: &str) -> String {
    let (before, rest) = script.split_once("\nagent_config=").unwrap();
    let (packed, after) = rest.split_once('\n').unwrap();
    let packed = packed.trim_matches('\'');
    let config = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, packed).unwrap();
    format!("{before}\n{}\n{after}", String::from_utf8(config).unwrap())
}

#[tokio::test]
async fn no_cloud_key_reaches_the_instance_and_no_token_that_isn_t_needed() {
    let world = World::new().await;
    let env = world.sandbox.env();
    let secret = &env
        .iter()
        .find(|(name, _)| name == "AWS_SECRET_ACCESS_KEY")
        .unwrap()
        .1;
    let token = world.sandbox.github().token();
    let decoded = |index: usize| {
        let instance = &world.sandbox.ec2().instances()[index];
        let config = world
            .sandbox
            .folder()
            .join("instances")
            .join(&instance.id)
            .join("root/etc/runner-launch/agent.json");
        let text = unpacked(&String::from_utf8_lossy(&instance.user_data));
        (text, std::fs::read_to_string(config).unwrap())
    };
    let done = world
        .launch(&[
            "--labels=one",
            "--single",
            "--no-retry",
            "--idle-timeout=never",
        ])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    let (user_data, config) = decoded(0);
    for text in [&user_data, &config] {
        assert!(!text.contains(secret.as_str()) && !text.contains(&token));
    }
    world
        .sandbox
        .github()
        .queue_run("octo/repo", "j", &["one"], JobScript::Sleep(Duration::ZERO));
    world.until_clean().await;

    // With a retry, the token is needed; the cloud's secret never is.
    let done = world.launch(&["--single", "--idle-timeout=1"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let (user_data, config) = decoded(1);
    assert!(config.contains(&token) && !config.contains(secret.as_str()));
    assert!(user_data.contains(&token) && !user_data.contains(secret.as_str()));
    world.finish().await;
}

#[tokio::test]
async fn the_debug_log_holds_no_secret_either() {
    let world = World::new().await;
    let done = world.launch(&["--idle-timeout=1", "--log=debug"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    assert!(
        done.stderr.contains("debug: ") && done.stderr.contains("RunInstances"),
        "{}",
        done.stderr
    );
    world.finish().await;
}

#[tokio::test]
async fn what_a_startup_script_prints_is_blanked_in_the_error() {
    let world = World::new().await;
    // The console comes back in the error: a secret that a script printed must not.
    let token = world.sandbox.github().token();
    let script = base64::Engine::encode(
        &base64::prelude::BASE64_STANDARD,
        format!("echo leaked {token}; exit 1"),
    );
    let running = world.spawn(&["launch", "--cloud=aws", "--cloud-startup-script", &script]);
    let done = world.done(running).await;
    assert_eq!(done.code, 5, "{}", done.stderr);
    assert!(done.stderr.contains("leaked ***"), "{}", done.stderr);
    // Not through `finish`: the console does hold it, by the script's own doing.
    world.until_clean().await;
    assert!(world.sandbox.shutdown().await.is_empty());
}
