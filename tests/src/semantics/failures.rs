//! Failing tasks: siblings, retries, handlers, limits of time, conflicts, routers, joins that starve.

use std::sync::Arc;
use std::time::Duration;

use expect_test::expect;
use runtime_core::error::{ErrorClass, TaskError};
use runtime_core::record::{Outcome, RunOptions};
use runtime_core::stream::Mode;
use serde_json::{Value, json};

use crate::lab::*;
use crate::strict_store::{Death, Disk, StrictStore};

const PENDING: &str = "
graph: pending
state: {value: {merge: sum}}
nodes:
  one: {function: one, then: end}
  two: {function: two, retry: {attempts: 2, initial: 1ms}, then: end}
start: [one, two]
";

#[test]
fn b20_writes_of_a_finished_sibling_wait_and_only_the_failed_task_runs_again() {
    on_every_store(|mut lab| async move {
        lab.clock.run_by_itself();
        lab.graph(PENDING).writes("one", json!({"value": 2}));
        lab.node("two", |_, bench| async move {
            if bench.count("two") <= 4 { broken("bad luck") } else { out(json!({"value": 3})) }
        });
        let outcome = lab.start(json!({"value": 1})).await;
        assert_eq!(failure(&outcome), "node `two`: bad luck");
        assert_eq!(lab.ran(), "one two two");
        let live = lab.live().await;
        assert_eq!((&live.values, live.next.join(" ")), (&json!({"value": 3}), "two".to_owned()));
        assert_eq!(live.tasks[0].result, Some(json!({"value": 2})));
        assert_eq!((live.tasks[1].result.as_ref(), live.tasks[1].error.as_deref()), (None, Some("bad luck")));
        let record = runtime::view::record(lab.history().await.last().unwrap());
        assert_eq!((&record.values, record.next.join(" ")), (&json!({"value": 1}), "one two".to_owned()));
        assert!(matches!(lab.resume().await, Outcome::Failed(_)));
        assert_eq!(lab.ran(), "two two", "a resume counts attempts anew and leaves the sibling alone");
        assert_eq!(lab.resume().await, Outcome::Success);
        assert_eq!((lab.ran(), lab.values().await), ("two".to_owned(), json!({"value": 6})));
        assert_eq!(lab.history().await.len(), 3);
    });
}

#[test]
fn b22_a_failed_superstep_leaves_the_total_as_it_was() {
    on_every_store(|mut lab| async move {
        lab.graph("{graph: total, state: {total: {merge: sum}}, nodes: {add: {function: add, then: end}}, start: add}");
        lab.function("add", |ctx| async move {
            let n = ctx.input()["by"].as_i64().unwrap_or(0);
            if n > 10 { fatal("too much") } else { out(json!({"total": n})) }
        });
        let schema = "input: {schema: {type: object}}";
        lab.graph(&format!(
            "{{graph: total, {schema}, state: {{total: {{merge: sum}}}}, nodes: {{add: {{function: add, then: end}}}}, start: add}}"
        ));
        assert_eq!(lab.start(json!({"by": 2})).await, Outcome::Success);
        let other = std::mem::replace(&mut lab.thread, runtime_core::ids::ThreadId::new("other").unwrap());
        assert_eq!(lab.start(json!({"by": 5})).await, Outcome::Success);
        assert_eq!(failure(&lab.start(json!({"by": 20})).await), "node `add`: too much");
        let live = lab.live().await;
        assert_eq!((&live.values, live.tasks[0].error.as_deref()), (&json!({"total": 5}), Some("too much")));
        lab.thread = other;
        assert_eq!(lab.values().await, json!({"total": 2}));
    });
}

#[test]
fn b23_a_failing_store_reaches_the_caller_and_takes_nothing_with_it() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        for n in 1..=3 {
            let disk = Disk::default();
            let mut lab = Lab::over(Arc::new(StrictStore::dying(&disk, Death::Before(n))));
            lab.graph(
                "{graph: g, state: {x: {}}, nodes: {a: {function: a, then: b}, b: {function: a, then: end}}, start: a}",
            );
            lab.writes("a", json!({"x": 1}));
            let told = match lab.try_start(json!({}), RunOptions::default()).await {
                Ok(Outcome::Failed(error)) => error.message,
                Ok(other) => panic!("commit {n} failed and the run ended with {other:?}"),
                Err(fault) => fault.to_string(),
            };
            assert!(told.contains("the process died"), "{told}");
        }
    });
}

