//! What is wrong with a store is found and named: damaged records, gaps, wrong projections, foreign and damaged folders.

mod folders;

use std::fs;
use std::sync::Arc;

use checkpoints::envelope::Plain;
use checkpoints::keys::KeyRing;
use checkpoints::kv::{Kv, KvError, MemoryKv, Order, Reader};
use checkpoints::open::{self, Address, OpenOptions};
use checkpoints::store::KvStore;
use graphs::GraphDigest;
use runtime::ports::store::{Finding, Store, StoreError};
use runtime_core::ids::{Epoch, Seq, ThreadId, Timestamp};
use runtime_core::record::{AuditEntry, Commit, Op, Record, Timer, TimerKey};
use serde_json::json;

/// Flipped bits of the short run.
const FLIPS_SHORT: usize = 1_500;

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn thread(id: &str) -> ThreadId {
    ThreadId::new(id).unwrap()
}

async fn fill(store: &dyn Store, id: &str, n_records: u64) {
    let digest: GraphDigest = serde_json::from_value(json!("d1")).unwrap();
    for n in 1..=n_records {
        let mut ops = vec![
            Op::Tagged { metadata: json!({"n": n, "text": "some words ".repeat(80)}) },
            Op::TimerSet(Timer {
                key: TimerKey::Wait(runtime_core::ids::TaskId(u128::from(n))),
                at: Timestamp(n as i64),
            }),
            Op::Audited(Box::new(AuditEntry {
                actor: "policy".to_owned(),
                action: "call.permitted".to_owned(),
                node: "a".into(),
                task: None,
                detail: json!({"n": n}),
            })),
        ];
        if n == 1 {
            ops.insert(0, Op::Created { graph: "etl".into(), digest: digest.clone(), metadata: json!({}) });
        }
        let record = Record { at: Timestamp(n as i64), epoch: Epoch(1), run: None, ops };
        let commit = Commit { thread: thread(id), seq: Seq(n), epoch: Epoch(1), claim: n == 1, record };
        store.commit(commit).await.unwrap();
    }
}

