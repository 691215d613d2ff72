//! The figures to reach: which cells are set side by side, by which metric, and when a figure is reached.

use super::results::Results;

/// One row of the page.
pub(super) struct Figure {
    pub(super) workload: &'static str,
    /// What is measured, in words.
    pub(super) what: &'static str,
    pub(super) metric: &'static str,
    pub(super) better: Better,
    /// Our cell.
    pub(super) ours: &'static str,
    /// The cells of LangGraph that count; the best of them is compared.
    pub(super) langgraph: &'static [&'static str],
    pub(super) restate: &'static [&'static str],
    pub(super) rust_peers: &'static [&'static str],
    pub(super) reach: &'static [Reach],
}

/// Which way a metric is good.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Better {
    High,
    Low,
}

/// One thing that a figure has to reach.
#[derive(Clone, Copy)]
pub(super) enum Reach {
    /// This many times LangGraph's.
    TimesLangGraph(f64),
    /// At most one part of LangGraph's in so many.
    PartOfLangGraph(f64),
    AtLeast(f64),
    AtMost(f64),
    /// This share of append + sync of this many records, measured beside it.
    ShareOfRaw(f64, usize),
    /// The same, at the batch the store itself reported.
    ShareOfRawAtItsBatch(f64),
    AheadOfRestate,
    AheadOfRustPeers,
}

const LG_W1_MEMORY: &[&str] = &["langgraph W1 memory sync api", "langgraph W1 memory async api"];
const LG_W1_SQLITE: &[&str] = &["langgraph W1 sqlite sync api", "langgraph W1 sqlite async api"];
const LG_W2: &[&str] = &["langgraph W2 sqlite"];
const LG_W4: &[&str] = &["langgraph W4 sqlite full"];
const LG_W5: &[&str] = &["langgraph W5 sqlite"];
const LG_W6: &[&str] = &["langgraph W6 sqlite"];
const RUST_W1: &[&str] =
    &["lgrs W1 none", "lgrs W1 memory", "adk W1 none", "adk W1 memory", "juncture W1 none", "juncture W1 memory"];
const RUST_W2: &[&str] = &["lgrs W2 sqlite", "adk W2 sqlite", "juncture W2 sqlite"];
const RUST_W6: &[&str] = &["lgrs W6 sqlite", "adk W6 sqlite", "juncture W6 sqlite"];

use self::Better::{High, Low};
use self::Reach::{
    AheadOfRestate, AheadOfRustPeers, AtLeast, AtMost, PartOfLangGraph, ShareOfRaw, ShareOfRawAtItsBatch,
    TimesLangGraph,
};

impl Figure {
    /// A figure of ours beside nobody's.
    const fn alone(
        workload: &'static str,
        what: &'static str,
        metric: &'static str,
        ours: &'static str,
        reach: &'static [Reach],
    ) -> Self {
        Self { workload, what, metric, better: Low, ours, langgraph: &[], restate: &[], rust_peers: &[], reach }
    }

    const fn high(self) -> Self {
        Self { better: High, ..self }
    }

    const fn langgraph(self, langgraph: &'static [&'static str]) -> Self {
        Self { langgraph, ..self }
    }

    const fn restate(self, restate: &'static [&'static str]) -> Self {
        Self { restate, ..self }
    }

    const fn rust_peers(self, rust_peers: &'static [&'static str]) -> Self {
        Self { rust_peers, ..self }
    }

    /// Our median.
    pub(super) fn ours(&self, results: &Results) -> Option<f64> {
        results.median(self.ours, self.metric)
    }

    /// The best median of the given cells.
    pub(super) fn best(&self, results: &Results, cells: &[&str]) -> Option<f64> {
        let medians = cells.iter().filter_map(|cell| results.median(cell, self.metric));
        match self.better {
            High => medians.max_by(f64::total_cmp),
            Low => medians.min_by(f64::total_cmp),
        }
    }

    /// Ours against LangGraph's, as a plain quotient.
    pub(super) fn ratio(&self, results: &Results) -> Option<f64> {
        Some(self.ours(results)? / self.best(results, self.langgraph)?).filter(|ratio| ratio.is_finite())
    }
}

