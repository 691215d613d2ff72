//! What is remembered of deliveries, so that a restart repeats none: a port to durable documents, and their forms.
//!
//! One document per incident, one per channel. Each is read, changed and swapped for what was read: two writers cannot
//! lose each other's change.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Class, Fault};
use crate::notice::{Notice, Urgency};

/// Most tries to swap a document that others change too.
const SWAPS_MAX: usize = 32;
/// Sendings of one incident that are remembered; the oldest are forgotten first.
pub(crate) const SENDINGS_MAX: usize = 16;
/// Most openings of one incident that are counted.
pub(crate) const OPENINGS_MAX: usize = 64;
/// Most notices that wait in one channel.
pub(crate) const WAITING_MAX: usize = 500;

/// Durable documents by name.
#[async_trait]
pub trait Ledger: Send + Sync + 'static {
    /// A document; none when it was never written.
    async fn read(&self, name: &str) -> Result<Option<Value>, String>;
    /// Writes `new` in one atomic and durable step if what is there is `expected`; says whether it was.
    async fn swap(&self, name: &str, expected: Option<&Value>, new: &Value) -> Result<bool, String>;
}

/// Documents of this process, for tests and for trying a channel.
#[derive(Default)]
pub struct InMemory(Mutex<BTreeMap<String, Value>>);

#[async_trait]
impl Ledger for InMemory {
    async fn read(&self, name: &str) -> Result<Option<Value>, String> {
        Ok(self.0.lock().get(name).cloned())
    }

    async fn swap(&self, name: &str, expected: Option<&Value>, new: &Value) -> Result<bool, String> {
        let mut documents = self.0.lock();
        let is_expected = documents.get(name) == expected;
        if is_expected {
            documents.insert(name.to_owned(), new.clone());
        }
        Ok(is_expected)
    }
}

/// One incident: where it is shown, what was sent about it, what waits.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct IncidentRecord {
    /// When it was opened, lately.
    #[serde(default)]
    pub(crate) openings: Vec<Timestamp>,
    /// Whether it is open.
    #[serde(default)]
    pub(crate) is_open: bool,
    /// What each channel remembers of it.
    #[serde(default)]
    pub(crate) places: BTreeMap<String, Place>,
    /// What was sent, the latest last.
    #[serde(default)]
    pub(crate) sendings: Vec<Sending>,
    /// What waits, by channel: only the latest is worth saying.
    #[serde(default)]
    pub(crate) waiting: BTreeMap<String, Waiting>,
}

/// What a channel remembers of an incident.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// Whether an alert is open there.
    #[serde(default)]
    pub(crate) is_open: bool,
    /// The channel's own notes.
    #[serde(default)]
    pub(crate) notes: Value,
}

/// One notice on its way, by the key of its call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sending {
    pub(crate) key: String,
    /// How loud, once it was decided.
    pub(crate) urgency: Urgency,
    /// What else is said.
    #[serde(default)]
    pub(crate) remarks: Vec<String>,
    #[serde(default)]
    pub(crate) channels: BTreeMap<String, Delivered>,
}

/// How far a sending came in one channel.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Delivered {
    /// It was counted against the channel's limit.
    #[serde(default)]
    pub(crate) is_counted: bool,
    #[serde(default)]
    pub(crate) steps: BTreeMap<String, Step>,
    /// What the channel gave in the end.
    #[serde(default)]
    pub(crate) receipt: Option<Value>,
}

/// One request of a sending.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Step {
    /// It was about to be made.
    Begun(Timestamp),
    /// It was made, with this outcome.
    Done(Value),
}

/// A notice that waits for the end of quiet hours or for room in a channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Waiting {
    pub(crate) key: String,
    pub(crate) notice: Notice,
}

/// One channel: how much went through it lately, and what waits.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ChannelRecord {
    /// Beginning of the window that is counted.
    #[serde(default)]
    pub(crate) window: Option<Timestamp>,
    #[serde(default)]
    pub(crate) n_sent: u32,
    /// Over the limit of this window.
    #[serde(default)]
    pub(crate) folded: Vec<Folded>,
    /// Beginning of the window that they are over.
    #[serde(default)]
    pub(crate) folded_from: Option<Timestamp>,
    /// How many of `folded` were said.
    #[serde(default)]
    pub(crate) n_said: usize,
    /// Dedup keys of incidents that wait for the end of quiet hours.
    #[serde(default)]
    pub(crate) quiet: Vec<String>,
    /// When quiet hours end for them.
    #[serde(default)]
    pub(crate) quiet_until: Option<Timestamp>,
}

/// A notice over the limit, as far as it will be said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Folded {
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) urgency: Urgency,
}

/// A document while it is worked with.
pub(crate) struct Document<'a, T> {
    ledger: &'a dyn Ledger,
    name: String,
    stored: Option<Value>,
    pub(crate) now: T,
}

fn unkept(why: impl std::fmt::Display) -> Fault {
    Fault::new(Class::Ledger, format!("{why}"))
}

impl<'a, T: Clone + Default + Serialize + DeserializeOwned> Document<'a, T> {
    pub(crate) async fn open(ledger: &'a dyn Ledger, name: String) -> Result<Self, Fault> {
        let stored = ledger.read(&name).await.map_err(unkept)?;
        let now = read_form(&name, stored.as_ref())?;
        Ok(Self { ledger, name, stored, now })
    }

