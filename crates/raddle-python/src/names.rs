//! The Python objects that the binding needs, given to it once by the package: it imports nothing by itself.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};

use raddle::waits::Description;
use raddle::{Deadlock, Death, Failure, SubmitError};

use crate::process::Side;

/// Classes and functions of the package and of `concurrent.futures`.
pub(crate) struct Names {
    pub(crate) future: Py<PyType>,
    pub(crate) make_thread: Py<PyAny>,
    pub(crate) make_condition: Py<PyAny>,
    pub(crate) log_callback: Py<PyAny>,
    pub(crate) log_initializer: Py<PyAny>,
    pub(crate) log_unexpected: Py<PyAny>,
    cancelled_error: Py<PyAny>,
    timeout_error: Py<PyAny>,
    invalid_state_error: Py<PyAny>,
    broken_thread_pool: Py<PyAny>,
    task_timeout: Py<PyAny>,
    deadlock: Py<PyAny>,
    holder_ended: Py<PyAny>,
    not_held: Py<PyAny>,
    lock_statistics: Py<PyAny>,
}

/// The same for pools of processes: most programs have none, and do not load these.
pub(crate) struct ProcessNames {
    worker_died: Py<PyAny>,
    process_refusal: Py<PyAny>,
    pub(crate) hear: Py<PyAny>,
    pub(crate) announcement: Py<PyAny>,
}

static NAMES: PyOnceLock<Names> = PyOnceLock::new();
static PROCESS_NAMES: PyOnceLock<ProcessNames> = PyOnceLock::new();

/// Gives the binding what it needs for pools of processes.
#[pyfunction]
#[pyo3(name = "_bind_processes")]
pub(crate) fn bind_processes(py: Python<'_>, names: &Bound<'_, PyDict>) -> PyResult<()> {
    let get = |name: &str| -> PyResult<Py<PyAny>> { Ok(names.as_any().get_item(name)?.unbind()) };
    let bound = ProcessNames {
        worker_died: get("worker_died")?,
        process_refusal: get("process_refusal")?,
        hear: get("hear")?,
        announcement: get("announcement")?,
    };
    let _ = PROCESS_NAMES.set(py, bound);
    Ok(())
}

/// Gives the binding the objects that it needs.
#[pyfunction]
#[pyo3(name = "_bind")]
pub(crate) fn bind(py: Python<'_>, names: &Bound<'_, PyDict>) -> PyResult<()> {
    let get = |name: &str| -> PyResult<Py<PyAny>> { Ok(names.as_any().get_item(name)?.unbind()) };
    let bound = Names {
        future: get("Future")?.into_bound(py).cast_into::<PyType>()?.unbind(),
        make_thread: get("make_thread")?,
        make_condition: get("Condition")?,
        log_callback: get("log_callback")?,
        log_initializer: get("log_initializer")?,
        log_unexpected: get("log_unexpected")?,
        cancelled_error: get("CancelledError")?,
        timeout_error: get("TimeoutError")?,
        invalid_state_error: get("InvalidStateError")?,
        broken_thread_pool: get("BrokenThreadPool")?,
        task_timeout: get("TaskTimeout")?,
        deadlock: get("deadlock")?,
        holder_ended: get("holder_ended")?,
        not_held: get("not_held")?,
        lock_statistics: get("lock_statistics")?,
    };
    let _ = NAMES.set(py, bound);
    Ok(())
}

/// Where each thread is: `sys._current_frames()`.
///
/// CPython 3.11 makes the frames with a lock held that a collection of garbage may need (python/cpython#106883): so there is
/// none meanwhile. Between the three calls no Python runs, so no other thread sees it switched off.
fn current_frames(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let frames = py.import("sys")?.getattr("_current_frames")?;
    // SAFETY: the interpreter is held.
    let was_enabled = unsafe { ffi::PyGC_Disable() } == 1;
    let frames = frames.call0();
    if was_enabled {
        // SAFETY: as above.
        unsafe { ffi::PyGC_Enable() };
    }
    frames
}

impl Names {
    /// The names; they are bound when the package is imported.
    pub(crate) fn get(py: Python<'_>) -> &Self {
        NAMES.get(py).expect("the package binds its names before it uses the module")
    }

    pub(crate) fn of_processes(py: Python<'_>) -> &ProcessNames {
        PROCESS_NAMES.get(py).expect("the package binds these names before it makes a pool of processes")
    }

    pub(crate) fn cancelled(py: Python<'_>) -> PyErr {
        Self::raise(py, &Self::get(py).cancelled_error, None)
    }

    pub(crate) fn timed_out(py: Python<'_>, message: Option<String>) -> PyErr {
        Self::raise(py, &Self::get(py).timeout_error, message)
    }

    pub(crate) fn invalid_state(py: Python<'_>, message: String) -> PyErr {
        Self::raise(py, &Self::get(py).invalid_state_error, Some(message))
    }

