//! G15: every kind of input that a person or another system hands in, and the bound each must keep.
//!
//! A body takes any bytes and panics only if a promise is broken. [`check`] runs it over the committed seeds and findings of
//! `fuzz/` and over a fixed number of mutations of them, the same in every run. No input may panic, take more than
//! [`MAX_CPU`] of processor time, or let the process grow by more than [`MAX_GROWTH_KB`]. A failure names the body, the
//! number of the input and the command that brings it back.

use std::fs;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

/// One kind of input.
pub struct Input {
    /// Name of the test, and of its folder in `fuzz/seeds`.
    pub name: &'static str,
    /// Who hands it in.
    pub from: &'static str,
    /// The package whose tests run the body.
    pub package: &'static str,
}

const fn input(name: &'static str, from: &'static str, package: &'static str) -> Input {
    Input { name, from, package }
}

/// Every kind. Files of the stores themselves are damaged in `checkpoints` (`damaged_folders_open_or_say_why`).
pub const INPUTS: &[Input] = &[
    input("graph_yaml", "authors of graphs", "tests"),
    input("expression", "authors of graphs", "tests"),
    input("template", "authors of graphs", "tests"),
    input("run_input", "whoever starts a run", "tests"),
    input("answer", "people who are asked", "tests"),
    input("update", "people who edit a thread", "tests"),
    input("stored_record", "the disk", "tests"),
    input("policy", "operators", "tests"),
    input("knowledge", "operators", "tests"),
    input("mcp_frames", "tool servers", "tests"),
    input("mcp_servers", "operators, editors", "tests"),
    input("config", "operators", "interlock"),
    input("answers_file", "scripts", "interlock"),
    input("cli_words", "the command line", "interlock"),
];

/// Processor time of one input; an unoptimised build is given more.
const MAX_CPU: Duration = Duration::from_secs(if cfg!(debug_assertions) { 3 } else { 1 });
/// What the process may grow by over all inputs of a body.
const MAX_GROWTH_KB: u64 = 64 << 10;
/// Mutations of one body, unless INTERLOCK_FUZZ_INPUTS says otherwise.
const DEFAULT_INPUTS: u64 = 2_000;
/// Longest mutated input; the tests of each library cover the large ones by name.
const MAX_INPUT_BYTES: usize = 16 << 10;
/// Most mutations put on top of each other.
const MAX_MUTATIONS: u64 = 6;
/// Longest line kept for whoever has to bring an input back.
const SHOWN_BYTES: usize = 400;

/// Pieces of the languages that random bytes would not find.
const WORDS: &[&str] = &[
    "&a ",
    "*a ",
    "<<: ",
    "- ",
    ": ",
    "? ",
    "!!binary ",
    "|\n",
    ">-\n",
    "\t",
    "\u{feff}",
    "---\n",
    "...\n",
    "{",
    "}",
    "[",
    "]",
    "'",
    "\"",
    "\\u0000",
    "nodes:",
    "start:",
    "state:",
    "then:",
    "when:",
    "set:",
    "map:",
    "gate:",
    "bands:",
    "approval:",
    "defaults:",
    "99999999999999999999",
    "-0.0",
    "1e999",
    "{{",
    "}}",
    "{%",
    "%}",
    "|",
    "~",
    " and ",
    " or ",
    " not ",
    " in ",
    " is defined",
    "range(100000)",
    "()",
    "[0]",
    ".x",
    "*1000000",
    "\u{202e}",
    "é",
    "\u{1f512}",
    "null",
    "true",
    "\"id\":1",
    "\"jsonrpc\":\"2.0\"",
    "\"$ref\":\"#\"",
    "\"overwrite\":",
    "decide: ask",
    "env: X",
    "sled:",
    "18446744073709551616",
];

