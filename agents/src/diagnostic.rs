//! The diagnostic agent: says why. It reads and judges; it never acts.

use graphs::AgentNode;
use runtime_core::error::TaskError;
use serde_json::Value;

use crate::desk::Desk;
use crate::diagnosis::Diagnosis;
use crate::facts::{Depth, gather};
use crate::monitor::incident_of;
use crate::{noted, reasoning, recollection};

/// Reads the facts about `incident` and matches them with the known causes. With `depth: second` it reads everything there
/// is, and may only lower the confidence of an earlier opinion about another cause.
pub(crate) async fn diagnose(desk: &Desk<'_>, agent: &AgentNode) -> Result<Value, TaskError> {
    let incident = incident_of(desk.needed("incident")?)?;
    let depth = match desk.text("depth") {
        None | Some("first") => Depth::First,
        Some("second") => Depth::Second,
        Some(other) => {
            return Err(TaskError::invalid(format!(
                "`depth: {other}` of a diagnostic agent: write `first` or `second`"
            )));
        }
    };
    let mut facts = gather(desk, incident, depth).await;
    let rules = desk.kit.knowledge.diagnose(&facts);
    let remembered = recollection::recollect(desk, &agent.role, &facts, &rules).await?;
    let unread = noted::look(desk, &agent.role, &mut facts).await?;
    let mut diagnosis = reasoning::diagnose(desk, agent, (&facts, remembered.as_ref()), rules).await?;
    if let Some(remembered) = remembered {
        remembered.stand_beside(&mut diagnosis, desk.kit);
    }
    diagnosis.noted = std::mem::take(&mut facts.noted);
    diagnosis.gaps.extend(unread);
    if let Ok(first) = serde_json::from_value::<Diagnosis>(desk.value("first").clone()) {
        agree(&mut diagnosis, &first);
    }
    serde_json::to_value(&diagnosis).map_err(|error| TaskError::bug(format!("a diagnosis cannot be written: {error}")))
}

/// Two looks that name different causes are no agreement, however sure each of them was.
fn agree(second: &mut Diagnosis, first: &Diagnosis) {
    if second.cause_id != first.cause_id {
        second.confidence = second.confidence.min(crate::confidence::AMBIGUOUS);
        let other = first.cause_id.as_deref().unwrap_or("unknown");
        second.gaps.push(format!("the first look found another cause: {other}"));
    }
}
