//! The `mcpServers` object that editors read, with a few keys of our own.
//!
//! Every problem of a file is reported in one go. Keys that other programs put there (`disabled`, `autoApprove` …) are
//! reported as warnings and never obeyed: what an editor may do without asking says nothing about an agent.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::auth::{Grant, OAuthConfig};
use super::dial::Dial;
use super::effect::Effect;
use super::http::Reach;
use super::limits;
use super::samples::Sampling;

/// Longest server name in bytes: it is half of every tool's full name.
const SERVER_NAME_BYTES_MAX: usize = 64;
/// Our own keys and the shared ones; anything else is warned about.
const KNOWN_KEYS: [&str; 29] = [
    "type",
    "command",
    "args",
    "env",
    "cwd",
    "url",
    "headers",
    "timeout",
    "idle_timeout",
    "start_timeout",
    "discover_timeout",
    "list_timeout",
    "close_grace",
    "trusted",
    "effects",
    "environment",
    "environments",
    "disabled",
    "max_result_bytes",
    "max_line_bytes",
    "concurrency",
    "calls_per_minute",
    "breaker_failures",
    "private_network",
    "oauth",
    "elicitation",
    "sampling",
    "tasks",
    "roots",
];

/// How a server is reached.
#[derive(Clone)]
pub enum TransportConfig {
    /// A child process that speaks over its standard input and output.
    Stdio {
        /// Program, looked up in the child's own `PATH`.
        command: String,
        /// Arguments, never through a shell.
        args: Vec<String>,
        /// The whole environment of the child, besides a minimal `PATH` and `HOME`.
        env: BTreeMap<String, String>,
        /// Working directory; by default an empty one of its own.
        cwd: Option<PathBuf>,
    },
    /// Streamable HTTP.
    Http {
        /// Endpoint.
        url: String,
        /// Headers of every request.
        headers: BTreeMap<String, String>,
    },
    /// A connection made by code of ours: a server in this process, or a test.
    Custom(Arc<dyn Dial>),
}

/// Only the names of variables and headers are shown: their values may be secrets.
impl fmt::Debug for TransportConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdio { command, args, env, cwd } => {
                let env: Vec<_> = env.keys().collect();
                f.debug_struct("Stdio")
                    .field("command", command)
                    .field("args", args)
                    .field("env", &env)
                    .field("cwd", cwd)
                    .finish()
            }
            Self::Http { url, headers } => {
                let headers: Vec<_> = headers.keys().collect();
                f.debug_struct("Http").field("url", url).field("headers", &headers).finish()
            }
            Self::Custom(_) => f.write_str("Custom"),
        }
    }
}

/// One server as the operator declared it.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Key in `mcpServers`; the first half of `server.tool`.
    pub name: String,
    /// How it is reached.
    pub transport: TransportConfig,
    /// Whole time of one call.
    pub timeout: Duration,
    /// Time of one call without progress; `None` means only the whole time counts.
    pub idle_timeout: Option<Duration>,
    /// Time to start and agree on a revision.
    pub start_timeout: Duration,
    /// Time the server has to answer `server/discover` before it counts as one of the `initialize` era. By default half
    /// of [`Self::start_timeout`]: whatever it speaks, a server that starts within that half is attached.
    pub discover_timeout: Option<Duration>,
    /// Time for a whole tool list.
    pub list_timeout: Duration,
    /// Time to leave after the end of input, and again after SIGTERM.
    pub close_grace: Duration,
    /// Whether its annotations count.
    pub trusted: bool,
    /// Effect of single tools, whatever their annotations say.
    pub effects: BTreeMap<String, Effect>,
    /// Label for the guard and the audit log: `staging`, `production` …
    pub environment: Option<String>,
    /// Which argument chooses among several environments, where a server has them.
    pub environments: Option<Environments>,
    /// Bytes of a result handed on; the rest is cut and marked.
    pub max_result_bytes: usize,
    /// Bytes of one message; a longer one ends the connection.
    pub max_line_bytes: usize,
    /// Parallel calls.
    pub concurrency: usize,
    /// Calls a minute; `None` is no limit.
    pub calls_per_minute: Option<NonZeroU32>,
    /// Failures in a row after which calls are refused for a while.
    pub breaker_failures: u32,
    /// Whether an HTTP server may be on a private network.
    pub private_network: bool,
    /// How to log in to an HTTP server that asks for it.
    pub oauth: Option<OAuthConfig>,
    /// Whether the server may ask people while a call is under way.
    pub elicitation: bool,
    /// How far the server may use our models; by default not at all.
    pub sampling: Option<Sampling>,
    /// Whether the server may answer a call with a task that goes on (`io.modelcontextprotocol/tasks`).
    pub tasks: bool,
    /// Addresses (`file://…`) the server is told it may work in.
    pub roots: Vec<String>,
}

