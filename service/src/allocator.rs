//! The program's allocator. Records, values and their maps are many small pieces that one thread makes and another frees, which the C
//! library's allocator pays for with locks and page faults.

#![allow(unsafe_code)]

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Gives freed memory back to the system: for a store that came to rest after a burst.
pub(crate) fn give_back() {
    // SAFETY: takes no pointer and may be called by any thread at any time.
    unsafe { libmimalloc_sys::mi_collect(true) };
}
