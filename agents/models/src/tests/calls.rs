//! Every provider against a scripted server: what goes out, what comes back, what goes wrong, what never gets out.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use secrecy::SecretString;
use serde_json::{Value, json};

use super::server::{Reply, Server};
use super::streams::{STREAMS, whole};
use crate::bounds::Bounds;
use crate::config::{Key, Kind, ProviderConfig};
use crate::error::{ErrorClass, ModelError, Spent};
use crate::limits::Limits;
use crate::provider::{Delta, Ports, Provider, open};
use crate::request::{Effort, Message, ModelRequest, OutputSchema, Part, Role, System, Tool, ToolChoice};
use crate::response::{ModelResponse, StopReason, Usage};
use crate::retry::RetryPolicy;

pub(super) const KINDS: [Kind; 3] = [Kind::Anthropic, Kind::OpenaiChat, Kind::OpenaiResponses];
pub(super) const KEY: &str = "sk-test-0123456789abcdef-TAIL";
const PROMPT: &str = "customer Ann-Marie Weber, card 4111-1111, wants the run cleared";

pub(super) fn config(kind: Kind, url: &str) -> ProviderConfig {
    let bounds = Bounds {
        answer_bytes: 64 * 1024,
        event_bytes: 8 * 1024,
        idle: Duration::from_millis(300),
        connect: Duration::from_secs(5),
        whole: Duration::from_secs(10),
    };
    let policy = RetryPolicy { tries_max: 3, pause: Duration::from_secs(1), pause_max: Duration::from_secs(30) };
    ProviderConfig { url: Some(url.to_owned()), exact: Some((bounds, policy)), ..ProviderConfig::of(kind) }
}

/// Ports that wait for nothing and remember for how long they should have.
pub(super) fn ports() -> (Ports, Arc<Mutex<Vec<Duration>>>) {
    let pauses = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&pauses);
    let ports = Ports {
        now: Arc::new(|| "2026-11-27T10:00:00Z".parse().unwrap()),
        chance: Arc::new(|| 0.5),
        pause: Arc::new(move |pause| {
            noted.lock().push(pause);
            Box::pin(std::future::ready(()))
        }),
    };
    (ports, pauses)
}

pub(super) fn key() -> Option<Key> {
    Some(Key(SecretString::from(KEY)))
}

/// What a call came to.
struct Call {
    answer: Result<ModelResponse, ModelError>,
    deltas: Vec<Delta>,
    pauses: Vec<Duration>,
    server: Server,
}

impl Call {
    fn error(&self) -> &ModelError {
        self.answer.as_ref().unwrap_err()
    }
}

async fn call(kind: Kind, script: Vec<Reply>, request: &ModelRequest) -> Call {
    let server = Server::start(script).await;
    let (ports, pauses) = ports();
    let provider = open("p", &config(kind, &server.url), key(), Arc::new(Limits::default()), ports).unwrap();
    let mut deltas = Vec::new();
    let answer = provider.complete(request, &mut |delta| deltas.push(delta)).await;
    let pauses = pauses.lock().clone();
    Call { answer, deltas, pauses, server }
}

fn asked(kind: Kind) -> ModelRequest {
    let mut request = ModelRequest::of_text(PROMPT, 500);
    request.model = if kind == Kind::Anthropic { "claude-opus-5-5".into() } else { "gpt-6.2-sol".into() };
    request
}

/// A request that uses everything.
fn everything(kind: Kind) -> ModelRequest {
    let mut request = asked(kind);
    request.system = System { text: "You heal pipelines.".into(), cache: true };
    let thought = Part::Thought {
        provider: "p".into(),
        model: request.model.clone(),
        data: json!({"type": "own", "sealed": "x"}),
    };
    let foreign = Part::Thought { provider: "q".into(), model: "other".into(), data: json!({"type": "foreign"}) };
    let calls = vec![
        thought,
        foreign,
        Part::text("both"),
        Part::call("c1".into(), "clear".into(), "{\"run\":\"a\"}"),
        Part::call("c2".into(), "look".into(), "{"),
    ];
    request.messages.push(Message { role: Role::Assistant, parts: calls, cache: false });
    let result =
        |id: &str, content: &str, is_error| Part::ToolResult { call_id: id.into(), content: content.into(), is_error };
    let results = vec![Part::text("go on"), result("c1", "done", false), result("c2", "no such tool", true)];
    request.messages.push(Message { role: Role::User, parts: results, cache: true });
    request.tools = vec![Tool {
        name: "clear".into(),
        description: "clears".into(),
        parameters: json!({"type": "object"}),
        strict: true,
    }];
    request.tool_choice = ToolChoice::Tool("clear".into());
    request.output = Some(OutputSchema { name: "verdict".into(), schema: json!({"type": "object"}) });
    request.effort = Some(Effort::Low);
    request
}

