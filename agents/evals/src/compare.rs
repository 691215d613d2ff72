//! Two reports beside each other: what got better, what got worse, and in which incidents.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::judge::Row;
use crate::report::Report;

/// Differences below this are none.
const SAME: f64 = 1e-9;
/// Seconds and calls may grow by this share before it is a regression of theirs; they are shown, never judged.
const SHOWN_ONLY: f64 = f64::INFINITY;

/// One number of both reports.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// What.
    pub what: &'static str,
    /// In the report that is the measure.
    pub before: f64,
    /// In the new one.
    pub after: f64,
    /// Whether it got worse than is tolerated.
    pub regressed: bool,
}

/// An incident that came out otherwise.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// Its name.
    pub id: String,
    /// How it came out in the report that is the measure; none where it is new.
    pub before: Option<String>,
    /// How it came out now; none where it is gone.
    pub after: Option<String>,
    /// It passed before and does not now.
    pub regressed: bool,
}

/// What differs between two reports.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The configurations.
    pub between: (String, String),
    /// The numbers.
    pub lines: Vec<Line>,
    /// The incidents that changed.
    pub changed: Vec<Change>,
    /// Whether something got worse.
    pub regressed: bool,
}

enum Better {
    Higher,
    Lower,
}

/// Compares a report with the one that is the measure. Costs may grow by the share `tolerance`.
pub fn compare(before: &Report, after: &Report, tolerance: f64) -> Comparison {
    use Better::{Higher, Lower};
    type Number = fn(&Report) -> f64;
    let numbers: [(&'static str, Number, Better, f64); 11] = [
        ("accuracy of the class", |report| report.accuracy, Higher, 0.0),
        ("accuracy of the cause", |report| report.cause_accuracy, Higher, 0.0),
        ("wrongly automated actions", |report| report.wrong_actions as f64, Lower, 0.0),
        ("false greens", |report| report.false_greens as f64, Lower, 0.0),
        ("false alarms", |report| report.false_alarms as f64, Lower, 0.0),
        ("healed", |report| report.healed.1 as f64, Higher, 0.0),
        ("handed over to people", |report| report.people.handed_over as f64, Lower, 0.0),
        ("incidents that pass", |report| report.passed as f64, Higher, 0.0),
        ("dollars in all", |report| report.usd.sum, Lower, tolerance),
        ("calls, median", |report| report.calls.median, Lower, SHOWN_ONLY),
        ("seconds, median", |report| report.seconds.median, Lower, SHOWN_ONLY),
    ];
    let lines: Vec<Line> = numbers
        .into_iter()
        .map(|(what, number, better, tolerated)| {
            let (before, after) = (number(before), number(after));
            let regressed = match better {
                Higher => after < before - SAME,
                Lower => after > before + before * tolerated + SAME,
            };
            Line { what, before, after, regressed }
        })
        .collect();
    let changed = changes(before, after);
    Comparison {
        between: (before.configuration.clone(), after.configuration.clone()),
        regressed: lines.iter().any(|line| line.regressed) || changed.iter().any(|change| change.regressed),
        lines,
        changed,
    }
}

fn changes(before: &Report, after: &Report) -> Vec<Change> {
    let by_id = |report: &Report| -> BTreeMap<String, (String, bool)> {
        let mut all: BTreeMap<String, (String, bool)> = BTreeMap::new();
        for row in &report.rows {
            let entry = all.entry(row.id.clone()).or_insert_with(|| (shown(row), true));
            entry.1 &= row.passes();
        }
        all
    };
    let (before, mut after) = (by_id(before), by_id(after));
    let mut changes = Vec::new();
    for (id, (was, passed)) in before {
        let now = after.remove(&id);
        if now.as_ref().is_some_and(|(now, passes)| *now == was && *passes == passed) {
            continue;
        }
        let regressed = passed && now.as_ref().is_none_or(|(_, passes)| !passes);
        changes.push(Change { id, before: Some(was), after: now.map(|(now, _)| now), regressed });
    }
    let new = after.into_iter().map(|(id, (now, _))| Change { id, before: None, after: Some(now), regressed: false });
    changes.extend(new);
    changes
}

/// How an incident came out, in a line.
fn shown(row: &Row) -> String {
    let mut text = format!("{} / {}", row.class.1, row.cause.1);
    text.push_str(&format!(" → {} → {}", row.remedy.as_deref().unwrap_or("no remedy"), row.ends.1.word()));
    if row.person != crate::judge::Person::Nobody {
        text.push_str(&format!(", {}", row.person.word()));
    }
    if !row.wrong.is_empty() {
        text.push_str(&format!(", {} wrong", row.wrong.len()));
    }
    text
}
