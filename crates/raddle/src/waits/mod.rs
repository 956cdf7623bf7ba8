//! Who waits for what: the wait-for graph of untimed waits, and the queues of those who sleep on locks.
//!
//! A thread that is about to sleep without a time limit registers here what it waits for, and looks whether that closes a
//! circle; if it does, it gets a [`Deadlock`] in place of the sleep. Nothing is registered, and no lock taken, by whoever
//! does not have to sleep.
//!
//! The look is exact. It runs under the lock under which waits are registered and withdrawn, so a registered thread stays
//! inside its wait meanwhile: it releases no lock and ends no task. What a wait depends on is told by what is awaited
//! ([`Awaited::held_up_by`]): one thread (the holder of a lock, the runner of a task) or any of several (the workers of a
//! pool, for a task in its queue). Threads that can still go on are taken out of the set until none is left that can; who
//! remains waits for ever. The last thread that such a set needs is the one that registers, so its own look finds it.
//!
//! Not in the graph are the waits that have no way to fail: of Rust programs [`wait`](crate::wait), `as_completed`, scopes, and
//! the end of an executor that is dropped. A thread in one of these counts as one that may go on.
//!
//! Invariant: user code runs under this lock neither when something is called nor when something is dropped.

mod deadlock;
mod number;

pub use deadlock::{Deadlock, Link};
pub(crate) use number::NUMBER_BITS;
pub use number::ThreadNumber;

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering as Std, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::mutant::{Mutant, is_mutant};
use crate::os;
use crate::primitives::Mutex;
use crate::signal::{Drive, Signal, Waited};

/// Something that a thread can wait for without a time limit.
pub trait Awaited: Send + Sync {
    /// The threads on which it depends, if it cannot come while all threads that are [stuck](Look::is_stuck) stay where
    /// they are; `None` if it may come all the same, or if that is not known.
    ///
    /// It is called under the lock of the graph: it must be short, and call and drop nothing of a user's. If it gives
    /// threads for some set of stuck ones, it must do so for every larger set.
    fn held_up_by(&self, look: &Look<'_>) -> Option<Vec<ThreadNumber>>;

    /// What it is, for people. Called without any lock, while the threads of the circle still wait.
    fn describe(&self) -> Description;
}

/// What is awaited, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// `lock "accounts"`, `a task`.
    pub what: String,
    /// The line of source at which a lock was taken.
    pub taken_at: Option<String>,
}

/// The workers of a pool, seen from a task in its queue.
pub(crate) trait Crew: Send + Sync {
    /// As [`Awaited::held_up_by`], for a task that no worker has begun.
    fn held_up_by(&self, look: &Look<'_>) -> Option<Vec<ThreadNumber>>;
    /// The thread that runs one item of a batch.
    fn runner_of(&self, batch: usize, index: usize) -> Option<ThreadNumber>;
}

/// One look at the graph, with an assumption about who is stuck.
pub struct Look<'a> {
    stuck: &'a dyn Fn(ThreadNumber) -> bool,
    crews: &'a HashMap<u64, Weak<dyn Crew>>,
    /// What the look has got hold of: it may be the last to hold it, and lets go after the lock has been released.
    held: &'a RefCell<Vec<Arc<dyn Crew>>>,
    /// What holds up the queue of a pool: the same for all tasks in it.
    queues: RefCell<Vec<(u64, Option<Vec<ThreadNumber>>)>>,
}

impl fmt::Debug for Look<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Look").finish_non_exhaustive()
    }
}

