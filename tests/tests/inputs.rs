//! G15: the bodies of the kinds of input that libraries read. Those of the command line run in its own package.

use tests::inputs::{INPUTS, check};

/// A body for text: what is no UTF-8 is refused before it gets here.
fn text(bytes: &[u8], body: impl FnOnce(&str)) {
    body(&String::from_utf8_lossy(bytes));
}

#[test]
fn graph_yaml() {
    check("graph_yaml", graphs::fuzz::graph);
}

#[test]
fn expression() {
    check("expression", graphs::fuzz::expression);
}

#[test]
fn template() {
    check("template", graphs::fuzz::template);
}

#[test]
fn run_input() {
    check("run_input", sim::inputs::run_input);
}

#[test]
fn answer() {
    check("answer", sim::inputs::answer);
}

#[test]
fn update() {
    check("update", sim::inputs::update);
}

#[test]
fn stored_record() {
    check("stored_record", checkpoints::fuzz::record);
}

#[test]
fn policy() {
    check("policy", |bytes| text(bytes, |text| drop(tools::policy::RulePolicy::from_yaml(text))));
}

#[test]
fn knowledge() {
    check("knowledge", |bytes| {
        text(bytes, |text| {
            drop(agents::Knowledge::from_yaml(text));
            drop(agents::Remedies::from_yaml(text));
            drop(agents::Estate::from_yaml(text));
        });
    });
}

#[test]
fn mcp_frames() {
    check("mcp_frames", tools::hub::fuzz::frames);
}

#[test]
fn mcp_servers() {
    check("mcp_servers", |bytes| {
        if let Ok(value) = serde_json::from_slice(bytes) {
            let parsed = tools::hub::ParsedServers::parse(&value);
            let _shown = format!("{parsed:?}");
        }
    });
}

/// Every kind in the table has its seeds, and every folder of seeds its kind.
#[test]
fn the_table_and_the_seeds_are_complete() {
    let seeds = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds");
    let mut folders: Vec<String> = std::fs::read_dir(seeds)
        .expect("the folder of seeds")
        .map(|entry| entry.expect("a readable entry").file_name().to_string_lossy().into_owned())
        .collect();
    folders.sort();
    let mut names: Vec<&str> = INPUTS.iter().map(|input| input.name).collect();
    names.sort_unstable();
    assert_eq!(folders, names);
}
