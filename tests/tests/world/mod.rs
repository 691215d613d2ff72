//! The world of one attempt: servers, lock, policy, engine, the obedient agent and the people.

mod agent;
mod people;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use checkpoints::open::{Address, OpenOptions, open};
use graphs::OpenCatalog;
use parking_lot::Mutex;
use runtime::ports::clock::Clock;
use runtime::ports::store::{PAGE_MAX, Store};
use runtime::{Engine, Start};
use runtime_core::ids::{ThreadId, Timestamp};
use runtime_core::interlocks::guard::{AllowAll, Approval, CallFacts, Decision, Hints, Policy, Unpinned};
use runtime_core::record::RunOptions;
use serde_json::{Value, json};
use tools::hub::{Hub, HubOptions, Look, ParsedServers, ServerConfig};
use tools::lock::{LOCK_FILE, LockFile, PinnedTool};
use tools::pinned::PinnedHub;
use tools::policy::{Label, RulePolicy};
use tools::toolbox::ToolBox;

use self::agent::Obedient;

/// Whether anything stands between the agent and the outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Walls {
    Standing,
    Down,
}

/// What all rows share.
pub(crate) struct Suite(Value);

impl Suite {
    pub(crate) fn new(value: Value) -> Self {
        Self(value)
    }

    pub(crate) fn rows(&self) -> Vec<Row> {
        self.0["attempts"].as_array().unwrap().iter().cloned().map(Row).collect()
    }
}

/// One attempt.
#[derive(Debug, Clone)]
pub(crate) struct Row(Value);

impl Row {
    pub(crate) fn id(&self) -> &str {
        self.0["id"].as_str().unwrap()
    }

    pub(crate) fn class(&self) -> &str {
        self.0["class"].as_str().unwrap()
    }

    pub(crate) fn holds_always(&self) -> bool {
        self.0["always"] == true
    }

    fn list(&self, key: &str) -> Vec<Value> {
        self.0[key].as_array().cloned().unwrap_or_default()
    }
}

/// What an attempt left behind.
pub(crate) struct Seen {
    /// Calls that arrived, as `server.tool` with their arguments.
    pub(crate) arrived: Vec<(String, Value)>,
    /// What the agent heard.
    pub(crate) said: Vec<String>,
    audit: Vec<Value>,
}

impl Seen {
    /// Everything that must not be so.
    pub(crate) fn problems(&self, row: &Row) -> Vec<String> {
        let mut problems = self.violations(row);
        for reached in row.list("reached") {
            if !self.arrived.iter().any(|(target, _)| *target == reached) {
                problems.push(format!("`{reached}` was never reached; the agent heard {:?}", self.said));
            }
        }
        let rule = row.0["rule"].as_str().unwrap();
        let stopped = |record: &&Value| {
            let (action, detail) = (record["action"].as_str().unwrap_or(""), &record["detail"]);
            let named = detail["rule"].as_str().unwrap_or("");
            matches!(action, "call.denied" | "call.asked")
                && (named == rule || named.split('+').any(|part| part == rule))
        };
        if rule != "none" && !self.audit.iter().any(|record| stopped(&record)) {
            let rules: Vec<String> =
                self.audit.iter().map(|record| format!("{} {}", record["action"], record["detail"]["rule"])).collect();
            problems.push(format!("rule `{rule}` stopped nothing: {rules:?}; the agent heard {:?}", self.said));
        }
        let verdicts = self.audit.iter().filter(|record| record["action"] == "call.permitted").count();
        if verdicts < self.arrived.len() {
            problems.push(format!("{} calls arrived and {verdicts} were permitted", self.arrived.len()));
        }
        problems
    }

    /// What arrived and must not have.
    pub(crate) fn violations(&self, row: &Row) -> Vec<String> {
        let mut violations = Vec::new();
        for forbidden in row.list("forbidden") {
            if let Some(text) = forbidden["text"].as_str() {
                if let Some((target, args)) = self.arrived.iter().find(|(_, args)| args.to_string().contains(text)) {
                    violations.push(format!("`{target}` got `{text}` in {args}"));
                }
                continue;
            }
            let tool = forbidden.as_str().or_else(|| forbidden["tool"].as_str()).unwrap();
            let wanted = forbidden["args"].as_object().cloned().unwrap_or_default();
            let fits = |args: &Value| wanted.iter().all(|(key, value)| same(&args[key], value));
            let times = self.arrived.iter().filter(|(target, args)| target == tool && fits(args)).count();
            if times >= usize::try_from(forbidden["times"].as_u64().unwrap_or(1)).unwrap() {
                violations.push(format!("`{tool}` arrived {times} times with {wanted:?}"));
            }
        }
        violations
    }
}

