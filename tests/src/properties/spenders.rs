//! G-money: many threads spend from one wall while the process dies again and again. Never one cent above the wall, and
//! nothing stays reserved when all have ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use graphs::EffectClass;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use runtime::CallSpec;
use runtime_core::ids::ThreadId;
use runtime_core::interlocks::budget::Cost;
use runtime_core::record::CallKind;
use serde_json::{Value, json};

use crate::lab::*;
use crate::strict_store::{Death, Disk, Lie, StrictStore};

const CASES: u32 = 48;
const THREADS: usize = 6;
/// The wall in millionths of a dollar, as the graph declares it.
const WALL: u64 = 2_000_000;
const ACCOUNT: &str = "node:g/work:usd:day:2026-01-01";

/// What one case draws: the price of calls, and the commits at which the process dies.
#[derive(Debug, Clone)]
struct Drawn {
    worst: Vec<u64>,
    share: u64,
    deaths: Vec<(u64, bool)>,
    turns: usize,
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let worst = prop::collection::vec(1_u64..600_000, THREADS);
    let deaths = prop::collection::vec((1_u64..30, any::<bool>()), 0..5);
    (worst, 0_u64..=100, deaths, 0_usize..12).prop_map(|(worst, share, deaths, turns)| Drawn {
        worst,
        share,
        deaths,
        turns,
    })
}

fn spenders(lab: &mut Lab, case: &Drawn, outside: &Arc<AtomicU64>) {
    lab.graph("{graph: g, state: {i: {}}, nodes: {work: {function: work, budget: {usd_per_day: 2, on_exceed: fail}, then: end}}, start: work}");
    let (case, outside) = (case.clone(), Arc::clone(outside));
    lab.function("work", move |ctx| {
        let (case, outside) = (case.clone(), Arc::clone(&outside));
        async move {
            let at = usize::try_from(ctx.get("i").as_u64().unwrap_or(0)).unwrap_or(0);
            for n in 0..3 {
                let usd_micros = case.worst[at];
                let worst = Cost { usd_micros, tokens: 0 };
                let effect = [EffectClass::Idempotent, EffectClass::ReadOnly][n % 2];
                let spec = CallSpec { worst, ..CallSpec::new(CallKind::Model, "m", json!(n), effect) };
                let (outside, turns, share) = (Arc::clone(&outside), case.turns, case.share);
                ctx.call(spec, move |permit| async move {
                    let really = usd_micros * share / 100;
                    outside.fetch_add(really, Ordering::SeqCst);
                    for _ in 0..turns {
                        tokio::task::yield_now().await;
                    }
                    permit.meter.spent(Cost { usd_micros: really, tokens: 0 });
                    Ok(Value::Null)
                })
                .await?;
            }
            out(json!({}))
        }
    });
}

async fn start_all(lab: &mut Lab) {
    let engine = lab.engine();
    let mut running = Vec::new();
    for at in 0..THREADS {
        let mut start = lab.what(json!({"i": at}), Default::default());
        start.thread = ThreadId::new(&format!("t{at}")).unwrap();
        // A dead store accepts nothing.
        running.extend(engine.start(start).await.ok());
    }
    for running in running {
        let _ended = running.ended().await;
    }
    lab.at_rest().await;
}

/// Spent outside, spent and reserved on the ledger in the end.
fn spend(case: &Drawn, lie: Option<Lie>) -> (u64, u64, u64) {
    let (disk, outside) = (Disk::default(), Arc::new(AtomicU64::new(0)));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut lab = Lab::over(Arc::new(StrictStore::on(&disk)));
    spenders(&mut lab, case, &outside);
    runtime.block_on(async {
        for (at, before) in &case.deaths {
            let at = disk.n_commits() + at;
            let death = if *before { Death::Before(at) } else { Death::After(at) };
            lab.restart_over(Arc::new(StrictStore::dying(&disk, death)));
            if lab.try_load_graphs().await.is_ok() {
                let _woken = lab.engine().recover().await;
                start_all(&mut lab).await;
            }
        }
        let last = lie.map_or_else(|| StrictStore::on(&disk), |lie| StrictStore::lying(&disk, lie));
        lab.restart_over(Arc::new(last));
        lab.load_graphs().await;
        lab.engine().recover().await.expect("the store works");
        lab.at_rest().await;
        start_all(&mut lab).await;
        lab.engine().fire_timers().await.expect("the store works");
        lab.at_rest().await;
        let account = lab.store.account(ACCOUNT).await.expect("the store works");
        (outside.load(Ordering::SeqCst), account.spent, account.reserved)
    })
}

#[test]
fn a_budget_is_a_wall_for_spenders_that_crash() {
    let cases = std::env::var("INTERLOCK_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(CASES);
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let tight = AtomicU64::new(0);
    let checked = runner.run(&drawn(), |case| {
        let (outside, spent, reserved) = spend(&case, None);
        prop_assert!(outside <= WALL, "{outside} was spent behind a wall of {WALL}");
        prop_assert!(spent <= WALL && spent >= outside, "the ledger says {spent}, outside is {outside}");
        prop_assert_eq!(reserved, 0, "something stays reserved");
        tight.fetch_add(u64::from(spent > WALL / 2), Ordering::SeqCst);
        Ok(())
    });
    checked.unwrap_or_else(|error| panic!("{error}"));
    assert!(tight.into_inner() > 0, "no case came near the wall");
}

#[test]
fn a_budget_has_teeth_checking_without_reserving_goes_over_the_wall() {
    let mut runner = TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
    let found = runner.run(&drawn(), |case| {
        let case = Drawn { share: 100, turns: 40, deaths: Vec::new(), ..case };
        let (outside, _, _) = spend(&case, Some(Lie::ChecksWithoutReserving));
        prop_assert!(outside <= WALL);
        Ok(())
    });
    assert!(found.is_err(), "a wall that reserves nothing was not found out");
}
