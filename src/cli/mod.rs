//! The command line: what was said, before anyone asks whether it makes sense.

mod fleet;
mod forge;
mod given;
mod instance;
pub mod options;
mod values;

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use clap_complete::Shell;

use crate::error::{Error, Result};
use crate::host::Host;
use crate::secret::Secret;
use crate::spec::{Driver, LaunchSpec};
pub use fleet::{Action, Fleet};
pub use given::Given;
use options::{Form, Mode, OPTIONS, Opt};

/// What the program is asked to do.
#[derive(Debug)]
pub enum Task {
    /// Launch a runner.
    Launch(Box<Launch>),
    /// See to instances that were launched before.
    Fleet(Box<Fleet>),
    /// Print a completion script.
    Completions(Shell),
    /// Be the agent.
    Agent(AgentTask),
    /// Print a text (help, version) and end well.
    Print(String),
}

/// A checked launch and how to talk about it.
#[derive(Debug)]
pub struct Launch {
    /// What to launch.
    pub spec: LaunchSpec,
    /// How much to log.
    pub log: tracing::level_filters::LevelFilter,
    /// Whether the report of a dry run is JSON.
    pub json: bool,
    /// What the user should know though it isn't wrong.
    pub warnings: Vec<String>,
    /// Every secret that was given, to be hidden before its first use.
    pub secrets: Vec<Secret>,
}

/// The steps of an agent's life that the bootstrap script and the service manager start.
#[derive(Debug)]
pub enum AgentTask {
    /// Download the runner program.
    Prepare(PathBuf),
    /// Run until there is nothing left to do.
    Run(PathBuf),
    /// Remove the runner's record and give the machine back, whatever happened before.
    Release(PathBuf),
}

/// The whole command line's definition.
pub fn command() -> Command {
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .required(true);
    let agent = Command::new("agent")
        .about("Be the agent on an instance; the bootstrap script calls this")
        .hide(true)
        .subcommand_required(true)
        .subcommand(Command::new("prepare").arg(config.clone()))
        .subcommand(Command::new("run").arg(config.clone()))
        .subcommand(Command::new("release").arg(config));
    let completions = Command::new("completions")
        .about("Print a completion script for a shell")
        .arg(
            Arg::new("shell")
                .value_name("SHELL")
                .value_parser(value_parser!(Shell))
                .required(true),
        );
    Command::new("runner-launch")
        .about("Puts a self-hosted CI runner on a cloud instance for exactly as long as there are jobs for it")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(Mode::ALL.map(subcommand))
        .subcommand(completions)
        .subcommand(agent)
}

/// The definition of a subcommand that takes [`OPTIONS`].
fn subcommand(mode: Mode) -> Command {
    let about = match mode {
        Mode::Launch => "Launch a runner and wait until it is ready for jobs",
        Mode::Stop => "Destroy instances and remove their runners, by instance id or runner name",
        Mode::List => "List the instances that this program launched, with their runners",
        Mode::Sweep => "Destroy instances of this program that are older than they should be",
    };
    let mut command = Command::new(mode.name()).about(about);
    if mode == Mode::Stop {
        command = command.arg(
            Arg::new(fleet::TARGETS)
                .value_name("INSTANCE_OR_NAME")
                .help("Instance ids or runner names")
                .num_args(0..),
        );
    }
    for opt in OPTIONS.iter().filter(|opt| opt.is_of(mode)) {
        command = command.arg(argument(opt, mode));
    }
    command
}

fn argument(opt: &'static Opt, mode: Mode) -> Arg {
    let mut arg = Arg::new(opt.name)
        .long(opt.name)
        .help(opt.full_help(mode))
        .help_heading(opt.heading);
    if let Some(alias) = opt.alias {
        arg = arg.visible_alias(alias);
    }
    match opt.form {
        Form::Flag => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .hide_possible_values(true)
            .value_name("BOOL"),
        Form::Value(name) | Form::Many(name) => arg
            .value_name(name)
            .action(ArgAction::Append)
            .allow_hyphen_values(true),
    }
}

/// Reads and checks the command line and the environment. Every mistake is in the error.
pub fn read(args: impl IntoIterator<Item = String>, host: &Host) -> Result<Task> {
    let args: Vec<String> = args.into_iter().collect();
    let mode = args.get(1).and_then(|word| {
        let mut modes = Mode::ALL.into_iter();
        modes.find(|mode| mode.name() == word)
    });
    let (args, mut mistakes) = match mode {
        Some(mode) => without_unknown(mode, args),
        None => (args, Vec::new()),
    };
    let matches = match command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) if !error.use_stderr() => return Ok(Task::Print(error.to_string())),
        Err(error) => {
            let text = error.to_string();
            let text = text.strip_prefix("error: ").unwrap_or(&text);
            mistakes.push(text.trim_end().to_owned());
            return Err(usage(mode, mistakes));
        }
    };
    if let (Some(mode), Some((_, matches))) = (mode, matches.subcommand()) {
        let given = Given::new(mode, matches, host, &mut mistakes);
        let task = match mode {
            Mode::Launch => {
                launch(given, host, &mut mistakes).map(|task| Task::Launch(Box::new(task)))
            }
            Mode::Stop | Mode::List | Mode::Sweep => {
                let targets = fleet::targets(mode, matches);
                fleet::read(mode, given, targets, host, &mut mistakes)
                    .map(|task| Task::Fleet(Box::new(task)))
            }
        };
        return task
            .filter(|_| mistakes.is_empty())
            .ok_or_else(|| usage(Some(mode), mistakes));
    }
    match matches.subcommand() {
        Some(("completions", matches)) => match matches.get_one::<Shell>("shell") {
            Some(shell) => Ok(Task::Completions(*shell)),
            None => Err(Error::usage("completions: which shell?")),
        },
        Some(("agent", matches)) => agent(matches),
        _ => Err(Error::usage("what to do? try `runner-launch --help`")),
    }
}

