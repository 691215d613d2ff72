//! Node cache with single flight: of several tasks with one key, one runs and the others take its result.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use runtime_core::event::Cached;
use runtime_core::ids::Timestamp;
use tokio::sync::watch;

use crate::ports::clock::Clock;
use crate::ports::store::Store;

pub(crate) struct NodeCache {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    flights: Mutex<BTreeMap<String, watch::Sender<Landing>>>,
    /// Results on their way to the store, found here meanwhile.
    fresh: Mutex<BTreeMap<String, Arc<Cached>>>,
}

#[derive(Clone)]
enum Landing {
    InTheAir,
    Landed(Arc<Cached>),
    Lost,
}

impl NodeCache {
    pub(crate) fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock, flights: Mutex::default(), fresh: Mutex::default() }
    }

    /// A cached result, or `None` for the one task that must run (and then `put` or `release`).
    pub(crate) async fn look(&self, key: &str) -> Option<Arc<Cached>> {
        loop {
            let mut flight = match self.join_flight(key) {
                Some(flight) => flight,
                None => return self.stored(key).await.inspect(|hit| self.land(key, Landing::Landed(Arc::clone(hit)))),
            };
            loop {
                let landing = flight.borrow_and_update().clone();
                match landing {
                    Landing::Landed(value) => return Some(value),
                    Landing::Lost => break,
                    Landing::InTheAir if flight.changed().await.is_err() => break,
                    Landing::InTheAir => {}
                }
            }
        }
    }

    /// Joins the flight under way, or starts one and returns `None`.
    fn join_flight(&self, key: &str) -> Option<watch::Receiver<Landing>> {
        let mut flights = self.flights.lock();
        if let Some(flight) = flights.get(key) {
            return Some(flight.subscribe());
        }
        flights.insert(key.to_owned(), watch::Sender::new(Landing::InTheAir));
        None
    }

    async fn stored(&self, key: &str) -> Option<Arc<Cached>> {
        if let Some(fresh) = self.fresh.lock().get(key) {
            return Some(Arc::clone(fresh));
        }
        match self.store.cache_get(key, self.clock.now()).await {
            Ok(value) => {
                value.and_then(|value| serde_json::from_value(serde_json::Value::clone(&value)).ok()).map(Arc::new)
            }
            Err(error) => {
                tracing::warn!(%key, %error, "node cache: lookup failed; the node runs");
                None
            }
        }
    }

    /// Keeps a result, for the waiting tasks at once and in the store.
    pub(crate) fn put(self: &Arc<Self>, key: String, value: Arc<Cached>, expires: Option<Timestamp>) {
        self.fresh.lock().insert(key.clone(), Arc::clone(&value));
        self.land(&key, Landing::Landed(Arc::clone(&value)));
        let cache = Arc::clone(self);
        tokio::spawn(async move {
            let json = serde_json::to_value(&*value).unwrap_or_default();
            if let Err(error) = cache.store.cache_put(&key, &json, expires).await {
                tracing::warn!(%key, %error, "node cache: the result was not kept");
            }
            cache.fresh.lock().remove(&key);
        });
    }

    /// The task that had to run put nothing: the next one runs.
    pub(crate) fn release(&self, key: &str) {
        self.land(key, Landing::Lost);
    }

    fn land(&self, key: &str, landing: Landing) {
        if let Some(flight) = self.flights.lock().remove(key) {
            drop(flight.send(landing));
        }
    }
}
