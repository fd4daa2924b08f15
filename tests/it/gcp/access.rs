//! Credentials, the project, and what a launch is allowed.

use crate::world::World;

const DRY: [&str; 1] = ["--dry-run"];
const DATA: &str = "GOOGLE_APPLICATION_CREDENTIALS_DATA";
const FILE: &str = "GOOGLE_APPLICATION_CREDENTIALS";

#[tokio::test]
async fn every_source_of_credentials_works() {
    let mut world = World::new().await;
    let gce = world.sandbox.gce();
    world.set(DATA, None);
    let done = world.launch_gcp(&DRY).await;
    assert_eq!(done.code, 3, "{}", world.report());
    assert!(done.stderr.contains(FILE), "{}", done.stderr);

    let file = world.folder().join("key.json");
    std::fs::write(&file, gce.service_account_key()).unwrap();
    world.set(FILE, file.to_str());
    let done = world.launch_gcp(&DRY).await;
    assert_eq!(done.code, 0, "key file: {}", world.report());
    world.set(FILE, None);

    world.set("GOOGLE_PROJECT", Some(&gce.project()));
    world.set("CLOUDSDK_AUTH_ACCESS_TOKEN", Some(&gce.access_token()));
    let done = world.launch_gcp(&DRY).await;
    assert_eq!(done.code, 0, "access token: {}", world.report());
    world.set("CLOUDSDK_AUTH_ACCESS_TOKEN", Some("ya29.wrong-wrong-wrong"));
    let done = world.launch_gcp(&DRY).await;
    assert_eq!(done.code, 3, "{}", world.report());
    world.set("CLOUDSDK_AUTH_ACCESS_TOKEN", None);

    world.set(DATA, Some(&gce.authorized_user()));
    let done = world.launch_gcp(&DRY).await;
    assert_eq!(done.code, 0, "a user's: {}", world.report());
    world.set(DATA, None);

    let gcloud = world.folder().join("gcloud");
    std::fs::create_dir(&gcloud).unwrap();
    let default = gcloud.join("application_default_credentials.json");
    std::fs::write(default, gce.authorized_user()).unwrap();
    world.set("CLOUDSDK_CONFIG", gcloud.to_str());
    let done = world.launch_gcp(&DRY).await;
    assert_eq!(done.code, 0, "gcloud's: {}", world.report());
    world.set("CLOUDSDK_CONFIG", None);
    world.set("GOOGLE_PROJECT", None);

    gce.enable_host_metadata();
    let done = world.launch_gcp(&DRY).await;
    assert_eq!(done.code, 0, "metadata server: {}", world.report());
    world.finish().await;
}

#[tokio::test]
async fn federation_needs_no_stored_key_and_the_instance_still_deletes_itself() {
    for source in ["file", "url"] {
        for impersonate in [true, false] {
            let mut world = World::new().await;
            let gce = world.sandbox.gce();
            let (json, env) = gce.external_account(source, impersonate);
            world.set(DATA, Some(&json));
            for (name, value) in &env {
                world.set(name, Some(value));
            }
            if !impersonate {
                world.set("CLOUDSDK_CORE_PROJECT", Some(&gce.project()));
            }
            let done = world.launch_gcp(&["--idle-timeout=1"]).await;
            let case = format!("{source}, impersonate: {impersonate}: {}", world.report());
            assert_eq!(done.code, 0, "{case}");
            let made = gce.instances().remove(0);
            assert_eq!(made.service_account.is_some(), impersonate, "{case}");
            if !impersonate {
                // Nobody to be: it powers off, and the launch has said so.
                assert!(done.stderr.contains("sweep"), "{case}");
                world
                    .until("it has stopped", || {
                        gce.live().iter().all(|i| i.status == "TERMINATED")
                    })
                    .await;
                gce.age(&made.name, std::time::Duration::from_secs(3600));
                let done = world
                    .run(&["sweep", "--cloud=gcp", "--older-than=12h"])
                    .await;
                assert_eq!(done.code, 0, "{}", world.report());
            }
            world.finish().await;
        }
    }
}

#[tokio::test]
async fn an_api_that_takes_no_self_signed_token_gets_one_of_google_s() {
    let world = World::new().await;
    let gce = world.sandbox.gce();
    let done = world.launch_gcp(&DRY).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let fetched = |world: &World| world.host_calls().contains(&"oauth2:token".to_owned());
    assert!(!fetched(&world), "{}", world.report());
    gce.refuse_self_signed(true);
    let done = world.launch_gcp(&["--idle-timeout=1"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    assert!(fetched(&world), "{}", world.report());
    world.finish().await;
}

#[tokio::test]
async fn a_damaged_key_and_a_missing_permission_are_exit_code_3() {
    let mut world = World::new().await;
    let gce = world.sandbox.gce();
    gce.deny("compute.instances.create");
    let done = world.launch_gcp(&["--single"]).await;
    assert_eq!(done.code, 3, "{}", world.report());
    assert!(
        done.stderr.contains("compute.instances.create"),
        "{}",
        done.stderr
    );
    assert!(world.is_clean(), "{}", world.report());
    for broken in [
        "{",
        "{}",
        r#"{"type":"service_account"}"#,
        r#"{"type":"unheard_of"}"#,
    ] {
        world.set(DATA, Some(broken));
        let done = world.launch_gcp(&["--single"]).await;
        assert!(matches!(done.code, 2 | 3), "{broken}: {}", done.stderr);
        assert!(done.stderr.contains(DATA), "{broken}: {}", done.stderr);
    }
    world.finish().await;
}

#[tokio::test]
async fn in_a_pipeline_the_key_is_masked_and_the_rest_of_its_file_is_not() {
    let mut world = World::new().await;
    world.in_github_actions();
    let done = world.launch_gcp(&["--idle-timeout=1"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let masked: Vec<&str> = done
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix("::add-mask::"))
        .collect();
    let key: serde_json::Value =
        serde_json::from_str(&world.sandbox.gce().service_account_key()).unwrap();
    let pem = key["private_key"].as_str().unwrap();
    for line in pem.lines().filter(|line| !line.starts_with("-----")) {
        assert!(masked.contains(&line), "{masked:?}");
    }
    assert!(masked.iter().all(|line| line.len() >= 8), "{masked:?}");
    world.finish().await;
}
