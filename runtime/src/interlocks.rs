//! The records that interlocks share between threads: breakers and track records as documents, budgets as ledger accounts.
//!
//! The decisions are the core's ([`Breaker::ask`], [`Breaker::settle`]); here they are made one after another, by
//! compare-and-swap on the store.

use std::sync::Arc;

use runtime_core::effect::{Clear, Gate, Refusal, Tell};
use runtime_core::error::{ErrorClass, TaskError};
use runtime_core::event::{Cleared, Command, Event, Passed, Told};
use runtime_core::ids::{Name, ThreadId, Timestamp};
use runtime_core::interlocks::breaker::{Breaker, Pass, Press, Sign, Turn};
use serde_json::{Value, json};

use crate::driver::EngineFault;
use crate::engine::Engine;
use crate::ports::store::{Reservation, Store, StoreError, ThreadFilter};
use crate::shelf::Shelf;
use crate::track_records;

/// Breakers; the names come from graphs and tool servers.
const BREAKERS: Shelf = Shelf { index: "breakers", prefix: "breaker", what: "breaker" };

/// Asks whether a call may go on: its breaker first, then its walls. What was taken is given back when one refuses.
pub(crate) async fn clear(store: Arc<dyn Store>, now: Timestamp, thread: ThreadId, asked: Clear) -> Event {
    let (task, token, ix, hold) = (asked.task, asked.token, asked.ix, asked.hold.clone());
    let broken = |error: StoreError| {
        let text = format!("the records of breakers, budgets and remedies cannot be used: {error}");
        Passed::Failed(TaskError::new(ErrorClass::Resource, text))
    };
    let (passed, turn) = match pass(&*store, now, &thread, &asked).await {
        Ok(found) => found,
        Err(error) => (broken(error), None),
    };
    let (passed, record) = match track_records::looked_up(&*store, asked.record).await {
        Ok(record) => (passed, record),
        Err(error) => (broken(error), None),
    };
    Event::Cleared { task, token, ix, cleared: Box::new(Cleared { hold, turn, passed, record }) }
}

async fn pass(
    store: &dyn Store,
    now: Timestamp,
    thread: &ThreadId,
    asked: &Clear,
) -> Result<(Passed, Option<Turn>), StoreError> {
    let mut turn = None;
    if let Some((gate, press)) = &asked.gate {
        let (pass, turned, breaker) = ask(store, now, gate, *press).await?;
        turn = turned;
        if let Pass::No { until } = pass {
            return Ok((Passed::Open { until, failures: breaker.failures, last: breaker.last }, turn));
        }
    }
    let refused = match &asked.hold {
        Some(key) => take_all(store, key, asked).await?,
        None => None,
    };
    if refused.is_some()
        && let Some((gate, _)) = &asked.gate
    {
        // The call is not made: if it was to be the probe, another one may be.
        settle(store, now, (gate, &Sign::Nothing, thread)).await?;
    }
    Ok((refused.unwrap_or(Passed::Go), turn))
}

async fn take_all(store: &dyn Store, key: &Name, asked: &Clear) -> Result<Option<Passed>, StoreError> {
    for (wall, (take, limit)) in asked.takes.iter().enumerate() {
        let reservation =
            Reservation { account: take.account.to_string(), key: key.to_string(), amount: take.amount, limit: *limit };
        if let Err(account) = store.reserve(&reservation).await? {
            for (taken, _) in asked.takes.iter().take(wall) {
                give(store, key, &taken.account, 0).await?;
            }
            return Ok(Some(Passed::Over { wall, spent: account.spent, reserved: account.reserved }));
        }
    }
    Ok(None)
}

/// Tells the shared records how a call ended. What cannot be told now is told when the thread is loaded again.
pub(crate) async fn tell(store: Arc<dyn Store>, now: Timestamp, thread: ThreadId, tell: Tell) -> Event {
    let mut told = Told::default();
    if let Some((gate, sign, node)) = &tell.sign {
        match settle(&*store, now, (gate, sign, &thread)).await {
            Ok((Some(turn), failures)) => told.breaker = Some((gate.name.clone(), turn, failures, node.clone())),
            Ok((None, _)) => {}
            Err(error) => tracing::warn!(breaker = %gate.name, %error, "a breaker was not told how a call ended"),
        }
    }
    if let Some((key, accounts)) = &tell.settle {
        match give_all(&*store, key, accounts).await {
            Ok(()) => told.settled = Some(key.clone()),
            Err(error) => tracing::warn!(hold = %key, %error, "the ledger was not told what a call took; it will be"),
        }
    }
    if let Some((task, heal)) = tell.heal {
        match track_records::count(&*store, &heal).await {
            Ok(stopped) => told.heal = Some((task, heal.class, stopped)),
            Err(error) => {
                tracing::warn!(class = %heal.class, %error, "a track record was not told an outcome; it will be")
            }
        }
    }
    Event::Told(Box::new(told))
}

