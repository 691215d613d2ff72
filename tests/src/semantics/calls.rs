//! The journal: calls made once, in doubt, probed, refused, approved, edited, and nodes that do not repeat themselves.

use std::sync::Arc;
use std::time::Duration;

use graphs::EffectClass;
use runtime::ports::store::Store;
use runtime::{CallSpec, Context, Engine};
use runtime_core::error::{ErrorClass, TaskError};
use runtime_core::event::Probe;
use runtime_core::ids::Seq;
use runtime_core::interlocks::guard::DefaultPolicy;
use runtime_core::record::{CallKind, InterruptKind, Op, Outcome};
use serde_json::{Value, json};

use crate::lab::*;
use crate::strict_store::{Death, Disk, StrictStore};

const ONE: &str = "
graph: one
state: {log: {merge: append}}
nodes: {act: {function: act, then: end}}
start: act
";

fn tool(args: Value, effect: EffectClass, env: Option<&str>) -> CallSpec {
    CallSpec { env: env.map(Into::into), ..CallSpec::new(CallKind::Tool, "warehouse.write", args, effect) }
}

async fn acts(ctx: &Context, bench: &Bench, spec: CallSpec) -> Result<Arc<Value>, TaskError> {
    let bench = bench.clone();
    ctx.call(spec, move |permit| async move {
        bench.act(&format!("{} {}", permit.key, permit.args));
        bench.after("the call returns").await;
        Ok(json!("done"))
    })
    .await
}

fn acting(lab: &mut Lab, effect: EffectClass) {
    lab.graph(ONE).node("act", move |ctx, bench| async move {
        let result = acts(&ctx, &bench, tool(json!({"n": 1}), effect, None)).await?;
        out(json!({"log": [*result]}))
    });
}

/// Starts a run, waits until its call is in the air, and kills the engine.
async fn killed_in_the_call(lab: &mut Lab, disk: &Disk) {
    let doomed = Arc::new(StrictStore::on(disk));
    lab.restart_over(Arc::clone(&doomed) as Arc<dyn Store>);
    lab.load_graphs().await;
    let engine = lab.engine();
    let running = engine.start(lab.what(json!({}), Default::default())).await.unwrap();
    for _ in 0..100_000 {
        if !lab.bench.acts().is_empty() {
            break;
        }
        tokio::task::yield_now().await;
    }
    drop(running);
    doomed.kill();
    lab.restart_over(Arc::new(StrictStore::on(disk)));
    lab.load_graphs().await;
    lab.bench.mark("the call returns");
    assert_eq!(lab.engine().recover().await.unwrap(), 1);
    lab.quiet().await;
}

fn alone(test: impl AsyncFnOnce(Lab, Disk)) {
    let disk = Disk::default();
    let lab = Lab::over(Arc::new(StrictStore::on(&disk)));
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(test(lab, disk));
}

#[test]
fn a_call_in_doubt_that_may_happen_once_is_put_to_people() {
    for (choice, result, n_acts) in [("happened", json!(["told"]), 1), ("repeat", json!(["done"]), 2)] {
        alone(async |mut lab, disk| {
            acting(&mut lab, EffectClass::AtMostOnce);
            killed_in_the_call(&mut lab, &disk).await;
            assert_eq!(lab.bench.acts().len(), 1, "not repeated by itself");
            let question = lab.open().await.remove(0);
            assert_eq!(question.kind, InterruptKind::InDoubt);
            assert_eq!(lab.answer_all(json!({"choice": choice, "result": "told"})).await, Outcome::Success);
            assert_eq!((lab.bench.acts().len(), lab.values().await["log"].clone()), (n_acts, result));
        });
    }
    alone(async |mut lab, disk| {
        acting(&mut lab, EffectClass::AtMostOnce);
        killed_in_the_call(&mut lab, &disk).await;
        let outcome = lab.answer_all(json!("give_up")).await;
        assert!(matches!(&outcome, Outcome::Failed(error) if error.class == ErrorClass::OutcomeUnknown), "{outcome:?}");
        assert_eq!(lab.resume().await, Outcome::Interrupted, "a resume asks again, it does not repeat");
        assert_eq!(lab.bench.acts().len(), 1);
    });
}

#[test]
fn a_call_in_doubt_that_may_be_repeated_is_repeated_with_its_key() {
    for effect in [EffectClass::Idempotent, EffectClass::ReadOnly] {
        alone(async |mut lab, disk| {
            acting(&mut lab, effect);
            killed_in_the_call(&mut lab, &disk).await;
            assert_eq!(lab.values().await["log"], json!(["done"]));
            let acts = lab.bench.acts();
            assert_eq!((acts.len(), &acts[0]), (2, &acts[1]), "one key");
        });
    }
}

