//! Stored values: serde types as MessagePack in an envelope, and errors that name the thread and the record.

use runtime::ports::store::StoreError;
use runtime_core::ids::{Seq, ThreadId};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::layout;
use crate::envelope::Sealer;
use crate::kv::KvError;

impl From<KvError> for StoreError {
    fn from(e: KvError) -> Self {
        match e {
            KvError::Closed { cause } => Self::Closed(cause),
            KvError::Held { path, holder } => Self::Held { path: path.display().to_string(), holder },
            other => Self::Io(other.to_string()),
        }
    }
}

/// Room that most bodies fit into, so that encoding seldom moves what it has written.
const BODY_BYTES_USUAL: usize = 2048;

/// The body of a value, before it is sealed.
pub(super) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, StoreError> {
    let mut body = Vec::with_capacity(BODY_BYTES_USUAL);
    let written = rmp_serde::encode::write(&mut body, value);
    written.map_err(|e| StoreError::Io(format!("a value could not be encoded: {e}")))?;
    Ok(body)
}

/// The stored form of `value` under `key`.
pub(super) fn seal<T: Serialize>(sealer: &Sealer, key: &[u8], value: &T) -> Result<Vec<u8>, StoreError> {
    Ok(sealer.seal(key, &encode(value)?))
}

/// As [`seal`], not packed: of values that are mostly digests little can be saved, and the one writer's time is dear.
pub(super) fn seal_as_it_is<T: Serialize>(sealer: &Sealer, key: &[u8], value: &T) -> Result<Vec<u8>, StoreError> {
    Ok(sealer.seal_as_it_is(key, &encode(value)?))
}

/// The value stored under `key`.
pub(super) fn open<T: DeserializeOwned>(sealer: &Sealer, key: &[u8], stored: &[u8]) -> Result<T, StoreError> {
    let body = sealer.open(key, stored).map_err(|e| corrupt(key, e.to_string()))?;
    decode(&body).map_err(|e| corrupt(key, e))
}

/// Deepest nesting of a stored value. Reading recurses, and a thread's stack is small; JSON input is held to half of this.
const DEPTH_MAX: usize = 256;

/// The value of a body.
pub(crate) fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    let mut reader = rmp_serde::Deserializer::from_read_ref(body);
    reader.set_max_depth(DEPTH_MAX);
    T::deserialize(&mut reader).map_err(|e| format!("its content is unreadable: {e}"))
}

/// The error for a damaged entry; names the thread and the record where the key has them.
pub(super) fn corrupt(key: &[u8], why: String) -> StoreError {
    let is_record = key.first() == Some(&(layout::Kind::Record as u8));
    let has_thread = key.first().is_some_and(|k| layout::THREAD_KINDS.iter().any(|kind| *kind as u8 == *k));
    let thread = if has_thread { layout::thread_of(key) } else { None };
    let seq = if is_record { layout::seq_of(key) } else { None };
    let place = if is_record { String::new() } else { format!("entry {}: ", hex::encode(key)) };
    StoreError::Corrupt {
        thread: thread.map_or_else(|| "-".to_owned(), |t| t.to_string()),
        seq: seq.unwrap_or_default(),
        why: format!("{place}{why}"),
    }
}

/// The error for a thread whose parts do not fit each other.
pub(super) fn mismatch(thread: &ThreadId, seq: Seq, why: impl Into<String>) -> StoreError {
    StoreError::Corrupt { thread: thread.to_string(), seq, why: why.into() }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Held(#[serde(with = "graphs::hex_form")] String);

    #[test]
    fn stored_digests_are_raw_bytes_and_other_strings_stay() {
        for (digits, len) in [("ab".repeat(32), 34), ("AB".repeat(32), 66), ("ab".repeat(31), 64), (String::new(), 1)] {
            let held = Held(digits);
            let body = encode(&held).unwrap();
            assert_eq!(body.len(), len, "{held:?}");
            assert_eq!(decode::<Held>(&body), Ok(held));
        }
    }
}
