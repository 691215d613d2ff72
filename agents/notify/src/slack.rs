//! Slack: one card per incident, changed in place; one thread below it.
//!
//! Posting is the one act here that is not told apart by a key: `chat.postMessage` twice is two messages. So each post leaves
//! its intent in the ledger first and its `ts` after. A post in doubt is looked for by the key in its metadata before it is
//! made again; where looking is not possible (no history scope), it is made again and the receipt says `may_be_doubled`.

pub(crate) mod blocks;
mod probe;
pub(crate) mod webhook;

use async_trait::async_trait;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::channel::{Channel, Parcel};
use crate::error::{Class, Fault};
use crate::http::{Answer, Call, Link};
use crate::ledger::{Place, Step, Steps};
use crate::notice::{Part, Urgency};

/// Where Slack is.
pub(crate) const SLACK: &str = "https://slack.com/api";
/// Type of the metadata of our messages.
const EVENT_TYPE: &str = "interlock_notice";

/// A bot in a channel.
pub(crate) struct Slack {
    pub(crate) link: Link,
    /// Its id, `C…`.
    pub(crate) channel: String,
}

/// What an error of Slack means.
fn class_of(error: &str) -> Class {
    match error {
        "ratelimited" | "rate_limited" | "message_limit_exceeded" => Class::Limited,
        "invalid_auth"
        | "not_authed"
        | "account_inactive"
        | "token_revoked"
        | "token_expired"
        | "no_permission"
        | "missing_scope"
        | "not_allowed_token_type"
        | "ekm_access_denied"
        | "access_denied"
        | "org_login_required"
        | "team_access_not_granted"
        | "invalid_token" => Class::Auth,
        "channel_not_found"
        | "not_in_channel"
        | "is_archived"
        | "channel_is_archived"
        | "restricted_action"
        | "restricted_action_read_only_channel"
        | "restricted_action_thread_only_channel"
        | "no_service"
        | "no_team"
        | "action_prohibited" => Class::Missing,
        // The service says of these that a part may have been done.
        "internal_error" | "fatal_error" | "service_unavailable" | "request_timeout" | "team_added_to_org" => {
            Class::Doubt
        }
        _ => Class::Invalid,
    }
}

/// What to do about it, where that is known.
fn advice(error: &str) -> &'static str {
    match error {
        "not_in_channel" => ": invite the app, with /invite in the channel",
        "channel_not_found" => ": give the id of the channel (C…); of a private one, invite the app first",
        "is_archived" | "channel_is_archived" => ": the channel is archived",
        "missing_scope" => {
            ": the app needs chat:write, and channels:history (private: groups:history) to look for a post in doubt"
        }
        "invalid_auth" | "token_revoked" | "token_expired" | "account_inactive" => {
            ": install the app again for a new token"
        }
        _ => "",
    }
}

/// A card that is gone cannot be changed; another one is posted.
fn is_gone(error: &str) -> bool {
    matches!(error, "message_not_found" | "cant_update_message" | "edit_window_closed")
}

/// A post that was made.
#[derive(Debug, Clone, PartialEq)]
struct Posted {
    ts: String,
    /// The thread it is in.
    thread: Option<String>,
    may_be_doubled: bool,
}

impl Posted {
    fn outcome(&self) -> Value {
        json!({ "ts": self.ts, "thread_ts": self.thread, "may_be_doubled": self.may_be_doubled })
    }

    fn of(outcome: &Value) -> Self {
        Self {
            ts: outcome["ts"].as_str().unwrap_or_default().to_owned(),
            thread: outcome["thread_ts"].as_str().map(str::to_owned),
            may_be_doubled: outcome["may_be_doubled"] == true,
        }
    }
}

/// What is posted below a card.
struct Reply {
    step: &'static str,
    blocks: Vec<Value>,
    text: String,
    /// Shown in the channel as well: people who follow no thread are to see it.
    is_broadcast: bool,
}

/// How the card came to be.
struct Card {
    ts: String,
    was_there: bool,
    may_be_doubled: bool,
}

fn digest(parts: &[Part]) -> String {
    let text = serde_json::to_string(parts).unwrap_or_default();
    hex::encode(Sha256::digest(text.as_bytes()))
}

