//! GitHub's runner program: where it comes from, how it starts, what its log says.

use std::path::Path;

use http::{Method, StatusCode};
use serde::Deserialize;

use super::GitHub;
use crate::cloud::Arch;
use crate::error::{Error, Kind, Result};
use crate::forge::{
    Command, Enrolment, JobRef, LogEvent, Program, Programs, Provided, Registration, Start,
    Surroundings,
};
use crate::host::names;
use crate::secret::Secret;

/// An entry of the downloads list.
/// <https://docs.github.com/en/rest/actions/self-hosted-runners#list-runner-applications-for-a-repository>
#[derive(Deserialize)]
struct Download {
    os: String,
    architecture: String,
    download_url: String,
    filename: String,
    sha256_checksum: Option<String>,
}

/// A release of `actions/runner`; its assets carry their checksums.
#[derive(Deserialize)]
struct Release {
    assets: Vec<Asset>,
}

#[derive(Deserialize)]
struct Asset {
    name: String,
    browser_download_url: String,
    digest: Option<String>,
}

/// The architecture in GitHub's words.
pub(super) fn github_arch(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "x64",
        Arch::Aarch64 => "arm64",
    }
}

impl GitHub {
    /// The downloads by architecture: the forge's choice, or a pinned version.
    pub(super) async fn programs(&self, pinned: Option<&str>) -> Result<Programs> {
        let route = format!("{}/actions/runners/downloads", self.scope());
        let list = async {
            let list: Vec<Download> = self.get("listing the runner programs", &route).await?;
            Ok(list)
        };
        let (list, release) = match pinned {
            None => (list.await?, None),
            Some(version) => {
                let (list, release) = tokio::try_join!(list, self.release(version))?;
                (list, Some((version, release)))
            }
        };
        let mut programs = Programs::new();
        for arch in Arch::ALL {
            let program = match &release {
                None => from_list(&list, arch, None),
                Some((version, release)) => from_list(&list, arch, Some(version)).or_else(|| {
                    release
                        .as_ref()
                        .and_then(|r| from_release(r, arch, version))
                }),
            };
            if let Some(mut program) = program {
                // A mirror keeps the program; the checksum stays the forge's.
                if let Some(mirror) = self.host.env(names::RUNNER_URL) {
                    program.url = mirror.replace("{arch}", github_arch(arch));
                }
                programs.insert(arch, program);
            }
        }
        if programs.is_empty() {
            let wanted = pinned.unwrap_or("any version");
            return Err(Error::new(
                Kind::Forge,
                format!("GitHub offers no runner program with a checksum for Linux ({wanted})"),
            )
            .hint(
                "--runner-version takes a version such as 2.330.0; leave it out for the newest",
            ));
        }
        Ok(programs)
    }

    /// A pinned version's release; `None` where the server has none.
    /// <https://docs.github.com/en/rest/releases/releases#get-a-release-by-tag-name>
    async fn release(&self, version: &str) -> Result<Option<Release>> {
        let route = format!("/repos/actions/runner/releases/tags/v{version}");
        let answer = self.call(Method::GET, &route, None, true).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        self.read("looking up the runner's release", answer)
            .map(Some)
    }
}

fn from_list(list: &[Download], arch: Arch, version: Option<&str>) -> Option<Program> {
    let download = list
        .iter()
        .find(|download| download.os == "linux" && download.architecture == github_arch(arch))?;
    if version.is_some_and(|version| !download.filename.contains(&format!("-{version}."))) {
        return None;
    }
    Some(Program {
        url: download.download_url.clone(),
        sha256: download
            .sha256_checksum
            .clone()
            .filter(|sum| !sum.is_empty())?,
        file: None,
    })
}

fn from_release(release: &Release, arch: Arch, version: &str) -> Option<Program> {
    let name = format!(
        "actions-runner-linux-{}-{version}.tar.gz",
        github_arch(arch)
    );
    let asset = release.assets.iter().find(|asset| asset.name == name)?;
    Some(Program {
        url: asset.browser_download_url.clone(),
        sha256: asset.digest.as_deref()?.strip_prefix("sha256:")?.to_owned(),
        file: None,
    })
}

/// The listener, which the scripts beside it start.
const LISTENER: &str = "bin/Runner.Listener";

