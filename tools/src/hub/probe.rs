//! The question which era a server speaks, asked before the library says a word.
//!
//! The library can ask by itself, but it gives every server ten seconds: one that loads for longer counts as a server of
//! the era before, and its late answer ends the handshake. So the hub asks with its own patience, and when the library
//! asks the same it is told what was answered.

use rmcp::model::{
    ClientJsonRpcMessage, ClientRequest, DiscoverRequest, DiscoverRequestParams, ErrorCode, GetExtensions,
    JsonRpcMessage, NumberOrString, ProtocolVersion, RequestId, RequestMetaObject, ServerJsonRpcMessage,
};
use rmcp::service::ClientInitializeError;
use rmcp::transport::Transport;
use rmcp::{ClientHandler, RoleClient};

use super::era::Era;

/// Id of our question. The library counts up from 0 and an id is not used twice on a connection.
const PROBE_ID: RequestId = NumberOrString::Number(u32::MAX as i64);
/// Errors of servers of the newer era only.
const MODERN_REFUSALS: [ErrorCode; 3] = [
    ErrorCode::UNSUPPORTED_PROTOCOL_VERSION,
    ErrorCode::MISSING_REQUIRED_CLIENT_CAPABILITY,
    ErrorCode::HEADER_MISMATCH,
];

/// A transport that may know the answer to `server/discover` already.
pub(super) struct Told<T> {
    transport: T,
    answer: Option<ServerJsonRpcMessage>,
    /// The answer under the id the library asked with.
    due: Option<ServerJsonRpcMessage>,
}

impl<T: Transport<RoleClient>> Told<T> {
    pub(super) fn new(transport: T) -> Self {
        Self { transport, answer: None, due: None }
    }

    /// Asks the server, and waits as long as the caller does. A plain error is how a server of the era before says that it
    /// does not know the question; the connection is good for `initialize` then. Whatever else comes is left to the
    /// library to judge.
    ///
    /// # Errors
    /// When the connection ends without an answer.
    pub(super) async fn ask(&mut self, client: &impl ClientHandler) -> Result<Era, ClientInitializeError> {
        let info = client.get_info();
        let mut discover = DiscoverRequest::new(DiscoverRequestParams {});
        let meta =
            RequestMetaObject::with_client_context(ProtocolVersion::V_2026_07_28, info.client_info, info.capabilities);
        discover.extensions_mut().insert(meta);
        let question = ClientJsonRpcMessage::request(ClientRequest::DiscoverRequest(discover), PROBE_ID);
        let sent = self.transport.send(question).await;
        sent.map_err(|error| ClientInitializeError::ConnectionClosed(error.to_string()))?;
        loop {
            match self.transport.receive().await {
                None => return Err(ClientInitializeError::ConnectionClosed("server/discover".into())),
                Some(JsonRpcMessage::Error(error))
                    if knows_no_discover(error.error.code) && is_ours(error.id.as_ref()) =>
                {
                    return Ok(Era::Initialize);
                }
                Some(answer @ (JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_))) => {
                    self.answer = Some(answer);
                    return Ok(Era::Modern);
                }
                // Nothing else is due before a handshake, and nobody could act on it.
                Some(_) => {}
            }
        }
    }
}

impl<T: Transport<RoleClient>> Transport<RoleClient> for Told<T> {
    type Error = T::Error;

    fn send(&mut self, message: ClientJsonRpcMessage) -> impl Future<Output = Result<(), T::Error>> + Send + 'static {
        self.due = asked(&message).and_then(|id| self.answer.take().map(|answer| addressed(answer, id)));
        let sending = if self.due.is_none() { Some(self.transport.send(message)) } else { None };
        async move {
            match sending {
                Some(sending) => sending.await,
                None => Ok(()),
            }
        }
    }

    async fn receive(&mut self) -> Option<ServerJsonRpcMessage> {
        match self.due.take() {
            Some(answer) => Some(answer),
            None => self.transport.receive().await,
        }
    }

    async fn close(&mut self) -> Result<(), T::Error> {
        self.transport.close().await
    }
}

fn knows_no_discover(code: ErrorCode) -> bool {
    !MODERN_REFUSALS.contains(&code)
}

/// An error without an id answers the only question there was; some servers turn a numeric id into a string.
fn is_ours(id: Option<&RequestId>) -> bool {
    id.is_none_or(|id| id.to_string() == PROBE_ID.to_string())
}

fn asked(message: &ClientJsonRpcMessage) -> Option<&RequestId> {
    match message {
        JsonRpcMessage::Request(asked) if matches!(asked.request, ClientRequest::DiscoverRequest(_)) => Some(&asked.id),
        _ => None,
    }
}

/// An answer to our question as one to the library's; one to any other question stays what it is.
fn addressed(answer: ServerJsonRpcMessage, id: &RequestId) -> ServerJsonRpcMessage {
    match answer {
        JsonRpcMessage::Response(answer) if is_ours(Some(&answer.id)) => {
            ServerJsonRpcMessage::response(answer.result, id.clone())
        }
        JsonRpcMessage::Error(error) if is_ours(error.id.as_ref()) => {
            ServerJsonRpcMessage::error(error.error, Some(id.clone()))
        }
        other => other,
    }
}
