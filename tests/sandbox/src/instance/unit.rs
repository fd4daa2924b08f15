//! Unit files and time spans, as far as systemd's are understood here.

use std::time::Duration;

/// A service's unit file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Unit {
    pub(super) exec_start: Vec<String>,
    pub(super) exec_stop_post: Vec<Command>,
    pub(super) environment: Vec<(String, String)>,
    pub(super) stop_timeout: Option<Duration>,
    /// Whether only the main process gets the SIGTERM.
    pub(super) mixed: bool,
}

/// A command line; `-` before it: its failure doesn't matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) words: Vec<String>,
    pub(super) may_fail: bool,
}

impl Unit {
    /// Reads a unit file; keys that change nothing here are skipped, a line that is none is an
    /// error.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut unit = Unit::default();
        let mut section = String::new();
        for line in text.replace("\\\n", " ").lines().map(str::trim) {
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
                section = name.into();
                continue;
            }
            let (key, value) = line
                .split_once('=')
                .ok_or_else(|| format!("missing '=' in {line:?}"))?;
            if section == "Service" {
                unit.set(key.trim(), value.trim())?;
            }
        }
        if unit.exec_start.is_empty() {
            return Err("service has no ExecStart= setting".into());
        }
        Ok(unit)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "ExecStart" => self.exec_start = words(value.trim_start_matches(['-', '+', '!', '@'])),
            "ExecStopPost" => self.exec_stop_post.push(Command {
                may_fail: value.starts_with('-'),
                words: words(value.trim_start_matches(['-', '+', '!', '@'])),
            }),
            "Environment" => self
                .environment
                .extend(words(value).iter().filter_map(|word| {
                    let (name, value) = word.split_once('=')?;
                    Some((name.to_owned(), value.to_owned()))
                })),
            "TimeoutStopSec" => {
                let span = duration(value).ok_or_else(|| format!("invalid time span {value:?}"))?;
                self.stop_timeout = Some(span);
            }
            "KillMode" => match value {
                "mixed" => self.mixed = true,
                "control-group" => self.mixed = false,
                _ => return Err(format!("KillMode={value} isn't known here")),
            },
            "Type" if !matches!(value, "exec" | "simple") => {
                return Err(format!("Type={value} isn't known here"));
            }
            "Restart" if value != "no" => return Err(format!("Restart={value} isn't known here")),
            _ => {}
        }
        Ok(())
    }
}

/// Splits at blanks, except within quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (Some(open), c) if c == open => quote = None,
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// A time span: seconds, or numbers with units (`90`, `1min 30s`, `2h`).
pub(super) fn duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().ok()?;
        rest = rest[digits..].trim_start();
        let letters = rest
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "" | "s" | "sec" | "second" | "seconds" => 1.0,
            "ms" | "msec" => 0.001,
            "m" | "min" | "minute" | "minutes" => 60.0,
            "h" | "hr" | "hour" | "hours" => 3600.0,
            "d" | "day" | "days" => 86400.0,
            _ => return None,
        };
        rest = rest[letters..].trim_start();
        total += Duration::try_from_secs_f64(number * unit).ok()?;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_files_are_read() {
        let unit = Unit::parse(
            "[Unit]\nDescription=x\n# a comment\n[Service]\nType=exec\n\
             ExecStart=/bin/agent run --config \"/etc/a b\"\n\
             ExecStopPost=-/bin/agent release\nKillMode=mixed\nTimeoutStopSec=3min\n",
        )
        .unwrap();
        assert_eq!(
            unit,
            Unit {
                exec_start: ["/bin/agent", "run", "--config", "/etc/a b"]
                    .map(Into::into)
                    .into(),
                exec_stop_post: vec![Command {
                    words: ["/bin/agent", "release"].map(Into::into).into(),
                    may_fail: true,
                }],
                environment: Vec::new(),
                stop_timeout: Some(Duration::from_secs(180)),
                mixed: true,
            }
        );
        assert!(Unit::parse("[Service]\nType=exec\n").is_err());
        assert!(Unit::parse("[Service]\nExecStart=/bin/x\nRestart=always\n").is_err());
        assert!(Unit::parse("[Service]\nnonsense\n").is_err());
    }

    #[test]
    fn time_spans_are_read() {
        for (text, seconds) in [
            ("90", Some(90.0)),
            ("1min 30s", Some(90.0)),
            ("0.5", Some(0.5)),
            ("250ms", Some(0.25)),
            ("2h", Some(7200.0)),
            ("", None),
            ("soon", None),
            ("5 parsecs", None),
        ] {
            assert_eq!(
                duration(text),
                seconds.map(Duration::from_secs_f64),
                "{text}"
            );
        }
    }
}
