//! Filters on text, numbers and JSON.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::duration;
use crate::expr::filters::{Filtered, own, text, wants};
use crate::expr::value::{Given, Work, from_f64, from_integer};

pub(super) fn text_filter<'e>(work: &Work, value: &Value, change: fn(&str) -> String) -> Filtered<'e> {
    let text = text(value)?;
    work.spend_bytes(text.len())?;
    own(change(text))
}

pub(super) fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(chars.flat_map(char::to_lowercase)).collect())
}

pub(super) fn titled(text: &str) -> String {
    let mut starts = true;
    let mut titled = String::with_capacity(text.len());
    for c in text.chars() {
        if starts {
            titled.extend(c.to_uppercase());
        } else {
            titled.extend(c.to_lowercase());
        }
        starts = !c.is_alphanumeric();
    }
    titled
}

pub(super) fn absolute<'e>(value: &Value) -> Filtered<'e> {
    match (value.as_i64(), value.as_f64()) {
        (Some(integer), _) => from_integer(i128::from(integer).abs()).map(Cow::Owned),
        (None, Some(_)) if value.is_u64() => own(value.clone()),
        (None, Some(float)) => from_f64(float.abs()).map(Cow::Owned),
        (None, None) => wants("a number", value),
    }
}

pub(super) fn to_float<'e>(value: &Value) -> Filtered<'e> {
    let float = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        Value::Bool(flag) => Some(f64::from(u8::from(*flag))),
        _ => None,
    };
    float.map_or_else(|| wants("a number", value), |float| from_f64(float).map(Cow::Owned))
}

pub(super) fn to_int<'e>(value: &Value) -> Filtered<'e> {
    if value.is_i64() || value.is_u64() {
        return own(value.clone());
    }
    if let Some(integer) = value.as_str().and_then(|text| text.trim().parse::<i64>().ok()) {
        return own(integer);
    }
    let float = to_float(value)?.as_f64().unwrap_or(f64::NAN).trunc();
    // Converting saturates; 2^127 is far outside of what `from_integer` lets pass.
    from_integer(float as i128).map(Cow::Owned)
}

pub(super) fn round<'e>(_: &Work, value: Cow<'e, Value>, given: Given<'e>) -> Filtered<'e> {
    let precision = given.integer(0)?.unwrap_or(0);
    if value.is_i64() || value.is_u64() {
        return Ok(value);
    }
    let Some(float) = value.as_f64() else { return wants("a number", &value) };
    let scale = 10f64.powi(i32::try_from(precision.clamp(-300, 300)).unwrap_or(0));
    let rounded = (float * scale).round() / scale;
    from_f64(if rounded.is_finite() { rounded } else { float }).map(Cow::Owned)
}

pub(super) fn replace<'e>(work: &Work, value: Cow<'e, Value>, given: Given<'e>) -> Filtered<'e> {
    let text = text(&value)?;
    let (from, to) = (given.text(0)?.unwrap_or(""), given.text(1)?.unwrap_or(""));
    work.spend_bytes(text.len())?;
    let n_found = text.matches(from).count();
    work.spend_bytes(text.len().saturating_add(n_found.saturating_mul(to.len())))?;
    own(text.replace(from, to))
}

pub(super) fn pieces<'e>(work: &Work, value: &Value, cut: impl Fn(&str) -> Vec<&str>) -> Filtered<'e> {
    let text = text(value)?;
    work.spend(text.len() as u64)?;
    own(cut(text).into_iter().map(str::to_owned).collect::<Vec<_>>())
}

pub(super) fn split<'e>(work: &Work, value: Cow<'e, Value>, given: Given<'e>) -> Filtered<'e> {
    match given.text(0)? {
        Some("") => Err("the separator must not be empty".to_owned()),
        Some(separator) => pieces(work, &value, |text| text.split(separator).collect()),
        None => pieces(work, &value, |text| text.split_whitespace().collect()),
    }
}

pub(super) fn trim<'e>(work: &Work, value: Cow<'e, Value>, given: Given<'e>) -> Filtered<'e> {
    let text = text(&value)?;
    work.spend_bytes(text.len())?;
    match given.text(0)? {
        None => own(text.trim()),
        Some(chars) => {
            work.spend((text.len() as u64).saturating_mul(chars.len() as u64))?;
            own(text.trim_matches(|c| chars.contains(c)))
        }
    }
}

