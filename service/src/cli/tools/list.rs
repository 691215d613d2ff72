//! `interlock tools list`: every server, its tools, and what the guard would decide.

use std::sync::Arc;

use clap::Args;
use runtime_core::interlocks::guard::{ToolFacts, Version};
use runtime_core::interlocks::plain;
use serde_json::{Value, json};
use tools::hub::{Annotations, Inventory, Look, ToolInfo};
use tools::pinned::{PinnedHub, effect_of};

use super::super::App;
use super::decisions::{self, Row};
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::wiring;

/// Longest description in a table.
const DESCRIPTION_CHARS_MAX: usize = 60;

/// List tools, what their servers say of them, and what the guard would decide
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  interlock tools list\n  interlock tools list warehouse --as remediation --env production --json"
)]
pub(super) struct List {
    /// Only these servers
    servers: Vec<String>,
    /// Decisions for this agent only (none: a `tool` node)
    #[arg(long = "as", value_name = "AGENT")]
    agent: Option<String>,
    /// Decisions in this environment only
    #[arg(long, value_name = "ENV")]
    env: Option<String>,
}

pub(super) async fn run(args: List, app: &App) -> Result<Exit, Failure> {
    let config = app.config()?;
    let (hub, pinned) = wiring::hub(&config);
    let names = chosen(&config, &args.servers)?;
    let mut exit = Exit::Done;
    let mut shown = Vec::new();
    for name in &names {
        match hub.list_tools(name).await {
            Ok(inventory) => {
                let listed = listed(&config, &pinned, &inventory, &args);
                if !app.out.json() {
                    table(app, &config, &inventory, &listed);
                }
                shown.push(server_json(&config, &inventory, &listed, &pinned));
            }
            Err(error) => {
                exit = Exit::Failed;
                let text = plain::escaped(&error.to_string()).replace('\n', " ");
                if !app.out.json() {
                    app.out.line(&format!("{name}: not available: {text}\n"));
                }
                shown.push(json!({"server": name, "ok": false, "error": text}));
            }
        }
        app.out.flush();
    }
    hub.close().await;
    if app.out.json() {
        app.out.json_line(&Value::Array(shown));
    } else if names.is_empty() {
        app.out.note("no tool servers are configured: put `mcpServers` into interlock.yaml");
    }
    Ok(exit)
}

/// The servers that were asked for.
pub(super) fn chosen(config: &Config, wanted: &[String]) -> Result<Vec<String>, Failure> {
    let all: Vec<String> = config.servers.iter().map(|server| server.name.clone()).collect();
    if let Some(unknown) = wanted.iter().find(|wanted| !all.contains(wanted)) {
        let failure = Failure::usage(format!("no server `{unknown}` is configured"));
        return Err(
            failure.help(format!("configured are {}", if all.is_empty() { "none".to_owned() } else { all.join(", ") }))
        );
    }
    Ok(if wanted.is_empty() { all } else { wanted.to_vec() })
}

/// A tool as it is listed.
struct Listed {
    look: Look,
    facts: Result<ToolFacts, String>,
    flags: Vec<tools::scan::Flag>,
    rows: Vec<Row>,
}

/// A tool of an inventory with what its server says of itself.
pub(super) fn look_of(inventory: &Inventory, tool: &ToolInfo) -> Look {
    Look {
        tool: Arc::new(tool.clone()),
        identity: inventory.identity.clone(),
        instructions: inventory.instructions.clone(),
    }
}

fn listed(config: &Config, pinned: &PinnedHub, inventory: &Inventory, args: &List) -> Vec<Listed> {
    let server = &inventory.server;
    let asked = (args.agent.as_deref(), args.env.as_deref());
    let wanted = decisions::wanted(&config.policy, &config.environments, server, asked);
    let one = |tool: &ToolInfo| {
        let look = look_of(inventory, tool);
        let facts = pinned.facts_of(server, &look).map_err(|error| error.message);
        let target = format!("{server}.{}", tool.name);
        let rows = facts.as_ref().map_or_else(
            |_| Vec::new(),
            |facts| decisions::decisions(&config.policy, (&target, effect_of(&look), facts), &wanted),
        );
        Listed { flags: pinned.flags(server, &look).to_vec(), facts, rows, look }
    };
    inventory.tools.iter().map(one).collect()
}

