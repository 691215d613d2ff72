//! Expressions and templates: minijinja's syntax, evaluated over borrowed JSON with every step bounded.
//!
//! minijinja's own virtual machine counts instructions, not the work inside them, and needs its values converted.
//! Here every copy, comparison and item is paid for from one allowance, and only what an expression names is
//! looked at. An unknown name is an error everywhere but in `default` and `is defined`.

mod ast;
mod eval;
mod filters;
mod functions;
mod kinds;
#[cfg(test)]
mod language;
mod ops;
mod scope;
mod syntax;
mod template;
mod tests;
pub(crate) mod types;
mod value;

use std::ops::Range;
use std::sync::Arc;

use serde_json::Value;

pub(crate) use ast::{Ast, NameUse};
use eval::{Eval, EvalError};
pub use scope::{Layered, Scope, Vars};
use syntax::SyntaxError;
pub use template::Template;
pub(crate) use template::{Code, Tree};
use value::{Work, kind_of};

/// Bytes of an expression that an error shows.
const SHOWN_BYTES_MAX: usize = 200;

/// Why an expression could not be parsed or evaluated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} (in `{expression}`)")]
pub struct ExprError {
    /// What went wrong. Never shows a value.
    pub message: String,
    /// The expression.
    pub expression: String,
    /// Where in the expression, in bytes.
    pub range: Option<Range<usize>>,
}

impl ExprError {
    fn new(source: &str, message: String, range: Option<Range<usize>>) -> ExprError {
        let mut end = source.len().min(SHOWN_BYTES_MAX);
        while !source.is_char_boundary(end) {
            end -= 1;
        }
        let shown = source.get(..end).unwrap_or("");
        let expression = if end < source.len() { format!("{shown}…") } else { shown.to_owned() };
        // minijinja places an unexpected end one byte behind the source.
        let range = range.map(|range| range.start.min(source.len())..range.end.min(source.len()));
        ExprError { message, expression, range }
    }

    fn syntax(source: &str, error: SyntaxError) -> ExprError {
        // Of `||` the first half was taken for a filter: the error is at the second.
        let starts = error.at.as_ref().map_or([None; 2], |at| [Some(at.start), at.start.checked_sub(1)]);
        let slip = starts.into_iter().flatten().find_map(|at| slip_at(source.get(at..)?));
        let message = match slip {
            Some((wrong, right)) => format!("{}; for `{wrong}` write `{right}`", error.message),
            None => error.message,
        };
        ExprError::new(source, message, error.at)
    }

    fn eval(source: &str, error: EvalError) -> ExprError {
        ExprError::new(source, error.message, Some(error.at))
    }
}

/// Operators of other languages, and what is meant by them. The longer ones come first.
const SLIPS: [(&str, &str); 5] = [("===", "=="), ("&&", "and"), ("||", "or"), ("!", "not"), ("=", "==")];

/// The slip that a text begins with. What this language has, is none.
fn slip_at(text: &str) -> Option<(&'static str, &'static str)> {
    let known = ["!=", "=="].iter().any(|known| text.starts_with(known)) && !text.starts_with("===");
    SLIPS.into_iter().find(|(wrong, _)| !known && text.starts_with(wrong))
}

/// A parsed expression. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Expr(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    source: String,
    ast: Ast,
    uses: Vec<NameUse>,
    names: Vec<String>,
}

impl Expr {
    /// Parses an expression.
    pub fn parse(source: &str) -> Result<Expr, ExprError> {
        let ast = syntax::parse_expression(source).map_err(|error| ExprError::syntax(source, error))?;
        Ok(Expr::from_ast(source, ast))
    }

    fn from_ast(source: &str, ast: Ast) -> Expr {
        let uses = ast::names_of(&ast);
        let mut names: Vec<String> = uses.iter().map(NameUse::dotted).collect();
        names.sort();
        names.dedup();
        Expr(Arc::new(Inner { source: source.to_owned(), ast, uses, names }))
    }

    /// The text of the expression.
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// The variables it refers to, dotted as far as they are constant.
    pub fn names(&self) -> &[String] {
        &self.0.names
    }

    pub(crate) fn uses(&self) -> &[NameUse] {
        &self.0.uses
    }

    pub(crate) fn ast(&self) -> &Ast {
        &self.0.ast
    }

    /// Its value.
    pub fn eval(&self, scope: &dyn Scope) -> Result<Value, ExprError> {
        self.eval_within(scope, &Work::new())
    }

    /// Its value, paid for from `work`.
    fn eval_within(&self, scope: &dyn Scope, work: &Work) -> Result<Value, ExprError> {
        let result = Eval::new(self.source(), scope, work).owned(self.ast());
        result.map_err(|error| ExprError::eval(self.source(), error))
    }

    /// Its value, which must be true or false; nothing else counts as either.
    pub fn eval_bool(&self, scope: &dyn Scope) -> Result<bool, ExprError> {
        self.typed(scope, "true or false", |value| value.as_bool().ok_or(value))
    }

    /// Its value, which must be a number.
    pub fn eval_number(&self, scope: &dyn Scope) -> Result<f64, ExprError> {
        self.typed(scope, "a number", |value| value.as_f64().ok_or(value))
    }

    /// Its value, which must be a list.
    pub fn eval_list(&self, scope: &dyn Scope) -> Result<Vec<Value>, ExprError> {
        self.typed(scope, "a list", |value| match value {
            Value::Array(items) => Ok(items),
            other => Err(other),
        })
    }

    fn typed<T>(
        &self,
        scope: &dyn Scope,
        wanted: &str,
        convert: impl FnOnce(Value) -> Result<T, Value>,
    ) -> Result<T, ExprError> {
        convert(self.eval(scope)?).map_err(|other| {
            let message = format!("must be {wanted}, but is {}", kind_of(&other));
            ExprError::new(self.source(), message, Some(self.ast().at.clone()))
        })
    }
}
