//! Node kinds.

use crate::agent::{Pattern, Schedule, Tier};
use crate::checks::{
    g005_missing_key as g005, g011_node_kind as g011, g024_bad_name as g024, g031_misplaced_key as g031,
    g032_out_of_range as g032,
};
use crate::keys;
use crate::lower::Lower;
use crate::lower::fields::{Field, Fields};
use crate::lower::node::place;
use crate::node::{EffectClass, GraphScope};
use crate::source::Span;
use crate::spec::{
    ApprovalSpec, BandSpec, CallSpec, KindSpec, MapSpec, Name, RoutingSpec, SetSpec, SpawnSpec, SpecialistSpec,
    ToolSpec, WaitSpec,
};
use crate::yaml::{Data, Entry, Yaml};

/// The answers of an approval that names none.
const CHOICES_DEFAULT: [&str; 2] = ["approve", "reject"];
/// The class of a failure that names none.
const CLASS_DEFAULT: &str = "permanent";

impl Lower<'_> {
    /// What a node does. `field` is its kind key, `fields` all its keys.
    pub(crate) fn kind(&mut self, field: Field<'_>, fields: &Fields<'_>) -> KindSpec {
        let kind = match field.key {
            "agent" => self.agent(field, fields),
            "tool" => self.tool(field, fields),
            "gate" => self.gate(field, fields),
            "approval" => self.approval(field),
            "set" => Some(self.set(field)),
            "map" => self.map(field),
            "wait" => self.wait(field),
            "graph" => self.graph(field, fields),
            "spawn" => self.spawn(field),
            "fail" => self.fail(field),
            "emit" => Some(KindSpec::Emit(self.template(field.value))),
            "function" => self.name(field).map(KindSpec::Function),
            _ => None,
        };
        kind.unwrap_or(KindSpec::Broken)
    }

    fn agent(&mut self, field: Field<'_>, fields: &Fields<'_>) -> Option<KindSpec> {
        let tools = fields.get("tools").and_then(|field| self.names(field)).unwrap_or_default();
        let tier = fields.get("tier").and_then(|field| self.tier(field));
        let prompt = fields.get("prompt").and_then(|field| self.name(field)).map(|name| name.text);
        let pattern = fields.get("pattern").and_then(|field| self.word(field, keys::PATTERNS));
        let pattern = match pattern {
            Some("single") => Pattern::Single,
            Some("plan") => Pattern::Plan,
            Some("reflect") => Pattern::Reflect,
            Some("supervise") => Pattern::Supervise,
            _ => Pattern::React,
        };
        let schedule = match fields.get("schedule").and_then(|field| self.word(field, keys::SCHEDULES)) {
            Some("batch") => Schedule::Batch,
            _ => Schedule::Now,
        };
        let specialists = fields.get("specialists").map(|field| self.specialists(field)).unwrap_or_default();
        match (pattern, fields.get("specialists")) {
            (Pattern::Supervise, None) => {
                let (what, doc) = ("an agent with `pattern: supervise`", "Whom it may ask, by name.");
                self.findings.push(g005::missing_key(field.key_span, "specialists", what, doc));
            }
            (Pattern::Supervise, Some(_)) | (_, None) => {}
            (_, Some(unused)) => self.findings.push(g031::without_supervisor(unused.key_span)),
        }
        Some(KindSpec::Agent { role: self.name(field)?, tools, tier, prompt, pattern, schedule, specialists })
    }

    fn specialists(&mut self, field: Field<'_>) -> Vec<SpecialistSpec> {
        let entries = self.entries(field);
        entries.iter().filter_map(|entry| self.specialist(entry)).collect()
    }

    fn specialist(&mut self, entry: &Entry) -> Option<SpecialistSpec> {
        let name = Name { text: entry.key.clone(), span: entry.key_span };
        g024::check_specialist(&name, self.findings);
        let fields = self.fields(&entry.value, &keys::SPECIALIST, entry.key_span)?;
        Some(SpecialistSpec {
            name,
            description: fields.get("description").and_then(|field| self.text(field)).unwrap_or_default(),
            prompt: fields.get("prompt").and_then(|field| self.name(field)).map(|name| name.text),
            tools: fields.get("tools").and_then(|field| self.names(field)).unwrap_or_default(),
        })
    }

    fn tier(&mut self, field: Field<'_>) -> Option<Tier> {
        let fields = self.fields(field.value, &keys::TIER, field.key_span)?;
        let climb_below = fields.get("climb_below").and_then(|field| self.number(field));
        let start = self.required_name(fields.get("start"))?.text;
        let max = fields.get("max").and_then(|field| self.name(field)).map_or_else(|| start.clone(), |name| name.text);
        Some(Tier { start, max, climb_below })
    }

    fn tool(&mut self, field: Field<'_>, fields: &Fields<'_>) -> Option<KindSpec> {
        let args = self.templates(fields.get("args"), field.key_span);
        let env = fields.get("env").and_then(|field| self.text_template(field));
        let effect =
            fields.get("effect").and_then(|field| self.word(field, &["read_only", "idempotent", "at_most_once"]));
        let verify = fields.get("verify").and_then(|field| {
            let fields = self.fields(field.value, &keys::VERIFY, field.key_span)?;
            let call = self.call(&fields, field.key_span);
            let expect = fields.get("expect").and_then(|field| self.expression(field));
            Some((call?, expect?))
        });
        let undo = fields.get("undo").and_then(|field| {
            let fields = self.fields(field.value, &keys::UNDO, field.key_span)?;
            self.call(&fields, field.key_span)
        });
        let record = fields.get("record").and_then(|field| self.track_record(field));
        let dry_run = fields.get("dry_run").and_then(|field| self.flag(field)).unwrap_or(false);
        let effect = effect.map(|word| match word {
            "read_only" => EffectClass::ReadOnly,
            "idempotent" => EffectClass::Idempotent,
            _ => EffectClass::AtMostOnce,
        });
        let call = CallSpec { tool: self.text_template(field)?, args };
        Some(KindSpec::Tool(Box::new(ToolSpec { call, env, effect, verify, undo, record, dry_run })))
    }

    fn call(&mut self, fields: &Fields<'_>, owner: Span) -> Option<CallSpec> {
        let args = self.templates(fields.get("args"), owner);
        let tool = fields.get("tool").and_then(|field| self.text_template(field))?;
        Some(CallSpec { tool, args })
    }

    fn gate(&mut self, field: Field<'_>, fields: &Fields<'_>) -> Option<KindSpec> {
        let bands = match fields.get("bands") {
            Some(bands) => self.bands(bands),
            None => {
                self.findings.push(g005::missing_key(
                    field.key_span,
                    "bands",
                    "a gate",
                    "The gate's bands, highest first.",
                ));
                return None;
            }
        };
        Some(KindSpec::Gate { score: self.expression(field)?, bands: bands? })
    }

    fn bands(&mut self, field: Field<'_>) -> Option<Vec<BandSpec>> {
        let Data::List(items) = &field.value.data else {
            self.wrong_type(field, "a list of bands");
            return None;
        };
        let bands = items.iter().map(|item| {
            let fields = self.fields(item, &keys::BAND, item.span)?;
            let at_least = fields.get("at_least").map(|field| self.number(field));
            let then = fields.get("then").map_or(RoutingSpec::Broken, |field| self.routing(field));
            let span = place(fields.get("at_least").or(fields.get("then")), item.span);
            if at_least == Some(None) { None } else { Some(BandSpec { at_least: at_least.flatten(), then, span }) }
        });
        bands.collect::<Vec<_>>().into_iter().collect()
    }

    fn approval(&mut self, field: Field<'_>) -> Option<KindSpec> {
        let fields = self.fields(field.value, &keys::APPROVAL, field.key_span)?;
        let title = fields.get("title").and_then(|field| self.text_template(field));
        let choices = fields.get("choices").and_then(|field| self.names(field));
        let choices: Vec<String> = choices.map_or_else(
            || CHOICES_DEFAULT.map(str::to_owned).to_vec(),
            |names| names.into_iter().map(|name| name.text).collect(),
        );
        if choices.is_empty() {
            self.findings.push(g032::out_of_range(
                place(fields.get("choices"), field.key_span),
                "choices",
                "at least one choice",
            ));
        }
        let approvers = fields.get("approvers").and_then(|field| self.names(field)).unwrap_or_default();
        let quorum = fields.get("quorum").and_then(|field| self.whole(field, 1)).unwrap_or(1);
        let expires = fields.get("expires").and_then(|field| self.duration(field));
        let on_expire = fields.get("on_expire").and_then(|field| self.name(field));
        if let (Some(on_expire), false) = (&on_expire, fields.has("expires")) {
            self.findings.push(g005::missing_key(
                on_expire.span,
                "expires",
                "an approval with `on_expire`",
                "How long it stays open.",
            ));
        }
        let approval = ApprovalSpec {
            body: fields.get("body").map(|field| self.template(field.value)),
            payload: fields.get("payload").map(|field| self.template(field.value)),
            schema: fields.get("schema").and_then(|field| self.schema(field)),
            four_eyes: fields.get("four_eyes").and_then(|field| self.flag(field)).unwrap_or(false),
            title: title?,
            choices,
            approvers,
            quorum,
            expires,
            on_expire,
        };
        Some(KindSpec::Approval(Box::new(approval)))
    }

    fn set(&mut self, field: Field<'_>) -> KindSpec {
        let writes = self.writes(field);
        let entries = self.entries(field);
        let writes = writes.into_iter().zip(entries).map(|((name, template), entry)| {
            let set = match overwritten(&entry.value) {
                Some(value) => SetSpec::Overwrite(self.template(value)),
                None => SetSpec::Write(template),
            };
            (name, set)
        });
        KindSpec::Set(writes.collect())
    }

    fn map(&mut self, field: Field<'_>) -> Option<KindSpec> {
        let fields = self.fields(field.value, &keys::MAP, field.key_span)?;
        let over = fields.get("over").and_then(|field| self.expression(field));
        let item = self.required_name(fields.get("as"));
        let index = fields.get("index").and_then(|field| self.name(field));
        for name in item.iter().chain(&index) {
            g024::check_variable(name, self.findings);
        }
        let to = self.required_name(fields.get("to"));
        let max_concurrency = fields.get("max_concurrency").and_then(|field| self.whole(field, 1));
        Some(KindSpec::Map(MapSpec { over: over?, item: item?, index, to: to?, max_concurrency }))
    }

    fn wait(&mut self, field: Field<'_>) -> Option<KindSpec> {
        if !matches!(field.value.data, Data::Map(_)) {
            return self.duration(field).map(|length| KindSpec::Wait(WaitSpec::For(length)));
        }
        let fields = self.fields(field.value, &keys::WAIT, field.key_span)?;
        let length = fields.get("for").map(|field| self.duration(field));
        let on_timeout = fields.get("on_timeout").and_then(|field| self.name(field));
        if let (Some(name), false) = (&on_timeout, fields.has("signal") && fields.has("for")) {
            self.findings.push(g011::timeout_without_signal(name.span));
        }
        let wait = match (fields.get("signal"), fields.get("until"), length) {
            (Some(signal), None, timeout) => {
                let name = self.name(signal)?.text;
                WaitSpec::Signal { name, timeout: timeout.flatten(), on_timeout }
            }
            (None, Some(until), None) => WaitSpec::Until(self.expression(until)?),
            (None, None, Some(length)) => WaitSpec::For(length?),
            _ => {
                self.findings.push(g011::wait_for_one(field.key_span));
                return None;
            }
        };
        Some(KindSpec::Wait(wait))
    }

    fn graph(&mut self, field: Field<'_>, fields: &Fields<'_>) -> Option<KindSpec> {
        let scope = fields.get("scope").and_then(|field| self.word(field, &["call", "thread"]));
        let scope = if scope == Some("thread") { GraphScope::Thread } else { GraphScope::Call };
        Some(KindSpec::Graph { graph: self.name(field)?, scope })
    }

    fn spawn(&mut self, field: Field<'_>) -> Option<KindSpec> {
        let fields = self.fields(field.value, &keys::SPAWN, field.key_span)?;
        let key = fields.get("key").and_then(|field| self.text_template(field));
        let input = self.templates(fields.get("input"), field.key_span);
        let join = fields.get("join").and_then(|field| self.flag(field)).unwrap_or(false);
        Some(KindSpec::Spawn(SpawnSpec { graph: self.required_name(fields.get("graph"))?, key, input, join }))
    }

    fn fail(&mut self, field: Field<'_>) -> Option<KindSpec> {
        if matches!(field.value.data, Data::Text(_)) {
            let message = self.template(field.value);
            return Some(KindSpec::Fail { message, class: CLASS_DEFAULT.to_owned() });
        }
        let fields = self.fields(field.value, &keys::FAIL, field.key_span)?;
        let class =
            fields.get("class").and_then(|field| self.word(field, keys::ERROR_CLASSES)).unwrap_or(CLASS_DEFAULT);
        let message = fields.get("message").and_then(|field| self.text_template(field))?;
        Some(KindSpec::Fail { message, class: class.to_owned() })
    }
}

/// `X` of `{overwrite: X}` or `{$overwrite: X}`.
fn overwritten(value: &Yaml) -> Option<&Yaml> {
    match &value.data {
        Data::Map(entries) => match entries.as_slice() {
            [only] if only.key == "overwrite" || only.key == "$overwrite" => Some(&only.value),
            _ => None,
        },
        _ => None,
    }
}
