//! The values behind the placeholders of one conversation.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{MaskError, MaskKind};

/// Most values of a conversation.
pub(crate) const VALUES_MAX: usize = 4096;
/// Highest number of a placeholder. Text that looks like a placeholder uses numbers up as well.
const NUMBER_MAX: u32 = 65_535;
/// Most bytes of all values together.
const VALUES_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Longest word of a placeholder.
pub(crate) const WORD_BYTES_MAX: usize = 32;
/// Longest placeholder: brackets, word, dash, and five figures.
const PLACEHOLDER_BYTES_MAX: usize = WORD_BYTES_MAX + 8;
/// The form in which a vault is kept.
const VERSION: u32 = 1;

/// The values behind the placeholders of one conversation: the same value has the same placeholder, also after a restart.
///
/// **It holds in the clear what must not get out.** Its serialised form is for an encrypted store or one on this machine,
/// never for a log, a message or a provider; its `Debug` form shows counts.
///
/// A text of a later turn that reads like a placeholder of this vault *is* that placeholder, whoever wrote it: a tool's
/// output may name `[email-1]` and so may a model that was talked into it. What may be restored, and where, is therefore
/// decided by [`Vault::restore`]'s `allowed` for the place the text goes to.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Form", into = "Form")]
pub struct Vault {
    /// By placeholder.
    values: BTreeMap<String, Kept>,
    /// Placeholders by kind and value.
    known: BTreeMap<(String, Kept), String>,
    /// The last number given, by kind.
    last: BTreeMap<String, u32>,
    /// Numbers that stand in texts without being ours, by kind.
    taken: BTreeMap<String, BTreeSet<u32>>,
    bytes: usize,
}

/// What a placeholder stands for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kept {
    pub(crate) value: String,
    /// It was a number of JSON, and becomes one again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) number: bool,
}

/// A vault as it is kept.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    version: u32,
    values: BTreeMap<String, Kept>,
    #[serde(default)]
    taken: BTreeMap<String, BTreeSet<u32>>,
}

impl From<Vault> for Form {
    fn from(vault: Vault) -> Self {
        Self { version: VERSION, values: vault.values, taken: vault.taken }
    }
}

impl TryFrom<Form> for Vault {
    type Error = String;

    /// Says what is wrong without any value.
    fn try_from(form: Form) -> Result<Self, String> {
        if form.version != VERSION {
            return Err(format!("a vault of version {}, this program reads version {VERSION}", form.version));
        }
        let mut vault = Self { taken: form.taken, ..Self::default() };
        for (placeholder, kept) in form.values {
            let Some((_, word, number)) = placeholders(&placeholder).find(|(at, ..)| at.len() == placeholder.len())
            else {
                return Err(format!("a vault's placeholder has {} bytes and no form", placeholder.len()));
            };
            let word = word.to_owned();
            if !vault.fits(&kept) || kept.value.is_empty() {
                return Err(format!("a vault's value at {placeholder} is empty or one too many"));
            }
            let last = vault.last.entry(word.clone()).or_default();
            *last = number.max(*last);
            vault.keep(word, placeholder, kept);
        }
        if vault.known.len() != vault.values.len() {
            return Err("a vault holds a value twice".to_owned());
        }
        Ok(vault)
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("values", &self.values.len()).finish_non_exhaustive()
    }
}

impl Vault {
    /// How many values it holds.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The text with the values of the kinds that are `allowed` where it goes. Placeholders nobody gave stay.
    pub fn restore(&self, text: &str, allowed: &dyn Fn(&MaskKind) -> bool) -> String {
        let mut restored = String::with_capacity(text.len());
        let mut done = 0;
        for (at, word, _) in placeholders(text) {
            let Some(kept) = self.values.get(&text[at.clone()]) else { continue };
            if allowed(&MaskKind::of_word(word)) {
                restored.push_str(&text[done..at.start]);
                restored.push_str(&kept.value);
                done = at.end;
            }
        }
        restored.push_str(&text[done..]);
        restored
    }

