//! Personal data and secrets are replaced by placeholders before a request leaves, and put back where somebody may see them.
//!
//! ```text
//!  ModelRequest ─▶ Masker::mask ─▶ `[email-1]`, `[card-2]` ─▶ provider ─▶ answer ─▶ Masker::found_in, redact
//!                      │ Vault: the values, by placeholder                   └────▶ Vault::restore, restore_value
//! ```
//!
//! What has a checksum is masked only when it checks; what has none needs its own form or the word that names it. Logs of
//! pipelines are full of numbers, and one that is masked by mistake is lost to the diagnosis. The same value, as it is
//! written, has the same placeholder for a whole conversation.

mod find;
mod ids;
mod numbers;
mod people;
mod secrets;
mod vault;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use self::find::{Find, Finder, without};
use self::vault::{Kept, WORD_BYTES_MAX, is_word};
use crate::request::{ModelRequest, Part};

pub use self::vault::Vault;

/// Most custom patterns.
const CUSTOM_MAX: usize = 32;
/// Longest custom pattern.
const PATTERN_BYTES_MAX: usize = 512;
/// Most bytes of a compiled custom pattern.
const COMPILED_BYTES_MAX: usize = 1 << 20;
/// How often a text is looked at again after something was masked. What was masked changes what its neighbours look like;
/// all texts known settle in two.
const PASSES_MAX: usize = 8;
/// Longest name of a field that tells what its value is.
const FIELD_BYTES_MAX: usize = 64;

/// A kind of value that is masked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum MaskKind {
    /// Keys, tokens, passwords.
    Secret,
    /// Numbers of payment cards, by issuer, length and Luhn.
    Card,
    /// International account numbers, by country, length and checksum.
    Iban,
    /// American routing numbers by checksum, and account numbers, beside the words that name them.
    Account,
    /// National ids: SSN, NINO, Steuer-ID, DNI and NIE, codice fiscale, BSN.
    NationalId,
    /// Phone numbers.
    Phone,
    /// E-mail addresses.
    Email,
    /// Addresses of hosts that are not this one. Off unless asked for: a diagnosis needs them.
    Ip,
    /// What a custom pattern finds, by its name.
    Custom(String),
}

/// Every kind with a word of its own. Where two finds overlap, the earlier kind wins, custom patterns right after secrets.
const KINDS: [(MaskKind, &str); 8] = [
    (MaskKind::Secret, "secret"),
    (MaskKind::Iban, "iban"),
    (MaskKind::Card, "card"),
    (MaskKind::NationalId, "national_id"),
    (MaskKind::Account, "account"),
    (MaskKind::Phone, "phone"),
    (MaskKind::Email, "email"),
    (MaskKind::Ip, "ip"),
];

impl MaskKind {
    /// Its word in placeholders and in the configuration.
    pub fn word(&self) -> &str {
        if let Self::Custom(name) = self {
            return name;
        }
        KINDS.iter().find(|(kind, _)| kind == self).map_or("", |(_, word)| word)
    }

    pub(crate) fn of_word(word: &str) -> Self {
        let kind = KINDS.iter().find(|(_, own)| *own == word).map(|(kind, _)| kind.clone());
        kind.unwrap_or_else(|| Self::Custom(word.to_owned()))
    }
}

impl From<String> for MaskKind {
    fn from(word: String) -> Self {
        Self::of_word(&word)
    }
}

impl From<MaskKind> for String {
    fn from(kind: MaskKind) -> Self {
        kind.word().to_owned()
    }
}

impl fmt::Display for MaskKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The part `masking:` of the configuration. Closed: an unknown key is an error.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaskRules {
    /// Kinds that are masked; none given is all but `ip`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kinds: Option<BTreeSet<MaskKind>>,
    /// Own patterns by name, which is the word of their placeholders. They are looked for line by line.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub custom: BTreeMap<String, String>,
}

