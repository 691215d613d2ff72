//! Static types of expressions, as far as schemas and reducers tell them.
//!
//! A type is a set of kinds and, for objects and lists, the schema that describes their parts. What is not known
//! may be anything, so only what can never work is a problem.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{BitOr, Range};

use serde_json::Value;

use crate::compiled::Merge;
use crate::expr::ast::{Args, Ast, AstNode, CompareOp, MathOp, Stmt, each_child};
use crate::expr::filters::{Filter, Gives, Run};
use crate::expr::kinds::{Kinds, Placed, Type};
pub(crate) use crate::expr::kinds::{may_be_list, may_have_field};
use crate::expr::template::Code;
use crate::names::nearest;
use crate::spec::{ChannelSpec, GraphSpec};
use crate::uses::Wanted;

/// Characters of an expression that a message shows.
const SHOWN_CHARS_MAX: usize = 40;

/// Something in an expression that can never work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) at: Range<usize>,
    pub(crate) message: String,
    pub(crate) candidates: Vec<String>,
}

/// The types of the names in scope.
pub(crate) struct Types<'s> {
    names: BTreeMap<&'s str, Type<'s>>,
    writes: BTreeMap<&'s str, Kinds>,
}

impl<'s> Types<'s> {
    pub(crate) fn new(spec: &'s GraphSpec) -> Types<'s> {
        let mut types = Types { names: BTreeMap::new(), writes: BTreeMap::new() };
        for channel in &spec.channels {
            types.names.insert(&channel.name.text, read_type(channel));
            types.writes.insert(&channel.name.text, written_kinds(channel));
        }
        if let Some(input) = &spec.input {
            let json = input.schema.json();
            types.names.insert("input", Type::of_schema(json, json));
        }
        types.names.insert("step", Type::of_kinds(Kinds::NUMBER));
        types.names.insert("attempt", Type::of_kinds(Kinds::NUMBER));
        types
    }

    /// The problems of an expression.
    pub(crate) fn check(&self, source: &str, ast: &Ast, wanted: Wanted<'_>, hidden: &BTreeSet<&str>) -> Vec<Problem> {
        let mut check = self.start(source, hidden);
        let found = check.infer(ast);
        check.wanted(ast, found, wanted);
        check.problems
    }

    /// The problems of a string with expressions.
    pub(crate) fn check_code(&self, code: &Code, wanted: Wanted<'_>, hidden: &BTreeSet<&str>) -> Vec<Problem> {
        match code {
            Code::Value(expr) => self.check(expr.source(), expr.ast(), wanted, hidden),
            Code::Text(_) => {
                let mut check = self.start(code.source(), hidden);
                check.body(code.body());
                check.problems
            }
        }
    }

    fn start<'c>(&'c self, source: &'c str, hidden: &BTreeSet<&str>) -> Check<'c, 's> {
        let hidden = hidden.iter().map(|name| (*name).to_owned()).collect();
        Check { types: self, source, hidden, problems: Vec::new() }
    }

    fn wanted_kinds(&self, wanted: Wanted<'_>) -> (Kinds, String) {
        match wanted {
            Wanted::Anything => (Kinds::ANY, String::new()),
            Wanted::Bool => (Kinds::BOOL, "must be true or false".to_owned()),
            Wanted::Number => (Kinds::NUMBER, "must be a number".to_owned()),
            Wanted::List => (Kinds::LIST, "must be a list".to_owned()),
            Wanted::Moment => (Kinds::NUMBER | Kinds::TEXT, "must be a timestamp".to_owned()),
            Wanted::Channel(name) => {
                let kinds = self.writes.get(name).copied().unwrap_or(Kinds::ANY);
                (kinds, format!("is written to the channel `{name}`, which takes {}", kinds.describe()))
            }
        }
    }
}

