//! Resource groups.
//! <https://learn.microsoft.com/en-us/rest/api/resources/resource-groups>

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::error::{self, ApiError, Result};
use super::lifecycle::Order;
use super::path::group_id;
use super::state::{Group, GroupPhase, Outcome, Phase, Tags};
use super::{Call, World, catalogue, schema};
use crate::calls::lock;
use crate::server::Response;

/// What `forceDeletionTypes` may name.
const FORCED: &[&str] = &[
    "Microsoft.Compute/virtualMachines",
    "Microsoft.Compute/virtualMachineScaleSets",
];
/// The most tags that anything has, and how long their names and values are.
/// <https://learn.microsoft.com/en-us/azure/azure-resource-manager/management/tag-resources#limitations>
const TAGS: usize = 50;
const TAG_NAME: usize = 512;
const TAG_VALUE: usize = 256;

/// A body's tags, checked.
pub(super) fn tags(body: &Value) -> Result<Tags> {
    let tags: Tags = serde_json::from_value(body["tags"].clone()).unwrap_or_default();
    if tags.len() > TAGS {
        return Err(ApiError::bad(
            "InvalidTagsCount",
            format!(
                "The number of tags {} exceeds the limit of {TAGS}.",
                tags.len()
            ),
        ));
    }
    for (name, value) in &tags {
        if name.chars().any(|c| "<>%&\\?/".contains(c)) {
            return Err(ApiError::bad(
                "InvalidTagNameCharacters",
                format!(
                    "The tag names '{name}' have reserved characters '<,>,%,&,\\,?,/' or control \
                     characters."
                ),
            ));
        }
        if name.is_empty() || name.encode_utf16().count() > TAG_NAME {
            return Err(ApiError::bad(
                "InvalidTagName",
                format!("The tag name '{name}' must have between 1 and {TAG_NAME} characters."),
            ));
        }
        if value.encode_utf16().count() > TAG_VALUE {
            return Err(ApiError::bad(
                "InvalidTagValueLength",
                format!(
                    "Tag value too large. Following tag value '{value}' exceeded the maximum \
                     length. Maximum allowed length for tag value - '{TAG_VALUE}' characters."
                ),
            ));
        }
    }
    Ok(tags)
}

fn shown(group: &Group) -> Value {
    json!({
        "id": group_id(&group.name),
        "name": group.name,
        "type": "Microsoft.Resources/resourceGroups",
        "location": group.location,
        "tags": group.tags,
        "properties": {"provisioningState": match group.phase {
            GroupPhase::Live => "Succeeded",
            _ => "Deleting",
        }},
    })
}

/// Letters, digits, `_`, `-`, `.`, `(` and `)`, at most 90, no `.` at the end.
/// <https://learn.microsoft.com/en-us/azure/azure-resource-manager/management/resource-name-rules#microsoftresources>
fn check_name(name: &str) -> Result<()> {
    let fine = |c: char| c.is_alphanumeric() || "_-.()".contains(c);
    match !name.is_empty()
        && name.chars().count() <= 90
        && name.chars().all(fine)
        && !name.ends_with('.')
    {
        true => Ok(()),
        false => Err(ApiError::bad(
            "InvalidResourceGroup",
            format!(
                "The provided resource group name '{name}' has these invalid characters or is too \
                 long. The name can only be a letter, digit, '-', '.', '(', ')' or '_'."
            ),
        )),
    }
}

