//! Track records: what a class of acts came to decides whether the next one may go without a person.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use async_trait::async_trait;
use graphs::EffectClass;
use runtime::ports::store::Store;
use runtime::track_records::track_records;
use runtime_core::error::{ErrorClass, TaskError};
use runtime_core::ids::{Seq, ThreadId};
use runtime_core::interlocks::guard::{AllowAll, DefaultPolicy, Policy};
use runtime_core::interlocks::track_record::{Marked, TrackRecord};
use runtime_core::record::{InterruptKind, Op, Outcome};
use serde_json::{Value, json};
use tools::node::ToolNode;
use tools::toolbox::{ToolBox, ToolBrief, ToolRequest};

use crate::lab::*;
use crate::strict_store::{Death, Disk, Lie, StrictStore};

/// A pipeline: `pipe.run` acts, `pipe.state` is the check, `pipe.undo` takes back.
#[derive(Clone)]
struct Pipe {
    bench: Bench,
    /// What the check finds.
    holds: Arc<AtomicBool>,
    /// Runs that fail before one works.
    fails: Arc<AtomicU32>,
}

#[async_trait]
impl ToolBox for Pipe {
    async fn call(&self, request: ToolRequest) -> Result<Value, TaskError> {
        if request.target == "pipe.state" {
            return Ok(json!({ "ok": self.holds.load(Ordering::SeqCst) }));
        }
        self.bench.act(&request.target);
        let left = self.fails.load(Ordering::SeqCst);
        if request.target == "pipe.run" && left > 0 {
            self.fails.store(left - 1, Ordering::SeqCst);
            return Err(TaskError::new(ErrorClass::Transient, "not yet"));
        }
        Ok(json!({}))
    }

    async fn effect(&self, target: &str) -> Result<EffectClass, TaskError> {
        Ok(if target == "pipe.state" { EffectClass::ReadOnly } else { EffectClass::Idempotent })
    }

    async fn list(&self, _: &[String]) -> Result<Vec<ToolBrief>, TaskError> {
        Ok(Vec::new())
    }
}

/// A graph with one act of class `rerun`, over this pipeline.
struct Bot {
    lab: Lab,
    pipe: Pipe,
    policy: Arc<dyn Policy>,
}

impl Bot {
    fn new(mut lab: Lab, record: &str, more: &str) -> Self {
        lab.graph(&format!(
            "{{graph: g, nodes: {{heal: {{tool: pipe.run, env: production, verify: {{tool: pipe.state, expect: result.ok}}, undo: {{tool: pipe.undo}}, record: {{class: rerun, confidence: 0.9, {record}}}, {more} then: end}}, rescue: {{function: rescue, then: end}}, first: {{emit: 1, then: [{{when: 'false', to: rescue}}, {{to: heal}}]}}}}, start: first}}"
        ));
        lab.node("rescue", |ctx, bench| async move {
            bench.act(ctx.var("error")["message"].as_str().unwrap_or("-"));
            out(json!({}))
        });
        let pipe = Pipe { bench: lab.bench.clone(), holds: Arc::new(true.into()), fails: Arc::default() };
        let mut bot = Self { lab, pipe, policy: Arc::new(AllowAll) };
        bot.rebuild();
        bot
    }

    fn rebuild(&mut self) {
        let builder = self.lab.builder(Arc::clone(&self.lab.store)).policy(Arc::clone(&self.policy));
        self.lab.use_engine(builder.kind("tool", Arc::new(ToolNode::new(Arc::new(self.pipe.clone())))).build());
    }

    fn under(mut self, policy: Arc<dyn Policy>) -> Self {
        self.policy = policy;
        self.rebuild();
        self
    }

    /// The process is gone; another one goes on over `store`.
    fn restart_over(&mut self, store: Arc<dyn Store>) {
        self.lab.restart_over(store);
        self.rebuild();
    }

    fn proves(&self, holds: bool) {
        self.pipe.holds.store(holds, Ordering::SeqCst);
    }

    async fn on(&mut self, thread: &str) -> Outcome {
        self.lab.thread = ThreadId::new(thread).unwrap();
        let outcome = self.lab.start(json!({})).await;
        self.lab.at_rest().await;
        outcome
    }

    async fn answers(&mut self, value: Value) -> Outcome {
        let outcome = self.lab.answer_all(value).await;
        self.lab.at_rest().await;
        outcome
    }

    async fn record(&self) -> TrackRecord {
        let all = track_records(&*self.lab.store).await.unwrap();
        all.into_iter().find(|(class, _)| class == "rerun").map(|(_, record)| record).unwrap_or_default()
    }

