//! The hub as its users see it.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::artifacts::Artifacts;
use super::asks::{Host, InputAnswers, InputRequest};
use super::auth::{Consent, Tokens};
use super::config::ServerConfig;
use super::era::Era;
use super::error::{ToolError, ToolErrorClass};
use super::inventory::{Inventory, ToolInfo};
use super::limits::{DRAIN_DEFAULT, LIST_AGE_MAX};
use super::outcome::{Reading, ToolOutcome};
use super::pin::Pin;
use super::reaper::Reaper;
use super::reference::Lookup;
use super::server::{Server, near_names};
use super::shelf::{
    PromptInfo, PromptMessage, ResourceInfo, Shelf, prompt_parts, prompt_request, read_prompts, read_request,
    read_resources, resource_parts,
};
use super::task::{Task, TaskState};

/// How often [`Hub::close`] looks whether the last call has ended.
const DRAIN_POLL: Duration = Duration::from_millis(10);

/// One step a server reports about a running call.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Progress {
    /// How far it is, in units of the server.
    pub done: f64,
    /// How far it will go, if known.
    pub total: Option<f64>,
    /// What it says. Untrusted text, shortened.
    pub message: Option<String>,
}

/// What a server logs while a call is under way. Untrusted text, shortened.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LogLine {
    /// `debug` to `emergency`, in the server's words.
    pub level: String,
    /// Part of the server that speaks.
    pub logger: Option<String>,
    /// What it says.
    pub message: String,
}

/// What is heard of a running call.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Step {
    /// It goes on.
    Progress(Progress),
    /// The server logged something.
    Log(LogLine),
}

impl Step {
    /// The word for it in the stream of events.
    pub fn phase(&self) -> &'static str {
        match self {
            Self::Progress(_) => "progress",
            Self::Log(_) => "log",
        }
    }
}

/// Where steps go. A full channel loses steps, never the call.
pub type StepSink = mpsc::Sender<Step>;

/// How one call is made. `CallOptions::default()` takes everything from the server's configuration.
#[derive(Debug, Clone, Default)]
pub struct CallOptions {
    /// Whole time, from the moment the server is ready; the start of a server has its own limit.
    pub timeout: Option<Duration>,
    /// Time without progress.
    pub idle: Option<Duration>,
    /// Stable key of the call, the same on every attempt; handed to the tool in `_meta`.
    pub idempotency_key: Option<String>,
    /// Cancels the call; the server is told.
    pub cancel: CancellationToken,
    /// Receives progress, and what the server logs meanwhile.
    pub steps: Option<StepSink>,
    /// The tool must still be the one with this pin.
    pub expected_pin: Option<Pin>,
    /// Bytes of the result handed on.
    pub max_result_bytes: Option<usize>,
    /// Answers to what the server asked when the same call was made before.
    pub input: Option<InputAnswers>,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// With a result.
    Done(ToolOutcome),
    /// With questions: make the call again with [`CallOptions::input`].
    Asks(InputRequest),
    /// It goes on at the server: look at it with [`Hub::follow`].
    Began(Task),
}

/// A tool and its server as they describe themselves. Untrusted.
#[derive(Debug, Clone)]
pub struct Look {
    /// The tool.
    pub tool: Arc<ToolInfo>,
    /// Name and version the server gives itself.
    pub identity: Option<String>,
    /// Instructions of the server for a model.
    pub instructions: Option<String>,
}

/// What all servers of a hub share.
pub struct HubOptions {
    /// Directory under which servers without a `cwd` get an empty one of their own. By default a new one in the
    /// system's temporary directory, removed with the hub.
    pub work_root: Option<PathBuf>,
    /// Looks up `${NAME}`. By default the environment of this process.
    pub lookup: Box<Lookup>,
    /// How long [`Hub::close`] waits for calls in flight.
    pub drain: Duration,
    /// Who agrees to a login. By default nobody.
    pub consent: Option<Arc<dyn Consent>>,
    /// Folder of token files, closed to others. By default tokens are kept in memory.
    pub tokens: Option<PathBuf>,
    /// Who answers questions of servers on the spot. By default nobody: they go to the caller.
    pub host: Option<Arc<dyn Host>>,
    /// Where results that are too long are kept whole. By default the excess is dropped.
    pub artifacts: Option<Artifacts>,
}

impl Default for HubOptions {
    fn default() -> Self {
        Self {
            work_root: None,
            lookup: Box::new(|name| std::env::var(name).ok()),
            drain: DRAIN_DEFAULT,
            consent: None,
            tokens: None,
            host: None,
            artifacts: None,
        }
    }
}

impl fmt::Debug for HubOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubOptions")
            .field("work_root", &self.work_root)
            .field("drain", &self.drain)
            .finish_non_exhaustive()
    }
}

