//! Servers that load for a long time: attached at their first start as long as the operator's patience lasts, whatever
//! they speak. The library's own patience (ten seconds) is not asked for: `era::mode` has no automatic mode.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, duplex};
use tokio::sync::Semaphore;

use super::*;

const PIPE_BYTES: usize = 4096;
/// Patience that runs out.
const SHORT: Duration = Duration::from_millis(200);

/// What a slow server knows.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Knows {
    /// `server/discover` and no `initialize`.
    Discover,
    /// `initialize`; the other is an error.
    Initialize,
    /// `initialize`; the other is met with silence.
    Silence,
}

/// A server that reads its first line at once and answers nothing before it has loaded.
struct Slow {
    knows: Knows,
    dials: AtomicUsize,
    /// One permit for each line that waits for an answer.
    asked: Semaphore,
    loaded: Semaphore,
}

struct DialSlow(Arc<Slow>);

#[async_trait]
impl Dial for DialSlow {
    async fn dial(&self) -> std::io::Result<Pipes> {
        let (ours, theirs) = duplex(PIPE_BYTES);
        self.0.dials.fetch_add(1, Ordering::AcqRel);
        tokio::spawn(self.0.clone().serve(theirs));
        Ok(Pipes::from_stream(ours))
    }
}

impl Slow {
    async fn serve(self: Arc<Self>, stream: DuplexStream) -> std::io::Result<()> {
        let (read, mut write) = tokio::io::split(stream);
        let mut lines = BufReader::new(read).lines();
        while let Some(line) = lines.next_line().await? {
            self.asked.add_permits(1);
            drop(self.loaded.acquire().await);
            let message: Value = serde_json::from_str(&line)?;
            if let Some(mut answer) = self.answer(message["method"].as_str().unwrap_or_default()) {
                answer["jsonrpc"] = json!("2.0");
                answer["id"] = message["id"].clone();
                write.write_all(format!("{answer}\n").as_bytes()).await?;
            }
        }
        Ok(())
    }

    fn answer(&self, method: &str) -> Option<Value> {
        let (identity, capabilities) = (json!({"name": "slow", "version": "1"}), json!({"tools": {}}));
        let result = match (method, self.knows) {
            ("server/discover", Knows::Discover) => json!({
                "supportedVersions": ["2026-07-28"], "capabilities": capabilities, "serverInfo": identity,
                "resultType": "complete", "ttlMs": 0, "cacheScope": "private"}),
            ("server/discover", Knows::Silence) | ("notifications/initialized", _) => return None,
            ("initialize", Knows::Initialize | Knows::Silence) => {
                json!({"protocolVersion": "2025-06-18", "capabilities": capabilities, "serverInfo": identity})
            }
            ("tools/list", _) => json!({"tools": []}),
            _ => return Some(json!({"error": {"code": -32601, "message": "Method not found"}})),
        };
        Some(json!({ "result": result }))
    }
}

fn world(knows: Knows, change: impl FnOnce(&mut ServerConfig)) -> (Hub, Arc<Slow>) {
    let (asked, loaded) = (Semaphore::new(0), Semaphore::new(0));
    let slow = Arc::new(Slow { knows, dials: AtomicUsize::default(), asked, loaded });
    let mut config = ServerConfig::new("slow", TransportConfig::Custom(Arc::new(DialSlow(slow.clone()))));
    change(&mut config);
    (Hub::new(vec![config]), slow)
}

/// Loads once it was asked, and not before.
async fn check_slow(knows: Knows, era: Era) {
    let (hub, slow) = world(knows, |_| {});
    let load = async {
        drop(slow.asked.acquire().await);
        slow.loaded.add_permits(1);
    };
    let (list, ()) = tokio::join!(hub.list_tools("slow"), load);
    let list = list.unwrap_or_else(|error| panic!("{knows:?}: {error}"));
    assert_eq!((list.era, slow.dials.load(Ordering::Acquire)), (era, 1), "{knows:?}");
    hub.close().await;
}

#[tokio::test]
async fn a_slow_server_of_either_era_is_attached_at_its_first_start() {
    check_slow(Knows::Discover, Era::Modern).await;
    check_slow(Knows::Initialize, Era::Initialize).await;
}

#[tokio::test]
async fn a_server_that_never_says_its_era_is_attached_at_its_second_start() {
    let (hub, slow) = world(Knows::Silence, |config| config.discover_timeout = Some(SHORT));
    slow.loaded.add_permits(1);
    let list = hub.list_tools("slow").await.unwrap();
    assert_eq!((list.era, slow.dials.load(Ordering::Acquire)), (Era::Initialize, 2));
    hub.close().await;
}

/// With less patience than the server needs nothing is attached: the tests above can fail.
#[tokio::test]
async fn a_server_that_is_slower_than_the_start_time_is_given_up() {
    let (hub, _) = world(Knows::Discover, |config| config.start_timeout = SHORT);
    let error = hub.list_tools("slow").await.unwrap_err();
    assert_eq!(error.class, ToolErrorClass::Timeout, "{error}");
    hub.close().await;
}

#[test]
fn a_probe_has_half_of_the_start_time_unless_the_operator_says_otherwise() {
    let parsed = |own: Value| ParsedServers::parse(&json!({"mcpServers": {"s": own}})).servers.remove(0).probe_time();
    assert!(parsed(json!({"command": "x"})) > Duration::from_secs(20), "real servers load for 20 s");
    assert_eq!(parsed(json!({"command": "x", "start_timeout": "2m"})), Duration::from_secs(60));
    assert_eq!(parsed(json!({"command": "x", "discover_timeout": "5s"})), Duration::from_secs(5));
}
