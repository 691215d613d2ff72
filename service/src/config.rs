//! `interlock.yaml`: what differs per installation. A closed world: an unknown key is an error with its line and column.
//!
//! Secrets are never written here: a key is named by the environment variable or the file that holds it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use checkpoints::keys::KeyRing;
use checkpoints::open::Address;
use graphs::EffectClass;
use models::{MaskRules, ModelsConfig};
use notify::NotifyConfig;
use runtime_core::interlocks::redact;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::Value;
use serde_saphyr::Spanned;
use tools::hub::{ParsedServers, ServerConfig};
use tools::lock::LOCK_FILE;
use tools::policy::{Label, Rule, RulePolicy, Verb};

use crate::failure::Failure;
use crate::remembered::MemoryFiles;

/// The file that is read when none is named.
pub(crate) const FILE: &str = "interlock.yaml";
/// Where threads are kept when nobody says otherwise.
const STORE_DEFAULT: &str = "sled:.interlock/store";
/// Largest configuration in bytes.
const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// Largest file of knowledge in bytes.
const KNOWLEDGE_BYTES_MAX: u64 = 1 << 20;
/// Largest secret in bytes.
const SECRET_BYTES_MAX: u64 = 1 << 16;

/// Reads the address of a store.
pub(crate) fn address(text: &str) -> Result<Address, String> {
    text.parse().map_err(|error: checkpoints::open::AddressError| error.to_string())
}

/// An address as it is written.
pub(crate) fn address_text(address: &Address) -> String {
    match address {
        Address::Memory => "memory".to_owned(),
        Address::Sled(path) => format!("sled:{}", path.display()),
        Address::Fjall(path) => format!("fjall:{}", path.display()),
    }
}

/// The same store, its folder seen from `base`.
fn beside(address: Address, base: &Path) -> Address {
    match address {
        Address::Memory => Address::Memory,
        Address::Sled(path) => Address::Sled(base.join(path)),
        Address::Fjall(path) => Address::Fjall(base.join(path)),
    }
}

/// An installation as configured.
#[derive(Debug)]
pub(crate) struct Config {
    /// Where threads are kept.
    pub(crate) store: Address,
    /// Keys that encrypt the store; none leaves it readable.
    pub(crate) encryption: Option<Encryption>,
    /// Tool servers.
    pub(crate) servers: Vec<ServerConfig>,
    /// Groups of approvers and who is in them.
    pub(crate) groups: BTreeMap<String, Vec<String>>,
    /// What decides on calls. Without rules: what only reads is free, production asks, every other change is denied.
    pub(crate) policy: RulePolicy,
    /// Environments that rules are declared for.
    pub(crate) environments: Vec<String>,
    /// Which versions of tools people have looked at.
    pub(crate) lock: PathBuf,
    /// Folders and files with graphs that others refer to by name.
    pub(crate) graphs: Vec<PathBuf>,
    /// What the agents know; `None` takes what ships.
    pub(crate) knowledge: Option<Knowledge>,
    /// Runbooks and past incidents; without them agents remember nothing.
    pub(crate) memory: Option<MemoryFiles>,
    /// Models for agents whose nodes name a tier; without them the rules answer.
    pub(crate) models: Option<ModelsConfig>,
    /// What is masked before anything leaves for a model.
    pub(crate) masking: MaskRules,
    /// A folder with prompts, `NAME.j2`, which go before those that ship.
    pub(crate) prompts: Option<PathBuf>,
    /// How people are told; without it notices go to standard error.
    pub(crate) notify: Option<NotifyConfig>,
    /// Who acts when nobody says otherwise.
    pub(crate) user: Option<String>,
    /// Keys that have no effect here.
    pub(crate) warnings: Vec<String>,
}

/// Keys of a store.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Encryption {
    /// Encrypts what is written from now on.
    key: KeyReference,
    /// Still decrypt what was written before.
    #[serde(default)]
    previous: Vec<KeyReference>,
}

