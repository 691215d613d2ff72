//! The same failure on another day is not asked again; another cause is.

use std::sync::Arc;

use models::{CacheBounds, ModelRequest};
use runtime::ports::store::Store;
use runtime_core::ids::{Seq, ThreadId};
use runtime_core::record::Outcome;
use serde_json::{Value, json};
use tools::toolbox::ScriptedTools;

use super::reasoning::{Script, diagnosed_by, healthy, mind, mute_quorum, opinion, steps};
use super::roles::profile;
use super::world::World;
use crate::{Answers, Mind};

const EXTRA: &str =
    "tier: { start: rules, max: small, climb_below: 0.85 }, budget: { usd_per_day: 1, on_exceed: fail }";
const SPENT: &str = "agent:g/diagnostic:usd:day:2023-11-14";

fn memory() -> Arc<dyn Store> {
    Arc::new(checkpoints::open::memory(&checkpoints::open::OpenOptions::default()))
}

fn remembering(small: &Arc<Script>, store: &Arc<dyn Store>) -> Mind {
    mind(small, small).with_answers(Some(Answers::new(Arc::clone(store), CacheBounds::default(), "here")))
}

/// The same failure as it looks on a day.
fn on(day: u32, code: &str) -> (Value, ScriptedTools) {
    let mut incident = mute_quorum();
    incident["business_date"] = json!(format!("2013-01-{day}"));
    incident["title"] = json!(format!("flights_daily 2013-01-{day}: run failed"));
    incident["run_id"] = json!(format!("prod__2013-01-{day}__17952401370{day}"));
    incident["error"] =
        json!(format!("publish: OperationalError: {code} epoch {day} behind 9{day}, quorum witness mute"));
    let log = format!("2013-01-{day}T05:49:01.39{day}Z run 17952401370{day} failed after {day} s: Task failed");
    let mut profile = profile(0, 1);
    profile["weekday"] = json!(["Wednesday", "Thursday", "Friday"][day as usize % 3]);
    let tools = healthy().reads("warehouse.get_log", json!({"lines": [log]})).reads("warehouse.profile_table", profile);
    (incident, tools)
}

fn says() -> models::ModelResponse {
    opinion(None, 0.6, "log", "Task failed")
}

async fn diagnosed((incident, tools): (Value, ScriptedTools), mind: Mind) -> (Value, World) {
    let (outcome, found, _, world) = diagnosed_by((incident, EXTRA), tools, mind).await;
    assert_eq!(outcome, Outcome::Success, "{found}");
    (found, world)
}

async fn spent(world: &World) -> u64 {
    world.engine.store().account(SPENT).await.unwrap().spent
}

async fn journal(world: &World) -> String {
    let records = world.engine.store().records(&ThreadId::new("t1").unwrap(), Seq(0), 1000).await.unwrap();
    format!("{records:?}")
}

#[tokio::test]
async fn the_same_failure_on_another_day_is_asked_once_and_costs_nothing_again() {
    let (small, store) = (Script::new("a", [says(), says()]), memory());
    let (first, world) = diagnosed(on(23, "E7731"), remembering(&small, &store)).await;
    let paid = spent(&world).await;
    assert!(paid > 0 && small.n_asked() == 1 && !journal(&world).await.contains("\"cached\""));
    // Another process, with nothing but the store.
    let (again, world) = diagnosed(on(24, "E7731"), remembering(&small, &store)).await;
    assert_eq!((small.n_asked(), spent(&world).await), (1, 0));
    assert_eq!((steps(&again), steps(&first)), (vec!["small 0.6".to_owned()], vec!["small 0.6".to_owned()]));
    let journal = journal(&world).await;
    assert!(journal.contains("\"cached\": Bool(true)") && journal.contains("\"saved\""), "{journal}");
    let (_, world) = diagnosed(on(25, "E7732"), remembering(&small, &store)).await;
    assert_eq!(small.n_asked(), 2, "another cause is another question");
    assert!(spent(&world).await > 0);
}

/// Whoever names answers by the text as it stands asks each day anew.
#[tokio::test]
async fn a_key_of_the_text_as_it_stands_would_hit_never() {
    let small = Script::new("a", [says(), says()]);
    for day in [23, 24] {
        diagnosed(on(day, "E7731"), mind(&small, &small)).await;
    }
    let asked: Vec<ModelRequest> =
        small.asked_each().iter().map(|request| serde_json::from_str(request).unwrap()).collect();
    let texts = |request: &ModelRequest| serde_json::to_string(request).unwrap();
    assert_ne!(texts(&asked[0]), texts(&asked[1]), "the weakened variant has to be caught");
    assert_eq!(models::normalise(&user(&asked[0])), models::normalise(&user(&asked[1])));
}

fn user(request: &ModelRequest) -> String {
    let [models::Part::Text { text }] = request.messages[0].parts.as_slice() else { panic!("{request:?}") };
    text.clone()
}

/// An answer that misses the form would miss it the next day too.
#[tokio::test]
async fn what_is_no_answer_is_not_given_again() {
    let store = memory();
    let small = Script::new("a", [super::reasoning::text("It is the quorum."), says()]);
    diagnosed(on(23, "E7731"), remembering(&small, &store)).await;
    assert_eq!(small.n_asked(), 2);
    let later = Script::new("a", [says()]);
    diagnosed(on(24, "E7731"), remembering(&later, &store)).await;
    assert_eq!(later.n_asked(), 1, "the first question was never answered in its form");
}
