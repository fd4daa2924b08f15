//! Each way in which a machine is given back, from the best to the last.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use sandbox::{FederatedToken, JobScript};

use crate::secrets::unpacked;
use crate::world::World;

/// Azure's own role of this name, which may delete groups.
const CONTRIBUTOR: &str = "b24988ac-6180-42a0-ab88-20f7382dd24c";
const ASSIGN: &str = "Microsoft.Authorization/roleAssignments/write";
const LOOK: &str = "Microsoft.Authorization/permissions/read";

/// A world whose launcher may not assign roles.
async fn without_roles() -> World {
    let world = World::new().await;
    world.sandbox.azure().deny(ASSIGN);
    world
}

/// Whether the part of the client secret that looks alike everywhere is in a text.
fn holds_secret(world: &World, text: &str) -> bool {
    let secret = world.sandbox.azure().client_secret();
    let (_, rest) = secret.split_once('~').unwrap();
    text.contains(rest)
}

#[tokio::test]
async fn an_identity_of_its_own_has_a_role_on_its_own_group_alone() {
    let world = World::new().await;
    let azure = world.sandbox.azure();
    let done = world
        .launch_azure(&["--labels=one", "--idle-timeout=never", "--single"])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    let made = world.azure_instance();
    assert!(made.system_identity && made.user_identities.is_empty());
    let group = azure.group_id(&made.group);
    assert_eq!(made.roles, [(CONTRIBUTOR.to_owned(), group)]);
    let job = JobScript::Sleep(Duration::ZERO);
    let github = world.sandbox.github();
    github.queue_run("octo/repo", "j", &["one"], job);
    world.finish().await;
}

#[tokio::test]
async fn without_roles_an_identity_that_was_named_deletes_the_machine() {
    for denied in [ASSIGN, LOOK] {
        let world = World::new().await;
        let azure = world.sandbox.azure();
        azure.deny(denied);
        let subscription = format!("/subscriptions/{}", azure.subscription());
        let identity = azure.add_identity("cleaner", &[(CONTRIBUTOR, &subscription)]);
        let wanted = ["--idle-timeout=3", "--cloud-permission-set", &identity];
        let done = world.launch_azure(&wanted).await;
        assert_eq!(done.code, 0, "{denied}: {}", world.report());
        let warning = format!("deletes itself as {identity}");
        assert!(done.stderr.contains(&warning), "{denied}: {}", done.stderr);
        let made = azure.instances().remove(0);
        assert!(!made.system_identity && made.roles.is_empty(), "{made:?}");
        assert_eq!(made.user_identities, [identity]);
        let user_data = unpacked(&String::from_utf8_lossy(&made.user_data));
        assert!(!holds_secret(&world, &user_data));
        world.finish().await;
    }
}

#[tokio::test]
async fn else_the_client_secret_goes_where_root_alone_reads_it() {
    let world = without_roles().await;
    let azure = world.sandbox.azure();
    let done = world.launch_azure(&["--labels=one", "--single"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    for part in [
        "client secret goes to the instance",
        "root can read it there",
        "To avoid that",
        ASSIGN,
        "--cloud-permission-set",
    ] {
        assert!(done.stderr.contains(part), "{part}: {}", done.stderr);
    }
    let made = world.azure_instance();
    assert!(!made.system_identity && made.roles.is_empty(), "{made:?}");
    let root = azure.disk(&made.name);
    let mut found = files_with_secret(&world, &root);
    found.sort();
    assert_eq!(
        found,
        [
            "etc/runner-launch/agent.json",
            // cloud-init's own copy.
            "var/lib/cloud/instance/scripts/part-001",
            "var/lib/runner-launch/give-back"
        ]
    );
    for file in &found {
        let mode = std::fs::metadata(root.join(file)).unwrap().permissions();
        assert_eq!(mode.mode() & 0o077, 0, "{file}");
    }
    // What a job sees and prints is looked through at the end.
    let job = JobScript::Shell("env".into());
    let github = world.sandbox.github();
    github.queue_run("octo/repo", "j", &["one"], job);
    world.until_clean().await;
    let console = azure.console(&made.name);
    assert!(!holds_secret(&world, &console), "{console}");
    for arguments in world.sandbox.argument_lists() {
        assert!(!holds_secret(&world, &arguments), "{arguments}");
    }
    let calls = world.sandbox.calls();
    let signed_in = calls.iter().any(|call| {
        call.name == "entra:token" && matches!(call.peer, sandbox::Caller::Instance(_))
    });
    assert!(signed_in, "{}", world.report());
    world.finish().await;
}

/// The files below a folder that hold the secret as it is or in a form.
fn files_with_secret(world: &World, root: &Path) -> Vec<String> {
    let mut open = vec![root.to_owned()];
    let mut found = Vec::new();
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => open.push(path),
                Ok(kind) if kind.is_file() => {
                    let bytes = std::fs::read(&path).unwrap_or_default();
                    if holds_secret(world, &String::from_utf8_lossy(&bytes)) {
                        let below = path.strip_prefix(root).unwrap();
                        found.push(below.display().to_string());
                    }
                }
                _ => {}
            }
        }
    }
    found
}

