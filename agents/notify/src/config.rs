//! `notify:` of an installation: channels by name, routes, what waits and what is too much. A closed world: an unknown key or
//! channel is an error that says where it stands.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use jiff::SignedDuration;
use serde::Deserialize;

use crate::http::{Bounds, url_problem};
use crate::notice::{Level, Urgency};
use crate::quiet::QuietHours;
use crate::secrets::SecretSource;

/// Most channels, and most routes.
const ENTRIES_MAX: usize = 64;
/// Longest name of a channel.
const NAME_BYTES_MAX: usize = 64;
/// Most notices that a limit may allow.
const LIMIT_NOTICES_MAX: u32 = 10_000;
/// Notices to a channel in [`LIMIT_PER_DEFAULT`] when its configuration says nothing.
pub(crate) const LIMIT_NOTICES_DEFAULT: u32 = 30;
/// See [`LIMIT_NOTICES_DEFAULT`].
pub(crate) const LIMIT_PER_DEFAULT: SignedDuration = SignedDuration::from_mins(10);
/// Longest window of a limit, and of flapping.
const WINDOW_MAX: SignedDuration = SignedDuration::from_hours(48);
/// Openings within an hour after which an incident pages no more, when the configuration says nothing.
const OPENINGS_DEFAULT: u32 = 3;

/// How people are told.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotifyConfig {
    /// Channels by name.
    pub channels: BTreeMap<String, ChannelConfig>,
    /// Which notice goes where; the first that fits counts.
    pub routes: Vec<Route>,
    /// Tried in this order when a channel fails for good.
    #[serde(default)]
    pub fallback: Vec<String>,
    /// When summaries wait.
    #[serde(default)]
    pub quiet_hours: Option<QuietHours>,
    /// When an incident that comes and goes pages no more.
    #[serde(default)]
    pub flapping: Flapping,
}

/// One channel: exactly one service.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelConfig {
    /// A bot in a channel of Slack.
    #[serde(default)]
    pub slack: Option<SlackConfig>,
    /// An incoming webhook of Slack.
    #[serde(default)]
    pub slack_webhook: Option<SlackWebhookConfig>,
    /// A service of PagerDuty.
    #[serde(default)]
    pub pagerduty: Option<PagerDutyConfig>,
    /// An integration of Opsgenie.
    #[serde(default)]
    pub opsgenie: Option<OpsgenieConfig>,
    /// Any url.
    #[serde(default)]
    pub webhook: Option<WebhookConfig>,
    /// Standard error of this process.
    #[serde(default)]
    pub print: Option<PrintConfig>,
    /// Most notices in a window; the rest is said in one.
    #[serde(default)]
    pub limit: Option<Limit>,
    /// Longest wait for an answer, in seconds.
    #[serde(default)]
    pub timeout_seconds: Option<u32>,
    /// Bounds that tests set to what they need.
    #[serde(skip)]
    pub(crate) exact: Option<Bounds>,
}

/// A bot in a channel of Slack.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlackConfig {
    /// Its token, `xoxb-…`.
    pub token: SecretSource,
    /// The channel's id, `C…`.
    pub channel: String,
    /// Another place than Slack's own.
    #[serde(default)]
    pub url: Option<String>,
    /// The url may be `http://` to another host.
    #[serde(default)]
    pub plaintext: bool,
}

/// An incoming webhook of Slack.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlackWebhookConfig {
    /// Its url, which is a secret.
    pub url: SecretSource,
}

/// A service of PagerDuty.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PagerDutyConfig {
    /// Integration key of Events API v2.
    pub routing_key: SecretSource,
    /// Where the account is.
    #[serde(default)]
    pub region: Region,
    /// Another place than PagerDuty's own.
    #[serde(default)]
    pub url: Option<String>,
}

/// An integration of Opsgenie.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpsgenieConfig {
    /// Its API key.
    pub key: SecretSource,
    /// Where the account is.
    #[serde(default)]
    pub region: Region,
    /// Another place than Opsgenie's own.
    #[serde(default)]
    pub url: Option<String>,
}

/// Where an account is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Region {
    /// United States.
    #[default]
    Us,
    /// Europe.
    Eu,
}

