//! A module is named after what it knows; a drawer for the rest is where design goes to die.

use super::Problem;
use super::tree::Tree;

/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &["utils", "util", "manager", "managers", "helpers", "helper", "common", "misc"];

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (file, rust) in tree.rust_files() {
        for part in file.path.trim_end_matches(".rs").split('/').filter(|part| EMPTY_NAMES.contains(part)) {
            problems.push(Problem::new(
                &file.path,
                1,
                format!("a module named `{part}` says nothing: name it after what it knows"),
            ));
        }
        let Ok(syntax) = &rust.syntax else { continue };
        for item in &syntax.items {
            if let syn::Item::Mod(module) = item
                && module.content.is_some()
                && EMPTY_NAMES.iter().any(|name| module.ident == name)
            {
                let line = module.ident.span().start().line;
                problems.push(Problem::new(
                    &file.path,
                    line,
                    format!("a module named `{}` says nothing", module.ident),
                ));
            }
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
        let files = [
            ("a/src/utils.rs", "//! U."),
            ("a/src/b.rs", "//! B.\nmod helpers {}\n"),
            ("a/src/plan.rs", "//! P.\nmod wait {}\n"),
        ];
        let problems = found(check, &files);
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].starts_with("a/src/b.rs:2:"));
        assert!(problems[1].starts_with("a/src/utils.rs:1:"));
    }
}
