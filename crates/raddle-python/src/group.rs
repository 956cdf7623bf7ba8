//! `wait` and `as_completed` over futures of raddle.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PySet;

use raddle::group::{Arrivals, Countdown, Registration, ReturnWhen};

use crate::enter;
use crate::future::NativeFuture;
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
    if futures.iter().any(|future| future.get().is_orphan()) {
        return Err(Names::refusal(py, &raddle::SubmitError::Forked, false));
    }
    Ok(())
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
    if !is_over(&own, until) {
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
    let waited = enter::block(py, deadline, |until| countdown.wait(until));
    countdown.unregister(|index| &futures[index].get().task().cell);
    waited.map(drop)
}

/// The iterator of `as_completed`.
#[pyclass(module = "raddle._native", frozen)]
pub(crate) struct CompletedIterator {
    arrivals: Arc<Arrivals>,
    awaited: Mutex<Awaited>,
    deadline: Option<Instant>,
    total: usize,
    generation: u32,
}

struct Awaited {
    futures: Vec<Option<(Py<NativeFuture>, Option<Registration>)>>,
    missing: usize,
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
    let registered = own.into_iter().enumerate().map(|(index, future)| {
        let registration = arrivals.register(index, &future.get().task().cell);
        Some((future, registration))
    });
    let awaited = Mutex::new(Awaited { futures: registered.collect(), missing: total });
    Ok(Some(CompletedIterator { arrivals, awaited, deadline, total, generation: raddle::os::fork_generation() }))
}

impl CompletedIterator {
    fn take(&self, index: usize) -> Option<Py<NativeFuture>> {
        let mut awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        let (future, _) = awaited.futures.get_mut(index)?.take()?;
        awaited.missing -= 1;
        Some(future)
    }

    /// The futures still awaited forget this iterator.
    fn forget_all(&self) {
        let mut awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        awaited.missing = 0;
        let futures = std::mem::take(&mut awaited.futures);
        drop(awaited);
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
        let awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        match awaited.futures.iter().flatten().find(|(future, _)| future.get().is_orphan()) {
            Some(_) => Err(Names::refusal(py, &raddle::SubmitError::Forked, false)),
            None => Ok(()),
        }
    }

    fn missing(&self) -> usize {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner).missing
    }
}

#[pymethods]
impl CompletedIterator {
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Held by another thread, it is not garbage.
        let Ok(awaited) = self.awaited.try_lock() else { return Ok(()) };
        awaited.futures.iter().flatten().try_for_each(|(future, _)| visit.call(future))
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
            if !enter::block(py, self.deadline, |until| self.arrivals.wait(until))? {
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
