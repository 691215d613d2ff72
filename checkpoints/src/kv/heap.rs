//! Memory that a burst of writes has left behind.
//!
//! The C library keeps freed memory in each thread's arena. A store that comes to rest after many threads were parked would
//! hold it for as long as the process lives.

#![allow(unsafe_code)]

/// Gives freed memory back to the system, where the C library can. It locks the heap for some milliseconds: only for a
/// store at rest.
#[cfg(target_env = "gnu")]
pub(super) fn give_back() {
    unsafe extern "C" {
        safe fn malloc_trim(pad: usize) -> std::ffi::c_int;
    }
    // Whether there was something to give back does not matter.
    let _was_trimmed = malloc_trim(0);
}

/// Other C libraries do it by themselves or not at all.
#[cfg(not(target_env = "gnu"))]
pub(super) fn give_back() {}