    async fn counts(&self) -> (u32, u32) {
        let record = self.record().await;
        (record.healed, record.failed)
    }

    fn acts(&self) -> Vec<String> {
        self.lab.bench.acts()
    }

    /// Actions about records in a thread's audit.
    async fn audited(&self, thread: &str) -> Vec<String> {
        let thread = ThreadId::new(thread).unwrap();
        let mut found = Vec::new();
        for (_, record) in self.lab.store.records(&thread, Seq(1), 1000).await.unwrap() {
            for op in record.ops {
                match op {
                    Op::Audited(entry) if entry.action.contains("class") || entry.action.contains("outcome") => {
                        found.push(format!("{} {}", entry.actor, entry.action));
                    }
                    _ => {}
                }
            }
        }
        found
    }
}

const DECLARED: &str = "at_least: 0.80, prior: {healed: 60, failed: 0}";
const NONE: &str = "at_least: 0.80";

#[test]
fn a_class_with_a_good_record_heals_alone_and_is_counted() {
    on_every_store(|lab| async move {
        let mut bot = Bot::new(lab, DECLARED, "");
        assert_eq!(bot.on("a").await, Outcome::Success);
        assert_eq!((bot.counts().await, bot.acts()), ((1, 0), vec!["pipe.run".to_owned()]));
        let record = bot.record().await;
        let counted = &record.last[0];
        assert_eq!((counted.thread.as_str(), &*counted.graph, counted.confidence), ("a", "g", Some(0.9)));
        assert!(counted.id.starts_with("a:") && record.prior.healed == 60);
        assert!(bot.lab.state().await.heals.is_empty(), "the thread owes the record nothing");
    });
}

#[test]
fn a_class_without_a_record_asks_until_it_has_healed_sixteen_times() {
    on_every_store(|lab| async move {
        let mut bot = Bot::new(lab, "at_least: 0.80, approvers: [user:ana], expires: 30m", "");
        for n in 0..16 {
            assert_eq!(bot.on(&format!("t{n}")).await, Outcome::Interrupted, "{n}");
            let question = bot.lab.open().await.remove(0);
            assert_eq!((question.kind, &question.payload["rule"]), (InterruptKind::Guard, &json!("track-record")));
            assert!(question.approvers == ["user:ana"] && question.expires_at.is_some(), "{question:?}");
            if n == 0 {
                assert_eq!(question.body, "track record of `rerun`: it has no record yet, and 0.80 is needed");
                assert!(bot.acts().is_empty(), "nothing was done meanwhile");
            }
            if n == 8 {
                let store = Arc::clone(&bot.lab.store);
                bot.restart_over(store);
            }
            assert_eq!(bot.answers(json!("approve")).await, Outcome::Success, "{n}");
        }
        assert_eq!(bot.counts().await, (16, 0), "a restart kept what was counted");
        assert_eq!(bot.on("alone").await, Outcome::Success, "now it may");
    });
}

#[test]
fn two_failed_heals_in_a_row_stop_a_class_until_a_person_lets_it_go_on() {
    on_every_store(|lab| async move {
        let mut bot = Bot::new(lab, DECLARED, "");
        bot.proves(false);
        for thread in ["a", "b"] {
            assert!(failure(&bot.on(thread).await).contains("it was undone by `pipe.undo`"));
        }
        assert_eq!(bot.counts().await, (0, 2));
        bot.proves(true);
        let store = Arc::clone(&bot.lab.store);
        bot.restart_over(store);
        assert_eq!(bot.on("c").await, Outcome::Interrupted, "another process finds it stopped");
        let question = bot.lab.open().await.remove(0);
        assert_eq!((question.kind, &question.payload["class"]), (InterruptKind::Breaker, &json!("rerun")));
        assert!(question.body.starts_with("class `rerun` is stopped: its last 2 acts did not heal."));
        assert_eq!(bot.acts().len(), 4, "no act was made meanwhile: {:?}", bot.acts());

        let engine = bot.lab.engine();
        assert_eq!(engine.reset_class("other", "ana").await.unwrap(), None);
        assert_eq!(engine.reset_class("rerun", "ana").await.unwrap().map(|before| before.failed), Some(2));
        assert_eq!(bot.on("d").await, Outcome::Success, "60 of 62 still vouch for it");
        assert_eq!(bot.counts().await, (1, 2));
        assert_eq!(
            bot.audited("b").await,
            ["runtime outcome.counted", "runtime class.stopped", "user:ana class.reset"]
        );
    });
}

