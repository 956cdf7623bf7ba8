//! The pool: starts workers, has them run what is queued, and ends them (submit -> queue -> WORKER -> result).
//!
//! A worker drains the queue under one hold of the interpreter and releases it only to rest. Who sleeps and who is woken
//! is decided by the roster; this module carries it out.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use crate::batch::{Batch, BatchJob, Ended, RunBatch};
use crate::error::{Failure, SubmitError};
use crate::events;
use crate::future::{self, Callback, Notices};
use crate::host::{Host, Role};
use crate::os;
use crate::primitives::Mutex;
use crate::roster::{Call, Entry, Phase, Rest, Roster, Seat, Snapshot};
use crate::signal::{Signal, Waited};
use crate::statistics::{Record, Statistics};
use crate::task::{GivenUp, Job, Runnable, Task};
use crate::timer::{Alarm, Armed, Expire, Timer};
use crate::waits::{Awaited, Crew, Deadlock, Description, Look, ThreadNumber, Waits, wait_watched};

/// An entry of the queue.
#[derive(Clone)]
pub(crate) enum Queued {
    Task(Arc<dyn Runnable>),
    Batch(Arc<dyn RunBatch>),
}

impl Entry for Queued {
    fn share(&self) -> Option<Self> {
        match self {
            Self::Task(_) => None,
            Self::Batch(batch) => Some(Self::Batch(Arc::clone(batch))),
        }
    }

    fn is_for_several(&self) -> bool {
        matches!(self, Self::Batch(batch) if batch.unbegun() > 1)
    }

    fn is_spent(&self) -> bool {
        match self {
            Self::Task(task) => task.is_cancelled(),
            Self::Batch(batch) => batch.is_spent(),
        }
    }
}

impl Queued {
    /// How many numbers of tasks it takes.
    fn numbers(&self) -> u64 {
        match self {
            Self::Task(_) => 1,
            Self::Batch(batch) => batch.numbers(),
        }
    }
}

/// A pool of threads in one host. Workers hold it; whoever made it closes it.
pub struct Pool {
    id: u64,
    generation: u32,
    host: Arc<dyn Host>,
    roster: Roster<Queued>,
    timer: Timer,
    records: RwLock<Vec<Arc<Record>>>,
    submitted: AtomicU64,
    next_number: AtomicU64,
    /// Tasks cancelled and no longer in the queue.
    cancelled: AtomicU64,
    /// Tasks failed by the engine without a worker.
    failed: AtomicU64,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("id", &self.id).finish_non_exhaustive()
    }
}

static NEXT_POOL: AtomicU64 = AtomicU64::new(1);

/// The number of a new pool, of threads or of processes.
pub(crate) fn next_id() -> u64 {
    NEXT_POOL.fetch_add(1, Relaxed)
}

thread_local! {
    /// The pool whose tasks the thread runs; 0 for a thread of nobody's.
    static CURRENT_POOL: Cell<u64> = const { Cell::new(0) };
}

impl Pool {
    /// A pool without workers yet: they are started on demand, `max_workers` at most.
    pub fn new(host: Arc<dyn Host>, max_workers: usize) -> Arc<Self> {
        let name = host.name();
        let pool = Arc::new(Self {
            id: next_id(),
            generation: os::fork_generation(),
            host,
            roster: Roster::new(max_workers),
            timer: Timer::default(),
            records: RwLock::default(),
            submitted: AtomicU64::new(0),
            next_number: AtomicU64::new(1),
            cancelled: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        });
        let crew: Weak<dyn Crew> = Arc::downgrade(&pool) as Weak<dyn Crew>;
        Waits::of_process().add_crew(pool.id, crew);
        let name = name.unwrap_or_else(|| format!("ThreadPoolExecutor-{}", pool.id).into());
        events::add_executor(pool.id, events::Workers::Threads, name, None);
        pool
    }

    /// Whether this process is a fork of the one that made the pool: then its threads are not here.
    pub fn is_forked(&self) -> bool {
        self.generation != os::fork_generation()
    }

