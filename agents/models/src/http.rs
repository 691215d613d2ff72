//! One HTTP client for every provider: sends, waits no longer than it may, reads no more than it may, tries again.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Response, StatusCode, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::bounds::Bounds;
use crate::config::{Key, ProviderConfig};
use crate::error::{ErrorClass, Fault, ModelError, Spent};
use crate::leaks::cleaned;
use crate::limits::Limits;
use crate::provider::{Delta, Ports, Provider, Sink};
use crate::request::{ModelRequest, Part};
use crate::response::ModelResponse;
use crate::retry::{RetryPolicy, wish};
use crate::sse;
use crate::wire::{Answer, Origin, Wire, reported};

/// Most bytes of an error's body that are read.
const ERROR_BYTES_MAX: usize = 64 * 1024;
/// Headers that name a call.
const REQUEST_ID_HEADERS: [&str; 3] = ["request-id", "x-request-id", "x-litellm-call-id"];
/// Longest name of a call that is kept.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// A provider over HTTP.
pub(crate) struct HttpProvider {
    name: String,
    wire: Box<dyn Wire>,
    link: Link,
    retry: RetryPolicy,
    limits: Arc<Limits>,
    ports: Ports,
}

/// Where a provider is reached, and how.
pub(crate) struct Link {
    client: reqwest::Client,
    base: String,
    headers: HeaderMap,
    pub(crate) key: Option<SecretString>,
    pub(crate) bounds: Bounds,
}

/// A body that is sent.
pub(crate) struct Body {
    pub(crate) content_type: String,
    pub(crate) bytes: Vec<u8>,
}

impl Link {
    pub(crate) fn new(config: &ProviderConfig, wire: &dyn Wire, key: Option<Key>) -> Result<Self, String> {
        config.check_key_goes_safely(key.is_some())?;
        let bounds = config.bounds();
        let key = key.map(|key| key.0);
        let mut headers = HeaderMap::new();
        let fixed = wire.headers().iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let own = config.headers.iter().map(|(name, value)| (name.clone(), value.clone()));
        for (name, value) in fixed.chain(own) {
            let parsed: Result<HeaderName, _> = name.parse();
            let (Ok(parsed), Ok(value)) = (parsed, HeaderValue::from_str(&value)) else {
                return Err(format!(
                    "header `{name}` cannot be sent: use letters, digits and dashes, and no line breaks"
                ));
            };
            headers.insert(parsed, value);
        }
        if let Some(key) = &key {
            let (name, value) = match &config.key_header {
                Some(name) => (name.to_ascii_lowercase(), key.expose_secret().to_owned()),
                None => wire.key_header(key.expose_secret()),
            };
            let name: HeaderName = name.parse().map_err(|_| "key_header: is no name of a header".to_owned())?;
            let mut value = HeaderValue::from_str(&value).map_err(|_| {
                "the key has characters that cannot be sent: look for a line break at its end".to_owned()
            })?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let client = reqwest::Client::builder().redirect(redirect::Policy::none()).connect_timeout(bounds.connect);
        // The environment's proxy is for the world, not for this host.
        let client = if config.is_here() { client.no_proxy() } else { client };
        let client = client
            .build()
            .map_err(|_| "the HTTP client cannot be made: look at the certificates of the system".to_owned())?;
        Ok(Self { client, base: config.base().trim_end_matches('/').to_owned(), headers, key, bounds })
    }

    /// Sends, and waits for the head of the answer. A failure says whether the provider may have begun to work.
    pub(crate) async fn send(&self, method: Method, path: &str, body: Option<Body>) -> Result<Response, Fault> {
        let mut call = self.client.request(method, format!("{}{path}", self.base)).headers(self.headers.clone());
        if let Some(body) = body {
            call = call.header(CONTENT_TYPE, body.content_type).body(body.bytes);
        }
        // The client's own words may name the url with what it carries, so ours are used.
        call.send().await.map_err(|error| {
            if error.is_connect() || error.is_builder() {
                return Fault::new(ErrorClass::Unavailable, Spent::Nothing, "no connection");
            }
            Fault::new(ErrorClass::Unavailable, Spent::Unknown, "the connection broke before an answer")
        })
    }

    /// The error that an answer reports.
    pub(crate) async fn fault_of(&self, mut response: Response, now: jiff::Timestamp) -> Fault {
        let status = response.status();
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let retry_after = wish(header("retry-after-ms"), header("retry-after"), now);
        if status.is_redirection() {
            let mut fault =
                Fault::new(ErrorClass::InvalidRequest, Spent::Nothing, "it points elsewhere: correct the url");
            fault.status = Some(status.as_u16());
            return fault;
        }
        let mut bytes = Vec::new();
        // What a broken error body would have said is lost; its status is not.
        while let Ok(Ok(Some(chunk))) = tokio::time::timeout(self.bounds.idle, response.chunk()).await {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > ERROR_BYTES_MAX {
                break;
            }
        }
        let body: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        let mut fault = reported(Some(status.as_u16()), &body);
        fault.retry_after = retry_after;
        fault
    }

    /// The next piece of an answer, none at its end.
    pub(crate) async fn chunk(&self, response: &mut Response, so_far: usize) -> Result<Option<Vec<u8>>, Fault> {
        let idle = self.bounds.idle;
        let chunk = tokio::time::timeout(idle, response.chunk()).await.map_err(|_| {
            Fault::new(ErrorClass::Timeout, Spent::Unknown, format!("silent for {} ms", idle.as_millis()))
        })?;
        let chunk = chunk.map_err(|_| Fault::new(ErrorClass::CutStream, Spent::Unknown, "the connection broke"))?;
        let Some(chunk) = chunk else { return Ok(None) };
        if so_far.saturating_add(chunk.len()) > self.bounds.answer_bytes {
            let text = format!("more than answer_bytes = {}", self.bounds.answer_bytes);
            return Err(Fault::new(ErrorClass::OverBound, Spent::Unknown, text));
        }
        Ok(Some(chunk.to_vec()))
    }

    /// A whole body as JSON.
    pub(crate) async fn json(&self, mut response: Response) -> Result<Value, Fault> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk(&mut response, bytes.len()).await? {
            bytes.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&bytes).map_err(|_| Fault::malformed("the answer is not JSON"))
    }
}

