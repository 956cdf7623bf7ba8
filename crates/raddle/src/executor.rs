//! The thread pool of Rust programs: closures in, [`Future`]s out, over the same [pool](crate::pool) as Python's.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::batch::{Batch, BatchJob, Ended, Found};
use crate::error::{Failure, SubmitError, TaskError};
use crate::future::{Cancel, FutureCell, Listener, ListenerKey, Outcome};
use crate::host::Threads;
use crate::pool::Pool;
use crate::signal::{Drive, Waited};
use crate::statistics::Statistics;
use crate::task::{Job, Options, Task};
use crate::waits::{Awaited, Deadlock, Watch};

impl<T: Send> Outcome for Result<T, TaskError> {
    fn is_failure(&self) -> bool {
        self.is_err()
    }
}

impl<T> From<Failure> for Result<T, TaskError> {
    fn from(failure: Failure) -> Self {
        Err(failure.into())
    }
}

/// Runs closures on a fixed number of threads, which are started when they are needed.
///
/// Dropped, it takes no more tasks and waits for those it has; see [`shutdown`](Self::shutdown).
///
/// ```
/// let pool = raddle::ThreadPoolExecutor::new(2);
/// let future = pool.submit(|| 6 * 7);
/// assert_eq!(future.result().unwrap(), 42);
/// ```
#[derive(Debug)]
pub struct ThreadPoolExecutor {
    pool: Arc<Pool>,
    threads: Arc<Threads>,
}

impl ThreadPoolExecutor {
    /// A pool of at most `max_workers` threads.
    ///
    /// # Panics
    /// If `max_workers` is 0.
    pub fn new(max_workers: usize) -> Self {
        Self::with_name(max_workers, "raddle")
    }

    /// As [`new`](Self::new); the threads are called `name-0`, `name-1` and so on.
    ///
    /// # Panics
    /// If `max_workers` is 0.
    pub fn with_name(max_workers: usize, name: &str) -> Self {
        assert!(max_workers > 0, "max_workers must be greater than 0");
        let threads = Arc::new(Threads::new(name));
        Self { pool: Pool::new(Arc::clone(&threads) as _, max_workers), threads }
    }

    /// Has a worker run `task`; the future gives its value.
    ///
    /// # Panics
    /// Where [`try_submit`](Self::try_submit) fails.
    pub fn submit<T, F>(&self, task: F) -> Future<T>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        self.view(None).submit(task)
    }

    /// Has a worker run `task`, if the pool takes it.
    ///
    /// # Errors
    /// The pool has been shut down, or the process was forked off the one that made it, or no thread can be started.
    ///
    /// ```
    /// let pool = raddle::ThreadPoolExecutor::new(1);
    /// pool.shutdown(true);
    /// assert_eq!(pool.try_submit(|| 1).unwrap_err(), raddle::SubmitError::ShutDown);
    /// ```
    pub fn try_submit<T, F>(&self, task: F) -> Result<Future<T>, SubmitError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        self.view(None).try_submit(task)
    }

    /// Runs `f` for every item, at once and in any order; the iterator gives the results in the order of the items.
    ///
    /// # Panics
    /// Where [`try_submit`](Self::try_submit) fails.
    ///
    /// ```
    /// let pool = raddle::ThreadPoolExecutor::new(2);
    /// let squares: Result<Vec<u64>, _> = pool.map(1..=4, |x: u64| x * x).collect();
    /// assert_eq!(squares.unwrap(), [1, 4, 9, 16]);
    /// ```
    pub fn map<I, R, F>(&self, items: I, f: F) -> Map<I::Item, R, F>
    where
        I: IntoIterator,
        I::Item: Send + 'static,
        R: Send + 'static,
        F: Fn(I::Item) -> R + Send + Sync + 'static,
    {
        self.view(None).map(items, f)
    }

    /// The same executor with options for the tasks submitted through the view.
    ///
    /// ```
    /// use std::time::Duration;
    /// use raddle::{Failure, Options, TaskError, ThreadPoolExecutor};
    ///
    /// let pool = ThreadPoolExecutor::new(1);
    /// let options = Options { task_timeout: Some(Duration::from_millis(20)), ..Options::default() };
    /// let endless = pool.options(options).submit(|| loop { std::thread::park() });
    /// assert!(matches!(endless.result(), Err(TaskError::Failed(Failure::TimedOut { .. }))));
    /// assert_eq!(pool.submit(|| "the pool goes on").result().unwrap(), "the pool goes on");
    /// ```
    pub fn options(&self, options: Options) -> View<'_> {
        self.view(Some(Arc::new(options)))
    }

    fn view(&self, options: Option<Arc<Options>>) -> View<'_> {
        View { executor: self, options }
    }

    /// Takes no more tasks. What is queued is still run; with `wait`, it returns when the threads have ended, except
    /// those given up after a `task_timeout` and the calling one.
    pub fn shutdown(&self, wait: bool) {
        self.pool.close();
        if !wait || self.pool.is_forked() {
            return;
        }
        // A worker cannot wait for itself. For others, the end of the pool says more than the list of handles, from which
        // another caller may have taken some.
        if !self.pool.is_current() {
            let ended = self.pool.ended();
            while ended.wait_as_caller(None) == Waited::Interrupted {}
        }
        self.threads.join();
    }

    /// Cancels all tasks that have not begun; tells how many they were.
    pub fn cancel_queued(&self) -> u64 {
        self.pool.cancel_queued()
    }

    /// What the pool has done so far.
    pub fn statistics(&self) -> Statistics {
        self.pool.statistics()
    }

    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }
}

