//! The one crossing between the languages: release the interpreter, wait in the engine, see to signals, map the end.

use std::time::{Duration, Instant};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use raddle::signal::Waited;

/// How long the main thread sleeps before it looks for signals. A handler interrupts the sleep; the slice is for the one
/// that runs between the last look and the sleep.
const SIGNAL_SLICE: Duration = Duration::from_millis(50);

/// Waits in the engine without the interpreter until `wait` is ready (`true`) or `deadline` has passed (`false`).
///
/// # Errors
/// Whatever a signal handler raises: Ctrl-C ends a wait at once.
pub(crate) fn block(
    py: Python<'_>,
    deadline: Option<Instant>,
    wait: impl Fn(Option<Instant>) -> Waited + Sync,
) -> PyResult<bool> {
    let sees_signals = raddle::os::is_main_thread();
    loop {
        let slice = sees_signals.then(|| Instant::now() + SIGNAL_SLICE);
        let until = deadline.into_iter().chain(slice).min();
        match py.detach(|| wait(until)) {
            Waited::Ready => return Ok(true),
            Waited::TimedOut if until == deadline => return Ok(false),
            Waited::TimedOut | Waited::Interrupted => py.check_signals()?,
        }
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