fn server_json(config: &Config, inventory: &Inventory, listed: &[Listed], pinned: &PinnedHub) -> Value {
    let tools = listed.iter().map(|listed| {
        let tool = &listed.look.tool;
        let (state, diff) = state(listed);
        json!({
            "name": tool.name, "target": format!("{}.{}", inventory.server, tool.name), "title": tool.title,
            "description": tool.description, "annotations": tool.annotations, "effect": tool.effect,
            "effect_source": tool.effect_source, "input_schema": tool.input_schema, "output_schema": tool.output_schema,
            "pin": {"state": state, "hash": tool.pin, "diff": diff}, "flags": listed.flags,
            "decisions": listed.rows.iter().map(Row::json).collect::<Vec<_>>(),
        })
    });
    json!({
        "server": inventory.server, "ok": true, "environment": label(config, &inventory.server),
        "protocol_version": inventory.protocol_version, "identity": inventory.identity,
        "instructions": inventory.instructions, "tools": tools.collect::<Vec<_>>(), "left_out": inventory.defects,
        "removed": removed(pinned, inventory),
    })
}

/// Tools that are pinned and that the server does not offer any more.
pub(super) fn removed(pinned: &PinnedHub, inventory: &Inventory) -> Vec<String> {
    let lock = pinned.lock().read().unwrap_or_default();
    let tools = lock.servers.get(&inventory.server).map(|server| server.tools.keys()).into_iter().flatten();
    tools.filter(|name| inventory.tool(name).is_none()).cloned().collect()
}

fn label(config: &Config, server: &str) -> Value {
    let Some(label) = config.policy.labels.get(server) else { return Value::Null };
    match &label.by_argument {
        Some((pointer, labels)) => json!({"argument": pointer, "labels": labels, "default": label.fixed}),
        None => json!(label.fixed),
    }
}

fn state(listed: &Listed) -> (&'static str, Option<&str>) {
    match &listed.facts {
        Ok(facts) => match &facts.version {
            Version::Unkept => ("own", None),
            Version::Unpinned { .. } => ("unpinned", None),
            Version::Pinned { .. } => ("pinned", None),
            Version::Differs { diff, .. } => ("blocked", Some(diff.as_str())),
        },
        Err(why) => ("unreadable", Some(why.as_str())),
    }
}

fn hints(said: &Annotations) -> String {
    let hint = |word: &'static str, no: &'static str, hint: Option<bool>| match hint {
        Some(true) => Some(word),
        Some(false) => Some(no),
        None => None,
    };
    let all = [
        hint("read-only", "writes", said.read_only),
        hint("destructive", "additive", said.destructive),
        hint("idempotent", "not idempotent", said.idempotent),
        hint("open world", "closed world", said.open_world),
    ];
    let said: Vec<&str> = all.into_iter().flatten().collect();
    if said.is_empty() { "-".to_owned() } else { said.join(", ") }
}

fn table(app: &App, config: &Config, inventory: &Inventory, listed: &[Listed]) {
    let place = match label(config, &inventory.server) {
        Value::String(label) => format!("  environment {label}"),
        Value::Null => String::new(),
        by => format!("  environment by argument {}", by["argument"].as_str().unwrap_or("?")),
    };
    let identity = inventory.identity.as_deref().unwrap_or("no name");
    let head = format!("{}: {identity}, MCP {}{place}", inventory.server, inventory.protocol_version);
    app.out.line(&plain::escaped(&head));
    let rows = listed.iter().map(|listed| {
        let tool = &listed.look.tool;
        let said = plain::escaped(tool.description.as_deref().unwrap_or("")).replace(['\n', '\t'], " ");
        let mut cut: String = said.chars().take(DESCRIPTION_CHARS_MAX).collect();
        if cut.len() < said.len() {
            cut.push('…');
        }
        let effect = serde_json::to_value(tool.effect).unwrap_or_default();
        let (state, _) = state(listed);
        let state = if listed.flags.is_empty() { state.to_owned() } else { format!("{state}, suspicious") };
        vec![
            tool.name.clone(),
            hints(&tool.annotations),
            effect.as_str().unwrap_or("?").replace('_', " "),
            state,
            decisions::summary(&listed.rows),
            cut,
        ]
    });
    app.out.table(&["tool", "annotations", "effect", "pin", "guard", "description"], rows.collect());
    for listed in listed {
        if let (state @ ("blocked" | "unreadable"), Some(diff)) = state(listed) {
            let indented = diff.replace('\n', "\n    ");
            app.out.line(&format!("  {} is {state}:\n    {indented}", listed.look.tool.name));
        } else {
            for flag in &listed.flags {
                app.out.line(&format!("  {} is suspicious: {flag}", listed.look.tool.name));
            }
        }
    }
    for defect in &inventory.defects {
        let tool = defect.tool.as_deref().unwrap_or("a tool");
        app.out.line(&plain::escaped(&format!("  left out: {tool}: {}", defect.message)));
    }
    if listed.iter().any(|listed| listed.rows.iter().any(|row| row.by_arguments)) {
        app.out.line("  * another decision with other arguments");
    }
    app.out.line("");
}
