//! A constant that does not fit its channel: a `default` or a value of `set` that the schema or the reducer
//! refuses.
//!
//! The same check runs on every write; a constant that fails it would fail every time.
//!
//! Wrong:
//! ```yaml
//! graph: g
//! state:
//!   count: { schema: { type: integer }, default: many }
//! nodes:
//!   a: { emit: "{{ count }}", then: end }
//! start: a
//! ```

use serde_json::Value;

use crate::compiled::Merge;
use crate::diagnostics::Finding;
use crate::expr::types::may_be_list;
use crate::resolve::Cx;
use crate::source::Span;
use crate::spec::{ChannelSpec, KindSpec, SetSpec};

pub(crate) const CODE: &str = "G033";

pub(crate) fn check(cx: &Cx<'_>, findings: &mut Vec<Finding>) {
    for channel in &cx.spec.channels {
        if let Some(default) = &channel.default {
            check_whole(channel, &default.json(), |pointer| default.at_pointer(pointer).span, findings);
        }
    }
    for node in &cx.spec.nodes {
        let KindSpec::Set(writes) = &node.kind else { continue };
        for (name, set) in writes {
            let Some(channel) = cx.channel(&name.text).and_then(|ix| cx.spec.channels.get(ix.index())) else {
                continue;
            };
            let (template, is_whole) = match set {
                SetSpec::Write(template) => (template, writes_whole(&channel.merge)),
                SetSpec::Overwrite(template) => (template, true),
            };
            match template.template.as_const() {
                Some(value) if is_whole => check_whole(channel, value, |_| template.span, findings),
                Some(value) if writes_number(&channel.merge) => {
                    check_reducer(channel, value, template.span, findings);
                }
                _ => {}
            }
        }
    }
}

/// Whether a write is the channel's whole new value, not a part that is merged into it.
fn writes_whole(merge: &Merge) -> bool {
    matches!(merge, Merge::Replace | Merge::Last | Merge::Ephemeral | Merge::Untracked)
}

/// Whether a write is merged as a number, so that nothing else can be written.
fn writes_number(merge: &Merge) -> bool {
    matches!(merge, Merge::Sum | Merge::Min | Merge::Max)
}

/// Checks what the reducer can take; returns the word for it.
fn check_reducer(channel: &ChannelSpec, value: &Value, place: Span, findings: &mut Vec<Finding>) -> &'static str {
    let fits_merge = match channel.merge {
        Merge::Append | Merge::Union { .. } | Merge::Messages => (value.is_array(), "a list"),
        Merge::Deep => (value.is_object(), "an object"),
        Merge::Sum | Merge::Min | Merge::Max => (value.is_number(), "a number"),
        _ => (true, ""),
    };
    if let (false, wanted) = fits_merge {
        findings.push(Finding::error(
            CODE,
            place,
            format!("the value of the channel `{}` must be {wanted}, as its reducer needs", channel.name.text),
        ));
    }
    fits_merge.1
}

fn check_whole(channel: &ChannelSpec, value: &Value, place: impl Fn(&str) -> Span, findings: &mut Vec<Finding>) {
    let name = &channel.name.text;
    let wanted = check_reducer(channel, value, place(""), findings);
    let Some(schema) = channel.schema.as_ref().map(|schema| &schema.schema) else { return };
    // The schema of a channel that collects may describe one item or the whole list.
    let whole = std::slice::from_ref(value);
    let checked = match value {
        Value::Array(items) if wanted == "a list" && !may_be_list(schema.json()) => items.as_slice(),
        _ => whole,
    };
    if let Some(error) = checked.iter().find_map(|value| schema.check(value).err()) {
        let message = format!("this does not fit the schema of the channel `{name}`: {}", error.message);
        findings.push(Finding::error(CODE, place(&error.pointer), message));
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::checks::testing::check_error;

    #[test]
    fn constants() {
        check_error(
            "graph: g\nstate:\n  count: { schema: { type: integer }, default: many }\n  log: { merge: append, default: {} }\n  shape: { schema: { properties: { x: { type: string } } }, default: { x: 1 } }\n  total: { merge: sum }\nnodes:\n  a: { set: { count: 1.5, log: { overwrite: 3 }, total: much }, then: b }\n  b: { emit: \"{{ count }}{{ log }}{{ shape }}{{ total }}\", then: end }\nstart: a\n",
            expect![[r#"
                error[G033]: this does not fit the schema of the channel `count`: the value is not of type "integer"
                 --> g.yaml:3:48
                  |
                3 |   count: { schema: { type: integer }, default: many }
                  |                                                ^^^^

                error[G033]: the value of the channel `log` must be a list, as its reducer needs
                 --> g.yaml:4:34
                  |
                4 |   log: { merge: append, default: {} }
                  |                                  ^^

                error[G033]: this does not fit the schema of the channel `shape`: the value is not of type "string"
                 --> g.yaml:5:75
                  |
                5 |   shape: { schema: { properties: { x: { type: string } } }, default: { x: 1 } }
                  |                                                                           ^

                error[G033]: this does not fit the schema of the channel `count`: the value is not of type "integer"
                 --> g.yaml:8:22
                  |
                8 |   a: { set: { count: 1.5, log: { overwrite: 3 }, total: much }, then: b }
                  |                      ^^^

                error[G033]: the value of the channel `log` must be a list, as its reducer needs
                 --> g.yaml:8:45
                  |
                8 |   a: { set: { count: 1.5, log: { overwrite: 3 }, total: much }, then: b }
                  |                                             ^

                error[G033]: the value of the channel `total` must be a number, as its reducer needs
                 --> g.yaml:8:57
                  |
                8 |   a: { set: { count: 1.5, log: { overwrite: 3 }, total: much }, then: b }
                  |                                                         ^^^^

            "#]],
        );
    }
}