#[test]
fn who_is_asked_about_a_stopped_class_resets_it_tries_once_or_gives_up() {
    on_every_store(|lab| async move {
        let mut bot = Bot::new(lab, DECLARED, "");
        bot.proves(false);
        for thread in ["a", "b"] {
            bot.on(thread).await;
        }
        for thread in ["c", "d", "e"] {
            assert_eq!(bot.on(thread).await, Outcome::Interrupted);
        }
        bot.proves(true);
        let on = |bot: &mut Bot, thread: &str| bot.lab.thread = ThreadId::new(thread).unwrap();
        on(&mut bot, "c");
        assert!(failure(&bot.answers(json!("reject")).await).contains("answered `reject`"));
        assert_eq!(bot.counts().await, (0, 2), "a refusal says nothing about the remedy");
        on(&mut bot, "d");
        assert_eq!(bot.answers(json!("approve")).await, Outcome::Interrupted, "the act itself is asked about too");
        assert_eq!(bot.lab.open().await[0].kind, InterruptKind::Guard);
        assert_eq!(bot.answers(json!("approve")).await, Outcome::Success);
        assert_eq!(bot.counts().await, (1, 2));

        bot.proves(false);
        for thread in ["f", "g"] {
            bot.on(thread).await;
        }
        bot.proves(true);
        on(&mut bot, "e");
        assert_eq!(bot.answers(json!("reset")).await, Outcome::Success, "61 of 65 still vouch for it");
        assert!(!bot.record().await.is_stopped());
    });
}

#[test]
fn a_declared_handler_is_the_way_out_of_a_stopped_class() {
    on_every_store(|lab| async move {
        let mut bot = Bot::new(lab, DECLARED, "on_error: rescue,");
        bot.proves(false);
        for thread in ["a", "b", "c"] {
            assert_eq!(bot.on(thread).await, Outcome::Success);
        }
        let acts = bot.acts();
        let last =
            "class `rerun` is stopped: its last 2 acts did not heal; `interlock outcomes reset rerun` lets it go on";
        assert_eq!((bot.counts().await, acts.last().map(String::as_str)), ((0, 2), Some(last)), "{acts:?}");
    });
}

#[test]
fn an_act_counts_once_over_its_retries_and_only_when_it_was_made_as_planned() {
    on_every_store(|lab| async move {
        let retry = "retry: {attempts: 3, initial: 1s, on: [transient]},";
        let mut bot = Bot::new(lab, DECLARED, retry);
        bot.lab.clock.run_by_itself();
        bot.pipe.fails.store(2, Ordering::SeqCst);
        assert_eq!(bot.on("a").await, Outcome::Success);
        assert_eq!((bot.counts().await, bot.acts().len()), ((1, 0), 3), "three tries are one heal");
        bot.pipe.fails.store(3, Ordering::SeqCst);
        assert!(matches!(bot.on("b").await, Outcome::Failed(_)));
        assert_eq!(bot.counts().await, (1, 1), "three tries that failed are one failure");
        assert_eq!(bot.lab.resume().await, Outcome::Success, "a person has it run again");
        bot.lab.at_rest().await;
        assert_eq!(bot.counts().await, (1, 1), "it is the same act: it needed a person");

        let mut asked = Bot { policy: Arc::new(DefaultPolicy::default()), ..bot };
        asked.rebuild();
        assert_eq!(asked.on("c").await, Outcome::Interrupted);
        let edit = json!({ "choice": "edit", "args": { "all": true } });
        assert_eq!(asked.answers(edit).await, Outcome::Success);
        assert_eq!(asked.counts().await, (1, 1), "what a person rewrote is not what the class does");
    });
}

#[test]
fn who_is_asked_anyway_is_asked_once_and_told_the_record() {
    on_every_store(|lab| async move {
        let mut bot = Bot::new(lab, NONE, "").under(Arc::new(DefaultPolicy::default()));
        assert_eq!(bot.on("a").await, Outcome::Interrupted);
        let open = bot.lab.open().await;
        assert_eq!((open.len(), open[0].kind), (1, InterruptKind::Guard));
        assert_ne!(open[0].payload["rule"], json!("track-record"), "policy's own rule asks");
        assert!(open[0].body.ends_with("\ntrack record of `rerun`: it has no record yet, and 0.80 is needed"));
        assert_eq!(bot.answers(json!("approve")).await, Outcome::Success, "one answer is enough");
        assert_eq!(bot.counts().await, (1, 0));
    });
}

