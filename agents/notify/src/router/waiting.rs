//! What waits: summaries for the end of quiet hours, folded notices for the end of their window.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::limit::channel_document;
use super::{Router, incident_document, keep_receipt, unkept};
use crate::channel::Parcel;
use crate::error::{Class, Fault, SendError};
use crate::ledger::{ChannelRecord, Document, IncidentRecord, WAITING_MAX, Waiting};

impl Router {
    /// Keeps a summary for the end of quiet hours. A card that is there already is brought up to date without a sound.
    pub(super) async fn hold(
        &self,
        name: &str,
        parcel: &Parcel<'_>,
        (document, until): (&mut Document<'_, IncidentRecord>, Timestamp),
    ) -> Result<Value, Fault> {
        let mounted = self.mounted(name)?;
        let is_shown = document.now.places.get(name).is_some_and(|place| place.notes["ts"].is_string());
        let mut receipt = json!({ "channel_name": name, "status": "held", "until": until.to_string() });
        if mounted.channel.is_silent_when_updated() && is_shown {
            let silent = Parcel { is_silent: true, ..*parcel };
            match self.deliver(name, &silent, document).await {
                Ok(_) => receipt["updated"] = true.into(),
                // It will be brought up to date with the rest.
                Err(error) => tracing::warn!(%error, "a card could not be changed within quiet hours"),
            }
        }
        let key = parcel.notice.dedup_key.clone();
        let mut channel: Document<'_, ChannelRecord> = Document::open(&*self.ledger, channel_document(name)).await?;
        let change = |record: &mut ChannelRecord| {
            record.quiet_until = record.quiet_until.max(Some(until));
            if record.quiet.contains(&key) {
                return true;
            }
            let has_room = record.quiet.len() < WAITING_MAX;
            if has_room {
                record.quiet.push(key.clone());
            }
            has_room
        };
        let waiting = Waiting { key: parcel.key.to_owned(), notice: parcel.notice.clone() };
        document.change(|record| drop(record.waiting.insert(name.to_owned(), waiting.clone()))).await?;
        if !channel.change(change).await? {
            return Err(Fault::new(Class::Limited, format!("{WAITING_MAX} notices wait for the end of quiet hours")));
        }
        keep_receipt(document, (parcel.key, name), &receipt).await?;
        Ok(receipt)
    }

    /// Sends what is due by now; gives a receipt for each.
    pub async fn flush(&self, now: Timestamp) -> Vec<Result<Value, SendError>> {
        let mut receipts = Vec::new();
        for name in self.channels.keys() {
            match self.flush_channel(name, now).await {
                Ok(mut said) => receipts.append(&mut said),
                Err(error) => receipts.push(Err(error)),
            }
        }
        receipts
    }

    pub(super) async fn say_due(&self, now: Timestamp) {
        for receipt in self.flush(now).await {
            if let Err(error) = receipt {
                tracing::warn!(%error, "a notice that waited could not be sent; it waits on");
            }
        }
    }

    /// When something will be due next; none when nothing waits.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn next_due(&self) -> Result<Option<Timestamp>, SendError> {
        let mut next: Option<Timestamp> = None;
        for (name, mounted) in &self.channels {
            let document: Document<'_, ChannelRecord> =
                Document::open(&*self.ledger, channel_document(name)).await.map_err(unkept)?;
            let ChannelRecord { quiet, quiet_until, folded, n_said, folded_from, .. } = document.now;
            let unsaid = folded_from.filter(|_| folded.len() > n_said);
            let over = unsaid.and_then(|from| from.checked_add(mounted.limit.per).ok());
            let due = [quiet_until.filter(|_| !quiet.is_empty()), over];
            next = due.into_iter().flatten().chain(next).min();
        }
        Ok(next)
    }

    async fn flush_channel(&self, name: &str, now: Timestamp) -> Result<Vec<Result<Value, SendError>>, SendError> {
        let mut document: Document<'_, ChannelRecord> =
            Document::open(&*self.ledger, channel_document(name)).await.map_err(unkept)?;
        let mut receipts = Vec::new();
        let is_loud = self.quiet.as_ref().is_none_or(|quiet| quiet.until(now).is_none());
        if is_loud && !document.now.quiet.is_empty() {
            for key in document.now.quiet.clone() {
                let sent = self.send_waiting(name, &key, now).await;
                if sent.is_ok() {
                    document.change(|record| record.quiet.retain(|known| *known != key)).await.map_err(unkept)?;
                }
                receipts.extend(sent.transpose());
            }
        }
        let per = self.mounted(name).map_err(|fault| fault.of(name))?.limit.per;
        let unsaid = document.now.folded_from.filter(|_| document.now.folded.len() > document.now.n_said);
        if unsaid.is_some_and(|from| now.duration_since(from) >= per) {
            let said = self.say_folded(name, now).await;
            receipts.push(said.map(|()| json!({ "channel_name": name, "status": "delivered", "folded": true })));
        }
        Ok(receipts)
    }

    /// Sends what waits about one incident; none when something newer was said meanwhile.
    async fn send_waiting(&self, name: &str, dedup_key: &str, now: Timestamp) -> Result<Option<Value>, SendError> {
        let _one_at_a_time = self.lock(dedup_key).await;
        let mut document: Document<'_, IncidentRecord> =
            Document::open(&*self.ledger, incident_document(dedup_key)).await.map_err(unkept)?;
        let Some(Waiting { key, notice }) = document.now.waiting.get(name).cloned() else { return Ok(None) };
        let sending = document.now.sending(&key).cloned();
        let urgency = sending.as_ref().map_or(notice.severity, |sending| sending.urgency);
        let remarks = sending.map(|sending| sending.remarks).unwrap_or_default();
        let parcel = Parcel { notice: &notice, urgency, key: &key, remarks: &remarks, now, is_silent: false };
        match self.keep_back(name, &parcel, &mut document).await.map_err(|fault| fault.of(name))? {
            super::Kept::Not => self.deliver(name, &parcel, &mut document).await.map(Some),
            super::Kept::Back(receipt) => Ok(Some(receipt)),
            super::Kept::Folded(receipt) => {
                document.change(|record| drop(record.waiting.remove(name))).await.map_err(unkept)?;
                drop(_one_at_a_time);
                self.say_folded(name, now).await?;
                Ok(Some(receipt))
            }
        }
    }
}
