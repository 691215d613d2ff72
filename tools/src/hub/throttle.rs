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
        let mut breaker = self.breaker.lock();
        let left = breaker.open_until?.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            return Some(left);
        }
        if breaker.probing {
            return Some(BREAKER_PAUSE);
        }
        breaker.probing = true;
        None
    }

    /// Takes in how a call ended. Only failures of the server count: a refused argument says that it works.
    pub(super) fn ended(&self, error: Option<&ToolError>) {
        let mut breaker = self.breaker.lock();
        match error.map(|error| error.class) {
            Some(
                ToolErrorClass::Timeout
                | ToolErrorClass::Unavailable
                | ToolErrorClass::OutcomeUnknown
                | ToolErrorClass::Protocol
                | ToolErrorClass::Transient,
            ) => {
                breaker.failures = breaker.failures.saturating_add(1);
                if breaker.failures >= self.failures_max {
                    breaker.open_until = Some(Instant::now() + BREAKER_PAUSE);
                }
                breaker.probing = false;
            }
            // Says nothing about the server; the next call may find out.
            Some(ToolErrorClass::Cancelled) => breaker.probing = false,
            _ => *breaker = Breaker::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(class: ToolErrorClass) -> ToolError {
        ToolError::server(class, "s", "x")
    }

    #[tokio::test(start_paused = true)]
    async fn failures_in_a_row_open_it_and_one_success_closes_it() {
        let throttle = Throttle::new(None, 2);
        throttle.ended(Some(&error(ToolErrorClass::Timeout)));
        throttle.ended(Some(&error(ToolErrorClass::Invalid)));
        throttle.ended(Some(&error(ToolErrorClass::Timeout)));
        assert_eq!(throttle.refuses(), None, "a refused argument between two failures ends the row");
        throttle.ended(Some(&error(ToolErrorClass::Unavailable)));
        assert_eq!(throttle.refuses(), Some(BREAKER_PAUSE));
        tokio::time::advance(BREAKER_PAUSE).await;
        assert_eq!(throttle.refuses(), None, "one call finds out");
        assert!(throttle.refuses().is_some(), "and only one");
        throttle.ended(None);
        assert_eq!(throttle.refuses(), None);
    }

    #[tokio::test]
    async fn a_minute_has_so_many_calls() {
        let throttle = Throttle::new(NonZeroU32::new(2), 5);
        let soon = Instant::now() + Duration::from_secs(1);
        assert!(throttle.turn(soon).await && throttle.turn(soon).await);
        assert!(!throttle.turn(soon).await, "the next turn is half a minute away");
    }
}
