//! The hub against servers over HTTP, most of them with bad habits: each costs one clear error.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use expect_test::{Expect, expect};
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::*;

/// Limit of the calls that nobody answers.
const SHORT: Duration = Duration::from_millis(300);
/// Above the hub's limit for one message.
const OVERSIZE: usize = 20 * 1024 * 1024;

/// A server over HTTP that does as its tools are called.
struct Odd {
    url: String,
    seen: Arc<Seen>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    habits: Vec<&'static str>,
    /// `METHOD path what`, and what came with it.
    requests: Mutex<Vec<String>>,
    /// Id of the last call, for the stream that is picked up again.
    last_call: Mutex<Value>,
    /// Where `away` redirects to.
    elsewhere: Mutex<String>,
    base: Mutex<String>,
    sessions: AtomicUsize,
    tokens: AtomicUsize,
    /// Kills the server from inside a request.
    stop: Mutex<Option<tokio::sync::oneshot::Sender<()>>>,
}

impl Seen {
    fn is(&self, habit: &str) -> bool {
        self.habits.contains(&habit)
    }
}

impl Odd {
    async fn start(habits: &[&'static str]) -> Self {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let seen = Arc::new(Seen { habits: habits.to_vec(), ..Seen::default() });
        *seen.base.lock() = base.clone();
        *seen.stop.lock() = Some(stop);
        let router = Router::new().fallback(answer).with_state(seen.clone());
        let task = tokio::spawn(async move {
            tokio::select! {
                served = axum::serve(listener, router) => served.unwrap(),
                _ = stopped => {}
            }
        });
        Self { url: format!("{base}/mcp"), seen, task }
    }

    fn hub(&self) -> Hub {
        self.hub_with(|_| {})
    }

    fn hub_with(&self, change: impl FnOnce(&mut ServerConfig)) -> Hub {
        let mut config = ServerConfig::http("m", &self.url);
        change(&mut config);
        Hub::new(vec![config])
    }

    fn requests(&self, with: &str) -> Vec<String> {
        self.seen.requests.lock().iter().filter(|line| line.contains(with)).cloned().collect()
    }
}

impl Drop for Odd {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(State(seen): State<Arc<Seen>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1024 * 1024).await.unwrap_or_default();
    let message: Value = serde_json::from_slice(&body).unwrap_or_default();
    let tool = message.pointer("/params/name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let token = parts.headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()).unwrap_or("-");
    let session = parts.headers.get("mcp-session-id").and_then(|v| v.to_str().ok()).unwrap_or("-");
    let named = message["method"].as_str().unwrap_or("-");
    let line = format!("{} {} {named} {tool} token={token} session={session}", parts.method, parts.uri.path());
    seen.requests.lock().push(line);
    if named == "tools/call" {
        *seen.last_call.lock() = message["id"].clone();
    }
    match (parts.method.as_str(), parts.uri.path()) {
        ("POST", "/mcp" | "/home") => post(&seen, &parts.headers, &message, &tool),
        ("GET", "/mcp") => get(&seen, &parts.headers),
        ("DELETE", "/mcp") => StatusCode::OK.into_response(),
        (_, path) => login(&seen, path),
    }
}

fn post(seen: &Seen, headers: &HeaderMap, message: &Value, tool: &str) -> Response {
    let id = &message["id"];
    match message["method"].as_str().unwrap_or_default() {
        "server/discover" if seen.is("empty") => result(id, json!({})),
        "server/discover" if seen.is("old_versions") => result(
            id,
            json!({"supportedVersions": ["2025-06-18"], "capabilities": {"tools": {}}, "serverInfo": {"name": "m", "version": "1"}}),
        ),
        "server/discover" if seen.is("modern") => result(
            id,
            json!({
                "resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}},
                "serverInfo": {"name": "odd", "version": "1"}, "ttlMs": 0, "cacheScope": "private",
            }),
        ),
        "server/discover" => (StatusCode::BAD_REQUEST, "Bad Request: no session").into_response(),
        "initialize" => {
            let session = format!("s{}", seen.sessions.fetch_add(1, Ordering::SeqCst) + 1);
            let hello = json!({
                "protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "odd", "version": "1"},
            });
            ([("mcp-session-id", session)], axum::Json(json!({"jsonrpc": "2.0", "id": id, "result": hello})))
                .into_response()
        }
        "tools/list" => result(id, json!({"tools": TOOLS.iter().map(|name| tool_of(name)).collect::<Vec<_>>()})),
        "tools/call" if tool == "ask" || tool == "sample" => asks_back(id, &message["params"]),
        "tools/call" => call(seen, headers, id, tool),
        _ => StatusCode::ACCEPTED.into_response(),
    }
}

const TOOLS: [&str; 22] = [
    "echo", "big", "fail", "html", "end", "events", "resume", "cut", "away", "home", "login", "expired", "hang",
    "busy", "wrong_id", "accepted", "gone", "endless", "not_json", "ask", "sample", "mirror",
];

/// Wants to know something, and then says what it was told.
fn asks_back(id: &Value, params: &Value) -> Response {
    if params["inputResponses"].is_object() {
        let told = format!("{} {}", params["inputResponses"]["where"], params["requestState"]);
        return result(id, json!({"resultType": "complete", "content": [{"type": "text", "text": told}]}));
    }
    if params["name"] == "sample" {
        let said = json!([{"role": "user", "content": {"type": "text", "text": "Why?"}}]);
        let sample = json!({"method": "sampling/createMessage", "params": {"messages": said, "maxTokens": 10}});
        let requests = json!({"where": sample});
        return result(
            id,
            json!({"resultType": "input_required", "inputRequests": requests, "requestState": "sealed"}),
        );
    }
    let schema = json!({"type": "object", "properties": {"region": {"type": "string"}}});
    let form =
        json!({"method": "elicitation/create", "params": {"message": "Which region?", "requestedSchema": schema}});
    let requests = json!({"where": form, "roots": {"method": "roots/list"}});
    result(id, json!({"resultType": "input_required", "inputRequests": requests, "requestState": "sealed"}))
}

fn tool_of(name: &str) -> Value {
    json!({"name": name, "inputSchema": {"type": "object"}})
}

fn call(seen: &Seen, headers: &HeaderMap, id: &Value, tool: &str) -> Response {
    let said =
        |text: &str| json!({"jsonrpc": "2.0", "id": id, "result": {"content": [{"type": "text", "text": text}]}});
    let events = |text: String| ([(header::CONTENT_TYPE, "text/event-stream")], text).into_response();
    match tool {
        "echo" => axum::Json(said("hello")).into_response(),
        "big" => axum::Json(said(&"x".repeat(OVERSIZE))).into_response(),
        "fail" => (StatusCode::INTERNAL_SERVER_ERROR, "stack trace of many lines").into_response(),
        "html" => ([(header::CONTENT_TYPE, "text/html")], "<h1>Welcome</h1>").into_response(),
        "not_json" => ([(header::CONTENT_TYPE, "application/json")], "{\"half\":").into_response(),
        "end" => events(": nothing will come\n\n".into()),
        "events" => {
            let note =
                json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x"}});
            events(format!("data: {note}\n\nevent: message\ndata: {}\n\n", said("by events")))
        }
        "resume" => events("id: e1\nretry: 60\ndata:\n\n".into()),
        "cut" => cut(seen),
        "away" => (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, seen.elsewhere.lock().clone())]).into_response(),
        "home" if seen.requests.lock().last().is_some_and(|line| line.contains("/home")) => {
            axum::Json(said("at home")).into_response()
        }
        "home" => (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, "/home")]).into_response(),
        "login" => {
            let good = format!("Bearer token-number-{}", seen.tokens.load(Ordering::SeqCst));
            if headers.get(header::AUTHORIZATION).is_some_and(|sent| sent.as_bytes() == good.as_bytes()) {
                return axum::Json(said("logged in")).into_response();
            }
            let at = format!("Bearer resource_metadata=\"{}/.well-known/oauth-protected-resource\"", seen.base.lock());
            (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, at)]).into_response()
        }
        "expired" if headers.get("mcp-session-id").is_some_and(|session| session == "s1") => {
            StatusCode::NOT_FOUND.into_response()
        }
        "expired" => axum::Json(said("in a new session")).into_response(),
        "hang" => {
            let never = futures_util::stream::pending::<Result<Bytes, Infallible>>();
            ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(never)).into_response()
        }
        "endless" => {
            let dots = futures_util::stream::repeat(Bytes::from_static(&[b'x'; 65536])).map(Ok::<_, Infallible>);
            ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(dots)).into_response()
        }
        "mirror" => {
            let sent = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
            axum::Json(said(&format!("{} {} {}", sent("x-api-key"), sent("authorization"), sent("x-region"))))
                .into_response()
        }
        "busy" => (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "7")]).into_response(),
        "wrong_id" => result(&json!(999_999), json!({"content": []})),
        "accepted" => StatusCode::ACCEPTED.into_response(),
        "gone" => StatusCode::GONE.into_response(),
        _ => result(id, json!({"content": []})),
    }
}

