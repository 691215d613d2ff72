//! Models behind one neutral request and answer: what is asked, what came back, what it cost, and what went wrong.
//!
//! ```text
//!  ModelRequest ─▶ Cache ─▶ Tiers ─▶ Limits ─▶ Provider (Anthropic, Chat Completions, Responses) ─▶ ModelResponse
//!                              │ prices: worst case before, amount after      │ encode, decode, read a stream: pure
//!                              └ tokens: counted before, learned after        └ one HTTP client: bounds, retries
//! ```
//!
//! The crate knows nothing of agents, tools, graphs or stores. What it must never let out is a key, and a prompt in an
//! error (`docs/design/0006-models.md`).

mod anthropic;
mod batch;
mod bounds;
mod cache;
mod chat;
mod config;
mod embeddings;
mod error;
mod fingerprint;
mod http;
mod leaks;
mod limits;
mod masking;
mod prices;
mod provider;
mod request;
mod response;
mod responses;
mod retry;
mod sse;
mod tiers;
mod tokens;
mod window;
mod wire;

#[cfg(test)]
mod tests;

pub use batch::{BATCH_REQUESTS_MAX, Batch, BatchItem, BatchProgress, BatchTicket, Batches, open_batches};
pub use bounds::Bounds;
pub use cache::{Cache, CacheBounds, CacheEntry, CacheKey, CacheStore, Cached, MemoryCache, Question, Scope};
pub use config::{
    Batching, BatchingConfig, CacheConfig, Key, KeySource, Kind, MaxTokensField, ModelsConfig, ProviderConfig, read_key,
};
pub use embeddings::{EMBEDDED_MAX, Embedded, Embeddings};
pub use error::{ErrorClass, ModelError, Spent};
pub use fingerprint::{fingerprint, normalise};
pub use limits::Limits;
pub use masking::{Finding, MaskError, MaskKind, MaskRules, Masker, Vault};
pub use prices::{Amounts, ModelCard, PriceTable, Rates, UnknownModel};
pub use provider::{Delta, Ports, Provider, Sink, open};
pub use request::{Effort, Message, ModelRequest, OutputSchema, Part, RequestProblem, Role, System, Tool, ToolChoice};
pub use response::{ModelResponse, StopReason, Usage};
pub use retry::RetryPolicy;
pub use tiers::{Attempt, Completion, Looked, Setup, TierError, Tiers};
pub use tokens::{Correction, TokenCounter};
pub use window::{CLEARED, Fitted, Window};
