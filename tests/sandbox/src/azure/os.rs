//! What a machine's operating system is told: names, keys, custom data.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use super::error::{ApiError, Result};
use super::images::Image;
use super::rules::missing;

/// The most that custom data has, as Base64.
/// <https://learn.microsoft.com/en-us/azure/virtual-machines/custom-data>
const CUSTOM_DATA: usize = 87380;
/// Names that an administrator can't have; only some.
/// <https://learn.microsoft.com/en-us/azure/virtual-machines/linux/faq>
const ADMINISTRATORS: &[&str] = &[
    "admin",
    "administrator",
    "root",
    "guest",
    "test",
    "user",
    "owner",
    "sys",
    "console",
    "backup",
    "support",
    "sql",
    "server",
    "1",
    "123",
    "a",
];
pub(super) fn custom_data(os: &Value) -> Result<Vec<u8>> {
    let Some(text) = os["customData"].as_str() else {
        return Ok(Vec::new());
    };
    let decoded = BASE64_STANDARD.decode(text).ok();
    match decoded.filter(|_| text.len() <= CUSTOM_DATA) {
        Some(data) => Ok(data),
        None => Err(ApiError::parameter(
            "customData",
            format!(
                "Custom data in OSProfile must be in Base64 encoding and with a maximum length of \
                 {CUSTOM_DATA} characters."
            ),
        )),
    }
}

pub(super) fn computer_name(os: &Value) -> Result<String> {
    let name = os["computerName"]
        .as_str()
        .ok_or_else(|| missing("computerName"))?;
    let fine = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    match !name.is_empty() && name.len() <= 64 && name.chars().all(fine) {
        true => Ok(name.into()),
        false => Err(ApiError::parameter(
            "computerName",
            "Linux host name cannot exceed 64 characters in length or contain the following \
             characters: ` ~ ! @ # $ % ^ & * ( ) = + _ [ ] { } \\ | ; : ' \" , < > / ?.",
        )),
    }
}

/// The administrator's name and keys.
pub(super) fn administrator(os: &Value, image: &Image) -> Result<(String, Vec<String>)> {
    let admin = os["adminUsername"]
        .as_str()
        .ok_or_else(|| missing("adminUsername"))?;
    if ADMINISTRATORS.contains(&admin.to_lowercase().as_str()) || admin.len() > 64 {
        return Err(ApiError::parameter(
            "adminUsername",
            "The Admin Username specified is not allowed.",
        ));
    }
    if image.windows {
        return Err(ApiError::parameter(
            "imageReference",
            "The sandbox does not model Windows.",
        ));
    }
    let linux = &os["linuxConfiguration"];
    let without_password = linux["disablePasswordAuthentication"]
        .as_bool()
        .unwrap_or(false);
    if !without_password && os["adminPassword"].is_null() {
        return Err(missing("adminPassword"));
    }
    let mut keys = Vec::new();
    for key in linux["ssh"]["publicKeys"].as_array().into_iter().flatten() {
        let at = "linuxConfiguration.ssh.publicKeys";
        if key["path"] != format!("/home/{admin}/.ssh/authorized_keys") {
            return Err(ApiError::parameter(
                &format!("{at}.path"),
                format!(
                    "Destination path for SSH public keys is currently limited to its default value \
                     /home/{admin}/.ssh/authorized_keys due to a known issue in Linux provisioning \
                     agent."
                ),
            ));
        }
        let data = key["keyData"].as_str().unwrap_or_default();
        if !is_public_key(data) {
            return Err(ApiError::parameter(
                &format!("{at}.keyData"),
                format!("The value of parameter {at}.keyData is invalid."),
            ));
        }
        keys.push(data.to_owned());
    }
    match without_password && keys.is_empty() {
        true => Err(ApiError::parameter(
            "linuxConfiguration.ssh.publicKeys",
            "Authentication using either SSH or by user name and password must be enabled in Linux \
             profile.",
        )),
        false => Ok((admin.into(), keys)),
    }
}

/// RSA of 2048 bits and more, or Ed25519.
/// <https://learn.microsoft.com/en-us/azure/virtual-machines/linux/mac-create-ssh-keys>
fn is_public_key(text: &str) -> bool {
    let mut words = text.split_whitespace();
    let (kind, data) = (words.next(), words.next());
    let data = data.and_then(|data| BASE64_STANDARD.decode(data).ok());
    let Some(data) = data else { return false };
    let named = |kind: &str| {
        let length = u32::try_from(kind.len()).unwrap_or_default().to_be_bytes();
        data.starts_with(&[&length[..], kind.as_bytes()].concat())
    };
    match kind {
        Some(kind @ "ssh-ed25519") => named(kind) && data.len() == 51,
        Some(kind @ "ssh-rsa") => named(kind) && data.len() > 2048 / 8,
        _ => false,
    }
}
