//! Further cases of the same rules: combinations that the rows do not name.

use std::collections::BTreeMap;
use std::sync::Arc;

use graphs::EffectClass;
use runtime::CallSpec;
use runtime_core::event::{Goto, NodeOutput};
use runtime_core::ids::ThreadId;
use runtime_core::record::{CallKind, Durability, Hop, Outcome, RunOptions};
use runtime_core::stream::Mode;
use serde_json::{Value, json};

use crate::lab::*;

#[test]
fn a_drain_in_a_child_lets_its_sibling_finish() {
    on_every_store(|mut lab| async move {
        lab.graph("{graph: child, state: {log: {merge: append}}, nodes: {one: {function: one, then: two}, two: {function: name, then: end}}, start: one}");
        lab.graph(
            "
graph: parent
state: {log: {merge: append}}
nodes:
  sub: {graph: child, output: {log: result.log}, then: end}
  beside: {function: beside, then: end}
start: [sub, beside]
",
        );
        lab.function("name", |ctx| async move { out(json!({"log": [ctx.node()?.name]})) });
        lab.node("one", |_, bench| async move {
            bench.mark("in one");
            bench.after("drained").await;
            out(json!({"log": ["one"]}))
        });
        lab.node("beside", |_, bench| async move {
            bench.after("drained").await;
            for _ in 0..200 {
                tokio::task::yield_now().await;
            }
            out(json!({"log": ["beside"]}))
        });
        lab.load_graphs().await;
        let (engine, thread) = (lab.engine(), lab.thread.clone());
        let running = engine.start(lab.what(json!({}), RunOptions::default())).await.unwrap();
        lab.bench.after("in one").await;
        engine.drain(&thread).await.unwrap();
        lab.bench.mark("drained");
        assert_eq!(running.ended().await.unwrap().outcome, Outcome::Drained);
        assert_eq!(lab.live().await.next, ["sub"], "the sibling has finished");
        lab.ran();
        assert_eq!(lab.resume().await, Outcome::Success);
        assert_eq!((lab.ran(), lab.values().await["log"].clone()), ("two".to_owned(), json!(["one", "two", "beside"])));
    });
}

#[test]
fn a_starved_join_in_a_child_is_the_childs_failure() {
    on_every_store(|mut lab| async move {
        lab.graph("{graph: child, nodes: {a: {function: a, then: [l, r]}, l: {function: noop}, r: {function: noop}, j: {function: noop, after: [l, r], then: end}}, start: a}");
        lab.graph(
            "
graph: parent
state: {log: {merge: append}}
nodes:
  sub: {graph: child, on_error: rescue, then: end}
  rescue: {function: rescue, then: end}
start: sub
",
        );
        lab.writes("noop", json!({})).function("a", |_| async { goto(json!({}), &["l"]) });
        lab.function("rescue", |ctx| async move { out(json!({"log": [ctx.var("error")["message"]]})) });
        assert_eq!(lab.start(json!({})).await, Outcome::Success);
        assert!(lab.values().await["log"][0].as_str().unwrap().starts_with("join `j` waits for r"));
    });
}

#[test]
fn a_starved_thread_stays_starved_until_it_is_edited() {
    on_every_store(|mut lab| async move {
        lab.graph("{graph: g, nodes: {a: {function: a, then: [l, r]}, l: {function: noop}, r: {function: noop}, j: {function: noop, after: [l, r], then: end}}, start: a}");
        lab.writes("noop", json!({})).function("a", |_| async { goto(json!({}), &["l"]) });
        for outcome in [lab.start(json!({})).await, lab.resume().await] {
            assert!(failure(&outcome).contains("waits for r"), "{outcome:?}");
        }
        lab.ran();
        lab.update(Value::Null, Some("r")).await;
        assert_eq!(lab.live().await.next, ["j"]);
        assert_eq!((lab.resume().await, lab.ran()), (Outcome::Success, "j".to_owned()));
    });
}

