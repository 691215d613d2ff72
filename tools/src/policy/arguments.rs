//! What one argument must be for a rule to match: tests that take linear time and never guess a type.

use regex::{Regex, RegexBuilder};
use runtime_core::interlocks::guard::pattern_fits;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Longest pattern in bytes.
pub(super) const PATTERN_BYTES_MAX: usize = 256;
/// Longest text that is matched; a longer one fits nothing.
const TEXT_BYTES_MAX: usize = 64 * 1024;
/// Largest compiled expression in bytes.
const COMPILED_BYTES_MAX: usize = 256 * 1024;

/// What one argument must be. An argument that is absent, or of another type, fails its test.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum ArgumentTest {
    /// Text that fits one of these patterns (`*` stands for any text).
    OneOf(Vec<String>),
    /// Everything that is said of it holds.
    All(Conditions),
}

/// Conditions of one argument; each that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conditions {
    /// Exactly this value, of this type.
    #[serde(default)]
    pub equals: Option<Value>,
    /// One of these values.
    #[serde(default, rename = "in")]
    pub one_of: Option<Vec<Value>>,
    /// Text that this expression matches from its first to its last character.
    #[serde(default)]
    pub matches: Option<Expression>,
    /// An absolute path inside this folder, spelt so that nothing leads out of it again.
    #[serde(default)]
    pub under: Option<String>,
    /// An `https` address of one of these hosts (`*.example.com` stands for any below), without user, port or tricks.
    #[serde(default)]
    pub hosts: Option<Vec<String>>,
    /// Not this. An argument that is absent, or of another type, is not this either: for rules that deny or ask.
    #[serde(default)]
    pub not: Option<Box<ArgumentTest>>,
    /// A number of at least this.
    #[serde(default, alias = "at_least")]
    pub min: Option<f64>,
    /// A number of at most this.
    #[serde(default, alias = "at_most")]
    pub max: Option<f64>,
}

/// A regular expression for a whole text. The engine has no backtracking: time is linear in the text.
#[derive(Debug, Clone)]
pub struct Expression {
    source: String,
    compiled: Regex,
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Expression {
    /// # Errors
    /// If it is no regular expression, or too large.
    pub fn new(source: &str) -> Result<Self, String> {
        if source.len() > PATTERN_BYTES_MAX {
            return Err(format!("`matches` is longer than {PATTERN_BYTES_MAX} bytes"));
        }
        let whole = format!(r"\A(?:{source})\z");
        let compiled = RegexBuilder::new(&whole).size_limit(COMPILED_BYTES_MAX).build();
        let compiled = compiled.map_err(|error| format!("`matches: {source}` cannot be used: {error}"))?;
        Ok(Self { source: source.to_owned(), compiled })
    }

    fn fits(&self, text: &str) -> bool {
        text.len() <= TEXT_BYTES_MAX && self.compiled.is_match(text)
    }
}

impl<'de> Deserialize<'de> for Expression {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl ArgumentTest {
    /// Whether the argument, or its absence, is what it must be.
    pub fn holds(&self, value: Option<&Value>) -> bool {
        let Some(value) = value else {
            return matches!(self, Self::All(conditions) if conditions.is_only_not());
        };
        match self {
            Self::OneOf(patterns) => value
                .as_str()
                .is_some_and(|text| text.len() <= TEXT_BYTES_MAX && patterns.iter().any(|p| pattern_fits(p, text))),
            Self::All(conditions) => conditions.hold(value),
        }
    }

