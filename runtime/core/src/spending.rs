//! What a thread holds on the shared ledger, as a fold of its log.
//!
//! ```text
//!  Held ─durable─▶ reserve ─▶ CallBegun ─durable─▶ call ─▶ CallEnded + Charged ─durable─▶ settle ─▶ Settled
//! ```
//!
//! A hold that a dead process left behind was spent in full if its call was begun, else not at all: so a crash neither
//! passes a wall nor leaves anything reserved for ever.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ids::{CallIx, Name, TaskId};
use crate::interlocks::approval::choice;
use crate::interlocks::budget::{Cost, Unit};
use crate::record::{Answer, InterruptKind, Op};
use crate::state::{CallEntry, Leave, ThreadState};

/// Place in a task's journal of what concerns the task as a whole: behind every call it may make.
pub(crate) const WHOLE_TASK: CallIx = CallIx(u32::MAX);

/// What a thread holds on the ledger.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Spending {
    /// Holds that the ledger does not have settled yet.
    pub holds: BTreeMap<Name, Hold>,
    /// Holds ever made, for their keys.
    pub n_holds: u64,
    /// Inputs since the first hold: a run's wall is another one after new input.
    pub inputs: u64,
    /// Limits that an approver raised for this thread, by wall.
    pub raised: BTreeMap<Name, u64>,
}

/// What one call may take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hold {
    /// The task.
    pub task: TaskId,
    /// Its call.
    pub ix: CallIx,
    /// From which accounts, and how much at most.
    pub takes: Vec<Take>,
    /// The call was begun, so it may have happened.
    pub begun: bool,
    /// What it really took, once that is known.
    pub spent: Option<Vec<u64>>,
}

/// An amount of an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Take {
    /// The account.
    pub account: Name,
    /// What it counts.
    pub unit: Unit,
    /// How much at most.
    pub amount: u64,
}

impl Hold {
    /// What is spent when the call took this much; nothing when it was never made.
    pub(crate) fn amounts(&self, cost: Option<Cost>) -> Vec<u64> {
        self.takes.iter().map(|take| cost.map_or(0, |cost| take.unit.of(cost))).collect()
    }

    /// What is spent when nobody knows: all of it if the call was begun.
    pub(crate) fn worst(&self) -> Vec<u64> {
        self.takes.iter().map(|take| if self.begun { take.amount } else { 0 }).collect()
    }
}

impl ThreadState {
    pub(crate) fn apply_spending(&mut self, op: &Op) {
        let spending = self.spending.get_or_insert_default();
        match op {
            Op::Held { key, hold } => {
                spending.n_holds += 1;
                spending.holds.insert(key.clone(), (**hold).clone());
            }
            Op::Charged { key, spent } => {
                if let Some(hold) = spending.holds.get_mut(key) {
                    hold.spent = Some(spent.clone());
                }
            }
            Op::Settled { key } => drop(spending.holds.remove(key)),
            _ => {}
        }
    }

    /// The hold of a call that begins may be spent from now on.
    pub(crate) fn note_begun(&mut self, op: &Op) {
        let (Op::CallBegun { task, ix, .. }, Some(spending)) = (op, &mut self.spending) else { return };
        let of_call = |hold: &&mut Hold| hold.task == *task && hold.ix == *ix && hold.spent.is_none();
        spending.holds.values_mut().filter(of_call).for_each(|hold| hold.begun = true);
    }
}

/// The wall that an approval raises for its thread, and its new limit.
pub(crate) fn raised_by(kind: InterruptKind, payload: &Value, answer: &Answer) -> Option<(Name, u64)> {
    if kind != InterruptKind::Budget || choice(&answer.value) != Some("approve") {
        return None;
    }
    let unit: Unit = serde_json::from_value(payload.get("unit")?.clone()).ok()?;
    let limit = answer.value.get("limit")?.as_f64()?;
    Some((payload.get("wall")?.as_str()?.into(), unit.amount(limit)))
}

/// Puts a deciding answer where the call looks for it.
pub(crate) fn take_answer(entry: &mut CallEntry, kind: InterruptKind, payload: &Value, answer: &Answer) {
    let leave = |entry: &mut CallEntry, take: &dyn Fn(&mut Leave)| take(entry.leave.get_or_insert_default());
    match kind {
        InterruptKind::InDoubt => entry.doubt = Some(answer.clone()),
        InterruptKind::Breaker => leave(entry, &|leave| leave.breaker = Some(answer.clone())),
        InterruptKind::Budget => leave(entry, &|leave| {
            let approves = choice(&answer.value) == Some("approve");
            // With a new limit the wall stands, only elsewhere; without one it is open for this call.
            let lifted = payload.get("wall").and_then(Value::as_str).filter(|_| answer.value.get("limit").is_none());
            leave.lifted.extend(lifted.filter(|_| approves).map(Name::from));
            leave.budget = Some(answer.clone());
        }),
        _ => entry.answer = Some(answer.clone()),
    }
}
