//! The one door to atomics and locks, so that loom can stand in for std.
//!
//! Under `--cfg loom` every type here is loom's, and a model run explores all interleavings; otherwise they are std's.
//! [`Mutex`] ignores poisoning: no code of a user runs under an engine lock, so a panic cannot leave one half changed.

#[cfg(loom)]
pub(crate) use loom::{
    cell::UnsafeCell,
    sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering, fence},
};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

#[cfg(loom)]
use loom::sync::{Mutex as RawMutex, MutexGuard};
#[cfg(not(loom))]
use std::sync::{Mutex as RawMutex, MutexGuard};

use std::sync::PoisonError;

/// A mutual exclusion lock without poisoning.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(RawMutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(RawMutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lock, if nobody has it: in a child of a fork whoever had it may not be there.
    #[cfg(not(loom))]
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(guard) => Some(guard),
            Err(std::sync::TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(std::sync::TryLockError::WouldBlock) => None,
        }
    }
}

/// `std::cell::UnsafeCell` with the face of loom's, which sees every access.
#[cfg(not(loom))]
#[derive(Debug)]
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    pub(crate) fn with_mut<R>(&self, access: impl FnOnce(*mut T) -> R) -> R {
        access(self.0.get())
    }
}

/// Why a wait on a [`Futex`] came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FutexWake {
    /// Somebody woke it, or the word had changed already, or for no reason: look at the word.
    Look,
    /// The time was over.
    #[cfg_attr(loom, expect(dead_code, reason = "a model has no time"))]
    TimedOut,
    /// A signal handler ran on this thread.
    Interrupted,
}

/// A word that a thread can sleep on until it changes.
#[derive(Debug)]
pub(crate) struct Futex {
    word: AtomicU32,
    #[cfg(loom)]
    sleepers: (loom::sync::Mutex<()>, loom::sync::Condvar),
}

impl Futex {
    pub(crate) fn new(value: u32) -> Self {
        Self {
            word: AtomicU32::new(value),
            #[cfg(loom)]
            sleepers: (loom::sync::Mutex::new(()), loom::sync::Condvar::new()),
        }
    }

    pub(crate) fn word(&self) -> &AtomicU32 {
        &self.word
    }
}

#[cfg(not(loom))]
impl Futex {
    /// Sleeps while the word is `expected`, until woken, interrupted, or until `timeout` has passed.
    pub(crate) fn wait(&self, expected: u32, timeout: Option<std::time::Duration>) -> FutexWake {
        crate::os::futex_wait(&self.word, expected, timeout)
    }

    pub(crate) fn wake_one(&self) {
        crate::os::futex_wake_one(&self.word);
    }
}

#[cfg(loom)]
impl Futex {
    /// As on the system, but without time: a modelled sleeper that nobody wakes is a deadlock that loom reports.
    pub(crate) fn wait(&self, expected: u32, _timeout: Option<std::time::Duration>) -> FutexWake {
        let (lock, condvar) = &self.sleepers;
        let guard = lock.lock().expect("loom's locks are not poisoned");
        if self.word.load(Ordering::Relaxed) == expected {
            drop(condvar.wait(guard).expect("loom's locks are not poisoned"));
        }
        FutexWake::Look
    }

    pub(crate) fn wake_one(&self) {
        let (lock, condvar) = &self.sleepers;
        let _guard = lock.lock().expect("loom's locks are not poisoned");
        condvar.notify_one();
    }
}
