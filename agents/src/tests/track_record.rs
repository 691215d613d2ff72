//! The record of a remedy at the sandbox's warehouse: who is asked, what stops it, and where the declared prior comes from.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use graphs::EffectClass;
use runtime::track_records::track_records;
use runtime_core::error::TaskError;
use runtime_core::interlocks::track_record::{Prior, TrackRecord};
use runtime_core::record::Outcome;
use serde_json::{Value, json};
use tools::policy::RulePolicy;
use tools::servers::sandbox::{Environment, Fault, Sandbox, Settlement};
use tools::toolbox::{ToolBox, ToolBrief, ToolRequest};

use super::world::{SandboxTools, World, agreeable, library};
use crate::{Kit, Remedies};

const CLASS: &str = "rerun-from-extract";
const PRIOR: &str = "    prior: { healed: 20, failed: 0 }\n";
/// Time-outs of one warehouse whose days last for them.
const DAYS: usize = 5;
/// Polls until a thread has told the record.
const POLLS_MAX: usize = 1_000_000;

/// The warehouse, whose proof of a day in production can be made to fail.
struct Doubtful {
    inner: SandboxTools,
    proves: Arc<AtomicBool>,
}

#[async_trait]
impl ToolBox for Doubtful {
    async fn call(&self, request: ToolRequest) -> Result<Value, TaskError> {
        let sql = request.args["sql"].as_str().unwrap_or_default();
        let proof = request.args["environment"] == "production" && sql.contains("fact_daily_route");
        if proof && !self.proves.load(Ordering::SeqCst) {
            return Ok(json!({ "rows": [{ "ok": 0 }] }));
        }
        self.inner.call(request).await
    }

    async fn effect(&self, target: &str) -> Result<EffectClass, TaskError> {
        self.inner.effect(target).await
    }

    async fn list(&self, patterns: &[String]) -> Result<Vec<ToolBrief>, TaskError> {
        self.inner.list(patterns).await
    }
}

struct Estate {
    sandbox: Arc<Sandbox>,
    proves: Arc<AtomicBool>,
    world: World,
    _dir: tempfile::TempDir,
}

impl Estate {
    /// A warehouse whose bot knows these remedies.
    async fn with(remedies: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let sandbox = Arc::new(Sandbox::open(dir.path()).unwrap());
        let proves = Arc::new(AtomicBool::new(true));
        let tools = Doubtful { inner: SandboxTools(Arc::clone(&sandbox)), proves: Arc::clone(&proves) };
        let (estate, causes) =
            (include_str!("../../knowledge/estate.yaml"), include_str!("../../knowledge/causes.yaml"));
        let kit = Kit::from_yaml(estate, causes, remedies).unwrap();
        let world = World::in_estate(kit, Arc::new(tools), Arc::new(RulePolicy::etl_demo().unwrap()));
        world.engine.add_graph(Arc::new(library("etl-incident"))).await.unwrap();
        Self { sandbox, proves, world, _dir: dir }
    }

    /// One more day breaks, and the bot looks at it.
    async fn round(mut self, thread: &str, fault: Fault) -> Self {
        self.sandbox.inject(fault, None).unwrap();
        self.world = self.world.on(thread);
        self.world.questions.clear();
        let outcome = self.world.run(library("etl-reliability"), json!({}), agreeable).await;
        assert_eq!(outcome, Outcome::Success, "{thread}");
        self.at_rest().await;
        self
    }

