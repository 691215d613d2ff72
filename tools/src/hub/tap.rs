//! One request on its way: how far it got, and what the server said about it meanwhile.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::{AtomicU8, Ordering};

use parking_lot::Mutex;
use rmcp::model::{
    ClientJsonRpcMessage, ClientRequest, GetExtensions, GetMeta, JsonRpcMessage, NumberOrString, ProgressToken,
    RequestId,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::error::{Delivery, ToolErrorClass};
use super::front::{LogLine, Progress, Step, StepSink};

/// Entries at which those of finished requests are swept out.
const SWEEP_AT: usize = 64;

const WAITING: u8 = 0;
const BEGUN: u8 = 1;
const WITHDRAWN: u8 = 2;

/// Why one request failed on a connection that goes on, as an HTTP exchange may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) class: ToolErrorClass,
    pub(super) delivery: Delivery,
    pub(super) message: String,
    pub(super) remedy: Option<&'static str>,
}

impl Trouble {
    pub(super) fn new(class: ToolErrorClass, delivery: Delivery, message: impl Into<String>) -> Self {
        Self { class, delivery, message: message.into(), remedy: None }
    }

    pub(super) fn fix(mut self, remedy: &'static str) -> Self {
        self.remedy = Some(remedy);
        self
    }
}

/// Watches one request. The writer asks [`Tap::begin`] before the first byte; whoever gives up asks [`Tap::withdraw`].
/// Exactly one of them wins, so "not sent" is a fact and not a guess.
#[derive(Debug, Default)]
pub(super) struct Tap {
    phase: AtomicU8,
    steps: Option<StepSink>,
    /// Woken by each progress notification.
    pub(super) activity: Notify,
    trouble: Mutex<Option<Trouble>>,
    /// Cancelled when there will be no answer; [`Tap::trouble`] says why.
    pub(super) failed: CancellationToken,
}

impl Tap {
    pub(super) fn new(steps: Option<StepSink>) -> Arc<Self> {
        Arc::new(Self { steps, ..Self::default() })
    }

    /// Called by the writer before the first byte; `false` means the caller has withdrawn the request.
    pub(super) fn begin(&self) -> bool {
        self.phase.compare_exchange(WAITING, BEGUN, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Called by the writer when the pipe refused the very first byte.
    pub(super) fn nothing_written(&self) {
        let _ = self.phase.compare_exchange(BEGUN, WITHDRAWN, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Called when no answer is awaited any more. From here on the request cannot leave if it has not begun to.
    pub(super) fn withdraw(&self) -> Delivery {
        match self.phase.compare_exchange(WAITING, WITHDRAWN, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) | Err(WITHDRAWN) => Delivery::NotSent,
            Err(_) => Delivery::Unknown,
        }
    }

    /// Called by the transport when there will be no answer to this request alone.
    pub(super) fn fail(&self, trouble: Trouble) {
        self.trouble.lock().get_or_insert(trouble);
        self.failed.cancel();
    }

    pub(super) fn trouble(&self) -> Option<Trouble> {
        self.trouble.lock().clone()
    }

    fn progressed(&self, progress: Progress) {
        self.say(Step::Progress(progress));
        self.activity.notify_one();
    }

    fn say(&self, step: Step) {
        if let Some(sink) = &self.steps {
            // A slow listener loses steps, never the call: the next step says more.
            let _ = sink.try_send(step);
        }
    }
}

/// The requests of one connection that are watched.
#[derive(Debug, Default)]
pub(super) struct Taps(Mutex<Maps>);

#[derive(Debug, Default)]
struct Maps {
    by_id: HashMap<RequestId, Weak<Tap>>,
    by_token: HashMap<ProgressToken, Weak<Tap>>,
}

impl Taps {
    /// Registers an outgoing message that carries a tap; the message is about to be written.
    pub(super) fn register(&self, message: &ClientJsonRpcMessage) -> Option<Arc<Tap>> {
        let JsonRpcMessage::Request(envelope) = message else { return None };
        let tap = tap_of(&envelope.request)?;
        let mut maps = self.0.lock();
        if maps.by_id.len() >= SWEEP_AT {
            maps.by_id.retain(|_, tap| tap.strong_count() > 0);
            maps.by_token.retain(|_, tap| tap.strong_count() > 0);
        }
        maps.by_id.insert(envelope.id.clone(), Arc::downgrade(&tap));
        if let Some(token) = envelope.request.get_meta().get_progress_token() {
            maps.by_token.insert(token, Arc::downgrade(&tap));
        }
        Some(tap)
    }

    /// Takes the tap a response belongs to. Some servers turn a numeric id into a string.
    pub(super) fn answered(&self, id: &RequestId) -> Option<(RequestId, Arc<Tap>)> {
        let mut maps = self.0.lock();
        let id = match id {
            NumberOrString::String(text) if !maps.by_id.contains_key(id) => RequestId::Number(text.parse().ok()?),
            id => id.clone(),
        };
        let tap = maps.by_id.remove(&id)?.upgrade()?;
        Some((id, tap))
    }

    /// A line of the server's log, said on the stream of the request `about` where there is such a stream. Between two calls
    /// under way nobody can tell whose it is, and one run must not read what belongs to another.
    pub(super) fn logged(&self, about: Option<&RequestId>, line: LogLine) {
        let tap = heard_by(&self.0.lock(), about);
        if let Some(tap) = tap {
            tap.say(Step::Log(line));
        }
    }

    pub(super) fn progressed(&self, token: &ProgressToken, progress: Progress) {
        let tap = self.0.lock().by_token.get(token).and_then(Weak::upgrade);
        if let Some(tap) = tap {
            tap.progressed(progress);
        }
    }
}

/// The tap a log line belongs to: that of the request on whose stream it came, else the only one that listens.
fn heard_by(maps: &Maps, about: Option<&RequestId>) -> Option<Arc<Tap>> {
    if let Some(tap) = about.and_then(|id| maps.by_id.get(id)) {
        return tap.upgrade();
    }
    let mut listening = maps.by_id.values().filter_map(Weak::upgrade).filter(|tap| tap.steps.is_some());
    listening.next().filter(|_| listening.next().is_none())
}

fn tap_of(request: &ClientRequest) -> Option<Arc<Tap>> {
    request.extensions().get::<Arc<Tap>>().cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_the_writer_or_the_caller_wins() {
        let tap = Tap::new(None);
        assert_eq!(tap.withdraw(), Delivery::NotSent);
        assert!(!tap.begin(), "a withdrawn request is never written");

        let tap = Tap::new(None);
        assert!(tap.begin());
        assert_eq!(tap.withdraw(), Delivery::Unknown);

        let tap = Tap::new(None);
        assert!(tap.begin());
        tap.nothing_written();
        assert_eq!(tap.withdraw(), Delivery::NotSent);
    }
}
