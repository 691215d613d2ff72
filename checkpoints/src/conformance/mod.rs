//! The suite that every store passes, ours and others'.
//!
//! The families of LangGraph's checkpointer conformance in the terms of threads, records and folds (put, writes, get, list,
//! delete thread, delete for runs, copy thread, prune), and what that suite leaves out: order of writes, concurrent
//! writers, fencing, durability over a reopening, size growth, the ledger, the audit chain.
//!
//! ```no_run
//! # async fn example(place: impl Fn() -> Box<dyn checkpoints::conformance::Place>) {
//! let report = checkpoints::conformance::run(place).await;
//! assert!(report.failed.is_empty(), "{report}");
//! # }
//! ```

mod fences;
mod kit;
mod ledger;
mod lists;
mod order;
mod put;
mod reads;
mod retention;
mod writes;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use runtime::ports::store::{Store, StoreError};

/// Somewhere a store can be opened, closed and opened again.
pub trait Place: Send + Sync {
    /// Opens the store that is there, or makes an empty one.
    fn open(&self) -> Result<Arc<dyn Store>, StoreError>;
    /// Whether the content is there again after a reopening.
    fn is_durable(&self) -> bool;
}

/// What a run of the suite showed.
#[derive(Debug, Default)]
pub struct Report {
    /// Names of the cases that passed.
    pub passed: Vec<&'static str>,
    /// Cases that do not apply to a store that is not durable.
    pub skipped: Vec<&'static str>,
    /// Cases that failed, and how.
    pub failed: Vec<(&'static str, String)>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} passed, {} failed, {} skipped", self.passed.len(), self.failed.len(), self.skipped.len())?;
        self.failed.iter().try_for_each(|(name, why)| writeln!(f, "  {name}: {why}"))
    }
}

type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One promise of the store, shown on an empty store.
struct Case {
    name: &'static str,
    needs_disk: bool,
    run: fn(kit::Bench) -> Running,
}

/// Lists cases: the name of an async function is the name of the case.
macro_rules! cases {
    ($($family:ident: $($name:ident),+ $(,)?);+ $(;)?) => {
        vec![$($(Case {
            name: concat!(stringify!($family), "::", stringify!($name)),
            needs_disk: false,
            run: |bench| Box::pin($family::$name(bench)),
        }),+),+]
    };
}

fn all_cases() -> Vec<Case> {
    let mut cases = cases! {
        put: a_record_comes_back_as_written, every_kind_of_change_folds, threads_are_apart, namespaces_are_apart,
            checkpoints_know_their_parent, an_unchanged_channel_stays, a_new_channel_appears, metadata_and_run_are_kept,
            a_large_value_comes_back, odd_thread_ids_are_apart, a_record_over_the_limit_is_refused;
        writes: a_finished_task_is_pending, tasks_finish_in_any_order, several_writes_of_one_task_keep_their_order,
            a_failed_task_keeps_its_siblings, a_new_checkpoint_starts_with_none, calls_are_journaled_once,
            pending_writes_of_a_subgraph_are_its_own;
        reads: a_missing_thread_is_none, the_newest_state_is_loaded, history_folds_to_any_place,
            a_snapshot_replaces_what_is_before_it, sizes_since_the_snapshot_are_told, records_come_in_pages,
            a_graph_is_kept_by_digest, a_cached_value_expires, documents_are_swapped_by_comparison;
        lists: threads_come_by_id, threads_come_in_pages, threads_of_a_graph, threads_by_status, threads_by_metadata,
            filters_apply_together, an_open_question_is_listed_until_decided, votes_stay_with_the_question,
            withdrawn_and_expired_questions_close, a_question_is_found_by_id, questions_of_a_closed_frame_close,
            timers_come_by_time, a_timer_moves_and_clears;
        retention: a_deleted_thread_is_gone, deleting_keeps_other_threads, deleting_nothing_is_no_error,
            a_deleted_thread_may_begin_again, the_audit_chain_outlives_its_thread, deleting_one_run_keeps_the_rest,
            deleting_many_runs, deleting_the_newest_run_goes_back, deleting_every_run_leaves_an_empty_thread,
            deleting_no_or_unknown_runs_changes_nothing, deleting_runs_keeps_other_threads,
            a_copy_has_the_whole_history, a_copy_leaves_its_source_alone, a_copy_has_metadata_questions_and_timers,
            a_copy_needs_a_source_and_a_free_target, pruning_keeps_the_newest_state, pruning_keeps_pending_writes,
            pruning_one_keeps_the_others, a_pruned_thread_goes_on, pruning_may_delete, pruning_a_missing_thread_is_no_error;
        fences: the_first_commit_must_claim, a_claim_raises_the_epoch, a_stale_owner_is_fenced, a_place_is_taken_once,
            a_gap_is_refused, a_refused_commit_changes_nothing, of_concurrent_writers_one_wins,
            of_concurrent_claims_one_wins, writers_of_different_threads_do_not_meet;
        order: writes_of_a_thread_keep_their_order, growth_follows_change, many_threads_write_at_once, the_check_finds_nothing;
        ledger: the_wall_holds_under_concurrency, a_reservation_counts_once, settling_twice_counts_once,
            a_refusal_tells_the_account, the_audit_chain_is_whole, one_chain_for_all_threads;
    };
    let on_disk = cases! {
        order: everything_is_there_after_a_reopening, acknowledged_commits_survive_without_a_close,
            a_closed_store_refuses, the_second_opening_is_told_who_holds_it;
    };
    cases.extend(on_disk.into_iter().map(|case| Case { needs_disk: true, ..case }));
    cases
}

/// Runs every case, each in a place of its own.
pub async fn run(place: impl Fn() -> Box<dyn Place>) -> Report {
    let mut report = Report::default();
    for case in all_cases() {
        let place: Arc<dyn Place> = place().into();
        if case.needs_disk && !place.is_durable() {
            report.skipped.push(case.name);
            continue;
        }
        let bench = match kit::Bench::new(place) {
            Ok(bench) => bench,
            Err(e) => {
                report.failed.push((case.name, format!("the store does not open: {e}")));
                continue;
            }
        };
        match tokio::spawn((case.run)(bench)).await {
            Ok(()) => report.passed.push(case.name),
            Err(e) => report.failed.push((case.name, panic_words(e))),
        }
    }
    report
}

fn panic_words(e: tokio::task::JoinError) -> String {
    let Ok(panic) = e.try_into_panic() else { return "it was cancelled".to_owned() };
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default()
}
