//! `raddle.timeline`: the engine's recorder, what tasks are called, and who holds the interpreter lock.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use pyo3::exceptions::{PyBaseException, PyRuntimeError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyFunction, PyList, PyString, PyTuple, PyType};

use raddle::events::{Name, is_listening};
use raddle::timeline::{Interpreter, InterpreterLock, LaneKind, Recorder, Timeline, note_interpreter_thread};

use crate::gil_state;

/// What a task that runs `function` is called, if somebody listens. Runs no code of a user's.
pub(crate) fn name_of(function: &Bound<'_, PyAny>) -> Option<Name> {
    if !is_listening() {
        return None;
    }
    note_this_thread(function.py());
    Some(called(function, 0))
}

/// So many functions may lie in each other, as `functools.partial` has it.
const DEEPEST: u32 = 8;

#[cold]
fn called(function: &Bound<'_, PyAny>, depth: u32) -> Name {
    let py = function.py();
    // Of these types the attributes are the interpreter's own.
    let is_plain = function.is_exact_instance_of::<PyFunction>()
        || function.is_exact_instance_of::<PyCFunction>()
        || function.is_exact_instance_of::<PyType>();
    if is_plain
        && let Ok(name) = function.getattr(intern!(py, "__name__"))
        && let Ok(name) = name.cast_exact::<PyString>()
    {
        return Name::of(&name.to_string_lossy());
    }
    let kind = function.get_type();
    let name = kind.name().map_or_else(|_| "a callable".into(), |name| name.to_string_lossy().into_owned());
    let inner = match name.as_str() {
        "partial" => function.getattr(intern!(py, "func")).ok(),
        "method" => function.getattr(intern!(py, "__func__")).ok(),
        _ => None,
    };
    match inner {
        Some(inner) if depth < DEEPEST && is_of_the_library(&kind) => called(&inner, depth + 1),
        _ => Name::of(&name),
    }
}

/// Whether the type is `functools.partial` or that of bound methods, and no type of a user's with such a name.
fn is_of_the_library(kind: &Bound<'_, PyType>) -> bool {
    kind.module().is_ok_and(|module| module.to_string_lossy() == "functools" || module.to_string_lossy() == "builtins")
}

/// An exception in a line, made without code of a user's.
pub(crate) fn error_line(error: &Bound<'_, PyBaseException>) -> String {
    let name = error.get_type().name().map_or_else(|_| "an error".into(), |name| name.to_string());
    let args = error.getattr(intern!(error.py(), "args")).ok();
    let first = args.and_then(|args| args.cast_into_exact::<PyTuple>().ok()).and_then(|args| args.get_item(0).ok());
    match first.and_then(|first| first.cast_into_exact::<PyString>().ok()) {
        Some(text) => format!("{name}: {}", text.to_string_lossy().lines().next().unwrap_or_default()),
        None => name,
    }
}

/// The calling thread, which holds the interpreter, is one that a recording may see.
pub(crate) fn note_this_thread(_py: Python<'_>) {
    // SAFETY: the interpreter is held.
    let state = unsafe { ffi::PyThreadState_Get() };
    note_interpreter_thread(state.addr());
}

/// As above, if somebody listens.
#[inline]
pub(crate) fn note_this_thread_if_asked(py: Python<'_>) {
    if is_listening() {
        note_this_thread(py);
    }
}

struct Gil;

impl Interpreter for Gil {
    fn holder(&self) -> usize {
        gil_state::holder()
    }

    fn lock_memory(&self) -> Option<Range<usize>> {
        gil_state::memory()
    }
}

/// A recording of what the executors of this process do.
#[pyclass(module = "raddle._native", frozen)]
pub(crate) struct Recording {
    recorder: Mutex<Option<Recorder>>,
    is_sampled: bool,
}

#[pymethods]
impl Recording {
    /// Begin to record; keep so many tasks at most.
    #[new]
    fn new(py: Python<'_>, most_tasks: usize) -> Self {
        note_this_thread(py);
        let is_sampled = gil_state::is_known();
        let interpreter = is_sampled.then(|| Box::new(Gil) as Box<dyn Interpreter>);
        let recorder = Recorder::start_with(most_tasks, interpreter);
        Self { recorder: Mutex::new(Some(recorder)), is_sampled }
    }

    /// End the recording; return it in plain values.
    fn finish<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let recorder = self.recorder.lock().unwrap_or_else(PoisonError::into_inner).take();
        let recorder = recorder.ok_or_else(|| PyRuntimeError::new_err("the recording has ended already"))?;
        let timeline = py.detach(|| recorder.finish());
        record(py, &timeline, self.is_sampled)
    }
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}

fn index(index: Option<usize>) -> i64 {
    index.map_or(-1, |index| i64::try_from(index).unwrap_or(-1))
}

fn record<'py>(py: Python<'py>, timeline: &Timeline, is_sampled: bool) -> PyResult<Bound<'py, PyDict>> {
    let record = PyDict::new(py);
    record.set_item("began", seconds(timeline.began.duration_since(UNIX_EPOCH).unwrap_or_default()))?;
    record.set_item("duration", seconds(timeline.duration))?;
    record.set_item("dropped", timeline.dropped)?;
    record.set_item("processes", processes(py, timeline)?)?;
    record.set_item("lanes", lanes(py, timeline)?)?;
    record.set_item("tasks", tasks(py, timeline)?)?;
    record.set_item("gil", gil(py, timeline.interpreter.as_ref(), is_sampled)?)?;
    record.set_item("fetches", fetches(py, timeline)?)?;
    record.set_item("locks", locks(py, timeline)?)?;
    record.set_item("names", PyList::new(py, &timeline.names)?)?;
    record.set_item("summary", timeline.summary())?;
    Ok(record)
}

