//! The server over an in-memory transport, with an rmcp client of either protocol era.

use std::sync::Arc;

use rmcp::model::{CallToolRequestParams, ClientConfig, MetaObject, ProtocolVersion, RequestMetaObject};
use rmcp::service::RunningService;
use rmcp::{ClientHandler, ClientLifecycleMode, ClientServiceExt, RoleClient, ServiceExt};
use serde_json::{Value, json};

use super::World;
use crate::servers::sandbox::{
    Fault, META_ERROR, META_IDEMPOTENCY_KEY, META_REPLAYED, Sandbox, SandboxServer, Surface,
};

/// Bytes that the in-memory pipe buffers.
const PIPE_BYTES: usize = 64 * 1024;

struct Client;

impl ClientHandler for Client {
    fn get_info(&self) -> ClientConfig {
        let mut info = ClientConfig::default();
        info.protocol_version = ProtocolVersion::LATEST_WITH_INITIALIZE;
        info
    }
}

async fn connect(
    sandbox: Arc<Sandbox>,
    surface: Surface,
    mode: ClientLifecycleMode,
) -> RunningService<RoleClient, Client> {
    let (server_side, client_side) = tokio::io::duplex(PIPE_BYTES);
    tokio::spawn(async move {
        let running = SandboxServer::new(sandbox, surface).serve(server_side).await.unwrap();
        running.waiting().await.unwrap();
    });
    Client.serve_with_lifecycle(client_side, mode).await.unwrap()
}

fn call(name: &'static str, arguments: Value) -> CallToolRequestParams {
    CallToolRequestParams::new(name).with_arguments(arguments.as_object().unwrap().clone())
}

async fn round_trip(mode: ClientLifecycleMode) {
    let World { sandbox, dir: _dir } = World::new();
    let sandbox = Arc::new(sandbox);
    sandbox.inject(Fault::UpstreamTimeout, None).unwrap();
    let client = connect(Arc::clone(&sandbox), Surface::Agent, mode).await;
    let tools = client.list_all_tools().await.unwrap();
    assert!(tools.iter().any(|t| t.name == "rerun_pipeline"));
    assert!(tools.iter().all(|t| t.name != "inject_fault" && t.output_schema.is_some()));

    let failed = client.call_tool(call("list_runs", json!({ "state": "failed" }))).await.unwrap();
    assert_eq!(failed.structured_content.unwrap()["runs"][0]["run_id"], "flights_daily-2013-01-23-1");

    let refused = client.call_tool(call("query", json!({ "sql": "DROP TABLE stg_flights" }))).await.unwrap();
    assert_eq!(refused.is_error, Some(true));
    assert_eq!(refused.meta.unwrap().get(META_ERROR).unwrap()["class"], "permanent");

    let rerun = || {
        let mut request = call(
            "rerun_pipeline",
            json!({ "pipeline": "flights_daily", "business_date": "2013-01-23", "environment": "production" }),
        );
        let mut meta = MetaObject::new();
        meta.insert(META_IDEMPOTENCY_KEY.to_owned(), json!("thread-1/task-2/call-3"));
        request.meta = Some(RequestMetaObject(meta));
        request
    };
    let second_try = client.call_tool(rerun()).await.unwrap();
    assert_eq!(second_try.is_error, Some(true));
    assert_eq!(second_try.structured_content.unwrap()["state"], "failed");
    assert_eq!(second_try.meta.unwrap().get(META_ERROR).unwrap()["class"], "transient");
    let third_try = client.call_tool(rerun()).await.unwrap();
    assert_eq!(third_try.is_error, Some(false));
    let replayed = client.call_tool(rerun()).await.unwrap();
    assert_eq!(replayed.structured_content, third_try.structured_content);
    assert_eq!(replayed.meta.unwrap().get(META_REPLAYED), Some(&json!(true)));

    assert!(client.call_tool(call("inject_fault", json!({ "fault": "null_burst" }))).await.is_err());
    client.cancel().await.unwrap();
}

#[tokio::test]
async fn a_client_with_initialize() {
    round_trip(ClientLifecycleMode::Initialize).await;
}

#[tokio::test]
async fn a_client_without_initialize() {
    round_trip(ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] }).await;
}

#[tokio::test]
async fn the_operator_has_another_surface() {
    let World { sandbox, dir: _dir } = World::new();
    let client = connect(Arc::new(sandbox), Surface::Operator, ClientLifecycleMode::Initialize).await;
    let names: Vec<_> = client.list_all_tools().await.unwrap().into_iter().map(|t| t.name.into_owned()).collect();
    assert_eq!(
        names,
        ["inject_fault", "advance", "ground_truth", "verify_fault", "resolve_by_person", "list_effects", "reset"]
    );
    let injected = client.call_tool(call("inject_fault", json!({ "fault": "unknown_error" }))).await.unwrap();
    assert_eq!(injected.structured_content.unwrap()["run_state"], "failed");
    let truth = client.call_tool(call("ground_truth", json!({ "fault": "unknown_error" }))).await.unwrap();
    assert_eq!(truth.structured_content.unwrap()["must_page"], json!(true));
    client.cancel().await.unwrap();
}
