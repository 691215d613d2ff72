//! One configured server: started when it is needed, listed when its list is old, called within its limits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rmcp::model::{ErrorCode, MetaObject, RequestMetaObject};
use serde_json::{Map, Value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::attach::attach;
use super::config::ServerConfig;
use super::era::Era;
use super::error::{Delivery, ToolError, ToolErrorClass};
use super::front::{CallOptions, HubContext, Look};
use super::inventory::{Defect, Inventory, Pages, Tool, ToolInfo};
use super::limits::{BACKOFF_INITIAL, BACKOFF_MAX, LIST_AGE_MAX};
use super::outcome::{Reading, ToolOutcome};
use super::schema::{Checker, Unfit};
use super::session::{NoResult, Session, Wait, call_request, list_request};

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
    checker: Checker,
}

#[derive(Default)]
struct Slot {
    session: Option<Arc<Session>>,
    listed: Option<Arc<Listed>>,
    era: Option<Era>,
    failures: u32,
    not_before: Option<Instant>,
    /// When the last attempt to get ready began, and how it failed.
    last_failure: Option<(Instant, ToolError)>,
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

/// How one attempt to make a call went.
enum Attempt {
    /// There is a result, or an error that stands.
    Ended(Result<ToolOutcome, ToolError>),
    /// The connection was dead before the first byte.
    Unsent(ToolError),
}

impl Server {
    pub(super) fn new(config: ServerConfig, hub: Arc<HubContext>) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(config.concurrency));
        Arc::new(Self {
            config,
            hub,
            slot: tokio::sync::Mutex::default(),
            permits,
            in_flight: AtomicUsize::new(0),
            checker: Checker::default(),
        })
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

    /// One call; never repeated. A connection that turns out to be dead before the first byte of the request is replaced
    /// once: the request was not sent, so sending it is no repetition.
    pub(super) async fn call(
        self: &Arc<Self>,
        tool: &str,
        args: Value,
        options: CallOptions,
    ) -> Result<ToolOutcome, ToolError> {
        let _counted = InFlight::enter(&self.in_flight);
        match self.attempt(tool, &args, &options).await {
            Attempt::Ended(result) => result,
            Attempt::Unsent(_) => match self.attempt(tool, &args, &options).await {
                Attempt::Ended(result) => result,
                Attempt::Unsent(error) => Err(error),
            },
        }
    }

    async fn attempt(self: &Arc<Self>, tool: &str, args: &Value, options: &CallOptions) -> Attempt {
        let ready = match self.ready_with(tool, options).await {
            Ok(ready) => ready,
            Err(error) => return Attempt::Ended(Err(error)),
        };
        let Some(known) = ready.listed.tools.get(tool) else {
            return Attempt::Ended(Err(self.not_found(tool, &ready.listed)));
        };
        let args = match self.check_args(known, args.clone(), options).await {
            Ok(args) => args,
            Err(error) => return Attempt::Ended(Err(error)),
        };
        let total = options.timeout.unwrap_or(self.config.timeout);
        let until = Instant::now() + total;
        let _permit = match self.permit(tool, until, &options.cancel).await {
            Ok(permit) => permit,
            Err(error) => return Attempt::Ended(Err(error)),
        };
        let wait = Wait {
            until,
            idle: options.idle.or(self.config.idle_timeout),
            cancel: &options.cancel,
            progress: options.progress.clone(),
            meta: options.idempotency_key.as_deref().map(key_meta),
        };
        match ready.session.request(call_request(tool, args), wait).await {
            Ok(raw) => Attempt::Ended(self.read(known, &ready.session, raw, options).await),
            Err(lost) => {
                let unsent = matches!(lost, NoResult::Lost(Delivery::NotSent));
                let error = ready.session.explain(&self.config, Some(tool), lost, total).await;
                if unsent { Attempt::Unsent(error) } else { Attempt::Ended(Err(error)) }
            }
        }
    }

    async fn read(
        &self,
        tool: &Tool,
        session: &Session,
        raw: Value,
        options: &CallOptions,
    ) -> Result<ToolOutcome, ToolError> {
        let reading = Reading {
            server: &self.config.name,
            tool: &tool.info.name,
            output: tool.output.as_ref(),
            checker: &self.checker,
            bytes_max: options.max_result_bytes.unwrap_or(self.config.max_result_bytes),
            secrets: &session.secrets,
        };
        reading.read(raw).await
    }

    /// One tool as the server describes it now, at most [`LIST_AGE_MAX`] ago.
    pub(super) async fn describe(self: &Arc<Self>, tool: &str) -> Result<ToolInfo, ToolError> {
        self.look(tool, LIST_AGE_MAX).await.map(|look| look.tool)
    }

