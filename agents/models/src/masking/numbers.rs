//! Numbers of cards and accounts.

use std::ops::Range;

use regex::Regex;

use super::find::{Finder, closes, digits, hits, is_apart, opens};

/// First figures of issuers and the lengths of their numbers.
const ISSUERS: &[(Range<u32>, u32, &[usize])] = &[
    // (first figures, how many figures that is, lengths)
    (4..5, 1, &[13, 16, 19]),               // Visa
    (51..56, 2, &[16]),                     // Mastercard
    (2221..2721, 4, &[16]),                 // Mastercard
    (34..35, 2, &[15]),                     // American Express
    (37..38, 2, &[15]),                     // American Express
    (300..306, 3, &[14, 16]),               // Diners Club
    (36..37, 2, &[14, 16]),                 // Diners Club
    (38..40, 2, &[14, 16]),                 // Diners Club
    (6011..6012, 4, &[16, 19]),             // Discover
    (644..650, 3, &[16, 19]),               // Discover
    (65..66, 2, &[16, 19]),                 // Discover, RuPay
    (3528..3590, 4, &[16, 17, 18, 19]),     // JCB
    (62..63, 2, &[16, 17, 18, 19]),         // UnionPay
    (81..82, 2, &[16, 17, 18, 19]),         // UnionPay, RuPay
    (2200..2205, 4, &[16, 17, 18, 19]),     // Mir
    (5018..5019, 4, &[13, 14, 15, 16, 19]), // Maestro
    (5020..5021, 4, &[13, 14, 15, 16, 19]), // Maestro
    (5038..5039, 4, &[13, 14, 15, 16, 19]), // Maestro
    (5893..5894, 4, &[13, 14, 15, 16, 19]), // Maestro
    (6304..6305, 4, &[13, 14, 15, 16, 19]), // Maestro
    (6759..6760, 4, &[13, 14, 15, 16, 19]), // Maestro
    (6761..6764, 4, &[13, 14, 15, 16, 19]), // Maestro
    (60..61, 2, &[16]),                     // RuPay
];

/// How numbers of cards are written in groups.
const SHAPES: &[&[usize]] = &[&[4, 4, 4, 4], &[4, 6, 5], &[4, 6, 4], &[4, 4, 4, 4, 3]];

/// Lengths of IBANs, by country.
const IBANS: &str = "AL28 AD24 AT20 AZ28 BH22 BY28 BE16 BA20 BR29 BG22 CR22 HR21 CY28 CZ24 DK18 DO28 EG29 SV28 EE20 FO18 FI18 \
    FR27 GE22 DE22 GI23 GR27 GL18 GT28 HU28 IS26 IQ23 IE22 IL23 IT27 JO30 KZ20 XK20 KW30 LV21 LB28 LI21 LT20 LU20 LY25 \
    MT31 MR27 MU30 MD24 MC27 ME22 NL18 MK19 NO15 PK24 PS29 PL28 PT25 QA29 RO24 LC32 SM27 ST25 SA24 RS22 SC31 SK24 SI19 \
    ES24 SD18 SE24 CH21 TL23 TN24 TR26 UA29 AE23 GB22 VA22 VG24";

/// Payment cards.
pub(super) struct Cards {
    runs: Regex,
    /// The checksum; an argument, so that tests can show what it is good for.
    passes: fn(&[u32]) -> bool,
}

impl Cards {
    pub(super) fn new(passes: fn(&[u32]) -> bool) -> Result<Self, regex::Error> {
        Ok(Self { runs: Regex::new("[0-9]+(?:[ .\u{a0}\u{202f}-][0-9]+)*")?, passes })
    }

    fn is_card(&self, text: &str) -> bool {
        let digits = digits(text);
        let begins = |figures: u32| digits.iter().take(figures as usize).fold(0, |number, digit| number * 10 + digit);
        let issued = |(first, figures, lengths): &(Range<u32>, u32, &[usize])| {
            lengths.contains(&digits.len()) && first.contains(&begins(*figures))
        };
        ISSUERS.iter().any(issued) && (self.passes)(&digits)
    }
}

impl Finder for Cards {
    fn find(&self, text: &str, found: &mut Vec<Range<usize>>) {
        for run in self.runs.find_iter(text) {
            let groups = groups_of(run.as_str(), run.start());
            let mut first = 0;
            while let Some(group) = groups.get(first) {
                let whole = (13..=19).contains(&group.len()).then_some(1);
                let shaped =
                    SHAPES.iter().filter(|shape| has_shape(&groups[first..], shape, text)).map(|shape| shape.len());
                let fits = |count: &usize| {
                    let at = group.start..groups[first + count - 1].end;
                    is_apart(text, &at) && self.is_card(&text[at])
                };
                let count = whole.into_iter().chain(shaped).filter(fits).max();
                if let Some(count) = count {
                    found.push(group.start..groups[first + count - 1].end);
                }
                first += count.unwrap_or(1);
            }
        }
    }
}

/// The groups of a run of figures, where they stand in the whole text.
fn groups_of(run: &str, start: usize) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    for (at, _) in run.char_indices().filter(|(_, c)| c.is_ascii_digit()) {
        match groups.last_mut() {
            Some(group) if group.end == start + at => group.end += 1,
            _ => groups.push(start + at..start + at + 1),
        }
    }
    groups
}

