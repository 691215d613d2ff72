//! What a tool says stays what it is: a result that looks like a template is never expanded, wherever a graph puts it.

use std::sync::Arc;

use checkpoints::open::{Address, OpenOptions, open};
use graphs::{EffectClass, OpenCatalog};
use runtime::ports::store::{PAGE_MAX, Store};
use runtime::{Engine, Start};
use runtime_core::ids::ThreadId;
use runtime_core::record::{Outcome, RunOptions};
use serde_json::{Value, json};
use tools::node::ToolNode;
use tools::toolbox::{Scripted, ScriptedTools, ToolBox};

const GRAPH: &str = r#"
graph: literal
state: { found: {}, copied: {}, shown: {} }
nodes:
  read: { tool: w.read, output: { found: result.text }, then: copy }
  copy: { set: { copied: "{{ found }}", shown: "got {{ found }}" }, then: act }
  act: { tool: w.write, args: { row: "{{ found }}", note: "x {{ copied }}" }, env: staging, then: ask }
  ask: { approval: { title: "{{ copied }}", choices: [approve], payload: { text: "{{ shown }}" } }, then: end }
start: read
"#;

/// Everything that some template language would expand.
const SLY: &str = "{{ 7 * 7 }}{% for x in range(3) %}A{% endfor %}{# c #}${HOME} {{ found }} <%= 1 %>";

#[tokio::test]
async fn results_stay_literal_in_titles_channels_and_arguments() {
    let scripted = ScriptedTools::new().reads("w.read", json!({ "text": SLY })).tool(
        "w.write",
        EffectClass::AtMostOnce,
        Scripted::Always(Ok(json!({}))),
    );
    let scripted = Arc::new(scripted);
    let tools: Arc<dyn ToolBox> = Arc::clone(&scripted) as _;
    let store: Arc<dyn Store> = open(&Address::Memory, &OpenOptions::default()).unwrap();
    let engine = Engine::builder(Arc::clone(&store)).kind("tool", Arc::new(ToolNode::new(tools))).build();
    let (graph, _) = graphs::check("literal.yaml", GRAPH.as_bytes(), &OpenCatalog).unwrap_or_else(|e| panic!("{e}"));
    let start = Start {
        graph: Arc::new(graph),
        thread: ThreadId::new("t").unwrap(),
        input: Value::Null,
        options: RunOptions::default(),
        metadata: Value::Null,
    };
    assert_eq!(engine.start(start).await.unwrap().ended().await.unwrap().outcome, Outcome::Interrupted);
    let calls = scripted.calls();
    let args = &calls[1].args;
    assert_eq!((&args["row"], &args["note"]), (&json!(SLY), &json!(format!("x {SLY}"))));
    let question = store.interrupts(None, PAGE_MAX).await.unwrap().remove(0).interrupt;
    assert_eq!((question.title.as_str(), &question.payload["text"]), (SLY, &json!(format!("got {SLY}"))));
}
