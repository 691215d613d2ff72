//! Drawings of a graph: Mermaid for documents, plain text for a terminal.

use std::fmt::Write as _;

use crate::compiled::CompiledGraph;
use crate::node::{Kind, Node, NodeIx, Route, Routing, Target, WaitNode};

/// Characters of a label on an edge.
const LABEL_CHARS_MAX: usize = 40;

/// One way from a node to another.
struct Edge {
    to: Target,
    label: String,
    style: Style,
}

/// Why an edge is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// By routing.
    Route,
    /// By waiting for the node.
    Join,
    /// After a failure or an expiry.
    Trouble,
}

impl CompiledGraph {
    /// The graph as a Mermaid flowchart.
    pub fn mermaid(&self) -> String {
        let mut text = "flowchart TD\n    start([start])\n".to_owned();
        for node in self.nodes() {
            let (open, close) = brackets(&node.kind);
            let _ = writeln!(text, "    n{}{open}\"{}\"{close}", node.ix.index(), escaped(&title(node)));
        }
        text.push_str("    finish([end])\n");
        let start = routing_edges(self.start());
        start.iter().for_each(|edge| mermaid_edge(&mut text, "start", edge));
        for node in self.nodes() {
            let from = format!("n{}", node.ix.index());
            self.edges(node).iter().for_each(|edge| mermaid_edge(&mut text, &from, edge));
        }
        text
    }

    /// The graph as plain text: every node with where it leads.
    pub fn text_drawing(&self) -> String {
        let mut text = format!("{}\n", self.name());
        let width = self.nodes().iter().map(|node| node.name.chars().count()).max().unwrap_or(0).max("start".len());
        self.text_node(&mut text, ("start", "", width), &routing_edges(self.start()));
        for node in self.nodes() {
            self.text_node(&mut text, (&node.name, &kind_label(node), width), &self.edges(node));
        }
        text
    }

    fn text_node(&self, text: &mut String, (name, kind, width): (&str, &str, usize), edges: &[Edge]) {
        let _ = if kind.is_empty() { writeln!(text, "  {name}") } else { writeln!(text, "  {name:width$}  [{kind}]") };
        for (ix, edge) in edges.iter().enumerate() {
            let corner = if ix + 1 == edges.len() { "└" } else { "├" };
            let arrow = match edge.style {
                Style::Route => "─▶",
                Style::Join => "═▶",
                Style::Trouble => "╌▶",
            };
            let to = match edge.to {
                Target::Node(ix) => self.node(ix).map_or("?", |node| node.name.as_str()),
                Target::End => "end",
            };
            let label = if edge.label.is_empty() { String::new() } else { format!("  ({})", edge.label) };
            let _ = writeln!(text, "    {corner}{arrow} {to}{label}");
        }
    }

    /// Every way out of a node.
    fn edges(&self, node: &Node) -> Vec<Edge> {
        let mut edges = routing_edges(&node.then);
        let trouble =
            |to: NodeIx, label: &str| Edge { to: Target::Node(to), label: label.to_owned(), style: Style::Trouble };
        match &node.kind {
            Kind::Gate(gate) => {
                for band in &gate.bands {
                    let label =
                        band.at_least.map_or_else(|| "otherwise".to_owned(), |least| format!("at least {least}"));
                    edges.extend(
                        routing_edges(&band.then).into_iter().map(|edge| Edge { label: label.clone(), ..edge }),
                    );
                }
            }
            Kind::Map(map) => {
                let label = format!("for each {}", map.item);
                edges.push(Edge { to: Target::Node(map.to), label, style: Style::Route });
            }
            Kind::Approval(approval) => edges.extend(approval.on_expire.map(|to| trouble(to, "expired"))),
            Kind::Wait(WaitNode::Signal { on_timeout, .. }) => {
                edges.extend(on_timeout.map(|to| trouble(to, "timeout")))
            }
            _ => {}
        }
        edges.extend(self.waiters(node.ix).iter().map(|waiter| Edge {
            to: Target::Node(*waiter),
            label: "joined".to_owned(),
            style: Style::Join,
        }));
        edges.extend(node.on_error.map(|to| trouble(to, "error")));
        edges
    }
}

fn routing_edges(routing: &Routing) -> Vec<Edge> {
    let edge = |to: &Target, label: &str| Edge { to: *to, label: label.to_owned(), style: Style::Route };
    match routing {
        Routing::Unset => Vec::new(),
        Routing::Goto(targets) => targets.iter().map(|to| edge(to, "")).collect(),
        Routing::Routes(routes) => {
            let label =
                |route: &Route| route.when.as_ref().map_or_else(|| "otherwise".to_owned(), |when| cut(when.source()));
            routes.iter().flat_map(|route| route.to.iter().map(move |to| edge(to, &label(route)))).collect()
        }
    }
}

