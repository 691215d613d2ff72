//! The guard at work: facts come from the run and its graph, never from a node's word about itself; an approval counts only
//! for the very question that would be asked now; and everything that is decided is audited.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::dispatch::digest_of;
use crate::error::TaskError;
use crate::event::{CallRequest, Question, Token};
use crate::ids::{CallIx, Name, TaskId, Timestamp};
use crate::interlocks::approval::choice;
use crate::interlocks::guard::{self, Approval, CallFacts, Decision};
use crate::interlocks::{plain, redact};
use crate::record::{CallHead, CallKind, CallOutcome, Op};
use crate::run::Run;
use crate::state::CallEntry;

/// Label of a thread that has seen a result of a tool that talks to the outside world.
pub(crate) const TAINTED_BY: &str = "tainted_by";

/// What is audited about a call that may leave, before and after.
#[derive(Debug, Clone)]
pub(crate) struct LetGo {
    pub(crate) at: Timestamp,
    taints: bool,
    grant: Grant,
    actor: String,
    pin: Option<String>,
}

/// On what ground a call may leave.
#[derive(Debug, Clone)]
pub(crate) struct Grant {
    pub(crate) rule: String,
    pub(crate) env: Option<String>,
    pub(crate) approver: Option<String>,
}

/// What may become of a call now.
pub(crate) enum Standing {
    /// It may leave.
    Free(Grant),
    /// Policy, or the person who was asked, says no.
    Refused { rule: String, reason: String },
    /// People decide first.
    Asked { rule: String, question: Box<Question> },
}

/// A decision, and the environment it was made for.
struct Judged {
    decision: Decision,
    env: Option<String>,
}

impl Run {
    /// Asks the guard and looks whether people have agreed already. Every way to a call leads through here, at the moment
    /// of its dispatch.
    pub(crate) fn standing(&mut self, task: TaskId, ix: CallIx, request: &CallRequest) -> Standing {
        let Judged { decision, env } = self.judge(task, request);
        match decision {
            Decision::Allow { rule } => Standing::Free(Grant { rule, env, approver: None }),
            Decision::Deny { rule, reason } => Standing::Refused { rule, reason },
            Decision::Ask { rule, reason, who } => {
                let question = asking(request, &rule, reason, (env.as_deref(), &who));
                match self.consent(task, ix, &question) {
                    Some(by) if guard::still_entitled(&*self.policy, &by, &who.approvers) => {
                        Standing::Free(Grant { rule, env, approver: Some(by) })
                    }
                    Some(by) => Standing::Refused {
                        reason: format!("`{by}` approved `{}` and may not any more (rule `{rule}`)", request.target),
                        rule,
                    },
                    None => Standing::Asked { rule, question: Box::new(question) },
                }
            }
        }
    }

    /// Whether arguments that an approver put in place of those asked for are covered by that answer: policy decides on them
    /// as on any call, and the approver must be one whom it would ask, alone.
    pub(crate) fn covers_edit(&mut self, task: TaskId, edited: &CallRequest, by: &str) -> Result<(), String> {
        match self.judge(task, edited).decision {
            Decision::Allow { .. } => Ok(()),
            Decision::Deny { reason, .. } => Err(reason),
            Decision::Ask { rule, who, .. } => {
                if who.is_shared() || !guard::still_entitled(&*self.policy, by, &who.approvers) {
                    return Err(format!(
                        "the arguments as `{by}` edited them need the approval that rule `{rule}` asks for: ask for them anew"
                    ));
                }
                Ok(())
            }
        }
    }

    /// Who approved exactly this question about this call.
    fn consent(&self, task: TaskId, ix: CallIx, question: &Question) -> Option<String> {
        let entry = self.task(task)?.call(ix)?;
        let answer = entry.answer.as_ref()?;
        let is_of_this = entry.approved.as_deref() == Some(digest_of(&question.payload).as_str());
        let agrees = matches!(choice(&answer.value), Some("approve" | "edit"));
        (is_of_this && agrees).then(|| answer.by.clone())
    }

