//! A server that wants to use our models (`sampling/createMessage`): read, bounded, and handed to whoever made the call.
//!
//! Off unless the configuration allows it. Text only, no tools, none of our context: the server sees nothing that it did not
//! send itself. What a sample may cost is the caller's matter; here it is bounded in length.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Bytes of everything one sample says.
const SAMPLE_BYTES_MAX: usize = 64 * 1024;
/// Messages of one sample.
const SAMPLE_MESSAGES_MAX: usize = 64;
/// Words at which an answer stops; providers take no more.
const STOP_WORDS_MAX: usize = 4;
/// Tokens of an answer, where the configuration names no other number.
const SAMPLE_TOKENS_DEFAULT: u64 = 1_024;

/// How far a server may use our models.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sampling {
    /// The tier that answers; the cheapest where none is named.
    pub tier: Option<String>,
    /// Most tokens of an answer.
    pub max_tokens: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { tier: None, max_tokens: SAMPLE_TOKENS_DEFAULT }
    }
}

/// What a server wants to ask a model. Untrusted text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Name of the sample inside its call.
    pub key: String,
    /// The tier that answers; the cheapest where none is named.
    pub tier: Option<String>,
    /// What stands before the conversation.
    pub system: String,
    /// The conversation, oldest first.
    pub messages: Vec<SampleMessage>,
    /// Most tokens of the answer: what the server wants, within what it may.
    pub max_tokens: u64,
    /// Chance in the answer.
    pub temperature: Option<f64>,
    /// Words at which the answer stops.
    pub stop: Vec<String>,
}

/// One turn of a sample's conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SampleMessage {
    /// Whether the model said it, and not the user.
    pub by_model: bool,
    /// What was said.
    pub text: String,
}

/// What a model answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampleAnswer {
    /// The text.
    pub text: String,
    /// The model.
    pub model: String,
    /// Why it ended: `endTurn`, `maxTokens` or `stopSequence`.
    pub stop_reason: &'static str,
}

impl SampleAnswer {
    /// As the protocol wants it.
    pub fn wire(&self) -> Value {
        let content = json!({"type": "text", "text": self.text});
        json!({"role": "assistant", "content": content, "model": self.model, "stopReason": self.stop_reason})
    }
}

/// Reads the parameters of one `sampling/createMessage`.
///
/// # Errors
/// Why no model is asked.
pub(super) fn read_sample(key: &str, params: Option<&Value>, allowed: &Sampling) -> Result<Sample, String> {
    let params = params.unwrap_or(&Value::Null);
    if params.to_string().len() > SAMPLE_BYTES_MAX {
        return Err(format!("the server wants to ask a model with more than {SAMPLE_BYTES_MAX} bytes"));
    }
    let list = |name: &str| params.get(name).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if !list("tools").is_empty() {
        return Err("the server wants to hand tools to our models, which is not supported".to_owned());
    }
    let messages = list("messages");
    if messages.is_empty() || messages.len() > SAMPLE_MESSAGES_MAX {
        return Err(format!("the server wants to ask a model with no message, or more than {SAMPLE_MESSAGES_MAX}"));
    }
    let wanted = params.get("maxTokens").and_then(Value::as_u64).unwrap_or(allowed.max_tokens);
    Ok(Sample {
        key: key.to_owned(),
        tier: allowed.tier.clone(),
        system: params.get("systemPrompt").and_then(Value::as_str).unwrap_or_default().to_owned(),
        messages: messages.iter().map(read_message).collect::<Result<_, _>>()?,
        max_tokens: wanted.clamp(1, allowed.max_tokens),
        temperature: params.get("temperature").and_then(Value::as_f64),
        stop: list("stopSequences").iter().filter_map(Value::as_str).take(STOP_WORDS_MAX).map(str::to_owned).collect(),
    })
}

fn read_message(message: &Value) -> Result<SampleMessage, String> {
    let parts = match message.get("content") {
        Some(Value::Array(parts)) => parts.iter().collect(),
        Some(one) => vec![one],
        None => Vec::new(),
    };
    let text = |part: &&Value| part.get("text").and_then(Value::as_str).map(str::to_owned);
    let texts: Option<Vec<String>> = parts.iter().map(text).collect();
    match texts {
        Some(texts) if !texts.is_empty() => {
            let by_model = message.get("role").and_then(Value::as_str) == Some("assistant");
            Ok(SampleMessage { by_model, text: texts.join("\n") })
        }
        _ => Err("the server wants to show a model something that is no text, which is not supported".to_owned()),
    }
}

/// A name for a sample that has none: the same one has the same name when the call is made again.
pub(super) fn sample_key(params: &Value) -> String {
    let asked = ["messages", "systemPrompt", "maxTokens", "temperature", "stopSequences"].map(|key| params.get(key));
    format!("s-{}", &hex::encode(Sha256::digest(json!(asked).to_string().as_bytes()))[..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(content: Value) -> Value {
        json!({"messages": [{"role": "user", "content": content}], "maxTokens": 4_000, "systemPrompt": "Be short."})
    }

    #[test]
    fn a_sample_is_read_within_what_is_allowed() {
        let allowed = Sampling { tier: Some("small".into()), max_tokens: 100 };
        let read = |params: &Value| read_sample("k", Some(params), &allowed);
        let sample = read(&said(json!({"type": "text", "text": "Why?"}))).unwrap();
        assert_eq!(
            (sample.max_tokens, sample.tier.as_deref(), sample.system.as_str()),
            (100, Some("small"), "Be short.")
        );
        assert_eq!(sample.messages, [SampleMessage { by_model: false, text: "Why?".into() }]);
        let two = json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]);
        assert_eq!(read(&said(two)).unwrap().messages[0].text, "a\nb");
        for (params, word) in [
            (said(json!({"type": "image", "data": "AA==", "mimeType": "image/png"})), "no text"),
            (said(json!([])), "no text"),
            (json!({"messages": []}), "no message"),
            (json!({"messages": [{"role": "user", "content": {"type": "text", "text": "x"}}], "tools": [{}]}), "tools"),
            (said(json!({"type": "text", "text": "x".repeat(SAMPLE_BYTES_MAX)})), "bytes"),
        ] {
            let refusal = read(&params).unwrap_err();
            assert!(refusal.contains(word), "{word}: {refusal}");
        }
    }

    #[test]
    fn the_same_sample_has_the_same_name_and_another_one_has_not() {
        let (one, other) = (said(json!({"text": "a"})), said(json!({"text": "b"})));
        let mut with_progress = one.clone();
        with_progress["_meta"] = json!({"progressToken": 7});
        assert_eq!(sample_key(&one), sample_key(&with_progress));
        assert_ne!(sample_key(&one), sample_key(&other));
    }
}
