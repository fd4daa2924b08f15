//! What is read of a specification in the same way for every cloud.

use crate::spec::{Gpu, InstanceSpec};

/// The types that the user names, each once and in order, as the cloud's `read` has them; its notes
/// become warnings, each once, and its complaints mistakes.
pub(super) fn types<T: PartialEq>(
    spec: &InstanceSpec,
    read: impl Fn(&str, Option<&Gpu>) -> Result<(T, Option<String>), String>,
    mistakes: &mut Vec<String>,
    warnings: &mut Vec<String>,
) -> Vec<T> {
    let read = |text: &str| {
        let (native, note) = read(text, spec.gpu.as_ref())?;
        warnings.extend(note.filter(|note| !warnings.contains(note)));
        Ok(native)
    };
    each_once(&spec.types, read, mistakes)
}

/// The places that the user names, each once and in order, as the cloud's `read` has them; its
/// complaints become mistakes.
pub(super) fn regions<T: PartialEq>(
    spec: &InstanceSpec,
    read: impl Fn(&str) -> Result<T, String>,
    mistakes: &mut Vec<String>,
) -> Vec<T> {
    each_once(&spec.regions, read, mistakes)
}

/// The image that the user names, as the cloud's `read` has it, else the cloud's own choice; a
/// complaint becomes a mistake.
pub(super) fn image<T: Default>(
    spec: &InstanceSpec,
    read: impl FnOnce(&str) -> Result<T, String>,
    mistakes: &mut Vec<String>,
) -> T {
    let image = spec.image.as_deref().map_or(Ok(T::default()), read);
    image.unwrap_or_else(|complaint| {
        mistakes.push(complaint);
        T::default()
    })
}

fn each_once<T: PartialEq>(
    texts: &[String],
    mut read: impl FnMut(&str) -> Result<T, String>,
    mistakes: &mut Vec<String>,
) -> Vec<T> {
    let mut all = Vec::new();
    for text in texts {
        match read(text) {
            Ok(one) if all.contains(&one) => {}
            Ok(one) => all.push(one),
            Err(complaint) => mistakes.push(complaint),
        }
    }
    all
}
