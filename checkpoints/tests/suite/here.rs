//! On which thread a transaction is made, and that both ways are one order.

use std::sync::Arc;
use std::sync::mpsc;
use std::task::{Context, Waker};

use checkpoints::kv::{Durable, Engine, FjallEngine, Kv, KvError, SledEngine, Txn};

const COMMITTER: &str = "store-committer";
const MANY: u64 = 64;

fn opened<E: Engine>() -> (Arc<Durable<E>>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Arc::new(Durable::open(&folder.path().join("store"), Default::default()).unwrap()), folder)
}

/// Counts up, and says where it was and the count that it saw.
fn count(txn: &mut Txn<'_>) -> Result<(String, u64), KvError> {
    use checkpoints::kv::Reader as _;
    let seen = txn.get(b"n")?.map_or(0, |stored| u64::from_be_bytes(stored[..].try_into().unwrap()));
    txn.put(b"n".to_vec(), (seen + 1).to_be_bytes().to_vec());
    Ok((std::thread::current().name().unwrap_or_default().to_owned(), seen))
}

async fn check_alone<E: Engine>() {
    let (kv, _folder) = opened::<E>();
    let (thread, seen) = kv.transact_here(count).await.unwrap();
    assert!(thread != COMMITTER && seen == 0, "{thread}");
    assert_eq!(kv.transact(count).await.unwrap(), (COMMITTER.to_owned(), 1));
    assert!(kv.transact_here(count).await.unwrap().0 != COMMITTER, "alone again");
    let failed = kv.transact_here(|_| Err::<(), _>(KvError::Closed { cause: "no".to_owned() })).await;
    assert!(matches!(failed, Err(KvError::Closed { .. })) && kv.closed().is_none(), "a refusal closes nothing");
    let panicked = kv.transact_here(|_| -> Result<(), KvError> { panic!("a bug") }).await;
    assert!(matches!(panicked, Err(KvError::Bug { .. })), "{panicked:?}");
    assert_eq!(kv.transact_here(count).await.unwrap().1, 3, "what failed wrote nothing");
    assert_eq!(kv.statistics().syncs, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_alone_writes_on_its_own_thread() {
    check_alone::<SledEngine>().await;
    check_alone::<FjallEngine>().await;
}

/// While one writes by itself, others come: they are handed over, are one batch, and see what it wrote.
#[tokio::test(flavor = "multi_thread")]
async fn who_comes_meanwhile_is_handed_over_and_shares_a_sync() {
    let (kv, _folder) = opened::<SledEngine>();
    let (go, wait) = mpsc::channel::<()>();
    let (begun, begins) = mpsc::channel::<()>();
    let first = tokio::spawn({
        let kv = kv.clone();
        async move {
            let job = move |txn: &mut Txn<'_>| {
                begun.send(()).unwrap();
                wait.recv().unwrap();
                count(txn)
            };
            kv.transact_here(job).await
        }
    });
    tokio::task::block_in_place(|| begins.recv()).unwrap();
    let mut others: Vec<_> = (0..MANY).map(|_| Box::pin(kv.transact_here(count))).collect();
    for other in &mut others {
        assert!(other.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending(), "somebody writes");
    }
    go.send(()).unwrap();
    assert_eq!(first.await.unwrap().unwrap().1, 0);
    for (n, other) in others.into_iter().enumerate() {
        assert_eq!(other.await.unwrap(), (COMMITTER.to_owned(), n as u64 + 1));
    }
    assert_eq!(kv.statistics().syncs, 2, "all of them are one batch");
    assert!(kv.transact_here(count).await.unwrap().0 == COMMITTER, "where many write, the thread stays free");
}

/// On a runtime of one thread the others could not even come.
#[tokio::test]
async fn a_single_thread_is_never_held_up() {
    let (kv, _folder) = opened::<SledEngine>();
    assert_eq!(kv.transact_here(count).await.unwrap().0, COMMITTER);
}
