//! The operator's surface: break the estate, move its calendar, and ask what is true. Never attached to an agent.

use std::sync::OnceLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::effects::{self, Effect};
use super::error::{Result, SandboxError};
use super::faults::{self, Fault, GroundTruth, Injection};
use super::inspect::NoArgs;
use super::registry::{ToolEffect, ToolSpec, plain};
use super::runs::{self, RunDetail};
use super::verify::Verdict;
use super::world::World;
use super::{Environment, Parts, Sandbox, parse_date, template, write_whole};

/// Arguments of `inject_fault`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InjectFault {
    /// The fault.
    pub fault: Fault,
    /// Day to break; the next one if absent. Days in between are processed without a fault.
    pub business_date: Option<String>,
}

/// Arguments of operator tools about one fault.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OneFault {
    /// The fault; its latest injection is meant.
    pub fault: Fault,
}

/// State after a reset.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ResetDone {
    /// Last business date of the history.
    pub last_business_date: String,
}

/// All effects in the books.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Effects {
    /// Production first, then staging, each in order.
    pub effects: Vec<Effect>,
}

fn inject_fault(parts: &mut Parts, args: InjectFault) -> Result<Injection> {
    let date = args.business_date.as_deref().map(parse_date).transpose()?;
    faults::inject(parts, args.fault, date)
}

fn advance(parts: &mut Parts, _: NoArgs) -> Result<RunDetail> {
    let run_id = faults::advance(parts)?;
    runs::detail(&parts.production, &run_id)
}

fn ground_truth(parts: &mut Parts, args: OneFault) -> Result<GroundTruth> {
    faults::ground_truth(parts, args.fault)
}

fn verify_fault(parts: &mut Parts, args: OneFault) -> Result<Verdict> {
    faults::verdict(parts, args.fault)
}

fn resolve_by_person(parts: &mut Parts, args: OneFault) -> Result<RunDetail> {
    let run_id = faults::resolve_by_person(parts, args.fault)?;
    runs::detail(&parts.production, &run_id)
}

fn list_effects(parts: &mut Parts, _: NoArgs) -> Result<Effects> {
    let mut all = effects::effects_after(&parts.production, 0)?;
    all.extend(effects::effects_after(&parts.staging, 0)?);
    Ok(Effects { effects: all })
}

/// Replaces the contents of the open files instead of the files, so that other processes on the folder see it too.
fn reset(parts: &mut Parts, _: NoArgs) -> Result<ResetDone> {
    let pristine = parts.dir.join("pristine.db");
    write_whole(&pristine, template()?)?;
    for db in [&parts.production, &parts.staging] {
        db.conn.execute_batch(
            "DELETE FROM _effects; DELETE FROM _idempotency; DELETE FROM _meta; DELETE FROM sqlite_sequence",
        )?;
        faults::copy_into(db, &pristine.to_string_lossy(), &[])?;
    }
    parts.staging.conn.execute_batch("DELETE FROM ops_tasks; DELETE FROM ops_log; DELETE FROM ops_runs")?;
    parts.world.update(|world| {
        *world = World::default();
        Ok(())
    })?;
    parts.log.clear()?;
    std::fs::remove_file(&pristine).map_err(|e| SandboxError::storage("file pristine.db", e))?;
    Ok(ResetDone { last_business_date: World::default().today.to_string() })
}

/// The operator's tools.
pub fn operator_tools() -> &'static [ToolSpec] {
    use ToolEffect::{Adds, Reads, Replaces};
    static TOOLS: OnceLock<Vec<ToolSpec>> = OnceLock::new();
    TOOLS.get_or_init(|| {
        vec![
            plain(
                ("inject_fault", "Breaks the next business day for real and lets the schedule run into it."),
                Adds,
                inject_fault,
            ),
            plain(("advance", "Schedules the next business day with nothing new broken."), Adds, advance),
            plain(
                (
                    "ground_truth",
                    "What is true about an injected fault: class, cause, remedy, whether a person must be asked.",
                ),
                Reads,
                ground_truth,
            ),
            plain(
                ("verify_fault", "Verdict on an injected fault, computed from the embedded data and digests."),
                Reads,
                verify_fault,
            ),
            plain(
                ("resolve_by_person", "Does what a paged person does about an injected fault, and runs the day again."),
                Replaces,
                resolve_by_person,
            ),
            plain(("list_effects", "Every executed effect in the books of both environments."), Reads, list_effects),
            plain(("reset", "Makes the sandbox new: history only, no faults, no effects."), Replaces, reset),
        ]
    })
}

impl Sandbox {
    /// Breaks the next business day (or `business_date`) and lets the schedule run into it.
    ///
    /// # Errors
    /// If the day is over, or the month.
    pub fn inject(&self, fault: Fault, business_date: Option<&str>) -> Result<Injection> {
        let business_date = business_date.map(str::to_owned);
        self.with(|parts| inject_fault(parts, InjectFault { fault, business_date }))
    }

    /// The truth about the latest injection of `fault`.
    ///
    /// # Errors
    /// If it was not injected.
    pub fn ground_truth(&self, fault: Fault) -> Result<GroundTruth> {
        self.with(|parts| faults::ground_truth(parts, fault))
    }

    /// The verdict on the latest injection of `fault`.
    ///
    /// # Errors
    /// If it was not injected.
    pub fn verify(&self, fault: Fault) -> Result<Verdict> {
        self.with(|parts| faults::verdict(parts, fault))
    }

    /// Every executed effect of one environment, in order.
    ///
    /// # Errors
    /// If the books cannot be read.
    pub fn effects(&self, environment: Environment) -> Result<Vec<Effect>> {
        self.with(|parts| effects::effects_after(parts.db(environment), 0))
    }
}
