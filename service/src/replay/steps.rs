//! A thread as a list of supersteps that can be laid beside another one: nodes, calls and state, without ids and times.

use std::collections::{BTreeMap, VecDeque};

use runtime::history::{self, Checkpoint};
use runtime::ports::store::Store;
use runtime_core::channels;
use runtime_core::ids::{TaskId, ThreadId};
use runtime_core::record::{CallOutcome, Op, Outcome, Record};
use runtime_core::state::TaskStatus;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::failure::Failure;

/// Longest value in a table.
const SHOWN_CHARS_MAX: usize = 160;
/// In the place of nodes where nothing runs any more.
const ENDED: &str = "it has ended";

/// One call of a task.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Call {
    pub(crate) target: String,
    pub(crate) digest: String,
    /// Arguments as the audit shows them, without secrets.
    pub(crate) args: Value,
    pub(crate) ok: bool,
}

/// One task of a superstep.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Task {
    pub(crate) node: String,
    pub(crate) status: &'static str,
    pub(crate) attempts: u32,
    pub(crate) calls: Vec<Call>,
}

/// One superstep of one graph.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Step {
    /// The subgraph it is in, by the steps that lead to it; empty for the root.
    pub(crate) path: String,
    pub(crate) step: i64,
    pub(crate) tasks: Vec<Task>,
    /// Channels before its tasks.
    pub(crate) state: Map<String, Value>,
}

/// A thread from its input to its end.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Trace {
    pub(crate) steps: Vec<Step>,
    /// How the last run ended.
    pub(crate) end: String,
}

/// Where one thread leaves another.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Departure {
    /// Place among the steps.
    pub(crate) at: usize,
    /// `nodes`, `call`, `state` or `end`.
    pub(crate) what: &'static str,
    /// Where, in words.
    pub(crate) place: String,
    pub(crate) old: String,
    pub(crate) new: String,
}

/// The steps of a thread.
pub(crate) async fn trace(store: &dyn Store, thread: &ThreadId) -> Result<Trace, Failure> {
    let records = history::records(store, thread).await?;
    let args = audited(records.iter().map(|(_, record)| record));
    let mut places: BTreeMap<TaskId, String> = BTreeMap::new();
    let mut steps = Vec::new();
    for checkpoint in history::checkpoints(store, thread).await? {
        let path = path_of(&checkpoint.ns, &places);
        for (ix, task) in checkpoint.tasks.iter().enumerate() {
            places.insert(task.id, format!("{}.{ix}", checkpoint.frame.step));
        }
        steps.push(step(&checkpoint, path, &args));
    }
    let ops = records.iter().flat_map(|(_, record)| &record.ops);
    let mut end = ops.filter_map(|op| match op {
        Op::RunEnded { outcome, .. } => Some(ended(outcome)),
        _ => None,
    });
    Ok(Trace { steps, end: end.next_back().unwrap_or_else(|| "unfinished".to_owned()) })
}

fn ended(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Failed(error) => format!("failed: {}", error.message),
        other => crate::snapshot::outcome_word(other).to_owned(),
    }
}

/// Arguments of calls by digest, as the audit shows them.
fn audited<'a>(records: impl Iterator<Item = &'a Record>) -> BTreeMap<String, Value> {
    let entries = records.flat_map(|record| &record.ops).filter_map(|op| match op {
        Op::Audited(entry) => Some(&entry.detail),
        _ => None,
    });
    let named =
        entries.filter_map(|detail| Some((detail.get("digest")?.as_str()?.to_owned(), detail.get("args")?.clone())));
    named.collect()
}

/// A namespace with places of tasks instead of their ids.
fn path_of(ns: &str, places: &BTreeMap<TaskId, String>) -> String {
    let part = |part: &str| {
        let (node, id) = part.rsplit_once(':')?;
        Some(format!("{node}@{}", places.get(&TaskId::parse(id).ok()?)?))
    };
    ns.split('|').map(|text| part(text).unwrap_or_else(|| text.to_owned())).collect::<Vec<_>>().join("/")
}

fn step(checkpoint: &Checkpoint, path: String, args: &BTreeMap<String, Value>) -> Step {
    let planned = checkpoint.frame.plan.tasks.iter().zip(&checkpoint.tasks);
    let tasks = planned.filter(|(planned, _)| !planned.node.starts_with("__")).map(|(planned, task)| Task {
        node: planned.node.to_string(),
        status: match task.status {
            TaskStatus::Pending => "pending",
            TaskStatus::Finished { .. } => "finished",
            TaskStatus::Failed => "failed",
        },
        attempts: task.attempts,
        calls: task
            .calls
            .values()
            .map(|call| Call {
                target: call.head.target.to_string(),
                digest: call.head.digest.clone(),
                args: args.get(&call.head.digest).cloned().unwrap_or_default(),
                ok: !matches!(call.outcome, Some(CallOutcome::Err(_))),
            })
            .collect(),
    });
    let tasks = tasks.collect();
    let state = match channels::values(&checkpoint.frame.channels) {
        Value::Object(state) => state,
        _ => Map::new(),
    };
    Step { path, step: checkpoint.frame.step, tasks, state }
}