    /// Whether the calling thread runs a task of this pool: it cannot wait for the pool's end.
    pub fn is_current(&self) -> bool {
        CURRENT_POOL.get() == self.id
    }

    /// Puts a task into the queue.
    ///
    /// # Errors
    /// The pool is closed, broken or forked, or has no thread; the task is not run.
    pub fn submit<J: Job>(self: &Arc<Self>, task: &Arc<Task<J>>) -> Result<(), SubmitError> {
        self.push(Queued::Task(Arc::clone(task) as _), 1, || ()).1
    }

    /// Puts a batch into the queue: one entry, from which every worker takes items.
    ///
    /// # Errors
    /// As for [`submit`](Self::submit).
    pub fn submit_batch<J: BatchJob>(self: &Arc<Self>, batch: &Arc<Batch<J>>) -> Result<(), SubmitError> {
        let items = batch.len() as u64;
        self.push(Queued::Batch(Arc::clone(batch) as _), items, || ()).1
    }

    /// Adds one item to a batch that has [room](Batch::has_room), and puts the batch into the queue (again).
    ///
    /// # Errors
    /// As for [`submit`](Self::submit); the item is dropped.
    pub fn submit_item<J: BatchJob>(self: &Arc<Self>, batch: &Arc<Batch<J>>, item: J::Item) -> Result<(), SubmitError> {
        let mut item = Some(item);
        // A worker may claim the item as soon as it is added, so that happens when the pool is sure to take it.
        let add = || item.take().and_then(|item| batch.publish(item).err());
        let (rest, pushed) = self.push(Queued::Batch(Arc::clone(batch) as _), 1, add);
        debug_assert!(rest.flatten().is_none(), "the batch has room");
        pushed
    }

    /// How many tasks the pool has taken so far.
    pub fn submitted(&self) -> u64 {
        self.submitted.load(Relaxed)
    }

    /// Gives up the items of a batch that nobody has begun.
    pub fn cancel_batch<J: BatchJob>(&self, batch: &Batch<J>) {
        let (count, notices) = batch.end(Ended::Cancelled);
        self.count_cancelled(count);
        notices.deliver();
    }

    /// `prepare` runs under the roster's lock when the entry is sure to be taken; what it gives comes back.
    fn push<R>(
        self: &Arc<Self>,
        entry: Queued,
        tasks: u64,
        prepare: impl FnOnce() -> R,
    ) -> (Option<R>, Result<(), SubmitError>) {
        if self.is_forked() {
            return (None, Err(SubmitError::Forked));
        }
        let mut prepared = None;
        // Numbered under the roster's lock, so the count needs no atomic addition.
        let accept = |entry: &Queued| {
            let number = self.next_number.load(Relaxed);
            self.submitted.store(self.submitted.load(Relaxed) + tasks, Relaxed);
            self.next_number.store(number + entry.numbers(), Relaxed);
            prepared = Some(prepare());
            match entry {
                Queued::Task(task) => task.accept(self.id, number),
                Queued::Batch(batch) => batch.accept(self.id, number),
            }
        };
        let pushed = match self.roster.push(entry, accept) {
            Ok(call) => self.answer(call).or_else(|reason| self.do_without(&reason)),
            Err((Phase::Broken(reason), _)) => Err(SubmitError::Broken(reason)),
            Err((Phase::Open | Phase::Closed, _)) => Err(SubmitError::ShutDown),
        };
        (prepared, pushed)
    }

    /// No thread could be started. If others run, they will come to the task; if not, all that is queued fails: nobody
    /// would come to it, and others than the caller may wait.
    fn do_without(&self, reason: &str) -> Result<(), SubmitError> {
        if self.roster.snapshot(|_| ()).workers > 0 {
            return Ok(());
        }
        let error = SubmitError::NoThread(reason.into());
        self.fail_queued(&error.to_string().into());
        Err(error)
    }

