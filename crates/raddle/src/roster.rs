//! The queue and who works on it (submit -> QUEUE -> worker -> result): who sleeps, who is on the way, who is wanted.
//!
//! The costly thing is a wake-up, and with an interpreter that lets one thread run at a time most wake-ups are in
//! vain. So at most one worker is *on standby*: awake, on its way to the queue, but not there yet. A submitter wakes
//! or starts a worker only if nobody is on standby; the standby worker, when it gets to the queue, takes one task and
//! has the next worker woken if there is more. While tasks are short, one worker drains the queue and nobody is woken.
//! When a task blocks, the standby worker takes over.
//!
//! | state of a seat | entered | left |
//! |---|---|---|
//! | standby | woken or started by `appoint`; `look` gave it nothing; it spins (`rest`) | `look` gives it an entry; `step_aside`; it falls asleep |
//! | at work | `look` gave it an entry | `look` gives it none |
//! | asleep | `rest` found nothing, and nobody must hurry | `appoint` or `close` |
//! | gone | `rest` after `close`; `leave`; `abandon` | never |
//!
//! Everything but the depth is guarded by one lock, so the rules are short:
//!
//! 1. A push that finds no standby appoints one, if a worker sleeps or may still be started.
//! 2. Whoever takes an entry and leaves work behind appoints the next, unless there is a standby.
//! 3. A standby gives the role up only under the lock, having looked at the queue: a push before that is seen by it, a
//!    push after it finds the role free. Dropping either re-check loses a wake-up; the model in `models.rs` shows both.
//!
//! `depth` is written under the lock and read without it by a spinning standby: a stale value only costs time, because
//! the spin ends with a look under the lock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::mutant::{Mutant, is_mutant};
use crate::primitives::{AtomicUsize, Mutex, Ordering};
use crate::signal::{AdaptiveSpin, Signal, Waited, is_a_caller_blocked};

/// Something in the queue.
pub(crate) trait Entry: Sized {
    /// A handle for one more worker, if the entry stays in the queue while several work on it; `None` if it is for one.
    fn share(&self) -> Option<Self>;
    /// Whether more than one worker would find something to begin in it.
    fn is_for_several(&self) -> bool {
        false
    }
    /// Whether nothing of it is left to begin.
    fn is_spent(&self) -> bool;
}

/// A worker's place: where it sleeps, and whether it is on standby. The role changes under the roster's lock only.
#[derive(Debug)]
pub(crate) struct Seat {
    /// The number of the worker, in the order of their starts.
    pub(crate) number: usize,
    signal: Signal,
    is_standby: AtomicBool,
}

/// What the caller of the roster has to do, after the lock has been released.
#[derive(Debug)]
#[must_use = "a worker that is not called never comes"]
pub(crate) enum Call {
    /// Nothing: everybody needed is on the way.
    Nobody,
    /// Wake this sleeper.
    Wake(Arc<Seat>),
    /// Start a worker for this seat.
    Start(Arc<Seat>),
}

/// Why the queue is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It takes entries.
    Open,
    /// It has been shut down; what is queued is still run.
    Closed,
    /// A worker could not be initialised.
    Broken(Arc<str>),
}

/// What a worker without an entry does next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// Look at the queue again.
    Look,
    /// Leave for good.
    Leave,
}

#[derive(Debug)]
struct Inner<E> {
    queue: VecDeque<E>,
    /// The last to fall asleep is the first to wake: its caches are warm.
    sleepers: Vec<Arc<Seat>>,
    has_standby: bool,
    workers: usize,
    /// Workers that are being made ready.
    preparing: usize,
    started: usize,
    phase: Phase,
    longest: usize,
    passed_over: u64,
    /// Who waits for the last worker to be gone.
    mourners: Vec<Arc<Signal>>,
}

/// The queue, its workers and their states.
#[derive(Debug)]
pub(crate) struct Roster<E> {
    inner: Mutex<Inner<E>>,
    depth: AtomicUsize,
    max_workers: usize,
    spin: AdaptiveSpin,
}

/// Figures about a roster, taken at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Snapshot {
    /// Workers started and not gone.
    pub(crate) workers: usize,
    /// The most entries that were queued at once.
    pub(crate) longest: usize,
    /// Entries for one worker that were spent before one came to them.
    pub(crate) passed_over: u64,
}

impl<E: Entry> Roster<E> {
    /// An open, empty roster that starts workers on demand.
    pub(crate) fn new(max_workers: usize) -> Self {
        let inner = Inner {
            queue: VecDeque::new(),
            sleepers: Vec::new(),
            has_standby: false,
            workers: 0,
            preparing: 0,
            started: 0,
            phase: Phase::Open,
            longest: 0,
            passed_over: 0,
            mourners: Vec::new(),
        };
        Self { inner: Mutex::new(inner), depth: AtomicUsize::new(0), max_workers, spin: AdaptiveSpin::new() }
    }