/// The provider's name of a call; gateways have their own.
pub(crate) fn request_id(response: &Response) -> Option<String> {
    let header = |name: &&str| response.headers().get(*name).and_then(|value| value.to_str().ok());
    let id = REQUEST_ID_HEADERS.iter().find_map(header)?;
    id.get(..id.len().min(REQUEST_ID_BYTES_MAX)).map(str::to_owned)
}

fn is_event_stream(response: &Response) -> bool {
    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.is_some_and(|text| text.trim_start().to_ascii_lowercase().starts_with("text/event-stream"))
}

impl HttpProvider {
    pub(crate) fn new(
        name: &str,
        config: &ProviderConfig,
        wire: Box<dyn Wire>,
        key: Option<Key>,
        (limits, ports): (Arc<Limits>, Ports),
    ) -> Result<Self, String> {
        let link = Link::new(config, wire.as_ref(), key)?;
        Ok(Self { name: name.to_owned(), wire, link, retry: config.retry(), limits, ports })
    }

    async fn try_once(&self, request: &ModelRequest, bytes: &[u8], sink: &mut Sink<'_>) -> Result<Called, Fault> {
        let whole = self.link.bounds.whole;
        let late =
            || Fault::new(ErrorClass::Timeout, Spent::Unknown, format!("no whole answer in {} ms", whole.as_millis()));
        tokio::time::timeout(whole, self.exchange(request, bytes, sink)).await.unwrap_or_else(|_| Err(late()))
    }

    async fn exchange(&self, request: &ModelRequest, bytes: &[u8], sink: &mut Sink<'_>) -> Result<Called, Fault> {
        let body = Body { content_type: "application/json".to_owned(), bytes: bytes.to_vec() };
        let response = self.link.send(Method::POST, self.wire.path(), Some(body)).await?;
        let request_id = request_id(&response);
        let named = |mut fault: Fault| {
            fault.request_id = request_id.clone().or(fault.request_id);
            fault
        };
        if response.status() != StatusCode::OK {
            return Err(named(self.link.fault_of(response, (self.ports.now)()).await));
        }
        let origin = Origin { provider: self.name.clone(), model: request.model.clone() };
        let answer = if is_event_stream(&response) {
            self.read_stream(origin, response, sink).await.map_err(named)?
        } else {
            let body = self.link.json(response).await.map_err(named)?;
            let answer = self.wire.decode(&origin, &body).map_err(named)?;
            tell_whole(&answer, request.stream, sink);
            answer
        };
        Ok(Called { answer, request_id })
    }

