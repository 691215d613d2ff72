//! A channel is read, but nothing ever writes it.
//!
//! No node writes it, it has no `default`, and the thread's input does not bring it, so reading it fails.
//!
//! Write it in a node (`set:` or `output:`), give it a `default:`, or declare it in `input.schema`.
//!
//! Wrong:
//! ```yaml
//! graph: g
//! state:
//!   total: {}
//! nodes:
//!   a: { emit: "{{ total }}", then: end }
//! start: a
//! ```

use crate::checks::g020_never_read::Traffic;
use crate::diagnostics::Finding;
use crate::resolve::Cx;
use crate::spec::ChannelSpec;

pub(crate) const CODE: &str = "G019";

pub(crate) fn check(cx: &Cx<'_>, traffic: &Traffic<'_>, findings: &mut Vec<Finding>) {
    for channel in &cx.spec.channels {
        let name = channel.name.text.as_str();
        let read = traffic.read.get(name);
        if traffic.may_write_all
            || traffic.written.contains(name)
            || channel.default.is_some()
            || comes_with_input(cx, channel)
        {
            continue;
        }
        if let Some(place) = read {
            findings.push(
                Finding::error(CODE, *place, format!("the channel `{name}` is read, but nothing ever writes it")).help(
                    "write it in a node with `set` or `output`, give it a `default`, or declare it in `input.schema`",
                ),
            );
        }
    }
}

/// Whether the thread's input brings the channel: it declares a field of that name or has the channel's own
/// schema, or says nothing about its fields.
fn comes_with_input(cx: &Cx<'_>, channel: &ChannelSpec) -> bool {
    let Some(input) = &cx.spec.input else { return false };
    let input = input.schema.json();
    let same_schema = channel.schema.as_ref().is_some_and(|schema| schema.schema.json() == input);
    same_schema || crate::expr::types::may_have_field(input, &channel.name.text)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::checks::testing::{check_error, check_ok};

    #[test]
    fn never_written() {
        check_error(
            "graph: g\nstate:\n  total: {}\nnodes:\n  a: { emit: \"{{ total }}\", then: end }\nstart: a\n",
            expect![[r#"
                error[G019]: the channel `total` is read, but nothing ever writes it
                 --> g.yaml:5:18
                  |
                5 |   a: { emit: "{{ total }}", then: end }
                  |                  ^^^^^
                  = help: write it in a node with `set` or `output`, give it a `default`, or declare it in `input.schema`

            "#]],
        );
        check_error(
            "graph: g\ninput: { schema: { properties: { other: {} } } }\nstate:\n  total: {}\nnodes:\n  a: { emit: \"{{ total }}\", then: end }\nstart: a\n",
            expect![[r#"
                error[G019]: the channel `total` is read, but nothing ever writes it
                 --> g.yaml:6:18
                  |
                6 |   a: { emit: "{{ total }}", then: end }
                  |                  ^^^^^
                  = help: write it in a node with `set` or `output`, give it a `default`, or declare it in `input.schema`

            "#]],
        );
    }

    #[test]
    fn covered() {
        check_ok(
            "graph: g\ninput: { schema: { properties: { total: {} } } }\nstate:\n  total: {}\nnodes:\n  a: { emit: \"{{ total }}\", then: end }\nstart: a\n",
        );
        check_ok(
            "graph: g\nschemas: { T: { properties: { n: {} } } }\ninput: { schema: { $ref: \"#/schemas/T\" } }\nstate:\n  total: { schema: { $ref: \"#/schemas/T\" } }\nnodes:\n  a: { emit: \"{{ total.n }}\", then: end }\nstart: a\n",
        );
    }
}
