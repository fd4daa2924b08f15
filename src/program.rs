//! The program from its arguments to its exit code.

use std::ffi::OsString;
use std::panic;

use tokio::runtime::Builder;
use tracing::level_filters::LevelFilter;

use crate::agent;
use crate::cli::{self, AgentTask, Task};
use crate::error::{Error, Result};
use crate::fleet;
use crate::host::Host;
use crate::http::{self, Http};
use crate::launch;
use crate::pipeline::{Pipeline, Printer};

/// Runs the program; the answer is its exit code.
pub fn run(args: impl IntoIterator<Item = OsString>) -> u8 {
    http::install_tls_provider();
    let host = Host::system();
    let printer = Printer::default();
    let pipeline = Pipeline::new(&host, printer.clone());
    print_panics(printer.clone());
    let outcome = args
        .into_iter()
        .map(|arg| {
            arg.into_string()
                .map_err(|_| Error::usage("an argument isn't valid UTF-8"))
        })
        .collect::<Result<Vec<String>>>()
        .and_then(|args| cli::read(args, &host))
        .and_then(|task| perform(task, &host, &printer, &pipeline));
    match outcome {
        Ok(()) => 0,
        Err(error) => {
            pipeline.error(&error);
            error.kind().exit_code()
        }
    }
}

fn perform(task: Task, host: &Host, printer: &Printer, pipeline: &Pipeline) -> Result<()> {
    match task {
        Task::Print(text) => {
            printer.data(text.trim_end());
            Ok(())
        }
        Task::Completions(shell) => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut cli::command(), "runner-launch", &mut script);
            printer.data(String::from_utf8_lossy(&script).trim_end());
            Ok(())
        }
        Task::Launch(task) => {
            printer.install(task.log);
            pipeline.forget_outputs()?;
            block_on(async {
                let http = Http::new(host)?;
                launch::launch(&task, host, &http, pipeline).await
            })
        }
        Task::Fleet(task) => {
            printer.install(task.log);
            block_on(async {
                let http = Http::new(host)?;
                fleet::run(&task, host, &http, pipeline).await
            })
        }
        Task::Agent(task) => {
            printer.install(LevelFilter::INFO);
            block_on(async {
                let http = || Http::new(host);
                match task {
                    AgentTask::Prepare(config) => {
                        agent::prepare(&config, host, &http()?, printer).await
                    }
                    AgentTask::Run(config) => agent::run(&config, host, &http()?, printer).await,
                    AgentTask::Release(config) => agent::release(&config, host, printer).await,
                }
            })
        }
    }
}

/// One thread is enough to wait on sockets, and leaves the machine to its jobs.
fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::other("starting the runtime").caused_by(error))?;
    let outcome = runtime.block_on(future);
    // A blocking read (of a file, of a name server) must not hold up the end.
    runtime.shutdown_background();
    outcome
}

/// A panic's message goes through the printer, too: it may hold what must not be seen.
fn print_panics(printer: Printer) {
    panic::set_hook(Box::new(move |info| {
        printer.note(&format!(
            "error: internal failure, please report it: {info}"
        ));
    }));
}
