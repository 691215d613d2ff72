//! Tiers over scripted servers: who is asked after whom, what it cost, what it may cost at most.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::calls::{KEY, config, ports};
use super::server::{Reply, Server};
use super::streams::{STREAMS, whole};
use crate::config::{Key, Kind, ModelsConfig};
use crate::error::{ErrorClass, ModelError, Spent};
use crate::prices::{Amounts, PriceTable};
use crate::provider::{Delta, Provider, Sink};
use crate::request::{ModelRequest, ToolChoice};
use crate::response::{ModelResponse, StopReason, Usage};
use crate::tiers::{Completion, Setup, TierError, Tiers};
use crate::tokens::Correction;

const PRICES: &str = "
claude-a: { input: 1, output: 10, context: 2000, max_output: 1000, temperature: false, forced_tools: false }
gpt-b: { input: 2, output: 20, context: 200000, max_output: 1000 }
gpt-c: { input: 3, output: 30, context: 2000, max_output: 1000 }
";

struct World {
    tiers: Tiers,
    servers: [Server; 3],
}

/// Three providers in one tier: `a` speaks Messages, `b` Responses, `c` Chat Completions.
async fn world(scripts: [Vec<Reply>; 3]) -> World {
    let [a, b, c] = scripts;
    let servers = [Server::start(a).await, Server::start(b).await, Server::start(c).await];
    let mut models = ModelsConfig::default();
    for ((name, kind), server) in
        [("a", Kind::Anthropic), ("b", Kind::OpenaiResponses), ("c", Kind::OpenaiChat)].into_iter().zip(&servers)
    {
        let mut provider = config(kind, &server.url);
        provider.tries = std::num::NonZeroU32::new(1);
        provider.key_env = Some("KEY".into());
        models.providers.insert(name.into(), provider);
    }
    models.tiers.insert("low".into(), vec!["a/claude-a".into(), "b/gpt-b".into(), "c/gpt-c".into()]);
    models.tiers.insert("high".into(), vec!["b/gpt-b".into()]);
    models.order = vec!["low".into(), "high".into()];
    let setup = Setup {
        prices: PriceTable::parse(PRICES).unwrap(),
        correction: Correction::default(),
        ports: ports().0,
        key: &|_| Ok(Key::from(secrecy::SecretString::from(KEY))),
    };
    World { tiers: Tiers::open(&models, setup).unwrap(), servers }
}

impl World {
    async fn ask(&self, request: &ModelRequest) -> (Result<Completion, TierError>, Vec<Delta>) {
        let mut deltas = Vec::new();
        let answer = self.tiers.complete("low", request, &mut |delta| deltas.push(delta)).await;
        (answer, deltas)
    }

    fn asked(&self) -> [usize; 3] {
        [0, 1, 2].map(|ix| self.servers[ix].seen().len())
    }
}

fn overloaded() -> Reply {
    Reply::json(529, "", &json!({"error": {"type": "overloaded_error"}}))
}

fn request() -> ModelRequest {
    ModelRequest { stream: true, ..ModelRequest::of_text("what is wrong with the run?", 100) }
}

// 25 + 2000 + 100 tokens read, 89 written.
const ANSWER_OF_A: u64 = 2125 + 890;
const ANSWER_OF_B: u64 = 2125 * 2 + 89 * 20;

#[tokio::test]
async fn the_first_that_answers_is_who_was_asked() {
    let world = world([vec![Reply::events(STREAMS[0])], vec![], vec![]]).await;
    let (answer, _) = world.ask(&request()).await;
    let answer = answer.unwrap();
    assert_eq!((answer.response.provider.as_str(), answer.attempts.len()), ("a", 0));
    assert_eq!(answer.spent, Amounts { usd_micros: ANSWER_OF_A, tokens: 2214 });
    assert_eq!(world.asked(), [1, 0, 0]);
}

