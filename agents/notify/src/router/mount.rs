//! From a configuration to channels that can send.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex as SyncMutex;
use tokio::sync::Mutex;

use super::{LOCKS, Mounted, Router};
use crate::channel::{Broken, Channel};
use crate::config::{ChannelConfig, NotifyConfig, Region};
use crate::http::{Link, url_problem};
use crate::ledger::Ledger;
use crate::opsgenie::{self, Opsgenie};
use crate::pagerduty::{self, PagerDuty};
use crate::printed::Printed;
use crate::quiet::QuietHours;
use crate::secrets::{Secret, SecretSource};
use crate::slack::webhook::SlackWebhook;
use crate::slack::{SLACK, Slack};
use crate::webhook::Webhook;

/// Reads a secret from where it is.
pub(super) type ReadSecret<'a> = &'a dyn Fn(&SecretSource) -> Result<Secret, String>;

impl Router {
    /// A router over a ledger. A channel that cannot be used as configured (its secret is missing) fails for good when it is
    /// sent to, so that its stand-in is used; the list says which and why.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub fn open(
        config: &NotifyConfig,
        ledger: Arc<dyn Ledger>,
        read: ReadSecret<'_>,
    ) -> Result<(Self, Vec<String>), Vec<String>> {
        let problems = config.problems();
        if !problems.is_empty() {
            return Err(problems);
        }
        let (mut channels, mut broken) = (BTreeMap::new(), Vec::new());
        for (name, channel) in &config.channels {
            let made = mount(channel, read);
            broken.extend(made.as_ref().err().map(|why| format!("channels.{name}: {why}")));
            let limit = channel.limit.unwrap_or_default();
            let channel: Box<dyn Channel> = made.unwrap_or_else(|why| Box::new(Broken(why)));
            channels.insert(name.clone(), Mounted { channel, limit });
        }
        let quiet = config.quiet_hours.as_ref().map(QuietHours::parsed).transpose().map_err(|why| vec![why])?;
        let router = Self {
            channels,
            routes: config.routes.clone(),
            fallback: config.fallback.clone(),
            quiet,
            flapping: config.flapping,
            ledger,
            locks: (0..LOCKS).map(|_| Mutex::new(())).collect(),
        };
        Ok((router, broken))
    }
}

fn mount(config: &ChannelConfig, read: ReadSecret<'_>) -> Result<Box<dyn Channel>, String> {
    let bounds = config.bounds();
    if let Some(slack) = &config.slack {
        let token = read(&slack.token)?;
        let bearer = Secret::new(&format!("Bearer {}", token.expose()))?;
        let headers = [("authorization".to_owned(), bearer)];
        let base = slack.url.as_deref().unwrap_or(SLACK);
        let link = Link::new(base, &headers, vec![token], bounds)?;
        return Ok(Box::new(Slack { link, channel: slack.channel.clone() }));
    }
    if let Some(hook) = &config.slack_webhook {
        return Ok(Box::new(SlackWebhook { link: secret_link(read(&hook.url)?, &[], Vec::new(), bounds)? }));
    }
    if let Some(duty) = &config.pagerduty {
        let routing_key = read(&duty.routing_key)?;
        let own = if duty.region == Region::Eu { pagerduty::EU } else { pagerduty::US };
        let link = Link::new(duty.url.as_deref().unwrap_or(own), &[], vec![routing_key.clone()], bounds)?;
        return Ok(Box::new(PagerDuty { link, routing_key }));
    }
    if let Some(genie) = &config.opsgenie {
        let key = read(&genie.key)?;
        let value = Secret::new(&format!("GenieKey {}", key.expose()))?;
        let own = if genie.region == Region::Eu { opsgenie::EU } else { opsgenie::US };
        let base = genie.url.as_deref().unwrap_or(own);
        let link = Link::new(base, &[("authorization".to_owned(), value)], vec![key], bounds)?;
        return Ok(Box::new(Opsgenie { link }));
    }
    if let Some(hook) = &config.webhook {
        let secret = hook.secret.as_ref().map(read).transpose()?;
        let mut headers = Vec::new();
        for (name, source) in &hook.headers {
            headers.push((name.clone(), read(source)?));
        }
        let secrets = secret.iter().cloned().collect();
        let link = match (&hook.url, &hook.url_from) {
            (Some(url), _) => Link::new(url, &headers, secrets, bounds)?,
            (None, Some(source)) => secret_link(read(source)?, &headers, secrets, bounds)?,
            (None, None) => return Err("webhook: has no url".to_owned()),
        };
        return Ok(Box::new(Webhook { link, secret }));
    }
    Ok(Box::new(Printed(SyncMutex::new(Box::new(std::io::stderr())))))
}

/// A link whose url is itself a secret.
fn secret_link(
    url: Secret,
    headers: &[(String, Secret)],
    mut secrets: Vec<Secret>,
    bounds: crate::http::Bounds,
) -> Result<Link, String> {
    if let Some(problem) = url_problem(url.expose(), false) {
        return Err(format!("the url that is kept as a secret {problem}"));
    }
    let base = url.expose().to_owned();
    secrets.push(url);
    Link::new(&base, headers, secrets, bounds)
}
