//! The body of the fuzz target `mcp_frames`: any bytes as what a server writes.
//!
//! Three requests are on their way when the bytes arrive, so that answers find somebody who waits. Whatever comes back is read
//! as a list of tools and as a result.

use std::io::Cursor;

use rmcp::model::{ClientJsonRpcMessage, ClientRequest, GetExtensions, JsonRpcMessage, RequestId, ServerResult};
use rmcp::transport::Transport;
use serde_json::{Map, Value};

use super::config::{ServerConfig, TransportConfig};
use super::dial::Pipes;
use super::http::Promoted;
use super::inventory::Pages;
use super::limits::RESULT_BYTES_DEFAULT;
use super::outcome::Reading;
use super::reference::Secrets;
use super::schema::Checker;
use super::session::{call_request, list_request};
use super::tap::Tap;
use super::wire::{Wire, WireState};

/// Longest line of the body's connection.
const LINE_BYTES: usize = 64 * 1024;

/// Takes `bytes` as the output of a server.
pub fn frames(bytes: &[u8]) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_time().build() else { return };
    runtime.block_on(read_all(bytes.to_vec()));
}

async fn read_all(bytes: Vec<u8>) {
    let pipes = Pipes { read: Box::new(Cursor::new(bytes)), write: Box::new(tokio::io::sink()) };
    let mut wire = Wire::new(pipes, LINE_BYTES, WireState::new("fuzz"));
    let call = || call_request("add", Map::new(), Promoted::default(), None);
    let requests = [list_request(None), call(), call()];
    let mut taps = Vec::new();
    for (number, request) in (1..).zip(requests) {
        taps.push(send(&mut wire, number, request).await);
    }
    while let Some(message) = wire.receive().await {
        match message {
            JsonRpcMessage::Response(answer) => match answer.result {
                ServerResult::CustomResult(raw) => read_answer(raw.0).await,
                typed => read_answer(serde_json::to_value(typed).unwrap_or_default()).await,
            },
            other => drop(format!("{other:?}")),
        }
    }
}

async fn send(wire: &mut Wire, number: i64, mut request: ClientRequest) -> std::sync::Arc<Tap> {
    let tap = Tap::new(None);
    request.extensions_mut().insert(tap.clone());
    // The sink takes everything.
    drop(wire.send(ClientJsonRpcMessage::request(request, RequestId::Number(number))).await);
    tap
}

async fn read_answer(raw: Value) {
    let config = ServerConfig::new("fuzz", TransportConfig::Http { url: String::new(), headers: Default::default() });
    let mut pages = Pages::default();
    let listed = pages.add(raw.clone()).is_ok();
    let (tools, defects) = pages.judge(&config);
    assert!(listed || tools.is_empty(), "a list that is refused offers nothing: {defects:?}");
    let checker = Checker::default();
    let output = tools.values().find_map(|tool| tool.output.as_ref());
    let secrets = Secrets::default();
    let bytes_max = RESULT_BYTES_DEFAULT;
    let (checker, secrets) = (&checker, &secrets);
    let reading = Reading { server: "fuzz", tool: "add", output, checker, bytes_max, secrets, artifacts: None };
    if let Err(error) = reading.read(raw).await {
        assert!(!error.to_string().is_empty(), "an error says what is wrong");
    }
}
