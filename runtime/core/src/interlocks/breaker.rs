//! Breaker: opens after failures in a row, half-opens after a cooldown, closed by a success or a person.
//!
//! The record is shared by every thread of a store. It is changed by compare-and-swap only, so of two threads that would
//! both make the probe one gets it. A probe whose holder never came back is free again after another cooldown.

use std::time::Duration;

use graphs::Breaker as Rule;
use serde::{Deserialize, Serialize};

use crate::error::ErrorClass;
use crate::ids::{ThreadId, Timestamp};

/// Longest failure message kept in a record, in characters.
const LAST_CHARS_MAX: usize = 200;

/// A breaker's record, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Breaker {
    /// Failures in a row.
    pub failures: u32,
    /// When it opened; `None` while closed.
    pub opened_at: Option<Timestamp>,
    /// The probe under way.
    pub probe: Option<Probe>,
    /// The cooldown of the rule that opened it.
    pub cooldown: Duration,
    /// The last failure.
    pub last: Option<String>,
    /// The thread whose failure opened it.
    pub opened_by: Option<ThreadId>,
}

/// One call that is let through to see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Who makes it: the same one may ask again, after a crash.
    pub by: String,
    /// Since when.
    pub since: Timestamp,
}

/// What a person decided about an open breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Press {
    /// Try once, now.
    Try,
    /// Close it.
    Reset,
}

/// Whether a call may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// Closed: go on.
    Yes,
    /// Half-open: this call is the probe.
    Probe,
    /// Open; not before this time.
    No { until: Timestamp },
}

/// How a call that passed ended, as far as a breaker cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sign {
    /// It works.
    Success,
    /// It failed, with this message.
    Failure(String),
    /// It says nothing about the other side: an interlock refused, the arguments were wrong.
    Nothing,
}

/// What became of a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Turn {
    /// It opened.
    Opened,
    /// It let a probe through.
    HalfOpened,
    /// It closed.
    Closed,
}

/// What an error says about the side it came from; `whole` when it ended a whole task and not one call.
pub fn sign_of(class: ErrorClass, message: &str, whole: bool) -> Sign {
    use ErrorClass::{Conflict, Denied, Invalid, Limit, NonDeterminism, NotFound};
    let neutral = matches!(class, Denied | Limit | NonDeterminism | Conflict);
    // A server that names what is wrong with a question works; an agent that cannot put it right does not.
    let answered = matches!(class, Invalid | NotFound);
    match neutral || (answered && !whole) {
        true => Sign::Nothing,
        false => Sign::Failure(message.chars().take(LAST_CHARS_MAX).collect()),
    }
}

impl Breaker {
    /// Asks to pass; marks the probe. The turn is what this asking made of the breaker.
    pub fn ask(&mut self, rule: Rule, by: &str, now: Timestamp, press: Option<Press>) -> (Pass, Option<Turn>) {
        let Some(opened_at) = self.opened_at else { return (Pass::Yes, None) };
        if press == Some(Press::Reset) {
            *self = Self::default();
            return (Pass::Yes, Some(Turn::Closed));
        }
        if self.probe.as_ref().is_some_and(|probe| probe.by == by) {
            return (Pass::Probe, None);
        }
        let due = opened_at.plus(rule.cooldown);
        let taken = self.probe.as_ref().map(|probe| probe.since.plus(rule.cooldown));
        let until = taken.map_or(due, |taken| taken.max(due));
        if now < until && press.is_none() {
            return (Pass::No { until }, None);
        }
        self.probe = Some(Probe { by: by.to_owned(), since: now });
        (Pass::Probe, Some(Turn::HalfOpened))
    }

