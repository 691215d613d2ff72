//! Things stored by name: graph sources, cached values, small documents. The name is in the value too, so that two names
//! can never be taken for each other.

use std::sync::Arc;

use runtime::ports::store::StoreError;
use runtime_core::ids::Timestamp;
use serde_json::Value;

use super::codec;
use super::layout::{Kind, named_key};
use crate::envelope::Sealer;
use crate::kv::{Reader, Txn};

type Cached = (String, Option<Timestamp>, Arc<Value>);

pub(super) fn put_graph(
    txn: &mut Txn<'_>,
    sealer: &Sealer,
    digest: &str,
    name: &str,
    source: &str,
) -> Result<(), StoreError> {
    let key = named_key(Kind::Graph, &[digest]);
    if txn.get(&key)?.is_some() {
        return Ok(());
    }
    let stored = codec::seal(sealer, &key, &(digest, name, source))?;
    txn.put(key, stored);
    Ok(())
}

pub(super) fn graph(view: &dyn Reader, sealer: &Sealer, digest: &str) -> Result<Option<(String, String)>, StoreError> {
    let key = named_key(Kind::Graph, &[digest]);
    let Some(stored) = view.get(&key)? else { return Ok(None) };
    let (found, name, source): (String, String, String) = codec::open(sealer, &key, &stored)?;
    if found == digest { Ok(Some((name, source))) } else { Err(codec::corrupt(&key, format!("it is graph {found}"))) }
}

pub(super) fn put_cached(
    txn: &mut Txn<'_>,
    sealer: &Sealer,
    name: &str,
    value: &Arc<Value>,
    expires: Option<Timestamp>,
) -> Result<(), StoreError> {
    let key = named_key(Kind::Cache, &[name]);
    let stored = codec::seal(sealer, &key, &(name, expires, value))?;
    txn.put(key, stored);
    Ok(())
}

/// The cached value, or why there is none.
pub(super) enum Found {
    Fresh(Arc<Value>),
    Expired(Vec<u8>),
    Nothing,
}

pub(super) fn cached(view: &dyn Reader, sealer: &Sealer, name: &str, now: Timestamp) -> Result<Found, StoreError> {
    let key = named_key(Kind::Cache, &[name]);
    let Some(stored) = view.get(&key)? else { return Ok(Found::Nothing) };
    let (found, expires, value): Cached = codec::open(sealer, &key, &stored)?;
    if found != name {
        return Ok(Found::Nothing);
    }
    if expires.is_some_and(|at| at <= now) { Ok(Found::Expired(key)) } else { Ok(Found::Fresh(value)) }
}

pub(super) fn document(view: &dyn Reader, sealer: &Sealer, name: &str) -> Result<Option<Value>, StoreError> {
    let key = named_key(Kind::Document, &[name]);
    let Some(stored) = view.get(&key)? else { return Ok(None) };
    let (found, value): (String, Value) = codec::open(sealer, &key, &stored)?;
    if found == name { Ok(Some(value)) } else { Err(codec::corrupt(&key, format!("it is document {found}"))) }
}

/// Writes `new` if the document is as expected.
pub(super) fn swap(
    txn: &mut Txn<'_>,
    sealer: &Sealer,
    name: &str,
    expected: Option<&Value>,
    new: &Value,
) -> Result<bool, StoreError> {
    if document(txn, sealer, name)?.as_ref() != expected {
        return Ok(false);
    }
    let key = named_key(Kind::Document, &[name]);
    let stored = codec::seal(sealer, &key, &(name, new))?;
    txn.put(key, stored);
    Ok(true)
}
