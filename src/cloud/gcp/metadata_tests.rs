use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::cloud::gcp::scripted::{Answer, Seen, Server as Scripted};

const PREEMPTED_LINE: &str = "GET /computeMetadata/v1/instance/preempted";
const MAINTENANCE_LINE: &str = "GET /computeMetadata/v1/instance/maintenance-event";

/// A request that waits for a change of what it has seen, which a server holds for long.
fn held(text: &str) -> Answer {
    Answer::metadata(text, "2").after(Duration::from_secs(3600))
}

fn is_held(seen: &Seen) -> bool {
    seen.param("wait_for_change").as_deref() == Some("true")
}

async fn notice(server: &Scripted, rebalance_seen: bool) -> Notice {
    let (host, http) = server.machine(&[]);
    let waiting = next_notice(&host, &http, rebalance_seen);
    tokio::time::timeout(Duration::from_secs(20), waiting)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_preemption_ends_a_held_request() {
    let server = Scripted::start(|seen, _| match (seen.line.as_str(), is_held(seen)) {
        (PREEMPTED_LINE, false) => Answer::metadata("FALSE", "e1"),
        (PREEMPTED_LINE, true) => Answer::metadata("TRUE", "e2").after(Duration::from_millis(300)),
        (_, false) => Answer::metadata("NONE", "e1"),
        (_, true) => held("NONE"),
    })
    .await;
    let got = notice(&server, false).await;
    assert!(matches!(got, Notice::Interruption { .. }), "{got:?}");
    let asked = server.all(PREEMPTED_LINE);
    assert_eq!(asked.len(), 2, "waited, not polled");
    assert_eq!(asked[0].param("wait_for_change"), None);
    assert_eq!(asked[1].param("last_etag").as_deref(), Some("e1"));
    assert_eq!(asked[1].param("timeout_sec").as_deref(), Some("60"));
    assert_eq!(asked[1].header("metadata-flavor"), Some("Google"));
}

#[tokio::test]
async fn what_was_announced_before_is_heard_at_once() {
    let server = Scripted::start(|seen, _| match seen.line.as_str() {
        PREEMPTED_LINE => Answer::metadata("TRUE\n", "e9"),
        _ => Answer::metadata("NONE", "e1"),
    })
    .await;
    assert!(matches!(
        notice(&server, true).await,
        Notice::Interruption { .. }
    ));
    assert!(server.all(MAINTENANCE_LINE).is_empty());
}

#[tokio::test]
async fn maintenance_that_ends_the_machine_is_told_and_a_migration_is_not() {
    let server = Scripted::start(|seen, before| match (seen.line.as_str(), before) {
        (PREEMPTED_LINE, 0) => Answer::metadata("FALSE", "1"),
        (PREEMPTED_LINE, _) => held("FALSE"),
        (_, 0) => Answer::metadata("MIGRATE_ON_HOST_MAINTENANCE", "1"),
        (_, 1) => Answer::metadata("NONE", "2"),
        // Nothing for the whole time; then the event.
        (_, 2) => Answer::metadata("NONE", "2"),
        _ => Answer::metadata("TERMINATE_ON_HOST_MAINTENANCE", "3"),
    })
    .await;
    let Notice::Rebalance { detail } = notice(&server, false).await else {
        panic!("no rebalance");
    };
    assert!(detail.contains("maintenance"), "{detail}");
    let tags: Vec<_> = server
        .all(MAINTENANCE_LINE)
        .iter()
        .map(|seen| seen.param("last_etag"))
        .collect();
    assert_eq!(
        tags,
        [None, Some("1".into()), Some("2".into()), Some("2".into())]
    );
}

#[tokio::test]
async fn an_outage_is_waited_out_and_what_happened_meanwhile_is_heard() {
    let down = Arc::new(AtomicBool::new(true));
    let script = Arc::clone(&down);
    let server = Scripted::start(move |seen, before| match (seen.line.as_str(), before) {
        (PREEMPTED_LINE, 0) => Answer::metadata("FALSE", "1"),
        (PREEMPTED_LINE, 1) => Answer::cut(),
        (PREEMPTED_LINE, _) => {
            script.store(false, Ordering::SeqCst);
            Answer::metadata("TRUE", "2")
        }
        _ => held("NONE"),
    })
    .await;
    assert!(matches!(
        notice(&server, true).await,
        Notice::Interruption { .. }
    ));
    assert!(!down.load(Ordering::SeqCst));
    let after = &server.all(PREEMPTED_LINE)[2];
    assert_eq!(after.param("last_etag"), None, "it looks anew");
}

#[tokio::test]
async fn only_google_s_server_is_believed() {
    let server = Scripted::start(|_, _| Answer::new(200, "TRUE")).await;
    let (host, http) = server.machine(&[]);
    let client = Server::new(host, http).unwrap();
    assert!(!client.is_there().await);
    let error = client.get("instance/name").await.unwrap_err();
    assert!(error.chain().contains("isn't Google's"), "{error:?}");
}

#[test]
fn the_server_can_be_moved() {
    let base = |env: &[(&str, &str)]| {
        let host = Host::fixed(env.iter().copied());
        let http = Http::new(&host).unwrap();
        Server::new(host, http).map(|server| server.base.to_string())
    };
    assert_eq!(
        base(&[]).unwrap(),
        "http://169.254.169.254/computeMetadata/v1/"
    );
    assert_eq!(
        base(&[(VARIABLE, "127.0.0.1:8080")]).unwrap(),
        "http://127.0.0.1:8080/computeMetadata/v1/"
    );
    for wrong in ["http://127.0.0.1:8080", "a/b", "a b"] {
        assert!(base(&[(VARIABLE, wrong)]).is_err(), "{wrong}");
    }
}
