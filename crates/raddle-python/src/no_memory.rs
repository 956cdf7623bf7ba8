//! What a `MemoryError` for a task, a result or an array tells: how much was wanted, and how much shared memory is in use
//! (submit -> TRANSPORT -> worker -> result).

use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};

use raddle::process::arena::Arena;

use crate::apart::Exported;
use crate::serve;

/// Deeper than arguments in a list of calls nothing is looked for.
const DEPTH: u32 = 3;

/// There is no memory for so many bytes of something.
pub(crate) fn no_memory(bytes: u64, what: &str) -> PyErr {
    PyMemoryError::new_err(no_memory_text(bytes, what))
}

/// The text of that error.
#[pyfunction]
pub(crate) fn no_memory_text(bytes: u64, what: &str) -> String {
    format!("there is no memory for {bytes} bytes of {what}; {}", advice())
}

fn advice() -> String {
    let advice = "drop results that are no longer needed, or send less at a time";
    // A worker does not know what its program has given out.
    let arena = if serve::is_worker() { None } else { Arena::of_process() };
    arena.map_or_else(
        || advice.to_owned(),
        |arena| {
            let ((used, _), limit) = (arena.usage(), arena.limit());
            format!("of shared memory {used} bytes are in use, of at most {limit}: {advice}")
        },
    )
}

/// Whether it is a `MemoryError` that tells nothing.
fn is_bare(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyMemoryError>(py)
        && error.value(py).getattr("args").and_then(|args| args.is_truthy()).is_ok_and(|has_some| !has_some)
}

/// An error of the interpreter, with the sizes where it is a `MemoryError` that tells nothing.
pub(crate) fn with_bytes(py: Python<'_>, error: PyErr, bytes: u64, what: &str) -> PyErr {
    if is_bare(py, &error) { no_memory(bytes, what) } else { error }
}

/// An error of a pickler, likewise.
pub(crate) fn with_sizes(py: Python<'_>, error: PyErr, value: &Bound<'_, PyAny>) -> PyErr {
    if !is_bare(py, &error) {
        return error;
    }
    let bytes = bytes_of(value, DEPTH);
    let told = PyMemoryError::new_err(format!(
        "there is no memory to pickle a task or a result with {bytes} bytes of arrays, bytes and strings; {}",
        advice()
    ));
    told.set_cause(py, Some(error));
    told
}

/// How much memory arguments, or a result, have that is seen from outside.
fn bytes_of(value: &Bound<'_, PyAny>, depth: u32) -> u64 {
    if let Ok(text) = value.cast::<PyString>() {
        return text.len().unwrap_or(0) as u64;
    }
    if depth == 0 {
        return 0;
    }
    if let Ok(values) = value.cast_exact::<PyTuple>() {
        return values.iter().map(|value| bytes_of(&value, depth - 1)).sum();
    }
    if let Ok(values) = value.cast_exact::<PyList>() {
        return values.iter().map(|value| bytes_of(&value, depth - 1)).sum();
    }
    if let Ok(values) = value.cast_exact::<PyDict>() {
        return values.iter().map(|(_, value)| bytes_of(&value, depth - 1)).sum();
    }
    Exported::whole(value).map_or(0, |memory| memory.len() as u64)
}
