//! Requests that may wait go out together, for half the price, and one of them does not spoil the others.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::join_all;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::calls::{KEY, config, ports};
use super::server::{Reply, Server};
use super::streams::whole;
use crate::batch::{Batch, BatchItem, BatchProgress, BatchTicket, Batches, Collector};
use crate::config::{Batching, BatchingConfig, Key, Kind, ModelsConfig};
use crate::error::{ErrorClass, ModelError, Spent};
use crate::prices::PriceTable;
use crate::provider::Ports;
use crate::request::ModelRequest;
use crate::response::ModelResponse;
use crate::tiers::{Completion, Looked, Setup, Tiers};
use crate::tokens::Correction;

const MODEL: &str = "claude-opus-5-5";

/// A batch interface that notes what is handed in and refuses what its script says.
#[derive(Default)]
struct Desk {
    says: Mutex<VecDeque<ModelError>>,
    handed_in: Mutex<Vec<BTreeSet<String>>>,
    /// A request that spoils the batch it is in.
    bad: &'static str,
}

fn error(class: ErrorClass, spent: Spent) -> ModelError {
    ModelError {
        class,
        provider: "p".into(),
        model: MODEL.into(),
        request_id: None,
        status: None,
        detail: String::new(),
        retry_after_ms: None,
        spent,
        tries: 1,
    }
}

#[async_trait]
impl Batches for Desk {
    async fn submit(&self, items: &[BatchItem]) -> Result<BatchTicket, ModelError> {
        let ids: BTreeSet<String> = items.iter().map(|item| item.id.clone()).collect();
        let mut handed_in = self.handed_in.lock();
        handed_in.push(ids.clone());
        if let Some(error) = self.says.lock().pop_front() {
            return Err(error);
        }
        if ids.contains(self.bad) {
            return Err(error(ErrorClass::InvalidRequest, Spent::Nothing));
        }
        Ok(BatchTicket { provider: "p".into(), model: MODEL.into(), batch: format!("b{}", handed_in.len()), ids })
    }

    async fn poll(&self, _: &BatchTicket) -> Result<BatchProgress, ModelError> {
        Ok(BatchProgress::Ended(Batch::default()))
    }

    async fn results(
        &self,
        _: &BatchTicket,
        _: &Batch,
    ) -> Result<BTreeMap<String, Result<ModelResponse, ModelError>>, ModelError> {
        Ok(BTreeMap::new())
    }
}

/// A collector whose windows end when they are told to, over a desk.
struct World {
    collector: Collector,
    desk: Arc<Desk>,
    window: Arc<Notify>,
}

fn world(size: usize, desk: Desk) -> World {
    let window = Arc::new(Notify::new());
    let ends = Arc::clone(&window);
    let bounds = Batching { size, ..Batching::default() };
    let waited_for = bounds.window;
    let pause = move |time| -> futures_util::future::BoxFuture<'static, ()> {
        let ends = Arc::clone(&ends);
        if time == waited_for { Box::pin(async move { ends.notified().await }) } else { Box::pin(async {}) }
    };
    let collector = Collector::new(bounds, Ports { pause: Arc::new(pause), ..ports().0 });
    World { collector, desk: Arc::new(desk), window }
}

impl World {
    async fn join(&self, id: &str) -> Result<BatchTicket, ModelError> {
        let batches: Arc<dyn Batches> = Arc::clone(&self.desk) as _;
        let request = ModelRequest { model: MODEL.into(), ..ModelRequest::of_text("why?", 100) };
        self.collector.join(("p", &batches), BatchItem { id: id.into(), request }).await.unwrap()
    }

    /// The sizes of what was handed in, in order.
    fn sizes(&self) -> Vec<usize> {
        self.desk.handed_in.lock().iter().map(BTreeSet::len).collect()
    }
}

/// The places of these, with the window ending once all of them have joined.
async fn joined(world: &World, ids: &[&str]) -> Vec<Result<BatchTicket, ModelError>> {
    let ends = async {
        tokio::task::yield_now().await;
        world.window.notify_one();
    };
    tokio::join!(join_all(ids.iter().map(|id| world.join(id))), ends).0
}

