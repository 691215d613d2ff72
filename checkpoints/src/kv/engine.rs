//! What a durable backend needs from an embedded engine: less than an engine offers.
//!
//! Writes arrive after they are in the commit log, and again if the process ended before the engine recorded that it has
//! them; so they need not be atomic. But what `take_over` returned for must survive, and a crash at any moment must leave
//! an engine that opens.

use std::path::Path;

use super::{KvError, Reader, SyncPolicy, WriteMap};

/// An embedded ordered store.
pub trait Engine: Reader + Send + Sync + Sized + 'static {
    /// Name in messages and in the format marker.
    const NAME: &'static str;

    /// Opens or creates the engine in `folder`; a new one must be durable on return, folders included.
    fn open(folder: &Path, sync: SyncPolicy) -> Result<Self, KvError>;

    /// Makes `writes` durable, then the number of their last log frame.
    fn take_over(&self, writes: &WriteMap, number: u64) -> Result<(), KvError>;

    /// The number that `take_over` recorded last; 0 in a new store.
    fn applied(&self) -> Result<u64, KvError>;
}