    /// Takes in how a call ended that had passed.
    pub fn settle(&mut self, sign: &Sign, by: (&str, &ThreadId), now: Timestamp, rule: Rule) -> Option<Turn> {
        let (by, thread) = by;
        let probes = self.probe.as_ref().is_some_and(|probe| probe.by == by);
        match sign {
            Sign::Success => {
                let was_open = self.opened_at.is_some();
                *self = Self::default();
                was_open.then_some(Turn::Closed)
            }
            Sign::Failure(message) => {
                self.failures = self.failures.saturating_add(1);
                self.last = Some(message.clone());
                let opens = probes || (self.opened_at.is_none() && self.failures >= rule.failures.max(1));
                if !opens {
                    return None;
                }
                self.opened_at = Some(now);
                self.probe = None;
                self.cooldown = rule.cooldown;
                self.opened_by = Some(thread.clone());
                Some(Turn::Opened)
            }
            Sign::Nothing => {
                if probes {
                    self.probe = None;
                }
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule = Rule { failures: 3, cooldown: Duration::from_secs(60) };

    fn at(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1_000_000)
    }

    fn fail(breaker: &mut Breaker, by: &str, second: i64) -> Option<Turn> {
        let thread = ThreadId::new("t").unwrap();
        breaker.settle(&Sign::Failure("boom".to_owned()), (by, &thread), at(second), RULE)
    }

    fn end(breaker: &mut Breaker, sign: Sign, by: &str, second: i64) -> Option<Turn> {
        breaker.settle(&sign, (by, &ThreadId::new("t").unwrap()), at(second), RULE)
    }

    fn ask(breaker: &mut Breaker, by: &str, second: i64) -> Pass {
        breaker.ask(RULE, by, at(second), None).0
    }

    #[test]
    fn three_failures_open_it_and_one_probe_decides() {
        let mut breaker = Breaker::default();
        assert_eq!((fail(&mut breaker, "a", 0), fail(&mut breaker, "b", 1)), (None, None));
        assert_eq!(ask(&mut breaker, "c", 1), Pass::Yes);
        assert_eq!(fail(&mut breaker, "c", 2), Some(Turn::Opened));
        assert_eq!(fail(&mut breaker, "late", 3), None, "it is open already");
        assert_eq!(ask(&mut breaker, "d", 3), Pass::No { until: at(62) });
        assert_eq!(breaker.ask(RULE, "d", at(62), None), (Pass::Probe, Some(Turn::HalfOpened)));
        assert_eq!(ask(&mut breaker, "e", 63), Pass::No { until: at(122) }, "one probe at a time");
        assert_eq!(breaker.ask(RULE, "d", at(64), None), (Pass::Probe, None), "its holder may ask again");
        assert_eq!(fail(&mut breaker, "d", 64), Some(Turn::Opened), "a failed probe opens it again");
        assert_eq!(ask(&mut breaker, "e", 123), Pass::No { until: at(124) });
        assert_eq!(ask(&mut breaker, "e", 124), Pass::Probe);
        assert_eq!(end(&mut breaker, Sign::Success, "e", 125), Some(Turn::Closed));
        assert_eq!((ask(&mut breaker, "f", 126), breaker), (Pass::Yes, Breaker::default()));
    }

    #[test]
    fn a_success_in_between_starts_the_count_anew() {
        let mut breaker = Breaker::default();
        fail(&mut breaker, "a", 0);
        fail(&mut breaker, "a", 1);
        assert_eq!(end(&mut breaker, Sign::Success, "a", 2), None);
        assert_eq!(fail(&mut breaker, "a", 3), None);
    }

    #[test]
    fn a_probe_that_never_came_back_is_free_after_another_cooldown() {
        let mut breaker = Breaker { failures: 3, opened_at: Some(at(0)), ..Breaker::default() };
        assert_eq!(ask(&mut breaker, "dead", 60), Pass::Probe);
        assert_eq!(ask(&mut breaker, "b", 119), Pass::No { until: at(120) });
        assert_eq!(ask(&mut breaker, "b", 120), Pass::Probe);
        assert_eq!(end(&mut breaker, Sign::Nothing, "b", 121), None);
        assert_eq!(ask(&mut breaker, "c", 121), Pass::Probe, "a probe that showed nothing is given back");
    }

    #[test]
    fn a_person_tries_or_resets_before_the_cooldown_is_over() {
        let open = Breaker { failures: 3, opened_at: Some(at(0)), ..Breaker::default() };
        let (mut tried, mut reset) = (open.clone(), open);
        assert_eq!(tried.ask(RULE, "a", at(1), Some(Press::Try)), (Pass::Probe, Some(Turn::HalfOpened)));
        assert!(tried.opened_at.is_some());
        assert_eq!(reset.ask(RULE, "a", at(1), Some(Press::Reset)), (Pass::Yes, Some(Turn::Closed)));
        assert_eq!(reset, Breaker::default());
    }

    #[test]
    fn refusals_of_interlocks_are_no_failures_of_the_other_side() {
        use ErrorClass::*;
        for (class, call, task) in [
            (Denied, false, false),
            (Limit, false, false),
            (Invalid, false, true),
            (NotFound, false, true),
            (RateLimited, true, true),
            (Timeout, true, true),
            (Permanent, true, true),
        ] {
            let fails = |whole| matches!(sign_of(class, "m", whole), Sign::Failure(_));
            assert_eq!((fails(false), fails(true)), (call, task), "{class:?}");
        }
    }
}
