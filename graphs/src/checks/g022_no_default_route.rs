//! A list of routes whose last route has a condition, or in which a route follows the one without condition.
//!
//! The first route whose condition holds is taken. If none does and there is no route without `when`, the run
//! would not know where to go; a route after the one without `when` can never be taken.
//!
//! End the list with one `{ to: … }` without `when`; `to: end` ends the path.
//!
//! Wrong:
//! ```yaml
//! graph: g
//! nodes:
//!   a: { emit: 1, then: [{ when: "input.x", to: end }] }
//! start: a
//! ```

use crate::diagnostics::Finding;
use crate::resolve::Cx;
use crate::spec::RoutingSpec;

pub(crate) const CODE: &str = "G022";

pub(crate) fn check(cx: &Cx<'_>, findings: &mut Vec<Finding>) {
    for (owner, routing) in cx.routings() {
        let RoutingSpec::Routes(routes) = routing else { continue };
        let Some((last, before)) = routes.split_last() else { continue };
        if last.when.is_some() {
            let message = format!("the routes of `{owner}` do not say where to go if no condition holds");
            findings
                .push(Finding::error(CODE, last.span, message).help("end the list with `- { to: … }` without `when`"));
        }
        for (route, next) in before.iter().zip(routes.iter().skip(1)) {
            if route.when.is_none() {
                let message = format!("this route of `{owner}` can never be taken: the one before it has no condition");
                findings
                    .push(Finding::error(CODE, next.span, message).help("move the route without `when` to the end"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::checks::testing::check_error;

    #[test]
    fn no_default() {
        check_error(
            "graph: g\nnodes:\n  a:\n    emit: 1\n    then:\n      - { when: \"input.x\", to: end }\n  b: { emit: 1, then: [{ to: end }, { when: \"input.x\", to: a }, { to: a }] }\nstart: [a, b]\n",
            expect![[r#"
                error[G022]: the routes of `a` do not say where to go if no condition holds
                 --> g.yaml:6:11
                  |
                6 |       - { when: "input.x", to: end }
                  |           ^^^^
                  = help: end the list with `- { to: … }` without `when`

                error[G022]: this route of `b` can never be taken: the one before it has no condition
                 --> g.yaml:7:39
                  |
                7 |   b: { emit: 1, then: [{ to: end }, { when: "input.x", to: a }, { to: a }] }
                  |                                       ^^^^
                  = help: move the route without `when` to the end

            "#]],
        );
    }
}
