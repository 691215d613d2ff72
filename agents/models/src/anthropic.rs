//! Anthropic's Messages.

mod decode;
mod encode;
mod stream;

use serde_json::Value;

use crate::error::Fault;
use crate::request::ModelRequest;
use crate::wire::{Answer, Origin, StreamReader, Wire};

pub(crate) use decode::decode;
pub(crate) use encode::encode;

/// The version of the interface that is spoken.
const VERSION: &str = "2023-06-01";

pub(crate) struct Anthropic;

impl Wire for Anthropic {
    fn path(&self) -> &'static str {
        "/v1/messages"
    }

    fn headers(&self) -> &'static [(&'static str, &'static str)] {
        &[("anthropic-version", VERSION)]
    }

    fn key_header(&self, key: &str) -> (String, String) {
        ("x-api-key".to_owned(), key.to_owned())
    }

    fn refuses(&self, _request: &ModelRequest) -> Option<&'static str> {
        None
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
