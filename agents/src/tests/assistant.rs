//! An agent of one's own: its patterns, its form, its tiers, and what none of them can do.

use std::sync::Arc;

use expect_test::expect;
use models::{ModelResponse, StopReason};
use runtime_core::error::ErrorClass;
use runtime_core::record::Outcome;
use serde_json::{Value, json};
use tools::policy::RulePolicy;
use tools::toolbox::ScriptedTools;

use super::reasoning::{Script, calls, mind, says, text};
use super::world::{World, agreeable, compiled};

fn answer(answer: &str, confidence: f64) -> ModelResponse {
    text(json!({"answer": answer, "confidence": confidence}).to_string())
}

fn found(finding: &str) -> ModelResponse {
    text(json!({"finding": finding, "confidence": 0.9}).to_string())
}

fn tools() -> ScriptedTools {
    ScriptedTools::new()
        .reads("warehouse.query", json!({"rows": [{"n": 7}]}))
        .reads("warehouse.get_log", json!({"lines": ["boom"]}))
}

/// One assistant node; gives how it ended, what it wrote, and the tools with what they were asked.
async fn assisted(extra: &str, schema: &str, scripts: [&Arc<Script>; 2]) -> (Outcome, Value, Arc<ScriptedTools>) {
    let tools = Arc::new(tools());
    let mind = mind(scripts[0], scripts[1]);
    let policy = Arc::new(RulePolicy::etl_demo().unwrap());
    let mut world =
        World::with_agents(Arc::clone(&tools) as _, policy, |agents| Arc::new(agents.with_mind(Some(mind))));
    let yaml = format!(
        "graph: g\nstate: {{ found: {{ {schema} }} }}\n\
         nodes:\n  a: {{ agent: assistant, with: {{ goal: How many }}, {extra}, output: found, then: end }}\nstart: a\n"
    );
    let outcome = world.run(compiled("g", &yaml), json!({}), agreeable).await;
    let found = world.channel("found").await;
    (outcome, found, tools)
}

fn nobody() -> Arc<Script> {
    Script::new("b", [])
}

#[tokio::test]
async fn a_single_question_has_no_tools_and_a_loop_has_those_of_its_node() {
    let small = Script::new("a", [answer("seven", 0.9)]);
    let (outcome, found, _) = assisted("pattern: single, tools: ['*.query']", "", [&small, &nobody()]).await;
    assert_eq!((outcome, found), (Outcome::Success, json!({"answer": "seven", "confidence": 0.9})));
    assert!(!small.everything_asked().contains("warehouse__query"));
    let small = Script::new("a", [calls("warehouse__query", json!({"sql": "select 7"})), answer("seven", 0.9)]);
    let (_, found, tools) = assisted("tools: ['*.query']", "", [&small, &nobody()]).await;
    assert_eq!((found["answer"].clone(), tools.called()), (json!("seven"), vec!["warehouse.query".to_owned()]));
    assert!(!small.everything_asked().contains("warehouse__get_log"), "it sees no tool that its node does not name");
}

#[tokio::test]
async fn the_answer_has_the_form_of_its_channel_or_is_asked_for_again() {
    let schema = "schema: { type: object, required: [rows], properties: { rows: { type: integer, minimum: 0 } } }";
    let small = Script::new("a", [text("{\"rows\": -1}"), text("{\"rows\": 7}")]);
    let (outcome, found, _) = assisted("pattern: single", schema, [&small, &nobody()]).await;
    assert_eq!((outcome, found, small.n_asked()), (Outcome::Success, json!({"rows": 7}), 2));
    assert!(small.everything_asked().contains("minimum"), "the model is told the form");
    let never = || Script::new("a", (0..3).map(|_| text("{\"rows\": -1}")));
    let (outcome, ..) = assisted("pattern: single", schema, [&never(), &nobody()]).await;
    let Outcome::Failed(error) = outcome else { panic!("{outcome:?}") };
    assert_eq!(error.class, ErrorClass::Permanent);
    expect!["node `a`: no tier has an answer: small: its answers do not have the form that was asked for"]
        .assert_eq(&error.message);
}

#[tokio::test]
async fn who_is_not_sure_is_followed_by_the_next_tier_and_the_surest_answer_stands() {
    let extra = "pattern: single, tier: { start: small, max: top, climb_below: 0.8 }";
    let (small, large) = (Script::new("a", [answer("six", 0.5)]), Script::new("b", [answer("seven", 0.9)]));
    let (_, found, _) = assisted(extra, "", [&small, &large]).await;
    assert_eq!(found["answer"], "seven");
    let (small, large) =
        (Script::new("a", [answer("six", 0.5)]), Script::new("b", [says(vec![], StopReason::Refusal)]));
    let (_, found, _) = assisted(extra, "", [&small, &large]).await;
    assert_eq!(found["answer"], "six");
    let (small, large) = (Script::new("a", [answer("six", 0.8)]), Script::new("b", [answer("seven", 0.9)]));
    let (_, found, _) = assisted(extra, "", [&small, &large]).await;
    assert_eq!((found["answer"].clone(), large.n_asked()), (json!("six"), 0), "who is sure enough is believed");
}

