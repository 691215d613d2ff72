//! Any bytes as a stored record: an error or the record that was written, never a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| checkpoints::fuzz::record(data));
