//! One sleeping thread and those who may wake it: the only place where the engine blocks.
//!
//! A [`Signal`] is set at most once per wait. It spins shortly before it sleeps where spinning has paid lately.
//!
//! | word | who writes it | ordering | why |
//! |---|---|---|---|
//! | `EMPTY` -> `ASLEEP` | the waiter, by compare-exchange | Relaxed | only a setter that sees it has to call the kernel |
//! | `EMPTY` -> `DRIVING` | a waiter that sleeps elsewhere, by compare-exchange | Release | a setter that sees it rings there |
//! | any -> `SET` | a setter, by swap | AcqRel | what the setter did before is seen by the waiter |
//! | `SET` -> `EMPTY` | the waiter, by compare-exchange | Acquire | pairs with the swap; the signal can be used again |
//!
//! A lost wake-up is impossible: the setter's swap either comes before the waiter's compare-exchange, which then fails,
//! or it returns `ASLEEP`, and then the setter wakes; the kernel checks the word again before the thread sleeps.

use std::convert::Infallible;
use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::primitives::{Futex, FutexWake, Ordering};

const EMPTY: u32 = 0;
const ASLEEP: u32 = 1;
const SET: u32 = 2;
const DRIVING: u32 = 3;

/// Callers inside a blocking wait: where there is one, the interpreter that it released is likely to be free.
static BLOCKED_CALLERS: AtomicUsize = AtomicUsize::new(0);
static CALLER_SPIN: AdaptiveSpin = AdaptiveSpin::new();

/// Whether any caller is blocked in a wait of the engine: a hint, never a promise.
pub(crate) fn is_a_caller_blocked() -> bool {
    BLOCKED_CALLERS.load(Relaxed) > 0
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// What was waited for has come.
    Ready,
    /// The deadline came first.
    TimedOut,
    /// A signal handler ran on this thread; wait again when it has been dealt with.
    Interrupted,
}

/// Where a thread sleeps that does the work for which it waits: it drives a pool of processes meanwhile.
pub trait Drive: Send + Sync {
    /// Blocks the calling thread until `signal` is set, and drives what sets it. `None` if another thread does: then it may
    /// sleep on the signal.
    fn drive(&self, signal: &Signal, deadline: Option<Instant>) -> Option<Waited>;

    /// Has the driving thread look at its signal.
    fn ring(&self);

    /// Whether the calling thread is one without which nothing here goes on.
    fn is_current(&self) -> bool {
        false
    }
}

/// A flag that one thread can sleep on.
pub struct Signal {
    word: Futex,
    /// Whom to ring for while the word is `DRIVING`.
    drive: Mutex<Option<Arc<dyn Drive>>>,
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signal").field("word", &self.word).finish_non_exhaustive()
    }
}

impl Default for Signal {
    fn default() -> Self {
        Self::new()
    }
}

impl Signal {
    /// A signal that is not set.
    pub fn new() -> Self {
        Self { word: Futex::new(EMPTY), drive: Mutex::new(None) }
    }

    /// Sets the flag, and wakes the thread that sleeps on it.
    pub fn set(&self) {
        match self.word.word().swap(SET, Ordering::AcqRel) {
            ASLEEP => self.word.wake_one(),
            DRIVING => {
                let drive = self.lock_drive().clone();
                drive.inspect(|drive| drive.ring());
            }
            _ => {}
        }
    }

    /// Whether the flag is set.
    pub fn is_set(&self) -> bool {
        self.word.word().load(Ordering::Acquire) == SET
    }

    fn lock_drive(&self) -> MutexGuard<'_, Option<Arc<dyn Drive>>> {
        self.drive.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has setters ring for `drive` from now on. The driver must look whether the flag [is set](Self::is_set)
    /// between this and its sleep.
    pub fn begin_to_drive(&self, drive: &Arc<dyn Drive>) {
        *self.lock_drive() = Some(Arc::clone(drive));
        let _ = self.word.word().compare_exchange(EMPTY, DRIVING, Ordering::Release, Ordering::Relaxed);
    }

    /// The driver has come back, for this reason. Takes the flag down if it is set.
    pub fn end_to_drive(&self, why: Waited) -> Waited {
        let _ = self.word.word().compare_exchange(DRIVING, EMPTY, Ordering::Relaxed, Ordering::Relaxed);
        if self.try_take() { Waited::Ready } else { why }
    }

