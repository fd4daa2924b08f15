//! What every cloud has to tell: its instances' consoles, and all that stood in the way.

use crate::error::{Error, Kind};

/// A console as text, without what terminals eat; `None`: there is nothing on it.
pub(super) fn console(raw: &str) -> Option<String> {
    let raw = raw.replace('\r', "");
    let lines: Vec<String> = raw.lines().map(without_escapes).collect();
    let text = lines.join("\n");
    (!text.trim().is_empty()).then_some(text)
}

fn without_escapes(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c != '\u{1b}' {
            if !c.is_control() || c == '\t' {
                plain.push(c);
            }
        } else if chars.next() == Some('[') {
            // A control sequence ends with its first byte from @ to ~.
            for c in chars.by_ref() {
                if ('@'..='~').contains(&c) {
                    break;
                }
            }
        }
    }
    plain
}

/// The error of a look that leaves nothing to try.
pub(super) fn nothing_fits(problems: Vec<Error>) -> Error {
    let mut problems = problems.into_iter();
    let first = problems.next();
    let first = first.unwrap_or_else(|| Error::other("there is nowhere to launch"));
    // The others as hints: one cause is enough for a message, but none may be lost.
    problems.fold(first, |error, other| {
        let error = error.hint(format!("also {}", other.chain()));
        hinted(error, other.hints().iter().cloned())
    })
}

/// A way that was tried, and refused.
pub(super) struct Refused {
    /// The type and where it was asked for.
    pub(super) place: String,
    /// What the cloud said.
    pub(super) said: String,
    /// The error that this makes by itself.
    pub(super) error: Error,
    /// What can be done about it, beside the error's own hints.
    pub(super) hints: Vec<String>,
}

/// The error that tells everything that was tried, and what can be done about it.
pub(super) fn all_refused(mut tried: Vec<Refused>) -> Error {
    let hints: Vec<String> = tried
        .iter()
        .flat_map(|way| way.hints.iter().chain(way.error.hints()))
        .cloned()
        .collect();
    let error = match tried.len() {
        0 => Error::new(
            Kind::Capacity,
            "launching an instance: there is no way to try",
        ),
        1 => tried.remove(0).error,
        ways => {
            let each: Vec<String> = tried
                .iter()
                .map(|way| format!("{}: {}", way.place, way.said))
                .collect();
            Error::new(
                Kind::Capacity,
                format!("launching an instance, {ways} ways"),
            )
            .refused()
            .caused_by(each.join("; "))
        }
    };
    hinted(error, hints)
}

/// Adds hints that aren't there yet.
fn hinted(error: Error, hints: impl IntoIterator<Item = String>) -> Error {
    let add = |error: Error, hint: String| match error.hints().contains(&hint) {
        true => error,
        false => error.hint(hint),
    };
    hints.into_iter().fold(error, add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_loses_what_terminals_eat() {
        assert_eq!(
            console("\u{1b}[2Jone\r\n\u{1b}[0;32mtwo\u{1b}[0m\u{7}\n").as_deref(),
            Some("one\ntwo")
        );
        assert_eq!(console("\r\n"), None);
    }
}
