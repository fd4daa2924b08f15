//! The subcommands that see to what earlier launches made.

use std::time::Duration;

use clap::ArgMatches;
use tracing::level_filters::LevelFilter;

use super::given::Source;
use super::options::Mode;
use super::{Given, forge, instance, values};
use crate::cloud;
use crate::host::Host;
use crate::secret::Secret;
use crate::spec::{ForgeSpec, Provider};

/// The id of `stop`'s arguments.
pub(super) const TARGETS: &str = "targets";

/// What to do with which instances.
#[derive(Debug)]
pub struct Fleet {
    /// What to do.
    pub action: Action,
    /// Where the instances are.
    pub provider: Provider,
    /// The native regions to look in, each once.
    pub regions: Vec<String>,
    /// Where their runners are registered; `None` where nobody said how to get in there.
    pub forge: Option<ForgeSpec>,
    /// How much to log.
    pub log: LevelFilter,
    /// Whether the report is JSON.
    pub json: bool,
    /// Every secret that was given, to be hidden before its first use.
    pub secrets: Vec<Secret>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Destroy these: instance ids or runner names, at least one.
    Stop(Vec<String>),
    /// Tell which there are.
    List,
    /// Destroy what was launched longer ago than this and has no runner at work.
    Sweep {
        /// The least age.
        older_than: Duration,
        /// Whether the age alone decides: also of what serves something else, or is at work.
        all: bool,
        /// Whether only to say so.
        dry_run: bool,
    },
}

/// `stop`'s arguments.
pub(super) fn targets(mode: Mode, matches: &ArgMatches) -> Vec<String> {
    match mode {
        Mode::Stop => {
            let targets = matches.get_many::<String>(TARGETS);
            targets.into_iter().flatten().cloned().collect()
        }
        Mode::Launch | Mode::List | Mode::Sweep => Vec::new(),
    }
}

pub(super) fn read(
    mode: Mode,
    mut given: Given,
    targets: Vec<String>,
    host: &Host,
    mistakes: &mut Vec<String>,
) -> Option<Fleet> {
    let log = given.level(mistakes);
    let json = given.is_json(mistakes);
    let provider = instance::provider(&given, mistakes);
    if given.one("cloud").is_none() {
        mistakes.push("--cloud: say which cloud the instances are in".to_owned());
    }
    let regions = regions(&given, provider, mistakes);
    let action = match mode {
        Mode::Stop => stop(&given, targets, mistakes),
        Mode::Sweep => sweep(&given, mistakes),
        Mode::List | Mode::Launch => Some(Action::List),
    };
    // A list can do without. The other two must know what is meant: names are unique at one forge's
    // target only, and a runner that is at work is told from one that isn't by nobody else.
    let by_age = matches!(action, Some(Action::Sweep { all: true, .. }));
    let asked = ["token", "github-app-id", "repo", "driver"];
    let is_asked = asked.iter().any(|name| given.one(name).is_some());
    let forge = match is_asked || !(mode == Mode::List || by_age) {
        true => Some(forge::read(&mut given, host, mistakes)?),
        false => None,
    };
    Some(Fleet {
        action: action?,
        provider: provider?,
        regions,
        forge,
        log: log?,
        json,
        secrets: given.secrets(host),
    })
}

fn regions(given: &Given, provider: Option<Provider>, mistakes: &mut Vec<String>) -> Vec<String> {
    let mut regions = Vec::new();
    for text in instance::regions(given, mistakes) {
        match provider.map_or(Ok(text.clone()), |provider| cloud::region(provider, &text)) {
            Ok(region) if regions.contains(&region) => {}
            Ok(region) => regions.push(region),
            Err(complaint) => mistakes.push(complaint),
        }
    }
    regions
}

/// The arguments and what the options name, of the strongest source alone: a variable that was set
/// for a launch must not add to what a command line names.
fn stop(given: &Given, mut targets: Vec<String>, mistakes: &mut Vec<String>) -> Option<Action> {
    let options = ["instance-id", "name"];
    let arguments = (!targets.is_empty()).then_some(Source::Flag);
    let sources = options.iter().filter_map(|name| given.source(name));
    let strongest = sources.chain(arguments).min();
    for name in options {
        if given.source(name) == strongest {
            targets.extend(given.one(name).map(|text| text.trim().to_owned()));
        }
    }
    let odd = |c: char| !(c.is_ascii_alphanumeric() || "-_./".contains(c));
    for target in &targets {
        if target.is_empty() || target.contains(odd) {
            mistakes.push(format!(
                "`{}` is neither an instance's id nor a runner's name",
                target.escape_debug()
            ));
        }
    }
    if targets.is_empty() {
        mistakes.push(
            "stop what? name instances or runners: `runner-launch stop --cloud=aws NAME`, \
             --instance-id or --name"
                .to_owned(),
        );
    }
    Some(Action::Stop(targets))
}

fn sweep(given: &Given, mistakes: &mut Vec<String>) -> Option<Action> {
    /// What is younger may just be on its way up.
    const LEAST: Duration = Duration::from_secs(600);
    let (dry_run, all) = (given.flag("dry-run", mistakes), given.flag("all", mistakes));
    if given.one("older-than").is_none() {
        mistakes.push(
            "--older-than: say how long ago an instance must have been launched to be swept, \
             such as 12h"
                .to_owned(),
        );
    }
    let older_than = given.parsed("older-than", mistakes, |text| {
        if text.parse::<u64>().is_ok() {
            return Err(format!("`{text}` of what? such as {text}h or {text}d"));
        }
        match values::duration(text)? {
            short if short < LEAST => Err(format!(
                "`{text}` is shorter than the ten minutes that a launch may take"
            )),
            long => Ok(long),
        }
    })?;
    Some(Action::Sweep {
        older_than,
        all,
        dry_run,
    })
}
