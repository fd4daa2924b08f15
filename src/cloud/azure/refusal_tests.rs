use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::json;

use super::*;

fn reply(status: u16, body: impl Into<Bytes>) -> Reply {
    Reply {
        status: StatusCode::from_u16(status).unwrap(),
        headers: HeaderMap::new(),
        body: body.into(),
    }
}

fn arm(status: u16, code: &str, message: &str) -> Reply {
    let body = json!({ "error": { "code": code, "message": message } });
    reply(status, body.to_string())
}

fn read(status: u16, code: &str, message: &str) -> Refusal {
    Refusal::read(RESOURCE_MANAGER, &arm(status, code, message))
}

const FAMILY: &str = "Operation could not be completed as it results in exceeding approved \
    standardNCASv3_T4Family Cores quota. Additional details - Deployment Model: Resource Manager, \
    Location: westus2, Current Limit: 0, Current Usage: 0, Additional Required: 4, (Minimum) New \
    Limit Required: 4. Submit a request for Quota increase at https://aka.ms/x by specifying \
    parameters listed in the 'Details' section for deployment to succeed.";

/// What is tried again and what the user's exit code will be, pinned.
#[test]
fn the_table_of_codes() {
    let retry = true;
    let cases = [
        (429, "TooManyRequests", retry, Meaning::Throttled),
        (429, "SomethingNew", retry, Meaning::Throttled),
        (503, "ServerTimeout", retry, Meaning::Throttled),
        (503, "ServiceUnavailable", retry, Meaning::Throttled),
        (500, "InternalServerError", retry, Meaning::Other),
        (409, "AnotherOperationInProgress", retry, Meaning::Busy),
        (429, "RetryableError", retry, Meaning::Busy),
        (
            400,
            "ReferencedResourceNotProvisioned",
            retry,
            Meaning::Busy,
        ),
        (400, "NicReservedForAnotherVm", retry, Meaning::Busy),
        (400, "InvalidParameter", !retry, Meaning::Other),
        (409, "Conflict", !retry, Meaning::Conflict),
        (409, "PropertyChangeNotAllowed", !retry, Meaning::Conflict),
        (409, "RoleAssignmentExists", !retry, Meaning::Conflict),
        (409, "OperationNotAllowed", !retry, Meaning::Conflict),
        (409, "ResourceGroupBeingDeleted", !retry, Meaning::Deleting),
        (400, "PrincipalNotFound", !retry, Meaning::PrincipalUnknown),
        (404, "ResourceNotFound", !retry, Meaning::Missing),
        (404, "ResourceGroupNotFound", !retry, Meaning::Missing),
        (404, "PlatformImageNotFound", !retry, Meaning::Missing),
        (409, "SkuNotAvailable", !retry, Meaning::Capacity),
        (409, "AllocationFailed", !retry, Meaning::Capacity),
        (409, "ZonalAllocationFailed", !retry, Meaning::Capacity),
        (
            409,
            "OverconstrainedAllocationRequest",
            !retry,
            Meaning::Capacity,
        ),
        (403, "RequestDisallowedByAzure", !retry, Meaning::Capacity),
        (
            409,
            "SpotPriceGreaterThanProvidedMaxPrice",
            !retry,
            Meaning::Capacity,
        ),
        (
            400,
            "PublicIPCountLimitReached",
            !retry,
            Meaning::RegionQuota,
        ),
        (
            401,
            "InvalidAuthenticationToken",
            !retry,
            Meaning::Credentials,
        ),
        (
            401,
            "ExpiredAuthenticationToken",
            !retry,
            Meaning::Credentials,
        ),
        (
            401,
            "InvalidAuthenticationTokenTenant",
            !retry,
            Meaning::Credentials,
        ),
        (403, "AuthorizationFailed", !retry, Meaning::Denied),
        (403, "LinkedAuthorizationFailed", !retry, Meaning::Denied),
        (403, "RequestDisallowedByPolicy", !retry, Meaning::Denied),
        (404, "SubscriptionNotFound", !retry, Meaning::Denied),
        (
            409,
            "MissingSubscriptionRegistration",
            !retry,
            Meaning::Denied,
        ),
        (409, "ScopeLocked", !retry, Meaning::Denied),
    ];
    for (status, code, retried, meaning) in cases {
        let reply = arm(status, code, "words");
        assert_eq!(judge(&reply) != Verdict::Final, retried, "{code} {status}");
        let refusal = Refusal::read(RESOURCE_MANAGER, &reply);
        assert_eq!(refusal.meaning(), meaning, "{code}");
        let error = refusal.during("creating");
        assert_eq!(error.kind(), meaning.kind(), "{code}");
        assert_eq!(error.is_refusal(), status < 500, "{code}");
        assert_eq!(
            error.chain(),
            format!("creating: Azure Resource Manager answered {code}: words")
        );
    }
    assert_eq!(judge(&reply(201, "")), Verdict::Final);
    assert_ne!(judge(&reply(502, "<html>")), Verdict::Final);
}

