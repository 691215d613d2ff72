//! The matrix: every standing a task can have, met by every event. An uncovered pair cannot hide.

use expect_test::expect;
use graphs::EffectClass;
use serde_json::json;

use super::Bench;
use crate::error::ErrorClass;
use crate::event::{AnswerInput, Command, Event, LiveTimer, Principal, Steer};
use crate::ids::{InterruptId, RunId};
use crate::record::{RunOptions, TimerKey};

const ONE: &str = "
graph: one
state: {log: {merge: append}}
nodes: {a: {function: a, timeout: {run: 10s, idle: 5s}, retry: {attempts: 2, initial: 1ms}, then: end}}
start: a
";

/// Standings of the one task.
const STANDINGS: [&str; 9] =
    ["none", "accepted", "at work", "calling", "asked", "asked while calling", "to be retried", "failed", "finished"];

fn stand(standing: &str) -> Bench {
    let mut bench = Bench::new(ONE);
    if standing == "none" {
        return bench;
    }
    bench.start();
    if standing == "accepted" {
        return bench;
    }
    bench.persist();
    match standing {
        "calling" => drop(bench.call("a", 0, EffectClass::AtMostOnce)),
        "asked" => drop(bench.question("a", 0)),
        "asked while calling" => {
            bench.call("a", 0, EffectClass::AtMostOnce);
            bench.persist();
            bench.question("a", 1);
        }
        "to be retried" => drop(bench.broke("a", ErrorClass::Transient)),
        "failed" => drop(bench.broke("a", ErrorClass::Permanent)),
        "finished" => drop(bench.done("a", &[])),
        _ => {}
    }
    bench.persist();
    bench
}

fn answer(bench: &mut Bench) -> String {
    let id = bench.run.state().interrupts.keys().next().copied().unwrap_or(InterruptId(5));
    let by = Principal { user: "ana".to_owned(), groups: Vec::new() };
    let answers = vec![AnswerInput { id, digest: None, value: json!(1), by }];
    bench.ask(Command::Answer { run: RunId(7), answers, update: json!(null) })
}

fn timer(bench: &mut Bench, which: &str) -> String {
    let (task, token) = bench.of("a");
    bench.now = bench.now.plus(std::time::Duration::from_secs(20));
    let timer = match which {
        "run" => LiveTimer::Run(task, token),
        "idle" => LiveTimer::Idle(task, token),
        _ => LiveTimer::Durable(TimerKey::Retry(task)),
    };
    bench.feed(Event::TimerFired { timer })
}

