//! One task: what to run, under which options, and the cell for its outcome (submit -> queue -> WORKER -> result).
//!
//! Invariant: the job is taken out exactly once, by the worker that begins it or by whoever cancels it, and is dropped
//! before the outcome can be seen: who has the result holds no argument alive.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use crate::error::Failure;
use crate::events::{self, Event, EventKind, Name};
use crate::future::{Begin, Cancel, FutureCell, Notices, Outcome, State};
use crate::pool::Pool;
use crate::primitives::Mutex;
use crate::signal::Drive;
use crate::statistics::Record;
use crate::timer::Expire;
use crate::waits::{Awaited, Description, Look, ThreadNumber};

/// What a task runs.
pub trait Job: Send + 'static {
    /// What it ends with; the engine makes one itself when it gives a task up.
    type Outcome: Outcome + From<Failure> + 'static;

    /// Runs it once.
    fn run(&mut self) -> Self::Outcome;

    /// Whether to run it once more after `failure`.
    fn wants_retry(&mut self, failure: &Self::Outcome) -> bool {
        let _ = failure;
        true
    }
}

/// How tasks are to be run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// A name for errors, events and statistics.
    pub label: Option<Arc<str>>,
    /// How long one attempt may run.
    pub task_timeout: Option<Duration>,
    /// How often a failed task is tried again.
    pub retries: u32,
}

/// Marks an attempt that the timer has ended: no further one may begin.
const EXPIRED: u32 = u32::MAX;

/// A task, in the queue or by itself as a future that somebody else completes.
pub struct Task<J: Job> {
    /// The result's side.
    pub cell: FutureCell<J::Outcome>,
    job: Mutex<Option<J>>,
    options: OnceLock<Arc<Options>>,
    attempt: AtomicU32,
    /// Whether the outcome is the timer's: then the thread that ran the task has been given up.
    is_overrun: AtomicBool,
    executor: AtomicU64,
    number: AtomicU64,
    /// The thread that runs it: 0 if nobody does, or it is not known.
    runner: AtomicU64,
    /// The pool of processes that has it, if one has.
    home: OnceLock<Weak<dyn Home>>,
    /// Of a task in a pool of processes: whether it can be withdrawn.
    pub(crate) claim: AtomicU32,
    /// What it runs, if somebody listened when it was submitted; 0: not known.
    name: AtomicU32,
}

/// A task in a pool of processes waits there, in the queue or at a worker.
pub(crate) const WAITING: u32 = 0;
/// It has been withdrawn.
pub(crate) const WITHDRAWN: u32 = 1;
/// Its reply has come.
pub(crate) const CAME: u32 = 2;

/// What a task asks of the pool of processes that has it. It is named by its address.
pub(crate) trait Home: Drive {
    /// Takes it back, unless a worker has begun it; `claim` says under the pool's lock whether its reply has come.
    fn withdraw(&self, task: usize, claim: &dyn Fn() -> bool) -> bool;
    /// Whether a worker runs it.
    fn has_begun(&self, task: usize) -> bool;
    /// Ends the worker that runs it.
    fn kill(&self, task: usize) -> bool;
    /// Takes what has come from workers.
    fn look(&self);
    /// Itself, as somewhere to sleep.
    fn as_drive(self: Arc<Self>) -> Arc<dyn Drive>;
}

impl<J: Job> std::fmt::Debug for Task<J> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task").field("cell", &self.cell).field("options", &self.options).finish_non_exhaustive()
    }
}

impl<J: Job> Default for Task<J> {
    fn default() -> Self {
        Self::without_job()
    }
}

impl<J: Job> Task<J> {
    /// A task to submit.
    pub fn new(job: J, options: Option<Arc<Options>>) -> Self {
        let task = Self::without_job();
        task.arm(job, options);
        task
    }

    /// A future that somebody completes by hand, or that is [armed](Self::arm) later.
    pub fn without_job() -> Self {
        Self {
            cell: FutureCell::new(),
            job: Mutex::new(None),
            options: OnceLock::new(),
            attempt: AtomicU32::new(0),
            is_overrun: AtomicBool::new(false),
            executor: AtomicU64::new(0),
            number: AtomicU64::new(0),
            runner: AtomicU64::new(0),
            home: OnceLock::new(),
            claim: AtomicU32::new(WAITING),
            name: AtomicU32::new(0),
        }
    }