/// Shared by every server of a hub.
pub(super) struct HubContext {
    pub(super) work_root: PathBuf,
    owns_work_root: bool,
    pub(super) lookup: Box<Lookup>,
    pub(super) reaper: Arc<Reaper>,
    pub(super) consent: Option<Arc<dyn Consent>>,
    pub(super) tokens: Option<PathBuf>,
    pub(super) host: Option<Arc<dyn Host>>,
    pub(super) artifacts: Option<Artifacts>,
    logins: Mutex<BTreeMap<String, Arc<Tokens>>>,
}

impl HubContext {
    /// The tokens of a server, made at its first connection: a new connection is no reason for a new login.
    pub(super) fn tokens_of(&self, server: &str, make: impl FnOnce() -> Tokens) -> Arc<Tokens> {
        self.logins.lock().entry(server.to_owned()).or_insert_with(|| Arc::new(make())).clone()
    }

    fn new(options: HubOptions) -> Self {
        let HubOptions { work_root, lookup, consent, tokens, host, artifacts, drain: _ } = options;
        let owns_work_root = work_root.is_none();
        // A name nobody can have prepared for us in a shared directory.
        let chance = std::hash::RandomState::new().build_hasher().finish();
        let own = || std::env::temp_dir().join(format!("interlock-servers-{}-{chance:016x}", std::process::id()));
        let work_root = work_root.unwrap_or_else(own);
        Self {
            work_root,
            owns_work_root,
            lookup,
            reaper: Arc::default(),
            consent,
            tokens,
            host,
            artifacts,
            logins: Mutex::default(),
        }
    }
}

impl Drop for HubContext {
    fn drop(&mut self) {
        if self.owns_work_root {
            // Absent when no server was started.
            let _ = std::fs::remove_dir_all(&self.work_root);
        }
    }
}

/// Every tool server an agent can reach. Cheap to clone.
#[derive(Clone)]
pub struct Hub(Arc<Inner>);

struct Inner {
    servers: BTreeMap<String, Arc<Server>>,
    closing: AtomicBool,
    drain: Duration,
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hub").field(&self.servers()).finish()
    }
}

impl Hub {
    /// A hub with default options. Nothing is started yet. Of two configurations of one name the last counts.
    pub fn new(configs: Vec<ServerConfig>) -> Self {
        Self::with_options(configs, HubOptions::default())
    }

    /// A hub with its own directory, variables or patience.
    pub fn with_options(configs: Vec<ServerConfig>, options: HubOptions) -> Self {
        let drain = options.drain;
        let context = Arc::new(HubContext::new(options));
        let servers =
            configs.into_iter().map(|config| (config.name.clone(), Server::new(config, context.clone()))).collect();
        Self(Arc::new(Inner { servers, closing: AtomicBool::new(false), drain }))
    }

    /// Names of the configured servers.
    pub fn servers(&self) -> Vec<&str> {
        self.0.servers.keys().map(String::as_str).collect()
    }

    /// Configuration of a server.
    pub fn config(&self, server: &str) -> Option<&ServerConfig> {
        self.0.servers.get(server).map(|server| &server.config)
    }

    /// Era a server was found to speak; `None` until it was started once.
    pub async fn era(&self, server: &str) -> Option<Era> {
        self.0.servers.get(server)?.era().await
    }

    /// A fresh list of a server's tools, starting it if needed. Never from a cache.
    ///
    /// # Errors
    /// When the server cannot be started or its list as a whole is unusable; a single bad tool is a
    /// [`Defect`](super::Defect) of the inventory.
    pub async fn list_tools(&self, server: &str) -> Result<Inventory, ToolError> {
        self.server(server)?.list().await
    }

    /// One tool as its server describes it, from a list of at most a minute ago: what the guard decides on.
    ///
    /// # Errors
    /// As [`Hub::list_tools`], or of class `not_found`.
    pub async fn tool(&self, server: &str, tool: &str) -> Result<Arc<ToolInfo>, ToolError> {
        self.server(server).map_err(|error| error.about(tool))?.describe(tool).await
    }

    /// A tool and its server as they describe themselves now, from a fresh list: what is compared with a pin before a call
    /// that may change something.
    ///
    /// # Errors
    /// As [`Hub::tool`].
    pub async fn look(&self, server: &str, tool: &str) -> Result<Look, ToolError> {
        self.server(server).map_err(|error| error.about(tool))?.look(tool, Duration::ZERO).await
    }

    /// As [`Hub::look`], from a list of at most a minute ago.
    ///
    /// # Errors
    /// As [`Hub::tool`].
    pub async fn glance(&self, server: &str, tool: &str) -> Result<Look, ToolError> {
        self.server(server).map_err(|error| error.about(tool))?.look(tool, LIST_AGE_MAX).await
    }

    /// Makes one call, exactly as asked and at most once.
    ///
    /// A tool that reports its own failure is a [`ToolOutcome`] with `is_error`.
    ///
    /// # Errors
    /// Everything else; [`ToolError::delivery`] says whether the tool can have run.
    pub async fn call(
        &self,
        server: &str,
        tool: &str,
        args: Value,
        options: CallOptions,
    ) -> Result<ToolOutcome, ToolError> {
        self.server(server).map_err(|error| error.about(tool))?.call(tool, args, options).await
    }

