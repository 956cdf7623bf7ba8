//! Ends of processes that follow other ends (start of a WORKER): a worker outlives neither its program nor its template.

use pyo3::prelude::*;

use raddle::process::worker;

/// Ends this process at once when the process `pid` does, whatever it is doing then.
#[pyfunction]
pub(crate) fn end_with(pid: u32) -> PyResult<()> {
    Ok(worker::end_with(pid)?)
}

/// Has the system kill this process when its parent `pid`, which has one thread, ends.
#[pyfunction]
pub(crate) fn die_with_parent(pid: u32) -> PyResult<()> {
    Ok(worker::die_with_parent(pid)?)
}
