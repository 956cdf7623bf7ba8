//! What launchers and new workers need of the system and of the codec (start of a WORKER).
//!
//! Ends follow other ends: a worker outlives neither its program nor its template. Processes are known by descriptors. Python's
//! own functions for these are missing where it was built for an old system.

use std::io;
use std::os::fd::{BorrowedFd, IntoRawFd, OwnedFd};
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use raddle::os::{self, channel};
use raddle::process::worker;

use crate::codec::Pickling;

/// With the number of the error, by which Python chooses the class.
fn system_error(error: io::Error) -> PyErr {
    match error.raw_os_error() {
        Some(number) => PyOSError::new_err((number, error.to_string())),
        None => error.into(),
    }
}

/// Lends a descriptor to one call.
fn lend<'a>(descriptor: i32) -> PyResult<BorrowedFd<'a>> {
    if descriptor < 0 {
        return Err(PyValueError::new_err("a descriptor is not negative"));
    }
    // SAFETY: it is not -1, and the call to the system for which it is lent checks that it is open and of the right kind.
    Ok(unsafe { BorrowedFd::borrow_raw(descriptor) })
}

/// Gives a descriptor to Python, which has to close it.
fn give(descriptor: io::Result<OwnedFd>) -> PyResult<i32> {
    descriptor.map(IntoRawFd::into_raw_fd).map_err(system_error)
}

/// Makes a call without the interpreter, again if only a signal came in between whose handler raises nothing.
fn persist<R: Send>(py: Python<'_>, call: impl Fn() -> io::Result<R> + Sync) -> PyResult<R> {
    loop {
        match py.detach(&call) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => py.check_signals()?,
            made => return made.map_err(system_error),
        }
    }
}

/// Ends this process at once when the process `pid` does, whatever it is doing then.
#[pyfunction]
pub(crate) fn end_with(pid: u32) -> PyResult<()> {
    worker::end_with(pid).map_err(system_error)
}

/// Has the system kill this process when its parent `pid`, which has one thread, ends.
#[pyfunction]
pub(crate) fn die_with_parent(pid: u32) -> PyResult<()> {
    worker::die_with_parent(pid).map_err(system_error)
}

/// A descriptor of a process, which becomes readable when that has ended.
#[pyfunction]
pub(crate) fn open_process(pid: u32) -> PyResult<i32> {
    give(os::open_process(pid))
}

/// Sends a signal to the process of a descriptor.
#[pyfunction]
pub(crate) fn signal_process(descriptor: i32, signal: i32) -> PyResult<()> {
    os::signal_process(lend(descriptor)?, signal).map_err(system_error)
}

/// An empty file in memory, which is gone with its last descriptor.
#[pyfunction]
pub(crate) fn memory_file() -> PyResult<i32> {
    give(os::memory_file())
}

/// Another descriptor of the same, not one of the numbers of the standard streams.
#[pyfunction]
pub(crate) fn duplicate(descriptor: i32) -> PyResult<i32> {
    give(channel::duplicate(lend(descriptor)?))
}

/// The two ends of a new socket for messages.
#[pyfunction(name = "channel")]
pub(crate) fn open_channel() -> PyResult<(i32, i32)> {
    let (here, there) = channel::channel().map_err(system_error)?;
    Ok((here.into_raw_fd(), there.into_raw_fd()))
}

/// Sends one message, and lends the other side these descriptors.
#[pyfunction]
#[pyo3(signature = (socket, message, handed=Vec::new()))]
pub(crate) fn send_message(py: Python<'_>, socket: i32, message: Vec<u8>, handed: Vec<i32>) -> PyResult<()> {
    let socket = lend(socket)?;
    let handed = handed.into_iter().map(lend).collect::<PyResult<Vec<_>>>()?;
    persist(py, || channel::send_message(socket, &message, &handed))
}

/// Waits for one message, which is empty at the end, and the descriptors that come with it, to be closed by the caller.
#[pyfunction]
pub(crate) fn receive_message(py: Python<'_>, socket: i32) -> PyResult<(Bound<'_, PyBytes>, Vec<i32>)> {
    let socket = lend(socket)?;
    let (message, handed) = persist(py, || channel::receive_message(socket))?;
    Ok((PyBytes::new(py, &message), handed.into_iter().map(IntoRawFd::into_raw_fd).collect()))
}

/// Waits until one of these can be read, or has ended, at most so many seconds: which of them are so.
#[pyfunction]
#[pyo3(signature = (descriptors, timeout=None))]
pub(crate) fn wait_readable(py: Python<'_>, descriptors: Vec<i32>, timeout: Option<f64>) -> PyResult<Vec<bool>> {
    let descriptors = descriptors.into_iter().map(lend).collect::<PyResult<Vec<_>>>()?;
    // A time that cannot be counted is no limit.
    let limit = timeout.and_then(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).ok());
    let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
    persist(py, || {
        let rest = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        channel::wait_readable(&descriptors, rest)
    })
}

/// Pickles one object for the workers of a pool that sends by value what they cannot import.
#[pyfunction]
pub(crate) fn pickle<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    Pickling::new(value.py(), true)?.pickle(value)
}