    /// As [`Hub::call`], where the caller can have questions answered.
    ///
    /// # Errors
    /// As [`Hub::call`]; questions that are not put to anybody are of class `input_required`.
    pub async fn converse(
        &self,
        server: &str,
        tool: &str,
        args: Value,
        options: CallOptions,
    ) -> Result<Reply, ToolError> {
        self.server(server).map_err(|error| error.about(tool))?.converse(tool, args, options).await
    }

    /// Looks once at a task that a call of this tool began. Reads only.
    ///
    /// # Errors
    /// What became of the task, or of the look; of class `outcome_unknown` when the server does not know the task any more.
    pub async fn follow(&self, server: &str, tool: &str, task: &Task) -> Result<TaskState, ToolError> {
        self.server(server).map_err(|error| error.about(tool))?.follow(tool, task).await
    }

    /// Hands answers to a task that asked for them; telling twice is telling once.
    ///
    /// # Errors
    /// When the server did not take them.
    pub async fn answer_task(
        &self,
        server: &str,
        tool: &str,
        task: &Task,
        answers: &InputAnswers,
    ) -> Result<(), ToolError> {
        self.server(server).map_err(|error| error.about(tool))?.answer_task(tool, task, answers).await
    }

    /// Tells a server that nobody waits for a task any more.
    ///
    /// # Errors
    /// When the server did not take it, as one that cannot cancel.
    pub async fn cancel_task(&self, server: &str, tool: &str, task: &Task) -> Result<(), ToolError> {
        self.server(server).map_err(|error| error.about(tool))?.cancel_task(tool, task).await
    }

    /// Resources a server offers now.
    ///
    /// # Errors
    /// As [`Hub::list_tools`].
    pub async fn list_resources(&self, server: &str) -> Result<Vec<ResourceInfo>, ToolError> {
        let server = self.server(server)?;
        read_resources(&server.shelf(Shelf::Resources).await?).map_err(|message| server.of_server(message))
    }

    /// The contents of a resource, within the limits of a result.
    ///
    /// # Errors
    /// As [`Hub::call`]; reading changes nothing, so it may be repeated.
    pub async fn read_resource(&self, server: &str, uri: &str) -> Result<ToolOutcome, ToolError> {
        let read = |reading: &Reading<'_>, answer: &Value| Ok(reading.parts(resource_parts(answer)?));
        self.server(server)?.look_up(read_request(uri), read).await
    }

    /// Prompts a server offers now.
    ///
    /// # Errors
    /// As [`Hub::list_tools`].
    pub async fn list_prompts(&self, server: &str) -> Result<Vec<PromptInfo>, ToolError> {
        let server = self.server(server)?;
        read_prompts(&server.shelf(Shelf::Prompts).await?).map_err(|message| server.of_server(message))
    }

    /// A prompt with its arguments filled in. Its words are a stranger's, whatever role they speak in.
    ///
    /// # Errors
    /// As [`Hub::read_resource`].
    pub async fn get_prompt(
        &self,
        server: &str,
        name: &str,
        arguments: Map<String, Value>,
    ) -> Result<Vec<PromptMessage>, ToolError> {
        let read = |reading: &Reading<'_>, answer: &Value| {
            let (roles, parts): (Vec<_>, Vec<_>) = prompt_parts(answer)?.into_iter().unzip();
            let contents = reading.parts(parts).content;
            Ok(roles.into_iter().zip(contents).map(|(role, content)| PromptMessage { role, content }).collect())
        };
        self.server(server)?.look_up(prompt_request(name, arguments), read).await
    }

    /// Calls that have begun and not ended.
    pub fn in_flight(&self) -> usize {
        self.0.servers.values().map(|server| server.in_flight()).sum()
    }

    /// Refuses new calls, waits a while for those in flight, then ends every server and its process group.
    pub async fn close(&self) {
        self.0.closing.store(true, Ordering::Release);
        let drained = async {
            while self.in_flight() > 0 {
                tokio::time::sleep(DRAIN_POLL).await;
            }
        };
        if tokio::time::timeout(self.0.drain, drained).await.is_err() {
            tracing::warn!(in_flight = self.in_flight(), "tool servers are closed under calls in flight");
        }
        join_all(self.0.servers.values().map(|server| server.close())).await;
    }

    fn server(&self, name: &str) -> Result<&Arc<Server>, ToolError> {
        if self.0.closing.load(Ordering::Acquire) {
            return Err(ToolError::server(ToolErrorClass::Unavailable, name, "the hub is closed"));
        }
        self.0.servers.get(name).ok_or_else(|| {
            let error = ToolError::server(ToolErrorClass::NotFound, name, "no server of this name is configured");
            let near = near_names(name, self.0.servers.keys());
            if near.is_empty() { error } else { error.fix(format!("did you mean {}?", near.join(" or "))) }
        })
    }
}
