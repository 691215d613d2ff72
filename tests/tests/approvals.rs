//! G18: only an entitled, different person approves exactly one exact call, once, in time.
//!
//! Fourteen classes of attack on an approval, each in many variants of who, what and when. None may let a call leave; and
//! every honest approval must. `INTERLOCK_APPROVALS` sets the variants of each class.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use checkpoints::open::{Address, OpenOptions, open};
use graphs::{CompiledGraph, EffectClass, OpenCatalog};
use parking_lot::Mutex;
use runtime::ports::clock::Clock;
use runtime::ports::store::{PAGE_MAX, Store};
use runtime::{CallSpec, Context, Engine, NodeFn, Start};
use runtime_core::event::{AnswerInput, NodeOutput, Principal};
use runtime_core::ids::{ThreadId, Timestamp};
use runtime_core::interlocks::guard::{AllowAll, Policy, ToolFacts, Version};
use runtime_core::record::{CallKind, Interrupt, RunOptions};
use serde_json::{Value, json};
use tools::policy::RulePolicy;

/// Variants of each class when nobody says otherwise.
const VARIANTS_DEFAULT: u64 = 60;

const GRAPH: &str = "
graph: approvals
state: { n: {}, found: {} }
nodes:
  act: { function: act, output: found, then: end }
start: act
";

const POLICY: &str = "
approvers: ['group:oncall']
expires: 1h
rules:
  - { name: two-people, decide: four_eyes, tools: ['w.*'], envs: [production] }
";

/// The attacks.
const CLASSES: [&str; 14] = [
    "wrong user",
    "removed user",
    "requester himself",
    "other team",
    "expired",
    "replayed",
    "altered argument",
    "altered pin",
    "other run",
    "sibling call",
    "stale epoch",
    "after cancel",
    "double click",
    "approve after deny",
];

struct Moved(AtomicI64);

#[async_trait]
impl Clock for Moved {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }

    async fn sleep_until(&self, at: Timestamp) {
        if self.now() < at {
            std::future::pending::<()>().await;
        }
    }
}

/// One engine whose only node makes two calls side by side, and what of them happened.
struct World {
    engine: Engine,
    store: Arc<dyn Store>,
    clock: Arc<Moved>,
    thread: ThreadId,
    made: Arc<Mutex<Vec<Value>>>,
    pin: Arc<Mutex<String>>,
    args: Arc<Mutex<Value>>,
    graph: Arc<CompiledGraph>,
}

fn args(n: u64, which: &str) -> Value {
    json!({"which": which, "n": n, "text": format!("variant {n} \u{e9}\u{202e}"), "list": [n % 7, null, n.is_multiple_of(2)]})
}

fn policy() -> RulePolicy {
    let mut policy = RulePolicy::from_yaml(POLICY).unwrap();
    policy.groups = serde_json::from_value(json!({"oncall": ["ann", "bob"], "billing": ["carl"]})).unwrap();
    policy
}

impl World {
    fn new(n: u64, decides: Arc<dyn Policy>) -> Self {
        let store: Arc<dyn Store> = open(&Address::Memory, &OpenOptions::default()).unwrap();
        let clock = Arc::new(Moved(AtomicI64::new(1_767_225_600_000_000)));
        let (made, pin) = (Arc::<Mutex<Vec<Value>>>::default(), Arc::new(Mutex::new("aa".repeat(32))));
        let first = Arc::new(Mutex::new(args(n, "first")));
        let engine = engine((&store, &clock), (&made, &pin, &first), n, decides);
        let (graph, _) = graphs::check("approvals.yaml", GRAPH.as_bytes(), &OpenCatalog).unwrap();
        let thread = ThreadId::new("t").unwrap();
        Self { engine, store, clock, thread, made, pin, args: first, graph: Arc::new(graph) }
    }

    async fn start(&self, thread: &ThreadId, by: &str) {
        let start = Start {
            graph: Arc::clone(&self.graph),
            thread: thread.clone(),
            input: Value::Null,
            options: RunOptions::default(),
            metadata: json!({"requested_by": by}),
        };
        self.engine.start(start).await.unwrap().ended().await.unwrap();
    }

    async fn question(&self, thread: &ThreadId, which: &str) -> Interrupt {
        let open = self.store.interrupts(Some(thread), PAGE_MAX).await.unwrap();
        let found = open.into_iter().map(|row| row.interrupt).find(|open| open.payload["args"]["which"] == which);
        found.unwrap_or_else(|| panic!("nothing asks about the {which} call"))
    }

