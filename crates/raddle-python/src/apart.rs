//! Large parts of calls and results, which lie in the arena beside their bytes (submit -> TRANSPORT -> worker -> result).
//!
//! A pickle whose large buffers lie apart (protocol 5, out-of-band), or that is large itself, is replaced by what tells where
//! they are (`placing.rs`); so is a large `bytes` or `str`. What lay in the arena before is a part of its own segment, all else has been copied to one
//! that is new. Invariant: when this is made, what a part is made of is written no more, so it is a snapshot; and whatever the
//! bytes are, reading them ends with an object or an error.

use std::cell::{Cell, RefCell};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use pyo3::{ffi, intern};

use raddle::process::arena::{Arena, Segment, View};

use crate::decode::Unreadable;
use crate::draft_buffer;
use crate::layout::Damaged;
use crate::no_memory::{no_memory, with_bytes};
use crate::placing::{BROKEN, Placed, Placing};
use crate::segment_buffer::{Access, Content, Seen, SegmentBuffer, has_room_to_map};
use crate::worker_side::WorkerSide;

/// What is smaller goes with the rest. 64 KB pass through a ring in about the time that it takes to ask for a segment, to
/// map it and to let it go.
pub(crate) const LEAST_APART: usize = 1 << 16;
/// What is shorter is copied out of its segment: to map it and to let it go costs as much, and a process has not many mappings.
const LEAST_MAPPED: u64 = 1 << 20;
/// Parts begin at multiples of it: the width of the widest vector registers.
const ALIGNMENT: u64 = 64;

const PICKLE: u8 = 0;
/// A pickle that is the last part.
const PICKLE_APART: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;

/// Where large parts go.
pub(crate) enum Apart {
    /// Nowhere: they stay with the rest.
    Nowhere,
    /// To the program's own arena.
    Program(Arc<Arena>),
    /// To the arena of the worker's program.
    Worker(Arc<WorkerSide>),
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

thread_local! {
    /// The segments that have been filled for the bytes that are being made.
    static FILLED: RefCell<Option<Vec<Segment>>> = const { RefCell::new(None) };
}

/// Makes bytes, and gives the segments that belong to them. To make them may run code of a user's that makes others.
pub(crate) fn with_segments<R>(make: impl FnOnce() -> R) -> (R, Vec<Segment>) {
    let outer = FILLED.replace(Some(Vec::new()));
    let made = make();
    (made, FILLED.replace(outer).unwrap_or_default())
}

/// Has segments belong to the bytes that are being made on this thread; `false`: none are.
pub(crate) fn add_segments(segments: &[Segment]) -> bool {
    FILLED.with_borrow_mut(|filled| filled.as_mut().map(|filled| filled.extend_from_slice(segments)).is_some())
}

/// Memory that is borrowed until it has been copied.
#[derive(Clone, Copy)]
pub(crate) struct Part<'a> {
    start: *const u8,
    length: usize,
    borrowed: std::marker::PhantomData<&'a [u8]>,
}

// SAFETY: it is read alone, and stays where it is while it is borrowed, whichever thread reads.
unsafe impl Send for Part<'_> {}
// SAFETY: as above.
unsafe impl Sync for Part<'_> {}

impl<'a> Part<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        Self { start: bytes.as_ptr(), length: bytes.len(), borrowed: std::marker::PhantomData }
    }

    pub(crate) fn start(&self) -> *const u8 {
        self.start
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }
}

/// Copies so many bytes: if they are many, other threads have the interpreter meanwhile.
pub(crate) fn copying<R: Send>(py: Python<'_>, bytes: u64, copy: impl FnOnce() -> R + Send) -> R {
    if bytes >= LEAST_MAPPED { py.detach(copy) } else { copy() }
}

/// What is to lie in one segment.
pub(crate) struct Parts<'a>(Vec<Part<'a>>);

impl<'a> Parts<'a> {
    /// Each with where it begins.
    pub(crate) fn placed(&self) -> impl Iterator<Item = (u64, Part<'a>)> {
        self.0.iter().scan(0_u64, |end, part| {
            let start = end.next_multiple_of(ALIGNMENT);
            *end = start + part.length as u64;
            Some((start, *part))
        })
    }

    pub(crate) fn total(&self) -> u64 {
        self.placed().last().map_or(0, |(start, part)| start + part.length as u64)
    }
}

/// Where a part comes from.
enum Source<'a> {
    Copied(Part<'a>),
    /// It lies in a segment that was there before.
    Lying(Lying),
}

