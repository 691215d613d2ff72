//! When a failed attempt is repeated: full jitter under a cap, and the other side's pause where it names one.

use std::time::Duration;

use graphs::{Backoff, RetryPolicy};

use crate::error::{ErrorClass, TaskError};
use crate::ids::TaskId;

/// How long to wait before the next attempt, or `None` when there is none.
///
/// The first policy whose `on` names the error's class decides (an empty `on` means the default classes); it allows
/// `attempts` tries in all. The delay is uniform in `[0, min(max, initial · factor^k)]` (full jitter), never shorter than
/// `retry_after`. `attempts` counts the failed attempts before this one; the chance comes from `(task, seed)`.
pub fn delay(policies: &[RetryPolicy], error: &TaskError, attempts: u32, chance: (TaskId, u64)) -> Option<Duration> {
    let policy = policies.iter().find(|policy| names(policy, error.class))?;
    if attempts + 1 >= policy.attempts {
        return None;
    }
    let cap = policy.max.as_secs_f64();
    let bound = match policy.backoff {
        Backoff::Fixed => policy.initial.as_secs_f64().min(cap),
        Backoff::Exponential => {
            let power = i32::try_from(attempts).unwrap_or(i32::MAX);
            (policy.initial.as_secs_f64() * policy.factor.powi(power)).min(cap)
        }
    };
    let (task, seed) = chance;
    let hash = xxhash_rust::xxh3::xxh3_64_with_seed(&task.0.to_be_bytes(), seed.wrapping_add(u64::from(attempts)));
    let fraction = (hash >> 11) as f64 / (1_u64 << 53) as f64;
    let jittered = Duration::try_from_secs_f64(bound * fraction).unwrap_or(policy.max);
    Some(error.retry_after.map_or(jittered, |pause| jittered.max(pause)))
}

fn names(policy: &RetryPolicy, class: ErrorClass) -> bool {
    if policy.on.is_empty() { class.retried_by_default() } else { policy.on.iter().any(|word| word == class.word()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn policy(attempts: u32, on: &[&str]) -> RetryPolicy {
        RetryPolicy {
            attempts,
            backoff: Backoff::Exponential,
            initial: Duration::from_millis(500),
            factor: 2.0,
            max: Duration::from_secs(8),
            on: on.iter().map(|word| (*word).to_owned()).collect(),
        }
    }

    fn error(class: ErrorClass) -> TaskError {
        TaskError::new(class, "x")
    }

    #[test]
    fn each_error_uses_the_first_policy_that_names_it() {
        let policies = [policy(2, &["timeout"]), policy(4, &["conflict"])];
        let at = |class, attempts| delay(&policies, &error(class), attempts, (TaskId(1), 0)).is_some();
        assert!(at(ErrorClass::Timeout, 0) && !at(ErrorClass::Timeout, 1));
        assert!(at(ErrorClass::Conflict, 2) && !at(ErrorClass::Conflict, 3));
        assert!(!at(ErrorClass::Transient, 0), "no policy names it");
    }

    #[test]
    fn the_default_retries_what_may_pass_and_nothing_else() {
        let policies = [policy(3, &[])];
        let again = |class| delay(&policies, &error(class), 0, (TaskId(1), 0)).is_some();
        assert!(again(ErrorClass::Transient) && again(ErrorClass::RateLimited) && again(ErrorClass::Timeout));
        assert!(!again(ErrorClass::Invalid) && !again(ErrorClass::Denied) && !again(ErrorClass::OutcomeUnknown));
    }

    #[test]
    fn a_named_pause_is_kept() {
        let error = error(ErrorClass::RateLimited).retry_after(Duration::from_secs(60));
        let pause = delay(&[policy(3, &[])], &error, 0, (TaskId(1), 0)).unwrap();
        assert!(pause >= Duration::from_secs(60));
    }

    proptest! {
        #[test]
        fn the_delay_stays_under_the_cap(task: u128, seed: u64, attempts in 0_u32..40) {
            let policy = [policy(50, &[])];
            let pause = delay(&policy, &error(ErrorClass::Transient), attempts, (TaskId(task), seed)).unwrap();
            prop_assert!(pause <= Duration::from_secs(8));
            let first = delay(&policy, &error(ErrorClass::Transient), 0, (TaskId(task), seed)).unwrap();
            prop_assert!(first <= Duration::from_millis(500));
        }
    }
}
