//! Results: the lines of all runs in one file, and medians over their rounds.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::contract::Line;

/// One run of one cell.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    /// The cell's name.
    pub(super) cell: String,
    pub(super) round: usize,
    /// What the runner printed; none when it failed, ran out of time or broke the contract.
    pub(super) line: Option<Line>,
    pub(super) error: Option<String>,
    /// Records per second the disk took, measured right before and after, by batch size.
    #[serde(default)]
    pub(super) raw: BTreeMap<usize, f64>,
    /// The same for what one sync of the cell carried, measured right after it.
    #[serde(default)]
    pub(super) raw_own: Option<RawOwn>,
    /// Seconds since the epoch at its start, by the machine's clock.
    pub(super) at: u64,
    pub(super) wall_s: f64,
    /// Share of the processors that was idle just before.
    pub(super) idle: f64,
}

/// The disk's limit at a store's own batch and record size.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct RawOwn {
    /// Records and bytes of each, a sync.
    pub(super) batch: (usize, usize),
    pub(super) per_s: f64,
}

impl Record {
    /// Whether the run ended with the right result.
    pub(super) fn is_ok(&self) -> bool {
        self.line.as_ref().is_some_and(|line| line.ok)
    }
}

/// Adds one record to the file.
///
/// # Errors
/// The file cannot be written.
pub(super) fn append(file: &Path, record: &Record) -> Result<()> {
    let mut out = OpenOptions::new()
        .create(true)
        .append(true)
        .open(file)
        .with_context(|| format!("cannot write {}", file.display()))?;
    Ok(writeln!(out, "{}", serde_json::to_string(record)?)?)
}

/// All records of a file.
pub(super) struct Results {
    records: Vec<Record>,
}

impl Results {
    /// Reads the file.
    ///
    /// # Errors
    /// It is not there, or a line is not a record.
    pub(super) fn read(file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read {}: run `cargo xtask bench` first", file.display()))?;
        let records = text
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()
            .with_context(|| format!("{} holds a line that is no record", file.display()))?;
        Ok(Self { records })
    }

    #[cfg(test)]
    pub(super) fn of(records: Vec<Record>) -> Self {
        Self { records }
    }

    /// The runs of a cell that ended well.
    fn good<'a>(&'a self, cell: &'a str) -> impl Iterator<Item = &'a Record> {
        self.records.iter().filter(move |record| record.cell == cell && record.is_ok())
    }

    /// Median of a metric over a cell's rounds.
    pub(super) fn median(&self, cell: &str, metric: &str) -> Option<f64> {
        median(self.good(cell).filter_map(|record| record.line.as_ref()?.metric(metric)).collect())
    }

    /// Median over the rounds of a metric's share of the disk's limit at `batch` records a sync, measured beside it; without
    /// a batch, at what one sync of the store itself carried.
    pub(super) fn median_share_of_raw(&self, cell: &str, metric: &str, batch: Option<usize>) -> Option<f64> {
        let share = |record: &Record| {
            let line = record.line.as_ref()?;
            let raw = match batch {
                Some(batch) => *record.raw.get(&batch)?,
                None => record.raw_own?.per_s,
            };
            Some(line.metric(metric)? / raw)
        };
        median(self.good(cell).filter_map(share).collect())
    }

    /// Median of the disk's limit beside a cell, by batch.
    pub(super) fn median_raw(&self, cell: &str) -> BTreeMap<usize, f64> {
        let mut by_batch: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        for (batch, rate) in self.good(cell).flat_map(|record| &record.raw) {
            by_batch.entry(*batch).or_default().push(*rate);
        }
        by_batch.into_iter().filter_map(|(batch, rates)| Some((batch, median(rates)?))).collect()
    }

    /// Medians of what one sync of a cell carried (records, bytes of each) and of the disk's limit for that.
    pub(super) fn median_raw_own(&self, cell: &str) -> Option<(f64, f64, f64)> {
        let of =
            |part: fn(&RawOwn) -> f64| median(self.good(cell).filter_map(|r| r.raw_own.as_ref().map(part)).collect());
        Some((of(|own| own.batch.0 as f64)?, of(|own| own.batch.1 as f64)?, of(|own| own.per_s)?))
    }

    /// How many rounds of the cell ended well.
    pub(super) fn rounds(&self, cell: &str) -> usize {
        self.good(cell).count()
    }