/// GitHub's own image has it in the home of its user `runner`; others go by the documented folder.
/// <https://github.com/actions/runner/blob/main/images/Dockerfile>
pub(super) const PROVIDED: Provided = Provided {
    program: LISTENER,
    beside: &["run.sh", "config.sh"],
    folders: &["~", "~/actions-runner", "/actions-runner", "/home/runner"],
    keeps_files: true,
    // It brings itself up to date.
    any_version: true,
};

/// The listener prints its version alone.
pub(super) fn accepts(said: &str, version: Option<&str>) -> bool {
    version.is_none_or(|version| said.trim() == version.trim_start_matches('v'))
}

/// Secrets travel in the program's own variables for unattended input, which it removes from its
/// environment before any job starts.
pub(super) fn start(
    url: &str,
    enrolment: &Enrolment<'_>,
    registration: &Registration,
    surroundings: &Surroundings<'_>,
) -> Start {
    // Without ICU .NET must be told to do without, and `config.sh` refuses to do more than that:
    // it checks for ICU and then starts the listener.
    // <https://learn.microsoft.com/en-us/dotnet/core/runtime-config/globalization#invariant-mode>
    let invariant = (!surroundings.icu).then(|| {
        tracing::info!(
            "there is no ICU here: the runner program, and with it every job, has \
             DOTNET_SYSTEM_GLOBALIZATION_INVARIANT=1 in its environment"
        );
        let name = "DOTNET_SYSTEM_GLOBALIZATION_INVARIANT".to_owned();
        (name, Secret::new("1"))
    });
    let input =
        |name: &str, value: &Secret| (format!("ACTIONS_RUNNER_INPUT_{name}"), value.clone());
    let with_invariant = |mut env: Vec<(String, Secret)>| {
        env.extend(invariant.clone());
        env
    };
    let run = |env| Command {
        program: "run.sh".to_owned(),
        args: Vec::new(),
        env: with_invariant(env),
    };
    if let Some(jit) = &registration.jit {
        return Start {
            files: Vec::new(),
            setup: None,
            run: run(vec![input("JITCONFIG", jit)]),
        };
    }
    let mut args: Vec<String> = Vec::new();
    if !surroundings.icu {
        args.push("configure".to_owned());
    }
    args.extend(["--unattended", "--url", url, "--name", enrolment.name].map(str::to_owned));
    args.extend(["--labels".to_owned(), enrolment.labels.join(",")]);
    args.extend(["--work", "_work"].map(str::to_owned));
    if enrolment.single {
        args.push("--ephemeral".to_owned());
    }
    if enrolment.pinned {
        args.push("--disableupdate".to_owned());
    }
    Start {
        files: Vec::new(),
        setup: Some(Command {
            program: if surroundings.icu {
                "config.sh"
            } else {
                LISTENER
            }
            .to_owned(),
            args,
            env: with_invariant(
                registration
                    .token
                    .iter()
                    .map(|token| input("TOKEN", token))
                    .collect(),
            ),
        }),
        run: run(Vec::new()),
    }
}

/// The program notes its registration in a file, which begins with a byte order mark.
pub(super) fn registered_id(folder: &Path) -> Option<u64> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Settings {
        agent_id: u64,
    }
    let text = std::fs::read_to_string(folder.join(".runner")).ok()?;
    let settings: Settings = serde_json::from_str(text.trim_start_matches('\u{feff}')).ok()?;
    Some(settings.agent_id)
}

/// The listener's own lines; a job's output never comes this way.
pub(super) fn read_log(line: &str) -> Option<LogEvent> {
    if line.contains("Listening for Jobs") {
        return Some(LogEvent::Ready);
    }
    if let Some((_, job)) = line.split_once("Running job: ") {
        return Some(LogEvent::Started {
            job: JobRef {
                name: Some(job.trim().to_owned()),
                ..JobRef::default()
            },
        });
    }
    if let Some((_, result)) = line.split_once("completed with result: ") {
        return Some(LogEvent::Ended {
            success: result.trim() == "Succeeded",
        });
    }
    None
}

/// The hook tells which run a job belongs to, so that nobody has to search for it.
/// <https://docs.github.com/en/actions/how-tos/manage-runners/self-hosted-runners/run-scripts>
pub(super) fn job_hook(note: &str) -> (&'static str, String) {
    let note = shlex::try_quote(note).unwrap_or_else(|_| "/dev/null".into());
    let script = format!(
        "#!/bin/sh\n\
         # Notes which workflow run this job belongs to, for the case that the machine is lost.\n\
         printf 'run_id=%s\\nrepository=%s\\n' \"$GITHUB_RUN_ID\" \"$GITHUB_REPOSITORY\" >{note}\n"
    );
    ("ACTIONS_RUNNER_HOOK_JOB_STARTED", script)
}

