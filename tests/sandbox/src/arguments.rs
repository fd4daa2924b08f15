//! The program's own options, and the real binary's arguments behind them.

use std::path::PathBuf;
use std::time::Duration;

use sandbox::FaultKind;

use crate::bench::Cloud;

pub(crate) const HELP: &str = "\
Runs runner-launch against fakes of the clouds and forges, and shows everything.

Usage: sandbox [OPTIONS] launch [OPTIONS OF runner-launch launch]
       sandbox bench [OPTIONS OF bench]

Options:
      --latency-ms N       what every call takes [default: 40]
      --fault CALL=KIND    lets such calls go wrong; may be repeated. CALL is a name as the timeline
                           shows it (`ec2:RunInstances`), `*` for anything, `#2` behind it for the
                           second one alone. KIND is an HTTP status, denied, throttled, capacity,
                           timeout-before, timeout-after, cut-before, cut-after or slow-500ms
      --no-job             queue no job for the new runner
      --keep               leave the folder with all instances' files behind
      --help               this text

Options of bench, which measures the speed and the size of runner-launch and prints ratios:
      --cloud NAME         measure launches on aws, gcp, azure or kubernetes [default: aws]
      --runs N             how often everything is measured [default: 10]
      --debug              measure a debug build instead of a release build
      --program FILE       measure this binary, such as a released one, and build none

Examples:
  sandbox launch --cloud=aws --labels=gpu --single
  sandbox --fault 'ec2:RunInstances#1=capacity' launch --cloud=aws --single
  sandbox launch --cloud=gcp --labels=gpu --single
  sandbox launch --cloud=azure --labels=gpu --single
  sandbox launch --cloud=kubernetes --labels=gpu --single
  sandbox --fault 'create secrets=403' launch --cloud=kubernetes --labels=gpu --single
  sandbox launch --labels=here --single
  sandbox launch --driver=gitlab --cloud=aws --labels=gpu --single
  sandbox bench
  sandbox bench --cloud=gcp --runs=3
";

/// What this program is asked to do.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Asked {
    /// Print the help.
    Help,
    /// Show a launch.
    Launch(Arguments),
    /// Measure.
    Bench(Bench),
}

impl Asked {
    pub(crate) fn read(args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut args = args.peekable();
        match args.next_if(|arg| arg == "bench") {
            Some(_) => Ok(Bench::read(args)?.map_or(Asked::Help, Asked::Bench)),
            None => Ok(Arguments::read(args)?.map_or(Asked::Help, Asked::Launch)),
        }
    }
}

/// How to measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bench {
    /// On which cloud.
    pub(crate) cloud: Cloud,
    /// How often.
    pub(crate) runs: usize,
    /// Whether a debug build is measured.
    pub(crate) debug: bool,
    /// The binary to measure instead of one that is built first.
    pub(crate) program: Option<PathBuf>,
}

impl Bench {
    /// `None`: only help is wanted.
    fn read(mut args: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut read = Bench {
            cloud: Cloud::Aws,
            runs: 10,
            debug: false,
            program: None,
        };
        while let Some(arg) = args.next() {
            let (name, value) = match arg.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (arg.as_str(), None),
            };
            let mut value = || {
                let value = value.clone().or_else(|| args.next());
                value.ok_or_else(|| format!("{name} wants a value"))
            };
            match name {
                "--cloud" => {
                    let text = value()?;
                    read.cloud = Cloud::parse(&text)
                        .ok_or_else(|| format!("--cloud: `{text}` is not measured here"))?;
                }
                "--program" => read.program = Some(value()?.into()),
                "--runs" => {
                    let text = value()?;
                    let number = text.parse().ok().filter(|number| *number > 0);
                    read.runs =
                        number.ok_or_else(|| format!("--runs: `{text}` is no positive number"))?;
                }
                "--debug" => read.debug = true,
                "--help" | "-h" => return Ok(None),
                _ => return Err(format!("bench: {arg}: no such option; see --help")),
            }
        }
        Ok(Some(read))
    }
}

/// The command line.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Arguments {
    pub(crate) latency: Duration,
    /// Call, which one, what.
    pub(crate) faults: Vec<(String, Option<usize>, FaultKind)>,
    pub(crate) job: bool,
    pub(crate) keep: bool,
    /// What the real binary gets.
    pub(crate) program: Vec<String>,
}

