//! The facts of an installation, in its store: what people and the runtime noted, until it runs out.
//!
//! A namespace lies whole in one of a fixed number of documents, chosen by its digest. So a change rewrites a small
//! document however many pipelines there are, an agent reads a few of them, a listing reads them all, and there is no list
//! of names that could miss one. What has run out is swept from a document when it is written.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use memory::{Fact, FactError, Facts, Namespace};
use runtime::ports::store::{Store, StoreError};
use runtime_core::interlocks::redact;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Documents that facts are spread over. Another number would look for facts where they are not.
const DOCUMENTS: u8 = 64;
/// Tries to change a document that others change too.
const SWAPS_MAX: usize = 100;

/// Why a fact is not noted, or cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum NotebookError {
    /// It cannot be kept as it is.
    #[error(transparent)]
    Fact(#[from] FactError),
    /// What people and models are shown is no place for it.
    #[error(
        "`{0}` looks like a secret, by its name or its text, and facts are shown to people and models: keep it where secrets are kept, and note where that is"
    )]
    Secret(String),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A document is not what was written.
    #[error("document `{document}` is damaged: {why}")]
    Damaged {
        /// Its name.
        document: String,
        /// What is wrong with it.
        why: String,
    },
    /// Others were faster, again and again.
    #[error("the facts of `{0}` changed {SWAPS_MAX} times while they were to be changed: try again")]
    Contended(Namespace),
}

/// A fact where it stands.
pub type Placed = (Namespace, String, Fact);

/// The facts of an installation.
#[derive(Clone)]
pub struct Notebook {
    store: Arc<dyn Store>,
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl fmt::Debug for Notebook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notebook").field("store", &self.store.name()).finish_non_exhaustive()
    }
}

impl Notebook {
    /// The facts in a store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, now: Arc::new(Timestamp::now) }
    }

    /// The same with another clock.
    #[must_use]
    pub fn at(self, now: Arc<dyn Fn() -> Timestamp + Send + Sync>) -> Self {
        Self { now, ..self }
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.now)()
    }

    /// A fact, unless it has run out.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn get(&self, namespace: &Namespace, key: &str) -> Result<Option<Fact>, NotebookError> {
        let (_, facts) = self.read(&document_of(namespace)).await?;
        Ok(facts.get(namespace, key, self.now()).cloned())
    }

    /// The facts of exactly these namespaces, in their order.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn of(&self, namespaces: &[Namespace]) -> Result<Vec<Placed>, NotebookError> {
        let (now, mut read, mut found) = (self.now(), BTreeMap::new(), Vec::new());
        for namespace in namespaces {
            let document = document_of(namespace);
            if !read.contains_key(&document) {
                let (_, facts) = self.read(&document).await?;
                read.insert(document.clone(), facts);
            }
            let facts = read.get(&document).into_iter().flat_map(|facts| facts.list(now));
            found.extend(facts.filter(|(of, ..)| *of == namespace).map(placed));
        }
        Ok(found)
    }

    /// The facts within a namespace, or all of them, in order.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn list(&self, outer: Option<&Namespace>) -> Result<Vec<Placed>, NotebookError> {
        let (now, mut found) = (self.now(), Vec::new());
        for n in 0..DOCUMENTS {
            let (_, facts) = self.read(&document(n)).await?;
            let within = facts.list(now).filter(|(of, ..)| outer.is_none_or(|outer| of.is_within(outer)));
            found.extend(within.map(placed));
        }
        found.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        Ok(found)
    }

    /// Notes a fact in place of the one that was there, which is given back.
    ///
    /// # Errors
    /// It cannot be kept, it looks like a secret, or those of the store.
    pub async fn set(
        &self,
        (namespace, key): (&Namespace, &str),
        value: &Value,
        (by, ttl): (&str, Option<Duration>),
    ) -> Result<(Option<Fact>, Fact), NotebookError> {
        check(namespace, (key, value), by)?;
        self.change(namespace, |facts, now| {
            let fact = Fact::new(value.clone(), by, (ttl, now));
            facts.put(namespace, key, fact.clone()).map(|before| (before, fact))
        })
        .await
    }

    /// Forgets a fact and gives it back.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn delete(&self, namespace: &Namespace, key: &str) -> Result<Option<Fact>, NotebookError> {
        self.change(namespace, |facts, _| Ok(facts.delete(namespace, key))).await
    }

    /// Changes a document, alone: read, decide, compare and swap, until nobody was in between.
    async fn change<T>(
        &self,
        namespace: &Namespace,
        mut decide: impl FnMut(&mut Facts, Timestamp) -> Result<T, FactError>,
    ) -> Result<T, NotebookError> {
        let document = document_of(namespace);
        for _ in 0..SWAPS_MAX {
            let (stored, before) = self.read(&document).await?;
            let (now, mut facts) = (self.now(), before.clone());
            facts.sweep(now);
            let decided = decide(&mut facts, now)?;
            if facts == before || self.store.swap_document(&document, stored.as_ref(), &json!(facts)).await? {
                return Ok(decided);
            }
        }
        Err(NotebookError::Contended(namespace.clone()))
    }

    async fn read(&self, document: &str) -> Result<(Option<Value>, Facts), NotebookError> {
        let Some(stored) = self.store.document(document).await? else { return Ok((None, Facts::default())) };
        let damaged =
            |error: serde_json::Error| NotebookError::Damaged { document: document.to_owned(), why: error.to_string() };
        let facts = serde_json::from_value(stored.clone()).map_err(damaged)?;
        Ok((Some(stored), facts))
    }
}

