//! Vectors of an installation's embedding model for its memory, with what each search cost.

use std::sync::Arc;

use async_trait::async_trait;
use memory::{EmbedError, Embedder, Library, Vectors};
use models::{Amounts, Embeddings, Spent};
use parking_lot::Mutex;

/// An embedding model and the vectors it has made in this process.
#[derive(Debug, Clone)]
pub struct Meaning {
    embeddings: Arc<Embeddings>,
    vectors: Vectors,
}

/// The model in one search.
#[derive(Debug)]
struct Metered {
    embeddings: Arc<Embeddings>,
    name: String,
    spent: Arc<Mutex<Amounts>>,
}

/// Vectors for one search, and what they have cost so far.
pub struct Search {
    /// To search with.
    pub vectors: Vectors,
    spent: Arc<Mutex<Amounts>>,
}

impl Search {
    /// What it has cost so far.
    pub fn spent(&self) -> Amounts {
        *self.spent.lock()
    }
}

impl Meaning {
    /// Nothing made yet.
    pub fn new(embeddings: Embeddings) -> Self {
        let embeddings = Arc::new(embeddings);
        let (metered, _) = metered(&embeddings);
        Self { embeddings, vectors: Vectors::new(metered) }
    }

    /// Vectors whose cost is counted by itself; what was made before is known.
    pub fn search(&self) -> Search {
        let (metered, spent) = metered(&self.embeddings);
        Search { vectors: self.vectors.by(metered), spent }
    }

    /// What a search costs at most: the texts that have no vector yet.
    pub(crate) async fn worst_case(&self, library: &Library, question: &str) -> Amounts {
        let missing = library.without_vector(question, &self.vectors);
        let embeddings = Arc::clone(&self.embeddings);
        let counted = tokio::task::spawn_blocking(move || embeddings.worst_case(&missing)).await;
        // What cannot be counted has no bound, so no budget lets it go.
        counted.unwrap_or(Amounts { usd_micros: u64::MAX, tokens: u64::MAX })
    }
}

fn metered(embeddings: &Arc<Embeddings>) -> (Arc<dyn Embedder>, Arc<Mutex<Amounts>>) {
    let spent = Arc::new(Mutex::new(Amounts::default()));
    let (embeddings, name) = (Arc::clone(embeddings), embeddings.name());
    (Arc::new(Metered { embeddings, name, spent: Arc::clone(&spent) }), spent)
}

#[async_trait]
impl Embedder for Metered {
    fn model(&self) -> &str {
        &self.name
    }

    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, EmbedError> {
        let done = self.embeddings.embed(texts).await;
        let cost = match &done {
            Ok(embedded) => embedded.spent,
            Err(error) if error.spent == Spent::Nothing => Amounts::default(),
            Err(_) => self.embeddings.worst_case(texts),
        };
        let mut spent = self.spent.lock();
        *spent = spent.plus(cost);
        done.map(|embedded| embedded.vectors).map_err(|error| EmbedError(error.to_string()))
    }
}
