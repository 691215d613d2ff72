//! Scheduled work at half the price: many requests are handed in, and their answers fetched later.
//!
//! What is under way is plain data ([`BatchTicket`]): a caller that keeps it can go on after a restart. Handing in is
//! not repeated here, because a second batch would be billed as well.

mod anthropic;
mod collector;
mod openai;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use reqwest::{Method, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use self::collector::Collector;
use crate::anthropic::Anthropic;
use crate::chat::Chat;
use crate::config::{Key, Kind, ProviderConfig};
use crate::error::{ErrorClass, Fault, ModelError, Spent};
use crate::http::{Body, Link, request_id};
use crate::leaks::cleaned;
use crate::provider::Ports;
use crate::request::ModelRequest;
use crate::response::ModelResponse;
use crate::responses::Responses;
use crate::wire::{Origin, Wire};

/// Most requests of one batch.
pub const BATCH_REQUESTS_MAX: usize = 10_000;
/// Most bytes of one batch.
const BATCH_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Most bytes of all answers of one batch.
const RESULTS_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Longest name of a request; the shorter of the two providers' limits.
const ID_BYTES_MAX: usize = 64;

/// One request of a batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BatchItem {
    /// Names it for its answer: letters, digits, `-` and `_`.
    pub id: String,
    /// What is asked. Pieces are not possible here.
    pub request: ModelRequest,
}

/// A batch that was handed in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchTicket {
    /// Who has it.
    pub provider: String,
    /// The model it asks.
    pub model: String,
    /// The provider's name of it.
    pub batch: String,
    /// Requests in it.
    pub ids: BTreeSet<String>,
}

/// How far a batch is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchProgress {
    /// Some answers are missing.
    Working {
        /// Requests that are done.
        done: u64,
        /// Requests there are.
        total: u64,
    },
    /// Whatever there will be is there.
    Ended(Batch),
}

/// Where the answers of an ended batch are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// The provider's names of what holds them.
    pub results: Vec<String>,
}

/// The batch interface of a provider.
#[async_trait]
pub trait Batches: Send + Sync {
    /// Hands requests in. All ask the same model.
    ///
    /// # Errors
    /// Nothing was handed in if the error says that nothing was spent; else it may have been.
    async fn submit(&self, items: &[BatchItem]) -> Result<BatchTicket, ModelError>;
    /// Asks how far a batch is.
    ///
    /// # Errors
    /// It cannot be asked now; asking again costs nothing.
    async fn poll(&self, ticket: &BatchTicket) -> Result<BatchProgress, ModelError>;
    /// Fetches the answers of an ended batch, one for each request: one that never ran is an error that cost nothing.
    ///
    /// # Errors
    /// They cannot be fetched now; fetching again costs nothing.
    async fn results(
        &self,
        ticket: &BatchTicket,
        batch: &Batch,
    ) -> Result<BTreeMap<String, Result<ModelResponse, ModelError>>, ModelError>;
}

/// The batch interface of a provider as it is configured.
///
/// # Errors
/// As [`crate::open`].
pub fn open_batches(
    name: &str,
    config: &ProviderConfig,
    key: Option<Key>,
    ports: Ports,
) -> Result<Arc<dyn Batches>, String> {
    let (wire, protocol): (Box<dyn Wire>, Box<dyn Protocol>) = match config.kind {
        Kind::Anthropic => (Box::new(Anthropic), Box::new(anthropic::MessageBatches)),
        Kind::OpenaiChat => (Box::new(Chat::new(config.max_tokens_field())), Box::new(openai::Batches)),
        Kind::OpenaiResponses => (Box::new(Responses), Box::new(openai::Batches)),
    };
    let link = Link::new(config, wire.as_ref(), key)?;
    Ok(Arc::new(HttpBatches { name: name.to_owned(), wire, protocol, link, ports }))
}