    /// Tells the task from others as long as it lives.
    pub(crate) fn address(&self) -> usize {
        std::ptr::from_ref(self).cast::<()>().addr()
    }

    /// A pool of processes takes it.
    pub(crate) fn moves_to(&self, home: Weak<dyn Home>) {
        let _ = self.home.set(home);
    }

    fn home(&self) -> Option<Arc<dyn Home>> {
        self.home.get().filter(|_| !self.cell.state().is_done())?.upgrade()
    }

    /// Where to sleep until it is done, so that the sleeper does what it waits for: of a task in a pool of processes.
    pub fn drive(&self) -> Option<Arc<dyn Drive>> {
        Some(self.home()?.as_drive())
    }

    /// Whether a pool of processes has it, or had.
    pub fn is_remote(&self) -> bool {
        self.home.get().is_some()
    }

    /// Looks how it stands: what a worker process has begun or ended nobody may have noted yet.
    pub fn look(&self) -> State {
        if let Some(home) = self.home() {
            home.look();
            if self.cell.state() == State::Pending && home.has_begun(self.address()) {
                // It has not been cancelled, so there is nobody to tell.
                let _ = self.cell.begin();
            }
        }
        self.cell.state()
    }

    /// Ends the worker process that runs it; `None`: no pool of processes has it.
    pub fn kill(&self) -> Option<bool> {
        self.home.get()?;
        Some(self.home().is_some_and(|home| home.kill(self.address())))
    }

    /// Has it begun, or ended, if it cannot be withdrawn from its pool of processes.
    fn withdraw(&self) {
        // One that was seen running, and waits to be tried again, is no pending task any more.
        let is_pending = || self.cell.state() == State::Pending;
        let claim = || is_pending() && self.claim.compare_exchange(WAITING, WITHDRAWN, Relaxed, Relaxed).is_ok();
        if let Some(home) = self.home()
            && !home.withdraw(self.address(), &claim)
            && self.claim.load(Relaxed) != WITHDRAWN
        {
            // It has not been cancelled, so there is nobody to tell.
            let _ = self.cell.begin();
        }
    }

    /// Gives a task without a job something to run, once, before it is submitted.
    pub fn arm(&self, job: J, options: Option<Arc<Options>>) {
        let before = self.job.lock().replace(job);
        drop(before);
        if let Some(options) = options {
            let _ = self.options.set(options);
        }
    }

    /// Says how a task without a job is run.
    pub fn set_options(&self, options: Option<Arc<Options>>) {
        if let Some(options) = options {
            let _ = self.options.set(options);
        }
    }

    /// The name that the task was given.
    pub fn label(&self) -> Option<&Arc<str>> {
        self.options.get().and_then(|options| options.label.as_ref())
    }

    /// Says what it runs, for those who [listen](events::is_listening).
    pub fn set_name(&self, name: Name) {
        self.name.store(Name::bits(Some(name)), Relaxed);
    }

    /// Whether a pool has taken it.
    pub fn is_submitted(&self) -> bool {
        self.executor.load(Relaxed) != 0
    }

    /// Cancels it unless it has begun, and drops the job. The notices are to be delivered.
    pub fn cancel(&self) -> Cancel {
        self.withdraw();
        let cancel = self.cell.cancel(self.is_submitted());
        if matches!(cancel, Cancel::Now(_)) {
            drop(self.take_job());
            if self.is_submitted() {
                self.emit(EventKind::Cancelled, None);
            }
        }
        cancel
    }

    /// Drops what the task would run and holds. For a collector of cyclic garbage, when nobody else has the task.
    pub fn clear(&self) {
        drop(self.take_job());
        self.cell.clear();
    }

    /// Looks at the job, under its lock: `look` must be short and call nothing of a user's.
    pub fn look_at_job<R>(&self, look: impl FnOnce(Option<&J>) -> R) -> R {
        look(self.job.lock().as_ref())
    }

    /// Says that the calling thread, and no other, will complete a future that no pool has; `label` is whose end it is.
    pub fn is_run_by_this_thread(&self, label: &str) {
        let _ = self.options.set(Arc::new(Options { label: Some(label.into()), ..Options::default() }));
        self.runner.store(ThreadNumber::current().bits(), Relaxed);
        self.begins_outside_a_pool();
    }

