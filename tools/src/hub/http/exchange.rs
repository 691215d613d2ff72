//! From a request to its answer: one JSON body, or events, picked up again where the server lets us.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use reqwest::{Response, StatusCode};
use rmcp::model::{ClientJsonRpcMessage, ClientRequest, JsonRpcMessage, RequestId};
use serde_json::{Map, Value, json};

use super::super::error::{Delivery, ToolErrorClass, quote};
use super::super::tap::{Tap, Trouble};
use super::events::{Event, EventReader};
use super::post::{Posted, Refusal};
use super::{Link, headers, unknown};

/// Times in a row that a broken stream is picked up again without hearing anything.
const RESUMES_MAX: u32 = 4;
/// Pause before a stream is picked up again when the server names none; doubles while nothing is heard.
const RESUME_PAUSE: Duration = Duration::from_millis(250);
/// Shortest pause, so that a server cannot make us spin.
const RESUME_PAUSE_MIN: Duration = Duration::from_millis(50);
/// Longest pause before a stream is picked up again, whatever the server says.
const RESUME_PAUSE_MAX: Duration = Duration::from_secs(30);

/// What one message from the server was.
enum Heard {
    /// The answer to the request.
    Answer,
    /// Something else.
    Other,
}

impl Link {
    /// Sends a request and delivers its answer, or tells why there is none.
    pub(super) async fn exchange(
        self: Arc<Self>,
        message: ClientJsonRpcMessage,
        id: &RequestId,
        tap: Option<Arc<Tap>>,
    ) {
        let mut ended = self.converse(&message, id, tap.as_deref()).await;
        // Unwatched requests belong to the handshake, which changes nothing: a connection that broke under one is no reason
        // to take the server for one of another era.
        let broke = matches!(&ended, Err(trouble) if trouble.delivery != Delivery::Answered);
        if tap.is_none() && broke {
            ended = self.converse(&message, id, None).await;
        }
        if let Err(trouble) = ended {
            self.give_up(id, tap.as_deref(), trouble).await;
        }
    }

    async fn converse(&self, message: &ClientJsonRpcMessage, id: &RequestId, tap: Option<&Tap>) -> Result<(), Trouble> {
        let probes = is_probe(message);
        let response = match self.post(message, tap).await? {
            Posted::Accepted(response) => response,
            Posted::Refused(refusal) => return self.refused(refusal, id, probes).await,
        };
        if is_initialize(message)
            && let Some(session) = response.headers().get(headers::SESSION)
        {
            self.session.lock().id = Some(session.clone());
        }
        let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if kind.starts_with("text/event-stream") {
            return self.follow(response, id).await;
        }
        if kind.starts_with("application/json") {
            let body = self.body(response).await?;
            return match self.hear(&body, Some(id)).await {
                Some(Heard::Answer) => Ok(()),
                _ => Err(protocol("the body is not the answer to this request", &body)),
            };
        }
        let kind = quote(kind);
        let status = response.status().as_u16();
        let body = self.body(response).await?;
        Err(protocol(&format!("HTTP {status} with a body of type `{kind}` is no MCP answer"), &body))
    }