impl Call<'_> {
    pub(super) fn put_group(&self, name: &str) -> Result<Response> {
        self.require(
            "Microsoft.Resources/subscriptions/resourceGroups/write",
            &group_id(name),
        )?;
        check_name(name)?;
        let body = schema::body("resource.ResourceGroup", self.body)?;
        let text = body["location"].as_str().unwrap_or_default();
        let location = catalogue::region(text).ok_or_else(|| {
            let regions: Vec<&str> = catalogue::REGIONS.iter().map(|(name, _)| *name).collect();
            ApiError::bad(
                "LocationNotAvailableForResourceGroup",
                format!(
                    "The provided location '{text}' is not available for resource group. List of \
                     available regions is '{}'.",
                    regions.join(",")
                ),
            )
        })?;
        let tags = tags(&body)?;
        let mut state = lock(&self.world.state);
        state.record("ResourceGroup", body);
        if let Ok(group) = state.group_mut(name) {
            if group.phase != GroupPhase::Live {
                return Err(ApiError::group_is_going(&group.name));
            }
            if group.location != location {
                return Err(ApiError::new(
                    409,
                    "InvalidResourceGroupLocation",
                    format!(
                        "Invalid resource group location '{location}'. The Resource group already \
                         exists in location '{}'.",
                        group.location
                    ),
                ));
            }
            group.tags = tags;
            return Ok(error::document(200, &shown(group)));
        }
        let group = Group {
            name: name.into(),
            location,
            tags,
            phase: GroupPhase::Live,
            visible_at: Instant::now() + self.world.config.visibility_delay,
            deletion: None,
            foreign: false,
            resources: Vec::new(),
        };
        let answer = error::document(201, &shown(&group));
        state.groups.push(group);
        Ok(answer)
    }

    pub(super) fn get_group(&self, name: &str) -> Result<Response> {
        self.require(
            "Microsoft.Resources/subscriptions/resourceGroups/read",
            &group_id(name),
        )?;
        let state = lock(&self.world.state);
        Ok(error::document(200, &shown(state.group(name)?)))
    }

    /// All groups that the caller may read.
    pub(super) fn list_groups(&self) -> Result<Response> {
        let wanted = self.query.get("$filter").map(|filter| tag_filter(filter));
        let wanted = wanted.transpose()?;
        let state = lock(&self.world.state);
        let groups = state.groups.iter().filter(|group| {
            group.phase != GroupPhase::Gone
                && Instant::now() >= group.visible_at
                && wanted.as_ref().is_none_or(|(name, value)| {
                    group.tags.iter().any(|(n, v)| {
                        n.eq_ignore_ascii_case(name)
                            && value.as_ref().is_none_or(|wanted| v == wanted)
                    })
                })
                && self.may(
                    "Microsoft.Resources/subscriptions/resourceGroups/read",
                    &group_id(&group.name),
                )
        });
        let shown: Vec<Value> = groups.map(shown).collect();
        let size = state.page_size;
        drop(state);
        self.page(shown, size)
    }

    /// Begins to delete a group with all that is in it.
    pub(super) fn delete_group(&self, name: &str) -> Result<Response> {
        self.require(
            "Microsoft.Resources/subscriptions/resourceGroups/delete",
            &group_id(name),
        )?;
        let forced = match self.query.get("forceDeletionTypes") {
            None => false,
            Some(types) => {
                let known = |kind: &str| FORCED.iter().any(|f| f.eq_ignore_ascii_case(kind.trim()));
                if let Some(other) = types.split(',').find(|kind| !known(kind)) {
                    return Err(ApiError::bad(
                        "InvalidForceDeletionTypes",
                        format!("The resource type '{other}' doesn't support force deletion."),
                    ));
                }
                types
                    .split(',')
                    .any(|kind| kind.trim().eq_ignore_ascii_case(FORCED[0]))
            }
        };
        let begun = {
            let state = lock(&self.world.state);
            let group = state.group(name)?;
            (group.name.clone(), group.deletion.clone())
        };
        let operation = match begun {
            (_, Some(operation)) => operation,
            (name, None) => {
                let operation = self.world.begin(&name, None);
                if let Ok(group) = lock(&self.world.state).group_mut(&name) {
                    group.phase = GroupPhase::Deleting;
                    group.deletion = Some(operation.clone());
                }
                let world = self.world.clone();
                let id = operation.clone();
                tokio::spawn(async move { delete(world, name, id, forced).await });
                operation
            }
        };
        let mut response = error::empty(202);
        self.follow_deletion(&mut response, &operation);
        Ok(response)
    }
}

/// Takes a group away: its machines first, then the rest.
async fn delete(world: Arc<World>, name: String, operation: String, forced: bool) {
    tokio::time::sleep(world.config.shutdown_delay).await;
    let ids: Vec<String> = {
        let state = lock(&world.state);
        state
            .machines
            .iter()
            .filter(|machine| {
                machine.phase != Phase::Deleted && machine.group.eq_ignore_ascii_case(&name)
            })
            .map(|machine| machine.vm_id.clone())
            .collect()
    };
    for id in &ids {
        world.order(id, Order::Delete { forced });
    }
    let is_there = |id: &String| {
        world
            .with_machine(id, |machine| machine.phase != Phase::Deleted)
            .unwrap_or(false)
    };
    while ids.iter().any(is_there) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let scope = group_id(&name).to_lowercase();
    let revoked: Vec<String> = {
        let mut state = lock(&world.state);
        if let Ok(group) = state.group_mut(&name) {
            group.resources.clear();
            group.phase = GroupPhase::Gone;
        }
        let within = |known: &str| {
            known
                .to_lowercase()
                .strip_prefix(&scope)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let (gone, kept) = std::mem::take(&mut state.assignments)
            .into_iter()
            .partition(|assignment| within(&assignment.scope));
        state.assignments = kept;
        let gone: Vec<super::state::Assignment> = gone;
        gone.iter().map(super::state::Assignment::id).collect()
    };
    for assignment in revoked {
        world.directory.rights.revoke(&assignment);
    }
    world.finish(&operation, Outcome::Succeeded);
}

/// `tagName eq 'a'`, `tagName eq 'a' and tagValue eq 'b'`: what there is of filters.
fn tag_filter(filter: &str) -> Result<(String, Option<String>)> {
    let invalid = || {
        ApiError::bad(
            "InvalidFilterInQueryString",
            format!("Invalid $filter '{filter}' specified in the query string."),
        )
    };
    let quoted = |text: &str, name: &str| -> Option<String> {
        let rest = text.trim().strip_prefix(name)?.trim_start();
        let rest = rest.strip_prefix("eq")?.trim();
        let inner = rest.strip_prefix('\'')?.strip_suffix('\'')?;
        Some(inner.replace("''", "'"))
    };
    match filter.split_once(" and ") {
        None => Ok((quoted(filter, "tagName").ok_or_else(invalid)?, None)),
        Some((name, value)) => Ok((
            quoted(name, "tagName").ok_or_else(invalid)?,
            Some(quoted(value, "tagValue").ok_or_else(invalid)?),
        )),
    }
}
