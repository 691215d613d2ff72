//! Lengths of time as people write them: `500ms`, `30s`, `1h30m`.

use std::time::Duration;

/// The longest length of time a graph may name: ten years.
const SECONDS_MAX: u64 = 10 * 366 * 24 * 60 * 60;

/// What is wrong with a written length of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DurationError {
    /// Not numbers with units.
    Form,
    /// A unit that is not known.
    Unit,
    /// Longer than ten years.
    TooLong,
}

/// Parses one or more numbers with units: `ms`, `s`, `m`, `h`, `d`, `w`.
pub(crate) fn parse(text: &str) -> Result<Duration, DurationError> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(DurationError::Form);
    }
    let mut total = 0f64;
    while !rest.is_empty() {
        let n_number = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).ok_or(DurationError::Unit)?;
        let (number, tail) = rest.split_at(n_number);
        let number: f64 = number.parse().map_err(|_| DurationError::Form)?;
        let tail = tail.trim_start();
        let n_unit = tail.find(|c: char| !c.is_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(n_unit);
        total += number * seconds(unit).ok_or(DurationError::Unit)?;
        rest = tail.trim_start();
    }
    if total > SECONDS_MAX as f64 {
        return Err(DurationError::TooLong);
    }
    Duration::try_from_secs_f64(total).map_err(|_| DurationError::Form)
}

fn seconds(unit: &str) -> Option<f64> {
    Some(match unit {
        "ms" => 0.001,
        "s" | "sec" | "second" | "seconds" => 1.0,
        "m" | "min" | "minute" | "minutes" => 60.0,
        "h" | "hour" | "hours" => 3_600.0,
        "d" | "day" | "days" => 86_400.0,
        "w" | "week" | "weeks" => 604_800.0,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let ms = |text: &str| parse(text).map(|duration| duration.as_millis());
        assert_eq!(ms("500ms"), Ok(500));
        assert_eq!(ms("30s"), Ok(30_000));
        assert_eq!(ms("1h30m"), Ok(5_400_000));
        assert_eq!(ms("1h 30m"), Ok(5_400_000));
        assert_eq!(ms("1.5 s"), Ok(1_500));
        assert_eq!(ms("0s"), Ok(0));
        assert_eq!(ms("30"), Err(DurationError::Unit));
        assert_eq!(ms("5 parsecs"), Err(DurationError::Unit));
        assert_eq!(ms("soon"), Err(DurationError::Form));
        assert_eq!(ms("-3s"), Err(DurationError::Form));
        assert_eq!(ms("99999w"), Err(DurationError::TooLong));
        assert_eq!(ms(""), Err(DurationError::Form));
        assert_eq!(ms("1.2.3s"), Err(DurationError::Form));
    }
}
