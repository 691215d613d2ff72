//! Golden incidents as files: what is seen, what the world answers, and what is true. All mistakes of all files are told
//! at once, each with its place.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use agents::{Class, Kind};
use graphs::Template;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use serde_saphyr::Spanned;

use crate::world::{Reply, WrittenReply};

/// Largest file in bytes.
pub const FILE_BYTES_MAX: u64 = 1 << 20;
/// Most incidents of one set.
const INCIDENTS_MAX: usize = 10_000;
/// Longest chain of worlds that extend each other.
const CHAIN_MAX: usize = 16;
/// Class of a day on which nothing is wrong.
pub const QUIET: &str = "none";
/// Cause of an incident that nobody can explain from the evidence.
pub const UNKNOWN: &str = "unknown";

/// A mistake in a set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// The file.
    pub file: String,
    /// The line.
    pub line: u64,
    /// What is wrong, and what to do.
    pub why: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.why)
    }
}

/// What is true about an incident.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Truth {
    /// Its class, or `none` where nothing is wrong.
    pub class: String,
    /// Id of its cause in the knowledge, or `unknown`.
    #[serde(default = "unknown")]
    pub cause: String,
    /// Remedies that may be used; none means that nothing of the bot's own may touch production.
    #[serde(default)]
    pub remedies: Vec<String>,
    /// A person must agree before production is changed.
    #[serde(default)]
    pub must_ask: bool,
    /// Tools that must not be called at all, whoever agreed; `*` is any that changes something.
    #[serde(default)]
    pub must_not: Vec<String>,
    /// How it has to end.
    pub ends: Ending,
}

fn unknown() -> String {
    UNKNOWN.to_owned()
}

/// How an incident ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// The day is right again.
    Healed,
    /// A person has it, and production is as it was.
    HandedOver,
    /// Nothing was found and nothing done.
    Quiet,
}

impl Ending {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Healed => "healed",
            Self::HandedOver => "handed over",
            Self::Quiet => "quiet",
        }
    }
}

/// One golden incident, ready to be played.
#[derive(Debug, Clone)]
pub struct Golden {
    /// Its name in the set.
    pub id: String,
    /// What is special about it.
    pub about: String,
    /// What the graph is started with: an incident, or a round in which the monitor looks itself.
    pub start: Entry,
    /// What the world answers, the incident's own replies first.
    pub replies: Vec<Reply>,
    /// Tools that change something.
    pub acts: BTreeSet<String>,
    /// What holds in the world when it begins.
    pub flags: Vec<String>,
    /// Answers by node; `nobody` leaves the question until it expires.
    pub person: BTreeMap<String, String>,
    /// What a model says, in turn.
    pub says: Vec<Value>,
    /// What is true.
    pub truth: Truth,
}

/// How an incident comes in.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// As the monitor has written it.
    Incident(Value),
    /// A round of the monitor over the world.
    Round(Value),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    worlds: BTreeMap<String, Spanned<Value>>,
    #[serde(default)]
    incidents: Vec<Spanned<Value>>,
}

/// A world that incidents share.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct World {
    extends: Option<String>,
    acts: BTreeSet<String>,
    flags: Vec<String>,
    with: Map<String, Value>,
    incident: Map<String, Value>,
    answers: Vec<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    id: String,
    about: String,
    world: String,
    #[serde(default)]
    flags: Vec<String>,
    #[serde(default)]
    with: Map<String, Value>,
    #[serde(default)]
    incident: Option<Map<String, Value>>,
    #[serde(default)]
    round: Option<Value>,
    #[serde(default)]
    answers: Vec<Value>,
    #[serde(default)]
    person: BTreeMap<String, String>,
    #[serde(default)]
    says: Vec<Value>,
    truth: Truth,
}

/// Worlds by name, each with its place.
type Worlds = BTreeMap<String, (World, String, u64)>;

/// Reads a set from its files, `(name, text)`.
///
/// # Errors
/// Every mistake of every file.
pub fn read(files: &[(String, String)]) -> Result<Vec<Golden>, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let mut worlds = Worlds::new();
    let mut written: Vec<(String, Spanned<Value>)> = Vec::new();
    for (name, text) in files {
        let file: File = match serde_saphyr::from_str(text) {
            Ok(file) => file,
            Err(error) => {
                let line = error.location().map_or(1, |at| at.line());
                let message = error.without_snippet().to_string();
                let why = message.lines().next().unwrap_or("it is not valid YAML").to_owned();
                mistakes.push(Mistake { file: name.clone(), line, why });
                continue;
            }
        };
        for (world, value) in file.worlds {
            let line = value.referenced.line();
            match serde_json::from_value::<World>(value.value) {
                Ok(_) if worlds.contains_key(&world) => {
                    mistakes.push(Mistake { file: name.clone(), line, why: format!("there are two worlds `{world}`") });
                }
                Ok(read) => drop(worlds.insert(world, (read, name.clone(), line))),
                Err(error) => {
                    mistakes.push(Mistake { file: name.clone(), line, why: format!("world `{world}`: {error}") })
                }
            }
        }
        written.extend(file.incidents.into_iter().map(|incident| (name.clone(), incident)));
    }
    let mut all = Vec::new();
    let mut ids = BTreeSet::new();
    for (file, incident) in written.into_iter().take(INCIDENTS_MAX) {
        let line = incident.referenced.line();
        let mut wrong = |why: String| mistakes.push(Mistake { file: file.clone(), line, why });
        match golden(incident.value, &worlds) {
            Ok(golden) if !ids.insert(golden.id.clone()) => wrong(format!("two incidents have the id `{}`", golden.id)),
            Ok(golden) => all.push(golden),
            Err(problems) => problems.into_iter().for_each(&mut wrong),
        }
    }
    mistakes.sort();
    if mistakes.is_empty() { Ok(all) } else { Err(mistakes) }
}

