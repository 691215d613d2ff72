//! Breaker: opens after failures in a row, half-opens after a cooldown, closed by a success or a person.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::Timestamp;

/// A breaker's record, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Breaker {
    /// Failures in a row.
    pub failures: u32,
    /// When it opened; `None` while closed.
    pub opened_at: Option<Timestamp>,
    /// A probe is under way.
    pub probing: bool,
}

/// Whether a call may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// Closed: go on.
    Yes,
    /// Half-open: this call is the probe.
    Probe,
    /// Open until this time.
    No { until: Timestamp },
}

impl Breaker {
    /// Asks to pass; marks the probe.
    pub fn ask(&mut self, now: Timestamp, cooldown: Duration) -> Pass {
        let Some(opened_at) = self.opened_at else { return Pass::Yes };
        let until = opened_at.plus(cooldown);
        if now < until || self.probing {
            return Pass::No { until };
        }
        self.probing = true;
        Pass::Probe
    }

    /// Records an outcome; returns whether the breaker opened by it.
    pub fn settle(&mut self, ok: bool, now: Timestamp, limit: u32) -> bool {
        if ok {
            *self = Self::default();
            return false;
        }
        self.failures = self.failures.saturating_add(1);
        let opens = self.probing || (self.opened_at.is_none() && self.failures >= limit.max(1));
        if opens {
            self.opened_at = Some(now);
            self.probing = false;
        }
        opens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COOLDOWN: Duration = Duration::from_secs(60);

    fn at(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1_000_000)
    }

    #[test]
    fn three_failures_open_it_and_one_probe_decides() {
        let mut breaker = Breaker::default();
        assert!(!breaker.settle(false, at(0), 3) && !breaker.settle(false, at(1), 3));
        assert_eq!(breaker.ask(at(1), COOLDOWN), Pass::Yes);
        assert!(breaker.settle(false, at(2), 3));
        assert_eq!(breaker.ask(at(3), COOLDOWN), Pass::No { until: at(62) });
        assert_eq!(breaker.ask(at(62), COOLDOWN), Pass::Probe);
        assert_eq!(breaker.ask(at(63), COOLDOWN), Pass::No { until: at(62) }, "one probe at a time");
        assert!(breaker.settle(false, at(64), 3), "a failed probe opens it again");
        assert_eq!(breaker.ask(at(124), COOLDOWN), Pass::Probe);
        breaker.settle(true, at(125), 3);
        assert_eq!(breaker.ask(at(126), COOLDOWN), Pass::Yes);
    }

    #[test]
    fn a_success_in_between_starts_the_count_anew() {
        let mut breaker = Breaker::default();
        breaker.settle(false, at(0), 3);
        breaker.settle(false, at(1), 3);
        breaker.settle(true, at(2), 3);
        assert!(!breaker.settle(false, at(3), 3));
    }
}
