//! The life of a launch: look, register, create, await, publish; and back, if anything fails.

mod agents;
mod local;
mod ready;
pub mod report;
mod rollback;
#[cfg(test)]
mod tests;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio::time::Instant;

use crate::agent::{AgentConfig, Place};
use crate::bootstrap::Bootstrap;
use crate::cli::Launch;
use crate::cloud::{self, Arch, Cloud, GiveBack, MachineSide, Order, Plan, Setting, StopFlag};
use crate::error::{Error, Kind, Result, Signal};
use crate::forge::{self, Enrolment, Findings, Forge, Question, Registration, Runner};
use crate::host::Host;
use crate::http::Http;
use crate::pipeline::Pipeline;
use crate::signals::Signals;
use crate::spec::{Access, InstanceSpec, LaunchSpec, Reuse};
use agents::{Own, Probe};
use rollback::Made;

/// The user of the jobs on an instance.
const JOBS_USER: &str = "runner";

/// Launches a runner: on an instance, or here.
pub async fn launch(launch: &Launch, host: &Host, http: &Http, pipeline: &Pipeline) -> Result<()> {
    let mut signals = Signals::listen()?;
    if pipeline.is_some() {
        signals.follow_parent();
    }
    for secret in &launch.secrets {
        pipeline.mask(secret);
    }
    for warning in &launch.warnings {
        tracing::warn!("{warning}");
    }
    let spec = &launch.spec;
    let forge = forge::open(&spec.forge, host, http)?;
    let Some(instance) = &spec.instance else {
        return local::launch(launch, forge, host, http, pipeline, signals).await;
    };
    let cloud = cloud::open(instance.provider, host, http);
    let life = Life {
        launch,
        spec,
        instance,
        forge,
        cloud,
        host,
        http,
        pipeline,
        launch_id: host.random_id(20)?,
        stop: StopFlag::default(),
    };
    life.run(&mut signals).await
}

/// Everything that a launch works with.
struct Life<'a> {
    launch: &'a Launch,
    spec: &'a LaunchSpec,
    instance: &'a InstanceSpec,
    forge: Arc<dyn Forge>,
    cloud: Arc<dyn Cloud>,
    host: &'a Host,
    http: &'a Http,
    pipeline: &'a Pipeline,
    /// Random: the base of idempotency keys, and the tag by which the instance is found.
    launch_id: String,
    stop: StopFlag,
}

