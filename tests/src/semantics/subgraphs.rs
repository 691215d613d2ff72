//! Subgraphs: namespaces, pauses inside, failures of children, leaving to the parent, kept state.

use std::sync::Arc;

use runtime_core::event::{Edit, Goto, NodeOutput};
use runtime_core::record::{Hop, Outcome, RunOptions};
use runtime_core::stream::Mode;
use serde_json::{Value, json};

use crate::lab::*;

fn to_parent(values: Value, to: &[&str], also: bool) -> NodeResult {
    let to = to.iter().map(|name| Hop::Node((*name).into())).collect();
    Ok(NodeOutput { goto: Some(Goto { to, also, parent: true }), ..output(values) })
}

const PARENT: &str = "
graph: parent
state: {log: {merge: append}, only_here: {}}
nodes:
  sub: {graph: child, then: [{when: \"false\", to: target}, {to: end}]}
  target: {function: target, then: end}
start: sub
";

#[test]
fn b12_a_command_to_the_parent_takes_only_its_own_update() {
    on_every_store(|mut lab| async move {
        lab.graph(
            "
graph: child
state: {log: {merge: append}}
nodes:
  a: {function: a, then: b}
  b: {function: b, then: end}
start: a
",
        );
        lab.graph(PARENT).writes("a", json!({"log": ["a"]})).writes("target", json!({"log": ["target"]}));
        lab.function("b", |_| async { to_parent(json!({"log": ["b"]}), &["target"], false) });
        assert_eq!(lab.start(json!({"log": ["init"]})).await, Outcome::Success);
        assert_eq!(lab.values().await, json!({"log": ["init", "b", "target"]}));
        assert_eq!(lab.ran(), "a b target");
        assert_eq!(lab.state().await.frames.len(), 1, "the child is gone");
    });
}

#[test]
fn b13_a_child_sets_a_key_that_only_the_parent_has() {
    for scope in ["call", "thread"] {
        on_every_store(|mut lab| async move {
            lab.graph("{graph: child, state: {mine: {}}, nodes: {a: {function: a, then: b}, b: {function: b, then: end}}, start: a}");
            lab.graph(
                &PARENT
                    .replace("graph: child,", &format!("graph: child, scope: {scope},"))
                    .replace("\"false\"", "only_here == 'set'")
                    .replace("only_here: {}", "only_here: {default: none}"),
            );
            lab.writes("a", json!({"mine": 1})).writes("target", json!({"log": ["target"]}));
            lab.function("b", |_| async { to_parent(json!({"only_here": "set"}), &[], true) });
            assert_eq!(lab.start(json!({})).await, Outcome::Success);
            assert_eq!(lab.values().await, json!({"only_here": "set", "log": ["target"]}), "{scope}");
            let child =
                lab.state().await.frames.get("sub").map(|frame| runtime_core::channels::values(&frame.channels));
            assert_eq!(child, (scope == "thread").then(|| json!({"mine": 1})), "the child's own state is as it was");
        });
    }
}

#[test]
fn a_command_to_the_parent_needs_one() {
    on_every_store(|mut lab| async move {
        lab.graph("{graph: alone, nodes: {a: {function: a, then: end}}, start: a}");
        lab.function("a", |_| async { to_parent(json!({}), &[], false) });
        assert!(failure(&lab.start(json!({})).await).contains("needs a parent"));
    });
}

#[test]
fn b26_a_failing_child_is_handled_under_the_name_of_the_parents_node() {
    on_every_store(|mut lab| async move {
        lab.graph("{graph: child, nodes: {inner: {function: inner, then: end}}, start: inner}");
        lab.graph(
            "
graph: parent
state: {log: {merge: append}}
nodes:
  sub: {graph: child, on_error: rescue, then: end}
  beside: {function: beside, then: end}
  rescue: {function: rescue, then: end}
start: [sub, beside]
",
        );
        lab.function("inner", |_| async { fatal("deep trouble") });
        lab.node("beside", |_, _| async move {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            out(json!({"log": ["beside"]}))
        });
        lab.function("rescue", |ctx| async move {
            let error = ctx.var("error").clone();
            out(json!({"log": [error["node"], error["message"]]}))
        });
        assert_eq!(lab.start(json!({})).await, Outcome::Success);
        assert_eq!(lab.values().await["log"], json!(["beside", "sub", "deep trouble"]));
    });
}

#[test]
fn a_failing_child_is_retried_by_its_parent_and_resumed_where_it_failed() {
    on_every_store(|mut lab| async move {
        lab.clock.run_by_itself();
        lab.graph(
            "{graph: child, state: {n: {merge: sum}}, nodes: {one: {function: one, then: two}, two: {function: two, then: end}}, start: one}",
        );
        lab.graph(
            "{graph: parent, state: {log: {merge: append}}, nodes: {sub: {graph: child, retry: {attempts: 2, initial: 1ms}, output: {log: \"[result.n]\"}, then: end}}, start: sub}",
        );
        lab.writes("one", json!({"n": 1})).node("two", |_, bench| async move {
            if bench.count("two") <= 2 { broken("not yet") } else { out(json!({"n": 10})) }
        });
        let outcome = lab.start(json!({})).await;
        assert!(failure(&outcome).contains("not yet"), "{outcome:?}");
        assert_eq!(lab.ran(), "one two one two", "the parent's retry starts the child anew");
        assert_eq!(lab.resume().await, Outcome::Success);
        assert_eq!(lab.values().await["log"], json!([11]));
    });
}

#[test]
fn b39_one_map_answers_five_children() {
    on_every_store(|mut lab| async move {
        lab.graph(
            "
graph: child
state: {prompt: {}, reply: {}}
nodes: {ask: {function: ask, then: end}}
start: ask
",
        );
        lab.graph(
            "
graph: parent
state: {replies: {merge: append}}
nodes:
  fan: {map: {over: \"['a', 'b', 'c', 'd', 'e']\", as: prompt, to: sub}}
  sub: {graph: child, with: {prompt: \"{{ prompt }}\"}, output: {replies: \"[result.reply]\"}}
start: fan
",
        );
        lab.function("ask", |ctx| async move {
            let prompt = ctx.get("prompt").as_str().unwrap_or("").to_owned();
            let answer = ask(&ctx, &prompt).await?;
            out(json!({"reply": format!("{prompt}{}", answer.as_str().unwrap_or(""))}))
        });
        assert_eq!(lab.start(json!({})).await, Outcome::Interrupted);
        let open = lab.open().await;
        assert_eq!(open.len(), 5);
        assert_eq!(lab.live().await.interrupts.len(), 5, "each child's question counts for the parent");
        let mut answers: Vec<_> =
            open.iter().map(|question| yes(question, json!(question.title.to_uppercase()))).collect();
        answers.reverse();
        let (_, ended) = lab.answer(answers).await.unwrap();
        assert_eq!(ended.unwrap().outcome, Outcome::Success);
        assert_eq!(lab.values().await["replies"], json!(["aA", "bB", "cC", "dD", "eE"]));
    });
}

#[test]
fn b38_two_questions_in_one_child_are_answered_by_id() {
    on_every_store(|mut lab| async move {
        lab.graph(
            "
graph: child
state: {log: {merge: append}}
nodes:
  a: {function: ask, then: end}
  b: {function: ask, then: end}
start: [a, b]
",
        );
        lab.graph("{graph: parent, state: {log: {merge: append}}, nodes: {sub: {graph: child, output: {log: result.log}, then: end}}, start: sub}");
        lab.function("ask", |ctx| async move {
            let node = ctx.node()?.name.clone();
            let answer = ask(&ctx, &node).await?;
            out(json!({"log": [format!("{node} {answer}")]}))
        });
        assert_eq!(lab.start(json!({})).await, Outcome::Interrupted);
        let open = lab.open().await;
        let (_, ended) = lab.answer(vec![yes(&open[1], json!(2))]).await.unwrap();
        assert_eq!(ended.unwrap().outcome, Outcome::Interrupted);
        assert_eq!(lab.open().await, [open[0].clone()]);
        assert_eq!(lab.answer_all(json!(1)).await, Outcome::Success);
        assert_eq!(lab.values().await["log"], json!(["a 1", "b 2"]));
        assert_eq!(lab.ran(), "a b b a");
    });
}

#[test]
fn b60_a_child_of_the_thread_keeps_its_state_over_a_loop() {
    for (scope, expected) in [("thread", json!([1, 2, 3])), ("call", json!([1, 1, 1]))] {
        on_every_store(|mut lab| {
            let expected = expected.clone();
            async move {
                lab.graph(
                    "{graph: child, state: {n: {merge: sum}}, nodes: {add: {function: add, then: end}}, start: add}",
                );
                lab.graph(&format!(
                    "
graph: parent
state: {{seen: {{merge: append, default: []}}}}
nodes:
  sub: {{graph: child, scope: {scope}, output: {{seen: \"[result.n]\"}}, then: again}}
  again: {{function: noop, then: [{{when: \"seen | length < 3\", to: sub}}, {{to: end}}]}}
start: sub
"
                ));
                lab.writes("add", json!({"n": 1})).writes("noop", json!({}));
                assert_eq!(lab.start(json!({})).await, Outcome::Success);
                assert_eq!(lab.values().await["seen"], expected);
                if scope == "thread" {
                    assert_eq!(lab.start(json!({"seen": {"$overwrite": []}})).await, Outcome::Success);
                    assert_eq!(lab.values().await["seen"], json!([4, 5, 6]), "over runs too");
                }
            }
        });
    }
}

#[test]
fn b60_a_replay_finds_a_kept_child_as_it_was() {
    on_every_store(|mut lab| async move {
        lab.graph("{graph: child, state: {n: {merge: sum}}, nodes: {add: {function: add, then: end}}, start: add}");
        lab.graph(
            "
graph: parent
state: {seen: {merge: append, default: []}}
nodes:
  sub: {graph: child, scope: thread, output: {seen: \"[result.n]\"}, then: again}
  again: {function: noop, then: [{when: \"seen | length < 3\", to: sub}, {to: end}]}
start: sub
",
        );
        lab.writes("add", json!({"n": 1})).writes("noop", json!({}));
        assert_eq!(lab.start(json!({})).await, Outcome::Success);
        let first_again =
            lab.history().await.iter().find(|c| c.frame.plan.tasks.iter().any(|t| &*t.node == "again")).unwrap().id;
        assert_eq!(lab.replay(first_again).await, Some(Outcome::Success));
        assert_eq!(lab.values().await["seen"], json!([1, 2, 3]), "not 4 and 5");
        let entry = lab.history().await[0].id;
        assert_eq!(lab.replay(entry).await, Some(Outcome::Success));
        assert_eq!(lab.values().await["seen"], json!([1, 2, 3]), "before its first visit there was none");
    });
}

#[test]
fn several_tasks_visit_a_kept_child_one_after_the_other() {
    on_every_store(|mut lab| async move {
        lab.graph(
            "{graph: child, state: {n: {merge: sum}, by: {}}, nodes: {add: {function: add, then: end}}, start: add}",
        );
        lab.graph(
            "
graph: parent
state: {seen: {merge: append}}
nodes:
  fan: {map: {over: \"[10, 20, 30]\", as: by, to: sub}}
  sub: {graph: child, scope: thread, with: {by: \"{{ by }}\"}, output: {seen: \"[result.n]\"}}
start: fan
",
        );
        lab.function("add", |ctx| async move { out(json!({"n": ctx.get("by")})) });
        assert_eq!(lab.start(json!({})).await, Outcome::Success);
        assert_eq!(lab.values().await["seen"], json!([10, 30, 60]));
    });
}

const NESTED: &str = "
graph: parent
state: {log: {merge: append}}
nodes:
  sub: {graph: child, output: {log: result.log}}
  beside: {function: beside}
  join: {function: join, after: [sub, beside], then: end}
start: [sub, beside]
";

#[test]
fn b62_a_breakpoint_in_a_child_does_not_run_its_sibling_again() {
    on_every_store(|mut lab| async move {
        lab.graph("{graph: child, state: {log: {merge: append}}, nodes: {one: {function: one, then: two}, two: {function: two, then: end}}, start: one}");
        lab.graph(NESTED).writes("one", json!({"log": ["one"]})).writes("two", json!({"log": ["two"]}));
        lab.writes("join", json!({"log": ["join"]})).node("beside", |_, _| async move {
            for _ in 0..200 {
                tokio::task::yield_now().await;
            }
            out(json!({"log": ["beside"]}))
        });
        assert_eq!(lab.start_with(json!({}), pause_before(&["two"])).await, Outcome::Interrupted);
        assert_eq!(lab.ran(), "beside one", "the sibling is not stopped");
        let (engine, thread) = (lab.engine(), lab.thread.clone());
        let events = engine.subscribe(&thread, modes(&[Mode::Updates])).await.unwrap();
        assert_eq!(lab.resume().await, Outcome::Success);
        assert_eq!(lab.ran(), "two join");
        let text = events_text(&drain(events).await);
        assert!(text.contains(r#"{"__metadata__":{"cached":true},"beside":{"log":["beside"]}}"#), "{text}");
        assert_eq!(lab.values().await["log"], json!(["one", "two", "beside", "join"]));
    });
}

#[test]
fn b64_an_update_of_an_unknown_child_is_refused_and_of_a_known_one_taken() {
    on_every_store(|mut lab| async move {
        lab.graph("{graph: child, state: {log: {merge: append}}, nodes: {one: {function: one, then: two}, two: {function: two, then: end}}, start: one}");
        lab.graph(NESTED).writes("one", json!({"log": ["one"]})).writes("two", json!({"log": ["two"]}));
        lab.writes("join", json!({})).writes("beside", json!({"log": ["beside"]}));
        assert_eq!(lab.start_with(json!({}), pause_before(&["two"])).await, Outcome::Interrupted);
        let (engine, thread) = (lab.engine(), lab.thread.clone());
        let edit = Edit { values: json!({"log": ["edit"]}), as_node: None };
        let refused = engine.update_in(&thread, "tool:1".into(), edit.clone()).await.unwrap_err();
        assert!(refused.to_string().contains("no subgraph `tool:1`; open are sub:"), "{refused}");
        let child = lab.state().await.frames.keys().find(|ns| ns.starts_with("sub:")).cloned().unwrap();
        engine.update_in(&thread, child, edit).await.unwrap();
        assert_eq!(lab.resume().await, Outcome::Success);
        assert_eq!(lab.values().await["log"], json!(["one", "edit", "two", "beside"]));
    });
}

#[test]
fn x19_a_parent_does_not_hold_a_place_while_its_child_works() {
    on_every_store(|mut lab| async move {
        lab.graph("{graph: child, limits: {concurrency: 1}, state: {n: {merge: sum}}, nodes: {one: {function: one, then: end}, two: {function: one, then: end}}, start: [one, two]}");
        lab.graph(
            "{graph: parent, limits: {concurrency: 1}, state: {log: {merge: append}}, nodes: {sub: {graph: child, output: {log: \"[result.n]\"}, then: end}, other: {graph: child, output: {log: \"[result.n]\"}, then: end}}, start: [sub, other]}",
        );
        lab.node("one", |_, bench| async move {
            assert_eq!(bench.count("inside") - bench.count("outside"), 0, "one at a time");
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            bench.mark("ran");
            out(json!({"n": 1}))
        });
        assert_eq!(lab.start(json!({})).await, Outcome::Success);
        assert_eq!(lab.values().await["log"], json!([2, 2]));
    });
}

#[test]
fn an_empty_child_and_a_child_that_cannot_begin_end_as_they_should() {
    on_every_store(|mut lab| async move {
        lab.graph("{graph: child, state: {go: {default: true}}, nodes: {a: {emit: 1, then: end}}, start: [{when: \"go\", to: end}, {to: a}]}");
        lab.graph(
            "{graph: parent, state: {log: {merge: append}}, nodes: {sub: {graph: child, with: {go: \"{{ 1 }}\"}, on_error: rescue, then: next}, next: {graph: child, then: end}, rescue: {set: {log: [rescued]}, then: next}}, start: sub}",
        );
        assert_eq!(lab.start(json!({})).await, Outcome::Success);
        assert_eq!(lab.values().await["log"], json!(["rescued"]), "`go` is a number, which is no boolean");
        assert_eq!(lab.state().await.frames.len(), 1);
    });
}

#[test]
fn children_go_on_after_a_restart() {
    on_every_store(|mut lab| async move {
        lab.graph("{graph: child, state: {log: {merge: append}}, nodes: {one: {function: one, then: two}, two: {function: two, then: end}}, start: one}");
        lab.graph(NESTED).writes("one", json!({"log": ["one"]})).writes("join", json!({})).writes("beside", json!({}));
        lab.function("two", |ctx| async move {
            let answer = ask(&ctx, "go?").await?;
            out(json!({"log": [answer]}))
        });
        assert_eq!(lab.start_with(json!({}), RunOptions::default()).await, Outcome::Interrupted);
        let store = Arc::clone(&lab.store);
        lab.restart_over(store);
        assert_eq!(lab.answer_all(json!("go")).await, Outcome::Success);
        assert_eq!(
            (lab.values().await["log"].clone(), lab.ran()),
            (json!(["one", "go"]), "beside one two two join".to_owned())
        );
    });
}

const CHILD_V1: &str = "{graph: child, state: {log: {merge: append}}, nodes: {one: {function: one, then: two}, two: {function: two, then: end}}, start: one}";

const TWICE: &str = "{graph: twice, state: {log: {merge: append}}, nodes: {ask: {approval: {title: on}, then: first}, first: {graph: child, output: {log: result.log}, then: again}, again: {approval: {title: again}, then: second}, second: {graph: child, output: {log: result.log}, then: end}}, start: ask}";

fn versions(lab: &mut Lab) -> String {
    lab.graph(CHILD_V1).graph(TWICE);
    lab.writes("one", json!({"log": ["one"]}))
        .writes("two", json!({"log": ["two"]}))
        .writes("three", json!({"log": ["three"]}));
    CHILD_V1.replace("two: {function: two, then: end}", "two: {function: three, then: end}")
}

#[test]
fn a_breakpoint_in_a_child_survives_a_kill_while_its_sibling_works() {
    for when in ["before", "after"] {
        on_every_store(|mut lab| async move {
            lab.graph(CHILD_V1);
            lab.graph(NESTED).writes("one", json!({"log": ["one"]})).writes("two", json!({"log": ["two"]}));
            lab.writes("join", json!({"log": ["join"]})).node("beside", |_, bench| async move {
                if bench.count("beside") == 1 {
                    bench.after("the process died").await;
                }
                out(json!({"log": ["beside"]}))
            });
            let options = match when {
                "before" => pause_before(&["two"]),
                _ => RunOptions { interrupt_after: vec!["one".into()], ..RunOptions::default() },
            };
            lab.load_graphs().await;
            let start = lab.what(json!({}), options);
            let running = lab.engine().start(start).await.unwrap();
            lab.until("the child is held", |state| !state.held.is_empty()).await;
            // Its checkpoint is durable when the store shows it.
            let store = Arc::clone(&lab.store);
            while store.load(&lab.thread).await.unwrap().is_none_or(|loaded| loaded.state.held.is_empty()) {
                tokio::task::yield_now().await;
            }
            drop(running);
            lab.restart_over(store);
            lab.load_graphs().await;
            assert_eq!(lab.engine().recover().await.unwrap(), 1);
            lab.quiet().await;
            let state = lab.state().await;
            assert_eq!(state.run.unwrap().outcome, Some(Outcome::Interrupted), "{when}");
            assert!(!lab.ran().contains("two"), "the breakpoint was forgotten");
            assert_eq!(lab.resume().await, Outcome::Success);
            assert_eq!(lab.values().await["log"], json!(["one", "two", "beside", "join"]));
        });
    }
}

#[test]
fn a_thread_gets_the_versions_of_its_subgraphs_that_it_began_with() {
    on_every_store(|mut lab| async move {
        let changed = versions(&mut lab);
        assert_eq!(lab.start(json!({})).await, Outcome::Interrupted, "no child was visited yet");
        let store = Arc::clone(&lab.store);
        lab.at_rest().await;
        lab.restart_over(store);
        lab.graph(&changed).graph(TWICE);
        assert_eq!(lab.answer_all(json!("approve")).await, Outcome::Interrupted);
        assert_eq!(lab.answer_all(json!("approve")).await, Outcome::Success);
        assert_eq!(lab.values().await["log"], json!(["one", "two", "one", "two"]), "both visits, in the first version");
        let refused = lab.try_start(json!({}), RunOptions::default()).await.unwrap_err().to_string();
        let root = lab.main_graph().digest().to_string();
        assert!(refused.starts_with("the thread runs graph `child`, called by `twice`, at version"), "{refused}");
        assert!(refused.ends_with(&format!("interlock migrate THREAD --to {root}")), "{refused}");
        let (engine, thread) = (lab.engine(), lab.thread.clone());
        engine.migrate(&thread, lab.main_graph(), Default::default()).await.unwrap();
        assert_eq!(lab.start(json!({})).await, Outcome::Interrupted, "after a migration it is taken");
        assert_eq!(lab.answer_all(json!("approve")).await, Outcome::Interrupted);
        assert_eq!(lab.values().await["log"], json!(["one", "two", "one", "two", "one", "three"]));
    });
}

#[test]
fn a_migration_takes_open_subgraphs_along_or_is_refused() {
    on_every_store(|mut lab| async move {
        let changed = versions(&mut lab);
        lab.graph(
            &TWICE.replace("start: ask", "start: first").replace("ask: {approval: {title: on}, then: first}, ", ""),
        );
        assert_eq!(lab.start_with(json!({}), pause_before(&["two"])).await, Outcome::Interrupted);
        let (engine, thread, root) = (lab.engine(), lab.thread.clone(), lab.main_graph());
        engine.add_graph(compile(&CHILD_V1.replace("two", "zwei"))).await.unwrap();
        let refused = engine.migrate(&thread, Arc::clone(&root), Default::default()).await.unwrap_err().to_string();
        assert!(refused.contains("in subgraph `first:") && refused.contains("stands on node `two`"), "{refused}");
        engine.add_graph(compile(&changed)).await.unwrap();
        engine.migrate(&thread, root, Default::default()).await.unwrap();
        let running = engine.resume(&thread, RunOptions::default()).await.unwrap();
        assert_eq!(running.ended().await.unwrap().outcome, Outcome::Interrupted);
        assert_eq!(lab.values().await["log"], json!(["one", "three"]), "the open child goes on in the new version");
    });
}
