//! What the standard library's `wait` and `as_completed` reach for in a future: `_condition` and `_waiters`.
//!
//! They are made when somebody first asks. From then on the future changes its state only with the condition held, and
//! tells the waiters before it lets go: to the standard library it looks like one of its own.

use pyo3::prelude::*;
use pyo3::types::{PyList, PyWeakrefReference};

use raddle::future::{Gate, State};

use crate::names::Names;

/// The pair of objects, and the future that they belong to.
pub(crate) struct StandardGate {
    pub(crate) condition: Py<PyAny>,
    pub(crate) waiters: Py<PyList>,
    future: Py<PyWeakrefReference>,
}

impl StandardGate {
    pub(crate) fn new(future: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = future.py();
        Ok(Self {
            condition: Names::get(py).make_condition.call0(py)?,
            waiters: PyList::empty(py).unbind(),
            future: PyWeakrefReference::new(future)?.unbind(),
        })
    }

    /// Takes the condition and lets go of it: whoever held it has finished what it was doing.
    pub(crate) fn pass_by(&self, py: Python<'_>) -> PyResult<()> {
        self.condition.call_method0(py, "acquire")?;
        self.condition.call_method0(py, "release").map(drop)
    }

    fn tell(&self, py: Python<'_>, state: State) -> PyResult<()> {
        if state.is_settled() {
            let method = if state == State::Finished { "add_result" } else { "add_cancelled" };
            if let Some(future) = self.future.bind(py).upgrade() {
                let method = if has_exception(&future)? { "add_exception" } else { method };
                for waiter in self.waiters.bind(py).iter() {
                    waiter.call_method1(method, (&future,))?;
                }
            }
        }
        if state.is_done() {
            self.condition.call_method0(py, "notify_all")?;
        }
        Ok(())
    }
}

fn has_exception(future: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(!future.getattr("_exception")?.is_none())
}

impl Gate for StandardGate {
    fn pass(&self, change: &mut dyn FnMut() -> Option<State>) {
        Python::attach(|py| {
            let held = self.condition.call_method0(py, "acquire");
            let told = change().map_or(Ok(()), |state| self.tell(py, state));
            let released = held.and_then(|_| self.condition.call_method0(py, "release"));
            for error in [told.err(), released.err()].into_iter().flatten() {
                error.write_unraisable(py, None);
            }
        });
    }
}
