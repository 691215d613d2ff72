//! Bodies of fuzz targets for what people hand to a run: its input, answers, edits. They panic only if a promise is broken.

use std::sync::{Arc, LazyLock};

use graphs::{CompiledGraph, OpenCatalog};
use runtime_core::event::{AnswerInput, Command, Edit, Event, NodeOutput, Principal};
use runtime_core::ids::RunId;
use runtime_core::record::RunOptions;
use serde_json::{Value, json};

use crate::calm::{Calm, Standing};
use crate::shapes::Known;

/// Nodes that are let finish.
const NODES_MAX: usize = 64;

const GRAPH: &str = r#"
graph: inputs
input: { schema: { type: object, properties: { n: { type: number }, rows: { type: array } } } }
state:
  n: { merge: sum }
  rows: { merge: union, key: id }
  log: { merge: append }
  deep: { merge: deep }
  least: { merge: min }
  most: { merge: max }
  talk: { merge: messages }
  plan: { schema: { type: object, required: [action], properties: { action: { enum: [retry, change] } } } }
  note: {}
  brief: { merge: ephemeral }
nodes:
  read: { set: { note: "{{ n }} {{ rows | length }} {{ deep }} {{ brief }} {{ plan }}" }, then: ask }
  ask:
    approval: { title: "go on with {{ note }}?", choices: [approve, reject, edit], payload: { rows: "{{ rows }}" } }
    output: { note: answer }
    then: [{ when: n > 3, to: fan }, { to: end }]
  fan: { map: { over: rows, as: item, to: work } }
  work: { function: work, then: end }
start: read
"#;

static COMPILED: LazyLock<Arc<CompiledGraph>> =
    LazyLock::new(|| match graphs::check("inputs.yaml", GRAPH.as_bytes(), &OpenCatalog) {
        Ok((graph, _)) => Arc::new(graph),
        Err(diagnostics) => panic!("the graph of the bodies does not compile: {diagnostics}"),
    });

/// A thread that waits for an answer.
static ASKED: LazyLock<Standing> = LazyLock::new(|| {
    let mut calm = run_of(&Standing::default());
    calm.ask(start(json!({"n": 4, "rows": [{"id": 1}, {"id": 2, "x": "a"}], "deep": {"a": {"b": 1}}})));
    assert_eq!(calm.state().interrupts.len(), 1, "the thread asks: {:?}", calm.replies);
    calm.standing()
});

fn run_of(standing: &Standing) -> Calm {
    Calm::new(standing, Arc::new(Known::with(&COMPILED)))
}

fn start(input: Value) -> Command {
    let options = RunOptions::default();
    Command::Start { run: RunId(1), graph: Arc::clone(&COMPILED), input, options, metadata: Value::Null }
}

/// Lets nodes finish, and holds the run against what must hold.
fn settle(mut calm: Calm) {
    for _ in 0..NODES_MAX {
        let Some(dispatch) = calm.dispatched.pop_front() else { break };
        let (task, token) = (dispatch.task, dispatch.token);
        calm.happen(Event::TaskDone { task, token, output: Box::new(NodeOutput::default()) });
    }
    calm.happen(Event::Idle);
    let _shown = format!("{:?}", calm.replies);
    assert_eq!(calm.violation(), None);
}

fn text_of(value: &Value, key: &str) -> Option<String> {
    value.get(key).and_then(Value::as_str).map(str::to_owned)
}

/// Any bytes as the input of a run.
pub fn run_input(bytes: &[u8]) {
    let Ok(input) = serde_json::from_slice(bytes) else { return };
    let mut calm = run_of(&Standing::default());
    calm.ask(start(input));
    settle(calm);
}

/// Any bytes as an answer; its keys `update`, `digest` and `by` are also taken as those of the request.
pub fn answer(bytes: &[u8]) {
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else { return };
    let mut calm = run_of(&ASKED);
    let Some(question) = ASKED.state.interrupts.values().next() else { return };
    let user = text_of(&value, "by").unwrap_or_else(|| "person".to_owned());
    let by = Principal { user, groups: Vec::new() };
    let update = value.get("update").cloned().unwrap_or_default();
    let digest = text_of(&value, "digest");
    let answers = vec![AnswerInput { id: question.id, digest, value, by }];
    calm.ask(Command::Answer { run: RunId(2), answers, update });
    settle(calm);
}

/// Any bytes as an edit of a thread's state; its key `as_node` is also taken as the node it counts as.
pub fn update(bytes: &[u8]) {
    let Ok(values) = serde_json::from_slice::<Value>(bytes) else { return };
    let mut calm = run_of(&ASKED);
    let as_node = text_of(&values, "as_node").map(|node| node.as_str().into());
    calm.ask(Command::Update { ns: "".into(), supersteps: vec![vec![Edit { values, as_node }]], at: None });
    settle(calm);
}
