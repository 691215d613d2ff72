//! G15: the bodies of what people hand to the command line. See `tests::inputs` for the bounds.

use std::path::Path;
use std::sync::Arc;

use runtime_core::ids::{CallIx, InterruptId, RunId, TaskId, ThreadId, Timestamp};
use runtime_core::record::{Interrupt, InterruptKind};
use serde_json::{Value, json};
use tests::inputs::check;

use crate::answers::{Answers, Who};
use crate::cli::{pair, value_of_text};
use crate::config::{Config, address, address_text};
use crate::ids::{new_thread, pick, short};

fn question() -> Interrupt {
    Interrupt {
        id: InterruptId(0x51c0_ffee),
        kind: InterruptKind::Approval,
        ns: "".into(),
        task: TaskId(1),
        node: "ask".into(),
        ix: CallIx(0),
        title: "go on?".to_owned(),
        body: String::new(),
        payload: Arc::new(json!({"tool": "warehouse.apply_migration"})),
        digest: "d".to_owned(),
        choices: vec!["approve".to_owned()],
        schema: None,
        approvers: Vec::new(),
        quorum: 1,
        four_eyes: false,
        opened_at: Timestamp(0),
        expires_at: None,
        votes: Vec::new(),
    }
}

fn config(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match Config::parse(&text, "interlock.yaml", Path::new("")) {
        Ok(config) => drop(format!("{config:?}")),
        Err(failure) => assert!(!failure.text().is_empty(), "a failure says what is wrong"),
    }
}

fn answers_file(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let Ok(mut answers) = Answers::from_text(&text) else { return };
    let who = Who::new(Some("ann"), &Config::parse("", "interlock.yaml", Path::new("")).expect("the default"));
    let question = question();
    while let Some(answer) = answers.take(&question, &who) {
        assert_eq!(answer.id, question.id);
    }
}

/// Each line as each kind of word.
fn cli_words(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let ids = [RunId(0x51c0_ffee), RunId(0xaa01), RunId(0xbb01)];
    for word in text.lines() {
        if let Ok(thread) = ThreadId::new(word) {
            assert_eq!(thread.as_str(), word);
        }
        drop(short(word));
        drop(new_thread(word, u128::MAX).expect("a thread id can be made of any graph's name"));
        drop(pick("run", word, &ids).map_err(|failure| failure.text()));
        drop((pair(word), InterruptId::parse(word), RunId::parse(word)));
        if let Ok(address) = address(word) {
            drop(address_text(&address));
        }
        let _read: Result<Value, _> = value_of_text("--input", word);
    }
}

#[test]
fn fuzz_config() {
    check("config", config);
}

#[test]
fn fuzz_answers_file() {
    check("answers_file", answers_file);
}

#[test]
fn fuzz_cli_words() {
    check("cli_words", cli_words);
}
