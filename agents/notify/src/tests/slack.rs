//! Slack: a double that keeps messages as Slack does and refuses what Slack refuses.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::server::{Reply, Seen, Server};
use super::world::{NOON, healed, of, page, router, secret, send};
use crate::error::Class;
use crate::notice::Urgency;

pub(super) const CHANNEL: &str = "C0123456789";

/// What goes wrong with one request.
#[derive(Debug, Clone)]
pub(super) enum Trouble {
    /// Nothing.
    No,
    /// Done, and the connection breaks before the answer.
    DoneAndCut,
    /// Not done, and the connection breaks.
    Cut,
    /// Refused with this error.
    Error(&'static str),
    /// An answer of this status, not done.
    Status(u16, &'static str),
    /// Done, and the answer has no `ts`.
    NoTs,
}

#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) ts: String,
    pub(super) thread: Option<String>,
    pub(super) is_broadcast: bool,
    pub(super) body: Value,
    pub(super) n_updates: usize,
}

#[derive(Default)]
pub(super) struct Kept {
    pub(super) messages: Vec<Message>,
    pub(super) troubles: VecDeque<Trouble>,
    pub(super) may_look: bool,
    n: u32,
}

/// A Slack with one channel.
pub(super) struct FakeSlack {
    pub(super) server: Server,
    pub(super) kept: Arc<Mutex<Kept>>,
}

impl FakeSlack {
    pub(super) async fn start() -> Self {
        let kept = Arc::new(Mutex::new(Kept { may_look: true, ..Kept::default() }));
        let state = Arc::clone(&kept);
        let server = Server::start(move |seen| state.lock().answer(seen)).await;
        Self { server, kept }
    }

    pub(super) fn config(&self) -> String {
        format!(
            "channels: {{ team: {{ slack: {{ token: {{ env: S }}, channel: {CHANNEL}, url: '{}/api' }} }} }}\nroutes: [{{ to: [team] }}]",
            self.server.url
        )
    }

    pub(super) fn trouble(&self, troubles: impl IntoIterator<Item = Trouble>) {
        self.kept.lock().troubles = troubles.into_iter().collect();
    }

    pub(super) fn messages(&self) -> Vec<Message> {
        self.kept.lock().messages.clone()
    }

    /// Names of the methods that were called.
    pub(super) fn methods(&self) -> Vec<String> {
        let line = |line: String| line.split(['/', '?']).nth(2).unwrap_or_default().to_owned();
        self.server.lines().into_iter().map(line).collect()
    }
}

fn ok(mut body: Value) -> Reply {
    body["ok"] = true.into();
    Reply::json(200, body)
}

fn refused(error: &str) -> Reply {
    Reply::json(200, json!({ "ok": false, "error": error }))
}

impl Kept {
    fn answer(&mut self, seen: &Seen) -> Reply {
        assert_eq!(seen.header("authorization"), Some(format!("Bearer {}", secret("S")).as_str()));
        let trouble = self.troubles.pop_front().unwrap_or(Trouble::No);
        match trouble {
            Trouble::Cut => return Reply::Cut,
            Trouble::Error(error) => return refused(error),
            Trouble::Status(status, headers) => return Reply::Answer(status, headers.into(), String::new()),
            Trouble::No | Trouble::DoneAndCut | Trouble::NoTs => {}
        }
        let (method, path) = seen.line().split_once(" /api/").unwrap();
        let (name, query) = path.split_once('?').unwrap_or((path, ""));
        let reply = match (method, name) {
            ("POST", "chat.postMessage") => self.post(seen),
            ("POST", "chat.update") => self.update(seen),
            ("GET", "conversations.history") => self.look(query, None),
            ("GET", "conversations.replies") => {
                let ts = query.split('&').find_map(|pair| pair.strip_prefix("ts=")).unwrap();
                self.look(query, Some(ts))
            }
            other => panic!("there is no method {other:?}"),
        };
        match trouble {
            Trouble::DoneAndCut => Reply::Cut,
            Trouble::NoTs => ok(json!({})),
            _ => reply,
        }
    }

