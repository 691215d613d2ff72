//! The graphs that ship: checked, tested on every route, drawn as their page shows, and run for real, with a death in the
//! middle.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};

use super::stage::Stage;

/// Least number of tests a graph carries.
const TESTS_MIN: usize = 4;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../graphs/library")
}

/// The graphs by name, in order.
fn shipped() -> Vec<(String, PathBuf)> {
    let files = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), path))
        .collect();
    all.sort();
    assert!(all.len() >= 6, "{all:?}");
    all
}

#[test]
fn the_graphs_that_ship_are_checked_without_a_warning_and_their_own_tests_pass() {
    let stage = Stage::new();
    for (name, path) in shipped() {
        let path = path.to_str().unwrap();
        let checked = stage.ends(0, &["check", path]);
        assert!(!checked.stdout.contains("warning"), "{name}: {}", checked.stdout);
        let ran = stage.run(&["test", path, "--json"]);
        let rows = ran.json();
        let rows = rows.as_array().unwrap();
        let failed: Vec<&Value> = rows.iter().filter(|row| row["ok"] != true).collect();
        assert!(failed.is_empty(), "{name}: {failed:#?}");
        assert!(rows.len() >= TESTS_MIN, "{name} carries only {} tests", rows.len());
    }
}

#[test]
fn every_node_of_the_graphs_that_ship_is_reached_by_a_test_of_theirs() {
    let stage = Stage::new();
    for (name, path) in shipped() {
        let ran = stage.ends(0, &["test", path.to_str().unwrap()]);
        assert!(!ran.stderr.contains("no test reaches"), "{name}: {}", ran.stderr);
    }
}

/// The page with each drawing put in place of the one that stands below the graph's heading.
fn drawn(page: &str, drawings: &[(String, String)]) -> String {
    let mut shown = page.to_owned();
    for (name, drawing) in drawings {
        let heading = shown.find(&format!("\n## {name}\n")).unwrap_or_else(|| panic!("no paragraph about {name}"));
        let begin = heading + shown[heading..].find("```mermaid\n").expect("a picture") + "```mermaid\n".len();
        let end = begin + shown[begin..].find("```\n").expect("the end of the picture");
        shown.replace_range(begin..end, drawing);
    }
    shown
}

#[test]
fn the_pictures_of_the_graphs_that_ship_are_true() {
    let stage = Stage::new();
    let picture = |path: &Path| stage.ends(0, &["draw", path.to_str().unwrap(), "--format", "mermaid"]).stdout;
    let drawings: Vec<_> = shipped().into_iter().map(|(name, path)| (name, picture(&path))).collect();
    let page = folder().join("README.md");
    let written = std::fs::read_to_string(&page).unwrap();
    let shown = drawn(&written, &drawings);
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&page, &shown).unwrap();
        return;
    }
    assert_eq!(written, shown, "run with UPDATE_EXPECT=1 to draw graphs/library/README.md anew");
}

/// A folder with the graphs that ship.
fn copied() -> Stage {
    let stage = Stage::new();
    for (name, path) in shipped() {
        stage.write(&format!("{name}.yaml"), std::fs::read(path).unwrap());
    }
    stage
}

/// An installation with the demo's warehouse and the graphs that ship.
fn installation() -> Stage {
    let stage = copied();
    let config = json!({
        "mcpServers": {"warehouse": {
            "command": env!("CARGO_BIN_EXE_interlock"),
            "args": ["mcp", "sandbox", "--dir", stage.path().join("warehouse")],
            "trusted": true,
            "environments": {"argument": "/environment", "labels": {"production": "production", "staging": "staging"}},
        }},
        "approvers": {"data-oncall": ["ann"]},
        "environments": {
            "staging": {"changes": "allow"},
            "production": {"changes": "ask", "approvers": ["group:data-oncall"]},
        },
    });
    stage.write("interlock.yaml", config.to_string());
    stage
}