pub(super) fn truncate<'e>(work: &Work, value: Cow<'e, Value>, given: Given<'e>) -> Filtered<'e> {
    let text = text(&value)?;
    work.spend_bytes(text.len())?;
    let n_chars = usize::try_from(given.integer(0)?.unwrap_or(0)).map_err(|_| "the length must not be negative")?;
    match text.char_indices().nth(n_chars) {
        None => own(text),
        Some((cut, _)) => own(format!("{}…", text.get(..cut).unwrap_or(""))),
    }
}

pub(super) fn indent<'e>(work: &Work, value: Cow<'e, Value>, given: Given<'e>) -> Filtered<'e> {
    let text = text(&value)?;
    let width = usize::try_from(given.integer(0)?.unwrap_or(0)).map_err(|_| "the width must not be negative")?;
    work.spend_bytes(text.len().saturating_add(width.saturating_mul(text.lines().count())))?;
    own(text.replace('\n', &format!("\n{}", " ".repeat(width))))
}

/// How alike two texts are, between 0 and 1: twice the pairs of neighbouring letters they share, over all pairs of both. Case
/// and what is neither letter nor digit do not count.
pub(super) fn similarity<'e>(work: &Work, value: Cow<'e, Value>, given: Given<'e>) -> Filtered<'e> {
    let (one, other) = (text(&value)?, given.text(0)?.unwrap_or(""));
    work.spend_bytes(one.len().saturating_add(other.len()).saturating_mul(4))?;
    let letters = |text: &str| -> Vec<char> {
        text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
    };
    let (one, other) = (letters(one), letters(other));
    if one == other {
        return own(if one.is_empty() { 0 } else { 1 });
    }
    let mut left: BTreeMap<&[char], usize> = BTreeMap::new();
    one.windows(2).for_each(|pair| *left.entry(pair).or_default() += 1);
    let mut n_shared = 0u32;
    for pair in other.windows(2) {
        if let Some(n) = left.get_mut(pair).filter(|n| **n > 0) {
            *n -= 1;
            n_shared += 1;
        }
    }
    let n_pairs = one.len().saturating_sub(1) + other.len().saturating_sub(1);
    let share = f64::from(n_shared) * 2.0 / n_pairs.max(1) as f64;
    from_f64((share * 1000.0).round() / 1000.0).map(Cow::Owned)
}

/// A moment moved by a length of time: `now | shift('4h')`, `now | shift('-1d')`. In UTC, to the second.
pub(super) fn shift<'e>(work: &Work, value: Cow<'e, Value>, given: Given<'e>) -> Filtered<'e> {
    let (moment, by) = (text(&value)?, given.text(0)?.unwrap_or(""));
    work.spend_bytes(moment.len().saturating_add(by.len()))?;
    let moment: jiff::Timestamp = moment.trim().parse().map_err(|_| "needs a moment such as 2026-01-31T06:00:00Z")?;
    let (is_back, length) = by.strip_prefix('-').map_or((false, by), |length| (true, length));
    let length = duration::parse(length).map_err(|_| "the length is written like 4h, 1h30m or -1d")?;
    let moved = if is_back { moment.checked_sub(length) } else { moment.checked_add(length) };
    let moved = moved.map_err(|_| "the moment is out of range")?;
    own(moved.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

pub(super) fn to_json<'e>(work: &Work, value: Cow<'e, Value>, given: Given<'e>) -> Filtered<'e> {
    work.spend_value(&value)?;
    let written = match given.get(0) {
        None | Some(Value::Bool(false) | Value::Null) => serde_json::to_string(&value),
        Some(_) => serde_json::to_string_pretty(&value),
    };
    written.map_or_else(|error| Err(error.to_string()), own)
}

pub(super) fn from_json<'e>(work: &Work, value: Cow<'e, Value>, _: Given<'e>) -> Filtered<'e> {
    let text = text(&value)?;
    work.spend(text.len() as u64)?;
    serde_json::from_str::<Value>(text).map(Cow::Owned).map_err(|error| format!("not JSON: {error}"))
}

pub(super) fn digest<'e>(work: &Work, value: Cow<'e, Value>, _: Given<'e>) -> Filtered<'e> {
    work.spend_value(&value)?;
    let canonical = crate::digest::canonical(&value);
    own(crate::hex_form::digits(Sha256::digest(canonical.as_bytes())))
}
