//! Taking a commit back, what is refused, and that what is refused changes nothing.

use serde_json::{Value, json};

use super::{BROKEN_DAG, DAG, World, revert_args};
use crate::servers::git::config::Revert;
use crate::servers::git::error::Code;
use crate::servers::git::repo::Repo;
use crate::servers::git::revert::{put_in_place, work_out};

#[tokio::test]
async fn a_commit_is_taken_back_by_another_and_history_stays() {
    let world = World::new();
    let bad = world.break_it();
    let made = world.revert(&bad).await.unwrap();
    assert_eq!((&made["changed"], &made["previous_head"]), (&json!(true), &json!(bad)));
    assert_eq!((made["head"].as_str().unwrap(), world.read("catalog.py").as_str()), (world.head().as_str(), DAG));
    assert_eq!(world.git(&["status", "--porcelain", "-uall"]), "");
    assert_eq!(world.git(&["rev-parse", "HEAD^"]), bad, "it lies on top");
    let said = world.git(&["log", "-1", "--format=%an <%ae>|%cn|%B"]);
    assert_eq!(
        said,
        format!(
            "bot <bot@shop.example>|bot|Revert \"catalog: contract checks (DQ-118)\"\n\nThis reverts commit {bad}."
        )
    );
    world.git(&["fsck", "--strict"]);
}

/// The same call again, as a runtime that crashed makes it: nothing more happens.
#[tokio::test]
async fn the_same_call_twice_is_one_reversal() {
    let world = World::new();
    let bad = world.break_it();
    let args = revert_args(&bad, &bad, &["catalog.py"]);
    let first = world.call_with("revert_commit", args.clone(), Some("one")).await.unwrap();
    let before = world.state();
    let second = world.call_with("revert_commit", args, Some("one")).await.unwrap();
    assert_eq!(
        (&second["head"], &second["changed"], &second["files"]),
        (&first["head"], &json!(false), &first["files"])
    );
    assert_eq!((&second["made"], world.state()), (&first["head"], before));
}

/// One commit broke several pipelines, and each wants it back. It is taken back once, and stays for the others when the run of
/// one fails.
#[tokio::test]
async fn what_others_rely_on_stays() {
    let world = World::new();
    let bad = world.break_it();
    let args = revert_args(&bad, &bad, &["catalog.py"]);
    let first = world.call_with("revert_commit", args.clone(), Some("one")).await.unwrap();
    let made = first["made"].as_str().unwrap();
    let other = world.call_with("revert_commit", args, Some("another")).await.unwrap();
    assert_eq!((&other["head"], &other["made"], &other["changed"]), (&first["head"], &json!(null), &json!(false)));
    let take_back = |commit: Value| {
        let mut args = revert_args(made, made, &["catalog.py"]);
        args["commit"] = commit.clone();
        args["expected_head"] = commit;
        args["own"] = true.into();
        args
    };
    check_refused(&world, take_back(json!(null)), (Code::Conflict, "found everything done by another")).await;
    check_refused(&world, take_back(json!(made)), (Code::Conflict, "others rely on")).await;
    assert_eq!(world.read("catalog.py"), DAG);
}

/// Cut off after the branch moved and before the work tree followed: the next call ends it.
#[tokio::test]
async fn what_was_cut_off_is_ended_by_the_next_call() {
    let world = World::new();
    let bad = world.break_it();
    let args = revert_args(&bad, &bad, &["catalog.py"]);
    world.call_with("revert_commit", args.clone(), Some("one")).await.unwrap();
    let done = world.state();
    world.git(&["read-tree", "-m", "-u", "HEAD", &bad]);
    assert_eq!(world.read("catalog.py"), BROKEN_DAG);
    let ended = world.call_with("revert_commit", args, Some("one")).await.unwrap();
    assert_eq!((&ended["changed"], world.state()), (&json!(false), done));
    // Not over what somebody wrote meanwhile.
    world.git(&["read-tree", "-m", "-u", "HEAD", &bad]);
    world.write("catalog.py", "by hand\n");
    let refused = world.call("revert_commit", revert_args(&bad, &bad, &["catalog.py"])).await.unwrap_err();
    assert_eq!((refused.code, world.read("catalog.py").as_str()), (Code::Conflict, "by hand\n"));
}

/// A message that claims to be the reversal is none.
#[tokio::test]
async fn a_reversal_is_known_by_what_it_does() {
    let world = World::new();
    let bad = world.break_it();
    world.write("etl_common.py", "def check():\n    pass\n");
    world.commit(&format!("Revert\n\nThis reverts commit {bad}."));
    let before = world.state();
    let refused = world.call("revert_commit", revert_args(&bad, &bad, &["catalog.py"])).await.unwrap_err();
    assert!(refused.code == Code::Conflict && refused.message.contains("somebody committed"), "{refused}");
    let branch = world.call("get_branch", json!({ "repo": "dags", "reverted": bad })).await.unwrap();
    assert_eq!((&branch["ok"], world.state()), (&json!(false), before));
}

