//! Objects of which all tasks have one copy: `raddle.share`.
//!
//! The object is pickled once, its parts into the arena; a task is sent the place alone, and opens it where it runs. The
//! segments belong to each call that names them, as if they had been filled for it.

use std::cell::Cell;

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use raddle::os::fork_generation;
use raddle::process::arena::{Arena, Segment};

use crate::apart::{Apart, add_segments, with_segments};
use crate::decode::Unreadable;
use crate::pickling::Pickling;
use crate::placing::is_apart;
use crate::segment_buffer::Access;
use crate::worker_side;

thread_local! {
    /// What is opened on this thread has been shared by this process itself: a worker may have pools of its own.
    static OPENS_OWN: Cell<bool> = const { Cell::new(false) };
}

/// An object that has been pickled with its parts in the arena.
#[pyclass(module = "raddle._native", frozen)]
pub(crate) struct SharedParts {
    placed: Py<PyBytes>,
    segments: Vec<Segment>,
    generation: u32,
    /// Whether this process can open it as well: it brings no code, which would be made anew here.
    #[pyo3(get)]
    is_plain: bool,
}

#[pymethods]
impl SharedParts {
    /// None: it is small, or there is no room for it.
    #[staticmethod]
    fn make(value: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        let py = value.py();
        let Some(arena) = Arena::of_process() else { return Ok(None) };
        let mut pickling = Pickling::new(py, true)?;
        pickling.apart = Apart::Program(arena);
        // What is shared already is named within it, and its segments are this one's too.
        let (made, segments) =
            with_segments(|| Ok::<_, PyErr>((pickling.is_plain(value)?, pickling.pickle_apart(value)?)));
        let (is_plain, placed) = made?;
        if !is_apart(placed.as_bytes()) {
            return Ok(None);
        }
        segments.iter().for_each(Segment::mark_as_result);
        Ok(Some(Self { placed: placed.unbind(), segments, generation: fork_generation(), is_plain }))
    }

    /// What a call is sent in place of the object; None: nothing is sent, or it is sent by a child of a fork.
    fn reference(&self, py: Python<'_>) -> Option<Py<PyBytes>> {
        let is_sent = self.generation == fork_generation() && add_segments(&self.segments);
        is_sent.then(|| self.placed.clone_ref(py))
    }

    /// The object, which is not to be written.
    fn open<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let outer = OPENS_OWN.replace(true);
        let opened = open(py, self.placed.bind(py).as_bytes(), Arena::of_process().map(Apart::Program));
        OPENS_OWN.set(outer);
        opened
    }
}

/// The object that a worker was sent a reference to, or that is part of another which this process opens.
#[pyfunction]
pub(crate) fn open_shared<'py>(py: Python<'py>, placed: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    if OPENS_OWN.get() {
        return open(py, placed, Arena::of_process().map(Apart::Program));
    }
    open(py, placed, worker_side::serving().map(Apart::Worker))
}

fn open<'py>(py: Python<'py>, placed: &[u8], apart: Option<Apart>) -> PyResult<Bound<'py, PyAny>> {
    let Some(apart) = apart else {
        return Err(PyRuntimeError::new_err("a shared object can be opened by a task of a pool of processes alone"));
    };
    let loads = py.import("_pickle")?.getattr(intern!(py, "loads"))?;
    apart.load_as(&loads, placed, Access::ReadOnly).map_err(|why| match why {
        Unreadable::Raised(error) => error,
        Unreadable::Damaged(damaged) => PyRuntimeError::new_err(damaged.what),
    })
}