    /// Changes it, durably, on top of what others changed meanwhile.
    pub(crate) async fn change<R>(&mut self, change: impl Fn(&mut T) -> R) -> Result<R, Fault> {
        for _ in 0..SWAPS_MAX {
            let mut next = self.now.clone();
            let result = change(&mut next);
            let new = serde_json::to_value(&next).map_err(unkept)?;
            if self.stored.as_ref() == Some(&new) {
                self.now = next;
                return Ok(result);
            }
            if self.ledger.swap(&self.name, self.stored.as_ref(), &new).await.map_err(unkept)? {
                (self.stored, self.now) = (Some(new), next);
                return Ok(result);
            }
            self.stored = self.ledger.read(&self.name).await.map_err(unkept)?;
            self.now = read_form(&self.name, self.stored.as_ref())?;
        }
        Err(unkept(format!("`{}` was changed by others {SWAPS_MAX} times in a row", self.name)))
    }
}

fn read_form<T: Default + DeserializeOwned>(name: &str, stored: Option<&Value>) -> Result<T, Fault> {
    let Some(stored) = stored else { return Ok(T::default()) };
    serde_json::from_value(stored.clone()).map_err(|error| unkept(format!("`{name}` cannot be read: {error}")))
}

impl IncidentRecord {
    pub(crate) fn sending(&self, key: &str) -> Option<&Sending> {
        self.sendings.iter().find(|sending| sending.key == key)
    }

    pub(crate) fn delivered(&self, key: &str, channel: &str) -> Option<&Delivered> {
        self.sending(key)?.channels.get(channel)
    }

    pub(crate) fn delivered_mut(&mut self, key: &str, channel: &str) -> &mut Delivered {
        if !self.sendings.iter().any(|sending| sending.key == key) {
            let sending = Sending {
                key: key.to_owned(),
                urgency: Urgency::Summary,
                remarks: Vec::new(),
                channels: BTreeMap::new(),
            };
            self.push(sending);
        }
        let at = self.sendings.iter().position(|sending| sending.key == key).unwrap_or_default();
        self.sendings[at].channels.entry(channel.to_owned()).or_default()
    }

    pub(crate) fn push(&mut self, sending: Sending) {
        if self.sendings.len() >= SENDINGS_MAX {
            self.sendings.remove(0);
        }
        self.sendings.push(sending);
    }
}

/// The steps of one notice in one channel.
pub(crate) struct Steps<'d, 'a> {
    pub(crate) document: &'d mut Document<'a, IncidentRecord>,
    pub(crate) channel: &'d str,
    pub(crate) key: &'d str,
}

impl Steps<'_, '_> {
    /// What the channel remembers of the incident.
    pub(crate) fn place(&self) -> Place {
        self.document.now.places.get(self.channel).cloned().unwrap_or_default()
    }

    pub(crate) fn step(&self, name: &str) -> Option<Step> {
        self.document.now.delivered(self.key, self.channel)?.steps.get(name).cloned()
    }

    /// Leaves the intent of a request that must not be made twice, before it is made.
    pub(crate) async fn begin(&mut self, name: &str, now: Timestamp) -> Result<(), Fault> {
        self.set(name, Step::Begun(now)).await
    }

    /// Takes the intent back: the request was certainly not carried out.
    pub(crate) async fn take_back(&mut self, name: &str) -> Result<(), Fault> {
        let (channel, key) = (self.channel, self.key);
        self.document.change(|record| drop(record.delivered_mut(key, channel).steps.remove(name))).await
    }

    /// Records what a request gave, and in the same write what is remembered of it.
    pub(crate) async fn end(&mut self, name: &str, outcome: Value, place: Option<Place>) -> Result<(), Fault> {
        let (channel, key) = (self.channel, self.key);
        let change = |record: &mut IncidentRecord| {
            let steps = &mut record.delivered_mut(key, channel).steps;
            steps.insert(name.to_owned(), Step::Done(outcome.clone()));
            if let Some(place) = &place {
                record.places.insert(channel.to_owned(), place.clone());
            }
        };
        self.document.change(change).await
    }

    async fn set(&mut self, name: &str, step: Step) -> Result<(), Fault> {
        let (channel, key) = (self.channel, self.key);
        let change = |record: &mut IncidentRecord| {
            record.delivered_mut(key, channel).steps.insert(name.to_owned(), step.clone());
        };
        self.document.change(change).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn two_writers_lose_nothing_of_each_other() {
        let ledger = InMemory::default();
        let mut one: Document<'_, ChannelRecord> = Document::open(&ledger, "c".into()).await.unwrap();
        let mut other: Document<'_, ChannelRecord> = Document::open(&ledger, "c".into()).await.unwrap();
        one.change(|record| record.n_sent += 1).await.unwrap();
        other.change(|record| record.n_sent += 1).await.unwrap();
        one.change(|record| record.quiet.push("a".into())).await.unwrap();
        let read: Document<'_, ChannelRecord> = Document::open(&ledger, "c".into()).await.unwrap();
        assert_eq!((read.now.n_sent, read.now.quiet.as_slice()), (2, ["a".to_owned()].as_slice()));
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_an_error_and_is_kept() {
        let ledger = InMemory::default();
        ledger.swap("c", None, &serde_json::json!({"n_sent": "x"})).await.unwrap();
        let opened: Result<Document<'_, ChannelRecord>, Fault> = Document::open(&ledger, "c".into()).await;
        assert!(opened.map(drop).unwrap_err().detail.contains("`c` cannot be read"));
    }

    #[test]
    fn only_so_many_sendings_are_remembered() {
        let mut record = IncidentRecord::default();
        for n in 0..SENDINGS_MAX + 3 {
            record.delivered_mut(&n.to_string(), "c").is_counted = true;
        }
        assert_eq!(record.sendings.len(), SENDINGS_MAX);
        assert!(record.sending("0").is_none() && record.delivered("3", "c").is_some());
    }
}