#[tokio::test]
async fn messages_says_everything() {
    let call =
        call(Kind::Anthropic, vec![Reply::json(200, "request-id: req_9\r\n", &whole(0))], &everything(Kind::Anthropic))
            .await;
    assert_eq!(call.answer.unwrap().request_id.as_deref(), Some("req_9"));
    let seen = &call.server.seen()[0];
    assert_eq!(seen.line(), "POST /v1/messages HTTP/1.1");
    assert_eq!((seen.header("x-api-key"), seen.header("anthropic-version")), (Some(KEY), Some("2023-06-01")));
    assert_eq!(
        seen.json(),
        json!({
            "model": "claude-opus-5-5", "max_tokens": 500,
            "system": [{"type": "text", "text": "You heal pipelines.", "cache_control": {"type": "ephemeral"}}],
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": PROMPT}]},
                {"role": "assistant", "content": [
                    {"type": "own", "sealed": "x"},
                    {"type": "text", "text": "both"},
                    {"type": "tool_use", "id": "c1", "name": "clear", "input": {"run": "a"}},
                    {"type": "tool_use", "id": "c2", "name": "look", "input": {"unreadable": "{"}},
                ]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "c1", "content": "done", "is_error": false},
                    {"type": "tool_result", "tool_use_id": "c2", "content": "no such tool", "is_error": true},
                    {"type": "text", "text": "go on", "cache_control": {"type": "ephemeral"}},
                ]},
            ],
            "tools": [{"name": "clear", "description": "clears", "input_schema": {"type": "object"}, "strict": true}],
            "tool_choice": {"type": "tool", "name": "clear"},
            "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}, "effort": "low"},
        })
    );
}

#[tokio::test]
async fn chat_completions_says_everything() {
    let mut request = everything(Kind::OpenaiChat);
    (request.stream, request.temperature, request.stop) = (true, Some(0.5), vec!["END".into()]);
    let call = call(Kind::OpenaiChat, vec![Reply::events(STREAMS[1])], &request).await;
    assert_eq!(call.answer.unwrap().request_id.as_deref(), Some("req_s"));
    let seen = &call.server.seen()[0];
    assert_eq!(seen.line(), "POST /chat/completions HTTP/1.1");
    assert_eq!(seen.header("authorization"), Some(format!("Bearer {KEY}").as_str()));
    assert_eq!(
        seen.json(),
        json!({
            "model": "gpt-6.2-sol", "max_tokens": 500, "stream": true, "stream_options": {"include_usage": true},
            "messages": [
                {"role": "system", "content": "You heal pipelines."},
                {"role": "user", "content": PROMPT},
                {"role": "assistant", "content": "both", "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "clear", "arguments": "{\"run\":\"a\"}"}},
                    {"id": "c2", "type": "function", "function": {"name": "look", "arguments": "{"}},
                ]},
                {"role": "tool", "tool_call_id": "c1", "content": "done"},
                {"role": "tool", "tool_call_id": "c2", "content": "error: no such tool"},
                {"role": "user", "content": "go on"},
            ],
            "tools": [{"type": "function", "function": {"name": "clear", "description": "clears", "parameters": {"type": "object"}, "strict": true}}],
            "tool_choice": {"type": "function", "function": {"name": "clear"}},
            "response_format": {"type": "json_schema", "json_schema": {"name": "verdict", "schema": {"type": "object"}, "strict": true}},
            "reasoning_effort": "low", "temperature": 0.5, "stop": ["END"],
        })
    );
}

