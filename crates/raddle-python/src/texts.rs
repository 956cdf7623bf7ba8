//! Columns of strings in one piece (submit -> TRANSPORT -> worker): of an array of objects, and as one again.
//!
//! A string takes a tenth of what a pickler takes for it. Invariant: an array that holds anything but strings is left alone.

use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::apart::Exported;

/// Where each string of an array of objects ends, as 32-bit numbers, and all of them in UTF-8; None: something in it is no
/// string, or has no UTF-8, or it is too long.
#[pyfunction]
pub(crate) fn pack_texts<'py>(
    array: &Bound<'py, PyAny>,
) -> PyResult<Option<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)>> {
    let py = array.py();
    let exported = Exported::whole(array)?;
    let (mut ends, mut data) = (Vec::new(), Vec::new());
    for place in exported.objects() {
        // SAFETY: an array of objects holds a reference to each, or NULL; the interpreter is held, so none of them changes.
        let Some(item) = (unsafe { Bound::from_borrowed_ptr_or_opt(py, place) }) else { return Ok(None) };
        let Ok(text) = item.cast_exact::<pyo3::types::PyString>() else { return Ok(None) };
        let Ok(text) = text.to_str() else { return Ok(None) };
        data.extend_from_slice(text.as_bytes());
        let Ok(end) = u32::try_from(data.len()) else { return Ok(None) };
        ends.extend_from_slice(&end.to_ne_bytes());
    }
    Ok(Some((PyBytes::new(py, &ends), PyBytes::new(py, &data))))
}

/// The strings that `pack_texts` made into one piece.
#[pyfunction]
pub(crate) fn unpack_texts<'py>(ends: &Bound<'py, PyAny>, data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
    let py = ends.py();
    let (ends, data) = (Exported::whole(ends)?, Exported::whole(data)?);
    let damaged = || PyValueError::new_err("the ends of strings do not lie within their text");
    let mut start = 0;
    let texts = ends.numbers().map(|end| {
        let end = end as usize;
        let length = end.checked_sub(start).filter(|_| end <= data.len()).ok_or_else(damaged)?;
        let length = isize::try_from(length).map_err(|_| damaged())?;
        // SAFETY: the text is exported as long as `data` lives, and reaches that far. The call copies what it reads, checks
        // that it is UTF-8, and gives a new reference, or NULL with an exception set.
        let text = unsafe {
            let decoded = ffi::PyUnicode_DecodeUTF8(data.start().add(start).cast(), length, std::ptr::null());
            Bound::from_owned_ptr_or_err(py, decoded)
        };
        start = end;
        text
    });
    PyList::new(py, texts.collect::<PyResult<Vec<_>>>()?)
}

/// Whether two arrays hold the very same objects.
#[pyfunction]
pub(crate) fn same_objects(one: &Bound<'_, PyAny>, other: &Bound<'_, PyAny>) -> bool {
    let (Ok(one), Ok(other)) = (Exported::whole(one), Exported::whole(other)) else { return false };
    one.len() == other.len() && one.objects().eq(other.objects())
}
