//! Judgement by a model, where the rules are not sure: asked in tiers, held to a form, weighed against the evidence.
//!
//! ```text
//!  rules ─not sure─▶ climb ─▶ talk ─▶ turn ─▶ models::Tiers          a turn is one call in the journal, its worst case
//!                      ▲        └ tools: reads of the role's reach      reserved before and its cost settled after
//!                      └── weigh ◀── opinion
//! ```
//!
//! A model names causes; it never acts, and it cannot make a case that the evidence does not make: see [`opinion`]. What
//! tools and logs say reaches it as data, with secrets hidden and personal data masked.

mod answers;
mod assistant;
mod batched;
mod climb;
mod opinion;
mod sample;
mod talk;
mod team;
mod turn;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use models::{MaskRules, Masker, Tiers};
use runtime_core::error::TaskError;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::estate::render_text;

pub use answers::Answers;
pub(crate) use assistant::assist;
pub use climb::Step;
pub(crate) use climb::diagnose;

/// The tier that asks no model.
pub const RULES: &str = "rules";
/// The highest tier an installation has, whatever it is called there.
pub const TOP: &str = "top";
/// Digits of a prompt's version.
const VERSION_DIGITS: usize = 12;
/// Longest prompt file.
pub const PROMPT_BYTES_MAX: usize = 64 * 1024;
/// Prompts that ship, by name.
const SHIPPED: [(&str, &str); 5] = [
    ("assistant", include_str!("../prompts/assistant.j2")),
    ("critic", include_str!("../prompts/critic.j2")),
    ("diagnostic", include_str!("../prompts/diagnostic.j2")),
    ("planner", include_str!("../prompts/planner.j2")),
    ("step", include_str!("../prompts/step.j2")),
];

/// The prompts that ship, by name.
pub fn shipped_prompts() -> impl Iterator<Item = (&'static str, &'static str)> {
    SHIPPED.into_iter()
}

/// The version of a prompt: the first digits of the digest of its text.
pub fn prompt_version(text: &str) -> String {
    hex::encode(Sha256::digest(text.as_bytes())).chars().take(VERSION_DIGITS).collect()
}

/// Why a prompt cannot be used, if so: it is rendered with the form of an answer and whether there is a memory, and
/// whether something was noted.
pub fn prompt_problem(text: &str) -> Option<String> {
    render_text("prompt", text, &json!({"form": "{}", "remembers": true, "knows": true}))
        .err()
        .map(|error| error.message)
}

/// The models of an installation and what they are told.
#[derive(Clone)]
pub struct Mind {
    tiers: Arc<Tiers>,
    prompts: BTreeMap<String, String>,
    masker: Arc<Masker>,
    answers: Option<Arc<Answers>>,
}

impl fmt::Debug for Mind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mind").field("tiers", &self.tiers).finish_non_exhaustive()
    }
}

impl Mind {
    /// Models with the prompts that ship; `own` prompts go before those and beside them. `masking` says what is masked.
    ///
    /// # Errors
    /// A prompt is too long, or a pattern of `masking` cannot be used.
    pub fn new(tiers: Arc<Tiers>, own: BTreeMap<String, String>, masking: &MaskRules) -> Result<Self, String> {
        let masker = Arc::new(Masker::new(masking).map_err(|error| format!("masking: {error}"))?);
        let mut prompts: BTreeMap<String, String> =
            SHIPPED.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        prompts.extend(own);
        match prompts.iter().find(|(_, text)| text.len() > PROMPT_BYTES_MAX) {
            Some((name, _)) => Err(format!("prompt `{name}` has more than {PROMPT_BYTES_MAX} bytes")),
            None => Ok(Self { tiers, prompts, masker, answers: None }),
        }
    }

    /// The same, and what was answered before is not asked again.
    #[must_use]
    pub fn with_answers(self, answers: Option<Answers>) -> Self {
        Self { answers: answers.map(Arc::new), ..self }
    }

    /// The models.
    pub fn tiers(&self) -> &Tiers {
        &self.tiers
    }

    fn answers(&self) -> Option<&Answers> {
        self.answers.as_deref()
    }

    fn prompt(&self, name: &str) -> Result<&str, TaskError> {
        self.prompts.get(name).map(String::as_str).ok_or_else(|| {
            let known: Vec<&str> = self.prompts.keys().map(String::as_str).collect();
            TaskError::invalid(format!("there is no prompt `{name}`; prompts are {}", known.join(", ")))
        })
    }
}

/// The beginning of a text, cut at a character.
pub(crate) fn beginning(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((at, _)) => format!("{}… [cut]", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}
