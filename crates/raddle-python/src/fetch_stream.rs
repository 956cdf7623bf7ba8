//! A batch on a thread of its own, for `fetch_iter` and `fetch_async`. The thread never needs the interpreter.

use std::collections::HashMap;
use std::os::fd::IntoRawFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyList;

use raddle_fetch::{News, Stream};

use crate::fetch::{SIGNAL_SLICE, refuse};
use crate::fetch_options::FetchOptions;
use crate::fetch_request::read_item;
use crate::fetch_response::FetchResponse;

/// Items in, responses out, neither of which waits.
#[pyclass(frozen, module = "raddle._native")]
pub(crate) struct FetchStream {
    stream: Stream,
    items: Mutex<Items>,
}

/// The items that have no response yet, by their index.
#[derive(Default)]
struct Items {
    waiting: HashMap<u64, Py<PyAny>>,
    next: u64,
}

impl FetchStream {
    fn items(&self) -> MutexGuard<'_, Items> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_process(&self) -> PyResult<()> {
        if self.stream.is_ours() {
            return Ok(());
        }
        Err(PyRuntimeError::new_err("this batch runs in the parent process: start another one after os.fork()"))
    }
}

#[pymethods]
impl FetchStream {
    #[new]
    fn new(options: &Bound<'_, FetchOptions>) -> PyResult<Self> {
        let stream = Stream::new(options.get().options.clone()).map_err(|error| refuse(&error))?;
        Ok(Self { stream, items: Mutex::default() })
    }

    /// Add items.
    fn push(&self, items: &Bound<'_, PyList>) -> PyResult<()> {
        self.check_process()?;
        let first = self.items().next;
        let mut read = Vec::with_capacity(items.len());
        for (place, item) in items.iter().enumerate() {
            read.push((first + place as u64, read_item(&item, first as usize + place)?));
        }
        let mut known = self.items();
        known.next += read.len() as u64;
        known.waiting.extend(read.iter().map(|(index, _)| *index).zip(items.iter().map(Bound::unbind)));
        drop(known);
        self.stream.push(read);
        Ok(())
    }

    /// Whether the batch runs in this process, and not in the parent of a fork.
    fn is_ours(&self) -> bool {
        self.stream.is_ours()
    }

    fn close(&self) {
        // In a child its lock may be held by a thread that is not there.
        if self.is_ours() {
            self.stream.close();
        }
    }

    fn cancel(&self) {
        if !self.is_ours() {
            return;
        }
        self.stream.cancel();
        // The items are dropped after the lock is let go: they may be anything.
        let dropped = std::mem::take(&mut self.items().waiting);
        drop(dropped);
    }

    /// The responses since the last time, with the indices of their items.
    fn take(&self, py: Python<'_>) -> PyResult<Vec<(u64, FetchResponse)>> {
        self.check_process()?;
        let outcomes = self.stream.take();
        let mut items = self.items();
        let taken: Vec<_> = outcomes
            .into_iter()
            .filter_map(|(index, outcome)| Some((index, outcome, items.waiting.remove(&index)?)))
            .collect();
        drop(items);
        let made =
            |(index, outcome, item): (_, _, Py<PyAny>)| (index, FetchResponse::new(outcome, item.into_bound(py)));
        Ok(taken.into_iter().map(made).collect())
    }

    /// Say that there is nothing to add for now.
    fn sate(&self) -> PyResult<()> {
        self.check_process()?;
        self.stream.sate();
        Ok(())
    }

    /// What there is: "outcomes", "hungry" for items, "idle", or "nothing" yet.
    fn news(&self) -> PyResult<&'static str> {
        self.check_process()?;
        Ok(word(self.stream.news()))
    }

    /// Wait for news.
    fn wait(&self, py: Python<'_>) -> PyResult<&'static str> {
        self.check_process()?;
        let sees_signals = raddle::os::is_main_thread();
        loop {
            let until = sees_signals.then(|| Instant::now() + SIGNAL_SLICE);
            match py.detach(|| self.stream.wait(until)) {
                News::Nothing => py.check_signals()?,
                news => return Ok(word(news)),
            }
        }
    }

    /// A file descriptor, owned by the caller, that is readable when there is news; `take` has to follow.
    fn doorbell(&self) -> PyResult<i32> {
        self.check_process()?;
        Ok(self.stream.doorbell()?.into_raw_fd())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // A lock that is held is held by a thread that uses the stream: then it is no garbage.
        match self.items.try_lock() {
            Ok(items) => items.waiting.values().try_for_each(|item| visit.call(item)),
            Err(_) => Ok(()),
        }
    }

    fn __clear__(&self) {
        let dropped = self.items.try_lock().map(|mut items| std::mem::take(&mut items.waiting));
        drop(dropped);
    }
}

fn word(news: News) -> &'static str {
    match news {
        News::Outcomes => "outcomes",
        News::Hungry => "hungry",
        News::Idle => "idle",
        News::Nothing => "nothing",
    }
}
