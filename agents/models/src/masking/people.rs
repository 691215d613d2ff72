//! How people and hosts are reached: e-mail addresses, phone numbers, addresses of hosts.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use regex::Regex;

use super::find::{Finder, closes, digits, ends_in_escape, hits, is_apart, opens};

/// Longest part before the `@`, and longest domain.
const LOCAL_CHARS_MAX: usize = 64;
const DOMAIN_CHARS_MAX: usize = 253;
/// Ends of file names and units that look like domains.
const NO_DOMAINS: [&str; 25] = [
    "png", "jpg", "jpeg", "gif", "svg", "webp", "css", "js", "ts", "map", "json", "yaml", "yml", "sql", "csv", "gz",
    "log", "txt", "html", "xml", "parquet", "service", "socket", "timer", "target",
];
/// Programs that sign as `name@host`.
const NO_PEOPLE: [&str; 3] = ["git", "celery", "rabbit"];

/// E-mail addresses.
pub(super) struct Emails;

impl Finder for Emails {
    fn find(&self, text: &str, found: &mut Vec<Range<usize>>) {
        found.extend(text.match_indices('@').filter_map(|(at, _)| email_around(text, at)));
    }
}

fn email_around(text: &str, at: usize) -> Option<Range<usize>> {
    let is_local = |c: &char| c.is_alphanumeric() || matches!(c, '.' | '_' | '%' | '+' | '\'' | '-');
    let bytes: usize = text[..at].chars().rev().take_while(is_local).take(LOCAL_CHARS_MAX).map(char::len_utf8).sum();
    let mut start = at - bytes;
    if text[..at].get(..start + 1).is_some_and(ends_in_escape) {
        start += 1;
    }
    start += text[start..at].find(|c: char| c.is_alphanumeric() || c == '_')?;
    let is_domain = |c: &char| c.is_alphanumeric() || matches!(c, '.' | '-');
    let bytes: usize = text[at + 1..].chars().take_while(is_domain).take(DOMAIN_CHARS_MAX).map(char::len_utf8).sum();
    let domain = text[at + 1..at + 1 + bytes].trim_end_matches(['.', '-']);
    let (_, top) = domain.rsplit_once('.')?;
    let labels_fit = domain.split('.').all(|label| !label.is_empty() && !label.starts_with('-'));
    let top_fits = top.chars().count() > 1 && top.chars().all(char::is_alphabetic) && !NO_DOMAINS.contains(&top);
    let local = &text[start..at];
    // `scheme://account@host` is no mail, nor is `git@host:path`.
    let is_account = text[..start].ends_with("//") || NO_PEOPLE.contains(&local);
    let ends_well = local.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '+' | '-'));
    (labels_fit && top_fits && ends_well && !is_account).then_some(start..at + 1 + domain.len())
}

/// Calling codes with the lengths of numbers behind them; of others, seven to twelve figures.
const COUNTRIES: &[(&str, usize, usize)] = &[
    ("1", 10, 10),
    ("7", 10, 10),
    ("20", 8, 10),
    ("27", 9, 9),
    ("30", 10, 10),
    ("31", 9, 9),
    ("32", 8, 9),
    ("33", 9, 9),
    ("34", 9, 9),
    ("36", 8, 9),
    ("39", 8, 11),
    ("40", 9, 9),
    ("41", 9, 9),
    ("43", 7, 13),
    ("44", 9, 10),
    ("45", 8, 8),
    ("46", 7, 10),
    ("47", 8, 8),
    ("48", 9, 9),
    ("49", 7, 12),
    ("51", 8, 9),
    ("52", 10, 10),
    ("54", 10, 11),
    ("55", 10, 11),
    ("56", 9, 9),
    ("57", 10, 10),
    ("60", 8, 10),
    ("61", 9, 9),
    ("62", 8, 12),
    ("63", 10, 10),
    ("64", 8, 10),
    ("65", 8, 8),
    ("66", 8, 9),
    ("81", 9, 10),
    ("82", 8, 11),
    ("84", 9, 10),
    ("86", 10, 11),
    ("90", 10, 10),
    ("91", 10, 10),
    ("92", 10, 10),
    ("94", 9, 9),
    ("98", 10, 10),
];
/// Words behind a number that say it is an amount of something.
const UNITS: [&str; 12] = ["row", "record", "event", "byte", "ms", "s ", "sec", "kB", "KB", "MB", "GB", "%"];

/// Phone numbers.
pub(super) struct Phones {
    international: Regex,
    national: Vec<Regex>,
    german: Regex,
    named: Regex,
}

