//! A doorbell in shared memory: it rings only when the other side sleeps.
//!
//! | word | who writes it | when |
//! |---|---|---|
//! | `AWAKE` | the sleeper when it wakes; a ringer, by swap | nobody has to be rung for |
//! | `ASLEEP` | the sleeper, before its last look at what it waits for | rung by futex |
//! | `ELSEWHERE` | whoever leaves, if another is to be rung for by other means | the ringer is told, and uses them |
//!
//! The sleeper writes the word and then looks for work; the ringer publishes work and then looks at the word. Between the two
//! steps each has a sequentially consistent fence, so at least one sees the other. Without either fence, or without the
//! sleeper's second look, a ring is lost: the model shows each. The sleeper writes by swap, as the ringer does: then all
//! writes of the word are in one order for the model checker too, which does not order plain stores of two threads.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crate::mutant::{Mutant, is_mutant};
use crate::primitives::{AtomicU32, Ordering, fence};
use crate::signal::{AdaptiveSpin, Waited};

const AWAKE: u32 = 0;
const ASLEEP: u32 = 1;
const ELSEWHERE: u32 = 2;

/// Why a sleep on a [`Bell`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// The word changed, or somebody rang, or for no reason.
    Look,
    /// The time was over.
    TimedOut,
    /// A signal handler ran on this thread.
    Interrupted,
}

/// A word that both sides share, and on which one of them sleeps.
pub trait Bell: Send + Sync {
    /// The word.
    fn word(&self) -> &AtomicU32;
    /// Sleeps while the word is `expected`.
    fn sleep(&self, expected: u32, timeout: Option<Duration>) -> Wake;
    /// Wakes whoever sleeps.
    fn wake(&self);
}

/// Whom a ringer has to ring for by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "somebody may sleep elsewhere"]
pub enum Rung {
    /// Nobody: either somebody was awake, or has been woken.
    Done,
    /// Somebody who sleeps in another way, and has to be woken in that.
    Elsewhere,
}

/// One side's doorbell.
#[derive(Debug)]
pub struct Doorbell<B>(B);

impl<B: Bell> Doorbell<B> {
    /// A doorbell on this word, which is 0 at first.
    pub fn new(bell: B) -> Self {
        Self(bell)
    }

    /// Tells the sleeper, if there is one, that there is work: to be called after the work was published.
    pub fn ring(&self) -> Rung {
        if !is_mutant(Mutant::RingWithoutFence) {
            fence(Ordering::SeqCst);
        }
        if self.0.word().load(Ordering::Relaxed) == AWAKE {
            return Rung::Done;
        }
        match self.0.word().swap(AWAKE, Ordering::Relaxed) {
            // Another ringer was faster.
            AWAKE => Rung::Done,
            ASLEEP => {
                self.0.wake();
                Rung::Done
            }
            ELSEWHERE => Rung::Elsewhere,
            // Something has been written over it: there may be a sleeper, here or elsewhere.
            _ => {
                self.0.wake();
                Rung::Elsewhere
            }
        }
    }

    /// Wakes the sleeper, whatever the word says: it may have been written over.
    pub fn shake(&self) {
        self.0.wake();
    }

    /// Blocks until `has_work`, which is asked again at every ring and not after it has said yes, or until `deadline`.
    pub fn wait(&self, deadline: Option<Instant>, spin: &AdaptiveSpin, mut has_work: impl FnMut() -> bool) -> Waited {
        if spin.until(&mut has_work) {
            return Waited::Ready;
        }
        self.sleep(deadline, has_work)
    }

    /// As [`wait`](Self::wait), without spinning first.
    pub fn sleep(&self, deadline: Option<Instant>, mut has_work: impl FnMut() -> bool) -> Waited {
        loop {
            let timeout = deadline.map(|end| end.saturating_duration_since(Instant::now()));
            if timeout.is_some_and(|left| left.is_zero()) {
                return Waited::TimedOut;
            }
            self.0.word().swap(ASLEEP, Ordering::Relaxed);
            if !is_mutant(Mutant::SleepWithoutFence) {
                fence(Ordering::SeqCst);
            }
            let has_come = !is_mutant(Mutant::SleepWithoutASecondLook) && has_work();
            let woken = if has_come { Wake::Look } else { self.0.sleep(ASLEEP, timeout) };
            self.0.word().swap(AWAKE, Ordering::Relaxed);
            if has_come || has_work() {
                return Waited::Ready;
            }
            match woken {
                Wake::Look => {}
                Wake::TimedOut => return Waited::TimedOut,
                Wake::Interrupted => return Waited::Interrupted,
            }
        }
    }

    /// Has ringers told, from now on, to ring elsewhere. `true`: there is work already, and they may not have seen this.
    pub fn divert(&self, has_work: impl FnOnce() -> bool) -> bool {
        self.0.word().swap(ELSEWHERE, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        has_work()
    }

    /// Has ringers not ring at all: somebody is awake.
    pub fn mark_awake(&self) {
        self.0.word().store(AWAKE, Relaxed);
    }
}
