//! What tests share: a router over a configuration, secrets that must never be seen, notices.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::config::NotifyConfig;
use crate::error::SendError;
use crate::http::Bounds;
use crate::ledger::{InMemory, Ledger};
use crate::notice::{Notice, Phase, Urgency, sample};
use crate::router::{Delivery, Router};
use crate::secrets::{Secret, SecretSource};

/// As long as a routing key has to be; every secret of the tests is this one with a letter in front.
const SECRET: &str = "bcdefghijklmnopqrstuvwxyz012345";

/// The secret that a configuration names by `env: X`.
pub(super) fn secret(name: &str) -> String {
    format!("{}{SECRET}", name.to_lowercase())
}

pub(super) fn read(source: &SecretSource) -> Result<Secret, String> {
    let name = source.env.as_deref().unwrap_or_default();
    if name == "MISSING" {
        return Err("the environment variable MISSING is not set".to_owned());
    }
    if let Some(url) = name.strip_prefix("URL ") {
        return Secret::new(url);
    }
    Secret::new(&secret(name))
}

pub(super) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(super) const NOON: &str = "2026-11-27T12:00:00Z";

/// A router whose requests end within `whole`.
pub(super) fn router_within(yaml: &str, ledger: Arc<dyn Ledger>, whole: Duration) -> Router {
    let mut config = NotifyConfig::parse(yaml).unwrap();
    let bounds = Bounds { whole, ..Bounds::default() };
    config.channels.values_mut().for_each(|channel| channel.exact = Some(bounds));
    Router::open(&config, ledger, &read).map_err(|problems| problems.join("; ")).unwrap().0
}

pub(super) fn router(yaml: &str) -> Router {
    router_on(yaml, Arc::new(InMemory::default()))
}

pub(super) fn router_on(yaml: &str, ledger: Arc<dyn Ledger>) -> Router {
    router_within(yaml, ledger, Duration::from_secs(20))
}

pub(super) fn page(incident: &str) -> Notice {
    sample(Urgency::Page, Phase::Open, incident)
}

pub(super) fn healed(incident: &str) -> Notice {
    sample(Urgency::Summary, Phase::Resolved, incident)
}

pub(super) fn of_phase(incident: &str, severity: Urgency, phase: Phase) -> Notice {
    let mut notice = page(incident);
    notice.severity = severity;
    notice.about.as_mut().unwrap().phase = phase;
    notice
}

/// One send that nobody repeats.
pub(super) async fn send(router: &Router, notice: &Notice, key: &str, now: &str) -> Result<Value, SendError> {
    router.send(notice, &Delivery { key, now: at(now), again: &|_| false }).await
}

/// One send that will be repeated as long as it may pass.
pub(super) async fn send_again(router: &Router, notice: &Notice, key: &str, now: &str) -> Result<Value, SendError> {
    router.send(notice, &Delivery { key, now: at(now), again: &|_| true }).await
}

/// What a receipt says of a channel.
pub(super) fn of<'a>(receipt: &'a Value, channel: &str) -> &'a Value {
    let deliveries = receipt["deliveries"].as_array().unwrap();
    let found = deliveries.iter().find(|delivery| delivery["channel_name"] == channel);
    found.unwrap_or_else(|| panic!("no {channel} in {receipt}"))
}