    /// The same in every text of a value, names of fields too: gives the arguments of a call the values its tool needs.
    /// Values of JSON are at most as deep as the reader lets them be (128 levels).
    pub fn restore_value(&self, value: &Value, allowed: &dyn Fn(&MaskKind) -> bool) -> Value {
        match value {
            Value::String(text) => self.restore_text(text, allowed),
            Value::Array(items) => items.iter().map(|item| self.restore_value(item, allowed)).collect(),
            Value::Object(fields) => {
                let mut restored = Map::new();
                for (name, field) in fields {
                    let own = self.restore(name, allowed);
                    // Nothing is lost to a name that is there already.
                    let name = if own != *name && fields.contains_key(&own) { name.clone() } else { own };
                    restored.insert(name, self.restore_value(field, allowed));
                }
                Value::Object(restored)
            }
            other => other.clone(),
        }
    }

    fn restore_text(&self, text: &str, allowed: &dyn Fn(&MaskKind) -> bool) -> Value {
        let restored = self.restore(text, allowed);
        let was_number = restored != text && self.values.get(text).is_some_and(|kept| kept.number);
        let number = if was_number { serde_json::from_str(&restored).ok() } else { None };
        number.unwrap_or(Value::String(restored))
    }

    /// Where placeholders of this vault stand in a text.
    pub(crate) fn places(&self, text: &str) -> Vec<Range<usize>> {
        if self.values.is_empty() {
            return Vec::new();
        }
        placeholders(text).map(|(at, ..)| at).filter(|at| self.values.contains_key(&text[at.clone()])).collect()
    }

    /// Keeps numbers of these kinds free that stand in a text already: no value is ever taken for what somebody wrote.
    pub(crate) fn reserve<'a>(&mut self, text: &str, kinds: impl Iterator<Item = &'a MaskKind>) {
        let words: BTreeSet<&str> = kinds.map(MaskKind::word).collect();
        for (at, word, number) in placeholders(text) {
            if words.contains(word) && !self.values.contains_key(&text[at]) {
                self.taken.entry(word.to_owned()).or_default().insert(number);
            }
        }
    }

    /// The placeholder of a value, a new one if it has none.
    pub(crate) fn placeholder(&mut self, kind: &MaskKind, kept: Kept) -> Result<String, MaskError> {
        let word = kind.word().to_owned();
        if let Some(placeholder) = self.known.get(&(word.clone(), kept.clone())) {
            return Ok(placeholder.clone());
        }
        if !self.fits(&kept) {
            return Err(MaskError::Full { values: VALUES_MAX, bytes: VALUES_BYTES_MAX });
        }
        let taken = self.taken.get(&word);
        let last = self.last.get(&word).copied().unwrap_or_default();
        let mut free = (last + 1..=NUMBER_MAX).filter(|number| !taken.is_some_and(|taken| taken.contains(number)));
        let number = free.next().ok_or(MaskError::Full { values: VALUES_MAX, bytes: VALUES_BYTES_MAX })?;
        let placeholder = format!("[{word}-{number}]");
        self.last.insert(word.clone(), number);
        self.keep(word, placeholder.clone(), kept);
        Ok(placeholder)
    }

    fn fits(&self, kept: &Kept) -> bool {
        self.values.len() < VALUES_MAX && self.bytes + kept.value.len() <= VALUES_BYTES_MAX
    }

    fn keep(&mut self, word: String, placeholder: String, kept: Kept) {
        self.bytes += kept.value.len();
        self.known.insert((word, kept.clone()), placeholder.clone());
        self.values.insert(placeholder, kept);
    }
}

/// What reads like a placeholder: where, its word, its number. A number that is never given is none.
fn placeholders(text: &str) -> impl Iterator<Item = (Range<usize>, &str, u32)> {
    text.match_indices('[').filter_map(|(start, _)| {
        let bytes = text.as_bytes();
        let reach = bytes.len().min(start + PLACEHOLDER_BYTES_MAX);
        let end = start + bytes[start..reach].iter().position(|byte| *byte == b']')?;
        let (word, number) = text.get(start + 1..end)?.rsplit_once('-')?;
        let is_number = !number.starts_with('0') && number.bytes().all(|byte| byte.is_ascii_digit());
        let number = number.parse().ok().filter(|number| is_number && (1..=NUMBER_MAX).contains(number))?;
        is_word(word).then_some((start..end + 1, word, number))
    })
}