    /// Why this test cannot mean what it says.
    pub(super) fn problem(&self) -> Option<String> {
        match self {
            Self::OneOf(patterns) => {
                let long = patterns.iter().any(|pattern| pattern.len() > PATTERN_BYTES_MAX);
                long.then(|| format!("a pattern is longer than {PATTERN_BYTES_MAX} bytes"))
            }
            Self::All(conditions) if *conditions == Conditions::default() => {
                Some("a test without a condition would hold for anything; name one".to_owned())
            }
            Self::All(Conditions { min: Some(min), max: Some(max), .. }) if min > max => {
                Some(format!("no number is at least {min} and at most {max}"))
            }
            Self::All(_) => None,
        }
    }
}

impl Conditions {
    fn hold(&self, value: &Value) -> bool {
        let number = value.as_f64().filter(|_| value.is_number());
        self.equals.as_ref().is_none_or(|wanted| wanted == value)
            && self.one_of.as_ref().is_none_or(|all| all.contains(value))
            && self.matches.as_ref().is_none_or(|wanted| value.as_str().is_some_and(|text| wanted.fits(text)))
            && self.under.as_ref().is_none_or(|root| value.as_str().is_some_and(|path| is_under(path, root)))
            && self.hosts.as_ref().is_none_or(|hosts| value.as_str().is_some_and(|url| is_of_host(url, hosts)))
            && self.not.as_ref().is_none_or(|test| !test.holds(Some(value)))
            && self.min.is_none_or(|min| number.is_some_and(|number| number >= min))
            && self.max.is_none_or(|max| number.is_some_and(|number| number <= max))
    }
}

impl Conditions {
    fn is_only_not(&self) -> bool {
        self.not.is_some() && Self { not: None, ..self.clone() } == Self::default()
    }
}

/// Whether a path is inside a folder, by its spelling alone: no empty, `.` or `..` part, no other separator, nothing encoded.
fn is_under(path: &str, root: &str) -> bool {
    let Some(inner) = path.strip_prefix(root.trim_end_matches('/')).and_then(|rest| rest.strip_prefix('/')) else {
        return false;
    };
    let is_odd = |c: char| c.is_control() || matches!(c, '\\' | '%' | '~');
    path.len() <= TEXT_BYTES_MAX
        && !inner.contains(is_odd)
        && inner.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// Whether an address is one of these hosts, by its spelling alone.
fn is_of_host(url: &str, hosts: &[String]) -> bool {
    let is_odd = |c: char| c.is_control() || c.is_whitespace() || c == '\\';
    if url.len() > TEXT_BYTES_MAX || url.contains(is_odd) {
        return false;
    }
    let Some(rest) = url.strip_prefix("https://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.strip_suffix(":443").unwrap_or(authority).to_ascii_lowercase();
    let is_plain = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'));
    is_plain
        && hosts.iter().any(|wanted| match wanted.strip_prefix("*.") {
            Some(below) => host.strip_suffix(below).is_some_and(|head| head.len() > 1 && head.ends_with('.')),
            None => host == *wanted,
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn test(yaml: &str) -> ArgumentTest {
        serde_saphyr::from_str(yaml).unwrap()
    }

    #[test]
    fn an_argument_is_what_it_must_be_in_value_and_type() {
        for (written, value, expected) in [
            ("[src_*]", json!("src_flights"), true),
            ("[src_*]", json!(["src_flights"]), false),
            ("{equals: list}", json!("list"), true),
            ("{equals: list}", json!("List"), false),
            ("{equals: 5}", json!(5), true),
            ("{equals: 5}", json!("5"), false),
            ("{in: [list, get, 3]}", json!(3), true),
            ("{in: [list, get]}", json!("delete"), false),
            ("{in: [list, get]}", json!({"list": 1}), false),
            ("{matches: '[a-z]+'}", json!("abc"), true),
            ("{matches: '[a-z]+'}", json!("abc; drop"), false),
            ("{matches: 'a|b'}", json!("ac"), false),
            ("{matches: 'a|b'}", json!("b\n"), false),
            ("{matches: '.*'}", json!(1), false),
            ("{max: 10}", json!(10), true),
            ("{max: 10}", json!(10.5), false),
            ("{max: 10}", json!("9"), false),
            ("{max: 10}", json!(true), false),
            ("{min: 1, max: 3}", json!(0), false),
            ("{at_least: 1, at_most: 3}", json!(2), true),
            ("{in: [a, bb], matches: b+}", json!("bb"), true),
            ("{in: [a, bb], matches: b+}", json!("a"), false),
            ("{under: /srv/data}", json!("/srv/data/a/b.txt"), true),
            ("{under: /srv/data/}", json!("/srv/data/a"), true),
            ("{under: /srv/data}", json!("/srv/data"), false),
            ("{under: /srv/data}", json!("/srv/data/../x"), false),
            ("{under: /srv/data}", json!("/srv/data/./x"), false),
            ("{under: /srv/data}", json!("/srv/data//x"), false),
            ("{under: /srv/data}", json!("/srv/database/x"), false),
            ("{under: /srv/data}", json!("/srv/data/%2e%2e/x"), false),
            ("{hosts: [a.test]}", json!("https://a.test/x?y#z"), true),
            ("{hosts: [a.test]}", json!("https://A.test:443/x"), true),
            ("{hosts: ['*.a.test']}", json!("https://b.a.test"), true),
            ("{hosts: ['*.a.test']}", json!("https://a.test"), false),
            ("{hosts: [a.test]}", json!("http://a.test/"), false),
            ("{hosts: [a.test]}", json!("https://a.test@b.test/"), false),
            ("{hosts: [a.test]}", json!("https://a.test:8443/"), false),
            ("{hosts: [a.test]}", json!("https://a.test.b.test/"), false),
            ("{hosts: [a.test]}", json!("https://a.test\\@b.test/"), false),
            ("{not: {hosts: [a.test]}}", json!("https://b.test/"), true),
            ("{not: {hosts: [a.test]}}", json!(["https://a.test/"]), true),
            ("{not: {hosts: [a.test]}}", json!("https://a.test/"), false),
        ] {
            assert_eq!(test(written).holds(Some(&value)), expected, "{written} on {value}");
        }
    }

    #[test]
    fn an_absent_argument_fails_every_test_but_not() {
        assert!(
            !test("{equals: 1}").holds(None) && !test("[a]").holds(None) && !test("{not: [a], max: 1}").holds(None)
        );
        assert!(test("{not: {max: 1}}").holds(None));
    }

    #[test]
    fn an_expression_is_linear_and_bounded() {
        let slow = Expression::new("(a*)*b").unwrap();
        let begun = std::time::Instant::now();
        assert!(!slow.fits(&"a".repeat(TEXT_BYTES_MAX)));
        assert!(begun.elapsed() < std::time::Duration::from_secs(5));
        assert!(!Expression::new(".*").unwrap().fits(&"a".repeat(TEXT_BYTES_MAX + 1)));
        assert!(Expression::new("(").is_err() && Expression::new(&"a".repeat(PATTERN_BYTES_MAX + 1)).is_err());
        assert!(Expression::new("(?:a{1000}){1000}").is_err(), "too large when compiled");
    }
}
