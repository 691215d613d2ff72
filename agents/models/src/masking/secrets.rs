//! Keys, tokens and passwords: by their own head, or by the word in front of them.

use std::ops::Range;

use regex::Regex;

use super::find::{Finder, opens};

/// Keys that say themselves what they are.
const HEADS: &[&str] = &[
    "(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}",
    "gh[pousr]_[A-Za-z0-9]{30,}",
    "github_pat_[A-Za-z0-9_]{22,}",
    "gl(?:pat|dt|rt|cbt|ptt|ft|soat)-[A-Za-z0-9_-]{20,}",
    "xox[abeoprs]-[A-Za-z0-9-]{10,}",
    "xapp-[0-9]-[A-Za-z0-9-]{10,}",
    "https://hooks[.]slack[.]com/(?:services|workflows|triggers)/[A-Za-z0-9/_-]{20,}",
    "sk-(?:proj-|ant-|svcacct-|admin-|or-v1-|lf-)?[A-Za-z0-9_-]{20,}",
    "[srp]k_(?:live|test)_[A-Za-z0-9]{16,}",
    "whsec_[A-Za-z0-9+/=]{24,}",
    "AIza[0-9A-Za-z_-]{35}",
    "ya29[.][0-9A-Za-z_-]{20,}",
    "GOCSPX-[0-9A-Za-z_-]{20,}",
    "SG[.][A-Za-z0-9_-]{16,}[.][A-Za-z0-9_-]{16,}",
    "npm_[A-Za-z0-9]{36}",
    "pypi-[A-Za-z0-9_-]{50,}",
    "hf_[A-Za-z0-9]{30,}",
    "dapi[0-9a-f]{32}",
    "do[opr]_v1_[0-9a-f]{64}",
    "shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}",
    "hv[sbr][.][A-Za-z0-9_-]{24,}",
    "dckr_pat_[A-Za-z0-9_-]{20,}",
    "glsa_[A-Za-z0-9_]{30,}",
    "lin_api_[A-Za-z0-9]{30,}",
    "ATATT3[A-Za-z0-9_=-]{30,}",
    "AGE-SECRET-KEY-1[0-9A-Z]{50,}",
    "[0-9]{8,10}:AA[A-Za-z0-9_-]{33}",
    "eyJ[A-Za-z0-9_-]{8,}[.]eyJ[A-Za-z0-9_-]{8,}[.][A-Za-z0-9_-]{8,}",
];

/// Words that name a password.
const PASSWORD: &str = "password|passwd|passphrase|passwort|pgpass|[_.-]pass|pwd";
/// Words that name a key or token. `file_token` and `continuation_token` open nothing.
const KEY: &str = "(?:client|app|shared|webhook|signing|jwt|api|session)[_-]?secret|secret[_-]?(?:access[_-]?)?key|secret|(?:api|access|auth|private|signing|encryption|fernet|storage|sas)[_-]?key|accountkey|(?:access|refresh|auth|id|session|api|bot|app|bearer|client|personal|private|secret|security|csrf|github|gitlab|slack|vault|x)[_-]?token|\\btoken";

/// How much of a value behind a word is read to tell whether it is one, and how much of one is masked. In bytes; within
/// quotes, in characters.
const JUDGED_MAX: usize = 512;
const VALUE_MAX: usize = 16 * 1024;
/// Longest private key.
const PEM_BYTES_MAX: usize = 16 * 1024;
/// Shortest password that is one.
const PASSWORD_BYTES_MIN: usize = 4;
/// Shortest key or token that is one.
const KEY_BYTES_MIN: usize = 8;
/// From this length on a run of letters alone is no word any more.
const KEY_WORD_BYTES_MAX: usize = 24;
/// Longest name of where a value is.
const REFERENCE_BYTES_MAX: usize = 64;
/// What stands where a value would, and is none.
const NO_VALUES: &[&str] = &[
    "none",
    "null",
    "undefined",
    "true",
    "false",
    "string",
    "optional",
    "required",
    "invalid",
    "expired",
    "missing",
    "incorrect",
    "wrong",
    "changed",
    "unchanged",
    "unknown",
    "empty",
    "hidden",
    "masked",
    "redacted",
    "removed",
    "authentication",
    "rejected",
    "unset",
    "bytes",
    "text",
    "varchar",
    "secretstr",
    "secretstring",
    "prompt",
    "disabled",
    "enabled",
];

/// Keys, tokens and passwords in a text.
pub(super) struct Secrets {
    heads: Regex,
    pem: Regex,
    bearer: Regex,
    url: Regex,
    named: Regex,
}

