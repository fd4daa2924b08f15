//! The benchmark: the speed and the size of the real binary, beside the least that they could be.

mod cloud;
mod first;
mod lab;
mod memory;
mod spans;
mod stand_in;
mod table;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use sandbox::Call;
use tokio::signal::unix::{SignalKind, signal};

pub(crate) use self::cloud::Cloud;
use self::lab::{Creation, Lab, Life};
use self::stand_in::StandIn;
use self::table::{Row, Unit, median};
use crate::arguments::Bench;
use crate::program::{self, Profile};

/// What a call takes where round trips are counted.
const LATENCY: Duration = Duration::from_millis(100);

/// Measures everything and prints it; the answer is the exit code. An interrupt ends it, with all
/// that it has started and made.
pub(crate) async fn run(options: &Bench) -> io::Result<u8> {
    let mut terminations = signal(SignalKind::terminate())?;
    tokio::select! {
        done = measure(options) => done.map(|()| 0),
        interrupted = tokio::signal::ctrl_c() => interrupted.map(|()| 130),
        _ = terminations.recv() => Ok(143),
    }
}

async fn measure(options: &Bench) -> io::Result<()> {
    let (binary, what) = match (&options.program, options.debug) {
        (Some(file), _) => (file.canonicalize()?, "as given"),
        (None, true) => (program::build(Profile::Debug).await?, "debug build"),
        (None, false) => (program::build(Profile::Release).await?, "release build"),
    };
    let version = program::command(&binary, Vec::new());
    let version = version_of(version).await?;
    let cloud = options.cloud;
    let on = match cloud {
        Cloud::Aws => "",
        Cloud::Gcp => " on Google Cloud",
        Cloud::Azure => " on Azure",
        Cloud::Kubernetes => " on Kubernetes",
    };
    table::head(&format!(
        "{} ({what}), measured {} times{on}",
        version.trim(),
        options.runs
    ));
    size(&binary)?;
    let version_memory = launcher(cloud, &binary, options.runs).await?;
    round_trips(cloud, &binary, options.runs).await?;
    lives(cloud, &binary, options.runs, version_memory).await
}

async fn version_of(mut command: tokio::process::Command) -> io::Result<String> {
    command.arg("--version");
    program::end(command).await
}

fn size(binary: &Path) -> io::Result<()> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    let plain = io::copy(&mut File::open(binary)?, &mut packed)?;
    let packed = packed.finish()?.len();
    table::section(
        "The file",
        &[
            Row::new("size", Unit::Megabytes, vec![plain as f64 / 1e6]),
            Row::new("size, gzip", Unit::Megabytes, vec![packed as f64 / 1e6]),
        ],
        &[],
    );
    Ok(())
}

