//! A declared object read key by key: an unknown key is named with the nearest right one.

use std::collections::BTreeSet;

use runtime_core::plan::nearest;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::estate::Rule;

/// Keys of an object that are still to be read.
pub(crate) struct Declared {
    place: String,
    keys: Map<String, Value>,
}

impl Declared {
    /// The keys of an object, all of which must be known.
    pub(crate) fn new(place: impl Into<String>, value: Value, known: &[&str]) -> Result<Self, String> {
        let place = place.into();
        let Value::Object(keys) = value else {
            return Err(format!("{place} is an object with the keys {}", known.join(", ")));
        };
        match keys.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(format!("{place} has no key `{key}`{}", nearest(key, known))),
            None => Ok(Self { place, keys }),
        }
    }

    /// The value of a key.
    pub(crate) fn take(&mut self, key: &str) -> Option<Value> {
        self.keys.remove(key).filter(|value| !value.is_null())
    }

    /// The value of a key that must be there.
    pub(crate) fn needed(&mut self, key: &str) -> Result<Value, String> {
        self.take(key).ok_or_else(|| format!("{} needs `{key}`", self.place))
    }

    /// An expression; a plain number is one too.
    pub(crate) fn rule(&mut self, key: &str) -> Result<Option<Rule>, String> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let text = match value {
            Value::String(text) => text,
            Value::Number(number) => number.to_string(),
            other => return Err(format!("`{key}` of {} is no expression: {other}", self.place)),
        };
        Rule::try_from(text).map(Some).map_err(|error| format!("`{key}` of {}: {error}", self.place))
    }

    /// An expression that must be there.
    pub(crate) fn needed_rule(&mut self, key: &str) -> Result<Rule, String> {
        self.rule(key)?.ok_or_else(|| format!("{} needs `{key}`, an expression over `row`", self.place))
    }

    /// A number above 0, or the default.
    pub(crate) fn positive(&mut self, key: &str, default: f64) -> Result<f64, String> {
        let Some(value) = self.take(key) else { return Ok(default) };
        let number = value.as_f64().filter(|number| number.is_finite() && *number > 0.0);
        number.ok_or_else(|| format!("`{key}` of {} is a number above 0, not {value}", self.place))
    }

    /// A number that may be 0, or 0.
    pub(crate) fn amount(&mut self, key: &str) -> Result<f64, String> {
        let Some(value) = self.take(key) else { return Ok(0.0) };
        let number = value.as_f64().filter(|number| number.is_finite() && *number >= 0.0);
        number.ok_or_else(|| format!("`{key}` of {} is a number from 0, not {value}", self.place))
    }

    /// A whole number within a range, or the default.
    pub(crate) fn count(&mut self, key: &str, default: usize, most: usize) -> Result<usize, String> {
        let Some(value) = self.take(key) else { return Ok(default) };
        let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
        let within = number.filter(|number| (1..=most).contains(number));
        within.ok_or_else(|| format!("`{key}` of {} is a whole number from 1 to {most}, not {value}", self.place))
    }

    /// One of some words, or the default.
    pub(crate) fn word<T: Copy>(&mut self, key: &str, words: &[(&str, T)], default: T) -> Result<T, String> {
        let Some(value) = self.take(key) else { return Ok(default) };
        let text = value.as_str().unwrap_or_default();
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning);
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        found.ok_or_else(|| format!("`{key}` of {} cannot be {value}{}", self.place, nearest(text, &names)))
    }

    /// A value of a type with a form of its own, or nothing.
    pub(crate) fn read<T: DeserializeOwned>(&mut self, key: &str) -> Result<Option<T>, String> {
        let Some(value) = self.take(key) else { return Ok(None) };
        serde_json::from_value(value).map(Some).map_err(|error| format!("`{key}` of {}: {error}", self.place))
    }

    /// Minutes east of UTC, written as `"+02:00"`.
    pub(crate) fn offset(&mut self) -> Result<i32, String> {
        let Some(value) = self.take("offset") else { return Ok(0) };
        let text = value.as_str().unwrap_or_default();
        let (sign, rest) = match text.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, text.strip_prefix('+').unwrap_or(text)),
        };
        let minutes = minutes_of(rest).and_then(|minutes| i32::try_from(minutes).ok());
        minutes
            .map(|minutes| sign * minutes)
            .ok_or_else(|| format!("`offset` of {} is written as \"+02:00\", not {value}", self.place))
    }
}

/// `HH:MM` as minutes, up to `24:00`.
pub(crate) fn minutes_of(text: &str) -> Option<i64> {
    let (hour, minute) = text.split_once(':')?;
    let number = |text: &str| text.parse::<i64>().ok().filter(|_| text.len() == 2);
    let (hour, minute) = (number(hour)?, number(minute)?);
    ((0..24).contains(&hour) && (0..60).contains(&minute) || (hour, minute) == (24, 0)).then_some(hour * 60 + minute)
}

/// Seconds since 1970 of a number, a time, or a date, which begins at midnight; without a zone in UTC.
pub(crate) fn seconds_of(value: &Value) -> Option<i64> {
    let text = match value {
        Value::Number(number) => return number.as_i64().or_else(|| number.as_f64().map(|seconds| seconds as i64)),
        Value::String(text) => text.trim(),
        _ => return None,
    };
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Some(at.as_second());
    }
    let civil = text.parse::<jiff::civil::DateTime>().ok()?;
    civil.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|at| at.timestamp().as_second())
}

/// Days since 1970 of dates.
pub(crate) fn days_of(dates: &[String]) -> Result<BTreeSet<i64>, String> {
    let day = |date: &String| {
        let is_date = date.parse::<jiff::civil::Date>().is_ok() && date.len() == 10;
        let seconds = seconds_of(&Value::from(date.as_str())).filter(|_| is_date);
        seconds
            .map(|at| at.div_euclid(detectors::calendar::DAY_S))
            .ok_or_else(|| format!("`{date}` is no date: write it as 2026-12-25"))
    };
    dates.iter().map(day).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_read_in_the_forms_that_warehouses_write() {
        let shown = [
            json!("1970-01-02"),
            json!("1970-01-01T01:00:00+01:00"),
            json!("1970-01-01 00:01:00"),
            json!(7),
            json!("soon"),
            Value::Null,
        ]
        .map(|value| seconds_of(&value));
        assert_eq!(shown, [Some(86_400), Some(0), Some(60), Some(7), None, None]);
        assert_eq!(
            ["00:00", "23:59", "24:00", "24:01", "7:00", "x"].map(minutes_of),
            [Some(0), Some(1439), Some(1440), None, None, None]
        );
        assert_eq!(days_of(&["1970-01-03".to_owned()]), Ok(BTreeSet::from([2])));
        assert!(days_of(&["3 January".to_owned()]).unwrap_err().contains("is no date"));
    }
}
