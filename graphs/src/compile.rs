//! From a [`GraphSpec`] to a [`CompiledGraph`]: every name becomes a position, every default is applied.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::agent::{AgentNode, Specialist};
use crate::compiled::{Channel, CompiledGraph};
use crate::digest;
use crate::node::{
    ApprovalNode, Band, CachePolicy, ChannelIx, FailNode, GateNode, GraphNode, Kind, MapNode, Node, NodeIx, Output,
    Route, Routing, SetValue, SpawnNode, Target, ToolCall, ToolNode, Verify, WaitNode,
};
use crate::record::Record;
use crate::resolve::Cx;
use crate::source::Source;
use crate::spec::{
    ApprovalSpec, CacheSpec, CallSpec, KindSpec, MapSpec, Name, NodeSpec, OutputSpec, RecordSpec, RoutingSpec,
    SchemaSpec, SetSpec, SpecialistSpec, ToolSpec, WaitSpec,
};

/// Builds the graph. `None` if a name does not resolve, which the checks have reported.
pub(crate) fn build(cx: &Cx<'_>, source: &Arc<Source>) -> Option<CompiledGraph> {
    let spec = cx.spec;
    let nodes: Vec<Node> =
        spec.nodes.iter().zip(0..).map(|(node, ix)| build_node(cx, node, NodeIx(ix))).collect::<Option<_>>()?;
    let channels = spec.channels.iter().map(|channel| Channel {
        name: channel.name.text.clone(),
        merge: channel.merge.clone(),
        schema: channel.schema.as_ref().map(compiled),
        default: channel.default.as_ref().map(crate::yaml::Yaml::json),
    });
    let node_by_name: BTreeMap<String, NodeIx> = nodes.iter().map(|node| (node.name.clone(), node.ix)).collect();
    let channel_by_name = spec.channels.iter().zip(0..).map(|(channel, ix)| (channel.name.text.clone(), ChannelIx(ix)));
    Some(CompiledGraph {
        name: spec.name.text.clone(),
        description: spec.description.clone(),
        digest: digest::of(&spec.document),
        source: source.clone(),
        channels: channels.collect(),
        channel_by_name: channel_by_name.collect(),
        waiters: nodes.iter().map(|node| cx.waiters(node.ix).to_vec()).collect(),
        nodes,
        node_by_name,
        start: build_routing(cx, &spec.start)?,
        limits: spec.limits,
        budget: spec.budget.clone(),
        input_schema: spec.input.as_ref().map(compiled),
        output: spec.output.as_ref().map(|names| names.iter().map(|name| name.text.clone()).collect()),
        retention: spec.retention.clone(),
        metadata: spec.metadata.clone(),
        tests: spec.tests.iter().map(|test| test.test.clone()).collect(),
    })
}

fn compiled(spec: &SchemaSpec) -> crate::schema::Schema {
    spec.schema.clone()
}

fn build_node(cx: &Cx<'_>, node: &NodeSpec, ix: NodeIx) -> Option<Node> {
    let defaults = &cx.spec.defaults;
    let own = &node.policies;
    let handler = own.on_error.as_ref().or(defaults.on_error.as_ref().filter(|name| name.text != node.name.text));
    Some(Node {
        name: node.name.text.clone(),
        ix,
        description: node.description.clone(),
        kind: build_kind(cx, &node.kind)?,
        then: build_routing(cx, &node.then)?,
        after: node.after.iter().map(|name| cx.node(&name.text)).collect::<Option<_>>()?,
        defer: node.defer,
        retry: own.retry.clone().or_else(|| defaults.retry.clone()).unwrap_or_default(),
        timeout: own.timeout.or(defaults.timeout).unwrap_or_default(),
        cache: own.cache.as_ref().or(defaults.cache.as_ref()).map(build_cache),
        on_error: optional_node(cx, handler)?,
        with: node.with.iter().map(|(name, value)| (name.text.clone(), value.template.clone())).collect(),
        output: build_output(cx, &node.output)?,
        budget: own.budget.clone().or_else(|| defaults.budget.clone()),
        breaker: own.breaker.or(defaults.breaker),
        metadata: node.metadata.clone(),
    })
}

