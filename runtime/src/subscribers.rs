//! Who listens to a thread's events. A listener that lags too far behind is let go; it can re-read the log.

use runtime_core::stream::{Modes, StreamEvent};
use tokio::sync::mpsc;

/// Events a listener may lag behind.
pub const LAG_MAX: usize = 4096;

#[derive(Default)]
pub(crate) struct Subscribers {
    list: Vec<(Modes, mpsc::Sender<StreamEvent>)>,
}

impl Subscribers {
    pub(crate) fn add(&mut self, modes: Modes, sender: mpsc::Sender<StreamEvent>) {
        self.list.push((modes, sender));
    }

    pub(crate) fn modes(&self) -> Modes {
        self.list.iter().fold(Modes::default(), |all, (modes, _)| all.union(*modes))
    }

    pub(crate) fn send(&mut self, event: StreamEvent) {
        self.list.retain(|(modes, sender)| !modes.has(event.mode) || sender.try_send(event.clone()).is_ok());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Returns when nobody listens any more.
    pub(crate) async fn gone(&self) {
        for (_, sender) in &self.list {
            sender.closed().await;
        }
    }

    pub(crate) fn close(&mut self) {
        self.list.clear();
    }
}