impl Life<'_> {
    /// Lives until the launch is done, or a signal, a failure or a panic makes it roll back.
    async fn run(&self, signals: &mut Signals) -> Result<()> {
        let mut made = Made::default();
        let outcome = tokio::select! {
            biased;
            signal = signals.next() => Err(interrupted(signal)),
            // A panic must not leave an instance behind; what it was is printed by its own hook.
            outcome = AssertUnwindSafe(self.live(&mut made)).catch_unwind() => outcome
                .unwrap_or_else(|_| Err(Error::other("launching: the program is broken (see above)"))),
        };
        let Err(mut error) = outcome else {
            return Ok(());
        };
        let undone = async {
            // Further signals say the same: the work of the first goes on.
            loop {
                let signal = signals.next().await;
                tracing::warn!("{} while rolling back; still at it", signal.name());
            }
        };
        let left = tokio::select! {
            left = self.rollback(made) => left,
            never = undone => never,
        };
        for problem in left {
            error = error.hint(format!(
                "left behind: {problem}. An instance without a ready runner ends by itself {:?} after its start",
                self.spec.timeout
            ));
        }
        Err(error)
    }

    /// The steps, each noting in `made` what it is about to make before it does.
    async fn live(&self, made: &mut Made) -> Result<()> {
        let started = Instant::now();
        let progress = self.pipeline.group(&format!(
            "Launching {} on {}",
            self.spec.name,
            self.instance.provider.name()
        ));
        let (findings, plan, own) = self.look().await?;
        match (settled(self.spec, &findings), &plan) {
            // Where nothing is to be made, nothing of the cloud's stands in the way.
            (Ok(Some(runner)), _) => {
                drop(progress);
                return report::reused(self.launch, runner, self.pipeline);
            }
            (Ok(None), _) => {}
            (Err(forge), Err(cloud)) => return Err(both(forge, cloud)),
            (Err(forge), Ok(_)) => return Err(forge),
        }
        let (plan, (own, mut probe)) = (plan?, own?);
        for warning in plan.warnings() {
            tracing::warn!("{warning}");
        }
        if self.spec.dry_run {
            drop(progress);
            return report::dry_run(
                self.launch,
                Some(self.instance),
                plan.candidates(),
                self.pipeline,
            );
        }
        let archs = architectures(plan.as_ref());
        if let Some(arch) = archs
            .iter()
            .find(|arch| !findings.programs.contains_key(arch))
        {
            return Err(Error::new(
                Kind::Forge,
                format!("the forge offers no runner program for {}", arch.uname()),
            ));
        }
        let agents = own.agents(&archs, self.host, self.http).await?;
        probe.check().await?;

        made.registering = true;
        let enrolment = Enrolment {
            name: &self.spec.name,
            labels: &self.spec.labels,
            single: self.spec.single,
            arch: <[Arch; 1]>::try_from(archs).ok().map(|[arch]| arch),
            pinned: self.spec.runner_version.is_some(),
        };
        let registration = self.forge.register(&enrolment).await?;
        made.registered = true;
        made.runner_id = registration.runner_id;
        for secret in registration.secrets() {
            self.pipeline.mask(secret);
        }

        let machine = plan.machine();
        let config = self.agent_config(&registration, findings, &machine);
        if let Access::App { .. } = config.forge.access {
            tracing::warn!(
                "the GitHub App's private key goes to the instance, where only root reads it, to \
                 remove the runner and to run interrupted jobs again; an App of its own, for these \
                 repositories alone, limits what it is good for"
            );
        }
        let user_data = Bootstrap {
            name: &self.spec.name,
            deadline: self.spec.timeout,
            agents: &agents,
            config: &config,
            startup_script: self.instance.startup_script.as_deref(),
            ssh_key: self
                .instance
                .ssh
                .as_ref()
                .and_then(|ssh| ssh.authorized_key.as_deref()),
            farewell: &machine.farewell,
            closed: machine.closed,
        }
        .user_data(plan.user_data_limit())?;
        let order = Order {
            name: self.spec.name.clone(),
            serves: self.spec.forge.target_url.to_string(),
            launch_id: self.launch_id.clone(),
            user_data,
            timeout: self.spec.timeout,
            stop: self.stop.clone(),
        };
        probe.check().await?;
        made.regions = plan.regions();
        // In a task of its own: a creation that is under way when a signal comes must be heard out,
        // or its instance has no owner.
        let creation = made
            .creation
            .insert(tokio::spawn(async move { plan.create(&order).await }));
        let created = creation
            .await
            .unwrap_or_else(|error| Err(Error::other("creating the instance").caused_by(error)));
        made.creation = None;
        let created = match created {
            Ok(created) => created,
            Err(error) => {
                made.unclear = !error.is_refusal();
                return Err(error);
            }
        };
        made.instance = Some(created.reference.clone());
        tracing::info!(
            "instance {} ({}) in {} after {:.1} s; waiting for its runner",
            created.reference.id,
            created.instance_type,
            created.zone.as_deref().unwrap_or(&created.reference.region),
            started.elapsed().as_secs_f64()
        );
        let ready = self.until_ready(created, &registration, started).await?;
        self.cloud.settle(&ready.instance.reference).await?;
        drop(progress);
        tracing::info!(
            "runner {} is ready for jobs after {:.1} s",
            self.spec.name,
            started.elapsed().as_secs_f64()
        );
        report::launched(self.launch, self.instance, &ready, self.host, self.pipeline)
    }

    /// Asks the forge and the cloud at the same time; a wrong token is the first thing to hear of.
    async fn look(&self) -> Result<(Findings, Result<Arc<dyn Plan>>, Result<(Own, Probe)>)> {
        let question = Question {
            name: &self.spec.name,
            labels: &self.spec.labels,
            reuse: self.spec.reuse,
            retry: self.spec.retry,
            runner_version: self.spec.runner_version.as_deref(),
        };
        let (findings, plan, own) = tokio::join!(
            self.forge.look(&question),
            self.cloud.look(self.instance),
            async {
                let own = Own::read().await?;
                let probe = own.probe(self.host, self.http);
                Ok((own, probe))
            }
        );
        match (findings, plan) {
            (Ok(findings), plan) => Ok((findings, plan, own)),
            (Err(forge), Ok(_)) => Err(forge),
            (Err(forge), Err(cloud)) => Err(both(forge, &cloud)),
        }
    }

    fn agent_config(
        &self,
        registration: &Registration,
        findings: Findings,
        machine: &MachineSide,
    ) -> AgentConfig {
        let user = JOBS_USER.to_owned();
        let place = match machine.setting {
            Setting::Machine => Place::Instance { user },
            Setting::Pod => Place::Pod { user },
        };
        AgentConfig {
            notices: machine.notices,
            give_back: machine.give_back.clone(),
            ..agent_config(self.spec, registration, findings, place)
        }
    }
}