/// A part that is not copied.
struct Lying {
    /// The place of its segment, of which `total` bytes are used.
    place: u64,
    total: u64,
    start: u64,
    length: u64,
    /// In the program: the segment belongs to the bytes. What a worker names the program has.
    held: Option<Segment>,
}

impl Lying {
    /// Whether both are of the same bytes: then one who gets them would see in one what he writes to the other.
    fn overlaps(&self, other: &Self) -> bool {
        let end = |part: &Self| part.start + part.length;
        self.place == other.place && self.start < end(other) && other.start < end(self)
    }
}

impl<'a> Source<'a> {
    fn to_be_copied(&self) -> Option<Part<'a>> {
        match self {
            Self::Copied(part) => Some(*part),
            Self::Lying(_) => None,
        }
    }
}

impl Apart {
    /// The longest value that goes with the rest.
    pub(crate) fn most_within(&self) -> usize {
        if matches!(self, Self::Nowhere) { usize::MAX } else { LEAST_APART - 1 }
    }

    fn put(&self, py: Python<'_>, parts: &Parts<'_>) -> Option<u64> {
        match self {
            Self::Nowhere => None,
            Self::Worker(side) => side.put(py, parts),
            Self::Program(arena) => {
                let segment = arena.try_take(parts.total())?;
                copying(py, parts.total(), || {
                    parts.placed().try_for_each(|(start, part)| {
                        // SAFETY: a part is borrowed memory, which stays where it is; nobody has been told of the segment.
                        unsafe { segment.write(start, part.start, part.length) }.ok()
                    })
                })?;
                let offset = segment.offset();
                add_segments(&[segment]).then_some(offset)
            }
        }
    }

