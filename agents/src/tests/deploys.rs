//! Bad deploys in the estate of `examples/airflow`: which commit is taken back, who is asked, and where nobody dares.

use expect_test::expect;
use graphs::EffectClass;
use runtime_core::error::{ErrorClass, TaskError};
use runtime_core::interlocks::guard::{CallFacts, Decision, Policy as _, ToolFacts};
use runtime_core::record::CallKind;
use serde_json::{Value, json};
use tools::node::UNDO_ROLE;
use tools::toolbox::ToolRequest;

use super::airflow::{Script, check, is, policy, what_became};

const DAG: &str = "product_catalog_etl";
const MISSING: &str = "ImportError: cannot import name 'check_contract' from 'etl_common' (/opt/dags/etl_common.py)";
/// The commit, and what takes it back.
const BAD: &str = "1111111111111111111111111111111111111111";
const BACK: &str = "2222222222222222222222222222222222222222";

/// What Git says of the commit behind a break.
fn found(name: Value) -> Value {
    json!({
        "repo": "pipelines", "head": BAD, "file": "product_catalog_etl.py", "why": null, "name": name, "is_its_line": false,
        "commit": { "id": BAD, "at": "2026-03-31T21:00:00Z", "author": "ana", "subject": "catalog: contract checks" },
        "reverts": { "clean": true, "why": null, "files": ["product_catalog_etl.py"] },
    })
}

/// A file that cannot be imported, for this reason, and what Git says of it.
fn deployed(request: &ToolRequest, error: &str, found: Value) -> Option<Result<Value, TaskError>> {
    let answer = match request.target.as_str() {
        "airflow.list_import_errors" => json!({ "import_errors": [{
            "filename": "product_catalog_etl.py", "dag_ids": [DAG], "error": error, "at_file": "/opt/dags/product_catalog_etl.py", "at_line": 4,
        }] }),
        "airflow.get_source" => json!({ "sha256": "9f2feb0f1ef425b292f2f94bcbf1b1e6f2b8e9e7d1c2a3b4c5d6e7f8091a2b3c" }),
        "git.find_break" => found,
        "git.revert_commit" => {
            json!({ "commit": request.args["commit"], "previous_head": BAD, "head": BACK, "made": BACK, "files": request.args["files"], "changed": true })
        }
        "git.get_branch" => json!({ "ok": true }),
        _ => return is(request, "src.delivery_manifest").then(|| Ok(json!({ "rows": [{ "day": "2026-04-01" }] }))),
    };
    Some(Ok(answer))
}