fn agent(matches: &ArgMatches) -> Result<Task> {
    let config = |matches: &ArgMatches| matches.get_one::<PathBuf>("config").cloned();
    let task = match matches.subcommand() {
        Some(("prepare", matches)) => config(matches).map(AgentTask::Prepare),
        Some(("run", matches)) => config(matches).map(AgentTask::Run),
        Some(("release", matches)) => config(matches).map(AgentTask::Release),
        _ => None,
    };
    task.map(Task::Agent)
        .ok_or_else(|| Error::usage("agent: what to do?"))
}

/// Takes options that the subcommand doesn't know out, so that they are reported together with all
/// else.
fn without_unknown(mode: Mode, args: Vec<String>) -> (Vec<String>, Vec<String>) {
    let mut mistakes = Vec::new();
    let mut known = Vec::new();
    // Whether the option before wants a value, and whether that option stays.
    let mut value_follows = None;
    for arg in args {
        if let Some(stays) = value_follows.take() {
            known.extend(Some(arg).filter(|_| stays));
            continue;
        }
        let Some(name) = arg.strip_prefix("--").filter(|name| !name.is_empty()) else {
            known.push(arg);
            continue;
        };
        let (name, has_value) = match name.split_once('=') {
            Some((name, _)) => (name, true),
            None => (name, false),
        };
        let found = options::find(name);
        let stays = match found {
            Some(opt) => opt.is_of(mode),
            None => name == "help" || name == "version",
        };
        value_follows = found
            .filter(|opt| opt.form != Form::Flag && !has_value)
            .map(|_| stays);
        if stays {
            known.push(arg);
        } else if found.is_some() {
            mistakes.push(format!("--{name}: `{}` has no such option", mode.name()));
        } else {
            mistakes.push(unknown(mode, name));
        }
    }
    (known, mistakes)
}

fn unknown(mode: Mode, name: &str) -> String {
    let likest = OPTIONS
        .iter()
        .filter(|opt| opt.is_of(mode))
        .map(|opt| (distance(opt.name, name), opt.name))
        .min()
        .filter(|(distance, _)| *distance <= 3);
    match likest {
        Some((_, likest)) => format!("--{name}: no such option; did you mean --{likest}?"),
        None => format!("--{name}: no such option"),
    }
}

/// The number of letters to insert, drop or change to get from one word to the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let changed = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

fn usage(mode: Option<Mode>, mistakes: Vec<String>) -> Error {
    let message = match mistakes.as_slice() {
        [one] => one.clone(),
        several => {
            let lines: Vec<String> = several.iter().map(|m| format!("  - {m}")).collect();
            format!("{} mistakes:\n{}", several.len(), lines.join("\n"))
        }
    };
    let command = mode.map_or(String::new(), |mode| format!("{} ", mode.name()));
    Error::usage(message).hint(format!("`runner-launch {command}--help` lists all options"))
}

fn launch(mut given: Given, host: &Host, mistakes: &mut Vec<String>) -> Option<Launch> {
    let mut warnings = Vec::new();
    let log = given.level(mistakes);
    let json = given.is_json(mistakes);
    let name = given.name(host, mistakes);
    let labels = given.labels(mistakes);
    let idle_timeout = given.idle_timeout(mistakes);
    let timeout = given.timeout(mistakes);
    let retry = !given.flag("no-retry", mistakes);
    let dry_run = given.flag("dry-run", mistakes);
    let (single, reuse) = given.reuse(mistakes);
    let runner_version = given.runner_version(mistakes);
    let docker = given.docker(host, mistakes);
    let workdir = given.workdir(mistakes);
    let forge = forge::read(&mut given, host, mistakes);
    let driver = forge.as_ref().map_or(Driver::Github, |forge| forge.driver);
    let image = crate::forge::image(driver, runner_version.as_deref());
    let instance = instance::read(&mut given, image, mistakes, &mut warnings);
    if forge.as_ref().is_some_and(|f| f.driver == Driver::Github) {
        for name in ["docker-volumes", "docker-image"] {
            if given.one(name).is_some() {
                warnings.push(format!(
                    "--{name} is for GitLab only and has no effect here"
                ));
            }
        }
    }
    if json && !dry_run {
        warnings.push("--output has no effect without --dry-run".to_owned());
    }
    if instance.is_some() && workdir.is_some() {
        warnings.push("--workdir is for local runners and has no effect with --cloud".to_owned());
    }
    if !mistakes.is_empty() {
        return None;
    }
    Some(Launch {
        spec: LaunchSpec {
            name: name?,
            labels: labels?,
            idle_timeout: idle_timeout?,
            retry,
            single,
            reuse,
            instance,
            forge: forge?,
            timeout: timeout?,
            workdir,
            docker,
            runner_version,
            dry_run,
        },
        log: log?,
        json,
        warnings,
        secrets: given.secrets(host),
    })
}
