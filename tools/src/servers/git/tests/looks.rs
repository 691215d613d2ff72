//! Looking changes nothing, and says what is there.

use serde_json::json;

use super::{DAG, World};
use crate::servers::git::error::Code;
use crate::servers::git::{Config, Repositories, look};

#[tokio::test]
async fn commits_are_shown_newest_first_with_their_files() {
    let world = World::new();
    let bad = world.break_it();
    let found = world.call("recent_commits", json!({ "repo": "dags", "path": "catalog.py" })).await.unwrap();
    let subjects: Vec<&str> =
        found["commits"].as_array().unwrap().iter().map(|commit| commit["subject"].as_str().unwrap()).collect();
    assert_eq!(subjects, ["catalog: contract checks (DQ-118)", "pipelines"]);
    assert_eq!((&found["commits"][0]["files"], &found["commits"][1]["n_files"]), (&json!(["catalog.py"]), &json!(2)));
    let shown = world.call("show_commit", json!({ "repo": "dags", "commit": bad[..8] })).await.unwrap();
    let diff = shown["diff"].as_str().unwrap();
    assert!(diff.contains("+from etl_common import check, check_contract, run"), "{diff}");
    assert_eq!((&shown["commit"]["id"], &shown["is_cut"]), (&json!(bad), &json!(false)));
}

#[tokio::test]
async fn a_reversal_is_previewed_without_a_trace() {
    let world = World::new();
    let bad = world.break_it();
    let objects = || world.git(&["count-objects", "-v"]);
    let (before, n_objects) = (world.state(), objects());
    let seen = world.call("preview_revert", json!({ "repo": "dags", "commit": bad })).await.unwrap();
    assert_eq!((&seen["clean"], &seen["files"], &seen["head"]), (&json!(true), &json!(["catalog.py"]), &json!(bad)));
    assert!(seen["diff"].as_str().unwrap().contains("-from etl_common import check, check_contract, run"));
    assert_eq!((world.state(), objects()), (before, n_objects));
}

#[tokio::test]
async fn a_branch_says_whether_it_lacks_a_commit() {
    let world = World::new();
    let bad = world.break_it();
    let ok =
        || async { world.call("get_branch", json!({ "repo": "dags", "reverted": bad })).await.unwrap()["ok"].clone() };
    assert_eq!(ok().await, json!(false));
    world.revert(&bad).await.unwrap();
    assert_eq!(ok().await, json!(true));
    world.write("catalog.py", &format!("{DAG}\nx = 1\n"));
    assert_eq!(ok().await, json!(false), "what runs is not what was committed");
}

#[tokio::test]
async fn what_is_not_there_is_said() {
    let world = World::new();
    for (tool, args, code) in [
        ("recent_commits", json!({ "repo": "other" }), Code::NotFound),
        ("recent_commits", json!({ "repo": "dags", "path": "../../etc/passwd" }), Code::InvalidArguments),
        ("show_commit", json!({ "repo": "dags", "commit": "HEAD" }), Code::InvalidArguments),
        ("show_commit", json!({ "repo": "dags", "commit": "--output=/tmp/x" }), Code::InvalidArguments),
        ("show_commit", json!({ "repo": "dags", "commit": "0123456789" }), Code::NotFound),
        ("show_commit", json!({ "repo": "dags", "commit": "0123456", "more": 1 }), Code::InvalidArguments),
    ] {
        assert_eq!(world.call(tool, args.clone()).await.unwrap_err().code, code, "{tool} {args}");
    }
    let bare = World::with(|declared| declared.branch = "production".to_owned());
    let refused = bare.call("get_branch", json!({ "repo": "dags" })).await.unwrap_err();
    assert!(refused.code == Code::NotFound && refused.message.contains("no branch `production`"), "{refused}");
}

/// A branch or tag may be called like the beginning of a commit; it never stands for one.
#[tokio::test]
async fn no_name_stands_for_a_commit() {
    let world = World::new();
    let first = world.head();
    let bad = world.break_it();
    world.git(&["tag", &bad[..8], &first]);
    world.git(&["branch", "deadbee", &first]);
    let shown = world.call("show_commit", json!({ "repo": "dags", "commit": bad[..8] })).await.unwrap();
    assert_eq!(shown["commit"]["id"], json!(bad));
    assert_eq!(
        world.call("show_commit", json!({ "repo": "dags", "commit": "deadbee" })).await.unwrap_err().code,
        Code::NotFound
    );
}

/// A path is seen from the folder of the file, wherever the server was started and however the file was named.
#[tokio::test]
async fn a_work_tree_is_found_from_the_folder_of_its_file() {
    let world = World::new();
    let file = world.folder.path().join("git.yaml");
    let text = "{author: {name: bot, email: bot@shop.example}, repositories: {dags: {path: dags, branch: main, environment: production}}}";
    std::fs::write(&file, text).unwrap();
    let up = "../".repeat(std::env::current_dir().unwrap().components().count());
    let relative = format!("{up}{}", file.strip_prefix("/").unwrap().display());
    let all = Repositories::new(Config::load(relative.as_ref()).unwrap());
    let query = serde_json::from_value(json!({ "repo": "dags" })).unwrap();
    assert_eq!(look::get_branch(all, query).await.unwrap().head.id, world.head());
}
