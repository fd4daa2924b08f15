use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::*;

fn reply(status: u16, body: impl Into<Bytes>) -> Reply {
    Reply {
        status: StatusCode::from_u16(status).unwrap(),
        headers: HeaderMap::new(),
        body: body.into(),
    }
}

fn document(status: u16, reason: &str, message: &str) -> Reply {
    let error = json!({
        "code": status,
        "message": message,
        "errors": [{ "message": message, "domain": "global", "reason": reason }],
    });
    reply(status, json!({ "error": error }).to_string())
}

fn read(status: u16, reason: &str, message: &str) -> Refusal {
    Refusal::read(COMPUTE, &document(status, reason, message))
}

fn operation(status: u16, errors: Value) -> Refusal {
    let items: Vec<OperationItem> = serde_json::from_value(errors).unwrap();
    Refusal::of_operation(status, &items)
}

#[test]
fn every_shape_is_read() {
    let refusal = read(404, "notFound", "The resource 'x' was not found");
    assert_eq!(
        refusal.to_string(),
        "Compute Engine answered notFound: The resource 'x' was not found"
    );
    let oauth = r#"{"error":"invalid_grant","error_description":"Invalid JWT Signature."}"#;
    let refusal = Refusal::read("Google's token service", &reply(400, oauth));
    assert_eq!(
        refusal.to_string(),
        "Google's token service answered invalid_grant: Invalid JWT Signature."
    );
    let proxy = Refusal::read(COMPUTE, &reply(502, "<html>"));
    assert_eq!(proxy.to_string(), "Compute Engine answered 502 Bad Gateway");
    assert!(proxy.failed);
    // A detail of a kind that isn't known, with values that aren't text.
    let odd = json!({ "error": { "code": 400, "message": "m", "status": "INVALID_ARGUMENT",
        "details": [{ "@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [] },
                    { "reason": "NEW_REASON", "metadata": { "count": 3 } }] } });
    assert_eq!(
        Refusal::read(COMPUTE, &reply(400, odd.to_string())).reason,
        "NEW_REASON"
    );
}

#[test]
fn a_detail_is_more_exact_than_a_reason() {
    let scope = json!({ "error": {
        "code": 403,
        "message": "Request had insufficient authentication scopes.",
        "errors": [{ "message": "Insufficient Permission", "domain": "global",
                     "reason": "insufficientPermissions" }],
        "status": "PERMISSION_DENIED",
        "details": [{ "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                      "reason": "ACCESS_TOKEN_SCOPE_INSUFFICIENT", "domain": "googleapis.com",
                      "metadatas": { "service": "compute.googleapis.com" } }],
    }});
    let refusal = Refusal::read(COMPUTE, &reply(403, scope.to_string()));
    assert_eq!(refusal.reason, "ACCESS_TOKEN_SCOPE_INSUFFICIENT");
    assert_eq!(refusal.meaning(), Meaning::Denied);
    let error = refusal.during("asking");
    assert!(error.hints()[0].contains("auth/compute"), "{error:?}");

    let iam = json!({ "error": {
        "code": 403,
        "message": "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist).",
        "status": "PERMISSION_DENIED",
        "details": [{ "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                      "reason": "IAM_PERMISSION_DENIED", "domain": "iam.googleapis.com",
                      "metadata": { "permission": "iam.serviceAccounts.getAccessToken" } }],
    }});
    let refusal = Refusal::read("IAM", &reply(403, iam.to_string()));
    assert!(refusal.lacks("iam.serviceAccounts.getAccessToken"));
    let error = refusal.of_token("getting a token");
    assert_eq!(error.kind(), Kind::Denied);
    assert_eq!(error.hints(), ["grant iam.serviceAccounts.getAccessToken"]);
}

#[test]
fn every_missing_permission_is_named() {
    let [create, labels] = ["create", "setLabels"].map(|verb| {
        format!(
            "Required 'compute.instances.{verb}' permission for 'projects/p/zones/z/instances/n'"
        )
    });
    let body = json!({ "error": { "code": 403, "message": create, "errors": [
        { "message": create, "reason": "forbidden" },
        { "message": labels, "reason": "forbidden" },
    ]}});
    let refusal = Refusal::read(COMPUTE, &reply(403, body.to_string()));
    assert_eq!(
        refusal.permissions,
        ["compute.instances.create", "compute.instances.setLabels"]
    );
    assert_eq!(
        refusal.during("x").hints(),
        ["grant compute.instances.create, compute.instances.setLabels"]
    );
}

/// The call is accepted; its operation ends with status 400.
#[test]
fn a_service_account_that_may_not_be_used_is_told_by_the_operation() {
    let refusal = operation(
        400,
        json!([{ "code": "SERVICE_ACCOUNT_ACCESS_DENIED",
            "message": "The user does not have access to service account 'a@p.iam.gserviceaccount.com'.  \
                        User: 'b@p.iam.gserviceaccount.com'.  Ask a project owner to grant you the \
                        iam.serviceAccountUser role on the service account" }]),
    );
    assert_eq!(refusal.meaning(), Meaning::Denied);
    assert!(refusal.lacks(ACT_AS));
    assert!(!refusal.message.contains("  "), "{refusal}");
}

#[test]
fn an_exhausted_zone_names_those_with_capacity() {
    let refusal = operation(
        503,
        json!([{
            "code": "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS",
            "message": "The zone 'projects/p/zones/us-central1-b' does not have enough resources \
                        available to fulfill the request.  'NULL:0/NULL:0 (state:STOCKOUT)'",
            "errorDetails": [
                { "help": { "links": [{ "description": "d", "url": "https://x" }] } },
                { "localizedMessage": { "locale": "en-US",
                    "message": "A n1-standard-4 VM instance with 1 nvidia-tesla-t4 accelerator(s) is \
                                currently unavailable in the us-central1-b zone." } },
                { "errorInfo": { "domain": "compute.googleapis.com", "reason": "resource_availability",
                    "metadatas": { "zone": "us-central1-b", "zonesAvailable": "us-central1-a,us-central1-f" } } },
            ],
        }]),
    );
    assert_eq!(refusal.meaning(), Meaning::ZoneCapacity);
    assert_eq!(refusal.zones_available, ["us-central1-a", "us-central1-f"]);
    assert!(
        refusal.message.contains("currently unavailable"),
        "{refusal}"
    );
    let error = refusal.during("launching");
    assert_eq!(error.kind(), Kind::Capacity);
    assert!(error.is_refusal());
    assert!(error.hints()[0].contains("us-central1-a, us-central1-f"));
}

#[test]
fn a_quota_has_a_name_a_limit_and_a_scope() {
    let details = |dimensions: Value, limit: &str| {
        json!([{
            "code": "QUOTA_EXCEEDED",
            "message": "",
            "errorDetails": [{ "quotaInfo": {
                "metricName": "compute.googleapis.com/nvidia_t4_gpus", "limitName": limit,
                "dimensions": dimensions, "limit": 1.0 } }],
        }])
    };
    let quota = |name: &str, limit: &str, scope| {
        Some(Quota {
            name: name.into(),
            limit: Some(limit.into()),
            scope,
        })
    };
    let region = json!({ "region": "us-west1" });
    let refusal = operation(403, details(region, "NVIDIA-T4-GPUS-per-project-region"));
    let expected = quota("NVIDIA-T4-GPUS-per-project-region", "1.0", Scope::Region);
    assert_eq!(refusal.quota, expected);
    let zone = json!({ "zone": "us-west1-b" });
    assert_eq!(
        operation(403, details(zone, "X-per-project-zone")).meaning(),
        Meaning::Quota(Scope::Zone)
    );
    let refusal = operation(403, details(json!({}), "GPUS-ALL-REGIONS-per-project"));
    assert_eq!(refusal.meaning(), Meaning::Quota(Scope::Project));

    // The words, which calls refused at once have alone.
    let cases = [
        (
            "Quota 'NVIDIA_T4_GPUS' exceeded.  Limit: 0.0 in region us-west1.",
            "NVIDIA_T4_GPUS",
            "0.0",
            Scope::Region,
        ),
        (
            "Quota 'GPUS_ALL_REGIONS' exceeded.  Limit: 0.0 globally.",
            "GPUS_ALL_REGIONS",
            "0.0",
            Scope::Project,
        ),
        (
            "Quota 'CPUS' exceeded. Limit: 24.0 in zone us-west1-b.",
            "CPUS",
            "24.0",
            Scope::Zone,
        ),
    ];
    for (message, name, limit, scope) in cases {
        let refusal = read(403, "quotaExceeded", message);
        assert_eq!(refusal.quota, quota(name, limit, scope), "{message}");
        assert_eq!(refusal.meaning(), Meaning::Quota(scope));
        let error = refusal.during("launching");
        assert_eq!(error.kind(), Kind::Capacity);
        assert!(error.hints()[0].contains(name), "{error:?}");
    }
}

/// What is tried again at once and what the user's exit code will be, pinned.
#[test]
fn the_table_of_answers() {
    let retry = true;
    let region = Meaning::Quota(Scope::Region);
    let cases = [
        (
            401,
            "authError",
            "Invalid Credentials",
            Meaning::Credentials,
            !retry,
        ),
        (
            401,
            "required",
            "Login Required",
            Meaning::Credentials,
            !retry,
        ),
        (
            403,
            "forbidden",
            "Required 'compute.zones.list' permission for 'x'",
            Meaning::Denied,
            !retry,
        ),
        (
            403,
            "accessNotConfigured",
            "has not been used in project",
            Meaning::Denied,
            !retry,
        ),
        (403, "somethingNew", "no", Meaning::Denied, !retry),
        (
            403,
            "quotaExceeded",
            "Quota 'CPUS' exceeded.  Limit: 24.0 in region r.",
            region,
            !retry,
        ),
        (403, "quotaExceeded", "words", region, !retry),
        (
            403,
            "rateLimitExceeded",
            "Rate Limit Exceeded",
            Meaning::Throttled,
            retry,
        ),
        (
            403,
            "quotaExceeded",
            "Quota exceeded for quota metric 'Read requests' and limit …",
            Meaning::Throttled,
            retry,
        ),
        (
            404,
            "notFound",
            "The resource 'projects/p/global/networks/n' was not found",
            Meaning::Missing,
            !retry,
        ),
        (
            404,
            "notFound",
            "The resource 'projects/p/zones/z/acceleratorTypes/nvidia-tesla-k80' was not found",
            Meaning::ZoneCapacity,
            !retry,
        ),
        (
            404,
            "notFound",
            "The resource 'projects/p/zones/z/machineTypes/n4-x' was not found",
            Meaning::ZoneCapacity,
            !retry,
        ),
        (
            400,
            "invalid",
            "Machine type with name 'n4-x' does not exist in zone 'z'.",
            Meaning::ZoneCapacity,
            !retry,
        ),
        (
            400,
            "invalid",
            "Invalid value for field 'resource.name'",
            Meaning::Other,
            !retry,
        ),
        (
            400,
            "resourceNotReady",
            "The resource 'projects/p/global/networks/n' is not ready",
            Meaning::NotReady,
            !retry,
        ),
        (
            400,
            "somethingNew",
            "The resource 'n' is not ready",
            Meaning::NotReady,
            !retry,
        ),
        (
            400,
            "resourceInUseByAnotherResource",
            "in use",
            Meaning::NotReady,
            !retry,
        ),
        (
            409,
            "alreadyExists",
            "The resource 'x' already exists",
            Meaning::Exists,
            !retry,
        ),
        (
            412,
            "conditionNotMet",
            "Constraint constraints/compute.vmExternalIpAccess violated",
            Meaning::Denied,
            !retry,
        ),
        (
            412,
            "conditionNotMet",
            "fingerprint",
            Meaning::Other,
            !retry,
        ),
        (429, "somethingNew", "", Meaning::Throttled, retry),
        (
            500,
            "internalError",
            "Internal error",
            Meaning::Other,
            retry,
        ),
        (
            503,
            "backendError",
            "Backend Error",
            Meaning::Throttled,
            retry,
        ),
        (
            503,
            "insufficientCapacity",
            "no",
            Meaning::ZoneCapacity,
            !retry,
        ),
    ];
    for (status, reason, message, meaning, retried) in cases {
        let reply = document(status, reason, message);
        let refusal = Refusal::read(COMPUTE, &reply);
        assert_eq!(refusal.meaning(), meaning, "{status} {reason} {message}");
        let verdict = judge(COMPUTE, &reply);
        assert_eq!(
            verdict != Verdict::Final,
            retried,
            "{status} {reason} {message}"
        );
        let kind = match meaning {
            Meaning::Credentials | Meaning::Denied => Kind::Denied,
            Meaning::ZoneCapacity | Meaning::Quota(_) => Kind::Capacity,
            _ => Kind::Other,
        };
        assert_eq!(refusal.during("x").kind(), kind, "{status} {reason}");
    }
    assert_eq!(judge(COMPUTE, &reply(200, "{}")), Verdict::Final);
    assert_ne!(judge(COMPUTE, &reply(502, "<html>")), Verdict::Final);
}

#[test]
fn only_a_clear_answer_says_that_nothing_was_done() {
    assert!(!read(500, "internalError", "").during("x").is_refusal());
    assert!(read(400, "invalid", "").during("x").is_refusal());
    let failed = |code: &str| operation(500, json!([{ "code": code, "message": "m" }]));
    assert!(!failed("INTERNAL_ERROR").during("x").is_refusal());
    assert!(failed("RESOURCE_NOT_FOUND").during("x").is_refusal());
    // A token service's refusal is a matter of who we are, whatever it says.
    let odd = Refusal::read("STS", &reply(400, r#"{"error":"something_new"}"#));
    assert_eq!(odd.of_token("x").kind(), Kind::Denied);
    let down = Refusal::read("STS", &reply(503, ""));
    assert_eq!(down.of_token("x").kind(), Kind::Other);
}