impl Slack {
    /// Calls a method; an answer that says `ok: false` is a fault, given with its error.
    async fn call(&self, call: Call, parcel: &Parcel<'_>) -> Result<Value, (Fault, String)> {
        let answer = self.link.send(call, parcel.now).await.map_err(|fault| (fault, String::new()))?;
        if answer.status == 200 && answer.json["ok"] == true {
            return Ok(answer.json);
        }
        Err(self.fault(&answer))
    }

    fn fault(&self, answer: &Answer) -> (Fault, String) {
        let error = answer.json["error"].as_str().unwrap_or_default().to_owned();
        if answer.status == 200 && answer.json.get("ok").is_none() {
            return (self.link.fault(answer, "an answer without `ok`"), error);
        }
        let messages = answer.json.pointer("/response_metadata/messages").and_then(Value::as_array);
        let messages: Vec<&str> = messages.into_iter().flatten().filter_map(Value::as_str).collect();
        let mut fault = self.link.fault(answer, &format!("{error}{} {}", advice(&error), messages.join("; ")));
        if !error.is_empty() {
            fault.class = class_of(&error);
        }
        (fault, error)
    }

    /// The card, changed if it is there, else posted.
    async fn card(&self, parcel: &Parcel<'_>, steps: &mut Steps<'_, '_>) -> Result<Card, Fault> {
        if let Some(Step::Done(outcome)) = steps.step("card") {
            let (posted, was_there) = (Posted::of(&outcome), outcome["was_there"] == true);
            return Ok(Card { ts: posted.ts, was_there, may_be_doubled: posted.may_be_doubled });
        }
        let (blocks, text) = (blocks::card(parcel), blocks::text(parcel));
        let known = steps.place().notes["ts"].as_str().map(str::to_owned);
        // A post in doubt comes before what was known: it is the newer card.
        if let Some(ts) = known.filter(|_| steps.step("card").is_none()) {
            let body = json!({ "channel": self.channel, "ts": ts, "text": text, "blocks": blocks });
            match self.call(Call::post("/chat.update", &body), parcel).await {
                Ok(_) => {
                    let outcome = json!({ "ts": ts, "was_there": true });
                    steps.end("card", outcome, None).await?;
                    return Ok(Card { ts, was_there: true, may_be_doubled: false });
                }
                Err((_, error)) if is_gone(&error) => {}
                Err((fault, _)) => return Err(fault),
            }
        }
        let reply = Reply { step: "card", blocks, text, is_broadcast: false };
        let posted = self.post_once(parcel, steps, (&reply, None)).await?;
        let notes = json!({ "channel": self.channel, "ts": posted.ts });
        steps.end("card", posted.outcome(), Some(Place { is_open: true, notes })).await?;
        Ok(Card { ts: posted.ts, was_there: false, may_be_doubled: posted.may_be_doubled })
    }

    /// Posts unless it is there already.
    async fn post_once(
        &self,
        parcel: &Parcel<'_>,
        steps: &mut Steps<'_, '_>,
        (reply, thread): (&Reply, Option<&str>),
    ) -> Result<Posted, Fault> {
        let key = format!("{}#{}", parcel.key, reply.step);
        let mut may_be_doubled = false;
        match steps.step(reply.step) {
            Some(Step::Done(outcome)) => return Ok(Posted::of(&outcome)),
            Some(Step::Begun(at)) => match self.look_for(parcel, (&key, thread), at).await? {
                probe::Found::There(posted) => return Ok(posted),
                probe::Found::Not => {}
                probe::Found::CannotLook(why) => {
                    tracing::warn!(why, "a post in doubt could not be looked for and is made again");
                    may_be_doubled = true;
                }
            },
            None => steps.begin(reply.step, parcel.now).await?,
        }
        let mut body = json!({
            "channel": self.channel, "text": reply.text, "blocks": reply.blocks,
            "unfurl_links": false, "unfurl_media": false,
            "metadata": { "event_type": EVENT_TYPE, "event_payload": { "key": key } },
        });
        if let Some(thread) = thread {
            body["thread_ts"] = thread.into();
            if reply.is_broadcast {
                body["reply_broadcast"] = true.into();
            }
        }
        match self.call(Call::post("/chat.postMessage", &body), parcel).await {
            Ok(answer) => {
                let ts = answer["ts"].as_str().filter(|ts| !ts.is_empty());
                let ts = ts.ok_or_else(|| Fault::new(Class::Malformed, "no `ts` in the answer: not delivered"))?;
                let thread = answer.pointer("/message/thread_ts").and_then(Value::as_str).map(str::to_owned);
                Ok(Posted { ts: ts.to_owned(), thread, may_be_doubled })
            }
            Err((fault, _)) => {
                // What was certainly not posted leaves no doubt behind; an earlier doubt stays.
                if !may_be_doubled && !matches!(fault.class, Class::Doubt | Class::Malformed) {
                    steps.take_back(reply.step).await?;
                }
                Err(fault)
            }
        }
    }

