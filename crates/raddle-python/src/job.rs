//! What a task of Python runs, and what it ends with.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use pyo3::exceptions::PyBaseException;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use raddle::Failure;
use raddle::future::Outcome;
use raddle::process::link::Reply;
use raddle::process::remote::Parcel;
use raddle::process::task::SendJob;
use raddle::task::Job;

use crate::codec;
use crate::layout;
use crate::names::Names;
use crate::process::{RemotePart, Side};
use crate::timeline::{error_line, note_this_thread_if_asked};

/// How a call ended.
#[derive(Debug)]
pub(crate) enum PyOutcome {
    Returned(Py<PyAny>),
    Raised(Py<PyBaseException>),
    /// The engine ended it; the exception is made when somebody asks.
    Failed(Failure),
    /// A worker process has replied; the objects are made when somebody asks.
    Encoded(Reply),
}

impl Outcome for PyOutcome {
    fn is_failure(&self) -> bool {
        match self {
            Self::Returned(_) => false,
            Self::Raised(_) | Self::Failed(_) => true,
            Self::Encoded(reply) => codec::is_failure(reply.kind),
        }
    }

    fn describe(&self) -> Option<Arc<str>> {
        match self {
            Self::Raised(error) => Python::attach(|py| Some(error_line(error.bind(py)).into())),
            Self::Failed(failure) => Some(failure.to_string().into()),
            Self::Returned(_) | Self::Encoded(_) => None,
        }
    }
}

impl From<Failure> for PyOutcome {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl PyOutcome {
    pub(crate) fn of_call(py: Python<'_>, result: PyResult<Py<PyAny>>) -> Self {
        match result {
            Ok(value) => Self::Returned(value),
            Err(error) => Self::Raised(error.into_value(py)),
        }
    }

    pub(crate) fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::Returned(value) => Self::Returned(value.clone_ref(py)),
            Self::Raised(error) => Self::Raised(error.clone_ref(py)),
            Self::Failed(failure) => Self::Failed(failure.clone()),
            Self::Encoded(reply) => Self::Encoded(reply.clone()),
        }
    }

    /// Whether it is not objects yet.
    pub(crate) fn is_raw(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Encoded(_))
    }

    /// The outcome in objects: an exception in place of the engine's own words, what a worker process has replied. `side` is
    /// that of a task in a pool of processes.
    ///
    /// # Errors
    /// `KeyboardInterrupt` while a reply is unpickled: it can be tried again.
    pub(crate) fn spelled_out(self, py: Python<'_>, side: Option<&Side>) -> PyResult<Self> {
        Ok(match (self, side) {
            (Self::Failed(failure), Some(side)) => {
                Self::Raised(Names::process_failure(py, side, &failure).into_value(py))
            }
            (Self::Failed(failure), None) => Self::Raised(Names::failure(py, &failure).into_value(py)),
            (Self::Encoded(reply), Some(side)) => side.pickling.value(py, reply.kind, &reply.payload)?,
            (other, _) => other,
        })
    }

    /// The value, or the exception raised.
    pub(crate) fn into_result(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self.spelled_out(py, None)? {
            Self::Returned(value) => Ok(value),
            Self::Raised(error) => Err(PyErr::from_value(error.into_bound(py).into_any())),
            Self::Failed(_) | Self::Encoded(_) => unreachable!("replies are spelled out where their side is known"),
        }
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Returned(value) => visit.call(value),
            Self::Raised(error) => visit.call(error),
            Self::Failed(_) | Self::Encoded(_) => Ok(()),
        }
    }
}

/// A call: a function, its arguments, and the context to run it in.
pub(crate) struct PyJob {
    pub(crate) function: Py<PyAny>,
    pub(crate) args: Py<PyTuple>,
    pub(crate) kwargs: Option<Py<PyDict>>,
    pub(crate) context: Option<Py<PyAny>>,
    /// Exception classes after which it is tried again.
    pub(crate) retry_on: Option<Arc<Py<PyAny>>>,
    /// For a pool of processes.
    pub(crate) remote: Option<RemotePart>,
}

impl Job for PyJob {
    type Outcome = PyOutcome;

