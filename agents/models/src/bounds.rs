//! How much and how long an answer may be.

use std::time::Duration;

/// Bounds of one call. Every one of them is an error with its name when it is passed, never a silent cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Most bytes of a whole answer, and of everything a stream brings.
    pub answer_bytes: usize,
    /// Most bytes of one event of a stream.
    pub event_bytes: usize,
    /// Longest silence within an answer that has begun.
    pub idle: Duration,
    /// Longest wait for a connection.
    pub connect: Duration,
    /// Longest time of one try, from the first byte sent to the last byte read.
    pub whole: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            answer_bytes: 16 * 1024 * 1024,
            event_bytes: 4 * 1024 * 1024,
            idle: Duration::from_secs(90),
            connect: Duration::from_secs(10),
            whole: Duration::from_secs(600),
        }
    }
}
