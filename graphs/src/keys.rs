//! The keys of the graph language: one table per mapping.
//!
//! Reading a graph refuses every key that is not here, and the JSON Schema for editors is made from the same
//! tables, so the two cannot differ.

mod of_tests;

pub(crate) use of_tests::{ANSWER, CALLED, EXPECT, TEST};

/// The shape of a value.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape {
    /// Any JSON value.
    Any,
    /// Any mapping.
    Object,
    /// Text on one or more lines.
    Text,
    /// The name of something.
    Name,
    /// Names of things; one alone needs no list.
    Names,
    /// An expression.
    Expression,
    /// Any value; strings may hold expressions.
    Template,
    /// A mapping of templates, or one expression.
    Templates,
    Flag,
    Number,
    /// A whole number of at least this.
    Whole(u64),
    /// A length of time.
    Duration,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Some of these words.
    Words(&'static [&'static str]),
    /// A JSON Schema.
    Schema,
    Routing,
    /// A mapping with the keys of a table.
    Table(&'static Table),
    /// A mapping from free names to mappings with the keys of a table.
    MapOf(&'static Table),
    /// A mapping from free names to JSON Schemas.
    Schemas,
    /// A mapping from free names to values that may hold expressions.
    Writes,
    /// A list of mappings with the keys of a table.
    ListOf(&'static Table),
    /// Any of these.
    Either(&'static [Shape]),
}

/// One key.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    pub(crate) required: bool,
    pub(crate) doc: &'static str,
}

/// The keys of one mapping.
#[derive(Debug)]
pub(crate) struct Table {
    /// What the mapping describes, for messages.
    pub(crate) what: &'static str,
    /// The name of its definition in the JSON Schema.
    pub(crate) id: &'static str,
    pub(crate) keys: &'static [Key],
}

impl Table {
    /// The names of the keys.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.keys.iter().map(|key| key.name)
    }
}

const fn key(name: &'static str, shape: Shape, doc: &'static str) -> Key {
    Key { name, shape, required: false, doc }
}

const fn required(name: &'static str, shape: Shape, doc: &'static str) -> Key {
    Key { name, shape, required: true, doc }
}

/// Error classes that `retry.on` and `fail.class` may name.
pub(crate) const ERROR_CLASSES: &[&str] = &[
    "transient",
    "rate_limited",
    "timeout",
    "resource",
    "invalid",
    "denied",
    "not_found",
    "conflict",
    "verify_failed",
    "permanent",
    "unknown",
];

/// Reducers.
pub(crate) const MERGES: &[&str] =
    &["replace", "last", "append", "union", "deep", "sum", "min", "max", "messages", "ephemeral", "untracked"];

/// Ways of an assistant to its answer.
pub(crate) const PATTERNS: &[&str] = &["single", "react", "plan", "reflect", "supervise"];

/// When the models of an agent are asked.
pub(crate) const SCHEDULES: &[&str] = &["now", "batch"];

/// The keys that say what a node does; a node has exactly one of them.
pub(crate) const KINDS: &[&str] =
    &["agent", "tool", "gate", "approval", "set", "map", "wait", "graph", "spawn", "fail", "emit", "function"];

/// Keys of a node that belong to one kind only.
pub(crate) const KIND_KEYS: &[(&str, &[&str])] = &[
    ("agent", &["tools", "tier", "prompt", "pattern", "schedule", "specialists"]),
    ("tool", &["args", "env", "verify", "undo", "record", "dry_run", "effect"]),
    ("gate", &["bands"]),
    ("graph", &["scope"]),
];

pub(crate) static GRAPH: Table = Table {
    what: "a graph",
    id: "Graph",
    keys: &[
        required("graph", Shape::Name, "The name of the graph."),
        key("description", Shape::Text, "What the graph is for."),
        key("input", Shape::Table(&INPUT), "What a thread is started with."),
        key("output", Shape::Names, "The channels that are the thread's output; all if left out."),
        key("schemas", Shape::Schemas, "Named JSON Schemas, referred to as `#/schemas/Name`."),
        key("state", Shape::MapOf(&CHANNEL), "The channels."),
        key("defaults", Shape::Table(&DEFAULTS), "Policies of every node that has none of its own."),
        required("nodes", Shape::MapOf(&NODE), "The nodes. Their order decides the order of writes."),
        required("start", Shape::Routing, "Where a run starts."),
        key("limits", Shape::Table(&LIMITS), "Bounds of a run."),
        key("budget", Shape::Table(&BUDGET), "What all nodes together may spend."),
        key("retention", Shape::Table(&RETENTION), "How long checkpoints are kept."),
        key("tests", Shape::ListOf(&TEST), "Tests that `interlock test` runs."),
        key("metadata", Shape::Object, "Free data for tools and people."),
    ],
};

pub(crate) static INPUT: Table =
    Table { what: "`input`", id: "Input", keys: &[required("schema", Shape::Schema, "What the input must satisfy.")] };

pub(crate) static CHANNEL: Table = Table {
    what: "a channel",
    id: "Channel",
    keys: &[
        key("merge", Shape::Word(MERGES), "How the writes of a superstep are combined; `replace` if left out."),
        key("key", Shape::Name, "For `union`: the field that identifies an object."),
        key("schema", Shape::Schema, "What every write must satisfy."),
        key("default", Shape::Any, "The value before the first write."),
        key("description", Shape::Text, "What the channel holds."),
    ],
};

pub(crate) static LIMITS: Table = Table {
    what: "`limits`",
    id: "Limits",
    keys: &[
        key("recursion", Shape::Whole(1), "Supersteps of one run; 1000 if left out."),
        key("concurrency", Shape::Whole(1), "Tasks that run at once."),
    ],
};

pub(crate) static RETENTION: Table = Table {
    what: "`retention`",
    id: "Retention",
    keys: &[
        key("age", Shape::Duration, "Checkpoints older than this may go."),
        key("count", Shape::Whole(1), "Only this many checkpoints of a thread are kept."),
        key("keep_latest", Shape::Flag, "The latest checkpoint always stays; true if left out."),
        key("keep_approvals", Shape::Flag, "Checkpoints with an approval always stay; true if left out."),
    ],
};

const RETRY_SHAPE: Shape = Shape::Either(&[Shape::Table(&RETRY), Shape::ListOf(&RETRY)]);
const TIMEOUT_SHAPE: Shape = Shape::Either(&[Shape::Duration, Shape::Table(&TIMEOUT)]);

const RETRY_KEY: Key = key("retry", RETRY_SHAPE, "How a failure is tried again.");
const TIMEOUT_KEY: Key = key("timeout", TIMEOUT_SHAPE, "How long an attempt may take.");
const CACHE_KEY: Key = key("cache", Shape::Table(&CACHE), "When a result may be reused.");
const ON_ERROR_KEY: Key = key("on_error", Shape::Name, "The node that handles a failure.");
const BUDGET_KEY: Key = key("budget", Shape::Table(&BUDGET), "What may be spent.");
const BREAKER_KEY: Key = key("breaker", Shape::Table(&BREAKER), "When it is switched off after failures.");

pub(crate) static DEFAULTS: Table = Table {
    what: "`defaults`",
    id: "Defaults",
    keys: &[RETRY_KEY, TIMEOUT_KEY, CACHE_KEY, ON_ERROR_KEY, BUDGET_KEY, BREAKER_KEY],
};

pub(crate) static RETRY: Table = Table {
    what: "`retry`",
    id: "Retry",
    keys: &[
        key("attempts", Shape::Whole(1), "All tries, the first included; 3 if left out."),
        key("backoff", Shape::Word(&["exponential", "fixed"]), "How the delay grows; `exponential` if left out."),
        key("initial", Shape::Duration, "The first delay; 500ms if left out."),
        key("factor", Shape::Number, "What the delay is multiplied by; 2 if left out."),
        key("max", Shape::Duration, "The longest delay; 2m if left out."),
        key("on", Shape::Words(ERROR_CLASSES), "Error classes it applies to."),
    ],
};

pub(crate) static TIMEOUT: Table = Table {
    what: "`timeout`",
    id: "Timeout",
    keys: &[
        key("run", Shape::Duration, "The whole attempt."),
        key("idle", Shape::Duration, "The longest silence."),
        key("refresh", Shape::Word(&["any", "heartbeat"]), "What breaks the silence; `any` if left out."),
    ],
};

pub(crate) static CACHE: Table = Table {
    what: "`cache`",
    id: "Cache",
    keys: &[
        key("key", Shape::Expression, "What identifies a result; the node's inputs if left out."),
        key("ttl", Shape::Duration, "How long a result may be reused."),
    ],
};

pub(crate) static BUDGET: Table = Table {
    what: "`budget`",
    id: "Budget",
    keys: &[
        key("usd_per_day", Shape::Number, "Dollars per day."),
        key("usd_per_run", Shape::Number, "Dollars per run."),
        key("tokens_per_day", Shape::Whole(0), "Tokens per day."),
        key("tokens_per_run", Shape::Whole(0), "Tokens per run."),
        key("calls_per_day", Shape::Whole(0), "Calls per day."),
        key("calls_per_run", Shape::Whole(0), "Calls per run."),
        key(
            "on_exceed",
            Shape::Word(&["pause", "downgrade", "fail"]),
            "What happens at the limit; `pause` if left out.",
        ),
    ],
};

pub(crate) static BREAKER: Table = Table {
    what: "`breaker`",
    id: "Breaker",
    keys: &[
        key("failures", Shape::Whole(1), "Failures in a row that open it; 3 if left out."),
        key("cooldown", Shape::Duration, "How long it stays open; 15m if left out."),
    ],
};

pub(crate) static NODE: Table = Table {
    what: "a node",
    id: "Node",
    keys: &[
        key("description", Shape::Text, "What the node is for."),
        key("agent", Shape::Name, "Runs an agent of this role."),
        key("tools", Shape::Names, "Tools the agent may see, as patterns such as `airflow.*`."),
        key("tier", Shape::Table(&TIER), "Which model tiers the agent uses."),
        key("prompt", Shape::Name, "The prompt, if not the role's own."),
        key("pattern", Shape::Word(PATTERNS), "How an assistant comes to its answer; `react` if left out."),
        key(
            "schedule",
            Shape::Word(SCHEDULES),
            "When its models are asked: at once, or in a batch, which takes up to a day and costs half; `now` if left out.",
        ),
        key("specialists", Shape::MapOf(&SPECIALIST), "Whom a supervisor may ask, by name."),
        key("tool", Shape::Text, "Calls this tool, as `server.tool`."),
        key("args", Shape::Templates, "The tool's arguments."),
        key("env", Shape::Text, "The environment the tool acts on."),
        key("verify", Shape::Table(&VERIFY), "The check after the act."),
        key("undo", Shape::Table(&UNDO), "The call that takes the act back."),
        key(
            "record",
            Shape::Table(&RECORD),
            "The track record of the act's class: what it counts for, and when it asks.",
        ),
        key("dry_run", Shape::Flag, "The call is described, not made."),
        key(
            "effect",
            Shape::Word(&["read_only", "idempotent", "at_most_once"]),
            "What the tool does, as the operator declares it.",
        ),
        key("gate", Shape::Expression, "Routes by this score."),
        key("bands", Shape::ListOf(&BAND), "The gate's bands, highest first."),
        key("approval", Shape::Table(&APPROVAL), "Asks a person."),
        key("set", Shape::Writes, "Writes channels."),
        key("map", Shape::Table(&MAP), "Sends one task per item of a list."),
        key("wait", Shape::Either(&[Shape::Duration, Shape::Table(&WAIT)]), "Waits for a time or a signal."),
        key("graph", Shape::Name, "Runs another graph as part of this thread."),
        key("scope", Shape::Word(&["call", "thread"]), "How long the subgraph's state lives; `call` if left out."),
        key("spawn", Shape::Table(&SPAWN), "Starts or joins a thread of another graph."),
        key("fail", Shape::Either(&[Shape::Text, Shape::Table(&FAIL)]), "Ends the run as failed."),
        key("emit", Shape::Template, "Emits a custom stream event."),
        key("function", Shape::Name, "Runs a function registered with the runtime."),
        key("then", Shape::Routing, "Where the run goes next."),
        key("after", Shape::Names, "Runs once all of these have finished."),
        key("defer", Shape::Flag, "Waits until nothing else is left to run."),
        RETRY_KEY,
        TIMEOUT_KEY,
        CACHE_KEY,
        ON_ERROR_KEY,
        BUDGET_KEY,
        BREAKER_KEY,
        key("with", Shape::Writes, "Variables of this node, also visible as `params`."),
        key(
            "output",
            Shape::Either(&[Shape::Name, Shape::Writes]),
            "The channel of the result, or an expression over `result` for each channel.",
        ),
        key("metadata", Shape::Object, "Free data for tools and people."),
    ],
};

pub(crate) static ROUTE: Table = Table {
    what: "a route",
    id: "Route",
    keys: &[
        key("when", Shape::Expression, "The condition; the last route has none."),
        required("to", Shape::Names, "A node, `end`, or several in parallel."),
    ],
};

pub(crate) static TIER: Table = Table {
    what: "`tier`",
    id: "Tier",
    keys: &[
        required("start", Shape::Name, "The first tier."),
        key("max", Shape::Name, "The highest tier; the first if left out."),
        key("climb_below", Shape::Number, "Climb when the confidence is lower than this."),
    ],
};

pub(crate) static SPECIALIST: Table = Table {
    what: "a specialist",
    id: "Specialist",
    keys: &[
        required("description", Shape::Text, "What it is good at; the supervisor reads it."),
        key("prompt", Shape::Name, "Its prompt; `assistant` if left out."),
        key("tools", Shape::Names, "Tools it may see, as patterns such as `airflow.*`."),
    ],
};

pub(crate) static VERIFY: Table = Table {
    what: "`verify`",
    id: "Verify",
    keys: &[
        required("tool", Shape::Text, "The tool that checks."),
        key("args", Shape::Templates, "Its arguments."),
        required("expect", Shape::Expression, "Must be true; the tool's result is `result`."),
    ],
};

pub(crate) static UNDO: Table = Table {
    what: "`undo`",
    id: "Undo",
    keys: &[
        required("tool", Shape::Text, "The tool that takes the act back."),
        key("args", Shape::Templates, "Its arguments."),
    ],
};

pub(crate) static RECORD: Table = Table {
    what: "`record`",
    id: "Record",
    keys: &[
        required("class", Shape::Text, "The class whose outcomes are counted, such as the name of a remedy."),
        key(
            "at_least",
            Shape::Number,
            "Below this confidence, from 0 to 1, a person is asked; only counts if left out.",
        ),
        key("confidence", Shape::Expression, "How sure the one who decided is; the record can only lower it."),
        key("prior", PRIOR_SHAPE, "A declared record that the class starts with; it asks if left out."),
        key("heals", Shape::Flag, "A check that holds is a heal; true if left out. Else a later node says so."),
        key("approvers", Shape::Names, "Who may answer when only the record asks."),
        key("expires", Shape::Duration, "How long that question stays open."),
    ],
};

const PRIOR_SHAPE: Shape = Shape::Either(&[Shape::Text, Shape::Table(&PRIOR)]);

pub(crate) static PRIOR: Table = Table {
    what: "`prior`",
    id: "Prior",
    keys: &[
        required("healed", Shape::Either(&[Shape::Whole(0), Shape::Text]), "Acts that healed."),
        required("failed", Shape::Either(&[Shape::Whole(0), Shape::Text]), "Acts that did not."),
    ],
};

pub(crate) static BAND: Table = Table {
    what: "a band",
    id: "Band",
    keys: &[
        key("at_least", Shape::Number, "The lowest score of the band; the last band has none."),
        required("then", Shape::Routing, "Where the run goes."),
    ],
};

pub(crate) static APPROVAL: Table = Table {
    what: "`approval`",
    id: "Approval",
    keys: &[
        required("title", Shape::Text, "What is asked, in one line."),
        key("body", Shape::Template, "The details."),
        key("payload", Shape::Template, "The exact thing that is approved."),
        key("choices", Shape::Names, "The answers to choose from; `approve` and `reject` if left out."),
        key("approvers", Shape::Names, "Who may answer."),
        key("quorum", Shape::Whole(1), "How many must agree; 1 if left out."),
        key("expires", Shape::Duration, "How long it stays open."),
        key("on_expire", Shape::Name, "Where the run goes when it expires."),
        key("schema", Shape::Schema, "What an answer's arguments must satisfy."),
        key("four_eyes", Shape::Flag, "The one who asked may not answer."),
    ],
};

pub(crate) static MAP: Table = Table {
    what: "`map`",
    id: "Map",
    keys: &[
        required("over", Shape::Expression, "The list."),
        required("as", Shape::Name, "The name of the item."),
        key("index", Shape::Name, "The name of the item's position."),
        required("to", Shape::Name, "The node each item is sent to."),
        key("max_concurrency", Shape::Whole(1), "How many of its tasks run at once."),
    ],
};

pub(crate) static WAIT: Table = Table {
    what: "`wait`",
    id: "Wait",
    keys: &[
        key("for", Shape::Duration, "How long; with `signal`, at most how long."),
        key("until", Shape::Expression, "A timestamp."),
        key("signal", Shape::Name, "The name of a signal."),
        key("on_timeout", Shape::Name, "With `signal` and `for`: where the run goes when it does not come."),
    ],
};

pub(crate) static SPAWN: Table = Table {
    what: "`spawn`",
    id: "Spawn",
    keys: &[
        required("graph", Shape::Name, "The graph's name."),
        key("key", Shape::Text, "Threads with the same key are the same thread."),
        key("input", Shape::Template, "The thread's input."),
        key("join", Shape::Flag, "Wait for it to finish."),
    ],
};

pub(crate) static FAIL: Table = Table {
    what: "`fail`",
    id: "Fail",
    keys: &[
        required("message", Shape::Text, "What went wrong."),
        key("class", Shape::Word(ERROR_CLASSES), "Its error class; `permanent` if left out."),
    ],
};
