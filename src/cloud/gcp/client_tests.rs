use serde_json::{Value, json};

use super::*;
use crate::cloud::gcp::operation::{self, Operation};
use crate::cloud::gcp::refusal::ACT_AS;
use crate::cloud::gcp::scripted::{Answer, Server};
use crate::error::Kind;

fn url(call: &Call) -> String {
    let base = Url::parse("https://compute.googleapis.com/compute/v1/").unwrap();
    call.url(&base, "example.com:proj").unwrap().to_string()
}

fn client(server: &Server) -> Client {
    let key = server.key_file();
    let (host, http) = server.machine(&[("GOOGLE_APPLICATION_CREDENTIALS_DATA", key.as_str())]);
    Client::new(host, http)
}

#[test]
fn paths_begin_below_the_project_or_elsewhere() {
    let call = Call::get("zones.list", "zones").query("filter", "name eq \"us-west1-.*\"");
    assert_eq!(
        url(&call),
        "https://compute.googleapis.com/compute/v1/projects/example.com:proj/zones\
         ?filter=name+eq+%22us-west1-.*%22"
    );
    let call = Call::get(
        "images.getFromFamily",
        "projects/ubuntu-os-cloud/global/images/family/a b?c",
    )
    .elsewhere();
    assert_eq!(
        url(&call),
        "https://compute.googleapis.com/compute/v1/projects/ubuntu-os-cloud/global/images/family/\
         a%20b%3Fc"
    );
}

#[test]
fn the_endpoint_can_be_moved() {
    let api = |env: &[(&str, &str)]| {
        let host = Host::fixed(env.iter().copied());
        let http = Http::new(&host).unwrap();
        Client::new(host, http).api().map(String::from)
    };
    assert_eq!(api(&[]).unwrap(), BASE);
    for text in [
        "http://127.0.0.1:9/compute/v1",
        "http://127.0.0.1:9/compute/v1/",
    ] {
        assert_eq!(
            api(&[(BASE_VARIABLE, text)]).unwrap(),
            "http://127.0.0.1:9/compute/v1/"
        );
    }
    for text in ["nowhere", "ftp://x/"] {
        assert_eq!(
            api(&[(BASE_VARIABLE, text)]).unwrap_err().kind(),
            Kind::Usage
        );
    }
}

#[test]
fn only_what_may_be_repeated_is() {
    let post = Call::post("x", "y");
    assert!(!post.policy().idempotent);
    assert!(post.request_id(&["z"]).policy().idempotent);
    assert!(Call::get("x", "y").policy().idempotent);
}

#[tokio::test]
async fn a_call_carries_a_token_and_its_body() {
    let server = Server::start(|seen, _| match seen.line.as_str() {
        "POST /compute/v1/projects/proj/zones/z/instances" => {
            Answer::json(&json!({ "name": "op", "status": "RUNNING" }))
        }
        _ => Answer::new(404, ""),
    })
    .await;
    let call = Call::post("instances.insert", "zones/z/instances")
        .request_id(&["launch"])
        .body(&json!({ "name": "n" }))
        .unwrap();
    let operation: Operation = client(&server).call(&call).await.unwrap();
    assert_eq!(operation.name, "op");
    let seen = &server.seen()[0];
    assert_eq!(seen.json(), json!({ "name": "n" }));
    assert_eq!(seen.header("content-type"), Some("application/json"));
    assert!(
        seen.header("authorization")
            .unwrap()
            .starts_with("Bearer ey")
    );
    assert_eq!(seen.header("x-goog-user-project"), None);
    assert_eq!(
        seen.param("requestId").as_deref(),
        Some(crate::uuid::of(&["launch"]).as_str())
    );
    assert_eq!(server.seen().len(), 1, "no token was asked for");
}

#[tokio::test]
async fn a_self_signed_token_that_isn_t_taken_is_exchanged_once() {
    let server = Server::start(|seen, _| match seen.line.as_str() {
        "POST /token" => Answer::json(&json!({ "access_token": "given", "expires_in": 3599 })),
        _ if seen.header("authorization") == Some("Bearer given") => Answer::json(&json!({})),
        _ => Answer::refusal(401, "authError", "Invalid Credentials"),
    })
    .await;
    let client = client(&server);
    let call = Call::get("zones.list", "zones");
    for _ in 0..2 {
        let _: Value = client.call(&call).await.unwrap();
    }
    let zones = "GET /compute/v1/projects/proj/zones";
    assert_eq!(server.order(), [zones, "POST /token", zones, zones]);
    let form = &server.all("POST /token")[0];
    assert_eq!(
        form.param("grant_type").as_deref(),
        Some("urn:ietf:params:oauth:grant-type:jwt-bearer")
    );
}