/// Any url.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// The url.
    #[serde(default)]
    pub url: Option<String>,
    /// The url, where it is a secret.
    #[serde(default)]
    pub url_from: Option<SecretSource>,
    /// Signs every request.
    #[serde(default)]
    pub secret: Option<SecretSource>,
    /// Headers, each from where its value is kept.
    #[serde(default)]
    pub headers: BTreeMap<String, SecretSource>,
    /// The url may be `http://` to another host.
    #[serde(default)]
    pub plaintext: bool,
}

impl fmt::Debug for WebhookConfig {
    /// Without the url: people put into it what is nobody's business.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookConfig").field("headers", &self.headers).finish_non_exhaustive()
    }
}

/// Standard error of this process.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrintConfig {}

/// Most notices in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// How many.
    pub notices: u32,
    /// In what time, `10m`.
    pub per: SignedDuration,
}

impl Default for Limit {
    fn default() -> Self {
        Self { notices: LIMIT_NOTICES_DEFAULT, per: LIMIT_PER_DEFAULT }
    }
}

/// When an incident that comes and goes pages no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flapping {
    /// So many openings page.
    pub openings: u32,
    /// Within this time, `1h`.
    pub within: SignedDuration,
}

impl Default for Flapping {
    fn default() -> Self {
        Self { openings: OPENINGS_DEFAULT, within: SignedDuration::from_hours(1) }
    }
}

/// Which notices go where. What is not said fits everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// How loud.
    #[serde(default)]
    pub urgency: Option<Urgency>,
    /// At least this grave.
    #[serde(default)]
    pub at_least: Option<Level>,
    /// One of these owners, as the estate declares them.
    #[serde(default)]
    pub owner: Vec<String>,
    /// One of these pipelines; `*` stands for any letters.
    #[serde(default)]
    pub pipeline: Vec<String>,
    /// One of these environments.
    #[serde(default)]
    pub environment: Vec<String>,
    /// The channels.
    pub to: Vec<String>,
}

impl Route {
    fn fits_all(&self) -> bool {
        let Self { urgency, at_least, owner, pipeline, environment, .. } = self;
        urgency.is_none() && at_least.is_none() && [owner, pipeline, environment].iter().all(|list| list.is_empty())
    }
}

impl ChannelConfig {
    /// Names of the services that are configured for it.
    pub(crate) fn services(&self) -> Vec<&'static str> {
        [
            ("slack", self.slack.is_some()),
            ("slack_webhook", self.slack_webhook.is_some()),
            ("pagerduty", self.pagerduty.is_some()),
            ("opsgenie", self.opsgenie.is_some()),
            ("webhook", self.webhook.is_some()),
            ("print", self.print.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, is_there)| is_there.then_some(name))
        .collect()
    }

    pub(crate) fn bounds(&self) -> Bounds {
        let mut bounds = self.exact.unwrap_or_default();
        if let Some(seconds) = self.timeout_seconds {
            bounds.whole = std::time::Duration::from_secs(u64::from(seconds));
        }
        bounds
    }

    fn sources(&mut self) -> Vec<(&'static str, &mut SecretSource)> {
        let mut sources = Vec::new();
        sources.extend(self.slack.as_mut().map(|slack| ("slack.token", &mut slack.token)));
        sources.extend(self.slack_webhook.as_mut().map(|hook| ("slack_webhook.url", &mut hook.url)));
        sources.extend(self.pagerduty.as_mut().map(|duty| ("pagerduty.routing_key", &mut duty.routing_key)));
        sources.extend(self.opsgenie.as_mut().map(|genie| ("opsgenie.key", &mut genie.key)));
        if let Some(hook) = &mut self.webhook {
            sources.extend(hook.url_from.as_mut().map(|url| ("webhook.url_from", url)));
            sources.extend(hook.secret.as_mut().map(|secret| ("webhook.secret", secret)));
            sources.extend(hook.headers.values_mut().map(|header| ("webhook.headers", header)));
        }
        sources
    }

    fn url_problems(&self) -> Vec<String> {
        let url = |place: &str, url: &Option<String>, plaintext: bool| {
            let problem = url.as_deref().and_then(|url| url_problem(url, plaintext));
            problem.map(|problem| format!("{place}.url: {problem}"))
        };
        let mut problems = Vec::new();
        problems.extend(self.slack.as_ref().and_then(|slack| url("slack", &slack.url, slack.plaintext)));
        problems.extend(self.pagerduty.as_ref().and_then(|duty| url("pagerduty", &duty.url, false)));
        problems.extend(self.opsgenie.as_ref().and_then(|genie| url("opsgenie", &genie.url, false)));
        if let Some(hook) = &self.webhook {
            problems.extend(url("webhook", &hook.url, hook.plaintext));
            if hook.url.is_some() == hook.url_from.is_some() {
                problems.push("webhook: write exactly one of `url` and `url_from`".to_owned());
            }
        }
        problems
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        match self.services().as_slice() {
            [_] => {}
            [] => problems.push(
                "names no service: write one of slack, slack_webhook, pagerduty, opsgenie, webhook, print".to_owned(),
            ),
            more => problems.push(format!("names {}: one channel is one service", more.join(" and "))),
        }
        for (place, source) in self.clone().sources() {
            problems.extend(source.problem().map(|problem| format!("{place}: {problem}")));
        }
        problems.extend(self.url_problems());
        if let Some(slack) = self.slack.as_ref().filter(|slack| !is_slack_id(&slack.channel)) {
            problems.push(format!(
                "slack.channel: `{}` is no id of a channel: copy it from the channel's details, it begins with C, G or D",
                slack.channel
            ));
        }
        if let Some(Limit { notices, per }) = self.limit
            && (notices == 0 || notices > LIMIT_NOTICES_MAX || !is_window(per))
        {
            problems.push(format!("limit: 1 to {LIMIT_NOTICES_MAX} notices per 1s to 48h are possible"));
        }
        if self.timeout_seconds.is_some_and(|seconds| seconds == 0 || seconds > 120) {
            problems.push("timeout_seconds: 1 to 120 are possible".to_owned());
        }
        problems
    }
}