impl Drop for ThreadPoolExecutor {
    fn drop(&mut self) {
        self.shutdown(true);
    }
}

/// An executor seen with other options; made by [`ThreadPoolExecutor::options`].
#[derive(Debug)]
pub struct View<'a> {
    executor: &'a ThreadPoolExecutor,
    options: Option<Arc<Options>>,
}

impl View<'_> {
    /// As [`ThreadPoolExecutor::submit`]. A closure that can be called once cannot be retried: see
    /// [`submit_retrying`](Self::submit_retrying).
    ///
    /// # Panics
    /// Where [`ThreadPoolExecutor::try_submit`] fails.
    pub fn submit<T, F>(&self, task: F) -> Future<T>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        self.try_submit(task).unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`ThreadPoolExecutor::try_submit`].
    ///
    /// # Errors
    /// The same.
    pub fn try_submit<T, F>(&self, task: F) -> Result<Future<T>, SubmitError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        self.push(Once::new(task))
    }

    /// Has a worker run `task`, and once more after each panic while `retries` lasts.
    ///
    /// # Panics
    /// Where [`ThreadPoolExecutor::try_submit`] fails.
    ///
    /// ```
    /// let pool = raddle::ThreadPoolExecutor::new(1);
    /// let options = raddle::Options { retries: 2, ..Default::default() };
    /// let mut attempts = 0;
    /// let third = pool.options(options).submit_retrying(move || {
    ///     attempts += 1;
    ///     assert!(attempts > 2, "not yet");
    ///     attempts
    /// });
    /// assert_eq!(third.result().unwrap(), 3);
    /// ```
    pub fn submit_retrying<T, F>(&self, task: F) -> Future<T>
    where
        T: Send + 'static,
        F: FnMut() -> T + Send + 'static,
    {
        self.push(Repeat(task)).unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`ThreadPoolExecutor::map`]. Of the options, a map keeps the label.
    ///
    /// # Panics
    /// Where [`ThreadPoolExecutor::try_submit`] fails.
    pub fn map<I, R, F>(&self, items: I, f: F) -> Map<I::Item, R, F>
    where
        I: IntoIterator,
        I::Item: Send + 'static,
        R: Send + 'static,
        F: Fn(I::Item) -> R + Send + Sync + 'static,
    {
        let label = self.options.as_ref().and_then(|options| options.label.clone());
        let batch = Arc::new(Batch::new(Each { f, types: std::marker::PhantomData }, items, label));
        let pool = Arc::clone(self.executor.pool());
        pool.submit_batch(&batch).unwrap_or_else(|error| panic!("{error}"));
        Map { batch, pool, index: 0 }
    }

    fn push<T, J>(&self, job: J) -> Result<Future<T>, SubmitError>
    where
        T: Send + 'static,
        J: Job<Outcome = Result<T, TaskError>>,
    {
        let task = Arc::new(Task::new(job, self.options.clone()));
        self.executor.pool().submit(&task)?;
        Ok(Future::of_task(task))
    }
}

pub(crate) struct Once<F>(Option<F>);

impl<F> Once<F> {
    pub(crate) fn new(task: F) -> Self {
        Self(Some(task))
    }
}

impl<T, F> Job for Once<F>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    type Outcome = Result<T, TaskError>;

    fn run(&mut self) -> Self::Outcome {
        let task = self.0.take().expect("a task that cannot be retried is run once");
        run_caught(task)
    }

    fn wants_retry(&mut self, _failure: &Self::Outcome) -> bool {
        false
    }
}

