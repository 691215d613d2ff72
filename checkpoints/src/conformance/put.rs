//! What is put comes back.

use std::sync::Arc;

use runtime::ports::store::StoreError;
use runtime_core::channels::ChangeOp;
use runtime_core::ids::{CheckpointId, RunId, Seq};
use runtime_core::record::Op;
use serde_json::json;

use super::kit::{Bench, append, change, created, opened, set, thread, value_of};

pub(super) async fn a_record_comes_back_as_written(bench: Bench) {
    let mut writer = bench.writer("t");
    let ops = vec![
        created(
            json!({"text": "é🛰", "int": i64::MIN, "big": u64::MAX, "float": 0.1, "none": null, "deep": [{"a": [[]]}]}),
        ),
        opened(""),
        writer.checkpoint(vec![set("c", json!({"k": ["v", -0.0, true]}))], &["a", "b"]),
    ];
    writer.write(ops.clone()).await;
    let records = bench.records("t").await;
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].0, Seq(1));
    assert_eq!(records[0].1.ops, ops);
}

pub(super) async fn every_kind_of_change_folds(bench: Bench) {
    let mut writer = bench.begun("t").await;
    let value = |v| Arc::new(v);
    let changes = vec![
        change("list", ChangeOp::Append(vec![json!(1), json!(2)])),
        change("rows", ChangeOp::Union("id".into(), vec![json!({"id": 1, "v": 1})])),
        change("object", ChangeOp::Deep(value(json!({"a": {"b": 1}})))),
        change("sum", ChangeOp::Add(3.into())),
        change("low", ChangeOp::Min(value(json!(2)))),
        change("high", ChangeOp::Max(value(json!(5)))),
        change("chat", ChangeOp::Messages(vec![json!({"id": "m", "content": "hello"})])),
        change("last", ChangeOp::Overwrite(value(json!("x")))),
        change("flash", ChangeOp::Flash(value(json!("now")))),
    ];
    let checkpoint = writer.checkpoint(changes, &[]);
    writer.write(vec![checkpoint]).await;
    let state = bench.state("t").await;
    let got = |channel| value_of(&state, "", channel);
    assert_eq!(got("list"), json!([1, 2]));
    assert_eq!(got("rows"), json!([{"id": 1, "v": 1}]));
    assert_eq!(got("object"), json!({"a": {"b": 1}}));
    assert_eq!((got("sum"), got("low"), got("high")), (json!(3), json!(2), json!(5)));
    assert_eq!(got("chat"), json!([{"id": "m", "content": "hello"}]));
    assert_eq!((got("last"), got("flash")), (json!("x"), json!("now")));
}

pub(super) async fn threads_are_apart(bench: Bench) {
    let mut one = bench.begun("one").await;
    let mut two = bench.begun("two").await;
    let (a, b) = (one.checkpoint(vec![set("x", json!(1))], &[]), two.checkpoint(vec![set("x", json!(2))], &[]));
    one.write(vec![a]).await;
    two.write(vec![b]).await;
    assert_eq!(value_of(&bench.state("one").await, "", "x"), json!(1));
    assert_eq!(value_of(&bench.state("two").await, "", "x"), json!(2));
}

pub(super) async fn namespaces_are_apart(bench: Bench) {
    let mut writer = bench.begun("t").await;
    let ops = vec![
        opened("sub:1"),
        opened("sub:1|inner:2"),
        writer.checkpoint_in("sub:1", vec![set("x", json!("sub"))], &[]),
        writer.checkpoint_in("sub:1|inner:2", vec![set("x", json!("inner"))], &[]),
        writer.checkpoint(vec![set("x", json!("root"))], &[]),
    ];
    writer.write(ops).await;
    let state = bench.state("t").await;
    let got = ["", "sub:1", "sub:1|inner:2"].map(|ns| value_of(&state, ns, "x"));
    assert_eq!(got, [json!("root"), json!("sub"), json!("inner")]);
}

pub(super) async fn checkpoints_know_their_parent(bench: Bench) {
    let mut writer = bench.begun("t").await;
    let checkpoint = writer.checkpoint(vec![], &["a"]);
    writer.write(vec![checkpoint]).await;
    let state = bench.state("t").await;
    let root = state.root().expect("there is a root");
    assert_eq!((root.checkpoint, root.parent), (CheckpointId(2), Some(CheckpointId(1))));
}

pub(super) async fn an_unchanged_channel_stays(bench: Bench) {
    let mut writer = bench.begun("t").await;
    for n in 0..5 {
        let checkpoint = writer.checkpoint(vec![append("log", json!(n))], &[]);
        writer.write(vec![checkpoint]).await;
    }
    let state = bench.state("t").await;
    assert_eq!(value_of(&state, "", "topic"), json!("flights"));
    assert_eq!(value_of(&state, "", "log"), json!([0, 1, 2, 3, 4]));
}

pub(super) async fn a_new_channel_appears(bench: Bench) {
    let mut writer = bench.begun("t").await;
    assert_eq!(value_of(&bench.state("t").await, "", "late"), json!(null));
    let checkpoint = writer.checkpoint(vec![set("late", json!([]))], &[]);
    writer.write(vec![checkpoint]).await;
    assert_eq!(value_of(&bench.state("t").await, "", "late"), json!([]));
}

pub(super) async fn metadata_and_run_are_kept(bench: Bench) {
    let mut writer = bench.begun("t").await;
    writer.write(vec![Op::Tagged { metadata: json!({"owner": {"name": "ada"}}) }]).await;
    let state = bench.state("t").await;
    assert_eq!(state.metadata, json!({"team": "data", "owner": {"name": "ada"}}));
    assert_eq!(state.run.map(|run| run.id), Some(RunId(1)));
    assert_eq!(bench.records("t").await[1].1.run, Some(RunId(1)));
}

pub(super) async fn a_large_value_comes_back(bench: Bench) {
    let mut writer = bench.begun("t").await;
    // Not compressible, and many times what an engine stores in one piece.
    let text: String = (0..300_000_u64).map(|n| format!("{:x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
    let checkpoint = writer.checkpoint(vec![set("large", json!(text))], &[]);
    writer.write(vec![checkpoint]).await;
    assert!(value_of(&bench.state("t").await, "", "large") == json!(text), "the value differs");
}

pub(super) async fn odd_thread_ids_are_apart(bench: Bench) {
    let ids = ["a", "a ", "aa", "a:b", "a|b", "é", "🛰", "A", "a.", &"x".repeat(128)];
    for (n, id) in ids.iter().enumerate() {
        let mut writer = bench.begun(id).await;
        let checkpoint = writer.checkpoint(vec![set("n", json!(n))], &[]);
        writer.write(vec![checkpoint]).await;
    }
    bench.store.delete_thread(&thread("a")).await.expect("it is deleted");
    for (n, id) in ids.iter().enumerate().skip(1) {
        assert_eq!(value_of(&bench.state(id).await, "", "n"), json!(n), "{id}");
    }
}

pub(super) async fn a_record_over_the_limit_is_refused(bench: Bench) {
    let mut writer = bench.begun("t").await;
    let too_large = writer.checkpoint(vec![set("x", json!("y".repeat(40 * 1024 * 1024)))], &[]);
    let res = writer.try_write(vec![too_large]).await;
    assert!(matches!(res, Err(StoreError::TooLarge { .. })), "{res:?}");
    writer.write(vec![]).await;
    assert_eq!(bench.loaded("t").await.seq, Seq(2));
}
