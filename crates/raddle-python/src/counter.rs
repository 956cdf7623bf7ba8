//! `Counter`: the engine's, as an integer of Python.

use pyo3::exceptions::PyOverflowError;
use pyo3::prelude::*;

/// An integer that any number of threads can add to; no addition is lost, and no lock is needed.
///
/// Parameters
/// ----------
/// value : int
///     Where it starts.
///
/// Examples
/// --------
/// >>> from raddle import Counter
/// >>> counter = Counter()
/// >>> counter.add(), counter.add(10)
/// (1, 11)
/// >>> counter.value
/// 11
#[pyclass(module = "raddle", frozen, weakref)]
pub(crate) struct Counter(raddle::sync::Counter);

#[pymethods]
impl Counter {
    #[new]
    #[pyo3(signature = (value=0))]
    fn new(value: i64) -> Self {
        Self(raddle::sync::Counter::new(value))
    }

    /// Add `n` and return the new value.
    ///
    /// Raises
    /// ------
    /// OverflowError
    ///     The sum does not fit into 64 bits; the counter has kept its value.
    #[pyo3(signature = (n=1))]
    fn add(&self, n: i64) -> PyResult<i64> {
        self.0.add(n).map_err(|error| PyOverflowError::new_err(error.to_string()))
    }

    /// The present value.
    #[getter]
    fn value(&self) -> i64 {
        self.0.value()
    }

    fn __int__(&self) -> i64 {
        self.0.value()
    }

    fn __index__(&self) -> i64 {
        self.0.value()
    }

    fn __repr__(&self) -> String {
        format!("Counter({})", self.0.value())
    }
}
