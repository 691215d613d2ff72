//! The notification agent: says it to people, once, in words that stand alone.
//!
//! A page is for someone who was asleep: what broke, what is known, what was tried, what is asked of them. A summary is for
//! the channel: what happened and that it is over. Sending goes through the journal, so a restart pages nobody twice.
//! Besides its text a notice about an incident carries the same as data (`about`), for channels that show more than text.

mod about;
mod rca;

use std::io::Write;
use std::sync::Arc;

use async_trait::async_trait;
use graphs::EffectClass;
use parking_lot::Mutex;
use runtime::{CallSpec, Permit};
use runtime_core::error::{ErrorClass, TaskError};
use runtime_core::record::CallKind;
use runtime_core::retry;
use serde_json::{Value, json};

use crate::desk::Desk;
use crate::incident::{list_at, text_at};
use crate::noted;

pub use notify::{Notice, Urgency};

/// Longest notice in bytes.
const TEXT_BYTES_MAX: usize = 8 * 1024;
/// Most notices a collector keeps.
const COLLECTED_MAX: usize = 10_000;
/// Pieces of evidence in a notice.
const EVIDENCE_MAX: usize = 6;

/// One send of a notice.
pub struct Delivery<'a> {
    /// The same over retries, restarts and workers.
    pub key: &'a str,
    /// Whether the runtime will make the send again if it fails so. A channel that fails has failed for good when it will not.
    pub again: &'a (dyn Fn(&TaskError) -> bool + Send + Sync),
}

/// Where notices go. Contract: sending the same notice with the same key twice is one notice; where a service cannot keep
/// that, the receipt says so. A send is made once: only the runtime repeats it.
#[async_trait]
pub trait Notifier: Send + Sync + 'static {
    /// Sends one notice and returns a receipt.
    async fn send(&self, notice: &Notice, delivery: &Delivery<'_>) -> Result<Value, TaskError>;
}

/// Prints notices.
pub struct Printed<W>(Mutex<W>);

impl<W: Write + Send + 'static> Printed<W> {
    /// Prints to `sink`.
    pub fn to(sink: W) -> Self {
        Self(Mutex::new(sink))
    }
}

#[async_trait]
impl<W: Write + Send + 'static> Notifier for Printed<W> {
    async fn send(&self, notice: &Notice, _: &Delivery<'_>) -> Result<Value, TaskError> {
        let mark = notice.severity.word().to_uppercase();
        let mut sink = self.0.lock();
        writeln!(sink, "[{mark}] {}\n{}\n", notice.title, notice.text).and_then(|()| sink.flush()).map_err(
            |error| TaskError::new(ErrorClass::Resource, format!("the notice could not be printed: {error}")),
        )?;
        Ok(json!({ "channel": "printed" }))
    }
}

/// Keeps notices, for tests and for the demo's table.
#[derive(Default)]
pub struct Collected(Mutex<Vec<(String, Notice)>>);

impl Collected {
    /// All notices so far, in order.
    pub fn notices(&self) -> Vec<Notice> {
        self.0.lock().iter().map(|(_, notice)| notice.clone()).collect()
    }
}

#[async_trait]
impl Notifier for Collected {
    async fn send(&self, notice: &Notice, delivery: &Delivery<'_>) -> Result<Value, TaskError> {
        let mut kept = self.0.lock();
        if kept.iter().all(|(known, _)| known != delivery.key) && kept.len() < COLLECTED_MAX {
            kept.push((delivery.key.to_owned(), notice.clone()));
        }
        Ok(json!({ "channel": "collected" }))
    }
}

