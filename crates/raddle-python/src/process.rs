//! `ProcessPoolExecutor` and its views with options: calls become bytes here, on the thread that submits.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use pyo3::exceptions::{PyException, PyKeyboardInterrupt, PyRuntimeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};

use raddle::host::ThreadBody;
use raddle::process::bytes::Bytes;
use raddle::process::launcher::{Exit, Launcher, Started};
use raddle::process::notes::Note;
use raddle::process::pool::{Plan, ProcessPool};
use raddle::process::remote::Parcel;
use raddle::process::seat::words_for;
use raddle::{LostTask, Phase, SubmitError};

use crate::apart::{Apart, with_segments};
use crate::codec::{Function, Pickling};
use crate::enter;
use crate::executor::{Policy, PolicyArgs, PolicyOfView, Statistics, check_callable, figures, is_exiting, make_policy};
use crate::future::NativeFuture;
use crate::host::{ThreadBodyEntry, keep_start_error, take_start_error};
use crate::job::{PyJob, note_given_up};
use crate::names::Names;
use crate::process_map::ProcessMapIterator;
use crate::timeline::name_of;

/// Bytes of calls that may wait to be sent. Beyond that, calls are kept as objects and pickled when their turn comes, so that
/// a thousand calls with one large argument do not keep a thousand copies of it.
pub(crate) const MOST_WAITING: usize = 128 << 20;
/// Room for the bytes of a call with a few numbers, so that they are not moved while it is written.
const USUAL_CALL: usize = 64;
/// How many functions a pool keeps defined: more are sent with each call.
const MOST_DEFINED: usize = 4096;

/// How a pool's calls become bytes, and bytes results.
pub(crate) struct Side {
    pub(crate) pickling: Pickling,
    /// Context variables whose values go with each task.
    context: Vec<Py<PyAny>>,
    defined: Mutex<Defined>,
}

#[derive(Default)]
struct Defined {
    /// Importable functions by their address.
    functions: HashMap<usize, Arc<DefinedFunction>>,
    /// What was sent for each number.
    bytes: HashMap<u64, Bytes>,
}

/// A function that workers know by a number.
struct DefinedFunction {
    /// It is kept alive, so that no other has its address.
    _function: Py<PyAny>,
    number: u64,
    /// Where it was found, if its name there has no dots.
    place: Option<(Py<PyString>, Py<PyString>)>,
}

/// How the function of a call is sent.
pub(crate) enum Named {
    Defined(u64),
    Inline(Vec<u8>),
}

impl Named {
    pub(crate) fn as_function(&self) -> Function<'_> {
        match self {
            Self::Defined(number) => Function::Defined(*number),
            Self::Inline(bytes) => Function::Inline(bytes),
        }
    }

    pub(crate) fn needs(&self) -> Option<u64> {
        match self {
            Self::Defined(number) => Some(*number),
            Self::Inline(_) => None,
        }
    }
}

impl Side {
    fn lock(&self) -> MutexGuard<'_, Defined> {
        self.defined.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An importable function is sent once, by name; any other with each call, so that its present state is seen.
    pub(crate) fn name(&self, pool: &ProcessPool, function: &Bound<'_, PyAny>) -> PyResult<Named> {
        let address = function.as_ptr().addr();
        let known = self.lock().functions.get(&address).map(Arc::clone);
        // That it is the module's function is looked at each time: a name may be bound anew.
        if let Some(known) = &known
            && known.place.as_ref().is_some_and(|(module, name)| self.pickling.is_at(function, module, name))
        {
            return Ok(Named::Defined(known.number));
        }
        if !self.pickling.is_importable(function) {
            return self.pickling.function(function).map(Named::Inline);
        }
        if let Some(known) = known {
            return Ok(Named::Defined(known.number));
        }
        let bytes = self.pickling.function(function)?;
        if self.lock().functions.len() >= MOST_DEFINED {
            return Ok(Named::Inline(bytes));
        }
        let number = self.define(pool, bytes);
        let place = self.pickling.place_of(function);
        let kept = DefinedFunction { _function: function.clone().unbind(), number, place };
        let before = self.lock().functions.insert(address, Arc::new(kept));
        drop(before);
        Ok(Named::Defined(number))
    }

