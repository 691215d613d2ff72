//! Reads expressions and templates with minijinja's parser and keeps the part of the language that is allowed.
//!
//! This is the only file that knows minijinja. Its parser recurses, so the number of tokens is bounded first.

use std::ops::Range;

use minijinja::machinery::{self, Token, ast};
use minijinja::syntax::SyntaxConfig;
use serde_json::Value;

use crate::expr::ast::{Args, Ast, AstNode, Choice, CompareOp, ForLoop, MathOp, Slice, Stmt};
use crate::expr::value::Params;
use crate::expr::{filters, functions, tests};
use crate::names::nearest;

/// Bytes of one expression.
const EXPRESSION_BYTES_MAX: usize = 4 * 1024;
/// Tokens of one expression.
const EXPRESSION_TOKENS_MAX: usize = 512;
/// Bytes of one template string.
const TEMPLATE_BYTES_MAX: usize = 64 * 1024;
/// Tokens of one template string.
const TEMPLATE_TOKENS_MAX: usize = 2_048;
/// How deep expressions and statements may nest.
const DEPTH_MAX: usize = 64;

/// What is wrong and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    pub(crate) message: String,
    pub(crate) at: Option<Range<usize>>,
}

type Lowered<T> = Result<T, SyntaxError>;

fn refuse<T>(at: Range<usize>, message: impl Into<String>) -> Lowered<T> {
    Err(SyntaxError { message: message.into(), at: Some(at) })
}

/// Parses one expression.
pub(crate) fn parse_expression(source: &str) -> Lowered<Ast> {
    if source.trim().is_empty() {
        return refuse(0..source.len(), "the expression is empty");
    }
    bound(source, true, (EXPRESSION_BYTES_MAX, EXPRESSION_TOKENS_MAX))?;
    let parsed = machinery::parse_expr(source).map_err(from_minijinja)?;
    lower(&parsed, source, DEPTH_MAX)
}

/// Parses a template string.
pub(crate) fn parse_template(source: &str) -> Lowered<Vec<Stmt>> {
    bound(source, false, (TEMPLATE_BYTES_MAX, TEMPLATE_TOKENS_MAX))?;
    let parsed = machinery::parse(source, "template", template_syntax()).map_err(from_minijinja)?;
    match &parsed {
        ast::Stmt::Template(template) => lower_body(&template.children, source, DEPTH_MAX),
        _ => refuse(0..source.len(), "not a template"),
    }
}

/// Blocks stand alone on their lines without leaving blank lines; a final line break is kept.
fn template_syntax() -> SyntaxConfig {
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true);
    syntax.build().unwrap_or_default()
}

fn bound(source: &str, in_expression: bool, (bytes_max, tokens_max): (usize, usize)) -> Lowered<()> {
    if source.len() > bytes_max {
        let message = format!("too long: {} bytes, at most {bytes_max} are allowed", source.len());
        return refuse(0..source.len(), message);
    }
    let tokens = machinery::tokenize(source, in_expression, template_syntax());
    let (mut n_tokens, mut n_open) = (0, 0_usize);
    for token in tokens {
        let (token, span) = token.map_err(from_minijinja)?;
        n_tokens += usize::from(!matches!(token, Token::TemplateData(_)));
        match token {
            Token::ParenOpen | Token::BracketOpen | Token::BraceOpen => n_open += 1,
            Token::ParenClose | Token::BracketClose | Token::BraceClose => n_open = n_open.saturating_sub(1),
            _ => {}
        }
        // Before the parser sees it: its own bound is deeper than the stack of a worker thread.
        if n_open > DEPTH_MAX {
            let at = span.start_offset as usize..span.end_offset as usize;
            return refuse(at, format!("nested deeper than {DEPTH_MAX} levels"));
        }
        if n_tokens > tokens_max {
            let at = span.start_offset as usize..span.end_offset as usize;
            return refuse(at, format!("too complicated: more than {tokens_max} words and symbols"));
        }
    }
    Ok(())
}

fn from_minijinja(error: minijinja::Error) -> SyntaxError {
    let message = error.detail().map_or_else(|| error.to_string(), str::to_owned);
    SyntaxError { message, at: error.range() }
}

fn range(span: machinery::Span) -> Range<usize> {
    span.start_offset as usize..(span.end_offset as usize).max(span.start_offset as usize)
}

fn join(left: &Range<usize>, right: &Range<usize>) -> Range<usize> {
    left.start.min(right.start)..left.end.max(right.end)
}