/// Runs a graph on thread `t` and kills it, without a word, once it has printed a line with `mark`.
fn killed_at(mark: &str, stage: &Stage, (graph, input, mode): (&str, &Value, &str)) {
    let (graph, input) = (format!("{graph}.yaml"), input.to_string());
    let args = ["run", &graph, "--thread", "t", "--input", &input, "--stream", mode];
    let mut child = stage.command(&args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let is_there = lines.any(|line| line.unwrap().contains(mark));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(is_there, "{graph} never printed {mark}");
}

/// Answers the only open question of a thread.
fn answer(stage: &Stage, thread: &str, words: &[&str], code: i32) -> Value {
    let open = stage.ends(0, &["interrupts", thread, "--json"]).json();
    let id = open[0]["id"].as_str().unwrap_or_else(|| panic!("{thread} asks nothing")).to_owned();
    let args = [&["answer", thread, &id, "--by", "ann", "--json"][..], words].concat();
    stage.ends(code, &args).json()
}

/// Effects that the warehouse has recorded.
fn n_effects(stage: &Stage) -> usize {
    std::fs::read_to_string(stage.path().join("warehouse/effects.jsonl")).unwrap().lines().count()
}

#[test]
fn a_schema_change_survives_a_death_between_staging_and_production() {
    let stage = installation();
    let change = json!({"change": {
        "kind": "add_column", "table": "stg_flights", "column": "gate", "type": "TEXT", "reason": "the feed has gates",
    }});
    let mark = r#"{"env":"staging","phase":"calling","tool":"warehouse.apply_migration"}"#;
    killed_at(mark, &stage, ("schema-change", &change, "custom"));
    stage.run(&["recover"]);
    stage.run(&["resume", "t"]);
    let asked = stage.ends(0, &["interrupts", "t", "--json"]).json();
    assert_eq!((&asked[0]["kind"], &asked[0]["value"]["args"]["environment"]), (&json!("guard"), &json!("production")));
    assert_eq!(n_effects(&stage), 1, "staging was changed once, whenever the process died");
    let done = answer(&stage, "t", &["--choice", "approve"], 0);
    assert_eq!((&done["outcome"], &done["output"]["outcome"]), (&json!("success"), &json!("rolled_out")), "{done}");
    assert_eq!(n_effects(&stage), 2);
    assert!(done["output"]["pr"].as_str().unwrap().contains("- production: no row is lost: holds"), "{done}");
}

#[test]
fn a_storm_that_is_delivered_again_after_a_death_is_one_thread() {
    let stage = installation();
    let alert = |name: &str| {
        json!({
            "status": "firing", "labels": {"alertname": name, "pipeline": "flights_daily", "business_date": "2013-01-22"},
            "annotations": {"summary": name}, "startsAt": "2013-01-23T05:12:00Z", "fingerprint": name,
        })
    };
    let storm = json!({"body": {"version": "4", "status": "firing", "alerts": [alert("Failed"), alert("Late"), alert("Empty")]}});
    killed_at("sort_out", &stage, ("incident-response", &storm, "updates"));
    stage.run(&["recover"]);
    stage.run(&["resume", "t"]);
    let again =
        stage.ends(0, &["run", "incident-response.yaml", "--thread", "again", "--input", &storm.to_string(), "--json"]);
    assert_eq!(again.json()["output"]["opened"][0]["started"], false, "{}", again.stdout);
    let threads = stage.ends(0, &["threads", "--graph", "etl-incident", "--json"]).json();
    assert_eq!(threads.as_array().unwrap().len(), 1, "{threads}");
    let incident = threads[0]["thread_id"].as_str().unwrap();
    let done = answer(&stage, incident, &["--choice", "dismiss"], 0);
    assert_eq!(done["output"]["outcome"]["status"], "dismissed", "{done}");
    // Its alerts still fire although the thread has ended: somebody is told.
    let late =
        stage.ends(0, &["run", "incident-response.yaml", "--thread", "late", "--input", &storm.to_string(), "--json"]);
    let notices = &late.json()["output"]["notices"];
    assert!(notices[0]["title"].as_str().unwrap_or_default().contains("fires again"), "{}", late.stdout);
}

#[test]
fn a_green_morning_is_three_lines_whatever_dies_while_it_is_written() {
    let stage = installation();
    let input = json!({"since": "2013-01-22T20:00:00Z", "tables": ["fact_daily_carrier", "fact_daily_route"]});
    killed_at("calling", &stage, ("morning-report", &input, "custom"));
    stage.run(&["recover"]);
    stage.run(&["resume", "t"]);
    let state = stage.ends(0, &["state", "t", "--json"]).json();
    let report = state["values"]["report"].as_str().unwrap_or_else(|| panic!("{state}"));
    assert_eq!(report.lines().count(), 3, "{report}");
    assert!(report.ends_with("Nothing needs a person."), "{report}");
    assert!(report.contains("2 tables looked at, none behind"), "{report}");
}

#[test]
fn a_mapping_waits_for_its_person_over_a_death() {
    let stage = installation();
    let input = json!({
        "source": [{"name": "carrier", "type": "text"}, {"name": "qty", "type": "int"}],
        "target": [{"name": "carrier", "type": "text"}, {"name": "amount", "type": "numeric"}],
    });
    killed_at("score", &stage, ("schema-mapping", &input, "updates"));
    stage.run(&["recover"]);
    stage.run(&["resume", "t"]);
    let done = answer(&stage, "t", &["--choice", "accept"], 0);
    let decided = [
        json!({"source": "carrier", "target": "carrier", "confidence": 1.0, "by": "score"}),
        json!({"source": "qty", "target": "amount", "confidence": 0.2, "by": "ann"}),
    ];
    assert_eq!(done["output"]["mapping"], json!(decided), "{done}");
}

/// Changes of the graphs that their own tests must notice: each makes one promise of its page untrue.
const WEAKENED: [(&str, &str, &str); 14] = [
    ("incident-response", r#"key: "{{ group[0] }}""#, r#"key: "{{ group[1][0].title }}""#),
    ("incident-response", " | rejectattr('held') | groupby", " | groupby"),
    ("incident-response", "| selectattr('status', 'in', ['success', 'failed', 'cancelled']) ", ""),
    ("incident-response", "if alert.labels.kind | default('') in kinds else 'run_failed'", "| default('run_failed')"),
    ("morning-report", "todo | length == 0 and gaps | length == 0 and outcomes", "true or outcomes"),
    ("morning-report", "or now)[:19] >= begin", "or now)[:19] >= ''"),
    ("schema-change", "{ at_least: 0.9, then: each_before }", "{ at_least: 0.1, then: each_before }"),
    ("schema-change", "{ when: \"staged | rejectattr('holds') | list | length > 0\"", "{ when: false"),
    ("schema-change", "{ when: \"live | rejectattr('holds') | list | length > 0\"", "{ when: false"),
    ("schema-change", "{{ change.column | default('x') }}__dropped", "{{ change.column | default('x') }}"),
    ("schema-mapping", "auto: 0.9,", "auto: 0.7,"),
    ("schema-mapping", "[best.confidence, 0.69] | min if tied else best.confidence", "best.confidence"),
    ("schema-mapping", "rivals != [] and (not r.person", "false and (not r.person"),
    ("schema-mapping", ".score >= 0.6", ".score >= 0.99"),
];

#[test]
fn the_tests_of_the_graphs_that_ship_have_teeth() {
    // No installation: its policy would answer differently than the tests expect, and everything would fail.
    let stage = copied();
    for (name, from, to) in WEAKENED {
        let file = format!("{name}.yaml");
        let text = std::fs::read_to_string(folder().join(&file)).unwrap();
        assert!(text.contains(from), "{file} has no {from}");
        stage.write(&file, text.replace(from, to));
        let ran = stage.run(&["test", &file]);
        assert_eq!(ran.code, 1, "{file} without {from}: {}{}", ran.stdout, ran.stderr);
        stage.write(&file, text);
    }
}