#[test]
fn a_quota_has_its_name_and_what_it_counts_for() {
    let of = |message: &str| read(409, "OperationNotAllowed", message);
    let family = of(FAMILY);
    assert_eq!(family.meaning(), Meaning::FamilyQuota);
    assert_eq!(
        family.quota.as_deref(),
        Some("standardNCASv3_T4Family Cores")
    );
    assert!(
        family.message.ends_with("Required: 4."),
        "{}",
        family.message
    );
    let error = family.during("creating");
    assert_eq!(error.kind(), Kind::Capacity);
    let hint = &error.hints()[0];
    assert!(hint.contains("standardNCASv3_T4Family Cores at https://portal.azure.com/#view/"));
    let mut elsewhere = of(FAMILY);
    elsewhere.portal = Portal::Government;
    let error = elsewhere.during("creating");
    assert!(error.hints()[0].contains("at https://portal.azure.us/#view/"));
    let spot = of(&FAMILY.replace("standardNCASv3_T4Family Cores", "LowPriorityCores"));
    assert_eq!(spot.meaning(), Meaning::SpotQuota);
    let region = of(&FAMILY.replace("standardNCASv3_T4Family", "Total Regional"));
    assert_eq!(region.meaning(), Meaning::RegionQuota);
    assert_eq!(region.quota.as_deref(), Some("Total Regional Cores"));
    let old = "Operation results in exceeding quota limits of Core. Maximum allowed: 10, Current in \
               use: 0, Additional requested: 12.";
    let old = read(409, "QuotaExceeded", old);
    assert_eq!(
        (old.meaning(), old.quota.as_deref()),
        (Meaning::RegionQuota, Some("Core"))
    );
    let addresses = read(
        400,
        "PublicIPCountLimitReached",
        "Cannot create more than 10",
    );
    assert_eq!(
        addresses.quota.as_deref(),
        Some("PublicIPCountLimitReached")
    );
    let state = of("The VM can't be changed while it is deallocating.");
    assert_eq!((state.meaning(), state.quota), (Meaning::Conflict, None));
}

#[test]
fn a_conflict_with_another_operation_passes() {
    for message in [
        "Another operation is in progress on the selected resource.",
        "The request failed due to conflict with a concurrent request.",
    ] {
        let reply = arm(409, "Conflict", message);
        assert_ne!(judge(&reply), Verdict::Final, "{message}");
        let meaning = Refusal::read(RESOURCE_MANAGER, &reply).meaning();
        assert_eq!(meaning, Meaning::Busy, "{message}");
    }
}

#[test]
fn what_is_wrong_with_the_subscription_has_advice_of_its_own() {
    let missing = "The subscription is not registered to use namespace 'Microsoft.Network'. See x.";
    for (code, message, hint) in [
        ("SubscriptionNotFound", "", "az account list"),
        ("DisabledSubscription", "", "AZURE_SUBSCRIPTION_ID"),
        (
            "MissingSubscriptionRegistration",
            missing,
            "--namespace Microsoft.Network;",
        ),
        (
            "SubscriptionNotRegistered",
            "",
            "--namespace Microsoft.Compute;",
        ),
    ] {
        let error = read(409, code, message).during("looking");
        assert!(error.hints()[0].contains(hint), "{:?}", error.hints());
    }
}

#[test]
fn limits_that_no_other_size_or_region_helps_against_have_advice_of_their_own() {
    for (code, hint) in [
        ("RoleAssignmentLimitExceeded", "role assignments"),
        ("ResourceGroupQuotaExceeded", "runner-launch sweep"),
    ] {
        let error = read(400, code, "words").during("creating");
        assert!(error.hints()[0].contains(hint), "{:?}", error.hints());
    }
}

#[test]
fn a_size_that_a_region_never_had_is_want_of_capacity() {
    let message = "The value Standard_X provided for the VM size is not valid. The valid sizes in \
                   the current region are: Standard_B1s";
    assert_eq!(
        read(400, "InvalidParameter", message).meaning(),
        Meaning::Capacity
    );
}

