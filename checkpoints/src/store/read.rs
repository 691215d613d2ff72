//! Reads: a thread's state and history, and the lists.

use runtime::ports::store::{
    AuditRecord, InterruptRow, Loaded, PAGE_MAX, StoreError, ThreadFilter, ThreadRow, TimerRow,
};
use runtime_core::ids::{InterruptId, Seq, ThreadId, Timestamp};
use runtime_core::record::{Interrupt, Record, TimerKey};
use runtime_core::state::ThreadState;

use super::codec;
use super::head::Head;
use super::layout::{self, Kind};
use crate::envelope::Sealer;
use crate::kv::{KeyRange, Order, Reader, SCAN_PAGE, Value};

/// The state at the head: the last snapshot and what came after it.
pub(super) fn load(view: &dyn Reader, sealer: &Sealer, thread: &ThreadId) -> Result<Option<Loaded>, StoreError> {
    let Some(head) = Head::read(view, sealer, thread)? else { return Ok(None) };
    let mut state = ThreadState::default();
    fold_to(view, sealer, thread, (head.fold_from(), head.seq), |record| state.apply_record(record))?;
    let bytes = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    Ok(Some(Loaded {
        state,
        seq: head.seq,
        epoch: head.epoch,
        since_snapshot: bytes(head.since_snapshot),
        snapshot: bytes(head.snapshot),
    }))
}

/// Gives every record of a closed range to `fold`, in order; a missing one is damage.
pub(super) fn fold_to(
    view: &dyn Reader,
    sealer: &Sealer,
    thread: &ThreadId,
    (from, to): (Seq, Seq),
    mut fold: impl FnMut(&Record),
) -> Result<(), StoreError> {
    let mut next = from;
    while next <= to {
        let page = view.scan(&layout::records_from(thread, next), Order::Forward, SCAN_PAGE)?;
        let n_before = next;
        for (key, stored) in page.entries {
            if next > to {
                break;
            }
            if layout::seq_of(&key) != Some(next) {
                return Err(codec::mismatch(thread, next, "it is missing, yet later ones are there"));
            }
            fold(&codec::open(sealer, &key, &stored)?);
            next = next.next();
        }
        if next == n_before {
            return Err(codec::mismatch(thread, next, format!("it is missing, yet the thread's head is record {to}")));
        }
    }
    Ok(())
}

pub(super) fn records(
    view: &dyn Reader,
    sealer: &Sealer,
    thread: &ThreadId,
    from: Seq,
    limit: usize,
) -> Result<Vec<(Seq, Record)>, StoreError> {
    let limit = bounded(limit);
    let Some(head) = Head::read(view, sealer, thread)? else { return Ok(Vec::new()) };
    let from = from.max(head.first);
    let to = Seq(head.seq.0.min(from.0.saturating_add(limit as u64 - 1)));
    let mut res = Vec::new();
    let mut seq = from;
    fold_to(view, sealer, thread, (from, to), |record| {
        res.push((seq, record.clone()));
        seq = seq.next();
    })?;
    Ok(res)
}

pub(super) fn threads(view: &dyn Reader, sealer: &Sealer, filter: &ThreadFilter) -> Result<Vec<ThreadRow>, StoreError> {
    let mut range = layout::all(Kind::Thread);
    if let Some(after) = &filter.after {
        range = range.after(&layout::thread_key(Kind::Thread, after));
    }
    collect(view, range, bounded(filter.limit), |key, stored| {
        let row: ThreadRow = codec::open(sealer, key, stored)?;
        Ok(Some(row).filter(|row| fits(row, filter)))
    })
}

fn fits(row: &ThreadRow, filter: &ThreadFilter) -> bool {
    filter.graph.as_deref().is_none_or(|graph| *graph == *row.graph)
        && filter.status.is_none_or(|status| status == row.status)
        && filter.metadata.iter().all(|(key, value)| row.metadata.get(key) == Some(value))
}

pub(super) fn interrupts(
    view: &dyn Reader,
    sealer: &Sealer,
    thread: Option<&ThreadId>,
    limit: usize,
) -> Result<Vec<InterruptRow>, StoreError> {
    let range = thread.map_or_else(|| layout::all(Kind::Interrupt), |t| layout::of_thread(Kind::Interrupt, t));
    collect(view, range, bounded(limit), |key, stored| {
        let interrupt: Interrupt = codec::open(sealer, key, stored)?;
        let thread = layout::thread_of(key).ok_or_else(|| codec::corrupt(key, "its key names no thread".to_owned()))?;
        Ok(Some(InterruptRow { thread, interrupt }))
    })
}

pub(super) fn interrupt(
    view: &dyn Reader,
    sealer: &Sealer,
    id: InterruptId,
) -> Result<Option<InterruptRow>, StoreError> {
    let place = view.scan(&layout::interrupt_places(id), Order::Forward, 1)?;
    let Some((place_key, stored)) = place.entries.first() else { return Ok(None) };
    let (thread, opened_at): (ThreadId, Timestamp) = codec::open(sealer, place_key, stored)?;
    let key = layout::interrupt_key(&thread, opened_at, id);
    // Between the two reads it may have been answered.
    let Some(stored) = view.get(&key)? else { return Ok(None) };
    let interrupt = codec::open(sealer, &key, &stored)?;
    Ok(Some(InterruptRow { thread, interrupt }))
}

pub(super) fn timers(
    view: &dyn Reader,
    sealer: &Sealer,
    until: Timestamp,
    limit: usize,
) -> Result<Vec<TimerRow>, StoreError> {
    collect(view, layout::due_until(until), bounded(limit), |key, stored| {
        let (thread, timer, at): (ThreadId, TimerKey, Timestamp) = codec::open(sealer, key, stored)?;
        Ok(Some(TimerRow { thread, key: timer, at }))
    })
}

pub(super) fn audit(
    view: &dyn Reader,
    sealer: &Sealer,
    from: u64,
    limit: usize,
) -> Result<Vec<AuditRecord>, StoreError> {
    let range = KeyRange { start: layout::number_key(Kind::Audit, from), ..layout::all(Kind::Audit) };
    collect(view, range, bounded(limit), |key, stored| codec::open(sealer, key, stored).map(Some))
}

/// A limit of 0 means none was given.
fn bounded(limit: usize) -> usize {
    if limit == 0 { PAGE_MAX } else { limit.min(PAGE_MAX) }
}

/// At most `limit` of what `read` makes of the entries of `range`.
fn collect<T>(
    view: &dyn Reader,
    range: KeyRange,
    limit: usize,
    mut read: impl FnMut(&[u8], &Value) -> Result<Option<T>, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut rest = range;
    let mut res = Vec::new();
    loop {
        let page = view.scan(&rest, Order::Forward, SCAN_PAGE.min(limit))?;
        for (key, stored) in &page.entries {
            if res.len() == limit {
                return Ok(res);
            }
            res.extend(read(key, stored)?);
        }
        match page.entries.last() {
            Some((last, _)) if page.more => rest = rest.after(last),
            _ => return Ok(res),
        }
    }
}