/// The position of a node that may be left out. The outer `None` is a name that does not resolve.
fn optional_node(cx: &Cx<'_>, name: Option<&Name>) -> Option<Option<NodeIx>> {
    match name {
        Some(name) => cx.node(&name.text).map(Some),
        None => Some(None),
    }
}

fn build_cache(cache: &CacheSpec) -> CachePolicy {
    CachePolicy { key: cache.key.as_ref().map(|key| key.expr.clone()), ttl: cache.ttl }
}

fn build_output(cx: &Cx<'_>, output: &OutputSpec) -> Option<Output> {
    Some(match output {
        OutputSpec::None => Output::None,
        OutputSpec::Broken => return None,
        OutputSpec::Channel(name) => Output::Channel(cx.channel(&name.text)?),
        OutputSpec::Map(writes) => {
            let writes = writes.iter().map(|(name, expr)| Some((cx.channel(&name.text)?, expr.expr.clone())));
            Output::Map(writes.collect::<Option<_>>()?)
        }
    })
}

fn build_routing(cx: &Cx<'_>, routing: &RoutingSpec) -> Option<Routing> {
    let targets = |names: &[Name]| names.iter().map(|name| target(cx, name)).collect::<Option<Vec<_>>>();
    Some(match routing {
        RoutingSpec::Unset => Routing::Unset,
        RoutingSpec::Broken => return None,
        RoutingSpec::Goto(names) => Routing::Goto(targets(names)?),
        RoutingSpec::Routes(routes) => {
            let routes = routes.iter().map(|route| {
                Some(Route { when: route.when.as_ref().map(|when| when.expr.clone()), to: targets(&route.to)? })
            });
            Routing::Routes(routes.collect::<Option<_>>()?)
        }
    })
}

fn target(cx: &Cx<'_>, name: &Name) -> Option<Target> {
    if name.text == "end" { Some(Target::End) } else { cx.node(&name.text).map(Target::Node) }
}

fn build_kind(cx: &Cx<'_>, kind: &KindSpec) -> Option<Kind> {
    Some(match kind {
        KindSpec::Broken => return None,
        KindSpec::Agent { role, tools, tier, prompt, pattern, schedule, specialists } => Kind::Agent(AgentNode {
            role: role.text.clone(),
            tools: texts(tools),
            tier: tier.clone(),
            prompt: prompt.clone(),
            pattern: *pattern,
            schedule: *schedule,
            specialists: specialists.iter().map(build_specialist).collect(),
        }),
        KindSpec::Tool(tool) => Kind::Tool(Box::new(build_tool(tool))),
        KindSpec::Gate { score, bands } => {
            let bands =
                bands.iter().map(|band| Some(Band { at_least: band.at_least, then: build_routing(cx, &band.then)? }));
            Kind::Gate(GateNode { score: score.expr.clone(), bands: bands.collect::<Option<_>>()? })
        }
        KindSpec::Approval(approval) => Kind::Approval(Box::new(build_approval(cx, approval)?)),
        KindSpec::Set(writes) => {
            let writes = writes.iter().map(|(name, set)| Some((cx.channel(&name.text)?, build_set(set))));
            Kind::Set(writes.collect::<Option<_>>()?)
        }
        KindSpec::Map(map) => Kind::Map(build_map(cx, map)?),
        KindSpec::Wait(wait) => Kind::Wait(build_wait(cx, wait)?),
        KindSpec::Graph { graph, scope } => Kind::Graph(GraphNode { graph: graph.text.clone(), scope: *scope }),
        KindSpec::Spawn(spawn) => Kind::Spawn(SpawnNode {
            graph: spawn.graph.text.clone(),
            key: spawn.key.as_ref().map(|key| key.template.clone()),
            input: spawn.input.template.clone(),
            join: spawn.join,
        }),
        KindSpec::Fail { message, class } => {
            Kind::Fail(FailNode { message: message.template.clone(), class: class.clone() })
        }
        KindSpec::Emit(template) => Kind::Emit(template.template.clone()),
        KindSpec::Function(name) => Kind::Function(name.text.clone()),
    })
}

