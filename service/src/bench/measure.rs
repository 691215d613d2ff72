//! Clocks, percentiles and memory figures of the workloads.

use std::collections::BTreeMap;
use std::time::Instant;

use parking_lot::Mutex;

/// When nodes started.
#[derive(Default)]
pub(super) struct Marks {
    marks: Mutex<Vec<Instant>>,
    last: Mutex<BTreeMap<u64, Instant>>,
    gaps: Mutex<Vec<f64>>,
    stamping: bool,
}

impl Marks {
    /// Records the gaps between the steps of each thread.
    pub(super) fn stamping() -> Self {
        Self { stamping: true, ..Self::default() }
    }

    /// One moment, in order.
    pub(super) fn mark(&self) {
        self.marks.lock().push(Instant::now());
    }

    /// A step of a thread begins.
    pub(super) fn stamp(&self, thread: u64) {
        if !self.stamping {
            return;
        }
        let now = Instant::now();
        if let Some(before) = self.last.lock().insert(thread, now) {
            self.gaps.lock().push((now - before).as_secs_f64() * 1e3);
        }
    }

    /// Forgets everything (after a warm-up).
    pub(super) fn clear(&self) {
        self.marks.lock().clear();
        self.last.lock().clear();
        self.gaps.lock().clear();
    }

    /// Gaps in milliseconds.
    pub(super) fn gaps_ms(&self) -> Vec<f64> {
        self.gaps.lock().clone()
    }

    /// Times between the marks of each pair, in milliseconds.
    pub(super) fn pairs_ms(&self) -> Vec<f64> {
        let marks = self.marks.lock();
        marks.as_chunks::<2>().0.iter().map(|[a, b]| (*b - *a).as_secs_f64() * 1e3).collect()
    }
}

/// The `q` quantile by linear interpolation; 0 for an empty list.
pub(super) fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let place = last as f64 * q;
    let low = place.floor() as usize;
    let high = (low + 1).min(last);
    sorted[low] + (sorted[high] - sorted[low]) * (place - low as f64)
}

/// Resident memory of a process in MB, its program's pages included.
pub(super) fn rss_mb(pid: &str) -> f64 {
    (status_bytes(pid, "VmRSS:") / 104_857.6).round() / 10.0
}

/// Resident memory that a process has allocated, without the pages of its program: those come and go with the code that ran
/// last, by more than what is measured.
pub(super) fn allocated_bytes(pid: &str) -> f64 {
    status_bytes(pid, "RssAnon:")
}

fn status_bytes(pid: &str, field: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kb = line.and_then(|line| line.split_whitespace().next()).and_then(|kb| kb.parse::<f64>().ok());
    kb.unwrap_or(0.0) * 1024.0
}

/// Processor seconds of this process so far.
pub(super) fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}