/// How a provider's batch interface is called: pure, save that a batch may take several calls.
#[async_trait]
trait Protocol: Send + Sync {
    /// Hands in; the provider's name of the batch.
    async fn submit(&self, calls: &Calls<'_>, items: &[(String, Value)]) -> Result<String, Fault>;
    /// Where a batch is asked for.
    fn path(&self, batch: &str) -> String;
    fn progress(&self, batch: &str, body: &Value) -> Result<BatchProgress, Fault>;
    fn results_path(&self, result: &str) -> String;
    /// A line of the answers: whose it is, and what came of it.
    fn result(&self, line: &Value) -> Result<(String, Outcome), Fault>;
}

/// What came of a request of a batch.
enum Outcome {
    /// The body of an answer.
    Answer(Value),
    Fault(Fault),
}

struct HttpBatches {
    name: String,
    wire: Box<dyn Wire>,
    protocol: Box<dyn Protocol>,
    link: Link,
    ports: Ports,
}

/// What a protocol may call.
struct Calls<'a> {
    batches: &'a HttpBatches,
}

impl Calls<'_> {
    /// Path of one request within a batch.
    fn path_of_requests(&self) -> &'static str {
        self.batches.wire.path()
    }

    async fn post(&self, path: &str, body: Body) -> Result<Value, Fault> {
        let response = self.batches.call(Method::POST, path, Some(body)).await?;
        self.batches.within(self.batches.link.json(response)).await
    }
}

/// An item of a batch that is asked for in its path: nothing that leads elsewhere.
fn in_path(id: &str) -> Result<&str, Fault> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !id.is_empty() && id.len() <= 256 && id.bytes().all(fits) && !id.contains("..") {
        return Ok(id);
    }
    Err(Fault::malformed("the provider's name of a batch or file cannot be used in a path"))
}

impl HttpBatches {
    async fn within<T>(&self, call: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        let late = || Fault::new(ErrorClass::Timeout, Spent::Unknown, "no whole answer in time");
        tokio::time::timeout(self.link.bounds.whole, call).await.unwrap_or_else(|_| Err(late()))
    }

    async fn call(&self, method: Method, path: &str, body: Option<Body>) -> Result<Response, Fault> {
        let response = self.within(self.link.send(method, path, body)).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let request_id = request_id(&response);
        let read = async { Err(self.link.fault_of(response, (self.ports.now)()).await) };
        self.within(read).await.map_err(|mut fault: Fault| {
            fault.request_id = request_id.or(fault.request_id);
            fault
        })
    }

    fn error(&self, model: &str, fault: Fault, request: &ModelRequest) -> ModelError {
        let clean = |text: &str| cleaned(text, self.link.key.as_ref(), request);
        fault.told((&self.name, model), &clean, 1)
    }

    /// For errors of calls that carry no request.
    fn plain_error(&self, ticket: &BatchTicket, mut fault: Fault) -> ModelError {
        // Asking and fetching cost nothing.
        fault.spent = Spent::Nothing;
        self.error(&ticket.model, fault, &ModelRequest::of_text("", 1))
    }

    fn encoded(&self, items: &[BatchItem]) -> Result<(String, Vec<(String, Value)>), Fault> {
        let refused = |text: String| Fault::new(ErrorClass::InvalidRequest, Spent::Nothing, text);
        let model = items.first().map(|item| item.request.model.clone()).unwrap_or_default();
        if items.is_empty() || items.len() > BATCH_REQUESTS_MAX {
            return Err(refused(format!(
                "{} requests in a batch, 1 to {BATCH_REQUESTS_MAX} are possible",
                items.len()
            )));
        }
        let (mut ids, mut encoded) = (BTreeSet::new(), Vec::new());
        let mut n_bytes = 0;
        for item in items {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            let is_id = !item.id.is_empty() && item.id.len() <= ID_BYTES_MAX && item.id.bytes().all(fits);
            if !is_id || !ids.insert(&item.id) {
                return Err(refused("names of requests must be unique, short, of letters, digits, - and _".to_owned()));
            }
            if item.request.model != model || item.request.stream {
                return Err(refused("all requests of a batch ask the same model, and none for pieces".to_owned()));
            }
            item.request.check().map_err(|problem| refused(problem.to_string()))?;
            if let Some(text) = self.wire.refuses(&item.request) {
                return Err(refused(text.to_owned()));
            }
            let origin = Origin { provider: self.name.clone(), model: model.clone() };
            let body = self.wire.encode(&origin, &item.request);
            n_bytes += body.to_string().len();
            if n_bytes > BATCH_BYTES_MAX {
                return Err(refused(format!("more than {BATCH_BYTES_MAX} bytes in a batch: split it")));
            }
            encoded.push((item.id.clone(), body));
        }
        Ok((model, encoded))
    }

