//! What a launch tells at its end: outputs for later steps, a JSON line for programs, a table for
//! people.

use serde::Serialize;

use super::ready::Ready;
use crate::cli::Launch;
use crate::cloud::Candidate;
use crate::error::{Error, Result};
use crate::forge::Runner;
use crate::host::Host;
use crate::pipeline::Pipeline;
use crate::spec::{Gpu, InstanceSpec, LaunchSpec, Provider};

/// The line that people and programs find in their logs, with the keys of the tool that they come
/// from. No secret is in it.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    aws_security_group: Option<&'a str>,
    aws_subnet_id: Option<&'a str>,
    cloud: Option<&'static str>,
    driver: &'static str,
    id: &'a str,
    idle_timeout: i64,
    image: Option<&'a str>,
    instance_gpu: Option<&'a str>,
    instance_hdd_size: Option<u32>,
    instance_ip: Option<&'a str>,
    instance_launch_time: Option<String>,
    instance_type: Option<&'a str>,
    instance_permission_set: Option<&'a str>,
    labels: String,
    metadata: std::collections::BTreeMap<&'a str, &'a str>,
    name: &'a str,
    region: Option<&'a str>,
    repo: &'a str,
    single: bool,
    spot: bool,
    spot_price: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reused: Option<bool>,
}

impl<'a> Line<'a> {
    fn new(spec: &'a LaunchSpec) -> Self {
        Self {
            driver: spec.forge.driver.name(),
            idle_timeout: spec.idle_timeout.map_or(-1, |timeout| {
                i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX)
            }),
            labels: spec.labels.join(","),
            name: &spec.name,
            repo: spec.forge.target_url.as_str(),
            single: spec.single,
            ..Self::default()
        }
    }

    fn print(&self, pipeline: &Pipeline) -> Result<()> {
        let line = serde_json::to_string(self)
            .map_err(|error| Error::other("writing the report").caused_by(error))?;
        pipeline.printer().data(&line);
        Ok(())
    }
}

/// All outputs in their order: the name, and what it is.
pub const OUTPUTS: [(&str, &str); 11] = [
    ("instance-id", "the instance's id"),
    (
        "instance-ip",
        "its public address, or its private one where it has no other",
    ),
    ("instance-type", "its native type"),
    ("cloud", "`aws`, `azure` or `gcp`"),
    ("region", "its native region; on Google Cloud its zone"),
    ("name", "the runner's name"),
    ("labels", "the runner's labels, separated by commas"),
    ("runner-id", "the runner's id"),
    ("launch-time", "when the instance was launched"),
    ("spot", "`true` or `false`"),
    ("runs-on", "a JSON array for `runs-on: ${{ fromJSON(…) }}`"),
];

/// Values for [`OUTPUTS`]; what a runner has not stays empty.
fn publish(pipeline: &Pipeline, title: &str, values: [String; OUTPUTS.len()]) -> Result<()> {
    let names = OUTPUTS.map(|(name, _)| name);
    let pairs: Vec<(&str, String)> = names.into_iter().zip(values).collect();
    pipeline.outputs(&pairs)?;
    pipeline.summary(title, &pairs)
}

