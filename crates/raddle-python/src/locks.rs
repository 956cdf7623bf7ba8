//! `Lock` and `RLock`: the engine's, with the faces of those in `threading`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyOverflowError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

use raddle::sync::{Attempt, NotHeld, RawLock, ReentrantRawLock, Woken};
use raddle::waits::{Awaited, Description, Look, ThreadNumber};

use crate::enter::{self, Slept};
use crate::names::Names;
use crate::site::Site;

/// What both kinds of locks have.
struct Core<L> {
    lock: L,
    name: Option<String>,
    site: Site,
}

/// A lock of the engine: what this module needs of it.
trait EngineLock: Send + Sync + Default + 'static {
    fn raw(&self) -> &RawLock;
    fn try_acquire(&self, me: ThreadNumber) -> bool;
    fn release(&self, me: ThreadNumber) -> Result<(), NotHeld>;
    /// The lock has been acquired by waiting.
    fn note_acquired(&self) {}
    /// Whether the calling thread, which holds it, did not hold it before.
    fn is_new(&self) -> bool {
        true
    }
}

impl EngineLock for RawLock {
    fn raw(&self) -> &RawLock {
        self
    }

    #[inline]
    fn try_acquire(&self, me: ThreadNumber) -> bool {
        Self::try_acquire(self, me)
    }

    #[inline]
    fn release(&self, me: ThreadNumber) -> Result<(), NotHeld> {
        Self::release(self, me)
    }
}

impl EngineLock for ReentrantRawLock {
    fn raw(&self) -> &RawLock {
        Self::raw(self)
    }

    #[inline]
    fn try_acquire(&self, me: ThreadNumber) -> bool {
        Self::try_acquire(self, me)
    }

    #[inline]
    fn release(&self, me: ThreadNumber) -> Result<(), NotHeld> {
        Self::release(self, me)
    }

    fn note_acquired(&self) {
        self.set_depth(1);
    }

    #[inline]
    fn is_new(&self) -> bool {
        self.depth_of_holder() == 1
    }
}

impl<L: EngineLock> Awaited for Core<L> {
    fn held_up_by(&self, look: &Look<'_>) -> Option<Vec<ThreadNumber>> {
        self.lock.raw().held_up_by(look)
    }

    fn describe(&self) -> Description {
        Python::attach(|py| Description { what: self.title(py), taken_at: self.site.read(py) })
    }
}

impl<L: EngineLock> Core<L> {
    fn new(name: Option<String>) -> Arc<Self> {
        Arc::new(Self { lock: L::default(), name, site: Site::default() })
    }

    /// Takes the lock, however long that takes.
    #[inline]
    fn enter(self: &Arc<Self>, py: Python<'_>) -> PyResult<bool> {
        let me = ThreadNumber::current();
        if self.lock.try_acquire(me) {
            self.note(py);
            return Ok(true);
        }
        self.wait(py, me, None)
    }

    fn acquire(self: &Arc<Self>, py: Python<'_>, blocking: bool, timeout: f64) -> PyResult<bool> {
        if blocking && timeout == -1.0 {
            return self.enter(py);
        }
        let limit = limit_of(blocking, timeout)?;
        let me = ThreadNumber::current();
        if self.lock.try_acquire(me) {
            self.note(py);
            return Ok(true);
        }
        if limit.is_zero() {
            return Ok(false);
        }
        self.wait(py, me, Instant::now().checked_add(limit))
    }

    /// Notes where the lock was taken, not where it was taken once more.
    #[inline]
    fn note(&self, py: Python<'_>) {
        if self.lock.is_new() {
            self.site.note(py);
        }
    }

    /// Takes the lock back for a thread that must have it, whatever comes: signals are seen to afterwards.
    fn take_back(self: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        let me = ThreadNumber::current();
        if self.lock.try_acquire(me) {
            self.note(py);
            return Ok(());
        }
        let attempt = self.lock.raw().attempt(me).called(self.name.as_deref());
        let watch = || Arc::clone(self) as Arc<dyn Awaited>;
        loop {
            match py.detach(|| attempt.wait(None, Some(&watch))) {
                Woken::Look if !attempt.try_acquire() => {}
                Woken::Look | Woken::Acquired => break,
                Woken::Interrupted | Woken::TimedOut => {}
                Woken::Deadlock(deadlock) => return Err(Names::deadlock(py, &deadlock)),
                Woken::HolderEnded => return Err(self.holder_ended(py)),
            }
        }
        self.lock.note_acquired();
        self.note(py);
        Ok(())
    }

    fn holder_ended(&self, py: Python<'_>) -> PyErr {
        let Description { what, taken_at } = self.describe();
        Names::holder_ended(py, &what, taken_at)
    }

