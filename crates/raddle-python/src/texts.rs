//! Columns of strings in one piece (submit -> TRANSPORT -> worker): of an array of objects, and as one again.
//!
//! A string takes a tenth of what a pickler takes for it. Where few are in many rows, each is sent once, with a number for each
//! row. Invariant: an array that holds anything but strings, None and floats (as which tables have a missing string) is left
//! alone, and so is one of strings that are mostly different, and something else.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};

use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyFloat, PyList, PyString};

use crate::apart::Exported;

/// So many rows tell whether something is repeated: unless an eighth of them is, nothing is. A guess; a row takes some 20 ns.
const TRIED: usize = 4096;
/// How often each is there on the average, at least, where numbers are sent. A guess: numbers are then less than the strings.
const LEAST_REPEATED: usize = 4;

type Packed<'py> = (Bound<'py, PyBytes>, Bound<'py, PyAny>);

/// Where each string of an array of objects ends, as 32-bit numbers, and all of them in UTF-8; or, where there are few, the
/// number of each row's, and a list of them. None: something in it is no string, or has no UTF-8, or it is too long.
#[pyfunction]
pub(crate) fn pack_texts<'py>(array: &Bound<'py, PyAny>) -> PyResult<Option<Packed<'py>>> {
    let py = array.py();
    let exported = Exported::whole(array)?;
    // By address first, which is quicker: what reads a table makes one object of equal strings.
    if let Some((codes, distinct)) =
        coded::<_, BuildHasherDefault<AddressHasher>>(py, &exported, |object| Some(object.addr()))
    {
        return listed(py, &codes, &distinct).map(Some);
    }
    if let Some((codes, distinct)) = coded::<_, RandomState>(py, &exported, |object| Content::of(py, object, &exported))
    {
        return listed(py, &codes, &distinct).map(Some);
    }
    Ok(one_text(py, &exported))
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
fn listed<'py>(py: Python<'py>, codes: &[u8], distinct: &[*mut ffi::PyObject]) -> PyResult<Packed<'py>> {
    // SAFETY: each is in the array, which holds a reference to it; none is NULL, for that is not plain.
    let objects = distinct.iter().map(|object| unsafe { Bound::from_borrowed_ptr(py, *object) });
    Ok((PyBytes::new(py, codes), PyList::new(py, objects.collect::<Vec<_>>())?.into_any()))
}

fn one_text<'py>(py: Python<'py>, exported: &Exported) -> Option<Packed<'py>> {
    let (mut ends, mut data) = (Vec::new(), Vec::new());
    for object in exported.objects() {
        // SAFETY: an array of objects holds a reference to each, or NULL; the interpreter is held, so none of them changes.
        let item = unsafe { Bound::from_borrowed_ptr_or_opt(py, object) }?;
        let text = item.cast_exact::<PyString>().ok()?;
        data.extend_from_slice(text.to_str().ok()?.as_bytes());
        ends.extend_from_slice(&u32::try_from(data.len()).ok()?.to_ne_bytes());
    }
    Some((PyBytes::new(py, &ends), PyBytes::new(py, &data).into_any()))
}

/// The strings that `one_text` made into one piece, into a new array of objects.
#[pyfunction]
pub(crate) fn unpack_texts(ends: &Bound<'_, PyAny>, data: &Bound<'_, PyAny>, into: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = ends.py();
    let (ends, data, into) = (Exported::whole(ends)?, Exported::whole(data)?, Exported::writable(into)?);
    let damaged = || PyValueError::new_err("the ends of strings do not lie within their text");
    if ends.len() / size_of::<u32>() != into.len() / size_of::<*mut ffi::PyObject>() {
        return Err(damaged());
    }
    let mut start = 0;
    for (place, end) in ends.numbers().enumerate() {
        let end = end as usize;
        let length = end.checked_sub(start).filter(|_| end <= data.len()).ok_or_else(damaged)?;
        let length = isize::try_from(length).map_err(|_| damaged())?;
        // SAFETY: the text is exported as long as `data` lives, and reaches that far. The call copies what it reads, checks
        // that it is UTF-8, and gives a new reference, or NULL with an exception set.
        let text = unsafe {
            let decoded = ffi::PyUnicode_DecodeUTF8(data.start().add(start).cast(), length, std::ptr::null());
            Bound::from_owned_ptr_or_err(py, decoded)
        }?;
        into.put(place, text);
        start = end;
    }
    Ok(())
}

/// Whether two arrays hold the very same objects.
#[pyfunction]
pub(crate) fn same_objects(one: &Bound<'_, PyAny>, other: &Bound<'_, PyAny>) -> bool {
    let (Ok(one), Ok(other)) = (Exported::whole(one), Exported::whole(other)) else { return false };
    one.len() == other.len() && one.objects().eq(other.objects())
}
