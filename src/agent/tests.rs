//! What takes 35 days with a real forge: the supervisor on paused time, with a program that
//! prints what it is told to.

use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;

use async_trait::async_trait;

use super::*;
use crate::forge::{
    Command, Enrolment, Findings, JobRef, LogEvent, Provided, Question, Registration, Runner,
    Start, Surroundings,
};
use crate::spec::ForgeSpec;

/// A forge that notes what it is asked for.
#[derive(Default)]
struct Notes {
    asked: Mutex<Vec<String>>,
    /// How often it says that the runner is busy.
    busy: Mutex<usize>,
}

#[async_trait]
impl Forge for Notes {
    async fn look(&self, _: &Question<'_>) -> Result<Findings> {
        unreachable!("an agent doesn't look")
    }

    async fn register(&self, _: &Enrolment<'_>) -> Result<Registration> {
        unreachable!("an agent doesn't register")
    }

    async fn find(&self, _: Option<u64>, _: &str) -> Result<Option<Runner>> {
        Ok(None)
    }

    async fn unregister(&self, id: u64) -> Result<Unregistered> {
        let mut busy = self.busy.lock().unwrap();
        self.asked.lock().unwrap().push(format!("unregister {id}"));
        if *busy > 0 {
            *busy -= 1;
            return Ok(Unregistered::Busy);
        }
        Ok(Unregistered::Done)
    }

    async fn resign(&self, _: &Registration) -> Option<Result<()>> {
        None
    }

    async fn rerun(
        &self,
        runner: &str,
        job: &JobRef,
        again: bool,
        _: Duration,
    ) -> Result<Option<u64>> {
        assert!(!again, "nothing was begun before");
        let job = job.name.clone().unwrap_or_default();
        self.asked
            .lock()
            .unwrap()
            .push(format!("rerun {job} of {runner}"));
        Ok(Some(1))
    }

    fn provided(&self) -> Provided {
        Provided {
            program: "bin/listener",
            beside: &["run.sh"],
            folders: &["~", "/opt/runner"],
            keeps_files: true,
            any_version: true,
        }
    }

    fn accepts(&self, said: &str, version: Option<&str>) -> bool {
        version.is_none_or(|version| said.trim() == version)
    }

    fn start(&self, _: &Enrolment<'_>, _: &Registration, _: &Surroundings<'_>) -> Start {
        Start {
            files: Vec::new(),
            setup: None,
            run: Command {
                program: "run.sh".into(),
                args: Vec::new(),
                env: Vec::new(),
            },
        }
    }

    fn registered_id(&self, _: &Path) -> Option<u64> {
        Some(3)
    }

    fn read_log(&self, line: &str) -> Option<LogEvent> {
        match line {
            "ready" => Some(LogEvent::Ready),
            "started" => Some(LogEvent::Started {
                job: JobRef {
                    name: Some("train".into()),
                    ..JobRef::default()
                },
            }),
            "idle" => Some(LogEvent::Idle),
            "refused" => Some(LogEvent::Refused),
            "ended" => Some(LogEvent::Ended { success: true }),
            _ => None,
        }
    }

    fn job_hook(&self, _: &str) -> Option<(&'static str, String)> {
        None
    }

    fn read_job(&self, _: &str) -> JobRef {
        JobRef::default()
    }

    fn job_limit(&self) -> Option<Duration> {
        Some(Duration::from_secs(35 * 24 * 3600))
    }
}

/// An agent ends whatever its process has started: one at a time, and never beside a test that has
/// started a program of its own, which holds this to read.
pub(crate) static CHILDREN: tokio::sync::RwLock<()> = tokio::sync::RwLock::const_new(());

