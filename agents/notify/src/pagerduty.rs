//! PagerDuty, Events API v2: one event per notice, told apart by `dedup_key`, so that a repeated one pages nobody twice.
//!
//! The service answers 202 once an event is queued. That is no page: the receipt says `accepted`.

use async_trait::async_trait;
use serde_json::{Map, Value, json};

use crate::channel::{AlertAct, Channel, Parcel, alert_act};
use crate::error::{Class, Fault};
use crate::http::{Answer, Call, Link};
use crate::ledger::{Place, Step, Steps};
use crate::notice::Level;
use crate::secrets::Secret;
use crate::text::{cut, cut_chars, one_line};

/// Longest summary, in characters.
const SUMMARY_CHARS_MAX: usize = 1024;
/// Longest `dedup_key`, in characters.
const DEDUP_KEY_CHARS_MAX: usize = 255;
/// Most bytes of an event.
const EVENT_BYTES_MAX: usize = 512 * 1024;
/// Longest text among the details, in bytes.
const TEXT_BYTES_MAX: usize = 64 * 1024;
/// Other short fields, in characters.
const FIELD_CHARS_MAX: usize = 255;
/// Where events go.
pub(crate) const US: &str = "https://events.pagerduty.com";
/// The same for accounts in Europe.
pub(crate) const EU: &str = "https://events.eu.pagerduty.com";

/// A service of PagerDuty.
pub(crate) struct PagerDuty {
    pub(crate) link: Link,
    pub(crate) routing_key: Secret,
}

/// An event without its routing key; `None` where nothing is to be said.
fn event(parcel: &Parcel<'_>, act: AlertAct) -> Option<Value> {
    let action = match act {
        AlertAct::Open => "trigger",
        AlertAct::Acknowledge => "acknowledge",
        AlertAct::Close => "resolve",
        AlertAct::Nothing(_) => return None,
    };
    let dedup_key = cut_chars(parcel.alert_key(), DEDUP_KEY_CHARS_MAX);
    let mut event = json!({ "event_action": action, "dedup_key": dedup_key });
    if act == AlertAct::Open {
        event["client"] = "Interlock".into();
        event["payload"] = payload(parcel, true);
        // The routing key and its name come on top.
        if event.to_string().len() + 256 > EVENT_BYTES_MAX {
            event["payload"] = payload(parcel, false);
        }
    }
    Some(event)
}

fn payload(parcel: &Parcel<'_>, is_whole: bool) -> Value {
    let notice = parcel.notice;
    let mut details = Map::new();
    if !parcel.remarks.is_empty() {
        details.insert("remarks".into(), json!(parcel.remarks));
    }
    let text = cut(&notice.text, TEXT_BYTES_MAX);
    let summary = cut_chars(&one_line(&notice.title), SUMMARY_CHARS_MAX);
    let timestamp = parcel.now.to_string();
    let Some(about) = &notice.about else {
        details.insert("text".into(), text.into());
        return json!({
            "summary": summary, "source": "interlock", "severity": Level::Error.word(), "timestamp": timestamp,
            "custom_details": details,
        });
    };
    for (name, value) in [("status", &about.status), ("business_date", &about.business_date), ("thread", &about.thread)]
    {
        details.insert(name.into(), cut_chars(value, FIELD_CHARS_MAX).into());
    }
    for fact in &about.facts {
        details.insert(fact.label.clone(), cut(&fact.value, TEXT_BYTES_MAX / 16).into());
    }
    if is_whole {
        for part in &about.parts {
            details.insert(part.title.clone(), json!(part.lines));
        }
    } else {
        details.insert("cut".into(), "the evidence is too long for an event; see the thread".into());
    }
    let short = |text: &str| cut_chars(&one_line(text), FIELD_CHARS_MAX);
    let mut payload = json!({
        "summary": summary, "source": short(&format!("interlock {}", about.environment)), "severity": about.level.word(),
        "timestamp": timestamp, "component": short(&about.pipeline), "class": short(&about.headline),
        "custom_details": details,
    });
    if let Some(owner) = &about.owner {
        payload["group"] = short(owner).into();
    }
    payload
}

impl PagerDuty {
    fn fault(&self, answer: &Answer) -> Fault {
        let said: Vec<&str> =
            answer.json["errors"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let message = answer.json["message"].as_str().unwrap_or_default();
        let mut fault = self.link.fault(answer, &format!("{message} {}", said.join("; ")));
        // A wrong routing key is said to be an invalid event.
        if answer.status == 400 && said.iter().any(|text| text.contains("routing_key")) {
            fault.class = Class::Auth;
        }
        fault
    }
}

#[async_trait]
impl Channel for PagerDuty {
    fn service(&self) -> &'static str {
        "pagerduty"
    }

    fn updates(&self) -> bool {
        true
    }

    fn alerts(&self) -> bool {
        true
    }

    async fn deliver(&self, parcel: &Parcel<'_>, steps: &mut Steps<'_, '_>) -> Result<Value, Fault> {
        if let Some(Step::Done(receipt)) = steps.step("event") {
            return Ok(receipt);
        }
        let act = alert_act(parcel, steps.place().is_open);
        let Some(mut event) = event(parcel, act) else {
            let AlertAct::Nothing(why) = act else { return Err(Fault::new(Class::Invalid, "no event")) };
            return Ok(json!({ "status": "skipped", "why": why }));
        };
        let (action, dedup_key) = (event["event_action"].clone(), event["dedup_key"].clone());
        event["routing_key"] = self.routing_key.expose().into();
        let answer = self.link.send(Call::post("/v2/enqueue", &event), parcel.now).await?;
        if answer.status != 202 {
            return Err(self.fault(&answer));
        }
        if answer.json["status"] != "success" {
            return Err(self.link.fault(&answer, "202 without `status: success`"));
        }
        let receipt = json!({
            "status": "accepted", "action": action, "dedup_key": dedup_key,
            "note": "queued by PagerDuty; 202 does not say that somebody was paged",
        });
        let place = Place { is_open: act != AlertAct::Close, notes: Value::Null };
        steps.end("event", receipt.clone(), Some(place)).await?;
        Ok(receipt)
    }

    fn preview(&self, parcel: &Parcel<'_>) -> Value {
        preview(parcel)
    }
}

/// The event without its routing key, as if an alert were open.
pub(crate) fn preview(parcel: &Parcel<'_>) -> Value {
    event(parcel, alert_act(parcel, true)).unwrap_or(Value::Null)
}