/// The first step in which two threads differ; `None` when they are the same to the end.
pub(crate) fn departure(old: &Trace, new: &Trace) -> Option<Departure> {
    // Subgraphs beside each other commit in the order of finishing: each is laid beside its own.
    let mut left: BTreeMap<&str, VecDeque<&Step>> = BTreeMap::new();
    for step in &new.steps {
        left.entry(&step.path).or_default().push_back(step);
    }
    let mut before: BTreeMap<&str, &Step> = BTreeMap::new();
    // A task that waits for its subgraph went otherwise because of what happened in there, which is told first.
    let mut went = None;
    for (at, step) in old.steps.iter().enumerate() {
        let beside = left.get_mut(step.path.as_str()).and_then(VecDeque::pop_front);
        let found = match beside {
            Some(beside) => differs(step, beside),
            None if step.tasks.is_empty() => None,
            None => Some(("nodes", nodes(step), ENDED.to_owned())),
        };
        let place = || place(step, before.get(step.path.as_str()).copied());
        if let Some((what, old, new)) = found {
            return Some(Departure { at, what, place: place(), old, new });
        }
        if let Some(beside) = beside.filter(|beside| went.is_none() && how(step) != how(beside)) {
            went = Some(Departure { at, what: "nodes", place: place(), old: nodes(step), new: nodes(beside) });
        }
        before.insert(&step.path, step);
    }
    let at = old.steps.len();
    if let Some(more) = left.values().flatten().find(|step| !step.tasks.is_empty()) {
        let place = place(more, before.get(more.path.as_str()).copied());
        return Some(Departure { at, what: "nodes", place, old: ENDED.to_owned(), new: nodes(more) });
    }
    let ends = (old.end != new.end).then(|| Departure {
        at,
        what: "end",
        place: "the end".to_owned(),
        old: shortened(&old.end),
        new: shortened(&new.end),
    });
    went.or(ends)
}

/// How the tasks of a step went.
fn how(step: &Step) -> Vec<(&'static str, u32)> {
    step.tasks.iter().map(|task| (task.status, task.attempts)).collect()
}

/// What differs first: the state that both begin with, the nodes, their calls.
fn differs(old: &Step, new: &Step) -> Option<(&'static str, String, String)> {
    let none = Value::Null;
    for channel in old.state.keys().chain(new.state.keys()) {
        let (was, is) = (old.state.get(channel).unwrap_or(&none), new.state.get(channel).unwrap_or(&none));
        if was != is {
            let (pointer, was, is) = deepest(channel.clone(), was, is);
            return Some(("state", format!("{pointer} = {}", shown(was)), format!("{pointer} = {}", shown(is))));
        }
    }
    let names = |step: &Step| step.tasks.iter().map(|task| task.node.clone()).collect::<Vec<_>>();
    if names(old) != names(new) {
        return Some(("nodes", nodes(old), nodes(new)));
    }
    for (was, is) in old.tasks.iter().zip(&new.tasks) {
        let n_calls = was.calls.len().max(is.calls.len());
        let call = |task: &Task, ix: usize| task.calls.get(ix).map(|call| (call.target.clone(), call.digest.clone()));
        if let Some(ix) = (0..n_calls).find(|ix| call(was, *ix) != call(is, *ix)) {
            let shown = |task: &Task| task.calls.get(ix).map_or_else(|| "no call".to_owned(), call_text);
            return Some(("call", shown(was), shown(is)));
        }
    }
    None
}

/// The part of a value in which two of them differ.
fn deepest<'a>(place: String, old: &'a Value, new: &'a Value) -> (String, &'a Value, &'a Value) {
    if let (Value::Object(was), Value::Object(is)) = (old, new) {
        let mut other = was.iter().filter_map(|(key, value)| Some((key, value, is.get(key)?)));
        if was.len() == is.len()
            && let Some((key, was, is)) = other.find(|(_, was, is)| was != is)
        {
            return deepest(format!("{place}.{key}"), was, is);
        }
    }
    (place, old, new)
}

fn call_text(call: &Call) -> String {
    format!("{} {}", call.target, shown(&call.args))
}

