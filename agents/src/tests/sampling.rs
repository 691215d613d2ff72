//! A tool server that uses our models: asked once and paid once, under the budget of the node that called the tool.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use expect_test::expect;
use graphs::EffectClass;
use runtime_core::error::{ErrorClass, TaskError};
use runtime_core::record::Outcome;
use serde_json::{Value, json};
use tools::asking::{Questions, marker};
use tools::hub::{InputAnswers, InputRequest, Sample, SampleMessage};
use tools::policy::RulePolicy;
use tools::sampling::Sampler;
use tools::toolbox::{ToolBox, ToolBrief, ToolRequest};

use super::reasoning::{Script, mind, text};
use super::world::{World, agreeable, compiled};

/// A server that asks a model before it answers, and fails as often as it is told to once it knows.
struct Curious {
    sampler: Option<Arc<dyn Sampler>>,
    fails: AtomicUsize,
}

#[async_trait]
impl ToolBox for Curious {
    async fn call(&self, request: ToolRequest) -> Result<Value, TaskError> {
        let Questions::Welcome(InputAnswers { known, .. }) = request.questions else { panic!("nobody can be asked") };
        let Some(answer) = known.get("s") else {
            let said = "Whose is ann@bank.example, password=hunter2-hunter2?";
            let messages = vec![SampleMessage { by_model: false, text: said.to_owned() }];
            let (key, system) = ("s".to_owned(), "Be short.".to_owned());
            let sample = Sample { key, tier: None, system, messages, max_tokens: 100, temperature: None, stop: vec![] };
            let (samples, state, known) = (vec![sample], Some("st".to_owned()), [("r".to_owned(), json!({}))].into());
            return Ok(marker(&InputRequest { state, forms: vec![], samples, known }));
        };
        assert!(known.contains_key("r"), "what was known before came back");
        if self.fails.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            return Err(TaskError::new(ErrorClass::Transient, "not yet"));
        }
        Ok(json!({ "answer": answer }))
    }

    fn sampler(&self) -> Option<&Arc<dyn Sampler>> {
        self.sampler.as_ref()
    }

    async fn effect(&self, _: &str) -> Result<EffectClass, TaskError> {
        Ok(EffectClass::ReadOnly)
    }

    async fn list(&self, _: &[String]) -> Result<Vec<ToolBrief>, TaskError> {
        Ok(Vec::new())
    }
}

/// One `tool` node over the curious server.
async fn called(extra: &str, fails: usize, small: Option<&Arc<Script>>) -> (Outcome, Value) {
    let sampler = small.map(|small| Arc::new(mind(small, small)) as Arc<dyn Sampler>);
    let tools = Arc::new(Curious { sampler, fails: AtomicUsize::new(fails) });
    let mut world = World::with_policy(tools, Arc::new(RulePolicy::etl_demo().unwrap()));
    let yaml = format!(
        "graph: g\nstate: {{ found: {{}} }}\nnodes:\n  a: {{ tool: crm.whose, args: {{}}, {extra}, output: found, then: end }}\nstart: a\n"
    );
    let outcome = world.run(compiled("g", &yaml), json!({}), agreeable).await;
    (outcome, world.channel("found").await)
}

const TWICE: &str = "retry: { attempts: 3, initial: 1s, on: [transient] }";

#[tokio::test]
async fn a_sample_is_asked_once_masked_and_handed_to_the_same_call() {
    let small = Script::new("a", [text("[email-1] is a customer.")]);
    let (outcome, found) = called(TWICE, 2, Some(&small)).await;
    assert_eq!((outcome, small.n_asked()), (Outcome::Success, 1), "the call that failed twice was not asked for again");
    expect![[r#"{"content":{"text":"ann@bank.example is a customer.","type":"text"},"model":"m","role":"assistant","stopReason":"endTurn"}"#]]
        .assert_eq(&found["answer"].to_string());
    let asked = small.everything_asked();
    assert!(asked.contains("Whose is [email-1]") && asked.contains("Be short."), "{asked}");
    assert!(!asked.contains("ann@bank") && !asked.contains("hunter2"), "{asked}");
}

#[tokio::test]
async fn a_server_spends_no_more_than_its_caller_may() {
    let small = Script::new("a", [text("Nobody's.")]);
    let (outcome, _) = called("budget: { usd_per_run: 0.0001, on_exceed: fail }", 0, Some(&small)).await;
    let Outcome::Failed(error) = outcome else { panic!("{outcome:?}") };
    assert_eq!((error.class, small.n_asked()), (ErrorClass::Limit, 0), "{error}");
}

#[tokio::test]
async fn without_models_the_call_says_what_it_lacks() {
    let (outcome, _) = called(TWICE, 0, None).await;
    let Outcome::Failed(error) = outcome else { panic!("{outcome:?}") };
    assert_eq!(error.class, ErrorClass::Denied);
    expect!["node `a`: `crm.whose` wants to use a model (`sampling`), and there is none here"]
        .assert_eq(&error.message);
}
