//! Strings that a worker makes for one task, in memory that is used again for the next (submit -> TRANSPORT -> WORKER).
//!
//! Half a million strings that are made and freed for each task take longer to get their memory from the system, page by page,
//! and to give it back, than to be written. So a worker writes them one behind the other into blocks that it keeps. Each is a
//! string as the interpreter makes it, to which its block holds a reference: thus nobody frees it, and nobody may change its
//! length where it lies. Invariant: a block is written anew only when that reference is the last to each of its strings, and no
//! string has got anything else (interned it would be in a table that holds no reference). It is looked at, and written, with the
//! interpreter held alone.

use std::alloc::{Layout, alloc, dealloc};
use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::ffi;
use pyo3::prelude::*;

use crate::apart::Exported;
use crate::serve;
use crate::texts::{decoded, each_text};

/// One string that is kept keeps its block: some thousand strings, as many as lie in a few of the interpreter's own.
const BLOCK_BYTES: usize = 1 << 16;
/// So much is kept for the next task: a million short strings.
const MOST_KEPT: usize = 1 << 26;
/// What is longer is made by the interpreter: that it is copied takes longer than all else.
const LONGEST: usize = 1 << 12;
/// The interpreter has one object of each that is shorter.
const SHORTEST: usize = 2;

const WORD: usize = size_of::<usize>();
const HEADER_WORDS: usize = size_of::<ffi::PyASCIIObject>() / WORD;
const LENGTH: usize = std::mem::offset_of!(ffi::PyASCIIObject, length) / WORD;
const HASH: usize = std::mem::offset_of!(ffi::PyASCIIObject, hash) / WORD;

/// What stands before the text of a string of ASCII that nobody has used yet.
type Header = [usize; HEADER_WORDS];

/// How far behind a string the next one lies: its header, its text, and the zero at the end.
fn stride(length: usize) -> usize {
    (size_of::<Header>() + length + 1).next_multiple_of(WORD)
}

fn fresh_header(py: Python<'_>) -> PyResult<Header> {
    // SAFETY: the interpreter is held, and the bytes are ASCII. It is a string of its own, whose header this is.
    unsafe {
        let text = ffi::PyUnicode_FromStringAndSize(c"text".as_ptr(), 4);
        let text = Bound::from_owned_ptr_or_err(py, text)?;
        Ok(text.as_ptr().cast::<Header>().read())
    }
}

/// Whether nobody has the string, or has left anything in it, but its hash.
fn is_as_made(header: &Header, fresh: &Header) -> bool {
    let words = header.iter().zip(fresh).enumerate();
    words.fold(0, |differ, (at, (is, was))| if at == LENGTH || at == HASH { differ } else { differ | (is ^ was) }) == 0
}

struct Block {
    memory: NonNull<u8>,
    used: Cell<usize>,
}

// SAFETY: it is used with the interpreter held alone.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

const LAYOUT: Layout = match Layout::from_size_align(BLOCK_BYTES, 16) {
    Ok(layout) => layout,
    Err(_) => panic!("the size is a multiple of the alignment"),
};

impl Block {
    fn new() -> Option<Self> {
        // SAFETY: the layout is not empty.
        let memory = NonNull::new(unsafe { alloc(LAYOUT) })?;
        Some(Self { memory, used: Cell::new(0) })
    }

    /// Whether nobody has any of its strings.
    fn is_free(&self, fresh: &Header) -> bool {
        let mut start = 0;
        while start < self.used.get() {
            // SAFETY: strings lie one behind the other up to there, each with its header, at a multiple of a word.
            let header = unsafe { self.memory.add(start).cast::<Header>().read() };
            if !is_as_made(&header, fresh) {
                return false;
            }
            start += stride(header[LENGTH]);
        }
        true
    }

    /// Has what lies at a place come into the cache: to see whether the block is free.
    fn prefetch(&self, place: usize) {
        let address = self.memory.as_ptr().wrapping_add(place);
        #[cfg(target_arch = "x86_64")]
        // SAFETY: nothing is read that the program could see, wherever it is, and each processor of this kind has the instruction.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(address.cast());
        }
        let _ = address;
    }

    /// Writes a string behind those that are there: a reference for the caller. `None`: it has no room.
    ///
    /// # Safety
    /// `text` has so many bytes, which are ASCII.
    unsafe fn push(&self, fresh: &Header, text: *const u8, length: usize) -> Option<NonNull<ffi::PyObject>> {
        let start = self.used.get();
        let end = start + stride(length);
        if end > BLOCK_BYTES {
            return None;
        }
        let mut header = *fresh;
        header[LENGTH] = length;
        // SAFETY: so much room is left there, at a multiple of a word.
        unsafe {
            let place = self.memory.add(start);
            let copy = place.add(size_of::<Header>());
            copy.as_ptr().copy_from_nonoverlapping(text, length);
            copy.add(length).write(0);
            place.cast::<Header>().write(header);
            let object = place.cast::<ffi::PyObject>();
            ffi::Py_INCREF(object.as_ptr());
            self.used.set(end);
            Some(object)
        }
    }

    fn has_room(&self, length: usize) -> bool {
        self.used.get() + stride(length) <= BLOCK_BYTES
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: it was allocated by this layout; whoever drops it has seen that nobody has its strings.
        unsafe { dealloc(self.memory.as_ptr(), LAYOUT) };
    }
}

