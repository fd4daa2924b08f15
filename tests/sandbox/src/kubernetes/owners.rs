//! An admission plugin that few clusters have, OpenShift among them: owners are set only by who may
//! delete what they own.
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
    if owners.is_empty() {
        return Ok(());
    }
    let name = text(&metadata["name"]);
    let wish = |verb: &str, kind: Kind, part: &str, name: &str| Wish {
        verb: verb.into(),
        group: kind.group().into(),
        resource: format!("{}{part}", kind.plural()),
        namespace: target.namespace.clone(),
        name: name.into(),
    };
    let refused = |why: &str| Err(ApiError::forbidden(target.kind, name, why));
    if !access.allows(user, &wish("delete", target.kind, "", name)) {
        return refused("cannot set an ownerRef on a resource you can't delete: , <nil>");
    }
    for owner in owners
        .iter()
        .filter(|owner| owner["blockOwnerDeletion"] == true)
    {
        let kind = Kind::ALL
            .into_iter()
            .find(|kind| owner["kind"] == kind.name() && owner["apiVersion"] == kind.api_version());
        let wish = kind.map(|kind| wish("update", kind, "/finalizers", text(&owner["name"])));
        if !wish.is_some_and(|wish| access.allows(user, &wish)) {
            return refused(
                "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't \
                 set finalizers on: , <nil>",
            );
        }
    }
    Ok(())
}
