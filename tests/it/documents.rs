//! What is written for users is what the program does.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use runner_launch::cli::options::{Form, HEADINGS, Mode, OPTIONS, Opt};
use runner_launch::launch::report::OUTPUTS;

const README: &str = include_str!("../../README.md");

/// Holds what stands between two marks of a file to what the program's definitions say; with
/// `UPDATE=1`, writes it there.
pub(crate) fn hold(file: &str, begin: &str, end: &str, text: &str) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let whole = std::fs::read_to_string(&path).unwrap();
    let start = whole.find(begin).expect("the first mark") + begin.len();
    let stop = start + whole[start..].find(end).expect("the second mark");
    let stop = whole[..stop].rfind('\n').unwrap() + 1;
    let wanted = format!("\n{}\n", text.trim_matches('\n'));
    if std::env::var("UPDATE").as_deref() == Ok("1") {
        let new = format!("{}{wanted}{}", &whole[..start], &whole[stop..]);
        std::fs::write(&path, new).unwrap();
        return;
    }
    assert!(
        whole[start..stop] == wanted,
        "{file} is not what the program says: run `UPDATE=1 cargo test --test it -- documents`\n{wanted}"
    );
}

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
    hold(
        "README.md",
        "<!-- options -->",
        "<!-- /options -->",
        &format!("\n{}\n", table()),
    );
}

#[test]
fn the_readme_names_every_output_and_exit_code() {
    let mut text = "| output | value |\n|---|---|\n".to_owned();
    for (name, what) in OUTPUTS {
        let _ = writeln!(text, "| `{name}` | {what} |");
    }
    hold("README.md", "<!-- outputs -->", "<!-- /outputs -->", &text);
    for code in ["2", "3", "4", "5", "6", "130"] {
        assert!(README.contains(&format!("| {code}")), "{code}");
    }
}

/// A text as a YAML string. JSON's strings are YAML's.
pub(crate) fn yaml(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

/// What the Action says of an input.
pub(crate) fn described(opt: &Opt) -> String {
    let mut text = opt.help.replace("; may be repeated", "");
    if let Form::Many(form) = opt.form {
        let _ = write!(text, "; several: one {form} a line");
    }
    if opt.form == Form::Flag {
        text.push_str(": true or false");
    }
    if let Some(default) = opt.default {
        let _ = write!(text, " (default: {default})");
    }
    let modes: Vec<&str> = opt.modes.iter().map(|mode| mode.name()).collect();
    if modes != ["launch"] && modes.len() < Mode::ALL.len() {
        let _ = write!(text, " (mode: {})", modes.join(", "));
    }
    text
}

#[test]
fn the_action_s_inputs_and_outputs_are_the_program_s() {
    let (mut inputs, mut environment, mut outputs) = (String::new(), String::new(), String::new());
    for opt in OPTIONS {
        let name = opt.name;
        let _ = writeln!(
            inputs,
            "  {name}:\n    description: {}\n    required: false",
            yaml(&described(opt))
        );
        let _ = writeln!(
            environment,
            "        {}: ${{{{ inputs.{name} }}}}",
            opt.input_name()
        );
    }
    for (name, what) in OUTPUTS {
        let what = what.split(" for `").next().unwrap_or(what);
        let _ = writeln!(
            outputs,
            "  {name}:\n    description: {}\n    value: ${{{{ steps.run.outputs.{name} }}}}",
            yaml(what)
        );
    }
    let modes = Mode::ALL.map(Mode::name);
    let mode = format!(
        "  mode:\n    description: {}\n    required: false\n    default: launch\n",
        yaml(&format!("What to do: {}", modes.join(", ")))
    );
    let inputs = mode + &inputs;
    hold("action.yml", "# <inputs>", "# </inputs>", &inputs);
    let script = include_str!("../../dist/action.sh");
    assert!(script.contains(&format!("  {}) ;;", modes.join(" | "))));
    hold("action.yml", "# <outputs>", "# </outputs>", &outputs);
    hold(
        "action.yml",
        "# <environment>",
        "# </environment>",
        &environment,
    );
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

/// Every step in the examples and the README that uses the Action names inputs that it has.
#[test]
fn the_examples_use_inputs_that_exist() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut texts: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect();
    let blocks = README.split("```yaml\n").skip(1);
    texts.extend(blocks.map(|block| block.split("```").next().unwrap().to_owned()));
    let mut steps = Vec::new();
    for text in &texts {
        collect(&serde_saphyr::from_str(text).unwrap(), &mut steps);
    }
    assert!(steps.len() > 5, "{steps:?}");
    for with in steps {
        for name in with.as_object().expect("inputs").keys() {
            let known = name == "mode" || OPTIONS.iter().any(|opt| opt.name == name);
            assert!(known, "no input {name}");
        }
    }
}

/// The inputs of every step that uses the Action, wherever in a document.
fn collect(node: &serde_json::Value, steps: &mut Vec<serde_json::Value>) {
    match node {
        serde_json::Value::Object(map) => {
            let uses = map.get("uses").and_then(|uses| uses.as_str());
            if uses.is_some_and(|uses| uses.starts_with("runner-launch/runner-launch@")) {
                steps.push(map["with"].clone());
            }
            map.values().for_each(|value| collect(value, steps));
        }
        serde_json::Value::Array(list) => list.iter().for_each(|value| collect(value, steps)),
        _ => {}
    }
}
