//! How a worker gets a segment of the program's arena for a large result, or to compute in it (submit -> queue -> TRANSPORT ->
//! worker -> result).
//!
//! It asks, and whoever looks after the rings in the program answers at once: with a segment, or that there is none, and then
//! the result goes through the ring, and what is computed lies elsewhere. Nobody waits for memory, so nobody waits for ever. Who
//! wants to compute withdraws his wish after a moment: whoever looks after the rings may be held up by code of the user's.
//!
//! | word | who writes it | ordering | why |
//! |---|---|---|---|
//! | `WISH`: bytes wanted, what for, and a count; 0: nothing | the worker; voided by the program that answers it, or the worker that withdraws it, whoever comes first | Release | `ANSWER` was emptied before |
//! | `ANSWER`: 0: none yet, 1: there is none, else the place and whether it has memory | the worker empties it, the program fills it | Release | `WISH` is void then |
//! | `FORKED`: 1: children that it has forked may look at segments of its tasks | the worker | Relaxed | it is read when the worker has ended |
//! | `IN_USE`: bytes in which it computes | the worker | Relaxed | it is a measure alone |
//!
//! A worker writes a reply before it asks for the next, so the program, which looks for the wish first and then at the ring,
//! knows to which reply a segment belongs: to the next one that comes, unless the worker gives it back before that.

#[cfg(not(loom))]
pub use lender::{ForkMark, Lender, UsageMark};

use super::doorbell::{Bell, Doorbell, Rung};
use super::ring::Words;
use crate::mutant::{Mutant, is_mutant};
use crate::primitives::Ordering;
use crate::signal::{AdaptiveSpin, Waited};
use std::time::Instant;

const WISH: usize = 1;
const ANSWER: usize = 2;
const FORKED: usize = 3;
const IN_USE: usize = 4;

/// In a wish: the segment is to compute in.
const TO_WORK_IN: u64 = 1 << 63;
/// In a wish: where the count begins, by which a wish differs from others that were withdrawn. No file is as long as that.
const COUNT: u32 = 45;
const BYTES: u64 = (1 << COUNT) - 1;

const REFUSED: u64 = 1;
/// Marks an answer as one; the places of segments end in zeros.
const GRANTED: u64 = 2;
const WARM: u64 = 4;
const MARKS: u64 = REFUSED | GRANTED | WARM;

/// What a worker wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// So much room.
    pub bytes: u64,
    /// To compute in it: then it is not to have the last that there is.
    pub is_to_work_in: bool,
}

impl Wish {
    /// Room for a result.
    pub fn to_send(bytes: u64) -> Self {
        Self { bytes: bytes.min(BYTES), is_to_work_in: false }
    }

    /// Room to compute in.
    pub fn to_work_in(bytes: u64) -> Self {
        Self { is_to_work_in: true, ..Self::to_send(bytes) }
    }

    fn word(self, count: u64) -> u64 {
        let count = count << COUNT & !TO_WORK_IN;
        self.bytes | count | if self.is_to_work_in { TO_WORK_IN } else { 0 }
    }
}

/// A wish that the program has seen, as it stands in the shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wished(u64);

impl Wished {
    /// How often the worker had asked.
    #[cfg(all(loom, test))]
    pub(crate) fn count(self) -> u64 {
        (self.0 & !TO_WORK_IN) >> COUNT
    }

    /// What is wanted.
    pub fn wish(self) -> Wish {
        Wish { bytes: self.0 & BYTES, is_to_work_in: self.0 & TO_WORK_IN != 0 }
    }
}

/// The worker's side: asks for room, for the `count`th time, and gives the answer; 0: there was none in time.
pub(crate) fn ask<B: Bell>(
    words: &impl Words,
    (bell, program): (&Doorbell<B>, &Doorbell<B>),
    spin: &AdaptiveSpin,
    (wish, count, mut deadline): (Wish, u64, Option<Instant>),
    ring_elsewhere: &mut (dyn FnMut() + Send),
) -> u64 {
    let word = wish.word(count);
    words.word(ANSWER).store(0, Ordering::Relaxed);
    let order = if is_mutant(Mutant::RelaxedWish) { Ordering::Relaxed } else { Ordering::Release };
    words.word(WISH).store(word, order);
    if program.ring() == Rung::Elsewhere {
        ring_elsewhere();
    }
    let mut answer = 0;
    // It comes back before its time when a signal handler has run.
    while answer == 0 {
        let waited = bell.wait(deadline, spin, || {
            answer = words.word(ANSWER).load(Ordering::Acquire);
            answer != 0
        });
        if waited == Waited::TimedOut && answer == 0 {
            if void(words, word) {
                break;
            }
            // The program is about to answer.
            deadline = None;
        }
    }
    answer
}