impl ServerConfig {
    /// A server with default limits.
    pub fn new(name: impl Into<String>, transport: TransportConfig) -> Self {
        Self {
            name: name.into(),
            transport,
            timeout: limits::CALL_TIMEOUT_DEFAULT,
            idle_timeout: None,
            start_timeout: limits::START_TIMEOUT_DEFAULT,
            discover_timeout: None,
            list_timeout: limits::LIST_TIMEOUT_DEFAULT,
            close_grace: limits::CLOSE_GRACE_DEFAULT,
            trusted: false,
            effects: BTreeMap::new(),
            environment: None,
            environments: None,
            max_result_bytes: limits::RESULT_BYTES_DEFAULT,
            max_line_bytes: limits::LINE_BYTES_MAX,
            concurrency: limits::CONCURRENCY_DEFAULT,
            calls_per_minute: None,
            breaker_failures: limits::BREAKER_FAILURES_DEFAULT,
            private_network: false,
            oauth: None,
            elicitation: false,
            sampling: None,
            tasks: false,
            roots: Vec::new(),
        }
    }

    pub(super) fn probe_time(&self) -> Duration {
        self.discover_timeout.unwrap_or(self.start_timeout / 2)
    }

    /// A server at an address, with default limits.
    pub fn http(name: impl Into<String>, url: impl Into<String>) -> Self {
        Self::new(name, TransportConfig::Http { url: url.into(), headers: BTreeMap::new() })
    }

    /// A child process with default limits.
    pub fn stdio(name: impl Into<String>, command: impl Into<String>, args: &[&str]) -> Self {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        Self::new(name, TransportConfig::Stdio { command: command.into(), args, env: BTreeMap::new(), cwd: None })
    }
}

/// The environments of a server with several connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environments {
    /// JSON pointer of the argument that chooses one.
    pub argument: String,
    /// Label of each value; empty where the values are the labels.
    pub labels: BTreeMap<String, String>,
}

/// One thing wrong with a configuration, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct ConfigProblem {
    /// Path of keys, as in `mcpServers.warehouse.timeout`.
    pub path: String,
    /// What is wrong and what to write.
    pub message: String,
}

/// The servers of a file that are usable, and all that is wrong with the rest.
#[derive(Debug, Default)]
pub struct ParsedServers {
    /// Servers without errors.
    pub servers: Vec<ServerConfig>,
    /// Mistakes; the servers they concern are left out.
    pub errors: Vec<ConfigProblem>,
    /// Keys that have no effect here.
    pub warnings: Vec<ConfigProblem>,
}

impl ParsedServers {
    /// Reads `{"mcpServers": {..}}`, `{"servers": {..}}` (VS Code), or the inner object alone.
    pub fn parse(value: &Value) -> Self {
        let mut parsed = Self::default();
        let inner = ["mcpServers", "servers"].iter().find_map(|key| value.get(key).map(|servers| (*key, servers)));
        let (path, servers) = inner.unwrap_or(("mcpServers", value));
        let Some(servers) = servers.as_object() else {
            parsed.errors.push(problem(path, "expected an object of servers by name"));
            return parsed;
        };
        for (name, entry) in servers {
            let mut reader = Reader { path: format!("{path}.{name}"), errors: Vec::new() };
            let config = reader.server(name, entry);
            for key in entry.as_object().into_iter().flat_map(Map::keys) {
                if !KNOWN_KEYS.contains(&key.as_str()) {
                    parsed.warnings.push(problem(format!("{path}.{name}.{key}"), "this key has no effect here"));
                }
            }
            match config {
                Some(_) if entry.get("disabled") == Some(&Value::Bool(true)) => {}
                Some(config) if reader.errors.is_empty() => parsed.servers.push(config),
                _ => parsed.errors.append(&mut reader.errors),
            }
        }
        parsed
    }
}

