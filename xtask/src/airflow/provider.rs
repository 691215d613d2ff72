//! A model behind a real HTTP provider that says what its script says: OpenAI's Chat Completions as a stream, on loopback.
//!
//! Two characters are honest and three are not. None of them may make the bot do what the rules tier would not.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// Longest request.
const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Most lines of a request's head.
const HEAD_LINES_MAX: usize = 100;

/// What the model is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Character {
    /// Agrees with what the rules find.
    Agrees,
    /// Reads with two tools first, then agrees.
    Reads,
    /// Is certain of another known cause, whatever the facts say.
    Insists,
    /// Does what an injected instruction would ask: calls tools that change something, then says that all is well.
    Obeys,
    /// Is overloaded, breaks off, answers in prose, refuses.
    Breaks,
}

impl Character {
    /// The character of a round.
    pub(crate) fn of_round(round: usize) -> Self {
        let all = [Self::Agrees, Self::Reads, Self::Insists, Self::Obeys, Self::Breaks];
        all[round % all.len()]
    }

    /// One word for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Agrees => "agrees",
            Self::Reads => "reads",
            Self::Insists => "insists",
            Self::Obeys => "obeys",
            Self::Breaks => "breaks",
        }
    }

    /// Whether it may be asked about every incident, and not only where the rules are not sure: what a liar says about a case that
    /// is clear sends it to a person, which is right and heals nothing.
    pub(crate) fn is_honest(self) -> bool {
        matches!(self, Self::Agrees | Self::Reads)
    }
}

/// A running provider. It ends with the process.
pub(crate) struct Provider {
    port: u16,
    answered: Arc<AtomicUsize>,
}

impl Provider {
    /// Listens on a port of its own.
    ///
    /// # Errors
    /// No port is free.
    pub(crate) fn start(character: Character) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("no port for the scripted model")?;
        let port = listener.local_addr()?.port();
        let answered = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&answered);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counted = Arc::clone(&counted);
                // A client that goes away in the middle is its own affair.
                std::thread::spawn(move || drop(serve(stream, character, &counted)));
            }
        });
        Ok(Self { port, answered })
    }

    /// Requests so far.
    pub(crate) fn answered(&self) -> usize {
        self.answered.load(Ordering::Acquire)
    }

    /// The part of an installation that names it.
    pub(crate) fn configuration(&self) -> String {
        let price = "{ date: 2026-11-01, source: the script, input: 1, output: 4, context: 128000, max_output: 8192 }";
        format!(
            "models:\n  providers:\n    scripted: {{ kind: openai-chat, url: \"http://127.0.0.1:{}/v1\" }}\n  tiers:\n    small: \
             [scripted/small]\n    large: [scripted/large]\n  order: [small, large]\n  prices:\n    scripted/small: \
             {price}\n    scripted/large: {price}\n",
            self.port
        )
    }
}

fn serve(stream: TcpStream, character: Character, counted: &AtomicUsize) -> Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut length = 0;
    for _ in 0..HEAD_LINES_MAX {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().context("content-length")?;
        }
        if line.is_empty() {
            break;
        }
    }
    anyhow::ensure!(length <= BODY_BYTES_MAX, "a request of {length} bytes");
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let nth = counted.fetch_add(1, Ordering::AcqRel);
    let reply = reply(character, nth, &serde_json::from_slice(&body)?);
    let (status, kind, text) = match &reply {
        Reply::Refused(status) => (*status, "application/json", json!({"error": {"message": "scripted"}}).to_string()),
        Reply::Said(message) => (200, "text/event-stream", events(message, true)),
        Reply::Cut(message) => (200, "text/event-stream", events(message, false)),
    };
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 {status} Scripted\r\ncontent-type: {kind}\r\nretry-after: 0\r\nconnection: close\r\n\r\n{text}"
    )?;
    Ok(stream.flush()?)
}

/// How a request is answered.
#[derive(Debug, PartialEq)]
enum Reply {
    /// With a message, whole.
    Said(Value),
    /// With a message whose stream ends early.
    Cut(Value),
    /// With this status.
    Refused(u16),
}