    /// Wakes or starts whom the roster wants.
    fn answer(self: &Arc<Self>, call: Call) -> Result<(), String> {
        let seat = match call {
            Call::Nobody => return Ok(()),
            Call::Wake(seat) => {
                seat.wake();
                return Ok(());
            }
            Call::Start(seat) => seat,
        };
        let record = Arc::new(Record::new(seat.number));
        let (pool, own_seat, own_record) = (Arc::clone(self), Arc::clone(&seat), Arc::clone(&record));
        let body = Box::new(move || pool.work(&own_seat, &own_record));
        self.write_records().push(Arc::clone(&record));
        self.host.start(self, Role::Worker(seat.number), body).inspect_err(|_| {
            self.write_records().retain(|other| !Arc::ptr_eq(other, &record));
            self.roster.leave(&seat);
        })
    }

    /// The body of a worker.
    fn work(self: &Arc<Self>, seat: &Arc<Seat>, record: &Arc<Record>) {
        CURRENT_POOL.set(self.id);
        record.begins_on_this_thread();
        if let Err(reason) = self.initialize(seat) {
            self.roster.leave(seat);
            self.break_down(&reason);
            return;
        }
        let mut notices = Notices::default();
        loop {
            let Some((entry, call)) = self.roster.look(seat) else {
                record.work_ends();
                if self.rest(seat, std::mem::take(&mut notices)) == Rest::Leave {
                    return;
                }
                continue;
            };
            record.work_begins();
            std::mem::take(&mut notices).deliver();
            // A thread that cannot be started here is missed by nobody: this worker goes on, and the next push asks again.
            let _ = self.answer(call);
            match self.run(entry, record) {
                Ok(told_later) => notices = told_later,
                Err(GivenUp) => return,
            }
        }
    }

    /// Releases the interpreter, tells who listens, and rests: in this order a woken thread finds the interpreter free.
    fn rest(self: &Arc<Self>, seat: &Arc<Seat>, notices: Notices) -> Rest {
        let mut notices = Some(notices);
        let mut rest = Rest::Leave;
        let has_interpreter = self.host.has_interpreter();
        self.host.release_and(&mut || {
            notices.take().unwrap_or_default().deliver();
            rest = self.roster.rest(seat, has_interpreter);
        });
        rest
    }

    fn run(self: &Arc<Self>, entry: Queued, record: &Arc<Record>) -> Result<Notices, GivenUp> {
        match entry {
            Queued::Task(task) => {
                let notices = task.run(self, record)?;
                if notices.has_callbacks() {
                    notices.deliver();
                    return Ok(Notices::default());
                }
                Ok(notices)
            }
            Queued::Batch(batch) => Ok(Notices::for_sleeper(batch.run_items(record))),
        }
    }

    /// Runs the host's initialiser; while it does, another worker may take over the standby's role.
    fn initialize(self: &Arc<Self>, seat: &Seat) -> Result<(), Arc<str>> {
        if !self.host.has_initializer() {
            return Ok(());
        }
        let _ = self.answer(self.roster.step_aside(seat));
        let initialized = self.host.initialize();
        self.roster.step_back();
        initialized
    }

    /// Fails everything that is queued, and takes nothing more.
    fn break_down(self: &Arc<Self>, reason: &Arc<str>) {
        let sleepers = self.roster.close(Phase::Broken(Arc::clone(reason)));
        sleepers.iter().for_each(|seat| seat.wake());
        self.fail_queued(reason);
        self.timer.close();
    }

    fn fail_queued(&self, reason: &Arc<str>) {
        for entry in self.roster.drain() {
            let failure = Failure::Broken { reason: Arc::clone(reason) };
            let (count, notices) = match &entry {
                Queued::Task(task) if task.is_cancelled() => {
                    self.count_cancelled(1);
                    continue;
                }
                Queued::Task(task) => (1, task.fail(failure)),
                Queued::Batch(batch) => batch.end(Ended::Failed(failure)),
            };
            self.failed.fetch_add(count, Relaxed);
            notices.deliver();
        }
    }

