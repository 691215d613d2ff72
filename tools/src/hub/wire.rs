//! The line transport below `rmcp`: bounded, counted, and honest about what was written.
//!
//! It replaces the library's own line transport because that one drops an oversized reply with a log line only and cannot
//! say whether a request left. What a line means is decided in `inbound`.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;
use rmcp::RoleClient;
use rmcp::model::{ClientJsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::Transport;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use super::asks::Dialog;
use super::dial::Pipes;
use super::error::{floor_char_boundary, quote_within};
use super::inbound::Inbound;
use super::limits::{GARBAGE_LINES_MAX, NOTIFICATIONS_PER_SECOND, SCRUB_BYTES_MAX};
use super::lines::{LineRead, LineReader};
use super::reference::Secrets;
use super::tap::{Tap, Taps};

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// The server closed its output.
    Closed,
    /// The process ended, with this status.
    Exited(String),
    /// A message was longer than this many bytes.
    LineTooLong(usize),
    /// More notifications than the rate allows.
    Flood,
    /// More unreadable lines than are tolerated.
    Garbage,
    /// Reading failed.
    ReadFailed(String),
    /// The server does not read what it is sent.
    NotReading,
    /// The server no longer knows the session of this connection.
    SessionExpired,
    /// Over HTTP: what went wrong with the first words.
    Http(String),
    /// The hub closed the connection.
    ClosedByUs,
}

impl Fault {
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Closed => "the server closed its output".into(),
            Self::Exited(status) => format!("the server process ended ({status})"),
            Self::LineTooLong(max) => format!("the server sent a message of more than {max} bytes"),
            Self::Flood => format!(
                "the server sent more than {NOTIFICATIONS_PER_SECOND} notifications per second and was detached"
            ),
            Self::Garbage => format!("the server wrote more than {GARBAGE_LINES_MAX} lines that are not MCP messages"),
            Self::ReadFailed(error) => format!("reading from the server failed: {error}"),
            Self::NotReading => "the server does not read its input".into(),
            Self::SessionExpired => "the server ended the session".into(),
            Self::Http(message) => message.clone(),
            Self::ClosedByUs => "the connection was closed".into(),
        }
    }
}

/// What the two ends of a connection know about it.
#[derive(Debug, Default)]
pub(super) struct WireState {
    pub(super) server: String,
    /// Known once the server is started; hidden in everything that is logged or quoted.
    pub(super) secrets: OnceLock<Secrets>,
    fault: Mutex<Option<Fault>>,
    /// The connection is over for everybody; nothing is read or written any more.
    pub(super) dead: CancellationToken,
    /// The server's output has ended; everything before it was delivered.
    pub(super) drained: CancellationToken,
    /// The handshake is over: from here on a response nobody asked for is a stray.
    pub(super) attached: AtomicBool,
    /// The server said its tools changed.
    pub(super) tools_changed: AtomicBool,
    pub(super) taps: Taps,
    pub(super) garbage: AtomicU32,
    pub(super) strays: AtomicU32,
    oddity: Mutex<Option<String>>,
    /// Calls under way in which the server may ask something.
    dialogs: Mutex<Vec<Weak<Dialog>>>,
}

impl WireState {
    pub(super) fn new(server: &str) -> Arc<Self> {
        Arc::new(Self { server: server.into(), ..Self::default() })
    }

    /// Ends the connection. The first reason stays, except that a process's end explains a closed pipe.
    pub(super) fn fail(&self, fault: Fault) {
        self.note(fault);
        self.dead.cancel();
    }

    /// Records a reason without ending the connection.
    pub(super) fn note(&self, fault: Fault) {
        let mut slot = self.fault.lock();
        let explains = matches!((&*slot, &fault), (Some(Fault::Closed), Fault::Exited(_)));
        if slot.is_none() || explains {
            *slot = Some(fault);
        }
    }

    /// A call in which the server may ask begins; it ends with the value.
    pub(super) fn begin_dialog(&self, dialog: &Arc<Dialog>) {
        let mut dialogs = self.dialogs.lock();
        dialogs.retain(|open| open.strong_count() > 0);
        dialogs.push(Arc::downgrade(dialog));
    }

    /// The call a question can only belong to.
    pub(super) fn only_dialog(&self) -> Option<Arc<Dialog>> {
        let dialogs = self.dialogs.lock();
        let mut open = dialogs.iter().filter_map(Weak::upgrade);
        let only = open.next()?;
        open.next().is_none().then_some(only)
    }

