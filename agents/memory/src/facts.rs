//! Small things worth knowing for a while: key and value in a namespace, who noted it and when, with a time to live. The
//! time is an argument.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Most facts of one collection.
const FACTS_MAX: usize = 256;
/// Most bytes of one collection: names, values and who noted them.
const BYTES_MAX: usize = 256 * 1024;
/// Longest value as JSON, in bytes. A longer text is a runbook.
const VALUE_BYTES_MAX: usize = 4 * 1024;
/// Longest label of a namespace, key, and name of who notes, in bytes.
const LABEL_BYTES_MAX: usize = 128;
/// Deepest namespace.
const DEPTH_MAX: usize = 8;

/// Labels from the widest to the narrowest: `pipelines.sales_etl`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Namespace(Vec<String>);

/// Why a fact is not kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FactError {
    /// Empty, too long, or with a control character.
    #[error(
        "`{0}` is no name of a fact: write 1 to {DEPTH_MAX} labels with dots between them, and a key without dots, each of 1 to {LABEL_BYTES_MAX} bytes"
    )]
    Name(String),
    /// Nobody, or a long or odd name.
    #[error("a fact says who noted it, in 1 to {LABEL_BYTES_MAX} bytes")]
    By,
    /// Too large.
    #[error("a fact has at most {VALUE_BYTES_MAX} bytes of JSON; this one has {0}")]
    Large(usize),
    /// No room.
    #[error(
        "there is no room beside the facts that are kept ({FACTS_MAX}, or {BYTES_MAX} bytes): delete some, or give them a time to live"
    )]
    Full,
}

impl Namespace {
    /// A namespace of labels.
    ///
    /// # Errors
    /// A label or their number cannot be used.
    pub fn new<T: Into<String>>(labels: impl IntoIterator<Item = T>) -> Result<Self, FactError> {
        let labels: Vec<String> = labels.into_iter().take(DEPTH_MAX + 1).map(Into::into).collect();
        if labels.is_empty() || labels.len() > DEPTH_MAX || !labels.iter().all(|label| is_label(label)) {
            return Err(FactError::Name(shown(&labels.join("."))));
        }
        Ok(Self(labels))
    }

    /// Whether it is `outer`, or inside it.
    pub fn is_within(&self, outer: &Namespace) -> bool {
        self.0.starts_with(&outer.0)
    }
}

impl FromStr for Namespace {
    type Err = FactError;

    fn from_str(text: &str) -> Result<Self, FactError> {
        Self::new(text.split('.'))
    }
}

impl TryFrom<String> for Namespace {
    type Error = FactError;

    fn try_from(text: String) -> Result<Self, FactError> {
        text.parse()
    }
}

