//! The user data: a POSIX shell script that turns a fresh machine, or a pod's container, into a runner.
//!
//! The script itself is `common.sh` with `bootstrap.sh` for a machine, or with `pod.sh`; what differs
//! from launch to launch is put before it as quoted assignments, so that no value is ever read as
//! shell.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::agent::{AgentConfig, Place};
use crate::cloud::{Arch, ClosedMetadata};
use crate::error::{Error, Result};

/// What both scripts begin with.
const COMMON: &str = include_str!("common.sh");
const MACHINE: &str = include_str!("bootstrap.sh");
const POD: &str = include_str!("pod.sh");

/// What the script needs to know.
pub struct Bootstrap<'a> {
    /// The runner's name, for the log.
    pub name: &'a str,
    /// How long the machine lives when no agent becomes ready.
    pub deadline: Duration,
    /// Where the agent comes from and what it must hash to, by architecture.
    pub agents: &'a BTreeMap<Arch, AgentFile>,
    /// The agent's configuration, with its secrets.
    pub config: &'a AgentConfig,
    /// The user's script.
    pub startup_script: Option<&'a [u8]>,
    /// The public key that may log in.
    pub ssh_key: Option<&'a str>,
    /// A POSIX shell script that has the machine deleted, where powering off isn't enough.
    pub farewell: &'a str,
    /// What of the metadata service is closed to jobs.
    pub closed: ClosedMetadata,
}

/// The agent's file for one architecture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentFile {
    /// Where to download it.
    pub url: String,
    /// Its SHA-256 in hexadecimal.
    pub sha256: String,
}

impl Bootstrap<'_> {
    /// The script as text.
    pub fn script(&self) -> Result<String> {
        let config = serde_json::to_vec(self.config)
            .map_err(|error| Error::other("writing the agent's configuration").caused_by(error))?;
        let mut text = String::from("#!/bin/sh\n# Made by runner-launch.\n");
        let mut assign = |name: &str, value: &str| -> Result<()> {
            let quoted = shlex::try_quote(value).map_err(|error| {
                Error::usage(format!("{name} can't be given to a shell")).caused_by(error)
            })?;
            text.push_str(&format!("{name}={quoted}\n"));
            Ok(())
        };
        assign("name", self.name)?;
        assign("deadline", &self.deadline.as_secs().to_string())?;
        for arch in Arch::ALL {
            let file = self.agents.get(&arch);
            let value = |part: fn(&AgentFile) -> &str| file.map_or("", part);
            assign(
                &format!("agent_url_{}", arch.uname()),
                value(|file| &file.url),
            )?;
            assign(
                &format!("agent_sha256_{}", arch.uname()),
                value(|file| &file.sha256),
            )?;
        }
        assign("agent_config", &BASE64_STANDARD.encode(config))?;
        let startup = self
            .startup_script
            .map(|script| BASE64_STANDARD.encode(script));
        assign("startup_script", startup.as_deref().unwrap_or_default())?;
        if !self.is_pod() {
            assign("ssh_key", self.ssh_key.unwrap_or_default())?;
            assign("farewell", self.farewell)?;
            assign("closed_metadata", &self.closed.words())?;
        }
        text.push_str(COMMON);
        text.push_str(if self.is_pod() { POD } else { MACHINE });
        Ok(text)
    }

    fn is_pod(&self) -> bool {
        matches!(self.config.place, Place::Pod { .. })
    }

    /// The user data, at most `limit` bytes: plain where that fits, else compressed, which
    /// cloud-init recognises. A pod has no cloud-init.
    pub fn user_data(&self, limit: usize) -> Result<Vec<u8>> {
        let script = self.script()?.into_bytes();
        if script.len() <= limit {
            return Ok(script);
        }
        let too_long = |packed: &str| {
            let startup = self.startup_script.map_or(0, <[u8]>::len);
            Error::usage(format!(
                "the user data has {} bytes{packed}, and the cloud takes {limit}; the startup script \
                 makes up {startup} of them",
                script.len(),
            ))
            .hint("let the startup script download its larger parts")
        };
        if self.is_pod() {
            return Err(too_long(""));
        }
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        let packed = encoder
            .write_all(&script)
            .and_then(|()| encoder.finish())
            .map_err(|error| Error::other("compressing the user data").caused_by(error))?;
        if packed.len() > limit {
            return Err(too_long(&format!(", {} compressed", packed.len())));
        }
        Ok(packed)
    }
}

#[cfg(test)]
mod pod_tests;

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;
    use crate::cloud::GiveBack;
    use crate::forge::{Programs, Registration};

    use crate::spec::ForgeSpec;

    pub(super) fn config() -> AgentConfig {
        AgentConfig {
            name: "n".into(),
            labels: vec!["l".into()],
            idle_seconds: None,
            single: true,
            version: None,
            retry: true,
            forge: ForgeSpec::example(),
            registration: Registration {
                runner_id: None,
                jit: None,
                token: None,
                own: None,
            },
            docker: crate::spec::Docker::default(),
            programs: Programs::new(),
            notices: None,
            give_back: GiveBack::PowerOff,
            place: Place::Instance {
                user: "runner".into(),
            },
        }
    }

    /// What a shell makes of the script's variables, one a line.
    fn variables(script: &str) -> String {
        let (assignments, _) = script.split_once("# Everything above").unwrap();
        let show = r#"printf '%s\n' "$name" "$agent_url_x86_64" "$startup_script" "$ssh_key""#;
        let _held = crate::agent::CHILDREN.blocking_read();
        let output = Command::new("sh")
            .args(["-c", &format!("{assignments}\n{show}")])
            .output()
            .unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn no_value_is_read_as_shell(name in "[ -~]{0,40}", url in "[!-~]{0,40}", key in "[ -~]{0,40}") {
            let file = AgentFile { url: url.clone(), sha256: "0".repeat(64) };
            let script = Bootstrap {
                name: &name,
                deadline: Duration::from_secs(600),
                agents: &[(Arch::X86_64, file)].into(),
                config: &config(),
                startup_script: Some(b"echo hello"),
                ssh_key: Some(&key),
                farewell: "true",
                closed: ClosedMetadata::Paths(&["/user-data"]),
            }
            .script()
            .unwrap();
            prop_assert_eq!(variables(&script), format!("{name}\n{url}\nZWNobyBoZWxsbw==\n{key}\n"));
        }
    }

    #[test]
    fn what_only_real_machines_do_is_in_the_script() {
        // A service manager's reaction to a job that runs out of memory, and a boot after a crash.
        assert!(MACHINE.contains("\nOOMPolicy=continue\n"));
        assert!(MACHINE.contains("/var/lib/cloud/scripts/per-boot"));
    }
}
