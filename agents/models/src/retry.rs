//! When to ask again: pure arithmetic over an attempt's number, the provider's wish and a drawn number.

use std::time::Duration;

use jiff::Timestamp;

/// How often and how long apart a provider is asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Most tries, the first included.
    pub tries_max: u32,
    /// The first pause is at most this long, each later one twice the one before.
    pub pause: Duration,
    /// No pause is longer. A provider that asks for more is not waited for.
    pub pause_max: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { tries_max: 4, pause: Duration::from_millis(500), pause_max: Duration::from_secs(30) }
    }
}

impl RetryPolicy {
    /// The pause before the next try, or none when there is none. `chance` is drawn from 0 to 1: full jitter, so that
    /// callers who failed together do not come back together.
    pub(crate) fn pause_after(&self, tries: u32, wish: Option<Duration>, chance: f64) -> Option<Duration> {
        if tries >= self.tries_max {
            return None;
        }
        let chance = chance.clamp(0.0, 1.0);
        let Some(wish) = wish else {
            let doubled = self.pause.saturating_mul(2_u32.saturating_pow(tries.saturating_sub(1)));
            return Some(doubled.min(self.pause_max).mul_f64(chance));
        };
        // Never before the provider's time; a little later each for itself.
        (wish <= self.pause_max).then(|| wish + self.pause.mul_f64(chance))
    }
}

/// What a provider asks to wait: `retry-after-ms`, or `retry-after` in seconds or as an HTTP date.
pub(crate) fn wish(millis: Option<&str>, retry_after: Option<&str>, now: Timestamp) -> Option<Duration> {
    let positive = |seconds: f64| Duration::try_from_secs_f64(seconds).ok();
    if let Some(millis) = millis.and_then(|text| text.trim().parse::<f64>().ok()) {
        return positive(millis / 1000.0);
    }
    let text = retry_after?.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        return positive(seconds);
    }
    let until = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Duration::try_from(until.duration_since(now)).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RetryPolicy =
        RetryPolicy { tries_max: 4, pause: Duration::from_secs(1), pause_max: Duration::from_secs(3) };

    #[test]
    fn pauses_double_up_to_the_cap_and_end() {
        let pauses: Vec<_> = (1..=4).map(|tries| POLICY.pause_after(tries, None, 1.0)).collect();
        let seconds = |n| Some(Duration::from_secs(n));
        assert_eq!(pauses, [seconds(1), seconds(2), seconds(3), None]);
        assert_eq!(POLICY.pause_after(2, None, 0.25), Some(Duration::from_millis(500)));
        assert_eq!(POLICY.pause_after(1, None, f64::NAN.max(0.0)), Some(Duration::ZERO));
    }

    #[test]
    fn the_providers_wish_is_a_floor_and_too_long_a_wish_ends_it() {
        let wish = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(POLICY.pause_after(1, wish(2), 0.5), Some(Duration::from_millis(2500)));
        assert_eq!(POLICY.pause_after(1, wish(4), 0.5), None);
    }

    #[test]
    fn every_form_of_retry_after_is_read() {
        let now: Timestamp = "2026-11-27T10:00:00Z".parse().unwrap();
        for (millis, text, expected) in [
            (None, Some("20"), Some(Duration::from_secs(20))),
            (None, Some(" 1.5 "), Some(Duration::from_millis(1500))),
            (Some("120"), Some("20"), Some(Duration::from_millis(120))),
            (None, Some("Fri, 27 Nov 2026 10:00:30 GMT"), Some(Duration::from_secs(30))),
            (None, Some("Fri, 27 Nov 2026 09:00:00 GMT"), Some(Duration::ZERO)),
            (None, Some("-5"), None),
            (None, Some("inf"), None),
            (None, Some("soon"), None),
            (None, None, None),
        ] {
            assert_eq!(wish(millis, text, now), expected, "{millis:?} {text:?}");
        }
    }
}
