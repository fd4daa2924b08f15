//! Who may do what, by role assignments.
//! <https://learn.microsoft.com/en-us/azure/role-based-access-control/role-definitions>

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::{Directory, LAUNCHER_OBJECT, Principal};
use crate::calls::lock;
use crate::fault::wildcard;

/// The ids of roles.
/// <https://learn.microsoft.com/en-us/azure/role-based-access-control/built-in-roles>
pub(crate) mod role {
    pub(crate) const OWNER: &str = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635";
    pub(crate) const CONTRIBUTOR: &str = "b24988ac-6180-42a0-ab88-20f7382dd24c";
    pub(crate) const READER: &str = "acdd72a7-3385-48ef-bd42-f606fba81ae7";
    pub(crate) const USER_ACCESS_ADMINISTRATOR: &str = "18d7d88d-d35e-4fb5-a5c3-7773c20a72d9";
    pub(crate) const VIRTUAL_MACHINE_CONTRIBUTOR: &str = "9980e02c-c2be-4d73-94e8-173b1dc7cf3c";
    /// The launcher's own, made by whoever set this up.
    pub(crate) const LAUNCHER: &str = "3f1e9a52-7c0d-4d8b-8f26-a95b0c4e7d31";
}

/// What launchers may do unless [`Rights::allow_only`] says otherwise: what the README's role says.
const DEFAULT_POLICY: &str = include_str!("../../../data/permissions-azure.txt");

/// What a role allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Permission {
    pub(crate) actions: Vec<String>,
    pub(crate) not_actions: Vec<String>,
}

impl Permission {
    fn new(actions: &[&str], not_actions: &[&str]) -> Self {
        let owned = |list: &[&str]| list.iter().map(|action| (*action).into()).collect();
        Permission {
            actions: owned(actions),
            not_actions: owned(not_actions),
        }
    }

    fn allows(&self, action: &str) -> bool {
        let action = action.to_lowercase();
        let among = |list: &[String]| {
            list.iter()
                .any(|pattern| wildcard(&pattern.to_lowercase(), &action))
        };
        among(&self.actions) && !among(&self.not_actions)
    }
}

#[derive(Debug, Clone)]
struct Assignment {
    scope: String,
    role: String,
    object: String,
    /// It doesn't count before.
    from: Instant,
}

impl Assignment {
    fn is_same(&self, other: &Assignment) -> bool {
        self.scope.eq_ignore_ascii_case(&other.scope)
            && self.role == other.role
            && self.object == other.object
    }