struct Repeat<F>(F);

impl<T, F> Job for Repeat<F>
where
    T: Send + 'static,
    F: FnMut() -> T + Send + 'static,
{
    type Outcome = Result<T, TaskError>;

    fn run(&mut self) -> Self::Outcome {
        run_caught(&mut self.0)
    }
}

struct Each<I, R, F> {
    f: F,
    types: std::marker::PhantomData<fn(I) -> R>,
}

impl<I, R, F> BatchJob for Each<I, R, F>
where
    I: Send + 'static,
    R: Send + 'static,
    F: Fn(I) -> R + Send + Sync + 'static,
{
    type Item = I;
    type Outcome = Result<R, TaskError>;

    fn run(&self, item: I) -> Self::Outcome {
        run_caught(|| (self.f)(item))
    }
}

/// A panic becomes the error of whoever asks for the result. The closure is not used again, or only to retry it, which
/// its owner asked for: what a panic left half done is theirs to judge.
pub(crate) fn run_caught<T>(task: impl FnOnce() -> T) -> Result<T, TaskError> {
    catch_unwind(AssertUnwindSafe(task)).map_err(|payload| {
        let message = match payload.downcast::<String>() {
            Ok(text) => *text,
            Err(other) => other.downcast::<&str>().map_or_else(|_| "(no message)".into(), |text| (*text).into()),
        };
        TaskError::Panicked(message)
    })
}

/// A task of any closure, seen from the side of its result.
pub(crate) trait Handle<T>: Send + Sync {
    fn cell(&self) -> &FutureCell<Result<T, TaskError>>;
    fn cancel(&self) -> Cancel;
    fn kill(&self) -> bool;
    /// Where a thread can sleep that waits for it, and do the work meanwhile.
    fn drive(&self) -> Option<Arc<dyn Drive>>;
    fn unlisten(&self, key: ListenerKey);
    fn as_awaited(self: Arc<Self>) -> Arc<dyn Awaited>;
}

impl<T: Send + 'static, J: Job<Outcome = Result<T, TaskError>>> Handle<T> for Task<J> {
    fn cell(&self) -> &FutureCell<Result<T, TaskError>> {
        &self.cell
    }

    fn cancel(&self) -> Cancel {
        Self::cancel(self)
    }

    fn kill(&self) -> bool {
        Self::kill(self).unwrap_or(false)
    }

    fn drive(&self) -> Option<Arc<dyn Drive>> {
        if self.is_remote() { Self::drive(self) } else { None }
    }

    fn unlisten(&self, key: ListenerKey) {
        self.cell.unlisten(key);
    }

    fn as_awaited(self: Arc<Self>) -> Arc<dyn Awaited> {
        self
    }
}

/// The result of a task that may not have ended yet. Dropped, the task runs all the same.
///
/// It is a [`std::future::Future`] too: in async code, `.await` it.
#[must_use = "the value and the error of the task are lost if nobody asks for them"]
pub struct Future<T> {
    handle: Arc<dyn Handle<T>>,
    waker: Option<ListenerKey>,
}

impl<T> std::fmt::Debug for Future<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Future").finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Future<T> {
    pub(crate) fn of_task<J: Job<Outcome = Result<T, TaskError>>>(task: Arc<Task<J>>) -> Self {
        Self { handle: task, waker: None }
    }
}

impl<T: Send> Future<T> {
    /// Blocks until the task has ended, and gives its value.
    ///
    /// # Errors
    /// It panicked, was cancelled, or was given up; its value has been taken by
    /// [`result_timeout`](Self::result_timeout); or the calling thread and others would wait for each other in a circle.
    pub fn result(self) -> Result<T, TaskError> {
        let watch = || Arc::clone(&self.handle).as_awaited();
        self.wait_until(None, Some(&watch)).map_err(TaskError::Deadlock)?;
        self.take()
    }

    /// Blocks for `timeout` at most; `None` if the task has not ended by then. A value can be taken once.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let pool = raddle::ThreadPoolExecutor::new(1);
    /// let (hold, held) = std::sync::mpsc::channel::<()>();
    /// let mut future = pool.submit(move || held.recv().is_err());
    /// assert_eq!(future.result_timeout(Duration::from_millis(1)), None);
    /// drop(hold);
    /// assert_eq!(future.result(), Ok(true));
    /// ```
    pub fn result_timeout(&mut self, timeout: Duration) -> Option<Result<T, TaskError>> {
        let deadline = Instant::now().checked_add(timeout);
        // A wait with a limit is no part of a deadlock.
        let is_done = self.wait_until(deadline, None).unwrap_or(false);
        is_done.then(|| self.take())
    }

