//! Opening a connection: start the server or dial it, find out its era, fall back where real servers need it.
//!
//! A failed probe never reuses its connection: a late answer to `server/discover` would be taken for the answer to
//! `initialize`. And it waits for the old process to be gone: two of one server may fight over a lock or a port.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rmcp::model::{
    ClientCapabilities, ClientConfig, CreateMessageRequestMethod, ElicitRequestParams, ElicitResult, ElicitationAction,
    ElicitationCapability, ErrorData, FormElicitationCapability, Implementation, JsonObject, ProtocolVersion,
    RootsCapabilities, SamplingCapability, TASKS_EXTENSION_ID,
};
use rmcp::service::{ClientInitializeError, RequestContext, RunningService};
use rmcp::transport::Transport;
use rmcp::{ClientHandler, ClientServiceExt, RoleClient};
use runtime_core::interlocks::redact;
use tokio::time::{Instant, timeout, timeout_at};

use super::asks::{FormAnswer, Host, question_key, read_form, roots_result};
use super::auth::{Keeping, LOGIN_TIMEOUT, OAuthConfig, Tokens};
use super::child::{self, Process, Spawn};
use super::config::{ServerConfig, TransportConfig};
use super::dial::Pipes;
use super::era::{Era, Opening, mode, worth_initialize};
use super::error::{ToolError, ToolErrorClass, quote};
use super::front::HubContext;
use super::http::{Address, HttpWire, Reach, read_headers};
use super::limits::CANCEL_GRACE;
use super::probe::Told;
use super::reference::{Secrets, expand};
use super::samples::{Sampling, read_sample, sample_key};
use super::session::Session;
use super::wire::{Fault, Wire, WireState};

/// Our side of the connection. Declares what the configuration of this server allows: by default nothing, so that it
/// cannot ask for input, samples or roots.
pub(super) struct Client {
    server: String,
    elicitation: bool,
    sampling: Option<Sampling>,
    tasks: bool,
    roots: Vec<String>,
    host: Option<Arc<dyn Host>>,
    state: Arc<WireState>,
}

impl Client {
    fn new(config: &ServerConfig, hub: &HubContext, state: &Arc<WireState>) -> Self {
        Self {
            server: config.name.clone(),
            elicitation: config.elicitation,
            sampling: config.sampling.clone(),
            tasks: config.tasks,
            roots: config.roots.clone(),
            host: hub.host.clone(),
            state: state.clone(),
        }
    }

    /// Which call a question belongs to nobody says; it is certain only when there is one.
    async fn answer(&self, params: serde_json::Value) -> ElicitResult {
        let Some(dialog) = self.elicitation.then(|| self.state.only_dialog()).flatten() else {
            return ElicitResult::new(ElicitationAction::Decline);
        };
        let form = match read_form(&question_key(&params), Some(&params)) {
            Ok(form) => form,
            Err(why) => {
                dialog.refuse(why);
                return ElicitResult::new(ElicitationAction::Decline);
            }
        };
        if let Some(known) = dialog.answer(&form.key) {
            return known;
        }
        let on_the_spot = match &self.host {
            Some(host) => host.elicit(&self.server, &form).await,
            None => None,
        };
        match on_the_spot {
            Some(FormAnswer::Accept(content)) => ElicitResult::new(ElicitationAction::Accept).with_content(content),
            Some(FormAnswer::Decline) => ElicitResult::new(ElicitationAction::Decline),
            None => {
                dialog.ask(form);
                ElicitResult::new(ElicitationAction::Cancel)
            }
        }
    }

    /// A sample that was answered before the call was made again; any other ends this round, and is asked between the two.
    fn sampled(&self, params: &serde_json::Value) -> Result<serde_json::Value, ErrorData> {
        let Some(allowed) = &self.sampling else {
            return Err(ErrorData::method_not_found::<CreateMessageRequestMethod>());
        };
        let refused = |why: String| ErrorData::invalid_request(why, None);
        let Some(dialog) = self.state.only_dialog() else {
            return Err(refused("nobody knows which call this belongs to".to_owned()));
        };
        let key = sample_key(params);
        if let Some(known) = dialog.answer(&key) {
            return Ok(known);
        }
        match read_sample(&key, Some(params), allowed) {
            Ok(sample) => {
                dialog.sample(sample);
                Err(refused("not now: the call will be made again with the answer".to_owned()))
            }
            Err(why) => {
                dialog.refuse(why.clone());
                Err(refused(why))
            }
        }
    }
}

