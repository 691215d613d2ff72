//! The semantics suite: what the engine promises, case by case, on every store.
//!
//! [`lab`] is the harness, [`strict_store`] the strict double, [`hooked_store`] the one that is paused or weakened; each suite
//! is a module, all of them one test binary.

use std::path::Path;
use std::sync::Arc;

use checkpoints::open::{Address, OpenOptions, open};
use runtime::ports::store::Store;

pub mod hooked_store;
pub mod inputs;
pub mod lab;
pub mod strict_store;

#[cfg(test)]
mod pages;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod semantics;

/// A store of a kind (`memory`, `sled`, `fjall`) in a folder.
pub fn open_store(kind: &str, folder: &Path) -> Arc<dyn Store> {
    let address = match kind {
        "memory" => Address::Memory,
        "sled" => Address::Sled(folder.join("sled")),
        "fjall" => Address::Fjall(folder.join("fjall")),
        other => panic!("no store is called `{other}`"),
    };
    open(&address, &OpenOptions::default()).unwrap_or_else(|error| panic!("{kind}: {error}"))
}
