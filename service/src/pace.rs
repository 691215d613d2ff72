//! Live progress of a run on a terminal: which node works on what, on standard error.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use runtime_core::stream::{Mode, Modes, StreamEvent};
use serde_json::Value;

/// How often the mark turns.
const TICK: Duration = Duration::from_millis(90);
/// Node names shown at once.
const SHOWN_MAX: usize = 6;

/// A line that says what is going on; nothing at all when nobody looks.
pub(crate) struct Pace {
    bar: Option<ProgressBar>,
    working: BTreeMap<String, String>,
    n_finished: usize,
    /// Tells what agents and tools do, one line each.
    narrates: bool,
}

impl Pace {
    /// A line on standard error if it is a terminal.
    pub(crate) fn new(shown: bool) -> Self {
        let is_terminal = dialoguer::console::Term::stderr().is_term();
        let bar = (shown && is_terminal).then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner:.cyan} {msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(TICK);
            bar
        });
        Self { bar, working: BTreeMap::new(), n_finished: 0, narrates: false }
    }

    /// A line as [`Pace::new`], with one more for everything agents and tools say they do.
    pub(crate) fn narrator(shown: bool) -> Self {
        Self { narrates: shown, ..Self::new(shown) }
    }

    /// The modes it needs beside those that are wanted anyway.
    pub(crate) fn modes(&self, wanted: Modes) -> Modes {
        let wanted = if self.bar.is_some() { wanted.with(Mode::Tasks) } else { wanted };
        if self.narrates { wanted.with(Mode::Custom) } else { wanted }
    }

    /// Says something in place of the nodes.
    pub(crate) fn say(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(text.to_owned());
        }
    }

    /// Prints a line above.
    fn above(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => eprintln!("{text}"),
        }
    }

    /// Takes note of what happened.
    pub(crate) fn event(&mut self, event: &StreamEvent) {
        if self.narrates
            && event.mode == Mode::Custom
            && let Some(line) = told(&event.data)
        {
            self.above(&line);
        }
        if self.bar.is_none() || event.mode != Mode::Tasks {
            return;
        }
        let text = |key: &str| event.data.get(key).and_then(Value::as_str).unwrap_or("").to_owned();
        if event.data.get("result").is_some() {
            self.working.remove(&text("id"));
            self.n_finished += 1;
        } else {
            self.working.insert(text("id"), text("name"));
        }
        let mut names: Vec<&str> = self.working.values().map(String::as_str).take(SHOWN_MAX).collect();
        names.dedup();
        let more = if self.working.len() > SHOWN_MAX { " …" } else { "" };
        self.say(&format!("{}{more}  ({} done)", names.join(", "), self.n_finished));
    }

    /// Takes the line away while `work` uses the terminal.
    pub(crate) fn pause<T>(&self, work: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => {
                bar.disable_steady_tick();
                let result = bar.suspend(work);
                bar.enable_steady_tick(TICK);
                result
            }
            None => work(),
        }
    }

    /// Takes the line away.
    pub(crate) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// What an agent or a tool says it does, in a line; steps of a long call and logs of its server are left out.
fn told(said: &Value) -> Option<String> {
    let text = |key: &str| said.get(key).and_then(Value::as_str);
    let phase = text("phase").unwrap_or("");
    match (text("agent"), text("tool")) {
        (Some(agent), _) => Some(format!("      {agent:<13} {}", text("node").unwrap_or(""))),
        (None, Some(tool)) if !["progress", "log"].contains(&phase) => {
            let place = text("env").map(|env| format!(" in {env}")).unwrap_or_default();
            Some(format!("      {:<13} {tool}{place}", if phase == "calling" { "tool" } else { phase }))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn agents_and_tools_are_told_and_steps_are_not() {
        let agent = json!({"agent": "monitor", "node": "watch", "phase": "working"});
        assert_eq!(told(&agent).as_deref(), Some("      monitor       watch"));
        let tool = json!({"tool": "w.rerun", "env": "staging", "phase": "calling"});
        assert_eq!(told(&tool).as_deref(), Some("      tool          w.rerun in staging"));
        assert_eq!(told(&json!({"tool": "w.rerun", "phase": "progress"})), None);
        assert_eq!(told(&json!({"round": "nothing to do"})), None);
    }
}
