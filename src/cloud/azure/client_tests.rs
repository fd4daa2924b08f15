use serde_json::{Value, json};

use super::*;
use crate::cloud::azure::scripted::{Answer, SUBSCRIPTION, Seen, Server, TOKEN, token};

/// A client of a server that gives tokens, and answers the rest by `script`.
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

fn group(name: &str) -> Call {
    Call::get(
        Api::Resources,
        "resourceGroups",
        format!("resourceGroups/{name}"),
    )
}

#[tokio::test]
async fn a_call_goes_below_the_subscription_with_version_and_token() {
    let (client, server) = client(|_, _| Answer::json(&json!({ "name": "x" }))).await;
    client.ready().await.unwrap();
    let call = Call::put(Api::Compute, "virtualMachines", "resourceGroups/a b/x")
        .query("$expand", "instanceView")
        .body(&json!({ "location": "westus2" }))
        .unwrap();
    let answer: Value = client.call(&call).await.unwrap();
    assert_eq!(answer["name"], "x");
    let line = format!("PUT /subscriptions/{SUBSCRIPTION}/resourceGroups/a%20b/x");
    let seen = &server.all(&line)[0];
    assert_eq!(seen.param("api-version").as_deref(), Some("2024-07-01"));
    assert_eq!(seen.param("$expand").as_deref(), Some("instanceView"));
    assert_eq!(seen.header("authorization"), Some("Bearer arm-token"));
    assert_eq!(seen.header("content-type"), Some("application/json"));
    assert_eq!(seen.json()["location"], "westus2");
    let whole = Call::get(
        Api::Identity,
        "userAssignedIdentities",
        "/subscriptions/s/x",
    );
    let _: Value = client.call(&whole).await.unwrap();
    assert_eq!(server.all("GET /subscriptions/s/x").len(), 1);
    assert_eq!(server.all(TOKEN).len(), 1, "one token for all");
}

#[tokio::test]
async fn a_token_that_ended_early_is_fetched_anew_once() {
    // Only the second token is good; a later one ends the test.
    let server = Server::start(|seen, before| match seen.line.as_str() {
        TOKEN => token(["first", "second", "third"][before]),
        _ if seen.header("authorization") == Some("Bearer second") => {
            Answer::json(&json!({ "value": [] }))
        }
        _ => Answer::refusal(401, "ExpiredAuthenticationToken", "over"),
    })
    .await;
    let (host, http) = server.signed_in();
    let client = Client::new(host, http);
    let calls = [group("a"), group("b")];
    let [a, b] = calls.each_ref().map(|call| client.list::<Value>(call));
    let (a, b) = tokio::join!(a, b);
    assert_eq!((a.unwrap().len(), b.unwrap().len()), (0, 0));
    let url = client.own(&server.url).unwrap();
    client.fetch("x", &url, Policy::ONCE).await.unwrap();
    assert_eq!(server.all(TOKEN).len(), 2);
}

#[tokio::test]
async fn a_token_that_is_never_good_ends_the_call() {
    let (client, server) =
        client(|_, _| Answer::refusal(401, "InvalidAuthenticationToken", "who?")).await;
    let failure = client.call::<Value>(&group("a")).await.unwrap_err();
    assert_eq!(failure.meaning(), Some(Meaning::Credentials));
    assert_eq!(server.all(TOKEN).len(), 2);
}

#[tokio::test]
async fn what_passes_is_tried_again_and_the_rest_is_told() {
    let (client, server) = client(|_, before| match before {
        0 => Answer::refusal(429, "TooManyRequests", "slow").header("Retry-After", "0"),
        1 => Answer::cut(),
        2 => Answer::refusal(409, "AnotherOperationInProgress", "busy"),
        _ => Answer::refusal(404, "ResourceGroupNotFound", "no such group"),
    })
    .await;
    let failure = client.call::<Value>(&group("x")).await.unwrap_err();
    assert!(failure.is_missing());
    assert_eq!(
        failure.during("looking").chain(),
        "looking: Azure Resource Manager answered ResourceGroupNotFound: no such group"
    );
    assert_eq!(server.order().len(), 5);
}

#[tokio::test]
async fn a_post_of_unknown_outcome_isn_t_repeated() {
    let (client, server) = client(|_, _| Answer::cut()).await;
    let call = Call::post(Api::Compute, "virtualMachines", "x/deallocate");
    let failure = client.call::<Value>(&call).await.unwrap_err();
    assert!(failure.is_passing());
    let line = format!("POST /subscriptions/{SUBSCRIPTION}/x/deallocate");
    assert_eq!(server.all(&line).len(), 1);
    assert_eq!(server.all(&line)[0].header("content-length"), Some("0"));
}

#[tokio::test]
async fn a_list_is_read_to_its_end_and_no_further_than_its_server() {
    let (client, _) = client(|seen, _| match seen.param("$skiptoken").as_deref() {
        None => Answer::json(&json!({ "value": [1, 2],
            "nextLink": seen.url("subscriptions/s/page?$skiptoken=2") })),
        Some("2") => Answer::json(&json!({ "value": [3],
            "nextLink": seen.url("subscriptions/s/page?$skiptoken=3") })),
        Some("3") => Answer::json(&json!({ "value": null,
            "nextLink": seen.url("subscriptions/s/page?$skiptoken=4") })),
        _ => Answer::json(&json!({ "value": [4], "nextLink": "" })),
    })
    .await;
    let all: Vec<u32> = client.list(&group("")).await.unwrap();
    assert_eq!(all, [1, 2, 3, 4]);
    let (client, _) = self::client(|_, _| {
        Answer::json(&json!({ "value": [1], "nextLink": "https://example.com/steal" }))
    })
    .await;
    let failure = client.list::<u32>(&group("")).await.unwrap_err();
    assert!(failure.during("listing").chain().contains("somewhere else"));
}

#[tokio::test]
async fn a_list_without_an_end_is_no_list() {
    let (client, _) = client(|seen, _| {
        Answer::json(&json!({ "value": [1], "nextLink": seen.url("subscriptions/s/page") }))
    })
    .await;
    let failure = client.list::<u32>(&group("")).await.unwrap_err();
    assert!(failure.during("listing").chain().contains("200 pages"));
}

#[test]
fn our_token_goes_to_resource_manager_alone() {
    let url = |text: &str| Url::parse(text).unwrap();
    let arm = url("https://management.azure.com/");
    for good in [
        "https://management.azure.com/x",
        "https://westus.management.azure.com/x",
    ] {
        assert!(is_within(&url(good), &arm), "{good}");
    }
    for bad in [
        "http://management.azure.com/x",
        "https://management.azure.com:8443/x",
        "https://evilmanagement.azure.com/x",
        "https://management.azure.com.example.com/x",
        "https://example.com/management.azure.com",
    ] {
        assert!(!is_within(&url(bad), &arm), "{bad}");
    }
}

#[tokio::test]
async fn the_subscription_is_asked_for() {
    let of = |id: &'static str| {
        let host = Host::fixed([("AZURE_SUBSCRIPTION_ID", id)]);
        let http = Http::new(&host).unwrap();
        Client::new(host, http)
    };
    let error = of("").ready().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    assert!(error.hints()[0].contains("AZURE_SUBSCRIPTION_ID"));
    assert_eq!(of("../x").subscription().unwrap_err().kind(), Kind::Usage);
}
