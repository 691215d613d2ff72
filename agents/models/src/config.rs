//! The part `models:` of `interlock.yaml`: providers, tiers, their order, own prices. Closed: an unknown key is an error.

mod batching;
mod cache;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;

pub use self::batching::{Batching, BatchingConfig};
pub use self::cache::CacheConfig;
use crate::bounds::Bounds;
use crate::prices::CardFile;
use crate::retry::RetryPolicy;

/// Most providers, and most tiers.
const ENTRIES_MAX: usize = 64;
/// Most models of a tier.
const MODELS_PER_TIER_MAX: usize = 16;
/// Longest name.
const NAME_BYTES_MAX: usize = 64;
/// Longest key, and longest file that holds one.
const KEY_BYTES_MAX: u64 = 16 * 1024;
/// Headers that carry keys: they are for `key_env` and `key_file`, which nothing prints.
const KEY_HEADERS: [&str; 5] = ["authorization", "x-api-key", "api-key", "cookie", "proxy-authorization"];

/// Who can be asked, and in which order.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelsConfig {
    /// Providers by name.
    #[serde(default)]
    pub providers: BTreeMap<String, ProviderConfig>,
    /// Models of each tier as `provider/model`, in the order in which they are asked.
    #[serde(default)]
    pub tiers: BTreeMap<String, Vec<String>>,
    /// All tiers from the lowest to the highest.
    #[serde(default)]
    pub order: Vec<String>,
    /// Answers that are given again; without it every question is asked.
    #[serde(default)]
    pub cache: Option<CacheConfig>,
    /// How requests are collected that may wait for a batch.
    #[serde(default)]
    pub batches: BatchingConfig,
    /// Own prices, by `provider/model` or `model`.
    #[serde(default)]
    pub(crate) prices: BTreeMap<String, CardFile>,
}

/// The way a provider speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Anthropic's Messages.
    Anthropic,
    /// OpenAI's Chat Completions: also vLLM, Ollama, LiteLLM and gateways.
    OpenaiChat,
    /// OpenAI's Responses.
    OpenaiResponses,
}

/// One provider.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderConfig {
    /// The way it speaks.
    pub kind: Kind,
    /// Where it is; none is the maker's own.
    #[serde(default)]
    pub url: Option<String>,
    /// Environment variable that holds its key.
    #[serde(default)]
    pub key_env: Option<String>,
    /// File that holds its key.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// Header that carries the key as it is, where it is not the usual one.
    #[serde(default)]
    pub key_header: Option<String>,
    /// The key may go over plain HTTP to a host that is not this one.
    #[serde(default)]
    pub plaintext: bool,
    /// Most requests in a minute.
    #[serde(default)]
    pub requests_per_minute: Option<NonZeroU32>,
    /// Most tokens in a minute.
    #[serde(default)]
    pub tokens_per_minute: Option<NonZeroU32>,
    /// Headers beside the usual ones; none that carries a key.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// What Chat Completions calls the bound of an answer here.
    #[serde(default)]
    pub max_tokens_field: Option<MaxTokensField>,
    /// Longest time of a try, in seconds.
    #[serde(default)]
    pub timeout_seconds: Option<NonZeroU32>,
    /// Longest silence within an answer, in seconds.
    #[serde(default)]
    pub idle_seconds: Option<NonZeroU32>,
    /// Most tries of a call that certainly cost nothing.
    #[serde(default)]
    pub tries: Option<NonZeroU32>,
    /// Whether it has a batch interface; the maker's own address has one.
    #[serde(default)]
    pub batches: Option<bool>,
    /// Bounds that tests set to what they need.
    #[serde(skip)]
    pub(crate) exact: Option<(Bounds, RetryPolicy)>,
}

/// Names of the bound of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaxTokensField {
    /// Most servers.
    MaxTokens,
    /// OpenAI's.
    MaxCompletionTokens,
}

/// A key. Nothing prints it.
#[derive(Debug, Clone)]
pub struct Key(pub(crate) SecretString);

impl From<SecretString> for Key {
    fn from(key: SecretString) -> Self {
        Self(key)
    }
}

/// Where a key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// In an environment variable.
    Env(String),
    /// In a file.
    File(PathBuf),
}

