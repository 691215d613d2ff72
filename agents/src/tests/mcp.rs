//! The same graphs over real MCP: the hub on one end of a pipe, the warehouse's server on the other.

use std::sync::Arc;

use async_trait::async_trait;
use graphs::EffectClass;
use rmcp::ServiceExt;
use runtime_core::error::ErrorClass;
use runtime_core::record::Outcome;
use serde_json::{Value, json};
use tools::asking::Questions;
use tools::hub::{Dial, Hub, Pipes, ServerConfig, TransportConfig};
use tools::servers::sandbox::{Environment, Fault, Sandbox, SandboxServer, Settlement, Surface};
use tools::toolbox::{ToolBox, ToolRequest};

use super::world::{World, agreeable, library};

/// Bytes in flight on the pipe.
const PIPE_BYTES: usize = 64 * 1024;

struct DialSandbox(Arc<Sandbox>);

#[async_trait]
impl Dial for DialSandbox {
    async fn dial(&self) -> std::io::Result<Pipes> {
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        let server = SandboxServer::new(Arc::clone(&self.0), Surface::Agent);
        tokio::spawn(async move {
            let served = server.serve(theirs).await.map_err(std::io::Error::other)?;
            served.waiting().await.map_err(std::io::Error::other)
        });
        Ok(Pipes::from_stream(ours))
    }
}

fn hub(sandbox: &Arc<Sandbox>) -> Hub {
    let transport = TransportConfig::Custom(Arc::new(DialSandbox(Arc::clone(sandbox))));
    Hub::new(vec![ServerConfig { trusted: true, ..ServerConfig::new("warehouse", transport) }])
}

#[tokio::test]
async fn faults_are_healed_over_the_wire() {
    for fault in [Fault::UpstreamTimeout, Fault::NullBurst] {
        let dir = tempfile::tempdir().unwrap();
        let sandbox = Arc::new(Sandbox::open(dir.path()).unwrap());
        sandbox.inject(fault, None).unwrap();
        let hub = hub(&sandbox);
        let mut world = World::new(Arc::new(hub.clone()));
        world.engine.add_graph(Arc::new(library("etl-incident"))).await.unwrap();
        assert_eq!(world.run(library("etl-reliability"), json!({}), agreeable).await, Outcome::Success);
        let verdict = sandbox.verify(fault).unwrap();
        assert_eq!(verdict.outcome, Settlement::Healed, "{fault:?}: {:#?} {:#?}", verdict.details, world.told());
        hub.close().await;
    }
}

fn release(key: &str, id: u32) -> ToolRequest {
    ToolRequest {
        target: "warehouse.release_hold".to_owned(),
        args: Arc::new(json!({ "hold_id": id, "environment": "staging" })),
        key: key.to_owned(),
        effect: EffectClass::Idempotent,
        steps: None,
        pin: None,
        questions: Questions::Refused,
    }
}

/// The key of the journal reaches the tool: a second request with it is the first one again.
#[tokio::test]
async fn the_key_travels_and_a_repeated_call_is_one_effect() {
    let dir = tempfile::tempdir().unwrap();
    let sandbox = Arc::new(Sandbox::open(dir.path()).unwrap());
    let hub = hub(&sandbox);
    let hold = ToolRequest {
        target: "warehouse.hold_partition".to_owned(),
        args: Arc::new(
            json!({ "table": "fact_daily_carrier", "business_date": "2013-01-22", "environment": "staging", "reason": "test" }),
        ),
        ..release("t:1:0:0", 0)
    };
    let first = ToolBox::call(&hub, hold.clone()).await.unwrap();
    let second = ToolBox::call(&hub, hold).await.unwrap();
    assert_eq!(first, second);
    let effects = sandbox.effects(Environment::Staging).unwrap();
    assert_eq!(effects.len(), 1);
    assert_eq!(effects[0].idempotency_key.as_deref(), Some("t:1:0:0"));
    let missing = ToolBox::call(&hub, release("t:1:1:0", 99)).await.unwrap_err();
    assert!(missing.message.contains("hold_id 99"), "{missing}");
    assert!(!matches!(missing.class, ErrorClass::Transient | ErrorClass::Timeout), "{:?}", missing.class);
    hub.close().await;
}

#[tokio::test]
async fn classes_come_from_the_operator_s_trust() {
    let dir = tempfile::tempdir().unwrap();
    let sandbox = Arc::new(Sandbox::open(dir.path()).unwrap());
    let hub = hub(&sandbox);
    assert_eq!(hub.effect("warehouse.query").await.unwrap(), EffectClass::ReadOnly);
    assert_eq!(hub.effect("warehouse.grant_privilege").await.unwrap(), EffectClass::Idempotent);
    assert_eq!(hub.effect("warehouse.rerun_pipeline").await.unwrap(), EffectClass::AtMostOnce);
    assert_eq!(hub.effect("warehouse.inject_fault").await.unwrap_err().class, ErrorClass::NotFound);
    let listed = hub.list(&["warehouse.*_privilege".to_owned()]).await.unwrap();
    let names: Vec<&str> = listed.iter().map(|tool| tool.target.as_str()).collect();
    assert_eq!(names, ["warehouse.grant_privilege", "warehouse.revoke_privilege"]);
    assert!(listed.iter().all(|tool| tool.input_schema != Value::Null));
    hub.close().await;
}
