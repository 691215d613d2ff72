//! Approval: whether one answer to one question counts, and whether it decides.

use graphs::Schema;
use serde_json::Value;

use crate::event::{AnswerInput, Principal};
use crate::ids::Timestamp;
use crate::record::Interrupt;

/// The choice of a person who says no.
pub const REJECT: &str = "reject";

/// What an accepted answer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The question is closed.
    Decides,
    /// It counts; more are needed.
    Counts { votes: u32 },
}

/// Checks an answer against its question. Every condition of authenticity is here: the digest the person saw, the deadline,
/// who may answer, four eyes, one vote a person, the choices and the schema. The error says which one failed.
pub fn judge(question: &Interrupt, answer: &AnswerInput, now: Timestamp, requester: &str) -> Result<Verdict, String> {
    if answer.digest.as_ref().is_some_and(|digest| *digest != question.digest) {
        return Err("the answer was given to another payload (digest differs); look at the question again".to_owned());
    }
    if question.expires_at.is_some_and(|at| now >= at) {
        return Err("it has expired".to_owned());
    }
    if !entitled(&question.approvers, &answer.by) {
        return Err(format!("`{}` may not answer it; approvers are {}", answer.by.user, question.approvers.join(", ")));
    }
    // A no needs no other person; a yes does.
    if question.four_eyes && requester.is_empty() && choice(&answer.value) != Some(REJECT) {
        return Err(
            "nobody is recorded as the one who asked, so nobody can be another person (`requested_by`)".to_owned()
        );
    }
    if question.four_eyes && answer.by.user == requester {
        return Err(format!("`{requester}` asked for it and may not approve it: another person must"));
    }
    if question.votes.iter().any(|vote| vote.by == answer.by.user) {
        return Err(format!("`{}` has answered it already", answer.by.user));
    }
    check_value(question, &answer.value)?;
    let rejects = choice(&answer.value) == Some(REJECT);
    let votes = u32::try_from(question.votes.len()).unwrap_or(u32::MAX).saturating_add(1);
    Ok(if rejects || votes >= question.quorum { Verdict::Decides } else { Verdict::Counts { votes } })
}

/// The `choice` of an answer: the value itself when it is a text.
pub fn choice(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("choice").and_then(Value::as_str))
}

fn entitled(approvers: &[String], by: &Principal) -> bool {
    approvers.is_empty()
        || approvers.iter().any(|approver| match approver.split_once(':') {
            Some(("group", group)) => by.groups.iter().any(|known| known == group),
            Some(("user", user)) => by.user == user,
            _ => by.user == *approver,
        })
}

fn check_value(question: &Interrupt, value: &Value) -> Result<(), String> {
    if !question.choices.is_empty() {
        let known = choice(value).is_some_and(|choice| question.choices.iter().any(|known| known == choice));
        if !known {
            return Err(format!("the answer must choose one of {}", question.choices.join(", ")));
        }
    }
    let Some(schema) = &question.schema else { return Ok(()) };
    let schema = Schema::new(schema).map_err(|e| format!("its schema cannot be used: {}", e.message))?;
    schema.check(value).map_err(|e| format!("the answer does not fit at `{}`: {}", e.pointer, e.message))
}
