//! The write side of a run: ops wait here until they are committed, and effects until what they depend on is durable.
//!
//! One commit is in flight at a time; ops that arrive meanwhile share the next one.

use graphs::EffectClass;

use crate::channels::{Change, weight};
use crate::effect::Effect;
use crate::ids::{Epoch, RunId, Seq, ThreadId, Timestamp};
use crate::record::{CallKind, CallOutcome, Commit, Op, Record};
use crate::state::{Frame, TaskState, TaskStatus, ThreadState};

/// Smallest weight in bytes after which a snapshot can be due.
pub(crate) const SNAPSHOT_WEIGHT_MIN: usize = 32 * 1024;

/// Most records between two snapshots of a thread that keeps writing.
pub(crate) const SNAPSHOT_RECORDS_MAX: u32 = 2048;

/// Most ops that may wait for company before they are written.
const LINGERING_MAX: usize = 64;

/// Rough weight of an op besides its values.
const OP_WEIGHT: usize = 24;
/// Of a place that a task is sent to.
const HOP_WEIGHT: usize = 16;
/// Of a call in a journal besides its result.
const CALL_WEIGHT: usize = 80;
/// Of a question besides its payload.
const INTERRUPT_WEIGHT: usize = 200;

pub(crate) struct Log {
    head: Seq,
    epoch: Epoch,
    claimed: bool,
    buffer: Vec<Op>,
    written: u64,
    in_flight: Option<Seq>,
    durable: Seq,
    barrier: Seq,
    /// The barrier before `barrier`.
    last_barrier: Seq,
    floor: Seq,
    held: Vec<(Seq, Effect)>,
    flush_wanted: bool,
    /// Something in the buffer is worth a commit of its own.
    hurries: bool,
    weight: usize,
    snapshot_weight: usize,
    records: u32,
}

impl Log {
    pub(crate) fn new(head: Seq, epoch: Epoch, weight: (usize, usize)) -> Self {
        Self {
            head,
            epoch: epoch.next(),
            claimed: false,
            buffer: Vec::new(),
            written: 0,
            in_flight: None,
            durable: head,
            barrier: head,
            last_barrier: head,
            floor: head,
            held: Vec::new(),
            flush_wanted: false,
            hurries: false,
            weight: weight.0,
            snapshot_weight: weight.1,
            records: 0,
        }
    }

    pub(crate) fn push(&mut self, op: Op) {
        self.weight += OP_WEIGHT + op_weight(&op);
        self.hurries |= !may_linger(&op);
        self.written += 1;
        self.buffer.push(op);
    }

    /// Ops ever pushed; tells whether a command wrote anything.
    pub(crate) fn pending(&self) -> u64 {
        self.written
    }

    /// Forgets what was pushed since [`Log::pending`] said `mark`: a command that is refused writes nothing.
    pub(crate) fn forget_since(&mut self, mark: u64) {
        let extra = usize::try_from(self.written.saturating_sub(mark)).unwrap_or(usize::MAX);
        self.buffer.truncate(self.buffer.len().saturating_sub(extra));
        self.written = mark;
    }

    pub(crate) fn want_flush(&mut self) {
        self.flush_wanted = true;
    }

    /// Whether what is buffered may wait a moment for more of its kind: nothing depends on it, and if it is lost, a tool that
    /// only reads is asked once more.
    pub(crate) fn may_linger(&self) -> bool {
        !self.buffer.is_empty()
            && self.buffer.len() < LINGERING_MAX
            && !(self.hurries || self.flush_wanted)
            && self.held.is_empty()
    }

    /// Tasks may start only when everything buffered now is durable.
    pub(crate) fn set_barrier(&mut self) {
        let barrier = self.next_seq();
        if barrier > self.barrier {
            self.last_barrier = self.barrier;
            self.barrier = barrier;
        }
    }

    /// Nothing may start before everything buffered now is durable, whatever the durability of the run.
    pub(crate) fn set_floor(&mut self) {
        self.floor = self.next_seq();
    }

    pub(crate) fn floor_passed(&self) -> bool {
        self.durable >= self.floor
    }

    pub(crate) fn barrier_passed(&self) -> bool {
        self.durable >= self.barrier
    }

