use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::google::COMPUTE;
use crate::oidc::Issuer;

/// Asks as an instance's process would; the answer is status, headers and body.
async fn get(host: &str, path: &str, headers: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(host).await.unwrap();
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_lowercase(), body.into())
}

async fn google(host: &str, path: &str) -> (u16, String, String) {
    let path = format!("{ROOT}{path}");
    get(host, &path, "Metadata-Flavor: Google\r\n").await
}

fn etag_in(head: &str) -> String {
    let tag = head.lines().find_map(|line| line.strip_prefix("etag: "));
    tag.unwrap().to_owned()
}

struct Lab {
    facts: watch::Sender<Facts>,
    identity: Arc<Identity>,
    metadata: InstanceMetadata,
}

async fn lab(account: bool) -> Lab {
    let wire = Arc::new(Wire::new(Duration::ZERO, None));
    let identity = Arc::new(Identity::new(
        wire.clone(),
        std::path::Path::new("/nowhere"),
        Issuer::new(wire.clone()),
    ));
    let facts = watch::Sender::new(Facts {
        name: "ci-1".into(),
        service_account: account.then(|| (LAUNCHER.into(), vec![COMPUTE.into()])),
        ..Facts::default()
    });
    let metadata = InstanceMetadata::start(wire, identity.clone(), facts.subscribe());
    Lab {
        metadata: metadata.await.unwrap(),
        identity,
        facts,
    }
}

#[tokio::test]
async fn only_those_who_mean_google_are_answered() {
    let lab = lab(true).await;
    let host = lab.metadata.host();
    let path = format!("{ROOT}instance/name");
    let (status, head, _) = get(&host, &path, "").await;
    assert_eq!(status, 403);
    assert!(head.contains("metadata-flavor: google"), "{head}");
    let forwarded = "Metadata-Flavor: Google\r\nX-Forwarded-For: 192.0.2.1\r\n";
    assert_eq!(get(&host, &path, forwarded).await.0, 403);
    let (status, head, body) = google(&host, "instance/name").await;
    assert_eq!((status, body.as_str()), (200, "ci-1"));
    assert!(head.contains("content-type: application/text"), "{head}");
    assert_eq!(google(&host, "instance/nonsense").await.0, 404);
    let (status, head, _) = google(&host, "instance/service-accounts?recursive=true").await;
    assert_eq!(status, 301);
    assert!(head.contains("/service-accounts/?recursive=true"), "{head}");
}

#[tokio::test]
async fn tokens_are_the_attached_accounts() {
    let lab = lab(true).await;
    let host = lab.metadata.host();
    let path = "instance/service-accounts/default/token";
    let (status, head, body) = google(&host, path).await;
    assert_eq!(status, 200);
    assert!(head.contains("content-type: application/json"), "{head}");
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    let header = format!("Bearer {}", body["access_token"].as_str().unwrap());
    let principal = lab
        .identity
        .authenticate(Some(&header), "anything")
        .unwrap();
    assert_eq!(principal.email, LAUNCHER);
    assert_eq!(principal.scopes, [COMPUTE]);
    // The same for as long as it lasts.
    assert!(google(&host, path).await.2.contains(&header[7..]));
}

#[tokio::test]
async fn without_an_account_there_is_no_token() {
    let lab = lab(false).await;
    let host = lab.metadata.host();
    for (path, expected) in [
        ("instance/service-accounts/", 200),
        ("instance/service-accounts/default/token", 404),
        ("instance/service-accounts/default/email", 404),
    ] {
        assert_eq!(google(&host, path).await.0, expected, "{path}");
    }
}

#[tokio::test]
async fn a_wait_ends_with_the_change() {
    let lab = lab(false).await;
    let host = lab.metadata.host();
    let (_, head, body) = google(&host, "instance/preempted").await;
    assert_eq!(body, "FALSE");
    let known = etag_in(&head);
    let path = format!("instance/preempted?wait_for_change=true&last_etag={known}");
    let waiting = tokio::spawn({
        let (host, path) = (host.clone(), path.clone());
        async move { google(&host, &path).await }
    });
    // Another value's change is none of this one's.
    lab.facts.send_modify(|facts| facts.name = "ci-2".into());
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!waiting.is_finished());
    lab.facts.send_modify(|facts| facts.preempted = true);
    assert_eq!(waiting.await.unwrap().2, "TRUE");
    // Who is behind is answered at once.
    assert_eq!(google(&host, &path).await.2, "TRUE");
    let path = "instance/preempted?wait_for_change=true&timeout_sec=0";
    assert_eq!(google(&host, path).await.2, "TRUE");
}

#[tokio::test]
async fn a_host_is_no_instance_until_it_is_made_one() {
    let wire = Arc::new(Wire::new(Duration::ZERO, None));
    let identity = Arc::new(Identity::new(
        wire.clone(),
        std::path::Path::new("/nowhere"),
        Issuer::new(wire.clone()),
    ));
    let host = HostMetadata::start(wire, identity.clone()).await.unwrap();
    let path = "instance/service-accounts/default/email";
    let (status, head, _) = google(&host.host(), path).await;
    assert_eq!(status, 404);
    assert!(!head.contains("metadata-flavor"), "{head}");
    identity.host_is_instance.store(true, Ordering::SeqCst);
    assert_eq!(google(&host.host(), path).await.2, LAUNCHER);
}
