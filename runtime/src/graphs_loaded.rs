//! Graphs in memory: by name for new threads, by digest for threads that are pinned.

use std::collections::BTreeMap;
use std::sync::Arc;

use graphs::{CompiledGraph, GraphDigest, OpenCatalog};
use parking_lot::RwLock;
use runtime_core::run::GraphSource;

use crate::ports::store::{Store, StoreError};

/// The graphs an engine knows.
#[derive(Default)]
pub(crate) struct LoadedGraphs {
    by_digest: RwLock<BTreeMap<GraphDigest, Arc<CompiledGraph>>>,
    by_name: RwLock<BTreeMap<String, Arc<CompiledGraph>>>,
}

impl LoadedGraphs {
    /// Makes a graph the current version of its name.
    pub(crate) fn add(&self, graph: Arc<CompiledGraph>) {
        self.by_name.write().insert(graph.name().to_owned(), Arc::clone(&graph));
        self.by_digest.write().insert(graph.digest().clone(), graph);
    }

    /// Brings a pinned version from the store when it is not here.
    pub(crate) async fn fetch(&self, store: &dyn Store, digest: &GraphDigest) -> Result<(), StoreError> {
        if self.by_digest.read().contains_key(digest) {
            return Ok(());
        }
        let Some((name, source)) = store.graph(digest).await? else { return Ok(()) };
        match graphs::check(&name, source.as_bytes(), &OpenCatalog) {
            Ok((graph, _)) => drop(self.by_digest.write().insert(digest.clone(), Arc::new(graph))),
            Err(diagnostics) => {
                tracing::error!(%digest, %name, ?diagnostics, "a stored graph does not compile any more")
            }
        }
        Ok(())
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.by_name.read().keys().cloned().collect()
    }
}

impl GraphSource for LoadedGraphs {
    fn by_digest(&self, digest: &GraphDigest) -> Option<Arc<CompiledGraph>> {
        self.by_digest.read().get(digest).cloned()
    }

    fn by_name(&self, name: &str) -> Option<Arc<CompiledGraph>> {
        self.by_name.read().get(name).cloned()
    }
}
