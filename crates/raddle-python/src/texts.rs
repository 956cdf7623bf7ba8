//! Columns of strings in one piece (submit -> TRANSPORT -> worker): of an array of objects, and as one again.
//!
//! A string takes a tenth of what a pickler takes for it. Where few are in many rows, each is sent once, with a number for each
//! row. Invariant: an array that holds anything but strings, None and floats (as which tables have a missing string) is left
//! alone, and so is one of strings that are mostly different, and something else.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::c_int;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};

use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyFloat, PyList, PyString};

use crate::apart::{Exported, export};
use crate::lent_texts::LentTexts;

/// So many rows tell whether something is repeated: unless an eighth of them is, nothing is. A guess; a row takes some 20 ns.
const TRIED: usize = 4096;
/// How often each is there on the average, at least, where numbers are sent. A guess: numbers are then less than the strings.
const LEAST_REPEATED: usize = 4;

type Packed<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>);

/// Where each string of an array of objects ends, as 32-bit numbers, and all of them in UTF-8; or, where there are few, the
/// number of each row's, and a list of them. None: something in it is no string, or has no UTF-8, or it is too long.
///
/// `copies`, an array as long, gets the same objects where each is sent; what is in it else is nobody's business.
#[pyfunction]
#[pyo3(signature = (array, copies=None))]
pub(crate) fn pack_texts<'py>(
    array: &Bound<'py, PyAny>,
    copies: Option<&Bound<'py, PyAny>>,
) -> PyResult<Option<Packed<'py>>> {
    let py = array.py();
    let exported = Exported::whole(array)?;
    let copies = copies.map(Exported::writable).transpose()?;
    // By address first, which is quicker: what reads a table makes one object of equal strings.
    if let Some((codes, distinct)) =
        coded::<_, BuildHasherDefault<AddressHasher>>(py, &exported, |object| Some(object.addr()))
    {
        return listed(py, &codes, &distinct, &exported, copies.as_ref()).map(Some);
    }
    if let Some((codes, distinct)) = coded::<_, RandomState>(py, &exported, |object| Content::of(py, object, &exported))
    {
        return listed(py, &codes, &distinct, &exported, copies.as_ref()).map(Some);
    }
    Ok(one_text(py, &exported, copies.as_ref()))
}

/// The number of each object's key, as 32-bit numbers, and the first object of each; None: too many are different, or there is
/// one without a key.
fn coded<K: Eq + Hash, S: BuildHasher + Default>(
    py: Python<'_>,
    exported: &Exported,
    key_of: impl Fn(*mut ffi::PyObject) -> Option<K>,
) -> Option<(Vec<u8>, Vec<*mut ffi::PyObject>)> {
    let rows = exported.len() / size_of::<*mut ffi::PyObject>();
    let mut numbers = HashMap::<K, u32, S>::default();
    let (mut codes, mut distinct) = (Vec::new(), Vec::new());
    for (row, object) in exported.objects().enumerate() {
        let number = match numbers.entry(key_of(object)?) {
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(entry) => {
                if !is_plain(py, object) {
                    return None;
                }
                let number = u32::try_from(distinct.len()).ok()?;
                distinct.push(object);
                *entry.insert(number)
            }
        };
        codes.extend_from_slice(&number.to_ne_bytes());
        let is_too_many = distinct.len() > rows / LEAST_REPEATED || row == TRIED && distinct.len() > TRIED / 8 * 7;
        if is_too_many {
            return None;
        }
    }
    Some((codes, distinct))
}

/// Whether it is one that nobody can tell from a copy, and that makes no other of any other when it is read.
fn is_plain(py: Python<'_>, object: *mut ffi::PyObject) -> bool {
    // SAFETY: an array of objects holds a reference to each, or NULL; the interpreter is held, so none of them changes.
    let item = unsafe { Bound::from_borrowed_ptr_or_opt(py, object) };
    item.is_some_and(|item| {
        item.is_exact_instance_of::<PyString>() || item.is_none() || item.is_exact_instance_of::<PyFloat>()
    })
}

/// What objects have in common that may be sent as one: strings their text.
#[derive(PartialEq, Eq, Hash)]
enum Content<'a> {
    Text(&'a [u8]),
    Object(usize),
}

impl<'a> Content<'a> {
    fn of(py: Python<'_>, object: *mut ffi::PyObject, _holder: &'a Exported) -> Option<Self> {
        // SAFETY: as above.
        let item = unsafe { Bound::from_borrowed_ptr_or_opt(py, object) }?;
        let Ok(text) = item.cast_exact::<PyString>() else { return Some(Self::Object(object.addr())) };
        let text = text.to_str().ok()?.as_bytes();
        // SAFETY: the text is the string's own, which never changes, and the array holds the string: whoever has the array
        // exported keeps it, and holds the interpreter, so that nobody writes to it.
        Some(Self::Text(unsafe { std::slice::from_raw_parts(text.as_ptr(), text.len()) }))
    }
}

/// Spreads addresses, the lowest bits of which are always the same.
#[derive(Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_usize(usize::from(*byte));
        }
    }

    fn write_usize(&mut self, number: usize) {
        // Knuth's multiplicative hashing, by 2^64 divided by the golden ratio: its high bits are the good ones.
        self.0 = (self.0 ^ number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The list of distinct objects, with the numbers.
fn listed<'py>(
    py: Python<'py>,
    codes: &[u8],
    distinct: &[*mut ffi::PyObject],
    exported: &Exported,
    copies: Option<&Exported>,
) -> PyResult<Packed<'py>> {
    for (row, object) in exported.objects().enumerate().filter(|_| copies.is_some()) {
        // SAFETY: the array holds a reference to each, and none is NULL, for that is not plain.
        let object = unsafe { Bound::from_borrowed_ptr(py, object) };
        copies.inspect(|copies| copies.put(row, object));
    }
    // SAFETY: each is in the array, which holds a reference to it; none is NULL, for that is not plain.
    let objects = distinct.iter().map(|object| unsafe { Bound::from_borrowed_ptr(py, *object) });
    Ok((PyBytes::new(py, codes).into_any(), PyList::new(py, objects.collect::<Vec<_>>())?.into_any()))
}