#[tokio::test]
async fn overload_and_outage_fall_sideways_and_cost_nothing() {
    let broken = Reply::json(500, "", &Value::Null);
    let world = world([vec![overloaded()], vec![broken], vec![Reply::json(200, "", &whole(1))]]).await;
    let (answer, _) = world.ask(&request()).await;
    let answer = answer.unwrap();
    assert_eq!(answer.response.provider, "c");
    let classes: Vec<ErrorClass> = answer.attempts.iter().map(|attempt| attempt.error.class).collect();
    assert_eq!(classes, [ErrorClass::Overloaded, ErrorClass::Unavailable]);
    assert!(answer.attempts.iter().all(|attempt| attempt.spent == Amounts::default()));
    assert_eq!(answer.spent.usd_micros, 2125 * 3 + 89 * 30);
}

#[tokio::test]
async fn a_cut_stream_falls_sideways_says_so_and_is_paid_at_its_worst() {
    let half: String = STREAMS[0].split_inclusive("\n\n").take(9).collect();
    let world = world([vec![Reply::events(&half)], vec![Reply::events(STREAMS[2])], vec![]]).await;
    let worst = world.tiers.worst_case("low", &request()).await.unwrap();
    let (answer, deltas) = world.ask(&request()).await;
    let answer = answer.unwrap();
    let first = &answer.attempts[0];
    assert_eq!((first.error.class, first.error.spent), (ErrorClass::CutStream, Spent::Unknown));
    // 100 tokens of answer at 10 dollars a million, and the prompt.
    assert!(first.spent.usd_micros > 1000 && first.spent.usd_micros < 1100, "{:?}", first.spent);
    assert_eq!(answer.spent.usd_micros, first.spent.usd_micros + ANSWER_OF_B);
    let restarts = deltas.iter().filter(|delta| **delta == Delta::Restart).count();
    assert_eq!((restarts, &deltas[0]), (1, &Delta::Text("I clear ".into())));
    assert!(worst.usd_micros > first.spent.usd_micros, "all three may be paid");
}

#[tokio::test]
async fn what_is_wrong_with_the_request_is_not_asked_again() {
    let refused = Reply::json(400, "", &json!({"error": {"type": "invalid_request_error"}}));
    let world = world([vec![refused], vec![], vec![]]).await;
    let (answer, _) = world.ask(&request()).await;
    let error = answer.unwrap_err();
    assert_eq!((error.class(), error.attempts.len(), world.asked()), (Some(ErrorClass::InvalidRequest), 1, [1, 0, 0]));
}

#[tokio::test]
async fn a_request_that_is_too_long_goes_to_a_larger_window_only() {
    let world = world([vec![], vec![Reply::json(200, "", &whole(2))], vec![]]).await;
    let long = ModelRequest::of_text("what is wrong with the run? ".repeat(400), 100);
    let (answer, _) = world.ask(&long).await;
    let answer = answer.unwrap();
    assert_eq!(
        (answer.response.provider.as_str(), world.asked()),
        ("b", [0, 1, 0]),
        "the small window was not even asked"
    );
    assert_eq!(answer.attempts[0].error.class, ErrorClass::ContextOverflow);
    // The provider may know better than our count; another small window is not tried then.
    let overflow = || Reply::json(400, "", &json!({"error": {"code": "context_length_exceeded"}}));
    let world = self::world([vec![overflow()], vec![overflow()], vec![]]).await;
    let error = world.ask(&request()).await.0.unwrap_err();
    assert_eq!((error.attempts.len(), world.asked()), (2, [1, 1, 0]));
}

#[tokio::test]
async fn when_nobody_answers_everybody_is_named() {
    let world = world([vec![overloaded()], vec![overloaded()], vec![overloaded()]]).await;
    let error = world.ask(&request()).await.0.unwrap_err();
    let text = error.to_string();
    assert_eq!(error.attempts.len(), 3);
    assert!(
        text.starts_with("no model of the tier `low` answered; a (model claude-a) is overloaded, HTTP 529"),
        "{text}"
    );
    assert!(text.contains("; c (model gpt-c) is overloaded"), "{text}");
    let none = world.tiers.complete("middle", &request(), &mut |_| {}).await.unwrap_err();
    assert_eq!(none.to_string(), "there is no tier `middle`: name one of `models.tiers`");
    assert_eq!((world.tiers.above("low"), world.tiers.above("high")), (Some("high"), None));
}

