//! The rows of a probe judged: one series for each pipeline and segment, its newest moment by those before it.

use std::collections::BTreeMap;

use detectors::adaptive::{self, MARKS_MAX, Mark};
use detectors::freshness::{self, Contract};
use detectors::seasonal::{self, SeasonalRule};
use detectors::{Counted, Finding, Limits, Point, Samples, Series, ShiftRule, Verdict, forest, iqr, kl, mad, psi};
use models::fingerprint;
use serde_json::{Map, Value};

use super::{Detect, Method};
use crate::declared::seconds_of;
use crate::estate::{Probe, Rule};

/// Most rows of one probe; a statistic of a part of them would be of something else.
pub(crate) const ROWS_MAX: usize = 20_000;
/// Most series of one probe.
const SERIES_MAX: usize = 500;
/// Most moments of a marked day that are judged again.
const MARKED_MOMENTS_MAX: usize = 50;
/// Seed of every forest: the same rows have the same score, in every round.
const FOREST_SEED: u64 = 2_008;

/// What a round knows beside the rows.
#[derive(Clone, Copy)]
pub(crate) struct Round<'a> {
    pub(crate) env: &'a str,
    /// Seconds since 1970, if anything told the time.
    pub(crate) now: Option<i64>,
    pub(crate) marks: &'a Marks,
}

/// What people said about incidents, by fingerprint: when, and whether they were real.
#[derive(Default)]
pub(crate) struct Marks(BTreeMap<String, Vec<(i64, Said)>>);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Said {
    FalseAlarm,
    Real,
}

impl Marks {
    /// Reads `{fingerprint, at}` lists; gives how many entries are none.
    pub(crate) fn read(false_alarms: &[Value], real: &[Value]) -> (Self, usize) {
        let entry = |value: &Value, said| {
            let fingerprint = value.get("fingerprint")?.as_str()?.to_owned();
            Some((seconds_of(value.get("at")?)?, fingerprint, said))
        };
        let alarms = false_alarms.iter().map(|value| entry(value, Said::FalseAlarm));
        let read: Vec<_> = alarms.chain(real.iter().map(|value| entry(value, Said::Real))).collect();
        let bad = read.iter().filter(|entry| entry.is_none()).count();
        let mut entries: Vec<_> = read.into_iter().flatten().collect();
        entries.sort();
        let mut marks = Self::default();
        for (at, fingerprint, said) in entries.into_iter().rev().take(MARKS_MAX) {
            marks.0.entry(fingerprint).or_default().push((at, said));
        }
        (marks, bad)
    }
}

/// A series whose newest moment is not as usual.
pub(crate) struct Alarm {
    /// Its newest row.
    pub(crate) row: Value,
    /// Probe and segment: what another alarm on another day is compared by.
    pub(crate) subject: String,
    pub(crate) verdict: Verdict,
}

/// What became of the rows.
#[derive(Default)]
pub(crate) struct Judged {
    /// The most unusual first.
    pub(crate) alarms: Vec<Alarm>,
    pub(crate) series: usize,
    /// Series with too little to compare with.
    pub(crate) not_enough: usize,
    pub(crate) gaps: Vec<String>,
}

/// One row, read.
struct Row {
    at: i64,
    day: String,
    numbers: Vec<Option<f64>>,
    count: f64,
    value: Value,
}

/// Judges the rows of an answer. `names` are what expressions see beside `row`.
pub(crate) fn judge(
    probe: &Probe,
    detect: &Detect,
    rows: Vec<Value>,
    names: &Map<String, Value>,
    round: Round<'_>,
) -> Judged {
    let mut judged = Judged::default();
    if rows.len() > ROWS_MAX {
        judged
            .gaps
            .push(format!("{} rows, at most {ROWS_MAX} are judged: group them in the query, with `count`", rows.len()));
        return judged;
    }
    let all = series_of(probe, detect, (rows, names), &mut judged.gaps);
    judged.series = all.len();
    for ((pipeline, segment), rows) in &all {
        let subject = if segment.is_empty() { probe.name.clone() } else { format!("{}/{segment}", probe.name) };
        let looked = Looked { detect, segment, now: round.now };
        let identity = |day: &str| fingerprint(&[pipeline, round.env, day, probe.kind.word(), &subject]);
        let threshold = looked.threshold(rows, round.marks, identity);
        match looked.finding(rows, threshold) {
            Ok(Finding::NotEnough { .. }) => judged.not_enough += 1,
            Ok(Finding::Ordinary(_)) => {}
            Ok(Finding::Alarm(mut verdict)) => {
                let Some(newest) = rows.last() else { continue };
                if verdict.subject.is_none() && !segment.is_empty() {
                    verdict.reason = format!("{segment}: {}", verdict.reason);
                    verdict.subject = Some(segment.clone());
                }
                judged.alarms.push(Alarm { row: newest.value.clone(), subject, verdict });
            }
            Err(why) => judged.gaps.push(format!("{subject} of {pipeline}: {why}")),
        }
    }
    judged.alarms.sort_by(|one, other| excess(&other.verdict).total_cmp(&excess(&one.verdict)));
    judged
}

