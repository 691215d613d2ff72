//! The store as a whole: prune, copy, size, fsck, encryption.

use serde_json::json;

use super::stage::Stage;

#[test]
fn pruning_keeps_what_a_thread_is() {
    let stage = Stage::greeting();
    let question = stage.asked();
    stage.ends(2, &["prune", "t"]);
    stage.ends(0, &["prune", "--all", "--keep-latest"]);
    assert_eq!(stage.ends(0, &["history", "t", "--json"]).json().as_array().unwrap().len(), 1);
    stage.ends(0, &["answer", "t", &question, "--choice", "approve"]);
}

#[test]
fn a_store_is_copied_to_another_kind_and_checked() {
    let stage = Stage::greeting();
    let question = stage.asked();
    stage.ends(0, &["store", "copy", "sled:.interlock/store", "fjall:other"]);
    stage.ends(1, &["store", "copy", "sled:.interlock/store", "fjall:other"]);
    let ok = stage.ends(0, &["fsck", "--store", "fjall:other", "--json"]).json();
    assert_eq!(ok["findings"], json!([]));
    stage.ends(0, &["answer", "t", &question, "--choice", "approve", "--store", "fjall:other"]);
    assert_eq!(
        stage.ends(0, &["state", "t", "--json"]).json()["status"],
        "interrupted",
        "the first store is as it was"
    );
    let size = stage.ends(0, &["store", "size", "--json"]).json();
    assert!(size["logical"].as_u64() > Some(0) && size["disk"].as_u64() > Some(0), "{size}");
}

#[test]
fn a_key_encrypts_and_is_needed_to_read() {
    let stage = Stage::greeting();
    stage.write("key.hex", "ab".repeat(32));
    stage.write("interlock.yaml", "encryption: { key: { file: key.hex } }\n");
    stage.asked();
    stage.ends(0, &["state", "t"]);
    stage.write("other.hex", "cd".repeat(32));
    stage.write("interlock.yaml", "encryption: { key: { file: other.hex } }\n");
    stage.ends(1, &["state", "t"]);
    stage.write("interlock.yaml", "encryption: { key: { file: other.hex }, previous: [{ file: key.hex }] }\n");
    stage.ends(0, &["store", "rotate"]);
    stage.write("interlock.yaml", "encryption: { key: { file: other.hex } }\n");
    stage.ends(0, &["state", "t"]);
    stage.write("interlock.yaml", "encryption: { key: { env: NO_SUCH_KEY_VARIABLE } }\n");
    let ran = stage.ends(1, &["state", "t"]);
    assert!(ran.stderr.contains("NO_SUCH_KEY_VARIABLE"), "{}", ran.stderr);
}