    /// Whether what stood before the last barrier is durable: one superstep may be ahead of the disk, not more.
    pub(crate) fn last_barrier_passed(&self) -> bool {
        self.durable >= self.last_barrier
    }

    /// The record that the buffer will be written with.
    fn next_seq(&self) -> Seq {
        self.head.next()
    }

    /// Keeps an effect until all ops so far are durable; gives it back when they are.
    pub(crate) fn hold(&mut self, effect: Effect) -> Option<Effect> {
        let needs = if self.buffer.is_empty() { self.head } else { self.next_seq() };
        if self.durable >= needs {
            return Some(effect);
        }
        self.held.push((needs, effect));
        None
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.buffer.is_empty() && self.in_flight.is_none() && self.held.is_empty()
    }

    pub(crate) fn snapshot_due(&self) -> bool {
        let heavy = self.weight > SNAPSHOT_WEIGHT_MIN.max(self.snapshot_weight);
        self.can_flush() && (heavy || self.records >= SNAPSHOT_RECORDS_MAX)
    }

    fn can_flush(&self) -> bool {
        self.flush_wanted && self.in_flight.is_none() && !self.buffer.is_empty()
    }

    pub(crate) fn flush(
        &mut self,
        thread: &ThreadId,
        at: Timestamp,
        run: Option<RunId>,
        snapshot: Option<Op>,
    ) -> Option<Commit> {
        if !self.can_flush() {
            return None;
        }
        let mut ops = std::mem::take(&mut self.buffer);
        self.records += 1;
        if let Some(Op::Snapshot(state)) = snapshot {
            self.snapshot_weight = state_weight(&state);
            self.weight = 0;
            self.records = 0;
            ops.push(Op::Snapshot(state));
        }
        let seq = self.next_seq();
        let claim = !self.claimed;
        self.claimed = true;
        self.head = seq;
        self.in_flight = Some(seq);
        self.flush_wanted = false;
        self.hurries = false;
        let record = Record { at, epoch: self.epoch, run, ops };
        Some(Commit { thread: thread.clone(), seq, epoch: self.epoch, claim, record })
    }

    /// A commit became durable: the effects that waited for it, in the order in which they were held.
    pub(crate) fn persisted(&mut self, seq: Seq) -> Vec<Effect> {
        if self.in_flight == Some(seq) {
            self.in_flight = None;
        }
        self.durable = self.durable.max(seq);
        let durable = self.durable;
        let (released, held) = std::mem::take(&mut self.held).into_iter().partition(|(needs, _)| *needs <= durable);
        self.held = held;
        if !self.held.is_empty() || self.barrier > self.durable || self.floor > self.durable {
            self.flush_wanted = true;
        }
        let released: Vec<(Seq, Effect)> = released;
        released.into_iter().map(|(_, effect)| effect).collect()
    }
}

/// What a call of a tool that only reads leaves behind. A model's answer has cost money and is no such thing.
fn may_linger(op: &Op) -> bool {
    match op {
        Op::Audited(_) => true,
        Op::CallEnded { head: Some(head), .. } => head.kind == CallKind::Tool && head.effect == EffectClass::ReadOnly,
        _ => false,
    }
}

/// Rough bytes of an op's values. Entries of the audit log weigh nothing: whoever reads the thread passes over them.
fn op_weight(op: &Op) -> usize {
    match op {
        Op::TaskFinished { changes, route, .. } => changes_weight(changes) + HOP_WEIGHT * route.len(),
        Op::Checkpoint { changes, plan, .. } => changes_weight(changes) + HOP_WEIGHT * plan.tasks.len(),
        Op::Patched { changes, .. } => changes_weight(changes),
        Op::CallEnded { outcome: CallOutcome::Ok(value), .. } => weight(value),
        Op::InterruptOpened(interrupt) => INTERRUPT_WEIGHT + weight(&interrupt.payload),
        Op::RunAccepted(run) => 40 + weight(&run.input),
        Op::Audited(_) => 0,
        Op::Signalled { payload, .. } => weight(payload),
        _ => 24,
    }
}

fn changes_weight(changes: &[Change]) -> usize {
    changes.iter().map(|change| change.channel.len() + change.op.weight()).sum()
}

