//! The same answer, whole and in pieces, however the bytes are cut, for each way to speak.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::anthropic::Anthropic;
use crate::chat::Chat;
use crate::error::{ErrorClass, Fault, Spent};
use crate::provider::Delta;
use crate::request::Part;
use crate::response::{StopReason, Usage};
use crate::responses::Responses;
use crate::sse;
use crate::wire::{Answer, Origin, Wire};

pub(super) const ANTHROPIC: &str = r#"event: message_start
data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-opus-5-5","content":[],"stop_reason":null,"usage":{"input_tokens":25,"cache_creation_input_tokens":100,"cache_read_input_tokens":2000,"output_tokens":1}}}

event: ping
data: {"type":"ping"}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"two "}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"tasks"}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"c2ln"}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: content_block_start
data: {"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"I clear "}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"both – ✓"}}

event: content_block_start
data: {"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"toolu_1","name":"clear","input":{}}}

event: content_block_delta
data: {"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"run\": \"a"}}

event: content_block_start
data: {"type":"content_block_start","index":3,"content_block":{"type":"tool_use","id":"toolu_2","name":"no_such_tool","input":{}}}

event: content_block_delta
data: {"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"\"}"}}

event: something_new
data: {"type":"something_new","index":9}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":89}}

event: message_stop
data: {"type":"message_stop"}

"#;

pub(super) const CHAT: &str = r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","model":"gpt-6.2-sol","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}

: keep-alive

data: {"id":"chatcmpl-1","model":"gpt-6.2-sol","choices":[{"index":0,"delta":{"content":"I clear "},"finish_reason":null}]}

data: {"id":"chatcmpl-1","model":"gpt-6.2-sol","choices":[{"index":0,"delta":{"content":"both – ✓"},"finish_reason":null}]}

data: {"id":"chatcmpl-1","model":"gpt-6.2-sol","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_a","type":"function","function":{"name":"clear","arguments":""}}]},"finish_reason":null}]}

data: {"id":"chatcmpl-1","model":"gpt-6.2-sol","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"run\": \"a"}}]},"finish_reason":null}]}

data: {"id":"chatcmpl-1","model":"gpt-6.2-sol","choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"call_b","type":"function","function":{"name":"no_such_tool","arguments":"{}"}}]},"finish_reason":null}]}

data: {"id":"chatcmpl-1","model":"gpt-6.2-sol","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\"}"}}]},"finish_reason":null}]}

data: {"id":"chatcmpl-1","model":"gpt-6.2-sol","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}

data: {"id":"chatcmpl-1","model":"gpt-6.2-sol","choices":[],"usage":{"prompt_tokens":2125,"completion_tokens":89,"total_tokens":2214,"prompt_tokens_details":{"cached_tokens":2000,"cache_write_tokens":100}}}

data: [DONE]

"#;

pub(super) const RESPONSES: &str = r#"event: response.created
data: {"type":"response.created","sequence_number":0,"response":{"id":"resp_1","status":"in_progress","output":[]}}

event: response.output_item.added
data: {"type":"response.output_item.added","output_index":0,"item":{"type":"reasoning","id":"rs_1","summary":[]}}

event: response.output_item.done
data: {"type":"response.output_item.done","output_index":0,"item":{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"sealed"}}

event: response.output_text.delta
data: {"type":"response.output_text.delta","output_index":1,"content_index":0,"delta":"I clear "}

event: response.output_text.delta
data: {"type":"response.output_text.delta","output_index":1,"content_index":0,"delta":"both – ✓"}

event: response.output_item.added
data: {"type":"response.output_item.added","output_index":2,"item":{"type":"function_call","id":"fc_1","call_id":"call_a","name":"clear","arguments":""}}

event: response.function_call_arguments.delta
data: {"type":"response.function_call_arguments.delta","output_index":2,"delta":"{\"run\": \"a\"}"}

event: response.completed
data: {"type":"response.completed","response":{"id":"resp_1","status":"completed","model":"gpt-6.2-sol","output":[{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"sealed"},{"type":"message","role":"assistant","content":[{"type":"output_text","text":"I clear both – ✓","annotations":[]}]},{"type":"function_call","id":"fc_1","call_id":"call_a","name":"clear","arguments":"{\"run\": \"a\"}"},{"type":"function_call","id":"fc_2","call_id":"call_b","name":"no_such_tool","arguments":"{}"}],"usage":{"input_tokens":2125,"output_tokens":89,"input_tokens_details":{"cached_tokens":2000,"cache_write_tokens":100}}}}

"#;

/// The answers above, whole.
pub(super) fn whole(kind: usize) -> Value {
    match kind {
        0 => json!({
            "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-opus-5-5",
            "content": [
                {"type": "thinking", "thinking": "two tasks", "signature": "c2ln"},
                {"type": "text", "text": "I clear both – ✓"},
                {"type": "tool_use", "id": "toolu_1", "name": "clear", "input": {"run": "a"}},
                {"type": "tool_use", "id": "toolu_2", "name": "no_such_tool", "input": {}},
            ],
            "stop_reason": "tool_use",
            "usage": {"input_tokens": 25, "cache_creation_input_tokens": 100, "cache_read_input_tokens": 2000, "output_tokens": 89},
        }),
        1 => json!({
            "id": "chatcmpl-1", "object": "chat.completion", "model": "gpt-6.2-sol",
            "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {
                "role": "assistant", "content": "I clear both – ✓", "refusal": null,
                "tool_calls": [
                    {"id": "call_a", "type": "function", "function": {"name": "clear", "arguments": "{\"run\": \"a\"}"}},
                    {"id": "call_b", "type": "function", "function": {"name": "no_such_tool", "arguments": "{}"}},
                ],
            }}],
            "usage": {"prompt_tokens": 2125, "completion_tokens": 89, "prompt_tokens_details": {"cached_tokens": 2000, "cache_write_tokens": 100}},
        }),
        _ => {
            let last = RESPONSES.lines().filter_map(|line| line.strip_prefix("data: ")).next_back().unwrap();
            serde_json::from_str::<Value>(last).unwrap()["response"].clone()
        }
    }
}

