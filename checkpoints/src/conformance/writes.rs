//! Pending writes: what finished tasks of the superstep under way wrote.

use std::sync::Arc;

use runtime_core::error::{ErrorClass, TaskError};
use runtime_core::ids::CallIx;
use runtime_core::record::{CallOutcome, Op};
use runtime_core::state::{TaskState, TaskStatus};
use serde_json::json;

use super::kit::{Bench, append, call_head, finished, opened, set, value_of};

fn is_finished(task: &TaskState) -> bool {
    matches!(task.status, TaskStatus::Finished { .. })
}

pub(super) async fn a_finished_task_is_pending(bench: Bench) {
    let mut writer = bench.begun("t").await;
    writer.write(vec![finished(writer.task("", "a", 0), vec![set("x", json!(1))])]).await;
    let state = bench.state("t").await;
    let tasks = &state.root().expect("there is a root").tasks;
    assert!(is_finished(&tasks[0]) && !is_finished(&tasks[1]));
    assert_eq!(value_of(&state, "", "x"), json!(null), "it counts only after the superstep");
    let checkpoint = writer.checkpoint(vec![], &[]);
    writer.write(vec![checkpoint]).await;
    assert_eq!(value_of(&bench.state("t").await, "", "x"), json!(1));
}

pub(super) async fn tasks_finish_in_any_order(bench: Bench) {
    for (id, order) in [("ab", [0, 1]), ("ba", [1, 0])] {
        let mut writer = bench.begun(id).await;
        for index in order {
            let node = ["a", "b"][index];
            writer.write(vec![finished(writer.task("", node, index), vec![append("log", json!(node))])]).await;
        }
        let checkpoint = writer.checkpoint(vec![], &[]);
        writer.write(vec![checkpoint]).await;
        assert_eq!(value_of(&bench.state(id).await, "", "log"), json!(["a", "b"]), "finished as {id}");
    }
}

pub(super) async fn several_writes_of_one_task_keep_their_order(bench: Bench) {
    let mut writer = bench.begun("t").await;
    let changes = (0..20).map(|n| append("log", json!(n))).collect();
    writer.write(vec![finished(writer.task("", "a", 0), changes)]).await;
    let checkpoint = writer.checkpoint(vec![append("log", json!("own"))], &[]);
    writer.write(vec![checkpoint]).await;
    let log = value_of(&bench.state("t").await, "", "log");
    assert_eq!(log.as_array().map(Vec::len), Some(21));
    assert_eq!((&log[0], &log[19], &log[20]), (&json!(0), &json!(19), &json!("own")));
}

pub(super) async fn a_failed_task_keeps_its_siblings(bench: Bench) {
    let mut writer = bench.begun("t").await;
    writer.write(vec![finished(writer.task("", "a", 0), vec![set("x", json!(1))])]).await;
    let error = TaskError::new(ErrorClass::Permanent, "the column is gone");
    writer.write(vec![Op::TaskFailed { task: writer.task("", "b", 1), error: error.clone() }]).await;
    let state = bench.state("t").await;
    let tasks = &state.root().expect("there is a root").tasks;
    assert!(is_finished(&tasks[0]));
    assert_eq!((&tasks[1].status, &tasks[1].error), (&TaskStatus::Failed, &Some(error)));
}

pub(super) async fn a_new_checkpoint_starts_with_none(bench: Bench) {
    let mut writer = bench.begun("t").await;
    writer.write(vec![finished(writer.task("", "a", 0), vec![set("x", json!(1))])]).await;
    let checkpoint = writer.checkpoint(vec![], &["a", "b"]);
    writer.write(vec![checkpoint]).await;
    let state = bench.state("t").await;
    assert!(state.root().expect("there is a root").tasks.iter().all(|task| !is_finished(task)));
}

pub(super) async fn calls_are_journaled_once(bench: Bench) {
    let mut writer = bench.begun("t").await;
    let (task, ix) = (writer.task("", "a", 0), CallIx(0));
    writer.write(vec![Op::CallBegun { task, ix, head: call_head("restart") }]).await;
    let begun = bench.state("t").await;
    let call = begun.task(task).and_then(|task| task.call(ix)).expect("the intent is there").clone();
    assert!(call.begun && call.outcome.is_none(), "in doubt: {call:?}");
    let outcome = CallOutcome::Ok(Arc::new(json!({"rows": 3})));
    writer.write(vec![Op::CallEnded { task, ix, head: None, outcome: outcome.clone() }]).await;
    let ended = bench.state("t").await;
    assert_eq!(ended.task(task).and_then(|task| task.call(ix)).and_then(|call| call.outcome.clone()), Some(outcome));
}

pub(super) async fn pending_writes_of_a_subgraph_are_its_own(bench: Bench) {
    let mut writer = bench.begun("t").await;
    let ops = vec![opened("sub:1"), writer.checkpoint_in("sub:1", vec![], &["a"])];
    writer.write(ops).await;
    writer.write(vec![finished(writer.task("sub:1", "a", 0), vec![set("x", json!("sub"))])]).await;
    let checkpoint = writer.checkpoint(vec![], &[]);
    writer.write(vec![checkpoint]).await;
    let state = bench.state("t").await;
    assert!(is_finished(&state.frames["sub:1"].tasks[0]));
    assert_eq!(value_of(&state, "", "x"), json!(null));
}
