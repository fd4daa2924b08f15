use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::*;
use crate::clock;
use crate::entra::ScheduledEvent;
use crate::entra::endpoint::tests::send;

const TOKEN: &str =
    "identity/oauth2/token?api-version=2018-02-01&resource=https://management.azure.com";
const EVENTS: &str = "scheduledevents?api-version=2020-07-01";
const META: &str = "Metadata: true\r\n";

struct Lab {
    directory: Arc<Directory>,
    facts: watch::Sender<Facts>,
    events: Arc<Events>,
    metadata: InstanceMetadata,
}

async fn lab() -> Lab {
    let wire = Arc::new(Wire::new(Duration::ZERO, None));
    let directory = Directory::new(wire.clone(), Duration::ZERO, Duration::ZERO);
    let directory = Arc::new(directory);
    let facts = watch::Sender::new(Facts {
        name: "ci-1".into(),
        size: "Standard_F8s_v2".into(),
        admin: "ubuntu".into(),
        public_keys: vec!["ssh-ed25519 AAAA".into()],
        ..Facts::default()
    });
    let events = Arc::new(Events::default());
    let metadata =
        InstanceMetadata::start(wire, directory.clone(), facts.subscribe(), events.clone());
    Lab {
        metadata: metadata.await.unwrap(),
        directory,
        facts,
        events,
    }
}

impl Lab {
    async fn ask(&self, path: &str, headers: &str) -> (u16, String) {
        let url = format!("{}/metadata/{path}", self.metadata.url());
        let (status, body) = send(&url, "GET", headers, "").await;
        (status.as_u16(), body)
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let (status, body) = self.ask(path, META).await;
        (status, serde_json::from_str(&body).unwrap_or(Value::Null))
    }

    async fn post(&self, body: &str) -> u16 {
        let url = format!("{}/metadata/{EVENTS}", self.metadata.url());
        send(&url, "POST", META, body).await.0.as_u16()
    }
}

