//! Okapi BM25 over the words of chunks.
//!
//! ```text
//!  score(q, d) = Σ  idf(t) · tf · (k1 + 1) / (tf + k1 · (1 − b + b · |d| / avg|d|))       for each t of q that is in d
//!  idf(t)      = ln(1 + (N − n + 0.5) / (n + 0.5))                                        never negative
//! ```
//!
//! Formula and values: Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), with the idf
//! of Lucene. Pure, and the same for the same texts: ties stand in the order of the chunks.

use std::collections::{BTreeMap, BTreeSet};

use crate::words::{Names, words};

/// How soon more of the same word counts less.
const K1: f64 = 1.2;
/// How much a long text is held against it.
const B: f64 = 0.75;
/// Share of the question, words weighed by their rarity, that a chunk must have. Below it only a word or two of many are
/// shared by chance: what no text is about has no hit.
const COVERED_MIN: f64 = 0.15;

/// Chunks from which on a library's own counts say how rare a word is.
const USUAL_CHUNKS: usize = 20;

/// The words of all chunks.
#[derive(Debug, Clone)]
pub(crate) struct Bm25 {
    names: Names,
    /// Word to chunks that have it, and how often.
    postings: BTreeMap<String, Vec<(usize, f64)>>,
    lengths: Vec<f64>,
    average: f64,
}

/// A chunk and what it scored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scored {
    pub(crate) chunk: usize,
    pub(crate) score: f64,
}

impl Bm25 {
    pub(crate) fn new<'a>(texts: impl IntoIterator<Item = &'a str>, names: Names) -> Self {
        let mut postings: BTreeMap<String, Vec<(usize, f64)>> = BTreeMap::new();
        let mut lengths = Vec::new();
        for (chunk, text) in texts.into_iter().enumerate() {
            let mut counts: BTreeMap<String, f64> = BTreeMap::new();
            let mut length = 0.0;
            for word in words(text, names) {
                *counts.entry(word).or_default() += 1.0;
                length += 1.0;
            }
            lengths.push(length);
            for (word, count) in counts {
                postings.entry(word).or_default().push((chunk, count));
            }
        }
        let n = lengths.len().max(1) as f64;
        let average = (lengths.iter().sum::<f64>() / n).max(1.0);
        Self { names, postings, lengths, average }
    }

    /// Every chunk that covers enough of the question, the best first.
    pub(crate) fn rank(&self, question: &str) -> Vec<Scored> {
        let asked: BTreeSet<String> = words(question, self.names).into_iter().collect();
        // Score, and how much of the question is covered.
        let mut scores: BTreeMap<usize, (f64, f64)> = BTreeMap::new();
        let mut whole = 0.0;
        for word in &asked {
            let places = self.postings.get(word).map(Vec::as_slice).unwrap_or_default();
            // A word that no chunk has is no more telling than the rarest that one has.
            let idf = self.idf(places.len().max(1));
            let told = self.told(places.len().max(1));
            whole += told;
            for (chunk, count) in places {
                let (score, covered) = scores.entry(*chunk).or_default();
                *score += idf * self.weight(*chunk, *count);
                *covered += told;
            }
        }
        let fitting = scores.into_iter().filter(|(_, (_, covered))| *covered >= COVERED_MIN * whole);
        let mut ranked: Vec<Scored> = fitting.map(|(chunk, (score, _))| Scored { chunk, score }).collect();
        ranked.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.chunk.cmp(&b.chunk)));
        ranked
    }

    fn idf(&self, n_chunks: usize) -> f64 {
        let (all, n) = (self.lengths.len() as f64, n_chunks as f64);
        (1.0 + (all - n + 0.5) / (n + 0.5)).ln()
    }

    /// What a word tells about a question: its rarity in a library of a usual size. Of two texts every word is in half or in
    /// all, which says nothing about the word.
    fn told(&self, n_chunks: usize) -> f64 {
        let (all, n) = ((self.lengths.len().max(USUAL_CHUNKS)) as f64, n_chunks as f64);
        (1.0 + (all - n + 0.5) / (n + 0.5)).ln()
    }

    fn weight(&self, chunk: usize, count: f64) -> f64 {
        let length = self.lengths.get(chunk).copied().unwrap_or_default();
        count * (K1 + 1.0) / (count + K1 * (1.0 - B + B * length / self.average))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranked(texts: &[&str], question: &str) -> Vec<usize> {
        let index = Bm25::new(texts.iter().copied(), Names::Split);
        index.rank(question).iter().map(|scored| scored.chunk).collect()
    }

    /// One word, two chunks, worked out by hand: N = 2, n = 1, idf = ln 2; |d| = 2, average 3.
    #[test]
    fn the_formula_is_the_published_one() {
        let index = Bm25::new(["deadlock detected", "permission denied whole table"], Names::Split);
        let expected = 2f64.ln() * 2.2 / (1.0 + 1.2 * (1.0 - 0.75 + 0.75 * 2.0 / 3.0));
        let found = index.rank("deadlock");
        assert_eq!(found.len(), 1);
        assert!((found[0].score - expected).abs() < 1e-12, "{found:?} {expected}");
    }

    #[test]
    fn rare_words_and_short_texts_win() {
        let texts =
            ["table table table", "table lock timeout", "a table that is long and says much about nothing lock"];
        assert_eq!(ranked(&texts, "lock timeout"), [1, 2]);
        assert_eq!(ranked(&["lock x", "lock x y z u v w"], "lock x"), [0, 1]);
    }

    #[test]
    fn what_shares_a_word_by_chance_is_no_answer() {
        let texts = ["the pool of the mart has two slots", "orders of the shop"];
        assert_eq!(ranked(&texts, "pool slots"), [0]);
        let elsewhere = "seal mismatch: code LS-0x3F segment 7 ours 0fd8 theirs 9f00 in the shop at the pier by night";
        assert_eq!(ranked(&texts, elsewhere), [0usize; 0]);
        assert_eq!(ranked(&[], "anything"), [0usize; 0]);
    }

    #[test]
    fn a_library_of_one_text_answers_too() {
        let error = "load: InsufficientPrivilege: permission denied for table fact_sales";
        assert_eq!(ranked(&["permission denied on a table: grant the missing right"], error), [0]);
    }

    #[test]
    fn equal_texts_keep_their_order() {
        assert_eq!(ranked(&["lock held", "lock held", "lock held"], "lock held"), [0, 1, 2]);
    }
}
