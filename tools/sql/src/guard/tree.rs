//! The parse tree without its Rust types: every message with its name and all of its fields.
//!
//! The parser's own types have some hundred and fifty shapes; code that names each would miss a field one day. They all derive
//! `Serialize`, and a serializer sees the name of each message and each field, so the tree built here is complete by
//! construction: what the grammar produces is in it, known to the guard or not.

use std::fmt::Display;

use serde::ser::{self, Impossible, Serialize, SerializeSeq, SerializeStruct, Serializer};

/// One message of the parse tree.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tree {
    /// Its type in the grammar's words, such as `SelectStmt`.
    pub(crate) kind: &'static str,
    fields: Vec<(&'static str, Field)>,
}

/// Value of a field.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Field {
    Absent,
    Flag(bool),
    Number(i64),
    Text(String),
    Message(Box<Tree>),
    List(Vec<Field>),
}

impl Tree {
    /// The tree of a parsed message.
    pub(crate) fn of(message: &impl Serialize) -> Result<Self, TreeError> {
        match message.serialize(Builder)? {
            Field::Message(tree) => Ok(*tree),
            other => Err(TreeError(format!("a parse tree begins with a message, not with {other:?}"))),
        }
    }

    /// A sub-message, if it is there.
    pub(crate) fn message(&self, field: &str) -> Option<&Self> {
        match self.field(field) {
            Some(Field::Message(tree)) => Some(tree),
            _ => None,
        }
    }

    /// The messages of a list.
    pub(crate) fn list(&self, field: &str) -> impl Iterator<Item = &Self> {
        let items = match self.field(field) {
            Some(Field::List(items)) => items.as_slice(),
            _ => &[],
        };
        items.iter().filter_map(Field::as_message)
    }

    /// A text; empty if absent.
    pub(crate) fn text(&self, field: &str) -> &str {
        match self.field(field) {
            Some(Field::Text(text)) => text,
            _ => "",
        }
    }

    /// A number or enumerated value; 0 if absent.
    pub(crate) fn number(&self, field: &str) -> i64 {
        match self.field(field) {
            Some(Field::Number(number)) => *number,
            _ => 0,
        }
    }

    /// A flag; false if absent.
    pub(crate) fn flag(&self, field: &str) -> bool {
        matches!(self.field(field), Some(Field::Flag(true)))
    }

    /// Every message directly below, by field.
    pub(crate) fn children(&self) -> impl Iterator<Item = (&'static str, &Self)> {
        self.fields.iter().flat_map(|(name, field)| field.messages().into_iter().map(move |tree| (*name, tree)))
    }

    /// This message and all below it, outermost first.
    pub(crate) fn all(&self) -> Vec<&Self> {
        let mut found = vec![self];
        let mut next = 0;
        while let Some(tree) = found.get(next).copied() {
            found.extend(tree.children().map(|(_, child)| child));
            next += 1;
        }
        found
    }

    /// The texts of a list of `String` nodes, such as the parts of a qualified name.
    pub(crate) fn names(&self, field: &str) -> Vec<&str> {
        self.list(field).filter(|n| n.kind == "String").map(|n| n.text("sval")).collect()
    }

    /// Whether two trees say the same, wherever they stand in the text.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        self.kind == other.kind
            && self.fields.len() == other.fields.len()
            && self
                .fields
                .iter()
                .zip(&other.fields)
                .all(|((name, a), (_, b))| name.contains("location") || a.same_as(b))
    }

    fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|(field, _)| *field == name).map(|(_, value)| value)
    }
}

impl Field {
    fn as_message(&self) -> Option<&Tree> {
        match self {
            Self::Message(tree) => Some(tree),
            _ => None,
        }
    }

    fn messages(&self) -> Vec<&Tree> {
        match self {
            Self::Message(tree) => vec![tree],
            Self::List(items) => items.iter().flat_map(Self::messages).collect(),
            _ => Vec::new(),
        }
    }

    fn same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Message(a), Self::Message(b)) => a.same_as(b),
            (Self::List(a), Self::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same_as(b)),
            (a, b) => a == b,
        }
    }
}

/// The parser produced a shape that the tree has no form for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct TreeError(String);