fn build_specialist(specialist: &SpecialistSpec) -> Specialist {
    Specialist {
        name: specialist.name.text.clone(),
        description: specialist.description.clone(),
        prompt: specialist.prompt.clone(),
        tools: texts(&specialist.tools),
    }
}

fn texts(names: &[Name]) -> Vec<String> {
    names.iter().map(|name| name.text.clone()).collect()
}

fn build_set(set: &SetSpec) -> SetValue {
    match set {
        SetSpec::Write(template) => SetValue::Write(template.template.clone()),
        SetSpec::Overwrite(template) => SetValue::Overwrite(template.template.clone()),
    }
}

fn build_tool(tool: &ToolSpec) -> ToolNode {
    let parts = |call: &CallSpec| (call.tool.template.clone(), call.args.template.clone());
    let (name, args) = parts(&tool.call);
    ToolNode {
        tool: name,
        args,
        env: tool.env.as_ref().map(|env| env.template.clone()),
        effect: tool.effect,
        verify: tool.verify.as_ref().map(|(call, expect)| {
            let (tool, args) = parts(call);
            Verify { tool, args, expect: expect.expr.clone() }
        }),
        undo: tool.undo.as_ref().map(|call| {
            let (tool, args) = parts(call);
            ToolCall { tool, args }
        }),
        record: tool.record.as_ref().map(build_record),
        dry_run: tool.dry_run,
    }
}

fn build_record(record: &RecordSpec) -> Record {
    Record {
        class: record.class.template.clone(),
        at_least: record.at_least,
        confidence: record.confidence.as_ref().map(|confidence| confidence.expr.clone()),
        prior: record.prior.as_ref().map(|prior| prior.template.clone()),
        heals: record.heals,
        approvers: record.approvers.iter().map(|name| name.text.clone()).collect(),
        expires: record.expires,
    }
}

fn build_approval(cx: &Cx<'_>, approval: &ApprovalSpec) -> Option<ApprovalNode> {
    Some(ApprovalNode {
        title: approval.title.template.clone(),
        body: approval.body.as_ref().map(|body| body.template.clone()),
        payload: approval.payload.as_ref().map(|payload| payload.template.clone()),
        choices: approval.choices.clone(),
        approvers: approval.approvers.iter().map(|name| name.text.clone()).collect(),
        quorum: approval.quorum,
        expires: approval.expires,
        on_expire: optional_node(cx, approval.on_expire.as_ref())?,
        schema: approval.schema.as_ref().map(compiled),
        four_eyes: approval.four_eyes,
    })
}

fn build_map(cx: &Cx<'_>, map: &MapSpec) -> Option<MapNode> {
    Some(MapNode {
        over: map.over.expr.clone(),
        item: map.item.text.clone(),
        index: map.index.as_ref().map(|name| name.text.clone()),
        to: cx.node(&map.to.text)?,
        max_concurrency: map.max_concurrency,
    })
}

fn build_wait(cx: &Cx<'_>, wait: &WaitSpec) -> Option<WaitNode> {
    Some(match wait {
        WaitSpec::For(length) => WaitNode::For(*length),
        WaitSpec::Until(until) => WaitNode::Until(until.expr.clone()),
        WaitSpec::Signal { name, timeout, on_timeout } => WaitNode::Signal {
            name: name.clone(),
            timeout: *timeout,
            on_timeout: optional_node(cx, on_timeout.as_ref())?,
        },
    })
}
