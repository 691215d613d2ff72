//! Evaluates expressions and templates over borrowed values.

use std::borrow::Cow;
use std::ops::Range;

use serde_json::{Map, Value};

use crate::expr::ast::{Args, Ast, AstNode, Choice, CompareOp, ForLoop, Slice, Stmt};
use crate::expr::filters::{Filter, Run as FilterRun};
use crate::expr::ops;
use crate::expr::scope::Scope;
use crate::expr::tests::{Run as TestRun, Test};
use crate::expr::value::{Given, Work, is_truthy, kind_of, write_text};

/// Steps of one round of a loop: its names and its `loop` variable are made anew.
const LOOP_STEPS: u64 = 16;

/// What went wrong and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EvalError {
    pub(crate) message: String,
    pub(crate) at: Range<usize>,
}

type Evaluated<T> = Result<T, EvalError>;

/// One evaluation: the names it sees, the work it has left, and the names its template has bound.
pub(crate) struct Eval<'s> {
    source: &'s str,
    scope: &'s dyn Scope,
    locals: Vec<(String, Value)>,
    work: &'s Work,
}

impl<'s> Eval<'s> {
    pub(crate) fn new(source: &'s str, scope: &'s dyn Scope, work: &'s Work) -> Eval<'s> {
        Eval { source, scope, locals: Vec::new(), work }
    }

    /// The value of an expression, paid for and owned.
    pub(crate) fn owned(&self, ast: &Ast) -> Evaluated<Value> {
        let value = self.value(ast)?;
        self.work.own(value).map_err(|message| at(ast, message))
    }

    /// The value of an expression that must exist.
    pub(crate) fn value<'e>(&'e self, ast: &'e Ast) -> Evaluated<Cow<'e, Value>> {
        match self.maybe(ast, Missing::Stops)? {
            Some(value) => Ok(value),
            None => Err(at(ast, format!("`{}` is not defined", self.text(ast)))),
        }
    }

    fn text(&self, ast: &Ast) -> &str {
        self.source.get(ast.at.clone()).unwrap_or("this").trim()
    }

    /// The value of an expression; `None` if it names something that is not there.
    fn maybe<'e>(&'e self, ast: &'e Ast, missing: Missing) -> Evaluated<Option<Cow<'e, Value>>> {
        self.work.spend(1).map_err(|message| at(ast, message))?;
        let own = |result: Result<Value, String>| match result {
            Ok(value) => Ok(Some(Cow::Owned(value))),
            Err(message) => Err(at(ast, message)),
        };
        match &ast.node {
            AstNode::Const(value) => Ok(Some(Cow::Borrowed(value))),
            AstNode::Var(name) => Ok(self.lookup(name).map(Cow::Borrowed)),
            AstNode::Attr(of, name) => {
                let of = self.container(of, missing)?;
                Ok(of.and_then(|of| attribute(of, name)))
            }
            AstNode::Item(of, key) => {
                let of = self.container(of, missing)?;
                let key = self.value(key)?;
                Ok(of.and_then(|of| ops::item(of, &key)))
            }
            AstNode::Slice(slice) => own(self.slice(slice)?),
            AstNode::Not(of) => own(Ok(Value::Bool(!self.truth(of)?))),
            AstNode::Neg(of) => own(ops::negate(&*self.value(of)?)),
            AstNode::And(left, right) => {
                let left = self.value(left)?;
                if is_truthy(&left) { self.value(right).map(Some) } else { Ok(Some(left)) }
            }
            AstNode::Or(left, right) => {
                let left = self.value(left)?;
                if is_truthy(&left) { Ok(Some(left)) } else { self.value(right).map(Some) }
            }
            AstNode::Math(op, left, right) => own(ops::math(*op, &*self.value(left)?, &*self.value(right)?, self.work)),
            AstNode::Compare(first, rest) => own(Ok(Value::Bool(self.compare(first, rest)?))),
            AstNode::If(choice) => self.choose(choice, missing),
            AstNode::Filter(filter, of, args) => self.filter(ast, filter, of, args),
            AstNode::Test(test, of, args) => own(Ok(Value::Bool(self.test(ast, test, of, args)?))),
            AstNode::Call(function, args) => own((function.run)(self.work, self.given(args)?)),
            AstNode::List(items) => {
                let items = items.iter().map(|item| self.owned(item));
                own(Ok(Value::Array(items.collect::<Evaluated<_>>()?)))
            }
            AstNode::Map(entries) => own(Ok(Value::Object(self.object(entries)?))),
        }
    }

    fn lookup(&self, name: &str) -> Option<&Value> {
        let local = self.locals.iter().rev().find(|(local, _)| local == name).map(|(_, value)| value);
        local.or_else(|| self.scope.get(name))
    }

    /// What an attribute is taken of. Under `default` and `is defined` a missing parent is a missing child.
    fn container<'e>(&'e self, of: &'e Ast, missing: Missing) -> Evaluated<Option<Cow<'e, Value>>> {
        match missing {
            Missing::Spreads => self.maybe(of, missing),
            Missing::Stops => self.value(of).map(Some),
        }
    }

    /// Whether an expression counts as true.
    fn truth(&self, ast: &Ast) -> Evaluated<bool> {
        self.value(ast).map(|value| is_truthy(&value))
    }

    fn compare(&self, first: &Ast, rest: &[(CompareOp, Ast)]) -> Evaluated<bool> {
        let mut left = self.value(first)?;
        for (op, right_ast) in rest {
            let right = self.value(right_ast)?;
            let place = first.at.start..right_ast.at.end;
            let holds = ops::compare(*op, &left, &right, self.work);
            if !holds.map_err(|message| EvalError { message, at: place })? {
                return Ok(false);
            }
            left = right;
        }
        Ok(true)
    }

    fn choose<'e>(&'e self, choice: &'e Choice, missing: Missing) -> Evaluated<Option<Cow<'e, Value>>> {
        if self.truth(&choice.test)? {
            return self.maybe(&choice.yes, missing);
        }
        match &choice.no {
            Some(no) => self.maybe(no, missing),
            None => Err(at(&choice.test, "the condition is false and there is no `else`".to_owned())),
        }
    }

    fn slice(&self, slice: &Slice) -> Evaluated<Result<Value, String>> {
        let of = self.value(&slice.of)?;
        let bound = |part: &Option<Ast>| -> Evaluated<Option<i64>> {
            let Some(part) = part else { return Ok(None) };
            let value = self.value(part)?;
            match (&*value, value.as_i64()) {
                (Value::Null, _) => Ok(None),
                (_, Some(bound)) => Ok(Some(bound)),
                (other, None) => Err(at(part, format!("a slice needs whole numbers, not {}", kind_of(other)))),
            }
        };
        Ok(ops::slice(&of, [bound(&slice.start)?, bound(&slice.stop)?, bound(&slice.step)?], self.work))
    }

    fn object(&self, entries: &[(Ast, Ast)]) -> Evaluated<Map<String, Value>> {
        let mut object = Map::new();
        for (key_ast, value) in entries {
            let Value::String(key) = self.owned(key_ast)? else {
                return Err(at(key_ast, "the key of an object must be text".to_owned()));
            };
            object.insert(key, self.owned(value)?);
        }
        Ok(object)
    }

    fn given<'e>(&'e self, args: &'e Args) -> Evaluated<Given<'e>> {
        let slots = args.slots.iter().map(|slot| slot.as_ref().map(|arg| self.value(arg)).transpose());
        let rest = args.rest.iter().map(|arg| self.value(arg));
        Ok(Given { slots: slots.collect::<Evaluated<_>>()?, rest: rest.collect::<Evaluated<_>>()? })
    }

    fn filter<'e>(
        &'e self,
        ast: &'e Ast,
        filter: &'static Filter,
        of: &'e Ast,
        args: &'e Args,
    ) -> Evaluated<Option<Cow<'e, Value>>> {
        let value = match filter.run {
            FilterRun::Default => return self.default(of, args),
            FilterRun::Item(run) => {
                return run(self.value(of)?).map_err(|message| at(ast, format!("`{}`: {message}", filter.name)));
            }
            FilterRun::Value(run) => run(self.work, self.value(of)?, self.given(args)?),
        };
        value.map(Some).map_err(|message| at(ast, format!("`{}`: {message}", filter.name)))
    }

    /// `value | default(other)`: the other value if there is none, or, if asked, if it counts as false.
    fn default<'e>(&'e self, of: &'e Ast, args: &'e Args) -> Evaluated<Option<Cow<'e, Value>>> {
        let slot = |ix: usize| args.slots.get(ix).and_then(Option::as_ref);
        let also_false = slot(1).map_or(Ok(false), |flag| self.truth(flag))?;
        match self.maybe(of, Missing::Spreads)? {
            Some(value) if !also_false || is_truthy(&value) => Ok(Some(value)),
            _ => match slot(0) {
                Some(other) => self.value(other).map(Some),
                None => Ok(Some(Cow::Owned(Value::String(String::new())))),
            },
        }
    }

    fn test(&self, ast: &Ast, test: &'static Test, of: &Ast, args: &Args) -> Evaluated<bool> {
        match test.run {
            TestRun::Defined(wanted) => Ok(self.maybe(of, Missing::Spreads)?.is_some() == wanted),
            TestRun::Value(run) => {
                let value = self.value(of)?;
                run(self.work, &value, self.given(args)?)
                    .map_err(|message| at(ast, format!("`is {}`: {message}", test.name)))
            }
        }
    }

    /// Writes the text of a template.
    pub(crate) fn body(&mut self, body: &[Stmt], out: &mut String) -> Evaluated<()> {
        for stmt in body {
            match stmt {
                Stmt::Raw(raw) => {
                    self.pay(raw.len())?;
                    out.push_str(raw);
                }
                Stmt::Emit(ast) => {
                    let value = self.value(ast)?;
                    write_text(&value, out, self.work).map_err(|message| at(ast, message))?;
                }
                Stmt::If(test, yes, no) => {
                    let branch = if self.truth(test)? { yes } else { no };
                    self.body(branch, out)?;
                }
                Stmt::For(each) => self.each(each, out)?,
                Stmt::Set(name, ast) => {
                    let value = self.owned(ast)?;
                    self.bind(name, value);
                }
            }
        }
        Ok(())
    }

    fn pay(&self, n_bytes: usize) -> Evaluated<()> {
        self.work.spend_bytes(n_bytes).map_err(|message| EvalError { message, at: 0..self.source.len() })
    }

    fn bind(&mut self, name: &str, value: Value) {
        match self.locals.iter_mut().find(|(local, _)| local == name) {
            Some((_, slot)) => *slot = value,
            None => self.locals.push((name.to_owned(), value)),
        }
    }

    fn each(&mut self, each: &ForLoop, out: &mut String) -> Evaluated<()> {
        let items = match self.owned(&each.over)? {
            Value::Array(items) => items,
            Value::Object(fields) => fields.into_iter().map(|(key, _)| Value::String(key)).collect(),
            other => return Err(at(&each.over, format!("cannot loop over {}", kind_of(&other)))),
        };
        let items = match &each.keep {
            Some(keep) => self.kept(each, keep, items)?,
            None => items,
        };
        if items.is_empty() {
            return self.body(&each.otherwise, out);
        }
        let outer = std::mem::take(&mut self.locals);
        let n_items = items.len();
        for (ix, item) in items.into_iter().enumerate() {
            self.locals.clone_from(&outer);
            self.work.spend(LOOP_STEPS + outer.len() as u64).map_err(|message| at(&each.over, message))?;
            self.bind_targets(each, item)?;
            self.bind("loop", loop_value(ix, n_items));
            self.body(&each.body, out)?;
        }
        self.locals = outer;
        Ok(())
    }

    /// The items for which the condition of the loop holds.
    fn kept(&mut self, each: &ForLoop, keep: &Ast, items: Vec<Value>) -> Evaluated<Vec<Value>> {
        let outer = self.locals.clone();
        let mut kept = Vec::new();
        for item in items {
            self.work.spend_value(&item).map_err(|message| at(&each.over, message))?;
            self.bind_targets(each, item.clone())?;
            if self.truth(keep)? {
                kept.push(item);
            }
        }
        self.locals = outer;
        Ok(kept)
    }

    fn bind_targets(&mut self, each: &ForLoop, item: Value) -> Evaluated<()> {
        if let [name] = each.targets.as_slice() {
            self.bind(name, item);
            return Ok(());
        }
        match item {
            Value::Array(parts) if parts.len() == each.targets.len() => {
                for (name, part) in each.targets.iter().zip(parts) {
                    self.bind(name, part);
                }
                Ok(())
            }
            _ => Err(at(&each.over, format!("an item is not a list of {} values", each.targets.len()))),
        }
    }
}

/// What a missing name does to the expression around it.
#[derive(Debug, Clone, Copy)]
enum Missing {
    /// It is an error.
    Stops,
    /// Everything taken from it is missing too.
    Spreads,
}

fn at(ast: &Ast, message: String) -> EvalError {
    EvalError { message, at: ast.at.clone() }
}

fn attribute<'e>(of: Cow<'e, Value>, name: &str) -> Option<Cow<'e, Value>> {
    match of {
        Cow::Borrowed(of) => of.get(name).map(Cow::Borrowed),
        Cow::Owned(Value::Object(mut fields)) => fields.remove(name).map(Cow::Owned),
        Cow::Owned(_) => None,
    }
}

/// The `loop` variable.
fn loop_value(ix: usize, n_items: usize) -> Value {
    serde_json::json!({
        "index": ix + 1,
        "index0": ix,
        "first": ix == 0,
        "last": ix + 1 == n_items,
        "length": n_items,
    })
}
