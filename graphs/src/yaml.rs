//! YAML as a tree in which every key and value knows where it stands.
//!
//! The tree follows the YAML 1.2 core schema strictly: `yes`, `no`, `on` and `off` are text. What could be
//! expensive is bounded: size, depth, nodes, and what aliases expand to.

use std::collections::BTreeMap;
use std::ops::Range;

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Tag};
use serde_json::{Map, Number, Value};

use crate::checks::{g001_unreadable_file as g001, g002_yaml_syntax as g002, g003_duplicate_key as g003};
use crate::diagnostics::Finding;
use crate::source::{Source, Span};

/// Bytes of a graph file.
pub(crate) const FILE_BYTES_MAX: usize = 1 << 20;
/// Nodes of the tree, expanded aliases included.
const NODES_MAX: usize = 100_000;
/// How deep lists and mappings may nest.
const DEPTH_MAX: usize = 64;
/// Repeated keys that are reported.
const DUPLICATES_MAX: usize = 50;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Yaml {
    pub(crate) span: Span,
    pub(crate) data: Data,
}

/// What a value is.
#[derive(Debug, Clone)]
pub(crate) enum Data {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Yaml>),
    Map(Vec<Entry>),
}

/// One key of a mapping with its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_span: Span,
    pub(crate) value: Yaml,
}

impl Yaml {
    /// The value's type, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self.data {
            Data::Null => "nothing",
            Data::Bool(_) => "true or false",
            Data::Number(_) => "a number",
            Data::Text(_) => "text",
            Data::List(_) => "a list",
            Data::Map(_) => "a mapping",
        }
    }

    /// The value as JSON.
    pub(crate) fn json(&self) -> Value {
        match &self.data {
            Data::Null => Value::Null,
            Data::Bool(flag) => Value::Bool(*flag),
            Data::Number(number) => Value::Number(number.clone()),
            Data::Text(text) => Value::String(text.clone()),
            Data::List(items) => items.iter().map(Yaml::json).collect(),
            Data::Map(entries) => {
                Value::Object(entries.iter().map(|e| (e.key.clone(), e.value.json())).collect::<Map<_, _>>())
            }
        }
    }

    /// The value at a JSON pointer, or the closest one around it.
    pub(crate) fn at_pointer(&self, pointer: &str) -> &Yaml {
        let mut here = self;
        for step in pointer.split('/').skip(1) {
            let step = step.replace("~1", "/").replace("~0", "~");
            let next = match &here.data {
                Data::Map(entries) => entries.iter().find(|entry| entry.key == step).map(|entry| &entry.value),
                Data::List(items) => step.parse::<usize>().ok().and_then(|ix| items.get(ix)),
                _ => None,
            };
            match next {
                Some(next) => here = next,
                None => break,
            }
        }
        here
    }
}

/// Reads the one document of a file. `None` if the text is not YAML or is over a limit.
pub(crate) fn read(source: &Source, findings: &mut Vec<Finding>) -> Option<Yaml> {
    let options = granit_parser::options! {
        emit_comments: false,
        emit_unresolved_aliases: true,
        flow_nesting_limit: DEPTH_MAX + 1,
        block_nesting_limit: DEPTH_MAX + 1,
    };
    let mut builder = Builder {
        source,
        findings,
        stack: Vec::new(),
        anchors: BTreeMap::new(),
        n_nodes: 0,
        n_anchored: 0,
        root: None,
    };
    for next in Parser::new_from_str_with_options(source.text(), options) {
        let step = match next {
            Ok((event, span)) => {
                let tag = span.tag_span().and_then(|tag| tag.byte_range());
                builder.take(event, span.byte_range().unwrap_or(0..0), tag)
            }
            Err(error) => Err(syntax_error(source, &error)),
        };
        if let Err(finding) = step {
            builder.findings.push(finding);
            return None;
        }
    }
    let root = builder.root.take();
    if root.is_none() {
        findings.push(g001::empty());
    }
    root
}

fn syntax_error(source: &Source, error: &ScanError) -> Finding {
    let offset = error.marker().byte_offset().unwrap_or(0);
    if matches!(error.kind(), ErrorKind::RecursionLimitExceeded) {
        return g001::too_deep(Span::new(offset, offset + 1), DEPTH_MAX);
    }
    let (line, _) = source.position(offset);
    g002::syntax(Span::new(offset, offset + 1), &error.info(), indented_by_tab(source, line))
}

/// Whether a line or the one before it is indented with a tab, which YAML forbids.
fn indented_by_tab(source: &Source, line: usize) -> bool {
    let indent = |line: usize| source.line(line).chars().take_while(|c| c.is_whitespace()).any(|c| c == '\t');
    indent(line) || (line > 1 && indent(line - 1))
}

/// Builds the tree from the parser's events, without recursion.
struct Builder<'a> {
    source: &'a Source,
    findings: &'a mut Vec<Finding>,
    stack: Vec<Open>,
    anchors: BTreeMap<usize, (Yaml, usize)>,
    n_nodes: usize,
    /// Nodes kept for aliases.
    n_anchored: usize,
    root: Option<Yaml>,
}

