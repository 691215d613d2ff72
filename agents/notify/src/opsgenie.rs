//! Opsgenie, Alert API v2: an alert by its alias; notes, acknowledgement and closing by the same alias.
//!
//! Requests are carried out later: 202 gives the id under which their fate can be asked for, and the receipt has it.

use async_trait::async_trait;
use reqwest::Url;
use serde_json::{Map, Value, json};

use crate::channel::{AlertAct, Channel, Parcel, alert_act};
use crate::error::Fault;
use crate::http::{Call, Link};
use crate::ledger::{Place, Step, Steps};
use crate::notice::{Level, markdown};
use crate::text::{cut_chars, one_line};

/// Bounds of the service, in characters.
const MESSAGE_CHARS_MAX: usize = 130;
const ALIAS_CHARS_MAX: usize = 512;
const DESCRIPTION_CHARS_MAX: usize = 15_000;
const NOTE_CHARS_MAX: usize = 25_000;
const DETAILS_CHARS_MAX: usize = 8_000;
const DETAIL_CHARS_MAX: usize = 1_000;
const ENTITY_CHARS_MAX: usize = 512;
const TAG_CHARS_MAX: usize = 50;
/// Who the alerts are from.
const SOURCE: &str = "interlock";
/// Where the service is.
pub(crate) const US: &str = "https://api.opsgenie.com";
/// The same for accounts in Europe.
pub(crate) const EU: &str = "https://api.eu.opsgenie.com";

/// An integration of Opsgenie.
pub(crate) struct Opsgenie {
    pub(crate) link: Link,
}

/// One request.
#[derive(Debug, Clone, PartialEq)]
struct Request {
    /// Names it in the ledger.
    step: &'static str,
    path: String,
    body: Value,
    /// Whether doing it twice is doing it once.
    is_by_key: bool,
}

fn alias(parcel: &Parcel<'_>) -> String {
    cut_chars(parcel.alert_key(), ALIAS_CHARS_MAX)
}

/// The path of an act on the open alert of an alias.
fn path_of(alias: &str, act: &str) -> String {
    let mut url = Url::parse("http://x/v2/alerts").ok();
    if let Some(mut segments) = url.as_mut().and_then(|url| url.path_segments_mut().ok()) {
        segments.push(alias).push(act);
    }
    format!("{}?identifierType=alias", url.as_ref().map_or("", Url::path))
}

fn requests(parcel: &Parcel<'_>, act: AlertAct, is_open: bool) -> Vec<Request> {
    let alias = alias(parcel);
    let note = |text: &str| json!({ "source": SOURCE, "note": cut_chars(text, NOTE_CHARS_MAX) });
    let simple =
        |step, act, text: &str| Request { step, path: path_of(&alias, act), body: note(text), is_by_key: true };
    match act {
        AlertAct::Open => {
            let path = "/v2/alerts".to_owned();
            let create = Request { step: "create", path, body: alert(parcel, &alias), is_by_key: true };
            // An alert that is open keeps its first text: what is new goes into a note.
            let added = is_open.then(|| Request { is_by_key: false, ..simple("note", "notes", &said(parcel)) });
            std::iter::once(create).chain(added).collect()
        }
        AlertAct::Acknowledge => vec![simple("acknowledge", "acknowledge", &said(parcel))],
        AlertAct::Close => vec![simple("close", "close", &said(parcel))],
        AlertAct::Nothing(_) => Vec::new(),
    }
}

/// What happened, for a note: the account of causes where there is one.
fn said(parcel: &Parcel<'_>) -> String {
    match &parcel.notice.about {
        Some(about) if !about.rca.is_empty() => markdown(&parcel.notice.title, &about.rca),
        _ => format!("{}\n{}", one_line(&parcel.notice.title), parcel.text()),
    }
}

