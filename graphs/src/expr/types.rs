//! Static types of expressions, as far as schemas and reducers tell them.
//!
//! A type is a set of kinds and, for objects and lists, the schema that describes their parts. What is not known
//! may be anything, so only what can never work is a problem.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{BitAnd, BitOr, Range};

use serde_json::Value;

use crate::compiled::Merge;
use crate::expr::ast::{Args, Ast, AstNode, CompareOp, MathOp, Stmt, each_child};
use crate::expr::filters::{Filter, Gives, Run};
use crate::expr::template::Code;
use crate::names::nearest;
use crate::spec::{ChannelSpec, GraphSpec};
use crate::uses::Wanted;

/// References and combinators that are followed from one schema.
const SCHEMA_DEPTH_MAX: usize = 16;
/// Characters of an expression that a message shows.
const SHOWN_CHARS_MAX: usize = 40;

/// A set of JSON kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kinds(u8);

impl Kinds {
    const NULL: Kinds = Kinds(1);
    const BOOL: Kinds = Kinds(2);
    const NUMBER: Kinds = Kinds(4);
    const TEXT: Kinds = Kinds(8);
    const LIST: Kinds = Kinds(16);
    const OBJECT: Kinds = Kinds(32);
    const NONE: Kinds = Kinds(0);
    const ANY: Kinds = Kinds(63);

    fn meets(self, other: Kinds) -> bool {
        self & other != Kinds::NONE
    }

    fn of(value: &Value) -> Kinds {
        match value {
            Value::Null => Kinds::NULL,
            Value::Bool(_) => Kinds::BOOL,
            Value::Number(_) => Kinds::NUMBER,
            Value::String(_) => Kinds::TEXT,
            Value::Array(_) => Kinds::LIST,
            Value::Object(_) => Kinds::OBJECT,
        }
    }

    fn named(name: &str) -> Kinds {
        match name {
            "null" => Kinds::NULL,
            "boolean" => Kinds::BOOL,
            "number" | "integer" => Kinds::NUMBER,
            "string" => Kinds::TEXT,
            "array" => Kinds::LIST,
            "object" => Kinds::OBJECT,
            _ => Kinds::ANY,
        }
    }

    /// The kinds in words.
    fn describe(self) -> String {
        let names = [
            (Kinds::NULL, "null"),
            (Kinds::BOOL, "true or false"),
            (Kinds::NUMBER, "a number"),
            (Kinds::TEXT, "text"),
            (Kinds::LIST, "a list"),
            (Kinds::OBJECT, "an object"),
        ];
        let shown: Vec<&str> = names.iter().filter(|(kind, _)| self.meets(*kind)).map(|(_, name)| *name).collect();
        shown.join(" or ")
    }
}

impl BitAnd for Kinds {
    type Output = Kinds;
    fn bitand(self, other: Kinds) -> Kinds {
        Kinds(self.0 & other.0)
    }
}

impl BitOr for Kinds {
    type Output = Kinds;
    fn bitor(self, other: Kinds) -> Kinds {
        Kinds(self.0 | other.0)
    }
}

/// What is known of a value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Type<'s> {
    kinds: Kinds,
    schema: Option<Placed<'s>>,
}

/// A schema and the document its references point into.
#[derive(Debug, Clone, Copy)]
struct Placed<'s> {
    schema: &'s Value,
    root: &'s Value,
}

impl<'s> Type<'s> {
    const ANY: Type<'static> = Type { kinds: Kinds::ANY, schema: None };

    fn of_kinds(kinds: Kinds) -> Type<'s> {
        Type { kinds, schema: None }
    }

    fn of_schema(schema: &'s Value, root: &'s Value) -> Type<'s> {
        let schema = Placed { schema, root }.resolved();
        Type { kinds: schema.kinds(SCHEMA_DEPTH_MAX), schema: Some(schema) }
    }

    fn or(self, other: Type<'s>) -> Type<'s> {
        Type::of_kinds(self.kinds | other.kinds)
    }
}

