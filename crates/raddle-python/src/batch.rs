//! `map`: items are gathered into batches of the engine, results come out in order.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyIterator, PyList, PyRange, PyTuple};

use raddle::batch::{Batch, BatchJob, Ended, Found};
use raddle::pool::Pool;

use crate::enter;
use crate::executor::Open;
use crate::job::{PyOutcome, call_one, call_tuple, copy_context, in_copy_of};
use crate::names::Names;

/// Items that come slower than this go to the workers before the rest has come. A guess: far above the cost of a batch,
/// far below what a person notices.
const GATHERING: Duration = Duration::from_micros(200);

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
        Python::attach(|py| PyOutcome::of_call(py, in_copy_of(py, self.context.as_ref(), || self.call(py, &item))))
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
        gather(iterables, |items| {
            let batch = Arc::new(Batch::new(call.clone_ref(py), items, label.clone()));
            open.pool.submit_batch(&batch).map_err(|error| open.refusal(py, &error))?;
            batches.push_back(batch);
            Ok(())
        })?;
        let consumer = Consumer { batches, index: 0, deadline, has_started: false };
        Ok(Self { pool: Arc::clone(&open.pool), consumer: Mutex::new(consumer) })
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

    fn wait(&self, py: Python<'_>, batch: &Batch<Call>, index: usize, deadline: Option<Instant>) -> PyResult<()> {
        if self.pool.is_forked() {
            return Err(Names::refusal(py, &raddle::SubmitError::Forked, false));
        }
        if enter::block(py, deadline, |until| batch.wait(index, until))? {
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
        if let Ok(mut consumer) = self.consumer.try_lock() {
            if consumer.has_started {
                self.end(&mut consumer);
            }
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
        let next = self.next(py, &mut consumer);
        if next.is_err() {
            self.end(&mut consumer);
        }
        next
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

/// Draws the items from the iterables and hands them on, all at once if they are there, and bit by bit if they come
/// slowly.
fn gather(iterables: &Bound<'_, PyTuple>, mut submit: impl FnMut(Vec<Py<PyAny>>) -> PyResult<()>) -> PyResult<()> {
    let is_at_hand = iterables.iter().all(|iterable| {
        iterable.is_exact_instance_of::<PyList>()
            || iterable.is_exact_instance_of::<PyTuple>()
            || iterable.is_exact_instance_of::<PyRange>()
    });
    let mut items = Vec::new();
    let mut since = Instant::now();
    for item in draw(iterables)? {
        items.push(item?.unbind());
        if !is_at_hand && since.elapsed() > GATHERING {
            submit(std::mem::take(&mut items))?;
            since = Instant::now();
        }
    }
    if items.is_empty() { Ok(()) } else { submit(items) }
}

fn draw<'py>(iterables: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyIterator>> {
    if iterables.len() == 1 {
        return iterables.get_item(0)?.try_iter();
    }
    let py = iterables.py();
    py.import("builtins")?.getattr("zip")?.call1(iterables.clone())?.try_iter()
}
