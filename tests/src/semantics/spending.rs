//! Budgets of money, tokens and days: reserved on the store's ledger before a call, settled after it.

use std::sync::Arc;
use std::time::Duration;

use graphs::EffectClass;
use runtime::CallSpec;
use runtime::ports::store::Account;
use runtime_core::ids::ThreadId;
use runtime_core::interlocks::budget::Cost;
use runtime_core::record::{CallKind, InterruptKind, Outcome};
use serde_json::{Value, json};

use crate::lab::*;
use crate::strict_store::{Death, Disk, Lie, StrictStore};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// The day at which a test's clock begins.
const TODAY: &str = "2026-01-01";

/// A node whose only call costs at most 0.30 USD and 100 tokens, and really 0.20 USD and 40 tokens.
fn priced(lab: &mut Lab, budget: &str) {
    lab.graph(&format!(
        "{{graph: g, state: {{n: {{merge: sum}}}}, nodes: {{work: {{function: work, budget: {{{budget}}}, then: end}}}}, start: work}}"
    ));
    costly(lab);
}

fn costly(lab: &mut Lab) {
    lab.node("work", |ctx, bench| async move {
        let worst = Cost { usd_micros: 300_000, tokens: 100 };
        let spec = CallSpec { worst, ..CallSpec::new(CallKind::Model, "m", json!({}), EffectClass::AtMostOnce) };
        ctx.call(spec, move |permit| async move {
            bench.act("call");
            permit.meter.spent(Cost { usd_micros: 200_000, tokens: 40 });
            Ok(Value::Null)
        })
        .await?;
        out(json!({"n": 1}))
    });
}

async fn on_thread(lab: &mut Lab, name: &str) -> Outcome {
    lab.thread = ThreadId::new(name).unwrap();
    let outcome = lab.start(json!({})).await;
    lab.at_rest().await;
    outcome
}

async fn account(lab: &Lab, what: &str) -> Account {
    lab.store.account(&format!("node:g/work:{what}")).await.unwrap()
}

#[test]
fn a_budget_of_dollars_a_day_is_one_wall_for_all_threads() {
    on_every_store(|mut lab| async move {
        priced(&mut lab, "usd_per_day: 0.70, on_exceed: fail");
        for name in ["a", "b", "c"] {
            assert_eq!(on_thread(&mut lab, name).await, Outcome::Success);
        }
        let day = format!("usd:day:{TODAY}");
        assert_eq!(account(&lab, &day).await, Account { spent: 600_000, reserved: 0 }, "settled by what was spent");
        let store = Arc::clone(&lab.store);
        lab.restart_over(store);
        let refused = on_thread(&mut lab, "d").await;
        assert!(
            failure(&refused).contains("budget `node:g/work usd_per_day` is 0.700000 USD; 0.600000 USD is spent"),
            "{refused:?}"
        );
        assert_eq!(account(&lab, &day).await, Account { spent: 600_000, reserved: 0 }, "a refusal takes nothing");
        lab.clock.advance(DAY);
        assert_eq!(lab.resume().await, Outcome::Success, "the next day has its own");
        assert_eq!(lab.bench.acts().len(), 4);
    });
}

#[test]
fn every_key_of_a_budget_is_a_wall() {
    for (budget, n_calls, unit) in [
        ("usd_per_day: 0.50", 2, "usd"),
        ("tokens_per_day: 180", 3, "tokens"),
        ("calls_per_day: 2", 2, "calls"),
        ("calls_per_day: 0", 0, "calls"),
    ] {
        on_every_store(|mut lab| async move {
            priced(&mut lab, &format!("{budget}, on_exceed: fail"));
            let mut n_ended = 0;
            for n in 0..5 {
                n_ended += usize::from(on_thread(&mut lab, &format!("t{n}")).await == Outcome::Success);
            }
            assert_eq!((n_ended, lab.bench.acts().len()), (n_calls, n_calls), "{budget}");
            assert_eq!(account(&lab, &format!("{unit}:day:{TODAY}")).await.reserved, 0);
        });
    }
}

