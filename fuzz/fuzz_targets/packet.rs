#![no_main]

#[path = "../bodies/mod.rs"]
#[allow(dead_code, reason = "each target uses a part of it")]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::packet::run(data));