    fn judge(&mut self, task: TaskId, request: &CallRequest) -> Judged {
        let Some((ns, frame, index)) = self.state.find_task(task) else { return nowhere("it belongs to no task") };
        let (ns, graph) = (ns.clone(), frame.graph.clone());
        let Some(node) = frame.plan.tasks.get(index).map(|planned| planned.node.clone()) else {
            return nowhere("it belongs to no node");
        };
        let Ok(view) = self.view(&ns) else { return nowhere("its graph cannot be read") };
        let agent = view.graph.node_by_name(&node).and_then(|node| match &node.kind {
            graphs::Kind::Agent(agent) => Some(agent),
            _ => None,
        });
        let listed = agent.map(graphs::AgentNode::within_reach);
        let facts = CallFacts {
            kind: request.kind,
            target: &request.target,
            args: &request.args,
            effect: request.effect,
            tool: &request.tool,
            env: request.env.as_deref(),
            agent: agent.map(|agent| agent.role.as_str()).or(request.role.as_deref()),
            role: request.role.as_deref(),
            listed: listed.as_deref(),
            tainted_by: self.state.metadata.get(TAINTED_BY).and_then(Value::as_str),
            graph: &graph,
            node: &node,
        };
        let (decision, env) = (guard::decide(&*self.policy, &facts), self.policy.environment(&facts));
        Judged { decision: self.by_record(task, request, decision), env }
    }

    /// The terms on which people are asked about this call; none when policy would not ask.
    pub(crate) fn terms(&mut self, task: TaskId, request: &CallRequest) -> Approval {
        match self.judge(task, request).decision {
            Decision::Ask { who, .. } => who,
            _ => Approval::default(),
        }
    }

    /// Audits a refusal or a question.
    pub(crate) fn audit_call(
        &mut self,
        (task, ix): (TaskId, CallIx),
        request: &CallRequest,
        action: &str,
        (rule, reason): (&str, &str),
    ) {
        let env = self.judge(task, request).env;
        let detail = json!({
            "target": &*request.target, "kind": request.kind, "effect": request.effect, "env": env,
            "digest": digest_of(&request.args), "args": redact::value(&request.args), "pin": request.tool.version.pin(),
            "rule": rule, "reason": redact::text(reason), "call": self.call_key(task, ix),
        });
        let (node, actor) = (self.name_of(task), actor(request));
        self.audit(&actor, action, (&node, Some(task)), detail);
    }

    /// Audits the intent of a call: written before it leaves.
    pub(crate) fn audit_intent(&mut self, at: (TaskId, CallIx), call: (&CallHead, &Value), let_go: Option<&LetGo>) {
        let ((task, ix), (head, args)) = (at, call);
        let grant = let_go.map(|let_go| &let_go.grant);
        let detail = json!({
            "target": &*head.target, "kind": head.kind, "effect": head.effect, "env": grant.and_then(|grant| grant.env.clone()),
            "digest": digest_of(args), "args": redact::value(args), "pin": let_go.and_then(|let_go| let_go.pin.clone()),
            "rule": grant.map(|grant| grant.rule.clone()), "approver": grant.and_then(|grant| grant.approver.clone()),
            "call": self.call_key(task, ix),
        });
        let node = self.name_of(task);
        let actor = let_go.map_or("runtime", |let_go| let_go.actor.as_str());
        self.audit(actor, "call.permitted", (&node, Some(task)), detail);
    }

    /// Audits the outcome of a call that was let go, and labels the thread when a stranger's words are in it now.
    pub(crate) fn audit_outcome(
        &mut self,
        at: (TaskId, CallIx),
        head: &CallHead,
        outcome: &CallOutcome,
        let_go: Option<LetGo>,
    ) {
        let (task, ix) = at;
        let ms = let_go.as_ref().map(|let_go| u64::try_from((self.now.0 - let_go.at.0).max(0) / 1000).unwrap_or(0));
        let detail = json!({
            "target": &*head.target, "kind": head.kind, "digest": head.digest, "call": self.call_key(task, ix),
            "ms": ms, "result": summary(outcome), "cost": cost(outcome),
        });
        let node = self.name_of(task);
        self.audit("runtime", "call.ended", (&node, Some(task)), detail);
        let known = self.state.metadata.get(TAINTED_BY).is_some_and(|tainted| !tainted.is_null());
        if let_go.is_some_and(|let_go| let_go.taints) && !known {
            self.record(Op::Tagged { metadata: json!({TAINTED_BY: &*head.target}) });
        }
    }

    /// Audits that nobody knows whether a call that was let go happened.
    pub(crate) fn audit_doubt(&mut self, task: TaskId, ix: CallIx, head: &CallHead) {
        let detail = json!({"target": &*head.target, "digest": head.digest, "call": self.call_key(task, ix)});
        let node = self.name_of(task);
        self.audit("runtime", "call.in_doubt", (&node, Some(task)), detail);
    }

