//! Starting tasks: what waits, what fits, and handing a node to the shell.

use std::sync::Arc;

use graphs::{Kind, Node};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::effect::{Dispatch, Effect};
use crate::error::TaskError;
use crate::event::{Cached, LiveTimer, Token};
use crate::finish::expression_error;
use crate::ids::{Ns, TaskId};
use crate::record::{CallHead, CallKind, TimerKey};
use crate::run::{Live, Run, View};
use crate::scope::TaskScope;
use crate::state::{TaskState, TaskStatus};

/// Target of the journal entry of a `wait` node.
pub(crate) const WAIT: &str = "wait";

/// Whether a journal entry is that of a `wait` node; calls of code carry a digest.
pub(crate) fn is_wait(head: &CallHead) -> bool {
    head.kind == CallKind::Custom && head.digest.is_empty() && &*head.target == WAIT
}

/// Whether `ns` is `scope` or inside it.
pub(crate) fn is_in(ns: &str, scope: &str) -> bool {
    ns == scope || crate::state::is_below(ns, scope)
}

/// SHA-256 of a value's canonical JSON (object keys sorted), in hex.
pub fn digest_of(value: &Value) -> String {
    digest_of_text(&serde_json::to_string(value).unwrap_or_default())
}

/// SHA-256 of a text, in hex.
pub(crate) fn digest_of_text(text: &str) -> String {
    graphs::hex_form::digits(Sha256::digest(text.as_bytes()))
}

/// A task about to start, with everything its start and its end need.
#[derive(Clone)]
pub(crate) struct Starting {
    pub(crate) id: TaskId,
    pub(crate) ns: Ns,
    pub(crate) view: Arc<View>,
    pub(crate) node: graphs::NodeIx,
    pub(crate) vars: Arc<Map<String, Value>>,
}

impl Starting {
    pub(crate) fn node(&self) -> Result<&Node, TaskError> {
        self.view.graph.node(self.node).ok_or_else(|| TaskError::bug("a task lost its node"))
    }
}

impl Run {
    /// Puts every task that can run into the ready queue: after a load, an answer, a wake-up.
    pub(crate) fn requeue(&mut self) {
        let mut open = Vec::new();
        let mut ready = Vec::new();
        let stopped = |ns: &Ns| self.state.held.contains_key(ns) || self.failing.iter().any(|scope| is_in(ns, scope));
        for (ns, frame) in self.state.frames.iter().filter(|(_, frame)| !frame.asleep) {
            let unfinished = frame.tasks.iter().filter(|task| !matches!(task.status, TaskStatus::Finished { .. }));
            open.push((ns.clone(), unfinished.count()));
            if stopped(ns) {
                continue;
            }
            let pending = frame.tasks.iter().filter(|task| task.status == TaskStatus::Pending && !self.waits(task));
            ready.extend(pending.map(|task| task.id).filter(|id| !self.live.contains_key(id)));
        }
        self.open_tasks = open.into_iter().collect();
        self.ready = ready.into();
    }

    /// Queues all tasks of a frame's new plan.
    pub(crate) fn queue_plan(&mut self, ns: &Ns) {
        let Some(frame) = self.state.frames.get(ns) else { return };
        self.open_tasks.insert(ns.clone(), frame.tasks.len());
        self.ready.extend(frame.tasks.iter().map(|task| task.id));
    }

    /// Whether a task waits for people, a time or a signal.
    pub(crate) fn waits(&self, task: &TaskState) -> bool {
        let asked = |id: &Option<crate::ids::InterruptId>| id.is_some_and(|id| self.state.interrupts.contains_key(&id));
        task.calls.values().any(|call| asked(&call.interrupt) || (is_wait(&call.head) && call.outcome.is_none()))
            || self.state.timers.contains_key(&TimerKey::Retry(task.id))
    }