/// Whether a word may stand in a placeholder.
pub(crate) fn is_word(word: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    word.len() <= WORD_BYTES_MAX && word.starts_with(|c: char| c.is_ascii_lowercase()) && word.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(value: &str) -> Kept {
        Kept { value: value.to_owned(), number: false }
    }

    #[test]
    fn numbers_are_given_by_first_occurrence_and_never_one_that_is_written() {
        let mut vault = Vault::default();
        let kinds = [MaskKind::Email];
        vault.reserve("[email-2] and [email-0] [email-01] [email-70000] [Email-3] [email-4 ] [card-1]", kinds.iter());
        let mut give = |value: &str| vault.placeholder(&MaskKind::Email, kept(value)).unwrap();
        assert_eq!((give("a"), give("b"), give("a")), ("[email-1]".into(), "[email-3]".into(), "[email-1]".into()));
        assert_eq!(give("c"), "[email-4]");
        assert_eq!(vault.placeholder(&MaskKind::Card, kept("a")).unwrap(), "[card-1]", "each kind counts by itself");
    }

    #[test]
    fn only_what_is_allowed_is_restored_and_strangers_stay() {
        let mut vault = Vault::default();
        vault.placeholder(&MaskKind::Email, kept("ann@x.org")).unwrap();
        vault.placeholder(&MaskKind::Card, kept("4111111111111111")).unwrap();
        let text = "[[email-1]] [card-1] [card-2] [email-1";
        assert_eq!(vault.restore(text, &|kind| *kind == MaskKind::Email), "[ann@x.org] [card-1] [card-2] [email-1");
        assert_eq!(vault.restore(text, &|_| false), text);
        let value = serde_json::json!({"[email-1]": ["to [email-1]", 1, null], "ann@x.org": "[card-1]"});
        let restored = vault.restore_value(&value, &|_| true);
        let expected = serde_json::json!({"[email-1]": ["to ann@x.org", 1, null], "ann@x.org": "4111111111111111"});
        assert_eq!(restored, expected);
    }

    #[test]
    fn a_vault_is_bounded_and_shows_nothing() {
        let mut vault = Vault::default();
        for n in 0..VALUES_MAX {
            vault.placeholder(&MaskKind::Secret, kept(&format!("hunter{n}"))).unwrap();
        }
        let full = vault.placeholder(&MaskKind::Secret, kept("one more")).unwrap_err();
        assert!(full.to_string().contains("4096 values") && !full.to_string().contains("one more"), "{full}");
        assert_eq!(
            vault.placeholder(&MaskKind::Secret, kept("hunter7")).unwrap(),
            "[secret-8]",
            "a known one is given"
        );
        assert_eq!(format!("{vault:?}"), "Vault { values: 4096, .. }");
        let mut large = Vault::default();
        assert!(large.placeholder(&MaskKind::Secret, kept(&"x".repeat(VALUES_BYTES_MAX + 1))).is_err());
    }

    #[test]
    fn a_vault_that_is_not_one_is_refused_without_its_values() {
        for (form, expected) in [
            (r#"{"version":2,"values":{}}"#, "version 2"),
            (r#"{"version":1,"values":{"email-1":{"value":"hunter2"}}}"#, "no form"),
            (r#"{"version":1,"values":{"[email-1]":{"value":""}}}"#, "empty"),
            (r#"{"version":1,"values":{"[email-1]":{"value":"hunter2"},"[email-2]":{"value":"hunter2"}}}"#, "twice"),
        ] {
            let problem = serde_json::from_str::<Vault>(form).unwrap_err().to_string();
            assert!(problem.contains(expected) && !problem.contains("hunter2"), "{problem}");
        }
    }
}
