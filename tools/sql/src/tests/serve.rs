//! The server over an in-memory transport, with an rmcp client of either protocol era.

use rmcp::model::{CallToolRequestParams, ClientConfig, ProtocolVersion};
use rmcp::service::RunningService;
use rmcp::{ClientHandler, ClientLifecycleMode, ClientServiceExt, RoleClient, ServiceExt};
use serde_json::{Value, json};

use super::Cluster;
use crate::config::Config;
use crate::server::{META_ERROR, SqlServer};

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

async fn connect(config: Config, mode: ClientLifecycleMode) -> RunningService<RoleClient, Client> {
    let (server_side, client_side) = tokio::io::duplex(PIPE_BYTES);
    tokio::spawn(async move {
        let running = SqlServer::new(config).serve(server_side).await.unwrap();
        running.waiting().await.unwrap();
    });
    Client.serve_with_lifecycle(client_side, mode).await.unwrap()
}

fn call(name: &'static str, arguments: Value) -> CallToolRequestParams {
    CallToolRequestParams::new(name).with_arguments(arguments.as_object().unwrap().clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_either_era_lists_and_calls() {
    let cluster = Cluster::start().await;
    let modern = ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
    for mode in [ClientLifecycleMode::Initialize, modern] {
        let client = connect(cluster.config(), mode).await;
        let tools = client.list_all_tools().await.unwrap();
        assert_eq!(tools.len(), 14);
        for tool in &tools {
            let annotations = tool.annotations.as_ref().unwrap();
            let reads = ![
                "execute",
                "quarantine",
                "release_quarantine",
                "apply_migration",
                "revert_migration",
                "grant_privilege",
                "revoke_privilege",
            ]
            .contains(&tool.name.as_ref());
            assert_eq!(annotations.read_only_hint, Some(reads), "{}", tool.name);
            assert!(tool.output_schema.is_some(), "{}", tool.name);
        }
        let read = client
            .call_tool(call("query", json!({ "connection": "analyst", "sql": "SELECT 1 AS one" })))
            .await
            .unwrap();
        assert_eq!(read.structured_content.unwrap()["rows"], json!([{ "one": 1 }]));
        let sql = "SELECT pg_read_file('/etc/passwd')";
        let refused = client.call_tool(call("query", json!({ "connection": "analyst", "sql": sql }))).await.unwrap();
        assert_eq!(refused.is_error, Some(true));
        assert_eq!(refused.structured_content.unwrap()["error"]["class"], "denied");
        assert_eq!(refused.meta.unwrap().get(META_ERROR).unwrap()["rule"], "function-list");
        // A call cannot choose its environment: there is no such argument.
        let chosen =
            json!({ "connection": "production", "environment": "staging", "sql": "DELETE FROM orders WHERE id = 1" });
        let refused = client.call_tool(call("execute", chosen)).await.unwrap();
        assert_eq!(refused.structured_content.unwrap()["error"]["code"], "invalid_arguments");
        assert!(client.call_tool(call("drop_everything", json!({}))).await.is_err());
        client.cancel().await.unwrap();
    }
}
