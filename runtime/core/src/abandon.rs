//! Tasks that will never go on: what their calls left running outside may be ended, once it is durable that nobody comes back
//! for it. A task that is only taken off the shell (a question, a drain, a crash) is not among them: it asks for the same
//! calls again.

use crate::effect::{Abandoned, Effect};
use crate::ids::{Ns, TaskId};
use crate::record::{CallKind, CallOutcome};
use crate::run::Run;
use crate::state::{TaskState, TaskStatus};

impl Run {
    /// What the unfinished tasks of some frames have called so far. Taken before the frames change, told after it with
    /// [`Run::tell_abandoned`].
    pub(crate) fn unfinished_in(&self, inside: impl Fn(&Ns) -> bool) -> Vec<Abandoned> {
        let frames = self.state.frames.iter().filter(|(ns, _)| inside(ns));
        let pending = frames.flat_map(|(_, frame)| &frame.tasks).filter(|task| task.status == TaskStatus::Pending);
        pending.filter_map(made).collect()
    }

    /// What one task has called so far.
    pub(crate) fn unfinished(&self, task: TaskId) -> Option<Abandoned> {
        self.task(task).and_then(made)
    }

    /// Says it when everything recorded so far is durable: until then a crash would bring these tasks back.
    pub(crate) fn tell_abandoned(&mut self, all: impl IntoIterator<Item = Abandoned>) {
        for abandoned in all {
            self.hold(Effect::Abandoned(Box::new(abandoned)));
        }
    }
}

/// The calls of a task that have ended; `None` when no tool has answered it.
fn made(task: &TaskState) -> Option<Abandoned> {
    let ended = task.calls.values().filter_map(|call| Some((call.head.clone(), call.outcome.clone()?)));
    let calls: Vec<_> = ended.collect();
    let answered = |(head, outcome): &(crate::record::CallHead, CallOutcome)| {
        head.kind == CallKind::Tool && matches!(outcome, CallOutcome::Ok(_))
    };
    calls.iter().any(answered).then_some(Abandoned { task: task.id, calls })
}
