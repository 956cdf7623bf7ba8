//! `MapLoop`: the plain loop of `raddle.map`, watched while it runs.
//!
//! It calls the function itself for as many items as Python allows it (its *budget*), gives out results that Python has
//! made ready, and asks Python (`_step`) when both are used up or the watch wants attention.
//! Invariant: an item is drawn once, and its result given once.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pyo3::exceptions::PyValueError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyIterator, PyList, PyTuple, PyWeakrefMethods, PyWeakrefReference};

use raddle::choice::{Calls, Stuck, Watch, Watched};

use crate::batch::not_stop_iteration;
use crate::executor::is_exiting;
use crate::job::{call_one, call_tuple};

/// Who gets the interpreter lock later than this has waited for somebody who held it: a thread that holds it and computes
/// gives it up after 5 ms.
const IMMEDIATELY: Duration = Duration::from_micros(150);

/// A value that only the thread that holds the interpreter looks at.
struct Held<T>(Cell<T>);

// SAFETY: every access is in a method that has `Python<'_>` or a `Bound`, the proof that this thread holds the interpreter,
// and none gives the interpreter up between reading and writing; with the lock, at most one thread is there (the module says
// `gil_used = true`, so that interpreters without a lock make one for it). `T: Send`, since threads take turns.
unsafe impl<T: Send> Sync for Held<T> {}

/// The loop of a map.
#[pyclass(subclass, frozen, weakref, module = "raddle._native")]
pub(crate) struct MapLoop {
    function: Held<Option<Py<PyAny>>>,
    iterator: Held<Option<Py<PyIterator>>>,
    takes_tuples: bool,
    calls: Arc<Calls>,
    watch: Held<Option<Watch>>,
    budget: Held<u64>,
    drawn: Held<u64>,
    ready: Held<Option<Py<PyList>>>,
    next: Held<usize>,
    is_busy: Held<bool>,
}

impl<T> Held<Option<Py<T>>> {
    fn get<'py>(&self, py: Python<'py>) -> Option<Bound<'py, T>> {
        let value = self.0.take();
        let copy = value.as_ref().map(|value| value.bind(py).clone());
        // What it replaces is the None that was left: no destructor runs.
        self.0.set(value);
        copy
    }
}

/// What `_run` has done: results, the error that ended it with the item, whether the input has ended, the first item's place.
type Ran = (Py<PyList>, Option<Py<PyAny>>, Option<Py<PyAny>>, bool, u64);

impl MapLoop {
    fn draw<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(mut iterator) = self.iterator.get(py) else { return Ok(None) };
        let item = iterator.next().transpose()?;
        self.drawn.0.set(self.drawn.0.get() + u64::from(item.is_some()));
        Ok(item)
    }

    fn call<'py>(&self, function: &Bound<'py, PyAny>, item: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = function.py();
        self.calls.begin();
        let result = if self.takes_tuples {
            let args = item.cast::<PyTuple>().map_err(PyErr::from);
            args.and_then(|args| call_tuple(py, function.as_unbound(), args.as_unbound()))
        } else {
            call_one(py, function.as_unbound(), item.as_unbound())
        };
        self.calls.end();
        result.map(|value| value.into_bound(py))
    }

    fn take_ready<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(ready) = self.ready.get(py) else { return Ok(None) };
        let place = self.next.0.get();
        if place >= ready.len() {
            drop(self.ready.0.take());
            return Ok(None);
        }
        let value = ready.get_item(place)?;
        // What has been given out is the reader's alone.
        ready.set_item(place, py.None())?;
        self.next.0.set(place + 1);
        Ok(Some(value))
    }

    fn next<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let (py, this) = (slf.py(), slf.get());
        loop {
            if let Some(value) = this.take_ready(py)? {
                return Ok(Some(value));
            }
            let budget = this.budget.0.get();
            if budget > 0 && !this.calls.wants_attention() {
                this.budget.0.set(budget - 1);
                if let Some(value) = Self::call_next(slf)? {
                    return Ok(Some(value));
                }
                this.budget.0.set(0);
            }
            let stepped = slf.call_method0("_step")?;
            if stepped.is_none() {
                return Ok(None);
            }
            this.next.0.set(0);
            drop(this.ready.0.replace(Some(stepped.cast_into::<PyList>()?.unbind())));
        }
    }

    fn call_next<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let (py, this) = (slf.py(), slf.get());
        let Some(function) = this.function.get(py) else { return Ok(None) };
        let place = this.drawn.0.get();
        let item = match this.draw(py) {
            Ok(Some(item)) => item,
            Ok(None) => return Ok(None),
            Err(error) => {
                slf.call_method1("_failed", (error.value(py), py.None(), place))?;
                return Err(error);
            }
        };
        this.call(&function, &item).map(Some).or_else(|error| {
            slf.call_method1("_failed", (error.value(py), (item,), place))?;
            Err(error)
        })
    }
}

