//! Any words in a ring, written over between two reads: reading them ends in records, in nothing, or in `Corrupt`.

#![no_main]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use libfuzzer_sys::fuzz_target;
use raddle::process::ring::{COUNTER_WORDS, Consumer, Header, Outgoing, Producer};

const DATA_WORDS: usize = 64;

fuzz_target!(|scribbles: &[u8]| {
    let words: Arc<[AtomicU64]> = (0..COUNTER_WORDS + DATA_WORDS).map(|_| AtomicU64::new(0)).collect();
    let mut producer = Producer::new(Arc::clone(&words));
    let mut consumer = Consumer::new(Arc::clone(&words));
    for scribble in scribbles.chunks_exact(10) {
        let (place, rest) = (usize::from(scribble[0]), &scribble[1..]);
        let (length, value) = (usize::from(rest[0]), &rest[1..]);
        let mut record = Outgoing::new(Header { kind: 1, id: 7 }, vec![rest[0]; length * 4]);
        if producer.write(&mut record).is_err() {
            return;
        }
        let value = value.try_into().map_or(0, u64::from_le_bytes);
        if place < words.len() {
            words[place].store(value, Ordering::Relaxed);
        }
        match consumer.read() {
            Ok(Some(record)) => assert!(record.payload.len() <= 1 << 20),
            Ok(None) => {}
            Err(_corrupt) => return,
        }
    }
});