const HANDLED: &str = "
graph: handled
state: {log: {merge: append}}
nodes:
  work: {function: work, retry: {attempts: 2, initial: 1ms, on: [transient]}, on_error: rescue, then: never}
  never: {function: name, then: end}
  rescue: {function: rescue, then: after}
  after: {function: name, then: end}
start: work
";

#[test]
fn b24_a_failed_handler_is_what_a_resume_runs() {
    on_every_store(|mut lab| async move {
        lab.clock.run_by_itself();
        lab.graph(HANDLED).writes("name", json!({}));
        lab.function("work", |_| async { fatal("the disk is full") });
        lab.node("rescue", |ctx, bench| async move {
            let error = ctx.var("error").clone();
            bench.act(&format!("{} {}", error["node"], error["message"]));
            if bench.count("rescue") == 1 { fatal("no rope") } else { out(json!({"log": ["rescued"]})) }
        });
        assert_eq!(failure(&lab.start(json!({})).await), "node `rescue`: no rope");
        assert_eq!(lab.resume().await, Outcome::Success);
        assert_eq!(lab.ran(), "work rescue rescue after");
        let said = r#""work" "the disk is full""#;
        assert_eq!(lab.bench.acts(), [said, said]);
    });
}

#[test]
fn b25_a_handler_runs_after_the_retries_and_decides_where_to_go() {
    on_every_store(|mut lab| async move {
        lab.clock.run_by_itself();
        lab.graph(HANDLED);
        lab.function("name", |ctx| async move {
            let node = ctx.node()?.name.clone();
            out(json!({"log": [format!("{node} saw {}", ctx.get("log"))]}))
        });
        lab.function("work", |_| async { broken("again") });
        lab.function("rescue", |ctx| async move {
            assert_eq!(ctx.var("error")["attempts"], json!(2));
            goto(json!({"log": ["rescued"]}), &["after"])
        });
        assert_eq!(lab.start(json!({})).await, Outcome::Success);
        assert_eq!(lab.ran(), "work work rescue after", "the failed node's own edge does not fire");
        assert_eq!(lab.values().await["log"], json!(["rescued", r#"after saw ["rescued"]"#]));
    });
}

#[test]
fn b27_a_handler_does_not_swallow_a_pause() {
    on_every_store(|mut lab| async move {
        lab.graph(
            "
graph: pause
state: {log: {merge: append}}
nodes:
  asks: {function: asks, on_error: rescue, then: end}
  works: {function: works, on_error: rescue, then: end}
  rescue: {function: rescue, then: end}
start: [asks, works]
",
        );
        lab.function("asks", |ctx| async move {
            // A broad catch around the question: the pause is no value that can be caught.
            let answer = ask(&ctx, "sure?").await.unwrap_or_else(|error| json!(format!("swallowed {error}")));
            out(json!({"log": [answer]}))
        });
        lab.writes("works", json!({"log": ["works"]})).writes("rescue", json!({"log": ["rescue"]}));
        assert_eq!(lab.start(json!({})).await, Outcome::Interrupted);
        assert_eq!(lab.ran(), "asks works");
        assert_eq!(lab.open().await.len(), 1);
        assert_eq!(lab.answer_all(json!("yes")).await, Outcome::Success);
        assert_eq!(lab.values().await["log"], json!(["yes", "works"]));
    });
}

#[test]
fn b28_each_error_uses_the_attempts_of_its_policy() {
    let graph = "
graph: policies
nodes:
  work:
    function: work
    retry:
      - {attempts: 2, initial: 1ms, on: [timeout]}
      - {attempts: 4, initial: 1ms, on: [conflict]}
    then: end
start: work
";
    for (class, tries) in [(ErrorClass::Timeout, 2), (ErrorClass::Conflict, 4), (ErrorClass::Transient, 1)] {
        on_every_store(|mut lab| async move {
            lab.clock.run_by_itself();
            lab.graph(graph).function("work", move |_| async move { Err(TaskError::new(class, "x")) });
            assert!(matches!(lab.start(json!({})).await, Outcome::Failed(_)));
            assert_eq!(lab.ran(), vec!["work"; tries].join(" "), "{class:?}");
        });
    }
}

#[test]
fn b29_a_silent_node_times_out_and_what_it_returns_later_does_not_count() {
    on_every_store(|mut lab| async move {
        lab.graph(
            "{graph: idle, state: {x: {}}, nodes: {slow: {function: slow, timeout: {idle: 5s}, then: end}}, start: slow}",
        );
        lab.node("slow", |ctx, bench| async move {
            ctx.emit(json!("early")).await?;
            bench.mark("said");
            bench.after("never").await;
            out(json!({"x": 1}))
        });
        lab.clock.run_by_itself();
        let outcome = lab.start(json!({})).await;
        assert!(failure(&outcome).contains("no sign of life"), "{outcome:?}");
        assert_eq!(lab.values().await, json!({}));
    });
}

#[test]
fn b30_heartbeats_keep_a_node_awake_but_not_beyond_its_time() {
    on_every_store(|mut lab| async move {
        lab.graph(
            "
graph: beats
state: {x: {}}
nodes: {slow: {function: slow, timeout: {run: 20s, idle: 5s, refresh: heartbeat}, then: end}}
start: slow
",
        );
        let clock = Arc::clone(&lab.clock);
        lab.node("slow", move |ctx, bench| {
            let clock = Arc::clone(&clock);
            async move {
                for _ in 0..40 {
                    clock.advance(Duration::from_secs(1));
                    ctx.heartbeat().await?;
                    bench.act("beat");
                    for _ in 0..20 {
                        tokio::task::yield_now().await;
                    }
                }
                out(json!({"x": 1}))
            }
        });
        let outcome = lab.start(json!({})).await;
        assert!(failure(&outcome).contains("took longer than its `timeout`"), "{outcome:?}");
        let beats = lab.bench.acts().len();
        assert!((15..=25).contains(&beats), "{beats} beats: idle would have ended it after 5, nothing after 40");
    });
}

#[test]
fn b32_the_failed_task_is_streamed_before_the_run_ends() {
    on_every_store(|mut lab| async move {
        lab.graph("{graph: f, nodes: {bad: {function: bad, then: end}}, start: bad}");
        lab.function("bad", |_| async { fatal("boom") });
        let (outcome, events) = lab.stream(json!({}), RunOptions::default(), modes(&[Mode::Tasks])).await;
        assert!(matches!(outcome, Outcome::Failed(_)));
        let last = &events.last().unwrap().data;
        assert_eq!((&last["name"], &last["error"]), (&json!("bad"), &json!("boom")));
    });
}

#[test]
fn x01_a_router_that_fails_takes_the_update_with_it_and_a_resume_goes_on() {
    on_every_store(|mut lab| async move {
        lab.graph(
            "
graph: router
state: {n: {merge: sum, default: 0}, tags: {merge: append, default: []}}
nodes:
  a: {function: a, then: [{when: \"tags[0].x > 0\", to: b}, {to: end}]}
  b: {function: b, then: end}
start: a
",
        );
        lab.node("a", |_, bench| async move {
            let tags = if bench.count("a") == 1 { json!([]) } else { json!([{"x": 1}]) };
            out(json!({"n": 1, "tags": tags}))
        });
        lab.writes("b", json!({"n": 10}));
        let outcome = lab.start(json!({})).await;
        assert!(failure(&outcome).contains("`then` of node `a`"), "{outcome:?}");
        let live = lab.live().await;
        assert_eq!(
            (&live.values["n"], live.next.join(" ")),
            (&json!(0), "a".to_owned()),
            "update and route, or neither"
        );
        assert_eq!(lab.resume().await, Outcome::Success);
        assert_eq!((lab.ran(), lab.values().await["n"].clone()), ("a a b".to_owned(), json!(11)));
    });
}

#[test]
fn x06_an_unknown_target_is_an_error_with_the_nearest_name() {
    let refused = graphs::check(
        "g.yaml",
        b"{graph: g, nodes: {work: {emit: 1, then: finsh}, finish: {emit: 2, then: end}}, start: work}",
        &graphs::OpenCatalog,
    );
    assert!(refused.unwrap_err().to_string().contains("finish"));
    on_every_store(|mut lab| async move {
        lab.graph(
            "{graph: g, nodes: {work: {function: work, then: finish}, finish: {emit: 2, then: end}}, start: work}",
        );
        lab.node("work", |_, bench| async move {
            match bench.count("work") {
                1 => goto(json!({}), &["finsh"]),
                _ => send(json!({}), "nobody", &[json!(1)]),
            }
        });
        let first = lab.start(json!({})).await;
        assert_eq!(failure(&first), "node `work`: graph `g` has no node `finsh`; did you mean `finish`?");
        let second = lab.resume().await;
        assert!(failure(&second).contains("has no node `nobody`"), "{second:?}");
    });
}

#[test]
fn x07_an_unknown_key_is_an_error_with_the_nearest_name() {
    on_every_store(|mut lab| async move {
        lab.graph("{graph: g, state: {total: {}}, nodes: {a: {function: a, then: end}}, start: a}");
        lab.writes("a", json!({"totl": 1}));
        let refused = lab.try_start(json!({"totall": 1}), RunOptions::default()).await.unwrap_err();
        assert_eq!(refused.to_string(), "input has no channel `totall`; did you mean `total`?");
        assert!(lab.store.load(&lab.thread).await.unwrap().is_none(), "a refused input leaves no thread");
        let outcome = lab.start(json!({})).await;
        assert_eq!(failure(&outcome), "node `a`: graph `g` has no channel `totl`; did you mean `total`?");
        let refused = lab.update_at(json!({"tota": 1}), None, None).await.unwrap_err();
        assert!(refused.to_string().contains("did you mean `total`?"), "{refused}");
    });
}

#[test]
fn x08_a_write_conflict_fails_the_superstep_and_the_thread_stays_usable() {
    on_every_store(|mut lab| async move {
        lab.graph(
            "
graph: conflict
state: {x: {}, seen: {merge: append}}
nodes:
  one: {function: one, then: after}
  two: {function: two, then: after}
  after: {function: after, then: end}
start: [one, two]
",
        );
        lab.writes("one", json!({"x": 1, "seen": ["one"]})).writes("after", json!({"seen": ["after"]}));
        lab.node("two", |_, bench| async move {
            if bench.count("two") == 1 { out(json!({"x": 2})) } else { out(json!({"seen": ["two"]})) }
        });
        let outcome = lab.start(json!({"x": 0})).await;
        assert!(failure(&outcome).contains("`one` and `two` both wrote channel `x`"), "{outcome:?}");
        assert_eq!(lab.live().await.next, ["two"], "the first writer keeps its result");
        assert_eq!(lab.resume().await, Outcome::Success);
        assert_eq!(lab.values().await, json!({"x": 1, "seen": ["one", "two", "after"]}));
        assert_eq!(lab.start(json!({"x": 5})).await, Outcome::Success, "new input works too");
    });
}

#[test]
fn x09_a_join_that_can_never_run_is_named() {
    on_every_store(|mut lab| async move {
        lab.graph(
            "
graph: starved
nodes:
  a: {function: a, then: [l, r]}
  l: {function: noop}
  r: {function: noop}
  join: {function: noop, after: [l, r], then: end}
start: a
",
        );
        lab.writes("noop", json!({})).function("a", |_| async { goto(json!({}), &["l"]) });
        let outcome = lab.start(json!({})).await;
        expect![[
            r#"join `join` waits for r, which can no longer run: route to it on every path, or drop it from `after`"#
        ]]
        .assert_eq(failure(&outcome));
        assert_eq!(lab.ran(), "a l");
    });
}

#[test]
fn x15_siblings_of_a_failed_task_finish_and_are_not_run_again() {
    on_every_store(|mut lab| async move {
        lab.graph(
            "
graph: siblings
state: {log: {merge: append}}
nodes:
  fast: {function: fast, then: end}
  slow: {function: slow, then: end}
start: [fast, slow]
",
        );
        lab.node("fast", |_, bench| async move {
            bench.mark("failed");
            if bench.count("fast") == 1 { fatal("boom") } else { out(json!({"log": ["fast"]})) }
        });
        lab.node("slow", |_, bench| async move {
            bench.after("failed").await;
            for _ in 0..50 {
                tokio::task::yield_now().await;
            }
            bench.act("sent");
            out(json!({"log": ["slow"]}))
        });
        assert!(matches!(lab.start(json!({})).await, Outcome::Failed(_)));
        assert_eq!(lab.values().await["log"], json!(["slow"]));
        assert_eq!(lab.resume().await, Outcome::Success);
        assert_eq!((lab.values().await["log"].clone(), lab.bench.acts().len()), (json!(["fast", "slow"]), 1));
    });
}

#[test]
fn x15_a_sibling_that_outlives_the_grace_period_is_stopped_and_stays_to_run() {
    on_every_store(|mut lab| async move {
        lab.grace(Duration::from_secs(10)).graph(
            "
graph: grace
state: {log: {merge: append}}
nodes:
  fast: {function: fast, then: end}
  slow: {function: slow, then: end}
start: [fast, slow]
",
        );
        lab.node("fast", |_, bench| async move {
            if bench.count("fast") == 1 { fatal("boom") } else { out(json!({"log": ["fast"]})) }
        });
        lab.node("slow", |_, bench| async move {
            if bench.count("slow") == 1 {
                bench.after("never").await;
            }
            out(json!({"log": ["slow"]}))
        });
        lab.clock.run_by_itself();
        assert_eq!(failure(&lab.start(json!({})).await), "node `fast`: boom");
        let live = lab.live().await;
        assert_eq!((live.next.join(" "), live.tasks[1].error.as_ref()), ("fast slow".to_owned(), None));
        assert_eq!(lab.resume().await, Outcome::Success);
        assert_eq!(lab.values().await["log"], json!(["fast", "slow"]));
    });
}

#[test]
fn x16_a_timed_out_attempt_never_commits() {
    on_every_store(|mut lab| async move {
        lab.graph("{graph: t, state: {x: {}}, nodes: {slow: {function: slow, timeout: 2s, then: end}}, start: slow}");
        lab.node("slow", |_, bench| async move {
            bench.after("go").await;
            bench.act("late");
            out(json!({"x": 1}))
        });
        lab.clock.run_by_itself();
        assert!(failure(&lab.start(json!({})).await).contains("took longer"));
        lab.bench.mark("go");
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        let live = lab.live().await;
        assert_eq!((live.values, live.next.join(" ")), (json!({}), "slow".to_owned()));
        assert!(lab.bench.acts().is_empty(), "the node was dropped");
    });
}

#[test]
fn x17_a_default_timeout_holds_for_handlers() {
    on_every_store(|mut lab| async move {
        lab.graph(
            "
graph: t
defaults: {timeout: 2s}
nodes:
  work: {function: work, on_error: rescue, then: end}
  rescue: {function: rescue, then: end}
start: work
",
        );
        lab.function("work", |_| async { fatal("boom") });
        lab.node("rescue", |_, bench| async move {
            bench.after("never").await;
            out(json!({}))
        });
        lab.clock.run_by_itself();
        assert!(failure(&lab.start(json!({})).await).starts_with("node `rescue`: the attempt took longer"));
    });
}

#[test]
fn x20_of_two_tasks_with_one_cache_key_one_runs() {
    on_every_store(|mut lab| async move {
        lab.graph(
            "
graph: flight
state: {docs: {merge: append}}
nodes:
  fan: {map: {over: \"['q', 'q', 'r']\", as: q, to: ask}}
  ask: {function: ask, cache: {key: q}}
start: fan
",
        );
        lab.node("ask", |ctx, bench| async move {
            bench.count("ask");
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            out(json!({"docs": [ctx.var("q")]}))
        });
        assert_eq!(lab.start(json!({})).await, Outcome::Success);
        assert_eq!(lab.ran(), "ask|q ask|r");
        assert_eq!(lab.values().await["docs"], json!(["q", "q", "r"]));
    });
}

#[test]
fn x20_a_flight_that_fails_lets_the_next_one_run() {
    on_every_store(|mut lab| async move {
        lab.graph(
            "
graph: flight
state: {docs: {merge: append}}
nodes:
  fan: {map: {over: \"[1, 1]\", as: q, to: ask}}
  ask: {function: ask, cache: {key: q}, on_error: sorry}
  sorry: {function: sorry, then: end}
start: fan
",
        );
        lab.node("ask", |_, bench| async move {
            if bench.count("ask") == 1 { fatal("once") } else { out(json!({"docs": ["ok"]})) }
        });
        lab.writes("sorry", json!({"docs": ["sorry"]}));
        assert_eq!(lab.start(json!({})).await, Outcome::Success);
        assert_eq!(lab.ran(), "ask|1 ask|1 sorry", "errors are not cached");
        assert_eq!(lab.values().await["docs"], json!(["ok", "sorry"]));
    });
}

#[test]
fn x24_a_rate_limit_is_retried_after_the_pause_it_names() {
    on_every_store(|mut lab| async move {
        lab.graph(
            "{graph: r, state: {x: {}}, nodes: {a: {function: a, retry: {attempts: 3, initial: 1ms}, then: end}}, start: a}",
        );
        lab.node("a", |_, bench| async move {
            match bench.count("a") {
                1 => {
                    let error = TaskError::new(ErrorClass::RateLimited, "429");
                    Err(error.retry_after(Duration::from_secs(20)))
                }
                _ => out(json!({"x": 1})),
            }
        });
        lab.load_graphs().await;
        let started = runtime::ports::clock::Clock::now(&*lab.clock);
        let (engine, start) = (lab.engine(), lab.what(json!({}), RunOptions::default()));
        let running = engine.start(start).await.unwrap();
        let waiting = lab.until("the retry is due later", |state| !state.timers.is_empty()).await;
        assert!(*waiting.timers.values().next().unwrap() >= started.plus(Duration::from_secs(20)));
        lab.clock.advance(Duration::from_secs(19));
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(lab.ran(), "a", "not before its time");
        lab.clock.advance(Duration::from_secs(1));
        assert_eq!(running.ended().await.unwrap().outcome, Outcome::Success);
        assert_eq!(lab.ran(), "a");
    });
}

#[test]
fn a_far_retry_is_a_durable_timer() {
    on_every_store(|mut lab| async move {
        lab.graph("{graph: r, nodes: {a: {function: a, retry: {attempts: 2, initial: 1ms}, then: end}}, start: a}");
        lab.node("a", |_, bench| async move {
            match bench.count("a") {
                1 => Err(TaskError::new(ErrorClass::RateLimited, "429").retry_after(Duration::from_secs(3600))),
                _ => out(json!({})),
            }
        });
        assert_eq!(lab.start(json!({})).await, Outcome::Waiting);
        lab.fire().await;
        assert_eq!(lab.ran(), "a", "never early");
        let store = Arc::clone(&lab.store);
        lab.restart_over(store);
        lab.clock.advance(Duration::from_secs(3600));
        lab.fire().await;
        assert_eq!(lab.state().await.run.unwrap().outcome, Some(Outcome::Success));
        lab.fire().await;
        assert_eq!(lab.ran(), "a", "once");
    });
}

#[test]
fn a_write_that_does_not_fit_its_schema_fails_the_task_and_not_the_state() {
    on_every_store(|mut lab| async move {
        lab.graph(
            "
graph: schema
state: {n: {schema: {type: integer}}, list: {merge: append, schema: {type: array, items: {type: string}}}}
nodes: {a: {function: a, then: b}, b: {function: b, then: end}}
start: a
",
        );
        lab.node("a", |_, bench| async move {
            out(json!({"n": if bench.count("a") == 1 { json!("x") } else { json!(1) }}))
        });
        lab.writes("b", json!({"list": [1]}));
        let first = lab.start(json!({})).await;
        assert!(failure(&first).contains("channel `n`"), "{first:?}");
        let second = lab.resume().await;
        assert!(failure(&second).contains("channel `list` at /0"), "{second:?}");
        assert_eq!(lab.values().await, json!({"n": 1}));
        assert_eq!(Value::Null, lab.values().await["list"]);
    });
}