    /// Reads answers line by line; a line is at most as long as an answer, all of them at most as long as their bound.
    async fn read_results(&self, ticket: &BatchTicket, path: &str, found: &mut Found) -> Result<(), Fault> {
        let mut response = self.call(Method::GET, path, None).await?;
        let (mut line, mut n_bytes) = (Vec::new(), 0_usize);
        loop {
            let chunk = self.link.chunk(&mut response, line.len()).await?;
            for &byte in chunk.as_deref().unwrap_or(b"\n") {
                if byte != b'\n' {
                    line.push(byte);
                } else if !line.is_empty() {
                    self.take_line(ticket, &std::mem::take(&mut line), found)?;
                }
            }
            let Some(chunk) = chunk else { return Ok(()) };
            n_bytes += chunk.len();
            if n_bytes > RESULTS_BYTES_MAX {
                let text = format!("more than {RESULTS_BYTES_MAX} bytes of answers: make smaller batches");
                return Err(Fault::new(ErrorClass::OverBound, Spent::Nothing, text));
            }
        }
    }

    fn take_line(&self, ticket: &BatchTicket, line: &[u8], found: &mut Found) -> Result<(), Fault> {
        let line: Value =
            serde_json::from_slice(line).map_err(|_| Fault::malformed("a line of the answers is not JSON"))?;
        let (id, outcome) = self.protocol.result(&line)?;
        // Answers to what was not asked are nobody's.
        if !ticket.ids.contains(&id) {
            return Ok(());
        }
        let origin = Origin { provider: self.name.clone(), model: ticket.model.clone() };
        let answer = match outcome {
            Outcome::Answer(body) => self.wire.decode(&origin, &body),
            Outcome::Fault(fault) => Err(fault),
        };
        let result = answer.map(|answer| ModelResponse {
            parts: answer.parts,
            stop: answer.stop,
            usage: answer.usage,
            provider: self.name.clone(),
            model: answer.model.unwrap_or_else(|| ticket.model.clone()),
            request_id: None,
        });
        // What a provider says of a request may repeat it, and the request is not here to compare: its words stay out.
        let told = |mut fault: Fault| {
            fault.detail.clear();
            self.error(&ticket.model, fault, &ModelRequest::of_text("", 1))
        };
        found.insert(id, result.map_err(told));
        Ok(())
    }
}

type Found = BTreeMap<String, Result<ModelResponse, ModelError>>;

#[async_trait]
impl Batches for HttpBatches {
    async fn submit(&self, items: &[BatchItem]) -> Result<BatchTicket, ModelError> {
        let sample = items.first().map_or_else(|| ModelRequest::of_text("", 1), |item| item.request.clone());
        // A message about one request could repeat any of them.
        let all =
            ModelRequest { messages: items.iter().flat_map(|item| item.request.messages.clone()).collect(), ..sample };
        let told = |fault: Fault| self.error(&all.model, fault, &all);
        let (model, encoded) = self.encoded(items).map_err(told)?;
        let batch = self.protocol.submit(&Calls { batches: self }, &encoded).await.map_err(told)?;
        let ids = encoded.into_iter().map(|(id, _)| id).collect();
        Ok(BatchTicket { provider: self.name.clone(), model, batch, ids })
    }

    async fn poll(&self, ticket: &BatchTicket) -> Result<BatchProgress, ModelError> {
        let asked = async {
            let path = self.protocol.path(in_path(&ticket.batch)?);
            let response = self.call(Method::GET, &path, None).await?;
            let body = self.within(self.link.json(response)).await?;
            self.protocol.progress(&ticket.batch, &body)
        };
        asked.await.map_err(|fault| self.plain_error(ticket, fault))
    }

    async fn results(&self, ticket: &BatchTicket, batch: &Batch) -> Result<Found, ModelError> {
        let mut found = Found::new();
        for result in &batch.results {
            let fetched = async {
                let path = self.protocol.results_path(in_path(result)?);
                self.read_results(ticket, &path, &mut found).await
            };
            self.within(fetched).await.map_err(|fault| self.plain_error(ticket, fault))?;
        }
        for id in ticket.ids.iter().filter(|id| !found.contains_key(*id)).cloned().collect::<Vec<_>>() {
            let missing = Fault::new(ErrorClass::Unavailable, Spent::Nothing, "the batch ended without it");
            found.insert(id, Err(self.plain_error(ticket, missing)));
        }
        Ok(found)
    }
}
