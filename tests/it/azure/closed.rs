//! No port, no key, no more permission than the list, and jobs that can't be the machine; how a
//! machine is given back is in `giving_back`.

use std::time::Duration;

use sandbox::{FaultKind, JobScript};

use crate::secrets::unpacked;
use crate::world::World;

/// What the README's role says.
fn listed() -> Vec<&'static str> {
    include_str!("../../data/permissions-azure.txt")
        .lines()
        .collect()
}

#[tokio::test]
async fn only_the_listed_permissions_are_needed() {
    let world = World::new().await;
    let azure = world.sandbox.azure();
    azure.allow_only(&listed());
    let identity = azure.add_identity("jobs", &[]);
    let done = world
        .launch_azure(&[
            "--idle-timeout=never",
            "--name=all",
            "--cloud-spot",
            "--cloud-ssh-cidr=10.0.0.0/8",
            "--cloud-metadata=team=ml",
            "--cloud-permission-set",
            &identity,
        ])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    assert!(!done.stderr.contains("warning"), "{}", done.stderr);
    let made = world.azure_instance();
    assert_eq!(made.group_tags["team"], "ml");
    assert!(made.spot && made.system_identity, "{made:?}");
    let done = world.run(&["list", "--cloud=azure", "--output=json"]).await;
    assert!(done.stdout.contains("running"), "{}", world.report());
    let done = world.run(&["stop", "--cloud=azure", "all"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    world.until_clean().await;
    let denied = world.sandbox.calls();
    let mut denied = denied.iter().filter(|call| call.status == Some(403));
    // Until a new role counts, its machine is refused.
    assert!(
        denied.all(|call| call.peer != sandbox::Caller::Host),
        "{}",
        world.report()
    );
    world.finish().await;
}

#[tokio::test]
async fn the_readme_s_role_is_the_list() {
    let readme = include_str!("../../../README.md");
    let (_, role) = readme.split_once("\"Name\": \"runner-launch\"").unwrap();
    let (role, _) = role.split_once("```").unwrap();
    let (_, actions) = role.split_once("\"Actions\":").unwrap();
    let actions: Vec<&str> = actions
        .split('"')
        .filter(|text| text.starts_with("Microsoft."))
        .collect();
    assert_eq!(actions, listed());
}

#[tokio::test]
async fn what_the_readme_calls_optional_is() {
    let optional = [
        "disks/read",
        "alleries/",
        "Compute/images/read",
        "skus/read",
        "instanceView",
        "Features",
        "retrieveBootDiagnosticsData",
        "ManagedIdentity",
    ];
    // The versions of an image are a part of its SKU.
    let is_optional = |action: &&str| {
        optional.iter().any(|part| action.contains(part)) && !action.contains("artifacttypes")
    };
    let needed: Vec<&str> = listed()
        .into_iter()
        .filter(|action| !is_optional(action))
        .collect();
    let world = World::new().await;
    world.sandbox.azure().allow_only(&needed);
    let done = world.launch_azure(&["--idle-timeout=3"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    assert!(done.stderr.contains("skus/read"), "{}", done.stderr);
    world.finish().await;
}

#[tokio::test]
async fn a_failing_launch_reads_the_console_with_the_listed_permissions() {
    // A group's deletion takes its time, in which the log can be read.
    let world = World::with(|config| config.shutdown_delay = Duration::from_secs(3)).await;
    world.sandbox.azure().allow_only(&listed());
    let script = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, "echo oh no; exit 7");
    let done = world
        .launch_azure(&["--cloud-startup-script", &script])
        .await;
    assert_eq!(done.code, 5, "{}", world.report());
    assert!(done.stderr.contains("oh no"), "{}", done.stderr);
    world.finish().await;
}

#[tokio::test]
async fn what_may_not_be_looked_at_is_done_without() {
    for (action, said) in [
        ("Microsoft.Compute/skus/read", "Microsoft.Compute/skus/read"),
        ("Microsoft.Features/providers/features/read", ""),
        (
            "Microsoft.Compute/locations/publishers/artifacttypes/offers/skus/versions/read",
            "",
        ),
        (
            "Microsoft.Compute/virtualMachines/retrieveBootDiagnosticsData/action",
            "",
        ),
        ("Microsoft.Network/publicIPAddresses/read", ""),
    ] {
        let world = World::new().await;
        world.sandbox.azure().deny(action);
        let done = world.launch_azure(&["--idle-timeout=3"]).await;
        assert_eq!(done.code, 0, "{action}: {}", world.report());
        let warned = done.stderr.contains("warning");
        assert_eq!(warned, !said.is_empty(), "{action}: {}", done.stderr);
        assert!(done.stderr.contains(said), "{action}: {}", done.stderr);
        world.finish().await;
    }
}

#[tokio::test]
async fn a_role_that_is_refused_in_the_end_rolls_back() {
    let world = World::new().await;
    world
        .sandbox
        .fault("host:arm:PUT roleAssignments", None, FaultKind::Denied);
    let done = world.launch_azure(&["--single"]).await;
    assert_eq!(done.code, 3, "{}", world.report());
    for part in [
        "Microsoft.Authorization/roleAssignments/write",
        "a condition on the launcher's role",
        "--cloud-permission-set",
    ] {
        assert!(done.stderr.contains(part), "{part}: {}", done.stderr);
    }
    world.finish().await;
}

#[tokio::test]
async fn no_port_is_open_unless_ssh_is_asked_for() {
    let cases: [(&[&str], &[&str]); 4] = [
        (&[], &[]),
        (
            &["--cloud-ssh-cidr=203.0.113.0/24"],
            &["Tcp 22 203.0.113.0/24"],
        ),
        (
            &["--cloud-ssh-cidr=203.0.113.0/24,2001:db8::/32,10.0.0.0/8"],
            &["Tcp 22 203.0.113.0/24,10.0.0.0/8", "Tcp 22 2001:db8::/32"],
        ),
        // Whoever brings a script may want to look at what it does.
        (
            &["--cloud-startup-script=IyEvYmluL3NoCg=="],
            &["Tcp 22 0.0.0.0/0", "Tcp 22 ::/0"],
        ),
    ];
    for (args, expected) in cases {
        let world = World::new().await;
        let base = ["--idle-timeout=never", "--name=x"];
        let done = world.launch_azure(&[&base, args].concat()).await;
        assert_eq!(done.code, 0, "{args:?}: {}", world.report());
        let made = world.azure_instance();
        assert_eq!(made.rules.unwrap(), expected, "{args:?}");
        assert!(!made.password && made.ssh_keys.len() == 1, "{args:?}");
        let done = world.run(&["stop", "--cloud=azure", "x"]).await;
        assert_eq!(done.code, 0, "{}", world.report());
        world.finish().await;
    }
}

#[tokio::test]
async fn no_secret_reaches_the_instance_and_jobs_get_no_token_of_it() {
    let world = World::new().await;
    let azure = world.sandbox.azure();
    let done = world.launch_azure(&["--labels=one", "--single"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let made = world.azure_instance();
    let root = azure.disk(&made.name);
    let config = std::fs::read_to_string(root.join("etc/runner-launch/agent.json")).unwrap();
    let user_data = unpacked(&String::from_utf8_lossy(&made.user_data));
    // A form writes the sign in it in another way.
    let secret = azure.client_secret();
    let (_, secret) = secret.split_once('~').unwrap();
    for text in [&user_data, &config] {
        assert!(text.contains("give_back") && !text.contains(secret));
    }
    // The whole metadata service is closed to jobs, for its token deletes machines.
    let rules = std::fs::read_to_string(root.join("../firewall")).unwrap();
    assert!(
        rules.lines().all(|rule| !rule.contains("--string")) && rules.contains("--uid-owner 0"),
        "{rules}"
    );
    let job = JobScript::Sleep(Duration::ZERO);
    world
        .sandbox
        .github()
        .queue_run("octo/repo", "j", &["one"], job);
    world.until_clean().await;

    // An identity of the user's is there for jobs, and so is the way to its tokens.
    let identity = azure.add_identity("jobs", &[]);
    let done = world
        .launch_azure(&[
            "--idle-timeout=never",
            "--name=x",
            "--cloud-permission-set",
            &identity,
        ])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    let made = world.azure_instance();
    assert_eq!(made.user_identities, [identity]);
    let rules = std::fs::read_to_string(azure.disk(&made.name).join("../firewall"));
    assert!(
        rules.is_err() || rules.as_ref().is_ok_and(String::is_empty),
        "{rules:?}"
    );
    // Of its two identities, it is its own that deletes it.
    azure.press_power_button(&made.name);
    world.finish().await;
}

#[tokio::test]
async fn an_identity_that_is_not_there_is_told_before_anything_is_made() {
    let world = World::new().await;
    let azure = world.sandbox.azure();
    let good = azure.add_identity("good", &[]);
    let unknown = good.replace("/good", "/never-was");
    for (given, complaint) in [
        (format!("{good},{unknown}"), unknown.as_str()),
        ("jobs".to_owned(), "`jobs` is no identity's id"),
        (",".to_owned(), "the list is empty"),
    ] {
        let done = world
            .launch_azure(&["--single", "--cloud-permission-set", &given])
            .await;
        assert_eq!(done.code, 2, "{given}: {}", world.report());
        for part in ["--cloud-permission-set", complaint] {
            assert!(done.stderr.contains(part), "{given}: {}", done.stderr);
        }
    }
    let calls = world.host_calls();
    assert!(!calls.iter().any(|call| call.contains("PUT")), "{calls:?}");
    assert!(world.sandbox.github().runners().is_empty());
    world.finish().await;
}