#[tokio::test]
async fn an_act_is_taken_back_by_the_same_tool() {
    let world = World::new();
    let bad = world.break_it();
    let made = world.revert(&bad).await.unwrap()["head"].as_str().unwrap().to_owned();
    let mut args = revert_args(&made, &made, &["catalog.py"]);
    args["own"] = true.into();
    let undone = world.call("revert_commit", args.clone()).await.unwrap();
    assert_eq!((&undone["changed"], world.read("catalog.py").as_str()), (&json!(true), BROKEN_DAG));
    assert_eq!(world.call("revert_commit", args).await.unwrap()["head"], undone["head"], "once");
}

/// What goes without a person takes back nothing but the server's own newest commit.
#[tokio::test]
async fn own_is_the_server_s_to_hold() {
    let world = World::new();
    let bad = world.break_it();
    let refused = |world: &World, commit: &str| {
        let mut args = revert_args(commit, &world.head(), &["catalog.py"]);
        args["own"] = true.into();
        let (before, call) = (world.state(), args);
        let world_ = world.all.clone();
        async move {
            (before, super::super::revert::revert_commit(world_, serde_json::from_value(call).unwrap(), None).await)
        }
    };
    let (before, error) = refused(&world, &bad).await;
    assert_eq!((error.unwrap_err().code, world.state()), (Code::Denied, before), "a person's commit");
    let made = world.revert(&bad).await.unwrap()["head"].as_str().unwrap().to_owned();
    world.write("etl_common.py", "def check():\n    pass\n");
    world.commit("on top");
    let (before, error) = refused(&world, &made).await;
    assert_eq!((error.unwrap_err().code, world.state()), (Code::Denied, before), "somebody built on it");
}

/// Each of these leaves everything exactly as it was.
async fn check_refused(world: &World, args: Value, expected: (Code, &str)) {
    let before = world.state();
    let refused = world.call("revert_commit", args).await.unwrap_err();
    assert_eq!((refused.code, world.state()), (expected.0, before), "{refused}");
    assert!(refused.message.contains(expected.1), "{refused}");
}

#[tokio::test]
async fn what_is_not_as_the_caller_saw_it_is_left_alone() {
    let world = World::new();
    let first = world.head();
    let bad = world.break_it();
    let args = |files: &[&str]| revert_args(&bad, &bad, files);
    check_refused(&world, revert_args(&bad, &first, &["catalog.py"]), (Code::Conflict, "the call expected")).await;
    check_refused(&world, args(&["catalog.py", "etl_common.py"]), (Code::Conflict, "it would change catalog.py")).await;
    let mut staging = args(&["catalog.py"]);
    staging["environment"] = "staging".into();
    check_refused(&world, staging, (Code::Denied, "runs in `production`")).await;
    check_refused(&world, revert_args(&bad[..12], &bad, &["catalog.py"]), (Code::InvalidArguments, "40 hexadecimal"))
        .await;
    let nobody = "0".repeat(40);
    check_refused(&world, revert_args(&nobody, &bad, &["catalog.py"]), (Code::NotFound, "has no commit")).await;
    check_refused(&world, revert_args(&first, &bad, &["catalog.py"]), (Code::Conflict, "first commit")).await;
    world.write("etl_common.py", "changed\n");
    check_refused(&world, args(&["catalog.py"]), (Code::Conflict, "not committed")).await;
    world.git(&["add", "-A"]);
    check_refused(&world, args(&["catalog.py"]), (Code::Conflict, "not committed")).await;
    world.git(&["checkout", "-q", "HEAD", "--", "."]);
    world.git(&["checkout", "-q", "--detach"]);
    check_refused(&world, args(&["catalog.py"]), (Code::Conflict, "does not show `main`")).await;
}

#[tokio::test]
async fn what_is_in_the_way_is_found_before_anything_is_touched() {
    let world = World::new();
    let bad = world.break_it();
    world.write("catalog.py", &BROKEN_DAG.replace("check_contract", "check_agreement"));
    let later = world.commit("catalog: another name");
    check_refused(
        &world,
        revert_args(&bad, &later, &["catalog.py"]),
        (Code::Conflict, "later commits changed the same lines"),
    )
    .await;
    let seen = world.call("preview_revert", json!({ "repo": "dags", "commit": bad })).await.unwrap();
    assert!(!seen["clean"].as_bool().unwrap() && seen["why"].as_str().unwrap().contains("same lines"), "{seen}");
    // A file that nobody tracks lies where the reversal would put one.
    let world = World::new();
    std::fs::remove_file(world.root().join("etl_common.py")).unwrap();
    let gone = world.commit("common: not needed");
    world.write("etl_common.py", "mine\n");
    check_refused(&world, revert_args(&gone, &gone, &["etl_common.py"]), (Code::Conflict, "all is as it was")).await;
    // Somebody's Git holds the index.
    let world = World::new();
    let bad = world.break_it();
    world.write(".git/index.lock", "");
    check_refused(&world, revert_args(&bad, &bad, &["catalog.py"]), (Code::Conflict, "all is as it was")).await;
    // Somebody is in the middle of a merge.
    let world = World::new();
    let bad = world.break_it();
    world.write(".git/MERGE_HEAD", &format!("{bad}\n"));
    check_refused(&world, revert_args(&bad, &bad, &["catalog.py"]), (Code::Conflict, "in the middle of something"))
        .await;
}

