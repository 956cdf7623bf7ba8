//! The transport between processes: random traffic, rubbish in shared memory, and two real processes.
#![cfg(not(loom))]

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use raddle::process::doorbell::{Doorbell, Rung};
use raddle::process::mapping::{Mapping, SharedBell};
use raddle::process::ring::{COUNTER_WORDS, Consumer, Corrupt, Header, Incoming, Outgoing, Producer};
use raddle::signal::{AdaptiveSpin, Waited};

fn shared(data_words: usize) -> Arc<[AtomicU64]> {
    (0..COUNTER_WORDS + data_words).map(|_| AtomicU64::new(0)).collect()
}

fn payloads() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let sizes = prop_oneof![4 => 0..40_usize, 1 => 0..1000_usize];
    prop::collection::vec(sizes.prop_flat_map(|size| prop::collection::vec(any::<u8>(), size)), 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Whatever the sizes and whenever the reader comes, the records come out as they went in.
    #[test]
    fn records_come_out_as_they_went_in(payloads in payloads(), exponent in 2..8_u32, impatience in 1..5_usize) {
        let words = shared(1 << exponent);
        let (mut producer, mut consumer) = (Producer::new(Arc::clone(&words)), Consumer::new(words));
        let mut received: Vec<Incoming> = Vec::new();
        for (id, payload) in payloads.iter().enumerate() {
            let header = Header { kind: (id % 7) as u16, id: id as u64 };
            let mut record = Outgoing::new(header, payload);
            while !producer.write(&mut record).expect("the reader keeps the rules") {
                received.extend((0..impatience).filter_map(|_| consumer.read().expect("the writer keeps the rules")));
            }
        }
        received.extend(std::iter::from_fn(|| consumer.read().expect("the writer keeps the rules")));
        let expected: Vec<_> = payloads
            .into_iter()
            .enumerate()
            .map(|(id, payload)| Incoming { header: Header { kind: (id % 7) as u16, id: id as u64 }, payload })
            .collect();
        prop_assert_eq!(received, expected);
        prop_assert!(producer.is_drained().expect("the reader keeps the rules"));
    }

    /// Rubbish written over a ring at any moment gives errors, or wrong records, and nothing worse; nobody reads for ever,
    /// and no memory is taken for a length that is not there.
    #[test]
    fn rubbish_in_a_ring_is_survived(
        payloads in payloads(),
        scribbles in prop::collection::vec((any::<usize>(), any::<u64>(), 0..40_usize), 1..20),
    ) {
        let words = shared(32);
        let (mut producer, mut consumer) = (Producer::new(Arc::clone(&words)), Consumer::new(Arc::clone(&words)));
        let mut steps = 0;
        'traffic: for (id, payload) in payloads.iter().enumerate() {
            let mut record = Outgoing::new(Header { kind: 1, id: id as u64 }, payload);
            for _ in 0..200 {
                for (place, value, when) in &scribbles {
                    if *when == steps {
                        words[place % words.len()].store(*value, Relaxed);
                    }
                }
                steps += 1;
                let (written, read) = (producer.write(&mut record), consumer.read());
                if let Ok(Some(record)) = &read {
                    prop_assert!(record.payload.capacity() <= 2 * record.payload.len().max(32 * 8));
                }
                match (written, read) {
                    (Err(Corrupt { .. }), _) | (_, Err(Corrupt { .. })) => break 'traffic,
                    (Ok(true), _) => break,
                    (Ok(false), _) => {}
                }
            }
        }
    }
}

const DATA_WORDS: usize = 1 << 10;
const RING: usize = COUNTER_WORDS + DATA_WORDS;
/// Both rings, and a cache line for each bell.
const WORDS: usize = 2 * RING + 16;
const PEER: &str = "RADDLE_TRANSPORT_PEER";

/// One process's half of a pair of rings.
struct Side {
    out: Producer<raddle::process::mapping::Part>,
    inward: Consumer<raddle::process::mapping::Part>,
    /// Rung by this side for the other; and the other way round.
    theirs: Doorbell<SharedBell>,
    ours: Doorbell<SharedBell>,
    spin: AdaptiveSpin,
}

impl Side {
    fn new(mapping: &Mapping, is_first: bool) -> Self {
        let rings = [mapping.part(0, RING), mapping.part(RING, RING)];
        let bells = mapping.part(2 * RING, 16);
        let [first, second] = rings;
        let (out, inward) = if is_first { (first, second) } else { (second, first) };
        let (ours, theirs) = if is_first { (0, 8) } else { (8, 0) };
        Self {
            out: Producer::new(out),
            inward: Consumer::new(inward),
            theirs: Doorbell::new(bells.bell(theirs)),
            ours: Doorbell::new(bells.bell(ours)),
            spin: AdaptiveSpin::new(),
        }
    }

