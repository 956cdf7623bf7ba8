//! Notes events while they happen, each in a few words.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::Timeline;
use super::lanes::{Lanes, LiveLane};
use super::merge::merge;
use super::sampler::{Interpreter, Sampler};
use crate::events::{self, Event, EventKind, Fetch, LockWait, Name, Observer, Subscription, subscribe};
use crate::os;

/// How many tasks a recorder keeps, where nothing else is said: some 150 MB.
const MOST_TASKS: usize = 1_000_000;
/// Events that are kept at most for each task that may be: three are usual, retries need more.
const EVENTS_A_TASK: usize = 4;
/// How many pages: each keeps its URL.
const MOST_FETCHES: usize = 200_000;
/// A guess: more than the cores of most machines.
const SHARDS: usize = 16;

/// A transition of a task, as it is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Noted {
    /// Nanoseconds since the recording began.
    pub(super) at: u64,
    pub(super) task: u64,
    pub(super) bytes: u64,
    pub(super) executor: u32,
    pub(super) lane: u32,
    /// Of the task, or of its error once it has ended; 0: none.
    pub(super) name: u32,
    pub(super) step: Step,
}

/// What happened to a task, in the order in which that can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Submitted,
    Started,
    Retried,
    Finished,
    Failed,
    Cancelled,
    TimedOut,
    Died,
}

impl Step {
    fn of(kind: EventKind) -> Option<Self> {
        Some(match kind {
            EventKind::Submitted => Self::Submitted,
            EventKind::Started => Self::Started,
            EventKind::Retried => Self::Retried,
            EventKind::Ended { failed: false } => Self::Finished,
            EventKind::Ended { failed: true } => Self::Failed,
            EventKind::Cancelled => Self::Cancelled,
            EventKind::TimedOut => Self::TimedOut,
            EventKind::Died => Self::Died,
            EventKind::WorkerStarted | EventKind::WorkerEnded => return None,
        })
    }
}

/// What is known of a worker process.
#[derive(Clone, Debug)]
pub(super) struct NotedWorker {
    pub(super) executor: u64,
    pub(super) worker: usize,
    pub(super) ended: Option<(u64, Option<Arc<str>>)>,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Shard(Mutex<Vec<Noted>>);

/// What was recorded, before it is made a timeline.
pub(super) struct Log {
    pub(super) began: Instant,
    pub(super) lanes: Lanes,
    shards: [Shard; SHARDS],
    workers: Mutex<Vec<NotedWorker>>,
    /// Waits for locks, each with the lane that waited.
    locks: Mutex<Vec<(usize, LockWait)>>,
    fetches: Mutex<Vec<Fetch>>,
    key: u64,
    most_tasks: usize,
    tasks: AtomicUsize,
    events: AtomicUsize,
    pub(super) dropped: AtomicU64,
    /// For each executor, the first task that was not kept.
    first_dropped: Mutex<HashMap<u32, u64>>,
    is_over: AtomicBool,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("tasks", &self.tasks).field("dropped", &self.dropped).finish_non_exhaustive()
    }
}

static NEXT_LOG: AtomicU64 = AtomicU64::new(1);

thread_local! {
    /// The thread's lane in the log that it noted something in last.
    static LANE: RefCell<Option<(u64, Arc<LiveLane>)>> = const { RefCell::new(None) };
}

impl Log {
    fn new(most_tasks: usize) -> Self {
        Self {
            began: Instant::now(),
            lanes: Lanes::default(),
            shards: std::array::from_fn(|_| Shard::default()),
            workers: Mutex::default(),
            locks: Mutex::default(),
            fetches: Mutex::default(),
            key: NEXT_LOG.fetch_add(1, Relaxed),
            most_tasks,
            tasks: AtomicUsize::new(0),
            events: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
            first_dropped: Mutex::default(),
            is_over: AtomicBool::new(false),
        }
    }

