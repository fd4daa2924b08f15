//! What is written for users is what the program does.

use std::fmt::Write as _;

use runner_launch::cli::options::{HEADINGS, OPTIONS};
use runner_launch::launch::report::OUTPUTS;

const README: &str = include_str!("../../README.md");

/// The README's table, made from the program's own definitions.
fn table() -> String {
    let mut text = String::new();
    for heading in HEADINGS {
        let _ = write!(
            text,
            "\n**{heading}**\n\n| option | what it does | default |\n|---|---|---|\n"
        );
        for opt in OPTIONS.iter().filter(|opt| opt.heading == heading) {
            let alias = opt
                .alias
                .map(|alias| format!(" (`--{alias}`)"))
                .unwrap_or_default();
            let help = opt.help.replace('|', "\\|");
            let _ = writeln!(
                text,
                "| `--{}`{alias} | {help} | {} |",
                opt.name,
                opt.default.unwrap_or("")
            );
        }
    }
    text
}

#[test]
fn the_readme_s_options_are_the_program_s() {
    let (_, rest) = README
        .split_once("<!-- options -->\n")
        .expect("the table's begin");
    let (found, _) = rest
        .split_once("<!-- /options -->")
        .expect("the table's end");
    assert_eq!(
        found.trim(),
        table().trim(),
        "put this into README.md:\n{}",
        table()
    );
}

#[test]
fn the_readme_names_every_output_and_exit_code() {
    for output in OUTPUTS {
        assert!(README.contains(&format!("| `{output}` |")), "{output}");
    }
    for code in ["2", "3", "4", "5", "6", "130"] {
        assert!(README.contains(&format!("| {code}")), "{code}");
    }
}

#[test]
fn the_specification_s_options_all_exist() {
    let spec = [
        "labels",
        "name",
        "idle-timeout",
        "no-retry",
        "single",
        "reuse",
        "reuse-idle",
        "cloud",
        "cloud-type",
        "cloud-gpu",
        "cloud-hdd-size",
        "cloud-spot",
        "cloud-spot-price",
        "cloud-region",
        "cloud-permission-set",
        "cloud-metadata",
        "cloud-startup-script",
        "cloud-ssh-private",
        "cloud-aws-security-group",
        "cloud-aws-subnet",
        "docker-volumes",
        "log",
        "driver",
        "repo",
        "token",
    ];
    for name in spec {
        assert!(
            runner_launch::cli::options::find(name).is_some(),
            "--{name}"
        );
    }
}
