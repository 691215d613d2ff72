//! What is known of a value before it is there: a set of kinds, and the schema that describes its parts.

use std::ops::{BitAnd, BitOr};

use serde_json::{Map, Value};

/// References and combinators that are followed from one schema.
const SCHEMA_DEPTH_MAX: usize = 16;
/// A set of JSON kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kinds(u8);

impl Kinds {
    pub(super) const NULL: Kinds = Kinds(1);
    pub(super) const BOOL: Kinds = Kinds(2);
    pub(super) const NUMBER: Kinds = Kinds(4);
    pub(super) const TEXT: Kinds = Kinds(8);
    pub(super) const LIST: Kinds = Kinds(16);
    pub(super) const OBJECT: Kinds = Kinds(32);
    pub(super) const NONE: Kinds = Kinds(0);
    pub(super) const ANY: Kinds = Kinds(63);

    pub(super) fn meets(self, other: Kinds) -> bool {
        self & other != Kinds::NONE
    }

    pub(super) fn of(value: &Value) -> Kinds {
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
    pub(super) fn describe(self) -> String {
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
pub(super) struct Type<'s> {
    pub(super) kinds: Kinds,
    pub(super) schema: Option<Placed<'s>>,
}

/// A schema and the document its references point into.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed<'s> {
    schema: &'s Value,
    root: &'s Value,
}

impl<'s> Type<'s> {
    pub(super) const ANY: Type<'static> = Type { kinds: Kinds::ANY, schema: None };

    pub(super) fn of_kinds(kinds: Kinds) -> Type<'s> {
        Type { kinds, schema: None }
    }

    pub(super) fn of_schema(schema: &'s Value, root: &'s Value) -> Type<'s> {
        let schema = Placed { schema, root }.resolved();
        Type { kinds: schema.kinds(SCHEMA_DEPTH_MAX), schema: Some(schema) }
    }

    pub(super) fn or(self, other: Type<'s>) -> Type<'s> {
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

    pub(super) fn properties(self) -> Option<&'s Map<String, Value>> {
        self.schema.get("properties").and_then(Value::as_object)
    }

    /// The type of a field; `None` if the schema allows no such field.
    pub(super) fn field(self, name: &str) -> Option<Type<'s>> {
        if let Some(schema) = self.properties().and_then(|properties| properties.get(name)) {
            return Some(Type::of_schema(schema, self.root));
        }
        let closed = self.is_plain() && self.schema.get("additionalProperties") == Some(&Value::Bool(false));
        if closed { None } else { Some(Type::ANY) }
    }

    pub(super) fn item(self) -> Type<'s> {
        match self.schema.get("items") {
            Some(items @ Value::Object(_)) if self.is_plain() => Type::of_schema(items, self.root),
            _ => Type::ANY,
        }
    }

    /// The texts an enumeration allows, if it allows nothing but text.
    pub(super) fn words(self) -> Option<Vec<&'s str>> {
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
