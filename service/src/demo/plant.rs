//! The warehouse as the demonstration reaches it: two sessions of one MCP server, for agents and for the operator.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tools::hub::{CallOptions, Hub, ServerConfig};
use tools::servers::sandbox::{Fault, GroundTruth, Injection, Verdict};

use crate::failure::Failure;

/// Name of the agents' server; graphs refer to it.
const WAREHOUSE: &str = "warehouse";
/// Name of the operator's server; no agent has it.
const OPERATOR: &str = "operator";
/// The warehouse is built when its server starts.
const START_TIME_MAX: Duration = Duration::from_secs(120);

/// A running warehouse.
pub(super) struct Plant {
    program: PathBuf,
    folder: PathBuf,
    operator: Hub,
}

/// The word of a fault.
pub(super) fn word(fault: &Fault) -> String {
    serde_json::to_value(fault).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}

impl Plant {
    /// A warehouse in a folder. Its servers are started when they are first needed.
    pub(super) fn open(folder: &Path) -> Result<Self, Failure> {
        let program =
            std::env::current_exe().map_err(|error| Failure::failed(format!("finding this program: {error}")))?;
        let folder = folder.join("warehouse");
        let operator = Hub::new(vec![server(OPERATOR, &program, &folder, &["--operator"])]);
        Ok(Self { program, folder, operator })
    }

    /// The agents' server.
    pub(super) fn server(&self) -> ServerConfig {
        server(WAREHOUSE, &self.program, &self.folder, &[])
    }

    /// Lets the schedule run one day with nothing broken: the day and its published flights.
    pub(super) async fn one_good_day(&self) -> Result<(String, i64), Failure> {
        let day: Value = self.ask("advance", json!({})).await?;
        let (date, state) = (day["business_date"].as_str().unwrap_or("?"), day["state"].as_str().unwrap_or("?"));
        if state != "success" {
            return Err(Failure::failed(format!("the ETL of {date} is {state}: {}", day["error"])));
        }
        let published = day["tasks"].as_array().into_iter().flatten().find(|task| task["task"] == "publish");
        Ok((date.to_owned(), published.and_then(|task| task["rows_in"].as_i64()).unwrap_or(0)))
    }

    /// Breaks the next day.
    pub(super) async fn inject(&self, fault: Fault) -> Result<Injection, Failure> {
        self.ask("inject_fault", json!({ "fault": fault })).await
    }

    /// What is true about a fault.
    pub(super) async fn ground_truth(&self, fault: Fault) -> Result<GroundTruth, Failure> {
        self.ask("ground_truth", json!({ "fault": fault })).await
    }

    /// What became of a fault, by the independent judge.
    pub(super) async fn verdict(&self, fault: Fault) -> Result<Verdict, Failure> {
        self.ask("verify_fault", json!({ "fault": fault })).await
    }

    /// Ends the operator's server.
    pub(super) async fn close(&self) {
        self.operator.close().await;
    }

    async fn ask<T: DeserializeOwned>(&self, tool: &str, args: impl Serialize) -> Result<T, Failure> {
        let failed = |why: String| Failure::failed(format!("warehouse, {tool}: {why}"));
        let args = serde_json::to_value(args).map_err(|error| failed(error.to_string()))?;
        let outcome = self.operator.call(OPERATOR, tool, args, CallOptions::default()).await;
        let outcome = outcome.map_err(|error| failed(error.to_string()))?;
        if outcome.is_error {
            return Err(failed(outcome.text()));
        }
        serde_json::from_value(outcome.structured.unwrap_or_default()).map_err(|error| failed(error.to_string()))
    }
}

fn server(name: &str, program: &Path, folder: &Path, more: &[&str]) -> ServerConfig {
    let folder = folder.to_string_lossy();
    let args: Vec<&str> = ["mcp", "sandbox", "--dir", &folder].into_iter().chain(more.iter().copied()).collect();
    let mut config = ServerConfig::stdio(name, program.to_string_lossy(), &args);
    // It is this very program: what it says about its tools can be relied on.
    config.trusted = true;
    config.start_timeout = START_TIME_MAX;
    config
}
