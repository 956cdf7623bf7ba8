//! How functions and values are pickled: what another process can import by its name, the rest as its code.
//!
//! Invariant: of two pickles that the other process can read, the quicker one is made.

use std::collections::HashSet;
use std::ffi::CStr;
use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::{PyAttributeError, PyModuleNotFoundError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple, PyType};

use crate::apart::{Apart, BufferCollector, LEAST_APART};
use crate::codec::plain;
use crate::instance::{PlainClasses, Reducers};
use crate::named_globals::named_globals;
use crate::no_memory::with_sizes;

/// The protocol of all pickles: that of Python 3.8 and later.
const PROTOCOL: u8 = 5;

/// How functions and values are pickled: as the standard library's pool does it, or also by value.
pub(crate) struct Pickling {
    /// Whether what another process cannot import is sent as its code.
    pub(crate) by_value: bool,
    /// Whether the other process is the program.
    is_worker: bool,
    dumps: Py<PyAny>,
    pub(crate) loads: Py<PyAny>,
    pickling_error: Py<PyAny>,
    /// The class.
    pickle_buffer: Py<PyAny>,
    /// `raddle._pickling`.
    pub(crate) module: Py<PyModule>,
    /// `sys.modules`.
    pub(crate) modules: Py<PyDict>,
    pub(crate) reducers: Reducers,
    pub(crate) plain_classes: PlainClasses,
    /// Names of modules that another process can import: it is found out once.
    importable: Mutex<HashSet<Box<str>>>,
    /// Where the large parts of values go.
    pub(crate) apart: Apart,
    /// What is passed to the pickler for them, while it is not used.
    collector: Mutex<Option<(Py<BufferCollector>, Py<PyDict>)>>,
}

impl Pickling {
    /// By value: the default. Else as `multiprocessing` pickles.
    pub(crate) fn new(py: Python<'_>, by_value: bool) -> PyResult<Self> {
        Self::of_side(py, by_value, false)
    }

    /// The same for what a worker sends.
    pub(crate) fn of_worker(py: Python<'_>, by_value: bool) -> PyResult<Self> {
        Self::of_side(py, by_value, true)
    }

    fn of_side(py: Python<'_>, by_value: bool, is_worker: bool) -> PyResult<Self> {
        let pickle = py.import("_pickle")?;
        let module = py.import("raddle._pickling")?.unbind();
        Ok(Self {
            by_value,
            is_worker,
            dumps: pickle.getattr("dumps")?.unbind(),
            loads: pickle.getattr("loads")?.unbind(),
            pickling_error: pickle.getattr("PicklingError")?.unbind(),
            pickle_buffer: pickle.getattr("PickleBuffer")?.unbind(),
            reducers: Reducers::new(py, &module)?,
            plain_classes: PlainClasses::default(),
            module,
            modules: py.import("sys")?.getattr("modules")?.cast_into::<PyDict>()?.unbind(),
            importable: Mutex::default(),
            apart: Apart::Nowhere,
            collector: Mutex::default(),
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

    /// The module and the name of a function, unless the name has dots in it.
    pub(crate) fn place_of(&self, function: &Bound<'_, PyAny>) -> Option<(Py<PyString>, Py<PyString>)> {
        let py = function.py();
        let [module, name] = [intern!(py, "__module__"), intern!(py, "__qualname__")]
            .map(|attribute| function.getattr(attribute).ok()?.cast_into_exact::<PyString>().ok());
        let name = name.filter(|name| name.to_str().is_ok_and(|name| !name.contains('.')))?;
        Some((module?.unbind(), name.unbind()))
    }

    /// Whether the function is what this process finds there.
    pub(crate) fn is_at(&self, function: &Bound<'_, PyAny>, module: &Py<PyString>, name: &Py<PyString>) -> bool {
        let py = function.py();
        matches!(self.find_loaded(py, module, name), Ok(Some(found)) if found.is(function))
    }

    /// What this process finds under a name without dots, if the module is loaded.
    pub(crate) fn find_loaded<'py>(
        &self,
        py: Python<'py>,
        module: &Py<PyString>,
        name: &Py<PyString>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(module) = self.modules.bind(py).get_item(module)? else { return Ok(None) };
        module.getattr_opt(name)
    }

    /// A pickle that the other process can read.
    pub(crate) fn pickle<'py>(&self, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        self.pickle_whole(value).map_err(|error| with_sizes(value.py(), error, value))
    }

    fn pickle_whole<'py>(&self, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        let py = value.py();
        if !self.by_value {
            return self.dumps_forking(value, None);
        }
        let dumped = self.dumps.bind(py).call1((value, PROTOCOL));
        self.complete(value, dumped, || false)
    }

