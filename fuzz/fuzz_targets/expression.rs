//! Any bytes as an expression: diagnostics or a value, never a panic, and in bounded time.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| graphs::fuzz::expression(data));
