//! `ThreadPoolExecutor` and its views with options.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PySet, PyTuple, PyType};

use raddle::pool::Pool;
use raddle::{Options, Phase, SubmitError};

use crate::batch::MapIterator;
use crate::enter;
use crate::future::NativeFuture;
use crate::host::{PythonHost, take_start_error};
use crate::job::{PyJob, copy_context, note_given_up};
use crate::names::Names;
use crate::timeline::name_of;

/// Set when the interpreter has begun to exit.
static IS_EXITING: AtomicBool = AtomicBool::new(false);

/// Pools whose threads may have to be waited for when the interpreter exits.
static POOLS: Mutex<Vec<(Weak<Pool>, Weak<PythonHost>)>> = Mutex::new(Vec::new());

/// The fields of the package's `Policy`: task_timeout, retries, retry_on and label.
pub(crate) type PolicyArgs = (Option<f64>, u32, Option<Py<PyAny>>, Option<String>);

/// How the tasks of an executor, or of a view of it, are run.
#[derive(Clone, Default)]
pub(crate) struct Policy {
    pub(crate) options: Option<Arc<Options>>,
    pub(crate) retry_on: Option<Arc<Py<PyAny>>>,
    inherits_context: bool,
}

impl Policy {
    /// Whether its tasks need nothing that a batch does not give.
    pub(crate) fn fits_a_batch(&self) -> bool {
        self.options.as_ref().is_none_or(|options| options.task_timeout.is_none() && options.retries == 0)
    }
}

/// An engine pool in the world of Python.
pub(crate) struct Open {
    pub(crate) pool: Arc<Pool>,
    host: Arc<PythonHost>,
}

impl Open {
    fn submit<'py>(
        &self,
        policy: &Policy,
        function: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, NativeFuture>> {
        let py = function.py();
        check_callable("submit()", function)?;
        self.check_not_exiting(py)?;
        let job = PyJob {
            function: function.clone().unbind(),
            args: args.clone().unbind(),
            kwargs: kwargs.map(|kwargs| kwargs.clone().unbind()),
            context: if policy.inherits_context { Some(copy_context(py)?) } else { None },
            retry_on: policy.retry_on.clone(),
            remote: None,
        };
        let future = NativeFuture::make(py)?;
        let task = future.get().task();
        task.arm(job, policy.options.clone());
        name_of(function).into_iter().for_each(|name| task.set_name(name));
        self.check(py, self.pool.submit(task))?;
        Ok(future)
    }

    /// Refuses tasks that nobody would wait for.
    pub(crate) fn check_not_exiting(&self, py: Python<'_>) -> PyResult<()> {
        if is_exiting() {
            return Err(self.refusal(py, &SubmitError::ShutDown));
        }
        Ok(())
    }

    /// Turns what the engine says of a submission, and what a signal handler raised meanwhile, into an exception.
    pub(crate) fn check(&self, py: Python<'_>, submitted: Result<(), SubmitError>) -> PyResult<()> {
        let raised = take_start_error();
        match (submitted, raised) {
            (Ok(()), None) => Ok(()),
            // The pool could not grow, but it has workers: they will come to the task.
            (Ok(()), Some(error)) if error.is_instance_of::<PyRuntimeError>(py) => Ok(()),
            (Ok(()) | Err(SubmitError::NoThread(_)), Some(error)) => Err(error),
            (Err(refused), _) => Err(self.refusal(py, &refused)),
        }
    }

    fn refusal(&self, py: Python<'_>, error: &SubmitError) -> PyErr {
        Names::refusal(py, error, is_exiting())
    }

    fn handle(&self) -> PoolHandle {
        PoolHandle { open: Self { pool: Arc::clone(&self.pool), host: Arc::clone(&self.host) } }
    }
}

pub(crate) fn check_callable(place: &str, function: &Bound<'_, PyAny>) -> PyResult<()> {
    if function.is_callable() {
        return Ok(());
    }
    Err(PyTypeError::new_err(format!("{place} needs a callable, not {}: {function:?}", function.get_type().name()?)))
}