    #[cold]
    fn wait(self: &Arc<Self>, py: Python<'_>, me: ThreadNumber, deadline: Option<Instant>) -> PyResult<bool> {
        let attempt: Attempt<'_> = self.lock.raw().attempt(me).called(self.name.as_deref());
        let watch = || Arc::clone(self) as Arc<dyn Awaited>;
        let is_taken = loop {
            let woken =
                enter::sleep(py, deadline, |until| match attempt.wait(until, deadline.is_none().then_some(&watch)) {
                    Woken::TimedOut => Slept::TimedOut,
                    Woken::Interrupted => Slept::Interrupted,
                    other => Slept::Over(other),
                })?;
            match woken {
                // The interpreter is held again: until now others could go on with the lock.
                Some(Woken::Look) if attempt.try_acquire() => break true,
                Some(Woken::Look) => {}
                Some(Woken::Acquired) => break true,
                Some(Woken::Deadlock(deadlock)) => return Err(Names::deadlock(py, &deadlock)),
                Some(Woken::HolderEnded) => return Err(self.holder_ended(py)),
                Some(Woken::TimedOut | Woken::Interrupted) | None => break false,
            }
        };
        if is_taken {
            self.lock.note_acquired();
            self.site.note(py);
        }
        Ok(is_taken)
    }

    #[inline]
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        self.lock.release(ThreadNumber::current()).map_err(|_| self.not_held(py))
    }

    #[cold]
    fn not_held(&self, py: Python<'_>) -> PyErr {
        Names::not_held(py, &self.title(py), self.lock.raw().holder_ident(), self.lock.raw().holder().is_some())
    }

    /// What messages call it.
    fn title(&self, py: Python<'_>) -> String {
        self.quoted_name(py).map_or_else(|| "a lock without a name".into(), |name| format!("lock {name}"))
    }

    /// The name as Python quotes it.
    fn quoted_name(&self, py: Python<'_>) -> Option<String> {
        let name = PyString::new(py, self.name.as_deref()?);
        Some(name.repr().map_or_else(|_| name.to_string(), |quoted| quoted.to_string()))
    }

    fn is_locked(&self) -> bool {
        self.lock.raw().holder().is_some()
    }

    fn statistics(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let now = self.lock.raw().statistics();
        let seconds = |time: Duration| time.as_secs_f64();
        let figures = (now.acquisitions, now.contended, seconds(now.total_wait), seconds(now.longest_wait));
        Names::lock_statistics(py, figures, self.lock.raw().holder_ident())
    }

    fn repr(&self, slf: &Bound<'_, PyAny>) -> PyResult<String> {
        let state = if self.is_locked() { "locked" } else { "unlocked" };
        let name = self.quoted_name(slf.py()).map(|name| format!(" {name}")).unwrap_or_default();
        let class = slf.get_type().fully_qualified_name()?;
        Ok(format!("<{state} {class}{name} object at {:#x}>", slf.as_ptr() as usize))
    }
}

/// How long `acquire` may wait: the standard library's rules and words.
fn limit_of(blocking: bool, timeout: f64) -> PyResult<Duration> {
    if !blocking && timeout != -1.0 {
        return Err(PyValueError::new_err("can't specify a timeout for a non-blocking call"));
    }
    if !blocking {
        return Ok(Duration::ZERO);
    }
    if timeout < 0.0 || timeout.is_nan() {
        return Err(PyValueError::new_err("timeout value must be a non-negative number"));
    }
    // 2^63 nanoseconds, as `threading.TIMEOUT_MAX`.
    const LONGEST: f64 = 9_223_372_036.0;
    if timeout > LONGEST {
        return Err(PyOverflowError::new_err("timeout value is too large"));
    }
    Ok(Duration::from_secs_f64(timeout))
}

/// Takes anything that is true or false.
fn truth(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    object.is_truthy()
}

