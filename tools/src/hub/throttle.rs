//! How often a server is called: at most so many times a minute, and not at all for a while after failing in a row.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::error::{ToolError, ToolErrorClass};
use super::limits::BREAKER_PAUSE;

/// The brakes of one server.
pub(super) struct Throttle {
    limiter: Option<DefaultDirectRateLimiter>,
    breaker: Mutex<Breaker>,
    failures_max: u32,
}

#[derive(Debug, Default)]
struct Breaker {
    failures: u32,
    open_until: Option<Instant>,
    /// The one call that finds out whether the server is back.
    probing: bool,
}

impl Throttle {
    pub(super) fn new(calls_per_minute: Option<NonZeroU32>, failures_max: u32) -> Self {
        let limiter = calls_per_minute.map(|number| RateLimiter::direct(Quota::per_minute(number)));
        Self { limiter, breaker: Mutex::default(), failures_max }
    }

    /// Waits for a turn; `false` if there is none before `until`. The library's own waiting does not follow our clock.
    pub(super) async fn turn(&self, until: Instant) -> bool {
        let Some(limiter) = &self.limiter else { return true };
        while let Err(not_yet) = limiter.check() {
            let pause = not_yet.wait_time_from(DefaultClock::default().now());
            if Instant::now() + pause > until {
                return false;
            }
            tokio::time::sleep(pause).await;
        }
        true
    }

    /// How long calls are still refused, if they are.
    pub(super) fn refuses(&self) -> Option<Duration> {
        self.breaker.lock().refuses(Instant::now())
    }

    /// Takes in how a call ended.
    pub(super) fn ended(&self, error: Option<&ToolError>) {
        self.breaker.lock().ended(error.map(|error| error.class), self.failures_max, Instant::now());
    }
}

impl Breaker {
    fn refuses(&mut self, now: Instant) -> Option<Duration> {
        let left = self.open_until?.saturating_duration_since(now);
        if !left.is_zero() {
            return Some(left);
        }
        if self.probing {
            return Some(BREAKER_PAUSE);
        }
        self.probing = true;
        None
    }

    /// Only failures of the server count: a refused argument says that it works.
    fn ended(&mut self, failure: Option<ToolErrorClass>, failures_max: u32, now: Instant) {
        match failure {
            Some(
                ToolErrorClass::Timeout
                | ToolErrorClass::Unavailable
                | ToolErrorClass::OutcomeUnknown
                | ToolErrorClass::Protocol
                | ToolErrorClass::Transient,
            ) => {
                self.failures = self.failures.saturating_add(1);
                if self.failures >= failures_max {
                    self.open_until = Some(now + BREAKER_PAUSE);
                }
                self.probing = false;
            }
            // Says nothing about the server; the next call may find out.
            Some(ToolErrorClass::Cancelled) => self.probing = false,
            _ => *self = Self::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_open_it_and_one_success_closes_it() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        for class in [ToolErrorClass::Timeout, ToolErrorClass::Invalid, ToolErrorClass::Timeout] {
            breaker.ended(Some(class), 2, now);
        }
        assert_eq!(breaker.refuses(now), None, "a refused argument between two failures ends the row");
        breaker.ended(Some(ToolErrorClass::Unavailable), 2, now);
        assert_eq!(breaker.refuses(now), Some(BREAKER_PAUSE));
        let later = now + BREAKER_PAUSE;
        assert_eq!(breaker.refuses(later), None, "one call finds out");
        assert!(breaker.refuses(later).is_some(), "and only one");
        breaker.ended(None, 2, later);
        assert_eq!(breaker.refuses(later), None);
    }

    #[tokio::test]
    async fn a_minute_has_so_many_calls() {
        let throttle = Throttle::new(NonZeroU32::new(2), 5);
        let soon = Instant::now() + Duration::from_secs(1);
        assert!(throttle.turn(soon).await && throttle.turn(soon).await);
        assert!(!throttle.turn(soon).await, "the next turn is half a minute away");
    }
}