impl<'s> Placed<'s> {
    /// Follows references to the schema that says something itself.
    fn resolved(self) -> Placed<'s> {
        let mut here = self;
        for _ in 0..SCHEMA_DEPTH_MAX {
            let target = here.schema.get("$ref").and_then(Value::as_str).and_then(|target| target.strip_prefix('#'));
            match target.and_then(|target| self.root.pointer(target)) {
                Some(schema) => here.schema = schema,
                None => break,
            }
        }
        here
    }

    fn kinds(self, depth: usize) -> Kinds {
        let Some(depth) = depth.checked_sub(1) else { return Kinds::ANY };
        let mut kinds = match self.schema.get("type") {
            Some(Value::String(name)) => Kinds::named(name),
            Some(Value::Array(names)) => {
                let named = names.iter().filter_map(Value::as_str).map(Kinds::named);
                named.fold(Kinds::NONE, BitOr::bitor)
            }
            _ => Kinds::ANY,
        };
        if let Some(Value::Array(values)) = self.schema.get("enum") {
            kinds = kinds & values.iter().map(Kinds::of).fold(Kinds::NONE, BitOr::bitor);
        }
        if let Some(value) = self.schema.get("const") {
            kinds = kinds & Kinds::of(value);
        }
        for combinator in ["anyOf", "oneOf"] {
            if let Some(Value::Array(choices)) = self.schema.get(combinator) {
                let choices = choices.iter().map(|schema| Placed { schema, ..self }.resolved().kinds(depth));
                kinds = kinds & choices.fold(Kinds::NONE, BitOr::bitor);
            }
        }
        if let Some(Value::Array(parts)) = self.schema.get("allOf") {
            let parts = parts.iter().map(|schema| Placed { schema, ..self }.resolved().kinds(depth));
            kinds = parts.fold(kinds, BitAnd::bitand);
        }
        kinds
    }

    /// Whether the fields of an object are described in one place only.
    fn is_plain(self) -> bool {
        !["anyOf", "oneOf", "allOf", "if", "patternProperties", "dependentSchemas"]
            .iter()
            .any(|key| self.schema.get(key).is_some())
    }

    fn properties(self) -> Option<&'s serde_json::Map<String, Value>> {
        self.schema.get("properties").and_then(Value::as_object)
    }

    /// The type of a field; `None` if the schema allows no such field.
    fn field(self, name: &str) -> Option<Type<'s>> {
        if let Some(schema) = self.properties().and_then(|properties| properties.get(name)) {
            return Some(Type::of_schema(schema, self.root));
        }
        let closed = self.is_plain() && self.schema.get("additionalProperties") == Some(&Value::Bool(false));
        if closed { None } else { Some(Type::ANY) }
    }

    fn item(self) -> Type<'s> {
        match self.schema.get("items") {
            Some(items @ Value::Object(_)) if self.is_plain() => Type::of_schema(items, self.root),
            _ => Type::ANY,
        }
    }

    /// The texts an enumeration allows, if it allows nothing but text.
    fn words(self) -> Option<Vec<&'s str>> {
        let Some(Value::Array(values)) = self.schema.get("enum") else { return None };
        values.iter().map(Value::as_str).collect()
    }
}

/// Whether an object of a schema may have a field: it declares it, or says nothing about its fields.
pub(crate) fn may_have_field(schema: &Value, name: &str) -> bool {
    let schema = Placed { schema, root: schema }.resolved();
    schema.properties().is_none_or(|properties| properties.contains_key(name))
}

/// Whether a value of a schema can be a list.
pub(crate) fn may_be_list(schema: &Value) -> bool {
    Type::of_schema(schema, schema).kinds.meets(Kinds::LIST)
}

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
            if let AstNode::Const(Value::String(word)) = &constant.node {
                if !words.contains(&word.as_str()) {
                    self.problems.push(Problem {
                        at: constant.at.clone(),
                        message: format!("`{word}` is none of the values the schema allows: {}", words.join(", ")),
                        candidates: nearest(word, words.iter().copied()),
                    });
                }
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
