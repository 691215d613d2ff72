//! One attached connection: one request at a time with a deadline, and its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rmcp::model::{
    CallToolRequest, CallToolRequestParams, ClientRequest, ErrorCode, ErrorData, GetExtensions, ListToolsRequest,
    PaginatedRequestParams, ProtocolVersion, RequestMetaObject, ServerResult,
};
use rmcp::service::{Peer, PeerRequestOptions, RequestHandle, RunningService, ServiceError};
use rmcp::{ClientCacheConfig, RoleClient};
use serde_json::Value;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::asks::InputAnswers;
use super::attach::Client;
use super::child::Process;
use super::config::ServerConfig;
use super::era::Era;
use super::error::{Delivery, ToolError, ToolErrorClass, quote};
use super::front::StepSink;
use super::http::Promoted;
use super::limits::CANCEL_GRACE;
use super::listen::{listen, wants_listening};
use super::reference::Secrets;
use super::tap::{Tap, Trouble};
use super::wire::{Fault, WireState};

/// What a server said about itself when it was attached.
#[derive(Debug, Clone, Default)]
pub(super) struct Introduction {
    pub(super) protocol_version: String,
    pub(super) identity: Option<String>,
    pub(super) instructions: Option<String>,
}

/// An attached server.
pub(super) struct Session {
    peer: Peer<RoleClient>,
    service: tokio::sync::Mutex<RunningService<RoleClient, Client>>,
    pub(super) state: Arc<WireState>,
    process: Option<Process>,
    pub(super) secrets: Secrets,
    pub(super) era: Era,
    pub(super) introduction: Introduction,
    /// Whether it answered anything yet; a server that never does is restarted with growing pauses.
    pub(super) answered: AtomicBool,
}

/// Limits of one request.
pub(super) struct Wait<'a> {
    pub(super) until: Instant,
    pub(super) idle: Option<Duration>,
    pub(super) cancel: &'a CancellationToken,
    pub(super) steps: Option<StepSink>,
    pub(super) meta: Option<RequestMetaObject>,
}

/// Why a request has no result.
#[derive(Debug)]
pub(super) enum NoResult {
    /// The server answered with an error.
    Refused(ErrorData),
    /// The whole time passed, or this time without progress.
    Late { idle: Option<Duration>, delivery: Delivery },
    /// The caller gave up.
    Cancelled(Delivery),
    /// The connection ended.
    Lost(Delivery),
    /// The exchange of this request failed; the connection may go on.
    Failed(Trouble),
}

impl Session {
    pub(super) async fn new(
        service: RunningService<RoleClient, Client>,
        state: Arc<WireState>,
        process: Option<Process>,
        secrets: Secrets,
    ) -> Self {
        let peer = service.peer().clone();
        // Lists are read when they are needed; a server may not decide how long we believe it.
        peer.set_response_cache_config(ClientCacheConfig::disabled()).await;
        state.attached.store(true, Ordering::Release);
        let info = peer.peer_info();
        if let Some(info) = &info
            && wants_listening(info)
        {
            listen(peer.clone(), state.clone());
        }
        let version = info.as_ref().map(|info| info.protocol_version.clone());
        let version = version.unwrap_or(ProtocolVersion::LATEST_WITH_INITIALIZE);
        let identity = info.as_ref().and_then(|info| info.server_info.as_ref());
        let introduction = Introduction {
            protocol_version: version.to_string(),
            identity: identity.map(|who| quote(&format!("{} {}", who.name, who.version))),
            instructions: info.as_ref().and_then(|info| info.instructions.clone()).map(|text| secrets.scrub(text)),
        };
        let service = tokio::sync::Mutex::new(service);
        Self {
            peer,
            service,
            state,
            process,
            secrets,
            era: Era::of(&version),
            introduction,
            answered: AtomicBool::new(false),
        }
    }

    /// Whether the connection is over.
    pub(super) fn is_dead(&self) -> bool {
        self.state.dead.is_cancelled() || self.peer.is_transport_closed()
    }

