//! Texts without what changes from day to day: the same failure on another day reads the same, and two failures with
//! different causes do not.
//!
//! Masked are times, dates, days of the week, durations, sizes, addresses, ids, digests, plain numbers, digits in names of
//! hosts and parts of paths, and quoted values that are no names. Kept is what tells causes apart: names of tables, columns,
//! accounts, exceptions and environments, ports of services, and every code: HTTP status, SQLSTATE, errno, exit status, signal,
//! `ORA-00942`. One pass over the text; where a code and a number could both begin, the code is looked for first.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex::{Captures, Regex};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Longest line that is read as an object.
const OBJECT_BYTES_MAX: usize = 256 * 1024;
/// Shorter values tell nothing: they stand in any text.
const TELLING_BYTES: usize = 4;
/// Most values of one question that are looked for in its answer.
pub(crate) const VOLATILE_MAX: usize = 4096;
/// Ports from here on are drawn by the system for one connection.
const EPHEMERAL_PORT: u32 = 32_768;

/// What is looked for, in the order of precedence at one place of the text, and what becomes of it.
const RULES: &[(&str, &str, Fate)] = &[
    // Codes, with the word before them; a code has a figure in it.
    (
        "code",
        r#"["']?(?i:\b(?:http(?:/\d(?:\.\d)?)?(?:[ _]?(?:status|error|code))*|status(?:[ _]?code)?|sql ?state|errno|err(?:or)?[ _]?(?:code|no)|code|exit(?:ed)?(?: with)?(?:[ _](?:code|status))?|return[ _]?code|signal|sqlcode|response)\b)["']?\s*[:=(\[#]*\s*["']?-?(?:[0-9A-Z]{2,6}-)?(?:0x[0-9A-Fa-f]{1,4}\b|[A-Z]{0,4}[0-9][0-9A-Z]{0,5}\b)"#,
        Fate::Keep,
    ),
    (
        "reason",
        r"\b[1-5]\d\d (?:(?:Bad|Service|Gateway|Internal|Not|Too|Unauthorized|Forbidden|Conflict|Request|Payload|Method|Client|Server)\b)",
        Fate::Keep,
    ),
    ("shout", r"\b[A-Z]{2,10}[-_]?\d{2,6}\b|\b[A-Z]\d{3,6}\b|\b[A-Z]{2,10}-0x[0-9A-Fa-f]{1,4}\b", Fate::Keep),
    ("oserror", r"\[(?:Errno|WinError) -?\d{1,5}\]", Fate::Keep),
    ("state", r"\((?:0[0-9A-Z]|2[0-9A-Z]|3[0-9A-Z]|4[0-9A-Z]|5[3-8]|XX|P0)[0-9A-Z]{3}\)", Fate::Keep),
    ("port", r"(?i:\bport\s*[:=]?\s*)\d{1,5}\b", Fate::Port),
    // Times before dates before numbers.
    (
        "time",
        r"(?:19|20)\d\d-\d\d-\d\d[T _]\d\d[:_]?\d\d(?:[:_]?\d\d(?:[.,]\d+)?)?(?:Z|[ ]?(?:UTC|GMT)|[+-]\d\d:?\d\d)?|(?:19|20)\d{6}T\d{4,6}Z?|\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? \d{1,2} [A-Z][a-z]{2} (?:19|20)\d\d \d\d:\d\d:\d\d(?: (?:GMT|UTC|[+-]\d{4}))?|\b\d{1,2}/[A-Z][a-z]{2}/(?:19|20)\d\d:\d\d:\d\d:\d\d(?: [+-]\d{4})?|\b[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d\b|\b\d\d:\d\d:\d\d(?:[.,]\d+)?\b",
        Fate::Mask("<time>"),
    ),
    (
        "date",
        r"(?:19|20)\d\d[-/.](?:0\d|1[0-2])[-/.][0-3]\d|\b[0-3]\d\.(?:0\d|1[0-2])\.(?:19|20)\d\d\b",
        Fate::Mask("<date>"),
    ),
    // A date says it already; an answer that names the day is not kept.
    ("weekday", r"\b(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day\b", Fate::Mask("<weekday>")),
    ("uuid", r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b", Fate::Mask("<id>")),
    (
        "address",
        r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d{2,5})?\b|\b(?:[0-9a-fA-F]{1,4}:){3,7}(?::?[0-9a-fA-F]{1,4})+\b|\[::1\]",
        Fate::Address,
    ),
    ("hex", r"\b0x[0-9a-fA-F]+\b", Fate::Mask("<hex>")),
    ("pod", r"-[a-z0-9]{8,10}-[a-z0-9]{5}\b", Fate::Pod),
    ("digest", r"\b[0-9a-f]{7,64}\b|\b[0-9A-F]{12,64}\b", Fate::Digest),
    ("token", r"\b[A-Za-z0-9]{24,}\b", Fate::Token),
    ("scratch", r"/(?:tmp|var/tmp|private/tmp|dev/shm)/[^\s'\x22),:]+", Fate::Mask("<path>")),
    // No apostrophe within a word opens or closes anything.
    ("quoted", r#"\B"[^"\n]{1,200}"\B|\B'[^'\n]{1,200}'\B"#, Fate::Quoted),
    (
        "host",
        r"\b[a-z][a-z-]*\d+[a-z0-9-]*(?:\.[a-z][a-z0-9-]*){2,}(?::\d{2,5})?\b|\b(?:localhost|[a-z][a-z0-9-]*(?:\.[a-z0-9-]+)+):\d{2,5}\b",
        Fate::Host,
    ),
    ("size", r"\b\d+(?:[.,]\d+)?\s?(?:[kKMGT]i?B|bytes|B)\b", Fate::Mask("<size>")),
    (
        "duration",
        r"\b(?:\d+(?:\.\d+)?\s?(?:ns|us|µs|ms|s|sec|secs|seconds|min|mins|minutes|m|h|hours|d|days)\b\s?)+",
        Fate::Duration,
    ),
    // A version changes with a deployment, which may be the cause.
    ("version", r"\b\d{1,4}\.\d{1,4}\.\d{1,4}\b", Fate::Keep),
    ("number", r"\b\d+(?:[.,:]\d+)*\b%?|\d{6,}", Fate::Number),
    // A number with letters behind it is a word, and stays: `2xx`, `1st`.
];

/// What becomes of a find.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Keep,
    Mask(&'static str),
    Port,
    Address,
    Pod,
    Digest,
    Token,
    Quoted,
    Host,
    Duration,
    Number,
}

static FINDS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let all: Vec<String> = RULES.iter().map(|(name, pattern, _)| format!("(?P<{name}>{pattern})")).collect();
    Regex::new(&all.join("|")).ok()
});

