//! Streamable HTTP below `rmcp`: one exchange per request, each bounded, each with an honest end.
//!
//! It stands where the library's own HTTP client could stand, because that one reconnects without a limit, cannot say
//! whether a request left, and decodes results into a union that loses some of them. Redirects are followed within the
//! server's own origin only, tokens go to one server only, and every answer has a size.
//!
//! ```text
//! rmcp ─ HttpWire ─ Link ─ exchange (one per request): post ─▶ JSON | events ─▶ resume (bounded) ─▶ inbox
//!                      └── listen (one per session of the era before 2026-07-28)
//! ```

mod address;
mod events;
mod exchange;
mod headers;
mod post;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use rmcp::RoleClient;
use rmcp::model::{
    ClientJsonRpcMessage, ClientNotification, ErrorData, JsonRpcMessage, RequestId, ServerJsonRpcMessage,
};
use rmcp::transport::Transport;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub(crate) use self::address::Reach;
pub(super) use self::headers::{Promoted, check_annotations};

use self::address::Resolver;
use super::auth::Tokens;
use super::error::Delivery;
use super::inbound::Inbound;
use super::tap::{Tap, Trouble};
use super::wire::{Fault, WireState};

/// Messages of a server that wait to be read.
const INBOX_MAX: usize = 256;
/// Time to reach the server's address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// An unused connection is given up before servers do so: reusing one that the other side just closed loses a request.
const POOL_IDLE: Duration = Duration::from_secs(3);
/// Time for the goodbye to a session.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);
/// Headers that belong to the transport; a configuration may not set them.
const RESERVED: [&str; 9] = [
    "accept",
    "content-type",
    "content-length",
    "host",
    "mcp-session-id",
    "mcp-protocol-version",
    "mcp-method",
    "mcp-name",
    "last-event-id",
];

/// A server to speak to, every reference resolved.
pub(super) struct Address {
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) reach: Reach,
    pub(super) bytes_max: usize,
    pub(super) tokens: Option<Arc<Tokens>>,
}

