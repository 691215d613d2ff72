//! Clearance: what a call or a whole task needs from records that other threads share: its breaker and its walls.
//!
//! The run decides which records matter and what their answer means; the shell reads and writes them. A node that declares
//! neither `breaker` nor such a `budget` never comes here.

use std::sync::Arc;

use graphs::{Kind, Node};
use serde_json::{Value, json};

use crate::dispatch::Starting;
use crate::effect::{Clear, Effect, Gate, Tell};
use crate::error::{ErrorClass, TaskError};
use crate::event::{Cleared, Passed, Question, Token, Told};
use crate::healing::Watch;
use crate::ids::{CallIx, Name, TaskId, Timestamp};
use crate::interlocks::approval::choice;
use crate::interlocks::breaker::{Press, Sign, Turn, sign_of};
use crate::interlocks::budget::{Cost, Place, Wall, uses_ledger, walls};
use crate::record::{CallHead, CallKind, CallOutcome, InterruptKind, Op, Timer, TimerKey};
use crate::run::Run;
use crate::spending::{Hold, Take, WHOLE_TASK};

/// The choice of a person who closes a breaker.
pub const RESET: &str = "reset";

/// A call (or a whole task) on its way through the shared records.
pub(crate) struct Passing {
    /// `None` for a whole task.
    head: Option<CallHead>,
    args: Arc<Value>,
    gate: Option<Gate>,
    pub(crate) hold: Option<Name>,
    walls: Vec<Wall>,
    cleared: bool,
    /// The track record that an act is looked up in.
    pub(crate) record: Option<Watch>,
}

impl Passing {
    /// A whole task.
    fn of_task(gate: Option<Gate>, record: Option<Watch>) -> Self {
        Self { head: None, args: Arc::default(), gate, hold: None, walls: Vec::new(), cleared: false, record }
    }
}

impl Run {
    /// Lets a call be made, through the shared records its node declares.
    pub(crate) fn permit(&mut self, task: TaskId, token: Token, ix: CallIx, call: (CallHead, Arc<Value>)) {
        if !self.is_interlocked(task, token) {
            return self.permit_now(task, token, ix, call);
        }
        let Some(starting) = self.live(task, token).map(|live| live.starting.clone()) else { return };
        let (view, Ok(node)) = (&starting.view, starting.node()) else { return };
        let (head, args) = call;
        if self.budget_denied(task, token, ix, &head) {
            return;
        }
        let gate = self.call_gate(task, ix, node, &head);
        let place = Place {
            thread: &self.thread,
            inputs: self.state.spending.as_ref().map_or(0, |spending| spending.inputs),
            now: self.now,
        };
        let walls = walls(&view.graph, node, place);
        if gate.is_none() && walls.is_empty() {
            return self.permit_now(task, token, ix, (head, args));
        }
        self.ask_clearance(
            task,
            token,
            ix,
            Passing { head: Some(head), args, gate, hold: None, walls, cleared: false, record: None },
        );
    }

    /// Whether the node of a task declares something that its calls share with other threads.
    pub(crate) fn is_interlocked(&self, task: TaskId, token: Token) -> bool {
        let live = self.live.get(&task).filter(|live| live.token == token);
        live.and_then(|live| live.starting.node().ok())
            .is_some_and(|node| node.breaker.is_some() || node.budget.as_ref().is_some_and(uses_ledger))
            || live.is_some_and(|live| live.starting.view.graph.budget().is_some_and(uses_ledger))
    }

    /// The breaker of a call: its tool server, its model, its way to people.
    fn call_gate(&self, task: TaskId, ix: CallIx, node: &Node, head: &CallHead) -> Option<Gate> {
        let rule = node.breaker?;
        let server = head.target.split('.').next().unwrap_or_default();
        let name = match head.kind {
            CallKind::Tool => format!("tool:{server}"),
            CallKind::Model => format!("model:{}", head.target),
            CallKind::Notify => format!("notify:{}", head.target),
            CallKind::Spawn | CallKind::Question | CallKind::Custom => return None,
        };
        Some(Gate { name: name.into(), rule, by: self.call_key(task, ix).into() })
    }

    /// Starts a task's code, through the breaker of its agent or function, or the track record of its act, where one is
    /// declared.
    pub(crate) fn enter(&mut self, starting: &Starting, token: Token) -> Result<(), TaskError> {
        if let Some(watch) = self.watch(starting)? {
            self.ask_clearance(starting.id, token, WHOLE_TASK, Passing::of_task(None, Some(watch)));
            return Ok(());
        }
        let node = starting.node()?;
        let graph = starting.view.graph.name();
        let name = match (&node.breaker, &node.kind) {
            (Some(_), Kind::Agent(agent)) => format!("agent:{graph}/{}", agent.role),
            (Some(_), Kind::Function(function)) => format!("function:{graph}/{function}"),
            _ => return self.hand_over(starting, token),
        };
        let Some(rule) = node.breaker else { return Ok(()) };
        let gate = Gate { name: name.into(), rule, by: format!("{}:{}", self.thread, starting.id).into() };
        self.ask_clearance(starting.id, token, WHOLE_TASK, Passing::of_task(Some(gate), None));
        Ok(())
    }