/// Where a key is: 32 bytes, as 64 hex digits or base64.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyReference {
    /// Environment variable that holds it.
    env: Option<String>,
    /// File that holds it.
    file: Option<PathBuf>,
}

impl KeyReference {
    fn read(&self) -> Result<SecretString, Failure> {
        let text = match (&self.env, &self.file) {
            (Some(name), None) => std::env::var(name)
                .map_err(|_| Failure::failed(format!("encryption: the environment variable `{name}` is not set"))),
            (None, Some(path)) => read_bounded(path, SECRET_BYTES_MAX)
                .map_err(|why| Failure::failed(format!("encryption: key file {}: {why}", path.display()))),
            _ => Err(Failure::usage("encryption: a key has exactly one of `env` and `file`")),
        }?;
        Ok(SecretString::from(text.trim()))
    }
}

/// Files with what the agents know about this installation.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Knowledge {
    /// Pipelines, what is looked at, what a diagnosis rests on.
    estate: PathBuf,
    /// Known causes.
    causes: PathBuf,
    /// Declared remedies.
    remedies: PathBuf,
}

impl Knowledge {
    /// Reads the files and checks them against each other.
    pub(crate) fn kit(&self) -> Result<agents::Kit, String> {
        let read = |path: &Path| {
            read_bounded(path, KNOWLEDGE_BYTES_MAX).map_err(|why| format!("knowledge {}: {why}", path.display()))
        };
        let (estate, causes, remedies) = (read(&self.estate)?, read(&self.causes)?, read(&self.remedies)?);
        agents::Kit::from_yaml(&estate, &causes, &remedies).map_err(|broken| format!("knowledge: {broken}"))
    }

    fn beside(self, base: &Path) -> Self {
        Self { estate: base.join(self.estate), causes: base.join(self.causes), remedies: base.join(self.remedies) }
    }
}

/// What changes an environment allows.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvironmentRule {
    /// What happens to a call that changes something there.
    changes: Verb,
    /// Who is asked.
    #[serde(default)]
    approvers: Vec<String>,
}

/// The file as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    store: Option<Spanned<String>>,
    encryption: Option<Encryption>,
    #[serde(default, rename = "mcpServers", alias = "servers")]
    servers: BTreeMap<String, Spanned<BTreeMap<String, Spanned<Value>>>>,
    #[serde(default)]
    approvers: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    environments: BTreeMap<String, EnvironmentRule>,
    policy: Option<Spanned<RulePolicy>>,
    #[serde(default)]
    graphs: Vec<PathBuf>,
    knowledge: Option<Knowledge>,
    memory: Option<MemoryFiles>,
    models: Option<Spanned<ModelsConfig>>,
    #[serde(default)]
    masking: MaskRules,
    prompts: Option<PathBuf>,
    notify: Option<Spanned<NotifyConfig>>,
    user: Option<String>,
}

impl Config {
    /// Reads the named file, or `interlock.yaml` of this folder when there is one.
    pub(crate) fn load(named: Option<&Path>) -> Result<Self, Failure> {
        let path = named.unwrap_or_else(|| Path::new(FILE));
        if named.is_none() && !path.exists() {
            return Self::parse("", FILE, Path::new(""));
        }
        let text = read_bounded(path, CONFIG_BYTES_MAX)
            .map_err(|why| Failure::usage(format!("configuration {}: {why}", path.display())))?;
        Self::parse(&text, &path.display().to_string(), path.parent().unwrap_or_else(|| Path::new("")))
    }

