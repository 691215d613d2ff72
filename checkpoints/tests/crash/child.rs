//! The process that crashes: several tasks commit, and note an acknowledgement only after their commit returned.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{IoSlice, Write};
use std::path::Path;
use std::sync::Arc;

use checkpoints::kv::{Durable, Engine, FjallEngine, Kv, KvError, Reader, SledEngine, SyncPolicy, Txn};

use super::{Backend, Dice, Level, Orders};

pub(crate) const TASKS: u64 = 4;
/// Records of a task that stay; older ones are deleted in the commit that adds a new one.
const KEPT: u64 = 40;

/// Not a test: the body of the process that the crash tests start. Alone it does nothing.
#[test]
#[ignore = "started by the crash tests with orders in its environment"]
fn child() {
    let Some(orders) = orders() else { return };
    match orders.backend {
        Backend::Sled => run::<SledEngine>(&orders),
        Backend::Fjall => run::<FjallEngine>(&orders),
    }
}

pub(crate) fn orders() -> Option<Orders> {
    let var = |name: &str| std::env::var(name).ok();
    Some(Orders {
        folder: var("CHILD_FOLDER")?.into(),
        backend: if var("CHILD_BACKEND")? == "Sled" { Backend::Sled } else { Backend::Fjall },
        seed: var("CHILD_SEED")?.parse().ok()?,
        commits: var("CHILD_COMMITS")?.parse().ok()?,
        sync: match var("CHILD_SYNC")?.as_str() {
            "LogUnsynced" => SyncPolicy::LogUnsynced,
            "EngineFlushOnly" => SyncPolicy::EngineFlushOnly,
            _ => SyncPolicy::Full,
        },
        // Each child knows what it writes.
        level: Level::Map,
    })
}

fn run<E: Engine>(orders: &Orders) {
    let kv = match Durable::<E>::open(&orders.folder, orders.options()) {
        Ok(kv) => Arc::new(kv),
        Err(e) => {
            eprintln!("does not open: {e}");
            std::process::exit(3);
        }
    };
    let acks = Arc::new(OpenOptions::new().append(true).create(true).open(orders.acks()).unwrap());
    let failed = orders.run_writers(TASKS, |task| write(kv.clone(), acks.clone(), task, orders.clone()));
    if let Some(e) = failed {
        eprintln!("a commit failed: {e}");
        assert!(kv.closed().is_some(), "a failed commit closes the store");
        std::process::exit(4);
    }
}

async fn write<E: Engine>(kv: Arc<Durable<E>>, acks: Arc<fs::File>, task: u64, orders: Orders) -> Result<(), KvError> {
    let mut dice = Dice::new(orders.seed * TASKS + task);
    let first = head(&*kv, task)?.map_or(0, |h| h + 1);
    for n in first..first + orders.commits {
        let len = value_len(&mut dice, task, n, orders.seed);
        let job = move |txn: &mut Txn<'_>| {
            txn.put(key("record", task, n), value(task, n, len));
            txn.put(key("head", task, 0), n.to_be_bytes().to_vec());
            if let Some(old) = n.checked_sub(KEPT) {
                txn.delete(key("record", task, old));
            }
            Ok::<(), KvError>(())
        };
        if orders.writes_here() {
            kv.transact_here(job).await?;
        } else {
            kv.transact(job).await?;
        }
        acknowledge(&acks, &format!("{task} {n}\n"));
    }
    Ok(())
}

/// By `writev`, which no store uses: calls that are made to fail are those of the store.
fn acknowledge(mut acks: &fs::File, line: &str) {
    let written = acks.write_vectored(&[IoSlice::new(line.as_bytes())]).unwrap();
    assert_eq!(written, line.len(), "an acknowledgement is written whole");
}

fn value_len(dice: &mut Dice, task: u64, n: u64, seed: u64) -> usize {
    let len = match dice.below(300) {
        0 => 200_000 + dice.below(800_000),
        1..15 => 4_000 + dice.below(60_000),
        _ => 16 + dice.below(2_500),
    };
    // Some runs have one very large value.
    if seed.is_multiple_of(16) && task == 0 && n % 60 == 2 { 10_000_000 } else { len as usize }
}

fn key(kind: &str, task: u64, n: u64) -> Vec<u8> {
    [kind.as_bytes(), b"/", &task.to_be_bytes(), b"/", &n.to_be_bytes()].concat()
}

/// Length, then bytes that only this record has.
fn value(task: u64, n: u64, len: usize) -> Vec<u8> {
    let mut dice = Dice::new(task << 40 | n);
    let mut res = (len as u64).to_be_bytes().to_vec();
    while res.len() < len + 8 {
        res.extend(dice.below(u64::MAX).to_be_bytes());
    }
    res.truncate(len + 8);
    res
}

fn head<E: Engine>(kv: &Durable<E>, task: u64) -> Result<Option<u64>, KvError> {
    let stored = kv.get(&key("head", task, 0))?;
    Ok(stored.map(|bytes| u64::from_be_bytes(bytes[..8].try_into().unwrap())))
}

/// Every acknowledged commit is there, whole, in order, and nothing that was deleted came back.
pub(crate) fn check<E: Engine>(kv: &Durable<E>, acks: &Path) -> Result<u64, String> {
    let mut acked = BTreeMap::<u64, u64>::new();
    let text = fs::read_to_string(acks).unwrap_or_default();
    for line in text.lines() {
        let (task, n) = line.split_once(' ').unwrap();
        let n = n.parse().unwrap();
        let last = acked.entry(task.parse().unwrap()).or_insert(n);
        *last = n.max(*last);
    }
    for task in 0..TASKS {
        let head = head(kv, task).map_err(|e| e.to_string())?;
        if head < acked.get(&task).copied() {
            return Err(format!("task {task}: head {head:?}, acknowledged {:?}", acked.get(&task)));
        }
        let Some(head) = head else { continue };
        for n in head.saturating_sub(KEPT + 20)..=head + 1 {
            let stored = kv.get(&key("record", task, n)).map_err(|e| e.to_string())?;
            let must_be_there = n <= head && n + KEPT > head;
            match stored {
                Some(_) if !must_be_there => return Err(format!("task {task}: record {n} is there, head {head}")),
                None if must_be_there => return Err(format!("task {task}: record {n} is missing, head {head}")),
                Some(stored) if *stored != *value(task, n, stored.len().saturating_sub(8)) => {
                    return Err(format!("task {task}: record {n} is not what was written"));
                }
                _ => {}
            }
        }
    }
    Ok(text.lines().count() as u64)
}
