//! Models of the ring, the doorbell, the claims and the leases, each also with a fault built in that it must find.

use std::sync::Arc;
use std::time::Duration;

use loom::thread;

use super::claim::Claims;
use super::doorbell::{Bell, Doorbell, Rung, Wake};
use super::lease;
use super::ring::{COUNTER_WORDS, Consumer, Header, Outgoing, Producer, Words};
use crate::models::{assert_caught, explore};
use crate::mutant::Mutant;
use crate::primitives::{AtomicU32, AtomicU64, Futex, FutexWake};
use crate::signal::{AdaptiveSpin, Waited};

fn shared(data_words: usize) -> Arc<[AtomicU64]> {
    (0..COUNTER_WORDS + data_words).map(|_| AtomicU64::new(0)).collect()
}

impl Bell for Arc<Futex> {
    fn word(&self) -> &AtomicU32 {
        Futex::word(self)
    }

    fn sleep(&self, expected: u32, timeout: Option<Duration>) -> Wake {
        match self.wait(expected, timeout) {
            FutexWake::Look => Wake::Look,
            FutexWake::TimedOut => Wake::TimedOut,
            FutexWake::Interrupted => Wake::Interrupted,
        }
    }

    fn wake(&self) {
        self.wake_one();
    }
}

struct Line {
    ring: Arc<[AtomicU64]>,
    /// Rung when there is something to read.
    written: Arc<Futex>,
    /// Rung when there is room again.
    read: Arc<Futex>,
}

impl Line {
    fn new(data_words: usize) -> Self {
        Self { ring: shared(data_words), written: Arc::new(Futex::new(0)), read: Arc::new(Futex::new(0)) }
    }

    /// Sends the records, asleep while there is no room.
    fn send(&self, payloads: &[&[u8]]) {
        let mut producer = Producer::new(Arc::clone(&self.ring));
        let (written, read) = (Doorbell::new(Arc::clone(&self.written)), Doorbell::new(Arc::clone(&self.read)));
        for (id, payload) in payloads.iter().enumerate() {
            let mut record = Outgoing::new(Header { kind: 7, id: id as u64 }, payload);
            let mut is_whole = false;
            let waited = read.wait(None, &AdaptiveSpin::new(), || {
                is_whole = producer.write(&mut record).expect("the other side keeps the rules");
                assert_eq!(written.ring(), Rung::Done);
                is_whole
            });
            assert_eq!((waited, is_whole), (Waited::Ready, true));
        }
    }

    /// Receives as many records, asleep while there is nothing.
    fn receive(&self, payloads: &[&[u8]]) {
        let mut consumer = Consumer::new(Arc::clone(&self.ring));
        let (written, read) = (Doorbell::new(Arc::clone(&self.written)), Doorbell::new(Arc::clone(&self.read)));
        for (id, payload) in payloads.iter().enumerate() {
            let mut record = None;
            let waited = written.wait(None, &AdaptiveSpin::new(), || {
                record = consumer.read().expect("the other side keeps the rules");
                assert_eq!(read.ring(), Rung::Done);
                record.is_some()
            });
            assert_eq!(waited, Waited::Ready);
            let record = record.expect("it has just been seen");
            assert_eq!((record.header, &record.payload[..]), (Header { kind: 7, id: id as u64 }, *payload));
        }
    }
}

fn pass(data_words: usize, payloads: &'static [&'static [u8]]) {
    let line = Arc::new(Line::new(data_words));
    let sender = {
        let line = Arc::clone(&line);
        thread::spawn(move || line.send(payloads))
    };
    line.receive(payloads);
    sender.join().expect("it does not panic");
}

/// Two records through a ring with room for one and a half, so the second wraps and has to wait.
fn two_records_pass() {
    pass(4, &[b"12345678", b"abc"]);
}

/// One record, longer than the ring.
fn a_long_record_passes() {
    pass(4, &[b"0123456789abcdef0123456789"]);
}