    /// Cells none of whose runs ended well, and ours of which any did not, each with the reason.
    pub(super) fn failed_cells(&self) -> Vec<String> {
        let failed = self.records.iter().filter(|record| !record.is_ok());
        failed
            .filter(|record| record.cell.starts_with(super::cells::OURS) || self.rounds(&record.cell) == 0)
            .map(|record| {
                format!(
                    "{} (round {}): {}",
                    record.cell,
                    record.round,
                    record.error.as_deref().unwrap_or("its result was wrong")
                )
            })
            .collect()
    }

    /// Versions of the sides, by the name each gives itself.
    pub(super) fn versions(&self) -> BTreeMap<&str, &str> {
        self.records
            .iter()
            .filter_map(|record| record.line.as_ref())
            .map(|line| (line.peer.as_str(), line.version.as_str()))
            .collect()
    }

    /// Median share of idle processors before the cells.
    pub(super) fn idle(&self) -> Option<f64> {
        median(self.records.iter().map(|record| record.idle).collect())
    }

    /// When the first and the last cell started, seconds since the epoch.
    pub(super) fn span(&self) -> Option<(u64, u64)> {
        let times = || self.records.iter().map(|record| record.at);
        Some((times().min()?, times().max()?))
    }
}

/// The mean batch of the group commit and the bytes of one record in it, as the runner tells.
pub(super) fn reported_batch(line: &Line) -> Option<(usize, usize)> {
    let batch = line.metric("commits_per_sync")?.max(1.0);
    let record_bytes = line.metric("bytes_per_sync").map_or(super::raw::RECORD_BYTES as f64, |bytes| bytes / batch);
    Some((batch.round() as usize, (record_bytes.round() as usize).max(1)))
}

/// The middle value, or the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len() % 2 == 1 { upper } else { (values[middle - 1] + upper) / 2.0 })
}

/// A record for the tests of this module's users.
#[cfg(test)]
pub(super) fn sample(cell: &str, metrics: &[(&str, f64)], raw: &[(usize, f64)]) -> Record {
    let line = Line {
        schema: super::contract::SCHEMA,
        peer: cell.split(' ').next().unwrap_or_default().into(),
        version: "1".into(),
        workload: "W1".into(),
        ok: true,
        metrics: metrics.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        params: BTreeMap::new(),
    };
    Record {
        cell: cell.into(),
        round: 0,
        line: Some(line),
        error: None,
        raw: raw.iter().copied().collect(),
        raw_own: None,
        at: 0,
        wall_s: 1.0,
        idle: 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_over_good_rounds_only() {
        let wrong = Record { line: None, ..sample("interlock W1 sled", &[], &[]) };
        let of = |rate, raw| sample("interlock W1 sled", &[("steps_per_s", rate)], &[(1, raw)]);
        let results = Results::of(vec![of(10.0, 20.0), of(30.0, 30.0), wrong, of(14.0, 20.0)]);
        assert_eq!(results.median("interlock W1 sled", "steps_per_s"), Some(14.0));
        assert_eq!(results.median_share_of_raw("interlock W1 sled", "steps_per_s", Some(1)), Some(0.7));
        assert_eq!(results.median("interlock W1 fjall", "steps_per_s"), None);
        assert_eq!(results.rounds("interlock W1 sled"), 3);
        assert_eq!(results.failed_cells(), ["interlock W1 sled (round 0): its result was wrong"]);
    }

    #[test]
    fn the_raw_limit_is_taken_at_what_a_sync_carried() {
        let metrics = [("steps_per_s", 50.0), ("commits_per_sync", 63.7), ("bytes_per_sync", 63.7 * 812.0)];
        let mut record = sample("interlock W2 sled", &metrics, &[(64, 400.0)]);
        let batch = reported_batch(record.line.as_ref().unwrap()).unwrap();
        assert_eq!(batch, (64, 812));
        record.raw_own = Some(RawOwn { batch, per_s: 100.0 });
        let results = Results::of(vec![record]);
        assert_eq!(results.median_share_of_raw("interlock W2 sled", "steps_per_s", None), Some(0.5));
        assert_eq!(results.median_raw_own("interlock W2 sled"), Some((64.0, 812.0, 100.0)));
    }

    #[test]
    fn records_survive_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("r.jsonl");
        append(&file, &sample("a W1", &[("x", 1.5)], &[(64, 2.0)])).unwrap();
        append(&file, &sample("a W1", &[("x", 2.5)], &[(64, 4.0)])).unwrap();
        let results = Results::read(&file).unwrap();
        assert_eq!(results.median("a W1", "x"), Some(2.0));
        assert_eq!(results.median_raw("a W1"), BTreeMap::from([(64, 3.0)]));
    }
}
