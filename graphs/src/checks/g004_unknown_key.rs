//! A key that the language does not have.
//!
//! A graph file is a closed world: a key that is not known is a mistake, not an extension, because a misspelt
//! `retry` or `on_error` that is ignored is found out only when it is needed.
//!
//! Correct the spelling, or put free data under `metadata:`.
//!
//! Wrong:
//! ```yaml
//! graph: g
//! nodes:
//!   a: { emit: 1, retrys: { attempts: 2 }, then: end }
//! start: a
//! ```

use crate::diagnostics::Finding;
use crate::keys::Table;
use crate::names::nearest;
use crate::source::Span;

pub(crate) const CODE: &str = "G004";

pub(crate) fn unknown_key(span: Span, key: &str, table: &Table) -> Finding {
    let candidates = nearest(key, table.names());
    let finding = Finding::error(CODE, span, format!("{} has no key `{key}`", table.what));
    if candidates.is_empty() {
        let names: Vec<&str> = table.names().collect();
        return finding.help(format!("it has {}", names.join(", ")));
    }
    finding.candidates(candidates)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::checks::testing::check_error;

    #[test]
    fn misspelt() {
        check_error(
            "graph: g\nnodes:\n  a: { emit: 1, retrys: { attempts: 2 }, then: end }\nstart: a\n",
            expect![[r#"
            error[G004]: a node has no key `retrys`
             --> g.yaml:3:17
              |
            3 |   a: { emit: 1, retrys: { attempts: 2 }, then: end }
              |                 ^^^^^^
              = help: did you mean `retry`?

        "#]],
        );
    }

    #[test]
    fn nothing_near() {
        check_error(
            "graph: g\nlimits: { banana: 3 }\nnodes:\n  a: { emit: 1, then: end }\nstart: a\n",
            expect![[r#"
            error[G004]: `limits` has no key `banana`
             --> g.yaml:2:11
              |
            2 | limits: { banana: 3 }
              |           ^^^^^^
              = help: it has recursion, concurrency

        "#]],
        );
    }
}