fn golden(value: Value, worlds: &Worlds) -> Result<Golden, Vec<String>> {
    let id = value.get("id").and_then(Value::as_str).unwrap_or("without an id").to_owned();
    let at = |why: String| format!("incident `{id}`: {why}");
    let written: Written = serde_json::from_value(value).map_err(|error| vec![at(error.to_string())])?;
    let chain = chain(&written.world, worlds).map_err(|why| vec![at(why)])?;
    let mut problems = truth_problems(&written.truth);
    // The nearest world counts: what it says replaces what it extends.
    let mut names = Map::new();
    let mut defaults = Map::new();
    for world in chain.iter().rev() {
        names.extend(world.with.clone());
        defaults.extend(world.incident.clone());
    }
    names.extend(written.with.clone());
    let mut replies = Vec::new();
    for reply in written.answers.iter().chain(chain.iter().flat_map(|world| &world.answers)) {
        let read = render(reply, &names).and_then(|reply| {
            let written: WrittenReply = serde_json::from_value(reply.clone()).map_err(|e| format!("{e} in {reply}"))?;
            Reply::read(written)
        });
        match read {
            Ok(reply) => replies.push(reply),
            Err(why) => problems.push(format!("answers: {why}")),
        }
    }
    let start = match start(&written, defaults, &names) {
        Ok(start) => Some(start),
        Err(why) => {
            problems.push(why);
            None
        }
    };
    let (Some(start), true) = (start, problems.is_empty()) else {
        return Err(problems.into_iter().map(at).collect());
    };
    let flags = chain.iter().flat_map(|world| &world.flags).chain(&written.flags).cloned().collect();
    let acts = chain.iter().flat_map(|world| &world.acts).cloned().collect();
    let Written { id, about, person, says, truth, .. } = written;
    Ok(Golden { id, about, start, replies, acts, flags, person, says, truth })
}

/// A world with those it extends, the nearest first.
fn chain<'a>(name: &str, worlds: &'a Worlds) -> Result<Vec<&'a World>, String> {
    let mut chain: Vec<&World> = Vec::new();
    let mut next = Some(name);
    while let Some(name) = next {
        let Some((world, ..)) = worlds.get(name) else {
            let known: Vec<&str> = worlds.keys().map(String::as_str).collect();
            return Err(format!("there is no world `{name}`; worlds are {}", known.join(", ")));
        };
        if chain.len() >= CHAIN_MAX {
            return Err(format!("world `{name}` extends itself, or more than {CHAIN_MAX} worlds"));
        }
        chain.push(world);
        next = world.extends.as_deref();
    }
    Ok(chain)
}

fn truth_problems(truth: &Truth) -> Vec<String> {
    let mut problems = Vec::new();
    let classes: Vec<&str> = Class::ALL.iter().map(|class| class.word()).chain([QUIET]).collect();
    if !classes.contains(&truth.class.as_str()) {
        problems.push(format!("truth.class is `{}`; classes are {}", truth.class, classes.join(", ")));
    }
    if (truth.class == QUIET) != (truth.ends == Ending::Quiet) {
        problems.push("truth.ends is `quiet` exactly where truth.class is `none`".to_owned());
    }
    if truth.must_ask && truth.remedies.is_empty() {
        problems.push("truth.must_ask needs a remedy that may be asked for: add `remedies`".to_owned());
    }
    problems
}

fn render(value: &Value, names: &Map<String, Value>) -> Result<Value, String> {
    let rendered = Template::from_json(value).and_then(|template| template.render(names));
    rendered.map_err(|error| format!("`{}`: {}", error.expression, error.message))
}

