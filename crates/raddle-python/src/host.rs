//! CPython as the world in which tasks run: threads are `threading.Thread`s, waiting releases the interpreter.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PySet, PyTuple};

use raddle::host::{Host, Role, ThreadBody};
use raddle::pool::Pool;

use crate::job::note_given_up;
use crate::names::Names;

/// What a pool of Python threads starts its threads with.
pub(crate) struct PythonHost {
    name_prefix: String,
    initializer: Mutex<Option<Initializer>>,
    has_initializer: bool,
    /// Threads to wait for at the end, by their part.
    by_role: Mutex<HashMap<Role, Py<PyAny>>>,
}

type Initializer = (Py<PyAny>, Py<PyTuple>);

thread_local! {
    /// What was raised while a thread was started for the task that this thread submits.
    static START_ERROR: RefCell<Option<PyErr>> = const { RefCell::new(None) };
}

/// Takes what was raised while a thread was started from this one.
pub(crate) fn take_start_error() -> Option<PyErr> {
    START_ERROR.take()
}

/// Keeps it for whoever submits on this thread.
pub(crate) fn keep_start_error(error: PyErr) {
    START_ERROR.set(Some(error));
}

impl PythonHost {
    pub(crate) fn new(name_prefix: String, initializer: Option<Initializer>) -> Self {
        Self {
            name_prefix,
            has_initializer: initializer.is_some(),
            initializer: Mutex::new(initializer),
            by_role: Mutex::default(),
        }
    }

    /// The threads that run tasks, those that have been started.
    pub(crate) fn workers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PySet>> {
        let workers: Vec<_> = self
            .lock_threads()
            .iter()
            .filter(|(role, _)| matches!(role, Role::Worker(_)))
            .map(|(_, thread)| thread.clone_ref(py))
            .collect();
        let started = PySet::empty(py)?;
        for thread in workers {
            if !thread.getattr(py, "ident")?.is_none(py) {
                started.add(thread)?;
            }
        }
        Ok(started)
    }

    /// All threads that have been started and not given up.
    pub(crate) fn all_threads(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        self.lock_threads().values().map(|thread| thread.clone_ref(py)).collect()
    }

    fn lock_threads(&self) -> MutexGuard<'_, HashMap<Role, Py<PyAny>>> {
        self.by_role.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_initializer(&self) -> MutexGuard<'_, Option<Initializer>> {
        self.initializer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the collector of cyclic garbage, when no thread has been started.
    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match &*self.lock_initializer() {
            Some((function, args)) => visit.call(function).and_then(|()| visit.call(args)),
            None => Ok(()),
        }
    }

    /// Forgets the initializer of a pool that is closed and will start no thread.
    pub(crate) fn clear(&self) {
        let initializer = self.lock_initializer().take();
        drop(initializer);
    }

    /// Starts a thread. An exception that a signal handler raises meanwhile does not leave it half started: the thread
    /// has begun with its body, or the body is taken back and it never will.
    fn start_thread(&self, py: Python<'_>, role: Role, body: ThreadBody) -> PyResult<Option<PyErr>> {
        let name = match role {
            Role::Worker(number) => format!("{}_{number}", self.name_prefix),
            Role::Timer => format!("{}_timer", self.name_prefix),
            Role::Callbacks(number) => format!("{}_callbacks_{number}", self.name_prefix),
        };
        let entry = Bound::new(py, ThreadBodyEntry::new(body))?;
        let thread = Names::get(py).make_thread.call1(py, (&entry, name))?;
        let before = self.lock_threads().insert(role, thread.clone_ref(py));
        drop(before);
        let Err(error) = thread.call_method0(py, "start") else { return Ok(None) };
        let Some(body) = entry.get().take() else { return Ok(Some(error)) };
        drop(body);
        self.forget(role);
        Err(error)
    }

    fn forget(&self, role: Role) {
        let thread = self.lock_threads().remove(&role);
        drop(thread);
    }

    fn run_initializer(&self, py: Python<'_>) -> PyResult<()> {
        let initializer = self.lock_initializer().as_ref().map(|(f, args)| (f.clone_ref(py), args.clone_ref(py)));
        let Some((function, args)) = initializer else { return Ok(()) };
        function.call1(py, args).map(drop)
    }
}

impl Host for PythonHost {
    fn start(&self, pool: &Arc<Pool>, role: Role, body: ThreadBody) -> Result<(), String> {
        Python::attach(|py| {
            let (error, started) = match self.start_thread(py, role, body) {
                Ok(None) => return Ok(()),
                Ok(Some(error)) => (error, Ok(())),
                Err(error) => {
                    let message = error.value(py).to_string();
                    (error, Err(message))
                }
            };
            if !pool.is_current() {
                keep_start_error(error);
            } else if !error.is_instance_of::<PyRuntimeError>(py) {
                // A worker that wanted a colleague has no caller to raise it to. A RuntimeError says that there is no
                // thread to be had, as always when the interpreter exits (from Python 3.12 on): the pool does without.
                error.write_unraisable(py, None);
            }
            started
        })
    }

    fn name(&self) -> Option<Arc<str>> {
        Some(self.name_prefix.as_str().into())
    }

    fn has_initializer(&self) -> bool {
        self.has_initializer
    }

    fn initialize(&self) -> Result<(), Arc<str>> {
        Python::attach(|py| {
            self.run_initializer(py).map_err(|error| {
                let logged = Names::get(py).log_initializer.call1(py, (error.into_value(py),));
                if let Err(error) = logged {
                    error.write_unraisable(py, None);
                }
                "A thread initializer failed, the thread pool is not usable anymore".into()
            })
        })
    }

    fn abandoned(&self, worker: usize) {
        note_given_up();
        self.forget(Role::Worker(worker));
    }

    fn release_and(&self, wait: &mut (dyn FnMut() + Send)) {
        Python::attach(|py| py.detach(wait));
    }

    fn has_interpreter(&self) -> bool {
        true
    }
}

/// The target of a thread of a pool: called once, it runs until the thread is not needed any more.
#[pyclass(module = "raddle._native", frozen)]
pub(crate) struct ThreadBodyEntry {
    body: Mutex<Option<ThreadBody>>,
}

#[pymethods]
impl ThreadBodyEntry {
    fn __call__(&self) {
        if let Some(body) = self.take() {
            body();
        }
    }
}

impl ThreadBodyEntry {
    pub(crate) fn new(body: ThreadBody) -> Self {
        Self { body: Mutex::new(Some(body)) }
    }

    pub(crate) fn take(&self) -> Option<ThreadBody> {
        self.body.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
