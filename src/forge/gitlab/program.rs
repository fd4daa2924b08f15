//! GitLab's runner program: where it comes from, how it starts, what its log says.

use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::GitLab;
use super::endpoints::ServerVersion;
use super::pipelines::is_below;
use crate::cloud::Arch;
use crate::error::{Error, Kind, Result};
use crate::forge::{
    Command, Enrolment, JobRef, LogEvent, Program, Programs, Provided, Registration, Start,
    StartFile, Surroundings,
};
use crate::host::names;
use crate::http::{Policy, Request, Verdict, redacted};
use crate::secret::Secret;
use crate::spec::ForgeSpec;

/// <https://docs.gitlab.com/runner/install/bleeding-edge/#download-any-other-tagged-release>
const DOWNLOADS: &str = "https://gitlab-runner-downloads.s3.amazonaws.com/{version}/binaries/gitlab-runner-linux-{arch}";
/// The list of a version's checksums, beside the folder of its files.
const SUMS: &str = "release.sha256";
/// What the program is called on a machine.
const FILE: &str = "gitlab-runner";
/// The first version whose `run-single` reads its token from a file.
/// <https://docs.gitlab.com/runner/commands/#gitlab-runner-run-single>
const OLDEST: (u32, u32) = (17, 1);
/// The program's own configuration, in its folder.
const CONFIG: &str = "config.toml";

/// The architecture in GitLab's words.
fn gitlab_arch(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "amd64",
        Arch::Aarch64 => "arm64",
    }
}

impl GitLab {
    /// The downloads by architecture: of a pinned version; else of the server's, as GitLab wants it;
    /// else of the newest.
    /// <https://docs.gitlab.com/runner/#gitlab-runner-versions>
    pub(super) async fn programs(&self, pinned: Option<&str>) -> Result<Programs> {
        let template = self.host.env(names::RUNNER_URL).unwrap_or(DOWNLOADS);
        let mut versions = Vec::new();
        match pinned {
            Some(version) => {
                let version = version.trim_start_matches('v');
                if numbers(version).is_some_and(|version| version < OLDEST) {
                    return Err(Error::usage(format!(
                        "--runner-version: {version} is too old: the runner program hides its \
                         token from jobs only from {}.{}.0 on",
                        OLDEST.0, OLDEST.1
                    )));
                }
                versions.push(format!("v{version}"));
            }
            // A mirror without a place for the version has just one.
            None if !template.contains("{version}") => versions.push("latest".to_owned()),
            None => {
                versions.extend(self.server_version().await);
                // A name for what changes: a release between this list and the instance's download
                // gives another file, which its checksum then refuses. The list names no version
                // to ask for instead.
                versions.push("latest".to_owned());
            }
        }
        for version in &versions {
            let programs = self
                .programs_of(&template.replace("{version}", version))
                .await?;
            if !programs.is_empty() {
                return Ok(programs);
            }
        }
        Err(Error::new(
            Kind::Forge,
            format!(
                "there is no runner program with a checksum for Linux ({})",
                versions.join(", ")
            ),
        )
        .hint("--runner-version takes a version such as 18.5.0; leave it out for the server's own"))
    }

    /// The runner version that goes with the server's; `None` where the token may not know.
    async fn server_version(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Version {
            version: String,
        }
        let doing = "asking for the server's version";
        let version: Version = self.api.get(doing, &ServerVersion).await.ok()?;
        let (major, minor) = numbers(&version.version)?.max(OLDEST);
        Some(format!("v{major}.{minor}.0"))
    }

