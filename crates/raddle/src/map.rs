//! [`map`]: a plain loop that measures itself, and goes on in threads when that pays.

use std::collections::VecDeque;
use std::num::NonZero;
use std::sync::Arc;
use std::time::Instant;

use crate::choice::{Controller, Decision, Machine, Observation, Way};
use crate::error::TaskError;
use crate::executor::{Future, ThreadPoolExecutor, run_caught};
use crate::os::{ThreadClock, thread_delay};

/// Seconds of work that are measured together, so that measuring costs little.
const TOGETHER: f64 = 2e-4;
/// Items that are measured together at most.
const MOST_TOGETHER: u64 = 1 << 14;
/// Tasks for each worker that are in its queue or done and not taken.
const AHEAD: usize = 4;

/// Calls `f` for every item, in a plain loop or in threads, whichever the measurements say is faster.
///
/// It begins as a loop in the calling thread. The iterator gives the results in the order of the items; the input is drawn
/// from as results are taken. A panic of `f` is the error of its item.
///
/// ```
/// let lengths: Result<Vec<_>, _> = raddle::map(["a", "bb", "ccc"], str::len).collect();
/// assert_eq!(lengths.unwrap(), [1, 2, 3]);
/// ```
pub fn map<I, R, F>(items: I, f: F) -> AutoMap<I::IntoIter, R, F>
where
    I: IntoIterator,
    F: Fn(I::Item) -> R + Send + Sync + 'static,
{
    let items = items.into_iter();
    let total = match items.size_hint() {
        (low, Some(high)) if low == high => Some(high as u64),
        _ => None,
    };
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let mut controller = Controller::new(Machine::guessed(cores), total, None, false);
    controller.set_examined();
    controller.forbid(Way::Processes, "closures of a Rust program cannot be sent");
    AutoMap {
        items,
        f: Arc::new(f),
        controller,
        ready: VecDeque::new(),
        pending: VecDeque::new(),
        pool: None,
        workers: 0,
        together: 1,
    }
}

type Results<R> = Vec<Result<R, TaskError>>;

/// The results of [`map`].
pub struct AutoMap<I, R, F> {
    items: I,
    f: Arc<F>,
    controller: Controller,
    ready: VecDeque<Result<R, TaskError>>,
    pending: VecDeque<Future<(Results<R>, Observation)>>,
    pool: Option<ThreadPoolExecutor>,
    workers: usize,
    together: u64,
}

impl<I, R, F> std::fmt::Debug for AutoMap<I, R, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AutoMap").field("controller", &self.controller).finish_non_exhaustive()
    }
}

impl<I, R, F> AutoMap<I, R, F> {
    /// What was measured, what was decided and why, a line each.
    pub fn report(&self) -> Vec<String> {
        self.controller.report()
    }
}

/// Calls `f` for some items, and measures that.
fn run<T, R>(items: impl Iterator<Item = T>, f: impl Fn(T) -> R) -> (Results<R>, Observation) {
    let (clock, delay) = (ThreadClock::of_this_thread(), thread_delay());
    let busy = || clock.map_or(f64::NAN, |clock| clock.elapsed().as_secs_f64());
    let (before, start) = (busy(), Instant::now());
    let results: Results<R> = items.map(|item| run_caught(|| f(item))).collect();
    let wall = start.elapsed().as_secs_f64();
    let busy = busy() - before + thread_delay().saturating_sub(delay).as_secs_f64();
    let seen = Observation { items: results.len() as u64, wall, busy };
    (results, seen)
}

impl<I, R, F> AutoMap<I, R, F>
where
    I: Iterator,
    I::Item: Send + 'static,
    R: Send + 'static,
    F: Fn(I::Item) -> R + Send + Sync + 'static,
{
    fn run_here(&mut self) {
        let f = Arc::clone(&self.f);
        let (results, seen) = run(self.items.by_ref().take(self.together as usize), |item| f(item));
        self.note(seen);
        let item = (seen.wall / seen.items.max(1) as f64).max(1e-9);
        // Not at once: the first items may be slower than the rest, or faster.
        self.together = ((TOGETHER / item) as u64).clamp(1, MOST_TOGETHER).min(4 * self.together);
        self.ready.extend(results);
    }

    fn note(&mut self, seen: Observation) {
        self.controller.count_done(seen.items);
        self.controller.observe(seen);
        if let Decision::Move(plan) = self.controller.decide() {
            // A pool that is left works on until its tasks are taken.
            self.workers = if plan.way == Way::Threads { plan.workers } else { 0 };
            if self.workers > 0 && self.pool.is_none() {
                self.pool = Some(ThreadPoolExecutor::with_name(self.workers, "raddle-map"));
            }
        }
    }

    fn feed(&mut self) {
        let Some(pool) = &self.pool else { return };
        while self.pending.len() < AHEAD * self.workers {
            let chunk: Vec<_> = self.items.by_ref().take(self.controller.chunk(self.workers)).collect();
            if chunk.is_empty() {
                return;
            }
            let f = Arc::clone(&self.f);
            self.pending.push_back(pool.submit(move || run(chunk.into_iter(), |item| f(item))));
        }
    }
}

impl<I, R, F> Iterator for AutoMap<I, R, F>
where
    I: Iterator,
    I::Item: Send + 'static,
    R: Send + 'static,
    F: Fn(I::Item) -> R + Send + Sync + 'static,
{
    type Item = Result<R, TaskError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.ready.is_empty() {
            self.feed();
            match self.pending.pop_front() {
                Some(future) => match future.result() {
                    Ok((results, seen)) => {
                        self.ready.extend(results);
                        self.note(seen);
                    }
                    Err(error) => return Some(Err(error)),
                },
                None => {
                    self.run_here();
                    if self.ready.is_empty() {
                        return None;
                    }
                }
            }
        }
        self.ready.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_trivial_map_stays_in_the_calling_thread() {
        let here = std::thread::current().id();
        let mut results = map(0..10_000, move |n: u64| (n + 1, std::thread::current().id() == here));
        let all: Vec<_> = results.by_ref().map(|result| result.expect("nothing panics")).collect();
        assert!(all.iter().zip(1..).all(|((n, is_here), expected)| *n == expected && *is_here));
        assert!(results.report()[0].starts_with("10000 of 10000 items done"));
    }

    #[test]
    fn waiting_goes_to_threads_and_the_order_stays() {
        let mut results = map(0..60, |n: u64| {
            std::thread::sleep(Duration::from_millis(15));
            n
        });
        let all: Vec<_> = results.by_ref().map(|result| result.expect("nothing panics")).collect();
        assert_eq!(all, (0..60).collect::<Vec<_>>());
        assert!(results.report()[0].ends_with("now threads"), "{:?}", results.report());
    }

    #[test]
    fn a_panic_is_the_error_of_its_item() {
        let results: Vec<_> = map(0..5, |n: u64| if n == 3 { panic!("three") } else { n }).collect();
        assert!(matches!(&results[3], Err(TaskError::Panicked(message)) if message == "three"));
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 4);
    }
}