    /// Whether limits of concurrency let one more task start.
    pub(crate) fn has_room(&mut self, task: TaskId) -> bool {
        let Some((ns, frame, index)) = self.state.find_task(task) else { return true };
        let (ns, node) = (ns.clone(), frame.plan.tasks.get(index).map(|planned| planned.node.clone()));
        let Ok(view) = self.view(&ns) else { return true };
        let live = |keep: &dyn Fn(&TaskId) -> bool| self.live.iter().filter(|(id, l)| l.ns == ns && keep(id)).count();
        if view.graph.limits().concurrency.is_some_and(|limit| live(&|_| true) >= limit as usize) {
            return false;
        }
        let Some(ix) = node.as_deref().and_then(|node| view.graph.node_ix(node)) else { return true };
        let limit = view.graph.nodes().iter().find_map(|source| match &source.kind {
            Kind::Map(map) if map.to == ix => map.max_concurrency,
            _ => None,
        });
        let same_node = |id: &TaskId| {
            self.state.find_task(*id).and_then(|(_, frame, at)| frame.plan.tasks.get(at)).map(|t| &t.node)
                == node.as_ref()
        };
        limit.is_none_or(|limit| live(&same_node) < limit as usize)
    }

    /// Starts a task: computes it here or hands it to the shell.
    pub(crate) fn begin_task(&mut self, id: TaskId) {
        let startable = self.task(id).is_some_and(|task| task.status == TaskStatus::Pending && !self.waits(task))
            && !self.live.contains_key(&id);
        if !startable {
            return;
        }
        match self.prepare(id) {
            Ok(starting) => {
                if let Err(error) = self.run_kind(&starting) {
                    self.fail_task(id, error);
                }
            }
            Err(error) => self.fail_task(id, error),
        }
    }

    /// Finds a task's node and renders its variables.
    pub(crate) fn prepare(&mut self, id: TaskId) -> Result<Starting, TaskError> {
        let (ns, frame, index) = self.state.find_task(id).ok_or_else(|| TaskError::bug("a task lost its frame"))?;
        let planned = frame.plan.tasks.get(index).cloned().ok_or_else(|| TaskError::bug("a task lost its plan"))?;
        let ns = ns.clone();
        let view = self.view(&ns)?;
        let node = view
            .graph
            .node_by_name(&planned.node)
            .ok_or_else(|| crate::plan::unknown_node(&view.graph, &planned.node))?;
        let sent = match planned.send.as_deref() {
            Some(Value::Object(map)) => map.clone(),
            Some(other) => Map::from_iter([("item".to_owned(), other.clone())]),
            None => Map::new(),
        };
        let vars = if node.with.is_empty() { sent } else { self.render_with(&ns, &view, node, sent)? };
        Ok(Starting { id, ns, node: node.ix, vars: Arc::new(vars), view: Arc::clone(&view) })
    }

    fn render_with(
        &self,
        ns: &Ns,
        view: &View,
        node: &Node,
        sent: Map<String, Value>,
    ) -> Result<Map<String, Value>, TaskError> {
        let mut vars = sent.clone();
        self.with_scope(ns, view, &sent, |scope| {
            for (name, template) in &node.with {
                let value = template.render(scope).map_err(|e| expression_error(node, "with", &e))?;
                vars.insert(name.clone(), value);
            }
            Ok(())
        })?;
        Ok(vars)
    }