impl Secrets {
    pub(super) fn new() -> Result<Self, regex::Error> {
        Ok(Self {
            heads: Regex::new(&format!("(?-u){}", HEADS.join("|")))?,
            pem: Regex::new("(?-u)-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")?,
            bearer: Regex::new(concat!(
                r"(?i-u)\bbearer[ \t]{1,3}([A-Za-z0-9._~+/=-]{8,})",
                r#"|\bauthorization[\\"']{0,4}[ \t]{0,2}[:=][ \t]{0,2}[\\"']{0,4}(?:basic|token|apikey)[ \t]{1,3}([A-Za-z0-9._~+/=-]{6,})"#,
            ))?,
            url: Regex::new(r#"(?i-u:[a-z][a-z0-9+.-]*)://[^\s/:@"'<>]*:([^\s/"'<>]+)@"#)?,
            named: Regex::new(&format!(
                "(?i-u)(?:(?P<password>{PASSWORD})|(?P<key>{KEY}))\
                 (?:(?P<typed>[\\\\\"'\\]]{{0,4}}[ \\t]{{0,3}}(?::=|=>|=|:)[ \\t]{{0,3}})|(?P<sql>[ \\t]{{1,3}}['\"]))|\
                 --(?:password|passphrase|secret|token|api-key)(?P<flag>[ \\t=])|\
                 \\bidentified[ \\t]{{1,3}}by[ \\t]{{1,3}}(?P<by>['\"])"
            ))?,
        })
    }

    fn bearers(&self, text: &str, found: &mut Vec<Range<usize>>) {
        for hit in self.bearer.captures_iter(text) {
            let is_word =
                |token: &str| token.len() < KEY_WORD_BYTES_MAX && !token.bytes().any(|byte| byte.is_ascii_digit());
            let bearer = hit.get(1).filter(|token| !is_word(token.as_str()));
            found.extend(bearer.or(hit.get(2)).map(|token| token.range()));
        }
    }

    fn named(&self, text: &str, found: &mut Vec<Range<usize>>) {
        let mut done = 0;
        for hit in self.named.captures_iter(text) {
            // A word within a value names nothing.
            let Some(whole) = hit.get(0).filter(|whole| whole.start() >= done) else { continue };
            // A quote that the pattern has read belongs to the value.
            let quoted = hit.name("sql").or(hit.name("by")).map(|_| 1);
            let begin = whole.end() - quoted.unwrap_or_default();
            let value = Written::at(text, begin, JUDGED_MAX);
            let is_typed = hit.name("typed").is_some_and(|mark| mark.as_str().contains(':'));
            if quoted.is_none() && is_typed && value.is_prose(text) || value.is_code(text) {
                continue;
            }
            let fits = if hit.name("key").is_some() { is_key } else { is_password };
            if fits(&text[value.at.clone()]) {
                let whole = Written::at(text, begin, VALUE_MAX);
                done = whole.at.end;
                found.push(whole.at);
            }
        }
    }
}

impl Finder for Secrets {
    fn find(&self, text: &str, found: &mut Vec<Range<usize>>) {
        found.extend(self.heads.find_iter(text).map(|hit| hit.range()).filter(|at| opens(text, at.start)));
        let mut done = 0;
        for head in self.pem.find_iter(text) {
            if head.start() >= done {
                done = pem_end(text, head.end());
                found.push(head.start()..done);
            }
        }
        self.bearers(text, found);
        let passwords = self.url.captures_iter(text).filter_map(|hit| hit.get(1));
        found.extend(passwords.filter(|password| !is_template(password.as_str())).map(|password| password.range()));
        self.named(text, found);
    }
}

/// Where a private key ends: behind its last line, or, when that is missing, where nothing of a key stands any more.
fn pem_end(text: &str, body: usize) -> usize {
    let bytes = text.as_bytes();
    let reach = bytes.len().min(body + PEM_BYTES_MAX);
    let part = bytes.get(body..reach).unwrap_or_default();
    let last = part.windows(8).position(|window| window == b"-----END");
    let end = last.and_then(|last| {
        let tail = part.get(last + 8..)?;
        tail.windows(5).position(|window| window == b"-----").map(|tail| body + last + 8 + tail + 5)
    });
    let is_key = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=\\-:, \r\n\t".contains(byte);
    end.unwrap_or_else(|| body + part.iter().position(|byte| !is_key(byte)).unwrap_or(part.len()))
}

/// A value behind the word that names it.
struct Written {
    at: Range<usize>,
    is_quoted: bool,
}

impl Written {
    /// The value that begins here: up to the quote that closes it, or one word.
    fn at(text: &str, begin: usize, most: usize) -> Self {
        let rest = &text[begin..];
        let unescaped = rest.trim_start_matches('\\');
        let escapes = rest.len() - unescaped.len();
        let Some(quote) = unescaped.chars().next().filter(|c| matches!(c, '"' | '\'' | '`')) else {
            let is_end = |byte: &u8| byte.is_ascii_whitespace() || br#""'`,;&<>(){}[]|\"#.contains(byte);
            let reach = rest.floor_char_boundary(most);
            let length = rest[..reach].bytes().position(|byte| is_end(&byte)).unwrap_or(reach);
            let word = rest[..length].trim_end_matches(['.', ':']);
            return Self { at: begin..begin + word.len(), is_quoted: false };
        };
        let start = begin + escapes + 1;
        let mut was_escape = false;
        let closing = text[start..].char_indices().take(most).find(|(_, c)| {
            // Within JSON within JSON, the quote that closes is escaped as the one that opened was.
            let closes = *c == '\n' || *c == quote && (escapes > 0 || !was_escape);
            was_escape = *c == '\\' && !was_escape;
            closes
        });
        let reach = || text[start..].char_indices().nth(most).map_or(text.len() - start, |(at, _)| at);
        let value = &text[start..start + closing.map_or_else(reach, |(at, _)| at)];
        let value = if escapes > 0 { value.trim_end_matches('\\') } else { value };
        Self { at: start..start + value.len(), is_quoted: true }
    }