    async fn answer(&self, thread: &ThreadId, question: &Interrupt, (user, groups, choice): (&str, &[&str], &str)) {
        let by = Principal { user: user.to_owned(), groups: groups.iter().map(|group| (*group).to_owned()).collect() };
        let digest = Some(question.digest.clone());
        let input = AnswerInput { id: question.id, digest, value: json!({"choice": choice}), by };
        // Most answers are refused; what was made tells.
        let _ = self.engine.answer_and_join(thread, vec![input], Value::Null).await;
    }

    fn made(&self, which: &str) -> usize {
        self.made.lock().iter().filter(|made| made["which"] == which).count()
    }
}

type Shared<'a> = (&'a Arc<Mutex<Vec<Value>>>, &'a Arc<Mutex<String>>, &'a Arc<Mutex<Value>>);

fn engine(place: (&Arc<dyn Store>, &Arc<Moved>), shared: Shared<'_>, n: u64, decides: Arc<dyn Policy>) -> Engine {
    let (made, pin, first) = (Arc::clone(shared.0), Arc::clone(shared.1), Arc::clone(shared.2));
    let act = move |ctx: Context| {
        let (made, pin, first) = (Arc::clone(&made), pin.lock().clone(), first.lock().clone());
        async move {
            let call = |args: Value| {
                let made = Arc::clone(&made);
                let spec = CallSpec {
                    env: Some("production".into()),
                    role: Some("remediation".into()),
                    tool: ToolFacts { version: Version::Pinned { pin: pin.clone() }, ..ToolFacts::default() },
                    ..CallSpec::new(CallKind::Tool, "w.act", args, EffectClass::AtMostOnce)
                };
                ctx.call(spec, move |permit| async move {
                    made.lock().push(Value::clone(&permit.args));
                    Ok(json!("made"))
                })
            };
            let (one, two) = tokio::join!(call(first), call(args(n, "second")));
            Ok(NodeOutput { result: Some(json!([one.is_ok(), two.is_ok()])), ..NodeOutput::default() })
        }
    };
    Engine::builder(Arc::clone(place.0))
        .clock(Arc::clone(place.1) as _)
        .policy(decides)
        .function("act", Arc::new(NodeFn(act)))
        .build()
}

/// Makes one attack and tells how many calls left that must not have.
async fn attack(class: &str, n: u64, decides: Arc<dyn Policy>) -> usize {
    let world = World::new(n, decides);
    let t = &world.thread;
    world.start(t, "eve").await;
    if world.store.interrupts(Some(t), PAGE_MAX).await.unwrap().is_empty() {
        return world.made("first");
    }
    let (ann, bob) = (("ann", &["oncall"][..], "approve"), ("bob", &["oncall"][..], "approve"));
    let first = world.question(t, "first").await;
    match class {
        "wrong user" => {
            let name = ["mallory", "", "Ann", "ann ", "group:oncall", "user:ann", "\u{430}nn", "*"][index(n, 8)];
            world.answer(t, &first, (name, &[], "approve")).await;
        }
        // The surface took the answer with yesterday's groups; the policy knows today's.
        "removed user" => world.answer(t, &first, ("gone", &["oncall"], "approve")).await,
        "requester himself" => world.answer(t, &first, ("eve", &["oncall"], "approve")).await,
        "other team" => {
            let groups: &[&str] = [&["billing"][..], &["oncall-readers"], &["Oncall"], &["group:oncall"]][index(n, 4)];
            world.answer(t, &first, ("carl", groups, "approve")).await;
        }
        "expired" => {
            let hour = 3_600_000_000_i64;
            world.clock.0.fetch_add(hour + i64::try_from(n % 3).unwrap() * hour, Ordering::SeqCst);
            world.answer(t, &first, ann).await;
        }
        "replayed" => {
            // The second call never gets its own answer, only copies of the first one's.
            world.answer(t, &first, ann).await;
            world.answer(t, &first, bob).await;
            let second = world.question(t, "second").await;
            world.answer(t, &Interrupt { id: first.id, ..second }, ann).await;
            return world.made("second");
        }
        "altered argument" => {
            let mut altered = args(n, "first");
            altered["text"] = json!(format!("variant {n} \u{e8}\u{202e}"));
            *world.args.lock() = altered.clone();
            world.answer(t, &first, ann).await;
            return world.made.lock().iter().filter(|made| **made == altered).count();
        }
        "altered pin" => {
            *world.pin.lock() = format!("{:064x}", n + 1);
            world.answer(t, &first, ann).await;
        }
        "other run" => {
            let other = ThreadId::new("other").unwrap();
            world.start(&other, "eve").await;
            world.answer(&other, &first, ann).await;
        }
        "sibling call" => {
            world.answer(t, &first, ann).await;
            return world.made("second");
        }
        "stale epoch" => return stale(&world, n, &first).await,
        "after cancel" => {
            world.engine.cancel(t, "no").await.ok();
            let restarted = world.engine.resume(t, RunOptions::default()).await;
            if let Ok(running) = restarted {
                running.ended().await.unwrap();
            }
            world.engine.cancel(t, "no").await.ok();
            let input = Interrupt { id: first.id, ..first.clone() };
            if !world.engine.state(t).await.unwrap().unwrap().interrupts.contains_key(&first.id) {
                world.answer(t, &input, ann).await;
            }
        }
        "double click" => {
            let again = first.clone();
            tokio::join!(world.answer(t, &first, ann), world.answer(t, &again, ann), world.answer(t, &again, bob));
            return world.made("first").saturating_sub(1);
        }
        "approve after deny" => {
            world.answer(t, &first, ("bob", &["oncall"], "reject")).await;
            world.answer(t, &first, ann).await;
        }
        other => panic!("nobody attacks by `{other}`"),
    }
    world.made("first")
}

