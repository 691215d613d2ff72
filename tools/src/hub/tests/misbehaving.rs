//! Every way a child was seen to misbehave: each ends within its limit, with one clear error and no orphan.

use expect_test::{Expect, expect};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::*;

/// A limit that a silent server runs into.
const SHORT: Duration = Duration::from_millis(300);
/// Limit of calls that end by themselves; a line of 16 MiB takes an unoptimised build a while on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn show(result: Result<ToolOutcome, ToolError>) -> String {
    match result {
        Ok(outcome) => format!("ok {:.40} truncated={}", outcome.text(), outcome.truncated),
        Err(error) => format!("{error} [{:?}]", error.delivery),
    }
}

/// One call to a fresh server: what it comes to, then the server is usable again and leaves nobody behind.
async fn check_call(habits: &[&str], tool: &str, expected: Expect) {
    let world = World::new(habits);
    expected.assert_eq(&show(world.call_within(tool, PATIENCE).await));
    world.check_usable().await;
    world.check_no_orphans().await;
}

/// As [`check_call`], where the call runs into its limit.
async fn check_timeout(tool: &str, expected: Expect) {
    let world = World::new(&[]);
    world.check_usable().await;
    let start = Instant::now();
    expected.assert_eq(&show(world.call_within(tool, SHORT).await));
    assert!(start.elapsed() < SHORT + Duration::from_secs(1), "took {:?}", start.elapsed());
    world.check_usable().await;
    world.check_no_orphans().await;
}

/// Attaching a server with these habits.
async fn check_attach(habits: &[&str], starts: usize, expected: Expect) {
    let world = World::with(habits, |config| {
        config.discover_timeout = Some(if habits[0].ends_with("exit") { WAIT_MAX } else { SHORT })
    });
    let shown = match world.hub.list_tools("m").await {
        Ok(list) => format!("{:?} {} {:?}", list.era, list.protocol_version, list.identity),
        Err(error) => error.to_string(),
    };
    expected.assert_eq(&shown);
    world.check_usable().await;
    assert_eq!(world.written("pids").len(), starts, "processes started");
    world.check_no_orphans().await;
}