impl ClientHandler for Client {
    fn get_info(&self) -> ClientConfig {
        let identity = Implementation::new("interlock", env!("CARGO_PKG_VERSION"));
        let mut capabilities = ClientCapabilities::default();
        if self.elicitation {
            let form = FormElicitationCapability::new();
            capabilities.elicitation = Some(ElicitationCapability::new().with_form(form));
        }
        if self.sampling.is_some() {
            capabilities.sampling = Some(SamplingCapability::default());
        }
        if self.tasks {
            let extension = (TASKS_EXTENSION_ID.to_owned(), JsonObject::new());
            capabilities.extensions = Some([extension].into());
        }
        if !self.roots.is_empty() {
            capabilities.roots = Some(RootsCapabilities::default());
        }
        // The library's own default names a revision that has no `initialize`.
        ClientConfig::new(capabilities, identity).with_protocol_version(ProtocolVersion::LATEST_WITH_INITIALIZE)
    }

    async fn create_elicitation(
        &self,
        request: ElicitRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        Ok(self.answer(serde_json::to_value(request).unwrap_or_default()).await)
    }

    #[expect(deprecated, reason = "2026-07-28 keeps it for servers that have no model of their own")]
    async fn create_message(
        &self,
        request: rmcp::model::CreateMessageRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<rmcp::model::CreateMessageResult, ErrorData> {
        let answer = self.sampled(&serde_json::to_value(request).unwrap_or_default())?;
        serde_json::from_value(answer).map_err(|error| ErrorData::internal_error(error.to_string(), None))
    }

    #[expect(deprecated, reason = "servers of older revisions ask for roots")]
    async fn list_roots(&self, _: RequestContext<RoleClient>) -> Result<rmcp::model::ListRootsResult, ErrorData> {
        Ok(serde_json::from_value(roots_result(&self.roots)).unwrap_or_default())
    }
}

/// How a failed opening goes on.
enum OpenError {
    /// A fresh connection with `initialize` may work.
    TryInitialize(ToolError),
    /// It will not.
    Final(ToolError),
}

/// A connection without a word said yet.
struct Link {
    road: Road,
    process: Option<Process>,
    secrets: Secrets,
}

/// What a connection runs over.
enum Road {
    Lines(Pipes),
    Http(HttpWire),
}

/// Attaches a server: probes it, or uses what is known about it, within the configured start time.
pub(super) async fn attach(config: &ServerConfig, hub: &HubContext, known: Option<Era>) -> Result<Session, ToolError> {
    // A person may have to log in first.
    let login = config.oauth.as_ref().and(hub.consent.as_ref()).map_or(Duration::ZERO, |_| LOGIN_TIMEOUT);
    let deadline = Instant::now() + config.start_timeout + login;
    let opening = known.map_or(Opening::Probe, Opening::Known);
    let first = match open(config, hub, opening, deadline).await {
        Ok(session) => return Ok(session),
        Err(OpenError::Final(error)) => return Err(error),
        Err(OpenError::TryInitialize(error)) => error,
    };
    tracing::debug!(server = config.name, reason = first.message, "no modern server; trying initialize");
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
    let Link { road, process, secrets } = connect(config, hub, &state).await.map_err(OpenError::Final)?;
    // Ends the process whenever this function is left without a session, or dropped.
    let abandon = state.dead.clone().drop_guard();
    let hands = Handshake { config, opening, deadline };
    let client = Client::new(config, hub, &state);
    let attached = match road {
        Road::Lines(pipes) => hands.shake(client, Wire::new(pipes, config.max_line_bytes, state.clone())).await,
        Road::Http(wire) => hands.shake(client, wire).await,
    };
    let ended = match attached {
        Ok(service) => {
            abandon.disarm();
            return Ok(Session::new(service, state, process, secrets).await);
        }
        Err(ended) => ended,
    };
    let mut error = match &ended {
        NoSession::Refused(refusal) => refused(config, refusal, &state, process.as_ref()).await,
        NoSession::Silent(waited) => silent(config, *waited),
    };
    drop(abandon);
    if let Some(process) = &process {
        // The grace is given twice: after the end of input and after SIGTERM.
        let _ = timeout(config.close_grace * 3, process.gone()).await;
        error.message.push_str(&process.last_words());
    }
    error.message = secrets.scrub(error.message);
    let again = match &ended {
        NoSession::Refused(refusal) => worth_initialize(refusal),
        NoSession::Silent(_) => true,
    };
    let again = again && opening == Opening::Probe;
    Err(if again { OpenError::TryInitialize(error) } else { OpenError::Final(error) })
}

/// Why a connection did not become a session.
enum NoSession {
    Refused(Box<ClientInitializeError>),
    /// Nothing came for so long.
    Silent(Duration),
}

/// The first words on a connection.
struct Handshake<'a> {
    config: &'a ServerConfig,
    opening: Opening,
    deadline: Instant,
}

