//! A Job that is watched: it, its pod, and the events of both, as they come.
//!
//! `kube` keeps the watches going: it takes bookmarks, begins again where one breaks off, and lists
//! anew where the server has forgotten.

use std::sync::Arc;
use std::time::Duration;

use backon::ExponentialBuilder;
use futures_util::StreamExt as _;
use futures_util::stream::{BoxStream, SelectAll, select_all};
use kube::core::Status;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::Event::{Apply, Delete, Init, InitApply, InitDone};
use kube::runtime::watcher::{self, ExponentialBackoff, watcher};
use kube::{Api, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::{Mutex, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use super::client::{Client, Cluster};
use super::refusal;
use super::told::{Told, remember};
use super::transport::WATCH;
use super::views::{Event, Job, Pod};

/// The label by which a Job's pods are known: the old one, which every version sets.
/// <https://kubernetes.io/docs/reference/labels-annotations-taints/#job-name>
pub(super) const JOB_NAME: &str = "job-name";

/// The same for their Job's uid.
/// <https://kubernetes.io/docs/reference/labels-annotations-taints/#controller-uid>
pub(super) const CONTROLLER_UID: &str = "controller-uid";

/// The pauses before a watch that failed begins again.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The same for events, which explain, and nothing more: who may not read them asks seldom, though
/// not never, for a server that has just started denies what it will allow.
const LONGEST_PAUSE_OF_EVENTS: Duration = Duration::from_secs(15);

/// What is known of a Job.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// The Job's uid, which no other ever has.
    pub(super) uid: Option<String>,
    /// As last seen; `None`: it is gone.
    pub(super) job: Option<Job>,
    /// Its newest pod, as last seen.
    pub(super) pod: Option<Pod>,
    /// What has happened to both, in order.
    pub(super) events: Vec<Told>,
    /// When the pod began to be in trouble, for as long as it is.
    pub(super) trouble: Option<Instant>,
    /// When watching the Job, or its pod, failed last, so that what is known of it may be old.
    job_unseen: Option<Instant>,
    pod_unseen: Option<Instant>,
    /// Whether the Job was in the list that is being read.
    listed: bool,
}

/// Watches one Job until it is dropped.
#[derive(Debug)]
pub(super) struct Follower {
    seen: Arc<watch::Sender<Seen>>,
    /// What has been heard of what is seen, by whoever waits for news.
    heard: Arc<Mutex<watch::Receiver<Seen>>>,
    task: AbortHandle,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Follower {
    /// Begins to watch.
    pub(super) fn new(client: Arc<Client>, job: Job) -> Self {
        let (seen, heard) = watch::channel(Seen::once(job.clone(), None));
        let seen = Arc::new(seen);
        let task = tokio::spawn(follow(client, job, Arc::clone(&seen))).abort_handle();
        Self {
            seen,
            heard: Arc::new(Mutex::new(heard)),
            task,
        }
    }

    /// What is known by now, and from now on.
    pub(super) fn seen(&self) -> watch::Receiver<Seen> {
        self.seen.subscribe()
    }

    /// For who waits for news: nothing that comes between two waits is lost, or heard twice.
    pub(super) fn heard(&self) -> Arc<Mutex<watch::Receiver<Seen>>> {
        Arc::clone(&self.heard)
    }

    /// Takes what was read because the watch may be blind; what else is known stays.
    pub(super) fn take(&self, job: Option<Job>, pod: Option<Pod>) -> Seen {
        self.seen.send_modify(|seen| {
            seen.job = job;
            if let Some(pod) = pod {
                seen.take_pod(pod);
            }
        });
        self.seen.borrow().clone()
    }
}

/// What a watch brings.
enum News {
    Job(Outcome<Job>),
    Pod(Outcome<Pod>),
    Event(Outcome<Event>),
}

type Outcome<K> = Box<watcher::Result<watcher::Event<K>>>;

type Streams = SelectAll<BoxStream<'static, News>>;

async fn follow(client: Arc<Client>, job: Job, seen: Arc<watch::Sender<Seen>>) {
    let name = job.name_any();
    let mut pause = FIRST_PAUSE;
    loop {
        let cluster = match client.cluster().await {
            Ok(cluster) => cluster,
            Err(error) => {
                tracing::debug!("watching {name}: {}", error.chain());
                let now = Some(Instant::now());
                seen.send_modify(|seen| (seen.job_unseen, seen.pod_unseen) = (now, now));
                sleep(LONGEST_PAUSE).await;
                continue;
            }
        };
        let mut streams = streams(&cluster, &job);
        let mut pod = None;
        while let Some(news) = streams.next().await {
            if let Some(error) = failure(&news) {
                tracing::debug!("watching {name}: {}", chain(error));
                let now = Some(Instant::now());
                match news {
                    News::Job(_) => seen.send_modify(|seen| seen.job_unseen = now),
                    News::Pod(_) => seen.send_modify(|seen| seen.pod_unseen = now),
                    // Events explain, and nothing more: without them the watch goes on.
                    News::Event(_) => {}
                }
                if is_unauthorized(error) {
                    // Others may be accepted; if not, they aren't asked for all the time.
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    client.forget(&cluster).await;
                    break;
                }
                continue;
            }
            seen.send_modify(|seen| apply(news, seen));
            let found = seen.borrow().pod.as_ref().and_then(kube::ResourceExt::uid);
            if found != pod
                && let Some(uid) = &found
            {
                streams.push(events(&cluster, uid));
                pod = found;
            }
        }
    }
}

fn streams(cluster: &Cluster, job: &Job) -> Streams {
    let name = job.name_any();
    let jobs = config().fields(&format!("metadata.name={name}"));
    let pods = config().labels(&format!("{JOB_NAME}={name}"));
    let uid = job.uid().unwrap_or_default();
    select_all([
        stream(cluster.jobs(), jobs, LONGEST_PAUSE, News::Job),
        stream(cluster.pods(), pods, LONGEST_PAUSE, News::Pod),
        events(cluster, &uid),
    ])
}

fn events(cluster: &Cluster, uid: &str) -> BoxStream<'static, News> {
    let about = config().fields(&format!("involvedObject.uid={uid}"));
    let longest = LONGEST_PAUSE_OF_EVENTS;
    stream(cluster.events(), about, longest, News::Event)
}

fn config() -> watcher::Config {
    let seconds = u32::try_from(WATCH.as_secs()).unwrap_or(u32::MAX);
    watcher::Config::default().timeout(seconds)
}

fn stream<K>(
    api: Api<K>,
    config: watcher::Config,
    longest_pause: Duration,
    news: fn(Outcome<K>) -> News,
) -> BoxStream<'static, News>
where
    K: kube::Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let pauses = ExponentialBuilder::default()
        .with_min_delay(FIRST_PAUSE)
        .with_max_delay(longest_pause)
        .without_max_times()
        .with_jitter();
    let stream = watcher(api, config).backoff(ExponentialBackoff::from(pauses));
    stream.map(move |outcome| news(Box::new(outcome))).boxed()
}

