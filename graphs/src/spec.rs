//! A graph as it is written: everything read and placed, names not yet resolved.

use std::time::Duration;

use serde_json::Value;

use crate::agent::{Pattern, Schedule, Tier};
use crate::compiled::{GraphTest, Limits, Merge, Retention};
use crate::expr::{Code, Expr, Template};
use crate::node::{Breaker, Budget, EffectClass, GraphScope, RetryPolicy, Timeout};
use crate::schema::Schema;
use crate::source::Span;
use crate::yaml::Yaml;

/// A graph as it is written.
#[derive(Debug)]
pub struct GraphSpec {
    pub(crate) name: Name,
    pub(crate) description: String,
    pub(crate) input: Option<SchemaSpec>,
    pub(crate) output: Option<Vec<Name>>,
    pub(crate) channels: Vec<ChannelSpec>,
    pub(crate) defaults: Policies,
    pub(crate) nodes: Vec<NodeSpec>,
    pub(crate) start: RoutingSpec,
    pub(crate) limits: Limits,
    pub(crate) budget: Option<Budget>,
    pub(crate) retention: Retention,
    pub(crate) tests: Vec<TestSpec>,
    pub(crate) metadata: Value,
    /// The whole document, for the digest.
    pub(crate) document: Value,
}

/// A name and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) text: String,
    pub(crate) span: Span,
}

/// A compiled schema and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct SchemaSpec {
    pub(crate) schema: Schema,
}

/// A channel as it is written.
#[derive(Debug)]
pub(crate) struct ChannelSpec {
    pub(crate) name: Name,
    pub(crate) merge: Merge,
    pub(crate) schema: Option<SchemaSpec>,
    pub(crate) default: Option<Yaml>,
}

/// An expression and the scalar that holds it.
#[derive(Debug, Clone)]
pub(crate) struct ExprSpec {
    pub(crate) expr: Expr,
    pub(crate) span: Span,
}

/// A template with the scalars that hold its expressions.
#[derive(Debug, Clone)]
pub(crate) struct TemplateSpec {
    pub(crate) template: Template,
    pub(crate) span: Span,
    pub(crate) codes: Vec<(Code, Span)>,
}

/// Where a run goes, as written.
#[derive(Debug, Clone)]
pub(crate) enum RoutingSpec {
    Unset,
    /// It could not be read, so it may lead anywhere.
    Broken,
    Goto(Vec<Name>),
    Routes(Vec<RouteSpec>),
}

/// One conditional route.
#[derive(Debug, Clone)]
pub(crate) struct RouteSpec {
    pub(crate) when: Option<ExprSpec>,
    pub(crate) to: Vec<Name>,
    pub(crate) span: Span,
}

impl RoutingSpec {
    /// Every target that is mentioned.
    pub(crate) fn names(&self) -> Vec<&Name> {
        match self {
            RoutingSpec::Unset | RoutingSpec::Broken => Vec::new(),
            RoutingSpec::Goto(names) => names.iter().collect(),
            RoutingSpec::Routes(routes) => routes.iter().flat_map(|route| &route.to).collect(),
        }
    }
}

/// Policies a node has itself or takes from `defaults`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Policies {
    pub(crate) retry: Option<Vec<RetryPolicy>>,
    pub(crate) timeout: Option<Timeout>,
    pub(crate) cache: Option<CacheSpec>,
    pub(crate) on_error: Option<Name>,
    pub(crate) budget: Option<Budget>,
    pub(crate) breaker: Option<Breaker>,
}

/// A cache policy as written.
#[derive(Debug, Clone)]
pub(crate) struct CacheSpec {
    pub(crate) key: Option<ExprSpec>,
    pub(crate) ttl: Option<Duration>,
}

/// A node as it is written.
#[derive(Debug)]
pub(crate) struct NodeSpec {
    pub(crate) name: Name,
    pub(crate) description: String,
    pub(crate) kind: KindSpec,
    pub(crate) then: RoutingSpec,
    pub(crate) after: Vec<Name>,
    pub(crate) defer: bool,
    pub(crate) policies: Policies,
    pub(crate) with: Vec<(Name, TemplateSpec)>,
    pub(crate) output: OutputSpec,
    pub(crate) metadata: Value,
}

/// Whom a supervisor may ask, as written.
#[derive(Debug)]
pub(crate) struct SpecialistSpec {
    pub(crate) name: Name,
    pub(crate) description: String,
    pub(crate) prompt: Option<String>,
    pub(crate) tools: Vec<Name>,
}