#[tokio::test]
async fn the_installation_s_limits_hold() {
    let off = World::with(|declared| declared.revert = Revert::Off);
    let bad = off.break_it();
    check_refused(&off, revert_args(&bad, &bad, &["catalog.py"]), (Code::Denied, "only read here")).await;
    let world = World::new();
    world.write("catalog.py", BROKEN_DAG);
    world.write("deploy.sh", "rm -rf /\n");
    let both = world.commit("more than code");
    let files = ["catalog.py", "deploy.sh"];
    check_refused(&world, revert_args(&both, &both, &files), (Code::Denied, "`deploy.sh`, which may not be touched"))
        .await;
    let world = World::new();
    let bad = world.break_it();
    let mut head = bad.clone();
    for n in 0..4 {
        world.write("etl_common.py", &format!("n = {n}\n"));
        head = world.commit("later");
    }
    check_refused(&world, revert_args(&bad, &head, &["catalog.py"]), (Code::Denied, "4 commits came after")).await;
    let world = World::new();
    world.write("catalog.py", BROKEN_DAG);
    world.git(&["add", "-A"]);
    let old = world.git_with(&["commit", "-q", "-m", "long ago"], &[("GIT_COMMITTER_DATE", "2020-01-01T00:00:00Z")]);
    assert!(old.status.success());
    check_refused(
        &world,
        revert_args(&world.head(), &world.head(), &["catalog.py"]),
        (Code::Denied, "older than 7 days"),
    )
    .await;
}

#[tokio::test]
async fn a_merge_is_a_person_s_decision() {
    let world = World::new();
    world.git(&["checkout", "-q", "-b", "side"]);
    world.break_it();
    world.git(&["checkout", "-q", "main"]);
    world.git(&["merge", "-q", "--no-ff", "-m", "merge side", "side"]);
    let merge = world.head();
    check_refused(&world, revert_args(&merge, &merge, &["catalog.py"]), (Code::Conflict, "joins branches")).await;
    world.git(&["checkout", "-q", "-b", "other"]);
    world.write("catalog.py", "x = 1\n");
    let elsewhere = world.commit("elsewhere");
    world.git(&["checkout", "-q", "main"]);
    check_refused(&world, revert_args(&elsewhere, &merge, &["catalog.py"]), (Code::Conflict, "no part of `main`"))
        .await;
}

/// What two people do at once: the branch is set only if it still is where it was, so the other's commit stays.
async fn loses_another_s_commit(compares: bool) -> bool {
    let world = World::new();
    let bad = world.break_it();
    let git = world.all.git("dags").unwrap().writing();
    let repo: Repo<'_> = world.all.repo("dags", &git).unwrap();
    let reversal = work_out(&repo, repo.commit(&bad).await.unwrap(), &bad).await.unwrap();
    let made = world.git(&["commit-tree", &reversal.tree, "-p", &bad, "-m", "revert"]);
    world.write("etl_common.py", "theirs = 1\n");
    let theirs = world.commit("theirs, meanwhile");
    let before = world.state();
    if compares {
        let refused = put_in_place(&repo, (&bad, &made)).await.unwrap_err();
        assert_eq!((refused.code, world.state()), (Code::Conflict, before));
    } else {
        world.git(&["update-ref", "refs/heads/main", &made]);
    }
    !world.git(&["log", "--format=%H"]).contains(&theirs)
}

#[tokio::test]
async fn who_commits_meanwhile_loses_nothing() {
    assert!(!loses_another_s_commit(true).await);
    assert!(loses_another_s_commit(false).await, "without the comparison the other's commit is gone");
}

/// Ten at once: one reversal, and all are told of it.
#[tokio::test]
async fn many_calls_at_once_are_one_reversal() {
    let world = World::new();
    let bad = world.break_it();
    let args = revert_args(&bad, &bad, &["catalog.py"]);
    let calls = (0..10).map(|_| world.call("revert_commit", args.clone()));
    let made: Vec<Value> = futures_util::future::join_all(calls).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(made.iter().filter(|made| made["changed"] == true).count(), 1);
    assert!(made.iter().all(|made| made["head"] == world.head()));
    assert_eq!(world.git(&["rev-list", "--count", "HEAD"]), "3");
}
