//! `interlock postmortem`: a draft about an incident, made of the thread's record. No model writes a word of it; what a model
//! said while the incident was worked on is marked as that.

use std::fmt::Write as _;

use clap::Args;
use runtime::ports::store::AuditRecord;
use runtime_core::ids::{ThreadId, Timestamp};
use runtime_core::interlocks::{plain, redact};
use serde_json::Value;

use super::{App, audit};
use crate::failure::{Exit, Failure};
use crate::past::{self, Past};

/// Most rows of the timeline; what is in between is counted.
const ROWS_MAX: usize = 500;
/// Longest cell.
const CELL_CHARS_MAX: usize = 600;
/// Details of a decision that the timeline shows.
const DETAILS: [&str; 7] = ["target", "env", "title", "choice", "rule", "approver", "why"];

/// Draft a post-mortem from a thread's record, in Markdown
///
/// The timeline is the record itself: each row names the decision of the audit chain or the checkpoint it comes from.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  interlock postmortem null-burst-2013-01-24 > postmortem.md\n  interlock postmortem null-burst-2013-01-24 --json"
)]
pub(crate) struct Postmortem {
    /// The thread, or the end of its id
    thread: String,
}

pub(crate) async fn run(args: Postmortem, app: &App) -> Result<Exit, Failure> {
    let session = app.session()?;
    let (thread, state) = session.thread(&args.thread).await?;
    let past = past::incidents(&*session.store, &thread, &state).await;
    let mut decisions = Vec::new();
    let read = audit::each(&*session.store, 1, |record| {
        if record.thread == thread {
            decisions.push(record.clone());
        }
    })
    .await;
    session.close().await?;
    read?;
    let drafts: Vec<String> = past?.iter().map(|past| draft(&thread, past, &decisions)).collect();
    if app.out.json() {
        app.out.json_line(&serde_json::json!({"thread": thread, "drafts": drafts}));
    } else {
        app.out.text(&drafts.join("\n---\n\n"));
    }
    Ok(Exit::Done)
}

/// A text of systems and strangers on one line of Markdown: nothing in it is markup, no secret is in it.
fn cell(text: &str) -> String {
    let text = plain::escaped(&redact::whole_text(text));
    let mut shown = String::new();
    for c in text.chars().take(CELL_CHARS_MAX) {
        match c {
            '\n' | '\t' | '\r' => shown.push(' '),
            '|' | '<' | '>' | '`' | '*' | '_' | '[' | ']' | '\\' | '#' => {
                shown.push('\\');
                shown.push(c);
            }
            c => shown.push(c),
        }
    }
    if text.chars().count() > CELL_CHARS_MAX {
        shown.push('…');
    }
    shown
}

fn draft(thread: &ThreadId, past: &Past, decisions: &[AuditRecord]) -> String {
    let mut text = String::new();
    let incident = &past.incident;
    let _infallible = write!(
        text,
        "# Post-mortem (draft): {}\n\nMade from the record of thread {}; no model wrote it. Impact and lessons are for people to add.\n\n",
        cell(&incident.title),
        cell(thread.as_str())
    );
    let mut row = |name: &str, value: &str| {
        let _infallible = writeln!(text, "| {name} | {} |", cell(value));
    };
    row("incident", &format!("{} ({})", incident.id, incident.kind.word()));
    row("---", "---");
    row("pipeline, day", &format!("{} {}, {}", incident.pipeline, incident.business_date, incident.environment));
    row("tables", &incident.tables.join(", "));
    row("outcome", &ended(past));
    if let Some(diagnosis) = &past.diagnosis {
        row("cause", &format!("{}: {}", diagnosis.class.word(), diagnosis.summary));
        row("confidence", &format!("{:.2}", diagnosis.confidence));
    }
    if let Some(by) = past.values["decision"]["by"].as_str() {
        row("a person decided", by);
    }
    text.push_str("\n## What was noticed\n\n");
    incident.symptoms.iter().for_each(|symptom| bullet(&mut text, symptom));
    cause(&mut text, past);
    text.push_str("\n## What was done\n\n");
    bullet(&mut text, past.values["plan"]["rationale"].as_str().unwrap_or("no remedy was chosen"));
    if let Some(trouble) = past.values["trouble"]["message"].as_str() {
        bullet(&mut text, &format!("trouble: {trouble}"));
    }
    timeline(&mut text, past, decisions);
    text.push_str("\n## For people to add\n\n- Who was affected, and for how long:\n- What went well, what did not:\n- What is done so that it does not come back, by whom, until when:\n");
    text
}

