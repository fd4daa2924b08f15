//! Credentials, the subscription, and what a launch is allowed.

use sandbox::FederatedToken;

use crate::world::{SOON, World};

const DRY: [&str; 1] = ["--dry-run"];
const SECRET: &str = "AZURE_CLIENT_SECRET";
const TOKEN: &str = "AZURE_FEDERATED_TOKEN";
const TOKEN_FILE: &str = "AZURE_FEDERATED_TOKEN_FILE";
const CERTIFICATE: &str = "AZURE_CLIENT_CERTIFICATE_PATH";

/// Variables that are set or taken away.
type Changes<'a> = &'a [(&'a str, Option<&'a str>)];

/// A world without the secret that it comes with.
async fn without_secret() -> World {
    let mut world = World::new().await;
    world.set(SECRET, None);
    world
}

/// A whole life of an instance.
async fn live(world: World, source: &str) {
    let done = world.launch_azure(&["--idle-timeout=3"]).await;
    assert_eq!(done.code, 0, "{source}: {}", world.report());
    assert!(
        !done.stderr.contains("warning"),
        "{source}: {}",
        done.stderr
    );
    world.finish().await;
}

#[tokio::test]
async fn federation_needs_no_secret_and_the_instance_still_deletes_its_group() {
    for source in ["file", "variable", "GitHub", "GitLab"] {
        let mut world = without_secret().await;
        let azure = world.sandbox.azure();
        let token = |token| Some(azure.federated_token(token));
        match source {
            "file" => {
                let file = azure.federated_token_file(FederatedToken::Good).unwrap();
                world.set(TOKEN_FILE, file.to_str());
            }
            "variable" => world.set(TOKEN, token(FederatedToken::Good).as_deref()),
            "GitLab" => world.set(TOKEN, token(FederatedToken::OfGitLab).as_deref()),
            _ => {
                for (name, value) in azure.github_oidc() {
                    world.set(&name, Some(&value));
                }
            }
        }
        live(world, source).await;
    }
}

#[tokio::test]
async fn a_certificate_signs_in() {
    let mut world = without_secret().await;
    let file = world.sandbox.azure().certificate().unwrap();
    world.set(CERTIFICATE, file.to_str());
    live(world, "certificate").await;
}

#[tokio::test]
async fn a_machine_s_and_a_service_s_identity_sign_in() {
    for (service, assigned) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut world = without_secret().await;
        let azure = world.sandbox.azure();
        let client = azure.enable_host_identity();
        world.set("AZURE_TENANT_ID", None);
        world.set("AZURE_CLIENT_ID", assigned.then_some(client.as_str()));
        if service {
            for (name, value) in azure.app_service() {
                world.set(&name, Some(&value));
            }
            // Only its own endpoint is there.
            world.set(
                "AZURE_POD_IDENTITY_AUTHORITY_HOST",
                Some("http://127.0.0.1:1"),
            );
        }
        let source = format!("service: {service}, assigned: {assigned}");
        if service == assigned {
            live(world, &source).await;
            continue;
        }
        let done = world.launch_azure(&DRY).await;
        assert_eq!(done.code, 0, "{source}: {}", world.report());
        world.finish().await;
    }
}