impl Look<'_> {
    /// Whether the thread is assumed to stay where it is.
    pub fn is_stuck(&self, thread: ThreadNumber) -> bool {
        (self.stuck)(thread)
    }

    /// `held_up_by` of what depends on one thread.
    pub fn by_one(&self, thread: Option<ThreadNumber>) -> Option<Vec<ThreadNumber>> {
        thread.filter(|t| self.is_stuck(*t)).map(|t| vec![t])
    }

    /// `held_up_by` of a task that no worker of a pool has begun.
    pub(crate) fn by_queue_of(&self, executor: u64) -> Option<Vec<ThreadNumber>> {
        if let Some((_, known)) = self.queues.borrow().iter().find(|(known, _)| *known == executor) {
            return known.clone();
        }
        let found = self.crew(executor).and_then(|crew| crew.held_up_by(self));
        self.queues.borrow_mut().push((executor, found.clone()));
        found
    }

    /// The thread that runs an item of a batch in a pool.
    pub(crate) fn runner_of(&self, executor: u64, batch: usize, index: usize) -> Option<ThreadNumber> {
        self.crew(executor)?.runner_of(batch, index)
    }

    fn crew(&self, executor: u64) -> Option<Arc<dyn Crew>> {
        let crew = self.crews.get(&executor)?.upgrade()?;
        self.held.borrow_mut().push(Arc::clone(&crew));
        Some(crew)
    }
}

/// A registered wait.
struct Entry {
    ident: u64,
    name: Option<String>,
    awaited: Arc<dyn Awaited>,
}

/// How long a thread waits for a lock before it is given it directly. Until then whoever runs may take it first, which saves
/// a switch: with 1 ms, two threads that hash 64 KB under one lock took 8 % longer.
const PATIENCE: Duration = Duration::from_millis(10);

/// A thread that sleeps, or is about to, until a lock is released.
#[derive(Debug)]
pub(crate) struct Sleeper {
    pub(crate) thread: ThreadNumber,
    pub(crate) signal: Signal,
    /// Since when it wants the lock.
    pub(crate) since: Instant,
    /// Written and read under the graph's lock.
    is_handed: AtomicBool,
    has_been_called: AtomicBool,
}

impl Sleeper {
    pub(crate) fn new(thread: ThreadNumber) -> Self {
        Self {
            thread,
            signal: Signal::new(),
            since: Instant::now(),
            is_handed: AtomicBool::new(false),
            has_been_called: AtomicBool::new(false),
        }
    }

    /// Whether it is given the lock now, so that others do not always come first.
    pub(crate) fn is_out_of_patience(&self) -> bool {
        // A model has no time: there it is the second call.
        if cfg!(loom) { self.has_been_called.load(Relaxed) } else { self.since.elapsed() > PATIENCE }
    }
}

/// How a thread came out of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// By itself: nobody had called it.
    Unasked,
    /// It was called: the lock has been released.
    Called,
    /// It was given the lock.
    Handed,
}

/// What [`Waits::queue_up`] found.
#[derive(Debug)]
pub(crate) enum QueuedUp {
    /// The thread is in the queue, and may sleep.
    Yes,
    /// The lock has changed: look at it again.
    LookAgain,
    /// It would never be woken.
    Deadlock(Deadlock),
}

#[derive(Default)]
struct Inner {
    waiting: HashMap<ThreadNumber, Entry>,
    /// By the address of the lock.
    queues: HashMap<usize, Queue>,
    /// What the system calls the threads that are alive and have a number.
    idents: HashMap<ThreadNumber, u64>,
    crews: HashMap<u64, Weak<dyn Crew>>,
}

/// Those who sleep on one lock.
#[derive(Default)]
struct Queue {
    /// The longest waiter first.
    sleepers: VecDeque<Arc<Sleeper>>,
    /// Whether somebody has been called and is not there yet. It will look at the lock, so until then nobody else need be
    /// woken: where the lock is taken and released often, most would come in vain.
    is_one_on_the_way: bool,
}

impl Queue {
    fn is_needed(&self) -> bool {
        self.is_one_on_the_way || !self.sleepers.is_empty()
    }
}

/// The graph and the queues of one process.
pub(crate) struct Waits {
    generation: u32,
    inner: Mutex<Inner>,
}

