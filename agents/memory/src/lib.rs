//! What an installation remembers, and how it is found again: runbooks, schemas, past incidents and facts, with citations and
//! age.
//!
//! ```text
//!  folder of Markdown ─▶ Document ─▶ chunks (headings, lines) ─▶ BM25 ──┐
//!  episodes.jsonl ─────▶ Document                └─▶ vectors, if any ──┴─ freshness ─▶ reciprocal rank fusion ─▶ Hit (cited)
//!  episodes.jsonl ─────▶ recall: structure, margin, track record ─▶ what happened before, and what may be recommended
//! ```
//!
//! The crate knows no agent, model, tool or store, and has no clock: the day is an argument. Every text it holds is data. A
//! text cannot raise a score beyond the words it shares with the question, and no text of an episode decides whether its
//! remedy is recommended: the gates read fields that people have reviewed (`docs/design/0009-memory.md`).

mod bm25;
mod chunk;
mod document;
mod embed;
mod episodes;
mod facts;
mod freshness;
mod fusion;
mod library;
mod recall;
mod runbooks;
mod words;

#[cfg(test)]
mod tests;

pub use document::{Broken, Citation, Document, Kind};
pub use embed::{EMBED_BATCH_MAX, EmbedError, Embedder, Vectors};
pub use episodes::{EPISODES_BYTES_MAX, Episode, Episodes, Outcome, Review};
pub use facts::{Fact, FactError, Facts, Namespace};
pub use freshness::half_life_days;
pub use library::{Hit, Library, Query};
pub use recall::{Gate, Recalled, Recommendation, Similar, Situation, recall};
pub use runbooks::{Folder, read_folder};