    /// Reads a configuration; paths in it are seen from `base`.
    pub(crate) fn parse(text: &str, name: &str, base: &Path) -> Result<Self, Failure> {
        let file: File = if text.trim().is_empty() {
            File::default()
        } else {
            serde_saphyr::from_str(text).map_err(|error| syntax(text, name, &error))?
        };
        let store = match file.store {
            Some(spec) => address(&spec.value).map(|store| beside(store, base)).map_err(|why| {
                let at = (spec.referenced.line(), spec.referenced.column());
                placed(text, name, at, &format!("store: {why}"))
            })?,
            None => address(STORE_DEFAULT).map_err(Failure::usage)?,
        };
        let (servers, warnings) = servers(text, name, file.servers)?;
        let encryption = file.encryption.map(|keys| keys.beside(base));
        let environments = file.environments.keys().cloned().collect();
        let mut policy = policy(text, name, file.policy, file.environments)?;
        policy.labels = servers.iter().map(|server| (server.name.clone(), label(server))).collect();
        policy.groups = Some(file.approvers.clone());
        Ok(Self {
            store,
            encryption,
            servers,
            groups: file.approvers,
            policy,
            environments,
            lock: base.join(LOCK_FILE),
            graphs: file.graphs.into_iter().map(|path| base.join(path)).collect(),
            knowledge: file.knowledge.map(|files| files.beside(base)),
            memory: file.memory.map(|files| files.beside(base)),
            models: file.models.map(|models| usable(text, name, models, base)).transpose()?,
            masking: file.masking,
            prompts: file.prompts.map(|folder| base.join(folder)),
            notify: file.notify.map(|notify| reachable(text, name, notify, base)).transpose()?,
            user: file.user,
            warnings,
        })
    }
}

impl Encryption {
    /// The keys themselves.
    pub(crate) fn keys(&self) -> Result<KeyRing, Failure> {
        let previous = self.previous.iter().map(KeyReference::read).collect::<Result<Vec<_>, _>>()?;
        KeyRing::new(&self.key.read()?, &previous).map_err(|error| Failure::failed(format!("encryption: {error}")))
    }

    fn beside(mut self, base: &Path) -> Self {
        for key in std::iter::once(&mut self.key).chain(&mut self.previous) {
            key.file = key.file.take().map(|file| base.join(file));
        }
        self
    }
}

/// The models as configured, if they hang together; key files are seen from `base`.
fn usable(text: &str, name: &str, models: Spanned<ModelsConfig>, base: &Path) -> Result<ModelsConfig, Failure> {
    let at = (models.referenced.line(), models.referenced.column());
    let mut models = models.value;
    let problems = models.problems();
    if !problems.is_empty() {
        return Err(placed(text, name, at, &format!("models: {}", problems.join("; "))));
    }
    for provider in models.providers.values_mut() {
        provider.key_file = provider.key_file.take().map(|file| base.join(file));
    }
    Ok(models)
}

/// The channels as configured, if they hang together; files with secrets are seen from `base`.
fn reachable(text: &str, name: &str, notify: Spanned<NotifyConfig>, base: &Path) -> Result<NotifyConfig, Failure> {
    let at = (notify.referenced.line(), notify.referenced.column());
    let problems = notify.value.problems();
    if !problems.is_empty() {
        return Err(placed(text, name, at, &format!("notify: {}", problems.join("; "))));
    }
    Ok(notify.value.beside(base))
}

/// Where the calls of a server act.
fn label(server: &ServerConfig) -> Label {
    let by_argument = server.environments.as_ref().map(|by| (by.argument.clone(), by.labels.clone()));
    Label { fixed: server.environment.clone(), by_argument }
}

