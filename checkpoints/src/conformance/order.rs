//! Order, growth, and what is there after a reopening.

use std::sync::Arc;

use runtime::ports::store::{StoreError, ThreadFilter};
use runtime_core::record::Op;
use serde_json::json;

use super::kit::{Bench, Writer, append, ask, audited, snapshot, thread, timer, value_of};

pub(super) async fn writes_of_a_thread_keep_their_order(bench: Bench) {
    let mut writer = bench.begun("t").await;
    for n in 0..300 {
        let checkpoint = writer.checkpoint(vec![append("log", json!(n))], &[]);
        writer.write(vec![checkpoint]).await;
    }
    let records = bench.records("t").await;
    assert!(records.iter().enumerate().all(|(n, (seq, _))| seq.0 == n as u64 + 1));
    assert_eq!(value_of(&bench.state("t").await, "", "log"), json!((0..300).collect::<Vec<_>>()));
}

/// The same rule as the engine's: a snapshot when the bytes since the last one exceed its size.
async fn logical_bytes_after(bench: &Bench, id: &str, n_steps: u64) -> u64 {
    let before = bench.store.size().await.expect("no error").logical;
    let mut writer = bench.begun(id).await;
    for n in 0..n_steps {
        let text = format!("{:0>500}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut ops = vec![writer.checkpoint(vec![append("log", json!(text))], &[])];
        let loaded = bench.loaded(id).await;
        if loaded.since_snapshot > loaded.snapshot.max(4_000) {
            ops.insert(0, snapshot(bench, id).await);
        }
        writer.write(ops).await;
    }
    bench.store.size().await.expect("no error").logical - before
}

pub(super) async fn growth_follows_change(bench: Bench) {
    let short = logical_bytes_after(&bench, "short", 40).await;
    let long = logical_bytes_after(&bench, "long", 160).await;
    let factor = long as f64 / short as f64;
    // Snapshots come in steps; growth with the square would be 16 times.
    assert!(factor < 7.0, "4 times the steps took {factor:.1} times the bytes");
}

pub(super) async fn many_threads_write_at_once(bench: Bench) {
    let bench = Arc::new(bench);
    let mut tasks = Vec::new();
    for n in 0..50 {
        let bench = bench.clone();
        tasks.push(tokio::spawn(async move {
            let mut writer = bench.begun(&format!("t{n:02}")).await;
            for step in 0..10 {
                let checkpoint = writer.checkpoint(vec![append("log", json!(step))], &[]);
                writer.write(vec![checkpoint, audited("step")]).await;
            }
        }));
    }
    for task in tasks {
        task.await.expect("every writer is accepted");
    }
    let rows = bench.store.threads(&ThreadFilter::default()).await.expect("no error");
    assert_eq!(rows.len(), 50);
    for row in rows {
        let state = bench.state(row.id.as_str()).await;
        assert_eq!(value_of(&state, "", "log"), json!((0..10).collect::<Vec<_>>()), "{}", row.id);
    }
    assert_eq!(bench.findings().await, [""; 0]);
}

pub(super) async fn the_check_finds_nothing(bench: Bench) {
    assert_eq!(bench.findings().await, [""; 0], "in an empty store");
    busy_store(&bench).await;
    assert_eq!(bench.findings().await, [""; 0]);
}

async fn busy_store(bench: &Bench) -> Writer {
    let mut writer = bench.begun("t").await;
    writer.write(vec![ask(1, 1), timer(1, 5), audited("asked"), Op::Tagged { metadata: json!({"k": 1}) }]).await;
    let text: String = (0..40_000_u64).map(|n| format!("{:x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
    let checkpoint = writer.checkpoint(vec![append("log", json!(text))], &["a"]);
    writer.write(vec![checkpoint]).await;
    bench.begun("u").await;
    writer
}

pub(super) async fn everything_is_there_after_a_reopening(bench: Bench) {
    busy_store(&bench).await;
    let (records, state) = (bench.records("t").await, bench.state("t").await);
    let rows = bench.store.threads(&ThreadFilter::default()).await.expect("no error");
    bench.store.close().await.expect("it closes");
    let again = Bench::new(bench.place.clone()).expect("it opens again");
    assert_eq!(again.records("t").await, records);
    assert_eq!(again.state("t").await, state);
    assert_eq!(again.store.threads(&ThreadFilter::default()).await.expect("no error"), rows);
    assert_eq!(again.store.interrupts(None, 9).await.expect("no error").len(), 1);
    assert_eq!(again.store.audit(1, 9).await.expect("no error").len(), 1);
    assert_eq!(again.findings().await, [""; 0]);
}

pub(super) async fn acknowledged_commits_survive_without_a_close(bench: Bench) {
    let mut writer = busy_store(&bench).await;
    writer.write(vec![]).await;
    let records = bench.records("t").await;
    let Bench { place, store } = bench;
    drop((writer, store));
    let again = Bench::new(place).expect("it opens again");
    assert_eq!(again.records("t").await, records);
}

pub(super) async fn a_closed_store_refuses(bench: Bench) {
    let mut writer = bench.begun("t").await;
    bench.store.close().await.expect("it closes");
    let refused = writer.try_write(vec![]).await;
    assert!(matches!(refused, Err(StoreError::Closed(_))), "{refused:?}");
    assert!(matches!(bench.store.load(&thread("t")).await, Err(StoreError::Closed(_))));
    bench.store.close().await.expect("closing again is no error");
}

pub(super) async fn the_second_opening_is_told_who_holds_it(bench: Bench) {
    let second = bench.place.open().map(|_| ());
    let Err(StoreError::Held { holder, .. }) = second else { panic!("it opened twice: {second:?}") };
    assert!(holder.contains(&std::process::id().to_string()), "{holder}");
    bench.begun("t").await;
}
