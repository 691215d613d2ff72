//! The wall of calls: how many a node may make for one input of its thread, over every pause and resume.
//!
//! The count is a fold of the log, so neither a crash nor a resume starts it anew; calls in the air count as made.

use graphs::{EffectClass, OnExceed};
use serde_json::json;

use crate::effect::Effect;
use crate::error::{ErrorClass, TaskError};
use crate::event::{CallRequest, Question, Token};
use crate::ids::{CallIx, Name, TaskId};
use crate::record::{CallHead, CallOutcome, InterruptKind, Op};
use crate::run::Run;

/// What a node's wall says to one more call.
enum Wall {
    Free,
    Refuses(String),
    Asks(Question),
}

impl Run {
    /// Stops a call that is over its node's `calls_per_run`; whether it did.
    pub(crate) fn over_budget(
        &mut self,
        task: TaskId,
        token: Token,
        ix: CallIx,
        call: (&CallHead, &CallRequest),
    ) -> bool {
        let (head, request) = call;
        match self.wall(task, request) {
            Wall::Free => false,
            Wall::Refuses(reason) => {
                let outcome = CallOutcome::Err(TaskError::new(ErrorClass::Limit, reason));
                self.record(Op::CallEnded { task, ix, head: Some(head.clone()), outcome: outcome.clone() });
                let verdict = crate::effect::Verdict::Recorded(outcome);
                self.push(Effect::Verdict { task, token, ix, verdict });
                true
            }
            Wall::Asks(question) => {
                self.ask_about_call(task, ix, head.clone(), (InterruptKind::Budget, &question));
                self.suspend(task, token);
                true
            }
        }
    }

    fn wall(&mut self, task: TaskId, request: &CallRequest) -> Wall {
        let Some((ns, frame, index)) = self.state.find_task(task) else { return Wall::Free };
        let Some(name) = frame.plan.tasks.get(index).map(|planned| planned.node.clone()) else { return Wall::Free };
        let ns = ns.clone();
        let Ok(view) = self.view(&ns) else { return Wall::Free };
        let Some(budget) = view.graph.node_by_name(&name).and_then(|node| node.budget.as_ref()) else {
            return Wall::Free;
        };
        let Some(limit) = budget.calls_per_run else { return Wall::Free };
        let made = self.state.calls.get(&name).copied().unwrap_or(0) + self.reads_in_the_air(&name);
        if made < limit {
            return Wall::Free;
        }
        let text = format!("node `{name}` has made {made} calls since the thread's input; its budget is {limit}");
        match budget.on_exceed {
            OnExceed::Pause => Wall::Asks(Question {
                title: format!("Budget of `{name}` is used up"),
                body: text,
                payload: json!({"node": &*name, "made": made, "limit": limit, "target": &*request.target, "args": *request.args}),
                choices: ["approve", "reject"].map(str::to_owned).to_vec(),
                ..Question::default()
            }),
            OnExceed::Fail | OnExceed::Downgrade => Wall::Refuses(text),
        }
    }

    /// Calls that only read are written when they end: until then they are counted here.
    fn reads_in_the_air(&self, node: &Name) -> u64 {
        let of_node = self.live.iter().filter(|(task, _)| self.node_of(**task) == Some(node));
        let reads =
            of_node.flat_map(|(_, live)| live.permitted.values()).filter(|head| head.effect == EffectClass::ReadOnly);
        u64::try_from(reads.count()).unwrap_or(u64::MAX)
    }

    fn node_of(&self, task: TaskId) -> Option<&Name> {
        self.state
            .find_task(task)
            .and_then(|(_, frame, index)| frame.plan.tasks.get(index))
            .map(|planned| &planned.node)
    }
}
