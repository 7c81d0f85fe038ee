#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cellforge_fuzz::stack(data));