    pub(super) fn fault(&self) -> Option<Fault> {
        self.fault.lock().clone()
    }

    /// What was odd on this connection, for the message of a call that got no answer.
    pub(super) fn oddities(&self) -> Option<String> {
        let strays = self.strays.load(Ordering::Relaxed);
        let garbage = self.garbage.load(Ordering::Relaxed);
        let last = self.oddity.lock().clone();
        let last = last?;
        Some(format!(
            "meanwhile it sent {strays} answers nobody asked for and {garbage} unreadable lines, the last: {last}"
        ))
    }

    /// A short form of what the server said, without its secrets.
    pub(super) fn shown(&self, text: &str, bytes_max: usize) -> String {
        // Far more than is shown, so that no half of a secret is left at the cut; far less than a line may be.
        let text = text[..floor_char_boundary(text, SCRUB_BYTES_MAX)].to_owned();
        let text = match self.secrets.get() {
            Some(secrets) => secrets.scrub(text),
            None => text,
        };
        quote_within(&text, bytes_max)
    }

    pub(super) fn odd(&self, counter: &AtomicU32, text: String) -> u32 {
        *self.oddity.lock() = Some(text);
        counter.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }
}

type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// One connection, as `rmcp` sees it.
pub(super) struct Wire {
    lines: LineReader<Box<dyn AsyncRead + Send + Unpin>>,
    write: Arc<tokio::sync::Mutex<Option<Writer>>>,
    state: Arc<WireState>,
    inbound: Inbound,
    bytes_max: usize,
}

impl Wire {
    pub(super) fn new(pipes: Pipes, bytes_max: usize, state: Arc<WireState>) -> Self {
        Self {
            lines: LineReader::new(pipes.read, bytes_max),
            write: Arc::new(tokio::sync::Mutex::new(Some(pipes.write))),
            inbound: Inbound::new(state.clone()),
            state,
            bytes_max,
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        // Nobody reads any more, so there is nothing left to wait for.
        self.state.drained.cancel();
    }
}

impl Transport<RoleClient> for Wire {
    type Error = io::Error;

    fn send(&mut self, message: ClientJsonRpcMessage) -> impl Future<Output = io::Result<()>> + Send + 'static {
        let tap = self.state.taps.register(&message);
        let bytes = serde_json::to_vec(&message);
        let write = self.write.clone();
        let dead = self.state.dead.clone();
        async move {
            let mut bytes = bytes?;
            bytes.push(b'\n');
            tokio::select! {
                biased;
                () = dead.cancelled() => Err(io::ErrorKind::NotConnected.into()),
                written = write_line(&write, &bytes, tap.as_deref()) => written,
            }
        }
    }

    async fn receive(&mut self) -> Option<ServerJsonRpcMessage> {
        loop {
            let read = tokio::select! {
                biased;
                () = self.state.dead.cancelled() => return None,
                read = self.lines.next() => read,
            };
            match read {
                LineRead::Line(line) => {
                    if let Some(message) = self.inbound.line(&line) {
                        return Some(message);
                    }
                }
                LineRead::TooLong => self.state.fail(Fault::LineTooLong(self.bytes_max)),
                LineRead::Broken(error) => self.state.fail(Fault::ReadFailed(error)),
                LineRead::End => {
                    self.state.note(Fault::Closed);
                    self.state.drained.cancel();
                    return None;
                }
            }
        }
    }

    async fn close(&mut self) -> io::Result<()> {
        // A write that is stuck in a full pipe holds the lock; the token frees it.
        self.state.fail(Fault::ClosedByUs);
        drop(self.write.lock().await.take());
        Ok(())
    }
}

async fn write_line(write: &tokio::sync::Mutex<Option<Writer>>, bytes: &[u8], tap: Option<&Tap>) -> io::Result<()> {
    let mut guard = write.lock().await;
    let Some(writer) = guard.as_mut() else { return Err(io::ErrorKind::NotConnected.into()) };
    if tap.is_some_and(|tap| !tap.begin()) {
        return Err(io::Error::other("the request was withdrawn before it was sent"));
    }
    let mut written = 0;
    while written < bytes.len() {
        match writer.write(&bytes[written..]).await {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => written += count,
            Err(error) => {
                if let (0, Some(tap)) = (written, tap) {
                    tap.nothing_written();
                }
                return Err(error);
            }
        }
    }
    writer.flush().await
}