/// Why rules cannot be used, or a text cannot be masked. Holds no text that was to be masked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MaskError {
    /// A rule is wrong.
    #[error("masking.{place}: {problem}")]
    Rule {
        /// Where.
        place: String,
        /// What, and what to do.
        problem: String,
    },
    /// The conversation has more values than can be kept.
    #[error(
        "nothing was sent: the conversation holds more than {values} values or {bytes} bytes to mask; shorten what the tools bring"
    )]
    Full {
        /// Most values.
        values: usize,
        /// Most bytes.
        bytes: usize,
    },
    /// Two fields of an object would have one name.
    #[error("nothing was sent: a field and the placeholder of another field's name are the same; rename the field")]
    SameField,
    /// The request has no form as JSON.
    #[error("nothing was sent: the request cannot be written as JSON")]
    Unwritable,
}

/// Something that is to be masked, without what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub kind: MaskKind,
    /// Where it stands, in bytes of the text.
    pub at: Range<usize>,
}

/// Finds and masks. Made once; every use takes time linear in the text.
pub struct Masker {
    finders: Vec<FinderOf>,
    fields: Option<secrets::Fields>,
}

type FinderOf = (MaskKind, Box<dyn Finder>);

impl fmt::Debug for Masker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.kinds()).finish()
    }
}

impl Masker {
    /// A masker by rules.
    ///
    /// # Errors
    /// The first rule that is wrong: an unknown kind, a name, number, length or size out of bounds, a pattern that is none.
    pub fn new(rules: &MaskRules) -> Result<Self, MaskError> {
        let is_on = |kind: &MaskKind| match &rules.kinds {
            Some(kinds) => kinds.contains(kind),
            None => *kind != MaskKind::Ip,
        };
        if let Some(MaskKind::Custom(name)) =
            rules.kinds.iter().flatten().find(|kind| matches!(kind, MaskKind::Custom(_)))
        {
            let all: Vec<&str> = KINDS.iter().map(|(_, word)| *word).collect();
            return Err(rule("kinds", format!("there is no kind `{name}`; there are: {}", all.join(", "))));
        }
        let mut finders: Vec<FinderOf> = Vec::new();
        for (kind, word) in KINDS.iter().filter(|(kind, _)| is_on(kind)) {
            let finder = built_in(kind).map_err(|problem| rule(word, problem.to_string()))?;
            finders.push((kind.clone(), finder));
        }
        let behind_secrets = usize::from(is_on(&MaskKind::Secret));
        finders.splice(behind_secrets..behind_secrets, custom(&rules.custom)?);
        let fields = is_on(&MaskKind::Secret).then(secrets::Fields::new).transpose();
        Ok(Self { finders, fields: fields.map_err(|problem| rule("secret", problem.to_string()))? })
    }

    /// The request with placeholders for everything that is found in its texts: what stands before the conversation, texts,
    /// arguments and results of calls, descriptions and schemas, stop words. A provider's own thoughts stay as they are:
    /// they go back to whom they came from, who would refuse them changed.
    ///
    /// # Errors
    /// The vault is full, or two fields would have one name; then nothing may be sent.
    pub fn mask(&self, vault: &mut Vault, request: &ModelRequest) -> Result<ModelRequest, MaskError> {
        // A placeholder has no character that JSON escapes: one look finds all that stand in any text.
        vault.reserve(&serde_json::to_string(request).map_err(|_| MaskError::Unwritable)?, self.kinds());
        let mut masked = request.clone();
        self.mask_in(vault, &mut masked.system.text)?;
        for part in masked.messages.iter_mut().flat_map(|message| &mut message.parts) {
            self.mask_part(vault, part)?;
        }
        for tool in &mut masked.tools {
            self.mask_in(vault, &mut tool.description)?;
            self.mask_value(vault, &mut tool.parameters, "")?;
        }
        if let Some(output) = &mut masked.output {
            self.mask_value(vault, &mut output.schema, "")?;
        }
        masked.stop.iter_mut().try_for_each(|word| self.mask_in(vault, word))?;
        Ok(masked)
    }

    /// A text with placeholders, for what is kept or shown beside requests.
    ///
    /// # Errors
    /// The vault is full.
    pub fn mask_text(&self, vault: &mut Vault, text: &str) -> Result<String, MaskError> {
        vault.reserve(text, self.kinds());
        let mut masked = text.to_owned();
        self.mask_in(vault, &mut masked)?;
        Ok(masked)
    }

