//! The options that describe the instance.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::Given;
use super::options::OPTIONS;
use crate::cloud;
use crate::secret::Secret;
use crate::spec::{Cidr, Gpu, InstanceSpec, Provider, Spot, Ssh};
use crate::ssh;

/// The option that only Azure needs: a machine of its that is off costs as much as one that is on.
const KEEP: &str = "cloud-keep-until-stopped";

const SELECTOR: &str = "cloud-kubernetes-node-selector";

/// The most an EC2 volume holds; no cloud's runner needs more.
const LARGEST_DISK_GB: u32 = 65_536;

pub(super) fn read(
    given: &mut Given,
    runner_image: String,
    mistakes: &mut Vec<String>,
    warnings: &mut Vec<String>,
) -> Option<InstanceSpec> {
    if given.one("cloud").is_none() {
        for opt in OPTIONS {
            if opt.name.starts_with("cloud-") && given.by_flag(opt.name) {
                warnings.push(format!("--{} has no effect without --cloud", opt.name));
            }
        }
        return None;
    }
    let provider = provider(given, mistakes);
    let spec = InstanceSpec {
        // Where the provider is wrong, the rest is still read for its mistakes.
        provider: provider.unwrap_or(Provider::Aws),
        types: list(given, "cloud-type", "m", mistakes),
        gpu: given.one("cloud-gpu").map(|text| match text.trim() {
            "nogpu" => Gpu::None,
            model => Gpu::Model(model.to_owned()),
        }),
        disk_gb: given.parsed("cloud-hdd-size", mistakes, disk),
        spot: spot(given, provider, mistakes, warnings),
        regions: regions(given, mistakes),
        permission_set: given.one("cloud-permission-set").map(str::to_owned),
        metadata: pairs(given, "cloud-metadata", mistakes),
        startup_script: given.parsed("cloud-startup-script", mistakes, script),
        ssh: ssh_access(given, provider, mistakes),
        image: given.one("cloud-image").map(str::to_owned),
        keep_until_stopped: given.flag(KEEP, mistakes),
        aws_security_group: given.one("cloud-aws-security-group").map(str::to_owned),
        aws_subnet: given.one("cloud-aws-subnet").map(str::to_owned),
        runner_image,
        kubernetes_node_selector: given
            .source(SELECTOR)
            .map(|_| pairs(given, SELECTOR, mistakes)),
        kubernetes_privileged: given.flag("cloud-kubernetes-privileged", mistakes),
        kubernetes_pod_template: template(given, mistakes),
    };
    let provider = provider?;
    for (prefix, owner) in [
        ("cloud-aws-", Provider::Aws),
        ("cloud-kubernetes-", Provider::Kubernetes),
    ] {
        for opt in OPTIONS.iter().filter(|opt| opt.name.starts_with(prefix)) {
            if provider != owner && given.by_flag(opt.name) {
                warnings.push(format!(
                    "--{} has no effect with --cloud={}",
                    opt.name,
                    provider.name()
                ));
            }
        }
    }
    if spec.keep_until_stopped && provider != Provider::Azure && given.by_flag(KEEP) {
        warnings.push(format!(
            "--{KEEP} has no effect with --cloud={}",
            provider.name()
        ));
    }
    if provider == Provider::Kubernetes {
        for name in ["cloud-region", "cloud-ssh-cidr"] {
            if given.by_flag(name) {
                warnings.push(format!("--{name} has no effect with --cloud=kubernetes"));
            }
        }
    }
    mistakes.extend(cloud::mistakes(&spec));
    Some(spec)
}

pub(super) fn provider(given: &Given, mistakes: &mut Vec<String>) -> Option<Provider> {
    given.parsed("cloud", mistakes, |text| match text {
        "aws" => Ok(Provider::Aws),
        "azure" => Ok(Provider::Azure),
        "gcp" => Ok(Provider::Gcp),
        "kubernetes" => Ok(Provider::Kubernetes),
        _ => Err(format!("`{text}` is none of aws, azure, gcp, kubernetes")),
    })
}

pub(super) fn regions(given: &Given, mistakes: &mut Vec<String>) -> Vec<String> {
    list(given, "cloud-region", "us-west", mistakes)
}

fn list(given: &Given, name: &str, default: &str, mistakes: &mut Vec<String>) -> Vec<String> {
    let Some(list) = given.list(name) else {
        return vec![default.to_owned()];
    };
    if list.is_empty() {
        mistakes.push(format!("{}: the list is empty", given.origin(name)));
    }
    list
}

