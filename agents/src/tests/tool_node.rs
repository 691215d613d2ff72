//! Tool nodes: check, undo, keys, error classes, what the guard sees.

use std::sync::Arc;

use expect_test::{Expect, expect};
use graphs::EffectClass;
use runtime_core::error::{ErrorClass, TaskError};
use runtime_core::interlocks::guard::{CallFacts, Decision, Policy};
use runtime_core::record::Outcome;
use serde_json::{Value, json};
use tools::toolbox::{Scripted, ScriptedTools};

use super::world::{Person, World, agreeable, compiled};

const NODE: &str = "
graph: g
input: { schema: { type: object, properties: { plan: {} } } }
state: { plan: {}, made: {}, trouble: {} }
output: [plan, made, trouble]
nodes:
  act:
    tool: w.make
    args: '{{ plan.args }}'
    env: staging
    retry: { attempts: 3, initial: 1s, on: [transient] }
    verify: { tool: '{{ plan.check }}', args: { id: '{{ result.id }}' }, expect: result.ok }
    undo: { tool: '{{ plan.undo }}', args: { id: { $result: /id }, also: '{{ result.id }}' } }
    output: made
    on_error: failed
    then: end
  failed: { set: { trouble: '{{ error }}' }, then: end }
start: act
";

fn plan() -> Value {
    json!({ "plan": { "args": { "n": 1 }, "check": "w.look", "undo": "w.unmake" } })
}

fn made() -> Scripted {
    Scripted::Always(Ok(json!({ "id": 7 })))
}

fn tools(make: Scripted, look: Value) -> ScriptedTools {
    ScriptedTools::new().tool("w.make", EffectClass::AtMostOnce, make).reads("w.look", look).tool(
        "w.unmake",
        EffectClass::Idempotent,
        Scripted::Always(Ok(json!({}))),
    )
}

async fn run(tools: ScriptedTools, yaml: &str, input: Value, person: Person) -> (Arc<ScriptedTools>, World) {
    let tools = Arc::new(tools);
    let mut world = World::new(Arc::clone(&tools) as _);
    assert_eq!(world.run(compiled("g", yaml), input, person).await, Outcome::Success);
    (tools, world)
}

/// Runs the node and shows its calls and how it ended.
async fn check_act(tools: ScriptedTools, expected: Expect) {
    let (tools, world) = run(tools, NODE, plan(), agreeable).await;
    let calls: Vec<String> = tools.calls().iter().map(|call| format!("{} {}", call.target, call.args)).collect();
    let trouble = world.channel("trouble").await;
    let ended = match trouble["message"].as_str() {
        Some(message) => format!("{}: {message}", trouble["class"].as_str().unwrap()),
        None => format!("made {}", world.channel("made").await),
    };
    expected.assert_eq(&format!("{}\n{ended}", calls.join("\n")));
}