    /// Cancels the task, unless it has begun. Tells whether it is cancelled.
    pub fn cancel(&self) -> bool {
        match self.handle.cancel() {
            Cancel::Refused => false,
            Cancel::Already => true,
            Cancel::Now(notices) => {
                notices.deliver();
                true
            }
        }
    }

    /// Ends the task while it runs in a worker process, and with it the worker. Tells whether it has been ended; a task of
    /// threads never is.
    pub fn kill(&self) -> bool {
        self.handle.kill()
    }

    /// Whether the task has ended or was cancelled.
    pub fn is_done(&self) -> bool {
        self.cell().state().is_done()
    }

    /// Calls `callback` when the task has ended, on the thread that ends it; at once if it has.
    pub fn on_done(&self, callback: impl FnOnce() + Send + 'static) {
        if let Err(callback) = self.cell().on_done(Box::new(callback)) {
            callback();
        }
    }

    pub(crate) fn cell(&self) -> &FutureCell<Result<T, TaskError>> {
        self.handle.cell()
    }

    fn wait_until(&self, deadline: Option<Instant>, watch: Option<Watch<'_>>) -> Result<bool, Deadlock> {
        let Some(waiting) = self.cell().waiting() else { return Ok(true) };
        let drive = self.handle.drive();
        loop {
            match waiting.wait_driving(deadline, watch, drive.as_deref())? {
                Waited::Ready => return Ok(true),
                Waited::TimedOut => return Ok(self.is_done()),
                Waited::Interrupted => {}
            }
        }
    }

    fn take(&self) -> Result<T, TaskError> {
        if self.cell().state().is_cancelled() {
            return Err(TaskError::Cancelled);
        }
        self.cell().look(Option::take).unwrap_or(Err(TaskError::Taken))
    }
}

impl<T> Drop for Future<T> {
    /// An async task that does not wait any more is not woken.
    fn drop(&mut self) {
        if let Some(key) = self.waker.take() {
            self.handle.unlisten(key);
        }
    }
}

impl<T: Send> std::future::Future for Future<T> {
    type Output = Result<T, TaskError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Some(old) = this.waker.take() {
            this.cell().unlisten(old);
        }
        match this.cell().listen(Listener::Waker(context.waker().clone())) {
            Ok(key) => {
                this.waker = Some(key);
                Poll::Pending
            }
            Err(_) => Poll::Ready(this.take()),
        }
    }
}

/// The results of [`ThreadPoolExecutor::map`], in the order of the items. Dropped, it cancels what has not begun.
#[must_use = "dropping it cancels the items that have not begun"]
pub struct Map<I, R, F>
where
    I: Send + 'static,
    R: Send + 'static,
    F: Fn(I) -> R + Send + Sync + 'static,
{
    batch: Arc<Batch<Each<I, R, F>>>,
    pool: Arc<Pool>,
    index: usize,
}

impl<I, R, F> std::fmt::Debug for Map<I, R, F>
where
    I: Send + 'static,
    R: Send + 'static,
    F: Fn(I) -> R + Send + Sync + 'static,
{
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Map").field("batch", &self.batch).field("index", &self.index).finish_non_exhaustive()
    }
}

impl<I, R, F> Iterator for Map<I, R, F>
where
    I: Send + 'static,
    R: Send + 'static,
    F: Fn(I) -> R + Send + Sync + 'static,
{
    type Item = Result<R, TaskError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.index == self.batch.len() {
            return None;
        }
        let outcome = loop {
            match self.batch.try_take(self.index) {
                Found::Outcome(outcome) => break outcome,
                Found::Ended(Ended::Cancelled) => break Err(TaskError::Cancelled),
                Found::Ended(Ended::Failed(failure)) => break failure.into(),
                Found::NotYet => {
                    if let Err(deadlock) = self.batch.wait(self.index, None, true) {
                        break Err(TaskError::Deadlock(deadlock));
                    }
                }
            }
        };
        self.index += 1;
        Some(outcome)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.batch.len() - self.index;
        (left, Some(left))
    }
}

impl<I, R, F> Drop for Map<I, R, F>
where
    I: Send + 'static,
    R: Send + 'static,
    F: Fn(I) -> R + Send + Sync + 'static,
{
    fn drop(&mut self) {
        self.pool.cancel_batch(&self.batch);
    }
}