/// Writes and sends a notice about one incident, or about a round of them (`outcomes`); a `report` that the graph has
/// written is sent as it is, within the bounds of a notice.
pub(crate) async fn notify(desk: &Desk<'_>, notifier: &Arc<dyn Notifier>) -> Result<Value, TaskError> {
    let urgency = match desk.text("severity") {
        Some("page") => Urgency::Page,
        None | Some("summary") => Urgency::Summary,
        Some(other) => {
            return Err(TaskError::invalid(format!("`severity: {other}` of a notice: write `page` or `summary`")));
        }
    };
    let urgency = if about::held_by(desk.value("incident")).is_some() { Urgency::Summary } else { urgency };
    let notice = match desk.text("report") {
        Some(report) => as_written(desk, urgency, report),
        None if desk.value("incident").is_object() => about_incident(desk, urgency),
        None => about_round(desk, urgency),
    };
    let args = serde_json::to_value(&notice)
        .map_err(|error| TaskError::bug(format!("a notice cannot be written: {error}")))?;
    let target = format!("notify.{}", urgency.word());
    let spec = CallSpec {
        role: Some("notification".into()),
        ..CallSpec::new(CallKind::Notify, &target, args.clone(), EffectClass::Idempotent)
    };
    let (notifier, sent) = (Arc::clone(notifier), notice);
    let (policies, attempts, task) = (desk.ctx.node()?.retry.clone(), desk.ctx.attempts(), desk.ctx.task());
    let send = move |permit: Permit| async move {
        // Whether there is another try does not hang on the chance that spreads them.
        let again = |error: &TaskError| retry::delay(&policies, error, attempts, (task, 0)).is_some();
        notifier.send(&sent, &Delivery { key: &permit.key, again: &again }).await
    };
    let receipt = desk.ctx.call(spec, send).await?;
    if urgency == Urgency::Summary {
        noted::note_end(desk).await?;
    }
    Ok(json!({ "notice": args, "receipt": *receipt }))
}

fn as_written(desk: &Desk<'_>, urgency: Urgency, report: &str) -> Notice {
    let key = desk.text("dedup_key").map_or_else(|| format!("report-{}", desk.ctx.thread()), str::to_owned);
    let title = one_line(desk.text("title").unwrap_or("report"));
    Notice { severity: urgency, title, text: Text(report.to_owned()).done(), dedup_key: key, about: None }
}

fn about_incident(desk: &Desk<'_>, urgency: Urgency) -> Notice {
    let (incident, diagnosis) = (desk.value("incident"), desk.value("diagnosis"));
    let status = desk.text("status").unwrap_or(if urgency == Urgency::Page { "needs a person" } else { "resolved" });
    let mut text = Text::default();
    text.line("Status", status);
    text.line("Noticed", text_at(incident, "/title").unwrap_or_default());
    text.list("Symptoms", list_at(incident, "/symptoms").iter().filter_map(Value::as_str));
    if diagnosis.is_object() {
        let confidence = diagnosis.get("confidence").and_then(Value::as_f64).unwrap_or(0.0);
        let class = text_at(diagnosis, "/class").unwrap_or("unknown");
        text.line("Cause", text_at(diagnosis, "/cause").unwrap_or_default());
        text.line("Class and confidence", &format!("{class}, {confidence:.2}"));
        text.list(
            "Evidence",
            list_at(diagnosis, "/evidence").iter().take(EVIDENCE_MAX).filter_map(|e| text_at(e, "/claim")),
        );
        text.list("Not certain because", list_at(diagnosis, "/gaps").iter().filter_map(Value::as_str));
        let tables = list_at(diagnosis, "/blast_radius/tables").iter().filter_map(Value::as_str).collect::<Vec<_>>();
        text.line("Affected", &tables.join(", "));
    }
    plan_lines(&mut text, desk.value("plan"));
    if let Some(trouble) = text_at(desk.value("trouble"), "/message") {
        text.line("What went wrong on the way", trouble);
    }
    if let Some(choice) = text_at(desk.value("decision"), "/choice") {
        let by = text_at(desk.value("decision"), "/by").unwrap_or("someone");
        text.line("Decision", &format!("{choice} (by {by})"));
    }
    // Last, so that a long one cuts nothing else off.
    text.list("Noted before", noted::lines(diagnosis).iter().map(String::as_str));
    let id = text_at(incident, "/id").unwrap_or("incident");
    let headline = text_at(diagnosis, "/summary").or_else(|| text_at(incident, "/kind")).unwrap_or("incident");
    let (pipeline, day) =
        (text_at(incident, "/pipeline").unwrap_or(""), text_at(incident, "/business_date").unwrap_or(""));
    Notice {
        severity: urgency,
        title: format!("{id} · {pipeline} {day}: {headline} ({status})"),
        text: text.done(),
        dedup_key: text_at(incident, "/fingerprint").unwrap_or(id).to_owned(),
        about: Some(Box::new(about::about(desk, urgency, status))),
    }
}

