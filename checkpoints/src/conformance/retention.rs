//! Deleting, copying, pruning.

use runtime::ports::store::{Prune, StoreError, ThreadFilter};
use runtime_core::ids::{Epoch, InterruptId, RunId, Seq, Timestamp};
use runtime_core::record::{Op, Outcome};
use runtime_core::state::ThreadState;
use serde_json::{Value, json};

use super::kit::{
    Bench, Writer, append, ask, audited, finished, is_fenced, opened, set, snapshot, thread, timer, value_of,
};

/// A thread that took three runs, each adding its number to `log`.
async fn three_runs(bench: &Bench, id: &str) -> Writer {
    let mut writer = bench.begun(id).await;
    for run in 1..=3 {
        if run > 1 {
            let ops = writer.start_run(run);
            writer.write(ops).await;
        }
        let checkpoint = writer.checkpoint(vec![append("log", json!(run))], &["a", "b"]);
        writer.write(vec![checkpoint]).await;
        writer.write(vec![finished(writer.task("", "a", 0), vec![append("log", json!(run * 10))])]).await;
        writer.end_run(Outcome::Success).await;
    }
    writer
}

async fn log(bench: &Bench, id: &str) -> Value {
    value_of(&bench.state(id).await, "", "log")
}

async fn runs_in_history(bench: &Bench, id: &str) -> Vec<u128> {
    let mut runs: Vec<u128> = bench.records(id).await.iter().filter_map(|(_, r)| r.run.map(|run| run.0)).collect();
    runs.dedup();
    runs
}

async fn delete_runs(bench: &Bench, id: &str, runs: &[u128]) {
    let runs: Vec<RunId> = runs.iter().map(|run| RunId(*run)).collect();
    bench.store.delete_runs(&thread(id), &runs).await.expect("runs can be deleted");
    assert_eq!(bench.findings().await, [""; 0]);
}

pub(super) async fn a_deleted_thread_is_gone(bench: Bench) {
    let mut writer = three_runs(&bench, "t").await;
    writer.write(vec![ask(1, 1), timer(1, 1), opened("sub:1")]).await;
    bench.store.delete_thread(&thread("t")).await.expect("it is deleted");
    assert!(bench.is_absent("t").await);
    assert!(bench.records("t").await.is_empty());
    assert!(bench.store.threads(&ThreadFilter::default()).await.expect("no error").is_empty());
    assert!(bench.store.interrupts(None, 9).await.expect("no error").is_empty());
    assert!(bench.store.interrupt(InterruptId(1)).await.expect("no error").is_none());
    assert!(bench.store.timers(Timestamp(i64::MAX), 9).await.expect("no error").is_empty());
    assert_eq!(bench.findings().await, [""; 0]);
}

pub(super) async fn deleting_keeps_other_threads(bench: Bench) {
    for id in ["t", "t2", "s"] {
        three_runs(&bench, id).await.write(vec![ask(1, 1), timer(1, 1)]).await;
    }
    bench.store.delete_thread(&thread("t")).await.expect("it is deleted");
    for id in ["t2", "s"] {
        assert_eq!(log(&bench, id).await, json!([1, 10, 2, 20, 3]), "{id}");
    }
    assert_eq!(bench.store.interrupts(None, 9).await.expect("no error").len(), 2);
    assert_eq!(bench.store.timers(Timestamp(9), 9).await.expect("no error").len(), 2);
}

pub(super) async fn deleting_nothing_is_no_error(bench: Bench) {
    bench.store.delete_thread(&thread("t")).await.expect("no error");
    bench.store.delete_runs(&thread("t"), &[RunId(1)]).await.expect("no error");
}

pub(super) async fn a_deleted_thread_may_begin_again(bench: Bench) {
    let mut old = three_runs(&bench, "t").await;
    bench.store.delete_thread(&thread("t")).await.expect("it is deleted");
    assert!(is_fenced(&old.try_write(vec![]).await), "its owner does not know");
    bench.begun("t").await;
    let loaded = bench.loaded("t").await;
    assert_eq!((loaded.seq, loaded.epoch), (Seq(1), Epoch(1)));
}

pub(super) async fn the_audit_chain_outlives_its_thread(bench: Bench) {
    let mut writer = bench.begun("t").await;
    writer.write(vec![audited("call.permitted")]).await;
    bench.store.delete_thread(&thread("t")).await.expect("it is deleted");
    let chain = bench.store.audit(1, 9).await.expect("no error");
    assert_eq!(chain.len(), 1);
    assert_eq!(bench.findings().await, [""; 0]);
}

