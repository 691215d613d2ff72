//! Checks everything that can be checked: each entry against its checksum, each log for gaps, each projection against the
//! fold, the audit chain link by link. Finds all it can; one damaged thread hides nothing of another.

use std::collections::BTreeSet;

use runtime::ports::store::{AuditRecord, Finding, StoreError};
use runtime_core::ids::{Seq, ThreadId, Timestamp};
use runtime_core::record::{Op, Record, TimerKey};
use runtime_core::state::ThreadState;
use serde::de::IgnoredAny;

use super::audit::{ChainHead, hash_of};
use super::codec;
use super::head::Head;
use super::layout::{self, Kind};
use super::projection::Projection;
use crate::envelope::Sealer;
use crate::kv::{KeyRange, Order, Reader, SCAN_PAGE, Value};

/// More findings than this say nothing new.
const FINDINGS_MAX: usize = 10_000;

/// Everything that is wrong with the store.
pub(super) fn check(view: &dyn Reader, sealer: &Sealer) -> Result<Vec<Finding>, StoreError> {
    let mut check = Check { view, sealer, findings: Vec::new() };
    let heads = check.threads_of(Kind::Head)?;
    for thread in &heads {
        check.thread(thread)?;
    }
    for kind in [Kind::Record, Kind::Thread, Kind::Interrupt, Kind::Timer] {
        for orphan in check.threads_of(kind)?.difference(&heads) {
            let what = format!("there are entries of kind {kind:?} and no head; delete the thread or restore it");
            check.add("projection", Some(orphan), None, what);
        }
    }
    check.places(&heads)?;
    check.audit()?;
    for kind in [Kind::Graph, Kind::Cache, Kind::Account, Kind::Reservation, Kind::Document] {
        check.decodes(kind)?;
    }
    Ok(check.findings)
}

struct Check<'a> {
    view: &'a dyn Reader,
    sealer: &'a Sealer,
    findings: Vec<Finding>,
}

