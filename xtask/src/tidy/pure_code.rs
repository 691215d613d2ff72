//! The pure crates neither wait nor panic: no async, no unsafe, no unwrap, no panic outside their tests.
//!
//! Indexing is left to clippy, so this check also asks that the crate's root turns that lint on. Types and functions that
//! reach the world (clock, environment, hash order) are left to each crate's `clippy.toml`; their dependencies to the
//! stage `purity` of `cargo xtask test`.

use super::tree::Tree;
use super::{Problem, syntax};

/// What the root of a pure crate must forbid, by clippy's names.
const ROOT_LINTS: &[&str] =
    &["clippy::unwrap_used", "clippy::expect_used", "clippy::indexing_slicing", "clippy::panic"];

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (file, rust) in tree.rust_files().filter(|(file, _)| file.is_pure_crate()) {
        if file.path.ends_with("src/lib.rs") {
            let missing = ROOT_LINTS.iter().filter(|lint| !file.text.contains(*lint));
            problems.extend(
                missing.map(|lint| Problem::new(&file.path, 1, format!("the root of a pure crate denies `{lint}`"))),
            );
        }
        let Ok(syntax) = &rust.syntax else { continue };
        for impurity in syntax::impurities(syntax).iter().filter(|impurity| !file.is_test_line(impurity.line)) {
            problems.push(Problem::new(
                &file.path,
                impurity.line,
                format!("{} in a pure crate: return an error or a diagnostic", impurity.what),
            ));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::super::tree::found;
    use super::*;

    const ROOT: &str =
        "//! R.\n#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]\n";

    #[test]
    fn bad_samples_are_flagged() {
        let bad = "//! B.\nfn f() {\n    x.unwrap();\n}\n#[cfg(test)]\nmod tests {\n    fn g() { x.unwrap(); }\n}\n";
        let problems = found(
            check,
            &[
                ("graphs/src/lib.rs", ROOT),
                ("graphs/src/bad.rs", bad),
                ("runtime/core/src/lib.rs", "//! R.\n"),
                ("service/src/free.rs", bad),
            ],
        );
        assert_eq!(problems.len(), 1 + ROOT_LINTS.len(), "{problems:?}");
        assert!(problems[0].starts_with("graphs/src/bad.rs:3: `.unwrap()`"));
        assert!(problems[1].starts_with("runtime/core/src/lib.rs:1: the root of a pure crate denies"));
    }
}