    /// The programs at an address with a place for the architecture; none where the version isn't
    /// there.
    async fn programs_of(&self, template: &str) -> Result<Programs> {
        let doing = || format!("the runner program's address {template}");
        let url =
            |text: &str| Url::parse(text).map_err(|error| Error::usage(doing()).caused_by(error));
        let first = url(&template.replace("{arch}", gitlab_arch(Arch::X86_64)))?;
        // `…/VERSION/release.sha256` beside `…/VERSION/binaries/FILE`; a mirror may be flat.
        let list = match first.path().contains("/binaries/") {
            true => first.join(&format!("../{SUMS}")),
            false => first.join(SUMS),
        };
        let list = list.map_err(|error| Error::usage(doing()).caused_by(error))?;
        let what = redacted(&list);
        let build = || Ok(Request::new(Method::GET, list.clone()));
        let reply = self
            .http
            .send(&what, Policy::IDEMPOTENT, build, Verdict::by_status)
            .await?;
        match reply.status {
            // The store says so of what it hasn't got.
            StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => return Ok(Programs::new()),
            status if status.is_success() => {}
            status => {
                return Err(Error::new(Kind::Forge, format!("reading {what}: {status}")));
            }
        }
        let sums = reply.text();
        let mut programs = Programs::new();
        for arch in Arch::ALL {
            let url = url(&template.replace("{arch}", gitlab_arch(arch)))?;
            let name = url.path().rsplit('/').next().unwrap_or_default();
            if let Some(sha256) = checksum(&sums, name) {
                let program = Program {
                    url: url.to_string(),
                    sha256,
                    file: Some(FILE.to_owned()),
                };
                programs.insert(arch, program);
            }
        }
        Ok(programs)
    }
}

/// Where GitLab's packages and its own images have it.
/// <https://docs.gitlab.com/runner/install/docker/>
pub(super) const PROVIDED: Provided = Provided {
    program: FILE,
    beside: &[],
    folders: &["/usr/bin", "/usr/local/bin"],
    keeps_files: false,
    any_version: false,
};

/// It prints several lines, the first with its version.
pub(super) fn accepts(said: &str, version: Option<&str>) -> bool {
    let line = said.lines().find_map(|line| line.strip_prefix("Version:"));
    let Some(own) = line.map(str::trim) else {
        return false;
    };
    let is_it = version.is_none_or(|version| own == version.trim_start_matches('v'));
    is_it && numbers(own).is_some_and(|own| own >= OLDEST)
}

/// The first two numbers of a version, such as `18.5.1-ee`.
fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.');
    let major = parts.next()?.parse().ok()?;
    Some((major, parts.next()?.parse().ok()?))
}

/// A file's line in the list, which names it with its folder.
fn checksum(sums: &str, name: &str) -> Option<String> {
    sums.lines().find_map(|line| {
        let (sum, file) = line.split_once(char::is_whitespace)?;
        let file = file.trim_start().trim_start_matches('*');
        let is_it = file.rsplit('/').next() == Some(name);
        let is_sum = sum.len() == 64 && sum.chars().all(|c| c.is_ascii_hexdigit());
        (is_it && is_sum).then(|| sum.to_ascii_lowercase())
    })
}

/// The token is in a file, which the program reads once, at its start: a job of the shell executor
/// inherits the program's environment, and every user sees its arguments.
pub(super) fn start(
    spec: &ForgeSpec,
    enrolment: &Enrolment<'_>,
    registration: &Registration,
    surroundings: &Surroundings<'_>,
) -> Start {
    if !surroundings.has_docker {
        tracing::warn!(
            "there is no Docker for jobs here: they run in this machine's shell, whatever their \
             image, --docker-image and --docker-volumes say"
        );
    } else if surroundings.gpu && !surroundings.gpu_in_containers {
        tracing::warn!(
            "there is a GPU, but no nvidia-container-toolkit for Docker to give it to containers: jobs \
             get none"
        );
    }
    let idle = surroundings.idle_timeout.map_or(0, |time| time.as_secs());
    let mut args: Vec<String> = ["--log-format", "json", "run-single"]
        .map(Into::into)
        .into();
    args.extend(["--config", CONFIG, "--runner", enrolment.name].map(Into::into));
    args.extend(["--wait-timeout".to_owned(), idle.to_string()]);
    if enrolment.single {
        args.extend(["--max-builds", "1"].map(Into::into));
    }
    let token = registration.own.as_ref().map_or("", Secret::expose);
    Start {
        files: vec![StartFile {
            name: CONFIG.to_owned(),
            content: Secret::new(config(spec, enrolment.name, token, surroundings)),
        }],
        setup: None,
        run: Command {
            program: FILE.to_owned(),
            args,
            env: Vec::new(),
        },
    }
}