    fn covers(&self, scope: &str) -> bool {
        let (mine, scope) = (self.scope.to_lowercase(), scope.to_lowercase());
        scope
            .strip_prefix(mine.trim_end_matches('/'))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// All roles and assignments.
#[derive(Debug)]
pub(crate) struct Rights {
    /// By the role's id.
    roles: Mutex<BTreeMap<String, Permission>>,
    /// By the assignment's own id, in lower case.
    assignments: Mutex<BTreeMap<String, Assignment>>,
    propagation: Mutex<Duration>,
}

impl Rights {
    pub(super) fn new(propagation: Duration) -> Self {
        let contributor = Permission::new(
            &["*"],
            &[
                "Microsoft.Authorization/*/Delete",
                "Microsoft.Authorization/*/Write",
                "Microsoft.Authorization/elevateAccess/Action",
            ],
        );
        let machines = Permission::new(
            &[
                "Microsoft.Authorization/*/read",
                "Microsoft.Compute/virtualMachines/*",
                "Microsoft.Compute/disks/*",
                "Microsoft.Network/networkInterfaces/*",
                "Microsoft.Resources/subscriptions/resourceGroups/read",
            ],
            &[],
        );
        let launcher: Vec<&str> = DEFAULT_POLICY
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .collect();
        let access = Permission::new(&["*/read", "Microsoft.Authorization/*"], &[]);
        let roles = [
            (role::OWNER, Permission::new(&["*"], &[])),
            (role::CONTRIBUTOR, contributor),
            (role::READER, Permission::new(&["*/read"], &[])),
            (role::USER_ACCESS_ADMINISTRATOR, access),
            (role::VIRTUAL_MACHINE_CONTRIBUTOR, machines),
            (role::LAUNCHER, Permission::new(&launcher, &[])),
        ];
        let rights = Rights {
            roles: Mutex::new(roles.map(|(id, role)| (id.to_owned(), role)).into()),
            assignments: Mutex::default(),
            propagation: Mutex::new(propagation),
        };
        let subscription = Directory::subscription();
        rights.grant_at_once("launcher", &subscription, role::LAUNCHER, LAUNCHER_OBJECT);
        rights
    }

    /// Whether there is such a role. `role` is the last part of a role definition's id.
    pub(crate) fn is_role(&self, role: &str) -> bool {
        lock(&self.roles).contains_key(&role.to_lowercase())
    }

    /// A role assignment was made: `assignment` is its own id. It counts after a while.
    pub(crate) fn grant(&self, assignment: &str, scope: &str, role: &str, object: &str) {
        let after = *lock(&self.propagation);
        self.grant_after(after, assignment, scope, role, object);
    }

    /// The same for an assignment of long ago.
    pub(super) fn grant_at_once(&self, assignment: &str, scope: &str, role: &str, object: &str) {
        self.grant_after(Duration::ZERO, assignment, scope, role, object);
    }

    fn grant_after(
        &self,
        after: Duration,
        assignment: &str,
        scope: &str,
        role: &str,
        object: &str,
    ) {
        let granted = Assignment {
            scope: scope.into(),
            role: role.to_lowercase(),
            object: object.into(),
            from: Instant::now() + after,
        };
        let mut assignments = lock(&self.assignments);
        let known = assignments.get(&assignment.to_lowercase());
        // Made again, it is what it was.
        if known.is_none_or(|known| !known.is_same(&granted)) {
            assignments.insert(assignment.to_lowercase(), granted);
        }
    }

    /// A role assignment was taken back, or its scope is gone.
    pub(crate) fn revoke(&self, assignment: &str) {
        lock(&self.assignments).remove(&assignment.to_lowercase());
    }

    /// What a principal may do within a scope, one entry an assignment that counts.
    pub(crate) fn permissions(&self, principal: &Principal, scope: &str) -> Vec<Permission> {
        let roles = lock(&self.roles);
        lock(&self.assignments)
            .values()
            .filter(|assignment| {
                assignment.object == principal.object
                    && assignment.from <= Instant::now()
                    && assignment.covers(scope)
            })
            .filter_map(|assignment| roles.get(&assignment.role).cloned())
            .collect()
    }

    /// Whether a principal may do something (`Microsoft.Compute/virtualMachines/write`) within a
    /// scope (a resource's id, a group's, the subscription's).
    pub(crate) fn allows(&self, principal: &Principal, action: &str, scope: &str) -> bool {
        self.permissions(principal, scope)
            .iter()
            .any(|permission| permission.allows(action))
    }

    /// Launchers may do this and nothing else.
    pub(crate) fn allow_only(&self, actions: &[&str]) {
        lock(&self.roles).insert(role::LAUNCHER.into(), Permission::new(actions, &[]));
    }

    /// Launchers may not do this any more.
    pub(crate) fn deny(&self, action: &str) {
        if let Some(role) = lock(&self.roles).get_mut(role::LAUNCHER) {
            role.not_actions.push(action.into());
        }
    }

    /// How long role assignments don't count from now on.
    pub(crate) fn set_propagation(&self, propagation: Duration) {
        *lock(&self.propagation) = propagation;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VM: &str = "Microsoft.Compute/virtualMachines/write";

    #[test]
    fn assignments_count_within_their_scopes() {
        let rights = Rights::new(Duration::ZERO);
        let group = format!("{}/resourceGroups/ci-1", Directory::subscription());
        let principal = Principal {
            client: "c".into(),
            object: "o".into(),
        };
        let vm = format!("{group}/providers/Microsoft.Compute/virtualMachines/ci-1");
        assert!(!rights.allows(&principal, VM, &vm));
        rights.grant("a-1", &group, role::CONTRIBUTOR, "o");
        for (action, scope, expected) in [
            (VM, vm.clone(), true),
            (
                "microsoft.compute/VIRTUALMACHINES/write",
                vm.to_uppercase(),
                true,
            ),
            (
                "Microsoft.Resources/subscriptions/resourceGroups/delete",
                group.clone(),
                true,
            ),
            (VM, format!("{group}2"), false),
            (VM, Directory::subscription(), false),
            (
                "Microsoft.Authorization/roleAssignments/write",
                group.clone(),
                false,
            ),
            (
                "Microsoft.Authorization/roleAssignments/read",
                group.clone(),
                true,
            ),
        ] {
            let allowed = rights.allows(&principal, action, &scope);
            assert_eq!(allowed, expected, "{action} {scope}");
        }
        rights.revoke("A-1");
        assert!(!rights.allows(&principal, VM, &vm));
    }

    #[test]
    fn an_assignment_counts_after_a_while_and_a_second_call_changes_nothing() {
        let rights = Rights::new(Duration::from_millis(80));
        let scope = Directory::subscription();
        let principal = Principal {
            client: "c".into(),
            object: "o".into(),
        };
        rights.grant("a", &scope, role::OWNER, "o");
        assert!(!rights.allows(&principal, VM, &scope));
        std::thread::sleep(Duration::from_millis(100));
        rights.grant("a", &scope, role::OWNER, "o");
        assert!(rights.allows(&principal, VM, &scope));
    }

    #[test]
    fn launchers_may_do_what_they_are_told() {
        let rights = Rights::new(Duration::ZERO);
        let (launcher, scope) = (Directory::launcher(), Directory::subscription());
        rights.allow_only(&["Microsoft.Compute/*"]);
        assert!(rights.allows(&launcher, VM, &scope));
        assert!(!rights.allows(&launcher, "Microsoft.Network/virtualNetworks/write", &scope));
        rights.deny(VM);
        assert!(!rights.allows(&launcher, VM, &scope));
        assert_eq!(rights.permissions(&launcher, &scope).len(), 1);
    }
}