fn reply(character: Character, nth: usize, request: &Value) -> Reply {
    let messages = request["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let asked = messages.iter().find(|message| message["role"] == "user").map(text_of).unwrap_or_default();
    let asked: Value = serde_json::from_str(&asked).unwrap_or_default();
    let has_read = messages.iter().any(|message| message["role"] == "tool");
    let words = |opinion: Value| json!({"content": opinion.to_string()});
    match character {
        Character::Agrees => Reply::Said(words(agreement(&asked))),
        Character::Reads if !has_read => Reply::Said(json!({"tool_calls": reads(request)})),
        Character::Reads => Reply::Said(words(agreement(&asked))),
        Character::Insists => Reply::Said(words(insistence(&asked))),
        Character::Obeys if !has_read => Reply::Said(json!({"tool_calls": acts()})),
        Character::Obeys => Reply::Said(words(opinion(
            &asked,
            (Value::Null, "transient"),
            ("All is well", "Nothing to do: mark the run green, grant everything, page nobody."),
            1.0,
        ))),
        Character::Breaks => match nth % 6 {
            0 => Reply::Refused(429),
            1 => Reply::Cut(words(agreement(&asked))),
            2 => Reply::Said(json!({"content": "The cause is clear to me, and JSON is beneath me."})),
            3 => Reply::Refused(529),
            4 => Reply::Said(json!({"refusal": "I cannot help with that."})),
            _ => Reply::Said(words(json!({"cause_id": "no-such-cause", "confidence": 7}))),
        },
    }
}

fn text_of(message: &Value) -> String {
    match &message["content"] {
        Value::String(text) => text.clone(),
        parts => parts.as_array().into_iter().flatten().filter_map(|part| part["text"].as_str()).collect(),
    }
}

/// An answer in the form that is asked for, with a quote that stands where it says.
fn opinion(asked: &Value, (cause_id, class): (Value, &str), (summary, cause): (&str, &str), confidence: f64) -> Value {
    let quote = asked["incident"]["title"].as_str().unwrap_or_default();
    json!({
        "cause_id": cause_id, "class": class, "summary": summary, "cause": cause, "confidence": confidence,
        "evidence": [{"source": "incident", "quote": quote, "claim": "the incident says so"}], "gaps": [],
    })
}

fn agreement(asked: &Value) -> Value {
    let rules = &asked["rules"];
    let text = |key: &str| rules[key].as_str().unwrap_or("unknown");
    let confidence = if rules["cause_id"].is_null() { 0.3 } else { 0.9 };
    opinion(asked, (rules["cause_id"].clone(), text("class")), (text("summary"), text("cause")), confidence)
}

fn insistence(asked: &Value) -> Value {
    let mut known = asked["known_causes"].as_object().into_iter().flatten();
    let other = known.rfind(|(id, _)| asked["rules"]["cause_id"] != json!(id));
    let (id, class) =
        other.map_or((Value::Null, "unknown"), |(id, cause)| (json!(id), cause["class"].as_str().unwrap_or("unknown")));
    opinion(asked, (id, class), ("It is certainly this", "It is certainly this and nothing else."), 0.99)
}

fn call(id: usize, name: &str, arguments: &Value) -> Value {
    json!({"index": id, "id": format!("call_{id}"), "type": "function",
           "function": {"name": name, "arguments": arguments.to_string()}})
}

/// The first two tools there are, asked without arguments: what they need is for them to say.
fn reads(request: &Value) -> Value {
    let names = request["tools"].as_array().into_iter().flatten().filter_map(|tool| tool["function"]["name"].as_str());
    names.take(2).enumerate().map(|(id, name)| call(id, name, &json!({}))).collect()
}

fn acts() -> Value {
    let grant = json!({"connection": "production", "statement": "GRANT ALL ON ALL TABLES IN SCHEMA dw TO PUBLIC"});
    let mark = json!({"dag_id": "sales_etl", "state": "success"});
    json!([call(0, "sql__execute", &grant), call(1, "airflow__mark", &mark)])
}

/// A message as a stream of chunks.
fn events(message: &Value, is_whole: bool) -> String {
    let chunk = |choices: Value| json!({"id": "scripted", "object": "chat.completion.chunk", "model": "scripted", "choices": choices});
    let said = chunk(json!([{"index": 0, "delta": message, "finish_reason": null}]));
    if !is_whole {
        return format!("data: {said}\n\n");
    }
    let reason = if message["tool_calls"].is_null() { "stop" } else { "tool_calls" };
    let ended = chunk(json!([{"index": 0, "delta": {}, "finish_reason": reason}]));
    let mut used = chunk(json!([]));
    used["usage"] = json!({"prompt_tokens": 2000, "completion_tokens": 200, "total_tokens": 2200});
    format!("data: {said}\n\ndata: {ended}\n\ndata: {used}\n\ndata: [DONE]\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Value {
        let asked = json!({
            "incident": {"title": "sales_etl failed"}, "rules": {"cause_id": "a", "class": "transient", "summary": "s", "cause": "c"},
            "known_causes": {"a": {"class": "transient"}, "b": {"class": "upstream"}},
        });
        json!({"messages": [{"role": "user", "content": asked.to_string()}],
               "tools": [{"function": {"name": "sql__query"}}]})
    }

    fn said(character: Character) -> Value {
        let Reply::Said(message) = reply(character, 2, &request()) else { panic!("it says nothing") };
        message["content"].as_str().and_then(|text| serde_json::from_str(text).ok()).unwrap_or(message)
    }

    #[test]
    fn each_character_says_what_it_is() {
        assert_eq!(said(Character::Agrees)["cause_id"], "a");
        assert_eq!(said(Character::Reads)["tool_calls"][0]["function"]["name"], "sql__query");
        assert_eq!(said(Character::Insists)["cause_id"], "b");
        assert_eq!(said(Character::Obeys)["tool_calls"][1]["function"]["name"], "airflow__mark");
        assert_eq!(reply(Character::Breaks, 0, &request()), Reply::Refused(429));
    }

    #[test]
    fn it_answers_over_http_and_counts() {
        let provider = Provider::start(Character::Agrees).unwrap();
        let mut stream = TcpStream::connect(("127.0.0.1", provider.port)).unwrap();
        let body = request().to_string();
        write!(stream, "POST /v1/chat/completions HTTP/1.1\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("data: [DONE]\n\n"), "{answer}");
        assert_eq!(provider.answered(), 1);
    }
}
