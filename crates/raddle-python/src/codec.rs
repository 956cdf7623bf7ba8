//! Objects as bytes, on both sides (submit -> queue -> TRANSPORT -> worker -> result): calls here, results in the worker.
//!
//! What is int, float, str, None, bool or bytes goes by an encoding of its own (`layout.rs`), as does an object of a plain class
//! that is alone (`instance.rs`); everything else is pickled, what belongs together in one pickle, of which large parts lie
//! apart (`apart.rs`). Invariant: on an error nothing is appended.

use std::borrow::Borrow;

use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};
use pyo3::{ffi, intern};

pub(crate) use crate::layout::{Function, is_failure};
pub(crate) use crate::pickling::Pickling;

use crate::decode::Unreadable;
use crate::layout::{self, Damaged, OutOfMemory, Told, Value};
use crate::no_memory::no_memory;

impl From<OutOfMemory> for PyErr {
    fn from(OutOfMemory { wanted }: OutOfMemory) -> Self {
        no_memory(wanted as u64, "a task or a result")
    }
}

/// The value as what it is, unless it has to be pickled, or is longer than `most`.
#[inline(always)]
pub(crate) fn plain<'a>(value: &'a Bound<'_, PyAny>, most: usize) -> Option<Value<'a>> {
    if let Ok(int) = value.cast_exact::<PyInt>() {
        return int.extract().ok().map(Value::Int);
    }
    if let Ok(text) = value.cast_exact::<PyString>() {
        // One with lone surrogates has no UTF-8.
        return text.to_str().ok().filter(|text| text.len() <= most).map(Value::Text);
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
    let bytes = value.cast_exact::<PyBytes>().ok()?.as_bytes();
    (bytes.len() <= most).then_some(Value::Bytes(bytes))
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
    values: impl Iterator<Item = impl Borrow<Bound<'py, PyAny>>>,
    most: usize,
) -> PyResult<bool> {
    for value in values {
        let Some(plain) = plain(value.borrow(), most) else { return Ok(false) };
        layout::push_value(out, plain)?;
    }
    Ok(true)
}

impl Pickling {
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
                let pickle = self.pickle_apart((args, kwargs).into_pyobject(py)?.as_any())?;
                return Ok(layout::push_with_keywords(out, pickle.as_bytes())?);
            }
            let start = out.len();
            if let Ok(count) = u8::try_from(args.len()) {
                layout::push_plain(out, count);
                if push_plain_values(out, args.iter(), self.apart.most_within())? {
                    return Ok(());
                }
                out.truncate(start);
            }
            let pickle = self.pickle_apart(args.as_any())?;
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
            if push_plain_rows(items, out, self.apart.most_within())? {
                return Ok(());
            }
            out.truncate(start);
            let pickle = self.pickle_apart(PyList::new(py, items)?.as_any())?;
            Ok(layout::push_pickled_rows(out, pickle.as_bytes())?)
        })
    }

    /// As [`chunk`](Self::chunk), for calls with one positional argument each.
    pub(crate) fn chunk_of_ones(
        &self,
        py: Python<'_>,
        function: Function<'_>,
        items: &[Py<PyAny>],
        out: &mut Vec<u8>,
    ) -> PyResult<()> {
        whole(out, |out| {
            layout::push_callee(out, function)?;
            let start = out.len();
            layout::push_ones(out, items.len());
            if push_plain_values(out, items.iter().map(|item| item.bind(py)), self.apart.most_within())? {
                return Ok(());
            }
            out.truncate(start);
            let rows = items.iter().map(|item| PyTuple::new(py, [item])).collect::<PyResult<Vec<_>>>()?;
            let pickle = self.pickle_apart(PyList::new(py, rows)?.as_any())?;
            Ok(layout::push_pickled_rows(out, pickle.as_bytes())?)
        })
    }

    /// Appends a value: the payload of the reply `RETURNED`.
    #[inline]
    pub(crate) fn push_value(&self, value: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> PyResult<()> {
        if let Some(plain) = plain(value, self.apart.most_within()) {
            return Ok(layout::push_value(out, plain)?);
        }
        let start = out.len();
        if self.push_instance(value, out)? {
            return Ok(());
        }
        out.truncate(start);
        let pickle = self.pickle_apart(value)?;
        Ok(layout::push_value(out, Value::Pickle(pickle.as_bytes()))?)
    }

    /// Appends the results of a chunk.
    pub(crate) fn push_values(&self, py: Python<'_>, values: &[Py<PyAny>], out: &mut Vec<u8>) -> PyResult<()> {
        let start = out.len();
        layout::push_listed(out, values.len());
        if push_plain_values(out, values.iter().map(|value| value.bind(py)), self.apart.most_within())? {
            return Ok(());
        }
        out.truncate(start);
        let pickle = self.pickle_apart(PyList::new(py, values)?.as_any())?;
        Ok(layout::push_pickled_list(out, pickle.as_bytes())?)
    }

    /// Appends an error, and lets go of the frames of its traceback. Never fails: what cannot be pickled is told.
    pub(crate) fn push_error(&self, py: Python<'_>, error: PyErr, out: &mut Vec<u8>) {
        let error = error.into_value(py).into_bound(py);
        // As with a result that cannot be pickled, the error then is that of the pickling; its traceback tells both.
        let (error, pickle) = match self.pickle(error.as_any()) {
            Ok(pickle) => (error, Some(pickle)),
            Err(failed) => {
                let failed = failed.into_value(py).into_bound(py);
                put_after(&failed, error);
                let pickle = self.pickle(failed.as_any()).ok();
                (failed, pickle)
            }
        };
        let text = self.tell(&error);
        let start = out.len();
        let told = text.with(pickle.as_ref().map(|pickle| pickle.as_bytes()));
        if told.push(out).is_err() {
            out.truncate(start);
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
}

/// Has an exception say that it was raised while another was handled.
fn put_after(later: &Bound<'_, PyBaseException>, earlier: Bound<'_, PyBaseException>) {
    if !later.is(&earlier) {
        // SAFETY: both are exceptions, the interpreter is held, and the call takes over the reference to the second.
        unsafe { ffi::PyException_SetContext(later.as_ptr(), earlier.into_ptr()) };
    }
}

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

fn push_plain_rows(items: &[Bound<'_, PyTuple>], out: &mut Vec<u8>, most: usize) -> PyResult<bool> {
    let Ok(count) = u32::try_from(items.len()) else { return Ok(false) };
    layout::push_rows(out, count);
    for item in items {
        let Ok(count) = u8::try_from(item.len()) else { return Ok(false) };
        layout::push_row(out, count);
        if !push_plain_values(out, item.iter(), most)? {
            return Ok(false);
        }
    }
    Ok(true)
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
