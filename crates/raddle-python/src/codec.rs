//! Objects as bytes and back, on both sides (submit -> queue -> TRANSPORT -> worker -> result).
//!
//! What is int, float, str, None, bool or bytes goes by an encoding of its own (`layout.rs`); everything else is pickled, what
//! belongs together in one pickle. Invariant: a payload that was damaged gives an error; on an error nothing is appended.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::{
    PyAttributeError, PyBaseException, PyKeyboardInterrupt, PyMemoryError, PyModuleNotFoundError, PyTypeError,
};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};
use pyo3::{ffi, intern};

pub(crate) use crate::layout::{Function, is_failure};

use crate::job::PyOutcome;
use crate::layout::{
    self, Arguments, CHUNK, CHUNK_RAISED, Call, Damaged, Listed, OutOfMemory, RAISED, RETURNED, Told, UNREADABLE, Value,
};
use crate::named_modules::named_modules;

/// The protocol of all pickles: that of Python 3.8 and later.
const PROTOCOL: u8 = 5;

/// How functions and values are pickled: as the standard library's pool does it, or also by value.
pub(crate) struct Pickling {
    /// Whether what another process cannot import is sent as its code.
    by_value: bool,
    dumps: Py<PyAny>,
    loads: Py<PyAny>,
    pickling_error: Py<PyAny>,
    /// `raddle._pickling`.
    module: Py<PyModule>,
    /// `sys.modules`.
    modules: Py<PyDict>,
    /// Names of modules that another process can import: it is found out once.
    importable: Mutex<HashSet<Box<str>>>,
}

impl From<OutOfMemory> for PyErr {
    fn from(_: OutOfMemory) -> Self {
        PyMemoryError::new_err("there is no memory for the bytes of a task or a result")
    }
}

/// The value as what it is, unless it has to be pickled.
#[inline]
fn plain<'a>(value: &'a Bound<'_, PyAny>) -> Option<Value<'a>> {
    if let Ok(int) = value.cast_exact::<PyInt>() {
        return int.extract().ok().map(Value::Int);
    }
    if let Ok(text) = value.cast_exact::<PyString>() {
        // One with lone surrogates has no UTF-8.
        return text.to_str().ok().map(Value::Text);
    }
    if let Ok(float) = value.cast_exact::<PyFloat>() {
        return Some(Value::Float(float.value()));
    }
    if value.is_none() {
        return Some(Value::None);
    }
    if let Ok(bool) = value.cast_exact::<PyBool>() {
        return Some(Value::Bool(bool.is_true()));
    }
    value.cast_exact::<PyBytes>().ok().map(|bytes| Value::Bytes(bytes.as_bytes()))
}

/// Appends what `write` appends; nothing if it fails.
fn whole<R>(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> PyResult<R>) -> PyResult<R> {
    let start = out.len();
    let written = write(out);
    if written.is_err() {
        out.truncate(start);
    }
    written
}

/// Appends all values, or says at which it cannot: nothing is promised of `out` then.
fn push_plain_values<'a, 'py: 'a>(
    out: &mut Vec<u8>,
    values: impl Iterator<Item = Bound<'py, PyAny>>,
) -> PyResult<bool> {
    for value in values {
        let Some(plain) = plain(&value) else { return Ok(false) };
        layout::push_value(out, plain)?;
    }
    Ok(true)
}

