//! A module or type is named after what it knows; a drawer for the rest is where design goes to die.

use syn::visit::{self, Visit};

use super::Problem;
use super::tree::Tree;

/// Names of modules that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &["utils", "util", "manager", "managers", "helpers", "helper", "common", "misc"];
/// Ends of type names that say nothing about what the type does.
const EMPTY_ENDINGS: &[&str] = &["Manager", "Helper", "Helpers", "Util", "Utils"];

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
        let mut finder = EmptyNames::default();
        finder.visit_file(syntax);
        let text = |name| format!("`{name}` says nothing: name it after what it knows or does");
        problems.extend(finder.found.into_iter().map(|(line, name)| Problem::new(&file.path, line, text(name))));
    }
    problems
}

#[derive(Default)]
struct EmptyNames {
    found: Vec<(usize, String)>,
}

impl EmptyNames {
    fn look(&mut self, name: &syn::Ident, is_empty: impl Fn(&str) -> bool) {
        let text = name.to_string();
        if is_empty(&text) {
            self.found.push((name.span().start().line, text));
        }
    }

    fn look_at_type(&mut self, name: &syn::Ident) {
        self.look(name, |text| EMPTY_ENDINGS.iter().any(|ending| text.ends_with(ending)));
    }
}

impl<'ast> Visit<'ast> for EmptyNames {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        // A module in a file of its own is flagged by its path.
        if module.content.is_some() {
            self.look(&module.ident, |text| EMPTY_NAMES.contains(&text));
        }
        visit::visit_item_mod(self, module);
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.look_at_type(&item.ident);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.look_at_type(&item.ident);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.look_at_type(&item.ident);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::found;
    use super::*;

    #[test]
    fn bad_samples_are_flagged() {
        let bad = "//! B.\nmod helpers {}\nstruct RunManager;\nstruct Management;\n";
        let files = [("a/src/utils.rs", "//! U."), ("a/src/b.rs", bad), ("a/src/plan.rs", "//! P.\nmod wait {}\n")];
        let problems = found(check, &files);
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(problems[0].starts_with("a/src/b.rs:2:"));
        assert!(problems[1].starts_with("a/src/b.rs:3: `RunManager`"));
        assert!(problems[2].starts_with("a/src/utils.rs:1:"));
    }
}
