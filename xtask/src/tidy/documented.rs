//! Public items of the crates that are an API carry a doc comment, all of them.

use syn::visit::{self, Visit};

use super::tree::Tree;
use super::{Problem, syntax};

/// The crates other people write against.
const API_CRATES: &[&str] = &["graphs", "runtime/core", "runtime"];

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (file, rust) in tree.rust_files().filter(|(file, _)| API_CRATES.contains(&file.crate_dir())) {
        let Ok(syntax) = &rust.syntax else { continue };
        let mut finder = Undocumented::default();
        finder.visit_file(syntax);
        for (line, name) in finder.found.iter().filter(|(line, _)| !file.is_test_line(*line)) {
            problems.push(Problem::new(&file.path, *line, format!("public `{name}` has no doc comment")));
        }
    }
    problems
}

#[derive(Default)]
struct Undocumented {
    found: Vec<(usize, String)>,
}

impl Undocumented {
    fn look(&mut self, visibility: &syn::Visibility, attrs: &[syn::Attribute], name: &syn::Ident) {
        let is_public = matches!(visibility, syn::Visibility::Public(_));
        if is_public && !attrs.iter().any(|attr| attr.path().is_ident("doc")) {
            self.found.push((name.span().start().line, name.to_string()));
        }
    }
}

impl<'ast> Visit<'ast> for Undocumented {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let attrs = syntax::item_attrs(item);
        match item {
            syn::Item::Const(item) => self.look(&item.vis, attrs, &item.ident),
            syn::Item::Enum(item) => self.look(&item.vis, attrs, &item.ident),
            syn::Item::Fn(item) => self.look(&item.vis, attrs, &item.sig.ident),
            syn::Item::Static(item) => self.look(&item.vis, attrs, &item.ident),
            syn::Item::Struct(item) => self.look(&item.vis, attrs, &item.ident),
            syn::Item::Trait(item) => self.look(&item.vis, attrs, &item.ident),
            syn::Item::Type(item) => self.look(&item.vis, attrs, &item.ident),
            _ => {}
        }
        visit::visit_item(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.look(&item.vis, &item.attrs, &item.sig.ident);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::found;
    use super::*;

    #[test]
    fn bad_samples_are_flagged() {
        let text = "//! A.\n/// Said.\npub struct Said;\npub struct Bare;\npub(crate) fn inner() {}\nimpl Said {\n    pub fn method(&self) {}\n}\n";
        let problems = found(check, &[("graphs/src/a.rs", text), ("service/src/a.rs", text)]);
        assert_eq!(
            problems,
            [
                "graphs/src/a.rs:4: public `Bare` has no doc comment",
                "graphs/src/a.rs:7: public `method` has no doc comment"
            ]
        );
    }
}
