//! Standard output and error of a command. A reader that goes away is quiet: the command goes on and nothing is printed.

use std::cell::{Cell, RefCell};
use std::io::{self, BufWriter, ErrorKind, Write};

use comfy_table::{ContentArrangement, Table, TableStyle, presets};
use dialoguer::console::{Style, Term};
use serde_json::Value;

/// Narrowest table that is still laid out for a terminal.
const WIDTH_MIN: u16 = 40;

/// Where a command prints.
pub(crate) struct Out {
    json: bool,
    stdout: RefCell<BufWriter<Box<dyn Write>>>,
    /// The reader went away, or the disk behind it is full.
    closed: Cell<bool>,
    failed: RefCell<Option<io::Error>>,
    width: Option<u16>,
    colours: bool,
}

impl Out {
    /// The process's own streams.
    pub(crate) fn new(json: bool) -> Self {
        let term = Term::stdout();
        let width = term.is_term().then(|| term.size().1.max(WIDTH_MIN));
        Self {
            json,
            stdout: RefCell::new(BufWriter::new(Box::new(io::stdout()))),
            closed: Cell::new(false),
            failed: RefCell::new(None),
            width,
            colours: term.is_term() && dialoguer::console::colors_enabled(),
        }
    }

    /// Whether machines read along.
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// Whether a person sits before it.
    pub(crate) fn is_terminal(&self) -> bool {
        self.width.is_some()
    }

    /// Columns of the terminal, if it is one.
    pub(crate) fn width(&self) -> Option<u16> {
        self.width
    }

    /// Prints a text and a line break.
    pub(crate) fn line(&self, text: &str) {
        self.write(text.as_bytes());
        self.write(b"\n");
    }

    /// Prints a text as it is.
    pub(crate) fn text(&self, text: &str) {
        self.write(text.as_bytes());
    }

    /// Prints one value on one line.
    pub(crate) fn json_line(&self, value: &Value) {
        self.line(&value.to_string());
    }

    /// Prints a value for people to read, or on one line for machines.
    pub(crate) fn value(&self, value: &Value) {
        if self.json {
            self.json_line(value);
        } else {
            self.line(&serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string()));
        }
    }

    /// Prints a note for people; it never mixes with the result on standard output.
    pub(crate) fn note(&self, text: &str) {
        if !self.json {
            self.flush();
            // Nobody reads notes: nothing to do about it.
            let _ = writeln!(io::stderr(), "{text}");
        }
    }

    /// Prints an error for people.
    pub(crate) fn error(&self, text: &str) {
        let is_coloured = Term::stderr().is_term() && dialoguer::console::colors_enabled_stderr();
        let text = if is_coloured { paint_word(text, "error", "red") } else { text.to_owned() };
        // Nobody reads it: nothing to do about it.
        let _ = write!(io::stderr(), "{text}");
    }

    /// Prints aligned columns.
    pub(crate) fn table(&self, header: &[&str], rows: Vec<Vec<String>>) {
        self.text(&table(header, rows, self.width));
    }

    /// Prints aligned columns in which the words for a status are coloured.
    pub(crate) fn statuses(&self, header: &[&str], rows: Vec<Vec<String>>) {
        self.text(&self.paint(&table(header, rows, self.width)));
    }

    /// Colours the words that stand for a status, on a terminal only.
    pub(crate) fn paint(&self, text: &str) -> String {
        if !self.colours {
            return text.to_owned();
        }
        STATUS_STYLES.iter().fold(text.to_owned(), |text, (word, colour)| paint_word(&text, word, colour))
    }

    /// Dims a text on a terminal.
    pub(crate) fn dim(&self, text: &str) -> String {
        if self.colours { Style::new().dim().apply_to(text).to_string() } else { text.to_owned() }
    }

    /// Writes what is buffered.
    pub(crate) fn flush(&self) {
        if !self.closed.get() {
            let result = self.stdout.borrow_mut().flush();
            self.settle(result);
        }
    }

    /// The error that standard output ended with, if it was more than a reader going away.
    pub(crate) fn take_error(&self) -> Option<io::Error> {
        self.flush();
        self.failed.borrow_mut().take()
    }

    fn write(&self, bytes: &[u8]) {
        if !self.closed.get() {
            let result = self.stdout.borrow_mut().write_all(bytes);
            self.settle(result);
        }
    }

    fn settle(&self, result: io::Result<()>) {
        if let Err(error) = result {
            self.closed.set(true);
            if error.kind() != ErrorKind::BrokenPipe {
                *self.failed.borrow_mut() = Some(error);
            }
        }
    }
}

const STATUS_STYLES: &[(&str, &str)] = &[
    ("interrupted", "yellow"),
    ("waiting", "yellow"),
    ("contained", "yellow"),
    ("busy", "cyan"),
    ("done", "green"),
    ("idle", "green"),
    ("healed", "green"),
    ("passed", "green"),
    ("failed", "red"),
    ("stopped", "red"),
    ("error", "red"),
    ("warning", "yellow"),
    ("damaged", "red"),
];

fn paint_word(text: &str, word: &str, colour: &str) -> String {
    let style = Style::from_dotted_str(colour).force_styling(true);
    let mut painted = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(word) {
        let (before, after) = (&rest[..at], &rest[at + word.len()..]);
        let joins = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
        let whole = !before.ends_with(joins) && !after.starts_with(joins);
        painted.push_str(before);
        if whole {
            painted.push_str(&style.apply_to(word).to_string());
        } else {
            painted.push_str(word);
        }
        rest = after;
    }
    painted.push_str(rest);
    painted
}

/// Aligned columns without lines; wrapped to `width` when there is one.
pub(crate) fn table(header: &[&str], rows: Vec<Vec<String>>, width: Option<u16>) -> String {
    laid_out(presets::NOTHING, header, rows, width)
}

/// Columns with a line between rows, for cells of several lines.
pub(crate) fn ruled_table(header: &[&str], rows: Vec<Vec<String>>, width: u16) -> String {
    laid_out(presets::UTF8_HORIZONTAL_ONLY, header, rows, Some(width))
}

fn laid_out(style: TableStyle, header: &[&str], rows: Vec<Vec<String>>, width: Option<u16>) -> String {
    let mut table = Table::new();
    table.load_style(style);
    match width {
        Some(width) => drop(table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width)),
        None => drop(table.set_content_arrangement(ContentArrangement::Disabled)),
    }
    table.set_header(header.iter().map(|title| title.to_uppercase()).collect::<Vec<_>>());
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let text = table.to_string();
    text.lines().flat_map(|line| [line.trim_end(), "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_table_is_aligned_and_has_no_trailing_blanks() {
        let rows = vec![vec!["a".to_owned(), "1".to_owned()], vec!["long name".to_owned(), "22".to_owned()]];
        expect![[r#"
            NAME       N
            a          1
            long name  22
        "#]]
        .assert_eq(&table(&["name", "n"], rows, None));
    }

    #[test]
    fn a_wide_cell_wraps_inside_the_terminal() {
        let rows = vec![vec!["x".to_owned(), "one two three four five six seven eight".to_owned()]];
        let text = table(&["a", "b"], rows, Some(WIDTH_MIN));
        assert!(text.lines().all(|line| line.chars().count() <= usize::from(WIDTH_MIN)), "{text}");
    }

    #[test]
    fn only_whole_words_are_painted() {
        let painted = paint_word("done undone done not_done", "done", "green");
        assert_eq!(painted.matches("\u{1b}[").count(), 4, "{painted:?}");
    }
}
