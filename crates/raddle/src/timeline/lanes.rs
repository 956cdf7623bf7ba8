//! Who is recorded: threads, and worker processes by their executor and number.
//!
//! A thread may note its first event under a lock of an executor. There it must not ask for its [`ThreadNumber`], which it
//! would get under the lock of the graph of waits, where executors' locks are taken: so threads have numbers of the
//! recorders' own here, and the other is put down when the thread has come to have one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::os;
use crate::waits::ThreadNumber;

static NEXT_OWN: AtomicU64 = AtomicU64::new(1);

thread_local! {
    static OWN: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// A number of the calling thread that no other has had.
fn own_number() -> u64 {
    if OWN.get() == 0 {
        OWN.set(NEXT_OWN.fetch_add(1, Relaxed));
    }
    OWN.get()
}

/// A thread or a process while it is recorded.
#[derive(Debug)]
pub(super) struct LiveLane {
    pub(super) index: usize,
    /// The thread's number in the graph of waits, if that is known; 0: not.
    thread: AtomicU64,
    pub(super) tid: u32,
    pub(super) pid: Option<u32>,
    pub(super) thread_name: Option<String>,
    /// Whether it has run a task, and for whom: then the executor and the number of the worker, plus one (0: none).
    pub(super) has_run: AtomicBool,
    pub(super) executor: AtomicU64,
    pub(super) worker: AtomicU64,
    /// Whether it runs a task now.
    pub(super) is_running: AtomicBool,
}

impl LiveLane {
    /// It begins with a task.
    pub(super) fn begins(&self, executor: u64, worker: Option<usize>) {
        if !self.has_run.load(Relaxed) {
            self.executor.store(executor, Relaxed);
            self.worker.store(worker.map_or(0, |worker| worker as u64 + 1), Relaxed);
            self.has_run.store(true, Relaxed);
        }
        self.is_running.store(true, Relaxed);
    }

    /// Whether it is a thread that has come to have a number since it was noted.
    pub(super) fn lacks_number(&self) -> bool {
        self.thread.load(Relaxed) == 0 && os::THREAD_NUMBER.get() != 0
    }

    pub(super) fn ends(&self) {
        self.is_running.store(false, Relaxed);
    }

    pub(super) fn worker(&self) -> Option<u64> {
        self.worker.load(Relaxed).checked_sub(1)
    }
}

#[derive(Debug, Default)]
struct Known {
    all: Vec<Arc<LiveLane>>,
    /// By the recorders' own numbers, and by those of the graph of waits.
    own: HashMap<u64, usize>,
    threads: HashMap<ThreadNumber, usize>,
    workers: HashMap<(u64, usize), usize>,
}

/// The lanes of one recording.
#[derive(Debug, Default)]
pub(super) struct Lanes(Mutex<Known>);

impl Lanes {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn of_this_thread(&self) -> Arc<LiveLane> {
        let own = own_number();
        let mut known = self.lock();
        if let Some(index) = known.own.get(&own) {
            return Arc::clone(&known.all[*index]);
        }
        let name = std::thread::current().name().map(Into::into);
        let lane = known.add(os::thread_id(), None, name);
        known.own.insert(own, lane.index);
        lane
    }

    /// The calling thread, whose lane this is, has a number.
    pub(super) fn note_number(&self, lane: &LiveLane) {
        if let Some(number) = ThreadNumber::from_bits(os::THREAD_NUMBER.get()) {
            lane.thread.store(number.bits(), Relaxed);
            self.lock().threads.insert(number, lane.index);
        }
    }

    pub(super) fn of_worker(&self, executor: u64, worker: usize, pid: u32) -> Arc<LiveLane> {
        let mut known = self.lock();
        if let Some(index) = known.workers.get(&(executor, worker)) {
            return Arc::clone(&known.all[*index]);
        }
        let lane = known.add(pid, Some(pid), None);
        lane.executor.store(executor, Relaxed);
        lane.worker.store(worker as u64 + 1, Relaxed);
        known.workers.insert((executor, worker), lane.index);
        lane
    }

    pub(super) fn of_thread(&self, thread: ThreadNumber) -> Option<usize> {
        self.lock().threads.get(&thread).copied()
    }

    /// The threads that run a task now.
    pub(super) fn running_threads(&self, into: &mut Vec<(usize, u32)>) {
        into.clear();
        let known = self.lock();
        let running = known.all.iter().filter(|lane| lane.pid.is_none() && lane.is_running.load(Relaxed));
        into.extend(running.map(|lane| (lane.index, lane.tid)));
    }

    pub(super) fn all(&self) -> Vec<Arc<LiveLane>> {
        self.lock().all.clone()
    }
}

impl Known {
    fn add(&mut self, tid: u32, pid: Option<u32>, thread_name: Option<String>) -> Arc<LiveLane> {
        let lane = Arc::new(LiveLane {
            index: self.all.len(),
            thread: AtomicU64::new(0),
            tid,
            pid,
            thread_name,
            has_run: AtomicBool::new(false),
            executor: AtomicU64::new(0),
            worker: AtomicU64::new(0),
            is_running: AtomicBool::new(false),
        });
        self.all.push(Arc::clone(&lane));
        lane
    }
}