impl Handshake<'_> {
    async fn shake<T>(&self, client: Client, transport: T) -> Result<RunningService<RoleClient, Client>, NoSession>
    where
        T: Transport<RoleClient> + 'static,
    {
        let refused = |refusal| NoSession::Refused(Box::new(refusal));
        let mut transport = Told::new(transport);
        let era = match self.opening {
            Opening::Known(era) => era,
            Opening::Probe => {
                let patience = self.config.probe_time();
                // The first request is where a login happens; whether the server knows the method is said after it.
                let login = self.config.oauth.is_some();
                let until = if login { self.deadline } else { self.deadline.min(Instant::now() + patience) };
                let asked = timeout_at(until, transport.ask(&client)).await;
                asked.map_err(|_| NoSession::Silent(patience))?.map_err(refused)?
            }
        };
        let served = timeout_at(self.deadline, client.serve_with_lifecycle(transport, mode(era))).await;
        served.map_err(|_| NoSession::Silent(self.config.start_timeout))?.map_err(refused)
    }
}

async fn connect(config: &ServerConfig, hub: &HubContext, state: &Arc<WireState>) -> Result<Link, ToolError> {
    let unavailable = |message: String| ToolError::server(ToolErrorClass::Unavailable, &config.name, message);
    match &config.transport {
        TransportConfig::Stdio { .. } => {
            let spec = resolve(config, hub)?;
            let secrets = spec.secrets.clone();
            state.secrets.get_or_init(|| secrets.clone());
            let message = format!("`{}` cannot be started in {}", spec.command, spec.cwd.display());
            let (pipes, process) = child::spawn(spec, state, &hub.reaper).map_err(|error| {
                unavailable(secrets.scrub(format!("{message}: {error}")))
                    .fix("check `command`, `cwd` and the PATH given in `env`: the server does not inherit ours")
            })?;
            Ok(Link { road: Road::Lines(pipes), process: Some(process), secrets })
        }
        TransportConfig::Custom(dial) => {
            let pipes = dial.dial().await.map_err(|error| unavailable(format!("cannot connect: {error}")))?;
            Ok(Link { road: Road::Lines(pipes), process: None, secrets: Secrets::default() })
        }
        TransportConfig::Http { .. } => {
            let secrets = Secrets::default();
            let address = resolve_address(config, hub, &secrets)?;
            state.secrets.get_or_init(|| secrets.clone());
            let wire = HttpWire::new(address, state.clone())
                .map_err(|error| unavailable(format!("no HTTP client can be made: {error}")))?;
            Ok(Link { road: Road::Http(wire), process: None, secrets })
        }
    }
}

