//! Walls that hold, and a chain that shows every edit.

use std::sync::Arc;

use runtime::ports::store::{Account, Reservation};
use serde_json::json;

use super::kit::{Bench, audited, created};
use crate::store::audit_hash;

fn reservation(key: &str, amount: u64) -> Reservation {
    Reservation { account: "agent:monitor:usd".to_owned(), key: key.to_owned(), amount, limit: 100 }
}

pub(super) async fn the_wall_holds_under_concurrency(bench: Bench) {
    let store = Arc::new(bench.store);
    let mut tasks = Vec::new();
    for n in 0..64 {
        let store = store.clone();
        tasks.push(tokio::spawn(async move { store.reserve(&reservation(&format!("k{n}"), 3)).await }));
    }
    let mut n_granted = 0;
    for task in tasks {
        n_granted += usize::from(task.await.expect("no panic").expect("no error").is_ok());
    }
    assert_eq!(n_granted, 33, "33 times 3 fit below 100");
}

pub(super) async fn a_reservation_counts_once(bench: Bench) {
    for _ in 0..3 {
        let account = bench.store.reserve(&reservation("k", 60)).await.expect("no error");
        assert_eq!(account, Ok(Account { spent: 0, reserved: 60 }));
    }
}

pub(super) async fn settling_twice_counts_once(bench: Bench) {
    let name = "agent:monitor:usd";
    bench.store.reserve(&reservation("k", 60)).await.expect("no error").expect("it fits");
    for _ in 0..3 {
        let account = bench.store.settle(name, "k", 20).await.expect("no error");
        assert_eq!(account, Account { spent: 20, reserved: 0 });
    }
    assert_eq!(bench.store.account(name).await.expect("no error"), Account { spent: 20, reserved: 0 });
    assert_eq!(bench.store.account("unknown").await.expect("no error"), Account::default());
    assert!(bench.store.settle(name, "unknown", 1).await.is_err());
    let again = bench.store.reserve(&reservation("k", 60)).await.expect("no error");
    assert_eq!(again, Ok(Account { spent: 20, reserved: 0 }), "a settled key reserves nothing");
}

pub(super) async fn a_refusal_tells_the_account(bench: Bench) {
    bench.store.reserve(&reservation("a", 60)).await.expect("no error").expect("it fits");
    let refused = bench.store.reserve(&reservation("b", 41)).await.expect("no error");
    assert_eq!(refused, Err(Account { spent: 0, reserved: 60 }));
    bench.store.reserve(&reservation("c", 40)).await.expect("no error").expect("up to the wall itself");
    let overflow = bench.store.reserve(&reservation("d", u64::MAX)).await.expect("no error");
    assert!(overflow.is_err());
}

pub(super) async fn the_audit_chain_is_whole(bench: Bench) {
    let mut writer = bench.begun("t").await;
    writer.write(vec![audited("one"), audited("two")]).await;
    writer.write(vec![audited("three")]).await;
    let chain = bench.store.audit(1, 100).await.expect("no error");
    assert_eq!(chain.iter().map(|link| link.seq).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(chain.iter().map(|link| link.entry.action.as_str()).collect::<Vec<_>>(), ["one", "two", "three"]);
    assert_eq!(chain[0].previous, "0".repeat(64));
    for pair in chain.windows(2) {
        assert_eq!(pair[1].previous, pair[0].hash);
    }
    for link in &chain {
        assert_eq!(link.hash, audit_hash(link));
        let mut edited = link.clone();
        edited.entry.detail = json!({"rule": "r2"});
        assert_ne!(link.hash, audit_hash(&edited), "an edit shows");
    }
    assert_eq!(bench.store.audit(3, 100).await.expect("no error").len(), 1);
}

pub(super) async fn one_chain_for_all_threads(bench: Bench) {
    for id in ["a", "b", "a2"] {
        bench.writer(id).write(vec![created(json!({})), audited(id)]).await;
    }
    let chain = bench.store.audit(1, 100).await.expect("no error");
    assert_eq!(chain.iter().map(|link| link.thread.to_string()).collect::<Vec<_>>(), ["a", "b", "a2"]);
    assert_eq!(bench.findings().await, [""; 0]);
}
