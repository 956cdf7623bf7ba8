//! `map`: items are gathered into batches of the engine, results come out in order.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use pyo3::exceptions::{PyRuntimeError, PyStopIteration, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyIterator, PyList, PyRange, PyString, PyTuple};

use raddle::batch::{Batch, BatchJob, Ended, Found};
use raddle::pool::Pool;

use crate::enter;
use crate::executor::Open;
use crate::job::{PyOutcome, call_one, call_tuple, copy_context, in_copy_of};
use crate::names::Names;
use crate::timeline::{name_of, note_this_thread_if_asked};

/// How many items drawn one by one share a batch. A guess: enough to forget what a batch costs.
const CHUNK: usize = 256;

/// The function of a `map`.
pub(crate) struct Call {
    function: Py<PyAny>,
    /// Whether an item is a tuple of arguments, or the argument.
    takes_tuples: bool,
    context: Option<Py<PyAny>>,
}

impl Call {
    fn clone_ref(&self, py: Python<'_>) -> Self {
        Self {
            function: self.function.clone_ref(py),
            takes_tuples: self.takes_tuples,
            context: self.context.as_ref().map(|context| context.clone_ref(py)),
        }
    }

    fn call(&self, py: Python<'_>, item: &Py<PyAny>) -> PyResult<Py<PyAny>> {
        if !self.takes_tuples {
            return call_one(py, &self.function, item);
        }
        let args = item.bind(py).cast::<PyTuple>()?;
        call_tuple(py, &self.function, args.as_unbound())
    }
}

impl BatchJob for Call {
    type Item = Py<PyAny>;
    type Outcome = PyOutcome;

    fn run(&self, item: Py<PyAny>) -> PyOutcome {
        Python::attach(|py| {
            note_this_thread_if_asked(py);
            PyOutcome::of_call(py, in_copy_of(py, self.context.as_ref(), || self.call(py, &item)))
        })
    }
}

/// The results of `executor.map`, in the order of the items.
#[pyclass(module = "raddle._native", frozen)]
pub(crate) struct MapIterator {
    pool: Arc<Pool>,
    consumer: Mutex<Consumer>,
}

struct Consumer {
    batches: VecDeque<Arc<Batch<Call>>>,
    index: usize,
    deadline: Option<Instant>,
    has_started: bool,
}

impl MapIterator {
    /// Submits the items as they come, and returns when the last has come.
    pub(crate) fn submit(
        open: &Open,
        function: &Bound<'_, PyAny>,
        iterables: &Bound<'_, PyTuple>,
        inherits_context: bool,
        label: Option<Arc<str>>,
        deadline: Option<Instant>,
    ) -> PyResult<Self> {
        let py = function.py();
        let call = Call {
            function: function.clone().unbind(),
            takes_tuples: iterables.len() != 1,
            context: if inherits_context { Some(copy_context(py)?) } else { None },
        };
        let mut batches = VecDeque::new();
        let gathered = if Self::is_at_hand(iterables) {
            let items: Vec<_> = draw(iterables)?.map(|item| item.map(Bound::unbind)).collect::<PyResult<_>>()?;
            let batch = Arc::new(Batch::new(call, items, label));
            name_of(function).into_iter().for_each(|name| batch.set_name(name));
            batches.push_back(Arc::clone(&batch));
            if batch.is_empty() {
                Ok(())
            } else {
                open.check_not_exiting(py)?;
                open.check(py, open.pool.submit_batch(&batch))
            }
        } else {
            let streamed = Self::stream(open, &call, iterables, label.as_ref(), &mut batches);
            batches.back().inspect(|batch| batch.seal());
            streamed
        };
        gathered?;
        let consumer = Consumer { batches, index: 0, deadline, has_started: false };
        Ok(Self { pool: Arc::clone(&open.pool), consumer: Mutex::new(consumer) })
    }

    /// Whether drawing the items runs no code of a user's, so that nobody can tell when it is done.
    pub(crate) fn is_at_hand(iterables: &Bound<'_, PyTuple>) -> bool {
        iterables.iter().all(|iterable| {
            iterable.is_exact_instance_of::<PyList>()
                || iterable.is_exact_instance_of::<PyTuple>()
                || iterable.is_exact_instance_of::<PyRange>()
                || iterable.is_exact_instance_of::<PyDict>()
                || iterable.is_exact_instance_of::<PyString>()
                || iterable.is_exact_instance_of::<PyBytes>()
        })
    }