    /// Calls `use_scope` with the scope of a frame and variables.
    pub(crate) fn with_scope<T>(
        &self,
        ns: &Ns,
        view: &View,
        vars: &Map<String, Value>,
        use_scope: impl FnOnce(&mut TaskScope<'_>) -> Result<T, TaskError>,
    ) -> Result<T, TaskError> {
        let frame = self.state.frames.get(ns).ok_or_else(|| TaskError::bug(format!("no frame `{ns}`")))?;
        let none = Map::new();
        let mut scope = TaskScope::new(&view.graph, &frame.channels, vars);
        scope.untracked = self.untracked.get(ns).map_or(&none, |map| map);
        scope.facts = self.facts(frame.step + 1, 0);
        let input = self.state.run.as_ref().map(|run| Arc::clone(&run.input)).unwrap_or_default();
        scope.input = &input;
        use_scope(&mut scope)
    }

    /// Hands a node to the shell, through the node cache when it has one.
    pub(crate) fn dispatch(&mut self, starting: &Starting) -> Result<(), TaskError> {
        let token = self.mint_token();
        let cache_key = self.cache_key(starting)?;
        self.live.insert(
            starting.id,
            Live {
                token,
                ns: starting.ns.clone(),
                last_sign: self.now,
                permitted: std::collections::BTreeMap::new(),
                let_go: std::collections::BTreeMap::new(),
                suspending: false,
                passing: std::collections::BTreeMap::new(),
                worst: std::collections::BTreeMap::new(),
                cache_asked: cache_key.is_some(),
                cache_key: cache_key.clone(),
                starting: starting.clone(),
            },
        );
        match cache_key {
            Some(key) => self.push(Effect::CacheLook { task: starting.id, token, key }),
            None => self.enter(starting, token)?,
        }
        Ok(())
    }

    pub(crate) fn hand_over(&mut self, starting: &Starting, token: Token) -> Result<(), TaskError> {
        let node = starting.node()?;
        let frame = self.state.frames.get(&starting.ns).ok_or_else(|| TaskError::bug("a task lost its frame"))?;
        let task = self.state.task(starting.id).ok_or_else(|| TaskError::bug("a task lost its state"))?;
        let run = self.state.active_run().ok_or_else(|| TaskError::bug("a task without a run"))?;
        let dispatch = Dispatch {
            task: starting.id,
            token,
            ns: starting.ns.clone(),
            graph: Arc::clone(&starting.view.graph),
            node: starting.node,
            channels: Arc::clone(&frame.channels),
            untracked: self.untracked.get(&starting.ns).cloned().unwrap_or_default(),
            vars: Arc::clone(&starting.vars),
            input: Arc::clone(&run.input),
            attempts: task.attempts,
            run: run.id,
            step: frame.step + 1,
            generation: task.generation,
            steps_left: 0,
        };
        let supersteps = run.supersteps;
        let timeout = node.timeout;
        let steps_left = self.recursion_limit().saturating_sub(supersteps + 1);
        self.push(Effect::Dispatch(Box::new(Dispatch { steps_left, ..dispatch })));
        if let Some(limit) = timeout.run {
            let timer = LiveTimer::Run(starting.id, token);
            self.push(Effect::SetTimer { timer, at: self.now.plus(limit) });
        }
        if let Some(limit) = timeout.idle {
            let timer = LiveTimer::Idle(starting.id, token);
            self.push(Effect::SetTimer { timer, at: self.now.plus(limit) });
        }
        self.stream_task_start(starting);
        Ok(())
    }

    fn cache_key(&self, starting: &Starting) -> Result<Option<String>, TaskError> {
        let node = starting.node()?;
        let Some(policy) = &node.cache else { return Ok(None) };
        let what = match &policy.key {
            Some(key) => self.with_scope(&starting.ns, &starting.view, &starting.vars, |scope| {
                key.eval(scope).map_err(|e| expression_error(node, "cache.key", &e))
            })?,
            None if !starting.vars.is_empty() => Value::Object((*starting.vars).clone()),
            None => {
                self.state.frames.get(&starting.ns).map(|f| crate::channels::values(&f.channels)).unwrap_or_default()
            }
        };
        let digest = starting.view.graph.digest().as_str();
        Ok(Some(format!("{digest}/{}/{}", node.name, digest_of(&what))))
    }

    /// The cache answered: finish from it, or run the node.
    pub(crate) fn cache_looked(&mut self, id: TaskId, token: Token, found: (String, Option<Arc<Cached>>)) {
        let (key, hit) = found;
        let Some(live) = self.live(id, token).filter(|live| live.cache_asked) else {
            if hit.is_none() {
                self.push(Effect::CacheRelease { key });
            }
            return;
        };
        live.cache_asked = false;
        let starting = live.starting.clone();
        if let Some(hit) = hit {
            self.live.remove(&id);
            self.task_finished(id, hit.changes.clone(), hit.route.clone(), true);
            return;
        }
        let handed = self.enter(&starting, token);
        if let Err(error) = handed {
            self.abort(id, token);
            self.fail_task(id, error);
        }
    }
}
