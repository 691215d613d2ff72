//! One attached connection: opening it in the right era, one request at a time with a deadline, and its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rmcp::model::{
    CallToolRequest, ClientCapabilities, ClientConfig, ClientRequest, ErrorData, GetExtensions, Implementation,
    ProtocolVersion, RequestMetaObject, ServerResult,
};
use rmcp::service::{ClientInitializeError, Peer, PeerRequestOptions, RequestHandle, RunningService, ServiceError};
use rmcp::{ClientCacheConfig, ClientHandler, ClientServiceExt, RoleClient};
use serde_json::Value;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::child::{self, Process, Spawn};
use super::config::{ServerConfig, TransportConfig};
use super::dial::Pipes;
use super::era::{Era, Opening, worth_initialize};
use super::error::{Delivery, ToolError, ToolErrorClass, quote};
use super::front::{HubContext, ProgressSink};
use super::limits::CANCEL_GRACE;
use super::reference::{Secrets, expand};
use super::tap::Tap;
use super::wire::{Fault, Wire, WireState};

/// Our side of the connection. Declares no capability: servers cannot ask for input, samples or roots here.
#[derive(Debug)]
struct Client;

impl ClientHandler for Client {
    fn get_info(&self) -> ClientConfig {
        let identity = Implementation::new("interlock", env!("CARGO_PKG_VERSION"));
        // The library's own default names a revision that has no `initialize`.
        ClientConfig::new(ClientCapabilities::default(), identity)
            .with_protocol_version(ProtocolVersion::LATEST_WITH_INITIALIZE)
    }
}

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

/// How a failed opening goes on.
enum OpenError {
    /// A fresh connection with `initialize` may work.
    TryInitialize(ToolError),
    /// It will not.
    Final(ToolError),
}

/// Attaches a server: probes it, or uses what is known about it, within the configured start time.
pub(super) async fn attach(config: &ServerConfig, hub: &HubContext, known: Option<Era>) -> Result<Session, ToolError> {
    let deadline = Instant::now() + config.start_timeout;
    let opening = known.map_or(Opening::Probe, Opening::Known);
    let first = match open(config, hub, opening, deadline).await {
        Ok(session) => return Ok(session),
        Err(OpenError::Final(error)) => return Err(error),
        Err(OpenError::TryInitialize(error)) => error,
    };
    tracing::debug!(
        server = config.name,
        reason = first.message,
        "not a modern server; trying initialize on a fresh connection"
    );
    match open(config, hub, Opening::Known(Era::Initialize), deadline).await {
        Ok(session) => Ok(session),
        Err(OpenError::Final(error) | OpenError::TryInitialize(error)) => Err(error),
    }
}

async fn open(
    config: &ServerConfig,
    hub: &HubContext,
    opening: Opening,
    deadline: Instant,
) -> Result<Session, OpenError> {
    let state = WireState::new(&config.name);
    let (pipes, process, secrets) = connect(config, hub, &state).await.map_err(OpenError::Final)?;
    // Ends the process whenever this function is left without a session.
    let abandon = state.dead.clone().drop_guard();
    let wire = Wire::new(pipes, config.max_line_bytes, state.clone());
    let until = match opening {
        Opening::Probe => deadline.min(Instant::now() + config.discover_timeout),
        Opening::Known(_) => deadline,
    };
    let attached = timeout_at(until, Client.serve_with_lifecycle(wire, opening.mode())).await;
    let service = match attached {
        Ok(Ok(service)) => service,
        Ok(Err(error)) => return Err(refused(config, opening, &error, &state, process).await),
        Err(_) => return Err(silent(config, opening, process)),
    };
    abandon.disarm();
    let peer = service.peer().clone();
    peer.set_response_cache_config(ClientCacheConfig::disabled()).await;
    state.attached.store(true, Ordering::Release);
    let info = peer.peer_info();
    let version =
        info.as_ref().map(|info| info.protocol_version.clone()).unwrap_or(ProtocolVersion::LATEST_WITH_INITIALIZE);
    let introduction = Introduction {
        protocol_version: version.to_string(),
        identity: info
            .as_ref()
            .and_then(|info| info.server_info.as_ref())
            .map(|who| quote(&format!("{} {}", who.name, who.version))),
        instructions: info.as_ref().and_then(|info| info.instructions.clone()),
    };
    let service = tokio::sync::Mutex::new(service);
    Ok(Session {
        peer,
        service,
        state,
        process,
        secrets,
        era: Era::of(&version),
        introduction,
        answered: AtomicBool::new(false),
    })
}