    fn ask_clearance(&mut self, task: TaskId, token: Token, ix: CallIx, mut passing: Passing) {
        let press = match self.pressed(task, ix) {
            Ok(press) => press,
            Err(error) => return self.stop_task(task, token, error),
        };
        let worst = self.live(task, token).and_then(|live| live.worst.get(&ix).copied()).unwrap_or_default();
        let limits: Vec<u64> =
            passing.walls.iter().map(|wall| self.limit_for(task, ix, (&wall.name, wall.limit))).collect();
        let take = |wall: &Wall| Take { account: wall.account.clone(), unit: wall.unit, amount: wall.unit.of(worst) };
        let takes: Vec<Take> = passing.walls.iter().map(take).collect();
        if !takes.is_empty() {
            let n_holds = self.state.spending.as_ref().map_or(0, |spending| spending.n_holds);
            let key: Name = format!("{}:{n_holds}", self.thread).into();
            let hold = Hold { task, ix, takes: takes.clone(), begun: false, spent: None };
            self.record(Op::Held { key: key.clone(), hold: Box::new(hold) });
            passing.hold = Some(key);
        }
        let clear = Clear {
            task,
            token,
            ix,
            gate: passing.gate.clone().map(|gate| (gate, press)),
            hold: passing.hold.clone(),
            takes: takes.into_iter().zip(limits).collect(),
            record: passing.record.as_ref().map(|watch| (watch.class.clone(), self.forgiven_until(task, ix))),
        };
        let waits = passing.hold.is_some();
        if let Some(live) = self.live(task, token) {
            live.passing.insert(ix, passing);
        }
        // The hold is durable before the ledger has it, so that nothing stays reserved after a crash in between.
        match waits {
            true => self.hold(Effect::Clear(Box::new(clear))),
            false => self.push(Effect::Clear(Box::new(clear))),
        }
    }

    /// What a person decided about the breaker that stopped this before.
    pub(crate) fn pressed(&self, task: TaskId, ix: CallIx) -> Result<Option<Press>, TaskError> {
        let Some(answer) = self.leave(task, ix).and_then(|leave| leave.breaker.as_ref()) else { return Ok(None) };
        match choice(&answer.value) {
            Some("approve") => Ok(Some(Press::Try)),
            Some(RESET) => Ok(Some(Press::Reset)),
            other => {
                let text = format!("the breaker is open and `{}` answered `{}`", answer.by, other.unwrap_or("?"));
                Err(TaskError::new(ErrorClass::Denied, text))
            }
        }
    }

    /// The shared records answered.
    pub(crate) fn cleared(&mut self, task: TaskId, token: Token, ix: CallIx, cleared: Cleared) {
        let suspending = self.live(task, token).is_some_and(|live| live.suspending);
        let known = self.live(task, token).and_then(|live| live.passing.remove(&ix));
        let Some(mut passing) = known else { return self.cleared_too_late(&cleared) };
        if let (Some(turn), Some(gate)) = (cleared.turn, &passing.gate) {
            let name = gate.name.clone();
            self.audit_breaker(&name, turn, 0, task);
        }
        if suspending {
            self.tell_breaker(task, passing.gate, Sign::Nothing);
            self.cleared_too_late(&cleared);
            return self.finish_suspension(task, token);
        }
        match cleared.passed {
            Passed::Go => {
                if let Some(why) = self.weigh_record(task, &mut passing, cleared.record) {
                    return self.class_stopped(task, token, (&passing, why));
                }
                passing.cleared = true;
                let call = passing.head.clone().map(|head| (head, Arc::clone(&passing.args)));
                let starting = self.live(task, token).map(|live| {
                    live.passing.insert(ix, passing);
                    live.starting.clone()
                });
                match (call, starting) {
                    (Some(call), _) => self.permit_now(task, token, ix, call),
                    (None, Some(starting)) => self.start_cleared(&starting, token),
                    (None, None) => {}
                }
            }
            Passed::Open { until, failures, last } => {
                self.drop_hold(&passing);
                self.breaker_open(task, token, ix, (passing, until, failures, last));
            }
            Passed::Over { wall, spent, reserved } => {
                self.drop_hold(&passing);
                self.over_wall(task, token, ix, (passing, wall, (spent, reserved)));
            }
            Passed::Failed(error) => {
                self.charge(passing.hold.as_ref(), None);
                self.stop_task(task, token, error);
            }
        }
    }