    fn run(&mut self) -> PyOutcome {
        Python::attach(|py| {
            note_this_thread_if_asked(py);
            let body = || call(py, &self.function, &self.args, self.kwargs.as_ref());
            PyOutcome::of_call(py, in_copy_of(py, self.context.as_ref(), body))
        })
    }

    fn wants_retry(&mut self, failure: &PyOutcome) -> bool {
        let Some(classes) = &self.retry_on else { return false };
        let side = self.remote.as_ref().map(|remote| &*remote.side);
        Python::attach(|py| {
            let Ok(PyOutcome::Raised(error)) = failure.clone_ref(py).spelled_out(py, side) else { return false };
            // A class that cannot answer (its metaclass raises) is as one that does not match.
            error.bind(py).is_instance(classes.bind(py)).unwrap_or(false)
        })
    }
}

impl SendJob for PyJob {
    fn encode(&mut self) -> Result<Parcel, PyOutcome> {
        Python::attach(|py| {
            let encoded = self.encode_call(py);
            encoded.map_err(|error| PyOutcome::Raised(error.into_value(py)))
        })
    }

    fn outcome(reply: Reply) -> PyOutcome {
        PyOutcome::Encoded(reply)
    }

    fn is_failure(kind: u16) -> bool {
        codec::is_failure(kind)
    }

    fn describe(reply: &Reply) -> Option<Arc<str>> {
        layout::error_line(reply.kind, &reply.payload).map(Arc::from)
    }
}

impl PyJob {
    /// A call for a pool of processes.
    pub(crate) fn remote(
        function: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
        retry_on: Option<Arc<Py<PyAny>>>,
        remote: RemotePart,
    ) -> Self {
        Self {
            function: function.clone().unbind(),
            args: args.clone().unbind(),
            kwargs: kwargs.map(|kwargs| kwargs.clone().unbind()),
            context: None,
            retry_on,
            remote: Some(remote),
        }
    }

    fn encode_call(&self, py: Python<'_>) -> PyResult<Parcel> {
        let Some(remote) = &self.remote else { return Ok(Parcel::default()) };
        if let Some(error) = &remote.failed {
            return Err(error.clone_ref(py));
        }
        let Some(pool) = remote.pool.upgrade() else { return Ok(Parcel::default()) };
        let kwargs = self.kwargs.as_ref().map(|kwargs| kwargs.bind(py));
        remote.side.encode(&pool, self.function.bind(py), self.args.bind(py), kwargs)
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.function)?;
        visit.call(&self.args)?;
        visit.call(&self.kwargs)?;
        visit.call(&self.context)
        // `retry_on` is shared with other tasks: it is not this one's to report.
    }
}

/// Runs `body` inside a copy of a context of `contextvars`, if there is one: what it sets there, nobody else sees.
pub(crate) fn in_copy_of(
    py: Python<'_>,
    context: Option<&Py<PyAny>>,
    body: impl FnOnce() -> PyResult<Py<PyAny>>,
) -> PyResult<Py<PyAny>> {
    let Some(original) = context else { return body() };
    // SAFETY: the interpreter is held and `original` is a contextvars.Context; gives a new reference or NULL.
    let context = unsafe { new_reference(py, ffi::PyContext_Copy(original.as_ptr()))? };
    // SAFETY: the interpreter is held, and `context` is a contextvars.Context that no thread has entered.
    if unsafe { ffi::PyContext_Enter(context.as_ptr()) } < 0 {
        return Err(PyErr::fetch(py));
    }
    let result = body();
    // SAFETY: as above; this thread entered it, and whoever enters another context inside leaves it before.
    if unsafe { ffi::PyContext_Exit(context.as_ptr()) } < 0 {
        return Err(PyErr::fetch(py));
    }
    result
}

/// Takes over what a function of the C API gives.
///
/// # Safety
/// `object` is a new reference, or NULL with an exception set.
unsafe fn new_reference(py: Python<'_>, object: *mut ffi::PyObject) -> PyResult<Py<PyAny>> {
    // SAFETY: the caller's promise.
    unsafe { Bound::from_owned_ptr_or_err(py, object).map(Bound::unbind) }
}

/// A copy of the calling thread's context.
pub(crate) fn copy_context(py: Python<'_>) -> PyResult<Py<PyAny>> {
    // SAFETY: the interpreter is held; the call gives a new reference or NULL with an exception set.
    unsafe { new_reference(py, ffi::PyContext_CopyCurrent()) }
}

