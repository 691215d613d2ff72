//! One writer per thread: compare and append on (epoch, place).

use std::sync::Arc;

use runtime::ports::store::StoreError;
use runtime_core::ids::{Epoch, Seq};
use serde_json::json;

use super::kit::{Bench, Writer, ask, audited, created, is_fenced, set, timer, value_of};

const WRITERS: usize = 16;

pub(super) async fn the_first_commit_must_claim(bench: Bench) {
    let mut writer = bench.writer("t");
    let unclaimed = writer.commit(vec![created(json!({}))], false);
    assert!(is_fenced(&writer.send(unclaimed).await));
    assert!(bench.is_absent("t").await);
    writer.claim(vec![created(json!({}))]).await.expect("it may claim");
    assert_eq!(bench.loaded("t").await.epoch, Epoch(1));
}

pub(super) async fn a_claim_raises_the_epoch(bench: Bench) {
    let mut writer = bench.begun("t").await;
    writer.claim(vec![]).await.expect("it may claim again");
    assert_eq!(bench.loaded("t").await.epoch, Epoch(2));
    let mut twice = writer.commit(vec![], true);
    twice.epoch = Epoch(4);
    assert!(is_fenced(&writer.send(twice).await), "an epoch is not skipped");
}

pub(super) async fn a_stale_owner_is_fenced(bench: Bench) {
    let mut old = bench.begun("t").await;
    let mut new = bench.writer("t");
    (new.epoch, new.seq) = (old.epoch, old.seq);
    new.claim(vec![]).await.expect("the new owner claims");
    let refused = old.try_write(vec![]).await;
    let Err(StoreError::Fenced { epoch, seq, .. }) = refused else { panic!("not fenced: {refused:?}") };
    assert_eq!((epoch, seq), (Epoch(2), Seq(2)), "it is told who is ahead");
    // Even with the right place the old epoch stays refused.
    old.seq = new.seq;
    assert!(is_fenced(&old.try_write(vec![]).await));
    new.write(vec![]).await;
}

pub(super) async fn a_place_is_taken_once(bench: Bench) {
    let mut writer = bench.begun("t").await;
    let (first, second) = (writer.commit(vec![], false), writer.commit(vec![], false));
    writer.send(first).await.expect("the first wins");
    let before = bench.records("t").await;
    assert!(is_fenced(&writer.send(second).await));
    assert_eq!(bench.records("t").await, before);
}

pub(super) async fn a_gap_is_refused(bench: Bench) {
    let mut writer = bench.begun("t").await;
    let mut ahead = writer.commit(vec![], false);
    ahead.seq = Seq(3);
    assert!(is_fenced(&writer.send(ahead).await));
    let mut zero = writer.commit(vec![], false);
    zero.seq = Seq(0);
    assert!(is_fenced(&writer.send(zero).await));
}

pub(super) async fn a_refused_commit_changes_nothing(bench: Bench) {
    let mut writer = bench.begun("t").await;
    let mut stale = writer.commit(vec![ask(1, 1), timer(1, 1), audited("x"), created(json!({"new": 1}))], false);
    stale.epoch = Epoch(0);
    assert!(is_fenced(&writer.send(stale).await));
    assert!(bench.store.interrupts(None, 9).await.expect("no error").is_empty());
    assert!(bench.store.audit(1, 9).await.expect("no error").is_empty());
    assert_eq!(bench.state("t").await.metadata, json!({"team": "data"}));
    assert_eq!(bench.findings().await, [""; 0]);
}

pub(super) async fn of_concurrent_writers_one_wins(bench: Bench) {
    let writer = bench.begun("t").await;
    for round in 0..20 {
        let mut tasks = Vec::new();
        for n in 0..WRITERS {
            let mut rival = Writer::new(&bench.store, "t");
            (rival.epoch, rival.seq, rival.minted) = (writer.epoch, Seq(writer.seq.0 + round), 100 + u128::from(round));
            tasks.push(tokio::spawn(async move {
                let checkpoint = rival.checkpoint(vec![set("winner", json!([round, n]))], &[]);
                rival.try_write(vec![checkpoint]).await
            }));
        }
        let mut winner = None;
        for (n, task) in tasks.into_iter().enumerate() {
            match task.await.expect("no panic") {
                Ok(()) => assert_eq!(winner.replace(n), None, "two writers won round {round}"),
                Err(e) => assert!(is_fenced(&Err(e))),
            }
        }
        let state = bench.state("t").await;
        assert_eq!(value_of(&state, "", "winner"), json!([round, winner.expect("somebody won")]));
    }
}

pub(super) async fn of_concurrent_claims_one_wins(bench: Bench) {
    let owner = bench.begun("t").await;
    let mut tasks = Vec::new();
    for _ in 0..WRITERS {
        let mut rival = Writer::new(&bench.store, "t");
        (rival.epoch, rival.seq) = (owner.epoch, owner.seq);
        tasks.push(tokio::spawn(async move { rival.claim(vec![]).await }));
    }
    let mut n_won = 0;
    for task in tasks {
        n_won += usize::from(task.await.expect("no panic").is_ok());
    }
    assert_eq!(n_won, 1);
    assert_eq!(bench.loaded("t").await.epoch, Epoch(2));
}

pub(super) async fn writers_of_different_threads_do_not_meet(bench: Bench) {
    let bench = Arc::new(bench);
    let mut tasks = Vec::new();
    for n in 0..WRITERS {
        let bench = bench.clone();
        tasks.push(tokio::spawn(async move {
            let mut writer = bench.begun(&format!("t{n}")).await;
            for _ in 0..20 {
                writer.write(vec![]).await;
            }
        }));
    }
    for task in tasks {
        task.await.expect("every writer is accepted");
    }
    assert_eq!(bench.findings().await, [""; 0]);
}