#[test]
fn a_node_that_is_run_by_an_edge_waits_anew_for_its_sources() {
    on_every_store(|mut lab| async move {
        lab.graph(
            "
graph: g
state: {log: {merge: append}}
nodes:
  a: {function: bad, on_error: rescue}
  b: {function: name}
  j: {function: name, after: [a, b], then: end}
  rescue: {function: name, then: j}
start: [a, b]
",
        );
        lab.function("name", |ctx| async move { out(json!({"log": [ctx.node()?.name]})) });
        lab.function("bad", |_| async { fatal("boom") });
        assert_eq!(lab.start(json!({})).await, Outcome::Success);
        assert_eq!(
            lab.values().await["log"],
            json!(["b", "rescue", "j"]),
            "a handled failure arms no join; j runs once"
        );
    });
}

#[test]
fn subgraphs_in_subgraphs_ask_answer_and_restart() {
    on_every_store(|mut lab| async move {
        lab.graph("{graph: inner, state: {log: {merge: append}}, nodes: {q: {function: q, then: end}}, start: q}");
        lab.graph("{graph: middle, state: {log: {merge: append}}, nodes: {in: {graph: inner, output: {log: result.log}, then: after}, after: {set: {log: [middle]}, then: end}}, start: in}");
        lab.graph("{graph: outer, state: {log: {merge: append}}, nodes: {mid: {graph: middle, output: {log: result.log}, then: end}}, start: mid}");
        lab.function("q", |ctx| async move {
            let answer = ask(&ctx, "deep?").await?;
            out(json!({"log": [answer]}))
        });
        assert_eq!(lab.start(json!({})).await, Outcome::Interrupted);
        let live = lab.live().await;
        assert_eq!((live.interrupts.len(), live.tasks[0].children.len()), (1, 2));
        let ns = lab.open().await[0].ns.to_string();
        assert!(ns.starts_with("mid:") && ns.contains("|in:"), "{ns}");
        let store = Arc::clone(&lab.store);
        lab.restart_over(store);
        assert_eq!(lab.answer_all(json!("yes")).await, Outcome::Success);
        assert_eq!(lab.values().await["log"], json!(["yes", "middle"]));
    });
}

