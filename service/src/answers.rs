//! Answers to questions without a person at the keyboard: a file of them, or `--yes`.

use std::path::Path;

use runtime_core::event::{AnswerInput, Principal};
use runtime_core::record::Interrupt;
use serde_json::{Map, Value};

use crate::config::{Config, read_bounded};
use crate::failure::Failure;

/// Largest file of answers in bytes.
const ANSWERS_BYTES_MAX: u64 = 4 << 20;
/// Keys of an entry that say which question it answers, or who answers; the rest is the answer.
const SELECTORS: [&str; 6] = ["id", "node", "title", "tool", "kind", "by"];
/// Key of an entry that says that nobody answers; only tests of graphs know it.
const EXPIRES: &str = "expires";
/// The choice of `--yes`. It never decides whether an act in doubt happened.
pub(crate) const YES: &[&str] = &["approve"];

/// Answers in the order in which they are given.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answers {
    entries: Vec<Option<Map<String, Value>>>,
    /// Choices for what no entry answers.
    yes: &'static [&'static str],
}

impl Answers {
    /// Answers from a list of objects.
    pub(crate) fn from_list(list: &Value) -> Result<Self, String> {
        let entries = list.as_array().ok_or("answers are a list of objects")?;
        let entry = |(ix, entry): (usize, &Value)| match entry {
            Value::Object(entry) => Ok(Some(entry.clone())),
            _ => Err(format!("answer {} is not an object such as {{node: ask, choice: approve}}", ix + 1)),
        };
        Ok(Self { entries: entries.iter().enumerate().map(entry).collect::<Result<_, _>>()?, yes: &[] })
    }

    /// Answers from a YAML or JSON file.
    pub(crate) fn from_file(path: &Path) -> Result<Self, Failure> {
        let failure = |why: String| Failure::usage(format!("answers {}: {why}", path.display()));
        let text = read_bounded(path, ANSWERS_BYTES_MAX).map_err(failure)?;
        Self::from_text(&text).map_err(failure)
    }

    /// Answers from the text of such a file.
    pub(crate) fn from_text(text: &str) -> Result<Self, String> {
        let list: Value = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        Self::from_list(&list)
    }

    /// Takes one of these choices where nothing else answers.
    #[must_use]
    pub(crate) fn with_yes(self, yes: &'static [&'static str]) -> Self {
        Self { yes, ..self }
    }

    /// Whether nobody will be asked because of these.
    pub(crate) fn is_scripted(&self) -> bool {
        !self.yes.is_empty() || !self.entries.is_empty()
    }

    /// Takes the next answer to a question; `None` leaves it open.
    pub(crate) fn take(&mut self, question: &Interrupt, who: &Who) -> Option<AnswerInput> {
        let fitting = self.entries.iter_mut().find(|entry| entry.as_ref().is_some_and(|entry| fits(entry, question)));
        let entry = match fitting {
            Some(entry) => entry.take(),
            None => {
                let choice = self.yes.iter().find(|yes| question.choices.iter().any(|choice| choice == *yes));
                choice.map(|choice| Map::from_iter([("choice".to_owned(), Value::from(*choice))]))
            }
        }?;
        let by = entry.get("by").and_then(Value::as_str).map_or_else(|| who.principal(), |user| who.named(user));
        Some(AnswerInput { id: question.id, digest: Some(question.digest.clone()), value: value_of(entry), by })
    }
}

impl Answers {
    /// Whether the next entry for this question says that nobody answers it. What is said to a question of its node before is
    /// said first.
    pub(crate) fn is_left_open(&self, question: &Interrupt) -> bool {
        let next = self.entries.iter().flatten().find(|entry| fits(entry, question));
        next.is_some_and(|entry| entry.get(EXPIRES) == Some(&Value::Bool(true)))
    }

    /// Takes that entry.
    pub(crate) fn take_silence(&mut self, question: &Interrupt) -> bool {
        let is_left_open = self.is_left_open(question);
        let next = self.entries.iter_mut().find(|entry| entry.as_ref().is_some_and(|entry| fits(entry, question)));
        is_left_open && next.and_then(Option::take).is_some()
    }
}

/// The answer in an entry: its `value`, or what is left of it.
fn value_of(mut entry: Map<String, Value>) -> Value {
    for selector in SELECTORS {
        entry.remove(selector);
    }
    match entry.remove("value") {
        Some(value) if entry.is_empty() => value,
        Some(value) => {
            entry.insert("value".to_owned(), value);
            Value::Object(entry)
        }
        None => Value::Object(entry),
    }
}

