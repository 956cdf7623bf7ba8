//! `fetch` and `get`: the calling thread drives the batch without the interpreter, and looks for signals in between.

use std::time::{Duration, Instant};

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString};

use raddle_fetch::{Batch, Eagerness, Error, ErrorKind, Outcome, Request, Step};

use crate::fetch_options::FetchOptions;
use crate::fetch_request::read_item;
use crate::fetch_response::{FetchResponse, exception};

/// How long the main thread drives the event loop before it looks for signals; Ctrl-C is to end a batch within 0.5 s.
pub(crate) const SIGNAL_SLICE: Duration = Duration::from_millis(50);
/// How often progress is told at most.
const PROGRESS_SLICE: Duration = Duration::from_millis(100);
/// Items that are read at once: enough for hosts to take turns.
const AHEAD: usize = 1024;

/// An error of the options, which are the caller's, or of the system.
pub(crate) fn refuse(error: &Error) -> PyErr {
    let detail = error.detail().to_owned();
    if error.kind() == ErrorKind::System { PyOSError::new_err(detail) } else { PyValueError::new_err(detail) }
}

/// Drives a batch by its `step` until it has something to tell, or until `until` (`Paused`).
///
/// # Errors
/// Whatever a signal handler raises.
pub(crate) fn drive(
    py: Python<'_>,
    until: Option<Instant>,
    mut step: impl FnMut(Option<Instant>) -> Step + Send,
) -> PyResult<Step> {
    let sees_signals = raddle::os::is_main_thread();
    loop {
        let slice = sees_signals.then(|| Instant::now() + SIGNAL_SLICE);
        let limit = until.into_iter().chain(slice).min();
        let reached = py.detach(|| step(limit));
        if reached != Step::Paused || (until.is_some() && limit == until) {
            return Ok(reached);
        }
        py.check_signals()?;
    }
}

/// Fetch the items of a list; return the responses in its order.
#[pyfunction]
pub(crate) fn fetch<'py>(
    py: Python<'py>,
    items: &Bound<'py, PyList>,
    options: &Bound<'py, FetchOptions>,
    progress: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyList>> {
    let raises = options.get().raises;
    let mut batch = Batch::new(options.get().options.clone()).map_err(|error| refuse(&error))?;
    let eagerness = if raises { Eagerness::EachOutcome } else { Eagerness::Hungry };
    let mut outcomes: Vec<Option<Outcome>> = Vec::new();
    outcomes.resize_with(items.len(), || None);
    let (mut read, mut done) = (0, 0);
    let mut report = Report::new(progress);
    loop {
        match drive(py, report.next(), |until| batch.step(until, eagerness, None))? {
            Step::Hungry => {
                for item in items.iter().skip(read).take(AHEAD) {
                    batch.push(read as u64, read_item(&item, read)?);
                    read += 1;
                }
                if read >= outcomes.len() {
                    batch.close();
                }
            }
            Step::Done => break,
            Step::Finished | Step::Paused => {}
        }
        for (index, outcome) in batch.take() {
            if let (true, Err(error)) = (raises, &outcome) {
                return Err(exception(py, error));
            }
            outcomes[index as usize] = Some(outcome);
            done += 1;
        }
        report.tell(done)?;
    }
    report.end(done)?;
    drop(batch);
    let responses = items.iter().zip(outcomes).filter_map(|(item, outcome)| Some((item, outcome?)));
    PyList::new(py, responses.map(|(item, outcome)| FetchResponse::new(outcome, item)).collect::<Vec<_>>())
}

/// Fetch one item; raise if there is no response.
#[pyfunction]
pub(crate) fn get(
    py: Python<'_>,
    item: &Bound<'_, PyAny>,
    options: &Bound<'_, FetchOptions>,
) -> PyResult<FetchResponse> {
    let mut batch = Batch::new(options.get().options.clone()).map_err(|error| refuse(&error))?;
    batch.push(0, read_item(item, 0)?);
    batch.close();
    let mut outcome = None;
    while outcome.is_none() {
        drive(py, None, |until| batch.step(until, Eagerness::EachOutcome, None))?;
        outcome = batch.take().next();
    }
    match outcome {
        Some((_, Ok(response))) => Ok(FetchResponse::new(Ok(response), item.clone())),
        Some((_, Err(error))) => Err(exception(py, &error)),
        None => Err(PyValueError::new_err("no outcome")),
    }
}

/// Tells a callable how far a batch is, at most ten times a second.
pub(crate) struct Report<'py> {
    callable: Option<Bound<'py, PyAny>>,
    due: Instant,
}

impl<'py> Report<'py> {
    pub(crate) fn new(callable: Option<Bound<'py, PyAny>>) -> Self {
        Self { callable, due: Instant::now() + PROGRESS_SLICE }
    }

    /// When it wants to tell next.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.callable.as_ref().map(|_| self.due)
    }

    pub(crate) fn tell(&mut self, done: usize) -> PyResult<()> {
        if Instant::now() < self.due {
            return Ok(());
        }
        self.due = Instant::now() + PROGRESS_SLICE;
        self.end(done)
    }

    /// Tells the last state.
    pub(crate) fn end(&self, done: usize) -> PyResult<()> {
        match &self.callable {
            Some(callable) => callable.call1((done,)).map(drop),
            None => Ok(()),
        }
    }
}

/// A URL as it is shown where there is no request.
pub(crate) fn shown(item: &Bound<'_, PyAny>) -> String {
    match item.cast::<PyString>() {
        Ok(text) => text.to_string_lossy().into_owned(),
        Err(_) => item.getattr("url").and_then(|url| url.extract()).unwrap_or_default(),
    }
}

/// What an item asks for, or why it asks for nothing.
pub(crate) type Item = Result<Request, Error>;
