//! Small things worth knowing for a while: key and value in a namespace, with a time to live. The time is an argument.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Most facts of all namespaces.
const FACTS_MAX: usize = 10_000;
/// Longest value as JSON, in bytes.
const VALUE_BYTES_MAX: usize = 16 * 1024;
/// Longest key, and longest label of a namespace, in bytes.
const KEY_BYTES_MAX: usize = 256;
/// Deepest namespace.
const DEPTH_MAX: usize = 8;

/// Labels from the widest to the narrowest: `["pipelines", "sales_etl"]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Namespace(Vec<String>);

/// Why a fact is not kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FactError {
    /// Empty, too long, or with a dot or a control character.
    #[error(
        "a namespace has 1 to {DEPTH_MAX} labels and a key is not empty, each of at most {KEY_BYTES_MAX} bytes, labels without dots"
    )]
    Name,
    /// Too large.
    #[error("a fact has at most {VALUE_BYTES_MAX} bytes of JSON; this one has {0}")]
    Large(usize),
    /// No room.
    #[error("{FACTS_MAX} facts are kept and none of them has run out: delete some, or give them a time to live")]
    Full,
}

impl Namespace {
    /// A namespace of labels.
    ///
    /// # Errors
    /// A label or their number cannot be used.
    pub fn new<T: Into<String>>(labels: impl IntoIterator<Item = T>) -> Result<Self, FactError> {
        let labels: Vec<String> = labels.into_iter().take(DEPTH_MAX + 1).map(Into::into).collect();
        let fits = |label: &String| is_key(label) && !label.contains('.');
        if labels.is_empty() || labels.len() > DEPTH_MAX || !labels.iter().all(fits) {
            return Err(FactError::Name);
        }
        Ok(Self(labels))
    }

    fn is_within(&self, outer: &[String]) -> bool {
        self.0.starts_with(outer)
    }
}

impl TryFrom<Vec<String>> for Namespace {
    type Error = FactError;

    fn try_from(labels: Vec<String>) -> Result<Self, FactError> {
        Self::new(labels)
    }
}

impl From<Namespace> for Vec<String> {
    fn from(namespace: Namespace) -> Self {
        namespace.0
    }
}

fn is_key(text: &str) -> bool {
    !text.is_empty() && text.len() <= KEY_BYTES_MAX && !text.chars().any(char::is_control)
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Fact {
    value: Value,
    expires: Option<Timestamp>,
}

/// What is known for a while.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    known: BTreeMap<(Namespace, String), Fact>,
}

impl Facts {
    /// Keeps a value, in place of the one that was there. Without a time to live it stays.
    ///
    /// # Errors
    /// Name, size, or no room: what has run out makes room before.
    pub fn put(
        &mut self,
        namespace: Namespace,
        key: &str,
        value: Value,
        (ttl, now): (Option<Duration>, Timestamp),
    ) -> Result<(), FactError> {
        if !is_key(key) {
            return Err(FactError::Name);
        }
        let size = value.to_string().len();
        if size > VALUE_BYTES_MAX {
            return Err(FactError::Large(size));
        }
        let place = (namespace, key.to_owned());
        if self.known.len() >= FACTS_MAX && !self.known.contains_key(&place) {
            self.sweep(now);
            if self.known.len() >= FACTS_MAX {
                return Err(FactError::Full);
            }
        }
        // What would expire after the end of time does not.
        let expires = ttl.and_then(|ttl| now.checked_add(ttl).ok());
        self.known.insert(place, Fact { value, expires });
        Ok(())
    }

    /// The value, unless it has run out.
    pub fn get(&self, namespace: &Namespace, key: &str, now: Timestamp) -> Option<&Value> {
        let fact = self.known.get(&(namespace.clone(), key.to_owned()))?;
        fact.is_alive(now).then_some(&fact.value)
    }

