//! The line of Python at which a lock was taken: noted at every acquisition, so it must cost next to nothing.

use std::cell::UnsafeCell;

use pyo3::prelude::*;
use pyo3::{ffi, intern};

/// Where a lock was taken: noted by its holder each time, made readable only for a report.
#[derive(Default)]
pub(crate) struct Site(UnsafeCell<Option<(Py<PyAny>, i32)>>);

// SAFETY: `note` is called by the holder of the lock, with the interpreter held. `read` is called with the interpreter held
// too, and for a deadlock or a holder that has ended: even where several threads hold the interpreter at once, the holder
// sleeps, or is gone, and notes nothing meanwhile; the graph's lock, which both have passed, orders the two.
unsafe impl Sync for Site {}

impl Site {
    /// Notes the line of Python that runs on this thread, which holds the lock.
    #[inline]
    pub(crate) fn note(&self, py: Python<'_>) {
        let Some((code, place)) = running_code(py) else { return };
        // SAFETY: by the proof above nobody else looks.
        let noted = unsafe { &mut *self.0.get() };
        match noted {
            Some((before, at)) if before.is(&code) => *at = place,
            _ => {
                let before = noted.replace((code.unbind(), place));
                drop(before);
            }
        }
    }

    pub(crate) fn read(&self, py: Python<'_>) -> Option<String> {
        // SAFETY: by the proof above nobody writes.
        let (code, place) = unsafe { &*self.0.get() }.as_ref()?;
        let code = code.bind(py);
        let file = code.getattr(intern!(py, "co_filename")).ok()?;
        let function = code.getattr(intern!(py, "co_name")).ok()?;
        Some(format!("{file}:{} in {function}", line(code, *place)))
    }
}

#[cfg(Py_3_11)]
unsafe extern "C" {
    // Public since 3.11; not among the declarations of pyo3.
    fn PyFrame_GetLasti(frame: *mut ffi::PyFrameObject) -> std::ffi::c_int;
}

/// The code that runs in the innermost Python frame of this thread, and a number from which [`line`] makes its line.
#[inline]
fn running_code(py: Python<'_>) -> Option<(Bound<'_, PyAny>, i32)> {
    // SAFETY: the interpreter is held. The frame is borrowed or NULL, and lives while we are called from it; its code is a
    // new reference and never NULL.
    unsafe {
        let frame = ffi::PyEval_GetFrame();
        if frame.is_null() {
            return None;
        }
        let code = Bound::from_owned_ptr(py, ffi::PyFrame_GetCode(frame).cast());
        #[cfg(Py_3_11)]
        let place = PyFrame_GetLasti(frame);
        #[cfg(not(Py_3_11))]
        let place = ffi::PyFrame_GetLineNumber(frame);
        Some((code, place))
    }
}

#[cfg(Py_3_11)]
fn line(code: &Bound<'_, PyAny>, place: i32) -> i32 {
    // SAFETY: it is the code object that was noted, and an offset into it.
    unsafe { ffi::PyCode_Addr2Line(code.as_ptr().cast(), place) }
}

#[cfg(not(Py_3_11))]
fn line(_code: &Bound<'_, PyAny>, place: i32) -> i32 {
    place
}