    /// Appends an entry. `accept` runs under the lock once the entry is sure to be taken: it numbers it.
    ///
    /// # Errors
    /// Hands the entry back if the roster is not open, with the reason.
    pub(crate) fn push(&self, entry: E, accept: impl FnOnce(&E)) -> Result<Call, (Phase, E)> {
        let mut inner = self.inner.lock();
        if inner.phase != Phase::Open {
            return Err((inner.phase.clone(), entry));
        }
        accept(&entry);
        inner.queue.push_back(entry);
        inner.longest = inner.longest.max(inner.queue.len());
        self.depth.store(inner.queue.len(), Ordering::Release);
        Ok(self.appoint(&mut inner))
    }

    /// Gives the worker at `seat` the next entry, if there is one: it is no standby then. A worker that is given none is
    /// about to rest, and will look once more before it sleeps: until then it is the standby, unless there is another,
    /// so that a task that comes meanwhile wakes and starts nobody.
    pub(crate) fn look(&self, seat: &Seat) -> Option<(E, Call)> {
        let mut spent = Spent::new();
        let mut inner = self.inner.lock();
        Self::stand_down(&mut inner, seat);
        let entry = Self::next_entry(&mut inner, &mut spent);
        self.depth.store(inner.queue.len(), Ordering::Release);
        let Some(entry) = entry else {
            Self::stand_by(&mut inner, seat);
            return None;
        };
        let call = self.appoint_if_needed(&mut inner, &mut spent);
        Some((entry, call))
    }

    /// Gives the role of the standby up, before the worker is made ready, which may take long. Another is appointed only
    /// if more is queued than the workers that are being made ready will take.
    pub(crate) fn step_aside(&self, seat: &Seat) -> Call {
        let mut spent = Spent::new();
        let mut inner = self.inner.lock();
        Self::stand_down(&mut inner, seat);
        inner.preparing += 1;
        let is_enough = inner.queue.len() <= inner.preparing && !inner.queue.iter().any(Entry::is_for_several);
        if is_enough { Call::Nobody } else { self.appoint_if_needed(&mut inner, &mut spent) }
    }

    /// The worker that stepped aside is ready, or never will be.
    pub(crate) fn step_back(&self) {
        self.inner.lock().preparing -= 1;
    }

    /// Blocks until the worker should look again, or leave. The interpreter must have been released.
    ///
    /// `waits_for_caller`: a task seen while spinning is left for a moment, until its submitter has released the
    /// interpreter too, for otherwise the worker would fall asleep on it.
    pub(crate) fn rest(&self, seat: &Arc<Seat>, waits_for_caller: bool) -> Rest {
        let mut may_spin = self.spin.is_worthwhile();
        loop {
            match self.settle(seat, may_spin) {
                Settled::Return(rest) => return rest,
                Settled::Spin => {
                    may_spin = false;
                    let has_come = || self.depth.load(Ordering::Acquire) > 0;
                    if self.spin.spin(|| has_come() && (!waits_for_caller || is_a_caller_blocked())) {
                        return Rest::Look;
                    }
                }
                // A signal handler may run on this thread: the seat stays in the list, so the sleep goes on.
                Settled::Sleep => while seat.signal.sleep_until(None) == Waited::Interrupted {},
            }
        }
    }

    /// How many workers there are, if no further one could be started and none sleeps.
    pub(crate) fn workers_if_all_begun(&self) -> Option<usize> {
        let inner = self.inner.lock();
        (inner.workers >= self.max_workers && inner.sleepers.is_empty()).then_some(inner.workers)
    }

    /// Ends the taking of entries; workers leave when the queue is empty. Returns whom to wake.
    pub(crate) fn close(&self, phase: Phase) -> Vec<Arc<Seat>> {
        let mut inner = self.inner.lock();
        if inner.phase == Phase::Open || matches!(phase, Phase::Broken(_)) {
            inner.phase = phase;
        }
        Self::tell_mourners(&mut inner);
        std::mem::take(&mut inner.sleepers)
    }

    /// Takes everything out of the queue.
    pub(crate) fn drain(&self) -> Vec<E> {
        let mut inner = self.inner.lock();
        self.depth.store(0, Ordering::Release);
        inner.queue.drain(..).collect()
    }

    /// The worker of `seat` is gone without having rested: it could not be started, or not be initialised.
    pub(crate) fn leave(&self, seat: &Seat) {
        let mut inner = self.inner.lock();
        Self::stand_down(&mut inner, seat);
        Self::count_out(&mut inner);
    }

