//! The one crossing between the languages: release the interpreter, wait in the engine, see to signals, map the end.

use std::time::{Duration, Instant};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use raddle::Deadlock;
use raddle::signal::Waited;

use crate::names::Names;

/// How long the main thread sleeps before it looks for signals. A handler interrupts the sleep; the slice is for the one
/// that runs between the last look and the sleep.
const SIGNAL_SLICE: Duration = Duration::from_millis(50);

/// How one sleep in the engine ended.
pub(crate) enum Slept<R> {
    /// The wait is over, this way or that.
    Over(R),
    /// The time was over first.
    TimedOut,
    /// A signal handler ran on this thread.
    Interrupted,
}

impl From<Result<Waited, Deadlock>> for Slept<Result<(), Deadlock>> {
    fn from(waited: Result<Waited, Deadlock>) -> Self {
        match waited {
            Ok(Waited::Ready) => Self::Over(Ok(())),
            Ok(Waited::TimedOut) => Self::TimedOut,
            Ok(Waited::Interrupted) => Self::Interrupted,
            Err(deadlock) => Self::Over(Err(deadlock)),
        }
    }
}

/// Waits in the engine without the interpreter until `sleep` says that the wait is over, or `deadline` has passed (`None`).
///
/// # Errors
/// Whatever a signal handler raises: Ctrl-C ends a wait at once.
pub(crate) fn sleep<R: Send>(
    py: Python<'_>,
    deadline: Option<Instant>,
    sleep: impl Fn(Option<Instant>) -> Slept<R> + Sync,
) -> PyResult<Option<R>> {
    let sees_signals = raddle::os::is_main_thread();
    loop {
        let slice = sees_signals.then(|| Instant::now() + SIGNAL_SLICE);
        let until = deadline.into_iter().chain(slice).min();
        match py.detach(|| sleep(until)) {
            Slept::Over(end) => return Ok(Some(end)),
            Slept::TimedOut if until == deadline => return Ok(None),
            Slept::TimedOut | Slept::Interrupted => py.check_signals()?,
        }
    }
}

/// Waits in the engine until `wait` is ready (`true`) or `deadline` has passed (`false`). `wait` is given the moment until
/// which it may sleep, and whether it is to be watched for deadlocks: one without a deadline is.
///
/// # Errors
/// Whatever a signal handler raises, and `DeadlockError`.
pub(crate) fn block(
    py: Python<'_>,
    deadline: Option<Instant>,
    wait: impl Fn(Option<Instant>, bool) -> Result<Waited, Deadlock> + Sync,
) -> PyResult<bool> {
    match sleep(py, deadline, |until| wait(until, deadline.is_none()).into())? {
        Some(Ok(())) => Ok(true),
        Some(Err(deadlock)) => Err(Names::deadlock(py, &deadlock)),
        None => Ok(false),
    }
}

/// The moment at which a timeout in seconds ends; `None` if it never does. A negative one has passed already.
///
/// # Errors
/// `ValueError` for a timeout that is not a number.
pub(crate) fn deadline(timeout: Option<f64>) -> PyResult<Option<Instant>> {
    match timeout {
        None => Ok(None),
        Some(seconds) if seconds.is_nan() => Err(PyValueError::new_err("timeout must be a number of seconds, not nan")),
        Some(seconds) => {
            Ok(Duration::try_from_secs_f64(seconds.max(0.0)).ok().and_then(|d| Instant::now().checked_add(d)))
        }
    }
}
