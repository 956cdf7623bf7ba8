//! The process pool of Rust programs: registered functions in, [`Future`]s out, over the same [pool](super::pool) as Python's.
//!
//! A worker is the program's own executable, started once more. [`init`], the first line of `main`, tells the two apart: in a
//! worker it serves and does not return. The memory that both share comes over the worker's standard input, a socket.

use std::collections::{HashSet, VecDeque};
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::JoinHandle;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::functions::{self, Function, Registered};
use super::launcher::{Exit, Launcher, Started};
use super::link::Reply;
use super::mapping::Mapping;
use super::pool::{Plan, ProcessPool};
use super::remote::Parcel;
use super::seat::words_for;
use super::task::SendJob;
use super::worker::{Handler, end_with, ring_eventfd, serve};
use crate::error::{SubmitError, TaskError};
use crate::executor::Future;
use crate::host::ThreadBody;
use crate::os::{self, channel};
use crate::primitives::Mutex;
use crate::signal::Waited;
use crate::statistics::Statistics;
use crate::task::{Job, Options, Task};

/// In a worker's environment: the program's process id, the seat, and how many words the shared memory has.
const WORKER: &str = "RADDLE_RUST_WORKER";

/// Tells which functions worker processes can run. To be called at the start of `main`, before anything else: in a worker
/// process it serves the program, and ends the process when the program needs it no more.
///
/// # Panics
/// Two functions have one name, or it was called before.
///
/// ```rust,standalone_crate
/// use raddle::process::{Function, init};
/// use raddle::ProcessPoolExecutor;
///
/// static SQUARE: Function<u64, u64> = Function::new("square", |number| number * number);
///
/// fn main() -> std::io::Result<()> {
///     init(&[&SQUARE]);
///     let pool = ProcessPoolExecutor::new(2)?;
///     assert_eq!(pool.submit(&SQUARE, 12).result(), Ok(144));
///     Ok(())
/// }
/// ```
pub fn init(functions: &[&'static dyn Registered]) {
    functions::register(functions);
    let Some(plan) = std::env::var_os(WORKER) else { return };
    // What a worker starts inherits the variable, and is none.
    let Some((seat, words)) = plan_of_this_process(&plan) else { return };
    let code = match be_a_worker(seat, words) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("raddle: a worker process cannot serve: {error}");
            1
        }
    };
    std::process::exit(code);
}

fn plan_of_this_process(plan: &OsString) -> Option<(usize, usize)> {
    let mut numbers = plan.to_str()?.split(' ').map(str::parse::<usize>);
    let program: u32 = numbers.next()?.ok()?.try_into().ok()?;
    let (seat, words) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    (std::os::unix::process::parent_id() == program).then_some((seat, words))
}

fn be_a_worker(seat: usize, words: usize) -> io::Result<()> {
    // The program sees to a Ctrl-C.
    os::ignore_interrupts();
    end_with(std::os::unix::process::parent_id())?;
    let (_, handed) = channel::receive_message(io::stdin().as_fd())?;
    let Ok([memory, bell]) = <[OwnedFd; 2]>::try_from(handed) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the program has not sent what a worker needs"));
    };
    serve(&Mapping::open(memory, words)?, seat, &mut Servant(bell)).map_err(io::Error::other)
}

/// Runs calls in a worker; it holds what the program is rung by.
struct Servant(OwnedFd);

impl Handler for Servant {
    fn define(&mut self, _number: u64, _bytes: Vec<u8>) {}

    fn forget(&mut self, _number: u64) {}

    fn run(&mut self, task: Vec<u8>, reply: &mut Vec<u8>) -> u16 {
        functions::run(&task, reply)
    }

    fn ring_elsewhere(&mut self) {
        ring_eventfd(self.0.as_fd());
    }
}

/// Starts this executable once more for each worker.
#[derive(Debug, Default)]
struct Programs {
    pool: OnceLock<Weak<ProcessPool>>,
    arguments: Vec<OsString>,
    words: usize,
    /// Those that have not been waited for.
    started: Mutex<HashSet<u32>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Programs {
    fn spawn(&self, pool: &ProcessPool, seat: usize) -> io::Result<u32> {
        let (here, there) = channel::channel()?;
        channel::send_message(here.as_fd(), b"seat", &[pool.mapping().descriptor(), pool.eventfd()])?;
        let plan = format!("{} {seat} {}", std::process::id(), self.words);
        let mut command = Command::new("/proc/self/exe");
        command.args(&self.arguments).env(WORKER, plan).stdin(Stdio::from(there));
        Ok(command.spawn()?.id())
    }
}

impl Launcher for Programs {
    fn supervise(&self, body: ThreadBody) -> Result<(), String> {
        let thread = std::thread::Builder::new().name("raddle-processes".into());
        let started = thread.spawn(body).map_err(|error| error.to_string())?;
        *self.thread.lock() = Some(started);
        Ok(())
    }

