//! What a channel is: renders a notice in its own way and sends it, step by step.

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;

use crate::error::Fault;
use crate::ledger::Steps;
use crate::notice::{Notice, Phase, Urgency};

/// A notice on its way.
#[derive(Clone, Copy)]
pub(crate) struct Parcel<'a> {
    pub(crate) notice: &'a Notice,
    /// How loud it is now; a flapping incident is less so than it says.
    pub(crate) urgency: Urgency,
    /// The same over retries and restarts.
    pub(crate) key: &'a str,
    /// What else is said: it flaps, another channel failed.
    pub(crate) remarks: &'a [String],
    pub(crate) now: Timestamp,
    /// Only what makes no sound: hours are quiet.
    pub(crate) is_silent: bool,
}

impl Parcel<'_> {
    /// What services that page know the incident by.
    pub(crate) fn alert_key(&self) -> &str {
        self.notice.about.as_ref().map_or(self.notice.dedup_key.as_str(), |about| about.incident.as_str())
    }

    pub(crate) fn phase(&self) -> Phase {
        let without = if self.urgency == Urgency::Page { Phase::Open } else { Phase::Resolved };
        self.notice.about.as_ref().map_or(without, |about| about.phase)
    }

    /// The notice's text with what else is said above it.
    pub(crate) fn text(&self) -> String {
        let mut text: String = self.remarks.iter().map(|remark| format!("{remark}\n")).collect();
        text.push_str(&self.notice.text);
        text
    }
}

/// What an alerting service is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AlertAct {
    Open,
    Acknowledge,
    Close,
    /// With why.
    Nothing(&'static str),
}

/// What a notice is to a service that pages. Only a page opens an alert; only an open alert is acknowledged or closed.
pub(crate) fn alert_act(parcel: &Parcel<'_>, is_open: bool) -> AlertAct {
    match (parcel.phase(), is_open) {
        (Phase::Held, _) => AlertAct::Nothing("held by a maintenance window: nobody is paged"),
        (Phase::Open, _) if parcel.urgency == Urgency::Page => AlertAct::Open,
        (Phase::Open, _) => AlertAct::Nothing("a summary opens no alert"),
        (_, false) => AlertAct::Nothing("no alert is open there"),
        (Phase::Acknowledged, true) => AlertAct::Acknowledge,
        (Phase::Resolved, true) => AlertAct::Close,
    }
}

/// One way to reach people.
#[async_trait]
pub(crate) trait Channel: Send + Sync {
    /// Name of the service.
    fn service(&self) -> &'static str;
    /// Whether a second notice about the same thing changes the first one.
    fn updates(&self) -> bool;
    /// Whether it opens alerts that have to be closed.
    fn alerts(&self) -> bool {
        false
    }
    /// Whether it can change what it shows without a sound.
    fn is_silent_when_updated(&self) -> bool {
        false
    }
    /// Sends it once and gives a receipt. Steps that `steps` knows to be done are not done again.
    async fn deliver(&self, parcel: &Parcel<'_>, steps: &mut Steps<'_, '_>) -> Result<Value, Fault>;
    /// What would be sent, without secrets.
    fn preview(&self, parcel: &Parcel<'_>) -> Value;
}

/// A channel that cannot be used as it is configured. It fails for good, so that its stand-in is used.
pub(crate) struct Broken(pub(crate) String);

#[async_trait]
impl Channel for Broken {
    fn service(&self) -> &'static str {
        "none"
    }

    fn updates(&self) -> bool {
        false
    }

    async fn deliver(&self, _: &Parcel<'_>, _: &mut Steps<'_, '_>) -> Result<Value, Fault> {
        Err(Fault::new(crate::error::Class::Auth, self.0.clone()))
    }

    fn preview(&self, _: &Parcel<'_>) -> Value {
        serde_json::json!({ "error": self.0 })
    }
}