    /// Looks again, in what a model said: what is found and where, never the value.
    pub fn found_in(&self, text: &str) -> Vec<Finding> {
        let finding =
            |find: Find| self.finders.get(find.rank).map(|(kind, _)| Finding { kind: kind.clone(), at: find.at });
        self.finds(text).into_iter().filter_map(finding).collect()
    }

    /// An answer without the personal data and secrets it brings by itself: each becomes its kind, for good.
    pub fn redact(&self, text: &str) -> String {
        let mut redacted = String::with_capacity(text.len());
        let mut done = 0;
        for Finding { kind, at } in self.found_in(text) {
            redacted.push_str(&text[done..at.start]);
            redacted.push_str(&format!("[{kind}]"));
            done = at.end;
        }
        redacted.push_str(&text[done..]);
        redacted
    }

    /// Weakened: a card needs no checksum.
    #[cfg(test)]
    pub(crate) fn without_luhn(mut self) -> Self {
        for (kind, finder) in self.finders.iter_mut().filter(|(kind, _)| *kind == MaskKind::Card) {
            *finder = Box::new(numbers::Cards::new(|_| true).unwrap_or_else(|problem| panic!("{kind}: {problem}")));
        }
        self
    }

    fn mask_part(&self, vault: &mut Vault, part: &mut Part) -> Result<(), MaskError> {
        match part {
            Part::Text { text } => self.mask_in(vault, text),
            Part::ToolResult { content, .. } => self.mask_in(vault, content),
            Part::ToolCall { arguments, .. } => self.mask_value(vault, arguments, ""),
            Part::Thought { .. } => Ok(()),
        }
    }

    /// Masks every text of a value, names of fields too. A name tells what its value is: `{"password": "…"}`.
    fn mask_value(&self, vault: &mut Vault, value: &mut Value, field: &str) -> Result<(), MaskError> {
        match value {
            Value::String(text) if self.is_secret(field, text) => {
                // What is a placeholder within it stays one.
                let finds = without(vec![Find { rank: 0, at: 0..text.len() }], &vault.places(text), text);
                *text = self.replaced(vault, text, &finds)?;
            }
            Value::String(text) => self.mask_field(vault, field, text)?,
            Value::Number(number) => {
                let mut text = number.to_string();
                if let Some(kind) = self.kind_of_whole(field, &text) {
                    text = vault.placeholder(&kind, Kept { value: text, number: true })?;
                    *value = Value::String(text);
                }
            }
            Value::Array(items) => items.iter_mut().try_for_each(|item| self.mask_value(vault, item, field))?,
            Value::Object(fields) => {
                let mut masked = Map::new();
                for (mut name, mut value) in std::mem::take(fields) {
                    self.mask_value(vault, &mut value, &name)?;
                    self.mask_in(vault, &mut name)?;
                    if masked.insert(name, value).is_some() {
                        return Err(MaskError::SameField);
                    }
                }
                *fields = masked;
            }
            Value::Null | Value::Bool(_) => {}
        }
        Ok(())
    }

    fn is_secret(&self, field: &str, text: &str) -> bool {
        self.fields.as_ref().is_some_and(|fields| fields.name_a_secret(field, text))
    }

    /// What a number of JSON is as a whole.
    fn kind_of_whole(&self, field: &str, number: &str) -> Option<MaskKind> {
        let head = head_of(field);
        let whole = head.len()..head.len() + number.len();
        self.found_in(&format!("{head}{number}")).into_iter().find(|found| found.at == whole).map(|found| found.kind)
    }

    /// A text of a field is read behind the field's name, as it would stand in a line.
    fn mask_field(&self, vault: &mut Vault, field: &str, text: &mut String) -> Result<(), MaskError> {
        self.mask_in(vault, text)?;
        let head = head_of(field);
        if head.is_empty() {
            return Ok(());
        }
        for _ in 0..PASSES_MAX {
            let line = format!("{head}{text}");
            let finds = without(self.finds(&line), &vault.places(&line), &line);
            let own = |find: Find| {
                (find.at.start >= head.len())
                    .then(|| Find { at: find.at.start - head.len()..find.at.end - head.len(), ..find })
            };
            let finds: Vec<Find> = finds.into_iter().filter_map(own).collect();
            if finds.is_empty() {
                break;
            }
            *text = self.replaced(vault, text, &finds)?;
        }
        Ok(())
    }