/// Equal, with numbers by value.
fn same(left: &Value, right: &Value) -> bool {
    left == right || (left.is_number() && left.as_f64() == right.as_f64())
}

/// A clock that people move.
pub(crate) struct Moved(AtomicI64);

impl Moved {
    fn forward(&self, hours: i64) {
        self.0.fetch_add(hours * 3_600_000_000, Ordering::SeqCst);
    }
}

#[async_trait]
impl Clock for Moved {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }

    async fn sleep_until(&self, at: Timestamp) {
        if self.now() < at {
            // Nothing of an attempt waits for a time: people move the clock.
            std::future::pending::<()>().await;
        }
    }
}

/// A policy whose people may change under way.
pub(crate) struct Swapped(Mutex<Arc<RulePolicy>>);

impl Swapped {
    fn now(&self) -> Arc<RulePolicy> {
        Arc::clone(&self.0.lock())
    }

    fn remove(&self, user: &str) {
        let mut policy = RulePolicy::clone(&self.now());
        let groups = policy.groups.get_or_insert_default();
        groups.values_mut().for_each(|members| members.retain(|member| member != user));
        *self.0.lock() = Arc::new(policy);
    }
}

impl Policy for Swapped {
    fn decide(&self, call: &CallFacts<'_>) -> Decision {
        self.now().decide(call)
    }

    fn environment(&self, call: &CallFacts<'_>) -> Option<String> {
        self.now().environment(call)
    }

    fn keepers(&self) -> Approval {
        self.now().keepers()
    }

    fn unpinned(&self) -> Unpinned {
        self.now().unpinned()
    }

    fn taints(&self, target: &str, hints: &Hints) -> bool {
        self.now().taints(target, hints)
    }

    fn is_member(&self, user: &str, group: &str) -> Option<bool> {
        self.now().is_member(user, group)
    }
}

/// The servers of one attempt on disk.
pub(crate) struct Outside {
    folder: PathBuf,
    scripts: Mutex<BTreeMap<String, Value>>,
}

impl Outside {
    /// Servers that a row speaks of, written down as scripts.
    fn new(suite: &Suite, row: &Row, folder: &Path) -> Self {
        let text = row.0.to_string();
        let mut scripts = BTreeMap::new();
        for (name, declared) in suite.0["servers"].as_object().unwrap() {
            if !text.contains(&format!("{name}.")) && !text.contains(&format!("\"{name}\"")) {
                continue;
            }
            let mut tools: Vec<Value> = declared["tools"].as_array().unwrap().iter().map(definition).collect();
            if let Some(more) = row.0["add"].get(name) {
                tools.push(definition(more));
            }
            let says = by_server(&row.0["says"], name, |said| match said {
                Value::Array(all) => Value::Array(all.clone()),
                one => json!([one]),
            });
            scripts.insert(name.clone(), json!({"name": name, "tools": tools, "says": says}));
        }
        let outside = Self { folder: folder.to_owned(), scripts: Mutex::new(scripts) };
        outside.change(&row.0);
        let later = &row.0["later"];
        if let Some(server) = later["server"].as_str() {
            let mut scripts = outside.scripts.lock();
            let script = scripts.get_mut(server).unwrap();
            let mut changed = script.clone();
            describe(&mut changed, server, later);
            if let Some(more) = later.get("add") {
                changed["tools"].as_array_mut().unwrap().push(definition(more));
            }
            script["later"] = json!({"calls": later["calls"], "silent": later["silent"], "tools": changed["tools"]});
        }
        outside.write();
        outside
    }

    /// Gives tools other descriptions and hints, and servers other instructions.
    fn change(&self, change: &Value) {
        let mut scripts = self.scripts.lock();
        for (name, script) in scripts.iter_mut() {
            describe(script, name, change);
            if let Some(instructions) = change["instructions"].get(name) {
                script["instructions"] = instructions.clone();
            }
        }
        drop(scripts);
        self.write();
    }

    fn write(&self) {
        for (name, script) in self.scripts.lock().iter() {
            std::fs::write(self.folder.join(format!("{name}.json")), script.to_string()).unwrap();
        }
    }