    /// Sends one request and waits for its raw result. Never sends it twice.
    pub(super) async fn request(&self, mut request: ClientRequest, wait: Wait<'_>) -> Result<Value, NoResult> {
        let mut pending = Pending { handle: None, tap: Tap::new(wait.steps.clone()) };
        request.extensions_mut().insert(pending.tap.clone());
        let mut options = PeerRequestOptions::no_options();
        options.meta = wait.meta.clone();
        let handed_over = timeout_at(wait.until, self.peer.send_request_with_option(request, options)).await;
        match handed_over {
            Ok(Ok(handle)) => pending.handle = Some(handle),
            Ok(Err(_)) => return Err(NoResult::Lost(pending.tap.withdraw())),
            Err(_) => return Err(NoResult::Late { idle: None, delivery: pending.tap.withdraw() }),
        }
        let result = pending.wait(&self.state, &wait).await;
        if matches!(result, Ok(_) | Err(NoResult::Refused(_))) {
            self.answered.store(true, Ordering::Release);
        }
        let left = matches!(
            result,
            Err(NoResult::Late { delivery: Delivery::Unknown, .. } | NoResult::Cancelled(Delivery::Unknown))
        );
        if left && !pending.tell_cancelled("the caller no longer waits").await {
            self.state.fail(Fault::NotReading);
        }
        pending.handle = None;
        result
    }

    /// Turns a missing result into the error of a tool, or of the server where `tool` is `None`.
    pub(super) async fn explain(
        &self,
        config: &ServerConfig,
        tool: Option<&str>,
        lost: NoResult,
        total: Duration,
    ) -> ToolError {
        let base = |class, message: String| {
            let error = ToolError::server(class, &config.name, self.secrets.scrub(message));
            tool.map_or(error.clone(), |tool| error.about(tool))
        };
        match lost {
            NoResult::Refused(error) => {
                let message = format!("the server answered: {} (code {})", quote(&error.message), error.code.0);
                base(refusal_class(&error), message).delivered(Delivery::Answered)
            }
            NoResult::Late { idle, delivery } => {
                let waited = idle
                    .map_or_else(|| format!("no answer within {total:?}"), |idle| format!("no progress for {idle:?}"));
                let oddities = self.state.oddities().map(|text| format!("; {text}")).unwrap_or_default();
                base(ToolErrorClass::Timeout, format!("{waited}{oddities}")).delivered(delivery)
            }
            NoResult::Cancelled(delivery) => {
                base(ToolErrorClass::Cancelled, "the call was cancelled".into()).delivered(delivery)
            }
            NoResult::Failed(trouble) => {
                let error = base(trouble.class, trouble.message).delivered(trouble.delivery);
                match trouble.remedy {
                    Some(remedy) => error.fix(remedy),
                    None => error,
                }
            }
            NoResult::Lost(delivery) => {
                let mut message = self.cause_of_death().await;
                message.push_str(&self.process.as_ref().map(Process::last_words).unwrap_or_default());
                let class = match delivery {
                    Delivery::NotSent => ToolErrorClass::Unavailable,
                    Delivery::Answered | Delivery::Unknown => ToolErrorClass::OutcomeUnknown,
                };
                base(class, message).delivered(delivery)
            }
        }
    }

    async fn cause_of_death(&self) -> String {
        // The end of a process is known a moment after the end of its output.
        if let (Some(process), Some(Fault::Closed) | None) = (&self.process, self.state.fault()) {
            let _ = timeout(CANCEL_GRACE, process.gone()).await;
        }
        self.state.fault().unwrap_or(Fault::Closed).describe()
    }