    /// Has bytes of a function sent to each worker that comes to need them.
    pub(crate) fn define(&self, pool: &ProcessPool, bytes: Vec<u8>) -> u64 {
        let bytes = Bytes::from(bytes);
        let number = pool.define(bytes.clone());
        self.lock().bytes.insert(number, bytes);
        number
    }

    pub(crate) fn forget(&self, pool: &ProcessPool, number: u64) {
        let bytes = self.lock().bytes.remove(&number);
        drop(bytes);
        pool.forget(number);
    }

    /// Whether a call carries values of the moment at which it is submitted.
    pub(crate) fn has_context(&self) -> bool {
        !self.context.is_empty()
    }

    /// The bytes of a call begin with the values of the context variables.
    pub(crate) fn begin_call(&self, py: Python<'_>, out: &mut Vec<u8>) -> PyResult<()> {
        if self.context.is_empty() { Ok(()) } else { self.pickling.context(py, &self.context, out) }
    }

    pub(crate) fn encode(
        &self,
        pool: &ProcessPool,
        function: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Parcel> {
        let py = function.py();
        let named = self.name(pool, function)?;
        let mut out = Vec::with_capacity(USUAL_CALL);
        let (made, segments) = with_segments(|| {
            self.begin_call(py, &mut out)?;
            self.pickling.call(py, named.as_function(), args, kwargs, &mut out)
        });
        made?;
        Ok(Parcel { bytes: Bytes::with_segments(out, segments), needs: named.needs() })
    }

    /// A lost task in words: its label, and the call, shortened.
    pub(crate) fn describe(&self, py: Python<'_>, task: &LostTask) -> Option<String> {
        let call = task.call.as_ref().map(|call| {
            let definition = |number| self.lock().bytes.get(&number).map(|bytes| bytes.to_vec());
            self.pickling.describe(py, call, definition)
        });
        match (&task.label, call) {
            (Some(label), Some(call)) => Some(format!("{label:?}: {call}")),
            (Some(label), None) => Some(format!("{label:?}")),
            (None, call) => call,
        }
    }
}

/// A call for a pool of processes that is kept as objects until its turn comes, or for further attempts.
#[derive(Clone)]
pub(crate) struct RemotePart {
    pub(crate) side: Arc<Side>,
    pub(crate) pool: Weak<ProcessPool>,
    /// Why it cannot be sent: pickling it has failed already.
    pub(crate) failed: Option<Arc<PyErr>>,
}

/// The package's launcher, and the thread that supervises.
struct PythonLauncher {
    launcher: Py<PyAny>,
    starts_at_once: bool,
    name: String,
    /// The thread that supervises, and the one that hands on what workers tell.
    threads: [Mutex<Option<Py<PyAny>>>; 2],
}

const SUPERVISOR: usize = 0;
const TELLER: usize = 1;

impl PythonLauncher {
    fn lock_thread(&self, which: usize) -> MutexGuard<'_, Option<Py<PyAny>>> {
        self.threads[which].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that have been started, the supervisor first.
    fn started(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        let started = [SUPERVISOR, TELLER].map(|which| self.lock_thread(which).as_ref().map(|it| it.clone_ref(py)));
        started.into_iter().flatten().collect()
    }

    /// Starts the thread. An exception that a signal handler raises meanwhile does not leave it half started: the thread has
    /// begun with its body, or the body is taken back and it never will.
    fn start_thread(&self, py: Python<'_>, which: usize, name: &str, body: ThreadBody) -> PyResult<Option<PyErr>> {
        // The engine needs no interpreter but for the calls below.
        let body = Box::new(move || Python::attach(|py| py.detach(body)));
        let entry = Bound::new(py, ThreadBodyEntry::new(body))?;
        let thread = Names::get(py).make_thread.call1(py, (&entry, name))?;
        let before = self.lock_thread(which).replace(thread.clone_ref(py));
        drop(before);
        let Err(error) = thread.call_method0(py, "start") else { return Ok(None) };
        let Some(body) = entry.get().take() else { return Ok(Some(error)) };
        drop(body);
        let before = self.lock_thread(which).take();
        drop(before);
        Err(error)
    }
}

fn in_words(py: Python<'_>, error: &PyErr) -> String {
    let name = error.get_type(py).name().map_or_else(|_| "an error".into(), |name| name.to_string());
    format!("{name}: {}", error.value(py))
}

impl Launcher for PythonLauncher {
    fn supervise(&self, body: ThreadBody) -> Result<(), String> {
        Python::attach(|py| {
            let (error, started) = match self.start_thread(py, SUPERVISOR, &self.name, body) {
                Ok(None) => return Ok(()),
                Ok(Some(error)) => (error, Ok(())),
                Err(error) => {
                    let message = error.value(py).to_string();
                    (error, Err(message))
                }
            };
            keep_start_error(error);
            started
        })
    }

