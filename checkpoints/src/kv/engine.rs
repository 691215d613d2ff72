//! What a durable backend needs from an embedded engine: less than an engine offers.
//!
//! Writes arrive in chunks that are in the commit log already and are applied again after a crash, so a chunk need not be
//! atomic; but what `sync` returned for must survive, and a crash between syncs must leave a store that opens.

use std::path::Path;

use super::{KvError, Reader, SyncPolicy, Value};

/// Payload bytes between two syncs of an engine. Small, so that an engine which uses freed space again can never write
/// over data whose newer copy is not on the disk yet.
pub(super) const CHUNK_BYTES: usize = 128 * 1024;

/// An embedded ordered store.
pub trait Engine: Reader + Send + Sync + Sized + 'static {
    /// Name in messages and in the format marker.
    const NAME: &'static str;

    /// Opens or creates the engine in `folder`; a new one must be durable on return, folders included.
    fn open(folder: &Path, sync: SyncPolicy) -> Result<Self, KvError>;

    /// Applies changes, each key once.
    fn apply(&self, changes: &[(&Vec<u8>, &Option<Value>)]) -> Result<(), KvError>;

    /// Makes everything applied durable.
    fn sync(&self) -> Result<(), KvError>;

    /// The number of the last log frame that `set_applied` recorded; 0 in a new store.
    fn applied(&self) -> Result<u64, KvError>;

    /// Records that all frames up to `number` are applied and durable.
    fn set_applied(&self, number: u64) -> Result<(), KvError>;
}
