//! MCP: what hub, guard, journal and audit add to a bare call of the protocol library, on standard input and output.
//!
//! The server is this program, answering with what it was given; all three sides talk to one of the same kind, in turn.

use std::io::{BufRead, Write};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, bail};
use graphs::EffectClass;
use parking_lot::Mutex;
use rmcp::model::{CallToolRequestParams, ClientCapabilities, ClientConfig, Implementation, ProtocolVersion};
use rmcp::{ClientHandler, ClientLifecycleMode, ClientServiceExt};
use runtime::{CallSpec, Context, Engine, NodeFn, Start};
use runtime_core::event::NodeOutput;
use runtime_core::ids::ThreadId;
use runtime_core::interlocks::guard::Unpinned;
use runtime_core::record::{CallKind, Outcome as RunOutcome, RunOptions};
use serde_json::{Value, json};
use tools::hub::{CallOptions, Hub, ServerConfig};
use tools::lock::LockFile;
use tools::node::call_tool;
use tools::pinned::PinnedHub;
use tools::policy::RulePolicy;
use tools::toolbox::ToolBox;

use super::graphs_used::compile;
use super::measure::quantile;
use super::workloads::block_on;
use super::{BenchArgs, Outcome};

/// Calls of a side when nobody says otherwise; a task may make ten thousand.
const CALLS_DEFAULT: usize = 2_000;
/// Calls before the clock starts.
const WARM_UP: usize = 50;
/// The part of this program that is the server.
pub(super) const ECHO: &str = "mcp-echo";

const GRAPH: &str =
    "graph: mcp\nstate: { n: {} }\nnodes:\n  calls: { function: calls, output: n, then: end }\nstart: calls\n";

/// Answers every call with its arguments until its input ends.
pub(super) fn echo() -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let message: Value = serde_json::from_str(&line?)?;
        let tool = json!({"name": "echo", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": true}});
        let result = match message["method"].as_str() {
            Some("initialize") => json!({
                "protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "echo", "version": "1"},
            }),
            Some("tools/list") => json!({"tools": [tool]}),
            Some("tools/call") => {
                json!({"content": [{"type": "text", "text": message["params"]["arguments"].to_string()}]})
            }
            _ if message["id"].is_null() => continue,
            _ => {
                let error = json!({"code": -32601, "message": "Method not found"});
                writeln!(out, "{}", json!({"jsonrpc": "2.0", "id": message["id"], "error": error}))?;
                continue;
            }
        };
        writeln!(out, "{}", json!({"jsonrpc": "2.0", "id": message["id"], "result": result}))?;
        out.flush()?;
    }
    Ok(())
}

const ECHO_ARGS: [&str; 5] = ["bench", "--workload", "MCP", "--child", ECHO];

fn arguments(n: usize) -> Value {
    json!({"sql": "select carrier, count(*) from flights group by 1", "n": n})
}

/// Milliseconds of each call, the warm-up left out.
fn measured(times: &[f64]) -> &[f64] {
    times.get(WARM_UP..).unwrap_or_default()
}

/// The library's client without anything of ours.
struct Bare;

impl ClientHandler for Bare {
    fn get_info(&self) -> ClientConfig {
        ClientConfig::new(ClientCapabilities::default(), Implementation::new("bare", "1"))
            .with_protocol_version(ProtocolVersion::LATEST_WITH_INITIALIZE)
    }
}