/// What a channel holds.
fn read_type(channel: &ChannelSpec) -> Type<'_> {
    let schema = channel.schema.as_ref().map(|schema| schema.schema.json());
    let by_schema = schema.map_or(Type::ANY, |json| Type::of_schema(json, json));
    let by_merge = match channel.merge {
        Merge::Append | Merge::Union { .. } | Merge::Messages => Kinds::LIST,
        Merge::Deep => Kinds::OBJECT,
        Merge::Sum | Merge::Min | Merge::Max => Kinds::NUMBER,
        Merge::Replace | Merge::Last | Merge::Ephemeral | Merge::Untracked => return by_schema,
    };
    if by_schema.kinds.meets(by_merge) { Type { kinds: by_merge, ..by_schema } } else { Type::of_kinds(by_merge) }
}

/// What can be written to a channel. Lists take lists and single items.
fn written_kinds(channel: &ChannelSpec) -> Kinds {
    match channel.merge {
        Merge::Append | Merge::Union { .. } | Merge::Messages => Kinds::ANY,
        _ => read_type(channel).kinds,
    }
}

/// The check of one expression or template.
struct Check<'c, 's> {
    types: &'c Types<'s>,
    source: &'c str,
    /// Names whose type is not known here, whatever channel has the same name.
    hidden: Vec<String>,
    problems: Vec<Problem>,
}

