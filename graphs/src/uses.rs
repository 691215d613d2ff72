//! Every expression of a graph: where it stands, what it must give, and which names it may use.

use std::collections::{BTreeMap, BTreeSet};

use crate::expr::{Code, Expr};
use crate::resolve::Cx;
use crate::source::Span;
use crate::spec::{
    CallSpec, ExprSpec, KindSpec, NodeSpec, OutputSpec, RecordSpec, RoutingSpec, SetSpec, TemplateSpec, WaitSpec,
};

/// What an expression must give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted<'a> {
    Anything,
    Bool,
    Number,
    List,
    Moment,
    /// A value for this channel.
    Channel(&'a str),
}

/// One expression of the graph.
#[derive(Debug)]
pub(crate) struct Use<'a> {
    pub(crate) code: UsedCode<'a>,
    pub(crate) span: Span,
    pub(crate) wanted: Wanted<'a>,
    /// Names besides channels and those that are always there.
    pub(crate) extra: BTreeSet<&'a str>,
}

/// An expression or a text with expressions.
#[derive(Debug, Clone, Copy)]
pub(crate) enum UsedCode<'a> {
    Expr(&'a Expr),
    Template(&'a Code),
}

/// All expressions of the graph.
pub(crate) fn all<'a>(cx: &Cx<'a>) -> Vec<Use<'a>> {
    let mut found = Found { uses: Vec::new(), extra: BTreeSet::new() };
    found.routing(&cx.spec.start, &[]);
    found.optional(cx.spec.defaults.cache.as_ref().and_then(|cache| cache.key.as_ref()), Wanted::Anything);
    let sent = sent_items(cx);
    for node in &cx.spec.nodes {
        found.extra = sent.get(node.name.text.as_str()).cloned().unwrap_or_default();
        found.node(node);
    }
    found.uses
}

struct Found<'a> {
    uses: Vec<Use<'a>>,
    extra: BTreeSet<&'a str>,
}

impl<'a> Found<'a> {
    fn node(&mut self, node: &'a NodeSpec) {
        for (_, template) in &node.with {
            self.template(template, &[]);
        }
        self.extra.extend(node.with.iter().map(|(name, _)| name.text.as_str()));
        self.optional(node.policies.cache.as_ref().and_then(|cache| cache.key.as_ref()), Wanted::Anything);
        self.kind(&node.kind);
        let result: &[&str] =
            if matches!(node.kind, KindSpec::Approval(_)) { &["result", "answer"] } else { &["result"] };
        self.routing(&node.then, result);
        match &node.output {
            OutputSpec::Map(writes) => {
                for (channel, expr) in writes {
                    self.expr(expr, Wanted::Channel(&channel.text), result);
                }
            }
            OutputSpec::None | OutputSpec::Broken | OutputSpec::Channel(_) => {}
        }
    }

    fn kind(&mut self, kind: &'a KindSpec) {
        match kind {
            KindSpec::Broken | KindSpec::Agent { .. } | KindSpec::Graph { .. } | KindSpec::Function(_) => {}
            KindSpec::Tool(tool) => {
                self.call(&tool.call, &[]);
                tool.env.iter().for_each(|env| self.template(env, &[]));
                if let Some((call, expect)) = &tool.verify {
                    self.call(call, &["result"]);
                    self.expr(expect, Wanted::Bool, &["result"]);
                }
                tool.undo.iter().for_each(|undo| self.call(undo, &["result"]));
                tool.record.iter().for_each(|record| self.record(record));
            }
            KindSpec::Gate { score, bands } => {
                self.expr(score, Wanted::Number, &[]);
                bands.iter().for_each(|band| self.routing(&band.then, &[]));
            }
            KindSpec::Approval(approval) => {
                self.template(&approval.title, &[]);
                approval.body.iter().chain(&approval.payload).for_each(|template| self.template(template, &[]));
            }
            KindSpec::Set(writes) => {
                for (channel, set) in writes {
                    let (SetSpec::Write(template) | SetSpec::Overwrite(template)) = set;
                    self.write(template, &channel.text);
                }
            }
            KindSpec::Map(map) => self.expr(&map.over, Wanted::List, &[]),
            KindSpec::Wait(WaitSpec::Until(until)) => self.expr(until, Wanted::Moment, &[]),
            KindSpec::Wait(WaitSpec::For(_) | WaitSpec::Signal { .. }) => {}
            KindSpec::Spawn(spawn) => {
                spawn.key.iter().for_each(|key| self.template(key, &[]));
                self.template(&spawn.input, &[]);
            }
            KindSpec::Fail { message, .. } => self.template(message, &[]),
            KindSpec::Emit(template) => self.template(template, &[]),
        }
    }

    fn record(&mut self, record: &'a RecordSpec) {
        self.template(&record.class, &[]);
        record.prior.iter().for_each(|prior| self.template(prior, &[]));
        self.optional(record.confidence.as_ref(), Wanted::Number);
    }

    fn call(&mut self, call: &'a CallSpec, extra: &[&'a str]) {
        self.template(&call.tool, extra);
        self.template(&call.args, extra);
    }

    fn routing(&mut self, routing: &'a RoutingSpec, extra: &[&'a str]) {
        if let RoutingSpec::Routes(routes) = routing {
            for when in routes.iter().filter_map(|route| route.when.as_ref()) {
                self.expr(when, Wanted::Bool, extra);
            }
        }
    }

    fn optional(&mut self, expr: Option<&'a ExprSpec>, wanted: Wanted<'a>) {
        expr.iter().for_each(|expr| self.expr(expr, wanted, &[]));
    }

    fn expr(&mut self, spec: &'a ExprSpec, wanted: Wanted<'a>, extra: &[&'a str]) {
        self.push(UsedCode::Expr(&spec.expr), spec.span, wanted, extra);
    }

    fn template(&mut self, spec: &'a TemplateSpec, extra: &[&'a str]) {
        for (code, span) in &spec.codes {
            self.push(UsedCode::Template(code), *span, Wanted::Anything, extra);
        }
    }

    /// A template whose whole value goes into a channel.
    fn write(&mut self, spec: &'a TemplateSpec, channel: &'a str) {
        match spec.codes.as_slice() {
            [(code @ Code::Value(_), span)] if *span == spec.span => {
                self.push(UsedCode::Template(code), *span, Wanted::Channel(channel), &[]);
            }
            _ => self.template(spec, &[]),
        }
    }

    fn push(&mut self, code: UsedCode<'a>, span: Span, wanted: Wanted<'a>, extra: &[&'a str]) {
        let extra = self.extra.iter().copied().chain(extra.iter().copied()).collect();
        self.uses.push(Use { code, span, wanted, extra });
    }
}

/// The item and index names of every `map`, by the node it sends to.
fn sent_items<'a>(cx: &Cx<'a>) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let mut sent: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for node in &cx.spec.nodes {
        if let KindSpec::Map(map) = &node.kind {
            let names = std::iter::once(&map.item).chain(&map.index).map(|name| name.text.as_str());
            sent.entry(map.to.text.as_str()).or_default().extend(names);
        }
    }
    sent
}
