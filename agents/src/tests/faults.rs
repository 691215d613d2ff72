//! Each fault end to end: the real engine, the real warehouse, the graphs that ship, and a verdict from outside.

use std::sync::Arc;

use expect_test::{Expect, expect};
use runtime_core::record::{Interrupt, Outcome};
use serde_json::{Value, json};
use tools::servers::sandbox::{Environment, Fault, Sandbox, Settlement};

use async_trait::async_trait;
use graphs::EffectClass;
use runtime_core::error::{ErrorClass, TaskError};
use tools::toolbox::{ToolBox, ToolBrief, ToolRequest};

use super::world::{Person, SandboxTools, World, agreeable, library};

/// What a call gets in place of the warehouse's answer, if anything.
type Instead = fn(&ToolRequest) -> Option<Result<Value, TaskError>>;

/// Something that goes wrong between the agents and the warehouse.
struct Between {
    inner: SandboxTools,
    instead: Instead,
}

#[async_trait]
impl ToolBox for Between {
    async fn call(&self, request: ToolRequest) -> Result<Value, TaskError> {
        match (self.instead)(&request) {
            Some(answer) => answer,
            None => self.inner.call(request).await,
        }
    }

    async fn effect(&self, target: &str) -> Result<EffectClass, TaskError> {
        self.inner.effect(target).await
    }

    async fn list(&self, patterns: &[String]) -> Result<Vec<ToolBrief>, TaskError> {
        self.inner.list(patterns).await
    }
}

/// What came of one round.
struct Round {
    sandbox: Arc<Sandbox>,
    world: World,
    outcomes: Value,
    _dir: tempfile::TempDir,
}

async fn round(fault: Fault, person: Person) -> Round {
    round_with(fault, person, |_| None).await
}

/// A round in which some calls never reach the warehouse.
async fn round_with(fault: Fault, person: Person, instead: Instead) -> Round {
    let dir = tempfile::tempdir().unwrap();
    let sandbox = Arc::new(Sandbox::open(dir.path()).unwrap());
    sandbox.inject(fault, None).unwrap();
    let mut world = World::new(Arc::new(Between { inner: SandboxTools(Arc::clone(&sandbox)), instead }));
    world.engine.add_graph(Arc::new(library("etl-incident"))).await.unwrap();
    let outcome = world.run(library("etl-reliability"), json!({}), person).await;
    assert_eq!(outcome, Outcome::Success);
    let outcomes = world.channel("outcomes").await;
    Round { sandbox, world, outcomes, _dir: dir }
}

impl Round {
    /// What was done, from the warehouse's own books.
    fn effects(&self) -> Vec<String> {
        let of = |environment| self.sandbox.effects(environment).unwrap().into_iter();
        let all = of(Environment::Staging).chain(of(Environment::Production));
        all.map(|effect| format!("{} {} {}", effect.environment, effect.tool, effect.outcome)).collect()
    }

    fn shown(&self) -> String {
        let mut lines = Vec::new();
        for outcome in self.outcomes.as_array().into_iter().flatten() {
            let part = |name: &str| outcome[name].as_str().map_or_else(|| outcome[name].to_string(), str::to_owned);
            lines.push(format!(
                "found {}: {} ({}, {})",
                part("kind"),
                part("cause"),
                part("class"),
                part("confidence")
            ));
            lines.push(format!("did {} → {}", part("action"), part("status")));
        }
        lines.extend(self.world.questions.iter().map(|question| format!("asked {question}")));
        lines.extend(self.effects().into_iter().map(|effect| format!("effect {effect}")));
        lines.extend(self.world.told().into_iter().map(|told| format!("told {told}")));
        lines.join("\n")
    }

    /// Everything people were told, for the judge of the diagnosis.
    fn said(&self) -> String {
        self.world.notices.notices().iter().map(|notice| notice.text.to_lowercase()).collect()
    }
}

/// Breaks the warehouse, runs one round, and compares what happened with the truth about the fault.
async fn check_fault(fault: Fault, settled: Settlement, expected: Expect) {
    let round = round(fault, agreeable).await;
    expected.assert_eq(&round.shown());
    let truth = round.sandbox.ground_truth(fault).unwrap();
    let outcome = &round.outcomes[0];
    assert_eq!(outcome["class"], serde_json::to_value(truth.class).unwrap());
    let said = round.said();
    for any in &truth.diagnosis_mentions {
        assert!(any.iter().any(|word| said.contains(&word.to_lowercase())), "{any:?} in {said}");
    }
    let asked = round.world.questions.iter().any(|question| question.starts_with("Guard"));
    assert_eq!(asked, truth.must_ask_human && !truth.must_page, "a person is asked exactly where the truth says so");
    let paged = round.world.told().iter().any(|told| told.starts_with("Page"));
    assert_eq!(paged, truth.must_page, "a person is paged exactly where the truth says so");
    let verdict = round.sandbox.verify(fault).unwrap();
    assert_eq!(verdict.outcome, settled, "{:#?}", verdict.details);
}