fn bullet(text: &mut String, line: &str) {
    let _infallible = writeln!(text, "- {}", cell(line));
}

/// How it ended, and whether the runtime has checked that.
fn ended(past: &Past) -> String {
    let verified = past.values["outcome"]["verified"] == Value::Bool(true);
    format!(
        "{}, {}",
        past.status().replace('_', " "),
        if verified { "verified by the runtime" } else { "not verified" }
    )
}

fn cause(text: &mut String, past: &Past) {
    text.push_str("\n## Cause\n\n");
    let Some(diagnosis) = &past.diagnosis else { return bullet(text, "no diagnosis was made") };
    bullet(text, &diagnosis.cause);
    for evidence in &diagnosis.evidence {
        bullet(text, &format!("evidence: {}", evidence.cited()));
    }
    diagnosis.gaps.iter().for_each(|gap| bullet(text, &format!("not known, or against it: {gap}")));
    for step in &diagnosis.tiers {
        bullet(text, &format!("a model of tier {} was asked: {}", step.tier, step.why));
    }
    for cited in &diagnosis.runbooks {
        bullet(text, &format!("see {} ({})", cited.title, cited.cites));
    }
    diagnosis.noted.iter().for_each(|noted| bullet(text, &format!("noted before: {}", noted.line())));
    for similar in &diagnosis.similar {
        let other = if similar.other_cause { ", another cause" } else { "" };
        bullet(text, &format!("looked like {} of {} days ago{other}: {}", similar.id, similar.age_days, similar.cause));
    }
}

/// The nodes that ran and the decisions, in the order of their times. Of one moment the step stands before its decisions.
fn timeline(text: &mut String, past: &Past, decisions: &[AuditRecord]) {
    text.push_str("\n## Timeline (UTC)\n\n| time | what | who | source |\n| --- | --- | --- | --- |\n");
    let mut rows: Vec<(Timestamp, u64, [String; 3])> = Vec::new();
    for step in &past.steps {
        let failed = step.error.as_ref().map(|error| format!(", failed: {error}")).unwrap_or_default();
        let what = format!("step {}{failed}", step.node);
        rows.push((step.at, 0, [what, "runtime".to_owned(), format!("checkpoint {}", step.checkpoint)]));
    }
    for record in decisions {
        let details = DETAILS.iter().filter_map(|key| record.entry.detail.get(key)?.as_str());
        let details = details.collect::<Vec<_>>().join(", ");
        let node = if record.entry.node.is_empty() { String::new() } else { format!(" at {}", record.entry.node) };
        let what = format!("{}{node}: {details}", record.entry.action);
        rows.push((record.at, record.seq, [what, record.entry.actor.clone(), format!("audit {}", record.seq)]));
    }
    // By the moments themselves: as text, `.34Z` comes after `.345Z`.
    rows.sort_by_key(|(at, seq, _)| (*at, *seq));
    let n_left_out = rows.len().saturating_sub(ROWS_MAX);
    for (at, _, [what, who, source]) in rows.into_iter().take(ROWS_MAX) {
        let at: String = at.to_string().chars().take(23).collect();
        let _infallible = writeln!(text, "| {at} | {} | {} | {source} |", cell(&what), cell(&who));
    }
    if n_left_out > 0 {
        let _infallible =
            writeln!(text, "\n{n_left_out} more rows: `interlock audit export --thread ID` has them all.");
    }
}