    fn start(&self, seat: usize, _number: usize) -> Result<Started, String> {
        let pool = self.pool.get().and_then(Weak::upgrade).ok_or("the pool is gone")?;
        let pid = self.spawn(&pool, seat).map_err(|error| error.to_string())?;
        self.started.lock().insert(pid);
        Ok(Started { pid, watch: None })
    }

    fn reap(&self, pid: u32) -> Exit {
        if !self.started.lock().remove(&pid) {
            return Exit::default();
        }
        match os::wait_child(pid) {
            Ok((code, peak_memory)) => Exit { code, peak_memory: Some(peak_memory), stack: None },
            // Somebody else in this program has waited for it, and knows how it ended.
            Err(_) => Exit { code: 255, ..Exit::default() },
        }
    }
}

/// Runs functions in worker processes of this program's own executable: one that crashes, hangs or takes too much memory costs
/// its own task, and the pool goes on.
///
/// The functions are told by [`init`]; their arguments and results are what serde can write and read. Dropped, the pool takes
/// no more tasks and waits for those it has. A task whose worker dies fails with
/// [`Failure::Died`](crate::Failure::Died), or is tried again with [`Options::retries`]; one that runs longer than its
/// [`Options::task_timeout`], or is [killed](Future::kill), is ended with its worker.
///
/// ```rust,standalone_crate
/// use raddle::process::{Function, init};
/// use raddle::{Failure, ProcessPoolExecutor, TaskError};
///
/// static CRASH: Function<(), ()> = Function::new("crash", |()| std::process::abort());
/// static LENGTH: Function<String, usize> = Function::new("length", |text| text.len());
///
/// fn main() -> std::io::Result<()> {
///     init(&[&CRASH, &LENGTH]);
///     let pool = ProcessPoolExecutor::new(2)?;
///     assert!(matches!(pool.submit(&CRASH, ()).result(), Err(TaskError::Failed(Failure::Died { .. }))));
///     assert_eq!(pool.submit(&LENGTH, "it goes on".into()).result(), Ok(10));
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct ProcessPoolExecutor {
    pool: Arc<ProcessPool>,
    programs: Arc<Programs>,
}

impl ProcessPoolExecutor {
    /// A pool of at most `max_workers` processes, which are started when they are needed.
    ///
    /// # Errors
    /// [`init`] was not called; or the system gives no shared memory, or no descriptor.
    ///
    /// # Panics
    /// If `max_workers` is 0.
    pub fn new(max_workers: usize) -> io::Result<Self> {
        Self::with_plan(Plan::new(max_workers), [])
    }

    /// A pool as the plan says; its workers get these arguments on their command lines. A worker needs none, unless something
    /// reads them before [`init`] is called, as in a test.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    ///
    /// # Panics
    /// If the plan is for no worker.
    pub fn with_plan(plan: Plan, arguments: impl IntoIterator<Item = OsString>) -> io::Result<Self> {
        assert!(plan.max_workers > 0, "max_workers must be greater than 0");
        if !functions::are_registered() {
            let text = "raddle::process::init must be called at the start of main, with the functions of the workers";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        let words = words_for(plan.max_workers);
        let programs = Programs { arguments: arguments.into_iter().collect(), words, ..Programs::default() };
        let programs = Arc::new(programs);
        let pool = ProcessPool::new(Arc::clone(&programs) as _, plan)?;
        programs.pool.set(Arc::downgrade(&pool)).expect("the launcher is new");
        Ok(Self { pool, programs })
    }

    /// Has a worker run the function; the future gives its result.
    ///
    /// # Panics
    /// Where [`try_submit`](Self::try_submit) fails.
    pub fn submit<A, R>(&self, function: &Function<A, R>, arguments: A) -> Future<R>
    where
        A: Serialize,
        R: DeserializeOwned + Send + 'static,
    {
        self.view(None).submit(function, arguments)
    }

    /// Has a worker run the function, if the pool takes it.
    ///
    /// # Errors
    /// The pool has been shut down or is broken; the function is none of those that [`init`] was told; the arguments cannot be
    /// written.
    pub fn try_submit<A, R>(&self, function: &Function<A, R>, arguments: &A) -> Result<Future<R>, SubmitError>
    where
        A: Serialize,
        R: DeserializeOwned + Send + 'static,
    {
        self.view(None).try_submit(function, arguments)
    }

    /// Runs the function for every item, at once and in any order; the iterator gives the results in the order of the items.
    ///
    /// # Panics
    /// Where [`try_submit`](Self::try_submit) fails.
    ///
    /// ```rust,standalone_crate
    /// use raddle::process::{Function, init};
    ///
    /// static SQUARE: Function<u64, u64> = Function::new("square", |number| number * number);
    ///
    /// fn main() -> std::io::Result<()> {
    ///     init(&[&SQUARE]);
    ///     let pool = raddle::ProcessPoolExecutor::new(2)?;
    ///     let squares: Result<Vec<u64>, _> = pool.map(&SQUARE, 1..=4).collect();
    ///     assert_eq!(squares, Ok(vec![1, 4, 9, 16]));
    ///     Ok(())
    /// }
    /// ```
    pub fn map<A, R>(&self, function: &Function<A, R>, items: impl IntoIterator<Item = A>) -> ProcessMap<R>
    where
        A: Serialize,
        R: DeserializeOwned + Send + 'static,
    {
        self.view(None).map(function, items)
    }

    /// The same executor with options for the tasks submitted through the view.
    pub fn options(&self, options: Options) -> ProcessView<'_> {
        self.view(Some(Arc::new(options)))
    }

