//! What is sent, in which order, and what follows from each answer.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::cloud::gcp::Gcp;
use crate::cloud::gcp::asked::tests::spec;
use crate::cloud::gcp::scripted::{Answer, Seen, Server};
use crate::cloud::{ClosedMetadata, Cloud};
use crate::error::Kind;
use crate::http::maybe_done;
use crate::spec::{Cidr, InstanceSpec, Spot, Ssh};

const LAUNCH: &str = "0a1b2c3d4e5f6g7h8i9j";
const NAME: &str = "cml-x-0a1b2c3d4e5f";
const PROJECT: &str = "/compute/v1/projects/proj";
const NETWORK_URL: &str = "/compute/v1/projects/proj/global/networks";

fn cloud(server: &Server) -> Gcp {
    let key = server.key_file();
    let (host, http) = server.machine(&[("GOOGLE_APPLICATION_CREDENTIALS_DATA", key.as_str())]);
    Gcp::new(host, http)
}

async fn launch(server: &Server, spec: &InstanceSpec) -> Result<Instance> {
    let plan: Arc<dyn Plan> = cloud(server).look(spec).await?;
    plan.create(&Order::example()).await
}

/// All is well but what `script` says.
async fn server(script: impl Fn(&Seen, usize) -> Option<Answer> + Send + Sync + 'static) -> Server {
    Server::start(move |seen, before| script(seen, before).unwrap_or_else(|| healthy(seen))).await
}

fn operation(name: &str, status: &str, zone: Option<&str>) -> Value {
    let zone = zone.map(|zone| format!("https://compute{PROJECT}/zones/{zone}"));
    json!({"kind": "compute#operation", "name": name, "status": status, "zone": zone})
}

/// An operation that has failed.
fn failed(zone: &str, code: &str, message: &str) -> Answer {
    let mut body = operation("op", "DONE", Some(zone));
    body["httpErrorStatusCode"] = json!(503);
    body["error"] = json!({"errors": [{"code": code, "message": message}]});
    Answer::json(&body)
}

fn network() -> Value {
    let subnets = ["us-west1", "us-east1"].map(|region| {
        format!("https://compute{PROJECT}/regions/{region}/subnetworks/runner-launch")
    });
    json!({"autoCreateSubnetworks": true, "subnetworks": subnets})
}

/// A project in which all is well: one region, three zones, the network.
fn healthy(seen: &Seen) -> Answer {
    let (method, path) = seen.line.split_once(' ').unwrap();
    let tail = path.trim_start_matches(PROJECT);
    let zone = tail.split('/').nth(2);
    let body = match (method, tail) {
        ("GET", "/zones") => {
            let regions = ["us-west1", "us-east1"];
            let filter = seen.param("filter").unwrap_or_default();
            let asked = regions.into_iter().filter(|region| filter.contains(region));
            let zones: Vec<_> = asked
                .flat_map(|region| {
                    ["c", "a", "b"]
                        .map(|letter| json!({"name": format!("{region}-{letter}"), "status": "UP"}))
                })
                .collect();
            json!({ "items": zones })
        }
        ("GET", "/global/networks/runner-launch") => network(),
        ("GET", "/aggregated/instances") => json!({"items": {
            "zones/us-west1-a": {"warning": {"code": "NO_RESULTS_ON_PAGE"}},
        }}),
        ("GET", _) if tail.contains("/images/") => json!({
            "selfLink": "https://compute/compute/v1/projects/ubuntu-os-cloud/global/images/noble",
            "name": "noble", "architecture": "X86_64", "diskSizeGb": "10",
        }),
        ("GET", _) if tail.contains("/machineTypes/") => json!({"architecture": "X86_64"}),
        ("POST", "/global/networks") => operation("net", "RUNNING", None),
        ("POST", "/global/firewalls") => operation("fw", "RUNNING", None),
        ("POST", _) if tail.ends_with("/wait") => operation("op", "DONE", zone),
        ("POST", _) if tail.ends_with("/instances") => operation("op", "RUNNING", zone),
        ("DELETE", _) => operation("gone", "RUNNING", zone),
        _ => return Answer::refusal(404, "notFound", "no such thing"),
    };
    Answer::json(&body)
}

fn insert_in(zone: &str) -> String {
    format!("POST {PROJECT}/zones/{zone}/instances")
}

