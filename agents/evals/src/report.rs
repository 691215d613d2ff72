//! The numbers of a set that was played.

use std::collections::BTreeMap;

use runtime_core::interlocks::calibration::{self, Calibration};
use serde::{Deserialize, Serialize};

use crate::golden::{Ending, UNKNOWN};
use crate::judge::{Person, Row};

/// A class and how its incidents were taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassLine {
    /// The true class.
    pub class: String,
    /// Its incidents.
    pub n: usize,
    /// Those that were called by it.
    pub right: usize,
    /// What they were called.
    pub called: BTreeMap<String, usize>,
}

/// How much of people incidents took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shares {
    /// Incidents.
    pub n: usize,
    /// Without anybody.
    pub nobody: usize,
    /// With a yes to a prepared change.
    pub approved: usize,
    /// Handed over to somebody.
    pub handed_over: usize,
}

impl Shares {
    fn of<'a>(rows: impl Iterator<Item = &'a Row>) -> Self {
        let mut shares = Self::default();
        for row in rows {
            shares.n += 1;
            match row.person {
                Person::Nobody => shares.nobody += 1,
                Person::Approved => shares.approved += 1,
                Person::HandedOver => shares.handed_over += 1,
            }
        }
        shares
    }

    /// A count as a share of all.
    pub fn share(&self, count: usize) -> f64 {
        ratio(count, self.n)
    }
}

/// Middle and tail of a number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The middle.
    pub median: f64,
    /// Nineteen of twenty are not above it.
    pub p95: f64,
    /// All of them together.
    pub sum: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let rank = (share * values.len() as f64).ceil() as usize;
            values.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
        };
        Self { median: at(0.5), p95: at(0.95), sum: values.iter().sum() }
    }
}

/// What a set came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The set.
    pub set: String,
    /// The configuration it was played with.
    pub configuration: String,
    /// Incidents, each counted once.
    pub n: usize,
    /// Times each was played.
    pub repeat: usize,
    /// Share whose class is right.
    pub accuracy: f64,
    /// Share whose cause is right.
    pub cause_accuracy: f64,
    /// By true class.
    pub classes: Vec<ClassLine>,
    /// Changes that should not have been.
    pub wrong_actions: usize,
    /// Called healed and not.
    pub false_greens: usize,
    /// Incidents that are none.
    pub false_alarms: usize,
    /// How much of people all incidents took.
    pub people: Shares,
    /// The same, of those whose cause the rules have, with a declared remedy that nobody refuses.
    pub people_of_knowable: Shares,
    /// Incidents that had to end healed, and those that did.
    pub healed: (usize, usize),
    /// Incidents that came out as they should in every repetition.
    pub passed: usize,
    /// Calls by incident.
    pub calls: Spread,
    /// Dollars by incident.
    pub usd: Spread,
    /// Seconds by incident, of the engine's clock.
    pub seconds: Spread,
    /// Mean square of what confidences missed; of diagnoses that name a cause.
    pub brier: Option<f64>,
    /// Confidence against the share that was right.
    pub reliability: Vec<Bin>,
    /// Each incident, repetitions together.
    pub rows: Vec<Row>,
}

impl Report {
    /// The numbers of these rows.
    pub fn of(set: &str, configuration: &str, repeat: usize, rows: Vec<Row>) -> Self {
        let n_rows = rows.len();
        let count = |holds: fn(&Row) -> bool| rows.iter().filter(|row| holds(row)).count();
        let calibration = Calibration::of(rows.iter().filter_map(forecast));
        let to_heal = |row: &&Row| row.ends.0 == Ending::Healed;
        let healed = rows.iter().filter(to_heal).filter(|row| row.ends.1 == Ending::Healed).count();
        let mut passes: BTreeMap<&str, bool> = BTreeMap::new();
        for row in &rows {
            *passes.entry(&row.id).or_insert(true) &= row.passes();
        }
        Self {
            set: set.to_owned(),
            configuration: configuration.to_owned(),
            n: passes.len(),
            repeat,
            accuracy: ratio(count(|row| row.class.0 == row.class.1), n_rows),
            cause_accuracy: ratio(count(|row| row.cause.0 == row.cause.1), n_rows),
            classes: classes(&rows),
            wrong_actions: rows.iter().map(|row| row.wrong.len()).sum(),
            false_greens: count(|row| row.false_green),
            false_alarms: rows.iter().map(|row| row.false_alarms).sum(),
            people: Shares::of(rows.iter()),
            people_of_knowable: Shares::of(rows.iter().filter(|row| row.knowable)),
            healed: (rows.iter().filter(to_heal).count(), healed),
            passed: passes.values().filter(|passed| **passed).count(),
            calls: Spread::of(rows.iter().map(|row| row.calls as f64)),
            usd: Spread::of(rows.iter().map(|row| row.usd)),
            seconds: Spread::of(rows.iter().map(|row| row.seconds)),
            brier: (calibration.n > 0).then_some(calibration.brier),
            reliability: calibration.bins.iter().filter(|bin| bin.n > 0).map(Bin::of).collect(),
            rows,
        }
    }

    /// Whether nothing was done that should not have been.
    pub fn harmless(&self) -> bool {
        self.wrong_actions == 0 && self.false_greens == 0
    }
}

/// Diagnoses of about the same confidence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// Lowest confidence.
    pub from: f64,
    /// Confidence below which they are; the last bin holds 1 as well.
    pub to: f64,
    /// How many there are.
    pub n: u32,
    /// How sure they were on average.
    pub confidence: f64,
    /// Share that was right.
    pub right: f64,
}

impl Bin {
    fn of(bin: &calibration::Bin) -> Self {
        Self { from: bin.from, to: bin.to, n: bin.n, confidence: bin.said, right: bin.came }
    }
}

/// "Unknown" is no claim that could be right: it has no forecast.
fn forecast(row: &Row) -> Option<(f64, bool)> {
    let confidence = row.confidence.filter(|_| row.cause.1 != UNKNOWN)?;
    Some((confidence, row.cause.0 == row.cause.1))
}

fn classes(rows: &[Row]) -> Vec<ClassLine> {
    let mut lines: BTreeMap<&str, ClassLine> = BTreeMap::new();
    for row in rows {
        let (truth, found) = (&row.class.0, &row.class.1);
        let line = lines.entry(truth).or_insert_with(|| ClassLine {
            class: truth.clone(),
            n: 0,
            right: 0,
            called: BTreeMap::new(),
        });
        line.n += 1;
        line.right += usize::from(truth == found);
        *line.called.entry(found.clone()).or_default() += 1;
    }
    lines.into_values().collect()
}

pub(crate) fn ratio(part: usize, of: usize) -> f64 {
    if of == 0 { 0.0 } else { part as f64 / of as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_that_of_the_ranked_values() {
        let spread = Spread::of((1..=20).rev().map(f64::from));
        assert_eq!((spread.median, spread.p95, spread.sum), (10.0, 19.0, 210.0));
        assert_eq!(Spread::of(std::iter::empty()), Spread::default());
    }
}
