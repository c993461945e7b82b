#![no_main]

#[path = "../bodies/mod.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let body = bodies::TARGETS.iter().find(|(name, _)| *name == "templates").expect("a target").1;
    body(data);
});