/// Makes a wish void, if it is still there: then nobody else has done so.
fn void(words: &impl Words, wish: u64) -> bool {
    words.word(WISH).compare_exchange(wish, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
}

/// What an answer says: where the segment is, and whether it has memory.
pub(crate) fn granted(answer: u64) -> Option<(u64, bool)> {
    (answer & GRANTED != 0).then_some((answer & !MARKS, answer & WARM != 0))
}

/// The program's side, of a worker that has ended: whether children of it may look at segments of its tasks.
pub(crate) fn has_children(words: &impl Words) -> bool {
    words.word(FORKED).load(Ordering::Relaxed) != 0
}

/// The program's side: in how many bytes the worker of a seat computes, by its own account.
pub(crate) fn in_use(words: &impl Words) -> u64 {
    words.word(IN_USE).load(Ordering::Relaxed)
}

/// The program's side: what the worker of a seat wants.
pub(crate) fn wish(words: &impl Words) -> Option<Wished> {
    let word = words.word(WISH).load(Ordering::Acquire);
    (word > 0).then_some(Wished(word))
}

/// The program's side: whether this wish is to be answered: it has not been withdrawn since it was seen, and cannot be any more.
pub(crate) fn claim(words: &impl Words, wished: Wished) -> bool {
    is_mutant(Mutant::AnswerAWithdrawnWish) || is_mutant(Mutant::VoidAnAnsweredWish) || void(words, wished.0)
}

/// The program's side: a segment at this place, with memory or without; or none. The worker is to be rung for.
pub(crate) fn answer(words: &impl Words, granted: Option<(u64, bool)>) {
    let answer = granted.map_or(REFUSED, |(offset, is_warm)| offset | GRANTED | if is_warm { WARM } else { 0 });
    if is_mutant(Mutant::AnswerAWithdrawnWish) {
        words.word(WISH).store(0, Ordering::Relaxed);
    }
    words.word(ANSWER).store(answer, Ordering::Release);
    if is_mutant(Mutant::VoidAnAnsweredWish) {
        words.word(WISH).store(0, Ordering::Relaxed);
    }
}

#[cfg(not(loom))]
mod lender {
    use std::fmt;
    use std::time::{Duration, Instant};

    use super::super::arena::Lease;
    use super::super::doorbell::Doorbell;
    use super::super::mapping::{Mapping, Part, SharedBell};
    use super::super::seat::{Seat, program_bell};
    use super::{AdaptiveSpin, FORKED, IN_USE, Ordering, Wish, Words, ask, granted};

    /// The worker's side.
    pub struct Lender {
        words: Part,
        bell: Doorbell<SharedBell>,
        program: Doorbell<SharedBell>,
        spin: AdaptiveSpin,
        /// How often it has asked.
        count: u64,
    }

    impl fmt::Debug for Lender {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("Lender").finish_non_exhaustive()
        }
    }

    impl Lender {
        /// For the worker that serves this seat.
        pub(crate) fn new(mapping: &Mapping, seat: usize) -> Self {
            let seat = Seat::new(mapping, seat);
            Self {
                words: seat.leases,
                bell: seat.bell,
                program: program_bell(mapping),
                spin: AdaptiveSpin::new(),
                count: 0,
            }
        }

        /// Asks for a segment, on the thread that serves; `None`: there is none, or no answer came in time. It belongs to the
        /// next reply, unless it is given back before.
        pub fn lease(
            &mut self,
            wish: Wish,
            within: Option<Duration>,
            ring_elsewhere: &mut (dyn FnMut() + Send),
        ) -> Option<Lease> {
            self.count += 1;
            let asked = (wish, self.count, within.map(|within| Instant::now() + within));
            let answer = ask(&self.words, (&self.bell, &self.program), &self.spin, asked, ring_elsewhere);
            let (offset, is_warm) = granted(answer)?;
            Lease::new(wish.bytes, offset, is_warm)
        }

        /// By what the worker says in how much of what it was lent it computes.
        pub fn usage_mark(&self) -> UsageMark {
            UsageMark(self.words.clone())
        }

        /// By what the worker says that it has forked.
        pub fn fork_mark(&self) -> ForkMark {
            ForkMark(self.words.clone())
        }
    }

    /// What a worker says of what it computes in.
    #[derive(Debug)]
    pub struct UsageMark(Part);

    impl UsageMark {
        /// In so many bytes.
        pub fn set(&self, bytes: u64) {
            self.0.word(IN_USE).store(bytes, Ordering::Relaxed);
        }
    }

    /// What a worker says of its own children: if it dies before them, what they see is not used anew.
    #[derive(Debug)]
    pub struct ForkMark(Part);

    impl ForkMark {
        /// Whether there are any that may look at segments of its tasks: to be said before they are forked.
        pub fn set(&self, has_children: bool) {
            self.0.word(FORKED).store(u64::from(has_children), Ordering::Relaxed);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::arena::GRAIN;
    use super::super::mapping::Mapping;
    use super::super::seat::{Seat, program_bell, words_for};
    use super::*;

    fn mapping() -> Mapping {
        Mapping::new(words_for(1)).expect("the system gives memory")
    }

    /// Answers wishes until one is for so many bytes; gives how many there were.
    fn answer_until(mapping: &Mapping, last: u64, granted: impl Fn(u64) -> Option<(u64, bool)>) -> usize {
        let seat = Seat::new(mapping, 0);
        for count in 1.. {
            let bytes = loop {
                match wish(&seat.leases) {
                    Some(wished) if claim(&seat.leases, wished) => break wished.wish().bytes,
                    Some(_) => unreachable!("nobody withdraws it"),
                    None => std::thread::yield_now(),
                }
            };
            answer(&seat.leases, granted(bytes));
            let _ = seat.bell.ring();
            if bytes == last {
                return count;
            }
        }
        unreachable!("the worker ends with the last")
    }

    #[test]
    fn a_worker_is_told_where_its_segment_is_and_whether_it_has_memory() {
        let mapping = mapping();
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                let mut lender = Lender::new(&mapping, 0);
                let mut lease =
                    |bytes| lender.lease(Wish::to_send(bytes), None, &mut || unreachable!("nobody sleeps elsewhere"));
                [lease(100_000), lease(5), lease(1)].map(|lease| lease.map(|lease| (lease.offset, lease.is_warm)))
            });
            answer_until(&mapping, 1, |bytes| match bytes {
                100_000 => Some((3 * GRAIN, true)),
                5 => Some((0, false)),
                _ => None,
            });
            let told = worker.join().expect("the worker ends");
            assert_eq!(told, [Some((3 * GRAIN, true)), Some((0, false)), None]);
        });
    }

    #[test]
    fn every_wish_of_many_gets_its_own_answer() {
        let mapping = mapping();
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                let mut lender = Lender::new(&mapping, 0);
                (1..=20_000_u64).rev().all(|bytes| {
                    let lease =
                        lender.lease(Wish::to_work_in(bytes), None, &mut || unreachable!("nobody sleeps elsewhere"));
                    lease.map(|lease| lease.offset) == (bytes % 3 > 0).then_some(bytes * GRAIN)
                })
            });
            let count = answer_until(&mapping, 1, |bytes| (bytes % 3 > 0).then_some((bytes * GRAIN, bytes % 2 > 0)));
            assert!(worker.join().expect("the worker ends"));
            assert_eq!(count, 20_000);
        });
    }

    #[test]
    fn a_wish_that_nobody_answers_in_time_is_withdrawn_and_the_next_is_another() {
        let mapping = mapping();
        let mut lender = Lender::new(&mapping, 0);
        let seat = Seat::new(&mapping, 0);
        let ask = |lender: &mut Lender| {
            let mut seen = None;
            let within = Some(std::time::Duration::ZERO);
            let _ = program_bell(&mapping).divert(|| false);
            let lease = lender.lease(Wish::to_work_in(7), within, &mut || seen = wish(&seat.leases));
            assert!(lease.is_none());
            seen.expect("it was there when the program was rung for")
        };
        let first = ask(&mut lender);
        let second = ask(&mut lender);
        assert_eq!((first.wish(), second.wish()), (Wish::to_work_in(7), Wish::to_work_in(7)));
        assert!(first != second && wish(&seat.leases).is_none());
        assert!(!claim(&seat.leases, first) && !claim(&seat.leases, second));
    }

    #[test]
    fn a_program_that_sleeps_elsewhere_is_rung_for_there() {
        let mapping = mapping();
        let program = program_bell(&mapping);
        assert!(!program.divert(|| false));
        let (rung, ring) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                Lender::new(&mapping, 0)
                    .lease(Wish::to_send(1), None, &mut || rung.send(()).expect("it is heard"))
                    .is_none()
            });
            ring.recv().expect("the worker rings");
            assert_eq!(answer_until(&mapping, 1, |_| None), 1);
            assert!(worker.join().expect("the worker ends"));
        });
    }
}
