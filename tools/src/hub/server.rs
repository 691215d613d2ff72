//! One configured server: started when it is needed, listed when its list is old, called within its limits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rmcp::model::{ClientRequest, ErrorCode, MetaObject, RequestMetaObject};
use serde_json::{Map, Value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::asks::{Answering, Dialog, InputAnswers, Round};
use super::attach::attach;
use super::config::ServerConfig;
use super::era::Era;
use super::error::{Delivery, ToolError, ToolErrorClass};
use super::front::{CallOptions, HubContext, Look, Reply};
use super::http::Promoted;
use super::inventory::{Defect, Inventory, Pages, Tool, ToolInfo};
use super::limits::{BACKOFF_INITIAL, BACKOFF_MAX, LIST_AGE_MAX, ROUNDS_MAX};
use super::outcome::{Reading, ToolOutcome};
use super::schema::{Checker, Unfit};
use super::session::{NoResult, Session, Wait, call_request, list_request};
use super::shelf::Shelf;
use super::task;
use super::throttle::Throttle;

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
    pub(super) in_flight: AtomicUsize,
    checker: Checker,
    throttle: Throttle,
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
pub(super) struct Listed {
    at: Instant,
    pub(super) tools: BTreeMap<String, Tool>,
    defects: Vec<Defect>,
}

/// A session and its tools as they were when the call began.
#[derive(Clone)]
pub(super) struct Ready {
    pub(super) session: Arc<Session>,
    pub(super) listed: Arc<Listed>,
}

/// How one attempt to make a call went.
enum Attempt {
    /// There is a result, or an error that stands.
    Ended(Result<Reply, ToolError>),
    /// The connection was dead before the first byte.
    Unsent(ToolError),
}

/// How one round of a call went.
enum Step {
    /// The call is over.
    Done(Attempt),
    /// The server wants these answers first.
    Again(InputAnswers),
}

/// One call with everything it needs.
struct Call<'a> {
    known: &'a Tool,
    session: &'a Session,
    args: Map<String, Value>,
    until: Instant,
    total: Duration,
    options: &'a CallOptions,
}