/// A forked child gets one of its own: in the parent's the lock may be held, and the sleepers are not here.
static OF_PROCESS: AtomicPtr<Waits> = AtomicPtr::new(std::ptr::null_mut());

impl Waits {
    pub(crate) fn new() -> Self {
        Self { generation: os::fork_generation(), inner: Mutex::new(Inner::default()) }
    }

    /// The one of this process. It is made on first use and lives as long as the process.
    pub(crate) fn of_process() -> &'static Self {
        let present = OF_PROCESS.load(Std::Acquire);
        // SAFETY: the pointer is null or comes from the leaked box below, which is never freed.
        match unsafe { present.as_ref() } {
            Some(waits) if waits.generation == os::fork_generation() => waits,
            _ => Self::replace(present),
        }
    }

    #[cold]
    fn replace(old: *mut Self) -> &'static Self {
        let made = Self::new();
        // The thread that forked got its number in the parent.
        if let Some(survivor) = ThreadNumber::from_bits(os::survivor_of_fork()) {
            made.thread_begins(survivor, os::survivors_ident());
        }
        let made = Box::into_raw(Box::new(made));
        match OF_PROCESS.compare_exchange(old, made, Std::AcqRel, Std::Acquire) {
            // SAFETY: it comes from a box that is leaked from here on.
            Ok(_) => unsafe { &*made },
            Err(others) => {
                // SAFETY: nobody else has seen it.
                drop(unsafe { Box::from_raw(made) });
                // SAFETY: what another thread put there comes from a leaked box too.
                unsafe { &*others }
            }
        }
    }

    pub(crate) fn thread_begins(&self, thread: ThreadNumber, ident: u64) {
        self.inner.lock().idents.insert(thread, ident);
    }

    /// Whoever waits for it looks again: what it holds will not be released.
    pub(crate) fn thread_ended(&self, thread: ThreadNumber) {
        let held = RefCell::new(Vec::new());
        let mut inner = self.inner.lock();
        inner.idents.remove(&thread);
        let stuck = |other| other == thread;
        let look = inner.look(&stuck, &held);
        for sleeper in inner.queues.values().flat_map(|queue| &queue.sleepers) {
            let entry = inner.waiting.get(&sleeper.thread);
            let waits_for_it = entry.is_some_and(|entry| entry.awaited.held_up_by(&look).is_some());
            if waits_for_it && !is_mutant(Mutant::EndQuietly) {
                sleeper.signal.set();
            }
        }
    }

    /// What the system calls a thread that is alive.
    pub(crate) fn ident_of(&self, thread: ThreadNumber) -> Option<u64> {
        self.inner.lock().idents.get(&thread).copied()
    }

    pub(crate) fn add_crew(&self, executor: u64, crew: Weak<dyn Crew>) {
        self.inner.lock().crews.insert(executor, crew);
    }

    pub(crate) fn remove_crew(&self, executor: u64) {
        let crew = self.inner.lock().crews.remove(&executor);
        drop(crew);
    }

    /// Registers that the calling thread waits for `awaited`, until the registration is dropped.
    pub(crate) fn register(&self, awaited: Arc<dyn Awaited>) -> Result<Registered<'_>, Deadlock> {
        let thread = ThreadNumber::current();
        let entry = Entry::of_caller(awaited);
        let held = RefCell::new(Vec::new());
        let mut inner = self.inner.lock();
        let before = inner.waiting.insert(thread, entry);
        let deadlock = inner.deadlock_of(thread, &held);
        if deadlock.is_none() {
            drop(inner);
            drop(before);
            return Ok(Registered { waits: self, thread });
        }
        let entry = inner.waiting.remove(&thread);
        drop(inner);
        drop((before, entry));
        deadlock.map_or_else(|| unreachable!("it has just been seen"), Err)
    }

    fn withdraw(&self, thread: ThreadNumber) {
        let entry = self.inner.lock().waiting.remove(&thread);
        drop(entry);
    }

    /// Puts the calling thread into the queue of a lock, unless `announce`, which sees the threads that are alive, finds that
    /// it must not sleep. A thread that was called before and came too late gets its old place.
    pub(crate) fn queue_up(
        &self,
        lock: usize,
        sleeper: &Arc<Sleeper>,
        awaited: Option<Arc<dyn Awaited>>,
        announce: impl FnOnce(&HashMap<ThreadNumber, u64>) -> bool,
    ) -> QueuedUp {
        let mut entry = awaited.map(Entry::of_caller);
        let held = RefCell::new(Vec::new());
        let mut inner = self.inner.lock();
        if !announce(&inner.idents) {
            return QueuedUp::LookAgain;
        }
        let queue = inner.queues.entry(lock).or_default();
        let place = queue.sleepers.partition_point(|other| other.since <= sleeper.since);
        queue.sleepers.insert(place, Arc::clone(sleeper));
        let Some(entry) = entry.take().filter(|_| !is_mutant(Mutant::SleepUnregistered)) else { return QueuedUp::Yes };
        inner.waiting.insert(sleeper.thread, entry);
        let Some(deadlock) = inner.deadlock_of(sleeper.thread, &held) else { return QueuedUp::Yes };
        inner.take_from_queue(lock, sleeper);
        let entry = inner.waiting.remove(&sleeper.thread);
        drop(inner);
        drop(entry);
        QueuedUp::Deadlock(deadlock)
    }

    /// Ends the calling thread's wait in a queue, however it was woken.
    pub(crate) fn leave_queue(&self, lock: usize, sleeper: &Sleeper) -> Left {
        let mut inner = self.inner.lock();
        let entry = inner.waiting.remove(&sleeper.thread);
        let was_queued = inner.take_from_queue(lock, sleeper);
        let is_handed = sleeper.is_handed.swap(false, Relaxed);
        if !was_queued && !is_handed && !is_mutant(Mutant::StayOnTheWay) {
            inner.one_has_arrived(lock);
        }
        drop(inner);
        drop(entry);
        match (was_queued, is_handed) {
            (_, true) => Left::Handed,
            (true, false) => Left::Unasked,
            (false, false) => Left::Called,
        }
    }

    /// Calls the first of those who sleep on a lock. `settle` writes the lock's word, under the graph's lock: it is told
    /// who is called and whether more are left, and says whether it gives the lock to the called one.
    pub(crate) fn call_next(&self, lock: usize, settle: impl FnOnce(Option<&Sleeper>, bool) -> bool) {
        let mut inner = self.inner.lock();
        let (called, has_more) = match inner.queues.get_mut(&lock) {
            Some(queue) if queue.is_one_on_the_way => (None, !queue.sleepers.is_empty()),
            Some(queue) => (queue.sleepers.pop_front(), !queue.sleepers.is_empty()),
            None => (None, false),
        };
        let gives = settle(called.as_deref(), has_more);
        if let Some(sleeper) = &called {
            sleeper.has_been_called.store(true, Relaxed);
        }
        if let Some(queue) = inner.queues.get_mut(&lock) {
            queue.is_one_on_the_way |= called.is_some() && !gives;
            if !queue.is_needed() {
                inner.queues.remove(&lock);
            }
        }
        // Who has been given the lock waits for nothing any more.
        let entry = match &called {
            Some(sleeper) if gives => {
                sleeper.is_handed.store(true, Relaxed);
                inner.waiting.remove(&sleeper.thread)
            }
            _ => None,
        };
        drop(inner);
        drop(entry);
        if let Some(sleeper) = called
            && !is_mutant(Mutant::CallNobody)
        {
            sleeper.signal.set();
        }
    }
}

