//! What is said to people: neutral data that every channel renders in its own way.

use serde::{Deserialize, Serialize};

use crate::text::one_line;

/// Most parts of a notice, and of its account of causes.
pub const PARTS_MAX: usize = 16;
/// Most lines of a part.
pub const LINES_MAX: usize = 30;
/// Longest line in bytes.
pub const LINE_BYTES_MAX: usize = 1_000;

/// How loud.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Urgency {
    /// For the channel.
    Summary,
    /// Wake someone.
    Page,
}

impl Urgency {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Summary => "summary",
        }
    }
}

/// Where an incident stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Somebody is needed.
    Open,
    /// Somebody has it.
    Acknowledged,
    /// It is over: its check held, or a person closed it.
    Resolved,
    /// Seen within a maintenance window: nobody is woken.
    Held,
}

impl Phase {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Acknowledged => "acknowledged",
            Self::Resolved => "resolved",
            Self::Held => "held",
        }
    }
}

/// How grave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Good to know.
    Info,
    /// Look at it today.
    Warning,
    /// What people read is wrong or missing.
    Error,
    /// The platform itself is at stake.
    Critical,
}

impl Level {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
        }
    }
}

/// What is said to people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// How loud.
    pub severity: Urgency,
    /// One line.
    pub title: String,
    /// The text, in Markdown.
    pub text: String,
    /// Notices with the same key are about the same thing: a second one updates the first.
    pub dedup_key: String,
    /// The incident it is about, for channels that can show more than text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<Box<About>>,
}

/// The incident of a notice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// Its name for people; what services that page know it by.
    pub incident: String,
    /// Where it stands.
    pub phase: Phase,
    /// The same in the graph's own word.
    pub status: String,
    /// How grave.
    pub level: Level,
    /// What it is, in a few words.
    pub headline: String,
    /// The pipeline.
    pub pipeline: String,
    /// The day that was processed.
    pub business_date: String,
    /// Where.
    pub environment: String,
    /// The team that owns the data, as the estate declares it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The thread that works on it.
    pub thread: String,
    /// The maintenance window it was seen in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_by: Option<String>,
    /// For the card.
    #[serde(default)]
    pub facts: Vec<Fact>,
    /// For the thread below the card.
    #[serde(default)]
    pub parts: Vec<Part>,
    /// At the end: cause, evidence, what was done, what proves it, in which order.
    #[serde(default)]
    pub rca: Vec<Part>,
}

/// One labelled value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// What it is.
    pub label: String,
    /// What it says; plain text of anybody.
    pub value: String,
}

/// A heading with lines; plain text of anybody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The heading.
    pub title: String,
    /// The lines.
    pub lines: Vec<String>,
}

impl Part {
    /// A part within its bounds; none without lines.
    pub fn of(title: &str, lines: impl IntoIterator<Item = String>) -> Option<Self> {
        let mut kept: Vec<String> = Vec::new();
        let mut n_left = 0;
        for line in lines {
            let line = crate::text::cut(&one_line(&line), LINE_BYTES_MAX);
            if line.is_empty() {
                continue;
            }
            if kept.len() < LINES_MAX { kept.push(line) } else { n_left += 1 }
        }
        if n_left > 0 {
            kept.push(format!("… and {n_left} more"));
        }
        (!kept.is_empty()).then(|| Self { title: title.to_owned(), lines: kept })
    }
}

/// Parts as Markdown. What strangers wrote stays on its line, links nothing and opens no tag.
pub fn markdown(title: &str, parts: &[Part]) -> String {
    let mut text = format!("# {}\n", plain_markdown(title));
    for part in parts {
        text.push_str(&format!("\n## {}\n\n", plain_markdown(&part.title)));
        for line in &part.lines {
            text.push_str(&format!("- {}\n", plain_markdown(line)));
        }
    }
    text
}

fn plain_markdown(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for char in one_line(text).chars() {
        if matches!(char, '<' | '>' | '[' | ']' | '\\' | '`') {
            plain.push('\\');
        }
        plain.push(char);
    }
    plain
}

/// A notice to look at and to try a channel with.
pub fn sample(urgency: Urgency, phase: Phase, key: &str) -> Notice {
    let part =
        |title: &str, lines: &[&str]| Part { title: title.into(), lines: lines.iter().map(|&l| l.into()).collect() };
    let fact = |label: &str, value: &str| Fact { label: label.into(), value: value.into() };
    let is_over = phase == Phase::Resolved;
    let status = if is_over { "healed" } else { "needs a person" };
    let evidence = part(
        "Evidence",
        &["the privilege INSERT on fact_daily_carrier is missing (warehouse.table_privileges, call 3)"],
    );
    let rca = vec![
        part("Cause", &["The account etl_writer lost its right to insert into fact_daily_carrier."]),
        evidence.clone(),
        part("What was done", &["grant-declared-privilege: warehouse.grant_privilege, approved by ann"]),
        part("Verified by", &["SELECT count(*) = 897 AS ok FROM fact_daily_carrier → ok"]),
    ];
    Notice {
        severity: urgency,
        title: format!("{key} · flights_daily 2013-01-23: a privilege was revoked ({status})"),
        text: "This is a test of the channel. Nothing has happened.".into(),
        dedup_key: key.into(),
        about: Some(Box::new(About {
            incident: key.into(),
            phase,
            status: status.into(),
            level: if is_over { Level::Info } else { Level::Warning },
            headline: "test: a privilege was revoked".into(),
            pipeline: "flights_daily".into(),
            business_date: "2013-01-23".into(),
            environment: "production".into(),
            owner: Some("data-platform".into()),
            thread: "test".into(),
            held_by: None,
            facts: vec![
                fact("Cause", "This is a test of the channel. Nothing has happened."),
                fact("Class and confidence", "configuration, 0.94"),
                fact("Affected", "fact_daily_carrier"),
            ],
            parts: vec![evidence],
            rca: if is_over { rca } else { Vec::new() },
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strangers_line_makes_no_heading_link_or_tag() {
        let part = Part::of("Cause", ["x\n# Resolved <b>[y](http://z)</b>".to_owned()]).unwrap();
        let text = markdown("inc-1", &[part]);
        assert_eq!(text, "# inc-1\n\n## Cause\n\n- x # Resolved \\<b\\>\\[y\\](http://z)\\</b\\>\n");
    }

    #[test]
    fn lines_that_do_not_fit_are_counted() {
        let part = Part::of("E", (0..LINES_MAX + 5).map(|n| n.to_string())).unwrap();
        assert_eq!(part.lines.last().map(String::as_str), Some("… and 5 more"));
        assert_eq!(Part::of("E", [String::new(), "  ".to_owned()]), None);
    }
}