    fn view(&self, options: Option<Arc<Options>>) -> ProcessView<'_> {
        ProcessView { executor: self, options }
    }

    /// Takes no more tasks. What is queued is still run; with `wait`, it returns when the workers have ended.
    pub fn shutdown(&self, wait: bool) {
        self.pool.close();
        if !wait || self.pool.is_forked() || self.pool.is_current() {
            return;
        }
        let ended = self.pool.ended();
        while ended.wait_as_caller(None) == Waited::Interrupted {}
        let thread = self.programs.thread.lock().take();
        if let Some(thread) = thread {
            thread.join().expect("the body of a pool's thread lets no panic out");
        }
    }

    /// Cancels all tasks that have not begun; tells how many they were.
    pub fn cancel_queued(&self) -> u64 {
        self.pool.cancel_queued()
    }

    /// Ends all workers at once. What they ran fails; the pool goes on unless it is shut down.
    pub fn kill_workers(&self) {
        self.pool.kill_workers();
    }

    /// What the pool has done so far.
    pub fn statistics(&self) -> Statistics {
        self.pool.statistics()
    }
}

impl Drop for ProcessPoolExecutor {
    fn drop(&mut self) {
        self.shutdown(true);
    }
}

/// An executor of processes seen with other options; made by [`ProcessPoolExecutor::options`].
#[derive(Debug)]
pub struct ProcessView<'a> {
    executor: &'a ProcessPoolExecutor,
    options: Option<Arc<Options>>,
}

impl ProcessView<'_> {
    /// As [`ProcessPoolExecutor::submit`].
    ///
    /// # Panics
    /// Where [`ProcessPoolExecutor::try_submit`] fails.
    pub fn submit<A, R>(&self, function: &Function<A, R>, arguments: A) -> Future<R>
    where
        A: Serialize,
        R: DeserializeOwned + Send + 'static,
    {
        self.try_submit(function, &arguments).unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`ProcessPoolExecutor::try_submit`].
    ///
    /// # Errors
    /// The same.
    pub fn try_submit<A, R>(&self, function: &Function<A, R>, arguments: &A) -> Result<Future<R>, SubmitError>
    where
        A: Serialize,
        R: DeserializeOwned + Send + 'static,
    {
        let name = function.name();
        if !functions::is_registered(name) {
            return Err(SubmitError::Unregistered(name));
        }
        let bytes = functions::encode(name, arguments);
        let bytes =
            bytes.map_err(|error| SubmitError::Unwritable(format!("the arguments of {name}: {error}").into()))?;
        let task = Arc::new(Task::new(Call(PhantomData), self.options.clone()));
        self.executor.pool.submit_task(&task, Some(Parcel { bytes, needs: None }))?;
        Ok(Future::of_task(task))
    }

    /// As [`ProcessPoolExecutor::map`].
    ///
    /// # Panics
    /// Where [`ProcessPoolExecutor::try_submit`] fails.
    pub fn map<A, R>(&self, function: &Function<A, R>, items: impl IntoIterator<Item = A>) -> ProcessMap<R>
    where
        A: Serialize,
        R: DeserializeOwned + Send + 'static,
    {
        ProcessMap(items.into_iter().map(|item| self.submit(function, item)).collect())
    }
}

/// A call of a function with this result. What is sent was made when it was submitted.
struct Call<R>(PhantomData<fn() -> R>);

impl<R: DeserializeOwned + Send + 'static> Job for Call<R> {
    type Outcome = Result<R, TaskError>;

    fn run(&mut self) -> Self::Outcome {
        unreachable!("it runs in another process")
    }
}

impl<R: DeserializeOwned + Send + 'static> SendJob for Call<R> {
    fn encode(&mut self) -> Result<Parcel, Self::Outcome> {
        unreachable!("it was encoded when it was submitted")
    }

    fn outcome(reply: Reply) -> Self::Outcome {
        functions::outcome(&reply)
    }

    fn is_failure(kind: u16) -> bool {
        functions::is_failure(kind)
    }
}

/// The results of [`ProcessPoolExecutor::map`], in the order of the items. Dropped, it cancels what has not begun.
#[must_use = "dropping it cancels the items that have not begun"]
pub struct ProcessMap<R: Send>(VecDeque<Future<R>>);

impl<R: Send> fmt::Debug for ProcessMap<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessMap").field("left", &self.0.len()).finish()
    }
}

impl<R: Send> Iterator for ProcessMap<R> {
    type Item = Result<R, TaskError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.pop_front().map(Future::result)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.0.len(), Some(self.0.len()))
    }
}

impl<R: Send> Drop for ProcessMap<R> {
    fn drop(&mut self) {
        for future in &self.0 {
            future.cancel();
        }
    }
}
