use serde_json::{Value, json};

use super::*;
use crate::cloud::azure::scripted::{Answer, Seen, Server};

const SCHEDULED: &str = "GET /metadata/scheduledevents";

fn event(kind: &str, status: &str, not_before: &str) -> Value {
    json!({ "EventId": format!("id-{kind}"), "EventType": kind, "ResourceType": "VirtualMachine",
        "Resources": ["cml-x"], "EventStatus": status, "NotBefore": not_before,
        "Description": "", "EventSource": "Platform", "DurationInSeconds": -1 })
}

fn events(list: &[Value]) -> Answer {
    Answer::json(&json!({ "DocumentIncarnation": 1, "Events": list }))
}

pub(super) fn about(name: &str, group: &str, tag: &str) -> Answer {
    Answer::json(
        &json!({ "name": name, "resourceGroupName": group, "subscriptionId": "sub",
        "tagsList": [{ "name": tag, "value": "1" }], "vmSize": "Standard_B1s" }),
    )
}

async fn machine(script: impl Fn(&Seen, usize) -> Answer + Send + Sync + 'static) -> Server {
    Server::start(move |seen, before| match seen.line.as_str() {
        "GET /metadata/instance/compute" => about("cml-x", "CML-X", TAG_OWNER),
        _ => script(seen, before),
    })
    .await
}

#[tokio::test]
async fn a_notice_is_waited_for() {
    let server = machine(|_, before| match before {
        0 => events(&[]),
        1 => Answer::new(500, ""),
        2 => events(&[event("Freeze", "Scheduled", "")]),
        _ => events(&[event(
            "Preempt",
            "Scheduled",
            "Mon, 19 Sep 2016 18:29:47 GMT",
        )]),
    })
    .await;
    let (host, http) = server.host(&[]);
    let notice = next_notice(&host, &http, false).await;
    let detail = "Azure takes this spot machine away, not before 2016-09-19T18:29:47Z".to_owned();
    assert_eq!(notice, Notice::Interruption { detail });
    let asked = &server.all(SCHEDULED)[0];
    assert_eq!(asked.header("metadata"), Some("true"));
    assert_eq!(asked.param("api-version").as_deref(), Some("2020-07-01"));
}

/// It is 2026-01-01T00:00:00Z.
#[test]
fn what_comes_soon_interrupts_and_a_later_reboot_leaves_time_for_a_job() {
    let now = Host::fixed::<&str, &str>([]).now();
    let soon = "Thu, 01 Jan 2026 00:15:00 GMT";
    let days = "Thu, 08 Jan 2026 00:00:00 GMT";
    let cases = [
        ("Preempt", "Scheduled", soon, true),
        ("Terminate", "Scheduled", days, true),
        ("Reboot", "Scheduled", soon, true),
        ("Redeploy", "Scheduled", days, false),
        ("Reboot", "Scheduled", days, false),
        ("Reboot", "Started", "", true),
        ("Redeploy", "Scheduled", "soon", true),
    ];
    for (kind, status, not_before, interrupts) in cases {
        let event: Event = serde_json::from_value(event(kind, status, not_before)).unwrap();
        assert!(event.takes(Some("CML-x")) && event.takes(None), "{kind}");
        assert!(!event.takes(Some("other")), "{kind}");
        let is_end = matches!(event.notice(now), Notice::Interruption { .. });
        assert_eq!(is_end, interrupts, "{kind} {not_before}");
    }
    let freeze: Event = serde_json::from_value(event("Freeze", "Scheduled", soon)).unwrap();
    assert!(!freeze.takes(None));
}

#[tokio::test]
async fn what_takes_the_machine_away_is_acknowledged_and_nothing_else() {
    let mut others = event("Preempt", "Scheduled", "");
    others["Resources"] = json!(["other"]);
    let list = vec![
        event("Freeze", "Scheduled", ""),
        others,
        event("Reboot", "Started", ""),
        event("Terminate", "Scheduled", ""),
    ];
    let server = machine(move |seen, _| match seen.line.as_str() {
        SCHEDULED => events(&list),
        _ => Answer::new(200, ""),
    })
    .await;
    let (host, http) = server.host(&[]);
    let imds = Imds::new(&host, http).unwrap();
    imds.acknowledge(Some("cml-x")).await.unwrap();
    let sent = server.all("POST /metadata/scheduledevents");
    assert_eq!(sent.len(), 1);
    assert_eq!(
        sent[0].json(),
        json!({ "StartRequests": [{ "EventId": "id-Terminate" }] })
    );
    assert_eq!(sent[0].header("metadata"), Some("true"));
}

#[tokio::test]
async fn a_token_is_waited_for_while_the_service_is_updated() {
    let server = machine(|_, before| match before {
        0 => Answer::new(404, ""),
        1 => Answer::new(410, ""),
        _ => Answer::json(&json!({ "access_token": "t", "expires_on": 1_767_229_200 })),
    })
    .await;
    let (host, http) = server.host(&[]);
    let imds = Imds::new(&host, http).unwrap();
    let token = imds
        .token(host.now(), "https://arm", None)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(token.value.expose(), "t");
    assert_eq!(token.expires.unwrap().as_second(), 1_767_229_200);
}

#[tokio::test]
async fn a_machine_is_ours_only_alone_in_its_group() {
    for (group, tag, ours) in [
        ("CML-X", TAG_OWNER, true),
        ("production", TAG_OWNER, false),
        ("cml-x", "other", false),
    ] {
        let server = Server::start(move |_, _| about("cml-x", group, tag)).await;
        let (host, http) = server.host(&[]);
        let imds = Imds::new(&host, http).unwrap();
        let machine = imds.machine(READING).await.unwrap();
        assert_eq!(machine.is_ours(), ours, "{group} {tag}");
    }
}

#[test]
fn the_place_can_be_moved() {
    let base = |env: &[(&str, &str)]| {
        let host = Host::fixed(env.iter().copied());
        let http = Http::new(&host).unwrap();
        Imds::new(&host, http).map(|imds| imds.base.to_string())
    };
    assert_eq!(base(&[]).unwrap(), "http://169.254.169.254/");
    assert_eq!(
        base(&[(VARIABLE, "http://127.0.0.1:9")]).unwrap(),
        "http://127.0.0.1:9/"
    );
    assert!(base(&[(VARIABLE, "nowhere")]).is_err());
}