    fn listen(&self, body: ThreadBody) -> Result<(), String> {
        Python::attach(|py| match self.start_thread(py, TELLER, &format!("{}-records", self.name), body) {
            Ok(None) => Ok(()),
            // It has begun all the same.
            Ok(Some(error)) => {
                error.write_unraisable(py, None);
                Ok(())
            }
            Err(error) => Err(in_words(py, &error)),
        })
    }

    fn start(&self, seat: usize, number: usize) -> Result<Started, String> {
        Python::attach(|py| {
            let started = self.launcher.call_method1(py, "start", (seat, number));
            let (pid, watch): (u32, i32) = started.and_then(|started| started.extract(py)).map_err(|error| {
                let words = in_words(py, &error);
                // A Ctrl-C on the thread that submits is for whoever submits.
                if !error.is_instance_of::<PyException>(py) {
                    keep_start_error(error);
                }
                words
            })?;
            // SAFETY: the launcher hands the descriptor over.
            Ok(Started { pid, watch: Some(unsafe { OwnedFd::from_raw_fd(watch) }) })
        })
    }

    fn reap(&self, pid: u32) -> Exit {
        Python::attach(|py| {
            let ended = self.launcher.call_method1(py, "reap", (pid,));
            match ended.and_then(|ended| ended.extract(py)) {
                Ok((code, peak_memory, stack)) => Exit { code, peak_memory, stack },
                Err(error) => {
                    error.write_unraisable(py, Some(self.launcher.bind(py)));
                    Exit { code: 255, ..Exit::default() }
                }
            }
        })
    }

    fn name(&self) -> Option<Arc<str>> {
        Some(self.name.as_str().into())
    }

    fn starts_at_once(&self) -> bool {
        self.starts_at_once
    }

    fn hear(&self, notes: Vec<Note>) {
        Python::attach(|py| {
            let told = notes.into_iter().map(|Note { worker, pid, label, bytes }| {
                Ok((worker, pid, label.as_deref(), PyBytes::new(py, &bytes)).into_pyobject(py)?.into_any())
            });
            let told = told.collect::<PyResult<Vec<_>>>();
            if let Err(error) = told.and_then(|told| Names::of_processes(py).hear.call1(py, (told,))) {
                error.write_unraisable(py, None);
            }
        });
    }