    fn check_body(seen: &Seen, allowed: &[&str]) -> Value {
        assert_eq!(seen.header("content-type"), Some("application/json; charset=utf-8"));
        let body = seen.json();
        let unknown: Vec<_> = body.as_object().unwrap().keys().filter(|key| !allowed.contains(&key.as_str())).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
        assert_eq!(body["channel"], CHANNEL);
        assert!(!body["text"].as_str().unwrap().contains(['<', '>']));
        assert!(body["blocks"].as_array().is_some_and(|blocks| !blocks.is_empty() && blocks.len() <= 50));
        body
    }

    fn post(&mut self, seen: &Seen) -> Reply {
        let allowed =
            ["channel", "text", "blocks", "thread_ts", "reply_broadcast", "metadata", "unfurl_links", "unfurl_media"];
        let body = Self::check_body(seen, &allowed);
        assert_eq!((&body["unfurl_links"], &body["unfurl_media"]), (&json!(false), &json!(false)));
        assert!(body["metadata"]["event_payload"]["key"].is_string());
        self.n += 1;
        let ts = format!("1764244800.{:06}", self.n);
        // A thread whose card is gone: the message stands in the channel, and nothing says so but the missing `thread_ts`.
        let asked = body["thread_ts"].as_str().map(str::to_owned);
        let thread = asked.filter(|thread| self.messages.iter().any(|message| message.ts == *thread));
        let is_broadcast = body["reply_broadcast"] == true;
        let mut message = json!({ "ts": ts });
        if let Some(thread) = &thread {
            message["thread_ts"] = thread.clone().into();
        }
        self.messages.push(Message { ts: ts.clone(), thread, is_broadcast, body, n_updates: 0 });
        ok(json!({ "channel": CHANNEL, "ts": ts, "message": message }))
    }

    fn update(&mut self, seen: &Seen) -> Reply {
        let body = Self::check_body(seen, &["channel", "ts", "text", "blocks"]);
        let Some(message) = self.messages.iter_mut().find(|message| body["ts"] == message.ts.as_str()) else {
            return refused("message_not_found");
        };
        message.n_updates += 1;
        message.body["blocks"] = body["blocks"].clone();
        ok(json!({ "channel": CHANNEL, "ts": message.ts }))
    }