fn instant(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn runs_on(labels: &[String]) -> String {
    let mut all = vec!["self-hosted"];
    all.extend(
        labels
            .iter()
            .map(String::as_str)
            .filter(|label| !label.eq_ignore_ascii_case("self-hosted")),
    );
    // Strings alone: this can't fail.
    serde_json::to_string(&all).unwrap_or_default()
}

/// After a launch on an instance.
pub(super) fn launched(
    launch: &Launch,
    wanted: &InstanceSpec,
    ready: &Ready,
    host: &Host,
    pipeline: &Pipeline,
) -> Result<()> {
    let (spec, instance) = (&launch.spec, &ready.instance);
    let launch_time = instant(instance.launch_time.unwrap_or_else(|| host.now()));
    let gpu = match &wanted.gpu {
        Some(Gpu::Model(model)) => Some(model.as_str()),
        Some(Gpu::None) | None => None,
    };
    let line = Line {
        aws_security_group: instance
            .security_group
            .as_deref()
            .or(wanted.aws_security_group.as_deref()),
        aws_subnet_id: instance.subnet.as_deref().or(wanted.aws_subnet.as_deref()),
        cloud: Some(wanted.provider.name()),
        id: &instance.reference.id,
        image: Some(&instance.image),
        instance_gpu: gpu,
        instance_hdd_size: instance.disk_gb,
        instance_ip: instance.ip.as_deref(),
        instance_launch_time: Some(launch_time.clone()),
        instance_type: Some(&instance.instance_type),
        instance_permission_set: wanted.permission_set.as_deref(),
        metadata: wanted
            .metadata
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect(),
        region: Some(&instance.reference.region),
        spot: instance.spot,
        spot_price: wanted
            .spot
            .as_ref()
            .filter(|_| instance.spot)
            .map(|spot| spot.max_price.as_deref().unwrap_or("-1")),
        ..Line::new(spec)
    };
    line.print(pipeline)?;
    publish(
        pipeline,
        &format!("Runner {} is ready", spec.name),
        [
            instance.reference.id.clone(),
            instance.ip.clone().unwrap_or_default(),
            instance.instance_type.clone(),
            wanted.provider.name().to_owned(),
            instance.reference.region.clone(),
            spec.name.clone(),
            spec.labels.join(","),
            ready.runner_id.map(|id| id.to_string()).unwrap_or_default(),
            launch_time,
            instance.spot.to_string(),
            runs_on(&spec.labels),
        ],
    )
}

/// After finding a runner that will do.
pub(super) fn reused(launch: &Launch, runner: &Runner, pipeline: &Pipeline) -> Result<()> {
    let spec = &launch.spec;
    tracing::info!(
        "reusing the runner {} (id {}, {}{})",
        runner.name,
        runner.id,
        if runner.online { "online" } else { "offline" },
        if runner.busy { ", busy" } else { "" }
    );
    Line {
        name: &runner.name,
        reused: Some(true),
        ..Line::new(spec)
    }
    .print(pipeline)?;
    let mut values = here(spec, Some(runner.id), String::new());
    values[5] = runner.name.clone();
    publish(
        pipeline,
        &format!("Runner {} is reused", runner.name),
        values,
    )
}

/// When a local runner is ready.
pub(super) fn local(
    launch: &Launch,
    runner_id: Option<u64>,
    host: &Host,
    pipeline: &Pipeline,
) -> Result<()> {
    let spec = &launch.spec;
    let launch_time = instant(host.now());
    Line {
        instance_launch_time: Some(launch_time.clone()),
        ..Line::new(spec)
    }
    .print(pipeline)?;
    let values = here(spec, runner_id, launch_time);
    publish(pipeline, &format!("Runner {} is ready", spec.name), values)
}

/// The outputs of a runner without an instance of ours.
fn here(spec: &LaunchSpec, runner_id: Option<u64>, launch_time: String) -> [String; OUTPUTS.len()] {
    [
        String::new(),
        String::new(),
        String::new(),
        String::new(),
        String::new(),
        spec.name.clone(),
        spec.labels.join(","),
        runner_id.map(|id| id.to_string()).unwrap_or_default(),
        launch_time,
        false.to_string(),
        runs_on(&spec.labels),
    ]
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DryRun<'a> {
    name: &'a str,
    labels: &'a [String],
    repo: &'a str,
    driver: &'static str,
    cloud: Option<&'static str>,
    single: bool,
    retry: bool,
    idle_timeout_seconds: Option<u64>,
    timeout_seconds: u64,
    permission_set: Option<&'a str>,
    metadata: std::collections::BTreeMap<&'a str, &'a str>,
    startup_script_bytes: usize,
    ssh_from: Vec<String>,
    /// What would be tried, in this order, until one is had.
    candidates: &'a [Candidate],
    token: &'static str,
}

/// What would be made, and nothing is.
pub(super) fn dry_run(
    launch: &Launch,
    wanted: Option<&InstanceSpec>,
    candidates: &[Candidate],
    pipeline: &Pipeline,
) -> Result<()> {
    let spec = &launch.spec;
    let ssh = wanted.and_then(|wanted| wanted.ssh.as_ref());
    let report = DryRun {
        name: &spec.name,
        labels: &spec.labels,
        repo: spec.forge.target_url.as_str(),
        driver: spec.forge.driver.name(),
        cloud: wanted.map(|wanted| wanted.provider.name()),
        single: spec.single,
        retry: spec.retry,
        idle_timeout_seconds: spec.idle_timeout.map(|timeout| timeout.as_secs()),
        timeout_seconds: spec.timeout.as_secs(),
        permission_set: wanted.and_then(|wanted| wanted.permission_set.as_deref()),
        metadata: wanted
            .map(|wanted| {
                wanted
                    .metadata
                    .iter()
                    .map(|(key, value)| (key.as_str(), value.as_str()))
                    .collect()
            })
            .unwrap_or_default(),
        startup_script_bytes: wanted
            .and_then(|wanted| wanted.startup_script.as_ref())
            .map_or(0, Vec::len),
        ssh_from: ssh
            .map(|ssh| ssh.cidrs.iter().map(ToString::to_string).collect())
            .unwrap_or_default(),
        candidates,
        token: crate::secret::MASK,
    };
    let json = |pretty: bool| {
        let text = if pretty {
            serde_json::to_string_pretty(&report)
        } else {
            serde_json::to_string(&report)
        };
        text.map_err(|error| Error::other("writing the report").caused_by(error))
    };
    if launch.json {
        pipeline.printer().data(&json(false)?);
        return Ok(());
    }
    pipeline.printer().data(&text(&report));
    Ok(())
}

fn text(report: &DryRun<'_>) -> String {
    let seconds = |seconds: Option<u64>| seconds.map_or("never".to_owned(), |s| format!("{s} s"));
    let mut rows = vec![
        ("runner", format!("{} for {}", report.name, report.repo)),
        ("labels", report.labels.join(", ")),
        (
            "ends",
            match report.single {
                true => format!(
                    "after one job, or after {} without one",
                    seconds(report.idle_timeout_seconds)
                ),
                false => format!(
                    "after {} without a job",
                    seconds(report.idle_timeout_seconds)
                ),
            },
        ),
        ("retry", report.retry.to_string()),
    ];
    match report.cloud {
        Some(cloud) => rows.push(("cloud", cloud.to_owned())),
        None => rows.push(("where", "on this machine".to_owned())),
    }
    if let Some(set) = report.permission_set {
        rows.push(("permissions", set.to_owned()));
    }
    if !report.metadata.is_empty() {
        let pairs: Vec<String> = report
            .metadata
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        rows.push(("metadata", pairs.join(", ")));
    }
    if report.startup_script_bytes > 0 {
        rows.push((
            "startup script",
            format!("{} bytes", report.startup_script_bytes),
        ));
    }
    if !report.ssh_from.is_empty() {
        rows.push(("SSH from", report.ssh_from.join(", ")));
    }
    for (index, candidate) in report.candidates.iter().enumerate() {
        let place = candidate.zone.as_ref().unwrap_or(&candidate.region);
        let or_new = |name: &Option<String>| name.clone().unwrap_or_else(|| "a new one".to_owned());
        // Groups are AWS's alone, and a cluster has its network.
        let network = match report.cloud {
            Some(cloud) if cloud == Provider::Kubernetes.name() => String::new(),
            Some(cloud) if cloud == Provider::Aws.name() => {
                format!(", security group {}", or_new(&candidate.security_group))
            }
            _ => format!(", network {}", or_new(&candidate.network)),
        };
        rows.push((
            if index == 0 { "first try" } else { "then" },
            format!(
                "{}{} ({}) in {place}, {} GB, image {}{network}",
                candidate.instance_type,
                if candidate.spot { " spot" } else { "" },
                candidate.arch.uname(),
                candidate.disk_gb,
                candidate.image_name.as_ref().unwrap_or(&candidate.image),
            ),
        ));
    }
    let mut text = "Would launch, and has made nothing:".to_owned();
    for (name, value) in rows {
        text.push_str(&format!("\n  {name:<15} {value}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_on_names_self_hosted_once() {
        let labels = ["gpu".to_owned(), "Self-Hosted".to_owned()];
        assert_eq!(runs_on(&labels), r#"["self-hosted","gpu"]"#);
    }
}