fn start(written: &Written, defaults: Map<String, Value>, names: &Map<String, Value>) -> Result<Entry, String> {
    match (&written.incident, &written.round) {
        (Some(_), Some(_)) => Err("it has `incident` and `round`: only one of them begins it".to_owned()),
        (None, Some(input)) => render(input, names).map(Entry::Round),
        (own, None) => {
            let mut fields = defaults;
            fields.extend(own.clone().unwrap_or_default());
            let rendered = render(&Value::Object(fields), names)?;
            let incident = whole(&written.id, &rendered);
            let kind: Result<Kind, _> = serde_json::from_value(incident["kind"].clone());
            kind.map_err(|error| format!("incident.kind: {error}"))?;
            for key in ["pipeline", "business_date", "environment"] {
                if !incident[key].is_string() {
                    return Err(format!("incident.{key} is missing: write it here or in the world"));
                }
            }
            Ok(Entry::Incident(json!({ "incident": incident })))
        }
    }
}

/// What follows from the rest does not have to be written.
fn whole(id: &str, incident: &Value) -> Value {
    let mut whole = incident.clone();
    let text = |key: &str| incident.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let headline = incident.get("error").and_then(Value::as_str).map_or_else(|| text("kind"), str::to_owned);
    let title = format!("{} {}: {headline}", text("pipeline"), text("business_date"));
    let symptom = format!("{}: {headline}", text("kind"));
    for (key, value) in [
        ("id", json!(format!("inc-{id}"))),
        ("fingerprint", json!(id)),
        ("title", json!(title)),
        ("symptoms", json!([symptom])),
    ] {
        if whole.get(key).is_none() {
            whole[key] = value;
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check_mistakes(files: &[(&str, &str)], expected: Expect) {
        let files: Vec<_> = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let shown: Vec<String> = read(&files).unwrap_err().iter().map(Mistake::to_string).collect();
        expected.assert_eq(&shown.join("\n"));
    }

    #[test]
    fn all_mistakes_of_all_files_are_told_with_their_places() {
        let first = "worlds:\n  w: { incident: { pipeline: p, business_date: d, environment: e, kind: run_failed }, answers: [{ tool: a.b }] }\n  odd: { extend: w }\nincidents:\n  - { id: a, about: x, world: w, truth: { class: odd, ends: quiet } }\n  - { id: b, about: x, world: v, truth: { class: none, ends: quiet } }\n";
        let second = "incidents:\n  - id: c\n    about: x\n    world: w\n    incident: { kind: odd }\n    answers: [{ tool: t.x, gives: '{{ n }}' }]\n    truth: { class: unknown, ends: handed_over, must_ask: true }\n  - { id: d, about: x }\n";
        check_mistakes(
            &[("one.yaml", first), ("two.yaml", second), ("three.yaml", "incidents: [")],
            expect![[r#"
                one.yaml:3: world `odd`: unknown field `extend`, expected one of `extends`, `acts`, `flags`, `with`, `incident`, `answers`
                one.yaml:5: incident `a`: answers: `a.b` needs exactly one of `gives` and `fails`
                one.yaml:5: incident `a`: truth.class is `odd`; classes are transient, schema_drift, data_quality, configuration, upstream, resource, unknown, none
                one.yaml:5: incident `a`: truth.ends is `quiet` exactly where truth.class is `none`
                one.yaml:6: incident `b`: there is no world `v`; worlds are w
                three.yaml:1: unclosed bracket '[' at line 1, column 12
                two.yaml:2: incident `c`: answers: `a.b` needs exactly one of `gives` and `fails`
                two.yaml:2: incident `c`: answers: `{{ n }}`: `n` is not defined
                two.yaml:2: incident `c`: incident.kind: unknown variant `odd`, expected one of `run_failed`, `import_error`, `schema_change`, `null_burst`, `volume_drop`, `drift`, `stuck`, `stale`, `slow`, `costly`
                two.yaml:2: incident `c`: truth.must_ask needs a remedy that may be asked for: add `remedies`
                two.yaml:8: incident `d`: missing field `world`"#]],
        );
    }

    #[test]
    fn worlds_extend_each_other_and_the_nearest_counts() {
        let text = "worlds:\n  base: { acts: [t.act], flags: [early], with: { one: 1, two: 1 }, incident: { pipeline: p, business_date: '2013-01-01', environment: production, kind: run_failed, error: 'e {{ one }}' }, answers: [{ tool: t.read, gives: '{{ one + two }}' }] }\n  near: { extends: base, with: { one: 2 }, answers: [{ tool: t.read, if: [early], gives: near }] }\nincidents:\n  - { id: a, about: x, world: near, with: { two: 5 }, flags: [late], truth: { class: unknown, ends: handed_over } }\n";
        let golden = read(&[("s.yaml".to_owned(), text.to_owned())]).unwrap().remove(0);
        let Entry::Incident(incident) = &golden.start else { panic!("{:?}", golden.start) };
        assert_eq!(incident["incident"]["error"], "e 2");
        assert_eq!(incident["incident"]["title"], "p 2013-01-01: e 2");
        assert_eq!(
            golden.replies.iter().map(|reply| reply.gives.clone().unwrap()).collect::<Vec<_>>(),
            [json!("near"), json!(7)]
        );
        assert_eq!((golden.flags.len(), golden.acts.len()), (2, 1));
    }
}