#[test]
fn the_most_telling_of_nested_errors_is_told() {
    let error = json!({ "code": "DeploymentFailed", "message": "See details.", "details": [
        { "code": "Outer", "message": "more" },
        { "code": "Inner", "details": [{ "code": "AllocationFailed", "message": "No\r\nroom." }] },
    ]});
    let refusal = Refusal::of_operation("Failed", &error);
    assert_eq!(
        refusal.to_string(),
        "Azure Resource Manager answered AllocationFailed: No room."
    );
    assert_eq!(refusal.meaning(), Meaning::Capacity);
    // It has done something before it failed.
    assert!(!refusal.during("creating").is_refusal());
    let without = Refusal::of_operation("Canceled", &Value::Null);
    assert_eq!(
        without.to_string(),
        "Azure Resource Manager answered Canceled"
    );
    // Some providers leave the outer level away; a proxy says nothing that can be read.
    let flat = reply(404, r#"{"code":"NotFound","message":"gone"}"#);
    assert_eq!(Refusal::read(RESOURCE_MANAGER, &flat).code, "NotFound");
    let page = Refusal::read(RESOURCE_MANAGER, &reply(502, "<html>"));
    assert_eq!(
        page.to_string(),
        "Azure Resource Manager answered 502 Bad Gateway"
    );
}

#[test]
fn a_denial_names_what_is_missing() {
    let refusal = read(
        403,
        "AuthorizationFailed",
        "The client 'x' with object id 'y' does not have authorization to perform action \
         'Microsoft.Compute/virtualMachines/write' over scope '/subscriptions/s' or the scope is \
         invalid. If access was recently granted, please refresh your credentials.",
    );
    assert!(refusal.denies("microsoft.compute/virtualmachines/WRITE"));
    let error = refusal.during("creating");
    assert_eq!(error.kind(), Kind::Denied);
    assert!(error.hints()[0].starts_with("allow Microsoft.Compute/virtualMachines/write by"));
    let linked = read(
        403,
        "LinkedAuthorizationFailed",
        "The client has permission to perform action 'Microsoft.Compute/virtualMachines/write' on \
         scope 'a'; however, it does not have permission to perform action(s) \
         'Microsoft.ManagedIdentity/userAssignedIdentities/assign/action' on the linked scope(s) \
         'b' (respectively) or the linked scope(s) are invalid.",
    );
    assert_eq!(
        linked.actions,
        ["Microsoft.ManagedIdentity/userAssignedIdentities/assign/action"]
    );
}

#[test]
fn a_failed_sign_in_is_told_by_its_number_with_advice() {
    let body = |error: &str, description: &str| {
        json!({ "error": error, "error_description": description }).to_string()
    };
    let cases = [
        (
            "AADSTS7000215: Invalid client secret provided.",
            "the secret's value",
        ),
        (
            "AADSTS7000222: The provided client secret keys are expired.",
            "another one",
        ),
        ("AADSTS700016: Application not found.", "AZURE_CLIENT_ID"),
        ("AADSTS90002: Tenant 'x' not found.", "AZURE_TENANT_ID"),
        (
            "AADSTS700213: No matching federated identity record found.",
            "subject",
        ),
        (
            "AADSTS7002138: No matching federated identity record found.",
            "upper and lower",
        ),
        (
            "AADSTS700024: Client assertion is not within its valid time range.",
            "clock",
        ),
        (
            "AADSTS700027: The certificate isn't registered.",
            "upload it",
        ),
        ("AADSTS1: Something new.", "check the Azure credentials"),
    ];
    for (description, hint) in cases {
        let long = format!("{description} Trace ID: 1-2 Correlation ID: 3 Timestamp: now");
        let refusal = Refusal::read(ENTRA, &reply(400, body("invalid_client", &long)));
        let error = refusal.of_token("signing in");
        assert_eq!(error.kind(), Kind::Denied);
        assert_eq!(
            error.chain(),
            format!("signing in: Microsoft Entra answered {description}")
        );
        assert!(error.hints()[0].contains(hint), "{:?}", error.hints());
    }
    let busy = body("temporarily_unavailable", "AADSTS90033: A transient error.");
    let busy = Refusal::read(ENTRA, &reply(400, busy));
    assert_eq!(busy.meaning(), Meaning::Throttled);
    assert_eq!(busy.of_token("signing in").kind(), Kind::Other);
}