#[tokio::test]
async fn responses_says_everything() {
    let call = call(
        Kind::OpenaiResponses,
        vec![Reply::json(200, "x-request-id: req_9\r\n", &whole(2))],
        &everything(Kind::OpenaiResponses),
    )
    .await;
    assert_eq!(call.answer.unwrap().request_id.as_deref(), Some("req_9"));
    let seen = &call.server.seen()[0];
    assert_eq!(seen.line(), "POST /responses HTTP/1.1");
    assert_eq!(
        seen.json(),
        json!({
            "model": "gpt-6.2-sol", "max_output_tokens": 500, "store": false, "instructions": "You heal pipelines.",
            "input": [
                {"role": "user", "content": PROMPT},
                {"type": "own", "sealed": "x"},
                {"role": "assistant", "content": "both"},
                {"type": "function_call", "call_id": "c1", "name": "clear", "arguments": "{\"run\":\"a\"}"},
                {"type": "function_call", "call_id": "c2", "name": "look", "arguments": "{"},
                {"role": "user", "content": "go on"},
                {"type": "function_call_output", "call_id": "c1", "output": "done"},
                {"type": "function_call_output", "call_id": "c2", "output": "error: no such tool"},
            ],
            "tools": [{"type": "function", "name": "clear", "description": "clears", "parameters": {"type": "object"}, "strict": true}],
            "tool_choice": {"type": "function", "name": "clear"},
            "text": {"format": {"type": "json_schema", "name": "verdict", "schema": {"type": "object"}, "strict": true}},
            "reasoning": {"effort": "low"}, "include": ["reasoning.encrypted_content"],
        })
    );
    let mut request = asked(Kind::OpenaiResponses);
    request.stop = vec!["END".into()];
    let call = self::call(Kind::OpenaiResponses, vec![], &request).await;
    assert_eq!((call.error().class, call.server.seen().len()), (ErrorClass::InvalidRequest, 0));
}

#[tokio::test]
async fn whole_answers_and_streams_are_read_in_pieces_of_any_size() {
    for (kind, stream) in STREAMS.iter().enumerate() {
        let mut request = asked(KINDS[kind]);
        let plain = call(KINDS[kind], vec![Reply::json(200, "", &whole(kind)).in_pieces(7)], &request).await;
        request.stream = true;
        let streamed = call(KINDS[kind], vec![Reply::events(stream).in_pieces(50)], &request).await;
        let (plain, streamed, deltas) = (plain.answer.unwrap(), streamed.answer.unwrap(), streamed.deltas);
        assert_eq!(plain.parts, streamed.parts);
        assert_eq!(plain.usage, Some(Usage { input: 25, output: 89, cache_read: 2000, cache_write: 100 }));
        assert_eq!((plain.text().as_str(), plain.tool_calls().count()), ("I clear both – ✓", 2));
        assert!(deltas.len() >= 4, "{deltas:?}");
    }
}

#[tokio::test]
async fn who_asked_for_pieces_and_gets_the_whole_is_told_the_whole() {
    let mut request = asked(Kind::OpenaiChat);
    request.stream = true;
    let call = call(Kind::OpenaiChat, vec![Reply::json(200, "", &whole(1))], &request).await;
    assert_eq!(call.deltas.len(), 5, "{:?}", call.deltas);
    assert_eq!(call.deltas[0], Delta::Text("I clear both – ✓".into()));
}

