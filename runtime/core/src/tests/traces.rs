//! Traces: what a run does, event by event, and that what the outside sees waits for what it depends on.

use expect_test::{Expect, expect};
use graphs::EffectClass;
use serde_json::json;

use super::Bench;
use crate::error::ErrorClass;
use crate::event::{AnswerInput, Command, Principal};
use crate::ids::RunId;

const TWO: &str = "
graph: two
state: {log: {merge: append}}
nodes:
  a: {function: a, retry: {attempts: 2, initial: 1ms}, then: b}
  b: {function: b, then: end}
start: a
";

fn check(yaml: &str, script: impl FnOnce(&mut Bench) -> Vec<(&'static str, String)>, expected: Expect) {
    let mut bench = Bench::new(yaml);
    let lines = script(&mut bench).into_iter().map(|(step, effects)| format!("{step} => {effects}\n"));
    expected.assert_eq(&lines.collect::<String>());
}

#[test]
fn a_run_from_start_to_end() {
    check(
        TWO,
        |bench| {
            vec![
                ("start", bench.start()),
                ("persisted", bench.persist()),
                ("a done", bench.done("a", &[("log", json!(["a"]))])),
                ("persisted", bench.persist()),
                ("b done", bench.done("b", &[])),
                ("persisted", bench.persist()),
            ]
        },
        expect![[r#"
            start => commit(created accepted frame+ checkpoint checkpoint)
            persisted => reply; dispatch a
            a done => commit(finished checkpoint)
            persisted => dispatch b
            b done => commit(finished checkpoint ended)
            persisted => ended success
        "#]],
    );
}

#[test]
fn the_reply_and_the_first_task_wait_for_the_accepted_run() {
    let mut bench = Bench::new(TWO);
    let started = bench.start();
    assert!(!started.contains("reply") && !started.contains("dispatch"), "{started}");
    let persisted = bench.persist();
    assert!(persisted.contains("reply") && persisted.contains("dispatch a"), "{persisted}");
}

#[test]
fn an_act_waits_for_its_intent_and_a_read_does_not() {
    check(
        TWO,
        |bench| {
            vec![
                ("start", bench.start()),
                ("persisted", bench.persist()),
                ("reads", bench.call("a", 0, EffectClass::ReadOnly)),
                ("returned", bench.returned("a", 0)),
                ("acts", bench.call("a", 1, EffectClass::AtMostOnce)),
                ("persisted", bench.persist()),
                ("returned", bench.returned("a", 1)),
                ("fails", bench.broke("a", ErrorClass::Transient)),
                ("persisted", bench.persist()),
            ]
        },
        expect![[r#"
            start => commit(created accepted frame+ checkpoint checkpoint)
            persisted => reply; dispatch a
            reads => perform; commit(audited)
            returned => 
            acts => 
            persisted => commit(audited call-ended begun audited); perform
            returned => commit(audited call-ended)
            fails => timer
            persisted => commit(attempt timer+)
        "#]],
    );
}

#[test]
fn a_crash_in_an_act_asks_and_the_answer_goes_on() {
    check(
        TWO,
        |bench| {
            let mut steps = vec![("start", bench.start()), ("persisted", bench.persist())];
            steps.push(("acts", bench.call("a", 0, EffectClass::AtMostOnce)));
            steps.push(("persisted", bench.persist()));
            bench.crash();
            steps.push(("wakes", bench.ask(Command::Wake { run: RunId(2) })));
            steps.push(("persisted", bench.persist()));
            steps.push(("acts again", bench.call("a", 0, EffectClass::AtMostOnce)));
            steps.push(("persisted", bench.persist()));
            let id = *bench.run.state().interrupts.keys().next().unwrap();
            let by = Principal { user: "ana".to_owned(), groups: Vec::new() };
            let answer = AnswerInput { id, digest: None, value: json!("repeat"), by };
            let command = Command::Answer { run: RunId(3), answers: vec![answer], update: json!(null) };
            steps.push(("answered", bench.ask(command)));
            steps.push(("persisted", bench.persist()));
            steps.push(("acts again", bench.call("a", 0, EffectClass::AtMostOnce)));
            steps.push(("persisted", bench.persist()));
            steps
        },
        expect![[r#"
            start => commit(created accepted frame+ checkpoint checkpoint)
            persisted => reply; dispatch a
            acts => commit(begun audited)
            persisted => perform
            wakes => reply; dispatch a
            persisted => 
            acts again => abort; commit(audited asked ended)
            persisted => ask; ended interrupted
            answered => commit(answered audited accepted)
            persisted => reply; dispatch a
            acts again => commit(begun audited)
            persisted => perform
        "#]],
    );
}

#[test]
fn late_results_of_an_older_dispatch_do_nothing() {
    let mut bench = Bench::new(TWO);
    bench.start();
    bench.persist();
    let old = bench.of("a");
    bench.broke("a", ErrorClass::Transient);
    bench.persist();
    assert_eq!(bench.done("a", &[("log", json!(["late"]))]), "", "{old:?} has ended");
    assert_eq!(bench.returned("a", 0), "");
    assert_eq!(bench.standing("a"), "pending, run active");
}

#[test]
fn replaying_the_log_gives_the_state_of_the_run() {
    let mut bench = Bench::new(TWO);
    bench.start();
    bench.persist();
    bench.call("a", 0, EffectClass::Idempotent);
    bench.persist();
    bench.returned("a", 0);
    bench.question("a", 1);
    bench.persist();
    let live = bench.run.state().clone();
    bench.crash();
    assert_eq!(&live, bench.run.state());
}
