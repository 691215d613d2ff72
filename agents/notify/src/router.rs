//! The router: one notice to the channels that its route names, each once, with everything that may keep it back.
//!
//! What was decided and done is in the ledger under the key of the call, so a send that is repeated after a crash goes on
//! where it stopped. The router never tries a channel twice by itself: whether a failed send is made again is the runtime's
//! decision, and a channel has failed for good once its fault does not pass or nobody will try again.

mod limit;
mod mount;
mod waiting;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};

use crate::channel::{Channel, Parcel};
use crate::config::{Flapping, Limit, Route};
use crate::error::{Class, Fault, SendError};
use crate::ledger::{Document, IncidentRecord, Ledger, OPENINGS_MAX, Sending, Steps};
use crate::notice::{Notice, Phase, Urgency};
use crate::quiet::Quiet;
use crate::text::cut;
use limit::Room;

/// Locks that notices about the same thing share, within one process. Across processes the ledger decides.
const LOCKS: usize = 64;
/// Name of the ledger in errors.
const LEDGER: &str = "(ledger)";
/// Longest key of a document in bytes.
const DOCUMENT_KEY_BYTES_MAX: usize = 200;

/// Sends notices.
pub struct Router {
    channels: BTreeMap<String, Mounted>,
    routes: Vec<Route>,
    fallback: Vec<String>,
    quiet: Option<Quiet>,
    flapping: Flapping,
    ledger: Arc<dyn Ledger>,
    locks: Vec<Mutex<()>>,
}

/// A channel with its limit.
struct Mounted {
    channel: Box<dyn Channel>,
    limit: Limit,
}

/// One send.
pub struct Delivery<'a> {
    /// The same over every repetition of this send.
    pub key: &'a str,
    /// When.
    pub now: Timestamp,
    /// Whether the send will be made again if it fails so.
    pub again: &'a (dyn Fn(&SendError) -> bool + Send + Sync),
}

/// What a send has come to so far.
#[derive(Default)]
struct Sent {
    receipts: Vec<Value>,
    failed: Vec<SendError>,
    /// Channels whose limit this notice went over.
    over: Vec<String>,
}

fn unkept(fault: Fault) -> SendError {
    fault.of(LEDGER)
}

fn incident_document(dedup_key: &str) -> String {
    format!("notify-incident:{}", cut(dedup_key, DOCUMENT_KEY_BYTES_MAX))
}

fn span(within: SignedDuration) -> String {
    format!("{within:#}")
}