#[tokio::test]
async fn structured_output_refusals_and_bounds_of_answers_have_their_reasons() {
    let chat = |reason: &str, refusal: Value| json!({"choices": [{"finish_reason": reason, "message": {"content": "{\"ok\":true}", "refusal": refusal}}]});
    let claude = |reason: &str| json!({"content": [{"type": "text", "text": "{\"ok\":true}"}], "stop_reason": reason});
    let responses = |status: &str, reason: &str, piece: &str| {
        json!({
            "status": status, "incomplete_details": {"reason": reason},
            "output": [{"type": "message", "content": [{"type": "output_text", piece: "{\"ok\":true}"}]}],
        })
    };
    for (kind, body, stop) in [
        (Kind::OpenaiChat, chat("stop", Value::Null), StopReason::End),
        (Kind::OpenaiChat, chat("stop", json!("I cannot help with that")), StopReason::Refusal),
        (Kind::OpenaiChat, chat("content_filter", Value::Null), StopReason::Refusal),
        (Kind::OpenaiChat, chat("length", Value::Null), StopReason::MaxTokens),
        (Kind::Anthropic, claude("end_turn"), StopReason::End),
        (Kind::Anthropic, claude("refusal"), StopReason::Refusal),
        (Kind::Anthropic, claude("max_tokens"), StopReason::MaxTokens),
        (Kind::Anthropic, claude("model_context_window_exceeded"), StopReason::ContextFull),
        (Kind::Anthropic, claude("pause_turn"), StopReason::Paused),
        (Kind::Anthropic, claude("brand_new"), StopReason::Other("brand_new".into())),
        (Kind::OpenaiResponses, responses("completed", "", "text"), StopReason::End),
        (Kind::OpenaiResponses, responses("completed", "", "refusal"), StopReason::Refusal),
        (Kind::OpenaiResponses, responses("incomplete", "max_output_tokens", "text"), StopReason::MaxTokens),
        (Kind::OpenaiResponses, responses("incomplete", "content_filter", "text"), StopReason::Refusal),
    ] {
        let answer = call(kind, vec![Reply::json(200, "", &body)], &asked(kind)).await.answer.unwrap();
        assert_eq!(answer.stop, stop, "{body}");
        assert!(answer.text().starts_with("{\"ok\":true}"));
        assert_eq!(answer.usage, None, "a provider that counts nothing is not free");
    }
}

#[tokio::test]
async fn a_free_failure_is_tried_again_when_the_provider_says() {
    for (kind_ix, kind) in KINDS.into_iter().enumerate() {
        let limited = json!({"error": {"type": "rate_limit_error", "message": "slow down"}});
        let script = vec![
            Reply::json(429, "retry-after: 7\r\n", &limited),
            Reply::json(
                529,
                "retry-after: Fri, 27 Nov 2026 10:00:20 GMT\r\n",
                &json!({"error": {"type": "overloaded_error"}}),
            ),
            Reply::json(200, "", &whole(kind_ix)),
        ];
        let call = call(kind, script, &asked(kind)).await;
        assert!(call.answer.is_ok());
        assert_eq!(call.pauses, [Duration::from_millis(7500), Duration::from_millis(20_500)]);
        assert_eq!(call.server.seen().len(), 3);
    }
}

#[tokio::test]
async fn it_ends_after_as_many_tries_as_it_may_and_does_not_wait_beyond_its_patience() {
    let broken = || Reply::json(500, "request-id: req_5\r\n", &json!({"error": {"type": "api_error", "message": "x"}}));
    let ended = call(Kind::Anthropic, vec![broken(), broken(), broken(), broken()], &asked(Kind::Anthropic)).await;
    let error = ended.error();
    assert_eq!(
        (error.class, error.tries, error.spent, error.status),
        (ErrorClass::Unavailable, 3, Spent::Nothing, Some(500))
    );
    assert_eq!(error.request_id.as_deref(), Some("req_5"));
    assert_eq!(
        (ended.server.seen().len(), ended.pauses),
        (3, vec![Duration::from_millis(500), Duration::from_secs(1)])
    );

    let patient =
        call(Kind::Anthropic, vec![Reply::json(429, "retry-after: 3600\r\n", &json!({}))], &asked(Kind::Anthropic))
            .await;
    assert_eq!((patient.error().class, patient.error().tries), (ErrorClass::RateLimited, 1));
    assert_eq!(patient.error().retry_after(), Some(Duration::from_secs(3600)));
    assert!(patient.pauses.is_empty());
}