    fn ring(theirs: &Doorbell<SharedBell>) {
        assert_eq!(theirs.ring(), Rung::Done, "nobody sleeps elsewhere here");
    }

    /// Sends one record and receives one, whichever is possible first: neither side waits for the other to read.
    fn exchange(&mut self, header: Header, payload: &[u8]) -> Incoming {
        let mut record = Outgoing::new(header, payload);
        let (mut is_sent, mut received) = (false, None);
        let Self { out, inward, theirs, ours, spin } = self;
        let deadline = Instant::now() + Duration::from_secs(60);
        let waited = ours.wait(Some(deadline), spin, || {
            is_sent = is_sent || out.write(&mut record).expect("the other side keeps the rules");
            if received.is_none() {
                received = inward.read().expect("the other side keeps the rules");
            }
            Self::ring(theirs);
            is_sent && received.is_some()
        });
        assert_eq!(waited, Waited::Ready, "the other process answers");
        received.expect("it has just been seen")
    }

    fn receive(&mut self) -> Incoming {
        let mut received = None;
        let Self { inward, theirs, ours, spin, .. } = self;
        ours.wait(Some(Instant::now() + Duration::from_secs(60)), spin, || {
            received = inward.read().expect("the other side keeps the rules");
            Self::ring(theirs);
            received.is_some()
        });
        received.expect("the other process sends")
    }

    fn send(&mut self, header: Header, payload: &[u8]) {
        let mut record = Outgoing::new(header, payload);
        let Self { out, theirs, ours, spin, .. } = self;
        let waited = ours.wait(Some(Instant::now() + Duration::from_secs(60)), spin, || {
            let is_sent = out.write(&mut record).expect("the other side keeps the rules");
            Self::ring(theirs);
            is_sent
        });
        assert_eq!(waited, Waited::Ready, "the other process reads");
    }
}

/// The other process: it sends back what it receives, reversed, until an empty record comes.
fn be_the_peer(descriptor: i32) {
    // SAFETY: the parent has left this descriptor open for this process, and nobody else here uses it.
    let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
    let mapping = Mapping::open(descriptor, WORDS).expect("it is the parent's memory");
    let mut side = Side::new(&mapping, false);
    loop {
        let Incoming { header, mut payload } = side.receive();
        payload.reverse();
        side.send(header, &payload);
        if payload.is_empty() {
            return;
        }
    }
}

#[test]
fn two_processes_exchange_records_of_all_sizes() {
    if let Ok(descriptor) = std::env::var(PEER) {
        return be_the_peer(descriptor.parse().expect("the parent gives a number"));
    }
    let mapping = Mapping::new(WORDS).expect("the system gives memory");
    let inherited = rustix::io::dup(mapping.descriptor()).expect("the system copies a descriptor");
    let mut peer = Command::new(std::env::current_exe().expect("a test knows its own program"))
        .args(["two_processes_exchange_records_of_all_sizes", "--exact", "--nocapture"])
        .env(PEER, inherited.as_raw_fd().to_string())
        .stdout(Stdio::null())
        .spawn()
        .expect("a test can start its own program");
    drop(inherited);
    let mut side = Side::new(&mapping, true);
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    for id in 0..20_000_u64 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        // Mostly short; now and then longer than the ring.
        let size = if id % 500 == 7 { 40_000 } else { 1 + (random >> 40) as usize % 100 };
        let payload: Vec<u8> = (0..size).map(|i| (i as u64 ^ random) as u8).collect();
        let mut expected = payload.clone();
        expected.reverse();
        let header = Header { kind: 3, id };
        assert_eq!(side.exchange(header, &payload), Incoming { header, payload: expected });
    }
    assert!(side.exchange(Header::default(), &[]).payload.is_empty());
    assert!(peer.wait().expect("it is our child").success());
}

#[test]
fn memory_that_could_be_cut_short_is_refused() {
    let file = rustix::fs::memfd_create("unsealed", rustix::fs::MemfdFlags::CLOEXEC).expect("the system makes a file");
    assert!(Mapping::open(file, WORDS).is_err());
    let mapping = Mapping::new(64).expect("the system gives memory");
    let copy = mapping.descriptor().try_clone_to_owned().expect("the system copies a descriptor");
    assert!(Mapping::open(copy, WORDS).is_err(), "it is shorter than that");
}