/// All blocks. They are dropped only here, when they are free, and not at the end of the process.
///
/// Taken with the interpreter held, and never for longer than that: so no fork finds it taken.
static BLOCKS: Mutex<Vec<Arc<Block>>> = Mutex::new(Vec::new());

fn blocks() -> MutexGuard<'static, Vec<Arc<Block>>> {
    BLOCKS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives back blocks that nobody uses, beyond those that are kept.
fn give_back(fresh: &Header) {
    let mut blocks = blocks();
    let mut surplus = blocks.len().saturating_sub(MOST_KEPT / BLOCK_BYTES);
    if surplus == 0 {
        return;
    }
    // From the last, so that what is kept lies together, and the system gets the rest.
    for at in (0..blocks.len()).rev() {
        if surplus > 0 && Arc::strong_count(&blocks[at]) == 1 && blocks[at].is_free(fresh) {
            blocks.remove(at);
            surplus -= 1;
        }
    }
}

/// Fills blocks.
struct Writer {
    blocks: MutexGuard<'static, Vec<Arc<Block>>>,
    /// Which is looked at next.
    next: usize,
    taken: Vec<Arc<Block>>,
    fresh: Header,
    /// Whether all texts are ASCII, which is quicker to see than of each.
    is_ascii: bool,
}

impl Writer {
    /// A new reference to a string of these bytes; `None`: it is to be made by the interpreter.
    ///
    /// # Safety
    /// `text` has so many bytes, and nobody writes to them.
    unsafe fn push(&mut self, text: *const u8, length: usize) -> Option<NonNull<ffi::PyObject>> {
        if !(SHORTEST..=LONGEST).contains(&length) {
            return None;
        }
        // SAFETY: as the caller says.
        if !self.is_ascii && !unsafe { std::slice::from_raw_parts(text, length) }.is_ascii() {
            return None;
        }
        if !self.taken.last().is_some_and(|block| block.has_room(length)) {
            self.take()?;
        }
        let block = self.taken.last()?;
        if let Some(ahead) = self.blocks.get(self.next) {
            // At about the pace at which they are written.
            ahead.prefetch(block.used.get());
        }
        // SAFETY: as the caller says.
        unsafe { block.push(&self.fresh, text, length) }
    }

    fn take(&mut self) -> Option<()> {
        while let Some(block) = self.blocks.get(self.next) {
            self.next += 1;
            if Arc::strong_count(block) == 1 && block.is_free(&self.fresh) {
                block.used.set(0);
                self.taken.push(Arc::clone(block));
                return Some(());
            }
        }
        let block = Arc::new(Block::new()?);
        self.taken.push(Arc::clone(&block));
        self.blocks.push(block);
        self.next = self.blocks.len();
        Some(())
    }
}

/// The strings of a column as they were made: while this is there, none of them is gone and another in its place.
#[pyclass(module = "raddle._native", frozen)]
pub(crate) struct LentTexts {
    addresses: Vec<usize>,
    /// Those that lie in no block.
    _others: Vec<Py<PyAny>>,
    blocks: Vec<Arc<Block>>,
    fresh: Header,
}

impl LentTexts {
    /// Whether an array holds the very same objects.
    pub(crate) fn are_in(&self, array: &Exported) -> bool {
        array.objects().map(|object| object.addr()).eq(self.addresses.iter().copied())
    }
}

impl Drop for LentTexts {
    fn drop(&mut self) {
        self.blocks.clear();
        give_back(&self.fresh);
    }
}

/// As `unpack_texts`, into memory that is used again when nobody has the strings. None: this is no worker, or there is no memory.
#[pyfunction]
pub(crate) fn lend_texts(
    ends: &Bound<'_, PyAny>,
    data: &Bound<'_, PyAny>,
    into: &Bound<'_, PyAny>,
) -> PyResult<Option<LentTexts>> {
    let py = ends.py();
    // Without an interpreter lock a string's header is another, and others may look while it is written.
    if cfg!(Py_GIL_DISABLED) || !serve::is_worker() {
        return Ok(None);
    }
    let (ends, data, into) = (Exported::whole(ends)?, Exported::whole(data)?, Exported::writable(into)?);
    // SAFETY: it is exported as long as `data` lives; what a worker reads is written before it is told of it, and no more then.
    let is_ascii = data.len() > 0 && unsafe { std::slice::from_raw_parts(data.start(), data.len()) }.is_ascii();
    let mut writer = Writer { blocks: blocks(), next: 0, taken: Vec::new(), fresh: fresh_header(py)?, is_ascii };
    let (mut addresses, mut others) = (Vec::new(), Vec::new());
    if addresses.try_reserve_exact(ends.len() / size_of::<u32>()).is_err() {
        return Ok(None);
    }
    for (place, text) in each_text(&ends, &data, &into)?.enumerate() {
        let (start, length) = text?;
        // SAFETY: the text is exported as long as `data` lives, and reaches that far; a reference is the caller's.
        let string =
            match unsafe { writer.push(start, length).map(|object| Bound::from_owned_ptr(py, object.as_ptr())) } {
                Some(string) => string,
                None => {
                    // SAFETY: as above.
                    let string = unsafe { decoded(py, start, length) }?;
                    others.push(string.clone().unbind());
                    string
                }
            };
        addresses.push(string.as_ptr().addr());
        into.put(place, string);
    }
    Ok(Some(LentTexts { addresses, _others: others, blocks: std::mem::take(&mut writer.taken), fresh: writer.fresh }))
}