    /// Takes no more tasks; what is queued is still run, then the workers leave. In a forked child it does nothing:
    /// the workers are in the parent.
    pub fn close(&self) {
        if self.is_forked() {
            return;
        }
        self.roster.close(Phase::Closed).iter().for_each(|seat| seat.wake());
        self.timer.close();
        // Without any worker (no thread could be started) nobody would come to what is queued.
        if self.roster.snapshot(|_| ()).workers == 0 {
            self.cancel_queued();
        }
    }

    /// Cancels what no worker has begun; tells how many tasks that were.
    pub fn cancel_queued(&self) -> u64 {
        if self.is_forked() {
            return 0;
        }
        self.roster.drain().iter().map(|entry| self.call_off(entry)).sum()
    }

    fn call_off(&self, entry: &Queued) -> u64 {
        let (count, notices) = match entry {
            Queued::Task(task) => (1, task.cancel()),
            Queued::Batch(batch) => batch.end(Ended::Cancelled),
        };
        self.count_cancelled(count);
        notices.deliver();
        count
    }

    pub(crate) fn count_cancelled(&self, tasks: u64) {
        self.cancelled.fetch_add(tasks, Relaxed);
    }

    /// A signal that is set when the pool has been closed and its last worker is gone; those given up do not count.
    pub fn ended(&self) -> Arc<Signal> {
        self.roster.ended()
    }

    /// Blocks until [`ended`](Self::ended) is set. `watched` says that the wait has no time limit of its own.
    ///
    /// # Errors
    /// The wait closes a circle of threads that wait for each other.
    pub fn wait_ended(
        self: &Arc<Self>,
        ended: &Signal,
        deadline: Option<Instant>,
        watched: bool,
    ) -> Result<Waited, Deadlock> {
        let watch = || Arc::new(EndOf(Arc::clone(self))) as Arc<dyn Awaited>;
        wait_watched(ended, deadline, watched.then_some(&watch))
    }

    /// Whether it has been shut down or is broken, and why.
    pub fn phase(&self) -> Phase {
        // In a forked child the roster's lock may be held for ever by a thread that is not there.
        if self.is_forked() { Phase::Closed } else { self.roster.phase() }
    }

