//! The transitions of tasks, for whoever listens; free when nobody does (one relaxed load a transition).
//!
//! Statistics count the same transitions at the same places.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

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
    /// It overran its `task_timeout`; its thread was abandoned.
    TimedOut,
}

/// One transition of one task.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Event {
    /// What has happened.
    pub kind: EventKind,
    /// The executor, numbered from 1 in the order of their making.
    pub executor: u64,
    /// The task, numbered from 1 within its executor.
    pub task: u64,
    /// The worker, numbered from 0 within its executor, where one is concerned.
    pub worker: Option<usize>,
    /// The label given with the task.
    pub label: Option<Arc<str>>,
    /// When.
    pub at: Instant,
}

/// Told of every transition, on the thread on which it happens and possibly with the executor's lock held, so that the
/// events of one task come in order: be quick, note the event, and call no executor.
pub trait Observer: Send + Sync {
    /// One transition of one task.
    fn observe(&self, event: &Event);
}

type Observers = Vec<(u64, Arc<dyn Observer>)>;

static LISTENING: AtomicUsize = AtomicUsize::new(0);
static OBSERVERS: RwLock<Observers> = RwLock::new(Vec::new());
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
    let mut observers = OBSERVERS.write().unwrap_or_else(PoisonError::into_inner);
    observers.push((key, observer));
    LISTENING.store(observers.len(), Ordering::Relaxed);
    Subscription(key)
}

/// Ends the observation when dropped.
#[derive(Debug)]
#[must_use = "the observation ends when the subscription is dropped"]
pub struct Subscription(u64);

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut observers = OBSERVERS.write().unwrap_or_else(PoisonError::into_inner);
        observers.retain(|(key, _)| *key != self.0);
        LISTENING.store(observers.len(), Ordering::Relaxed);
    }
}

/// Tells the observers, if there are any, of what `event` makes.
#[inline]
pub(crate) fn emit(event: impl FnOnce() -> Event) {
    if LISTENING.load(Ordering::Relaxed) > 0 {
        tell(&event());
    }
}

#[cold]
fn tell(event: &Event) {
    let observers = OBSERVERS.read().unwrap_or_else(PoisonError::into_inner).clone();
    for (_, observer) in observers {
        // A panic is told by the panic hook; it must not end the worker on which the transition happened.
        let _ = catch_unwind(AssertUnwindSafe(|| observer.observe(event)));
    }
}