/// Whether the next groups have these lengths and one and the same mark between them.
fn has_shape(groups: &[Range<usize>], shape: &[usize], text: &str) -> bool {
    let Some(groups) = groups.get(..shape.len()) else { return false };
    let mark = |group: &Range<usize>| text.as_bytes().get(group.end).copied();
    let one_mark = groups[..shape.len() - 1].windows(2).all(|pair| mark(&pair[0]) == mark(&pair[1]));
    one_mark && groups.iter().zip(shape).all(|(group, length)| group.len() == *length)
}

/// The checksum of cards.
pub(super) fn luhn(digits: &[u32]) -> bool {
    let doubled = |(place, digit): (usize, &u32)| match (place % 2, digit * 2) {
        (0, _) => *digit,
        (_, twice) if twice > 9 => twice - 9,
        (_, twice) => twice,
    };
    digits.iter().rev().enumerate().map(doubled).sum::<u32>().is_multiple_of(10)
}

/// International account numbers.
pub(super) struct Ibans {
    heads: Regex,
}

impl Ibans {
    pub(super) fn new() -> Result<Self, regex::Error> {
        Ok(Self { heads: Regex::new("(?-u)[A-Za-z]{2}[0-9]{2}")? })
    }
}

impl Finder for Ibans {
    fn find(&self, text: &str, found: &mut Vec<Range<usize>>) {
        let whole = |head: regex::Match<'_>| {
            let end = iban_end(text, head.start())?;
            Some(head.start()..end)
        };
        found.extend(self.heads.find_iter(text).filter(|head| opens(text, head.start())).filter_map(whole));
    }
}

/// Where an IBAN that begins here ends: as long as its country says, in one or in groups, and right by its checksum.
fn iban_end(text: &str, start: usize) -> Option<usize> {
    let country = text.get(start..start + 2)?.to_ascii_uppercase();
    let length = IBANS.split_whitespace().find(|known| known.starts_with(&country))?.get(2..)?.parse::<usize>().ok()?;
    let bytes = text.as_bytes();
    let mut number = String::with_capacity(length);
    let mut at = start;
    while number.len() < length {
        let byte = *bytes.get(at)?;
        let is_gap = matches!(byte, b' ' | b'-') && number.len().is_multiple_of(4) && number.len() >= 4;
        match byte {
            _ if byte.is_ascii_alphanumeric() => number.push(char::from(byte)),
            _ if is_gap && bytes.get(at - 1).is_some_and(u8::is_ascii_alphanumeric) => {}
            _ => return None,
        }
        at += 1;
    }
    let has = |case: fn(&u8) -> bool| number.bytes().any(|byte| case(&byte));
    let mixed = has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase);
    (!mixed && closes(text, at) && mod_97(&number) == 1).then_some(at)
}

/// Head to the end, letters as 10 to 35, the rest of a division by 97.
pub(super) fn mod_97(number: &str) -> u32 {
    let (head, body) = number.split_at(4);
    let value = |rest: u32, digit: u32| if digit > 9 { (rest * 100 + digit) % 97 } else { (rest * 10 + digit) % 97 };
    body.chars().chain(head.chars()).filter_map(|c| c.to_digit(36)).fold(0, value)
}

/// American routing numbers and account numbers, beside the words that name them.
pub(super) struct Accounts {
    routing: Regex,
    account: Regex,
}

impl Accounts {
    pub(super) fn new() -> Result<Self, regex::Error> {
        Ok(Self {
            routing: Regex::new(
                r"(?i)(?-u:\b|_)(?-u:aba|rtn|routing|transit)(?-u:\b|_|[a-z])[^0-9\n]{0,24}([0-9]{9})",
            )?,
            account: Regex::new(
                r"(?i)(?-u:\b|_)(?-u:account|acct|a/c|konto|cuenta)[ ._-]{0,2}(?-u:(?:number|num|no|nr|nummer)(?:\b|_)|#)[^0-9\n[:alpha:]]{0,4}(?:(?-u:is|was)\s)?([0-9](?:[ -]?[0-9]){5,16})",
            )?,
        })
    }
}

impl Finder for Accounts {
    fn find(&self, text: &str, found: &mut Vec<Range<usize>>) {
        found.extend(
            hits(&self.routing, text).into_iter().filter(|at| is_apart(text, at) && aba(&digits(&text[at.clone()]))),
        );
        found.extend(hits(&self.account, text).into_iter().filter(|at| opens(text, at.start) && closes(text, at.end)));
    }
}

/// The checksum of routing numbers, and the districts there are.
pub(super) fn aba(digits: &[u32]) -> bool {
    let sum: u32 = digits.iter().zip([3, 7, 1].iter().cycle()).map(|(digit, weight)| digit * weight).sum();
    let district = digits.iter().take(2).fold(0, |number, digit| number * 10 + digit);
    digits.len() == 9 && sum.is_multiple_of(10) && matches!(district, 1..=12 | 21..=32 | 61..=72 | 80)
}
