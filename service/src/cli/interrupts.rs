//! `interlock interrupts`: the questions that wait for people.

use clap::Args;
use runtime::ports::store::{InterruptRow, PAGE_MAX};
use runtime_core::stream::show_interrupt;
use serde_json::{Value, json};

use super::App;
use crate::failure::{Exit, Failure};
use crate::ids::{ago, short, span};

/// List open questions
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  interlock interrupts\n  interlock interrupts incident-42 --full")]
pub(crate) struct Interrupts {
    /// Only of this thread
    thread: Option<String>,
    /// Show each question whole, with its payload
    #[arg(long)]
    full: bool,
}

pub(crate) async fn run(args: Interrupts, app: &App) -> Result<Exit, Failure> {
    let session = app.session()?;
    let thread = match &args.thread {
        Some(text) => Some(crate::ids::thread(&*session.store, text).await?),
        None => None,
    };
    let rows = session.store.interrupts(thread.as_ref(), PAGE_MAX).await?;
    let now = session.engine.clock().now();
    if app.out.json() {
        app.out.json_line(&rows.iter().map(shown).collect());
    } else if rows.is_empty() {
        app.out.note("no open questions");
    } else if args.full {
        for row in &rows {
            app.out.line(&whole(row));
        }
    } else {
        let cells = rows.iter().map(|row| {
            let left = row.interrupt.expires_at.map_or_else(|| "-".to_owned(), |at| span(at.since(now)));
            vec![
                row.thread.to_string(),
                short(row.interrupt.id),
                row.interrupt.node.to_string(),
                row.interrupt.title.clone(),
                row.interrupt.choices.join("|"),
                ago(row.interrupt.opened_at, now),
                left,
            ]
        });
        app.out.table(&["thread", "question", "node", "title", "choices", "age", "expires in"], cells.collect());
    }
    session.close().await?;
    Ok(Exit::Done)
}

fn shown(row: &InterruptRow) -> Value {
    let mut shown = show_interrupt(&row.interrupt);
    shown["thread_id"] = json!(row.thread);
    shown["opened_at"] = json!(row.interrupt.opened_at.to_string());
    shown["votes"] = json!(row.interrupt.votes.len());
    shown["quorum"] = json!(row.interrupt.quorum);
    shown
}

/// A question with everything a person needs to answer it, and how.
fn whole(row: &InterruptRow) -> String {
    let question = &row.interrupt;
    let choice = question.choices.first().map_or("--value JSON".to_owned(), |choice| format!("--choice {choice}"));
    let (text, _) = described(row, usize::MAX);
    format!("{text}  answer    interlock answer {} {} {choice}\n", row.thread, short(question.id))
}

/// A question with at most so many lines of its payload, and whether there are more.
pub(crate) fn described(row: &InterruptRow, lines_max: usize) -> (String, bool) {
    let question = &row.interrupt;
    let payload = serde_json::to_string_pretty(&question.payload).unwrap_or_default();
    let n_lines = payload.lines().count();
    let mut text = format!("{}\n", question.title);
    if !question.body.is_empty() {
        text.push_str(&format!("{}\n", question.body.trim_end()));
    }
    text.push_str(&format!("  thread    {}\n  question  {}\n  node      {}\n", row.thread, question.id, question.node));
    if !question.approvers.is_empty() {
        text.push_str(&format!("  approvers {} ({} needed)\n", question.approvers.join(", "), question.quorum));
    }
    if !question.choices.is_empty() {
        text.push_str(&format!("  choices   {}\n", question.choices.join(", ")));
    }
    let shown: Vec<&str> = payload.lines().take(lines_max).collect();
    text.push_str(&format!("  payload   {}\n", shown.join("\n            ")));
    if n_lines > lines_max {
        text.push_str(&format!("            … {} more lines\n", n_lines - lines_max));
    }
    (text, n_lines > lines_max)
}
