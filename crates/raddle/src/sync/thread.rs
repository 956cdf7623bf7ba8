//! A thread that gives a result.

use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crate::error::TaskError;
use crate::executor::{Future, Once};
use crate::task::{Options, Task};

/// A thread of its own for one function, whose value or panic [`result`](Self::result) gives.
///
/// ```
/// use raddle::sync::Thread;
///
/// let thread = Thread::spawn("answer", || 6 * 7).unwrap();
/// assert_eq!(thread.result().unwrap(), 42);
/// ```
#[derive(Debug)]
pub struct Thread<T> {
    future: Future<T>,
    handle: JoinHandle<()>,
}

impl<T: Send + 'static> Thread<T> {
    /// Starts a thread of this name that calls `body`.
    ///
    /// # Errors
    /// The system does not start one.
    pub fn spawn<F>(name: &str, body: F) -> io::Result<Self>
    where
        F: FnOnce() -> T + Send + 'static,
    {
        let options = Options { label: Some(format!("thread {name:?}").into()), ..Options::default() };
        let task = Arc::new(Task::new(Once::new(body), Some(Arc::new(options))));
        let own = Arc::clone(&task);
        let handle = Builder::new().name(name.into()).spawn(move || own.run_on_this_thread())?;
        Ok(Self { future: Future::of_task(task), handle })
    }

    /// Blocks until the function has returned, and gives its value.
    ///
    /// # Errors
    /// It panicked; or this and other threads would wait for each other in a circle.
    pub fn result(self) -> Result<T, TaskError> {
        let result = self.future.result();
        if !matches!(result, Err(TaskError::Deadlock(_))) {
            // What is left of it is its end; a panic has been caught and told.
            let _ = self.handle.join();
        }
        result
    }

    /// Blocks for `timeout` at most; `None` if the function has not returned by then. A value can be taken once.
    pub fn result_timeout(&mut self, timeout: Duration) -> Option<Result<T, TaskError>> {
        self.future.result_timeout(timeout)
    }

    /// Whether the function has returned or panicked.
    pub fn is_done(&self) -> bool {
        self.future.is_done()
    }
}
