//! An admission plugin that few clusters have, OpenShift among them: the deletion of an owner is
//! blocked only by who may set its finalizers. (Who may make a thing may give it an owner; to give it
//! one later would take more.)
//! <https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#ownerreferencespermissionenforcement>

use serde_json::Value;

use super::access::{Access, User, Wish};
use super::error::{ApiError, Result};
use super::kind::Kind;
use super::path::Target;
use super::store::text;

/// Refuses a new object whose owners aren't this user's to set.
pub(super) fn check(access: &Access, user: &User, target: &Target, object: &Value) -> Result<()> {
    let metadata = &object["metadata"];
    let owners = metadata["ownerReferences"].as_array();
    let owners = owners.map(Vec::as_slice).unwrap_or_default();
    let wish = |kind: Kind, name: &str| Wish {
        verb: "update".into(),
        group: kind.group().into(),
        resource: format!("{}/finalizers", kind.plural()),
        namespace: target.namespace.clone(),
        name: name.into(),
    };
    for owner in owners
        .iter()
        .filter(|owner| owner["blockOwnerDeletion"] == true)
    {
        let kind = Kind::ALL
            .into_iter()
            .find(|kind| owner["kind"] == kind.name() && owner["apiVersion"] == kind.api_version());
        let wish = kind.map(|kind| wish(kind, text(&owner["name"])));
        if !wish.is_some_and(|wish| access.allows(user, &wish)) {
            return Err(ApiError::forbidden(
                target.kind,
                text(&metadata["name"]),
                "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't \
                 set finalizers on: , <nil>",
            ));
        }
    }
    Ok(())
}
