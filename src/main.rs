//! Arguments to command to exit code; nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(runner_launch::run(std::env::args_os()))
}
