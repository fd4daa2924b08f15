//! Role assignments, and what a caller may do.
//! <https://learn.microsoft.com/en-us/rest/api/authorization/role-assignments/create>

use serde_json::{Value, json};

use super::error::{self, ApiError, Result};
use super::path::{Route, subscription_id};
use super::state::Assignment;
use super::{Call, schema};
use crate::calls::lock;
use crate::entra::TENANT;
use crate::server::Response;

fn shown(assignment: &Assignment) -> Value {
    json!({
        "id": assignment.id(),
        "name": assignment.name,
        "type": "Microsoft.Authorization/roleAssignments",
        "properties": {
            "roleDefinitionId": role_id(&assignment.role),
            "principalId": assignment.principal,
            "principalType": assignment.principal_type,
            "scope": assignment.scope,
        },
    })
}

fn role_id(role: &str) -> String {
    format!(
        "{}/providers/Microsoft.Authorization/roleDefinitions/{role}",
        subscription_id()
    )
}

/// The name of the role in a role definition's id, which may be given without the subscription.
fn role(id: &str) -> Option<&str> {
    let short = "/providers/Microsoft.Authorization/roleDefinitions/";
    let long = format!("{}{short}", subscription_id());
    [long.as_str(), short].into_iter().find_map(|start| {
        let head = id.get(..start.len())?;
        let is_start = head.eq_ignore_ascii_case(start);
        is_start.then(|| &id[start.len()..])
    })
}

fn is_guid(text: &str) -> bool {
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && text.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
}

impl Call<'_> {
    pub(super) fn put_assignment(&self, scope: &str, name: &str) -> Result<Response> {
        self.require("Microsoft.Authorization/roleAssignments/write", scope)?;
        self.check_scope(scope)?;
        if !is_guid(name) {
            return Err(ApiError::bad(
                "InvalidRoleAssignmentId",
                format!(
                    "The role assignment ID '{name}' is not valid. The role assignment ID must be a \
                     GUID."
                ),
            ));
        }
        let body = schema::body("authorization.RoleAssignmentCreateParameters", self.body)?;
        let properties = &body["properties"];
        let text = |name: &str| properties[name].as_str().unwrap_or_default();
        let definition = text("roleDefinitionId");
        let rights = &self.world.directory.rights;
        let role = role(definition).filter(|role| rights.is_role(role));
        let role = role.ok_or_else(|| {
            ApiError::bad(
                "RoleDefinitionDoesNotExist",
                format!("The specified role definition with ID '{definition}' does not exist."),
            )
        })?;
        let principal = text("principalId");
        self.check_principal(principal, properties["principalType"].as_str())?;
        let assignment = Assignment {
            scope: scope.into(),
            name: name.to_lowercase(),
            role: role.to_lowercase(),
            principal: principal.into(),
            principal_type: "ServicePrincipal".into(),
        };
        let mut state = lock(&self.world.state);
        let same = |known: &&Assignment| {
            known.scope.eq_ignore_ascii_case(scope)
                && known.role == assignment.role
                && known.principal == assignment.principal
        };
        let known = state
            .assignments
            .iter()
            .find(|known| known.name == assignment.name);
        let answer = shown(&assignment);
        match (known, state.assignments.iter().find(same)) {
            (Some(known), _) if same(&known) => return Ok(error::document(200, &answer)),
            // <https://learn.microsoft.com/en-us/azure/role-based-access-control/troubleshooting>
            (Some(_), _) => {
                return Err(ApiError::bad(
                    "RoleAssignmentUpdateNotPermitted",
                    "Tenant ID, application ID, principal ID, and scope are not allowed to be \
                     updated.",
                ));
            }
            (None, Some(_)) => {
                return Err(ApiError::new(
                    409,
                    "RoleAssignmentExists",
                    "The role assignment already exists.",
                ));
            }
            (None, None) => {}
        }
        rights.grant(
            &assignment.id(),
            scope,
            &assignment.role,
            &assignment.principal,
        );
        state.record("RoleAssignment", body);
        state.assignments.push(assignment);
        Ok(error::document(201, &answer))
    }

    /// A new principal isn't known everywhere at once. With its type it isn't looked up.
    /// <https://learn.microsoft.com/en-us/azure/role-based-access-control/troubleshooting#symptom---assigning-a-role-to-a-new-principal-sometimes-fails>
    fn check_principal(&self, principal: &str, kind: Option<&str>) -> Result<()> {
        let refused = {
            let mut state = lock(&self.world.state);
            let refused = state.principals_refused > 0;
            state.principals_refused = state.principals_refused.saturating_sub(1);
            refused
        };
        let known = kind == Some("ServicePrincipal") || self.world.directory.knows(principal);
        if known && !refused {
            return Ok(());
        }
        Err(ApiError::bad(
            "PrincipalNotFound",
            format!(
                "Principal {} does not exist in the directory {TENANT}. Check that you have the \
                 correct principal ID. If you are creating this principal and then immediately \
                 assigning a role, this error might be related to a replication delay. In this \
                 case, set the role assignment principalType property to a value, such as \
                 ServicePrincipal, User, or Group.  See \
                 https://aka.ms/docs-principaltype",
                principal.replace('-', "")
            ),
        ))
    }

    /// Refuses a scope that isn't there.
    fn check_scope(&self, scope: &str) -> Result<()> {
        let state = lock(&self.world.state);
        match Route::of(scope) {
            Route::Group(name) => state.group(&name).map(|_| ()),
            Route::Resource { group, .. } => state.group(&group).map(|_| ()),
            _ => Ok(()),
        }
    }

    fn find_assignment(&self, scope: &str, name: &str) -> Option<Assignment> {
        let state = lock(&self.world.state);
        let found = state.assignments.iter().find(|known| {
            known.scope.eq_ignore_ascii_case(scope) && known.name.eq_ignore_ascii_case(name)
        });
        found.cloned()
    }

    pub(super) fn get_assignment(&self, scope: &str, name: &str) -> Result<Response> {
        self.require("Microsoft.Authorization/roleAssignments/read", scope)?;
        match self.find_assignment(scope, name) {
            Some(assignment) => Ok(error::document(200, &shown(&assignment))),
            None => Err(ApiError::new(
                404,
                "RoleAssignmentNotFound",
                format!("The role assignment '{name}' is not found."),
            )),
        }
    }

    pub(super) fn delete_assignment(&self, scope: &str, name: &str) -> Result<Response> {
        self.require("Microsoft.Authorization/roleAssignments/delete", scope)?;
        let Some(assignment) = self.find_assignment(scope, name) else {
            return Ok(error::empty(204));
        };
        self.world.directory.rights.revoke(&assignment.id());
        let mut state = lock(&self.world.state);
        state.assignments.retain(|known| *known != assignment);
        Ok(error::document(200, &shown(&assignment)))
    }

    /// <https://learn.microsoft.com/en-us/rest/api/authorization/permissions>
    pub(super) fn list_permissions(&self, scope: &str) -> Result<Response> {
        self.require("Microsoft.Authorization/permissions/read", scope)?;
        self.check_scope(scope)?;
        let rights = &self.world.directory.rights;
        let all: Vec<Value> = rights
            .permissions(&self.principal, scope)
            .into_iter()
            .map(|permission| {
                json!({
                    "actions": permission.actions,
                    "notActions": permission.not_actions,
                    "dataActions": [],
                    "notDataActions": [],
                })
            })
            .collect();
        Ok(error::document(200, &json!({"value": all})))
    }
}
