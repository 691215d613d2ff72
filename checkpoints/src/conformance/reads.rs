//! Reading a thread, its history, and things by name.

use runtime_core::ids::{Epoch, Seq, Timestamp};
use runtime_core::state::ThreadState;
use serde_json::json;

use super::kit::{Bench, append, digest, set, snapshot, thread, value_of};

pub(super) async fn a_missing_thread_is_none(bench: Bench) {
    assert!(bench.is_absent("nobody").await);
    assert!(bench.records("nobody").await.is_empty());
}

pub(super) async fn the_newest_state_is_loaded(bench: Bench) {
    let mut writer = bench.begun("t").await;
    for n in 0..10 {
        let checkpoint = writer.checkpoint(vec![set("n", json!(n))], &[]);
        writer.write(vec![checkpoint]).await;
    }
    let loaded = bench.loaded("t").await;
    assert_eq!((loaded.seq, loaded.epoch), (Seq(11), Epoch(1)));
    assert_eq!(value_of(&loaded.state, "", "n"), json!(9));
}

pub(super) async fn history_folds_to_any_place(bench: Bench) {
    let mut writer = bench.begun("t").await;
    for n in 0..10 {
        let mut ops = vec![writer.checkpoint(vec![append("log", json!(n))], &[])];
        if n == 4 {
            ops.push(snapshot(&bench, "t").await);
        }
        writer.write(ops).await;
    }
    let records = bench.records("t").await;
    assert_eq!(records.len(), 11);
    let mut state = ThreadState::default();
    for (seq, record) in &records {
        state.apply_record(record);
        let log = value_of(&state, "", "log");
        // The snapshot of record 6 was taken before that record's own change.
        let expected = if seq.0 < 6 { seq.0 - 1 } else { seq.0 - 2 };
        assert_eq!(log.as_array().map_or(0, Vec::len) as u64, expected, "after record {seq}");
    }
    assert_eq!(state, bench.state("t").await);
}

pub(super) async fn a_snapshot_replaces_what_is_before_it(bench: Bench) {
    let mut writer = bench.begun("t").await;
    for n in 0..5 {
        let checkpoint = writer.checkpoint(vec![append("log", json!(n))], &["a"]);
        writer.write(vec![checkpoint]).await;
    }
    let before = bench.state("t").await;
    let op = snapshot(&bench, "t").await;
    writer.write(vec![op]).await;
    assert_eq!(bench.state("t").await, before);
}

pub(super) async fn sizes_since_the_snapshot_are_told(bench: Bench) {
    let mut writer = bench.begun("t").await;
    let first = bench.loaded("t").await;
    assert_eq!(first.snapshot, 0);
    assert!(first.since_snapshot > 50, "{first:?}");
    let op = snapshot(&bench, "t").await;
    writer.write(vec![op]).await;
    let second = bench.loaded("t").await;
    assert_eq!(second.since_snapshot, 0);
    assert!(second.snapshot > 50, "{second:?}");
    let checkpoint = writer.checkpoint(vec![set("x", json!("y".repeat(1000)))], &[]);
    writer.write(vec![checkpoint]).await;
    let third = bench.loaded("t").await;
    assert_eq!(third.snapshot, second.snapshot);
    assert!(third.since_snapshot > 1000 && third.since_snapshot < 1300, "{}", third.since_snapshot);
}

pub(super) async fn records_come_in_pages(bench: Bench) {
    let mut writer = bench.begun("t").await;
    for _ in 0..9 {
        writer.write(vec![]).await;
    }
    let page = |from, limit| {
        let store = bench.store.clone();
        async move {
            let records = store.records(&thread("t"), Seq(from), limit).await.expect("the records are readable");
            records.into_iter().map(|(seq, _)| seq.0).collect::<Vec<_>>()
        }
    };
    assert_eq!(page(1, 3).await, [1, 2, 3]);
    assert_eq!(page(8, 100).await, [8, 9, 10]);
    assert_eq!(page(0, 1).await, [1]);
    assert!(page(11, 5).await.is_empty());
}

pub(super) async fn a_graph_is_kept_by_digest(bench: Bench) {
    let (known, unknown) = (digest("abc"), digest("abd"));
    bench.store.put_graph(&known, "etl", "nodes: {}\n").await.expect("it is kept");
    bench.store.put_graph(&known, "etl", "nodes: {}\n").await.expect("keeping it again is no error");
    let kept = bench.store.graph(&known).await.expect("it is readable");
    assert_eq!(kept, Some(("etl".to_owned(), "nodes: {}\n".to_owned())));
    assert_eq!(bench.store.graph(&unknown).await.expect("no error"), None);
}

pub(super) async fn a_cached_value_expires(bench: Bench) {
    let get = |key: &'static str, now| {
        let store = bench.store.clone();
        async move { store.cache_get(key, Timestamp(now)).await.expect("the cache is readable").map(|v| (*v).clone()) }
    };
    bench.store.cache_put("k", &json!({"v": 1}), Some(Timestamp(100))).await.expect("it is cached");
    bench.store.cache_put("forever", &json!(2), None).await.expect("it is cached");
    assert_eq!(get("k", 99).await, Some(json!({"v": 1})));
    assert_eq!(get("k", 100).await, None);
    assert_eq!(get("k", 99).await, None, "what has expired is gone");
    assert_eq!(get("forever", i64::MAX).await, Some(json!(2)));
    assert_eq!(get("other", 0).await, None);
    bench.store.cache_put("k", &json!(3), None).await.expect("it is cached again");
    assert_eq!(get("k", 100).await, Some(json!(3)));
}

pub(super) async fn documents_are_swapped_by_comparison(bench: Bench) {
    let store = &bench.store;
    let (one, two) = (json!({"n": 1}), json!({"n": 2}));
    assert!(store.swap_document("breaker", None, &one).await.expect("no error"));
    assert!(!store.swap_document("breaker", None, &two).await.expect("no error"), "it exists now");
    assert!(!store.swap_document("breaker", Some(&two), &two).await.expect("no error"), "it is another one");
    assert_eq!(store.document("breaker").await.expect("no error"), Some(one.clone()));
    assert!(store.swap_document("breaker", Some(&one), &two).await.expect("no error"));
    assert_eq!(store.document("breaker").await.expect("no error"), Some(two));
    assert_eq!(store.document("other").await.expect("no error"), None);
}
