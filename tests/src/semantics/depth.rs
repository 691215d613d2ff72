//! Values nested too deep are refused at every way in, before anything of them is stored; nothing overflows a stack.

use std::sync::Arc;

use graphs::EffectClass;
use runtime::CallSpec;
use runtime_core::deep::DEPTH_MAX;
use runtime_core::event::{Edit, Goto, NodeOutput, Question};
use runtime_core::record::{CallKind, Hop, Outcome};
use serde_json::{Map, Value, json};

use crate::lab::*;

/// Just over the bound, just over what a store reads, and far over what a stack holds.
const LEVELS: [usize; 3] = [DEPTH_MAX + 1, 257, 100_000];

fn nested(levels: usize) -> Value {
    (0..levels).fold(json!(1), |inside, level| match level % 2 {
        0 => Value::Array(vec![inside]),
        _ => Value::Object(Map::from_iter([("a".to_owned(), inside)])),
    })
}

fn object(key: &str, levels: usize) -> Value {
    Value::Object(Map::from_iter([(key.to_owned(), nested(levels))]))
}

/// The text of a refusal that names `place` and the bound.
fn refuses(what: &str, place: &str) {
    assert!(what.contains(place), "{what}");
    assert!(what.contains(&format!("nested deeper than {DEPTH_MAX} levels")), "{what}");
}

/// A node that lets something deep in, in one of several ways.
fn deep(lab: &mut Lab) {
    lab.graph("{graph: g, state: {x: {}, log: {merge: append}, how: {}, levels: {}}, nodes: {work: {function: work, then: end}}, start: work}");
    lab.node("work", |ctx, bench| async move {
        let levels = usize::try_from(ctx.get("levels").as_u64().unwrap_or(0)).unwrap_or(0);
        let spec = |args| CallSpec::new(CallKind::Tool, "s.t", args, EffectClass::ReadOnly);
        match ctx.get("how").as_str().unwrap_or("") {
            "write" => Ok(NodeOutput { writes: vec![("log".into(), nested(levels))], ..Default::default() }),
            "send" => {
                // Moved, never cloned: a clone goes as deep as the value.
                let vars = Value::Object(Map::from_iter([("item".to_owned(), nested(levels))]));
                let to = vec![Hop::Send("work".into(), Arc::new(vars))];
                let goto = Some(Goto { to, also: true, parent: false });
                Ok(NodeOutput { goto, ..NodeOutput::default() })
            }
            "args" => {
                ctx.call(spec(nested(levels)), |_| async move { Ok(Value::Null) }).await?;
                out(json!({}))
            }
            "result" => {
                let called = bench.clone();
                ctx.call(spec(json!({})), move |_| async move {
                    called.act("call");
                    Ok(nested(levels))
                })
                .await?;
                out(json!({}))
            }
            "question" => {
                let question = Question { title: "well".to_owned(), payload: nested(levels), ..Question::default() };
                ctx.ask(question).await?;
                out(json!({}))
            }
            _ => {
                ask(&ctx, "well").await?;
                out(json!({}))
            }
        }
    });
}

#[test]
fn a_node_lets_nothing_in_that_is_too_deep() {
    on_every_store(|mut lab| async move {
        deep(&mut lab);
        for levels in LEVELS {
            for (how, place) in [
                ("write", "node `work` writes channel `log`"),
                ("send", "node `work` sends variables"),
                ("args", "arguments of `s.t`"),
                ("result", "result of `s.t`"),
                ("question", "payload of question `well`"),
            ] {
                let outcome = lab.start(json!({"how": how, "levels": levels})).await;
                refuses(failure(&outcome), place);
            }
        }
        let state = lab.state().await;
        assert!(state.root().unwrap().value("log").is_none_or(|log| **log == json!([])), "nothing was written");
        lab.at_rest().await;
        let loaded = lab.store.load(&lab.thread).await.unwrap().unwrap();
        assert!(loaded.state.interrupts.is_empty());
    });
}

#[test]
fn requests_let_nothing_in_that_is_too_deep() {
    on_every_store(|mut lab| async move {
        deep(&mut lab);
        lab.load_graphs().await;
        for levels in LEVELS {
            let refused = lab.try_start(object("x", levels), Default::default()).await.unwrap_err();
            refuses(&refused.to_string(), "input");
        }
        assert_eq!(lab.start(json!({"how": "ask"})).await, Outcome::Interrupted);
        lab.at_rest().await;
        let before = lab.store.load(&lab.thread).await.unwrap().unwrap();
        let (engine, thread) = (lab.engine(), lab.thread.clone());
        let question = lab.open().await.remove(0);
        for levels in LEVELS {
            let answer = yes(&question, nested(levels));
            let refused = engine.answer(&thread, vec![answer], Value::Null).await.unwrap_err();
            refuses(&refused.to_string(), &format!("answer to interrupt {}", question.id));
            let edit = Edit { values: object("x", levels), as_node: Some("work".into()) };
            refuses(&engine.update(&thread, vec![edit], None).await.unwrap_err().to_string(), "update as work");
            let refused = engine.signal(&thread, "s".into(), nested(levels)).await.unwrap_err();
            refuses(&refused.to_string(), "payload of signal `s`");
            let refused = engine.tag(&thread, object("x", levels)).await.unwrap_err();
            refuses(&refused.to_string(), "metadata");
        }
        lab.at_rest().await;
        let after = lab.store.load(&lab.thread).await.unwrap().unwrap();
        assert_eq!((after.seq, after.state), (before.seq, before.state), "nothing was stored");
        assert_eq!(lab.answer_all(json!("yes")).await, Outcome::Success, "and the thread goes on");
    });
}

#[test]
fn what_is_as_deep_as_allowed_is_stored_and_read_back_everywhere() {
    on_every_store(|mut lab| async move {
        deep(&mut lab);
        let levels = DEPTH_MAX - 1;
        assert_eq!(lab.start(json!({"how": "ask", "x": nested(levels)})).await, Outcome::Interrupted);
        let question = lab.open().await.remove(0);
        let answer = json!({"choice": nested(levels - 1)});
        lab.answer(vec![yes(&question, answer)]).await.unwrap();
        assert_eq!(lab.start(json!({"how": "result", "levels": levels})).await, Outcome::Success);
        assert_eq!(lab.start(json!({"how": "write", "levels": levels})).await, Outcome::Success);
        let store = Arc::clone(&lab.store);
        lab.at_rest().await;
        lab.restart_over(store);
        assert_eq!(lab.values().await["x"], nested(levels));
        assert_eq!(lab.values().await["log"], nested(levels), "a list is appended item by item");
        assert!(lab.history().await.len() > 3);
    });
}

#[test]
fn a_channel_that_grows_deeper_with_each_step_is_stopped_at_the_bound() {
    on_every_store(|mut lab| async move {
        lab.graph("{graph: g, state: {x: {}}, nodes: {wrap: {set: {x: ['{{ x }}']}, then: [{when: 'false', to: end}, {to: wrap}]}}, start: wrap}");
        let outcome = lab.start(json!({"x": 1})).await;
        refuses(failure(&outcome), "channel `x`");
        let mut depth = 0;
        let mut value = &lab.values().await["x"];
        while let Some(inside) = value.get(0) {
            (value, depth) = (inside, depth + 1);
        }
        assert_eq!(depth, DEPTH_MAX);
    });
}