    fn put_as<'py>(&self, py: Python<'py>, kind: u8, parts: &[Source<'_>], rest: &[u8]) -> Option<Bound<'py, PyBytes>> {
        let copied = Parts(parts.iter().filter_map(Source::to_be_copied).collect());
        let mut placing = Placing::default();
        if !copied.0.is_empty() {
            placing.segments.push((self.put(py, &copied)?, copied.total()));
        }
        let mut starts = copied.placed().map(|(start, _)| start);
        for part in parts {
            match part {
                Source::Copied(part) => placing.parts.push((0, starts.next()?, part.length as u64)),
                Source::Lying(Lying { place, total, start, length, held }) => {
                    if held.is_some() && !add_segments(held.as_slice()) {
                        return None;
                    }
                    let index = placing.index_of(*place, *total);
                    placing.parts.push((index, *start, *length));
                }
            }
        }
        Some(PyBytes::new(py, &placing.written(kind, rest)?))
    }

    /// Puts a large `bytes` or `str` apart.
    pub(crate) fn put_plain<'py>(&self, value: &Bound<'py, PyAny>) -> Option<Bound<'py, PyBytes>> {
        let py = value.py();
        if let Ok(bytes) = value.cast_exact::<PyBytes>() {
            let bytes = bytes.as_bytes();
            return (bytes.len() >= LEAST_APART)
                .then(|| self.put_as(py, BYTES, &[Source::Copied(Part::of(bytes))], &[]))
                .flatten();
        }
        // One with lone surrogates has no UTF-8.
        let text = value.cast_exact::<PyString>().ok()?.to_str().ok()?;
        (text.len() >= LEAST_APART)
            .then(|| self.put_as(py, TEXT, &[Source::Copied(Part::of(text.as_bytes()))], &[]))
            .flatten()
    }

    /// Puts the buffers of a pickle apart, and itself if it is large. `None`: it has to go with all that belongs to it.
    /// `is_inert` tells whether no code of the user's runs when the object is dropped, so that nobody writes the buffers then.
    pub(crate) fn put_pickle<'py>(
        &self,
        pickle: &Bound<'py, PyBytes>,
        buffers: &[Exported],
        is_inert: impl FnOnce() -> bool,
    ) -> Option<Bound<'py, PyBytes>> {
        let bytes = pickle.as_bytes();
        let mut parts = Vec::with_capacity(buffers.len() + 1);
        for buffer in buffers {
            parts.push(self.source(buffer, &parts));
        }
        let placed = if bytes.len() < LEAST_APART {
            self.put_as(pickle.py(), PICKLE, &parts, bytes)
        } else {
            parts.push(Source::Copied(Part::of(bytes)));
            self.put_as(pickle.py(), PICKLE_APART, &parts, &[])
        };
        if let Self::Worker(side) = self
            && parts.iter().any(|part| matches!(part, Source::Lying(_)))
            && (placed.is_none() || !(is_inert() || side.part_named()))
        {
            side.forget_names();
            return None;
        }
        placed
    }

    /// `before` are those that come with it.
    fn source<'a>(&self, buffer: &'a Exported, before: &[Source<'_>]) -> Source<'a> {
        let (start, bytes) = (buffer.start(), buffer.len());
        let length = bytes as u64;
        let lying = match self {
            Self::Program(arena) => draft_buffer::snapshot(arena, buffer).map(|(segment, total, start)| Lying {
                place: segment.offset(),
                total,
                start,
                length,
                held: Some(segment),
            }),
            Self::Worker(side) => side.name(start, bytes).map(|spot| Lying {
                place: spot.segment,
                total: spot.total,
                start: spot.start,
                length,
                held: None,
            }),
            Self::Nowhere => None,
        };
        let is_apart =
            |lying: &Lying| !before.iter().any(|other| matches!(other, Source::Lying(other) if other.overlaps(lying)));
        lying.filter(is_apart).map_or_else(|| Source::Copied(buffer.part()), Source::Lying)
    }

    /// The object again of which this was made.
    pub(crate) fn load<'py>(&self, loads: &Bound<'py, PyAny>, bytes: &[u8]) -> Result<Bound<'py, PyAny>, Unreadable> {
        self.load_as(loads, bytes, Access::Own)
    }

    /// The same, as others may see it too.
    pub(crate) fn load_as<'py>(
        &self,
        loads: &Bound<'py, PyAny>,
        bytes: &[u8],
        access: Access,
    ) -> Result<Bound<'py, PyAny>, Unreadable> {
        let py = loads.py();
        let Placed { kind, placing: Placing { segments, parts }, rest } = Placed::parse(bytes)?;
        match (kind, &parts[..]) {
            (BYTES, [(segment, start, length)]) => {
                let bytes = self.read(py, segments[*segment].0, *start, *length)?;
                Ok(bytes.into_any())
            }
            (TEXT, [(segment, start, length)]) => {
                let (offset, total) = segments[*segment];
                let seen = self.view(offset, total)?;
                let text = seen.part(*start, *length).ok_or(BROKEN)?;
                // SAFETY: the interpreter is held, and the view has so many bytes there. The call copies them, checks that
                // they are UTF-8, and gives a new reference or NULL with an exception set.
                let decoded = unsafe {
                    let decoded =
                        ffi::PyUnicode_DecodeUTF8(text.as_ptr().cast(), text_length(*length)?, std::ptr::null());
                    Bound::from_owned_ptr_or_err(py, decoded)
                };
                Ok(decoded.map_err(|error| with_bytes(py, error, *length, "a task or a result"))?)
            }
            (PICKLE | PICKLE_APART, _) => {
                let seen = segments.iter().map(|(offset, total)| Ok(Arc::new(self.view(*offset, *total)?)));
                let seen = seen.collect::<Result<Vec<_>, Unreadable>>()?;
                let buffers = parts.iter().map(|(segment, start, length)| {
                    let buffer = SegmentBuffer::new(&seen[*segment], *start, *length, access).ok_or(BROKEN)?;
                    Ok(Bound::new(py, buffer)?.into_any())
                });
                let mut buffers = buffers.collect::<Result<Vec<_>, Unreadable>>()?;
                drop(seen);
                let pickle = match kind {
                    PICKLE => PyBytes::new(py, rest).into_any(),
                    _ => buffers.pop().ok_or(BROKEN)?,
                };
                let keywords = pyo3::types::PyDict::new(py);
                keywords.set_item(intern!(py, "buffers"), buffers)?;
                Ok(loads.call((pickle,), Some(&keywords))?)
            }
            _ => Err(BROKEN.into()),
        }
    }

    fn view(&self, offset: u64, total: u64) -> Result<Seen, Unreadable> {
        match self {
            Self::Nowhere => Err(BROKEN.into()),
            Self::Program(arena) => {
                let segment = arena.find(offset).ok_or(BROKEN)?;
                let read = |place: &mut [u8]| segment.read(0, place);
                let content = Self::content(total, read, || segment.view(total))?;
                Ok(Seen::of_program(content, segment))
            }
            Self::Worker(side) => {
                let arena = side.arena();
                let read = |place: &mut [u8]| arena.read(offset, place);
                let content = Self::content(total, read, || arena.view(offset, total))?;
                drop(arena);
                Ok(Seen::of_worker(content, offset))
            }
        }
    }

    /// What lies in a segment: mapped, unless it is so short that a copy costs no more, or there are many mappings.
    fn content(
        total: u64,
        read: impl FnOnce(&mut [u8]) -> std::io::Result<()>,
        map: impl FnOnce() -> std::io::Result<View>,
    ) -> Result<Content, Unreadable> {
        if total < LEAST_MAPPED || !has_room_to_map() {
            return copied("", total, read);
        }
        map().map(Content::mapped).or_else(|error| match error.kind() {
            std::io::ErrorKind::InvalidInput => Err(BROKEN.into()),
            _ => copied(&format!(": {error}"), total, read),
        })
    }

    fn read<'py>(
        &self,
        py: Python<'py>,
        offset: u64,
        start: u64,
        length: u64,
    ) -> Result<Bound<'py, PyBytes>, Unreadable> {
        let count = usize::try_from(length).map_err(|_| BROKEN)?;
        let told = |error| with_bytes(py, error, length, "a task or a result");
        match self {
            Self::Nowhere => Err(BROKEN.into()),
            Self::Program(arena) => {
                let segment = arena.find(offset).ok_or(BROKEN)?;
                if start.checked_add(length).is_none_or(|end| end > segment.size()) {
                    return Err(BROKEN.into());
                }
                Ok(PyBytes::new_with(py, count, |place| Ok(segment.read(start, place)?)).map_err(told)?)
            }
            Self::Worker(side) => {
                let from = offset.checked_add(start).ok_or(BROKEN)?;
                Ok(PyBytes::new_with(py, count, |place| Ok(side.arena().read(from, place)?)).map_err(told)?)
            }
        }
    }
}

