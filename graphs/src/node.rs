//! What a compiled graph is made of: nodes, their kinds, routing and policies.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::agent::AgentNode;
use crate::expr::{Expr, Template};
use crate::record::Record;
use crate::schema::Schema;

/// The position of a node in declaration order. Valid only for the graph it came from; never stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIx(pub(crate) u32);

/// The position of a channel in declaration order. Valid only for the graph it came from; never stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelIx(pub(crate) u32);

impl NodeIx {
    /// The position as an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl ChannelIx {
    /// The position as an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// One node of a graph, with the graph's defaults applied.
#[derive(Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its position in declaration order.
    pub ix: NodeIx,
    /// What it is for, in words.
    pub description: String,
    /// What it does.
    pub kind: Kind,
    /// Where the run goes when it has finished.
    pub then: Routing,
    /// A barrier: it runs once all of these have finished since it last ran.
    pub after: Vec<NodeIx>,
    /// It waits until nothing else is left to run.
    pub defer: bool,
    /// Retry policies; the first whose classes match an error applies.
    pub retry: Vec<RetryPolicy>,
    /// How long it may take.
    pub timeout: Timeout,
    /// Whether its result may be reused.
    pub cache: Option<CachePolicy>,
    /// The node that handles its failure.
    pub on_error: Option<NodeIx>,
    /// Node-local variables, in declaration order.
    pub with: Vec<(String, Template)>,
    /// Where its result goes.
    pub output: Output,
    /// What it may spend.
    pub budget: Option<Budget>,
    /// When it is switched off.
    pub breaker: Option<Breaker>,
    /// Free data for tools and people.
    pub metadata: serde_json::Value,
}

/// What a node does.
#[derive(Debug)]
pub enum Kind {
    /// Runs an agent role.
    Agent(AgentNode),
    /// Calls a tool.
    Tool(Box<ToolNode>),
    /// Routes by a score.
    Gate(GateNode),
    /// Asks a person.
    Approval(Box<ApprovalNode>),
    /// Writes channels.
    Set(Vec<(ChannelIx, SetValue)>),
    /// Sends one task per item of a list.
    Map(MapNode),
    /// Waits for a time or a signal.
    Wait(WaitNode),
    /// Runs another graph as part of this thread.
    Graph(GraphNode),
    /// Starts or joins a thread of another graph.
    Spawn(SpawnNode),
    /// Ends the run as failed.
    Fail(FailNode),
    /// Emits a custom stream event.
    Emit(Template),
    /// Runs a function registered with the runtime.
    Function(String),
}

impl Kind {
    /// The key of this kind in a graph file.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Agent(_) => "agent",
            Kind::Tool(_) => "tool",
            Kind::Gate(_) => "gate",
            Kind::Approval(_) => "approval",
            Kind::Set(_) => "set",
            Kind::Map(_) => "map",
            Kind::Wait(_) => "wait",
            Kind::Graph(_) => "graph",
            Kind::Spawn(_) => "spawn",
            Kind::Fail(_) => "fail",
            Kind::Emit(_) => "emit",
            Kind::Function(_) => "function",
        }
    }
}

/// A tool call, its proof and its reversal.
#[derive(Debug)]
pub struct ToolNode {
    /// `server.tool`.
    pub tool: Template,
    /// Its arguments.
    pub args: Template,
    /// The environment it acts on.
    pub env: Option<Template>,
    /// The operator's declaration of what the tool does.
    pub effect: Option<EffectClass>,
    /// The check after the act.
    pub verify: Option<Verify>,
    /// The call that takes the act back when the check fails.
    pub undo: Option<ToolCall>,
    /// The track record that it counts for, and that may ask before it.
    pub record: Option<Record>,
    /// The call is only described, not made.
    pub dry_run: bool,
}

/// How safe it is to make a call twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EffectClass {
    /// It changes nothing.
    ReadOnly,
    /// Twice is the same as once.
    Idempotent,
    /// It must not be made twice.
    AtMostOnce,
}

/// A call whose result must satisfy an expression.
#[derive(Debug)]
pub struct Verify {
    /// `server.tool`.
    pub tool: Template,
    /// Its arguments.
    pub args: Template,
    /// Must be true; the call's result is `result`.
    pub expect: Expr,
}

/// A tool and its arguments.
#[derive(Debug)]
pub struct ToolCall {
    /// `server.tool`.
    pub tool: Template,
    /// Its arguments.
    pub args: Template,
}

/// Routes by the band a score falls in.
#[derive(Debug)]
pub struct GateNode {
    /// The score, a number.
    pub score: Expr,
    /// Bands, highest first; the last has no lower bound.
    pub bands: Vec<Band>,
}

/// One band of a gate.
#[derive(Debug)]
pub struct Band {
    /// The lowest score of the band; `None` takes whatever is left.
    pub at_least: Option<f64>,
    /// Where the run goes.
    pub then: Routing,
}

/// A durable question to a person.
#[derive(Debug)]
pub struct ApprovalNode {
    /// What is asked, in one line.
    pub title: Template,
    /// The details.
    pub body: Option<Template>,
    /// The exact thing that is approved.
    pub payload: Option<Template>,
    /// The answers to choose from.
    pub choices: Vec<String>,
    /// Who may answer.
    pub approvers: Vec<String>,
    /// How many must agree.
    pub quorum: u32,
    /// How long it stays open.
    pub expires: Option<Duration>,
    /// Where the run goes when it expires.
    pub on_expire: Option<NodeIx>,
    /// What an answer's arguments must look like.
    pub schema: Option<Schema>,
    /// The one who asked may not answer.
    pub four_eyes: bool,
}

