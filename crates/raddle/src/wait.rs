//! Waiting for several futures of a Rust program.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::executor::Future;
use crate::group::{Arrivals, Countdown, ReturnWhen};
use crate::signal::Waited;

/// Blocks until the futures are done as `until` says, or `timeout` has passed, and tells of each whether it is done.
///
/// ```
/// use raddle::{ReturnWhen, ThreadPoolExecutor, wait};
///
/// let pool = ThreadPoolExecutor::new(2);
/// let futures = [pool.submit(|| 1), pool.submit(|| 2)];
/// assert_eq!(wait(&futures, ReturnWhen::AllCompleted, None), [true, true]);
/// ```
pub fn wait<T: Send>(futures: &[Future<T>], until: ReturnWhen, timeout: Option<Duration>) -> Vec<bool> {
    let deadline = timeout.and_then(|t| Instant::now().checked_add(t));
    if !futures.is_empty() {
        let countdown = Countdown::new(futures.len(), until);
        futures.iter().enumerate().for_each(|(index, future)| countdown.register(index, future.cell()));
        while countdown.wait(deadline, None) == Ok(Waited::Interrupted) {}
        countdown.unregister(|index| futures[index].cell());
    }
    futures.iter().map(Future::is_done).collect()
}

/// The futures in the order in which they complete.
///
/// ```
/// use raddle::{ThreadPoolExecutor, as_completed};
///
/// let pool = ThreadPoolExecutor::new(2);
/// let futures = (1..=3).map(|x| pool.submit(move || x)).collect();
/// let sum: i32 = as_completed(futures).map(|done| done.result().unwrap()).sum();
/// assert_eq!(sum, 6);
/// ```
pub fn as_completed<T: Send>(futures: Vec<Future<T>>) -> AsCompleted<T> {
    let arrivals = Arrivals::new();
    futures.iter().enumerate().for_each(|(index, future)| {
        let _ = arrivals.register(index, future.cell());
    });
    let missing = futures.len();
    AsCompleted { arrivals, futures: futures.into_iter().map(Some).collect(), missing }
}

/// The iterator of [`as_completed`].
#[derive(Debug)]
pub struct AsCompleted<T> {
    arrivals: Arc<Arrivals>,
    futures: Vec<Option<Future<T>>>,
    missing: usize,
}

impl<T: Send> Iterator for AsCompleted<T> {
    type Item = Future<T>;

    fn next(&mut self) -> Option<Future<T>> {
        if self.missing == 0 {
            return None;
        }
        loop {
            if let Some(index) = self.arrivals.try_next() {
                self.missing -= 1;
                return self.futures[index].take();
            }
            // Unwatched, it cannot fail.
            let _ = self.arrivals.wait(None, None);
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.missing, Some(self.missing))
    }
}