static DIGITS: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\d+").ok());

/// The text with everything masked that differs between two occurrences of one failure.
pub fn normalise(text: &str) -> String {
    masked(&flat(text))
}

/// What [`normalise`] masks in a text, as it stood there: what is true of one occurrence only.
pub(crate) fn volatile(text: &str, found: &mut BTreeSet<String>) {
    let Some(finds) = FINDS.as_ref() else { return };
    for hit in finds.captures_iter(&flat(text)) {
        let (hit, kept) = (hit.get(0).map_or("", |hit| hit.as_str()), become_of(&hit));
        let value = hit.trim_matches(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ':' | '-'));
        if kept != hit && value.len() >= TELLING_BYTES && found.len() < VOLATILE_MAX {
            found.insert(value.to_owned());
        }
    }
}

fn flat(text: &str) -> String {
    let mut flat = String::with_capacity(text.len());
    for line in text.lines() {
        match object_of(line) {
            Some(object) => flatten("", &object, &mut flat),
            None => flat.push_str(line),
        }
        flat.push('\n');
    }
    flat
}

/// A line of a structured log, whose fields stand in another order each day.
fn object_of(line: &str) -> Option<Value> {
    let line = line.trim();
    let is_object = line.starts_with('{') && line.ends_with('}') && line.len() <= OBJECT_BYTES_MAX;
    if is_object { serde_json::from_str(line).ok() } else { None }
}

/// `name=value` for each field, by name. The reader of JSON has bounded the depth.
fn flatten(name: &str, value: &Value, flat: &mut String) {
    let inner = |part: &str| if name.is_empty() { part.to_owned() } else { format!("{name}.{part}") };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(part, field)| flatten(&inner(part), field, flat)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, item)| flatten(&inner(&format!("#{at}")), item, flat))
        }
        Value::String(text) => flat.push_str(&format!("{name}={text}\n")),
        other => flat.push_str(&format!("{name}={other}\n")),
    }
}