    async fn at_rest(&self) {
        for _ in 0..POLLS_MAX {
            if self.world.engine.n_active() == 0 {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("a thread never came to rest");
    }

    async fn record(&self) -> TrackRecord {
        let all = track_records(&**self.world.engine.store()).await.unwrap();
        all.into_iter().find(|(class, _)| class == CLASS).map(|(_, record)| record).unwrap_or_default()
    }

    fn acts(&self) -> usize {
        self.sandbox.effects(Environment::Production).unwrap().len()
    }
}

fn shipped() -> &'static str {
    include_str!("../../knowledge/remedies.yaml")
}

#[tokio::test]
async fn a_remedy_without_a_record_asks_even_where_policy_lets_it_go() {
    let undeclared = shipped().replace(PRIOR, "");
    assert!(undeclared.len() < shipped().len());
    let estate = Estate::with(&undeclared).await.round("first", Fault::UpstreamTimeout).await;
    let asked = r#"Guard in `run_again`: warehouse.rerun_pipeline in production → {"choice":"approve"}"#;
    assert_eq!(estate.world.questions, [asked]);
    let record = estate.record().await;
    assert_eq!((record.healed, record.failed, record.last[0].confidence), (1, 0, Some(0.91)));
    assert_eq!(&*record.last[0].graph, "etl-incident");
    assert_eq!(estate.sandbox.verify(Fault::UpstreamTimeout).unwrap().outcome, Settlement::Healed);
}

#[tokio::test]
async fn two_runs_that_did_not_help_stop_the_remedy_until_a_person_lets_it_go_on() {
    let vouched = shipped().replace("healed: 20", "healed: 60");
    let mut estate = Estate::with(&vouched).await;
    estate.proves.store(false, Ordering::SeqCst);
    for thread in ["a", "b"] {
        estate = estate.round(thread, Fault::UpstreamTimeout).await;
    }
    let record = estate.record().await;
    assert_eq!((record.healed, record.failed, record.is_stopped()), (0, 2, true));
    estate.proves.store(true, Ordering::SeqCst);
    let before = estate.acts();
    estate = estate.round("c", Fault::UpstreamTimeout).await;
    assert_eq!(estate.acts(), before, "a stopped remedy touches nothing");
    assert!(estate.world.questions.iter().all(|question| question.starts_with("Approval in `ask_on_call`")));
    let page = estate.world.notices.notices().into_iter().rev().find(|notice| notice.text.contains("is stopped"));
    assert!(page.is_some_and(|page| page.text.contains("interlock outcomes reset rerun-from-extract")));

    estate.world.engine.reset_class(CLASS, "ana").await.unwrap();
    estate.at_rest().await;
    estate = estate.round("d", Fault::UpstreamTimeout).await;
    assert!(estate.acts() > before, "it goes on");
    assert!(estate.record().await.healed >= 1);
}

#[tokio::test]
async fn a_change_counts_once_when_the_run_after_it_proves_it() {
    let estate = Estate::with(shipped()).await.round("n", Fault::NullBurst).await;
    let all = track_records(&**estate.world.engine.store()).await.unwrap();
    let counts: Vec<_> = all.iter().map(|(class, record)| (class.as_str(), record.healed, record.failed)).collect();
    assert_eq!(counts, [("quarantine-nulls", 1, 0)], "the change and its run are one heal, staging is none");
    assert_eq!(estate.world.questions.len(), 1, "the guard asks, and asks once: {:?}", estate.world.questions);

    let doubted = Estate::with(shipped()).await;
    doubted.proves.store(false, Ordering::SeqCst);
    let estate = doubted.round("n", Fault::NullBurst).await;
    let all = track_records(&**estate.world.engine.store()).await.unwrap();
    let counts: Vec<_> = all.iter().map(|(class, record)| (class.as_str(), record.healed, record.failed)).collect();
    assert_eq!(counts, [("quarantine-nulls", 0, 1)], "a change whose run is not proven did not heal");
}

/// Twenty days, each broken by a time-out: what the prior of the shipped remedy says of them.
#[tokio::test]
async fn the_declared_prior_is_what_the_demo_measures() {
    let mut measured = Prior::default();
    for _ in 0..4 {
        let mut estate = Estate::with(shipped()).await;
        for day in 0..DAYS {
            estate = estate.round(&format!("day-{day}"), Fault::UpstreamTimeout).await;
            assert!(estate.world.questions.is_empty(), "{:?}", estate.world.questions);
        }
        let record = estate.record().await;
        measured = Prior { healed: measured.healed + record.healed, failed: measured.failed + record.failed };
    }
    assert_eq!(Remedies::shipped().unwrap().get(CLASS).unwrap().prior(), Some(measured));
}
