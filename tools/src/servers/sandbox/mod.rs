//! An embedded data warehouse with a real little ETL, reachable only as MCP tools over stdio, and broken on command.
//!
//! The data are the 27,004 flights that left New York in January 2013. The upstream feed delivers them day by day; the
//! pipeline `flights_daily` turns a day into facts in three tasks:
//!
//! ```text
//!  upstream feed ──extract──▶ src_flights ──stage──▶ stg_flights ──publish──▶ fact_daily_carrier, fact_daily_route
//!  (outside; can time out)    as delivered           typed, checked           counts, delays, cancellations per day
//! ```
//!
//! There are two environments, `production` and `staging`, each a SQLite file with its own tables, grants, runs and clock.
//! A new sandbox has the days 1 to 22 of the month as history; the operator schedules the next ones.
//!
//! * **Agents** get the tools of [`registry::agent_tools`]: reading ones, and writing ones that all name their environment
//!   and honour an idempotency key. There is no free-form write tool.
//! * **The operator** (demo, tests) gets [`operator`]: inject a fault, schedule a day, ask for the ground truth and the
//!   verdict. Agents never see that surface; it is enabled by [`ServeOptions::surface`].
//! * **Nothing is simulated by returning a message.** A renamed column is renamed in what the feed delivers, a revoked
//!   privilege is missing from the table that SQLite's authorizer enforces, and the verifier compares facts with numbers
//!   computed from the embedded file without SQL.
//!
//! | fault | how it is made | what an agent sees | remedy |
//! | --- | --- | --- | --- |
//! | `upstream_timeout` | the feed does not answer two requests | extract: `UpstreamTimeout` | run again, twice |
//! | `row_count_drop` | the feed lacks its last part | all green; 70 % of the usual rows, an incomplete manifest | redelivery, run from extract |
//! | `null_burst` | the feed has no carrier in 39 rows | stage: `DataQualityError` | quarantine those rows, run from stage |
//! | `column_renamed` | the feed has another header | stage: `OperationalError: no such column` | migrate `ops_column_map`, run from stage |
//! | `permission_revoked` | a row of `ops_grants` is gone | publish: `InsufficientPrivilege` | grant it, run from publish |
//! | `unknown_error` | the storage layer refuses the day | publish: `OperationalError: E7731 …` | a person |
//!
//! `TOOLS.md` beside this file shows every tool and every fault with real answers; a test writes it. An effect, its key
//! and its result are one transaction ([`Effect`]); a run that failed counts as an effect and leaves its key free, so
//! that a retry of the same call is a new run.
//!
//! The folder holds `production.db`, `staging.db`, `world.db` (what lies outside the warehouse) and `effects.jsonl`, one
//! line per executed effect. Times inside are sandbox time: a day is processed at 05:00 UTC of the next one.

mod data;
mod db;
mod effects;
mod error;
mod etl;
mod faults;
pub mod grants;
pub mod inspect;
pub mod migrate;
pub mod operator;
pub mod profile;
pub mod query;
pub mod registry;
pub mod repair;
pub mod runs;
mod server;
mod verify;
pub mod world;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use jiff::civil::Date;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use super::table::META_IDEMPOTENCY_KEY;
use db::{EnvDb, lock};
pub use effects::{Effect, KEY_BYTES_MAX};
pub use error::{Code, Result, SandboxError};
pub use faults::{Fault, FaultClass, GroundTruth, Injection, RemedyStep};
pub use server::{META_ERROR, META_REPLAYED, SandboxServer, ServeOptions, Surface, serve_stdio};
pub use verify::{Settlement, Verdict};
use world::{HISTORY_LAST_DAY, World, WorldStore};

/// Which of the two warehouses is meant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// What the company reads.
    #[default]
    Production,
    /// A copy to try a repair on.
    Staging,
}

impl std::fmt::Display for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Production => "production",
            Self::Staging => "staging",
        })
    }
}

/// Who asked for a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trigger {
    Schedule,
    Rerun,
    Person,
}

impl Trigger {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::Rerun => "rerun",
            Self::Person => "person",
        }
    }
}

/// The warehouse, its pipelines, and the world around them. One per folder and process; safe to share between threads.
#[derive(Debug)]
pub struct Sandbox {
    parts: Mutex<Parts>,
}

/// What a tool works on.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) dir: PathBuf,
    pub(crate) production: EnvDb,
    pub(crate) staging: EnvDb,
    pub(crate) world: WorldStore,
    pub(crate) log: effects::EffectLog,
}

impl Parts {
    pub(crate) fn db(&self, environment: Environment) -> &EnvDb {
        match environment {
            Environment::Production => &self.production,
            Environment::Staging => &self.staging,
        }
    }