#[tokio::test]
async fn a_plan_is_made_followed_and_looked_at_again() {
    let plan = |steps: &[&str]| text(json!({"steps": steps}).to_string());
    let small = Script::new(
        "a",
        [
            plan(&["count the rows", "read the log"]),
            calls("warehouse__query", json!({"sql": "select count(*)"})),
            found("seven rows"),
            says(vec![], StopReason::Refusal),
            plan(&[]),
            answer("seven", 0.9),
        ],
    );
    let (outcome, found, tools) = assisted("pattern: plan, tools: ['*.query']", "", [&small, &nobody()]).await;
    assert_eq!((outcome, found["answer"].clone()), (Outcome::Success, json!("seven")));
    assert_eq!((small.n_asked(), tools.called().len()), (6, 1));
    let last = small.last_asked();
    assert!(
        last.contains("seven rows") && last.contains("the model refuses"),
        "what was done is known at the end: {last}"
    );
    // A planner without an end is stopped.
    let endless = (0..3).flat_map(|_| [plan(&["again"]), found_again()]).chain([answer("?", 0.1)]);
    let small = Script::new("a", endless);
    let (outcome, ..) = assisted("pattern: plan", "", [&small, &nobody()]).await;
    assert_eq!((outcome, small.n_asked()), (Outcome::Success, 7));
}

fn found_again() -> ModelResponse {
    found("nothing new")
}

#[tokio::test]
async fn a_critic_sends_back_and_only_lowers_certainty() {
    let critique = |accept: bool, at_most: f64| {
        text(json!({"accept": accept, "problems": ["count again"], "confidence_at_most": at_most}).to_string())
    };
    let small =
        Script::new("a", [answer("six", 0.9), critique(false, 0.4), answer("seven", 0.95), critique(true, 0.8)]);
    let (_, found, _) = assisted("pattern: reflect", "", [&small, &nobody()]).await;
    assert_eq!(found, json!({"answer": "seven", "confidence": 0.4}), "what was said against it stands");
    let small = Script::new("a", [answer("seven", 0.6), critique(true, 1.0)]);
    let (_, found, _) = assisted("pattern: reflect", "", [&small, &nobody()]).await;
    assert_eq!(found["confidence"], 0.6, "a critic that agrees raises nothing");
    // Who is never accepted is worth less than anything acts on.
    let never = (0..3).flat_map(|_| [answer("six", 0.99), critique(false, 1.0)]);
    let (_, found, _) = assisted("pattern: reflect", "", [&Script::new("a", never), &nobody()]).await;
    assert_eq!(found["confidence"], 0.69);
}

const TEAM: &str = "pattern: supervise, tools: ['*.query'], specialists: { logs: { description: reads logs, tools: [warehouse.get_log] } }";

#[tokio::test]
async fn a_supervisor_asks_specialists_who_have_their_own_tools() {
    let small = Script::new(
        "a",
        [
            calls("ask__logs", json!({"question": "what broke?"})),
            calls("warehouse__get_log", json!({})),
            found("boom was logged"),
            answer("boom", 0.9),
        ],
    );
    let (outcome, found, tools) = assisted(TEAM, "", [&small, &nobody()]).await;
    assert_eq!((outcome, found["answer"].clone()), (Outcome::Success, json!("boom")));
    assert_eq!(tools.called(), ["warehouse.get_log"]);
    let asked = small.asked_each();
    assert!(
        asked[0].contains("Asks a specialist: reads logs") && !asked[0].contains("warehouse__get_log"),
        "{}",
        asked[0]
    );
    assert!(asked[1].contains("warehouse__get_log") && !asked[1].contains("warehouse__query"), "{}", asked[1]);
    assert!(asked[3].contains("untrusted_finding") && asked[3].contains("boom was logged"), "{}", asked[3]);
    // A specialist that cannot, and one that is not there, are told; nobody reaches what is not theirs.
    let small = Script::new(
        "a",
        [
            calls("ask__logs", json!({"question": "what broke?"})),
            says(vec![], StopReason::Refusal),
            calls("ask__finance", json!({"question": "?"})),
            calls("warehouse__get_log", json!({})),
            answer("unknown", 0.2),
        ],
    );
    let (outcome, _, tools) = assisted(TEAM, "", [&small, &nobody()]).await;
    assert_eq!((outcome, tools.called().len()), (Outcome::Success, 0));
    let last = small.last_asked();
    for told in ["specialist `logs`: the model refuses", "no tool `ask__finance`", "no tool `warehouse__get_log`"] {
        assert!(last.contains(told), "{told}: {last}");
    }
}

#[tokio::test]
async fn no_assistant_passes_its_wall_or_works_without_a_model() {
    let wall = "pattern: plan, budget: { usd_per_run: 0.001, on_exceed: fail }";
    let (outcome, _, _) = assisted(wall, "", [&nobody(), &nobody()]).await;
    let Outcome::Failed(error) = outcome else { panic!("{outcome:?}") };
    assert_eq!(error.class, ErrorClass::Limit, "{error}");
    let mut world = World::new(Arc::new(tools()));
    let yaml =
        "graph: g\nstate: { found: {} }\nnodes:\n  a: { agent: assistant, output: found, then: end }\nstart: a\n";
    let outcome = world.run(compiled("g", yaml), json!({}), agreeable).await;
    let Outcome::Failed(error) = outcome else { panic!("{outcome:?}") };
    expect!["node `a`: agent node `a` is an assistant and needs a model: add `models:` to interlock.yaml"]
        .assert_eq(&error.message);
}
