//! A runner right here: the same agent, no instance, and nothing left when it ends.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;

use super::{agent_config, interrupted, report, settled};
use crate::agent::{Agent, AgentConfig, Place};
use crate::cli::Launch;
use crate::cloud::Arch;
use crate::error::{Error, Result};
use crate::forge::{Enrolment, Forge, Question, forget};
use crate::host::Host;
use crate::http::Http;
use crate::pipeline::Pipeline;
use crate::signals::Signals;
use crate::spec::LaunchSpec;

/// Registers and runs a runner on this machine, to its end.
pub(super) async fn launch(
    launch: &Launch,
    forge: Arc<dyn Forge>,
    host: &Host,
    http: &Http,
    pipeline: &Pipeline,
    mut signals: Signals,
) -> Result<()> {
    let spec = &launch.spec;
    let question = Question {
        name: &spec.name,
        labels: &spec.labels,
        reuse: spec.reuse,
        retry: spec.retry,
        runner_version: spec.runner_version.as_deref(),
    };
    let findings = tokio::select! {
        biased;
        signal = signals.next() => return Err(interrupted(signal)),
        findings = forge.look(&question) => findings?,
    };
    if let Some(runner) = settled(spec, &findings)? {
        return report::reused(launch, runner, pipeline);
    }
    if spec.dry_run {
        return report::dry_run(launch, None, &[], pipeline);
    }
    let folder = Folder::make(spec, host)?;
    let enrolment = Enrolment {
        name: &spec.name,
        labels: &spec.labels,
        single: spec.single,
        arch: Some(Arch::own()),
        pinned: spec.runner_version.is_some(),
    };
    let registration = tokio::select! {
        biased;
        signal = signals.next() => {
            // The request may have arrived all the same.
            remove_record(forge.as_ref(), &spec.name).await;
            return Err(interrupted(signal));
        }
        registration = forge.register(&enrolment) => match registration {
            Ok(registration) => registration,
            Err(error) => {
                if !error.is_refusal() {
                    remove_record(forge.as_ref(), &spec.name).await;
                }
                return Err(error);
            }
        },
    };
    for secret in registration.secrets() {
        pipeline.mask(secret);
    }
    let place = Place::Local {
        folder: folder.path.clone(),
    };
    let mut config = agent_config(spec, &registration, findings, place);
    // Here the access is at hand anyway, and nothing is ever left behind.
    config.forge.access = spec.forge.access.clone();
    run(launch, config, host, http, pipeline, signals).await
}

async fn run(
    launch: &Launch,
    config: AgentConfig,
    host: &Host,
    http: &Http,
    pipeline: &Pipeline,
    signals: Signals,
) -> Result<()> {
    let runner_id = config.registration.runner_id;
    let mut on_ready = || report::local(launch, runner_id, host, pipeline);
    let agent = Agent::new(config.clone(), host, http, pipeline.printer())?;
    let life = agent.run(signals, Some(launch.spec.timeout), &mut on_ready);
    match AssertUnwindSafe(life).catch_unwind().await {
        Ok(outcome) => outcome,
        Err(_) => {
            Agent::new(config, host, http, pipeline.printer())?
                .clean_up()
                .await;
            Err(Error::other(
                "running the runner: the program is broken (see above)",
            ))
        }
    }
}

async fn remove_record(forge: &dyn Forge, name: &str) {
    if let Err(error) = forget(forge, None, name, 1, Duration::ZERO).await {
        tracing::warn!("{}", error.chain());
    }
}

/// The runner's folder, which goes with it.
struct Folder {
    path: PathBuf,
    /// The topmost folder that didn't exist before.
    made: PathBuf,
}

impl Folder {
    /// The folder of the specification, else one below the home folder. Somebody's own folder
    /// with things in it gets a folder of ours inside, so that nothing of theirs is touched.
    fn make(spec: &LaunchSpec, host: &Host) -> Result<Self> {
        let path = match &spec.workdir {
            Some(folder) if is_used(folder) => folder.join(&spec.name),
            Some(folder) => folder.clone(),
            None => {
                let home = host.home().ok_or_else(|| {
                    Error::usage(
                        "--workdir: there is no home folder, so say where the runner may live",
                    )
                })?;
                home.join(".runner-launch").join(&spec.name)
            }
        };
        let path = std::path::absolute(&path).map_err(|error| {
            Error::usage(format!("--workdir: {}", path.display())).caused_by(error)
        })?;
        if is_used(&path) {
            return Err(Error::usage(format!("--workdir: {} is in use", path.display()))
                .hint("another runner of this name may live there; choose another --name or --workdir"));
        }
        let missing = path
            .ancestors()
            .take_while(|folder| !folder.exists())
            .last();
        let made = missing.unwrap_or(&path).to_owned();
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(|error| {
                Error::usage(format!("--workdir: making {}", path.display())).caused_by(error)
            })?;
        Ok(Self { path, made })
    }
}

fn is_used(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
}

impl Drop for Folder {
    /// A folder is no cloud resource: removing it needs no deadline and no answer. Folders above
    /// go only while they are empty, for another runner may have moved in.
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!("removing {}: {error}", self.path.display());
        }
        for folder in self.path.ancestors().skip(1) {
            if !folder.starts_with(&self.made) || fs::remove_dir(folder).is_err() {
                break;
            }
        }
    }
}
