//! The hub behind its lock file: what the guard is told about each tool, and the one place where a look at it is recorded.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use graphs::EffectClass;
use parking_lot::Mutex;
use runtime_core::error::{ErrorClass, TaskError};
use runtime_core::interlocks::guard::{Hints, ToolFacts, Unpinned, Version};
use serde_json::{Value, json};

use crate::hub::{Annotations, Effect, Hub, InputAnswers, Look, Pin, Task};
use crate::lock::{Lock, LockFile, PinnedTool, Standing};
use crate::sampling::Sampler;
use crate::scan::{Flag, scan};
use crate::toolbox::{Followed, ToolBox, ToolBrief, ToolRequest, effect_class, hub_error, split};

/// Scans that are remembered; past this many all are forgotten.
const SCANS_MAX: usize = 10_000;

/// Tools of a hub whose versions people look at.
pub struct PinnedHub {
    hub: Hub,
    lock: Arc<LockFile>,
    /// Servers that are this very program: their tools change only with it.
    own: Vec<String>,
    unpinned: Unpinned,
    scans: Mutex<BTreeMap<String, Arc<Vec<Flag>>>>,
    sampler: Option<Arc<dyn Sampler>>,
}

impl PinnedHub {
    /// The tools of `hub` beside `lock`; `own` names servers that ship with the program.
    pub fn new(hub: Hub, lock: Arc<LockFile>, own: Vec<String>, unpinned: Unpinned) -> Self {
        Self { hub, lock, own, unpinned, scans: Mutex::default(), sampler: None }
    }

    /// The same with models for servers that may use them.
    #[must_use]
    pub fn with_sampler(mut self, sampler: Arc<dyn Sampler>) -> Self {
        self.sampler = Some(sampler);
        self
    }

    /// The lock file.
    pub fn lock(&self) -> &LockFile {
        &self.lock
    }

    /// Whether a server ships with this program.
    pub fn is_own(&self, server: &str) -> bool {
        self.own.iter().any(|own| own == server)
    }

    /// What the scan finds in a tool's own words.
    pub fn flags(&self, server: &str, look: &Look) -> Arc<Vec<Flag>> {
        let told = look.instructions.as_deref().map(|text| Pin::of(&json!({ "description": text })));
        let key = format!("{server}:{}:{}", look.tool.pin, told.as_ref().map_or("", Pin::as_str));
        if let Some(known) = self.scans.lock().get(&key) {
            return Arc::clone(known);
        }
        let strangers = self.strangers(server);
        let mut flags = scan(&look.tool.definition, &strangers);
        if let Some(instructions) = &look.instructions {
            let told = scan(&Value::from(instructions.as_str()), &strangers);
            flags.extend(told.into_iter().map(|flag| Flag { path: "instructions of the server".to_owned(), ..flag }));
        }
        let flags = Arc::new(flags);
        let mut scans = self.scans.lock();
        if scans.len() >= SCANS_MAX {
            scans.clear();
        }
        scans.insert(key, Arc::clone(&flags));
        flags
    }

    /// What the guard is told of a tool.
    ///
    /// # Errors
    /// Of class `denied` when the lock cannot be read: then nobody can say what was looked at.
    pub fn facts_of(&self, server: &str, look: &Look) -> Result<ToolFacts, TaskError> {
        let lock = self.lock.read().map_err(|why| TaskError::new(ErrorClass::Denied, why))?;
        let version = self.version(&lock, server, look);
        Ok(ToolFacts { hints: hints(&look.tool.annotations), version, computed_env: false })
    }

    fn version(&self, lock: &Lock, server: &str, look: &Look) -> Version {
        let pin = look.tool.pin.as_str().to_owned();
        match lock.standing(server, look) {
            Standing::Same => Version::Pinned { pin },
            Standing::Differs(diff) => Version::Differs { pin, diff },
            Standing::Unpinned if self.is_own(server) => Version::Unkept,
            Standing::Unpinned => {
                let flags = self.flags(server, look);
                if flags.is_empty() {
                    return Version::Unpinned { pin };
                }
                let said: Vec<String> = flags.iter().map(ToString::to_string).collect();
                let diff = format!("its description may speak to the model:\n{}", said.join("\n"));
                Version::Differs { pin, diff }
            }
        }
    }

