//! `Future`: the engine's task with the face of `concurrent.futures.Future`.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use pyo3::exceptions::{PyBaseException, PyException, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple, PyType};

use raddle::future::{Begin, Cancel, Notices, State};
use raddle::task::Task;
use raddle::waits::Awaited;

use crate::enter;
use crate::gate::StandardGate;
use crate::job::{PyJob, PyOutcome};
use crate::names::Names;
use crate::process::Side;

/// The native half of `raddle.Future`.
#[pyclass(name = "Future", module = "raddle._native", subclass, frozen)]
pub(crate) struct NativeFuture {
    task: Arc<Task<PyJob>>,
    generation: u32,
    /// Made with the first callback: most futures have none.
    callbacks: OnceLock<Box<Mutex<Vec<Py<PyAny>>>>>,
    gate: OnceLock<Arc<StandardGate>>,
    /// Of a task in a pool of processes: how its result becomes objects.
    side: OnceLock<Arc<Side>>,
}

impl NativeFuture {
    /// Makes an instance of the public class as its `tp_new` does, without a call through Python.
    pub(crate) fn make(py: Python<'_>) -> PyResult<Bound<'_, Self>> {
        let class = Names::get(py).future.bind(py).as_type_ptr();
        let no_args = PyTuple::empty(py);
        // SAFETY: the interpreter is held and `class` is a type object; types that can be made have a `tp_new`, which
        // gives a new reference or NULL with an exception set.
        let made = unsafe {
            let new = (*class).tp_new.ok_or_else(|| PyTypeError::new_err("raddle.Future cannot be made"))?;
            Bound::from_owned_ptr_or_err(py, new(class, no_args.as_ptr(), std::ptr::null_mut()))?
        };
        Ok(made.cast_into()?)
    }

    pub(crate) fn task(&self) -> &Arc<Task<PyJob>> {
        &self.task
    }

    /// Whether it is a task of a pool whose threads stayed behind in the parent of a fork.
    pub(crate) fn is_orphan(&self) -> bool {
        self.generation != raddle::os::fork_generation() && self.task.is_submitted() && !self.state().is_done()
    }

    /// It is that of a task in a pool of processes.
    pub(crate) fn belongs_to(&self, side: &Arc<Side>) {
        let _ = self.side.set(Arc::clone(side));
    }

    /// Whether the task is, or was, in a pool of processes, and what it ended with may be no objects yet.
    pub(crate) fn is_remote(&self) -> bool {
        self.side.get().is_some()
    }

    fn state(&self) -> State {
        self.task.cell.state()
    }

    /// The state, having looked what has come from a worker process. Not behind a gate: whoever holds its lock must see
    /// no change, and might make one himself.
    fn look(&self) -> State {
        if self.is_remote() && self.gate.get().is_none() { self.task.look() } else { self.state() }
    }

    fn lock_callbacks(&self) -> MutexGuard<'_, Vec<Py<PyAny>>> {
        self.callbacks.get_or_init(Box::default).lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_callbacks(&self) -> bool {
        self.callbacks.get().is_some() && !self.lock_callbacks().is_empty()
    }

    fn take_callbacks(&self) -> Vec<Py<PyAny>> {
        if self.has_callbacks() { std::mem::take(&mut *self.lock_callbacks()) } else { Vec::new() }
    }

    /// The outcome of a finished future; what is no objects yet becomes one value, or one exception, for all who ask.
    ///
    /// # Errors
    /// `KeyboardInterrupt` while a result is unpickled.
    pub(crate) fn outcome(&self, py: Python<'_>) -> PyResult<Option<PyOutcome>> {
        // A raw outcome is looked at in its place: it may be large.
        let raw = self.task.cell.look(|place| match place {
            Some(outcome) if outcome.is_raw() => Ok(outcome.clone_ref(py)),
            outcome => Err(outcome.as_ref().map(|outcome| outcome.clone_ref(py))),
        });
        let spelled = match raw {
            Err(outcome) => return Ok(outcome),
            Ok(raw) => raw.spelled_out(py, self.side.get().map(|side| &**side))?,
        };
        let kept = spelled.clone_ref(py);
        // Making the objects may have run other code: the first stay.
        let before = self.task.cell.look(|place| match place {
            Some(outcome) if outcome.is_raw() => place.replace(kept),
            _ => None,
        });
        drop(before);
        drop(spelled);
        Ok(self.task.cell.look(|outcome| outcome.as_ref().map(|o| o.clone_ref(py))))
    }

    /// In a child of a fork, what a pool of the parent has never comes.
    pub(crate) fn forked(&self, py: Python<'_>) -> PyErr {
        let refused = &raddle::SubmitError::Forked;
        if self.is_remote() { Names::process_refusal(py, refused, false) } else { Names::refusal(py, refused, false) }
    }

    /// Waits until it is done, and says how it stands.
    fn settle(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<State> {
        if !self.state().is_done() && !self.look().is_done() {
            self.wait(py, enter::deadline(timeout)?)?;
        }
        if let Some(gate) = self.gate.get() {
            gate.pass_by(py)?;
        }
        match self.state() {
            State::Cancelled | State::Acknowledged => Err(Names::cancelled(py)),
            State::Finished => Ok(State::Finished),
            State::Pending | State::Running => Err(Names::timed_out(py, None)),
        }
    }

    fn wait(&self, py: Python<'_>, deadline: Option<Instant>) -> PyResult<()> {
        if self.is_orphan() {
            return Err(self.forked(py));
        }
        let Some(waiting) = self.task.cell.waiting() else { return Ok(()) };
        let watch = || Arc::clone(&self.task) as Arc<dyn Awaited>;
        let drive = self.task.drive();
        let wait = |until, watched: bool| waiting.wait_driving(until, watched.then_some(&watch), drive.as_deref());
        enter::block(py, deadline, wait).map(drop)
    }

    /// Runs the callbacks that have gathered. Errors are logged; what is no `Exception` goes to the caller.
    fn run_callbacks(slf: &Bound<'_, Self>) -> PyResult<()> {
        loop {
            let callbacks = slf.get().take_callbacks();
            if callbacks.is_empty() {
                return Ok(());
            }
            // As in the standard library, what is no `Exception` ends the round.
            callbacks.into_iter().try_for_each(|callback| Self::run_callback(slf, callback.bind(slf.py())))?;
        }
    }

    fn run_callback(slf: &Bound<'_, Self>, callback: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        match callback.call1((slf,)) {
            Err(error) if error.is_instance_of::<PyException>(py) => {
                Self::log(py, slf, error);
                Ok(())
            }
            other => other.map(drop),
        }
    }

    fn log(py: Python<'_>, slf: &Bound<'_, Self>, error: PyErr) {
        if let Err(error) = Names::get(py).log_callback.call1(py, (slf, error.into_value(py))) {
            error.write_unraisable(py, Some(slf));
        }
    }

    /// Has the engine call back once, for all callbacks. A future that no pool has is completed through its own methods,
    /// which see to the callbacks: an engine that kept it alive would keep a cycle that no collector sees.
    fn listen(slf: &Bound<'_, Self>) -> PyResult<()> {
        if !slf.get().task.is_submitted() {
            return Ok(());
        }
        let future = slf.clone().unbind();
        let callback = Box::new(move || {
            Python::attach(|py| {
                // On a worker what is no `Exception` (SystemExit, say) is logged as well: it costs the pool no thread.
                while let Err(error) = Self::run_callbacks(future.bind(py)) {
                    Self::log(py, future.bind(py), error);
                }
            });
        });
        match slf.get().task.cell.on_done(callback) {
            Ok(()) => Ok(()),
            Err(_done_already) => Self::run_callbacks(slf),
        }
    }

    /// Tells sleepers first, then runs the callbacks on this thread, where what they raise belongs to the caller.
    fn deliver(slf: &Bound<'_, Self>, notices: Notices) -> PyResult<()> {
        let engine_callbacks = notices.wake_sleepers();
        let ended = Self::run_callbacks(slf);
        engine_callbacks.into_iter().for_each(|callback| callback());
        ended
    }

    fn complete(slf: &Bound<'_, Self>, outcome: PyOutcome) -> PyResult<()> {
        let this = slf.get();
        match this.task.complete(outcome) {
            Ok(notices) => Self::deliver(slf, notices),
            Err(_refused) => {
                let message = format!("{}: {}", state_name(this.state()), slf.repr()?);
                Err(Names::invalid_state(slf.py(), message))
            }
        }
    }

    fn gate(slf: &Bound<'_, Self>) -> PyResult<Arc<StandardGate>> {
        let this = slf.get();
        if let Some(gate) = this.gate.get() {
            return Ok(Arc::clone(gate));
        }
        let gate = Arc::new(StandardGate::new(slf)?);
        // Two threads may have come here: one gate stays, for the cell as for the future.
        let gate = Arc::clone(this.gate.get_or_init(|| gate));
        this.task.cell.install_gate(Arc::clone(&gate) as _);
        Ok(gate)
    }
}

/// The standard library's names of the states.
const STATE_NAMES: [(State, &str); 5] = [
    (State::Pending, "PENDING"),
    (State::Running, "RUNNING"),
    (State::Cancelled, "CANCELLED"),
    (State::Acknowledged, "CANCELLED_AND_NOTIFIED"),
    (State::Finished, "FINISHED"),
];

fn state_name(state: State) -> &'static str {
    STATE_NAMES.iter().find(|(s, _)| *s == state).map_or("PENDING", |(_, name)| name)
}