fn excess(verdict: &Verdict) -> f64 {
    verdict.score / verdict.threshold
}

/// Pipeline and segment.
type Key = (String, String);
type AllSeries = BTreeMap<Key, Vec<Row>>;

/// The rows by pipeline and segment, each series in order of time.
fn series_of(
    probe: &Probe,
    detect: &Detect,
    (rows, names): (Vec<Value>, &Map<String, Value>),
    gaps: &mut Vec<String>,
) -> AllSeries {
    let mut all = AllSeries::new();
    let mut names = names.clone();
    let mut unread = None;
    for row in rows {
        names.insert("row".to_owned(), row);
        match read(probe, detect, &names) {
            Ok(Some((key, row))) if all.contains_key(&key) || all.len() < SERIES_MAX => {
                all.entry(key).or_default().push(row)
            }
            Ok(Some(((pipeline, _), _))) => {
                unread = unread
                    .or(Some(format!("more than {SERIES_MAX} series; the rest, from {pipeline} on, is not judged")))
            }
            Ok(None) => {}
            Err(why) => unread = unread.or(Some(why)),
        }
    }
    gaps.extend(unread);
    for rows in all.values_mut() {
        rows.sort_by_key(|row| row.at);
    }
    all
}

/// One row with the pipeline and the segment that it is of; nothing if the probe leaves it out.
fn read(probe: &Probe, detect: &Detect, names: &Map<String, Value>) -> Result<Option<(Key, Row)>, String> {
    let eval = |rule: &Rule| rule.0.eval(names).map_err(|error| format!("`{}`: {}", error.expression, error.message));
    let number = |rule: &Rule| {
        let value = eval(rule)?;
        number_of(&value).ok_or_else(|| format!("`{}` is no number: {value}", rule.0.source()))
    };
    if let Some(when) = &probe.when
        && !when.0.eval_bool(names).map_err(|error| format!("`{}`: {}", error.expression, error.message))?
    {
        return Ok(None);
    }
    let pipeline = word_of(&eval(&probe.pipeline)?);
    let day = word_of(&eval(&probe.day)?);
    let segment = detect.by.as_ref().map_or(Ok(Value::Null), eval)?;
    let moment = detect.at.as_ref().map_or_else(|| Ok(Value::from(day.as_str())), eval)?;
    let at = seconds_of(&moment)
        .ok_or_else(|| format!("{moment} is no time: write it as 2026-03-31T05:00:00Z, or a date"))?;
    let (numbers, count) = match &detect.method {
        Method::Mad { value, .. } | Method::Iqr { value, .. } | Method::Seasonal { value, .. } => {
            (vec![number(value)?], 1.0)
        }
        Method::Psi { value, count, .. } | Method::Kl { value, count, .. } => {
            (vec![number(value)?], count.as_ref().map_or(Ok(Some(1.0)), number)?.unwrap_or(0.0))
        }
        Method::Forest { values, .. } => (values.values().map(number).collect::<Result<_, _>>()?, 1.0),
        Method::Freshness { max_age_hours, .. } => (vec![number(max_age_hours)?], 1.0),
    };
    let value = names.get("row").cloned().unwrap_or_default();
    Ok(Some(((pipeline, word_of(&segment)), Row { at, day, numbers, count, value })))
}

/// A number, `None` where it is missing; nothing if it is neither. Databases write exact numbers as text.
fn number_of(value: &Value) -> Option<Option<f64>> {
    match value {
        Value::Null => Some(None),
        Value::String(text) => text.trim().parse().ok().map(Some),
        Value::Bool(yes) => Some(Some(f64::from(u8::from(*yes)))),
        other => other.as_f64().map(Some),
    }
}

fn word_of(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// One series under one statistic.
struct Looked<'a> {
    detect: &'a Detect,
    segment: &'a str,
    now: Option<i64>,
}

