//! What a runner promises, ours and the peers' alike: its flags, and the one JSON line it prints.
//!
//! ```text
//! <runner> --workload W1..W7 --backend B --durability sync|async|exit [--n N] [--steps K] [--size BYTES] [--rounds R]
//!          [--repeat R] [--sample N] [--parallel N] [--phase all|park|resume] [--keep] --json
//! ```
//!
//! Ours is `interlock bench` with the same flags; like the peers it keeps its store below the folder `PEERS_WORK`, which is on a
//! real disk. It prints exactly one line on standard output and leaves no process behind:
//!
//! ```text
//! {"schema":1,"peer":"interlock","version":"0.1.0","workload":"W1","backend":"sled","durability":"sync","api":"rust",
//!  "ok":true,"metrics":{"steps_per_s":1234.5},"params":{"n":1000,"size":1024}}
//! ```
//!
//! `ok` says that the *result* of the run was right (counter, sum or length), not only that it ended. The workloads are those
//! of the peers: W1 one thread of `n` supersteps, each replacing `counter` and a fresh `size`-byte `payload`; W2 `n` threads
//! of `steps` at once; W3 plan → `n` tasks → join; W4 one `size`-byte message appended a step (at n/4, n/2 and n); W5 `n`
//! threads park at an interrupt and a fresh process resumes `sample` of them; W6 `repeat` process starts up to the first
//! step; W7 `n` threads of `steps` killed in the middle, restarted, finished.
//!
//! Beyond the peers' metrics ours may report `commits_per_sync` and `bytes_per_sync` (W1, W2: what one sync carried on average,
//! at which the raw limit is then measured), `rss_per_thread_bytes` and `open_rss_per_thread_bytes` (W5) and
//! `reexecuted_per_thread_max` (W7).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The version of the line.
pub(super) const SCHEMA: u64 = 1;

/// What a line must hold, by workload; a runner that leaves one out has not measured the workload.
const REQUIRED: &[(&str, &[&str])] = &[
    ("W1", &["steps_per_s", "cpu_s", "store_disk"]),
    ("W2", &["steps_per_s", "p50_ms", "p99_ms"]),
    ("W3", &["superstep_ms", "us_per_task"]),
    ("W4", &["total_s", "store_logical", "store_disk", "amplification", "growth_exp_bytes"]),
    (
        "W5",
        &[
            "park_per_s",
            "store_disk_per_thread",
            "resume_p50_ms",
            "resume_p99_ms",
            "resume_first_ms",
            "process_ready_ms",
        ],
    ),
    ("W6", &["start_to_first_step_ms", "idle_rss_mb"]),
    ("W7", &["reexecuted_steps", "missing_steps", "threads_without_checkpoint", "recover_s", "auto_discovery"]),
];

/// The line a runner prints.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Line {
    pub(super) schema: u64,
    pub(super) peer: String,
    pub(super) version: String,
    pub(super) workload: String,
    #[serde(default)]
    pub(super) ok: bool,
    #[serde(default)]
    pub(super) metrics: BTreeMap<String, serde_json::Value>,
    #[serde(default)]
    pub(super) params: BTreeMap<String, serde_json::Value>,
}

impl Line {
    /// A metric as a number; a yes is 1 and a no is 0.
    pub(super) fn metric(&self, name: &str) -> Option<f64> {
        let value = self.metrics.get(name)?;
        value.as_f64().or_else(|| value.as_bool().map(|yes| f64::from(u8::from(yes))))
    }
}

/// Reads the one line from a runner's standard output.
///
/// # Errors
/// There is none or more than one, it is of another schema or workload, or (of ours) it lacks a metric.
pub(super) fn read(stdout: &str, workload: &str, is_ours: bool) -> Result<Line, String> {
    let mut lines = stdout.lines().filter(|line| line.starts_with('{'));
    let text = lines.next().ok_or("the runner printed no JSON line")?;
    if is_ours && lines.next().is_some() {
        return Err("the runner printed more than one JSON line".into());
    }
    let line: Line = serde_json::from_str(text)
        .map_err(|error| format!("the runner's line does not follow the contract: {error}"))?;
    if line.schema != SCHEMA || line.workload != workload {
        return Err(format!(
            "asked for {workload} of schema {SCHEMA}, got {} of schema {}",
            line.workload, line.schema
        ));
    }
    let required = REQUIRED.iter().filter(|(of, _)| is_ours && *of == workload).flat_map(|(_, names)| *names);
    let missing: Vec<_> = required.filter(|name| !line.metrics.contains_key(**name)).copied().collect();
    if missing.is_empty() { Ok(line) } else { Err(format!("the runner's line lacks {}", missing.join(", "))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(workload: &str, metrics: &str) -> String {
        format!(
            r#"{{"schema":1,"peer":"p","version":"1","workload":"{workload}","backend":"b","ok":true,"metrics":{{{metrics}}}}}"#
        )
    }

    #[test]
    fn a_line_that_follows_the_contract_is_read() {
        let text = line("W6", r#""start_to_first_step_ms":3.5,"idle_rss_mb":9,"warm":true"#);
        let read = read(&format!("note\n{text}\n"), "W6", true).unwrap();
        assert_eq!(
            (read.metric("start_to_first_step_ms"), read.metric("warm"), read.metric("gone")),
            (Some(3.5), Some(1.0), None)
        );
    }

    #[test]
    fn a_line_that_breaks_the_contract_says_how() {
        let error = |stdout: &str, is_ours| read(stdout, "W6", is_ours).unwrap_err();
        assert_eq!(error("nothing", true), "the runner printed no JSON line");
        assert_eq!(error(&line("W6", r#""idle_rss_mb":9"#), true), "the runner's line lacks start_to_first_step_ms");
        assert_eq!(error(&line("W5", ""), true), "asked for W6 of schema 1, got W5 of schema 1");
        let twice = format!("{0}\n{0}\n", line("W6", r#""start_to_first_step_ms":1,"idle_rss_mb":1"#));
        assert_eq!(error(&twice, true), "the runner printed more than one JSON line");
        assert!(read(&line("W6", ""), "W6", false).is_ok());
    }
}
