//! A reducer that lacks what it needs, or has what it cannot use.
//!
//! `union` identifies objects by a field and needs `key`; no other reducer has one.
//!
//! Wrong:
//! ```yaml
//! graph: g
//! state:
//!   tables: { merge: union }
//! nodes:
//!   a: { set: { tables: [{ id: 1 }] }, then: end }
//! start: a
//! ```

use crate::diagnostics::Finding;
use crate::source::Span;
use crate::spec::Name;

pub(crate) const CODE: &str = "G036";

pub(crate) fn union_without_key(span: Span) -> Finding {
    Finding::error(CODE, span, "`merge: union` needs `key`")
        .help("name the field that identifies an object, such as `key: id`")
}

pub(crate) fn key_without_union(key: &Name, merge: &str) -> Finding {
    Finding::error(CODE, key.span, format!("`key` has no effect on `merge: {merge}`"))
        .help("only `merge: union` identifies objects by a key")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::checks::testing::check_error;

    #[test]
    fn union() {
        check_error(
            "graph: g\nstate:\n  tables: { merge: union }\n  log: { merge: append, key: id }\nnodes:\n  a: { set: { tables: [], log: [] }, then: end }\nstart: a\n",
            expect![[r#"
                error[G036]: `merge: union` needs `key`
                 --> g.yaml:3:20
                  |
                3 |   tables: { merge: union }
                  |                    ^^^^^
                  = help: name the field that identifies an object, such as `key: id`

                error[G036]: `key` has no effect on `merge: append`
                 --> g.yaml:4:30
                  |
                4 |   log: { merge: append, key: id }
                  |                              ^^
                  = help: only `merge: union` identifies objects by a key

            "#]],
        );
    }
}
