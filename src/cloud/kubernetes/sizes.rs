//! Sizes: what of its node a pod may use.

use std::fmt;

use crate::cloud::sizes::{Sizes, agree, deprecated, modern};
use crate::spec::Gpu;

/// CPUs, memory in GiB, and GPUs.
const SIZES: Sizes<(u32, u32, u32)> = Sizes {
    cloud: "Kubernetes",
    others: "of the form CPUS-MEGABYTES, with or without GPUs: 8-32000 or 8-32000+t4*2",
    known: &[
        ("s", "", (1, 1, 0)),
        ("m", "", (8, 32, 0)),
        ("l", "", (32, 128, 0)),
        ("xl", "", (64, 256, 0)),
        ("m", "t4", (4, 16, 1)),
        ("m", "k80", (4, 64, 1)),
        ("l", "k80", (32, 512, 8)),
        ("xl", "k80", (64, 768, 16)),
        ("m", "v100", (8, 64, 1)),
        ("l", "v100", (32, 256, 4)),
        ("xl", "v100", (64, 512, 8)),
    ],
};

/// How many GPUs a size has that the table doesn't know with that model.
const OTHER_MODELS: &[(&str, u32)] = &[("s", 1), ("m", 1), ("l", 4), ("xl", 8)];

/// What of its node a pod may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Size {
    /// As the user named it.
    pub(super) name: String,
    pub(super) cpus: u32,
    /// A quantity: `32Gi`.
    pub(super) memory: String,
    pub(super) gpus: Option<Gpus>,
}

/// GPUs of one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gpus {
    pub(super) model: String,
    pub(super) count: u32,
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// The size that a text and a GPU model name, and a note about it where one is due. Complaints start
/// with the option's name.
pub(super) fn native(text: &str, gpu: Option<&Gpu>) -> Result<(Size, Option<String>), String> {
    let (base, own) = match text.split_once('+') {
        Some((_, "")) => {
            return Err(format!("--cloud-type: `{text}` names no GPU after its `+`"));
        }
        Some((base, own)) => (base, Some(read_gpus(text, own)?)),
        None => (text, None),
    };
    if let Some((model, _)) = &own {
        agree(text, model, gpu, modern)?;
    }
    let (asked, count) = match (own, gpu) {
        (Some((model, count)), _) => (Some(model), count),
        (None, Some(Gpu::Model(model))) => (Some(model.clone()), None),
        (None, Some(Gpu::None) | None) => (None, None),
    };
    let note = asked.as_deref().and_then(deprecated);
    let model = asked.as_deref().map(modern);
    let (cpus, memory, known) = measures(text, base, model)?;
    let gpus = model.map(|model| Gpus {
        model: model.to_owned(),
        count: count.unwrap_or(known),
    });
    let name = match (&gpus, count) {
        (Some(Gpus { model, count }), Some(_)) => format!("{base}+{model}*{count}"),
        (Some(Gpus { model, .. }), None) => format!("{base}+{model}"),
        (None, _) => base.to_owned(),
    };
    Ok((
        Size {
            name,
            cpus,
            memory,
            gpus,
        },
        note,
    ))
}

/// CPUs, memory, and how many GPUs there are where their number isn't given.
fn measures(text: &str, base: &str, model: Option<&str>) -> Result<(u32, String, u32), String> {
    if let Some((cpus, gib, gpus)) = SIZES.find(base, model.unwrap_or_default()) {
        return Ok((*cpus, format!("{gib}Gi"), *gpus));
    }
    if let Some((cpus, gib, _)) = SIZES.find(base, "") {
        let other = OTHER_MODELS.iter().find(|(size, _)| *size == base);
        return Ok((
            *cpus,
            format!("{gib}Gi"),
            other.map_or(1, |(_, gpus)| *gpus),
        ));
    }
    let number = |text: &str| text.parse::<u32>().ok().filter(|number| *number > 0);
    let own = base
        .split_once('-')
        .and_then(|(cpus, megabytes)| Some((number(cpus)?, number(megabytes)?)));
    match own {
        Some((cpus, megabytes)) => Ok((cpus, format!("{megabytes}M"), 1)),
        None => Err(SIZES.neither(text)),
    }
}

/// A GPU's model and, where one is given, their number.
fn read_gpus(text: &str, own: &str) -> Result<(String, Option<u32>), String> {
    let Some((model, count)) = own.split_once('*') else {
        return Ok((own.to_owned(), None));
    };
    let count = count.parse().ok().filter(|count| (1..=64).contains(count));
    match count {
        Some(count) if !model.is_empty() => Ok((model.to_owned(), Some(count))),
        _ => Err(format!(
            "--cloud-type: the GPUs of `{text}` aren't of the form t4*2"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(text: &str, gpu: Option<&str>) -> String {
        let gpu = gpu.map(|model| match model {
            "nogpu" => Gpu::None,
            model => Gpu::Model(model.to_owned()),
        });
        match native(text, gpu.as_ref()) {
            Ok((size, note)) => {
                let gpus = size.gpus.as_ref();
                let gpus = gpus.map(|gpus| format!(" {}*{}", gpus.model, gpus.count));
                let note = note.map(|_| " (noted)").unwrap_or_default();
                format!(
                    "{}: {} {}{}{note}",
                    size.name,
                    size.cpus,
                    size.memory,
                    gpus.unwrap_or_default()
                )
            }
            Err(complaint) => complaint,
        }
    }

    #[test]
    fn aliases_are_those_of_the_specification() {
        let sizes = [
            ("s", "s: 1 1Gi"),
            ("m", "m: 8 32Gi"),
            ("l", "l: 32 128Gi"),
            ("xl", "xl: 64 256Gi"),
            ("m+t4", "m+t4: 4 16Gi t4*1"),
            ("m+k80", "m+k80: 4 64Gi k80*1"),
            ("l+k80", "l+k80: 32 512Gi k80*8"),
            ("xl+k80", "xl+k80: 64 768Gi k80*16"),
            ("m+v100", "m+v100: 8 64Gi v100*1"),
            ("l+v100", "l+v100: 32 256Gi v100*4"),
            ("xl+v100", "xl+v100: 64 512Gi v100*8"),
        ];
        for (text, expected) in sizes {
            assert_eq!(size(text, None), expected);
        }
    }

    #[test]
    fn gpus_and_measures_can_be_chosen() {
        assert_eq!(size("m", Some("t4")), "m+t4: 4 16Gi t4*1");
        assert_eq!(size("m", Some("tesla")), "m+v100: 8 64Gi v100*1 (noted)");
        assert_eq!(size("m", Some("nogpu")), "m: 8 32Gi");
        assert_eq!(size("l", Some("a100")), "l+a100: 32 128Gi a100*4");
        assert_eq!(size("8-32000", None), "8-32000: 8 32000M");
        assert_eq!(
            size("4-16000+nvidia-tesla-t4*2", None),
            "4-16000+nvidia-tesla-t4*2: 4 16000M nvidia-tesla-t4*2"
        );
        assert_eq!(size("4-16000", Some("t4")), "4-16000+t4: 4 16000M t4*1");
        assert_eq!(size("m+t4*2", None), "m+t4*2: 4 16Gi t4*2");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["huge", "8", "0-1000", "8-", "8-1000-2", "-8-1000"] {
            assert!(size(text, None).starts_with("--cloud-type: `"), "{text}");
        }
        assert!(size("m+", None).contains("names no GPU"));
        assert!(size("m+t4*0", None).contains("aren't of the form"));
        assert!(size("m+t4", Some("k80")).starts_with("--cloud-gpu: k80 contradicts"));
    }
}
