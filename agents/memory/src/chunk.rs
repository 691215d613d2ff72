//! Pieces of a document that are found and cited by themselves: a heading with what is under it, cut where it is long.

use crate::document::Document;

/// Longest piece in lines.
const CHUNK_LINES_MAX: usize = 40;
/// Longest piece in bytes; a single line may be longer.
const CHUNK_BYTES_MAX: usize = 3_000;

/// A piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// Place of its document.
    pub(crate) document: usize,
    /// First and last line in the file.
    pub(crate) lines: (usize, usize),
    /// The headings it stands under, the outermost first.
    pub(crate) headings: Vec<String>,
    /// Its text.
    pub(crate) text: String,
}

impl Chunk {
    /// What it is found by: its own words and those that say what the whole document is about.
    pub(crate) fn searched(&self, document: &Document) -> String {
        format!("{}\n{}\n{}\n{}", document.title, document.tags.join("\n"), self.headings.join("\n"), self.text)
    }
}

/// The pieces of a document in order.
pub(crate) fn chunks(at: usize, document: &Document) -> Vec<Chunk> {
    let mut cut = Cut { document: at, headings: Vec::new(), lines: Vec::new(), n_bytes: 0, chunks: Vec::new() };
    let mut in_code = false;
    for (number, line) in document.text.lines().enumerate() {
        in_code ^= line.trim_start().starts_with("```");
        let heading = heading(line).filter(|_| !in_code);
        let is_full = cut.lines.len() >= CHUNK_LINES_MAX || cut.n_bytes + line.len() > CHUNK_BYTES_MAX;
        if heading.is_some() || (is_full && !cut.lines.is_empty()) {
            cut.end();
        }
        if let Some((level, text)) = heading {
            cut.headings.truncate(level.saturating_sub(1));
            cut.headings.push(text.to_owned());
        }
        cut.n_bytes += line.len() + 1;
        cut.lines.push((document.first_line + number, line));
    }
    cut.end();
    cut.chunks
}

/// Level and text of a heading.
fn heading(line: &str) -> Option<(usize, &str)> {
    let level = line.chars().take_while(|c| *c == '#').count();
    let text = line.get(level..)?.strip_prefix(' ')?;
    (1..=6).contains(&level).then(|| (level, text.trim()))
}

struct Cut<'a> {
    document: usize,
    headings: Vec<String>,
    lines: Vec<(usize, &'a str)>,
    n_bytes: usize,
    chunks: Vec<Chunk>,
}

impl Cut<'_> {
    /// Ends a piece; blank lines around it are not cited.
    fn end(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        self.n_bytes = 0;
        let is_blank = |line: &&(usize, &str)| line.1.trim().is_empty();
        let before = lines.iter().take_while(is_blank).count();
        let after = lines.iter().rev().take_while(is_blank).count();
        let kept = lines.get(before..lines.len().saturating_sub(after)).unwrap_or_default();
        let (Some((from, _)), Some((to, _))) = (kept.first(), kept.last()) else { return };
        let text = kept.iter().map(|(_, line)| *line).collect::<Vec<_>>().join("\n");
        self.chunks.push(Chunk { document: self.document, lines: (*from, *to), headings: self.headings.clone(), text });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Kind;

    fn cut(text: &str) -> Vec<Chunk> {
        let document = Document {
            id: "d".to_owned(),
            kind: Kind::Runbook,
            title: "t".to_owned(),
            text: text.to_owned(),
            first_line: 10,
            version: "1".to_owned(),
            updated: None,
            deprecated: false,
            tags: Vec::new(),
        };
        chunks(0, &document)
    }

    #[test]
    fn headings_cut_and_lines_are_those_of_the_file() {
        let found = cut("intro\n\n# Check\none\n## Deep\ntwo\n\n# Undo\nthree\n");
        let shown: Vec<_> = found.iter().map(|c| (c.lines, c.headings.join(" / "), c.text.as_str())).collect();
        assert_eq!(
            shown,
            [
                ((10, 10), String::new(), "intro"),
                ((12, 13), "Check".to_owned(), "# Check\none"),
                ((14, 15), "Check / Deep".to_owned(), "## Deep\ntwo"),
                ((17, 18), "Undo".to_owned(), "# Undo\nthree"),
            ]
        );
    }

    #[test]
    fn a_comment_in_code_is_no_heading_and_long_parts_are_cut() {
        assert_eq!(cut("```sh\n# not a heading\n```\n").len(), 1);
        assert_eq!(cut(&"line\n".repeat(CHUNK_LINES_MAX * 2 + 1)).len(), 3);
        assert_eq!(cut(&format!("{}\n", "x".repeat(CHUNK_BYTES_MAX - 10)).repeat(3)).len(), 3);
        assert!(cut("\n\n").is_empty());
    }
}
