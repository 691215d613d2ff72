//! The track record of a `tool` node.

use crate::checks::{g031_misplaced_key as g031, g032_out_of_range as g032};
use crate::keys;
use crate::lower::Lower;
use crate::lower::fields::{Field, Fields};
use crate::spec::{RecordSpec, TemplateSpec};
use crate::yaml::Data;

impl Lower<'_> {
    pub(crate) fn track_record(&mut self, field: Field<'_>) -> Option<RecordSpec> {
        let fields = self.fields(field.value, &keys::RECORD, field.key_span)?;
        let at_least = fields.get("at_least").and_then(|field| self.number(field));
        if let (Some(field), Some(true)) = (fields.get("at_least"), at_least.map(|least| least > 1.0)) {
            self.findings.push(g032::out_of_range(field.value.span, "at_least", "at most 1"));
        }
        if !fields.has("at_least") {
            self.without_question(&fields);
        }
        Some(RecordSpec {
            at_least,
            confidence: fields.get("confidence").and_then(|field| self.expression(field)),
            prior: fields.get("prior").and_then(|field| self.prior(field)),
            heals: fields.get("heals").and_then(|field| self.flag(field)).unwrap_or(true),
            approvers: fields.get("approvers").and_then(|field| self.names(field)).unwrap_or_default(),
            expires: fields.get("expires").and_then(|field| self.duration(field)),
            span: field.key_span,
            class: fields.get("class").and_then(|field| self.text_template(field))?,
        })
    }

    /// A record that only counts asks nobody: what is about the question means nothing.
    fn without_question(&mut self, fields: &Fields<'_>) {
        for key in ["approvers", "expires"] {
            if let Some(field) = fields.get(key) {
                self.findings.push(g031::only_with_question(field.key_span, key));
            }
        }
    }

    fn prior(&mut self, field: Field<'_>) -> Option<TemplateSpec> {
        match &field.value.data {
            Data::Map(_) => {
                self.fields(field.value, &keys::PRIOR, field.key_span)?;
                Some(self.template(field.value))
            }
            Data::Text(_) => Some(self.template(field.value)),
            _ => {
                self.wrong_type(field, "`{ healed, failed }`, or one `{{ expression }}` that gives it");
                None
            }
        }
    }
}