pub(super) async fn deleting_one_run_keeps_the_rest(bench: Bench) {
    three_runs(&bench, "t").await;
    let before = bench.state("t").await;
    delete_runs(&bench, "t", &[2]).await;
    assert_eq!(runs_in_history(&bench, "t").await, [1, 3]);
    assert_eq!(bench.state("t").await, before, "what came after stays as it was");
}

pub(super) async fn deleting_many_runs(bench: Bench) {
    three_runs(&bench, "t").await;
    let before = bench.state("t").await;
    delete_runs(&bench, "t", &[1, 2]).await;
    assert_eq!(runs_in_history(&bench, "t").await, [3]);
    assert_eq!(bench.state("t").await, before);
}

pub(super) async fn deleting_the_newest_run_goes_back(bench: Bench) {
    let mut writer = three_runs(&bench, "t").await;
    let ops = writer.start_run(4);
    writer.write(ops).await;
    let before = bench.state("t").await;
    writer.write(vec![ask(1, 1), timer(1, 1)]).await;
    delete_runs(&bench, "t", &[3, 4]).await;
    assert_eq!(runs_in_history(&bench, "t").await, [1, 2]);
    let state = bench.state("t").await;
    assert_eq!(value_of(&state, "", "log"), json!([1, 10, 2]), "as the second run left it");
    assert_eq!(state.run.map(|run| run.id), Some(RunId(2)));
    assert_ne!(before.run.map(|run| run.id), Some(RunId(2)));
    assert!(bench.store.interrupts(None, 9).await.expect("no error").is_empty());
    assert!(is_fenced(&writer.try_write(vec![]).await), "its owner knows another state");
}

pub(super) async fn deleting_every_run_leaves_an_empty_thread(bench: Bench) {
    three_runs(&bench, "t").await;
    delete_runs(&bench, "t", &[1, 2, 3]).await;
    let state = bench.state("t").await;
    assert_eq!((state.run, state.frames.len()), (None, 0));
    assert_eq!(state.metadata, json!({"team": "data"}));
    assert_eq!(bench.store.threads(&ThreadFilter::default()).await.expect("no error").len(), 1);
}

pub(super) async fn deleting_no_or_unknown_runs_changes_nothing(bench: Bench) {
    three_runs(&bench, "t").await;
    let before = bench.records("t").await;
    delete_runs(&bench, "t", &[]).await;
    delete_runs(&bench, "t", &[77]).await;
    assert_eq!(bench.records("t").await, before);
}

pub(super) async fn deleting_runs_keeps_other_threads(bench: Bench) {
    three_runs(&bench, "t").await;
    three_runs(&bench, "t2").await;
    let before = bench.records("t2").await;
    delete_runs(&bench, "t", &[1, 2, 3]).await;
    assert_eq!(bench.records("t2").await, before);
}

pub(super) async fn a_copy_has_the_whole_history(bench: Bench) {
    let mut writer = three_runs(&bench, "t").await;
    writer.write(vec![opened("sub:1"), snapshot(&bench, "t").await]).await;
    bench.store.copy_thread(&thread("t"), &thread("copy")).await.expect("it is copied");
    assert_eq!(bench.records("copy").await, bench.records("t").await);
    assert_eq!(bench.state("copy").await, bench.state("t").await);
    let records: Vec<_> = bench.records("copy").await.into_iter().map(|(_, record)| record).collect();
    assert_eq!(ThreadState::replay(&records), bench.state("copy").await);
    assert_eq!(bench.findings().await, [""; 0]);
}

pub(super) async fn a_copy_leaves_its_source_alone(bench: Bench) {
    let mut writer = three_runs(&bench, "t").await;
    bench.store.copy_thread(&thread("t"), &thread("copy")).await.expect("it is copied");
    let checkpoint = writer.checkpoint(vec![set("x", json!(1))], &[]);
    writer.write(vec![checkpoint]).await;
    assert_eq!(value_of(&bench.state("copy").await, "", "x"), json!(null));
    bench.store.delete_thread(&thread("copy")).await.expect("it is deleted");
    assert_eq!(log(&bench, "t").await, json!([1, 10, 2, 20, 3, 30]));
}