    /// A worker has been given up while at work; another may take its place.
    pub(crate) fn abandon(&self) -> Call {
        let mut spent = Spent::new();
        let mut inner = self.inner.lock();
        inner.workers -= 1;
        let call = self.appoint_if_needed(&mut inner, &mut spent);
        Self::tell_mourners(&mut inner);
        call
    }

    /// A signal that is set when the roster is not open any more and its last worker is gone.
    pub(crate) fn ended(&self) -> Arc<Signal> {
        let signal = Arc::new(Signal::new());
        let mut inner = self.inner.lock();
        inner.mourners.push(Arc::clone(&signal));
        Self::tell_mourners(&mut inner);
        signal
    }

    /// The present phase.
    pub(crate) fn phase(&self) -> Phase {
        self.inner.lock().phase.clone()
    }

    /// Figures of this moment; `visit` sees every entry of the queue, under the lock.
    pub(crate) fn snapshot(&self, mut visit: impl FnMut(&E)) -> Snapshot {
        let inner = self.inner.lock();
        inner.queue.iter().for_each(&mut visit);
        Snapshot { workers: inner.workers, longest: inner.longest, passed_over: inner.passed_over }
    }

    fn settle(&self, seat: &Arc<Seat>, may_spin: bool) -> Settled {
        let mut spent = Spent::new();
        let mut inner = self.inner.lock();
        if Self::has_work(&mut inner, &mut spent) && !is_mutant(Mutant::SleepWithoutLooking) {
            return Settled::Return(Rest::Look);
        }
        Self::stand_down(&mut inner, seat);
        if inner.phase != Phase::Open && !is_mutant(Mutant::SleepThroughClose) {
            Self::count_out(&mut inner);
            return Settled::Return(Rest::Leave);
        }
        if may_spin && Self::stand_by(&mut inner, seat) {
            return Settled::Spin;
        }
        inner.sleepers.push(Arc::clone(seat));
        Settled::Sleep
    }

    fn count_out(inner: &mut Inner<E>) {
        inner.workers -= 1;
        Self::tell_mourners(inner);
    }

    /// Setting a signal is a system call at most and calls nobody's code, so it may happen under the lock.
    fn tell_mourners(inner: &mut Inner<E>) {
        if inner.workers == 0 && inner.phase != Phase::Open {
            inner.mourners.drain(..).for_each(|signal| signal.set());
        }
    }

    fn appoint_if_needed(&self, inner: &mut Inner<E>, spent: &mut Spent<E>) -> Call {
        if is_mutant(Mutant::DoNotPassTheRole) || !Self::has_work(inner, spent) {
            return Call::Nobody;
        }
        self.appoint(inner)
    }

    fn appoint(&self, inner: &mut Inner<E>) -> Call {
        if inner.has_standby {
            return Call::Nobody;
        }
        let call = if let Some(seat) = inner.sleepers.pop() {
            Call::Wake(seat)
        } else if inner.workers < self.max_workers {
            let number = inner.started;
            inner.started += 1;
            inner.workers += 1;
            Call::Start(Arc::new(Seat { number, signal: Signal::new(), is_standby: AtomicBool::new(false) }))
        } else {
            return Call::Nobody;
        };
        if let Call::Wake(seat) | Call::Start(seat) = &call {
            seat.is_standby.store(true, Relaxed);
        }
        inner.has_standby = true;
        call
    }

    /// Makes the worker the standby, if there is no other.
    fn stand_by(inner: &mut Inner<E>, seat: &Seat) -> bool {
        let is_free = !inner.has_standby;
        if is_free {
            inner.has_standby = true;
            seat.is_standby.store(true, Relaxed);
        }
        is_free
    }

    fn stand_down(inner: &mut Inner<E>, seat: &Seat) {
        if seat.is_standby.swap(false, Relaxed) && !is_mutant(Mutant::KeepTheRole) {
            inner.has_standby = false;
        }
    }

    fn has_work(inner: &mut Inner<E>, spent: &mut Spent<E>) -> bool {
        while let Some(entry) = inner.queue.pop_front_if(|entry| entry.is_spent()) {
            inner.passed_over += u64::from(entry.share().is_none());
            spent.push(entry);
        }
        !inner.queue.is_empty()
    }

    fn next_entry(inner: &mut Inner<E>, spent: &mut Spent<E>) -> Option<E> {
        if !Self::has_work(inner, spent) {
            return None;
        }
        inner.queue.front().and_then(Entry::share).or_else(|| inner.queue.pop_front())
    }
}

/// Spent entries, to be dropped after the lock has been released (it is declared before the guard): dropping one may
/// run code of a user.
type Spent<E> = Vec<E>;

enum Settled {
    Return(Rest),
    Spin,
    Sleep,
}

impl Seat {
    /// Wakes the worker that sleeps here.
    pub(crate) fn wake(&self) {
        self.signal.set();
    }
}
