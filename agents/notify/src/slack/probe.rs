//! Whether a post in doubt is there: looked for by the key in its metadata, in the channel or in its thread.

use jiff::{SignedDuration, Timestamp};
use reqwest::{Method, Url};
use serde_json::Value;

use super::{EVENT_TYPE, Posted, Slack};
use crate::channel::Parcel;
use crate::error::{Class, Fault};
use crate::http::Call;

/// Clocks of two hosts differ by less.
const SKEW: SignedDuration = SignedDuration::from_mins(10);
/// Messages on a page.
const PAGE: &str = "100";
/// Most pages that are looked through.
const PAGES_MAX: usize = 5;

/// What came of looking.
pub(super) enum Found {
    There(Posted),
    Not,
    /// With why.
    CannotLook(String),
}

impl Slack {
    /// Looks for a post that was begun at `at`.
    ///
    /// # Errors
    /// Looking failed in a way that passes: it is looked for again later, and nothing is posted before.
    pub(super) async fn look_for(
        &self,
        parcel: &Parcel<'_>,
        (key, thread): (&str, Option<&str>),
        at: Timestamp,
    ) -> Result<Found, Fault> {
        let oldest = at.checked_sub(SKEW).unwrap_or(at).as_second().to_string();
        let mut cursor = String::new();
        for _ in 0..PAGES_MAX {
            let mut asked = vec![("channel", self.channel.as_str()), ("oldest", &oldest), ("limit", PAGE)];
            asked.push(("include_all_metadata", "true"));
            asked.extend(thread.map(|ts| ("ts", ts)));
            asked.extend((!cursor.is_empty()).then_some(("cursor", cursor.as_str())));
            let method = if thread.is_some() { "/conversations.replies" } else { "/conversations.history" };
            let call = Call { method: Method::GET, path: query(method, &asked), headers: Vec::new(), body: None };
            let answer = match self.call(call, parcel).await {
                Ok(answer) => answer,
                // The thread is gone: what was posted into it is not there.
                Err((_, error)) if error == "thread_not_found" => return Ok(Found::Not),
                Err((fault, _)) if fault.class.passes() => return Err(fault),
                Err((fault, _)) => return Ok(Found::CannotLook(fault.detail)),
            };
            let Some(messages) = answer["messages"].as_array() else {
                return Err(Fault::new(Class::Malformed, "no `messages` in the answer"));
            };
            if let Some(message) = messages.iter().find(|message| is_ours(message, key)) {
                let text = |name: &str| message[name].as_str().map(str::to_owned);
                let ts = text("ts").unwrap_or_default();
                return Ok(Found::There(Posted { ts, thread: text("thread_ts"), may_be_doubled: false }));
            }
            match answer.pointer("/response_metadata/next_cursor").and_then(Value::as_str) {
                Some(next) if !next.is_empty() => next.clone_into(&mut cursor),
                _ => return Ok(Found::Not),
            }
        }
        Ok(Found::CannotLook(format!("more than {PAGES_MAX} pages of {PAGE} messages since")))
    }
}

fn is_ours(message: &Value, key: &str) -> bool {
    let metadata = &message["metadata"];
    metadata["event_type"] == EVENT_TYPE && metadata["event_payload"]["key"] == key
}

fn query(path: &str, asked: &[(&str, &str)]) -> String {
    let mut url = Url::parse("http://x").ok();
    if let Some(url) = &mut url {
        url.query_pairs_mut().extend_pairs(asked);
    }
    format!("{path}?{}", url.as_ref().and_then(Url::query).unwrap_or_default())
}
