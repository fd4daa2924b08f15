//! Every option, declared once: the command line, the environment names, the help, the README's
//! table and the Action's inputs all come from here.

use std::fmt::Write;

/// The groups of `--help`, in order.
pub const HEADINGS: [&str; 7] = [
    "General",
    "Cloud",
    "AWS",
    "Kubernetes",
    "Debugging",
    "Afterwards",
    "Global",
];

/// What takes options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `launch`.
    Launch,
    /// `stop`.
    Stop,
    /// `list`.
    List,
    /// `sweep`.
    Sweep,
}

impl Mode {
    /// All of them, in the order of `--help`.
    pub const ALL: [Mode; 4] = [Mode::Launch, Mode::Stop, Mode::List, Mode::Sweep];

    /// The subcommand's name.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Launch => "launch",
            Mode::Stop => "stop",
            Mode::List => "list",
            Mode::Sweep => "sweep",
        }
    }
}

/// How often an option is given, and with what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Present or absent; `--x=false` is understood too.
    Flag,
    /// One value.
    Value(&'static str),
    /// One value each time; in the environment, one a line.
    Many(&'static str),
}

/// One option.
#[derive(Debug, Clone, Copy)]
pub struct Opt {
    /// The name, without dashes.
    pub name: &'static str,
    /// Another name for the same.
    pub alias: Option<&'static str>,
    /// What it takes.
    pub form: Form,
    /// Its group, one of [`HEADINGS`].
    pub heading: &'static str,
    /// The default as text, where there is one.
    pub default: Option<&'static str>,
    /// What it does, in one sentence.
    pub help: &'static str,
    /// Whether its value must never be printed.
    pub secret: bool,
    /// The subcommands that take it.
    pub modes: &'static [Mode],
    /// What it does in the subcommands that make nothing, where that is something else.
    pub later: Option<&'static str>,
}

const fn opt(name: &'static str, form: Form, heading: &'static str, help: &'static str) -> Opt {
    Opt {
        name,
        alias: None,
        form,
        heading,
        default: None,
        help,
        secret: false,
        modes: &[Mode::Launch],
        later: None,
    }
}

impl Opt {
    const fn alias(mut self, alias: &'static str) -> Self {
        self.alias = Some(alias);
        self
    }

    const fn default(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }

    const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    const fn modes(mut self, modes: &'static [Mode]) -> Self {
        self.modes = modes;
        self
    }

    const fn later(mut self, help: &'static str) -> Self {
        self.later = Some(help);
        self
    }

    /// Whether a subcommand takes it.
    pub fn is_of(&self, mode: Mode) -> bool {
        self.modes.contains(&mode)
    }

    /// The variable in which the GitHub Action passes its input of the same name. Names of its own:
    /// an input that isn't given is passed as an empty one, and must not hide a variable of the
    /// user's.
    pub fn input_name(&self) -> String {
        format!("RUNNER_LAUNCH_INPUT_{}", upper(self.name))
    }

    /// The environment names, the strongest first: ours, then those of `cml`.
    pub fn env_names(&self) -> Vec<String> {
        let mut names = Vec::new();
        for name in std::iter::once(self.name).chain(self.alias) {
            names.push(format!("RUNNER_LAUNCH_{}", upper(name)));
        }
        for name in std::iter::once(self.name).chain(self.alias) {
            names.push(format!("CML_RUNNER_{}", upper(name)));
        }
        if self.heading == "Global" {
            for name in std::iter::once(self.name).chain(self.alias) {
                names.push(format!("CML_{}", upper(name)));
            }
        }
        if self.name == "token" {
            names.push("REPO_TOKEN".to_owned());
        }
        names
    }

    /// A subcommand's help text, with default and environment name behind it.
    pub fn full_help(&self, mode: Mode) -> String {
        let later = self.later.filter(|_| mode != Mode::Launch);
        let mut text = later.unwrap_or(self.help).to_owned();
        if let Some(default) = self
            .default
            .filter(|_| mode == Mode::Launch || later.is_none())
        {
            let _ = write!(text, " [default: {default}]");
        }
        let _ = write!(text, " [env: {}]", self.env_names()[0]);
        text
    }
}

fn upper(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}

use Form::{Flag, Many, Value};
use Mode::{Launch, List, Stop, Sweep};

/// The options, in the order of `--help`.
pub const OPTIONS: &[Opt] = &[
    opt("labels", Value("LIST"), "General", "Labels of the runner, separated by commas").default("cml"),
    opt("name", Value("NAME"), "General", "Name of the runner, shown in the CI").default("cml-{ID}").modes(&[Launch, Stop]).later("Name of the runner to stop"),
    opt("idle-timeout", Value("TIME"), "General", "How long to wait for a job before ending: seconds, or 5min, 1h; -1 or never: no limit").default("300"),
    opt("no-retry", Flag, "General", "Don't run the workflow or pipeline again when the instance is lost or GitHub's 35-day limit is reached"),
    opt("single", Flag, "General", "End after one job"),
    opt("reuse", Flag, "General", "Launch nothing when a runner has the name, or an online one has all labels, busy or not"),
    opt("reuse-idle", Flag, "General", "Launch nothing when an online runner that isn't busy has all labels"),
    opt("timeout", Value("TIME"), "General", "How long the runner may take to be ready, startup script included").default("10min"),
    opt("workdir", Value("FOLDER"), "General", "Folder of a local runner").alias("path").default("~/.runner-launch/NAME"),
    opt("docker-image", Value("IMAGE"), "General", "Image of jobs that name none (GitLab only)").default("ubuntu:24.04"),
    opt("docker-volumes", Many("HOST:CONTAINER"), "General", "Volume for the jobs' containers (GitLab only); may be repeated"),
    opt("runner-version", Value("VERSION"), "General", "Version of the CI's runner program, which then doesn't update itself").default("the forge's choice"),
    opt("dry-run", Flag, "General", "Look, then say what would be made (or swept), and do nothing").modes(&[Launch, Sweep]),
    opt("output", Value("FORM"), "General", "Form of the report of list or --dry-run: text or json").default("text").modes(&[Launch, List, Sweep]),
    opt("cloud", Value("CLOUD"), "Cloud", "Where the instance comes from: aws, azure, gcp or kubernetes; without it the runner runs here").modes(&Mode::ALL).later("Where the instances are: aws, azure, gcp or kubernetes"),
    opt("cloud-type", Value("LIST"), "Cloud", "Size (s, m, l, xl) or native type (Google Cloud: also MACHINE+ACCELERATOR*COUNT; Kubernetes: CPUS-MEGABYTES+MODEL*COUNT); several are tried in order").default("m"),
    opt("cloud-gpu", Value("GPU"), "Cloud", "GPU model: nogpu, t4, a10g, l4, a100, h100, v100, k80, tesla (v100) or a native name"),
    opt("cloud-hdd-size", Value("GB"), "Cloud", "Size of the disk").default("35, or the image's if larger"),
    opt("cloud-spot", Flag, "Cloud", "Ask for spot (preemptible) capacity"),
    opt("cloud-spot-price", Value("USD"), "Cloud", "Most to pay per hour; -1: the current price").default("-1"),
    opt("cloud-spot-fallback", Flag, "Cloud", "Take an on-demand instance where no spot capacity is left"),
    opt("cloud-region", Value("LIST"), "Cloud", "us-west, us-east, eu-west, eu-north, or a native region or zone; several are tried in order").default("us-west").modes(&Mode::ALL).later("Where to look: us-west, us-east, eu-west, eu-north, or native regions [default: us-west]"),
    opt("cloud-permission-set", Value("ID"), "Cloud", "What the instance may do in the cloud; AWS: an instance profile's ARN or name; Azure: ids of user-assigned identities; Google Cloud: ACCOUNT,scopes=A,B; Kubernetes: a service account"),
    opt("cloud-metadata", Many("KEY=VALUE"), "Cloud", "Tag for everything made (Google Cloud: label of the instance; Kubernetes: label and annotation); may be repeated"),
    opt("cloud-startup-script", Value("BASE64"), "Cloud", "Shell script to run on the instance before the runner becomes available").secret(),
    opt("cloud-image", Value("IMAGE"), "Cloud", "Machine image; AWS: an id, a name (your own, Amazon's, Canonical's or Debian's), or OWNER:NAME; Azure: PUBLISHER:OFFER:SKU:VERSION or an id; Google Cloud: PROJECT/FAMILY or an image's path; Kubernetes: the container's image").default("the newest of Ubuntu 24.04 LTS, with drivers for a GPU; Kubernetes: the forge's own image of its runner"),
    opt("cloud-keep-until-stopped", Flag, "Cloud", "Launch though the instance can't delete itself (Azure): at its end it is off, and costs on until stop, sweep or the next launch"),
    opt("cloud-aws-security-group", Value("GROUP"), "AWS", "Security group's id or name").default("a shared group, made once"),
    opt("cloud-aws-subnet", Value("SUBNET"), "AWS", "Subnet's id").alias("cloud-aws-subnet-id").default("chosen in the default VPC"),
    opt("cloud-kubernetes-node-selector", Many("KEY=VALUE"), "Kubernetes", "Label that the node must have, where infer stands for the GPU's model; may be repeated").default("accelerator=infer, for a GPU"),
    opt("cloud-kubernetes-privileged", Flag, "Kubernetes", "Let the pod do what root may do on its node, for jobs that need Docker"),
    opt("cloud-kubernetes-pod-template", Value("YAML"), "Kubernetes", "File, or the text itself, to merge into the pod: tolerations, volumes, affinities"),
    opt("cloud-ssh-private", Value("PEM"), "Debugging", "RSA private key whose owner may log in as ubuntu").secret(),
    opt("cloud-ssh-cidr", Value("LIST"), "Debugging", "Networks that may reach the instance's SSH port").default("any, once SSH is asked for; else none"),
    opt("instance-id", Value("ID"), "Afterwards", "Instance to stop; a runner's --name will do as well").modes(&[Stop]),
    opt("older-than", Value("TIME"), "Afterwards", "How long ago an instance must have been launched to be swept: 90min, 12h, 2d").modes(&[Sweep]),
    opt("all", Flag, "Afterwards", "Sweep by age alone: also what serves other repositories, and runners at work").modes(&[Sweep]),
    opt("log", Value("LEVEL"), "Global", "error, warn, info or debug").default("info").modes(&Mode::ALL),
    opt("driver", Value("FORGE"), "Global", "github or gitlab").default("inferred").modes(&Mode::ALL),
    opt("repo", Value("URL"), "Global", "Repository, organisation or group to serve: an address, or owner/name").default("inferred").modes(&Mode::ALL),
    opt("token", Value("TOKEN"), "Global", "Access token for the forge; better in REPO_TOKEN than here").alias("driver-token").secret().modes(&Mode::ALL),
    opt("github-app-id", Value("ID"), "Global", "GitHub App to act as, in place of a token").modes(&Mode::ALL),
    opt("github-app-private-key", Value("PEM"), "Global", "The App's private key").secret().modes(&Mode::ALL),
    opt("github-app-installation-id", Value("ID"), "Global", "The App's installation").default("found by the repository or organisation").modes(&Mode::ALL),
];

/// An option by its name or alias.
pub fn find(name: &str) -> Option<&'static Opt> {
    OPTIONS
        .iter()
        .find(|opt| opt.name == name || opt.alias == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_names_are_ours_first() {
        let names = find("cloud-type").unwrap().env_names();
        assert_eq!(names, ["RUNNER_LAUNCH_CLOUD_TYPE", "CML_RUNNER_CLOUD_TYPE"]);
        let names = find("token").unwrap().env_names();
        assert_eq!(
            names,
            [
                "RUNNER_LAUNCH_TOKEN",
                "RUNNER_LAUNCH_DRIVER_TOKEN",
                "CML_RUNNER_TOKEN",
                "CML_RUNNER_DRIVER_TOKEN",
                "CML_TOKEN",
                "CML_DRIVER_TOKEN",
                "REPO_TOKEN"
            ]
        );
    }

    #[test]
    fn names_are_unique_and_headings_known() {
        let mut names: Vec<_> = OPTIONS
            .iter()
            .flat_map(|o| std::iter::once(o.name).chain(o.alias))
            .collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(OPTIONS.iter().all(|o| HEADINGS.contains(&o.heading)));
    }
}
