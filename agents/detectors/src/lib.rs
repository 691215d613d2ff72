//! What is unusual, in numbers a person can check: detectors, windows of quiet, and which symptom is the consequence of which.
//!
//! ```text
//!  points ─▶ mad · iqr · seasonal ─┐
//!  samples by segment ─▶ psi · kl ─┼─▶ Finding { NotEnough | Ordinary | Alarm(score, threshold, expected, observed, reason) }
//!  rows of metrics ─▶ forest       │            ▲
//!  newest record ─▶ freshness ─────┘            └ adaptive: marked false alarms widen the threshold, within a bound
//!
//!  symptoms + lineage ─▶ correlation ─▶ one group a root        windows + time ─▶ maintenance ─▶ who is held
//! ```
//!
//! Values in, values out: no clock, no store, no source of chance but a seed that is handed in. Too few points are
//! [`Finding::NotEnough`], never an alarm. `docs/design/0008-detectors.md` has the reasons and what was measured.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

pub mod adaptive;
mod bins;
pub mod calendar;
mod chance;
pub mod correlation;
pub mod forest;
pub mod freshness;
pub mod iqr;
pub mod kl;
pub mod lineage;
pub mod mad;
pub mod maintenance;
pub mod psi;
mod quantiles;
pub mod seasonal;
mod segments;
mod series;
mod verdict;

#[cfg(test)]
mod tests;

pub use calendar::Weekday;
pub use chance::Chance;
pub use quantiles::median;
pub use segments::{BINS_MAX, Counted, Samples, ShiftRule};
pub use series::{POINTS_MAX, Point, Refused, Series};
pub use verdict::{Direction, Finding, Limits, Side, Smallest, Verdict};
