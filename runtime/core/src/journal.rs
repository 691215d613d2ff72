//! The fold of one task: attempts, failures, and the journal of its calls.

use crate::dispatch::is_wait;
use crate::record::{CallHead, CallKind, CallOutcome, Interrupt, Op};
use crate::spending::WHOLE_TASK;
use crate::state::{TaskState, TaskStatus};

pub(crate) fn question_head(interrupt: &Interrupt) -> CallHead {
    CallHead {
        kind: CallKind::Question,
        target: interrupt.node.clone(),
        digest: interrupt.digest.clone(),
        effect: graphs::EffectClass::ReadOnly,
    }
}

pub(crate) fn apply_task(task: &mut TaskState, op: &Op) {
    match op {
        Op::TaskFinished { changes, route, cached, .. } => {
            // A handled failure is one that was recorded just before: its error stays to be seen.
            if task.status != TaskStatus::Failed {
                task.error = None;
            }
            task.status = TaskStatus::Finished { changes: changes.clone(), route: route.clone(), cached: *cached };
        }
        Op::AttemptFailed { error, .. } => {
            task.attempts += 1;
            task.error = Some(error.clone());
            forget_leave(task);
            cut_journal(task);
            forget_wait(task);
        }
        Op::TaskFailed { error, .. } => {
            task.attempts += 1;
            task.error = Some(error.clone());
            task.status = TaskStatus::Failed;
        }
        Op::TaskReset { .. } => {
            task.status = TaskStatus::Pending;
            task.attempts = 0;
            forget_leave(task);
            cut_journal(task);
            forget_wait(task);
            reopen_failed_call(task);
        }
        Op::CallPlanned { ix, head, .. } => drop(task.entry(*ix, Some(head)).map(|entry| entry.begun)),
        Op::CallBegun { ix, head, .. } => {
            if let Some(entry) = task.entry(*ix, Some(head)) {
                entry.head = head.clone();
                entry.begun = true;
                entry.doubt = None;
                entry.outcome = None;
            }
        }
        Op::CallEnded { ix, head, outcome, .. } => {
            let attempt = task.attempts;
            if let Some(entry) = task.entry(*ix, head.as_ref()) {
                entry.outcome = Some(outcome.clone());
                entry.attempt = attempt;
                entry.leave = None;
            }
        }
        _ => {}
    }
}

/// After a failed attempt the calls behind the first failed one belong to the past: they may come out otherwise now.
fn cut_journal(task: &mut TaskState) {
    let failed = task.calls.iter().find(|(_, call)| matches!(call.outcome, Some(CallOutcome::Err(_))));
    let Some(first) = failed.map(|(ix, _)| *ix) else { return };
    let before = task.calls.len();
    task.calls.retain(|ix, _| *ix <= first);
    if task.calls.len() < before {
        task.generation += 1;
    }
}

/// What people said about an interlock was said about the attempt that has failed.
fn forget_leave(task: &mut TaskState) {
    task.calls.remove(&WHOLE_TASK);
    task.calls.values_mut().for_each(|call| call.leave = None);
}

/// A `wait` that is tried again waits again.
fn forget_wait(task: &mut TaskState) {
    task.calls.retain(|_, call| !is_wait(&call.head));
}

/// A task that is reset makes its failed call again, unless nobody knows whether it happened: then it is in doubt.
fn reopen_failed_call(task: &mut TaskState) {
    for call in task.calls.values_mut() {
        if let Some(CallOutcome::Err(error)) = &call.outcome {
            call.begun = call.begun && error.class.leaves_doubt();
            call.doubt = None;
            call.outcome = None;
        }
    }
}