/// No run has failed and none is there: the day that is due gets one.
#[tokio::test]
async fn a_bad_deploy_is_taken_back_after_approval() {
    check(DAG, "", |request| deployed(request, MISSING, found(json!("adds"))), expect![[r#"
        import_error: commit 1111111111 broke the import of product_catalog_etl (configuration, 0.97) → healed
        asked Guard in `change_unrehearsed`: git.revert_commit in production → {"choice":"approve"}
        did git.revert_commit {"commit":"1111111111111111111111111111111111111111","environment":"production","expected_head":"1111111111111111111111111111111111111111","files":["product_catalog_etl.py"],"repo":"pipelines"}
        did airflow.trigger {"business_date":"2026-04-01","dag_id":"product_catalog_etl","environment":"production","wait_s":600}"#]]).await;
}

#[tokio::test]
async fn a_reversal_that_did_not_help_is_taken_back_too() {
    let in_vain: Script = |request| match request.target.as_str() {
        "airflow.trigger" => Some(Err(TaskError::new(ErrorClass::Unknown, "run failed"))),
        _ => deployed(request, MISSING, found(json!("adds"))),
    };
    check(DAG, "", in_vain, expect![[r#"
        import_error: commit 1111111111 broke the import of product_catalog_etl (configuration, 0.97) → handed_over
        asked Guard in `change_unrehearsed`: git.revert_commit in production → {"choice":"approve"}
        asked Approval in `ask_on_call`: inc-8f7f8fb6e2fe product_catalog_etl 2026-04-01: commit 1111111111 broke the import of product_catalog_etl → {"choice":"take_over"}
        did git.revert_commit {"commit":"1111111111111111111111111111111111111111","environment":"production","expected_head":"1111111111111111111111111111111111111111","files":["product_catalog_etl.py"],"repo":"pipelines"}
        did airflow.trigger {"business_date":"2026-04-01","dag_id":"product_catalog_etl","environment":"production","wait_s":600} (failed)
        did airflow.trigger {"business_date":"2026-04-01","dag_id":"product_catalog_etl","environment":"production","wait_s":600} (failed)
        did airflow.trigger {"business_date":"2026-04-01","dag_id":"product_catalog_etl","environment":"production","wait_s":600} (failed)
        did airflow.trigger {"business_date":"2026-04-01","dag_id":"product_catalog_etl","environment":"production","wait_s":600} (failed)
        did git.revert_commit {"commit":"2222222222222222222222222222222222222222","environment":"production","expected_head":"2222222222222222222222222222222222222222","files":["product_catalog_etl.py"],"own":true,"repo":"pipelines"}
        told Page: inc-8f7f8fb6e2fe · product_catalog_etl 2026-04-01: commit 1111111111 broke the import of product_catalog_etl (taken_back)"#]]).await;
}

/// One commit may break several pipelines. Where another incident has taken it back, a run that fails all the same is no reason to
/// break the others again.
#[tokio::test]
async fn a_reversal_that_another_made_stays() {
    let done_already: Script = |request| match request.target.as_str() {
        "airflow.trigger" => Some(Err(TaskError::new(ErrorClass::Unknown, "run failed"))),
        "git.revert_commit" if request.args["commit"].is_null() => {
            Some(Err(TaskError::new(ErrorClass::Conflict, "the act found everything done by another")))
        }
        "git.revert_commit" => Some(Ok(json!({
            "commit": BAD, "previous_head": BAD, "head": BACK, "made": null, "files": request.args["files"], "changed": false
        }))),
        _ => deployed(request, MISSING, found(json!("adds"))),
    };
    let came_of_it = what_became(DAG, "", done_already).await;
    let reverts: Vec<&str> = came_of_it.lines().filter(|line| line.starts_with("did git.revert_commit")).collect();
    assert!(
        reverts.len() == 2 && reverts[1].contains("\"commit\":null") && reverts[1].ends_with("(failed)"),
        "{came_of_it}"
    );
    assert!(came_of_it.contains("told Page") && came_of_it.contains("(not_healed)"), "{came_of_it}");
}

/// Where Git says that the commit is still there, nothing is run, and what was done is undone.
#[tokio::test]
async fn a_reversal_that_does_not_show_is_undone_at_once() {
    let deaf: Script = |request| match request.target.as_str() {
        "git.get_branch" => Some(Ok(json!({ "ok": false }))),
        _ => deployed(request, MISSING, found(json!("adds"))),
    };
    check(DAG, "", deaf, expect![[r#"
        import_error: commit 1111111111 broke the import of product_catalog_etl (configuration, 0.97) → handed_over
        asked Guard in `change_unrehearsed`: git.revert_commit in production → {"choice":"approve"}
        asked Approval in `ask_on_call`: inc-8f7f8fb6e2fe product_catalog_etl 2026-04-01: commit 1111111111 broke the import of product_catalog_etl → {"choice":"take_over"}
        did git.revert_commit {"commit":"1111111111111111111111111111111111111111","environment":"production","expected_head":"1111111111111111111111111111111111111111","files":["product_catalog_etl.py"],"repo":"pipelines"}
        did git.revert_commit {"commit":"2222222222222222222222222222222222222222","environment":"production","expected_head":"2222222222222222222222222222222222222222","files":["product_catalog_etl.py"],"own":true,"repo":"pipelines"}
        told Page: inc-8f7f8fb6e2fe · product_catalog_etl 2026-04-01: commit 1111111111 broke the import of product_catalog_etl (stopped)"#]]).await;
}

/// No commit, several, one that the error does not point at, or one that cannot be taken back: a person.
#[tokio::test]
async fn without_one_commit_that_explains_it_a_person_is_paged() {
    let none: Script = |request| {
        let mut none = found(json!(null));
        none["commit"] = json!(null);
        none["why"] = json!("2 commits changed product_catalog_etl.py since it worked");
        none["reverts"] = json!(null);
        deployed(request, MISSING, none)
    };
    let another: Script = |request| deployed(request, MISSING, found(json!(null)));
    let in_the_way: Script = |request| {
        let mut found = found(json!("adds"));
        found["reverts"] = json!({ "clean": false, "why": "later commits changed the same lines", "files": [] });
        deployed(request, MISSING, found)
    };
    let unreadable: Script = |request| match request.target.as_str() {
        "git.find_break" => Some(Err(TaskError::new(ErrorClass::Permanent, "no repository"))),
        _ => deployed(request, MISSING, json!(null)),
    };
    for script in [none, another, in_the_way, unreadable] {
        let came_of_it = what_became(DAG, "", script).await;
        let lines: Vec<&str> = came_of_it.lines().collect();
        assert!(
            lines[0]
                .starts_with("import_error: the code of product_catalog_etl cannot be imported (configuration, 0.86"),
            "{came_of_it}"
        );
        assert!(
            lines[1].starts_with("asked Approval in `ask_on_call`")
                && lines[2].starts_with("told Page")
                && lines.len() == 3,
            "{came_of_it}"
        );
    }
}

/// A syntax error is in the file itself: that nothing else changed since it could be imported is evidence enough.
#[tokio::test]
async fn a_syntax_error_needs_no_name() {
    let script: Script = |request| {
        deployed(request, "SyntaxError: '(' was never closed (product_catalog_etl.py, line 12)", found(json!(null)))
    };
    let came_of_it = what_became(DAG, "", script).await;
    assert!(came_of_it.contains("→ healed") && came_of_it.contains("did git.revert_commit"), "{came_of_it}");
}

/// It looks like drift of the source: the run fails for a column that nobody has, and that the code names since one commit.
#[tokio::test]
async fn a_made_up_column_is_taken_back_and_the_failed_run_runs_again() {
    let script: Script = |request| match request.target.as_str() {
        "airflow.list_import_errors" => None,
        "airflow.list_runs" => Some(Ok(json!({ "runs": [
            { "state": "failed", "dag_version": 1, "start_date": "2026-04-01T04:00:00Z" },
            { "state": "success", "dag_version": 1, "start_date": "2026-03-31T04:00:00.123456Z" },
        ] }))),
        _ if is(request, "AS n_tables") => Some(Ok(json!({ "rows": [{ "n_tables": 0 }] }))),
        _ => deployed(request, "", found(json!("adds"))),
    };
    check(DAG, "extract_products: UndefinedColumn: column \"pirce\" does not exist", script, expect![[r#"
        run_failed: commit 1111111111 made product_catalog_etl read pirce, which no table has (configuration, 0.96) → healed
        asked Guard in `change_unrehearsed`: git.revert_commit in production → {"choice":"approve"}
        did git.revert_commit {"commit":"1111111111111111111111111111111111111111","environment":"production","expected_head":"1111111111111111111111111111111111111111","files":["product_catalog_etl.py"],"repo":"pipelines"}
        did airflow.clear {"dag_id":"product_catalog_etl","dag_run_id":"prod__2026-03-31__17","dry_run":false,"environment":"production","only_failed":true,"wait_s":600}"#]]).await;
}

/// What policy makes of a call of `git.revert_commit`.
fn decided(node: &str, role: Option<&str>, env: &str, more: Value) -> &'static str {
    let mut args =
        json!({ "repo": "pipelines", "commit": BAD, "expected_head": BAD, "files": ["x.py"], "environment": env });
    args.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let decision = policy().decide(&CallFacts {
        kind: CallKind::Tool,
        target: "git.revert_commit",
        args: &args,
        effect: EffectClass::Idempotent,
        tool: &ToolFacts::default(),
        env: Some(env),
        agent: None,
        role,
        listed: None,
        tainted_by: None,
        graph: "etl-incident",
        node,
    });
    match decision {
        Decision::Allow { .. } => "allow",
        Decision::Ask { .. } => "ask",
        Decision::Deny { .. } => "deny",
    }
}

/// Only the taking back of the server's own reversal is part of what was approved.
#[test]
fn no_commit_is_taken_back_without_a_person() {
    let (none, own) = (json!({}), json!({ "own": true }));
    for (node, role, env, more, expected) in [
        ("change_unrehearsed", None, "production", &none, "ask"),
        ("change", None, "production", &none, "ask"),
        ("change_unrehearsed", None, "production", &own, "ask"),
        ("anywhere", None, "production", &own, "ask"),
        ("take_back", None, "production", &none, "ask"),
        ("take_back", None, "production", &json!({ "own": "true" }), "ask"),
        ("take_back", None, "production", &json!({ "own": false }), "ask"),
        ("take_back", None, "production", &own, "allow"),
        ("change_unrehearsed", Some(UNDO_ROLE), "production", &own, "allow"),
        ("change_unrehearsed", Some(UNDO_ROLE), "production", &none, "ask"),
        ("change_unrehearsed", None, "staging", &none, "ask"),
        ("diagnose", Some("diagnostic"), "production", &own, "deny"),
    ] {
        assert_eq!(decided(node, role, env, more.clone()), expected, "{node} {role:?} {env} {more}");
    }
}
