//! Attaches servers of other people for real: every entry of `tools/catalog` that starts without a network.
//!
//! Usage: `third_party CATALOG` names what is to be installed; `third_party CATALOG INSTALLED NODE [ENTRY…]` attaches it. Each check attaches a server through the hub, compares era and
//! classes of tools with what the entry says, makes a call where one works without credentials, and finds no process left at
//! the end. One line a check.

mod entry;
mod place;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use futures_util::{StreamExt as _, stream};
use serde_json::Value;
use tools::hub::{Annotations, CallOptions, Era, Hub, Inventory, Lookup};

use entry::{Check, Entry, Install};
use place::Place;

/// Set here and declared to no server: none of them may see it.
const CANARY: (&str, &str) = ("INTERLOCK_CANARY", "canary-3f9c1a77");

/// Servers attached at a time; their start is work for one core each.
const CHECKS_AT_ONCE: usize = 2;

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [catalog] = args.as_slice() {
        return list(Path::new(catalog));
    }
    let [catalog, installed, node, chosen @ ..] = args.as_slice() else {
        eprintln!("usage: third_party CATALOG [INSTALLED NODE [ENTRY…]]");
        return ExitCode::FAILURE;
    };
    if std::env::var(CANARY.0).as_deref() != Ok(CANARY.1) {
        eprintln!(
            "set {}={} in the environment: its absence from every server is part of the test",
            CANARY.0, CANARY.1
        );
        return ExitCode::FAILURE;
    }
    let entries = match Entry::all(Path::new(catalog)) {
        Ok(entries) => entries,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let chosen = entries.iter().filter(|entry| chosen.contains(&entry.name) || chosen.is_empty() && wanted(entry));
    let checks =
        chosen.flat_map(|entry| entry.check.iter().enumerate().map(move |(index, check)| (entry, index, check)));
    let checks = checks.map(|(entry, index, check)| async move {
        let start = Instant::now();
        let end = attach(entry, check, Path::new(installed), Path::new(node)).await;
        report(&format!("{}/{}", entry.name, index + 1), start, end)
    });
    let good = stream::iter(checks).buffered(CHECKS_AT_ONCE).fold(true, |all, good| async move { all && good });
    if good.await { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn report(name: &str, start: Instant, end: Result<String, String>) -> bool {
    let took = start.elapsed().as_secs_f32();
    match &end {
        Ok(line) => println!("ok      {name}: {line} ({took:.1} s)"),
        Err(error) => println!("FAILED  {name}: {error} ({took:.1} s)"),
    }
    end.is_ok()
}

/// Heavy entries are left out unless `INTERLOCK_THIRD_PARTY=all`.
fn wanted(entry: &Entry) -> bool {
    !entry.heavy || std::env::var("INTERLOCK_THIRD_PARTY").is_ok_and(|which| which == "all")
}

/// One line for each entry that is attached: where from, its name, the packages.
fn list(catalog: &Path) -> ExitCode {
    match Entry::all(catalog) {
        Ok(entries) => {
            for entry in entries.iter().filter(|entry| !entry.check.is_empty() && wanted(entry)) {
                match &entry.install {
                    Install::Npm(package) => println!("npm {} {package}", entry.name),
                    Install::Pypi(packages) => println!("pypi {} {}", entry.name, packages.join(" ")),
                }
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn attach(entry: &Entry, check: &Check, installed: &Path, node: &Path) -> Result<String, String> {
    let place = Place::new(entry, check, installed, node).await?;
    let lookup: Box<Lookup> = Box::new(|_| None);
    let options = tools::hub::HubOptions { lookup, ..Default::default() };
    let hub = Hub::with_options(vec![place.config()], options);
    let result = judge(&hub, check, &place).await;
    hub.close().await;
    let left = place.leave().await;
    result.and_then(|line| left.map(|()| line))
}

async fn judge(hub: &Hub, check: &Check, place: &Place) -> Result<String, String> {
    let list = hub.list_tools("it").await.map_err(|error| error.to_string())?;
    let classes = classes(&list);
    let era = if list.era == Era::Modern { "modern" } else { "initialize" };
    let defects: Vec<_> = list.defects.iter().map(|defect| &defect.message).collect();
    if (era, classes) != (check.era.as_str(), check.tools) || !defects.is_empty() {
        return Err(format!(
            "{era} ({}) with tools {classes:?}, defects {defects:?}; the entry says {} with {:?}",
            list.protocol_version, check.era, check.tools
        ));
    }
    // A pin taken now has to hold a moment later, or every server would be stopped by its own guard.
    let again = hub.list_tools("it").await.map_err(|error| error.to_string())?;
    let moved = list.tools.iter().find(|tool| again.tool(&tool.name).is_none_or(|later| later.pin != tool.pin));
    if let Some(tool) = moved {
        return Err(format!("`{}` has another pin in the second list", tool.name));
    }
    let called = match &check.call {
        Some(call) => {
            let outcome = hub.call("it", &call.tool, place.fill(&call.args), CallOptions::default()).await;
            let outcome = outcome.map_err(|error| error.to_string())?;
            let said = format!("{} {}", outcome.text(), outcome.structured.unwrap_or_default());
            if outcome.is_error != call.error || !said.contains(&call.says) {
                return Err(format!("`{}` answered (error: {}): {said:.300}", call.tool, outcome.is_error));
            }
            format!(", {} called", call.tool)
        }
        None => String::new(),
    };
    if let Some(tool) = &check.hides {
        let outcome = hub.call("it", tool, Value::Null, CallOptions::default()).await;
        let said = outcome.map_err(|error| error.to_string())?.text();
        if said.contains(CANARY.1) || !said.contains("PATH") {
            return Err(format!("`{tool}` shows an environment that was not declared: {said:.300}"));
        }
    }
    let [r, w, d, u] = classes;
    Ok(format!(
        "{} over {}, {r} read, {w} write, {d} destroy, {u} unknown{called}",
        list.protocol_version,
        place.road()
    ))
}

/// Tools by their annotations as sent: reading, writing, destroying, silent.
fn classes(list: &Inventory) -> [usize; 4] {
    let mut counts = [0; 4];
    for tool in &list.tools {
        let hints = &tool.annotations;
        let silent = Annotations { title: hints.title.clone(), ..Annotations::default() } == *hints;
        let class = match (hints.read_only, hints.destructive) {
            (Some(true), _) => 0,
            _ if silent => 3,
            (_, Some(false)) => 1,
            _ => 2,
        };
        counts[class] += 1;
    }
    counts
}