/// The bytes of a string in UTF-8; `None`: it has none.
fn utf8<'a>(text: &'a Bound<'_, PyString>) -> Option<&'a [u8]> {
    let object = text.as_ptr();
    // SAFETY: it is a string, which holds its text as long as it lives and does not change it.
    unsafe {
        if ffi::PyUnicode_IS_COMPACT_ASCII(object) != 0 {
            let length = usize::try_from(ffi::PyUnicode_GET_LENGTH(object)).ok()?;
            return Some(std::slice::from_raw_parts(ffi::PyUnicode_DATA(object).cast(), length));
        }
    }
    text.to_str().ok().map(str::as_bytes)
}

fn one_text<'py>(py: Python<'py>, exported: &Exported, copies: Option<&Exported>) -> Option<Packed<'py>> {
    let rows = exported.len() / size_of::<*mut ffi::PyObject>();
    let (mut ends, mut data) = (Vec::new(), Vec::new());
    ends.try_reserve_exact(rows * size_of::<u32>()).ok()?;
    for (row, object) in exported.objects().enumerate() {
        // SAFETY: an array of objects holds a reference to each, or NULL; the interpreter is held, so none of them changes.
        let item = unsafe { Bound::from_borrowed_ptr_or_opt(py, object) }?;
        let text = item.cast_exact::<PyString>().ok()?;
        data.extend_from_slice(utf8(text)?);
        ends.extend_from_slice(&u32::try_from(data.len()).ok()?.to_ne_bytes());
        if let Some(copies) = copies {
            // Now, as it has just been read.
            copies.put(row, item.to_owned());
        }
        if row == TRIED {
            // As if the others were as long, and a little more: so it is seldom moved.
            data.try_reserve(data.len() / TRIED * rows / 16 * 17).ok()?;
        }
    }
    let bytes = |bytes| Ok::<_, PyErr>(Bound::new(py, TextBytes(bytes))?.into_any());
    Some((bytes(ends).ok()?, bytes(data).ok()?))
}

/// Bytes that are sent as they lie.
#[pyclass(module = "raddle._native", frozen)]
pub(crate) struct TextBytes(Vec<u8>);

#[pymethods]
impl TextBytes {
    /// # Safety
    /// `view` is what the interpreter gives.
    unsafe fn __getbuffer__(slf: &Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let bytes = &slf.get().0;
        // SAFETY: as the interpreter gives them; the memory is only read, and lives as long as this object.
        unsafe { export(slf, (bytes.as_ptr(), bytes.len()), true, view, flags) }
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }
}

/// Where each text begins that is to become one object of an array, and how long it is.
pub(crate) fn each_text<'a>(
    ends: &'a Exported,
    data: &'a Exported,
    into: &Exported,
) -> PyResult<impl Iterator<Item = PyResult<(*const u8, usize)>> + 'a> {
    let damaged = || PyValueError::new_err("the ends of strings do not lie within their text");
    if ends.len() / size_of::<u32>() != into.len() / size_of::<*mut ffi::PyObject>() {
        return Err(damaged());
    }
    let mut start = 0;
    Ok(ends.numbers().map(move |end| {
        let end = end as usize;
        let length = end.checked_sub(start).filter(|_| end <= data.len()).ok_or_else(damaged)?;
        let text = data.start().wrapping_add(start);
        start = end;
        Ok((text, length))
    }))
}

/// A string of bytes in UTF-8.
///
/// # Safety
/// `text` has so many bytes.
pub(crate) unsafe fn decoded(py: Python<'_>, text: *const u8, length: usize) -> PyResult<Bound<'_, PyAny>> {
    let length = isize::try_from(length)?;
    // SAFETY: as the caller says. The call copies what it reads, checks that it is UTF-8, and gives a new reference, or NULL with
    // an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyUnicode_DecodeUTF8(text.cast(), length, std::ptr::null())) }
}

/// The strings that `one_text` made into one piece, into a new array of objects.
#[pyfunction]
pub(crate) fn unpack_texts(ends: &Bound<'_, PyAny>, data: &Bound<'_, PyAny>, into: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = ends.py();
    let (ends, data, into) = (Exported::whole(ends)?, Exported::whole(data)?, Exported::writable(into)?);
    for (place, text) in each_text(&ends, &data, &into)?.enumerate() {
        let (start, length) = text?;
        // SAFETY: the text is exported as long as `data` lives, and reaches that far.
        into.put(place, unsafe { decoded(py, start, length) }?);
    }
    Ok(())
}

/// Whether an array holds the very same objects as another, or as were lent.
#[pyfunction]
pub(crate) fn same_objects(array: &Bound<'_, PyAny>, others: &Bound<'_, PyAny>) -> bool {
    let Ok(array) = Exported::whole(array) else { return false };
    if let Ok(lent) = others.cast::<LentTexts>() {
        return lent.get().are_in(&array);
    }
    Exported::whole(others).is_ok_and(|others| array.len() == others.len() && array.objects().eq(others.objects()))
}