/// The forge's error, which also tells the cloud's.
fn both(forge: Error, cloud: &Error) -> Error {
    let also = std::iter::once(cloud.chain()).chain(cloud.hints().iter().cloned());
    also.fold(forge, |error, text| error.hint(format!("also: {text}")))
}

/// An existing runner that will do, or an error where one stands in the way.
fn settled<'f>(spec: &LaunchSpec, findings: &'f Findings) -> Result<Option<&'f Runner>> {
    let (reusable, namesake) = (findings.reusable.as_ref(), findings.namesake.as_ref());
    match (spec.reuse, reusable, namesake) {
        (Reuse::Any, Some(runner), _) | (Reuse::Any, None, Some(runner)) => Ok(Some(runner)),
        (Reuse::Idle, Some(runner), _) => Ok(Some(runner)),
        (_, _, Some(runner)) => Err(Error::new(
            Kind::Forge,
            format!(
                "a runner named {} exists already (id {}, {})",
                runner.name,
                runner.id,
                if runner.online { "online" } else { "offline" }
            ),
        )
        .hint("choose another --name, leave it out for a random one, or pass --reuse")),
        (_, _, None) => Ok(None),
    }
}

/// What the agent needs to know wherever it runs.
fn agent_config(
    spec: &LaunchSpec,
    registration: &Registration,
    findings: Findings,
    place: Place,
) -> AgentConfig {
    let mut forge = spec.forge.clone();
    let retry = spec.retry && findings.can_rerun;
    // A runner that removes itself, or that takes its one job however long that takes so that its
    // record goes with the job, has nothing to ask of the forge when nothing is to be retried.
    let one_job = spec.single && spec.idle_timeout.is_none() && registration.jit.is_some();
    if !retry && (one_job || registration.own.is_some()) {
        forge.access = Access::None;
    }
    AgentConfig {
        name: spec.name.clone(),
        labels: spec.labels.clone(),
        idle_seconds: spec.idle_timeout.map(|timeout| timeout.as_secs()),
        single: spec.single,
        version: spec.runner_version.clone(),
        retry,
        forge,
        registration: registration.clone(),
        programs: findings.programs,
        docker: spec.docker.clone(),
        notices: None,
        give_back: GiveBack::default(),
        place,
    }
}

fn architectures(plan: &dyn Plan) -> Vec<Arch> {
    let mut archs: Vec<Arch> = plan
        .candidates()
        .iter()
        .map(|candidate| candidate.arch)
        .collect();
    archs.sort_unstable();
    archs.dedup();
    archs
}

fn interrupted(signal: Signal) -> Error {
    Error::new(
        Kind::Interrupted(signal),
        format!("launching: interrupted by {}", signal.name()),
    )
}
