//! `models.cache`: whether answers are given again, how long, and how many are kept.

use jiff::{SignedDuration, Span, SpanRelativeTo};
use serde::Deserialize;

use crate::cache::CacheBounds;

/// How long an answer is good, unless said otherwise.
const TTL_DEFAULT: SignedDuration = SignedDuration::from_hours(24 * 7);
/// An answer that is older than this is asked for anew, whatever is said.
const TTL_MAX: SignedDuration = SignedDuration::from_hours(24 * 90);
/// Answers, unless said otherwise.
const ENTRIES_DEFAULT: usize = 5_000;
/// Most answers.
const ENTRIES_MAX: usize = 100_000;
/// Bytes of all answers, unless said otherwise.
const BYTES_DEFAULT: usize = 64 * 1024 * 1024;
/// Most bytes of all answers.
const BYTES_MAX: usize = 1024 * 1024 * 1024;
/// Bytes of one answer, unless said otherwise: the longest answer of a conversation has half of it.
const ENTRY_BYTES_DEFAULT: usize = 16 * 1024;
/// Most bytes of one answer.
const ENTRY_BYTES_MAX: usize = 256 * 1024;

/// Answers that are given again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheConfig {
    /// How long an answer is good: `7d`, `12h`.
    #[serde(default)]
    pub ttl: Option<String>,
    /// Most answers.
    #[serde(default)]
    pub entries: Option<usize>,
    /// Most bytes of all answers.
    #[serde(default)]
    pub bytes: Option<usize>,
    /// Most bytes of one answer.
    #[serde(default)]
    pub entry_bytes: Option<usize>,
}

impl CacheConfig {
    /// The bounds that are meant.
    ///
    /// # Errors
    /// Everything that is wrong, each with its place and what is possible.
    pub fn bounds(&self) -> Result<CacheBounds, Vec<String>> {
        let mut problems = Vec::new();
        let mut within = |key: &str, value: Option<usize>, default: usize, most: usize| {
            number(key, value.unwrap_or(default), most).unwrap_or_else(|problem| {
                problems.push(problem);
                default
            })
        };
        let entries = within("entries", self.entries, ENTRIES_DEFAULT, ENTRIES_MAX);
        let bytes = within("bytes", self.bytes, BYTES_DEFAULT, BYTES_MAX);
        let entry_bytes = within("entry_bytes", self.entry_bytes, ENTRY_BYTES_DEFAULT.min(bytes), ENTRY_BYTES_MAX);
        if entry_bytes > bytes {
            problems.push(format!("entry_bytes: {entry_bytes} is more than all answers may have ({bytes})"));
        }
        let ttl = self.ttl.as_deref().map_or(Some(TTL_DEFAULT), duration);
        let ttl = ttl.filter(|ttl| *ttl > SignedDuration::ZERO && *ttl <= TTL_MAX).unwrap_or_else(|| {
            problems.push(format!(
                "ttl: `{}` is not possible: write a time up to 90 days, such as `7d` or `12h`",
                self.ttl.as_deref().unwrap_or_default()
            ));
            TTL_DEFAULT
        });
        if problems.is_empty() { Ok(CacheBounds { entries, bytes, entry_bytes, ttl }) } else { Err(problems) }
    }
}

/// A number from 1 to `most`.
pub(super) fn number(key: &str, value: usize, most: usize) -> Result<usize, String> {
    let fits = (1..=most).contains(&value);
    fits.then_some(value).ok_or_else(|| format!("{key}: {value} is not possible, 1 to {most} are"))
}

/// A time as people write it; a day has 24 hours.
pub(super) fn duration(text: &str) -> Option<SignedDuration> {
    text.parse::<Span>().ok()?.to_duration(SpanRelativeTo::days_are_24_hours()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_has_its_default_and_what_cannot_be_is_named() {
        let bounds = CacheConfig::default().bounds().unwrap();
        assert_eq!((bounds.entries, bounds.entry_bytes, bounds.ttl), (5_000, 16 * 1024, TTL_DEFAULT));
        let day = CacheConfig { ttl: Some("1d 12h".into()), ..CacheConfig::default() };
        assert_eq!(day.bounds().unwrap().ttl, SignedDuration::from_hours(36));
        let small = CacheConfig { bytes: Some(1000), ..CacheConfig::default() };
        assert_eq!(small.bounds().unwrap().entry_bytes, 1000);
        for (config, place) in [
            (CacheConfig { ttl: Some("soon".into()), ..CacheConfig::default() }, "ttl: `soon`"),
            (CacheConfig { ttl: Some("-1h".into()), ..CacheConfig::default() }, "ttl: `-1h`"),
            (CacheConfig { ttl: Some("91d".into()), ..CacheConfig::default() }, "ttl: `91d`"),
            (CacheConfig { entries: Some(0), ..CacheConfig::default() }, "entries: 0"),
            (CacheConfig { bytes: Some(usize::MAX), ..CacheConfig::default() }, "bytes: "),
            (CacheConfig { bytes: Some(10), entry_bytes: Some(11), ..CacheConfig::default() }, "entry_bytes: 11"),
        ] {
            let problems = config.bounds().unwrap_err().join("\n");
            assert!(problems.starts_with(place), "{problems}");
        }
    }
}
