//! What a thread's log says about its outside: who started it with what, what calls gave, what people and signals said, what
//! the guard decided.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use graphs::EffectClass;
use runtime::rehearsal::People;
use runtime_core::digest_of;
use runtime_core::event::{AnswerInput, Principal};
use runtime_core::ids::{CallIx, InterruptId, Name, TaskId, Timestamp};
use runtime_core::interlocks::guard::{Approval, Decision};
use runtime_core::record::{
    Answer, AuditEntry, CallHead, CallKind, CallOutcome, Interrupt, InterruptKind, Op, Record, RunKind, RunOptions,
    Source,
};
use serde_json::Value;

use crate::failure::Failure;

/// Sort, target and digest of the arguments: what makes two calls the same.
pub(super) type CallKey = (String, String, String);

/// One start of the thread.
pub(super) struct Run {
    pub(super) at: Timestamp,
    pub(super) input: Arc<Value>,
    pub(super) options: RunOptions,
}

/// A question, and what became of it.
struct Asked {
    node: Name,
    kind: InterruptKind,
    title: String,
    answers: Vec<Answer>,
    expired: bool,
}

/// The outside of a thread.
pub(super) struct Recorded {
    pub(super) begun: Timestamp,
    pub(super) metadata: Value,
    pub(super) runs: Vec<Run>,
    pub(super) calls: BTreeMap<CallKey, VecDeque<CallOutcome>>,
    /// Effect class by target.
    pub(super) effects: BTreeMap<String, EffectClass>,
    /// What the guard decided, and where it placed the call.
    pub(super) decisions: BTreeMap<CallKey, (Decision, Option<String>)>,
    asked: Vec<Asked>,
    signals: Vec<(Timestamp, Name, Value)>,
}

pub(super) fn call_key(kind: CallKind, target: &str, digest: &str) -> CallKey {
    let kind = serde_json::to_value(kind).ok().and_then(|kind| kind.as_str().map(str::to_owned));
    (kind.unwrap_or_default(), target.to_owned(), digest.to_owned())
}

impl Recorded {
    pub(super) fn of(records: &[Record]) -> Result<Self, Failure> {
        let first = records.first().and_then(|record| record.ops.first());
        let (Some(first), Some(begun)) = (first, records.first().map(|record| record.at)) else {
            return Err(Failure::usage("the thread has no record yet"));
        };
        let Op::Created { metadata, .. } = first else {
            return Err(Failure::usage("the beginning of the thread is not in its log, and a replay needs all of it")
                .help("it was pruned, or the thread is a fork: replay the one it came from"));
        };
        let mut recorded = Self {
            begun,
            metadata: metadata.clone(),
            runs: Vec::new(),
            calls: BTreeMap::new(),
            effects: BTreeMap::new(),
            decisions: BTreeMap::new(),
            asked: Vec::new(),
            signals: Vec::new(),
        };
        let mut reader = Reader::default();
        for record in records {
            for op in &record.ops {
                reader.read(&mut recorded, record.at, op)?;
            }
        }
        Ok(recorded)
    }
}

/// What reading needs to remember between ops.
#[derive(Default)]
struct Reader {
    heads: BTreeMap<(TaskId, CallIx), CallHead>,
    questions: BTreeMap<InterruptId, usize>,
}

impl Reader {
    fn read(&mut self, recorded: &mut Recorded, at: Timestamp, op: &Op) -> Result<(), Failure> {
        match op {
            Op::RunAccepted(run) if run.kind == RunKind::Start => {
                let (input, options) = (Arc::clone(&run.input), run.options.clone());
                recorded.runs.push(Run { at, input, options });
            }
            Op::Rewound { .. } => return Err(by_hand("went back to an older checkpoint", at)),
            Op::Migrated { .. } => return Err(by_hand("was moved to another version of its graph", at)),
            Op::Patched { .. } => return Err(by_hand("was edited by hand", at)),
            Op::Checkpoint { source: Source::Update | Source::Fork, .. } => {
                return Err(by_hand("was edited by hand", at));
            }
            Op::CallBegun { task, ix, head } | Op::CallPlanned { task, ix, head } => {
                self.heads.insert((*task, *ix), head.clone());
            }
            Op::CallEnded { task, ix, head, outcome } => {
                let head = head.as_ref().or_else(|| self.heads.get(&(*task, *ix)));
                if let Some(head) = head.filter(|head| head.kind != CallKind::Question) {
                    recorded.effects.insert(head.target.to_string(), head.effect);
                    let key = call_key(head.kind, &head.target, &head.digest);
                    recorded.calls.entry(key).or_default().push_back(outcome.clone());
                }
            }
            Op::InterruptOpened(question) => {
                self.questions.insert(question.id, recorded.asked.len());
                recorded.ask(question);
            }
            Op::Answered { id, answer, .. } => {
                if let Some(asked) = self.questions.get(id).and_then(|ix| recorded.asked.get_mut(*ix)) {
                    asked.answers.push(answer.clone());
                }
            }
            Op::Expired { id } => {
                if let Some(asked) = self.questions.get(id).and_then(|ix| recorded.asked.get_mut(*ix)) {
                    asked.expired = true;
                }
            }
            Op::Signalled { name, payload } => recorded.signals.push((at, name.clone(), payload.clone())),
            Op::Audited(entry) => recorded.decide(entry),
            _ => {}
        }
        Ok(())
    }
}