impl Phones {
    pub(super) fn new() -> Result<Self, regex::Error> {
        let national = [
            // North America
            r"(?:1[-. ])?(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[-.])[2-9][0-9]{2}[-.][0-9]{4}",
            // Britain
            r"0(?:2[0-9] [0-9]{4} [0-9]{4}|[1378][0-9]{2} [0-9]{3} [0-9]{4}|[17][0-9]{3} [0-9]{3} ?[0-9]{3})",
            r"\(0[1-9][0-9]{1,3}\) ?[0-9]{3,8}(?: [0-9]{3,4})?",
            // France
            r"0[1-9](?:(?: [0-9]{2}){4}|(?:\.[0-9]{2}){4})",
        ];
        Ok(Self {
            international: Regex::new(r"(?:\+|00)[1-9](?:[ .()/-]{0,2}[0-9]){6,15}")?,
            national: national.iter().map(|pattern| Regex::new(pattern)).collect::<Result<_, _>>()?,
            german: Regex::new(r"0[1-9][0-9]{1,3}/ ?(?:[0-9]{6,8}|[0-9]{2,4}(?:[ -][0-9]{2,4}){1,3})")?,
            named: Regex::new(concat!(
                r"(?i)(?-u:\b|_)(?:tel(?:efono|éfono|efon|ephone)?|phone|mobile|mobil|m[oó]vil|cellulare|fax|handy|fon|whatsapp)",
                r#"(?-u:[ _.]{0,2}(?:number|num|no|nr)\b)?[.\\"']{0,4}[ \t]{0,2}[:=#]{0,2}[ \t]{0,2}[\\"']{0,4}"#,
                r"(\(?[0-9](?:[ ()/-]{0,2}[0-9]){7,14})",
            ))?,
        })
    }
}

impl Finder for Phones {
    fn find(&self, text: &str, found: &mut Vec<Range<usize>>) {
        found.extend(self.international.find_iter(text).filter_map(|hit| international(text, hit.range())));
        for pattern in &self.national {
            found.extend(pattern.find_iter(text).map(|hit| hit.range()).filter(|at| is_apart(text, at)));
        }
        // A count of many, `050/100`, is shorter; a day's folder within the folder of its month looks the same.
        let is_path =
            |at: &Range<usize>| text[..at.start].ends_with('/') || text[at.end..].starts_with(['/', '_', '-']);
        let german = self.german.find_iter(text).map(|hit| hit.range());
        found.extend(german.filter(|at| is_apart(text, at) && !is_path(at)));
        found.extend(hits(&self.named, text).into_iter().filter(|at| is_named_phone(text, at)));
    }
}

/// The longest piece that is a number of its country and ends where a group ends.
fn international(text: &str, at: Range<usize>) -> Option<Range<usize>> {
    let is_end = |end: &usize| text.as_bytes()[end - 1].is_ascii_digit() && closes(text, *end);
    let fits = |end: &usize| is_international(&text[at.start..*end]);
    let end = (at.start + 8..=at.end).rev().filter(is_end).find(fits)?;
    let number = &text[at.start..end];
    let is_bare = !number.contains([' ', '.', '(', ')', '/', '-']);
    let rest = text[end..].trim_start();
    // A long number may be padded with noughts.
    let is_amount = is_bare && (number.starts_with('0') || UNITS.iter().any(|unit| rest.starts_with(unit)));
    (is_apart(text, &(at.start..end)) && !is_amount).then_some(at.start..end)
}

fn is_international(number: &str) -> bool {
    let number: String = number.replace("(0)", "").chars().filter(char::is_ascii_digit).collect();
    let number = number.trim_start_matches("00");
    let country = COUNTRIES.iter().find(|(code, ..)| number.starts_with(code));
    let (code, least, most) = country.copied().unwrap_or((number.get(..3).unwrap_or_default(), 7, 12));
    let behind = &number[code.len()..];
    (least..=most).contains(&behind.len()) && number.len() <= 15 && !behind.starts_with('0')
}

/// Beside a word that names it, a number needs no form of its own, but must be no count and no day.
fn is_named_phone(text: &str, at: &Range<usize>) -> bool {
    let number = &text[at.clone()];
    let count = digits(number).len();
    let is_bare = count == number.len();
    let is_day = number.get(4..5) == Some("-") && number.get(7..8) == Some("-");
    let long_enough = count >= 9 || !is_bare || number.starts_with('0');
    is_apart(text, at) && long_enough && !is_day && !number.starts_with("00000")
}

/// Addresses of hosts, save this one's.
pub(super) struct Ips {
    four: Regex,
    six: Regex,
}

impl Ips {
    pub(super) fn new() -> Result<Self, regex::Error> {
        Ok(Self {
            four: Regex::new(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")?,
            six: Regex::new(r"[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}")?,
        })
    }
}

impl Finder for Ips {
    fn find(&self, text: &str, found: &mut Vec<Range<usize>>) {
        let stands = |at: &Range<usize>| opens(text, at.start) && closes(text, at.end);
        let four = |at: &Range<usize>| {
            text[at.clone()].parse::<Ipv4Addr>().is_ok_and(|ip| !ip.is_loopback() && !ip.is_unspecified())
        };
        let six = |at: &Range<usize>| {
            let text = &text[at.clone()];
            let address = text.parse::<Ipv6Addr>();
            text.contains(|c: char| c.is_ascii_digit())
                && address.is_ok_and(|ip| !ip.is_loopback() && !ip.is_unspecified())
        };
        found.extend(hits(&self.four, text).into_iter().filter(|at| stands(at) && four(at)));
        found.extend(hits(&self.six, text).into_iter().filter(|at| stands(at) && six(at)));
    }
}
