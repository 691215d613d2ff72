//! How finds are collected, put in order, and told from what stands around them.

use std::collections::BTreeMap;
use std::ops::Range;

use regex::Regex;

/// Something found: by which finder, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Find {
    /// Place of the finder; a lower one wins.
    pub(super) rank: usize,
    pub(super) at: Range<usize>,
}

/// Looks for one kind of value, in one look at the text.
pub(super) trait Finder: Send + Sync {
    /// Adds where it stands, in any order.
    fn find(&self, text: &str, found: &mut Vec<Range<usize>>);
}

/// A custom pattern. A line at a time: a search that starts again and again is linear only in what it looks at.
pub(super) struct Custom(pub(super) Regex);

impl Finder for Custom {
    fn find(&self, text: &str, found: &mut Vec<Range<usize>>) {
        let mut start = 0;
        for line in text.split_inclusive('\n') {
            let hits = self.0.find_iter(line.strip_suffix('\n').unwrap_or(line)).filter(|hit| !hit.is_empty());
            found.extend(hits.map(|hit| start + hit.start()..start + hit.end()));
            start += line.len();
        }
    }
}

/// Everything that is found, in order, without overlaps.
pub(super) fn all<'a>(finders: impl Iterator<Item = &'a dyn Finder>, text: &str) -> Vec<Find> {
    let mut kept: BTreeMap<usize, Find> = BTreeMap::new();
    let mut found = Vec::new();
    for (rank, finder) in finders.enumerate() {
        finder.find(text, &mut found);
        found.sort_unstable_by_key(|at| (at.start, std::cmp::Reverse(at.end)));
        for at in found.drain(..) {
            let is_free = kept.range(..at.end).next_back().is_none_or(|(_, before)| before.at.end <= at.start);
            if is_free && !at.is_empty() {
                kept.insert(at.start, Find { rank, at });
            }
        }
    }
    kept.into_values().collect()
}

/// The finds without the places that are placeholders already; what is left of them is masked piece by piece.
pub(super) fn without(finds: Vec<Find>, places: &[Range<usize>], text: &str) -> Vec<Find> {
    let mut left = Vec::with_capacity(finds.len());
    for find in finds {
        let first = places.partition_point(|place| place.end <= find.at.start);
        let mut start = find.at.start;
        for place in places.iter().skip(first).take_while(|place| place.start < find.at.end) {
            left.push(Find { rank: find.rank, at: start..place.start.max(start) });
            start = place.end;
        }
        left.push(Find { rank: find.rank, at: start..find.at.end.max(start) });
    }
    left.retain(|find| text[find.at.clone()].contains(char::is_alphanumeric));
    left
}

/// Whether something may begin here: not within a word, nor behind a decimal point. A line's end that JSON wrote as `\n`
/// is an end all the same.
pub(super) fn opens(text: &str, at: usize) -> bool {
    let before = &text[..at];
    let Some(last) = before.chars().next_back() else { return true };
    if ends_in_escape(before) {
        return true;
    }
    let is_decimal = last == '.' && before.as_bytes().iter().rev().nth(1).is_some_and(u8::is_ascii_digit);
    !is_of_word(last) && !is_decimal
}

/// Whether something may end here: the same, seen from the other side.
pub(super) fn closes(text: &str, at: usize) -> bool {
    let mut after = text[at..].chars();
    match after.next() {
        Some('.') => !after.next().is_some_and(|c| c.is_ascii_digit()),
        Some(next) => !is_of_word(next),
        None => true,
    }
}

/// Scripts that set no spaces between words begin here: among them, whatever is next to a number is no part of it.
const SPACELESS: char = '\u{2e80}';

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() && c < SPACELESS
}

/// `\n`, `\r` or `\t`, as text within JSON has them.
pub(super) fn ends_in_escape(text: &str) -> bool {
    matches!(text.as_bytes(), [.., b'\\', b'n' | b'r' | b't'])
}

/// Whether it stands alone: also no part of a longer run that dashes join. A word and a dash before it only name it.
pub(super) fn is_apart(text: &str, at: &Range<usize>) -> bool {
    let (before, after) = (&text.as_bytes()[..at.start], &text.as_bytes()[at.end..]);
    let joined_before = matches!(before, [.., c, b'-'] if c.is_ascii_digit());
    let joined_after = matches!(after, [b'-', c, ..] if c.is_ascii_alphanumeric());
    opens(text, at.start) && closes(text, at.end) && !joined_before && !joined_after
}

/// The figures of a piece of text.
pub(super) fn digits(text: &str) -> Vec<u32> {
    text.bytes().filter(u8::is_ascii_digit).map(|digit| u32::from(digit - b'0')).collect()
}

/// Where the first group of each match stands, when there is one, else the match.
pub(super) fn hits(pattern: &Regex, text: &str) -> Vec<Range<usize>> {
    if pattern.captures_len() == 1 {
        return pattern.find_iter(text).map(|hit| hit.range()).collect();
    }
    pattern.captures_iter(text).filter_map(|hit| hit.get(1)).map(|hit| hit.range()).collect()
}