/// <https://docs.gitlab.com/runner/configuration/advanced-configuration/>
fn config(spec: &ForgeSpec, name: &str, token: &str, surroundings: &Surroundings<'_>) -> String {
    // A JSON string is a TOML string, too.
    let quoted = |text: &str| Value::from(text).to_string();
    let mut text = format!(
        "concurrent = 1\n\n[[runners]]\nname = {}\nurl = {}\ntoken = {}\n",
        quoted(name),
        quoted(&server(spec)),
        quoted(token)
    );
    if !surroundings.has_docker {
        text.push_str("executor = \"shell\"\n");
        if let Some(image) = surroundings.image {
            // It starts login shells, and Debian's `/etc/profile` sets another PATH than the image
            // has; these are set after that.
            text.push_str(&format!(
                "environment = [{}]\n",
                quoted(&format!("PATH={}", image.path))
            ));
            if !image.bash {
                // It takes Bash without looking whether that is there.
                text.push_str("shell = \"sh\"\n");
            }
        }
        return text;
    }
    let docker = surroundings.docker;
    let mut volumes = docker.volumes.clone();
    if !surroundings.lasting {
        volumes.push("/cache".to_owned());
    }
    let volumes: Vec<String> = volumes.iter().map(|volume| quoted(volume)).collect();
    text.push_str(&format!(
        "executor = \"docker\"\n\n[runners.docker]\nimage = {}\nvolumes = [{}]\n",
        quoted(&docker.image),
        volumes.join(", ")
    ));
    if let Some(image) = &docker.helper_image {
        text.push_str(&format!("helper_image = {}\n", quoted(image)));
    }
    if surroundings.gpu && surroundings.gpu_in_containers {
        text.push_str("gpus = \"all\"\n");
    }
    if surroundings.lasting {
        // Its volumes would stay.
        text.push_str("disable_cache = true\n");
    }
    text
}

/// The server's address with its relative root: what is before the project's path.
fn server(spec: &ForgeSpec) -> String {
    let url = spec.target_url.as_str().trim_end_matches('/');
    let server = url.strip_suffix(spec.target.path()).unwrap_or(url);
    server.trim_end_matches('/').to_owned()
}

/// The program's own lines, one JSON object each; a job's output never comes this way.
pub(super) fn read_log(line: &str, spec: &ForgeSpec) -> Option<LogEvent> {
    #[derive(Deserialize)]
    struct Line {
        msg: String,
        job: Option<Value>,
        repo_url: Option<String>,
        duration_s: Option<f64>,
    }
    let line: Line = serde_json::from_str(line.trim()).ok()?;
    let msg = line.msg.trim();
    if line.duration_s.is_some() {
        return Some(LogEvent::Ended {
            success: msg.starts_with("Job succeeded"),
        });
    }
    // A job that was cancelled before it began has no line with a duration: these follow at least.
    if msg == "Failed to process build" || msg.starts_with("This runner has processed its build") {
        return Some(LogEvent::Ended { success: false });
    }
    if msg.starts_with("Starting runner for") {
        return Some(LogEvent::Ready);
    }
    if msg.starts_with("This runner has not received a job") {
        return Some(LogEvent::Idle);
    }
    let asked = msg.strip_prefix("Checking for jobs...")?.trim();
    if asked == "forbidden" {
        return Some(LogEvent::Refused);
    }
    let number = match line.job.filter(|_| asked == "received")? {
        Value::String(number) => number,
        number => number.to_string(),
    };
    let job = JobRef {
        name: Some(number),
        repository: line.repo_url.and_then(|url| project(&url, spec)),
        run_id: None,
    };
    Some(LogEvent::Started { job })
}