    fn mask_in(&self, vault: &mut Vault, text: &mut String) -> Result<(), MaskError> {
        for _ in 0..PASSES_MAX {
            let finds = without(self.finds(text), &vault.places(text), text);
            if finds.is_empty() {
                break;
            }
            *text = self.replaced(vault, text, &finds)?;
        }
        Ok(())
    }

    fn kinds(&self) -> impl Iterator<Item = &MaskKind> {
        self.finders.iter().map(|(kind, _)| kind)
    }

    fn finds(&self, text: &str) -> Vec<Find> {
        find::all(self.finders.iter().map(|(_, finder)| finder.as_ref()), text)
    }

    /// The text with a placeholder for each find, in order.
    fn replaced(&self, vault: &mut Vault, text: &str, finds: &[Find]) -> Result<String, MaskError> {
        let mut masked = String::with_capacity(text.len());
        let mut done = 0;
        for Find { rank, at } in finds {
            let Some((kind, _)) = self.finders.get(*rank) else { continue };
            masked.push_str(&text[done..at.start]);
            let value = text[at.clone()].to_owned();
            masked.push_str(&vault.placeholder(kind, Kept { value, number: false })?);
            done = at.end;
        }
        masked.push_str(&text[done..]);
        Ok(masked)
    }
}

fn head_of(field: &str) -> String {
    if field.is_empty() || field.len() > FIELD_BYTES_MAX { String::new() } else { format!("{field}: ") }
}

fn built_in(kind: &MaskKind) -> Result<Box<dyn Finder>, regex::Error> {
    Ok(match kind {
        MaskKind::Secret => Box::new(secrets::Secrets::new()?),
        MaskKind::Card => Box::new(numbers::Cards::new(numbers::luhn)?),
        MaskKind::Iban => Box::new(numbers::Ibans::new()?),
        MaskKind::Account => Box::new(numbers::Accounts::new()?),
        MaskKind::NationalId => Box::new(ids::NationalIds::new()?),
        MaskKind::Phone => Box::new(people::Phones::new()?),
        MaskKind::Email => Box::new(people::Emails),
        MaskKind::Ip | MaskKind::Custom(_) => Box::new(people::Ips::new()?),
    })
}

fn custom(patterns: &BTreeMap<String, String>) -> Result<Vec<FinderOf>, MaskError> {
    if patterns.len() > CUSTOM_MAX {
        return Err(rule("custom", format!("{} patterns, {CUSTOM_MAX} are possible", patterns.len())));
    }
    let mut finders: Vec<FinderOf> = Vec::new();
    for (name, pattern) in patterns {
        let wrong = |problem: String| rule(&format!("custom.{}", name.escape_debug()), problem);
        if !is_word(name) || KINDS.iter().any(|(_, word)| word == name) {
            let form = format!(
                "a name is up to {WORD_BYTES_MAX} of a-z, 0-9 and _, begins with a letter, and is no kind's own"
            );
            return Err(wrong(form));
        }
        if pattern.len() > PATTERN_BYTES_MAX {
            return Err(wrong(format!("{} bytes, {PATTERN_BYTES_MAX} are possible", pattern.len())));
        }
        let pattern = regex::RegexBuilder::new(pattern).size_limit(COMPILED_BYTES_MAX).build();
        let pattern = pattern.map_err(|problem| wrong(problem.to_string()))?;
        if pattern.is_match("") {
            return Err(wrong("it matches a text of nothing; make it ask for a character".to_owned()));
        }
        finders.push((MaskKind::Custom(name.clone()), Box::new(find::Custom(pattern))));
    }
    Ok(finders)
}

fn rule(place: &str, problem: String) -> MaskError {
    MaskError::Rule { place: place.to_owned(), problem }
}
