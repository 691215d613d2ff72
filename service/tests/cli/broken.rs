//! Bad input of every kind: a clear message and the exit code for it, never a panic.

use super::stage::{GREET, Stage};

#[test]
fn an_invalid_graph_is_told_with_its_place_and_exit_code() {
    let stage = Stage::new();
    stage.write("bad.yaml", GREET.replace("then: ask }", "then: aks }"));
    let ran = stage.ends(2, &["check", "bad.yaml"]);
    assert!(ran.stdout.contains("bad.yaml:7:") && ran.stdout.contains("did you mean `ask`"), "{}", ran.stdout);
    let json = stage.ends(2, &["check", "bad.yaml", "--json"]).json();
    assert_eq!((&json[0]["ok"], &json[0]["diagnostics"][0]["line"]), (&false.into(), &7.into()), "{json}");
    stage.ends(2, &["run", "bad.yaml"]);
    stage.ends(2, &["draw", "bad.yaml"]);
}

#[test]
fn any_bytes_as_a_graph_are_an_error() {
    let stage = Stage::new();
    let long = "a: ".repeat(100_000);
    let samples: [&[u8]; 8] = [
        b"",
        b"\xff\xfe\x00",
        b"graph: [",
        b"\t: x",
        b"&a [*a]",
        b"- 1\n- 2",
        b"graph: x\ngraph: y\n",
        long.as_bytes(),
    ];
    for sample in samples {
        stage.write("bytes.yaml", sample);
        let ran = stage.ends(2, &["check", "bytes.yaml"]);
        assert!(ran.stdout.contains("error"), "{:?}: {}", &sample[..sample.len().min(20)], ran.stdout);
    }
    stage.ends(2, &["check", "no-such.yaml"]);
    stage.ends(2, &["check", "."]);
}

#[test]
fn bad_input_is_wrong_usage() {
    let stage = Stage::greeting();
    for input in ["{", "[1]", r#"{"town": 1}"#, "@no-such.json", "-"] {
        let ran = stage.ends(2, &["run", "greet.yaml", "--input", input]);
        assert!(ran.stderr.starts_with("error: "), "{input}: {}", ran.stderr);
    }
    let ran = stage.ends(2, &["run", "greet.yaml", "--input", r#"{"city": 7}"#, "--json"]);
    assert_eq!(ran.json()["error"]["exit_code"], 2);
    for args in [
        &["run"][..],
        &["run", "greet.yaml", "--stream", "all"],
        &["frobnicate"],
        &["run", "greet.yaml", "--store", "redis:x"],
    ] {
        stage.ends(2, args);
    }
}

#[test]
fn a_broken_configuration_is_told_with_its_place() {
    let stage = Stage::greeting();
    stage.write("interlock.yaml", "store: memory\nmcp_servers: {}\n");
    let ran = stage.ends(2, &["threads"]);
    assert!(ran.stderr.contains("interlock.yaml:2:1") && ran.stderr.contains("mcpServers"), "{}", ran.stderr);
    stage.ends(2, &["threads", "--config", "no-such.yaml"]);
}

#[test]
fn a_store_that_is_none_is_an_error() {
    let stage = Stage::greeting();
    stage.write("file", "text");
    let ran = stage.ends(1, &["threads", "--store", "sled:file"]);
    assert!(ran.stderr.contains("sled:file"), "{}", ran.stderr);
    stage.ends(1, &["store", "copy", "sled:nowhere", "fjall:new"]);
    for command in [&["threads"][..], &["state", "t"], &["fsck"], &["audit", "verify"]] {
        let ran = stage.ends(1, command);
        assert!(ran.stderr.contains("there is no store at sled:.interlock/store"), "{}", ran.stderr);
    }
    assert!(!stage.path().join(".interlock").exists(), "looking at a store never makes one");
    stage.asked();
    stage.ends(1, &["state", "nobody"]);
    stage.ends(2, &["state", "a/b"]);
}

#[test]
fn a_graph_that_fails_says_why() {
    let stage = Stage::new();
    stage.write("fail.yaml", "graph: failing\nstate: { x: {} }\nnodes:\n  stop: { fail: { message: 'no more', class: denied } }\nstart: stop\n");
    let ran = stage.ends(1, &["run", "fail.yaml"]);
    assert!(ran.stderr.contains("no more (denied)"), "{}", ran.stderr);
    stage.write(
        "code.yaml",
        "graph: code\nstate: { x: {} }\nnodes:\n  f: { function: anything, then: end }\nstart: f\n",
    );
    stage.ends(0, &["check", "code.yaml"]);
    let ran = stage.ends(2, &["run", "code.yaml"]);
    assert!(ran.stderr.contains("anything"), "{}", ran.stderr);
}

#[test]
fn a_referred_graph_that_is_missing_is_told() {
    let stage = Stage::new();
    let parent = "graph: parent\nstate: { x: {} }\nnodes:\n  sub: { graph: child, then: end }\nstart: sub\n";
    stage.write("parent.yaml", parent);
    let ran = stage.ends(2, &["run", "parent.yaml"]);
    assert!(ran.stderr.contains("graph: child"), "{}", ran.stderr);
    stage.write("child.yaml", "graph: child\nstate: { x: {} }\nnodes:\n  a: { set: { x: 1 }, then: end }\nstart: a\n");
    stage.ends(0, &["run", "parent.yaml"]);
}