// Up to CPython 3.13 a thread that asks for the interpreter while it is being torn down is ended by `pthread_exit`, which
// unwinds its stack; an abandoned thread may come to that inside a task. So tasks are called through pointers to functions
// that may unwind. The pointers are hidden from the optimiser: it knows the same functions as ones that never unwind, and
// would leave the guard out.
type CallWithTuple =
    unsafe extern "C-unwind" fn(*mut ffi::PyObject, *mut ffi::PyObject, *mut ffi::PyObject) -> *mut ffi::PyObject;
type CallWithOne = unsafe extern "C-unwind" fn(*mut ffi::PyObject, *mut ffi::PyObject) -> *mut ffi::PyObject;

fn call_with_tuple() -> CallWithTuple {
    let function = std::hint::black_box(ffi::PyObject_Call as *const ());
    // SAFETY: the same function; "C" and "C-unwind" differ in whether an unwind may pass, not in how arguments do.
    unsafe { std::mem::transmute::<*const (), CallWithTuple>(function) }
}

fn call_with_one() -> CallWithOne {
    let function = std::hint::black_box(ffi::PyObject_CallOneArg as *const ());
    // SAFETY: as above.
    unsafe { std::mem::transmute::<*const (), CallWithOne>(function) }
}

/// Keeps the thread asleep when an unwind from inside a call passes by: the process is ending, and unwinding on through
/// frames of Rust would abort it.
struct StayHere;

/// Threads given up, and those of them that have been put to sleep while the interpreter went down.
static GIVEN_UP: AtomicUsize = AtomicUsize::new(0);
static ASLEEP: AtomicUsize = AtomicUsize::new(0);

/// How long the end of the process waits for threads given up that are just being unwound: an unwinder that finds its tables
/// torn down aborts. A thread that waits for the interpreter looks every 5 ms whether it must end; one that does something
/// else is not unwound. A guess of ten such looks.
const UNWINDING: Duration = Duration::from_millis(50);

/// Notes that a thread may come back to an interpreter that is not there any more.
pub(crate) fn note_given_up() {
    if GIVEN_UP.fetch_add(1, Relaxed) == 0 {
        raddle::os::before_exit(wait_unwound);
    }
}

extern "C" fn wait_unwound() {
    let start = Instant::now();
    while ASLEEP.load(Relaxed) < GIVEN_UP.load(Relaxed) && start.elapsed() < UNWINDING {
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl Drop for StayHere {
    fn drop(&mut self) {
        ASLEEP.fetch_add(1, Relaxed);
        loop {
            std::thread::park();
        }
    }
}

fn call(py: Python<'_>, function: &Py<PyAny>, args: &Py<PyTuple>, kwargs: Option<&Py<PyDict>>) -> PyResult<Py<PyAny>> {
    let keywords = kwargs.map_or(std::ptr::null_mut(), Py::as_ptr);
    let stay = StayHere;
    // SAFETY: the interpreter is held; the pointers are a callable, a tuple, and a dict or NULL, kept alive by the caller.
    let result = unsafe { call_with_tuple()(function.as_ptr(), args.as_ptr(), keywords) };
    std::mem::forget(stay);
    // SAFETY: the call gives a new reference, or NULL with an exception set.
    unsafe { new_reference(py, result) }
}

/// Calls a function with one argument, as `map` over one iterable does.
pub(crate) fn call_one(py: Python<'_>, function: &Py<PyAny>, arg: &Py<PyAny>) -> PyResult<Py<PyAny>> {
    let stay = StayHere;
    // SAFETY: the interpreter is held; both pointers are objects kept alive by the caller.
    let result = unsafe { call_with_one()(function.as_ptr(), arg.as_ptr()) };
    std::mem::forget(stay);
    // SAFETY: the call gives a new reference, or NULL with an exception set.
    unsafe { new_reference(py, result) }
}

/// Calls a function with a tuple of arguments.
pub(crate) fn call_tuple(py: Python<'_>, function: &Py<PyAny>, args: &Py<PyTuple>) -> PyResult<Py<PyAny>> {
    call(py, function, args, None)
}