fn masked(text: &str) -> String {
    let Some(finds) = FINDS.as_ref() else { return text.to_owned() };
    let masked = finds.replace_all(text, become_of);
    let mut line = String::with_capacity(masked.len());
    for word in masked.split_whitespace() {
        line.push_str(if line.is_empty() { "" } else { " " });
        line.push_str(word);
    }
    line
}

fn become_of(found: &Captures<'_>) -> String {
    let hit = RULES.iter().find_map(|(name, _, fate)| found.name(name).map(|hit| (hit.as_str(), *fate)));
    hit.map_or_else(String::new, |(hit, fate)| fate.of(hit))
}

impl Fate {
    fn of(self, hit: &str) -> String {
        let digits = hit.bytes().filter(u8::is_ascii_digit).count();
        let has = |fits: fn(&u8) -> bool| hit.bytes().any(|byte| fits(&byte));
        match self {
            Self::Keep => hit.to_owned(),
            Self::Mask(mask) => mask.to_owned(),
            Self::Port => port(hit),
            Self::Address => match hit.split_once(':') {
                Some((ip, service)) if ip.contains('.') => format!("<address>{}", port(&format!(":{service}"))),
                _ => "<address>".to_owned(),
            },
            // A hash without a figure is rather a word.
            Self::Pod if digits == 0 => hit.to_owned(),
            Self::Pod => "-<id>".to_owned(),
            // Words of hexadecimal letters alone are words, and figures alone are a number.
            Self::Digest if digits == 0 => hit.to_owned(),
            Self::Digest if digits == hit.len() => "<n>".to_owned(),
            Self::Digest => "<id>".to_owned(),
            // Long names are made of words; long tokens mix letters and figures without any.
            Self::Token if digits >= 3 && has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase) => {
                "<token>".to_owned()
            }
            Self::Token => inner(hit),
            Self::Quoted => quoted(hit),
            Self::Host => host(hit),
            Self::Duration => duration(hit),
            // Nothing at all is not the same as some.
            Self::Number if hit == "0" => hit.to_owned(),
            Self::Number => "<n>".to_owned(),
        }
    }
}

/// A port of a service says who did not answer; one the system drew does not.
fn port(hit: &str) -> String {
    let number: String = hit.chars().filter(char::is_ascii_digit).collect();
    if number.parse::<u32>().is_ok_and(|port| (1..EPHEMERAL_PORT).contains(&port)) {
        return hit.to_owned();
    }
    hit.replace(&number, "<n>")
}

/// The kind of host stays, which of them does not. A line of a source file only looks like a port.
fn host(hit: &str) -> String {
    let Some((name, service)) = hit.split_once(':') else { return without_digits(hit) };
    if [".py", ".rs", ".go", ".js", ".java", ".sql"].iter().any(|end| name.ends_with(end)) {
        return format!("{name}:<n>");
    }
    format!("{}{}", without_digits(name), port(&format!(":{service}")))
}

/// A quoted name stays, and so does a quoted sentence, without what changes in it; a quoted value is one of its day.
fn quoted(hit: &str) -> String {
    let (mark, text) = hit.split_at(1);
    let text = text.get(..text.len().saturating_sub(1)).unwrap_or_default();
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let is_name = starts && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    // At most as deep as there are kinds of marks: a quotation holds none of its own.
    let inside = masked(text);
    let is_mask = inside.starts_with('<') && inside.ends_with('>') && !inside.contains(' ');
    let has_word = text.as_bytes().windows(3).any(|run| run.iter().all(u8::is_ascii_lowercase));
    if is_name || is_mask || has_word || inside == text {
        return format!("{mark}{inside}{mark}");
    }
    format!("{mark}<value>{mark}")
}

/// What changes from day to day within a name: dates, and runs of figures that are too long to tell two tables apart.
fn inner(name: &str) -> String {
    const TELLING_DIGITS_MAX: usize = 3;
    let Some(digits) = DIGITS.as_ref() else { return name.to_owned() };
    let mask = |found: &Captures<'_>| match &found[0] {
        run if run.len() > TELLING_DIGITS_MAX => "<n>".to_owned(),
        run => run.to_owned(),
    };
    digits.replace_all(name, mask).into_owned()
}