/// The zones in which an instance was asked for, in order.
fn zones_asked(server: &Server) -> Vec<String> {
    let order = server.order();
    let zones = order.iter().filter_map(|line| {
        let path = line.strip_prefix("POST ")?.strip_suffix("/instances")?;
        path.rsplit('/').next().map(str::to_owned)
    });
    zones.collect()
}

fn inserts(server: &Server) -> Vec<Seen> {
    let mut seen = server.seen();
    seen.retain(|seen| seen.line.starts_with("POST ") && seen.line.ends_with("/instances"));
    seen
}

#[tokio::test]
async fn a_warm_launch_is_one_wave_of_reads_and_one_call() {
    let server = server(|_, _| None).await;
    let plan = cloud(&server).look(&spec()).await.unwrap();
    let mut wave = server.order();
    wave.sort();
    let get = |path: &str| format!("GET {PROJECT}{path}");
    let expected = [
        "GET /compute/v1/projects/ubuntu-os-cloud/global/images/family/ubuntu-2404-lts-amd64"
            .to_owned(),
        get("/aggregated/instances"),
        get("/global/networks/runner-launch"),
        get("/zones"),
    ];
    let mut expected = expected.to_vec();
    expected.sort();
    assert_eq!(wave, expected);
    let instance = plan.create(&Order::example()).await.unwrap();
    let then = server.order().split_off(wave.len());
    assert_eq!(
        then,
        [
            insert_in("us-west1-b"),
            format!("POST {PROJECT}/zones/us-west1-b/operations/op/wait")
        ]
    );
    assert_eq!(instance.reference.id, NAME);
    assert_eq!(instance.reference.region, "us-west1-b");
    assert_eq!(
        instance.image,
        "projects/ubuntu-os-cloud/global/images/noble"
    );
    let sent = inserts(&server).remove(0).json();
    assert_eq!(sent["labels"]["runner-launch-id"], LAUNCH);
    assert_eq!(
        sent["description"],
        format!("runner-launch {LAUNCH}: cml-x for https://github.com/org/repo")
    );
    assert_eq!(
        sent["serviceAccounts"],
        json!([{
            "email": "ci@proj.iam.gserviceaccount.com",
            "scopes": ["https://www.googleapis.com/auth/compute"],
        }])
    );
    // The same order again makes no second one.
    let again = plan.create(&Order::example()).await.unwrap();
    assert_eq!(again.reference, instance.reference);
    assert_eq!(inserts(&server).len(), 1);
}

#[tokio::test]
async fn types_in_known_zones_are_asked_for_with_the_rest() {
    let server = server(|_, _| None).await;
    let mut spec = spec();
    spec.types = vec!["n2-standard-8".into()];
    cloud(&server).look(&spec).await.unwrap();
    let asked: Vec<String> = server
        .order()
        .into_iter()
        .filter(|line| line.contains("/machineTypes/"))
        .collect();
    assert_eq!(asked.len(), 3, "{asked:?}");
    assert!(server.all(&format!("GET {PROJECT}/zones")).len() == 1);
    let filter = server.all(&format!("GET {PROJECT}/zones"));
    assert_eq!(
        filter[0].param("filter").as_deref(),
        Some("name eq \"us-west1-.*\"")
    );
}

#[tokio::test]
async fn lack_of_capacity_leads_to_the_next_zone() {
    let server = server(|seen, _| {
        (seen.line.ends_with("zones/us-west1-b/operations/op/wait")).then(|| {
            failed(
                "us-west1-b",
                "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS",
                "not enough",
            )
        })
    })
    .await;
    let instance = launch(&server, &spec()).await.unwrap();
    assert_eq!(instance.zone.as_deref(), Some("us-west1-a"));
    assert_eq!(zones_asked(&server), ["us-west1-b", "us-west1-a"]);
    let ids: BTreeSet<Option<String>> = inserts(&server)
        .iter()
        .map(|seen| seen.param("requestId"))
        .collect();
    assert_eq!(ids.len(), 2);
}