pub(super) fn wire(kind: usize) -> Box<dyn Wire> {
    match kind {
        0 => Box::new(Anthropic),
        1 => Box::new(Chat::new("max_tokens")),
        _ => Box::new(Responses),
    }
}

pub(super) const STREAMS: [&str; 3] = [ANTHROPIC, CHAT, RESPONSES];

fn origin() -> Origin {
    Origin { provider: "p".into(), model: "m".into() }
}

/// Reads a stream cut into pieces.
fn read(kind: usize, pieces: &[&[u8]]) -> (Result<Answer, Fault>, Vec<Delta>) {
    let mut reader = sse::Reader::new(16 * 1024);
    let mut decoder = wire(kind).stream(origin());
    let (mut events, mut deltas) = (Vec::new(), Vec::new());
    for piece in pieces {
        if reader.feed(piece, &mut events).is_err() {
            return (Err(Fault::malformed("cannot be read")), deltas);
        }
        for event in events.drain(..) {
            if let Err(fault) = decoder.take(&event, &mut |delta| deltas.push(delta)) {
                return (Err(fault), deltas);
            }
        }
        if decoder.is_done() {
            break;
        }
    }
    (decoder.end(), deltas)
}

#[test]
fn whole_and_in_pieces_are_one_answer() {
    for (kind, stream) in STREAMS.iter().enumerate() {
        let (answer, deltas) = read(kind, &[stream.as_bytes()]);
        let answer = answer.unwrap();
        assert_eq!(answer, wire(kind).decode(&origin(), &whole(kind)).unwrap(), "{kind}");
        assert_eq!(answer.stop, StopReason::ToolUse);
        assert_eq!(answer.usage, Some(Usage { input: 25, output: 89, cache_read: 2000, cache_write: 100 }));
        let texts: String = deltas
            .iter()
            .filter_map(|delta| match delta {
                Delta::Text(text) => Some(text.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(texts, "I clear both – ✓");
        let names: Vec<&str> = answer
            .parts
            .iter()
            .filter_map(|part| match part {
                Part::ToolCall { name, .. } => Some(name.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(names, ["clear", "no_such_tool"], "a tool that is not there is told as it was said");
        assert!(deltas.contains(&Delta::Arguments {
            index: if kind == 1 { 0 } else { 2 },
            text: "{\"run\": \"a".to_owned() + if kind == 2 { "\"}" } else { "" }
        }));
    }
}

#[test]
fn a_stream_without_its_end_is_cut_and_may_have_cost() {
    for (kind, stream) in STREAMS.iter().enumerate() {
        let events: Vec<&str> = stream.split_inclusive("\n\n").collect();
        // A chat whose last reason has come is whole even without its last words.
        let whole_from = if kind == 1 { events.len() - 2 } else { events.len() };
        for kept in 0..whole_from {
            let text: String = events[..kept].concat();
            let (answer, _) = read(kind, &[text.as_bytes()]);
            let fault = answer.unwrap_err();
            assert_eq!(
                (fault.class, fault.spent),
                (ErrorClass::CutStream, Spent::Unknown),
                "{kind} after {kept} events"
            );
        }
    }
}

#[test]
fn errors_and_nonsense_within_a_stream_end_it() {
    let overloaded = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
    for kind in 0..3 {
        let (answer, _) = read(kind, &[overloaded.as_bytes()]);
        let fault = answer.unwrap_err();
        assert_eq!((fault.class, fault.spent), (ErrorClass::Overloaded, Spent::Unknown), "{kind}");
        let (answer, _) = read(kind, &[b"data: {\"type\": \n\n"]);
        assert_eq!(answer.unwrap_err().class, ErrorClass::MalformedAnswer, "{kind}");
    }
    let unknown_block = b"data: {\"type\":\"content_block_delta\",\"index\":3,\"delta\":{}}\n\n";
    assert_eq!(read(0, &[unknown_block]).0.unwrap_err().class, ErrorClass::MalformedAnswer);
    let many: String = (0..2000).map(|index| format!("data: {{\"type\":\"content_block_start\",\"index\":{index},\"content_block\":{{\"type\":\"text\"}}}}\n\n")).collect();
    assert_eq!(read(0, &[many.as_bytes()]).0.unwrap_err().class, ErrorClass::OverBound);
    let failed = b"data: {\"type\":\"response.failed\",\"response\":{\"status\":\"failed\",\"error\":{\"code\":\"rate_limit_exceeded\",\"message\":\"x\"}}}\n\n";
    assert_eq!(read(2, &[failed]).0.unwrap_err().class, ErrorClass::RateLimited);
}

#[test]
fn arguments_that_are_no_json_are_told_as_text() {
    let cut_arguments =
        CHAT.replace(r#"{"index":0,"function":{"arguments":"\"}"}}"#, r#"{"index":0,"function":{"arguments":"!"}}"#);
    assert_ne!(cut_arguments, CHAT);
    let answer = read(1, &[cut_arguments.as_bytes()]).0.unwrap();
    let call = answer.parts.iter().find(|part| matches!(part, Part::ToolCall { .. })).unwrap();
    let Part::ToolCall { arguments, malformed, .. } = call else { panic!() };
    assert_eq!((arguments, malformed), (&json!("{\"run\": \"a!"), &true));
}

#[test]
fn servers_that_count_no_calls_are_understood() {
    let stream = "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"id\":\"a\",\"function\":{\"name\":\"one\",\"arguments\":\"{}\"}}]}}]}\n\n\
        data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"id\":\"b\",\"function\":{\"name\":\"two\",\"arguments\":\"{}\"}}]},\"finish_reason\":\"stop\"}]}\n\n";
    let answer = read(1, &[stream.as_bytes()]).0.unwrap();
    assert_eq!((answer.parts.len(), answer.stop, answer.usage), (2, StopReason::ToolUse, None));
}

/// Any JSON, with the names that the decoders look for among its own.
fn any_json() -> impl Strategy<Value = Value> {
    let name = prop::sample::select(vec![
        "type",
        "content",
        "choices",
        "message",
        "delta",
        "index",
        "tool_calls",
        "function",
        "arguments",
        "name",
        "id",
        "usage",
        "output",
        "status",
        "error",
        "stop_reason",
        "finish_reason",
        "response",
        "item",
        "content_block",
        "text",
    ]);
    let word = prop::sample::select(vec![
        "text",
        "tool_use",
        "message",
        "function_call",
        "completed",
        "content_block_start",
        "content_block_delta",
        "message_delta",
        "message_stop",
        "response.completed",
        "response.output_item.done",
        "thinking_delta",
        "{",
        "",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name.clone().prop_map(str::to_owned), inner, 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Nothing a server says ends us: there is an answer or a fault.
    #[test]
    fn no_answer_and_no_event_is_too_strange(kind in 0_usize..3, bodies in prop::collection::vec(any_json(), 1..5)) {
        let parts_of = |answer: Result<Answer, Fault>| answer.map(|answer| answer.parts.len()).unwrap_or(0);
        let mut most = parts_of(wire(kind).decode(&origin(), &bodies[0]));
        let events: String = bodies.iter().map(|body| format!("data: {body}\n\n")).collect();
        most = most.max(parts_of(read(kind, &[events.as_bytes(), STREAMS[kind].as_bytes()]).0));
        prop_assert!(most <= 1024);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn an_answer_does_not_depend_on_how_the_bytes_are_cut(
        kind in 0_usize..3,
        cuts in proptest::collection::vec(0_usize..5000, 0..40),
        kept in 0_usize..5000,
        crlf in any::<bool>(),
    ) {
        let text = if crlf { STREAMS[kind].replace('\n', "\r\n") } else { STREAMS[kind].to_owned() };
        // Half of the streams are cut off somewhere: then both ways fail alike.
        let bytes = if kept % 2 == 0 { text.as_bytes() } else { &text.as_bytes()[..kept.min(text.len())] };
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        prop_assert_eq!(read(kind, &pieces), read(kind, &[bytes]));
    }
}