#[tokio::test]
async fn what_comes_within_the_window_goes_out_together_and_each_knows_its_own_place() {
    let world = world(100, Desk::default());
    let places = joined(&world, &["one", "two", "three"]).await;
    assert_eq!(world.sizes(), [3]);
    for (place, id) in places.into_iter().zip(["one", "two", "three"]) {
        let place = place.unwrap();
        assert_eq!((place.batch.as_str(), place.ids), ("b1", [id.to_owned()].into()));
    }
    assert_eq!(joined(&world, &["four"]).await[0].as_ref().unwrap().batch, "b2", "the next window is another batch");
}

#[tokio::test]
async fn a_full_batch_waits_for_no_window() {
    let world = world(2, Desk::default());
    let places = join_all(["one", "two", "three", "four"].map(|id| world.join(id))).await;
    assert!(places.iter().all(Result::is_ok));
    assert_eq!(world.sizes(), [2, 2]);
    // The weakened variant: who collects nothing hands in as often as it is asked.
    let weakened = self::world(1, Desk::default());
    join_all(["one", "two", "three", "four"].map(|id| weakened.join(id))).await;
    assert_eq!(weakened.sizes(), [1, 1, 1, 1], "the weakened variant has to be caught");
}

#[tokio::test]
async fn one_bad_request_does_not_spoil_the_others() {
    let world = world(5, Desk { bad: "three", ..Desk::default() });
    let places = join_all(["one", "two", "three", "four", "five"].map(|id| world.join(id))).await;
    let went: Vec<bool> = places.iter().map(Result::is_ok).collect();
    assert_eq!(went, [true, true, false, true, true]);
    assert_eq!(world.sizes(), [5, 2, 3, 1, 2], "halved until it stands alone");
}

#[tokio::test]
async fn handing_in_is_repeated_only_where_it_certainly_came_to_nothing() {
    let says = |class, spent| Mutex::new(VecDeque::from([error(class, spent)]));
    let passing = world(1, Desk { says: says(ErrorClass::Overloaded, Spent::Nothing), ..Desk::default() });
    assert_eq!(passing.join("one").await.unwrap().batch, "b2");
    for (class, spent) in [(ErrorClass::Timeout, Spent::Unknown), (ErrorClass::Auth, Spent::Nothing)] {
        let world = world(1, Desk { says: says(class, spent), ..Desk::default() });
        assert_eq!((world.join("one").await.unwrap_err().spent, world.sizes()), (spent, vec![1]));
    }
}

#[tokio::test]
async fn who_tries_again_or_leaves_is_not_in_twice() {
    let world = world(3, Desk::default());
    let mut first = Box::pin(world.join("one"));
    assert!((&mut first).now_or_never().is_none());
    // The same call is tried again while the first try still lies there, and a third one leaves.
    let mut gone = Box::pin(world.join("gone"));
    assert!((&mut gone).now_or_never().is_none());
    drop((first, gone));
    let places = join_all(["one", "two"].map(|id| world.join(id))).await;
    assert!(places.iter().all(Result::is_ok), "{places:?}");
    assert_eq!(world.desk.handed_in.lock().as_slice(), [BTreeSet::from(["one".to_owned(), "two".to_owned()])]);
}

/// A tier of one model at this server, in batches of two.
fn tiers(server: &Server) -> Tiers {
    let mut models = ModelsConfig::default();
    let mut provider = config(Kind::Anthropic, &server.url);
    (provider.key_env, provider.batches) = (Some("KEY".into()), Some(true));
    models.providers.insert("p".into(), provider);
    models.tiers.insert("small".into(), vec![format!("p/{MODEL}")]);
    models.order = vec!["small".into()];
    models.batches = BatchingConfig { size: Some(2), window: Some("1m".into()), ..BatchingConfig::default() };
    // Windows never end here: what goes out does so because it is full.
    let pause = |_| -> futures_util::future::BoxFuture<'static, ()> { Box::pin(std::future::pending()) };
    let setup = Setup {
        prices: PriceTable::shipped().unwrap(),
        correction: Correction::default(),
        ports: Ports { pause: Arc::new(pause), ..ports().0 },
        key: &|_| Ok(Key::from(secrecy::SecretString::from(KEY))),
    };
    Tiers::open(&models, setup).unwrap()
}

async fn both(tiers: &Tiers, request: &ModelRequest) -> [BatchTicket; 2] {
    let (one, two) = tokio::join!(tiers.hand_in("small", "one", request), tiers.hand_in("small", "two", request));
    [one.unwrap(), two.unwrap()]
}