/// Reads a key from where it is.
///
/// # Errors
/// It is not there, or empty; says where, never what.
pub fn read_key(source: &KeySource) -> Result<Key, String> {
    let text = match source {
        KeySource::Env(name) => {
            std::env::var(name).map_err(|_| format!("the environment variable {name} is not set"))?
        }
        KeySource::File(path) => {
            let shown = path.display();
            let length = std::fs::metadata(path).map_err(|error| format!("{shown}: {}", error.kind()))?.len();
            if length > KEY_BYTES_MAX {
                return Err(format!("{shown}: larger than {KEY_BYTES_MAX} bytes, so it is no key"));
            }
            std::fs::read_to_string(path).map_err(|error| format!("{shown}: {}", error.kind()))?
        }
    };
    let key = text.trim();
    if key.is_empty() {
        return Err(format!("the key in {source:?} is empty"));
    }
    Ok(Key(SecretString::from(key)))
}

impl fmt::Debug for ProviderConfig {
    /// Without the values of headers: people put into them what is nobody's business.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<&String> = self.headers.keys().collect();
        let mut shown = f.debug_struct("ProviderConfig");
        shown.field("kind", &self.kind).field("url", &self.url).field("key_env", &self.key_env);
        shown.field("key_file", &self.key_file).field("headers", &headers).finish_non_exhaustive()
    }
}

impl ProviderConfig {
    /// A provider of a kind with nothing else said.
    pub fn of(kind: Kind) -> Self {
        Self {
            kind,
            url: None,
            key_env: None,
            key_file: None,
            key_header: None,
            plaintext: false,
            requests_per_minute: None,
            tokens_per_minute: None,
            headers: BTreeMap::new(),
            max_tokens_field: None,
            timeout_seconds: None,
            idle_seconds: None,
            tries: None,
            batches: None,
            exact: None,
        }
    }

    /// Where its key is, if it has one.
    pub fn key_source(&self) -> Option<KeySource> {
        let env = self.key_env.clone().map(KeySource::Env);
        env.or_else(|| self.key_file.clone().map(KeySource::File))
    }

    pub(crate) fn base(&self) -> &str {
        self.url.as_deref().unwrap_or(match self.kind {
            Kind::Anthropic => "https://api.anthropic.com",
            Kind::OpenaiChat | Kind::OpenaiResponses => "https://api.openai.com/v1",
        })
    }

    /// Servers that speak a maker's words seldom have its batch interface as well.
    pub(crate) fn has_batches(&self) -> bool {
        self.batches.unwrap_or(self.url.is_none())
    }

    pub(crate) fn max_tokens_field(&self) -> &'static str {
        let openai = self.host().is_some_and(|host| host.ends_with("openai.com") || host.ends_with("azure.com"));
        match self.max_tokens_field {
            Some(MaxTokensField::MaxTokens) => "max_tokens",
            Some(MaxTokensField::MaxCompletionTokens) => "max_completion_tokens",
            None if openai => "max_completion_tokens",
            None => "max_tokens",
        }
    }

    pub(crate) fn bounds(&self) -> Bounds {
        let mut bounds = self.exact.map_or_else(Bounds::default, |(bounds, _)| bounds);
        let seconds =
            |seconds: Option<NonZeroU32>| seconds.map(|seconds| Duration::from_secs(u64::from(seconds.get())));
        bounds.whole = seconds(self.timeout_seconds).unwrap_or(bounds.whole);
        bounds.idle = seconds(self.idle_seconds).unwrap_or(bounds.idle);
        bounds
    }

    pub(crate) fn retry(&self) -> RetryPolicy {
        let policy = self.exact.map_or_else(RetryPolicy::default, |(_, policy)| policy);
        RetryPolicy { tries_max: self.tries.map_or(policy.tries_max, NonZeroU32::get), ..policy }
    }

    fn host(&self) -> Option<String> {
        reqwest::Url::parse(self.base()).ok()?.host_str().map(str::to_owned)
    }

    /// Whether it is on this host.
    pub(crate) fn is_here(&self) -> bool {
        let host = self.host().unwrap_or_default();
        let ip: Result<std::net::IpAddr, _> = host.trim_matches(['[', ']']).parse();
        host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
    }

    /// A key goes to other hosts under TLS, or where somebody has said that it need not.
    pub(crate) fn check_key_goes_safely(&self, has_key: bool) -> Result<(), String> {
        let url = reqwest::Url::parse(self.base()).map_err(|_| "url: is no url".to_owned())?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("url: must begin with http:// or https://".to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("url: carries an account; use key_env or key_file".to_owned());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("url: must end with the path that the interface is under".to_owned());
        }
        if has_key && url.scheme() == "http" && !self.is_here() && !self.plaintext {
            return Err(
                "url: the key would go over the network in the clear; use https, or say `plaintext: true`".to_owned()
            );
        }
        Ok(())
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.key_env.is_some() && self.key_file.is_some() {
            problems.push("key_env and key_file: one of them".to_owned());
        }
        for name in self.headers.keys().filter(|name| KEY_HEADERS.contains(&name.to_ascii_lowercase().as_str())) {
            problems.push(format!("headers: `{name}` carries a key; use key_env or key_file, and key_header"));
        }
        problems.extend(self.check_key_goes_safely(self.key_source().is_some()).err());
        problems
    }
}

fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(fits)
}

/// `provider/model`; the model's own name may hold further slashes.
pub(crate) fn split(entry: &str) -> Option<(&str, &str)> {
    entry.split_once('/').filter(|(provider, model)| !provider.is_empty() && !model.is_empty())
}

impl ModelsConfig {
    /// Reads the part `models:` by itself.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Vec<String>> {
        // Only what is wrong and where: the lines around it may hold a key that somebody wrote there.
        let told = |error: serde_saphyr::Error| error.to_string().lines().next().unwrap_or_default().to_owned();
        let config: Self = serde_saphyr::from_str(text).map_err(|error| vec![told(error)])?;
        let problems = config.problems();
        if problems.is_empty() { Ok(config) } else { Err(problems) }
    }

    /// Everything that is wrong, each with its place and what to do.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.providers.len() > ENTRIES_MAX || self.tiers.len() > ENTRIES_MAX {
            problems.push(format!("more than {ENTRIES_MAX} providers or tiers"));
        }
        for (name, provider) in &self.providers {
            if !is_name(name) {
                problems.push(format!("providers: `{name}` is no name: use small letters, digits, - and _"));
            }
            problems.extend(provider.problems().into_iter().map(|problem| format!("providers.{name}.{problem}")));
        }
        for (name, models) in &self.tiers {
            self.check_tier(name, models, &mut problems);
        }
        self.check_order(&mut problems);
        let cache = self.cache.iter().filter_map(|cache| cache.bounds().err()).flatten();
        problems.extend(cache.map(|problem| format!("cache.{problem}")));
        let batches = self.batches.bounds().err().into_iter().flatten();
        problems.extend(batches.map(|problem| format!("batches.{problem}")));
        for (name, price) in &self.prices {
            problems.extend(price.card().err().map(|why| format!("prices.{name}: {why}")));
        }
        problems
    }

    fn check_tier(&self, name: &str, models: &[String], problems: &mut Vec<String>) {
        if !is_name(name) {
            problems.push(format!("tiers: `{name}` is no name: use small letters, digits, - and _"));
        }
        if models.is_empty() || models.len() > MODELS_PER_TIER_MAX {
            problems
                .push(format!("tiers.{name}: has {} models, 1 to {MODELS_PER_TIER_MAX} are possible", models.len()));
        }
        let mut seen = BTreeSet::new();
        for entry in models {
            match split(entry) {
                None => problems.push(format!("tiers.{name}: `{entry}` is not `provider/model`")),
                Some((provider, _)) if !self.providers.contains_key(provider) => {
                    let known: Vec<&str> = self.providers.keys().map(String::as_str).collect();
                    let known = known.join(", ");
                    problems.push(format!("tiers.{name}: there is no provider `{provider}`; there are: {known}"));
                }
                Some(_) if !seen.insert(entry) => problems.push(format!("tiers.{name}: `{entry}` stands twice")),
                Some(_) => {}
            }
        }
    }

    fn check_order(&self, problems: &mut Vec<String>) {
        let mut left: BTreeSet<&str> = self.tiers.keys().map(String::as_str).collect();
        for tier in &self.order {
            if !left.remove(tier.as_str()) {
                problems.push(format!("order: `{tier}` is no tier, or stands twice"));
            }
        }
        problems.extend(
            left.into_iter().map(|tier| format!("order: the tier `{tier}` is missing: add it where it belongs")),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "
providers:
  anthropic: { kind: anthropic, key_env: ANTHROPIC_API_KEY, requests_per_minute: 50, tokens_per_minute: 400000 }
  openai: { kind: openai-responses, key_file: /run/secrets/openai }
  local: { kind: openai-chat, url: 'http://127.0.0.1:11434/v1', headers: { x-team: data } }
tiers:
  low: [anthropic/claude-haiku-5-5, local/meta/llama]
  high: [anthropic/claude-opus-5-5, openai/gpt-6.2-sol]
order: [low, high]
prices: { local/meta/llama: { input: 0, output: 0, context: 8192, max_output: 4096 } }
";

    fn problems(yaml: &str) -> String {
        ModelsConfig::parse(yaml).unwrap_err().join("\n")
    }

    #[test]
    fn a_whole_configuration_is_read() {
        let config = ModelsConfig::parse(GOOD).unwrap();
        assert_eq!(config.order, ["low", "high"]);
        assert_eq!(split("local/meta/llama"), Some(("local", "meta/llama")));
        assert_eq!(config.providers["openai"].key_source(), Some(KeySource::File("/run/secrets/openai".into())));
        assert_eq!(config.providers["local"].max_tokens_field(), "max_tokens");
        assert_eq!(ProviderConfig::of(Kind::OpenaiChat).max_tokens_field(), "max_completion_tokens");
        assert!(ModelsConfig::parse("{}").unwrap().providers.is_empty(), "no models at all is the rules tier");
    }

    #[test]
    fn every_mistake_is_named_with_its_place() {
        for (from, to, expected) in [
            ("key_env: ANTHROPIC_API_KEY", "key: sk-secret", "unknown field `key`"),
            ("order: [low, high]", "order: [low, high]\ncache: { ttl: 7y }", "cache.ttl: `7y` is not possible"),
            ("order: [low, high]", "order: [low, high]\ncache: { tll: 7d }", "unknown field `tll`"),
            ("order: [low, high]", "order: [low, high]\nbatches: { size: 0 }", "batches.size: 0 is not possible"),
            ("kind: openai-chat", "kind: openai", "openai"),
            ("requests_per_minute: 50", "requests_per_minute: 0", "line 3 column 61: invalid value: integer `0`"),
            (
                "local/meta/llama]",
                "locl/meta/llama]",
                "tiers.low: there is no provider `locl`; there are: anthropic, local, openai",
            ),
            ("local/meta/llama]", "llama]", "tiers.low: `llama` is not `provider/model`"),
            (
                "local/meta/llama]",
                "anthropic/claude-haiku-5-5]",
                "tiers.low: `anthropic/claude-haiku-5-5` stands twice",
            ),
            ("order: [low, high]", "order: [low]", "order: the tier `high` is missing"),
            ("order: [low, high]", "order: [low, high, top]", "order: `top` is no tier"),
            ("x-team", "Authorization", "providers.local.headers: `Authorization` carries a key"),
            ("http://127.0.0.1:11434/v1", "ftp://x", "providers.local.url: must begin with http"),
            ("http://127.0.0.1:11434/v1", "http://me:secret@x", "providers.local.url: carries an account"),
            ("input: 0", "input: -1", "prices.local/meta/llama"),
        ] {
            let yaml = GOOD.replace(from, to);
            assert_ne!(yaml, GOOD, "{from}");
            let found = problems(&yaml);
            assert!(found.contains(expected), "{from} → {to}: {found}");
            assert!(!found.contains("secret"), "{found}");
        }
    }

    #[test]
    fn a_key_does_not_go_over_the_network_in_the_clear() {
        let with = |url: &str, plaintext: bool| {
            let config = ProviderConfig { url: Some(url.into()), plaintext, ..ProviderConfig::of(Kind::OpenaiChat) };
            config.check_key_goes_safely(true)
        };
        assert!(with("http://llm.internal:4000/v1", false).unwrap_err().contains("in the clear"));
        assert!(with("http://llm.internal:4000/v1", true).is_ok());
        for url in ["http://localhost:1/v1", "http://127.0.0.1:1", "http://[::1]:1", "https://x.example/v1"] {
            assert!(with(url, false).is_ok(), "{url}");
        }
    }

    #[test]
    fn a_key_is_read_and_never_shown() {
        let path = std::env::temp_dir().join(format!("models-key-{}", std::process::id()));
        std::fs::write(&path, " sk-secret-1234\n").unwrap();
        let key = read_key(&KeySource::File(path.clone())).unwrap();
        assert_eq!(secrecy::ExposeSecret::expose_secret(&key.0), "sk-secret-1234");
        assert!(!format!("{key:?}").contains("secret-1234"));
        std::fs::write(&path, "  \n").unwrap();
        assert!(read_key(&KeySource::File(path.clone())).unwrap_err().contains("is empty"));
        std::fs::remove_file(&path).unwrap();
        assert!(read_key(&KeySource::File(path)).is_err());
        assert!(read_key(&KeySource::Env("MODELS_NO_SUCH_VARIABLE".into())).unwrap_err().contains("is not set"));
        let mut config = ProviderConfig::of(Kind::OpenaiChat);
        config.headers.insert("x-tenant".into(), "private-value".into());
        assert!(!format!("{config:?}").contains("private-value"));
    }
}
