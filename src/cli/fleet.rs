//! The subcommands that see to what earlier launches made.

use std::time::Duration;

use clap::ArgMatches;
use tracing::level_filters::LevelFilter;

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
    // Only `stop` can't do without: names are unique at one forge's target, nowhere else.
    let asked = ["token", "github-app-id", "repo", "driver"];
    let forge = match mode == Mode::Stop || asked.iter().any(|name| given.one(name).is_some()) {
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

/// The arguments, and what the options name; where there are arguments, a variable that was set
/// for a launch stays out of it.
fn stop(given: &Given, mut targets: Vec<String>, mistakes: &mut Vec<String>) -> Option<Action> {
    let named = !targets.is_empty();
    for name in ["instance-id", "name"] {
        if given.by_flag(name) || !named {
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
    let dry_run = given.flag("dry-run", mistakes);
    if given.one("older-than").is_none() {
        mistakes.push(
            "--older-than: say how long ago an instance must have been launched to be swept, \
             such as 12h"
                .to_owned(),
        );
    }
    Some(Action::Sweep {
        older_than: given.parsed("older-than", mistakes, values::duration)?,
        dry_run,
    })
}
