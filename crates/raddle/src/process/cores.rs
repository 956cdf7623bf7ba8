//! On which cores program and workers run, and a worker that steps aside (TRANSPORT: who spins, and who sleeps at once).
//!
//! Spinning pays for somebody who is awake on another core; for one who is to run on this core it only takes his time. So each
//! side says where it is, and whoever is about to wait looks there first. These are hints: a wrong one costs time.
//!
//! | word | who writes it | when |
//! |---|---|---|
//! | the program's core | whoever leads | before and after he sleeps |
//! | a worker's core | the worker | before and after it sleeps, and while it waits |
//!
//! Where the system has put the two on one core while another is free, it takes tenths of a second to part them: a round trip
//! costs 7 us so, and 1.9 on two cores (measured on two cores of an AMD EPYC, Linux 6.18). So the worker steps aside. On a
//! core that is busy with something else waiting gets worse; after a step that was bad in this way the next ones are rarer.

use std::time::{Duration, Instant};

use super::mapping::Part;
use super::ring::Words;
use crate::os;
use crate::primitives::Ordering;

const ASLEEP: u64 = 1;

/// A word in which one side says on which core it is, and whether it sleeps there.
#[derive(Debug)]
pub(crate) struct Core(Part);

impl Core {
    /// The word, which is 0 while nothing is known: one, alone in its part.
    pub(crate) fn new(word: Part) -> Self {
        Self(word)
    }

    fn word(&self) -> u64 {
        self.0.word(0).load(Ordering::Relaxed)
    }

    fn note(&self, state: u64) {
        // Others read the line: it is written only when it changes.
        let word = here() | state;
        if self.word() != word {
            self.0.word(0).store(word, Ordering::Relaxed);
        }
    }

    /// The caller is awake on its core.
    pub(crate) fn note_awake(&self) {
        self.note(0);
    }

    /// The caller is about to sleep.
    pub(crate) fn note_asleep(&self) {
        self.note(ASLEEP);
    }

    /// Whether it is, or was when it went to sleep, on the caller's core.
    pub(crate) fn is_here(&self) -> bool {
        self.word() & !ASLEEP == here()
    }

    /// Whether it says that it sleeps.
    pub(crate) fn is_asleep(&self) -> bool {
        self.word() & ASLEEP != 0
    }

    /// Whether it is awake on another core than the caller's.
    pub(crate) fn is_awake_elsewhere(&self) -> bool {
        let word = self.word();
        word != 0 && word & ASLEEP == 0 && word != here()
    }
}

fn here() -> u64 {
    (os::current_core() as u64 + 1) << 1
}

/// After how many waits for a program on the same core a worker steps aside. A guess: a tenth of a millisecond's.
const STEP_AFTER: u32 = 16;
/// How many waits after a step tell whether it was a good one, and how many of them may be long. Guesses.
const TRIAL: u32 = 64;
const MOST_LONG: u32 = 8;
/// How long a worker stays after a step that was not good, at first and at last. Guesses.
const FIRST_REST: Duration = Duration::from_millis(4);
const LONGEST_REST: Duration = Duration::from_secs(2);

/// How a worker's wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rested {
    /// While it spun.
    Spinning,
    /// It has slept, since spinning was not enough or did not seem worthwhile.
    Long,
    /// It has slept at once, since the program was on the same core.
    BesideTheProgram,
}

/// When a worker steps aside.
#[derive(Debug)]
pub(crate) struct Aside {
    beside: u32,
    /// Waits since the last step, while that is on trial, and how many of them were long.
    trial: Option<(u32, u32)>,
    rest: Duration,
    rests_until: Option<Instant>,
}

impl Aside {
    pub(crate) fn new() -> Self {
        Self { beside: 0, trial: None, rest: FIRST_REST, rests_until: None }
    }

    /// Whether it is time to step aside, now that another wait is over.
    pub(crate) fn is_due(&mut self, rested: Rested) -> bool {
        if self.trial.is_some() {
            self.try_on(rested);
            return false;
        }
        if rested != Rested::BesideTheProgram {
            self.beside = 0;
            return false;
        }
        self.beside += 1;
        if self.beside < STEP_AFTER || self.rests_until.is_some_and(|end| Instant::now() < end) {
            return false;
        }
        self.beside = 0;
        self.trial = Some((0, 0));
        true
    }

    fn try_on(&mut self, rested: Rested) {
        let Some((waits, long)) = &mut self.trial else { return };
        *waits += 1;
        *long += u32::from(rested != Rested::Spinning);
        if *long > MOST_LONG {
            self.rests_until = Some(Instant::now() + self.rest);
            self.rest = (4 * self.rest).min(LONGEST_REST);
            self.trial = None;
        } else if *waits >= TRIAL {
            self.rest = FIRST_REST;
            self.trial = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::mapping::Mapping;

    /// Waits beside the program until it is time for a step.
    fn step(aside: &mut Aside) {
        let due = (0..STEP_AFTER).filter(|_| aside.is_due(Rested::BesideTheProgram)).count();
        assert_eq!((due, aside.trial), (1, Some((0, 0))));
    }

    #[test]
    fn a_core_is_read_as_it_was_noted() {
        let mapping = Mapping::new(1).expect("there is memory");
        let core = Core::new(mapping.part(0, 1));
        assert!(!core.is_here() && !core.is_awake_elsewhere());
        mapping.part(0, 1).word(0).store(2 * 5000, Ordering::Relaxed);
        assert!(!core.is_here() && core.is_awake_elsewhere() && !core.is_asleep());
        mapping.part(0, 1).word(0).store((2 * 5000) | ASLEEP, Ordering::Relaxed);
        assert!(!core.is_here() && !core.is_awake_elsewhere() && core.is_asleep());
    }

    #[test]
    fn a_worker_that_is_not_beside_the_program_stays() {
        let mut aside = Aside::new();
        for rested in [Rested::Spinning, Rested::Long] {
            assert!((0..10 * STEP_AFTER).all(|_| !aside.is_due(rested)));
        }
    }

    #[test]
    fn steps_that_make_waiting_worse_become_rarer() {
        let mut aside = Aside::new();
        let mut rests = Vec::new();
        for _ in 0..8 {
            aside.rests_until = None;
            step(&mut aside);
            rests.push(aside.rest);
            assert!((0..=MOST_LONG).all(|_| !aside.is_due(Rested::Long)));
            assert_eq!(aside.trial, None);
            assert!(aside.rests_until.is_some());
        }
        assert!(rests.windows(2).all(|pair| pair[1] == (4 * pair[0]).min(LONGEST_REST)));
        assert_eq!(rests.last(), Some(&LONGEST_REST));
    }

    #[test]
    fn a_good_step_lets_the_next_come_soon() {
        let mut aside = Aside::new();
        aside.rest = LONGEST_REST;
        step(&mut aside);
        assert!((0..TRIAL).all(|_| !aside.is_due(Rested::Spinning)));
        assert_eq!((aside.trial, aside.rest), (None, FIRST_REST));
        step(&mut aside);
    }

    #[test]
    fn stepping_aside_leaves_the_cores_that_may_be_used_as_they_were() {
        let before = rustix::thread::sched_getaffinity(None).expect("a thread may ask");
        os::leave_core();
        let after = rustix::thread::sched_getaffinity(None).expect("a thread may ask");
        assert!((0..rustix::thread::CpuSet::MAX_CPU).all(|core| before.is_set(core) == after.is_set(core)));
        assert!(before.count() > 0);
    }
}