    /// A thread of its own begins with it, which those who listen see as a task.
    fn begins_outside_a_pool(&self) {
        self.number.store(NEXT_THREAD.fetch_add(1, Relaxed), Relaxed);
        self.emit(EventKind::Started, None);
    }

    /// Finishes a future that no pool has.
    ///
    /// # Errors
    /// Hands the outcome back if it was done.
    pub fn complete(&self, outcome: J::Outcome) -> Result<Notices, J::Outcome> {
        let has_begun = self.number.load(Relaxed) != 0 && !self.is_submitted();
        let (failed, error) = (outcome.is_failure(), described(&outcome));
        // Who sees the outcome sees that it was told.
        let tell = || self.emit_with(EventKind::Ended { failed }, None, error);
        if has_begun { self.cell.finish_and(outcome, tell) } else { self.cell.finish(outcome) }
    }

    /// Runs it on the calling thread, for which it was made, outside any pool.
    pub fn run_on_this_thread(&self) {
        self.runner.store(ThreadNumber::current().bits(), Relaxed);
        if !matches!(self.cell.begin(), Begin::Started) {
            return;
        }
        let Some(mut job) = self.take_job() else { return };
        self.begins_outside_a_pool();
        let outcome = job.run();
        drop(job);
        if let Ok(notices) = self.complete(outcome) {
            notices.deliver();
        }
    }

    pub(crate) fn options_given(&self) -> Option<&Arc<Options>> {
        self.options.get()
    }

    /// A pool has taken it, under this number.
    pub(crate) fn note_accepted(&self, executor: u64, number: u64) {
        self.executor.store(executor, Relaxed);
        self.number.store(number, Relaxed);
        self.emit(EventKind::Submitted, None);
    }

    pub(crate) fn take_job(&self) -> Option<J> {
        self.job.lock().take()
    }

    pub(crate) fn name(&self) -> Option<Name> {
        Name::from_bits(self.name.load(Relaxed))
    }

    pub(crate) fn emit(&self, kind: EventKind, worker: Option<usize>) {
        self.emit_with(kind, worker, None);
    }

    fn emit_with(&self, kind: EventKind, worker: Option<usize>, error: Option<Arc<str>>) {
        events::emit(|| Event {
            worker,
            label: self.label().cloned(),
            name: self.name(),
            error,
            ..Event::now(kind, self.executor.load(Relaxed), self.number.load(Relaxed))
        });
    }

    /// Runs the attempts, until one succeeds, none is left, or the timer has ended one.
    fn run_attempts(this: &Arc<Self>, mut job: J, pool: &Arc<Pool>, record: &Arc<Record>) -> J::Outcome {
        let Some(options) = this.options.get() else { return job.run() };
        let mut attempt = 0;
        loop {
            let outcome = Self::run_timed(this, &mut job, options, attempt, pool, record);
            if !outcome.is_failure() || attempt == options.retries || !job.wants_retry(&outcome) {
                return outcome;
            }
            let error = described(&outcome);
            if this.attempt.compare_exchange(attempt, attempt + 1, Relaxed, Relaxed).is_err() {
                return outcome;
            }
            attempt += 1;
            record.retried.add(1);
            this.emit_with(EventKind::Retried, Some(record.number), error);
        }
    }

    fn run_timed(
        this: &Arc<Self>,
        job: &mut J,
        options: &Options,
        attempt: u32,
        pool: &Arc<Pool>,
        record: &Arc<Record>,
    ) -> J::Outcome {
        let Some(limit) = options.task_timeout else { return job.run() };
        let expire: Weak<dyn Expire> = Arc::downgrade(this) as Weak<dyn Expire>;
        record.set_limit(true);
        let alarm = pool.arm_timer(limit, expire, attempt, record);
        let outcome = job.run();
        drop(alarm);
        record.set_limit(false);
        outcome
    }
}

impl<J: Job> Awaited for Task<J> {
    fn held_up_by(&self, look: &Look<'_>) -> Option<Vec<ThreadNumber>> {
        match self.cell.state() {
            State::Pending if self.is_submitted() => look.by_queue_of(self.executor.load(Relaxed)),
            // A task with a limit ends in any case.
            State::Running if self.options.get().is_none_or(|options| options.task_timeout.is_none()) => {
                look.by_one(ThreadNumber::from_bits(self.runner.load(Relaxed)))
            }
            _ => None,
        }
    }

