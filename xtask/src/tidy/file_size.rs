//! The length of files, without their tests.

use super::Problem;
use super::tree::{SourceFile, Tree};

/// In the crates that hold the semantics.
const MAX_LINES_PURE: usize = 500;
/// Everywhere else.
const MAX_LINES: usize = 700;

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (file, _) in tree.rust_files() {
        let limit = if file.is_pure_crate() { MAX_LINES_PURE } else { MAX_LINES };
        let n_lines = code_lines(file);
        if n_lines > limit {
            let text = format!("{n_lines} lines without tests, {limit} at most: split by event, kind or command");
            problems.push(Problem::new(&file.path, 1, text));
        }
    }
    problems
}

fn code_lines(file: &SourceFile) -> usize {
    file.lines().filter(|(line, _)| !file.is_test_line(*line)).count()
}

#[cfg(test)]
mod tests {
    use super::super::tree::found;
    use super::*;

    #[test]
    fn bad_samples_are_flagged() {
        let of = |n_lines: usize| {
            format!("//! F.\n{}#[cfg(test)]\nmod t {{\n{}}}\n", "// x\n".repeat(n_lines - 1), "// t\n".repeat(900))
        };
        let problems = found(
            check,
            &[
                ("graphs/src/a.rs", &of(500)),
                ("graphs/src/b.rs", &of(501)),
                ("service/src/a.rs", &of(700)),
                ("service/src/b.rs", &of(701)),
            ],
        );
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].starts_with("graphs/src/b.rs:1: 501 lines"));
        assert!(problems[1].starts_with("service/src/b.rs:1: 701 lines"));
    }
}
