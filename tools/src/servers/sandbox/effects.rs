//! Exactly-once, made visible: the books of executed effects and the file that outside tests count.
//!
//! An effect, its idempotency key and its result become true in one transaction of the environment's database. The file
//! `effects.jsonl` is a projection of those books, caught up under a file lock after each commit and when a sandbox is
//! opened, so that a kill between commit and append loses no line and repeats none.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rusqlite::{OptionalExtension, params};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Environment;
use super::db::EnvDb;
use super::error::{Code, Result, SandboxError};
use super::world::WorldStore;

/// Longest idempotency key.
pub const KEY_BYTES_MAX: usize = 256;
/// Largest side log that is read back.
const LOG_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// One executed effect, as a line of `effects.jsonl`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Effect {
    /// Environment whose books hold it.
    pub environment: Environment,
    /// Number within the environment, without gaps.
    pub seq: i64,
    /// Tool that was called.
    pub tool: String,
    /// Its arguments.
    pub arguments: Value,
    /// The caller's key, if it gave one.
    pub idempotency_key: Option<String>,
    /// `done`, or `run_failed` for a pipeline run that was made and failed.
    pub outcome: String,
    /// When, in real time.
    pub time: String,
}

/// A call that changes something.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) tool: &'static str,
    pub(crate) arguments: Value,
    pub(crate) key: Option<String>,
}

/// What the work of a call came to.
pub(crate) enum Outcome {
    /// It is done; the key is used up.
    Done(Value),
    /// A run was made and failed. The effect counts, the key stays free so that a retry is a new run.
    RunFailed(Value, SandboxError),
}

/// What a caller gets.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) value: Value,
    /// The stored result of an earlier call with the same key.
    pub(crate) replayed: bool,
    /// Why the run failed, if the call started one that did.
    pub(crate) run_failed: Option<SandboxError>,
}

/// Makes the effect of `call` in one transaction, or returns the stored result of its key.
pub(crate) fn execute(
    db: &EnvDb,
    world: &mut WorldStore,
    call: &Call,
    work: impl FnOnce(&EnvDb, &mut WorldStore) -> Result<Outcome>,
) -> Result<Reply> {
    if call.key.as_ref().is_some_and(|k| k.is_empty() || k.len() > KEY_BYTES_MAX) {
        return Err(SandboxError::invalid(format!("idempotency_key must have 1 to {KEY_BYTES_MAX} bytes")));
    }
    db.conn.execute_batch("BEGIN IMMEDIATE")?;
    let answer = in_transaction(db, world, call, work);
    let end = if answer.as_ref().is_ok_and(|reply| !reply.replayed) { "COMMIT" } else { "ROLLBACK" };
    db.conn.execute_batch(end).map_err(|e| SandboxError::storage("ending the transaction", e))?;
    answer
}

fn in_transaction(
    db: &EnvDb,
    world: &mut WorldStore,
    call: &Call,
    work: impl FnOnce(&EnvDb, &mut WorldStore) -> Result<Outcome>,
) -> Result<Reply> {
    let arguments = call.arguments.to_string();
    if let Some(stored) =
        call.key.as_deref().map(|key| stored_result(db, key, call.tool, &arguments)).transpose()?.flatten()
    {
        return Ok(Reply { value: stored, replayed: true, run_failed: None });
    }
    let (value, run_failed) = match work(db, world)? {
        Outcome::Done(value) => (value, None),
        Outcome::RunFailed(value, why) => (value, Some(why)),
    };
    let outcome = if run_failed.is_some() { "run_failed" } else { "done" };
    db.conn.execute(
        "INSERT INTO _effects (tool, arguments, idempotency_key, outcome, time) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![call.tool, arguments, call.key, outcome, jiff::Timestamp::now().to_string()],
    )?;
    if let (Some(key), None) = (&call.key, &run_failed) {
        db.conn.execute(
            "INSERT INTO _idempotency VALUES (?1, ?2, ?3, ?4, ?5)",
            params![key, call.tool, arguments, value.to_string(), db.conn.last_insert_rowid()],
        )?;
    }
    Ok(Reply { value, replayed: false, run_failed })
}

