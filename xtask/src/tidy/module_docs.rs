//! Every Rust file opens with `//!`: what the file is for, and what it must never know.

use super::Problem;
use super::tree::Tree;

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (file, rust) in tree.rust_files() {
        if let Err(error) = &rust.syntax {
            problems.push(Problem::new(&file.path, 1, format!("does not parse: {error}")));
        } else if !file.text.starts_with("//!") {
            problems.push(Problem::new(&file.path, 1, "does not open with `//!`: say what this file is for"));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::super::tree::found;
    use super::*;

    #[test]
    fn bad_samples_are_flagged() {
        let problems = found(
            check,
            &[
                ("a/src/good.rs", "//! Good.\n"),
                ("a/src/bare.rs", "use std::fmt;\n//! Late.\n"),
                ("a/src/torn.rs", "//! T.\nfn f( {\n"),
            ],
        );
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems.iter().any(|problem| problem.starts_with("a/src/bare.rs:1:")));
        assert!(problems.iter().any(|problem| problem.starts_with("a/src/torn.rs:1: does not parse")));
    }
}
