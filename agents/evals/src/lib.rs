//! Evaluation: golden incidents played through the graph that ships, on the real engine, and compared with the truth.
//!
//! ```text
//!  files ─golden─▶ Golden ─play─▶ Played ─judge─▶ Row ─report─▶ Report ─compare─▶ Comparison
//!                     │ world: what tools answer, what acts change      │ tables: text, Markdown
//!                     └ voices: models live, recorded or scripted
//! ```
//!
//! What is measured is read from the thread's log, as the audit sees it, never from what an agent says about itself. The
//! crate knows no configuration, no command line and no concrete store.

mod compare;
mod golden;
mod judge;
mod play;
mod report;
mod shipped;
mod tables;
mod voices;
mod world;

#[cfg(test)]
mod tests;

pub use compare::{Comparison, Line, compare};
pub use golden::{Ending, Entry, FILE_BYTES_MAX, Golden, Mistake, QUIET, Truth, UNKNOWN, read};
pub use judge::{Person, Row, Wrong};
pub use play::{Lab, Plan, run};
pub use report::{ClassLine, Report, Shares, Spread};
pub use shipped::{SHIPPED, shipped};
pub use tables::{Table, markdown, text};
pub use voices::{Tape, Voices};
pub use world::{PRODUCTION, Reply, WorldTools};
