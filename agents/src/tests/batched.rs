//! Agents whose questions may wait: handed in together, at half the price, once, whatever dies in between.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use models::{
    Batch, BatchItem, BatchProgress, BatchTicket, Batches, Batching, MaskRules, ModelError, ModelRequest,
    ModelResponse, ModelsConfig, Ports, PriceTable, Provider, Sink, Spent, Tiers,
};
use parking_lot::Mutex;
use runtime::Start;
use runtime::ports::store::Store;
use runtime_core::ids::{Seq, ThreadId};
use runtime_core::record::{Outcome, RunOptions};
use serde_json::{Value, json};
use tools::policy::RulePolicy;

use super::reasoning::{Script, diagnosed_by, down, healthy, mute_quorum, opinion, steps, text};
use super::world::{World, agreeable, compiled};
use crate::{Kit, Mind};

/// Bound of every wait for a condition.
const WAIT_MAX: Duration = Duration::from_secs(60);
const SPENT: &str = "agent:g/assistant:usd:day:2023-11-14";
const MODEL: &str = "claude-haiku-4-5";

/// The provider's office: what was handed in, and what it says of it.
struct Office {
    handed_in: Mutex<Vec<Vec<BatchItem>>>,
    looks: AtomicUsize,
    has_ended: AtomicBool,
    /// Looks that fail for a passing reason before one is answered.
    fails: AtomicUsize,
    /// None is a question that expired.
    says: fn() -> Option<ModelResponse>,
}

impl Office {
    fn new(says: fn() -> Option<ModelResponse>, has_ended: bool) -> Arc<Self> {
        let (handed_in, has_ended) = (Mutex::default(), AtomicBool::new(has_ended));
        Arc::new(Self { handed_in, looks: AtomicUsize::new(0), has_ended, fails: AtomicUsize::new(0), says })
    }

    /// Sizes of the batches, in order.
    fn sizes(&self) -> Vec<usize> {
        self.handed_in.lock().iter().map(Vec::len).collect()
    }
}

#[async_trait]
impl Batches for Office {
    async fn submit(&self, items: &[BatchItem]) -> Result<BatchTicket, ModelError> {
        let mut handed_in = self.handed_in.lock();
        handed_in.push(items.to_vec());
        let ids = items.iter().map(|item| item.id.clone()).collect();
        Ok(BatchTicket { provider: "a".into(), model: MODEL.into(), batch: format!("b{}", handed_in.len()), ids })
    }

    async fn poll(&self, _: &BatchTicket) -> Result<BatchProgress, ModelError> {
        self.looks.fetch_add(1, Ordering::SeqCst);
        if self.fails.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            return Err(down());
        }
        Ok(match self.has_ended.load(Ordering::SeqCst) {
            true => BatchProgress::Ended(Batch::default()),
            false => BatchProgress::Working { done: 0, total: 1 },
        })
    }

    async fn results(
        &self,
        ticket: &BatchTicket,
        _: &Batch,
    ) -> Result<BTreeMap<String, Result<ModelResponse, ModelError>>, ModelError> {
        Ok(ticket.ids.iter().map(|id| (id.clone(), (self.says)().ok_or_else(expired))).collect())
    }
}

/// Hands in and waits within one call, so that the place in the batch is never written down.
struct Hasty(Arc<Office>);

#[async_trait]
impl Provider for Hasty {
    fn name(&self) -> &str {
        "a"
    }

    async fn complete(&self, request: &ModelRequest, _: &mut Sink<'_>) -> Result<ModelResponse, ModelError> {
        let ticket = self.0.submit(&[BatchItem { id: "x".into(), request: request.clone() }]).await?;
        while !matches!(self.0.poll(&ticket).await?, BatchProgress::Ended(_)) {
            tokio::task::yield_now().await;
        }
        (self.0.says)().ok_or_else(expired)
    }
}

