//! The lock's protocol: one word, and a queue in the [graph of waits](crate::waits) for those who have to sleep.
//!
//! | word | meaning |
//! |---|---|
//! | 0 | free, nobody sleeps |
//! | number of a thread, shifted | that thread holds it, nobody sleeps |
//! | either, with `QUEUED` | somebody sleeps on it, or is about to: who releases it looks into the queue |
//!
//! | change | who | ordering | why |
//! |---|---|---|---|
//! | free -> held | whoever comes first | Acquire | pairs with the release: what the last holder did is seen |
//! | held -> free, no `QUEUED` | the holder | Release | what it did is published |
//! | `QUEUED` set | one who will sleep, under the graph's lock | Relaxed | the release that sees it takes the same lock |
//! | held -> free or handed on, with `QUEUED` | the holder, under the graph's lock | Release | as above |
//! | held by a thread that a fork lost -> held | whoever finds it in the child | Acquire | nobody else ever releases it |
//!
//! A released lock is free for whoever is there first, so a running thread goes on without a switch; one that has waited
//! for longer than some milliseconds is handed the lock instead, so that nobody waits for ever. A thread that was called always
//! looks at the lock before it gives up: its call may have been the only one.
//!
//! Statistics are written by the holder alone.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64 as PlainU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::events::{self, LockWait, Name};
use crate::mutant::{Mutant, is_mutant};
use crate::primitives::{AtomicU64, Ordering};
use crate::signal::{AdaptiveSpin, Waited};
use crate::waits::{Deadlock, Left, Look, NUMBER_BITS, QueuedUp, Sleeper, ThreadNumber, Waits, Watch};

/// How long a thread that was called, and found the lock taken again, leaves it alone. A call costs some microseconds, and
/// where it was in vain once, others take and release the lock faster than a thread wakes up. A guess.
const NAP: Duration = Duration::from_micros(200);

/// Set while somebody may be in the queue.
const QUEUED: u64 = 1 << NUMBER_BITS;

fn holder_in(word: u64) -> Option<ThreadNumber> {
    ThreadNumber::from_bits(word & !QUEUED)
}

/// A lock without data, which belongs to the thread that took it.
#[derive(Debug)]
pub struct RawLock {
    word: AtomicU64,
    spin: AdaptiveSpin,
    tally: Tally,
    /// Whether a lock of a thread that a fork lost is nobody's, in the child. If not, it is never free again.
    is_freed_by_fork: bool,
}

#[derive(Debug, Default)]
struct Tally {
    acquisitions: PlainU64,
    contended: PlainU64,
    total_wait: PlainU64,
    longest_wait: PlainU64,
}

/// How often a lock was taken, and how long threads waited for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockStatistics {
    /// How often it was taken.
    pub acquisitions: u64,
    /// How many of these had to wait.
    pub contended: u64,
    /// The time that they waited, added up.
    pub total_wait: Duration,
    /// The longest of these times.
    pub longest_wait: Duration,
}

/// The calling thread does not hold the lock that it wants to release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotHeld {
    /// Who does, if anybody.
    pub holder: Option<ThreadNumber>,
}

impl fmt::Display for NotHeld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the calling thread does not hold the lock")
    }
}

impl std::error::Error for NotHeld {}

/// Why a thread came back from [`Attempt::wait`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Woken {
    /// It has the lock.
    Acquired,
    /// The lock was released, or has changed: try to take it.
    Look,
    /// The deadline came first.
    TimedOut,
    /// A signal handler ran on this thread.
    Interrupted,
    /// The wait would have closed a circle of threads that wait for each other.
    Deadlock(Deadlock),
    /// The thread that holds the lock has ended without releasing it.
    HolderEnded,
}

impl Default for RawLock {
    fn default() -> Self {
        Self::new()
    }
}

impl RawLock {
    /// A free lock.
    pub fn new() -> Self {
        let (word, spin, tally) = (AtomicU64::new(0), AdaptiveSpin::new(), Tally::default());
        Self { word, spin, tally, is_freed_by_fork: true }
    }

