#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| pecsync::fuzzing::folder_names(octets));
