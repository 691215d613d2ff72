//! Exactly once: keys, books, and the side log.

use serde_json::{Value, json};

use super::World;
use crate::servers::sandbox::{Code, Effect, Environment, Fault, Sandbox};

fn lines(world: &World) -> Vec<Effect> {
    let text = std::fs::read_to_string(world.dir.path().join("effects.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn rerun(key: &str) -> Value {
    json!({ "pipeline": "flights_daily", "business_date": "2013-01-22", "environment": "production", "idempotency_key": key })
}

#[test]
fn the_same_key_is_executed_once() {
    let world = World::new();
    let first = world.ok("rerun_pipeline", rerun("k1"));
    let again = world.ok("rerun_pipeline", rerun("k1"));
    assert_eq!(first, again);
    assert_eq!(
        world.ok("effect_status", json!({ "idempotency_key": "k1", "environment": "production" }))["result"],
        first
    );
    let other = world.ok("rerun_pipeline", rerun("k2"));
    assert_ne!(first["run_id"], other["run_id"]);
    let keys: Vec<_> = lines(&world).into_iter().map(|e| e.idempotency_key.unwrap()).collect();
    assert_eq!(keys, ["k1", "k2"]);

    let mut changed = rerun("k1");
    changed["from_task"] = json!("stage");
    assert_eq!(world.err("rerun_pipeline", changed).code, Code::Conflict);
    assert_eq!(lines(&world).len(), 2);
}

/// A run that failed is an effect, but no result: the retry with the same key is a new run.
#[test]
fn a_failed_run_leaves_its_key_free() {
    let world = World::new();
    world.sandbox.inject(Fault::UpstreamTimeout, None).unwrap();
    let arguments = json!({ "pipeline": "flights_daily", "business_date": "2013-01-23", "environment": "production", "idempotency_key": "k" });
    assert_eq!(world.err("rerun_pipeline", arguments.clone()).code, Code::UpstreamTimeout);
    let done = world.ok("rerun_pipeline", arguments.clone());
    assert_eq!(world.ok("rerun_pipeline", arguments), done);
    let outcomes: Vec<_> = lines(&world).into_iter().map(|e| e.outcome).collect();
    assert_eq!(outcomes, ["run_failed", "done"]);
}

/// A refused call leaves no trace.
#[test]
fn an_error_is_no_effect() {
    let world = World::new();
    let grant = json!({ "principal": "root", "table": "fact_daily_carrier", "privilege": "INSERT", "environment": "production", "idempotency_key": "k" });
    assert_eq!(world.err("grant_privilege", grant).code, Code::NotFound);
    assert_eq!((world.effects(), lines(&world).len()), (0, 0));
}

/// A kill between commit and append, or in the middle of an append, is made good when the folder is opened again.
#[test]
fn the_side_log_is_caught_up_after_a_crash() {
    let World { sandbox, dir } = World::new();
    let key = json!({ "pipeline": "flights_daily", "business_date": "2013-01-22", "environment": "production", "idempotency_key": "k" });
    let first = sandbox.call("rerun_pipeline", key.clone()).unwrap();
    sandbox.call("rerun_pipeline", rerun("k2")).unwrap();
    drop(sandbox);
    let path = dir.path().join("effects.jsonl");
    let whole = std::fs::read_to_string(&path).unwrap();
    let cuts = [0, 10, whole.find('\n').unwrap() + 1, whole.len() - 1, whole.len()];
    for cut in cuts {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let sandbox = Sandbox::open(dir.path()).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), whole, "cut at {cut}");
        assert_eq!(sandbox.call("rerun_pipeline", key.clone()).unwrap(), first);
    }
}

/// Two servers on one folder, as in the demo: one for the agents, one for the operator.
#[test]
fn two_openers_of_one_folder_agree() {
    let world = World::new();
    let other = Sandbox::open(world.dir.path()).unwrap();
    other.inject(Fault::PermissionRevoked, None).unwrap();
    assert!(world.rerun("2013-01-23", "publish").is_err());
    world.remedy(Fault::PermissionRevoked);
    other.call("rerun_pipeline", rerun("k")).unwrap();
    assert!(other.verify(Fault::PermissionRevoked).unwrap().healed);
    assert_eq!(lines(&world).len(), other.effects(Environment::Production).unwrap().len());
    other.call("reset", json!({})).unwrap();
    assert_eq!(world.effects(), 0);
    world.ok("rerun_pipeline", rerun("k"));
    assert_eq!(lines(&world).len(), 1);
}
