//! Templates: JSON trees whose strings may hold expressions.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::expr::ast::{self, NameUse, Stmt};
use crate::expr::eval::Eval;
use crate::expr::scope::Scope;
use crate::expr::value::Work;
use crate::expr::{Expr, ExprError, syntax};

/// How deep a template may nest.
const DEPTH_MAX: usize = 128;

/// A JSON tree whose strings may hold expressions. Cloning is cheap.
///
/// A string that is exactly one `{{ expression }}` becomes the value of the expression, whatever its type; any
/// other string with expressions becomes text.
#[derive(Debug, Clone)]
pub struct Template(pub(crate) Arc<Tree>);

/// A node of the tree. A sub-tree without expressions is one constant.
#[derive(Debug, Clone)]
pub(crate) enum Tree {
    Const(Value),
    Code(Code),
    List(Vec<Tree>),
    Map(Vec<(String, Tree)>),
}

/// A string with expressions.
#[derive(Debug, Clone)]
pub(crate) enum Code {
    /// Exactly one expression: the value keeps its type.
    Value(Expr),
    /// Text around expressions and statements.
    Text(Arc<Text>),
}

/// A text template.
#[derive(Debug)]
pub(crate) struct Text {
    source: String,
    body: Vec<Stmt>,
    uses: Vec<NameUse>,
}

impl Code {
    /// Parses a string. `None` means it holds no expression and stands for itself.
    pub(crate) fn parse(source: &str) -> Result<Option<Code>, ExprError> {
        if !["{{", "{%", "{#"].iter().any(|mark| source.contains(mark)) {
            return Ok(None);
        }
        let body = syntax::parse_template(source).map_err(|error| ExprError::syntax(source, error))?;
        if let [Stmt::Emit(ast)] = without_final_break(&body) {
            return Ok(Some(Code::Value(Expr::from_ast(source, ast.clone()))));
        }
        let uses = ast::names_of_template(&body);
        Ok(Some(Code::Text(Arc::new(Text { source: source.to_owned(), body, uses }))))
    }

    /// The free variables.
    pub(crate) fn uses(&self) -> &[NameUse] {
        match self {
            Code::Value(expr) => expr.uses(),
            Code::Text(text) => &text.uses,
        }
    }

    /// The statements of a text template.
    pub(crate) fn body(&self) -> &[Stmt] {
        match self {
            Code::Value(_) => &[],
            Code::Text(text) => &text.body,
        }
    }

    /// The string as it was written.
    pub(crate) fn source(&self) -> &str {
        match self {
            Code::Value(expr) => expr.source(),
            Code::Text(text) => &text.source,
        }
    }

    fn render(&self, scope: &dyn Scope, work: &Work) -> Result<Value, ExprError> {
        match self {
            Code::Value(expr) => expr.eval_within(scope, work),
            Code::Text(text) => {
                let mut out = String::new();
                Eval::new(&text.source, scope, work)
                    .body(&text.body, &mut out)
                    .map_err(|error| ExprError::eval(&text.source, error))?;
                Ok(Value::String(out))
            }
        }
    }
}

/// A YAML block scalar ends with a line break that nobody means.
fn without_final_break(body: &[Stmt]) -> &[Stmt] {
    match body {
        [head @ .., Stmt::Raw(raw)] if raw == "\n" => head,
        all => all,
    }
}

impl Tree {
    fn parse(value: &Value, depth: usize) -> Result<Tree, ExprError> {
        let Some(depth) = depth.checked_sub(1) else {
            return Err(ExprError::new("", format!("nested deeper than {DEPTH_MAX} levels"), None));
        };
        Ok(match value {
            Value::String(text) => Code::parse(text)?.map_or_else(|| Tree::Const(value.clone()), Tree::Code),
            Value::Array(items) => {
                Tree::list(items.iter().map(|item| Tree::parse(item, depth)).collect::<Result<_, _>>()?)
            }
            Value::Object(fields) => {
                let fields = fields.iter().map(|(key, field)| Ok((key.clone(), Tree::parse(field, depth)?)));
                Tree::map(fields.collect::<Result<_, ExprError>>()?)
            }
            scalar => Tree::Const(scalar.clone()),
        })
    }

    /// A list; one constant if every item is.
    pub(crate) fn list(items: Vec<Tree>) -> Tree {
        let constants: Option<Vec<Value>> = items.iter().map(Tree::constant).map(Option::<&Value>::cloned).collect();
        constants.map_or(Tree::List(items), |items| Tree::Const(Value::Array(items)))
    }

    /// An object; one constant if every field is.
    pub(crate) fn map(fields: Vec<(String, Tree)>) -> Tree {
        let constants: Option<Map<String, Value>> =
            fields.iter().map(|(key, field)| Some((key.clone(), field.constant()?.clone()))).collect();
        constants.map_or(Tree::Map(fields), |fields| Tree::Const(Value::Object(fields)))
    }

    pub(crate) fn constant(&self) -> Option<&Value> {
        match self {
            Tree::Const(value) => Some(value),
            _ => None,
        }
    }

    fn render(&self, scope: &dyn Scope, work: &Work) -> Result<Value, ExprError> {
        match self {
            Tree::Const(value) => Ok(value.clone()),
            Tree::Code(code) => code.render(scope, work),
            Tree::List(items) => items.iter().map(|item| item.render(scope, work)).collect(),
            Tree::Map(fields) => {
                let fields = fields.iter().map(|(key, field)| Ok((key.clone(), field.render(scope, work)?)));
                fields.collect::<Result<Map<_, _>, _>>().map(Value::Object)
            }
        }
    }

    /// The tree as it was written.
    pub(crate) fn written(&self) -> Value {
        match self {
            Tree::Const(value) => value.clone(),
            Tree::Code(code) => Value::String(code.source().to_owned()),
            Tree::List(items) => items.iter().map(Tree::written).collect(),
            Tree::Map(fields) => fields.iter().map(|(key, field)| (key.clone(), field.written())).collect(),
        }
    }
}

impl Template {
    /// Parses every string of a JSON tree.
    pub fn from_json(value: &Value) -> Result<Template, ExprError> {
        Tree::parse(value, DEPTH_MAX).map(|tree| Template(Arc::new(tree)))
    }

    /// The tree with every expression replaced by its value.
    pub fn render(&self, scope: &dyn Scope) -> Result<Value, ExprError> {
        self.0.render(scope, &Work::new())
    }

    /// The value, if it holds no expression.
    pub fn as_const(&self) -> Option<&Value> {
        self.0.constant()
    }

    /// The template as it was written.
    pub fn written(&self) -> Value {
        self.0.written()
    }

    /// The variables it refers to, dotted as far as they are constant, sorted.
    pub fn names(&self) -> Vec<String> {
        let (mut open, mut names) = (vec![&*self.0], Vec::new());
        while let Some(tree) = open.pop() {
            match tree {
                Tree::Const(_) => {}
                Tree::Code(code) => names.extend(code.uses().iter().map(NameUse::dotted)),
                Tree::List(items) => open.extend(items),
                Tree::Map(fields) => open.extend(fields.iter().map(|(_, field)| field)),
            }
        }
        names.sort();
        names.dedup();
        names
    }
}