fn by_hand(what: &str, at: Timestamp) -> Failure {
    Failure::usage(format!("the thread {what} at {at}: its log alone does not lead from its input to its end"))
        .help("replay a thread that nobody steered")
}

impl Recorded {
    fn ask(&mut self, question: &Interrupt) {
        let (node, kind, title) = (question.node.clone(), question.kind, question.title.clone());
        self.asked.push(Asked { node, kind, title, answers: Vec::new(), expired: false });
        if question.kind != InterruptKind::Guard {
            return;
        }
        let text = |key: &str| question.payload.get(key).and_then(Value::as_str).unwrap_or_default();
        let digest = question.payload.get("args").map(digest_of).unwrap_or_default();
        let expires = question.expires_at.map(|at| at.since(question.opened_at));
        let who = Approval {
            approvers: question.approvers.clone(),
            quorum: question.quorum,
            four_eyes: question.four_eyes,
            expires,
        };
        let decision = Decision::Ask { rule: text("rule").to_owned(), reason: question.body.clone(), who };
        let env = Some(text("env").to_owned()).filter(|env| env != "unnamed");
        self.decisions.insert(call_key(CallKind::Tool, text("tool"), &digest), (decision, env));
    }

    /// What the audit says about a call that was not asked about.
    fn decide(&mut self, entry: &AuditEntry) {
        let text = |key: &str| entry.detail.get(key).and_then(Value::as_str).map(str::to_owned);
        let (Some(kind), Some(target), Some(digest)) = (text("kind"), text("target"), text("digest")) else { return };
        let rule = text("rule").unwrap_or_default();
        let decision = match entry.action.as_str() {
            "call.permitted" => Decision::Allow { rule },
            "call.denied" => Decision::Deny { rule, reason: text("reason").unwrap_or_default() },
            _ => return,
        };
        self.decisions.entry((kind, target, digest)).or_insert((decision, text("env")));
    }
}

/// People who say what they said then.
pub(super) struct Remembered<'a> {
    asked: Vec<(&'a Asked, VecDeque<&'a Answer>)>,
    signals: VecDeque<&'a (Timestamp, Name, Value)>,
}

impl<'a> Remembered<'a> {
    pub(super) fn of(recorded: &'a Recorded) -> Self {
        let asked = recorded.asked.iter().map(|asked| (asked, asked.answers.iter().collect())).collect();
        Self { asked, signals: recorded.signals.iter().collect() }
    }
}

fn is_same(asked: &Asked, question: &Interrupt) -> bool {
    asked.node == question.node && asked.kind == question.kind
}

impl People for Remembered<'_> {
    fn answer(&mut self, question: &Interrupt) -> Option<(AnswerInput, Option<Timestamp>)> {
        let awaits = |entry: &(&Asked, VecDeque<&Answer>)| is_same(entry.0, question) && !entry.1.is_empty();
        // Of several questions of one node, as in a map, the title tells them apart.
        let by_title = self.asked.iter().position(|entry| awaits(entry) && entry.0.title == question.title);
        let ix = by_title.or_else(|| self.asked.iter().position(awaits))?;
        let answer = self.asked.get_mut(ix)?.1.pop_front()?;
        let groups = question.approvers.iter().filter_map(|approver| approver.strip_prefix("group:"));
        let by = Principal { user: answer.by.clone(), groups: groups.map(str::to_owned).collect() };
        let value = Value::clone(&answer.value);
        Some((AnswerInput { id: question.id, digest: Some(question.digest.clone()), value, by }, Some(answer.at)))
    }

    fn lets_expire(&mut self, question: &Interrupt) -> bool {
        self.asked.iter().any(|(asked, _)| is_same(asked, question) && asked.expired)
    }

    fn signal(&mut self, next: Option<Timestamp>) -> Option<(Timestamp, Name, Value)> {
        let due = self.signals.front().filter(|(at, ..)| next.is_none_or(|next| *at <= next)).is_some();
        if due { self.signals.pop_front().cloned() } else { None }
    }
}
