//! Tasks that borrow from the stack of whoever waits for them.
//!
//! Invariant: [`ThreadPoolExecutor::scope`] returns only after every task of the scope has been run or cancelled *and its
//! closure, with all that it borrows, has been dropped*. This is what makes the one `transmute` here sound.

use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use crate::error::TaskError;
use crate::executor::{ThreadPoolExecutor, run_caught};
use crate::future::{Cancel, FutureCell};
use crate::primitives::Mutex;
use crate::signal::{Signal, Waited};

/// Counts the closures of a scope that still exist.
#[derive(Debug)]
struct Latch {
    open: Mutex<usize>,
    signal: Signal,
}

/// Counts its closure out when dropped: the last of a task's fields to go.
struct Exit(Arc<Latch>);

impl Drop for Exit {
    fn drop(&mut self) {
        let mut open = self.0.open.lock();
        *open -= 1;
        if *open == 0 {
            self.0.signal.set();
        }
    }
}

/// A place to submit tasks that borrow; given to the closure of [`ThreadPoolExecutor::scope`].
#[derive(Debug)]
pub struct Scope<'scope, 'env: 'scope> {
    executor: &'scope ThreadPoolExecutor,
    latch: Arc<Latch>,
    /// Invariant in both lifetimes, as `std::thread::Scope` is: neither may be shortened.
    lifetimes: PhantomData<(&'scope mut &'scope (), &'env mut &'env ())>,
}

/// What a task of a scope owns. The order of the fields is the order in which they are dropped: the exit comes last.
struct Borrowing<F, T: Send> {
    task: F,
    delivery: Delivery<T>,
    exit: Exit,
}

/// The task's end of its future: dropped without an outcome, it says that the task was cancelled.
struct Delivery<T: Send>(Arc<FutureCell<Result<T, TaskError>>>);

impl<T: Send> Drop for Delivery<T> {
    fn drop(&mut self) {
        if let Cancel::Now(notices) = self.0.cancel(true) {
            notices.deliver();
        }
    }
}

impl<F: FnOnce() -> T, T: Send> Borrowing<F, T> {
    fn run(self) {
        let Self { task, delivery, exit } = self;
        let outcome = run_caught(task);
        if let Ok(notices) = delivery.0.finish(outcome) {
            notices.deliver();
        }
        drop(delivery);
        drop(exit);
    }
}

/// The result of a task of a scope.
#[must_use = "the value and the error of the task are lost if nobody asks for them"]
#[derive(Debug)]
pub struct ScopedFuture<'scope, T: Send> {
    cell: Arc<FutureCell<Result<T, TaskError>>>,
    scope: PhantomData<&'scope ()>,
}

impl ThreadPoolExecutor {
    /// Calls `f` with a scope whose tasks may borrow from outside it, and waits for all of them.
    ///
    /// A task of the pool must not open a scope on the same pool if all workers may do so at once: each would wait for a
    /// worker.
    ///
    /// # Panics
    /// If `f` panics, after the tasks have ended.
    ///
    /// ```
    /// let pool = raddle::ThreadPoolExecutor::new(2);
    /// let words = vec!["comb".to_string(), "loom".to_string()];
    /// let lengths = pool.scope(|scope| {
    ///     let futures: Vec<_> = words.iter().map(|word| scope.submit(|| word.len())).collect();
    ///     futures.into_iter().map(|future| future.result().unwrap()).collect::<Vec<_>>()
    /// });
    /// assert_eq!(lengths, [4, 4]);
    /// ```
    pub fn scope<'env, F, R>(&'env self, f: F) -> R
    where
        F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> R,
    {
        // The scope counts itself, so that the latch cannot open before `f` has returned.
        let latch = Arc::new(Latch { open: Mutex::new(1), signal: Signal::new() });
        let scope = Scope { executor: self, latch: Arc::clone(&latch), lifetimes: PhantomData };
        let result = catch_unwind(AssertUnwindSafe(|| f(&scope)));
        drop(Exit(Arc::clone(&latch)));
        while latch.signal.wait_as_caller(None) == Waited::Interrupted {}
        result.unwrap_or_else(|panic| resume_unwind(panic))
    }
}

impl<'scope> Scope<'scope, '_> {
    /// Has a worker run `task`, which may borrow what outlives the scope.
    ///
    /// # Panics
    /// Where [`ThreadPoolExecutor::try_submit`] fails.
    pub fn submit<T, F>(&'scope self, task: F) -> ScopedFuture<'scope, T>
    where
        T: Send + 'scope,
        F: FnOnce() -> T + Send + 'scope,
    {
        let cell = Arc::new(FutureCell::new());
        *self.latch.open.lock() += 1;
        let exit = Exit(Arc::clone(&self.latch));
        let borrowing = Borrowing { task, delivery: Delivery(Arc::clone(&cell)), exit };
        let short: Box<dyn FnOnce() + Send + 'scope> = Box::new(move || borrowing.run());
        // SAFETY: only the lifetime changes. The box is consumed by being run, or dropped when the task is cancelled or
        // refused; in each case `Exit`, its last field, is dropped after everything that borrows. `scope` returns after
        // the last `Exit`, also when `f` panics, so nothing borrowed is used after the scope's end. The outcome lies in
        // `delivery`, which the closure lets go of before `Exit`; the only other holder is the future, bound to `'scope`.
        let long: Box<dyn FnOnce() + Send + 'static> = unsafe { std::mem::transmute(short) };
        drop(self.executor.submit(long));
        ScopedFuture { cell, scope: PhantomData }
    }
}

impl<T: Send> ScopedFuture<'_, T> {
    /// Blocks until the task has ended, and gives its value.
    ///
    /// # Errors
    /// It panicked or was cancelled.
    pub fn result(self) -> Result<T, TaskError> {
        while let Some(waiting) = self.cell.waiting() {
            let _ = waiting.wait(None, None);
        }
        self.cell.look(Option::take).unwrap_or(Err(TaskError::Cancelled))
    }
}
