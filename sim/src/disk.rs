//! A store with fences and with what a crash can do to a commit: lost, or applied with the answer lost.

use runtime_core::ids::{Epoch, Seq};
use runtime_core::record::{Commit, Record};
use runtime_core::state::ThreadState;

/// The durable log of the world's one thread.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    /// Durable records, oldest first.
    pub records: Vec<Record>,
    /// Skip the fence (a weakened world that must fail).
    pub unfenced: bool,
    /// What recovery sees: the fold of the records.
    pub state: ThreadState,
}

impl Disk {
    /// The head's place and epoch.
    pub fn head(&self) -> (Seq, Epoch) {
        (Seq(self.records.len() as u64), self.records.last().map_or(Epoch(0), |record| record.epoch))
    }

    /// Compare and append; `false` when fenced.
    pub fn commit(&mut self, commit: &Commit) -> bool {
        let (seq, epoch) = self.head();
        let owns = if commit.claim { commit.epoch == epoch.next() } else { commit.epoch == epoch };
        let fits = owns && commit.seq == seq.next();
        if fits || self.unfenced {
            self.state.apply_record(&commit.record);
            self.records.push(commit.record.clone());
        }
        fits || self.unfenced
    }
}