#[test]
fn records_pass_in_order_and_nobody_sleeps_on() {
    explore(two_records_pass);
}

#[test]
fn a_record_longer_than_the_ring_passes() {
    explore(a_long_record_passes);
}

#[test]
fn a_tail_without_release_is_caught() {
    assert_caught("process::models::a_tail_without_release_is_caught", Mutant::RelaxedTail, two_records_pass);
}

#[test]
fn a_ring_without_a_fence_is_caught() {
    assert_caught("process::models::a_ring_without_a_fence_is_caught", Mutant::RingWithoutFence, two_records_pass);
}

#[test]
fn a_sleep_without_a_fence_is_caught() {
    assert_caught("process::models::a_sleep_without_a_fence_is_caught", Mutant::SleepWithoutFence, two_records_pass);
}

#[test]
fn a_sleep_without_a_second_look_is_caught() {
    let test = "process::models::a_sleep_without_a_second_look_is_caught";
    assert_caught(test, Mutant::SleepWithoutASecondLook, two_records_pass);
}

/// Whoever leaves a diverted doorbell either sees the work or is rung for elsewhere.
#[test]
fn work_beside_a_diverted_doorbell_is_seen_by_one_side() {
    explore(|| {
        let (word, work) = (Arc::new(Futex::new(0)), Arc::new(AtomicU32::new(0)));
        let ringer = {
            let (word, work) = (Arc::clone(&word), Arc::clone(&work));
            thread::spawn(move || {
                work.store(1, loom::sync::atomic::Ordering::Relaxed);
                Doorbell::new(word).ring() == Rung::Elsewhere
            })
        };
        let seen = Doorbell::new(word).divert(|| work.load(loom::sync::atomic::Ordering::Relaxed) == 1);
        let told = ringer.join().expect("it does not panic");
        assert!(seen || told, "the work is lost");
    });
}

/// A sent task is begun or taken back, and a later one in the same place is not mistaken for it.
#[test]
fn a_claim_has_one_winner() {
    explore(|| {
        let claims = Arc::new(Claims::new((0..1).map(|_| AtomicU64::new(0)).collect::<Arc<[AtomicU64]>>()));
        claims.send(0, 1);
        let worker = {
            let claims = Arc::clone(&claims);
            thread::spawn(move || claims.try_begin(0, 1))
        };
        let taken_back = claims.try_take_back(0, 1);
        if taken_back {
            claims.send(0, 2);
        }
        let begun = worker.join().expect("it does not panic");
        assert!(begun != taken_back, "begun {begun}, taken back {taken_back}");
        assert_eq!(claims.is_begun(0, 1), begun);
    });
}

/// A worker writes a reply, asks for a segment, and once more. Each wish gets its own answer, and when the program sees a wish
/// it sees the reply that was written before.
fn each_wish_is_answered() {
    let wanted = |round| if round == 1 { lease::Wish::to_send(round) } else { lease::Wish::to_work_in(round) };
    const GRAIN: u64 = 1 << 16;
    let words: Arc<[AtomicU64]> = (0..3).map(|_| AtomicU64::new(0)).collect();
    let replies = Arc::new(AtomicU64::new(0));
    let (bell, program) = (Arc::new(Futex::new(0)), Arc::new(Futex::new(0)));
    let worker = {
        let (words, replies) = (Arc::clone(&words), Arc::clone(&replies));
        let bells = (Doorbell::new(Arc::clone(&bell)), Doorbell::new(Arc::clone(&program)));
        thread::spawn(move || {
            for round in 1..=2 {
                replies.store(round, loom::sync::atomic::Ordering::Relaxed);
                let mut elsewhere = || unreachable!("the program sleeps on its doorbell");
                let answer = lease::ask(
                    &words,
                    (&bells.0, &bells.1),
                    &AdaptiveSpin::new(),
                    (wanted(round), round, None),
                    &mut elsewhere,
                );
                assert_eq!(lease::granted(answer), (round == 1).then_some((7 * GRAIN, true)));
            }
        })
    };
    let (bell, program) = (Doorbell::new(bell), Doorbell::new(program));
    for round in 1..=2 {
        let mut wish = None;
        let waited = program.wait(None, &AdaptiveSpin::new(), || {
            wish = lease::wish(&words);
            wish.is_some()
        });
        let wish = wish.expect("it was seen");
        assert_eq!((waited, wish.wish()), (Waited::Ready, wanted(round)));
        assert!(lease::claim(&words, wish), "nobody withdraws it");
        assert_eq!(replies.load(loom::sync::atomic::Ordering::Relaxed), round, "the reply before is not seen");
        lease::answer(&words, (round == 1).then_some((7 * GRAIN, true)));
        assert_eq!(bell.ring(), Rung::Done);
    }
    worker.join().expect("it does not panic");
}

