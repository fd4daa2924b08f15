//! Our sizes of machines with and without GPUs, and what is wrong with what was asked of them.

use crate::spec::Gpu;

/// A cloud's table of sizes; `N` is what the cloud itself calls a machine.
#[derive(Debug)]
pub(super) struct Sizes<N: 'static> {
    /// The cloud's name, as it stands in messages.
    pub(super) cloud: &'static str,
    /// What may be given instead of a size, with an example.
    pub(super) others: &'static str,
    /// Size, GPU model (empty: none), and the cloud's own.
    pub(super) known: &'static [(&'static str, &'static str, N)],
}

impl<N> Sizes<N> {
    /// The cloud's own for a size and a GPU model.
    pub(super) fn find(&self, size: &str, model: &str) -> Option<&N> {
        let mut known = self.known.iter();
        let found = known.find(|(known, with, _)| *known == size && *with == model);
        found.map(|(_, _, native)| native)
    }

    /// Whether there is such a size, whatever its GPU.
    pub(super) fn is_size(&self, text: &str) -> bool {
        self.known.iter().any(|(size, ..)| *size == text)
    }

    /// The complaint about a text that is neither a size nor the cloud's own.
    pub(super) fn neither(&self, text: &str) -> String {
        format!(
            "--cloud-type: `{text}` is neither a size (s, m, l, xl, m+t4, …) nor {}",
            self.others
        )
    }

    /// The complaint about a GPU that only other sizes have; `None`: no size has it.
    pub(super) fn with_other_sizes(&self, size: &str, model: &str) -> Option<String> {
        let with_model: Vec<String> = self
            .known
            .iter()
            .filter(|(_, with, _)| *with == model)
            .map(|(size, ..)| format!("{size}+{model}"))
            .collect();
        (!with_model.is_empty()).then(|| {
            format!(
                "--cloud-type: there is no size {size}+{model} on {}; with that GPU there is {}",
                self.cloud,
                with_model.join(", ")
            )
        })
    }
}

impl Sizes<&'static str> {
    /// The cloud's own for a size, and a note about it where one is due. Complaints start with the
    /// option's name.
    pub(super) fn native(
        &self,
        text: &str,
        gpu: Option<&Gpu>,
    ) -> Result<(String, Option<String>), String> {
        let (size, own) = text.split_once('+').unwrap_or((text, ""));
        agree(text, own, gpu, modern)?;
        let asked = match gpu {
            Some(Gpu::None) | None => own,
            Some(Gpu::Model(model)) => model,
        };
        let model = modern(asked);
        match self.find(size, model) {
            Some(native) => Ok(((*native).to_owned(), deprecated(asked))),
            None => Err(self.unknown(text, size, model)),
        }
    }

    fn unknown(&self, text: &str, size: &str, model: &str) -> String {
        if model.is_empty() || !self.is_size(size) {
            return self.neither(text);
        }
        if let Some(complaint) = self.with_other_sizes(size, model) {
            return complaint;
        }
        let cloud = self.cloud;
        let models: Vec<&str> = self
            .known
            .iter()
            .filter(|(known, with, _)| *known == size && !with.is_empty())
            .map(|(_, with, _)| *with)
            .collect();
        match models.as_slice() {
            [] => format!("--cloud-gpu: the size {size} has no GPU on {cloud}; take a larger one"),
            models => format!(
                "--cloud-gpu: `{model}` is no GPU of size {size} on {cloud}: there is {}",
                models.join(", ")
            ),
        }
    }
}

/// Checks that `--cloud-gpu` says nothing else than `own`, the GPU that a type names after its `+`;
/// empty: it names none. Names that `name` makes the same are the same GPU.
pub(super) fn agree(
    text: &str,
    own: &str,
    gpu: Option<&Gpu>,
    name: impl Fn(&str) -> &str,
) -> Result<(), String> {
    let other = match gpu {
        Some(Gpu::None) if !own.is_empty() => "nogpu",
        Some(Gpu::Model(model)) if !own.is_empty() && name(own) != name(model) => model,
        _ => return Ok(()),
    };
    Err(format!(
        "--cloud-gpu: {other} contradicts --cloud-type={text}"
    ))
}

/// A GPU model's name of today.
pub(super) fn modern(model: &str) -> &str {
    match model {
        "tesla" => "v100",
        model => model,
    }
}

/// The note about a GPU model's name that isn't [`modern`].
pub(super) fn deprecated(model: &str) -> Option<String> {
    (model == "tesla").then(|| "--cloud-gpu: the name `tesla` is deprecated, say `v100`".to_owned())
}

/// The note about a `--cloud-gpu` that says something else than the machine that was named `has`.
pub(super) fn without_effect(named: &str, gpu: Option<&Gpu>, has: Option<&str>) -> Option<String> {
    let carried = has.unwrap_or("no GPU");
    let asked = match gpu {
        Some(Gpu::None) if has.is_some() => "nogpu",
        Some(Gpu::Model(model)) if modern(model) != carried => model,
        _ => return None,
    };
    Some(format!(
        "--cloud-gpu: {asked} has no effect on {named}, which has {carried}"
    ))
}