    /// A free lock that guards data: if a fork loses its holder, the data may be half changed, and the lock is not free in the
    /// child.
    pub fn guarding() -> Self {
        Self { is_freed_by_fork: false, ..Self::new() }
    }

    /// Whether the lock is free although its word has a holder.
    fn was_freed_by_fork(&self, holder: ThreadNumber) -> bool {
        self.is_freed_by_fork && holder.was_lost_in_fork()
    }

    /// Takes the lock for the thread `me`, which is the calling one, if it is free.
    #[inline]
    pub fn try_acquire(&self, me: ThreadNumber) -> bool {
        let taken = self.word.compare_exchange(0, me.bits(), Ordering::Acquire, Ordering::Relaxed);
        let is_taken = taken.is_ok() || self.try_acquire_slowly(me);
        if is_taken {
            self.tally.count();
        }
        is_taken
    }

    #[cold]
    fn try_acquire_slowly(&self, me: ThreadNumber) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            let kept = match holder_in(word) {
                None => word & QUEUED,
                // Those who slept on it stayed in the parent with its holder.
                Some(holder) if self.was_freed_by_fork(holder) => 0,
                Some(_) => return false,
            };
            match self.word.compare_exchange_weak(word, me.bits() | kept, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
    }

    /// Gives the lock up for the thread `me`, which is the calling one.
    ///
    /// # Errors
    /// It does not hold the lock.
    #[inline]
    pub fn release(&self, me: ThreadNumber) -> Result<(), NotHeld> {
        self.release_in(None, me)
    }

    /// The graph is looked up only if it is needed.
    #[inline]
    pub(crate) fn release_in(&self, waits: Option<&Waits>, me: ThreadNumber) -> Result<(), NotHeld> {
        let order = if is_mutant(Mutant::RelaxedRelease) { Ordering::Relaxed } else { Ordering::Release };
        match self.word.compare_exchange(me.bits(), 0, order, Ordering::Relaxed) {
            Ok(_) => Ok(()),
            Err(word) if holder_in(word) == Some(me) => {
                self.release_and_call(waits.unwrap_or_else(|| Waits::of_process()));
                Ok(())
            }
            Err(_) => Err(NotHeld { holder: self.holder() }),
        }
    }

    #[cold]
    fn release_and_call(&self, waits: &Waits) {
        waits.call_next(self.key(), |called, has_more| {
            let mark = if has_more { QUEUED } else { 0 };
            let heir = called.filter(|sleeper| sleeper.is_out_of_patience());
            self.word.store(heir.map_or(0, |sleeper| sleeper.thread.bits()) | mark, Ordering::Release);
            heir.is_some()
        });
    }

    /// Makes it free, whoever held it: in the child of a fork, where that is known to be right.
    pub fn reset(&self) {
        self.word.store(0, Ordering::Release);
    }

    /// Who holds it.
    pub fn holder(&self) -> Option<ThreadNumber> {
        holder_in(self.word.load(Ordering::Relaxed)).filter(|holder| !self.was_freed_by_fork(*holder))
    }

    /// Whether the calling thread, which is `me`, holds it.
    pub fn is_held_by(&self, me: ThreadNumber) -> bool {
        holder_in(self.word.load(Ordering::Relaxed)) == Some(me)
    }

    /// What the system calls the thread that holds it, if that is alive.
    pub fn holder_ident(&self) -> Option<u64> {
        Waits::of_process().ident_of(self.holder()?)
    }

    /// Begins to wait for the lock, which the calling thread `me` has just failed to take.
    pub fn attempt(&self, me: ThreadNumber) -> Attempt<'_> {
        let holder = if events::is_listening() { self.holder() } else { None };
        Attempt { lock: self, sleeper: Arc::new(Sleeper::new(me)), holder, name: None }
    }

    /// The figures of this moment.
    pub fn statistics(&self) -> LockStatistics {
        self.tally.read()
    }

    /// [`Awaited::held_up_by`](crate::waits::Awaited::held_up_by) of a wait for this lock.
    pub fn held_up_by(&self, look: &Look<'_>) -> Option<Vec<ThreadNumber>> {
        look.by_one(self.holder())
    }

    /// What the queue of this lock is found under.
    fn key(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}

