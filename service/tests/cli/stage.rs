//! A folder with graphs and a store, and the program run in it.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// Greets, after asking.
pub(super) const GREET: &str = r#"
graph: greet
input: { schema: { type: object, required: [city], properties: { city: { type: string } } } }
state: { city: {}, greeting: {}, log: { merge: append } }
output: [greeting, log]
nodes:
  hello: { set: { greeting: "Hello {{ city }}", log: hello }, then: ask }
  ask:
    approval: { title: "Greet {{ city }}?", choices: [approve, reject], payload: { city: "{{ city }}" } }
    output: { log: answer.choice }
    then: [{ when: "answer.choice == 'approve'", to: done }, { to: end }]
  done: { set: { log: done }, then: end }
start: hello
tests:
  - name: greets when it may
    input: { city: Oslo }
    answers: [{ choice: approve }]
    expect: { status: success, state: { log: [hello, approve, done] }, path: [hello, ask, done] }
  - name: asks first
    input: { city: Oslo }
    expect: { status: interrupted, interrupts: [ask], not_visited: [done] }
"#;

/// What a command did.
pub(super) struct Ran {
    pub(super) code: i32,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Ran {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}{}", self.stdout, self.stderr))
    }
}

/// A folder to work in.
pub(super) struct Stage(TempDir);

impl Stage {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A folder with the greeting graph.
    pub(super) fn greeting() -> Self {
        let stage = Self::new();
        stage.write("greet.yaml", GREET);
        stage
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(super) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.path().join(name), text).unwrap();
    }

    pub(super) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_interlock"));
        command.args(args).current_dir(self.path()).stdin(Stdio::null());
        for name in ["INTERLOCK_STORE", "INTERLOCK_CONFIG", "INTERLOCK_LOG"] {
            command.env_remove(name);
        }
        command.env("USER", "tester");
        command
    }

    pub(super) fn run(&self, args: &[&str]) -> Ran {
        let output = self.command(args).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let ran =
            Ran { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) };
        assert!(!ran.stderr.contains("panicked"), "{args:?}: {}", ran.stderr);
        ran
    }

    /// Runs a command that must end with `code`.
    pub(super) fn ends(&self, code: i32, args: &[&str]) -> Ran {
        let ran = self.run(args);
        assert_eq!(ran.code, code, "{args:?}\n{}{}", ran.stdout, ran.stderr);
        ran
    }

    /// Starts the greeting on thread `t`; it waits for an answer. Returns the id of the question.
    pub(super) fn asked(&self) -> String {
        let ran = self.ends(3, &["run", "greet.yaml", "--input", r#"{"city": "Oslo"}"#, "--thread", "t", "--json"]);
        ran.json()["interrupts"][0]["id"].as_str().unwrap().to_owned()
    }
}
