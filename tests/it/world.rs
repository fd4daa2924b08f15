//! A sandbox, the program beside it, and the checks that every test ends with: nothing is left,
//! and no secret was seen anywhere.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use sandbox::{AzureInstanceView, Caller, Config, GceInstanceView, InstanceView, PodView, Sandbox};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

/// How long a test waits for what must happen; far more than it takes, for slow machines.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// The program under test.
pub(crate) fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_runner-launch"))
}

/// A sandbox and what was seen of the programs run against it.
pub(crate) struct World {
    pub(crate) sandbox: Sandbox,
    env: Vec<(String, String)>,
    seen: std::sync::Mutex<Vec<(String, String)>>,
    folder: tempfile::TempDir,
}

/// A program that has ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A program under way.
pub(crate) struct Running {
    child: Child,
    output: tokio::task::JoinHandle<(String, String)>,
}

impl World {
    /// A sandbox with its defaults.
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// A sandbox with other settings.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::of(change, Sandbox::env).await
    }

    /// A sandbox whose programs are about GitLab.
    pub(crate) async fn gitlab() -> Self {
        Self::gitlab_with(|_| {}).await
    }

    /// The same with other settings.
    pub(crate) async fn gitlab_with(change: impl FnOnce(&mut Config)) -> Self {
        Self::of(change, Sandbox::gitlab_env).await
    }

    async fn of(
        change: impl FnOnce(&mut Config),
        env: impl FnOnce(&Sandbox) -> Vec<(String, String)>,
    ) -> Self {
        let mut config = Config::new(program());
        change(&mut config);
        let sandbox = Sandbox::start(config).await.unwrap();
        let mut env = env(&sandbox);
        env.push(("PATH".into(), std::env::var("PATH").unwrap()));
        // Sandboxes answer at once or never.
        env.push(("RUNNER_LAUNCH_HTTP_TIMEOUT".into(), "2".into()));
        Self {
            sandbox,
            env,
            seen: std::sync::Mutex::default(),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// Sets a variable for the programs to come; `None` takes it away.
    pub(crate) fn set(&mut self, name: &str, value: Option<&str>) {
        self.env.retain(|(known, _)| known != name);
        if let Some(value) = value {
            self.env.push((name.into(), value.into()));
        }
    }

    /// Makes the programs to come believe that they are a GitHub Actions step.
    pub(crate) fn in_github_actions(&mut self) -> (PathBuf, PathBuf) {
        let (output, summary) = (
            self.folder.path().join("output"),
            self.folder.path().join("summary"),
        );
        self.set("GITHUB_ACTIONS", Some("true"));
        self.set("GITHUB_OUTPUT", output.to_str());
        self.set("GITHUB_STEP_SUMMARY", summary.to_str());
        (output, summary)
    }

    /// Makes the programs to come believe that they are in a job of GitLab CI; the answer is the
    /// file of their outputs.
    pub(crate) fn in_gitlab_ci(&mut self) -> PathBuf {
        for (name, value) in self.sandbox.gitlab().job_env() {
            self.set(&name, Some(&value));
        }
        let folder = self.folder.path().to_owned();
        self.set("CI_PROJECT_DIR", folder.to_str());
        folder.join("runner-launch.env")
    }

    /// A folder for the test's own files.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts the program.
    pub(crate) fn spawn(&self, args: &[&str]) -> Running {
        let mut command = Command::new(program());
        command.args(args);
        self.spawn_command(command)
    }

    /// Starts the program as a step of a workflow does, below a shell.
    pub(crate) fn spawn_in_shell(&self, args: &[&str]) -> Running {
        let mut command = Command::new("sh");
        command
            .args(["-e", "-c", "\"$@\"; echo done", "sh"])
            .arg(program())
            .args(args);
        self.spawn_command(command)
    }

    /// Starts another program in the same surroundings.
    pub(crate) fn spawn_command(&self, mut command: Command) -> Running {
        let mut child = command
            .env_clear()
            .envs(self.env.iter().cloned())
            .env("PWD", self.folder.path())
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let output = tokio::spawn(async move {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let (a, b) = tokio::join!(stdout.read_to_end(&mut out), stderr.read_to_end(&mut err));
            a.and(b).unwrap();
            (
                String::from_utf8_lossy(&out).into_owned(),
                String::from_utf8_lossy(&err).into_owned(),
            )
        });
        Running { child, output }
    }

    /// Waits for a program's end.
    pub(crate) async fn done(&self, running: Running) -> Done {
        let Running { mut child, output } = running;
        let status = tokio::time::timeout(SOON * 3, child.wait())
            .await
            .expect("the program ends")
            .unwrap();
        let (stdout, stderr) = output.await.unwrap();
        let mut seen = self.seen.lock().unwrap();
        seen.push(("standard output".into(), without_masks(&stdout)));
        seen.push(("standard error".into(), stderr.clone()));
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        Done {
            code: status.code().unwrap_or_else(|| -signal.unwrap_or_default()),
            stdout,
            stderr,
        }
    }

    /// Runs the program with these arguments to its end.
    pub(crate) async fn run(&self, args: &[&str]) -> Done {
        self.done(self.spawn(args)).await
    }

    /// Runs `launch` on AWS with these further arguments.
    pub(crate) async fn launch(&self, args: &[&str]) -> Done {
        self.run(&[&["launch", "--cloud=aws"], args].concat()).await
    }

    /// Waits until something is the case.
    pub(crate) async fn until(&self, what: &str, case: impl Fn() -> bool) {
        let started = Instant::now();
        while !case() {
            assert!(started.elapsed() < SOON, "never: {what}\n{}", self.report());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Runs `launch` on Google Cloud with these further arguments.
    pub(crate) async fn launch_gcp(&self, args: &[&str]) -> Done {
        self.run(&[&["launch", "--cloud=gcp"], args].concat()).await
    }

    /// The one live instance on Google Cloud, running or stopped.
    pub(crate) fn gce_instance(&self) -> GceInstanceView {
        let live = self.sandbox.gce().live();
        assert_eq!(live.len(), 1, "{}", self.report());
        live.into_iter().next().unwrap()
    }

    /// Runs `launch` on Azure with these further arguments.
    pub(crate) async fn launch_azure(&self, args: &[&str]) -> Done {
        self.run(&[&["launch", "--cloud=azure"], args].concat())
            .await
    }

    /// The one live machine on Azure, running or stopped.
    pub(crate) fn azure_instance(&self) -> AzureInstanceView {
        let live = self.sandbox.azure().live();
        assert_eq!(live.len(), 1, "{}", self.report());
        live.into_iter().next().unwrap()
    }

    /// Runs `launch` on Kubernetes with these further arguments.
    pub(crate) async fn launch_kubernetes(&self, args: &[&str]) -> Done {
        self.run(&[&["launch", "--cloud=kubernetes"], args].concat())
            .await
    }

    /// The one pod that there is.
    pub(crate) fn pod(&self) -> PodView {
        let live = self.sandbox.kubernetes().live();
        assert_eq!(live.len(), 1, "{}", self.report());
        live.into_iter().next().unwrap()
    }

    /// The one live instance.
    pub(crate) fn instance(&self) -> InstanceView {
        let live = self.sandbox.ec2().live();
        assert_eq!(live.len(), 1, "{}", self.report());
        live.into_iter().next().unwrap()
    }

    /// Waits until an instance runs.
    pub(crate) async fn until_running(&self) {
        self.until("an instance runs", || {
            let live = self.live();
            live.iter()
                .any(|(_, state)| matches!(state.as_str(), "running" | "RUNNING" | "Running"))
        })
        .await;
    }

    /// Every instance that isn't gone, of all clouds: its id, and its state in its cloud's words.
    pub(crate) fn live(&self) -> Vec<(String, String)> {
        let mut live: Vec<(String, String)> = Vec::new();
        live.extend(
            self.sandbox
                .ec2()
                .live()
                .into_iter()
                .map(|i| (i.id, i.state)),
        );
        live.extend(
            self.sandbox
                .gce()
                .live()
                .into_iter()
                .map(|i| (i.name, i.status)),
        );
        live.extend(
            self.sandbox
                .azure()
                .live()
                .into_iter()
                .map(|i| (i.name, i.state)),
        );
        live.extend(self.sandbox.kubernetes().live().into_iter().map(|pod| {
            let state = match pod.terminating {
                true => "Terminating".to_owned(),
                false => pod.phase,
            };
            (pod.name, state)
        }));
        live
    }

    /// Whether nothing lives that isn't on its way out.
    pub(crate) fn all_end(&self) -> bool {
        self.live().iter().all(|(_, state)| {
            matches!(
                state.as_str(),
                "shutting-down" | "STOPPING" | "deleting" | "Terminating"
            )
        })
    }

    /// Every instance that there ever was, of all clouds: its id, its last state, and its console.
    pub(crate) fn made(&self) -> Vec<(String, String, String)> {
        let (ec2, gce) = (self.sandbox.ec2(), self.sandbox.gce());
        let mut made: Vec<(String, String, String)> = Vec::new();
        for instance in ec2.instances() {
            let console = ec2.console(&instance.id);
            made.push((instance.id, instance.state, console));
        }
        for instance in gce.instances() {
            let console = gce.console(&instance.name);
            made.push((instance.name, instance.status, console));
        }
        let azure = self.sandbox.azure();
        for instance in azure.instances() {
            let console = azure.console(&instance.name);
            made.push((instance.name, instance.state, console));
        }
        for pod in self.sandbox.kubernetes().pods() {
            made.push((pod.name, pod.phase, pod.log));
        }
        made
    }

    /// Whether no instance lives and no runner is registered.
    pub(crate) fn is_clean(&self) -> bool {
        // On Azure a group outlives its machine for a moment.
        let groups = self.sandbox.azure().groups();
        let kubernetes = self.sandbox.kubernetes();
        self.live().is_empty()
            && !kubernetes.jobs().iter().any(|job| job.exists)
            && kubernetes.secrets().is_empty()
            && !groups
                .iter()
                .any(|group| group.tags.contains_key("runner-launch"))
            && self.sandbox.github().runners().is_empty()
            && self.sandbox.gitlab().runners().is_empty()
    }

    /// Waits until no instance lives and no runner is registered.
    pub(crate) async fn until_clean(&self) {
        self.until("no instance and no runner", || self.is_clean())
            .await;
    }

    /// The names of the calls that the launcher made, in order.
    pub(crate) fn host_calls(&self) -> Vec<String> {
        let calls = self.sandbox.calls();
        calls
            .into_iter()
            .filter(|call| call.peer == Caller::Host)
            .map(|call| call.name)
            .collect()
    }

    /// What happened, for a failed test.
    pub(crate) fn report(&self) -> String {
        let mut text = String::new();
        for call in self.sandbox.calls() {
            text.push_str(&format!(
                "{:?} {} {:?} {:?} {:?}\n",
                call.peer, call.name, call.status, call.code, call.fault
            ));
        }
        for (id, state, console) in self.made() {
            text.push_str(&format!("--- {id} {state}\n{console}\n"));
        }
        text.push_str(&format!("runners: {:?}\n", self.sandbox.github().runners()));
        let gitlab = self.sandbox.gitlab();
        text.push_str(&format!("at GitLab: {:?}\n", gitlab.runners()));
        text.push_str(&format!("pipelines: {:?}\n", gitlab.pipelines()));
        for (what, seen) in self.seen.lock().unwrap().iter() {
            text.push_str(&format!("--- {what}\n{seen}\n"));
        }
        text
    }

    /// The end of every test: all is gone, and no secret was seen.
    pub(crate) async fn finish(self) {
        self.until_clean().await;
        self.scan();
        let report = self.report();
        let leaks = self.sandbox.shutdown().await;
        assert!(leaks.is_empty(), "{leaks:?}\n{report}");
    }

    /// No secret in any output, console, argument list, or job.
    fn scan(&self) {
        let mut places = self.seen.lock().unwrap().clone();
        for (id, _, console) in self.made() {
            places.push((format!("console of {id}"), console));
        }
        for arguments in self.sandbox.argument_lists() {
            places.push(("an argument list".into(), arguments));
        }
        for run in self.sandbox.github().runs() {
            for job in run.jobs {
                places.push((
                    format!("environment of job {}", job.name),
                    job.environment.join("\n"),
                ));
                places.push((format!("output of job {}", job.name), job.output.join("\n")));
            }
        }
        for pipeline in self.sandbox.gitlab().pipelines() {
            for job in pipeline.jobs {
                places.push((
                    format!("environment of job {}", job.name),
                    job.environment.join("\n"),
                ));
                places.push((format!("output of job {}", job.name), job.output.join("\n")));
            }
        }
        for secret in self.sandbox.secrets() {
            for (place, text) in &places {
                assert!(
                    !text.contains(&secret),
                    "a secret ({}…) is in the {place}:\n{text}",
                    &secret[..6]
                );
            }
        }
    }
}

impl Running {
    /// Sends a signal.
    pub(crate) fn signal(&self, number: i32) {
        let pid = self.child.id().expect("it runs");
        let done = std::process::Command::new("kill")
            .args([format!("-{number}"), pid.to_string()])
            .status()
            .unwrap();
        assert!(done.success());
    }
}

/// The commands that hide a secret from a pipeline's log must hold it; the pipeline eats them.
fn without_masks(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with("::add-mask::"))
        .collect();
    lines.join("\n")
}
