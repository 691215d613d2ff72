//! The timeline of an incident, from the log of its thread: when which node came, what it changed, who decided.

use notify::{LINES_MAX, Notice, Part};
use runtime::history::{self, Checkpoint};
use runtime::ports::store::Store;
use runtime_core::ids::{ThreadId, Timestamp};
use runtime_core::record::{CallKind, CallOutcome};
use runtime_core::state::CallEntry;

/// Heading of the part.
const TITLE: &str = "Timeline";

/// The notice with the timeline of its thread behind its account of causes. Without one it is sent as it is: a timeline is worth
/// less than a notice.
pub(super) async fn added(store: &dyn Store, notice: &Notice, key: &str) -> Notice {
    let mut notice = notice.clone();
    let Some(about) = notice.about.as_mut().filter(|about| !about.rca.is_empty()) else { return notice };
    let Ok(thread) = ThreadId::new(&about.thread) else { return notice };
    match history::checkpoints(store, &thread).await {
        Ok(checkpoints) => about.rca.extend(Part::of(TITLE, lines(&checkpoints, task_of(key)))),
        Err(error) => tracing::warn!(%error, "the log of an incident cannot be read for its timeline"),
    }
    notice
}

/// The task of a call's key, `thread:task:call:generation`.
fn task_of(key: &str) -> &str {
    key.rsplit(':').nth(2).unwrap_or_default()
}

/// One line per act, of the frame that `task` belongs to: several incidents may share a thread.
fn lines(checkpoints: &[Checkpoint], task: &str) -> Vec<String> {
    let holds = |checkpoint: &&Checkpoint| checkpoint.tasks.iter().any(|known| known.id.to_string() == task);
    let Some(last) = checkpoints.iter().rev().find(holds) else { return Vec::new() };
    let mut lines: Vec<String> = Vec::new();
    for checkpoint in checkpoints.iter().filter(|checkpoint| checkpoint.ns == last.ns) {
        let nodes: Vec<&str> = checkpoint.frame.plan.tasks.iter().map(|planned| &*planned.node).collect();
        let acts: Vec<String> = checkpoint.tasks.iter().flat_map(|task| task.calls.values()).filter_map(act).collect();
        let line = format!("{} {}", clock(checkpoint.at), nodes.join(", "));
        lines.push(if acts.is_empty() { line } else { format!("{line}: {}", acts.join("; ")) });
    }
    // The end of a long story is the part that is asked for.
    lines.split_off(lines.len().saturating_sub(LINES_MAX))
}

/// What a call changed, and how that ended.
fn act(call: &CallEntry) -> Option<String> {
    let is_act = call.head.kind == CallKind::Tool && call.head.effect != graphs::EffectClass::ReadOnly;
    let is_question = call.head.kind == CallKind::Question;
    let by = call.answer.as_ref().map(|answer| format!(" (decided by {})", answer.by)).unwrap_or_default();
    if is_question {
        return Some(format!("a person was asked{by}"));
    }
    let ended = match &call.outcome {
        Some(CallOutcome::Ok(_)) => "done",
        Some(CallOutcome::Err(_)) => "failed",
        None => "begun",
    };
    is_act.then(|| format!("{} {ended}{by}", call.head.target))
}

fn clock(at: Timestamp) -> String {
    let time = jiff::Timestamp::from_microsecond(at.0);
    time.map(|time| time.strftime("%Y-%m-%d %H:%M:%S").to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_its_task() {
        assert_eq!(task_of("t:1:0a1b:0:0"), "0a1b");
        assert_eq!(task_of("x"), "");
    }
}