    fn start_cleared(&mut self, starting: &Starting, token: Token) {
        if let Err(error) = self.hand_over(starting, token) {
            self.abort(starting.id, token);
            self.fail_task(starting.id, error);
        }
    }

    /// The task is not there any more, or asks people meanwhile: what was reserved for it is given back.
    fn cleared_too_late(&mut self, cleared: &Cleared) {
        self.charge(cleared.hold.as_ref(), None);
    }

    /// Nothing was reserved: the hold is over without the ledger.
    fn drop_hold(&mut self, passing: &Passing) {
        if let Some(key) = passing.hold.clone() {
            self.record(Op::Settled { key });
        }
    }

    fn over_wall(&mut self, task: TaskId, token: Token, ix: CallIx, found: (Passing, usize, (u64, u64))) {
        let (passing, wall, account) = found;
        let (Some(wall), Some(head)) = (passing.walls.get(wall), passing.head) else { return };
        let limit = self.limit_for(task, ix, (&wall.name, wall.limit));
        let full = self.ledger_full(wall, limit, account);
        self.at_wall(task, token, ix, (head, passing.args, full));
    }

    /// The declared way out when the node has one, else people are asked.
    fn breaker_open(
        &mut self,
        task: TaskId,
        token: Token,
        ix: CallIx,
        open: (Passing, Timestamp, u32, Option<String>),
    ) {
        let (passing, until, failures, last) = open;
        let Some(gate) = passing.gate else { return };
        let last = last.map(|last| format!(", last: {last}")).unwrap_or_default();
        let text = format!("breaker `{}` is open until {until} after {failures} failures in a row{last}", gate.name);
        let handled =
            self.live(task, token).is_some_and(|live| live.starting.node().is_ok_and(|node| node.on_error.is_some()));
        if handled {
            return self.stop_task(task, token, TaskError::new(ErrorClass::Denied, text));
        }
        let question = Question {
            title: format!("Breaker {} is open", gate.name),
            body: format!("{text}. `approve` tries once now, `reset` closes it, `reject` fails the task."),
            payload: json!({
                "breaker": &*gate.name, "failures": failures, "until": until.to_string(),
                "target": passing.head.as_ref().map(|head| head.target.to_string()),
                "args": &*passing.args,
            }),
            choices: ["approve", RESET, "reject"].map(str::to_owned).to_vec(),
            ..Question::default()
        };
        match passing.head {
            Some(head) => self.ask_about_call(task, ix, head, (InterruptKind::Breaker, &question)),
            None => self.open_interrupt(task, ix, InterruptKind::Breaker, &question),
        }
        self.suspend(task, token);
    }

    /// A call that had passed ended: its breaker and the ledger hear of it.
    pub(crate) fn call_settled(&mut self, task: TaskId, passing: Passing, outcome: &CallOutcome, spent: Option<Cost>) {
        let sign = match outcome {
            CallOutcome::Ok(_) => Sign::Success,
            CallOutcome::Err(error) => sign_of(error.class, &error.message, false),
        };
        self.tell_breaker(task, passing.gate, sign);
        let worst = self.worst_of(passing.hold.as_ref());
        match spent {
            Some(cost) => self.charge(passing.hold.as_ref(), Some(cost)),
            None => self.charge_amounts(passing.hold.as_ref(), worst),
        }
    }

    /// A whole task that had passed its breaker ended.
    pub(crate) fn task_settled(&mut self, task: TaskId, passing: Option<Passing>, error: Option<&TaskError>) {
        let Some(passing) = passing else { return };
        let sign = error.map_or(Sign::Success, |error| sign_of(error.class, &error.message, true));
        self.tell_breaker(task, passing.gate, sign);
    }

    /// A task is stopped with an error: what it has in the air failed with it.
    pub(crate) fn stopped_in_the_air(&mut self, task: TaskId, token: Token, error: &TaskError) {
        let Some(live) = self.live(task, token).filter(|live| !live.passing.is_empty()) else { return };
        let cleared: Vec<(bool, Gate)> = live
            .passing
            .iter()
            .filter(|(_, passing)| passing.cleared)
            .filter_map(|(ix, passing)| Some((*ix == WHOLE_TASK, passing.gate.clone()?)))
            .collect();
        for (whole, gate) in cleared {
            self.tell_breaker(task, Some(gate), sign_of(error.class, &error.message, whole));
        }
    }