/// Every row, in the order of the page.
pub(super) const FIGURES: &[Figure] = &[
    Figure::alone(
        "W1",
        "chain, memory: steps/s",
        "steps_per_s",
        "interlock W1 memory",
        &[TimesLangGraph(60.0), AheadOfRustPeers],
    )
    .high()
    .langgraph(LG_W1_MEMORY)
    .rust_peers(RUST_W1),
    Figure::alone(
        "W1",
        "chain, sled, each step durable: steps/s",
        "steps_per_s",
        "interlock W1 sled",
        &[ShareOfRaw(0.8, 1)],
    )
    .high()
    .langgraph(LG_W1_SQLITE)
    .restate(&["restate W1"])
    .rust_peers(&["lgrs W1 sqlite"]),
    Figure::alone(
        "W1",
        "chain, fjall, each step durable: steps/s",
        "steps_per_s",
        "interlock W1 fjall",
        &[ShareOfRaw(0.8, 1)],
    )
    .high()
    .langgraph(LG_W1_SQLITE)
    .restate(&["restate W1"])
    .rust_peers(&["lgrs W1 sqlite"]),
    W2_SLED,
    Figure {
        what: "200 threads × 20 steps, fjall: steps/s",
        ours: "interlock W2 fjall",
        reach: &[TimesLangGraph(25.0), AheadOfRestate, ShareOfRawAtItsBatch(0.5)],
        ..W2_SLED
    },
    W2_SLED_P99,
    Figure { what: "the same, fjall: p99 between two steps, ms", ours: "interlock W2 fjall", ..W2_SLED_P99 },
    Figure::alone(
        "W3",
        "fan-out of 1,000, memory: ms",
        "superstep_ms",
        "interlock W3 memory 1000",
        &[PartOfLangGraph(60.0), AheadOfRustPeers],
    )
    .langgraph(&["langgraph W3 memory 1000"])
    .rust_peers(&["lgrs W3 memory 1000", "juncture W3 memory 1000"]),
    W3_SLED,
    Figure { what: "fan-out of 1,000, fjall: ms", ours: "interlock W3 fjall 1000", ..W3_SLED },
    W4_BYTES,
    Figure { what: "the same, fjall: bytes stored", ours: "interlock W4 fjall", ..W4_BYTES },
    Figure { what: "the same, sled: bytes of its files", metric: "store_disk", reach: &[], ..W4_BYTES },
    Figure {
        what: "the same, fjall: bytes of its files",
        metric: "store_disk",
        ours: "interlock W4 fjall",
        reach: &[],
        ..W4_BYTES
    },
    W4_GROWTH,
    Figure { what: "growth exponent of the bytes stored, fjall", ours: "interlock W4 fjall", ..W4_GROWTH },
    W5_DISK,
    Figure { what: "the same, fjall: bytes on disk each", ours: "interlock W5 fjall", ..W5_DISK },
    Figure::alone(
        "W5",
        "the same, sled: bytes in memory each",
        "rss_per_thread_bytes",
        "interlock W5 sled",
        &[AtMost(100.0)],
    ),
    Figure::alone(
        "W5",
        "the same, fjall: bytes in memory each",
        "rss_per_thread_bytes",
        "interlock W5 fjall",
        &[AtMost(100.0)],
    ),
    Figure::alone(
        "W5",
        "the same, sled: bytes in memory each of a process that starts over them",
        "open_rss_per_thread_bytes",
        "interlock W5 sled",
        &[AtMost(100.0)],
    ),
    Figure::alone(
        "W5",
        "the same, fjall: bytes in memory each of a process that starts over them",
        "open_rss_per_thread_bytes",
        "interlock W5 fjall",
        &[AtMost(100.0)],
    ),
    W5_RESUME,
    Figure { what: "resumed cold, fjall: p99 ms", ours: "interlock W5 fjall", ..W5_RESUME },
    W5_PARK,
    Figure { what: "parked a second, fjall", ours: "interlock W5 fjall", ..W5_PARK },
    Figure::alone(
        "W6",
        "start to the first step, sled: ms",
        "start_to_first_step_ms",
        "interlock W6 sled",
        &[AtMost(20.0)],
    )
    .langgraph(LG_W6)
    .rust_peers(RUST_W6),
    Figure::alone("W6", "idle memory, sled: MB", "idle_rss_mb", "interlock W6 sled", &[AtMost(20.0)])
        .langgraph(LG_W6)
        .rust_peers(RUST_W6),
    W7_MISSING,
    Figure {
        what: "most steps of one thread run again, sled, sync",
        metric: "reexecuted_per_thread_max",
        reach: &[AtMost(1.0)],
        ..W7_MISSING
    },
    W7_AGAIN,
    Figure {
        what: "steps run again, sled, async",
        ours: "interlock W7 sled async",
        langgraph: &["langgraph W7 sqlite async"],
        // One superstep of each thread may be ahead of the disk, and one is in flight.
        reach: &[AtMost(200.0)],
        ..W7_AGAIN
    },
    Figure {
        what: "steps run again, sled, exit",
        ours: "interlock W7 sled exit",
        langgraph: &["langgraph W7 sqlite exit"],
        // Nothing is saved before a run ends: what had not ended runs again from its beginning.
        reach: &[],
        ..W7_AGAIN
    },
    Figure { what: "steps run again, fjall, sync", ours: "interlock W7 fjall sync", ..W7_AGAIN },
    Figure::alone(
        "W7",
        "threads found by the restart itself (1 = yes)",
        "auto_discovery",
        "interlock W7 sled sync",
        &[AtLeast(1.0)],
    )
    .high()
    .langgraph(&["langgraph W7 sqlite sync"])
    .restate(&["restate W7"]),
];

