//! `interlock facts`: noted, listed, deleted and run out, over real stores, with every change in the audit log.

use serde_json::{Value, json};

use super::stage::Stage;

fn listed(stage: &Stage, args: &[&str]) -> Value {
    stage.ends(0, &[&["facts", "list", "--json"], args].concat()).json()
}

#[test]
fn a_fact_is_noted_listed_and_deleted_and_each_change_is_audited() {
    for store in ["sled:kept", "fjall:kept"] {
        let stage = Stage::new();
        let on = |code: i32, args: &[&str]| stage.ends(code, &[&["--store", store], args].concat());
        let missing = on(1, &["facts", "list"]);
        assert!(missing.stderr.contains("there is no store at"), "{}", missing.stderr);
        let noted =
            on(0, &["facts", "set", "pipelines.sales_etl", "owner", "shop team", "--by", "ana", "--json"]).json();
        let at = noted["at"].as_str().unwrap();
        assert_eq!(
            noted,
            json!({
                "namespace": "pipelines.sales_etl", "key": "owner", "value": "shop team", "by": "ana", "at": at, "expires": null,
            })
        );
        on(0, &["facts", "set", "team", "on_call", "{\"week\": 14}"]);
        on(0, &["facts", "set", "pipelines.sales_etl", "owner", "data team", "--by", "bo"]);
        let all = on(0, &["facts", "list", "--json"]).json();
        let brief =
            |fact: &Value| format!("{}.{} = {} by {}", fact["namespace"], fact["key"], fact["value"], fact["by"]);
        assert_eq!(
            all.as_array().unwrap().iter().map(brief).collect::<Vec<_>>(),
            [
                "\"pipelines.sales_etl\".\"owner\" = \"data team\" by \"bo\"",
                "\"team\".\"on_call\" = {\"week\":14} by \"tester\""
            ]
        );
        let table = on(0, &["facts", "list", "pipelines"]).stdout;
        assert!(table.starts_with("FACT") && table.contains("pipelines.sales_etl.owner  data team  bo"), "{table}");
        assert!(!table.contains("on_call"), "{table}");
        assert_eq!(on(0, &["facts", "delete", "team", "on_call"]).stdout, "forgot team.on_call\n");
        let gone = on(1, &["facts", "delete", "team", "on_call"]);
        assert!(
            gone.stderr.contains("there is no fact `team.on_call`") && gone.stderr.contains("facts list"),
            "{}",
            gone.stderr
        );

        let audit = on(0, &["audit", "export"]).stdout;
        let records = audit.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let changes = records
            .map(|record| record["entry"].clone())
            .filter(|entry| entry["action"].as_str().is_some_and(|action| action.starts_with("fact.")));
        let changes: Vec<Value> = changes.collect();
        let brief = |entry: &Value| format!("{} {} {}", entry["actor"], entry["action"], entry["detail"]["fact"]);
        assert_eq!(
            changes.iter().map(brief).collect::<Vec<_>>(),
            [
                "\"user:ana\" \"fact.set\" \"fact:pipelines.sales_etl.owner\"",
                "\"user:tester\" \"fact.set\" \"fact:team.on_call\"",
                "\"user:bo\" \"fact.set\" \"fact:pipelines.sales_etl.owner\"",
                "\"user:tester\" \"fact.deleted\" \"fact:team.on_call\"",
            ]
        );
        assert_eq!((&changes[0]["detail"]["before"], &changes[3]["detail"]["after"]), (&Value::Null, &Value::Null));
        assert_eq!(changes[0]["detail"]["after"], changes[2]["detail"]["before"]);
        assert!(changes[2]["detail"]["after"].as_str().is_some_and(|digest| digest.len() == 64), "{audit}");
        assert!(!audit.contains("shop team") && !audit.contains("data team"), "digests alone: {audit}");
        on(0, &["audit", "verify"]);
        on(0, &["fsck"]);
    }
}

#[test]
fn a_fact_runs_out() {
    let stage = Stage::new();
    let noted = stage.ends(0, &["facts", "set", "team", "freeze", "true", "--ttl", "1s"]);
    assert!(noted.stdout.starts_with("noted team.freeze = true until 20"), "{}", noted.stdout);
    stage.ends(0, &["facts", "set", "team", "week", "14", "--ttl", "2w"]);
    // Each look is a process of its own; the second passes while they run.
    let left = (0..10_000).map(|_| listed(&stage, &[])).find(|facts| facts.as_array().unwrap().len() == 1);
    assert_eq!(left.unwrap()[0]["key"], "week");
    let none = listed(&stage, &["pipelines"]);
    assert_eq!(none, json!([]));
    assert!(stage.ends(0, &["facts", "list", "pipelines"]).stderr.contains("no fact is known here"));
}

#[test]
fn what_cannot_be_noted_is_refused_and_makes_no_store() {
    let stage = Stage::new();
    let refused = |args: &[&str], why: &str| {
        let ran = stage.ends(2, &[&["facts", "set"], args].concat());
        assert!(ran.stderr.contains(why), "{args:?}: {}", ran.stderr);
    };
    refused(&["a..b", "k", "1"], "is no name of a fact");
    refused(&["a", "k.l", "1"], "is no name of a fact");
    refused(&["a", "k", "1", "--by", ""], "who noted it");
    refused(&["a", "k", "1", "--ttl", "soon"], "write 30m, 12h or 7d");
    refused(&["a", "k", &"x".repeat(5_000)], "at most 4096 bytes");
    for secret in [["db_password", "hunter2"], ["note", "use ghp_0123456789abcdef"]] {
        refused(&["team", secret[0], secret[1]], "looks like a secret");
    }
    assert!(!stage.path().join(".interlock").exists());
}

#[test]
fn where_threads_are_the_audit_log_has_no_thread_more() {
    let stage = Stage::greeting();
    stage.asked();
    stage.ends(0, &["facts", "set", "team", "on_call", "bo"]);
    let threads = stage.ends(0, &["threads", "--json"]).json();
    assert_eq!(threads.as_array().map(Vec::len), Some(1), "{threads}");
    let audit = stage.ends(0, &["audit", "export", "--thread", "t"]).stdout;
    assert!(audit.contains("fact.set"), "{audit}");
}
