use serde_json::json;

use super::*;
use crate::cloud::azure::client::Api;
use crate::cloud::azure::refusal::Meaning;
use crate::cloud::azure::scripted::{Answer, Seen, Server, TOKEN, token};

const WITHIN: Duration = Duration::from_secs(20);

async fn client(
    script: impl Fn(&Seen, usize) -> Answer + Send + Sync + 'static,
) -> (Client, Server) {
    let server = Server::start(move |seen, before| match seen.line.as_str() {
        TOKEN => token("arm-token"),
        _ => script(seen, before),
    })
    .await;
    let (host, http) = server.signed_in();
    (Client::new(host, http), server)
}

fn machine() -> Call {
    Call::put(Api::Compute, "virtualMachines", "/vm")
        .body(&json!({}))
        .unwrap()
}

fn state(name: &str) -> Answer {
    Answer::json(&json!({ "properties": { "provisioningState": name }, "identity": { "id": 7 } }))
}

/// One that is followed at an address, as the service asks for.
fn followed(seen: &Seen) -> Answer {
    state("Creating")
        .status(201)
        .header(
            "Azure-AsyncOperation",
            seen.url("operations/1?api-version=1"),
        )
        .header("Location", seen.url("not/here"))
        .header("Retry-After", "0")
}

fn status(name: &str) -> Answer {
    Answer::json(&json!({ "status": name })).header("Retry-After", "0")
}

#[tokio::test]
async fn it_is_followed_by_its_status() {
    let (client, server) = client(|seen, before| match (seen.line.as_str(), before) {
        ("PUT /vm", _) => followed(seen),
        (_, 0) => status("InProgress"),
        (_, 1) => Answer::cut(),
        (_, 2) => Answer::refusal(503, "ServerTimeout", "later").header("Retry-After", "0"),
        _ => status("Succeeded"),
    })
    .await;
    let operation = client.start(&machine()).await.unwrap();
    assert!(!operation.is_done());
    assert_eq!(
        operation.answer["identity"]["id"], 7,
        "known before the end"
    );
    assert!(wait(&client, operation, WITHIN).await.unwrap().is_done());
    let polls = server.all("GET /operations/1");
    assert_eq!(polls.len(), 4);
    assert_eq!(polls[0].header("authorization"), Some("Bearer arm-token"));
    assert_eq!(polls[0].param("api-version").as_deref(), Some("1"));
}

#[tokio::test]
async fn the_error_that_it_ended_with_is_a_refusal() {
    let (client, _) = client(|seen, _| match seen.line.as_str() {
        "PUT /vm" => followed(seen),
        _ => Answer::json(&json!({ "status": "Failed",
            "error": { "code": "AllocationFailed", "message": "no room" } })),
    })
    .await;
    let operation = client.start(&machine()).await.unwrap();
    let failure = wait(&client, operation, WITHIN).await.unwrap_err();
    assert_eq!(failure.meaning(), Some(Meaning::Capacity));
    assert!(
        !failure.during("creating").is_refusal(),
        "something was made"
    );
}

#[tokio::test]
async fn without_a_status_it_is_followed_by_its_location() {
    let (client, server) = client(|seen, before| match (seen.line.as_str(), before) {
        ("DELETE /group", _) => Answer::new(202, "")
            .header("Location", seen.url("results/1"))
            .header("Retry-After", "0"),
        (_, 0) => Answer::new(202, "")
            .header("Location", seen.url("results/1"))
            .header("Retry-After", "0"),
        _ => Answer::new(200, ""),
    })
    .await;
    let operation = client.start(&Call::delete_group("/group")).await.unwrap();
    assert!(wait(&client, operation, WITHIN).await.unwrap().is_done());
    assert_eq!(server.all("GET /results/1").len(), 2);
    let forced = server.all("DELETE /group")[0].param("forceDeletionTypes");
    assert_eq!(forced.as_deref(), Some("Microsoft.Compute/virtualMachines"));
}

