//! The world of one incident: what each tool answers, and what each act does to it. Flags hold by environment, so a remedy
//! can work in staging and not in production.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use graphs::EffectClass;
use parking_lot::Mutex;
use runtime_core::error::{ErrorClass, TaskError};
use serde::Deserialize;
use serde_json::{Value, json};
use tools::policy::pattern_fits;
use tools::toolbox::{ToolBox, ToolBrief, ToolRequest, reported_failure};

use crate::golden::Golden;

/// The environment people depend on.
pub const PRODUCTION: &str = "production";
/// The flag of a day that is right again.
pub(crate) const RIGHT: &str = "right";
/// Arguments that name an environment; what stands behind `_` says how it is reached.
const PLACES: [&str; 2] = ["/environment", "/connection"];
/// Longest arguments in a message.
const SHOWN_CHARS_MAX: usize = 300;

/// A reply as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenReply {
    tool: String,
    #[serde(default)]
    args: BTreeMap<String, Value>,
    #[serde(default, rename = "if")]
    when: Vec<String>,
    #[serde(default)]
    times: Option<u32>,
    #[serde(default)]
    gives: Option<Value>,
    #[serde(default)]
    fails: Option<Value>,
    #[serde(default)]
    sets: Vec<String>,
}

/// What a tool answers to calls that fit.
#[derive(Debug, Clone)]
pub struct Reply {
    tool: String,
    args: Vec<(String, Value)>,
    when: Vec<String>,
    times: u32,
    /// The answer.
    pub(crate) gives: Result<Value, TaskError>,
    sets: Vec<String>,
}

impl Reply {
    pub(crate) fn read(written: WrittenReply) -> Result<Self, String> {
        let WrittenReply { tool, args, when, times, gives, fails, sets } = written;
        if let Some(bad) = args.keys().find(|pointer| !pointer.starts_with('/')) {
            return Err(format!("`{tool}`: `{bad}` is not a JSON pointer; write `/{bad}`"));
        }
        let gives = match (gives, fails) {
            (Some(value), None) => Ok(value),
            (None, Some(error)) => {
                let text = error.get("message").and_then(Value::as_str).unwrap_or("it failed").to_owned();
                Err(reported_failure(&tool, Some(&json!({ "error": error })), &text))
            }
            _ => return Err(format!("`{tool}` needs exactly one of `gives` and `fails`")),
        };
        Ok(Self { tool, args: args.into_iter().collect(), when, times: times.unwrap_or(u32::MAX), gives, sets })
    }

    fn fits(&self, target: &str, args: &Value) -> bool {
        self.tool == target
            && self.args.iter().all(|(pointer, wanted)| match (args.pointer(pointer), wanted) {
                (Some(Value::String(found)), Value::String(pattern)) => text_fits(pattern, found),
                (found, wanted) => found == Some(wanted),
            })
    }
}

/// Whether a text is one with `*` for anything.
fn text_fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|head| text.strip_prefix(head)) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(tail) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = rest.get(at + part.len()..).unwrap_or_default();
    }
    rest.ends_with(tail)
}

#[derive(Debug, Default)]
struct State {
    /// Environment and flag.
    flags: BTreeSet<(String, String)>,
    /// How often a reply was given, by environment.
    given: BTreeMap<(usize, String), u32>,
}

impl State {
    /// `flag`, or `!flag`; `environment:flag` holds in that one only.
    fn holds(&self, condition: &str, env: &str) -> bool {
        let (wanted, flag) = match condition.strip_prefix('!') {
            Some(flag) => (false, flag),
            None => (true, condition),
        };
        let (of, flag) = flag.split_once(':').unwrap_or((env, flag));
        self.flags.contains(&(of.to_owned(), flag.to_owned())) == wanted
    }

    fn set(&mut self, flag: &str, env: &str) {
        match flag.strip_prefix('!') {
            Some(flag) => drop(self.flags.remove(&(env.to_owned(), flag.to_owned()))),
            None => drop(self.flags.insert((env.to_owned(), flag.to_owned()))),
        }
    }
}

/// The tools of one incident.
#[derive(Debug)]
pub struct WorldTools {
    name: String,
    replies: Vec<Reply>,
    acts: BTreeSet<String>,
    state: Mutex<State>,
}

impl WorldTools {
    /// The world of an incident as it is when the incident begins.
    pub fn of(golden: &Golden) -> Self {
        let mut state = State::default();
        for flag in &golden.flags {
            match flag.split_once(':') {
                Some((env, flag)) => state.set(flag, env),
                None => ["staging", PRODUCTION].iter().for_each(|env| state.set(flag, env)),
            }
        }
        Self {
            name: golden.id.clone(),
            replies: golden.replies.clone(),
            acts: golden.acts.clone(),
            state: Mutex::new(state),
        }
    }

    /// Whether a flag holds in an environment.
    pub fn holds(&self, flag: &str, env: &str) -> bool {
        self.state.lock().holds(flag, env)
    }

    /// Everything that holds in an environment.
    pub fn flags(&self, env: &str) -> BTreeSet<String> {
        let state = self.state.lock();
        state.flags.iter().filter(|(of, _)| of == env).map(|(_, flag)| flag.clone()).collect()
    }