#[tokio::test]
async fn each_model_gets_what_it_takes() {
    let mut asked = request();
    (asked.temperature, asked.max_output_tokens) = (Some(0.0), 5000);
    asked.tools =
        vec![crate::Tool { name: "t".into(), description: String::new(), parameters: json!({}), strict: false }];
    asked.tool_choice = ToolChoice::Any;
    let world = world([vec![overloaded()], vec![Reply::events(STREAMS[2])], vec![]]).await;
    assert!(world.ask(&asked).await.0.is_ok());
    let (a, b) = (world.servers[0].seen()[0].json(), world.servers[1].seen()[0].json());
    assert_eq!(
        (&a["temperature"], &a["tool_choice"], &a["max_tokens"]),
        (&Value::Null, &json!({"type": "auto"}), &json!(1000))
    );
    assert_eq!((&b["temperature"], &b["tool_choice"], &b["model"]), (&json!(0.0), &json!("required"), &json!("gpt-b")));
}

#[tokio::test]
async fn reported_counts_teach_the_next_estimate() {
    let mut asked = request();
    asked.messages = vec![crate::Message::user("why did the run of the pipeline fail this morning? ".repeat(20))];
    let world = world([vec![Reply::events(STREAMS[0])], vec![], vec![]]).await;
    let before = world.tiers.worst_case("low", &asked).await.unwrap();
    assert!(world.ask(&asked).await.0.is_ok());
    let after = world.tiers.worst_case("low", &asked).await.unwrap();
    assert!(after.tokens > before.tokens, "the provider counted ten times as much: {before:?} {after:?}");
    assert_ne!(world.tiers.correction(), Correction::default());
}

/// A provider that does what it is told, once.
struct Obedient {
    name: &'static str,
    outcome: Mutex<Option<Outcome>>,
}

type Outcome = Result<Option<Usage>, (ErrorClass, Spent)>;

#[async_trait::async_trait]
impl Provider for Obedient {
    fn name(&self) -> &str {
        self.name
    }

    async fn complete(&self, request: &ModelRequest, _sink: &mut Sink<'_>) -> Result<ModelResponse, ModelError> {
        let outcome = self.outcome.lock().take().expect("asked twice, so it could be billed twice");
        let (provider, model) = (self.name.to_owned(), request.model.clone());
        match outcome {
            Ok(usage) => {
                Ok(ModelResponse { parts: vec![], stop: StopReason::End, usage, provider, model, request_id: None })
            }
            Err((class, spent)) => {
                let (request_id, status, detail, retry_after_ms) = (None, None, String::new(), None);
                Err(ModelError { class, provider, model, request_id, status, detail, retry_after_ms, spent, tries: 1 })
            }
        }
    }
}

