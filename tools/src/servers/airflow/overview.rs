//! Reading what is not a DAG or a run: health, pools, variables, assets, and who did what.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::client::{As, Request};
use super::error::Result;
use super::hide::{HIDDEN, is_secret_name};
use super::{Airflow, cut};

/// Longest value of a variable, or detail of an event, that is shown.
pub(super) const VALUE_CHARS_MAX: usize = 400;
/// Entries of a list that are shown when nobody says how many.
const LIMIT_DEFAULT: u32 = 50;

/// No arguments.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoArgs {}

/// A page of a list.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// Most entries.
    pub limit: Option<u32>,
    /// Entries to skip.
    pub offset: Option<u32>,
}

/// Health of the parts.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Health {
    /// Whether every part that reports is healthy.
    pub healthy: bool,
    /// State of each part, with its last sign of life.
    pub parts: Vec<Part>,
    /// Version of Airflow.
    pub version: Option<String>,
}

/// One part.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// `healthy`, `unhealthy`, or nothing where it does not run.
    pub status: Option<String>,
    /// Last sign of life.
    pub heartbeat: Option<String>,
}

pub(super) async fn health(airflow: Airflow, _: NoArgs) -> Result<Health> {
    let said = airflow.client.open(&["monitor", "health"]).await?;
    let version = airflow.client.open(&["version"]).await?;
    let parts: Vec<Part> = said
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, part)| {
            let text = |key: &str| part.get(key).and_then(Value::as_str).map(str::to_owned);
            Part { status: text("status"), heartbeat: text(&format!("latest_{name}_heartbeat")), name: name.clone() }
        })
        .collect();
    let healthy = parts.iter().all(|part| part.status.as_deref().is_none_or(|status| status == "healthy"));
    Ok(Health { healthy, parts, version: version.get("version").and_then(Value::as_str).map(str::to_owned) })
}

/// A pool.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// All slots.
    pub slots: i64,
    /// Slots that are free.
    pub open_slots: i64,
    /// Slots of running tasks.
    pub running_slots: i64,
    /// Slots of queued tasks.
    pub queued_slots: i64,
    /// Slots that tasks wait for.
    pub scheduled_slots: i64,
    /// What it is for.
    pub description: Option<String>,
}

/// Pools.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Pools {
    /// The pools of this page.
    pub pools: Vec<Pool>,
    /// How many there are.
    pub total_entries: u64,
}

pub(super) async fn list_pools(airflow: Airflow, page: Page) -> Result<Pools> {
    let path = ["pools"];
    airflow
        .client
        .send(As::Reader, airflow.paged(Request::get(&path), page.limit.unwrap_or(LIMIT_DEFAULT), page.offset))
        .await
}

/// A variable.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Variable {
    /// Its key.
    pub key: String,
    /// Its value, cut; hidden where the key names a secret.
    pub value: Option<String>,
    /// What it is for.
    pub description: Option<String>,
}

/// Variables.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Variables {
    /// The variables of this page.
    pub variables: Vec<Variable>,
    /// How many there are.
    pub total_entries: u64,
}

pub(super) async fn list_variables(airflow: Airflow, page: Page) -> Result<Variables> {
    let path = ["variables"];
    let request = airflow.paged(Request::get(&path), page.limit.unwrap_or(LIMIT_DEFAULT), page.offset);
    let mut found: Variables = airflow.client.send(As::Actor, request).await?;
    for variable in &mut found.variables {
        variable.value = match variable.value.take() {
            Some(_) if is_secret_name(&variable.key) => Some(HIDDEN.to_owned()),
            value => value.map(|value| cut(&value, VALUE_CHARS_MAX)),
        };
    }
    Ok(found)
}

/// An asset.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Asset {
    /// Its name.
    pub name: String,
    /// Its address.
    pub uri: String,
    /// Group.
    pub group: Option<String>,
    /// DAGs that start when it is written.
    #[serde(default)]
    pub scheduled_dags: Vec<DagName>,
    /// Tasks that write it.
    #[serde(default)]
    pub producing_tasks: Vec<TaskName>,
}

/// A DAG by name.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct DagName {
    /// Its id.
    pub dag_id: String,
}

/// A task by name.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct TaskName {
    /// Its DAG.
    pub dag_id: String,
    /// Its id.
    pub task_id: String,
}

/// Assets.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Assets {
    /// The assets of this page.
    pub assets: Vec<Asset>,
    /// How many there are.
    pub total_entries: u64,
}

pub(super) async fn list_assets(airflow: Airflow, page: Page) -> Result<Assets> {
    let path = ["assets"];
    airflow
        .client
        .send(As::Reader, airflow.paged(Request::get(&path), page.limit.unwrap_or(LIMIT_DEFAULT), page.offset))
        .await
}

/// Which entries of the event log.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventQuery {
    /// Only of this DAG.
    pub dag_id: Option<String>,
    /// Only by this account.
    pub owner: Option<String>,
    /// Only of this name, such as `patch_pool`.
    pub event: Option<String>,
    /// Only after this moment.
    pub after: Option<String>,
    /// Most entries.
    pub limit: Option<u32>,
}

/// Something that was tried.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// When.
    pub when: String,
    /// What.
    pub event: String,
    /// Who.
    pub owner: Option<String>,
    /// DAG.
    pub dag_id: Option<String>,
    /// Run.
    pub run_id: Option<String>,
    /// Task.
    pub task_id: Option<String>,
    /// What was sent, cut and without secrets.
    pub extra: Option<String>,
}

/// Entries of the event log.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Events {
    /// Newest first.
    pub event_logs: Vec<Event>,
    /// How many there are.
    pub total_entries: u64,
}

pub(super) async fn event_log(airflow: Airflow, query: EventQuery) -> Result<Events> {
    let path = ["eventLogs"];
    let request = Request::get(&path)
        .with("order_by", "-when")
        .with_some("dag_id", query.dag_id)
        .with_some("owner", query.owner)
        .with_some("event", query.event)
        .with_some("after", query.after);
    let request = airflow.paged(request, query.limit.unwrap_or(LIMIT_DEFAULT), None);
    let mut found: Events = airflow.client.send(As::Reader, request).await?;
    for event in &mut found.event_logs {
        event.extra = event.extra.take().map(|extra| cut(&extra, VALUE_CHARS_MAX));
    }
    Ok(found)
}