#[test]
fn a_budget_of_a_run_counts_since_the_threads_input() {
    for budget in ["usd_per_run: 0.45", "tokens_per_run: 120"] {
        on_every_store(|mut lab| async move {
            lab.graph(&format!(
                "{{graph: g, state: {{n: {{merge: sum, default: 0}}}}, nodes: {{work: {{function: work, budget: {{{budget}, on_exceed: fail}}, then: ask}}, ask: {{approval: {{title: again}}, then: [{{when: \"n > 100\", to: end}}, {{to: work}}]}}}}, start: work}}"
            ));
            costly(&mut lab);
            assert_eq!(lab.start(json!({})).await, Outcome::Interrupted);
            let store = Arc::clone(&lab.store);
            lab.restart_over(store);
            assert!(matches!(lab.answer_all(json!("approve")).await, Outcome::Failed(_)), "{budget}");
            assert!(matches!(lab.resume().await, Outcome::Failed(_)), "a resume does not help");
            assert_eq!(lab.bench.acts().len(), 1);
            assert_eq!(lab.start(json!({})).await, Outcome::Interrupted, "new input does");
        });
    }
}

#[test]
fn an_approver_lifts_a_wall_for_a_call_or_raises_it_for_the_thread() {
    on_every_store(|mut lab| async move {
        priced(&mut lab, "usd_per_day: 0.25");
        assert_eq!(on_thread(&mut lab, "a").await, Outcome::Interrupted, "the worst case does not fit");
        let question = lab.open().await.remove(0);
        assert_eq!((question.kind, &question.payload["limit"]), (InterruptKind::Budget, &json!(250_000)));
        assert_eq!(lab.answer_all(json!("approve")).await, Outcome::Success, "this call passes");
        lab.at_rest().await;
        assert_eq!(lab.start(json!({})).await, Outcome::Interrupted, "the next one asks again");
        let small = lab.answer_all(json!({"choice": "approve", "limit": 0.40})).await;
        assert_eq!(small, Outcome::Interrupted, "0.20 spent and 0.30 at most are over 0.40");
        assert_eq!(lab.answer_all(json!({"choice": "approve", "limit": 1.0})).await, Outcome::Success);
        lab.at_rest().await;
        assert_eq!(lab.start(json!({})).await, Outcome::Success, "it stays raised for this thread");
        lab.at_rest().await;
        assert_eq!(on_thread(&mut lab, "b").await, Outcome::Interrupted, "and for no other");
        let rejected = lab.answer_all(json!("reject")).await;
        assert!(failure(&rejected).contains("`ana` answered `reject`"), "{rejected:?}");
        assert_eq!(account(&lab, &format!("usd:day:{TODAY}")).await, Account { spent: 600_000, reserved: 0 });
    });
}

#[test]
fn a_graphs_budget_is_spent_by_all_its_nodes() {
    for (budget, n_calls) in [("usd_per_day: 0.50", 2), ("calls_per_run: 1", 1)] {
        on_every_store(|mut lab| async move {
            lab.graph(&format!(
                "{{graph: g, budget: {{{budget}, on_exceed: fail}}, state: {{n: {{merge: sum}}}}, nodes: {{one: {{function: work, then: two}}, two: {{function: work, then: three}}, three: {{function: work, then: end}}}}, start: one}}"
            ));
            costly(&mut lab);
            assert!(failure(&lab.start(json!({})).await).contains("graph"));
            lab.at_rest().await;
            assert_eq!(lab.bench.acts().len(), n_calls, "{budget}");
            let day = lab.store.account(&format!("graph:g:usd:day:{TODAY}")).await.unwrap();
            assert_eq!(day.reserved, 0);
        });
    }
}

#[test]
fn there_is_no_lower_tier_yet_to_go_down_to() {
    on_every_store(|mut lab| async move {
        priced(&mut lab, "usd_per_day: 0.1, on_exceed: downgrade");
        let refused = on_thread(&mut lab, "a").await;
        assert!(failure(&refused).contains("there is no lower tier"), "{refused:?}");
        assert!(lab.bench.acts().is_empty());
    });
}

