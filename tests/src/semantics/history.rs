//! Time travel, several runs on one thread, versions of graphs, recovery.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use expect_test::expect;
use runtime::EngineFault;
use runtime_core::effect::Refusal;
use runtime_core::event::Edit;
use runtime_core::ids::{CheckpointId, RunId, ThreadId};
use runtime_core::record::{Durability, Multitask, Outcome, RunOptions};
use serde_json::{Value, json};

use crate::lab::*;
use crate::strict_store::{Death, Disk, StrictStore};

const CHAIN: &str = "
graph: chain
state: {log: {merge: append}}
nodes:
  a: {function: name, then: b}
  b: {function: name, then: c}
  c: {function: name, then: end}
start: a
";

fn chain(lab: &mut Lab) {
    lab.graph(CHAIN).function("name", |ctx| async move {
        let node = ctx.node()?.name.clone();
        out(json!({"log": [node]}))
    });
}

#[test]
fn b52_a_replay_makes_a_branch_and_keeps_the_old_one() {
    on_every_store(|mut lab| async move {
        chain(&mut lab);
        assert_eq!(lab.start(json!({})).await, Outcome::Success);
        let old: Vec<CheckpointId> = lab.history().await.iter().map(|c| c.id).collect();
        assert_eq!(old.len(), 5);
        lab.ran();
        let at = lab.before("b").await;
        assert_eq!(lab.replay(at).await, Some(Outcome::Success));
        assert_eq!(lab.ran(), "b c");
        let all = lab.history().await;
        assert_eq!(all.len(), 8);
        assert!(old.iter().zip(&all).all(|(old, now)| *old == now.id), "old ids stay");
        assert_eq!((all[5].parent, all[5].frame.source), (Some(at), runtime_core::record::Source::Fork));
        assert_eq!(lab.live().await.checkpoint, all[7].id, "the head is the new tip");
        assert!(all.windows(2).all(|pair| pair[0].id < pair[1].id), "ids sort by creation");
        expect![[r#"
            -1 input [__start__] {}
            0 loop [a] {}
            1 loop [b] {"log":["a"]}
            2 loop [c] {"log":["a","b"]}
            3 loop [] {"log":["a","b","c"]}
            2 fork [b] {"log":["a"]}
            3 loop [c] {"log":["a","b"]}
            4 loop [] {"log":["a","b","c"]}
        "#]]
        .assert_eq(&lab.history_text().await);
    });
}

#[test]
fn b53_replaying_a_final_checkpoint_does_nothing() {
    on_every_store(|mut lab| async move {
        chain(&mut lab);
        assert_eq!(lab.start(json!({})).await, Outcome::Success);
        lab.ran();
        let last = lab.live().await.checkpoint;
        assert_eq!(lab.replay(last).await, None);
        assert_eq!((lab.ran(), lab.history().await.len()), (String::new(), 5));
    });
}

#[test]
fn b54_two_forks_of_one_checkpoint_hold_their_own_edit() {
    on_every_store(|mut lab| async move {
        chain(&mut lab);
        assert_eq!(lab.start(json!({})).await, Outcome::Success);
        let at = lab.before("b").await;
        for edit in ["one", "two"] {
            lab.update_at(json!({"log": [edit]}), None, Some(at)).await.unwrap();
            assert_eq!(lab.resume().await, Outcome::Success);
            assert_eq!(lab.values().await["log"], json!(["a", edit, "b", "c"]));
        }
    });
}

#[test]
fn b57_a_fork_never_applies_what_the_old_branch_wrote() {
    on_every_store(|mut lab| async move {
        lab.graph(
            "
graph: sums
state: {x: {merge: sum}}
nodes:
  a: {function: a, then: b}
  b: {function: b, then: end}
start: a
",
        );
        lab.writes("a", json!({"x": 10})).writes("b", json!({"x": 100}));
        assert_eq!(lab.start(json!({"x": 1})).await, Outcome::Success);
        assert_eq!(lab.values().await, json!({"x": 111}));
        let at = lab.before("a").await;
        lab.update_at(json!({"x": 20}), Some("a"), Some(at)).await.unwrap();
        assert_eq!(lab.live().await.next, ["b"]);
        assert_eq!(lab.resume().await, Outcome::Success);
        assert_eq!(lab.values().await, json!({"x": 121}));
    });
}

#[test]
fn a_replay_of_the_input_runs_the_whole_graph_and_asks_with_new_ids() {
    on_every_store(|mut lab| async move {
        lab.graph(CHAIN).function("name", |ctx| async move {
            let node = ctx.node()?.name.clone();
            if node == "b" {
                ask(&ctx, "sure?").await?;
            }
            out(json!({"log": [node]}))
        });
        assert_eq!(lab.start(json!({"log": ["in"]})).await, Outcome::Interrupted);
        let first = lab.open().await.remove(0);
        assert_eq!(lab.answer_all(json!(1)).await, Outcome::Success);
        lab.ran();
        let input = lab.history().await[0].id;
        assert_eq!(lab.replay(input).await, Some(Outcome::Interrupted));
        assert_eq!(lab.ran(), "a b", "recorded answers of the old branch are not used");
        let second = lab.open().await.remove(0);
        assert_ne!(first.id, second.id);
        assert_eq!(lab.answer_all(json!(1)).await, Outcome::Success);
        assert_eq!(lab.values().await["log"], json!(["in", "a", "b", "c"]));
    });
}

#[test]
fn a_resume_at_the_head_is_a_resume_and_an_unknown_checkpoint_is_named() {
    on_every_store(|mut lab| async move {
        lab.graph(
            "{graph: two, state: {log: {merge: append}}, nodes: {a: {function: a, then: end}, b: {function: b, then: end}}, start: [a, b]}",
        );
        lab.writes("a", json!({"log": ["a"]})).node("b", |_, bench| async move {
            if bench.count("b") == 1 { fatal("boom") } else { out(json!({"log": ["b"]})) }
        });
        assert!(matches!(lab.start(json!({})).await, Outcome::Failed(_)));
        let head = lab.live().await.checkpoint;
        lab.ran();
        assert_eq!(lab.replay(head).await, Some(Outcome::Success));
        assert_eq!(lab.ran(), "b", "finished tasks are not run again");
        let (engine, thread) = (lab.engine(), lab.thread.clone());
        let missing = engine.replay(&thread, CheckpointId(5), RunOptions::default()).await.err().unwrap();
        assert!(missing.to_string().contains("no such checkpoint"), "{missing}");
    });
}

#[test]
fn an_update_as_a_node_follows_its_routing_and_end_clears_what_is_left() {
    on_every_store(|mut lab| async move {
        lab.graph(
            "
graph: routed
state: {n: {default: 0}}
nodes:
  a: {function: a, then: [{when: \"n > 5\", to: big}, {to: small}]}
  big: {function: a, then: end}
  small: {function: a, then: end}
start: a
",
        );
        lab.writes("a", json!({}));
        assert_eq!(lab.start_with(json!({}), pause_before(&["a"])).await, Outcome::Interrupted);
        for (n, next) in [(9, "big"), (1, "small")] {
            lab.update(json!({"n": n}), Some("a")).await;
            assert_eq!(lab.live().await.next, [next]);
        }
        lab.update(json!({"n": 7}), Some("__start__")).await;
        assert_eq!(lab.live().await.next, ["a"]);
        let refused = lab.update_at(json!({}), Some("bigg"), None).await.unwrap_err();
        assert!(refused.to_string().contains("did you mean `big`?"), "{refused}");
        lab.update(Value::Null, Some("end")).await;
        assert_eq!((lab.live().await.next.len(), lab.resume().await), (0, Outcome::Success));
    });
}

#[test]
fn a_bulk_update_replays_a_whole_history() {
    on_every_store(|mut lab| async move {
        chain(&mut lab);
        assert_eq!(lab.start(json!({})).await, Outcome::Success);
        let wanted = lab.values().await;
        lab.thread = ThreadId::new("copy").unwrap();
        assert_eq!(lab.start_with(json!({}), pause_before(&["a"])).await, Outcome::Interrupted);
        let edit = |node: &str| vec![Edit { values: json!({"log": [node]}), as_node: Some(node.into()) }];
        let (engine, thread) = (lab.engine(), lab.thread.clone());
        engine.bulk_update(&thread, vec![edit("a"), edit("b"), edit("c")]).await.unwrap();
        assert_eq!((lab.values().await, lab.history().await.len()), (wanted, 5));
        assert!(lab.live().await.next.is_empty());
    });
}

fn slow_chain(lab: &mut Lab) {
    lab.graph(CHAIN).node("name", |ctx, bench| async move {
        let node = ctx.node()?.name.clone();
        let who = ctx.get("log")[0].as_str().unwrap_or("").to_owned();
        bench.mark(&format!("{who} at {node}"));
        if who == "first" && node == "a" {
            bench.after("go on").await;
        }
        out(json!({"log": [node]}))
    });
}

fn with(multitask: Multitask) -> RunOptions {
    RunOptions { multitask, ..RunOptions::default() }
}

#[test]
fn x03_a_second_run_is_refused_queued_or_supersedes() {
    on_every_store(|mut lab| async move {
        slow_chain(&mut lab);
        lab.load_graphs().await;
        let engine = lab.engine();
        let first = engine.start(lab.what(json!({"log": ["first"]}), RunOptions::default())).await.unwrap();
        lab.bench.after("first at a").await;
        let refused = engine.start(lab.what(json!({}), with(Multitask::Reject))).await.err().unwrap();
        assert!(matches!(refused, EngineFault::Refused(Refusal::Busy { run }) if run == first.run), "{refused}");
        let queued =
            engine.start(lab.what(json!({"log": {"$overwrite": ["second"]}}), with(Multitask::Queue))).await.unwrap();
        assert_eq!(lab.state().await.queue.len(), 1, "durable before it is told");
        lab.bench.mark("go on");
        let (first_id, queued_id) = (first.run, queued.run);
        let first = first.ended().await.unwrap();
        assert_eq!((first.run, first.outcome), (first_id, Outcome::Success));
        let second = queued.ended().await.unwrap();
        assert_eq!((second.run, second.outcome), (queued_id, Outcome::Success));
        assert_eq!(lab.values().await["log"], json!(["second", "a", "b", "c"]));
        assert_eq!(lab.ran(), "a b c a b c");
    });
    on_every_store(|mut lab| async move {
        slow_chain(&mut lab);
        lab.load_graphs().await;
        let engine = lab.engine();
        let first = engine.start(lab.what(json!({"log": ["first"]}), RunOptions::default())).await.unwrap();
        lab.bench.after("first at a").await;
        let queued =
            engine.start(lab.what(json!({"log": {"$overwrite": ["third"]}}), with(Multitask::Queue))).await.unwrap();
        let second = engine
            .start(lab.what(json!({"log": {"$overwrite": ["second"]}}), with(Multitask::Supersede)))
            .await
            .unwrap();
        assert_eq!(first.ended().await.unwrap().outcome, Outcome::Superseded);
        assert_eq!(second.ended().await.unwrap().outcome, Outcome::Success);
        assert_eq!(queued.ended().await.unwrap().outcome, Outcome::Success);
        assert_eq!(lab.values().await["log"], json!(["third", "a", "b", "c"]));
        assert_eq!(lab.ran(), "a a b c a b c", "the first never finished its node");
    });
}

#[test]
fn x03_a_stale_writer_is_fenced() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let disk = Disk::default();
        let mut old = Lab::over(Arc::new(StrictStore::on(&disk)));
        slow_chain(&mut old);
        old.load_graphs().await;
        let running = old.engine().start(old.what(json!({"log": ["first"]}), RunOptions::default())).await.unwrap();
        old.bench.after("first at a").await;
        let mut new = Lab::over(Arc::new(StrictStore::on(&disk)));
        slow_chain(&mut new);
        new.bench.mark("go on");
        new.load_graphs().await;
        assert_eq!(new.engine().recover().await.unwrap(), 1);
        new.quiet().await;
        old.bench.mark("go on");
        let ended = running.ended().await.unwrap();
        assert!(failure(&ended.outcome).contains("another writer is ahead"), "{ended:?}");
        assert_eq!(new.values().await["log"], json!(["first", "a", "b", "c"]));
    });
}

#[test]
fn x04_x05_a_thread_is_pinned_to_its_graph_until_it_is_migrated() {
    let renamed = CHAIN.replace("then: b}", "then: b2}").replace("  b: {", "  b2: {");
    let typed =
        renamed.replace("log: {merge: append}", "log: {merge: append, schema: {type: array, items: {type: integer}}}");
    on_every_store(|mut lab| {
        let (renamed, typed) = (renamed.clone(), typed.clone());
        async move {
            chain(&mut lab);
            assert_eq!(lab.start_with(json!({}), pause_before(&["b"])).await, Outcome::Interrupted);
            lab.ran();
            lab.graph(&renamed);
            let refused = lab.try_start(json!({}), RunOptions::default()).await.unwrap_err();
            assert!(matches!(&refused, EngineFault::Refused(Refusal::Pinned { .. })), "{refused}");
            assert!(refused.to_string().contains("interlock migrate"), "{refused}");
            let (engine, thread) = (lab.engine(), lab.thread.clone());
            let to = lab.main_graph();
            let unnamed = engine.migrate(&thread, Arc::clone(&to), BTreeMap::new()).await.unwrap_err();
            expect!["cannot migrate: the thread stands on node `b`, and the new graph has no `b`; did you mean `a`?; use --rename b=NEW"].assert_eq(&unnamed.to_string());
            let renames = BTreeMap::from([("b".into(), "b2".into())]);
            let misfit = engine.migrate(&thread, compile(&typed), renames.clone()).await.unwrap_err();
            assert!(misfit.to_string().contains("channel `log` does not fit"), "{misfit}");
            engine.migrate(&thread, to, renames).await.unwrap();
            assert_eq!(lab.live().await.next, ["b2"]);
            assert_eq!(lab.resume().await, Outcome::Success);
            assert_eq!(lab.values().await["log"], json!(["a", "b2", "c"]));
        }
    });
}

#[test]
fn x04_a_pinned_thread_goes_on_with_its_own_version() {
    let changed = CHAIN
        .replace("c: {function: name, then: end}", "c: {function: name, then: d}\n  d: {function: name, then: end}");
    on_every_store(|mut lab| {
        let changed = changed.clone();
        async move {
            chain(&mut lab);
            assert_eq!(lab.start_with(json!({}), pause_before(&["b"])).await, Outcome::Interrupted);
            let store = Arc::clone(&lab.store);
            lab.restart_over(store);
            lab.graph(&changed);
            assert_eq!(lab.resume().await, Outcome::Success, "the old version comes from the store");
            assert_eq!(lab.ran(), "a b c");
            lab.thread = ThreadId::new("new").unwrap();
            assert_eq!(lab.start(json!({})).await, Outcome::Success);
            assert_eq!(lab.ran(), "a b c d");
        }
    });
}

#[test]
fn x04_a_migration_renames_pending_questions_and_routes_too() {
    let before = "
graph: m
state: {log: {merge: append}}
nodes:
  a: {function: a, then: after}
  b: {function: b, then: after}
  after: {function: after, then: end}
start: [a, b]
";
    let after = before
        .replace("after", "later")
        .replace("function: later", "function: after")
        .replace("  b: {", "  bee: {")
        .replace("[a, b]", "[a, bee]");
    on_every_store(|mut lab| {
        let after = after.clone();
        async move {
            lab.graph(before).writes("a", json!({"log": ["a"]})).writes("after", json!({"log": ["after"]}));
            lab.function("b", |ctx| async move {
                let answer = ask(&ctx, "b?").await?;
                out(json!({"log": [answer]}))
            });
            assert_eq!(lab.start(json!({})).await, Outcome::Interrupted);
            let question = lab.open().await.remove(0);
            lab.graph(&after);
            let (engine, thread, to) = (lab.engine(), lab.thread.clone(), lab.main_graph());
            let only = BTreeMap::from([("b".into(), "bee".into())]);
            let refused = engine.migrate(&thread, Arc::clone(&to), only).await.unwrap_err();
            assert!(refused.to_string().contains("`after`"), "where finished tasks lead counts: {refused}");
            let both = BTreeMap::from([("b".into(), "bee".into()), ("after".into(), "later".into())]);
            engine.migrate(&thread, to, both).await.unwrap();
            assert_eq!(&*lab.open().await[0].node, "bee");
            let (_, ended) = lab.answer(vec![yes(&question, json!("yes"))]).await.unwrap();
            assert_eq!(ended.unwrap().outcome, Outcome::Success);
            assert_eq!(lab.values().await["log"], json!(["a", "yes", "after"]));
        }
    });
}

#[test]
fn x21_an_accepted_run_survives_a_kill_in_every_mode() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for durability in [Durability::Sync, Durability::Async, Durability::Exit] {
        runtime.block_on(async {
            let disk = Disk::default();
            let mut lab = Lab::over(Arc::new(StrictStore::dying(&disk, Death::Before(2))));
            chain(&mut lab);
            lab.load_graphs().await;
            let options = RunOptions { durability, ..RunOptions::default() };
            let running = lab.engine().start(lab.what(json!({}), options)).await.expect("accepted");
            let run: RunId = running.run;
            drop(running.ended().await);
            lab.restart_over(Arc::new(StrictStore::on(&disk)));
            lab.load_graphs().await;
            assert_eq!(lab.engine().recover().await.unwrap(), 1, "{durability:?}");
            lab.quiet().await;
            assert_eq!(lab.values().await["log"], json!(["a", "b", "c"]));
            assert_eq!(lab.state().await.run.unwrap().id, run);
        });
    }
}

#[test]
fn the_modes_of_durability_end_in_one_state() {
    for durability in [Durability::Sync, Durability::Async, Durability::Exit] {
        on_every_store(|mut lab| async move {
            chain(&mut lab);
            let options = RunOptions { durability, ..RunOptions::default() };
            assert_eq!(lab.start_with(json!({}), options).await, Outcome::Success);
            let store = Arc::clone(&lab.store);
            lab.restart_over(store);
            assert_eq!(lab.values().await["log"], json!(["a", "b", "c"]));
            assert_eq!(lab.history().await.len(), 5, "exit writes later, not less");
        });
    }
}

#[test]
fn a_cancelled_run_stops_at_once_and_can_go_on() {
    on_every_store(|mut lab| async move {
        slow_chain(&mut lab);
        lab.load_graphs().await;
        let (engine, thread) = (lab.engine(), lab.thread.clone());
        let running = engine.start(lab.what(json!({"log": ["first"]}), RunOptions::default())).await.unwrap();
        lab.bench.after("first at a").await;
        engine.cancel(&thread, "changed my mind").await.unwrap();
        assert_eq!(running.ended().await.unwrap().outcome, Outcome::Cancelled);
        let live = lab.live().await;
        assert_eq!((live.values, live.next.join(" ")), (json!({"log": ["first"]}), "a".to_owned()));
        lab.bench.mark("go on");
        assert_eq!(lab.resume().await, Outcome::Success);
    });
}

#[test]
fn waits_and_signals_are_durable() {
    on_every_store(|mut lab| async move {
        lab.graph(
            "
graph: waits
state: {log: {merge: append}}
nodes:
  pause: {wait: 10m, then: hear}
  hear: {wait: {signal: go, for: 1h, on_timeout: late}, output: {log: \"[result]\"}, then: done}
  late: {set: {log: [late]}, then: end}
  done: {set: {log: [done]}, then: end}
start: pause
",
        );
        for (thread, signalled) in [("heard", true), ("late", false)] {
            lab.thread = ThreadId::new(thread).unwrap();
            assert_eq!(lab.start(json!({})).await, Outcome::Waiting);
            let store = Arc::clone(&lab.store);
            lab.restart_over(store);
            lab.clock.advance(Duration::from_secs(599));
            lab.fire().await;
            assert_eq!(lab.live().await.next, ["pause"], "not early");
            lab.clock.advance(Duration::from_secs(1));
            lab.fire().await;
            assert_eq!(lab.live().await.next, ["hear"]);
            let (engine, id) = (lab.engine(), lab.thread.clone());
            if signalled {
                engine.signal(&id, "other".into(), json!(0)).await.unwrap();
                engine.signal(&id, "go".into(), json!("now")).await.unwrap();
            } else {
                lab.clock.advance(Duration::from_secs(3600));
                lab.fire().await;
            }
            lab.quiet().await;
            let log = if signalled { json!(["now", "done"]) } else { json!([null, "late"]) };
            assert_eq!(lab.values().await["log"], log);
        }
    });
}

#[test]
fn a_signal_that_came_early_is_kept() {
    on_every_store(|mut lab| async move {
        lab.graph("{graph: s, state: {x: {}}, nodes: {hear: {wait: {signal: go}, output: x, then: end}}, start: hear}");
        let (engine, id) = (lab.engine(), lab.thread.clone());
        assert!(engine.signal(&id, "go".into(), json!(1)).await.is_err(), "no such thread");
        assert_eq!(lab.start_with(json!({}), pause_before(&["hear"])).await, Outcome::Interrupted);
        engine.signal(&id, "go".into(), json!(1)).await.unwrap();
        assert_eq!(lab.resume().await, Outcome::Success);
        assert_eq!(lab.values().await, json!({"x": 1}));
    });
}
