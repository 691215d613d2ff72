//! OpenAI's Chat Completions, which gateways and local servers speak as well.

mod decode;
mod encode;
mod stream;

use serde_json::Value;

use crate::error::Fault;
use crate::request::ModelRequest;
use crate::wire::{Answer, Origin, StreamReader, Wire};

pub(crate) use decode::decode;
pub(crate) use encode::encode;

pub(crate) struct Chat {
    /// OpenAI's own models take `max_completion_tokens`, most other servers know `max_tokens` only.
    max_tokens_field: &'static str,
}

impl Chat {
    pub(crate) fn new(max_tokens_field: &'static str) -> Self {
        Self { max_tokens_field }
    }
}

impl Wire for Chat {
    fn path(&self) -> &'static str {
        "/chat/completions"
    }

    fn headers(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    fn key_header(&self, key: &str) -> (String, String) {
        ("authorization".to_owned(), format!("Bearer {key}"))
    }

    fn refuses(&self, _request: &ModelRequest) -> Option<&'static str> {
        None
    }

    fn encode(&self, _origin: &Origin, request: &ModelRequest) -> Value {
        encode(self.max_tokens_field, request)
    }

    fn decode(&self, _origin: &Origin, body: &Value) -> Result<Answer, Fault> {
        decode(body)
    }

    fn stream(&self, _origin: Origin) -> Box<dyn StreamReader> {
        Box::new(stream::Stream::default())
    }
}