async fn bare(n: usize) -> anyhow::Result<Vec<f64>> {
    let mut child = tokio::process::Command::new(std::env::current_exe()?)
        .args(ECHO_ARGS)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let pipes = child.stdout.take().zip(child.stdin.take()).context("the server has no pipes")?;
    let client = Bare.serve_with_lifecycle(pipes, ClientLifecycleMode::Initialize).await?;
    let mut times = Vec::with_capacity(n + WARM_UP);
    for call in 0..n + WARM_UP {
        let Value::Object(args) = arguments(call) else { bail!("arguments are an object") };
        let begun = Instant::now();
        client.call_tool(CallToolRequestParams::new("echo").with_arguments(args)).await?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    client.cancel().await?;
    Ok(times)
}

fn hub() -> anyhow::Result<Hub> {
    let program = std::env::current_exe()?;
    let mut config = ServerConfig::stdio("echo", program.to_string_lossy(), &ECHO_ARGS);
    config.trusted = true;
    Ok(Hub::new(vec![config]))
}

async fn through_hub(n: usize) -> anyhow::Result<Vec<f64>> {
    let hub = hub()?;
    let mut times = Vec::with_capacity(n + WARM_UP);
    for call in 0..n + WARM_UP {
        let begun = Instant::now();
        hub.call("echo", "echo", arguments(call), CallOptions::default()).await?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    hub.close().await;
    Ok(times)
}

/// As a graph calls: guard, journal, audit, store.
async fn guarded(args: &BenchArgs, n: usize) -> anyhow::Result<Vec<f64>> {
    let folder = args.folder();
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    let (store, _) = super::stores::open(&args.backend, &folder)?;
    let (hub, times) = (hub()?, Arc::new(Mutex::new(Vec::with_capacity(n + WARM_UP))));
    let lock = Arc::new(LockFile::new(folder.join("no.lock")));
    let tools: Arc<dyn ToolBox> = Arc::new(PinnedHub::new(hub.clone(), lock, Vec::new(), Unpinned::Allow));
    let noted = Arc::clone(&times);
    let calls = move |ctx: Context| {
        let (tools, noted) = (Arc::clone(&tools), Arc::clone(&noted));
        async move {
            for call in 0..n + WARM_UP {
                let begun = Instant::now();
                let spec = CallSpec {
                    role: Some("diagnostic".into()),
                    ..CallSpec::new(CallKind::Tool, "echo.echo", arguments(call), EffectClass::ReadOnly)
                };
                call_tool(&ctx, &tools, spec).await?;
                noted.lock().push(begun.elapsed().as_secs_f64() * 1e3);
            }
            Ok(NodeOutput { result: Some(json!(n)), ..NodeOutput::default() })
        }
    };
    let policy = RulePolicy::etl_demo()?;
    let engine =
        Engine::builder(Arc::clone(&store)).policy(Arc::new(policy)).function("calls", Arc::new(NodeFn(calls))).build();
    let options = RunOptions { durability: args.durability()?, ..RunOptions::default() };
    let start = Start {
        graph: compile(GRAPH)?,
        thread: ThreadId::new("mcp")?,
        input: Value::Null,
        options,
        metadata: Value::Null,
    };
    let ended = engine.start(start).await?.ended().await?;
    hub.close().await;
    engine.shutdown().await?;
    if ended.outcome != RunOutcome::Success {
        bail!("the calls ended as {:?}", ended.outcome);
    }
    let times = times.lock().clone();
    Ok(times)
}

/// The three sides, one after the other.
pub(super) fn run(args: &BenchArgs) -> anyhow::Result<Outcome> {
    let n = args.n.unwrap_or(CALLS_DEFAULT);
    let (bare, hub, guarded) =
        block_on(async { Ok((bare(n).await?, through_hub(n).await?, guarded(args, n).await?)) })?;
    let at = |times: &[f64], q: f64| quantile(measured(times), q);
    let ok = [&bare, &hub, &guarded].iter().all(|times| times.len() == n + WARM_UP);
    let metrics = json!({
        "bare_p50_ms": at(&bare, 0.5), "bare_p99_ms": at(&bare, 0.99), "hub_p50_ms": at(&hub, 0.5), "hub_p99_ms": at(&hub, 0.99),
        "guarded_p50_ms": at(&guarded, 0.5), "guarded_p99_ms": at(&guarded, 0.99),
        "overhead_p50": at(&guarded, 0.5) / at(&bare, 0.5), "overhead_p99": at(&guarded, 0.99) / at(&bare, 0.99),
    });
    Ok(Outcome { metrics, params: json!({"n": n}), ok })
}