fn is_window(window: SignedDuration) -> bool {
    window >= SignedDuration::from_secs(1) && window <= WINDOW_MAX
}

/// Changes and threads go by the id; a name may be given to another channel.
fn is_slack_id(text: &str) -> bool {
    text.len() >= 9
        && text.starts_with(['C', 'G', 'D'])
        && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
}

fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(fits)
}

impl NotifyConfig {
    /// Reads the part `notify:` by itself.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Vec<String>> {
        // Only what is wrong and where: the lines around it may hold a secret that somebody wrote there.
        let told = |error: serde_saphyr::Error| {
            error.without_snippet().to_string().lines().next().unwrap_or_default().to_owned()
        };
        let config: Self = serde_saphyr::from_str(text).map_err(|error| vec![told(error)])?;
        let problems = config.problems();
        if problems.is_empty() { Ok(config) } else { Err(problems) }
    }

    /// Everything that is wrong, each with its place and what to do.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.channels.is_empty() || self.channels.len() > ENTRIES_MAX || self.routes.len() > ENTRIES_MAX {
            problems.push(format!("channels and routes: 1 to {ENTRIES_MAX} of each are possible"));
        }
        for (name, channel) in &self.channels {
            if !is_name(name) {
                problems.push(format!("channels: `{name}` is no name: use small letters, digits, - and _"));
            }
            problems.extend(channel.problems().into_iter().map(|problem| format!("channels.{name}: {problem}")));
        }
        for (ix, route) in self.routes.iter().enumerate() {
            let place = format!("routes[{ix}].to");
            if route.to.is_empty() {
                problems.push(format!("{place}: names no channel"));
            }
            self.check_channels(&place, &route.to, &mut problems);
        }
        if !self.routes.last().is_some_and(Route::fits_all) {
            problems.push(
                "routes: the last one must fit everything (only `to`), or some notice would reach nobody".to_owned(),
            );
        }
        self.check_channels("fallback", &self.fallback, &mut problems);
        if let Some(Err(why)) = self.quiet_hours.as_ref().map(QuietHours::parsed) {
            problems.push(format!("quiet_hours.{why}"));
        }
        let Flapping { openings, within } = self.flapping;
        if openings == 0 || openings as usize >= crate::ledger::OPENINGS_MAX || !is_window(within) {
            problems.push(format!(
                "flapping: 1 to {} openings within 1s to 48h are possible",
                crate::ledger::OPENINGS_MAX - 1
            ));
        }
        problems
    }

    fn check_channels(&self, place: &str, names: &[String], problems: &mut Vec<String>) {
        let mut seen = BTreeSet::new();
        for name in names {
            if !self.channels.contains_key(name) {
                let known: Vec<&str> = self.channels.keys().map(String::as_str).collect();
                problems.push(format!("{place}: there is no channel `{name}`; there are: {}", known.join(", ")));
            } else if !seen.insert(name) {
                problems.push(format!("{place}: `{name}` stands twice"));
            }
        }
    }

    /// The same with files seen from `base`.
    #[must_use]
    pub fn beside(mut self, base: &Path) -> Self {
        for channel in self.channels.values_mut() {
            for (_, source) in channel.sources() {
                source.file = source.file.take().map(|file| base.join(file));
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "
channels:
  oncall: { pagerduty: { routing_key: { env: PAGERDUTY_ROUTING_KEY }, region: eu } }
  team: { slack: { token: { env: SLACK_BOT_TOKEN }, channel: C0123456789 }, limit: { notices: 20, per: 10m } }
  spare: { opsgenie: { key: { file: keys/opsgenie } } }
  hook: { webhook: { url: 'https://hooks.example/x', secret: { env: HOOK_SECRET }, headers: { x-team: { env: HOOK_TEAM } } } }
routes:
  - { urgency: page, at_least: error, owner: [data-platform], pipeline: ['flights_*'], to: [oncall, team] }
  - { to: [team] }
fallback: [spare, hook]
quiet_hours: { from: '22:00', to: '07:00', zone: Europe/Berlin }
flapping: { openings: 2, within: 30m }
";

    #[test]
    fn a_whole_configuration_is_read() {
        let config = NotifyConfig::parse(GOOD).unwrap().beside(Path::new("/etc/x"));
        assert_eq!(config.channels["team"].limit, Some(Limit { notices: 20, per: SignedDuration::from_mins(10) }));
        assert_eq!(config.flapping, Flapping { openings: 2, within: SignedDuration::from_mins(30) });
        let spare = config.channels["spare"].opsgenie.as_ref().unwrap();
        assert_eq!(spare.key.file.as_deref(), Some(Path::new("/etc/x/keys/opsgenie")));
        assert!(!format!("{config:?}").contains("hooks.example"));
    }

    #[test]
    fn every_mistake_is_named_with_its_place() {
        for (from, to, expected) in [
            ("env: SLACK_BOT_TOKEN", "value: xoxb-secret", "unknown field `value`"),
            ("{ env: SLACK_BOT_TOKEN }", "{ }", "channels.team: slack.token: write exactly one of `env` and `file`"),
            ("{ env: SLACK_BOT_TOKEN }", "xoxb-secret-secret", "expected mapping start at line 4, column 27"),
            ("C0123456789", "'#ops'", "channels.team: slack.channel: `#ops` is no id"),
            (
                "to: [oncall, team]",
                "to: [oncal]",
                "routes[0].to: there is no channel `oncal`; there are: hook, oncall, spare, team",
            ),
            ("to: [oncall, team]", "to: [team, team]", "routes[0].to: `team` stands twice"),
            ("to: [oncall, team]", "to: []", "routes[0].to: names no channel"),
            ("  - { to: [team] }\n", "", "routes: the last one must fit everything"),
            ("[spare, hook]", "[nobody]", "fallback: there is no channel `nobody`"),
            ("'22:00'", "'22'", "quiet_hours.from: `22` is no time of day"),
            ("openings: 2", "openings: 0", "flapping: 1 to"),
            ("notices: 20", "notices: 0", "channels.team: limit: 1 to"),
            (
                "https://hooks",
                "http://hooks",
                "channels.hook: webhook.url: would send incidents over the network in the clear",
            ),
            ("region: eu } }", "region: eu }, print: {} }", "channels.oncall: names pagerduty and print"),
            (
                "{ opsgenie: { key: { file: keys/opsgenie } } }",
                "{ timeout_seconds: 5 }",
                "channels.spare: names no service",
            ),
            ("urgency: page", "urgency: loud", "loud"),
        ] {
            let yaml = GOOD.replace(from, to);
            assert_ne!(yaml, GOOD, "{from}");
            let found = NotifyConfig::parse(&yaml).unwrap_err().join("\n");
            assert!(found.contains(expected), "{from} → {to}: {found}");
            assert!(!found.contains("secret"), "{found}");
        }
    }
}