impl Looked<'_> {
    /// The threshold after what people said about this series: each marked day that its rows still reach back to is judged
    /// again by what was before it. What the rows no longer reach back to is forgotten.
    fn threshold(&self, rows: &[Row], marks: &Marks, identity: impl Fn(&str) -> String) -> f64 {
        let base = self.detect.method.threshold();
        if marks.0.is_empty() || matches!(self.detect.method, Method::Freshness { .. }) {
            return base;
        }
        let mut days: Vec<&str> = rows.iter().map(|row| row.day.as_str()).collect();
        days.dedup();
        let mut said: Vec<(i64, Said, f64)> = Vec::new();
        for day in days {
            if let Some(entries) = marks.0.get(&identity(day))
                && let Some(score) = self.score_on(rows, day, base)
            {
                said.extend(entries.iter().map(|(at, what)| (*at, *what, score)));
            }
        }
        said.sort_by(|one, other| (one.0, one.1).cmp(&(other.0, other.1)).then(one.2.total_cmp(&other.2)));
        let marks: Vec<Mark> = said
            .into_iter()
            .map(|(_, said, score)| if said == Said::Real { Mark::Real(score) } else { Mark::FalseAlarm(score) })
            .collect();
        adaptive::threshold(base, self.detect.threshold_max, &marks)
    }

    /// The highest score of a day, as it was judged then.
    fn score_on(&self, rows: &[Row], day: &str, threshold: f64) -> Option<f64> {
        let ends = rows.iter().enumerate().filter(|(_, row)| row.day == day).map(|(at, _)| at + 1);
        // A distribution is that of the whole day.
        let moments =
            if matches!(self.detect.method, Method::Psi { .. } | Method::Kl { .. }) { 1 } else { MARKED_MOMENTS_MAX };
        let ends: Vec<usize> = ends.rev().take(moments).collect();
        let scores = ends
            .into_iter()
            .filter_map(|end| self.finding(rows.get(..end)?, threshold).ok()?.verdict().map(|verdict| verdict.score));
        scores.max_by(f64::total_cmp)
    }

    /// The finding about the newest of these rows.
    fn finding(&self, rows: &[Row], threshold: f64) -> Result<Finding, String> {
        let series = || Series::new(rows.iter().map(point).collect()).map_err(|refused| refused.to_string());
        let limits = |limits: &Limits| Limits { threshold, ..*limits };
        Ok(match &self.detect.method {
            Method::Mad { limits: declared, .. } => mad::judge(&series()?, &limits(declared)),
            Method::Iqr { limits: declared, .. } => iqr::judge(&series()?, &limits(declared)),
            Method::Seasonal { rule, .. } => {
                seasonal::judge(&series()?, &SeasonalRule { limits: limits(&rule.limits), ..rule.clone() })
            }
            Method::Psi { rule, .. } | Method::Kl { rule, .. } => {
                let (before, now) = self.samples(rows);
                let rule = ShiftRule { threshold, ..*rule };
                let is_psi = matches!(self.detect.method, Method::Psi { .. });
                let found = if is_psi { psi::judge(&before, &now, &rule) } else { kl::judge(&before, &now, &rule) };
                found.map_err(|refused| refused.to_string())?
            }
            Method::Forest { values, rule } => {
                let names: Vec<&str> = values.keys().map(String::as_str).collect();
                let whole: Vec<Vec<f64>> =
                    rows.iter().filter_map(|row| row.numbers.iter().copied().collect()).collect();
                let is_whole = rows.last().is_some_and(|row| row.numbers.iter().all(Option::is_some));
                let Some((newest, history)) = whole.split_last().filter(|_| is_whole) else {
                    return Ok(Finding::NotEnough { have: 0, need: 1 });
                };
                let rule = forest::ForestRule { threshold, ..*rule };
                forest::judge(&names, history, newest, &rule, FOREST_SEED).map_err(|refused| refused.to_string())?
            }
            Method::Freshness { rests_on, offset_min, .. } => self.freshness(rows, rests_on, *offset_min)?,
        })
    }

    /// The values of the newest day, and those of the days before.
    fn samples(&self, rows: &[Row]) -> (Samples, Samples) {
        let today = rows.last().map_or("", |row| row.day.as_str());
        let of = |is_today: bool| {
            let picked = rows.iter().filter(|row| (row.day == today) == is_today);
            let counted = picked.filter_map(|row| Some(Counted { value: (*row.numbers.first()?)?, count: row.count }));
            Samples::from([(self.segment.to_owned(), counted.collect())])
        };
        (of(false), of(true))
    }

    fn freshness(&self, rows: &[Row], rests_on: &[detectors::Weekday], offset_min: i32) -> Result<Finding, String> {
        let now = self.now.ok_or("no time is known: give the monitor's node `with: { at: \"{{ now }}\" }`")?;
        let newest = rows.last();
        let hours = newest.and_then(|row| row.numbers.first().copied().flatten());
        let Some(hours) = hours.filter(|hours| hours.is_finite() && *hours > 0.0) else {
            return Err("`max_age_hours` is no number above 0".to_owned());
        };
        let max_age_s = (hours * 3_600.0) as i64;
        Ok(freshness::judge(
            newest.map(|row| row.at),
            now,
            &Contract { max_age_s, rests_on: rests_on.to_vec(), offset_min },
        ))
    }
}

fn point(row: &Row) -> Point {
    Point { at: row.at, value: row.numbers.first().copied().flatten() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn marks_that_are_none_are_counted_and_the_order_is_that_of_time() {
        let mark = |fingerprint: &str, at: &str| json!({ "fingerprint": fingerprint, "at": at });
        let (marks, bad) =
            Marks::read(&[mark("f", "2026-01-02"), json!("f"), mark("f", "soon")], &[mark("f", "2026-01-01")]);
        assert_eq!(bad, 2);
        let said: Vec<bool> = marks.0["f"].iter().map(|(_, said)| *said == Said::Real).collect();
        assert_eq!(said, [false, true], "the newest first");
    }

    #[test]
    fn numbers_are_read_as_databases_write_them() {
        let read = [json!(1.5), json!("2.50"), json!(true), Value::Null, json!("many"), json!([])]
            .map(|value| number_of(&value));
        assert_eq!(read, [Some(Some(1.5)), Some(Some(2.5)), Some(Some(1.0)), Some(None), None, None]);
    }
}
