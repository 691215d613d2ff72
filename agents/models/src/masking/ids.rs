//! National ids, by their checksums where they have one.

use std::ops::Range;

use regex::Regex;

use super::find::{Finder, digits, hits, is_apart};

/// Letters of a DNI by the rest of its number.
const DNI_LETTERS: &[u8] = b"TRWAGMYFPDXBNJZSQVHLCKE";
/// Prefixes that no NINO has.
const NINO_NEVER: [&str; 7] = ["BG", "GB", "NK", "KN", "TN", "NT", "ZZ"];
/// Values of the characters of a codice fiscale at odd places, 0 to 9 and A to Z.
const CODICE_ODD: [u32; 36] = [
    1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10,
    22, 25, 24, 23,
];
/// Fewest figures of a codice fiscale; others may be written as letters where two people would share one.
const CODICE_DIGITS_MIN: usize = 4;

/// National ids of the countries this knows.
pub(super) struct NationalIds {
    forms: Vec<(Regex, Check)>,
}

/// Whether a find is right in itself.
type Check = fn(&str) -> bool;

impl NationalIds {
    pub(super) fn new() -> Result<Self, regex::Error> {
        let form = |pattern: &str, checks: Check| Regex::new(pattern).map(|pattern| (pattern, checks));
        Ok(Self {
            forms: vec![
                form("[0-9]{3}-[0-9]{2}-[0-9]{4}", is_ssn)?,
                form(
                    r"(?i)(?-u:\b|_)(?-u:ssn|social security(?: number| no\.?)?)[^0-9\n]{0,8}([0-9]{3}[ -]?[0-9]{2}[ -]?[0-9]{4})",
                    is_ssn,
                )?,
                form("(?-u)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-D]", is_nino)?,
                form("[1-9][0-9](?: ?[0-9]{3}){3}", is_steuer_id)?,
                form("(?-u)(?:[XYZxyz]-?[0-9]{7}|[0-9]{8})-?[A-Za-z]", is_dni)?,
                form(
                    "(?i-u)[A-Z]{6}[0-9LMNP-V]{2}[A-EHLMPRST][0-9LMNP-V]{2}[A-Z][0-9LMNP-V]{3}[A-Z]",
                    is_codice_fiscale,
                )?,
                form(
                    r"(?i)(?-u:\b|_)(?-u:bsn|burgerservicenummer|sofinummer)[^0-9\n]{0,8}([0-9]{3,4}[. ]?[0-9]{2}[. ]?[0-9]{3})",
                    is_bsn,
                )?,
            ],
        })
    }
}

impl Finder for NationalIds {
    fn find(&self, text: &str, found: &mut Vec<Range<usize>>) {
        for (pattern, checks) in &self.forms {
            found.extend(hits(pattern, text).into_iter().filter(|at| is_apart(text, at) && checks(&text[at.clone()])));
        }
    }
}

/// No checksum; areas, groups and serials that are never given.
fn is_ssn(text: &str) -> bool {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let (area, rest) = digits.split_at(3);
    !matches!(area, "000" | "666") && !area.starts_with('9') && !rest.starts_with("00") && !rest.ends_with("0000")
}

/// No checksum; prefixes that are never given.
fn is_nino(text: &str) -> bool {
    !NINO_NEVER.iter().any(|never| text.starts_with(never))
}

/// Among ten figures exactly one is there twice or three times, and the eleventh checks (ISO 7064, MOD 11,10).
fn is_steuer_id(text: &str) -> bool {
    let digits = digits(text);
    let Some((check, number)) = digits.split_last() else { return false };
    let counts: Vec<usize> = (0..10).map(|digit| number.iter().filter(|own| **own == digit).count()).collect();
    let repeated: Vec<usize> = counts.into_iter().filter(|count| *count > 1).collect();
    let product = number.iter().fold(10, |product, digit| match (digit + product) % 10 {
        0 => 20 % 11,
        sum => sum * 2 % 11,
    });
    matches!(repeated[..], [2 | 3]) && number.len() == 10 && *check == (11 - product) % 10
}

/// The letter of a DNI, or of a NIE, whose first letter stands for a figure.
fn is_dni(text: &str) -> bool {
    let text: String = text.to_ascii_uppercase().replace('-', "").replace('X', "0").replace('Y', "1").replace('Z', "2");
    // The letter at the end may be one of the three itself.
    let number = text.get(..8).and_then(|number| number.parse::<usize>().ok());
    let letter = |number: usize| DNI_LETTERS[number % DNI_LETTERS.len()];
    let figure = |letter: u8| match letter {
        b'X' => b'0',
        b'Y' => b'1',
        b'Z' => b'2',
        other => other,
    };
    number.is_some_and(|number| text.as_bytes().get(8) == Some(&figure(letter(number))))
}

/// The check character over fifteen.
fn is_codice_fiscale(text: &str) -> bool {
    let text = text.to_ascii_uppercase();
    let values: Vec<u32> = text.chars().filter_map(|c| c.to_digit(36)).collect();
    let Some((check, code)) = values.split_last() else { return false };
    let value = |(at, value): (usize, &u32)| match at % 2 {
        0 => CODICE_ODD.get(*value as usize).copied().unwrap_or_default(),
        _ if *value > 9 => value - 10,
        _ => *value,
    };
    let sum: u32 = code.iter().enumerate().map(value).sum();
    code.len() == 15 && digits(&text).len() >= CODICE_DIGITS_MIN && check.checked_sub(10) == Some(sum % 26)
}

/// The eleven test, beside its word alone: one number in eleven passes.
fn is_bsn(text: &str) -> bool {
    let digits = digits(text);
    let sum: i64 =
        digits.iter().zip([9, 8, 7, 6, 5, 4, 3, 2, -1]).map(|(digit, weight)| i64::from(*digit) * weight).sum();
    digits.len() == 9 && sum % 11 == 0 && digits.iter().any(|digit| *digit > 0)
}
