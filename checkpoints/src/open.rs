//! Opens a store by its address: `memory`, `sled:PATH` or `fjall:PATH`.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use runtime::ports::store::{Store, StoreError};

use crate::envelope::{Compression, Plain, Sealer};
use crate::keys::KeyRing;
use crate::kv::{Durable, DurableOptions, FjallEngine, MemoryKv, SledEngine};
use crate::store::{Copied, KvStore, copy_store};

/// Where a store is and what keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// In this process only.
    Memory,
    /// A folder kept by sled, the default engine.
    Sled(PathBuf),
    /// A folder kept by fjall.
    Fjall(PathBuf),
}

/// A text that is no store address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a store: write `memory`, `sled:PATH`, `fjall:PATH`, or a path alone for sled")]
pub struct AddressError {
    text: String,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let fail = || Err(AddressError { text: text.to_owned() });
        match text.split_once(':') {
            None if text == "memory" => Ok(Self::Memory),
            Some((_, "")) => fail(),
            Some(("sled", path)) => Ok(Self::Sled(path.into())),
            Some(("fjall", path)) => Ok(Self::Fjall(path.into())),
            None if !text.is_empty() => Ok(Self::Sled(text.into())),
            _ => fail(),
        }
    }
}

/// How to open a store.
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    /// Keys for encryption at rest; `None` stores plain records.
    pub keys: Option<Arc<KeyRing>>,
    /// Whether unencrypted records are read although there are keys.
    pub plain: Plain,
    /// Settings of the backend.
    pub durable: DurableOptions,
}

impl OpenOptions {
    fn sealer(&self, compression: Compression) -> Sealer {
        match &self.keys {
            Some(keys) => Sealer::encrypted(keys.clone(), self.plain, compression),
            None => Sealer::plain(compression),
        }
    }
}

/// A store in memory.
pub fn memory(options: &OpenOptions) -> KvStore<MemoryKv> {
    KvStore::new(MemoryKv::new(), options.sealer(Compression::None))
}

/// A store on disk, kept by sled.
pub fn sled(path: &Path, options: &OpenOptions) -> Result<KvStore<Durable<SledEngine>>, StoreError> {
    Ok(KvStore::new(Durable::open(path, options.durable)?, options.sealer(Compression::Zstd)))
}

/// A store on disk, kept by fjall.
pub fn fjall(path: &Path, options: &OpenOptions) -> Result<KvStore<Durable<FjallEngine>>, StoreError> {
    Ok(KvStore::new(Durable::open(path, options.durable)?, options.sealer(Compression::Zstd)))
}

/// Opens the store at an address.
pub fn open(address: &Address, options: &OpenOptions) -> Result<Arc<dyn Store>, StoreError> {
    Ok(match address {
        Address::Memory => Arc::new(memory(options)),
        Address::Sled(path) => Arc::new(sled(path, options)?),
        Address::Fjall(path) => Arc::new(fjall(path, options)?),
    })
}

/// Copies the store at one address into a new one at another.
pub async fn copy(from: (&Address, &OpenOptions), to: (&Address, &OpenOptions)) -> Result<Copied, StoreError> {
    match from.0 {
        Address::Memory => copy_from(&memory(from.1), to).await,
        Address::Sled(path) => copy_from(&sled(path, from.1)?, to).await,
        Address::Fjall(path) => copy_from(&fjall(path, from.1)?, to).await,
    }
}

async fn copy_from<K: crate::kv::Kv>(
    from: &KvStore<K>,
    (address, options): (&Address, &OpenOptions),
) -> Result<Copied, StoreError> {
    match address {
        Address::Memory => copy_store(from, &memory(options)).await,
        Address::Sled(path) => copy_store(from, &sled(path, options)?).await,
        Address::Fjall(path) => copy_store(from, &fjall(path, options)?).await,
    }
}
