//! `interlock tools pin`: records what the tools are now, as looked at by whoever runs it.

use clap::Args;
use runtime_core::interlocks::plain;
use serde_json::json;
use tools::hub::Inventory;
use tools::lock::{Lock, PinnedServer, PinnedTool, Standing};
use tools::pinned::PinnedHub;
use tools::scan::Flag;

use super::super::App;
use super::list::{chosen, look_of, removed};
use crate::failure::{Exit, Failure};
use crate::wiring;

/// Record the descriptions and schemas of tools; from then on a change blocks the tool
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  interlock tools pin\n  interlock tools pin warehouse airflow\n  interlock tools pin --check    (fails if anything differs from interlock.lock)"
)]
pub(super) struct Pin {
    /// Only these servers
    servers: Vec<String>,
    /// Change nothing; fail if anything differs from what is pinned
    #[arg(long)]
    check: bool,
    /// Pin also what the scan finds suspicious
    #[arg(long)]
    accept_flagged: bool,
}

/// What pinning a server would change.
struct Change {
    server: String,
    lines: Vec<String>,
    flagged: Vec<(String, Vec<Flag>)>,
    pinned: PinnedServer,
}

pub(super) async fn run(args: Pin, app: &App) -> Result<Exit, Failure> {
    let config = app.config()?;
    let (hub, tools) = wiring::hub(&config);
    let mut changes = Vec::new();
    let mut exit = Exit::Done;
    for name in chosen(&config, &args.servers)? {
        match hub.list_tools(&name).await {
            Ok(inventory) => changes.push(change(&tools, &inventory, args.check)?),
            Err(error) => {
                exit = Exit::Failed;
                app.out.note(&plain::escaped(&format!("{name}: not available, its pins stay: {error}")));
            }
        }
    }
    hub.close().await;
    let flagged: Vec<&Change> = changes.iter().filter(|change| !change.flagged.is_empty()).collect();
    if !args.check && !args.accept_flagged && !flagged.is_empty() {
        return Err(refusal(&flagged));
    }
    let is_same = changes.iter().all(|change| change.lines.is_empty());
    if !args.check {
        let written: Vec<(String, PinnedServer)> =
            changes.iter().map(|change| (change.server.clone(), change.pinned.clone())).collect();
        tools.lock().change(|lock| lock.servers.extend(written)).map_err(Failure::failed)?;
    }
    tell(app, &tools, &changes, &args);
    Ok(if args.check && !is_same { Exit::Failed } else { exit })
}

fn change(tools: &PinnedHub, inventory: &Inventory, checks: bool) -> Result<Change, Failure> {
    let lock = match tools.lock().read() {
        Ok(lock) => lock,
        // Whoever pins has looked at everything, so a broken lock may be written anew; whoever checks may not.
        Err(why) if checks => return Err(Failure::failed(why)),
        Err(why) => return Err(Failure::failed(why).help("delete the file if you mean to pin everything anew")),
    };
    let mut pinned = PinnedServer::default();
    let (mut lines, mut flagged) = (Vec::new(), Vec::new());
    for tool in &inventory.tools {
        let look = look_of(inventory, tool);
        match lock.standing(&inventory.server, &look) {
            Standing::Same => {}
            Standing::Unpinned => lines.push(format!("{}: pinned", tool.name)),
            Standing::Differs(diff) => lines.push(format!("{}:\n    {}", tool.name, diff.replace('\n', "\n    "))),
        }
        let is_looked_at = is_same(&lock, inventory, &look.tool.name, look.tool.pin.as_str());
        let flags = tools.flags(&inventory.server, &look);
        if !flags.is_empty() && !is_looked_at {
            flagged.push((tool.name.clone(), flags.to_vec()));
        }
        pinned.introduced(&look);
        pinned.tools.insert(tool.name.clone(), PinnedTool::of(&look));
    }
    lines.extend(removed(tools, inventory).into_iter().map(|name| format!("{name}: removed")));
    Ok(Change { server: inventory.server.clone(), lines, flagged, pinned })
}

fn is_same(lock: &Lock, inventory: &Inventory, tool: &str, pin: &str) -> bool {
    let known = lock.servers.get(&inventory.server).and_then(|server| server.tools.get(tool));
    known.is_some_and(|known| known.pin == pin)
}

fn refusal(flagged: &[&Change]) -> Failure {
    let mut text = String::from("nothing is pinned: descriptions may speak to the model\n");
    for change in flagged {
        for (tool, flags) in &change.flagged {
            for flag in flags {
                text.push_str(&format!("  {}.{tool}: {flag}\n", change.server));
            }
        }
    }
    Failure::failed(text).help("read them; `--accept-flagged` pins them all the same")
}

fn tell(app: &App, tools: &PinnedHub, changes: &[Change], args: &Pin) {
    if app.out.json() {
        let servers = changes.iter().map(|change| {
            json!({"server": change.server, "tools": change.pinned.tools.len(), "changes": change.lines,
                   "flagged": change.flagged.iter().map(|(tool, flags)| json!({"tool": tool, "flags": flags})).collect::<Vec<_>>()})
        });
        let lock = tools.lock().path();
        app.out.json_line(&json!({"lock": lock, "written": !args.check, "servers": servers.collect::<Vec<_>>()}));
        return;
    }
    for change in changes {
        for line in &change.lines {
            app.out.line(&format!("  {}.{line}", change.server));
        }
        let state = if change.lines.is_empty() { "as pinned" } else { "changed" };
        app.out.line(&format!("{}: {} tools, {state}", change.server, change.pinned.tools.len()));
    }
    if !args.check {
        app.out.note(&format!("written to {}; keep it under version control", tools.lock().path().display()));
    }
}
