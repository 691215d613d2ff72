//! Tokens before the call: a count with a public vocabulary, times what the provider's own counts have taught.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::request::{Message, ModelRequest, Part};

/// Text is counted in pieces of this size: the work grows with the text and no faster, whatever the text is.
const PIECE_BYTES: usize = 1024;
/// Beyond this much text each byte is taken for a token, which is never too few.
const COUNTED_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Tokens that a message takes beside its text.
const MESSAGE_TOKENS: u64 = 8;
/// Tokens that a tool takes beside its description and schema.
const TOOL_TOKENS: u64 = 16;
/// Tokens that a request takes in any case.
const REQUEST_TOKENS: u64 = 16;

/// A factor of one.
const ONE: u64 = 1000;
/// Where an unlearned factor stands: vocabularies that are not public count up to a half more on logs and code.
const UNLEARNED: u64 = 1500;
/// Bounds of a learned factor.
const FACTOR: std::ops::RangeInclusive<u64> = 500..=4000;
/// A count has this weight against what was learned, in thousandths.
const WEIGHT: u64 = 200;
/// The highest factor seen is forgotten by this much with each count.
const PEAK_FADES: u64 = 20;
/// Requests shorter than this teach nothing: what stands around them outweighs them.
const TEACHES_FROM: u64 = 64;
/// Models that are remembered.
const MODELS_MAX: usize = 256;

/// Counts tokens. The vocabulary is loaded at the first count (a tenth of a second).
#[derive(Debug, Clone, Copy, Default)]
pub struct TokenCounter;

impl TokenCounter {
    /// Tokens of a text.
    pub fn count(self, text: &str) -> u64 {
        if text.len() > COUNTED_BYTES_MAX {
            return to_u64(text.len());
        }
        let vocabulary = tiktoken_rs::o200k_base_singleton();
        let mut rest = text;
        let mut n = 0;
        while !rest.is_empty() {
            let (piece, others) = rest.split_at(cut_of(rest));
            n += vocabulary.count_ordinary(piece);
            rest = others;
        }
        to_u64(n)
    }

    /// Tokens of everything a request sends.
    pub fn count_request(self, request: &ModelRequest) -> u64 {
        let mut n = REQUEST_TOKENS + self.count(&request.system.text);
        n += request.messages.iter().map(|message| self.count_message(message)).sum::<u64>();
        for tool in &request.tools {
            n += TOOL_TOKENS + self.count(&tool.name) + self.count(&tool.description);
            n += self.count(&tool.parameters.to_string());
        }
        let form = request.output.as_ref().map(|form| form.schema.to_string());
        n + form.map_or(0, |form| TOOL_TOKENS + self.count(&form))
    }

    /// Tokens of one message.
    pub fn count_message(self, message: &Message) -> u64 {
        MESSAGE_TOKENS + message.parts.iter().map(|part| self.count_part(part)).sum::<u64>()
    }

    fn count_part(self, part: &Part) -> u64 {
        match part {
            Part::Text { text } => self.count(text),
            Part::ToolCall { name, arguments, .. } => {
                TOOL_TOKENS + self.count(name) + self.count(&arguments.to_string())
            }
            Part::ToolResult { content, .. } => TOOL_TOKENS + self.count(content),
            Part::Thought { data, .. } => self.count(&data.to_string()),
        }
    }
}

/// Where to cut off a piece: behind a space if there is one, never within a character.
fn cut_of(text: &str) -> usize {
    if text.len() <= PIECE_BYTES {
        return text.len();
    }
    let end = text.floor_char_boundary(PIECE_BYTES);
    let piece = text.get(..end).unwrap_or_default();
    // The vocabulary takes a space to the word behind it.
    match piece.rfind([' ', '\n']) {
        Some(at) if at > PIECE_BYTES / 2 => at,
        _ => end,
    }
}

fn to_u64(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// What the counts of providers have taught, by `provider/model`. Plain data: keep it, and start where it ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Correction {
    factors: BTreeMap<String, Factor>,
}

/// In thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Factor {
    mean: u64,
    peak: u64,
}

impl Correction {
    /// The provider counted `reported` where we counted `counted`.
    pub fn learn(&mut self, model: &str, counted: u64, reported: u64) {
        if counted < TEACHES_FROM || reported == 0 {
            return;
        }
        let seen = (reported.saturating_mul(ONE) / counted).clamp(*FACTOR.start(), *FACTOR.end());
        if let Some(factor) = self.factors.get_mut(model) {
            factor.mean = (factor.mean * (ONE - WEIGHT) + seen * WEIGHT) / ONE;
            factor.peak = seen.max(factor.peak.saturating_sub(PEAK_FADES)).max(factor.mean);
        } else if self.factors.len() < MODELS_MAX {
            self.factors.insert(model.to_owned(), Factor { mean: seen, peak: seen.max(UNLEARNED) });
        }
    }