#[pymethods]
impl MapLoop {
    #[new]
    #[pyo3(signature = (function, iterator, takes_tuples))]
    fn new(function: Py<PyAny>, iterator: Py<PyIterator>, takes_tuples: bool) -> Self {
        Self {
            function: Held(Cell::new(Some(function))),
            iterator: Held(Cell::new(Some(iterator))),
            takes_tuples,
            calls: Arc::default(),
            watch: Held(Cell::new(None)),
            budget: Held(Cell::new(0)),
            drawn: Held(Cell::new(0)),
            ready: Held(Cell::new(None)),
            next: Held(Cell::new(0)),
            is_busy: Held(Cell::new(false)),
        }
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let this = slf.get();
        if this.is_busy.0.replace(true) {
            return Err(PyValueError::new_err(
                "this map is in use: by another thread, or by its own function or input",
            ));
        }
        let next = Self::next(slf);
        this.is_busy.0.set(false);
        next.map_err(|error| not_stop_iteration(slf.py(), error))
    }

    /// Call the function for the next items, at most so many; stop when the watch wants attention.
    fn _run(&self, py: Python<'_>, limit: u64) -> PyResult<Ran> {
        let results = PyList::empty(py);
        let function = self.function.get(py);
        let start = self.drawn.0.get();
        for place in 0..limit {
            if place > 0 && self.calls.wants_attention() {
                break;
            }
            let (Some(function), drawn) = (&function, self.draw(py)) else {
                return Ok((results.unbind(), None, None, true, start));
            };
            let item = match drawn {
                Ok(Some(item)) => item,
                Ok(None) => return Ok((results.unbind(), None, None, true, start)),
                Err(error) => return Ok((results.unbind(), Some(error.into_value(py).into_any()), None, false, start)),
            };
            match self.call(function, &item) {
                Ok(value) => results.append(value)?,
                Err(error) => {
                    let item = PyTuple::new(py, [item])?;
                    return Ok((
                        results.unbind(),
                        Some(error.into_value(py).into_any()),
                        Some(item.into_any().unbind()),
                        false,
                        start,
                    ));
                }
            }
        }
        Ok((results.unbind(), None, None, false, start))
    }

    /// Draw the next items without calling the function. Fewer come at the end of the input; an error is the last.
    fn _draw(&self, py: Python<'_>, limit: usize) -> PyResult<(Py<PyList>, Option<Py<PyAny>>)> {
        let items = PyList::empty(py);
        for _ in 0..limit {
            match self.draw(py) {
                Ok(Some(item)) => items.append(item)?,
                Ok(None) => break,
                Err(error) => return Ok((items.unbind(), Some(error.into_value(py).into_any()))),
            }
        }
        Ok((items.unbind(), None))
    }

    /// Let the loop go on by itself for so many items.
    fn _set_budget(&self, _py: Python<'_>, items: u64) {
        self.budget.0.set(items);
        self.calls.set_attention(false);
    }

