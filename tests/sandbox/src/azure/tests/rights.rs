//! Who may do what.

use super::*;
use crate::FaultKind;
use crate::entra::role;

fn assignment(role: &str, principal: &str, kind: Option<&str>) -> Value {
    let mut body = json!({"properties": {
        "roleDefinitionId": format!("/providers/Microsoft.Authorization/roleDefinitions/{role}"),
        "principalId": principal,
    }});
    if let Some(kind) = kind {
        body["properties"]["principalType"] = kind.into();
    }
    body
}

#[tokio::test]
async fn each_action_is_needed_where_it_counts() {
    let lab = lab().await;
    lab.prepare("ci-1", "westus2").await;
    let body = machine_body("ci-1", "");
    for (action, code) in [
        (
            "Microsoft.Compute/virtualMachines/write",
            "AuthorizationFailed",
        ),
        ("Microsoft.Compute/disks/write", "LinkedAuthorizationFailed"),
        (
            "Microsoft.Network/virtualNetworks/subnets/join/action",
            "LinkedAuthorizationFailed",
        ),
        (
            "Microsoft.Network/networkSecurityGroups/join/action",
            "LinkedAuthorizationFailed",
        ),
        (
            "Microsoft.Network/publicIPAddresses/write",
            "LinkedAuthorizationFailed",
        ),
    ] {
        let rights = &lab.azure.entra().directory().rights;
        let all: Vec<&str> = include_str!("../../../../data/permissions-azure.txt")
            .lines()
            .collect();
        let others: Vec<&str> = all
            .iter()
            .copied()
            .filter(|known| *known != action)
            .collect();
        assert_eq!(others.len() + 1, all.len(), "{action} is not listed");
        rights.allow_only(&others);
        let got = lab.put_machine("ci-1", &body).await;
        assert_eq!((got.status, got.code()), (403, code), "{action}");
        assert!(got.message().contains(action), "{got:?}");
        rights.allow_only(&all);
    }
    let path = "/providers/Microsoft.Authorization/permissions";
    let got = lab.get(path, AUTHORIZATION).await;
    let [permission] = &got.body["value"].as_array().unwrap()[..] else {
        panic!("not one: {got:?}");
    };
    check("authorization.Permission", permission, Side::Answer).unwrap();
    let actions = permission["actions"].as_array().unwrap();
    assert!(actions.contains(&"Microsoft.Authorization/roleAssignments/write".into()));
}

#[tokio::test]
async fn role_assignments_are_refused_as_authorization_does() {
    let lab = lab().await;
    lab.prepare("ci-1", "westus2").await;
    let id = lab.azure.add_identity("runner", &[]);
    let principal = lab.azure.entra().directory().identity(&id).unwrap().object;
    let nobody = "11111111-2222-4333-8444-555555555555";
    let (one, two) = (
        "3f8a1b52-0c7d-4e8b-9f26-a95b0c4e7d31",
        "3f8a1b52-0c7d-4e8b-9f26-a95b0c4e7d32",
    );
    let contributor =
        |principal: &str| assignment(role::CONTRIBUTOR, principal, Some("ServicePrincipal"));
    for (group, name, body, status, code) in [
        (
            "ci-1",
            "mine",
            contributor(&principal),
            400,
            "InvalidRoleAssignmentId",
        ),
        (
            "ci-9",
            one,
            contributor(&principal),
            404,
            "ResourceGroupNotFound",
        ),
        (
            "ci-1",
            one,
            assignment("x", &principal, None),
            400,
            "RoleDefinitionDoesNotExist",
        ),
        (
            "ci-1",
            one,
            assignment(role::READER, nobody, None),
            400,
            "PrincipalNotFound",
        ),
        (
            "ci-1",
            one,
            json!({"roleDefinitionId": "x"}),
            400,
            "InvalidRequestContent",
        ),
        ("ci-1", one, contributor(&principal), 201, ""),
        ("ci-1", one, contributor(&principal), 200, ""),
        (
            "ci-1",
            two,
            contributor(&principal),
            409,
            "RoleAssignmentExists",
        ),
        (
            "ci-1",
            one,
            contributor(nobody),
            400,
            "RoleAssignmentUpdateNotPermitted",
        ),
    ] {
        let path = format!(
            "/resourceGroups/{group}/providers/Microsoft.Authorization/roleAssignments/{name}"
        );
        let got = lab.call("PUT", &path, AUTHORIZATION, &body).await;
        assert_eq!((got.status, got.code()), (status, code), "{body}: {got:?}");
    }
    lab.azure.refuse_principals(1);
    let path =
        format!("/resourceGroups/ci-1/providers/Microsoft.Authorization/roleAssignments/{two}");
    let body = assignment(role::READER, &principal, Some("ServicePrincipal"));
    let got = lab.call("PUT", &path, AUTHORIZATION, &body).await;
    assert_eq!(got.code(), "PrincipalNotFound");
    assert_eq!(
        lab.call("PUT", &path, AUTHORIZATION, &body).await.status,
        201
    );
}

#[tokio::test]
async fn faults_are_said_in_its_own_words() {
    let lab = lab().await;
    for (kind, status, code) in [
        (FaultKind::Denied, 403, "AuthorizationFailed"),
        (FaultKind::Throttled, 429, "SubscriptionRequestsThrottled"),
        (FaultKind::Capacity, 409, "SkuNotAvailable"),
        (FaultKind::Status(500), 500, "InternalServerError"),
    ] {
        lab.sandbox.fault("arm:LIST resourceGroups", Some(1), kind);
        let got = lab.get("/resourcegroups", RESOURCES).await;
        assert_eq!((got.status, got.code()), (status, code));
        assert_eq!(got.header("retry-after") == "1", status == 429);
    }
    assert_eq!(lab.get("/resourcegroups", RESOURCES).await.status, 200);
}
