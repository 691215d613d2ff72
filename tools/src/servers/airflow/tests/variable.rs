//! Variables: what is set, what is refused before anything is sent, what is left as somebody else has set it.

use serde_json::{Value, json};

use super::acts::sent;
use super::{World, with_login};
use crate::servers::airflow::config::Bounds;
use crate::servers::airflow::{Code, Config};

/// The variable of the recording.
pub(super) const KEY: &str = "web_sessions_chunk_rows";

/// An installation that lets it be set.
pub(super) fn settable(config: &mut Config) {
    config.settable_variables.insert(KEY.to_owned(), Bounds { min: 500, max: 50_000, optional: true });
}

pub(super) fn set(value: Value, expected: Value) -> Value {
    json!({ "key": KEY, "value": value, "expected": expected, "environment": "production" })
}

async fn world(exchanges: &[&str]) -> World {
    World::with(&with_login(exchanges), settable).await
}

#[tokio::test]
async fn a_variable_is_set_and_what_it_was_is_told() {
    let world = world(&["one variable", "set variable"]).await;
    let found = world.call("set_variable", set(json!(2_000), json!(50_000))).await.unwrap();
    assert_eq!(found, json!({ "key": KEY, "previous": 50_000, "value": 2_000, "changed": true }));
    let patch = r#"PATCH /api/v2/variables/web_sessions_chunk_rows?update_mask=value {"key":"web_sessions_chunk_rows","value":"2000"}"#;
    assert_eq!(sent(&world), [patch], "as the account that acts, and nothing else of it");
    assert!(world.recorded.asked().iter().all(|asked| asked.token.as_deref() != Some("token-of-observer-1")));
}

/// A call whose answer was lost is made again: it finds its own value, changes nothing, and can still be taken back.
#[tokio::test]
async fn the_same_call_sets_once() {
    let world = world(&["one variable, as set"]).await;
    let found = world.call("set_variable", set(json!(2_000), json!(50_000))).await.unwrap();
    assert_eq!(found, json!({ "key": KEY, "previous": 50_000, "value": 2_000, "changed": false }));
    assert!(sent(&world).is_empty());
}

#[tokio::test]
async fn what_somebody_else_has_set_stays() {
    for (there, expected, says) in [
        ("one variable", json!(40_000), "is 50000, and the call expected 40000"),
        ("one variable", json!(null), "is 50000, and the call expected not there"),
        ("no such variable", json!(50_000), "is not there, and the call expected 50000"),
        ("one variable, not a number", json!(50_000), "is no whole number now"),
    ] {
        let world = world(&[there, "set variable", "create variable"]).await;
        let error = world.call("set_variable", set(json!(2_000), expected)).await.unwrap_err();
        assert_eq!((error.code, error.code.class()), (Code::Conflict, "conflict"), "{there}");
        assert!(error.message.contains(says) && !error.message.contains("s3cret"), "{there}: {error}");
        assert!(sent(&world).is_empty(), "{there}");
    }
    // Somebody was faster than our look: Airflow itself refuses.
    let world = world(&["no such variable", "create variable that is there"]).await;
    let error = world.call("set_variable", set(json!(2_000), json!(null))).await.unwrap_err();
    assert_eq!(error.code, Code::Conflict, "{error}");
}

#[tokio::test]
async fn a_variable_that_was_not_there_is_created_and_taken_away_again() {
    let created = world(&["no such variable", "create variable"]).await;
    let found = created.call("set_variable", set(json!(2_000), json!(null))).await.unwrap();
    assert_eq!((&found["previous"], &found["changed"]), (&Value::Null, &json!(true)));
    assert_eq!(sent(&created), [r#"POST /api/v2/variables {"key":"web_sessions_chunk_rows","value":"2000"}"#]);

    let removed = world(&["one variable, as set", "remove variable"]).await;
    let found = removed.call("set_variable", set(found["previous"].clone(), found["value"].clone())).await.unwrap();
    assert_eq!(found, json!({ "key": KEY, "previous": 2_000, "value": null, "changed": true }));
    assert_eq!(sent(&removed), ["DELETE /api/v2/variables/web_sessions_chunk_rows null"]);

    let gone = world(&["no such variable"]).await;
    let found = gone.call("set_variable", set(json!(null), json!(2_000))).await.unwrap();
    assert_eq!((&found["changed"], sent(&gone).len()), (&json!(false), 0));
}

/// Both ends: what could not be taken back is not set.
#[tokio::test]
async fn what_is_not_declared_or_out_of_bounds_is_refused_whatever_the_caller_says() {
    let (value, expected) = (json!(2_000), json!(50_000));
    let with = |key: &str, changed: Value| {
        let mut args = set(value.clone(), expected.clone());
        args[key] = changed;
        args
    };
    let must_be_there = |config: &mut Config| {
        config.settable_variables.insert(KEY.to_owned(), Bounds { min: 500, max: 50_000, optional: false });
    };
    for (args, code) in [
        (with("key", json!("oncall_team")), Code::Denied),
        (with("environment", json!("staging")), Code::Denied),
        (with("value", json!(499)), Code::InvalidArguments),
        (with("value", json!(50_001)), Code::InvalidArguments),
        (with("value", json!("2000")), Code::InvalidArguments),
        (with("value", json!(2_000.5)), Code::InvalidArguments),
        (with("value", json!(null)), Code::InvalidArguments),
        (with("expected", json!(60_000)), Code::InvalidArguments),
        (with("expected", json!(null)), Code::InvalidArguments),
        (json!({ "key": KEY, "expected": 50_000, "environment": "production" }), Code::InvalidArguments),
    ] {
        let world = World::with(&with_login(&["one variable", "set variable"]), must_be_there).await;
        let error = world.call("set_variable", args.clone()).await.unwrap_err();
        assert_eq!(error.code, code, "{args}: {error}");
        assert!(world.recorded.asked().is_empty(), "{args}: nothing was asked");
    }
    let undeclared = World::new(&with_login(&["one variable", "set variable"])).await;
    let error = undeclared.call("set_variable", set(value, expected)).await.unwrap_err();
    assert!(error.code == Code::Denied && error.message.contains("it allows none (`settable_variables`)"), "{error}");
}

#[tokio::test]
async fn a_look_says_whether_it_is_as_expected_and_tells_no_secret() {
    let get = |key: &str, expected: Value| json!({ "key": key, "expected": expected });
    let there = world(&["one variable", "one secret variable", "no such team"]).await;
    for (key, expected, found) in [
        (KEY, json!(50_000), json!({ "key": KEY, "is_set": true, "value": "50000", "ok": true })),
        (KEY, json!(2_000), json!({ "key": KEY, "is_set": true, "value": "50000", "ok": false })),
        (KEY, json!(null), json!({ "key": KEY, "is_set": true, "value": "50000", "ok": null })),
        ("crm_api_key", json!(4_711), json!({ "key": "crm_api_key", "is_set": true, "value": "[hidden]", "ok": null })),
        ("no_team", json!(1), json!({ "key": "no_team", "is_set": false, "value": null, "ok": false })),
    ] {
        assert_eq!(there.call("get_variable", get(key, expected)).await.unwrap(), found);
    }
    assert_eq!(there.recorded.asked().last().unwrap().token.as_deref(), Some("token-of-agent-1"));
}
