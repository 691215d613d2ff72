//! Rows that follow from a thread's records: its place in lists, its open questions, its timers.
//!
//! They are made with the same fold as the state: a small state of only these parts takes the ops that can change them, and
//! the differences are written. So a projection can be rebuilt from the full state and must then be the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use runtime::ports::store::{StoreError, ThreadRow, ThreadStatus};
use runtime_core::ids::{InterruptId, ThreadId, Timestamp};
use runtime_core::record::{Interrupt, Op, Outcome, Record, RunKind, RunOptions, TimerKey};
use runtime_core::state::{RunState, ThreadState};

use super::codec;
use super::layout::{self, Kind};
use crate::envelope::Sealer;
use crate::kv::{KeyRange, Order, Reader, SCAN_PAGE, Txn};

/// The projected parts of one thread.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Projection {
    pub(super) row: Option<ThreadRow>,
    pub(super) interrupts: BTreeMap<InterruptId, Interrupt>,
    pub(super) timers: BTreeMap<TimerKey, Timestamp>,
}

/// Whether an op can change a projection at all; most cannot.
pub(super) fn touches(op: &Op) -> bool {
    matches!(
        op,
        Op::Created { .. }
            | Op::RunAccepted(_)
            | Op::RunQueued(_)
            | Op::RunEnded { .. }
            | Op::FrameClosed { .. }
            | Op::InterruptOpened(_)
            | Op::Answered { .. }
            | Op::Expired { .. }
            | Op::Withdrawn { .. }
            | Op::TimerSet(_)
            | Op::TimerCleared { .. }
            | Op::Migrated { .. }
            | Op::Tagged { .. }
            | Op::Snapshot(_)
    )
}

impl Projection {
    /// What is stored.
    pub(super) fn read(view: &dyn Reader, sealer: &Sealer, thread: &ThreadId) -> Result<Self, StoreError> {
        let key = layout::thread_key(Kind::Thread, thread);
        let row = view.get(&key)?.map(|stored| codec::open(sealer, &key, &stored)).transpose()?;
        let mut interrupts = BTreeMap::new();
        for (key, stored) in all_of(view, layout::of_thread(Kind::Interrupt, thread))? {
            let interrupt: Interrupt = codec::open(sealer, &key, &stored)?;
            interrupts.insert(interrupt.id, interrupt);
        }
        let mut timers = BTreeMap::new();
        for (key, stored) in all_of(view, layout::of_thread(Kind::Timer, thread))? {
            let (timer, at) = codec::open(sealer, &key, &stored)?;
            timers.insert(timer, at);
        }
        Ok(Self { row, interrupts, timers })
    }

    /// What must be stored for `state`; `updated_at` is not part of a state and comes from the row before.
    pub(super) fn of(thread: &ThreadId, state: &ThreadState, before: Option<&ThreadRow>) -> Self {
        let row = state.graph.clone().zip(state.digest.clone()).map(|(graph, digest)| {
            let status = status(state);
            let unchanged = before.filter(|row| row.status == status);
            ThreadRow {
                id: thread.clone(),
                graph,
                digest,
                status,
                run: state.run.as_ref().map(|run| run.id),
                metadata: state.metadata.clone(),
                created_at: state.created_at,
                updated_at: unchanged.map_or(state.updated_at, |row| row.updated_at),
            }
        });
        Self { row, interrupts: state.interrupts.clone(), timers: state.timers.clone() }
    }

    /// The projection after `record`.
    pub(super) fn after(&self, thread: &ThreadId, record: &Record) -> Self {
        let mut state = self.as_state();
        for op in record.ops.iter().filter(|op| touches(op)) {
            state.apply(op, record.at);
        }
        Self::of(thread, &state, self.row.as_ref())
    }

    /// A state of which only the projected parts are true.
    fn as_state(&self) -> ThreadState {
        let mut state =
            ThreadState { interrupts: self.interrupts.clone(), timers: self.timers.clone(), ..ThreadState::default() };
        if let Some(row) = &self.row {
            state.graph = Some(row.graph.clone());
            state.digest = Some(row.digest.clone());
            state.metadata = row.metadata.clone();
            state.created_at = row.created_at;
            state.updated_at = row.updated_at;
            state.run = row.run.map(|id| RunState {
                id,
                kind: RunKind::Continue,
                options: RunOptions::default(),
                input: Arc::default(),
                accepted_at: Timestamp::default(),
                supersteps: 0,
                outcome: outcome_of(row.status),
            });
        }
        state
    }