#[test]
fn a_call_in_doubt_is_probed_where_that_is_possible() {
    for (found, n_acts, log) in [("happened", 1, json!("found")), ("did not", 2, json!("done"))] {
        alone(async |mut lab, disk| {
            lab.graph(ONE).node("act", move |ctx, bench| async move {
                let outside = bench.clone();
                let make = move |permit: runtime::Permit| async move {
                    outside.act(&permit.args.to_string());
                    outside.after("the call returns").await;
                    Ok(json!("done"))
                };
                let probe = move |_: String| {
                    std::future::ready(match found {
                        "happened" => Probe::Happened(json!("found")),
                        _ => Probe::DidNot,
                    })
                };
                let spec = tool(json!({"n": 1}), EffectClass::AtMostOnce, None);
                let result = ctx.call_or_probe(spec, make, Some(probe)).await?;
                out(json!({"log": [*result]}))
            });
            killed_in_the_call(&mut lab, &disk).await;
            assert_eq!(lab.values().await["log"][0], log);
            assert_eq!(lab.bench.acts(), vec![r#"{"n":1}"#; n_acts]);
        });
    }
}

#[test]
fn a_timed_out_call_that_may_happen_once_is_in_doubt_and_not_retried() {
    on_every_store(|mut lab| async move {
        lab.graph(&ONE.replace("function: act", "function: act, timeout: 5s, retry: {attempts: 3, initial: 1ms}"));
        lab.node("act", |ctx, bench| async move {
            let result = acts(&ctx, &bench, tool(json!(1), EffectClass::AtMostOnce, None)).await?;
            out(json!({"log": [*result]}))
        });
        lab.load_graphs().await;
        let (engine, start) = (lab.engine(), lab.what(json!({}), Default::default()));
        let running = engine.start(start).await.unwrap();
        while lab.bench.acts().is_empty() {
            tokio::task::yield_now().await;
        }
        lab.clock.run_by_itself();
        assert_eq!(running.ended().await.unwrap().outcome, Outcome::Interrupted);
        assert_eq!((lab.bench.acts().len(), lab.open().await[0].kind), (1, InterruptKind::InDoubt));
    });
}

#[test]
fn a_call_that_reports_a_timeout_is_in_doubt_and_one_that_reports_a_failure_is_retried() {
    for (class, n_acts) in [(ErrorClass::Timeout, 1), (ErrorClass::Transient, 2)] {
        on_every_store(|mut lab| async move {
            lab.graph(&ONE.replace("function: act", "function: act, retry: {attempts: 2, initial: 1ms}"));
            lab.clock.run_by_itself();
            lab.node("act", move |ctx, bench| async move {
                let made = ctx.call(tool(json!(1), EffectClass::AtMostOnce, None), move |_| async move {
                    bench.act("act");
                    if bench.count("act") == 1 { Err(TaskError::new(class, "no answer")) } else { Ok(json!("done")) }
                });
                out(json!({"log": [*made.await?]}))
            });
            let outcome = lab.start(json!({})).await;
            assert_eq!(outcome == Outcome::Interrupted, class == ErrorClass::Timeout, "{outcome:?}");
            assert_eq!(lab.bench.acts().len(), n_acts);
        });
    }
}

#[test]
fn results_before_a_failure_are_kept_and_the_failed_call_is_made_again_by_a_resume() {
    on_every_store(|mut lab| async move {
        lab.graph(ONE).node("act", |ctx, bench| async move {
            let mut log = Vec::new();
            for n in 1..=3 {
                let bench = bench.clone();
                let made = ctx.call(tool(json!(n), EffectClass::AtMostOnce, None), move |permit| async move {
                    bench.act(&format!("{}", permit.args));
                    if n == 2 && bench.count("two") == 1 {
                        Err(TaskError::new(ErrorClass::Permanent, "no"))
                    } else {
                        Ok(json!(n * 10))
                    }
                });
                log.push(made.await?);
            }
            out(json!({"log": log.iter().map(|value| Value::clone(value)).collect::<Vec<_>>()}))
        });
        assert!(matches!(lab.start(json!({})).await, Outcome::Failed(_)));
        assert_eq!(lab.resume().await, Outcome::Success);
        assert_eq!(lab.bench.acts().join(" "), "1 2 2 3");
        assert_eq!(lab.values().await["log"], json!([10, 20, 30]));
    });
}

#[test]
fn a_node_that_does_not_repeat_itself_is_told_which_call_differs() {
    on_every_store(|mut lab| async move {
        lab.graph(ONE).node("act", |ctx, bench| async move {
            let n = bench.count("run");
            let spec = tool(json!({"run": n}), EffectClass::Idempotent, None);
            ctx.call(spec, |_| async { Ok(Value::Null) }).await?;
            ask(&ctx, "well?").await?;
            out(json!({}))
        });
        assert_eq!(lab.start(json!({})).await, Outcome::Interrupted);
        let open = lab.open().await;
        let (_, ended) = lab.answer(vec![yes(&open[0], json!(1))]).await.unwrap();
        let Outcome::Failed(error) = ended.unwrap().outcome else { panic!("it went on") };
        assert_eq!(error.class, ErrorClass::NonDeterminism);
        assert!(error.message.contains("call 0 was Tool `warehouse.write`"), "{error}");
    });
}

fn guarded(store: Arc<dyn Store>, lab: &Lab) -> Engine {
    let policy = DefaultPolicy { approvers: vec!["user:ana".to_owned()] };
    lab.builder(store).policy(Arc::new(policy)).build()
}

#[test]
fn policy_asks_denies_and_binds_the_answer_to_the_arguments() {
    for (answer, expected) in [
        (json!("approve"), Ok(json!({"amount": 82_000}))),
        (json!({"choice": "edit", "args": {"amount": 1}}), Ok(json!({"amount": 1}))),
        (json!({"choice": "reject", "reason": "too much"}), Err("`ana` answered `reject`: too much")),
        (json!({"choice": "edit"}), Err("chose `edit` without `args`")),
    ] {
        on_every_store(|mut lab| {
            let (answer, expected) = (answer.clone(), expected.clone());
            async move {
                lab.graph(ONE).node("act", |ctx, bench| async move {
                    let spec = tool(json!({"amount": 82_000}), EffectClass::AtMostOnce, Some("production"));
                    ctx.call(spec, |permit| async move {
                        bench.act(&permit.args.to_string());
                        Ok(json!("done"))
                    })
                    .await?;
                    out(json!({}))
                });
                let engine = guarded(Arc::clone(&lab.store), &lab);
                lab.use_engine(engine);
                assert_eq!(lab.start(json!({})).await, Outcome::Interrupted);
                let question = lab.open().await.remove(0);
                assert_eq!(
                    (question.kind, &question.payload["args"]["amount"]),
                    (InterruptKind::Guard, &json!(82_000))
                );
                assert!(lab.bench.acts().is_empty());
                let outcome = lab.answer_all(answer).await;
                match expected {
                    Ok(args) => assert_eq!((outcome, lab.bench.acts()), (Outcome::Success, vec![args.to_string()])),
                    Err(why) => {
                        assert!(failure(&outcome).contains(why), "{outcome:?}");
                        assert!(lab.bench.acts().is_empty());
                    }
                }
            }
        });
    }
}

#[test]
fn policy_denies_what_names_no_environment() {
    on_every_store(|mut lab| async move {
        acting(&mut lab, EffectClass::Idempotent);
        let engine = guarded(Arc::clone(&lab.store), &lab);
        lab.use_engine(engine);
        let outcome = lab.start(json!({})).await;
        assert!(matches!(&outcome, Outcome::Failed(error) if error.class == ErrorClass::Denied), "{outcome:?}");
        assert!(lab.bench.acts().is_empty());
        assert!(matches!(lab.resume().await, Outcome::Failed(_)), "policy decides again, the same");
    });
}

#[test]
fn parallel_calls_of_one_node_keep_their_places_over_a_pause() {
    on_every_store(|mut lab| async move {
        lab.bench.mark("the call returns");
        lab.graph(ONE).node("act", |ctx, bench| async move {
            let one = acts(&ctx, &bench, tool(json!(1), EffectClass::AtMostOnce, None));
            let two = acts(&ctx, &bench, tool(json!(2), EffectClass::AtMostOnce, None));
            let (one, two) = tokio::join!(one, two);
            ask(&ctx, "go on?").await?;
            out(json!({"log": [*one?, *two?]}))
        });
        assert_eq!(lab.start(json!({})).await, Outcome::Interrupted);
        assert_eq!(lab.answer_all(json!(1)).await, Outcome::Success);
        assert_eq!(lab.bench.acts().len(), 2);
    });
}

#[test]
fn a_question_beside_a_call_in_the_air_waits_for_its_result() {
    on_every_store(|mut lab| async move {
        lab.graph(ONE).node("act", |ctx, bench| async move {
            let slow = acts(&ctx, &bench, tool(json!(1), EffectClass::AtMostOnce, None));
            let asked = async {
                bench.mark("asked");
                ask(&ctx, "well?").await
            };
            let (slow, asked) = tokio::join!(slow, asked);
            out(json!({"log": [*slow?, asked?]}))
        });
        lab.load_graphs().await;
        let (engine, start) = (lab.engine(), lab.what(json!({}), Default::default()));
        let running = engine.start(start).await.unwrap();
        lab.until("the question is open", |state| !state.interrupts.is_empty()).await;
        lab.bench.mark("the call returns");
        assert_eq!(running.ended().await.unwrap().outcome, Outcome::Interrupted);
        assert_eq!(lab.answer_all(json!("yes")).await, Outcome::Success);
        assert_eq!(lab.bench.acts().len(), 1, "its result was recorded before the pause");
        assert_eq!(lab.values().await["log"], json!(["done", "yes"]));
    });
}

#[test]
fn an_answer_that_comes_before_the_call_in_the_air_returns_is_used() {
    on_every_store(|mut lab| async move {
        lab.graph(ONE).node("act", |ctx, bench| async move {
            let slow = acts(&ctx, &bench, tool(json!(1), EffectClass::AtMostOnce, None));
            let (slow, asked) = tokio::join!(slow, ask(&ctx, "well?"));
            out(json!({"log": [*slow?, asked?]}))
        });
        lab.load_graphs().await;
        let (engine, start) = (lab.engine(), lab.what(json!({}), Default::default()));
        let running = engine.start(start).await.unwrap();
        lab.until("the question is open", |state| !state.interrupts.is_empty()).await;
        let question = lab.open().await.remove(0);
        engine.answer(&lab.thread.clone(), vec![yes(&question, json!("yes"))], Value::Null).await.unwrap();
        lab.bench.mark("the call returns");
        assert_eq!(running.ended().await.unwrap().outcome, Outcome::Success);
        assert_eq!((lab.bench.acts().len(), lab.values().await["log"].clone()), (1, json!(["done", "yes"])));
    });
}

#[test]
fn an_answer_is_taken_while_a_sibling_still_works() {
    on_every_store(|mut lab| async move {
        lab.graph("{graph: two, state: {log: {merge: append}}, nodes: {a: {function: a, then: end}, b: {function: b, then: end}}, start: [a, b]}");
        lab.function("a", |ctx| async move {
            let answer = ask(&ctx, "a?").await?;
            out(json!({"log": [answer]}))
        });
        lab.node("b", |_, bench| async move {
            bench.after("answered").await;
            out(json!({"log": ["b"]}))
        });
        lab.load_graphs().await;
        let (engine, start) = (lab.engine(), lab.what(json!({}), Default::default()));
        let running = engine.start(start).await.unwrap();
        lab.until("the question is open", |state| !state.interrupts.is_empty()).await;
        let question = lab.open().await.remove(0);
        engine.answer(&lab.thread.clone(), vec![yes(&question, json!("early"))], Value::Null).await.unwrap();
        lab.bench.mark("answered");
        assert_eq!(running.ended().await.unwrap().outcome, Outcome::Success, "in the same run");
        assert_eq!(lab.values().await["log"], json!(["early", "b"]));
    });
}

#[test]
fn a_cancel_in_a_call_leaves_it_in_doubt() {
    on_every_store(|mut lab| async move {
        acting(&mut lab, EffectClass::AtMostOnce);
        lab.load_graphs().await;
        let (engine, thread) = (lab.engine(), lab.thread.clone());
        let running = engine.start(lab.what(json!({}), Default::default())).await.unwrap();
        while lab.bench.acts().is_empty() {
            tokio::task::yield_now().await;
        }
        engine.cancel(&thread, "stop").await.unwrap();
        assert_eq!(running.ended().await.unwrap().outcome, Outcome::Cancelled);
        assert_eq!(lab.resume().await, Outcome::Interrupted);
        assert_eq!((lab.bench.acts().len(), lab.open().await[0].kind), (1, InterruptKind::InDoubt));
    });
}

#[test]
fn a_death_between_intent_and_call_does_not_lose_the_call() {
    for death in 2..8 {
        alone(async |_, disk| {
            let mut lab = Lab::over(Arc::new(StrictStore::dying(&disk, Death::After(death))));
            lab.bench.mark("the call returns");
            acting(&mut lab, EffectClass::Idempotent);
            let first = lab.try_start(json!({}), Default::default()).await;
            lab.restart_over(Arc::new(StrictStore::on(&disk)));
            lab.load_graphs().await;
            if lab.engine().recover().await.unwrap() > 0 {
                lab.quiet().await;
            } else {
                assert!(first.is_ok(), "{first:?}");
            }
            assert_eq!(lab.values().await["log"], json!(["done"]), "{death}");
        });
    }
}

#[test]
fn a_cancelled_wait_can_go_on() {
    on_every_store(|mut lab| async move {
        lab.graph(
            "{graph: w, state: {x: {}}, nodes: {w: {wait: 10m, then: a}, a: {set: {x: 1}, then: end}}, start: w}",
        );
        assert_eq!(lab.start(json!({})).await, Outcome::Waiting);
        let (engine, thread) = (lab.engine(), lab.thread.clone());
        engine.cancel(&thread, "stop").await.unwrap();
        assert!(lab.store.timers(runtime_core::ids::Timestamp(i64::MAX), 9).await.unwrap().is_empty());
        assert_eq!(lab.resume().await, Outcome::Waiting);
        lab.clock.advance(Duration::from_secs(600));
        lab.fire().await;
        assert_eq!(lab.values().await, json!({"x": 1}));
    });
}

#[test]
fn a_wait_that_timed_out_is_tried_again_from_its_start() {
    on_every_store(|mut lab| async move {
        lab.graph(
            "{graph: w, state: {x: {}}, nodes: {w: {wait: {signal: go, for: 10m}, output: x, then: end}}, start: w}",
        );
        assert_eq!(lab.start(json!({})).await, Outcome::Waiting);
        lab.clock.advance(Duration::from_secs(600));
        lab.fire().await;
        let outcome = lab.state().await.run.unwrap().outcome.unwrap();
        assert!(failure(&outcome).contains("no signal `go` came in time"), "{outcome:?}");
        assert_eq!(lab.resume().await, Outcome::Waiting);
        let (engine, thread) = (lab.engine(), lab.thread.clone());
        engine.signal(&thread, "go".into(), json!(5)).await.unwrap();
        lab.quiet().await;
        assert_eq!(lab.values().await, json!({"x": 5}));
    });
}

/// Calls of a node that looks around quickly.
const LOOKS: usize = 40;

/// The records that quick calls leave, while the clock stands still.
async fn records_of_quick_calls(lab: &mut Lab, kind: CallKind, effect: EffectClass) -> usize {
    lab.graph(ONE).node("act", move |ctx, _| async move {
        for n in 0..LOOKS {
            let spec = CallSpec::new(kind, "warehouse.look", json!(n), effect);
            let look = |_| async {
                tokio::task::yield_now().await;
                Ok(json!("seen"))
            };
            ctx.call(spec, look).await?;
        }
        out(json!({"log": ["looked"]}))
    });
    lab.load_graphs().await;
    assert_eq!(lab.start(json!({})).await, Outcome::Success);
    let records = lab.store.records(&lab.thread, Seq(1), 1000).await.unwrap();
    let ops = records.iter().flat_map(|(_, record)| &record.ops);
    assert_eq!(ops.filter(|op| matches!(op, Op::CallEnded { .. })).count(), LOOKS, "each is in the journal");
    records.len()
}

#[test]
fn quick_looks_share_a_commit_and_what_costs_or_changes_does_not() {
    on_every_store(|mut lab| async move {
        let n_looks = records_of_quick_calls(&mut lab, CallKind::Tool, EffectClass::ReadOnly).await;
        assert!(n_looks < LOOKS / 4, "{n_looks} commits for {LOOKS} looks");
    });
    on_every_store(|mut lab| async move {
        let n_acts = records_of_quick_calls(&mut lab, CallKind::Tool, EffectClass::Idempotent).await;
        assert!(n_acts > LOOKS, "{n_acts} commits for {LOOKS} acts");
    });
    // On a store that answers at once; others may be slower than these calls.
    alone(async |mut lab, _| {
        let n_answers = records_of_quick_calls(&mut lab, CallKind::Model, EffectClass::ReadOnly).await;
        assert!(n_answers > LOOKS, "{n_answers} commits for {LOOKS} answers of a model");
    });
}