/// Whether a fact may be noted as it is, as far as that can be told without the others.
///
/// # Errors
/// A name or a size that cannot be used, or what looks like a secret.
pub fn check(namespace: &Namespace, (key, value): (&str, &Value), by: &str) -> Result<(), NotebookError> {
    Facts::default().put(namespace, key, Fact::new(value.clone(), by, (None, Timestamp::UNIX_EPOCH)))?;
    let plain = json!({ key: value });
    if redact::whole(&plain) != plain {
        return Err(NotebookError::Secret(cites(namespace, key)));
    }
    Ok(())
}

/// How a fact is cited.
pub fn cites(namespace: &Namespace, key: &str) -> String {
    format!("fact:{namespace}.{key}")
}

fn placed((namespace, key, fact): (&Namespace, &str, &Fact)) -> Placed {
    (namespace.clone(), key.to_owned(), fact.clone())
}

fn document_of(namespace: &Namespace) -> String {
    let digest = Sha256::digest(namespace.to_string().as_bytes());
    document(digest.first().map_or(0, |byte| byte % DOCUMENTS))
}

fn document(n: u8) -> String {
    format!("facts:{n:02}")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use checkpoints::open::{Address, OpenOptions, memory, open};

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn ns(text: &str) -> Namespace {
        text.parse().unwrap()
    }

    fn over(store: Arc<dyn Store>) -> (Notebook, Arc<AtomicI64>) {
        let seconds = Arc::new(AtomicI64::new(1_700_000_000));
        let clock = Arc::clone(&seconds);
        let now = move || Timestamp::from_second(clock.load(Ordering::SeqCst)).unwrap();
        (Notebook::new(store).at(Arc::new(now)), seconds)
    }

    fn in_memory() -> Arc<dyn Store> {
        Arc::new(memory(&OpenOptions::default()))
    }

    async fn note(book: &Notebook, namespace: &str, key: &str, ttl: Option<Duration>) {
        book.set((&ns(namespace), key), &json!(key), ("ana", ttl)).await.unwrap();
    }

    async fn names(book: &Notebook, outer: Option<&str>) -> Vec<String> {
        let outer = outer.map(ns);
        let found = book.list(outer.as_ref()).await.unwrap();
        found.iter().map(|(namespace, key, _)| cites(namespace, key)).collect()
    }

    #[tokio::test]
    async fn facts_are_found_by_namespace_and_run_out() {
        let (book, seconds) = over(in_memory());
        note(&book, "pipelines.sales", "owner", None).await;
        note(&book, "pipelines.sales", "freeze", Some(DAY)).await;
        note(&book, "pipelines.sales.eu", "owner", None).await;
        note(&book, "team", "on_call", None).await;
        assert_eq!(
            names(&book, Some("pipelines")).await,
            ["fact:pipelines.sales.freeze", "fact:pipelines.sales.owner", "fact:pipelines.sales.eu.owner"]
        );
        let of = book.of(&[ns("team"), ns("pipelines.sales"), ns("pipelines.none")]).await.unwrap();
        assert_eq!(of.iter().map(|(_, key, _)| key.as_str()).collect::<Vec<_>>(), ["on_call", "freeze", "owner"]);
        seconds.fetch_add(86_400, Ordering::SeqCst);
        assert_eq!(book.get(&ns("pipelines.sales"), "freeze").await.unwrap(), None);
        assert_eq!(names(&book, None).await.len(), 3);
        assert!(book.delete(&ns("team"), "on_call").await.unwrap().is_some());
        assert!(book.delete(&ns("team"), "on_call").await.unwrap().is_none());
    }

    #[tokio::test]
    async fn what_has_run_out_is_swept_when_its_document_is_written() {
        let store = in_memory();
        let (book, seconds) = over(Arc::clone(&store));
        note(&book, "team", "freeze", Some(DAY)).await;
        seconds.fetch_add(86_401, Ordering::SeqCst);
        note(&book, "team", "on_call", None).await;
        let stored = store.document(&document_of(&ns("team"))).await.unwrap().unwrap();
        assert_eq!(stored.as_array().map(Vec::len), Some(1), "{stored}");
    }

    #[tokio::test]
    async fn every_backend_keeps_facts_over_a_restart() {
        for make in [|at: std::path::PathBuf| Address::Sled(at), |at: std::path::PathBuf| Address::Fjall(at)] {
            let folder = tempfile::tempdir().unwrap();
            for n in 0..2 {
                let store = open(&make(folder.path().join("s")), &OpenOptions::default()).unwrap();
                let (book, _) = over(Arc::clone(&store));
                assert_eq!(names(&book, None).await.len(), n);
                note(&book, "pipelines.sales", "owner", None).await;
                store.close().await.unwrap();
            }
        }
    }

    #[tokio::test]
    async fn writers_at_once_lose_nothing() {
        let store = in_memory();
        let write = |n: usize| {
            let (book, _) = over(Arc::clone(&store));
            async move { note(&book, "team", &format!("k{n}"), None).await }
        };
        futures_util::future::join_all((0..16).map(write)).await;
        assert_eq!(names(&over(store).0, None).await.len(), 16);
    }

    #[tokio::test]
    async fn a_secret_is_not_noted_and_damage_is_no_empty_notebook() {
        let store = in_memory();
        let (book, _) = over(Arc::clone(&store));
        for (key, value) in [("api_token", "abc"), ("note", "use ghp_0123456789abcdef"), ("dsn", "x")] {
            let refused = book.set((&ns("team"), key), &json!(value), ("ana", None)).await.unwrap_err();
            assert!(matches!(&refused, NotebookError::Secret(which) if which == &cites(&ns("team"), key)), "{refused}");
        }
        assert_eq!(names(&book, None).await.len(), 0);
        store.swap_document(&document_of(&ns("team")), None, &json!({ "odd": 1 })).await.unwrap();
        let damaged = book.set((&ns("team"), "k"), &json!(1), ("ana", None)).await.unwrap_err();
        assert!(damaged.to_string().contains("is damaged"), "{damaged}");
    }

    /// Documents of before must be found: neither the number of documents nor the choice among them may change.
    #[test]
    fn a_namespace_lies_where_it_lay() {
        let places = ["team", "pipelines.sales_etl", "tables.orders"].map(|text| document_of(&ns(text)));
        expect_test::expect!["facts:10 facts:57 facts:24"].assert_eq(&places.join(" "));
    }
}
