//! What is remembered, in one form, and how it is cited.

use std::fmt;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

/// Longest id and version of a document.
pub(crate) const NAME_BYTES_MAX: usize = 64;
/// Most tags of a document.
pub(crate) const TAGS_MAX: usize = 32;
/// Longest title, and longest tag.
pub(crate) const LINE_CHARS_MAX: usize = 300;

/// What a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// What to do about a sort of trouble.
    Runbook,
    /// What a table or feed looks like, and who owns it.
    Schema,
    /// A past incident.
    Incident,
}

impl Kind {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Runbook => "runbook",
            Self::Schema => "schema",
            Self::Incident => "incident",
        }
    }
}

/// Something that is remembered.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Its name in citations.
    pub id: String,
    /// What it is.
    pub kind: Kind,
    /// One line.
    pub title: String,
    /// The text as it stands in its file.
    pub text: String,
    /// Line of the file that `text` begins at.
    pub first_line: usize,
    /// As declared; else the head of the content's hash, so that a citation always says which text was read.
    pub version: String,
    /// When it was last said to be true.
    pub updated: Option<Date>,
    /// It must not be followed any more.
    pub deprecated: bool,
    /// Pipelines, causes, classes and error texts that it is about.
    pub tags: Vec<String>,
}

/// Where something stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Citation {
    /// What is cited.
    pub kind: Kind,
    /// Its id.
    pub id: String,
    /// The version that was read.
    pub version: String,
    /// First line.
    pub from_line: usize,
    /// Last line.
    pub to_line: usize,
}

impl fmt::Display for Citation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}@{}, lines {}–{}", self.kind.word(), self.id, self.version, self.from_line, self.to_line)
    }
}

/// A file or line that cannot be used; the others are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize)]
#[error("{place}: {why}")]
pub struct Broken {
    /// File, or file and line.
    pub place: String,
    /// What is wrong with it, and what to do.
    pub why: String,
}

impl Broken {
    pub(crate) fn new(place: impl Into<String>, why: impl Into<String>) -> Self {
        Self { place: place.into(), why: why.into() }
    }
}

/// Letters, digits and `-_.`: a name that stands in a citation without quotes.
pub(crate) fn is_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !text.is_empty() && text.len() <= NAME_BYTES_MAX && text.chars().all(fits)
}

/// One line without control characters, cut at a character.
pub(crate) fn one_line(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(LINE_CHARS_MAX).collect::<String>().trim().to_owned()
}