    fn configs(&self, suite: &Suite, row: &Row, walls: Walls) -> Vec<ServerConfig> {
        let mut servers = serde_json::Map::new();
        for name in self.scripts.lock().keys() {
            let declared = &suite.0["servers"][name];
            let mut entry = json!({
                "command": env!("CARGO_BIN_EXE_counting_server"),
                "args": [self.folder.join(format!("{name}.json")), self.log(name)],
                "trusted": declared["trusted"] != false, "discover_timeout": "5s", "timeout": "20s",
            });
            for key in ["environment", "environments"] {
                if let Some(value) = declared.get(key) {
                    entry[key] = value.clone();
                }
            }
            for (key, secret) in row.0["secrets"][name].as_object().into_iter().flatten() {
                // Without walls it stands in the file, under a name that says nothing.
                entry["env"] = if walls == Walls::Standing {
                    json!({key: format!("${{{key}}}")})
                } else {
                    json!({"PLAIN": secret})
                };
            }
            if let Some(effects) = row.0["effects"].get(name) {
                entry["effects"] = effects.clone();
            }
            servers.insert(name.clone(), entry);
        }
        let parsed = ParsedServers::parse(&Value::Object(servers));
        assert!(parsed.errors.is_empty(), "{:?}", parsed.errors);
        parsed.servers
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.log"))
    }

    fn arrived(&self) -> Vec<(String, Value)> {
        let mut arrived = Vec::new();
        for name in self.scripts.lock().keys() {
            let text = std::fs::read_to_string(self.log(name)).unwrap_or_default();
            for line in text.lines() {
                let line: Value = serde_json::from_str(line).unwrap();
                arrived.push((format!("{name}.{}", line["tool"].as_str().unwrap()), line["args"].clone()));
            }
        }
        arrived
    }
}

/// A tool of the suite as a server lists it.
fn definition(short: &Value) -> Value {
    let properties: serde_json::Map<String, Value> = short["args"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, kind)| (name.clone(), json!({"type": kind})))
        .collect();
    let mut annotations = json!({});
    for (key, hint) in [
        ("reads", "readOnlyHint"),
        ("destructive", "destructiveHint"),
        ("idempotent", "idempotentHint"),
        ("open_world", "openWorldHint"),
    ] {
        if let Some(value) = short.get(key) {
            annotations[hint] = value.clone();
        }
    }
    json!({
        "name": short["name"], "description": short["description"], "annotations": annotations,
        "inputSchema": {"type": "object", "properties": properties},
    })
}

fn describe(script: &mut Value, server: &str, change: &Value) {
    for tool in script["tools"].as_array_mut().unwrap() {
        let target = format!("{server}.{}", tool["name"].as_str().unwrap());
        if let Some(text) = change["describe"].get(&target) {
            tool["description"] = text.clone();
        }
        if let Some(hints) = change["hints"].get(&target) {
            tool["annotations"] = hints.clone();
        }
    }
}

fn by_server(map: &Value, server: &str, form: impl Fn(&Value) -> Value) -> Value {
    let fields = map.as_object().into_iter().flatten();
    let own = fields
        .filter_map(|(target, value)| Some((target.strip_prefix(&format!("{server}."))?.to_owned(), form(value))));
    Value::Object(own.collect())
}

fn hub(outside: &Outside, suite: &Suite, row: &Row, walls: Walls) -> Hub {
    let secrets: BTreeMap<String, String> = row.0["secrets"]
        .as_object()
        .into_iter()
        .flatten()
        .flat_map(|(_, all)| all.as_object().into_iter().flatten())
        .map(|(name, secret)| (name.clone(), secret.as_str().unwrap().to_owned()))
        .collect();
    let options = HubOptions { lookup: Box::new(move |name| secrets.get(name).cloned()), ..HubOptions::default() };
    Hub::with_options(outside.configs(suite, row, walls), options)
}

fn policy(suite: &Suite, row: &Row, servers: &[ServerConfig]) -> RulePolicy {
    let mut written = row.0.get("policy").unwrap_or(&suite.0["policy"]).clone();
    if let Some(more) = row.0["policy_add"].as_array() {
        let rules = written["rules"].as_array_mut().unwrap();
        rules.splice(0..0, more.iter().cloned());
    }
    if row.0["policy_tainted"] == true {
        written["tainted"] = json!({"changes": "ask"});
    }
    let mut policy = RulePolicy::from_yaml(&written.to_string()).unwrap();
    for server in servers {
        let by_argument = server.environments.as_ref().map(|by| (by.argument.clone(), by.labels.clone()));
        policy.labels.insert(server.name.clone(), Label { fixed: server.environment.clone(), by_argument });
    }
    policy.groups = serde_json::from_value(suite.0["groups"].clone()).ok();
    policy
}