/// The process to start, every reference resolved.
fn resolve(config: &ServerConfig, hub: &HubContext) -> Result<Spawn, ToolError> {
    let TransportConfig::Stdio { command, args, env, cwd } = &config.transport else {
        return Err(ToolError::server(ToolErrorClass::Invalid, &config.name, "it has no command"));
    };
    let secrets = Secrets::default();
    let expanded = |text: &str| {
        expand(text, hub.lookup.as_ref(), &secrets)
            .map_err(|message| ToolError::server(ToolErrorClass::Invalid, &config.name, message))
    };
    let command = expanded(command)?;
    let args = args.iter().map(|arg| expanded(arg)).collect::<Result<_, _>>()?;
    let env = env.iter().map(|(name, value)| Ok((name.clone(), expanded(value)?)));
    let env = env.collect::<Result<BTreeMap<String, String>, ToolError>>()?;
    // What people paste into the file itself is a secret too, if its name says so.
    env.iter().filter(|(name, _)| redact::is_secret_key(name)).for_each(|(_, value)| secrets.add(value));
    let cwd = match cwd {
        Some(cwd) => Ok(cwd.clone()),
        None => child::own_directory(&hub.work_root, &config.name),
    };
    let cwd = cwd.map_err(|error| {
        let message = format!("no working directory under {}: {error}", hub.work_root.display());
        ToolError::server(ToolErrorClass::Unavailable, &config.name, message)
    })?;
    Ok(Spawn { server: config.name.clone(), command, args, env, cwd, close_grace: config.close_grace, secrets })
}

/// The address to dial, every reference resolved. The tokens of a server outlive its connections.
fn resolve_address(config: &ServerConfig, hub: &HubContext, secrets: &Secrets) -> Result<Address, ToolError> {
    let invalid = |message: String| ToolError::server(ToolErrorClass::Invalid, &config.name, message);
    let TransportConfig::Http { url, headers } = &config.transport else {
        return Err(invalid("it has no address".to_owned()));
    };
    let expanded = |text: &str| expand(text, hub.lookup.as_ref(), secrets).map_err(invalid);
    let reach = Reach { private: config.private_network };
    let url = reach.read(&expanded(url)?).map_err(invalid)?;
    let pairs = headers.iter().map(|(name, value)| Ok((name.clone(), expanded(value)?)));
    let pairs = pairs.collect::<Result<Vec<_>, ToolError>>()?;
    // As with variables; of `Bearer …` the last word alone is one too.
    let secret = pairs.iter().filter(|(name, _)| redact::is_secret_key(name));
    secret.flat_map(|(_, value)| value.rsplit(' ').take(1).chain([value.as_str()])).for_each(|word| secrets.add(word));
    let headers = read_headers(pairs.into_iter()).map_err(invalid)?;
    let tokens = match &config.oauth {
        Some(oauth) => {
            let word = |text: &Option<String>| text.as_deref().map(expanded).transpose();
            let oauth = OAuthConfig {
                client_id: word(&oauth.client_id)?,
                client_secret: word(&oauth.client_secret)?,
                private_key: word(&oauth.private_key)?,
                ..oauth.clone()
            };
            let keeping =
                Keeping { consent: hub.consent.clone(), folder: hub.tokens.clone(), secrets: secrets.clone() };
            Some(hub.tokens_of(&config.name, || Tokens::new(&config.name, url.clone(), reach, oauth, keeping)))
        }
        None => None,
    };
    Ok(Address { url, headers, reach, bytes_max: config.max_line_bytes, tokens })
}

async fn refused(
    config: &ServerConfig,
    refusal: &ClientInitializeError,
    state: &WireState,
    process: Option<&Process>,
) -> ToolError {
    // When the pipe closed because the process ended, its status is the better reason; it is known in a moment.
    if let (Some(process), true) = (process, pipe_closed(refusal)) {
        let _ = timeout(CANCEL_GRACE, process.gone()).await;
    }
    // The end that we made ourselves explains nothing.
    let (class, reason) = match state.fault().filter(|fault| *fault != Fault::ClosedByUs) {
        Some(fault) => (ToolErrorClass::Unavailable, fault.describe()),
        None if pipe_closed(refusal) => (ToolErrorClass::Unavailable, "it closed the connection".into()),
        None => (ToolErrorClass::Protocol, quote(&refusal.to_string())),
    };
    ToolError::server(class, &config.name, format!("the server could not be attached: {reason}"))
}

fn pipe_closed(refusal: &ClientInitializeError) -> bool {
    matches!(refusal, ClientInitializeError::ConnectionClosed(_) | ClientInitializeError::TransportError { .. })
}

fn silent(config: &ServerConfig, waited: Duration) -> ToolError {
    let message = format!("the server did not answer the handshake within {waited:?}");
    ToolError::server(ToolErrorClass::Timeout, &config.name, message).fix("raise `start_timeout` if it starts slowly")
}