#[tokio::test]
async fn the_client_secret_deletes_a_machine_whose_agent_never_came() {
    let world = without_roles().await;
    let fault = sandbox::FaultKind::Status(404);
    world.sandbox.fault("download:agent", None, fault);
    // Held back, the launcher can't clean up: the machine has to.
    let hold = world
        .sandbox
        .hold_before("host:arm:DELETE resourceGroups", 1);
    let running = world.spawn(&["launch", "--cloud=azure", "--timeout=60"]);
    world
        .until("the group is gone", || {
            let azure = world.sandbox.azure();
            !azure.instances().is_empty() && azure.live().is_empty() && azure.groups().is_empty()
        })
        .await;
    hold.release();
    let done = world.done(running).await;
    assert_eq!(done.code, 5, "{}", world.report());
    let console = world.made().remove(0).2;
    assert!(
        console.contains("this machine is being deleted"),
        "{console}"
    );
    assert!(!holds_secret(&world, &console), "{console}");
    world.finish().await;
}

#[tokio::test]
async fn what_could_never_be_deleted_is_not_launched() {
    for denied in [ASSIGN, LOOK] {
        let mut world = World::new().await;
        let azure = world.sandbox.azure();
        azure.deny(denied);
        world.set("AZURE_CLIENT_SECRET", None);
        let token = azure.federated_token(FederatedToken::Good);
        world.set("AZURE_FEDERATED_TOKEN", Some(&token));
        let done = world.launch_azure(&["--single"]).await;
        assert_eq!(done.code, 3, "{denied}: {}", world.report());
        for part in [
            "could never be deleted",
            ASSIGN,
            LOOK,
            "--cloud-permission-set",
            "--cloud-keep-until-stopped",
        ] {
            assert!(done.stderr.contains(part), "{part}: {}", done.stderr);
        }
        let calls = world.host_calls();
        let changing = |call: &String| call.contains("PUT") || call.starts_with("github:POST");
        assert!(!calls.iter().any(changing), "{calls:?}");
        world.finish().await;
    }
}

#[tokio::test]
async fn one_that_is_kept_turns_itself_off_and_costs_until_it_is_stopped_or_swept() {
    for (secret, swept) in [(true, true), (false, false)] {
        let mut world = without_roles().await;
        let azure = world.sandbox.azure();
        if !secret {
            world.set("AZURE_CLIENT_SECRET", None);
            let token = azure.federated_token(FederatedToken::Good);
            world.set("AZURE_FEDERATED_TOKEN", Some(&token));
        }
        let keep = [
            "--idle-timeout=3",
            "--name=kept",
            "--cloud-keep-until-stopped",
        ];
        let done = world.launch_azure(&keep).await;
        assert_eq!(done.code, 0, "{}", world.report());
        for part in [
            "goes on costing",
            "runner-launch stop",
            "runner-launch sweep",
        ] {
            assert!(done.stderr.contains(part), "{part}: {}", done.stderr);
        }
        let made = world.azure_instance();
        let user_data = unpacked(&String::from_utf8_lossy(&made.user_data));
        assert!(!holds_secret(&world, &user_data), "it stays at home");
        assert!(files_with_secret(&world, &azure.disk(&made.name)).is_empty());
        world
            .until("it is off", || world.azure_instance().state == "stopped")
            .await;
        let console = azure.console(&made.name);
        assert!(console.contains("costs on until"), "{console}");
        let done = world.run(&["list", "--cloud=azure"]).await;
        let line = done.stdout.lines().find(|line| line.contains(&made.name));
        assert!(
            line.is_some_and(|line| line.contains("stopped")),
            "{}",
            done.stdout
        );
        azure.age(&made.name, Duration::from_secs(3600));
        let done = match swept {
            true => {
                world
                    .run(&["sweep", "--cloud=azure", "--older-than=12h"])
                    .await
            }
            false => world.run(&["stop", "--cloud=azure", "kept"]).await,
        };
        assert_eq!(done.code, 0, "{}", world.report());
        world.finish().await;
    }
}

#[tokio::test]
async fn one_that_may_delete_itself_does_so_even_if_it_may_be_kept() {
    let world = World::new().await;
    let done = world
        .launch_azure(&["--idle-timeout=3", "--cloud-keep-until-stopped"])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    assert!(!done.stderr.contains("costing"), "{}", done.stderr);
    world.finish().await;
}
