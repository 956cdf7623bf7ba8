//! The locks of Rust programs: a value, a name, and the line of source at which it is held.

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::raw_lock::{Attempt, LockStatistics, RawLock, ReentrantRawLock, Woken};
use crate::waits::{Awaited, Deadlock, Description, Look, ThreadNumber};

/// Why a lock was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockError {
    /// Threads would wait for each other in a circle; the calling one is told, the others can go on once it lets go.
    Deadlock(Deadlock),
    /// The thread that holds it has ended without releasing it, or a fork has lost it: nobody can.
    HolderEnded,
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deadlock(deadlock) => deadlock.fmt(f),
            Self::HolderEnded => f.write_str("the thread that holds the lock has ended without releasing it"),
        }
    }
}

impl std::error::Error for LockError {}

/// What both kinds of locks tell of themselves.
#[derive(Debug)]
struct Label {
    name: Option<String>,
    taken_at: AtomicPtr<Location<'static>>,
}

impl Label {
    fn new(name: Option<&str>) -> Self {
        Self { name: name.map(String::from), taken_at: AtomicPtr::default() }
    }

    /// The holder notes where it took the lock.
    fn note(&self, place: &'static Location<'static>) {
        self.taken_at.store(std::ptr::from_ref(place).cast_mut(), Relaxed);
    }

    fn describe(&self) -> Description {
        // SAFETY: it is null or comes from a reference that is valid for ever.
        let place = unsafe { self.taken_at.load(Relaxed).as_ref() };
        let what = self.name.as_ref().map_or_else(|| "a lock".into(), |name| format!("lock {name:?}"));
        Description { what, taken_at: place.map(ToString::to_string) }
    }
}

#[derive(Debug)]
struct Core {
    raw: RawLock,
    label: Label,
}

impl Awaited for Core {
    fn held_up_by(&self, look: &Look<'_>) -> Option<Vec<ThreadNumber>> {
        self.raw.held_up_by(look)
    }

    fn describe(&self) -> Description {
        self.label.describe()
    }
}

#[derive(Debug)]
struct ReentrantCore {
    raw: ReentrantRawLock,
    label: Label,
}

impl Awaited for ReentrantCore {
    fn held_up_by(&self, look: &Look<'_>) -> Option<Vec<ThreadNumber>> {
        self.raw.raw().held_up_by(look)
    }

    fn describe(&self) -> Description {
        self.label.describe()
    }
}

/// Waits until the lock is taken, or `deadline` has passed (`false`).
fn wait(
    raw: &RawLock,
    label: &Label,
    deadline: Option<Instant>,
    core: impl Fn() -> Arc<dyn Awaited>,
) -> Result<bool, LockError> {
    let attempt: Attempt<'_> = raw.attempt(ThreadNumber::current()).called(label.name.as_deref());
    loop {
        match attempt.wait(deadline, deadline.is_none().then_some(&core)) {
            Woken::Acquired => return Ok(true),
            Woken::Look if attempt.try_acquire() => return Ok(true),
            Woken::Look | Woken::Interrupted => {}
            Woken::TimedOut => return Ok(false),
            Woken::Deadlock(deadlock) => return Err(LockError::Deadlock(deadlock)),
            Woken::HolderEnded => return Err(LockError::HolderEnded),
        }
    }
}

fn deadline_after(timeout: Duration) -> Option<Instant> {
    // A time beyond what a clock can count: far enough, and still no untimed wait.
    Instant::now().checked_add(timeout.min(Duration::from_secs(u64::from(u32::MAX))))
}

/// A value that one thread at a time can use, and a lock that tells of a deadlock in place of hanging.
///
/// ```
/// use raddle::sync::Lock;
///
/// let balance = Lock::with_name(100, "balance");
/// *balance.acquire().unwrap() += 20;
/// assert_eq!(*balance.acquire().unwrap(), 120);
/// assert_eq!(balance.statistics().acquisitions, 2);
/// ```
pub struct Lock<T: ?Sized> {
    core: Arc<Core>,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached through a guard alone, and of guards there is one at a time; so sharing the lock moves the
// value between threads and no more.
unsafe impl<T: ?Sized + Send> Sync for Lock<T> {}
// SAFETY: it owns the value; the rest is Send.
unsafe impl<T: ?Sized + Send> Send for Lock<T> {}

impl<T: ?Sized> fmt::Debug for Lock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").field("name", &self.core.label.name).finish_non_exhaustive()
    }
}

impl<T> Lock<T> {
    /// A free lock.
    pub fn new(value: T) -> Self {
        Self::make(value, None)
    }

    /// A free lock with a name for reports.
    pub fn with_name(value: T, name: &str) -> Self {
        Self::make(value, Some(name))
    }

    fn make(value: T, name: Option<&str>) -> Self {
        let core = Core { raw: RawLock::guarding(), label: Label::new(name) };
        Self { core: Arc::new(core), value: UnsafeCell::new(value) }
    }
}

