//! Mappings with a closed set of keys.

use crate::checks::{g004_unknown_key as g004, g005_missing_key as g005};
use crate::keys::Table;
use crate::lower::Lower;
use crate::source::Span;
use crate::yaml::{Data, Entry, Yaml};

/// A mapping whose keys are those of a table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'y> {
    table: &'static Table,
    pub(crate) entries: &'y [Entry],
}

/// One key of a mapping with its value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field<'y> {
    pub(crate) key: &'y str,
    pub(crate) key_span: Span,
    pub(crate) value: &'y Yaml,
}

impl<'y> Fields<'y> {
    /// The value of a key that is in the table.
    pub(crate) fn get(&self, key: &'static str) -> Option<Field<'y>> {
        debug_assert!(
            self.table.names().any(|name| name == key),
            "`{key}` is missing in the table of {}",
            self.table.what
        );
        self.entries.iter().find(|entry| entry.key == key).map(Field::of)
    }

    /// Whether a key is there.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key)
    }
}

impl<'y> Field<'y> {
    pub(crate) fn of(entry: &'y Entry) -> Field<'y> {
        Field { key: &entry.key, key_span: entry.key_span, value: &entry.value }
    }

    /// An item of this field's list, reported under the same key.
    pub(crate) fn item(self, value: &'y Yaml) -> Field<'y> {
        Field { value, ..self }
    }
}

impl Lower<'_> {
    /// The keys of a mapping; nothing at all counts as an empty one. Reports unknown and missing keys.
    pub(crate) fn fields<'y>(&mut self, value: &'y Yaml, table: &'static Table, owner: Span) -> Option<Fields<'y>> {
        let entries: &[Entry] = match &value.data {
            Data::Map(entries) => entries,
            Data::Null => &[],
            _ => {
                let place = value.span;
                self.findings.push(crate::checks::g006_wrong_type::wrong_type(
                    place,
                    table.what,
                    "a mapping",
                    value.kind(),
                ));
                return None;
            }
        };
        for entry in entries {
            if !table.names().any(|name| name == entry.key) {
                self.findings.push(g004::unknown_key(entry.key_span, &entry.key, table));
            }
        }
        for key in table.keys.iter().filter(|key| key.required) {
            if !entries.iter().any(|entry| entry.key == key.name) {
                self.findings.push(g005::missing_key(owner, key.name, table.what, key.doc));
            }
        }
        Some(Fields { table, entries })
    }

    /// The entries of a mapping with free keys.
    pub(crate) fn entries<'y>(&mut self, field: Field<'y>) -> &'y [Entry] {
        match &field.value.data {
            Data::Map(entries) => entries,
            Data::Null => &[],
            _ => {
                self.wrong_type(field, "a mapping");
                &[]
            }
        }
    }
}