fn fits(entry: &Map<String, Value>, question: &Interrupt) -> bool {
    let tool = question.payload.get("tool").and_then(Value::as_str).unwrap_or("");
    let kind = serde_json::to_value(question.kind).ok();
    let is =
        |key: &str, fits: &dyn Fn(&str) -> bool| entry.get(key).is_none_or(|wanted| wanted.as_str().is_some_and(fits));
    is("id", &|id| question.id.to_string().ends_with(id))
        && is("node", &|node| node == &*question.node)
        && is("title", &|title| question.title.contains(title))
        && is("tool", &|wanted| wanted == tool)
        && entry.get("kind").is_none_or(|wanted| Some(wanted) == kind.as_ref())
}

/// Who acts on this command line.
#[derive(Debug, Clone)]
pub(crate) struct Who {
    user: String,
    groups: Vec<(String, Vec<String>)>,
}

impl Who {
    /// The named person, else the configured one, else the one who is logged in.
    pub(crate) fn new(named: Option<&str>, config: &Config) -> Self {
        let logged_in =
            || ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok()).filter(|user| !user.is_empty());
        let user = named.map(str::to_owned).or_else(|| config.user.clone()).or_else(logged_in);
        let groups = config.groups.iter().map(|(group, members)| (group.clone(), members.clone())).collect();
        Self { user: user.unwrap_or_else(|| "operator".to_owned()), groups }
    }

    /// The same person, also in this group.
    #[must_use]
    pub(crate) fn also_in(mut self, group: &str) -> Self {
        self.groups.push((group.to_owned(), vec![self.user.clone()]));
        self
    }

    /// The name.
    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    /// The person with the groups of now.
    pub(crate) fn principal(&self) -> Principal {
        self.named(&self.user)
    }

    fn named(&self, user: &str) -> Principal {
        let of = self.groups.iter().filter(|(_, members)| members.iter().any(|member| member == user));
        Principal { user: user.to_owned(), groups: of.map(|(group, _)| group.clone()).collect() }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use runtime_core::ids::{CallIx, InterruptId, TaskId, Timestamp};
    use runtime_core::record::InterruptKind;
    use serde_json::json;

    use super::*;

    fn question(node: &str, kind: InterruptKind) -> Interrupt {
        Interrupt {
            id: InterruptId(7),
            kind,
            ns: "".into(),
            task: TaskId(1),
            node: node.into(),
            ix: CallIx(0),
            title: format!("may {node} act?"),
            body: String::new(),
            payload: Arc::new(json!({"tool": "w.act"})),
            digest: "d".to_owned(),
            choices: vec!["approve".to_owned(), "reject".to_owned()],
            schema: None,
            approvers: Vec::new(),
            quorum: 1,
            four_eyes: false,
            opened_at: Timestamp(0),
            expires_at: None,
            votes: Vec::new(),
        }
    }

    fn who() -> Who {
        Who { user: "ann".to_owned(), groups: vec![("oncall".to_owned(), vec!["bob".to_owned()])] }
    }

    fn taken(answers: &mut Answers, question: &Interrupt) -> Option<Value> {
        answers.take(question, &who()).map(|answer| answer.value)
    }

    #[test]
    fn each_entry_answers_one_fitting_question() {
        let list = json!([{"node": "b", "choice": "reject"}, {"tool": "w.act", "choice": "approve", "reason": "fine"}]);
        let mut answers = Answers::from_list(&list).unwrap();
        let ask = |node| question(node, InterruptKind::Guard);
        assert_eq!(taken(&mut answers, &ask("a")), Some(json!({"choice": "approve", "reason": "fine"})));
        assert_eq!(taken(&mut answers, &ask("a")), None);
        assert_eq!(taken(&mut answers, &ask("b")), Some(json!({"choice": "reject"})));
    }

    #[test]
    fn yes_approves_but_never_decides_a_doubt() {
        let mut answers = Answers::default().with_yes(YES);
        assert_eq!(taken(&mut answers, &question("a", InterruptKind::Guard)), Some(json!({"choice": "approve"})));
        let doubt = Interrupt {
            choices: vec!["happened".to_owned(), "repeat".to_owned()],
            ..question("a", InterruptKind::InDoubt)
        };
        assert_eq!(taken(&mut answers, &doubt), None);
    }

    #[test]
    fn who_answers_has_the_groups_of_the_configuration() {
        let mut answers = Answers::from_list(&json!([{"by": "bob", "value": 3}])).unwrap();
        let answer = answers.take(&question("a", InterruptKind::Question), &who()).unwrap();
        assert_eq!(
            (answer.by.user.as_str(), answer.by.groups.as_slice(), answer.value),
            ("bob", &["oncall".to_owned()][..], json!(3))
        );
    }

    #[test]
    fn what_is_no_list_is_refused() {
        assert!(Answers::from_list(&json!({"choice": "approve"})).is_err());
        assert!(Answers::from_list(&json!(["approve"])).is_err());
    }
}
