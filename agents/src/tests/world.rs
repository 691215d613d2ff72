//! A real engine on a memory store, a clock that jumps, scripted or real tools, and a person who answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use graphs::{CompiledGraph, EffectClass, OpenCatalog};
use runtime::ports::clock::Clock;
use runtime::ports::store::Store;
use runtime::{Engine, NodeKind, Start};
use runtime_core::effect::{Reply, Taken};
use runtime_core::error::{ErrorClass, TaskError};
use runtime_core::event::{AnswerInput, Principal};
use runtime_core::ids::{ThreadId, Timestamp};
use runtime_core::interlocks::guard::Policy;
use runtime_core::record::{Interrupt, Outcome, RunOptions};
use serde_json::{Value, json};
use tools::node::ToolNode;
use tools::policy::{RulePolicy, pattern_fits};
use tools::servers::sandbox::registry::{ToolEffect, agent_tools};
use tools::servers::sandbox::{Code, Sandbox};
use tools::toolbox::{ToolBox, ToolBrief, ToolRequest};

use crate::{AgentNode, Collected, Kit, Notice};

/// Most rounds of questions and answers.
const ROUNDS_MAX: usize = 20;

/// A clock without waiting: whoever sleeps finds that it is later.
struct Jumping(AtomicI64);

#[async_trait]
impl Clock for Jumping {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }

    async fn sleep_until(&self, at: Timestamp) {
        self.0.fetch_max(at.0, Ordering::SeqCst);
    }
}

/// The warehouse of the sandbox as a toolbox, in this process.
pub(super) struct SandboxTools(pub(super) Arc<Sandbox>);

impl SandboxTools {
    fn tool(target: &str) -> Result<&'static tools::servers::sandbox::registry::ToolSpec, TaskError> {
        let name = target.strip_prefix("warehouse.");
        let found = name.and_then(|name| agent_tools().iter().find(|tool| tool.name == name));
        found.ok_or_else(|| TaskError::new(ErrorClass::NotFound, format!("no tool `{target}`")))
    }
}

#[async_trait]
impl ToolBox for SandboxTools {
    async fn call(&self, request: ToolRequest) -> Result<Value, TaskError> {
        let tool = Self::tool(&request.target)?;
        let mut args = Value::clone(&request.args);
        if tool.effect != ToolEffect::Reads {
            args["idempotency_key"] = json!(request.key);
        }
        self.0.call(tool.name, args).map_err(|error| {
            let class = match error.code {
                Code::InvalidArguments | Code::Sql => ErrorClass::Invalid,
                Code::NotFound => ErrorClass::NotFound,
                Code::Denied => ErrorClass::Denied,
                Code::Conflict => ErrorClass::Conflict,
                Code::LimitExceeded | Code::RunFailed => ErrorClass::Permanent,
                Code::UpstreamTimeout | Code::Storage => ErrorClass::Transient,
            };
            TaskError::new(class, error.message)
        })
    }

    async fn effect(&self, target: &str) -> Result<EffectClass, TaskError> {
        Ok(match Self::tool(target)?.effect {
            ToolEffect::Reads => EffectClass::ReadOnly,
            ToolEffect::Sets | ToolEffect::Replaces => EffectClass::Idempotent,
            ToolEffect::Adds | ToolEffect::Redoes => EffectClass::AtMostOnce,
        })
    }

    async fn list(&self, patterns: &[String]) -> Result<Vec<ToolBrief>, TaskError> {
        let all = agent_tools().iter().map(|tool| format!("warehouse.{}", tool.name));
        let mut found = Vec::new();
        for target in all.filter(|target| patterns.iter().any(|pattern| pattern_fits(pattern, target))) {
            let effect = self.effect(&target).await?;
            found.push(ToolBrief { target, description: Default::default(), effect, input_schema: json!({}) });
        }
        Ok(found)
    }
}

/// The library graph of this name.
#[track_caller]
pub(super) fn library(name: &str) -> CompiledGraph {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../graphs/library/{name}.yaml"));
    compiled(name, &std::fs::read_to_string(&path).unwrap())
}

/// A graph that compiles without a warning.
#[track_caller]
pub(super) fn compiled(name: &str, yaml: &str) -> CompiledGraph {
    match graphs::check(&format!("{name}.yaml"), yaml.as_bytes(), &OpenCatalog) {
        Ok((graph, warnings)) => {
            assert!(warnings.is_empty(), "{warnings}");
            graph
        }
        Err(diagnostics) => panic!("{diagnostics}"),
    }
}

/// An engine with agents and tools.
pub(super) struct World {
    pub(super) engine: Engine,
    pub(super) notices: Arc<Collected>,
    pub(super) thread: ThreadId,
    /// Every question that was asked, in words.
    pub(super) questions: Vec<String>,
}

/// How a person answers a question.
pub(super) type Person = fn(&Interrupt) -> Value;

/// Approves what the guard asks about and takes over what lands on the desk.
pub(super) fn agreeable(question: &Interrupt) -> Value {
    let first = question.choices.first().map_or("approve", String::as_str);
    json!({ "choice": first })
}

impl World {
    /// An engine over these tools under the demo's policy.
    pub(super) fn new(tools: Arc<dyn ToolBox>) -> Self {
        Self::with_policy(tools, Arc::new(RulePolicy::etl_demo().unwrap()))
    }

    /// An engine over these tools under this policy.
    pub(super) fn with_policy(tools: Arc<dyn ToolBox>, policy: Arc<dyn Policy>) -> Self {
        Self::with_agents(tools, policy, |agents| Arc::new(agents))
    }