    fn describe(&self) -> Description {
        let what = match (self.label(), self.is_submitted()) {
            (Some(label), true) => format!("task {label:?}"),
            (None, true) => "a task".into(),
            (Some(label), false) => format!("the end of {label}"),
            (None, false) => "a future".into(),
        };
        Description { what, taken_at: None }
    }
}

/// What a failure says, if somebody listens.
fn described(outcome: &impl Outcome) -> Option<Arc<str>> {
    if outcome.is_failure() && events::is_listening() { outcome.describe() } else { None }
}

/// Numbers the tasks that have a thread of their own.
static NEXT_THREAD: AtomicU64 = AtomicU64::new(1);

/// The calling thread has been abandoned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GivenUp;

/// A task in the queue, whatever it runs.
pub(crate) trait Runnable: Send + Sync {
    fn accept(&self, executor: u64, number: u64);
    fn is_cancelled(&self) -> bool;
    /// Runs it on the calling thread; what is left is to tell those who listen.
    ///
    /// # Errors
    /// The timer has ended the task and given the thread up: it must leave.
    fn run(self: Arc<Self>, pool: &Arc<Pool>, record: &Arc<Record>) -> Result<Notices, GivenUp>;
    fn fail(&self, failure: Failure) -> Notices;
    fn cancel(&self) -> Notices;
}

impl<J: Job> Runnable for Task<J> {
    fn accept(&self, executor: u64, number: u64) {
        self.note_accepted(executor, number);
    }

    fn is_cancelled(&self) -> bool {
        self.cell.state().is_cancelled()
    }

    fn run(self: Arc<Self>, pool: &Arc<Pool>, record: &Arc<Record>) -> Result<Notices, GivenUp> {
        if !matches!(self.cell.begin(), Begin::Started) {
            // Cancelled between the queue and here: the queue has not passed over it, so it is counted here.
            pool.count_cancelled(u64::from(self.is_cancelled()));
            return Ok(Notices::default());
        }
        self.runner.store(record.thread().map_or(0, ThreadNumber::bits), Relaxed);
        let Some(job) = self.take_job() else { return Ok(Notices::default()) };
        record.started.add(1);
        self.emit(EventKind::Started, Some(record.number));
        // The job goes in by value: it is dropped before the outcome can be seen.
        let outcome = Self::run_attempts(&self, job, pool, record);
        let failed = outcome.is_failure();
        let error = described(&outcome);
        // Who sees the result sees it counted; only a task with a limit may turn out to have been ended by the timer.
        let has_limit = self.options.get().is_some_and(|options| options.task_timeout.is_some());
        if !has_limit {
            record.ended(failed);
        }
        let tell = || self.emit_with(EventKind::Ended { failed }, Some(record.number), error);
        match self.cell.finish_and(outcome, tell) {
            Ok(notices) => {
                if has_limit {
                    record.ended(failed);
                }
                Ok(notices)
            }
            // The late outcome is dropped: the future has one already.
            Err(_late) if self.is_overrun.load(Relaxed) => Err(GivenUp),
            Err(_late) => {
                if has_limit {
                    record.ended(failed);
                }
                Ok(Notices::default())
            }
        }
    }

    fn fail(&self, failure: Failure) -> Notices {
        drop(self.take_job());
        let error = if events::is_listening() { Some(failure.to_string().into()) } else { None };
        let tell = || self.emit_with(EventKind::Ended { failed: true }, None, error);
        self.cell.finish_and(failure.into(), tell).unwrap_or_default()
    }

    fn cancel(&self) -> Notices {
        match Self::cancel(self) {
            Cancel::Now(notices) => notices,
            Cancel::Already | Cancel::Refused => Notices::default(),
        }
    }
}

impl<J: Job> Expire for Task<J> {
    fn expire(&self, attempt: u32, record: &Record) -> Option<Notices> {
        self.attempt.compare_exchange(attempt, EXPIRED, Relaxed, Relaxed).ok()?;
        let options = self.options.get()?;
        let failure = Failure::TimedOut { label: options.label.clone(), limit: options.task_timeout? };
        let overruns = || {
            self.is_overrun.store(true, Relaxed);
            self.emit(EventKind::TimedOut, Some(record.number));
        };
        self.cell.finish_and(failure.into(), overruns).ok()
    }
}