/// What was called with what, made again.
pub(crate) enum Passed<'py> {
    One(Bound<'py, PyAny>),
    Tuple(Bound<'py, PyTuple>),
    WithKeywords(Bound<'py, PyTuple>, Bound<'py, PyDict>),
    Many(Vec<Bound<'py, PyTuple>>),
}

/// Why bytes cannot be made into objects.
pub(crate) enum Unreadable {
    Damaged(Damaged),
    Raised(PyErr),
}

impl From<Damaged> for Unreadable {
    fn from(damaged: Damaged) -> Self {
        Self::Damaged(damaged)
    }
}

impl From<PyErr> for Unreadable {
    fn from(error: PyErr) -> Self {
        Self::Raised(error)
    }
}

impl From<pyo3::CastError<'_, '_>> for Unreadable {
    fn from(_: pyo3::CastError<'_, '_>) -> Self {
        Self::Damaged(Damaged { what: "a pickle in it is of something else" })
    }
}

impl Pickling {
    /// By value: the default. Else as `multiprocessing` pickles.
    pub(crate) fn new(py: Python<'_>, by_value: bool) -> PyResult<Self> {
        let pickle = py.import("_pickle")?;
        Ok(Self {
            by_value,
            dumps: pickle.getattr("dumps")?.unbind(),
            loads: pickle.getattr("loads")?.unbind(),
            pickling_error: pickle.getattr("PicklingError")?.unbind(),
            module: py.import("raddle._pickling")?.unbind(),
            modules: py.import("sys")?.getattr("modules")?.cast_into::<PyDict>()?.unbind(),
            importable: Mutex::default(),
        })
    }

    /// Whether another process that imports the function by its name gets this one.
    pub(crate) fn is_importable(&self, function: &Bound<'_, PyAny>) -> bool {
        self.find_importable(function).unwrap_or(false)
    }

    fn find_importable(&self, function: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = function.py();
        let module = function.getattr(intern!(py, "__module__"))?.cast_into::<PyString>()?;
        let name = function.getattr(intern!(py, "__qualname__"))?.cast_into::<PyString>()?;
        let Some(mut found) = self.modules.bind(py).get_item(&module)? else { return Ok(false) };
        for part in name.to_str()?.split('.') {
            found = found.getattr(part)?;
        }
        Ok(found.is(function) && (!self.by_value || self.is_importable_module(py, module.to_str()?)?))
    }

    /// A function's bytes, for a definition or for a call.
    pub(crate) fn function(&self, function: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
        let py = function.py();
        let name = self.module.bind(py).call_method1(intern!(py, "name_of"), (function,))?;
        let pickle = self.pickle(function)?;
        let mut bytes = Vec::new();
        layout::push_function(&mut bytes, &name.cast::<PyString>()?.to_string_lossy(), pickle.as_bytes())?;
        Ok(bytes)
    }

    /// Appends the values that these context variables have for the caller: before its call.
    pub(crate) fn context(&self, py: Python<'_>, variables: &[Py<PyAny>], out: &mut Vec<u8>) -> PyResult<()> {
        let mut values = Vec::new();
        for (index, variable) in variables.iter().enumerate() {
            if let Some(value) = context_value(variable.bind(py))? {
                values.push((index, value));
            }
        }
        if values.is_empty() {
            return Ok(());
        }
        let pickle = self.pickle(values.into_pyobject(py)?.as_any())?;
        whole(out, |out| Ok(layout::push_context(out, pickle.as_bytes())?))
    }

    /// Appends a call.
    pub(crate) fn call(
        &self,
        py: Python<'_>,
        function: Function<'_>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
        out: &mut Vec<u8>,
    ) -> PyResult<()> {
        let kwargs = kwargs.filter(|kwargs| !kwargs.is_empty());
        whole(out, |out| {
            layout::push_callee(out, function)?;
            if let Some(kwargs) = kwargs {
                let pickle = self.pickle((args, kwargs).into_pyobject(py)?.as_any())?;
                return Ok(layout::push_with_keywords(out, pickle.as_bytes())?);
            }
            let start = out.len();
            if let Ok(count) = u8::try_from(args.len()) {
                layout::push_plain(out, count);
                if push_plain_values(out, args.iter())? {
                    return Ok(());
                }
                out.truncate(start);
            }
            let pickle = self.pickle(args.as_any())?;
            Ok(layout::push_pickled(out, pickle.as_bytes())?)
        })
    }

    /// Appends a call with one positional argument.
    #[inline]
    pub(crate) fn call_one(&self, function: Function<'_>, arg: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> PyResult<()> {
        whole(out, |out| {
            layout::push_callee(out, function)?;
            layout::push_one(out);
            self.push_value(arg, out)
        })
    }

    /// Appends many calls of one function, as one task.
    pub(crate) fn chunk(
        &self,
        py: Python<'_>,
        function: Function<'_>,
        items: &[Bound<'_, PyTuple>],
        out: &mut Vec<u8>,
    ) -> PyResult<()> {
        whole(out, |out| {
            layout::push_callee(out, function)?;
            let start = out.len();
            if push_plain_rows(items, out)? {
                return Ok(());
            }
            out.truncate(start);
            let pickle = self.pickle(PyList::new(py, items)?.as_any())?;
            Ok(layout::push_pickled_rows(out, pickle.as_bytes())?)
        })
    }

    /// Appends a value: the payload of the reply `RETURNED`.
    #[inline]
    pub(crate) fn push_value(&self, value: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> PyResult<()> {
        if let Some(plain) = plain(value) {
            return Ok(layout::push_value(out, plain)?);
        }
        let pickle = self.pickle(value)?;
        Ok(layout::push_value(out, Value::Pickle(pickle.as_bytes()))?)
    }

    /// Appends the results of a chunk.
    pub(crate) fn push_values(&self, py: Python<'_>, values: &[Py<PyAny>], out: &mut Vec<u8>) -> PyResult<()> {
        let start = out.len();
        layout::push_listed(out, values.len());
        if push_plain_values(out, values.iter().map(|value| value.bind(py).clone()))? {
            return Ok(());
        }
        out.truncate(start);
        let pickle = self.pickle(PyList::new(py, values)?.as_any())?;
        Ok(layout::push_pickled_list(out, pickle.as_bytes())?)
    }

    /// Appends an error, and lets go of the frames of its traceback. Never fails: what cannot be pickled is told.
    pub(crate) fn push_error(&self, py: Python<'_>, error: PyErr, out: &mut Vec<u8>) {
        let error = error.into_value(py).into_bound(py);
        let text = self.tell(&error);
        let (text, pickle) = match self.pickle(error.as_any()) {
            Ok(pickle) => (text, Some(pickle)),
            // As with a result that cannot be pickled, the error is that of the pickling, and its traceback has both.
            Err(failed) => {
                let failed = failed.into_value(py).into_bound(py);
                // SAFETY: both are exceptions, the interpreter is held, and the call takes a reference of its own.
                unsafe { ffi::PyException_SetContext(failed.as_ptr(), error.clone().into_ptr()) };
                let why = self.tell(&failed);
                let both =
                    ToldText { traceback: format!("{}\n{PICKLING}\n\n{}", text.traceback, why.traceback), ..why };
                (both, self.pickle(failed.as_any()).ok())
            }
        };
        let told = text.with(pickle.as_ref().map(|pickle| pickle.as_bytes()));
        if told.push(out).is_err() {
            let short = Told { message: "there is no memory for the error", traceback: "", exception: None, ..told };
            let _ = short.push(out);
        }
    }

    /// Appends why a call could not be rebuilt.
    pub(crate) fn push_unreadable(&self, py: Python<'_>, why: Unreadable, out: &mut Vec<u8>) {
        let text = match why {
            Unreadable::Raised(error) => self.tell(&error.into_value(py).into_bound(py)),
            Unreadable::Damaged(Damaged { what }) => {
                ToldText { class: "damaged bytes".into(), message: what.into(), traceback: String::new() }
            }
        };
        let _ = text.with(None).push(out);
    }

    /// An exception's traceback as text.
    pub(crate) fn traceback_of(&self, py: Python<'_>, error: PyErr) -> String {
        self.tell(&error.into_value(py).into_bound(py)).traceback
    }

    fn tell(&self, error: &Bound<'_, PyBaseException>) -> ToldText {
        let py = error.py();
        let told = self.module.bind(py).call_method1(intern!(py, "tell"), (error,));
        match told.and_then(|told| told.extract()) {
            Ok((class, message, traceback)) => ToldText { class, message, traceback },
            Err(_) => ToldText { class: "BaseException".into(), message: String::new(), traceback: String::new() },
        }
    }

    /// What a reply means.
    ///
    /// # Errors
    /// `KeyboardInterrupt` while it is unpickled: the reply has not been read, and may be read again.
    pub(crate) fn value(&self, py: Python<'_>, kind: u16, payload: &[u8]) -> PyResult<PyOutcome> {
        let read = match kind {
            RETURNED => layout::parse_value(payload)
                .map_err(Unreadable::from)
                .and_then(|value| self.load_value(py, value))
                .map(|value| PyOutcome::Returned(value.unbind())),
            RAISED | UNREADABLE => Told::parse(payload)
                .map_err(Unreadable::from)
                .and_then(|told| Ok(self.raised(py, kind, told)?))
                .map(PyOutcome::Raised),
            _ => Err(Damaged { what: "a reply is of an unknown kind" }.into()),
        };
        read.or_else(|why| self.lost(py, why).map(PyOutcome::Raised))
    }

    /// The results of a chunk: those before the first error, and that.
    pub(crate) fn chunk_values(&self, py: Python<'_>, kind: u16, payload: &[u8]) -> (Vec<Py<PyAny>>, Option<PyErr>) {
        match self.load_chunk(py, kind, payload) {
            Ok((values, error)) => (values, error.map(|error| PyErr::from_value(error.into_bound(py).into_any()))),
            Err(why) => {
                let lost = self.lost(py, why).map(|error| PyErr::from_value(error.into_bound(py).into_any()));
                (Vec::new(), Some(lost.unwrap_or_else(|error| error)))
            }
        }
    }

    fn load_chunk(
        &self,
        py: Python<'_>,
        kind: u16,
        payload: &[u8],
    ) -> Result<(Vec<Py<PyAny>>, Option<Py<PyBaseException>>), Unreadable> {
        if matches!(kind, RAISED | UNREADABLE) {
            let error = self.raised(py, kind, Told::parse(payload)?)?;
            return Ok((Vec::new(), Some(error)));
        }
        if !matches!(kind, CHUNK | CHUNK_RAISED) {
            return Err(Damaged { what: "a reply is of an unknown kind" }.into());
        }
        let (listed, told) = layout::parse_chunk(payload, kind == CHUNK_RAISED)?;
        let values = match listed {
            Listed::Plain(values) => {
                values.map(|value| self.load_value(py, value).map(Bound::unbind)).collect::<Result<_, _>>()?
            }
            Listed::Pickled(pickle) => {
                let list = self.load(py, pickle)?;
                list.cast::<PyList>()?.iter().map(Bound::unbind).collect()
            }
        };
        let error = told.map(|told| self.raised(py, kind, told)).transpose()?;
        Ok((values, error))
    }

    fn raised(&self, py: Python<'_>, kind: u16, told: Told<'_>) -> PyResult<Py<PyBaseException>> {
        let method = if kind == UNREADABLE { intern!(py, "unreadable") } else { intern!(py, "raised") };
        let exception = told.exception.map(|pickle| bytes_of(py, pickle)).transpose()?;
        let arguments = (exception, told.class, told.message, told.traceback);
        let error = self.module.bind(py).call_method1(method, arguments)?;
        Ok(error.cast_into::<PyBaseException>()?.unbind())
    }

    /// The exception of a reply that cannot be read.
    fn lost(&self, py: Python<'_>, why: Unreadable) -> PyResult<Py<PyBaseException>> {
        let module = self.module.bind(py);
        let error = match why {
            Unreadable::Raised(error) if error.is_instance_of::<PyKeyboardInterrupt>(py) => return Err(error),
            Unreadable::Raised(error) => module.call_method1(intern!(py, "value_lost"), (error.into_value(py),))?,
            Unreadable::Damaged(Damaged { what }) => module.call_method1(intern!(py, "damaged"), (what,))?,
        };
        Ok(error.cast_into::<PyBaseException>()?.unbind())
    }

    /// The function that a definition or a call names.
    pub(crate) fn load_function<'py>(&self, py: Python<'py>, bytes: &[u8]) -> Result<Bound<'py, PyAny>, Unreadable> {
        let (_, pickle) = layout::parse_function(bytes)?;
        self.load(py, pickle)
    }

    /// What a call passes to its function.
    pub(crate) fn load_arguments<'py>(
        &self,
        py: Python<'py>,
        arguments: Arguments<'_>,
    ) -> Result<Passed<'py>, Unreadable> {
        Ok(match arguments {
            Arguments::One(value) => Passed::One(self.load_value(py, value)?),
            Arguments::Plain(values) => Passed::Tuple(self.load_tuple(py, values)?),
            Arguments::Pickled(pickle) => Passed::Tuple(self.load(py, pickle)?.cast_into::<PyTuple>().map_err(other)?),
            Arguments::WithKeywords(pickle) => {
                let pair = self.load(py, pickle)?;
                let (args, kwargs) =
                    pair.extract().map_err(|_| Damaged { what: "a pickle in it is of something else" })?;
                Passed::WithKeywords(args, kwargs)
            }
            Arguments::Rows(rows) => Passed::Many(rows.map(|row| self.load_tuple(py, row)).collect::<Result<_, _>>()?),
            Arguments::PickledRows(pickle) => {
                let list = self.load(py, pickle)?;
                Passed::Many(list.extract().map_err(|_| Damaged { what: "a pickle in it is of something else" })?)
            }
        })
    }

    /// The values of context variables, each with the variable's place.
    pub(crate) fn load_context<'py>(
        &self,
        py: Python<'py>,
        pickle: &[u8],
    ) -> Result<Vec<(usize, Bound<'py, PyAny>)>, Unreadable> {
        let list = self.load(py, pickle)?;
        Ok(list.extract().map_err(|_| Damaged { what: "a pickle in it is of something else" })?)
    }

    fn load_tuple<'py>(&self, py: Python<'py>, values: layout::Values<'_>) -> Result<Bound<'py, PyTuple>, Unreadable> {
        let values = values.map(|value| self.load_value(py, value)).collect::<Result<Vec<_>, _>>()?;
        Ok(PyTuple::new(py, values)?)
    }

    #[inline]
    fn load_value<'py>(&self, py: Python<'py>, value: Value<'_>) -> Result<Bound<'py, PyAny>, Unreadable> {
        Ok(match value {
            Value::None => py.None().into_bound(py),
            Value::Bool(bool) => PyBool::new(py, bool).to_owned().into_any(),
            Value::Int(int) => PyInt::new(py, int).into_any(),
            Value::Float(float) => PyFloat::new(py, float).into_any(),
            Value::Text(text) => PyString::from_bytes(py, text.as_bytes())?.into_any(),
            Value::Bytes(bytes) => bytes_of(py, bytes)?.into_any(),
            Value::Pickle(pickle) => self.load(py, pickle)?,
        })
    }

    fn load<'py>(&self, py: Python<'py>, pickle: &[u8]) -> Result<Bound<'py, PyAny>, Unreadable> {
        Ok(self.loads.bind(py).call1((bytes_of(py, pickle)?,))?)
    }

    /// A call shortened, for an error. `definition` gives the bytes of a function that was defined.
    pub(crate) fn describe(
        &self,
        py: Python<'_>,
        payload: &[u8],
        definition: impl FnOnce(u64) -> Option<Vec<u8>>,
    ) -> String {
        let Ok(call) = Call::parse(payload) else { return "a task whose bytes are damaged".into() };
        let defined;
        let function = match call.function {
            Function::Inline(bytes) => bytes,
            Function::Defined(number) => {
                defined = definition(number).unwrap_or_default();
                &defined
            }
        };
        let name = layout::parse_function(function).map_or("a function", |(name, _)| name);
        self.sketch(py, call.arguments)
            .map_or_else(|_| format!("{name}(...)"), |arguments| format!("{name}{arguments}"))
    }

    fn sketch(&self, py: Python<'_>, arguments: Arguments<'_>) -> Result<String, Unreadable> {
        let sketches = py.import("raddle._sketch")?;
        let (form, pickle) = match arguments {
            Arguments::One(Value::Pickle(pickle)) => ("one", pickle),
            Arguments::Pickled(pickle) => ("positional", pickle),
            Arguments::WithKeywords(pickle) => ("keywords", pickle),
            Arguments::PickledRows(pickle) => ("rows", pickle),
            plain => {
                let plain = match self.load_arguments(py, plain)? {
                    Passed::One(value) => (PyTuple::new(py, [value])?.into_any(), "positional"),
                    Passed::Tuple(args) => (args.into_any(), "positional"),
                    Passed::WithKeywords(args, _) => (args.into_any(), "positional"),
                    Passed::Many(rows) => (PyList::new(py, rows)?.into_any(), "rows"),
                };
                return Ok(sketches.call_method1(intern!(py, "sketch"), plain)?.extract()?);
            }
        };
        let pickle = bytes_of(py, pickle)?;
        Ok(sketches.call_method1(intern!(py, "sketch_pickle"), (pickle, form))?.extract()?)
    }

    /// A pickle that the other process can read.
    pub(crate) fn pickle<'py>(&self, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        let py = value.py();
        if !self.by_value {
            let bytes = self.module.bind(py).call_method1(intern!(py, "dumps_forking"), (value,))?;
            return Ok(bytes.cast_into::<PyBytes>()?);
        }
        // multiprocessing registers how its classes are pickled: objects of them there are only when it is loaded.
        let first = if self.modules.bind(py).contains(intern!(py, "multiprocessing.reduction"))? {
            self.module.bind(py).call_method1(intern!(py, "dumps_with_reducers"), (value,))
        } else {
            self.dumps.bind(py).call1((value, PROTOCOL))
        };
        let mut strangers = Vec::new();
        match first {
            Ok(bytes) => {
                let bytes = bytes.cast_into::<PyBytes>()?;
                if self.find_strangers(py, bytes.as_bytes(), &mut strangers)? == 0 {
                    return Ok(bytes);
                }
            }
            Err(error) if self.may_be_by_value(py, &error) => {}
            Err(error) => return Err(error),
        }
        self.pickle_by_value(value, strangers)
    }

    /// Whether an error of the pickler may be for want of what only the slower one can do.
    fn may_be_by_value(&self, py: Python<'_>, error: &PyErr) -> bool {
        error.is_instance(py, self.pickling_error.bind(py))
            || error.is_instance_of::<PyAttributeError>(py)
            || error.is_instance_of::<PyTypeError>(py)
            || error.is_instance_of::<PyModuleNotFoundError>(py)
    }

    fn pickle_by_value<'py>(
        &self,
        value: &Bound<'py, PyAny>,
        mut strangers: Vec<String>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let py = value.py();
        loop {
            let arguments = (value, &strangers);
            let bytes = self.module.bind(py).call_method1(intern!(py, "dumps_by_value"), arguments)?;
            let bytes = bytes.cast_into::<PyBytes>()?;
            // What was copied may name more that has to be.
            if self.find_strangers(py, bytes.as_bytes(), &mut strangers)? == 0 {
                return Ok(bytes);
            }
        }
    }

    /// Adds the modules that a pickle names and that another process cannot import; says how many are new.
    fn find_strangers(&self, py: Python<'_>, pickle: &[u8], strangers: &mut Vec<String>) -> PyResult<usize> {
        let before = strangers.len();
        for module in named_modules(pickle) {
            if !strangers.iter().any(|known| known == module) && !self.is_importable_module(py, module)? {
                strangers.push(module.to_owned());
            }
        }
        Ok(strangers.len() - before)
    }

    fn is_importable_module(&self, py: Python<'_>, name: &str) -> PyResult<bool> {
        if self.importable.lock().unwrap_or_else(PoisonError::into_inner).contains(name) {
            return Ok(true);
        }
        // Not under the lock: finders of modules are asked, which are Python.
        let is: bool = self.module.bind(py).call_method1(intern!(py, "is_importable_module"), (name,))?.extract()?;
        if is {
            self.importable.lock().unwrap_or_else(PoisonError::into_inner).insert(name.into());
        }
        Ok(is)
    }
}

