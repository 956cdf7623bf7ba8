//! CPython as the world in which tasks run: threads are `threading.Thread`s, waiting releases the interpreter.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PySet, PyTuple};

use raddle::host::{Host, Role, ThreadBody};
use raddle::pool::Pool;

use crate::names::Names;

/// What a pool of Python threads starts its threads with.
pub(crate) struct PythonHost {
    name_prefix: String,
    initializer: Option<(Py<PyAny>, Py<PyTuple>)>,
    /// The threads that run tasks; whoever looks at `executor._threads` sees this set.
    pub(crate) threads: Py<PySet>,
    /// Threads to wait for at the end, by their part.
    by_role: Mutex<HashMap<Role, Py<PyAny>>>,
}

impl PythonHost {
    pub(crate) fn new(
        py: Python<'_>,
        name_prefix: String,
        initializer: Option<(Py<PyAny>, Py<PyTuple>)>,
    ) -> PyResult<Self> {
        let threads = PySet::empty(py)?.unbind();
        Ok(Self { name_prefix, initializer, threads, by_role: Mutex::new(HashMap::new()) })
    }

    /// All threads that have been started and not given up.
    pub(crate) fn all_threads(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        self.lock_threads().values().map(|thread| thread.clone_ref(py)).collect()
    }

    fn lock_threads(&self) -> std::sync::MutexGuard<'_, HashMap<Role, Py<PyAny>>> {
        self.by_role.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start_thread(&self, py: Python<'_>, role: Role, body: ThreadBody) -> PyResult<()> {
        let name = match role {
            Role::Worker(number) => format!("{}_{number}", self.name_prefix),
            Role::Timer => format!("{}_timer", self.name_prefix),
        };
        let entry = ThreadBodyEntry { body: Mutex::new(Some(body)) };
        let thread = Names::get(py).start_thread.call1(py, (entry, name))?;
        if matches!(role, Role::Worker(_)) {
            self.threads.bind(py).add(&thread)?;
        }
        let before = self.lock_threads().insert(role, thread);
        drop(before);
        Ok(())
    }

    fn run_initializer(&self, py: Python<'_>) -> PyResult<()> {
        let Some((function, args)) = &self.initializer else { return Ok(()) };
        function.call1(py, args.clone_ref(py)).map(drop)
    }
}

impl Host for PythonHost {
    fn start(&self, _pool: &Arc<Pool>, role: Role, body: ThreadBody) -> Result<(), String> {
        Python::attach(|py| self.start_thread(py, role, body).map_err(|error| error.value(py).to_string()))
    }

    fn has_initializer(&self) -> bool {
        self.initializer.is_some()
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
        let thread = self.lock_threads().remove(&Role::Worker(worker));
        Python::attach(|py| {
            if let Some(thread) = thread {
                let removed = self.threads.bind(py).discard(thread);
                if let Err(error) = removed {
                    error.write_unraisable(py, None);
                }
            }
        });
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
        let body = self.body.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(body) = body {
            body();
        }
    }
}
