//! Moves frozen writes to the engine and lets the log be used again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc;

use super::committer::Job;
use super::durable::Shared;
use super::memory::panic_text;
use super::{Engine, KvError, WriteMap};

/// Recent writes go to the engine when nothing has asked for it for this long, so that an idle store holds nothing in memory.
const IDLE: Duration = Duration::from_millis(250);

/// The applier's own state.
pub(super) struct Applier<E: Engine> {
    shared: Arc<Shared<E>>,
    jobs: mpsc::WeakSender<Job>,
}

impl<E: Engine> Applier<E> {
    pub(super) fn start(shared: Arc<Shared<E>>, jobs: mpsc::WeakSender<Job>) -> Result<JoinHandle<()>, KvError> {
        let path = shared.folder.path().to_path_buf();
        let applier = Self { shared, jobs };
        let thread = std::thread::Builder::new().name("store-applier".to_owned());
        thread.spawn(move || applier.run()).map_err(|e| KvError::io("starting the applier", &path, &e))
    }

    fn run(&self) {
        while let Some(last) = self.next_turn() {
            let moved = catch_unwind(AssertUnwindSafe(|| self.take_over(last)));
            let moved = moved.unwrap_or_else(|panic| Err(KvError::Bug { cause: panic_text(&*panic) }));
            if let Err(e) = moved {
                self.shared.close(&e);
                return;
            }
        }
    }

    /// Waits for frozen writes; `None` when it is time to end.
    fn next_turn(&self) -> Option<u64> {
        let mut turns = self.shared.turns.lock();
        loop {
            if let Some(last) = turns.frozen_last {
                return Some(last);
            }
            if turns.stop || self.shared.closed.get().is_some() {
                return None;
            }
            if !turns.dirty {
                self.shared.turned.wait(&mut turns);
            } else if self.shared.turned.wait_for(&mut turns, IDLE).timed_out() && turns.frozen_last.is_none() {
                // A full queue means that the store is not idle.
                let _asked = self.jobs.upgrade().map(|jobs| jobs.try_send(Job::Turn));
            }
        }
    }

    fn take_over(&self, last: u64) -> Result<(), KvError> {
        let frozen = self.shared.tables.read().frozen.clone();
        let nothing = WriteMap::new();
        self.shared.engine.take_over(frozen.as_deref().unwrap_or(&nothing), last)?;
        let mut tables = self.shared.tables.write();
        drop(frozen);
        tables.frozen = None;
        let is_at_rest = tables.active.is_empty();
        drop(tables);
        self.shared.n_turns.fetch_add(1, Ordering::Relaxed);
        self.shared.turns.lock().frozen_last = None;
        self.shared.turned.notify_all();
        if is_at_rest {
            self.shared.come_to_rest();
        }
        Ok(())
    }
}
