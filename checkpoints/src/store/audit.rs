//! The audit chain: every decision, each bound to the one before it.

use std::fmt::Write;

use graphs::hex_form::digits;
use runtime::ports::store::{AuditRecord, StoreError};
use runtime_core::ids::{RunId, ThreadId, Timestamp};
use runtime_core::record::{AuditEntry, Op, Record};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::codec;
use super::layout::{Kind, number_key};
use crate::envelope::Sealer;
use crate::kv::{Reader, Txn};

/// Deepest nesting of an entry's detail that is hashed part by part; deeper parts are hashed as text.
const DEPTH_MAX: usize = 64;
/// Room that most details, and the other fields of a link, fit into.
const DETAIL_BYTES_USUAL: usize = 768;
/// The same for the place of a link in the chain.
const PLACE_BYTES_USUAL: usize = 128;
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

/// A decision that is not yet in the chain: what of its link does not depend on its place there.
pub(super) struct Loose {
    entry: AuditEntry,
    rest: Vec<u8>,
}

/// The decisions among a record's ops, taken out. The caller of a commit does this, so that the one writer only chains.
pub(super) fn take(thread: &ThreadId, record: &mut Record) -> Vec<Loose> {
    let (at, run) = (record.at, record.run);
    let audited = record.ops.extract_if(.., |op| matches!(op, Op::Audited(_)));
    let entries = audited.filter_map(|op| match op {
        Op::Audited(entry) => Some(*entry),
        _ => None,
    });
    entries.map(|entry| Loose { rest: rest_of((at, thread, run), &entry), entry }).collect()
}

/// Adds a record's decisions to the chain, in the same transaction.
pub(super) fn append(
    txn: &mut Txn<'_>,
    sealer: &Sealer,
    (at, thread, run): (Timestamp, &ThreadId, Option<RunId>),
    loose: Vec<Loose>,
) -> Result<(), StoreError> {
    if loose.is_empty() {
        return Ok(());
    }
    let mut head = ChainHead::read(txn, sealer)?;
    for Loose { entry, rest } in loose {
        let (seq, previous) = (head.seq + 1, head.hash);
        let hash = chained(&previous, seq, &rest);
        let link = AuditRecord { seq, at, thread: thread.clone(), run, entry, previous, hash };
        let key = number_key(Kind::Audit, seq);
        txn.put(key.clone(), codec::seal_as_it_is(sealer, &key, &link)?);
        head = ChainHead { seq, hash: link.hash };
    }
    let key = number_key(Kind::AuditHead, HEAD);
    txn.put(key.clone(), codec::seal_as_it_is(sealer, &key, &head)?);
    Ok(())
}

/// SHA-256 of the previous hash and of every field, each with its length, so that no two records read alike.
pub fn hash_of(link: &AuditRecord) -> String {
    chained(&link.previous, link.seq, &rest_of((link.at, &link.thread, link.run), &link.entry))
}

fn chained(previous: &str, seq: u64, rest: &[u8]) -> String {
    let mut start = Vec::with_capacity(PLACE_BYTES_USUAL);
    field(previous, &mut start);
    field(&seq.to_string(), &mut start);
    digits(Sha256::new().chain_update(start).chain_update(rest).finalize())
}

/// What is hashed of a link after its place in the chain.
fn rest_of((at, thread, run): (Timestamp, &ThreadId, Option<RunId>), entry: &AuditEntry) -> Vec<u8> {
    let mut detail = String::with_capacity(DETAIL_BYTES_USUAL);
    canonical(&entry.detail, 0, &mut detail);
    let mut rest = Vec::with_capacity(detail.len() + DETAIL_BYTES_USUAL);
    field(&at.0.to_string(), &mut rest);
    field(thread.as_str(), &mut rest);
    field(&run.map_or_else(String::new, |run| run.to_string()), &mut rest);
    field(&entry.actor, &mut rest);
    field(&entry.action, &mut rest);
    field(&entry.node, &mut rest);
    field(&entry.task.map_or_else(String::new, |task| task.to_string()), &mut rest);
    field(&detail, &mut rest);
    rest
}

fn field(text: &str, out: &mut Vec<u8>) {
    out.extend((text.len() as u64).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// JSON with sorted keys: the hash must not depend on how a build orders its maps.
fn canonical(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::Object(map) if depth < DEPTH_MAX => {
            let mut fields: Vec<(&String, &Value)> = map.iter().collect();
            fields.sort_unstable_by_key(|(key, _)| *key);
            out.push('{');
            for (key, field) in fields {
                quoted(key, out);
                out.push(':');
                canonical(field, depth + 1, out);
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
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&serde_json::to_string(text).unwrap_or_default());
    }
}