#[test]
fn a_map_bounds_its_tasks() {
    on_every_store(|mut lab| async move {
        lab.graph(
            "
graph: bounded
state: {log: {merge: append}}
nodes:
  fan: {map: {over: \"range(12)\", as: n, index: i, to: work, max_concurrency: 3}}
  work: {function: work}
start: fan
",
        );
        let now = Arc::new(std::sync::atomic::AtomicI32::new(0));
        lab.node("work", move |ctx, bench| {
            let now = Arc::clone(&now);
            async move {
                let at_once = now.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
                bench.act(&at_once.to_string());
                for _ in 0..10 {
                    tokio::task::yield_now().await;
                }
                now.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                out(json!({"log": [ctx.var("i")]}))
            }
        });
        assert_eq!(lab.start(json!({})).await, Outcome::Success);
        let most = lab.bench.acts().iter().map(|n| n.parse::<i32>().unwrap()).max();
        assert_eq!((most, lab.values().await["log"].clone()), (Some(3), json!((0..12).collect::<Vec<_>>())));
    });
}

#[test]
fn a_long_thread_with_snapshots_is_read_back_and_replayed() {
    on_every_store(|mut lab| async move {
        lab.graph(
            "
graph: long
state: {log: {merge: append}, n: {merge: sum, default: 0}}
nodes: {work: {function: work, then: [{when: \"n >= 40\", to: end}, {to: work}]}}
start: work
",
        );
        lab.function("work", |ctx| async move {
            out(json!({"log": [format!("{}{}", ctx.get("n"), "x".repeat(4000))], "n": 1}))
        });
        assert_eq!(lab.start(json!({})).await, Outcome::Success);
        let wanted = lab.values().await;
        let all = lab.history().await;
        assert_eq!(all.len(), 42);
        let log = lab.store.records(&lab.thread, runtime_core::ids::Seq(1), 1000).await.unwrap();
        let snapshots = log
            .iter()
            .flat_map(|(_, record)| &record.ops)
            .filter(|op| matches!(op, runtime_core::record::Op::Snapshot(_)));
        assert!(snapshots.count() >= 2, "the case needs snapshots");
        let store = Arc::clone(&lab.store);
        lab.restart_over(store);
        assert_eq!(lab.values().await, wanted);
        let at = all[20].id;
        lab.ran();
        assert_eq!(lab.replay(at).await, Some(Outcome::Success));
        assert_eq!((lab.ran().split(' ').count(), lab.values().await), (40 - 19, wanted));
    });
}

/// A snapshot holds the journals of running tasks. If their weight were left out, each 32 KiB of results would bring one more
/// copy of all results before it: here about fifty.
#[test]
fn a_task_with_many_calls_is_not_copied_again_and_again() {
    on_every_store(|mut lab| async move {
        lab.graph("{graph: g, state: {n: {}}, nodes: {work: {function: work, then: end}}, start: work}");
        lab.function("work", |ctx| async move {
            for n in 0..400 {
                let spec = CallSpec::new(CallKind::Custom, "read", json!({"n": n}), EffectClass::ReadOnly);
                ctx.call(spec, |_| async { Ok(json!("x".repeat(4000))) }).await?;
            }
            out(json!({"n": 400}))
        });
        assert_eq!(lab.start(json!({})).await, Outcome::Success);
        let log = lab.store.records(&lab.thread, runtime_core::ids::Seq(1), 10_000).await.unwrap();
        let ops = log.iter().flat_map(|(_, record)| &record.ops);
        let snapshots = ops.filter(|op| matches!(op, runtime_core::record::Op::Snapshot(_))).count();
        assert!((2..=10).contains(&snapshots), "{snapshots} snapshots");
    });
}

#[test]
fn a_kept_child_follows_its_renamed_node() {
    let before = "
graph: parent
state: {seen: {merge: append}}
nodes:
  sub: {graph: child, scope: thread, output: {seen: \"[result.n]\"}, then: end}
start: sub
";
    on_every_store(|mut lab| async move {
        lab.graph("{graph: child, state: {n: {merge: sum}}, nodes: {add: {function: add, then: end}}, start: add}");
        lab.graph(before).writes("add", json!({"n": 1}));
        assert_eq!(lab.start(json!({})).await, Outcome::Success);
        lab.graph(&before.replace("sub", "kid"));
        let (engine, thread, to) = (lab.engine(), lab.thread.clone(), lab.main_graph());
        engine.migrate(&thread, to, BTreeMap::from([("sub".into(), "kid".into())])).await.unwrap();
        assert_eq!(lab.start(json!({})).await, Outcome::Success);
        assert_eq!(lab.values().await["seen"], json!([1, 2]));
    });
}

#[test]
fn a_goto_ends_a_branch_and_also_keeps_the_edges() {
    for (also, to, ran) in
        [(false, vec![], "a"), (true, vec!["c"], "a b c"), (false, vec!["c"], "a c"), (true, vec!["b"], "a b")]
    {
        on_every_store(|mut lab| {
            let to = to.clone();
            async move {
                lab.graph("{graph: g, nodes: {a: {function: a, then: [b]}, b: {function: noop, then: [{when: \"false\", to: c}, {to: end}]}, c: {function: noop, then: end}}, start: a}");
                lab.writes("noop", json!({})).function("a", move |_| {
                    let to = to.iter().map(|name: &&str| Hop::Node((*name).into())).collect();
                    async move { Ok(NodeOutput { goto: Some(Goto { to, also, parent: false }), ..NodeOutput::default() }) }
                });
                assert_eq!(lab.start(json!({})).await, Outcome::Success);
                assert_eq!(lab.ran(), ran);
            }
        });
    }
}

#[test]
fn an_edge_and_a_send_to_one_node_run_it_twice() {
    on_every_store(|mut lab| async move {
        lab.graph("{graph: g, nodes: {a: {function: a, then: b}, b: {function: noop, then: end}}, start: a}");
        lab.writes("noop", json!({})).function("a", |_| async { send(json!({}), "b", &[json!(1)]) });
        assert_eq!(lab.start(json!({})).await, Outcome::Success);
        assert_eq!(lab.ran(), "a b b|1");
    });
}

#[test]
fn ephemeral_values_live_for_one_superstep_and_survive_an_answer() {
    on_every_store(|mut lab| async move {
        lab.graph(
            "
graph: g
state: {flash: {merge: ephemeral, default: none}, log: {merge: append}}
nodes:
  a: {function: a, then: b}
  b: {function: b, then: c}
  c: {function: c, then: end}
start: a
",
        );
        lab.writes("a", json!({"flash": "lit"}));
        lab.function("b", |ctx| async move {
            ask(&ctx, "go?").await?;
            out(json!({"log": [ctx.get("flash")]}))
        });
        lab.function("c", |ctx| async move { out(json!({"log": [ctx.get("flash")]})) });
        assert_eq!(lab.start(json!({})).await, Outcome::Interrupted);
        let question = lab.open().await.remove(0);
        let (_, ended) =
            lab.answer_and_update(vec![yes(&question, json!(1))], json!({"log": ["update"]})).await.unwrap();
        assert_eq!(ended.unwrap().outcome, Outcome::Success);
        assert_eq!(lab.values().await["log"], json!(["update", "lit", null]));
    });
}

#[test]
fn one_fails_and_one_asks_the_failure_wins_and_the_question_stays() {
    on_every_store(|mut lab| async move {
        lab.graph("{graph: g, state: {log: {merge: append}}, nodes: {a: {function: a, then: end}, b: {function: b, then: end}}, start: [a, b]}");
        lab.node("a", |_, bench| async move {
            if bench.count("a") == 1 { fatal("boom") } else { out(json!({"log": ["a"]})) }
        });
        lab.function("b", |ctx| async move {
            let answer = ask(&ctx, "b?").await?;
            out(json!({"log": [answer]}))
        });
        assert_eq!(failure(&lab.start(json!({})).await), "node `a`: boom");
        let live = lab.live().await;
        assert_eq!((live.next.join(" "), live.interrupts.len()), ("a b".to_owned(), 1));
        assert_eq!(lab.answer_all(json!("yes")).await, Outcome::Success, "an answer runs the failed task again too");
        assert_eq!(lab.values().await["log"], json!(["a", "yes"]));
    });
}

#[test]
fn two_threads_do_not_see_each_other() {
    on_every_store(|mut lab| async move {
        lab.graph("{graph: g, state: {log: {merge: append}}, nodes: {a: {function: a, then: end}}, start: a}");
        lab.function("a", |ctx| async move {
            let answer = ask(&ctx, "same?").await?;
            out(json!({"log": [answer]}))
        });
        let mut ids = Vec::new();
        for name in ["one", "two"] {
            lab.thread = ThreadId::new(name).unwrap();
            assert_eq!(lab.start(json!({})).await, Outcome::Interrupted);
            ids.push(lab.open().await[0].id);
        }
        assert_ne!(ids[0], ids[1]);
        assert!(lab.answer(vec![by_id(ids[0], json!(1))]).await.is_err(), "a question of another thread");
        assert_eq!(lab.answer_all(json!("two")).await, Outcome::Success);
        lab.thread = ThreadId::new("one").unwrap();
        assert_eq!(lab.answer_all(json!("one")).await, Outcome::Success);
        assert_eq!(lab.values().await["log"], json!(["one"]));
    });
}

#[test]
fn every_mode_of_durability_streams_the_same() {
    let mut seen = std::collections::BTreeSet::new();
    for durability in [Durability::Sync, Durability::Async, Durability::Exit] {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut lab = Lab::over(crate::open_store("memory", std::path::Path::new("")));
            lab.graph("{graph: g, state: {log: {merge: append}}, nodes: {a: {function: a, then: b}, b: {function: a, then: c}, c: {set: {log: [c]}, then: end}}, start: a}");
            lab.function("a", |ctx| async move {
                ctx.emit(json!("here")).await?;
                out(json!({"log": [ctx.node()?.name]}))
            });
            let options = RunOptions { durability, ..RunOptions::default() };
            let wanted = modes(&[Mode::Values, Mode::Updates, Mode::Custom]);
            let (outcome, events) = lab.stream(json!({}), options, wanted).await;
            assert_eq!(outcome, Outcome::Success);
            seen.insert(events_text(&events));
        });
    }
    assert_eq!(seen.len(), 1, "{seen:#?}");
}

#[test]
fn a_panic_in_a_node_is_its_failure_and_nobody_elses() {
    on_every_store(|mut lab| async move {
        lab.graph("{graph: g, nodes: {a: {function: a, then: end}}, start: a}");
        lab.function("a", |ctx| async move {
            assert!(ctx.step() < 0, "out of range");
            out(json!({}))
        });
        assert!(failure(&lab.start(json!({})).await).contains("the node panicked: out of range"));
    });
}

#[test]
fn a_fan_out_over_the_bound_fails_its_node_and_not_the_plan() {
    on_every_store(|mut lab| async move {
        lab.graph("{graph: g, state: {n: {default: 0}}, nodes: {fan: {map: {over: \"range(n)\", as: x, to: work}, on_error: rescue}, work: {function: noop}, rescue: {set: {n: 1}, then: end}}, start: fan}");
        lab.writes("noop", json!({}));
        assert_eq!(lab.start(json!({"n": 0})).await, Outcome::Success, "an empty fan-out is none");
        assert_eq!(lab.ran(), "");
    });
}

#[test]
fn many_threads_on_many_workers_start_pause_and_end() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).build().unwrap();
    runtime.block_on(async {
        let mut lab = Lab::over(crate::open_store("memory", std::path::Path::new("")));
        lab.graph("{graph: g, state: {log: {merge: append}}, nodes: {a: {function: a, then: b}, b: {set: {log: [b]}, then: end}}, start: a}");
        lab.function("a", |ctx| async move {
            let first = ask(&ctx, "one?").await?;
            let second = ask(&ctx, "two?").await?;
            out(json!({"log": [first, second]}))
        });
        lab.load_graphs().await;
        let (engine, what) = (lab.engine(), lab.what(json!({}), RunOptions::default()));
        let one = |n: u32| {
            let (engine, mut start) = (engine.clone(), what.clone());
            start.thread = ThreadId::new(&format!("t{n}")).unwrap();
            async move {
                let thread = start.thread.clone();
                let mut ended = engine.start(start).await.unwrap().ended().await.unwrap();
                while ended.outcome == Outcome::Interrupted {
                    let state = engine.state(&thread).await.unwrap().unwrap();
                    let answers = state.interrupts.values().map(|question| yes(question, json!(n))).collect();
                    let (_, next) = engine.answer_and_join(&thread, answers, Value::Null).await.unwrap();
                    ended = next.expect("the run goes on");
                }
                let values = runtime::view::live(&engine.state(&thread).await.unwrap().unwrap()).unwrap().values;
                (ended.outcome, values["log"].clone())
            }
        };
        let all: Vec<_> = (0..300).map(|n| tokio::spawn(one(n))).collect();
        for (n, done) in all.into_iter().enumerate() {
            assert_eq!(done.await.unwrap(), (Outcome::Success, json!([n, n, "b"])));
        }
    });
}
