//! The worker's side in Python (submit -> queue -> transport -> WORKER -> result): it makes calls of bytes, and bytes of results.
//!
//! Invariant: when a reply is sent, nothing of its task is alive here but what the function kept.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::ops::ControlFlow;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;

use raddle::process::arena::ProgramArena;
use raddle::process::lease::Lender;
use raddle::process::link::ANNOUNCEMENT;
use raddle::process::mapping::Mapping;
use raddle::process::notes::Notes;
use raddle::process::worker::{self, Handler, Holdings};

use crate::apart::Apart;
use crate::codec::{Function, Pickling};
use crate::decode::{Passed, Unreadable};
use crate::job::{copy_context, in_copy_of};
use crate::layout::{CHUNK, CHUNK_RAISED, Call, Damaged, RAISED, RETURNED, UNREADABLE};
use crate::numpy_memory;
use crate::segment_buffer;
use crate::worker_side::WorkerSide;

/// Serves a seat of a pool's mapping until the program says that it is over.
///
/// The descriptors are taken over; that of the arena is -1 if there is none. `initialize` is called first; `context` are the context variables that are set for tasks.
#[pyfunction]
#[pyo3(signature = (mapping_fd, words, seat, bell_fd, arena_fd, initialize, by_value, context=Vec::new()))]
#[expect(clippy::too_many_arguments, reason = "it is called once, by name")]
pub(crate) fn serve(
    py: Python<'_>,
    mapping_fd: i32,
    words: usize,
    seat: usize,
    bell_fd: i32,
    arena_fd: i32,
    initialize: Py<PyAny>,
    by_value: bool,
    context: Vec<Py<PyAny>>,
) -> PyResult<()> {
    // SAFETY: the caller hands both descriptors over, and uses them no more.
    let (mapping, bell) = unsafe { (OwnedFd::from_raw_fd(mapping_fd), OwnedFd::from_raw_fd(bell_fd)) };
    let mapping = Mapping::open(mapping, words)?;
    let bell = File::from(bell);
    let mut pickling = Pickling::of_worker(py, by_value)?;
    if arena_fd >= 0 {
        // SAFETY: as above.
        let arena = ProgramArena::open(unsafe { OwnedFd::from_raw_fd(arena_fd) })?;
        let side = WorkerSide::begin(arena, bell.try_clone()?);
        pickling.apart = Apart::Worker(side);
    }
    let mut handler = PythonHandler::new(py, &pickling, context);
    handler.initialize = Some(initialize);
    handler.bell = Some(Arc::new(bell));
    let served = worker::serve(&mapping, seat, &mut handler);
    if let Some(error) = handler.raised.take() {
        return Err(error);
    }
    served
        .map_err(|corrupt| PyRuntimeError::new_err(format!("the memory shared with the program is damaged: {corrupt}")))
}

/// By what this worker tells its program things, once it serves.
///
/// Taken with the interpreter held, and never for longer than that: so no fork finds it taken.
static TOLD_BY: Mutex<Option<(Notes, Arc<File>)>> = Mutex::new(None);

fn told_by() -> MutexGuard<'static, Option<(Notes, Arc<File>)>> {
    TOLD_BY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether this process is a worker, or a fork of one.
pub(crate) fn is_worker() -> bool {
    told_by().is_some()
}

fn ring(mut bell: &File) -> std::io::Result<usize> {
    bell.write(&1_u64.to_ne_bytes())
}

/// Tells the program something, in the order of the calls; False: this process serves no program.
#[pyfunction]
pub(crate) fn tell(py: Python<'_>, note: PyBackedBytes) -> bool {
    let Some((notes, bell)) = told_by().clone() else { return false };
    // While there is no room others go on.
    py.detach(|| notes.tell(&note, || drop(ring(&bell))))
}

pub(crate) struct PythonHandler<'a, 'py> {
    py: Python<'py>,
    pickling: &'a Pickling,
    definitions: HashMap<u64, Definition>,
    /// What to call before the first task.
    initialize: Option<Py<PyAny>>,
    /// The variables whose values come with tasks.
    context: Vec<Py<PyAny>>,
    /// By what the program is woken where it does not wait for replies.
    bell: Option<Arc<File>>,
    /// Of the process that serves the seat.
    generation: u32,
    /// What a signal handler of the user's has raised while there was no task.
    raised: Option<PyErr>,
}

