//! Sizes, machine types and GPUs, and what the name of a machine type tells.

use std::fmt;

use crate::cloud::Arch;
use crate::cloud::sizes::{Sizes, agree, deprecated, modern};
use crate::spec::Gpu;

/// Machine types, and how many GPUs are added to them; none to machines that carry theirs.
const SIZES: Sizes<(&str, u32)> = Sizes {
    cloud: "Google Cloud",
    others: "a machine type such as n2-standard-8, with or without GPUs: \
             n1-standard-8+nvidia-tesla-t4*2",
    known: &[
        ("s", "", ("g1-small", 0)),
        ("m", "", ("e2-custom-8-32768", 0)),
        ("l", "", ("e2-custom-32-131072", 0)),
        ("xl", "", ("n2-custom-64-262144", 0)),
        ("m", "t4", ("n1-standard-4", 1)),
        ("m", "k80", ("custom-8-53248", 1)),
        ("l", "k80", ("custom-32-131072", 4)),
        ("xl", "k80", ("custom-64-212992-ext", 8)),
        ("m", "v100", ("custom-8-65536-ext", 1)),
        ("l", "v100", ("custom-32-262144-ext", 4)),
        ("xl", "v100", ("custom-64-524288-ext", 8)),
        ("m", "l4", ("g2-standard-8", 0)),
        ("m", "a100", ("a2-highgpu-1g", 0)),
        ("xl", "h100", ("a3-highgpu-8g", 0)),
    ],
};

/// GPUs can be added to N1 machines alone: what the sizes without a GPU are as such. A shared-core
/// machine, which the smallest size is, takes none.
/// <https://docs.cloud.google.com/compute/docs/gpus>
const AS_N1: &[(&str, &str, u32)] = &[
    ("m", "custom-8-32768", 8),
    ("l", "custom-32-131072", 32),
    ("xl", "custom-64-262144", 64),
];

/// Our names of GPUs, and Google's.
const MODELS: &[(&str, &str)] = &[
    ("t4", "nvidia-tesla-t4"),
    ("k80", "nvidia-tesla-k80"),
    ("v100", "nvidia-tesla-v100"),
    ("p4", "nvidia-tesla-p4"),
    ("p100", "nvidia-tesla-p100"),
    ("l4", "nvidia-l4"),
    ("a100", "nvidia-tesla-a100"),
    ("h100", "nvidia-h100-80gb"),
];

/// GPUs added to a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Accelerator {
    /// The model, in Google's words.
    pub(super) model: String,
    pub(super) count: u32,
}

/// A machine type, with or without GPUs added to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Machine {
    pub(super) machine_type: String,
    pub(super) accelerator: Option<Accelerator>,
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.machine_type)?;
        match &self.accelerator {
            Some(Accelerator { model, count }) => write!(f, "+{model}*{count}"),
            None => Ok(()),
        }
    }
}

/// The machine for a size or a native type, and a note about it where one is due. Complaints start
/// with the option's name.
pub(super) fn native(text: &str, gpu: Option<&Gpu>) -> Result<(Machine, Option<String>), String> {
    let (base, own) = match text.split_once('+') {
        Some((_, "")) => {
            return Err(format!("--cloud-type: `{text}` names no GPU after its `+`"));
        }
        Some((base, own)) => (base, Some(own)),
        None => (text, None),
    };
    let own = own.map(|own| read_gpu(text, own)).transpose()?;
    if let Some((own, _)) = &own {
        agree(text, own, gpu, short)?;
    }
    let asked = own.or_else(|| match gpu {
        Some(Gpu::Model(model)) => Some((model.clone(), None)),
        Some(Gpu::None) | None => None,
    });
    if SIZES.is_size(base) {
        return sized(text, base, asked);
    }
    if !is_machine_type(base) {
        return Err(SIZES.neither(text));
    }
    as_given(base, asked, gpu)
}

