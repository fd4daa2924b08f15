//! Promise 1, nothing leaks: whatever call fails, times out, or is cut off, and whenever the
//! launcher or the agent dies.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use sandbox::{Caller, FaultKind};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::world::{SOON, World};

type Args = &'static [&'static str];

/// A launch whose runner ends by itself soon after.
const MANY: Args = &[
    "launch",
    "--cloud=aws",
    "--name=faulty",
    "--idle-timeout=1",
    "--timeout=20",
];
/// The same with a just-in-time configuration.
const SINGLE: Args = &[
    "launch",
    "--cloud=aws",
    "--name=faulty",
    "--idle-timeout=1",
    "--timeout=20",
    "--single",
];
/// The same at GitLab.
const GITLAB: Args = &[
    "launch",
    "--cloud=aws",
    "--driver=gitlab",
    "--name=faulty",
    "--idle-timeout=1",
    "--timeout=20",
];
/// The same on Google Cloud.
const GCP: Args = &[
    "launch",
    "--cloud=gcp",
    "--name=faulty",
    "--idle-timeout=1",
    "--timeout=20",
];
/// The same on Azure, whose networks take their time; and a launcher that is asked to come later must
/// still meet its runner.
const AZURE: Args = &[
    "launch",
    "--cloud=azure",
    "--name=faulty",
    "--idle-timeout=5",
    "--timeout=30",
];
/// The same on Kubernetes.
const KUBERNETES: Args = &[
    "launch",
    "--cloud=kubernetes",
    "--name=faulty",
    "--idle-timeout=1",
    "--timeout=20",
];
/// Worlds at a time, of all tests together: they mostly wait.
static ROOM: Semaphore = Semaphore::const_new(16);
/// What a cancelled GitHub job leaves between its first signal and its last.
const GRACE: Duration = Duration::from_secs(10);

/// What goes wrong at a call.
#[derive(Debug, Clone)]
enum Trouble {
    /// The call fails, the first time only.
    Once(FaultKind),
    /// The call fails every time that the launcher makes it.
    Always(FaultKind),
    /// A signal comes while the call is under way, before the server has done it.
    SignalBefore(i32),
    /// A signal comes while the call is under way, after the server has done it.
    SignalAfter(i32),
}

/// How a call fails.
const KINDS: [FaultKind; 6] = [
    FaultKind::Status(500),
    FaultKind::Throttled,
    FaultKind::TimeoutAfter,
    FaultKind::CutAfter,
    FaultKind::CutBefore,
    FaultKind::Denied,
];

/// Everything that can go wrong at a call.
fn troubles() -> Vec<Trouble> {
    let once = KINDS.map(Trouble::Once).into_iter();
    once.chain(KINDS.map(Trouble::Always))
        .chain([2, 15].map(Trouble::SignalBefore))
        .chain([2, 15].map(Trouble::SignalAfter))
        .collect()
}

async fn world() -> World {
    world_of(MANY).await
}

async fn world_of(args: Args) -> World {
    let mut world = match args.contains(&"--driver=gitlab") {
        true => World::gitlab().await,
        false => World::new().await,
    };
    world.set("RUNNER_LAUNCH_HTTP_TIMEOUT", Some("1.5"));
    world
}

/// Every remote call of a launch up to its end, by name.
async fn calls(args: Args) -> BTreeSet<String> {
    let world = world_of(args).await;
    let done = world.run(args).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let mut calls: BTreeSet<String> = world.host_calls().into_iter().collect();
    // A runner program's, whose process was gone before it was known whose it was.
    calls.retain(|call| !call.starts_with("runner:"));
    world.finish().await;
    let creation = match args {
        _ if args.contains(&"--cloud=gcp") => "compute:instances.insert",
        _ if args.contains(&"--cloud=azure") => "arm:PUT virtualMachines",
        _ if args.contains(&"--cloud=kubernetes") => "create jobs",
        _ => "ec2:RunInstances",
    };
    assert!(calls.contains(creation), "{calls:?}");
    calls
}

/// Meets each call of a launch with each trouble, in a world of its own each time, some at once.
async fn meet(args: Args, troubles: &[Trouble]) {
    meet_at(calls(args).await, args, troubles).await;
}

async fn meet_at(calls: BTreeSet<String>, args: Args, troubles: &[Trouble]) {
    let mut all = JoinSet::new();
    for call in calls {
        for trouble in troubles {
            let (call, trouble) = (call.clone(), trouble.clone());
            all.spawn(async move {
                let _place = ROOM.acquire().await.unwrap();
                one(args, &call, &trouble).await;
            });
        }
    }
    while let Some(ended) = all.join_next().await {
        ended.unwrap();
    }
}

