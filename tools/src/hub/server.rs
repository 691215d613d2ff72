//! One configured server: started when it is needed, listed when its list is old, called within its limits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rmcp::model::{MetaObject, RequestMetaObject};
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::config::ServerConfig;
use super::era::Era;
use super::error::{Delivery, ToolError, ToolErrorClass};
use super::front::{CallOptions, HubContext};
use super::inventory::{Defect, Inventory, Pages, Tool};
use super::limits::{BACKOFF_INITIAL, BACKOFF_MAX, LIST_AGE_MAX};
use super::outcome::{Reading, ToolOutcome};
use super::session::{NoResult, Session, Wait, attach, call_request, list_request};

/// `_meta` key under which the stable key of a call is handed to the tool.
const IDEMPOTENCY_KEY: &str = "interlock/idempotency-key";
/// A pause before a restart up to this long is waited out; a longer one is an error to the caller.
const BACKOFF_WAIT_MAX: Duration = Duration::from_secs(1);
/// Names offered when a tool is not found.
const SUGGESTIONS_MAX: usize = 3;

/// A server and what is known about it.
pub(super) struct Server {
    pub(super) config: ServerConfig,
    hub: Arc<HubContext>,
    slot: tokio::sync::Mutex<Slot>,
    permits: Arc<Semaphore>,
    in_flight: AtomicUsize,
}

#[derive(Default)]
struct Slot {
    session: Option<Arc<Session>>,
    listed: Option<Arc<Listed>>,
    era: Option<Era>,
    failures: u32,
    not_before: Option<Instant>,
    closed: bool,
}

/// One fresh list, compiled.
struct Listed {
    at: Instant,
    tools: BTreeMap<String, Tool>,
    defects: Vec<Defect>,
}

/// A session and its tools as they were when the call began.
struct Ready {
    session: Arc<Session>,
    listed: Arc<Listed>,
}