impl Entry {
    fn of_caller(awaited: Arc<dyn Awaited>) -> Self {
        let name = std::thread::current().name().map(String::from);
        Self { ident: os::thread_ident(), name, awaited }
    }
}

/// What a look has found so far.
struct Reach {
    stuck: HashSet<ThreadNumber>,
    needed_by: HashMap<ThreadNumber, Vec<ThreadNumber>>,
    can_go_on: Vec<ThreadNumber>,
}

impl Inner {
    /// Takes the thread out of the queue; tells whether it was there.
    fn take_from_queue(&mut self, lock: usize, sleeper: &Sleeper) -> bool {
        let Some(queue) = self.queues.get_mut(&lock) else { return false };
        let place = queue.sleepers.iter().position(|other| std::ptr::eq(&**other, sleeper));
        let taken = place.and_then(|place| queue.sleepers.remove(place));
        if !queue.is_needed() {
            self.queues.remove(&lock);
        }
        taken.is_some()
    }

    /// Who was called is there, and looks at the lock next.
    fn one_has_arrived(&mut self, lock: usize) {
        let Some(queue) = self.queues.get_mut(&lock) else { return };
        queue.is_one_on_the_way = false;
        if !queue.is_needed() {
            self.queues.remove(&lock);
        }
    }

    /// The circle through `thread`, if it is stuck now that it waits.
    fn deadlock_of(&self, thread: ThreadNumber, held: &RefCell<Vec<Arc<dyn Crew>>>) -> Option<Deadlock> {
        // Usually what is awaited depends on a thread that runs: one question answers it.
        self.ask(thread, &|other| self.waiting.contains_key(&other), held)?;
        let Reach { mut stuck, needed_by, mut can_go_on } = self.within_reach(thread, held);
        // Who can go on is taken out, and whoever needs it is asked once more.
        while let Some(free) = can_go_on.pop() {
            if free == thread {
                return None;
            }
            stuck.remove(&free);
            for other in needed_by.get(&free).into_iter().flatten().filter(|other| stuck.contains(other)) {
                if self.ask(*other, &|t| stuck.contains(&t), held).is_none() {
                    can_go_on.push(*other);
                }
            }
        }
        self.circle(thread, &stuck, held)
    }