/// A function: its bytes until it is needed.
enum Definition {
    Bytes(Vec<u8>),
    Made(Py<PyAny>),
}

impl Handler for PythonHandler<'_, '_> {
    fn connect(&mut self, notes: Notes) {
        if let Some(bell) = &self.bell {
            // What a fork of a worker has inherited is the other's.
            let before = told_by().replace((notes, Arc::clone(bell)));
            drop(before);
        }
    }

    fn start(&mut self) -> Result<(), String> {
        let Some(initialize) = self.initialize.take() else { return Ok(()) };
        let failed = initialize.call0(self.py).err();
        failed.map_or(Ok(()), |error| Err(self.pickling.traceback_of(self.py, error)))
    }

    fn lend(&mut self, lender: Lender) {
        segment_buffer::take_mark(lender.fork_mark());
        if let Apart::Worker(side) = &self.pickling.apart {
            side.take_lender(lender);
        }
    }

    fn holdings(&mut self) -> Holdings {
        match &self.pickling.apart {
            Apart::Worker(side) => side.settle(segment_buffer::holdings),
            _ => segment_buffer::holdings(),
        }
    }

    fn define(&mut self, number: u64, bytes: Vec<u8>) {
        if number == ANNOUNCEMENT {
            let announced = self.py.import(intern!(self.py, "raddle._announced"));
            if let Err(error) = announced.and_then(|module| module.call_method1("take", (bytes.as_slice(),))) {
                error.write_unraisable(self.py, None);
            }
            return;
        }
        self.definitions.insert(number, Definition::Bytes(bytes));
    }

    fn forget(&mut self, number: u64) {
        self.definitions.remove(&number);
    }

    fn run(&mut self, task: Vec<u8>, reply: &mut Vec<u8>) -> u16 {
        let _computing = self.bell.is_some().then(|| numpy_memory::Computing::begin(self.py));
        let start = reply.len();
        let called = match self.load(&task) {
            Ok(called) => called,
            Err(why) => {
                self.pickling.push_unreadable(self.py, why, reply);
                return UNREADABLE;
            }
        };
        drop(task);
        let kind = match called.passed {
            Passed::Ones(_) | Passed::Many(_) => self.run_chunk(called, reply),
            _ => self.run_one(called, reply),
        };
        kind.unwrap_or_else(|error| {
            reply.truncate(start);
            self.pickling.push_error(self.py, error, reply);
            RAISED
        })
    }

    fn ring_elsewhere(&mut self) {
        // It fails only if the counter is full: then the program has been told.
        let _ = self.bell.as_ref().map(|bell| ring(bell));
    }

    fn rest(&mut self, wait: &mut (dyn FnMut() + Send)) -> ControlFlow<()> {
        self.py.detach(wait);
        // Of the user's: the worker itself has none that raise.
        match self.py.check_signals() {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.raised = Some(error);
                ControlFlow::Break(())
            }
        }
    }
}

/// A call, made again.
struct Called<'py> {
    context: Vec<(usize, Bound<'py, PyAny>)>,
    function: Bound<'py, PyAny>,
    passed: Passed<'py>,
}

impl<'a, 'py> PythonHandler<'a, 'py> {
    pub(crate) fn new(py: Python<'py>, pickling: &'a Pickling, context: Vec<Py<PyAny>>) -> Self {
        Self {
            py,
            pickling,
            definitions: HashMap::new(),
            initialize: None,
            context,
            bell: None,
            generation: raddle::os::fork_generation(),
            raised: None,
        }
    }

    /// Runs one call, with these definitions.
    pub(crate) fn run_once(&mut self, definitions: HashMap<u64, Vec<u8>>, task: Vec<u8>, reply: &mut Vec<u8>) -> u16 {
        definitions.into_iter().for_each(|(number, bytes)| self.define(number, bytes));
        self.run(task, reply)
    }