#[test]
fn a_budget_is_asked_after_the_guard_and_its_approval_is_not_the_guards() {
    on_every_store(|mut lab| async move {
        lab.graph("{graph: g, nodes: {work: {function: work, budget: {calls_per_run: 0}, then: end}}, start: work}");
        lab.node("work", |ctx, bench| async move {
            let spec = CallSpec {
                env: Some("production".into()),
                ..CallSpec::new(CallKind::Tool, "db.drop", json!({}), EffectClass::AtMostOnce)
            };
            ctx.call(spec, move |_| async move {
                bench.act("drop");
                Ok(Value::Null)
            })
            .await?;
            out(json!({}))
        });
        let store = Arc::clone(&lab.store);
        let policy = runtime_core::interlocks::guard::DefaultPolicy::default();
        let engine = lab.builder(store).policy(Arc::new(policy)).build();
        lab.use_engine(engine);
        assert_eq!(lab.start(json!({})).await, Outcome::Interrupted);
        let mut kinds = vec![lab.open().await[0].kind];
        assert_eq!(lab.answer_all(json!("approve")).await, Outcome::Interrupted);
        kinds.push(lab.open().await[0].kind);
        assert_eq!(kinds, [InterruptKind::Budget, InterruptKind::Guard], "both ask");
        assert!(lab.bench.acts().is_empty(), "one approval of two is none");
        assert_eq!(lab.answer_all(json!("approve")).await, Outcome::Success);
    });
}

#[test]
fn a_crash_at_any_commit_leaves_nothing_reserved() {
    let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut n_deaths = 0;
    for at in 1..40 {
        for death in [Death::Before(at), Death::After(at)] {
            let disk = Disk::default();
            let mut lab = Lab::over(Arc::new(StrictStore::dying(&disk, death)));
            priced(&mut lab, "usd_per_day: 5, usd_per_run: 5, calls_per_day: 9");
            let died = runtime().block_on(async {
                lab.load_graphs().await;
                match lab.try_start(json!({}), Default::default()).await {
                    Err(_) | Ok(Outcome::Failed(_)) => true,
                    Ok(_) => {
                        lab.at_rest().await;
                        lab.store.load(&lab.thread).await.is_err()
                    }
                }
            });
            if !died {
                continue;
            }
            n_deaths += 1;
            lab.restart_over(Arc::new(StrictStore::on(&disk)));
            let made = lab.bench.acts().len();
            let (day, run) = runtime().block_on(async {
                lab.load_graphs().await;
                let engine = lab.engine();
                engine.recover().await.unwrap();
                engine.fire_timers().await.unwrap();
                lab.at_rest().await;
                (account(&lab, &format!("usd:day:{TODAY}")).await, account(&lab, "usd:run:t#0").await)
            });
            assert_eq!((day.reserved, run.reserved), (0, 0), "{death:?}: something is reserved for ever");
            let least = 200_000 * u64::try_from(made).unwrap();
            assert!(day.spent >= least, "{death:?}: {made} calls were made, and {day:?} is on the ledger");
        }
    }
    assert!(n_deaths >= 8, "only {n_deaths} deaths");
}

#[test]
fn budgets_have_teeth_a_check_without_a_reservation_lets_them_pass_together() {
    let spent_with = |store: StrictStore| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut lab = Lab::over(Arc::new(store));
            lab.graph("{graph: g, nodes: {work: {function: work, budget: {usd_per_day: 0.5, on_exceed: fail}, then: end}}, start: work}");
            lab.node("work", |ctx, bench| async move {
                let worst = Cost { usd_micros: 300_000, tokens: 0 };
                let spec = CallSpec { worst, ..CallSpec::new(CallKind::Model, "m", json!({}), EffectClass::ReadOnly) };
                ctx.call(spec, move |_| async move {
                    bench.act("call");
                    // Long enough for all the others to be asked for.
                    for _ in 0..1000 {
                        tokio::task::yield_now().await;
                    }
                    Ok(Value::Null)
                })
                .await?;
                out(json!({}))
            });
            lab.load_graphs().await;
            let engine = lab.engine();
            let mut running = Vec::new();
            for n in 0..4 {
                let mut start = lab.what(json!({}), Default::default());
                start.thread = ThreadId::new(&format!("t{n}")).unwrap();
                running.push(engine.start(start).await.unwrap());
            }
            for running in running {
                running.ended().await.unwrap();
            }
            lab.at_rest().await;
            lab.bench.acts().len() * 300_000
        })
    };
    assert_eq!(spent_with(StrictStore::on(&Disk::default())), 300_000);
    let weak = spent_with(StrictStore::lying(&Disk::default(), Lie::ChecksWithoutReserving));
    assert!(weak > 500_000, "a store that only checks was not found out: {weak}");
}