const W2_SLED: Figure = Figure::alone(
    "W2",
    "200 threads × 20 steps, sled: steps/s",
    "steps_per_s",
    "interlock W2 sled",
    &[TimesLangGraph(25.0), AheadOfRestate, ShareOfRawAtItsBatch(0.3)],
)
.high()
.langgraph(LG_W2)
.restate(&["restate W2"])
.rust_peers(RUST_W2);

const W2_SLED_P99: Figure = Figure::alone(
    "W2",
    "the same, sled: p99 between two steps, ms",
    "p99_ms",
    "interlock W2 sled",
    &[PartOfLangGraph(20.0)],
)
.langgraph(LG_W2)
.restate(&["restate W2"])
.rust_peers(RUST_W2);

const W3_SLED: Figure = Figure::alone(
    "W3",
    "fan-out of 1,000, sled: ms",
    "superstep_ms",
    "interlock W3 sled 1000",
    &[PartOfLangGraph(60.0), AheadOfRustPeers],
)
.langgraph(&["langgraph W3 sqlite 1000"])
.restate(&["restate W3 1000"])
.rust_peers(&["lgrs W3 sqlite 1000", "juncture W3 sqlite 1000"]);

const W4_BYTES: Figure = Figure::alone(
    "W4",
    "500 appends of 500 B, sled: bytes stored",
    "store_logical",
    "interlock W4 sled",
    &[AtMost(1_000_000.0)],
)
.langgraph(LG_W4)
.restate(&["restate W4"])
.rust_peers(&["lgrs W4 sqlite"]);

const W4_GROWTH: Figure = Figure::alone(
    "W4",
    "growth exponent of the bytes stored, sled",
    "growth_exp_bytes",
    "interlock W4 sled",
    &[AtMost(1.1)],
)
.langgraph(LG_W4)
.rust_peers(&["lgrs W4 sqlite"]);

const W5_DISK: Figure = Figure::alone(
    "W5",
    "10,000 parked threads of 1 KB, sled: bytes on disk each",
    "store_disk_per_thread",
    "interlock W5 sled",
    &[AtMost(2048.0)],
)
.langgraph(LG_W5)
.restate(&["restate W5"])
.rust_peers(&["lgrs W5 sqlite"]);

const W5_RESUME: Figure =
    Figure::alone("W5", "resumed cold, sled: p99 ms", "resume_p99_ms", "interlock W5 sled", &[AtMost(5.0)])
        .langgraph(LG_W5)
        .restate(&["restate W5"])
        .rust_peers(&["lgrs W5 sqlite"]);

const W5_PARK: Figure =
    Figure::alone("W5", "parked a second, sled", "park_per_s", "interlock W5 sled", &[TimesLangGraph(20.0)])
        .high()
        .langgraph(LG_W5)
        .restate(&["restate W5"])
        .rust_peers(&["lgrs W5 sqlite"]);

const W7_MISSING: Figure = Figure::alone(
    "W7",
    "SIGKILL in mid-run: acknowledged steps lost, sled, sync",
    "missing_steps",
    "interlock W7 sled sync",
    &[AtMost(0.0)],
)
.langgraph(&["langgraph W7 sqlite sync"]);

/// One step in flight for each of the 100 threads may run again.
const W7_AGAIN: Figure = Figure::alone(
    "W7",
    "steps run again of 5,000, sled, sync",
    "reexecuted_steps",
    "interlock W7 sled sync",
    &[AtMost(100.0)],
)
.langgraph(&["langgraph W7 sqlite sync"])
.restate(&["restate W7"])
.rust_peers(&["lgrs W7 sqlite"]);