#[tokio::test]
async fn a_token_that_nothing_can_replace_is_an_error_of_credentials() {
    let server =
        Server::start(|_, _| Answer::refusal(401, "authError", "Invalid Credentials")).await;
    let env = [
        ("CLOUDSDK_AUTH_ACCESS_TOKEN", "ttttoken"),
        ("GOOGLE_CLOUD_PROJECT", "proj"),
    ];
    let (host, http) = server.machine(&env);
    let call = Call::get("zones.list", "zones");
    let failure = Client::new(host, http)
        .call::<Value>(&call)
        .await
        .unwrap_err();
    assert_eq!(failure.meaning(), Some(Meaning::Credentials));
    let error = failure.during("listing the zones");
    assert_eq!(error.kind(), Kind::Denied);
    assert!(!format!("{error:?}").contains("ttttoken"));
    assert_eq!(server.seen().len(), 1);
}

fn op(status: &str) -> Value {
    json!({ "name": "op", "status": status, "zone": "https://x/compute/v1/projects/proj/zones/z",
            "targetLink": "https://x/compute/v1/projects/proj/zones/z/instances/n" })
}

fn pending() -> Operation {
    serde_json::from_value(op("PENDING")).unwrap()
}

const WAIT: &str = "POST /compute/v1/projects/proj/zones/z/operations/op/wait";
const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn an_operation_is_waited_for_through_cut_connections_and_busy_servers() {
    let server = Server::start(|_, before| match before {
        0 => Answer::cut(),
        1 => Answer::refusal(503, "backendError", "Backend Error"),
        2 => Answer::json(&op("RUNNING")),
        _ => Answer::json(&op("DONE")),
    })
    .await;
    let client = client(&server);
    let done = operation::wait(&client, pending(), LONG).await.unwrap();
    assert!(done.is_done());
    let asked = server.all(WAIT);
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0].header("content-length"), Some("0"));
    // What cut the first one may cut them all: how it stands is asked in between.
    let read = server.all(WAIT.replace("POST", "GET").trim_end_matches("/wait"));
    assert!(!read.is_empty());
}

#[tokio::test]
async fn an_operation_that_ends_badly_is_a_refusal() {
    let server = Server::start(|_, _| {
        let mut done = op("DONE");
        done["httpErrorStatusCode"] = json!(400);
        done["error"] = json!({ "errors": [{ "code": "SERVICE_ACCOUNT_ACCESS_DENIED",
            "message": "The user does not have access to service account 'a'." }] });
        Answer::json(&done)
    })
    .await;
    let client = client(&server);
    let failure = operation::wait(&client, pending(), LONG).await.unwrap_err();
    let Failure::Refused(refusal) = &failure else {
        panic!("{failure:?}");
    };
    assert!(refusal.lacks(ACT_AS));
    assert_eq!(failure.during("x").kind(), Kind::Denied);
}

#[tokio::test]
async fn an_operation_that_isn_t_done_in_time_is_no_answer_unless_that_was_expected() {
    let held = Duration::from_millis(400);
    let server = Server::start(move |_, _| Answer::json(&op("RUNNING")).after(held)).await;
    let client = client(&server);
    let within = Duration::from_millis(300);
    let operation = operation::wait_briefly(&client, pending(), within)
        .await
        .unwrap();
    assert!(!operation.is_done());
    let failure = operation::wait(&client, pending(), within)
        .await
        .unwrap_err();
    assert_eq!(failure.meaning(), None);
    let text = failure.during("launching").chain();
    assert!(text.contains("waiting for op: it was still"), "{text}");
}

#[test]
fn each_kind_of_operation_has_its_own_place() {
    let global = |mut value: Value| {
        value.as_object_mut().unwrap().remove("zone");
        serde_json::from_value::<Operation>(value).unwrap()
    };
    let path = |operation: &Operation| url(&operation.waiting());
    assert!(path(&pending()).ends_with("/zones/z/operations/op/wait"));
    assert!(path(&global(op("RUNNING"))).ends_with("/global/operations/op/wait"));
}
