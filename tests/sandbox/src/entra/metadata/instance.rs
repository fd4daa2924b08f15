//! What `/metadata/instance` tells.

use http::{HeaderValue, header};
use serde_json::{Value, json};

use super::Facts;
use super::service::{Parameters, error};
use crate::entra::error::document;
use crate::entra::{Directory, SUBSCRIPTION};
use crate::server::Response;

/// The answer for the rest of a path.
pub(super) fn answer(facts: &Facts, path: &str, parameters: &Parameters) -> Response {
    let whole = whole(facts);
    let mut steps = path.split('/').filter(|step| !step.is_empty());
    let found = steps.try_fold(&whole, |value, step| match value {
        Value::Array(list) => list.get(step.parse::<usize>().ok()?),
        value => value.get(step),
    });
    let Some(found) = found else {
        return error(404, "Not found");
    };
    let as_text = match parameters.get("format").map(String::as_str) {
        None | Some("json") => false,
        Some("text") => true,
        Some(_) => return error(400, "Bad request. The format is not supported"),
    };
    match (found, as_text) {
        (Value::Object(_) | Value::Array(_), false) => document(200, found),
        (Value::Object(fields), true) => {
            text(fields.iter().map(|(name, value)| entry(name, value)))
        }
        (Value::Array(list), true) => text(
            list.iter()
                .enumerate()
                .map(|(index, value)| entry(&index.to_string(), value)),
        ),
        (leaf, true) => text([leaf.as_str().unwrap_or_default().to_owned()].into_iter()),
        (_, false) => error(400, "Bad request. format=text is needed for a single value"),
    }
}

/// A name in a folder's list.
fn entry(name: &str, value: &Value) -> String {
    match value.is_object() || value.is_array() {
        true => format!("{name}/"),
        false => name.to_owned(),
    }
}

fn text(lines: impl Iterator<Item = String>) -> Response {
    let text = lines.collect::<Vec<_>>().join("\n");
    let mut response = Response::new(text.into());
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

/// Every value is text, and what there is not is empty.
fn whole(facts: &Facts) -> Value {
    let none = || [const { String::new() }; 4];
    let [publisher, offer, sku, version] = facts.marketplace_image.clone().unwrap_or_else(none);
    let tags: Vec<Value> = facts
        .tags
        .iter()
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect();
    let tag_line: Vec<String> = facts
        .tags
        .iter()
        .map(|(name, value)| format!("{name}:{value}"))
        .collect();
    let keys: Vec<Value> = facts
        .public_keys
        .iter()
        .map(|key| {
            let path = format!("/home/{}/.ssh/authorized_keys", facts.admin);
            json!({"keyData": key, "path": path})
        })
        .collect();
    let image = json!({
        "id": facts.image_id,
        "offer": offer,
        "publisher": publisher,
        "sku": sku,
        "version": version,
    });
    let (priority, eviction) = match facts.spot {
        true => ("Spot", "Delete"),
        false => ("Regular", ""),
    };
    let resource = format!(
        "{}/resourceGroups/{}/providers/Microsoft.Compute/virtualMachines/{}",
        Directory::subscription(),
        facts.group,
        facts.name
    );
    json!({
        "compute": {
            "azEnvironment": "AzurePublicCloud",
            "customData": "",
            "evictionPolicy": eviction,
            "location": facts.location,
            "name": facts.name,
            "offer": offer,
            "osProfile": {
                "adminUsername": facts.admin,
                "computerName": facts.computer_name,
                "disablePasswordAuthentication": "true",
            },
            "osType": "Linux",
            "plan": {"name": "", "product": "", "publisher": ""},
            "priority": priority,
            "provider": "Microsoft.Compute",
            "publicKeys": keys,
            "publisher": publisher,
            "resourceGroupName": facts.group,
            "resourceId": resource,
            "sku": sku,
            "storageProfile": {
                "dataDisks": [],
                "imageReference": image,
                "osDisk": {
                    "createOption": "FromImage",
                    "diskSizeGB": facts.disk_gb.to_string(),
                    "osType": "Linux",
                },
            },
            "subscriptionId": SUBSCRIPTION,
            "tags": tag_line.join(";"),
            "tagsList": tags,
            "userData": "",
            "version": version,
            "vmId": facts.vm_id,
            "vmScaleSetName": "",
            "vmSize": facts.size,
            "zone": "",
        },
        "network": {
            "interface": [{
                "ipv4": {
                    "ipAddress": [{"privateIpAddress": facts.private_ip, "publicIpAddress": ""}],
                    "subnet": [{"address": "10.0.0.0", "prefix": "24"}],
                },
                "ipv6": {"ipAddress": []},
                "macAddress": "000D3AF8563C",
            }],
        },
    })
}