/// A GPU's name and, where one is given, their number.
fn read_gpu(text: &str, own: &str) -> Result<(String, Option<u32>), String> {
    let Some((model, count)) = own.split_once('*') else {
        return Ok((own.to_owned(), None));
    };
    let count = count.parse().ok().filter(|count| (1..=16).contains(count));
    match count {
        Some(count) if !model.is_empty() => Ok((model.to_owned(), Some(count))),
        _ => Err(format!(
            "--cloud-type: the GPUs of `{text}` aren't of the form nvidia-tesla-t4*2"
        )),
    }
}

fn sized(
    text: &str,
    size: &str,
    asked: Option<(String, Option<u32>)>,
) -> Result<(Machine, Option<String>), String> {
    let plain = |machine_type: &str| Machine {
        machine_type: machine_type.to_owned(),
        accelerator: None,
    };
    let Some((given, wanted)) = asked else {
        let plainest = SIZES.find(size, "");
        let (machine_type, _) = plainest.ok_or_else(|| format!("--cloud-type: {text}"))?;
        return Ok((plain(machine_type), None));
    };
    let note = deprecated(&given);
    let model = short(&given);
    if let Some((machine_type, count)) = SIZES.find(size, model) {
        let carried = *count == 0;
        if carried && wanted.is_some() {
            return Err(format!(
                "--cloud-type: {machine_type}, which {size}+{model} is, carries its GPUs: their \
                 number can't be chosen"
            ));
        }
        let accelerator = (!carried).then(|| Accelerator {
            model: long(&given).to_owned(),
            count: wanted.unwrap_or(*count),
        });
        let machine = Machine {
            accelerator,
            ..plain(machine_type)
        };
        return Ok((machine, note));
    }
    let long = long(&given);
    if is_carried(long) {
        return Err(SIZES
            .with_other_sizes(size, model)
            .unwrap_or_else(|| format!("--cloud-gpu: name a machine type that carries {given}")));
    }
    if !long.starts_with("nvidia-") {
        let known: Vec<&str> = MODELS.iter().map(|(short, _)| *short).collect();
        return Err(format!(
            "--cloud-gpu: `{given}` is neither one of {} nor a name of Google's such as \
             nvidia-tesla-t4",
            known.join(", ")
        ));
    }
    let Some((_, machine_type, cpus)) = AS_N1.iter().find(|(known, ..)| *known == size) else {
        return Err(format!(
            "--cloud-gpu: the size {size} takes no GPU on Google Cloud; take a larger one"
        ));
    };
    let machine = Machine {
        accelerator: Some(Accelerator {
            model: long.to_owned(),
            count: wanted.unwrap_or_else(|| least(long, *cpus)),
        }),
        ..plain(machine_type)
    };
    Ok((machine, note))
}

/// The fewest GPUs with which a machine may have so many processors.
/// <https://docs.cloud.google.com/compute/docs/gpus#general-purpose-n1>
fn least(model: &str, cpus: u32) -> u32 {
    let steps: &[(u32, u32)] = match model {
        "nvidia-tesla-t4" => &[(48, 1), (96, 4)],
        "nvidia-tesla-p4" => &[(24, 1), (48, 2), (96, 4)],
        "nvidia-tesla-p100" => &[(16, 1), (32, 2), (96, 4)],
        _ => &[],
    };
    let step = steps.iter().find(|(most, _)| cpus <= *most);
    step.map_or(1, |(_, count)| *count)
}

