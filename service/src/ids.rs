//! Identifiers as people type them: short endings for what is long, times as ages.

use std::time::Duration;

use runtime::ports::store::{PAGE_MAX, Store, ThreadFilter};
use runtime_core::ids::{ThreadId, Timestamp};

use crate::failure::Failure;

/// Characters of an id that are shown to people; any unique ending is accepted back.
const SHORT_CHARS: usize = 8;
/// Characters of a generated thread id after the graph's name.
const SUFFIX_CHARS: usize = 8;
/// Bytes of a graph's name used in a thread id.
const STEM_BYTES_MAX: usize = 60;
/// Letters and digits that are hard to mistake for each other.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// The last characters of an id.
pub(crate) fn short(id: impl std::fmt::Display) -> String {
    let text = id.to_string();
    let start = text.char_indices().rev().nth(SHORT_CHARS - 1).map_or(0, |(at, _)| at);
    text[start..].to_owned()
}

/// The first characters of a digest.
pub(crate) fn short_digest(digest: &str) -> String {
    digest.chars().take(SHORT_CHARS).collect()
}

/// The one of `ids` that is `text` or ends in it.
pub(crate) fn pick<T: Copy + std::fmt::Display>(what: &str, text: &str, ids: &[T]) -> Result<T, Failure> {
    let wanted: String = text.to_lowercase();
    let bare = |id: &str| id.replace('-', "");
    let exact = ids.iter().find(|id| bare(&id.to_string()) == bare(&wanted));
    if let Some(id) = exact {
        return Ok(*id);
    }
    let mut endings = ids.iter().filter(|id| !wanted.is_empty() && id.to_string().ends_with(&wanted));
    match (endings.next(), endings.count()) {
        (Some(id), 0) => Ok(*id),
        (Some(_), _) => Err(Failure::usage(format!("{what} `{text}` is not unique: give more of its end"))),
        (None, _) => {
            let known: Vec<String> = ids.iter().rev().take(5).map(short).collect();
            let known =
                if known.is_empty() { "there is none".to_owned() } else { format!("known are {}", known.join(", ")) };
            Err(Failure::failed(format!("no {what} `{text}`: {known}")))
        }
    }
}

/// The thread of an id, or of the unique ending of one.
pub(crate) async fn thread(store: &dyn Store, text: &str) -> Result<ThreadId, Failure> {
    let id = ThreadId::new(text).map_err(|error| Failure::usage(error.to_string()))?;
    if store.load(&id).await?.is_some() {
        return Ok(id);
    }
    let mut after = None;
    let mut found: Vec<ThreadId> = Vec::new();
    loop {
        let filter = ThreadFilter { after, limit: PAGE_MAX, ..ThreadFilter::default() };
        let rows = store.threads(&filter).await?;
        found.extend(rows.iter().map(|row| row.id.clone()).filter(|id| id.as_str().ends_with(text)).take(2));
        match rows.last() {
            Some(last) if rows.len() == PAGE_MAX && found.len() < 2 => after = Some(last.id.clone()),
            _ => break,
        }
    }
    match found.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(Failure::failed(format!("no thread `{text}` in this store")).help("`interlock threads` lists them")),
        _ => Err(Failure::usage(format!("thread `{text}` is not unique: give more of its end"))),
    }
}

/// An id for a new thread: the graph's name and some chance.
pub(crate) fn new_thread(graph: &str, chance: u128) -> Result<ThreadId, Failure> {
    let mut stem = String::new();
    for c in graph.chars().filter(|c| !c.is_control() && *c != '/' && *c != '\\') {
        if stem.len() + c.len_utf8() > STEM_BYTES_MAX {
            break;
        }
        stem.push(c);
    }
    let letter = |n: usize| char::from(ALPHABET[usize::try_from((chance >> (n * 5)) & 31).unwrap_or(0)]);
    let suffix: String = (0..SUFFIX_CHARS).map(letter).collect();
    ThreadId::new(&format!("{stem}-{suffix}")).map_err(|error| Failure::usage(error.to_string()))
}

/// How long ago, in one unit.
pub(crate) fn ago(at: Timestamp, now: Timestamp) -> String {
    span(now.since(at))
}

/// A length of time in one unit.
pub(crate) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0 => format!("{}ms", span.as_millis()),
        1..60 => format!("{:.1}s", span.as_secs_f64()),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use runtime_core::ids::RunId;

    use super::*;

    #[test]
    fn a_unique_ending_picks_an_id() {
        let ids = [RunId(0xaa01), RunId(0xbb01), RunId(0xbb02)];
        assert_eq!(pick("run", "bb01", &ids).unwrap(), RunId(0xbb01));
        assert_eq!(pick("run", &RunId(0xaa01).to_string(), &ids).unwrap(), RunId(0xaa01));
        assert!(pick("run", "01", &ids).unwrap_err().message.contains("not unique"));
        assert!(pick("run", "ff", &ids).unwrap_err().message.contains("known are"));
        assert!(pick("run", "", &ids).is_err());
    }

    #[test]
    fn thread_ids_are_valid_whatever_the_graph_is_called() {
        assert_eq!(new_thread("etl", 0).unwrap().as_str(), "etl-00000000");
        assert!(new_thread(&"é/\\\n".repeat(90), u128::MAX).is_ok());
    }

    #[test]
    fn spans_have_one_unit() {
        for (ms, text) in [(12, "12ms"), (1_500, "1.5s"), (61_000, "1m"), (7_200_000, "2h"), (200_000_000, "2d")] {
            assert_eq!(span(Duration::from_millis(ms)), text);
        }
    }
}