fn plan_lines(text: &mut Text, plan: &Value) {
    let Some(action) = text_at(plan, "/action") else { return };
    match text_at(plan, "/remedy") {
        Some(remedy) => text.line("Remedy", &format!("{remedy} ({action})")),
        None => text.line("Remedy", "none"),
    }
    text.line("Why", text_at(plan, "/rationale").unwrap_or_default());
    text.line("Not tried in staging", text_at(plan, "/unrehearsed").unwrap_or_default());
    if let Some(tool) = text_at(plan, "/production/act/tool") {
        let args = plan.pointer("/production/act/args").map(Value::to_string).unwrap_or_default();
        text.line("Change", &format!("`{tool}` {args}"));
    }
    let obstacles = list_at(plan, "/considered")
        .iter()
        .filter_map(|c| Some(format!("{}: {}", text_at(c, "/remedy")?, text_at(c, "/obstacle")?)));
    text.list("Considered", obstacles.collect::<Vec<_>>().iter().map(String::as_str));
}

fn about_round(desk: &Desk<'_>, urgency: Urgency) -> Notice {
    let outcomes = desk.list("outcomes");
    let mut text = Text::default();
    let lines: Vec<String> = outcomes
        .iter()
        .map(|outcome| {
            let part = |name: &str| text_at(outcome, &format!("/{name}")).unwrap_or("-");
            let held = about::held_by(outcome).map(|window| format!(", held by {window}")).unwrap_or_default();
            format!(
                "{} {}: {} → {} ({}{held})",
                part("pipeline"),
                part("business_date"),
                part("cause"),
                part("action"),
                part("status")
            )
        })
        .collect();
    text.list("Incidents", lines.iter().map(String::as_str));
    Notice {
        severity: urgency,
        title: format!("{} incident(s) handled", outcomes.len()),
        text: text.done(),
        dedup_key: format!("round-{}", desk.ctx.thread()),
        about: None,
    }
}

/// A text of labelled lines.
#[derive(Default)]
struct Text(String);

impl Text {
    fn line(&mut self, label: &str, value: &str) {
        if !value.is_empty() {
            self.0.push_str(&format!("**{label}**: {}\n", one_line(value)));
        }
    }

    fn list<'a>(&mut self, label: &str, items: impl Iterator<Item = &'a str>) {
        let items: Vec<String> = items.map(|item| format!("- {}\n", one_line(item))).collect();
        if !items.is_empty() {
            self.0.push_str(&format!("**{label}**:\n{}", items.concat()));
        }
    }

    fn done(mut self) -> String {
        let mut cut = self.0.len().min(TEXT_BYTES_MAX);
        while !self.0.is_char_boundary(cut) {
            cut -= 1;
        }
        if cut < self.0.len() {
            self.0.truncate(cut);
            self.0.push('…');
        }
        self.0.truncate(self.0.trim_end().len());
        self.0
    }
}

/// Text of strangers must not look like a line of ours.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(title: &str) -> Notice {
        Notice {
            severity: Urgency::Page,
            title: title.to_owned(),
            text: "t".to_owned(),
            dedup_key: "k".to_owned(),
            about: None,
        }
    }

    #[tokio::test]
    async fn the_same_key_is_one_notice() {
        let collected = Collected::default();
        for key in ["a", "a", "b"] {
            collected.send(&notice(key), &Delivery { key, again: &|_| false }).await.unwrap();
        }
        assert_eq!(collected.notices().iter().map(|n| n.title.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    }

    #[tokio::test]
    async fn printed_notices_say_how_loud_they_are() {
        let printed = Printed::to(Vec::new());
        printed.send(&notice("x"), &Delivery { key: "k", again: &|_| false }).await.unwrap();
        assert_eq!(String::from_utf8(printed.0.into_inner()).unwrap(), "[PAGE] x\nt\n\n");
    }

    #[test]
    fn text_of_strangers_stays_on_its_line_and_within_limits() {
        let mut text = Text::default();
        text.line("Cause", "one\n**Status**: resolved");
        assert_eq!(text.0, "**Cause**: one **Status**: resolved\n");
        text.line("Long", &"é".repeat(TEXT_BYTES_MAX));
        assert!(text.done().len() <= TEXT_BYTES_MAX + 4);
    }
}
