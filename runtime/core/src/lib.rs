//! The pure engine: no IO, no clock, no chance, no async. Events go in, effects come out.
//!
//! [`record`] says what is written, [`state`] folds it, [`run`] decides.

pub mod channels;
pub mod error;
pub mod ids;
pub mod record;
pub mod state;
