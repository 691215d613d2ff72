//! The MCP client hub: every tool server an agent can reach, behind one typed door.
//!
//! `rmcp` speaks the protocol; this module owns everything that can hang, leak or lie around it: the child process and
//! its group, the line that is too long, the list that never ends, the reply that never comes, the schema that is not
//! met. Nothing of `rmcp` appears in the public API.
//!
//! Invariants:
//! * The hub never repeats a tool call. An error says whether the request can have reached the server
//!   ([`Delivery`]); only the journal above decides what follows.
//! * Every wait has a deadline, every queue, list, line and result a named bound ([`limits`]).
//! * A server's annotations are the hints of a stranger: they count only where the operator trusts the server.
//! * One broken server, or one broken tool, costs one clear error and nothing else.
//!
//! ```text
//! Hub ─ Server (one per config: era, back-off, permits) ─ Session (one attach) ─┬ Wire (lines) ─ Child (process group)
//!                                                                                └ HttpWire (exchanges) ─ Tokens
//! ```

mod artifacts;
mod asks;
mod attach;
mod auth;
mod child;
mod config;
mod dial;
mod effect;
mod era;
mod error;
mod flood;
mod front;
pub mod fuzz;
mod http;
mod inbound;
mod inventory;
pub mod limits;
mod lines;
mod listen;
mod outcome;
mod pin;
mod probe;
mod reaper;
mod reference;
mod samples;
mod schema;
mod server;
mod session;
mod shelf;
mod tap;
mod task;
mod throttle;
mod wire;

#[cfg(test)]
mod tests;

pub use artifacts::{Artifact, Artifacts};
pub use asks::{Form, FormAnswer, Host, InputAnswers, InputRequest};
pub use auth::{Consent, Grant, LOGIN_TIMEOUT, LoopbackConsent, OAuthConfig};
pub(crate) use config::parse_duration;
pub use config::{ConfigProblem, Environments, ParsedServers, ServerConfig, TransportConfig};
pub use dial::{Dial, Pipes};
pub use effect::{Effect, EffectSource};
pub use era::Era;
pub use error::{Delivery, ToolError, ToolErrorClass};
pub use front::{CallOptions, Hub, HubOptions, LogLine, Look, Progress, Reply, Step, StepSink};
pub use inventory::{Annotations, Defect, Inventory, ToolInfo};
pub use outcome::{Content, ToolOutcome};
pub use pin::Pin;
pub use reference::Lookup;
pub use samples::{Sample, SampleAnswer, SampleMessage, Sampling};
pub use shelf::{PromptInfo, PromptMessage, ResourceInfo};
pub use task::{Task, TaskState};