    fn look<'a>(&'a self, stuck: &'a dyn Fn(ThreadNumber) -> bool, held: &'a RefCell<Vec<Arc<dyn Crew>>>) -> Look<'a> {
        Look { stuck, crews: &self.crews, held, queues: RefCell::default() }
    }

    fn ask(
        &self,
        thread: ThreadNumber,
        stuck: &dyn Fn(ThreadNumber) -> bool,
        held: &RefCell<Vec<Arc<dyn Crew>>>,
    ) -> Option<Vec<ThreadNumber>> {
        let entry = self.waiting.get(&thread)?;
        entry.awaited.held_up_by(&self.look(stuck, held))
    }

    /// All waiting threads on which `thread` depends, itself included.
    fn within_reach(&self, thread: ThreadNumber, held: &RefCell<Vec<Arc<dyn Crew>>>) -> Reach {
        let mut reach = Reach { stuck: HashSet::from([thread]), needed_by: HashMap::new(), can_go_on: Vec::new() };
        let mut frontier = vec![thread];
        while let Some(next) = frontier.pop() {
            let Some(needs) = self.ask(next, &|other| self.waiting.contains_key(&other), held) else {
                reach.can_go_on.push(next);
                continue;
            };
            for needed in needs {
                reach.needed_by.entry(needed).or_default().push(next);
                if reach.stuck.insert(needed) {
                    frontier.push(needed);
                }
            }
        }
        reach
    }

    /// The shortest circle through `thread`. There is one, for without this thread's wait nobody was stuck: whatever it depends
    /// on depends on it.
    fn circle(
        &self,
        thread: ThreadNumber,
        stuck: &HashSet<ThreadNumber>,
        held: &RefCell<Vec<Arc<dyn Crew>>>,
    ) -> Option<Deadlock> {
        let needs = |t| self.ask(t, &|other| stuck.contains(&other), held).unwrap_or_default();
        let mut reached_from = HashMap::new();
        let mut frontier = VecDeque::from([thread]);
        'search: while let Some(next) = frontier.pop_front() {
            for needed in needs(next) {
                if let std::collections::hash_map::Entry::Vacant(place) = reached_from.entry(needed) {
                    place.insert(next);
                    frontier.push_back(needed);
                }
                if needed == thread {
                    break 'search;
                }
            }
        }
        // From the thread backwards, until the thread again.
        let mut backwards = Vec::new();
        let mut at = thread;
        while let Some(from) = reached_from.get(&at) {
            backwards.push(*from);
            at = *from;
            if at == thread {
                break;
            }
        }
        let links: Arc<[_]> = backwards.iter().rev().filter_map(|t| self.link(*t, &needs(*t))).collect();
        (!links.is_empty()).then_some(Deadlock(links))
    }

    fn link(&self, thread: ThreadNumber, needs: &[ThreadNumber]) -> Option<Link> {
        let entry = self.waiting.get(&thread)?;
        Some(Link {
            thread,
            ident: entry.ident,
            name: entry.name.clone(),
            awaited: Arc::clone(&entry.awaited),
            held_by: needs.iter().filter_map(|t| self.waiting.get(t)).map(|entry| entry.ident).collect(),
        })
    }
}

