//! Ledger accounts: what is spent, what is reserved, and the wall; checked and added in one step.

use runtime::ports::store::{Account, Reservation, StoreError};
use serde::{Deserialize, Serialize};

use super::codec;
use super::layout::{Kind, named_key};
use crate::envelope::Sealer;
use crate::kv::{Reader, Txn};

/// One reservation; it stays after it is settled, so that settling again is seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    amount: u64,
    settled: Option<u64>,
}

pub(super) fn reserve(
    txn: &mut Txn<'_>,
    sealer: &Sealer,
    reservation: &Reservation,
) -> Result<Result<Account, Account>, StoreError> {
    let account = read_account(txn, sealer, &reservation.account)?;
    let key = named_key(Kind::Reservation, &[&reservation.account, &reservation.key]);
    if txn.get(&key)?.is_some() {
        return Ok(Ok(account));
    }
    let total = account.spent.checked_add(account.reserved).and_then(|held| held.checked_add(reservation.amount));
    if total.is_none_or(|total| total > reservation.limit) {
        return Ok(Err(account));
    }
    let account = Account { reserved: account.reserved + reservation.amount, ..account };
    let entry = Entry { amount: reservation.amount, settled: None };
    txn.put(key.clone(), codec::seal(sealer, &key, &entry)?);
    write_account(txn, sealer, &reservation.account, account)?;
    Ok(Ok(account))
}

pub(super) fn settle(
    txn: &mut Txn<'_>,
    sealer: &Sealer,
    name: &str,
    reservation: &str,
    spent: u64,
) -> Result<Account, StoreError> {
    let account = read_account(txn, sealer, name)?;
    let key = named_key(Kind::Reservation, &[name, reservation]);
    let stored = txn.get(&key)?.ok_or_else(|| StoreError::Missing(format!("reservation {reservation} in {name}")))?;
    let entry: Entry = codec::open(sealer, &key, &stored)?;
    if entry.settled.is_some() {
        return Ok(account);
    }
    let entry = Entry { settled: Some(spent), ..entry };
    txn.put(key.clone(), codec::seal(sealer, &key, &entry)?);
    let account =
        Account { spent: account.spent.saturating_add(spent), reserved: account.reserved.saturating_sub(entry.amount) };
    write_account(txn, sealer, name, account)?;
    Ok(account)
}

pub(super) fn read_account(view: &dyn Reader, sealer: &Sealer, name: &str) -> Result<Account, StoreError> {
    let key = named_key(Kind::Account, &[name]);
    let stored = view.get(&key)?.map(|stored| codec::open(sealer, &key, &stored)).transpose()?;
    Ok(stored.unwrap_or_default())
}

fn write_account(txn: &mut Txn<'_>, sealer: &Sealer, name: &str, account: Account) -> Result<(), StoreError> {
    let key = named_key(Kind::Account, &[name]);
    let stored = codec::seal(sealer, &key, &account)?;
    txn.put(key, stored);
    Ok(())
}
