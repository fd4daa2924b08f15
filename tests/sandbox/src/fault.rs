//! Faults that the fakes inject on request, and calls held back so that a test can act in between.

use std::time::Duration;

use tokio::sync::watch;

use crate::calls::Caller;

/// What goes wrong with a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FaultKind {
    /// Refused with this HTTP status, in the service's own error body; not done.
    Status(u16),
    /// Refused for want of permission; not done.
    Denied,
    /// Refused because of too many requests; not done.
    Throttled,
    /// Refused for want of capacity; not done.
    Capacity,
    /// Not done, and never answered: the connection hangs, then closes.
    TimeoutBefore,
    /// Done, but never answered: the connection hangs, then closes.
    TimeoutAfter,
    /// Not done: the connection closes without an answer.
    CutBefore,
    /// Done, but the connection closes without an answer.
    CutAfter,
    /// Done and answered, this much later.
    Slow(Duration),
}

impl FaultKind {
    /// A short name, as recorded in [`crate::Call::fault`] and read by [`FaultKind::parse`].
    pub fn name(&self) -> String {
        match self {
            FaultKind::Status(status) => status.to_string(),
            FaultKind::Denied => "denied".into(),
            FaultKind::Throttled => "throttled".into(),
            FaultKind::Capacity => "capacity".into(),
            FaultKind::TimeoutBefore => "timeout-before".into(),
            FaultKind::TimeoutAfter => "timeout-after".into(),
            FaultKind::CutBefore => "cut-before".into(),
            FaultKind::CutAfter => "cut-after".into(),
            FaultKind::Slow(delay) => format!("slow-{}ms", delay.as_millis()),
        }
    }

    /// Reads a [`FaultKind::name`].
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "denied" => FaultKind::Denied,
            "throttled" => FaultKind::Throttled,
            "capacity" => FaultKind::Capacity,
            "timeout-before" => FaultKind::TimeoutBefore,
            "timeout-after" => FaultKind::TimeoutAfter,
            "cut-before" => FaultKind::CutBefore,
            "cut-after" => FaultKind::CutAfter,
            _ => {
                if let Some(delay) = text.strip_prefix("slow-") {
                    let digits = delay.strip_suffix("ms").unwrap_or(delay);
                    FaultKind::Slow(Duration::from_millis(digits.parse().ok()?))
                } else {
                    let status = text.parse().ok()?;
                    if !(400..600).contains(&status) {
                        return None;
                    }
                    FaultKind::Status(status)
                }
            }
        })
    }
}

/// The faults that are an answer in the service's own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// This HTTP status.
    Status(u16),
    /// No permission.
    Denied,
    /// Too many requests.
    Throttled,
    /// No capacity.
    Capacity,
}

/// Which calls a rule is about: a call's name with `*` for anything, and optionally `host:` or
/// `instance:` before it.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    from_host: Option<bool>,
    name: String,
}

impl Pattern {
    pub(crate) fn new(text: &str) -> Self {
        let (from_host, name) = match text.split_once(':') {
            Some(("host", rest)) => (Some(true), rest),
            Some(("instance", rest)) => (Some(false), rest),
            _ => (None, text),
        };
        Pattern {
            from_host,
            name: name.into(),
        }
    }

    pub(crate) fn matches(&self, name: &str, caller: &Caller) -> bool {
        self.from_host
            .is_none_or(|host| host == (*caller == Caller::Host))
            && wildcard(&self.name, name)
    }
}

