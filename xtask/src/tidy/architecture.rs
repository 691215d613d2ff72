//! Numbered invariants: each says what holds it, what it names exists, and each reference in code leads to one.
//!
//! In `ARCHITECTURE.md` an invariant is a paragraph or list item that opens with its number in bold, `**I-3**`, and names in
//! backticks after the words `Held by` at least one test (or the start of the names of several), fuzz target, check of
//! `cargo xtask tidy`, stage of `cargo xtask test` or lint that keeps it. Other names there (a type, a function, a file, a
//! crate) must exist too.

use std::collections::BTreeSet;

use super::tree::{SourceFile, Tree};
use super::{CHECKS, Problem};
use crate::test::STAGES;

const PAGE: &str = "ARCHITECTURE.md";

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let Some(page) = tree.file(PAGE) else {
        return vec![Problem::new(PAGE, 1, "is missing: the layers and the numbered invariants live there")];
    };
    let invariants = invariants(page);
    if invariants.is_empty() {
        return vec![Problem::new(PAGE, 1, "has no invariant: open a paragraph with `**I-1**`")];
    }
    let holders = holders(tree);
    let named = named(tree);
    let mut problems = Vec::new();
    for Invariant { number, line, held_by } in &invariants {
        if !held_by.iter().any(|name| holds(name, &holders)) {
            let text =
                format!("{number} does not say what holds it: `Held by` and a test, check, stage or lint in backticks");
            problems.push(Problem::new(PAGE, *line, text));
        }
        for name in held_by.iter().filter(|name| !holds(name, &holders) && !named.contains(last_part(name))) {
            problems.push(Problem::new(PAGE, *line, format!("{number} names `{name}`, which does not exist")));
        }
    }
    let numbers: BTreeSet<&str> = invariants.iter().map(|invariant| invariant.number.as_str()).collect();
    problems.extend(dangling_references(tree, &numbers));
    problems
}

struct Invariant {
    number: String,
    line: usize,
    held_by: Vec<String>,
}

fn invariants(page: &SourceFile) -> Vec<Invariant> {
    let mut found: Vec<(Invariant, String)> = Vec::new();
    let mut inside = false;
    for (line, text) in page.lines() {
        let start = text.trim_start_matches(['*', '-', '#', '>', '|', ' ']);
        if text.contains("**I-") && start.starts_with("I-") {
            let number: String = start.chars().take_while(|c| c.is_alphanumeric() || *c == '-').collect();
            found.push((Invariant { number, line, held_by: Vec::new() }, String::new()));
            inside = true;
        }
        inside &= !text.trim().is_empty() && !text.starts_with('#');
        if let Some((_, body)) = found.last_mut().filter(|_| inside) {
            body.push_str(text);
            body.push(' ');
        }
    }
    found.into_iter().map(|(invariant, body)| Invariant { held_by: names_after_held_by(&body), ..invariant }).collect()
}

fn names_after_held_by(body: &str) -> Vec<String> {
    let Some((_, after)) = body.split_once("Held by").or_else(|| body.split_once("held by")) else { return Vec::new() };
    after.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Names that can hold an invariant: functions in test code, checks and stages.
fn holders(tree: &Tree) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = CHECKS.iter().map(|check| check.name.to_owned()).collect();
    names.extend(STAGES.iter().map(|stage| stage.name.to_owned()));
    for (file, rust) in tree.rust_files() {
        let tests = rust.functions.iter().filter(|function| file.is_test_line(function.line));
        names.extend(tests.map(|function| function.name.clone()));
        if file.is_test_line(1) {
            names.insert(file.path.clone());
        }
        let target = file.path.strip_prefix("fuzz/fuzz_targets/").and_then(|name| name.strip_suffix(".rs"));
        names.extend(target.map(str::to_owned));
    }
    names.extend(tree.with_suffix("clippy.toml").map(|file| file.path.clone()));
    names
}

/// Whether the name is of something that can fail: a lint is named with its tool, tests may be named by their start.
fn holds(name: &str, holders: &BTreeSet<String>) -> bool {
    let last = last_part(name);
    let is_start = holders.range(last.to_owned()..).next().is_some_and(|holder| holder.starts_with(last));
    name.starts_with("clippy::") || name.starts_with("rustc::") || is_start
}

/// The name without its module.
fn last_part(name: &str) -> &str {
    name.rsplit("::").next().unwrap_or(name)
}

/// Whatever else an invariant may mention: files, crates, functions and types.
fn named(tree: &Tree) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (file, rust) in tree.rust_files() {
        names.insert(file.path.clone());
        names.insert(file.crate_dir().replace('/', "-"));
        names.extend(rust.functions.iter().map(|function| function.name.clone()));
        let items = rust.syntax.as_ref().map(|syntax| syntax.items.as_slice()).unwrap_or_default();
        names.extend(items.iter().filter_map(|item| match item {
            syn::Item::Struct(item) => Some(item.ident.to_string()),
            syn::Item::Enum(item) => Some(item.ident.to_string()),
            syn::Item::Trait(item) => Some(item.ident.to_string()),
            _ => None,
        }));
    }
    names
}

fn dangling_references(tree: &Tree, numbers: &BTreeSet<&str>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (file, _) in tree.rust_files().filter(|(file, _)| !file.path.starts_with("xtask/")) {
        for (line, text) in file.lines() {
            for number in references(text).into_iter().filter(|number| !numbers.contains(number.as_str())) {
                problems.push(Problem::new(&file.path, line, format!("{number} is not an invariant of {PAGE}")));
            }
        }
    }
    problems
}

/// `I-7` in the comment of a line.
fn references(text: &str) -> Vec<String> {
    let Some((_, comment)) = text.split_once("//") else { return Vec::new() };
    let words = comment.split(|c: char| !(c.is_alphanumeric() || c == '-'));
    let is_number =
        |word: &&str| word.strip_prefix("I-").is_some_and(|n| !n.is_empty() && n.chars().all(|c| c.is_ascii_digit()));
    words.filter(is_number).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tree::found;
    use super::*;

    const PAGE_TEXT: &str = "# A\n\n**I-1** No clock in the core. Held by `purity`\nand `graphs/clippy.toml`.\n\n* **I-2** Order. Held by `order_is_declared`.\n\n**I-3** Nothing.\n";

    #[test]
    fn bad_samples_are_flagged() {
        let clippy = ("graphs/clippy.toml", "");
        let code = ("graphs/src/a.rs", "//! A.\n// I-2 and I-9 matter here.\n");
        let problems = found(check, &[(PAGE, PAGE_TEXT), clippy, code]);
        assert_eq!(problems.len(), 4, "{problems:?}");
        assert!(problems[0].starts_with("ARCHITECTURE.md:6: I-2 does not say what holds it"));
        assert_eq!(problems[1], "ARCHITECTURE.md:6: I-2 names `order_is_declared`, which does not exist");
        assert!(problems[2].starts_with("ARCHITECTURE.md:8: I-3 does not say what holds it"));
        assert!(problems[3].starts_with("graphs/src/a.rs:2: I-9 is not an invariant"));
        assert_eq!(found(check, &[]).len(), 1);
    }

    #[test]
    fn a_named_test_holds_an_invariant() {
        let page =
            "# A\n\n**I-2** Order. Held by `core::order_is_declared`.\n\n**I-3** Held by `order_is` in `graphs`.\n";
        let test = ("graphs/src/a.rs", "//! A.\n#[cfg(test)]\nmod tests {\n    fn order_is_declared() {}\n}\n");
        assert_eq!(found(check, &[(PAGE, page), test]), [] as [&str; 0]);
    }
}
