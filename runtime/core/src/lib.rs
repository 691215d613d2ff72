//! The pure engine: no IO, no clock, no chance, no async. Events go in, effects come out.
//!
//! [`record`] says what is written, [`state`] folds it, [`run`] decides.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod abandon;
mod budget;
mod calls;
pub mod channels;
mod clearance;
mod commands;
pub mod deep;
mod dispatch;
mod edits;
pub mod effect;
pub mod error;
pub mod event;
mod failures;
mod finish;
mod fold;
mod frames;
mod guarding;
mod healing;
pub mod ids;
pub mod interlocks;
mod journal;
mod kinds;
mod log;
pub mod plan;
mod questions;
pub mod record;
pub mod retry;
pub mod run;
pub mod scope;
mod settle;
mod spending;
pub mod state;
pub mod stream;
mod superstep;
#[cfg(test)]
mod tests;

pub use calls::{CALLS_MAX, GIVE_UP, HAPPENED, REPEAT};
pub use clearance::RESET;
pub use commands::END;
pub use dispatch::digest_of;
pub use edits::bulk_problem;
pub use finish::OVERWRITE;
pub use plan::START;
pub use questions::answer_value;