fn text_length(length: u64) -> Result<isize, Damaged> {
    isize::try_from(length).map_err(|_| BROKEN)
}

/// A copy of what could not be mapped, for want of mappings: a process has some ten thousands.
fn copied(why: &str, total: u64, read: impl FnOnce(&mut [u8]) -> std::io::Result<()>) -> Result<Content, Unreadable> {
    let mut bytes = Vec::new();
    let count = usize::try_from(total).unwrap_or(usize::MAX);
    if bytes.try_reserve_exact(count).is_err() {
        return Err(no_memory(total, &format!("a task or a result{why}")).into());
    }
    bytes.resize(count, 0);
    read(&mut bytes).map_err(PyErr::from)?;
    Ok(Content::Copied(bytes.into_iter().map(Cell::new).collect()))
}

/// What stands in the place of a pickle, for a message.
pub(crate) enum Sketched<'py> {
    /// A pickle, and how many buffers belong to it.
    Pickle(Bound<'py, PyBytes>, usize),
    /// A `bytes` or `str`.
    Value(Bound<'py, PyAny>),
    /// Of so many bytes: too much to look at it.
    Large(u64),
}

impl Apart {
    /// What stands in the place of a pickle, if it is not longer than `most`.
    pub(crate) fn sketched<'py>(
        &self,
        loads: &Bound<'py, PyAny>,
        bytes: &[u8],
        most: u64,
    ) -> Result<Sketched<'py>, Unreadable> {
        let py = loads.py();
        let Placed { kind, placing: Placing { segments, parts }, rest } = Placed::parse(bytes)?;
        let total = segments.iter().fold(0, |sum: u64, (_, total)| sum.saturating_add(*total));
        Ok(match (kind, parts.last()) {
            (PICKLE, _) => Sketched::Pickle(PyBytes::new(py, rest), parts.len()),
            (PICKLE_APART, Some((segment, start, length))) if *length <= most => {
                Sketched::Pickle(self.read(py, segments[*segment].0, *start, *length)?, parts.len() - 1)
            }
            (BYTES | TEXT, _) if total <= most => Sketched::Value(self.load(loads, bytes)?),
            _ => Sketched::Large(total),
        })
    }
}

/// The memory of an object, which stays where it is until this is dropped.
pub(crate) struct Exported(Box<ffi::Py_buffer>);

// SAFETY: it is used, and dropped, with the interpreter held alone.
unsafe impl Send for Exported {}

impl Exported {
    /// All of an object's memory.
    ///
    /// # Errors
    /// It has none, or not in one piece.
    pub(crate) fn whole(buffer: &Bound<'_, PyAny>) -> PyResult<Self> {
        Self::asked(buffer, ffi::PyBUF_ANY_CONTIGUOUS)
    }

    /// All of an object's memory, to be written.
    ///
    /// # Errors
    /// It has none, or not in one piece, or may only be read.
    pub(crate) fn writable(buffer: &Bound<'_, PyAny>) -> PyResult<Self> {
        Self::asked(buffer, ffi::PyBUF_ANY_CONTIGUOUS | ffi::PyBUF_WRITABLE)
    }

