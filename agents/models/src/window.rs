//! A conversation within the window of its model: what is old makes room, and nothing that belongs together is parted.
//!
//! ```text
//!  question │ turn 1 │ turn 2 │ … │ turn n        a turn is what the model said with everything that came of it
//!
//!  1  results of the older turns are cleared, the oldest first       the calls stay, so the model can ask again
//!  2  whole older turns are left out, the oldest first               a summary stands in their place
//!  3  results of the kept turns but the last are cleared
//! ```
//!
//! Pure: the same messages give the same conversation, so one that is built again after a restart is the same. The first
//! message is the question and always stays; so do the last turns.

use std::collections::BTreeMap;

use crate::request::{Message, Part, Role};
use crate::tokens::TokenCounter;

/// What stands where an old result was.
pub const CLEARED: &str = "[cleared to make room; call the tool again if it is needed]";
/// Most tools that a summary names.
const NAMED_MAX: usize = 16;
/// Most of a text of the model in a summary, in characters.
const SAID_CHARS_MAX: usize = 200;
/// Most texts of the model in a summary, the latest.
const SAID_MAX: usize = 4;

/// What a conversation may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Most tokens of all messages.
    pub tokens_max: u64,
    /// The last turns, which stay whole as long as there is any other way.
    pub turns_kept: usize,
}

/// A conversation that was looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct Fitted {
    /// What is sent.
    pub messages: Vec<Message>,
    /// Its tokens.
    pub tokens: u64,
    /// Results that were cleared.
    pub n_cleared: usize,
    /// Turns that were left out.
    pub n_left_out: usize,
    /// Whether it keeps the window; if not, nothing more can go.
    pub fits: bool,
}

/// A turn: its messages and what they take.
#[derive(Debug, Clone)]
struct Turn {
    messages: Vec<Message>,
    tokens: u64,
}

impl Turn {
    fn clear(&mut self) -> usize {
        let mut n_cleared = 0;
        for part in self.messages.iter_mut().flat_map(|message| &mut message.parts) {
            if let Part::ToolResult { content, .. } = part
                && content.len() > CLEARED.len()
            {
                CLEARED.clone_into(content);
                n_cleared += 1;
            }
        }
        self.tokens = tokens_of(&self.messages);
        n_cleared
    }
}

impl Window {
    /// The conversation as it may be sent.
    pub fn fit(self, messages: &[Message]) -> Fitted {
        let (head, mut turns) = split(messages);
        let n_turns = turns.len();
        let head_tokens = tokens_of(&head);
        let mut total = head_tokens + turns.iter().map(|turn| turn.tokens).sum::<u64>();
        let mut n_cleared = 0;
        let older = n_turns.saturating_sub(self.turns_kept.max(1));
        clear_from(turns.iter_mut().take(older), self.tokens_max, &mut total, &mut n_cleared);
        let (mut left_out, mut summary): (Vec<Turn>, Option<Message>) = (Vec::new(), None);
        while total > self.tokens_max && left_out.len() < older {
            left_out.push(turns.remove(0));
            summary = Some(summary_of(&left_out));
            total = head_tokens
                + turns.iter().map(|turn| turn.tokens).sum::<u64>()
                + summary.iter().map(|message| tokens_of(std::slice::from_ref(message))).sum::<u64>();
        }
        let all_but_last = turns.len().saturating_sub(1);
        clear_from(turns.iter_mut().take(all_but_last), self.tokens_max, &mut total, &mut n_cleared);
        let mut sent = head;
        if let Some(summary) = summary {
            // The question is a user's and so is the summary: one message, because roles alternate.
            match sent.last_mut().filter(|last| last.role == Role::User) {
                Some(last) => last.parts.extend(summary.parts),
                None => sent.push(summary),
            }
        }
        sent.extend(turns.into_iter().flat_map(|turn| turn.messages));
        let tokens = tokens_of(&sent);
        Fitted { messages: sent, tokens, n_cleared, n_left_out: left_out.len(), fits: tokens <= self.tokens_max }
    }
}

/// Clears turns from the oldest on until everything fits.
fn clear_from<'a>(turns: impl Iterator<Item = &'a mut Turn>, max: u64, total: &mut u64, n_cleared: &mut usize) {
    for turn in turns {
        if *total <= max {
            return;
        }
        let before = turn.tokens;
        *n_cleared += turn.clear();
        *total = total.saturating_sub(before.saturating_sub(turn.tokens));
    }
}

/// What stands before the model's first word, and the turns after it.
fn split(messages: &[Message]) -> (Vec<Message>, Vec<Turn>) {
    let begins = |message: &Message| message.role == Role::Assistant;
    let n_head = messages.iter().position(begins).unwrap_or(messages.len());
    let (head, rest) = messages.split_at(n_head);
    let mut turns: Vec<Turn> = Vec::new();
    for message in rest {
        match turns.last_mut() {
            Some(turn) if !begins(message) => turn.messages.push(message.clone()),
            _ => turns.push(Turn { messages: vec![message.clone()], tokens: 0 }),
        }
    }
    for turn in &mut turns {
        turn.tokens = tokens_of(&turn.messages);
    }
    (head.to_vec(), turns)
}

fn tokens_of(messages: &[Message]) -> u64 {
    messages.iter().map(|message| TokenCounter.count_message(message)).sum()
}