#[tokio::test]
async fn a_timeout_is_waited_out_without_a_person() {
    check_fault(
        Fault::UpstreamTimeout,
        Settlement::Healed,
        expect![[r#"
        found run_failed: the upstream feed timed out (transient, 0.91)
        did rerun-from-extract → healed
        effect production rerun_pipeline run_failed
        effect production rerun_pipeline done
        told Summary: inc-b2d7f5f0bb1b · flights_daily 2013-01-23: the upstream feed timed out (healed)
        told Summary: 1 incident(s) handled"#]],
    )
    .await;
}

#[tokio::test]
async fn a_missing_part_is_asked_for_and_loaded() {
    check_fault(Fault::RowCountDrop, Settlement::Healed, expect![[r#"
        found volume_drop: the upstream delivered only a part of the day (upstream, 0.93)
        did request-redelivery → healed
        asked Guard in `change`: warehouse.request_redelivery in production → {"choice":"approve"}
        effect staging request_redelivery done
        effect staging rerun_pipeline done
        effect production request_redelivery done
        effect production rerun_pipeline done
        told Summary: inc-54966e76b3f6 · flights_daily 2013-01-23: the upstream delivered only a part of the day (healed)
        told Summary: 1 incident(s) handled"#]]).await;
}

#[tokio::test]
async fn exactly_the_rows_with_nulls_are_held_back() {
    check_fault(
        Fault::NullBurst,
        Settlement::Healed,
        expect![[r#"
        found run_failed: rows without carrier in the delivery (data_quality, 0.91)
        did quarantine-nulls → healed
        asked Guard in `change`: warehouse.quarantine in production → {"choice":"approve"}
        effect staging quarantine done
        effect staging rerun_pipeline done
        effect production quarantine done
        effect production rerun_pipeline done
        told Summary: inc-ebe236142e9e · flights_daily 2013-01-23: rows without carrier in the delivery (healed)
        told Summary: 1 incident(s) handled"#]],
    )
    .await;
}

#[tokio::test]
async fn a_renamed_column_is_mapped() {
    check_fault(
        Fault::ColumnRenamed,
        Settlement::Healed,
        expect![[r#"
        found run_failed: the upstream renamed dep_delay (schema_drift, 0.93)
        did map-renamed-column → healed
        asked Guard in `change`: warehouse.apply_migration in production → {"choice":"approve"}
        effect staging apply_migration done
        effect staging rerun_pipeline done
        effect production apply_migration done
        effect production rerun_pipeline done
        told Summary: inc-a17bea53121f · flights_daily 2013-01-23: the upstream renamed dep_delay (healed)
        told Summary: 1 incident(s) handled"#]],
    )
    .await;
}

#[tokio::test]
async fn exactly_the_lost_privilege_is_granted() {
    check_fault(
        Fault::PermissionRevoked,
        Settlement::Healed,
        expect![[r#"
        found run_failed: etl_writer lost INSERT on fact_daily_carrier (configuration, 0.94)
        did grant-declared-privilege → healed
        asked Guard in `change`: warehouse.grant_privilege in production → {"choice":"approve"}
        effect staging grant_privilege done
        effect staging rerun_pipeline done
        effect production grant_privilege done
        effect production rerun_pipeline done
        told Summary: inc-42dd60bac3b5 · flights_daily 2013-01-23: etl_writer lost INSERT on fact_daily_carrier (healed)
        told Summary: 1 incident(s) handled"#]],
    )
    .await;
}

#[tokio::test]
async fn what_nobody_knows_is_paged_and_left_alone() {
    check_fault(Fault::UnknownError, Settlement::Contained, expect![[r#"
        found run_failed: unknown cause (unknown, 0.2)
        did page → handed_over
        asked Approval in `ask_on_call`: inc-d87035c21a9d flights_daily 2013-01-23: unknown cause → {"choice":"take_over"}
        told Page: inc-d87035c21a9d · flights_daily 2013-01-23: unknown cause (needs a person)
        told Summary: inc-d87035c21a9d · flights_daily 2013-01-23: unknown cause (handed_over)
        told Summary: 1 incident(s) handled"#]]).await;
}

/// The demo: six days, six faults, each found again although the others came before.
#[tokio::test]
async fn six_faults_in_a_row_leave_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let sandbox = Arc::new(Sandbox::open(dir.path()).unwrap());
    for fault in Fault::ALL {
        sandbox.inject(fault, None).unwrap();
        let mut world = World::new(Arc::new(SandboxTools(Arc::clone(&sandbox)))).on(&format!("{fault:?}"));
        world.engine.add_graph(Arc::new(library("etl-incident"))).await.unwrap();
        assert_eq!(world.run(library("etl-reliability"), json!({}), agreeable).await, Outcome::Success);
        let outcomes = world.channel("outcomes").await;
        assert_eq!(outcomes.as_array().unwrap().len(), 1, "{fault:?}: {outcomes:#}");
        let settled = if fault == Fault::UnknownError { Settlement::Contained } else { Settlement::Healed };
        assert_eq!(sandbox.verify(fault).unwrap().outcome, settled, "{fault:?}: {outcomes:#} {:#?}", world.told());
    }
}

/// Nine ordinary days, storms and a weekend among them: no false alarm.
#[tokio::test]
async fn ordinary_days_raise_no_alarm() {
    let dir = tempfile::tempdir().unwrap();
    let sandbox = Arc::new(Sandbox::open(dir.path()).unwrap());
    for day in 23..=31 {
        sandbox.call("advance", json!({})).unwrap();
        let mut world = World::new(Arc::new(SandboxTools(Arc::clone(&sandbox))));
        world.engine.add_graph(Arc::new(library("etl-incident"))).await.unwrap();
        assert_eq!(world.run(library("etl-reliability"), json!({}), agreeable).await, Outcome::Success);
        assert_eq!(world.channel("incidents").await, json!([]), "2013-01-{day}");
        assert!(world.told().is_empty());
    }
}

/// The first look is blind on one eye: likely, but not sure enough to act. The second look settles it.
#[tokio::test]
async fn a_second_opinion_settles_what_the_first_could_not() {
    static ASKED: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let blind: Instead = |request| {
        let first = request.target == "warehouse.check_upstream"
            && ASKED.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0;
        first.then(|| Err(TaskError::new(ErrorClass::Timeout, "no answer")))
    };
    let round = round_with(Fault::UpstreamTimeout, agreeable, blind).await;
    expect![[r#"
        found run_failed: the upstream feed timed out (transient, 0.91)
        did rerun-from-extract → healed
        effect production rerun_pipeline run_failed
        effect production rerun_pipeline done
        told Summary: inc-b2d7f5f0bb1b · flights_daily 2013-01-23: the upstream feed timed out (healed)
        told Summary: 1 incident(s) handled"#]]
    .assert_eq(&round.shown());
    assert_eq!(round.sandbox.verify(Fault::UpstreamTimeout).unwrap().outcome, Settlement::Healed);
    assert!(ASKED.load(std::sync::atomic::Ordering::SeqCst) >= 2);
}

/// A change that does not make the day right is taken back, exactly, and a person is paged.
#[tokio::test]
async fn a_change_that_does_not_help_is_taken_back() {
    let never_right: Instead = |request| {
        let sql = request.args["sql"].as_str().unwrap_or_default();
        let proof = request.args["environment"] == "production" && sql.contains("fact_daily_route");
        proof.then(|| Ok(json!({ "rows": [{ "ok": 0 }] })))
    };
    let round = round_with(Fault::NullBurst, agreeable, never_right).await;
    expect![[r#"
        found run_failed: rows without carrier in the delivery (data_quality, 0.91)
        did quarantine-nulls → handed_over
        asked Guard in `change`: warehouse.quarantine in production → {"choice":"approve"}
        asked Approval in `ask_on_call`: inc-ebe236142e9e flights_daily 2013-01-23: rows without carrier in the delivery → {"choice":"take_over"}
        effect staging quarantine done
        effect staging rerun_pipeline done
        effect production quarantine done
        effect production rerun_pipeline done
        effect production release_quarantine done
        told Page: inc-ebe236142e9e · flights_daily 2013-01-23: rows without carrier in the delivery (taken_back)
        told Summary: inc-ebe236142e9e · flights_daily 2013-01-23: rows without carrier in the delivery (handed_over)
        told Summary: 1 incident(s) handled"#]].assert_eq(&round.shown());
    let sql = "SELECT count(*) AS n FROM ops_quarantine WHERE released_at IS NULL";
    assert_eq!(round.sandbox.call("query", json!({ "sql": sql })).unwrap()["rows"][0]["n"], 0);
    assert!(round.said().contains("does not hold"));
}

/// What was handed to a person is not found again by the next round.
#[tokio::test]
async fn a_known_incident_is_left_to_the_person_who_has_it() {
    let mut round = round(Fault::UnknownError, agreeable).await;
    let known = round.world.channel("known").await;
    assert_eq!(known.as_array().map(Vec::len), Some(1));
    round.world = round.world.on("next");
    let told = round.world.told().len();
    assert_eq!(
        round.world.run(library("etl-reliability"), json!({ "known": known }), agreeable).await,
        Outcome::Success
    );
    assert_eq!(round.world.channel("incidents").await, json!([]));
    assert_eq!(round.world.told().len(), told);
}

/// A person who will not have the remedy can still warn the readers of wrong numbers.
#[tokio::test]
async fn a_day_that_stays_wrong_can_be_held_back() {
    fn holds(question: &Interrupt) -> Value {
        let choice = if question.choices.iter().any(|choice| choice == "hold") { "hold" } else { "reject" };
        json!({ "choice": choice })
    }
    let round = round(Fault::RowCountDrop, holds).await;
    expect![[r#"
        found volume_drop: the upstream delivered only a part of the day (upstream, 0.93)
        did request-redelivery → held
        asked Guard in `change`: warehouse.request_redelivery in production → {"choice":"reject"}
        asked Approval in `ask_on_call`: inc-54966e76b3f6 flights_daily 2013-01-23: the upstream delivered only a part of the day → {"choice":"hold"}
        effect staging request_redelivery done
        effect staging rerun_pipeline done
        effect production hold_partition done
        effect production hold_partition done
        told Page: inc-54966e76b3f6 · flights_daily 2013-01-23: the upstream delivered only a part of the day (declined)
        told Summary: inc-54966e76b3f6 · flights_daily 2013-01-23: the upstream delivered only a part of the day (held)
        told Summary: 1 incident(s) handled"#]].assert_eq(&round.shown());
    let verdict = round.sandbox.verify(Fault::RowCountDrop).unwrap();
    assert_eq!(verdict.outcome, Settlement::Contained, "{:#?}", verdict.details);
}

/// The process dies while a person is asked. The next one knows the question, and repeats nothing that was done.
#[tokio::test]
async fn a_restart_while_a_person_is_asked_repeats_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let sandbox = Arc::new(Sandbox::open(dir.path()).unwrap());
    sandbox.inject(Fault::NullBurst, None).unwrap();
    let tools = || Arc::new(SandboxTools(Arc::clone(&sandbox)));
    let mut world = World::new(tools());
    world.engine.add_graph(Arc::new(library("etl-incident"))).await.unwrap();
    let outcome = world.run_with(library("etl-reliability"), json!({}), |_| None).await;
    assert_eq!(outcome, Outcome::Interrupted);
    let before = sandbox.effects(Environment::Staging).unwrap().len();
    assert_eq!((before, sandbox.effects(Environment::Production).unwrap().len()), (2, 0));

    let mut world = world.restarted(tools());
    for name in ["etl-incident", "etl-reliability"] {
        world.engine.add_graph(Arc::new(library(name))).await.unwrap();
    }
    assert_eq!(world.go_on(agreeable).await, Outcome::Success);
    assert_eq!(sandbox.effects(Environment::Staging).unwrap().len(), before);
    assert_eq!(sandbox.effects(Environment::Production).unwrap().len(), 2);
    assert_eq!(sandbox.verify(Fault::NullBurst).unwrap().outcome, Settlement::Healed);
}

/// A no is final: nothing is changed in production, and the person who is paged reads who said it.
#[tokio::test]
async fn a_rejected_change_is_not_made() {
    fn rejects(question: &Interrupt) -> Value {
        match question.choices.iter().any(|choice| choice == "reject") {
            true => json!({ "choice": "reject", "reason": "not on a Wednesday" }),
            false => json!({ "choice": "dismiss" }),
        }
    }
    let round = round(Fault::PermissionRevoked, rejects).await;
    expect![[r#"
        found run_failed: etl_writer lost INSERT on fact_daily_carrier (configuration, 0.94)
        did grant-declared-privilege → dismissed
        asked Guard in `change`: warehouse.grant_privilege in production → {"choice":"reject","reason":"not on a Wednesday"}
        asked Approval in `ask_on_call`: inc-42dd60bac3b5 flights_daily 2013-01-23: etl_writer lost INSERT on fact_daily_carrier → {"choice":"dismiss"}
        effect staging grant_privilege done
        effect staging rerun_pipeline done
        told Page: inc-42dd60bac3b5 · flights_daily 2013-01-23: etl_writer lost INSERT on fact_daily_carrier (declined)
        told Summary: inc-42dd60bac3b5 · flights_daily 2013-01-23: etl_writer lost INSERT on fact_daily_carrier (dismissed)
        told Summary: 1 incident(s) handled"#]].assert_eq(&round.shown());
    assert!(round.sandbox.effects(Environment::Production).unwrap().is_empty());
    assert!(round.said().contains("not on a wednesday"));
}