#[tokio::test]
async fn a_regions_quota_leads_past_the_region_and_is_told_by_name() {
    let server = server(|seen, _| {
        let message = "Quota 'PREEMPTIBLE_CPUS' exceeded.  Limit: 8.0 in region us-west1.";
        let spot = seen.body.contains("\"SPOT\"");
        match seen.line.ends_with("/instances") && seen.line.starts_with("POST") {
            true if spot => Some(Answer::refusal(403, "quotaExceeded", message)),
            true => Some(Answer::refusal(
                403,
                "quotaExceeded",
                "Quota 'CPUS_ALL_REGIONS' exceeded.  Limit: 12.0 globally.",
            )),
            false => None,
        }
    })
    .await;
    let mut spec = spec();
    spec.spot = Some(Spot {
        max_price: None,
        fallback: true,
    });
    spec.regions = vec!["us-west".into(), "us-east1-b".into()];
    let error = launch(&server, &spec).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Capacity);
    assert!(error.is_refusal());
    // Spot in each region once; on demand once for the whole project.
    assert_eq!(
        zones_asked(&server),
        ["us-west1-b", "us-east1-b", "us-west1-b"]
    );
    let told = format!("{} {}", error.chain(), error.hints().join(" "));
    assert!(
        told.contains("PREEMPTIBLE_CPUS") && told.contains("CPUS_ALL_REGIONS"),
        "{told}"
    );
}

#[tokio::test]
async fn after_an_unanswered_call_no_other_way_is_tried() {
    let server = server(|seen, _| {
        let insert = seen.line.ends_with("/instances") && seen.line.starts_with("POST");
        insert.then(Answer::cut)
    })
    .await;
    let error = launch(&server, &spec()).await.unwrap_err();
    assert!(!error.is_refusal());
    assert!(maybe_done(&error), "{}", error.chain());
    let seen = inserts(&server);
    assert!(seen.len() > 1);
    assert!(
        seen.iter()
            .all(|each| each.param("requestId") == seen[0].param("requestId"))
    );
}

#[tokio::test]
async fn a_wait_that_is_refused_says_nothing_of_the_instance() {
    let server = server(|seen, _| {
        (seen.line.ends_with("/wait")).then(|| {
            Answer::refusal(
                403,
                "forbidden",
                "Required 'compute.zoneOperations.get' permission for 'projects/proj'",
            )
        })
    })
    .await;
    let error = launch(&server, &spec()).await.unwrap_err();
    assert!(!error.is_refusal(), "{}", error.chain());
    assert_eq!(error.kind(), Kind::Denied);
    assert_eq!(zones_asked(&server).len(), 1);
}

#[tokio::test]
async fn an_instance_of_an_earlier_try_is_found_by_its_name() {
    let found = |description: &'static str| {
        server(move |seen, _| {
            if seen.line == insert_in("us-west1-b") {
                return Some(Answer::refusal(409, "alreadyExists", "it exists"));
            }
            (seen.line.ends_with(&format!("/instances/{NAME}"))).then(|| {
                Answer::json(
                    &json!({"name": NAME, "description": description, "status": "RUNNING"}),
                )
            })
        })
    };
    let ours = found("runner-launch 0a1b2c3d4e5f6g7h8i9j: cml-x for https://github.com/o/r").await;
    let instance = launch(&ours, &spec()).await.unwrap();
    assert_eq!(instance.reference.id, NAME);
    let other = found("somebody's").await;
    let error = launch(&other, &spec()).await.unwrap_err();
    assert!(
        error.chain().contains("isn't this launch's"),
        "{}",
        error.chain()
    );
}

#[tokio::test]
async fn what_may_not_be_asked_for_is_left_out() {
    let server = server(|seen, _| {
        if seen.line != insert_in("us-west1-b") {
            return None;
        }
        let denied = |permission: &str| {
            let message = format!("Required '{permission}' permission for 'projects/proj/x'");
            Some(Answer::refusal(403, "forbidden", &message))
        };
        let body = seen.json();
        if body.get("labels").is_some() {
            denied("compute.instances.setLabels")
        } else if body.get("serviceAccounts").is_some() {
            Some(Answer::refusal(
                400,
                "invalid",
                "The user does not have access to service account 'ci@proj.iam.gserviceaccount.com'",
            ))
        } else {
            None
        }
    })
    .await;
    launch(&server, &spec()).await.unwrap();
    let sent = inserts(&server);
    assert_eq!(sent.len(), 3);
    let ids: BTreeSet<Option<String>> = sent.iter().map(|seen| seen.param("requestId")).collect();
    assert_eq!(ids.len(), 3, "a request of its own each time");
}

