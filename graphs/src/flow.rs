//! Who can follow whom: the graph that the reachability, cycle and join checks look at.

use std::collections::BTreeSet;

use petgraph::Direction;
use petgraph::algo::dominators::{Dominators, simple_fast};
use petgraph::algo::kosaraju_scc;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::{Bfs, Reversed};

use crate::resolve::Cx;
use crate::spec::{KindSpec, Name, NodeSpec, RoutingSpec, WaitSpec};

/// A node of the flow: the start, the end, or a node of the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Point {
    Start,
    End,
    Node(usize),
}

/// One way a point can go on: all of these at once.
pub(crate) type Step = BTreeSet<Point>;

/// The ways every point can go on.
pub(crate) struct Flow {
    /// Alternatives by point; one of them is taken. Failures are not among them.
    steps: Vec<Vec<Step>>,
    graph: DiGraph<Point, ()>,
    /// Some target could not be read, so there may be more ways than are known.
    pub(crate) is_partial: bool,
}

impl Flow {
    pub(crate) fn new(cx: &Cx<'_>) -> Flow {
        let n_nodes = cx.spec.nodes.len();
        let mut flow = Flow { steps: vec![Vec::new(); n_nodes + 2], graph: DiGraph::new(), is_partial: false };
        for ix in 0..n_nodes {
            flow.graph.add_node(Point::Node(ix));
        }
        flow.graph.add_node(Point::Start);
        flow.graph.add_node(Point::End);
        let start = flow.alternatives(cx, &cx.spec.start);
        flow.add(Point::Start, start);
        for (ix, node) in cx.spec.nodes.iter().enumerate() {
            let steps = flow.node_steps(cx, node, ix);
            flow.add(Point::Node(ix), steps);
            let handler = node.policies.on_error.as_ref().or(cx.spec.defaults.on_error.as_ref());
            if let Some(handler) = handler.and_then(|name| flow.point(cx, name)).filter(|to| *to != Point::Node(ix)) {
                flow.edge(Point::Node(ix), handler);
            }
        }
        flow
    }

    /// The ways a node can go on when it succeeds.
    fn node_steps(&mut self, cx: &Cx<'_>, node: &NodeSpec, ix: usize) -> Vec<Step> {
        let mut steps = match &node.kind {
            KindSpec::Gate { bands, .. } => bands.iter().flat_map(|band| self.alternatives(cx, &band.then)).collect(),
            _ => self.alternatives(cx, &node.then),
        };
        match &node.kind {
            KindSpec::Broken => self.is_partial = true,
            KindSpec::Map(map) => {
                if let Some(to) = self.point(cx, &map.to) {
                    let sent: Vec<Step> = steps.iter().map(|step| step.iter().copied().chain([to]).collect()).collect();
                    let nothing_else = sent.is_empty();
                    steps.extend(sent);
                    if nothing_else {
                        steps.push(Step::from([to]));
                    }
                }
            }
            KindSpec::Approval(approval) => self.also(cx, approval.on_expire.as_ref(), &mut steps),
            KindSpec::Wait(WaitSpec::Signal { on_timeout, .. }) => self.also(cx, on_timeout.as_ref(), &mut steps),
            _ => {}
        }
        let node_ix = cx.node(&node.name.text).filter(|found| found.index() == ix);
        let waiters: Step =
            node_ix.map_or(&[][..], |of| cx.waiters(of)).iter().map(|waiter| Point::Node(waiter.index())).collect();
        if steps.is_empty() && !waiters.is_empty() {
            return vec![waiters];
        }
        steps.into_iter().map(|step| step.union(&waiters).copied().collect()).collect()
    }

    fn also(&mut self, cx: &Cx<'_>, name: Option<&Name>, steps: &mut Vec<Step>) {
        if let Some(to) = name.and_then(|name| self.point(cx, name)) {
            steps.push(Step::from([to]));
        }
    }

    fn alternatives(&mut self, cx: &Cx<'_>, routing: &RoutingSpec) -> Vec<Step> {
        match routing {
            RoutingSpec::Unset => Vec::new(),
            RoutingSpec::Broken => {
                self.is_partial = true;
                Vec::new()
            }
            RoutingSpec::Goto(names) => vec![self.step(cx, names)],
            RoutingSpec::Routes(routes) => routes.iter().map(|route| self.step(cx, &route.to)).collect(),
        }
    }