    /// `Password: please rotate it` goes on as a sentence.
    fn is_prose(&self, text: &str) -> bool {
        let mut next = text[self.at.end..].chars();
        let goes_on = next.next() == Some(' ') && next.next().is_some_and(char::is_alphabetic);
        !self.is_quoted && goes_on && text[self.at.clone()].bytes().all(|byte| byte.is_ascii_lowercase())
    }

    /// `password=creds()["x"]` and `Token::Open` are lines of a program.
    fn is_code(&self, text: &str) -> bool {
        let (value, after) = (&text[self.at.clone()], &text[self.at.end..]);
        !self.is_quoted && (value.starts_with(':') || after.starts_with(['(', '[', '{']))
    }
}

/// `${PASSWORD}`, `<password>`, `{{ … }}`, `[redacted]`, `***`: where a value will be, or was.
fn is_template(value: &str) -> bool {
    let is_hole = value.starts_with(['$', '<', '{', '%']) || value.contains("${") || value.contains("{{");
    let inside = value.strip_prefix('[').and_then(|value| value.strip_suffix(']'));
    let was_value = inside.is_some_and(|word| word.bytes().all(|byte| byte.is_ascii_lowercase()));
    // JSON may write a dot of an ellipsis as `\u2026`.
    let bare = value.replace("\\u2026", "");
    let first = bare.chars().next();
    let is_one_letter = bare.chars().all(|c| Some(c) == first);
    is_hole || was_value || is_one_letter || !bare.contains(char::is_alphanumeric)
}

/// A word that stands for a value, or names where it is.
fn is_reference(value: &str) -> bool {
    let value = value.to_ascii_lowercase();
    let names = ["password", "passwd", "secret", "token", "api_key", "passphrase"];
    NO_VALUES.contains(&value.as_str())
        || value.len() <= REFERENCE_BYTES_MAX && names.iter().any(|name| value.ends_with(name))
}

/// `PWD=/opt/airflow` is where a shell stands.
fn is_password(value: &str) -> bool {
    let is_path =
        value.starts_with('/') && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/_.-".contains(&byte));
    value.len() >= PASSWORD_BYTES_MIN && !is_path && !is_template(value) && !is_reference(value)
}

/// A key is no word and no name: it mixes figures or cases.
fn is_key(value: &str) -> bool {
    let has = |fits: fn(&u8) -> bool| value.bytes().any(|byte| fits(&byte));
    let letters = has(u8::is_ascii_alphabetic);
    let mixed = has(u8::is_ascii_digit) && letters || has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase);
    let long = value.len() > KEY_WORD_BYTES_MAX && !value.contains(['-', '_', '.', '/', ' ']);
    value.len() >= KEY_BYTES_MIN
        && (mixed || long)
        && !value.contains(' ')
        && !is_template(value)
        && !is_reference(value)
}

/// Names of fields whose value is a secret.
pub(super) struct Fields {
    password: Regex,
    key: Regex,
}

impl Fields {
    pub(super) fn new() -> Result<Self, regex::Error> {
        Ok(Self {
            password: Regex::new(&format!("(?i-u)(?:{PASSWORD})$"))?,
            key: Regex::new(&format!("(?i-u)(?:{KEY})$"))?,
        })
    }

    /// Whether a field of this name has this value for a secret.
    pub(super) fn name_a_secret(&self, field: &str, value: &str) -> bool {
        self.password.is_match(field) && is_password(value) || self.key.is_match(field) && is_key(value)
    }
}
