//! The walls of budgets: how many calls a node may make for one input of its thread, and what happens at any wall.
//!
//! The count of calls is a fold of the log, so neither a crash nor a resume starts it anew; calls in the air count as made.
//! Walls of money, tokens and days stand on the shared ledger: see [`crate::clearance`].

use std::sync::Arc;

use graphs::{CompiledGraph, EffectClass, Node, OnExceed};
use serde_json::{Value, json};

use crate::effect::Verdict;
use crate::error::{ErrorClass, TaskError};
use crate::event::{Question, Token};
use crate::ids::{CallIx, Name, TaskId};
use crate::interlocks::approval::choice;
use crate::interlocks::budget::{Unit, Wall, calls_wall, graph_spender, spender};
use crate::record::{CallHead, CallOutcome, InterruptKind, Op};
use crate::run::Run;
use crate::state::Leave;

/// A wall without room for one more call.
pub(crate) struct Full {
    pub(crate) name: Name,
    pub(crate) unit: Unit,
    pub(crate) limit: u64,
    /// Used, by calls that ended and by calls that are going on.
    pub(crate) used: u64,
    pub(crate) on_exceed: OnExceed,
    pub(crate) what: String,
}

impl Run {
    /// Stops a call that is over its node's `calls_per_run`; whether it did.
    pub(crate) fn over_budget(
        &mut self,
        task: TaskId,
        token: Token,
        ix: CallIx,
        call: (&CallHead, &Arc<Value>),
    ) -> bool {
        let (head, args) = call;
        let Some(full) = self.calls_full(task, ix) else { return false };
        self.at_wall(task, token, ix, (head.clone(), Arc::clone(args), full));
        true
    }

    /// Whether people said no to a call that is over a budget; the call is refused then.
    pub(crate) fn budget_denied(&mut self, task: TaskId, token: Token, ix: CallIx, head: &CallHead) -> bool {
        let answer = self.leave(task, ix).and_then(|leave| leave.budget.clone());
        let Some(answer) = answer.filter(|answer| choice(&answer.value) != Some("approve")) else { return false };
        let said = format!("`{}` answered `{}`", answer.by, choice(&answer.value).unwrap_or("?"));
        self.refuse_call(task, token, ix, (head.clone(), said));
        true
    }

    /// What people said about the interlocks of a call.
    pub(crate) fn leave(&self, task: TaskId, ix: CallIx) -> Option<&Leave> {
        self.task(task)?.call(ix)?.leave.as_deref()
    }

    /// The limit of a wall in this thread: as declared, as raised, or none for a call that may pass it.
    pub(crate) fn limit_for(&self, task: TaskId, ix: CallIx, wall: (&Name, u64)) -> u64 {
        let (name, declared) = wall;
        if self.leave(task, ix).is_some_and(|leave| leave.lifted.contains(name)) {
            return u64::MAX;
        }
        let raised = self.state.spending.as_ref().and_then(|spending| spending.raised.get(name).copied());
        raised.map_or(declared, |raised| raised.max(declared))
    }

    fn calls_full(&mut self, task: TaskId, ix: CallIx) -> Option<Full> {
        let (ns, frame, index) = self.state.find_task(task)?;
        let node_name = frame.plan.tasks.get(index).map(|planned| planned.node.clone())?;
        let ns = ns.clone();
        let view = self.view(&ns).ok()?;
        let node = view.graph.node_by_name(&node_name)?;
        self.node_calls_full((task, ix), &view.graph, node).or_else(|| self.graph_calls_full((task, ix), &view.graph))
    }

    fn node_calls_full(&self, call: (TaskId, CallIx), graph: &CompiledGraph, node: &Node) -> Option<Full> {
        let budget = node.budget.as_ref()?;
        let name = calls_wall(&spender(graph.name(), node));
        let limit = self.limit_for(call.0, call.1, (&name, budget.calls_per_run?));
        let used = self.calls_of(&node.name);
        let what =
            format!("node `{}` has made {used} calls since the thread's input; its budget is {limit}", node.name);
        let on_exceed = budget.on_exceed;
        (used >= limit).then_some(Full { name, unit: Unit::Calls, limit, used, on_exceed, what })
    }