    fn look(&self, query: &str, thread: Option<&str>) -> Reply {
        assert!(query.contains("include_all_metadata=true") && query.contains("oldest="), "{query}");
        if !self.may_look {
            return refused("missing_scope");
        }
        let fits = |message: &&Message| match thread {
            None => message.thread.is_none() || message.is_broadcast,
            Some(thread) => message.ts == thread || message.thread.as_deref() == Some(thread),
        };
        // Two on a page, the newest first, so that pages are turned.
        let from = query.split('&').find_map(|pair| pair.strip_prefix("cursor=")).map_or(0, |at| at.parse().unwrap());
        let all: Vec<Value> = self
            .messages
            .iter()
            .rev()
            .filter(fits)
            .map(|message| json!({ "ts": message.ts, "thread_ts": message.thread, "metadata": message.body["metadata"] }))
            .collect();
        let shown: Vec<&Value> = all.iter().skip(from).take(2).collect();
        let next = if from + 2 < all.len() { (from + 2).to_string() } else { String::new() };
        ok(json!({ "messages": shown, "response_metadata": { "next_cursor": next } }))
    }
}

#[tokio::test]
async fn an_incident_is_one_card_changed_in_place_with_a_thread_below() {
    let slack = FakeSlack::start().await;
    let router = router(&slack.config());
    let first = send(&router, &page("inc-1"), "k1", NOON).await.unwrap();
    send(&router, &page("inc-1"), "k2", NOON).await.unwrap();
    let last = send(&router, &healed("inc-1"), "k3", NOON).await.unwrap();
    send(&router, &page("inc-2"), "k4", NOON).await.unwrap();
    let messages = slack.messages();
    let card = &messages[0].ts;
    assert_eq!((&of(&first, "team")["ts"], &of(&last, "team")["ts"]), (&json!(card), &json!(card)));
    assert_eq!(of(&last, "team")["updated"], true);
    let shape: Vec<_> =
        messages.iter().map(|m| (m.thread.as_ref() == Some(card), m.is_broadcast, m.n_updates)).collect();
    // Card, evidence, the second page where everybody sees it, the account of causes; then another incident.
    assert_eq!(
        shape,
        [(false, false, 2), (true, false, 0), (true, true, 0), (true, false, 0), (false, false, 0), (false, false, 0)]
    );
    assert!(messages[0].body["blocks"].to_string().contains("healed"));
    assert!(messages[3].body["blocks"].to_string().contains("Verified by"));
}

#[tokio::test]
async fn a_strangers_text_neither_mentions_nor_links() {
    let slack = FakeSlack::start().await;
    let mut notice = page("inc-1");
    let evil = "<!channel> <@U1> <https://evil.example|click> & @here";
    notice.title = evil.into();
    let about = notice.about.as_mut().unwrap();
    about.headline = evil.into();
    about.facts[0].value = evil.repeat(3);
    about.parts[0].lines = vec![evil.into()];
    send(&router(&slack.config()), &notice, "k", NOON).await.unwrap();
    for message in slack.messages() {
        let text = message.body["text"].as_str().unwrap();
        assert!(text.contains("&lt;!channel&gt;") && !text.contains("<!"), "{text}");
        // A header is plain text, in which Slack knows no markup.
        let marked: Vec<Value> =
            message.body["blocks"].as_array().unwrap().iter().filter(|b| b["type"] != "header").cloned().collect();
        assert!(!Value::from(marked).to_string().contains('<'));
    }
}

#[tokio::test]
async fn a_card_that_is_gone_is_posted_anew() {
    let slack = FakeSlack::start().await;
    let router = router(&slack.config());
    send(&router, &page("inc-1"), "k1", NOON).await.unwrap();
    slack.kept.lock().messages.clear();
    let receipt = send(&router, &healed("inc-1"), "k2", NOON).await.unwrap();
    assert_eq!(of(&receipt, "team")["updated"], false);
    assert_eq!(slack.messages().len(), 2, "a new card, and its thread");
    // Gone, and the new card is in doubt: what is looked for is the new one.
    slack.trouble([Trouble::Error("message_not_found"), Trouble::DoneAndCut]);
    assert_eq!(send(&router, &page("inc-1"), "k3", NOON).await.unwrap_err().class, Class::Doubt);
    let receipt = send(&router, &page("inc-1"), "k3", NOON).await.unwrap();
    let cards: Vec<_> = slack.messages().into_iter().filter(|message| message.thread.is_none()).collect();
    assert_eq!((cards.len(), of(&receipt, "team")["ts"].as_str()), (2, Some(cards[1].ts.as_str())));
}

#[tokio::test]
async fn a_reply_that_fell_out_of_its_thread_is_noticed() {
    let slack = FakeSlack::start().await;
    let router = router(&slack.config());
    // The card is done; then the connection breaks, and the card is deleted before the reply is sent again.
    slack.trouble([Trouble::No, Trouble::Cut]);
    assert_eq!(send(&router, &page("inc-1"), "k1", NOON).await.unwrap_err().class, Class::Doubt);
    slack.kept.lock().messages.clear();
    let receipt = send(&router, &page("inc-1"), "k1", NOON).await.unwrap();
    assert_eq!(of(&receipt, "team")["thread_lost"], true);
    let receipt = send(&router, &page("inc-1"), "k2", NOON).await.unwrap();
    assert_eq!(of(&receipt, "team")["updated"], false, "the next notice begins a new card");
}

#[tokio::test]
async fn what_slack_refuses_ends_as_declared_after_one_attempt() {
    for (trouble, class, said) in [
        (Trouble::Error("ratelimited"), Class::Limited, "ratelimited"),
        (Trouble::Status(429, "retry-after: 30\r\n"), Class::Limited, "retry after 30 s"),
        (Trouble::Error("channel_not_found"), Class::Missing, "give the id of the channel"),
        (Trouble::Error("not_in_channel"), Class::Missing, "invite the app"),
        (Trouble::Error("is_archived"), Class::Missing, "archived"),
        (Trouble::Error("invalid_auth"), Class::Auth, "install the app again"),
        (Trouble::Error("missing_scope"), Class::Auth, "chat:write"),
        (Trouble::Error("invalid_blocks"), Class::Invalid, "invalid_blocks"),
        (Trouble::Error("fatal_error"), Class::Doubt, "fatal_error"),
        (Trouble::Status(500, ""), Class::Doubt, "HTTP 500"),
        (Trouble::NoTs, Class::Malformed, "not delivered"),
        (Trouble::Status(200, ""), Class::Malformed, "without `ok`"),
    ] {
        let slack = FakeSlack::start().await;
        slack.trouble([trouble.clone()]);
        let error = send(&router(&slack.config()), &page("inc-1"), "k", NOON).await.unwrap_err();
        let text = error.to_string();
        assert_eq!((error.class, slack.methods().len()), (class, 1), "{trouble:?}: {text}");
        assert!(text.contains(said) && !text.contains(&secret("S")), "{trouble:?}: {text}");
    }
}

#[tokio::test]
async fn a_post_in_doubt_is_looked_for_before_it_is_made_again() {
    for (doubt, n_expected) in [(Trouble::DoneAndCut, 2), (Trouble::Cut, 2)] {
        let slack = FakeSlack::start().await;
        let router = router(&slack.config());
        // Others talk, so that the page of the history is turned.
        for n in 0..3 {
            send(&router, &page(&format!("inc-other-{n}")), &format!("o{n}"), NOON).await.unwrap();
        }
        let n_before = slack.messages().len();
        slack.trouble([doubt.clone()]);
        assert_eq!(send(&router, &page("inc-1"), "k", NOON).await.unwrap_err().class, Class::Doubt);
        let receipt = send(&router, &page("inc-1"), "k", NOON).await.unwrap();
        assert_eq!(slack.messages().len() - n_before, n_expected, "{doubt:?}");
        assert!(of(&receipt, "team")["may_be_doubled"].is_null());
        assert!(slack.methods().contains(&"conversations.history".to_owned()));
    }
}

#[tokio::test]
async fn where_looking_is_not_allowed_the_receipt_says_that_it_may_be_doubled() {
    let slack = FakeSlack::start().await;
    slack.kept.lock().may_look = false;
    let router = router(&slack.config());
    slack.trouble([Trouble::DoneAndCut]);
    assert_eq!(send(&router, &page("inc-1"), "k", NOON).await.unwrap_err().class, Class::Doubt);
    let receipt = send(&router, &page("inc-1"), "k", NOON).await.unwrap();
    assert_eq!(of(&receipt, "team")["may_be_doubled"], true);
    assert_eq!(slack.messages().iter().filter(|message| message.thread.is_none()).count(), 2);
}

#[tokio::test]
async fn looking_that_fails_for_now_posts_nothing() {
    let slack = FakeSlack::start().await;
    let router = router(&slack.config());
    slack.trouble([Trouble::DoneAndCut, Trouble::Status(429, "retry-after: 5\r\n")]);
    assert_eq!(send(&router, &page("inc-1"), "k", NOON).await.unwrap_err().class, Class::Doubt);
    assert_eq!(send(&router, &page("inc-1"), "k", NOON).await.unwrap_err().class, Class::Limited);
    send(&router, &page("inc-1"), "k", NOON).await.unwrap();
    assert_eq!(slack.messages().len(), 2, "a card and a reply");
}

#[tokio::test]
async fn a_notice_about_no_incident_is_a_card_without_a_thread() {
    let slack = FakeSlack::start().await;
    let mut notice = page("round-1");
    notice.severity = Urgency::Summary;
    notice.about = None;
    notice.text = "**Incidents**:\n- flights_daily 2013-01-23: x".into();
    send(&router(&slack.config()), &notice, "k", NOON).await.unwrap();
    let messages = slack.messages();
    assert_eq!(messages.len(), 1);
    assert!(messages[0].body["blocks"].to_string().contains("*Incidents*:\\n• flights_daily"));
}