/// Whether `text` matches `pattern`, in which `*` stands for any text and `?` for one character.
pub(crate) fn wildcard(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        if p < pattern.len() && pattern[p] == '*' {
            star = Some((p, t));
            p += 1;
        } else if p < pattern.len() && (pattern[p] == '?' || pattern[p] == text[t]) {
            p += 1;
            t += 1;
        } else if let Some((at, from)) = star {
            p = at + 1;
            t = from + 1;
            star = Some((at, from + 1));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// A call that is held back. Dropping it lets the call's answer go out.
#[derive(Debug)]
pub struct Hold {
    pub(crate) arrived: watch::Receiver<bool>,
    pub(crate) release: watch::Sender<bool>,
}

impl Hold {
    /// Waits until the call has come in (and, unless held before its work, has been done), at most
    /// for `timeout`; says whether it has.
    pub async fn arrived(&mut self, timeout: Duration) -> bool {
        tokio::time::timeout(timeout, self.arrived.wait_for(|arrived| *arrived))
            .await
            .is_ok_and(|seen| seen.is_ok())
    }

    /// Lets the call go on.
    pub fn release(self) {}
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.release.send_replace(true);
    }
}

/// What a rule does to a call.
#[derive(Debug)]
pub(crate) enum Effect {
    Fault(FaultKind),
    Hold {
        before: bool,
        arrived: watch::Sender<bool>,
        release: watch::Receiver<bool>,
    },
}

#[derive(Debug)]
struct Rule {
    pattern: Pattern,
    /// 1-based; `None`: every time.
    nth: Option<usize>,
    seen: usize,
    effect: Effect,
}

/// A hold, from the server's side.
#[derive(Debug)]
pub(crate) struct Held {
    arrived: watch::Sender<bool>,
    release: watch::Receiver<bool>,
}

impl Held {
    pub(crate) async fn wait(&mut self) {
        self.arrived.send_replace(true);
        // The sender sends before it goes, so an error means released, too.
        let _ = self.release.wait_for(|released| *released).await;
    }
}

/// What is to happen to one call.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) fault: Option<FaultKind>,
    pub(crate) before: Vec<Held>,
    pub(crate) after: Vec<Held>,
}

/// All rules in force.
#[derive(Debug, Default)]
pub(crate) struct Rules(Vec<Rule>);

impl Rules {
    pub(crate) fn fault(&mut self, call: &str, nth: Option<usize>, kind: FaultKind) {
        self.0.push(Rule {
            pattern: Pattern::new(call),
            nth,
            seen: 0,
            effect: Effect::Fault(kind),
        });
    }

    pub(crate) fn hold(&mut self, call: &str, nth: usize, before: bool) -> Hold {
        let (arrived_tx, arrived) = watch::channel(false);
        let (release, release_rx) = watch::channel(false);
        self.0.push(Rule {
            pattern: Pattern::new(call),
            nth: Some(nth),
            seen: 0,
            effect: Effect::Hold {
                before,
                arrived: arrived_tx,
                release: release_rx,
            },
        });
        Hold { arrived, release }
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Counts the call and says what happens to it; the first fault that fits wins.
    pub(crate) fn judge(&mut self, name: &str, caller: &Caller) -> Verdict {
        let mut verdict = Verdict::default();
        for rule in &mut self.0 {
            if !rule.pattern.matches(name, caller) {
                continue;
            }
            rule.seen += 1;
            if rule.nth.is_some_and(|nth| nth != rule.seen) {
                continue;
            }
            match &rule.effect {
                Effect::Fault(kind) => {
                    verdict.fault.get_or_insert_with(|| kind.clone());
                }
                Effect::Hold {
                    before,
                    arrived,
                    release,
                } => {
                    let held = Held {
                        arrived: arrived.clone(),
                        release: release.clone(),
                    };
                    if *before {
                        verdict.before.push(held);
                    } else {
                        verdict.after.push(held);
                    }
                }
            }
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards() {
        for (pattern, text, expected) in [
            ("a*c", "abbc", true),
            ("a*c", "abb", false),
            ("*", "", true),
            ("ubuntu-*-2?.04-*", "ubuntu-x-24.04-y", true),
            ("ubuntu", "ubuntu2", false),
            ("*ab*ab", "xabyab", true),
        ] {
            assert_eq!(wildcard(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn the_nth_call_alone_is_hit() {
        let mut rules = Rules::default();
        rules.fault("host:ec2:*", Some(2), FaultKind::CutAfter);
        let hit = |rules: &mut Rules, name, caller| rules.judge(name, &caller).fault.is_some();
        assert!(!hit(&mut rules, "ec2:A", Caller::Host));
        assert!(!hit(&mut rules, "ec2:A", Caller::Instance("i-1".into())));
        assert!(!hit(&mut rules, "github:A", Caller::Host));
        assert!(hit(&mut rules, "ec2:B", Caller::Host));
        assert!(!hit(&mut rules, "ec2:B", Caller::Host));
    }

    #[test]
    fn names_are_read_back() {
        for kind in [
            FaultKind::Status(503),
            FaultKind::Denied,
            FaultKind::Throttled,
            FaultKind::Capacity,
            FaultKind::TimeoutBefore,
            FaultKind::TimeoutAfter,
            FaultKind::CutBefore,
            FaultKind::CutAfter,
            FaultKind::Slow(Duration::from_millis(70)),
        ] {
            assert_eq!(FaultKind::parse(&kind.name()), Some(kind));
        }
        assert_eq!(FaultKind::parse("200"), None);
        assert_eq!(FaultKind::parse("slowly"), None);
    }
}