/// The rules of the file, and one for each environment where none of them fits.
fn policy(
    text: &str,
    name: &str,
    written: Option<Spanned<RulePolicy>>,
    environments: BTreeMap<String, EnvironmentRule>,
) -> Result<RulePolicy, Failure> {
    let mut policy = match written {
        None => RulePolicy::default(),
        Some(written) => {
            // Read again by its own reader, which also checks what a type cannot say.
            let whole: Value = serde_saphyr::from_str(text).map_err(|error| syntax(text, name, &error))?;
            let part = whole.get("policy").cloned().unwrap_or_default().to_string();
            let at = (written.referenced.line(), written.referenced.column());
            RulePolicy::from_yaml(&part).map_err(|error| placed(text, name, at, &error.to_string()))?
        }
    };
    for (environment, rule) in environments {
        policy.fallbacks.push(Rule {
            kinds: Some(vec!["tool".to_owned()]),
            effects: Some(vec![EffectClass::Idempotent, EffectClass::AtMostOnce]),
            reason: Some(format!("it changes {environment}")),
            approvers: rule.approvers,
            envs: Some(vec![environment.clone()]),
            ..Rule::of(format!("environment-{environment}"), rule.changes)
        });
    }
    Ok(policy)
}

type ServerEntries = BTreeMap<String, Spanned<BTreeMap<String, Spanned<Value>>>>;

/// Reads `mcpServers` with the rules of the hub; a mistake is placed at the key it is about.
fn servers(text: &str, name: &str, entries: ServerEntries) -> Result<(Vec<ServerConfig>, Vec<String>), Failure> {
    let plain: serde_json::Map<String, Value> = entries
        .iter()
        .map(|(server, keys)| {
            let keys = keys.value.iter().map(|(key, value)| (key.clone(), value.value.clone())).collect();
            (server.clone(), Value::Object(keys))
        })
        .collect();
    let parsed = ParsedServers::parse(&Value::Object(plain));
    let warnings = parsed.warnings.iter().map(|problem| format!("{name}: {problem}")).collect();
    let Some(problem) = parsed.errors.first() else { return Ok((parsed.servers, warnings)) };
    let place = entries.iter().find_map(|(server, keys)| {
        let rest = problem.path.strip_prefix("mcpServers.")?.strip_prefix(server.as_str())?;
        let key = keys.value.get(rest.trim_start_matches('.'));
        let at = key.map_or(keys.referenced, |value| value.referenced);
        Some((at.line(), at.column()))
    });
    Err(placed(text, name, place.unwrap_or((1, 1)), &problem.to_string()))
}

fn syntax(text: &str, name: &str, error: &serde_saphyr::Error) -> Failure {
    let at = error.location().map_or((1, 1), |at| (at.line(), at.column()));
    let message = error.without_snippet().to_string();
    let first = message.lines().next().unwrap_or("it is not valid YAML");
    // The place is shown in our own form.
    let bare = first.rsplit_once(" at line ").map_or(first, |(bare, _)| bare);
    placed(text, name, at, bare)
}

/// A mistake with its line and column, and the line itself.
fn placed(text: &str, name: &str, at: (u64, u64), message: &str) -> Failure {
    let (line, column) = at;
    let index = usize::try_from(line.saturating_sub(1)).unwrap_or(usize::MAX);
    let shown: String = without_secret(text.lines().nth(index).unwrap_or("")).chars().take(120).collect();
    let margin = " ".repeat(line.to_string().len());
    let caret = " ".repeat(usize::try_from(column.saturating_sub(1)).unwrap_or(0).min(120));
    Failure::usage(format!(
        "{message}\n{margin}--> {name}:{line}:{column}\n{margin} |\n{line} | {shown}\n{margin} | {caret}^"
    ))
}

/// A line as a message may show it: somebody may have typed a key where its name belongs.
fn without_secret(line: &str) -> String {
    match line.split_once(':') {
        Some((key, value)) if redact::is_secret_key(key) && !value.trim().is_empty() => {
            format!("{key}: {}", redact::HIDDEN)
        }
        _ => redact::whole_text(line),
    }
}

/// A file's text, unless it is too large or no UTF-8.
pub(crate) fn read_bounded(path: &Path, bytes_max: u64) -> Result<String, String> {
    let bytes = read_bytes(path, bytes_max)?;
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())
}

/// What went wrong, without the number that the system gives it.
pub(crate) fn io_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.as_str(), |(bare, _)| bare).to_lowercase()
}