    /// Has `task` ended if its attempt still runs after `limit`.
    pub(crate) fn arm_timer(
        self: &Arc<Self>,
        limit: Duration,
        task: Weak<dyn Expire>,
        attempt: u32,
        record: &Arc<Record>,
    ) -> Alarm<'_> {
        let (alarm, must_start) = self.timer.arm(limit, Armed { task, attempt, record: Arc::clone(record) });
        if must_start {
            let pool = Arc::clone(self);
            let body = Box::new(move || {
                CURRENT_POOL.set(pool.id);
                pool.timer.run(&*pool.host, |armed| pool.ring(&armed));
            });
            if self.host.start(self, Role::Timer, body).is_err() {
                self.timer.start_failed();
            }
        }
        alarm
    }

    /// An attempt has overrun: its future fails, its thread is given up, and another takes its place.
    fn ring(self: &Arc<Self>, armed: &Armed) {
        let Some(task) = armed.task.upgrade() else { return };
        let Some(notices) = task.expire(armed.attempt, &armed.record) else { return };
        armed.record.abandon();
        armed.record.work_ends();
        self.host.abandoned(armed.record.number);
        let callbacks = notices.wake_sleepers();
        // Before the roster counts the worker out, for that may be the end of the pool, after which no thread is started.
        if !callbacks.is_empty() {
            self.call_aside(armed.record.number, callbacks);
        }
        let call = self.roster.abandon();
        // Should no thread be left and none be had, what is queued fails; the next push asks again.
        let _ = self.answer(call).or_else(|reason| self.do_without(&reason));
    }

    /// Calls callbacks on a thread of their own: the timer has other alarms to ring on time.
    fn call_aside(self: &Arc<Self>, worker: usize, callbacks: Vec<Callback>) {
        let (id, callbacks) = (self.id, Arc::new(Mutex::new(callbacks)));
        let own = Arc::clone(&callbacks);
        let body = Box::new(move || {
            CURRENT_POOL.set(id);
            let callbacks = std::mem::take(&mut *own.lock());
            callbacks.into_iter().for_each(future::call);
        });
        if self.host.start(self, Role::Callbacks(worker), body).is_err() {
            let callbacks = std::mem::take(&mut *callbacks.lock());
            callbacks.into_iter().for_each(future::call);
        }
    }

    fn write_records(&self) -> std::sync::RwLockWriteGuard<'_, Vec<Arc<Record>>> {
        self.records.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the pool has done so far.
    pub fn statistics(&self) -> Statistics {
        let mut sums = Statistics::default();
        let snapshot = if self.is_forked() {
            // The queue stayed behind in the parent, and its lock may be held for ever.
            Snapshot::default()
        } else {
            self.roster.snapshot(|entry| {
                sums.cancelled += u64::from(matches!(entry, Queued::Task(task) if task.is_cancelled()));
            })
        };
        sums.cancelled += snapshot.passed_over + self.cancelled.load(Relaxed);
        let (mut started, mut busy) = (0, Duration::ZERO);
        for record in self.records.read().unwrap_or_else(PoisonError::into_inner).iter() {
            started += record.started.get();
            sums.done += record.done.get();
            sums.failed += record.failed.get();
            sums.retried += record.retried.get();
            sums.abandoned += u64::from(record.is_abandoned());
            busy += record.busy();
        }
        let failed_unstarted = self.failed.load(Relaxed);
        sums.submitted = self.submitted.load(Relaxed);
        sums.running = started.saturating_sub(sums.done + sums.failed + sums.abandoned);
        sums.waiting = sums.submitted.saturating_sub(started + sums.cancelled + failed_unstarted);
        sums.failed += failed_unstarted + sums.abandoned;
        Statistics { workers: snapshot.workers, busy, longest_queue: snapshot.longest, ..sums }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        Waits::of_process().remove_crew(self.id);
        events::remove_executor(self.id);
    }
}

impl Pool {
    /// The threads of the workers that count, each with whether it stays where it is: one whose task has a time limit does
    /// not, for it would be replaced, nor does one that has not begun.
    fn crew(&self, look: &Look<'_>) -> Vec<Option<ThreadNumber>> {
        let records = self.records.read().unwrap_or_else(PoisonError::into_inner);
        let present = records.iter().filter(|record| !record.is_abandoned());
        present.map(|record| record.thread().filter(|t| !record.has_limit() && look.is_stuck(*t))).collect()
    }
}

impl Crew for Pool {
    fn held_up_by(&self, look: &Look<'_>) -> Option<Vec<ThreadNumber>> {
        if self.is_forked() {
            return None;
        }
        let workers = self.roster.workers_if_all_begun()?;
        let crew = self.crew(look);
        // While a worker is being started or replaced, the roster counts one that has no record yet, or still counts one that
        // was given up: then somebody is on the way.
        if crew.len() != workers {
            return None;
        }
        crew.into_iter().collect()
    }

    fn runner_of(&self, batch: usize, index: usize) -> Option<ThreadNumber> {
        let records = self.records.read().unwrap_or_else(PoisonError::into_inner);
        records.iter().find(|record| record.runs_item(batch, index)).and_then(|record| record.thread())
    }
}

/// The end of a pool's last worker, as something to wait for.
struct EndOf(Arc<Pool>);

impl Awaited for EndOf {
    fn held_up_by(&self, look: &Look<'_>) -> Option<Vec<ThreadNumber>> {
        let stuck: Vec<_> = self.0.crew(look).into_iter().flatten().collect();
        (!stuck.is_empty()).then_some(stuck)
    }

    fn describe(&self) -> Description {
        Description { what: "the end of an executor's tasks".into(), taken_at: None }
    }
}
