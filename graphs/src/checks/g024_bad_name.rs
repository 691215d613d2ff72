//! A name that is reserved or cannot be used.
//!
//! `start` and `end` are the two ends of every graph, and `|` and `:` separate the parts of a task's path, so a
//! node cannot be called or contain them. Channels and variables must be usable in expressions: letters, digits
//! and `_`, not starting with a digit, and not a word of the expression language or a name it already has, such
//! as `input`, `result` or `now`.
//!
//! Wrong:
//! ```yaml
//! graph: g
//! nodes:
//!   end: { emit: 1, then: end }
//! start: end
//! ```

use crate::diagnostics::Finding;
use crate::spec::Name;

pub(crate) const CODE: &str = "G024";

/// Characters of a name.
const NAME_CHARS_MAX: usize = 128;

/// Characters of a specialist's name.
const SPECIALIST_CHARS_MAX: usize = 48;

/// Names that expressions have by themselves.
pub(crate) const SCOPE_NAMES: &[&str] =
    &["input", "params", "result", "answer", "error", "thread", "run", "step", "attempt", "now"];

/// Words of the expression language.
const EXPRESSION_WORDS: &[&str] =
    &["and", "or", "not", "in", "is", "if", "else", "true", "false", "none", "True", "False", "None", "loop", "range"];

pub(crate) fn check_graph(name: &Name, findings: &mut Vec<Finding>) {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if !name.text.chars().all(good) || !name.text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        findings.push(
            Finding::error(CODE, name.span, format!("`{}` cannot be the name of a graph", shown(name)))
                .help("use letters, digits, `-`, `_` and `.`, starting with a letter or digit"),
        );
    }
    check_length(name, findings);
}

pub(crate) fn check_node(name: &Name, findings: &mut Vec<Finding>) {
    let reserved = matches!(name.text.as_str(), "start" | "end" | "");
    let bad = |c: char| matches!(c, '|' | ':' | '/') || c.is_whitespace() || c.is_control();
    if reserved {
        findings.push(
            Finding::error(CODE, name.span, format!("`{}` cannot be the name of a node", name.text))
                .help("`start` and `end` are the two ends of every graph; choose another name"),
        );
    } else if let Some(c) = name.text.chars().find(|c| bad(*c)) {
        findings.push(
            Finding::error(CODE, name.span, format!("the node name `{}` contains {c:?}", shown(name)))
                .help("`|`, `:`, `/` and spaces are not allowed in the name of a node; use `_` or `-`"),
        );
    }
    check_length(name, findings);
}

/// A model calls a specialist by its name, so it must be the name of a tool for every provider.
pub(crate) fn check_specialist(name: &Name, findings: &mut Vec<Finding>) {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if name.text.is_empty() || name.text.len() > SPECIALIST_CHARS_MAX || !name.text.chars().all(good) {
        let message = format!("`{}` cannot be the name of a specialist", shown(name));
        let help = format!("use 1 to {SPECIALIST_CHARS_MAX} letters, digits, `-` and `_`");
        findings.push(Finding::error(CODE, name.span, message).help(help));
    }
}

pub(crate) fn check_channel(name: &Name, findings: &mut Vec<Finding>) {
    check_identifier(name, "channel", findings);
}

pub(crate) fn check_variable(name: &Name, findings: &mut Vec<Finding>) {
    check_identifier(name, "variable", findings);
}

fn check_identifier(name: &Name, what: &str, findings: &mut Vec<Finding>) {
    let text = name.text.as_str();
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts_well || !text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        findings.push(
            Finding::error(CODE, name.span, format!("`{}` cannot be the name of a {what}", shown(name)))
                .help("use letters, digits and `_`, not starting with a digit, so that expressions can name it"),
        );
    } else if SCOPE_NAMES.contains(&text) || EXPRESSION_WORDS.contains(&text) {
        findings.push(
            Finding::error(CODE, name.span, format!("`{text}` already has a meaning in expressions"))
                .help(format!("choose another name for this {what}")),
        );
    }
    check_length(name, findings);
}

fn check_length(name: &Name, findings: &mut Vec<Finding>) {
    if name.text.chars().count() > NAME_CHARS_MAX {
        let message = format!("the name is longer than {NAME_CHARS_MAX} characters");
        findings.push(Finding::error(CODE, name.span, message));
    }
}

fn shown(name: &Name) -> String {
    name.text.chars().take(NAME_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::checks::testing::check_error;

    #[test]
    fn nodes() {
        check_error(
            "graph: g\nnodes:\n  end: { emit: 1, then: end }\n  a:b: { emit: 1, then: end }\n  \"c|d\": { emit: 1, then: end }\nstart: [end, \"a:b\", \"c|d\"]\n",
            expect![[r#"
                error[G012]: the node `end` is unreachable: no path from `start` leads to it
                 --> g.yaml:3:3
                  |
                3 |   end: { emit: 1, then: end }
                  |   ^^^
                  = help: name it in a `then`, `after` or `on_error`, or remove it

                error[G024]: `end` cannot be the name of a node
                 --> g.yaml:3:3
                  |
                3 |   end: { emit: 1, then: end }
                  |   ^^^
                  = help: `start` and `end` are the two ends of every graph; choose another name

                error[G024]: the node name `a:b` contains ':'
                 --> g.yaml:4:3
                  |
                4 |   a:b: { emit: 1, then: end }
                  |   ^^^
                  = help: `|`, `:`, `/` and spaces are not allowed in the name of a node; use `_` or `-`

                error[G024]: the node name `c|d` contains '|'
                 --> g.yaml:5:3
                  |
                5 |   "c|d": { emit: 1, then: end }
                  |   ^^^^^
                  = help: `|`, `:`, `/` and spaces are not allowed in the name of a node; use `_` or `-`

            "#]],
        );
    }

    #[test]
    fn channels_and_graphs() {
        check_error(
            "graph: a graph\nstate:\n  my-log: {}\n  result: {}\nnodes:\n  a: { set: { my-log: 1, result: 2 }, with: { now: 1 }, then: end }\nstart: a\n",
            expect![[r#"
                error[G024]: `a graph` cannot be the name of a graph
                 --> g.yaml:1:8
                  |
                1 | graph: a graph
                  |        ^^^^^^^
                  = help: use letters, digits, `-`, `_` and `.`, starting with a letter or digit

                error[G024]: `my-log` cannot be the name of a channel
                 --> g.yaml:3:3
                  |
                3 |   my-log: {}
                  |   ^^^^^^
                  = help: use letters, digits and `_`, not starting with a digit, so that expressions can name it

                error[G024]: `result` already has a meaning in expressions
                 --> g.yaml:4:3
                  |
                4 |   result: {}
                  |   ^^^^^^
                  = help: choose another name for this channel

                error[G024]: `now` already has a meaning in expressions
                 --> g.yaml:6:47
                  |
                6 |   a: { set: { my-log: 1, result: 2 }, with: { now: 1 }, then: end }
                  |                                               ^^^
                  = help: choose another name for this variable

            "#]],
        );
    }
}
