//! What a pool has done, counted by its workers without sharing a cache line between them.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::waits::ThreadNumber;

/// One worker's counts. Only its own thread adds (and the timer, once it has given the thread up), so a load and a store
/// do; others read at any time.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Record {
    pub(crate) number: usize,
    pub(crate) started: Count,
    pub(crate) done: Count,
    pub(crate) failed: Count,
    pub(crate) retried: Count,
    is_abandoned: AtomicBool,
    /// The thread, once it has begun; what it runs now, if that is an item of a batch; whether it is given up, and replaced,
    /// if what it runs takes too long. For the graph of waits.
    thread: AtomicU64,
    item: (AtomicUsize, AtomicUsize),
    has_limit: AtomicBool,
    /// Nanoseconds since `origin`, plus one, at which it began to be busy; 0 while it is idle.
    busy_since: AtomicU64,
    busy_total: AtomicU64,
    origin: Instant,
}

/// A counter with one writer.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed) + n, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Record {
    pub(crate) fn new(number: usize) -> Self {
        Self {
            number,
            started: Count::default(),
            done: Count::default(),
            failed: Count::default(),
            retried: Count::default(),
            is_abandoned: AtomicBool::new(false),
            thread: AtomicU64::new(0),
            item: (AtomicUsize::new(0), AtomicUsize::new(0)),
            has_limit: AtomicBool::new(false),
            busy_since: AtomicU64::new(0),
            busy_total: AtomicU64::new(0),
            origin: Instant::now(),
        }
    }

    pub(crate) fn ended(&self, failed: bool) {
        if failed { self.failed.add(1) } else { self.done.add(1) }
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.is_abandoned.load(Relaxed)
    }

    pub(crate) fn abandon(&self) {
        self.is_abandoned.store(true, Relaxed);
    }

    /// The calling thread is the worker.
    pub(crate) fn begins_on_this_thread(&self) {
        self.thread.store(ThreadNumber::current().bits(), Relaxed);
    }

    pub(crate) fn thread(&self) -> Option<ThreadNumber> {
        ThreadNumber::from_bits(self.thread.load(Relaxed))
    }

    /// The worker runs this item until it begins another, or has nothing to do.
    pub(crate) fn begins_item(&self, batch: usize, index: usize) {
        self.item.1.store(index, Relaxed);
        self.item.0.store(batch, Relaxed);
    }

    pub(crate) fn runs_item(&self, batch: usize, index: usize) -> bool {
        self.item.0.load(Relaxed) == batch && self.item.1.load(Relaxed) == index
    }

    pub(crate) fn set_limit(&self, has_limit: bool) {
        self.has_limit.store(has_limit, Relaxed);
    }

    pub(crate) fn has_limit(&self) -> bool {
        self.has_limit.load(Relaxed)
    }

    /// The worker begins to be busy, if it was not.
    pub(crate) fn work_begins(&self) {
        if self.busy_since.load(Relaxed) == 0 {
            self.busy_since.store(self.now() + 1, Relaxed);
        }
    }

    /// The worker has nothing to do.
    pub(crate) fn work_ends(&self) {
        let since = self.busy_since.swap(0, Relaxed);
        if since != 0 {
            let total = self.busy_total.load(Relaxed) + (self.now() + 1).saturating_sub(since);
            self.busy_total.store(total, Relaxed);
        }
    }

    pub(crate) fn busy(&self) -> Duration {
        let since = self.busy_since.load(Relaxed);
        let current = if since == 0 { 0 } else { (self.now() + 1).saturating_sub(since) };
        Duration::from_nanos(self.busy_total.load(Relaxed) + current)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// What a pool has done so far. Each figure is exact; together they are a picture of a moving thing.
///
/// ```
/// let pool = raddle::ThreadPoolExecutor::new(2);
/// pool.submit(|| 1).result().unwrap();
/// assert_eq!(pool.statistics().submitted, 1);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Statistics {
    /// Tasks given to the pool.
    pub submitted: u64,
    /// Tasks that a worker runs now.
    pub running: u64,
    /// Tasks that no worker has begun and nobody has cancelled.
    pub waiting: u64,
    /// Tasks that ended with a value.
    pub done: u64,
    /// Tasks that ended with an error, those that overran included.
    pub failed: u64,
    /// Tasks that were cancelled before they began.
    pub cancelled: u64,
    /// Attempts after a first one.
    pub retried: u64,
    /// Threads given up because their task overran its `task_timeout`.
    pub abandoned: u64,
    /// Workers alive, abandoned ones not counted.
    pub workers: usize,
    /// Time that the workers were busy, added up.
    pub busy: Duration,
    /// The most entries that were queued at once; one `map` is one entry.
    pub longest_queue: usize,
}
