//! Scalars and lists of scalars.

use std::time::Duration;

use serde_json::{Value, json};

use crate::checks::{
    g006_wrong_type as g006, g009_unknown_word as g009, g010_bad_duration as g010, g032_out_of_range as g032,
};
use crate::duration;
use crate::lower::Lower;
use crate::lower::fields::Field;
use crate::spec::Name;
use crate::yaml::Data;

impl Lower<'_> {
    /// Reports a value of the wrong type.
    pub(crate) fn wrong_type(&mut self, field: Field<'_>, wanted: &str) {
        let what = format!("`{}`", field.key);
        self.findings.push(g006::wrong_type(field.value.span, &what, wanted, field.value.kind()));
    }

    /// Text.
    pub(crate) fn text(&mut self, field: Field<'_>) -> Option<String> {
        match &field.value.data {
            Data::Text(text) => Some(text.clone()),
            _ => {
                self.wrong_type(field, "text");
                None
            }
        }
    }

    /// The name of something.
    pub(crate) fn name(&mut self, field: Field<'_>) -> Option<Name> {
        match &field.value.data {
            Data::Text(text) if !text.is_empty() => Some(Name { text: text.clone(), span: field.value.span }),
            _ => {
                self.wrong_type(field, "a name");
                None
            }
        }
    }

    /// A list of names; one name needs no list.
    pub(crate) fn names(&mut self, field: Field<'_>) -> Option<Vec<Name>> {
        match &field.value.data {
            Data::List(items) => Some(items.iter().filter_map(|item| self.name(field.item(item))).collect()),
            Data::Text(_) => self.name(field).map(|name| vec![name]),
            _ => {
                self.wrong_type(field, "a name or a list of names");
                None
            }
        }
    }

    /// True or false. `yes` and `no` are text in YAML 1.2.
    pub(crate) fn flag(&mut self, field: Field<'_>) -> Option<bool> {
        match &field.value.data {
            Data::Bool(flag) => Some(*flag),
            _ => {
                self.wrong_type(field, "true or false");
                None
            }
        }
    }

    /// A number that is not negative.
    pub(crate) fn number(&mut self, field: Field<'_>) -> Option<f64> {
        match &field.value.data {
            Data::Number(number) => {
                let number = number.as_f64().unwrap_or(0.0);
                if number < 0.0 {
                    self.findings.push(g032::out_of_range(field.value.span, field.key, "at least 0"));
                }
                Some(number)
            }
            _ => {
                self.wrong_type(field, "a number");
                None
            }
        }
    }

    /// A whole number of at least `min` that fits the type that is asked for.
    pub(crate) fn whole<T: TryFrom<u64>>(&mut self, field: Field<'_>, min: u64) -> Option<T> {
        let Data::Number(number) = &field.value.data else {
            self.wrong_type(field, "a whole number");
            return None;
        };
        let good = number.as_u64().filter(|whole| *whole >= min).and_then(|whole| T::try_from(whole).ok());
        if good.is_none() {
            let range = format!("a whole number of at least {min}");
            self.findings.push(g032::out_of_range(field.value.span, field.key, &range));
        }
        good
    }

    /// A length of time.
    pub(crate) fn duration(&mut self, field: Field<'_>) -> Option<Duration> {
        let text = match &field.value.data {
            Data::Text(text) => text.clone(),
            Data::Number(number) => number.to_string(),
            _ => {
                self.wrong_type(field, "a length of time such as `30s`");
                return None;
            }
        };
        duration::parse(&text)
            .map_err(|error| self.findings.push(g010::bad_duration(field.value.span, &text, error)))
            .ok()
    }

    /// One of a few words.
    pub(crate) fn word(&mut self, field: Field<'_>, words: &'static [&'static str]) -> Option<&'static str> {
        let name = self.name(field)?;
        let known = words.iter().copied().find(|word| *word == name.text);
        if known.is_none() {
            self.findings.push(g009::unknown_word(&name, field.key, words));
        }
        known
    }

    /// Some of a few words.
    pub(crate) fn words(&mut self, field: Field<'_>, words: &'static [&'static str]) -> Vec<String> {
        match &field.value.data {
            Data::List(items) => {
                items.iter().filter_map(|item| self.word(field.item(item), words)).map(str::to_owned).collect()
            }
            _ => self.word(field, words).map(str::to_owned).into_iter().collect(),
        }
    }

    /// Any mapping, as JSON.
    pub(crate) fn object(&mut self, field: Field<'_>) -> Value {
        match &field.value.data {
            Data::Map(_) => field.value.json(),
            Data::Null => json!({}),
            _ => {
                self.wrong_type(field, "a mapping");
                json!({})
            }
        }
    }
}