/// Connects without a word said yet.
async fn connect(
    config: &ServerConfig,
    hub: &HubContext,
    state: &Arc<WireState>,
) -> Result<(Pipes, Option<Process>, Secrets), ToolError> {
    let fail = |class, message: String| ToolError::server(class, &config.name, message);
    match &config.transport {
        TransportConfig::Stdio { command, args, env, cwd } => {
            let mut secrets = Secrets::default();
            let lookup = hub.lookup.as_ref();
            let mut resolve = |text: &str| {
                expand(text, lookup, &mut secrets).map_err(|message| fail(ToolErrorClass::Invalid, message))
            };
            let command = resolve(command)?;
            let args = args.iter().map(|arg| resolve(arg)).collect::<Result<_, _>>()?;
            let env = env
                .iter()
                .map(|(name, value)| Ok((name.clone(), resolve(value)?)))
                .collect::<Result<_, ToolError>>()?;
            let cwd = match cwd {
                Some(cwd) => Ok(cwd.clone()),
                None => child::own_directory(&hub.work_root, &config.name),
            };
            let cwd =
                cwd.map_err(|error| fail(ToolErrorClass::Unavailable, format!("no working directory: {error}")))?;
            let message = format!("`{command}` cannot be started in {}", cwd.display());
            let spec = Spawn {
                server: config.name.clone(),
                command,
                args,
                env,
                cwd,
                close_grace: config.close_grace,
                secrets: secrets.clone(),
            };
            let (pipes, process) = child::spawn(spec, state, &hub.reaper).map_err(|error| {
                fail(ToolErrorClass::Unavailable, format!("{message}: {error}"))
                    .fix("check `command`, `cwd` and the PATH given in `env`: the server does not inherit ours")
            })?;
            Ok((pipes, Some(process), secrets))
        }
        TransportConfig::Custom(dial) => {
            let pipes = dial
                .dial()
                .await
                .map_err(|error| fail(ToolErrorClass::Unavailable, format!("cannot connect: {error}")))?;
            Ok((pipes, None, Secrets::default()))
        }
        TransportConfig::Http { .. } => {
            Err(fail(ToolErrorClass::Unavailable, "servers reached by `url` are not supported yet".into())
                .fix("start the server with `command`"))
        }
    }
}

async fn refused(
    config: &ServerConfig,
    opening: Opening,
    error: &ClientInitializeError,
    state: &WireState,
    process: Option<Process>,
) -> OpenError {
    // When the pipe closed because the process ended, its status is the better reason; it is known in a moment.
    if let (Some(process), Some(Fault::Closed)) = (&process, state.fault()) {
        state.dead.cancel();
        let _ = timeout(config.close_grace * 3, process.gone()).await;
    }
    let mut message = match (state.fault(), error) {
        (Some(fault), _) => format!("the server could not be attached: {}", fault.describe()),
        (None, error) => format!("the server could not be attached: {}", quote(&error.to_string())),
    };
    append_last_words(&mut message, process.as_ref());
    let error_class = match state.fault() {
        Some(_) => ToolErrorClass::Unavailable,
        None => ToolErrorClass::Protocol,
    };
    let failure = ToolError::server(error_class, &config.name, message);
    if opening == Opening::Probe && worth_initialize(error) {
        OpenError::TryInitialize(failure)
    } else {
        OpenError::Final(failure)
    }
}

