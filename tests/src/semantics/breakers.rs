//! Breakers: shared by all threads of a store, durable, closed by a success or by a person.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use graphs::EffectClass;
use runtime::ports::store::Store;
use runtime::{CallSpec, interlocks};
use runtime_core::error::{ErrorClass, TaskError};
use runtime_core::ids::{Seq, ThreadId};
use runtime_core::record::{CallKind, InterruptKind, Op, Outcome};
use serde_json::{Value, json};

use crate::lab::*;
use crate::strict_store::{Disk, Lie, StrictStore};

const NAME: &str = "function:g/work";

/// A service that works or does not.
#[derive(Clone, Default)]
struct Service(Arc<AtomicBool>);

impl Service {
    fn set_up(&self, up: bool) {
        self.0.store(up, Ordering::SeqCst);
    }

    fn up(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

fn guarded(lab: &mut Lab, more: &str) -> Service {
    lab.graph(&format!(
        "{{graph: g, nodes: {{work: {{function: work, breaker: {{failures: 3, cooldown: 60s}}, {more} then: end}}, rescue: {{function: rescue, then: end}}, first: {{emit: 1, then: [{{when: 'false', to: rescue}}, {{to: work}}]}}}}, start: first}}"
    ));
    let service = Service::default();
    let at_work = service.clone();
    lab.node("work", move |_, bench| {
        let service = at_work.clone();
        async move {
            bench.act("tried");
            if service.up() { out(json!({})) } else { fatal("it is down") }
        }
    });
    lab.node("rescue", |ctx, bench| async move {
        bench.act(ctx.var("error")["message"].as_str().unwrap_or("-"));
        out(json!({}))
    });
    service
}

async fn on_thread(lab: &mut Lab, name: &str) -> Outcome {
    lab.thread = ThreadId::new(name).unwrap();
    let outcome = lab.start(json!({})).await;
    lab.at_rest().await;
    outcome
}

async fn open_it(lab: &mut Lab) {
    for name in ["a", "b", "c"] {
        assert!(matches!(on_thread(lab, name).await, Outcome::Failed(_)));
    }
}

/// Actions in the audit of all threads, with their breakers.
async fn audited(store: &dyn Store, threads: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for thread in threads {
        let thread = ThreadId::new(thread).unwrap();
        for (_, record) in store.records(&thread, Seq(1), 1000).await.unwrap() {
            for op in record.ops {
                if let Op::Audited(entry) = op
                    && entry.action.starts_with("breaker.")
                {
                    found.push(format!("{thread} {} {}", entry.action, entry.detail["breaker"].as_str().unwrap()));
                }
            }
        }
    }
    found
}

#[test]
fn three_failures_of_three_threads_open_a_breaker_and_a_restart_keeps_it() {
    on_every_store(|mut lab| async move {
        let service = guarded(&mut lab, "");
        open_it(&mut lab).await;
        assert_eq!(on_thread(&mut lab, "d").await, Outcome::Interrupted);
        let question = lab.open().await.remove(0);
        assert_eq!((question.kind, &question.payload["breaker"]), (InterruptKind::Breaker, &json!(NAME)));
        assert!(question.body.contains("after 3 failures in a row, last: it is down"), "{}", question.body);

        let store = Arc::clone(&lab.store);
        lab.at_rest().await;
        lab.restart_over(store);
        assert_eq!(on_thread(&mut lab, "e").await, Outcome::Interrupted, "another process finds it open");
        assert_eq!(lab.bench.acts().len(), 3, "nothing was tried meanwhile");
        let known = interlocks::breakers(&*lab.store).await.unwrap();
        assert_eq!((known.len(), known[0].1.failures), (1, 3));
        assert_eq!(known[0].1.opened_by, Some(ThreadId::new("c").unwrap()));

        lab.clock.advance(Duration::from_secs(61));
        service.set_up(true);
        assert_eq!(on_thread(&mut lab, "f").await, Outcome::Success, "the cooldown is over: this is the probe");
        lab.at_rest().await;
        assert_eq!(on_thread(&mut lab, "g").await, Outcome::Success, "the probe closed it");
        lab.thread = ThreadId::new("d").unwrap();
        assert_eq!(lab.answer_all(json!("approve")).await, Outcome::Success, "who waited goes on");
        lab.at_rest().await;
        assert_eq!(
            audited(&*lab.store, &["a", "b", "c", "f"]).await,
            [
                format!("c breaker.opened {NAME}"),
                format!("f breaker.half_opened {NAME}"),
                format!("f breaker.closed {NAME}")
            ]
        );
    });
}

#[test]
fn a_failed_probe_opens_it_for_another_cooldown() {
    on_every_store(|mut lab| async move {
        let service = guarded(&mut lab, "");
        open_it(&mut lab).await;
        lab.clock.advance(Duration::from_secs(61));
        assert!(matches!(on_thread(&mut lab, "d").await, Outcome::Failed(_)));
        lab.at_rest().await;
        service.set_up(true);
        lab.clock.advance(Duration::from_secs(59));
        assert_eq!(on_thread(&mut lab, "e").await, Outcome::Interrupted);
        lab.clock.advance(Duration::from_secs(2));
        assert_eq!(on_thread(&mut lab, "f").await, Outcome::Success);
    });
}

#[test]
fn people_try_once_reset_or_give_up() {
    on_every_store(|mut lab| async move {
        let service = guarded(&mut lab, "");
        open_it(&mut lab).await;
        for name in ["d", "e", "f"] {
            assert_eq!(on_thread(&mut lab, name).await, Outcome::Interrupted);
        }
        lab.thread = ThreadId::new("d").unwrap();
        let rejected = lab.answer_all(json!("reject")).await;
        assert!(failure(&rejected).contains("the breaker is open and `ana` answered `reject`"), "{rejected:?}");
        assert_eq!(lab.bench.acts().len(), 3);

        lab.thread = ThreadId::new("e").unwrap();
        assert!(matches!(lab.answer_all(json!("approve")).await, Outcome::Failed(_)), "it is still down");
        assert_eq!(lab.bench.acts().len(), 4, "tried once");
        lab.at_rest().await;
        assert_eq!(lab.resume().await, Outcome::Interrupted, "the approval is used up");

        service.set_up(true);
        lab.thread = ThreadId::new("f").unwrap();
        assert_eq!(lab.answer_all(json!("reset")).await, Outcome::Success);
        assert_eq!(on_thread(&mut lab, "g").await, Outcome::Success);
    });
}

#[test]
fn a_person_resets_a_breaker_from_outside_and_the_audit_says_who() {
    on_every_store(|mut lab| async move {
        guarded(&mut lab, "").set_up(false);
        open_it(&mut lab).await;
        let engine = lab.engine();
        assert_eq!(engine.reset_breaker("function:g/other", "ana").await.unwrap(), None);
        let before = engine.reset_breaker(NAME, "ana").await.unwrap().unwrap();
        assert_eq!(before.failures, 3);
        assert!(matches!(on_thread(&mut lab, "d").await, Outcome::Failed(_)), "it is tried again");
        assert_eq!(lab.bench.acts().len(), 4);
        lab.at_rest().await;
        let audit = audited(&*lab.store, &["c"]).await;
        assert_eq!(audit, [format!("c breaker.opened {NAME}"), format!("c breaker.reset {NAME}")]);
    });
}

#[test]
fn a_declared_handler_is_the_way_out_of_an_open_breaker() {
    on_every_store(|mut lab| async move {
        guarded(&mut lab, "on_error: rescue,");
        for name in ["a", "b", "c", "d"] {
            assert_eq!(on_thread(&mut lab, name).await, Outcome::Success);
            lab.at_rest().await;
        }
        let acts = lab.bench.acts();
        assert_eq!(acts.iter().filter(|act| *act == "tried").count(), 3);
        assert!(acts.last().unwrap().starts_with("breaker `function:g/work` is open until"), "{acts:?}");
    });
}

#[test]
fn of_two_threads_that_would_probe_one_does() {
    on_every_store(|mut lab| async move {
        let service = guarded(&mut lab, "");
        open_it(&mut lab).await;
        lab.at_rest().await;
        lab.clock.advance(Duration::from_secs(61));
        service.set_up(true);
        lab.node("work", |_, bench| async move {
            bench.act("probe");
            bench.after("seen").await;
            out(json!({}))
        });
        let store = Arc::clone(&lab.store);
        lab.restart_over(store);
        lab.load_graphs().await;
        let engine = lab.engine();
        let mut ends = Vec::new();
        for name in ["x", "y"] {
            let mut start = lab.what(json!({}), Default::default());
            start.thread = ThreadId::new(name).unwrap();
            ends.push(Box::pin(engine.start(start).await.unwrap().ended()));
        }
        let (y, x) = (ends.pop().unwrap(), ends.pop().unwrap());
        let (first, other) = first_of(x, y).await;
        assert_eq!(first.unwrap().outcome, Outcome::Interrupted, "one waits for the probe of the other");
        lab.bench.mark("seen");
        assert_eq!(other.await.unwrap().outcome, Outcome::Success);
        assert_eq!(lab.bench.acts().iter().filter(|act| *act == "probe").count(), 1);
    });
}

/// The one that ends first, and the other.
async fn first_of<F: Future + Unpin>(mut a: F, mut b: F) -> (F::Output, F) {
    enum First<T> {
        A(T),
        B(T),
    }
    let first = tokio::select! {
        end = &mut a => First::A(end),
        end = &mut b => First::B(end),
    };
    match first {
        First::A(end) => (end, b),
        First::B(end) => (end, a),
    }
}

#[test]
fn calls_pass_the_breaker_of_their_tool_server() {
    on_every_store(|mut lab| async move {
        lab.graph(
            "{graph: g, state: {n: {merge: sum}}, nodes: {work: {function: work, breaker: {failures: 2, cooldown: 60s}, then: end}}, start: work}",
        );
        lab.node("work", |ctx, bench| async move {
            let spec = CallSpec::new(CallKind::Tool, "airflow.clear", json!({}), EffectClass::Idempotent);
            let called = bench.clone();
            let result = ctx
                .call(spec, move |_| async move {
                    called.act("call");
                    Err::<Value, _>(TaskError::new(ErrorClass::Transient, "connection refused"))
                })
                .await;
            // The node lives with it: only the server failed.
            assert!(result.is_err());
            out(json!({"n": 1}))
        });
        for name in ["a", "b"] {
            assert_eq!(on_thread(&mut lab, name).await, Outcome::Success);
            lab.at_rest().await;
        }
        assert_eq!(on_thread(&mut lab, "c").await, Outcome::Interrupted);
        let question = lab.open().await.remove(0);
        assert_eq!(question.payload["breaker"], json!("tool:airflow"));
        assert_eq!(question.payload["target"], json!("airflow.clear"));
        assert_eq!(lab.bench.acts().len(), 2);
        assert_eq!(lab.answer_all(json!("approve")).await, Outcome::Success);
        assert_eq!(lab.bench.acts().len(), 3);
        lab.at_rest().await;
        let known: BTreeMap<String, _> = interlocks::breakers(&*lab.store).await.unwrap().into_iter().collect();
        assert!(known["tool:airflow"].opened_at.is_some() && !known.contains_key("function:g/work"), "{known:?}");
    });
}

#[test]
fn breakers_have_teeth_without_a_durable_record_none_opens() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut lab = Lab::over(Arc::new(StrictStore::lying(&Disk::default(), Lie::ForgetsDocuments)));
        guarded(&mut lab, "");
        open_it(&mut lab).await;
        let outcome = on_thread(&mut lab, "d").await;
        assert!(matches!(outcome, Outcome::Failed(_)), "a store that forgets was not found out: {outcome:?}");
        assert_eq!(lab.bench.acts().len(), 4);
    });
}
