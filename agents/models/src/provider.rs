//! A provider: one call in, one answer or one error out.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use jiff::Timestamp;

use crate::anthropic::Anthropic;
use crate::chat::Chat;
use crate::config::{Key, Kind, ProviderConfig};
use crate::error::ModelError;
use crate::http::HttpProvider;
use crate::limits::Limits;
use crate::request::ModelRequest;
use crate::response::ModelResponse;
use crate::responses::Responses;
use crate::wire::Wire;

/// What is new in an answer that comes in pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delta {
    /// More text.
    Text(String),
    /// A call begins.
    ToolCall {
        /// Its place among the parts of the answer.
        index: usize,
        /// Names the call.
        id: String,
        /// The tool.
        name: String,
    },
    /// More of a call's arguments.
    Arguments {
        /// The call's place.
        index: usize,
        /// The text.
        text: String,
    },
    /// What came so far is void: another model begins anew.
    Restart,
}

/// Who is told what is new.
pub type Sink<'a> = dyn FnMut(Delta) + Send + 'a;

/// Somebody who answers.
#[async_trait]
pub trait Provider: Send + Sync {
    /// Its name in the configuration.
    fn name(&self) -> &str;

    /// One call. Retried only where the failed try has certainly cost nothing and nothing was told to `sink`, so a call
    /// is billed at most once.
    ///
    /// # Errors
    /// Says what went wrong, what it cost, and whether another provider may answer.
    async fn complete(&self, request: &ModelRequest, sink: &mut Sink<'_>) -> Result<ModelResponse, ModelError>;
}

/// Time and chance, so that a test has both in its hands.
#[derive(Clone)]
pub struct Ports {
    /// What time it is.
    pub now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// A number from 0 to 1.
    pub chance: Arc<dyn Fn() -> f64 + Send + Sync>,
    /// Waits.
    pub pause: Arc<dyn Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync>,
}

impl Default for Ports {
    fn default() -> Self {
        Self {
            now: Arc::new(Timestamp::now),
            chance: Arc::new(rand::random::<f64>),
            pause: Arc::new(|time| Box::pin(tokio::time::sleep(time))),
        }
    }
}

impl fmt::Debug for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ports")
    }
}

/// A provider as it is configured.
///
/// # Errors
/// Its url or a header cannot be used, or its key would go over the network in the clear.
pub fn open(
    name: &str,
    config: &ProviderConfig,
    key: Option<Key>,
    limits: Arc<Limits>,
    ports: Ports,
) -> Result<Arc<dyn Provider>, String> {
    let wire: Box<dyn Wire> = match config.kind {
        Kind::Anthropic => Box::new(Anthropic),
        Kind::OpenaiChat => Box::new(Chat::new(config.max_tokens_field())),
        Kind::OpenaiResponses => Box::new(Responses),
    };
    Ok(Arc::new(HttpProvider::new(name, config, wire, key, (limits, ports))?))
}
