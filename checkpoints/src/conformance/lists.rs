//! Lists of threads, open questions and timers: always what follows from the records.

use runtime::ports::store::{ThreadFilter, ThreadStatus};
use runtime_core::error::TaskError;
use runtime_core::ids::{InterruptId, RunId, TaskId, Timestamp};
use runtime_core::record::{Op, Outcome, TimerKey};
use serde_json::{Value, json};

use super::kit::{Bench, answer, ask, created, created_for, opened, question, thread, timer};

async fn ids(bench: &Bench, filter: ThreadFilter) -> Vec<String> {
    let rows = bench.store.threads(&filter).await.expect("threads can be listed");
    rows.into_iter().map(|row| row.id.to_string()).collect()
}

async fn labelled(bench: &Bench, id: &str, graph: &str, metadata: Value) {
    bench.writer(id).write(vec![created_for(graph, metadata)]).await;
}

fn all() -> ThreadFilter {
    ThreadFilter { limit: 100, ..ThreadFilter::default() }
}

async fn open_questions(bench: &Bench, id: Option<&str>) -> Vec<(String, u128)> {
    let id = id.map(thread);
    let rows = bench.store.interrupts(id.as_ref(), 100).await.expect("questions can be listed");
    rows.into_iter().map(|row| (row.thread.to_string(), row.interrupt.id.0)).collect()
}

async fn due(bench: &Bench, until: i64, limit: usize) -> Vec<(String, i64)> {
    let rows = bench.store.timers(Timestamp(until), limit).await.expect("timers can be listed");
    rows.into_iter().map(|row| (row.thread.to_string(), row.at.0)).collect()
}

pub(super) async fn threads_come_by_id(bench: Bench) {
    for id in ["m", "a", "z", "b"] {
        bench.begun(id).await;
    }
    assert_eq!(ids(&bench, all()).await, ["a", "b", "m", "z"]);
}

pub(super) async fn threads_come_in_pages(bench: Bench) {
    for n in 0..7 {
        labelled(&bench, &format!("t{n}"), "etl", json!({})).await;
    }
    let mut after = None;
    let mut seen = Vec::new();
    loop {
        let page = ids(&bench, ThreadFilter { after: after.clone(), limit: 3, ..ThreadFilter::default() }).await;
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 3);
        after = Some(thread(last));
        seen.extend(page);
    }
    assert_eq!(seen, ["t0", "t1", "t2", "t3", "t4", "t5", "t6"]);
}

pub(super) async fn threads_of_a_graph(bench: Bench) {
    labelled(&bench, "a", "etl", json!({})).await;
    labelled(&bench, "b", "report", json!({})).await;
    let of = |graph: &str| ThreadFilter { graph: Some(graph.to_owned()), ..all() };
    assert_eq!(ids(&bench, of("report")).await, ["b"]);
    assert!(ids(&bench, of("other")).await.is_empty());
}

pub(super) async fn threads_by_status(bench: Bench) {
    let ends = [
        ("busy", None),
        ("done", Some(Outcome::Success)),
        ("failed", Some(Outcome::Failed(TaskError::bug("x")))),
        ("asked", Some(Outcome::Interrupted)),
        ("waits", Some(Outcome::Waiting)),
    ];
    for (id, outcome) in ends {
        let mut writer = bench.begun(id).await;
        if let Some(outcome) = outcome {
            writer.end_run(outcome).await;
        }
    }
    let expected = [
        (ThreadStatus::Busy, "busy"),
        (ThreadStatus::Idle, "done"),
        (ThreadStatus::Error, "failed"),
        (ThreadStatus::Interrupted, "asked"),
        (ThreadStatus::Waiting, "waits"),
    ];
    for (status, id) in expected {
        assert_eq!(ids(&bench, ThreadFilter { status: Some(status), ..all() }).await, [id]);
    }
}

pub(super) async fn threads_by_metadata(bench: Bench) {
    labelled(&bench, "a", "etl", json!({"team": "data", "tier": 1})).await;
    labelled(&bench, "b", "etl", json!({"team": "data", "tier": 2})).await;
    labelled(&bench, "c", "etl", json!({"team": "web", "tier": {"n": 1}})).await;
    let with = |pairs: Vec<(&str, Value)>| ThreadFilter {
        metadata: pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        ..all()
    };
    assert_eq!(ids(&bench, with(vec![("team", json!("data"))])).await, ["a", "b"]);
    assert_eq!(ids(&bench, with(vec![("team", json!("data")), ("tier", json!(2))])).await, ["b"]);
    assert_eq!(ids(&bench, with(vec![("tier", json!({"n": 1}))])).await, ["c"]);
    assert!(ids(&bench, with(vec![("tier", json!("1"))])).await.is_empty(), "a number is no text");
    assert!(ids(&bench, with(vec![("' or 1=1 --", json!(1))])).await.is_empty(), "a key is a key");
    assert_eq!(ids(&bench, with(vec![])).await.len(), 3);
}

