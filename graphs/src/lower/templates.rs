//! Expressions and templates.

use std::sync::Arc;

use crate::checks::g016_expression_syntax as g016;
use crate::expr::{Code, Expr, ExprError, Template, Tree};
use crate::lower::Lower;
use crate::lower::fields::Field;
use crate::source::Span;
use crate::spec::{ExprSpec, Name, TemplateSpec};
use crate::yaml::{Data, Yaml, part_of_scalar};

impl Lower<'_> {
    /// An expression. Numbers and booleans are expressions too.
    pub(crate) fn expression(&mut self, field: Field<'_>) -> Option<ExprSpec> {
        let (text, span) = match &field.value.data {
            Data::Text(text) => (text.clone(), field.value.span),
            Data::Bool(flag) => (flag.to_string(), field.value.span),
            Data::Number(number) => (number.to_string(), field.value.span),
            _ => {
                self.wrong_type(field, "an expression");
                return None;
            }
        };
        if text.trim_start().starts_with("{{") {
            self.findings.push(g016::braces(span, field.key));
            return None;
        }
        match Expr::parse(&text) {
            Ok(expr) => Some(ExprSpec { expr, span }),
            Err(error) => {
                self.syntax_error(span, &text, &error);
                None
            }
        }
    }

    fn syntax_error(&mut self, scalar: Span, text: &str, error: &ExprError) {
        let place = error.range.clone().map_or(scalar, |range| part_of_scalar(self.source, scalar, text, range));
        self.findings.push(g016::syntax(place, &error.message));
    }

    /// Any value; its strings may hold expressions.
    pub(crate) fn template(&mut self, value: &Yaml) -> TemplateSpec {
        let mut codes = Vec::new();
        let tree = self.tree(value, &mut codes);
        TemplateSpec { template: Template(Arc::new(tree)), span: value.span, codes }
    }

    fn tree(&mut self, value: &Yaml, codes: &mut Vec<(Code, Span)>) -> Tree {
        match &value.data {
            Data::Text(text) => match Code::parse(text) {
                Ok(None) => Tree::Const(value.json()),
                Ok(Some(code)) => {
                    codes.push((code.clone(), value.span));
                    Tree::Code(code)
                }
                Err(error) => {
                    self.syntax_error(value.span, text, &error);
                    Tree::Const(value.json())
                }
            },
            Data::List(items) => Tree::list(items.iter().map(|item| self.tree(item, codes)).collect()),
            Data::Map(entries) => {
                let fields = entries.iter().map(|entry| (entry.key.clone(), self.tree(&entry.value, codes)));
                Tree::map(fields.collect())
            }
            Data::Null | Data::Bool(_) | Data::Number(_) => Tree::Const(value.json()),
        }
    }

    /// Text that may hold expressions.
    pub(crate) fn text_template(&mut self, field: Field<'_>) -> Option<TemplateSpec> {
        if !matches!(field.value.data, Data::Text(_)) {
            self.wrong_type(field, "text");
            return None;
        }
        Some(self.template(field.value))
    }

    /// A mapping of templates or one expression that gives a mapping.
    pub(crate) fn templates(&mut self, field: Option<Field<'_>>, owner: Span) -> TemplateSpec {
        let empty = Yaml { span: owner, data: Data::Map(Vec::new()) };
        let Some(field) = field else { return self.template(&empty) };
        let spec = self.template(field.value);
        let is_expression = matches!(spec.codes.as_slice(), [(Code::Value(_), _)]);
        match &field.value.data {
            Data::Map(_) => spec,
            Data::Text(_) if is_expression => spec,
            Data::Null => self.template(&empty),
            _ => {
                self.wrong_type(field, "a mapping, or one `{{ expression }}` that gives one");
                self.template(&empty)
            }
        }
    }

    /// A mapping from names to templates.
    pub(crate) fn writes(&mut self, field: Field<'_>) -> Vec<(Name, TemplateSpec)> {
        let entries = self.entries(field);
        let named = |cx: &mut Self, entry: &crate::yaml::Entry| {
            (Name { text: entry.key.clone(), span: entry.key_span }, cx.template(&entry.value))
        };
        entries.iter().map(|entry| named(self, entry)).collect()
    }
}
