//! Servers on a duplex pipe: the official server stack in both eras, and limits that need no process.

use std::sync::Arc;

use async_trait::async_trait;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{ServerCapabilities, ServerConfig as RmcpServerConfig};
use rmcp::{ServerHandler, ServiceExt, tool, tool_handler, tool_router};
use serde_json::json;

use super::*;

/// Bytes in flight on the pipe.
const PIPE_BYTES: usize = 4096;

#[derive(Clone)]
struct Clerk;

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Sum {
    left: i64,
    right: i64,
}

#[tool_router]
impl Clerk {
    #[tool(description = "Adds two numbers.", annotations(read_only_hint = true))]
    async fn add(&self, Parameters(sum): Parameters<Sum>) -> String {
        (sum.left + sum.right).to_string()
    }
}

#[tool_handler]
impl ServerHandler for Clerk {
    fn get_info(&self) -> RmcpServerConfig {
        RmcpServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }
}

struct DialClerk;

#[async_trait]
impl Dial for DialClerk {
    async fn dial(&self) -> std::io::Result<Pipes> {
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        tokio::spawn(async move {
            let served = Clerk.serve(theirs).await.map_err(std::io::Error::other)?;
            served.waiting().await.map_err(std::io::Error::other)
        });
        Ok(Pipes::from_stream(ours))
    }
}

fn clerk(trusted: bool) -> Hub {
    let config = ServerConfig { trusted, ..ServerConfig::new("clerk", TransportConfig::Custom(Arc::new(DialClerk))) };
    Hub::new(vec![config])
}

#[tokio::test]
async fn the_official_server_stack_is_listed_and_called() {
    let hub = clerk(true);
    let list = hub.list_tools("clerk").await.unwrap();
    let add = list.tool("add").unwrap();
    assert_eq!((add.effect, add.effect_source), (Effect::ReadOnly, EffectSource::TrustedAnnotations));
    assert_eq!(list.era, Era::Modern);
    let outcome = hub.call("clerk", "add", json!({"left": 2, "right": 3}), CallOptions::default()).await.unwrap();
    assert_eq!(outcome.text(), "5");
    hub.close().await;
}

#[tokio::test]
async fn annotations_of_a_stranger_do_not_count() {
    let hub = clerk(false);
    let list = hub.list_tools("clerk").await.unwrap();
    assert_eq!(list.tool("add").unwrap().effect, Effect::AtMostOnce);
    hub.close().await;
}

#[tokio::test]
async fn slips_in_names_are_answered_with_the_right_one() {
    let hub = clerk(true);
    let tool = hub.call("clerk", "dad", json!({}), CallOptions::default()).await.unwrap_err();
    assert_eq!(tool.to_string(), "clerk.dad (not_found): the server has no tool of this name; did you mean add?");
    let server = hub.call("clrek", "add", json!({}), CallOptions::default()).await.unwrap_err();
    assert_eq!(server.to_string(), "clrek.add (not_found): no server of this name is configured; did you mean clerk?");
    hub.close().await;
}