/// One event with an id, then the whole server is gone.
fn cut(seen: &Seen) -> Response {
    let stop = seen.stop.lock().take();
    let stream = futures_util::stream::once(async { Ok(Bytes::from_static(b"id: e1\ndata:\n\n")) }).chain(
        futures_util::stream::once(async move {
            stop.map(|stop| stop.send(()));
            Err(std::io::Error::other("killed"))
        }),
    );
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(stream)).into_response()
}

fn get(seen: &Seen, headers: &HeaderMap) -> Response {
    if headers.get("last-event-id").is_some_and(|last| last == "e1") {
        let id = seen.last_call.lock().clone();
        let said = json!({"jsonrpc": "2.0", "id": id, "result": {"content": [{"type": "text", "text": "picked up"}]}});
        return ([(header::CONTENT_TYPE, "text/event-stream")], format!("id: e2\ndata: {said}\n\n")).into_response();
    }
    StatusCode::METHOD_NOT_ALLOWED.into_response()
}

fn result(id: &Value, result: Value) -> Response {
    axum::Json(json!({"jsonrpc": "2.0", "id": id, "result": result})).into_response()
}

/// The authorization server, which is this one too.
fn login(seen: &Seen, path: &str) -> Response {
    let base = seen.base.lock().clone();
    match path {
        "/.well-known/oauth-protected-resource" => {
            axum::Json(json!({"resource": format!("{base}/mcp"), "authorization_servers": [base]})).into_response()
        }
        "/.well-known/oauth-authorization-server" => axum::Json(json!({
            "issuer": base, "authorization_endpoint": format!("{base}/authorize"), "token_endpoint": format!("{base}/token"),
            "response_types_supported": ["code"], "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic"],
        }))
        .into_response(),
        "/token" => {
            let number = seen.tokens.fetch_add(1, Ordering::SeqCst) + 1;
            axum::Json(json!({"access_token": format!("token-number-{number}"), "token_type": "Bearer", "expires_in": 3600}))
                .into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn ask(hub: &Hub, tool: &str) -> String {
    let options = CallOptions { timeout: Some(Duration::from_secs(20)), ..CallOptions::default() };
    show(hub.call("m", tool, json!({}), options).await)
}

fn show(result: Result<ToolOutcome, ToolError>) -> String {
    match result {
        Ok(outcome) => format!("ok {}", outcome.text()),
        Err(error) => format!("{error} [{:?}]", error.delivery),
    }
}

async fn check(tool: &str, expected: Expect) {
    let odd = Odd::start(&[]).await;
    let hub = odd.hub();
    let shown = ask(&hub, tool).await;
    assert_eq!(ask(&hub, "echo").await, "ok hello", "the hub goes on after `{tool}`");
    expected.assert_eq(&shown.replace(&*odd.seen.base.lock(), "BASE"));
    hub.close().await;
}

#[tokio::test]
async fn each_era_is_found_and_fallen_back_to() {
    for (habits, era, version) in [
        (&["modern"][..], Era::Modern, "2026-07-28"),
        (&[], Era::Initialize, "2025-06-18"),
        (&["empty"], Era::Initialize, "2025-06-18"),
        (&["old_versions"], Era::Initialize, "2025-06-18"),
    ] {
        let odd = Odd::start(habits).await;
        let hub = odd.hub();
        let list = hub.list_tools("m").await.unwrap();
        assert_eq!((list.era, list.protocol_version.as_str()), (era, version), "{habits:?}");
        assert_eq!(ask(&hub, "echo").await, "ok hello", "{habits:?}");
        hub.close().await;
        // A session is said goodbye to; the newer era has none.
        let goodbyes = usize::from(era == Era::Initialize);
        assert_eq!(odd.requests("DELETE").len(), goodbyes, "{habits:?}");
    }
}

#[tokio::test]
async fn headers_with_the_name_of_a_secret_are_hidden_wherever_they_come_back() {
    let odd = Odd::start(&[]).await;
    let hub = odd.hub_with(|config| {
        let TransportConfig::Http { headers, .. } = &mut config.transport else { panic!("over HTTP") };
        headers.insert("X-Api-Key".into(), "key-in-the-file-1".into());
        headers.insert("Authorization".into(), "Bearer word-in-the-file-2".into());
        headers.insert("X-Region".into(), "europe-north".into());
    });
    assert_eq!(ask(&hub, "mirror").await, "ok [redacted] [redacted] europe-north");
    hub.close().await;
}

#[tokio::test]
async fn an_answer_may_come_as_events() {
    check("events", expect!["ok by events"]).await;
}

#[tokio::test]
async fn a_broken_stream_is_picked_up_after_its_last_event() {
    let odd = Odd::start(&[]).await;
    let hub = odd.hub();
    assert_eq!(ask(&hub, "resume").await, "ok picked up");
    hub.close().await;
}

#[tokio::test]
async fn every_bad_answer_is_one_clear_error() {
    for (tool, expected) in [
        ("big", expect!["m.big (outcome_unknown): the server sent a message of more than 16777216 bytes [Unknown]"]),
        (
            "fail",
            expect!["m.fail (outcome_unknown): the server failed (HTTP 500): stack trace of many lines [Unknown]"],
        ),
        (
            "html",
            expect![
                "m.html (protocol): HTTP 200 with a body of type `text/html` is no MCP answer: <h1>Welcome</h1> [Answered]"
            ],
        ),
        (
            "not_json",
            expect![[r#"m.not_json (protocol): the body is not the answer to this request: {"half": [Answered]"#]],
        ),
        ("end", expect!["m.end (outcome_unknown): the stream of events ended without an answer [Unknown]"]),
        ("busy", expect!["m.busy (transient): the server is busy (429); it says to try again in 7 [Answered]"]),
        (
            "wrong_id",
            expect![[
                r#"m.wrong_id (protocol): the body is not the answer to this request: {"id":999999,"jsonrpc":"2.0","result":{"content":[]}} [Answered]"#
            ]],
        ),
        (
            "accepted",
            expect!["m.accepted (protocol): HTTP 202 with a body of type `` is no MCP answer: it is empty [Answered]"],
        ),
        ("gone", expect!["m.gone (failed): the server answered HTTP 410 [Answered]"]),
        (
            "endless",
            expect!["m.endless (outcome_unknown): the server sent a message of more than 16777216 bytes [Unknown]"],
        ),
    ] {
        check(tool, expected).await;
    }
}

#[tokio::test]
async fn a_server_killed_in_mid_stream_is_not_awaited_for_ever() {
    let odd = Odd::start(&[]).await;
    let hub = odd.hub();
    let start = Instant::now();
    let error = hub.call("m", "cut", json!({}), CallOptions::default()).await.unwrap_err();
    assert_eq!((error.class, error.delivery), (ToolErrorClass::OutcomeUnknown, Delivery::Unknown), "{error}");
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    let after = hub.call("m", "echo", json!({}), CallOptions::default()).await.unwrap_err();
    assert_eq!(after.delivery, Delivery::NotSent, "nobody listens any more: {after}");
    hub.close().await;
}

#[tokio::test]
async fn a_deadline_ends_the_wait_and_the_server_is_told() {
    let odd = Odd::start(&[]).await;
    let hub = odd.hub();
    let options = CallOptions { timeout: Some(SHORT), ..CallOptions::default() };
    let error = hub.call("m", "hang", json!({}), options).await.unwrap_err();
    assert_eq!((error.class, error.delivery), (ToolErrorClass::Timeout, Delivery::Unknown));
    eventually("the cancellation to arrive", || odd.requests("notifications/cancelled").len() == 1).await;
    hub.close().await;
}

#[tokio::test]
async fn a_redirect_is_followed_at_home_only_and_the_token_stays_there() {
    let (odd, stranger) = (Odd::start(&[]).await, Odd::start(&[]).await);
    *odd.seen.elsewhere.lock() = stranger.url.clone();
    let hub = odd.hub_with(|config| {
        if let TransportConfig::Http { headers, .. } = &mut config.transport {
            headers.insert("Authorization".into(), "Bearer canary-value-1234".into());
        }
    });
    assert_eq!(ask(&hub, "home").await, "ok at home");
    let shown = ask(&hub, "away").await;
    assert!(shown.contains("which is not followed") && shown.ends_with("[Answered]"), "{shown}");
    assert!(stranger.seen.requests.lock().is_empty(), "{:?}", stranger.seen.requests.lock());
    hub.close().await;
}

#[tokio::test]
async fn an_expired_session_is_begun_again_and_the_call_made_once() {
    let odd = Odd::start(&[]).await;
    let hub = odd.hub();
    assert_eq!(ask(&hub, "expired").await, "ok in a new session");
    let calls = odd.requests("tools/call expired");
    assert_eq!(calls.len(), 2, "the server refused the first without acting: {calls:?}");
    assert!(calls[1].contains("session=s2"), "{calls:?}");
    hub.close().await;
}

#[tokio::test]
async fn a_refused_token_is_renewed_once_and_never_shown() {
    let odd = Odd::start(&[]).await;
    let hub = odd.hub_with(|config| {
        config.oauth = Some(OAuthConfig {
            grant: Grant::ClientCredentials,
            client_id: Some("robot".into()),
            client_secret: Some("robot-secret".into()),
            ..OAuthConfig::default()
        });
    });
    assert_eq!(ask(&hub, "login").await, "ok logged in");
    // The server takes the token back: one more login, no more.
    odd.seen.tokens.fetch_add(1, Ordering::SeqCst);
    assert_eq!(ask(&hub, "login").await, "ok logged in");
    let tries = odd.requests("tools/call login").len();
    assert_eq!((tries, odd.requests("/token").len()), (4, 2));
    assert!(!format!("{hub:?}").contains("robot-secret"));
    hub.close().await;
}

#[tokio::test]
async fn without_a_login_a_refusal_says_what_to_set() {
    let odd = Odd::start(&[]).await;
    let hub = odd.hub();
    expect!["m.login (unavailable): the server wants to be logged in to (401); set `headers` or `oauth` of this server [NotSent]"]
        .assert_eq(&ask(&hub, "login").await);
    hub.close().await;
}

#[tokio::test]
async fn an_address_of_another_network_is_not_dialled() {
    let mut config = ServerConfig::http("m", "http://127.0.0.1:1/mcp");
    let hub = Hub::new(vec![config.clone()]);
    let error = hub.list_tools("m").await.unwrap_err();
    assert_eq!((error.class, error.delivery), (ToolErrorClass::Unavailable, Delivery::NotSent), "{error}");
    config.transport = TransportConfig::Http { url: "http://169.254.169.254/mcp".into(), headers: Default::default() };
    let error = Hub::new(vec![config]).list_tools("m").await.unwrap_err();
    assert_eq!(error.class, ToolErrorClass::Invalid, "{error}");
}

#[tokio::test]
async fn a_call_that_ends_with_questions_is_taken_up_with_the_answers() {
    let odd = Odd::start(&["modern"]).await;
    let hub = odd.hub_with(|config| config.elicitation = true);
    let asked = hub.converse("m", "ask", json!({}), CallOptions::default()).await.unwrap();
    let Reply::Asks(request) = asked else { panic!("nothing was asked: {asked:?}") };
    assert_eq!((request.forms.len(), request.forms[0].key.as_str()), (1, "where"));
    let answers = [("where".to_owned(), FormAnswer::Accept(json!({"region": "eu"})))].into();
    let input = Some(InputAnswers { state: request.state, answers, known: request.known });
    let done = hub.converse("m", "ask", json!({}), CallOptions { input, ..CallOptions::default() }).await.unwrap();
    let Reply::Done(outcome) = done else { panic!("it asks again: {done:?}") };
    assert_eq!(outcome.text(), r#"{"action":"accept","content":{"region":"eu"}} "sealed""#);
    // Where nobody may be asked, the same call is an error that says so.
    let error = hub.call("m", "ask", json!({}), CallOptions::default()).await.unwrap_err();
    assert_eq!((error.class, error.delivery), (ToolErrorClass::InputRequired, Delivery::Answered));
    hub.close().await;
}

#[tokio::test]
async fn a_call_that_ends_with_a_sample_is_taken_up_with_the_answer() {
    let odd = Odd::start(&["modern"]).await;
    let hub = odd.hub_with(|config| config.sampling = Some(Sampling::default()));
    let asked = hub.converse("m", "sample", json!({}), CallOptions::default()).await.unwrap();
    let Reply::Asks(request) = asked else { panic!("nothing was asked: {asked:?}") };
    assert_eq!((request.samples.len(), request.samples[0].key.as_str()), (1, "where"));
    let known = [("where".to_owned(), json!({"role": "assistant"}))].into();
    let input = Some(InputAnswers { state: request.state, known, ..InputAnswers::default() });
    let done = hub.converse("m", "sample", json!({}), CallOptions { input, ..CallOptions::default() }).await.unwrap();
    let Reply::Done(outcome) = done else { panic!("it asks again: {done:?}") };
    assert_eq!(outcome.text(), r#"{"role":"assistant"} "sealed""#);
    hub.close().await;
    // Off unless allowed.
    let hub = odd.hub_with(|_| {});
    let error = hub.converse("m", "sample", json!({}), CallOptions::default()).await.unwrap_err();
    assert_eq!((error.class, error.delivery), (ToolErrorClass::InputRequired, Delivery::Answered), "{error}");
    hub.close().await;
}