impl<'s> Check<'_, 's> {
    fn problem(&mut self, ast: &Ast, message: String) {
        self.problems.push(Problem { at: ast.at.clone(), message, candidates: Vec::new() });
    }

    fn shown(&self, ast: &Ast) -> String {
        let text = self.source.get(ast.at.clone()).unwrap_or("this").trim();
        match text.char_indices().nth(SHOWN_CHARS_MAX) {
            Some((cut, _)) => format!("`{}…`", text.get(..cut).unwrap_or("")),
            None => format!("`{text}`"),
        }
    }

    fn wanted(&mut self, ast: &Ast, found: Type<'s>, wanted: Wanted<'_>) {
        let (kinds, what) = self.types.wanted_kinds(wanted);
        if !found.kinds.meets(kinds) {
            let message = format!("{} {what}, but it is {}", self.shown(ast), found.kinds.describe());
            self.problem(ast, message);
        }
    }

    fn infer(&mut self, ast: &Ast) -> Type<'s> {
        match &ast.node {
            AstNode::Const(value) => Type::of_kinds(Kinds::of(value)),
            AstNode::Var(name) if self.hidden.contains(name) => Type::ANY,
            AstNode::Var(name) => self.types.names.get(name.as_str()).copied().unwrap_or(Type::ANY),
            AstNode::Attr(of, name) => self.field(ast, of, name),
            AstNode::Item(of, key) => match &key.node {
                AstNode::Const(Value::String(name)) => self.field(ast, of, name),
                _ => self.item(of, key),
            },
            AstNode::Slice(slice) => self.infer(&slice.of),
            AstNode::Not(of) => {
                self.infer(of);
                Type::of_kinds(Kinds::BOOL)
            }
            AstNode::Neg(of) => self.number(ast, of),
            AstNode::And(left, right) | AstNode::Or(left, right) => {
                let left = self.infer(left);
                left.or(self.infer(right))
            }
            AstNode::Math(op, left, right) => self.math(ast, *op, left, right),
            AstNode::Compare(first, rest) => self.compare(first, rest),
            AstNode::If(choice) => {
                self.infer(&choice.test);
                let yes = self.infer(&choice.yes);
                choice.no.as_ref().map_or(yes, |no| yes.or(self.infer(no)))
            }
            AstNode::Filter(filter, of, args) => self.filter(filter, of, args),
            AstNode::Test(..) => self.parts(ast, Kinds::BOOL),
            AstNode::Call(..) | AstNode::List(_) => self.parts(ast, Kinds::LIST),
            AstNode::Map(_) => self.parts(ast, Kinds::OBJECT),
        }
    }

    /// Checks the parts of an expression that always gives the same kind.
    fn parts(&mut self, ast: &Ast, kinds: Kinds) -> Type<'s> {
        each_child(ast, &mut |child| {
            self.infer(child);
        });
        Type::of_kinds(kinds)
    }

    fn field(&mut self, ast: &Ast, of: &Ast, name: &str) -> Type<'s> {
        let owner = self.infer(of);
        if !owner.kinds.meets(Kinds::OBJECT) {
            let message = format!("{} is {} and has no field `{name}`", self.shown(of), owner.kinds.describe());
            self.problem(ast, message);
            return Type::ANY;
        }
        let Some(schema) = owner.schema else { return Type::ANY };
        schema.field(name).unwrap_or_else(|| {
            let known = schema.properties().into_iter().flat_map(|properties| properties.keys().map(String::as_str));
            let problem = Problem {
                at: ast.at.clone(),
                message: format!("{} has no field `{name}`: its schema allows no other fields", self.shown(of)),
                candidates: nearest(name, known),
            };
            self.problems.push(problem);
            Type::ANY
        })
    }

    fn item(&mut self, of: &Ast, key: &Ast) -> Type<'s> {
        let owner = self.infer(of);
        self.infer(key);
        if !owner.kinds.meets(Kinds::OBJECT | Kinds::LIST | Kinds::TEXT) {
            let message = format!("{} is {} and has no items", self.shown(of), owner.kinds.describe());
            self.problem(of, message);
        }
        match owner.schema {
            Some(schema) if owner.kinds == Kinds::LIST => schema.item(),
            _ => Type::ANY,
        }
    }

    fn number(&mut self, ast: &Ast, of: &Ast) -> Type<'s> {
        let found = self.infer(of);
        if !found.kinds.meets(Kinds::NUMBER) {
            let message = format!("`-` needs a number, but {} is {}", self.shown(of), found.kinds.describe());
            self.problem(ast, message);
        }
        Type::of_kinds(Kinds::NUMBER)
    }

    fn math(&mut self, ast: &Ast, op: MathOp, left: &Ast, right: &Ast) -> Type<'s> {
        let (l, r) = (self.infer(left).kinds, self.infer(right).kinds);
        let repeated = Kinds::TEXT | Kinds::LIST;
        let result = match op {
            MathOp::Concat => return Type::of_kinds(Kinds::TEXT),
            MathOp::Add => l & r & (Kinds::NUMBER | repeated),
            MathOp::Mul => {
                let numbers = l & r & Kinds::NUMBER;
                let left = if r.meets(Kinds::NUMBER) { l & repeated } else { Kinds::NONE };
                let right = if l.meets(Kinds::NUMBER) { r & repeated } else { Kinds::NONE };
                numbers | left | right
            }
            _ => l & r & Kinds::NUMBER,
        };
        if result == Kinds::NONE {
            let message = format!("`{}` does not work on {} and {}", op.symbol(), l.describe(), r.describe());
            self.problem(ast, message);
            return Type::ANY;
        }
        Type::of_kinds(result)
    }

    fn compare(&mut self, first: &Ast, rest: &[(CompareOp, Ast)]) -> Type<'s> {
        let (mut left_ast, mut left) = (first, self.infer(first));
        for (op, right_ast) in rest {
            let right = self.infer(right_ast);
            if let Some(message) = self.mismatch(*op, (left_ast, left), (right_ast, right)) {
                let at = left_ast.at.start..right_ast.at.end;
                self.problems.push(Problem { at, message, candidates: Vec::new() });
            }
            self.check_word(*op, left, right_ast);
            self.check_word(*op, right, left_ast);
            (left_ast, left) = (right_ast, right);
        }
        Type::of_kinds(Kinds::BOOL)
    }

    fn mismatch(&self, op: CompareOp, (la, l): (&Ast, Type<'s>), (ra, r): (&Ast, Type<'s>)) -> Option<String> {
        let is_null = |ast: &Ast| matches!(ast.node, AstNode::Const(Value::Null));
        let sides =
            || format!("{} is {}, {} is {}", self.shown(la), l.kinds.describe(), self.shown(ra), r.kinds.describe());
        match op {
            CompareOp::Eq | CompareOp::Ne => {
                let never = !l.kinds.meets(r.kinds) && !is_null(la) && !is_null(ra);
                never.then(|| format!("the two sides of `{}` can never be equal: {}", op.symbol(), sides()))
            }
            CompareOp::In | CompareOp::NotIn => {
                let holds = r.kinds.meets(Kinds::LIST | Kinds::OBJECT) || (r.kinds & l.kinds).meets(Kinds::TEXT);
                let items = list_kinds(ra);
                let never = items.is_some_and(|items| !items.meets(l.kinds));
                (!holds || never).then(|| format!("`{}` can never find it: {}", op.symbol(), sides()))
            }
            CompareOp::Lt | CompareOp::Lte | CompareOp::Gt | CompareOp::Gte => {
                let ordered = Kinds::NUMBER | Kinds::TEXT | Kinds::BOOL | Kinds::LIST;
                let never = !(l.kinds & r.kinds).meets(ordered);
                never.then(|| format!("`{}` cannot compare them: {}", op.symbol(), sides()))
            }
        }
    }

    /// A word that an enumeration does not have can never be equal to its value.
    fn check_word(&mut self, op: CompareOp, of: Type<'s>, other: &Ast) {
        let words = of.schema.and_then(Placed::words);
        let constants: Vec<&Ast> = match (&other.node, op) {
            (AstNode::Const(_), CompareOp::Eq | CompareOp::Ne) => vec![other],
            (AstNode::List(items), CompareOp::In | CompareOp::NotIn) => items.iter().collect(),
            _ => return,
        };
        let Some(words) = words else { return };
        for constant in constants {
            let AstNode::Const(Value::String(word)) = &constant.node else { continue };
            if !words.contains(&word.as_str()) {
                self.problems.push(Problem {
                    at: constant.at.clone(),
                    message: format!("`{word}` is none of the values the schema allows: {}", words.join(", ")),
                    candidates: nearest(word, words.iter().copied()),
                });
            }
        }
    }

    fn filter(&mut self, filter: &'static Filter, of: &Ast, args: &Args) -> Type<'s> {
        let input = self.infer(of);
        let args: Vec<Type<'s>> = args.all().map(|arg| self.infer(arg)).collect();
        if matches!(filter.run, Run::Default) {
            return args.first().map_or(Type::ANY, |other| input.or(*other));
        }
        match filter.gives {
            Gives::Anything => Type::ANY,
            Gives::Bool => Type::of_kinds(Kinds::BOOL),
            Gives::Number => Type::of_kinds(Kinds::NUMBER),
            Gives::Text => Type::of_kinds(Kinds::TEXT),
            Gives::List => Type::of_kinds(Kinds::LIST),
            Gives::Same => input,
        }
    }

    fn body(&mut self, body: &[Stmt]) {
        for stmt in body {
            match stmt {
                Stmt::Raw(_) => {}
                Stmt::Emit(ast) => {
                    self.infer(ast);
                }
                Stmt::If(test, yes, no) => {
                    self.infer(test);
                    self.body(yes);
                    self.body(no);
                }
                Stmt::For(each) => {
                    let over = self.infer(&each.over);
                    if !over.kinds.meets(Kinds::LIST | Kinds::OBJECT) {
                        let message = format!("cannot loop over {}", over.kinds.describe());
                        self.problem(&each.over, message);
                    }
                    let outer = self.hidden.len();
                    self.hidden.extend(each.targets.iter().cloned());
                    each.keep.iter().for_each(|keep| {
                        self.infer(keep);
                    });
                    self.body(&each.body);
                    self.hidden.truncate(outer);
                    self.body(&each.otherwise);
                }
                Stmt::Set(name, ast) => {
                    self.infer(ast);
                    self.hidden.push(name.clone());
                }
            }
        }
    }
}

/// The kinds of the items of a list of constants.
fn list_kinds(ast: &Ast) -> Option<Kinds> {
    let AstNode::List(items) = &ast.node else { return None };
    let kinds = items.iter().map(|item| match &item.node {
        AstNode::Const(value) => Kinds::of(value),
        _ => Kinds::ANY,
    });
    Some(kinds.fold(Kinds::NONE, BitOr::bitor)).filter(|kinds| *kinds != Kinds::NONE)
}
