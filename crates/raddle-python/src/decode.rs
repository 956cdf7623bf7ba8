//! Bytes as objects again: what a call passes, what a reply means, and a call shortened for a message.
//!
//! Invariant: whatever the bytes are, the end is an object or an error.

use pyo3::exceptions::{PyBaseException, PyKeyboardInterrupt};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

use crate::apart::Sketched;
use crate::codec::Pickling;
use crate::job::PyOutcome;
use crate::layout::{
    self, Arguments, CHUNK, CHUNK_RAISED, Call, Damaged, Function, Listed, RAISED, RETURNED, Told, UNREADABLE, Value,
};
use crate::placing::is_apart;

/// What lies apart and is longer is not read for a message: `LARGEST` of `_sketch.py`.
const MOST_SKETCHED: u64 = 1 << 20;

/// A pickle that is whole, of something else than belongs there.
const OTHER: Damaged = Damaged { what: "a pickle in it is of something else" };

/// What was called with what, made again.
pub(crate) enum Passed<'py> {
    One(Bound<'py, PyAny>),
    Tuple(Bound<'py, PyTuple>),
    WithKeywords(Bound<'py, PyTuple>, Bound<'py, PyDict>),
    Ones(Vec<Bound<'py, PyAny>>),
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
        Self::Damaged(OTHER)
    }
}

/// The results of a chunk: those before the first error, and that.
type ChunkEnd = (Vec<Py<PyAny>>, Option<Py<PyBaseException>>);

impl Pickling {
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

    fn load_chunk(&self, py: Python<'_>, kind: u16, payload: &[u8]) -> Result<ChunkEnd, Unreadable> {
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
            Arguments::Pickled(pickle) => {
                Passed::Tuple(self.load(py, pickle)?.cast_into::<PyTuple>().map_err(|_| OTHER)?)
            }
            Arguments::WithKeywords(pickle) => {
                let pair = self.load(py, pickle)?;
                let (args, kwargs) = pair.extract().map_err(|_| OTHER)?;
                Passed::WithKeywords(args, kwargs)
            }
            Arguments::Ones(values) => {
                Passed::Ones(values.map(|value| self.load_value(py, value)).collect::<Result<_, _>>()?)
            }
            Arguments::Rows(rows) => Passed::Many(rows.map(|row| self.load_tuple(py, row)).collect::<Result<_, _>>()?),
            Arguments::PickledRows(pickle) => {
                let list = self.load(py, pickle)?;
                Passed::Many(list.extract().map_err(|_| OTHER)?)
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
        Ok(list.extract().map_err(|_| OTHER)?)
    }

    fn load_tuple<'py>(&self, py: Python<'py>, values: layout::Values<'_>) -> Result<Bound<'py, PyTuple>, Unreadable> {
        let values = values.map(|value| self.load_value(py, value)).collect::<Result<Vec<_>, _>>()?;
        Ok(PyTuple::new(py, values)?)
    }

    #[inline(always)]
    pub(crate) fn load_value<'py>(&self, py: Python<'py>, value: Value<'_>) -> Result<Bound<'py, PyAny>, Unreadable> {
        Ok(match value {
            Value::None => py.None().into_bound(py),
            Value::Bool(bool) => PyBool::new(py, bool).to_owned().into_any(),
            Value::Int(int) => PyInt::new(py, int).into_any(),
            Value::Float(float) => PyFloat::new(py, float).into_any(),
            Value::Text(text) => PyString::from_bytes(py, text.as_bytes())?.into_any(),
            Value::Bytes(bytes) => bytes_of(py, bytes)?.into_any(),
            Value::Pickle(pickle) => self.load(py, pickle)?,
            Value::Object(object) => self.load_instance(py, object)?,
        })
    }

    fn load<'py>(&self, py: Python<'py>, pickle: &[u8]) -> Result<Bound<'py, PyAny>, Unreadable> {
        let loads = self.loads.bind(py);
        if is_apart(pickle) {
            return self.apart.load(loads, pickle);
        }
        Ok(loads.call1((bytes_of(py, pickle)?,))?)
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
        if let Arguments::One(Value::Object(object)) = arguments {
            let name = object.class.rsplit(':').next().unwrap_or_default();
            return Ok(format!("({name}(...))"));
        }
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
                    Passed::Ones(items) => {
                        let rows = items.iter().map(|item| PyTuple::new(py, [item])).collect::<PyResult<Vec<_>>>()?;
                        (PyList::new(py, rows)?.into_any(), "rows")
                    }
                    Passed::Many(rows) => (PyList::new(py, rows)?.into_any(), "rows"),
                };
                return Ok(sketches.call_method1(intern!(py, "sketch"), plain)?.extract()?);
            }
        };
        let (pickle, buffers) = if is_apart(pickle) {
            match self.apart.sketched(self.loads.bind(py), pickle, MOST_SKETCHED)? {
                Sketched::Pickle(pickle, buffers) => (pickle, buffers),
                Sketched::Value(value) => {
                    return Ok(sketches.call_method1(intern!(py, "sketch"), (value, "one"))?.extract()?);
                }
                Sketched::Large(bytes) => {
                    return Ok(sketches.call_method1(intern!(py, "sketch_size"), (bytes,))?.extract()?);
                }
            }
        } else {
            (bytes_of(py, pickle)?, 0)
        };
        Ok(sketches.call_method1(intern!(py, "sketch_pickle"), (pickle, form, buffers))?.extract()?)
    }
}

fn bytes_of<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    PyBytes::new_with(py, bytes.len(), |place| {
        place.copy_from_slice(bytes);
        Ok(())
    })
}