    /// Have the loop stop and ask after the present call.
    fn _interrupt(&self, _py: Python<'_>) {
        self.calls.set_attention(true);
    }

    /// How many calls have begun.
    #[getter]
    fn _begun(&self, _py: Python<'_>) -> u64 {
        self.calls.begun()
    }

    /// For whoever makes room for the results; 0 where nobody knows.
    fn __length_hint__(&self, py: Python<'_>) -> usize {
        let waiting = self.ready.get(py).map_or(0, |ready| ready.len().saturating_sub(self.next.0.get()));
        let left = self.iterator.get(py).and_then(|iterator| {
            // SAFETY: the interpreter is held, and the iterator is alive; -1 comes with an exception, which is taken back.
            let hint = unsafe { pyo3::ffi::PyObject_LengthHint(iterator.as_ptr(), 0) };
            drop((hint < 0).then(|| PyErr::take(py)));
            usize::try_from(hint).ok()
        });
        waiting + left.unwrap_or(0)
    }

    /// How many items have been drawn.
    #[getter]
    fn _drawn(&self, _py: Python<'_>) -> u64 {
        self.drawn.0.get()
    }

    /// Whether a call is running.
    #[getter]
    fn _inside(&self, _py: Python<'_>) -> bool {
        self.calls.is_inside()
    }

    /// Call the function for one item.
    #[pyo3(name = "_call")]
    fn call_item<'py>(&self, item: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let function = self.function.get(item.py());
        let function = function.ok_or_else(|| PyValueError::new_err("this map has been closed"))?;
        self.call(&function, item)
    }

    /// How often the interpreter lock was looked at since the last time, and how often it was held.
    fn _looks(&self, _py: Python<'_>) -> (u32, u32) {
        self.calls.take_looks()
    }

    /// Have a thread look whether calls take long, and who holds the interpreter.
    fn _start_watch(slf: &Bound<'_, Self>) -> PyResult<()> {
        let watched = WatchedMap(PyWeakrefReference::new(slf.as_any())?.unbind());
        let watch = Watch::start(&slf.get().calls, watched);
        drop(slf.get().watch.0.replace(watch));
        Ok(())
    }

    fn _stop_watch(&self, _py: Python<'_>) {
        drop(self.watch.0.take());
    }

    /// Forget function and input.
    fn _end(&self, py: Python<'_>) {
        self._stop_watch(py);
        self.budget.0.set(0);
        drop((self.function.0.take(), self.iterator.0.take()));
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // The collector runs while the interpreter is held, and calls nothing that comes back here.
        let (function, iterator, ready) = (self.function.0.take(), self.iterator.0.take(), self.ready.0.take());
        let visited = visit.call(&function).and_then(|()| visit.call(&iterator)).and_then(|()| visit.call(&ready));
        self.function.0.set(function);
        self.iterator.0.set(iterator);
        self.ready.0.set(ready);
        visited
    }

    fn __clear__(&self) {
        drop((self.function.0.take(), self.iterator.0.take(), self.ready.0.take(), self.watch.0.take()));
    }
}

/// The map, for its watch.
struct WatchedMap(Py<PyWeakrefReference>);

impl Watched for WatchedMap {
    fn look(&self) -> Option<bool> {
        if is_exiting() {
            return None;
        }
        let start = Instant::now();
        Python::try_attach(|_| start.elapsed() > IMMEDIATELY)
    }

    fn report(&self, stuck: Stuck) {
        if is_exiting() {
            return;
        }
        Python::try_attach(|py| {
            let Some(map) = self.0.bind(py).upgrade() else { return };
            let told = map.call_method1("_help", (stuck.wall.as_secs_f64(), stuck.busy.as_secs_f64()));
            if let Err(error) = told {
                error.write_unraisable(py, Some(&map));
            }
        });
    }
}