    /// An engine over these tools whose agents are wrapped.
    pub(super) fn with_agents(
        tools: Arc<dyn ToolBox>,
        policy: Arc<dyn Policy>,
        wrap: impl FnOnce(AgentNode) -> Arc<dyn NodeKind>,
    ) -> Self {
        let store = Arc::new(checkpoints::open::memory(&checkpoints::open::OpenOptions::default()));
        Self::over((store, Kit::shipped().unwrap()), tools, policy, wrap)
    }

    /// An engine over these tools whose agents know another estate.
    pub(super) fn in_estate(kit: Kit, tools: Arc<dyn ToolBox>, policy: Arc<dyn Policy>) -> Self {
        let store = Arc::new(checkpoints::open::memory(&checkpoints::open::OpenOptions::default()));
        Self::over((store, kit), tools, policy, |agents| Arc::new(agents))
    }

    pub(super) fn over(
        (store, kit): (Arc<dyn Store>, Kit),
        tools: Arc<dyn ToolBox>,
        policy: Arc<dyn Policy>,
        wrap: impl FnOnce(AgentNode) -> Arc<dyn NodeKind>,
    ) -> Self {
        let notices = Arc::new(Collected::default());
        let kit = Arc::new(kit);
        let engine = Engine::builder(store)
            .clock(Arc::new(Jumping(AtomicI64::new(1_700_000_000_000_000))))
            .policy(policy)
            .kind("tool", Arc::new(ToolNode::new(Arc::clone(&tools))))
            .kind("agent", wrap(AgentNode::new(tools, kit, Arc::clone(&notices) as _)))
            .build();
        Self { engine, notices, thread: ThreadId::new("t1").unwrap(), questions: Vec::new() }
    }

    /// The process dies and another one begins, with nothing but the store.
    pub(super) fn restarted(self, tools: Arc<dyn ToolBox>) -> Self {
        let store = Arc::clone(self.engine.store());
        let known = (store, Kit::shipped().unwrap());
        let next = Self::over(known, tools, Arc::new(RulePolicy::etl_demo().unwrap()), |agents| Arc::new(agents));
        Self { thread: self.thread, ..next }
    }

    /// Goes on answering where a process before stopped.
    pub(super) async fn go_on(&mut self, person: Person) -> Outcome {
        self.follow(Outcome::Interrupted, |question| Some(person(question))).await
    }

    /// Works on another thread: keys of calls are unique by thread.
    pub(super) fn on(mut self, thread: &str) -> Self {
        self.thread = ThreadId::new(thread).unwrap();
        self
    }

    /// Runs a graph to its end; `person` answers whatever is asked.
    pub(super) async fn run(&mut self, graph: CompiledGraph, input: Value, person: Person) -> Outcome {
        self.run_with(graph, input, |question| Some(person(question))).await
    }

    /// As [`World::run`]; a question without an answer stays open.
    pub(super) async fn run_with(
        &mut self,
        graph: CompiledGraph,
        input: Value,
        person: impl Fn(&Interrupt) -> Option<Value>,
    ) -> Outcome {
        let start = Start {
            graph: Arc::new(graph),
            thread: self.thread.clone(),
            input,
            options: RunOptions::default(),
            metadata: Value::Null,
        };
        let outcome = self.engine.start(start).await.unwrap().ended().await.unwrap().outcome;
        self.follow(outcome, person).await
    }

    async fn follow(&mut self, mut outcome: Outcome, person: impl Fn(&Interrupt) -> Option<Value>) -> Outcome {
        for _ in 0..ROUNDS_MAX {
            if outcome != Outcome::Interrupted {
                return outcome;
            }
            match self.answer_all(&person).await {
                Some(next) => outcome = next,
                None => return outcome,
            }
        }
        panic!("questions without end: {:#?}", self.questions);
    }

    async fn answer_all(&mut self, person: &impl Fn(&Interrupt) -> Option<Value>) -> Option<Outcome> {
        let state = self.engine.state(&self.thread).await.unwrap().unwrap();
        let by = Principal { user: "ann".to_owned(), groups: vec!["data-oncall".to_owned()] };
        let mut answers = Vec::new();
        for question in state.interrupts.values() {
            let Some(value) = person(question) else { continue };
            self.questions.push(format!("{:?} in `{}`: {} → {value}", question.kind, question.node, question.title));
            answers.push(AnswerInput { id: question.id, digest: Some(question.digest.clone()), value, by: by.clone() });
        }
        if answers.is_empty() {
            return None;
        }
        let (reply, ended) = self.engine.answer_and_join(&self.thread, answers, Value::Null).await.unwrap();
        let Reply::Answered(taken) = reply else { panic!("{reply:?}") };
        assert!(taken.iter().all(|taken| matches!(taken, Ok(Taken::Decided))), "{taken:?}");
        Some(ended.unwrap().outcome)
    }

    /// A channel of the root graph.
    pub(super) async fn channel(&self, name: &str) -> Value {
        let state = self.engine.state(&self.thread).await.unwrap().unwrap();
        state.root().and_then(|root| root.value(name)).map(|value| Value::clone(value)).unwrap_or_default()
    }

    /// What people were told, loudness and title.
    pub(super) fn told(&self) -> Vec<String> {
        let shown = |notice: &Notice| format!("{:?}: {}", notice.severity, notice.title);
        self.notices.notices().iter().map(shown).collect()
    }
}
