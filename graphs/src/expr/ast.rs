//! The syntax tree of expressions and templates, owned and with byte ranges.

use std::ops::Range;

use serde_json::Value;

use crate::expr::filters::Filter;
use crate::expr::functions::Function;
use crate::expr::tests::Test;

/// One expression and where it stands in its source.
#[derive(Debug, Clone)]
pub(crate) struct Ast {
    pub(crate) at: Range<usize>,
    pub(crate) node: AstNode,
}

/// What an expression is.
#[derive(Debug, Clone)]
pub(crate) enum AstNode {
    Const(Value),
    Var(String),
    Attr(Box<Ast>, String),
    Item(Box<Ast>, Box<Ast>),
    Slice(Box<Slice>),
    Not(Box<Ast>),
    Neg(Box<Ast>),
    And(Box<Ast>, Box<Ast>),
    Or(Box<Ast>, Box<Ast>),
    Math(MathOp, Box<Ast>, Box<Ast>),
    /// `a < b <= c`: each operator with its right side.
    Compare(Box<Ast>, Vec<(CompareOp, Ast)>),
    If(Box<Choice>),
    Filter(&'static Filter, Box<Ast>, Args),
    Test(&'static Test, Box<Ast>, Args),
    Call(&'static Function, Args),
    List(Vec<Ast>),
    Map(Vec<(Ast, Ast)>),
}

/// `list[start:stop:step]`.
#[derive(Debug, Clone)]
pub(crate) struct Slice {
    pub(crate) of: Ast,
    pub(crate) start: Option<Ast>,
    pub(crate) stop: Option<Ast>,
    pub(crate) step: Option<Ast>,
}

/// `yes if test else no`.
#[derive(Debug, Clone)]
pub(crate) struct Choice {
    pub(crate) test: Ast,
    pub(crate) yes: Ast,
    pub(crate) no: Option<Ast>,
}

/// Arguments of a filter, test or function, already put in the order of its parameters.
#[derive(Debug, Clone, Default)]
pub(crate) struct Args {
    /// One slot per parameter.
    pub(crate) slots: Vec<Option<Ast>>,
    /// Positional arguments beyond the parameters, where they are allowed.
    pub(crate) rest: Vec<Ast>,
}

impl Args {
    pub(crate) fn all(&self) -> impl Iterator<Item = &Ast> {
        self.slots.iter().flatten().chain(&self.rest)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MathOp {
    Add,
    Sub,
    Mul,
    Div,
    FloorDiv,
    Rem,
    Pow,
    Concat,
}

impl MathOp {
    pub(crate) fn symbol(self) -> &'static str {
        match self {
            MathOp::Add => "+",
            MathOp::Sub => "-",
            MathOp::Mul => "*",
            MathOp::Div => "/",
            MathOp::FloorDiv => "//",
            MathOp::Rem => "%",
            MathOp::Pow => "**",
            MathOp::Concat => "~",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CompareOp {
    Eq,
    Ne,
    Lt,
    Lte,
    Gt,
    Gte,
    In,
    NotIn,
}

impl CompareOp {
    pub(crate) fn symbol(self) -> &'static str {
        match self {
            CompareOp::Eq => "==",
            CompareOp::Ne => "!=",
            CompareOp::Lt => "<",
            CompareOp::Lte => "<=",
            CompareOp::Gt => ">",
            CompareOp::Gte => ">=",
            CompareOp::In => "in",
            CompareOp::NotIn => "not in",
        }
    }
}

/// A statement of a template.
#[derive(Debug, Clone)]
pub(crate) enum Stmt {
    Raw(String),
    Emit(Ast),
    If(Ast, Vec<Stmt>, Vec<Stmt>),
    For(Box<ForLoop>),
    Set(String, Ast),
}

/// `{% for target in over if keep %}`.
#[derive(Debug, Clone)]
pub(crate) struct ForLoop {
    pub(crate) targets: Vec<String>,
    pub(crate) over: Ast,
    pub(crate) keep: Option<Ast>,
    pub(crate) body: Vec<Stmt>,
    pub(crate) otherwise: Vec<Stmt>,
}

/// A free variable with as much of the path behind it as is constant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NameUse {
    /// The variable.
    pub(crate) root: String,
    /// Constant attributes behind it.
    pub(crate) path: Vec<String>,
    /// Where the variable itself stands.
    pub(crate) at: Range<usize>,
}

impl NameUse {
    pub(crate) fn dotted(&self) -> String {
        let mut dotted = self.root.clone();
        for step in &self.path {
            dotted.push('.');
            dotted.push_str(step);
        }
        dotted
    }
}

/// The free variables of an expression, in order of appearance.
pub(crate) fn names_of(ast: &Ast) -> Vec<NameUse> {
    let mut found = Vec::new();
    collect(ast, &mut Vec::new(), &mut found);
    found
}

/// The free variables of a template: loop variables and `set` names are not free.
pub(crate) fn names_of_template(body: &[Stmt]) -> Vec<NameUse> {
    let mut found = Vec::new();
    collect_body(body, &mut Vec::new(), &mut found);
    found
}

fn collect_body(body: &[Stmt], bound: &mut Vec<String>, found: &mut Vec<NameUse>) {
    for stmt in body {
        match stmt {
            Stmt::Raw(_) => {}
            Stmt::Emit(ast) => collect(ast, bound, found),
            Stmt::If(test, yes, no) => {
                collect(test, bound, found);
                collect_body(yes, bound, found);
                collect_body(no, bound, found);
            }
            Stmt::For(each) => {
                collect(&each.over, bound, found);
                let outer = bound.len();
                bound.extend(each.targets.iter().cloned());
                bound.push("loop".to_owned());
                if let Some(keep) = &each.keep {
                    collect(keep, bound, found);
                }
                collect_body(&each.body, bound, found);
                bound.truncate(outer);
                collect_body(&each.otherwise, bound, found);
            }
            Stmt::Set(name, ast) => {
                collect(ast, bound, found);
                bound.push(name.clone());
            }
        }
    }
}

fn collect(ast: &Ast, bound: &mut Vec<String>, found: &mut Vec<NameUse>) {
    if let Some(name) = as_path(ast) {
        if !bound.contains(&name.root) {
            found.push(name);
        }
        return;
    }
    each_child(ast, &mut |child| collect(child, bound, found));
}

/// The expression as a variable with constant attributes, if it is no more than that.
pub(crate) fn as_path(ast: &Ast) -> Option<NameUse> {
    match &ast.node {
        AstNode::Var(root) => Some(NameUse { root: root.clone(), path: Vec::new(), at: ast.at.clone() }),
        AstNode::Attr(of, name) => {
            let mut inner = as_path(of)?;
            inner.path.push(name.clone());
            Some(inner)
        }
        AstNode::Item(of, key) => {
            let mut inner = as_path(of)?;
            match &key.node {
                AstNode::Const(Value::String(name)) => inner.path.push(name.clone()),
                AstNode::Const(Value::Number(index)) => inner.path.push(index.to_string()),
                _ => return None,
            }
            Some(inner)
        }
        _ => None,
    }
}

/// Calls `f` with every direct part of an expression, in order.
pub(crate) fn each_child<'a>(ast: &'a Ast, f: &mut dyn FnMut(&'a Ast)) {
    match &ast.node {
        AstNode::Const(_) | AstNode::Var(_) => {}
        AstNode::Attr(of, _) | AstNode::Not(of) | AstNode::Neg(of) => f(of),
        AstNode::Item(left, right)
        | AstNode::And(left, right)
        | AstNode::Or(left, right)
        | AstNode::Math(_, left, right) => {
            f(left);
            f(right);
        }
        AstNode::Slice(slice) => {
            f(&slice.of);
            [&slice.start, &slice.stop, &slice.step].into_iter().flatten().for_each(f);
        }
        AstNode::Compare(first, rest) => {
            f(first);
            rest.iter().for_each(|(_, right)| f(right));
        }
        AstNode::If(choice) => {
            f(&choice.test);
            f(&choice.yes);
            choice.no.iter().for_each(f);
        }
        AstNode::Filter(_, of, args) | AstNode::Test(_, of, args) => {
            f(of);
            args.all().for_each(f);
        }
        AstNode::Call(_, args) => args.all().for_each(f),
        AstNode::List(items) => items.iter().for_each(f),
        AstNode::Map(entries) => entries.iter().for_each(|(key, value)| {
            f(key);
            f(value);
        }),
    }
}