#[pymethods]
impl NativeFuture {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self {
            task: Arc::new(Task::without_job()),
            generation: raddle::os::fork_generation(),
            callbacks: OnceLock::new(),
            gate: OnceLock::new(),
            side: OnceLock::new(),
        }
    }

    /// Return the value of the call, or raise its exception.
    ///
    /// Parameters
    /// ----------
    /// timeout : float, optional
    ///     Seconds to wait at most; None for no limit. The call itself goes on.
    ///
    /// Returns
    /// -------
    /// object
    ///     What the call has returned.
    ///
    /// Raises
    /// ------
    /// TimeoutError
    ///     The time is over, and the call has not ended.
    /// CancelledError
    ///     The call was cancelled.
    /// DeadlockError
    ///     The call can never end, because it waits for the calling thread. Never with `timeout`.
    /// Exception
    ///     What the call has raised.
    #[pyo3(signature = (timeout=None))]
    fn result(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        self.settle(py, timeout)?;
        self.outcome(py)?.map_or_else(|| Ok(py.None()), |outcome| outcome.into_result(py))
    }

    /// Return the exception of the call, or None.
    ///
    /// Parameters
    /// ----------
    /// timeout : float, optional
    ///     Seconds to wait at most; None for no limit. The call itself goes on.
    ///
    /// Returns
    /// -------
    /// BaseException or None
    ///     What the call has raised; None if it has returned.
    ///
    /// Raises
    /// ------
    /// TimeoutError
    ///     The time is over, and the call has not ended.
    /// CancelledError
    ///     The call was cancelled.
    /// DeadlockError
    ///     The call can never end, because it waits for the calling thread. Never with `timeout`.
    #[pyo3(signature = (timeout=None))]
    fn exception(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<Py<PyBaseException>>> {
        self.settle(py, timeout)?;
        self.get_exception(py)
    }

    /// Whether the call has ended or was cancelled.
    fn done(&self) -> bool {
        self.look().is_done()
    }

    /// Whether a worker runs the call.
    fn running(&self) -> bool {
        self.look() == State::Running
    }

    /// End the worker process that runs the call; None if no process does, or will.
    fn _kill(&self) -> Option<bool> {
        self.task.kill()
    }

    /// Whether the call was cancelled.
    fn cancelled(&self) -> bool {
        self.state().is_cancelled()
    }

    /// Cancel the call unless it has begun; return whether it is cancelled.
    ///
    /// Returns
    /// -------
    /// bool
    ///     False if the call runs or has ended; True if it is cancelled, now or before.
    fn cancel(slf: &Bound<'_, Self>) -> PyResult<bool> {
        match slf.get().task.cancel() {
            Cancel::Refused => Ok(false),
            Cancel::Already => Ok(true),
            Cancel::Now(notices) => Self::deliver(slf, notices).map(|()| true),
        }
    }

    /// Call `fn(future)` when the future is done; at once if it is.
    ///
    /// Parameters
    /// ----------
    /// fn : callable
    ///     Takes the future. It is called once, in the order of adding, on the thread that ends the
    ///     future, or on the calling one if it has ended. What it raises is logged and ignored.
    #[pyo3(name = "add_done_callback")]
    fn add_done_callback(slf: &Bound<'_, Self>, r#fn: Bound<'_, PyAny>) -> PyResult<()> {
        let this = slf.get();
        if this.state().is_done() && !this.has_callbacks() {
            return Self::run_callback(slf, &r#fn);
        }
        let is_first = {
            let mut callbacks = this.lock_callbacks();
            callbacks.push(r#fn.unbind());
            callbacks.len() == 1
        };
        if is_first { Self::listen(slf) } else { Ok(()) }
    }

    /// Mark the future as that of the calling thread, which nobody else completes; `label` says whose it is.
    fn _begin_on_this_thread(slf: &Bound<'_, Self>, label: &str) -> PyResult<bool> {
        slf.get().task.is_run_by_this_thread(label);
        Self::set_running_or_notify_cancel(slf)
    }

    /// Mark the future as running, or acknowledge that it was cancelled: then return False. For executors and tests.
    fn set_running_or_notify_cancel(slf: &Bound<'_, Self>) -> PyResult<bool> {
        match slf.get().task.cell.begin() {
            Begin::Started => Ok(true),
            Begin::Acknowledged(notices) => Self::deliver(slf, notices).map(|()| false),
            Begin::Unexpected(state) => {
                Names::get(slf.py()).log_unexpected.call1(slf.py(), (slf, state_name(state)))?;
                Err(PyRuntimeError::new_err("Future in unexpected state"))
            }
        }
    }

    /// Finish the future with a value. For executors and tests.
    fn set_result(slf: &Bound<'_, Self>, result: Py<PyAny>) -> PyResult<()> {
        Self::complete(slf, PyOutcome::Returned(result))
    }

    /// Finish the future with an exception. For executors and tests.
    fn set_exception(slf: &Bound<'_, Self>, exception: Bound<'_, PyAny>) -> PyResult<()> {
        Self::complete(slf, outcome_of_exception(&exception)?)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let (py, this) = (slf.py(), slf.get());
        let state = this.look();
        let told = match state {
            State::Pending => "pending".to_owned(),
            State::Running => "running".to_owned(),
            State::Cancelled | State::Acknowledged => "cancelled".to_owned(),
            State::Finished => match this.outcome(py)? {
                Some(PyOutcome::Returned(value)) => format!("finished returned {}", class_name(value.bind(py))?),
                Some(PyOutcome::Raised(error)) => format!("finished raised {}", class_name(error.bind(py))?),
                _ => "finished returned NoneType".to_owned(),
            },
        };
        Ok(format!("<{} at {:#x} state={told}>", class_name(slf)?, slf.as_ptr() as usize))
    }

    // What follows is private in the standard library, and reached for all the same: by its own functions, and by tests.

    #[getter(_state)]
    fn get_state(&self) -> &'static str {
        state_name(self.look())
    }

    #[setter(_state)]
    fn set_state(slf: &Bound<'_, Self>, name: &str) -> PyResult<()> {
        let state = STATE_NAMES.iter().find(|(_, n)| *n == name).map(|(state, _)| *state);
        let state = state.ok_or_else(|| PyValueError::new_err(format!("no state of a future: {name:?}")))?;
        Self::deliver(slf, slf.get().task.cell.force(state))
    }

    #[getter(_result)]
    fn get_result(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        Ok(match self.outcome(py)? {
            Some(PyOutcome::Returned(value)) => Some(value),
            _ => None,
        })
    }

    #[setter(_result)]
    fn replace_result(&self, value: Bound<'_, PyAny>) {
        let is_raised = self.task.cell.look(|outcome| matches!(outcome, Some(PyOutcome::Raised(_))));
        if !is_raised {
            let before = self.task.cell.look(|place| place.replace(PyOutcome::Returned(value.unbind())));
            drop(before);
        }
    }

    #[getter(_exception)]
    fn get_exception(&self, py: Python<'_>) -> PyResult<Option<Py<PyBaseException>>> {
        Ok(match self.outcome(py)? {
            Some(PyOutcome::Raised(error)) => Some(error),
            _ => None,
        })
    }

    #[setter(_exception)]
    fn replace_exception(&self, exception: Bound<'_, PyAny>) -> PyResult<()> {
        if !exception.is_none() {
            let outcome = outcome_of_exception(&exception)?;
            let before = self.task.cell.look(|place| place.replace(outcome));
            drop(before);
        }
        Ok(())
    }

    #[getter(_condition)]
    fn get_condition(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Ok(Self::gate(slf)?.condition.clone_ref(slf.py()))
    }

    #[getter(_waiters)]
    fn get_waiters(slf: &Bound<'_, Self>) -> PyResult<Py<PyList>> {
        Ok(Self::gate(slf)?.waiters.clone_ref(slf.py()))
    }

    #[getter(_done_callbacks)]
    fn get_done_callbacks<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        // Making the list may collect garbage, which looks at the callbacks.
        let callbacks: Vec<_> = self.lock_callbacks().iter().map(|callback| callback.clone_ref(py)).collect();
        PyList::new(py, callbacks)
    }

    // Called for every future that is alive at every collection, so it takes no lock that it can do without.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if self.has_callbacks() {
            self.lock_callbacks().iter().try_for_each(|callback| visit.call(callback))?;
        }
        if let Some(gate) = self.gate.get()
            && Arc::strong_count(gate) <= 2
        {
            visit.call(&gate.condition)?;
            visit.call(&gate.waiters)?;
        }
        // Only who has the task alone may report what it holds: one in a queue is held from outside as well.
        if Arc::strong_count(&self.task) > 1 {
            return Ok(());
        }
        if !self.state().is_done() {
            self.task.look_at_job(|job| job.map_or(Ok(()), |job| job.traverse(&visit)))?;
        }
        self.task.cell.look(|outcome| outcome.as_ref().map_or(Ok(()), |outcome| outcome.traverse(&visit)))
    }

    fn __clear__(&self) {
        drop(self.take_callbacks());
        if Arc::strong_count(&self.task) == 1 {
            self.task.clear();
        }
    }
}

fn class_name(object: &Bound<'_, impl Sized>) -> PyResult<String> {
    let name = object.as_any().get_type().name()?;
    Ok(name.to_string())
}

/// As the standard library, takes an instance or, leniently, None and classes of exceptions.
fn outcome_of_exception(exception: &Bound<'_, PyAny>) -> PyResult<PyOutcome> {
    let py = exception.py();
    if exception.is_none() {
        return Ok(PyOutcome::Returned(py.None()));
    }
    if let Ok(class) = exception.cast::<PyType>() {
        return outcome_of_exception(&class.call0()?);
    }
    let error = exception
        .cast::<PyBaseException>()
        .map_err(|_| PyTypeError::new_err(format!("a future fails with an exception, not with {exception:?}")))?;
    Ok(PyOutcome::Raised(error.clone().unbind()))
}
