//! The thin async shell around the pure core: one driver per active thread, ports to the world.
//!
//! [`engine`] is the handle, `driver` the loop, [`context`] what a node sees, [`ports`] what the engine needs.

mod abandon;
mod cache;
pub mod context;
mod driver;
pub mod engine;
mod graphs_loaded;
pub mod history;
pub mod interlocks;
pub mod ports;
pub mod rehearsal;
mod shelf;
mod subscribers;
pub mod track_records;
pub mod view;

pub use abandon::OnAbandon;
pub use context::{CallSpec, Context, Meter, Permit};
pub use driver::EngineFault;
pub use engine::{Ended, Engine, EngineBuilder, Running, Start};
pub use ports::node::{NodeFn, NodeKind};
pub use subscribers::LAG_MAX;
