//! The compiled graph: checked, immutable, and all the engine needs.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::node::{Budget, ChannelIx, Node, NodeIx, Routing};
use crate::schema::Schema;
use crate::source::Source;

/// A graph that passed every check. Only [`crate::compile`] makes one.
pub struct CompiledGraph {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) digest: GraphDigest,
    pub(crate) source: Arc<Source>,
    pub(crate) channels: Vec<Channel>,
    pub(crate) channel_by_name: BTreeMap<String, ChannelIx>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) node_by_name: BTreeMap<String, NodeIx>,
    pub(crate) waiters: Vec<Vec<NodeIx>>,
    pub(crate) start: Routing,
    pub(crate) limits: Limits,
    pub(crate) budget: Option<Budget>,
    pub(crate) input_schema: Option<Schema>,
    pub(crate) output: Option<Vec<String>>,
    pub(crate) retention: Retention,
    pub(crate) metadata: Value,
    pub(crate) tests: Vec<GraphTest>,
}

/// SHA-256 of what a graph means. Comments, layout, descriptions, tests and the order of keys do not
/// change it; the order of nodes does, because it decides the order of writes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GraphDigest(#[serde(with = "crate::hex_form")] pub(crate) String);

impl GraphDigest {
    /// The digest in hexadecimal.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GraphDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One named piece of state.
#[derive(Debug)]
pub struct Channel {
    /// Its name.
    pub name: String,
    /// How writes are combined.
    pub merge: Merge,
    /// What every write must satisfy.
    pub schema: Option<Schema>,
    /// Its value before the first write.
    pub default: Option<Value>,
}

/// How the writes of a superstep become the new value of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Merge {
    /// One writer per superstep; two are an error.
    Replace,
    /// The last write in task order wins.
    Last,
    /// Writes are added to a list.
    Append,
    /// Objects are added or replaced by a key.
    Union {
        /// The field that identifies an object.
        key: String,
    },
    /// Objects are merged at every level.
    Deep,
    /// Numbers are added.
    Sum,
    /// The smallest number wins.
    Min,
    /// The largest number wins.
    Max,
    /// Messages are added, replaced and removed by id.
    Messages,
    /// The value is gone after the next superstep.
    Ephemeral,
    /// The value lives in memory and is never stored.
    Untracked,
}

/// Bounds of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Supersteps of one run.
    pub recursion: u32,
    /// Tasks that run at once.
    pub concurrency: Option<u32>,
}

/// How long finished threads of the graph are kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Retention {
    /// Checkpoints older than this may go.
    pub age: Option<Duration>,
    /// Only this many checkpoints of a thread are kept.
    pub count: Option<u32>,
    /// The latest checkpoint always stays.
    pub keep_latest: bool,
    /// Checkpoints with an approval always stay.
    pub keep_approvals: bool,
}

/// A test that the graph file carries.
#[derive(Debug, Clone, PartialEq)]
pub struct GraphTest {
    /// Its name.
    pub name: String,
    /// The thread's input.
    pub input: Value,
    /// Scripted tool results by `server.tool`.
    pub tools: Value,
    /// Scripted agent outputs by node.
    pub agents: Value,
    /// Scripted function results by name.
    pub functions: Value,
    /// Answers to approvals, in order.
    pub answers: Vec<Value>,
    /// Channels to start with.
    pub start_state: Value,
    /// What must come out.
    pub expect: Value,
}

impl CompiledGraph {
    /// The graph's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the graph is for, in words.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// The graph's version.
    pub fn digest(&self) -> &GraphDigest {
        &self.digest
    }

    /// The YAML text it was compiled from.
    pub fn source(&self) -> &str {
        self.source.text()
    }

    /// The channels, in declaration order.
    pub fn channels(&self) -> &[Channel] {
        &self.channels
    }

    /// A channel by name.
    pub fn channel(&self, name: &str) -> Option<(ChannelIx, &Channel)> {
        let ix = *self.channel_by_name.get(name)?;
        Some((ix, self.channels.get(ix.index())?))
    }

    /// A channel by position.
    pub fn channel_at(&self, ix: ChannelIx) -> Option<&Channel> {
        self.channels.get(ix.index())
    }

    /// The nodes, in declaration order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The position of a node.
    pub fn node_ix(&self, name: &str) -> Option<NodeIx> {
        self.node_by_name.get(name).copied()
    }

    /// A node by position. `None` only for a position of another graph.
    pub fn node(&self, ix: NodeIx) -> Option<&Node> {
        self.nodes.get(ix.index())
    }

    /// A node by name.
    pub fn node_by_name(&self, name: &str) -> Option<&Node> {
        self.node(self.node_ix(name)?)
    }

    /// Where a run starts.
    pub fn start(&self) -> &Routing {
        &self.start
    }

    /// Bounds of a run.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// What all nodes together may spend.
    pub fn budget(&self) -> Option<&Budget> {
        self.budget.as_ref()
    }

    /// What the input of a thread must satisfy.
    pub fn input_schema(&self) -> Option<&Schema> {
        self.input_schema.as_ref()
    }

    /// The channels that are the thread's output; `None` means all.
    pub fn output(&self) -> Option<&[String]> {
        self.output.as_deref()
    }

    /// The nodes whose `after` names this node.
    pub fn waiters(&self, ix: NodeIx) -> &[NodeIx] {
        self.waiters.get(ix.index()).map_or(&[], Vec::as_slice)
    }

    /// The tests the file carries.
    pub fn tests(&self) -> &[GraphTest] {
        &self.tests
    }

    /// How long threads are kept.
    pub fn retention(&self) -> &Retention {
        &self.retention
    }

    /// Free data for tools and people.
    pub fn metadata(&self) -> &Value {
        &self.metadata
    }
}

impl fmt::Debug for CompiledGraph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompiledGraph")
            .field("name", &self.name)
            .field("digest", &self.digest)
            .field("nodes", &self.nodes.len())
            .finish_non_exhaustive()
    }
}