/// What both classes have, and what one has besides: pyo3 wants the methods of a class in one place.
macro_rules! lock_methods {
    ($class:ident { $($more:tt)* }) => {
        #[pymethods]
        impl $class {
            #[new]
            #[pyo3(signature = (*, name=None))]
            fn new(name: Option<String>) -> Self {
                Self(Core::new(name))
            }

            /// Take the lock; return whether it was taken.
            ///
            /// Parameters
            /// ----------
            /// blocking : bool
            ///     Whether to wait until it is free.
            /// timeout : float
            ///     Seconds to wait at most; -1 for no limit. Such a wait is never part of a deadlock.
            ///
            /// Raises
            /// ------
            /// DeadlockError
            ///     Threads wait for each other in a circle, which this wait would close; or the thread that
            ///     holds the lock has ended. Never with `timeout`, nor without `blocking`.
            #[pyo3(signature = (blocking=true, timeout=-1.0))]
            fn acquire(&self, py: Python<'_>, #[pyo3(from_py_with = truth)] blocking: bool, timeout: f64) -> PyResult<bool> {
                self.0.acquire(py, blocking, timeout)
            }

            /// Give the lock up.
            ///
            /// Raises
            /// ------
            /// RuntimeError
            ///     The calling thread does not hold it.
            fn release(&self, py: Python<'_>) -> PyResult<()> {
                self.0.release(py)
            }

            /// Return whether a thread holds the lock.
            fn locked(&self) -> bool {
                self.0.is_locked()
            }

            /// Return how often the lock was taken and how long threads waited for it: a `LockStatistics`.
            fn statistics(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
                self.0.statistics(py)
            }

            /// The name for reports, or None.
            #[getter]
            fn name(&self) -> Option<&str> {
                self.0.name.as_deref()
            }

            fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
                self.0.enter(py)
            }

            #[pyo3(signature = (_type=None, _value=None, _traceback=None, /))]
            fn __exit__(
                &self,
                py: Python<'_>,
                _type: Option<&Bound<'_, PyAny>>,
                _value: Option<&Bound<'_, PyAny>>,
                _traceback: Option<&Bound<'_, PyAny>>,
            ) -> PyResult<()> {
                self.0.release(py)
            }

            $($more)*
        }
    };
}

/// A lock that belongs to the thread that took it, and that tells of a deadlock in place of hanging.
///
/// As :class:`threading.Lock`, but for two differences: releasing it from another thread than the
/// one that took it raises ``RuntimeError``, and taking it again in the thread that holds it, without
/// a time limit, raises `DeadlockError`.
///
/// Parameters
/// ----------
/// name : str, optional
///     A name for reports.
///
/// Examples
/// --------
/// >>> from raddle import Lock
/// >>> lock = Lock(name="accounts")
/// >>> with lock:
/// ...     lock.locked()
/// True
/// >>> lock.statistics().acquisitions
/// 1
#[pyclass(module = "raddle", frozen, weakref, subclass)]
pub(crate) struct Lock(Arc<Core<RawLock>>);

lock_methods! { Lock {
    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        slf.get().0.repr(slf.as_any())
    }

    /// Make the lock free, in the child of a fork: for `threading`, which does so with locks inside its own.
    fn _at_fork_reinit(&self) {
        self.0.lock.reset();
    }
} }

/// A lock that the thread that holds it may take again; it is free when it was released as often.
///
/// As :class:`threading.RLock`; a deadlock between threads raises `DeadlockError` in place of hanging.
///
/// Parameters
/// ----------
/// name : str, optional
///     A name for reports.
///
/// Examples
/// --------
/// >>> from raddle import RLock
/// >>> lock = RLock()
/// >>> with lock, lock:
/// ...     lock.statistics().holder
/// 'MainThread'
#[pyclass(module = "raddle", frozen, weakref, subclass)]
pub(crate) struct RLock(Arc<Core<ReentrantRawLock>>);

lock_methods! { RLock {
    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let this = &slf.get().0;
        let repr = this.repr(slf.as_any())?;
        let count = this.lock.depth(ThreadNumber::current());
        Ok(repr.replacen(" object at", &format!(" object count={count} at"), 1))
    }

    // What follows is private in the standard library, and what its `Condition` needs.

    /// Whether the calling thread holds the lock.
    fn _is_owned(&self) -> bool {
        self.0.lock.depth(ThreadNumber::current()) > 0
    }

    /// How often the calling thread holds the lock.
    fn _recursion_count(&self) -> u64 {
        self.0.lock.depth(ThreadNumber::current())
    }

    /// Give the lock up altogether; return what `_acquire_restore` needs.
    fn _release_save(&self, py: Python<'_>) -> PyResult<(u64, u64)> {
        let depth = self.0.lock.depth(ThreadNumber::current());
        if depth == 0 {
            return Err(PyRuntimeError::new_err("cannot release un-acquired lock"));
        }
        self.0.lock.set_depth(1);
        self.0.release(py)?;
        Ok((depth, raddle::os::thread_ident()))
    }

    /// Take the lock as often as it was held before.
    fn _acquire_restore(&self, py: Python<'_>, state: &Bound<'_, PyTuple>) -> PyResult<()> {
        let depth: u64 = state.get_item(0)?.extract()?;
        self.0.take_back(py)?;
        self.0.lock.set_depth(depth);
        Ok(())
    }

    /// Make the lock free, in the child of a fork: for `threading`, which does so with locks inside its own.
    fn _at_fork_reinit(&self) {
        self.0.lock.raw().reset();
    }
} }
