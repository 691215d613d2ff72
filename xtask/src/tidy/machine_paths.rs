//! No absolute path of a developer's machine: it works nowhere else and tells what nobody should know.

use super::Problem;
use super::tree::Tree;

/// First folders that belong to somebody, in two pieces so that this file does not hold them.
const OWNED_FOLDERS: &[(&str, &str)] =
    &[("/wo", "rk/"), ("/ho", "me/"), ("/ro", "ot/"), ("/Us", "ers/"), ("C:\\", "Users")];

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let folders: Vec<String> = OWNED_FOLDERS.iter().map(|(head, tail)| format!("{head}{tail}")).collect();
    let mut problems = Vec::new();
    for file in tree.files.iter().filter(|file| !file.path.ends_with("Cargo.lock")) {
        for (line, text) in file.lines() {
            if let Some(folder) = folders.iter().find(|folder| starts_a_path(text, folder)) {
                problems.push(Problem::new(
                    &file.path,
                    line,
                    format!("`{folder}` is a path of one machine: make it relative or an option"),
                ));
            }
        }
    }
    problems
}

/// Whether `folder` stands where a path begins, and not in the middle of a longer one.
fn starts_a_path(text: &str, folder: &str) -> bool {
    text.match_indices(folder).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '~' | '}' | '/' | '*'))
    })
}

#[cfg(test)]
mod tests {
    use super::super::tree::found;
    use super::*;

    #[test]
    fn bad_samples_are_flagged() {
        let bad = format!("//! B.\nlet p = \"{}{}me/x\";\n", "/ho", "me/");
        let good = "//! G.\n// see target/work/x and https://example.org/home/page\n";
        let problems = found(check, &[("a/src/bad.rs", &bad), ("a/src/good.rs", good)]);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with("a/src/bad.rs:2:"));
    }
}
