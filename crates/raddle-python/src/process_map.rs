//! `map` over processes: items become bytes as they are drawn, results come out in order.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Instant;

use pyo3::exceptions::{PyKeyboardInterrupt, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

use raddle::SubmitError;
use raddle::events::Name;
use raddle::process::arena::Segment;
use raddle::process::batch::{RemoteBatch, RemoteJob};
use raddle::process::bytes::Bytes;
use raddle::process::link::Reply;
use raddle::process::pool::ProcessPool;
use raddle::process::remote::{Ending, Parcel, Parcels, Remote};

use crate::apart::with_segments;
use crate::batch::{MapIterator, draw, not_stop_iteration};
use crate::codec::{self, Function};
use crate::enter;
use crate::job::PyOutcome;
use crate::layout::{self, CHUNK, CHUNK_RAISED};
use crate::names::Names;
use crate::process::{MOST_WAITING, Named, Open, Side};
use crate::timeline::name_of;

/// How many items are submitted together: few at first, so that workers begin early.
const FIRST_TOGETHER: usize = 32;
const MOST_TOGETHER: usize = 2048;
/// Nor more bytes than these.
const MOST_BYTES_TOGETHER: usize = 1 << 20;

/// What the calls of a map have in common.
pub(crate) struct Calls {
    side: Arc<Side>,
    pool: Weak<ProcessPool>,
    /// The number of the function, defined for this map alone if it is not importable.
    function: u64,
    is_own: bool,
    /// Whether an item is a tuple of arguments, or the argument.
    takes_tuples: bool,
    is_chunked: bool,
    /// What it is called, if somebody listens.
    name: Option<Name>,
    /// Calls whose turn to be pickled has not come, and those that could not be pickled.
    kept: Mutex<HashMap<usize, Kept>>,
}

enum Kept {
    Items(Vec<Py<PyAny>>),
    Failed(PyErr),
}

/// How a call of a map ended.
pub(crate) enum End {
    Of(Ending),
    Raised(PyErr),
}

impl From<Ending> for End {
    fn from(ending: Ending) -> Self {
        Self::Of(ending)
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        if self.is_own
            && let Some(pool) = self.pool.upgrade()
        {
            self.side.forget(&pool, self.function);
        }
    }
}

impl Calls {
    /// Appends the call for one item, or for a chunk of them.
    fn push(&self, py: Python<'_>, items: &[Py<PyAny>], out: &mut Vec<u8>) -> PyResult<()> {
        let start = out.len();
        let pushed = self.push_parts(py, items, out);
        if pushed.is_err() {
            out.truncate(start);
        }
        pushed
    }

    fn push_parts(&self, py: Python<'_>, items: &[Py<PyAny>], out: &mut Vec<u8>) -> PyResult<()> {
        self.side.begin_call(py, out)?;
        let function = Function::Defined(self.function);
        let pickling = &self.side.pickling;
        if self.is_chunked && !self.takes_tuples {
            return pickling.chunk_of_ones(py, function, items, out);
        }
        if self.is_chunked {
            let tuples = items.iter().map(|item| item.bind(py).cast().cloned()).collect::<Result<Vec<_>, _>>()?;
            return pickling.chunk(py, function, &tuples, out);
        }
        let [item] = items else { return Ok(()) };
        let item = item.bind(py);
        if self.takes_tuples {
            pickling.call(py, function, item.cast::<PyTuple>()?, None, out)
        } else {
            pickling.call_one(function, item, out)
        }
    }

    fn lock_kept(&self) -> MutexGuard<'_, HashMap<usize, Kept>> {
        self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl RemoteJob for Calls {
    type Outcome = End;

    fn encode(&self, index: usize) -> Result<Parcel, End> {
        let kept = self.lock_kept().remove(&index);
        let items = match kept {
            Some(Kept::Items(items)) => items,
            Some(Kept::Failed(error)) => return Err(End::Raised(error)),
            None => return Err(End::Of(Ending::Cancelled)),
        };
        Python::attach(|py| {
            let mut out = Vec::new();
            let (pushed, segments) = with_segments(|| self.push(py, &items, &mut out));
            pushed.map_err(End::Raised)?;
            drop(items);
            Ok(Parcel { bytes: Bytes::with_segments(out, segments), needs: Some(self.function) })
        })
    }

    fn name(&self) -> Option<Name> {
        self.name
    }

    fn describe(&self, reply: &Reply) -> Option<Arc<str>> {
        layout::error_line(reply.kind, &reply.payload).map(Arc::from)
    }

    fn is_failure(&self, kind: u16) -> bool {
        codec::is_failure(kind)
    }
}

/// Gathers calls until there are enough to be submitted together.
struct Gathering<'a> {
    open: &'a Open,
    batch: Arc<RemoteBatch<Calls>>,
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// The index of the first call gathered.
    first: usize,
    together: usize,
    /// 1 if drawing an item may take long, or wait for what becomes of the one before.
    most_together: usize,
    /// So much waits to be sent that further calls are pickled when their turn comes.
    is_full: bool,
}

impl Gathering<'_> {
    fn add(&mut self, py: Python<'_>, items: Vec<Py<PyAny>>) -> PyResult<()> {
        if self.is_full {
            return self.keep(py, Kept::Items(items));
        }
        let start = self.bytes.len();
        let (pushed, segments) = with_segments(|| self.batch.job().push(py, &items, &mut self.bytes));
        match pushed {
            Ok(()) if !segments.is_empty() => return self.submit_apart(py, start, segments),
            Ok(()) => self.ends.push(self.bytes.len()),
            Err(error) if error.is_instance_of::<PyKeyboardInterrupt>(py) => return Err(error),
            Err(error) => return self.keep(py, Kept::Failed(error)),
        }
        if self.ends.len() >= self.together || self.bytes.len() >= MOST_BYTES_TOGETHER {
            self.flush(py)?;
            self.together = (2 * self.together).min(self.most_together);
        }
        Ok(())
    }

    /// Submits the call whose bytes begin there by itself, so that its segments are free when it has ended.
    fn submit_apart(&mut self, py: Python<'_>, start: usize, segments: Vec<Segment>) -> PyResult<()> {
        let bytes = self.bytes.split_off(start);
        self.flush(py)?;
        let needs = Some(self.batch.job().function);
        let bytes = Bytes::with_segments(bytes, segments);
        self.submit(py, 1, Some(Parcels::one(bytes, self.first, needs)))
    }

    /// A call that is pickled when its turn comes, or never.
    fn keep(&mut self, py: Python<'_>, kept: Kept) -> PyResult<()> {
        self.flush(py)?;
        self.batch.job().lock_kept().insert(self.first, kept);
        self.submit(py, 1, None)
    }

    fn flush(&mut self, py: Python<'_>) -> PyResult<()> {
        let count = self.ends.len();
        if count == 0 {
            return Ok(());
        }
        let needs = Some(self.batch.job().function);
        let (bytes, ends) = (std::mem::take(&mut self.bytes), std::mem::take(&mut self.ends));
        self.submit(py, count, Some(Parcels::new(bytes, ends, self.first, needs)))
    }

    fn submit(&mut self, py: Python<'_>, count: usize, parcels: Option<Parcels>) -> PyResult<()> {
        let (first, end) = (self.first, self.first + count);
        self.first = end;
        self.batch.add(count);
        let submitted: Result<(), SubmitError> =
            self.open.pool.submit_many(Arc::clone(&self.batch) as Arc<dyn Remote>, first, end, parcels);
        self.open.check(py, submitted)?;
        self.is_full =
            !self.open.side.has_context() && self.open.pool.queued_bytes().is_ok_and(|bytes| bytes > MOST_WAITING);
        Ok(())
    }
}