    fn step(&mut self, cx: &Cx<'_>, names: &[Name]) -> Step {
        names.iter().filter_map(|name| self.point(cx, name)).collect()
    }

    fn point(&mut self, cx: &Cx<'_>, name: &Name) -> Option<Point> {
        if name.text == "end" {
            return Some(Point::End);
        }
        let found = cx.likely_node(&name.text).map(|ix| Point::Node(ix.index()));
        self.is_partial |= found.is_none();
        found
    }

    fn add(&mut self, from: Point, steps: Vec<Step>) {
        for to in steps.iter().flatten().copied().collect::<BTreeSet<_>>() {
            self.edge(from, to);
        }
        let ix = self.index(from).index();
        if let Some(slot) = self.steps.get_mut(ix) {
            *slot = steps;
        }
    }

    fn edge(&mut self, from: Point, to: Point) {
        let (from, to) = (self.index(from), self.index(to));
        self.graph.update_edge(from, to, ());
    }

    fn index(&self, point: Point) -> NodeIndex {
        let n_nodes = self.steps.len() - 2;
        NodeIndex::new(match point {
            Point::Node(ix) => ix,
            Point::Start => n_nodes,
            Point::End => n_nodes + 1,
        })
    }

    /// The ways a point can go on without failing.
    pub(crate) fn steps(&self, point: Point) -> &[Step] {
        self.steps.get(self.index(point).index()).map_or(&[], Vec::as_slice)
    }

    /// Everything that can run after `from`, itself included.
    pub(crate) fn reachable(&self, from: Point) -> BTreeSet<Point> {
        let mut search = Bfs::new(&self.graph, self.index(from));
        let mut found = BTreeSet::new();
        while let Some(ix) = search.next(&self.graph) {
            found.extend(self.graph.node_weight(ix).copied());
        }
        found
    }

    /// Everything that can run before `to`, itself included.
    pub(crate) fn before(&self, to: Point) -> BTreeSet<Point> {
        let reversed = Reversed(&self.graph);
        let mut search = Bfs::new(reversed, self.index(to));
        let mut found = BTreeSet::new();
        while let Some(ix) = search.next(reversed) {
            found.extend(self.graph.node_weight(ix).copied());
        }
        found
    }

    /// Groups of points that can run again and again.
    pub(crate) fn cycles(&self) -> Vec<BTreeSet<Point>> {
        let groups = kosaraju_scc(&self.graph).into_iter().filter(|group| match group.as_slice() {
            [only] => self.graph.contains_edge(*only, *only),
            _ => true,
        });
        groups.map(|group| group.into_iter().filter_map(|ix| self.graph.node_weight(ix).copied()).collect()).collect()
    }

    /// Which points every path from the start to a point passes.
    pub(crate) fn dominators(&self) -> Passed<'_> {
        Passed { flow: self, dominators: simple_fast(&self.graph, self.index(Point::Start)) }
    }

    /// The points from which `goal` runs whatever is chosen.
    pub(crate) fn certain(&self, goal: Point) -> BTreeSet<Point> {
        let mut certain = BTreeSet::from([goal]);
        let mut open = vec![self.index(goal)];
        while let Some(reached) = open.pop() {
            for before in self.graph.neighbors_directed(reached, Direction::Incoming) {
                let Some(point) = self.graph.node_weight(before).copied() else { continue };
                let steps = self.steps(point);
                let always = !steps.is_empty() && steps.iter().all(|step| !step.is_disjoint(&certain));
                if always && certain.insert(point) {
                    open.push(before);
                }
            }
        }
        certain
    }
}

/// Which points every path from the start passes.
pub(crate) struct Passed<'f> {
    flow: &'f Flow,
    dominators: Dominators<NodeIndex>,
}

impl Passed<'_> {
    /// Whether every path from the start to `to` passes `by`.
    pub(crate) fn always(&self, by: Point, to: Point) -> bool {
        let by = self.flow.index(by);
        self.dominators.dominators(self.flow.index(to)).is_some_and(|mut all| all.any(|point| point == by))
    }
}