    fn close(&self) {
        Python::attach(|py| {
            if let Err(error) = self.launcher.call_method0(py, "close") {
                error.write_unraisable(py, Some(self.launcher.bind(py)));
            }
        });
    }
}

/// An engine pool of processes in the world of Python.
#[derive(Clone)]
pub(crate) struct Open {
    pub(crate) pool: Arc<ProcessPool>,
    pub(crate) side: Arc<Side>,
    launcher: Arc<PythonLauncher>,
    /// The state of the program's log levels that its workers have been told.
    levels: Arc<AtomicU64>,
}

/// A pool that may be there.
struct Live {
    pool: Weak<ProcessPool>,
    side: Weak<Side>,
    launcher: Weak<PythonLauncher>,
    levels: Arc<AtomicU64>,
}

/// Counts the changes of the program's log levels and filters of warnings.
static LEVELS: AtomicU64 = AtomicU64::new(1);

/// Notes that log levels, or filters of warnings, have changed: workers are told before their next task.
#[pyfunction]
pub(crate) fn note_levels() {
    LEVELS.fetch_add(1, Relaxed);
}

/// Pools whose processes may have to be waited for when the interpreter exits.
static POOLS: Mutex<Vec<Live>> = Mutex::new(Vec::new());

fn pools() -> MutexGuard<'static, Vec<Live>> {
    POOLS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Open {
    fn new(
        py: Python<'_>,
        launcher: Py<PyAny>,
        plan: Plan,
        by_value: bool,
        context: Vec<Py<PyAny>>,
        name: String,
    ) -> PyResult<Self> {
        let starts_at_once = launcher.getattr(py, "starts_at_once")?.extract(py)?;
        let pickling = Pickling::new(py, by_value)?;
        let mut side = Side { pickling, context, defined: Mutex::default() };
        let launcher = Arc::new(PythonLauncher { launcher, starts_at_once, name, threads: Default::default() });
        let pool = ProcessPool::new(Arc::clone(&launcher) as _, plan)?;
        let mut arena_fd = -1;
        if let Some(arena) = pool.arena() {
            side.pickling.apart = Apart::Program(Arc::clone(arena));
            arena_fd = arena.descriptor().as_raw_fd();
        }
        let mapping_fd = pool.mapping().descriptor().as_raw_fd();
        let shared = (mapping_fd, words_for(plan.max_workers), pool.eventfd().as_raw_fd(), arena_fd);
        launcher.launcher.call_method1(py, "open", shared)?;
        let open = Self { pool, side: Arc::new(side), launcher, levels: Arc::new(AtomicU64::new(0)) };
        let mut pools = pools();
        pools.retain(|live| live.pool.strong_count() > 0);
        pools.push(Live {
            pool: Arc::downgrade(&open.pool),
            side: Arc::downgrade(&open.side),
            launcher: Arc::downgrade(&open.launcher),
            levels: Arc::clone(&open.levels),
        });
        Ok(open)
    }

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
        let has_time = self.check_open(py)? > MOST_WAITING && !self.side.has_context();
        let future = NativeFuture::make(py)?;
        future.get().belongs_to(&self.side);
        let encoded = if has_time { None } else { Some(self.side.encode(&self.pool, function, args, kwargs)) };
        let (parcel, failed) = match encoded {
            Some(Ok(parcel)) => (Some(parcel), None),
            // Ctrl-C is for whoever submits; other errors are the task's.
            Some(Err(error)) if error.is_instance_of::<PyKeyboardInterrupt>(py) => return Err(error),
            Some(Err(error)) => (None, Some(Arc::new(error))),
            None => (None, None),
        };
        let task = future.get().task();
        name_of(function).into_iter().for_each(|name| task.set_name(name));
        let is_kept = parcel.is_none() || policy.options.as_ref().is_some_and(|options| options.retries > 0);
        let remote = RemotePart { side: Arc::clone(&self.side), pool: Arc::downgrade(&self.pool), failed };
        if is_kept {
            task.arm(PyJob::remote(function, args, kwargs, policy.retry_on.clone(), remote), policy.options.clone());
        } else {
            task.set_options(policy.options.clone());
        }
        self.check(py, self.pool.submit_task(task, parcel))?;
        Ok(future)
    }

    pub(crate) fn check_not_exiting(&self, py: Python<'_>) -> PyResult<()> {
        if is_exiting() {
            return Err(self.refusal(py, &SubmitError::ShutDown));
        }
        let levels = LEVELS.load(Relaxed);
        if self.levels.load(Relaxed) != levels { self.announce_levels(py, levels) } else { Ok(()) }
    }

    /// Tells the workers from which levels on log records are wanted, and which warnings are.
    #[cold]
    fn announce_levels(&self, py: Python<'_>, mut change: u64) -> PyResult<()> {
        loop {
            let said: Option<Vec<u8>> = Names::of_processes(py).announcement.call0(py)?.extract(py)?;
            if let Some(said) = said {
                self.pool.announce(Bytes::from(said));
            }
            // Only now: another thread that submits meanwhile must not take them to be announced.
            self.levels.store(change, Relaxed);
            let now = LEVELS.load(Relaxed);
            // Whoever has announced what is old by now, perhaps after somebody else, announces again.
            if std::mem::replace(&mut change, now) == now {
                return Ok(());
            }
        }
    }

    /// Refuses a call before anything of it is pickled; tells how many bytes wait to be sent.
    fn check_open(&self, py: Python<'_>) -> PyResult<usize> {
        self.pool.queued_bytes().map_err(|refused| self.refusal(py, &refused))
    }

