//! G11 as a person meets it: the disk is full in the middle of a run. The command says so and ends with 1; with room again the
//! thread goes on from its last durable checkpoint and ends as it would have.
//!
//! The disk is a small `tmpfs` in a mount namespace of its own, so nothing else sees it and nothing is left behind.

use std::process::Command;

use super::stage::Stage;

/// Size of the disk at first, and once it was made larger.
const SMALL: &str = "6m";
const LARGE: &str = "256m";
/// Bytes that each superstep adds: more than fit, and hard to compress.
const BLOB_BYTES: usize = 48_000;

const GRAPH: &str = r#"
graph: fill
input: { schema: { type: object, required: [blob], properties: { blob: { type: string } } } }
state: { blob: {}, n: { default: 0 }, log: { merge: append } }
output: [n]
nodes:
  grow:
    set: { n: "{{ n + 1 }}", log: "{{ [blob ~ n] }}" }
    then: [{ when: n < 150, to: grow }, { to: end }]
start: grow
"#;

/// What the disk went through; each command's exit code goes to a file beside the graph.
const SCRIPT: &str = r#"
set -u
mount -t tmpfs -o size="$SMALL" none disk
"$INTERLOCK" --store "$STORE" run fill.yaml --thread t --input @input.json >run.out 2>run.err; echo $? >run.code
mount -o remount,size="$LARGE" disk
"$INTERLOCK" --store "$STORE" fsck >fsck.out 2>&1; echo $? >fsck.code
"$INTERLOCK" --store "$STORE" recover >recover.out 2>&1; echo $? >recover.code
"$INTERLOCK" --store "$STORE" state t --json >state.out 2>&1; echo $? >state.code
"#;

fn hex_noise(n_bytes: usize) -> String {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut text = String::new();
    while text.len() < n_bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.push_str(&format!("{:08x}", state >> 32));
    }
    text
}

fn a_full_disk_stops_the_run_and_not_the_truth(kind: &str) {
    let stage = Stage::new();
    stage.write("fill.yaml", GRAPH);
    stage.write("input.json", serde_json::json!({"blob": hex_noise(BLOB_BYTES)}).to_string());
    std::fs::create_dir(stage.path().join("disk")).unwrap();
    let done = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", SCRIPT])
        .current_dir(stage.path())
        .env("INTERLOCK", env!("CARGO_BIN_EXE_interlock"))
        .env("STORE", format!("{kind}:disk/store"))
        .env("SMALL", SMALL)
        .env("LARGE", LARGE)
        .output()
        .expect("util-linux has unshare");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let read = |name: &str| std::fs::read_to_string(stage.path().join(name)).unwrap();
    let code = |name: &str| read(&format!("{name}.code")).trim().to_owned();
    let said = read("run.err");
    assert_eq!(code("run"), "1", "{said}");
    assert!(!said.contains("panicked"), "{said}");
    assert!(said.contains("No space left on device") && said.contains("last durable checkpoint"), "{said}");
    assert_eq!(code("fsck"), "0", "{}", read("fsck.out"));
    assert_eq!(
        code("recover"),
        "0",
        "the thread goes on: {}",
        read("recover.out").chars().take(2_000).collect::<String>()
    );
    let state: serde_json::Value = serde_json::from_str(&read("state.out")).unwrap();
    assert_eq!((&state["values"]["n"], &state["status"]), (&serde_json::json!(150), &serde_json::json!("idle")));
    assert_eq!(state["values"]["log"].as_array().map(Vec::len), Some(150), "no superstep was lost or repeated");
    println!("G11 store={kind} full_disk=reported continued=yes supersteps=150 lost=0 repeated=0");
}

#[test]
fn a_full_disk_stops_the_run_and_not_the_truth_on_sled() {
    a_full_disk_stops_the_run_and_not_the_truth("sled");
}

#[test]
fn a_full_disk_stops_the_run_and_not_the_truth_on_fjall() {
    a_full_disk_stops_the_run_and_not_the_truth("fjall");
}