async fn one(args: Args, call: &str, trouble: &Trouble) {
    let world = world_of(args).await;
    let context = format!("{trouble:?} at {call}");
    let host_call = format!("host:{call}");
    match trouble {
        Trouble::Once(kind) => world.sandbox.fault(&host_call, Some(1), kind.clone()),
        Trouble::Always(kind) => world.sandbox.fault(&host_call, None, kind.clone()),
        Trouble::SignalBefore(number) | Trouble::SignalAfter(number) => {
            let mut hold = match trouble {
                Trouble::SignalBefore(_) => world.sandbox.hold_before(&host_call, 1),
                _ => world.sandbox.hold(&host_call, 1),
            };
            let running = world.spawn(args);
            assert!(hold.arrived(SOON).await, "{context}: {}", world.report());
            running.signal(*number);
            // The answer comes late, as answers do when somebody is in a hurry.
            tokio::time::sleep(Duration::from_millis(150)).await;
            let signalled = Instant::now();
            hold.release();
            let done = world.done(running).await;
            assert_eq!(done.code, 128 + number, "{context}: {}", world.report());
            assert!(
                signalled.elapsed() < GRACE,
                "{context}: took {:?}",
                signalled.elapsed()
            );
            assert!(world.all_end(), "{context}: {}", world.report());
            return world.finish().await;
        }
    }
    let running = world.spawn(args);
    let done = tokio::time::timeout(SOON * 2, world.done(running)).await;
    let done = done.unwrap_or_else(|_| panic!("{context}: hangs\n{}", world.report()));
    if let Trouble::Once(FaultKind::Status(_) | FaultKind::Throttled | FaultKind::CutAfter) =
        trouble
    {
        assert_eq!(
            done.code,
            0,
            "{context}: one such failure is survived\n{}",
            world.report()
        );
    }
    if done.code != 0 {
        assert!(
            done.stderr.contains("error: "),
            "{context}: {}",
            done.stderr
        );
    }
    world.until_clean().await;
    let made = world.made().len();
    assert!(made <= 1, "{context}: {made} instances\n{}", world.report());
    world.finish().await;
}

#[tokio::test]
async fn a_call_that_fails_once_leaks_nothing() {
    meet(MANY, &KINDS.map(Trouble::Once)).await;
}

#[tokio::test]
async fn a_call_that_fails_every_time_leaks_nothing() {
    let troubles = [
        FaultKind::Status(500),
        FaultKind::Denied,
        FaultKind::Throttled,
        FaultKind::TimeoutAfter,
        FaultKind::CutAfter,
    ];
    meet(MANY, &troubles.map(Trouble::Always)).await;
}

#[tokio::test]
async fn a_just_in_time_registration_that_fails_leaks_nothing() {
    let calls = &calls(SINGLE).await - &calls(MANY).await;
    assert!(!calls.is_empty());
    meet_at(calls, SINGLE, &troubles()).await;
}

#[tokio::test]
async fn a_signal_at_any_call_leaks_nothing() {
    meet(
        MANY,
        &[
            Trouble::SignalBefore(2),
            Trouble::SignalAfter(2),
            Trouble::SignalBefore(15),
            Trouble::SignalAfter(15),
        ],
    )
    .await;
}

#[tokio::test]
async fn no_trouble_with_gitlab_leaks_anything() {
    let mut calls = calls(GITLAB).await;
    calls.retain(|call| call.starts_with("gitlab:") || call.starts_with("download:"));
    assert!(calls.contains("gitlab:POST /user/runners"), "{calls:?}");
    meet_at(calls, GITLAB, &troubles()).await;
}

#[tokio::test]
async fn no_trouble_with_google_cloud_leaks_anything() {
    meet_at_the_cloud(GCP).await;
}

#[tokio::test]
async fn no_trouble_with_azure_leaks_anything() {
    meet_at_the_cloud(AZURE).await;
}

#[tokio::test]
async fn no_trouble_with_kubernetes_leaks_anything() {
    meet_at_the_cloud(KUBERNETES).await;
}

#[tokio::test]
async fn a_job_s_deletion_gets_over_trouble() {
    for kind in [
        FaultKind::Status(500),
        FaultKind::Throttled,
        FaultKind::TimeoutAfter,
        FaultKind::CutAfter,
        FaultKind::CutBefore,
    ] {
        let world = world_of(KUBERNETES).await;
        world
            .sandbox
            .fault("download:agent", None, FaultKind::Status(404));
        world
            .sandbox
            .fault("host:delete jobs", Some(1), kind.clone());
        let done = world.run(KUBERNETES).await;
        assert_eq!(done.code, 5, "{kind:?}: {}", world.report());
        assert!(world.is_clean(), "{kind:?}: {}", world.report());
        world.finish().await;
    }
}

