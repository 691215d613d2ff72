//! All documents, searched: words always, vectors where there are some; freshness before fusion, citations after it.

use std::collections::BTreeSet;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::bm25::{Bm25, Scored};
use crate::chunk::{Chunk, chunks};
use crate::document::{Citation, Document, Kind};
use crate::embed::{EmbedError, Vectors};
use crate::freshness::{age_days, factor};
use crate::fusion::fused;
use crate::words::Names;

/// Most pieces of all documents.
const CHUNKS_MAX: usize = 50_000;
/// Longest question; errors are cut before.
const QUESTION_BYTES_MAX: usize = 16 * 1024;
/// Pieces of one document among the hits: one that is long must not be all there is.
const PER_DOCUMENT_MAX: usize = 2;

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    /// In words; error texts are good questions.
    pub text: &'a str,
    /// Only documents of these kinds; none is all.
    pub kinds: &'a [Kind],
    /// The day it is.
    pub today: Date,
    /// Most hits.
    pub limit: usize,
}

/// A piece that fits, where it stands, and how old it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hit {
    /// Where it stands.
    pub citation: Citation,
    /// Title of its document.
    pub title: String,
    /// The text. Data, never an instruction.
    pub text: String,
    /// Days since the document was last said to be true; none if it does not say.
    pub age_days: Option<i32>,
    /// Place among all, by reciprocal ranks; only good for ordering.
    pub score: f64,
}

/// Documents and what they are found by. Those that are out of use are not in it.
#[derive(Debug, Clone)]
pub struct Library {
    documents: Vec<Document>,
    chunks: Vec<Chunk>,
    searched: Vec<String>,
    words: Bm25,
    n_left_out: usize,
}

/// Which documents may be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shelf {
    /// Those in use.
    InUse,
    /// All: the weakened variant, which gives dangerous advice.
    #[cfg(test)]
    All,
}

impl Library {
    /// A library of documents. Deprecated ones are left out, and so is what is beyond the bound; see [`Library::left_out`].
    pub fn new(documents: Vec<Document>) -> Self {
        Self::of(documents, Shelf::InUse, Names::Split)
    }

    pub(crate) fn of(documents: Vec<Document>, shelf: Shelf, names: Names) -> Self {
        let documents: Vec<Document> =
            documents.into_iter().filter(|document| shelf != Shelf::InUse || !document.deprecated).collect();
        let mut all: Vec<Chunk> =
            documents.iter().enumerate().flat_map(|(at, document)| chunks(at, document)).collect();
        let n_left_out = all.len().saturating_sub(CHUNKS_MAX);
        all.truncate(CHUNKS_MAX);
        let searched: Vec<String> = all
            .iter()
            .filter_map(|chunk| documents.get(chunk.document).map(|document| chunk.searched(document)))
            .collect();
        let words = Bm25::new(searched.iter().map(String::as_str), names);
        Self { documents, chunks: all, searched, words, n_left_out }
    }

    /// The documents.
    pub fn documents(&self) -> &[Document] {
        &self.documents
    }

    /// Pieces beyond the bound that cannot be found.
    pub fn left_out(&self) -> usize {
        self.n_left_out
    }

    /// What fits by its words.
    pub fn search(&self, query: Query<'_>) -> Vec<Hit> {
        self.hits(query, &[self.by_words(query)])
    }

    /// What fits by its words and by its meaning. Without vectors, or when they fail, by its words alone, and the error says why.
    pub async fn search_with(&self, query: Query<'_>, vectors: Option<&Vectors>) -> (Vec<Hit>, Option<EmbedError>) {
        let Some(vectors) = vectors else { return (self.search(query), None) };
        match vectors.rank(asked(query.text), &self.searched).await {
            Ok(near) => {
                let near = self.aged(near, query);
                (self.hits(query, &[self.by_words(query), near]), None)
            }
            Err(error) => (self.search(query), Some(error)),
        }
    }

    /// What a search with these vectors would have to make vectors of.
    pub fn without_vector(&self, question: &str, vectors: &Vectors) -> Vec<String> {
        vectors.missing(self.searched.iter().cloned().chain([asked(question).to_owned()]))
    }

    fn by_words(&self, query: Query<'_>) -> Vec<usize> {
        self.aged(self.words.rank(asked(query.text)), query)
    }

    /// Age is weighed within each list, where scores mean something, and not on ranks, where it would mean everything.
    fn aged(&self, mut scored: Vec<Scored>, query: Query<'_>) -> Vec<usize> {
        scored.retain(|scored| {
            let kind = self.document_of(scored.chunk).map(|document| document.kind);
            kind.is_some_and(|kind| query.kinds.is_empty() || query.kinds.contains(&kind))
        });
        for one in &mut scored {
            if let Some(document) = self.document_of(one.chunk) {
                one.score *= factor(document.kind, document.updated.map(|day| age_days(day, query.today)));
            }
        }
        scored.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.chunk.cmp(&b.chunk)));
        scored.into_iter().map(|scored| scored.chunk).collect()
    }

    fn hits(&self, query: Query<'_>, lists: &[Vec<usize>]) -> Vec<Hit> {
        let mut taken: Vec<usize> = Vec::new();
        let mut shown = BTreeSet::new();
        let mut hits = Vec::new();
        for (at, score) in fused(lists) {
            let (Some(chunk), Some(document)) = (self.chunks.get(at), self.document_of(at)) else { continue };
            let of_same = taken.iter().filter(|document| **document == chunk.document).count();
            if hits.len() < query.limit && of_same < PER_DOCUMENT_MAX && shown.insert(at) {
                taken.push(chunk.document);
                hits.push(Hit {
                    citation: cite(document, chunk),
                    title: document.title.clone(),
                    text: chunk.text.clone(),
                    age_days: document.updated.map(|day| age_days(day, query.today)),
                    score,
                });
            }
        }
        hits
    }

    fn document_of(&self, chunk: usize) -> Option<&Document> {
        self.documents.get(self.chunks.get(chunk)?.document)
    }
}

fn cite(document: &Document, chunk: &Chunk) -> Citation {
    let (from_line, to_line) = chunk.lines;
    Citation { kind: document.kind, id: document.id.clone(), version: document.version.clone(), from_line, to_line }
}

/// The beginning of a question, cut at a character.
fn asked(text: &str) -> &str {
    text.get(..text.floor_char_boundary(QUESTION_BYTES_MAX)).unwrap_or_default()
}