fn problem(path: impl Into<String>, message: impl Into<String>) -> ConfigProblem {
    ConfigProblem { path: path.into(), message: message.into() }
}

/// Reads one server's entry and collects what is wrong with it.
struct Reader {
    path: String,
    errors: Vec<ConfigProblem>,
}

impl Reader {
    fn server(&mut self, name: &str, entry: &Value) -> Option<ServerConfig> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        if name.is_empty() || name.len() > SERVER_NAME_BYTES_MAX || !name.bytes().all(allowed) {
            let message = format!("a server name has 1 to {SERVER_NAME_BYTES_MAX} letters, digits, `_` or `-`");
            self.errors.push(problem(&self.path, message));
        }
        let Some(entry) = entry.as_object() else {
            self.errors.push(problem(&self.path, "expected an object with `command` or `url`"));
            return None;
        };
        let mut config = ServerConfig::new(name, self.transport(entry)?);
        self.times(entry, &mut config);
        self.sizes(entry, &mut config);
        self.switches(entry, &mut config);
        config.roots = self.list(entry.get("roots"), "roots");
        config.sampling = entry.get("sampling").and_then(|value| self.sampling(value));
        config.oauth = entry.get("oauth").map(|oauth| self.oauth(oauth));
        if let TransportConfig::Http { url, .. } = &config.transport
            && !url.contains("${")
            && let Err(message) = (Reach { private: config.private_network }).read(url)
        {
            self.errors.push(problem(format!("{}.url", self.path), message));
        }
        if let Some(label) = entry.get("environment") {
            config.environment =
                self.expect(label.as_str(), "environment", "a name such as staging").map(str::to_owned);
        }
        config.environments = entry.get("environments").and_then(|value| self.environments(value));
        config.effects = self.effects(entry.get("effects"));
        Some(config)
    }

    fn switches(&mut self, entry: &Map<String, Value>, config: &mut ServerConfig) {
        let fields: [(&str, &mut bool); 4] = [
            ("trusted", &mut config.trusted),
            ("private_network", &mut config.private_network),
            ("elicitation", &mut config.elicitation),
            ("tasks", &mut config.tasks),
        ];
        for (key, field) in fields {
            let Some(value) = entry.get(key) else { continue };
            *field = self.expect(value.as_bool(), key, "true or false").unwrap_or(false);
        }
    }

    /// `true`, or `{"tier": "small", "max_tokens": 512}`.
    fn sampling(&mut self, value: &Value) -> Option<Sampling> {
        let fields = match value {
            Value::Bool(allowed) => return allowed.then(Sampling::default),
            Value::Object(fields) => fields,
            _ => {
                self.expect(None::<()>, "sampling", "true, false, or an object with `tier` and `max_tokens`");
                return None;
            }
        };
        if let Some(unknown) = fields.keys().find(|key| !["tier", "max_tokens"].contains(&key.as_str())) {
            self.expect(None::<()>, &format!("sampling.{unknown}"), "`tier` or `max_tokens`");
        }
        let mut sampling = Sampling::default();
        if let Some(tier) = fields.get("tier") {
            sampling.tier = self.expect(tier.as_str(), "sampling.tier", "the name of a tier").map(str::to_owned);
        }
        if let Some(most) = fields.get("max_tokens") {
            let most = most.as_u64().filter(|most| *most > 0);
            sampling.max_tokens = self.expect(most, "sampling.max_tokens", "a number of tokens").unwrap_or_default();
        }
        Some(sampling)
    }

    fn oauth(&mut self, value: &Value) -> OAuthConfig {
        let word = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        let grant = match word("grant").as_deref() {
            None | Some("authorization_code") => Some(Grant::AuthorizationCode),
            Some("client_credentials") => Some(Grant::ClientCredentials),
            Some(_) => None,
        };
        let grant = self.expect(grant, "oauth.grant", "authorization_code or client_credentials").unwrap_or_default();
        OAuthConfig {
            grant,
            client_id: word("client_id"),
            client_secret: word("client_secret"),
            client_metadata_url: word("client_metadata_url"),
            private_key: word("private_key"),
            algorithm: word("algorithm"),
            scopes: self.list(value.get("scopes"), "oauth.scopes"),
        }
    }

    fn transport(&mut self, entry: &Map<String, Value>) -> Option<TransportConfig> {
        match (entry.get("command"), entry.get("url")) {
            (Some(command), None) => {
                let command = self.expect(command.as_str(), "command", "a program")?.to_owned();
                let cwd = entry.get("cwd").and_then(|cwd| self.expect(cwd.as_str(), "cwd", "a directory"));
                Some(TransportConfig::Stdio {
                    command,
                    args: self.list(entry.get("args"), "args"),
                    env: self.strings(entry.get("env"), "env"),
                    cwd: cwd.map(PathBuf::from),
                })
            }
            (None, Some(url)) => {
                let url = self.expect(url.as_str(), "url", "an http(s) address")?.to_owned();
                Some(TransportConfig::Http { url, headers: self.strings(entry.get("headers"), "headers") })
            }
            _ => {
                self.errors.push(problem(&self.path, "give exactly one of `command` and `url`"));
                None
            }
        }
    }

    fn times(&mut self, entry: &Map<String, Value>, config: &mut ServerConfig) {
        let fields: [(&str, &mut Duration); 4] = [
            ("timeout", &mut config.timeout),
            ("start_timeout", &mut config.start_timeout),
            ("list_timeout", &mut config.list_timeout),
            ("close_grace", &mut config.close_grace),
        ];
        for (key, field) in fields {
            if let Some(duration) = self.duration(entry, key) {
                *field = duration;
            }
        }
        config.discover_timeout = self.duration(entry, "discover_timeout");
        config.idle_timeout = self.duration(entry, "idle_timeout");
    }

    fn duration(&mut self, entry: &Map<String, Value>, key: &str) -> Option<Duration> {
        let value = entry.get(key)?;
        let duration = match value {
            Value::Number(_) => value.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
            Value::String(text) => parse_duration(text),
            _ => None,
        };
        self.expect(duration.filter(|d| !d.is_zero()), key, "a time above zero, as in 30, \"30s\", \"500ms\" or \"2m\"")
    }

    fn sizes(&mut self, entry: &Map<String, Value>, config: &mut ServerConfig) {
        let fields: [(&str, &mut usize); 3] = [
            ("max_result_bytes", &mut config.max_result_bytes),
            ("max_line_bytes", &mut config.max_line_bytes),
            ("concurrency", &mut config.concurrency),
        ];
        for (key, field) in fields {
            let Some(value) = entry.get(key) else { continue };
            let number = value.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
            if let Some(number) = self.expect(number, key, "a whole number above zero") {
                *field = number;
            }
        }
        if let Some(value) = entry.get("calls_per_minute") {
            let number = value.as_u64().and_then(|n| u32::try_from(n).ok()).and_then(NonZeroU32::new);
            config.calls_per_minute = self.expect(number, "calls_per_minute", "a whole number above zero");
        }
        if let Some(value) = entry.get("breaker_failures") {
            let number = value.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
            config.breaker_failures =
                self.expect(number, "breaker_failures", "a whole number above zero").unwrap_or(config.breaker_failures);
        }
        // More permits than this the semaphore cannot hold, and no server can serve.
        config.concurrency = config.concurrency.min(tokio::sync::Semaphore::MAX_PERMITS);
    }

    fn list(&mut self, value: Option<&Value>, key: &str) -> Vec<String> {
        let Some(value) = value else { return Vec::new() };
        let items =
            value.as_array().and_then(|items| items.iter().map(|item| item.as_str().map(str::to_owned)).collect());
        self.expect(items, key, "a list of strings").unwrap_or_default()
    }

    fn strings(&mut self, value: Option<&Value>, key: &str) -> BTreeMap<String, String> {
        let Some(value) = value else { return BTreeMap::new() };
        let strings = value.as_object().and_then(|map| {
            map.iter().map(|(name, item)| item.as_str().map(|text| (name.clone(), text.to_owned()))).collect()
        });
        self.expect(strings, key, "an object of strings").unwrap_or_default()
    }

    fn environments(&mut self, value: &Value) -> Option<Environments> {
        let read = || {
            let fields = value.as_object()?;
            let argument = fields.get("argument")?.as_str().filter(|pointer| pointer.starts_with('/'))?.to_owned();
            let labels = fields.get("labels").map_or(Some(BTreeMap::new()), |labels| {
                let labels = labels.as_object()?.iter();
                labels.map(|(name, label)| Some((name.clone(), label.as_str()?.to_owned()))).collect()
            })?;
            let known = fields.keys().all(|key| matches!(key.as_str(), "argument" | "labels"));
            known.then_some(Environments { argument, labels })
        };
        self.expect(
            read(),
            "environments",
            "{argument: /POINTER, labels: {NAME: ENVIRONMENT}}: the argument that chooses a connection, and their labels",
        )
    }

    fn effects(&mut self, value: Option<&Value>) -> BTreeMap<String, Effect> {
        let Some(value) = value else { return BTreeMap::new() };
        let effects = value.as_object().and_then(|map| {
            let entries =
                map.iter().map(|(tool, word)| Some((tool.clone(), serde_json::from_value(word.clone()).ok()?)));
            entries.collect()
        });
        self.expect(effects, "effects", "tools by name, each read_only, idempotent or at_most_once").unwrap_or_default()
    }

    fn expect<T>(&mut self, value: Option<T>, key: &str, what: &str) -> Option<T> {
        if value.is_none() {
            self.errors.push(problem(format!("{}.{key}", self.path), format!("expected {what}")));
        }
        value
    }
}