#[test]
fn a_record_never_gives_what_policy_refuses() {
    struct Never;
    impl Policy for Never {
        fn decide(
            &self,
            call: &runtime_core::interlocks::guard::CallFacts<'_>,
        ) -> runtime_core::interlocks::guard::Decision {
            match call.effect {
                EffectClass::ReadOnly => AllowAll.decide(call),
                _ => runtime_core::interlocks::guard::Decision::Deny { rule: "never".into(), reason: "no".into() },
            }
        }
    }
    on_every_store(|lab| async move {
        let mut bot = Bot::new(lab, DECLARED, "").under(Arc::new(Never));
        assert!(matches!(bot.on("a").await, Outcome::Failed(_)));
        assert_eq!((bot.acts().len(), bot.counts().await), (0, (0, 0)));
    });
}

#[test]
fn a_person_corrects_an_outcome_and_the_audit_says_who() {
    on_every_store(|lab| async move {
        let mut bot = Bot::new(lab, DECLARED, "");
        for thread in ["a", "b"] {
            assert_eq!(bot.on(thread).await, Outcome::Success);
        }
        let engine = bot.lab.engine();
        let unknown = engine.mark_outcome("nowhere", ("rerun", false), "ana").await.unwrap();
        assert_eq!(unknown, Marked::Unknown);
        for thread in ["a", "b"] {
            assert_eq!(engine.mark_outcome(thread, ("rerun", false), "ana").await.unwrap(), Marked::Changed);
        }
        assert_eq!(engine.mark_outcome("b", ("rerun", false), "ana").await.unwrap(), Marked::Already);
        bot.lab.at_rest().await;
        assert_eq!((bot.counts().await, bot.record().await.is_stopped()), ((0, 2), true));
        assert_eq!(bot.on("c").await, Outcome::Interrupted, "two that were wrong stop it as well");
        assert_eq!(bot.audited("b").await, ["runtime outcome.counted", "user:ana outcome.marked"]);
    });
}

#[test]
fn a_crash_at_any_commit_counts_an_act_once() {
    let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (mut n_deaths, mut n_told_twice) = (0, 0);
    for holds in [true, false] {
        for at in 1..40 {
            for death in [Death::Before(at), Death::After(at)] {
                let disk = Disk::default();
                let mut bot = Bot::new(Lab::over(Arc::new(StrictStore::dying(&disk, death))), DECLARED, "");
                bot.proves(holds);
                let died = runtime().block_on(async {
                    bot.lab.load_graphs().await;
                    let ended = bot.lab.try_start(json!({}), Default::default()).await;
                    if ended.is_ok() {
                        bot.lab.at_rest().await;
                    }
                    bot.lab.store.load(&bot.lab.thread).await.is_err()
                });
                if !died {
                    continue;
                }
                n_deaths += 1;
                bot.restart_over(Arc::new(StrictStore::on(&disk)));
                let (counts, acted) = runtime().block_on(async {
                    let before = bot.counts().await;
                    let known = bot.lab.store.load(&bot.lab.thread).await.unwrap();
                    let owed = known.is_some_and(|known| !known.state.heals.is_empty());
                    n_told_twice += usize::from(owed && before != (0, 0));
                    bot.lab.load_graphs().await;
                    let engine = bot.lab.engine();
                    engine.recover().await.unwrap();
                    engine.fire_timers().await.unwrap();
                    bot.lab.at_rest().await;
                    (bot.counts().await, !bot.acts().is_empty())
                });
                let once = if holds { (1, 0) } else { (0, 1) };
                let expected = if acted { once } else { (0, 0) };
                assert_eq!(counts, expected, "{death:?}, check {holds}, acts {:?}", bot.acts());
            }
        }
    }
    assert!(n_deaths >= 12, "only {n_deaths} deaths");
    assert!(n_told_twice >= 1, "no death between the record and the thread's note of it: the id was never needed");
}

#[test]
fn records_have_teeth_a_store_that_forgets_never_stops_a_class() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let store = StrictStore::lying(&Disk::default(), Lie::ForgetsDocuments);
        let mut bot = Bot::new(Lab::over(Arc::new(store)), DECLARED, "");
        bot.proves(false);
        for thread in ["a", "b", "c"] {
            assert!(matches!(bot.on(thread).await, Outcome::Failed(_)), "a store that forgets was not found out");
        }
        assert_eq!((bot.acts().len(), bot.counts().await), (6, (0, 0)));
    });
}
