//! The codec without a pool, for its tests.

use std::collections::HashMap;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use crate::codec::{Function, Pickling};
use crate::serve::PythonHandler;

/// Calls and replies of worker processes, as bytes.
#[pyclass(frozen, module = "raddle._native")]
pub(crate) struct Codec {
    pickling: Pickling,
}

#[pymethods]
impl Codec {
    #[new]
    #[pyo3(signature = (by_value=true, is_worker=false))]
    fn new(py: Python<'_>, by_value: bool, is_worker: bool) -> PyResult<Self> {
        let make = if is_worker { Pickling::of_worker } else { Pickling::new };
        Ok(Self { pickling: make(py, by_value)? })
    }

    /// Whether a worker that imports the function by its name gets this one.
    fn is_importable(&self, function: &Bound<'_, PyAny>) -> bool {
        self.pickling.is_importable(function)
    }

    /// The bytes of a function, for a definition.
    fn function<'py>(&self, function: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(function.py(), &self.pickling.function(function)?))
    }

    /// The bytes of a call; `function` is a function, or the number of one that was defined.
    #[pyo3(signature = (function, args, kwargs=None, context=Vec::new()))]
    fn call<'py>(
        &self,
        function: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
        context: Vec<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let py = function.py();
        let mut out = Vec::new();
        self.pickling.context(py, &context, &mut out)?;
        self.with_callee(function, |callee| match args.len() {
            1 if kwargs.is_none() => self.pickling.call_one(callee, &args.get_item(0)?, &mut out),
            _ => self.pickling.call(py, callee, args, kwargs, &mut out),
        })?;
        Ok(PyBytes::new(py, &out))
    }

    /// The bytes of many calls of one function.
    fn chunk<'py>(
        &self,
        function: &Bound<'py, PyAny>,
        items: Vec<Bound<'py, PyTuple>>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let py = function.py();
        let mut out = Vec::new();
        self.with_callee(function, |callee| self.pickling.chunk(py, callee, &items, &mut out))?;
        Ok(PyBytes::new(py, &out))
    }

    /// Run a call as a worker does; the kind of the reply, and the reply.
    #[pyo3(signature = (task, definitions=HashMap::new(), context=Vec::new()))]
    fn run<'py>(
        &self,
        py: Python<'py>,
        task: &[u8],
        definitions: HashMap<u64, Vec<u8>>,
        context: Vec<Py<PyAny>>,
    ) -> (u16, Bound<'py, PyBytes>) {
        let mut reply = Vec::new();
        let kind = PythonHandler::new(py, &self.pickling, context).run_once(definitions, task.to_vec(), &mut reply);
        (kind, PyBytes::new(py, &reply))
    }

    /// The value of a reply; its exception is raised.
    fn value(&self, py: Python<'_>, kind: u16, reply: &[u8]) -> PyResult<Py<PyAny>> {
        self.pickling.value(py, kind, reply)?.into_result(py)
    }

    /// The values of a chunk's reply, and the exception after them.
    fn chunk_values(&self, py: Python<'_>, kind: u16, reply: &[u8]) -> (Vec<Py<PyAny>>, Option<Py<PyAny>>) {
        let (values, error) = self.pickling.chunk_values(py, kind, reply);
        (values, error.map(|error| error.into_value(py).into_any()))
    }

    /// A call, shortened for a message.
    #[pyo3(signature = (task, definitions=HashMap::new()))]
    fn describe(&self, py: Python<'_>, task: &[u8], definitions: HashMap<u64, Vec<u8>>) -> String {
        self.pickling.describe(py, task, |number| definitions.get(&number).cloned())
    }
}

impl Codec {
    fn with_callee(
        &self,
        function: &Bound<'_, PyAny>,
        write: impl FnOnce(Function<'_>) -> PyResult<()>,
    ) -> PyResult<()> {
        if let Ok(number) = function.extract() {
            return write(Function::Defined(number));
        }
        write(Function::Inline(&self.pickling.function(function)?))
    }
}