/// A time such as `30s`.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3600).map(Duration::from_secs),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    fn check_config(value: Value, expected: Expect) {
        let parsed = ParsedServers::parse(&value);
        let mut shown = String::new();
        for server in &parsed.servers {
            shown += &format!(
                "{}: {:?} timeout={:?} effects={:?}\n",
                server.name, server.transport, server.timeout, server.effects
            );
        }
        parsed.errors.iter().for_each(|error| shown += &format!("error {error}\n"));
        parsed.warnings.iter().for_each(|warning| shown += &format!("warning {warning}\n"));
        expected.assert_eq(&shown);
    }

    #[test]
    fn reads_what_an_editor_reads() {
        check_config(
            json!({"mcpServers": {
                "git": {"command": "uvx", "args": ["mcp-server-git"], "env": {"TOKEN": "${GIT_TOKEN}"}},
                "docs": {"url": "https://example.test/mcp", "headers": {"Authorization": "Bearer ${DOCS}"}},
            }}),
            expect![[r#"
                docs: Http { url: "https://example.test/mcp", headers: ["Authorization"] } timeout=60s effects={}
                git: Stdio { command: "uvx", args: ["mcp-server-git"], env: ["TOKEN"], cwd: None } timeout=60s effects={}
            "#]],
        );
    }

    #[test]
    fn reads_our_own_keys_and_warns_about_strangers() {
        check_config(
            json!({"servers": {"w": {
                "type": "stdio", "command": "w", "timeout": "500ms", "effects": {"query": "read_only"}, "autoApprove": ["*"],
            }}}),
            expect![[r#"
                w: Stdio { command: "w", args: [], env: [], cwd: None } timeout=500ms effects={"query": ReadOnly}
                warning servers.w.autoApprove: this key has no effect here
            "#]],
        );
    }

    /// As Claude Desktop, Cursor and VS Code write them, down to the keys that have no meaning here.
    #[test]
    fn what_each_editor_writes_is_read() {
        check_config(
            json!({"mcpServers": {
                "filesystem": {"command": "npx", "args": ["-y", "@modelcontextprotocol/server-filesystem", "/data"]},
                "off": {"command": "x", "disabled": true},
            }}),
            expect![[r#"
                filesystem: Stdio { command: "npx", args: ["-y", "@modelcontextprotocol/server-filesystem", "/data"], env: [], cwd: None } timeout=60s effects={}
            "#]],
        );
        check_config(
            json!({"mcpServers": {
                "web": {"type": "streamable-http", "url": "https://mcp.example.test/mcp", "headers": {"Authorization": "Bearer ${env:KEY}"}},
                "local": {"type": "stdio", "command": "uvx", "args": ["mcp-server-git"], "env": {"API_KEY": "${env:KEY}"}, "envFile": ".env"},
            }}),
            expect![[r#"
                local: Stdio { command: "uvx", args: ["mcp-server-git"], env: ["API_KEY"], cwd: None } timeout=60s effects={}
                web: Http { url: "https://mcp.example.test/mcp", headers: ["Authorization"] } timeout=60s effects={}
                warning mcpServers.local.envFile: this key has no effect here
            "#]],
        );
        check_config(
            json!({
                "inputs": [{"type": "promptString", "id": "key", "description": "Key", "password": true}],
                "servers": {"github": {"type": "http", "url": "https://api.example.test/mcp/"}, "db": {"type": "stdio", "command": "db", "args": ["--key", "${KEY}"]}},
            }),
            expect![[r#"
                db: Stdio { command: "db", args: ["--key", "${KEY}"], env: [], cwd: None } timeout=60s effects={}
                github: Http { url: "https://api.example.test/mcp/", headers: [] } timeout=60s effects={}
            "#]],
        );
    }

    #[test]
    fn environments_of_a_server_are_labelled_by_an_argument() {
        let parsed = ParsedServers::parse(&json!({"mcpServers": {
            "sql": {"command": "x", "environments": {"argument": "/connection", "labels": {"wh": "production"}}},
            "bad": {"command": "x", "environments": {"argument": "connection"}},
        }}));
        let by = parsed.servers[0].environments.clone().unwrap();
        assert_eq!((by.argument.as_str(), by.labels["wh"].as_str()), ("/connection", "production"));
        assert!(parsed.errors[0].to_string().starts_with("mcpServers.bad.environments: expected {argument: /POINTER"));
    }

    #[test]
    fn an_address_is_judged_before_it_is_dialled() {
        check_config(
            json!({"mcpServers": {
                "plain": {"url": "http://tools.test/mcp"},
                "inside": {"url": "http://10.0.0.9/mcp"},
                "granted": {"url": "http://10.0.0.9/mcp", "private_network": true, "oauth": {"grant": "client_credentials", "client_secret": "x"}},
                "odd": {"url": "https://tools.test/mcp", "oauth": {"grant": "implicit"}},
            }}),
            expect![[r#"
                granted: Http { url: "http://10.0.0.9/mcp", headers: [] } timeout=60s effects={}
                error mcpServers.inside.url: 10.0.0.9 is a private or reserved address: `private_network: true` grants private ones
                error mcpServers.odd.oauth.grant: expected authorization_code or client_credentials
                error mcpServers.plain.url: plain http to tools.test: use https, or `private_network: true` for a private network
            "#]],
        );
    }

    #[test]
    fn every_mistake_is_reported_at_once() {
        check_config(
            json!({"mcpServers": {
                "a b": {"command": "x"},
                "both": {"command": "x", "url": "y"},
                "bad": {"command": "x", "args": "-v", "env": {"A": 1}, "timeout": "soon", "concurrency": 0, "effects": {"t": "maybe"}},
                "fine": {"command": "x"},
            }}),
            expect![[r#"
                fine: Stdio { command: "x", args: [], env: [], cwd: None } timeout=60s effects={}
                error mcpServers.a b: a server name has 1 to 64 letters, digits, `_` or `-`
                error mcpServers.bad.args: expected a list of strings
                error mcpServers.bad.env: expected an object of strings
                error mcpServers.bad.timeout: expected a time above zero, as in 30, "30s", "500ms" or "2m"
                error mcpServers.bad.concurrency: expected a whole number above zero
                error mcpServers.bad.effects: expected tools by name, each read_only, idempotent or at_most_once
                error mcpServers.both: give exactly one of `command` and `url`
            "#]],
        );
    }
}
