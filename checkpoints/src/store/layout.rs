//! Where things lie in the ordered map. A key starts with one letter for its kind; thread ids end with a zero byte, which
//! no id contains, so that one thread's keys never begin with another's.

use runtime_core::ids::{InterruptId, Seq, ThreadId, Timestamp};
use sha2::{Digest, Sha256};

use crate::kv::KeyRange;

/// Kinds of keys. The letters are part of the stored format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// Head of a thread: epoch, place, sizes.
    Head = b'h',
    /// One record of a thread.
    Record = b'r',
    /// A thread's row in lists.
    Thread = b't',
    /// Open interrupts of a thread, in the order of their opening.
    Interrupt = b'i',
    /// Interrupt id to thread.
    InterruptPlace = b'j',
    /// Timers of all threads by time.
    Due = b'm',
    /// Timers of a thread by key.
    Timer = b'n',
    /// The audit chain.
    Audit = b'a',
    /// Head of the audit chain.
    AuditHead = b'b',
    /// Graph sources by digest.
    Graph = b'g',
    /// The node cache.
    Cache = b'c',
    /// Ledger accounts.
    Account = b'l',
    /// Reservations in accounts.
    Reservation = b'o',
    /// Small documents.
    Document = b'd',
}

/// Every kind, for walks over the whole store.
pub(super) const KINDS: [Kind; 14] = [
    Kind::Head,
    Kind::Record,
    Kind::Thread,
    Kind::Interrupt,
    Kind::InterruptPlace,
    Kind::Due,
    Kind::Timer,
    Kind::Audit,
    Kind::AuditHead,
    Kind::Graph,
    Kind::Cache,
    Kind::Account,
    Kind::Reservation,
    Kind::Document,
];

/// Kinds whose keys begin with a thread id.
pub(super) const THREAD_KINDS: [Kind; 5] = [Kind::Head, Kind::Record, Kind::Thread, Kind::Interrupt, Kind::Timer];

const END: u8 = 0;
const HASH_LEN: usize = 16;

/// All keys of a kind.
pub(super) fn all(kind: Kind) -> KeyRange {
    KeyRange::prefix(&[kind as u8])
}

/// All keys of a kind and a thread.
pub(super) fn of_thread(kind: Kind, thread: &ThreadId) -> KeyRange {
    KeyRange::prefix(&thread_key(kind, thread))
}

/// The key of a kind with one entry per thread, and the prefix of the others.
pub(super) fn thread_key(kind: Kind, thread: &ThreadId) -> Vec<u8> {
    let mut key = Vec::with_capacity(thread.as_str().len() + 34);
    key.push(kind as u8);
    key.extend_from_slice(thread.as_str().as_bytes());
    key.push(END);
    key
}

pub(super) fn record_key(thread: &ThreadId, seq: Seq) -> Vec<u8> {
    let mut key = thread_key(Kind::Record, thread);
    key.extend(seq.0.to_be_bytes());
    key
}

/// Records of a thread from `from` on.
pub(super) fn records_from(thread: &ThreadId, from: Seq) -> KeyRange {
    KeyRange { start: record_key(thread, from), ..of_thread(Kind::Record, thread) }
}

/// Records of a thread before `end`.
pub(super) fn records_before(thread: &ThreadId, end: Seq) -> KeyRange {
    KeyRange { end: Some(record_key(thread, end)), ..of_thread(Kind::Record, thread) }
}

pub(super) fn interrupt_key(thread: &ThreadId, opened_at: Timestamp, id: InterruptId) -> Vec<u8> {
    let mut key = thread_key(Kind::Interrupt, thread);
    key.extend(ordered(opened_at));
    key.extend(id.0.to_be_bytes());
    key
}

pub(super) fn interrupt_places(id: InterruptId) -> KeyRange {
    KeyRange::prefix(&[&[Kind::InterruptPlace as u8], &id.0.to_be_bytes()[..]].concat())
}

pub(super) fn interrupt_place_key(id: InterruptId, thread: &ThreadId) -> Vec<u8> {
    [&[Kind::InterruptPlace as u8], &id.0.to_be_bytes()[..], thread.as_str().as_bytes()].concat()
}

pub(super) fn timer_key(thread: &ThreadId, encoded: &[u8]) -> Vec<u8> {
    let mut key = thread_key(Kind::Timer, thread);
    key.extend_from_slice(encoded);
    key
}

pub(super) fn due_key(at: Timestamp, thread: &ThreadId, encoded: &[u8]) -> Vec<u8> {
    let mut key = vec![Kind::Due as u8];
    key.extend(ordered(at));
    key.extend_from_slice(thread.as_str().as_bytes());
    key.push(END);
    key.extend_from_slice(encoded);
    key
}

/// Timers due at or before `until`.
pub(super) fn due_until(until: Timestamp) -> KeyRange {
    let end = until.0.checked_add(1).map(|after| [&[Kind::Due as u8], &ordered(Timestamp(after))[..]].concat());
    KeyRange { start: vec![Kind::Due as u8], end: end.or_else(|| all(Kind::Due).end) }
}

pub(super) fn number_key(kind: Kind, number: u64) -> Vec<u8> {
    [&[kind as u8], &number.to_be_bytes()[..]].concat()
}

/// The key of something whose name may be long or hold any character.
pub(super) fn named_key(kind: Kind, names: &[&str]) -> Vec<u8> {
    let mut key = vec![kind as u8];
    for name in names {
        key.extend_from_slice(&Sha256::digest(name.as_bytes())[..HASH_LEN]);
    }
    key
}

/// The thread id in a key of one of `THREAD_KINDS`.
pub(super) fn thread_of(key: &[u8]) -> Option<ThreadId> {
    let rest = key.get(1..)?;
    let end = rest.iter().position(|b| *b == END)?;
    ThreadId::new(std::str::from_utf8(rest.get(..end)?).ok()?).ok()
}

/// The place at the end of a record's key.
pub(super) fn seq_of(key: &[u8]) -> Option<Seq> {
    key.last_chunk::<8>().map(|bytes| Seq(u64::from_be_bytes(*bytes)))
}

/// Bytes whose order is the order of time, also before 1970.
fn ordered(at: Timestamp) -> [u8; 8] {
    (at.0 as u64 ^ (1 << 63)).to_be_bytes()
}