    fn graph_calls_full(&self, call: (TaskId, CallIx), graph: &CompiledGraph) -> Option<Full> {
        let budget = graph.budget()?;
        let name = calls_wall(&graph_spender(graph));
        let limit = self.limit_for(call.0, call.1, (&name, budget.calls_per_run?));
        let used = graph.nodes().iter().map(|node| self.calls_of(&node.name)).sum();
        let what =
            format!("graph `{}` has made {used} calls since the thread's input; its budget is {limit}", graph.name());
        let on_exceed = budget.on_exceed;
        (used >= limit).then_some(Full { name, unit: Unit::Calls, limit, used, on_exceed, what })
    }

    /// Calls of a node since the thread's last input, those in the air included.
    fn calls_of(&self, node: &str) -> u64 {
        self.state.calls.get(node).copied().unwrap_or(0) + self.reads_in_the_air(node)
    }

    /// What the ledger said about a wall, in words.
    pub(crate) fn ledger_full(&self, wall: &Wall, limit: u64, account: (u64, u64)) -> Full {
        let (spent, reserved) = account;
        let show = |amount| wall.unit.show(amount);
        let in_the_air =
            if reserved == 0 { String::new() } else { format!(" and {} reserved by calls that go on", show(reserved)) };
        let what = format!(
            "budget `{}` is {}; {} is spent{in_the_air}, and the call may take more than is left",
            wall.name,
            show(limit),
            show(spent)
        );
        let (name, used) = (wall.name.clone(), spent.saturating_add(reserved));
        Full { name, unit: wall.unit, limit, used, on_exceed: wall.on_exceed, what }
    }

    /// A call stands at a wall: people are asked, or it is refused.
    pub(crate) fn at_wall(&mut self, task: TaskId, token: Token, ix: CallIx, call: (CallHead, Arc<Value>, Full)) {
        let (head, args, full) = call;
        let reason = match full.on_exceed {
            OnExceed::Pause => {
                let question = full.question(&head, &args);
                self.ask_about_call(task, ix, head, (InterruptKind::Budget, &question));
                return self.suspend(task, token);
            }
            OnExceed::Fail => full.what,
            // A lower tier would be tried here; an agent of one tier has none.
            OnExceed::Downgrade => format!("{}; there is no lower tier", full.what),
        };
        let outcome = CallOutcome::Err(TaskError::new(ErrorClass::Limit, reason));
        self.record(Op::CallEnded { task, ix, head: Some(head), outcome: outcome.clone() });
        self.verdict(task, token, ix, Verdict::Recorded(outcome));
    }

    /// Calls that only read are written when they end: until then they are counted here. Those on the ledger are written
    /// when they begin.
    fn reads_in_the_air(&self, node: &str) -> u64 {
        let of_node = self.live.iter().filter(|(task, _)| self.node_of(**task).is_some_and(|name| **name == *node));
        let reads = of_node.flat_map(|(_, live)| live.permitted.iter().map(move |(ix, head)| (live, ix, head))).filter(
            |(live, ix, head)| {
                head.effect == EffectClass::ReadOnly
                    && live.passing.get(ix).is_none_or(|passing| passing.hold.is_none())
            },
        );
        u64::try_from(reads.count()).unwrap_or(u64::MAX)
    }

    pub(crate) fn node_of(&self, task: TaskId) -> Option<&Name> {
        self.state
            .find_task(task)
            .and_then(|(_, frame, index)| frame.plan.tasks.get(index))
            .map(|planned| &planned.node)
    }
}

impl Full {
    fn question(&self, head: &CallHead, args: &Value) -> Question {
        let text = format!(
            "{}. `approve` lets this call pass; with `limit` it raises the limit for this thread instead.",
            self.what
        );
        Question {
            title: format!("Budget {} is used up", self.name),
            body: text,
            payload: json!({
                "wall": &*self.name, "unit": self.unit, "limit": self.limit, "used": self.used,
                "target": &*head.target, "args": args,
            }),
            choices: ["approve", "reject"].map(str::to_owned).to_vec(),
            ..Question::default()
        }
    }
}