    /// Takes the flag down if it is set.
    pub fn try_take(&self) -> bool {
        self.word.word().compare_exchange(SET, EMPTY, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Blocks until the flag is set, and takes it down.
    pub fn wait(&self, deadline: Option<Instant>, spin: &AdaptiveSpin) -> Waited {
        if spin.until(|| self.try_take()) {
            return Waited::Ready;
        }
        self.sleep_until(deadline)
    }

    /// Blocks a caller, as opposed to a worker, until the flag is set.
    pub fn wait_as_caller(&self, deadline: Option<Instant>) -> Waited {
        match self.wait_as_caller_in(deadline, || Ok::<_, Infallible>(())) {
            Ok(waited) => waited,
        }
    }

    /// As [`wait_as_caller`](Self::wait_as_caller); if spinning was not enough, `enter` is called, and what it gives is kept
    /// while the thread sleeps.
    pub(crate) fn wait_as_caller_in<G, E>(
        &self,
        deadline: Option<Instant>,
        enter: impl FnOnce() -> Result<G, E>,
    ) -> Result<Waited, E> {
        BLOCKED_CALLERS.fetch_add(1, Relaxed);
        let waited = if CALLER_SPIN.until(|| self.try_take()) {
            Ok(Waited::Ready)
        } else {
            enter().map(|kept| {
                let waited = self.sleep_until(deadline);
                drop(kept);
                waited
            })
        };
        BLOCKED_CALLERS.fetch_sub(1, Relaxed);
        waited
    }

    /// Blocks as [`wait`](Self::wait) does, without spinning first.
    pub(crate) fn sleep_until(&self, deadline: Option<Instant>) -> Waited {
        let word = self.word.word();
        loop {
            if self.try_take() {
                return Waited::Ready;
            }
            let timeout = match deadline.map(|d| d.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => return self.give_up(Waited::TimedOut),
                other => other,
            };
            let announced = word.compare_exchange(EMPTY, ASLEEP, Ordering::Relaxed, Ordering::Relaxed);
            if announced == Err(SET) {
                continue;
            }
            if self.word.wait(ASLEEP, timeout) == FutexWake::Interrupted {
                return self.give_up(Waited::Interrupted);
            }
        }
    }

    /// Leaves the sleep; a flag that came in the last moment still counts.
    fn give_up(&self, why: Waited) -> Waited {
        let word = self.word.word();
        let _ = word.compare_exchange(ASLEEP, EMPTY, Ordering::Relaxed, Ordering::Relaxed);
        if self.try_take() { Waited::Ready } else { why }
    }
}

/// The longest spin. A wake-up by the kernel takes 11 to 14 us: spinning longer than about that cannot win.
const LONGEST_SPIN: Duration = Duration::from_micros(20);
/// After `n` failures in a row the next `2^n - 1` waits do not spin; this bounds `n`. A guess that keeps the cost of
/// useless spinning under 20 us in a thousand waits.
const MOST_FAILURES: u32 = 10;

/// Spins while that has paid lately: every failure doubles the number of waits that go to sleep at once.
///
/// Beside busy processes a spinning thread takes the time of the very thread that it waits for; the failures that this
/// causes switch the spinning off. The counts are guesses, so they are std's atomics in a model run too.
#[derive(Debug)]
pub struct AdaptiveSpin {
    failures: AtomicU32,
    skips: AtomicU32,
}

impl Default for AdaptiveSpin {
    fn default() -> Self {
        Self::new()
    }
}

impl AdaptiveSpin {
    /// A spin that has not failed yet.
    pub const fn new() -> Self {
        Self { failures: AtomicU32::new(0), skips: AtomicU32::new(0) }
    }

    /// Whether the next wait should spin; counts the waits that are passed over.
    pub fn is_worthwhile(&self) -> bool {
        if !has_spare_core() {
            return false;
        }
        // Two threads may lose a count to each other: it is a guess in any case.
        let skips = self.skips.load(Relaxed);
        if skips == 0 {
            return true;
        }
        self.skips.store(skips - 1, Relaxed);
        false
    }

    /// Spins until `is_ready`, for a few microseconds; tells whether it came.
    pub fn until(&self, mut is_ready: impl FnMut() -> bool) -> bool {
        if is_ready() {
            return true;
        }
        self.is_worthwhile() && self.spin(is_ready)
    }

    /// Spins without asking whether it is worthwhile, and learns from how it ends.
    pub fn spin(&self, mut is_ready: impl FnMut() -> bool) -> bool {
        if cfg!(loom) {
            // A model explores what a look at any moment sees; looking often, or learning from it, adds nothing.
            return is_ready();
        }
        let start = Instant::now();
        loop {
            for _ in 0..32 {
                if is_ready() {
                    self.failures.store(0, Relaxed);
                    return true;
                }
                std::hint::spin_loop();
            }
            if start.elapsed() > LONGEST_SPIN {
                break;
            }
        }
        let failures = (self.failures.load(Relaxed) + 1).min(MOST_FAILURES);
        self.failures.store(failures, Relaxed);
        self.skips.store((1 << failures) - 1, Relaxed);
        false
    }
}

/// With one core, the thread that spins keeps the one that it waits for from running.
///
/// The answer is kept in an atomic and not in a `OnceLock`: a fork may come while another thread asks for the first time,
/// and the child would wait for ever for that thread to finish.
fn has_spare_core() -> bool {
    static CORES: AtomicUsize = AtomicUsize::new(0);
    let mut cores = CORES.load(Relaxed);
    if cores == 0 {
        cores = std::thread::available_parallelism().map_or(1, usize::from);
        CORES.store(cores, Relaxed);
    }
    cores > 1
}
