//! Vectors of texts, where somebody can make them: asked in batches, kept by the hash of the text.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::bm25::Scored;

/// Most texts of one question to an embedder.
pub const EMBED_BATCH_MAX: usize = 64;
/// Most vectors that are kept; beyond it the library has more pieces than a flat scan should go through.
const VECTORS_MAX: usize = 50_000;
/// Longest vector.
const DIMENSIONS_MAX: usize = 8_192;
/// Pieces that the vectors name at most: what stands behind is near nothing.
const NEAR_MAX: usize = 50;

/// Vectors by the hash of model and text.
type Kept = BTreeMap<[u8; 32], Arc<[f32]>>;

/// Why there are no vectors. Says nothing of the texts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("embeddings: {0}")]
pub struct EmbedError(pub String);

/// Makes vectors of texts.
#[async_trait]
pub trait Embedder: Send + Sync + std::fmt::Debug {
    /// The model; vectors of one cannot be compared with those of another.
    fn model(&self) -> &str;

    /// One vector for each text, in their order. At most [`EMBED_BATCH_MAX`] texts are asked for at once.
    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, EmbedError>;
}

/// An embedder and the vectors it has made.
#[derive(Debug, Clone)]
pub struct Vectors {
    embedder: Arc<dyn Embedder>,
    kept: Arc<Mutex<Kept>>,
}

impl Vectors {
    /// Nothing kept yet.
    pub fn new(embedder: Arc<dyn Embedder>) -> Self {
        Self { embedder, kept: Arc::default() }
    }

    /// The same vectors, with another one of the same model to ask for those that are missing.
    #[must_use]
    pub fn by(&self, embedder: Arc<dyn Embedder>) -> Self {
        Self { embedder, kept: Arc::clone(&self.kept) }
    }

    /// The texts that have no vector yet.
    pub(crate) fn missing(&self, texts: impl IntoIterator<Item = String>) -> Vec<String> {
        let kept = self.kept.lock();
        texts.into_iter().filter(|text| !kept.contains_key(&self.key(text))).collect()
    }

    /// The pieces nearest to the question, by the cosine of the angle.
    pub(crate) async fn rank(&self, question: &str, texts: &[String]) -> Result<Vec<Scored>, EmbedError> {
        let pieces = self.of(texts).await?;
        let asked = self.of(&[question.to_owned()]).await?;
        let asked = asked.first().ok_or_else(|| EmbedError("no vector for the question".to_owned()))?;
        let mut near = Vec::with_capacity(pieces.len());
        for (chunk, piece) in pieces.iter().enumerate() {
            if piece.len() != asked.len() {
                return Err(EmbedError("vectors of different lengths".to_owned()));
            }
            near.push(Scored { chunk, score: cosine(asked, piece) });
        }
        near.retain(|scored| scored.score > 0.0);
        near.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.chunk.cmp(&b.chunk)));
        near.truncate(NEAR_MAX);
        Ok(near)
    }

    /// The vectors of texts; only those are asked for that are not known.
    async fn of(&self, texts: &[String]) -> Result<Vec<Arc<[f32]>>, EmbedError> {
        let keys: Vec<[u8; 32]> = texts.iter().map(|text| self.key(text)).collect();
        let mut missing: Vec<(usize, &String)> = {
            let kept = self.kept.lock();
            texts.iter().enumerate().filter(|(ix, _)| !kept.contains_key(&keys[*ix])).collect()
        };
        missing.dedup_by_key(|(ix, _)| keys[*ix]);
        for batch in missing.chunks(EMBED_BATCH_MAX) {
            let asked: Vec<String> = batch.iter().map(|(_, text)| (*text).clone()).collect();
            let made = self.embedder.embed(&asked).await?;
            if made.len() != batch.len() {
                return Err(EmbedError(format!("{} vectors for {} texts", made.len(), batch.len())));
            }
            let mut kept = self.kept.lock();
            for ((ix, _), vector) in batch.iter().zip(made) {
                kept.insert(keys[*ix], Arc::from(checked(vector)?));
            }
        }
        let mut kept = self.kept.lock();
        let found: Option<Vec<_>> = keys.iter().map(|key| kept.get(key).cloned()).collect();
        if kept.len() > VECTORS_MAX {
            kept.clear();
        }
        found.ok_or_else(|| EmbedError("a vector is missing".to_owned()))
    }

    fn key(&self, text: &str) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.embedder.model().as_bytes());
        hash.update([0]);
        hash.update(text.as_bytes());
        hash.finalize().into()
    }
}

fn checked(vector: Vec<f32>) -> Result<Vec<f32>, EmbedError> {
    if vector.is_empty() || vector.len() > DIMENSIONS_MAX || !vector.iter().all(|x| x.is_finite()) {
        return Err(EmbedError(format!("a vector of {} numbers, or with one that is none", vector.len())));
    }
    Ok(vector)
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    let length = (dot(a, a) * dot(b, b)).sqrt();
    if length > 0.0 { dot(a, b) / length } else { 0.0 }
}