/// Looks at every tool there is and writes the lock, as `interlock tools pin` does.
async fn pin(hub: &Hub, lock: &LockFile) {
    for server in hub.servers() {
        let inventory = hub.list_tools(server).await.unwrap();
        lock.change(|lock| {
            let pinned = lock.servers.entry(server.to_owned()).or_default();
            for tool in &inventory.tools {
                let look = Look {
                    tool: tool.clone().into(),
                    identity: inventory.identity.clone(),
                    instructions: inventory.instructions.clone(),
                };
                pinned.introduced(&look);
                pinned.tools.insert(tool.name.clone(), PinnedTool::of(&look));
            }
        })
        .unwrap();
    }
}

/// What people and agents of one attempt work with.
pub(crate) struct Stage {
    engine: Engine,
    thread: ThreadId,
    policy: Arc<Swapped>,
    clock: Arc<Moved>,
    outside: Arc<Outside>,
}

/// Makes one attempt and tells what arrived.
pub(crate) async fn attempt(suite: &Suite, row: &Row, walls: Walls) -> Seen {
    let folder = tempfile::tempdir().unwrap();
    let outside = Arc::new(Outside::new(suite, row, folder.path()));
    let lock = Arc::new(LockFile::new(folder.path().join(LOCK_FILE)));
    if walls == Walls::Standing && row.0["pinned"] != false {
        let hub = hub(&outside, suite, row, walls);
        pin(&hub, &lock).await;
        hub.close().await;
    }
    spoil(row, &lock);
    outside.change(&row.0["change"]);
    let hub = hub(&outside, suite, row, walls);
    let rules = Arc::new(Swapped(Mutex::new(Arc::new(policy(suite, row, &outside.configs(suite, row, walls))))));
    let tools: Arc<dyn ToolBox> = match walls {
        Walls::Standing => Arc::new(PinnedHub::new(hub.clone(), lock, Vec::new(), Unpinned::Allow)),
        Walls::Down => Arc::new(hub.clone()),
    };
    let decides: Arc<dyn Policy> = match walls {
        Walls::Standing => Arc::clone(&rules) as _,
        Walls::Down => Arc::new(AllowAll),
    };
    let store: Arc<dyn Store> = open(&Address::Memory, &OpenOptions::default()).unwrap();
    let clock = Arc::new(Moved(AtomicI64::new(1_767_225_600_000_000)));
    let agent = Obedient::new(Arc::clone(&tools), row.list("begin"), row.0["obeys"].as_str());
    let said = agent.heard();
    let engine = Engine::builder(Arc::clone(&store))
        .policy(decides)
        .clock(Arc::clone(&clock) as _)
        .kind("agent", Arc::new(agent))
        .build();
    let stage = Stage { engine, thread: ThreadId::new("t").unwrap(), policy: rules, clock, outside };
    start(&stage, suite, row, walls).await;
    people::act(&stage, suite, row).await;
    hub.close().await;
    let audit = store.audit(1, PAGE_MAX).await.unwrap();
    let audit =
        audit.iter().map(|record| json!({"action": record.entry.action, "detail": record.entry.detail})).collect();
    let said = said.lock().clone();
    Seen { arrived: stage.outside.arrived(), said, audit }
}

/// Damages the lock, where the row says so.
fn spoil(row: &Row, lock: &LockFile) {
    let text = || std::fs::read_to_string(lock.path()).unwrap_or_default();
    match row.0["lock"].as_str() {
        Some("broken") => std::fs::write(lock.path(), "{\"version\": 1").unwrap(),
        Some("edited") => std::fs::write(lock.path(), text().replace("Writes a row.", "Writes rows.")).unwrap(),
        _ => {}
    }
}

async fn start(stage: &Stage, suite: &Suite, row: &Row, walls: Walls) {
    let agent = row.0["agent"].as_str().or_else(|| suite.0["defaults"]["agent"].as_str()).unwrap();
    let listed = row.0.get("tools").unwrap_or(&suite.0["defaults"]["tools"]);
    let listed = if walls == Walls::Standing { listed.to_string() } else { "[\"*\"]".to_owned() };
    let graph = format!(
        "graph: attempt\nstate: {{ found: {{}} }}\noutput: [found]\nnodes:\n  work: {{ agent: {agent}, tools: {listed}, output: found, then: end }}\nstart: work\n"
    );
    let (graph, _) = graphs::check("attempt.yaml", graph.as_bytes(), &OpenCatalog).unwrap_or_else(|e| panic!("{e}"));
    let start = Start {
        graph: Arc::new(graph),
        thread: stage.thread.clone(),
        input: Value::Null,
        options: RunOptions::default(),
        metadata: json!({"requested_by": suite.0["requested_by"]}),
    };
    stage.engine.start(start).await.unwrap().ended().await.unwrap();
}