fn mermaid_edge(text: &mut String, from: &str, edge: &Edge) {
    let to = match edge.to {
        Target::Node(ix) => format!("n{}", ix.index()),
        Target::End => "finish".to_owned(),
    };
    let arrow = match edge.style {
        Style::Route => "-->",
        Style::Join => "==>",
        Style::Trouble => "-.->",
    };
    let _ = if edge.label.is_empty() {
        writeln!(text, "    {from} {arrow} {to}")
    } else {
        writeln!(text, "    {from} {arrow}|\"{}\"| {to}", escaped(&edge.label))
    };
}

/// The shape of a node: decisions are diamonds, questions hexagons, tools boxes with double sides.
fn brackets(kind: &Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Gate(_) => ("{", "}"),
        Kind::Approval(_) => ("{{", "}}"),
        Kind::Tool(_) | Kind::Graph(_) | Kind::Spawn(_) => ("[[", "]]"),
        Kind::Wait(_) => ("(", ")"),
        _ => ("[", "]"),
    }
}

fn title(node: &Node) -> String {
    format!("{} · {}", node.name, kind_label(node))
}

fn kind_label(node: &Node) -> String {
    let what = match &node.kind {
        Kind::Agent(agent) => agent.role.clone(),
        Kind::Tool(tool) => tool.tool.written().as_str().map(cut).unwrap_or_default(),
        Kind::Gate(gate) => cut(gate.score.source()),
        Kind::Graph(graph) => graph.graph.clone(),
        Kind::Spawn(spawn) => spawn.graph.clone(),
        Kind::Function(name) => name.clone(),
        _ => String::new(),
    };
    format!("{} {what}", node.kind.name()).trim_end().to_owned()
}

fn cut(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LABEL_CHARS_MAX) {
        Some((at, _)) => format!("{}…", line.get(..at).unwrap_or("")),
        None => line,
    }
}

/// Text inside a quoted Mermaid label.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::language_tests::{INCIDENT, compiled};

    #[test]
    fn mermaid() {
        expect![[r#"
            flowchart TD
                start([start])
                n0["diagnose · agent diagnostic"]
                n1{"trusted · gate diagnosis.confidence"}
                n2["second_opinion · agent diagnostic"]
                n3["plan · agent remediation"]
                n4[["act · tool {{ plan.tool }}"]]
                n5{{"ask_on_call · approval"}}
                n6["page · agent notification"]
                n7["notify · agent notification"]
                finish([end])
                start --> n0
                n0 --> n1
                n1 -->|"at least 0.85"| n3
                n1 -->|"at least 0.7"| n2
                n1 -->|"otherwise"| n5
                n2 -->|"diagnosis.confidence &gt;= 0.70"| n3
                n2 -->|"otherwise"| n5
                n3 --> n4
                n4 --> n7
                n4 -.->|"error"| n5
                n5 -->|"answer.choice in ['approve', 'edit']"| n4
                n5 -->|"otherwise"| n7
                n5 -.->|"expired"| n6
                n6 --> finish
                n7 --> finish
        "#]]
        .assert_eq(&compiled(INCIDENT).mermaid());
    }

    #[test]
    fn text() {
        expect![[r#"
            etl-incident
              start
                └─▶ diagnose
              diagnose        [agent diagnostic]
                └─▶ trusted
              trusted         [gate diagnosis.confidence]
                ├─▶ plan  (at least 0.85)
                ├─▶ second_opinion  (at least 0.7)
                └─▶ ask_on_call  (otherwise)
              second_opinion  [agent diagnostic]
                ├─▶ plan  (diagnosis.confidence >= 0.70)
                └─▶ ask_on_call  (otherwise)
              plan            [agent remediation]
                └─▶ act
              act             [tool {{ plan.tool }}]
                ├─▶ notify
                └╌▶ ask_on_call  (error)
              ask_on_call     [approval]
                ├─▶ act  (answer.choice in ['approve', 'edit'])
                ├─▶ notify  (otherwise)
                └╌▶ page  (expired)
              page            [agent notification]
                └─▶ end
              notify          [agent notification]
                └─▶ end
        "#]]
        .assert_eq(&compiled(INCIDENT).text_drawing());
    }

    #[test]
    fn labels_cannot_break_out() {
        let graph = compiled(
            "graph: g\nnodes:\n  a: { emit: 1, then: [{ when: \"'\\\"]<b>' == input.x\", to: end }, { to: end }] }\nstart: a\n",
        );
        expect![[r#"
            flowchart TD
                start([start])
                n0["a · emit"]
                finish([end])
                start --> n0
                n0 -->|"'&quot;]&lt;b&gt;' == input.x"| finish
                n0 -->|"otherwise"| finish
        "#]]
        .assert_eq(&graph.mermaid());
    }
}
