//! Searching: what is found, how it is cited, what age does, what is never found, and what vectors add.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use jiff::civil::{Date, date};

use crate::library::Shelf;
use crate::words::Names;
use crate::{Document, EMBED_BATCH_MAX, EmbedError, Embedder, Hit, Kind, Library, Query, Vectors};

const TODAY: Date = date(2026, 3, 31);

fn document(id: &str, text: &str) -> Document {
    Document {
        id: id.to_owned(),
        kind: Kind::Runbook,
        title: id.to_owned(),
        text: text.to_owned(),
        first_line: 5,
        version: "2".to_owned(),
        updated: None,
        deprecated: false,
        tags: Vec::new(),
    }
}

fn query(text: &str) -> Query<'_> {
    Query { text, kinds: &[], today: TODAY, limit: 5 }
}

fn ids(hits: &[Hit]) -> Vec<&str> {
    hits.iter().map(|hit| hit.citation.id.as_str()).collect()
}

#[test]
fn a_hit_is_cited_with_version_lines_and_age() {
    let mut locks = document("RB-6", "Intro.\n\n# Find\nlook into pg_locks\n\n# End\nterminate the session\n");
    locks.updated = Some(date(2026, 3, 1));
    let hits = Library::new(vec![locks, document("RB-7", "memory")]).search(query("who stands in pg_locks"));
    assert_eq!(hits[0].citation.to_string(), "runbook RB-6@2, lines 7–8");
    assert_eq!((hits[0].text.as_str(), hits[0].age_days), ("# Find\nlook into pg_locks", Some(30)));
}

#[test]
fn of_two_that_say_the_same_the_newer_goes_first() {
    let dated = |id: &str, day: Date| Document { updated: Some(day), ..document(id, "release the stuck lock") };
    let old_first = vec![
        dated("old", date(2020, 1, 1)),
        document("undated", "release the stuck lock"),
        dated("new", date(2026, 3, 1)),
    ];
    assert_eq!(ids(&Library::new(old_first).search(query("stuck lock"))), ["new", "undated", "old"]);
    // Age lowers and never hides: what fits far better goes before what is new.
    let texts = vec![
        Document { updated: Some(date(2010, 1, 1)), ..document("fits", "deadlock detected by the rollup: retry once") },
        Document { updated: Some(TODAY), ..document("new", "other matters, and how a deadlock is spelt") },
    ];
    assert_eq!(ids(&Library::new(texts).search(query("deadlock in rollup"))), ["fits", "new"]);
}

#[test]
fn what_is_out_of_use_is_never_found() {
    let documents = || {
        let old =
            Document { deprecated: true, ..document("OLD", "permission denied: GRANT ALL to everybody, quick fix") };
        vec![old, document("RB-2", "permission denied: grant exactly the missing right")]
    };
    let question = query("quick fix for permission denied");
    assert_eq!(ids(&Library::new(documents()).search(question)), ["RB-2"]);
    // The weakened variant gives the dangerous advice first.
    let all = Library::of(documents(), Shelf::All, Names::Split);
    assert_eq!(ids(&all.search(question)), ["OLD", "RB-2"]);
}

#[test]
fn kinds_limits_and_long_documents() {
    let long = "# one\nstuck lock\n# two\nstuck lock\n# three\nstuck lock\n# four\nstuck lock";
    let schema = Document { kind: Kind::Schema, ..document("dw.fact_sales", "table with a stuck lock column") };
    let library = Library::new(vec![document("long", long), schema, document("else", "stuck lock")]);
    assert_eq!(ids(&library.search(query("stuck lock"))), ["long", "else", "long", "dw.fact_sales"]);
    assert_eq!(ids(&library.search(Query { kinds: &[Kind::Schema], ..query("stuck lock") })), ["dw.fact_sales"]);
    assert_eq!(library.search(Query { limit: 1, ..query("stuck lock") }).len(), 1);
    assert!(library.search(query("")).is_empty() && library.search(query("zebra")).is_empty());
    assert!(Library::new(Vec::new()).search(query("stuck lock")).is_empty());
}

/// Knows that a few words mean the same, counts what it is asked, and may fail.
#[derive(Debug, Default)]
struct Meaning {
    n_texts: AtomicUsize,
    largest: AtomicUsize,
    broken: bool,
}

#[async_trait]
impl Embedder for Meaning {
    fn model(&self) -> &str {
        "meaning"
    }

    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, EmbedError> {
        self.n_texts.fetch_add(texts.len(), Ordering::SeqCst);
        self.largest.fetch_max(texts.len(), Ordering::SeqCst);
        if self.broken {
            return Err(EmbedError("no connection".to_owned()));
        }
        let has = |text: &str, words: &[&str]| if words.iter().any(|word| text.contains(word)) { 1.0 } else { 0.0 };
        Ok(texts.iter().map(|text| vec![has(text, &["memory", "RAM"]), has(text, &["login", "sign in"])]).collect())
    }
}

#[tokio::test]
async fn vectors_find_what_words_do_not_and_are_made_once() {
    let meaning = Arc::new(Meaning::default());
    let vectors = Vectors::new(Arc::clone(&meaning) as Arc<dyn Embedder>);
    let library = Library::new(vec![document("RB-8", "login refused"), document("RB-7", "killed for memory")]);
    let question = query("not enough RAM");
    assert!(library.search(question).is_empty());
    let (hits, error) = library.search_with(question, Some(&vectors)).await;
    assert_eq!((ids(&hits), error), (vec!["RB-7"], None));
    library.search_with(query("cannot sign in"), Some(&vectors)).await;
    assert_eq!(meaning.n_texts.load(Ordering::SeqCst), 4, "two pieces and two questions, each once");
    // Both lists: what both have goes first.
    let (hits, _) = library.search_with(query("login refused for lack of memory"), Some(&vectors)).await;
    assert_eq!(ids(&hits), ["RB-8", "RB-7"]);
}

#[tokio::test]
async fn without_vectors_or_with_broken_ones_words_answer() {
    let library = Library::new(vec![document("RB-8", "login refused")]);
    let broken = Vectors::new(Arc::new(Meaning { broken: true, ..Meaning::default() }));
    let (hits, error) = library.search_with(query("login refused"), Some(&broken)).await;
    assert_eq!((ids(&hits), error), (vec!["RB-8"], Some(EmbedError("no connection".to_owned()))));
    let (hits, error) = library.search_with(query("login refused"), None).await;
    assert_eq!((ids(&hits), error), (vec!["RB-8"], None));
}

#[tokio::test]
async fn vectors_are_asked_for_in_batches() {
    let meaning = Arc::new(Meaning::default());
    let vectors = Vectors::new(Arc::clone(&meaning) as Arc<dyn Embedder>);
    let documents = (0..EMBED_BATCH_MAX * 2 + 1).map(|n| document(&format!("d{n}"), &format!("memory {n}"))).collect();
    Library::new(documents).search_with(query("RAM"), Some(&vectors)).await;
    assert_eq!(meaning.largest.load(Ordering::SeqCst), EMBED_BATCH_MAX);
    assert_eq!(meaning.n_texts.load(Ordering::SeqCst), EMBED_BATCH_MAX * 2 + 2);
}