fn place(step: &Step, before: Option<&Step>) -> String {
    let within = if step.path.is_empty() { String::new() } else { format!(" of {}", step.path) };
    match before.filter(|before| !before.tasks.is_empty()) {
        Some(before) => format!("step {}{within}, after {}", step.step, names(before)),
        None => format!("step {}{within}", step.step),
    }
}

fn names(step: &Step) -> String {
    step.tasks.iter().map(|task| task.node.as_str()).collect::<Vec<_>>().join(", ")
}

/// The nodes of a step, with how they went where that is not as usual.
pub(crate) fn nodes(step: &Step) -> String {
    let shown = step.tasks.iter().map(|task| match (task.status, task.attempts) {
        ("finished", 0) => task.node.clone(),
        ("finished", failed) => format!("{} (at attempt {})", task.node, failed + 1),
        (status, _) => format!("{} ({status})", task.node),
    });
    let all: Vec<String> = shown.collect();
    if all.is_empty() { ENDED.to_owned() } else { all.join(", ") }
}

fn shown(value: &Value) -> String {
    shortened(&value.to_string())
}

/// A text that fits a line or two.
pub(crate) fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn step(path: &str, at: i64, nodes: &[&str], state: Value) -> Step {
        let task = |node: &&str| Task { node: (*node).to_owned(), status: "finished", attempts: 0, calls: Vec::new() };
        let state = state.as_object().cloned().unwrap_or_default();
        Step { path: path.to_owned(), step: at, tasks: nodes.iter().map(task).collect(), state }
    }

    fn trace(steps: Vec<Step>) -> Trace {
        Trace { steps, end: "success".to_owned() }
    }

    fn departs(old: Vec<Step>, new: Vec<Step>) -> Option<(&'static str, String, String, String)> {
        departure(&trace(old), &trace(new)).map(|found| (found.what, found.place, found.old, found.new))
    }

    fn line() -> Vec<Step> {
        vec![step("", 0, &["a"], json!({})), step("", 1, &["b"], json!({"n": 1}))]
    }

    #[test]
    fn subgraphs_beside_each_other_may_take_turns() {
        let (x, y) = (step("x@0.0", 0, &["i"], json!({})), step("x@0.1", 0, &["j"], json!({})));
        assert_eq!(departs(vec![x.clone(), y.clone()], vec![y, x]), None);
        assert_eq!(departs(line(), line()), None);
    }

    #[test]
    fn the_first_difference_is_named_with_what_came_before() {
        let other = vec![line().remove(0), step("", 1, &["c"], json!({"n": 1}))];
        let text = |text: &str| text.to_owned();
        assert_eq!(departs(line(), other), Some(("nodes", text("step 1, after a"), text("b"), text("c"))));
        let state = vec![line().remove(0), step("", 1, &["b"], json!({"n": {"m": 2}}))];
        assert_eq!(
            departs(line(), state),
            Some(("state", text("step 1, after a"), text("n = 1"), text("n = {\"m\":2}")))
        );
        let mut longer = line();
        longer.push(step("", 2, &["d"], json!({"n": 1})));
        assert_eq!(departs(line(), longer.clone()), Some(("nodes", text("step 2, after b"), text(ENDED), text("d"))));
        assert_eq!(departs(longer, line()), Some(("nodes", text("step 2, after b"), text("d"), text(ENDED))));
    }

    #[test]
    fn what_happened_in_a_subgraph_is_told_before_the_task_that_waited_for_it() {
        let outer = |status| {
            let mut outer = step("", 0, &["sub"], json!({}));
            outer.tasks[0].status = status;
            outer
        };
        let inner = |node| step("sub@0.0", 0, &[node], json!({}));
        let found = departs(vec![outer("finished"), inner("b")], vec![outer("failed"), inner("c")]).unwrap();
        assert_eq!((found.2.as_str(), found.3.as_str()), ("b", "c"));
        let found = departs(vec![outer("finished"), inner("b")], vec![outer("failed"), inner("b")]).unwrap();
        assert_eq!((found.2.as_str(), found.3.as_str()), ("sub", "sub (failed)"));
    }

    #[test]
    fn a_call_differs_by_its_arguments() {
        let call = |n: u32| Call { target: "w.t".to_owned(), digest: n.to_string(), args: json!({"n": n}), ok: true };
        let with = |n: u32| {
            let mut steps = line();
            steps[1].tasks[0].calls.push(call(n));
            steps
        };
        let found = departs(with(1), with(2)).unwrap();
        assert_eq!((found.0, found.2.as_str(), found.3.as_str()), ("call", r#"w.t {"n":1}"#, r#"w.t {"n":2}"#));
        assert_eq!(departs(with(1), line()).unwrap().3, "no call");
    }
}
