//! A process that holds a hub with one server and then does nothing, for the test that kills it outright.
//!
//! Usage: `hub_host WORK_ROOT COMMAND ARGS…`

use std::time::Duration;

use tools::hub::{CallOptions, Hub, HubOptions, ServerConfig};

/// Long enough to be killed, short enough to clean up after itself.
const LONG: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let (Some(work_root), Some(command)) = (args.next(), args.next()) else { return };
    let args: Vec<String> = args.collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let options = HubOptions { work_root: Some(work_root.into()), ..HubOptions::default() };
    let hub = Hub::with_options(vec![ServerConfig::stdio("m", command, &args)], options);
    let born = hub.call("m", "grandchild", serde_json::json!({}), CallOptions::default()).await;
    println!("{born:?}");
    tokio::time::sleep(LONG).await;
}