    fn load(&mut self, task: &[u8]) -> Result<Called<'py>, Unreadable> {
        let call = Call::parse(task)?;
        let context = call.context.map(|pickle| self.pickling.load_context(self.py, pickle)).transpose()?;
        Ok(Called {
            context: context.unwrap_or_default(),
            function: self.function(call.function)?,
            passed: self.pickling.load_arguments(self.py, call.arguments)?,
        })
    }

    fn function(&mut self, function: Function<'_>) -> Result<Bound<'py, PyAny>, Unreadable> {
        let number = match function {
            Function::Inline(bytes) => return self.pickling.load_function(self.py, bytes),
            Function::Defined(number) => number,
        };
        let made = match self.definitions.get(&number) {
            None => return Err(Damaged { what: "its function was not defined" }.into()),
            Some(Definition::Made(function)) => return Ok(function.bind(self.py).clone()),
            Some(Definition::Bytes(bytes)) => self.pickling.load_function(self.py, bytes)?,
        };
        self.definitions.insert(number, Definition::Made(made.clone().unbind()));
        Ok(made)
    }

    fn run_one(&self, called: Called<'py>, reply: &mut Vec<u8>) -> PyResult<u16> {
        let Called { context, function, passed } = called;
        let value = self.within(&context, || match passed {
            Passed::One(arg) => function.call1((arg,)),
            Passed::Tuple(args) => function.call1(args),
            Passed::WithKeywords(args, kwargs) => function.call(args, Some(&kwargs)),
            Passed::Ones(_) | Passed::Many(_) => unreachable!("a chunk is run elsewhere"),
        })?;
        let start = reply.len();
        let Err(error) = self.pickling.push_value(&value, reply) else { return Ok(RETURNED) };
        reply.truncate(start);
        // A function of raddle's may know what to send in place of a result that cannot be sent.
        let Some(in_place) = function.getattr_opt(intern!(self.py, "_raddle_in_place_of"))? else { return Err(error) };
        let value = in_place.call1((value,))?;
        self.pickling.push_value(&value, reply)?;
        Ok(RETURNED)
    }

    /// Runs `body` with these values of context variables, if there are any; what it sets itself is gone after it.
    fn within(
        &self,
        values: &[(usize, Bound<'py, PyAny>)],
        body: impl FnOnce() -> PyResult<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if values.is_empty() {
            return self.in_this_process(body());
        }
        let here = copy_context(self.py)?;
        let in_context = || {
            for (place, value) in values {
                let Some(variable) = self.context.get(*place) else { continue };
                set_variable(variable.bind(self.py), value)?;
            }
            self.in_this_process(body()).map(Bound::unbind)
        };
        in_copy_of(self.py, Some(&here), in_context).map(|value| value.into_bound(self.py))
    }

    /// Gives the result of the user's function, unless this is a child of the worker that the function has forked and that
    /// returns as well: the seat is not the child's, so it ends here.
    fn in_this_process(&self, result: PyResult<Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        if raddle::os::fork_generation() == self.generation {
            return result;
        }
        let error = result.err().map(|error| error.into_value(self.py));
        let ended = self.py.import("raddle._forked").and_then(|forked| forked.call_method1("leave", (error,)));
        drop(ended);
        std::process::abort()
    }

    /// The results before the first error, and that.
    fn call_each<A>(
        &self,
        context: &[(usize, Bound<'py, PyAny>)],
        arguments: Vec<A>,
        call: impl Fn(A) -> PyResult<Bound<'py, PyAny>>,
    ) -> (Vec<Py<PyAny>>, Option<PyErr>) {
        let mut values = Vec::with_capacity(arguments.len());
        for argument in arguments {
            match self.within(context, || call(argument)) {
                Ok(value) => values.push(value.unbind()),
                Err(error) => return (values, Some(error)),
            }
        }
        (values, None)
    }

    fn run_chunk(&self, called: Called<'py>, reply: &mut Vec<u8>) -> PyResult<u16> {
        let Called { context, function, passed } = called;
        let (values, failed) = match passed {
            Passed::Ones(items) => self.call_each(&context, items, |item| function.call1((item,))),
            Passed::Many(rows) => self.call_each(&context, rows, |row| function.call1(row)),
            _ => unreachable!("only a chunk is run here"),
        };
        self.pickling.push_values(self.py, &values, reply)?;
        let Some(error) = failed else { return Ok(CHUNK) };
        self.pickling.push_error(self.py, error, reply);
        Ok(CHUNK_RAISED)
    }
}

fn set_variable(variable: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = variable.py();
    // SAFETY: the interpreter is held; what is no context variable gives an error; both pointers are live objects.
    let token = unsafe { ffi::PyContextVar_Set(variable.as_ptr(), value.as_ptr()) };
    // SAFETY: the call gives a new reference, or NULL with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, token) }.map(drop)
}