impl From<Namespace> for String {
    fn from(namespace: Namespace) -> Self {
        namespace.to_string()
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

/// A label of a namespace, or a key. Neither has a dot, so that `pipelines.sales.owner` is one fact and no other.
fn is_label(text: &str) -> bool {
    is_name(text) && !text.contains('.')
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= LABEL_BYTES_MAX && !text.chars().any(char::is_control)
}

/// A name in a message.
fn shown(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(LABEL_BYTES_MAX).collect()
}

/// A value, who noted it, when, and until when it is worth knowing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fact {
    /// What is known.
    pub value: Value,
    /// Who says so.
    pub by: String,
    /// Since when.
    pub at: Timestamp,
    /// When it runs out; never, without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

impl Fact {
    /// A value that is known from `now` on, for as long as it has to live.
    pub fn new(value: Value, by: &str, (ttl, now): (Option<Duration>, Timestamp)) -> Self {
        // What would expire after the end of time does not.
        let expires = ttl.and_then(|ttl| now.checked_add(ttl).ok());
        Self { value, by: by.to_owned(), at: now, expires }
    }

    fn is_alive(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

/// What is known for a while.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<Entry>", into = "Vec<Entry>")]
pub struct Facts {
    known: BTreeMap<(Namespace, String), Fact>,
}

/// A fact as it is stored.
#[derive(Serialize, Deserialize)]
struct Entry {
    namespace: Namespace,
    key: String,
    #[serde(flatten)]
    fact: Fact,
}

impl From<Vec<Entry>> for Facts {
    fn from(entries: Vec<Entry>) -> Self {
        Self { known: entries.into_iter().map(|entry| ((entry.namespace, entry.key), entry.fact)).collect() }
    }
}

impl From<Facts> for Vec<Entry> {
    fn from(facts: Facts) -> Self {
        let entry = |((namespace, key), fact)| Entry { namespace, key, fact };
        facts.known.into_iter().map(entry).collect()
    }
}

impl Facts {
    /// Keeps a fact in place of the one that was there, which is given back. What has run out makes room before.
    ///
    /// # Errors
    /// Name, size, or no room.
    pub fn put(&mut self, namespace: &Namespace, key: &str, fact: Fact) -> Result<Option<Fact>, FactError> {
        if !is_label(key) {
            return Err(FactError::Name(shown(&format!("{namespace} {key}"))));
        }
        if !is_name(&fact.by) {
            return Err(FactError::By);
        }
        let size = fact.value.to_string().len();
        if size > VALUE_BYTES_MAX {
            return Err(FactError::Large(size));
        }
        self.sweep(fact.at);
        let place = (namespace.clone(), key.to_owned());
        let before = self.known.remove(&place);
        let bytes: usize = self.known.iter().map(|(place, fact)| weight(place, fact)).sum();
        if self.known.len() >= FACTS_MAX || bytes + weight(&place, &fact) > BYTES_MAX {
            self.known.extend(before.map(|before| (place, before)));
            return Err(FactError::Full);
        }
        self.known.insert(place, fact);
        Ok(before)
    }

    /// A fact, unless it has run out.
    pub fn get(&self, namespace: &Namespace, key: &str, now: Timestamp) -> Option<&Fact> {
        let fact = self.known.get(&(namespace.clone(), key.to_owned()))?;
        fact.is_alive(now).then_some(fact)
    }

    /// What is known now, in order.
    pub fn list(&self, now: Timestamp) -> impl Iterator<Item = (&Namespace, &str, &Fact)> {
        let alive = self.known.iter().filter(move |(_, fact)| fact.is_alive(now));
        alive.map(|((namespace, key), fact)| (namespace, key.as_str(), fact))
    }

    /// Forgets a fact and gives it back.
    pub fn delete(&mut self, namespace: &Namespace, key: &str) -> Option<Fact> {
        self.known.remove(&(namespace.clone(), key.to_owned()))
    }

    /// Forgets what has run out; how many.
    pub fn sweep(&mut self, now: Timestamp) -> usize {
        let before = self.known.len();
        self.known.retain(|_, fact| fact.is_alive(now));
        before - self.known.len()
    }
}

fn weight((namespace, key): &(Namespace, String), fact: &Fact) -> usize {
    let labels: usize = namespace.0.iter().map(|label| label.len() + 1).sum();
    labels + key.len() + fact.by.len() + fact.value.to_string().len()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn ns(text: &str) -> Namespace {
        text.parse().unwrap()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn fact(value: Value, ttl: Option<Duration>, now: i64) -> Fact {
        Fact::new(value, "ana", (ttl, at(now)))
    }

    #[test]
    fn a_fact_lives_as_long_as_it_was_given() {
        let (mut facts, sales) = (Facts::default(), ns("pipelines.sales"));
        facts.put(&sales, "owner", fact(json!("shop"), None, 0)).unwrap();
        facts.put(&sales, "freeze", fact(json!(true), Some(DAY), 0)).unwrap();
        let freeze = |now| facts.get(&sales, "freeze", at(now)).map(|fact| fact.value.clone());
        assert_eq!((freeze(86_399), freeze(86_400)), (Some(json!(true)), None));
        assert_eq!(facts.list(at(86_400)).count(), 1);
        assert_eq!((facts.sweep(at(86_400)), facts.sweep(at(86_400))), (1, 0));
        assert_eq!(facts.get(&sales, "owner", at(i64::from(i32::MAX))).unwrap().by, "ana");
    }

    #[test]
    fn namespaces_keep_apart_and_nest() {
        let mut facts = Facts::default();
        for (namespace, n) in [("a", 1), ("a.b", 2), ("ab", 3)] {
            facts.put(&ns(namespace), "k", fact(json!(n), None, 0)).unwrap();
        }
        let outer = ns("a");
        let within = facts.list(at(1)).filter(|(namespace, ..)| namespace.is_within(&outer));
        assert_eq!(within.map(|(.., fact)| fact.value.clone()).collect::<Vec<_>>(), [json!(1), json!(2)]);
        assert_eq!(facts.delete(&ns("a"), "k").map(|fact| fact.value), Some(json!(1)));
        assert_eq!(facts.delete(&ns("a"), "k"), None);
        assert_eq!(facts.get(&ns("a.b"), "k", at(1)).map(|fact| &fact.value), Some(&json!(2)));
    }

    #[test]
    fn what_is_stored_is_read_back() {
        let mut facts = Facts::default();
        facts.put(&ns("pipelines.sales"), "owner", fact(json!("shop"), Some(DAY), 0)).unwrap();
        let stored = serde_json::to_value(&facts).unwrap();
        assert_eq!(
            stored,
            json!([{
                "namespace": "pipelines.sales", "key": "owner", "value": "shop", "by": "ana",
                "at": "1970-01-01T00:00:00Z", "expires": "1970-01-02T00:00:00Z",
            }])
        );
        assert_eq!(serde_json::from_value::<Facts>(stored).unwrap(), facts);
    }

    #[test]
    fn names_have_bounds() {
        for wrong in ["", "a..b", "a.", ".a", "a.\n", &"x".repeat(LABEL_BYTES_MAX + 1), &["a"; DEPTH_MAX + 1].join(".")]
        {
            assert!(matches!(wrong.parse::<Namespace>(), Err(FactError::Name(_))), "{wrong}");
        }
        let mut facts = Facts::default();
        for key in ["", "a.b", "a\n"] {
            assert!(matches!(facts.put(&ns("a"), key, fact(json!(1), None, 0)), Err(FactError::Name(_))), "{key}");
        }
        for by in ["", "a\nb", &"x".repeat(LABEL_BYTES_MAX + 1)] {
            let fact = Fact { by: by.to_owned(), ..fact(json!(1), None, 0) };
            assert_eq!(facts.put(&ns("a"), "k", fact), Err(FactError::By));
        }
    }

    #[test]
    fn what_is_full_refuses_and_what_has_run_out_makes_room() {
        let mut facts = Facts::default();
        let large = json!("x".repeat(VALUE_BYTES_MAX));
        assert_eq!(facts.put(&ns("a"), "k", fact(large, None, 0)), Err(FactError::Large(VALUE_BYTES_MAX + 2)));
        for n in 0..FACTS_MAX {
            facts.put(&ns("a"), &n.to_string(), fact(json!(n), Some(DAY), 0)).unwrap();
        }
        let full = facts.clone();
        assert_eq!(facts.put(&ns("a"), "new", fact(json!(1), None, 1)), Err(FactError::Full));
        assert_eq!(facts, full, "what is refused changes nothing");
        let before = facts.put(&ns("a"), "7", fact(json!("replaced"), None, 1)).unwrap();
        assert_eq!(before.map(|fact| fact.value), Some(json!(7)));
        facts.put(&ns("a"), "new", fact(json!(1), None, 86_401)).unwrap();
        assert_eq!(facts.list(at(86_401)).count(), 2);
    }

    #[test]
    fn a_collection_has_a_bound_in_bytes() {
        let (mut facts, text) = (Facts::default(), "x".repeat(VALUE_BYTES_MAX - 2));
        let kept = (0..FACTS_MAX).take_while(|n| {
            facts
                .put(&ns("a"), &n.to_string(), fact(json!(text), None, 0))
                .map_err(|error| assert_eq!(error, FactError::Full))
                .is_ok()
        });
        assert_eq!(kept.count(), BYTES_MAX / VALUE_BYTES_MAX - 1);
    }
}