fn stored_result(db: &EnvDb, key: &str, tool: &str, arguments: &str) -> Result<Option<Value>> {
    let row: Option<(String, String, String)> = db
        .conn
        .query_row("SELECT tool, arguments, result FROM _idempotency WHERE key = ?1", [key], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    let Some((stored_tool, stored_arguments, result)) = row else { return Ok(None) };
    if stored_tool != tool || stored_arguments != arguments {
        return Err(SandboxError::new(
            Code::Conflict,
            format!(
                "idempotency key {key:?} was used for another call: {stored_tool} {stored_arguments}; use a new key"
            ),
        ));
    }
    serde_json::from_str(&result).map(Some).map_err(|e| SandboxError::storage("stored result of a key", e))
}

/// Effects of one environment with a number above `after`, in order.
pub(crate) fn effects_after(db: &EnvDb, after: i64) -> Result<Vec<Effect>> {
    let mut stmt = db.conn.prepare(
        "SELECT seq, tool, arguments, idempotency_key, outcome, time FROM _effects WHERE seq > ?1 ORDER BY seq",
    )?;
    let rows = stmt.query_map([after], |row| {
        Ok(Effect {
            environment: db.environment,
            seq: row.get(0)?,
            tool: row.get(1)?,
            arguments: serde_json::from_str(&row.get::<_, String>(2)?).unwrap_or_default(),
            idempotency_key: row.get(3)?,
            outcome: row.get(4)?,
            time: row.get(5)?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The file `effects.jsonl`.
#[derive(Debug)]
pub(crate) struct EffectLog {
    path: PathBuf,
    seen: BTreeMap<Environment, i64>,
    seen_bytes: u64,
}

impl EffectLog {
    pub(crate) fn at(dir: &Path) -> Self {
        Self { path: dir.join("effects.jsonl"), seen: BTreeMap::new(), seen_bytes: 0 }
    }

    /// Appends what the books have and the file has not, and syncs it.
    pub(crate) fn catch_up(&mut self, dbs: [&EnvDb; 2]) -> Result<()> {
        self.append_missing(dbs).map_err(|e| SandboxError::storage("side log effects.jsonl", e))
    }

    fn append_missing(&mut self, dbs: [&EnvDb; 2]) -> std::io::Result<()> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&self.path)?;
        file.lock()?;
        if file.metadata()?.len() != self.seen_bytes {
            self.read_back(&mut file)?;
        }
        let mut text = String::new();
        for db in dbs {
            let after = self.seen.get(&db.environment).copied().unwrap_or(0);
            for effect in effects_after(db, after).map_err(std::io::Error::other)? {
                text.push_str(&serde_json::to_string(&effect)?);
                text.push('\n');
                self.seen.insert(db.environment, effect.seq);
            }
        }
        if !text.is_empty() {
            file.seek(SeekFrom::Start(self.seen_bytes))?;
            file.write_all(text.as_bytes())?;
            file.sync_data()?;
            self.seen_bytes = file.metadata()?.len();
        }
        Ok(())
    }

    /// Finds the last number of each environment; a line that a crash tore off is cut, its effect is appended anew.
    fn read_back(&mut self, file: &mut File) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(0))?;
        file.take(LOG_BYTES_MAX).read_to_end(&mut bytes)?;
        let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
        bytes.truncate(whole);
        self.seen.clear();
        for line in bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            let effect: Effect = serde_json::from_slice(line)?;
            self.seen.insert(effect.environment, effect.seq);
        }
        self.seen_bytes = u64::try_from(whole).unwrap_or(u64::MAX);
        file.set_len(self.seen_bytes)
    }

    /// Empties the file; the books were emptied just before.
    pub(crate) fn clear(&mut self) -> Result<()> {
        self.seen.clear();
        self.seen_bytes = 0;
        File::create(&self.path)
            .and_then(|f| f.sync_data())
            .map_err(|e| SandboxError::storage("side log effects.jsonl", e))
    }
}