/// What the hook noted, as far as it has the right form: a job could have written the file too.
pub(super) fn read_job(note: &str) -> JobRef {
    let value = |name: &str| {
        note.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
    };
    let well_formed = |path: &&str| {
        path.split('/').count() == 2
            && path
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "/-_.".contains(c))
    };
    JobRef {
        name: None,
        repository: value("repository").filter(well_formed).map(str::to_owned),
        run_id: value("run_id").and_then(|id| id.parse().ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listener_s_lines_are_understood() {
        let cases = [
            (
                "2026-01-01 00:00:00Z: Listening for Jobs",
                Some(LogEvent::Ready),
            ),
            (
                "2026-01-01 00:00:00Z: Running job: train (a, b)",
                Some(LogEvent::Started {
                    job: JobRef {
                        name: Some("train (a, b)".into()),
                        ..JobRef::default()
                    },
                }),
            ),
            (
                "2026-01-01 00:00:00Z: Job train completed with result: Succeeded",
                Some(LogEvent::Ended { success: true }),
            ),
            (
                "2026-01-01 00:00:00Z: Job train completed with result: Canceled",
                Some(LogEvent::Ended { success: false }),
            ),
            ("√ Connected to GitHub", None),
        ];
        for (line, event) in cases {
            assert_eq!(read_log(line), event, "{line}");
        }
    }

    #[test]
    fn a_forged_note_is_not_believed() {
        let job = read_job("run_id=12\nrepository=octo/repo\n");
        assert_eq!(
            (job.run_id, job.repository.as_deref()),
            (Some(12), Some("octo/repo"))
        );
        let job = read_job("run_id=1/../2\nrepository=a/b/c\n");
        assert_eq!(job, JobRef::default());
        assert_eq!(read_job("repository=a/b?x"), JobRef::default());
    }

    #[test]
    fn no_secret_is_in_an_argument() {
        let enrolment = Enrolment {
            name: "n",
            labels: &["a".into(), "b".into()],
            single: false,
            arch: None,
            pinned: true,
        };
        let registration = Registration {
            runner_id: None,
            jit: None,
            token: Some(Secret::new("TOKENTOKEN")),
            own: None,
        };
        let docker = crate::spec::Docker::default();
        let mut surroundings = Surroundings {
            idle_timeout: None,
            docker: &docker,
            has_docker: false,
            gpu: false,
            gpu_in_containers: false,
            lasting: false,
            icu: true,
            image: None,
        };
        let url = "https://example.com/o/r";
        let setup = start(url, &enrolment, &registration, &surroundings).setup;
        let setup = setup.unwrap();
        assert_eq!(setup.env.len(), 1);
        assert!(!setup.args.iter().any(|arg| arg.contains("TOKENTOKEN")));
        assert_eq!(setup.env[0].0, "ACTIONS_RUNNER_INPUT_TOKEN");
        assert!(setup.args.join(" ").contains("--labels a,b"));
        assert!(setup.args.contains(&"--disableupdate".to_owned()));
        // Without ICU it is the same, past the script that insists on it.
        surroundings.icu = false;
        let without = start(url, &enrolment, &registration, &surroundings);
        let (bare, run) = (without.setup.unwrap(), without.run);
        assert_eq!(
            (bare.program.as_str(), bare.args[0].as_str()),
            (LISTENER, "configure")
        );
        assert_eq!(bare.args[1..], setup.args);
        for env in [&bare.env, &run.env] {
            let (name, value) = env.last().unwrap();
            assert_eq!(name, "DOTNET_SYSTEM_GLOBALIZATION_INVARIANT");
            assert_eq!(value.expose(), "1");
        }
    }

    #[test]
    fn a_provided_listener_is_known_by_its_version() {
        assert!(accepts("2.330.0\n", Some("2.330.0")));
        assert!(accepts("2.330.0\n", Some("v2.330.0")));
        assert!(!accepts("2.330.0\n", Some("2.329.0")));
        assert!(!accepts("", Some("2.330.0")));
        assert!(accepts("", None));
    }
}