/// The project behind a clone address, where it is one that the runner serves. The server's root may
/// differ from how we call it, so that the path is recognised by its own beginning.
fn project(url: &str, spec: &ForgeSpec) -> Option<String> {
    let url = Url::parse(url).ok()?;
    let path = url.path().trim_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path);
    let own = spec.target.path();
    let starts = std::iter::once(0).chain(path.match_indices('/').map(|(at, _)| at + 1));
    starts
        .filter_map(|start| path.get(start..))
        .find(|path| is_below(own, path))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forge::ImageShell;
    use crate::spec::{Access, Docker, Driver, Target};

    fn spec() -> ForgeSpec {
        ForgeSpec {
            driver: Driver::Gitlab,
            api: Url::parse("https://example.com/gitlab/api/v4").unwrap(),
            target_url: Url::parse("https://example.com/gitlab/group/sub").unwrap(),
            target: Target::Repository("group/sub".into()),
            access: Access::None,
            launcher: None,
        }
    }

    /// Lines as the program writes them, with a job of `group/sub/project`.
    #[test]
    fn the_program_s_lines_are_understood() {
        let job = |repository: Option<&str>| LogEvent::Started {
            job: JobRef {
                name: Some("77".into()),
                repository: repository.map(str::to_owned),
                run_id: None,
            },
        };
        let cases = [
            (
                r#"{"level":"info","msg":"Starting runner for https://example.com with token abc ...","time":"2026-01-01T00:00:00Z"}"#,
                Some(LogEvent::Ready),
            ),
            (
                r#"{"job":77,"level":"info","msg":"Checking for jobs... received","repo_url":"https://example.com/gitlab/group/sub/project.git","runner":"abc"}"#,
                Some(job(Some("group/sub/project"))),
            ),
            (
                r#"{"job":"77","level":"info","msg":"Checking for jobs... received","repo_url":"https://example.com/other/project.git"}"#,
                Some(job(None)),
            ),
            (
                r#"{"duration_s":1.5,"job":77,"level":"info","msg":"Job succeeded","project":1}"#,
                Some(LogEvent::Ended { success: true }),
            ),
            (
                r#"{"duration_s":1.5,"job":77,"level":"warning","msg":"Job failed: exit status 1"}"#,
                Some(LogEvent::Ended { success: false }),
            ),
            (
                r#"{"level":"error","msg":"Checking for jobs... forbidden","runner":"abc"}"#,
                Some(LogEvent::Refused),
            ),
            (
                r#"{"level":"info","msg":"This runner has not received a job in 300 seconds, so now exiting"}"#,
                Some(LogEvent::Idle),
            ),
            (
                r#"{"error":"canceled","level":"error","msg":"Failed to process build"}"#,
                Some(LogEvent::Ended { success: false }),
            ),
            (
                r#"{"level":"info","msg":"This runner has processed its build limit, so now exiting"}"#,
                Some(LogEvent::Ended { success: false }),
            ),
            (r#"{"level":"info","msg":"Runtime platform"}"#, None),
            ("Starting runner for", None),
        ];
        for (line, event) in cases {
            assert_eq!(read_log(line, &spec()), event, "{line}");
        }
    }

    fn started(docker: Option<&Docker>, gpu_in_containers: bool) -> (String, String) {
        started_in(None, docker, gpu_in_containers)
    }

    fn started_in(
        image: Option<ImageShell<'_>>,
        docker: Option<&Docker>,
        gpu_in_containers: bool,
    ) -> (String, String) {
        let enrolment = Enrolment {
            name: "n",
            labels: &["a".into()],
            single: true,
            arch: None,
            pinned: false,
        };
        let registration = Registration {
            runner_id: Some(1),
            jit: None,
            token: None,
            own: Some(Secret::new("glrt-TOKEN")),
        };
        let no_docker = Docker::default();
        let surroundings = Surroundings {
            idle_timeout: None,
            docker: docker.unwrap_or(&no_docker),
            has_docker: docker.is_some(),
            gpu: true,
            gpu_in_containers,
            lasting: false,
            icu: true,
            image,
        };
        let start = start(&spec(), &enrolment, &registration, &surroundings);
        assert!(start.run.env.is_empty() && start.setup.is_none());
        let config = start.files[0].content.expose().to_owned();
        (start.run.args.join(" "), config)
    }

    #[test]
    fn the_token_is_in_the_file_alone() {
        let (args, config) = started(None, false);
        assert!(!args.contains("glrt"), "{args}");
        assert!(args.ends_with("--wait-timeout 0 --max-builds 1"), "{args}");
        assert!(config.contains("token = \"glrt-TOKEN\""), "{config}");
        assert!(
            config.contains("url = \"https://example.com/gitlab\""),
            "{config}"
        );
        assert!(config.contains("executor = \"shell\""), "{config}");
    }

    #[test]
    fn a_container_s_jobs_find_its_programs_in_a_shell_that_it_has() {
        let image = |bash| {
            let path = "/opt/\"q\"/bin:/bin";
            Some(ImageShell { path, bash })
        };
        let (_, config) = started_in(image(true), None, false);
        let set = r#"environment = ["PATH=/opt/\"q\"/bin:/bin"]"#;
        assert!(config.contains(set), "{config}");
        assert!(!config.contains("shell ="), "{config}");
        let (_, config) = started_in(image(false), None, false);
        assert!(config.contains("\nshell = \"sh\"\n"), "{config}");
        // A machine's shell, and containers of their own, have their own.
        let (_, config) = started(None, false);
        assert!(!config.contains("environment") && !config.contains("shell ="));
        let (_, config) = started_in(image(false), Some(&Docker::default()), false);
        assert!(!config.contains("environment") && !config.contains("shell ="));
    }

    #[test]
    fn containers_get_their_image_volumes_and_gpus() {
        let docker = Docker {
            image: "ubuntu:24.04".into(),
            volumes: vec!["/a \"b\":/b".into()],
            helper_image: Some("mirror.example/helper:v1".into()),
        };
        let (_, config) = started(Some(&docker), true);
        assert!(config.contains("image = \"ubuntu:24.04\""), "{config}");
        assert!(
            config.contains(r#"volumes = ["/a \"b\":/b", "/cache"]"#),
            "{config}"
        );
        assert!(config.contains("gpus = \"all\""), "{config}");
        assert!(
            config.contains("helper_image = \"mirror.example/helper:v1\""),
            "{config}"
        );
        // Without the toolkit, Docker would refuse every container.
        let (_, config) = started(Some(&docker), false);
        assert!(!config.contains("gpus"), "{config}");
    }

    #[test]
    fn a_checksum_is_found_by_its_file() {
        let sum = "A".repeat(64);
        let sums = format!("{sum} *binaries/gitlab-runner-linux-arm64\nshort x\n");
        assert_eq!(
            checksum(&sums, "gitlab-runner-linux-arm64"),
            Some("a".repeat(64))
        );
        assert_eq!(checksum(&sums, "gitlab-runner-linux-amd64"), None);
    }

    #[test]
    fn a_provided_program_must_hide_its_token() {
        let said = |version: &str| format!("Version:      {version}\nGit revision: abcdef\n");
        assert!(accepts(&said("18.5.0"), None));
        assert!(accepts(&said("18.5.0"), Some("v18.5.0")));
        assert!(!accepts(&said("18.5.1"), Some("18.5.0")));
        assert!(!accepts(&said("16.11.0"), None));
        assert!(!accepts(&said("development version"), None));
        assert!(!accepts("18.5.0\n", None));
    }

    #[test]
    fn versions_are_compared_by_number() {
        assert_eq!(numbers("18.10.2-ee"), Some((18, 10)));
        assert!(numbers("17.0.0").unwrap() < OLDEST);
        assert_eq!(numbers("next"), None);
    }
}