#[tokio::test]
async fn what_may_have_cost_is_not_tried_again() {
    let half = |kind: usize| STREAMS[kind].split_inclusive("\n\n").take(5).collect::<String>();
    for (kind_ix, kind) in KINDS.into_iter().enumerate() {
        let short = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 100000\r\n\r\n{}",
            half(kind_ix)
        );
        let cases = [
            (Reply::events(&half(kind_ix)), ErrorClass::CutStream),
            (Reply::raw(short), ErrorClass::CutStream),
            (Reply::events(&half(kind_ix)).and_hangs(), ErrorClass::Timeout),
            (Reply::text(200, "content-type: application/json\r\n", "{\"content\": ["), ErrorClass::MalformedAnswer),
            (Reply::text(200, "content-type: application/json\r\n", "{\"nothing\": 1}"), ErrorClass::MalformedAnswer),
            (Reply::text(200, "content-type: text/html\r\n", "<html>"), ErrorClass::MalformedAnswer),
            (Reply::events("data: {not json}\n\n"), ErrorClass::MalformedAnswer),
            (Reply::events(&format!("data: {}\n\n", "x".repeat(9000))), ErrorClass::OverBound),
            (Reply::text(200, "content-type: application/json\r\n", &" ".repeat(70_000)), ErrorClass::OverBound),
            (Reply::events(&": keep-alive\n\n".repeat(6000)), ErrorClass::OverBound),
            (Reply::json(504, "", &Value::Null), ErrorClass::Timeout),
            // A gateway's word; the same class from the provider itself is free, and tried again below.
            (Reply::json(502, "", &Value::Null), ErrorClass::Unavailable),
            (Reply::raw(String::new()), ErrorClass::Unavailable),
            (Reply::raw("HTTP/1.1 nonsense\r\n\r\n".into()), ErrorClass::Unavailable),
        ];
        for (reply, class) in cases {
            let what = format!("{kind:?} {class:?} {reply:?}");
            let mut request = asked(kind);
            request.stream = true;
            let call = call(kind, vec![reply], &request).await;
            let error = call.error();
            assert_eq!(
                (error.class, error.spent, error.tries),
                (class, Spent::Unknown, 1),
                "{}",
                &what[..what.len().min(300)]
            );
            assert_eq!(call.server.seen().len(), 1);
        }
    }
}

#[tokio::test]
async fn a_server_that_never_answers_is_left() {
    let server = Server::start(vec![Reply::raw(String::new()).and_hangs()]).await;
    let mut config = config(Kind::Anthropic, &server.url);
    config.exact =
        config.exact.map(|(bounds, policy)| (Bounds { whole: Duration::from_millis(200), ..bounds }, policy));
    let provider = open("p", &config, key(), Arc::new(Limits::default()), ports().0).unwrap();
    let error = provider.complete(&asked(Kind::Anthropic), &mut |_| {}).await.unwrap_err();
    assert_eq!((error.class, error.spent), (ErrorClass::Timeout, Spent::Unknown));
    assert!(error.to_string().contains("no whole answer in 200 ms"), "{error}");
}

#[tokio::test]
async fn who_is_not_there_is_tried_again_for_nothing() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let (ports, pauses) = ports();
    let provider = open("p", &config(Kind::Anthropic, &url), key(), Arc::new(Limits::default()), ports).unwrap();
    let error = provider.complete(&asked(Kind::Anthropic), &mut |_| {}).await.unwrap_err();
    assert_eq!((error.class, error.spent, error.tries), (ErrorClass::Unavailable, Spent::Nothing, 3));
    assert_eq!(pauses.lock().len(), 2);
}

#[tokio::test]
async fn what_waiting_does_not_help_is_not_tried_again() {
    let reported = |kind: &str, code: &str, message: &str| json!({"type": "error", "error": {"type": kind, "code": code, "message": message}});
    for (status, body, class) in [
        (
            400,
            reported("invalid_request_error", "", "temperature is deprecated for this model"),
            ErrorClass::InvalidRequest,
        ),
        (400, reported("invalid_request_error", "context_length_exceeded", "too long"), ErrorClass::ContextOverflow),
        (
            400,
            reported("invalid_request_error", "", "prompt is too long: 1000001 tokens > 1000000 maximum"),
            ErrorClass::ContextOverflow,
        ),
        (401, reported("authentication_error", "invalid_api_key", "invalid x-api-key"), ErrorClass::Auth),
        (404, reported("not_found_error", "", "model: claude-opus-9"), ErrorClass::UnknownModel),
        (
            429,
            reported("insufficient_quota", "insufficient_quota", "You exceeded your current quota"),
            ErrorClass::QuotaSpent,
        ),
        (400, reported("", "content_filter", "filtered"), ErrorClass::Refused),
        (302, Value::Null, ErrorClass::InvalidRequest),
    ] {
        let call = call(
            Kind::Anthropic,
            vec![Reply::json(status, "location: http://evil.example/\r\n", &body)],
            &asked(Kind::Anthropic),
        )
        .await;
        assert_eq!((call.error().class, call.error().tries), (class, 1), "{body}");
        assert_eq!(call.server.seen().len(), 1);
    }
}

