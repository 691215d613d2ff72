//! OpenAI's Responses.

mod decode;
mod encode;
mod stream;

use serde_json::Value;

use crate::error::Fault;
use crate::request::ModelRequest;
use crate::wire::{Answer, Origin, StreamReader, Wire};

pub(crate) use decode::decode;
pub(crate) use encode::encode;

pub(crate) struct Responses;

impl Wire for Responses {
    fn path(&self) -> &'static str {
        "/responses"
    }

    fn headers(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    fn key_header(&self, key: &str) -> (String, String) {
        ("authorization".to_owned(), format!("Bearer {key}"))
    }

    fn refuses(&self, request: &ModelRequest) -> Option<&'static str> {
        (!request.stop.is_empty()).then_some("Responses knows no stop words: leave `stop` empty, or use openai-chat")
    }

    fn encode(&self, origin: &Origin, request: &ModelRequest) -> Value {
        encode(origin, request)
    }

    fn decode(&self, origin: &Origin, body: &Value) -> Result<Answer, Fault> {
        decode(origin, body)
    }

    fn stream(&self, origin: Origin) -> Box<dyn StreamReader> {
        Box::new(stream::Stream::new(origin))
    }
}
