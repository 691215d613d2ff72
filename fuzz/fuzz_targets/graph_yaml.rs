//! Any bytes as a graph file: diagnostics or a graph, never a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| graphs::fuzz::graph(data));