    /// Submits each item before the next is asked for: what draws it may wait for what became of this one.
    fn stream(
        open: &Open,
        call: &Call,
        iterables: &Bound<'_, PyTuple>,
        label: Option<&Arc<str>>,
        batches: &mut VecDeque<Arc<Batch<Call>>>,
    ) -> PyResult<()> {
        let py = iterables.py();
        let mut expected = 0;
        for item in draw(iterables)? {
            let item = item?.unbind();
            // What was submitted since the last item keeps its place before this one, which must not join an earlier batch.
            let is_next = open.pool.submitted() == expected;
            if let Some(batch) = batches.back().filter(|batch| !is_next || !batch.has_room()) {
                batch.seal();
            }
            if !batches.back().is_some_and(|batch| is_next && batch.has_room()) {
                let batch = Batch::with_capacity(call.clone_ref(py), CHUNK, label.cloned());
                name_of(call.function.bind(py)).into_iter().for_each(|name| batch.set_name(name));
                batches.push_back(Arc::new(batch));
            }
            let batch = batches.back().expect("one has just been added if there was none");
            open.check_not_exiting(py)?;
            expected = open.pool.submitted() + 1;
            open.check(py, open.pool.submit_item(batch, item))?;
        }
        Ok(())
    }

    fn lock(&self) -> PyResult<MutexGuard<'_, Consumer>> {
        self.consumer.try_lock().map_err(|_| PyValueError::new_err("another thread is taking a result of this map"))
    }

    fn next(&self, py: Python<'_>, consumer: &mut Consumer) -> PyResult<Option<Py<PyAny>>> {
        consumer.has_started = true;
        while let Some(batch) = consumer.batches.front() {
            if consumer.index == batch.len() {
                consumer.batches.pop_front();
                consumer.index = 0;
                continue;
            }
            let index = consumer.index;
            match batch.try_take(index) {
                Found::Outcome(outcome) => {
                    consumer.index += 1;
                    return outcome.into_result(py).map(Some);
                }
                Found::Ended(Ended::Cancelled) => return Err(Names::cancelled(py)),
                Found::Ended(Ended::Failed(failure)) => return Err(Names::failure(py, &failure)),
                Found::NotYet => self.wait(py, batch, index, consumer.deadline)?,
            }
        }
        Ok(None)
    }

    fn wait(&self, py: Python<'_>, batch: &Arc<Batch<Call>>, index: usize, deadline: Option<Instant>) -> PyResult<()> {
        if self.pool.is_forked() {
            return Err(Names::refusal(py, &raddle::SubmitError::Forked, false));
        }
        if enter::block(py, deadline, |until, watched| batch.wait(index, until, watched))? {
            return Ok(());
        }
        Err(Names::timed_out(py, None))
    }

    /// Cancels what has not begun, and forgets the rest.
    fn end(&self, consumer: &mut Consumer) {
        let batches = std::mem::take(&mut consumer.batches);
        batches.iter().for_each(|batch| self.pool.cancel_batch(batch));
    }
}

impl Drop for MapIterator {
    /// As a generator: only one that has been started cancels what is left of it.
    fn drop(&mut self) {
        if let Ok(mut consumer) = self.consumer.try_lock()
            && consumer.has_started
        {
            self.end(&mut consumer);
        }
    }
}

#[pymethods]
impl MapIterator {
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let mut consumer = self.lock()?;
        self.next(py, &mut consumer).map_err(|error| {
            self.end(&mut consumer);
            not_stop_iteration(py, error)
        })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Held by another thread, it is not garbage. A batch in the queue or at a worker is held from outside as well.
        let Ok(mut consumer) = self.consumer.try_lock() else { return Ok(()) };
        consumer.batches.iter_mut().filter_map(Arc::get_mut).try_for_each(|batch| {
            batch.visit(
                |call| visit.call(&call.function).and_then(|()| visit.call(&call.context)),
                |item| visit.call(item),
                |outcome| outcome.traverse(&visit),
            )
        })
    }

    fn __clear__(&self) {
        let batches = self.consumer.try_lock().map(|mut consumer| std::mem::take(&mut consumer.batches));
        drop(batches);
    }

    /// End the iteration; cancel what has not begun if it had started.
    fn close(&self) -> PyResult<()> {
        let mut consumer = self.lock()?;
        if consumer.has_started {
            self.end(&mut consumer);
        } else {
            consumer.batches.clear();
        }
        Ok(())
    }
}

/// A StopIteration that a task raised would end the loop over the results as if there were no more of them.
pub(crate) fn not_stop_iteration(py: Python<'_>, error: PyErr) -> PyErr {
    if !error.is_instance_of::<PyStopIteration>(py) {
        return error;
    }
    let told = PyRuntimeError::new_err("a task of this map raised StopIteration");
    told.set_cause(py, Some(error));
    told
}

pub(crate) fn draw<'py>(iterables: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyIterator>> {
    if iterables.len() == 1 {
        return iterables.get_item(0)?.try_iter();
    }
    let py = iterables.py();
    py.import("builtins")?.getattr("zip")?.call1(iterables.clone())?.try_iter()
}
