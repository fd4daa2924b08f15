//! The one error type that reaches the user: what was being done, why it failed, what to do next.

use std::error::Error as StdError;
use std::fmt;

/// What went wrong, as far as the caller of the program must tell it apart.
///
/// Each kind has one exit code; they are documented in the README and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The command line or the environment is wrong. Nothing was touched.
    Usage,
    /// Credentials are missing, wrong, or lack a permission.
    Denied,
    /// The cloud has no capacity, a quota is used up, or the spot price is too low.
    Capacity,
    /// The runner wasn't ready for jobs before the deadline, or its instance ended before that.
    NotReady,
    /// The forge (GitHub, GitLab) refused.
    Forge,
    /// A signal ended the program.
    Interrupted(Signal),
    /// Everything else.
    Other,
}

/// The signals that end a launch or a runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Control-C, or the first thing a cancelled GitHub job sends.
    Interrupt,
    /// The polite end, sent by service managers.
    Terminate,
    /// Control-backslash.
    Quit,
    /// The terminal went away.
    Hangup,
}

impl Signal {
    /// The signal's number on Linux.
    pub fn number(self) -> u8 {
        match self {
            Signal::Hangup => 1,
            Signal::Interrupt => 2,
            Signal::Quit => 3,
            Signal::Terminate => 15,
        }
    }

    /// The signal's name, as `kill -l` prints it.
    pub fn name(self) -> &'static str {
        match self {
            Signal::Hangup => "SIGHUP",
            Signal::Interrupt => "SIGINT",
            Signal::Quit => "SIGQUIT",
            Signal::Terminate => "SIGTERM",
        }
    }
}

impl Kind {
    /// The process's exit code for this kind.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Other => 1,
            Kind::Usage => 2,
            Kind::Denied => 3,
            Kind::Capacity => 4,
            Kind::NotReady => 5,
            Kind::Forge => 6,
            Kind::Interrupted(signal) => 128 + signal.number(),
        }
    }
}

/// A failure, with the advice kept apart from the facts.
pub struct Error {
    kind: Kind,
    message: String,
    hints: Vec<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
    refusal: bool,
}

/// This crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error whose message says what was being done and to what, in lower case.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hints: Vec::new(),
            source: None,
            refusal: false,
        }
    }

    /// Shorthand for [`Kind::Other`].
    pub fn other(message: impl Into<String>) -> Self {
        Self::new(Kind::Other, message)
    }

    /// Shorthand for [`Kind::Usage`].
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// Adds what the user can do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Adds the cause; the message must not repeat it.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The error of what was being done when this one came, with its kind and its hints.
    #[must_use]
    pub fn during(self, doing: impl Into<String>) -> Self {
        let hints = self.hints.clone();
        Self {
            hints,
            ..Self::new(self.kind, doing).caused_by(self)
        }
    }

    /// The same error seen as another kind.
    #[must_use]
    pub fn with_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// Marks the error as a service's own answer: it has refused, and has done nothing.
    #[must_use]
    pub fn refused(mut self) -> Self {
        self.refusal = true;
        self
    }

    /// Whether a service has answered that it did nothing. Without that, it may have.
    pub fn is_refusal(&self) -> bool {
        self.refusal
    }

    /// What went wrong.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What the user can do next.
    pub fn hints(&self) -> &[String] {
        &self.hints
    }

    /// The message followed by its causes, on one line: `doing x: it said y`.
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut source = self.source();
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.chain())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_documented_exit_code() {
        let codes = [
            (Kind::Other, 1),
            (Kind::Usage, 2),
            (Kind::Denied, 3),
            (Kind::Capacity, 4),
            (Kind::NotReady, 5),
            (Kind::Forge, 6),
            (Kind::Interrupted(Signal::Interrupt), 130),
            (Kind::Interrupted(Signal::Terminate), 143),
        ];
        for (kind, code) in codes {
            assert_eq!(kind.exit_code(), code, "{kind:?}");
        }
    }

    #[test]
    fn the_chain_says_each_cause_once() {
        let inner = Error::other("the server said no");
        let outer = Error::other("asking").caused_by(inner).hint("ask nicer");
        assert_eq!(outer.chain(), "asking: the server said no");
        assert_eq!(outer.to_string(), "asking");
        assert_eq!(outer.hints(), ["ask nicer"]);
    }

    #[test]
    fn what_was_being_done_keeps_kind_and_hints() {
        let inner = Error::new(Kind::Denied, "asking").hint("ask nicer");
        let outer = inner.refused().during("launching");
        assert_eq!(outer.chain(), "launching: asking");
        assert_eq!(outer.kind(), Kind::Denied);
        assert_eq!(outer.hints(), ["ask nicer"]);
        assert!(!outer.is_refusal(), "more may have been done before");
    }
}