/// A tier whose model takes batches of so many, and one above that takes none.
fn mind((small, large): (Arc<dyn Provider>, &Arc<Script>), office: &Arc<Office>, size: usize) -> Mind {
    let config: ModelsConfig = serde_json::from_value(json!({
        "providers": {"a": {"kind": "anthropic"}, "b": {"kind": "anthropic"}},
        "tiers": {"small": [format!("a/{MODEL}")], "large": ["b/claude-opus-5"]},
        "order": ["small", "large"],
    }))
    .unwrap();
    let providers: BTreeMap<&str, Arc<dyn Provider>> = BTreeMap::from([("a", small), ("b", Arc::clone(large) as _)]);
    let tiers = Tiers::of(&config, &PriceTable::shipped().unwrap(), providers).unwrap();
    // Windows never end here: what goes out does so because it is full. Looks follow each other at once.
    let bounds = Batching { size, ..Batching::default() };
    let pause = move |time: Duration| -> futures_util::future::BoxFuture<'static, ()> {
        if time == bounds.window { Box::pin(std::future::pending()) } else { Box::pin(tokio::task::yield_now()) }
    };
    let batches = BTreeMap::from([("a".to_owned(), Arc::clone(office) as Arc<dyn Batches>)]);
    let tiers = tiers.with_batches(&batches, (bounds, Ports { pause: Arc::new(pause), ..Ports::default() }));
    Mind::new(Arc::new(tiers), BTreeMap::new(), &MaskRules::default()).unwrap()
}

fn nobody() -> Arc<Script> {
    Script::new("a", [])
}

fn world(store: &Arc<dyn Store>, mind: Mind) -> World {
    let tools = Arc::new(tools::toolbox::ScriptedTools::new());
    let policy = Arc::new(RulePolicy::etl_demo().unwrap());
    let known = (Arc::clone(store), Kit::shipped().unwrap());
    World::over(known, tools, policy, |agents| Arc::new(agents.with_mind(Some(mind))))
}

fn memory() -> Arc<dyn Store> {
    Arc::new(checkpoints::open::memory(&checkpoints::open::OpenOptions::default()))
}

/// Two assistants side by side.
fn pair(schedule: &str) -> graphs::CompiledGraph {
    let node = |name: &str| {
        format!(
            "  {name}: {{ agent: assistant, pattern: single, {schedule}, with: {{ q: why {name} }}, budget: {{ usd_per_day: 1, on_exceed: fail }}, output: {name}, then: end }}\n"
        )
    };
    let yaml = format!(
        "graph: g\nstate: {{ a: {{}}, b: {{}} }}\nnodes:\n  s: {{ emit: begin, then: [a, b] }}\n{}{}start: s\n",
        node("a"),
        node("b")
    );
    compiled("g", &yaml)
}

fn sure() -> Option<ModelResponse> {
    Some(text(json!({"answer": "because", "confidence": 0.9}).to_string()))
}

fn expired() -> ModelError {
    ModelError { class: models::ErrorClass::Timeout, spent: Spent::Nothing, ..down() }
}

#[tokio::test]
async fn two_tasks_within_the_window_are_one_batch_at_half_the_price() {
    let (small, office, store) = (nobody(), Office::new(sure, true), memory());
    let mut world = world(&store, mind((Arc::clone(&small) as _, &nobody()), &office, 2));
    let outcome = world.run(pair("schedule: batch"), json!({}), agreeable).await;
    assert_eq!((outcome, office.sizes(), small.n_asked()), (Outcome::Success, vec![2], 0));
    assert_eq!(world.channel("a").await["answer"], "because");
    let prices = PriceTable::shipped().unwrap();
    let usage = models::Usage { input: 1_000, output: 200, ..models::Usage::default() };
    let full = prices.card("a", MODEL).unwrap().cost(&usage).usd_micros;
    assert_eq!(store.account(SPENT).await.unwrap().spent, full, "two for the price of one");
    // The same two at once: two questions, each at its price.
    let (small, store) = (Script::new("a", [sure().unwrap(), sure().unwrap()]), memory());
    let mut at_once = self::world(&store, mind((Arc::clone(&small) as _, &nobody()), &office, 2));
    at_once.run(pair("schedule: now"), json!({}), agreeable).await;
    assert_eq!((small.n_asked(), store.account(SPENT).await.unwrap().spent), (2, 2 * full));
    assert_eq!(office.sizes(), [2]);
}

/// Everything that lives in a runtime of its own dies with it, as with a process.
fn until_death<F: Future>(work: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let output = runtime.block_on(work);
    runtime.shutdown_timeout(WAIT_MAX);
    output
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < WAIT_MAX, "{what}");
        tokio::task::yield_now().await;
    }
}