/// Runs the body of one kind of input; `target` is its name in [`INPUTS`].
///
/// # Panics
/// When an input breaks a bound, or the kind is not in the table or has no seed.
pub fn check(target: &str, body: fn(&[u8])) {
    let Some(kind) = INPUTS.iter().find(|input| input.name == target) else { panic!("{target} is not in INPUTS") };
    let corpus = corpus(target);
    assert!(!corpus.is_empty(), "fuzz/seeds/{target} holds no seed");
    let mut slowest = Duration::ZERO;
    corpus.iter().for_each(|input| slowest = slowest.max(check_input(target, body, input, "a committed input")));
    // Tells which input it was when the process does not live to say more: a stack overflow aborts it.
    let note_path = std::env::temp_dir().join(format!("interlock-{target}-{}", std::process::id()));
    let note = fs::File::create(&note_path).expect("a file for the name of the current input");
    println!("should this process die, {} names the input", note_path.display());
    let grown_from = peak_memory_kb();
    let first = setting("INTERLOCK_FUZZ_FIRST").unwrap_or(0);
    let n_inputs = setting("INTERLOCK_FUZZ_INPUTS").unwrap_or(DEFAULT_INPUTS);
    for input_idx in first..first + n_inputs {
        let input = Chance::of(input_idx).mutated(&corpus);
        let again = format!(
            "INTERLOCK_FUZZ_FIRST={input_idx} INTERLOCK_FUZZ_INPUTS=1 cargo nextest run -p {} {target}",
            kind.package
        );
        note.write_all_at(again.as_bytes(), 0).expect("the note of the current input can be written");
        slowest = slowest.max(check_input(target, body, &input, &again));
    }
    let growth = peak_memory_kb() - grown_from;
    assert!(growth <= MAX_GROWTH_KB, "{target}: the inputs took {growth} KB of memory, {MAX_GROWTH_KB} at most");
    fs::remove_file(&note_path).expect("the note can be removed");
    println!("G15 input={target} inputs={n_inputs} panics=0 slowest_ms={} grown_kb={growth}", slowest.as_millis());
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in the repository")
}

fn check_input(target: &str, body: fn(&[u8]), input: &[u8], again: &str) -> Duration {
    let before = thread_cpu();
    let outcome = catch_unwind(AssertUnwindSafe(|| body(input)));
    let took = thread_cpu().saturating_sub(before);
    let shown = input[..input.len().min(SHOWN_BYTES)].escape_ascii();
    assert!(outcome.is_ok(), "{target} panicked on {} bytes: {shown}\nagain: {again}", input.len());
    assert!(took <= MAX_CPU, "{target} took {took:?} for {} bytes: {shown}\nagain: {again}", input.len());
    took
}

/// The seeds, and what the fuzzers found before.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let fuzz = root().join("fuzz");
    let mut paths = Vec::new();
    for folder in ["seeds", "findings"] {
        let listed = fs::read_dir(fuzz.join(folder).join(target));
        paths.extend(listed.into_iter().flatten().map(|entry| entry.expect("a readable entry").path()));
    }
    // The order of a folder's listing is not the same everywhere.
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("a readable seed")).collect()
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

/// Processor time of this thread: a busy machine must not fail the test.
fn thread_cpu() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split_whitespace().next().and_then(|nanos| nanos.parse().ok()).unwrap_or_default())
}

/// Most memory this process ever had.
fn peak_memory_kb() -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

/// A seeded generator: the same number gives the same input for ever.
struct Chance(u64);

impl Chance {
    fn of(seed: u64) -> Self {
        Self(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `bound`, or 0.
    fn below(&mut self, bound: usize) -> usize {
        (self.next() % (bound.max(1) as u64)) as usize
    }

    fn mutated(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut input = corpus[self.below(corpus.len())].clone();
        for _ in 0..=self.next() % MAX_MUTATIONS {
            self.mutate(&mut input, corpus);
            input.truncate(MAX_INPUT_BYTES);
        }
        input
    }

    fn mutate(&mut self, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let at = self.below(input.len() + 1);
        let end = (at + self.below(64)).min(input.len());
        let piece = input[at..end].to_vec();
        match self.below(7) {
            0 if at < input.len() => input[at] ^= 1 << self.below(8),
            1 => drop(input.drain(at..end)),
            2 => insert(input, at, &piece),
            3 => insert(input, at, &piece.repeat(self.below(200))),
            4 => insert(input, at, WORDS[self.below(WORDS.len())].as_bytes()),
            5 => insert(input, at, WORDS[self.below(WORDS.len())].repeat(self.below(500)).as_bytes()),
            _ => {
                let other = &corpus[self.below(corpus.len())];
                let from = self.below(other.len());
                insert(input, at, &other[from..(from + 256).min(other.len())]);
            }
        }
    }
}

fn insert(input: &mut Vec<u8>, at: usize, piece: &[u8]) {
    input.splice(at..at, piece.iter().copied());
}