    pub(crate) fn check(&self, py: Python<'_>, submitted: Result<(), SubmitError>) -> PyResult<()> {
        match (submitted, take_start_error()) {
            (Ok(()), None) => Ok(()),
            // A Ctrl-C meanwhile is told whatever became of the task.
            (_, Some(error)) if !error.is_instance_of::<PyException>(py) => Err(error),
            (Ok(()) | Err(SubmitError::NoThread(_)), Some(error)) => Err(error),
            (Err(refused), _) => Err(self.refusal(py, &refused)),
        }
    }

    fn refusal(&self, py: Python<'_>, error: &SubmitError) -> PyErr {
        Names::process_refusal(py, error, is_exiting())
    }
}

/// The native half of `raddle.ProcessPoolExecutor`.
#[pyclass(name = "ProcessPool", module = "raddle._native", subclass, frozen)]
pub(crate) struct PyProcessPool {
    open: OnceLock<(Open, Policy)>,
}

impl PyProcessPool {
    fn open(&self) -> PyResult<&(Open, Policy)> {
        self.open.get().ok_or_else(|| {
            PyRuntimeError::new_err("this executor was not initialised: call super().__init__() in the subclass")
        })
    }
}

impl Drop for PyProcessPool {
    /// Nobody can submit any more: the workers finish what is queued, and leave.
    fn drop(&mut self) {
        if let Some((open, _)) = self.open.get() {
            open.pool.close();
        }
    }
}