impl Server {
    pub(super) fn new(config: ServerConfig, hub: Arc<HubContext>) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(config.concurrency));
        let throttle = Throttle::new(config.calls_per_minute, config.breaker_failures);
        Arc::new(Self {
            config,
            hub,
            slot: tokio::sync::Mutex::default(),
            permits,
            in_flight: AtomicUsize::new(0),
            checker: Checker::default(),
            throttle,
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
            tools: ready.listed.tools.values().map(|tool| ToolInfo::clone(&tool.info)).collect(),
            defects: ready.listed.defects.clone(),
        })
    }

    /// As [`Server::converse`], for callers that have nobody to ask.
    pub(super) async fn call(
        self: &Arc<Self>,
        tool: &str,
        args: Value,
        options: CallOptions,
    ) -> Result<ToolOutcome, ToolError> {
        match self.converse(tool, args, options).await? {
            Reply::Done(outcome) => Ok(outcome),
            Reply::Asks(_) => {
                let message = "the server asks for input before it goes on".to_owned();
                let error = self.error(ToolErrorClass::InputRequired, tool, message).delivered(Delivery::Answered);
                Err(error.fix("give the tool everything in its arguments"))
            }
            Reply::Began(_) => {
                let message = "the server answered with a task that goes on".to_owned();
                let error = self.error(ToolErrorClass::OutcomeUnknown, tool, message).delivered(Delivery::Unknown);
                Err(error.fix("call the tool from a graph, which waits for it"))
            }
        }
    }

    /// One call; never repeated. A connection that turns out to be dead before the first byte of the request is replaced
    /// once: the request was not sent, so sending it is no repetition.
    pub(super) async fn converse(
        self: &Arc<Self>,
        tool: &str,
        args: Value,
        options: CallOptions,
    ) -> Result<Reply, ToolError> {
        let _counted = InFlight::enter(&self.in_flight);
        if let Some(pause) = self.throttle.refuses() {
            let message = "its last calls failed, so none is made for a while".to_owned();
            return Err(self
                .error(ToolErrorClass::Unavailable, tool, message)
                .fix(format!("calls are tried again in {pause:.0?}")));
        }
        let result = match self.attempt(tool, &args, &options).await {
            Attempt::Ended(result) => result,
            Attempt::Unsent(_) => match self.attempt(tool, &args, &options).await {
                Attempt::Ended(result) => result,
                Attempt::Unsent(error) => Err(error),
            },
        };
        self.throttle.ended(result.as_ref().err());
        result
    }

    async fn attempt(self: &Arc<Self>, tool: &str, args: &Value, options: &CallOptions) -> Attempt {
        let total = options.timeout.unwrap_or(self.config.timeout);
        let prepared = async {
            let ready = self.ready_with(tool, options).await?;
            let known = ready.listed.tools.get(tool).ok_or_else(|| self.not_found(tool, &ready.listed))?;
            let args = self.check_args(known, args.clone(), options).await?;
            let until = Instant::now() + total;
            let permit = self.permit(tool, until, &options.cancel).await?;
            Ok::<_, ToolError>((ready.clone(), args, until, permit))
        };
        let (ready, args, until, _permit) = match prepared.await {
            Ok(prepared) => prepared,
            Err(error) => return Attempt::Ended(Err(error)),
        };
        let Some(known) = ready.listed.tools.get(tool) else {
            return Attempt::Ended(Err(self.not_found(tool, &ready.listed)));
        };
        let call = Call { known, session: &ready.session, args, until, total, options };
        let mut input = options.input.clone();
        for _ in 0..ROUNDS_MAX {
            match self.round(&call, input.as_ref()).await {
                Ok(Step::Done(attempt)) => return attempt,
                Ok(Step::Again(next)) => input = Some(next),
                Err(error) => return Attempt::Ended(Err(error)),
            }
        }
        let message = format!("the server asked back {ROUNDS_MAX} times without an end");
        Attempt::Ended(Err(self.error(ToolErrorClass::Protocol, tool, message).delivered(Delivery::Answered)))
    }

    /// Sends the call once, with what was answered so far.
    async fn round(&self, call: &Call<'_>, input: Option<&InputAnswers>) -> Result<Step, ToolError> {
        let tool = call.known.info.name.as_str();
        let dialog = Dialog::new(input.map(InputAnswers::responses).unwrap_or_default());
        call.session.state.begin_dialog(&dialog);
        let wait = Wait {
            until: call.until,
            idle: call.options.idle.or(self.config.idle_timeout),
            cancel: &call.options.cancel,
            steps: call.options.steps.clone(),
            meta: call.options.idempotency_key.as_deref().map(key_meta),
        };
        let promoted = Promoted::of(&call.known.info.input_schema, &call.args);
        // The era before has no place for answers in a request; they are given when it asks.
        let sent = input.filter(|_| call.session.era == Era::Modern);
        let request = call_request(tool, call.args.clone(), promoted, sent);
        let raw = match call.session.request(request, wait).await {
            Ok(raw) => raw,
            Err(lost) => {
                let unsent = match &lost {
                    NoResult::Lost(Delivery::NotSent) => true,
                    NoResult::Failed(trouble) => trouble.delivery == Delivery::NotSent && call.session.is_dead(),
                    _ => false,
                };
                let error = call.session.explain(&self.config, Some(tool), lost, call.total).await;
                return Ok(Step::Done(if unsent { Attempt::Unsent(error) } else { Attempt::Ended(Err(error)) }));
            }
        };
        if let Some(task) = task::begun(&raw).filter(|_| self.config.tasks) {
            let began = task.map(Reply::Began);
            let broken = |why| self.error(ToolErrorClass::OutcomeUnknown, tool, why).delivered(Delivery::Unknown);
            return Ok(Step::Done(Attempt::Ended(began.map_err(broken))));
        }
        let asked = match dialog.open() {
            None if raw.get("resultType").and_then(Value::as_str) == Some("input_required") => {
                Some(self.answering().round(&raw).await)
            }
            asked => asked,
        };
        match asked {
            None => {
                let read = self.read(call.known, call.session, raw, call.options).await;
                Ok(Step::Done(Attempt::Ended(read.map(Reply::Done))))
            }
            Some(Round::Again(next)) => Ok(Step::Again(next)),
            Some(Round::Ask(request)) => Ok(Step::Done(Attempt::Ended(Ok(Reply::Asks(request))))),
            Some(Round::Refuse(why)) => {
                let error = self.error(ToolErrorClass::InputRequired, tool, why).delivered(Delivery::Answered);
                Err(error.fix("give the tool everything in its arguments"))
            }
        }
    }

    pub(super) fn answering(&self) -> Answering<'_> {
        Answering {
            server: &self.config.name,
            elicitation: self.config.elicitation,
            sampling: self.config.sampling.as_ref(),
            roots: &self.config.roots,
            host: self.hub.host.as_ref(),
        }
    }

    pub(super) async fn read(
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
            artifacts: self.hub.artifacts.as_ref(),
        };
        reading.read(raw).await
    }

    /// One tool as the server describes it now, at most [`LIST_AGE_MAX`] ago.
    pub(super) async fn describe(self: &Arc<Self>, tool: &str) -> Result<Arc<ToolInfo>, ToolError> {
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
    pub(super) async fn ready_with(self: &Arc<Self>, tool: &str, options: &CallOptions) -> Result<Ready, ToolError> {
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
        let turn = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(self.cancelled(tool)),
            turn = self.throttle.turn(until) => turn,
        };
        if !turn {
            let message = "this server is called as often as its configuration allows".to_owned();
            return Err(self.error(ToolErrorClass::Transient, tool, message).fix("raise `calls_per_minute` or wait"));
        }
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(self.cancelled(tool)),
            permit = self.permits.clone().acquire_owned() => permit.map_err(|_| busy()),
            () = tokio::time::sleep_until(until) => Err(busy()),
        }
    }

    /// An attached server with a list not older than `age_max`. Runs on its own task: a caller that gives up does not stop
    /// a slow start that the next one can use.
    async fn ready(self: &Arc<Self>, age_max: Duration) -> Result<Ready, ToolError> {
        if let Some(ready) = self.at_hand(age_max) {
            return Ok(ready);
        }
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

    /// What most calls find: a live session and a list that is young enough. Nobody waits in line for it.
    fn at_hand(&self, age_max: Duration) -> Option<Ready> {
        let slot = self.slot.try_lock().ok().filter(|slot| !slot.closed)?;
        let (session, listed) = slot.session.as_ref().zip(slot.listed.as_ref())?;
        let is_current = !session.is_dead()
            && !session.state.tools_changed.load(Ordering::Acquire)
            && !age_max.is_zero()
            && listed.at.elapsed() <= age_max;
        is_current.then(|| Ready { session: session.clone(), listed: listed.clone() })
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

    /// Reads every page of a list; a server that does not know the method has an empty one.
    async fn read_pages(
        &self,
        session: &Session,
        mut pages: Pages,
        request: impl Fn(Option<String>) -> ClientRequest,
    ) -> Result<Pages, ToolError> {
        let until = Instant::now() + self.config.list_timeout;
        let never = CancellationToken::new();
        let mut cursor = None;
        loop {
            let wait = Wait { until, idle: None, cancel: &never, steps: None, meta: None };
            let mut page = match session.request(request(cursor), wait).await {
                Ok(page) => page,
                Err(NoResult::Refused(error)) if error.code == ErrorCode::METHOD_NOT_FOUND => return Ok(pages),
                Err(lost) => return Err(self.list_error(session, lost).await),
            };
            session.secrets.scrub_value(&mut page);
            match pages.add(page) {
                Ok(None) => return Ok(pages),
                Ok(next) => cursor = next,
                Err(message) => return Err(self.of_server(message)),
            }
        }
    }

    /// The list of resources or prompts, fresh.
    pub(super) async fn shelf(self: &Arc<Self>, shelf: Shelf) -> Result<Vec<Value>, ToolError> {
        let ready = self.ready(LIST_AGE_MAX).await?;
        let pages = self.read_pages(&ready.session, Pages::of(shelf.key()), |cursor| shelf.request(cursor)).await?;
        Ok(pages.into_items())
    }

    /// One request that only reads, with the limits of a call; `read` turns its answer into parts.
    pub(super) async fn look_up<T>(
        self: &Arc<Self>,
        request: ClientRequest,
        read: impl FnOnce(&Reading<'_>, &Value) -> Result<T, String>,
    ) -> Result<T, ToolError> {
        let _counted = InFlight::enter(&self.in_flight);
        let ready = self.ready(LIST_AGE_MAX).await?;
        let never = CancellationToken::new();
        let until = Instant::now() + self.config.timeout;
        let wait = Wait { until, idle: None, cancel: &never, steps: None, meta: None };
        let answer = match ready.session.request(request, wait).await {
            Ok(answer) => answer,
            Err(lost) => return Err(ready.session.explain(&self.config, None, lost, self.config.timeout).await),
        };
        let reading = Reading {
            server: &self.config.name,
            tool: "",
            output: None,
            checker: &self.checker,
            bytes_max: self.config.max_result_bytes,
            secrets: &ready.session.secrets,
            artifacts: self.hub.artifacts.as_ref(),
        };
        read(&reading, &answer).map_err(|message| self.of_server(message))
    }

    pub(super) fn of_server(&self, message: String) -> ToolError {
        ToolError::server(ToolErrorClass::Protocol, &self.config.name, message)
    }

    async fn read_list(&self, session: &Session) -> Result<Listed, ToolError> {
        let at = Instant::now();
        let pages = self.read_pages(session, Pages::default(), list_request).await?;
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

    pub(super) fn not_found(&self, tool: &str, listed: &Listed) -> ToolError {
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

    pub(super) fn error(&self, class: ToolErrorClass, tool: &str, message: String) -> ToolError {
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
pub(super) struct InFlight<'a>(&'a AtomicUsize);

impl<'a> InFlight<'a> {
    pub(super) fn enter(count: &'a AtomicUsize) -> Self {
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
