//! A bucket of notifications: a server that sends more than its rate is cut off before it starves the replies.

use std::time::Instant;

/// Token bucket over messages nobody asked for.
#[derive(Debug)]
pub(super) struct FloodGate {
    level: f64,
    burst: f64,
    per_second: f64,
    last: Instant,
}

impl FloodGate {
    pub(super) fn new(burst: u32, per_second: u32, now: Instant) -> Self {
        Self { level: f64::from(burst), burst: f64::from(burst), per_second: f64::from(per_second), last: now }
    }

    /// Takes one message; `false` when the server has used up its share.
    pub(super) fn admit(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.last).as_secs_f64();
        self.last = now;
        self.level = (self.level + elapsed * self.per_second).min(self.burst);
        if self.level < 1.0 {
            return false;
        }
        self.level -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_passes_then_the_rate_holds() {
        let start = Instant::now();
        let mut gate = FloodGate::new(3, 2, start);
        assert_eq!(
            [gate.admit(start), gate.admit(start), gate.admit(start), gate.admit(start)],
            [true, true, true, false]
        );
        let later = start + Duration::from_secs(1);
        assert_eq!([gate.admit(later), gate.admit(later), gate.admit(later)], [true, true, false]);
        let much_later = later + Duration::from_secs(3600);
        assert_eq!((0..5).filter(|_| gate.admit(much_later)).count(), 3);
    }
}
