//! G16: mutated graphs. A bad one gets a diagnostic with a code and a place in the file; whatever compiles runs in a world of
//! faults, and breaks no rule of the engine there.

use std::sync::Arc;

use graphs::{Diagnostics, OpenCatalog, Severity};

use crate::rng::Rng;
use crate::shapes;
use crate::world::{Weakness, World};

/// Graphs that are mutated besides the shapes: what ships, and what the fuzzer starts from.
const GRAPHS: &[&str] = &[
    include_str!("../../graphs/library/etl-incident.yaml"),
    include_str!("../../graphs/library/etl-reliability.yaml"),
    include_str!("../../fuzz/seeds/graph_yaml/incident.yaml"),
    include_str!("../../fuzz/seeds/graph_yaml/gate.yaml"),
    include_str!("../../fuzz/seeds/graph_yaml/minimal.yaml"),
];
/// One mutant in so many comes from [`GRAPHS`]: they are ten times as long as a shape.
const LONG_EVERY: usize = 4;
/// Mutations put on top of each other.
const MUTATIONS_MAX: usize = 3;
/// Supersteps of a mutant's run.
const SUPERSTEPS: u32 = 12;

/// Values and keys that a slip or a bad idea would put in place of another.
const WORDS: &[&str] = &[
    "end",
    "start",
    "true",
    "null",
    "0",
    "-1",
    "1e999",
    "[]",
    "{}",
    "''",
    "a",
    "b",
    "work",
    "replace",
    "append",
    "sum",
    "last",
    "ephemeral",
    "untracked",
    "min",
    "union",
    "1s",
    "0s",
    "5m",
    "attempts: 0",
    "after: [a]",
    "defer: true",
    "then: end",
    "then: [a, b]",
    "when: total > 3",
    "on_error: mend",
    "wait: 1s",
    "wait: { signal: go }",
    "emit: 1",
    "fail: no",
    "map: { over: items, as: item, to: part }",
    "graph: chain",
    "scope: thread",
    "timeout: 1s",
    "cache: { ttl: 1m }",
    "{{ total }}",
    "{{ nothing }}",
    "items[9]",
    "range(99)",
    "log | length",
];

/// What mutants came to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    /// Graphs that were mutated.
    pub mutants: u64,
    /// Refused with at least one error, each with a code and a place in the file.
    pub refused: u64,
    /// Compiled and run to an end.
    pub ended: u64,
    /// Compiled, and waiting for what no world brings: a signal, an approver.
    pub waiting: u64,
}

impl Tally {
    /// The sum of two.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            mutants: self.mutants + other.mutants,
            refused: self.refused + other.refused,
            ended: self.ended + other.ended,
            waiting: self.waiting + other.waiting,
        }
    }
}

/// The mutant of a seed.
pub fn mutant(seed: u64) -> String {
    let mut rng = Rng::new(seed);
    let long = rng.below(LONG_EVERY) == 0;
    let base = if long { GRAPHS[rng.below(GRAPHS.len())] } else { shapes::TEXTS[rng.below(shapes::TEXTS.len())] };
    let mut lines: Vec<String> = base.lines().map(str::to_owned).collect();
    for _ in 0..=rng.below(MUTATIONS_MAX) {
        mutate(&mut lines, &mut rng);
    }
    lines.join("\n") + "\n"
}

fn mutate(lines: &mut Vec<String>, rng: &mut Rng) {
    let (at, other) = (rng.below(lines.len()), rng.below(lines.len()));
    match rng.below(9) {
        0 if lines.len() > 1 => drop(lines.remove(at)),
        1 => lines.insert(other, lines[at].clone()),
        2 => lines.swap(at, other),
        3 => lines[at].insert_str(0, "  "),
        4 => {
            let wanted = rng.below(lines[at].len() + 1);
            let cut = (0..=wanted).rev().find(|cut| lines[at].is_char_boundary(*cut));
            lines[at].truncate(cut.unwrap_or(0));
        }
        5 | 6 => {
            let word = word_of(&lines[other], rng).unwrap_or("end").to_owned();
            replace_word(&mut lines[at], &word, rng);
        }
        _ => replace_word(&mut lines[at], WORDS[rng.below(WORDS.len())], rng),
    }
}

fn is_part(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn word_of<'a>(line: &'a str, rng: &mut Rng) -> Option<&'a str> {
    let words: Vec<&str> = line.split(|c| !is_part(c)).filter(|word| !word.is_empty()).collect();
    words.get(rng.below(words.len())).copied()
}

fn replace_word(line: &mut String, new: &str, rng: &mut Rng) {
    let Some(old) = word_of(line, rng) else { return };
    let at = old.as_ptr() as usize - line.as_ptr() as usize;
    let end = at + old.len();
    line.replace_range(at..end, new);
}

/// A refusal must say what and where.
fn check_refusal(diagnostics: &Diagnostics, n_bytes: usize) -> Result<(), String> {
    let errors: Vec<_> = diagnostics.iter().filter(|found| found.severity == Severity::Error).collect();
    if errors.is_empty() {
        return Err("it was refused without an error".to_owned());
    }
    let misplaced = errors.iter().find(|found| {
        let is_inside = found.span.start <= found.span.end && found.span.end <= n_bytes;
        found.code.is_empty() || !is_inside || found.line == 0
    });
    misplaced.map_or(Ok(()), |found| Err(format!("an error has no code or no place in the file: {found}")))
}

/// One mutant; the error is what must not happen.
pub fn check_mutant(seed: u64) -> Result<Tally, String> {
    let text = mutant(seed);
    let fail = |why: String| format!("mutant {seed}: {why}\n{text}");
    let one = Tally { mutants: 1, ..Tally::default() };
    let graph = match graphs::check("mutant.yaml", text.as_bytes(), &OpenCatalog) {
        Ok((graph, _)) => Arc::new(graph),
        Err(diagnostics) => {
            check_refusal(&diagnostics, text.len()).map_err(fail)?;
            return Ok(Tally { refused: 1, ..one });
        }
    };
    match World::new(seed, true, Weakness::None).running(&graph, SUPERSTEPS).run_to_rest().map_err(fail)? {
        Some(_) => Ok(Tally { ended: 1, ..one }),
        None => Ok(Tally { waiting: 1, ..one }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mutants_are_refused_with_a_place_or_run_well() {
        let mut tally = Tally::default();
        for seed in 0..1_500 {
            tally = tally.plus(check_mutant(seed).unwrap_or_else(|why| panic!("{why}")));
        }
        assert!(tally.refused > 300 && tally.ended > 100, "one-sided: {tally:?}");
    }

    /// `as:` had lost its name, so that the four tasks of a map looked alike to the world.
    #[test]
    fn tasks_that_look_alike_are_told_apart() {
        check_mutant(9_683).unwrap_or_else(|why| panic!("{why}"));
    }

    #[test]
    fn silent_and_misplaced_refusals_are_caught() {
        let errors =
            graphs::check("g.yaml", b"graph: g\nnodes:\n  a: { emit: 1, then: nowhere }\nstart: a\n", &OpenCatalog);
        let errors = errors.unwrap_err();
        assert_eq!(check_refusal(&errors, 60), Ok(()));
        assert!(check_refusal(&errors, 10).is_err(), "a place outside of the file");
        let warnings =
            graphs::parse("g.yaml", b"graph: g\nnodes: { a: { emit: 1, then: end } }\nstart: a\n").diagnostics;
        assert!(check_refusal(&warnings, 60).is_err(), "no error at all");
    }
}