/// What a node does, as written.
#[derive(Debug)]
pub(crate) enum KindSpec {
    /// It could not be read, so it may do and lead to anything.
    Broken,
    Agent {
        role: Name,
        tools: Vec<Name>,
        tier: Option<Tier>,
        prompt: Option<String>,
        pattern: Pattern,
        schedule: Schedule,
        specialists: Vec<SpecialistSpec>,
    },
    Tool(Box<ToolSpec>),
    Gate {
        score: ExprSpec,
        bands: Vec<BandSpec>,
    },
    Approval(Box<ApprovalSpec>),
    Set(Vec<(Name, SetSpec)>),
    Map(MapSpec),
    Wait(WaitSpec),
    Graph {
        graph: Name,
        scope: GraphScope,
    },
    Spawn(SpawnSpec),
    Fail {
        message: TemplateSpec,
        class: String,
    },
    Emit(TemplateSpec),
    Function(Name),
}

/// A tool call as written.
#[derive(Debug)]
pub(crate) struct ToolSpec {
    pub(crate) call: CallSpec,
    pub(crate) env: Option<TemplateSpec>,
    pub(crate) effect: Option<EffectClass>,
    pub(crate) verify: Option<(CallSpec, ExprSpec)>,
    pub(crate) undo: Option<CallSpec>,
    pub(crate) record: Option<RecordSpec>,
    pub(crate) dry_run: bool,
}

/// A track record as written.
#[derive(Debug)]
pub(crate) struct RecordSpec {
    pub(crate) class: TemplateSpec,
    pub(crate) at_least: Option<f64>,
    pub(crate) confidence: Option<ExprSpec>,
    pub(crate) prior: Option<TemplateSpec>,
    pub(crate) heals: bool,
    pub(crate) approvers: Vec<Name>,
    pub(crate) expires: Option<Duration>,
    pub(crate) span: Span,
}

/// A tool and its arguments as written.
#[derive(Debug, Clone)]
pub(crate) struct CallSpec {
    pub(crate) tool: TemplateSpec,
    pub(crate) args: TemplateSpec,
}

/// One band of a gate as written.
#[derive(Debug)]
pub(crate) struct BandSpec {
    pub(crate) at_least: Option<f64>,
    pub(crate) then: RoutingSpec,
    pub(crate) span: Span,
}

/// A question to a person as written.
#[derive(Debug)]
pub(crate) struct ApprovalSpec {
    pub(crate) title: TemplateSpec,
    pub(crate) body: Option<TemplateSpec>,
    pub(crate) payload: Option<TemplateSpec>,
    pub(crate) choices: Vec<String>,
    pub(crate) approvers: Vec<Name>,
    pub(crate) quorum: u32,
    pub(crate) expires: Option<Duration>,
    pub(crate) on_expire: Option<Name>,
    pub(crate) schema: Option<SchemaSpec>,
    pub(crate) four_eyes: bool,
}

/// How a channel is set, as written.
#[derive(Debug, Clone)]
pub(crate) enum SetSpec {
    Write(TemplateSpec),
    Overwrite(TemplateSpec),
}

/// Fan-out as written.
#[derive(Debug)]
pub(crate) struct MapSpec {
    pub(crate) over: ExprSpec,
    pub(crate) item: Name,
    pub(crate) index: Option<Name>,
    pub(crate) to: Name,
    pub(crate) max_concurrency: Option<u32>,
}

/// A wait as written.
#[derive(Debug)]
pub(crate) enum WaitSpec {
    For(Duration),
    Until(ExprSpec),
    Signal { name: String, timeout: Option<Duration>, on_timeout: Option<Name> },
}

/// A spawned thread as written.
#[derive(Debug)]
pub(crate) struct SpawnSpec {
    pub(crate) graph: Name,
    pub(crate) key: Option<TemplateSpec>,
    pub(crate) input: TemplateSpec,
    pub(crate) join: bool,
}

/// Where a result goes, as written.
#[derive(Debug)]
pub(crate) enum OutputSpec {
    None,
    /// It could not be read, so it may write anything.
    Broken,
    Channel(Name),
    Map(Vec<(Name, ExprSpec)>),
}

/// A test and the names in it.
#[derive(Debug)]
pub(crate) struct TestSpec {
    pub(crate) test: GraphTest,
    /// Channels it mentions.
    pub(crate) channels: Vec<Name>,
    /// Nodes it mentions.
    pub(crate) nodes: Vec<Name>,
}