    /// Ends the connection and its process, within three times the configured grace.
    pub(super) async fn close(&self, grace: Duration) {
        self.state.fail(Fault::ClosedByUs);
        let _ = self.service.lock().await.close_with_timeout(grace).await;
        if let Some(process) = &self.process {
            let _ = timeout(grace * 3, process.gone()).await;
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.state.fail(Fault::ClosedByUs);
    }
}

fn refusal_class(error: &ErrorData) -> ToolErrorClass {
    match error.code {
        ErrorCode::INVALID_PARAMS => ToolErrorClass::Invalid,
        ErrorCode::METHOD_NOT_FOUND | ErrorCode::RESOURCE_NOT_FOUND => ToolErrorClass::NotFound,
        ErrorCode::UNSUPPORTED_PROTOCOL_VERSION | ErrorCode::INVALID_REQUEST | ErrorCode::PARSE_ERROR => {
            ToolErrorClass::Protocol
        }
        ErrorCode::MISSING_REQUIRED_CLIENT_CAPABILITY => ToolErrorClass::InputRequired,
        _ => ToolErrorClass::Failed,
    }
}

/// A request on its way. Dropped before its end, as when its caller is dropped, it is withdrawn and cancelled.
struct Pending {
    handle: Option<RequestHandle<RoleClient>>,
    tap: Arc<Tap>,
}

impl Pending {
    async fn wait(&mut self, state: &WireState, wait: &Wait<'_>) -> Result<Value, NoResult> {
        let Some(handle) = self.handle.as_mut() else { return Err(NoResult::Lost(self.tap.withdraw())) };
        let mut idle_until = wait.idle.map(|idle| Instant::now() + idle);
        loop {
            let until = idle_until.map_or(wait.until, |idle| idle.min(wait.until));
            tokio::select! {
                biased;
                answer = &mut handle.rx => return read_answer(answer.ok(), &self.tap),
                () = wait.cancel.cancelled() => return Err(NoResult::Cancelled(self.tap.withdraw())),
                () = tokio::time::sleep_until(until) => {
                    return Err(NoResult::Late { idle: wait.idle.filter(|_| until < wait.until), delivery: self.tap.withdraw() });
                }
                () = self.tap.failed.cancelled() => {
                    let trouble = self.tap.trouble();
                    return Err(trouble.map_or_else(|| NoResult::Lost(self.tap.withdraw()), NoResult::Failed));
                }
                () = self.tap.activity.notified() => idle_until = wait.idle.map(|idle| Instant::now() + idle),
                // An answer already on its way to `rx` still wins: the library ends soon after the wire does.
                () = state.dead.cancelled() => {
                    let answer = timeout(CANCEL_GRACE, &mut handle.rx).await;
                    return read_answer(answer.ok().and_then(Result::ok), &self.tap);
                }
            }
        }
    }

    /// Tells the server, if the request left; `false` when even that cannot be written.
    async fn tell_cancelled(&mut self, reason: &str) -> bool {
        let Some(handle) = self.handle.take() else { return true };
        matches!(timeout(CANCEL_GRACE, handle.cancel(Some(reason.to_owned()))).await, Ok(Ok(())))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let delivery = self.tap.withdraw();
        let Some(handle) = self.handle.take() else { return };
        if delivery == Delivery::NotSent {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                timeout(CANCEL_GRACE, handle.cancel(Some("the caller was dropped".into()))).await.is_ok()
            });
        }
    }
}

fn read_answer(answer: Option<Result<ServerResult, ServiceError>>, tap: &Tap) -> Result<Value, NoResult> {
    match answer {
        Some(Ok(ServerResult::CustomResult(raw))) => Ok(raw.0),
        Some(Ok(typed)) => Ok(serde_json::to_value(typed).unwrap_or_default()),
        Some(Err(ServiceError::McpError(error))) => Err(NoResult::Refused(error)),
        Some(Err(_)) | None => Err(NoResult::Lost(tap.withdraw())),
    }
}

/// A `tools/call` request. `promoted` are arguments that the tool's schema wants repeated as HTTP headers.
pub(super) fn call_request(
    tool: &str,
    arguments: serde_json::Map<String, Value>,
    promoted: Promoted,
    input: Option<&InputAnswers>,
) -> ClientRequest {
    let mut params = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
    if let Some(input) = input {
        let responses = input.responses();
        params.input_responses = (!responses.is_empty()).then_some(responses);
        params.request_state.clone_from(&input.state);
    }
    let mut request = CallToolRequest::new(params);
    request.extensions.insert(promoted);
    ClientRequest::CallToolRequest(request)
}

/// A `tools/list` request for one page.
pub(super) fn list_request(cursor: Option<String>) -> ClientRequest {
    let params = cursor.map(|cursor| PaginatedRequestParams::default().with_cursor(Some(cursor)));
    ClientRequest::ListToolsRequest(ListToolsRequest { params, ..Default::default() })
}