fn processes<'py>(py: Python<'py>, timeline: &Timeline) -> PyResult<Bound<'py, PyList>> {
    let rows = timeline.processes.iter().map(|process| {
        let row = PyDict::new(py);
        row.set_item("pid", process.pid)?;
        row.set_item("name", &process.name)?;
        row.set_item("ended", process.ended.map(seconds))?;
        row.set_item("end", &process.end)?;
        Ok(row)
    });
    PyList::new(py, rows.collect::<PyResult<Vec<_>>>()?)
}

fn lanes<'py>(py: Python<'py>, timeline: &Timeline) -> PyResult<Bound<'py, PyList>> {
    let rows = timeline.lanes.iter().map(|lane| {
        let row = PyDict::new(py);
        let kind = match lane.kind {
            LaneKind::Process => "process",
            LaneKind::Caller => "caller",
            LaneKind::Fetch => "fetch",
            _ => "thread",
        };
        row.set_item("process", lane.process)?;
        row.set_item("executor", index(lane.executor))?;
        row.set_item("kind", kind)?;
        row.set_item("name", &lane.name)?;
        row.set_item("tid", lane.tid)?;
        Ok(row)
    });
    PyList::new(py, rows.collect::<PyResult<Vec<_>>>()?)
}

fn tasks<'py>(py: Python<'py>, timeline: &Timeline) -> PyResult<Bound<'py, PyDict>> {
    let columns = PyDict::new(py);
    let tasks = &timeline.tasks;
    macro_rules! column {
        ($name:literal, $value:expr) => {
            columns.set_item($name, PyList::new(py, tasks.iter().map($value))?)?;
        };
    }
    column!("lane", |task| index(task.lane));
    column!("label", |task| index(task.name));
    column!("executor", |task| index(task.executor));
    column!("submitted", |task| task.submitted.map_or(0.0, seconds));
    column!("started", |task| task.started.map(seconds));
    column!("ended", |task| task.ended.map(seconds));
    column!("state", |task| task.state as u8);
    column!("attempt", |task| task.attempt);
    column!("error", |task| index(task.error));
    column!("bytes_in", |task| task.bytes_in);
    column!("bytes_out", |task| task.bytes_out);
    column!("submitter", |task| index(task.submitter));
    column!("task", |task| task.number);
    Ok(columns)
}

fn fetches<'py>(py: Python<'py>, timeline: &Timeline) -> PyResult<Bound<'py, PyList>> {
    let rows = timeline.fetches.iter().map(|fetch| {
        let row = PyDict::new(py);
        let phases = fetch.phases.iter().map(|(phase, from, to)| (*phase, seconds(*from), seconds(*to)));
        let phases = phases.map(|phase| phase.into_pyobject(py)).collect::<PyResult<Vec<_>>>()?;
        row.set_item("lane", fetch.lane)?;
        row.set_item("url", fetch.url)?;
        row.set_item("phases", PyList::new(py, phases)?)?;
        row.set_item("status", fetch.status)?;
        row.set_item("bytes", fetch.bytes)?;
        row.set_item("error", index(fetch.error))?;
        Ok(row)
    });
    PyList::new(py, rows.collect::<PyResult<Vec<_>>>()?)
}

fn locks<'py>(py: Python<'py>, timeline: &Timeline) -> PyResult<Bound<'py, PyList>> {
    let rows = timeline.locks.iter().map(|wait| {
        let row = PyDict::new(py);
        row.set_item("lane", wait.lane)?;
        row.set_item("lock", index(wait.lock))?;
        row.set_item("holder", index(wait.holder))?;
        row.set_item("start", seconds(wait.start))?;
        row.set_item("end", seconds(wait.end))?;
        Ok(row)
    });
    PyList::new(py, rows.collect::<PyResult<Vec<_>>>()?)
}

fn gil<'py>(py: Python<'py>, lock: Option<&InterpreterLock>, is_sampled: bool) -> PyResult<Bound<'py, PyDict>> {
    let spans = |spans: &[(usize, Duration, Duration)]| {
        let rows = spans.iter().map(|(lane, from, to)| (*lane, seconds(*from), seconds(*to)));
        PyList::new(py, rows.map(|row| row.into_pyobject(py)).collect::<PyResult<Vec<_>>>()?)
    };
    let row = PyDict::new(py);
    row.set_item("sampled", is_sampled && lock.is_some())?;
    row.set_item("period", lock.map_or(0.0, |lock| seconds(lock.period)))?;
    row.set_item("holder", spans(lock.map_or(&[], |lock| &lock.holder))?)?;
    row.set_item("waiting", spans(lock.and_then(|lock| lock.waiting.as_deref()).unwrap_or_default())?)?;
    // Where the system does not say what threads sleep on, nobody can be seen to wait.
    row.set_item("waits_seen", lock.is_some_and(|lock| lock.waiting.is_some()))?;
    Ok(row)
}