async fn give_all(store: &dyn Store, key: &Name, accounts: &[(Name, u64)]) -> Result<(), StoreError> {
    for (account, spent) in accounts {
        give(store, key, account, *spent).await?;
    }
    Ok(())
}

/// Settles one reservation. One that never came to be leaves its key used up, so that an owner who is late cannot reserve
/// any more what nobody would settle.
async fn give(store: &dyn Store, key: &Name, account: &Name, spent: u64) -> Result<(), StoreError> {
    match store.settle(account, key, spent).await {
        Err(StoreError::Missing(_)) => {
            let nothing =
                Reservation { account: account.to_string(), key: key.to_string(), amount: 0, limit: u64::MAX };
            let _granted = store.reserve(&nothing).await?;
            store.settle(account, key, spent).await.map(drop)
        }
        settled => settled.map(drop),
    }
}

/// Asks a breaker; the record after it.
async fn ask(
    store: &dyn Store,
    now: Timestamp,
    gate: &Gate,
    press: Option<Press>,
) -> Result<(Pass, Option<Turn>, Breaker), StoreError> {
    BREAKERS
        .change(store, &gate.name, |breaker: &mut Breaker| breaker.ask(gate.rule, &gate.by, now, press))
        .await
        .map(|((pass, turn), breaker)| (pass, turn, breaker))
}

async fn settle(
    store: &dyn Store,
    now: Timestamp,
    ended: (&Gate, &Sign, &ThreadId),
) -> Result<(Option<Turn>, u32), StoreError> {
    let (gate, sign, thread) = ended;
    let by = (&*gate.by, thread);
    let (turn, breaker) =
        BREAKERS.change(store, &gate.name, |breaker: &mut Breaker| breaker.settle(sign, by, now, gate.rule)).await?;
    Ok((turn, breaker.failures))
}

/// Every breaker that ever failed, by name.
///
/// # Errors
/// Those of the store.
pub async fn breakers(store: &dyn Store) -> Result<Vec<(String, Breaker)>, StoreError> {
    BREAKERS.all(store).await
}

impl Engine {
    /// Threads that run, or have something left to write or to tell.
    pub fn n_active(&self) -> usize {
        self.threads.lock().len()
    }

    /// Closes a breaker in the name of a person; the record as it was, or `None` when nothing was known of it. The decision
    /// goes into the audit chain of the thread that opened it, or of any other when that one is gone.
    pub async fn reset_breaker(&self, name: &str, by: &str) -> Result<Option<Breaker>, EngineFault> {
        let all = breakers(&**self.store()).await?;
        let Some((_, breaker)) = all.into_iter().find(|(known, _)| known == name) else { return Ok(None) };
        let detail = json!({"breaker": name, "failures": breaker.failures});
        let (actor, action) = (format!("user:{by}"), "breaker.reset".to_owned());
        self.note_on_one(breaker.opened_by.clone(), Command::Note { actor, action, detail }).await?;
        let reset = BREAKERS.change(&**self.store(), name, std::mem::take::<Breaker>).await;
        Ok(Some(reset.map(|(before, _)| before)?))
    }

    /// Puts a decision about what belongs to no thread into the audit chain of any; whether there is one.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn note(&self, actor: &str, action: &str, detail: Value) -> Result<bool, EngineFault> {
        let note = Command::Note { actor: actor.to_owned(), action: action.to_owned(), detail };
        self.note_on_one(None, note).await
    }

    /// Puts a decision about something shared into the audit chain of the first of these threads that is there, else of any;
    /// whether there was one.
    pub(crate) async fn note_on_one(
        &self,
        threads: impl IntoIterator<Item = ThreadId> + Send,
        note: Command,
    ) -> Result<bool, EngineFault> {
        let filter = ThreadFilter { limit: 1, ..ThreadFilter::default() };
        let any: Vec<ThreadId> = self.store().threads(&filter).await?.into_iter().map(|row| row.id).collect();
        let threads: Vec<ThreadId> = threads.into_iter().chain(any).collect();
        for thread in threads {
            match self.command(&thread, note.clone()).await {
                Ok(_) => return Ok(true),
                Err(EngineFault::Refused(Refusal::Empty)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }
}
