//! What was given for each option: by flag, else as an input of the Action, else by environment.

use std::collections::BTreeMap;

use clap::ArgMatches;
use clap::parser::ValueSource;

use super::options::{Form, Mode, OPTIONS, Opt};
use crate::host::{Host, names};
use crate::secret::Secret;

/// The raw values, with where they came from for messages.
pub struct Given {
    values: BTreeMap<&'static str, Raw>,
}

struct Raw {
    values: Vec<String>,
    /// `--labels`, `the input labels`, or the variable's name.
    origin: String,
    source: Source,
}

/// Where a value came from, the strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The command line.
    Flag,
    /// An input of the Action.
    Input,
    /// The environment.
    Variable,
}

/// What was said as an input. GitLab's boolean inputs can't be left out: a job gets `false` from those
/// that nobody named, which must not hide a variable of the user's. Where there is no variable, it
/// makes no difference.
fn input<'a>(opt: &Opt, host: &'a Host) -> Option<&'a str> {
    let value = host.env(&opt.input_name())?;
    (opt.form != Form::Flag || value != "false").then_some(value)
}

impl Given {
    /// What was given for the options of a subcommand. A flag beats an input, which beats
    /// every variable; the first variable that is set beats the others.
    pub fn new(mode: Mode, matches: &ArgMatches, host: &Host, mistakes: &mut Vec<String>) -> Self {
        // A variable may be there for another subcommand; an input is said for this one.
        for opt in OPTIONS.iter().filter(|opt| !opt.is_of(mode)) {
            if input(opt, host).is_some() {
                let mode = mode.name();
                mistakes.push(format!("the input {}: not one of mode {mode}", opt.name));
            }
        }
        let mut values = BTreeMap::new();
        for opt in OPTIONS.iter().filter(|opt| opt.is_of(mode)) {
            if matches.value_source(opt.name) == Some(ValueSource::CommandLine) {
                let given = matches.get_many::<String>(opt.name);
                values.insert(
                    opt.name,
                    Raw {
                        values: given.into_iter().flatten().cloned().collect(),
                        origin: format!("--{}", opt.name),
                        source: Source::Flag,
                    },
                );
                continue;
            }
            let input = input(opt, host).map(|value| {
                let origin = format!("the input {}", opt.name);
                (origin, value, Source::Input)
            });
            let variable = |name: String| {
                let value = host.env(&name)?;
                Some((name, value, Source::Variable))
            };
            let found = input.or_else(|| opt.env_names().into_iter().find_map(variable));
            if let Some((origin, value, source)) = found {
                let list = match opt.form {
                    Form::Many(_) => value
                        .lines()
                        .map(str::trim)
                        .filter(|line| !line.is_empty())
                        .map(str::to_owned)
                        .collect(),
                    Form::Flag | Form::Value(_) => vec![value.to_owned()],
                };
                values.insert(
                    opt.name,
                    Raw {
                        values: list,
                        origin,
                        source,
                    },
                );
            }
        }
        Self { values }
    }

    /// The option's value: the last one, where it was repeated.
    pub fn one(&self, name: &str) -> Option<&str> {
        debug_assert!(super::options::find(name).is_some(), "{name}");
        self.values.get(name)?.values.last().map(String::as_str)
    }

    /// All values of a repeatable option.
    pub fn many(&self, name: &str) -> &[String] {
        debug_assert!(super::options::find(name).is_some(), "{name}");
        self.values.get(name).map_or(&[], |raw| &raw.values)
    }

    /// Where the value came from, for messages.
    pub fn origin(&self, name: &str) -> String {
        self.values
            .get(name)
            .map_or_else(|| format!("--{name}"), |raw| raw.origin.clone())
    }

    /// Where the value came from; `None`: there is none.
    pub fn source(&self, name: &str) -> Option<Source> {
        self.values.get(name).map(|raw| raw.source)
    }

    /// Whether the value came from the command line.
    pub fn by_flag(&self, name: &str) -> bool {
        self.source(name) == Some(Source::Flag)
    }

    /// A flag's state; absent is false.
    pub fn flag(&self, name: &str, mistakes: &mut Vec<String>) -> bool {
        let Some(text) = self.one(name) else {
            return false;
        };
        match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => true,
            "false" | "0" | "no" | "off" => false,
            _ => {
                mistakes.push(format!(
                    "{}: `{text}` is neither true nor false",
                    self.origin(name)
                ));
                false
            }
        }
    }

    /// Reads a value with `parse`; its complaint becomes a mistake with the option's name.
    pub fn parsed<T>(
        &self,
        name: &str,
        mistakes: &mut Vec<String>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        match parse(self.one(name)?.trim()) {
            Ok(value) => Some(value),
            Err(complaint) => {
                mistakes.push(format!("{}: {complaint}", self.origin(name)));
                None
            }
        }
    }

    /// Every secret in sight: those of the options, and the clouds' own.
    pub fn secrets(&self, host: &Host) -> Vec<Secret> {
        let options = OPTIONS
            .iter()
            .filter(|opt| opt.secret)
            .flat_map(|opt| self.many(opt.name).iter().map(String::as_str));
        let variables = names::SECRETS.iter().filter_map(|name| host.env(name));
        let mut secrets: Vec<Secret> = options.chain(variables).map(Secret::new).collect();
        if let Some(credentials) = host.env(names::GOOGLE_CREDENTIALS) {
            secrets.extend(Secret::of_google(credentials));
        }
        if let Some(kubeconfig) = host.env(names::KUBECONFIG_TEXT) {
            secrets.extend(Secret::of_kubeconfig(kubeconfig));
        }
        secrets
    }

    /// The non-empty, trimmed parts of a comma list.
    pub fn list(&self, name: &str) -> Option<Vec<String>> {
        let text = self.one(name)?;
        Some(
            text.split(',')
                .map(str::trim)
                .filter(|part| !part.is_empty())
                .map(str::to_owned)
                .collect(),
        )
    }
}