/// Changes the stored entries behind the store's back.
async fn edit(store: &KvStore<MemoryKv>, change: impl FnOnce(&mut checkpoints::kv::Txn<'_>) + Send + 'static) {
    let kv = store.backend().unwrap();
    let done = kv.transact(move |txn| {
        change(txn);
        Ok::<(), KvError>(())
    });
    done.await.unwrap();
}

fn key(kind: u8, id: &str, rest: &[u8]) -> Vec<u8> {
    [&[kind], id.as_bytes(), &[0], rest].concat()
}

fn shown(findings: &[Finding]) -> Vec<String> {
    let place = |f: &Finding| format!("{} {} {}", f.kind, f.thread.as_deref().unwrap_or("-"), f.seq.unwrap_or(0));
    findings.iter().map(place).collect()
}

/// Fills a store, spoils it, and compares what the check finds.
async fn check_findings(expected: &[&str], spoil: impl FnOnce(&mut checkpoints::kv::Txn<'_>) + Send + 'static) {
    let store = open::memory(&OpenOptions::default());
    fill(&store, "good", 5).await;
    fill(&store, "t", 5).await;
    assert_eq!(store.check().await.unwrap(), []);
    edit(&store, spoil).await;
    assert_eq!(shown(&store.check().await.unwrap()), expected);
    assert!(store.load(&thread("good")).await.unwrap().is_some(), "other threads are not touched by it");
}

#[tokio::test]
async fn a_flipped_bit_in_a_record_is_named() {
    check_findings(&["record t 3"], |txn| {
        let key = key(b'r', "t", &3_u64.to_be_bytes());
        let mut stored = txn.get(&key).unwrap().unwrap().to_vec();
        stored[40] ^= 1;
        txn.put(key, stored);
    })
    .await;
}

#[tokio::test]
async fn a_missing_record_is_a_gap() {
    check_findings(&["gap t 3"], |txn| txn.delete(key(b'r', "t", &3_u64.to_be_bytes()))).await;
}

#[tokio::test]
async fn a_missing_newest_record_is_a_gap() {
    check_findings(&["gap t 5"], |txn| txn.delete(key(b'r', "t", &5_u64.to_be_bytes()))).await;
}

#[tokio::test]
async fn records_that_changed_places_are_named() {
    check_findings(&["record t 2", "record t 3"], |txn| {
        let [two, three] = [2_u64, 3].map(|n| key(b'r', "t", &n.to_be_bytes()));
        let [a, b] = [&two, &three].map(|k| txn.get(k).unwrap().unwrap());
        txn.put(two, b);
        txn.put(three, a);
    })
    .await;
}

#[tokio::test]
async fn a_missing_row_or_timer_is_a_projection() {
    check_findings(&["projection t 5"], |txn| txn.delete(key(b't', "t", &[]))).await;
    check_findings(&["projection t 5"], |txn| {
        let timers = txn.scan(&checkpoints::kv::KeyRange::prefix(&key(b'n', "t", &[])), Order::Forward, 1).unwrap();
        txn.delete(timers.entries[0].0.clone());
    })
    .await;
}

#[tokio::test]
async fn a_missing_head_leaves_orphans() {
    check_findings(&["projection t 0"; 8], |txn| txn.delete(key(b'h', "t", &[]))).await;
}

#[tokio::test]
async fn a_removed_audit_entry_breaks_the_chain() {
    check_findings(&["audit good 5"], |txn| {
        txn.delete([&[b'a'][..], &4_u64.to_be_bytes()].concat());
    })
    .await;
}

/// G12: the whole store, one flipped bit at a time; each is found by the check, and the thread never loads as if whole.
#[tokio::test]
async fn every_flipped_bit_of_a_store_is_found() {
    let store = open::memory(&OpenOptions::default());
    fill(&store, "t", 3).await;
    let kv = store.backend().unwrap();
    let entries = kv.scan(&checkpoints::kv::KeyRange::all(), Order::Forward, 1000).unwrap().entries;
    let n_bits: usize = entries.iter().map(|(_, stored)| stored.len() * 8).sum();
    let n_flips = setting("INTERLOCK_FLIPS", FLIPS_SHORT);
    for n in 0..n_flips {
        let mut bit = n * 7_919 % n_bits;
        let (key, stored) = entries
            .iter()
            .find(|(_, stored)| {
                let is_here = bit < stored.len() * 8;
                bit -= if is_here { 0 } else { stored.len() * 8 };
                is_here
            })
            .unwrap();
        let (key, original) = (key.clone(), stored.clone());
        let mut damaged = original.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let place = key.clone();
        edit(&store, move |txn| txn.put(place, damaged)).await;
        assert!(!store.check().await.unwrap().is_empty(), "bit {bit} of {}", hex::encode(&key));
        if key[0] == b'r' || key[0] == b'h' {
            let loaded = store.load(&thread("t")).await;
            assert!(matches!(loaded, Err(StoreError::Corrupt { .. })), "bit {bit} of {}", hex::encode(&key));
        }
        edit(&store, move |txn| txn.put(key, original)).await;
    }
    assert_eq!(store.check().await.unwrap(), []);
    println!("G12 flips={n_flips} found={n_flips} resumed_from_damage=0");
}

fn keyed(current: &str, old: &[&str], plain: Plain) -> OpenOptions {
    let old: Vec<_> = old.iter().map(|k| k.repeat(32).into()).collect();
    let keys = KeyRing::new(&current.repeat(32).into(), &old).unwrap();
    OpenOptions { keys: Some(Arc::new(keys)), plain, ..OpenOptions::default() }
}

#[tokio::test]
async fn keys_rotate_and_copies_move_between_engines() {
    let root = tempfile::tempdir().unwrap();
    let (here, there) = (Address::Sled(root.path().join("a")), Address::Fjall(root.path().join("b")));
    let plain = open::open(&here, &OpenOptions::default()).unwrap();
    fill(&*plain, "t", 5).await;
    let state = plain.load(&thread("t")).await.unwrap().unwrap().state;
    plain.close().await.unwrap();
    // From plain to a first key, then to a second one.
    for options in [keyed("01", &[], Plain::Accept), keyed("02", &["01"], Plain::Refuse)] {
        let store = open::open(&here, &options).unwrap();
        assert!(store.rotate().await.unwrap() > 10);
        assert_eq!(store.rotate().await.unwrap(), 0, "nothing is left to rewrite");
        store.close().await.unwrap();
    }
    let new = keyed("02", &[], Plain::Refuse);
    let copied = open::copy((&here, &new), (&there, &keyed("03", &[], Plain::Refuse))).await.unwrap();
    assert!(copied.entries > 10, "{copied:?}");
    let store = open::open(&there, &keyed("03", &[], Plain::Refuse)).unwrap();
    assert_eq!(store.load(&thread("t")).await.unwrap().unwrap().state, state);
    assert_eq!(store.check().await.unwrap(), []);
    store.close().await.unwrap();
    let wrong = open::open(&there, &new).unwrap();
    assert!(matches!(wrong.load(&thread("t")).await, Err(StoreError::Corrupt { .. })), "the old key reads nothing");
}

fn refusal(address: Address) -> String {
    open::open(&address, &OpenOptions::default()).err().unwrap().to_string()
}

#[tokio::test]
async fn foreign_newer_and_other_folders_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name);
    open::open(&Address::Sled(path("sled")), &OpenOptions::default()).unwrap().close().await.unwrap();
    let other = refusal(Address::Fjall(path("sled")));
    assert!(other.contains("engine `sled`, opened as `fjall`"), "{other}");
    fs::create_dir(path("photos")).unwrap();
    fs::write(path("photos/cat.jpg"), "meow").unwrap();
    let foreign = refusal(Address::Sled(path("photos")));
    assert!(foreign.contains("not an Interlock store: it has `cat.jpg`"), "{foreign}");
    let file = refusal(Address::Sled(path("photos/cat.jpg")));
    assert!(file.contains("is a file, not a folder"), "{file}");
    let format = fs::read_to_string(path("sled/format")).unwrap();
    fs::write(path("sled/format"), format.replace("store 1", "store 2")).unwrap();
    let newer = refusal(Address::Sled(path("sled")));
    assert!(newer.contains("has format 2; this program knows formats up to 1"), "{newer}");
    fs::write(path("sled/format"), "\u{0}garbage").unwrap();
    let garbage = refusal(Address::Sled(path("sled")));
    assert!(garbage.contains("unreadable `format`"), "{garbage}");
}

#[tokio::test]
async fn a_damaged_commit_log_is_an_error_not_a_loss() {
    let root = tempfile::tempdir().unwrap();
    let address = Address::Sled(root.path().join("s"));
    let copy = root.path().join("copy");
    let store = open::open(&address, &OpenOptions::default()).unwrap();
    fill(&*store, "t", 5).await;
    // What a kill would leave: the files as they are now, with five commits in the log only.
    let copied = std::process::Command::new("cp").arg("-r").arg(root.path().join("s")).arg(&copy).status();
    assert!(copied.unwrap().success());
    let log = copy.join("log-a");
    let mut bytes = fs::read(&log).unwrap();
    bytes[2 * 4096 + 50] ^= 1;
    fs::write(&log, &bytes).unwrap();
    let refused = refusal(Address::Sled(copy.clone()));
    assert!(refused.contains("commit 3 is missing, yet commit 4 follows it"), "{refused}");
    bytes[2 * 4096 + 50] ^= 1;
    fs::write(&log, &bytes).unwrap();
    let again = open::open(&Address::Sled(copy), &OpenOptions::default()).unwrap();
    assert_eq!(again.load(&thread("t")).await.unwrap().unwrap().seq, Seq(5));
}