#[tokio::test]
async fn only_those_who_mean_it_are_answered() {
    let lab = lab().await;
    for (path, headers, expected) in [
        ("instance?api-version=2021-02-01", META, 200),
        ("instance?api-version=2021-02-01", "", 400),
        (
            "instance?api-version=2021-02-01",
            "Metadata: true\r\nX-Forwarded-For: 192.0.2.1\r\n",
            400,
        ),
        ("instance", META, 400),
        ("instance?api-version=1999-01-01", META, 400),
    ] {
        assert_eq!(lab.ask(path, headers).await.0, expected, "{path} {headers}");
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    for (path, headers, expected) in [
        (
            "instance?api-version=2021-02-01&api-version=2021-02-01",
            META,
            400,
        ),
        ("nonsense?api-version=2021-02-01", META, 404),
        ("scheduledevents?api-version=2021-02-01", META, 400),
        (TOKEN, "Metadata: True\r\n", 400),
        (
            "identity/oauth2/token?resource=https://management.azure.com",
            META,
            400,
        ),
    ] {
        assert_eq!(lab.ask(path, headers).await.0, expected, "{path} {headers}");
    }
}

#[tokio::test]
async fn who_asks_too_often_is_told_so() {
    let lab = lab().await;
    let mut refused = 0;
    for _ in 0..6 {
        refused += u32::from(lab.get(EVENTS).await.0 == 429);
    }
    assert_eq!(refused, 1);
    assert_ne!(lab.get(TOKEN).await.0, 429);
}

#[tokio::test]
async fn the_instance_is_told_in_parts() {
    let lab = lab().await;
    let version = "api-version=2021-02-01";
    let (_, whole) = lab.get(&format!("instance?{version}")).await;
    assert_eq!(whole["compute"]["name"], "ci-1");
    assert_eq!(whole["compute"]["customData"], "");
    let (_, part) = lab
        .get(&format!("instance/compute/publicKeys/0?{version}"))
        .await;
    assert_eq!(part["path"], "/home/ubuntu/.ssh/authorized_keys");
    let path = format!("instance/compute/vmSize?{version}");
    assert_eq!(lab.get(&path).await.0, 400);
    let (status, body) = lab.ask(&format!("{path}&format=text"), META).await;
    assert_eq!((status, body.as_str()), (200, "Standard_F8s_v2"));
}

#[tokio::test]
async fn tokens_are_those_of_the_machines_identities() {
    let lab = lab().await;
    let (status, body) = lab.get(TOKEN).await;
    assert_eq!(
        (status, &body["error_description"]),
        (400, &json!("Identity not found"))
    );
    let own = lab.directory.add_identity("/subscriptions/s/vm");
    let [a, b] = ["a", "b"].map(|name| lab.directory.add_identity(name));
    lab.facts
        .send_modify(|facts| facts.user_identities = vec![a.clone(), b.clone()]);
    assert_eq!(lab.get(TOKEN).await.1["error"], "invalid_request");
    lab.facts
        .send_modify(|facts| facts.system_identity = Some(own.clone()));
    let whose = async |more: String| {
        let (_, body) = lab.get(&format!("{TOKEN}{more}")).await;
        let header = format!(
            "Bearer {}",
            body["access_token"].as_str().unwrap_or_default()
        );
        let principal = lab.directory.authenticate(Some(&header)).unwrap();
        (principal.client, header, body)
    };
    let (client, first, body) = whose(String::new()).await;
    assert_eq!(client, own.client);
    assert!(
        body["expires_in"].is_string() && body["expires_on"].is_string(),
        "{body}"
    );
    // The same for as long as it lasts.
    assert_eq!(whose(String::new()).await.1, first);
    assert_eq!(whose(format!("&client_id={}", b.client)).await.0, b.client);
    assert_eq!(whose(format!("&object_id={}", a.object)).await.0, a.client);
    assert_eq!(whose("&msi_res_id=a".into()).await.0, a.client);
    assert_eq!(lab.get(&format!("{TOKEN}&client_id=other")).await.0, 400);
    assert_eq!(
        lab.get("identity/oauth2/token?api-version=2018-02-01")
            .await
            .0,
        400
    );
}

#[tokio::test]
async fn events_are_announced_and_approved() {
    let lab = lab().await;
    let (_, document) = lab.get(EVENTS).await;
    assert_eq!(document, json!({"DocumentIncarnation": 1, "Events": []}));
    let id = lab.events.schedule(ScheduledEvent {
        kind: "Preempt".into(),
        not_before: clock::now() + SignedDuration::from_secs(30),
        by_user: false,
        description: "Spot".into(),
    });
    let (_, document) = lab.get(EVENTS).await;
    let event = &document["Events"][0];
    assert_eq!(
        (
            &event["EventType"],
            &event["EventStatus"],
            &event["Resources"],
            &event["EventId"]
        ),
        (
            &json!("Preempt"),
            &json!("Scheduled"),
            &json!(["ci-1"]),
            &json!(id)
        )
    );
    assert!(event["NotBefore"].as_str().unwrap().ends_with(" GMT"));
    assert!(!lab.events.approved(&id, Duration::from_millis(10)).await);
    let approval = json!({"StartRequests": [{"EventId": id}]}).to_string();
    assert_eq!(lab.post("{}").await, 400);
    assert_eq!(lab.post(&approval).await, 200);
    assert_eq!(lab.post(&approval).await, 200);
    assert!(lab.events.approved(&id, Duration::from_secs(1)).await);
    assert_eq!(lab.events.all_approved(), std::slice::from_ref(&id));
    tokio::time::sleep(Duration::from_secs(1)).await;
    lab.events.start(&id);
    let (_, document) = lab.get(EVENTS).await;
    assert_eq!(document["Events"][0]["EventStatus"], "Started");
    assert_eq!(document["Events"][0]["NotBefore"], "");
    lab.events.end(&id);
    assert_eq!(lab.get(EVENTS).await.1["DocumentIncarnation"], 4);
}

#[tokio::test]
async fn a_host_is_no_machine_until_it_is_made_one() {
    let wire = Arc::new(Wire::new(Duration::ZERO, None));
    let directory = Directory::new(wire.clone(), Duration::ZERO, Duration::from_secs(60));
    let directory = Arc::new(directory);
    let host = HostMetadata::start(wire, directory.clone()).await.unwrap();
    let url = format!("{}/metadata/{TOKEN}", host.url());
    assert_eq!(send(&url, "GET", META, "").await.0, 404);
    let client = host.enable();
    let env = host.app_service();
    let app_service = format!(
        "{}?api-version=2019-08-01&resource=https://management.azure.com/",
        env[0].1
    );
    let secret = format!("X-IDENTITY-HEADER: {}\r\n", env[1].1);
    assert_eq!(send(&app_service, "GET", "", "").await.0, 401);
    // One that is handed out again must be good still.
    let (_, first) = send(&app_service, "GET", &secret, "").await;
    assert_eq!(send(&app_service, "GET", &secret, "").await.1, first);
    directory.expire_tokens();
    for (url, headers) in [
        (format!("{url}&client_id={client}"), META),
        (format!("{app_service}&client_id={client}"), secret.as_str()),
        (app_service.clone(), secret.as_str()),
    ] {
        let (status, body) = send(&url, "GET", headers, "").await;
        assert_eq!(status, 200, "{body}");
        let body: Value = serde_json::from_str(&body).unwrap();
        let header = format!("Bearer {}", body["access_token"].as_str().unwrap());
        let principal = directory.authenticate(Some(&header)).unwrap();
        let scope = Directory::subscription();
        assert!(
            directory
                .rights
                .allows(&principal, "Microsoft.Compute/skus/read", &scope)
        );
    }
}