    /// What the engine says of a task, as an exception.
    pub(crate) fn failure(py: Python<'_>, failure: &Failure) -> PyErr {
        let names = Self::get(py);
        let class = match failure {
            Failure::TimedOut { .. } => &names.task_timeout,
            _ => &names.broken_thread_pool,
        };
        Self::raise(py, class, Some(failure.to_string()))
    }

    /// Why a pool did not take a task, as an exception.
    pub(crate) fn refusal(py: Python<'_>, error: &SubmitError, is_exiting: bool) -> PyErr {
        match error {
            SubmitError::Broken(_) | SubmitError::Forked => {
                Self::raise(py, &Self::get(py).broken_thread_pool, Some(error.to_string()))
            }
            SubmitError::ShutDown if is_exiting => {
                pyo3::exceptions::PyRuntimeError::new_err("cannot schedule new futures after interpreter shutdown")
            }
            _ => pyo3::exceptions::PyRuntimeError::new_err(error.to_string()),
        }
    }

    /// What the engine says of a task in a pool of processes, as an exception.
    pub(crate) fn process_failure(py: Python<'_>, side: &Side, failure: &Failure) -> PyErr {
        let names = Self::of_processes(py);
        let mut limit = None;
        let (task, death, how) = match failure {
            Failure::Overran { task, limit } => {
                let call = side.describe(py, task).unwrap_or_else(|| "a task".into());
                let message = format!(
                    "{call} ran longer than its task_timeout of {} s: its worker process was ended and replaced",
                    limit.as_secs_f64()
                );
                return Self::raise(py, &Self::get(py).task_timeout, Some(message));
            }
            Failure::Died { task, death } => (task, death, "died"),
            Failure::Killed { task, death } => (task, death, "killed"),
            Failure::Outgrew { task, death, limit: bytes } => {
                limit = Some(*bytes);
                (task, death, "outgrew")
            }
            other => return Self::made(names.process_refusal.bind(py).call1((other.to_string(),))),
        };
        let Death { worker, pid, exit, why } = &**death;
        let end = (exit.code, exit.peak_memory, exit.stack.clone(), why.clone());
        let facts = (side.describe(py, task), *worker, *pid, end, limit);
        Self::made(names.worker_died.bind(py).call1((how, facts)))
    }

    /// Why a pool of processes did not take a task, as an exception.
    pub(crate) fn process_refusal(py: Python<'_>, error: &SubmitError, is_exiting: bool) -> PyErr {
        let names = Self::of_processes(py);
        match error {
            SubmitError::Broken(reason) => Self::made(names.process_refusal.bind(py).call1((&**reason,))),
            SubmitError::Forked => {
                let text = "this executor was made before os.fork(): its workers belong to the parent process; make a \
                            new executor in the child";
                Self::made(names.process_refusal.bind(py).call1((text,)))
            }
            SubmitError::ShutDown | SubmitError::NoThread(_) => Self::refusal(py, error, is_exiting),
            other => Self::refusal(py, other, is_exiting),
        }
    }

    /// What the graph of waits has found, as a `DeadlockError`. The threads in it still wait.
    pub(crate) fn deadlock(py: Python<'_>, deadlock: &Deadlock) -> PyErr {
        let links: Vec<_> = deadlock
            .links()
            .iter()
            .map(|link| {
                let Description { what, taken_at } = link.awaited.describe();
                (link.ident, what, taken_at, link.held_by.clone())
            })
            .collect();
        let made = current_frames(py).and_then(|frames| Self::get(py).deadlock.bind(py).call1((links, frames)));
        Self::made(made)
    }

    /// A lock will never be released, as a `DeadlockError`.
    pub(crate) fn holder_ended(py: Python<'_>, what: &str, taken_at: Option<String>) -> PyErr {
        Self::made(Self::get(py).holder_ended.bind(py).call1((what, taken_at)))
    }

    /// The calling thread does not hold the lock that it wants to release.
    pub(crate) fn not_held(py: Python<'_>, what: &str, holder: Option<u64>, is_held: bool) -> PyErr {
        Self::made(Self::get(py).not_held.bind(py).call1((what, holder, is_held)))
    }

    pub(crate) fn lock_statistics(
        py: Python<'_>,
        figures: (u64, u64, f64, f64),
        holder: Option<u64>,
    ) -> PyResult<Py<PyAny>> {
        Self::get(py).lock_statistics.call1(py, (figures, holder))
    }

    fn raise(py: Python<'_>, class: &Py<PyAny>, message: Option<String>) -> PyErr {
        let made = match message {
            Some(text) => class.bind(py).call1((text,)),
            None => class.bind(py).call0(),
        };
        Self::made(made)
    }

    fn made(exception: PyResult<Bound<'_, PyAny>>) -> PyErr {
        exception.map_or_else(|error| error, PyErr::from_value)
    }
}