/// The results of `executor.map`, in the order of the items.
#[pyclass(module = "raddle._native", frozen)]
pub(crate) struct ProcessMapIterator {
    side: Arc<Side>,
    pool: Arc<ProcessPool>,
    consumer: Mutex<Consumer>,
}

struct Consumer {
    batch: Option<Arc<RemoteBatch<Calls>>>,
    /// Results of a chunk, and the error after them.
    ready: VecDeque<Py<PyAny>>,
    error: Option<PyErr>,
    deadline: Option<Instant>,
    has_started: bool,
    /// The results that were given out last, of which some may not have been taken.
    given: Option<Py<PyList>>,
}

impl ProcessMapIterator {
    pub(crate) fn submit(
        open: &Open,
        function: &Bound<'_, PyAny>,
        iterables: &Bound<'_, PyTuple>,
        chunksize: usize,
        deadline: Option<Instant>,
    ) -> PyResult<Self> {
        let py = function.py();
        let (number, is_own, failed) = match open.side.name(&open.pool, function) {
            Ok(Named::Defined(number)) => (number, false, None),
            Ok(Named::Inline(bytes)) => (open.side.define(&open.pool, bytes), true, None),
            Err(error) if error.is_instance_of::<PyKeyboardInterrupt>(py) => return Err(error),
            // Each call fails with it, as with the standard library.
            Err(error) => (0, false, Some(error)),
        };
        let calls = Calls {
            side: Arc::clone(&open.side),
            pool: Arc::downgrade(&open.pool),
            function: number,
            is_own,
            takes_tuples: iterables.len() != 1,
            is_chunked: chunksize > 1,
            name: name_of(function),
            kept: Mutex::default(),
        };
        let batch = RemoteBatch::new(calls, &open.pool);
        let is_at_hand = MapIterator::is_at_hand(iterables);
        let mut gathering = Gathering {
            open,
            batch: Arc::clone(&batch),
            bytes: Vec::new(),
            ends: Vec::new(),
            first: 0,
            together: if chunksize > 1 || !is_at_hand { 1 } else { FIRST_TOGETHER },
            most_together: if is_at_hand { MOST_TOGETHER } else { 1 },
            is_full: false,
        };
        let mut chunk = Vec::new();
        for item in draw(iterables)? {
            chunk.push(item?.unbind());
            if chunk.len() == chunksize {
                Self::add(py, &mut gathering, &mut chunk, failed.as_ref())?;
            }
        }
        if !chunk.is_empty() {
            Self::add(py, &mut gathering, &mut chunk, failed.as_ref())?;
        }
        gathering.flush(py)?;
        let consumer = Consumer {
            batch: Some(batch),
            ready: VecDeque::new(),
            error: None,
            deadline,
            has_started: false,
            given: None,
        };
        Ok(Self { side: Arc::clone(&open.side), pool: Arc::clone(&open.pool), consumer: Mutex::new(consumer) })
    }