#[test]
fn every_wish_for_a_segment_gets_its_own_answer() {
    explore(each_wish_is_answered);
}

#[test]
fn a_wish_without_release_is_caught() {
    assert_caught("process::models::a_wish_without_release_is_caught", Mutant::RelaxedWish, each_wish_is_answered);
}

#[test]
fn a_wish_that_is_void_after_its_answer_is_caught() {
    let test = "process::models::a_wish_that_is_void_after_its_answer_is_caught";
    assert_caught(test, Mutant::VoidAnAnsweredWish, each_wish_is_answered);
}

/// A worker withdraws its first wish, for a result that is not to wait, if it has no answer yet; the second is another. What the
/// program answers is what the worker gets: no segment is lent that nobody knows of.
fn a_wish_is_answered_or_withdrawn() {
    const GRAIN: u64 = 1 << 16;
    let words: Arc<[AtomicU64]> = (0..3).map(|_| AtomicU64::new(0)).collect();
    let (bell, program) = (Arc::new(Futex::new(0)), Arc::new(Futex::new(0)));
    let worker = {
        let words = Arc::clone(&words);
        let bells = (Doorbell::new(Arc::clone(&bell)), Doorbell::new(Arc::clone(&program)));
        thread::spawn(move || {
            let spin = AdaptiveSpin::new();
            let mut ask = |count, deadline| {
                let asked = (lease::Wish::to_work_in(7), count, deadline);
                let mut elsewhere = || unreachable!("the program sleeps on its doorbell");
                let answer = lease::ask(&words, (&bells.0, &bells.1), &spin, asked, &mut elsewhere);
                lease::granted(answer).map(|(place, _)| place / GRAIN)
            };
            let now = std::time::Instant::now();
            (ask(1, Some(now)), ask(2, None))
        })
    };
    let (bell, program) = (Doorbell::new(bell), Doorbell::new(program));
    let mut lent = Vec::new();
    loop {
        let mut wish = None;
        program.wait(None, &AdaptiveSpin::new(), || {
            wish = lease::wish(&words);
            wish.is_some()
        });
        let wish = wish.expect("it was seen");
        let is_last = wish.count() == 2;
        if lease::claim(&words, wish) {
            lent.push(wish.count());
            lease::answer(&words, Some((wish.count() * GRAIN, true)));
            assert_eq!(bell.ring(), Rung::Done);
            if is_last {
                break;
            }
        }
    }
    let (first, second) = worker.join().expect("it does not panic");
    let got: Vec<_> = first.into_iter().chain(second).collect();
    assert_eq!(got, lent);
}

#[test]
fn a_wish_that_is_withdrawn_is_not_answered() {
    explore(a_wish_is_answered_or_withdrawn);
}

#[test]
fn an_answer_to_a_withdrawn_wish_is_caught() {
    let test = "process::models::an_answer_to_a_withdrawn_wish_is_caught";
    assert_caught(test, Mutant::AnswerAWithdrawnWish, a_wish_is_answered_or_withdrawn);
}
