//! What launchers and new workers need of the system and of the codec (start of a WORKER).
//!
//! Ends follow other ends: a worker outlives neither its program nor its template. Processes are known by descriptors. Python's
//! own functions for these are missing where it was built for an old system.

use std::io;
use std::os::fd::{BorrowedFd, IntoRawFd};

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use raddle::os;
use raddle::process::worker;

use crate::codec::Pickling;

/// With the number of the error, by which Python chooses the class.
fn system_error(error: io::Error) -> PyErr {
    match error.raw_os_error() {
        Some(number) => PyOSError::new_err((number, error.to_string())),
        None => error.into(),
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
    os::open_process(pid).map(IntoRawFd::into_raw_fd).map_err(system_error)
}

/// Sends a signal to the process of a descriptor.
#[pyfunction]
pub(crate) fn signal_process(descriptor: i32, signal: i32) -> PyResult<()> {
    if descriptor < 0 {
        return Err(PyValueError::new_err("a descriptor is not negative"));
    }
    // SAFETY: it is not -1, and only lent to the call, which checks that it is open and a process.
    let process = unsafe { BorrowedFd::borrow_raw(descriptor) };
    os::signal_process(process, signal).map_err(system_error)
}

/// An empty file in memory, which is gone with its last descriptor.
#[pyfunction]
pub(crate) fn memory_file() -> PyResult<i32> {
    os::memory_file().map(IntoRawFd::into_raw_fd).map_err(system_error)
}

/// Pickles one object for the workers of a pool that sends by value what they cannot import.
#[pyfunction]
pub(crate) fn pickle<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    Pickling::new(value.py(), true)?.pickle(value)
}
