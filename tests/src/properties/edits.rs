//! G9: a thread goes on only on its graph's version. Edits that change the meaning are refused with a code; edits that do not
//! (comments, order of keys, layout, descriptions, tests) are the same version, and the thread goes on.

use std::fmt::Write as _;
use std::sync::Arc;

use graphs::CompiledGraph;
use runtime::EngineFault;
use runtime_core::digest_of;
use runtime_core::ids::ThreadId;
use runtime_core::record::Outcome;
use serde_json::{Map, Value, json};

use crate::lab::*;
use crate::strict_store::{Disk, StrictStore};

/// Edits of each sort.
const EDITS: usize = 1_000;
/// Draws after which an edit that compiles must have been found.
const DRAWS_MAX: usize = 200;

/// SplitMix64: the same edits in every run.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n.max(1) as u64).unwrap_or(0)
    }
}

/// A graph file whose nodes have an order.
#[derive(Debug, Clone, PartialEq)]
struct File {
    head: Map<String, Value>,
    nodes: Vec<(String, Map<String, Value>)>,
}

fn map(value: Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

fn base(child: bool) -> File {
    let node = |name: &str, body: Value| (name.to_owned(), map(body));
    let head = if child {
        json!({"graph": "child", "state": {"log": {"merge": "append"}, "n": {"merge": "sum"}}, "start": "c1"})
    } else {
        json!({"graph": "edited", "state": {"log": {"merge": "append"}, "n": {"merge": "sum"}, "kept": {}}, "start": "ask",
            "limits": {"recursion": 50}})
    };
    let nodes = if child {
        vec![
            node("c1", json!({"set": {"log": ["c1"]}, "then": [{"when": "n == 0", "to": "c2"}, {"to": "c3"}]})),
            node("c2", json!({"set": {"log": ["c2"], "n": 1}, "then": "c3"})),
            node("c3", json!({"set": {"n": 1}, "then": "end"})),
        ]
    } else {
        vec![
            node("ask", json!({"approval": {"title": "go on?", "choices": ["yes", "no"]}, "then": ["left", "right"]})),
            node("left", json!({"set": {"log": ["left"], "kept": "{{ n }}"}})),
            node("right", json!({"set": {"log": ["right"]}, "retry": {"attempts": 2}})),
            node("join", json!({"set": {"log": ["join"]}, "after": ["left", "right"], "then": "sub"})),
            node(
                "sub",
                json!({"graph": "child", "output": {"n": "result.n"}, "then": [{"when": "n > 5", "to": "last"}, {"to": "end"}]}),
            ),
            node("last", json!({"set": {"log": ["last"]}, "then": "end"})),
        ]
    };
    File { head: map(head), nodes }
}

impl File {
    /// As plain text.
    fn text(&self) -> String {
        let mut text = String::new();
        for (key, value) in &self.head {
            let _ = writeln!(text, "{key}: {value}");
        }
        text.push_str("nodes:\n");
        for (name, body) in &self.nodes {
            let _ = writeln!(text, "  {name}: {}", Value::Object(body.clone()));
        }
        text
    }

    /// The same in another layout: order of keys, comments, block or flow style, descriptions, tests.
    fn dressed(&self, rng: &mut Rng) -> String {
        let mut head: Vec<(String, Value)> = self.head.clone().into_iter().collect();
        head.push(("description".to_owned(), json!(format!("edit {}", rng.next()))));
        let at = rng.below(head.len() + 1);
        let n_keys = head.len();
        head.rotate_left(at % n_keys);
        let mut text = format!("# {}\n", rng.next());
        let nodes_at = rng.below(head.len());
        for (place, (key, value)) in head.iter().enumerate() {
            if place == nodes_at {
                self.dressed_nodes(rng, &mut text);
            }
            let _ = write!(text, "{key}:");
            block(value, 1 + rng.below(3), rng, &mut text);
        }
        text
    }

    fn dressed_nodes(&self, rng: &mut Rng, text: &mut String) {
        text.push_str("nodes:\n");
        for (name, body) in &self.nodes {
            let mut body = body.clone();
            if rng.below(2) == 0 {
                body.insert("description".to_owned(), json!(format!("what it does {}", rng.below(99))));
            }
            let _ = write!(text, "   {name}:");
            block(&Value::Object(body), 5 + rng.below(4), rng, text);
        }
    }
}

/// A value after its key, in block or in flow style.
fn block(value: &Value, indent: usize, rng: &mut Rng, text: &mut String) {
    let comment = if rng.below(3) == 0 { format!("  # {}", rng.below(1000)) } else { String::new() };
    match value {
        Value::Object(fields) if !fields.is_empty() && rng.below(3) > 0 => {
            let _ = writeln!(text, "{comment}");
            let mut fields: Vec<_> = fields.iter().collect();
            let n_fields = fields.len();
            fields.rotate_left(rng.below(n_fields));
            for (key, field) in fields {
                let _ = write!(text, "{}{key}:", " ".repeat(indent));
                block(field, indent + 1 + rng.below(3), rng, text);
            }
        }
        Value::String(word) if rng.below(2) == 0 && !word.contains('\'') => {
            let _ = writeln!(text, " '{word}'{comment}");
        }
        other => {
            let _ = writeln!(text, " {other}{comment}");
        }
    }
}

/// One edit that changes the meaning.
fn changed(file: &File, rng: &mut Rng) -> File {
    let mut edited = file.clone();
    let fresh = format!("x{}", rng.below(1_000_000));
    let n_nodes = edited.nodes.len();
    let at = rng.below(n_nodes);
    let other = edited.nodes[rng.below(n_nodes)].0.clone();
    match rng.below(12) {
        0 => edge(&mut edited.nodes[at].1, json!(other)),
        1 => edge(&mut edited.nodes[at].1, json!([other, "end"])),
        2 => edge(
            &mut edited.nodes[at].1,
            json!([{"when": format!("n > {}", rng.below(1000)), "to": other}, {"to": "end"}]),
        ),
        3 => drop(edited.nodes[at].1.insert("timeout".to_owned(), json!(format!("{}s", 1 + rng.below(9999))))),
        4 => drop(edited.nodes[at].1.insert("retry".to_owned(), json!({"attempts": 3 + rng.below(9000)}))),
        5 => drop(edited.nodes[at].1.insert("set".to_owned(), json!({"log": [fresh]}))),
        6 => edited.nodes.swap(at, (at + 1) % n_nodes),
        7 => {
            edited.nodes[at].1.insert("then".to_owned(), json!(fresh));
            edited.nodes.push((fresh, map(json!({"emit": 1, "then": "end"}))));
        }
        8 => {
            let merge = ["append", "last", "union", "deep", "max", "ephemeral"][rng.below(6)];
            edited.head["state"]["n"] = json!({ "merge": merge });
        }
        9 => drop(
            edited.head["state"]
                .as_object_mut()
                .map(|state| state.insert("kept".to_owned(), json!({"default": fresh}))),
        ),
        10 => drop(edited.head.insert("limits".to_owned(), json!({"recursion": 51 + rng.below(9000)}))),
        _ => {
            let Some(approval) = edited.nodes[at].1.get_mut("approval") else { return edited };
            approval["title"] = json!(fresh);
        }
    }
    edited
}

fn edge(node: &mut Map<String, Value>, then: Value) {
    node.insert("then".to_owned(), then);
}

/// An edit that changes the meaning and compiles.
fn drawn_edit(file: &File, rng: &mut Rng) -> (File, Arc<CompiledGraph>) {
    for _ in 0..DRAWS_MAX {
        let edited = changed(file, rng);
        if edited != *file
            && let Ok((graph, _)) = graphs::check("e.yaml", edited.text().as_bytes(), &graphs::OpenCatalog)
        {
            return (edited, Arc::new(graph));
        }
    }
    panic!("no edit of {DRAWS_MAX} compiles");
}

fn real_digest(_: &File, graph: &CompiledGraph) -> String {
    graph.digest().to_string()
}

/// Everything but where a node leads.
fn digest_without_edges(file: &File, _: &CompiledGraph) -> String {
    let bare = |(name, body): &(String, Map<String, Value>)| {
        let mut body = body.clone();
        body.remove("then");
        json!([name, body])
    };
    digest_of(&json!([file.head, file.nodes.iter().map(bare).collect::<Vec<_>>()]))
}

/// Edits of the meaning that a digest does not see.
fn unseen(edits: &[(File, Arc<CompiledGraph>)], digest: impl Fn(&File, &CompiledGraph) -> String) -> usize {
    let file = base(false);
    let known = digest(&file, &compile(&file.text()));
    edits.iter().filter(|(edited, graph)| digest(edited, graph) == known).count()
}

/// A thread that waits in its approval.
async fn paused(root: &str, child: &str) -> Lab {
    let mut lab = Lab::over(Arc::new(StrictStore::on(&Disk::default())));
    lab.graph(child).graph(root);
    assert_eq!(lab.start(json!({"n": 0})).await, Outcome::Interrupted);
    lab
}

#[test]
fn g9_edits_of_the_meaning_are_refused_and_others_go_on() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let (mut rng, root, child) = (Rng(1), base(false), base(true));
    let (mut refused, mut resumed, mut edits) = (0, 0, Vec::new());
    let known = compile(&child.text());
    runtime.block_on(async {
        let mut lab = paused(&root.text(), &child.text()).await;
        let engine = lab.engine();
        for at in 0..EDITS {
            // Every fifth edit is one of the graph that the thread's graph calls.
            let of_child = at % 5 == 0;
            let (edited, graph) = drawn_edit(if of_child { &child } else { &root }, &mut rng);
            let mut start = lab.what(json!({}), Default::default());
            match of_child {
                true => engine.add_graph(Arc::clone(&graph)).await.expect("it is kept"),
                false => start.graph = Arc::clone(&graph),
            }
            match engine.start(start).await {
                Err(EngineFault::Refused(refusal)) => {
                    let code = if of_child { "pinned_part" } else { "pinned" };
                    assert_eq!(refusal.code(), code, "{}", edited.text());
                    assert!(refusal.to_string().contains("interlock migrate THREAD --to"), "{refusal}");
                    refused += 1;
                }
                Err(other) => panic!("{other}"),
                Ok(_) => panic!("this edit was not seen:\n{}", edited.text()),
            }
            if of_child {
                engine.add_graph(Arc::clone(&known)).await.expect("it is kept");
            } else {
                edits.push((edited, graph));
            }
        }
        let store = Arc::clone(&lab.store);
        for at in 0..EDITS {
            let mut start = lab.what(json!({"n": 0}), Default::default());
            start.thread = ThreadId::new(&format!("t{at}")).expect("a thread id");
            let paused = engine.start(start).await.expect("it is accepted").ended().await.expect("it pauses");
            assert_eq!(paused.outcome, Outcome::Interrupted);
        }
        for at in 0..EDITS {
            let mut lab = Lab::over(Arc::clone(&store));
            lab.thread = ThreadId::new(&format!("t{at}")).expect("a thread id");
            lab.graph(&child.dressed(&mut rng)).graph(&root.dressed(&mut rng));
            assert_eq!(lab.answer_all(json!("yes")).await, Outcome::Success);
            assert_eq!(lab.values().await["log"], json!(["left", "right", "join"]));
            assert_eq!(lab.start(json!({"n": 0})).await, Outcome::Interrupted, "it is the same version");
            resumed += 1;
        }
    });
    let missed = unseen(&edits, digest_without_edges);
    assert_eq!(unseen(&edits, real_digest), 0);
    assert!(missed > 0, "a digest that ignores edges passes the same check");
    println!("G9 edits={EDITS} refused={refused} neutral={EDITS} resumed={resumed} teeth=ok");
}