    /// Calls `use_it` with the calling thread's lane; not while the thread is being torn down.
    fn with_lane<R>(&self, use_it: impl FnOnce(&LiveLane) -> R) -> Option<R> {
        let with = |held: &RefCell<Option<(u64, Arc<LiveLane>)>>| {
            let mut held = held.try_borrow_mut().ok()?;
            if held.as_ref().is_none_or(|(key, _)| *key != self.key) {
                *held = Some((self.key, self.lanes.of_this_thread()));
            }
            let (_, lane) = held.as_ref()?;
            if lane.lacks_number() {
                self.lanes.note_number(lane);
            }
            Some(use_it(lane))
        };
        LANE.try_with(with).ok().flatten()
    }

    /// Whether a task that is submitted can be kept.
    fn admits(&self, executor: u32, task: u64) -> bool {
        if self.tasks.fetch_add(1, Relaxed) < self.most_tasks {
            return true;
        }
        self.dropped.fetch_add(1, Relaxed);
        let mut first = self.first_dropped.lock().unwrap_or_else(PoisonError::into_inner);
        first.entry(executor).and_modify(|first| *first = task.min(*first)).or_insert(task);
        false
    }

    fn note(&self, step: Step, event: &Event) {
        let executor = u32::try_from(event.executor).unwrap_or(u32::MAX);
        if step == Step::Submitted && !self.admits(executor, event.task) {
            return;
        }
        let Some(lane) = self.lane_of(step, event) else { return };
        if step != Step::Submitted && self.dropped.load(Relaxed) > 0 && self.was_dropped(executor, event.task) {
            return;
        }
        let name = match step {
            Step::Submitted | Step::Started => event.label.as_deref().map(Name::of).or(event.name),
            _ => event.error.as_deref().map(Name::of),
        };
        let noted = Noted {
            at: nanoseconds(event.at.saturating_duration_since(self.began)),
            task: event.task,
            bytes: event.bytes,
            executor,
            lane: lane as u32,
            name: Name::bits(name),
            step,
        };
        if self.events.fetch_add(1, Relaxed) < self.most_tasks.saturating_mul(EVENTS_A_TASK) {
            self.shard(lane).push(noted);
        } else {
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    fn lane_of(&self, step: Step, event: &Event) -> Option<usize> {
        if let (Some(worker), Some(pid)) = (event.worker, event.process) {
            let lane = self.lanes.of_worker(event.executor, worker, pid);
            return Some(lane.index);
        }
        if matches!(step, Step::Cancelled | Step::TimedOut | Step::Died) {
            // Whoever notes it is not concerned, and need not have a lane.
            return Some(0);
        }
        self.with_lane(|lane| {
            match step {
                Step::Started => lane.begins(event.executor, event.worker),
                Step::Finished | Step::Failed if event.worker.is_some() || event.executor == 0 => {
                    // Its beginning may have been before that of the recording.
                    lane.begins(event.executor, event.worker);
                    lane.ends();
                }
                _ => {}
            }
            lane.index
        })
    }

    fn shard(&self, lane: usize) -> MutexGuard<'_, Vec<Noted>> {
        self.shards[lane % SHARDS].0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_worker(&self, event: &Event) {
        let (Some(worker), Some(pid)) = (event.worker, event.process) else { return };
        let _ = self.lanes.of_worker(event.executor, worker, pid);
        let at = nanoseconds(event.at.saturating_duration_since(self.began));
        let ended = (event.kind == EventKind::WorkerEnded).then(|| (at, event.error.clone()));
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |known: &&mut NotedWorker| known.executor == event.executor && known.worker == worker;
        match workers.iter_mut().find(is_it) {
            Some(known) => known.ended = ended.or_else(|| known.ended.take()),
            None => workers.push(NotedWorker { executor: event.executor, worker, ended }),
        }
    }

    pub(super) fn take_noted(&self) -> Vec<Noted> {
        let mut all = Vec::with_capacity(self.events.load(Relaxed).min(self.most_tasks * EVENTS_A_TASK));
        for shard in &self.shards {
            all.append(&mut shard.0.lock().unwrap_or_else(PoisonError::into_inner));
        }
        all
    }

    pub(super) fn take_workers(&self) -> Vec<NotedWorker> {
        std::mem::take(&mut *self.workers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn take_locks(&self) -> Vec<(usize, LockWait)> {
        std::mem::take(&mut *self.locks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn take_fetches(&self) -> Vec<Fetch> {
        std::mem::take(&mut *self.fetches.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the task was not kept when it was submitted.
    pub(super) fn was_dropped(&self, executor: u32, task: u64) -> bool {
        let first = self.first_dropped.lock().unwrap_or_else(PoisonError::into_inner);
        first.get(&executor).is_some_and(|first| task >= *first)
    }
}

pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Observer for Log {
    fn observe(&self, event: &Event) {
        if self.is_over.load(Relaxed) {
            return;
        }
        match Step::of(event.kind) {
            Some(step) => self.note(step, event),
            None => self.note_worker(event),
        }
    }

    fn waited(&self, wait: &LockWait) {
        if self.is_over.load(Relaxed) {
            return;
        }
        let Some(lane) = self.with_lane(|lane| lane.index) else { return };
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        if locks.len() < self.most_tasks {
            locks.push((lane, *wait));
        }
    }

    fn fetched(&self, fetch: &Fetch) {
        if self.is_over.load(Relaxed) {
            return;
        }
        let mut fetches = self.fetches.lock().unwrap_or_else(PoisonError::into_inner);
        if fetches.len() < self.most_tasks.min(MOST_FETCHES) {
            fetches.push(fetch.clone());
        } else {
            self.dropped.fetch_add(1, Relaxed);
        }
    }
}

/// Records what the executors of this process do, until it is [finished](Self::finish) or dropped. Several can be at work.
///
/// Costs some 0.3 us a task while it records, and nothing that can be measured when none does.
#[derive(Debug)]
pub struct Recorder {
    log: Arc<Log>,
    wall: SystemTime,
    sampler: Option<Sampler>,
    generation: u32,
    _subscription: Subscription,
}

impl Recorder {
    /// Begins to record.
    ///
    /// ```
    /// let recorder = raddle::timeline::Recorder::start();
    /// assert!(recorder.finish().tasks.is_empty());
    /// ```
    pub fn start() -> Self {
        Self::start_with(MOST_TASKS, None)
    }

    /// Begins to record, and keeps so many tasks at most; `interpreter` tells who holds its lock.
    pub fn start_with(most_tasks: usize, interpreter: Option<Box<dyn Interpreter>>) -> Self {
        let log = Arc::new(Log::new(most_tasks));
        // Whoever records is there from the beginning, and has the first lane.
        let _ = log.with_lane(|lane| lane.index);
        let subscription = subscribe(Arc::clone(&log) as Arc<dyn Observer>);
        events::tell_present(&mut |event| log.observe(&event));
        let sampler = interpreter.and_then(|interpreter| Sampler::start(Arc::clone(&log), interpreter));
        Self { log, wall: SystemTime::now(), sampler, generation: os::fork_generation(), _subscription: subscription }
    }

    /// Ends the recording. In a child of a fork nothing was recorded: the recording is the parent's.
    pub fn finish(mut self) -> Timeline {
        if self.generation != os::fork_generation() {
            // What is held there may be locked for ever by threads that are not here.
            let empty = merge(&Log::new(0), self.wall, Duration::ZERO, None);
            std::mem::forget(self);
            return empty;
        }
        let interpreter = self.sampler.take().map(Sampler::finish);
        events::tell_present(&mut |event| self.log.observe(&event));
        self.log.is_over.store(true, Relaxed);
        merge(&self.log, self.wall, self.log.began.elapsed(), interpreter)
    }
}
