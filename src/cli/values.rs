//! The options that don't belong to a cloud or a forge: from text to checked values.
//!
//! Each reader puts what it finds wrong into `mistakes` and returns `None` then, or what stands
//! for the default.

use std::path::PathBuf;
use std::time::Duration;

use tracing::level_filters::LevelFilter;

use super::Given;
use crate::host::{Host, names};
use crate::spec::{Docker, Reuse};

/// The longest name that GitHub takes for a runner.
const LONGEST_NAME: usize = 64;

impl Given {
    pub(super) fn level(&self, mistakes: &mut Vec<String>) -> Option<LevelFilter> {
        if self.one("log").is_none() {
            return Some(LevelFilter::INFO);
        }
        self.parsed("log", mistakes, |text| match text {
            "error" => Ok(LevelFilter::ERROR),
            "warn" => Ok(LevelFilter::WARN),
            "info" => Ok(LevelFilter::INFO),
            "debug" => Ok(LevelFilter::DEBUG),
            _ => Err(format!("`{text}` is none of error, warn, info, debug")),
        })
    }

    pub(super) fn is_json(&self, mistakes: &mut Vec<String>) -> bool {
        let json = self.parsed("output", mistakes, |text| match text {
            "text" => Ok(false),
            "json" => Ok(true),
            _ => Err(format!("`{text}` is neither text nor json")),
        });
        json.unwrap_or(false)
    }

    pub(super) fn name(&self, host: &Host, mistakes: &mut Vec<String>) -> Option<String> {
        if self.one("name").is_none() {
            return match host.random_id(10) {
                Ok(id) => Some(format!("cml-{id}")),
                Err(error) => {
                    mistakes.push(error.chain());
                    None
                }
            };
        }
        self.parsed("name", mistakes, |text| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if text.is_empty() || text.len() > LONGEST_NAME {
                Err(format!(
                    "a name has 1 to {LONGEST_NAME} characters, this one {}",
                    text.len()
                ))
            } else if !text.chars().all(allowed) {
                Err(format!(
                    "`{text}` may have letters, digits, `-`, `_` and `.` only"
                ))
            } else {
                Ok(text.to_owned())
            }
        })
    }

    pub(super) fn labels(&self, mistakes: &mut Vec<String>) -> Option<Vec<String>> {
        let Some(given) = self.list("labels") else {
            return Some(vec!["cml".to_owned()]);
        };
        let origin = self.origin("labels");
        let mut labels: Vec<String> = Vec::new();
        for label in given {
            if label.len() > 256
                || label
                    .chars()
                    .any(|c| c.is_control() || "\"'`\\".contains(c))
            {
                mistakes.push(format!(
                    "{origin}: `{}` is no label: at most 256 characters, no quotes or backslashes",
                    label.escape_debug()
                ));
            }
            if !labels.contains(&label) {
                labels.push(label);
            }
        }
        if labels.is_empty() {
            mistakes.push(format!("{origin}: at least one label is needed"));
            return None;
        }
        Some(labels)
    }

    pub(super) fn idle_timeout(&self, mistakes: &mut Vec<String>) -> Option<Option<Duration>> {
        const DEFAULT: Duration = Duration::from_secs(300);
        if self.one("idle-timeout").is_none() {
            return Some(Some(DEFAULT));
        }
        self.parsed("idle-timeout", mistakes, |text| match text {
            "-1" | "never" => Ok(None),
            text => duration(text).map(Some),
        })
    }

    pub(super) fn timeout(&self, mistakes: &mut Vec<String>) -> Option<Duration> {
        const DEFAULT: Duration = Duration::from_secs(600);
        if self.one("timeout").is_none() {
            return Some(DEFAULT);
        }
        self.parsed("timeout", mistakes, duration)
    }

    pub(super) fn reuse(&self, mistakes: &mut Vec<String>) -> (bool, Reuse) {
        let all = ["single", "reuse", "reuse-idle"];
        let on: Vec<&str> = all
            .into_iter()
            .filter(|name| self.flag(name, mistakes))
            .collect();
        if on.len() > 1 {
            let names: Vec<String> = on.iter().map(|name| self.origin(name)).collect();
            mistakes.push(format!("{} exclude each other", names.join(" and ")));
        }
        match on.first() {
            Some(&"single") => (true, Reuse::Never),
            Some(&"reuse") => (false, Reuse::Any),
            Some(_) => (false, Reuse::Idle),
            None => (false, Reuse::Never),
        }
    }

    pub(super) fn runner_version(&self, mistakes: &mut Vec<String>) -> Option<String> {
        self.parsed("runner-version", mistakes, |text| {
            let version = text.strip_prefix('v').unwrap_or(text);
            let numbers: Vec<&str> = version.split('.').collect();
            let number = |part: &&str| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit());
            if numbers.len() == 3 && numbers.iter().all(number) {
                Ok(version.to_owned())
            } else {
                Err(format!("`{text}` is no version such as 2.330.0"))
            }
        })
    }

    pub(super) fn docker(&self, host: &Host, mistakes: &mut Vec<String>) -> Docker {
        /// A plain system, as long supported as it gets.
        const IMAGE: &str = "ubuntu:24.04";
        let image = self.one("docker-image").map_or(IMAGE, str::trim);
        if image.is_empty() || image.contains(char::is_whitespace) {
            mistakes.push(format!(
                "{}: `{image}` is no image's name",
                self.origin("docker-image")
            ));
        }
        let volumes = self.many("docker-volumes").to_vec();
        for volume in &volumes {
            let parts: Vec<&str> = volume.split(':').collect();
            if !(2..=3).contains(&parts.len()) || parts.iter().any(|part| part.is_empty()) {
                mistakes.push(format!(
                    "{}: `{volume}` has not the form host:container",
                    self.origin("docker-volumes")
                ));
            }
        }
        Docker {
            image: image.to_owned(),
            volumes,
            helper_image: host
                .env(names::HELPER_IMAGE)
                .map(|name| name.trim().to_owned()),
        }
    }

    pub(super) fn workdir(&self, mistakes: &mut Vec<String>) -> Option<PathBuf> {
        self.parsed("workdir", mistakes, |text| match text {
            "" => Err("an empty path is no folder".to_owned()),
            text => Ok(PathBuf::from(text)),
        })
    }
}

/// A duration: bare seconds, or numbers with units, such as `5min`, `5 minutes`, `1h 30m`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    /// A year: beyond it, `never` is meant.
    const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);
    let duration = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => humantime::parse_duration(text)
            .map_err(|_| format!("`{text}` is no time such as 300, 5min or 1h"))?,
    };
    if duration < Duration::from_secs(1) || duration > LONGEST {
        return Err(format!("`{text}` is not between one second and one year"));
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_all_their_forms() {
        let cases = [
            ("300", 300),
            ("5min", 300),
            ("5 minutes", 300),
            ("1h", 3600),
            ("1h 30m", 5400),
        ];
        for (text, seconds) in cases {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "0", "-5", "soon", "5 parsecs", "99999999999999999999"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