fn lower_body(body: &[ast::Stmt<'_>], source: &str, depth: usize) -> Lowered<Vec<Stmt>> {
    if depth == 0 {
        return refuse(0..source.len(), format!("nested deeper than {DEPTH_MAX} levels"));
    }
    body.iter().map(|stmt| lower_stmt(stmt, source, depth - 1)).collect()
}

fn lower_stmt(stmt: &ast::Stmt<'_>, source: &str, depth: usize) -> Lowered<Stmt> {
    let (at, what) = match stmt {
        ast::Stmt::EmitRaw(raw) => return Ok(Stmt::Raw(raw.raw.to_owned())),
        ast::Stmt::EmitExpr(emit) => return Ok(Stmt::Emit(lower(&emit.expr, source, depth)?)),
        ast::Stmt::IfCond(cond) => {
            return Ok(Stmt::If(
                lower(&cond.expr, source, depth)?,
                lower_body(&cond.true_body, source, depth)?,
                lower_body(&cond.false_body, source, depth)?,
            ));
        }
        ast::Stmt::ForLoop(each) => return lower_for(each, source, depth),
        ast::Stmt::Set(set) => {
            let names = targets(&set.target, source)?;
            let [name] = names.as_slice() else {
                return refuse(range(set.span()), "`set` assigns one name");
            };
            return Ok(Stmt::Set(name.clone(), lower(&set.expr, source, depth)?));
        }
        ast::Stmt::Template(inner) => (inner.span(), "template"),
        ast::Stmt::WithBlock(inner) => (inner.span(), "with"),
        ast::Stmt::SetBlock(inner) => (inner.span(), "set block"),
        ast::Stmt::AutoEscape(inner) => (inner.span(), "autoescape"),
        ast::Stmt::FilterBlock(inner) => (inner.span(), "filter block"),
        ast::Stmt::Block(inner) => (inner.span(), "block"),
        ast::Stmt::Import(inner) => (inner.span(), "import"),
        ast::Stmt::FromImport(inner) => (inner.span(), "from"),
        ast::Stmt::Extends(inner) => (inner.span(), "extends"),
        ast::Stmt::Include(inner) => (inner.span(), "include"),
        ast::Stmt::Macro(inner) => (inner.span(), "macro"),
        ast::Stmt::CallBlock(inner) => (inner.span(), "call"),
        ast::Stmt::Continue(inner) => (inner.span(), "continue"),
        ast::Stmt::Break(inner) => (inner.span(), "break"),
        ast::Stmt::Do(inner) => (inner.span(), "do"),
    };
    refuse(range(at), format!("`{what}` is not available in graph templates; `if`, `for` and `set` are"))
}

fn lower_for(each: &ast::ForLoop<'_>, source: &str, depth: usize) -> Lowered<Stmt> {
    let over = lower(&each.iter, source, depth)?;
    if each.recursive {
        return refuse(over.at, "recursive loops are not available in graph templates");
    }
    Ok(Stmt::For(Box::new(ForLoop {
        targets: targets(&each.target, source)?,
        over,
        keep: each.filter_expr.as_ref().map(|keep| lower(keep, source, depth)).transpose()?,
        body: lower_body(&each.body, source, depth)?,
        otherwise: lower_body(&each.else_body, source, depth)?,
    })))
}

/// The names an assignment binds.
fn targets(target: &ast::Expr<'_>, source: &str) -> Lowered<Vec<String>> {
    let items = match target {
        ast::Expr::Var(var) => return Ok(vec![var.id.to_owned()]),
        ast::Expr::List(list) => &list.items,
        ast::Expr::Tuple(tuple) => &tuple.items,
        other => return refuse(range(other.span()), "only plain names can be assigned"),
    };
    let mut names = Vec::with_capacity(items.len());
    for item in items {
        match item {
            ast::Expr::Var(var) => names.push(var.id.to_owned()),
            other => return refuse(range(other.span()), "only plain names can be assigned"),
        }
    }
    if names.is_empty() { refuse(0..source.len(), "no name to assign") } else { Ok(names) }
}

fn lower(expr: &ast::Expr<'_>, source: &str, depth: usize) -> Lowered<Ast> {
    let at = range(expr.span());
    let Some(depth) = depth.checked_sub(1) else {
        return refuse(at, format!("nested deeper than {DEPTH_MAX} levels"));
    };
    let one = |expr: &ast::Expr<'_>| lower(expr, source, depth);
    let boxed = |expr: &ast::Expr<'_>| one(expr).map(Box::new);
    let many = |items: &[ast::Expr<'_>]| items.iter().map(one).collect::<Lowered<Vec<Ast>>>();
    let node = match expr {
        ast::Expr::Var(var) => AstNode::Var(var.id.to_owned()),
        ast::Expr::Const(constant) => AstNode::Const(constant_value(&constant.value, &at)?),
        ast::Expr::Slice(slice) => {
            let part = |part: &Option<ast::Expr<'_>>| part.as_ref().map(one).transpose();
            let (start, stop, step) = (part(&slice.start)?, part(&slice.stop)?, part(&slice.step)?);
            AstNode::Slice(Box::new(Slice { of: one(&slice.expr)?, start, stop, step }))
        }
        ast::Expr::UnaryOp(op) => match op.op {
            ast::UnaryOpKind::Not => AstNode::Not(boxed(&op.expr)?),
            ast::UnaryOpKind::Neg => negated(one(&op.expr)?),
        },
        ast::Expr::BinOp(op) => binary(op.op, one(&op.left)?, one(&op.right)?),
        ast::Expr::Compare(compare) => {
            let rest = compare.ops.iter().map(|op| Ok((compare_op(op.op), one(&op.expr)?)));
            AstNode::Compare(boxed(&compare.expr)?, rest.collect::<Lowered<Vec<_>>>()?)
        }
        ast::Expr::IfExpr(choice) => AstNode::If(Box::new(Choice {
            test: one(&choice.test_expr)?,
            yes: one(&choice.true_expr)?,
            no: choice.false_expr.as_ref().map(one).transpose()?,
        })),
        ast::Expr::Filter(filter) => {
            let Some(of) = &filter.expr else { return refuse(at, "a filter needs a value before `|`") };
            let found =
                filters::find(filter.name).ok_or_else(|| unknown("filter", filter.name, &at, filters::names()))?;
            AstNode::Filter(found, boxed(of)?, lower_args(&filter.args, &found.params, &at, (source, depth))?)
        }
        ast::Expr::Test(test) => {
            let found = tests::find(test.name).ok_or_else(|| unknown("test", test.name, &at, tests::names()))?;
            AstNode::Test(found, boxed(&test.expr)?, lower_args(&test.args, &found.params, &at, (source, depth))?)
        }
        ast::Expr::GetAttr(attr) => AstNode::Attr(boxed(&attr.expr)?, attr.name.to_owned()),
        ast::Expr::GetItem(item) => AstNode::Item(boxed(&item.expr)?, boxed(&item.subscript_expr)?),
        ast::Expr::Call(call) => return lower_call(call, source, depth),
        ast::Expr::List(list) => AstNode::List(many(&list.items)?),
        ast::Expr::Tuple(tuple) => AstNode::List(many(&tuple.items)?),
        ast::Expr::Map(map) => {
            let pairs = map.keys.iter().zip(&map.values).map(|(key, value)| Ok((one(key)?, one(value)?)));
            AstNode::Map(pairs.collect::<Lowered<Vec<_>>>()?)
        }
    };
    Ok(placed(at, node))
}

/// minijinja's spans of operators and attributes leave out the left side; ours cover the whole expression.
fn placed(at: Range<usize>, node: AstNode) -> Ast {
    let own = if matches!(node, AstNode::If(_)) { None } else { Some(at.clone()) };
    let mut ast = Ast { at, node };
    let mut covered = own;
    crate::expr::ast::each_child(&ast, &mut |child| {
        covered = Some(covered.as_ref().map_or_else(|| child.at.clone(), |range| join(range, &child.at)));
    });
    if let Some(covered) = covered {
        ast.at = covered;
    }
    ast
}

/// `-1` is a constant, so that it can be seen as one by the checks.
fn negated(of: Ast) -> AstNode {
    if let AstNode::Const(Value::Number(number)) = &of.node {
        if let Some(negative) = number.as_i64().and_then(i64::checked_neg) {
            return AstNode::Const(Value::from(negative));
        }
        if let (true, Some(float)) = (number.is_f64(), number.as_f64()) {
            return AstNode::Const(Value::from(-float));
        }
    }
    AstNode::Neg(Box::new(of))
}

fn binary(op: ast::BinOpKind, left: Ast, right: Ast) -> AstNode {
    let (left, compare) = (Box::new(left), |op, left: Box<Ast>, right| AstNode::Compare(left, vec![(op, right)]));
    let math = match op {
        ast::BinOpKind::ScAnd => return AstNode::And(left, Box::new(right)),
        ast::BinOpKind::ScOr => return AstNode::Or(left, Box::new(right)),
        ast::BinOpKind::Eq => return compare(CompareOp::Eq, left, right),
        ast::BinOpKind::Ne => return compare(CompareOp::Ne, left, right),
        ast::BinOpKind::Lt => return compare(CompareOp::Lt, left, right),
        ast::BinOpKind::Lte => return compare(CompareOp::Lte, left, right),
        ast::BinOpKind::Gt => return compare(CompareOp::Gt, left, right),
        ast::BinOpKind::Gte => return compare(CompareOp::Gte, left, right),
        ast::BinOpKind::In => return compare(CompareOp::In, left, right),
        ast::BinOpKind::Add => MathOp::Add,
        ast::BinOpKind::Sub => MathOp::Sub,
        ast::BinOpKind::Mul => MathOp::Mul,
        ast::BinOpKind::Div => MathOp::Div,
        ast::BinOpKind::FloorDiv => MathOp::FloorDiv,
        ast::BinOpKind::Rem => MathOp::Rem,
        ast::BinOpKind::Pow => MathOp::Pow,
        ast::BinOpKind::Concat => MathOp::Concat,
    };
    AstNode::Math(math, left, Box::new(right))
}

fn compare_op(op: ast::CompareOpKind) -> CompareOp {
    match op {
        ast::CompareOpKind::Eq => CompareOp::Eq,
        ast::CompareOpKind::Ne => CompareOp::Ne,
        ast::CompareOpKind::Lt => CompareOp::Lt,
        ast::CompareOpKind::Lte => CompareOp::Lte,
        ast::CompareOpKind::Gt => CompareOp::Gt,
        ast::CompareOpKind::Gte => CompareOp::Gte,
        ast::CompareOpKind::In => CompareOp::In,
        ast::CompareOpKind::NotIn => CompareOp::NotIn,
    }
}

fn lower_call(call: &ast::Spanned<ast::Call<'_>>, source: &str, depth: usize) -> Lowered<Ast> {
    let callee = range(call.expr.span());
    let at = join(&callee, &range(call.span()));
    match &call.expr {
        ast::Expr::Var(var) => {
            let found =
                functions::find(var.id).ok_or_else(|| unknown("function", var.id, &callee, functions::names()))?;
            Ok(placed(at, AstNode::Call(found, lower_args(&call.args, &found.params, &callee, (source, depth))?)))
        }
        ast::Expr::GetAttr(attr) => {
            refuse(callee, format!("values have no methods; write `value | {}` if there is such a filter", attr.name))
        }
        _ => refuse(callee, "only functions can be called"),
    }
}

/// Puts arguments in the order of the parameters they are for.
fn lower_args(args: &[ast::CallArg<'_>], params: &Params, at: &Range<usize>, pass: (&str, usize)) -> Lowered<Args> {
    let (source, depth) = pass;
    let mut lowered = Args { slots: vec![None; params.positional.len() + params.named.len()], rest: Vec::new() };
    let mut n_positional = 0;
    for arg in args {
        match arg {
            ast::CallArg::Pos(expr) => {
                let value = lower(expr, source, depth)?;
                match lowered.slots.get_mut(n_positional).filter(|_| n_positional < params.positional.len()) {
                    Some(slot) => *slot = Some(value),
                    None if params.rest => lowered.rest.push(value),
                    None => return refuse(value.at, format!("too many arguments; {}", params.describe())),
                }
                n_positional += 1;
            }
            ast::CallArg::Kwarg(name, expr) => {
                let value = lower(expr, source, depth)?;
                match params.position(name).and_then(|ix| lowered.slots.get_mut(ix)) {
                    Some(slot @ None) => *slot = Some(value),
                    Some(_) => return refuse(value.at, format!("`{name}` is given twice")),
                    None => return refuse(value.at, format!("no parameter `{name}`; {}", params.describe())),
                }
            }
            ast::CallArg::PosSplat(expr) | ast::CallArg::KwargSplat(expr) => {
                return refuse(range(expr.span()), "`*` and `**` arguments are not available");
            }
        }
    }
    let missing = lowered.slots.iter().take(params.required).any(Option::is_none);
    if missing { refuse(at.clone(), format!("an argument is missing; {}", params.describe())) } else { Ok(lowered) }
}

fn constant_value(value: &minijinja::Value, at: &Range<usize>) -> Lowered<Value> {
    let too_large = || refuse(at.clone(), "the number does not fit in 64 bits");
    match serde_json::to_value(value) {
        Ok(Value::Number(number)) if number.is_u64() || number.is_i64() || number.is_f64() => Ok(Value::Number(number)),
        Ok(Value::Number(_)) | Err(_) => too_large(),
        Ok(Value::Null) if !value.is_none() => too_large(),
        Ok(other) => Ok(other),
    }
}

fn unknown<'n>(what: &str, name: &str, at: &Range<usize>, known: impl Iterator<Item = &'n str>) -> SyntaxError {
    let hint = nearest(name, known).first().map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
    SyntaxError { message: format!("unknown {what} `{name}`{hint}"), at: Some(at.clone()) }
}