/// Meets the calls that are about the cloud with every trouble.
async fn meet_at_the_cloud(args: Args) {
    let mut calls = calls(args).await;
    calls.retain(|call| !call.starts_with("github:") && !call.starts_with("download:"));
    meet_at(calls, args, &troubles()).await;
}

#[tokio::test]
async fn a_rollback_begins_within_milliseconds() {
    let world = world().await;
    world
        .sandbox
        .fault("download:runner", None, FaultKind::TimeoutBefore);
    let running = world.spawn(MANY);
    world.until_running().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let signalled = Instant::now();
    running.signal(2);
    let done = world.done(running).await;
    assert_eq!(done.code, 130, "{}", world.report());
    let first = world
        .sandbox
        .calls()
        .into_iter()
        .filter(|call| call.peer == Caller::Host && call.name == "ec2:TerminateInstances")
        .map(|call| call.started.saturating_duration_since(signalled))
        .min()
        .expect("it is destroyed");
    assert!(first < Duration::from_millis(500), "{first:?}");
    world.finish().await;
}

#[tokio::test]
async fn a_second_signal_does_not_stop_the_rollback() {
    let world = world().await;
    world
        .sandbox
        .fault("download:runner", None, FaultKind::TimeoutBefore);
    world.sandbox.fault(
        "host:ec2:TerminateInstances",
        Some(1),
        FaultKind::Slow(Duration::from_millis(300)),
    );
    let running = world.spawn(MANY);
    world.until_running().await;
    running.signal(2);
    tokio::time::sleep(Duration::from_millis(100)).await;
    running.signal(15);
    let done = world.done(running).await;
    assert_eq!(done.code, 130, "{}", world.report());
    world.finish().await;
}

#[tokio::test]
async fn a_killed_launcher_leaves_an_instance_that_ends_by_itself() {
    // The agent never becomes ready: only the dead-man timer is left.
    let world = world().await;
    world
        .sandbox
        .fault("download:agent", None, FaultKind::TimeoutBefore);
    let running = world.spawn(MANY);
    world.until_running().await;
    running.signal(9);
    assert_eq!(world.done(running).await.code, -9);
    world.until_clean().await;
    let instance = world.sandbox.ec2().instances().remove(0);
    let console = world.sandbox.ec2().console(&instance.id);
    assert!(
        console.contains("not ready in time, giving the machine back"),
        "{}",
        world.report()
    );
    assert!(
        !world
            .host_calls()
            .iter()
            .any(|call| call == "ec2:TerminateInstances")
    );
    world.finish().await;
}

#[tokio::test]
async fn a_killed_launcher_s_just_in_time_record_goes_with_the_instance() {
    // The agent is there, and the runner program isn't: the record is removed all the same.
    let world = world().await;
    world
        .sandbox
        .fault("download:runner", None, FaultKind::Status(404));
    let running = world.spawn(SINGLE);
    world.until_running().await;
    running.signal(9);
    assert_eq!(world.done(running).await.code, -9);
    world.until_clean().await;
    let unregister = "github:DELETE /repos/{owner}/{repo}/actions/runners/{runner_id}";
    assert!(!world.host_calls().iter().any(|call| call == unregister));
    world.finish().await;
}

#[tokio::test]
async fn a_shell_that_dies_of_the_signal_takes_the_launch_along() {
    // A pipeline signals the step's shell, which doesn't pass it on.
    let mut world = world().await;
    world.in_github_actions();
    world
        .sandbox
        .fault("download:runner", None, FaultKind::TimeoutBefore);
    let running = world.spawn_in_shell(MANY);
    world.until_running().await;
    running.signal(15);
    world
        .until("the instance is destroyed", || {
            let calls = world.host_calls();
            calls.iter().any(|call| call == "ec2:TerminateInstances")
        })
        .await;
    world.done(running).await;
    world.finish().await;
}

#[tokio::test]
async fn an_agent_that_can_t_be_had_ends_the_instance_at_once() {
    let world = world().await;
    world
        .sandbox
        .fault("download:agent", None, FaultKind::Status(404));
    let done = world.run(MANY).await;
    assert_eq!(done.code, 5, "{}", world.report());
    assert!(
        done.stderr.contains("downloading the agent"),
        "{}",
        done.stderr
    );
    world.finish().await;
}

#[tokio::test]
async fn two_launches_at_once_share_one_group_and_nothing_else() {
    let world = World::new().await;
    let args = |name| ["launch", "--cloud=aws", "--idle-timeout=1", "--name", name];
    let (one, two) = (world.spawn(&args("one")), world.spawn(&args("two")));
    let (one, two) = (world.done(one).await, world.done(two).await);
    assert_eq!((one.code, two.code), (0, 0), "{}", world.report());
    let made = world.sandbox.ec2().instances();
    assert_eq!(made.len(), 2);
    assert_eq!(made[0].security_groups, made[1].security_groups);
    world.finish().await;
}
