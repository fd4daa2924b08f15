//! Work for runners, whatever cloud they are on, and what becomes of it.

use std::path::Path;
use std::time::Duration;

use sandbox::{JobScript, RunView};

use crate::world::World;

impl World {
    /// Gives the runner with the label `work` a job that would take an hour, and waits until its
    /// agent knows of it; the answer is the run. `disk` is the root of the runner's machine, and
    /// `printed` what its console shows.
    pub(crate) async fn an_hour_of_work(&self, disk: &Path, printed: impl Fn() -> String) -> u64 {
        let job = JobScript::Sleep(Duration::from_secs(3600));
        let github = self.sandbox.github();
        let run = github.queue_run("octo/repo", "train", &["work"], job);
        // Until the forge says it, the program has printed it, and the hook has noted it.
        let note = disk.join("var/lib/runner-launch/job/note");
        self.until("the agent knows of the job", || {
            let noted = std::fs::read_to_string(&note).unwrap_or_default();
            noted.ends_with('\n')
                && printed().contains("job_started")
                && github.run(run).unwrap().jobs[0].status == "in_progress"
        })
        .await;
        run
    }

    /// Waits until a run was started a second time and nothing of its first runner is left.
    pub(crate) async fn until_run_again(&self, run: u64) {
        let github = self.sandbox.github();
        self.until("the run is run again", || {
            github.run(run).unwrap().attempt == 2
        })
        .await;
        self.until_clean().await;
    }

    /// Waits until a run is over.
    pub(crate) async fn until_completed(&self, run: u64) {
        let github = self.sandbox.github();
        self.until("the run is over", || {
            github.run(run).unwrap().status == "completed"
        })
        .await;
    }

    /// A run, which has done what it was to do.
    pub(crate) fn succeeded(&self, run: u64) -> RunView {
        let run = self.sandbox.github().run(run).unwrap();
        let conclusion = run.conclusion.as_deref();
        assert_eq!(conclusion, Some("success"), "{}", self.report());
        run
    }
}
