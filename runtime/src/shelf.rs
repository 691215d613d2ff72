//! Records that all threads of a store share: one document each, and one that lists their names.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::ports::store::{Store, StoreError};

/// Tries to change a record that others change too.
const SWAPS_MAX: usize = 1000;

/// Records of one sort that are listed.
const LISTED_MAX: usize = 10_000;

/// One sort of shared records.
pub(crate) struct Shelf {
    /// The document that lists the records which were ever changed.
    pub(crate) index: &'static str,
    /// A record's document is `PREFIX:NAME`.
    pub(crate) prefix: &'static str,
    /// What a record is, in messages.
    pub(crate) what: &'static str,
}

impl Shelf {
    /// A record as it is.
    pub(crate) async fn read<R: Default + DeserializeOwned>(
        &self,
        store: &dyn Store,
        name: &str,
    ) -> Result<R, StoreError> {
        let document = self.document_of(name);
        read(&document, store.document(&document).await?.as_ref())
    }

    /// Changes a record, alone: read, decide, compare and swap, until nobody was in between. What was decided, and the record
    /// after it.
    pub(crate) async fn change<R, T>(
        &self,
        store: &dyn Store,
        name: &str,
        mut decide: impl FnMut(&mut R) -> T + Send,
    ) -> Result<(T, R), StoreError>
    where
        R: Default + Clone + PartialEq + Serialize + DeserializeOwned + Send,
        T: Send,
    {
        let document = self.document_of(name);
        for _ in 0..SWAPS_MAX {
            let stored = store.document(&document).await?;
            let before: R = read(&document, stored.as_ref())?;
            let mut after = before.clone();
            let decided = decide(&mut after);
            if after == before {
                return Ok((decided, after));
            }
            if stored.is_none() {
                self.enlist(store, name).await?;
            }
            let new = serde_json::to_value(&after).unwrap_or_default();
            if store.swap_document(&document, stored.as_ref(), &new).await? {
                return Ok((decided, after));
            }
        }
        let what = self.what;
        Err(StoreError::Io(format!("{what} `{name}` changed {SWAPS_MAX} times while it was to be changed")))
    }

    /// Every record that was ever changed, by name.
    pub(crate) async fn all<R: Default + DeserializeOwned>(
        &self,
        store: &dyn Store,
    ) -> Result<Vec<(String, R)>, StoreError> {
        let mut all = Vec::new();
        for name in names_in(store.document(self.index).await?.as_ref()) {
            let record = self.read(store, &name).await?;
            all.push((name, record));
        }
        Ok(all)
    }

    fn document_of(&self, name: &str) -> String {
        format!("{}:{name}", self.prefix)
    }

    async fn enlist(&self, store: &dyn Store, name: &str) -> Result<(), StoreError> {
        for _ in 0..SWAPS_MAX {
            let stored = store.document(self.index).await?;
            let mut names = names_in(stored.as_ref());
            if names.len() >= LISTED_MAX || names.iter().any(|known| known == name) {
                return Ok(());
            }
            names.push(name.to_owned());
            names.sort();
            if store.swap_document(self.index, stored.as_ref(), &json!(names)).await? {
                return Ok(());
            }
        }
        let what = self.what;
        Err(StoreError::Io(format!("the list of {what}s changed {SWAPS_MAX} times while `{name}` was to be added")))
    }
}

/// A record that cannot be read is no empty one: what it stopped would go on.
fn read<R: Default + DeserializeOwned>(document: &str, stored: Option<&Value>) -> Result<R, StoreError> {
    let Some(stored) = stored else { return Ok(R::default()) };
    serde_json::from_value(stored.clone())
        .map_err(|error| StoreError::Io(format!("document `{document}` is damaged: {error}")))
}

fn names_in(stored: Option<&Value>) -> Vec<String> {
    let names = stored.and_then(Value::as_array).into_iter().flatten();
    names.filter_map(Value::as_str).map(str::to_owned).collect()
}
