//! Rehearsals: a thread played to its end with time, chance, people and the outside given. Tests of graphs, evaluations and
//! replays run on it, so what they show is the engine's own doing; nothing waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};

use async_trait::async_trait;
use runtime_core::effect::Reply;
use runtime_core::error::TaskError;
use runtime_core::event::AnswerInput;
use runtime_core::ids::{Name, ThreadId, Timestamp};
use runtime_core::interlocks::budget::Cost;
use runtime_core::record::{CallKind, Interrupt, Outcome};
use serde_json::Value;
use tokio::sync::Notify;

use crate::driver::EngineFault;
use crate::engine::Engine;
use crate::ports::clock::{Clock, Entropy};

/// Turns that everything else gets before the clock jumps.
const TURNS_BEFORE_JUMP: usize = 64;
/// Answers, signals and timers that one thread goes through.
const ROUNDS_MAX: usize = 10_000;

/// A clock that jumps to what is waited for, once nothing else is left to do. One thread of the machine at a time may run
/// on it, or it overtakes work that is under way.
#[derive(Debug, Default)]
pub struct JumpingClock {
    now: AtomicI64,
    working: AtomicUsize,
    idle: Notify,
}

impl JumpingClock {
    /// A clock that begins at a moment.
    pub fn starting(at: Timestamp) -> Self {
        Self { now: AtomicI64::new(at.0), ..Self::default() }
    }

    /// Goes forward to a moment.
    pub fn jump_to(&self, at: Timestamp) {
        self.now.fetch_max(at.0, Ordering::Relaxed);
    }

    /// While it is held time stands still: somebody outside works, in real time.
    #[must_use]
    pub fn hold(self: &Arc<Self>) -> Held {
        self.working.fetch_add(1, Ordering::SeqCst);
        Held(Arc::clone(self))
    }
}

/// Keeps a [`JumpingClock`] from jumping.
#[derive(Debug)]
pub struct Held(Arc<JumpingClock>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.working.fetch_sub(1, Ordering::SeqCst);
        self.0.idle.notify_waiters();
    }
}

#[async_trait]
impl Clock for JumpingClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.now.load(Ordering::Relaxed))
    }

    async fn sleep_until(&self, at: Timestamp) {
        loop {
            for _ in 0..TURNS_BEFORE_JUMP {
                tokio::task::yield_now().await;
            }
            let idle = self.idle.notified();
            if self.working.load(Ordering::SeqCst) == 0 {
                break;
            }
            idle.await;
        }
        self.jump_to(at);
    }
}

/// Bits that are the same in every run.
#[derive(Debug, Default)]
pub struct Counted(AtomicU64);

impl Entropy for Counted {
    fn bits(&self) -> u128 {
        u128::from(self.0.fetch_add(1, Ordering::Relaxed)).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
    }
}

/// A permitted call that is answered and never made.
#[derive(Debug)]
pub struct Unmade<'a> {
    /// The node that asks.
    pub node: &'a str,
    /// Sort of effect.
    pub kind: CallKind,
    /// Tool, model or graph.
    pub target: &'a str,
    /// The arguments it would be made with.
    pub args: &'a Value,
}

/// The answer to an [`Unmade`] call.
#[derive(Debug)]
pub struct StoodIn {
    /// How it ends.
    pub outcome: Result<Value, TaskError>,
    /// What it cost; its worst case if absent.
    pub spent: Option<Cost>,
}

/// Answers calls in place of the world. With one, no call of any kind is made, whatever the code behind a node is.
pub trait StandIn: Send + Sync + 'static {
    /// The answer to one call.
    fn answer(&self, call: &Unmade<'_>) -> StoodIn;
}

/// The people of a rehearsal, and whoever sends signals.
pub trait People: Send {
    /// The answer to an open question, and when it is given; `None` leaves it open.
    fn answer(&mut self, question: &Interrupt) -> Option<(AnswerInput, Option<Timestamp>)>;

    /// Whether an open question is left until it expires.
    fn lets_expire(&mut self, _question: &Interrupt) -> bool {
        false
    }

    /// The next signal, if it comes before `next`, when the next timer is due.
    fn signal(&mut self, _next: Option<Timestamp>) -> Option<(Timestamp, Name, Value)> {
        None
    }
}

/// Plays a started thread on: answers what is asked and jumps to what is waited for, until nothing more happens.
///
/// # Errors
/// An answer or a signal is refused, or the engine stops.
pub async fn play_on(
    engine: &Engine,
    clock: &JumpingClock,
    thread: &ThreadId,
    people: &mut dyn People,
) -> Result<(), EngineFault> {
    let rehearsal = Rehearsal { engine, clock, thread };
    for _ in 0..ROUNDS_MAX {
        let state = engine.state(thread).await?.unwrap_or_default();
        let outcome = state.run.as_ref().and_then(|run| run.outcome.as_ref());
        let open: Vec<Interrupt> = state.interrupts.values().cloned().collect();
        let went_on = match outcome {
            Some(Outcome::Interrupted) => rehearsal.ask(people, &open).await?,
            Some(Outcome::Waiting) => rehearsal.wait(people).await?,
            _ => false,
        };
        if !went_on {
            break;
        }
    }
    Ok(())
}

struct Rehearsal<'a> {
    engine: &'a Engine,
    clock: &'a JumpingClock,
    thread: &'a ThreadId,
}

impl Rehearsal<'_> {
    async fn ask(&self, people: &mut dyn People, open: &[Interrupt]) -> Result<bool, EngineFault> {
        for question in open {
            let Some((answer, at)) = people.answer(question) else { continue };
            if let Some(at) = at {
                self.clock.jump_to(at);
            }
            let (reply, _) = self.engine.answer_and_join(self.thread, vec![answer], Value::Null).await?;
            return match reply {
                Reply::Answered(taken) => taken.into_iter().next().map_or(Ok(true), |taken| Ok(taken.map(|_| true)?)),
                _ => Ok(true),
            };
        }
        let expired = open.iter().find(|question| people.lets_expire(question)).and_then(|found| found.expires_at);
        match expired {
            Some(at) => self.time_passes(at).await,
            None => Ok(false),
        }
    }

    /// Goes to the next signal or timer, whichever is first.
    async fn wait(&self, people: &mut dyn People) -> Result<bool, EngineFault> {
        let timers = self.engine.store().timers(Timestamp(i64::MAX), 1).await?;
        let next = timers.first().map(|timer| timer.at);
        if let Some((at, name, payload)) = people.signal(next) {
            self.clock.jump_to(at);
            self.engine.signal(self.thread, name, payload).await?;
            self.engine.join(self.thread).await?;
            return Ok(true);
        }
        match next {
            Some(at) => self.time_passes(at).await,
            None => Ok(false),
        }
    }

    async fn time_passes(&self, to: Timestamp) -> Result<bool, EngineFault> {
        self.clock.jump_to(to);
        self.engine.fire_timers().await?;
        self.engine.join(self.thread).await?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn time_stands_still_while_somebody_works() {
        let clock = Arc::new(JumpingClock::starting(Timestamp(5)));
        let held = clock.hold();
        let sleeper = tokio::spawn({
            let clock = Arc::clone(&clock);
            async move { clock.sleep_until(Timestamp(50)).await }
        });
        for _ in 0..10 * TURNS_BEFORE_JUMP {
            tokio::task::yield_now().await;
        }
        assert_eq!(clock.now(), Timestamp(5));
        drop(held);
        sleeper.await.unwrap();
        assert_eq!(clock.now(), Timestamp(50));
        clock.jump_to(Timestamp(7));
        assert_eq!(clock.now(), Timestamp(50), "never back");
    }
}
