//! Questions: asking, answering, refusing, expiring; what runs again and what does not.

use std::time::Duration;

use expect_test::expect;
use runtime::{CallSpec, EngineFault};
use runtime_core::effect::{Refusal, Reply, Taken};
use runtime_core::event::{Principal, Question};
use runtime_core::ids::InterruptId;
use runtime_core::record::{CallKind, Outcome, RunOptions};
use runtime_core::stream::Mode;
use serde_json::{Value, json};

use crate::lab::*;

fn refusals(reply: &Reply) -> Vec<String> {
    match reply {
        Reply::Answered(list) => {
            list.iter().filter_map(|taken| taken.as_ref().err().map(ToString::to_string)).collect()
        }
        other => panic!("not the reply to an answer: {other:?}"),
    }
}

const TWICE: &str = "
graph: twice
state: {name: {default: \"\"}, log: {merge: append}}
nodes: {ask: {function: ask, then: end}}
start: ask
";

fn asks_twice(lab: &mut Lab) {
    lab.graph(TWICE).function("ask", |ctx| async move {
        let first = ask(&ctx, "first?").await?;
        let second = ask(&ctx, "second?").await?;
        out(json!({"log": [format!("{} {first} {second}", ctx.get("name"))]}))
    });
}

#[test]
fn b35_a_second_question_surfaces_and_an_update_is_applied_once() {
    on_every_store(|mut lab| async move {
        asks_twice(&mut lab);
        assert_eq!(lab.start(json!({"log": ["start"]})).await, Outcome::Interrupted);
        let first = lab.open().await.remove(0);
        assert_eq!(first.title, "first?");
        let update = json!({"name": "ana", "log": ["update"]});
        let (_, ended) = lab.answer_and_update(vec![yes(&first, json!(1))], update).await.unwrap();
        assert_eq!(ended.unwrap().outcome, Outcome::Interrupted);
        assert_eq!(lab.values().await, json!({"name": "ana", "log": ["start", "update"]}));
        let second = lab.open().await.remove(0);
        assert_eq!((second.title.as_str(), lab.state().await.interrupts.len()), ("second?", 1));
        let (_, ended) = lab.answer(vec![by_id(second.id, json!(2))]).await.unwrap();
        assert_eq!(ended.unwrap().outcome, Outcome::Success);
        assert_eq!(lab.values().await["log"], json!(["start", "update", "\"ana\" 1 2"]));
    });
}

#[test]
fn b36_a_node_asks_until_the_answer_is_valid() {
    on_every_store(|mut lab| async move {
        lab.graph(TWICE).node("ask", |ctx, bench| async move {
            let mut tries = 0;
            loop {
                tries += 1;
                let age = ask(&ctx, "age?").await?;
                bench.act(&format!("{age}"));
                if let Some(age) = age.as_i64().filter(|age| *age > 0) {
                    return out(json!({"log": [age, tries]}));
                }
            }
        });
        assert_eq!(lab.start(json!({})).await, Outcome::Interrupted);
        let mut seen = Vec::new();
        for answer in [json!("old"), json!(-5)] {
            seen.push(lab.open().await.remove(0).id);
            assert_eq!(lab.answer_all(answer).await, Outcome::Interrupted);
        }
        assert_eq!(lab.answer_all(json!(30)).await, Outcome::Success);
        assert_eq!(lab.values().await["log"], json!([30, 3]));
        assert_eq!(lab.ran(), "ask ask ask ask");
        assert_eq!(lab.bench.acts().join(" "), r#""old" "old" -5 "old" -5 30"#);
        assert_ne!(seen[0], seen[1], "the same question asked again is another question");
    });
}

const PARALLEL: &str = "
graph: parallel
state: {log: {merge: append}}
nodes:
  a: {function: a, then: end}
  b: {function: b, then: end}
start: [a, b]
";

fn two_askers(lab: &mut Lab) {
    lab.graph(PARALLEL).function("a", |ctx| async move {
        let answer = ask(&ctx, "a?").await?;
        out(json!({"log": [format!("a {answer}")]}))
    });
    lab.function("b", |ctx| async move {
        let one = ask(&ctx, "b1?").await?;
        let two = ask(&ctx, "b2?").await?;
        out(json!({"log": [format!("b {one} {two}")]}))
    });
}

#[test]
fn b37_live_view_shows_what_is_open_and_the_record_what_was_asked() {
    on_every_store(|mut lab| async move {
        two_askers(&mut lab);
        assert_eq!(lab.start(json!({})).await, Outcome::Interrupted);
        let open = lab.open().await;
        let (_, ended) = lab.answer(vec![yes(&open[0], json!(1))]).await.unwrap();
        assert_eq!(ended.unwrap().outcome, Outcome::Interrupted);
        let live = lab.live().await;
        let titles = |list: &[runtime_core::record::Interrupt]| {
            list.iter().map(|question| question.title.clone()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!((titles(&live.interrupts), live.next.join(" ")), ("b1?".to_owned(), "b".to_owned()));
        assert_eq!(live.tasks[0].result, Some(json!({"log": ["a 1"]})));
        assert!(live.tasks[0].interrupts.is_empty());
        let record = runtime::view::record(lab.history().await.last().unwrap());
        assert_eq!((titles(&record.interrupts), record.next.join(" ")), ("a? b1?".to_owned(), "a b".to_owned()));
        assert_eq!(record.values, json!({}));
        assert_eq!(lab.answer_all(json!(2)).await, Outcome::Interrupted);
        assert_eq!(lab.answer_all(json!(3)).await, Outcome::Success);
        assert_eq!(lab.ran(), "a b a b b", "a ran twice, b three times");
        let asked: Vec<String> = lab.history().await.iter().map(|c| titles(&c.interrupts)).collect();
        assert_eq!(asked, ["", "a? b1? b2?", ""], "history shows where they were asked");
    });
}

#[test]
fn b38_several_questions_are_answered_by_id_and_never_by_a_bare_value() {
    on_every_store(|mut lab| async move {
        two_askers(&mut lab);
        assert_eq!(lab.start(json!({})).await, Outcome::Interrupted);
        let before = lab.state().await;
        let (engine, thread) = (lab.engine(), lab.thread.clone());
        let refused = engine.answer(&thread, vec![], Value::Null).await.unwrap_err();
        assert_eq!(refused.to_string(), "no answer was given: name an interrupt id and its answer");
        assert_eq!(lab.state().await, before);
        let open = lab.open().await;
        let answers = vec![yes(&open[1], json!("b")), yes(&open[0], json!("a"))];
        let (_, ended) = lab.answer(answers).await.unwrap();
        assert_eq!(ended.unwrap().outcome, Outcome::Interrupted);
        assert_eq!(lab.live().await.values, json!({"log": ["a \"a\""]}), "in any order");
    });
}

#[test]
fn b41_x11_an_unknown_id_is_refused_before_anything_is_written() {
    on_every_store(|mut lab| async move {
        two_askers(&mut lab);
        assert_eq!(lab.start(json!({})).await, Outcome::Interrupted);
        lab.ran();
        let open = lab.open().await;
        let before = lab.store.load(&lab.thread).await.unwrap().unwrap();
        let unknown = InterruptId(7);
        let refused = lab.answer(vec![yes(&open[0], json!(1)), by_id(unknown, json!(2))]).await.unwrap_err();
        let EngineFault::Refused(Refusal::UnknownInterrupt { id, pending }) = &refused else { panic!("{refused}") };
        assert_eq!(*id, unknown);
        assert!(open.iter().all(|question| pending.contains(&question.id.to_string())), "{pending}");
        let after = lab.store.load(&lab.thread).await.unwrap().unwrap();
        assert_eq!((before.seq, before.state), (after.seq, after.state), "nothing was written");
        assert_eq!(lab.ran(), "", "nothing ran");
        assert_eq!(lab.answer_all(json!(1)).await, Outcome::Interrupted, "the real ids still work");
    });
}

#[test]
fn b42_an_answer_that_is_sent_again_is_refused() {
    on_every_store(|mut lab| async move {
        asks_twice(&mut lab);
        assert_eq!(lab.start(json!({})).await, Outcome::Interrupted);
        let first = lab.open().await.remove(0);
        assert_eq!(lab.answer_all(json!("yes")).await, Outcome::Interrupted);
        let second = lab.open().await.remove(0);
        let refused = lab.answer(vec![yes(&first, json!("yes"))]).await.unwrap_err();
        assert!(refused.to_string().contains("was already answered by ana"), "{refused}");
        assert_eq!(lab.open().await, [second], "the second question is untouched");
    });
}

#[test]
fn b43_an_invalid_answer_does_not_hold_up_the_valid_one() {
    let graph = "
graph: typed
state: {log: {merge: append}}
nodes:
  mail: {function: mail, then: end}
  pay: {function: pay, then: end}
start: [mail, pay]
";
    on_every_store(|mut lab| async move {
        lab.graph(graph);
        lab.node("mail", |ctx, bench| async move {
            ask(&ctx, "mail?").await?;
            bench.act("mailed");
            out(json!({"log": ["mail"]}))
        });
        lab.function("pay", |ctx| async move {
            let schema =
                Some(json!({"type": "object", "properties": {"amount": {"type": "integer"}}, "required": ["amount"]}));
            let answer = ctx.ask(Question { schema, ..question("pay?") }).await?;
            out(json!({"log": [answer.map(|answer| answer.value["amount"].clone())]}))
        });
        assert_eq!(lab.start(json!({})).await, Outcome::Interrupted);
        let open = lab.open().await;
        let answers = vec![yes(&open[0], json!(true)), yes(&open[1], json!({"amount": "all"}))];
        let (reply, ended) = lab.answer(answers).await.unwrap();
        assert_eq!(refusals(&reply).len(), 1);
        assert!(refusals(&reply)[0].contains("does not fit at `/amount`"), "{:?}", refusals(&reply));
        assert_eq!(ended.unwrap().outcome, Outcome::Interrupted);
        assert_eq!((lab.bench.acts().len(), lab.open().await.len()), (1, 1));
        assert_eq!(lab.answer_all(json!({"amount": 5})).await, Outcome::Success);
        assert_eq!(lab.values().await["log"], json!(["mail", 5]));
        assert_eq!(lab.bench.acts(), ["mailed"], "sent once");
    });
}

#[test]
fn b44_an_answer_that_does_not_fit_is_refused_and_can_be_given_again() {
    on_every_store(|mut lab| async move {
        lab.graph(
            "
graph: age
state: {age: {}}
nodes:
  ask:
    approval: {title: age, choices: [give, refuse], schema: {type: object, properties: {age: {type: integer}}}}
    output: {age: answer.age}
    then: end
start: ask
",
        );
        assert_eq!(lab.start(json!({})).await, Outcome::Interrupted);
        let question = lab.open().await.remove(0);
        assert_eq!(question.schema.as_ref().unwrap()["properties"]["age"]["type"], json!("integer"));
        let before = lab.store.load(&lab.thread).await.unwrap().unwrap();
        for wrong in [json!({"choice": "give", "age": "old"}), json!({"choice": "maybe"}), json!(3)] {
            let (reply, ended) = lab.answer(vec![yes(&question, wrong)]).await.unwrap();
            assert_eq!((refusals(&reply).len(), ended), (1, None));
        }
        assert_eq!(lab.store.load(&lab.thread).await.unwrap().unwrap().seq, before.seq, "nothing was saved");
        assert_eq!(lab.answer_all(json!({"choice": "give", "age": 7})).await, Outcome::Success);
        assert_eq!(lab.values().await, json!({"age": 7}));
    });
}

#[test]
fn b46_a_question_is_not_retried_and_a_cleared_thread_asks_nothing() {
    on_every_store(|mut lab| async move {
        lab.graph(
            "
graph: retried
nodes: {ask: {function: ask, retry: {attempts: 4, initial: 1ms, on: [transient, unknown, permanent]}, then: end}}
start: ask
",
        );
        lab.function("ask", |ctx| async move {
            ask(&ctx, "well?").await?;
            out(json!({}))
        });
        assert_eq!(lab.start(json!({})).await, Outcome::Interrupted);
        assert_eq!(lab.ran(), "ask");
        lab.update(Value::Null, Some("end")).await;
        let live = lab.live().await;
        assert_eq!((live.next.len(), live.interrupts.len()), (0, 0));
        assert!(lab.store.interrupts(None, 10).await.unwrap().is_empty(), "nor in the list of all threads");
        assert_eq!(lab.resume().await, Outcome::Success);
        assert_eq!(lab.ran(), "");
    });
}

#[test]
fn b48_a_retry_uses_the_answer_that_was_given() {
    on_every_store(|mut lab| async move {
        lab.clock.run_by_itself();
        lab.graph(
            "{graph: r, state: {x: {}}, nodes: {ask: {function: ask, retry: {attempts: 2, initial: 1ms}, then: end}}, start: ask}",
        );
        lab.node("ask", |ctx, bench| async move {
            let answer = ask(&ctx, "well?").await?;
            if bench.count("answered") == 1 { broken("hiccup") } else { out(json!({"x": answer})) }
        });
        assert_eq!(lab.start(json!({})).await, Outcome::Interrupted);
        assert_eq!(lab.answer_all(json!("yes")).await, Outcome::Success);
        assert_eq!((lab.ran(), lab.values().await), ("ask ask ask".to_owned(), json!({"x": "yes"})));
    });
}

#[test]
fn b50_a_pause_streams_its_question_and_then_the_state_with_it() {
    on_every_store(|mut lab| async move {
        lab.graph(PARALLEL).writes("a", json!({"log": ["a"]}));
        lab.node("b", |ctx, bench| async move {
            bench.act("b");
            ask(&ctx, "well?").await?;
            out(json!({}))
        });
        let (outcome, events) =
            lab.stream(json!({}), RunOptions::default(), modes(&[Mode::Updates, Mode::Values])).await;
        assert_eq!(outcome, Outcome::Interrupted);
        let shapes: Vec<String> = events
            .iter()
            .map(|event| {
                let keys: Vec<&str> = event.data.as_object().unwrap().keys().map(String::as_str).collect();
                format!("{}: {}", event.mode.word(), keys.join(" "))
            })
            .collect();
        assert_eq!(shapes, ["values: ", "updates: a", "updates: __interrupt__", "values: __interrupt__"]);
        assert_eq!(events[3].data["__interrupt__"][0]["value"], json!("well?"));
    });
}

#[test]
fn b51_a_looped_question_asks_once_for_each_topic() {
    on_every_store(|mut lab| async move {
        lab.graph(
            "
graph: topics
state: {topics: {default: []}, done: {merge: append, default: []}}
nodes:
  setup: {function: setup, then: ask}
  ask: {function: ask, then: [{when: \"done | length < topics | length\", to: ask}, {to: end}]}
start: setup
",
        );
        lab.writes("setup", json!({"topics": ["cats", "dogs"]}));
        lab.function("ask", |ctx| async move {
            let at = ctx.get("done").as_array().map_or(0, Vec::len);
            let topic = ctx.get("topics")[at].as_str().unwrap_or("").to_owned();
            let answer = ask(&ctx, &topic).await?;
            out(json!({"done": [format!("{topic} {answer}")]}))
        });
        assert_eq!(lab.start(json!({})).await, Outcome::Interrupted);
        assert_eq!(lab.open().await[0].title, "cats");
        assert_eq!(lab.answer_all(json!(1)).await, Outcome::Interrupted);
        assert_eq!(lab.open().await[0].title, "dogs");
        assert_eq!(lab.answer_all(json!(2)).await, Outcome::Success);
        assert_eq!(lab.ran(), "setup ask ask ask ask");
        assert_eq!(lab.values().await["done"], json!(["cats 1", "dogs 2"]));
    });
}

#[test]
fn x02_of_two_answers_at_once_one_is_taken_and_the_other_told() {
    on_every_store(|mut lab| async move {
        lab.graph(TWICE).node("ask", |ctx, bench| async move {
            let answer = ask(&ctx, "deploy?").await?;
            bench.act(&format!("deployed {answer}"));
            out(json!({}))
        });
        assert_eq!(lab.start(json!({})).await, Outcome::Interrupted);
        let question = lab.open().await.remove(0);
        let (engine, thread) = (lab.engine(), lab.thread.clone());
        let first = engine.answer(&thread, vec![yes(&question, json!("ana"))], Value::Null);
        let mut other = yes(&question, json!("bob"));
        other.by = person("bob");
        let second = engine.answer(&thread, vec![other], Value::Null);
        let (first, second) = tokio::join!(first, second);
        assert_eq!(first.unwrap(), Reply::Answered(vec![Ok(Taken::Decided)]));
        assert!(second.unwrap_err().to_string().contains("was already answered by ana"));
        lab.quiet().await;
        assert_eq!(lab.bench.acts(), [r#"deployed "ana""#]);
    });
}

#[test]
fn x10_nothing_answers_a_question_that_nobody_saw() {
    on_every_store(|mut lab| async move {
        asks_twice(&mut lab);
        let (engine, thread) = (lab.engine(), lab.thread.clone());
        let early = engine.answer(&thread, vec![by_id(InterruptId(1), json!("yes"))], Value::Null).await.unwrap_err();
        assert!(early.to_string().contains("nothing is open"), "{early}");
        assert!(engine.resume(&thread, RunOptions::default()).await.is_err(), "a fresh thread has nothing to resume");
        assert_eq!(lab.start_with(json!({}), pause_before(&["ask"])).await, Outcome::Interrupted);
        assert_eq!(lab.resume().await, Outcome::Interrupted, "the question is asked, not answered");
        let question = lab.open().await.remove(0);
        let mut other = yes(&question, json!("yes"));
        other.digest = Some("0".repeat(64));
        let (reply, _) = lab.answer(vec![other]).await.unwrap();
        expect!["the answer was given to another payload (digest differs); look at the question again"]
            .assert_eq(refusals(&reply)[0].split(": ").nth(1).unwrap_or(""));
    });
}

#[test]
fn x12_what_was_done_before_a_question_is_not_done_again() {
    on_every_store(|mut lab| async move {
        lab.graph(TWICE).node("ask", |ctx, bench| async move {
            for title in ["first?", "second?"] {
                let spec = CallSpec::new(CallKind::Tool, "mail.send", json!(title), graphs::EffectClass::AtMostOnce);
                let outside = bench.clone();
                ctx.call(spec, move |permit| async move {
                    outside.act(&permit.key);
                    Ok(json!("sent"))
                })
                .await?;
                ask(&ctx, title).await?;
            }
            out(json!({"log": ["done"]}))
        });
        assert_eq!(lab.start(json!({})).await, Outcome::Interrupted);
        assert_eq!(lab.answer_all(json!(1)).await, Outcome::Interrupted);
        assert_eq!(lab.answer_all(json!(2)).await, Outcome::Success);
        let acts = lab.bench.acts();
        assert_eq!(acts.len(), 2, "two effects in three executions: {acts:?}");
        assert_ne!(acts[0], acts[1]);
    });
}

#[test]
fn x13_a_pause_is_no_value_that_a_node_can_catch() {
    on_every_store(|mut lab| async move {
        lab.graph(TWICE).node("ask", |ctx, bench| async move {
            let caught = ctx.ask(question("sure?")).await.is_err();
            bench.act(if caught { "caught" } else { "answered" });
            out(json!({}))
        });
        assert_eq!(lab.start(json!({})).await, Outcome::Interrupted);
        assert!(lab.bench.acts().is_empty());
        assert_eq!(lab.answer_all(json!(1)).await, Outcome::Success);
        assert_eq!(lab.bench.acts(), ["answered"]);
    });
}

#[test]
fn x13_a_node_that_walks_away_from_its_question_stays_paused() {
    on_every_store(|mut lab| async move {
        lab.graph(TWICE).node("ask", |ctx, bench| async move {
            let asked = ctx.ask(question("sure?"));
            let bored = async {
                bench.after("bored").await;
            };
            tokio::select! {
                biased;
                answer = asked => out(json!({"log": [answer?.map(|answer| Value::clone(&answer.value))]})),
                () = bored => out(json!({"log": ["walked away"]})),
            }
        });
        lab.bench.mark("bored");
        assert_eq!(lab.start(json!({})).await, Outcome::Interrupted);
        assert_eq!(lab.values().await, json!({"name": ""}));
    });
}

const APPROVAL: &str = "
graph: approval
state: {log: {merge: append}}
nodes:
  ask:
    approval:
      title: Deploy
      payload: \"{{ {'amount': 3} }}\"
      choices: [approve, reject]
      approvers: [\"user:ana\", \"user:bob\", \"group:ops\"]
      quorum: 2
      four_eyes: true
      expires: 30m
      on_expire: late
    output: {log: \"[answer.choice ~ ' ' ~ answer.by]\"}
    then: end
  late: {set: {log: [late]}, then: end}
start: ask
";

fn vote(
    question: &runtime_core::record::Interrupt,
    user: &str,
    groups: &[&str],
    choice: &str,
) -> runtime_core::event::AnswerInput {
    let by = Principal { user: user.to_owned(), groups: groups.iter().map(|group| (*group).to_owned()).collect() };
    runtime_core::event::AnswerInput { by, ..yes(question, json!({"choice": choice})) }
}

#[test]
fn an_approval_counts_entitled_different_people() {
    on_every_store(|mut lab| async move {
        lab.graph(APPROVAL);
        let mut start = lab.what(json!({}), RunOptions::default());
        start.metadata = json!({"requested_by": "bob"});
        let ended = lab.engine().start(start).await.unwrap().ended().await.unwrap();
        assert_eq!(ended.outcome, Outcome::Interrupted);
        let open = lab.open().await.remove(0);
        assert_eq!((open.quorum, &*open.payload), (2, &json!({"amount": 3})));
        for (user, groups, why) in [("eve", vec!["dev"], "may not answer"), ("bob", vec![], "another person must")] {
            let (reply, _) = lab.answer(vec![vote(&open, user, &groups, "approve")]).await.unwrap();
            assert!(refusals(&reply)[0].contains(why), "{:?}", refusals(&reply));
        }
        let (reply, ended) = lab.answer(vec![vote(&open, "ana", &[], "approve")]).await.unwrap();
        assert_eq!((reply, ended), (Reply::Answered(vec![Ok(Taken::Counted { votes: 1, quorum: 2 })]), None));
        let (reply, _) = lab.answer(vec![vote(&open, "ana", &[], "approve")]).await.unwrap();
        assert!(refusals(&reply)[0].contains("has answered it already"));
        let (_, ended) = lab.answer(vec![vote(&open, "zoe", &["ops"], "approve")]).await.unwrap();
        assert_eq!(ended.unwrap().outcome, Outcome::Success);
        assert_eq!(lab.values().await["log"], json!(["approve zoe"]));
    });
}

#[test]
fn one_rejection_decides() {
    on_every_store(|mut lab| async move {
        lab.graph(APPROVAL);
        assert_eq!(lab.start(json!({})).await, Outcome::Interrupted);
        let open = lab.open().await.remove(0);
        let (_, ended) = lab.answer(vec![vote(&open, "ana", &[], "reject")]).await.unwrap();
        assert_eq!(ended.unwrap().outcome, Outcome::Success);
        assert_eq!(lab.values().await["log"], json!(["reject ana"]));
    });
}

#[test]
fn an_expired_question_takes_its_other_way_and_no_answer() {
    on_every_store(|mut lab| async move {
        lab.graph(APPROVAL);
        assert_eq!(lab.start(json!({})).await, Outcome::Interrupted);
        let open = lab.open().await.remove(0);
        lab.clock.advance(Duration::from_secs(29 * 60));
        lab.fire().await;
        assert_eq!(lab.open().await.len(), 1, "not early");
        lab.clock.advance(Duration::from_secs(60));
        let (reply, _) = lab.answer(vec![vote(&open, "ana", &[], "approve")]).await.unwrap();
        assert!(refusals(&reply)[0].contains("it has expired"), "late, though no timer has fired yet");
        lab.fire().await;
        assert_eq!(lab.state().await.run.unwrap().outcome, Some(Outcome::Success));
        assert_eq!(lab.values().await["log"], json!(["expired ", "late"]));
        let refused = lab.answer(vec![vote(&open, "ana", &[], "approve")]).await.unwrap_err();
        assert!(refused.to_string().contains("is not open here"), "{refused}");
    });
}

#[test]
fn new_input_discards_a_pause() {
    on_every_store(|mut lab| async move {
        two_askers(&mut lab);
        assert_eq!(lab.start(json!({})).await, Outcome::Interrupted);
        let old = lab.open().await;
        assert_eq!(lab.start(json!({"log": ["again"]})).await, Outcome::Interrupted);
        let new = lab.open().await;
        assert_eq!(new.len(), 2);
        assert!(new.iter().all(|question| old.iter().all(|before| before.id != question.id)));
        assert!(lab.answer(vec![yes(&old[0], json!(1))]).await.is_err());
    });
}

#[test]
fn an_edit_hides_the_question_and_it_is_asked_again() {
    on_every_store(|mut lab| async move {
        two_askers(&mut lab);
        assert_eq!(lab.start(json!({})).await, Outcome::Interrupted);
        let open = lab.open().await;
        lab.answer(vec![yes(&open[0], json!(1))]).await.unwrap();
        lab.update(json!({"log": ["edit"]}), None).await;
        let live = lab.live().await;
        assert_eq!((live.interrupts.len(), live.next.join(" ")), (0, "b".to_owned()));
        assert_eq!(live.values["log"], json!(["a 1", "edit"]), "finished parallel writes stay");
        lab.ran();
        assert_eq!(lab.resume().await, Outcome::Interrupted);
        assert_eq!((lab.ran(), lab.open().await[0].title.clone()), ("b".to_owned(), "b1?".to_owned()));
    });
}

#[test]
fn a_cancelled_pause_is_closed_and_can_go_on() {
    on_every_store(|mut lab| async move {
        asks_twice(&mut lab);
        assert_eq!(lab.start(json!({})).await, Outcome::Interrupted);
        let first = lab.open().await.remove(0);
        let (engine, thread) = (lab.engine(), lab.thread.clone());
        engine.cancel(&thread, "not needed").await.unwrap();
        assert_eq!(lab.state().await.run.unwrap().outcome, Some(Outcome::Cancelled));
        assert!(lab.answer(vec![yes(&first, json!(1))]).await.is_err());
        assert!(engine.cancel(&thread, "again").await.is_err(), "there is nothing to cancel");
        assert_eq!(lab.resume().await, Outcome::Interrupted);
        assert_eq!(lab.answer_all(json!(1)).await, Outcome::Interrupted);
        assert_eq!(lab.answer_all(json!(2)).await, Outcome::Success);
    });
}

#[test]
fn falsy_answers_are_answers() {
    for falsy in [json!(false), json!(0), json!("")] {
        on_every_store(|mut lab| {
            let falsy = falsy.clone();
            async move {
                lab.graph(TWICE).function("ask", |ctx| async move {
                    let answer = ask(&ctx, "well?").await?;
                    out(json!({"log": [answer]}))
                });
                assert_eq!(lab.start(json!({})).await, Outcome::Interrupted);
                assert_eq!(lab.answer_all(falsy.clone()).await, Outcome::Success);
                assert_eq!(lab.values().await["log"], json!([falsy]));
            }
        });
    }
}

#[test]
fn questions_of_a_fan_out_are_answered_one_by_one_in_any_order() {
    on_every_store(|mut lab| async move {
        lab.graph(
            "
graph: fan
state: {log: {merge: append}}
nodes:
  fan: {map: {over: \"[1, 2, 3]\", as: n, to: ask}}
  ask: {function: ask}
start: fan
",
        );
        lab.function("ask", |ctx| async move {
            let title = format!("{}?", ctx.var("n"));
            let answer = ask(&ctx, &title).await?;
            out(json!({"log": [answer]}))
        });
        assert_eq!(lab.start(json!({})).await, Outcome::Interrupted);
        for at in [2, 0, 0] {
            let question = lab.open().await.remove(at);
            let answer = json!(format!("to {}", question.title));
            lab.answer(vec![yes(&question, answer)]).await.unwrap();
        }
        assert_eq!(lab.values().await["log"], json!(["to 1?", "to 2?", "to 3?"]));
    });
}