/// Tokens that our count and the factor of an unlearned model allow; the answer keeps its bound.
fn usage() -> impl Strategy<Value = Usage> {
    (0_u64..15, 0_u64..15, 0_u64..15, 0_u64..=100).prop_map(|(input, cache_read, cache_write, output)| Usage {
        input,
        output,
        cache_read,
        cache_write,
    })
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let spent = prop_oneof![Just(Spent::Nothing), usage().prop_map(Spent::Known), Just(Spent::Unknown)];
    let class = prop::sample::select(vec![
        ErrorClass::Overloaded,
        ErrorClass::CutStream,
        ErrorClass::Timeout,
        ErrorClass::InvalidRequest,
        ErrorClass::ContextOverflow,
    ]);
    prop_oneof![prop::option::of(usage()).prop_map(Ok), (class, spent).prop_map(Err)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever goes wrong on the way: nobody is asked twice, the sum is the sum of its parts, and what was reserved before the
    /// call is enough.
    #[test]
    fn a_call_costs_what_its_attempts_cost_and_never_more_than_its_worst_case(
        outcomes in [outcome(), outcome(), outcome()],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut providers: BTreeMap<&str, Arc<dyn Provider>> = BTreeMap::new();
        for (name, outcome) in ["a", "b", "c"].into_iter().zip(outcomes) {
            providers.insert(name, Arc::new(Obedient { name, outcome: Mutex::new(Some(outcome)) }));
        }
        let mut models = ModelsConfig::default();
        models.tiers.insert("low".into(), vec!["a/claude-a".into(), "b/gpt-b".into(), "c/gpt-c".into()]);
        let prices = PriceTable::parse(PRICES).unwrap();
        let tiers = Tiers::of(&models, &prices, providers).unwrap();
        let asked = request();
        let worst = runtime.block_on(tiers.worst_case("low", &asked)).unwrap();
        let (spent, attempts, of_answer) = match runtime.block_on(tiers.complete("low", &asked, &mut |_| {})) {
            Ok(completion) => {
                let card = prices.card("any", &completion.response.model).unwrap();
                let cost = completion.response.usage.map(|usage| card.cost(&usage));
                (completion.spent, completion.attempts, Some(cost))
            }
            Err(error) => (error.spent, error.attempts, None),
        };
        prop_assert!(spent.usd_micros <= worst.usd_micros && spent.tokens <= worst.tokens, "{spent:?} of {worst:?}");
        let before = attempts.iter().map(|attempt| attempt.spent).fold(Amounts::default(), Amounts::plus);
        match of_answer {
            Some(Some(cost)) => prop_assert_eq!(spent, before.plus(cost)),
            Some(None) => prop_assert!(spent.usd_micros > before.usd_micros, "who counts nothing is paid at the worst"),
            None => prop_assert_eq!(spent, before),
        }
        for attempt in &attempts {
            prop_assert_eq!(attempt.spent == Amounts::default(), match attempt.error.spent {
                Spent::Nothing => true,
                Spent::Known(usage) => usage == Usage::default(),
                Spent::Unknown => false,
            });
        }
    }
}

/// The worst case is reached when everybody breaks off: the dearest model's alone would not have been enough.
#[tokio::test]
async fn the_worst_case_is_the_sum_and_no_less() {
    let half: String = STREAMS[0].split_inclusive("\n\n").take(3).collect();
    let cut = || vec![Reply::events(&half)];
    let world = world([cut(), cut(), cut()]).await;
    let worst = world.tiers.worst_case("low", &request()).await.unwrap();
    let error = world.ask(&request()).await.0.unwrap_err();
    assert_eq!((error.attempts.len(), error.spent), (3, worst));
    assert!(error.attempts.iter().all(|attempt| attempt.spent.usd_micros < worst.usd_micros));
}

#[test]
fn a_model_without_a_price_and_a_key_that_is_missing_are_found_at_the_start() {
    let open = |yaml: &str| {
        let models = ModelsConfig::parse(yaml).unwrap();
        let key = |_: &crate::KeySource| Err("the environment variable K is not set".to_owned());
        let setup = Setup {
            prices: PriceTable::shipped().unwrap(),
            correction: Correction::default(),
            ports: crate::Ports::default(),
            key: &key,
        };
        Tiers::open(&models, setup).map(|tiers| tiers.order().to_vec())
    };
    let unknown = "{ providers: { a: { kind: anthropic } }, tiers: { low: [a/claude-opus-55] }, order: [low] }";
    let problems = open(unknown).unwrap_err().join("\n");
    assert!(problems.contains("tiers.low: there is no price") && problems.contains("`claude-opus-5-5`?"), "{problems}");
    assert_eq!(open(&unknown.replace("opus-55", "opus-5-5")).unwrap(), ["low"]);
    let keyed = unknown.replace("anthropic }", "anthropic, key_env: K }");
    assert_eq!(open(&keyed).unwrap_err(), ["providers.a: the environment variable K is not set"]);
}
