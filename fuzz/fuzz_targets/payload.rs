//! Any bytes as the payload of a call or a reply, and as a pickle: reading them ends, and makes nothing of nothing.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/raddle-python/src/layout.rs"]
#[expect(dead_code, reason = "only reading is tried here")]
mod layout;
#[path = "../../crates/raddle-python/src/named_globals.rs"]
mod named_globals;

use layout::{Arguments, Call, Listed, Told};

fuzz_target!(|payload: &[u8]| {
    if let Ok(call) = Call::parse(payload) {
        let count = match call.arguments {
            Arguments::Plain(values) => values.count(),
            Arguments::Rows(rows) => rows.map(Iterator::count).sum(),
            _ => 0,
        };
        assert!(count <= payload.len());
    }
    for has_error in [false, true] {
        if let Ok((Listed::Plain(values), _)) = layout::parse_chunk(payload, has_error) {
            let count = values.len();
            assert_eq!(values.count(), count);
        }
    }
    let _ = layout::parse_value(payload);
    let _ = layout::parse_function(payload);
    let _ = Told::parse(payload);
    for (module, name) in named_globals::named_globals(payload) {
        assert!(module.len() + name.len() <= payload.len());
    }
});