/// The calling thread is registered as waiting; dropped, it is not any more.
#[must_use = "the wait is registered as long as this lives"]
pub(crate) struct Registered<'a> {
    waits: &'a Waits,
    thread: ThreadNumber,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.waits.withdraw(self.thread);
    }
}

/// Tells what is awaited, if the wait turns out to be a sleep.
pub type Watch<'a> = &'a dyn Fn() -> Arc<dyn Awaited>;

/// Blocks a caller until `signal` is set. With a `watch`, which a wait with a time limit must not have, the wait is part of
/// the graph: `deadline` is then only the moment at which the caller wants to look at something else.
///
/// # Errors
/// The wait closes a circle of threads that wait for each other.
pub(crate) fn wait_watched(
    signal: &Signal,
    deadline: Option<Instant>,
    watch: Option<Watch<'_>>,
) -> Result<Waited, Deadlock> {
    let Some(awaited) = watch else { return Ok(signal.wait_as_caller(deadline)) };
    let waited = signal.wait_as_caller_in(deadline, || Waits::of_process().register(awaited()));
    // Somebody outside the circle, who cancelled what was awaited, may have come in between.
    waited.or_else(|deadlock| if signal.try_take() { Ok(Waited::Ready) } else { Err(deadlock) })
}

/// As [`wait_watched`]; if there is somewhere to [drive](Drive), the thread does there what it waits for, and is in no circle.
pub(crate) fn wait_driving(
    signal: &Signal,
    deadline: Option<Instant>,
    watch: Option<Watch<'_>>,
    drive: Option<&dyn Drive>,
) -> Result<Waited, Deadlock> {
    match drive.and_then(|drive| drive.drive(signal, deadline)) {
        Some(waited) => Ok(waited),
        None => wait_watched(signal, deadline, watch),
    }
}

/// Several things, of which all or one must come.
pub(crate) struct Several {
    pub(crate) awaited: Vec<Arc<dyn Awaited>>,
    pub(crate) needs_all: bool,
}

impl Awaited for Several {
    fn held_up_by(&self, look: &Look<'_>) -> Option<Vec<ThreadNumber>> {
        let answers: Vec<_> = self.awaited.iter().map(|one| one.held_up_by(look)).collect();
        let is_stuck =
            if self.needs_all { answers.iter().any(Option::is_some) } else { answers.iter().all(Option::is_some) };
        is_stuck.then(|| answers.into_iter().flatten().flatten().collect::<BTreeSet<_>>().into_iter().collect())
    }

    fn describe(&self) -> Description {
        let which = if self.needs_all { "all" } else { "the first" };
        Description { what: format!("{which} of {} tasks", self.awaited.len()), taken_at: None }
    }
}