impl Reach {
    /// Whether `figure` reaches this; nothing when a side was not measured.
    pub(super) fn is_met(self, figure: &Figure, results: &Results) -> Option<bool> {
        let ours = figure.ours(results)?;
        let ahead_of = |cells: &[&str]| {
            let theirs = figure.best(results, cells)?;
            Some(if figure.better == High { ours > theirs } else { ours < theirs })
        };
        match self {
            TimesLangGraph(times) => Some(figure.ratio(results)? >= times),
            PartOfLangGraph(parts) => Some(figure.ratio(results)? <= 1.0 / parts),
            AtLeast(bound) => Some(ours >= bound),
            AtMost(bound) => Some(ours <= bound),
            ShareOfRaw(..) | ShareOfRawAtItsBatch(_) => {
                let (share, wanted) = self.share_of_raw(figure, results)?;
                Some(share >= wanted)
            }
            AheadOfRestate => ahead_of(figure.restate),
            AheadOfRustPeers => ahead_of(figure.rust_peers),
        }
    }

    /// The share of the disk's limit, and the one to reach.
    fn share_of_raw(self, figure: &Figure, results: &Results) -> Option<(f64, f64)> {
        let (wanted, batch) = match self {
            ShareOfRaw(wanted, batch) => (wanted, Some(batch)),
            ShareOfRawAtItsBatch(wanted) => (wanted, None),
            _ => return None,
        };
        Some((results.median_share_of_raw(figure.ours, figure.metric, batch)?, wanted))
    }

    /// The words of the page, with the measured share where there is one.
    pub(super) fn describe(self, figure: &Figure, results: &Results) -> String {
        let measured =
            self.share_of_raw(figure, results).map_or(String::new(), |(share, _)| format!(" (is {share:.2})"));
        match self {
            TimesLangGraph(times) => format!("≥ {times} × LangGraph"),
            PartOfLangGraph(parts) => format!("≤ 1/{parts} of LangGraph"),
            AtLeast(bound) => format!("≥ {bound}"),
            AtMost(bound) => format!("≤ {bound}"),
            ShareOfRaw(wanted, batch) => format!("≥ {wanted} of append + sync at {batch}{measured}"),
            ShareOfRawAtItsBatch(wanted) => format!("≥ {wanted} of append + sync at its batch and size{measured}"),
            AheadOfRestate => "ahead of Restate".into(),
            AheadOfRustPeers => "ahead of the Rust peers".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::cells;
    use super::super::results::sample;
    use super::*;

    #[test]
    fn figures_name_cells_that_exist() {
        let names: BTreeSet<_> = cells::all().iter().map(cells::Cell::name).collect();
        for figure in FIGURES {
            for cell in
                [&figure.ours].into_iter().chain(figure.langgraph).chain(figure.restate).chain(figure.rust_peers)
            {
                assert!(names.contains(*cell), "{cell:?} of {:?} is no cell", figure.what);
            }
        }
    }

    #[test]
    fn a_figure_is_reached_or_not_or_unknown() {
        let figure = &FIGURES[0];
        let verdicts = |ours: f64, rust: &[(&str, f64)]| {
            let mut records = vec![
                sample(figure.ours, &[("steps_per_s", ours)], &[]),
                sample(LG_W1_MEMORY[0], &[("steps_per_s", 10.0)], &[]),
            ];
            records.extend(rust.iter().map(|(cell, rate)| sample(cell, &[("steps_per_s", *rate)], &[])));
            let results = Results::of(records);
            figure.reach.iter().map(|reach| reach.is_met(figure, &results)).collect::<Vec<_>>()
        };
        assert_eq!(verdicts(600.0, &[]), [Some(true), None]);
        assert_eq!(verdicts(599.0, &[(RUST_W1[0], 100.0), (RUST_W1[2], 599.5)]), [Some(false), Some(false)]);
    }

    #[test]
    fn the_share_of_raw_is_judged_and_shown() {
        let figure = &FIGURES[1];
        let results = Results::of(vec![sample(figure.ours, &[("steps_per_s", 79.0)], &[(1, 100.0)])]);
        assert_eq!(figure.reach[0].is_met(figure, &results), Some(false));
        assert_eq!(figure.reach[0].describe(figure, &results), "≥ 0.8 of append + sync at 1 (is 0.79)");
    }
}
