//! The stores of the workloads: opened by kind, with the counters of those on disk.

use std::path::Path;
use std::sync::Arc;

use checkpoints::kv::{Durable, FjallEngine, Kv as _, SledEngine, Statistics};
use checkpoints::open::{self, OpenOptions};
use checkpoints::store::KvStore;
use runtime::ports::store::Store;
use serde_json::{Map, Value, json};

/// What keeps a store.
pub(super) enum Backend {
    Memory,
    Sled(Arc<KvStore<Durable<SledEngine>>>),
    Fjall(Arc<KvStore<Durable<FjallEngine>>>),
}

/// Opens an unencrypted store of a kind in a folder.
pub(super) fn open(kind: &str, folder: &Path) -> anyhow::Result<(Arc<dyn Store>, Backend)> {
    let options = OpenOptions { durable: crate::wiring::durable_options(), ..OpenOptions::default() };
    Ok(match kind {
        "memory" => (Arc::new(open::memory(&options)), Backend::Memory),
        "sled" => {
            let store = Arc::new(open::sled(folder, &options)?);
            (Arc::clone(&store) as Arc<dyn Store>, Backend::Sled(store))
        }
        "fjall" => {
            let store = Arc::new(open::fjall(folder, &options)?);
            (Arc::clone(&store) as Arc<dyn Store>, Backend::Fjall(store))
        }
        other => anyhow::bail!("--backend `{other}`: use memory, sled or fjall"),
    })
}

impl Backend {
    /// Counters since it was opened; memory has none.
    pub(super) fn statistics(&self) -> anyhow::Result<Statistics> {
        Ok(match self {
            Self::Memory => Statistics::default(),
            Self::Sled(store) => store.backend()?.statistics(),
            Self::Fjall(store) => store.backend()?.statistics(),
        })
    }

    /// Waits until the engine has everything, as it does by itself when nothing is written for a moment.
    pub(super) async fn rest(&self) -> anyhow::Result<()> {
        match self {
            Self::Memory => {}
            Self::Sled(store) => store.backend()?.settle().await?,
            Self::Fjall(store) => store.backend()?.settle().await?,
        }
        Ok(())
    }
}

/// What a sync carried on average between two readings; nothing if there was none.
pub(super) fn per_sync(before: Statistics, after: Statistics) -> Map<String, Value> {
    let syncs = after.syncs - before.syncs;
    if syncs == 0 {
        return Map::new();
    }
    let mean = |sum: u64| json!(sum as f64 / syncs as f64);
    Map::from_iter([
        ("commits_per_sync".to_owned(), mean(after.commits - before.commits)),
        ("bytes_per_sync".to_owned(), mean(after.bytes - before.bytes)),
    ])
}
