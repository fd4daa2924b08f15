use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use serde_json::json;

use super::*;
use crate::cloud::azure::scripted::{Answer, Seen, Server, TOKEN, token};

const DELETE: &str = "DELETE /subscriptions/sub/resourceGroups/CML-X";
const IDENTITY: &str = "GET /metadata/identity/oauth2/token";
const ACKNOWLEDGE: &str = "POST /metadata/scheduledevents";

fn machine(seen: &Seen, group: &str) -> Answer {
    match seen.line.trim_start_matches("GET /metadata/") {
        "instance/compute" => Answer::json(&json!({ "name": "cml-x", "resourceGroupName": group,
            "subscriptionId": "sub", "tagsList": [{ "name": "runner-launch", "value": "1" }] })),
        "instance/compute/name" => Answer::new(200, "cml-x"),
        "instance/compute/resourceGroupName" => Answer::new(200, group),
        "instance/compute/subscriptionId" => Answer::new(200, "sub"),
        "instance/compute/tags" => Answer::new(200, "a:b;runner-launch:1;runner-launch-id:x"),
        "identity/oauth2/token" => {
            Answer::json(&json!({ "access_token": "eyJ.machine-_", "expires_in": "86399" }))
        }
        "scheduledevents" => Answer::json(&json!({ "Events": [{ "EventId": "e1",
            "EventType": "Preempt", "EventStatus": "Scheduled", "Resources": ["cml-x"] }] })),
        _ => Answer::new(200, ""),
    }
}

/// A machine alone in its group, whose deletion is answered by `script`.
async fn server(script: impl Fn(usize) -> Answer + Send + Sync + 'static) -> Server {
    Server::start(move |seen, before| match seen.line.as_str() {
        DELETE => script(before),
        TOKEN => token("eyJ.app-_"),
        _ => machine(seen, "CML-X"),
    })
    .await
}

fn accepted() -> Answer {
    Answer::new(202, "").header("Location", "http://127.0.0.1:1/")
}

fn own(server: &Server, who: Who) -> Own {
    Own {
        arm: Url::parse(&server.url).unwrap(),
        who,
    }
}

fn with_secret(server: &Server) -> Who {
    Who::Secret {
        authority: Url::parse(&server.url).unwrap(),
        tenant: "tenant".to_owned(),
        client: "app".to_owned(),
        secret: Secret::new("s3cr3t&'+"),
    }
}

async fn ask(server: &Server, who: Who) -> Result<bool> {
    let (host, http) = server.host(&[]);
    delete_itself(&own(server, who), &host, &http).await
}

#[tokio::test]
async fn a_machine_has_its_group_deleted_by_its_own_identity_and_is_then_ready_to_go() {
    let server = server(|_| accepted()).await;
    assert!(ask(&server, Who::System).await.unwrap());
    let asked = &server.all(DELETE)[0];
    assert_eq!(asked.header("authorization"), Some("Bearer eyJ.machine-_"));
    assert_eq!(asked.param("api-version").as_deref(), Some("2021-04-01"));
    let forced = asked.param("forceDeletionTypes");
    assert_eq!(forced.as_deref(), Some("Microsoft.Compute/virtualMachines"));
    let identity = &server.all(IDENTITY)[0];
    assert_eq!(identity.param("client_id"), None);
    assert_eq!(
        identity.param("resource").as_deref(),
        Some(server.url.as_str())
    );
    let order = server.order();
    let at = |line: &str| order.iter().position(|seen| seen == line).unwrap();
    assert!(at(DELETE) < at(ACKNOWLEDGE), "{order:?}");
}

#[tokio::test]
async fn of_several_identities_the_named_one_does_it_or_the_application() {
    let server = server(|_| accepted()).await;
    let client = "one".to_owned();
    assert!(ask(&server, Who::Identity { client }).await.unwrap());
    assert_eq!(
        server.all(IDENTITY)[0].param("client_id").as_deref(),
        Some("one")
    );
    assert!(ask(&server, with_secret(&server)).await.unwrap());
    let sent = server.all(TOKEN)[0].param("client_secret");
    assert_eq!(sent.as_deref(), Some("s3cr3t&'+"));
    let second = &server.all(DELETE)[1];
    assert_eq!(second.header("authorization"), Some("Bearer eyJ.app-_"));
}