    /// Bounded by the bytes of an answer, the silence between its pieces and the time of a try.
    async fn read_stream(&self, origin: Origin, mut response: Response, sink: &mut Sink<'_>) -> Result<Answer, Fault> {
        let event_bytes_max = self.link.bounds.event_bytes;
        let mut reader = sse::Reader::new(event_bytes_max);
        let mut decoder = self.wire.stream(origin);
        let (mut events, mut n_bytes) = (Vec::new(), 0);
        while !decoder.is_done() {
            let Some(chunk) = self.link.chunk(&mut response, n_bytes).await? else { break };
            n_bytes += chunk.len();
            let fed = reader.feed(&chunk, &mut events);
            for event in events.drain(..) {
                decoder.take(&event, sink)?;
            }
            fed.map_err(|broken| match broken {
                sse::Broken::TooLong => {
                    let text = format!("an event of more than event_bytes = {event_bytes_max}");
                    Fault::new(ErrorClass::OverBound, Spent::Unknown, text)
                }
                sse::Broken::NotText => Fault::malformed("the stream is not UTF-8"),
            })?;
        }
        if reader.is_within_event() && !decoder.is_done() {
            tracing::debug!(provider = self.name, "a stream ended within an event");
        }
        decoder.end()
    }

    fn error(&self, request: &ModelRequest, fault: Fault, tries: u32) -> ModelError {
        let clean = |text: &str| cleaned(text, self.link.key.as_ref(), request);
        fault.told((&self.name, &request.model), &clean, tries)
    }

    /// The pause before another try: only when the failed one has certainly cost nothing.
    fn pause_after(&self, fault: &Fault, tries: u32) -> Option<Duration> {
        if fault.spent != Spent::Nothing || !fault.class.is_retryable() {
            return None;
        }
        self.retry.pause_after(tries, fault.retry_after, (self.ports.chance)())
    }

    fn refused_before(&self, request: &ModelRequest) -> Option<Fault> {
        let refused = |text: String| Fault::new(ErrorClass::InvalidRequest, Spent::Nothing, text);
        if let Err(problem) = request.check() {
            return Some(refused(problem.to_string()));
        }
        self.wire.refuses(request).map(|text| refused(text.to_owned()))
    }
}

/// What a try brought.
struct Called {
    answer: Answer,
    request_id: Option<String>,
}

/// Who asked for pieces and got the whole is told the whole.
fn tell_whole(answer: &Answer, stream: bool, sink: &mut Sink<'_>) {
    for (index, part) in answer.parts.iter().enumerate().filter(|_| stream) {
        match part {
            Part::Text { text } => sink(Delta::Text(text.clone())),
            Part::ToolCall { id, name, arguments, malformed } => {
                sink(Delta::ToolCall { index, id: id.clone(), name: name.clone() });
                let text =
                    if *malformed { arguments.as_str().unwrap_or_default().to_owned() } else { arguments.to_string() };
                sink(Delta::Arguments { index, text });
            }
            Part::ToolResult { .. } | Part::Thought { .. } => {}
        }
    }
}

#[async_trait]
impl Provider for HttpProvider {
    fn name(&self) -> &str {
        &self.name
    }

    async fn complete(&self, request: &ModelRequest, sink: &mut Sink<'_>) -> Result<ModelResponse, ModelError> {
        if let Some(fault) = self.refused_before(request) {
            return Err(self.error(request, fault, 0));
        }
        let origin = Origin { provider: self.name.clone(), model: request.model.clone() };
        let bytes = self.wire.encode(&origin, request).to_string().into_bytes();
        let mut tries = 0;
        // Bounded by `tries_max` of the policy.
        loop {
            if let Err(fault) = self.limits.admit_request().await {
                return Err(self.error(request, fault, tries));
            }
            tries += 1;
            let tried = self.try_once(request, &bytes, sink).await;
            let fault = match tried {
                Ok(Called { answer, request_id }) => {
                    let Answer { parts, stop, usage, model } = answer;
                    let model = model.unwrap_or_else(|| request.model.clone());
                    return Ok(ModelResponse { parts, stop, usage, provider: self.name.clone(), model, request_id });
                }
                Err(fault) => fault,
            };
            let Some(pause) = self.pause_after(&fault, tries) else { return Err(self.error(request, fault, tries)) };
            tracing::debug!(provider = self.name, tries, class = ?fault.class, ?pause, "a call is tried again");
            (self.ports.pause)(pause).await;
        }
    }
}