fn silent(config: &ServerConfig, opening: Opening, process: Option<Process>) -> OpenError {
    let waited = if opening == Opening::Probe { config.discover_timeout } else { config.start_timeout };
    let mut message = format!("the server did not answer the handshake within {waited:?}");
    append_last_words(&mut message, process.as_ref());
    let failure = ToolError::server(ToolErrorClass::Timeout, &config.name, message)
        .fix("raise `start_timeout` if it starts slowly");
    if opening == Opening::Probe { OpenError::TryInitialize(failure) } else { OpenError::Final(failure) }
}

fn append_last_words(message: &mut String, process: Option<&Process>) {
    if let Some(words) = process.and_then(Process::last_words) {
        message.push_str("; its last words: ");
        message.push_str(&quote(&words));
    }
}

/// Limits of one request.
pub(super) struct Wait<'a> {
    pub(super) until: Instant,
    pub(super) idle: Option<Duration>,
    pub(super) cancel: &'a CancellationToken,
    pub(super) progress: Option<ProgressSink>,
    pub(super) meta: Option<RequestMetaObject>,
}

/// Why a request has no result.
#[derive(Debug)]
pub(super) enum NoResult {
    /// The server answered with an error.
    Refused(ErrorData),
    /// The whole or the idle time passed.
    Late { idle: bool, delivery: Delivery },
    /// The caller gave up.
    Cancelled(Delivery),
    /// The connection ended.
    Lost(Delivery),
}

impl Session {
    /// Whether the connection is over.
    pub(super) fn is_dead(&self) -> bool {
        self.state.dead.is_cancelled() || self.peer.is_transport_closed()
    }

    /// Sends one request and waits for its raw result. Never sends it twice.
    pub(super) async fn request(&self, mut request: ClientRequest, wait: Wait<'_>) -> Result<Value, NoResult> {
        let tap = Tap::new(wait.progress.clone());
        request.extensions_mut().insert(tap.clone());
        let mut options = PeerRequestOptions::no_options();
        options.meta = wait.meta.clone();
        let handed_over = timeout_at(wait.until, self.peer.send_request_with_option(request, options)).await;
        let handle = match handed_over {
            Ok(Ok(handle)) => handle,
            Ok(Err(_)) => return Err(NoResult::Lost(tap.withdraw())),
            Err(_) => return Err(NoResult::Late { idle: false, delivery: tap.withdraw() }),
        };
        let mut pending = Pending { handle: Some(handle), tap };
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
                let waited = if idle {
                    format!("no progress for {:?}", config.idle_timeout.unwrap_or(total))
                } else {
                    format!("no answer within {total:?}")
                };
                let oddities = self.state.oddities().map(|text| format!("; {text}")).unwrap_or_default();
                base(ToolErrorClass::Timeout, format!("{waited}{oddities}")).delivered(delivery)
            }
            NoResult::Cancelled(delivery) => {
                base(ToolErrorClass::Cancelled, "the call was cancelled".into()).delivered(delivery)
            }
            NoResult::Lost(delivery) => {
                let mut message = self.cause_of_death().await;
                append_last_words(&mut message, self.process.as_ref());
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
    use rmcp::model::ErrorCode;
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
                    return Err(NoResult::Late { idle: until < wait.until, delivery: self.tap.withdraw() });
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
        let Some(handle) = self.handle.take() else { return };
        if self.tap.withdraw() == Delivery::NotSent {
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

/// A `tools/call` request.
pub(super) fn call_request(tool: &str, arguments: serde_json::Map<String, Value>) -> ClientRequest {
    let params = rmcp::model::CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
    ClientRequest::CallToolRequest(CallToolRequest::new(params))
}

/// A `tools/list` request for one page.
pub(super) fn list_request(cursor: Option<String>) -> ClientRequest {
    let params = cursor.map(|cursor| rmcp::model::PaginatedRequestParams::default().with_cursor(Some(cursor)));
    ClientRequest::ListToolsRequest(rmcp::model::ListToolsRequest { params, ..Default::default() })
}
