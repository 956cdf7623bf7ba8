//! The transitions of tasks, for whoever listens; free when nobody does (one relaxed load a transition).
//!
//! Statistics count the same transitions at the same places.

mod executors;
mod names;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use crate::per_fork::PerFork;
use crate::waits::ThreadNumber;

pub use executors::{Executor, Workers, executor};
pub(crate) use executors::{Present, add_executor, remove_executor, tell_present};
pub use names::Name;

/// What has happened to a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// It was put into the queue.
    Submitted,
    /// A worker began with it.
    Started,
    /// It failed and is tried again.
    Retried,
    /// It ended.
    Ended {
        /// Whether with an error.
        failed: bool,
    },
    /// It was cancelled before it began.
    Cancelled,
    /// It overran its `task_timeout`; its thread was abandoned, or its process ended.
    TimedOut,
    /// The worker process that ran it died, or was ended with it.
    Died,
    /// A worker process is there; no task is concerned.
    WorkerStarted,
    /// A worker process has ended; `error` says how. No task is concerned.
    WorkerEnded,
}

/// One transition of one task.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Event {
    /// What has happened.
    pub kind: EventKind,
    /// The executor, numbered from 1 in the order of their making; 0: a thread that runs this task alone.
    pub executor: u64,
    /// The task, numbered from 1 within its executor.
    pub task: u64,
    /// The worker, numbered from 0 within its executor, where one is concerned.
    pub worker: Option<usize>,
    /// The label given with the task.
    pub label: Option<Arc<str>>,
    /// What the task runs, where that was asked for while somebody listened.
    pub name: Option<Name>,
    /// The worker process, by its number in the system, where one is concerned.
    pub process: Option<u32>,
    /// How much was sent to a worker process for the task (`Started`), or came back (`Ended`).
    pub bytes: u64,
    /// The error with which the task, or the worker process, ended.
    pub error: Option<Arc<str>>,
    /// When.
    pub at: Instant,
}

impl Event {
    /// One that happens now.
    pub(crate) fn now(kind: EventKind, executor: u64, task: u64) -> Self {
        Self {
            kind,
            executor,
            task,
            worker: None,
            label: None,
            name: None,
            process: None,
            bytes: 0,
            error: None,
            at: Instant::now(),
        }
    }
}

/// Told of every transition, on the thread on which it happens and possibly with the executor's lock held, so that the
/// events of one task come in order: be quick, note the event, and call no executor.
pub trait Observer: Send + Sync {
    /// One transition of one task.
    fn observe(&self, event: &Event);

    /// The calling thread has waited for a lock, and has it now.
    fn waited(&self, wait: &LockWait) {
        let _ = wait;
    }

    /// A page, or what took its place, has been fetched.
    fn fetched(&self, fetch: &Fetch) {
        let _ = fetch;
    }
}

/// One exchange over HTTP.
#[derive(Clone, Debug, Default)]
pub struct Fetch {
    /// What was fetched, without what only the server should know.
    pub url: String,
    /// Where from.
    pub host: String,
    /// What was done, one after the other, each from when to when.
    pub phases: Vec<(&'static str, Instant, Instant)>,
    /// The status of the answer, if there was one.
    pub status: Option<u16>,
    /// The bytes of its body.
    pub bytes: u64,
    /// Why there was none.
    pub error: Option<String>,
}

/// A wait for a lock of [`sync`](crate::sync), on the thread that waited.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct LockWait {
    /// What the lock is called.
    pub lock: Option<Name>,
    /// Who held it when the wait began.
    pub holder: Option<ThreadNumber>,
    /// When it began.
    pub since: Instant,
    /// When the lock was had.
    pub until: Instant,
}

type Observers = Arc<[(u64, Arc<dyn Observer>)]>;

static LISTENING: AtomicUsize = AtomicUsize::new(0);
/// A child of a fork has no observers: what its parent's had noted is the parent's.
static OBSERVERS: PerFork<RwLock<Observers>> = PerFork::new();
static NEXT_KEY: AtomicU64 = AtomicU64::new(0);

/// Has `observer` told of the transitions of every executor of the process, until the subscription is dropped.
///
/// ```
/// use std::sync::{Arc, atomic::{AtomicUsize, Ordering}};
/// use raddle::events::{Event, EventKind, Observer, subscribe};
///
/// struct Count(AtomicUsize);
/// impl Observer for Count {
///     fn observe(&self, event: &Event) {
///         if event.kind == EventKind::Submitted {
///             self.0.fetch_add(1, Ordering::Relaxed);
///         }
///     }
/// }
///
/// let count = Arc::new(Count(AtomicUsize::new(0)));
/// let subscription = subscribe(count.clone());
/// raddle::ThreadPoolExecutor::new(1).submit(|| ()).result().unwrap();
/// drop(subscription);
/// assert_eq!(count.0.load(Ordering::Relaxed), 1);
/// ```
pub fn subscribe(observer: Arc<dyn Observer>) -> Subscription {
    let key = NEXT_KEY.fetch_add(1, Ordering::Relaxed);
    change(|observers| observers.push((key, observer)));
    Subscription(key)
}

fn change(change: impl FnOnce(&mut Vec<(u64, Arc<dyn Observer>)>)) {
    let mut observers = OBSERVERS.get().write().unwrap_or_else(PoisonError::into_inner);
    let mut changed = observers.to_vec();
    change(&mut changed);
    LISTENING.store(changed.len(), Ordering::Relaxed);
    let before = std::mem::replace(&mut *observers, changed.into());
    drop(observers);
    // It may be the last to hold an observer.
    drop(before);
}

/// Ends the observation when dropped.
#[derive(Debug)]
#[must_use = "the observation ends when the subscription is dropped"]
pub struct Subscription(u64);

impl Drop for Subscription {
    fn drop(&mut self) {
        change(|observers| observers.retain(|(key, _)| *key != self.0));
    }
}

/// Whether anybody listens: what is only for events need not be made otherwise.
#[inline]
pub fn is_listening() -> bool {
    LISTENING.load(Ordering::Relaxed) > 0
}

/// Tells the observers, if there are any, of what `event` makes.
#[inline]
pub(crate) fn emit(event: impl FnOnce() -> Event) {
    if is_listening() {
        tell(&event());
    }
}

/// Tells the observers, if there are any, of a page that was fetched: for those who fetch.
#[inline]
pub fn emit_fetch(fetch: impl FnOnce() -> Fetch) {
    if is_listening() {
        let fetch = fetch();
        tell_each(|observer| observer.fetched(&fetch));
    }
}

/// The same for a wait for a lock.
#[inline]
pub(crate) fn emit_wait(wait: impl FnOnce() -> LockWait) {
    if is_listening() {
        let wait = wait();
        tell_each(|observer| observer.waited(&wait));
    }
}

#[cold]
fn tell(event: &Event) {
    tell_each(|observer| observer.observe(event));
}

fn tell_each(tell: impl Fn(&dyn Observer)) {
    let observers = Arc::clone(&OBSERVERS.get().read().unwrap_or_else(PoisonError::into_inner));
    for (_, observer) in observers.iter() {
        // A panic is told by the panic hook; it must not end the worker on which the transition happened.
        let _ = catch_unwind(AssertUnwindSafe(|| tell(&**observer)));
    }
}
