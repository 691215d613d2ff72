//! Checking the audit chain: each record against its own hash, against the one before it, and against what was known before.
//!
//! A chain alone shows neither that its end was cut off nor that it was written anew from some record on; an anchor does: the
//! number and hash of a record, kept elsewhere.

use std::collections::BTreeMap;

use runtime::ports::store::AuditRecord;

use super::audit::{GENESIS, hash_of};

/// A walk over a chain, record by record.
#[derive(Debug)]
pub struct ChainCheck {
    next: u64,
    hash: String,
    broken: Option<String>,
    anchors: BTreeMap<u64, String>,
}

impl ChainCheck {
    /// A walk from the first record on, with the hashes of records that are known from elsewhere.
    pub fn new(anchors: BTreeMap<u64, String>) -> Self {
        Self { next: 1, hash: GENESIS.to_owned(), broken: None, anchors }
    }

    /// Takes the next record.
    pub fn step(&mut self, record: &AuditRecord) {
        if (record.seq, &record.previous) != (self.next, &self.hash) {
            self.found(format!("record {} does not follow record {}", record.seq, self.next - 1));
        }
        if hash_of(record) != record.hash {
            self.found(format!("record {} was changed after it was written", record.seq));
        }
        if self.anchors.remove(&record.seq).is_some_and(|anchor| anchor != record.hash) {
            self.found(format!("record {} is not the one that the anchor knows", record.seq));
        }
        self.next = record.seq.saturating_add(1);
        self.hash.clone_from(&record.hash);
    }

    /// Something is wrong; what was found first stays.
    pub fn found(&mut self, problem: String) {
        self.broken.get_or_insert(problem);
    }

    /// Records so far, and the hash of the last one.
    pub fn head(&self) -> (u64, &str) {
        (self.next - 1, &self.hash)
    }

    /// What is wrong, now that no record follows.
    pub fn problem(&self) -> Option<String> {
        let cut = || {
            let (seq, _) = self.anchors.iter().next()?;
            Some(format!("record {seq} is missing: an anchor knows it and the chain ends at {}", self.next - 1))
        };
        self.broken.clone().or_else(cut)
    }
}

#[cfg(test)]
mod tests {
    use runtime_core::ids::{RunId, TaskId, ThreadId, Timestamp};
    use runtime_core::record::AuditEntry;
    use serde_json::json;

    use super::*;

    /// Tamperings of the suite.
    const TAMPERINGS: u64 = 10_000;
    const RECORDS: u64 = 8;

    fn chained(mut records: Vec<AuditRecord>) -> Vec<AuditRecord> {
        let mut previous = GENESIS.to_owned();
        for (index, record) in records.iter_mut().enumerate() {
            record.seq = index as u64 + 1;
            record.previous = previous;
            record.hash = hash_of(record);
            previous = record.hash.clone();
        }
        records
    }

    fn record(n: u64) -> AuditRecord {
        let detail = json!({
            "target": format!("warehouse.tool{}", n % 5), "args": {"rows": n, "note": "é\u{202e}", "list": [n, null, true]},
            "digest": format!("{n:064x}"), "rule": "production-changes", "approver": null, "ms": n * 3,
        });
        AuditRecord {
            seq: 0,
            at: Timestamp(1_767_225_600_000_000 + i64::try_from(n).unwrap()),
            thread: ThreadId::new(&format!("t{}", n % 3)).unwrap(),
            run: (!n.is_multiple_of(4)).then_some(RunId(u128::from(n) << 64)),
            entry: AuditEntry {
                actor: "agent:remediation".to_owned(),
                action: "call.permitted".to_owned(),
                node: "act".into(),
                task: n.is_multiple_of(2).then_some(TaskId(u128::from(n))),
                detail,
            },
            previous: String::new(),
            hash: String::new(),
        }
    }

    fn check(records: &[AuditRecord], anchors: BTreeMap<u64, String>) -> Option<String> {
        let mut check = ChainCheck::new(anchors);
        records.iter().for_each(|record| check.step(record));
        check.problem()
    }

    struct Draws(u64);

    impl Draws {
        fn below(&mut self, n: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(self.0 >> 33).unwrap() % n
        }
    }

    /// One byte of a stored record becomes another one; `None` when it is no record any more, which is found at reading.
    fn with_other_byte(record: &AuditRecord, draws: &mut Draws) -> Option<AuditRecord> {
        let mut bytes = serde_json::to_vec(record).unwrap();
        let at = draws.below(bytes.len());
        bytes[at] ^= 1 << draws.below(7);
        serde_json::from_slice(&bytes).ok()
    }

    fn tampered(honest: &[AuditRecord], kind: usize, draws: &mut Draws) -> Option<Vec<AuditRecord>> {
        let mut records = honest.to_vec();
        let at = draws.below(records.len());
        match kind {
            0 => records[at] = with_other_byte(&records[at], draws)?,
            1 => drop(records.remove(at)),
            2 => {
                let copy = AuditRecord { seq: at as u64 + 1, ..records[draws.below(honest.len())].clone() };
                records.insert(at, copy);
            }
            3 => records.swap(at, draws.below(honest.len())),
            4 => records.truncate(at),
            5 => {
                // Whoever holds the pen writes everything anew from here on.
                records[at].entry.detail["approver"] = json!("ann");
                records = chained(records);
            }
            _ => {
                records[at] = with_other_byte(&records[at], draws)?;
                records[at].hash = hash_of(&records[at]);
            }
        }
        (records != honest).then_some(records)
    }

    #[test]
    fn ten_thousand_tamperings_are_found() {
        let honest = chained((0..RECORDS).map(record).collect());
        let last = honest.last().unwrap();
        let anchor = BTreeMap::from([(last.seq, last.hash.clone())]);
        assert_eq!((check(&honest, anchor.clone()), check(&honest, BTreeMap::new())), (None, None));
        let mut draws = Draws(11);
        let (mut made, mut unreadable, mut only_by_anchor) = (0, 0, 0);
        while made < TAMPERINGS {
            let kind = draws.below(7);
            let Some(records) = tampered(&honest, kind, &mut draws) else {
                unreadable += 1;
                continue;
            };
            made += 1;
            let found = check(&records, anchor.clone());
            assert!(found.is_some(), "kind {kind} was not found");
            let by_end = matches!(kind, 4 | 5);
            only_by_anchor += u64::from(by_end && check(&records, BTreeMap::new()).is_none());
        }
        assert!(only_by_anchor > 0, "no anchor was ever needed: truncation and rewriting were not tried");
        println!("G23 tamperings={made} found={made} by_anchor_alone={only_by_anchor} unreadable_or_same={unreadable}");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let honest = chained((0..5).map(record).collect());
        let mut changed = honest.clone();
        changed[2].entry.actor.push('!');
        assert_eq!(check(&changed, BTreeMap::new()).unwrap(), "record 3 was changed after it was written");
        let mut cut = honest.clone();
        cut.remove(1);
        assert_eq!(check(&cut, BTreeMap::new()).unwrap(), "record 3 does not follow record 1");
        let anchor = BTreeMap::from([(9, honest[4].hash.clone())]);
        assert_eq!(check(&honest, anchor).unwrap(), "record 9 is missing: an anchor knows it and the chain ends at 5");
    }
}
