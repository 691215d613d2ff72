//! What is wrong with a graph file: data until the edge, rendered as text or JSON.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::source::{Source, Span};

/// Diagnostics reported for one file; more are counted, not kept.
const DIAGNOSTICS_MAX: usize = 200;
/// Characters of a source line that are shown.
const SHOWN_LINE_CHARS_MAX: usize = 160;

/// How much a diagnostic matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The graph cannot be used.
    Error,
    /// The graph can be used, but probably does not do what was meant.
    Warning,
}

/// One thing that is wrong, with the place in the file, the cause and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// The rule, as `G007`; `docs/errors/G007.md` explains it.
    pub code: &'static str,
    /// Error or warning.
    pub severity: Severity,
    /// The file, as the caller named it.
    pub file: String,
    /// Byte range in the file.
    pub span: Span,
    /// 1-based line of the start of the span.
    pub line: usize,
    /// 1-based column, in characters.
    pub column: usize,
    /// The text of that line.
    pub source_line: String,
    /// What is wrong.
    pub message: String,
    /// Why it matters or what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// Known names close to the one that was written, nearest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<String>,
}

/// Everything that is wrong with one file, in the order of the file.
#[derive(Debug, Clone)]
pub struct Diagnostics {
    source: Arc<Source>,
    items: Vec<Diagnostic>,
    n_dropped: usize,
}

/// A finding before its place in the file is worked out.
#[derive(Debug, Clone)]
pub(crate) struct Finding {
    pub(crate) code: &'static str,
    pub(crate) severity: Severity,
    pub(crate) span: Span,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
    pub(crate) candidates: Vec<String>,
}

impl Finding {
    /// An error at `span`.
    pub(crate) fn error(code: &'static str, span: Span, message: impl Into<String>) -> Finding {
        Finding { code, severity: Severity::Error, span, message: message.into(), help: None, candidates: Vec::new() }
    }

    /// A warning at `span`.
    pub(crate) fn warning(code: &'static str, span: Span, message: impl Into<String>) -> Finding {
        Finding { severity: Severity::Warning, ..Finding::error(code, span, message) }
    }

    /// Moves the finding to `span`.
    pub(crate) fn at(self, span: Span) -> Finding {
        Finding { span, ..self }
    }

    /// Adds the cause or the remedy.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Finding {
        self.help = Some(help.into());
        self
    }

    /// Adds the known names nearest to the one that was written.
    pub(crate) fn candidates(mut self, candidates: Vec<String>) -> Finding {
        self.candidates = candidates;
        self
    }
}

impl Diagnostics {
    pub(crate) fn new(source: Arc<Source>) -> Diagnostics {
        Diagnostics { source, items: Vec::new(), n_dropped: 0 }
    }

    /// Places a finding in the file and keeps it, unless the same was already reported.
    pub(crate) fn push(&mut self, finding: Finding) {
        if self.items.len() >= DIAGNOSTICS_MAX {
            self.n_dropped += 1;
            // An error is never lost to a warning, or a broken graph would pass.
            let warning = self.items.iter().position(|item| item.severity == Severity::Warning);
            match warning.filter(|_| finding.severity == Severity::Error) {
                Some(ix) => self.items.swap_remove(ix),
                None => return,
            };
        }
        let span = self.source.clamp(finding.span);
        let (line, column) = self.source.position(span.start);
        let diagnostic = Diagnostic {
            code: finding.code,
            severity: finding.severity,
            file: self.source.name().to_owned(),
            span,
            line,
            column,
            source_line: self.source.line(line).chars().take(SHOWN_LINE_CHARS_MAX).collect(),
            message: finding.message,
            help: finding.help,
            candidates: finding.candidates,
        };
        if !self.items.contains(&diagnostic) {
            self.items.push(diagnostic);
        }
    }

    /// Adds a finding.
    pub(crate) fn with(mut self, finding: Finding) -> Diagnostics {
        self.push(finding);
        self
    }

    /// Puts the diagnostics in the order of the file.
    pub(crate) fn sorted(mut self) -> Diagnostics {
        self.items.sort_by_key(|item| (item.span.start, item.span.end, item.code));
        self
    }

    /// The diagnostics, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.items.iter()
    }

    /// The file they are about.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether any of them is an error.
    pub fn has_errors(&self) -> bool {
        self.items.iter().any(|item| item.severity == Severity::Error)
    }

    /// The diagnostics as a JSON array.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(&self.items).unwrap_or(serde_json::Value::Null)
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for item in &self.items {
            item.fmt(f)?;
        }
        if self.n_dropped > 0 {
            writeln!(f, "... and {} more; fix these first", self.n_dropped)?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let margin = self.line.to_string().len();
        writeln!(f, "{severity}[{}]: {}", self.code, self.message)?;
        writeln!(f, "{:margin$}--> {}:{}:{}", "", self.file, self.line, self.column)?;
        writeln!(f, "{:margin$} |", "")?;
        writeln!(f, "{} | {}", self.line, self.source_line)?;
        writeln!(f, "{:margin$} | {}", "", self.underline())?;
        if let Some(nearest) = self.candidates.first() {
            writeln!(f, "{:margin$} = help: did you mean `{nearest}`?", "")?;
        }
        if let Some(help) = &self.help {
            writeln!(f, "{:margin$} = help: {help}", "")?;
        }
        writeln!(f)
    }
}

impl Diagnostic {
    /// Spaces and carets under the part of the source line that the span covers.
    fn underline(&self) -> String {
        let mut line = String::new();
        for c in self.source_line.chars().take(self.column - 1) {
            line.push(if c == '\t' { '\t' } else { ' ' });
        }
        let width = self.covered_chars(self.span.end - self.span.start);
        line.push_str(&"^".repeat(width));
        line
    }

    /// How many characters of the line the first `n_bytes` bytes of the span are.
    fn covered_chars(&self, n_bytes: usize) -> usize {
        let rest = self.source_line.chars().skip(self.column - 1);
        let mut left = n_bytes;
        let covered = rest.take_while(|c| {
            let fits = left > 0;
            left = left.saturating_sub(c.len_utf8());
            fits
        });
        covered.count().max(1)
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn an_error_is_never_lost_among_warnings() {
        let mut diagnostics = Diagnostics::new(Source::new("g.yaml", "a"));
        for ix in 0..DIAGNOSTICS_MAX * 2 {
            diagnostics.push(Finding::warning("G020", Span::new(0, 1), format!("warning {ix}")));
        }
        assert!(!diagnostics.has_errors());
        diagnostics.push(Finding::error("G007", Span::new(0, 1), "an error"));
        assert!(diagnostics.has_errors());
        assert_eq!(diagnostics.len(), DIAGNOSTICS_MAX);
    }

    #[test]
    fn underlines_count_characters_and_keep_tabs() {
        let mut diagnostics = Diagnostics::new(Source::new("g.yaml", "\tnäme: wört\nrest"));
        diagnostics.push(Finding::error("G007", Span::new(8, 13), "here"));
        diagnostics.push(Finding::error("G007", Span::new(8, 18), "over the end of the line").help("help"));
        diagnostics.push(Finding::error("G007", Span::new(8, 13), "here"));
        expect![[r#"
            error[G007]: here
             --> g.yaml:1:8
              |
            1 | 	näme: wört
              | 	      ^^^^

            error[G007]: over the end of the line
             --> g.yaml:1:8
              |
            1 | 	näme: wört
              | 	      ^^^^
              = help: help

        "#]]
        .assert_eq(&diagnostics.sorted().to_string());
    }
}