fn ended(results: &[Value]) -> Vec<Reply> {
    let lines: String = results.iter().map(|line| format!("{line}\n")).collect();
    vec![Reply::json(200, "", &json!({"processing_status": "ended"})), Reply::text(200, "", &lines)]
}

#[tokio::test]
async fn two_that_ask_within_the_window_are_one_batch_at_half_the_price() {
    let answers =
        ["one", "two"].map(|id| json!({"custom_id": id, "result": {"type": "succeeded", "message": whole(0)}}));
    let mut script = vec![
        Reply::json(200, "", &json!({"id": "msgbatch_1"})),
        Reply::json(200, "", &json!({"processing_status": "in_progress"})),
    ];
    script.extend([ended(&answers), ended(&answers)].concat());
    let server = Server::start(script).await;
    let (tiers, request) = (tiers(&server), ModelRequest::of_text("why?", 100));
    let places = both(&tiers, &request).await;
    assert_eq!(tiers.look("small", &places[0], &request).await, Ok(None));
    let mut usd = 0;
    for place in &places {
        let Completion { response, spent, .. } = tiers.look("small", place, &request).await.unwrap().unwrap();
        assert_eq!(response.text(), "I clear both – ✓");
        usd += spent.usd_micros;
    }
    let (prices, usage) =
        (PriceTable::shipped().unwrap(), crate::Usage { input: 25, output: 89, cache_read: 2000, cache_write: 100 });
    assert_eq!(usd, prices.card("p", MODEL).unwrap().cost(&usage).usd_micros, "two for the price of one");
    let handed_in: Vec<Value> =
        server.seen().iter().filter(|seen| seen.line().starts_with("POST")).map(|seen| seen.json()).collect();
    assert_eq!((handed_in.len(), handed_in[0]["requests"].as_array().unwrap().len()), (1, 2));
    let (whole, half) =
        (tiers.worst_case("small", &request).await.unwrap(), tiers.batch_worst_case("small", &request).await.unwrap());
    assert_eq!((half.usd_micros, half.tokens), (whole.usd_micros.div_ceil(2), whole.tokens));
}

#[tokio::test]
async fn what_comes_of_a_request_is_one_clear_error_that_cost_nothing() {
    for (result, class) in [
        (json!({"type": "expired"}), ErrorClass::Timeout),
        (json!({"type": "canceled"}), ErrorClass::Unavailable),
        (
            json!({"type": "errored", "error": {"type": "error", "error": {"type": "invalid_request_error"}}}),
            ErrorClass::InvalidRequest,
        ),
    ] {
        let mut script = vec![
            Reply::json(200, "", &json!({"id": "msgbatch_1"})),
            Reply::json(529, "", &json!({"error": {"type": "overloaded_error"}})),
        ];
        script.extend(ended(&[json!({"custom_id": "one", "result": result})]));
        let server = Server::start(script).await;
        let (tiers, request) = (tiers(&server), ModelRequest::of_text("why?", 100));
        let [place, _] = both(&tiers, &request).await;
        let later = tiers.look("small", &place, &request).await.unwrap_err();
        assert!(matches!(later, Looked::Later(_)), "{later:?}");
        let Err(Looked::Failed(error)) = tiers.look("small", &place, &request).await else { panic!("{result}") };
        assert_eq!((error.class(), error.spent.usd_micros), (Some(class), 0), "{error}");
    }
}

#[tokio::test]
async fn a_tier_without_batches_says_so() {
    let server = Server::start(vec![]).await;
    let mut models = ModelsConfig::default();
    for (name, url) in [("own", Some(server.url.clone())), ("makers", None)] {
        let provider = crate::ProviderConfig { url, ..crate::ProviderConfig::of(Kind::OpenaiChat) };
        models.providers.insert(name.into(), provider);
        models.tiers.insert(name.into(), vec![format!("{name}/gpt-6.2-sol")]);
        models.order.push(name.into());
    }
    let (prices, key) = (PriceTable::shipped().unwrap(), &|_: &crate::KeySource| Err(String::new()));
    let setup = Setup { prices, correction: Correction::default(), ports: ports().0, key };
    let tiers = Tiers::open(&models, setup).unwrap();
    assert_eq!(["own", "makers", "none"].map(|tier| tiers.takes_batches(tier)), [false, true, false]);
    assert!(tiers.hand_in("own", "one", &ModelRequest::of_text("why?", 100)).await.is_err());
}
