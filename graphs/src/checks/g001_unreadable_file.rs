//! The file cannot be read as a graph at all: it is too large, not UTF-8, empty, holds several YAML documents,
//! or is nested or repeated beyond the limits.
//!
//! A graph file is one YAML document in UTF-8 of at most 1 MiB, at most 64 levels deep, with at most 100 000
//! values, counting what aliases expand to. The limits keep a broken or hostile file from costing time or memory.
//!
//! Split large graphs into subgraphs (`graph:`), save the file as UTF-8, and keep one document per file.
//!
//! Wrong:
//! ```yaml
//! graph: first
//! ---
//! graph: second
//! ```

use crate::diagnostics::Finding;
use crate::source::Span;

pub(crate) const CODE: &str = "G001";

pub(crate) fn too_large(n_bytes: usize, max: usize) -> Finding {
    let message = format!("the file is too large: {n_bytes} bytes, at most {max} are allowed");
    Finding::error(CODE, Span::new(0, 0), message).help("split the graph into subgraphs with `graph:` nodes")
}

pub(crate) fn not_utf8(offset: usize) -> Finding {
    let message = format!("the file is not UTF-8: the byte at offset {offset} is not part of a character");
    Finding::error(CODE, Span::new(offset, offset + 1), message).help("save the file as UTF-8")
}

pub(crate) fn utf16() -> Finding {
    Finding::error(CODE, Span::new(0, 0), "the file is UTF-16, not UTF-8").help("save the file as UTF-8")
}

pub(crate) fn empty() -> Finding {
    Finding::error(CODE, Span::new(0, 0), "the file is empty")
        .help("a graph needs at least `graph:`, `nodes:` and `start:`")
}

pub(crate) fn several_documents(span: Span) -> Finding {
    Finding::error(CODE, span, "the file holds more than one YAML document").help("one file is one graph")
}

pub(crate) fn too_deep(span: Span, max: usize) -> Finding {
    Finding::error(CODE, span, format!("nested deeper than {max} levels"))
}

pub(crate) fn too_many_nodes(span: Span, max: usize) -> Finding {
    Finding::error(CODE, span, format!("the file holds more than {max} values, counting what aliases expand to"))
        .help("split the graph, or repeat less with aliases")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::checks::testing::{check_bytes, check_error};

    #[test]
    fn several_documents() {
        check_error(
            "graph: a\n---\ngraph: b\n",
            expect![[r#"
            error[G001]: the file holds more than one YAML document
             --> g.yaml:2:1
              |
            2 | ---
              | ^^^
              = help: one file is one graph

        "#]],
        );
    }

    #[test]
    fn empty() {
        check_error(
            "# only a comment\n",
            expect![[r#"
            error[G001]: the file is empty
             --> g.yaml:1:1
              |
            1 | # only a comment
              | ^
              = help: a graph needs at least `graph:`, `nodes:` and `start:`

        "#]],
        );
        check_error(
            "",
            expect![[r#"
            error[G001]: the file is empty
             --> g.yaml:1:1
              |
            1 | 
              | ^
              = help: a graph needs at least `graph:`, `nodes:` and `start:`

        "#]],
        );
    }

    #[test]
    fn encodings() {
        check_bytes(
            b"graph: a\nstart: \xff\xfe\n",
            expect![[r#"
            error[G001]: the file is not UTF-8: the byte at offset 16 is not part of a character
             --> g.yaml:2:8
              |
            2 | start: ��
              |        ^
              = help: save the file as UTF-8

        "#]],
        );
        check_bytes(
            b"\xff\xfeg\0r\0",
            expect![[r#"
            error[G001]: the file is UTF-16, not UTF-8
             --> g.yaml:1:1
              |
            1 | 
              | ^
              = help: save the file as UTF-8

        "#]],
        );
    }

    #[test]
    fn sizes() {
        check_bytes(
            &vec![b'a'; 10 << 20],
            expect![[r#"
            error[G001]: the file is too large: 10485760 bytes, at most 1048576 are allowed
             --> g.yaml:1:1
              |
            1 | aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
              | ^
              = help: split the graph into subgraphs with `graph:` nodes

        "#]],
        );
        check_error(
            &"[".repeat(100),
            expect![[r#"
                error[G001]: nested deeper than 64 levels
                 --> g.yaml:1:66
                  |
                1 | [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[
                  |                                                                  ^

            "#]],
        );
        check_error(
            &format!("a: {}", "[".repeat(1_000)),
            expect![[r#"
                error[G001]: nested deeper than 64 levels
                 --> g.yaml:1:69
                  |
                1 | a: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[
                  |                                                                     ^

            "#]],
        );
        check_error(
            &"- ".repeat(1_000),
            expect![[r#"
            error[G001]: nested deeper than 64 levels
             --> g.yaml:1:129
              |
            1 | - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - 
              |                                                                                                                                 ^

        "#]],
        );
    }

    #[test]
    fn alias_bomb() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let inner = format!("*a{}, ", level - 1).repeat(10);
            text.push_str(&format!("a{level}: &a{level} [{inner}]\n"));
        }
        check_error(
            &text,
            expect![[r#"
            error[G001]: the file holds more than 100000 values, counting what aliases expand to
             --> g.yaml:4:9
              |
            4 | a3: &a3 [*a2, *a2, *a2, *a2, *a2, *a2, *a2, *a2, *a2, *a2, ]
              |         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              = help: split the graph, or repeat less with aliases

        "#]],
        );
    }
}
