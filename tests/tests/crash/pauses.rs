//! G5 with real processes. An embedded store belongs to one process: whoever is stopped keeps it, and nobody takes over before
//! the owner is dead. So a stale process cannot exist on sled or fjall; what two live owners of one store do is shown by
//! `stale_engines_can_do_nothing` (this crate) and by the simulator.

use std::process::Child;
use std::time::Duration;

use checkpoints::open::{Address, OpenOptions, open};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use super::{Chance, Scene, length, setting};

/// Stops of the short run, both stores together.
const PAUSES_SHORT: u32 = 16;
/// The ledger grows by less than this between two stops.
const GROWTH_BYTES_MAX: u64 = 4_000;

fn pid(child: &Child) -> Pid {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process id")
}

fn send(child: &Child, signal: Signal) {
    kill_process(pid(child), signal).expect("the child can be signalled");
}

/// Stops the child and waits until every thread of it has stopped (or it has ended meanwhile).
fn stop(child: &Child) {
    send(child, Signal::STOP);
    let until = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pid(pid(child)), until).expect("the child can be waited for");
}

fn address(scene: &Scene) -> Address {
    match scene.store {
        "sled" => Address::Sled(scene.store_folder().join("sled")),
        _ => Address::Fjall(scene.store_folder().join("fjall")),
    }
}

/// Nobody else opens the store, and the refusal says who has it.
fn is_refused(scene: &Scene, pid: u32) -> bool {
    let refused = open(&address(scene), &OpenOptions::default()).err();
    refused.is_some_and(|error| error.to_string().contains(&pid.to_string()))
}

fn pauses_change_nothing(store: &'static str, pauses: u32, seed: u64) {
    let mut chance = Chance(seed);
    let (mut paused, mut refused, mut n_runs, mut n_acks) = (0, 0, 0, 0);
    while paused < pauses {
        let scene = Scene::new(store);
        let mut child = scene.spawn();
        let mut wanted = 1 + chance.below(GROWTH_BYTES_MAX);
        let status = loop {
            if let Some(status) = child.try_wait().expect("the child can be waited for") {
                break status;
            }
            if length(&scene.ledger()) >= wanted && paused < pauses {
                stop(&child);
                if child.try_wait().expect("the child can be waited for").is_some() {
                    continue;
                }
                let before = length(&scene.ledger());
                refused += u32::from(is_refused(&scene, child.id()));
                assert_eq!(length(&scene.ledger()), before, "it was really stopped");
                send(&child, Signal::CONT);
                paused += 1;
                wanted = before + chance.below(GROWTH_BYTES_MAX);
            }
            std::thread::sleep(Duration::from_micros(300));
        };
        assert!(status.success(), "a stopped process goes on as if nothing was: {status}");
        n_acks += scene.figures().unwrap_or_else(|why| panic!("{store}, seed {seed}: {why}")).acks;
        n_runs += 1;
    }
    println!(
        "G5 store={store} pauses={paused} takeovers_refused={refused} runs={n_runs} acks={n_acks} second_writers=0"
    );
    assert_eq!(refused, paused, "somebody opened a store that a stopped process holds");
    assert!(n_acks > 0, "the run proved nothing");
}

#[test]
fn pauses_change_nothing_on_sled() {
    pauses_change_nothing("sled", setting("INTERLOCK_PAUSES", PAUSES_SHORT).div_ceil(2), 3);
}

#[test]
fn pauses_change_nothing_on_fjall() {
    pauses_change_nothing("fjall", setting("INTERLOCK_PAUSES", PAUSES_SHORT).div_ceil(2), 4);
}

/// The owner dies while it is stopped: the next one takes over at once and finishes everything.
#[test]
fn the_store_of_a_process_that_dies_stopped_is_taken_over() {
    let scene = Scene::new("sled");
    let mut child = scene.spawn();
    while length(&scene.ledger()) < GROWTH_BYTES_MAX {
        std::thread::sleep(Duration::from_micros(300));
    }
    stop(&child);
    assert!(is_refused(&scene, child.id()));
    child.kill().expect("the child can be killed");
    child.wait().expect("the child can be waited for");
    assert!(scene.spawn().wait().expect("the next one can be waited for").success());
    assert!(scene.figures().expect("nothing lost or repeated").acks > 0);
}