#[pymethods]
impl PyProcessPool {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self { open: OnceLock::new() }
    }

    /// Make the pool; the package has checked the arguments.
    #[expect(clippy::too_many_arguments, reason = "it is called once, by the package")]
    fn _open(
        &self,
        py: Python<'_>,
        launcher: Py<PyAny>,
        max_workers: usize,
        tasks_per_worker: Option<usize>,
        breaks_at_death: bool,
        by_value: bool,
        context: Vec<Py<PyAny>>,
        name: String,
        policy: PolicyArgs,
        limits: (Option<u64>, Option<f64>),
    ) -> PyResult<()> {
        let (memory_limit, idle_timeout) = limits;
        // A time that cannot be counted never comes.
        let idle_timeout = idle_timeout.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let plan = Plan { tasks_per_worker, breaks_at_death, memory_limit, idle_timeout, ..Plan::new(max_workers) };
        let open = Open::new(py, launcher, plan, by_value, context, name)?;
        let already = || PyRuntimeError::new_err("this executor has been initialised already");
        self.open.set((open, make_policy(policy, false))).map_err(|_| already())
    }

    /// Run `fn(*args, **kwargs)` in a process of the pool; return its future.
    ///
    /// Parameters
    /// ----------
    /// fn : callable
    ///     What to call.
    /// *args, **kwargs : object
    ///     Its arguments. They are sent as they are now;
    ///     what cannot be sent fails the future.
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
        crate::executor::is_submit_ours(slf.as_any(), &slf.py().get_type::<Self>())
    }

    /// The results of `fn` over the items, or None if a batch does not fit this executor's options.
    fn _map(
        &self,
        r#fn: &Bound<'_, PyAny>,
        iterables: &Bound<'_, PyTuple>,
        timeout: Option<f64>,
        chunksize: usize,
    ) -> PyResult<Option<ProcessMapIterator>> {
        let (open, policy) = self.open()?;
        map(open, policy, r#fn, iterables, timeout, chunksize)
    }

    /// The pool without its executor, to close it and to wait for it.
    fn _handle(&self) -> PyResult<ProcessPoolHandle> {
        Ok(ProcessPoolHandle { open: self.open()?.0.clone() })
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
    chunksize: usize,
) -> PyResult<Option<ProcessMapIterator>> {
    check_callable("map()", function)?;
    if !policy.fits_a_batch() {
        return Ok(None);
    }
    let py = function.py();
    open.check_not_exiting(py)?;
    open.check_open(py)?;
    let deadline = enter::deadline(timeout)?;
    ProcessMapIterator::submit(open, function, iterables, chunksize, deadline).map(Some)
}

/// The native half of `raddle.ProcessExecutorView`: an executor of processes seen with other options.
#[pyclass(module = "raddle._native", subclass, frozen)]
pub(crate) struct ProcessView {
    executor: Py<PyProcessPool>,
    policy: Policy,
}

#[pymethods]
impl ProcessView {
    #[new]
    fn new(executor: &Bound<'_, PyProcessPool>, policy: PolicyArgs) -> PyResult<Self> {
        executor.get().open()?;
        Ok(Self { executor: executor.clone().unbind(), policy: make_policy(policy, false) })
    }

    /// Run `fn(*args, **kwargs)` in a process of the pool; return its future.
    ///
    /// Parameters
    /// ----------
    /// fn : callable
    ///     What to call.
    /// *args, **kwargs : object
    ///     Its arguments. They are sent as they are now;
    ///     what cannot be sent fails the future.
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
        if PyProcessPool::_is_submit_ours(executor)? {
            return open.submit(&self.policy, r#fn, args, kwargs).map(Bound::into_any);
        }
        PolicyOfView::submit_through(
            Arc::as_ptr(&open.pool).cast(),
            self.policy.clone(),
            executor.as_any(),
            r#fn,
            args,
            kwargs,
        )
    }

    fn _map(
        &self,
        r#fn: &Bound<'_, PyAny>,
        iterables: &Bound<'_, PyTuple>,
        timeout: Option<f64>,
        chunksize: usize,
    ) -> PyResult<Option<ProcessMapIterator>> {
        map(&self.executor.get().open()?.0, &self.policy, r#fn, iterables, timeout, chunksize)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.executor)
    }
}

/// A pool without its executor: what shutting down and the end of the interpreter need.
#[pyclass(module = "raddle._native", frozen)]
pub(crate) struct ProcessPoolHandle {
    open: Open,
}

#[pymethods]
impl ProcessPoolHandle {
    /// Take no more tasks; cancel those that have not begun, if asked to, and return how many they were.
    fn close(&self, cancel_queued: bool) -> u64 {
        self.open.pool.close();
        if cancel_queued { self.open.pool.cancel_queued() } else { 0 }
    }

    /// Wait until all workers are gone.
    fn wait_ended(&self, py: Python<'_>) -> PyResult<()> {
        let ended = self.open.pool.ended();
        enter::block(py, None, |until, _| Ok(ended.wait_as_caller(until))).map(drop)
    }

    /// End all workers at once; what they ran fails.
    fn kill_workers(&self) {
        self.open.pool.kill_workers();
    }

    /// Let the interpreter exit without waiting for this pool: its workers end with the program.
    fn forsake(&self) {
        self.open.pool.kill_workers();
        note_given_up();
        pools().retain(|live| live.pool.as_ptr() != Arc::as_ptr(&self.open.pool));
    }

    /// Whether the calling thread is one of the pool's own.
    #[getter]
    fn is_current(&self) -> bool {
        self.open.pool.is_current()
    }

    /// Whether the process was forked after the pool was made.
    #[getter]
    fn is_forked(&self) -> bool {
        self.open.pool.is_forked()
    }

    /// Whether a worker is wanted whose process has not been started.
    #[getter]
    fn is_starting(&self) -> bool {
        self.open.pool.is_starting()
    }

    /// The threads of the pool that have been started, the one that supervises first.
    #[getter]
    fn threads(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        self.open.launcher.started(py)
    }

    /// The figures of the pool, in the order of the fields of `raddle.Statistics`.
    fn statistics(&self) -> Statistics {
        figures(&self.open.pool.statistics())
    }
}

/// The pools of processes that have a thread in this process.
#[pyfunction]
pub(crate) fn live_process_pools() -> Vec<ProcessPoolHandle> {
    let open = |live: &Live| {
        let levels = Arc::clone(&live.levels);
        Some(Open {
            pool: live.pool.upgrade()?,
            side: live.side.upgrade()?,
            launcher: live.launcher.upgrade()?,
            levels,
        })
    };
    let alive: Vec<_> = pools().iter().filter_map(open).collect();
    // Outside the lock: a pool that is given up here may be the last to hold objects of Python.
    alive.into_iter().filter(|open| !open.pool.is_forked()).map(|open| ProcessPoolHandle { open }).collect()
}
