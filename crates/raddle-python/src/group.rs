//! `wait` and `as_completed` over futures of raddle.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PySet;

use raddle::group::{Arrivals, Countdown, Registration, ReturnWhen, several};
use raddle::process::pool::is_own_thread;
use raddle::signal::Drive;
use raddle::waits::{Awaited, Description, Look, ThreadNumber};

use crate::enter;
use crate::future::NativeFuture;
use crate::job::PyOutcome;
use crate::names::Names;

/// Whether a future counts as completed for those who wait for several.
fn is_settled(future: &Py<NativeFuture>) -> bool {
    future.get().task().cell.state().is_settled()
}

fn is_failed(future: &Py<NativeFuture>) -> bool {
    use raddle::future::Outcome;
    future.get().task().cell.look(|outcome| outcome.as_ref().is_some_and(Outcome::is_failure))
}

/// The futures as our own, or None if there is one of another kind among them.
fn own_futures(futures: &Bound<'_, PySet>) -> Option<Vec<Py<NativeFuture>>> {
    futures.iter().map(|future| future.cast_into::<NativeFuture>().ok().map(Bound::unbind)).collect()
}

fn check_not_forked(py: Python<'_>, futures: &[Py<NativeFuture>]) -> PyResult<()> {
    match futures.iter().find(|future| future.get().is_orphan()) {
        Some(orphan) => Err(orphan.get().forked(py)),
        None => Ok(()),
    }
}

/// Where to sleep, if all that is missing comes from pools of processes: there the waiting thread does itself what it waits
/// for. In one of them; the others are looked after by their supervisors.
fn drive_of<'a>(futures: impl Iterator<Item = &'a Py<NativeFuture>>) -> Option<Arc<dyn Drive>> {
    let (mut drive, mut are_remote) = (None, true);
    let is_of_a_pool = is_own_thread();
    for future in futures.filter(|future| !is_settled(future)) {
        let future = future.get();
        are_remote &= future.is_remote();
        if is_of_a_pool {
            // In a callback, without which its pool would do nothing meanwhile.
            let own = future.task().drive().filter(|drive| drive.is_current());
            if own.is_some() {
                return own;
            }
        } else if !are_remote {
            return None;
        }
        drive = drive.or_else(|| future.task().drive());
    }
    drive.filter(|_| are_remote)
}

/// Wait for futures; return the sets of those done and not done, or None if one is not of raddle.
#[pyfunction]
pub(crate) fn wait<'py>(
    py: Python<'py>,
    futures: &Bound<'py, PySet>,
    timeout: Option<f64>,
    return_when: &str,
) -> PyResult<Option<(Bound<'py, PySet>, Bound<'py, PySet>)>> {
    let Some(own) = own_futures(futures) else { return Ok(None) };
    let until = match return_when {
        "FIRST_COMPLETED" => ReturnWhen::FirstCompleted,
        "FIRST_EXCEPTION" => ReturnWhen::FirstException,
        _ => ReturnWhen::AllCompleted,
    };
    let deadline = enter::deadline(timeout)?;
    if until == ReturnWhen::FirstException && own.iter().any(|future| future.get().is_remote()) {
        check_not_forked(py, &own)?;
        wait_first_error(py, &own, deadline)?;
    } else if !is_over(&own, until) {
        check_not_forked(py, &own)?;
        wait_until(py, &own, until, deadline)?;
    }
    if own.iter().all(is_settled) {
        // The package has made the set for this call: it can be the answer.
        return Ok(Some((futures.clone(), PySet::empty(py)?)));
    }
    let (done, missing): (Vec<_>, Vec<_>) = own.into_iter().partition(is_settled);
    Ok(Some((PySet::new(py, done)?, PySet::new(py, missing)?)))
}

fn is_over(futures: &[Py<NativeFuture>], until: ReturnWhen) -> bool {
    match until {
        ReturnWhen::FirstCompleted if futures.iter().any(is_settled) => true,
        ReturnWhen::FirstException if futures.iter().any(|f| is_settled(f) && is_failed(f)) => true,
        _ => futures.iter().all(is_settled),
    }
}

fn wait_until(
    py: Python<'_>,
    futures: &[Py<NativeFuture>],
    until: ReturnWhen,
    deadline: Option<Instant>,
) -> PyResult<()> {
    let countdown = Countdown::new(futures.len(), until);
    for (index, future) in futures.iter().enumerate() {
        countdown.register(index, &future.get().task().cell);
    }
    let awaited = OnceLock::new();
    let watch = || {
        let tasks = || futures.iter().map(|future| Arc::clone(future.get().task()) as _).collect();
        Arc::clone(awaited.get_or_init(|| several(tasks(), until)))
    };
    let drive = drive_of(futures.iter());
    let wait = |until, watched: bool| countdown.wait_driving(until, watched.then_some(&watch), drive.as_deref());
    let waited = enter::block(py, deadline, wait);
    countdown.unregister(|index| &futures[index].get().task().cell);
    waited.map(drop)
}

/// Waits for the first error, where some results must be unpickled before it is known that they are none: each is, as it
/// comes.
fn wait_first_error(py: Python<'_>, futures: &[Py<NativeFuture>], deadline: Option<Instant>) -> PyResult<()> {
    let arrivals = Arrivals::new();
    let registered: Vec<_> =
        futures.iter().enumerate().map(|(index, f)| arrivals.register(index, &f.get().task().cell)).collect();
    let waited = await_error(py, futures, &arrivals, deadline);
    for (future, registration) in futures.iter().zip(registered) {
        if let Some(registration) = registration {
            Arrivals::unregister(registration, &future.get().task().cell);
        }
    }
    waited
}