    fn asked(buffer: &Bound<'_, PyAny>, flags: std::ffi::c_int) -> PyResult<Self> {
        let mut view = Box::new(ffi::Py_buffer::new());
        // SAFETY: the interpreter is held; the call fills the structure, or fails and leaves nothing to be released.
        if unsafe { ffi::PyObject_GetBuffer(buffer.as_ptr(), &raw mut *view, flags) } < 0 {
            return Err(PyErr::fetch(buffer.py()));
        }
        Ok(Self(view))
    }

    /// Puts an object at a place of an array of objects that is `writable`, and drops what was there.
    pub(crate) fn put(&self, index: usize, object: Bound<'_, PyAny>) {
        assert!(
            self.0.readonly == 0 && index < self.len() / size_of::<*mut ffi::PyObject>(),
            "the place lies in the array, which may be written"
        );
        // SAFETY: the place lies in memory that may be written, and holds a reference or NULL; the interpreter is held.
        unsafe {
            let place = self.0.buf.cast::<*mut ffi::PyObject>().add(index);
            let before = std::mem::replace(&mut *place, object.into_ptr());
            ffi::Py_XDECREF(before);
        }
    }

    /// `None`: it is small, or not in one piece: with the rest it may be pickled, or tells why not.
    fn of(buffer: &Bound<'_, PyAny>) -> Option<Self> {
        Self::whole(buffer).ok().filter(|exported| exported.len() >= LEAST_APART)
    }

    pub(crate) fn len(&self) -> usize {
        usize::try_from(self.0.len).unwrap_or(0)
    }

    pub(crate) fn start(&self) -> *const u8 {
        self.0.buf.cast_const().cast()
    }

    /// What it holds, if it is an array of objects.
    pub(crate) fn objects(&self) -> impl Iterator<Item = *mut ffi::PyObject> {
        self.items()
    }

    /// What it holds, if it is an array of 32-bit numbers.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u32> {
        self.items()
    }

    fn items<T: Copy>(&self) -> impl Iterator<Item = T> {
        let start = self.start().cast::<T>();
        // SAFETY: the memory reaches that far, and need not be aligned. Both kinds of items may be any bits: an address is not
        // followed here.
        (0..self.len() / size_of::<T>()).map(move |index| unsafe { start.add(index).read_unaligned() })
    }

    fn part(&self) -> Part<'_> {
        Part { start: self.start(), length: self.len(), borrowed: std::marker::PhantomData }
    }
}

impl Drop for Exported {
    fn drop(&mut self) {
        // SAFETY: the interpreter is held; the structure was filled and not released since.
        unsafe { ffi::PyBuffer_Release(&raw mut *self.0) };
    }
}

/// Has an object export memory, as its `__getbuffer__`.
///
/// # Safety
/// `view` and `flags` are what the interpreter gives. So many bytes can be read at `start`, and written unless they are read-only,
/// as long as the object lives, which the structure comes to hold.
pub(crate) unsafe fn export(
    object: &Bound<'_, PyAny>,
    (start, bytes): (*const u8, usize),
    is_read_only: bool,
    view: *mut ffi::Py_buffer,
    flags: std::ffi::c_int,
) -> PyResult<()> {
    let (start, is_read_only) = (start.cast_mut().cast(), is_read_only.into());
    // SAFETY: the interpreter is held; the rest as the caller says.
    let filled =
        unsafe { ffi::PyBuffer_FillInfo(view, object.as_ptr(), start, bytes.cast_signed(), is_read_only, flags) };
    if filled < 0 { Err(PyErr::fetch(object.py())) } else { Ok(()) }
}

/// Takes the large buffers that a pickler finds: its `buffer_callback`.
#[pyclass(module = "raddle._native", frozen)]
pub(crate) struct BufferCollector(Mutex<Vec<Exported>>);

#[pymethods]
impl BufferCollector {
    /// Whether the buffer is to go with the rest.
    fn __call__(&self, buffer: &Bound<'_, PyAny>) -> bool {
        let Some(exported) = Exported::of(buffer) else { return true };
        lock(&self.0).push(exported);
        false
    }
}

impl BufferCollector {
    pub(crate) fn new() -> Self {
        Self(Mutex::default())
    }

    /// What it has been given since it was asked last.
    pub(crate) fn take(&self) -> Vec<Exported> {
        std::mem::take(&mut *lock(&self.0))
    }
}