/// The answer is the memory that the program needs to tell its version.
async fn launcher(cloud: Cloud, binary: &Path, runs: usize) -> io::Result<Option<f64>> {
    let lab = Lab::open(cloud, binary).await?;
    // Once in vain: the first start reads the file from the disk.
    lab.first_request().await?;
    let (mut request, mut version, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..runs {
        request.push(milliseconds(lab.first_request().await?));
        let command = program::command(binary, Vec::new());
        let start = Instant::now();
        version_of(command).await?;
        version.push(milliseconds(start.elapsed()));
        memory.extend(memory::peak(binary, &["--version"], Vec::new()).await?);
    }
    lab.close().await;
    table::section(
        "The launcher's start",
        &[with_floor(
            Row::new("from start to first request", Unit::Milliseconds, request),
            median(&version),
        )],
        &["floor: runner-launch --version, from start to end".into()],
    );
    Ok(median(&memory))
}

async fn round_trips(cloud: Cloud, binary: &Path, runs: usize) -> io::Result<()> {
    let (mut cold, mut warm, mut answers) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..runs {
        let lab = Lab::without_boots(cloud, binary, LATENCY).await?;
        cold.push(lab.create().await?);
        warm.push(lab.create().await?);
        lab.sandbox.set_latency(Duration::ZERO);
        answers.push(milliseconds(lab.answer().await?));
        lab.close().await;
    }
    let overhead = overhead(&answers);
    let latency = LATENCY.as_millis();
    let floor = cloud.floor();
    creation(
        cloud,
        &format!("Until the instance exists, {latency} ms per call, warm"),
        &warm,
        floor.warm,
        &[
            "floor: forge and cloud are looked at side by side; register; create",
            &overhead,
        ],
    );
    creation(
        cloud,
        &format!("Until the instance exists, {latency} ms per call, cold"),
        &cold,
        floor.cold,
        &[floor.cold_note],
    );
    Ok(())
}

fn creation(cloud: Cloud, title: &str, runs: &[Creation], floor: f64, notes: &[&str]) {
    let count = |number: &dyn Fn(&Creation) -> usize| -> Vec<f64> {
        runs.iter().map(|run| number(run) as f64).collect()
    };
    let calls = |name: &str, service| Row::new(name, Unit::Count, count(&|run| run.calls(service)));
    let serial = |name: &str, service, floor| {
        Row::new(name, Unit::Count, count(&|run| run.serial(service))).floor(floor)
    };
    let times = runs.iter().map(|run| milliseconds(run.time)).collect();
    let rows = [
        calls("calls", None),
        calls("  to the forge", Some("github")),
        calls("  to the cloud", Some(cloud.service())),
        serial("serial round trips", None, floor),
        // The look, and the registration.
        serial("  to the forge", Some("github"), 2.0),
        serial(
            "  to the cloud",
            Some(cloud.service()),
            floor - cloud.elsewhere(),
        ),
        Row::new("time from the launcher's start", Unit::Milliseconds, times)
            .floor(floor * milliseconds(LATENCY)),
    ];
    let mut notes: Vec<String> = notes.iter().map(|note| (*note).to_owned()).collect();
    if let Some(run) = runs.last() {
        notes.extend(run.waves.iter().zip(1..).flat_map(described));
    }
    table::section(title, &rows, &notes);
}

/// The calls of a wave, a line for each service.
fn described((wave, number): (&Vec<Call>, usize)) -> Vec<String> {
    let mut services: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
    for call in wave {
        let what = call.name.split_once(':').map_or("", |(_, what)| what);
        let calls = services.entry(&call.service).or_default();
        *calls.entry(what).or_default() += 1;
    }
    let lines = services
        .iter()
        .enumerate()
        .map(|(index, (service, calls))| {
            let calls: Vec<String> = calls
                .iter()
                .map(|(name, times)| match times {
                    1 => (*name).to_owned(),
                    _ => format!("{name} ({times} times)"),
                })
                .collect();
            let number = match index {
                0 => format!("{number}."),
                _ => String::new(),
            };
            format!("{number:<3} {service:<7} {}", calls.join(", "))
        });
    lines.collect()
}

async fn lives(
    cloud: Cloud,
    binary: &Path,
    runs: usize,
    version_memory: Option<f64>,
) -> io::Result<()> {
    let lab = Lab::open(cloud, binary).await?;
    let mut lives = Vec::new();
    // Once in vain: it makes what all instances share.
    lab.live().await?;
    for _ in 0..runs {
        lives.push(lab.live().await?);
    }
    let stand_in = StandIn::install(&lab).await?;
    let mut alone = Vec::new();
    for run in 0..runs {
        alone.push(milliseconds(stand_in.start(&format!("alone-{run}")).await?));
    }
    lab.close().await;
    let times = |time: &dyn Fn(&Life) -> Option<Duration>| -> Vec<f64> {
        lives.iter().filter_map(time).map(milliseconds).collect()
    };
    let part = |name: &str, part: usize| {
        let times = times(&|life| Some(life.parts()?[part]));
        Row::new(name, Unit::Milliseconds, times)
    };
    let cost = times(&|life| Some(life.cost()));
    let answers = times(&|life| Some(life.answer));
    table::section(
        "From \"instance up\" to \"runner ready\", without the downloads",
        &[
            with_floor(Row::new("all", Unit::Milliseconds, cost), median(&alone)),
            part("  up to the agent's download", 0),
            part("  from there to the runner program's", 1),
            part("  from there to the runner's readiness", 2),
        ],
        &[
            "floor: the runner program (the sandbox's stand-in) started by itself".into(),
            "a download ends when its answer begins: on loopback the rest is the agent's".into(),
            overhead(&answers),
        ],
    );
    let launcher = lives
        .iter()
        .filter_map(|life| life.launcher_memory)
        .collect();
    let agent = lives.iter().filter_map(|life| life.agent_memory).collect();
    table::section(
        "Peak memory",
        &[
            with_floor(
                Row::new("launcher", Unit::Megabytes, launcher),
                version_memory,
            ),
            with_floor(
                Row::new("agent, until the runner is ready", Unit::Megabytes, agent),
                version_memory,
            ),
        ],
        &["floor: runner-launch --version".into()],
    );
    Ok(())
}

/// Tells how long the sandbox takes to answer.
fn overhead(answers: &[f64]) -> String {
    let time = median(answers).unwrap_or_default();
    format!("of this, each new connection costs the sandbox itself {time:.1} ms to look who calls")
}

fn with_floor(row: Row, floor: Option<f64>) -> Row {
    match floor {
        Some(floor) => row.floor(floor),
        None => row,
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