fn alert(parcel: &Parcel<'_>, alias: &str) -> Value {
    let notice = parcel.notice;
    let mut alert = json!({
        "message": cut_chars(&one_line(&notice.title), MESSAGE_CHARS_MAX),
        "alias": alias, "source": SOURCE, "priority": "P3",
        "description": cut_chars(&parcel.text(), DESCRIPTION_CHARS_MAX),
    });
    let Some(about) = &notice.about else { return alert };
    alert["priority"] = match about.level {
        Level::Critical => "P1",
        Level::Error => "P2",
        Level::Warning => "P3",
        Level::Info => "P5",
    }
    .into();
    alert["entity"] = cut_chars(&about.pipeline, ENTITY_CHARS_MAX).into();
    let tags = ["interlock", &about.environment].map(|tag| cut_chars(tag, TAG_CHARS_MAX));
    alert["tags"] = json!(tags);
    let fixed = [("status", about.status.as_str()), ("day", &about.business_date), ("thread", &about.thread)];
    let owner = about.owner.iter().map(|owner| ("owner", owner.as_str()));
    let facts = about.facts.iter().map(|fact| (fact.label.as_str(), fact.value.as_str()));
    let mut left = DETAILS_CHARS_MAX;
    let mut details = Map::new();
    for (name, value) in fixed.into_iter().chain(owner).chain(facts) {
        let value = cut_chars(value, DETAIL_CHARS_MAX);
        let n = name.chars().count() + value.chars().count();
        if n <= left {
            left -= n;
            details.insert(name.to_owned(), value.into());
        }
    }
    alert["details"] = details.into();
    alert
}

#[async_trait]
impl Channel for Opsgenie {
    fn service(&self) -> &'static str {
        "opsgenie"
    }

    fn updates(&self) -> bool {
        true
    }

    fn alerts(&self) -> bool {
        true
    }

    async fn deliver(&self, parcel: &Parcel<'_>, steps: &mut Steps<'_, '_>) -> Result<Value, Fault> {
        let is_ended = ["acknowledge", "close"].iter().any(|step| steps.step(step).is_some());
        let act = alert_act(parcel, steps.place().is_open || is_ended);
        if let AlertAct::Nothing(why) = act {
            return Ok(json!({ "status": "skipped", "why": why }));
        }
        // A note belongs to an alert that was open before this notice; creating it makes it look open.
        let was_open = match steps.step("was_open") {
            Some(Step::Done(was)) => was == true,
            _ => {
                let was = steps.place().is_open;
                steps.end("was_open", was.into(), None).await?;
                was
            }
        };
        let (mut ids, mut may_be_doubled) = (Vec::new(), false);
        for request in requests(parcel, act, was_open) {
            let step = steps.step(request.step);
            if let Some(Step::Done(id)) = step {
                ids.push(id);
                continue;
            }
            may_be_doubled |= step.is_some();
            if !request.is_by_key {
                steps.begin(request.step, parcel.now).await?;
            }
            let answer = self.link.send(Call::post(request.path, &request.body), parcel.now).await?;
            if answer.status != 202 {
                return Err(self.link.fault(&answer, answer.json["message"].as_str().unwrap_or_default()));
            }
            let id = answer.json["requestId"].clone();
            let place = Place { is_open: act != AlertAct::Close, notes: Value::Null };
            steps.end(request.step, id.clone(), Some(place)).await?;
            ids.push(id);
        }
        let mut receipt = json!({
            "status": "accepted", "alias": alias(parcel), "request_ids": ids,
            "note": "taken by Opsgenie to be carried out; ask for the request ids to see what came of it",
        });
        if may_be_doubled {
            receipt["may_be_doubled"] = true.into();
        }
        Ok(receipt)
    }

    fn preview(&self, parcel: &Parcel<'_>) -> Value {
        preview(parcel)
    }
}

/// The requests, as if an alert were open.
pub(crate) fn preview(parcel: &Parcel<'_>) -> Value {
    let act = alert_act(parcel, true);
    let shown = requests(parcel, act, false);
    shown.into_iter().map(|request| json!({ "path": request.path, "body": request.body })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_is_one_segment_of_the_path() {
        assert_eq!(path_of("inc-1", "close"), "/v2/alerts/inc-1/close?identifierType=alias");
        assert_eq!(path_of("a/b?c", "close"), "/v2/alerts/a%2Fb%3Fc/close?identifierType=alias");
    }
}
