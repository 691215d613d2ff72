//! Which commit broke it: named where there is exactly one, and where it is not, why.

use serde_json::{Value, json};

use super::{BROKEN_DAG, COMMON, DAG, World};
use crate::servers::git::repo::sha256;

/// What is asked when a version of `catalog.py` is known to have worked.
fn about(good: &str, name: Option<&str>) -> Value {
    let mut query = json!({ "repo": "dags", "file": "catalog.py", "also": ["etl_common.py"], "good_sha256": sha256(good.as_bytes()) });
    if let Some(name) = name {
        query["name"] = name.into();
    }
    query
}

#[tokio::test]
async fn the_only_change_since_it_worked_is_named() {
    let world = World::new();
    let bad = world.break_it();
    world.write("etl_common.py", &format!("{COMMON}\nx = 1\n"));
    let later = world.commit("common: nothing to do with it");
    let mut query = about(DAG, Some("check_contract"));
    query["at_file"] = "/opt/airflow/dags/catalog.py".into();
    query["at_line"] = 1.into();
    let found = world.call("find_break", query.clone()).await.unwrap();
    assert_eq!(
        (&found["commit"]["id"], &found["file"], &found["head"]),
        (&json!(bad), &json!("catalog.py"), &json!(later))
    );
    assert_eq!((&found["name"], &found["is_its_line"]), (&json!("adds"), &json!(true)));
    assert_eq!(found["reverts"], json!({ "clean": true, "why": null, "files": ["catalog.py"] }));
    // A line of somebody else, and a file that only ends alike.
    for (file, line) in
        [("/opt/airflow/dags/catalog.py", 4), ("/opt/old_catalog.py", 1), ("/opt/airflow/dags/catalog.py", 99)]
    {
        query["at_file"] = file.into();
        query["at_line"] = line.into();
        let found = world.call("find_break", query.clone()).await.unwrap();
        assert_eq!(found["is_its_line"], json!(false), "{file} {line}");
    }
}

#[tokio::test]
async fn what_a_commit_did_not_touch_is_not_laid_to_it() {
    let world = World::new();
    world.write("catalog.py", &format!("{DAG}\n# a remark\n"));
    world.commit("catalog: a remark");
    let found = world.call("find_break", about(DAG, Some("requests"))).await.unwrap();
    assert_eq!((&found["name"], &found["is_its_line"]), (&json!(null), &json!(false)));
}

#[tokio::test]
async fn several_changes_or_an_unknown_version_name_no_commit() {
    let world = World::new();
    world.break_it();
    world.write("catalog.py", &format!("{BROKEN_DAG}\nx = 1\n"));
    world.commit("catalog: and more");
    for (good, why) in [(DAG, "2 commits changed catalog.py"), ("another version", "none of the last 3 versions")] {
        let found = world.call("find_break", about(good, Some("check_contract"))).await.unwrap();
        assert!(found["why"].as_str().unwrap().starts_with(why), "{found}");
        assert_eq!((&found["commit"], &found["reverts"]), (&json!(null), &json!(null)));
    }
}

/// The file did not change; what it uses lost a name, or is gone.
#[tokio::test]
async fn a_name_that_was_taken_away_is_found_where_it_was() {
    let world = World::new();
    world.write("etl_common.py", &COMMON.replace("def check(", "def check_rows("));
    let renamed = world.commit("common: a better name");
    let found = world.call("find_break", about(DAG, Some("check"))).await.unwrap();
    assert_eq!(
        (&found["commit"]["id"], &found["file"], &found["name"]),
        (&json!(renamed), &json!("etl_common.py"), &json!("drops"))
    );
    let untouched = world.call("find_break", about(DAG, Some("run"))).await.unwrap();
    assert!(
        untouched["commit"].is_null() && untouched["why"].as_str().unwrap().contains("nothing that it uses"),
        "{untouched}"
    );
    let world = World::new();
    std::fs::remove_file(world.root().join("etl_common.py")).unwrap();
    let gone = world.commit("common: not needed");
    let found = world.call("find_break", about(DAG, Some("etl_common"))).await.unwrap();
    assert_eq!((&found["commit"]["id"], &found["name"]), (&json!(gone), &json!("drops")));
}

#[tokio::test]
async fn a_moment_at_which_it_worked_will_do() {
    let world = World::new();
    let bad = world.break_it();
    let ask = |good: &str| json!({ "repo": "dags", "file": "catalog.py", "good_at": good, "name": "check_contract" });
    let found = world.call("find_break", ask("2020-01-01T00:00:00Z")).await.unwrap();
    assert!(found["why"].as_str().unwrap().starts_with("2 commits"), "the first commit is newer too: {found}");
    let found = world.call("find_break", ask("2099-01-01T00:00:00Z")).await.unwrap();
    assert!(
        found["commit"].is_null() && found["why"].as_str().unwrap().contains("as it was when it worked"),
        "{found}"
    );
    assert!(world.call("find_break", ask("yesterday")).await.unwrap_err().message.contains("no moment"));
    let dated =
        world.git_with(&["commit", "-q", "--amend", "--no-edit"], &[("GIT_COMMITTER_DATE", "2098-01-01T00:00:00Z")]);
    assert!(dated.status.success() && world.head() != bad);
    let found = world.call("find_break", ask("2097-01-01T00:00:00Z")).await.unwrap();
    assert_eq!((&found["commit"]["id"], &found["name"]), (&json!(world.head()), &json!("adds")));
}

#[tokio::test]
async fn a_merge_is_named_and_not_taken_back() {
    let world = World::new();
    world.git(&["checkout", "-q", "-b", "side"]);
    world.break_it();
    world.git(&["checkout", "-q", "main"]);
    world.git(&["merge", "-q", "--no-ff", "-m", "merge side", "side"]);
    let found = world.call("find_break", about(DAG, Some("check_contract"))).await.unwrap();
    assert_eq!((&found["commit"]["id"], &found["commit"]["is_merge"]), (&json!(world.head()), &json!(true)));
    assert_eq!(found["reverts"]["clean"], json!(false));
}