impl<T: ?Sized> Lock<T> {
    /// Blocks until the lock is free, and takes it.
    ///
    /// # Errors
    /// The calling thread holds it already, or threads would wait for each other in a circle; or its holder has ended.
    #[track_caller]
    pub fn acquire(&self) -> Result<Guard<'_, T>, LockError> {
        let place = Location::caller();
        if self.core.raw.try_acquire(ThreadNumber::current())
            || wait(&self.core.raw, &self.core.label, None, || Arc::clone(&self.core) as _)?
        {
            self.core.label.note(place);
        }
        Ok(self.guard())
    }

    /// Takes the lock if it is free.
    #[track_caller]
    pub fn try_acquire(&self) -> Option<Guard<'_, T>> {
        self.core.raw.try_acquire(ThreadNumber::current()).then(|| {
            self.core.label.note(Location::caller());
            self.guard()
        })
    }

    /// Blocks until the lock is free, but for `timeout` at most. Such a wait is never part of a deadlock.
    #[track_caller]
    pub fn acquire_timeout(&self, timeout: Duration) -> Option<Guard<'_, T>> {
        let place = Location::caller();
        let is_taken = self.core.raw.try_acquire(ThreadNumber::current())
            || wait(&self.core.raw, &self.core.label, deadline_after(timeout), || Arc::clone(&self.core) as _)
                .unwrap_or(false);
        is_taken.then(|| {
            self.core.label.note(place);
            self.guard()
        })
    }

    /// How often it was taken, and how long threads waited for it.
    pub fn statistics(&self) -> LockStatistics {
        self.core.raw.statistics()
    }

    fn guard(&self) -> Guard<'_, T> {
        Guard { lock: self, stays_on_its_thread: PhantomData }
    }
}

/// The right to use the value of a [`Lock`]; dropped, the lock is free.
#[must_use = "the lock is released when the guard is dropped"]
pub struct Guard<'a, T: ?Sized> {
    lock: &'a Lock<T>,
    stays_on_its_thread: PhantomData<*const ()>,
}

// SAFETY: a shared guard gives `&T` and nothing else.
unsafe impl<T: ?Sized + Sync> Sync for Guard<'_, T> {}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Guard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: this is the only guard, and it lends the value as it is itself borrowed.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above; `&mut self` makes this loan the only one.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        self.lock.core.raw.release(ThreadNumber::current()).expect("a guard stays on the thread that took the lock");
    }
}

/// As [`Lock`], but its holder may take it again; so the value can be looked at, not changed, unless it has cells of its
/// own.
///
/// ```
/// use raddle::sync::RLock;
///
/// let lock = RLock::new(7);
/// let outer = lock.acquire().unwrap();
/// let inner = lock.acquire().unwrap();
/// assert_eq!(*outer + *inner, 14);
/// ```
pub struct RLock<T: ?Sized> {
    core: Arc<ReentrantCore>,
    value: UnsafeCell<T>,
}

// SAFETY: all guards that exist at one time are on one thread, so sharing the lock moves the value between threads.
unsafe impl<T: ?Sized + Send> Sync for RLock<T> {}
// SAFETY: it owns the value; the rest is Send.
unsafe impl<T: ?Sized + Send> Send for RLock<T> {}

impl<T: ?Sized> fmt::Debug for RLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RLock").field("name", &self.core.label.name).finish_non_exhaustive()
    }
}

impl<T> RLock<T> {
    /// A free lock.
    pub fn new(value: T) -> Self {
        Self::make(value, None)
    }

    /// A free lock with a name for reports.
    pub fn with_name(value: T, name: &str) -> Self {
        Self::make(value, Some(name))
    }

    fn make(value: T, name: Option<&str>) -> Self {
        let core = ReentrantCore { raw: ReentrantRawLock::guarding(), label: Label::new(name) };
        Self { core: Arc::new(core), value: UnsafeCell::new(value) }
    }
}

impl<T: ?Sized> RLock<T> {
    /// Blocks until no other thread holds the lock, and takes it.
    ///
    /// # Errors
    /// Threads would wait for each other in a circle; or the holder has ended.
    #[track_caller]
    pub fn acquire(&self) -> Result<RGuard<'_, T>, LockError> {
        let place = Location::caller();
        let (raw, me) = (&self.core.raw, ThreadNumber::current());
        if !raw.try_acquire(me) {
            wait(raw.raw(), &self.core.label, None, || Arc::clone(&self.core) as _)?;
            raw.set_depth(1);
        }
        if raw.depth(me) == 1 {
            self.core.label.note(place);
        }
        Ok(RGuard { lock: self, stays_on_its_thread: PhantomData })
    }

    /// How often it was taken, and how long threads waited for it.
    pub fn statistics(&self) -> LockStatistics {
        self.core.raw.raw().statistics()
    }
}

/// The right to look at the value of an [`RLock`].
#[must_use = "the lock is released when the guard is dropped"]
pub struct RGuard<'a, T: ?Sized> {
    lock: &'a RLock<T>,
    stays_on_its_thread: PhantomData<*const ()>,
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized> Deref for RGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: all guards are on this thread and lend the value shared.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for RGuard<'_, T> {
    fn drop(&mut self) {
        self.lock.core.raw.release(ThreadNumber::current()).expect("a guard stays on the thread that took the lock");
    }
}