fn as_given(
    machine_type: &str,
    asked: Option<(String, Option<u32>)>,
    gpu: Option<&Gpu>,
) -> Result<(Machine, Option<String>), String> {
    let machine = Machine {
        machine_type: machine_type.to_owned(),
        accelerator: None,
    };
    let carries = carried_gpu(machine_type);
    let Some((given, count)) = asked else {
        let note = (gpu.is_some() && carries.is_some()).then(|| {
            format!("--cloud-gpu: nogpu has no effect on {machine_type}, which carries GPUs")
        });
        return Ok((machine, note));
    };
    let model = long(&given);
    if carries.is_some() && count.is_none() && gpu.is_some() {
        let note = (carries != Some(short(&given))).then(|| {
            format!(
                "--cloud-gpu: {given} has no effect on {machine_type}, which carries GPUs of its \
                 own"
            )
        });
        return Ok((machine, note));
    }
    if carries.is_some() {
        return Err(format!(
            "--cloud-type: {machine_type} carries its GPUs: leave out what follows its name"
        ));
    }
    if !model.starts_with("nvidia-") {
        return Err(format!(
            "--cloud-gpu: `{given}` is no GPU's name such as t4 or nvidia-tesla-t4"
        ));
    }
    if is_carried(model) {
        return Err(format!(
            "--cloud-gpu: {given} can't be added to {machine_type}; name a machine type that \
             carries it, such as {}",
            carrier(model)
        ));
    }
    // Beyond that, what goes with what is Google's to say.
    if series(machine_type) != "n1" || is_shared_core(machine_type) {
        return Err(format!(
            "--cloud-gpu: GPUs can be added to N1 machines alone, and not to shared-core ones: \
             {machine_type} takes none"
        ));
    }
    let accelerator = Accelerator {
        model: model.to_owned(),
        count: count.unwrap_or(1),
    };
    let note = deprecated(&given);
    Ok((
        Machine {
            accelerator: Some(accelerator),
            ..machine
        },
        note,
    ))
}

/// A model in our words, where we have one.
fn short(model: &str) -> &str {
    let model = modern(model);
    let known = MODELS.iter().find(|(_, long)| *long == model);
    known.map_or(model, |(short, _)| short)
}

/// A model in Google's words, where we know them.
fn long(model: &str) -> &str {
    let model = short(model);
    let known = MODELS.iter().find(|(short, _)| *short == model);
    known.map_or(model, |(_, long)| long)
}

/// Whether a GPU comes with machine types of its own, and can't be added to others.
fn is_carried(long: &str) -> bool {
    matches!(
        long,
        "nvidia-l4" | "nvidia-tesla-a100" | "nvidia-a100-80gb" | "nvidia-rtx-pro-6000"
    ) || ["nvidia-h", "nvidia-b", "nvidia-gb"]
        .iter()
        .any(|start| long.starts_with(start))
}

fn carrier(long: &str) -> &'static str {
    match long {
        "nvidia-l4" => "g2-standard-8",
        "nvidia-tesla-a100" => "a2-highgpu-1g",
        "nvidia-a100-80gb" => "a2-ultragpu-1g",
        "nvidia-rtx-pro-6000" => "g4-standard-48",
        _ => "a3-highgpu-8g",
    }
}

/// Lower-case words and numbers, joined by hyphens.
fn is_machine_type(text: &str) -> bool {
    let words: Vec<&str> = text.split('-').collect();
    let plain = |word: &&str| {
        !word.is_empty()
            && word
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    words.len() >= 2
        && words.iter().all(plain)
        && text.starts_with(|c: char| c.is_ascii_lowercase())
}

/// The machine series. Names that begin with `custom-` are N1, and so are the two shared-core types
/// of the first generation.
/// <https://docs.cloud.google.com/compute/docs/machine-resource>
fn series(machine_type: &str) -> &str {
    match machine_type.split('-').next().unwrap_or(machine_type) {
        "custom" | "f1" | "g1" => "n1",
        series => series,
    }
}

fn is_shared_core(machine_type: &str) -> bool {
    matches!(machine_type, "f1-micro" | "g1-small")
}

/// Whether the type's size is in its name: such types aren't in Google's list of types.
pub(super) fn is_custom(machine_type: &str) -> bool {
    machine_type.split('-').any(|word| word == "custom")
}

/// The architecture that a type's series tells.
/// <https://docs.cloud.google.com/compute/docs/instances/arm-on-compute>
pub(super) fn arch(machine_type: &str) -> Arch {
    match series(machine_type) {
        "t2a" | "c4a" | "n4a" | "a4x" => Arch::Aarch64,
        _ => Arch::X86_64,
    }
}

/// The GPU that a type carries, in our words.
/// <https://docs.cloud.google.com/compute/docs/accelerator-optimized-machines>
fn carried_gpu(machine_type: &str) -> Option<&'static str> {
    match series(machine_type) {
        "g2" => Some("l4"),
        "g4" => Some("nvidia-rtx-pro-6000"),
        "a2" if machine_type.contains("ultragpu") => Some("nvidia-a100-80gb"),
        "a2" => Some("a100"),
        "a3" if machine_type.contains("ultragpu") => Some("nvidia-h200-141gb"),
        "a3" if machine_type.contains("megagpu") => Some("nvidia-h100-mega-80gb"),
        "a3" => Some("h100"),
        "a4" => Some("nvidia-b200"),
        "a4x" => Some("nvidia-gb200"),
        _ => None,
    }
}