#[tokio::test]
async fn the_users_account_is_never_left_out() {
    let server = server(|seen, _| {
        (seen.line == insert_in("us-west1-b")).then(|| {
            let message = "Required 'iam.serviceAccounts.actAs' permission for 'x'";
            Answer::refusal(403, "forbidden", message)
        })
    })
    .await;
    let mut spec = spec();
    spec.permission_set = Some("users@proj.iam.gserviceaccount.com".into());
    let error = launch(&server, &spec).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    assert!(
        error.hints().iter().any(|hint| hint.contains("users@proj")),
        "{:?}",
        error.hints()
    );
    assert_eq!(inserts(&server).len(), 1);
}

#[tokio::test]
async fn the_network_is_made_once_and_waited_for() {
    let absent = server(|seen, before| {
        (seen.line == format!("GET {NETWORK_URL}/runner-launch") && before == 0)
            .then(|| Answer::refusal(404, "notFound", "no network"))
    })
    .await;
    launch(&absent, &spec()).await.unwrap();
    let made = absent.all(&format!("POST {NETWORK_URL}"));
    assert_eq!(
        made[0].json(),
        json!({
            "name": "runner-launch",
            "description": "CI runners, made by runner-launch",
            "autoCreateSubnetworks": true,
            "routingConfig": {"routingMode": "REGIONAL"},
        })
    );
    assert_eq!(
        absent
            .all(&format!("POST {PROJECT}/global/operations/net/wait"))
            .len(),
        1
    );
    assert_eq!(
        absent
            .all(&format!("POST {PROJECT}/global/firewalls"))
            .len(),
        0
    );
}

#[tokio::test]
async fn a_network_that_another_launch_is_making_is_waited_for() {
    let server = server(|seen, before| {
        let line = seen.line.as_str();
        if line == format!("POST {NETWORK_URL}") {
            return Some(Answer::refusal(409, "alreadyExists", "it exists"));
        }
        if line == format!("GET {NETWORK_URL}/runner-launch") && before == 0 {
            return Some(Answer::refusal(404, "notFound", "no network"));
        }
        // It is there, but says that it isn't ready for the first instance.
        (line == insert_in("us-west1-b") && before == 0).then(|| {
            Answer::refusal(
                400,
                "resourceNotReady",
                "The resource 'network' is not ready",
            )
        })
    })
    .await;
    launch(&server, &spec()).await.unwrap();
    assert_eq!(zones_asked(&server), ["us-west1-b", "us-west1-b"]);
}

#[tokio::test]
async fn ssh_gets_one_rule_and_a_tag() {
    let server = server(|seen, _| {
        (seen.line == format!("POST {PROJECT}/global/firewalls"))
            .then(|| Answer::refusal(409, "alreadyExists", "it exists"))
    })
    .await;
    let mut spec = spec();
    spec.ssh = Some(Ssh {
        authorized_key: None,
        cidrs: Cidr::anywhere(),
    });
    launch(&server, &spec).await.unwrap();
    let rule = server.all(&format!("POST {PROJECT}/global/firewalls"));
    assert_eq!(rule[0].json()["sourceRanges"], json!(["0.0.0.0/0"]));
    let sent = inserts(&server).remove(0).json();
    assert_eq!(sent["tags"], json!({"items": ["runner-launch-ssh"]}));
}

