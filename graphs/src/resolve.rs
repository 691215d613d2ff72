//! The names of a graph and what they refer to.

use std::collections::{BTreeMap, BTreeSet};

use crate::catalog::Catalog;
use crate::names::nearest;
use crate::node::{ChannelIx, NodeIx};
use crate::source::Source;
use crate::spec::{GraphSpec, KindSpec, Name, RoutingSpec, WaitSpec};

/// What every check sees.
pub(crate) struct Cx<'a> {
    pub(crate) spec: &'a GraphSpec,
    pub(crate) source: &'a Source,
    pub(crate) catalog: &'a dyn Catalog,
    nodes: BTreeMap<&'a str, NodeIx>,
    channels: BTreeMap<&'a str, ChannelIx>,
    /// The nodes that misspelt names most likely mean.
    likely: BTreeMap<&'a str, Vec<String>>,
    /// The nodes that wait for a node.
    waiters: BTreeMap<NodeIx, Vec<NodeIx>>,
}

/// Misspelt names for which the nearest right one is looked for.
const SUGGESTIONS_MAX: usize = 100;

/// A place that names a node.
pub(crate) struct NodeRef<'a> {
    pub(crate) name: &'a Name,
    /// Whether `end` can stand here.
    pub(crate) may_end: bool,
}

impl<'a> Cx<'a> {
    pub(crate) fn new(spec: &'a GraphSpec, source: &'a Source, catalog: &'a dyn Catalog) -> Cx<'a> {
        let nodes = spec.nodes.iter().zip(0..).map(|(node, ix)| (node.name.text.as_str(), NodeIx(ix))).collect();
        let channels =
            spec.channels.iter().zip(0..).map(|(channel, ix)| (channel.name.text.as_str(), ChannelIx(ix))).collect();
        let (likely, waiters) = (BTreeMap::new(), BTreeMap::new());
        let mut cx = Cx { spec, source, catalog, nodes, channels, likely, waiters };
        cx.likely = cx.suggestions();
        for (node, ix) in spec.nodes.iter().zip(0..) {
            for of in node.after.iter().filter_map(|name| cx.likely_node(&name.text)).collect::<Vec<_>>() {
                cx.waiters.entry(of).or_default().push(NodeIx(ix));
            }
        }
        cx
    }

    fn suggestions(&self) -> BTreeMap<&'a str, Vec<String>> {
        let refs = self.node_refs();
        let unknown = refs.iter().map(|node| node.name.text.as_str()).filter(|name| self.node(name).is_none());
        let unknown: BTreeSet<&str> = unknown.filter(|name| *name != "end").take(SUGGESTIONS_MAX).collect();
        unknown.into_iter().map(|name| (name, nearest(name, self.node_names().chain(["end"])))).collect()
    }

    /// The nodes whose `after` names a node.
    pub(crate) fn waiters(&self, of: NodeIx) -> &[NodeIx] {
        self.waiters.get(&of).map_or(&[], Vec::as_slice)
    }

    /// The nodes a misspelt name may mean, nearest first.
    pub(crate) fn candidates(&self, name: &str) -> &[String] {
        self.likely.get(name).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn node(&self, name: &str) -> Option<NodeIx> {
        self.nodes.get(name).copied()
    }

    pub(crate) fn channel(&self, name: &str) -> Option<ChannelIx> {
        self.channels.get(name).copied()
    }

    pub(crate) fn node_names(&self) -> impl Iterator<Item = &'a str> {
        self.nodes.keys().copied()
    }

    pub(crate) fn channel_names(&self) -> impl Iterator<Item = &'a str> {
        self.channels.keys().copied()
    }

    /// The node a name means, or most likely means if it is misspelt. Keeps one typing error from causing more.
    pub(crate) fn likely_node(&self, name: &str) -> Option<NodeIx> {
        self.node(name).or_else(|| self.node(self.candidates(name).first()?))
    }

    /// Every place that names a node, except tests.
    pub(crate) fn node_refs(&self) -> Vec<NodeRef<'a>> {
        let mut refs = Vec::new();
        let target = |name| NodeRef { name, may_end: true };
        let node = |name| NodeRef { name, may_end: false };
        refs.extend(self.spec.start.names().into_iter().map(target));
        refs.extend(self.spec.defaults.on_error.iter().map(node));
        for spec in &self.spec.nodes {
            refs.extend(spec.then.names().into_iter().map(target));
            refs.extend(spec.after.iter().map(node));
            refs.extend(spec.policies.on_error.iter().map(node));
            match &spec.kind {
                KindSpec::Gate { bands, .. } => {
                    refs.extend(bands.iter().flat_map(|band| band.then.names()).map(target));
                }
                KindSpec::Map(map) => refs.push(node(&map.to)),
                KindSpec::Approval(approval) => refs.extend(approval.on_expire.iter().map(node)),
                KindSpec::Wait(WaitSpec::Signal { on_timeout, .. }) => refs.extend(on_timeout.iter().map(node)),
                _ => {}
            }
        }
        refs
    }

    /// Every routing, with the name of what it belongs to.
    pub(crate) fn routings(&self) -> Vec<(&'a str, &'a RoutingSpec)> {
        let mut routings = vec![("start", &self.spec.start)];
        for spec in &self.spec.nodes {
            routings.push((spec.name.text.as_str(), &spec.then));
            if let KindSpec::Gate { bands, .. } = &spec.kind {
                routings.extend(bands.iter().map(|band| (spec.name.text.as_str(), &band.then)));
            }
        }
        routings
    }
}
