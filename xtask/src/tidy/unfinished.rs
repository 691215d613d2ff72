//! No marks of unfinished work: it is either done, an issue, or deleted.

use super::Problem;
use super::tree::Tree;

/// The marks, in two pieces so that this file does not hold them.
const MARKS: &[(&str, &str)] = &[("TO", "DO"), ("FIX", "ME"), ("XX", "X"), ("to", "do!("), ("un", "implemented!(")];

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let marks: Vec<String> = MARKS.iter().map(|(head, tail)| format!("{head}{tail}")).collect();
    let mut problems = Vec::new();
    for file in tree.files.iter().filter(|file| !file.path.ends_with(".json") && !file.path.ends_with("Cargo.lock")) {
        for (line, text) in file.lines() {
            if let Some(mark) = marks.iter().find(|mark| has_word(text, mark)) {
                problems.push(Problem::new(
                    &file.path,
                    line,
                    format!("`{mark}`: do it, or file it and delete the mark"),
                ));
            }
        }
    }
    problems
}

/// Whether `word` is in `text` with no letter or digit before or after it.
fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        let joins = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !joins(before) && (word.ends_with('(') || !joins(after))
    })
}

#[cfg(test)]
mod tests {
    use super::super::tree::found;
    use super::*;

    #[test]
    fn bad_samples_are_flagged() {
        let marked = format!("//! M.\n// {}{}: later\nfn f() {{ {}{}) }}\n", "TO", "DO", "to", "do!(");
        let clean = "//! C.\n// The mastodon has a method of its own.\nlet todos = 1;\n";
        let problems = found(
            check,
            &[("a/src/clean.rs", clean), ("a/src/marked.rs", &marked), ("docs/a.md", &format!("{}{}\n", "FIX", "ME"))],
        );
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(problems[0].starts_with("a/src/marked.rs:2:"));
        assert!(problems[1].starts_with("a/src/marked.rs:3:"));
        assert!(problems[2].starts_with("docs/a.md:1:"));
    }
}