#[tokio::test]
async fn neither_key_nor_prompt_gets_out_of_an_error_though_the_server_repeats_both() {
    let echo = json!({"error": {"type": "invalid_request_error", "code": KEY, "param": PROMPT,
        "message": format!("Incorrect API key provided: {KEY}. Bearer {KEY}; sk-test-*******TAIL. You said: {PROMPT}. Ann-Marie, 4111-1111")}});
    let in_stream = format!("event: error\ndata: {echo}\n\n");
    for kind in KINDS {
        let header = format!("request-id: {KEY}\r\nx-request-id: {KEY}\r\n");
        for reply in [Reply::json(401, &header, &echo), Reply::events(&in_stream), Reply::text(500, &header, KEY)] {
            let mut config = config(kind, "");
            config.tries = std::num::NonZeroU32::new(1);
            let server = Server::start(vec![reply]).await;
            config.url = Some(server.url.clone());
            let provider = open("p", &config, key(), Arc::new(Limits::default()), ports().0).unwrap();
            let error = provider.complete(&asked(kind), &mut |_| {}).await.unwrap_err();
            let shown = format!("{error} {error:?} {} {config:?}", serde_json::to_string(&error).unwrap());
            for secret in [KEY, "sk-test", "TAIL", "Ann-Marie", "4111", "wants the run"] {
                assert!(!shown.contains(secret), "`{secret}` got out: {shown}");
            }
        }
    }
}

#[tokio::test]
async fn a_turn_of_another_models_thoughts_is_left_out() {
    let mut request = asked(Kind::Anthropic);
    let foreign = Part::Thought { provider: "q".into(), model: "other".into(), data: json!({"type": "foreign"}) };
    request.messages.push(Message { role: Role::Assistant, parts: vec![foreign], cache: true });
    let call = call(Kind::Anthropic, vec![Reply::json(200, "", &whole(0))], &request).await;
    assert_eq!(call.server.seen()[0].json()["messages"].as_array().map(Vec::len), Some(1));
}

/// What would get out without the cleaning: the test above can fail.
#[test]
fn without_the_cleaning_the_key_would_get_out() {
    let body =
        json!({"error": {"type": "authentication_error", "message": format!("Incorrect API key provided: {KEY}")}});
    assert!(crate::wire::reported(Some(401), &body).detail.contains(KEY));
}

#[tokio::test]
async fn requests_a_minute_are_kept() {
    let server = Server::start(vec![Reply::json(200, "", &whole(0)); 2]).await;
    let limits = Arc::new(Limits::new(std::num::NonZeroU32::new(1), None));
    let provider = open("p", &config(Kind::Anthropic, &server.url), key(), Arc::clone(&limits), ports().0).unwrap();
    assert!(provider.complete(&asked(Kind::Anthropic), &mut |_| {}).await.is_ok());
    // The next one would have to wait for most of a minute.
    let (request, mut sink) = (asked(Kind::Anthropic), |_| {});
    let second = provider.complete(&request, &mut sink);
    assert!(tokio::time::timeout(Duration::from_millis(50), second).await.is_err());
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn a_provider_that_cannot_be_reached_safely_is_not_opened() {
    let open = |config: &ProviderConfig, key: Option<Key>| {
        open("p", config, key, Arc::new(Limits::default()), Ports::default()).err()
    };
    assert!(open(&config(Kind::Anthropic, "http://llm.example"), key()).unwrap().contains("in the clear"));
    assert!(open(&config(Kind::Anthropic, "http://llm.example"), None).is_none());
    let broken = Some(Key(SecretString::from("a\nb")));
    let why = open(&config(Kind::Anthropic, "https://llm.example"), broken).unwrap();
    assert!(why.contains("cannot be sent"), "{why}");
    let _: fn(&dyn Provider) -> &str = |provider| provider.name();
}
