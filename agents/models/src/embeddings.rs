//! Vectors of texts, by the interface of OpenAI's `/v1/embeddings` (also vLLM, Ollama, LiteLLM, gateways).
//!
//! Texts leave without secrets and personal data: what the masker finds is replaced by its kind, for good, so that the same text
//! has the same vector on another day. A try is repeated only if it has certainly cost nothing.

use std::sync::Arc;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::chat::Chat;
use crate::config::{Kind, ModelsConfig, split};
use crate::error::{ErrorClass, Fault, ModelError, Spent};
use crate::http::{Body, Link, request_id};
use crate::leaks::cleaned;
use crate::limits::Limits;
use crate::masking::Masker;
use crate::prices::{Amounts, ModelCard};
use crate::provider::Ports;
use crate::request::{Message, ModelRequest, Part, Role};
use crate::response::Usage;
use crate::retry::RetryPolicy;
use crate::tiers::Setup;
use crate::tokens::TokenCounter;
use crate::wire::count_at;

/// Most texts of one call.
pub const EMBEDDED_MAX: usize = 64;
/// Longest text of a call in bytes; a longer one is cut, and its vector is that of its beginning.
const TEXT_BYTES_MAX: usize = 16 * 1024;
/// Longest vector.
const DIMENSIONS_MAX: usize = 8_192;
/// Counts of ours may be this much too low, in thousandths: the vocabulary of the model is not known.
const COUNT_PERMILLE: u64 = 1_500;

/// A model that makes vectors.
pub struct Embeddings {
    provider: String,
    model: String,
    link: Link,
    retry: RetryPolicy,
    limits: Limits,
    ports: Ports,
    masker: Arc<Masker>,
    card: ModelCard,
}

/// Vectors and what they cost.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedded {
    /// One for each text, in their order.
    pub vectors: Vec<Vec<f32>>,
    /// What they cost.
    pub spent: Amounts,
}

impl Embeddings {
    /// The model of an entry `provider/model`, with the providers and prices of a configuration.
    ///
    /// # Errors
    /// There is no such provider, it makes no vectors, its key cannot be read, or the model has no price.
    pub fn open(config: &ModelsConfig, entry: &str, setup: Setup<'_>, masker: Arc<Masker>) -> Result<Self, String> {
        let (provider, model) = split(entry).ok_or_else(|| format!("`{entry}` is not `provider/model`"))?;
        let configured = config.providers.get(provider).ok_or_else(|| {
            let known: Vec<&str> = config.providers.keys().map(String::as_str).collect();
            format!("there is no provider `{provider}`; there are: {}", known.join(", "))
        })?;
        if configured.kind == Kind::Anthropic {
            return Err(format!("provider `{provider}` makes no vectors; name one that speaks OpenAI's interface"));
        }
        let key = configured.key_source().map(|source| (setup.key)(&source)).transpose()?;
        let mut prices = setup.prices;
        prices.add(&config.prices)?;
        let card = prices.card(provider, model).map_err(|unknown| unknown.to_string())?.clone();
        Ok(Self {
            link: Link::new(configured, &Chat::new(configured.max_tokens_field()), key)?,
            provider: provider.to_owned(),
            model: model.to_owned(),
            retry: configured.retry(),
            limits: Limits::new(configured.requests_per_minute, configured.tokens_per_minute),
            ports: setup.ports,
            masker,
            card,
        })
    }

