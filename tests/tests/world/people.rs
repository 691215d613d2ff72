//! What people do in an attempt: they answer, too late, twice, in another's place, or are removed meanwhile.

use runtime_core::event::{AnswerInput, Principal};
use runtime_core::ids::{InterruptId, ThreadId};
use runtime_core::record::{Interrupt, RunOptions};
use serde_json::{Value, json};

use super::{Row, Stage, Suite};

/// Acts out the steps of a row, one after the other.
pub(crate) async fn act(stage: &Stage, suite: &Suite, row: &Row) {
    let mut last: Option<InterruptId> = None;
    for step in row.list("people") {
        let first = open(stage).await.into_iter().next();
        match step["do"].as_str().unwrap() {
            "answer" | "answer_elsewhere" => {
                let Some(question) = first else { continue };
                last = Some(question.id);
                let by = principal(suite, stage, &step);
                if step["removed_before_dispatch"] == true {
                    stage.policy.remove(&by.user);
                }
                let elsewhere = ThreadId::new("elsewhere").unwrap();
                let thread = if step["do"] == "answer" { &stage.thread } else { &elsewhere };
                answer(stage, thread, (question.id, &step, by, &question.digest)).await;
            }
            "replay" => {
                let Some(id) = last else { continue };
                let by = principal(suite, stage, &step);
                answer(stage, &stage.thread, (id, &json!({"choice": "approve"}), by, "")).await;
            }
            "remove" => stage.policy.remove(step["user"].as_str().unwrap()),
            "wait" => stage.clock.forward(step["hours"].as_i64().unwrap()),
            "change" => stage.outside.change(&step),
            "cancel" => {
                last = first.map(|question| question.id);
                // An idle thread has nothing to cancel; its questions are then taken back by the next run.
                let _ = stage.engine.cancel(&stage.thread, "people changed their minds").await;
            }
            "resume" => {
                if let Ok(running) = stage.engine.resume(&stage.thread, RunOptions::default()).await {
                    running.ended().await.unwrap();
                }
            }
            other => panic!("nobody can `{other}`"),
        }
    }
}

async fn open(stage: &Stage) -> Vec<Interrupt> {
    let state = stage.engine.state(&stage.thread).await.unwrap().unwrap_or_default();
    state.interrupts.into_values().collect()
}

fn principal(suite: &Suite, stage: &Stage, step: &Value) -> Principal {
    let user = step["by"].as_str().unwrap_or("ann").to_owned();
    let groups = stage.policy.now().groups.clone().unwrap_or_default();
    let known = suite.0["groups"].as_object().unwrap().keys();
    let groups = known.filter(|group| groups.get(*group).is_some_and(|members| members.contains(&user)));
    Principal { groups: groups.cloned().collect(), user }
}

async fn answer(stage: &Stage, thread: &ThreadId, what: (InterruptId, &Value, Principal, &str)) {
    let (id, step, by, digest) = what;
    let mut value = json!({"choice": step["choice"]});
    if let Some(args) = step.get("args") {
        value["args"] = args.clone();
    }
    let digest = match step["digest"].as_str() {
        Some("wrong") => Some("00".repeat(32)),
        _ => Some(digest.to_owned()).filter(|digest| !digest.is_empty()),
    };
    // A refused answer is what most attempts expect; what arrives outside tells.
    let _ = stage.engine.answer_and_join(thread, vec![AnswerInput { id, digest, value, by }], Value::Null).await;
}