    /// What goes below the card.
    fn replies(&self, parcel: &Parcel<'_>, card: &Card, known: &Value) -> Vec<Reply> {
        let Some(about) = &parcel.notice.about else { return Vec::new() };
        let text = blocks::text(parcel);
        let is_loud = parcel.urgency == Urgency::Page && card.was_there;
        let is_new = !about.parts.is_empty() && about.rca.is_empty() && known["parts"] != digest(&about.parts);
        let mut replies = Vec::new();
        if is_loud || is_new {
            let parts: &[Part] = if is_new { &about.parts } else { &[] };
            let blocks = blocks::reply(parcel, parts);
            replies.push(Reply { step: "parts", blocks, text: text.clone(), is_broadcast: is_loud });
        }
        if !about.rca.is_empty() {
            replies.push(Reply { step: "rca", blocks: blocks::rca(&about.rca), text, is_broadcast: false });
        }
        replies
    }
}

#[async_trait]
impl Channel for Slack {
    fn service(&self) -> &'static str {
        "slack"
    }

    fn updates(&self) -> bool {
        true
    }

    fn is_silent_when_updated(&self) -> bool {
        true
    }

    async fn deliver(&self, parcel: &Parcel<'_>, steps: &mut Steps<'_, '_>) -> Result<Value, Fault> {
        let card = self.card(parcel, steps).await?;
        let known = steps.place().notes;
        let mut receipt =
            json!({ "status": "delivered", "channel": self.channel, "ts": card.ts, "updated": card.was_there });
        let (mut n_replies, mut may_be_doubled) = (0, card.may_be_doubled);
        let replies = if parcel.is_silent { Vec::new() } else { self.replies(parcel, &card, &known) };
        for reply in replies {
            let posted = self.post_once(parcel, steps, (&reply, Some(&card.ts))).await?;
            // Slack posts into the channel, without a word, when the card of a thread is gone.
            let is_lost = posted.thread.as_deref() != Some(&card.ts);
            let mut notes = steps.place().notes;
            if is_lost {
                notes = Value::Null;
                receipt["thread_lost"] = true.into();
            } else if let (Some(about), "parts") = (&parcel.notice.about, reply.step) {
                notes["parts"] = digest(&about.parts).into();
            }
            steps.end(reply.step, posted.outcome(), Some(Place { is_open: true, notes })).await?;
            n_replies += 1;
            may_be_doubled |= posted.may_be_doubled;
        }
        receipt["replies"] = n_replies.into();
        if may_be_doubled {
            receipt["may_be_doubled"] = true.into();
        }
        Ok(receipt)
    }

    fn preview(&self, parcel: &Parcel<'_>) -> Value {
        preview(parcel)
    }
}

/// The card and what goes into its thread.
pub(crate) fn preview(parcel: &Parcel<'_>) -> Value {
    let about = parcel.notice.about.as_ref();
    let thread: Vec<Value> = about
        .into_iter()
        .flat_map(|about| {
            let parts = (!about.parts.is_empty() && about.rca.is_empty()).then(|| blocks::reply(parcel, &about.parts));
            let rca = (!about.rca.is_empty()).then(|| blocks::rca(&about.rca));
            parts.into_iter().chain(rca)
        })
        .map(Value::from)
        .collect();
    json!({ "text": blocks::text(parcel), "blocks": blocks::card(parcel), "thread": thread })
}