/// Rough bytes of a snapshot of `state`. What it leaves out is paid for again and again: a snapshot is due whenever the ops
/// since the last one outweigh it, so the journal of a task with many calls, or a wide fan-out, must count in full.
fn state_weight(state: &ThreadState) -> usize {
    let frames: usize = state.frames.values().map(frame_weight).sum();
    let interrupts = state.interrupts.values().map(|open| INTERRUPT_WEIGHT + weight(&open.payload));
    let signals = state.signals.iter().map(|(_, payload)| weight(payload));
    let input = state.run.as_ref().map_or(0, |run| weight(&run.input));
    200 + frames + interrupts.sum::<usize>() + signals.sum::<usize>() + input
}

fn frame_weight(frame: &Frame) -> usize {
    let slots = frame.channels.values().map(|slot| 8 + weight(&slot.value));
    slots.sum::<usize>() + frame.tasks.iter().map(task_weight).sum::<usize>()
}

fn task_weight(task: &TaskState) -> usize {
    let written = match &task.status {
        TaskStatus::Finished { changes, route, .. } => changes_weight(changes) + HOP_WEIGHT * route.len(),
        TaskStatus::Pending | TaskStatus::Failed => 0,
    };
    let calls = task.calls.values().map(|call| match &call.outcome {
        Some(CallOutcome::Ok(value)) => CALL_WEIGHT + weight(value),
        _ => CALL_WEIGHT,
    });
    OP_WEIGHT + written + calls.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A superstep ends and is sent to the store, if none is on its way.
    fn superstep(log: &mut Log) -> Option<Seq> {
        log.push(Op::TaskReset { task: crate::ids::TaskId(1) });
        log.set_barrier();
        log.want_flush();
        let thread = ThreadId::new("t").unwrap();
        log.flush(&thread, Timestamp(0), None, None).map(|commit| commit.seq)
    }

    #[test]
    fn one_superstep_may_be_ahead_of_the_disk() {
        let mut log = Log::new(Seq(0), Epoch(0), (0, 0));
        assert_eq!(superstep(&mut log), Some(Seq(1)));
        assert!(log.last_barrier_passed() && !log.barrier_passed());
        assert_eq!(superstep(&mut log), None);
        assert!(!log.last_barrier_passed(), "the second would be lost together with the first");
        log.persisted(Seq(1));
        assert!(log.last_barrier_passed() && !log.barrier_passed());
    }

    fn ended(kind: CallKind, effect: EffectClass) -> Op {
        let head = crate::record::CallHead { kind, target: "w.query".into(), digest: String::new(), effect };
        let outcome = CallOutcome::Ok(std::sync::Arc::default());
        Op::CallEnded { task: crate::ids::TaskId(1), ix: crate::ids::CallIx(0), head: Some(head), outcome }
    }

    #[test]
    fn only_the_trace_of_what_reads_waits_for_company() {
        let lingers = |ops: Vec<Op>| {
            let mut log = Log::new(Seq(0), Epoch(0), (0, 0));
            ops.into_iter().for_each(|op| log.push(op));
            log.may_linger()
        };
        let read = || ended(CallKind::Tool, EffectClass::ReadOnly);
        assert!(lingers(vec![read(), read()]));
        assert!(!lingers(vec![]), "there is nothing to write");
        assert!(!lingers(vec![ended(CallKind::Model, EffectClass::ReadOnly)]), "an answer has cost money");
        assert!(!lingers(vec![ended(CallKind::Tool, EffectClass::Idempotent)]), "an act");
        assert!(
            !lingers(vec![read(), Op::TaskReset { task: crate::ids::TaskId(1) }]),
            "one that hurries takes all along"
        );
        assert!(!lingers((0..LINGERING_MAX).map(|_| read()).collect()), "enough have come together");
    }

    #[test]
    fn what_somebody_waits_for_does_not_linger() {
        let mut log = Log::new(Seq(0), Epoch(0), (0, 0));
        log.push(ended(CallKind::Tool, EffectClass::ReadOnly));
        let told = Effect::RunEnded { run: RunId(1), outcome: crate::record::Outcome::Success };
        assert!(log.hold(told).is_none());
        assert!(!log.may_linger());
    }

    #[test]
    fn frames_that_end_together_are_one_step_ahead() {
        let mut log = Log::new(Seq(0), Epoch(0), (0, 0));
        log.set_barrier();
        log.set_barrier();
        assert!(log.last_barrier_passed() && !log.barrier_passed());
    }
}