    /// One tool and its server as they describe themselves, at most this long ago.
    pub(super) async fn look(self: &Arc<Self>, tool: &str, age_max: Duration) -> Result<Look, ToolError> {
        let ready = match age_max.is_zero() {
            true => self.ready(age_max).await.map_err(|error| error.about(tool))?,
            false => self.ready_with(tool, &CallOptions::default()).await?,
        };
        let introduction = &ready.session.introduction;
        match ready.listed.tools.get(tool) {
            Some(known) => Ok(Look {
                tool: known.info.clone(),
                identity: introduction.identity.clone(),
                instructions: introduction.instructions.clone(),
            }),
            None => Err(self.not_found(tool, &ready.listed)),
        }
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

    /// A ready server whose list has the tool, if it has it at all: a list that lacks it may just be old and is read
    /// once more.
    async fn ready_with(self: &Arc<Self>, tool: &str, options: &CallOptions) -> Result<Ready, ToolError> {
        let find = async {
            let ready = self.ready(LIST_AGE_MAX).await?;
            if ready.listed.tools.contains_key(tool) { Ok(ready) } else { self.ready(Duration::ZERO).await }
        };
        tokio::select! {
            ready = find => ready.map_err(|error: ToolError| error.about(tool)),
            () = options.cancel.cancelled() => Err(self.cancelled(tool)),
        }
    }

    async fn check_args(
        &self,
        tool: &Tool,
        args: Value,
        options: &CallOptions,
    ) -> Result<Map<String, Value>, ToolError> {
        let name = &tool.info.name;
        if options.expected_pin.as_ref().is_some_and(|pin| *pin != tool.info.pin) {
            let message = format!("the server's description of this tool changed; its pin is now {}", tool.info.pin);
            return Err(self.error(ToolErrorClass::Denied, name, message).fix("review the tool and pin it again"));
        }
        let args = if args.is_null() { Value::Object(Map::new()) } else { args };
        match self.checker.check(&tool.input, args).await {
            Ok(Value::Object(args)) => Ok(args),
            Ok(_) => Err(self.error(ToolErrorClass::Invalid, name, "the arguments are not an object".into()).at("")),
            Err(Unfit::Misfit(misfit)) => {
                let message = format!("the arguments do not fit the tool's schema: {}", misfit.message);
                Err(self.error(ToolErrorClass::Invalid, name, message).at(misfit.pointer))
            }
            Err(Unfit::TooLong) => {
                let message = "the arguments could not be checked against the tool's schema in time".to_owned();
                Err(self.error(ToolErrorClass::Protocol, name, message))
            }
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
        if let Some((began, error)) = &slot.last_failure
            && *began >= asked
        {
            // It was tried while we waited in line; one more try each would make the line endless.
            return Err(error.clone());
        }
        let began = Instant::now();
        let ready = self.prepare(&mut slot, asked, age_max).await;
        slot.last_failure = ready.as_ref().err().map(|error| (began, error.clone()));
        ready
    }

    async fn prepare(&self, slot: &mut Slot, asked: Instant, age_max: Duration) -> Result<Ready, ToolError> {
        let session = self.live_session(slot).await?;
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
            // Two processes of one server may fight over a lock or a port, so the old one goes first.
            session.close(self.config.close_grace).await;
            let answered = session.answered.load(Ordering::Acquire);
            slot.session = None;
            slot.listed = None;
            if answered { slot.recovered() } else { slot.failed(Instant::now()) }
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
                slot.failed(Instant::now());
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
            let mut page = match session.request(list_request(cursor), wait).await {
                Ok(page) => page,
                // A server of resources or prompts only.
                Err(NoResult::Refused(error)) if error.code == ErrorCode::METHOD_NOT_FOUND => break,
                Err(lost) => return Err(self.list_error(session, lost).await),
            };
            session.secrets.scrub_value(&mut page);
            match pages.add(page) {
                Ok(None) => break,
                Ok(next) => cursor = next,
                Err(message) => return Err(ToolError::server(ToolErrorClass::Protocol, &self.config.name, message)),
            }
        }
        let (tools, defects) = pages.judge(&self.config);
        for name in self.config.effects.keys().filter(|name| !tools.contains_key(*name)) {
            tracing::warn!(server = self.config.name, tool = name, "`effects` names a tool the server does not offer");
        }
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

    fn failed(&mut self, now: Instant) {
        let pause = BACKOFF_INITIAL.saturating_mul(1 << self.failures.min(16)).min(BACKOFF_MAX);
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(now + pause);
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
    let mut meta = Map::new();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_end_with_an_answer() {
        let (mut slot, now) = (Slot::default(), Instant::now());
        let pauses: Vec<_> = (0..10)
            .map(|_| {
                slot.failed(now);
                slot.not_before.unwrap().duration_since(now).as_millis()
            })
            .collect();
        assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]);
        slot.recovered();
        assert_eq!((slot.failures, slot.not_before), (0, None));
    }
}