/// How a `set` node writes one channel.
#[derive(Debug)]
pub enum SetValue {
    /// Through the channel's reducer.
    Write(Template),
    /// In place of the channel's value, whatever its reducer.
    Overwrite(Template),
}

/// Fan-out over a list.
#[derive(Debug)]
pub struct MapNode {
    /// The list.
    pub over: Expr,
    /// The name of the item in the sent task's scope.
    pub item: String,
    /// The name of the item's position.
    pub index: Option<String>,
    /// The node each item is sent to.
    pub to: NodeIx,
    /// How many of its tasks run at once.
    pub max_concurrency: Option<u32>,
}

/// What a `wait` node waits for.
#[derive(Debug)]
pub enum WaitNode {
    /// A length of time.
    For(Duration),
    /// A moment: a timestamp in RFC 3339 or seconds since 1970.
    Until(Expr),
    /// A named signal.
    Signal {
        /// Its name.
        name: String,
        /// How long to wait for it.
        timeout: Option<Duration>,
        /// Where the run goes when it does not come.
        on_timeout: Option<NodeIx>,
    },
}

/// A subgraph.
#[derive(Debug)]
pub struct GraphNode {
    /// The graph's name.
    pub graph: String,
    /// How long its state lives.
    pub scope: GraphScope,
}

/// How long the state of a subgraph lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GraphScope {
    /// It starts empty each time the node runs.
    Call,
    /// It is kept for the whole thread.
    Thread,
}

/// A thread of another graph.
#[derive(Debug)]
pub struct SpawnNode {
    /// The graph's name.
    pub graph: String,
    /// Threads with the same key are the same thread.
    pub key: Option<Template>,
    /// Its input.
    pub input: Template,
    /// Wait for it to finish.
    pub join: bool,
}

/// A declared failure.
#[derive(Debug)]
pub struct FailNode {
    /// What went wrong.
    pub message: Template,
    /// Its error class.
    pub class: String,
}

/// Where a node's result goes.
#[derive(Debug)]
pub enum Output {
    /// Nowhere.
    None,
    /// The whole result into one channel.
    Channel(ChannelIx),
    /// An expression over `result` for each channel.
    Map(Vec<(ChannelIx, Expr)>),
}

/// Where the run goes next.
#[derive(Debug)]
pub enum Routing {
    /// Nothing is said: the path ends here unless another node waits for this one.
    Unset,
    /// All of these, in parallel.
    Goto(Vec<Target>),
    /// The first route whose condition holds.
    Routes(Vec<Route>),
}

impl Routing {
    /// Every target that is mentioned, in order.
    pub fn targets(&self) -> impl Iterator<Item = Target> {
        let (all, routes): (&[Target], &[Route]) = match self {
            Routing::Unset => (&[], &[]),
            Routing::Goto(targets) => (targets, &[]),
            Routing::Routes(routes) => (&[], routes),
        };
        all.iter().copied().chain(routes.iter().flat_map(|route| route.to.iter().copied()))
    }
}

/// One conditional route.
#[derive(Debug)]
pub struct Route {
    /// The condition; the last route has none.
    pub when: Option<Expr>,
    /// All of these, in parallel.
    pub to: Vec<Target>,
}

/// A node or the end of the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// A node.
    Node(NodeIx),
    /// The path ends.
    End,
}

/// How a failed task is tried again.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// All tries, the first included.
    pub attempts: u32,
    /// How the delay grows.
    pub backoff: Backoff,
    /// The first delay.
    pub initial: Duration,
    /// What the delay is multiplied by.
    pub factor: f64,
    /// The longest delay.
    pub max: Duration,
    /// Error classes it applies to.
    pub on: Vec<String>,
}

/// How a retry delay grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backoff {
    /// By a factor each time.
    Exponential,
    /// Not at all.
    Fixed,
}

/// How long a node may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timeout {
    /// The whole attempt.
    pub run: Option<Duration>,
    /// The longest silence.
    pub idle: Option<Duration>,
    /// What breaks the silence.
    pub refresh: Refresh,
}

/// What restarts the idle timeout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Refresh {
    /// Any sign of life.
    #[default]
    Any,
    /// Only an explicit heartbeat.
    Heartbeat,
}

/// When a result may be reused.
#[derive(Debug)]
pub struct CachePolicy {
    /// What identifies a result; by default the node's inputs.
    pub key: Option<Expr>,
    /// How long it may be reused.
    pub ttl: Option<Duration>,
}

/// What may be spent.
#[derive(Debug, Clone, PartialEq)]
pub struct Budget {
    /// Dollars per calendar day.
    pub usd_per_day: Option<f64>,
    /// Dollars per run.
    pub usd_per_run: Option<f64>,
    /// Tokens per calendar day.
    pub tokens_per_day: Option<u64>,
    /// Tokens per run.
    pub tokens_per_run: Option<u64>,
    /// Calls per calendar day.
    pub calls_per_day: Option<u64>,
    /// Calls per run.
    pub calls_per_run: Option<u64>,
    /// What happens at the limit.
    pub on_exceed: OnExceed,
}

/// What happens when a budget is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnExceed {
    /// Interrupt and tell people.
    Pause,
    /// Use a cheaper tier.
    Downgrade,
    /// Fail the task.
    Fail,
}

/// When something is switched off after failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breaker {
    /// Failures in a row that open it.
    pub failures: u32,
    /// How long it stays open before one call is tried.
    pub cooldown: Duration,
}