    /// Makes one effect, exactly once per key, and catches the side log up.
    pub(crate) fn execute(
        &mut self,
        environment: Environment,
        call: &effects::Call,
        work: impl FnOnce(&EnvDb, &mut WorldStore) -> Result<effects::Outcome>,
    ) -> Result<effects::Reply> {
        let Self { production, staging, world, log, .. } = self;
        let db = match environment {
            Environment::Production => &*production,
            Environment::Staging => &*staging,
        };
        let reply = effects::execute(db, world, call, work)?;
        log.catch_up([production, staging])?;
        Ok(reply)
    }
}

impl Sandbox {
    /// Opens the sandbox in `dir`; a new folder gets the history of the month.
    ///
    /// # Errors
    /// If the folder cannot be written, or holds something else than a sandbox.
    pub fn open(dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir).map_err(|e| SandboxError::storage(&format!("folder {}", dir.display()), e))?;
        // Two servers may start on a new folder at once, one for agents and one for the operator.
        let opening = File::create(dir.join("open.lock")).and_then(|file| file.lock().map(|()| file));
        let _opening = opening.map_err(|e| SandboxError::storage(&format!("lock in {}", dir.display()), e))?;
        let (production, staging) = (dir.join("production.db"), dir.join("staging.db"));
        if !production.exists() {
            // The marker that a folder is complete is production.db, so it comes last and whole.
            write_whole(&staging, template()?)?;
            write_whole(&production, template()?)?;
        }
        let mut parts = Parts {
            dir: dir.to_owned(),
            production: EnvDb::open(Environment::Production, &production)?,
            staging: EnvDb::open(Environment::Staging, &staging)?,
            world: WorldStore::open(&dir.join("world.db"))?,
            log: effects::EffectLog::at(dir),
        };
        forget_runs(&parts.staging, &parts.world.read()?)?;
        parts.log.catch_up([&parts.production, &parts.staging])?;
        Ok(Self { parts: Mutex::new(parts) })
    }

    /// Calls a tool of the agent or operator surface by name, as an MCP client would.
    ///
    /// # Errors
    /// Whatever the tool reports; a rerun whose run failed is an error with [`Code::RunFailed`] or [`Code::UpstreamTimeout`].
    pub fn call(&self, tool: &str, arguments: Value) -> Result<Value> {
        let mut tools = registry::agent_tools().iter().chain(operator::operator_tools());
        let found = tools.find(|t| t.name == tool);
        let spec = found.ok_or_else(|| SandboxError::not_found(format!("no tool {tool:?}")))?;
        let reply = (spec.run)(self, arguments, None)?;
        match reply.run_failed {
            Some(why) => Err(why),
            None => Ok(reply.value),
        }
    }

    pub(crate) fn with<T>(&self, f: impl FnOnce(&mut Parts) -> Result<T>) -> Result<T> {
        f(&mut lock(&self.parts))
    }
}

/// A database file with the schema and the history; built once per process, it costs a fraction of a second.
fn template() -> Result<&'static [u8]> {
    static TEMPLATE: OnceLock<std::result::Result<Vec<u8>, SandboxError>> = OnceLock::new();
    TEMPLATE.get_or_init(build_template).as_ref().map(Vec::as_slice).map_err(Clone::clone)
}

fn build_template() -> Result<Vec<u8>> {
    let db = EnvDb::in_memory(Environment::Production)?;
    let mut world = WorldStore::open(Path::new(":memory:"))?;
    db.conn.execute_batch("BEGIN")?;
    for day in 1..=HISTORY_LAST_DAY {
        let date = Date::new(2013, 1, day).map_err(|e| SandboxError::storage("calendar", e))?;
        faults::process_day(&db, &mut world, date)?;
    }
    db.conn.execute_batch("COMMIT")?;
    let file = std::env::temp_dir().join(format!("interlock-sandbox-{}.db", std::process::id()));
    let _ = std::fs::remove_file(&file);
    let name = file.to_string_lossy();
    db.conn.execute("VACUUM INTO ?1", [name.as_ref()])?;
    let bytes = std::fs::read(&file).map_err(|e| SandboxError::storage("building the warehouse", e))?;
    let _ = std::fs::remove_file(&file);
    Ok(bytes)
}

fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let partial = path.with_extension("partial");
    std::fs::write(&partial, bytes)
        .and_then(|()| std::fs::rename(&partial, path))
        .map_err(|e| SandboxError::storage(&format!("file {}", path.display()), e))
}

/// The staging file starts as a copy of production; its runs are not its own.
fn forget_runs(staging: &EnvDb, world: &World) -> Result<()> {
    if world.injections.is_empty() {
        staging.conn.execute_batch(
            "DELETE FROM ops_tasks WHERE run_id NOT LIKE '%-s%'; DELETE FROM ops_log WHERE run_id NOT LIKE '%-s%'; \
             DELETE FROM ops_runs WHERE run_id NOT LIKE '%-s%'",
        )?;
    }
    Ok(())
}

/// A date argument.
pub(crate) fn parse_date(text: &str) -> Result<Date> {
    text.parse().map_err(|_| SandboxError::invalid(format!("{text:?} is not a date; write it as 2013-01-24")))
}