/// A list or mapping whose end has not been seen.
struct Open {
    anchor: usize,
    span: Span,
    n_nodes_before: usize,
    content: Content,
}

enum Content {
    List(Vec<Yaml>),
    Map { entries: Vec<Entry>, seen: BTreeMap<String, Span>, key: Option<(String, Span)>, merged: Vec<Yaml> },
}

impl Builder<'_> {
    fn take(&mut self, event: Event<'_>, range: Range<usize>, tag: Option<Range<usize>>) -> Result<(), Finding> {
        let span = Span::new(range.start, range.end);
        let tag_span = tag.map_or(span, |tag| Span::new(tag.start, tag.end));
        match event {
            Event::DocumentStart(..) if self.root.is_some() => Err(g001::several_documents(span)),
            Event::Scalar(text, style, anchor, tag) => {
                let data = scalar(&text, style, tag.as_deref().map(|tag| (tag, tag_span)), span)?;
                self.value(Yaml { span, data }, anchor, 1)
            }
            Event::SequenceStart(_, anchor, _) => self.open(anchor, span, Content::List(Vec::new())),
            Event::MappingStart(_, anchor, _) => {
                let content =
                    Content::Map { entries: Vec::new(), seen: BTreeMap::new(), key: None, merged: Vec::new() };
                self.open(anchor, span, content)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span),
            Event::Alias(id) => match self.anchors.get(&id) {
                Some((value, n_nodes)) => {
                    let (value, n_nodes) = (value.clone(), *n_nodes);
                    self.value(value, 0, n_nodes)
                }
                None => Err(g002::alias_in_itself(span)),
            },
            Event::UnresolvedAlias(name) => Err(g002::unknown_alias(span, &name)),
            _ => Ok(()),
        }
    }

    fn open(&mut self, anchor: usize, span: Span, content: Content) -> Result<(), Finding> {
        if self.stack.len() >= DEPTH_MAX {
            return Err(g001::too_deep(span, DEPTH_MAX));
        }
        if matches!(self.stack.last(), Some(Open { content: Content::Map { key: None, .. }, .. })) {
            return Err(g002::key_not_text(span));
        }
        self.stack.push(Open { anchor, span, n_nodes_before: self.n_nodes, content });
        Ok(())
    }

    fn close(&mut self, end: Span) -> Result<(), Finding> {
        let Some(open) = self.stack.pop() else { return Ok(()) };
        let n_nodes = self.n_nodes - open.n_nodes_before + 1;
        let span = Span::new(open.span.start, end.end.max(open.span.end));
        let data = match open.content {
            Content::List(items) => Data::List(items),
            Content::Map { entries, seen, merged, .. } => Data::Map(self.with_merged(entries, seen, merged)),
        };
        self.n_nodes = open.n_nodes_before;
        self.value(Yaml { span, data }, open.anchor, n_nodes)
    }

    /// Adds the keys of `<<` mappings that the mapping does not have itself.
    fn with_merged(
        &mut self,
        mut entries: Vec<Entry>,
        mut seen: BTreeMap<String, Span>,
        merged: Vec<Yaml>,
    ) -> Vec<Entry> {
        for value in merged {
            let maps = match value.data {
                Data::List(items) => items,
                _ => vec![value],
            };
            for map in maps {
                let Data::Map(inherited) = map.data else {
                    self.findings.push(g002::merge_not_mapping(map.span));
                    continue;
                };
                for entry in inherited {
                    if seen.insert(entry.key.clone(), entry.key_span).is_none() {
                        entries.push(entry);
                    }
                }
            }
        }
        entries
    }

    /// Puts a finished value where it belongs: into the open list or mapping, as its key, or as the root.
    fn value(&mut self, value: Yaml, anchor: usize, n_nodes: usize) -> Result<(), Finding> {
        self.n_nodes = self.n_nodes.saturating_add(n_nodes);
        if self.n_nodes > NODES_MAX {
            return Err(g001::too_many_nodes(value.span, NODES_MAX));
        }
        if anchor != 0 {
            self.n_anchored = self.n_anchored.saturating_add(n_nodes);
            if self.n_anchored > NODES_MAX {
                return Err(g001::too_many_nodes(value.span, NODES_MAX));
            }
            self.anchors.insert(anchor, (value.clone(), n_nodes));
        }
        match self.stack.last_mut().map(|open| &mut open.content) {
            None => self.root = Some(value),
            Some(Content::List(items)) => items.push(value),
            Some(Content::Map { entries, seen, key, merged }) => match key.take() {
                None => *key = Some((key_text(self.source, &value)?, value.span)),
                Some((name, _)) if name == "<<" => merged.push(value),
                Some((name, key_span)) => match seen.get(&name) {
                    Some(first) => {
                        if self.findings.len() < DUPLICATES_MAX {
                            let (line, _) = self.source.position(first.start);
                            self.findings.push(g003::duplicate_key(key_span, &name, line));
                        }
                    }
                    None => {
                        seen.insert(name.clone(), key_span);
                        entries.push(Entry { key: name, key_span, value });
                    }
                },
            },
        }
        Ok(())
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<(&Tag, Span)>, span: Span) -> Result<Data, Finding> {
    let plain = style == ScalarStyle::Plain;
    match tag {
        Some((tag, _)) if tag.is_yaml_core_schema_tag("str") => Ok(Data::Text(text.to_owned())),
        Some((tag, place)) if !tag.is_yaml_core_schema() => Err(g002::unknown_tag(place, &tag.original())),
        Some(_) => resolve(text, span),
        None if plain => resolve(text, span),
        None => Ok(Data::Text(text.to_owned())),
    }
}