#[tokio::test]
async fn a_check_that_holds_ends_the_act() {
    check_act(
        tools(made(), json!({ "ok": true })),
        expect![[r#"
        w.make {"n":1}
        w.look {"id":7}
        made {"id":7}"#]],
    )
    .await;
}

#[tokio::test]
async fn a_check_that_fails_undoes_the_act_and_says_so() {
    check_act(tools(made(), json!({ "ok": false })), expect![[r#"
        w.make {"n":1}
        w.look {"id":7}
        w.unmake {"also":7,"id":7}
        verify_failed: node `act`: `w.make` was made and its check failed: `result.ok` does not hold; `w.look` gave {"ok":false}; it was undone by `w.unmake`"#]]).await;
}

#[tokio::test]
async fn a_check_that_cannot_be_judged_undoes_the_act() {
    check_act(tools(made(), json!({ "other": 1 })), expect![[r#"
        w.make {"n":1}
        w.look {"id":7}
        w.unmake {"also":7,"id":7}
        verify_failed: node `act`: `w.make` was made and its check failed: `result.ok`: `result.ok` is not defined; `w.look` gave {"other":1}; it was undone by `w.unmake`"#]]).await;
}

#[tokio::test]
async fn an_undo_that_fails_leaves_the_change_and_says_so() {
    let broken = TaskError::new(ErrorClass::Conflict, "held by another");
    let tools =
        tools(made(), json!({ "ok": false })).tool("w.unmake", EffectClass::Idempotent, Scripted::Always(Err(broken)));
    check_act(tools, expect![[r#"
        w.make {"n":1}
        w.look {"id":7}
        w.unmake {"also":7,"id":7}
        verify_failed: node `act`: `w.make` was made and its check failed: `result.ok` does not hold; `w.look` gave {"ok":false}; the undo failed too, so the change stands: held by another"#]]).await;
}

#[tokio::test]
async fn a_check_that_is_not_read_only_is_refused_before_the_act() {
    let tools = tools(made(), Value::Null).tool("w.look", EffectClass::AtMostOnce, made());
    check_act(tools, expect![[r#"

        invalid: `verify` of node `act` calls `w.look`, which is not declared read-only: a check must not change anything"#]]).await;
}

#[tokio::test]
async fn a_check_that_passes_by_itself_is_tried_again_without_the_act() {
    let lost = TaskError::new(ErrorClass::Transient, "connection lost");
    let looks = Scripted::InTurn(vec![Err(lost), Ok(json!({ "ok": true }))]);
    check_act(
        tools(made(), Value::Null).tool("w.look", EffectClass::ReadOnly, looks),
        expect![[r#"
        w.make {"n":1}
        w.look {"id":7}
        w.look {"id":7}
        made {"id":7}"#]],
    )
    .await;
}

#[tokio::test]
async fn a_check_that_is_never_answered_undoes_the_act() {
    let lost = Scripted::Always(Err(TaskError::new(ErrorClass::Transient, "connection lost")));
    check_act(tools(made(), Value::Null).tool("w.look", EffectClass::ReadOnly, lost), expect![[r#"
        w.make {"n":1}
        w.look {"id":7}
        w.look {"id":7}
        w.look {"id":7}
        w.unmake {"also":7,"id":7}
        verify_failed: node `act`: `w.make` was made and its check failed: `w.look` could not be asked: connection lost; it was undone by `w.unmake`"#]]).await;
}

/// The key is the call's, not the attempt's: the tool sees that the second request is the first one again.
#[tokio::test]
async fn a_retry_hands_over_the_same_key() {
    let lost = TaskError::new(ErrorClass::Transient, "connection lost before anything was sent");
    let make = Scripted::InTurn(vec![Err(lost.clone()), Err(lost), Ok(json!({ "id": 7 }))]);
    let (tools, _) = run(tools(make, json!({ "ok": true })), NODE, plan(), agreeable).await;
    let keys: Vec<String> =
        tools.calls().iter().filter(|call| call.target == "w.make").map(|call| call.key.clone()).collect();
    assert_eq!(keys.len(), 3);
    assert!(keys.iter().all(|key| *key == keys[0]) && !keys[0].is_empty(), "{keys:?}");
    let check = tools.calls().into_iter().find(|call| call.target == "w.look").unwrap();
    assert_ne!(check.key, keys[0], "the check is a call of its own");
}

#[tokio::test]
async fn an_act_in_doubt_is_never_repeated() {
    let doubt = TaskError::new(ErrorClass::OutcomeUnknown, "the connection ended after the request had left");
    check_act(
        tools(Scripted::InTurn(vec![Err(doubt), Ok(json!({ "id": 7 }))]), json!({ "ok": true })),
        expect![[r#"
        w.make {"n":1}
        outcome_unknown: the connection ended after the request had left"#]],
    )
    .await;
}

#[tokio::test]
async fn without_a_declared_undo_the_change_stands() {
    let mut input = plan();
    input["plan"]["undo"] = Value::Null;
    let (tools, world) = run(tools(made(), json!({ "ok": false })), NODE, input, agreeable).await;
    assert_eq!(tools.called(), ["w.make", "w.look"]);
    assert!(
        world.channel("trouble").await["message"].as_str().unwrap().contains("no undo is declared: the change stands")
    );
}

#[tokio::test]
async fn a_check_without_a_name_stops_the_act() {
    let mut input = plan();
    input["plan"]["check"] = Value::Null;
    let (tools, world) = run(tools(made(), Value::Null), NODE, input, agreeable).await;
    assert!(tools.called().is_empty());
    assert_eq!(world.channel("trouble").await["class"], "invalid");
}

#[tokio::test]
async fn a_dry_run_calls_nothing() {
    let yaml = "
graph: g
state: { made: {} }
output: [made]
nodes:
  act: { tool: w.make, args: { n: 1 }, env: production, dry_run: true, output: made, then: end }
start: act
";
    let (tools, world) = run(tools(made(), Value::Null), yaml, json!({}), agreeable).await;
    assert!(tools.called().is_empty());
    let expected =
        json!({ "dry_run": true, "tool": "w.make", "args": { "n": 1 }, "env": "production", "effect": "at_most_once" });
    assert_eq!(world.channel("made").await, expected);
}

const PRODUCTION: &str = "
graph: g
state: { made: {}, trouble: {} }
output: [made, trouble]
nodes:
  act: { tool: w.make, args: { n: 1 }, env: production, output: made, on_error: failed, then: end }
  failed: { set: { trouble: '{{ error }}' }, then: end }
start: act
";

/// Whatever an approver changed is what the tool gets.
#[tokio::test]
async fn edited_arguments_are_the_ones_that_are_sent() {
    let edit: Person = |_| json!({ "choice": "edit", "args": { "n": 2 } });
    let (tools, world) = run(tools(made(), Value::Null), PRODUCTION, json!({}), edit).await;
    assert_eq!(*tools.calls()[0].args, json!({ "n": 2 }));
    assert_eq!(world.questions.len(), 1);
}

#[tokio::test]
async fn a_rejected_call_is_denied_and_never_made() {
    let reject: Person = |_| json!({ "choice": "reject", "reason": "no" });
    let (tools, world) = run(tools(made(), Value::Null), PRODUCTION, json!({}), reject).await;
    assert!(tools.called().is_empty());
    assert_eq!(world.channel("trouble").await["class"], "denied");
}

/// The operator's word on the node stands above the hub's class of the tool.
#[tokio::test]
async fn the_guard_sees_the_node_s_effect_and_environment() {
    struct Watch(std::sync::Mutex<Vec<String>>);
    impl Policy for Watch {
        fn decide(&self, call: &CallFacts<'_>) -> Decision {
            let seen = format!("{} {:?} {:?} {:?} {}", call.target, call.effect, call.env, call.role, call.node);
            self.0.lock().unwrap().push(seen);
            Decision::Allow { rule: "all".to_owned() }
        }
    }
    let watch = Arc::new(Watch(std::sync::Mutex::default()));
    let tools = Arc::new(tools(made(), json!({ "ok": false })));
    let mut world = World::with_policy(tools, Arc::clone(&watch) as _);
    let yaml = NODE.replace("env: staging", "env: staging\n    effect: idempotent");
    assert_eq!(world.run(compiled("g", &yaml), plan(), agreeable).await, Outcome::Success);
    expect![[r#"
        w.make Idempotent Some("staging") None act
        w.look ReadOnly Some("staging") None act
        w.unmake Idempotent Some("staging") Some("undo") act"#]]
    .assert_eq(&watch.0.lock().unwrap().join("\n"));
}