    fn add(
        py: Python<'_>,
        gathering: &mut Gathering<'_>,
        chunk: &mut Vec<Py<PyAny>>,
        failed: Option<&PyErr>,
    ) -> PyResult<()> {
        let items = std::mem::take(chunk);
        match failed {
            None => gathering.add(py, items),
            Some(error) => gathering.keep(py, Kept::Failed(error.clone_ref(py))),
        }
    }

    fn lock(&self) -> PyResult<MutexGuard<'_, Consumer>> {
        self.consumer.try_lock().map_err(|_| PyValueError::new_err("another thread is taking a result of this map"))
    }

    fn next(&self, py: Python<'_>, consumer: &mut Consumer) -> PyResult<Option<Py<PyAny>>> {
        consumer.has_started = true;
        loop {
            if let Some(value) = consumer.ready.pop_front() {
                return Ok(Some(value));
            }
            if let Some(error) = consumer.error.take() {
                return Err(error);
            }
            let Some(batch) = &consumer.batch else { return Ok(None) };
            match batch.try_take() {
                Some(end) => {
                    if let Some(value) = self.open_end(py, consumer, end)? {
                        return Ok(Some(value));
                    }
                }
                None if batch.remaining() == 0 => return Ok(None),
                None => self.wait(py, &Arc::clone(batch), consumer.deadline)?,
            }
        }
    }

    /// The results of the next chunk; `None` at the end.
    fn next_chunk(&self, py: Python<'_>, consumer: &mut Consumer) -> PyResult<Option<Py<PyList>>> {
        consumer.given = None;
        let Some(first) = self.next(py, consumer)? else { return Ok(None) };
        let values = std::iter::once(first).chain(std::mem::take(&mut consumer.ready)).collect::<Vec<_>>();
        let list = PyList::new(py, values)?.unbind();
        consumer.given = Some(list.clone_ref(py));
        Ok(Some(list))
    }

    /// The value of a call; of a chunk, its results are put aside.
    fn open_end(&self, py: Python<'_>, consumer: &mut Consumer, end: End) -> PyResult<Option<Py<PyAny>>> {
        let reply = match end {
            End::Raised(error) => return Err(error),
            End::Of(Ending::Cancelled) => return Err(Names::cancelled(py)),
            End::Of(Ending::Failed(failure)) => return Err(Names::process_failure(py, &self.side, &failure)),
            End::Of(Ending::Reply(reply)) => reply,
        };
        if matches!(reply.kind, CHUNK | CHUNK_RAISED) {
            let (values, error) = self.side.pickling.chunk_values(py, reply.kind, &reply.payload);
            consumer.ready = values.into();
            consumer.error = error;
            return Ok(None);
        }
        let outcome: PyOutcome = self.side.pickling.value(py, reply.kind, &reply.payload)?;
        outcome.into_result(py).map(Some)
    }

    fn wait(&self, py: Python<'_>, batch: &Arc<RemoteBatch<Calls>>, deadline: Option<Instant>) -> PyResult<()> {
        if self.pool.is_forked() {
            return Err(Names::process_refusal(py, &SubmitError::Forked, false));
        }
        if enter::block(py, deadline, |until, _| Ok(batch.wait(until)))? {
            return Ok(());
        }
        Err(Names::timed_out(py, None))
    }

    /// Cancels what has not begun, and forgets the rest.
    fn end(consumer: &mut Consumer) {
        if let Some(batch) = consumer.batch.take() {
            batch.cancel();
        }
        consumer.ready.clear();
        consumer.error = None;
    }
}