    /// Writes what differs from `before`.
    pub(super) fn write(
        &self,
        txn: &mut Txn<'_>,
        sealer: &Sealer,
        thread: &ThreadId,
        before: &Self,
    ) -> Result<(), StoreError> {
        if self.row != before.row {
            let key = layout::thread_key(Kind::Thread, thread);
            match &self.row {
                Some(row) => txn.put(key.clone(), codec::seal(sealer, &key, row)?),
                None => txn.delete(key),
            }
        }
        self.write_interrupts(txn, sealer, thread, before)?;
        self.write_timers(txn, sealer, thread, before)
    }

    fn write_interrupts(
        &self,
        txn: &mut Txn<'_>,
        sealer: &Sealer,
        thread: &ThreadId,
        before: &Self,
    ) -> Result<(), StoreError> {
        for (id, old) in &before.interrupts {
            if self.interrupts.get(id).is_none_or(|new| new.opened_at != old.opened_at) {
                txn.delete(layout::interrupt_key(thread, old.opened_at, *id));
                txn.delete(layout::interrupt_place_key(*id, thread));
            }
        }
        for (id, new) in &self.interrupts {
            if before.interrupts.get(id) != Some(new) {
                let key = layout::interrupt_key(thread, new.opened_at, *id);
                txn.put(key.clone(), codec::seal(sealer, &key, new)?);
                let place = layout::interrupt_place_key(*id, thread);
                txn.put(place.clone(), codec::seal(sealer, &place, &(thread, new.opened_at))?);
            }
        }
        Ok(())
    }

    fn write_timers(
        &self,
        txn: &mut Txn<'_>,
        sealer: &Sealer,
        thread: &ThreadId,
        before: &Self,
    ) -> Result<(), StoreError> {
        for (timer, at) in &before.timers {
            if self.timers.get(timer) != Some(at) {
                let encoded = codec::encode(timer)?;
                txn.delete(layout::due_key(*at, thread, &encoded));
                txn.delete(layout::timer_key(thread, &encoded));
            }
        }
        for (timer, at) in &self.timers {
            if before.timers.get(timer) != Some(at) {
                let encoded = codec::encode(timer)?;
                let due = layout::due_key(*at, thread, &encoded);
                txn.put(due.clone(), codec::seal(sealer, &due, &(thread, timer, at))?);
                let key = layout::timer_key(thread, &encoded);
                txn.put(key.clone(), codec::seal(sealer, &key, &(timer, at))?);
            }
        }
        Ok(())
    }

    /// Nothing stored.
    pub(super) fn empty() -> Self {
        Self { row: None, interrupts: BTreeMap::new(), timers: BTreeMap::new() }
    }
}

/// What a list says about a thread in this state.
fn status(state: &ThreadState) -> ThreadStatus {
    match state.run.as_ref().map(|run| &run.outcome) {
        Some(None) => ThreadStatus::Busy,
        Some(Some(Outcome::Failed(_))) => ThreadStatus::Error,
        Some(Some(Outcome::Interrupted)) => ThreadStatus::Interrupted,
        Some(Some(Outcome::Waiting)) => ThreadStatus::Waiting,
        _ => ThreadStatus::Idle,
    }
}

/// An outcome that gives this status again.
fn outcome_of(status: ThreadStatus) -> Option<Outcome> {
    match status {
        ThreadStatus::Busy => None,
        ThreadStatus::Idle => Some(Outcome::Success),
        ThreadStatus::Interrupted => Some(Outcome::Interrupted),
        ThreadStatus::Waiting => Some(Outcome::Waiting),
        ThreadStatus::Error => Some(Outcome::Failed(runtime_core::error::TaskError::bug(""))),
    }
}

/// Every entry of a range, page by page.
pub(super) fn all_of(view: &dyn Reader, range: KeyRange) -> Result<Vec<(Vec<u8>, crate::kv::Value)>, StoreError> {
    let mut rest = range;
    let mut res = Vec::new();
    loop {
        let page = view.scan(&rest, Order::Forward, SCAN_PAGE)?;
        let last = page.entries.last().map(|(key, _)| key.clone());
        res.extend(page.entries);
        match last {
            Some(last) if page.more => rest = rest.after(&last),
            _ => return Ok(res),
        }
    }
}
