//! Each fault end to end: the real engine, the real warehouse, the graphs that ship, and a verdict from outside.

use std::sync::Arc;

use expect_test::{Expect, expect};
use runtime_core::record::{Interrupt, Outcome};
use serde_json::{Value, json};
use tools::servers::sandbox::{Environment, Fault, Sandbox, Settlement};

use super::world::{Person, SandboxTools, World, agreeable, library};

/// What came of one round.
struct Round {
    sandbox: Arc<Sandbox>,
    world: World,
    outcomes: Value,
    _dir: tempfile::TempDir,
}

async fn round(fault: Option<Fault>, person: Person) -> Round {
    let dir = tempfile::tempdir().unwrap();
    let sandbox = Arc::new(Sandbox::open(dir.path()).unwrap());
    if let Some(fault) = fault {
        sandbox.inject(fault, None).unwrap();
    }
    let mut world = World::new(Arc::new(SandboxTools(Arc::clone(&sandbox))));
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
    let round = round(Some(fault), agreeable).await;
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

/// A no is final: nothing is changed in production, and the person who is paged reads who said it.
#[tokio::test]
async fn a_rejected_change_is_not_made() {
    fn rejects(question: &Interrupt) -> Value {
        match question.choices.iter().any(|choice| choice == "reject") {
            true => json!({ "choice": "reject", "reason": "not on a Wednesday" }),
            false => json!({ "choice": "dismiss" }),
        }
    }
    let round = round(Some(Fault::PermissionRevoked), rejects).await;
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