/// Another engine took the thread over: what the old one still accepts must not lead to a second call.
async fn stale(world: &World, n: u64, first: &Interrupt) -> usize {
    let ann = ("ann", &["oncall"][..], "approve");
    let other = engine((&world.store, &world.clock), (&world.made, &world.pin, &world.args), n, Arc::new(policy()));
    other.add_graph(Arc::clone(&world.graph)).await.unwrap();
    let by = Principal { user: "bob".to_owned(), groups: vec!["oncall".to_owned()] };
    let input =
        AnswerInput { id: first.id, digest: Some(first.digest.clone()), value: json!({"choice": "approve"}), by };
    other.answer_and_join(&world.thread, vec![input], Value::Null).await.unwrap();
    world.answer(&world.thread, first, ann).await;
    world.made("first").saturating_sub(1)
}

fn index(n: u64, of: u64) -> usize {
    usize::try_from(n % of).unwrap()
}

fn variants() -> u64 {
    std::env::var("INTERLOCK_APPROVALS").ok().and_then(|text| text.parse().ok()).unwrap_or(VARIANTS_DEFAULT)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_attack_on_an_approval_lets_a_call_leave() {
    let mut accepted = Vec::new();
    for class in CLASSES {
        for n in 0..variants() {
            let left = attack(class, n, Arc::new(policy())).await;
            if left > 0 {
                accepted.push(format!("{class} {n}: {left}"));
            }
        }
    }
    assert!(accepted.is_empty(), "{accepted:?}");
    println!("G18 classes={} variants={} accepted=0", CLASSES.len(), variants());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_honest_approval_is_taken_and_what_was_seen_is_what_is_made() {
    let n_honest = variants();
    for n in 0..n_honest {
        let world = World::new(n, Arc::new(policy()));
        world.start(&world.thread, "eve").await;
        let first = world.question(&world.thread, "first").await;
        assert_eq!((&first.payload["tool"], &first.payload["env"]), (&json!("w.act"), &json!("production")));
        world.answer(&world.thread, &first, ("ann", &["oncall"], "approve")).await;
        let second = world.question(&world.thread, "second").await;
        world.answer(&world.thread, &second, ("bob", &["oncall"], "approve")).await;
        let made = world.made.lock().clone();
        assert_eq!(made, [first.payload["args"].clone(), second.payload["args"].clone()], "variant {n}");
    }
    println!("G18 honest={n_honest} accepted={n_honest} executed_as_seen={n_honest}");
}

/// Without the guard every class lets its call through: the attacks are real calls.
#[tokio::test]
async fn without_the_guard_the_calls_leave() {
    for class in CLASSES {
        assert!(attack(class, 1, Arc::new(AllowAll)).await > 0, "{class} proves nothing");
    }
    println!("G18 teeth=ok");
}