fn failure(news: &News) -> Option<&watcher::Error> {
    match news {
        News::Job(outcome) => outcome.as_ref().as_ref().err(),
        News::Pod(outcome) => outcome.as_ref().as_ref().err(),
        News::Event(outcome) => outcome.as_ref().as_ref().err(),
    }
}

/// An error with its causes, which `kube`'s own words leave out.
fn chain(error: &watcher::Error) -> String {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| {
        error.source()
    });
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

fn is_unauthorized(error: &watcher::Error) -> bool {
    status(error).is_some_and(refusal::is_unauthorized)
}

fn status(error: &watcher::Error) -> Option<&Status> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => Some(status),
        _ => None,
    }
}

fn apply(news: News, seen: &mut Seen) {
    match news {
        News::Job(outcome) => {
            if let Ok(event) = *outcome {
                apply_job(event, seen);
            }
        }
        News::Pod(outcome) => {
            if let Ok(event) = *outcome {
                apply_pod(event, seen);
            }
        }
        News::Event(outcome) => {
            if let Ok(InitApply(event) | Apply(event)) = *outcome {
                remember(&event, &mut seen.events);
            }
        }
    }
}

fn apply_job(event: watcher::Event<Job>, seen: &mut Seen) {
    // A list that begins hasn't told anything yet.
    if !matches!(event, Init) {
        seen.job_unseen = None;
    }
    match event {
        Init => seen.listed = false,
        InitApply(job) | Apply(job) => {
            seen.listed = true;
            seen.job = Some(job);
        }
        // What isn't in the list is gone.
        InitDone if !seen.listed => seen.job = None,
        InitDone => {}
        Delete(_) => seen.job = None,
    }
}

fn apply_pod(event: watcher::Event<Pod>, seen: &mut Seen) {
    if !matches!(event, Init) {
        seen.pod_unseen = None;
    }
    match event {
        // A pod's last state tells most of its end.
        InitApply(pod) | Apply(pod) | Delete(pod) => seen.take_pod(pod),
        Init | InitDone => {}
    }
}

impl Seen {
    /// What was read just now, and isn't watched.
    pub(super) fn once(job: Job, pod: Option<Pod>) -> Self {
        Self {
            uid: job.uid(),
            job: Some(job),
            pod,
            ..Self::default()
        }
    }

    /// Whether this may be old. A watch that fails goes on failing; one that began again may have
    /// nothing to tell.
    pub(super) fn is_blind(&self) -> bool {
        let fails = |last: &Instant| last.elapsed() < LONGEST_PAUSE * 4;
        self.job_unseen.as_ref().is_some_and(fails) || self.pod_unseen.as_ref().is_some_and(fails)
    }

    fn take_pod(&mut self, pod: Pod) {
        let newer = match &self.pod {
            Some(known) => {
                known.uid() == pod.uid() || known.creation_timestamp() <= pod.creation_timestamp()
            }
            None => true,
        };
        if !newer {
            return;
        }
        self.trouble = match super::pods::trouble(&pod) {
            Some(_) => self.trouble.or_else(|| Some(Instant::now())),
            None => None,
        };
        self.pod = Some(pod);
    }
}