    /// `provider/model`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.provider, self.model)
    }

    /// What texts cost at most.
    pub fn worst_case(&self, texts: &[String]) -> Amounts {
        self.card.worst_case(self.counted(texts), 0)
    }

    /// The vectors of texts.
    ///
    /// # Errors
    /// Too many texts, or what the provider says. No error has a text or the key.
    pub async fn embed(&self, texts: &[String]) -> Result<Embedded, ModelError> {
        let masked: Vec<String> = texts.iter().map(|text| self.masker.redact(beginning(text))).collect();
        if texts.is_empty() || texts.len() > EMBEDDED_MAX {
            let detail = format!("{} texts in a call, 1 to {EMBEDDED_MAX} are possible", texts.len());
            let fault = Fault::new(ErrorClass::InvalidRequest, Spent::Nothing, detail);
            return Err(self.error(fault, &masked, 0));
        }
        let mut tries = 0;
        // Bounded by `tries_max` of the policy.
        loop {
            tries += 1;
            let whole = self.link.bounds.whole;
            let late = || Err(Fault::new(ErrorClass::Timeout, Spent::Unknown, "no whole answer in time"));
            let tried = tokio::time::timeout(whole, self.once(&masked)).await.unwrap_or_else(|_| late());
            let fault = match tried {
                Ok(embedded) => return Ok(embedded),
                Err(fault) => fault,
            };
            let again = fault.spent == Spent::Nothing && fault.class.is_retryable();
            let pause = self.retry.pause_after(tries, fault.retry_after, (self.ports.chance)()).filter(|_| again);
            let Some(pause) = pause else { return Err(self.error(fault, &masked, tries)) };
            (self.ports.pause)(pause).await;
        }
    }

    async fn once(&self, texts: &[String]) -> Result<Embedded, Fault> {
        self.limits.admit_request().await?;
        let reserved = self.counted(texts);
        self.limits.admit_tokens(reserved).await?;
        let body = json!({"model": self.model, "input": texts, "encoding_format": "float"}).to_string().into_bytes();
        let body = Body { content_type: "application/json".to_owned(), bytes: body };
        let response = self.link.send(Method::POST, "/embeddings", Some(body)).await?;
        let request_id = request_id(&response);
        let named = |mut fault: Fault| {
            fault.request_id = request_id.clone().or(fault.request_id);
            fault
        };
        if response.status() != StatusCode::OK {
            return Err(named(self.link.fault_of(response, (self.ports.now)()).await));
        }
        let answer = self.link.json(response).await.map_err(named)?;
        let vectors = vectors_of(&answer, texts.len()).map_err(named)?;
        // A server that counts nothing is taken at our own count.
        let counted = count_at(&answer, "/usage/prompt_tokens").max(count_at(&answer, "/usage/total_tokens"));
        let input = if counted == 0 { reserved } else { counted };
        self.limits.settle_tokens(reserved, input);
        Ok(Embedded { vectors, spent: self.card.cost(&Usage { input, ..Usage::default() }) })
    }

    fn counted(&self, texts: &[String]) -> u64 {
        let plain: u64 = texts.iter().map(|text| TokenCounter.count(beginning(text))).sum();
        plain.saturating_mul(COUNT_PERMILLE).div_ceil(1_000)
    }

    fn error(&self, fault: Fault, texts: &[String], tries: u32) -> ModelError {
        let parts = texts.iter().map(Part::text).collect();
        let message = Message { role: Role::User, parts, cache: false };
        let asked = ModelRequest { messages: vec![message], ..ModelRequest::of_text("", 1) };
        let clean = |text: &str| cleaned(text, self.link.key.as_ref(), &asked);
        fault.told((&self.provider, &self.model), &clean, tries)
    }
}

impl std::fmt::Debug for Embeddings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embeddings").field("model", &self.name()).finish_non_exhaustive()
    }
}

fn beginning(text: &str) -> &str {
    text.get(..text.floor_char_boundary(TEXT_BYTES_MAX)).unwrap_or_default()
}

/// One vector for each text, wherever it stands in the answer.
fn vectors_of(answer: &Value, n_texts: usize) -> Result<Vec<Vec<f32>>, Fault> {
    let malformed = |why: &str| Fault::malformed(format!("the vectors cannot be read: {why}"));
    let entries = answer.get("data").and_then(Value::as_array).ok_or_else(|| malformed("there is no `data`"))?;
    if entries.len() != n_texts {
        return Err(malformed("there are more or fewer than texts"));
    }
    let mut found: Vec<Option<Vec<f32>>> = vec![None; n_texts];
    for (ix, entry) in entries.iter().enumerate() {
        let place = entry.get("index").and_then(Value::as_u64).map_or(Some(ix), |place| usize::try_from(place).ok());
        let numbers =
            entry.get("embedding").and_then(Value::as_array).ok_or_else(|| malformed("one has no numbers"))?;
        if numbers.is_empty() || numbers.len() > DIMENSIONS_MAX {
            return Err(malformed("one is empty or too long"));
        }
        let vector: Option<Vec<f32>> = numbers.iter().map(|number| Some(number.as_f64()? as f32)).collect();
        let vector = vector.filter(|vector| vector.iter().all(|x| x.is_finite()));
        let vector = vector.ok_or_else(|| malformed("one has what is no number"))?;
        match place.and_then(|place| found.get_mut(place)) {
            Some(slot @ None) => *slot = Some(vector),
            _ => return Err(malformed("two are of the same text")),
        }
    }
    found.into_iter().collect::<Option<_>>().ok_or_else(|| malformed("one is missing"))
}