impl ser::Error for TreeError {
    fn custom<T: Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

fn foreign<T>(what: &str) -> Result<T, TreeError> {
    Err(TreeError(format!("the parse tree holds {what}, which the guard has no form for")))
}

struct Builder;

impl Serializer for Builder {
    type Ok = Field;
    type Error = TreeError;
    type SerializeSeq = ListBuilder;
    type SerializeTuple = Impossible<Field, TreeError>;
    type SerializeTupleStruct = Impossible<Field, TreeError>;
    type SerializeTupleVariant = Impossible<Field, TreeError>;
    type SerializeMap = Impossible<Field, TreeError>;
    type SerializeStruct = MessageBuilder;
    type SerializeStructVariant = Impossible<Field, TreeError>;

    fn serialize_bool(self, value: bool) -> Result<Field, TreeError> {
        Ok(Field::Flag(value))
    }

    fn serialize_i8(self, value: i8) -> Result<Field, TreeError> {
        Ok(Field::Number(value.into()))
    }

    fn serialize_i16(self, value: i16) -> Result<Field, TreeError> {
        Ok(Field::Number(value.into()))
    }

    fn serialize_i32(self, value: i32) -> Result<Field, TreeError> {
        Ok(Field::Number(value.into()))
    }

    fn serialize_i64(self, value: i64) -> Result<Field, TreeError> {
        Ok(Field::Number(value))
    }

    fn serialize_u8(self, value: u8) -> Result<Field, TreeError> {
        Ok(Field::Number(value.into()))
    }

    fn serialize_u16(self, value: u16) -> Result<Field, TreeError> {
        Ok(Field::Number(value.into()))
    }

    fn serialize_u32(self, value: u32) -> Result<Field, TreeError> {
        Ok(Field::Number(value.into()))
    }

    fn serialize_u64(self, value: u64) -> Result<Field, TreeError> {
        i64::try_from(value).map(Field::Number).or_else(|_| foreign("a number beyond 63 bits"))
    }

    fn serialize_f32(self, _: f32) -> Result<Field, TreeError> {
        foreign("a binary fraction")
    }

    fn serialize_f64(self, _: f64) -> Result<Field, TreeError> {
        foreign("a binary fraction")
    }

    fn serialize_char(self, _: char) -> Result<Field, TreeError> {
        foreign("a character")
    }

    fn serialize_str(self, value: &str) -> Result<Field, TreeError> {
        Ok(Field::Text(value.to_owned()))
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<Field, TreeError> {
        foreign("bytes")
    }

    fn serialize_none(self) -> Result<Field, TreeError> {
        Ok(Field::Absent)
    }

    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Result<Field, TreeError> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<Field, TreeError> {
        Ok(Field::Absent)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<Field, TreeError> {
        foreign("a unit struct")
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<Field, TreeError> {
        foreign("a bare variant")
    }

    fn serialize_newtype_struct<T: ?Sized + Serialize>(self, _: &'static str, _: &T) -> Result<Field, TreeError> {
        foreign("a newtype")
    }

    /// A choice is what was chosen.
    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result<Field, TreeError> {
        value.serialize(self)
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<ListBuilder, TreeError> {
        Ok(ListBuilder(Vec::with_capacity(len.unwrap_or(0))))
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, TreeError> {
        foreign("a tuple")
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTupleStruct, TreeError> {
        foreign("a tuple struct")
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, TreeError> {
        foreign("a tuple variant")
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, TreeError> {
        foreign("a map")
    }

    fn serialize_struct(self, name: &'static str, len: usize) -> Result<MessageBuilder, TreeError> {
        Ok(MessageBuilder { kind: name, fields: Vec::with_capacity(len) })
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, TreeError> {
        foreign("a struct variant")
    }
}

struct ListBuilder(Vec<Field>);

impl SerializeSeq for ListBuilder {
    type Ok = Field;
    type Error = TreeError;

    fn serialize_element<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), TreeError> {
        self.0.push(value.serialize(Builder)?);
        Ok(())
    }

    fn end(self) -> Result<Field, TreeError> {
        Ok(Field::List(self.0))
    }
}

struct MessageBuilder {
    kind: &'static str,
    fields: Vec<(&'static str, Field)>,
}

impl SerializeStruct for MessageBuilder {
    type Ok = Field;
    type Error = TreeError;

    fn serialize_field<T: ?Sized + Serialize>(&mut self, name: &'static str, value: &T) -> Result<(), TreeError> {
        self.fields.push((name, value.serialize(Builder)?));
        Ok(())
    }

    /// `Node` is only the choice of a message: the message itself stands in its place.
    fn end(mut self) -> Result<Field, TreeError> {
        if self.kind == "Node" {
            return Ok(self.fields.pop().map_or(Field::Absent, |(_, chosen)| chosen));
        }
        Ok(Field::Message(Box::new(Tree { kind: self.kind, fields: self.fields })))
    }
}
