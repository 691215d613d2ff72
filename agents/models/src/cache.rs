//! Answers that were given before: exact by the normalised request, within a scope, for a while, and never too many.
//!
//! Kept are whole answers that say nothing of one occurrence only: none that calls a tool, and none that repeats an id, a time or
//! a number of its question. So what is given again is as true of the new question. A hit says so, costs nothing, and names who
//! answered when.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::fingerprint::{VOLATILE_MAX, fingerprint, normalise, volatile};
use crate::prices::Amounts;
use crate::request::{Message, ModelRequest, Part, Role, Tool};
use crate::response::{ModelResponse, StopReason};

/// Changes when requests are normalised in another way, so that no older answer is taken for a newer question.
const FORM: &str = "2";

/// Whose answers may serve whom: they never leave their scope.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Scope {
    /// The tenant.
    pub tenant: String,
    /// Who asks: a graph and role, say, with the version of its prompt.
    pub asker: String,
    /// The tier or model that is asked.
    pub tier: String,
}

/// Names an answer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CacheKey(String);

impl CacheKey {
    /// Hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A request as the cache sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    key: CacheKey,
    /// What is true of this occurrence only, as it stands in the request.
    volatile: BTreeSet<String>,
}

impl Question {
    /// The texts of a request without what changes from day to day, everything else as it is.
    pub fn of(scope: &Scope, request: &ModelRequest) -> Self {
        Self::with(scope, request, &normalise)
    }

    /// Names its answer.
    pub fn key(&self) -> &CacheKey {
        &self.key
    }

    /// With another way to normalise, for tests that show what the way is good for.
    pub(crate) fn with(scope: &Scope, request: &ModelRequest, normalise: &dyn Fn(&str) -> String) -> Self {
        let mut calls = BTreeMap::new();
        let turn = |message: &Message| {
            let role = if message.role == Role::User { "user" } else { "assistant" };
            let parts = message.parts.iter().filter_map(|part| normal_part(part, &mut calls, normalise));
            json!([role, parts.collect::<Vec<_>>()])
        };
        let messages: Vec<Value> = request.messages.iter().map(turn).collect();
        let tool = |tool: &Tool| json!([tool.name, tool.description, tool.parameters, tool.strict]);
        let tools: Vec<Value> = request.tools.iter().map(tool).collect();
        let form = request.output.as_ref().map(|form| json!([form.name, form.schema]));
        // Our own words: they change with a version, not with a day.
        let system = &request.system.text;
        let normal = json!([system, messages, tools, request.tool_choice, form]).to_string();
        let settings =
            json!([request.model, request.max_output_tokens, request.temperature, request.effort, request.stop]);
        let key = fingerprint(&[FORM, &scope.tenant, &scope.asker, &scope.tier, &normal, &settings.to_string()]);
        let mut found = BTreeSet::new();
        request.texts().into_iter().skip(1).for_each(|text| volatile(text, &mut found));
        Self { key: CacheKey(key), volatile: found }
    }

    /// Whether an answer is as true of every other occurrence.
    fn may_keep(&self, response: &ModelResponse) -> bool {
        let is_whole = matches!(response.stop, StopReason::End | StopReason::StopSequence);
        let text = response.text();
        let is_general = !self.volatile.iter().any(|value| text.contains(value.as_str()));
        is_whole && response.tool_calls().next().is_none() && self.volatile.len() < VOLATILE_MAX && is_general
    }
}

/// Names of calls are drawn anew each time: their order stays. Thoughts are nothing the caller said.
fn normal_part(part: &Part, calls: &mut BTreeMap<String, usize>, normalise: &dyn Fn(&str) -> String) -> Option<Value> {
    let mut nth = |id: &String| {
        let next = calls.len();
        *calls.entry(id.clone()).or_insert(next)
    };
    match part {
        Part::Text { text } => Some(json!(["text", normalise(text)])),
        Part::ToolCall { id, name, arguments, .. } => {
            Some(json!(["call", nth(id), name, normalise(&arguments.to_string())]))
        }
        Part::ToolResult { call_id, content, is_error } => {
            Some(json!(["result", nth(call_id), normalise(content), is_error]))
        }
        Part::Thought { .. } => None,
    }
}

/// An answer that is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CacheEntry {
    /// The answer.
    pub response: ModelResponse,
    /// What it cost.
    pub cost: Amounts,
    /// When it was given.
    pub stored: Timestamp,
    /// Until when it may be given again.
    pub until: Timestamp,
}

/// How many answers are kept, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheBounds {
    /// Most answers.
    pub entries: usize,
    /// Most bytes of all answers.
    pub bytes: usize,
    /// Most bytes of one answer.
    pub entry_bytes: usize,
    /// How long an answer is good.
    pub ttl: SignedDuration,
}

