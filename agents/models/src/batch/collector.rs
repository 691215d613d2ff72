//! Requests for the same model that come within a window go out as one batch.
//!
//! ```text
//!  join ─▶ lane of the model ─ window over, or full ─▶ submit ─▶ each learns its place
//! ```
//!
//! Nothing here lasts: whoever has joined waits for its place and keeps it. Who stops waiting before the batch goes out is not in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{BatchItem, BatchTicket, Batches};
use crate::config::Batching;
use crate::error::{ErrorClass, ModelError, Spent};
use crate::provider::Ports;
use crate::retry::RetryPolicy;

/// Requests that wait, by provider and model.
type Lanes = BTreeMap<(String, String), Lane>;

/// Collects for all tiers of a process.
#[derive(Debug, Clone, Default)]
pub(crate) struct Collector {
    pub(crate) bounds: Batching,
    ports: Ports,
    lanes: Arc<Mutex<Lanes>>,
}

#[derive(Debug)]
struct Lane {
    /// Tells it from a later one of the same model, so that an old window does not end a new one.
    opened_by: String,
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    item: BatchItem,
    told: oneshot::Sender<Result<BatchTicket, ModelError>>,
}

impl Collector {
    pub(crate) fn new(bounds: Batching, ports: Ports) -> Self {
        Self { bounds, ports, lanes: Arc::default() }
    }

    pub(crate) async fn pause(&self) {
        (self.ports.pause)(self.bounds.look).await;
    }

    /// Waits for others, goes out with them, and says where it is then. None when the process ends before.
    pub(crate) async fn join(
        &self,
        (provider, batches): (&str, &Arc<dyn Batches>),
        item: BatchItem,
    ) -> Option<Result<BatchTicket, ModelError>> {
        let key = (provider.to_owned(), item.request.model.clone());
        let (told, place) = oneshot::channel();
        let mut opened = None;
        let full = {
            let mut lanes = self.lanes.lock();
            let lane = lanes.entry(key.clone()).or_insert_with(|| {
                opened = Some(item.id.clone());
                Lane { opened_by: item.id.clone(), waiting: Vec::new() }
            });
            // A second try of the same call takes the place of the first, which nobody waits for any more.
            lane.waiting.retain(|waiting| waiting.item.id != item.id);
            lane.waiting.push(Waiting { item, told });
            if lane.waiting.len() >= self.bounds.size { lanes.remove(&key) } else { None }
        };
        if let Some(lane) = full {
            tokio::spawn(hand_in(Arc::clone(batches), self.ports.clone(), lane.waiting));
        } else if let Some(opened) = opened {
            let (collector, batches) = (self.clone(), Arc::clone(batches));
            tokio::spawn(async move {
                (collector.ports.pause)(collector.bounds.window).await;
                if let Some(lane) = collector.take(&key, &opened) {
                    hand_in(batches, collector.ports, lane.waiting).await;
                }
            });
        }
        place.await.ok()
    }

    fn take(&self, key: &(String, String), opened: &str) -> Option<Lane> {
        let mut lanes = self.lanes.lock();
        if lanes.get(key)?.opened_by == opened { lanes.remove(key) } else { None }
    }
}

/// Hands a group in. One that is refused as it stands is split, so that one request cannot spoil the others.
async fn hand_in(batches: Arc<dyn Batches>, ports: Ports, waiting: Vec<Waiting>) {
    let mut groups = vec![waiting];
    while let Some(mut group) = groups.pop() {
        group.retain(|waiting| !waiting.told.is_closed());
        if group.is_empty() {
            continue;
        }
        let items: Vec<BatchItem> = group.iter().map(|waiting| waiting.item.clone()).collect();
        match submitted(batches.as_ref(), &ports, &items).await {
            Ok(ticket) => {
                for Waiting { item, told } in group {
                    // Each keeps what is its own; who is gone meanwhile has paid and does not hear of it.
                    let _gone = told.send(Ok(BatchTicket { ids: [item.id].into(), ..ticket.clone() }));
                }
            }
            Err(error) if is_refused(&error) && group.len() > 1 => {
                let rest = group.split_off(group.len() / 2);
                groups.extend([rest, group]);
            }
            Err(error) => {
                for Waiting { told, .. } in group {
                    let _gone = told.send(Err(error.clone()));
                }
            }
        }
    }
}

fn is_refused(error: &ModelError) -> bool {
    error.class == ErrorClass::InvalidRequest && error.spent == Spent::Nothing
}

/// Handing in again is safe only where the first try has certainly come to nothing.
async fn submitted(batches: &dyn Batches, ports: &Ports, items: &[BatchItem]) -> Result<BatchTicket, ModelError> {
    let policy = RetryPolicy::default();
    let mut tries = 0;
    loop {
        tries += 1;
        let error = match batches.submit(items).await {
            Ok(ticket) => return Ok(ticket),
            Err(error) => ModelError { tries, ..error },
        };
        let safe = error.is_retryable() && error.spent == Spent::Nothing;
        let pause = safe.then(|| policy.pause_after(tries, error.retry_after(), (ports.chance)())).flatten();
        let Some(pause) = pause else { return Err(error) };
        (ports.pause)(pause).await;
    }
}
