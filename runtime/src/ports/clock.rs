//! Time and chance as the engine receives them.

use async_trait::async_trait;
use runtime_core::ids::Timestamp;

/// Wall clock and sleep. Tests hand in their own.
#[async_trait]
pub trait Clock: Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Timestamp;
    /// Returns at or after `at`.
    async fn sleep_until(&self, at: Timestamp);
}

/// Random numbers for ids and jitter.
pub trait Entropy: Send + Sync + 'static {
    /// 128 random bits.
    fn bits(&self) -> u128;
}

/// The system's clock on tokio's timer.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp(jiff::Timestamp::now().as_microsecond())
    }

    async fn sleep_until(&self, at: Timestamp) {
        tokio::time::sleep(at.since(self.now())).await;
    }
}

/// Random bits from the hasher keys of the standard library, which come from the system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn bits(&self) -> u128 {
        use std::hash::{BuildHasher, Hasher};
        let draw = || u128::from(std::collections::hash_map::RandomState::new().build_hasher().finish());
        (draw() << 64) | draw()
    }
}