    /// What is known within a namespace and those inside it, in order; no label is everything.
    pub fn list<'a>(
        &'a self,
        outer: &'a [String],
        now: Timestamp,
    ) -> impl Iterator<Item = (&'a Namespace, &'a str, &'a Value)> {
        let within = self.known.iter().filter(move |((namespace, _), _)| namespace.is_within(outer));
        let alive = within.filter(move |(_, fact)| fact.is_alive(now));
        alive.map(|((namespace, key), fact)| (namespace, key.as_str(), &fact.value))
    }

    /// Forgets a value; whether it was there.
    pub fn delete(&mut self, namespace: &Namespace, key: &str) -> bool {
        self.known.remove(&(namespace.clone(), key.to_owned())).is_some()
    }

    /// Forgets what has run out; how many.
    pub fn sweep(&mut self, now: Timestamp) -> usize {
        let before = self.known.len();
        self.known.retain(|_, fact| fact.is_alive(now));
        before - self.known.len()
    }
}

impl Fact {
    fn is_alive(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn ns(labels: &[&str]) -> Namespace {
        Namespace::new(labels.iter().copied()).unwrap()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn a_fact_lives_as_long_as_it_was_given() {
        let mut facts = Facts::default();
        facts.put(ns(&["pipelines", "sales"]), "owner", json!("shop"), (None, at(0))).unwrap();
        facts.put(ns(&["pipelines", "sales"]), "freeze", json!(true), (Some(DAY), at(0))).unwrap();
        assert_eq!(facts.get(&ns(&["pipelines", "sales"]), "freeze", at(86_399)), Some(&json!(true)));
        assert_eq!(facts.get(&ns(&["pipelines", "sales"]), "freeze", at(86_400)), None);
        assert_eq!(facts.list(&[], at(86_400)).count(), 1);
        assert_eq!((facts.sweep(at(86_400)), facts.sweep(at(86_400))), (1, 0));
        assert_eq!(facts.get(&ns(&["pipelines", "sales"]), "owner", at(i64::from(i32::MAX))), Some(&json!("shop")));
    }

    #[test]
    fn namespaces_keep_apart_and_nest() {
        let mut facts = Facts::default();
        facts.put(ns(&["a"]), "k", json!(1), (None, at(0))).unwrap();
        facts.put(ns(&["a", "b"]), "k", json!(2), (None, at(0))).unwrap();
        facts.put(ns(&["ab"]), "k", json!(3), (None, at(0))).unwrap();
        let outer = ["a".to_owned()];
        let within: Vec<&Value> = facts.list(&outer, at(1)).map(|(_, _, value)| value).collect();
        assert_eq!(within, [&json!(1), &json!(2)]);
        assert!(facts.delete(&ns(&["a"]), "k") && !facts.delete(&ns(&["a"]), "k"));
        assert_eq!(facts.get(&ns(&["a", "b"]), "k", at(1)), Some(&json!(2)));
    }

    #[test]
    fn bounds_refuse_and_what_has_run_out_makes_room() {
        assert_eq!(Namespace::new(Vec::<String>::new()), Err(FactError::Name));
        assert_eq!(Namespace::new(["a.b"]), Err(FactError::Name));
        assert_eq!(Namespace::new(vec!["a"; DEPTH_MAX + 1]), Err(FactError::Name));
        let mut facts = Facts::default();
        assert_eq!(facts.put(ns(&["a"]), "", json!(1), (None, at(0))), Err(FactError::Name));
        let large = json!("x".repeat(VALUE_BYTES_MAX));
        assert_eq!(facts.put(ns(&["a"]), "k", large, (None, at(0))), Err(FactError::Large(VALUE_BYTES_MAX + 2)));
        for n in 0..FACTS_MAX {
            facts.put(ns(&["a"]), &n.to_string(), json!(n), (Some(DAY), at(0))).unwrap();
        }
        assert_eq!(facts.put(ns(&["a"]), "new", json!(1), (None, at(1))), Err(FactError::Full));
        facts.put(ns(&["a"]), "7", json!("replaced"), (None, at(1))).unwrap();
        facts.put(ns(&["a"]), "new", json!(1), (None, at(86_401))).unwrap();
        assert_eq!(facts.list(&[], at(86_401)).count(), 2);
    }
}
