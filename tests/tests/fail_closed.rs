//! An act whose intent cannot be written to the audit log is not made: nothing reaches the server, the run fails, and it is
//! made once when there is room again. A store that only says it has written lets the act out, and is caught.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use checkpoints::open::{Address, OpenOptions, open};
use graphs::OpenCatalog;
use runtime::ports::store::{PAGE_MAX, Store, StoreError};
use runtime::{Engine, Start};
use runtime_core::ids::ThreadId;
use runtime_core::record::{Commit, Op, Outcome, RunOptions};
use serde_json::{Value, json};
use tests::hooked_store::{Hook, HookedStore};
use tools::hub::{Hub, HubOptions, ParsedServers};
use tools::node::ToolNode;

const GRAPH: &str = r#"
graph: act
state: {}
nodes:
  act: { tool: lake.drop, args: { table: orders }, then: end }
start: act
"#;

/// Whether a commit says in the audit log that a call is let go.
fn lets_go(commit: &Commit) -> bool {
    commit.record.ops.iter().any(|op| matches!(op, Op::Audited(entry) if entry.action == "call.permitted"))
}

/// There is no room for the intent of an act.
struct Full;

#[async_trait]
impl Hook for Full {
    async fn commit(&self, inner: &dyn Store, commit: Commit) -> Result<(), StoreError> {
        match lets_go(&commit) {
            true => Err(StoreError::Io("no space left on device".to_owned())),
            false => inner.commit(commit).await,
        }
    }
}

/// Weakened on purpose: there is none either, and nobody is told.
struct Silent;

#[async_trait]
impl Hook for Silent {
    async fn commit(&self, inner: &dyn Store, commit: Commit) -> Result<(), StoreError> {
        match lets_go(&commit) {
            true => Ok(()),
            false => inner.commit(commit).await,
        }
    }
}

struct Lake(tempfile::TempDir);

impl Lake {
    fn new() -> Self {
        let lake = Self(tempfile::tempdir().unwrap());
        let tools = [json!({"name": "drop", "inputSchema": {"type": "object"}})];
        std::fs::write(lake.script(), json!({"name": "lake", "tools": tools}).to_string()).unwrap();
        lake
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn script(&self) -> std::path::PathBuf {
        self.path().join("script.json")
    }

    /// Calls that reached the server.
    fn arrived(&self) -> usize {
        std::fs::read_to_string(self.path().join("log")).unwrap_or_default().lines().count()
    }

    fn hub(&self) -> Hub {
        let servers = json!({"lake": {
            "command": env!("CARGO_BIN_EXE_counting_server"), "args": [self.script(), self.path().join("log")],
            "effects": {"drop": "at_most_once"},
        }});
        let options = HubOptions { drain: Duration::from_millis(100), ..HubOptions::default() };
        Hub::with_options(ParsedServers::parse(&servers).servers, options)
    }

    fn store(&self) -> Arc<dyn Store> {
        open(&Address::Sled(self.path().join("store")), &OpenOptions::default()).unwrap()
    }
}

fn engine(store: Arc<dyn Store>, hub: &Hub) -> Engine {
    Engine::builder(store).kind("tool", Arc::new(ToolNode::new(Arc::new(hub.clone())))).build()
}

fn start() -> Start {
    let graph = Arc::new(graphs::check("act.yaml", GRAPH.as_bytes(), &OpenCatalog).unwrap().0);
    let thread = ThreadId::new("t").unwrap();
    Start { graph, thread, input: Value::Null, options: RunOptions::default(), metadata: Value::Null }
}

/// How often an act was let go, as the audit log has it.
async fn audited(store: &Arc<dyn Store>) -> usize {
    let log = store.audit(1, PAGE_MAX).await.unwrap();
    log.iter().filter(|record| record.entry.action == "call.permitted").count()
}

/// Runs an act over a store whose audit log has no room: acts at the server, and acts in the log.
async fn without_room(lake: &Lake, store: &Arc<dyn Store>, hook: Arc<dyn Hook>) -> (usize, usize) {
    let hub = lake.hub();
    let engine = engine(Arc::new(HookedStore::new(Arc::clone(store), hook)), &hub);
    let ended = engine.start(start()).await.unwrap().ended().await.unwrap();
    assert!(matches!(&ended.outcome, Outcome::Failed(error) if error.class.word() == "resource"), "{ended:?}");
    hub.close().await;
    (lake.arrived(), audited(store).await)
}

#[tokio::test]
async fn an_act_that_cannot_be_audited_is_not_made() {
    let lake = Lake::new();
    let store = lake.store();
    assert_eq!(without_room(&lake, &store, Arc::new(Full)).await, (0, 0));
    // There is room again.
    let hub = lake.hub();
    let engine = engine(Arc::clone(&store), &hub);
    engine.add_graph(start().graph).await.unwrap();
    engine.recover().await.unwrap();
    engine.join(&start().thread).await.unwrap();
    assert_eq!((lake.arrived(), audited(&store).await), (1, 1));
    hub.close().await;
}

#[tokio::test]
async fn a_store_that_only_says_so_lets_the_act_out() {
    let lake = Lake::new();
    let store = lake.store();
    let (made, audited) = without_room(&lake, &store, Arc::new(Silent)).await;
    assert!(made > audited, "the weakened variant has to be caught: {made} made, {audited} in the log");
}