#[tokio::test]
async fn without_either_the_thing_itself_is_looked_at() {
    let (client, server) = client(|seen, before| match (seen.line.as_str(), before) {
        ("PUT /vm", _) => state("Updating").header("Retry-After", "0"),
        (_, 0) => state("Updating").header("Retry-After", "0"),
        _ => state("Succeeded"),
    })
    .await;
    let operation = client.start(&machine()).await.unwrap();
    assert!(wait(&client, operation, WITHIN).await.unwrap().is_done());
    assert_eq!(server.all("GET /vm").len(), 2);
    assert_eq!(
        server.all("GET /vm")[0].param("api-version").as_deref(),
        Some("2024-07-01")
    );
}

#[tokio::test]
async fn what_is_done_at_once_isn_t_waited_for() {
    let answers = [
        state("Succeeded").status(201),
        Answer::json(&json!({})),
        Answer::new(204, ""),
    ];
    for answer in answers {
        let (client, server) = client(move |_, _| answer.clone()).await;
        let operation = client.start(&machine()).await.unwrap();
        assert!(operation.is_done());
        wait(&client, operation, WITHIN).await.unwrap();
        assert_eq!(server.order().len(), 2);
    }
    let (client, _) = client(|_, _| state("Failed")).await;
    let operation = client.start(&machine()).await.unwrap();
    assert!(!operation.is_done());
    assert!(wait(&client, operation, WITHIN).await.is_err());
}

#[tokio::test]
async fn what_is_gone_is_deleted_and_no_more_to_be_followed() {
    let (client, _) = client(|seen, _| match seen.line.as_str() {
        "DELETE /group" => Answer::new(202, "")
            .header("Location", seen.url("results/1"))
            .header("Retry-After", "0"),
        _ => Answer::refusal(404, "ResourceGroupNotFound", "gone"),
    })
    .await;
    let operation = client.start(&Call::delete_group("/group")).await.unwrap();
    assert!(wait(&client, operation, WITHIN).await.unwrap().is_done());
}

#[tokio::test]
async fn not_done_in_time_is_an_error_only_for_who_must_know() {
    let (client, _) = client(|seen, _| match seen.line.as_str() {
        "PUT /vm" => followed(seen),
        _ => Answer::json(&json!({ "status": "InProgress" })).header("Retry-After", "600"),
    })
    .await;
    let briefly = Duration::from_millis(200);
    let operation = client.start(&machine()).await.unwrap();
    let operation = wait_briefly(&client, operation, briefly).await.unwrap();
    assert!(!operation.is_done());
    assert_eq!(operation.asked, Some(LONGEST_ASKED), "bounded");
    let error = wait(&client, operation, briefly)
        .await
        .unwrap_err()
        .during("creating");
    assert_eq!(
        error.chain(),
        "creating: waiting for virtualMachines: it wasn't done after 0 s"
    );
}

#[tokio::test]
async fn an_operation_isn_t_followed_elsewhere() {
    for (status, header) in [
        (202, "Azure-AsyncOperation"),
        (201, "Azure-AsyncOperation"),
        (202, "Location"),
    ] {
        let (client, server) = client(move |seen, before| match (seen.line.as_str(), before) {
            ("PUT /vm", _) => Answer::new(status, "")
                .header(header, "https://example.com/steal")
                .header("Retry-After", "0"),
            (_, 0) => state("Creating").header("Retry-After", "0"),
            _ => state("Succeeded"),
        })
        .await;
        let operation = client.start(&machine()).await.unwrap();
        assert!(!operation.is_done(), "{status} {header}");
        wait(&client, operation, WITHIN).await.unwrap();
        assert_eq!(server.all("GET /vm").len(), 2, "{status} {header}");
    }
}

#[tokio::test]
async fn what_may_not_be_followed_shows_in_the_thing_itself() {
    let (client, server) = client(|seen, _| match seen.line.as_str() {
        "PUT /vm" => followed(seen),
        "GET /vm" => state("Succeeded"),
        _ => Answer::refusal(403, "AuthorizationFailed", "no"),
    })
    .await;
    let operation = client.start(&machine()).await.unwrap();
    wait(&client, operation, WITHIN).await.unwrap();
    assert_eq!(server.all("GET /operations/1").len(), 1);
    assert_eq!(server.all("GET /vm").len(), 1);
}