#[tokio::test]
async fn stopped_instances_of_ours_are_deleted_beside_the_creation() {
    let server = server(|seen, _| {
        (seen.line == format!("GET {PROJECT}/aggregated/instances")).then(|| {
            let item = |name: &str, since: &str, status: &str| {
                json!({
                    "name": name,
                    "description": "runner-launch bbbbbbbbbbbbbbbbbbbb: x for https://github.com/o/r",
                    "status": status,
                    "zone": format!("https://compute{PROJECT}/zones/us-west1-a"),
                    "lastStopTimestamp": since,
                })
            };
            // The clock of these tests stands at 2026-01-01T00:00:00Z.
            Answer::json(&json!({"items": {"zones/us-west1-a": {"instances": [
                item("old-bbbbbbbbbbbb", "2025-12-31T15:00:00.000-08:00", "TERMINATED"),
                item("new-bbbbbbbbbbbb", "2025-12-31T15:58:00.000-08:00", "TERMINATED"),
                item("up-bbbbbbbbbbbb", "2025-12-31T15:00:00.000-08:00", "RUNNING"),
                item("database-1", "2025-12-31T15:00:00.000-08:00", "TERMINATED"),
            ]}}}))
        })
    })
    .await;
    launch(&server, &spec()).await.unwrap();
    let deleted: Vec<String> = server
        .order()
        .into_iter()
        .filter(|line| line.starts_with("DELETE "))
        .collect();
    assert_eq!(
        deleted,
        [format!(
            "DELETE {PROJECT}/zones/us-west1-a/instances/old-bbbbbbbbbbbb"
        )]
    );
    let listed = server.all(&format!("GET {PROJECT}/aggregated/instances"));
    assert_eq!(
        listed[0].param("filter").as_deref(),
        Some("description eq \"runner-launch .*\"")
    );
    assert!(!listed[0].param("fields").unwrap().contains("metadata"));
}

#[tokio::test]
async fn a_launch_that_is_given_up_hears_at_once_what_to_destroy() {
    let server = server(|seen, _| {
        (seen.line.ends_with("/wait")).then(|| {
            Answer::json(&operation("op", "RUNNING", Some("us-west1-b")))
                .after(Duration::from_secs(60))
        })
    })
    .await;
    let plan = cloud(&server).look(&spec()).await.unwrap();
    let order = Order::example();
    let creation = async { plan.create(&order).await };
    let giving_up = async {
        while !server.order().iter().any(|line| line.ends_with("/wait")) {
            sleep(Duration::from_millis(5)).await;
        }
        order.stop.raise();
    };
    let (instance, ()) = tokio::time::timeout(Duration::from_secs(5), async {
        tokio::join!(creation, giving_up)
    })
    .await
    .unwrap();
    assert_eq!(instance.unwrap().reference.id, NAME);
    let plan = cloud(&server).look(&spec()).await.unwrap();
    assert!(plan.create(&order).await.is_err());
    assert_eq!(inserts(&server).len(), 1);
}

#[tokio::test]
async fn destroying_is_done_when_it_is_gone() {
    let reference = |region: &str| InstanceRef {
        id: NAME.into(),
        region: region.into(),
    };
    let gone = server(|seen, before| {
        let deleting = seen.line.starts_with("DELETE ");
        match (deleting, before) {
            // Its creation isn't over, or somebody else is deleting it.
            (true, 0) => Some(Answer::refusal(400, "resourceNotReady", "is not ready")),
            (true, _) => Some(Answer::refusal(404, "notFound", "not found")),
            _ => None,
        }
    })
    .await;
    cloud(&gone)
        .destroy(&reference("us-west1-b"))
        .await
        .unwrap();
    let asked = gone.seen();
    assert_eq!(asked.len(), 2);
    assert_ne!(asked[0].param("requestId"), asked[1].param("requestId"));
    // With a region alone, its zone is looked for; no such instance is as good as gone.
    let server = server(|_, _| None).await;
    cloud(&server)
        .destroy(&reference("us-west1"))
        .await
        .unwrap();
    let asked = server.seen();
    assert_eq!(asked.len(), 1);
    assert_eq!(
        asked[0].param("filter").as_deref(),
        Some("name = \"cml-x-0a1b2c3d4e5f\"")
    );
}

#[tokio::test]
async fn a_machine_can_delete_itself_and_no_job_can_read_how() {
    let server = server(|_, _| None).await;
    let plan = cloud(&server).look(&spec()).await.unwrap();
    let machine = plan.machine();
    let api = format!("{}/compute/v1/", server.url);
    assert!(matches!(&machine.give_back, GiveBack::Gcp { api: told } if told.as_str() == api));
    assert!(
        machine
            .farewell
            .starts_with(&format!("compute_api='{api}'\n"))
    );
    assert_eq!(machine.closed, ClosedMetadata::All);
    let mut spec = spec();
    spec.permission_set = Some("users@p.iam.gserviceaccount.com,scopes=storage-rw".into());
    let machine = cloud(&server).look(&spec).await.unwrap().machine();
    assert!(matches!(machine.give_back, GiveBack::PowerOff));
    assert_eq!(machine.farewell, "");
    assert!(matches!(machine.closed, ClosedMetadata::Paths(_)));
}