#[tokio::test]
async fn where_nobody_may_it_is_turned_off_and_ready_to_go() {
    let server = server(|_| accepted()).await;
    assert!(!ask(&server, Who::Nobody).await.unwrap());
    assert!(server.all(DELETE).is_empty());
    assert_eq!(server.all(ACKNOWLEDGE).len(), 1);
}

#[tokio::test]
async fn a_role_that_doesn_t_count_yet_is_waited_for() {
    let server = server(|before| match before {
        0 => Answer::cut(),
        1 => Answer::refusal(403, "AuthorizationFailed", "not yet"),
        _ => accepted(),
    })
    .await;
    assert!(ask(&server, Who::System).await.unwrap());
    assert_eq!(server.all(DELETE).len(), 3);
}

#[tokio::test]
async fn what_isn_t_allowed_for_long_is_an_error() {
    let server = server(|_| Answer::refusal(403, "AuthorizationFailed", "not yet")).await;
    let error = ask(&server, Who::System).await.unwrap_err();
    assert!(error.chain().contains("not yet"), "{}", error.chain());
    assert!(server.all(DELETE).len() > 2);
}

#[tokio::test]
async fn what_goes_already_is_good_and_what_nobody_knows_is_asked_for_again() {
    let going = server(|before| match before {
        0 => Answer::refusal(404, "ResourceGroupNotFound", "x"),
        _ => Answer::refusal(409, "ResourceGroupBeingDeleted", "x"),
    })
    .await;
    assert!(ask(&going, Who::System).await.unwrap());
    assert_eq!(going.all(DELETE).len(), 2);
}

#[tokio::test]
async fn what_can_t_be_is_told_at_once() {
    let locked = server(|_| Answer::refusal(409, "ScopeLocked", "a lock")).await;
    let error = ask(&locked, Who::System).await.unwrap_err();
    assert_eq!(
        error.chain(),
        "having this machine deleted: Azure Resource Manager answered ScopeLocked: a lock"
    );
    let shared = Server::start(|seen, _| machine(seen, "production")).await;
    let error = ask(&shared, Who::System).await.unwrap_err();
    assert!(error.chain().contains("production"), "{}", error.chain());
    assert!(!shared.order().iter().any(|line| line.starts_with("DELETE")));
}

#[test]
fn the_configuration_carries_the_secret_and_prints_it_nowhere() {
    let host = Host::fixed([
        ("AZURE_TENANT_ID", "tenant"),
        ("AZURE_CLIENT_ID", "app"),
        ("AZURE_CLIENT_SECRET", "s3cr3t"),
    ]);
    let http = Http::new(&host).unwrap();
    let client = crate::cloud::azure::client::Client::new(host, http);
    let given = client.client_secret().unwrap().unwrap();
    let how = crate::cloud::GiveBack::Azure(Box::new(Own {
        arm: client.arm().unwrap(),
        who: given.into(),
    }));
    let json = serde_json::to_value(&how).unwrap();
    assert_eq!(json["azure"]["arm"], "https://management.azure.com/");
    let kept = &json["azure"]["who"]["secret"];
    assert_eq!(kept["authority"], "https://login.microsoftonline.com/");
    assert_eq!(kept["secret"], "s3cr3t");
    let read: crate::cloud::GiveBack = serde_json::from_value(json).unwrap();
    assert_eq!(read, how);
    assert!(!format!("{how:?} {read:?}").contains("s3cr3t"));
}