type Act = (&'static str, fn(&mut Bench) -> String);

const EVENTS: [Act; 15] = [
    ("start", Bench::start),
    ("continue", |bench| {
        bench.ask(Command::Continue { run: RunId(8), options: RunOptions::default(), steer: Steer::default() })
    }),
    ("answer", answer),
    ("wake", |bench| bench.ask(Command::Wake { run: RunId(9) })),
    ("cancel", |bench| bench.ask(Command::Cancel { why: "no".to_owned() })),
    ("drain", |bench| bench.ask(Command::Drain)),
    ("done", |bench| bench.done("a", &[("log", json!([1]))])),
    ("broke", |bench| bench.broke("a", ErrorClass::Permanent)),
    ("call", |bench| bench.call("a", 0, EffectClass::AtMostOnce)),
    ("returned", |bench| bench.returned("a", 0)),
    ("question", |bench| bench.question("a", 1)),
    ("run timer", |bench| timer(bench, "run")),
    ("idle timer", |bench| timer(bench, "idle")),
    ("retry timer", |bench| timer(bench, "retry")),
    ("persisted", Bench::persist),
];

#[test]
fn every_standing_meets_every_event() {
    let mut matrix = String::new();
    for standing in STANDINGS {
        matrix.push_str(&format!("{standing}: {}\n", stand(standing).standing("a")));
        for (name, act) in EVENTS {
            let mut bench = stand(standing);
            let effects = act(&mut bench);
            let before = stand(standing).standing("a");
            let after = bench.standing("a");
            let moved = if before == after { String::new() } else { format!(" -> {after}") };
            if !effects.is_empty() || !moved.is_empty() {
                matrix.push_str(&format!("  {name}: {effects}{moved}\n"));
            }
        }
    }
    expect![[r#"
        none: gone, run none
          start: commit(created accepted frame+ checkpoint checkpoint) -> pending, run active
          continue: refuse(the thread has nothing to go on from)
          answer: refuse(interrupt 00000000000000000000000000000005 is not open here; nothing is open)
          wake: reply
          cancel: refuse(the thread has no active run)
          drain: refuse(the thread has no active run)
        accepted: pending, run active
          start: refuse(the thread is busy with run 00000000-0000-0000-0000-000000000001)
          continue: refuse(the thread is busy with run 00000000-0000-0000-0000-000000000001)
          answer: refuse(interrupt 00000000000000000000000000000005 is not open here; nothing is open)
          wake: reply
          cancel:  -> pending, run cancelled
          drain: reply
          persisted: reply; dispatch a; timer; timer
        at work: pending, run active
          start: refuse(the thread is busy with run 00000000-0000-0000-0000-000000000001)
          continue: refuse(the thread is busy with run 00000000-0000-0000-0000-000000000001)
          answer: refuse(interrupt 00000000000000000000000000000005 is not open here; nothing is open)
          wake: reply
          cancel: abort; commit(audited ended) -> pending, run cancelled
          drain: reply
          done: commit(finished checkpoint ended) -> gone, run success
          broke: commit(failed ended) -> failed, run failed
          call: commit(begun audited)
          question: abort; commit(asked ended) -> pending, run interrupted
          run timer: abort; timer; commit(attempt timer+)
          idle timer: abort; timer; commit(attempt timer+)
        calling: pending, run active
          start: refuse(the thread is busy with run 00000000-0000-0000-0000-000000000001)
          continue: refuse(the thread is busy with run 00000000-0000-0000-0000-000000000001)
          answer: refuse(interrupt 00000000000000000000000000000005 is not open here; nothing is open)
          wake: reply
          cancel: abort; commit(audited ended) -> pending, run cancelled
          drain: reply
          done: commit(finished checkpoint ended) -> gone, run success
          broke: commit(failed ended) -> failed, run failed
          returned: commit(audited call-ended)
          question: commit(asked)
          run timer: abort; timer; commit(attempt timer+)
          idle timer: abort; timer; commit(attempt timer+)
        asked: pending, run interrupted
          start: commit(accepted withdrawn checkpoint checkpoint) -> pending, run active
          continue: commit(accepted ended)
          answer: commit(answered audited accepted) -> pending, run active
          wake: reply
          cancel: commit(withdrawn audited ended) -> pending, run cancelled
          drain: refuse(the thread has no active run)
        asked while calling: pending, run active
          start: refuse(the thread is busy with run 00000000-0000-0000-0000-000000000001)
          continue: refuse(the thread is busy with run 00000000-0000-0000-0000-000000000001)
          answer: commit(answered audited)
          wake: reply
          cancel: abort; commit(withdrawn audited ended) -> pending, run cancelled
          drain: reply
          done: commit(ended) -> pending, run interrupted
          broke: commit(ended) -> pending, run interrupted
          returned: abort; commit(audited call-ended ended) -> pending, run interrupted
          run timer: abort; timer; commit(attempt timer+)
          idle timer: abort; timer; commit(attempt timer+)
        to be retried: pending, run active
          start: refuse(the thread is busy with run 00000000-0000-0000-0000-000000000001)
          continue: refuse(the thread is busy with run 00000000-0000-0000-0000-000000000001)
          answer: refuse(interrupt 00000000000000000000000000000005 is not open here; nothing is open)
          wake: timer; reply
          cancel: commit(timer- audited ended) -> pending, run cancelled
          drain: reply; commit(timer- ended) -> pending, run drained
          retry timer: dispatch a; timer; timer; commit(timer-)
        failed: failed, run failed
          start: commit(accepted checkpoint checkpoint) -> pending, run active
          continue: commit(accepted reset) -> pending, run active
          answer: refuse(interrupt 00000000000000000000000000000005 is not open here; nothing is open)
          wake: reply
          cancel: refuse(the thread has no active run)
          drain: refuse(the thread has no active run)
        finished: gone, run success
          start: commit(accepted checkpoint checkpoint) -> pending, run active
          continue: commit(accepted ended)
          answer: refuse(interrupt 00000000000000000000000000000005 is not open here; nothing is open)
          wake: reply
          cancel: refuse(the thread has no active run)
          drain: refuse(the thread has no active run)
    "#]]
    .assert_eq(&matrix);
}

#[test]
fn a_crash_in_any_standing_keeps_what_was_durable() {
    for standing in STANDINGS.into_iter().filter(|standing| !matches!(*standing, "none" | "accepted")) {
        let mut bench = stand(standing);
        let before = bench.run.state().clone();
        bench.crash();
        assert_eq!(&before, bench.run.state(), "{standing}");
    }
}
