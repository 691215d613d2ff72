//! The graphs that ship compile without a warning, and their own tests hold under the demo's policy and the default one.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use graphs::{EffectClass, GraphTest};
use parking_lot::Mutex;
use runtime::{Context, NodeKind, history};
use runtime_core::error::TaskError;
use runtime_core::event::NodeOutput;
use runtime_core::interlocks::guard::Policy;
use runtime_core::record::{Interrupt, Outcome};
use runtime_core::state::TaskStatus;
use serde_json::Value;
use tools::policy::RulePolicy;
use tools::toolbox::ScriptedTools;

use super::world::{World, library};
use crate::AgentNode;

#[test]
fn the_library_compiles_without_a_warning() {
    let graphs =
        ["etl-incident", "etl-reliability", "incident-response", "morning-report", "schema-change", "schema-mapping"];
    for name in graphs {
        assert_eq!(library(name).name(), name);
    }
}

/// Agents whose output a test scripts; the others are the real ones.
struct Scripted {
    outputs: BTreeMap<String, Value>,
    real: AgentNode,
}

#[async_trait]
impl NodeKind for Scripted {
    async fn run(&self, ctx: Context) -> Result<NodeOutput, TaskError> {
        match self.outputs.get(&ctx.node()?.name) {
            Some(output) => Ok(NodeOutput { result: Some(output.clone()), ..NodeOutput::default() }),
            None => self.real.run(ctx).await,
        }
    }
}

/// What a test's people say, each answer once.
type Answers = Mutex<Vec<Value>>;

fn answer(answers: &Answers, question: &Interrupt) -> Option<Value> {
    let mut left = answers.lock();
    let fits = |answer: &Value| {
        let title = answer["title"].as_str();
        answer["node"] == *question.node || title.is_some_and(|title| question.title.contains(title))
    };
    let at = left.iter().position(fits)?;
    Some(left.remove(at))
}

fn names(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

async fn check_test(graph: &str, test: &GraphTest, policy: Arc<dyn Policy>) {
    let tools = Arc::new(ScriptedTools::from_test(&test.tools, |_| EffectClass::ReadOnly));
    let outputs = test.agents.as_object().cloned().unwrap_or_default().into_iter().collect();
    let mut world = World::with_agents(Arc::clone(&tools) as _, policy, |real| Arc::new(Scripted { outputs, real }));
    world.engine.add_graph(Arc::new(library("etl-incident"))).await.unwrap();
    let answers = Mutex::new(test.answers.clone());
    let outcome = world.run_with(library(graph), test.input.clone(), |question| answer(&answers, question)).await;
    let status = match &outcome {
        Outcome::Success => "success",
        Outcome::Interrupted => "interrupted",
        other => panic!("{graph}: {}: {other:?}", test.name),
    };
    assert_eq!(test.expect["status"], status, "{}", test.name);
    if test.expect.get("calls").is_some() {
        assert_eq!(names(&test.expect["calls"]), tools.called(), "{}", test.name);
    }
    let mut visited = Vec::new();
    for checkpoint in history::checkpoints(&**world.engine.store(), &world.thread).await.unwrap() {
        let tasks = checkpoint.frame.plan.tasks.iter().zip(&checkpoint.tasks);
        visited.extend(
            tasks.filter(|(_, task)| task.status != TaskStatus::Pending).map(|(planned, _)| planned.node.to_string()),
        );
    }
    let ran = |node: &String| visited.contains(node);
    for node in names(&test.expect["visited"]).iter().chain(&names(&test.expect["path"])) {
        assert!(ran(node) || node == "ask_on_call", "{}: `{node}` did not run; {visited:?} did", test.name);
    }
    for node in names(&test.expect["not_visited"]) {
        assert!(!ran(&node), "{}: `{node}` ran", test.name);
    }
}

#[tokio::test]
async fn the_library_s_own_tests_hold() {
    for graph in ["etl-incident", "etl-reliability"] {
        let compiled = library(graph);
        assert!(!compiled.tests().is_empty());
        // A question that expires needs the clock of `interlock test`, which runs all of them.
        let expires = |test: &&GraphTest| test.answers.iter().any(|answer| answer["expires"] == true);
        for test in compiled.tests().iter().filter(|test| !expires(test)) {
            check_test(graph, test, Arc::new(RulePolicy::etl_demo().unwrap())).await;
            check_test(graph, test, Arc::new(RulePolicy::for_tests())).await;
        }
    }
}
