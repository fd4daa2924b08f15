//! The forge that a show is about.

use sandbox::{GitHub, GitLab, JobScript, Sandbox};

/// The job that is queued for the new runner; its first line says where it is.
const JOB: &str = r#"
echo "user $(id -un 2>/dev/null || id -u), folder $PWD"
sleep 1
echo "Bye"
"#;
const ON_GITHUB: &str =
    "echo \"Hello from $RUNNER_NAME: run $GITHUB_RUN_ID of $GITHUB_REPOSITORY\"";
const ON_GITLAB: &str =
    "echo \"Hello from $CI_RUNNER_DESCRIPTION: pipeline $CI_PIPELINE_ID of $CI_PROJECT_PATH\"";

/// A forge's fake.
#[derive(Debug)]
pub(crate) enum Forge {
    GitHub(GitHub),
    GitLab(GitLab),
}

/// One try of a job, as the summary tells it.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) name: String,
    pub(crate) number: u64,
    pub(crate) is_latest: bool,
    pub(crate) succeeded: bool,
    /// Its status or how it ended.
    pub(crate) how: String,
    pub(crate) runner: Option<String>,
    pub(crate) why: Option<String>,
}

impl Forge {
    /// The one that the real binary's arguments are about.
    pub(crate) fn of(program: &[String], sandbox: &Sandbox) -> Self {
        match driver(program) {
            Some("gitlab") => Forge::GitLab(sandbox.gitlab()),
            _ => Forge::GitHub(sandbox.github()),
        }
    }

    /// The environment that points the real binary at the fakes.
    pub(crate) fn env(&self, sandbox: &Sandbox) -> Vec<(String, String)> {
        match self {
            Forge::GitHub(_) => sandbox.env(),
            Forge::GitLab(_) => sandbox.gitlab_env(),
        }
    }

    /// Queues a job that the newest runner can take; the answer is the labels that it asks for.
    pub(crate) fn queue(&self) -> Option<Vec<String>> {
        match self {
            Forge::GitHub(github) => {
                let runner = github.runners().pop()?;
                // The requested labels are those that not every runner has.
                let given = ["self-hosted", "Linux", "X64", "ARM64"];
                let labels = runner.labels.into_iter();
                let labels: Vec<String> = labels.filter(|l| !given.contains(&&**l)).collect();
                let wanted: Vec<&str> = labels.iter().map(String::as_str).collect();
                let repository = project(&runner.scope, !runner.scope.contains('/'));
                let script = JobScript::Shell(format!("{ON_GITHUB}{JOB}"));
                github.queue_run(&repository, "demo", &wanted, script);
                Some(labels)
            }
            Forge::GitLab(gitlab) => {
                let runner = gitlab.runners().pop()?;
                let wanted: Vec<&str> = runner.tags.iter().map(String::as_str).collect();
                let project = project(&runner.scope, runner.is_group);
                let script = JobScript::Shell(format!("{ON_GITLAB}{JOB}"));
                gitlab.queue_pipeline(&project, "demo", &wanted, script);
                Some(runner.tags)
            }
        }
    }

    /// All tries of all jobs, oldest first.
    pub(crate) fn attempts(&self) -> Vec<Attempt> {
        match self {
            Forge::GitHub(github) => {
                let runs = github.runs().into_iter();
                let tries = runs.flat_map(|run| {
                    let latest = run.attempt;
                    run.jobs.into_iter().map(move |job| (latest, job))
                });
                tries
                    .map(|(latest, job)| Attempt {
                        name: job.name,
                        number: job.attempt,
                        is_latest: job.attempt == latest,
                        succeeded: job.conclusion.as_deref() == Some("success"),
                        how: job.conclusion.unwrap_or(job.status),
                        runner: job.runner_name,
                        why: job.annotation,
                    })
                    .collect()
            }
            Forge::GitLab(gitlab) => {
                let pipelines = gitlab.pipelines().into_iter();
                let tries = pipelines.flat_map(|pipeline| {
                    let latest = pipeline.jobs.iter().map(|job| job.attempt).max();
                    pipeline.jobs.into_iter().map(move |job| (latest, job))
                });
                tries
                    .map(|(latest, job)| Attempt {
                        name: job.name,
                        number: job.attempt,
                        is_latest: Some(job.attempt) == latest,
                        succeeded: job.status == "success",
                        how: job.status,
                        runner: job.runner_name,
                        why: job.failure_reason,
                    })
                    .collect()
            }
        }
    }
}

/// The value of `--driver`.
fn driver(program: &[String]) -> Option<&str> {
    let mut words = program.iter().map(String::as_str);
    let mut driver = None;
    while let Some(word) = words.next() {
        driver = match word.strip_prefix("--driver") {
            Some("") => words.next(),
            Some(value) => value.strip_prefix('=').or(driver),
            None => driver,
        };
    }
    driver
}

/// A project that a runner of this scope serves.
fn project(scope: &str, is_group: bool) -> String {
    match is_group {
        true => format!("{scope}/repo"),
        false => scope.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::driver;

    #[test]
    fn the_driver_is_one_of_the_arguments() {
        for (program, expected) in [
            ("launch --single", None),
            ("launch --driver=gitlab --single", Some("gitlab")),
            ("launch --driver gitlab", Some("gitlab")),
            ("launch --driver-token=x --driver=github", Some("github")),
            ("launch --driver=gitlab --driver-token=x", Some("gitlab")),
        ] {
            let program: Vec<String> = program.split(' ').map(str::to_owned).collect();
            assert_eq!(driver(&program), expected, "{program:?}");
        }
    }
}
