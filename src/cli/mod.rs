//! The command line: what was said, before anyone asks whether it makes sense.

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
use crate::spec::LaunchSpec;
pub use given::Given;
use options::{Form, OPTIONS};

/// What the program is asked to do.
#[derive(Debug)]
pub enum Task {
    /// Launch a runner.
    Launch(Box<Launch>),
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
    let mut launch = Command::new("launch")
        .about("Launch a runner and wait until it is ready for jobs")
        .next_line_help(false);
    for opt in OPTIONS {
        let mut arg = Arg::new(opt.name)
            .long(opt.name)
            .help(opt.full_help())
            .help_heading(opt.heading);
        if let Some(alias) = opt.alias {
            arg = arg.visible_alias(alias);
        }
        launch = launch.arg(match opt.form {
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
        });
    }
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
        .subcommand(launch)
        .subcommand(completions)
        .subcommand(agent)
}

/// Reads and checks the command line and the environment. Every mistake is in the error.
pub fn read(args: impl IntoIterator<Item = String>, host: &Host) -> Result<Task> {
    let args: Vec<String> = args.into_iter().collect();
    let (args, mut mistakes) = without_unknown(args);
    let matches = match command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) if !error.use_stderr() => return Ok(Task::Print(error.to_string())),
        Err(error) => {
            let text = error.to_string();
            let text = text.strip_prefix("error: ").unwrap_or(&text);
            mistakes.push(text.trim_end().to_owned());
            return Err(usage(mistakes));
        }
    };
    match matches.subcommand() {
        Some(("launch", matches)) => {
            let launch = launch(matches, host, &mut mistakes);
            match launch {
                Some(launch) if mistakes.is_empty() => Ok(Task::Launch(Box::new(launch))),
                _ => Err(usage(mistakes)),
            }
        }
        _ if !mistakes.is_empty() => Err(usage(mistakes)),
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

/// Takes unknown options of `launch` out, so that they are reported together with all else.
fn without_unknown(args: Vec<String>) -> (Vec<String>, Vec<String>) {
    if args.get(1).map(String::as_str) != Some("launch") {
        return (args, Vec::new());
    }
    let mut mistakes = Vec::new();
    let mut known = Vec::new();
    let mut value_follows = false;
    for arg in args {
        let name = arg.strip_prefix("--").filter(|name| !name.is_empty());
        let Some(name) = name.filter(|_| !value_follows) else {
            value_follows = false;
            known.push(arg);
            continue;
        };
        let (name, has_value) = match name.split_once('=') {
            Some((name, _)) => (name, true),
            None => (name, false),
        };
        match options::find(name) {
            Some(opt) => {
                value_follows = opt.form != Form::Flag && !has_value;
                known.push(arg);
            }
            None if name == "help" || name == "version" => known.push(arg),
            None => mistakes.push(unknown(name)),
        }
    }
    (known, mistakes)
}

fn unknown(name: &str) -> String {
    let likest = OPTIONS
        .iter()
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

fn usage(mistakes: Vec<String>) -> Error {
    let message = match mistakes.as_slice() {
        [one] => one.clone(),
        several => {
            let lines: Vec<String> = several.iter().map(|m| format!("  - {m}")).collect();
            format!("{} mistakes:\n{}", several.len(), lines.join("\n"))
        }
    };
    Error::usage(message).hint("`runner-launch launch --help` lists all options")
}

fn launch(matches: &ArgMatches, host: &Host, mistakes: &mut Vec<String>) -> Option<Launch> {
    let mut given = Given::new(matches, host);
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
    let docker = given.docker(mistakes);
    let workdir = given.workdir(mistakes);
    let forge = forge::read(&mut given, host, mistakes);
    let instance = instance::read(&mut given, mistakes, &mut warnings);
    if forge
        .as_ref()
        .is_some_and(|f| f.driver == crate::spec::Driver::Github)
    {
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
