//! Error texts without what changes from day to day: the same failure on another day has the same signature.
//!
//! Only addresses, times, ids, paths and plain numbers are masked. Names of tables, columns, accounts and error codes
//! stay, because two failures that differ in one of them have different causes.

use std::sync::LazyLock;

use regex::Regex;

/// Longest text that is looked at; error messages are shorter, logs are cut before.
const TEXT_BYTES_MAX: usize = 16 * 1024;
/// Hex digits of a fingerprint that people see.
const SHORT_DIGITS: usize = 12;

static MASKS: LazyLock<Vec<(Regex, &'static str)>> = LazyLock::new(|| {
    [
        (r"[a-zA-Z][a-zA-Z0-9+.-]{1,20}://[^\s,;'\x22<>)]*[^\s,;:.'\x22<>)]", "<url>"),
        (r"\b\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?", "<time>"),
        (r"\b\d{4}-\d{2}-\d{2}\b", "<date>"),
        (r"\b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b", "<id>"),
        (r"\b0x[0-9a-fA-F]+\b", "<hex>"),
        (r"\b[0-9a-f]{16,64}\b", "<id>"),
        (r"(^|[\s'\x22(=])(/[\w.@-]+){2,}/?", "$1<path>"),
        (r"\b\d{1,3}(\.\d{1,3}){3}(:\d+)?\b", "<address>"),
        (r"\b\d+(\.\d+)?\b", "<n>"),
    ]
    .into_iter()
    .filter_map(|(pattern, mask)| Some((Regex::new(pattern).ok()?, mask)))
    .collect()
});

/// The text with everything masked that differs between two occurrences of one failure.
pub fn signature(text: &str) -> String {
    let mut cut = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(cut) {
        cut -= 1;
    }
    let mut masked = text.get(..cut).unwrap_or_default().to_owned();
    for (pattern, mask) in MASKS.iter() {
        masked = pattern.replace_all(&masked, *mask).into_owned();
    }
    masked.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The head of a fingerprint, for titles and ids.
pub(crate) fn short(fingerprint: &str) -> &str {
    fingerprint.get(..SHORT_DIGITS).unwrap_or(fingerprint)
}

#[cfg(test)]
mod tests {
    use models::fingerprint;

    use super::*;

    #[test]
    fn what_changes_from_day_to_day_is_masked() {
        for (text, expected) in [
            (
                "extract: UpstreamTimeout: GET https://feeds.example/v1/flights?date=2013-01-23: no response within 30 s",
                "extract: UpstreamTimeout: GET <url>: no response within <n> s",
            ),
            ("at 2013-01-23T05:00:01.5Z on 2013-01-22", "at <time> on <date>"),
            ("39 of 897 rows (4.3 %) are NULL", "<n> of <n> rows (<n> %) are NULL"),
            ("task 7c9e6679-7425-40de-944b-e07fc1f90ae7 died", "task <id> died"),
            ("open '/var/lib/x/data.db' failed", "open '<path>' failed"),
            ("connect 10.0.3.7:5432 refused", "connect <address> refused"),
            ("E7731 segment 0x5f12:2013-01-23 refused", "E7731 segment <hex>:<date> refused"),
        ] {
            assert_eq!(signature(text), expected);
        }
        assert_eq!(MASKS.len(), 9, "every mask is a valid pattern");
    }

    #[test]
    fn names_and_codes_stay() {
        assert_ne!(signature("no such column: dep_delay"), signature("no such column: arr_delay"));
        assert_ne!(signature("E7731 refused"), signature("E7732 refused"));
        assert_ne!(signature("permission denied for table a_1"), signature("permission denied for table a_2"));
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        assert!(signature(&"é".repeat(TEXT_BYTES_MAX)).len() <= TEXT_BYTES_MAX);
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_ne!(fingerprint(&["ab", "c"]), fingerprint(&["a", "bc"]));
        assert_eq!(short(&fingerprint(&["a"])).len(), SHORT_DIGITS);
    }
}
