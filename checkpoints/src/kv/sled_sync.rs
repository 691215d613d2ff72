//! Makes sled's sync a sync.
//!
//! sled 0.34 calls `sync_file_range` after each write of its log and then takes the data for durable: it frees segments
//! whose content was moved and writes over them. That system call flushes neither the device's cache nor the file's
//! metadata, so a power cut can take the moved copy and leave the overwritten original; the power-cut test finds such
//! stores within a few hundred cuts, whatever is synced afterwards. Where the call does not exist sled uses a full sync,
//! which is the order of events that its design needs. So this module defines the symbol itself: sled's calls arrive
//! here, not in the C library, and become `fdatasync`. `SledEngine::open` checks that they do.

#![allow(unsafe_code)]

use std::ffi::{c_int, c_uint};
use std::fs::File;
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

static CALLS: AtomicU64 = AtomicU64::new(0);
static IS_WEAK: AtomicBool = AtomicBool::new(false);

/// Calls that arrived here so far.
pub(super) fn calls() -> u64 {
    CALLS.load(Ordering::Relaxed)
}

/// Lets the calls do nothing, so that the crash tests can show that they would notice.
pub(super) fn weaken() {
    IS_WEAK.store(true, Ordering::Relaxed);
}

/// Stands in for the C library's function of this name.
///
/// # Safety
/// `fd` must be an open file descriptor, as for the original.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn sync_file_range(fd: c_int, _offset: i64, _len: i64, _flags: c_uint) -> c_int {
    CALLS.fetch_add(1, Ordering::Relaxed);
    if IS_WEAK.load(Ordering::Relaxed) {
        return 0;
    }
    // SAFETY: the caller keeps `fd` open during the call, and `ManuallyDrop` leaves it open afterwards.
    let file = ManuallyDrop::new(unsafe { File::from_raw_fd(fd) });
    // On failure `errno` is that of `fdatasync`, which is what the caller reads.
    if file.sync_data().is_ok() { 0 } else { -1 }
}