impl Server {
    pub(super) fn new(config: ServerConfig, hub: Arc<HubContext>) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(config.concurrency));
        Arc::new(Self { config, hub, slot: tokio::sync::Mutex::default(), permits, in_flight: AtomicUsize::new(0) })
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }

    pub(super) async fn era(&self) -> Option<Era> {
        self.slot.lock().await.era
    }

    /// A fresh list, whatever was known before.
    pub(super) async fn list(self: &Arc<Self>) -> Result<Inventory, ToolError> {
        let ready = self.ready(Duration::ZERO).await?;
        let introduction = &ready.session.introduction;
        Ok(Inventory {
            server: self.config.name.clone(),
            environment: self.config.environment.clone(),
            protocol_version: introduction.protocol_version.clone(),
            era: ready.session.era,
            identity: introduction.identity.clone(),
            instructions: introduction.instructions.clone(),
            tools: ready.listed.tools.values().map(|tool| tool.info.clone()).collect(),
            defects: ready.listed.defects.clone(),
        })
    }

    /// One call; never repeated.
    pub(super) async fn call(
        self: &Arc<Self>,
        tool: &str,
        args: Value,
        options: CallOptions,
    ) -> Result<ToolOutcome, ToolError> {
        let _counted = InFlight::enter(&self.in_flight);
        let ready = tokio::select! {
            ready = self.ready(LIST_AGE_MAX) => ready.map_err(|error| error.about(tool))?,
            () = options.cancel.cancelled() => return Err(self.cancelled(tool)),
        };
        let ready = self.with_tool(ready, tool, &options).await?;
        let known = ready.listed.tools.get(tool).ok_or_else(|| self.not_found(tool, &ready.listed))?;
        let args = self.check_args(known, args, &options)?;
        let total = options.timeout.unwrap_or(self.config.timeout);
        let until = Instant::now() + total;
        let _permit = self.permit(tool, until, &options.cancel).await?;
        let wait = Wait {
            until,
            idle: options.idle.or(self.config.idle_timeout),
            cancel: &options.cancel,
            progress: options.progress.clone(),
            meta: options.idempotency_key.as_deref().map(key_meta),
        };
        let answer = ready.session.request(call_request(tool, args), wait).await;
        let raw = match answer {
            Ok(raw) => raw,
            Err(lost) => return Err(ready.session.explain(&self.config, Some(tool), lost, total).await),
        };
        let reading = Reading {
            server: &self.config.name,
            tool,
            output: known.output.as_ref(),
            bytes_max: options.max_result_bytes.unwrap_or(self.config.max_result_bytes),
            secrets: &ready.session.secrets,
        };
        reading.read(raw)
    }

    /// Ends the server for good.
    pub(super) async fn close(&self) {
        let session = {
            let mut slot = self.slot.lock().await;
            slot.closed = true;
            slot.session.take()
        };
        if let Some(session) = session {
            session.close(self.config.close_grace).await;
        }
    }

    /// A list that lacks the tool may just be old: it is read once more before the caller is told.
    async fn with_tool(self: &Arc<Self>, ready: Ready, tool: &str, options: &CallOptions) -> Result<Ready, ToolError> {
        if ready.listed.tools.contains_key(tool) {
            return Ok(ready);
        }
        tokio::select! {
            ready = self.ready(Duration::ZERO) => ready.map_err(|error| error.about(tool)),
            () = options.cancel.cancelled() => Err(self.cancelled(tool)),
        }
    }

    fn check_args(
        &self,
        tool: &Tool,
        args: Value,
        options: &CallOptions,
    ) -> Result<serde_json::Map<String, Value>, ToolError> {
        let name = &tool.info.name;
        if options.expected_pin.as_ref().is_some_and(|pin| *pin != tool.info.pin) {
            let message = format!("the server's description of this tool changed; its pin is now {}", tool.info.pin);
            return Err(self.error(ToolErrorClass::Denied, name, message).fix("review the tool and pin it again"));
        }
        let args = if args.is_null() { Value::Object(serde_json::Map::new()) } else { args };
        if let Err(misfit) = tool.input.check(&args) {
            let message = format!("the arguments do not fit the tool's schema: {}", misfit.message);
            return Err(self.error(ToolErrorClass::Invalid, name, message).at(misfit.pointer));
        }
        match args {
            Value::Object(args) => Ok(args),
            _ => Err(self.error(ToolErrorClass::Invalid, name, "the arguments are not an object".into()).at("")),
        }
    }

    async fn permit(
        &self,
        tool: &str,
        until: Instant,
        cancel: &CancellationToken,
    ) -> Result<OwnedSemaphorePermit, ToolError> {
        let busy = || {
            let message = format!("{} calls are already under way and none ended in time", self.config.concurrency);
            self.error(ToolErrorClass::Timeout, tool, message).fix("raise `concurrency` or the timeout")
        };
        tokio::select! {
            permit = self.permits.clone().acquire_owned() => permit.map_err(|_| busy()),
            () = tokio::time::sleep_until(until) => Err(busy()),
            () = cancel.cancelled() => Err(self.cancelled(tool)),
        }
    }

    /// An attached server with a list not older than `age_max`. Runs on its own task: a caller that gives up does not stop
    /// a slow start that the next one can use.
    async fn ready(self: &Arc<Self>, age_max: Duration) -> Result<Ready, ToolError> {
        let server = self.clone();
        let task = tokio::spawn(async move { server.make_ready(age_max).await });
        match task.await {
            Ok(result) => result,
            Err(error) => Err(ToolError::server(
                ToolErrorClass::Unavailable,
                &self.config.name,
                format!("starting it failed: {error}"),
            )),
        }
    }

    async fn make_ready(&self, age_max: Duration) -> Result<Ready, ToolError> {
        let asked = Instant::now();
        let mut slot = self.slot.lock().await;
        let session = self.live_session(&mut slot).await?;
        let changed = session.state.tools_changed.swap(false, Ordering::AcqRel);
        if let Some(listed) = &slot.listed
            && !changed
            && (listed.at.elapsed() <= age_max || listed.at >= asked)
        {
            return Ok(Ready { session, listed: listed.clone() });
        }
        slot.listed = None;
        let listed = Arc::new(self.read_list(&session).await?);
        slot.listed = Some(listed.clone());
        Ok(Ready { session, listed })
    }

    async fn live_session(&self, slot: &mut Slot) -> Result<Arc<Session>, ToolError> {
        if slot.closed {
            return Err(ToolError::server(ToolErrorClass::Unavailable, &self.config.name, "the hub is closed"));
        }
        if let Some(session) = &slot.session {
            if !session.is_dead() {
                return Ok(session.clone());
            }
            let answered = session.answered.load(Ordering::Acquire);
            slot.session = None;
            slot.listed = None;
            if answered { slot.recovered() } else { slot.failed() }
        }
        self.back_off(slot).await?;
        match attach(&self.config, &self.hub, slot.era).await {
            Ok(session) => {
                let session = Arc::new(session);
                slot.era = Some(session.era);
                slot.session = Some(session.clone());
                Ok(session)
            }
            Err(error) => {
                // The server may have been replaced by one of another era.
                slot.era = None;
                slot.failed();
                Err(error)
            }
        }
    }

    async fn back_off(&self, slot: &Slot) -> Result<(), ToolError> {
        let Some(not_before) = slot.not_before else { return Ok(()) };
        let pause = not_before.saturating_duration_since(Instant::now());
        if pause > BACKOFF_WAIT_MAX {
            let message = format!("the server failed {} times in a row", slot.failures);
            return Err(ToolError::server(ToolErrorClass::Unavailable, &self.config.name, message)
                .fix(format!("it is tried again in {pause:.0?}")));
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }

    async fn read_list(&self, session: &Session) -> Result<Listed, ToolError> {
        let at = Instant::now();
        let until = at + self.config.list_timeout;
        let never = CancellationToken::new();
        let mut pages = Pages::default();
        let mut cursor = None;
        loop {
            let wait = Wait { until, idle: None, cancel: &never, progress: None, meta: None };
            let page = match session.request(list_request(cursor), wait).await {
                Ok(page) => page,
                Err(lost) => return Err(self.list_error(session, lost).await),
            };
            match pages.add(page) {
                Ok(None) => break,
                Ok(next) => cursor = next,
                Err(message) => return Err(ToolError::server(ToolErrorClass::Protocol, &self.config.name, message)),
            }
        }
        let (tools, defects) = pages.judge(&self.config);
        for defect in &defects {
            tracing::warn!(server = self.config.name, tool = defect.tool, "tool left out: {}", defect.message);
        }
        Ok(Listed { at, tools, defects })
    }

    /// No tool was called, so nothing is in doubt: a list that failed was "not sent" as far as the caller's call goes.
    async fn list_error(&self, session: &Session, lost: NoResult) -> ToolError {
        let error = session.explain(&self.config, None, lost, self.config.list_timeout).await;
        let class =
            if error.class == ToolErrorClass::OutcomeUnknown { ToolErrorClass::Unavailable } else { error.class };
        ToolError {
            class,
            delivery: Delivery::NotSent,
            message: format!("listing its tools failed: {}", error.message),
            ..error
        }
    }

    fn not_found(&self, tool: &str, listed: &Listed) -> ToolError {
        if let Some(defect) = listed.defects.iter().find(|defect| defect.tool.as_deref() == Some(tool)) {
            return self.error(ToolErrorClass::Protocol, tool, format!("the tool is left out: {}", defect.message));
        }
        let error = self.error(ToolErrorClass::NotFound, tool, "the server has no tool of this name".into());
        let near: Vec<_> = near_names(tool, listed.tools.keys());
        if near.is_empty() { error } else { error.fix(format!("did you mean {}?", near.join(" or "))) }
    }

    fn cancelled(&self, tool: &str) -> ToolError {
        self.error(ToolErrorClass::Cancelled, tool, "the call was cancelled before it was sent".into())
    }

    fn error(&self, class: ToolErrorClass, tool: &str, message: String) -> ToolError {
        ToolError::server(class, &self.config.name, message).about(tool)
    }
}

