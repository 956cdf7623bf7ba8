//! Columns of strings in one piece (submit -> TRANSPORT -> worker): of an array of objects, and as one again.
//!
//! A string takes a tenth of what a pickler takes for it. Invariant: an array that holds anything but strings is left alone.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use crate::apart::Exported;

/// So many of a column's first strings are looked at: if most of them come again, each is sent once.
const SAMPLE: usize = 1024;

/// Texts one after the other, in UTF-8, and where each ends, as 32-bit numbers.
struct Texts {
    ends: Vec<u8>,
    data: Vec<u8>,
}

impl Texts {
    fn with_room_for(count: usize) -> Self {
        Self { ends: Vec::with_capacity(4 * count), data: Vec::with_capacity(8 * count) }
    }

    /// Adds a string; `None`: it is no string, or has no UTF-8, or there are 4 GB of them.
    ///
    /// # Safety
    /// The place is of an array of objects, which holds a reference to each, or NULL.
    unsafe fn add(&mut self, py: Python<'_>, place: *mut ffi::PyObject) -> Option<()> {
        // SAFETY: as promised by the caller; the interpreter is held, so that the object stays.
        let item = unsafe { Bound::from_borrowed_ptr_or_opt(py, place) }?;
        let text = item.cast_exact::<PyString>().ok()?.to_str().ok()?;
        self.data.extend_from_slice(text.as_bytes());
        self.ends.extend_from_slice(&u32::try_from(self.data.len()).ok()?.to_ne_bytes());
        Some(())
    }
}

type Packed<'py> = (Option<Bound<'py, PyBytes>>, Bound<'py, PyBytes>, Bound<'py, PyBytes>);

/// The strings of an array of objects: where each ends, as 32-bit numbers, and all of them in UTF-8. If few strings stand in
/// many places, the first are the numbers of those in these places. None: something in it is no string, or has no UTF-8, or
/// it is too long.
#[pyfunction]
pub(crate) fn pack_texts<'py>(array: &Bound<'py, PyAny>) -> PyResult<Option<Packed<'py>>> {
    let py = array.py();
    let exported = Exported::whole(array)?;
    let first: HashSet<_> = exported.objects().take(SAMPLE).collect();
    if first.len() <= SAMPLE / 4
        && let Some((codes, texts)) = pack_distinct(py, &exported)
    {
        let codes = Some(PyBytes::new(py, &codes));
        return Ok(Some((codes, PyBytes::new(py, &texts.ends), PyBytes::new(py, &texts.data))));
    }
    let mut texts = Texts::with_room_for(exported.len() / size_of::<*mut ffi::PyObject>());
    for place in exported.objects() {
        // SAFETY: the array is one of objects.
        if unsafe { texts.add(py, place) }.is_none() {
            return Ok(None);
        }
    }
    Ok(Some((None, PyBytes::new(py, &texts.ends), PyBytes::new(py, &texts.data))))
}

/// Each object once, and for each place the number of its; `None` if they are too many, or not all strings.
fn pack_distinct(py: Python<'_>, exported: &Exported) -> Option<(Vec<u8>, Texts)> {
    let count = exported.len() / size_of::<*mut ffi::PyObject>();
    let mut texts = Texts::with_room_for(SAMPLE);
    let mut numbers = HashMap::new();
    let mut codes = Vec::with_capacity(4 * count);
    for place in exported.objects() {
        let next = u32::try_from(numbers.len()).ok()?;
        let number = match numbers.entry(place) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(_) if next as usize > count / 4 => return None,
            Entry::Vacant(new) => {
                // SAFETY: the array is one of objects.
                unsafe { texts.add(py, place) }?;
                *new.insert(next)
            }
        };
        codes.extend_from_slice(&number.to_ne_bytes());
    }
    Some((codes, texts))
}

/// Fills an array of objects with the strings that `pack_texts` made into one piece.
#[pyfunction]
pub(crate) fn unpack_texts<'py>(
    codes: Option<&Bound<'py, PyAny>>,
    ends: &Bound<'py, PyAny>,
    data: &Bound<'py, PyAny>,
    column: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let damaged = || PyValueError::new_err("these are not the texts of a column of so many strings");
    let column = Exported::writable(column)?;
    let places = column.len() / size_of::<*mut ffi::PyObject>();
    let py = ends.py();
    let (ends, data) = (Exported::whole(ends)?, Exported::whole(data)?);
    let mut texts = texts_of(py, &ends, &data);
    if let Some(codes) = codes {
        let codes = Exported::whole(codes)?;
        let texts = texts.collect::<PyResult<Vec<_>>>()?;
        if codes.numbers().count() != places {
            return Err(damaged());
        }
        for (place, code) in codes.numbers().enumerate() {
            column.put(place, texts.get(code as usize).ok_or_else(damaged)?.clone());
        }
        return Ok(());
    }
    for place in 0..places {
        column.put(place, texts.next().ok_or_else(damaged)??);
    }
    Ok(())
}

/// Each text as a string of Python.
fn texts_of<'py>(
    py: Python<'py>,
    ends: &Exported,
    data: &Exported,
) -> impl Iterator<Item = PyResult<Bound<'py, PyAny>>> {
    let mut start = 0;
    ends.numbers().map(move |end| {
        let end = end as usize;
        let damaged = || PyValueError::new_err("the ends of strings do not lie within their text");
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
    })
}

/// Whether two arrays hold the very same objects.
#[pyfunction]
pub(crate) fn same_objects(one: &Bound<'_, PyAny>, other: &Bound<'_, PyAny>) -> bool {
    let (Ok(one), Ok(other)) = (Exported::whole(one), Exported::whole(other)) else { return false };
    one.len() == other.len() && one.objects().eq(other.objects())
}
