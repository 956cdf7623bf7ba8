//! Who has a task that was sent to a worker: the worker that begins it, or the sender that takes it back.
//!
//! A sent task names a place in a table of shared words. The word holds the task's number and its state; each change is one
//! compare-exchange from the very number and state that are expected, so exactly one side wins, and a place that has been
//! given to another task is never mistaken.
//!
//! | change | who | ordering | why |
//! |---|---|---|---|
//! | anything -> `SENT` | the sender, before it publishes the record | Relaxed | published with the record |
//! | `SENT` -> `BEGUN` | the worker | Relaxed | the compare-exchange decides; the payload came by the ring |
//! | `SENT` -> `TAKEN_BACK` | the sender | Relaxed | as above |

use super::ring::Words;
use crate::primitives::Ordering;

const STATE_BITS: u32 = 2;
const SENT: u64 = 1;
const BEGUN: u64 = 2;
const TAKEN_BACK: u64 = 3;

/// A table of claims, one for each task that may be with a worker at a time.
#[derive(Debug)]
pub struct Claims<W>(W);

fn word(task: u64, state: u64) -> u64 {
    (task << STATE_BITS) | state
}

impl<W: Words> Claims<W> {
    /// The table that lies in `words`.
    pub fn new(words: W) -> Self {
        Self(words)
    }

    /// How many tasks can be with the worker.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has no places.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Gives the place to a task that is about to be sent. The numbers of tasks are below 2^62 and never used twice.
    pub fn send(&self, place: usize, task: u64) {
        self.0.word(place).store(word(task, SENT), Ordering::Relaxed);
    }

    /// The worker begins the task, unless it was taken back. A place out of range is nobody's.
    pub fn try_begin(&self, place: usize, task: u64) -> bool {
        place < self.len() && self.change(place, task, BEGUN)
    }

    /// The sender takes the task back, unless it was begun.
    pub fn try_take_back(&self, place: usize, task: u64) -> bool {
        self.change(place, task, TAKEN_BACK)
    }

    /// Whether the worker has begun the task, as far as it says itself.
    pub fn is_begun(&self, place: usize, task: u64) -> bool {
        self.0.word(place).load(Ordering::Relaxed) == word(task, BEGUN)
    }

    fn change(&self, place: usize, task: u64, state: u64) -> bool {
        let change = self.0.word(place).compare_exchange(
            word(task, SENT),
            word(task, state),
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        change.is_ok()
    }
}
