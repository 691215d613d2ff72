//! Requests and tokens a minute of one provider. Tokens are reserved before a call and put right after it.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::state::direct::NotKeyed;
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

use crate::error::{ErrorClass, Fault, Spent};

/// Longest wait for room; who would wait longer is sent to another provider.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Minutes' worth that a call may be charged beyond its reservation: a provider may report any number.
const DEBT_MINUTES_MAX: u64 = 10;
/// Nanoseconds in a minute.
const MINUTE_NS: u64 = 60_000_000_000;

/// What may be asked of a provider in a minute.
#[derive(Debug, Default)]
pub struct Limits {
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    limiter: RateLimiter<NotKeyed, Arrival, TokioClock, NoOpMiddleware<Nanos>>,
    arrival: Arrival,
    per_minute: NonZeroU32,
}

impl Limits {
    /// Limits a minute; none is no limit.
    pub fn new(requests_per_minute: Option<NonZeroU32>, tokens_per_minute: Option<NonZeroU32>) -> Self {
        Self { requests: requests_per_minute.map(Bucket::new), tokens: tokens_per_minute.map(Bucket::new) }
    }

    /// Waits until one more request may be made.
    pub(crate) async fn admit_request(&self) -> Result<(), Fault> {
        match &self.requests {
            Some(bucket) => bucket.admit(1).await.map_err(|wait| full("requests", wait)),
            None => Ok(()),
        }
    }

    /// Waits until so many tokens may be used; a call larger than a minute's worth waits for a whole minute's.
    pub(crate) async fn admit_tokens(&self, tokens: u64) -> Result<(), Fault> {
        match &self.tokens {
            Some(bucket) => bucket.admit(tokens).await.map_err(|wait| full("tokens", wait)),
            None => Ok(()),
        }
    }

    /// A call for which `reserved` tokens were admitted took `used`.
    pub(crate) fn settle_tokens(&self, reserved: u64, used: u64) {
        if let Some(bucket) = &self.tokens {
            bucket.shift(bucket.held(reserved), used);
        }
    }
}

fn full(what: &str, wait: Duration) -> Fault {
    let text = format!("the configured {what}_per_minute are used up");
    let mut fault = Fault::new(ErrorClass::RateLimited, Spent::Nothing, text);
    fault.retry_after = Some(wait);
    fault
}

impl Bucket {
    fn new(per_minute: NonZeroU32) -> Self {
        let arrival = Arrival::default();
        let clock = TokioClock { start: Instant::now() };
        let limiter = RateLimiter::new(Quota::per_minute(per_minute), arrival.clone(), clock);
        Self { limiter, arrival, per_minute }
    }

    /// What a reservation really took: never more than the bucket holds.
    fn held(&self, n: u64) -> u64 {
        n.min(u64::from(self.per_minute.get()))
    }

    async fn admit(&self, n: u64) -> Result<(), Duration> {
        let held = u32::try_from(self.held(n)).unwrap_or(u32::MAX);
        let Some(held) = NonZeroU32::new(held) else { return Ok(()) };
        let begun = Instant::now();
        // Bounded by `WAIT_MAX`: every turn waits for the time that is missing.
        loop {
            let Ok(Err(until)) = self.limiter.check_n(held) else { return Ok(()) };
            let wait = until.wait_time_from(self.limiter.clock().now());
            if begun.elapsed() + wait > WAIT_MAX {
                return Err(wait);
            }
            tokio::time::sleep(wait.max(Duration::from_millis(1))).await;
        }
    }

    /// The arrival time moves by what was reserved too much, or too little.
    fn shift(&self, held: u64, used: u64) {
        let per_minute = u64::from(self.per_minute.get());
        let cell = MINUTE_NS / per_minute;
        let used = used.min(held + per_minute * DEBT_MINUTES_MAX);
        let moved = |time: u64| match used.checked_sub(held) {
            Some(more) => time.saturating_add(more.saturating_mul(cell)),
            None => time.saturating_sub((held - used).saturating_mul(cell)),
        };
        let done = self.arrival.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |time| Some(moved(time)));
        debug_assert!(done.is_ok(), "the update never refuses");
    }
}

/// The theoretical arrival time of the next cell, in nanoseconds since the bucket was made; 0 is none yet.
#[derive(Debug, Clone, Default)]
struct Arrival(Arc<AtomicU64>);

impl StateStore for Arrival {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _key: &NotKeyed, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut seen = self.0.load(Ordering::Acquire);
        // Ends when no other caller came between reading and writing.
        loop {
            let (outcome, next) = decide((seen != 0).then(|| Nanos::new(seen)))?;
            match self.0.compare_exchange_weak(seen, next.as_u64(), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(outcome),
                Err(now) => seen = now,
            }
        }
    }
}

/// The clock of tokio, so that a paused clock pauses the limits as well.
#[derive(Debug, Clone)]
struct TokioClock {
    start: Instant,
}

impl Clock for TokioClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::new(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(requests: u32, tokens: u32) -> Limits {
        Limits::new(NonZeroU32::new(requests), NonZeroU32::new(tokens))
    }

    #[tokio::test(start_paused = true)]
    async fn requests_beyond_a_minutes_worth_wait() {
        let limits = limits(60, 0);
        let begun = Instant::now();
        for _ in 0..60 {
            limits.admit_request().await.unwrap();
        }
        assert!(begun.elapsed() < Duration::from_millis(1), "a minute's worth goes at once");
        limits.admit_request().await.unwrap();
        assert!((900..1100).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_reserved_too_much_comes_back_and_too_little_is_paid() {
        let limits = limits(0, 60_000);
        limits.admit_tokens(60_000).await.unwrap();
        limits.settle_tokens(60_000, 40_000);
        let begun = Instant::now();
        limits.admit_tokens(20_000).await.unwrap();
        assert!(begun.elapsed() < Duration::from_millis(5), "20,000 tokens came back");
        limits.settle_tokens(20_000, 25_000);
        limits.admit_tokens(1).await.unwrap();
        let waited = begun.elapsed().as_millis();
        assert!((4900..5200).contains(&waited), "5,000 tokens more than reserved take five seconds, not {waited} ms");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_the_bound() {
        let limits = limits(0, 60);
        limits.admit_tokens(1_000_000).await.unwrap();
        limits.settle_tokens(1_000_000, 1_000_000);
        let fault = limits.admit_tokens(60).await.unwrap_err();
        assert_eq!((fault.class, fault.spent), (ErrorClass::RateLimited, Spent::Nothing));
        assert!(fault.retry_after.unwrap() > WAIT_MAX);
        limits.settle_tokens(60, u64::MAX);
        assert!(limits.admit_tokens(60).await.unwrap_err().retry_after.unwrap() < Duration::from_secs(3600));
    }
}