    /// Keeps on what ground a call may leave, until it has.
    pub(crate) fn keep_grant(&mut self, task: TaskId, token: Token, ix: CallIx, call: (&CallRequest, Grant)) {
        let (request, grant) = call;
        let taints = request.kind == CallKind::Tool && self.policy.taints(&request.target, &request.tool.hints);
        let pin = request.tool.version.pin().map(str::to_owned);
        let let_go = LetGo { at: self.now, taints, grant, actor: actor(request), pin };
        if let Some(live) = self.live(task, token) {
            live.let_go.insert(ix, let_go);
        }
    }

    fn name_of(&self, task: TaskId) -> Name {
        let place = self.state.find_task(task);
        let planned = place.and_then(|(_, frame, index)| frame.plan.tasks.get(index));
        planned.map_or_else(|| "".into(), |planned| planned.node.clone())
    }
}

/// Calls whose every step is audited: tools always, the rest when it may change something.
pub(crate) fn is_audited(head: &CallHead) -> bool {
    head.kind == CallKind::Tool || head.effect != graphs::EffectClass::ReadOnly
}

/// The arguments a call may be made with: as asked, or as an approver edited them, with who did.
pub(crate) fn edited_args(entry: &CallEntry) -> Option<(Arc<Value>, &str)> {
    let answer = entry.answer.as_ref().filter(|answer| choice(&answer.value) == Some("edit"))?;
    answer.value.get("args").map(|args| (Arc::new(args.clone()), answer.by.as_str()))
}

fn nowhere(why: &str) -> Judged {
    let decision = Decision::Deny { rule: "no-place".to_owned(), reason: format!("the call cannot be judged: {why}") };
    Judged { decision, env: None }
}

fn actor(request: &CallRequest) -> String {
    request.role.as_ref().map_or_else(|| "runtime".to_owned(), |role| format!("agent:{role}"))
}

/// The question as people see it: written by us from the call that will run. What more than one person must agree to,
/// nobody may edit.
fn asking(request: &CallRequest, rule: &str, reason: String, place: (Option<&str>, &Approval)) -> Question {
    let (env, who) = place;
    let env = env.unwrap_or("unnamed");
    let choices: &[&str] = if who.is_shared() { &["approve", "reject"] } else { &["approve", "edit", "reject"] };
    let mut payload = Map::from_iter([
        ("tool".to_owned(), json!(&*request.target)),
        ("args".to_owned(), Value::clone(&request.args)),
        ("env".to_owned(), json!(env)),
        ("agent".to_owned(), json!(request.role)),
        ("rule".to_owned(), json!(rule)),
    ]);
    if let Some(pin) = request.tool.version.pin() {
        payload.insert("pin".to_owned(), json!(pin));
    }
    Question {
        title: plain::escaped(&format!("{} in {env}", request.target)),
        body: plain::escaped(&reason),
        payload: Value::Object(payload),
        choices: choices.iter().map(|choice| (*choice).to_owned()).collect(),
        approvers: who.approvers.clone(),
        quorum: who.quorum,
        four_eyes: who.four_eyes,
        expires: who.expires,
        ..Question::default()
    }
}

/// What an outcome is, without a word of what it says: results are a stranger's text.
fn summary(outcome: &CallOutcome) -> Value {
    match outcome {
        CallOutcome::Ok(value) => {
            let text = serde_json::to_string(&**value).unwrap_or_default();
            json!({"ok": true, "bytes": text.len(), "shape": shape(value), "digest": crate::dispatch::digest_of_text(&text)})
        }
        CallOutcome::Err(TaskError { class, message, .. }) => {
            json!({"ok": false, "class": class.word(), "error": redact::text(message)})
        }
    }
}

fn shape(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(_) => "boolean".to_owned(),
        Value::Number(_) => "number".to_owned(),
        Value::String(_) => "text".to_owned(),
        Value::Array(items) => format!("list of {}", items.len()),
        Value::Object(fields) => format!("object of {}", fields.len()),
    }
}

/// What a call says it cost, where it says so.
fn cost(outcome: &CallOutcome) -> Option<f64> {
    match outcome {
        CallOutcome::Ok(value) => value.pointer("/usage/usd").and_then(Value::as_f64),
        CallOutcome::Err(_) => None,
    }
}
