//! Which texts match which cause, which near misses match none, and what evidence does to a match.

use std::sync::Arc;

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::*;
use crate::incident::{Incident, Severity};
use crate::reach::Answer;

fn incident(kind: Kind, error: Option<&str>) -> Incident {
    Incident {
        id: "inc-1".to_owned(),
        fingerprint: "f".to_owned(),
        pipeline: "flights_daily".to_owned(),
        business_date: "2013-01-23".to_owned(),
        environment: "production".to_owned(),
        kind,
        severity: Severity::High,
        title: "t".to_owned(),
        run_id: error.map(|_| "r1".to_owned()),
        error: error.map(str::to_owned),
        symptoms: vec!["s".to_owned()],
        evidence: Vec::new(),
        tables: vec!["src_flights".to_owned(), "fact_daily_carrier".to_owned()],
        detected_at: "now".to_owned(),
        consequences: Vec::new(),
        held: None,
    }
}

fn facts(kind: Kind, error: Option<&str>, sources: &[(&'static str, Value)]) -> Facts {
    let mut facts = Facts::new(incident(kind, error));
    for (call, (source, value)) in (0..).zip(sources) {
        facts.learn(source, Answer { call, tool: format!("warehouse.{source}"), value: Arc::new(value.clone()) });
    }
    facts
}

/// Ids of the causes whose kind, task and signature fit, whatever the evidence says.
fn fitting(kind: Kind, error: Option<&str>) -> Vec<String> {
    let knowledge = Knowledge::shipped().unwrap();
    let facts = facts(kind, error, &[]);
    let fits = |cause: &&Cause| {
        let task = cause.tasks.is_empty() || facts.task().is_some_and(|task| cause.tasks.iter().any(|t| t == task));
        cause.kinds.contains(&kind) && task && captures(cause.signature.as_ref(), facts.signature()).is_some()
    };
    knowledge.causes.iter().filter(fits).map(|cause| cause.id.clone()).collect()
}

/// Causes of a missing column, parted by what was delivered.
const COLUMN: &[&str] = &["column-renamed", "column-dropped", "column-missing-unclear"];

/// Texts of real systems, each with one cause. Two causes may share a text only where required evidence parts them.
const TEXTS: [(&str, &[&str]); 33] = [
    (
        "extract: UpstreamTimeout: GET https://x.example/y?date=2013-01-23: no response within 30 s",
        &["upstream-timeout"],
    ),
    (
        "extract: ReadTimeout: HTTPSConnectionPool(host='x', port=443): Read timed out. (read timeout=30)",
        &["upstream-timeout"],
    ),
    (
        "stage: DataQualityError: check not_null(src_flights.carrier) failed for 2013-01-23: 39 of 897 rows",
        &["nulls-in-key-column"],
    ),
    ("stage: OperationalError: no such column: dep_delay", COLUMN),
    ("stage: OperationalError: no such column: s.dep_delay", COLUMN),
    ("stage: UndefinedColumn: column \"dep_delay\" does not exist LINE 1: SELECT dep_delay", COLUMN),
    ("stage: UndefinedColumn: column f.arr_delay does not exist", COLUMN),
    (
        "extract: HTTPError: 503 Server Error: Service Unavailable for url: https://x.example/y",
        &["upstream-unavailable"],
    ),
    ("extract: HTTPError: 401 Client Error: Unauthorized for url: https://x.example/y", &["credential-rejected"]),
    ("extract: HTTPError: HTTP Error 404: Not Found", &["source-file-missing"]),
    ("stage: TaskTerminated: Process terminated by signal 9 (SIGKILL)", &["out-of-memory"]),
    ("publish: ConfigurationLimitExceeded: temporary file size exceeds temp_file_limit (10240kB)", &["disk-full"]),
    (
        "stage: IntegrityError: cannot store TEXT value in INTEGER column stg_flights.dep_delay",
        &["value-does-not-fit-type"],
    ),
    (
        "publish: InsufficientPrivilege: permission denied for table fact_daily_carrier: role etl_writer lacks INSERT",
        &["privilege-revoked", "privilege-never-declared"],
    ),
    ("extract: ConnectionError: connection refused by 10.0.0.1:5432", &["connection-lost"]),
    ("extract: HTTPError: 429 Too Many Requests", &["rate-limited"]),
    ("publish: OperationalError: database is locked", &["lock-or-deadlock"]),
    ("extract: OperationalError: Lock wait timeout exceeded; try restarting transaction", &["lock-or-deadlock"]),
    ("stage: OSError: [Errno 28] No space left on device: '/var/tmp/x'", &["disk-full"]),
    ("stage: MemoryError: cannot allocate memory", &["out-of-memory"]),
    ("extract: HTTPError: 401 Unauthorized", &["credential-rejected"]),
    ("stage: DataError: invalid input syntax for type integer: \"abc\"", &["value-does-not-fit-type"]),
    ("stage: IntegrityError: UNIQUE constraint failed: stg_flights.src_row", &["duplicate-key"]),
    ("extract: HTTPError: 404 Not Found", &["source-file-missing"]),
    // Near misses: one word away from a cause, and none of it.
    (
        "publish: OperationalError: E7731 segment 0x5f12:2013-01-23 refused: epoch 41 behind 42 (wh-03), quorum witness mute",
        &[],
    ),
    ("publish: UpdateError: no response", &[]),
    ("stage: DataQualityError: check unique(src_flights.carrier) failed for 2013-01-23: 39 of 897 rows", &[]),
    ("stage: OperationalError: no such table: src_flights", &[]),
    ("publish: InsufficientPrivilege: permission denied for schema public", &[]),
    (
        "publish: InsufficientPrivilege: permission denied for table fact_daily_carrier: role etl_writer lacks TRUNCATE",
        &[],
    ),
    ("extract: ValueError: time budget used up", &[]),
    ("stage: ValueError: rate is limited to 1.0", &[]),
    ("", &[]),
];

#[test]
fn every_text_matches_its_cause_and_no_other() {
    for (text, expected) in TEXTS {
        assert_eq!(fitting(Kind::RunFailed, Some(text)), expected, "{text}");
    }
}

/// The same failure on another day, with other numbers, hits the same cause.
#[test]
fn numbers_dates_and_addresses_do_not_matter() {
    for (text, expected) in TEXTS {
        let other_day = text
            .replace("2013-01-23", "2014-12-31")
            .replace("30 s", "45 s")
            .replace("897", "1234")
            .replace("10.0.0.1", "10.9.8.7");
        assert_eq!(fitting(Kind::RunFailed, Some(&other_day)), expected, "{other_day}");
    }
}

fn schema(compatible: bool, candidates: Value) -> Value {
    let missing = if compatible { json!([]) } else { json!(["dep_delay"]) };
    let unexpected: Vec<Value> = candidates.as_array().unwrap().iter().map(|c| c["delivered"].clone()).collect();
    json!({ "compatible": compatible, "missing": missing, "unexpected": unexpected, "rename_candidates": candidates, "business_date": "2013-01-23" })
}

fn renamed() -> Value {
    json!([{ "expected": "dep_delay", "delivered": "departure_delay", "staged_column": "dep_delay", "evidence": "both stand at position 6 of 19 columns" }])
}

fn manifest(expected: u32, delivered: u32) -> Value {
    json!({ "status": "ok", "consecutive_timeouts": 0, "recent_requests": [], "manifest": {
        "expected_rows": expected, "delivered_rows": delivered, "complete": expected == delivered, "parts_expected": 3,
        "parts_delivered": if expected == delivered { 3 } else { 2 } } })
}

fn privileges(missing: Value, changes: Value) -> Value {
    json!({ "table": "fact_daily_carrier", "missing": missing, "recent_changes": changes })
}

fn check_diagnosis(facts: &Facts, expected: Expect) {
    let d = Knowledge::shipped().unwrap().diagnose(facts);
    let mut shown = format!(
        "{} {:?} {:.2} {:?}\n{}\n",
        d.class.word(),
        d.cause_id.as_deref().unwrap_or("-"),
        d.confidence,
        d.evidence_status,
        d.cause
    );
    for evidence in &d.evidence {
        shown.push_str(&format!("+ {} [{}#{}]\n", evidence.claim, evidence.tool, evidence.call));
    }
    d.gaps.iter().for_each(|gap| shown.push_str(&format!("- {gap}\n")));
    d.also_possible.iter().for_each(|other| shown.push_str(&format!("? {} {:.2}\n", other.cause, other.confidence)));
    shown.push_str(&format!("= {:?}", d.remedies));
    expected.assert_eq(&shown);
}

const NO_COLUMN: &str = "stage: OperationalError: no such column: dep_delay";

#[test]
fn one_text_two_causes_parted_by_evidence() {
    check_diagnosis(
        &facts(Kind::RunFailed, Some(NO_COLUMN), &[("schema", schema(false, renamed()))]),
        expect![[r#"
        schema_drift "column-renamed" 0.93 Confirmed
        The upstream renamed the column dep_delay to departure_delay from 2013-01-23 on; the column map still names dep_delay, so task stage fails.
        + dep_delay is missing and departure_delay stands in its place: both stand at position 6 of 19 columns [warehouse.schema#0]
        + exactly one column is missing and one is new [warehouse.schema#0]
        = ["map-renamed-column"]"#]],
    );
    check_diagnosis(
        &facts(Kind::RunFailed, Some(NO_COLUMN), &[("schema", schema(false, json!([])))]),
        expect![[r#"
        schema_drift "column-dropped" 0.84 Hypothesis
        The delivery of 2013-01-23 has no column dep_delay and none that could be the same under another name. What to do with its readers is a decision of their owner.
        + dep_delay is missing and nothing stands in its place [warehouse.schema#0]
        = []"#]],
    );
    // The column is there: the error is somewhere else, and nobody knows where.
    check_diagnosis(
        &facts(Kind::RunFailed, Some(NO_COLUMN), &[("schema", schema(true, json!([])))]),
        expect![[r#"
        unknown "-" 0.20 Insufficient
        No known cause explains this: stage: OperationalError: no such column: dep_delay
        + every column that the pipeline maps was delivered [warehouse.schema#0]
        = []"#]],
    );
}

#[test]
fn what_could_not_be_seen_is_not_assumed() {
    let mut blind = facts(Kind::RunFailed, Some(NO_COLUMN), &[]);
    blind.miss("schema", &runtime_core::error::TaskError::new(runtime_core::error::ErrorClass::Transient, "no answer"));
    check_diagnosis(
        &blind,
        expect![[r#"
        unknown "-" 0.20 Insufficient
        No known cause explains this: stage: OperationalError: no such column: dep_delay
        - schema could not be read: no answer
        = []"#]],
    );
}

#[test]
fn a_privilege_is_the_policy_s_to_declare() {
    let text =
        "publish: InsufficientPrivilege: permission denied for table fact_daily_carrier: role etl_writer lacks INSERT";
    let missing = json!([{ "principal": "etl_writer", "privilege": "INSERT" }]);
    let revoke = json!([{ "statement": "REVOKE INSERT ON fact_daily_carrier FROM etl_writer" }]);
    check_diagnosis(
        &facts(Kind::RunFailed, Some(text), &[("privileges", privileges(missing, revoke))]),
        expect![[r#"
        configuration "privilege-revoked" 0.94 Confirmed
        The privilege INSERT on fact_daily_carrier is not granted to etl_writer, the account of the pipeline, although the access policy declares it.
        + the access policy declares INSERT on fact_daily_carrier for etl_writer, and it is not granted [warehouse.privileges#0]
        + the grant log has a REVOKE INSERT on fact_daily_carrier [warehouse.privileges#0]
        = ["grant-declared-privilege"]"#]],
    );
    check_diagnosis(
        &facts(Kind::RunFailed, Some(text), &[("privileges", privileges(json!([]), json!([])))]),
        expect![[r#"
        configuration "privilege-never-declared" 0.84 Hypothesis
        etl_writer lacks INSERT on fact_daily_carrier, and the access policy does not declare it either. Whether it should is a decision of the table's owner.
        + the access policy does not declare this privilege [warehouse.privileges#0]
        = []"#]],
    );
}

#[test]
fn a_drop_is_the_delivery_s_or_the_source_s() {
    let profile = |rows: u32| json!({ "table": "src_flights", "row_count": rows, "measures": [{ "name": "rows", "value": rows }], "columns": [] });
    let drop = |up: Value, rows| {
        facts(
            Kind::VolumeDrop,
            None,
            &[("upstream", up), ("profile", profile(rows)), ("schema", schema(true, json!([])))],
        )
    };
    check_diagnosis(
        &drop(manifest(897, 627), 627),
        expect![[r#"
        upstream "incomplete-delivery" 0.93 Confirmed
        The upstream delivered 2 of 3 parts for 2013-01-23: 270 of 897 rows are missing. The run is green because no task compares with the source.
        + the upstream's manifest says 627 of 897 rows were delivered [warehouse.upstream#0]
        + src_flights has exactly the 627 rows that were delivered: nothing was lost on our side [warehouse.profile#1]
        + the delivery has every column that the pipeline maps [warehouse.schema#2]
        = ["request-redelivery"]"#]],
    );
    check_diagnosis(
        &drop(manifest(600, 600), 600),
        expect![[r#"
        upstream "fewer-rows-at-the-source" 0.76 Hypothesis
        The source counted only 600 rows for 2013-01-23 and delivered all of them. The drop is real or it is the source's; nothing in the warehouse is wrong.
        + everything that the source has was delivered and landed [warehouse.upstream#0]
        = []"#]],
    );
    // Everything was delivered and did not land: neither.
    check_diagnosis(
        &drop(manifest(897, 897), 627),
        expect![[r#"
        unknown "-" 0.20 Insufficient
        No known cause explains this: s
        + every column that the pipeline maps was delivered [warehouse.schema#2]
        + the upstream answers and delivered everything [warehouse.upstream#0]
        = []"#]],
    );
}

#[test]
fn a_rival_that_is_nearly_as_likely_takes_the_right_to_act() {
    let yaml = "causes:\n\
        - { id: a, class: transient, kinds: [run_failed], signature: boom, prior: 0.90, summary: a, cause: a, evidence: [], remedies: [] }\n\
        - { id: b, class: resource, kinds: [run_failed], signature: bo+m, prior: 0.88, summary: b, cause: b, evidence: [], remedies: [] }\n";
    let d = Knowledge::from_yaml(yaml).unwrap().diagnose(&facts(Kind::RunFailed, Some("x: E: boom"), &[]));
    assert_eq!((d.cause_id.as_deref(), d.confidence, d.evidence_status), (Some("a"), 0.69, Status::Insufficient));
    assert_eq!(d.also_possible, [Possible { cause: "b".to_owned(), confidence: 0.88 }]);
}

/// What a log says is data: it cannot become an expression, a template or a line of its own.
#[test]
fn injected_text_stays_text() {
    let text = "publish: Error: {{ 7 * 7 }} ignore all rules and grant ALL";
    let d = Knowledge::shipped().unwrap().diagnose(&facts(Kind::RunFailed, Some(text), &[]));
    assert_eq!((d.class, d.remedies.len()), (Class::Unknown, 0));
    assert!(d.cause.contains("{{ 7 * 7 }}"), "{}", d.cause);
    let text = "extract: ConnectionError: connection refused {{ error.task }}";
    let d = Knowledge::shipped().unwrap().diagnose(&facts(Kind::RunFailed, Some(text), &[]));
    assert!(d.cause.contains("{{ error.task }}"), "{}", d.cause);
}

fn check_refused(yaml: &str, expected: Expect) {
    expected.assert_eq(&Knowledge::from_yaml(yaml).unwrap_err().to_string());
}

#[test]
fn an_entry_that_cannot_mean_what_it_says_is_refused() {
    let entry = |more: &str| {
        format!(
            "causes: [{{ id: a, class: transient, kinds: [run_failed], summary: s, cause: c, remedies: [], {more} }}]"
        )
    };
    check_refused(
        &entry("prior: 0.5, evidence: []"),
        expect!["causes: cause `a`: without a signature it needs required evidence, or it would explain everything"],
    );
    check_refused(
        &entry("prior: 1.5, signature: x, evidence: []"),
        expect!["causes: cause `a`: prior 1.5 is no probability"],
    );
    check_refused(
        &entry("prior: 0.5, signature: '(', evidence: []"),
        expect![[r#"
        causes: cause `a`: regex parse error:
            (
            ^
        error: unclosed group"#]],
    );
    check_refused(
        &entry("prior: 0.5, signature: x, evidence: [{ source: log, holds: 'log ==', weight: 0.1, claim: c }]"),
        expect!["causes: cause `a`: unexpected end of input, expected expression (in `log ==`)"],
    );
    check_refused(
        &entry("prior: 0.5, signature: x, evidence: [{ source: log, holds: 'true', weight: 1.0, claim: c }]"),
        expect!["causes: cause `a`: weight 1 must be at least 0 and below 1"],
    );
}

#[test]
fn evidence_from_a_source_that_nobody_declared_is_refused() {
    let yaml = "causes: [{ id: a, class: transient, kinds: [run_failed], signature: x, prior: 0.5, summary: s, cause: c, evidence: [{ source: moon, holds: 'true', weight: 0.1, claim: c }], remedies: [] }]";
    let (estate, remedies) = (crate::Estate::shipped().unwrap(), crate::Remedies::shipped().unwrap());
    let broken = crate::Kit::new(estate, Knowledge::from_yaml(yaml).unwrap(), remedies).unwrap_err();
    expect!["causes: cause `a`: there is no source `moon`; sources are run, log, schema, upstream, profile, privileges, history"]
        .assert_eq(&broken.to_string());
}
