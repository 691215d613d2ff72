//! The length of functions, measured on the tail: a hard limit for each and a limit for the 95th percentile of a crate.

use std::collections::BTreeMap;

use super::Problem;
use super::tree::Tree;

/// Lines from the signature to the closing brace.
const MAX_LINES: usize = 70;
/// The 95th percentile of a crate's functions.
const MAX_P95_LINES: usize = 40;
/// A percentile of a handful of functions says nothing.
const MIN_FUNCTIONS_FOR_P95: usize = 20;
/// Without the receiver.
const MAX_PARAMETERS: usize = 5;

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut lengths: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (file, rust) in tree.rust_files() {
        for function in rust.functions.iter().filter(|function| !file.is_test_line(function.line)) {
            lengths.entry(file.crate_dir()).or_default().push(function.n_lines);
            let name = &function.name;
            if function.n_lines > MAX_LINES {
                let text = format!(
                    "`{name}` has {} lines, {MAX_LINES} at most: move the computing out of the branching",
                    function.n_lines
                );
                problems.push(Problem::new(&file.path, function.line, text));
            }
            if function.n_parameters > MAX_PARAMETERS {
                let text = format!(
                    "`{name}` has {} parameters, {MAX_PARAMETERS} at most: make a type of those that go together",
                    function.n_parameters
                );
                problems.push(Problem::new(&file.path, function.line, text));
            }
        }
    }
    for (crate_dir, mut lengths) in lengths {
        lengths.sort_unstable();
        let p95 = percentile_95(&lengths);
        if lengths.len() >= MIN_FUNCTIONS_FOR_P95 && p95 > MAX_P95_LINES {
            let text =
                format!("95th percentile of {} functions is {p95} lines, {MAX_P95_LINES} at most", lengths.len());
            problems.push(Problem::new(&format!("{crate_dir}/Cargo.toml"), 1, text));
        }
    }
    problems
}

/// Nearest rank; `sorted` may be empty.
fn percentile_95(sorted: &[usize]) -> usize {
    let rank = (sorted.len() * 95).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::tree::found;
    use super::*;

    fn function(name: &str, n_lines: usize, parameters: &str) -> String {
        format!("fn {name}({parameters}) {{\n{}}}\n", "    g();\n".repeat(n_lines - 2))
    }

    #[test]
    fn bad_samples_are_flagged() {
        let text = format!(
            "//! F.\n{}{}{}#[cfg(test)]\nmod tests {{\n{}}}\n",
            function("fits", 70, "a: u8, b: u8, c: u8, d: u8, e: u8"),
            function("long", 71, ""),
            function("wide", 3, "a: u8, b: u8, c: u8, d: u8, e: u8, f: u8"),
            function("test_code", 90, "")
        );
        let problems = found(check, &[("a/src/lib.rs", &text)]);
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains("`long` has 71 lines"));
        assert!(problems[1].contains("`wide` has 6 parameters"));
    }

    #[test]
    fn a_crate_of_longish_functions_is_flagged() {
        let short: String = (0..38).map(|i| function(&format!("s{i}"), 5, "")).collect();
        let with = |n_long: usize| {
            let long: String = (0..n_long).map(|i| function(&format!("l{i}"), 41, "")).collect();
            found(check, &[("a/src/lib.rs", &format!("//! F.\n{short}{long}"))])
        };
        assert_eq!(with(2), [] as [&str; 0]);
        assert_eq!(with(3), ["a/Cargo.toml:1: 95th percentile of 41 functions is 41 lines, 40 at most"]);
    }
}
