//! Identifiers as types: a thread can never be passed where a task is meant.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Longest accepted thread id in bytes.
pub const THREAD_ID_MAX: usize = 128;

/// A short shared name: node, channel, graph, signal.
pub type Name = Arc<str>;

/// Namespace of a frame: empty for the root, `node:task` segments joined by `|` below it.
pub type Ns = Arc<str>;

/// Why a text is not a valid identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a valid {what}: {why}")]
pub struct IdError {
    what: &'static str,
    text: String,
    why: &'static str,
}

/// One durable execution of a graph. Any printable text of 1 to 128 bytes without `/` or `\`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ThreadId(Arc<str>);

impl ThreadId {
    /// Checks and wraps `text`.
    pub fn new(text: &str) -> Result<Self, IdError> {
        let why = if text.is_empty() {
            "it is empty"
        } else if text.len() > THREAD_ID_MAX {
            "it is longer than 128 bytes"
        } else if text.chars().any(|c| c.is_control() || c == '/' || c == '\\') {
            "it has a control character, `/` or `\\`"
        } else {
            return Ok(Self(text.into()));
        };
        Err(IdError { what: "thread id", text: text.chars().take(THREAD_ID_MAX).collect(), why })
    }

    /// The text of the id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ThreadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for ThreadId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ThreadId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text).map_err(de::Error::custom)
    }
}

struct BytesVisitor;

impl<'de> de::Visitor<'de> for BytesVisitor {
    type Value = [u8; 16];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("16 bytes")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<[u8; 16], E> {
        bytes.try_into().map_err(|_| E::invalid_length(bytes.len(), &self))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<[u8; 16], A::Error> {
        let mut out = [0; 16];
        for (i, byte) in out.iter_mut().enumerate() {
            *byte = seq.next_element()?.ok_or_else(|| de::Error::invalid_length(i, &self))?;
        }
        Ok(out)
    }
}

fn hex_digits(text: &str) -> Option<u128> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    if digits.len() != 32 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(&digits, 16).ok()
}

macro_rules! id128 {
    ($(#[$doc:meta])* $name:ident, $what:literal, $display:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u128);

        impl $name {
            /// Reads 32 hex digits, with or without dashes.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                let why = "it needs 32 hex digits";
                hex_digits(text).map(Self).ok_or_else(|| IdError {
                    what: $what,
                    text: text.chars().take(THREAD_ID_MAX).collect(),
                    why,
                })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let show: fn(u128, &mut fmt::Formatter<'_>) -> fmt::Result = $display;
                show(self.0, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    serializer.serialize_bytes(&self.0.to_be_bytes())
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    let text = String::deserialize(deserializer)?;
                    Self::parse(&text).map_err(de::Error::custom)
                } else {
                    deserializer.deserialize_bytes(BytesVisitor).map(|b| Self(u128::from_be_bytes(b)))
                }
            }
        }
    };
}

fn show_uuid(id: u128, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (a, b, c) = (id >> 96, (id >> 80) & 0xffff, (id >> 64) & 0xffff);
    write!(f, "{a:08x}-{b:04x}-{c:04x}-{:04x}-{:012x}", (id >> 48) & 0xffff, id & 0xffff_ffff_ffff)
}

fn show_hex(id: u128, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{id:032x}")
}

id128!(
    /// One request to advance a thread; a UUID (version 7).
    RunId, "run id", show_uuid);
id128!(
    /// A state of a thread after a superstep; a UUID (version 7) whose order is the order of creation.
    CheckpointId, "checkpoint id", show_uuid);
id128!(
    /// One node execution in one superstep; a hash of checkpoint, namespace, node and place in the plan.
    TaskId, "task id", show_hex);
id128!(
    /// One durable question; a hash of task, call and payload.
    InterruptId, "interrupt id", show_hex);

/// Place of a record in its thread's log; the first is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Seq(pub u64);

impl Seq {
    /// The one after this.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Ownership generation of a thread: rises each time a writer claims the thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The one after this.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Place of a call in the order in which its task asked for calls; the first is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CallIx(pub u32);

/// A moment in microseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// This moment plus `span`, saturating.
    pub fn plus(self, span: std::time::Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(span.as_micros()).unwrap_or(i64::MAX)))
    }

    /// Time from `earlier` to this moment; zero when the clock went back.
    pub fn since(self, earlier: Self) -> std::time::Duration {
        std::time::Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Reads an RFC 3339 time.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>().ok().map(|t| Self(t.as_microsecond()))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(time) => write!(f, "{}", time.strftime("%Y-%m-%dT%H:%M:%S.%6f+00:00")),
            Err(_) => write!(f, "{}us", self.0),
        }
    }
}

/// Mints checkpoint and run ids: time-ordered, unique per thread, without a source of chance.
pub(crate) fn ordered_id(now: Timestamp, salt: &[u8], counter: u64) -> u128 {
    let ms = u128::try_from(now.0.max(0) / 1000).unwrap_or(0) & 0xffff_ffff_ffff;
    let hash = xxhash_rust::xxh3::xxh3_64_with_seed(salt, counter);
    // 32 bits of the counter keep the order within a millisecond: 12 beside the version, 20 beside the variant.
    let (high, low) = (u128::from((counter >> 20) & 0xfff), u128::from(counter & 0xf_ffff));
    (ms << 80) | (0x7 << 76) | (high << 64) | (0b10 << 62) | (low << 42) | u128::from(hash >> 22)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_print_and_parse_back() {
        let id = RunId(ordered_id(Timestamp(1_700_000_000_000_000), b"t", 3));
        assert_eq!(RunId::parse(&id.to_string()), Ok(id));
        assert_eq!(id.to_string().as_bytes()[14], b'7', "the version nibble of a UUID v7");
        assert!(TaskId::parse("xyz").is_err());
        assert_eq!(serde_json::to_string(&TaskId(1)).unwrap(), format!("\"{:032x}\"", 1));
    }

    #[test]
    fn ids_of_one_thread_sort_by_creation() {
        let ids: Vec<u128> = (0..10_000).map(|n| ordered_id(Timestamp(5_000_000), b"t", n * 37)).collect();
        assert!(ids.windows(2).all(|w| w[0] < w[1]));
    }

    #[test]
    fn a_thread_id_is_short_printable_text() {
        assert!(ThreadId::new("incident-42").is_ok());
        for bad in ["", "a/b", "a\nb", &"x".repeat(200)] {
            assert!(ThreadId::new(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn times_print_like_the_wire_protocol() {
        assert_eq!(Timestamp(1_767_225_600_123_456).to_string(), "2026-01-01T00:00:00.123456+00:00");
        assert_eq!(Timestamp::parse("2026-01-01T00:00:00.123456Z"), Some(Timestamp(1_767_225_600_123_456)));
    }
}
