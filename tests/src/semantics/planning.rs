//! Supersteps, joins, sends, deferred nodes and reducers.

use expect_test::expect;
use runtime::CallSpec;
use runtime_core::event::{Edit, Steer};
use runtime_core::record::{Outcome, RunOptions};
use runtime_core::stream::Mode;
use serde_json::{Value, json};

use crate::lab::*;

const FAN_OUT: &str = "
graph: fan_out
state:
  docs: {merge: append}
  reply: {}
start: rewrite
nodes:
  rewrite: {function: rewrite, then: [r1, r2]}
  r1: {function: r1, then: qa}
  r2: {function: r2, then: qa}
  qa: {function: qa, then: end}
";

#[test]
fn b01_finish_order_shows_in_the_stream_and_not_in_the_state() {
    on_every_store(|mut lab| async move {
        lab.graph(FAN_OUT).writes("rewrite", json!({}));
        lab.node("r1", |_, bench| async move {
            bench.after("r2").await;
            out(json!({"docs": ["1"]}))
        });
        lab.node("r2", |_, bench| async move {
            bench.mark("r2");
            out(json!({"docs": ["2"]}))
        });
        lab.function("qa", |ctx| async move { out(json!({"reply": ctx.get("docs").to_string()})) });
        let (outcome, events) =
            lab.stream(json!({}), RunOptions::default(), modes(&[Mode::Updates, Mode::Values])).await;
        assert_eq!(outcome, Outcome::Success);
        expect![[r#"
            values {}
            updates {"rewrite":null}
            values {}
            updates {"r2":{"docs":["2"]}}
            updates {"r1":{"docs":["1"]}}
            values {"docs":["1","2"]}
            updates {"qa":{"reply":"[\"1\",\"2\"]"}}
            values {"docs":["1","2"],"reply":"[\"1\",\"2\"]"}
        "#]]
        .assert_eq(&events_text(&events));
    });
}

const WAITING: &str = "
graph: waiting
state:
  docs: {merge: append}
  reply: {}
start: rewrite
nodes:
  rewrite: {function: noop, then: [analyze, r2]}
  analyze: {function: noop, then: r1}
  r1: {function: r1}
  r2: {function: r2}
  qa: {function: qa, after: [r1, r2], then: end}
";

#[test]
fn b02_a_join_waits_for_the_deeper_branch_and_sees_an_edit() {
    on_every_store(|mut lab| async move {
        lab.graph(WAITING).writes("noop", json!({}));
        lab.writes("r1", json!({"docs": ["1", "2"]})).writes("r2", json!({"docs": ["3", "4"]}));
        lab.function("qa", |ctx| async move { out(json!({"reply": ctx.get("docs").to_string()})) });
        assert_eq!(lab.start_with(json!({}), pause_before(&["qa"])).await, Outcome::Interrupted);
        assert_eq!(lab.ran(), "rewrite analyze r2 r1");
        lab.update(json!({"docs": ["5"]}), None).await;
        let view = lab.live().await;
        assert_eq!((view.next.join(" "), view.step, view.source), ("qa".to_owned(), 4, "update"));
        assert_eq!(lab.resume().await, Outcome::Success);
        assert_eq!(lab.ran(), "qa");
        assert_eq!(lab.values().await["reply"], r#"["3","4","1","2","5"]"#);
    });
}

const LOOPING: &str = "
graph: looping
state:
  query: {default: q}
  docs: {merge: append}
  round: {merge: sum, default: 0}
start: rewrite
nodes:
  rewrite: {function: rewrite, then: [analyze, r2], CACHE}
  analyze: {function: noop, then: r1}
  r1: {function: r1}
  r2: {function: r2}
  decide: {function: decide, after: [r1, r2], then: [{when: \"round < 2\", to: rewrite}, {to: end}]}
";

#[test]
fn b04_a_join_in_a_loop_rearms_and_the_cache_spares_the_node() {
    on_every_store(|mut lab| async move {
        lab.graph(&LOOPING.replace(", CACHE", ", cache: {key: \"query\"}")).writes("noop", json!({}));
        lab.writes("r1", json!({"docs": ["1"]})).writes("r2", json!({"docs": ["2"]}));
        lab.writes("decide", json!({"round": 1})).writes("rewrite", json!({}));
        assert_eq!(lab.start(json!({"query": "q"})).await, Outcome::Success);
        assert_eq!(lab.ran(), "rewrite analyze r2 r1 decide analyze r2 r1 decide", "the second visit is cached");
        assert_eq!(lab.values().await["docs"], json!(["2", "1", "2", "1"]));
        lab.thread = runtime_core::ids::ThreadId::new("other").unwrap();
        let (_, events) = lab.stream(json!({"query": "q"}), RunOptions::default(), modes(&[Mode::Updates])).await;
        assert!(!lab.ran().contains("rewrite"), "another thread is served from the cache too");
        let cached =
            events_text(&events).lines().filter(|line| line.contains(r#""__metadata__":{"cached":true}"#)).count();
        assert_eq!(cached, 2, "both visits are marked");
        lab.thread = runtime_core::ids::ThreadId::new("third").unwrap();
        assert_eq!(lab.start(json!({"query": "another"})).await, Outcome::Success);
        assert!(lab.ran().starts_with("rewrite analyze"), "another key runs");
    });
}

#[test]
fn b04_without_a_cache_the_node_runs_each_time() {
    on_every_store(|mut lab| async move {
        lab.graph(&LOOPING.replace(", CACHE", "")).writes("noop", json!({})).writes("rewrite", json!({}));
        lab.writes("r1", json!({"docs": ["1"]}))
            .writes("r2", json!({"docs": ["2"]}))
            .writes("decide", json!({"round": 1}));
        assert_eq!(lab.start(json!({"query": "q"})).await, Outcome::Success);
        assert_eq!(lab.ran(), "rewrite analyze r2 r1 decide rewrite analyze r2 r1 decide");
    });
}

fn deferred(join: &str) -> String {
    let (edge, after) = match join {
        "barrier" => ("", ", after: [r1, r2]"),
        _ => (", then: qa", ""),
    };
    format!(
        "
graph: deferred
state:
  docs: {{merge: append}}
  reply: {{}}
start: rewrite
nodes:
  rewrite: {{function: noop, then: [analyze, r2]}}
  analyze: {{function: noop, then: r1}}
  r1: {{function: r1{edge}}}
  r2: {{function: r2{edge}}}
  qa: {{function: qa, defer: true{after}, then: end}}
"
    )
}

#[test]
fn b05_a_deferred_node_runs_once_after_the_longest_branch() {
    for join in ["barrier", "edges"] {
        on_every_store(|mut lab| async move {
            lab.graph(&deferred(join)).writes("noop", json!({}));
            lab.writes("r1", json!({"docs": ["1"]})).writes("r2", json!({"docs": ["2"]}));
            lab.function("qa", |ctx| async move { out(json!({"reply": ctx.get("docs").to_string()})) });
            assert_eq!(lab.start(json!({})).await, Outcome::Success);
            assert_eq!(lab.ran(), "rewrite analyze r2 r1 qa");
            let view = lab.live().await;
            assert_eq!((view.step, &view.values["reply"]), (4, &json!(r#"["2","1"]"#)));

            lab.thread = runtime_core::ids::ThreadId::new("before").unwrap();
            assert_eq!(lab.start_with(json!({}), pause_before(&["qa"])).await, Outcome::Interrupted);
            assert_eq!((lab.ran(), lab.live().await.next), ("rewrite analyze r2 r1".to_owned(), vec!["qa".to_owned()]));
            assert_eq!(lab.resume().await, Outcome::Success);
            lab.ran();
            lab.thread = runtime_core::ids::ThreadId::new("after").unwrap();
            let after = RunOptions { interrupt_after: vec!["r1".into()], ..RunOptions::default() };
            assert_eq!(lab.start_with(json!({}), after).await, Outcome::Interrupted);
            assert_eq!(lab.ran(), "rewrite analyze r2 r1");
        });
    }
}

#[test]
fn b06_nodes_that_return_nothing_stream_null() {
    on_every_store(|mut lab| async move {
        lab.graph(
            "
graph: multi
nodes:
  up: {function: noop, then: [side, other]}
  side: {function: noop}
  other: {function: noop, then: end}
  down: {function: noop, after: [up, side], then: end}
start: up
",
        );
        lab.writes("noop", json!({}));
        let (_, events) = lab.stream(json!({}), RunOptions::default(), modes(&[Mode::Updates])).await;
        expect![[r#"
            updates {"up":null}
            updates {"side":null}
            updates {"other":null}
            updates {"down":null}
        "#]]
        .assert_eq(&events_text(&events));
    });
}

#[test]
fn b07_sends_keep_the_order_of_their_list() {
    on_every_store(|mut lab| async move {
        lab.graph(
            "
graph: cities
state:
  cities: {default: []}
  weather: {merge: append}
nodes:
  fan: {map: {over: cities, as: city, to: ask}}
  ask: {function: ask}
start: fan
",
        );
        lab.node("ask", |ctx, bench| async move {
            let city = ctx.var("city").as_str().unwrap_or("").to_owned();
            if city == "b" {
                bench.after("c").await;
            }
            bench.mark(&city);
            out(json!({"weather": [format!("{city}!")]}))
        });
        assert_eq!(lab.start(json!({"cities": ["a", "b", "c"]})).await, Outcome::Success);
        assert_eq!(lab.values().await["weather"], json!(["a!", "b!", "c!"]));
    });
}

/// One node appends its own name and what it was sent.
fn append_name(lab: &mut Lab, function: &str) {
    lab.function(function, |ctx| async move {
        let node = ctx.node()?.name.clone();
        let line = if ctx.var("item").is_null() { node } else { format!("{node}|{}", ctx.var("item")) };
        out(json!({"items": [line]}))
    });
}

const SENDS: &str = "
graph: sends
state:
  items: {merge: append, default: []}
nodes:
  \"0\": {function: name, then: [\"1\", \"1.1\"]}
  \"1\": {function: one, then: \"3.1\"}
  \"1.1\": {function: one_one, then: [{when: \"items | length > 99\", to: \"2\"}, {to: end}]}
  \"3.1\": {function: name, then: end}
  \"2\": {function: name, then: \"3\"}
  \"3\": {function: name, then: end}
start: \"0\"
";

#[test]
fn b08_edges_before_sends_and_sends_by_emitting_node_and_index() {
    on_every_store(|mut lab| async move {
        lab.graph(SENDS);
        append_name(&mut lab, "name");
        lab.node("one", |_, bench| async move {
            bench.after("1.1").await;
            send(json!({"items": ["1"]}), "2", &[json!(1), json!(2)])
        });
        lab.node("one_one", |_, bench| async move {
            bench.mark("1.1");
            send(json!({"items": ["1.1"]}), "2", &[json!(3), json!(4)])
        });
        assert_eq!(lab.start(json!({})).await, Outcome::Success);
        let items = lab.values().await["items"].clone();
        assert_eq!(items, json!(["0", "1", "1.1", "3.1", "2|1", "2|2", "2|3", "2|4", "3"]));
    });
}

#[test]
fn b11_finished_sends_are_not_run_again_after_a_pause() {
    on_every_store(|mut lab| async move {
        lab.graph(SENDS);
        lab.function("name", |ctx| async move {
            let node = ctx.node()?.name.clone();
            let item = ctx.var("item").clone();
            if item == json!(2) {
                ask(&ctx, "go on?").await?;
            }
            let line = if item.is_null() { node } else { format!("{node}|{item}") };
            out(json!({"items": [line]}))
        });
        lab.function("one", |_| async { send(json!({"items": ["1"]}), "2", &[json!(1), json!(2), json!(3)]) });
        lab.writes("one_one", json!({"items": ["1.1"]}));
        assert_eq!(lab.start(json!({})).await, Outcome::Interrupted);
        assert_eq!(lab.ran(), "0 1 1.1 3.1 2|1 2|2 2|3");
        assert_eq!(lab.history().await.len(), 4);
        assert_eq!(lab.answer_all(json!("yes")).await, Outcome::Success);
        assert_eq!(lab.ran(), "2|2 3", "only the paused one runs again");
        assert_eq!(lab.history().await.len(), 6);
        assert_eq!(lab.values().await["items"], json!(["0", "1", "1.1", "3.1", "2|1", "2|2", "2|3", "3"]));
    });
}

#[test]
fn b14_a_goto_of_a_resume_runs_beside_what_was_pending() {
    on_every_store(|mut lab| async move {
        lab.graph(
            "
graph: steered
state: {items: {merge: append}}
nodes:
  node-1: {function: name, then: node-2}
  node-2: {function: name, then: end}
start: node-1
",
        );
        append_name(&mut lab, "name");
        assert_eq!(lab.start_with(json!({}), pause_before(&["node-1"])).await, Outcome::Interrupted);
        assert_eq!(lab.ran(), "");
        let steer = Steer { update: json!({"items": ["edit"]}), goto: vec!["node-2".into()] };
        let thread = lab.thread.clone();
        let running = lab.engine().resume_steered(&thread, RunOptions::default(), steer).await.unwrap();
        assert_eq!(running.ended().await.unwrap().outcome, Outcome::Success);
        assert_eq!(lab.values().await["items"], json!(["edit", "node-1", "node-2", "node-2"]));
        let unknown = Steer { update: Value::Null, goto: vec!["node-3".into()] };
        let refused = lab.engine().resume_steered(&thread, RunOptions::default(), unknown).await;
        assert!(refused.err().unwrap().to_string().contains("did you mean `node-1`?"));
    });
}

const OVERWRITE: &str = "
graph: overwrite
state: {items: {merge: append}}
nodes:
  a: {function: a, then: [b, c]}
  b: {function: b, then: d}
  c: {function: c, then: d}
  d: {function: d, then: end}
start: a
";

#[test]
fn b16_an_overwrite_wins_over_parallel_writes_and_two_are_an_error() {
    on_every_store(|mut lab| async move {
        lab.graph(OVERWRITE).writes("a", json!({"items": ["a"]})).writes("d", json!({"items": ["d"]}));
        lab.writes("b", json!({"items": {"$overwrite": ["b"]}})).writes("c", json!({"items": ["c"]}));
        assert_eq!(lab.start(json!({"items": ["start"]})).await, Outcome::Success);
        assert_eq!(lab.values().await["items"], json!(["b", "d"]));
    });
    on_every_store(|mut lab| async move {
        lab.graph(OVERWRITE).writes("a", json!({"items": ["a"]})).writes("d", json!({}));
        lab.writes("b", json!({"items": {"$overwrite": ["b"]}})).writes("c", json!({"items": {"$overwrite": ["c"]}}));
        let outcome = lab.start(json!({})).await;
        assert!(failure(&outcome).contains("`b` and `c` both overwrote channel `items`"), "{outcome:?}");
    });
}

#[test]
fn b17_two_writers_of_a_plain_key_are_an_error_that_names_it() {
    on_every_store(|mut lab| async move {
        lab.graph(
            "
graph: two
state: {output: {}}
nodes:
  one: {function: one, then: end}
  two: {function: two, then: end}
start: [one, two]
",
        );
        lab.writes("one", json!({"output": 1})).writes("two", json!({"output": 2}));
        let outcome = lab.start(json!({})).await;
        expect![[r#"node `two`: nodes `one` and `two` both wrote channel `output` in one superstep; give it a reducer (`merge:`) or write it from one node"#]].assert_eq(failure(&outcome));
    });
}

#[test]
fn b18_an_overwrite_replaces_a_list_in_both_forms() {
    on_every_store(|mut lab| async move {
        lab.graph(
            "
graph: typed
state: {items: {merge: append}}
nodes:
  a: {function: a, then: b}
  b: {set: {items: {overwrite: [typed]}}, then: c}
  c: {function: c, then: end}
start: a
",
        );
        lab.writes("a", json!({"items": ["a"]}));
        lab.node("c", |ctx, bench| async move {
            bench.act(&ctx.get("items").to_string());
            out(json!({"items": {"$overwrite": ["json"]}}))
        });
        assert_eq!(lab.start(json!({"items": ["start"]})).await, Outcome::Success);
        assert_eq!(
            (lab.bench.acts().join(" "), lab.values().await["items"].clone()),
            (r#"["typed"]"#.to_owned(), json!(["json"]))
        );
    });
}

#[test]
fn b19_memory_only_state_is_seen_and_never_stored() {
    on_every_store(|mut lab| async move {
        lab.graph(
            "
graph: memory_only
state:
  client: {merge: untracked}
  name: {default: none}
nodes:
  first: {function: first, then: end}
  second: {function: second, then: third}
  third: {function: third, then: end}
start: first
"
            .replace(
                "first: {function: first, then: end}",
                "first: {function: first, then: [{when: \"name == 1\", to: second}, {to: end}]}",
            )
            .as_str(),
        );
        lab.function("first", |ctx| async move {
            let client = ctx.get("client").clone();
            let item = json!({"client": client, "item": 1});
            let hop = runtime_core::record::Hop::Send("second".into(), std::sync::Arc::new(item));
            let goto = runtime_core::event::Goto { to: vec![hop], also: false, parent: false };
            Ok(runtime_core::event::NodeOutput { goto: Some(goto), ..output(json!({})) })
        });
        lab.node("second", |ctx, bench| async move {
            bench.act(&format!("saw {}", ctx.get("client")));
            out(json!({"client": "secret-2"}))
        });
        lab.node("third", |ctx, bench| async move {
            bench.act(&format!("saw {}", ctx.get("client")));
            out(json!({"name": "done"}))
        });
        assert_eq!(lab.start(json!({"client": "secret-1"})).await, Outcome::Success);
        assert_eq!(lab.bench.acts().join(", "), r#"saw "secret-1", saw "secret-2""#);
        assert_eq!(lab.values().await, json!({"name": "done"}));
        let log = lab.store.records(&lab.thread, runtime_core::ids::Seq(1), 1000).await.unwrap();
        let text = serde_json::to_string(&log.iter().map(|(_, record)| record).collect::<Vec<_>>()).unwrap();
        assert!(!text.contains("secret"), "a memory-only value was stored: {text}");
    });
}

#[test]
fn b33_the_last_streamed_checkpoint_of_a_limit_is_the_saved_head() {
    on_every_store(|mut lab| async move {
        lab.graph(ENDLESS).writes("noop", json!({"n": 1}));
        let (outcome, events) = lab.stream(json!({}), limit(3), modes(&[Mode::Checkpoints])).await;
        assert!(failure(&outcome).contains("recursion limit"), "{outcome:?}");
        assert_eq!(lab.ran(), "a b a");
        let streamed = &events.last().unwrap().data;
        let head = lab.live().await;
        assert_eq!(streamed["config"]["configurable"]["checkpoint_id"], json!(head.checkpoint));
        assert_eq!((&streamed["values"], &streamed["next"]), (&head.values, &json!(["b"])));
    });
}

/// Goes round until a limit stops it.
const ENDLESS: &str = "
graph: endless
state: {n: {merge: sum, default: 0}}
nodes:
  a: {function: noop, then: b}
  b: {function: noop, then: [{when: \"n > 1000\", to: end}, {to: a}]}
start: a
";

#[test]
fn x18_a_continued_run_gets_its_limit_and_no_more() {
    on_every_store(|mut lab| async move {
        lab.graph(ENDLESS).writes("noop", json!({"n": 1}));
        assert!(failure(&lab.start_with(json!({}), limit(3)).await).contains("took 3 supersteps"));
        lab.ran();
        assert!(failure(&lab.resume_with(limit(3)).await).contains("recursion limit"));
        assert_eq!(lab.ran(), "b a b", "three, not five");
        assert_eq!(lab.state().await.supersteps, 6, "counted per thread too");
        assert!(failure(&lab.resume_with(limit(1)).await).contains("recursion limit"));
        assert_eq!(lab.ran(), "a");
    });
}

#[test]
fn b34_a_drain_in_the_last_superstep_changes_nothing() {
    on_every_store(|mut lab| async move {
        lab.graph("{graph: one, nodes: {a: {function: slow, then: end}}, start: a}");
        lab.node("slow", |_, bench| async move {
            bench.mark("at work");
            bench.after("drained").await;
            out(json!({}))
        });
        lab.load_graphs().await;
        let (engine, start, thread) = (lab.engine(), lab.what(json!({}), RunOptions::default()), lab.thread.clone());
        let running = engine.start(start).await.unwrap();
        lab.bench.after("at work").await;
        engine.drain(&thread).await.unwrap();
        lab.bench.mark("drained");
        assert_eq!(running.ended().await.unwrap().outcome, Outcome::Success);
    });
}

#[test]
fn b34_a_breakpoint_wins_over_a_drain_and_a_drain_stops_before_the_next_superstep() {
    on_every_store(|mut lab| async move {
        lab.graph("{graph: two, nodes: {a: {function: slow, then: b}, b: {function: noop, then: end}}, start: a}");
        lab.writes("noop", json!({}));
        lab.node("slow", |ctx, bench| async move {
            bench.mark(&format!("{} at work", ctx.thread()));
            bench.after(&format!("{} drained", ctx.thread())).await;
            out(json!({}))
        });
        lab.load_graphs().await;
        for (thread, options, expected) in
            [("one", pause_before(&["b"]), Outcome::Interrupted), ("two", RunOptions::default(), Outcome::Drained)]
        {
            lab.thread = runtime_core::ids::ThreadId::new(thread).unwrap();
            let (engine, start, thread) = (lab.engine(), lab.what(json!({}), options), lab.thread.clone());
            let running = engine.start(start).await.unwrap();
            lab.bench.after(&format!("{thread} at work")).await;
            engine.drain(&thread).await.unwrap();
            lab.bench.mark(&format!("{thread} drained"));
            assert_eq!(running.ended().await.unwrap().outcome, expected);
            assert_eq!(lab.ran(), "a");
            assert_eq!(lab.resume().await, Outcome::Success);
            assert_eq!(lab.ran(), "b");
        }
    });
}

#[test]
fn b66_recorded_steps_of_one_node_run_once_in_total() {
    on_every_store(|mut lab| async move {
        lab.graph("{graph: entry, state: {words: {}}, nodes: {main: {function: main, then: end}}, start: main}");
        lab.node("main", |ctx, bench| async move {
            let mut words = Vec::new();
            for word in ["a", "b"] {
                let spec = CallSpec::new(
                    runtime_core::record::CallKind::Custom,
                    "map",
                    json!(word),
                    graphs::EffectClass::ReadOnly,
                );
                let bench = bench.clone();
                let made = ctx.call(spec, move |_| async move {
                    bench.act(word);
                    Ok(json!(format!("{word}{word}")))
                });
                words.push(made.await?.as_str().unwrap_or("").to_owned());
            }
            let answer = ask(&ctx, "suffix?").await?;
            let suffix = answer.as_str().unwrap_or("");
            out(json!({"words": words.iter().map(|word| format!("{word}{suffix}")).collect::<Vec<_>>()}))
        });
        assert_eq!(lab.start(json!({})).await, Outcome::Interrupted);
        assert_eq!(lab.answer_all(json!("!")).await, Outcome::Success);
        assert_eq!(lab.values().await["words"], json!(["aa!", "bb!"]));
        assert_eq!(lab.bench.acts(), ["a", "b"], "each step was made once");
    });
}

#[test]
fn b59_bulk_updates_that_make_no_sense_are_refused() {
    on_every_store(|mut lab| async move {
        lab.graph(FAN_OUT);
        for name in ["rewrite", "r1", "r2", "qa"] {
            lab.writes(name, json!({"docs": [name]}));
        }
        assert_eq!(lab.start_with(json!({}), pause_before(&["rewrite"])).await, Outcome::Interrupted);
        let edit = |node: Option<&str>| Edit { values: json!({"docs": ["x"]}), as_node: node.map(Into::into) };
        let (engine, thread) = (lab.engine(), lab.thread.clone());
        let before = lab.store.load(&thread).await.unwrap().unwrap();
        for (supersteps, why) in [
            (vec![], "at least one superstep"),
            (vec![vec![]], "has no edit"),
            (vec![vec![edit(None)]], "without `as_node`"),
            (vec![vec![edit(Some("r1")), edit(Some("end"))]], "mixes"),
            (vec![vec![edit(Some("rewrite"))], vec![edit(Some("nobody"))]], "no node `nobody`"),
        ] {
            let refused = engine.bulk_update(&thread, supersteps).await.unwrap_err();
            assert!(refused.to_string().contains(why), "{refused}");
        }
        let after = lab.store.load(&thread).await.unwrap().unwrap();
        assert_eq!((before.seq, before.state), (after.seq, after.state), "nothing was written");
        let whole = vec![vec![edit(Some("rewrite"))], vec![edit(Some("r1")), edit(Some("r2"))]];
        engine.bulk_update(&thread, whole).await.unwrap();
        let view = lab.live().await;
        assert_eq!((view.next.join(" "), view.values), ("qa".to_owned(), json!({"docs": ["x", "x", "x"]})));
    });
}