#[tokio::test]
async fn a_well_behaved_server_of_either_era_answers() {
    check_call(&["era=legacy"], "string_id", expect!["ok id as text truncated=false"]).await;
    check_call(&["era=modern"], "meta", expect![[r#"ok {"io.modelcontextprotocol/clientCapabili truncated=false"#]])
        .await;
}

#[tokio::test]
async fn garbage_before_json_is_skipped() {
    check_call(&["garbage"], "string_id", expect!["ok id as text truncated=false"]).await;
}

#[tokio::test]
async fn silence_is_a_timeout_with_an_unknown_outcome() {
    check_timeout("hang", expect!["m.hang (timeout): no answer within 300ms [Unknown]"]).await;
}

#[tokio::test]
async fn an_answer_to_another_question_is_named_in_the_timeout() {
    check_timeout("wrong_id", expect!["m.wrong_id (timeout): no answer within 300ms; meanwhile it sent 1 answers nobody asked for and 0 unreadable lines, the last: an answer to request 999999 [Unknown]"]).await;
}

#[tokio::test]
async fn a_result_too_deep_to_read_is_named_in_the_timeout() {
    check_timeout("deep", expect![[r#"m.deep (timeout): no answer within 300ms; meanwhile it sent 0 answers nobody asked for and 1 unreadable lines, the last: {"jsonrpc":"2.0","id":3,"result":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[ … [Unknown]"#]]).await;
}

#[tokio::test]
async fn death_in_mid_call_is_an_unknown_outcome_at_once() {
    check_call(&[], "die", expect!["m.die (outcome_unknown): the server process ended (exit status: 7); its last words: fatal: disk on fire [Unknown]"]).await;
}

#[tokio::test]
async fn an_answer_written_just_before_death_counts() {
    let world = World::new(&[]);
    expect!["ok last words truncated=false"].assert_eq(&show(world.call("answer_and_die").await));
    // Whether or not the hub has noticed the death, a request that was not sent goes to a new process.
    eventually("the death", || world.alive().is_empty()).await;
    world.check_usable().await;
    world.check_no_orphans().await;
}

#[tokio::test]
async fn a_grandchild_that_holds_the_output_does_not_hold_the_call() {
    check_call(
        &[],
        "die_with_grandchild",
        expect!["m.die_with_grandchild (outcome_unknown): the server process ended (exit status: 0) [Unknown]"],
    )
    .await;
    check_call(&[], "grandchild", expect!["ok born truncated=false"]).await;
}

#[tokio::test]
async fn an_oversize_line_ends_the_call_and_a_large_one_is_cut() {
    check_call(
        &[],
        "oversize",
        expect!["m.oversize (outcome_unknown): the server sent a message of more than 16777216 bytes [Unknown]"],
    )
    .await;
    check_call(&[], "big", expect!["ok xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx truncated=true"]).await;
}

#[tokio::test]
async fn a_flood_of_notifications_or_of_garbage_detaches_the_server() {
    check_call(
        &[],
        "babble",
        expect![
            "m.babble (outcome_unknown): the server wrote more than 10000 lines that are not MCP messages [Unknown]"
        ],
    )
    .await;
    check_call(&[], "flood", expect!["m.flood (outcome_unknown): the server sent more than 500 notifications per second and was detached [Unknown]"]).await;
}

#[tokio::test]
async fn what_is_no_result_is_a_protocol_error() {
    check_call(&[], "no_result", expect!["m.no_result (protocol): the result has no content; its keys are: weather; the call was made: check its effect, and report this to the server's author [Answered]"]).await;
    check_call(&[], "refuse", expect!["m.refuse (failed): the server answered: not today (code -32603) [Answered]"])
        .await;
    check_call(
        &[],
        "no_such_tool",
        expect!["m.no_such_tool (not_found): the server has no tool of this name [NotSent]"],
    )
    .await;
    check_call(
        &[],
        "unknown",
        expect!["m.unknown (invalid): the server answered: unknown tool (code -32602) [Answered]"],
    )
    .await;
}

#[tokio::test]
async fn a_structured_result_is_checked_and_so_are_arguments() {
    let world = World::new(&[]);
    let good = world.call_with("structured", json!({"n": 1}), CallOptions::default()).await;
    assert_eq!(good.unwrap().structured, Some(json!({"n": 1})));
    let bad = world.call_with("structured", json!({"n": "one"}), CallOptions::default()).await.unwrap_err();
    assert_eq!(
        (bad.class, bad.delivery, bad.pointer.as_deref()),
        (ToolErrorClass::Protocol, Delivery::Answered, Some("/n"))
    );
    let calls = world.written("calls").len();
    let invalid = world.call_with("echo", json!({"text": 5}), CallOptions::default()).await.unwrap_err();
    assert_eq!(
        (invalid.class, invalid.delivery, invalid.pointer.as_deref()),
        (ToolErrorClass::Invalid, Delivery::NotSent, Some("/text"))
    );
    assert_eq!(world.written("calls").len(), calls, "the server saw nothing");
    world.check_no_orphans().await;
}

#[tokio::test]
async fn discover_that_is_not_understood_falls_back() {
    check_attach(&["discover=empty"], 2, expect![[r#"Initialize 2025-06-18 Some("misbehaving 1")"#]]).await;
    check_attach(&["discover=old_versions"], 2, expect![[r#"Initialize 2025-06-18 Some("misbehaving 1")"#]]).await;
    check_attach(&["discover=exit"], 2, expect![[r#"Initialize 2025-06-18 Some("misbehaving 1")"#]]).await;
    check_attach(&["discover=error"], 1, expect![[r#"Initialize 2025-06-18 Some("misbehaving 1")"#]]).await;
}

#[tokio::test]
async fn discover_that_is_not_answered_in_time_falls_back() {
    check_attach(&["discover=never"], 2, expect![[r#"Initialize 2025-06-18 Some("misbehaving 1")"#]]).await;
    check_attach(&["discover=late"], 2, expect![[r#"Initialize 2025-06-18 Some("misbehaving 1")"#]]).await;
}

#[tokio::test]
async fn the_era_is_remembered_over_a_restart() {
    let world = World::with(&["discover=never"], |config| config.discover_timeout = Some(SHORT));
    world.check_usable().await;
    assert_eq!(world.hub.era("m").await, Some(Era::Initialize));
    world.call("die").await.unwrap_err();
    world.check_usable().await;
    assert_eq!(world.written("pids").len(), 3, "one probe, one start, one restart without a probe");
    world.check_no_orphans().await;
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why() {
    let world = World::new(&["start=refuse"]);
    let error = world.call("echo").await.unwrap_err();
    expect!["m.echo (unavailable): the server could not be attached: the server process ended (exit status: 3); its last words: cannot open the database [NotSent]"].assert_eq(&format!("{error} [{:?}]", error.delivery));
    let missing = World::with(&[], |config| *config = ServerConfig::stdio("m", "no-such-program", &[]));
    let error =
        missing.call("echo").await.unwrap_err().to_string().replace(missing.home.path().to_str().unwrap(), "HOME");
    expect!["m.echo (unavailable): `no-such-program` cannot be started in HOME/m: No such file or directory (os error 2); check `command`, `cwd` and the PATH given in `env`: the server does not inherit ours"].assert_eq(&error);
    world.check_no_orphans().await;
}

#[tokio::test]
async fn lists_end_and_one_bad_tool_costs_one_tool() {
    let endless = World::new(&["list=endless"]);
    expect!["m (protocol): the list of tools has more than 100 pages"]
        .assert_eq(&endless.hub.list_tools("m").await.unwrap_err().to_string());
    let hanging = World::with(&["list=hang"], |config| config.list_timeout = SHORT);
    let error = hanging.hub.list_tools("m").await.unwrap_err();
    expect!["m (timeout): listing its tools failed: no answer within 300ms [NotSent]"]
        .assert_eq(&format!("{error} [{:?}]", error.delivery));
    for habit in ["list=duplicate", "list=malformed"] {
        let world = World::new(&[habit]);
        let defects = world.hub.list_tools("m").await.unwrap().defects;
        assert_eq!(defects.len(), 1, "{defects:?}");
        world.check_usable().await;
        world.check_no_orphans().await;
    }
    endless.check_no_orphans().await;
    hanging.check_no_orphans().await;
}

#[tokio::test]
async fn a_duplicate_tool_is_not_callable() {
    let world = World::new(&["list=duplicate"]);
    expect!["m.hang (protocol): the tool is left out: the server lists several tools of this name; none is offered [NotSent]"].assert_eq(&show(world.call("hang").await));
    assert!(world.written("calls").is_empty());
    world.check_no_orphans().await;
}

#[tokio::test]
async fn a_stubborn_server_is_killed_on_close_and_on_drop() {
    for close in [true, false] {
        let world = World::with(&[], |config| {
            let [flag, script] = stubborn();
            *config = ServerConfig::stdio("m", "/bin/sh", &[&flag, &script]);
            config.close_grace = Duration::from_millis(100);
        });
        world.call("grandchild").await.unwrap();
        eventually("the grandchild to start", || world.alive().len() == 2).await;
        let World { hub, home } = world;
        if close {
            hub.close().await;
            assert_eq!(alive(home.path()).len(), 0, "close returns when they are gone");
        }
        drop(hub);
        eventually("the end of every process", || alive(home.path()).is_empty()).await;
    }
}

#[tokio::test]
async fn nobody_outlives_a_runtime_that_is_killed_outright() {
    let home = tempfile::tempdir().unwrap();
    let mut host = std::process::Command::new(example("hub_host"));
    let mut host =
        host.arg(home.path()).arg("/bin/sh").args(stubborn()).stdout(std::process::Stdio::null()).spawn().unwrap();
    eventually("server and grandchild to start", || alive(home.path()).len() == 2).await;
    host.kill().unwrap();
    host.wait().unwrap();
    eventually("the end of every process", || alive(home.path()).is_empty()).await;
}

#[tokio::test]
async fn a_list_is_never_served_from_a_cache() {
    let world = World::new(&["era=modern", "list=flip"]);
    let first = world.hub.list_tools("m").await.unwrap();
    let second = world.hub.list_tools("m").await.unwrap();
    assert_ne!(first.tool("echo").unwrap().pin, second.tool("echo").unwrap().pin);
    assert_eq!(first.tool("hang").unwrap().pin, second.tool("hang").unwrap().pin);
    let pinned = CallOptions { expected_pin: Some(first.tool("echo").unwrap().pin.clone()), ..CallOptions::default() };
    let error = world.call_with("echo", json!({"text": "x"}), pinned).await.unwrap_err();
    assert_eq!((error.class, error.delivery), (ToolErrorClass::Denied, Delivery::NotSent));
    assert!(world.written("calls").is_empty(), "the server saw nothing");
    world.check_no_orphans().await;
}

/// Gives the server a secret by reference.
fn with_token(config: &mut ServerConfig) {
    let TransportConfig::Stdio { env, .. } = &mut config.transport else { unreachable!() };
    env.insert("TOKEN".into(), "${CANARY}".into());
}

#[tokio::test]
async fn last_words_and_descriptions_do_not_give_a_secret_away() {
    let world = World::with(&["start=leak"], with_token);
    expect!["m.echo (unavailable): the server could not be attached: the server process ended (exit status: 3); its last words: bad token [redacted]"].assert_eq(&world.call("echo").await.unwrap_err().to_string());
    world.check_no_orphans().await;
    let world = World::with(&["list=leak"], with_token);
    let echo = world.hub.tool("m", "echo").await.unwrap();
    assert_eq!(echo.description.as_deref(), Some("Uses [redacted]."));
    world.check_no_orphans().await;
}

#[tokio::test]
async fn the_environment_is_declared_and_secrets_stay_hidden() {
    let world = World::with(&[], with_token);
    let text = world.call("environment").await.unwrap().text();
    let mut lines: Vec<_> =
        text.lines().map(|line| line.replace(world.home.path().to_str().unwrap(), "HOME")).collect();
    lines.sort_unstable();
    expect![[r#"
        HOME=HOME/m
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
        TOKEN=[redacted]"#]]
    .assert_eq(&lines.join("\n"));
    world.check_no_orphans().await;
}

#[tokio::test]
async fn cancelling_ends_the_call_and_tells_the_server() {
    let world = World::new(&[]);
    world.check_usable().await;
    let cancel = CancellationToken::new();
    let options = CallOptions { cancel: cancel.clone(), ..CallOptions::default() };
    let call = tokio::spawn({
        let hub = world.hub.clone();
        async move { hub.call("m", "hang", json!({}), options).await }
    });
    eventually("the call to arrive", || world.written("calls").len() == 2).await;
    assert_eq!(world.hub.in_flight(), 1);
    cancel.cancel();
    let error = call.await.unwrap().unwrap_err();
    assert_eq!((error.class, error.delivery), (ToolErrorClass::Cancelled, Delivery::Unknown));
    eventually("the server to be told", || world.written("cancelled").len() == 1).await;
    assert_eq!(world.hub.in_flight(), 0);
    world.check_no_orphans().await;
}

#[tokio::test]
async fn a_dropped_call_is_cancelled_and_not_counted() {
    let world = World::new(&[]);
    world.check_usable().await;
    let call = tokio::spawn({
        let hub = world.hub.clone();
        async move { hub.call("m", "hang", json!({}), CallOptions::default()).await }
    });
    eventually("the call to arrive", || world.written("calls").len() == 2).await;
    call.abort();
    eventually("the server to be told", || world.written("cancelled").len() == 1).await;
    assert_eq!(world.hub.in_flight(), 0);
    world.check_no_orphans().await;
}

#[tokio::test]
async fn progress_resets_the_idle_time_and_is_forwarded() {
    let world = World::new(&[]);
    world.check_usable().await;
    let (sink, mut steps) = tokio::sync::mpsc::channel(32);
    let options = CallOptions { idle: Some(SHORT), steps: Some(sink), ..CallOptions::default() };
    assert_eq!(world.call_with("steps", json!({}), options).await.unwrap().text(), "done");
    let first = steps.recv().await.unwrap();
    assert_eq!(first, Step::Progress(Progress { done: 1.0, total: Some(10.0), message: None }));
    let options = CallOptions { idle: Some(SHORT), ..CallOptions::default() };
    expect!["m.hang (timeout): no progress for 300ms [Unknown]"]
        .assert_eq(&show(world.call_with("hang", json!({}), options).await));
    world.check_no_orphans().await;
}

/// What the server logs during two calls at once.
async fn logged(both: bool) -> Vec<Step> {
    let world = World::with(&[], |config| {
        let TransportConfig::Stdio { env, .. } = &mut config.transport else { panic!("a child") };
        env.insert("TOKEN".into(), "${CANARY}".into());
    });
    world.check_usable().await;
    let other = both.then(|| {
        let hub = world.hub.clone();
        let (sink, _steps) = tokio::sync::mpsc::channel(1);
        let options = CallOptions { steps: Some(sink), ..CallOptions::default() };
        tokio::spawn(async move { hub.call("m", "hang", json!({}), options).await })
    });
    eventually("the other call", || world.written("calls").len() == 1 + usize::from(both)).await;
    let (sink, mut steps) = tokio::sync::mpsc::channel(8);
    world.call_with("chatty", json!({}), CallOptions { steps: Some(sink), ..CallOptions::default() }).await.unwrap();
    if let Some(other) = other {
        other.abort();
    }
    let mut heard = Vec::new();
    while let Some(step) = steps.recv().await {
        heard.push(step);
    }
    world.check_no_orphans().await;
    heard
}

#[tokio::test]
async fn what_a_server_logs_reaches_the_call_it_belongs_to_without_secrets() {
    let line =
        LogLine { level: "warning".into(), logger: Some("db".into()), message: "slow query with [redacted]".into() };
    assert_eq!(logged(false).await, [Step::Log(line)]);
    assert_eq!(logged(true).await, [], "nobody can tell to which of two calls it belongs");
}

#[tokio::test]
async fn a_server_without_sessions_is_listened_to() {
    let world = World::new(&["era=modern", "listen"]);
    world.check_usable().await;
    eventually("the stream", || world.written("listens").len() == 1).await;
    let lists = world.written("lists").len();
    world.call_with("changed", json!({}), CallOptions::default()).await.unwrap();
    world.check_usable().await;
    assert_eq!(world.written("lists").len(), lists + 1, "the list was read again");
    world.check_usable().await;
    assert_eq!(world.written("lists").len(), lists + 1, "and once");
    world.check_no_orphans().await;
}

#[tokio::test]
async fn a_server_that_takes_no_listeners_is_used_without() {
    let world = World::new(&["era=modern", "listen=refuse"]);
    world.check_usable().await;
    eventually("the question", || world.written("listens").len() == 1).await;
    world.check_usable().await;
    world.check_no_orphans().await;
}

#[tokio::test]
async fn a_server_that_stops_reading_is_given_up_and_what_waited_was_not_sent() {
    let world = World::new(&["deaf"]);
    let large = json!({"text": "x".repeat(1024 * 1024)});
    let options = || CallOptions { timeout: Some(SHORT), ..CallOptions::default() };
    let (first, second) =
        tokio::join!(world.call_with("echo", large.clone(), options()), world.call_with("echo", large, options()),);
    let mut deliveries = [first.unwrap_err().delivery, second.unwrap_err().delivery];
    deliveries.sort_unstable_by_key(|delivery| *delivery as u8);
    assert_eq!(deliveries, [Delivery::NotSent, Delivery::Unknown]);
    world.check_no_orphans().await;
}

#[tokio::test]
async fn a_changed_list_is_read_again_and_a_pin_holds() {
    let world = World::new(&[]);
    let list = world.hub.list_tools("m").await.unwrap();
    let pin = list.tool("changed").unwrap().pin.clone();
    let pinned = |pin| CallOptions { expected_pin: Some(pin), ..CallOptions::default() };
    world.call_with("changed", json!({}), pinned(pin)).await.unwrap();
    let error = world.call_with("changed", json!({}), pinned(Pin::from_hex("00"))).await.unwrap_err();
    assert_eq!((error.class, error.delivery), (ToolErrorClass::Denied, Delivery::NotSent));
    assert_eq!(world.written("calls").len(), 1);
    world.check_no_orphans().await;
}

#[tokio::test]
async fn the_hub_refuses_calls_once_closed() {
    let world = World::new(&[]);
    world.check_usable().await;
    world.hub.close().await;
    let error = world.call("echo").await.unwrap_err();
    assert_eq!((error.class, error.delivery), (ToolErrorClass::Unavailable, Delivery::NotSent));
    world.check_no_orphans().await;
}

#[tokio::test]
async fn parallel_calls_stay_within_the_configured_number() {
    let world = World::with(&[], |config| config.concurrency = 2);
    let calls = (0..6).map(|_| world.call("slow"));
    let results = futures_util::future::join_all(calls).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let mut most: Vec<_> = world.written("open");
    most.sort_unstable();
    assert_eq!(most.last().map(String::as_str), Some("2"));
    world.check_no_orphans().await;
}

#[tokio::test]
async fn a_full_house_is_a_timeout_and_the_call_was_not_sent() {
    let world = World::with(&[], |config| config.concurrency = 1);
    let first = tokio::spawn({
        let hub = world.hub.clone();
        async move { hub.call("m", "hang", json!({}), CallOptions::default()).await }
    });
    eventually("the first call to arrive", || world.written("calls").len() == 1).await;
    let options = CallOptions { timeout: Some(SHORT), ..CallOptions::default() };
    let second = world.call_with("echo", json!({"text": "x"}), options).await.unwrap_err();
    first.abort();
    assert_eq!((second.class, second.delivery), (ToolErrorClass::Timeout, Delivery::NotSent));
    world.check_no_orphans().await;
}

#[tokio::test]
async fn a_server_that_talks_to_standard_error_is_not_stopped_by_it() {
    check_call(&[], "noisy", expect!["ok heard truncated=false"]).await;
}

#[tokio::test]
async fn a_server_that_keeps_failing_is_left_alone_for_a_while() {
    let world = World::new(&["start=refuse"]);
    let start = Instant::now();
    let error = loop {
        let error = world.call("echo").await.unwrap_err();
        if error.message.contains("in a row") {
            break error;
        }
        assert!(start.elapsed() < WAIT_MAX, "{error}");
    };
    assert_eq!((error.class, error.delivery), (ToolErrorClass::Unavailable, Delivery::NotSent));
    let starts = world.written("pids").len();
    world.call("echo").await.unwrap_err();
    assert_eq!(world.written("pids").len(), starts, "nothing is started meanwhile");
    world.check_no_orphans().await;
}

#[tokio::test]
async fn the_idempotency_key_reaches_the_tool() {
    let world = World::new(&["era=modern"]);
    let options = CallOptions { idempotency_key: Some("thread-1/task-2/call-3".into()), ..CallOptions::default() };
    let meta: serde_json::Value =
        serde_json::from_str(&world.call_with("meta", json!({}), options).await.unwrap().text()).unwrap();
    assert_eq!(meta["interlock/idempotency-key"], "thread-1/task-2/call-3");
    assert_eq!(meta["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
    world.check_no_orphans().await;
}

#[tokio::test]
async fn questions_of_a_server_are_declined_and_the_call_goes_on() {
    let world = World::new(&[]);
    let sample = json!({"messages": [], "maxTokens": 1});
    let form = json!({"message": "Production password?", "requestedSchema": {"type": "object", "properties": {}}});
    let mut answers = String::new();
    for (method, params) in [
        ("sampling/createMessage", sample),
        ("elicitation/create", form),
        ("roots/list", json!({})),
        ("ping", json!({})),
    ] {
        let outcome = world.call_with("ask", json!({"method": method, "params": params}), CallOptions::default()).await;
        answers += &format!("{method}: {}\n", outcome.unwrap().text());
    }
    expect![[r#"
        sampling/createMessage: -32601
        elicitation/create: {"action":"decline"}
        roots/list: {"roots":[]}
        ping: {}
    "#]]
    .assert_eq(&answers);
    world.check_no_orphans().await;
}

#[tokio::test]
async fn a_server_without_tools_has_an_empty_list() {
    let world = World::new(&["list=none"]);
    assert!(world.hub.list_tools("m").await.unwrap().tools.is_empty());
    world.check_no_orphans().await;
}

#[tokio::test]
async fn a_question_during_a_call_goes_to_the_caller_and_its_answer_into_the_next_one() {
    let world = World::with(&[], |config| config.elicitation = true);
    let fields = json!({"region": {"type": "string"}});
    let form = json!({"message": "Which region?", "requestedSchema": {"type": "object", "properties": fields}});
    let args = json!({"method": "elicitation/create", "params": form});
    let asked = world.hub.converse("m", "ask", args.clone(), CallOptions::default()).await.unwrap();
    let Reply::Asks(request) = asked else { panic!("nothing was asked: {asked:?}") };
    assert_eq!((request.forms.len(), request.forms[0].message.as_str()), (1, "Which region?"));
    let answers = [(request.forms[0].key.clone(), FormAnswer::Accept(json!({"region": "eu"})))].into();
    let input = Some(InputAnswers { answers, ..InputAnswers::default() });
    let done = world.hub.converse("m", "ask", args, CallOptions { input, ..CallOptions::default() }).await.unwrap();
    let Reply::Done(outcome) = done else { panic!("it asks again: {done:?}") };
    assert_eq!(outcome.text(), r#"{"action":"accept","content":{"region":"eu"}}"#);
    world.check_no_orphans().await;
}

#[tokio::test]
async fn a_sample_during_a_call_goes_to_the_caller_and_its_answer_into_the_next_one() {
    let world = World::with(&[], |config| config.sampling = Some(Sampling { tier: None, max_tokens: 50 }));
    let said = json!([{"role": "user", "content": {"type": "text", "text": "Why?"}}]);
    let args = json!({"method": "sampling/createMessage", "params": {"messages": said, "maxTokens": 900}});
    let asked = world.hub.converse("m", "ask", args.clone(), CallOptions::default()).await.unwrap();
    let Reply::Asks(request) = asked else { panic!("nothing was asked: {asked:?}") };
    assert_eq!((request.forms.len(), request.samples.len()), (0, 1));
    let sample = &request.samples[0];
    assert_eq!((sample.max_tokens, sample.messages[0].text.as_str()), (50, "Why?"));
    let answer = SampleAnswer { text: "Because.".into(), model: "m-1".into(), stop_reason: "endTurn" };
    let input = Some(InputAnswers { known: [(sample.key.clone(), answer.wire())].into(), ..InputAnswers::default() });
    let done = world.hub.converse("m", "ask", args, CallOptions { input, ..CallOptions::default() }).await.unwrap();
    let Reply::Done(outcome) = done else { panic!("it asks again: {done:?}") };
    let told: serde_json::Value = serde_json::from_str(&outcome.text()).unwrap();
    assert_eq!((&told["content"]["text"], &told["model"]), (&json!("Because."), &json!("m-1")));
    let image = json!([{"role": "user", "content": {"type": "image", "data": "AA==", "mimeType": "image/png"}}]);
    let args = json!({"method": "sampling/createMessage", "params": {"messages": image, "maxTokens": 9}});
    let error = world.hub.converse("m", "ask", args, CallOptions::default()).await.unwrap_err();
    assert!(error.message.contains("no text"), "{error}");
    world.check_no_orphans().await;
}

#[tokio::test]
async fn a_server_that_asks_for_a_secret_is_refused() {
    let world = World::with(&[], |config| config.elicitation = true);
    let fields = json!({"db_password": {"type": "string"}});
    let form = json!({"message": "Log in", "requestedSchema": {"type": "object", "properties": fields}});
    let args = json!({"method": "elicitation/create", "params": form});
    let error = world.hub.converse("m", "ask", args, CallOptions::default()).await.unwrap_err();
    assert_eq!((error.class, error.delivery), (ToolErrorClass::InputRequired, Delivery::Answered));
    assert!(error.message.contains("db_password"), "{error}");
    world.check_no_orphans().await;
}