pub(super) async fn filters_apply_together(bench: Bench) {
    for n in 0..6 {
        let graph = if n % 2 == 0 { "etl" } else { "report" };
        labelled(&bench, &format!("t{n}"), graph, json!({"tier": n / 3})).await;
    }
    let filter = ThreadFilter {
        graph: Some("etl".to_owned()),
        status: Some(ThreadStatus::Idle),
        metadata: vec![("tier".to_owned(), json!(0))],
        after: Some(thread("t0")),
        limit: 1,
    };
    assert_eq!(ids(&bench, filter).await, ["t2"]);
}

pub(super) async fn an_open_question_is_listed_until_decided(bench: Bench) {
    let mut one = bench.begun("one").await;
    let mut two = bench.begun("two").await;
    one.write(vec![ask(9, 10), ask(3, 20)]).await;
    two.write(vec![ask(5, 5)]).await;
    let both = [("one".to_owned(), 9), ("one".to_owned(), 3), ("two".to_owned(), 5)];
    assert_eq!(open_questions(&bench, None).await, both, "by thread, then by opening");
    assert_eq!(open_questions(&bench, Some("two")).await, both[2..]);
    one.write(vec![Op::Answered { id: InterruptId(9), answer: answer("ada"), decides: true }]).await;
    assert_eq!(open_questions(&bench, None).await, both[1..]);
    assert_eq!(bench.findings().await, [""; 0]);
}

pub(super) async fn votes_stay_with_the_question(bench: Bench) {
    let mut writer = bench.begun("t").await;
    writer.write(vec![ask(1, 10)]).await;
    writer.write(vec![Op::Answered { id: InterruptId(1), answer: answer("ada"), decides: false }]).await;
    let rows = bench.store.interrupts(None, 10).await.expect("questions can be listed");
    assert_eq!(rows[0].interrupt.votes, [answer("ada")]);
    assert_eq!(bench.findings().await, [""; 0]);
}

pub(super) async fn withdrawn_and_expired_questions_close(bench: Bench) {
    let mut writer = bench.begun("t").await;
    writer.write(vec![ask(1, 1), ask(2, 2), ask(3, 3)]).await;
    writer.write(vec![Op::Withdrawn { id: InterruptId(1), why: "new input".to_owned() }]).await;
    writer.write(vec![Op::Expired { id: InterruptId(2) }]).await;
    assert_eq!(open_questions(&bench, None).await, [("t".to_owned(), 3)]);
    assert!(bench.store.interrupt(InterruptId(1)).await.expect("no error").is_none());
}

pub(super) async fn a_question_is_found_by_id(bench: Bench) {
    let mut writer = bench.begun("t").await;
    writer.write(vec![ask(7, 1)]).await;
    let row = bench.store.interrupt(InterruptId(7)).await.expect("no error").expect("it is open");
    assert_eq!((row.thread, row.interrupt), (thread("t"), question(7, 1, TaskId(7))));
    assert!(bench.store.interrupt(InterruptId(8)).await.expect("no error").is_none());
}

pub(super) async fn questions_of_a_closed_frame_close(bench: Bench) {
    let mut writer = bench.begun("t").await;
    let mut inner = question(1, 1, TaskId(7));
    inner.ns = "sub:1".into();
    writer.write(vec![opened("sub:1"), Op::InterruptOpened(Box::new(inner)), ask(2, 2)]).await;
    assert_eq!(open_questions(&bench, None).await.len(), 2);
    writer.write(vec![Op::FrameClosed { ns: "sub:1".into() }]).await;
    assert_eq!(open_questions(&bench, None).await, [("t".to_owned(), 2)]);
    assert_eq!(bench.findings().await, [""; 0]);
}

pub(super) async fn timers_come_by_time(bench: Bench) {
    let mut one = bench.begun("one").await;
    let mut two = bench.begun("two").await;
    one.write(vec![timer(1, 300), timer(2, 100)]).await;
    two.write(vec![timer(1, 200), timer(2, -5)]).await;
    let all = [("two", -5), ("one", 100), ("two", 200), ("one", 300)].map(|(id, at)| (id.to_owned(), at));
    assert_eq!(due(&bench, i64::MAX, 100).await, all);
    assert_eq!(due(&bench, 200, 100).await, all[..3], "due at the moment itself");
    assert_eq!(due(&bench, 199, 100).await, all[..2]);
    assert_eq!(due(&bench, i64::MAX, 1).await, all[..1]);
}

pub(super) async fn a_timer_moves_and_clears(bench: Bench) {
    let mut writer = bench.writer("t");
    writer.write(vec![created(json!({})), timer(1, 100), timer(2, 200)]).await;
    writer.write(vec![timer(1, 300)]).await;
    assert_eq!(due(&bench, i64::MAX, 9).await, [("t".to_owned(), 200), ("t".to_owned(), 300)]);
    writer.write(vec![Op::TimerCleared { key: TimerKey::Wait(TaskId(2)) }]).await;
    assert_eq!(due(&bench, i64::MAX, 9).await, [("t".to_owned(), 300)]);
    writer.run = Some(RunId(1));
    writer.write(vec![Op::TimerCleared { key: TimerKey::Wait(TaskId(9)) }]).await;
    assert_eq!(bench.findings().await, [""; 0]);
}