    fn nothing_fits(&self, request: &ToolRequest) -> TaskError {
        let tools: BTreeSet<&str> = self.replies.iter().map(|reply| reply.tool.as_str()).collect();
        let text = if tools.contains(request.target.as_str()) {
            let args: String = request.args.to_string().chars().take(SHOWN_CHARS_MAX).collect();
            format!("the world of `{}` has no answer of `{}` for {args}", self.name, request.target)
        } else {
            let tools: Vec<&str> = tools.into_iter().collect();
            format!("no tool `{}`: the world of `{}` has {}", request.target, self.name, tools.join(", "))
        };
        TaskError::new(ErrorClass::NotFound, text)
    }
}

fn environment(args: &Value) -> String {
    let named = PLACES.iter().find_map(|place| args.pointer(place).and_then(Value::as_str));
    named.and_then(|name| name.split('_').next()).unwrap_or(PRODUCTION).to_owned()
}

#[async_trait]
impl ToolBox for WorldTools {
    async fn call(&self, request: ToolRequest) -> Result<Value, TaskError> {
        let env = environment(&request.args);
        let mut state = self.state.lock();
        let fitting = self.replies.iter().enumerate().find(|(ix, reply)| {
            reply.fits(&request.target, &request.args)
                && state.given.get(&(*ix, env.clone())).copied().unwrap_or(0) < reply.times
                && reply.when.iter().all(|condition| state.holds(condition, &env))
        });
        let Some((ix, reply)) = fitting else { return Err(self.nothing_fits(&request)) };
        *state.given.entry((ix, env.clone())).or_default() += 1;
        reply.sets.iter().for_each(|flag| state.set(flag, &env));
        reply.gives.clone()
    }

    async fn effect(&self, target: &str) -> Result<EffectClass, TaskError> {
        let is_act = self.acts.contains(target);
        Ok(if is_act { EffectClass::Idempotent } else { EffectClass::ReadOnly })
    }

    async fn list(&self, patterns: &[String]) -> Result<Vec<ToolBrief>, TaskError> {
        let targets: BTreeSet<&String> = self.replies.iter().map(|reply| &reply.tool).collect();
        let mut found = Vec::new();
        for target in targets.into_iter().filter(|target| patterns.iter().any(|pattern| pattern_fits(pattern, target)))
        {
            let effect = self.effect(target).await?;
            let (target, description) = (target.clone(), String::new().into());
            found.push(ToolBrief { target, description, effect, input_schema: json!({ "type": "object" }) });
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn world(text: &str) -> WorldTools {
        let text = format!(
            "worlds:\n  w:\n    acts: [t.act]\n    incident: {{ pipeline: p, business_date: d, environment: production, kind: stale }}\n{text}\nincidents:\n  - {{ id: a, about: x, world: w, truth: {{ class: unknown, ends: handed_over }} }}\n"
        );
        WorldTools::of(&crate::golden::read(&[("w".to_owned(), text)]).unwrap()[0])
    }

    async fn ask(world: &WorldTools, target: &str, args: Value) -> Result<Value, String> {
        let request = ToolRequest {
            target: target.to_owned(),
            args: Arc::new(args),
            key: String::new(),
            effect: EffectClass::ReadOnly,
            pin: None,
            steps: None,
            questions: tools::asking::Questions::Refused,
        };
        world.call(request).await.map_err(|error| error.message)
    }

    #[tokio::test]
    async fn an_act_changes_its_environment_and_no_other() {
        let world = world(
            "    answers:\n      - { tool: t.act, if: [\"!production:stubborn\"], sets: [done], gives: {} }\n      - { tool: t.look, if: [done], gives: 1 }\n      - { tool: t.look, gives: 0 }",
        );
        ask(&world, "t.act", json!({"environment": "staging"})).await.unwrap();
        assert_eq!(ask(&world, "t.look", json!({"connection": "staging_read"})).await, Ok(json!(1)));
        assert_eq!(ask(&world, "t.look", json!({"environment": "production"})).await, Ok(json!(0)));
        assert!(world.holds("done", "staging") && !world.holds("done", PRODUCTION));
    }

    #[tokio::test]
    async fn the_first_answer_that_fits_is_given_as_often_as_it_says() {
        let world = world(
            "    answers:\n      - { tool: t.run, times: 2, fails: { class: transient, message: busy } }\n      - { tool: t.run, args: { /sql: \"SELECT * FROM x*\", /n: 1 }, gives: ok }",
        );
        let args = json!({"sql": "SELECT a FROM x WHERE b", "n": 1});
        for _ in 0..2 {
            assert_eq!(ask(&world, "t.run", args.clone()).await, Err("`t.run` failed: busy".to_owned()));
        }
        assert_eq!(ask(&world, "t.run", args).await, Ok(json!("ok")));
        let other = ask(&world, "t.run", json!({"sql": "DELETE FROM x", "n": 1})).await.unwrap_err();
        assert_eq!(other, r#"the world of `a` has no answer of `t.run` for {"n":1,"sql":"DELETE FROM x"}"#);
        assert_eq!(ask(&world, "t.no", json!({})).await.unwrap_err(), "no tool `t.no`: the world of `a` has t.run");
    }

    #[test]
    fn stars_stand_for_anything() {
        for (pattern, text, fits) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "ab", true),
            ("*b", "ab", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abde", false),
            ("*x*", "axb", true),
        ] {
            assert_eq!(text_fits(pattern, text), fits, "{pattern} {text}");
        }
    }
}