impl Drop for ProcessMapIterator {
    /// As a generator: only one that has been started cancels what is left of it.
    fn drop(&mut self) {
        if let Ok(mut consumer) = self.consumer.try_lock()
            && consumer.has_started
        {
            Self::end(&mut consumer);
        }
    }
}

#[pymethods]
impl ProcessMapIterator {
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let mut consumer = self.lock()?;
        self.next(py, &mut consumer).map_err(|error| {
            Self::end(&mut consumer);
            not_stop_iteration(py, error)
        })
    }

    /// The results of the next chunk in a list, and None at the end: to take them one by one costs less there.
    fn next_list(&self, py: Python<'_>) -> PyResult<Option<Py<PyList>>> {
        let mut consumer = self.lock()?;
        self.next_chunk(py, &mut consumer).map_err(|error| {
            Self::end(&mut consumer);
            not_stop_iteration(py, error)
        })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Held by another thread, it is not garbage. What is still to be sent is held by the pool as well.
        let Ok(consumer) = self.consumer.try_lock() else { return Ok(()) };
        visit.call(&consumer.given)?;
        consumer.ready.iter().try_for_each(|value| visit.call(value))
    }

    fn __clear__(&self) {
        let ready = self.consumer.try_lock().map(|mut consumer| std::mem::take(&mut consumer.ready));
        drop(ready);
    }

    /// End the iteration; cancel what has not begun if it had started.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let mut consumer = self.lock()?;
        let given = consumer.given.take();
        if consumer.has_started {
            Self::end(&mut consumer);
        } else {
            consumer.batch = None;
        }
        drop(consumer);
        // What has been given out and not been taken is gone too.
        given.map_or(Ok(()), |list| list.bind(py).call_method0(intern!(py, "clear")).map(drop))
    }
}