impl Tally {
    #[inline]
    fn count(&self) {
        self.acquisitions.store(self.acquisitions.load(Relaxed) + 1, Relaxed);
    }

    fn count_wait(&self, wait: Duration) {
        let wait = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        self.contended.store(self.contended.load(Relaxed) + 1, Relaxed);
        self.total_wait.store(self.total_wait.load(Relaxed).saturating_add(wait), Relaxed);
        self.longest_wait.store(self.longest_wait.load(Relaxed).max(wait), Relaxed);
    }

    fn read(&self) -> LockStatistics {
        LockStatistics {
            acquisitions: self.acquisitions.load(Relaxed),
            contended: self.contended.load(Relaxed),
            total_wait: Duration::from_nanos(self.total_wait.load(Relaxed)),
            longest_wait: Duration::from_nanos(self.longest_wait.load(Relaxed)),
        }
    }
}

/// A thread's wait for one lock, from the first failure to take it to the end.
#[derive(Debug)]
pub struct Attempt<'a> {
    lock: &'a RawLock,
    sleeper: Arc<Sleeper>,
    /// Who held it at first, and what it is called, if somebody listens.
    holder: Option<ThreadNumber>,
    name: Option<Name>,
}

impl Attempt<'_> {
    /// Says what the lock is called, for those who listen to [events].
    #[must_use]
    pub fn called(mut self, name: Option<&str>) -> Self {
        if events::is_listening() {
            self.name = name.map(Name::of);
        }
        self
    }

    /// It has the lock at last.
    fn count(&self) {
        self.lock.tally.count_wait(self.sleeper.since.elapsed());
        events::emit_wait(|| LockWait {
            lock: self.name,
            holder: self.holder,
            since: self.sleeper.since,
            until: Instant::now(),
        });
    }

    /// Tries once more to take the lock.
    pub fn try_acquire(&self) -> bool {
        let is_taken = self.lock.try_acquire(self.sleeper.thread);
        if is_taken {
            self.count();
        }
        is_taken
    }

    /// Blocks until the lock may be had, or until `deadline`. With a `watch`, which a wait with a time limit must not have,
    /// the wait is part of the graph.
    pub fn wait(&self, deadline: Option<Instant>, watch: Option<Watch<'_>>) -> Woken {
        self.wait_in(Waits::of_process(), deadline, watch)
    }

    pub(crate) fn wait_in(&self, waits: &Waits, deadline: Option<Instant>, watch: Option<Watch<'_>>) -> Woken {
        if self.lock.spin.until(|| self.lock.holder().is_none()) {
            return Woken::Look;
        }
        loop {
            // Where another was faster, it goes back to sleep here: in a host with an interpreter, to come for that in vain
            // would cost everybody a switch.
            match self.sleep(waits, deadline, watch) {
                Woken::Look if self.lock.holder().is_some() => {}
                other => return other,
            }
            if self.nap(deadline) == Waited::Interrupted {
                return Woken::Interrupted;
            }
        }
    }

    /// Sleeps for a moment outside the queue. While it does, releasing the lock calls nobody, and costs no more than if
    /// nobody waited.
    fn nap(&self, deadline: Option<Instant>) -> Waited {
        if cfg!(loom) {
            // A model has no time: to it, the nap is over at once.
            return Waited::TimedOut;
        }
        let end = Instant::now() + NAP;
        self.sleeper.signal.sleep_until(Some(deadline.map_or(end, |deadline| deadline.min(end))))
    }

    /// Sleeps once.
    fn sleep(&self, waits: &Waits, deadline: Option<Instant>, watch: Option<Watch<'_>>) -> Woken {
        let (lock, sleeper) = (self.lock, &self.sleeper);
        let mut has_holder_ended = false;
        let queued = waits.queue_up(lock.key(), sleeper, watch.map(|awaited| awaited()), |idents| {
            let announced = self.announce();
            // A wait with a time limit just lasts that long.
            has_holder_ended = watch.is_some() && announced.is_some_and(|holder| !idents.contains_key(&holder));
            announced.is_some() && !has_holder_ended
        });
        match queued {
            QueuedUp::Deadlock(deadlock) => return Woken::Deadlock(deadlock),
            QueuedUp::LookAgain if has_holder_ended => return Woken::HolderEnded,
            QueuedUp::LookAgain => return Woken::Look,
            QueuedUp::Yes => {}
        }
        let waited = sleeper.signal.sleep_until(deadline);
        match waits.leave_queue(lock.key(), sleeper) {
            Left::Handed => {
                lock.tally.count();
                self.count();
                Woken::Acquired
            }
            // The call must not be lost: it may be the only one for those who still sleep.
            Left::Called => {
                sleeper.signal.try_take();
                Woken::Look
            }
            Left::Unasked => match waited {
                Waited::Ready => Woken::Look,
                Waited::TimedOut => Woken::TimedOut,
                Waited::Interrupted => Woken::Interrupted,
            },
        }
    }

    /// Marks the lock as one on which somebody sleeps, under the graph's lock. Gives its holder; `None`: it is free.
    fn announce(&self) -> Option<ThreadNumber> {
        let mut word = self.lock.word.load(Ordering::Relaxed);
        loop {
            let holder = match holder_in(word) {
                None if is_mutant(Mutant::SleepBesideAFreeLock) => self.sleeper.thread,
                found => found.filter(|holder| !self.lock.was_freed_by_fork(*holder))?,
            };
            if word & QUEUED != 0 {
                return Some(holder);
            }
            match self.lock.word.compare_exchange_weak(word, word | QUEUED, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(holder),
                Err(now) => word = now,
            }
        }
    }
}

