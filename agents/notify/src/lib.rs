//! How people are told: PagerDuty, Opsgenie, Slack, webhooks; who is told what, when, and how often.
//!
//! ```text
//!  Notice ─▶ Router ─▶ route ─▶ quiet hours, limit, flapping ─▶ Channel ─▶ one HTTP client
//!              └─ Ledger: what was decided and done, by the key of the call; a restart goes on where it stopped
//! ```
//!
//! It knows no agent, tool, graph or store; time is an argument. See `docs/design/0011-notification.md`.

mod channel;
mod config;
mod error;
mod http;
mod ledger;
mod notice;
mod opsgenie;
mod pagerduty;
mod preview;
mod printed;
mod quiet;
mod route;
mod router;
mod secrets;
mod slack;
mod text;
mod webhook;

#[cfg(test)]
mod tests;

pub use config::{
    ChannelConfig, Flapping, Limit, NotifyConfig, OpsgenieConfig, PagerDutyConfig, PrintConfig, Region, Route,
    SlackConfig, SlackWebhookConfig, WebhookConfig,
};
pub use error::{Class, SendError};
pub use http::Bounds;
pub use ledger::{InMemory, Ledger};
pub use notice::{
    About, Fact, LINE_BYTES_MAX, LINES_MAX, Level, Notice, PARTS_MAX, Part, Phase, Urgency, markdown, sample,
};
pub use preview::{FORMS, preview};
pub use quiet::QuietHours;
pub use router::{Delivery, Router};
pub use secrets::{Secret, SecretSource, read_secret};
pub use webhook::signature;