/// A key is always text, as it was written: `1:` is the key `1`.
fn key_text(source: &Source, value: &Yaml) -> Result<String, Finding> {
    match &value.data {
        Data::Text(text) => Ok(text.clone()),
        Data::Bool(_) | Data::Number(_) => Ok(source.text().get(value.span.range()).unwrap_or("").trim().to_owned()),
        Data::Null | Data::List(_) | Data::Map(_) => Err(g002::key_not_text(value.span)),
    }
}

/// The meaning of an unquoted scalar in the core schema.
fn resolve(text: &str, span: Span) -> Result<Data, Finding> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Data::Null),
        "true" | "True" | "TRUE" => return Ok(Data::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(Data::Bool(false)),
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Err(g002::not_a_json_number(span, text));
    }
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0o")) {
        let radix = if text.starts_with("0x") { 16 } else { 8 };
        if !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix)) {
            let number = u64::from_str_radix(digits, radix).map_err(|_| g002::number_too_large(span, text))?;
            return Ok(Data::Number(number.into()));
        }
    }
    if !unsigned.is_empty() && unsigned.bytes().all(|b| b.is_ascii_digit()) {
        let plain = text.strip_prefix('+').unwrap_or(text);
        let number = plain.parse::<i64>().map(Number::from).or_else(|_| plain.parse::<u64>().map(Number::from));
        return number.map(Data::Number).map_err(|_| g002::number_too_large(span, text));
    }
    if is_float(unsigned) {
        let number = text.parse::<f64>().ok().and_then(Number::from_f64);
        return number.map(Data::Number).ok_or_else(|| g002::number_too_large(span, text));
    }
    Ok(Data::Text(text.to_owned()))
}

/// `1.5`, `1.`, `.5`, `1e3` and `1.5e-3`, without sign.
fn is_float(text: &str) -> bool {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let exponent_good = exponent.is_none_or(|exponent| digits(exponent.strip_prefix(['-', '+']).unwrap_or(exponent)));
    let mantissa_good = match mantissa.split_once('.') {
        Some((whole, fraction)) => {
            (digits(whole) && (fraction.is_empty() || digits(fraction))) || (whole.is_empty() && digits(fraction))
        }
        None => digits(mantissa),
    };
    exponent_good && mantissa_good
}

/// Where a part of a scalar's text stands in the file: walks the written form and the text side by side.
///
/// Exact for plain and quoted scalars; in folded text it is off by no more than the folded line breaks.
pub(crate) fn part_of_scalar(source: &Source, scalar: Span, text: &str, part: Range<usize>) -> Span {
    let Some(written) = source.text().get(scalar.range()) else { return scalar };
    let mut map = Alignment { written, at: 0 };
    let (mut start, mut end) = (None, None);
    for (offset, c) in text.char_indices() {
        let here = map.advance(c);
        if offset >= part.start && start.is_none() {
            start = Some(here.start);
        }
        if offset < part.end.max(part.start + 1) {
            end = Some(here.end);
        }
    }
    match (start, end) {
        (Some(start), Some(end)) => Span::new(scalar.start + start, scalar.start + end.max(start)),
        _ => Span::new(scalar.end.saturating_sub(1).max(scalar.start), scalar.end),
    }
}

/// A position in the written form of a scalar.
struct Alignment<'w> {
    written: &'w str,
    at: usize,
}

impl Alignment<'_> {
    /// The written form of the next character of the text.
    fn advance(&mut self, wanted: char) -> Range<usize> {
        let rest = self.written.get(self.at..).unwrap_or("");
        for (offset, c) in rest.char_indices() {
            let start = self.at + offset;
            let folded = wanted == ' ' && c == '\n';
            if c == wanted || folded {
                self.at = start + c.len_utf8();
                return start..self.at;
            }
            if c == '\\' && self.written.starts_with('"') {
                self.at = start + escape_len(rest.get(offset..).unwrap_or(""));
                return start..self.at;
            }
        }
        self.at..self.at
    }
}

/// Bytes of the escape that `written` starts with.
fn escape_len(written: &str) -> usize {
    let mut chars = written.chars().skip(1);
    let Some(kind) = chars.next() else { return written.len() };
    let n_digits = match kind {
        'x' => 2,
        'u' => 4,
        'U' => 8,
        _ => 0,
    };
    (1 + kind.len_utf8() + n_digits).min(written.len())
}