/// The NVIDIA driver that a machine needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Driver {
    /// None: it has no GPU.
    None,
    /// The open kernel modules, for Turing and newer.
    Open,
    /// The proprietary ones, for older GPUs.
    Proprietary,
}

impl Machine {
    /// The driver for its GPUs.
    pub(super) fn driver(&self) -> Driver {
        match &self.accelerator {
            Some(Accelerator { model, .. }) => match short(model) {
                "k80" | "p4" | "p100" | "v100" => Driver::Proprietary,
                _ => Driver::Open,
            },
            None if carried_gpu(&self.machine_type).is_some() => Driver::Open,
            None => Driver::None,
        }
    }

    fn has_gpu(&self) -> bool {
        self.driver() != Driver::None
    }

    /// Whether it can move to another host while it runs.
    /// <https://docs.cloud.google.com/compute/docs/instances/host-maintenance-overview>
    pub(super) fn migrates(&self) -> bool {
        let fixed = matches!(series(&self.machine_type), "h3" | "h4d" | "x4")
            || self.machine_type.ends_with("-metal");
        !(fixed || self.has_gpu())
    }

    /// The type of its boot disk: Hyperdisk where the series takes nothing else.
    ///
    /// Series that came before Hyperdisk take persistent disks, as do some of the third generation;
    /// newer ones don't, and neither will those that are still to come.
    /// <https://docs.cloud.google.com/compute/docs/disks/persistent-disks#machine-series-pd>
    pub(super) fn disk_type(&self) -> &'static str {
        let persistent = match series(&self.machine_type) {
            "e2" | "n1" | "n2" | "n2d" | "t2d" | "t2a" | "c2" | "c2d" | "m1" | "m2" | "m3"
            | "a2" | "g2" | "h3" | "z3" | "ct5lp" | "ct5p" => true,
            // Bare metal machines have no driver for persistent disks.
            "c3" | "c3d" => !self.machine_type.ends_with("-metal"),
            "a3" => !self.machine_type.contains("ultragpu"),
            _ => false,
        };
        match persistent {
            true => "pd-balanced",
            false => "hyperdisk-balanced",
        }
    }

    /// For GPUs that Google has taken away or is running out of, what to take today.
    /// <https://docs.cloud.google.com/compute/docs/eol/k80-eol>
    pub(super) fn successor(&self) -> Option<&'static str> {
        let accelerator = self.accelerator.as_ref()?;
        match short(&accelerator.model) {
            "k80" => Some("Google has retired its K80 GPUs: take m+t4, m+l4 or m+a100"),
            "p4" | "p100" | "v100" => Some(
                "few zones still have this GPU: take a current one, m+t4, m+l4, m+a100 or \
                 xl+h100, or another --cloud-region",
            ),
            _ => None,
        }
    }
}

#[cfg(test)]
#[path = "sizes_tests.rs"]
mod tests;