impl Arguments {
    /// `None`: only help is wanted.
    pub(crate) fn read(args: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut args = args.peekable();
        let mut read = Arguments {
            latency: Duration::from_millis(40),
            faults: Vec::new(),
            job: true,
            keep: false,
            program: Vec::new(),
        };
        while let Some(arg) = args.next_if(|arg| arg.starts_with('-')) {
            let (name, value) = match arg.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (arg.as_str(), None),
            };
            let mut value = || {
                let value = value.clone().or_else(|| args.next());
                value.ok_or_else(|| format!("{name} wants a value"))
            };
            match name {
                "--latency-ms" => {
                    let text = value()?;
                    let milliseconds = text
                        .parse()
                        .map_err(|_| format!("--latency-ms: `{text}` is no number"))?;
                    read.latency = Duration::from_millis(milliseconds);
                }
                "--fault" => read.faults.push(fault(&value()?)?),
                "--no-job" => read.job = false,
                "--keep" => read.keep = true,
                "--help" | "-h" => return Ok(None),
                _ => return Err(format!("{name}: no such option; see --help")),
            }
        }
        read.program = args.collect();
        match read.program.is_empty() {
            true => {
                Err("what to run? For example: launch --cloud=aws --labels=gpu --single".into())
            }
            false => Ok(Some(read)),
        }
    }
}

fn fault(text: &str) -> Result<(String, Option<usize>, FaultKind), String> {
    let complaint = || format!("--fault: `{text}` is not CALL=KIND; see --help");
    let (call, kind) = text.rsplit_once('=').ok_or_else(complaint)?;
    let kind = FaultKind::parse(kind).ok_or_else(complaint)?;
    let (call, nth) = match call.rsplit_once('#') {
        Some((call, nth)) => (call, Some(nth.parse().map_err(|_| complaint())?)),
        None => (call, None),
    };
    Ok((call.into(), nth, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &[&str]) -> Result<Option<Arguments>, String> {
        Arguments::read(args.iter().map(|arg| (*arg).to_owned()))
    }

    #[test]
    fn own_options_come_first() {
        let args = read(&[
            "--latency-ms=5",
            "--fault",
            "ec2:RunInstances#2=capacity",
            "--no-job",
            "launch",
            "--keep",
        ]);
        let args = args.unwrap().unwrap();
        assert_eq!(args.latency, Duration::from_millis(5));
        assert_eq!(
            args.faults,
            [("ec2:RunInstances".into(), Some(2), FaultKind::Capacity)]
        );
        assert!(!args.job && !args.keep);
        assert_eq!(args.program, ["launch", "--keep"]);
    }

    #[test]
    fn mistakes_are_told() {
        for args in [
            vec![],
            vec!["--latency-ms", "x", "launch"],
            vec!["--fault", "ec2:RunInstances", "launch"],
            vec!["--fault", "ec2:RunInstances=slowly", "launch"],
            vec!["--wat", "launch"],
        ] {
            assert!(read(&args).is_err(), "{args:?}");
        }
        assert_eq!(read(&["--help"]), Ok(None));
    }

    #[test]
    fn a_benchmark_is_asked_for_by_its_name() {
        let asked = |args: &[&str]| Asked::read(args.iter().map(|arg| (*arg).to_owned()));
        let bench = |runs, debug| {
            Ok(Asked::Bench(Bench {
                cloud: Cloud::Aws,
                runs,
                debug,
                program: None,
            }))
        };
        assert_eq!(asked(&["bench"]), bench(10, false));
        assert_eq!(asked(&["bench", "--runs", "3", "--debug"]), bench(3, true));
        assert_eq!(asked(&["bench", "--runs=1"]), bench(1, false));
        let Ok(Asked::Bench(given)) = asked(&["bench", "--program", "dist/x"]) else {
            panic!("a benchmark");
        };
        assert_eq!(given.program, Some(PathBuf::from("dist/x")));
        let Ok(Asked::Bench(given)) = asked(&["bench", "--cloud=gcp"]) else {
            panic!("a benchmark");
        };
        assert_eq!(given.cloud, Cloud::Gcp);
        assert_eq!(asked(&["bench", "--help"]), Ok(Asked::Help));
        for args in [
            ["--runs=0"],
            ["--runs=x"],
            ["--runs"],
            ["--cloud=x"],
            ["launch"],
        ] {
            assert!(
                asked(&[&["bench"], &args[..]].concat()).is_err(),
                "{args:?}"
            );
        }
        assert!(matches!(asked(&["launch", "bench"]), Ok(Asked::Launch(_))));
        assert_eq!(asked(&["-h"]), Ok(Asked::Help));
    }
}