impl Slot {
    fn recovered(&mut self) {
        self.failures = 0;
        self.not_before = None;
    }

    fn failed(&mut self) {
        let pause = BACKOFF_INITIAL.saturating_mul(1 << self.failures.min(16)).min(BACKOFF_MAX);
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(Instant::now() + pause);
    }
}

/// Counts a call while it lives, also one that is dropped.
struct InFlight<'a>(&'a AtomicUsize);

impl<'a> InFlight<'a> {
    fn enter(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn key_meta(key: &str) -> RequestMetaObject {
    let mut meta = serde_json::Map::new();
    meta.insert(IDEMPOTENCY_KEY.into(), Value::from(key));
    RequestMetaObject(MetaObject(meta))
}

/// Names that start or end alike, or contain one another: enough for a slip of the pen.
pub(super) fn near_names<'a>(wanted: &str, names: impl Iterator<Item = &'a String>) -> Vec<String> {
    let wanted = wanted.to_ascii_lowercase();
    let alike = |name: &&String| {
        let name = name.to_ascii_lowercase();
        name.contains(&wanted) || wanted.contains(&name) || sorted(&name) == sorted(&wanted)
    };
    names.filter(alike).take(SUGGESTIONS_MAX).cloned().collect()
}

fn sorted(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.sort_unstable();
    bytes
}