/// Headers of a configuration as they are sent.
///
/// # Errors
/// The name of the header that cannot be sent, never its value.
pub(super) fn read_headers(pairs: impl Iterator<Item = (String, String)>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{name}` is no name of a header"))?;
        if RESERVED.contains(&parsed.as_str()) {
            return Err(format!("the header `{name}` is set by the protocol"));
        }
        let mut value =
            HeaderValue::from_str(&value).map_err(|_| format!("the value of the header `{name}` cannot be sent"))?;
        value.set_sensitive(true);
        headers.insert(parsed, value);
    }
    Ok(headers)
}

/// One connection, as `rmcp` sees it.
pub(super) struct HttpWire {
    link: Arc<Link>,
    inbox: mpsc::Receiver<ServerJsonRpcMessage>,
}

/// What the exchanges of one connection share.
struct Link {
    client: Client,
    address: Address,
    state: Arc<WireState>,
    inbound: Inbound,
    outbox: mpsc::Sender<ServerJsonRpcMessage>,
    session: Mutex<SessionFacts>,
    /// Whether the last request was one of the 2026-07-28 era: there, closing the stream is the cancellation.
    modern: AtomicBool,
    open: Mutex<HashMap<RequestId, CancellationToken>>,
}

/// What a server of the era before said when the session began.
#[derive(Debug, Default, Clone)]
struct SessionFacts {
    id: Option<HeaderValue>,
    version: Option<HeaderValue>,
}

impl HttpWire {
    /// # Errors
    /// If the TLS part of the client cannot be set up.
    pub(super) fn new(address: Address, state: Arc<WireState>) -> io::Result<Self> {
        let client = Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .dns_resolver(Arc::new(Resolver(address.reach)))
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(POOL_IDLE)
            .user_agent(concat!("interlock/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(io::Error::other)?;
        let (outbox, inbox) = mpsc::channel(INBOX_MAX);
        let link = Link {
            client,
            address,
            inbound: Inbound::new(state.clone()),
            state,
            outbox,
            session: Mutex::default(),
            modern: AtomicBool::new(false),
            open: Mutex::default(),
        };
        Ok(Self { link: Arc::new(link), inbox })
    }
}

impl Drop for HttpWire {
    fn drop(&mut self) {
        // Nobody reads any more: exchanges and the listener end.
        self.link.state.drained.cancel();
        self.link.state.fail(Fault::ClosedByUs);
    }
}

impl Transport<RoleClient> for HttpWire {
    type Error = io::Error;

    fn send(&mut self, message: ClientJsonRpcMessage) -> impl Future<Output = io::Result<()>> + Send + 'static {
        let tap = self.link.state.taps.register(&message);
        let link = self.link.clone();
        async move { link.send(message, tap).await }
    }

    async fn receive(&mut self) -> Option<ServerJsonRpcMessage> {
        tokio::select! {
            biased;
            () = self.link.state.dead.cancelled() => None,
            message = self.inbox.recv() => message,
        }
    }

    async fn close(&mut self) -> io::Result<()> {
        self.link.state.fail(Fault::ClosedByUs);
        self.link.say_goodbye().await;
        Ok(())
    }
}

impl Link {
    async fn send(self: Arc<Self>, message: ClientJsonRpcMessage, tap: Option<Arc<Tap>>) -> io::Result<()> {
        if self.state.dead.is_cancelled() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        if let JsonRpcMessage::Request(request) = &message {
            let id = request.id.clone();
            let stop = self.state.dead.child_token();
            self.open.lock().insert(id.clone(), stop.clone());
            tokio::spawn(async move {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => {}
                    () = self.clone().exchange(message, &id, tap) => {}
                }
                self.open.lock().remove(&id);
            });
            return Ok(());
        }
        if let Some(id) = cancelled(&message) {
            if let Some(stop) = self.open.lock().remove(&id) {
                stop.cancel();
            }
            if self.modern.load(Ordering::Acquire) {
                return Ok(());
            }
        }
        let begins = matches!(
            &message,
            JsonRpcMessage::Notification(note) if matches!(note.notification, ClientNotification::InitializedNotification(_))
        );
        let posted = self.post(&message, None).await;
        let posted = posted.map(drop).map_err(|trouble| io::Error::other(trouble.message));
        if begins && posted.is_ok() {
            tokio::spawn(self.clone().listen());
        }
        posted
    }

    /// The end of a request without an answer. A watched one is told; an unwatched one belongs to the handshake, which
    /// understands errors only.
    async fn give_up(&self, id: &RequestId, tap: Option<&Tap>, trouble: Trouble) {
        if let Some(tap) = tap {
            return tap.fail(trouble);
        }
        // What happens to a stream of notifications later explains no end of the connection.
        if !self.state.attached.load(Ordering::Acquire) {
            self.state.note(Fault::Http(trouble.message.clone()));
        }
        let error = ErrorData::internal_error(trouble.message, None);
        let _ = self.outbox.send(ServerJsonRpcMessage::error(error, Some(id.clone()))).await;
    }

    fn session_headers(&self, headers: &mut HeaderMap) {
        let facts = self.session.lock().clone();
        if let Some(id) = facts.id {
            headers.insert(headers::SESSION, id);
        }
        if let Some(version) = facts.version {
            headers.insert(headers::VERSION, version);
        }
    }

    async fn say_goodbye(&self) {
        let mut headers = self.address.headers.clone();
        self.session_headers(&mut headers);
        if !headers.contains_key(headers::SESSION) {
            return;
        }
        self.bearer(&mut headers).await;
        let request = self.client.delete(self.address.url.clone()).headers(headers);
        let _ = tokio::time::timeout(GOODBYE_TIMEOUT, request.send()).await;
    }

    async fn bearer(&self, headers: &mut HeaderMap) -> Option<String> {
        let token = match &self.address.tokens {
            Some(tokens) => tokens.current().await,
            None => None,
        }?;
        if let Ok(mut value) = HeaderValue::from_str(&format!("Bearer {token}")) {
            value.set_sensitive(true);
            headers.insert(reqwest::header::AUTHORIZATION, value);
        }
        Some(token)
    }
}

/// The request that a message of ours cancels.
fn cancelled(message: &ClientJsonRpcMessage) -> Option<RequestId> {
    match message {
        JsonRpcMessage::Notification(note) => match &note.notification {
            ClientNotification::CancelledNotification(cancelled) => cancelled.params.request_id.clone(),
            _ => None,
        },
        _ => None,
    }
}

/// A failure after which nobody knows whether the request was acted on.
fn unknown(message: impl Into<String>) -> Trouble {
    Trouble::new(super::error::ToolErrorClass::OutcomeUnknown, Delivery::Unknown, message)
}