    /// What the provider will probably count.
    pub fn expected(&self, model: &str, counted: u64) -> u64 {
        let factor = self.factors.get(model).map_or(ONE, |factor| factor.mean);
        counted.saturating_mul(factor) / ONE
    }

    /// What it will count at most; never less than the plain count.
    pub fn worst(&self, model: &str, counted: u64) -> u64 {
        let factor = self.factors.get(model).map_or(UNLEARNED, |factor| factor.peak).max(ONE);
        counted.saturating_mul(factor).div_ceil(ONE)
    }

    /// The highest count of ours whose worst is within `tokens`.
    pub(crate) fn fitting(&self, model: &str, tokens: u64) -> u64 {
        tokens.saturating_mul(ONE) / self.worst(model, ONE)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_texts_have_their_known_counts() {
        let counter = TokenCounter;
        assert_eq!(counter.count(""), 0);
        assert_eq!(counter.count("hello world"), 2);
        assert_eq!(counter.count("tiktoken is great!"), 6);
        let prose = "The pipeline stopped because a column was renamed. ".repeat(200);
        let whole = u64::try_from(tiktoken_rs::o200k_base_singleton().count_ordinary(&prose)).unwrap();
        let pieces = counter.count(&prose);
        assert!(pieces >= whole && pieces <= whole + whole / 50, "{pieces} against {whole}");
    }

    #[test]
    fn a_repeated_text_is_counted_in_a_moment() {
        let counter = TokenCounter;
        counter.count("the vocabulary is loaded");
        for text in ["a".repeat(1_000_000), " ".repeat(1_000_000), "é✓".repeat(200_000)] {
            let begun = Instant::now();
            let n = counter.count(&text);
            assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
            assert!(n > 0 && n <= to_u64(text.len()));
        }
        let huge = "a".repeat(COUNTED_BYTES_MAX + 1);
        assert_eq!(counter.count(&huge), to_u64(huge.len()), "beyond the bound a byte is a token");
    }

    #[test]
    fn everything_that_is_sent_is_counted() {
        let request = ModelRequest::of_text("hello world", 10);
        let plain = TokenCounter.count_request(&request);
        assert_eq!(plain, 16 + 8 + 2);
        let mut with_tool = request.clone();
        with_tool.tools.push(crate::Tool {
            name: "clear".into(),
            description: "clears a task".into(),
            parameters: serde_json::json!({"type": "object"}),
            strict: false,
        });
        assert!(TokenCounter.count_request(&with_tool) > plain + TOOL_TOKENS);
    }

    #[test]
    fn the_factor_follows_the_reports_and_survives_a_restart() {
        let mut correction = Correction::default();
        assert_eq!((correction.expected("p/m", 1000), correction.worst("p/m", 1000)), (1000, 1500));
        for _ in 0..50 {
            correction.learn("p/m", 1000, 1300);
        }
        assert_eq!((correction.expected("p/m", 1000), correction.worst("p/m", 1000)), (1300, 1300));
        correction.learn("p/m", 1000, 1800);
        assert!((1300..1500).contains(&correction.expected("p/m", 1000)), "one count does not decide");
        assert_eq!(correction.worst("p/m", 1000), 1800, "but it may happen again");
        let stored = serde_json::to_string(&correction).unwrap();
        assert_eq!(serde_json::from_str::<Correction>(&stored).unwrap(), correction);
        correction.learn("p/short", 10, 500);
        assert_eq!(correction.expected("p/short", 1000), 1000, "a short request teaches nothing");
    }

    proptest! {
        #[test]
        fn the_worst_case_is_never_below_the_count_and_factors_stay_bounded(
            reports in proptest::collection::vec((0_u64..100_000, 0_u64..10_000_000), 0..40),
            counted in 0_u64..10_000_000,
        ) {
            let mut correction = Correction::default();
            for (counted, reported) in reports {
                correction.learn("p/m", counted, reported);
            }
            let worst = correction.worst("p/m", counted);
            prop_assert!(worst >= counted && worst <= counted.saturating_mul(4) + 1);
            prop_assert!(correction.expected("p/m", counted) <= worst.max(counted));
        }
    }
}