pub(super) async fn a_copy_has_metadata_questions_and_timers(bench: Bench) {
    let mut writer = bench.begun("t").await;
    writer.write(vec![ask(1, 1), timer(1, 5)]).await;
    bench.store.copy_thread(&thread("t"), &thread("copy")).await.expect("it is copied");
    let rows = bench.store.threads(&ThreadFilter::default()).await.expect("no error");
    assert_eq!(rows.iter().map(|row| row.id.to_string()).collect::<Vec<_>>(), ["copy", "t"]);
    assert_eq!(rows[0].metadata, rows[1].metadata);
    assert_eq!(bench.store.interrupts(Some(&thread("copy")), 9).await.expect("no error").len(), 1);
    assert_eq!(bench.store.timers(Timestamp(9), 9).await.expect("no error").len(), 2);
}

pub(super) async fn a_copy_needs_a_source_and_a_free_target(bench: Bench) {
    three_runs(&bench, "t").await;
    bench.begun("taken").await;
    let missing = bench.store.copy_thread(&thread("nobody"), &thread("copy")).await;
    assert!(matches!(missing, Err(StoreError::Missing(_))), "{missing:?}");
    assert!(bench.is_absent("copy").await);
    let taken = bench.store.copy_thread(&thread("t"), &thread("taken")).await;
    assert!(taken.is_err(), "a thread is not written over");
    assert_eq!(log(&bench, "taken").await, json!(null));
}

async fn prune(bench: &Bench, id: &str) {
    bench.store.prune(&thread(id), Prune::KeepLatest).await.expect("it can be pruned");
    assert_eq!(bench.findings().await, [""; 0]);
}

pub(super) async fn pruning_keeps_the_newest_state(bench: Bench) {
    let mut writer = three_runs(&bench, "t").await;
    let ops = vec![opened("sub:1"), writer.checkpoint_in("sub:1", vec![set("x", json!(1))], &[])];
    writer.write(ops).await;
    let before = bench.loaded("t").await;
    let size = bench.store.size().await.expect("no error").logical;
    prune(&bench, "t").await;
    let after = bench.loaded("t").await;
    assert_eq!((after.state, after.seq, after.epoch), (before.state, before.seq, before.epoch));
    assert_eq!(bench.records("t").await.len(), 1);
    assert!(bench.store.size().await.expect("no error").logical < size);
    prune(&bench, "t").await;
}

pub(super) async fn pruning_keeps_pending_writes(bench: Bench) {
    let mut writer = bench.begun("t").await;
    writer.write(vec![finished(writer.task("", "a", 0), vec![set("x", json!(1))])]).await;
    prune(&bench, "t").await;
    let checkpoint = writer.checkpoint(vec![], &[]);
    writer.write(vec![checkpoint]).await;
    assert_eq!(value_of(&bench.state("t").await, "", "x"), json!(1));
}

pub(super) async fn pruning_one_keeps_the_others(bench: Bench) {
    three_runs(&bench, "t").await;
    three_runs(&bench, "t2").await;
    let before = bench.records("t2").await;
    prune(&bench, "t").await;
    assert_eq!(bench.records("t2").await, before);
}

pub(super) async fn a_pruned_thread_goes_on(bench: Bench) {
    let mut writer = three_runs(&bench, "t").await;
    prune(&bench, "t").await;
    let checkpoint = writer.checkpoint(vec![append("log", json!("more"))], &[]);
    writer.write(vec![checkpoint]).await;
    assert_eq!(log(&bench, "t").await, json!([1, 10, 2, 20, 3, 30, "more"]));
    assert_eq!(bench.records("t").await.len(), 2);
    assert_eq!(bench.findings().await, [""; 0]);
}

pub(super) async fn pruning_may_delete(bench: Bench) {
    three_runs(&bench, "t").await;
    bench.store.prune(&thread("t"), Prune::Delete).await.expect("no error");
    assert!(bench.is_absent("t").await);
}

pub(super) async fn pruning_a_missing_thread_is_no_error(bench: Bench) {
    prune(&bench, "nobody").await;
    let writer = bench.begun("t").await;
    assert_eq!(writer.seq, Seq(1));
    assert!(bench.records("t").await.iter().all(|(_, r)| !r.ops.iter().any(|op| matches!(op, Op::Snapshot(_)))));
}
