//! An expression names a variable that is not there.
//!
//! Expressions see the channels by name, the variables of `with`, the item of a `map`, and `input`, `params`,
//! `error`, `thread`, `run`, `step`, `attempt` and `now`. `result` is there in `output`, `verify`, `undo` and the
//! node's own `then`, `answer` in those of an approval. An undefined name is an error at run time too; it never
//! counts as empty.
//!
//! Wrong:
//! ```yaml
//! graph: g
//! state:
//!   total: { default: 0 }
//! nodes:
//!   a: { emit: "{{ totl }}", then: end }
//! start: a
//! ```

use crate::checks::g024_bad_name::SCOPE_NAMES;
use crate::diagnostics::Finding;
use crate::names::nearest;
use crate::resolve::Cx;
use crate::uses::{Use, UsedCode};
use crate::yaml::part_of_scalar;

pub(crate) const CODE: &str = "G017";

/// Names that are in scope only where a check says so.
const SOMETIMES: &[&str] = &["result", "answer"];

/// Unknown variables for which the nearest right name is looked for.
const SUGGESTIONS_MAX: usize = 100;

pub(crate) fn check(cx: &Cx<'_>, uses: &[Use<'_>], findings: &mut Vec<Finding>) {
    let mut n_unknown = 0;
    for used in uses {
        let (text, names) = match used.code {
            UsedCode::Expr(expr) => (expr.source(), expr.uses()),
            UsedCode::Template(code) => (code.source(), code.uses()),
        };
        for name in names.iter().filter(|name| !is_known(cx, used, &name.root)) {
            let place = part_of_scalar(cx.source, used.span, text, name.at.clone());
            n_unknown += 1;
            let candidates = if n_unknown <= SUGGESTIONS_MAX { candidates(cx, used, &name.root) } else { Vec::new() };
            findings.push(finding(cx, &name.root, candidates).at(place));
        }
    }
}

pub(crate) fn is_known(cx: &Cx<'_>, used: &Use<'_>, name: &str) -> bool {
    let always = SCOPE_NAMES.contains(&name) && !SOMETIMES.contains(&name);
    always || used.extra.contains(name) || cx.channel(name).is_some()
}

fn candidates(cx: &Cx<'_>, used: &Use<'_>, name: &str) -> Vec<String> {
    let always = SCOPE_NAMES.iter().copied().filter(|name| !SOMETIMES.contains(name));
    nearest(name, always.chain(used.extra.iter().copied()).chain(cx.channel_names()))
}

fn finding(cx: &Cx<'_>, name: &str, candidates: Vec<String>) -> Finding {
    let finding = Finding::error(CODE, crate::source::Span::default(), format!("unknown variable `{name}`"));
    match name {
        "result" => finding.help("`result` is there in `output`, `verify`, `undo` and the node's own `then`"),
        "answer" => finding.help("`answer` is there in the `output` and `then` of an approval; write it to a channel"),
        _ if is_elsewhere(cx, name) => finding.help(format!(
            "`{name}` is a variable of `with`: the rest of its node sees it, the variables beside it and other nodes do not"
        )),
        _ if candidates.is_empty() => finding.help("declare a channel under `state:`, or a variable under `with:`"),
        _ => finding.candidates(candidates),
    }
}

/// Whether some node has a variable of this name.
fn is_elsewhere(cx: &Cx<'_>, name: &str) -> bool {
    cx.spec.nodes.iter().any(|node| node.with.iter().any(|(with, _)| with.text == name))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::checks::testing::{check_error, check_ok};

    #[test]
    fn a_variable_of_with_is_not_seen_by_the_one_beside_it() {
        check_error(
            "graph: g\nnodes:\n  a: { with: { said: x, env: '{{ said }}' }, emit: '{{ env }}', then: end }\nstart: a\n",
            expect![[r#"
                error[G017]: unknown variable `said`
                 --> g.yaml:3:34
                  |
                3 |   a: { with: { said: x, env: '{{ said }}' }, emit: '{{ env }}', then: end }
                  |                                  ^^^^
                  = help: `said` is a variable of `with`: the rest of its node sees it, the variables beside it and other nodes do not

            "#]],
        );
    }

    #[test]
    fn places() {
        check_error(
            "graph: g\nstate:\n  total: { default: 0 }\nnodes:\n  a:\n    emit: \"{{ total }} of {{ totl }}\"\n    then: [{ when: 'nothing_like_it > 1', to: end }, { to: end }]\nstart: a\n",
            expect![[r#"
                error[G017]: unknown variable `totl`
                 --> g.yaml:6:30
                  |
                6 |     emit: "{{ total }} of {{ totl }}"
                  |                              ^^^^
                  = help: did you mean `total`?

                error[G017]: unknown variable `nothing_like_it`
                 --> g.yaml:7:21
                  |
                7 |     then: [{ when: 'nothing_like_it > 1', to: end }, { to: end }]
                  |                     ^^^^^^^^^^^^^^^
                  = help: declare a channel under `state:`, or a variable under `with:`

            "#]],
        );
    }

    #[test]
    fn result_and_answer() {
        check_error(
            "graph: g\nnodes:\n  a: { emit: \"{{ result }} {{ answer.choice }}\", then: end }\nstart: a\n",
            expect![[r#"
                error[G017]: unknown variable `result`
                 --> g.yaml:3:18
                  |
                3 |   a: { emit: "{{ result }} {{ answer.choice }}", then: end }
                  |                  ^^^^^^
                  = help: `result` is there in `output`, `verify`, `undo` and the node's own `then`

                error[G017]: unknown variable `answer`
                 --> g.yaml:3:31
                  |
                3 |   a: { emit: "{{ result }} {{ answer.choice }}", then: end }
                  |                               ^^^^^^
                  = help: `answer` is there in the `output` and `then` of an approval; write it to a channel

            "#]],
        );
    }

    #[test]
    fn everything_in_scope() {
        check_ok(
            "graph: g\nstate:\n  xs: { merge: append, default: [] }\nnodes:\n  m: { map: { over: xs, as: x, index: i, to: w } }\n  w:\n    tool: a.b\n    with: { y: \"{{ x }}{{ i }}\" }\n    args: { y: \"{{ y }}{{ params.y }}{{ input }}{{ thread.id }}{{ run.id }}{{ step }}{{ attempt }}{{ now }}\" }\n    verify: { tool: a.c, args: { r: \"{{ result }}\" }, expect: result.ok }\n    output: { xs: \"[result]\" }\nstart: m\n",
        );
        check_ok(
            "graph: g\nnodes:\n  a:\n    emit: |\n      {% set n = 1 %}{% for k in input.ks %}{{ loop.index }} {{ k }} {{ n }}{% endfor %}\n    then: end\nstart: a\n",
        );
    }
}