/// Runs the script with only these downloaders in sight.
async fn run(own: &Own, server: &Server, downloader: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let programs = folder.path().join("bin");
    std::fs::create_dir(&programs).unwrap();
    let needed = ["sh", "sed", "tr", "mktemp", "rm", "sleep", "cat"];
    for name in needed.into_iter().chain([downloader]) {
        let found = std::process::Command::new("sh")
            .args(["-c", &format!("command -v {name}")])
            .output()
            .unwrap();
        let path = String::from_utf8(found.stdout).unwrap();
        std::os::unix::fs::symlink(path.trim(), programs.join(name)).unwrap();
    }
    let script = folder.path().join("script");
    std::fs::write(&script, own.farewell().unwrap()).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700)).unwrap();
    tokio::process::Command::new(programs.join("sh"))
        .arg(&script)
        .env_clear()
        .env("PATH", &programs)
        .env("TMPDIR", folder.path())
        .env("AZURE_POD_IDENTITY_AUTHORITY_HOST", &server.url)
        .env("give_back_pauses", "0 0")
        .output()
        .await
        .unwrap()
}

const GOING: &str = "runner-launch: this machine is being deleted\n";

#[tokio::test]
async fn without_an_agent_the_script_does_the_same() {
    for downloader in ["curl", "wget"] {
        let server = server(|_| accepted()).await;
        let client = "one".to_owned();
        for (who, bearer) in [
            (Who::System, "Bearer eyJ.machine-_"),
            (Who::Identity { client }, "Bearer eyJ.machine-_"),
            (with_secret(&server), "Bearer eyJ.app-_"),
        ] {
            let output = run(&own(&server, who), &server, downloader).await;
            let told = String::from_utf8(output.stdout).unwrap();
            let complaints = String::from_utf8(output.stderr).unwrap();
            assert_eq!(told, GOING, "{downloader}: {complaints}");
            let last = server.all(DELETE).pop().unwrap();
            assert_eq!(last.header("authorization"), Some(bearer));
            assert_eq!(last.param("api-version").as_deref(), Some("2021-04-01"));
            let forced = last.param("forceDeletionTypes");
            assert_eq!(forced.as_deref(), Some("Microsoft.Compute/virtualMachines"));
            for text in [&told, &complaints] {
                assert!(!text.contains("eyJ") && !text.contains("s3cr3t"), "{text}");
            }
        }
        assert_eq!(server.all(DELETE).len(), 3);
        assert_eq!(
            server.all(IDENTITY)[1].param("client_id").as_deref(),
            Some("one")
        );
        let sent = &server.all(TOKEN)[0];
        assert_eq!(sent.param("client_secret").as_deref(), Some("s3cr3t&'+"));
        assert_eq!(
            sent.header("content-type"),
            Some("application/x-www-form-urlencoded")
        );
    }
}

#[tokio::test]
async fn the_script_waits_for_a_role_and_says_when_there_is_none() {
    for downloader in ["curl", "wget"] {
        let late = server(|before| match before {
            0 => Answer::refusal(403, "AuthorizationFailed", "not yet"),
            _ => accepted(),
        })
        .await;
        let output = run(&own(&late, Who::System), &late, downloader).await;
        assert_eq!(String::from_utf8(output.stdout).unwrap(), GOING);
        let never = server(|_| Answer::refusal(403, "AuthorizationFailed", "no")).await;
        let output = run(&own(&never, Who::System), &never, downloader).await;
        let told = String::from_utf8(output.stdout).unwrap();
        assert!(told.contains("costs on until it is stopped"), "{told}");
        assert_eq!(never.all(DELETE).len(), 3);
    }
}

#[tokio::test]
async fn the_script_leaves_a_group_alone_that_holds_more() {
    let shared = Server::start(|seen, _| machine(seen, "production")).await;
    let output = run(&own(&shared, Who::System), &shared, "curl").await;
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .contains("could not")
    );
    assert!(!shared.order().iter().any(|line| line.starts_with("DELETE")));
}

#[test]
fn where_nobody_may_there_is_nothing_to_run() {
    let arm = Url::parse("https://management.azure.com").unwrap();
    let own = Own {
        arm,
        who: Who::Nobody,
    };
    assert_eq!(own.farewell().unwrap(), "");
}
