//! How much a channel takes: so many notices in a window; the rest is folded into one that says how many and which.

use jiff::Timestamp;

use super::{Router, unkept};
use crate::channel::Parcel;
use crate::error::{Fault, SendError};
use crate::ledger::{ChannelRecord, Document, Folded, WAITING_MAX};
use crate::notice::{Notice, Urgency};
use crate::text::{cut_chars, one_line};

/// Longest title of a folded notice that is kept, in characters.
const TITLE_CHARS_MAX: usize = 160;
/// Longest id of a folded notice that is kept, in characters.
const ID_CHARS_MAX: usize = 80;

/// Whether a channel takes another notice.
pub(super) enum Room {
    Taken,
    /// So many are over the limit now.
    Folded(usize),
}

pub(super) fn channel_document(name: &str) -> String {
    format!("notify-channel:{name}")
}

impl ChannelRecord {
    /// A window that is over gives way to the next one. What was folded and not said yet stays.
    fn roll(&mut self, now: Timestamp, per: jiff::SignedDuration) {
        let is_over = self.window.is_none_or(|from| now.duration_since(from) >= per);
        if is_over {
            (self.window, self.n_sent) = (Some(now), 0);
            if self.n_said >= self.folded.len() {
                self.clear_folded();
            }
        }
    }

    pub(super) fn clear_folded(&mut self) {
        self.folded.clear();
        (self.n_said, self.folded_from) = (0, None);
    }
}

impl Router {
    pub(super) async fn take_room(&self, name: &str, parcel: &Parcel<'_>) -> Result<Room, Fault> {
        let limit = self.mounted(name)?.limit;
        let mut document: Document<'_, ChannelRecord> = Document::open(&*self.ledger, channel_document(name)).await?;
        let entry = Folded {
            id: cut_chars(&one_line(parcel.alert_key()), ID_CHARS_MAX),
            title: cut_chars(&one_line(&parcel.notice.title), TITLE_CHARS_MAX),
            urgency: parcel.urgency,
        };
        let change = |record: &mut ChannelRecord| {
            record.roll(parcel.now, limit.per);
            if record.n_sent < limit.notices {
                record.n_sent += 1;
                return Some(Room::Taken);
            }
            if record.folded.iter().all(|folded| folded.id != entry.id) {
                if record.folded.len() >= WAITING_MAX {
                    return None;
                }
                record.folded.push(entry.clone());
            }
            record.folded_from = record.folded_from.or(record.window);
            Some(Room::Folded(record.folded.len()))
        };
        let full = || Fault::new(crate::error::Class::Limited, format!("{WAITING_MAX} notices are folded already"));
        document.change(change).await?.ok_or_else(full)
    }

    /// Says what went over the limit in one notice. Where a notice can be changed, the one that is there is; elsewhere only
    /// the first is said at once and the others when the window is over.
    pub(super) async fn say_folded(&self, name: &str, now: Timestamp) -> Result<(), SendError> {
        let mounted = self.mounted(name).map_err(|fault| fault.of(name))?;
        // Before it is read what there is to say: a shorter list must not replace a longer one.
        let _one_at_a_time = self.lock(&channel_document(name)).await;
        let mut channel: Document<'_, ChannelRecord> =
            Document::open(&*self.ledger, channel_document(name)).await.map_err(unkept)?;
        let record = channel.now.clone();
        let Some(from) = record.folded_from.filter(|_| record.folded.len() > record.n_said) else { return Ok(()) };
        let is_over = now.duration_since(from) >= mounted.limit.per;
        if !(is_over || mounted.channel.updates() || record.n_said == 0) {
            return Ok(());
        }
        // A notice that cannot be changed tells only what is new.
        let n_before = if mounted.channel.updates() { 0 } else { record.n_said };
        let news = record.folded.get(n_before..).unwrap_or_default();
        let notice = folded_notice(name, (from, mounted.limit), news);
        let key = format!("{}:{}", notice.dedup_key, record.folded.len());
        let mut document =
            Document::open(&*self.ledger, super::incident_document(&notice.dedup_key)).await.map_err(unkept)?;
        let parcel =
            Parcel { notice: &notice, urgency: notice.severity, key: &key, remarks: &[], now, is_silent: false };
        self.deliver(name, &parcel, &mut document).await?;
        let n_said = record.folded.len();
        let change = |record: &mut ChannelRecord| {
            record.n_said = record.n_said.max(n_said);
            if is_over && record.folded.len() == n_said {
                record.clear_folded();
            }
        };
        channel.change(change).await.map_err(unkept)
    }
}

fn folded_notice(channel: &str, (from, limit): (Timestamp, crate::config::Limit), folded: &[Folded]) -> Notice {
    let n = folded.len();
    let urgency = folded.iter().map(|folded| folded.urgency).max().unwrap_or(Urgency::Summary);
    let lines: String = folded.iter().map(|folded| format!("- {}: {}\n", folded.id, folded.title)).collect();
    let ids: Vec<&str> = folded.iter().map(|folded| folded.id.as_str()).collect();
    Notice {
        severity: urgency,
        title: format!("and {n} more: {}", ids.join(", ")),
        text: format!(
            "**Over the limit**: {} notices per {:#} go to `{channel}`; these came on top since {}\n**Incidents**:\n{}",
            limit.notices,
            limit.per,
            from.strftime("%Y-%m-%d %H:%M UTC"),
            lines.trim_end()
        ),
        dedup_key: format!("more:{channel}:{}", from.as_second()),
        about: None,
    }
}