impl Default for CacheBounds {
    fn default() -> Self {
        Self {
            entries: 10_000,
            bytes: 64 * 1024 * 1024,
            entry_bytes: 256 * 1024,
            ttl: SignedDuration::from_hours(24 * 30),
        }
    }
}

/// Where answers are kept. A store may forget at any time; it must not give out what is past its time.
#[async_trait]
pub trait CacheStore: Send + Sync {
    /// The answer of a key, if it is there and still good.
    async fn get(&self, key: &CacheKey, now: Timestamp) -> Option<CacheEntry>;
    /// Keeps an answer, and forgets another one where there is no room: the one that was used or kept least lately.
    async fn put(&self, key: CacheKey, entry: CacheEntry);
}

/// An answer from the cache.
#[derive(Debug, Clone, PartialEq)]
pub struct Cached {
    /// The answer, with who gave it.
    pub response: ModelResponse,
    /// When it was given.
    pub stored: Timestamp,
    /// What it would have cost again.
    pub saved: Amounts,
    /// What it costs now.
    pub spent: Amounts,
}

/// Answers that were given before.
#[derive(Debug)]
pub struct Cache<S> {
    store: S,
    bounds: CacheBounds,
}

impl<S: CacheStore> Cache<S> {
    /// A cache over a store.
    pub fn new(store: S, bounds: CacheBounds) -> Self {
        Self { store, bounds }
    }

    /// The answer to the same question.
    pub async fn get(&self, question: &Question, now: Timestamp) -> Option<Cached> {
        let entry = self.store.get(&question.key, now).await.filter(|entry| entry.until > now)?;
        let CacheEntry { response, cost, stored, .. } = entry;
        Some(Cached { response, stored, saved: cost, spent: Amounts::default() })
    }

    /// Keeps an answer, if it is a whole one that is true of every other occurrence, and not too large. Says whether.
    pub async fn put(&self, question: &Question, response: &ModelResponse, cost: Amounts, now: Timestamp) -> bool {
        let Ok(until) = now.checked_add(self.bounds.ttl) else { return false };
        let may_keep = question.may_keep(response);
        // Thoughts are the model's, and may repeat anything.
        let said = response.parts.iter().filter(|part| matches!(part, Part::Text { .. })).cloned().collect();
        let response = ModelResponse { parts: said, ..response.clone() };
        let entry = CacheEntry { response, cost, stored: now, until };
        let keeps = may_keep && size_of(&entry) <= self.bounds.entry_bytes;
        if keeps {
            self.store.put(question.key.clone(), entry).await;
        }
        keeps
    }
}

fn size_of(entry: &CacheEntry) -> usize {
    serde_json::to_string(entry).map_or(usize::MAX, |text| text.len())
}

/// Answers in memory, the least lately used forgotten first.
#[derive(Debug)]
pub struct MemoryCache {
    bounds: CacheBounds,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    entries: BTreeMap<CacheKey, (CacheEntry, u64, usize)>,
    /// Keys by their last use.
    uses: BTreeMap<u64, CacheKey>,
    n_uses: u64,
    bytes: usize,
}

impl MemoryCache {
    /// An empty cache.
    pub fn new(bounds: CacheBounds) -> Self {
        Self { bounds, kept: Mutex::default() }
    }

    /// Answers that are kept.
    pub fn len(&self) -> usize {
        self.kept.lock().entries.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Kept {
    fn next_use(&mut self, key: &CacheKey) -> u64 {
        self.n_uses += 1;
        self.uses.insert(self.n_uses, key.clone());
        self.n_uses
    }

    fn forget(&mut self, key: &CacheKey) {
        if let Some((_, last_use, size)) = self.entries.remove(key) {
            self.uses.remove(&last_use);
            self.bytes -= size;
        }
    }
}

#[async_trait]
impl CacheStore for MemoryCache {
    async fn get(&self, key: &CacheKey, now: Timestamp) -> Option<CacheEntry> {
        let mut kept = self.kept.lock();
        let (entry, last_use, _) = kept.entries.get(key)?;
        if entry.until <= now {
            kept.forget(key);
            return None;
        }
        let (entry, last_use) = (entry.clone(), *last_use);
        kept.uses.remove(&last_use);
        let next = kept.next_use(key);
        if let Some(slot) = kept.entries.get_mut(key) {
            slot.1 = next;
        }
        Some(entry)
    }

    async fn put(&self, key: CacheKey, entry: CacheEntry) {
        let size = size_of(&entry);
        if size > self.bounds.bytes.min(self.bounds.entry_bytes) {
            return;
        }
        let mut kept = self.kept.lock();
        kept.forget(&key);
        while kept.entries.len() >= self.bounds.entries || kept.bytes + size > self.bounds.bytes {
            let Some((_, oldest)) = kept.uses.pop_first() else { return };
            kept.forget(&oldest);
        }
        let last_use = kept.next_use(&key);
        kept.bytes += size;
        kept.entries.insert(key, (entry, last_use, size));
    }
}
