//! A diagnostic's code, its check, its page and its test are there together or not at all.

use std::collections::{BTreeMap, BTreeSet};

use super::Problem;
use super::tree::Tree;

const CRATE: &str = "graphs/";
const PAGES: &str = "docs/errors/";
/// Says that the compiler itself is wrong: no check finds it, and no graph can be written that shows it.
const COMPILER_BUG: &str = "G000";

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let mut in_code: BTreeMap<String, (String, usize)> = BTreeMap::new();
    let mut in_tests = BTreeSet::new();
    for (file, _) in tree.rust_files().filter(|(file, _)| file.path.starts_with(CRATE)) {
        for (line, text) in file.lines() {
            for code in codes(text).into_iter().filter(|code| code != COMPILER_BUG) {
                if file.is_test_line(line) {
                    in_tests.insert(code);
                } else if !text.trim_start().starts_with("//") {
                    in_code.entry(code).or_insert_with(|| (file.path.clone(), line));
                }
            }
        }
    }
    let pages: BTreeSet<String> = tree
        .with_suffix(".md")
        .filter_map(|file| Some(file.path.strip_prefix(PAGES)?.strip_suffix(".md")?.to_owned()))
        .filter(|name| codes(name).len() == 1)
        .collect();
    let mut problems = Vec::new();
    for (code, (path, line)) in &in_code {
        if !pages.contains(code) {
            problems.push(Problem::new(path, *line, format!("{code} has no page {PAGES}{code}.md")));
        }
        let file_start = format!("{CRATE}src/checks/{}_", code.to_lowercase());
        if !tree.files.iter().any(|file| file.path.starts_with(&file_start)) {
            problems.push(Problem::new(path, *line, format!("{code} has no file {file_start}….rs of its own")));
        }
        if !in_tests.contains(code) {
            problems.push(Problem::new(path, *line, format!("{code} is expected by no test of the crate")));
        }
    }
    let orphans = pages.iter().filter(|code| !in_code.contains_key(*code));
    problems.extend(
        orphans.map(|code| Problem::new(&format!("{PAGES}{code}.md"), 1, "is a page of a code that no check uses")),
    );
    problems
}

/// `G` and three digits, standing alone.
fn codes(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let is_code =
        |word: &&str| word.len() == 4 && word.starts_with('G') && word[1..].bytes().all(|b| b.is_ascii_digit());
    words.filter(is_code).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tree::found;
    use super::*;

    #[test]
    fn bad_samples_are_flagged() {
        let code = "//! C.\nconst A: &str = \"G001\";\nconst B: &str = \"G002\";\nconst C: &str = \"G000\";\n#[cfg(test)]\nmod tests {\n    fn t() { check(\"G001\") }\n}\n";
        let problems = found(
            check,
            &[("graphs/src/checks/g001_a.rs", code), ("docs/errors/G001.md", ""), ("docs/errors/G009.md", "")],
        );
        assert_eq!(
            problems,
            [
                "graphs/src/checks/g001_a.rs:3: G002 has no page docs/errors/G002.md",
                "graphs/src/checks/g001_a.rs:3: G002 has no file graphs/src/checks/g002_….rs of its own",
                "graphs/src/checks/g001_a.rs:3: G002 is expected by no test of the crate",
                "docs/errors/G009.md:1: is a page of a code that no check uses",
            ]
        );
    }
}