/// A file's bytes, unless there are too many.
pub(crate) fn read_bytes(path: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    use std::io::Read;
    let file = std::fs::File::open(path).map_err(|error| io_text(&error))?;
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(|error| io_text(&error))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > bytes_max {
        return Err(format!("it is larger than {bytes_max} bytes"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check_error(text: &str, expected: Expect) {
        let failure = Config::parse(text, "interlock.yaml", Path::new("")).map(drop).unwrap_err();
        assert_eq!(failure.exit, crate::failure::Exit::Usage);
        expected.assert_eq(&failure.text());
    }

    #[test]
    fn an_empty_file_is_the_default() {
        let config = Config::parse("", "interlock.yaml", Path::new("")).unwrap();
        assert_eq!(address_text(&config.store), STORE_DEFAULT);
        assert!(config.servers.is_empty() && config.encryption.is_none());
    }

    #[test]
    fn the_example_is_valid() {
        let config = Config::parse(include_str!("../interlock.example.yaml"), "example", Path::new("")).unwrap();
        assert_eq!((config.servers.len(), config.user.as_deref()), (1, Some("ann")));
        assert_eq!((config.policy.rules.len(), config.policy.fallbacks.len()), (4, 2));
    }

    /// What the example shows as a comment works once it is none.
    #[test]
    fn the_models_of_the_example_are_valid() {
        let example = include_str!("../interlock.example.yaml");
        let commented = example.split_once("# models:\n").unwrap().1.split_once("# What leaves").unwrap().0;
        let lines: String = commented.lines().map(|line| format!("{}\n", line.strip_prefix("# ").unwrap())).collect();
        let config = Config::parse(&format!("models:\n{lines}"), "example", Path::new("etc")).unwrap();
        assert_eq!(config.models.unwrap().order, ["small", "large"]);
    }

    #[test]
    fn the_channels_of_the_example_are_valid() {
        let example = include_str!("../interlock.example.yaml");
        let commented = example.split_once("# notify:\n").unwrap().1.split_once("\n\n").unwrap().0;
        let lines: String = commented.lines().map(|line| format!("{}\n", line.strip_prefix("# ").unwrap())).collect();
        let config = Config::parse(&format!("notify:\n{lines}"), "example", Path::new("etc")).unwrap();
        assert_eq!(config.notify.unwrap().channels.len(), 3);
    }

    #[test]
    fn a_channel_that_is_not_there_is_named_with_its_place() {
        let text = "notify:\n  channels: { log: { print: {} } }\n  routes: [{ to: [team] }]\n";
        let failure = Config::parse(text, "interlock.yaml", Path::new("")).map(drop).unwrap_err().text();
        assert!(failure.contains("notify: routes[0].to: there is no channel `team`; there are: log"), "{failure}");
        assert!(failure.contains("interlock.yaml:2:3"), "{failure}");
    }

    #[test]
    fn servers_are_pasted_as_editors_write_them() {
        let pasted = [
            r#"mcpServers: {"git": {"command": "uvx", "args": ["mcp-server-git"], "env": {"TOKEN": "${env:GIT_TOKEN}"}}}"#,
            r#"{"mcpServers": {"git": {"type": "stdio", "command": "uvx", "args": [], "autoApprove": ["*"]}}}"#,
            r#"servers: {"git": {"type": "http", "url": "https://git.example.test/mcp", "headers": {"Authorization": "Bearer ${GIT_TOKEN}"}}}"#,
        ];
        for text in pasted {
            let config = Config::parse(text, "interlock.yaml", Path::new("")).unwrap();
            assert_eq!(config.servers.iter().map(|server| server.name.as_str()).collect::<Vec<_>>(), ["git"], "{text}");
        }
    }

    #[test]
    fn paths_are_seen_from_the_file() {
        let text = "store: fjall:data\ngraphs: [flows]\nencryption: {key: {file: key.hex}}\n";
        let config = Config::parse(text, "etc/interlock.yaml", Path::new("etc")).unwrap();
        assert_eq!(config.store, Address::Fjall("etc/data".into()));
        assert_eq!(config.graphs, [Path::new("etc/flows")]);
        assert_eq!(config.encryption.unwrap().key.file.unwrap(), Path::new("etc/key.hex"));
    }

    #[test]
    fn an_unknown_key_is_placed() {
        check_error(
            "store: memory\nstorage: x\n",
            expect![[r#"
                error: unknown field `storage`, expected one of store, encryption, mcpServers, servers, approvers, environments, policy, graphs, knowledge, memory, models, masking, prompts, notify, user
                 --> interlock.yaml:2:1
                  |
                2 | storage: x
                  | ^
            "#]],
        );
    }

    #[test]
    fn a_key_typed_into_the_file_is_not_shown() {
        for (line, shown) in [
            ("      api_key: hunter2hunter2", "      api_key: [redacted]"),
            ("      key: sk-abcdefghijklmnop", "      key: [redacted]"),
            ("      kee: x", "      kee: x"),
        ] {
            let text = format!("models:\n  providers:\n    a:\n      kind: anthropic\n{line}\n");
            let failure = Config::parse(&text, "interlock.yaml", Path::new("")).map(drop).unwrap_err().text();
            assert!(failure.contains(&format!("5 | {shown}\n")), "{failure}");
        }
    }

    #[test]
    fn a_bad_store_is_placed() {
        check_error(
            "user: ann\nstore: redis:x\n",
            expect![[r#"
            error: store: `redis:x` is not a store: write `memory`, `sled:PATH`, `fjall:PATH`, or a path alone for sled
             --> interlock.yaml:2:8
              |
            2 | store: redis:x
              |        ^
        "#]],
        );
    }

    #[test]
    fn a_bad_server_is_placed_at_its_key() {
        check_error(
            "mcpServers:\n  w:\n    command: w\n    timeout: soon\n",
            expect![[r#"
            error: mcpServers.w.timeout: expected a time above zero, as in 30, "30s", "500ms" or "2m"
             --> interlock.yaml:4:14
              |
            4 |     timeout: soon
              |              ^
        "#]],
        );
    }

    #[test]
    fn environments_become_rules_where_no_written_one_fits() {
        let text = "policy: {rules: [{name: all, decide: deny}]}\nenvironments: {production: {changes: ask, approvers: ['user:ann']}}\n";
        let policy = Config::parse(text, "c", Path::new("")).unwrap().policy;
        let names = |rules: &[Rule]| rules.iter().map(|rule| rule.name.clone()).collect::<Vec<_>>();
        assert_eq!(
            (names(&policy.rules), names(&policy.fallbacks)),
            (vec!["all".to_owned()], vec!["environment-production".to_owned()])
        );
    }

    #[test]
    fn a_rule_that_means_nothing_is_placed() {
        check_error(
            "policy:\n  rules: [{name: a, decide: ask, quorum: 0}]\n",
            expect![[r#"
            error: policy file: rule `a`: quorum 0 would approve by itself; use 1 or more
             --> interlock.yaml:2:3
              |
            2 |   rules: [{name: a, decide: ask, quorum: 0}]
              |   ^
        "#]],
        );
    }

    #[test]
    fn a_bad_word_is_placed() {
        check_error(
            "policy:\n  rules:\n    - {name: all, decide: maybe}\n",
            expect![[r#"
            error: unknown variant `maybe`, expected one of allow, ask, four_eyes, deny
             --> interlock.yaml:3:27
              |
            3 |     - {name: all, decide: maybe}
              |                           ^
        "#]],
        );
    }

    #[test]
    fn what_is_no_yaml_is_placed() {
        check_error(
            "store: [\n",
            expect![[r#"
            error: expected string scalar
             --> interlock.yaml:1:8
              |
            1 | store: [
              |        ^
        "#]],
        );
    }
}