/// A lock that its holder may take again; it is free when it has been released as often.
#[derive(Debug, Default)]
pub struct ReentrantRawLock {
    raw: RawLock,
    /// How often the holder has it. Read and written by the holder alone.
    depth: PlainU64,
}

impl ReentrantRawLock {
    /// A free lock.
    pub fn new() -> Self {
        Self::default()
    }

    /// As [`RawLock::guarding`].
    pub fn guarding() -> Self {
        Self { raw: RawLock::guarding(), depth: PlainU64::new(0) }
    }

    /// The lock beneath: to wait for it, and for its figures.
    pub fn raw(&self) -> &RawLock {
        &self.raw
    }

    /// Takes the lock, once more if the thread `me`, which is the calling one, has it.
    #[inline]
    pub fn try_acquire(&self, me: ThreadNumber) -> bool {
        if self.raw.is_held_by(me) {
            self.depth.store(self.depth.load(Relaxed) + 1, Relaxed);
            self.raw.tally.count();
            return true;
        }
        let is_taken = self.raw.try_acquire(me);
        if is_taken {
            self.depth.store(1, Relaxed);
        }
        is_taken
    }

    /// How often the thread `me`, which is the calling one, has the lock.
    pub fn depth(&self, me: ThreadNumber) -> u64 {
        if self.raw.is_held_by(me) { self.depth.load(Relaxed) } else { 0 }
    }

    /// How often its holder, which is the calling thread, has it.
    #[inline]
    pub fn depth_of_holder(&self) -> u64 {
        self.depth.load(Relaxed)
    }

    /// Sets how often the calling thread, which holds the lock, has it.
    pub fn set_depth(&self, depth: u64) {
        self.depth.store(depth, Relaxed);
    }

    /// Gives the lock up once.
    ///
    /// # Errors
    /// The thread `me`, which is the calling one, does not hold it.
    #[inline]
    pub fn release(&self, me: ThreadNumber) -> Result<(), NotHeld> {
        match self.depth(me) {
            0 => Err(NotHeld { holder: self.raw.holder() }),
            1 => self.raw.release(me),
            depth => {
                self.depth.store(depth - 1, Relaxed);
                Ok(())
            }
        }
    }
}