/// Starts, dies while the batch is under way, takes over in another life: how often was it handed in, and what is known in the end.
fn over_a_death(schedule: &str, is_recorded: bool, mind: impl Fn(&Arc<Office>) -> Mind) -> (usize, Value) {
    let (office, store) = (Office::new(sure, false), memory());
    let yaml = format!(
        "graph: g\nstate: {{ a: {{}} }}\nnodes:\n  a: {{ agent: assistant, pattern: single, {schedule}, output: a, then: end }}\nstart: a\n"
    );
    let graph = Arc::new(compiled("g", &yaml));
    let thread = ThreadId::new("t1").unwrap();
    until_death(async {
        let world = world(&store, mind(&office));
        let (graph, thread, options) = (Arc::clone(&graph), thread.clone(), RunOptions::default());
        let start = Start { graph, thread, input: json!({}), options, metadata: Value::Null };
        let running = world.engine.start(start).await.unwrap();
        until("nobody looks at the batch", async || office.looks.load(Ordering::SeqCst) >= 2).await;
        if is_recorded {
            until("the place is not recorded", async || {
                let records = store.records(&ThreadId::new("t1").unwrap(), Seq(0), 100).await.unwrap();
                format!("{records:?}").contains("\"batch\": Object")
            })
            .await;
        }
        drop(running);
    });
    office.has_ended.store(true, Ordering::SeqCst);
    let found = until_death(async {
        let world = world(&store, mind(&office));
        world.engine.add_graph(Arc::clone(&graph)).await.unwrap();
        world.engine.recover().await.unwrap();
        world.engine.join(&thread).await.unwrap();
        world.channel("a").await
    });
    (office.sizes().len(), found)
}

#[test]
fn a_batch_outlives_the_process_and_is_handed_in_once() {
    let (times, found) = over_a_death("schedule: batch", true, |office| mind((nobody() as _, &nobody()), office, 1));
    assert_eq!((times, &found["answer"]), (1, &json!("because")));
}

#[test]
fn without_the_record_of_the_place_it_is_handed_in_again() {
    let hasty = |office: &Arc<Office>| mind((Arc::new(Hasty(Arc::clone(office))), &nobody()), office, 1);
    let (times, found) = over_a_death("schedule: now", false, hasty);
    assert_eq!((times, &found["answer"]), (2, &json!("because")), "the weakened variant has to be caught");
}

const CLIMBING: &str = "schedule: batch, tier: { start: rules, max: large, climb_below: 0.85 }";

#[tokio::test]
async fn what_expires_climbs_and_a_tier_without_batches_is_asked_at_once_and_says_so() {
    let office = Office::new(|| None, true);
    let large = Script::new("b", [opinion(None, 0.6, "log", "Task failed")]);
    let mind = mind((nobody() as _, &large), &office, 1);
    let (outcome, found, ..) = diagnosed_by((mute_quorum(), CLIMBING), healthy(), mind).await;
    assert_eq!((outcome, office.sizes(), large.n_asked()), (Outcome::Success, vec![1], 1));
    let steps = steps(&found);
    assert!(steps[0].starts_with("small: no model of the tier `small` answered"), "{steps:?}");
    assert_eq!(steps[1], "large 0.6");
    let gaps = found["gaps"].to_string();
    assert!(gaps.contains("no model of tier `large` takes batches: it was asked at once, at the full price"), "{gaps}");
}

#[tokio::test]
async fn looks_that_fail_for_a_while_are_tried_again_and_not_for_ever() {
    for (fails, answered) in [(10, true), (11, false)] {
        let office = Office::new(|| Some(opinion(None, 0.6, "log", "Task failed")), true);
        office.fails.store(fails, Ordering::SeqCst);
        let mind = mind((nobody() as _, &nobody()), &office, 1);
        let extra = "schedule: batch, tier: { start: rules, max: small }";
        let (_, found, ..) = diagnosed_by((mute_quorum(), extra), healthy(), mind).await;
        assert_eq!((steps(&found)[0] == "small 0.6", office.sizes()), (answered, vec![1]), "{found}");
    }
}

/// What was answered is not asked again, whenever that was to be.
#[tokio::test]
async fn an_answer_of_a_batch_is_given_again() {
    let (office, store) = (Office::new(sure, true), memory());
    let one = "graph: g\nstate: { a: {} }\nnodes:\n  a: { agent: assistant, pattern: single, schedule: batch, output: a, then: end }\nstart: a\n";
    for _ in 0..2 {
        let answers = crate::Answers::new(Arc::clone(&store), models::CacheBounds::default(), "here");
        let mind = mind((nobody() as _, &nobody()), &office, 1).with_answers(Some(answers));
        let mut world = world(&memory(), mind);
        assert_eq!(world.run(compiled("g", one), json!({}), agreeable).await, Outcome::Success);
        assert_eq!(world.channel("a").await["answer"], "because");
    }
    assert_eq!(office.sizes(), [1]);
}