/// Runs a program that does this, to the runner's end; the answer is how it ended, what the forge
/// was asked for, and how long it took on the paused clock from the moment when it was ready.
async fn life(
    script: &str,
    idle: Option<u64>,
    single: bool,
    busy: usize,
) -> (Result<()>, Vec<String>, Duration) {
    let _alone = CHILDREN.write().await;
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("runner");
    std::fs::create_dir(&program).unwrap();
    std::fs::write(program.join("run.sh"), format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(
        program.join("run.sh"),
        std::fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    let host = Host::fixed([("PATH", "/usr/bin:/bin")]);
    let forge = Arc::new(Notes::default());
    *forge.busy.lock().unwrap() = busy;
    let place = Place::Local {
        folder: folder.path().to_owned(),
    };
    let config = AgentConfig {
        name: "n".into(),
        labels: vec!["l".into()],
        idle_seconds: idle,
        single,
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
        programs: crate::forge::Programs::new(),
        notices: None,
        give_back: crate::cloud::GiveBack::PowerOff,
        place: place.clone(),
    };
    let layout = Layout::new(&place, crate::spec::Driver::Github, &host).unwrap();
    let agent = Agent {
        kept: Kept::open(&layout.state),
        reporter: Reporter::new(Printer::default(), host.clone(), "r", "n"),
        layout,
        config,
        forge: forge.clone(),
        http: Http::new(&host).unwrap(),
        host,
    };
    let mut ready = Instant::now();
    let mut on_ready = || {
        ready = Instant::now();
        Ok(())
    };
    let outcome = agent
        .run(Signals::listen().unwrap(), None, &mut on_ready)
        .await;
    let asked = forge.asked.lock().unwrap().clone();
    (outcome, asked, ready.elapsed())
}

// A real child and a paused clock: while everything waits, time jumps from timer to timer, also
// while the child starts; so all is measured from its first line on.
#[tokio::test(start_paused = true)]
async fn a_job_near_the_forge_s_limit_is_run_again_five_minutes_before_it() {
    let (outcome, asked, took) = life(
        "echo ready; echo started; exec sleep 600",
        Some(300),
        false,
        0,
    )
    .await;
    outcome.unwrap();
    assert_eq!(asked, ["rerun train of n", "unregister 3"]);
    let limit = Duration::from_secs(35 * 24 * 3600 - 300);
    assert!(
        took >= limit && took < limit + Duration::from_secs(120),
        "{took:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_busy_answer_starts_the_idle_count_anew() {
    let (outcome, asked, took) = life("echo ready; exec sleep 600", Some(300), false, 2).await;
    outcome.unwrap();
    assert_eq!(asked[..3], ["unregister 3", "unregister 3", "unregister 3"]);
    assert!(!asked.iter().any(|asked| asked.starts_with("rerun")));
    assert!(took >= Duration::from_secs(900), "{took:?}");
}

#[tokio::test]
async fn a_single_runner_ends_with_its_program_after_one_job() {
    let (outcome, asked, _) =
        life("echo ready; echo started; echo ended", Some(300), true, 0).await;
    outcome.unwrap();
    assert_eq!(asked, ["unregister 3"]);
}

#[tokio::test]
async fn an_end_that_is_told_twice_is_one() {
    let (outcome, asked, _) = life(
        "echo ready; echo ended; echo started; echo ended; echo ended; sleep 1; exit 3",
        Some(300),
        false,
        0,
    )
    .await;
    // Neither counts as work under way.
    assert!(outcome.unwrap_err().chain().contains("exit status: 3"));
    assert_eq!(asked, ["unregister 3"]);
}

#[tokio::test]
async fn a_program_that_crashes_in_a_job_has_it_run_again() {
    let (outcome, asked, _) = life("echo ready; echo started; exit 9", Some(300), true, 0).await;
    let error = outcome.unwrap_err();
    assert!(
        error.chain().contains("exit status: 9"),
        "{}",
        error.chain()
    );
    assert_eq!(asked, ["rerun train of n", "unregister 3"]);
}

#[tokio::test]
async fn a_program_that_counts_by_itself_ends_when_it_says_so() {
    // Its last job was cancelled before it began, and is not run again.
    let (outcome, asked, _) = life(
        "echo ready; echo started; sleep 1; echo idle",
        Some(300),
        false,
        0,
    )
    .await;
    outcome.unwrap();
    assert_eq!(asked, ["unregister 3"]);
}

#[tokio::test]
async fn a_runner_that_the_forge_refuses_again_and_again_ends() {
    let (outcome, asked, _) = life(
        "echo ready; echo refused; sleep 1; echo refused; exec sleep 600",
        None,
        false,
        0,
    )
    .await;
    outcome.unwrap();
    assert_eq!(asked, ["unregister 3"]);
}

#[tokio::test]
async fn a_program_that_never_gets_ready_is_told_with_its_last_words() {
    let (outcome, asked, _) = life("echo bad configuration >&2; exit 1", Some(300), false, 0).await;
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), Kind::NotReady);
    assert!(
        error.chain().contains("bad configuration"),
        "{}",
        error.chain()
    );
    assert_eq!(asked, ["unregister 3"]);
}