fn disk(text: &str) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|gb| (1..=LARGEST_DISK_GB).contains(gb))
        .ok_or(format!(
            "`{text}` is no size in GB between 1 and {LARGEST_DISK_GB}"
        ))
}

fn spot(
    given: &Given,
    provider: Option<Provider>,
    mistakes: &mut Vec<String>,
    warnings: &mut Vec<String>,
) -> Option<Spot> {
    let wanted = given.flag("cloud-spot", mistakes);
    let fallback = given.flag("cloud-spot-fallback", mistakes);
    let max_price = given
        .parsed("cloud-spot-price", mistakes, |text| {
            match text.parse::<f64>() {
                Ok(-1.0) => Ok(None),
                Ok(price) if price > 0.0 && price.is_finite() => Ok(Some(text.to_owned())),
                _ => Err(format!(
                    "`{text}` is no price in USD such as 0.25 (or -1: the current one)"
                )),
            }
        })
        .flatten();
    if max_price.is_some() && provider == Some(Provider::Gcp) {
        mistakes.push(format!(
            "{}: Google Cloud has no bids; leave the price out",
            given.origin("cloud-spot-price")
        ));
    }
    if !wanted {
        for name in ["cloud-spot-price", "cloud-spot-fallback"] {
            if given.by_flag(name) && given.one(name) != Some("-1") {
                warnings.push(format!("--{name} has no effect without --cloud-spot"));
            }
        }
        return None;
    }
    Some(Spot {
        max_price,
        fallback,
    })
}

fn pairs(given: &Given, name: &str, mistakes: &mut Vec<String>) -> Vec<(String, String)> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for text in given.many(name) {
        match text.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => {
                pairs.retain(|(known, _)| known != key.trim());
                pairs.push((key.trim().to_owned(), value.to_owned()));
            }
            _ => mistakes.push(format!(
                "{}: `{text}` has not the form key=value",
                given.origin(name)
            )),
        }
    }
    pairs
}

fn script(text: &str) -> Result<Vec<u8>, String> {
    let packed: String = text.split_ascii_whitespace().collect();
    match BASE64_STANDARD.decode(packed) {
        Ok(script) if script.iter().all(u8::is_ascii_whitespace) => {
            Err("the script is empty".to_owned())
        }
        Ok(script) if script.contains(&0) => Err("the decoded text is no shell script".to_owned()),
        Ok(script) => Ok(script),
        // Not the value itself: scripts carry secrets.
        Err(error) => Err(format!("the script must be encoded in Base64: {error}")),
    }
}

/// A pod template's text, which is given itself or in a file. YAML counts the spaces at its beginning.
fn template(given: &Given, mistakes: &mut Vec<String>) -> Option<String> {
    const NAME: &str = "cloud-kubernetes-pod-template";
    let text = given.one(NAME)?;
    let plain = text.trim();
    if plain.contains('\n') || plain.contains(": ") || plain.starts_with('{') {
        return Some(text.to_owned());
    }
    std::fs::read_to_string(plain)
        .map_err(|error| mistakes.push(format!("{}: reading {plain}: {error}", given.origin(NAME))))
        .ok()
}

/// SSH is asked for by a key, by a startup script (which may add keys), or by naming networks.
fn ssh_access(
    given: &Given,
    provider: Option<Provider>,
    mistakes: &mut Vec<String>,
) -> Option<Ssh> {
    let key = given.parsed("cloud-ssh-private", mistakes, |text| {
        ssh::authorized_key(&Secret::new(text))
    });
    if key.is_some() && matches!(provider, Some(Provider::Gcp | Provider::Kubernetes)) {
        mistakes.push(format!(
            "{}: only AWS and Azure know this option",
            given.origin("cloud-ssh-private")
        ));
    }
    let cidrs = given.list("cloud-ssh-cidr").map(|list| {
        let origin = given.origin("cloud-ssh-cidr");
        let mut cidrs: Vec<Cidr> = Vec::new();
        for text in list {
            match text.parse() {
                Ok(cidr) => cidrs.push(cidr),
                Err(complaint) => mistakes.push(format!("{origin}: {complaint}")),
            }
        }
        cidrs
    });
    let asked = key.is_some() || cidrs.is_some() || given.one("cloud-startup-script").is_some();
    asked.then(|| Ssh {
        authorized_key: key,
        cidrs: cidrs.unwrap_or_else(Cidr::anywhere),
    })
}