/// The native half of `raddle.ThreadPoolExecutor`.
#[pyclass(module = "raddle._native", subclass, frozen)]
pub(crate) struct ThreadPool {
    open: OnceLock<(Open, Policy)>,
}

impl ThreadPool {
    fn open(&self) -> PyResult<&(Open, Policy)> {
        self.open.get().ok_or_else(|| {
            PyRuntimeError::new_err("this executor was not initialised: call super().__init__() in the subclass")
        })
    }
}

impl Drop for ThreadPool {
    /// Nobody can submit any more: the workers finish what is queued, and leave.
    fn drop(&mut self) {
        if let Some((open, _)) = self.open.get() {
            open.pool.close();
        }
    }
}

#[pymethods]
impl ThreadPool {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self { open: OnceLock::new() }
    }

    /// Make the pool; the package has checked the arguments.
    fn _open(
        &self,
        max_workers: usize,
        thread_name_prefix: String,
        initializer: Option<(Py<PyAny>, Py<PyTuple>)>,
        inherits_context: bool,
        policy: PolicyArgs,
    ) -> PyResult<()> {
        let host = Arc::new(PythonHost::new(thread_name_prefix, initializer));
        let pool = Pool::new(Arc::clone(&host) as _, max_workers);
        let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|(pool, _)| pool.strong_count() > 0);
        pools.push((Arc::downgrade(&pool), Arc::downgrade(&host)));
        drop(pools);
        let policy = make_policy(policy, inherits_context);
        let already = || PyRuntimeError::new_err("this executor has been initialised already");
        self.open.set((Open { pool, host }, policy)).map_err(|_| already())
    }

    /// Run `fn(*args, **kwargs)` on a thread of the pool; return its future.
    ///
    /// Parameters
    /// ----------
    /// fn : callable
    ///     What to call.
    /// *args, **kwargs : object
    ///     Its arguments.
    ///
    /// Returns
    /// -------
    /// Future
    ///     The call's value or exception, when it has ended.
    ///
    /// Raises
    /// ------
    /// TypeError
    ///     `fn` cannot be called.
    /// RuntimeError
    ///     The executor was shut down, the pool is broken, or this is a child of `os.fork()`.
    #[pyo3(signature = (r#fn, /, *args, **kwargs))]
    fn submit<'py>(
        &self,
        r#fn: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, NativeFuture>> {
        let (open, policy) = self.open()?;
        match PolicyOfView::take(Arc::as_ptr(&open.pool).cast()) {
            Some(of_view) => open.submit(&of_view, r#fn, args, kwargs),
            None => open.submit(policy, r#fn, args, kwargs),
        }
    }

    /// Whether `submit` is the one above, neither overridden in a subclass nor replaced.
    fn _is_submit_ours(slf: &Bound<'_, Self>) -> PyResult<bool> {
        is_submit_ours(slf.as_any(), &slf.py().get_type::<Self>())
    }

    /// The results of `fn` over the items, or None if a batch does not fit this executor's options.
    fn _map(
        &self,
        r#fn: &Bound<'_, PyAny>,
        iterables: &Bound<'_, PyTuple>,
        timeout: Option<f64>,
    ) -> PyResult<Option<MapIterator>> {
        let (open, policy) = self.open()?;
        map(open, policy, r#fn, iterables, timeout)
    }

    /// The pool without its executor, to close it and to wait for it.
    fn _handle(&self) -> PyResult<PoolHandle> {
        Ok(self.open()?.0.handle())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.open.get() {
            // Workers hold the pool and its host too: then what they hold is held from outside.
            Some((open, _)) if Arc::strong_count(&open.pool) == 1 => open.host.traverse(&visit),
            _ => Ok(()),
        }
    }

    fn __clear__(&self) {
        if let Some((open, _)) = self.open.get() {
            open.pool.close();
            open.host.clear();
        }
    }

    #[getter]
    fn _threads<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PySet>> {
        self.open()?.0.host.workers(py)
    }

    #[getter]
    fn _shutdown(&self) -> PyResult<bool> {
        Ok(self.open()?.0.pool.phase() == Phase::Closed)
    }

    #[getter]
    fn _broken(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self.open()?.0.pool.phase() {
            Phase::Broken(reason) => Ok((*reason).into_pyobject(py)?.into_any().unbind()),
            _ => Ok(false.into_pyobject(py)?.to_owned().into_any().unbind()),
        }
    }
}

fn map(
    open: &Open,
    policy: &Policy,
    function: &Bound<'_, PyAny>,
    iterables: &Bound<'_, PyTuple>,
    timeout: Option<f64>,
) -> PyResult<Option<MapIterator>> {
    check_callable("map()", function)?;
    // The context of a task is that of the moment at which it is submitted: for items that are drawn one by one, each has
    // its own.
    let has_own_contexts = policy.inherits_context && !MapIterator::is_at_hand(iterables);
    if has_own_contexts || !policy.fits_a_batch() {
        return Ok(None);
    }
    let deadline = enter::deadline(timeout)?;
    let label = policy.options.as_ref().and_then(|options| options.label.clone());
    MapIterator::submit(open, function, iterables, policy.inherits_context, label, deadline).map(Some)
}

pub(crate) fn make_policy((task_timeout, retries, retry_on, label): PolicyArgs, inherits_context: bool) -> Policy {
    let options = Options {
        label: label.map(Arc::from),
        // A limit beyond what a clock can count is none.
        task_timeout: task_timeout.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
        retries,
    };
    let options = (options != Options::default()).then(|| Arc::new(options));
    Policy { options, retry_on: retry_on.map(Arc::new), inherits_context }
}

/// The native half of `raddle.ExecutorView`: an executor seen with other options.
#[pyclass(module = "raddle._native", subclass, frozen)]
pub(crate) struct View {
    executor: Py<ThreadPool>,
    policy: Policy,
}

#[pymethods]
impl View {
    #[new]
    fn new(executor: &Bound<'_, ThreadPool>, policy: PolicyArgs) -> PyResult<Self> {
        let (_, own) = executor.get().open()?;
        Ok(Self { executor: executor.clone().unbind(), policy: make_policy(policy, own.inherits_context) })
    }

    /// Run `fn(*args, **kwargs)` on a thread of the pool; return its future.
    ///
    /// Parameters
    /// ----------
    /// fn : callable
    ///     What to call.
    /// *args, **kwargs : object
    ///     Its arguments.
    ///
    /// Returns
    /// -------
    /// Future
    ///     The call's value or exception, when it has ended.
    ///
    /// Raises
    /// ------
    /// TypeError
    ///     `fn` cannot be called.
    /// RuntimeError
    ///     The executor was shut down, the pool is broken, or this is a child of `os.fork()`.
    #[pyo3(signature = (r#fn, /, *args, **kwargs))]
    fn submit<'py>(
        &self,
        r#fn: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let executor = self.executor.bind(r#fn.py());
        let (open, _) = executor.get().open()?;
        if ThreadPool::_is_submit_ours(executor)? {
            return open.submit(&self.policy, r#fn, args, kwargs).map(Bound::into_any);
        }
        let pool = Arc::as_ptr(&open.pool).cast();
        PolicyOfView::submit_through(pool, self.policy.clone(), executor.as_any(), r#fn, args, kwargs)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.executor)
    }

    fn _map(
        &self,
        r#fn: &Bound<'_, PyAny>,
        iterables: &Bound<'_, PyTuple>,
        timeout: Option<f64>,
    ) -> PyResult<Option<MapIterator>> {
        map(&self.executor.get().open()?.0, &self.policy, r#fn, iterables, timeout)
    }
}

/// Whether an executor's `submit` is that of `ours`, neither overridden in a subclass nor replaced.
pub(crate) fn is_submit_ours(executor: &Bound<'_, PyAny>, ours: &Bound<'_, PyType>) -> PyResult<bool> {
    let name = intern!(executor.py(), "submit");
    let is_class_ours = executor.get_type().getattr(name)?.is(ours.getattr(name)?);
    Ok(is_class_ours && !executor.getattr(intern!(executor.py(), "__dict__"))?.contains(name)?)
}

/// A pool, to tell it from others.
type Address = *const ();

thread_local! {
    /// The policy of a view whose task is on its way through a `submit` of the user's.
    static POLICY_OF_VIEW: RefCell<Option<(Address, Policy)>> = const { RefCell::new(None) };
}

/// Leaves a policy for the next native `submit` of a pool on this thread; dropped, it takes back what was not fetched.
pub(crate) struct PolicyOfView {
    before: Option<(Address, Policy)>,
}

impl PolicyOfView {
    /// Submits through the user's `submit`, which ends in ours, on this thread.
    pub(crate) fn submit_through<'py>(
        pool: Address,
        policy: Policy,
        executor: &Bound<'py, PyAny>,
        function: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let waiting = Self { before: POLICY_OF_VIEW.replace(Some((pool, policy))) };
        let mut call = vec![function.clone()];
        call.extend(args.iter());
        let future = executor.call_method("submit", PyTuple::new(function.py(), call)?, kwargs);
        drop(waiting);
        future
    }

    /// Fetches the policy that was left for this pool.
    pub(crate) fn take(pool: Address) -> Option<Policy> {
        POLICY_OF_VIEW.with_borrow_mut(|place| place.take_if(|(of, _)| *of == pool).map(|(_, policy)| policy))
    }
}

impl Drop for PolicyOfView {
    fn drop(&mut self) {
        let left = POLICY_OF_VIEW.replace(self.before.take());
        drop(left);
    }
}

/// A pool without its executor: what shutting down and the end of the interpreter need.
#[pyclass(module = "raddle._native", frozen)]
pub(crate) struct PoolHandle {
    open: Open,
}

#[pymethods]
impl PoolHandle {
    /// Take no more tasks; cancel those that have not begun, if asked to, and return how many they were.
    fn close(&self, cancel_queued: bool) -> u64 {
        self.open.pool.close();
        if cancel_queued { self.open.pool.cancel_queued() } else { 0 }
    }

    /// Wait until all workers are gone, but for those given up.
    fn wait_ended(&self, py: Python<'_>) -> PyResult<()> {
        let ended = self.open.pool.ended();
        enter::block(py, None, |until, watched| self.open.pool.wait_ended(&ended, until, watched)).map(drop)
    }

    /// Let the interpreter exit without waiting for the threads of this pool.
    fn forsake(&self) {
        (0..self.open.pool.statistics().running).for_each(|_| note_given_up());
        let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|(pool, _)| pool.as_ptr() != Arc::as_ptr(&self.open.pool));
    }

    /// Whether the calling thread runs a task of the pool.
    #[getter]
    fn is_current(&self) -> bool {
        self.open.pool.is_current()
    }

    /// Whether the process was forked after the pool was made.
    #[getter]
    fn is_forked(&self) -> bool {
        self.open.pool.is_forked()
    }

    /// The threads of the pool that have been started and not given up.
    #[getter]
    fn threads(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        self.open.host.all_threads(py)
    }

    /// The figures of the pool, in the order of the fields of `raddle.Statistics`.
    fn statistics(&self) -> Statistics {
        figures(&self.open.pool.statistics())
    }
}

/// The fields of the package's `Statistics`.
pub(crate) type Statistics = (u64, u64, u64, u64, u64, u64, u64, u64, usize, f64, usize);

pub(crate) fn figures(now: &raddle::Statistics) -> Statistics {
    (
        now.submitted,
        now.running,
        now.waiting,
        now.done,
        now.failed,
        now.cancelled,
        now.retried,
        now.abandoned,
        now.workers,
        now.busy.as_secs_f64(),
        now.longest_queue,
    )
}

/// The pools that have threads in this process.
#[pyfunction]
pub(crate) fn live_pools() -> Vec<PoolHandle> {
    let pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
    let alive = pools.iter().filter_map(|(pool, host)| {
        let open = Open { pool: pool.upgrade()?, host: host.upgrade()? };
        (!open.pool.is_forked()).then_some(PoolHandle { open })
    });
    alive.collect()
}

/// Whether the interpreter has begun to exit.
pub(crate) fn is_exiting() -> bool {
    IS_EXITING.load(Relaxed)
}

/// From now on, a task that is refused is refused because the interpreter exits.
#[pyfunction]
pub(crate) fn note_exit() {
    IS_EXITING.store(true, Relaxed);
}