fn await_error(
    py: Python<'_>,
    futures: &[Py<NativeFuture>],
    arrivals: &Arrivals,
    deadline: Option<Instant>,
) -> PyResult<()> {
    let mut missing = futures.len();
    // One of several pools: setters ring where the thread sleeps, whatever pool they belong to.
    let drive = drive_of(futures.iter());
    while missing > 0 {
        let Some(index) = arrivals.try_next() else {
            if !enter::block(py, deadline, |until, _| arrivals.wait_driving(until, None, drive.as_deref()))? {
                return Ok(());
            }
            continue;
        };
        missing -= 1;
        let future = &futures[index];
        if matches!(future.get().outcome(py)?, Some(PyOutcome::Raised(_))) {
            return Ok(());
        }
    }
    Ok(())
}

/// The iterator of `as_completed`.
#[pyclass(module = "raddle._native", frozen)]
pub(crate) struct CompletedIterator {
    arrivals: Arc<Arrivals>,
    rest: Arc<Rest>,
    deadline: Option<Instant>,
    total: usize,
    generation: u32,
    /// Where to sleep, if all futures are of pools of processes.
    drive: Option<Arc<dyn Drive>>,
}

/// The futures that have not been given out yet.
struct Rest(Mutex<Missing>);

struct Missing {
    futures: Vec<Option<(Py<NativeFuture>, Option<Registration>)>>,
    count: usize,
}

impl Rest {
    fn lock(&self) -> MutexGuard<'_, Missing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Any of them ends the wait.
impl Awaited for Rest {
    fn held_up_by(&self, look: &Look<'_>) -> Option<Vec<ThreadNumber>> {
        let missing = self.lock();
        // None is missing any more: another thread has ended the iteration.
        if missing.count == 0 {
            return None;
        }
        let mut threads = BTreeSet::new();
        for (future, _) in missing.futures.iter().flatten() {
            threads.extend(future.get().task().held_up_by(look)?);
        }
        Some(threads.into_iter().collect())
    }

    fn describe(&self) -> Description {
        Description { what: format!("the first of {} tasks", self.lock().count), taken_at: None }
    }
}

/// Iterate over futures as they complete; None if one is not of raddle.
#[pyfunction]
pub(crate) fn as_completed(
    py: Python<'_>,
    futures: &Bound<'_, PySet>,
    timeout: Option<f64>,
) -> PyResult<Option<CompletedIterator>> {
    let Some(own) = own_futures(futures) else { return Ok(None) };
    let deadline = enter::deadline(timeout)?;
    check_not_forked(py, &own)?;
    let arrivals = Arrivals::new();
    let total = own.len();
    let drive = drive_of(own.iter());
    let registered = own.into_iter().enumerate().map(|(index, future)| {
        let registration = arrivals.register(index, &future.get().task().cell);
        Some((future, registration))
    });
    let rest = Arc::new(Rest(Mutex::new(Missing { futures: registered.collect(), count: total })));
    let generation = raddle::os::fork_generation();
    Ok(Some(CompletedIterator { arrivals, rest, deadline, total, generation, drive }))
}

impl CompletedIterator {
    fn take(&self, index: usize) -> Option<Py<NativeFuture>> {
        let mut missing = self.rest.lock();
        let (future, _) = missing.futures.get_mut(index)?.take()?;
        missing.count -= 1;
        if missing.count == 0 {
            drop(missing);
            self.arrivals.wake();
        }
        Some(future)
    }

    /// The futures still awaited forget this iterator.
    fn forget_all(&self) {
        let mut missing = self.rest.lock();
        missing.count = 0;
        let futures = std::mem::take(&mut missing.futures);
        drop(missing);
        self.arrivals.wake();
        for (future, registration) in futures.into_iter().flatten() {
            if let Some(registration) = registration {
                Arrivals::unregister(registration, &future.get().task().cell);
            }
        }
    }

    /// In a forked child, what the parent's pool runs never comes.
    fn check_not_forked(&self, py: Python<'_>) -> PyResult<()> {
        if self.generation == raddle::os::fork_generation() {
            return Ok(());
        }
        let missing = self.rest.lock();
        let mut futures = missing.futures.iter().flatten();
        let orphan = futures.find(|(future, _)| future.get().is_orphan()).map(|(future, _)| future.clone_ref(py));
        drop(missing);
        orphan.map_or(Ok(()), |orphan| Err(orphan.get().forked(py)))
    }

    fn missing(&self) -> usize {
        self.rest.lock().count
    }
}

#[pymethods]
impl CompletedIterator {
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Held by another thread, it is not garbage.
        let Ok(missing) = self.rest.0.try_lock() else { return Ok(()) };
        missing.futures.iter().flatten().try_for_each(|(future, _)| visit.call(future))
    }

    fn __clear__(&self) {
        self.forget_all();
    }

    /// End the iteration: the futures still awaited are not waited for any more.
    fn close(&self) {
        self.forget_all();
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<NativeFuture>>> {
        loop {
            if let Some(index) = self.arrivals.try_next() {
                return Ok(self.take(index));
            }
            let missing = self.missing();
            if missing == 0 {
                return Ok(None);
            }
            self.check_not_forked(py)?;
            let watch = || Arc::clone(&self.rest) as Arc<dyn Awaited>;
            let drive = self.drive.as_deref();
            let wait = |until, watched: bool| self.arrivals.wait_driving(until, watched.then_some(&watch), drive);
            if !enter::block(py, self.deadline, wait)? {
                self.forget_all();
                let message = format!("{missing} (of {}) futures unfinished", self.total);
                return Err(Names::timed_out(py, Some(message)));
            }
        }
    }
}

impl Drop for CompletedIterator {
    fn drop(&mut self) {
        self.forget_all();
    }
}