    /// The same of a value whose large parts may lie apart; what stands in its place if they do.
    pub(crate) fn pickle_apart<'py>(&self, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        let py = value.py();
        if let Apart::Nowhere = self.apart {
            return self.pickle(value);
        }
        if let Some(placed) = self.apart.put_plain(value) {
            return Ok(placed);
        }
        let (collector, keywords) = self.take_collector(py)?;
        let pickled = if self.by_value {
            let dumped = self.dumps.bind(py).call((value, PROTOCOL), Some(keywords.bind(py)));
            self.complete(value, dumped, || !collector.get().take().is_empty())
        } else {
            self.dumps_forking(value, Some(collector.bind(py)))
        };
        let buffers = collector.get().take();
        *self.collector.lock().unwrap_or_else(PoisonError::into_inner) = Some((collector, keywords));
        let pickled = pickled.map_err(|error| with_sizes(py, error, value))?;
        if buffers.is_empty() && pickled.as_bytes().len() < LEAST_APART {
            return Ok(pickled);
        }
        if !buffers.is_empty() && holds_bare_buffer(value, &self.pickle_buffer, 2)? {
            drop(buffers);
            return self.pickle(value);
        }
        match self.apart.put_pickle(&pickled, &buffers, || is_inert(value, 3)) {
            Some(placed) => Ok(placed),
            None if buffers.is_empty() => Ok(pickled),
            // There is no room: it has to go in one piece.
            None => {
                drop(buffers);
                self.pickle(value)
            }
        }
    }

    /// Whether a value is pickled without the code of anything: then it can be read in this process too.
    pub(crate) fn is_plain(&self, value: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = value.py();
        let (collector, keywords) = self.take_collector(py)?;
        let dumped = self.dumps.bind(py).call((value, PROTOCOL), Some(keywords.bind(py)));
        drop(collector.get().take());
        *self.collector.lock().unwrap_or_else(PoisonError::into_inner) = Some((collector, keywords));
        let Ok(bytes) = dumped else { return Ok(false) };
        let bytes = bytes.cast_into::<PyBytes>()?;
        let named = named_globals(bytes.as_bytes());
        Ok(named.is_empty() || self.is_readable(py, &named)?)
    }

    /// A collector of buffers, and the keyword arguments by which a pickler gets it.
    fn take_collector(&self, py: Python<'_>) -> PyResult<(Py<BufferCollector>, Py<PyDict>)> {
        if let Some(kept) = self.collector.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Ok(kept);
        }
        let collector = Py::new(py, BufferCollector::new())?;
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "buffer_callback"), &collector)?;
        Ok((collector, keywords.unbind()))
    }

    fn dumps_forking<'py>(
        &self,
        value: &Bound<'py, PyAny>,
        collector: Option<&Bound<'py, BufferCollector>>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let py = value.py();
        let bytes = self.module.bind(py).call_method1(intern!(py, "dumps_forking"), (value, collector))?;
        Ok(bytes.cast_into::<PyBytes>()?)
    }

    /// What the C pickler made of a value, or what the slower one makes of it; that has no buffers apart, so those of the
    /// former are dropped then: `had_buffers` does that and tells whether there were any.
    fn complete<'py>(
        &self,
        value: &Bound<'py, PyAny>,
        dumped: PyResult<Bound<'py, PyAny>>,
        had_buffers: impl FnOnce() -> bool,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let py = value.py();
        let plain = match dumped {
            Ok(bytes) => {
                let bytes = bytes.cast_into::<PyBytes>()?;
                let named = named_globals(bytes.as_bytes());
                if named.is_empty() || self.is_readable(py, &named)? {
                    return Ok(bytes);
                }
                // What `multiprocessing` pickles in its own way is not done with yet.
                if had_buffers() || self.reducers.has_some_of(py, &named)? {
                    None
                } else {
                    let named = named.into_pyobject(py)?;
                    Some((bytes, named))
                }
            }
            Err(error) if self.may_be_by_value(py, &error) => {
                had_buffers();
                None
            }
            Err(error) => {
                had_buffers();
                return Err(error);
            }
        };
        let slower = py.import("raddle._by_value")?;
        let bytes = slower.call_method1(intern!(py, "dumps_by_value"), (value, self.is_worker, plain))?;
        Ok(bytes.cast_into::<PyBytes>()?)
    }

    /// Whether an error of the pickler may be for want of what only the slower one can do.
    fn may_be_by_value(&self, py: Python<'_>, error: &PyErr) -> bool {
        error.is_instance(py, self.pickling_error.bind(py))
            || error.is_instance_of::<PyAttributeError>(py)
            || error.is_instance_of::<PyTypeError>(py)
            || error.is_instance_of::<PyModuleNotFoundError>(py)
    }

    /// Whether the other process can import all that a pickle names, and there is no other way that it should be pickled.
    fn is_readable(&self, py: Python<'_>, named: &[(&str, &str)]) -> PyResult<bool> {
        for (module, name) in named {
            let is_there = if *module == "__main__" {
                self.is_worker && self.has_come(py, name)?
            } else {
                self.is_importable_module(py, module)?
            };
            if !is_there {
                return Ok(false);
            }
        }
        Ok(!self.reducers.has_some_of(py, named)?)
    }

    /// Whether a name of this worker's `__main__` is of the program's.
    fn has_come(&self, py: Python<'_>, name: &str) -> PyResult<bool> {
        let first = name.split('.').next().unwrap_or_default();
        py.import("raddle._main_globals")?.call_method1(intern!(py, "has_come"), (first,))?.extract()
    }

    pub(crate) fn is_importable_module(&self, py: Python<'_>, name: &str) -> PyResult<bool> {
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

/// Whether a value, in containers so many deep, consists of arrays of numbers and of plain values: then no code of anybody's runs
/// when it is dropped. What is not looked at is not.
fn is_inert(value: &Bound<'_, PyAny>, depth: usize) -> bool {
    const MOST: usize = 100;
    if let Ok(items) = value.cast_exact::<PyDict>() {
        let are_inert =
            |(key, item): (Bound<'_, PyAny>, Bound<'_, PyAny>)| is_plain_value(&key) && is_inert(&item, depth - 1);
        return depth > 0 && items.len() <= MOST && items.iter().all(are_inert);
    }
    if let Ok(items) = value.cast_exact::<PyList>() {
        return depth > 0 && items.len() <= MOST && items.iter().all(|item| is_inert(&item, depth - 1));
    }
    if let Ok(items) = value.cast_exact::<PyTuple>() {
        return depth > 0 && items.len() <= MOST && items.iter().all(|item| is_inert(&item, depth - 1));
    }
    is_plain_value(value) || is_array_of_numbers(value).unwrap_or(false)
}

fn is_plain_value(value: &Bound<'_, PyAny>) -> bool {
    plain(value, usize::MAX).is_some()
}

/// Whether it is an array, or a view of one, of whose memory no object of another class is the owner.
fn is_array_of_numbers(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = value.py();
    let mut owner = value.clone();
    while !owner.is_none() {
        // SAFETY: the class is alive, and so is its name, which ends with a zero. Only that of an extension's class has a dot.
        let name = unsafe { CStr::from_ptr((*owner.get_type().as_type_ptr()).tp_name) };
        if name != c"numpy.ndarray" {
            return Ok(false);
        }
        owner = owner.getattr(intern!(py, "base"))?;
    }
    Ok(!value.getattr(intern!(py, "dtype"))?.getattr(intern!(py, "hasobject"))?.is_truthy()?)
}

/// Whether a `PickleBuffer` is itself passed, in containers so many deep: it arrives as `bytes` or `bytearray` from a pickle in
/// one piece alone.
fn holds_bare_buffer(value: &Bound<'_, PyAny>, class: &Py<PyAny>, depth: usize) -> PyResult<bool> {
    let is_buffer = value.get_type().is(class);
    if is_buffer || depth == 0 {
        return Ok(is_buffer);
    }
    if let Ok(items) = value.cast_exact::<PyDict>() {
        return items
            .iter()
            .try_fold(false, |holds, (_, item)| Ok(holds || holds_bare_buffer(&item, class, depth - 1)?));
    }
    if value.is_exact_instance_of::<PyTuple>() || value.is_exact_instance_of::<PyList>() {
        return value
            .try_iter()?
            .try_fold(false, |holds, item| Ok(holds || holds_bare_buffer(&item?, class, depth - 1)?));
    }
    Ok(false)
}

/// Pickles a value as a task of the default pool is pickled.
#[pyfunction]
#[pyo3(name = "pickle")]
pub(crate) fn pickle_once<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    Pickling::new(value.py(), true)?.pickle(value)
}

/// The modules and names that a pickle names; the name is empty for a module itself.
#[pyfunction]
#[pyo3(name = "named_globals")]
pub(crate) fn named_globals_of(pickle: &[u8]) -> Vec<(&str, &str)> {
    named_globals(pickle)
}

/// A number that changes when an attribute of a class does; 0 if it has none.
#[pyfunction]
pub(crate) fn type_version(class: &Bound<'_, PyType>) -> u32 {
    // SAFETY: the interpreter is held, and the class is alive.
    unsafe { (*class.as_type_ptr()).tp_version_tag }
}