    /// Names of other servers, and of their tools as far as they are pinned.
    fn strangers(&self, server: &str) -> Vec<String> {
        let lock = self.lock.read().unwrap_or_default();
        let mut names: Vec<String> = Vec::new();
        for other in self.hub.servers().into_iter().filter(|other| *other != server) {
            let tools = lock.servers.get(other).map(|pinned| pinned.tools.keys()).into_iter().flatten();
            // A short or plain name is an ordinary word; `server.tool` is not.
            for tool in tools {
                names.push(format!("{other}.{tool}"));
                if tool.contains('_') {
                    names.push(tool.clone());
                }
            }
            names.push(format!("{other}."));
        }
        names
    }
}

/// Hints as the guard takes them.
pub fn hints(said: &Annotations) -> Hints {
    Hints {
        read_only: said.read_only,
        destructive: said.destructive,
        idempotent: said.idempotent,
        open_world: said.open_world,
    }
}

#[async_trait]
impl ToolBox for PinnedHub {
    async fn call(&self, request: ToolRequest) -> Result<Value, TaskError> {
        ToolBox::call(&self.hub, request).await
    }

    async fn follow(&self, target: &str, task: &Task) -> Result<Followed, TaskError> {
        ToolBox::follow(&self.hub, target, task).await
    }

    async fn answer(&self, target: &str, task: &Task, answers: &InputAnswers) -> Result<(), TaskError> {
        ToolBox::answer(&self.hub, target, task, answers).await
    }

    async fn cancel(&self, target: &str, task: &Task) -> Result<(), TaskError> {
        ToolBox::cancel(&self.hub, target, task).await
    }

    fn sampler(&self) -> Option<&Arc<dyn Sampler>> {
        self.sampler.as_ref()
    }

    async fn effect(&self, target: &str) -> Result<EffectClass, TaskError> {
        self.hub.effect(target).await
    }

    async fn list(&self, patterns: &[String]) -> Result<Vec<ToolBrief>, TaskError> {
        ToolBox::list(&self.hub, patterns).await
    }

    /// A tool that may change something is looked at anew before each call.
    async fn facts(&self, target: &str) -> Result<ToolFacts, TaskError> {
        let (server, tool) = split(target)?;
        let failed = |error: crate::hub::ToolError| hub_error(&error, EffectClass::ReadOnly);
        let mut look = self.hub.glance(server, tool).await.map_err(failed)?;
        if look.tool.effect != Effect::ReadOnly && !self.is_own(server) {
            look = self.hub.look(server, tool).await.map_err(failed)?;
        }
        self.facts_of(server, &look)
    }

    async fn accept(&self, target: &str, permitted: &Version) -> Result<(), TaskError> {
        let (server, tool) = split(target)?;
        let look = self.hub.glance(server, tool).await.map_err(|error| hub_error(&error, EffectClass::ReadOnly))?;
        if permitted.pin() != Some(look.tool.pin.as_str()) {
            let text = format!("`{target}` changed again while people looked at it; nothing was called");
            return Err(TaskError::new(ErrorClass::Denied, text));
        }
        // Nobody was asked about it: policy lets what nobody has looked at, and what does not speak to the model, go.
        if self.unpinned != Unpinned::Ask && matches!(permitted, Version::Unpinned { .. }) {
            return Ok(());
        }
        let pinned = self.lock.change(|lock| {
            let is_new = !lock.servers.contains_key(server);
            let server = lock.servers.entry(server.to_owned()).or_default();
            server.partial |= is_new;
            server.introduced(&look);
            server.tools.insert(tool.to_owned(), PinnedTool::of(&look));
        });
        pinned.map_err(|why| TaskError::new(ErrorClass::Denied, why))
    }
}

/// The effect class of a tool as the guard takes it.
pub fn effect_of(look: &Look) -> EffectClass {
    effect_class(look.tool.effect)
}