impl Router {
    async fn lock(&self, dedup_key: &str) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        dedup_key.hash(&mut hasher);
        let ix = usize::try_from(hasher.finish() % LOCKS as u64).unwrap_or_default();
        self.locks[ix].lock().await
    }

    /// Sends one notice to everybody it is for, and what is due to those it went to. Gives a receipt that says for each channel
    /// what came of it.
    ///
    /// # Errors
    /// Nobody could be reached, or a channel failed in a way that passes and the send will be made again.
    pub async fn send(&self, notice: &Notice, delivery: &Delivery<'_>) -> Result<Value, SendError> {
        let (sending, mut sent) = self.send_once(notice, delivery).await?;
        for name in std::mem::take(&mut sent.over) {
            if let Err(error) = self.say_folded(&name, delivery.now).await {
                tracing::warn!(%error, "what went over the limit could not be said");
                sent.receipts.push(json!({ "channel_name": name, "status": "folded", "unsaid": error.to_string() }));
            }
        }
        self.say_due(delivery.now).await;
        let mut receipt =
            json!({ "channel": "notify", "urgency": sending.urgency.word(), "deliveries": sent.receipts });
        if !sending.remarks.is_empty() {
            receipt["remarks"] = json!(sending.remarks);
        }
        Ok(receipt)
    }

    async fn send_once(&self, notice: &Notice, delivery: &Delivery<'_>) -> Result<(Sending, Sent), SendError> {
        let _one_at_a_time = self.lock(&notice.dedup_key).await;
        let mut document = Document::open(&*self.ledger, incident_document(&notice.dedup_key)).await.map_err(unkept)?;
        let sending = self.decide(&mut document, notice, delivery).await.map_err(unkept)?;
        let targets = self.targets(&document.now, notice, sending.urgency);
        let mut sent = Sent::default();
        for name in &targets {
            let parcel = Parcel {
                notice,
                urgency: sending.urgency,
                key: delivery.key,
                remarks: &sending.remarks,
                now: delivery.now,
                is_silent: false,
            };
            self.hand_over(name, &parcel, &mut document, &mut sent).await;
        }
        if let Some(error) = sent.failed.iter().find(|error| error.class.passes() && (delivery.again)(error)) {
            return Err(error.clone());
        }
        self.stand_in(notice, (delivery, &sending), &mut document, &mut sent).await?;
        Ok((sending, sent))
    }

    /// How loud a notice is here and now, decided once per send.
    async fn decide(
        &self,
        document: &mut Document<'_, IncidentRecord>,
        notice: &Notice,
        delivery: &Delivery<'_>,
    ) -> Result<Sending, Fault> {
        if let Some(known) = document.now.sending(delivery.key) {
            return Ok(known.clone());
        }
        let phase = notice.about.as_ref().map(|about| about.phase);
        let is_page = notice.severity == Urgency::Page && phase != Some(Phase::Held);
        let Flapping { openings, within } = self.flapping;
        let change = |record: &mut IncidentRecord| {
            let mut sending = Sending {
                key: delivery.key.to_owned(),
                urgency: if is_page { Urgency::Page } else { Urgency::Summary },
                remarks: Vec::new(),
                channels: BTreeMap::new(),
            };
            if is_page && !record.is_open {
                record.is_open = true;
                record.openings.retain(|at| delivery.now.duration_since(*at) < within);
                record.openings.push(delivery.now);
                record.openings.truncate(OPENINGS_MAX);
                let n = record.openings.len();
                let limit = openings as usize;
                if n > limit {
                    sending.urgency = Urgency::Summary;
                    let text =
                        format!("flapping: opened {n} times within {}, so this time nobody is paged", span(within));
                    sending.remarks.push(text);
                } else if n == limit && n > 1 {
                    let text =
                        format!("flapping: opened {n} times within {}; the next time will not page", span(within));
                    sending.remarks.push(text);
                }
            }
            if phase == Some(Phase::Resolved) {
                record.is_open = false;
            }
            record.push(sending.clone());
            sending
        };
        document.change(change).await
    }

    /// Channels of the route, and those where the incident stands already; who wakes people comes first.
    fn targets(&self, record: &IncidentRecord, notice: &Notice, urgency: Urgency) -> Vec<String> {
        let route = self.routes.iter().find(|route| route.fits(notice, urgency));
        let shown = record.places.iter().filter(|(_, place)| place.is_open).map(|(name, _)| name);
        let mut targets: Vec<String> = Vec::new();
        for name in route.into_iter().flat_map(|route| &route.to).chain(shown) {
            if self.channels.contains_key(name) && !targets.contains(name) {
                targets.push(name.clone());
            }
        }
        let wakes = |name: &String| self.channels.get(name).is_some_and(|mounted| mounted.channel.alerts());
        targets.sort_by_key(|name| !wakes(name));
        targets
    }

    /// Everything that may keep a notice back from a channel, then the channel.
    async fn hand_over(
        &self,
        name: &str,
        parcel: &Parcel<'_>,
        document: &mut Document<'_, IncidentRecord>,
        sent: &mut Sent,
    ) {
        let done = document.now.delivered(parcel.key, name).and_then(|delivered| delivered.receipt.clone());
        if let Some(receipt) = done {
            sent.receipts.push(receipt);
            return;
        }
        let outcome = match self.keep_back(name, parcel, document).await {
            Ok(Kept::Not) => self.deliver(name, parcel, document).await,
            Ok(Kept::Back(receipt)) => Ok(receipt),
            Ok(Kept::Folded(receipt)) => {
                sent.over.push(name.to_owned());
                Ok(receipt)
            }
            Err(fault) => Err(fault.of(name)),
        };
        match outcome {
            Ok(receipt) => sent.receipts.push(receipt),
            Err(error) => sent.failed.push(error),
        }
    }

    async fn keep_back(
        &self,
        name: &str,
        parcel: &Parcel<'_>,
        document: &mut Document<'_, IncidentRecord>,
    ) -> Result<Kept, Fault> {
        let mounted = self.mounted(name)?;
        let until = self.quiet.as_ref().and_then(|quiet| quiet.until(parcel.now));
        if let Some(until) = until.filter(|_| parcel.urgency == Urgency::Summary && !mounted.channel.alerts()) {
            let receipt = self.hold(name, parcel, (document, until)).await?;
            return Ok(Kept::Back(receipt));
        }
        let is_shown = document.now.places.get(name).is_some_and(|place| !place.notes.is_null() || place.is_open);
        let changes = mounted.channel.updates() && is_shown;
        // What opens no alert makes no noise at a service that pages.
        let is_quiet = mounted.channel.alerts() && !(parcel.urgency == Urgency::Page && parcel.phase() == Phase::Open);
        let is_counted = document.now.delivered(parcel.key, name).is_some_and(|delivered| delivered.is_counted);
        if changes || is_quiet || is_counted {
            return Ok(Kept::Not);
        }
        match self.take_room(name, parcel).await? {
            Room::Taken => {
                document.change(|record| record.delivered_mut(parcel.key, name).is_counted = true).await?;
                Ok(Kept::Not)
            }
            Room::Folded(n) => {
                let receipt = json!({ "channel_name": name, "status": "folded", "folded_so_far": n });
                keep_receipt(document, (parcel.key, name), &receipt).await?;
                Ok(Kept::Folded(receipt))
            }
        }
    }

    fn mounted(&self, name: &str) -> Result<&Mounted, Fault> {
        self.channels.get(name).ok_or_else(|| Fault::new(Class::Missing, format!("there is no channel `{name}`")))
    }

    /// Sends, and keeps the receipt. What waited for this channel is out of date then.
    async fn deliver(
        &self,
        name: &str,
        parcel: &Parcel<'_>,
        document: &mut Document<'_, IncidentRecord>,
    ) -> Result<Value, SendError> {
        let mounted = self.mounted(name).map_err(|fault| fault.of(name))?;
        let mut steps = Steps { document, channel: name, key: parcel.key };
        let mut receipt = mounted.channel.deliver(parcel, &mut steps).await.map_err(|fault| fault.of(name))?;
        receipt["channel_name"] = name.into();
        receipt["service"] = mounted.channel.service().into();
        if !parcel.is_silent {
            let key = (parcel.key, name);
            let change = |record: &mut IncidentRecord| {
                record.delivered_mut(key.0, key.1).receipt = Some(receipt.clone());
                record.waiting.remove(key.1);
            };
            document.change(change).await.map_err(|fault| fault.of(name))?;
        }
        Ok(receipt)
    }

    /// Another channel for those that failed for good.
    async fn stand_in(
        &self,
        notice: &Notice,
        (delivery, sending): (&Delivery<'_>, &Sending),
        document: &mut Document<'_, IncidentRecord>,
        sent: &mut Sent,
    ) -> Result<(), SendError> {
        let failed = std::mem::take(&mut sent.failed);
        let Some(first) = failed.first() else { return Ok(()) };
        let mut remarks = sending.remarks.clone();
        remarks.extend(failed.iter().map(|error| format!("sent here because channel `{}` failed", error.channel)));
        let parcel = Parcel {
            notice,
            urgency: sending.urgency,
            key: delivery.key,
            remarks: &remarks,
            now: delivery.now,
            is_silent: false,
        };
        let mut is_covered = false;
        let mut errors: Vec<SendError> = Vec::new();
        for name in &self.fallback {
            if is_covered || failed.iter().any(|error| error.channel == *name) {
                continue;
            }
            let before = sent.receipts.len();
            self.hand_over(name, &parcel, document, sent).await;
            errors.append(&mut sent.failed);
            is_covered = sent.receipts.len() > before;
        }
        for error in failed.iter().chain(&errors) {
            tracing::warn!(%error, "a notice could not be delivered");
        }
        let reached = sent.receipts.iter().any(|receipt| receipt["status"] != "skipped");
        if !is_covered && !reached {
            let mut all = first.clone();
            let others: Vec<String> = failed.iter().skip(1).chain(&errors).map(ToString::to_string).collect();
            all.detail = [std::iter::once(first.detail.clone()).collect(), others].concat().join("; and ");
            return Err(all);
        }
        for error in failed.iter().chain(&errors) {
            sent.receipts
                .push(json!({ "channel_name": error.channel, "status": "failed", "error": error.to_string() }));
        }
        Ok(())
    }

    /// Tries one channel with a notice that is opened and closed, past routes, quiet hours and limits.
    ///
    /// # Errors
    /// There is no such channel, or it failed.
    pub async fn try_channel(&self, name: &str, now: Timestamp) -> Result<Vec<Value>, SendError> {
        let key = format!("interlock-test-{}", now.as_second());
        let mut document = Document::open(&*self.ledger, incident_document(&key)).await.map_err(unkept)?;
        let mut receipts = Vec::new();
        for (urgency, phase) in [(Urgency::Page, Phase::Open), (Urgency::Summary, Phase::Resolved)] {
            let notice = crate::notice::sample(urgency, phase, &key);
            let step = format!("{key}:{}", phase.word());
            let parcel = Parcel { notice: &notice, urgency, key: &step, remarks: &[], now, is_silent: false };
            receipts.push(self.deliver(name, &parcel, &mut document).await?);
        }
        Ok(receipts)
    }

    /// Names of the channels with their services.
    pub fn channels(&self) -> impl Iterator<Item = (&str, &'static str)> {
        self.channels.iter().map(|(name, mounted)| (name.as_str(), mounted.channel.service()))
    }

    /// The names of the channels that a notice would go to, were it the first about its incident.
    pub fn route_of(&self, notice: &Notice) -> Vec<String> {
        self.targets(&IncidentRecord::default(), notice, notice.severity)
    }

    /// What a channel would be sent, without secrets.
    pub fn preview(&self, name: &str, notice: &Notice, now: Timestamp) -> Option<Value> {
        let parcel = Parcel { notice, urgency: notice.severity, key: "preview", remarks: &[], now, is_silent: false };
        self.channels.get(name).map(|mounted| mounted.channel.preview(&parcel))
    }
}

/// What kept a notice back.
enum Kept {
    Not,
    Back(Value),
    Folded(Value),
}

async fn keep_receipt(
    document: &mut Document<'_, IncidentRecord>,
    (key, channel): (&str, &str),
    receipt: &Value,
) -> Result<(), Fault> {
    document.change(|record| record.delivered_mut(key, channel).receipt = Some(receipt.clone())).await
}
