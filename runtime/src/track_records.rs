//! The track records of remedy classes, shared by all threads of a store.

use runtime_core::event::Command;
use runtime_core::ids::{Name, Timestamp};
use runtime_core::interlocks::track_record::{Heal, Marked, TrackRecord};
use serde_json::json;

use crate::driver::EngineFault;
use crate::engine::Engine;
use crate::ports::store::{Store, StoreError};
use crate::shelf::Shelf;

/// Track records; the names are the classes that graphs name.
const RECORDS: Shelf = Shelf { index: "track_records", prefix: "record", what: "track record" };

/// The record that was asked for; failures that a person has forgiven do not stop the class any more.
pub(crate) async fn looked_up(
    store: &dyn Store,
    asked: Option<(Name, Option<Timestamp>)>,
) -> Result<Option<TrackRecord>, StoreError> {
    let Some((class, forgiven)) = asked else { return Ok(None) };
    let record = match forgiven {
        Some(until) => RECORDS.change(store, &class, |record: &mut TrackRecord| record.reset(until)).await?.1,
        None => RECORDS.read(store, &class).await?,
    };
    Ok(Some(record))
}

/// Counts an outcome once; whether it stopped the class.
pub(crate) async fn count(store: &dyn Store, heal: &Heal) -> Result<bool, StoreError> {
    RECORDS.change(store, &heal.class, |record: &mut TrackRecord| record.count(heal)).await.map(|(stopped, _)| stopped)
}

/// Every class that has an outcome, by name.
///
/// # Errors
/// Those of the store.
pub async fn track_records(store: &dyn Store) -> Result<Vec<(String, TrackRecord)>, StoreError> {
    RECORDS.all(store).await
}

impl Engine {
    /// Lets a stopped class go on in the name of a person; the record as it was, or `None` when nothing was known of it. The
    /// decision goes into the audit chain of the thread whose act failed last, or of any other when that one is gone.
    pub async fn reset_class(&self, class: &str, by: &str) -> Result<Option<TrackRecord>, EngineFault> {
        let all = track_records(&**self.store()).await?;
        let Some((_, before)) = all.into_iter().find(|(known, _)| known == class) else { return Ok(None) };
        let detail = json!({
            "class": class, "healed": before.healed, "failed": before.failed, "failed_in_a_row": before.failed_in_a_row(),
        });
        let note = Command::Note { actor: format!("user:{by}"), action: "class.reset".to_owned(), detail };
        self.note_on_one(before.last.last().map(|counted| counted.thread.clone()), note).await?;
        let now = self.clock().now();
        RECORDS.change(&**self.store(), class, |record: &mut TrackRecord| record.reset(now)).await?;
        Ok(Some(before))
    }

    /// Corrects an outcome of a class in the name of a person, who has seen more than the check: the one of this id, or the
    /// last one of this thread. The decision goes into the thread's audit chain first.
    pub async fn mark_outcome(
        &self,
        which: &str,
        (class, healed): (&str, bool),
        by: &str,
    ) -> Result<Marked, EngineFault> {
        let mut tried: TrackRecord = RECORDS.read(&**self.store(), class).await?;
        let thread = tried.find(which).map(|counted| counted.thread.clone());
        let foreseen = tried.mark(which, healed, by);
        if foreseen != Marked::Changed {
            return Ok(foreseen);
        }
        let detail = json!({ "class": class, "healed": healed, "outcome": which });
        let note = Command::Note { actor: format!("user:{by}"), action: "outcome.marked".to_owned(), detail };
        self.note_on_one(thread, note).await?;
        let marked = RECORDS.change(&**self.store(), class, |record: &mut TrackRecord| record.mark(which, healed, by));
        Ok(marked.await.map(|(marked, _)| marked)?)
    }
}
