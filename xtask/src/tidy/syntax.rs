//! Measures on the syntax of one Rust file: functions, test code, and what a pure crate must not say.

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// One function with a body.
pub(crate) struct Function {
    pub(crate) name: String,
    /// Line of its signature, from 1.
    pub(crate) line: usize,
    /// From the signature to the closing brace.
    pub(crate) n_lines: usize,
    /// Without the receiver.
    pub(crate) n_parameters: usize,
}

/// Every function of the file, tests and nested functions too.
pub(crate) fn functions(file: &syn::File) -> Vec<Function> {
    let mut finder = Functions::default();
    finder.visit_file(file);
    finder.found
}

#[derive(Default)]
struct Functions {
    found: Vec<Function>,
}

impl Functions {
    fn record(&mut self, signature: &syn::Signature, end: Span) {
        let line = signature.span().start().line;
        let n_parameters = signature.inputs.iter().filter(|input| matches!(input, syn::FnArg::Typed(_))).count();
        self.found.push(Function {
            name: signature.ident.to_string(),
            line,
            n_lines: end.end().line - line + 1,
            n_parameters,
        });
    }
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.record(&item.sig, item.block.span());
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.record(&item.sig, item.block.span());
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        self.record(&item.sig, item.span());
        visit::visit_trait_item_fn(self, item);
    }
}

/// Line ranges that exist only under `cfg(test)`.
pub(crate) fn test_lines(file: &syn::File) -> Vec<(usize, usize)> {
    if has_test_cfg(&file.attrs) {
        return vec![(1, usize::MAX)];
    }
    let mut finder = TestLines::default();
    finder.visit_file(file);
    finder.found
}

#[derive(Default)]
struct TestLines {
    found: Vec<(usize, usize)>,
}

impl<'ast> Visit<'ast> for TestLines {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if has_test_cfg(item_attrs(item)) {
            let span = item.span();
            self.found.push((span.start().line, span.end().line));
        } else {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if has_test_cfg(&item.attrs) {
            self.found.push((item.span().start().line, item.span().end().line));
        }
    }
}

/// Names of `#[cfg(test)] mod name;` whose text is in a file of its own.
pub(crate) fn test_module_files(file: &syn::File) -> Vec<String> {
    let modules = file.items.iter().filter_map(|item| match item {
        syn::Item::Mod(module) if module.content.is_none() && has_test_cfg(&module.attrs) => Some(module),
        _ => None,
    });
    modules.map(|module| module.ident.to_string()).collect()
}

