//! The process dies at any point: the send is made again with the same key, and every message stands once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use async_trait::async_trait;
use serde_json::{Value, json};

use super::server::{Reply, Server};
use super::slack::{FakeSlack, Trouble};
use super::world::{NOON, healed, page, router_on, send_again};
use crate::ledger::{InMemory, Ledger};
use crate::notice::Notice;

/// Most operations and requests of one send.
const POINTS_MAX: i64 = 60;

/// A ledger whose process dies after so many operations; a swap that is under way may or may not be durable.
struct Mortal {
    inner: InMemory,
    fuse: AtomicI64,
    keeps_last: bool,
    /// The weakened one: forgets what was begun.
    forgets_intents: AtomicBool,
}

impl Mortal {
    fn new(keeps_last: bool) -> Self {
        Self { inner: InMemory::default(), fuse: AtomicI64::new(i64::MAX), keeps_last, forgets_intents: false.into() }
    }

    fn lives(&self) -> bool {
        self.fuse.fetch_sub(1, Ordering::SeqCst) > 0
    }
}

fn without_intents(value: &Value) -> Value {
    let mut value = value.clone();
    let sendings = value["sendings"].as_array_mut().into_iter().flatten();
    for channel in
        sendings.flat_map(|sending| sending["channels"].as_object_mut().into_iter().flat_map(|c| c.values_mut()))
    {
        if let Some(steps) = channel["steps"].as_object_mut() {
            steps.retain(|_, step| step.get("begun").is_none());
        }
    }
    value
}

#[async_trait]
impl Ledger for Mortal {
    async fn read(&self, name: &str) -> Result<Option<Value>, String> {
        if !self.lives() {
            return Err("died".to_owned());
        }
        self.inner.read(name).await
    }

    async fn swap(&self, name: &str, expected: Option<&Value>, new: &Value) -> Result<bool, String> {
        if !self.lives() {
            if self.keeps_last && self.fuse.load(Ordering::SeqCst) == -1 {
                self.inner.swap(name, expected, new).await?;
            }
            return Err("died".to_owned());
        }
        if self.forgets_intents.load(Ordering::SeqCst) {
            let (expected, new) = (expected.map(without_intents), without_intents(new));
            return self.inner.swap(name, expected.as_ref(), &new).await;
        }
        self.inner.swap(name, expected, new).await
    }
}

/// Sends `notice` with a death at `point`, then again after a restart.
async fn send_with_a_death(config: &str, ledger: &Arc<Mortal>, (notice, key): (&Notice, &str), point: i64) -> bool {
    ledger.fuse.store(point, Ordering::SeqCst);
    let has_died =
        send_again(&router_on(config, Arc::clone(ledger) as Arc<dyn Ledger>), notice, key, NOON).await.is_err();
    let fuse = ledger.fuse.swap(i64::MAX, Ordering::SeqCst);
    send_again(&router_on(config, Arc::clone(ledger) as Arc<dyn Ledger>), notice, key, NOON).await.unwrap();
    has_died || fuse <= 0
}

#[tokio::test]
async fn a_death_at_any_point_of_the_ledger_doubles_nothing_in_slack() {
    for keeps_last in [false, true] {
        let mut n_deaths = 0;
        for point in 0..POINTS_MAX {
            let slack = FakeSlack::start().await;
            let ledger = Arc::new(Mortal::new(keeps_last));
            let config = slack.config();
            let died = send_with_a_death(&config, &ledger, (&page("inc-1"), "k1"), point).await;
            send_with_a_death(&config, &ledger, (&healed("inc-1"), "k2"), point).await;
            let messages = slack.messages();
            let n_cards = messages.iter().filter(|message| message.thread.is_none()).count();
            assert_eq!((n_cards, messages.len()), (1, 3), "died at {point}, keeps_last {keeps_last}");
            assert!(messages[0].body["blocks"].to_string().contains("healed"));
            if !died {
                break;
            }
            n_deaths += 1;
        }
        assert!(n_deaths > 8 && n_deaths < POINTS_MAX, "{n_deaths}");
    }
}

/// With each request cut in turn, once done and once not.
async fn cut_at(point: usize, trouble: Trouble, ledger: Arc<Mortal>) -> (usize, usize) {
    let slack = FakeSlack::start().await;
    let config = slack.config();
    slack.trouble((0..point).map(|_| Trouble::No).chain([trouble]));
    for (notice, key) in [(page("inc-1"), "k1"), (healed("inc-1"), "k2")] {
        let router = router_on(&config, Arc::clone(&ledger) as Arc<dyn Ledger>);
        if send_again(&router, &notice, key, NOON).await.is_err() {
            send_again(&router_on(&config, Arc::clone(&ledger) as Arc<dyn Ledger>), &notice, key, NOON).await.unwrap();
        }
    }
    let messages = slack.messages();
    (messages.iter().filter(|message| message.thread.is_none()).count(), messages.len())
}

#[tokio::test]
async fn a_cut_at_any_request_doubles_nothing_in_slack() {
    for point in 0..5 {
        for trouble in [Trouble::DoneAndCut, Trouble::Cut] {
            let seen = cut_at(point, trouble.clone(), Arc::new(Mortal::new(false))).await;
            assert_eq!(seen, (1, 3), "{trouble:?} at request {point}");
        }
    }
}

/// The same test over a ledger that forgets intents finds doubled messages: it can fail.
#[tokio::test]
async fn without_intents_a_cut_request_is_doubled() {
    let forgetful = Mortal::new(false);
    forgetful.forgets_intents.store(true, Ordering::SeqCst);
    let (n_cards, n_messages) = cut_at(0, Trouble::DoneAndCut, Arc::new(forgetful)).await;
    assert!(n_cards > 1 && n_messages > 3, "{n_cards} {n_messages}");
}

#[tokio::test]
async fn a_death_at_any_point_pages_once_at_pagerduty() {
    for point in 0..POINTS_MAX {
        let server = Server::start(|seen| {
            let key = seen.json()["dedup_key"].clone();
            Reply::json(202, json!({ "status": "success", "message": "Event processed", "dedup_key": key }))
        })
        .await;
        let config = format!(
            "channels: {{ oncall: {{ pagerduty: {{ routing_key: {{ env: P }}, url: '{}' }} }} }}\nroutes: [{{ to: [oncall] }}]",
            server.url
        );
        let ledger = Arc::new(Mortal::new(true));
        let died = send_with_a_death(&config, &ledger, (&page("inc-1"), "k1"), point).await;
        let keys: Vec<Value> = server.seen().iter().map(|seen| seen.json()["dedup_key"].clone()).collect();
        // An event may be sent twice; it is one alert, because its key is the same.
        assert!(!keys.is_empty() && keys.len() <= 2 && keys.iter().all(|key| key == "inc-1"), "{point}: {keys:?}");
        send_with_a_death(&config, &ledger, (&healed("inc-1"), "k2"), point).await;
        assert!(server.seen().iter().any(|seen| seen.json()["event_action"] == "resolve"), "{point}");
        if !died {
            return;
        }
    }
    panic!("a send has no end");
}
