//! The fuzz bodies on the stable toolchain: every seed and finding, and a fixed number of mutations of them, the same in
//! every run.
//!
//! No input may panic, take more than [`MAX_CPU`] of processor time, or need more than [`MAX_GROWTH_KB`] of memory. A failure
//! names the body, the number of the input and the command that brings it back.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

/// Processor time of one input, in the unoptimised build of the tests.
const MAX_CPU: Duration = Duration::from_secs(3);
/// What the process may grow by over all inputs of a body.
const MAX_GROWTH_KB: u64 = 64 << 10;
/// Mutations of one body, unless INTERLOCK_FUZZ_INPUTS says otherwise.
const DEFAULT_INPUTS: u64 = 5_000;
/// Longest mutated input; the tests of each library cover the large ones by name.
const MAX_INPUT_BYTES: usize = 16 << 10;
/// Most mutations put on top of each other.
const MAX_MUTATIONS: u64 = 6;

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
];

#[test]
fn graph_yaml() {
    check_body("graph_yaml", graphs::fuzz::graph);
}

#[test]
fn expression() {
    check_body("expression", graphs::fuzz::expression);
}

#[test]
fn stored_record() {
    check_body("stored_record", checkpoints::fuzz::record);
}

fn check_body(target: &str, body: fn(&[u8])) {
    let corpus = corpus(target);
    assert!(!corpus.is_empty(), "fuzz/seeds/{target} holds no seed");
    corpus.iter().for_each(|input| check_input(target, body, input, "a committed input"));
    let grown_from = peak_memory_kb();
    let first = setting("INTERLOCK_FUZZ_FIRST").unwrap_or(0);
    let n_inputs = setting("INTERLOCK_FUZZ_INPUTS").unwrap_or(DEFAULT_INPUTS);
    for input_idx in first..first + n_inputs {
        let input = Chance::of(input_idx).mutated(&corpus);
        let again =
            format!("INTERLOCK_FUZZ_FIRST={input_idx} INTERLOCK_FUZZ_INPUTS=1 cargo nextest run -p xtask {target}");
        // The last line tells which input it was when the process does not live to say more: a stack overflow aborts it.
        println!("{again}");
        check_input(target, body, &input, &again);
    }
    let growth = peak_memory_kb() - grown_from;
    assert!(growth <= MAX_GROWTH_KB, "{target}: the inputs took {growth} KB of memory, {MAX_GROWTH_KB} at most");
}

fn check_input(target: &str, body: fn(&[u8]), input: &[u8], again: &str) {
    let before = thread_cpu();
    let outcome = catch_unwind(AssertUnwindSafe(|| body(input)));
    let took = thread_cpu().saturating_sub(before);
    let shown = input[..input.len().min(400)].escape_ascii();
    assert!(outcome.is_ok(), "{target} panicked on {} bytes: {shown}\nagain: {again}", input.len());
    assert!(took <= MAX_CPU, "{target} took {took:?} for {} bytes: {shown}\nagain: {again}", input.len());
}

/// The seeds, and what the fuzzers found before.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in the repository").join("fuzz");
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