impl Check<'_> {
    fn add(&mut self, kind: &str, thread: Option<&ThreadId>, seq: Option<Seq>, what: impl Into<String>) {
        if self.findings.len() < FINDINGS_MAX {
            let thread = thread.map(ToString::to_string);
            self.findings.push(Finding { kind: kind.to_owned(), thread, seq: seq.map(|s| s.0), what: what.into() });
        }
    }

    /// Adds damage; passes on errors of the backend itself, which would make every finding doubtful.
    fn add_error(&mut self, kind: &str, thread: Option<&ThreadId>, e: StoreError) -> Result<(), StoreError> {
        match e {
            StoreError::Corrupt { seq, why, .. } => {
                self.add(kind, thread, Some(seq).filter(|seq| *seq > Seq(0)), why);
                Ok(())
            }
            other => Err(other),
        }
    }

    /// Calls `each` for every entry of a range.
    fn walk(
        &mut self,
        range: KeyRange,
        mut each: impl FnMut(&mut Self, &[u8], &Value) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut rest = range;
        loop {
            let page = self.view.scan(&rest, Order::Forward, SCAN_PAGE)?;
            for (key, stored) in &page.entries {
                each(self, key, stored)?;
            }
            match page.entries.last() {
                Some((last, _)) if page.more => rest = rest.after(last),
                _ => return Ok(()),
            }
        }
    }

    fn threads_of(&mut self, kind: Kind) -> Result<BTreeSet<ThreadId>, StoreError> {
        let mut threads = BTreeSet::new();
        self.walk(layout::all(kind), |check, key, _| {
            match layout::thread_of(key) {
                Some(thread) => drop(threads.insert(thread)),
                None => check.add("format", None, None, format!("entry {} names no thread", hex::encode(key))),
            }
            Ok(())
        })?;
        Ok(threads)
    }

    fn thread(&mut self, thread: &ThreadId) -> Result<(), StoreError> {
        let head = match Head::read(self.view, self.sealer, thread) {
            Ok(Some(head)) => head,
            Ok(None) => return Ok(()),
            Err(e) => return self.add_error("record", Some(thread), e),
        };
        let Some((state, found)) = self.log(thread, &head)? else { return Ok(()) };
        if found != head {
            let what = format!("the head says {head:?}, the records say {found:?}");
            self.add("projection", Some(thread), Some(head.seq), what);
        }
        let stored = match Projection::read(self.view, self.sealer, thread) {
            Ok(stored) => stored,
            Err(e) => return self.add_error("projection", Some(thread), e),
        };
        let expected = Projection::of(thread, &state, stored.row.as_ref());
        let parts = [
            ("row in lists", stored.row == expected.row),
            ("open interrupts", stored.interrupts == expected.interrupts),
            ("timers", stored.timers == expected.timers),
        ];
        for (part, is_same) in parts {
            if !is_same {
                let what = format!("its {part} do not follow from its records");
                self.add("projection", Some(thread), Some(head.seq), what);
            }
        }
        Ok(())
    }

    /// Folds a thread's log; `None` if it has gaps or damage, each of which is reported.
    fn log(&mut self, thread: &ThreadId, head: &Head) -> Result<Option<(ThreadState, Head)>, StoreError> {
        let mut state = ThreadState::default();
        let mut found = Head { seq: Seq(head.first.0.saturating_sub(1)), first: head.first, ..Head::default() };
        let mut expected = head.first;
        let mut is_whole = true;
        self.walk(layout::of_thread(Kind::Record, thread), |check, key, stored| {
            let seq = layout::seq_of(key).unwrap_or_default();
            if seq != expected {
                is_whole = false;
                check.add(
                    "gap",
                    Some(thread),
                    Some(expected),
                    format!("record {seq} follows record {}", expected.0.saturating_sub(1)),
                );
            }
            expected = seq.next();
            let body = check.sealer.open(key, stored).map_err(|e| e.to_string());
            match body.and_then(|body| codec::decode::<Record>(&body).map(|record| (record, body.len() as u64))) {
                Ok((record, body_len)) => {
                    state.apply_record(&record);
                    let has_snapshot = record.ops.iter().any(|op| matches!(op, Op::Snapshot(_)));
                    found = found.advanced(head.epoch, body_len, has_snapshot);
                }
                Err(why) => {
                    is_whole = false;
                    check.add("record", Some(thread), Some(seq), why);
                }
            }
            Ok(())
        })?;
        if expected != head.seq.next() {
            is_whole = false;
            let what = format!("the head is record {}, the last record is {}", head.seq, expected.0.saturating_sub(1));
            self.add("gap", Some(thread), Some(expected), what);
        }
        Ok(is_whole.then_some((state, found)))
    }

    /// Entries that point into threads from outside.
    fn places(&mut self, heads: &BTreeSet<ThreadId>) -> Result<(), StoreError> {
        self.walk(layout::all(Kind::InterruptPlace), |check, key, stored| {
            match codec::open::<(ThreadId, Timestamp)>(check.sealer, key, stored) {
                Ok((thread, opened_at)) => {
                    let id = key.get(1..17).and_then(|id| id.try_into().ok()).map(u128::from_be_bytes);
                    let id = runtime_core::ids::InterruptId(id.unwrap_or_default());
                    if check.view.get(&layout::interrupt_key(&thread, opened_at, id))?.is_none() {
                        check.add("projection", Some(&thread), None, format!("interrupt {id} is listed and not there"));
                    }
                    Ok(())
                }
                Err(e) => check.add_error("projection", None, e),
            }
        })?;
        self.walk(layout::all(Kind::Due), |check, key, stored| {
            match codec::open::<(ThreadId, TimerKey, Timestamp)>(check.sealer, key, stored) {
                Ok((thread, ..)) if heads.contains(&thread) => Ok(()),
                Ok((thread, ..)) => {
                    check.add("projection", Some(&thread), None, "a timer is due for a thread that is not there");
                    Ok(())
                }
                Err(e) => check.add_error("projection", None, e),
            }
        })
    }

    fn audit(&mut self) -> Result<(), StoreError> {
        let mut last = ChainHead::default();
        self.walk(layout::all(Kind::Audit), |check, key, stored| {
            let link: AuditRecord = match codec::open(check.sealer, key, stored) {
                Ok(link) => link,
                Err(e) => return check.add_error("audit", None, e),
            };
            let place = Some(Seq(link.seq));
            if link.seq != last.seq + 1 {
                check.add("audit", Some(&link.thread), place, format!("entry {} follows entry {}", link.seq, last.seq));
            } else if link.previous != last.hash {
                check.add("audit", Some(&link.thread), place, "it does not continue the entry before it");
            }
            if link.hash != hash_of(&link) {
                check.add("audit", Some(&link.thread), place, "its hash does not match its content");
            }
            last = ChainHead { seq: link.seq, hash: link.hash };
            Ok(())
        })?;
        match ChainHead::read(self.view, self.sealer) {
            Ok(head) if head == last => {}
            Ok(head) => {
                let what = format!("the chain's head is entry {}, the last entry is {}", head.seq, last.seq);
                self.add("audit", None, Some(Seq(head.seq)), what);
            }
            Err(e) => self.add_error("audit", None, e)?,
        }
        Ok(())
    }

    fn decodes(&mut self, kind: Kind) -> Result<(), StoreError> {
        let what = if kind == Kind::Graph { "graph" } else { "format" };
        self.walk(layout::all(kind), |check, key, stored| match codec::open::<IgnoredAny>(check.sealer, key, stored) {
            Ok(_) => Ok(()),
            Err(e) => check.add_error(what, None, e),
        })
    }
}
