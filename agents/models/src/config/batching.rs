//! `models.batches`: how long requests wait for others, how many go out together, how often a batch is looked at.

use std::time::Duration;

use serde::Deserialize;

use super::cache::{duration, number};

/// How long the first request waits for others, unless said otherwise.
const WINDOW_DEFAULT: Duration = Duration::from_secs(10);
/// Longest wait for others: it is spent within a call.
const WINDOW_MAX: Duration = Duration::from_secs(60);
/// Requests that go out together, unless said otherwise.
const SIZE_DEFAULT: usize = 100;
/// Most requests that go out together: each of them reads all answers of its batch.
const SIZE_MAX: usize = 1_000;
/// The pause between two looks, unless said otherwise.
const LOOK_DEFAULT: Duration = Duration::from_secs(30);
/// The shortest pause.
const LOOK_MIN: Duration = Duration::from_secs(1);
/// The longest pause.
const LOOK_MAX: Duration = Duration::from_secs(600);

/// How requests are collected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchingConfig {
    /// How long the first request waits for others: `10s`.
    #[serde(default)]
    pub window: Option<String>,
    /// Requests that go out together at most.
    #[serde(default)]
    pub size: Option<usize>,
    /// The pause between two looks at a batch: `30s`.
    #[serde(default)]
    pub look: Option<String>,
}

/// How requests are collected and followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batching {
    /// How long the first request waits for others.
    pub window: Duration,
    /// Requests that go out together at most.
    pub size: usize,
    /// The pause between two looks at a batch.
    pub look: Duration,
}

impl Default for Batching {
    fn default() -> Self {
        Self { window: WINDOW_DEFAULT, size: SIZE_DEFAULT, look: LOOK_DEFAULT }
    }
}

impl BatchingConfig {
    /// The bounds that are meant.
    ///
    /// # Errors
    /// Everything that is wrong, each with its place and what is possible.
    pub fn bounds(&self) -> Result<Batching, Vec<String>> {
        let mut problems = Vec::new();
        let mut time = |key: &str, text: &Option<String>, default: Duration, (least, most): (Duration, Duration)| {
            let Some(text) = text else { return default };
            let found = duration(text).and_then(|time| Duration::try_from(time).ok());
            found.filter(|time| (least..=most).contains(time)).unwrap_or_else(|| {
                problems.push(format!("{key}: `{text}` is not possible, {least:?} to {most:?} are"));
                default
            })
        };
        let window = time("window", &self.window, WINDOW_DEFAULT, (Duration::ZERO, WINDOW_MAX));
        let look = time("look", &self.look, LOOK_DEFAULT, (LOOK_MIN, LOOK_MAX));
        let size = number("size", self.size.unwrap_or(SIZE_DEFAULT), SIZE_MAX).unwrap_or_else(|problem| {
            problems.push(problem);
            SIZE_DEFAULT
        });
        if problems.is_empty() { Ok(Batching { window, size, look }) } else { Err(problems) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_has_its_default_and_what_cannot_be_is_named() {
        assert_eq!(BatchingConfig::default().bounds(), Ok(Batching::default()));
        let config = |window: &str, size, look: &str| BatchingConfig {
            window: Some(window.to_owned()),
            size: Some(size),
            look: Some(look.to_owned()),
        };
        let minute = config("1m", 7, "2m").bounds().unwrap();
        assert_eq!((minute.window.as_secs(), minute.size, minute.look.as_secs()), (60, 7, 120));
        let problems = config("2m", 0, "never").bounds().unwrap_err();
        let starts = ["window: `2m` is not possible", "look: `never` is not possible", "size: 0 is not possible"];
        assert!(
            problems.len() == 3 && problems.iter().zip(starts).all(|(said, start)| said.starts_with(start)),
            "{problems:?}"
        );
    }
}