#[tokio::test]
async fn what_is_wrong_with_credentials_is_told_with_what_to_do() {
    let world = World::new().await;
    let azure = world.sandbox.azure();
    let token = |token| azure.federated_token(token);
    let key = world.folder().join("key.pem");
    std::fs::write(&key, "-----BEGIN CERTIFICATE-----\n").unwrap();
    let key = key.to_str().unwrap();
    let (expired, over) = (
        azure.expired_client_secret(),
        token(FederatedToken::Expired),
    );
    let another = token(FederatedToken::OfAnother);
    let elsewhere = token(FederatedToken::ForAnother);
    let nobody = "00000000-0000-0000-0000-000000000000";
    let cases: [(Changes<'_>, &[&str]); 12] = [
        (&[(SECRET, None)], &[SECRET, TOKEN, "id-token: write"]),
        (
            &[(SECRET, Some(&expired))],
            &["AADSTS7000222", "make another"],
        ),
        (
            &[(SECRET, Some("wrong-wrong-wrong"))],
            &["AADSTS7000215", "not its id"],
        ),
        (
            &[("AZURE_CLIENT_ID", None)],
            &[SECRET, "AZURE_CLIENT_ID isn't"],
        ),
        (
            &[("AZURE_CLIENT_ID", Some(nobody))],
            &["AADSTS700016", "AZURE_CLIENT_ID"],
        ),
        (
            &[("AZURE_TENANT_ID", Some(nobody))],
            &["AADSTS90002", "AZURE_TENANT_ID"],
        ),
        (
            &[(SECRET, None), (TOKEN, Some(&over))],
            &["AADSTS700024", "clock"],
        ),
        (
            &[(SECRET, None), (TOKEN, Some(&another))],
            &["AADSTS700213", "subject"],
        ),
        (
            &[(SECRET, None), (TOKEN, Some(&elsewhere))],
            &["AADSTS700212", "audience"],
        ),
        (
            &[(SECRET, None), (TOKEN_FILE, Some("/nowhere"))],
            &[TOKEN_FILE, "/nowhere"],
        ),
        (
            &[(SECRET, None), (CERTIFICATE, Some(key))],
            &["key.pem", "no private key"],
        ),
        (
            &[("AZURE_SUBSCRIPTION_ID", None)],
            &["AZURE_SUBSCRIPTION_ID"],
        ),
    ];
    let mut world = world;
    for (changes, parts) in cases {
        let env = world.sandbox.env();
        for (name, value) in changes {
            world.set(name, *value);
        }
        let done = world.launch_azure(&["--single"]).await;
        assert_eq!(done.code, 3, "{changes:?}: {}", done.stderr);
        for part in parts {
            assert!(done.stderr.contains(part), "{part}: {}", done.stderr);
        }
        for (name, _) in changes {
            let before = env.iter().find(|(known, _)| known == name);
            world.set(name, before.map(|(_, value)| value.as_str()));
        }
    }
    assert!(
        !world
            .host_calls()
            .iter()
            .any(|call| call.starts_with("arm:"))
    );
    world.finish().await;
}

#[tokio::test]
async fn a_wrong_place_is_told_by_its_variable() {
    let mut world = World::new().await;
    let manager = world.sandbox.azure().url();
    let hosts = ("AZURE_AUTHORITY_HOST", "AZURE_RESOURCE_MANAGER_ENDPOINT");
    for (name, value, code) in [
        (hosts.0, "ftp://login", 2),
        (hosts.1, "ftp://manager", 2),
        (hosts.1, "https://manager?x=y", 2),
        ("AZURE_SUBSCRIPTION_ID", "../other", 2),
        (
            "AZURE_SUBSCRIPTION_ID",
            "00000000-0000-0000-0000-000000000000",
            3,
        ),
        // There is somebody, but not Entra.
        (hosts.0, manager.as_str(), 3),
        (hosts.0, "http://127.0.0.1:1", 1),
        // Entra knows no such Resource Manager.
        (hosts.1, "http://127.0.0.1:1", 3),
    ] {
        let env = world.sandbox.env();
        world.set(name, Some(value));
        let done = world.launch_azure(&["--single"]).await;
        assert_eq!(done.code, code, "{name}={value}: {}", done.stderr);
        assert!(
            done.stderr.contains(name),
            "{name}={value}: {}",
            done.stderr
        );
        let before = env.iter().find(|(known, _)| known == name).unwrap();
        world.set(name, Some(&before.1));
    }
    assert!(!world.host_calls().iter().any(|call| call.contains("PUT")));
    world.finish().await;
}

#[tokio::test]
async fn a_token_that_ends_while_a_launch_is_under_way_is_fetched_anew() {
    let world = World::new().await;
    let azure = world.sandbox.azure();
    for call in [
        "host:arm:PUT virtualMachines",
        "host:arm:PUT roleAssignments",
    ] {
        let before = world.host_calls().len();
        let mut hold = world.sandbox.hold_before(call, 1);
        let args = ["launch", "--cloud=azure", "--idle-timeout=3"];
        let running = world.spawn(&args);
        assert!(hold.arrived(SOON).await, "{}", world.report());
        azure.expire_tokens();
        hold.release();
        let done = world.done(running).await;
        assert_eq!(done.code, 0, "{call}: {}", world.report());
        let calls = world.host_calls().split_off(before);
        let tokens = calls.iter().filter(|name| *name == "entra:token").count();
        assert_eq!(tokens, 2, "{call}: {calls:?}");
        world.until_clean().await;
    }
    world.finish().await;
}

#[tokio::test]
async fn a_denied_permission_is_named_and_nothing_is_left() {
    for action in [
        "Microsoft.Resources/subscriptions/resourceGroups/write",
        "Microsoft.Network/networkSecurityGroups/write",
        "Microsoft.Network/virtualNetworks/write",
        "Microsoft.Network/virtualNetworks/subnets/join/action",
        "Microsoft.Network/networkInterfaces/write",
        "Microsoft.Compute/virtualMachines/write",
    ] {
        let world = World::new().await;
        world.sandbox.azure().deny(action);
        let done = world.launch_azure(&["--single"]).await;
        assert_eq!(done.code, 3, "{action}: {}", world.report());
        assert!(done.stderr.contains(action), "{action}: {}", done.stderr);
        world.finish().await;
    }
}

#[tokio::test]
async fn in_a_pipeline_secrets_are_masked_before_their_first_use() {
    for source in [
        SECRET,
        TOKEN,
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
        "IDENTITY_HEADER",
    ] {
        let mut world = World::new().await;
        world.in_github_actions();
        let azure = world.sandbox.azure();
        let mut given = match source {
            SECRET => vec![(SECRET.to_owned(), azure.client_secret())],
            TOKEN => vec![(
                TOKEN.to_owned(),
                azure.federated_token(FederatedToken::Good),
            )],
            "IDENTITY_HEADER" => {
                azure.enable_host_identity();
                world.set("AZURE_CLIENT_ID", None);
                azure.app_service()
            }
            _ => azure.github_oidc(),
        };
        world.set(SECRET, None);
        for (name, value) in &given {
            world.set(name, Some(value));
        }
        let done = world
            .launch_azure(&["--idle-timeout=3", "--log=debug"])
            .await;
        assert_eq!(done.code, 0, "{source}: {}", world.report());
        given.retain(|(name, _)| name == source);
        let mask = format!("::add-mask::{}", given[0].1);
        let masked = done.stdout.lines().position(|line| line == mask);
        let shown = done
            .stdout
            .lines()
            .position(|line| !line.starts_with("::add-mask::"));
        assert!(masked.is_some(), "{source}: {}", done.stdout);
        assert!(
            shown.is_none_or(|shown| masked < Some(shown)),
            "{source}: {}",
            done.stdout
        );
        world.finish().await;
    }
}