const PICKLING: &str = "The exception above could not be pickled:";

struct ToldText {
    class: String,
    message: String,
    traceback: String,
}

impl ToldText {
    fn with<'a>(&'a self, exception: Option<&'a [u8]>) -> Told<'a> {
        Told { class: &self.class, message: &self.message, traceback: &self.traceback, exception }
    }
}

fn other<T>(_: T) -> Damaged {
    Damaged { what: "a pickle in it is of something else" }
}

fn push_plain_rows(items: &[Bound<'_, PyTuple>], out: &mut Vec<u8>) -> PyResult<bool> {
    let Ok(count) = u32::try_from(items.len()) else { return Ok(false) };
    layout::push_rows(out, count);
    for item in items {
        let Ok(count) = u8::try_from(item.len()) else { return Ok(false) };
        layout::push_row(out, count);
        if !push_plain_values(out, item.iter())? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn bytes_of<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    PyBytes::new_with(py, bytes.len(), |place| {
        place.copy_from_slice(bytes);
        Ok(())
    })
}

/// The value that a context variable has for the caller, or its default.
fn context_value<'py>(variable: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = variable.py();
    let mut value = std::ptr::null_mut();
    // SAFETY: the interpreter is held; what is no context variable gives an error; `value` is a place for a pointer.
    if unsafe { ffi::PyContextVar_Get(variable.as_ptr(), std::ptr::null_mut(), &raw mut value) } < 0 {
        return Err(PyErr::fetch(py));
    }
    // SAFETY: the call left a new reference there, or NULL.
    Ok(unsafe { Bound::from_owned_ptr_or_opt(py, value) })
}
