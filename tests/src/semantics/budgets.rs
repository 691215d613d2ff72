//! Limits that no resume starts anew, and what a store must not show.

use std::sync::Arc;

use checkpoints::keys::KeyRing;
use checkpoints::open::{Address, OpenOptions, open};
use graphs::EffectClass;
use runtime::CallSpec;
use runtime_core::record::{CallKind, InterruptKind, Outcome};
use serde_json::{Value, json};

use crate::lab::*;

fn budgeted(lab: &mut Lab, on_exceed: &str) {
    lab.clock.run_by_itself();
    lab.graph(&format!(
        "
graph: budgeted
state: {{n: {{merge: sum, default: 0}}}}
nodes:
  work: {{function: work, budget: {{calls_per_run: 3, on_exceed: {on_exceed}}}, then: pause}}
  pause: {{approval: {{title: again, choices: [go, stop]}}, then: [{{when: \"n > 100\", to: end}}, {{to: work}}]}}
start: work
"
    ));
    lab.node("work", |ctx, bench| async move {
        for effect in [EffectClass::ReadOnly, EffectClass::AtMostOnce] {
            let spec = CallSpec::new(CallKind::Model, "model", json!(ctx.step()), effect);
            let bench = bench.clone();
            ctx.call(spec, move |_| async move {
                bench.act("call");
                Ok(Value::Null)
            })
            .await?;
        }
        out(json!({"n": 1}))
    });
}

#[test]
fn x14_a_budget_is_not_reset_by_a_resume_nor_by_a_restart() {
    on_every_store(|mut lab| async move {
        budgeted(&mut lab, "fail");
        assert_eq!(lab.start(json!({})).await, Outcome::Interrupted);
        let store = Arc::clone(&lab.store);
        lab.restart_over(store);
        let outcome = lab.answer_all(json!("go")).await;
        assert!(
            failure(&outcome).contains("has made 3 calls since the thread's input; its budget is 3"),
            "{outcome:?}"
        );
        assert!(matches!(lab.resume().await, Outcome::Failed(_)), "a resume does not help");
        assert_eq!(lab.bench.acts().len(), 3);
        assert_eq!(lab.start(json!({})).await, Outcome::Interrupted, "new input does");
        assert_eq!(lab.bench.acts().len(), 5);
    });
}

#[test]
fn x14_a_budget_can_ask_people() {
    on_every_store(|mut lab| async move {
        budgeted(&mut lab, "pause");
        assert_eq!(lab.start(json!({})).await, Outcome::Interrupted);
        assert_eq!(lab.answer_all(json!("go")).await, Outcome::Interrupted);
        let question = lab.open().await.remove(0);
        assert_eq!((question.kind, &question.payload["limit"]), (InterruptKind::Budget, &json!(3)));
        assert_eq!(lab.bench.acts().len(), 3);
        assert_eq!(lab.answer_all(json!("approve")).await, Outcome::Interrupted);
        assert_eq!((lab.bench.acts().len(), lab.open().await[0].kind), (4, InterruptKind::Approval));
    });
}

#[test]
fn x22_an_encrypted_store_shows_no_value_and_no_name() {
    for kind in ["sled", "fjall"] {
        let folder = tempfile::tempdir().unwrap();
        let address = match kind {
            "sled" => Address::Sled(folder.path().join("s")),
            _ => Address::Fjall(folder.path().join("s")),
        };
        let keys = KeyRing::new(&"07".repeat(32).into(), &[]).unwrap();
        let options = OpenOptions { keys: Some(Arc::new(keys)), ..OpenOptions::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut lab = Lab::over(open(&address, &options).unwrap());
            lab.graph(
                "{graph: g, state: {secretchannel: {}, number: {}}, nodes: {a: {function: a, then: end}}, start: a}",
            );
            lab.writes("a", json!({"secretchannel": "secretvalue"}));
            let mut start = lab.what(json!({"number": 123_456_789}), Default::default());
            start.metadata = json!({"label": "secretlabel"});
            assert_eq!(lab.engine().start(start).await.unwrap().ended().await.unwrap().outcome, Outcome::Success);
            assert_eq!(lab.values().await, json!({"secretchannel": "secretvalue", "number": 123_456_789}));
            lab.engine().shutdown().await.unwrap();
        });
        let mut bytes = Vec::new();
        let mut folders = vec![folder.path().to_owned()];
        while let Some(at) = folders.pop() {
            for entry in std::fs::read_dir(at).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => bytes.extend(std::fs::read(path).unwrap()),
                }
            }
        }
        assert!(!bytes.is_empty());
        for secret in ["secretvalue", "secretchannel", "secretlabel", "123456789"] {
            let shown = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!shown, "{kind} shows `{secret}`");
        }
    }
}

#[test]
fn x23_empty_commands_are_refused_in_words() {
    on_every_store(|mut lab| async move {
        budgeted(&mut lab, "fail");
        let (engine, thread) = (lab.engine(), lab.thread.clone());
        let nothing = engine.resume(&thread, Default::default()).await.err().unwrap();
        assert_eq!(nothing.to_string(), "the thread has nothing to go on from: start it with input");
        assert_eq!(lab.start(json!({})).await, Outcome::Interrupted, "an empty input is input");
        let nothing = engine.answer(&thread, vec![], Value::Null).await.unwrap_err();
        assert_eq!(nothing.to_string(), "no answer was given: name an interrupt id and its answer");
        let nothing = engine.update(&thread, vec![], None).await.unwrap_err();
        assert_eq!(nothing.to_string(), "an update needs at least one edit in each superstep");
        let wrong = lab.try_start(json!([1]), Default::default()).await.unwrap_err();
        assert!(wrong.to_string().contains("input must be a JSON object"), "{wrong}");
    });
}