fn without_digits(name: &str) -> String {
    DIGITS.as_ref().map_or_else(|| name.to_owned(), |digits| digits.replace_all(name, "<n>").into_owned())
}

/// Keeps the space behind.
fn duration(hit: &str) -> String {
    let space = if hit.ends_with(char::is_whitespace) { " " } else { "" };
    format!("<duration>{space}")
}

/// SHA-256 over parts that cannot run into each other, in hex.
pub fn fingerprint(parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    hex::encode(hasher.finalize())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_changes_from_day_to_day_is_masked() {
        for (text, expected) in [
            ("at 2026-03-31T05:49:01.392387Z on 2026-03-30", "at <time> on <date>"),
            ("[2026-03-31 05:49:01,123] ERROR", "[<time>] ERROR"),
            ("Fri, 27 Nov 2026 10:00:30 GMT retry", "<time> retry"),
            ("run prod__2026-03-31__1795240137018 failed", "run prod__<date>__<n> failed"),
            ("scheduled__2026-03-31T00:00:00+00:00 x", "scheduled__<time> x"),
            ("task 7c9e6679-7425-40de-944b-e07fc1f90ae7 died", "task <id> died"),
            ("ours=0fd84474fcf129ae theirs=9f00c1d2aa57e310", "ours=<id> theirs=<id>"),
            ("at 0x7f3a9c001230", "at <hex>"),
            ("39 of 897 rows (4.3%) are NULL", "<n> of <n> rows (<n>) are NULL"),
            ("observed=0.1958 threshold=0.02", "observed=<n> threshold=<n>"),
            (
                "connection to server at \"127.0.0.1\", port 15432 failed",
                "connection to server at \"<address>\", port 15432 failed",
            ),
            ("connect 10.0.3.7:5432 refused", "connect <address>:5432 refused"),
            ("from 10.0.3.7:51234", "from <address>:<n>"),
            ("host db03.prod.example.com is down", "host db<n>.prod.example.com is down"),
            ("pod etl-worker-7d9f8b6c5-x2x9z evicted on node-17", "pod etl-worker-<id> evicted on node-<n>"),
            (
                "no answer within 30 s, tried 2.5s and 120ms",
                "no answer within <duration>, tried <duration> and <duration>",
            ),
            ("file size exceeds temp_file_limit (512kB)", "file size exceeds temp_file_limit (<size>)"),
            ("open /data/in/orders_20260331.csv failed", "open /data/in/orders_<n>.csv failed"),
            ("open /tmp/tmpab3x9k/x.csv failed", "open <path> failed"),
            ("event_id=13000113: bad revenue '12,5O EUR'", "event_id=<n>: bad revenue '<value>'"),
            (
                "Process 24202 waits for ShareLock on transaction 8848; tuple (0,7)",
                "Process <n> waits for ShareLock on transaction <n>; tuple (<n>)",
            ),
            ("profile.weekday=Wednesday of sunday_loads", "profile.weekday=<weekday> of sunday_loads"),
            ("a   b\n c", "a b c"),
        ] {
            assert_eq!(normalise(text), expected, "{text}");
        }
    }

    #[test]
    fn what_tells_causes_apart_stays() {
        for (one, other) in [
            ("HTTP Error 503: Service Unavailable", "HTTP Error 502: Bad Gateway"),
            ("HTTPError: HTTP Error 503", "HTTPError: HTTP Error 502"),
            ("HTTP/1.1 429", "HTTP/1.1 500"),
            ("{'status_code': 404, 'x': 1}", "{'status_code': 403, 'x': 1}"),
            ("{\"status_code\": 404}", "{\"status_code\": 403}"),
            ("status code: 404", "status code: 403"),
            ("server answered 503 Service Unavailable", "server answered 500 Internal Server Error"),
            ("SQLSTATE 42501", "SQLSTATE 42703"),
            ("SQLSTATE[23505]: x", "SQLSTATE[23503]: x"),
            ("denied (42501)", "denied (42703)"),
            ("[Errno 28] No space", "[Errno 13] No space"),
            ("exit code -9", "exit code 1"),
            ("killed by signal 9", "killed by signal 11"),
            ("ORA-00942: x", "ORA-01017: x"),
            ("E7731 refused", "E7732 refused"),
            ("code=LS-0x3F segment=7", "code=LS-0x40 segment=7"),
            ("connect to 10.0.0.1:5432", "connect to 10.0.0.1:6379"),
            ("permission denied for table fact_sales", "permission denied for table fact_orders"),
            ("permission denied for table a_1", "permission denied for table a_2"),
            ("column \"email\" does not exist", "column \"phone\" does not exist"),
            ("no file /data/orders/part.csv", "no file /data/customers/part.csv"),
            ("run prod__2026-03-31", "run staging__2026-03-31"),
            ("password failed for user \"etl_finance\"", "password failed for user \"etl_writer\""),
            ("TimeoutError: timed out", "ConnectionError: timed out"),
            ("psycopg 3.1.18: x", "psycopg 3.2.0: x"),
            ("extracted 0 rows", "extracted 5321 rows"),
            ("it can't: HTTP Error 503 isn't", "it can't: HTTP Error 502 isn't"),
            ("said 'ORA-00942: no table'", "said 'ORA-01017: no login'"),
        ] {
            assert_ne!(normalise(one), normalise(other));
        }
    }

    #[test]
    fn a_structured_log_reads_the_same_in_any_order() {
        let one = r#"{"event":"HTTP Error 503","ti_id":"01a1fca6-9202-7a06-8709-082596c2e5e0","error":{"lineno":84,"code":"42501"}}"#;
        let other = r#"{"ti_id":"c1a1fca6-9202-7a06-8709-082596c2e5e1", "error":{"code":"42501","lineno":85},"event":"HTTP Error 503"}"#;
        assert_eq!(normalise(one), "error.code=42501 error.lineno=<n> event=HTTP Error 503 ti_id=<id>");
        assert_eq!(normalise(one), normalise(other));
        assert_ne!(normalise(one), normalise(&other.replace("42501", "42703")));
    }

    #[test]
    fn masking_twice_changes_nothing() {
        let text = "run prod__2026-03-31__1795240137018: HTTP Error 503 at 10.0.3.7:51234 after 30 s in '/data/x_20260331.csv'";
        let once = normalise(text);
        assert_eq!(normalise(&once), once);
    }

    #[test]
    fn a_long_text_takes_its_time_and_no_more() {
        let begun = std::time::Instant::now();
        for text in ["1".repeat(1 << 20), "a-".repeat(1 << 19), "'".repeat(1 << 20), "1 s ".repeat(1 << 18)] {
            assert!(!normalise(&text).is_empty());
        }
        assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{:?}", begun.elapsed());
    }

    #[test]
    fn what_is_masked_is_known() {
        let mut found = BTreeSet::new();
        volatile(
            "run prod__2026-03-31__1795240137018: HTTP Error 503 from 10.0.3.7:5432, 0.1958 of 7 in 'fact_sales'",
            &mut found,
        );
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["0.1958", "10.0.3.7:5432", "1795240137018", "2026-03-31"]);
    }

    proptest! {
        #[test]
        fn a_code_is_never_lost_and_a_number_always(
            context in 0_usize..10,
            one in 100_u32..600,
            other in 100_u32..600,
            numbers in proptest::collection::vec(1_u64..u64::MAX, 4),
        ) {
            let said = |code: u32, n: u64| {
                let code = match context {
                    0 => format!("HTTP Error {code}"),
                    1 => format!("status code: {code}"),
                    2 => format!("{{\"status\": {code}}}"),
                    3 => format!("SQLSTATE 42{code}"),
                    4 => format!("SQLSTATE[42{code}]"),
                    5 => format!("exit code -{code}"),
                    6 => format!("[Errno {code}] x"),
                    7 => format!("ORA-00{code}: x"),
                    8 => format!("failed with response {code}"),
                    _ => format!("'statusCode': {code}"),
                };
                format!("after {n} rows\n{code}\npid={n} in task-{n}")
            };
            prop_assert_eq!(normalise(&said(one, numbers[0])), normalise(&said(one, numbers[1])));
            prop_assert_eq!(normalise(&said(one, numbers[0])) == normalise(&said(other, numbers[2])), one == other);
        }
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_ne!(fingerprint(&["ab", "c"]), fingerprint(&["a", "bc"]));
    }
}
