//! The volumes of a pod: Secrets, empty folders, and the token of its service account.
//! <https://kubernetes.io/docs/concepts/storage/volumes/>

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::calls::lock;
use crate::kubernetes::World;
use crate::kubernetes::container::MountedFile;
use crate::kubernetes::kind::Kind;
use crate::kubernetes::store::{Key, Store, text};

/// What is mounted: files, and folders to write into.
type Mounted = (Vec<MountedFile>, Vec<PathBuf>);

/// A file in a volume: where, with what, and its mode.
type File = (String, Vec<u8>, u32);

/// Mounts what the container wants; an error is why that is impossible yet.
pub(super) fn mount(world: &World, key: &Key, uid: &str, pod: &Value) -> Result<Mounted, String> {
    let spec = &pod["spec"];
    let group = spec["securityContext"]["fsGroup"]
        .as_u64()
        .and_then(|id| u32::try_from(id).ok());
    let (mut files, mut folders) = Mounted::default();
    for volume in spec["volumes"].as_array().into_iter().flatten() {
        let content = content(world, key, uid, pod, volume).map_err(|why| {
            let name = text(&volume["name"]);
            format!("MountVolume.SetUp failed for volume \"{name}\" : {why}")
        })?;
        let mounts = spec["containers"][0]["volumeMounts"].as_array();
        let mounts = mounts.into_iter().flatten();
        for mount in mounts.filter(|mount| mount["name"] == volume["name"]) {
            let at = Path::new(text(&mount["mountPath"]));
            let Some(content) = &content else {
                folders.push(at.to_owned());
                continue;
            };
            let below = text(&mount["subPath"]);
            for (path, bytes, mode) in content {
                let path = match below {
                    "" => at.join(path),
                    below if below == path => at.to_owned(),
                    _ => continue,
                };
                files.push(MountedFile {
                    path,
                    content: bytes.clone(),
                    mode: *mode,
                    group,
                });
            }
        }
    }
    Ok((files, folders))
}

/// The files of a volume; `None`: it is a folder to write into.
fn content(
    world: &World,
    key: &Key,
    uid: &str,
    pod: &Value,
    volume: &Value,
) -> Result<Option<Vec<File>>, String> {
    if let Some(source) = volume["secret"].as_object() {
        let source = Value::Object(source.clone());
        let name = text(&source["secretName"]).to_owned();
        return secret(&lock(&world.state).store, key, &source, &name).map(Some);
    }
    if !volume["projected"].is_null() {
        return projected(world, key, uid, pod, &volume["projected"]).map(Some);
    }
    if !volume["configMap"].is_null() {
        let name = text(&volume["configMap"]["name"]);
        return Err(format!("configmap \"{name}\" not found"));
    }
    Ok(None)
}

fn mode_of(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|mode| u32::try_from(mode).ok())
}

fn secret(store: &Store, key: &Key, source: &Value, name: &str) -> Result<Vec<File>, String> {
    let Some(secret) = store.get(&Key::new(Kind::Secret, &key.namespace, name)) else {
        return match source["optional"] == true {
            true => Ok(Vec::new()),
            false => Err(format!("secret \"{name}\" not found")),
        };
    };
    let usual = mode_of(&source["defaultMode"]).unwrap_or(0o644);
    let bytes = |value: &Value| STANDARD.decode(text(value)).unwrap_or_default();
    let Some(items) = source["items"].as_array() else {
        let data = secret["data"].as_object().into_iter().flatten();
        return Ok(data
            .map(|(entry, value)| (entry.clone(), bytes(value), usual))
            .collect());
    };
    let mut files = Vec::new();
    for item in items {
        let entry = text(&item["key"]);
        match &secret["data"][entry] {
            Value::Null if source["optional"] == true => {}
            Value::Null => return Err(format!("references non-existent secret key: {entry}")),
            value => files.push((
                text(&item["path"]).to_owned(),
                bytes(value),
                mode_of(&item["mode"]).unwrap_or(usual),
            )),
        }
    }
    Ok(files)
}

/// <https://kubernetes.io/docs/concepts/storage/projected-volumes/>
fn projected(
    world: &World,
    key: &Key,
    uid: &str,
    pod: &Value,
    volume: &Value,
) -> Result<Vec<File>, String> {
    let usual = mode_of(&volume["defaultMode"]).unwrap_or(0o644);
    let mut files = Vec::new();
    for source in volume["sources"].as_array().into_iter().flatten() {
        if !source["serviceAccountToken"].is_null() {
            let account = text(&pod["spec"]["serviceAccountName"]);
            let token = world.pod_token(uid, &key.namespace, account);
            let path = text(&source["serviceAccountToken"]["path"]);
            files.push((path.to_owned(), token.into_bytes(), usual));
        } else if !source["secret"].is_null() {
            let mut one = source["secret"].clone();
            one["defaultMode"] = usual.into();
            let name = text(&one["name"]).to_owned();
            files.extend(secret(&lock(&world.state).store, key, &one, &name)?);
        } else if source["configMap"]["name"] == "kube-root-ca.crt" {
            files.push(("ca.crt".into(), world.authority.pem().into_bytes(), usual));
        } else if !source["configMap"].is_null() {
            let name = text(&source["configMap"]["name"]);
            return Err(format!("configmap \"{name}\" not found"));
        } else if !source["downwardAPI"].is_null() {
            files.push((
                "namespace".into(),
                key.namespace.clone().into_bytes(),
                usual,
            ));
        }
    }
    Ok(files)
}