    /// A refusal is the answer where it carries a JSON-RPC error, or where a server that has never heard of
    /// `server/discover` refuses exactly that.
    async fn refused(&self, refusal: Refusal, id: &RequestId, probes: bool) -> Result<(), Trouble> {
        let login = matches!(refusal.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        let error = match refusal.error() {
            Some(message) => message.get("error").cloned().unwrap_or_default(),
            None if probes && refusal.status.is_client_error() && !login => {
                json!({"code": -32601, "message": refusal.trouble().message})
            }
            None => return Err(refusal.trouble()),
        };
        let answer = json!({"jsonrpc": "2.0", "id": id, "error": error});
        match self.hear(answer.to_string().as_bytes(), Some(id)).await {
            Some(Heard::Answer) => Ok(()),
            _ => Err(refusal.trouble()),
        }
    }

    /// Reads the events of a response up to the answer.
    async fn follow(&self, response: Response, id: &RequestId) -> Result<(), Trouble> {
        let mut stream = Stream::new(response, self.address.bytes_max);
        let mut place = Place::default();
        loop {
            let ended = match stream.next().await {
                Ok(Some(event)) => {
                    place.note(&event);
                    if event.data.is_empty() {
                        continue;
                    }
                    match self.hear(event.data.as_bytes(), Some(id)).await {
                        Some(Heard::Answer) => return Ok(()),
                        _ => continue,
                    }
                }
                Ok(None) => "the stream of events ended without an answer".to_owned(),
                Err(Broken::TooLong) => return Err(too_long(self.address.bytes_max)),
                Err(Broken::Read(error)) => format!("the stream of events broke: {error}"),
            };
            stream = self.resume(&mut place, ended).await?;
        }
    }

    /// Opens the stream again after the last event, a few times.
    async fn resume(&self, place: &mut Place, ended: String) -> Result<Stream, Trouble> {
        loop {
            let Some(last) = place.last.clone() else { return Err(unknown(ended)) };
            if place.silent >= RESUMES_MAX {
                return Err(unknown(format!("{ended}, and {RESUMES_MAX} attempts to pick it up again failed")));
            }
            tokio::time::sleep(place.pause()).await;
            place.silent += 1;
            if let Ok(Some(response)) = self.get(Some(&last)).await {
                return Ok(Stream::new(response, self.address.bytes_max));
            }
        }
    }

    /// Listens to what a server of sessions says unasked, as long as the session lasts.
    pub(super) async fn listen(self: Arc<Self>) {
        let dead = self.state.dead.clone();
        tokio::select! {
            biased;
            () = dead.cancelled() => {}
            () = self.listen_on() => {}
        }
    }

    async fn listen_on(&self) {
        let mut place = Place::default();
        while place.silent < RESUMES_MAX {
            let opened = self.get(place.last.as_deref()).await;
            match opened {
                Ok(Some(response)) => {
                    let mut stream = Stream::new(response, self.address.bytes_max);
                    while let Ok(Some(event)) = stream.next().await {
                        place.note(&event);
                        if !event.data.is_empty() {
                            self.hear(event.data.as_bytes(), None).await;
                        }
                    }
                }
                // The server offers no such stream.
                Ok(None) => return,
                Err(_) => {}
            }
            place.silent += 1;
            tokio::time::sleep(place.pause()).await;
        }
        tracing::debug!(server = self.state.server, "its stream of notifications is given up");
    }

    /// A stream of events by GET; `None` if the server has none to offer.
    async fn get(&self, last: Option<&str>) -> Result<Option<Response>, reqwest::Error> {
        let mut headers = self.address.headers.clone();
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        self.session_headers(&mut headers);
        if let Some(last) = last.and_then(|last| HeaderValue::from_str(last).ok()) {
            headers.insert(headers::LAST_EVENT, last);
        }
        self.bearer(&mut headers).await;
        let response = self.client.get(self.address.url.clone()).headers(headers).send().await?;
        let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let usable = response.status().is_success() && kind.starts_with("text/event-stream");
        Ok(usable.then_some(response))
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>, Trouble> {
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() > self.address.bytes_max => {
                    return Err(too_long(self.address.bytes_max));
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => return Ok(body),
                Err(error) => return Err(unknown(format!("the answer broke off: {}", quote(&error.to_string())))),
            }
        }
    }

    /// Takes one message of the server; `None` if it is none.
    async fn hear(&self, bytes: &[u8], id: Option<&RequestId>) -> Option<Heard> {
        let Ok(Value::Object(message)) = serde_json::from_slice(bytes) else {
            self.inbound.line(bytes);
            return None;
        };
        let answers = id.is_some_and(|id| is_answer(&message, id));
        if answers {
            self.note_version(&message);
        }
        if let Some(message) = self.inbound.message(message, id) {
            // The receiver is gone only when the connection is.
            self.outbox.send(message).await.ok()?;
        }
        Some(if answers { Heard::Answer } else { Heard::Other })
    }

    /// The revision that `initialize` agreed on goes into every later header.
    fn note_version(&self, message: &Map<String, Value>) {
        let mut facts = self.session.lock();
        if facts.version.is_none() {
            let version = message.get("result").and_then(|result| result.get("protocolVersion"));
            facts.version = version.and_then(Value::as_str).and_then(|version| HeaderValue::from_str(version).ok());
        }
    }
}

fn is_answer(message: &Map<String, Value>, id: &RequestId) -> bool {
    let id = json!(id);
    let written = id.to_string();
    let same = |found: &Value| *found == id || found.as_str().is_some_and(|text| text == written);
    !message.contains_key("method") && message.get("id").is_some_and(same)
}

fn is_probe(message: &ClientJsonRpcMessage) -> bool {
    matches!(message, JsonRpcMessage::Request(request) if matches!(request.request, ClientRequest::DiscoverRequest(_)))
}

fn is_initialize(message: &ClientJsonRpcMessage) -> bool {
    matches!(message, JsonRpcMessage::Request(request) if matches!(request.request, ClientRequest::InitializeRequest(_)))
}

fn too_long(bytes_max: usize) -> Trouble {
    unknown(format!("the server sent a message of more than {bytes_max} bytes"))
}

fn protocol(what: &str, body: &[u8]) -> Trouble {
    let body = quote(String::from_utf8_lossy(&body[..body.len().min(1024)]).trim());
    let message = if body.is_empty() { format!("{what}: it is empty") } else { format!("{what}: {body}") };
    Trouble::new(ToolErrorClass::Protocol, Delivery::Answered, message)
}

/// Where a stream of events is, and how patient we are with it.
#[derive(Debug, Default)]
struct Place {
    last: Option<String>,
    retry: Option<Duration>,
    silent: u32,
}

impl Place {
    fn note(&mut self, event: &Event) {
        if event.id.is_some() {
            self.last.clone_from(&event.id);
        }
        self.retry = event.retry.or(self.retry);
        self.silent = 0;
    }

    fn pause(&self) -> Duration {
        let pause = self.retry.unwrap_or_else(|| RESUME_PAUSE.saturating_mul(1 << self.silent.min(RESUMES_MAX)));
        pause.clamp(RESUME_PAUSE_MIN, RESUME_PAUSE_MAX)
    }
}

enum Broken {
    TooLong,
    Read(String),
}

/// The events of one response.
struct Stream {
    response: Response,
    reader: EventReader,
    ready: std::collections::VecDeque<Event>,
}

impl Stream {
    fn new(response: Response, bytes_max: usize) -> Self {
        Self { response, reader: EventReader::new(bytes_max), ready: std::collections::VecDeque::new() }
    }

    async fn next(&mut self) -> Result<Option<Event>, Broken> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            match self.response.chunk().await {
                Ok(Some(chunk)) => self.ready.extend(self.reader.feed(&chunk).map_err(|_| Broken::TooLong)?),
                Ok(None) => return Ok(None),
                Err(error) => return Err(Broken::Read(quote(&error.to_string()))),
            }
        }
    }
}
