//! Bodies of fuzz targets. They panic only if a promise is broken.

use crate::expr::{Expr, Template, Vars};
use crate::{Diagnostics, OpenCatalog, check, compile, parse};

/// Any bytes as a graph file: no panic, and every failure says where.
pub fn graph(bytes: &[u8]) {
    let parsed = parse("fuzz.yaml", bytes);
    assert_placed(&parsed.diagnostics);
    match compile(&parsed, &OpenCatalog) {
        Ok(graph) => {
            let again = check("fuzz.yaml", graph.source().as_bytes(), &OpenCatalog);
            assert!(again.is_ok_and(|(again, _)| again.digest() == graph.digest()), "a good graph compiles again");
            let _ = (graph.mermaid(), graph.text_drawing());
        }
        Err(errors) => {
            assert!(errors.has_errors(), "a failure has at least one error");
            assert_placed(&errors);
        }
    }
}

/// Any bytes as an expression, and as a template of it: no panic, and errors point inside.
pub fn expression(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let scope = scope();
    match Expr::parse(&text) {
        Ok(expr) => {
            if let Err(error) = expr.eval(&scope) {
                assert!(error.range.is_none_or(|range| range.end <= text.len()), "{}", error.message);
            }
        }
        Err(error) => assert!(error.range.is_none_or(|range| range.end <= text.len()), "{}", error.message),
    }
    render(&serde_json::Value::String(text.into_owned()));
}

/// Any bytes as a template, alone and inside of a value.
pub fn template(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    render(&serde_json::json!([text, { "nested": [text] }]));
    if let Ok(value) = serde_json::from_str(&text) {
        render(&value);
    }
    render(&serde_json::Value::String(text.into_owned()));
}

fn render(written: &serde_json::Value) {
    match Template::from_json(written) {
        Ok(template) => {
            let _ = template.render(&scope());
        }
        Err(error) => assert!(!error.message.is_empty(), "a refusal says why"),
    }
}

fn scope() -> Vars {
    let rows = serde_json::json!([{ "ok": true, "n": 1 }, { "ok": false, "n": 2.5 }]);
    Vars::new().with("x", 7).with("name", "orders").with("rows", rows).with("nothing", serde_json::Value::Null)
}

fn assert_placed(diagnostics: &Diagnostics) {
    for diagnostic in diagnostics.iter() {
        let n_bytes = diagnostics.source().text().len();
        assert!(diagnostic.span.start <= diagnostic.span.end && diagnostic.span.end <= n_bytes, "{diagnostic}");
        assert!(diagnostic.line >= 1 && diagnostic.column >= 1, "{diagnostic}");
    }
    let _ = (diagnostics.to_string(), diagnostics.to_json());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::Index;

    use crate::language_tests::INCIDENT;

    const PIECES: &[&str] = &[
        "\n", "  ", "\t", "- ", ": ", "{", "}", "[", "]", "'", "\"", "&a ", "*a", "<<: ", "!!str ", "| \n", "> \n",
        "---\n", "{{ x }}", "{% if", "%}", "\u{0}", "é", "\u{feff}", "#", "end", "null", "1e999", "-", "when: ",
        "to: ", "then: ",
    ];

    const EXPRESSIONS: &[&str] = &[
        "rows | selectattr('ok') | map(attribute='n') | sum",
        "x > 3 and name in ['orders', 'users'] or not nothing",
        "{% for row in rows %}{{ loop.index }}: {{ row.n | round(1) }}{% if not loop.last %}, {% endif %}{% endfor %}",
        "{% set y = x * 2 %}{{ y ** 3 if y else 'none' }}",
        "rows[0].n + rows[-1]['n'] // 2 - x % 3",
        "name ~ '-' * 3 | upper | replace('O', 'o') | trim('x')",
        "{{ rows | tojson | fromjson | length }} {{ 'a,b' | split(',') | join('-') }}",
        "range(1, 10, 2) | reverse | first | default(1, true) is divisibleby 3",
    ];

    const WORDS: &[&str] = &[
        "(",
        ")",
        "[",
        "]",
        "|",
        ".",
        ",",
        "~",
        "*",
        "**",
        "//",
        "%",
        "-",
        "not ",
        " in ",
        " is ",
        "'",
        "\"",
        "{{",
        "}}",
        "{%",
        "%}",
        "{#",
        "x",
        "rows",
        "range",
        "999999999999",
        "1e308",
        "0",
        "|first",
        "|sort",
        "|map",
        "é",
        "\u{0}",
        "\\",
    ];

    /// One change of a text: where, how much goes, and what comes.
    fn mutated(seed: &str, changes: &[(Index, u8, Index)], pieces: &[&str]) -> Vec<u8> {
        let mut bytes = seed.as_bytes().to_vec();
        for (at, n_removed, piece) in changes {
            let start = at.index(bytes.len() + 1);
            let end = (start + usize::from(*n_removed % 12)).min(bytes.len());
            bytes.splice(start..end, piece.get(pieces).bytes());
        }
        bytes
    }

    fn changes() -> impl Strategy<Value = Vec<(Index, u8, Index)>> {
        prop::collection::vec((any::<Index>(), any::<u8>(), any::<Index>()), 1..6)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn graphs(changes in changes()) {
            super::graph(&mutated(INCIDENT, &changes, PIECES));
        }

        #[test]
        fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            super::graph(&bytes);
            super::expression(&bytes);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn expressions(seed in prop::sample::select(EXPRESSIONS), changes in changes()) {
            super::expression(&mutated(seed, &changes, WORDS));
        }
    }
}