/// What was in the turns that are left out: which tools were called, and what the model said last. Made of the conversation
/// alone, without asking anybody.
fn summary_of(turns: &[Turn]) -> Message {
    let (mut calls, mut said): (BTreeMap<&str, usize>, Vec<String>) = (BTreeMap::new(), Vec::new());
    for part in turns.iter().flat_map(|turn| &turn.messages).flat_map(|message| match message.role {
        Role::Assistant => message.parts.as_slice(),
        Role::User => &[],
    }) {
        match part {
            Part::ToolCall { name, .. } => *calls.entry(name).or_default() += 1,
            Part::Text { text } if !text.trim().is_empty() => {
                said.push(text.trim().chars().take(SAID_CHARS_MAX).collect());
            }
            _ => {}
        }
    }
    let calls: Vec<String> = calls.iter().take(NAMED_MAX).map(|(name, n)| format!("{name} ({n})")).collect();
    let calls = if calls.is_empty() { "none".to_owned() } else { calls.join(", ") };
    let kept = said.len().saturating_sub(SAID_MAX);
    let said: String = said.iter().skip(kept).map(|text| format!("\nYou said: {text}")).collect();
    let n = turns.len();
    Message::user(format!("[{n} earlier turns were left out to make room. Tools called in them: {calls}.{said}]"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::ModelRequest;

    /// A question and turns with a call each, whose results have so many words.
    fn talk(words: &[usize]) -> Vec<Message> {
        let mut messages = vec![Message::user("why did it fail")];
        for (turn, n_words) in words.iter().enumerate() {
            let call = Part::call(format!("c{turn}"), format!("read_{turn}"), "{}");
            let text = Part::text(format!("thought {turn}"));
            messages.push(Message { role: Role::Assistant, parts: vec![text, call], cache: false });
            let result =
                Part::ToolResult { call_id: format!("c{turn}"), content: "word ".repeat(*n_words), is_error: false };
            messages.push(Message { role: Role::User, parts: vec![result], cache: false });
        }
        messages
    }

    fn fit(messages: &[Message], tokens_max: u64, turns_kept: usize) -> Fitted {
        let fitted = Window { tokens_max, turns_kept }.fit(messages);
        // Whatever was taken away, a provider takes what is left.
        let request = ModelRequest { messages: fitted.messages.clone(), ..ModelRequest::of_text("", 1) };
        assert_eq!(request.check(), Ok(()));
        assert_eq!(fitted.tokens, tokens_of(&fitted.messages), "the count is that of what is sent");
        fitted
    }

    fn cleared(fitted: &Fitted) -> Vec<bool> {
        let parts = fitted.messages.iter().flat_map(|message| &message.parts);
        parts
            .filter_map(|part| match part {
                Part::ToolResult { content, .. } => Some(content == CLEARED),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn what_fits_is_as_it_was() {
        let messages = talk(&[100, 100]);
        let fitted = fit(&messages, 10_000, 2);
        assert_eq!((fitted.messages, fitted.n_cleared, fitted.n_left_out, fitted.fits), (messages, 0, 0, true));
        assert!(Window { tokens_max: 0, turns_kept: 1 }.fit(&[]).messages.is_empty());
    }

    #[test]
    fn the_oldest_results_go_first_and_the_calls_stay() {
        let fitted = fit(&talk(&[300, 300, 300, 300]), 900, 2);
        assert_eq!((cleared(&fitted), fitted.n_left_out, fitted.fits), (vec![true, true, false, false], 0, true));
        assert_eq!(fit(&talk(&[300, 300, 300, 300]), 1_200, 2).n_cleared, 1, "no more than has to");
    }

    #[test]
    fn then_whole_turns_go_and_a_summary_says_so() {
        let fitted = fit(&talk(&[300; 12]), 800, 2);
        assert_eq!((cleared(&fitted).last(), fitted.fits), (Some(&false), true));
        assert!(fitted.n_left_out > 0 && fitted.n_left_out <= 10, "{fitted:?}");
        let Part::Text { text } = fitted.messages[0].parts.last().unwrap() else { panic!("no summary") };
        assert!(text.contains("read_0 (1)") && text.contains("You said: thought"), "{text}");
        let roles: Vec<Role> = fitted.messages.iter().map(|message| message.role).collect();
        assert!(roles.windows(2).all(|pair| pair[0] != pair[1]), "roles alternate: {roles:?}");
        assert_eq!(fitted, fit(&talk(&[300; 12]), 800, 2), "the same conversation, the same window");
    }

    #[test]
    fn kept_turns_are_cleared_last_and_the_last_one_never() {
        let fitted = fit(&talk(&[300, 300, 300]), 600, 3);
        assert_eq!((cleared(&fitted), fitted.fits), (vec![true, true, false], true));
        let fitted = fit(&talk(&[300, 3_000]), 500, 2);
        assert_eq!((cleared(&fitted), fitted.fits), (vec![true, false], false));
    }

    #[test]
    fn several_calls_of_one_turn_stay_with_their_results() {
        let mut messages = talk(&[300]);
        let calls = (0..3).map(|n| Part::call(format!("p{n}"), "read".into(), "{}")).collect();
        let results = (0..3).map(|n| Part::ToolResult {
            call_id: format!("p{n}"),
            content: "word ".repeat(200),
            is_error: false,
        });
        messages.push(Message { role: Role::Assistant, parts: calls, cache: false });
        messages.push(Message { role: Role::User, parts: results.collect(), cache: false });
        messages.extend(talk(&[300]).into_iter().skip(1));
        for tokens_max in [200, 500, 700, 1_000, 1_500] {
            fit(&messages, tokens_max, 1);
        }
    }
}
