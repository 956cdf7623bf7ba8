//! How functions and values are pickled: what another process can import by its name, the rest as its code.
//!
//! Invariant: of two pickles that the other process can read, the quicker one is made.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::{PyAttributeError, PyModuleNotFoundError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};

use crate::named_modules::named_modules;

/// The protocol of all pickles: that of Python 3.8 and later.
const PROTOCOL: u8 = 5;

/// How functions and values are pickled: as the standard library's pool does it, or also by value.
pub(crate) struct Pickling {
    /// Whether what another process cannot import is sent as its code.
    by_value: bool,
    dumps: Py<PyAny>,
    pub(crate) loads: Py<PyAny>,
    pickling_error: Py<PyAny>,
    /// `raddle._pickling`.
    pub(crate) module: Py<PyModule>,
    /// `sys.modules`.
    modules: Py<PyDict>,
    /// Names of modules that another process can import: it is found out once.
    importable: Mutex<HashSet<Box<str>>>,
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