/// Attributes of any item; the kinds that cannot carry test code answer with none.
pub(crate) fn item_attrs(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Macro(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        syn::Item::Type(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Whether one of the attributes is `#[test]` or a `#[cfg(...)]` that asks for `test`.
fn has_test_cfg(attrs: &[syn::Attribute]) -> bool {
    attrs.iter().any(|attr| match &attr.meta {
        syn::Meta::Path(path) => path.is_ident("test"),
        syn::Meta::List(list) => list.path.is_ident("cfg") && asks_for_test(list.tokens.clone()),
        syn::Meta::NameValue(_) => false,
    })
}

fn asks_for_test(tokens: TokenStream) -> bool {
    let mut after_not = false;
    for token in tokens {
        match token {
            TokenTree::Ident(ident) if ident == "not" => after_not = true,
            TokenTree::Ident(ident) if ident == "test" => return true,
            TokenTree::Group(group) if !after_not && asks_for_test(group.stream()) => return true,
            TokenTree::Group(_) => after_not = false,
            _ => {}
        }
    }
    false
}

/// A word that a pure crate must not use, with its line.
pub(crate) struct Impurity {
    pub(crate) line: usize,
    pub(crate) what: &'static str,
}

/// Panics, `unsafe` and `async` anywhere in the file, tests too (the caller knows which lines are tests).
pub(crate) fn impurities(file: &syn::File) -> Vec<Impurity> {
    let mut finder = Impurities::default();
    finder.visit_file(file);
    finder.found
}

#[derive(Default)]
struct Impurities {
    found: Vec<Impurity>,
}

impl Impurities {
    fn record(&mut self, span: Span, what: &'static str) {
        self.found.push(Impurity { line: span.start().line, what });
    }

    /// The text of a macro call is not parsed as expressions; `.unwrap(` is found among its tokens.
    fn scan_tokens(&mut self, tokens: TokenStream) {
        let mut after_dot = false;
        for token in tokens {
            if let TokenTree::Group(group) = &token {
                self.scan_tokens(group.stream());
            }
            if let TokenTree::Ident(ident) = &token
                && after_dot
                && ident == "unwrap"
            {
                self.record(ident.span(), "`.unwrap()`");
            }
            after_dot = matches!(&token, TokenTree::Punct(punct) if punct.as_char() == '.');
        }
    }
}

impl<'ast> Visit<'ast> for Impurities {
    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        if call.method == "unwrap" {
            self.record(call.method.span(), "`.unwrap()`");
        }
        // A parser may well have an `expect(token)` of its own; the one that panics takes a text.
        let is_text = |arg: &syn::Expr| matches!(arg, syn::Expr::Lit(lit) if matches!(lit.lit, syn::Lit::Str(_)));
        if call.method == "expect" && call.args.first().is_some_and(is_text) {
            self.record(call.method.span(), "`.expect(…)`");
        }
        visit::visit_expr_method_call(self, call);
    }

    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        let name = mac.path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default();
        if name == "panic" || name == "unreachable" {
            self.record(mac.span(), if name == "panic" { "`panic!`" } else { "`unreachable!`" });
        }
        self.scan_tokens(mac.tokens.clone());
    }

    fn visit_expr_unsafe(&mut self, block: &'ast syn::ExprUnsafe) {
        self.record(block.span(), "`unsafe`");
        visit::visit_expr_unsafe(self, block);
    }

    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        if signature.unsafety.is_some() {
            self.record(signature.span(), "`unsafe fn`");
        }
        if signature.asyncness.is_some() {
            self.record(signature.span(), "`async fn`");
        }
        visit::visit_signature(self, signature);
    }

    fn visit_expr_async(&mut self, block: &'ast syn::ExprAsync) {
        self.record(block.span(), "`async` block");
        visit::visit_expr_async(self, block);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> syn::File {
        syn::parse_file(text).unwrap()
    }

    #[test]
    fn functions_are_measured_from_signature_to_brace() {
        let found = functions(&file(
            "/// Doc.\n#[inline]\npub fn f(a: u8, b: u8) {\n    g();\n}\nimpl X {\n    async fn m(&self, c: u8) {\n    }\n}\n",
        ));
        let shown: Vec<_> = found.iter().map(|f| (f.name.as_str(), f.line, f.n_lines, f.n_parameters)).collect();
        assert_eq!(shown, [("f", 3, 3, 2), ("m", 7, 2, 1)]);
    }

    #[test]
    fn cfg_test_is_seen_through_all_and_any_but_not_through_not() {
        let at = |cfg: &str| test_lines(&file(&format!("#[cfg({cfg})]\nmod m {{\n}}\n")));
        assert_eq!(at("test"), [(1, 3)]);
        assert_eq!(at("all(test, unix)"), [(1, 3)]);
        assert_eq!(at("any(feature = \"x\", test)"), [(1, 3)]);
        assert_eq!(at("not(test)"), []);
        assert_eq!(at("unix"), []);
    }

    #[test]
    fn impurities_are_found_in_macros_too() {
        let found = impurities(&file(
            "async fn f() {\n x.unwrap();\n y.expect(\"z\");\n p.expect(token);\n panic!();\n unsafe { g() };\n write!(o, \"{}\", v.unwrap());\n}\n",
        ));
        let shown: Vec<_> = found.iter().map(|i| (i.line, i.what)).collect();
        assert_eq!(
            shown,
            [
                (1, "`async fn`"),
                (2, "`.unwrap()`"),
                (3, "`.expect(…)`"),
                (5, "`panic!`"),
                (6, "`unsafe`"),
                (7, "`.unwrap()`")
            ]
        );
    }
}
