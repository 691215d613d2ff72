//! The audit chain: every decision, each bound to the one before it.

use std::fmt::Write;

use runtime::ports::store::{AuditRecord, StoreError};
use runtime_core::ids::ThreadId;
use runtime_core::record::{Op, Record};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::codec;
use super::layout::{Kind, number_key};
use crate::envelope::Sealer;
use crate::kv::{Reader, Txn};

/// Deepest nesting of an entry's detail that is hashed part by part; deeper parts are hashed as text.
const DEPTH_MAX: usize = 64;
const HEAD: u64 = 0;
/// What the first link follows.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The last link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ChainHead {
    pub(super) seq: u64,
    pub(super) hash: String,
}

impl Default for ChainHead {
    fn default() -> Self {
        Self { seq: 0, hash: GENESIS.to_owned() }
    }
}

impl ChainHead {
    pub(super) fn read(view: &dyn Reader, sealer: &Sealer) -> Result<Self, StoreError> {
        let key = number_key(Kind::AuditHead, HEAD);
        let stored = view.get(&key)?.map(|stored| codec::open(sealer, &key, &stored)).transpose()?;
        Ok(stored.unwrap_or_default())
    }
}

/// Adds a record's decisions to the chain, in the same transaction.
pub(super) fn append(txn: &mut Txn<'_>, sealer: &Sealer, thread: &ThreadId, record: Record) -> Result<(), StoreError> {
    let Record { at, run, ops, .. } = record;
    let mut entries = ops
        .into_iter()
        .filter_map(|op| match op {
            Op::Audited(entry) => Some(*entry),
            _ => None,
        })
        .peekable();
    if entries.peek().is_none() {
        return Ok(());
    }
    let mut head = ChainHead::read(txn, sealer)?;
    for entry in entries {
        let mut link = AuditRecord {
            seq: head.seq + 1,
            at,
            thread: thread.clone(),
            run,
            entry,
            previous: head.hash,
            hash: String::new(),
        };
        link.hash = hash_of(&link);
        head = ChainHead { seq: link.seq, hash: link.hash.clone() };
        let key = number_key(Kind::Audit, link.seq);
        txn.put(key.clone(), codec::seal_as_it_is(sealer, &key, &link)?);
    }
    let key = number_key(Kind::AuditHead, HEAD);
    txn.put(key.clone(), codec::seal(sealer, &key, &head)?);
    Ok(())
}

/// SHA-256 of the previous hash and of every field, each with its length, so that no two records read alike.
pub fn hash_of(link: &AuditRecord) -> String {
    let entry = &link.entry;
    let mut detail = String::new();
    canonical(&entry.detail, 0, &mut detail);
    let fields: [&str; 10] = [
        &link.previous,
        &link.seq.to_string(),
        &link.at.0.to_string(),
        link.thread.as_str(),
        &link.run.map_or_else(String::new, |run| run.to_string()),
        &entry.actor,
        &entry.action,
        &entry.node,
        &entry.task.map_or_else(String::new, |task| task.to_string()),
        &detail,
    ];
    let mut hasher = Sha256::new();
    for field in fields {
        hasher.update((field.len() as u64).to_be_bytes());
        hasher.update(field.as_bytes());
    }
    hex::encode(hasher.finalize())
}

/// JSON with sorted keys: the hash must not depend on how a build orders its maps.
fn canonical(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::Object(map) if depth < DEPTH_MAX => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort_unstable();
            out.push('{');
            for key in keys {
                quoted(key, out);
                out.push(':');
                canonical(&map[key], depth + 1, out);
                out.push(',');
            }
            out.push('}');
        }
        Value::Array(items) if depth < DEPTH_MAX => {
            out.push('[');
            for item in items {
                canonical(item, depth + 1, out);
                out.push(',');
            }
            out.push(']');
        }
        Value::String(text) => quoted(text, out),
        other => {
            let _infallible = write!(out, "{other}");
        }
    }
}

/// A JSON string.
fn quoted(text: &str, out: &mut String) {
    // What JSON escapes is rare, and finding out that nothing does is cheap.
    if text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
        out.extend(["\"", text, "\""]);
    } else {
        out.push_str(&serde_json::to_string(text).unwrap_or_default());
    }
}
