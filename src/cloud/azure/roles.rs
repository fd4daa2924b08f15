//! Who may do what: whether the launcher may give a machine the right to delete itself, and that
//! right.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::client::{Api, Call, Client, Failure};
use super::refusal::Meaning;
use crate::uuid;

/// What the launcher must be allowed to do to give a role.
pub(super) const ASSIGN: &str = "Microsoft.Authorization/roleAssignments/write";

/// Contributor: of Azure's own roles, one that surely may delete a group with all that is in it. It is
/// given on that group alone.
/// <https://learn.microsoft.com/en-us/azure/role-based-access-control/built-in-roles/privileged#contributor>
const CONTRIBUTOR: &str = "b24988ac-6180-42a0-ab88-20f7382dd24c";

/// What the user should know of an identity that is named for the purpose: what an instance can use, its
/// jobs can, too.
pub(super) const USED_BY_JOBS: &str =
    "jobs can use it, too, and could delete every group that it may";

/// How long a new identity may stay unknown to those who give roles.
/// <https://learn.microsoft.com/en-us/azure/role-based-access-control/troubleshooting#symptom---assigning-a-role-to-a-new-principal-sometimes-fails>
const UNKNOWN: Duration = Duration::from_secs(120);

/// What somebody may do, by one of their roles.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Permission {
    actions: Vec<String>,
    not_actions: Vec<String>,
}

impl Permission {
    /// <https://learn.microsoft.com/en-us/azure/role-based-access-control/role-definitions#actions>
    fn allows(&self, action: &str) -> bool {
        let matches = |patterns: &[String]| {
            patterns
                .iter()
                .any(|pattern| matches(&pattern.to_ascii_lowercase(), &action.to_ascii_lowercase()))
        };
        matches(&self.actions) && !matches(&self.not_actions)
    }
}

/// Whether a text is what a pattern says, in which `*` is anything.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// What the launcher may do in the whole subscription.
/// <https://learn.microsoft.com/en-us/rest/api/authorization/permissions/list-for-resource-group>
pub(super) async fn permissions(client: &Client) -> Result<Vec<Permission>, Failure> {
    let call = Call::get(
        Api::Authorization,
        "permissions",
        "providers/Microsoft.Authorization/permissions",
    );
    client.list(&call).await
}

/// Whether roles may be given.
pub(super) fn may_assign(permissions: &[Permission]) -> bool {
    permissions.iter().any(|known| known.allows(ASSIGN))
}

#[derive(Debug, Serialize)]
struct Assignment<'a> {
    properties: AssignmentProperties<'a>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct AssignmentProperties<'a> {
    role_definition_id: String,
    principal_id: &'a str,
    /// With it, Azure doesn't look the principal up where a new one isn't known yet.
    principal_type: &'static str,
}

/// Lets a machine's own identity do everything in the machine's own group, and nothing elsewhere.
/// Idempotent by its name, which is made of what it says.
/// <https://learn.microsoft.com/en-us/rest/api/authorization/role-assignments/create>
pub(super) async fn let_delete(
    client: &Client,
    launch_id: &str,
    group: &str,
    principal: &str,
) -> Result<(), Failure> {
    let subscription = client.subscription()?;
    let name = uuid::of(&[launch_id, group, principal]);
    let assignment = Assignment {
        properties: AssignmentProperties {
            role_definition_id: format!(
                "/subscriptions/{subscription}/providers/Microsoft.Authorization/roleDefinitions\
                 /{CONTRIBUTOR}"
            ),
            principal_id: principal,
            principal_type: "ServicePrincipal",
        },
    };
    let call = Call::put(
        Api::Authorization,
        "roleAssignments",
        format!("resourceGroups/{group}/providers/Microsoft.Authorization/roleAssignments/{name}"),
    )
    .body(&assignment)?;
    let started = tokio::time::Instant::now();
    let mut pause = Duration::from_millis(500);
    loop {
        let failure = match client.call::<serde::de::IgnoredAny>(&call).await {
            Ok(_) => return Ok(()),
            Err(failure) => failure,
        };
        match &failure {
            // The same role for the same identity on the same group is all that is wanted.
            Failure::Refused(refusal) if refusal.code == "RoleAssignmentExists" => return Ok(()),
            Failure::Refused(refusal)
                if (refusal.meaning() == Meaning::PrincipalUnknown || refusal.is_too_early())
                    && started.elapsed() < UNKNOWN => {}
            _ => return Err(failure),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permission(actions: &[&str], not_actions: &[&str]) -> Permission {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Permission {
            actions: owned(actions),
            not_actions: owned(not_actions),
        }
    }

    #[test]
    fn azures_own_roles_are_understood() {
        // Owner, Contributor, User Access Administrator, Role Based Access Control Administrator,
        // Reader.
        let contributor_nots = [
            "Microsoft.Authorization/*/Delete",
            "Microsoft.Authorization/*/Write",
            "Microsoft.Authorization/elevateAccess/Action",
        ];
        let cases = [
            (permission(&["*"], &[]), true),
            (permission(&["*"], &contributor_nots), false),
            (
                permission(&["*/read", "Microsoft.Authorization/*"], &[]),
                true,
            ),
            (permission(&[ASSIGN, "*/read"], &[]), true),
            (
                permission(&["microsoft.authorization/roleassignments/WRITE"], &[]),
                true,
            ),
            (permission(&["*/read"], &[]), false),
            (
                permission(&["Microsoft.Authorization/roleAssignments/writer"], &[]),
                false,
            ),
            (permission(&[], &[]), false),
        ];
        for (known, expected) in &cases {
            assert_eq!(
                may_assign(std::slice::from_ref(known)),
                *expected,
                "{known:?}"
            );
        }
        // What one role takes away, another may give.
        assert!(may_assign(&[cases[1].0.clone(), cases[3].0.clone()]));
    }

    #[test]
    fn patterns_are_matched_whole() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("a*c", "abc", true),
            ("a*c", "ac", true),
            ("a*c", "acd", false),
            ("a*b*c", "axbxc", true),
            ("a*b*c", "axc", false),
            ("a", "ab", false),
            ("ab*b", "ab", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
