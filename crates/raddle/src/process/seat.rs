//! Where things lie in a pool's mapping: a head for the program's side, and a seat for each worker.
//!
//! | part of a seat | words | who writes |
//! |---|---|---|
//! | the worker's doorbell, and its core | a cache line | the worker sleeps, the program rings |
//! | since when the present task runs; which segment it wants, and gets; its process | a cache line | the worker; the program answers |
//! | claims | [`PLACES`] | the program sends and takes back, the worker begins |
//! | tasks | a ring | the program |
//! | replies | a ring | the worker |
//! | notes | a ring | the worker, from any of its threads |
//! | when tasks began and ended | 2 [`PLACES`] | the worker, before the reply, while somebody listens |

use super::claim::Claims;
use super::cores::Core;
use super::doorbell::Doorbell;
use super::mapping::{Mapping, Part, SharedBell};
use super::ring::{COUNTER_WORDS, Words};
use crate::primitives::Ordering;

/// How many tasks can be with one worker, begun or not: enough that tasks of a microsecond keep it busy while the program
/// does something else for a fraction of a millisecond.
pub const PLACES: usize = 256;
/// Data words of a ring: 64 KB. Longer records pass piece by piece.
const RING_WORDS: usize = 1 << 13;

/// The same for what a worker tells besides: 256 KB, of which those that tell nothing never touch a page.
const NOTES_WORDS: usize = 1 << 15;

const LINE_WORDS: usize = 8;
/// In the line of `begun`, behind what leases use.
const PROCESS: usize = 5;
const RING: usize = COUNTER_WORDS + RING_WORDS;
const NOTES: usize = COUNTER_WORDS + NOTES_WORDS;
const TIMES: usize = 2 * PLACES;
const SEAT: usize = 2 * LINE_WORDS + PLACES + 2 * RING + NOTES + TIMES;
const HEAD: usize = LINE_WORDS;

/// How many words a mapping for so many workers has.
pub fn words_for(seats: usize) -> usize {
    HEAD + seats * SEAT
}

/// The doorbell of the program's side.
pub(crate) fn program_bell(mapping: &Mapping) -> Doorbell<SharedBell> {
    Doorbell::new(mapping.part(0, HEAD).bell(0))
}

/// On which core the program waits.
pub(crate) fn program_core(mapping: &Mapping) -> Core {
    Core::new(mapping.part(1, 1))
}

/// Whether somebody listens to events, by the program's account: a word beside its doorbell, which changes seldom.
#[derive(Debug)]
pub(crate) struct Listened(Part);

impl Listened {
    pub(crate) fn new(mapping: &Mapping) -> Self {
        Self(mapping.part(2, 1))
    }

    pub(crate) fn note(&self, is_listening: bool) {
        if self.is_on() != is_listening {
            self.0.word(0).store(u64::from(is_listening), Ordering::Relaxed);
        }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.0.word(0).load(Ordering::Relaxed) == 1
    }
}

/// One worker's part of a mapping.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) bell: Doorbell<SharedBell>,
    pub(crate) core: Core,
    pub(crate) claims: Claims<Part>,
    pub(crate) tasks: Part,
    pub(crate) replies: Part,
    pub(crate) notes: Part,
    /// The line of `begun`, of which [`lease`](super::lease) uses further words.
    pub(crate) leases: Part,
    begun: Part,
    times: Part,
    whole: Part,
}

impl Seat {
    /// The seat of this number.
    pub(crate) fn new(mapping: &Mapping, number: usize) -> Self {
        let start = HEAD + number * SEAT;
        let claims = start + 2 * LINE_WORDS;
        let rings = claims + PLACES;
        Self {
            bell: Doorbell::new(mapping.part(start, LINE_WORDS).bell(0)),
            core: Core::new(mapping.part(start + 1, 1)),
            claims: Claims::new(mapping.part(claims, PLACES)),
            tasks: mapping.part(rings, RING),
            replies: mapping.part(rings + RING, RING),
            notes: mapping.part(rings + 2 * RING, NOTES),
            leases: mapping.part(start + LINE_WORDS, LINE_WORDS),
            begun: mapping.part(start + LINE_WORDS, LINE_WORDS),
            times: mapping.part(start + SEAT - TIMES, TIMES),
            whole: mapping.part(start, SEAT),
        }
    }

    /// Makes it as new. No process may use it: the worker that did has ended.
    pub(crate) fn clear(&self) {
        // The data of the rings means nothing without their counters.
        let rings = 2 * LINE_WORDS + PLACES;
        let counters = [rings, rings + RING, rings + 2 * RING].into_iter().flat_map(|ring| ring..ring + COUNTER_WORDS);
        // A counter that is 0 is left alone: what nobody uses takes no memory.
        let used = (0..rings).chain(counters).filter(|index| self.whole.word(*index).load(Ordering::Relaxed) != 0);
        used.for_each(|index| self.whole.word(index).store(0, Ordering::Release));
    }

    /// The worker begins a task, or ends it (`None`). Nanoseconds of the system's monotonic clock.
    pub(crate) fn note_begun(&self, at: Option<u64>) {
        self.begun.word(0).store(at.unwrap_or_default(), Ordering::Relaxed);
    }

    /// The worker says which process it is.
    pub(crate) fn note_process(&self, pid: u32) {
        self.begun.word(PROCESS).store(pid.into(), Ordering::Relaxed);
    }

    /// Which process the worker is, by its own account, if it has said so: the program may not have been told yet by whom it was
    /// started.
    pub(crate) fn process(&self) -> Option<u32> {
        u32::try_from(self.begun.word(PROCESS).load(Ordering::Relaxed)).ok().filter(|pid| *pid > 0)
    }

    /// The worker has run the task of this place, from when to when; before it replies.
    pub(crate) fn note_ran(&self, place: usize, began: u64, ended: u64) {
        self.times.word(2 * place).store(began, Ordering::Relaxed);
        self.times.word(2 * place + 1).store(ended, Ordering::Relaxed);
    }

    /// From when to when the task of this place was run, by the worker's account; forgotten when it has been asked for.
    /// Published by the reply.
    pub(crate) fn take_ran(&self, place: usize) -> Option<(u64, u64)> {
        let [began, ended] = [0, 1].map(|which| self.times.word(2 * place + which).swap(0, Ordering::Relaxed));
        (began > 0).then_some((began, ended))
    }

    /// Since when the worker's task runs, as far as it says itself.
    pub(crate) fn begun_at(&self) -> Option<u64> {
        Some(self.begun.word(0).load(Ordering::Relaxed)).filter(|at| *at > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_says_which_process_it_is_until_its_seat_is_anothers() {
        let mapping = Mapping::new(words_for(2)).expect("the system gives memory");
        let (one, other) = (Seat::new(&mapping, 0), Seat::new(&mapping, 1));
        assert_eq!(one.process(), None);
        one.note_process(7);
        one.note_begun(Some(1));
        assert_eq!((one.process(), other.process()), (Some(7), None));
        one.clear();
        assert_eq!(one.process(), None);
    }
}