    /// A task is let go with calls in the air: they may have been made.
    pub(crate) fn abandon(&mut self, passing: impl IntoIterator<Item = (CallIx, Passing)>) {
        for (_, passing) in passing {
            // One that was not cleared yet is given back when the answer comes.
            if passing.cleared {
                let worst = self.worst_of(passing.hold.as_ref());
                self.charge_amounts(passing.hold.as_ref(), worst);
            }
        }
    }

    fn tell_breaker(&mut self, task: TaskId, gate: Option<Gate>, sign: Sign) {
        let Some(gate) = gate else { return };
        let node = self.node_of(task).cloned().unwrap_or_else(|| "".into());
        self.log.want_flush();
        self.hold(Effect::Tell(Box::new(Tell { sign: Some((gate, sign, node)), ..Tell::default() })));
    }

    fn worst_of(&self, key: Option<&Name>) -> Vec<u64> {
        key.and_then(|key| self.hold_of(key)).map(Hold::worst).unwrap_or_default()
    }

    fn hold_of(&self, key: &Name) -> Option<&Hold> {
        self.state.spending.as_ref()?.holds.get(key)
    }

    /// Records what a call took and tells the ledger once that is durable; `None` for a call that was never made.
    fn charge(&mut self, key: Option<&Name>, cost: Option<Cost>) {
        let spent = key.and_then(|key| self.hold_of(key)).map(|hold| hold.amounts(cost)).unwrap_or_default();
        self.charge_amounts(key, spent);
    }

    fn charge_amounts(&mut self, key: Option<&Name>, spent: Vec<u64>) {
        let Some(key) = key.filter(|key| self.hold_of(key).is_some_and(|hold| hold.spent.is_none())) else { return };
        self.record(Op::Charged { key: key.clone(), spent });
        self.log.want_flush();
        self.tell_ledger(key);
    }

    fn tell_ledger(&mut self, key: &Name) {
        let Some((hold, spent)) = self.hold_of(key).and_then(|hold| Some((hold, hold.spent.as_ref()?))) else { return };
        let accounts = hold.takes.iter().map(|take| take.account.clone()).zip(spent.iter().copied()).collect();
        self.hold(Effect::Tell(Box::new(Tell { settle: Some((key.clone(), accounts)), ..Tell::default() })));
    }

    /// After a load: what a dead process held is charged, and the ledger told what it may have missed.
    pub(crate) fn settle_left(&mut self) {
        self.tell_heals();
        let Some(spending) = &self.state.spending else { return };
        let left: Vec<(Name, Option<Vec<u64>>)> = spending
            .holds
            .iter()
            .map(|(key, hold)| (key.clone(), hold.spent.is_none().then(|| hold.worst())))
            .collect();
        for (key, unknown) in left {
            match unknown {
                Some(worst) => self.charge_amounts(Some(&key), worst),
                None => self.tell_ledger(&key),
            }
        }
    }

    /// The run ends before the ledger and the track records were told everything: a timer sees to it if this process dies first.
    pub(crate) fn remind_of_holds(&mut self) {
        if self.owes() && !self.state.timers.contains_key(&TimerKey::Settle) {
            self.record(Op::TimerSet(Timer { key: TimerKey::Settle, at: self.now }));
        }
    }

    /// The shared records were told.
    pub(crate) fn told(&mut self, told: Told) {
        if let Some((name, turn, failures, node)) = told.breaker {
            let detail = json!({"breaker": &*name, "failures": failures});
            self.audit("runtime", turn_word(turn), (&node, None), detail);
            self.log.want_flush();
        }
        if let Some(key) = told.settled {
            self.record(Op::Settled { key });
            self.clear_reminder();
        }
        if let Some((task, class, stopped)) = told.heal {
            self.heal_told(task, &class, stopped);
            self.clear_reminder();
        }
    }

    /// Whether the ledger or a track record does not have everything yet.
    fn owes(&self) -> bool {
        let holds = self.state.spending.as_ref().is_some_and(|spending| !spending.holds.is_empty());
        holds || !self.state.heals.is_empty()
    }

    fn clear_reminder(&mut self) {
        if !self.owes() && self.state.timers.contains_key(&TimerKey::Settle) {
            self.record(Op::TimerCleared { key: TimerKey::Settle });
        }
    }

    fn audit_breaker(&mut self, name: &Name, turn: Turn, failures: u32, task: TaskId) {
        let node = self.node_of(task).cloned().unwrap_or_else(|| "".into());
        let detail = json!({"breaker": &**name, "failures": failures});
        self.audit("runtime", turn_word(turn), (&node, Some(task)), detail);
        self.log.want_flush();
    }
}

fn turn_word(turn: Turn) -> &'static str {
    match turn {
        Turn::Opened => "breaker.opened",
        Turn::HalfOpened => "breaker.half_opened",
        Turn::Closed => "breaker.closed",
    }
}
