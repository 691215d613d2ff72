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
fn a_damaged_store_is_told_and_never_trusted() {
    let stage = Stage::greeting();
    let whole = stage.path().join(".interlock/store");
    stage.asked();
    for (ix, entry) in files(&whole).iter().enumerate() {
        let bytes = std::fs::read(entry).unwrap();
        let mut damaged = bytes.clone();
        let at = bytes.len() / 3;
        damaged.iter_mut().skip(at).take(64).for_each(|byte| *byte ^= 0x5a);
        std::fs::write(entry, &damaged).unwrap();
        for command in [&["state", "t"][..], &["fsck"], &["threads"]] {
            let ran = stage.run(command);
            assert!(
                matches!(ran.code, 0 | 1),
                "file {ix} {entry:?} {command:?}: {} {}{}",
                ran.code,
                ran.stdout,
                ran.stderr
            );
        }
        std::fs::write(entry, &bytes).unwrap();
    }
    for entry in files(&whole) {
        std::fs::write(&entry, b"not a store").unwrap();
    }
    let ran = stage.run(&["state", "t"]);
    assert_eq!(ran.code, 1, "{}{}", ran.stdout, ran.stderr);
}

fn files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
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
